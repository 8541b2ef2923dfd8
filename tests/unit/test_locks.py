"""Lock files: one holder at a time, freed however the holder dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path):
    code = (
        "import os, signal, sys, time\n"
        "from spider_utils.locks import file_lock\n"
        "with file_lock(sys.argv[1]):\n"
        "    worker = os.fork()\n"
        "    if not worker:\n"
        "        sys.stdout.close(); os.close(1); time.sleep(60); os._exit(0)\n"
        "    print(worker, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run.lock"], stdout=subprocess.PIPE, text=True, timeout=60)
    worker = int(done.stdout)
    try:
        assert done.returncode == -signal.SIGKILL
        os.kill(worker, 0)  # alive
        with file_lock(tmp_path / "run.lock"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
