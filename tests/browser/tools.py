"""Servers that only this machine can reach, the system's chromium, and waiting with an end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240.0  # for anything that a page or a server is waited for; cores may be few and busy
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of the system's chromium, or of what the variable SPIDER_TEST_CHROMIUM names; None when there is none."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("SPIDER_TEST_CHROMIUM"), *CHROMIUM_NAMES)))), None)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url: str) -> bool:
    """Does a server give a page there?"""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status < 400
    except (urllib.error.URLError, OSError):
        return False


def wait_until(condition: Callable[[], object], what: str, page: Page | None = None, limit_s: float = TIMEOUT_S) -> object:
    """The condition's value as soon as it holds; the test fails with ``what`` when it does not within ``limit_s``.

    Give the page when the condition hangs on its events (a download, a console's line): they come in only while it is waited on.
    """
    end = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {limit_s:.0f} s in vain: {what}")
        if page is None:
            time.sleep(0.1)
        else:
            page.wait_for_timeout(100)
    return value


def _stop(process: subprocess.Popen) -> None:
    """End a server and all that it started (kernels), at first politely."""
    for kind, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


@contextlib.contextmanager
def serve(command: list[str], url: str, log: Path, cwd: Path, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run a server while the body runs.

    Args:
        command: starts it; it must bind to 127.0.0.1 and to the port in ``url``.
        url: answers once the server is ready.
        log: gets all that it says; its end is shown when the server does not come up.
        cwd: where it runs.
        environment: variables beside those of this process.

    Yields:
        ``url``. Afterwards the server and whatever it started have ended.
    """
    with open(log, "wb") as said:
        process = subprocess.Popen(
            command, cwd=cwd, env=os.environ | (environment or {}), stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(url), f"{command[:3]} does not answer at {url}")
        if process.returncode is not None:
            pytest.fail(f"{command[:3]} ended with status {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        yield url
    finally:
        _stop(process)
