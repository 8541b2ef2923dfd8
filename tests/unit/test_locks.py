"""Lock files: one holder at a time, freed however the holder dies."""

from __future__ import annotations

import os
import threading
import time

import pytest

from spider_utils.errors import DataError
from spider_utils.locks import file_lock


def test_a_held_lock_is_refused_by_name_or_waited_for(tmp_path):
    path, order = tmp_path / "table.lock", []

    def second():
        with file_lock(path):
            order.append("second")

    with file_lock(path):
        with pytest.raises(DataError, match=rf"process {os.getpid()} is writing right now"), file_lock(path, "is writing"):
            pass
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        order.append("first")
    waiting.join(timeout=10)
    assert order == ["first", "second"] and not path.exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    (tmp_path / "run.lock").write_text("999999999 and more\n")
    with file_lock(tmp_path / "run.lock"):
        assert (tmp_path / "run.lock").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "run.lock").exists()
