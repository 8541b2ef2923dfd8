"""Figures of phantoms and patients: they draw what tables hold, and say in words what they show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.view import phantom_plots as plots

LADDER = pd.DataFrame(
    [
        ("hospital", 10, "disc", "dice", 0.3, 0.2, 0.5),
        ("hospital", 40, "disc", "dice", 0.4, np.nan, np.nan),
        ("random", 40, "disc", "dice", 0.7, 0.6, 0.75),
        ("random", 10, "disc", "dice", 0.6, 0.5, 0.7),
        ("random", 10, "disc", "asd_mm", 3.0, 2.0, 4.0),
        ("random", 10, "spinal canal", "dice", 0.8, 0.7, 0.9),
    ],
    columns=["looks", "phantoms", "name", "metric", "mean", "low", "high"],
)


def drawn(ax) -> dict[str, tuple[list[float], list[float]]]:
    """Label of a line with intervals -> its counts and means."""
    return {one.get_label(): tuple(list(axis) for axis in one.lines[0].get_data()) for one in ax.containers}


def test_the_ladder_has_a_panel_a_structure_and_a_line_for_the_looks():
    figure = plots.ladder_plot(LADDER, "Ladder")
    assert [ax.get_title() for ax in figure.axes] == ["disc", "spinal canal"]
    lines = drawn(figure.axes[0])
    assert lines["hospital looks"] == ([10, 40], [0.3, 0.4]) and lines["random looks"][1] == [0.6, 0.7]
    assert figure.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["10", "40"]
    bars = figure.axes[0].containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[0.2, 0.5], [0.4, 0.4]])  # none where there is no interval
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hospital looks", "random looks"]
    assert figure.caption.startswith("Ladder: Dice on real patients by structure against the number of phantoms learned from")


def test_sizes_tell_the_starts_apart():
    table = LADDER.rename(columns={"looks": "start", "phantoms": "learned"}).replace({"start": {"hospital": "phantoms"}})
    figure = plots.sizes_plot(table)
    assert set(drawn(figure.axes[0])) == {"from random weights", "from weights of phantoms"}
    assert drawn(figure.axes[0])["from weights of phantoms"][1] == [0.3, 0.4]
    assert figure.caption.startswith("Dice on real patients") and "real patients learned from" in figure.caption
    with pytest.raises(ValueError, match=r"needs the column\(s\) start, learned"):
        plots.sizes_plot(LADDER)
    with pytest.raises(ValueError, match="metric 'dice'"):
        plots.sizes_plot(table[table["metric"] == "asd_mm"])


def test_a_point_a_patient_with_mean_and_spread():
    rows = [("a", look, patient, name, dice) for look, values in (("hospital", (0.8, 0.9)), ("random", (0.2, np.nan)))
            for patient, dice in enumerate(values) for name in ("disc", "vertebra")]  # fmt: skip
    table = pd.DataFrame(rows, columns=["network", "looks", "patient", "name", "dice"])
    figure = plots.dice_by_looks(table, "Looks")
    (ax,) = figure.axes
    points = [list(one.get_offsets()[:, 1]) for one in ax.collections if len(one.get_offsets()) and one.get_offsets()[0][1] > 0]
    assert [0.8, 0.9] in points and [0.2] in points
    means = [float(one.lines[0].get_ydata()[0]) for one in ax.containers]
    np.testing.assert_allclose(means, [0.85, 0.85, 0.2, 0.2])
    reach = np.ptp(ax.containers[0].lines[2][0].get_segments()[0][:, 1])
    assert reach == pytest.approx(2 * np.std([0.8, 0.9], ddof=1))
    assert figure.caption.startswith("Looks: Dice of each patient by structure, network and looks")
    with pytest.raises(ValueError, match=r"column\(s\) dice"):
        plots.dice_by_looks(table.drop(columns="dice"))
