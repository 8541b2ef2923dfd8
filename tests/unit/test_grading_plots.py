"""Figures of gradings: they draw what tables hold, gaps included, and say in words what they show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.view import grading_plots as plots


def test_prevalence_and_co_occurrence_with_gaps():
    table = pd.DataFrame(
        [
            ("a", "L5/S1", 12, 0.5, 0.2, 0.8),
            ("a", "L4/L5", 0, np.nan, np.nan, np.nan),
            ("b", "L5/S1", 12, 0.0, 0.0, 0.3),
            ("b", "L4/L5", 5, 0.2, 0.0, 0.6),
            ("a", "L3/L4", 4, 1.0, 0.1, 1.0),
        ],
        columns=["finding", "level", "discs", "share", "low", "high"],
    )
    figure = plots.prevalence_by_level(table, "set")
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == ["a", "b"]
    assert figure.caption.startswith("set: share of discs") and figure.caption.endswith("without L3/L4 (4).")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["L5/S1, n = 12", "L4/L5, n = 5"]
    shares = [ax.containers[0].lines[0].get_xdata(orig=False).astype(float) for ax in figure.axes[:2]]
    assert np.array_equal(shares, [[50, np.nan], [0, 20]], equal_nan=True)
    pairs = pd.DataFrame(
        [("a", "b", 0.4, 0.2, 0.6), ("b", "a", -0.1, -0.3, 0.1)], columns=["finding", "given", "difference", "low", "high"]
    )
    texts = {text.get_text() for text in plots.co_occurrence_map(pairs).axes[0].texts}
    assert texts == {"+40", "(-10)"}  # the second one's interval holds zero


def test_scores_confusion_and_curves():
    scores = pd.DataFrame(
        [("a", "level alone", "AUC", 0.6, 0.5, 0.7), ("a", "measurements", "AUC", np.nan, np.nan, np.nan)],
        columns=["finding", "model", "metric", "value", "low", "high"],
    )
    figure = plots.grade_scores_plot(scores, "AUC")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["level alone", "measurements"]
    with pytest.raises(ValueError, match="kappa"):
        plots.grade_scores_plot(scores, "kappa")
    counts = pd.DataFrame([[3, 1], [0, 0]], index=[1, 2], columns=[1, 2])
    assert [text.get_text() for text in plots.confusion_map(counts, "grade").axes[0].texts] == ["3", "1", "0", "0"]
    along = np.linspace(0, 1, 20)
    figure = plots.ordinal_curves(along, np.stack([1 - along, (1 - along) / 2], axis=1), (1, 2, 3), "signal")
    assert len(figure.axes[0].lines) == 2 and len(figure.axes[1].collections) == 3


@pytest.mark.parametrize("found", [True, False])
def test_hernias_show_both_points_or_the_true_one(found):
    mask = np.zeros((60, 50), np.uint8)
    mask[20:30, 5:25], mask[:, 30:40] = 202, 100
    point = (25.0, 20.0)
    picture = plots.HerniaPicture(mask.astype(float), mask, (1.0, 0.8), point if found else None, point, "one")
    figure = plots.hernia_pictures([picture])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["spinal canal", "disc", "true top point", "measured top point"][: 3 + found]
    assert sum(ax.get_visible() for ax in figure.axes) == 1
