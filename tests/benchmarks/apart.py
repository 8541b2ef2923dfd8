"""Time and memory of a command in a process of its own.

Linux counts the memory of the process that starts another one as that one's, too. So this module, which imports nothing large,
is run as a small process in between: ``python -m tests.benchmarks.apart 2 COMMAND ...``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cost:
    """One line of the table: wall and processor seconds of a command, and the most memory (bytes) that it held at once."""

    name: str
    wall_s: float
    cpu_s: float
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.name:44s} {self.wall_s:9.1f} s  {self.cpu_s:9.1f} s of processor time, {self.peak_bytes / 1e9:.2f} GB at most"
        )


def run_apart(name: str, command: list[str], cores: int) -> Cost:
    """Run a command on so many cores and measure it. Linux and macOS.

    Args:
        name: for the table.
        command: with its arguments; its output is dropped.
        cores: threads of torch; on Linux the command also sees no more cores than that.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is in ``stderr``.
    """
    between = [sys.executable, "-m", "tests.benchmarks.apart", str(cores), *command]
    done = subprocess.run(between, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return Cost(name, **json.loads(done.stdout))


def _measure(cores: int, command: list[str]) -> dict[str, float]:
    import resource  # not on Windows

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(cores)})
    wall = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * unit}


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]), sys.argv[2:])))
