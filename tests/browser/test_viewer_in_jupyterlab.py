"""The slice viewer as a student uses it: JupyterLab opens notebook 16, runs it, and its slider is moved by mouse and keyboard."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import papermill
import pytest
from playwright.sync_api import Page

from spider_utils.data.sources import Case, Source, open_source
from spider_utils.data.splits import make_split
from spider_utils.view.slice_view import SliceView
from tests.browser.conftest import CHECKOUT, free_port, serve, wait_until
from tests.conftest import real_data_folder
from tests.notebooks.conftest import make_home

pytestmark = pytest.mark.browser
TOKEN = "of-this-test-alone"
LESSON = "16_interactive_viewer"


REAL = "real_slices"


def put_lesson(home: Path, name: str, parameters: dict[str, str]) -> None:
    """Notebook 16 without its outputs and with other parameters."""
    notebook = papermill.iorw.load_notebook_node(str(CHECKOUT / "notebooks" / f"{LESSON}.ipynb"))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook = papermill.parameterize.parameterize_notebook(notebook, {"PROFILE": "smoke", **parameters})
    nbformat.write(notebook, home / "notebooks" / f"{name}.ipynb")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, with notebook 16 for the phantom, and for real slices where they are."""
    home = make_home(tmp_path_factory.mktemp("lab") / "home")
    put_lesson(home, LESSON, {})
    put_lesson(home, REAL, {"DATA": "spider-2d", "ROOT": str(real_data_folder() / "spider_t2space_2d")})
    # Else JupyterLab asks whether it may fetch news.
    settings = home / ".jupyter" / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return home


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[str]:
    """Address of a JupyterLab on ``home``, without a browser of its own, extensions of the user or calls to the network."""
    port = free_port()
    environment = {
        "SPIDER_KIT_HOME": str(home),
        "SPIDER_KIT_HEADLESS": "1",
        "PYTHONPATH": str(CHECKOUT),
        **{f"JUPYTER_{name}_DIR": str(home / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(home / ".jupyter" / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / ".jupyter" / "workspaces"),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", "--LabApp.news_url=", "--allow-root"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serve(command, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", home / "lab.log", home, environment):
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks"


def open_and_run(page: Page, lab: str, name: str) -> None:
    """Open a notebook by its address, choose Run > Run All Cells, and wait until every cell has run."""
    page.goto(f"{lab}/{name}.ipynb?token={TOKEN}")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts, errors = (
        page.locator(".jp-CodeCell .jp-InputPrompt"),
        page.locator("[data-mime-type='application/vnd.jupyter.error']"),
    )
    done = re.compile(r"\[\d+\]:")
    wait_until(lambda: done.fullmatch(prompts.last.inner_text()) or errors.count(), "the last cell has not run", page)
    assert errors.count() == 0, errors.first.inner_text()


class Shown:
    """The n-th viewer on a page, as a person sees it."""

    def __init__(self, page: Page, number: int):
        self.page = page
        self.picture = page.locator("img.widget-image").nth(number)
        self.picture.scroll_into_view_if_needed()
        self.box = page.locator(".jp-OutputArea-output").filter(has=page.locator("img.widget-image")).nth(number)
        self.slider = self.box.locator(".widget-hslider", has_text="Slice")
        self.handle = self.slider.locator(".noUi-handle")
        self.number = self.box.locator("input[type=number]")

    def index(self) -> int:
        """Where the slider stands."""
        return round(float(self.handle.get_attribute("aria-valuenow")))

    def png(self) -> bytes:
        """The bytes that the browser shows."""
        source = "async img => Array.from(new Uint8Array(await (await fetch(img.src)).arrayBuffer()))"
        return bytes(self.picture.evaluate(source))

    def drag(self, share: float) -> None:
        """Move the slider's handle by mouse to a share of its way."""
        way, handle = self.slider.locator(".noUi-base").bounding_box(), self.handle.bounding_box()
        y = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(way["x"] + share * way["width"], y, steps=5)
        self.page.mouse.up()

    def becomes(self, expected: bytes, what: str) -> None:
        """Wait until the browser shows exactly this picture."""
        wait_until(lambda: self.png() == expected, what, self.page)


def lesson_case(home: Path, data: str) -> tuple[Source, Case]:
    """The series that notebook 16 shows."""
    root = home / "data" / "phantom-smoke" if data == "phantom" else real_data_folder() / "spider_t2space_2d"
    source = open_source(data, root)
    test = source.cases.iloc[make_split(source.cases, "kfold5").rows("test", source.cases)]
    return source, source.load(test[test["sequence"].str.startswith("t2")]["case"].iloc[0])


@pytest.mark.parametrize(
    "name, data",
    [
        pytest.param(LESSON, "phantom", id="phantom"),
        pytest.param(REAL, "spider-2d", marks=pytest.mark.real_data("spider_t2space_2d"), id="real"),
    ],
)
def test_the_lesson_runs_and_its_viewer_answers(page: Page, lab: str, home: Path, artefacts: Path, name: str, data: str) -> None:
    open_and_run(page, lab, name)
    source, case = lesson_case(home, data)
    expected, shown = SliceView(case.image, case.mask, source.scheme), Shown(page, 0)
    # The notebook itself has moved its viewer in code, without drawing: what is on the screen is what it opened with.
    shown.becomes(expected.frame(), "the viewer shows its first slice")

    shown.drag(0.1)
    wait_until(lambda: shown.index() < expected.view.index, "the slider follows the mouse", page)
    expected.view.index = low = shown.index()
    shown.becomes(expected.frame(), "the picture follows the slider")

    shown.handle.focus()
    for key, step in (("ArrowRight", 1), ("ArrowUp", 1), ("ArrowLeft", -1)):
        page.keyboard.press(key)
        expected.view.index += step
        wait_until(lambda: shown.index() == expected.view.index, f"{key} moves the slider by one", page)
        shown.becomes(expected.frame(), f"{key} changes the picture")
    assert shown.index() == low + 1

    shown.number.click()
    page.mouse.wheel(0, -100)
    expected.view.index += 1
    shown.becomes(expected.frame(), "the wheel over the number moves on by one")
    page.screenshot(path=artefacts / f"{name}.png")


def test_compare_classes_cross_hair_and_worst_slice(page: Page, lab: str, artefacts: Path) -> None:
    open_and_run(page, lab, LESSON)
    shown = Shown(page, 1)

    def acts(action: Callable[[], object], says: str, what: str) -> None:
        before = shown.png()
        action()
        wait_until(lambda: shown.png() != before, f"{what} changes the picture", page)
        wait_until(lambda: says in shown.box.inner_text(), f"{what} says '{says}'", page)

    choices = shown.box.locator("select")
    acts(lambda: choices.first.select_option("one mask"), "labels here: vertebra", "one mask")
    acts(lambda: shown.box.get_by_label("vertebra").uncheck(), "labels here: spinal canal, disc", "hiding a class")
    acts(lambda: choices.first.select_option("difference"), "wrong class", "difference")
    acts(lambda: shown.box.get_by_role("button", name="axial").click(), "axial slice", "another plane")
    acts(lambda: shown.box.get_by_role("button", name="Worst slice").click(), "most wrong pixels in this plane", "worst slice")
    acts(lambda: shown.box.get_by_label("cross-hair").check(), "intensity", "the cross-hair")
    acts(lambda: shown.box.get_by_role("button", name="outline").click(), "axial slice", "outline")
    page.screenshot(path=artefacts / f"{LESSON}-compare.png")
