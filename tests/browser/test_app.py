"""The page for a scan in a real browser: from upload to download, by a network that knows the answer."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from spider_utils.data.phantom import make_anatomy, render
from spider_utils.data.volumes import read_mask, read_volume, write_volume
from spider_utils.labels import convert
from tests.browser.tools import CHECKOUT, free_port, serve
from tests.conftest import real_data_folder
from tests.known_labels import box_spine, make_run

pytestmark = pytest.mark.browser
LIMIT_S = 90.0  # for the page to answer; cores may be busy
expect.set_options(timeout=LIMIT_S * 1000)
REAL = real_data_folder() / "spider_t2space_2d"
REAL_SLICE = "110_t2_SPACE_slice61.png"
SECONDS_A_SLICE = 0.2
# Keeps every text that the bar of progress had, however soon the next one came.
KEEP_PROGRESS = """window.told = [];
new MutationObserver(() => {
    const bar = document.querySelector("[data-testid=stProgress]");
    if (bar && bar.textContent !== window.told.at(-1)) window.told.push(bar.textContent);
}).observe(document, {subtree: true, childList: true, characterData: true});"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> tuple[Path, Path]:
    """An image of a made-up patient, and its mask in scheme "spider"."""
    folder = tmp_path_factory.mktemp("phantom")
    image, mask = render(make_anatomy(5), "t2", "RH1", size="small")
    return write_volume(image, folder / "made up.mha"), write_volume(mask, folder / "mask.mha")


