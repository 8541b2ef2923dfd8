"""Real processes of the kit for the tests here: started, waited for, killed, and put where the disk is small or read-only."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from tests.conftest import REPOSITORY

PATIENCE_S = 300  # on a machine with much else to do


def environment(**more: str) -> dict[str, str]:
    """What a started process finds: this checkout's package, one thread, no moving bars."""
    fixed = {"PYTHONPATH": str(REPOSITORY), "SPIDER_KIT_HEADLESS": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    return os.environ | fixed | more


def start(code: str, *arguments: object, prefix: tuple[str, ...] = (), **more: str) -> subprocess.Popen:
    """A Python process with ``code``; ``prefix`` comes before its command, ``more`` are variables."""
    command = [*prefix, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kit(*arguments: object, **more: str) -> subprocess.Popen:
    """``spider-kit`` with ``arguments``."""
    return start("import sys; from spider_utils.cli import main; sys.argv[0] = 'spider-kit'; main()", *arguments, **more)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a process: its status, and all that it said."""
    said = "".join(process.communicate(timeout=PATIENCE_S))
    return process.returncode, said


def run(*arguments: object, **options: object) -> str:
    """``start`` and ``finish`` for one that must succeed; returns what it said."""
    code, said = finish(start(*arguments, **options))
    assert code == 0, said
    return said


def wait_for(condition: Callable[[], object], *processes: subprocess.Popen) -> None:
    """Wait until ``condition()`` holds; fails when a process ends before, or patience does."""
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        for process in processes:
            if process.poll() is not None:
                pytest.fail(f"a process ended too early, with {process.returncode}: {''.join(process.communicate())}")
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.01)


def kill(process: subprocess.Popen) -> None:
    """End a process as ``kill -9``, the kernel short of memory, or a power cut do."""
    process.kill()
    process.wait(PATIENCE_S)
    for stream in (process.stdout, process.stderr):
        stream.close()  # what is left of its family may hold them open for long
    assert process.returncode == -signal.SIGKILL


def children(process: subprocess.Popen) -> list[int]:
    """Ids of the processes that a process has started, and that still run."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(number) for path in threads for number in path.read_text(encoding="ascii").split()]


def is_alive(number: int) -> bool:
    """Whether the process of this id runs; one that only waits to be reaped does not."""
    try:
        status = Path(f"/proc/{number}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def halves(folder: Path) -> list[str]:
    """Names of what was being written in ``folder`` and below it."""
    return sorted(path.name for path in folder.rglob(".partial-*"))


# --------------------------------------------------------------------------------------------------------------- notebooks


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of a parameters cell and ``cells``."""
    parameters = nbformat.v4.new_code_cell('PROFILE, DATA, ROOT = "smoke", "phantom", ""', metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = [parameters, *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=content, metadata=kernel), path)


# ------------------------------------------------------------------------------------------------------------- odd machines


@functools.cache
def _may_mount() -> bool:
    """Whether a process may have a mount of its own here, as root or in a user's own name space."""
    try:
        return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def in_a_mount(place: Path, options: str) -> tuple[str, ...]:
    """What to put before a command so that it, and nobody else, finds a new file system in memory at ``place``.

    Args:
        place: an empty folder.
        options: of the mount, such as "size=1m". With "ro" it is read-only, and shows what lies in ``place`` now.
    """
    if not _may_mount():
        pytest.skip("no file system can be mounted here (unshare -rm mount), so no disk can be made small or read-only")
    mount = f'mount --bind "{place}" "{place}" && mount -o remount,bind,ro "{place}"'
    if options != "ro":
        mount = f'mount -t tmpfs -o {options} none "{place}"'
    return ("unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh")


def where_modes_count() -> tuple[str, ...]:
    """What to put before a command so that it keeps to the modes of files and folders, which root otherwise need not."""
    if os.geteuid() != 0:
        return ()
    prefix = ("setpriv", "--bounding-set=-dac_override")
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("root may write everywhere here, and setpriv cannot change that")
    return prefix
