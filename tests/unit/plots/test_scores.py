"""Curves and scores show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.evaluation.statistics import bootstrap_interval
from spider_utils.view import plots
from tests.unit.plots.conftest import texts_of


def test_training_curves_mark_the_first_best_epoch(history):
    figure = plots.training_curves(history)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "validation mean IoU", "learning rate"]
    assert figure.axes[1].get_title() == "best: epoch 2, 0.600"
    star = figure.axes[1].lines[-1]
    assert (float(star.get_xdata()[0]), float(star.get_ydata()[0])) == (2.0, 0.6)
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["train", "val"]
    assert figure.axes[2].get_yscale() == "log"


def test_training_curves_draw_what_there_is(history):
    assert len(plots.training_curves(history[["epoch", "train_loss"]]).axes) == 1
    plots.training_curves(history.assign(val_mean_iou=np.nan))
    with pytest.raises(ValueError, match=r"needs the column\(s\) epoch"):
        plots.training_curves(history.drop(columns="epoch"))
    with pytest.raises(ValueError, match="at least one epoch"):
        plots.training_curves(history[["epoch", "seconds"]])


@pytest.fixture
def scores():
    rows = []
    for patient in range(8):
        for case in ("t1", "t2"):
            rows.append({"patient": patient, "case": f"{patient}_{case}", "name": "disc", "dice": 0.7 + 0.03 * patient})
            rows.append({"patient": patient, "case": f"{patient}_{case}", "name": "canal", "dice": 0.9 + 0.01 * (case == "t2")})
    table = pd.DataFrame(rows)
    table.loc[(table["patient"] == 7) & (table["name"] == "disc"), "dice"] = np.nan
    return table


def test_metric_distribution_shows_patients_mean_and_interval(scores):
    ax = plots.metric_distribution(scores).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["disc", "canal"]
    points = [collection for collection in ax.collections if len(collection.get_offsets()) > 1]
    assert np.allclose(points[0].get_offsets()[:, 0], 0.7 + 0.03 * np.arange(7))
    assert np.allclose(points[1].get_offsets()[:, 0], 0.905)
    values = 0.7 + 0.03 * np.arange(7)
    expected = bootstrap_interval(values, range(7))
    (segment,) = ax.containers[0].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([expected.low, expected.high])
    assert texts_of(ax)[0] == f"{values.mean():.3f}  (n = 7, 2 cases without value)"


def test_metric_distribution_survives_a_class_without_values(scores):
    nothing = scores.assign(dice=scores["dice"].where(scores["name"] != "disc"))
    ax = plots.metric_distribution(nothing).axes[0]
    assert texts_of(ax)[0] == "n = 0, 16 cases without value"
    one = plots.metric_distribution(scores[scores["patient"] == 0]).axes[0]
    assert texts_of(one)[0] == "0.700  (n = 1)"
    with pytest.raises(ValueError, match=r"needs the column\(s\) patient"):
        plots.metric_distribution(scores.drop(columns="patient"))


def test_bars_have_their_lengths_and_intervals():
    table = pd.DataFrame(
        {
            "name": ["disc", "disc", "canal"],
            "model": ["a", "b", "a"],  # model b has no canal
            "mean": [0.8, 0.7, 0.9],
            "low": [0.75, 0.6, np.nan],
            "high": [0.85, 0.8, np.nan],
        }
    )
    ax = plots.bar_with_intervals(table, group="model").axes[0]
    widths = [[bar.get_width() for bar in container] for container in ax.containers if hasattr(container, "patches")]
    assert widths[0] == [0.8, 0.9] and widths[1][0] == 0.7 and np.isnan(widths[1][1])
    (segment, _) = ax.containers[1].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([0.75, 0.85])
    assert texts_of(ax) == ["0.800", "0.900", "0.700"]
    with pytest.raises(ValueError, match="one row a bar"):
        plots.bar_with_intervals(table)
