"""What a command of its own costs, as `make bench` measures it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.apart import run_apart

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count a process's memory this way")


def test_memory_is_that_of_the_command_not_of_the_process_that_asks():
    held = bytearray(b"x" * 500_000_000)  # here
    cost = run_apart("held", [sys.executable, "-c", "held = bytearray(b'x' * 100_000_000)"], 1)
    assert 200e6 < cost.peak_bytes < 300e6 < len(held)  # the bytes and their copy
    assert cost.wall_s > 0 and cost.cpu_s > 0


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_apart("fails", [sys.executable, "-c", "import sys; sys.exit('no such thing')"], 1)
    assert "no such thing" in caught.value.stderr
