"""A headless chromium, and servers that only this machine can reach: for tests that use the kit as a person would.

The tests need chromium from the system's packages (`make setup-browser`); where there is none they are skipped and say so. No
browser is ever downloaded. Screenshots are kept in build/browser/, but never those of real MRI.
"""

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
from playwright.sync_api import Browser, Page, sync_playwright

CHECKOUT = Path(__file__).resolve().parents[2]
ARTEFACTS = CHECKOUT / "build" / "browser"
TIMEOUT_S = 90.0  # for anything that a page or a server is waited for; cores may be few and busy
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing but this machine is reachable, and chromium's own calls home are off: they only slow a closed network down.
CHROMIUM_OPTIONS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--disable-gpu", "--no-first-run",
)  # fmt: skip


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


def wait_until(condition: Callable[[], object], what: str, page: Page | None = None) -> object:
    """The condition's value as soon as it holds; the test fails with ``what`` when it does not in time.

    Give the page when the condition hangs on its events (a download, a console's line): they come in only while it is waited on.
    """
    end = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {TIMEOUT_S:.0f} s in vain: {what}")
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


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's chromium, headless. Of this package only: its event loop must be gone before other tests start theirs."""
    path = find_chromium()
    if path is None:
        pytest.skip(f"no browser ({', '.join(CHROMIUM_NAMES)}) is installed here: run `make setup-browser`")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS), timeout=TIMEOUT_S * 1000)
        yield chromium
        chromium.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Lets fixtures know whether their test failed."""
    report = (yield).get_result()
    if report.when == "call":
        item.failed_in_browser = report.failed


@pytest.fixture
def artefacts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where screenshots go: build/browser/, or a folder that nobody keeps when the test shows real MRI."""
    if request.node.get_closest_marker("real_data"):
        return tmp_path
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS


@pytest.fixture
def page(browser: Browser, artefacts: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page of 1400 x 1000 pixels, without anyone's cookies. A test that fails leaves failed-<its name>.png."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(TIMEOUT_S * 1000)
    opened = context.new_page()
    yield opened
    if getattr(request.node, "failed_in_browser", False):
        with contextlib.suppress(Exception):  # the failure itself is what matters
            opened.screenshot(path=artefacts / f"failed-{request.node.name}.png")
    context.close()
