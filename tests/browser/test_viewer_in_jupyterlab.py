"""The slice viewer as a student uses it: JupyterLab opens notebook 16, runs it, and its slider is moved by mouse and keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.jupyterlab import look_through, put_notebook, run_all
from tests.browser.tools import wait_until
from tests.conftest import real_data_folder

pytestmark = pytest.mark.browser
LESSON = "16_interactive_viewer"
REAL = "real_slices"


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
def test_the_lesson_runs_and_its_viewers_answer(page: Page, lab: str, home: Path, artefacts: Path, name: str) -> None:
    data = {"DATA": "spider-2d", "ROOT": str(real_data_folder() / "spider_t2space_2d")} if name == REAL else {}
    put_notebook(home, LESSON, name, **data)
    run_all(page, lab, name)
    assert look_through(page, artefacts, name) == []
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
