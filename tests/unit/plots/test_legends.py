"""Legends: an entry a label, never two of one colour, inside the figure."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.labels import get_scheme
from spider_utils.view import plots


def test_legend_names_each_label_when_colours_differ():
    handles = plots.legend_for("structures4", [3, 0, 1])
    assert [h.get_label() for h in handles] == ["vertebra", "disc"]
    expected = [np.array(get_scheme("structures4").colors[v]) / 255 for v in (1, 3)]
    assert np.allclose([h.get_facecolor()[:3] for h in handles], expected)


def test_legend_never_shows_two_labels_with_one_colour():
    scheme = get_scheme("levels20")
    assert not plots.share_colors("levels20", [1, 2, 3, 10]) and plots.share_colors("levels20", [1, 2, 3, 4])
    for values in ([1, 2, 3, 10, 11], list(scheme.foreground), [11, 12, 13, 14]):
        colors = [h.get_facecolor() for h in plots.legend_for("levels20", values)]
        assert len(set(colors)) == len(colors)
    assert [h.get_label() for h in plots.legend_for("levels20", scheme.foreground)] == [
        "vertebra (shade: level)", "spinal canal", "disc (shade: level)",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="does not know"):
        plots.legend_for("levels20", [25])


def test_legend_of_clamped_labels_names_the_melted_class():
    labels = [handle.get_label() for handle in plots.legend_for("clamped20", [1, 2, 3, 4, 19])]
    assert labels == ["vertebra (shade: level)", "all else"]
    assert [handle.get_label() for handle in plots.legend_for("clamped20", [1, 2, 3, 4])] == ["vertebra (shade: level)"]


def test_legend_fits_into_the_figure():
    image = np.zeros((80, 60), np.uint8)
    truth, prediction = image.copy(), image.copy()
    for level in range(9):
        truth[8 * level : 8 * level + 5, 10:30], truth[8 * level + 5 : 8 * level + 8, 10:30] = level + 1, level + 11
    truth[:, 35:40] = 10
    prediction[:, 1:] = truth[:, :-1]
    prediction[20:24, 15:20] = 10
    figure = plots.overlay_comparison(image, truth, prediction, "levels20", (1.0, 1.0))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 6
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
