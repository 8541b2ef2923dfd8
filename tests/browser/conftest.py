"""A headless chromium for tests that use the kit as a person would, and a JupyterLab for those of notebooks.

The tests need chromium from the system's packages (`make setup-browser`); where there is none they are skipped and say so. No
browser is ever downloaded. Screenshots are kept in build/browser/, but never those of real MRI.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.jupyterlab import end_kernels, serve_lab
from tests.browser.tools import CHECKOUT, CHROMIUM_NAMES, TIMEOUT_S, find_chromium
from tests.notebooks.conftest import make_home

ARTEFACTS = CHECKOUT / "build" / "browser"
# Nothing but this machine is reachable, and chromium's own calls home are off: they only slow a closed network down.
CHROMIUM_OPTIONS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--disable-gpu", "--no-first-run",
)  # fmt: skip


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


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course of its own; what one notebook makes, the next one finds."""
    return make_home(tmp_path_factory.mktemp("lab") / "home")


@pytest.fixture(scope="package")
def lab_server(home: Path) -> Iterator[str]:
    """Address of one JupyterLab for all tests."""
    with serve_lab(home) as address:
        yield address


@pytest.fixture
def lab(lab_server: str) -> Iterator[str]:
    """That address; the kernels of what the test opens there end with it."""
    yield lab_server
    end_kernels(lab_server)
