"""Figures of `ahmed`: rungs have numbers, the copier and the printed mean colours of their own, shares stand on one another."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from spider_utils.view import ahmed_plots


def test_rungs_are_numbered_and_copier_and_print_stand_apart():
    means = {"own grid": 0.8, "pooled": 0.9, "next slice's true mask": 0.7, "printed": 0.97}
    table = pd.DataFrame(
        {"rung": list(means), "mean": means.values(), "low": [0.7, 0.8, 0.6, np.nan], "high": [0.85, 0.95, 0.8, np.nan]}
    )
    figure = ahmed_plots.ladder(table, "a ladder")
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1. own grid", "2. pooled", "next slice's true mask", "printed"]
    assert [bar.get_width() for bar in ax.patches] == list(means.values())
    colors = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert colors[0] == colors[1] and len(set(colors)) == 3
    assert "2 ways of testing" in figure.caption and ax.get_title() == "a ladder"


def test_shares_stand_on_one_another_and_every_sequence_has_its_line():
    shares = pd.DataFrame([[0.9, 0.06, 0.01, 0.03]], ["t1"], ["background", "vertebra", "spinal canal", "disc"])
    complete = pd.DataFrame({"t1": [1.0, 0.2], "t2": [0.9, 0.1]}, ["centre", "edge"])
    left, right = ahmed_plots.class_balance(shares, complete).axes
    assert [bar.get_x() for bar in left.patches] == pytest.approx([0, 0.9, 0.96, 0.97])
    assert [bar.get_width() for bar in left.patches] == pytest.approx([0.9, 0.06, 0.01, 0.03])
    assert [list(line.get_ydata()) for line in right.lines] == [[1.0, 0.2], [0.9, 0.1]]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["t1", "t2"]
