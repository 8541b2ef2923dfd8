"""Figures of three planes and their fusion: colours say what was found, labels what was measured."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from spider_utils.data.discs import SACRAL_DISC
from spider_utils.view import triplanar_plots


def color_at(ax, row, column):
    return to_hex(ax.images[1].get_array()[row, column]) if ax.images[1].get_array()[row, column, 3] else None


def test_found_voxels_have_the_colour_of_what_they_are():
    discs = np.zeros((100, 90), np.uint8)
    discs[30:33, 40:50], discs[50:53, 40:50], discs[60:63, 40:50] = 8, 7, SACRAL_DISC
    found = np.zeros(discs.shape, bool)
    found[30:33, 40:45], found[50:53, 40:47], found[40, 40], found[60, 40] = True, True, True, True
    figure = triplanar_plots.discs_found(np.zeros(discs.shape), (2.5, 2.0), discs, 7, {"a network": found})
    truth, answer = figure.axes
    top, left = 30 - 10, 40 - 12  # 25 mm around the discs
    assert truth.images[0].get_array().shape == (33 + 20, 10 + 24)
    labelled, unlabelled, wrong, missed = "#e69f00", "#cc79a7", "#d55e00", "#56b4e9"
    assert color_at(truth, 50 - top, 49 - left) == labelled
    assert color_at(truth, 30 - top, 49 - left) == color_at(truth, 60 - top, 49 - left) == unlabelled
    assert color_at(answer, 50 - top, 46 - left) == labelled and color_at(answer, 50 - top, 47 - left) == missed
    assert color_at(answer, 30 - top, 44 - left) == unlabelled and color_at(answer, 30 - top, 45 - left) is None
    assert color_at(answer, 40 - top, 40 - left) == wrong and color_at(answer, 60 - top, 40 - left) == unlabelled
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "a labelled disc", "a disc that nobody labelled", "no disc", "missed",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no disc in this slice"):
        triplanar_plots.discs_found(np.zeros((9, 9)), (1, 1), np.zeros((9, 9)), 7, {})


def test_tables_are_drawn_with_what_the_means_are_of():
    table = pd.DataFrame({"name": ["L5/S1"], "printed": [0.9], "mean": [0.8], "low": [0.7], "high": [0.85]})
    ax = triplanar_plots.printed_and_measured(table, "name", xlabel="Dice, mean over patients").axes[0]
    assert ax.get_xlabel() == "Dice, mean over patients" and ax.get_yticklabels()[0].get_text() == "L5/S1"
