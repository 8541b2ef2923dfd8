"""Figures of the audit: what is drawn is what the tables hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.evaluation.arithmetic import Printed
from spider_utils.evaluation.audit import CONSISTENT, IMPOSSIBLE, UNDECIDED
from spider_utils.evaluation.published import PrintedRow, printed_rows
from spider_utils.view import audit_plots

BESIDE = pd.DataFrame(
    {
        "source": ["ahmed", "ahmed", "triplanar"],
        "table": "t",
        "row": ["t2_SPACE [dvs]*", "t2_SPACE [dvs]*", "hernia"],
        "quantity": ["dice", "dice", "iou"],
        "printed": ["0.97", "0.97", "0.66"],
        "data": ["phantom", "real", "phantom"],
        "measured": [0.87, 0.88, 0.7],
        "low": [0.8, np.nan, 0.6],
        "high": [0.9, np.nan, 0.8],
    }
)


def test_rows_are_marked_by_their_verdict():
    rows = printed_rows("medfusion_table2").rows[:3]
    figure = audit_plots.dice_and_iou(rows, [IMPOSSIBLE, CONSISTENT, CONSISTENT], ["a", "b", "c"], "Table 2")
    ax = figure.axes[0]
    points = {
        tuple(float(value[0]) for value in line.get_data()): line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1
    }
    assert points == {(0.41, 0.67): "X", (0.8, 0.986): "o", (0.85, 0.89): "o"}
    assert {text.get_text() for text in ax.texts} == {"a", "b", "c"} and figure.caption.startswith("Table 2: printed Dice")
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert np.diff(heights).min() > 0.03, "names lie over each other"


def test_a_low_dice_is_drawn():
    low = PrintedRow("ahmed", "t", "low", {"iou": Printed("0.30"), "dice": Printed("0.41")}, {})
    ax = audit_plots.dice_and_iou([low, *printed_rows("medfusion_table2").rows[:1]], [CONSISTENT, IMPOSSIBLE], ["a", "b"]).axes[0]
    assert ax.get_ylim()[0] < 0.41 and ax.get_xlim()[0] < 0.30


def test_averages_lie_between_their_ends():
    table2, best = printed_rows("medfusion_table2"), printed_rows("medfusion_best")["best weights"]
    ends = {"U-Net++": table2["unetplusplus"], "ResUNet": table2["resunet"]}
    ax = audit_plots.line_of_scores(printed_rows("medfusion_weights").rows, ends, best, "Weights").axes[0]
    line, dots, star, bound = (line.get_data() for line in ax.lines)
    assert len(dots[0]) == 17 and (star[0][0], star[1][0]) == (0.822, 0.989) and star[1][0] > bound[1].max()
    np.testing.assert_allclose(np.interp(dots[0], *line), dots[1], atol=4e-4)
    assert [text.get_text() for text in ax.texts] == ["U-Net++", "ResUNet"]


def test_distances_from_the_printed_f1():
    rows = printed_rows("ahmed_table2").rows
    figure = audit_plots.f1_and_neighbours(rows, [row.row for row in rows], "Table 2")
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines[1:]]
    assert len(drawn) == 36 and drawn[0] == pytest.approx(0.9950 - 0.9953)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][-1] == "t2 spinal canal"


def test_bars_hold_all_rows():
    counts = pd.DataFrame({CONSISTENT: [4, 1], IMPOSSIBLE: [3, 0], UNDECIDED: [5, 2]}, index=["ahmed", "unetr"])
    figure = audit_plots.verdict_bars(counts, "Verdicts")
    bars = figure.axes[0].patches
    assert sum(bar.get_width() for bar in bars) == 15
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "3", "5"], "small parts have no room for their number"


def test_printed_and_ours_stand_on_one_line():
    figure = audit_plots.printed_beside_ours(BESIDE, "Both")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "ahmed: t2_SPACE, mean of 3 classes, Dice",
        "triplanar: hernia, IoU",
    ]
    crosses = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "x"]
    assert set(crosses) == {(0.97, 0), (0.66, 1)}
    assert len(ax.containers) == 3 and sum(box.has_xerr for box in ax.containers) == 2
    kinds = pd.concat([BESIDE.iloc[:1].assign(data=f"kind {k}") for k in range(6)])
    colors = {handle.get_color() for handle in audit_plots.printed_beside_ours(kinds).legends[0].get_lines()}
    assert len(colors) == 7, "six kinds of data and the printed number"
    with pytest.raises(ValueError, match="colours for 6 kinds of data, not for 7"):
        audit_plots.printed_beside_ours(pd.concat([kinds, kinds.iloc[:1].assign(data="one more")]))
    with pytest.raises(ValueError, match="shares between 0 and 1"):
        audit_plots.printed_beside_ours(BESIDE.assign(measured=13.0))
