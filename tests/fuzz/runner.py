"""Cases by the thousand in a few long-lived processes: a time limit a case, a memory limit a process, no case lost.

A process that dies (ITK's decoders can take it with them), hangs or runs out of memory is reported as the failure of the case
that it was at, and replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import IO

from tests.fuzz.judge import Outcome, Sandbox, judge

CASE_LIMIT_S = 10.0  # of processor time: what else runs on the machine is no fault of a case
PATIENCE = 6  # times as long by the clock
START_LIMIT_S = 120.0  # importing torch on a busy machine
MEMORY_LIMIT_BYTES = 1 << 30  # of address space beyond what a process has when its libraries are loaded
FORMATS = {  # module of tests.fuzz.formats -> number of cases in the tests
    "archives": 500,
    "dicom": 900,
    "folders": 60,
    "metaimage": 900,
    "models": 500,
    "nifti": 700,
    "nrrd": 400,
    "pictures": 600,
    "roots": 120,
    "states": 300,
    "stores": 400,
    "tables": 500,
    "uploads": 400,
}


def format_module(name: str) -> ModuleType:
    """The module of a format: ``whole(folder)`` makes what is to be spoilt, ``spoil(random, folder, whole)`` a case."""
    return importlib.import_module(f"tests.fuzz.formats.{name}")


# ------------------------------------------------------------------------------------------------------------ in a process


class Worker:
    """What works through cases in this process.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path):
        self.sandbox = Sandbox(root / "case")
        self._whole_at = root / "whole"
        self._whole: dict[str, object] = {}

    def run(self, name: str, seed: int) -> Outcome:
        """One case."""
        module = format_module(name)
        if name not in self._whole:
            folder = self._whole_at / name
            folder.mkdir(parents=True)
            self._whole[name] = module.whole(folder)
        return judge(name, seed, module, self._whole[name], self.sandbox)


def limit_memory(more_bytes: int) -> None:
    """Let this process have only so much more address space than it has now."""
    import torch

    torch.set_num_threads(1)
    for name in FORMATS:
        format_module(name)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(root: Path) -> None:
    """Read "format seed" lines from the standard input, answer each with an outcome as JSON, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    (root / "case").mkdir(parents=True)
    printed = os.open(root / "case" / "printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    limit_memory(MEMORY_LIMIT_BYTES)
    worker = Worker(root)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name, seed = line.split()
        outcome = asdict(worker.run(name, int(seed)))
        outcome["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(outcome), file=answers, flush=True)


# --------------------------------------------------------------------------------------------------------------- from outside


class _Process:
    """A process of ``serve``, replaced when it dies."""

    def __init__(self) -> None:
        self._root: Path | None = None
        self._start()

    def _start(self) -> None:
        self._begun: set[str] = set()
        self._root = Path(tempfile.mkdtemp(prefix="spider-kit-fuzz-"))
        self._log: IO[bytes] = open(self._root / "log", "wb")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "SPIDER_KIT_HEADLESS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # threads that wait for each other are slow on small images
        environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # its own reserves address space by the gigabyte
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", "--serve", str(self._root / "work")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        if self._answer(START_LIMIT_S) != "ready":
            raise RuntimeError("a process did not start:\n" + (self._root / "log").read_text()[-3000:])

    def _answer(self, limit_s: float) -> object:
        """What the process says; None when it died, "late" when it says nothing."""
        began, spent = time.monotonic(), self._processor_seconds()
        while not select.select([self._process.stdout], [], [], 0.5)[0]:
            if self._processor_seconds() - spent > limit_s or time.monotonic() - began > PATIENCE * limit_s:
                return "late"
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def _processor_seconds(self) -> float:
        """What the process has used so far; of other systems than Linux the time of day."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return time.monotonic()

    def run(self, name: str, seed: int) -> tuple[Outcome, int]:
        """One case: its outcome and the process's highest resident memory so far, in bytes."""
        self._process.stdin.write(f"{name} {seed}\n".encode())
        self._process.stdin.flush()
        # Before its first case of a format a process makes what is to be spoilt, which takes imports.
        answer = self._answer(CASE_LIMIT_S if name in self._begun else CASE_LIMIT_S + START_LIMIT_S)
        self._begun.add(name)
        if isinstance(answer, dict):
            outcome = Outcome(**{key: value for key, value in answer.items() if key != "peak"})
            if outcome.seconds > CASE_LIMIT_S:
                outcome = replace(outcome, verdict="failed", text=f"took {outcome.seconds:.1f} s")
            return outcome, answer["peak"]
        if answer is None:
            self._process.wait()
        last = (self._root / "work" / "case" / "printed").read_text(errors="replace")[-1500:]
        self.stop()
        text = "no answer in time" if answer == "late" else f"the process died ({self._process.returncode})\n{last}"
        self._start()
        return Outcome(name, seed, "failed", text, CASE_LIMIT_S), 0

    def stop(self) -> None:
        """End the process and delete its folder."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        shutil.rmtree(self._root, ignore_errors=True)


def run_cases(
    cases: Iterable[tuple[str, int]], jobs: int = 2, tell: Callable[[Outcome], object] | None = None
) -> tuple[list[Outcome], int]:
    """Work through cases.

    Args:
        cases: (format, seed).
        jobs: number of processes.
        tell: called with every failure as it comes.

    Returns:
        The outcomes, in no order, and the highest resident memory of a process in bytes.
    """
    waiting: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    outcomes: list[Outcome] = []
    peaks: list[int] = [0]
    troubles: list[BaseException] = []

    def work() -> None:
        try:
            process = _Process()
            try:
                while True:
                    outcome, peak = process.run(*waiting.get_nowait())
                    outcomes.append(outcome)
                    if outcome.verdict == "failed" and tell:
                        tell(outcome)
                    peaks.append(peak)
            except queue.Empty:
                pass
            finally:
                process.stop()
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]
    return outcomes, max(peaks)


def all_cases(share: float = 1.0) -> list[tuple[str, int]]:
    """The cases of the tests, or the first share of each format's."""
    return [(name, seed) for name, number in FORMATS.items() for seed in range(round(number * share))]


def repeat(name: str, seed: int, keep: Path | None) -> Outcome:
    """One case in this process, without limits; its files lie in ``keep``/case afterwards, also when the process dies."""
    with tempfile.TemporaryDirectory() as temporary:
        here, places = Path.cwd(), (os.environ.get("TMPDIR"), tempfile.tempdir)
        try:
            return Worker((keep or Path(temporary)).resolve()).run(name, seed)
        finally:  # a case works, and has its temporary files, in a place of its own
            os.chdir(here)
            os.environ.pop("TMPDIR", None)
            if places[0] is not None:
                os.environ["TMPDIR"] = places[0]
            tempfile.tempdir = places[1]


def by_format(outcomes: Iterable[Outcome]) -> str:
    """A line a format: how many cases, taken, refused, failed, seconds in all and of the slowest."""
    lines = [f"{'format':12s} {'cases':>6s} {'taken':>6s} {'refused':>8s} {'failed':>7s} {'seconds':>8s} {'slowest':>8s}"]
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.format, []).append(outcome)
    for name, group in sorted(groups.items()):
        count = {verdict: sum(one.verdict == verdict for one in group) for verdict in ("taken", "refused", "failed")}
        seconds = [one.seconds for one in group]
        numbers = f"{count['taken']:6d} {count['refused']:8d} {count['failed']:7d} {sum(seconds):8.1f} {max(seconds):8.2f}"
        lines.append(f"{name:12s} {len(group):6d} {numbers}")
    return "\n".join(lines)
