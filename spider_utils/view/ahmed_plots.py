"""Figures of `ahmed`: the ladder of ways of testing, and what each class has of the slices."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.labels import get_scheme
from spider_utils.view.plots import PALETTE, CourseFigure, bar_with_intervals, new_figure, styled

_COPIER, _PRINTED = "#999999", PALETTE[5]
_BACKGROUND = "#dddddd"
_LOOKS = (("o-", 11), ("s--", 6), ("^:", 5))  # marker and line, size: lines that lie on one another stay visible


def ladder(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """The rungs of a ladder as numbered bars, and below them, in colours of their own, the copier and what is printed.

    Args:
        table: of ``Ladder.table``: its rungs, then the copier and the printed mean.
        title: above the figure.
    """
    rungs = [f"{number}. {name}" for number, name in enumerate(table["rung"].iloc[:-2], start=1)]
    named = table.assign(rung=[*rungs, *table["rung"].iloc[-2:]])
    figure = bar_with_intervals(named, label="rung", xlabel="mean Dice (95 % interval over patients)", title=title)
    for bar, color in zip(figure.axes[0].patches[-2:], (_COPIER, _PRINTED), strict=True):
        bar.set_color(color)
    figure.caption = (
        f"Mean Dice under {len(rungs)} ways of testing (blue), of a copied neighbouring mask (gray), and as printed (orange)."
    )
    return figure


@styled
def class_balance(shares: pd.DataFrame, complete: pd.DataFrame) -> CourseFigure:
    """What each class has of the pixels (left), and which slices show all classes, by their place in the series (right).

    Args:
        shares: a row a sequence, a column a class of ``structures4``, background first; each row sums to 1.
        complete: a row a place from the centre of a series to its edge, a column a sequence: share of slices with all classes.
    """
    scheme = get_scheme("structures4")
    colors = [_BACKGROUND, *(np.array(scheme.colors[value]) / 255 for value in (1, 2, 3))]
    figure = new_figure(3.4, "Left: mean share of each class. Right: share of slices with all classes, by place in the series.")
    left, right = figure.subplots(1, 2)
    for number, (name, color) in enumerate(zip(shares, colors, strict=True)):
        left.barh(shares.index, shares[name], left=shares.iloc[:, :number].sum(axis=1), color=color, label=name)
    left.set(xlabel="share of the pixels", xlim=(0, 1))
    for sequence, (style, size) in zip(complete, _LOOKS, strict=False):
        look = {"color": "black", "markerfacecolor": "none", "markersize": size, "label": sequence}
        right.plot(complete.index.astype(str), complete[sequence], style, **look)
    right.set(xlabel="place in the series", ylabel="share of slices with all classes", ylim=(-0.03, 1.03))
    right.margins(x=0.08)
    right.legend()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
