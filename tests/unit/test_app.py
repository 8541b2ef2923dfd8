"""The page for a scan, without a browser: what it shows for what is uploaded."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

import spider_utils.predict
from spider_utils import cli
from spider_utils.data.volumes import write_volume
from spider_utils.view import app
from tests.known_labels import KnownLabels, box_spine, by_gray, make_run


@pytest.fixture
def home(tmp_path, monkeypatch, nothing_shipped):
    """A project with two runs, whose networks know box spines; temporary files go to a folder that must end empty."""
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    make_run(tmp_path, "quick-phantom-unet-structures4", "structures4")
    make_run(tmp_path, "quick-phantom-resunet-structures4", "structures4", architecture="resunet")
    monkeypatch.setattr(spider_utils.predict, "load_predictor", lambda folder: KnownLabels("structures4", by_gray))
    yield tmp_path
    assert not list(folder.iterdir()), "an upload was left on the disk"


@pytest.fixture(scope="module")
def mha(tmp_path_factory) -> bytes:
    return write_volume(box_spine()[0], tmp_path_factory.mktemp("mha") / "a.mha").read_bytes()


def opened(upload: tuple[str, bytes] | None = None) -> AppTest:
    page = AppTest.from_file(app.__file__, default_timeout=120).run()
    if upload is not None:
        page.file_uploader[0].set_value((*upload, "application/octet-stream")).run()
    assert not page.exception, page.exception
    return page


def texts(elements) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", element.value) for element in elements)


def test_says_what_it_is_not_and_waits_for_an_image(home):
    page = opened()
    assert "not a medical device" in texts(page.warning)
    assert "Choose an image" in texts(page.info) and not page.error and not page.metric
    assert page.selectbox[0].options == ["resunet, vertebra, canal, disc (phantom)", "unet, vertebra, canal, disc (phantom)"]


def test_before_any_training_it_offers_what_comes_with_the_kit(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    page = opened()
    assert not page.error and page.file_uploader
    assert page.selectbox[0].options == [
        f"{name}, comes with the kit" for name in ("levels20", "structures4", "structures4-phantom")
    ]


def test_an_odd_folder_under_runs_does_not_end_the_page(home, monkeypatch):
    for name, text in {"list": "[]", "bare": '{"scheme": "structures4"}', "null": '{"split": null}'}.items():
        (make_run(home, name, "structures4") / "model.json").write_text(text)
    assert len(opened().selectbox[0].options) == 2
    kept = app.scan.usable_runs()
    (kept[0] / "model.json").unlink()  # deleted while the page looked
    monkeypatch.setattr(app.scan, "usable_runs", lambda series=True: kept)
    assert "holds no model.json" in texts(opened().error)


def test_from_a_volume_to_a_table_and_downloads(home, mha):
    page = opened(("My spine.mha", mha))
    assert not page.error and "5 slices of 200 x 90 pixels, 0.90 x 1.30 mm a pixel, slices 4.00 mm apart" in texts(page.caption)
    discs, vertebrae = (table.value for table in page.table)
    assert discs.index.tolist() == ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"] and "height, middle [mm]" in discs
    assert vertebrae.loc["L4", "height, middle [mm]"] == "21.6"
    assert [metric.value for metric in page.metric] == ["not measurable"] * 2
    assert [button.label for button in page.get("download_button")] == ["Mask", "Measurements"]
    assert "My_spine_mask.mha: on the image's own grid, values of label scheme spider." in texts(page.caption)


def test_masks_of_a_smoke_run_are_said_to_mean_nothing_and_a_mask_everywhere_opens_in_the_middle(home, mha, monkeypatch):
    make_run(home, "smoke-phantom-unet-structures4", "structures4")
    drawn = KnownLabels("structures4", lambda array: np.full_like(array, 2))
    monkeypatch.setattr(spider_utils.predict, "load_predictor", lambda folder: drawn)
    page = opened(("a.mha", mha))
    assert "Sagittal slice 2 (of 0 to 4)" in texts(page.caption)
    choice = page.selectbox[0]
    for place, run in enumerate(["smoke-phantom-unet-structures4", "quick-phantom-unet-structures4"]):
        choice = page.selectbox[0].set_value(home / "runs" / run)
        choice.run()
        smoke = f"Run {run} was trained in profile smoke: its masks mean nothing." in texts(page.warning)
        assert smoke == (place == 0) and ("mean nothing" in texts(page.warning)) == smoke


def test_while_it_works_it_says_how_many_slices_are_done(home, mha, monkeypatch):
    said = []
    real = DeltaGenerator.progress
    monkeypatch.setattr(DeltaGenerator, "progress", lambda bar, share, text: said.append((share, text)) or real(bar, share, text))
    page = opened(("a.mha", mha))
    steps = [(done / 5, f"Segmenting: {done} of 5 slices") for done in range(1, 6)]
    assert said == [(0.0, "Segmenting ..."), *steps, (1.0, "Naming levels and measuring")]
    assert not page.get("progress"), "the bar goes when the result is there"
    opened()
    assert len(said) == 7


def test_scrolling_turning_and_another_model(home, mha):
    page = opened(("a.mha", mha))
    assert "Sagittal slice 2 (of 0 to 4), in the middle" in texts(page.caption)
    page.slider(key="slice sagittal").set_value(3).run()
    assert "Sagittal slice 3 (of 0 to 4), 4.0 mm right of the middle" in texts(page.caption)
    page.radio[0].set_value("axial").run()
    assert "Axial slice" in texts(page.caption) and "of 0 to 199" in texts(page.caption)
    page.radio[1].set_value("none").run()
    page.selectbox[0].select_index(1).run()
    assert not page.exception and "quick-phantom-unet-structures4. It learned" in texts(page.caption)


def test_a_png_is_measured_once_its_pixel_size_is_told(home):
    stream = io.BytesIO()
    Image.fromarray(box_spine()[0].array[2]).save(stream, format="PNG")
    page = opened(("slice.png", stream.getvalue()))
    assert "the pixel size is not known" in texts(page.info) and not page.table
    assert [button.label for button in page.get("download_button")] == ["Mask"]
    page.number_input(key="height").set_value(0.9).run()
    assert not page.table
    page.number_input(key="width").set_value(1.3).run()
    assert not page.info and page.table[1].value.loc["L4", "height, middle [mm]"] == "21.6"


def test_a_zip_of_several_series_lets_one_choose(home, tmp_path, write_dicom):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for series, cosines, step in (("1.1", (0, 1, 0, 0, 0, -1), (4, 0, 0)), ("1.2", (1, 0, 0, 0, 1, 0), (0, 0, 4))):
            for k in range(3):
                pixels = np.full((40, 30), 120, np.uint16)
                path = write_dicom(tmp_path / "a.dcm", pixels, tuple(k * np.array(step)), cosines, (1.0, 1.0), series)
                archive.write(path, f"{series}/{k}")
        archive.writestr("notes.dcm", bytes(128) + b"DICM")
    page = opened(("study.zip", stream.getvalue()))
    series = page.selectbox[0]
    assert series.label == "Series" and series.options == ["series: sagittal, 3 slices", "series: axial, 3 slices"]
    assert "Left out of the zip: 1" in [expander.label for expander in page.expander]
    series.select_index(1).run()
    assert "do not trust what it draws" in texts(page.warning) and not page.exception


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("../../evil.mha", b"x", "evil.mha: does not hold its own voxels"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "a.png: "),
        ("a.zip", b"PK", "a.zip: is not a whole zip archive"),
    ],
)
def test_what_is_refused_is_said_in_one_line(home, name, data, said):
    page = opened((name, data))
    (error,) = page.error
    assert texts([error]).startswith(said) and str(home) not in texts([error]) and not page.table
    page.file_uploader[0].set_value(("b.mha", b"", "x")).run()
    assert texts(page.error).startswith("b.mha")


def test_text_of_strangers_is_no_markdown():
    assert app._plain("![x](http://e) <b> :red[y] $z$") == r"\!\[x\]\(http\:\/\/e\) \<b\> \:red\[y\] \$z\$"
    assert len(app._plain("a" * 10_000)) < 500


def test_the_command_binds_to_this_machine_alone(monkeypatch):
    from streamlit.web import cli as streamlit_cli

    said = []
    monkeypatch.setattr(streamlit_cli, "main", lambda arguments, standalone_mode: said.extend(arguments))
    with pytest.raises(SystemExit):
        cli.app(["app", "--port", "8765"], standalone_mode=False)
    assert said[0] == "run" and said[1] == app.__file__
    wanted = {"--server.address=127.0.0.1", "--server.port=8765", "--server.headless=true", "--browser.gatherUsageStats=false"}
    assert wanted | {"--server.maxUploadSize=200", "--server.fileWatcherType=none"} <= set(said)


def test_without_streamlit_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr("spider_utils.cli.page.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["spider-kit", "app"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert "pip install 'spider-utils[app]'" in capsys.readouterr().err