@pytest.fixture(scope="module")
def served(phantom, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The page and its log, with a network that knows the phantom and, where it is there, the real slice."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    make_run(home, "quick-phantom-unet-structures4", "structures4")
    known = [phantom[1], "spider"]
    if REAL.is_dir():
        known += [REAL / "masks" / REAL_SLICE, "released_gray"]
    command = [sys.executable, "-m", "tests.known_labels", str(port), str(SECONDS_A_SLICE), *map(str, known)]
    variables = {"SPIDER_KIT_HOME": str(home), "PYTHONPATH": str(CHECKOUT), "STREAMLIT_LOGGER_ENABLE_RICH": "false"}
    with serve(command, f"http://127.0.0.1:{port}/", home / "log", CHECKOUT, variables) as url:
        yield url, home / "log"


def upload(page: Page, url: str, file: Path) -> None:
    page.set_default_timeout(LIMIT_S * 1000)
    page.goto(url)
    expect(page.get_by_text("This is not a medical device.")).to_be_visible()
    page.locator("input[type=file]").set_input_files(file)


def comes(page: Page, awaited: Locator, log: Path) -> None:
    """Wait for something on the page. When the page shows an error instead, the test fails at once, with the error's text.

    The page hides a traceback from its users; the log has it. The fixture ``page`` keeps a screenshot.
    """
    # An exception, a message on red ground, or the box that says that the server is gone.
    error = page.locator("[data-testid=stException], [data-testid=stAlertContentError], [data-testid=stDialog]")
    expect(awaited.or_(error).first).to_be_visible()
    if not awaited.first.is_visible():
        pytest.fail(f"the page shows an error: {error.first.inner_text()}\n{log.read_text(errors='replace')[-2000:]}")


def last_ascending_run(numbers: list[int]) -> list[int]:
    """The numbers from the last fall on: Streamlit may run a page anew, which then counts anew."""
    falls = [place for place in range(1, len(numbers)) if numbers[place] <= numbers[place - 1]]
    return numbers[falls[-1] if falls else 0 :]


def other_addresses() -> set[str]:
    """Addresses of this machine where a server that is bound to 127.0.0.1 must not answer, and one bound to all of them does."""
    found = {"127.0.0.2"} if sys.platform == "linux" else set()  # there every address that begins with 127 is this machine
    with contextlib.suppress(OSError):  # a name that nobody resolves
        found |= {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    if not found - {"127.0.0.1"}:
        pytest.skip("the name of this machine leads to 127.0.0.1 alone, or nowhere: no other address can be tried")
    return found - {"127.0.0.1"}


def download(page: Page, label: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.get_by_role("button", name=label).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def shown(page: Page) -> np.ndarray:
    """The picture on the page, fetched as the page does."""
    encoded = page.locator("[data-testid=stImage] img").evaluate(
        """async img => {
            const bytes = new Uint8Array(await (await fetch(img.src)).arrayBuffer());
            return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
        }"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_from_upload_to_download_on_a_phantom(page, phantom, served, artefacts, tmp_path):
    (image, truth), (url, log) = phantom, served
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(KEEP_PROGRESS)
    upload(page, url, image)
    comes(page, page.get_by_role("heading", name="Downloads"), log)
    there, true = read_volume(image), read_mask(truth)
    told = re.findall(rf"Segmenting: (\d+) of {len(there.array)} slices", " ".join(page.evaluate("told")))
    assert len(last_ascending_run([int(done) for done in told])) > 3, "slice by slice"
    assert page.locator("[data-testid=stProgress]").count() == 0, "the bar goes when all is done"
    middle = shown(page)
    assert len(np.unique(middle.reshape(-1, 3), axis=0)) > 1000 and (middle[..., 0] != middle[..., 2]).any()  # colours
    page.set_viewport_size({"width": 1400, "height": 2000})  # the page scrolls within itself
    page.screenshot(path=artefacts / "app-phantom.png")

    slider = page.get_by_role("slider", name="Slice")
    before = slider.get_attribute("aria-valuenow") or slider.input_value()
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text(re.compile(rf"Sagittal slice {int(before) + 1} \(of 0 to"))).to_be_visible()
    assert not np.array_equal(shown(page), middle)

    mask = read_mask(download(page, "Mask", tmp_path))
    assert mask.path.name == "made_up_mask.mha" and mask.stored.size == there.stored.size
    assert np.allclose(mask.stored.spacing, there.stored.spacing) and np.allclose(mask.stored.origin, there.stored.origin)
    assert np.allclose(mask.stored.direction, there.stored.direction)
    same = convert(mask.array, "spider", "structures4") == convert(true.array, "spider", "structures4")
    assert same.mean() > 0.999
    table = pd.read_csv(download(page, "Measurements", tmp_path))
    heights = table[table["quantity"] == "disc height middle"].set_index("level")["value"]
    assert heights.notna().sum() >= 5 and heights.dropna().between(1, 20).all()
    expect(page.get_by_role("rowheader", name="L4/L5", exact=True)).to_be_visible()
    assert {re.match(r"\w+://([^/]*)", address)[1] for address in asked if "://" in address} == {url.split("/")[2]}


def test_what_is_refused_is_shown_as_plain_text(page, served, tmp_path):
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("../../![x](http:evil)<b>.dcm", b"x")
    upload(page, served[0], hostile)
    expect(page.get_by_text("hostile.zip: its member '../../![x](http:evil)<b>.dcm' leads out of the folder")).to_be_visible()
    assert page.get_by_role("heading", name="Downloads").count() == 0


def test_an_error_on_the_page_is_not_waited_for(page, served, artefacts, tmp_path):
    """The network knows no spine of boxes, and fails."""
    url, log = served
    upload(page, url, write_volume(box_spine()[0], tmp_path / "boxes.mha"))
    comes(page, page.locator("[data-testid=stException]"), log)
    start = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"(?s)the page shows an error: .*KeyError: \(5, 200, 90\)"):
        comes(page, page.get_by_role("heading", name="Downloads"), log)
    assert time.monotonic() - start < LIMIT_S / 3
    assert page.locator("[data-testid=stProgress]").count() == 0, "the bar does not stay behind"
    page.screenshot(path=artefacts / "app-error.png")


def test_before_any_training_the_command_serves_what_comes_with_the_kit_and_this_machine_alone(page, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "spider_utils.cli", "app", "--port", str(port)]
    variables = {"SPIDER_KIT_HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    with serve(command, f"http://127.0.0.1:{port}/", tmp_path / "log", CHECKOUT, variables) as url:
        page.set_default_timeout(LIMIT_S * 1000)
        page.goto(url)
        expect(page.get_by_text("levels20. Each vertebra and disc by its name")).to_be_visible()
        assert f"the page is at http://127.0.0.1:{port}" in (tmp_path / "log").read_text()
        for address in other_addresses():
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):
                pass


@pytest.mark.real_data("spider_t2space_2d")
def test_from_upload_to_download_on_a_real_slice(page, served, artefacts, tmp_path):
    """The released mask stands for the network's; pixels of these slices are 0.46875 mm wide and high (see cases.csv)."""
    url, log = served
    upload(page, url, REAL / "images" / REAL_SLICE)
    comes(page, page.get_by_text("Nothing is measured, as the pixel size is not known."), log)
    for side in ("height [mm]", "width [mm]"):
        page.get_by_role("spinbutton", name=side).fill("0.46875")
        page.get_by_role("spinbutton", name=side).press("Enter")
    comes(page, page.get_by_role("rowheader", name="L4/L5", exact=True), log)
    page.screenshot(path=artefacts / "app-real.png")
    mask = np.asarray(Image.open(download(page, "Mask", tmp_path)))
    true = convert(read_mask(REAL / "masks" / REAL_SLICE).array[0], "released_gray", "structures4")
    assert mask.shape == true.shape and ((mask > 0) == (true > 0)).mean() > 0.99
    table = pd.read_csv(download(page, "Measurements", tmp_path))
    heights = table[table["quantity"] == "body height middle"].set_index("level")["value"]
    assert heights.loc[["L2", "L3", "L4"]].between(20, 36).all()
