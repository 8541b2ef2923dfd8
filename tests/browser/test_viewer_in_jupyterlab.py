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
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", "--ServerApp.port_retries=0"]
    command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serve(command, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", home / "lab.log", home, environment):
        yield f"http://127.0.0.1:{port}/lab"


def open_and_run(page: Page, lab: str, name: str) -> None:
    """Open a notebook by its address, choose Run > Run All Cells, and wait until every cell has run."""
    # A workspace of its own, or JupyterLab opens beside it what an earlier test has left open.
    page.goto(f"{lab}/workspaces/{name}/tree/notebooks/{name}.ipynb?token={TOKEN}")
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
        self.picture.wait_for(state="attached")
        self.box = page.locator(".jp-OutputArea-output").filter(has=page.locator("img.widget-image")).nth(number)
        self.slider = self.box.locator(".widget-hslider", has_text="Slice")
        self.handle = self.slider.locator(".noUi-handle")
        self.number = self.box.locator("input[type=number]")
        # JupyterLab lays cells out only where they are seen, so what is above moves on the way.
        wait_until(self._in_sight, "the viewer cannot be scrolled to", page)

    def _in_sight(self) -> bool:
        self.picture.evaluate("img => img.scrollIntoView({block: 'center'})")
        self.page.wait_for_timeout(500)
        place = self.picture.bounding_box()
        return place is not None and place["height"] > 100 and 0 < place["y"] < 900

    def index(self) -> int:
        """Where the slider stands."""
        return round(float(self.handle.get_attribute("aria-valuenow")))

    def png(self) -> list[str]:
        """First four bytes and SHA-256 of what the browser shows, as hexadecimal digits."""
        return self.picture.evaluate(
            """async img => {
                const bytes = await (await fetch(img.src)).arrayBuffer();
                const hex = part => Array.from(new Uint8Array(part), byte => byte.toString(16).padStart(2, "0")).join("");
                return [hex(bytes.slice(0, 4)), hex(await crypto.subtle.digest("SHA-256", bytes))];
            }"""
        )

    def drag(self, share: float) -> None:
        """Move the slider's handle by mouse to a share of its way."""
        way, handle = self.slider.locator(".noUi-base").bounding_box(), self.handle.bounding_box()
        y = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(way["x"] + share * way["width"], y, steps=5)
        self.page.mouse.up()

    def to_the_first_slice(self) -> None:
        """Drag the slider to its left end, from elsewhere."""
        if self.index() == 0:
            self.acts(lambda: self.drag(1.0), "dragging the slider", "sagittal slice ")
        self.acts(lambda: self.drag(0.0), "dragging the slider", "sagittal slice 0 (of 0 to")

    def acts(self, action: Callable[[], object], what: str, says: str) -> None:
        """Do something, and wait until the picture is another one and the text beside it says so."""
        before = self.png()
        action()
        wait_until(lambda: self.png() != before, f"{what} changes the picture", self.page)
        wait_until(lambda: says in self.box.inner_text(), f"{what} says '{says}'", self.page)
        assert self.png()[0] == "89504e47", "it is a PNG"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(LESSON, id="phantom"),
        pytest.param(REAL, marks=pytest.mark.real_data("spider_t2space_2d"), id="real"),
    ],
)
def test_the_lesson_runs_and_its_viewers_answer(page: Page, lab: str, artefacts: Path, name: str) -> None:
    open_and_run(page, lab, name)
    shown = Shown(page, 0)
    shown.to_the_first_slice()
    shown.handle.focus()
    for key, index in (("ArrowRight", 1), ("ArrowUp", 2), ("ArrowLeft", 1)):
        shown.acts(lambda key=key: page.keyboard.press(key), key, f"sagittal slice {index} (of 0 to")
        assert shown.index() == index, "the arrow keys move the slider by one"
    shown.number.click()
    shown.acts(lambda: page.mouse.wheel(0, -100), "the wheel over the number", "sagittal slice 2 (of 0 to")
    shown.acts(lambda: shown.box.get_by_label("overlay").uncheck(), "hiding the overlay", "sagittal slice 2 (of 0 to")
    shown.acts(lambda: shown.box.get_by_label("overlay").check(), "showing the overlay", "labels here: ")
    page.screenshot(path=artefacts / f"{name}.png")

    compared = Shown(page, 1)
    choices, button = compared.box.locator("select"), lambda text: compared.box.get_by_role("button", name=text).click()
    compared.acts(lambda: choices.first.select_option("side by side"), "side by side", "labels here: vertebra")
    compared.acts(lambda: compared.box.get_by_label("vertebra").uncheck(), "hiding a class", "labels here: spinal canal, disc")
    compared.acts(lambda: choices.first.select_option("difference"), "the difference", "wrong class")
    compared.to_the_first_slice()
    button("Worst slice")  # it may be this one, so the picture need not change
    wait_until(lambda: "most wrong pixels in this plane" in compared.box.inner_text(), "no worst slice is named", page)
    compared.acts(lambda: compared.box.get_by_label("cross-hair").check(), "the cross-hair", "intensity")
    page.screenshot(path=artefacts / f"{name}-compare.png")
    compared.acts(lambda: button("axial"), "another plane", "axial slice")
