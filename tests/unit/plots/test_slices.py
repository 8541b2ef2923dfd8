"""One slice: true proportions, colours, names and lengths."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.labels import get_scheme
from spider_utils.view import plots
from spider_utils.view.plots import CourseFigure
from tests.unit.plots.conftest import empty_figure, rgb, texts_of


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (1.5, 0.5), (0.25, 1.0)])
def test_slice_has_its_proportions_in_mm(picture, spacing):
    figure, ax = empty_figure()
    plots.show_slice(ax, picture[0], spacing_mm=spacing)
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    assert box.height / box.width == pytest.approx(60 * spacing[0] / (40 * spacing[1]), rel=1e-3)


def test_scale_bar_is_as_long_as_it_says(picture):
    figure, ax = empty_figure()
    plots.show_slice(ax, picture[0], spacing_mm=(0.9, 2.0))  # 80 mm wide: the bar is at most a third, so 20 mm
    figure.draw_without_rendering()
    (bar,) = ax.lines
    (x0, _), (x1, _) = bar.get_transform().transform(np.column_stack(bar.get_data()))
    shown_mm = (x1 - x0) / ax.get_window_extent().width * 40 * 2.0
    assert "20 mm" in texts_of(ax)
    assert shown_mm == pytest.approx(20, rel=1e-6)


def test_unknown_spacing_shows_no_length(picture):
    _, ax = empty_figure()
    plots.show_slice(ax, picture[0], picture[1])
    assert not ax.lines and texts_of(ax) == ["S", "I", "A", "P"]


def test_filled_labels_have_the_colour_of_the_scheme_and_leave_background_alone(picture):
    image, mask = np.full((60, 40), 100, np.uint8), picture[1]
    figure, ax = empty_figure()
    plots.show_slice(ax, image, mask, "structures4", opacity=1.0, window=(0, 200), letters=None)
    pixels, (top, bottom, left, right) = rgb(figure)
    part = pixels[top:bottom, left:right]
    row, column = (np.array(part.shape[:2]) / (60, 40)).tolist()
    assert part[round(15 * row), round(12 * column)].tolist() == list(get_scheme("structures4").colors[1])
    assert part[round(35 * row), round(27.5 * column)].tolist() == list(get_scheme("structures4").colors[2])
    assert part[round(50 * row), round(10 * column)].tolist() == pytest.approx([127.5] * 3, abs=1)


def test_outline_follows_the_border_also_at_the_edge_of_the_picture():
    mask = np.zeros((30, 30), np.uint8)
    mask[0:10, 0:10] = 1
    _, ax = empty_figure()
    plots.show_slice(ax, mask, mask, outline=True)
    (lines,) = ax.collections
    (path,) = (p for p in lines.get_paths() if len(p.vertices))
    assert path.vertices.min() == pytest.approx(-0.5) and path.vertices.max() == pytest.approx(9.5)
    assert len(ax.images) == 1  # no fill


def test_names_stand_on_their_levels():
    mask = np.zeros((90, 60), np.uint8)
    mask[10:30, 10:40], mask[40:60, 10:40], mask[32:38, 10:40], mask[10:80, 45:50] = 2, 1, 202, 100
    figure = CourseFigure(figsize=(9, 9))
    ax = figure.subplots()
    plots.show_slice(ax, mask, mask, "spider", letters=None, name_labels=True)
    names = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(names) == {"L4", "L5", "L4/L5"}
    for name, value in (("L4", 2), ("L5", 1), ("L4/L5", 202)):
        x, y = names[name]
        assert mask[int(y), int(x)] == value
    small = CourseFigure(figsize=(9, 3)).subplots(1, 5)[0]
    plots.show_slice(small, mask, mask, "spider", letters=None, name_labels=True)
    assert set(texts_of(small)) == {"L4", "L5"}


def test_names_leave_small_pieces_and_letters_to_be_seen():
    mask = np.zeros((90, 60), np.uint8)
    mask[3:6, 28:31], mask[40:60, 10:50] = 1, 2
    ax = CourseFigure(figsize=(3, 4)).subplots()
    plots.show_slice(ax, mask, mask, "spider", name_labels=True)
    at = {text.get_text(): text for text in ax.texts}
    (x, y), hidden = at["L5"].get_position(), at["L5"].get_ha()
    assert hidden == "left" and x > 31 and 3 <= y < 6, "beside a piece that it would hide"
    assert at["L4"].get_ha() == "center" and mask[tuple(map(int, at["L4"].get_position()[::-1]))] == 2
    assert at["S"].get_position()[0] == 0.35 and at["I"].get_position()[0] == 0.5, "S gives way to L5"


def test_bad_slices_are_refused(picture):
    image, mask = picture
    _, ax = empty_figure()
    with pytest.raises(ValueError, match=r"mask has shape \(60, 39\)"):
        plots.show_slice(ax, image, mask[:, :-1])
    with pytest.raises(ValueError, match=r"does not know: 9 \(1 px\)"):
        bad = mask.copy()
        bad[0, 0] = 9
        plots.show_slice(ax, image, bad)
    with pytest.raises(ValueError, match="two positive numbers"):
        plots.show_slice(ax, image, spacing_mm=(0.5, 0))
    with pytest.raises(ValueError, match="not finite"):
        plots.show_slice(ax, np.where(image > 800, np.nan, image))
    with pytest.raises(ValueError, match="must have shape"):
        plots.show_slice(ax, image[None])


def test_window_of_constant_and_of_large_arrays():
    low, high = plots.window_of(np.full((4, 4), 7))
    assert low == 7 and high > low
    array = np.random.default_rng(0).normal(100, 10, (40, 256, 256)).astype(np.float32)
    assert plots.window_of(array) == pytest.approx(np.percentile(array, (0.5, 99.5)), abs=0.2)
