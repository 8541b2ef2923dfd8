"""A clock that is put back: durations stay durations, ages are not believed, and trainings give the same numbers."""

from __future__ import annotations

import json
import os
import time

import pytest

from spider_utils import course, files
from spider_utils.data.slices import build_store
from spider_utils.data.sources import open_source
from tests.tiny_runs import assert_same_run, train

DAY_S = 24 * 3600


@pytest.fixture
def backwards(monkeypatch):
    """Whoever asks for the time finds it an hour earlier than whoever asked before."""
    now = [time.time()]

    def earlier():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", earlier)


def test_a_training(tmp_path, backwards, unbroken):
    result = train(tmp_path / "run")
    assert_same_run(unbroken, result)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (result.history["seconds"] > 0).all() and 0 < record["wall_seconds"] < 3600


def test_a_store_of_files_from_the_future_is_made_once(spider_root, tmp_path):
    for path in spider_root.rglob("*"):
        os.utime(path, (time.time() + DAY_S,) * 2)
    made = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    before = (made.folder / "store.json").stat().st_mtime_ns
    again = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    assert again.key == made.key and (made.folder / "store.json").stat().st_mtime_ns == before


def test_a_half_that_is_being_written_while_the_clock_jumps_is_kept(tmp_path):
    """One part of it is as old as the other clock says, another is from now: somebody is at work."""
    half = tmp_path / ".partial-01234567-store"
    half.mkdir()
    for name, then in (("written before the jump", time.time() + 3 * DAY_S), ("written since", time.time())):
        (half / name).touch()
        os.utime(half / name, (then, then))
    os.utime(half, (time.time() + 3 * DAY_S,) * 2)
    with files.atomic_folder(tmp_path / "store"):
        pass
    assert half.is_dir()
    os.utime(half / "written since", (time.time() + 3 * DAY_S,) * 2)
    with files.atomic_folder(tmp_path / "store"):
        pass
    assert not half.exists()


def test_dates_after_now_become_dates_just_before_it_in_their_order(tmp_path):
    now = time.time_ns()
    hours = {"yesterday": -24, "later": 30, "last": 40, "later-too": 30}
    for name, hour in hours.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(now + hour * 3_600_000_000_000,) * 2)
    course.date_back([tmp_path / name for name in hours])
    dates = {name: (tmp_path / name).stat().st_mtime_ns for name in hours}
    assert dates["yesterday"] == now - DAY_S * 10**9
    assert now - 10**9 < dates["later"] == dates["later-too"] < dates["last"] <= time.time_ns()
