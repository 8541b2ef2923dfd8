"""The page for a scan in a real browser: from upload to download, by a network that knows the answer."""

from __future__ import annotations

import io
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from spider_utils.data.phantom import make_anatomy, render
from spider_utils.data.volumes import read_mask, read_volume, write_volume
from spider_utils.labels import convert
from tests.browser.tools import CHECKOUT, TIMEOUT_S, free_port, serve
from tests.known_labels import make_run

pytestmark = pytest.mark.browser
expect.set_options(timeout=TIMEOUT_S * 1000)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> tuple[Path, Path]:
    """An image of a made-up patient, and its mask in scheme "spider"."""
    folder = tmp_path_factory.mktemp("phantom")
    image, mask = render(make_anatomy(5), "t2", "RH1", size="small")
    return write_volume(image, folder / "made up.mha"), write_volume(mask, folder / "mask.mha")


def served(truth: Path, scheme: str, home: Path) -> Iterator[str]:
    """The page with a network that answers with one mask file."""
    port = free_port()
    make_run(home, "quick-phantom-unet-structures4", "structures4")
    command = [sys.executable, "-m", "tests.known_labels", str(port), str(truth), scheme]
    variables = {"SPIDER_KIT_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    return serve(command, f"http://127.0.0.1:{port}/", home / "log", CHECKOUT, variables)


def upload(page: Page, url: str, file: Path) -> None:
    page.goto(url)
    expect(page.get_by_text("This is not a medical device.")).to_be_visible()
    page.locator("input[type=file]").set_input_files(file)


def download(page: Page, label: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.get_by_role("button", name=label).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def shown(page: Page) -> np.ndarray:
    """The picture on the page."""
    source = page.locator("[data-testid=stImage] img").get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(urljoin(page.url, source)).body())))


def test_from_upload_to_download_on_a_phantom(page, phantom, artefacts, tmp_path):
    image, truth = phantom
    with served(truth, "spider", tmp_path) as url:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        upload(page, url, image)
        expect(page.get_by_role("heading", name="Downloads")).to_be_visible()
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
        there, true = read_volume(image), read_mask(truth)
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


def test_what_is_refused_is_shown_as_plain_text(page, phantom, tmp_path):
    import zipfile

    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("../../![x](http:evil)<b>.dcm", b"x")
    with served(phantom[1], "spider", tmp_path) as url:
        upload(page, url, hostile)
        expect(page.get_by_text("hostile.zip: its member '../../![x](http:evil)<b>.dcm' leads out of the folder")).to_be_visible()
        assert page.get_by_role("heading", name="Downloads").count() == 0


def test_without_a_model_the_command_serves_what_to_do_and_this_machine_alone(page, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "spider_utils.cli", "app", "--port", str(port)]
    variables = {"SPIDER_KIT_HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    with serve(command, f"http://127.0.0.1:{port}/", tmp_path / "log", CHECKOUT, variables) as url:
        page.goto(url)
        expect(page.get_by_text("there is no trained model yet: run `make course`")).to_be_visible()
        others = {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for address in others:
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):
                pass
    assert f"the page is at http://127.0.0.1:{port}" in (tmp_path / "log").read_text()


@pytest.mark.real_data("spider_t2space_2d")
def test_from_upload_to_download_on_a_real_slice(page, real_data, artefacts, tmp_path):
    """The released mask stands for the network's; pixels of these slices are 0.46875 mm wide and high (see cases.csv)."""
    image = real_data / "spider_t2space_2d" / "images" / "110_t2_SPACE_slice61.png"
    truth = real_data / "spider_t2space_2d" / "masks" / image.name
    with served(truth, "released_gray", tmp_path) as url:
        upload(page, url, image)
        expect(page.get_by_text("Nothing is measured, as the pixel size is not known.")).to_be_visible()
        for side in ("height [mm]", "width [mm]"):
            page.get_by_role("spinbutton", name=side).fill("0.46875")
            page.get_by_role("spinbutton", name=side).press("Enter")
        expect(page.get_by_role("rowheader", name="L4/L5", exact=True)).to_be_visible()
        page.screenshot(path=artefacts / "app-real.png")
        mask = np.asarray(Image.open(download(page, "Mask", tmp_path)))
        true = convert(read_mask(truth).array[0], "released_gray", "structures4")
        assert mask.shape == true.shape and ((mask > 0) == (true > 0)).mean() > 0.99
        table = pd.read_csv(download(page, "Measurements", tmp_path))
        heights = table[table["quantity"] == "body height middle"].set_index("level")["value"]
        assert heights.loc[["L2", "L3", "L4"]].between(20, 36).all()
