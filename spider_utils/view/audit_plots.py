"""Figures of the audit: what arithmetic allows, how many printed rows pass, and printed numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from spider_utils.evaluation.arithmetic import Printed, dice_of_iou, harmonic_mean, highest_mean_dice
from spider_utils.evaluation.audit import CONSISTENT, IMPOSSIBLE, UNDECIDED, VERDICTS
from spider_utils.evaluation.published import PrintedRow
from spider_utils.medfusion import title_of
from spider_utils.view.plots import PALETTE, CourseFigure, new_figure, styled

VERDICT_COLORS = {CONSISTENT: PALETTE[0], IMPOSSIBLE: PALETTE[5], UNDECIDED: "#bbbbbb"}
_VERDICT_MARKERS = {CONSISTENT: "o", IMPOSSIBLE: "X", UNDECIDED: "s"}
_DATA_COLORS = tuple(PALETTE[k] for k in (1, 0, 2, 3, 4, 5))
"""Of each kind of data that is drawn; the printed numbers' black is not among them."""
_QUANTITIES = {"iou": "IoU", "dice": "Dice", "auc": "AUC", "accuracy": "accuracy"}


@styled
def dice_and_iou(rows: Sequence[PrintedRow], verdicts: Sequence[str], names: Sequence[str], title: str = "") -> CourseFigure:
    """Printed Dice against printed IoU, over the region that means of the same items can reach.

    Args:
        rows: with the cells ``iou`` and ``dice``.
        verdicts: one of VERDICTS for each.
        names: what to write beside each.
        title: above the figure.
    """
    figure = new_figure(5.0, title)
    ax = figure.subplots()
    iou = np.linspace(0, 1, 201)
    ax.fill_between(iou, iou, highest_mean_dice(iou), color="#e8e8e8", label="possible: mean IoU to 2 mIoU / (1 + mIoU)")
    ax.plot(iou, highest_mean_dice(iou), color="#888888", linewidth=1.5, label="one region: Dice = 2 IoU / (1 + IoU)")
    points = np.array([[float(row.cells[name].value) for name in ("iou", "dice")] for row in rows])
    places = dict(zip(np.argsort(-points[:, 1], kind="stable"), 1.02 - 0.04 * np.arange(len(rows)), strict=True))
    for k, (x, y) in enumerate(points):
        ax.plot(x, y, _VERDICT_MARKERS[verdicts[k]], color=VERDICT_COLORS[verdicts[k]], markersize=9, markeredgecolor="white")
        arrow = {"arrowstyle": "-", "color": "#aaaaaa", "shrinkB": 5, "relpos": (0, 0.5)}
        ax.annotate(names[k], (x, y), (1.03, places[k]), fontsize=9, va="center", arrowprops=arrow)
    lowest = max(0.0, points.min() - 0.05)
    ax.set(xlabel="printed IoU", ylabel="printed Dice", xlim=(lowest, 1.0), ylim=(lowest, 1.03), title=title)
    marks = [
        Line2D([], [], color=VERDICT_COLORS[one], marker=_VERDICT_MARKERS[one], linestyle="", markersize=9, label=one)
        for one in VERDICTS
        if one in verdicts
    ]
    ax.legend(handles=[*ax.get_legend_handles_labels()[0], *marks], loc="lower right")
    figure.caption = f"{title}: printed Dice against printed IoU, and the region that means can reach.".removeprefix(": ")
    return figure


@styled
def line_of_scores(
    listing: Sequence[PrintedRow], ends: Mapping[str, PrintedRow], best: PrintedRow, title: str = ""
) -> CourseFigure:
    """Averages of two networks' scores, the line on which they must lie, and the pair that is called best.

    Args:
        listing: a printed row a weight, with the cells ``iou`` and ``dice``.
        ends: name of a network -> its row, of the two whose scores are averaged.
        best: the row that is called best.
        title: above the figure.
    """
    figure = new_figure(4.6, title)
    ax = figure.subplots()
    points, tips, star = (
        np.array([[float(row.cells[name].value) for name in ("iou", "dice")] for row in rows])
        for rows in (listing, ends.values(), [best])
    )
    ax.plot(*tips.T, color=PALETTE[4], label="line between the two networks")
    ax.plot(*points.T, "o", color=PALETTE[0], label="printed listing")
    ax.plot(
        *star.T, "*", color=PALETTE[5], markersize=15, label=f"called best: IoU {best.cells['iou']}, Dice {best.cells['dice']}"
    )
    iou = np.linspace(*np.sort(tips[:, 0]), 50)
    ax.plot(iou, highest_mean_dice(iou), color="#888888", linestyle="--", label="highest mean Dice that the IoU allows")
    for name, place in zip(ends, tips, strict=True):
        ax.annotate(name, place, xytext=(8, 4), textcoords="offset points")
    ax.set(xlabel="IoU", ylabel="Dice", title=title)
    ax.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=2)
    figure.caption = f"{title}: printed averages of scores, the line between their ends, and the pair called best.".removeprefix(
        ": "
    )
    return figure


