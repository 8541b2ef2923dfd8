"""`make bench`: which benchmarks run, and what a row says."""

from __future__ import annotations

import importlib

import pytest

from tests.benchmarks.__main__ import benchmark_names, main
from tests.benchmarks.timing import Row, compare


def test_every_benchmark_can_be_named_and_has_rows_to_give():
    assert {"growth", "loader", "metrics", "step", "store"} <= set(benchmark_names())
    for name in benchmark_names():
        assert callable(importlib.import_module(f"tests.benchmarks.bench_{name}").run)


def test_those_that_are_named_run_and_no_others(monkeypatch, capsys):
    for name in benchmark_names():
        module = importlib.import_module(f"tests.benchmarks.bench_{name}")
        monkeypatch.setattr(module, "run", lambda name=name: [Row(f"row of {name}", 1.0, 3.0, "a peer")])
    main(["store", "loader"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["row of store", "row of loader"]
    assert "3.0x" in lines[1]
    main([])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(benchmark_names())


def test_an_unknown_name_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["loaders"])
    assert caught.value.code == 2 and "no benchmark is called loaders" in capsys.readouterr().err


def test_medians_leave_the_warm_up_out():
    measured = [0, 2, 0, 8, 0, 4, 0, 10, 0, 6, 0, 90]  # start and end of ours, then of the peer, three times
    ticks = iter([0, 0, *measured])  # of the warm-up nobody asks when it ended
    row = compare("x", lambda: None, lambda: None, "y", items=2, rounds=3, clock=lambda: next(ticks))
    assert (row.ours_s, row.peer_s, row.ratio) == (2, 5, 2.5)
