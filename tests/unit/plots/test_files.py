"""Look and files: no settings of the user, the same bytes on every run, shown once."""

from __future__ import annotations

import io
import sys
import types

import matplotlib
import numpy as np
import pytest
from PIL import Image

from spider_utils.errors import DataError
from spider_utils.labels import get_scheme
from spider_utils.view import plots
from spider_utils.view.plots import encoding


def test_user_settings_neither_change_figures_nor_are_changed(history):
    expected = encoding._pixels(plots.training_curves(history), 50)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        found = encoding._pixels(plots.training_curves(history), 50)
        assert dict(matplotlib.rcParams) == before
    assert np.array_equal(found, expected)


def test_pyplot_does_not_know_the_figures(history):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.training_curves(history)
    assert plt.get_fignums() == before


def test_saved_figures_repeat_byte_by_byte_and_hold_no_date(history, tmp_path):
    first = plots.save_figure(plots.training_curves(history), tmp_path / "a" / "curves", "  Loss falls. ")
    second = plots.save_figure(plots.training_curves(history), tmp_path / "b" / "curves.png", "Loss falls.")
    assert first == tmp_path / "a" / "curves.png"
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".txt").read_text() == "Loss falls.\n"
    with Image.open(first) as picture:
        assert picture.width == 1350 and not {"Software", "Creation Time", "date"} & set(picture.info)
    assert sorted(path.name for path in first.parent.iterdir()) == ["curves.png", "curves.txt"]


def test_large_figures_are_made_smaller_but_keep_the_colours_of_their_legend(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 320)).astype(np.uint8)
    mask = np.zeros((400, 320), np.uint8)
    mask[50:150, 50:150], mask[50:300, 200:220], mask[160:180, 50:150] = 1, 2, 3
    path = plots.save_figure(plots.overlay_comparison(noise, mask, mask, spacing_mm=(1, 1)), tmp_path / "noise", "Noise.")
    assert path.stat().st_size <= 1.05 * plots.MAX_FILE_BYTES
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    legend = pixels[int(0.85 * len(pixels)) :].reshape(-1, 3)
    for value in (1, 2, 3):
        color = np.array(get_scheme("structures4").colors[value])
        assert (np.abs(legend - color).max(axis=1) <= 4).sum() > 20


def test_save_figure_refuses_what_it_cannot_do(history, tmp_path):
    figure = plots.training_curves(history)
    with pytest.raises(ValueError, match="needs a caption"):
        plots.save_figure(figure, tmp_path / "x", " ")
    with pytest.raises(DataError, match="written as PNG, not '.svg'"):
        plots.save_figure(figure, tmp_path / "x.svg", "A caption.")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"x\.png: "):
        plots.save_figure(figure, tmp_path / "file" / "x.png", "A caption.")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_figures_show_themselves_once_with_their_caption(history, tmp_path, monkeypatch):
    shown = []
    fake = types.ModuleType("IPython.display")
    fake.display = lambda data, metadata, raw: shown.append((data, metadata, raw))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    figure = plots.training_curves(history)
    plots.save_figure(figure, tmp_path / "x", "Loss falls.")
    assert not shown
    figure._ipython_display_()
    ((data, metadata, raw),) = shown
    assert raw and data["text/plain"] == "Loss falls." and metadata == {"image/png": {"alt": "Loss falls."}}
    assert data["image/png"].startswith(b"\x89PNG")


def test_charts_are_shown_with_a_palette_that_nobody_sees(history):
    figure = plots.training_curves(history)
    kind, picture = encoding.for_screen(figure)
    with Image.open(io.BytesIO(picture)) as shown:
        assert kind == "image/png" and shown.mode == "P"
        change = np.abs(np.asarray(shown.convert("RGB")).astype(int) - encoding._pixels(figure, plots.SCREEN_DPI))
    assert change.max() <= 8
    assert len(picture) < 0.6 * len(encoding._with_shades(encoding._pixels(figure, plots.SCREEN_DPI), 256))


def test_no_palette_where_it_would_show():
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert encoding._with_palette(colours) is None
    few = colours[:2, :2].repeat(32, axis=0).repeat(32, axis=1)
    with Image.open(io.BytesIO(encoding._with_palette(few))) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), few)


def test_large_pictures_are_shown_as_jpeg():
    figure = plots.new_figure(4, "Noise in colour.")
    figure.subplots().imshow(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8))
    kind, picture = encoding.for_screen(figure)
    assert kind == "image/jpeg" and picture.startswith(b"\xff\xd8")
    assert Image.open(io.BytesIO(picture)).width == 900
