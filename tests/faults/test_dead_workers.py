"""A helper process that dies, or whose parent does: one clear error, nobody left behind, the next run ends as an unbroken one."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch

from spider_utils.errors import DataError
from tests.faults.started import children, is_alive, kill, start, wait_for
from tests.tiny_runs import CONFIG, Squares, assert_same_run, train


class DeadlyInEpoch3(Squares):
    """In epoch 3 the worker that reads an item dies, as one does for which there is no memory left."""

    def __getitem__(self, item):
        if self.epoch == 3 and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(item)


def test_a_data_loaders_worker_dies_and_the_next_run_ends_with_the_same_numbers(tmp_path, unbroken):
    config = replace(CONFIG, num_workers=1)
    with pytest.raises(
        DataError, match=r"a process that loads data died \(DataLoader worker .*lack of memory\. Run again"
    ) as caught:
        train(tmp_path / "run", config, train_set=DeadlyInEpoch3())
    assert str(caught.value).startswith(str(tmp_path / "run.partial")) and "\n" not in str(caught.value)
    assert not (tmp_path / "run.lock").exists()
    assert_same_run(unbroken, train(tmp_path / "run", config))


def test_other_errors_of_a_training_stay_what_they_are(tmp_path):
    class Strange(Squares):
        def __getitem__(self, item):
            raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        train(tmp_path / "run", replace(CONFIG, epochs=1), train_set=Strange())


def test_processes_end_when_the_one_that_started_them_is_killed():
    process = start(
        "import time\n"
        "from spider_utils.processes import map_in_processes\n"
        "if __name__ == '__main__':\n"
        "    print(*map_in_processes(time.sleep, [0, 0, 600, 600], jobs=2))\n"
    )
    wait_for(lambda: len(children(process)) == 3, process)  # two workers, and Python's own keeper of what they share
    family = children(process)
    kill(process)
    wait_for(lambda: not any(map(is_alive, family)))
