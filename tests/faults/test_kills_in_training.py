"""A training that is killed, wherever it is: nothing is lost, and the next one ends with the numbers of an unbroken run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from spider_utils.training import checkpoints, loop, runs
from tests.faults.started import kill, run, start, wait_for
from tests.tiny_runs import Squares, assert_same_run, tiny, tiny_network_and_one_thread, train

ITEMS_READ_AN_EPOCH = 24 + 12  # training and validation


KILLS = ["in epoch 1", "in epoch 3", "in a validation", "between saves", "inside a write", "before a rename",
         "between best and state", "while the run is moved", "right after it was moved"]  # fmt: skip


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_call(owner, name, is_it, count, after=False):
    """Replace ``owner.name`` so that the process is killed at its ``count``-th call for which ``is_it(*args)`` holds."""
    original, calls = getattr(owner, name), []

    def deadly(*args, **options):
        calls.append(1) if is_it(*args) else None
        hit = len(calls) == count and is_it(*args)
        if hit and not after:
            _die()
        result = original(*args, **options)
        if hit:
            _die()
        return result

    setattr(owner, name, deadly)


def _half_a_file(tensors, filename, metadata, calls=[]):  # noqa: B006 (counts the calls)
    calls.append(1)
    checkpoints_save_file(tensors, filename, metadata)
    if len(calls) == 4:
        os.truncate(filename, os.path.getsize(filename) // 2)
        _die()


checkpoints_save_file = checkpoints.save_file


def killed_run(kind, folder):
    """Train as the tests do, but die of SIGKILL on the way. Runs in a process of its own."""
    folder = Path(folder)
    if kind in ("in epoch 1", "in epoch 3", "in a validation"):
        item = {"in epoch 1": 10, "in epoch 3": 2 * ITEMS_READ_AN_EPOCH + 12, "in a validation": 2 * ITEMS_READ_AN_EPOCH - 5}
        _die_at_call(Squares, "__getitem__", lambda *args: True, item[kind])
    elif kind == "between saves":
        ticks = itertools.count()  # each look at the clock is a second later: saves come after epochs 2 and 4
        loop.time = SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=time.perf_counter)
        _die_at_call(Squares, "__getitem__", lambda *args: True, 3 * ITEMS_READ_AN_EPOCH + 12)
        train(folder, save_every_s=2)
    elif kind == "inside a write":
        checkpoints.save_file = _half_a_file
    elif kind == "before a rename":
        _die_at_call(os, "replace", lambda source, target: Path(target).name == runs.STATE_FILE, 3)
    elif kind == "between best and state":
        _die_at_call(loop, "write_training_state", lambda *args: True, 3)
    else:
        moved = kind == "right after it was moved"
        _die_at_call(os, "replace", lambda source, target: Path(target) == folder, 1, after=moved)
    train(folder)
    sys.exit("the run was to be killed")


def kill_laboratory(root):
    """Kill one run of each kind, each in a fork of this process, which has torch loaded but has not used it yet."""
    import torch._dynamo  # noqa: F401 (the optimizers would load it in every fork)

    outcomes = {}
    with tiny_network_and_one_thread():
        for number, kind in enumerate(KILLS):
            child = os.fork()
            if not child:
                killed_run(kind, Path(root) / str(number) / "run")
            outcomes[kind] = os.waitpid(child, 0)[1]
    (Path(root) / "outcomes.json").write_text(json.dumps(outcomes))


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    root = tmp_path_factory.mktemp("laboratory")
    run("import sys; from tests.faults.test_kills_in_training import kill_laboratory; kill_laboratory(sys.argv[1])", root)
    return root, json.loads((root / "outcomes.json").read_text())


@pytest.mark.parametrize("kind", KILLS)
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(laboratory, unbroken, kind):
    root, outcomes = laboratory
    folder = root / str(KILLS.index(kind)) / "run"
    assert os.WIFSIGNALED(outcomes[kind]) and os.WTERMSIG(outcomes[kind]) == signal.SIGKILL
    assert folder.with_name("run.lock").exists()  # left by the dead process, to be taken over
    partial = folder.with_name("run.partial")
    if kind == "inside a write":
        assert list(partial.glob(".partial-*"))
    assert folder.exists() == (kind == "right after it was moved") != partial.exists()
    data = Squares()
    result = train(folder, model=tiny(seed=99), train_set=data)  # other starting weights: the stored state must win
    assert_same_run(unbroken, result)
    trained_again = {epoch for epoch, _ in data.seen}
    first = {"in epoch 1": 1, "in epoch 3": 3, "in a validation": 2, "between saves": 3, "inside a write": 2,
             "before a rename": 2, "between best and state": 2}.get(kind, 5)  # fmt: skip
    assert trained_again == set(range(first, 5))
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "model.json", "model.safetensors", "run.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    record = json.loads((folder / "run.json").read_text())
    assert record["parts"] == (1 if kind == "right after it was moved" else 2)
    assert record["wall_seconds"] == pytest.approx(result.history.seconds.sum())


def test_a_kill_from_outside_in_the_middle_of_an_epoch(tmp_path, unbroken):
    """The same with a signal that comes when it likes: after epoch 2 was saved, while a loader's worker reads for epoch 3."""
    process = start(
        "import sys, time; from pathlib import Path; from tests.tiny_runs import *\n"
        "from dataclasses import replace\n"
        "class Slow(Squares):\n"
        "    def __getitem__(self, item):\n"
        "        if self.epoch == 3:\n"
        "            Path(sys.argv[1], 'in-epoch-3').touch(); time.sleep(600)\n"
        "        return super().__getitem__(item)\n"
        "with tiny_network_and_one_thread():\n"
        "    train(Path(sys.argv[1], 'run'), replace(CONFIG, num_workers=1), train_set=Slow())\n",
        tmp_path,
    )
    wait_for((tmp_path / "in-epoch-3").exists, process)
    kill(process)
    data = Squares()
    assert_same_run(unbroken, train(tmp_path / "run", model=tiny(seed=99), train_set=data))
    assert {epoch for epoch, _ in data.seen} == {3, 4}
