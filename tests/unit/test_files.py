"""Files are whole or absent: whatever goes wrong while writing, the target stays as it was and nothing lies beside it."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spider_utils import files
from spider_utils.errors import DataError, KitError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_errors_are_one_line():
    assert str(KitError("first\n  second\tthird")) == "first second third"
    error = DataError("a/b.mha", "is bad.", "Fix it.")
    assert str(error) == "a/b.mha: is bad. Fix it."
    assert (error.path, error.fix) == (Path("a/b.mha"), "Fix it.")


def test_atomic_path_keeps_the_suffix_and_makes_folders(tmp_path):
    target = tmp_path / "new" / "deep" / "mask.nii.gz"
    with files.atomic_path(target) as partial:
        assert partial.parent == target.parent and partial.name.endswith("mask.nii.gz")
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and names(target.parent) == ["mask.nii.gz"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, DataError("x", "y", "z"), MemoryError])
def test_atomic_path_leaves_the_old_file_on_any_exception(tmp_path, stop):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(stop if isinstance(stop, type) else type(stop)), files.atomic_path(target) as partial:
        partial.write_text("half")
        raise stop
    assert target.read_text() == "old" and names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_operating_system_errors_become_one_line_that_names_the_file(tmp_path, number, words):
    target = tmp_path / "a.json"
    with pytest.raises(DataError, match=words) as caught, files.atomic_path(target) as partial:
        partial.write_text("half")
        raise OSError(number, os.strerror(number), str(partial))
    assert str(caught.value).startswith(f"{target}: ") and "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_permission_error_that_lost_its_number_is_still_known():
    error = files.explain_write_error("data", PermissionError("told in a library's own words"))
    assert str(error) == "data: permission denied. Choose a folder that you can write to, or change its permissions."


def test_the_last_step_may_fail_too(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    for write in (
        lambda: files.write_json(tmp_path / "a.json", {}),
        lambda: files.write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1]})),
    ):
        with pytest.raises(DataError, match="the disk is full"):
            write()
    with pytest.raises(DataError, match="the disk is full"), files.atomic_folder(tmp_path / "a") as partial:
        (partial / "x").write_text("x")
    assert names(tmp_path) == []


def test_a_disk_that_runs_full_while_writing(tmp_path, full_disk):
    target = tmp_path / "numbers.json"
    files.write_json(target, [1])
    with pytest.raises(DataError, match="numbers.json"), full_disk(10_000):
        files.write_json(target, list(range(100_000)))
    assert files.read_json(target) == [1] and names(tmp_path) == ["numbers.json"]


def test_a_part_of_the_path_is_a_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(DataError, match="plain"):
        files.write_json(tmp_path / "plain" / "a.json", {})


def test_atomic_folder_replaces_as_a_whole_or_not_at_all(tmp_path):
    target = tmp_path / "store"
    with files.atomic_folder(target) as partial:
        (partial / "one").write_text("1")
    with pytest.raises(RuntimeError), files.atomic_folder(target) as partial:
        (partial / "two").write_text("2")
        raise RuntimeError
    assert names(target) == ["one"] and names(tmp_path) == ["store"]
    with files.atomic_folder(target) as partial:
        (partial / "three").write_text("3")
    assert names(target) == ["three"] and names(tmp_path) == ["store"]


def test_atomic_folder_puts_the_old_one_back_when_the_swap_fails(tmp_path, monkeypatch):
    target, real, calls = tmp_path / "store", os.replace, []
    with files.atomic_folder(target) as partial:
        (partial / "one").write_text("1")

    def second_fails(a, b):
        calls.append(a)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(a, b)

    monkeypatch.setattr(files.os, "replace", second_fails)
    with pytest.raises(DataError, match="store"), files.atomic_folder(target):
        pass
    assert names(target) == ["one"] and names(tmp_path) == ["store"]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path, unchanged):
    mine, full, plain = tmp_path / "mine", tmp_path / "full", tmp_path / "plain"
    mine.mkdir()
    (mine / "card.json").write_text("{}")
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    plain.write_text("a file")
    for target in (full, plain):
        with unchanged(tmp_path), pytest.raises(DataError, match=target.name), files.atomic_folder(target, marker="card.json"):
            pytest.fail("the work must not start")
    with files.atomic_folder(mine, marker="card.json") as partial:
        (partial / "card.json").write_text("new")
    assert (mine / "card.json").read_text() == "new"
    (tmp_path / "empty").mkdir()
    with files.atomic_folder(tmp_path / "empty", marker="card.json") as partial:
        (partial / "card.json").write_text("")
    assert names(tmp_path / "empty") == ["card.json"]


def test_json_holds_numpy_values_and_paths(tmp_path):
    files.write_json(tmp_path / "a.json", {"n": np.int64(3), "x": np.arange(2), "p": Path("a/b"), "s": {2, 1}})
    assert files.read_json(tmp_path / "a.json") == {"n": 3, "x": [0, 1], "p": "a/b", "s": [1, 2]}
    with pytest.raises(TypeError, match="object"):
        files.write_json(tmp_path / "b.json", {"x": object()})
    assert names(tmp_path) == ["a.json"]


def test_reading_json_names_the_file(tmp_path):
    (tmp_path / "bad.json").write_text('{"a": ')
    for name, words in (("bad.json", "cannot be read as JSON"), ("none.json", "does not exist")):
        with pytest.raises(DataError, match=words) as caught:
            files.read_json(tmp_path / name)
        assert name in str(caught.value)


def test_free_space_is_asked_for_a_folder_that_does_not_exist_yet(tmp_path):
    files.require_free_space(tmp_path / "a" / "b", 1, "a byte")
    with pytest.raises(DataError, match="the archive needs 1000000000.0 GB"):
        files.require_free_space(tmp_path / "a" / "b", 10**18, "the archive")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert files.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


@given(JSON, JSON)
def test_fingerprints_tell_objects_apart(a, b):
    assert len(files.fingerprint(a)) == 16
    assert files.fingerprint(json.loads(json.dumps(a))) == files.fingerprint(a)
    assert (files.fingerprint(a) == files.fingerprint(b)) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


def test_halves_that_a_killed_process_left_a_day_ago_are_swept(tmp_path):
    old, young, other = (tmp_path / f".partial-0123456{n}-{name}" for n, name in ((1, "a"), (2, "a"), (3, "b")))
    for path in (old, young, other):
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "file").write_text("half")
    long_ago = time.time() - 2 * files.ABANDONED_AFTER_S
    for path in (*old.rglob("*"), *other.rglob("*"), old, young, other):  # in the young one only a file deep down is new
        os.utime(path, (long_ago, long_ago))
    with files.atomic_folder(tmp_path / "a"):
        pass
    assert names(tmp_path) == [young.name, other.name, "a"], "only halves of this folder, and none that may be at work"