@styled
def f1_and_neighbours(rows: Sequence[PrintedRow], names: Sequence[str], title: str = "") -> CourseFigure:
    """Three numbers that are one for every region: Dice as printed, F1 from IoU and from precision and recall, minus printed F1.

    Args:
        rows: with the cells ``iou``, ``dice``, ``precision``, ``recall`` and ``f1``.
        names: what to write beside each.
        title: above the figure.
    """
    figure = new_figure(0.36 * len(rows) + 1.6, title)
    ax = figure.subplots()
    ax.axvline(0, color="black", linewidth=1)
    styles = {"Dice": ("X", PALETTE[5]), "F1 from IoU": ("o", PALETTE[0]), "F1 from P and R": ("D", PALETTE[1])}
    for place, row in enumerate(rows):
        cells = {name: cell.value for name, cell in row.cells.items()}
        found = {
            "Dice": cells["dice"],
            "F1 from IoU": dice_of_iou(cells["iou"]),
            "F1 from P and R": harmonic_mean(cells["precision"], cells["recall"]),
        }
        for shift, (label, value) in zip((-0.18, 0, 0.18), found.items(), strict=True):
            marker, color = styles[label]
            ax.plot(
                float(value - cells["f1"]), place + shift, marker, color=color, markersize=7, label=label if not place else None
            )
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set(xlabel="difference from the printed F1", title=title)
    figure.legend(loc="outside lower center", ncols=3)
    figure.caption = f"{title}: Dice, F1 from IoU and F1 from precision and recall, minus the printed F1.".removeprefix(": ")
    return figure


@styled
def verdict_bars(counts: pd.DataFrame, title: str = "") -> CourseFigure:
    """How many printed rows of each source are consistent, impossible or undecided.

    Args:
        counts: of audit.verdict_counts.
        title: above the figure.
    """
    figure = new_figure(0.45 * len(counts) + 1.5, title)
    ax = figure.subplots()
    left = np.zeros(len(counts))
    for verdict in VERDICTS:
        ax.barh(range(len(counts)), counts[verdict], left=left, color=VERDICT_COLORS[verdict])
        for place, (start, size) in enumerate(zip(left, counts[verdict], strict=True)):
            if size >= 3:
                ax.text(
                    start + size / 2,
                    place,
                    str(size),
                    ha="center",
                    va="center",
                    fontsize=10,
                    color="white" if verdict != UNDECIDED else "black",
                )
        left += counts[verdict].to_numpy()
    ax.set_yticks(range(len(counts)), counts.index)
    ax.set_ylim(len(counts) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="printed rows", title=title)
    figure.legend(handles=[Patch(color=VERDICT_COLORS[one], label=one) for one in VERDICTS], loc="outside lower center", ncols=3)
    figure.caption = f"{title}: number of printed rows with each verdict, source by source.".removeprefix(": ")
    return figure


@styled
def printed_beside_ours(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Printed scores beside ours with their intervals, a line a printed number.

    Args:
        table: lines of side_by_side that hold a measurement between 0 and 1, of one protocol.
        title: above the figure.

    Raises:
        ValueError: a line holds no measurement, or one that is no share, or there are more than six kinds of data.
    """
    if not table["measured"].between(0, 1).all():
        raise ValueError("printed_beside_ours draws measured shares between 0 and 1")
    keys = ["source", "table", "row", "quantity"]
    lines, data = table[keys].drop_duplicates().reset_index(drop=True), list(dict.fromkeys(table["data"]))
    if len(data) > len(_DATA_COLORS):
        raise ValueError(f"printed_beside_ours has colours for {len(_DATA_COLORS)} kinds of data, not for {len(data)}")
    figure = new_figure(0.27 * len(lines) + 1.6, title)
    ax = figure.subplots()
    for place, line in lines.iterrows():
        for row in table[(table[keys] == line).all(axis=1)].to_dict("records"):
            kind = data.index(row["data"])
            shift = 0.0 if len(data) == 1 else np.linspace(-0.2, 0.2, len(data))[kind]
            ends = [[row["measured"] - row["low"]], [row["high"] - row["measured"]]] if row["low"] == row["low"] else None
            style = {"fmt": "D", "color": _DATA_COLORS[kind], "markersize": 5, "capsize": 3, "linewidth": 1.5}
            ax.errorbar(row["measured"], place + shift, xerr=ends, **style)
            ax.plot(float(Printed(row["printed"]).value), place, "x", color=PALETTE[6], markeredgewidth=2, markersize=7)
    names = [
        f"{row.source}: {_name(row.row)}, {_QUANTITIES.get(row.quantity, '')}".removesuffix(", ") for row in lines.itertuples()
    ]
    ax.set_yticks(range(len(lines)), names, fontsize=9)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set(xlabel="score", title=title)
    ours = [Line2D([], [], color=_DATA_COLORS[k], marker="D", label=f"ours, {one}") for k, one in enumerate(data)]
    theirs = Line2D([], [], color=PALETTE[6], marker="x", markeredgewidth=2, linestyle="", label="printed")
    figure.legend(handles=[theirs, *ours], loc="outside lower center", ncols=2)
    figure.caption = f"{title}: printed scores, and ours with 95 % intervals over patients.".removeprefix(": ")
    return figure


def _name(row: str) -> str:
    """The name of a printed row, or of the mean over several."""
    what = {"* [dvs]*": "all sequences, mean of 3 classes", "*": "all sequences, mean of 4 classes"}
    if row in what:
        return what[row]
    for pattern, text in ((" [dvs]*", ", mean of 3 classes"), (" *", ", mean of 4 classes")):
        row = row.replace(pattern, text)
    return title_of(row)
