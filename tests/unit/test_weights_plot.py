"""README's figure shows the cards' numbers and the printed ones, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.models.shipped import shipped
from spider_utils.training.checkpoints import read_card
from spider_utils.view.weights_plot import STRUCTURES, agreement_against_dice, shipped_dice, shipped_scores


def test_bars_are_the_cards_numbers_beside_the_printed_ones() -> None:
    bars = [[bar.get_width() for bar in group] for group in shipped_dice().axes[0].containers if hasattr(group[0], "get_width")]
    cards = {name: read_card(folder)["measured"] for name, folder in shipped().items()}
    wanted = [[0.9712, 0.9671, 0.9688]]
    for network in ("structures4", "levels20", "structures4-phantom"):
        rows = {r["name"]: r["mean"] for r in cards[network] if r["metric"] == "dice" and r["shown"] == "as series"}
        wanted.append([rows[name] for name in STRUCTURES])
    assert bars == [pytest.approx(one) for one in wanted]


def test_scores_of_phantoms_are_not_among_those_of_patients() -> None:
    found = shipped_scores()
    assert set(found["name"]) == set(STRUCTURES) and (found["patients"] == 30).all()
    assert not found.duplicated(["network", "shown", "name"]).any()


def test_each_series_is_a_point_of_its_set() -> None:
    rows = [
        ("spider_t2space_2d", 0.95, 0.93),
        ("spider_t2space_2d", 0.9, 0.91),
        ("chu2015_t2_3d", 0.4, 0.2),
        ("chu2015_t2_3d", np.nan, 0),
    ]
    table = pd.DataFrame(rows, columns=["set", "agreement", "dice"])
    figure = agreement_against_dice(table)
    ax = figure.axes[0]
    assert [points.get_offsets().tolist() for points in ax.collections] == [[[0.95, 0.93], [0.9, 0.91]], [[0.4, 0.2]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "T2_SPACE slices, other folds' patients (2)",
        "chu2015_t2_3d, T2 (1)",
    ]
    assert "3 images, a point each" in figure.caption and "correlation is 1.00" in figure.caption
    with pytest.raises(ValueError, match="too little to draw: 2 images"):
        agreement_against_dice(table[1:])
