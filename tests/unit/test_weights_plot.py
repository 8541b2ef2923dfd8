"""README's figure shows the cards' numbers and the printed ones, and nothing else."""

from __future__ import annotations

import pytest

from spider_utils.models.shipped import shipped
from spider_utils.training.checkpoints import read_card
from spider_utils.view.weights_plot import STRUCTURES, shipped_dice, shipped_scores


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
