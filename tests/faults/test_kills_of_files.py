"""Kills in the middle of writing files and folders, and of holding locks: whole or absent, and nothing piles up."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from spider_utils import files
from spider_utils.data.slices import SliceStore, build_store
from spider_utils.data.sources import open_source
from spider_utils.locks import file_lock, make_once
from tests.faults.started import finish, halves, is_alive, kill, run, start, wait_for

BUILD = """
import sys, time
from pathlib import Path
from spider_utils.data import slices
from spider_utils.data.sources import Source, open_source
volumes = Source.volumes
def slow(self, case, copy=True):
    if case == "5_t1" and Path(sys.argv[2]).parent.joinpath("slowly").exists():
        time.sleep(600)
    return volumes(self, case, copy)
Source.volumes = slow
slices.build_store(open_source("spider", sys.argv[1]), sys.argv[2], (32, 32))
"""


def test_a_killed_store_build_leaves_no_store_and_the_next_one_is_as_if_unbroken(spider_layout, tmp_path):
    whole = build_store(open_source("spider", spider_layout), tmp_path / "whole" / "store", (32, 32))
    folder = tmp_path / "killed" / "store"
    folder.parent.mkdir()
    (folder.parent / "slowly").touch()
    process = start(BUILD, spider_layout, folder)
    wait_for(lambda: any(path.stat().st_size for path in folder.parent.glob(".partial-*/images.npy")), process)
    kill(process)
    assert not folder.exists() and len(halves(folder.parent)) == 1
    (folder.parent / "slowly").unlink()
    again = build_store(open_source("spider", spider_layout), folder, (32, 32))
    assert sorted(path.name for path in folder.parent.iterdir()) == ["store"], "the half that was left is gone at once"
    assert again.fingerprint == whole.fingerprint and again.table.equals(whole.table)
    for name in ("images.npy", "masks.npy", "table.csv"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_killed_rebuild_leaves_the_old_store(spider_root, tmp_path):
    old = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    images = np.array(old.images)
    os.utime(spider_root / "images" / "1_t1.mha", (0, 0))  # its inputs have changed: it is due to be made anew
    (tmp_path / "slowly").touch()
    process = start(BUILD, spider_root, tmp_path / "store")
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob(".partial-*/images.npy")), process)
    kill(process)
    left = SliceStore.open(tmp_path / "store")
    assert left.key == old.key and np.array_equal(left.images, images)


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "results.csv"
    target.write_text("old\n")
    process = start(
        "import sys, time; from spider_utils.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as partial:\n"
        "    partial.write_text('ne'); time.sleep(600)\n",
        target,
    )
    wait_for(lambda: any(half.stat().st_size for half in tmp_path.glob(".partial-*")), process)
    kill(process)
    assert target.read_text() == "old\n" and len(halves(tmp_path)) == 1
    run("import sys; from spider_utils.files import atomic_path\nwith atomic_path(sys.argv[1]) as p: p.write_text('new')", target)
    assert target.read_text() == "new" and len(halves(tmp_path)) == 1, "a young half may belong to a process at work"


@pytest.mark.parametrize("days", [2, -2], ids=["a half of two days ago", "the clock was put back by two days"])
def test_halves_of_files_do_not_pile_up(tmp_path, monkeypatch, days):
    monkeypatch.setattr(files, "_swept", set())
    old, young, folder = (tmp_path / f".partial-0123456{n}-{name}" for n, name in ((1, "a.csv"), (2, "a.csv"), (3, "store")))
    for half in (old, young):
        half.write_text("half")
    folder.mkdir()
    then = time.time() - days * 24 * 3600
    for half in (old, folder):
        os.utime(half, (then, then))
    files.write_json(tmp_path / "b.json", {})
    assert halves(tmp_path) == [young.name, folder.name], "of files; a folder's next writer looks after its own"


def test_an_old_folder_survives_a_kill_in_the_middle_of_the_swap(tmp_path):
    target = tmp_path / "store"
    with files.atomic_folder(target) as partial:
        (partial / "file").write_text("good")
    os.utime(target, (0, 0))  # made long ago
    process = start(
        "import os, signal, sys\n"
        "from spider_utils import files\n"
        "real = os.replace\n"
        "def replace(source, place):\n"
        "    real(source, place)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.os.replace = replace\n"
        "with files.atomic_folder(sys.argv[1]):\n"
        "    pass\n",
        target,
    )
    assert finish(process) == (-9, "")
    assert not target.exists()
    with pytest.raises(RuntimeError), files.atomic_folder(target):
        raise RuntimeError("the next attempt fails too")
    assert (target / "file").read_text() == "good"


def test_only_the_maker_with_the_lock_deletes_young_halves(tmp_path):
    target = tmp_path / "store"
    mine, other = tmp_path / ".partial-01234567-store", tmp_path / ".partial-01234567-other-store"
    for half in (mine, other):
        half.mkdir()
    make_once(target, target.is_dir, lambda: halves(tmp_path) == [other.name] and target.mkdir())
    assert target.is_dir() and halves(tmp_path) == [other.name]


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path):
    process = start(
        "import os, signal, sys, time\n"
        "from spider_utils.locks import file_lock\n"
        "with file_lock(sys.argv[1]):\n"
        "    worker = os.fork()\n"
        "    if not worker:\n"
        "        os.closerange(1, 3); time.sleep(60); os._exit(0)\n"
        "    print(worker, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        tmp_path / "run.lock",
    )
    code, said = finish(process)
    worker = int(said)
    try:
        assert code == -9 and is_alive(worker)
        with file_lock(tmp_path / "run.lock"):
            pass
    finally:
        os.kill(worker, 9)
