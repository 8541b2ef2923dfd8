"""Figures of ensembles: the score of every weight of a pair, what ensembles gain, printed results beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from spider_utils.ensemble import PairWeight
from spider_utils.evaluation.arithmetic import highest_mean_dice
from spider_utils.medfusion import GRID, TITLES, title_of
from spider_utils.view.plots import PALETTE, CourseFigure, new_figure, styled


@styled
def printed_weights(
    listing: pd.DataFrame,
    lines: Mapping[str, pd.DataFrame],
    best_weight: float,
    best: Mapping[str, float],
    first: str,
) -> CourseFigure:
    """A printed list of weights on the straight line between two networks' scores, a panel a metric, with the printed best.

    Args:
        listing: as printed: weight, and a column of scores a metric.
        lines: metric -> weight and score, as ``as_published`` gives them.
        best_weight: the weight that is printed as the best.
        best: metric -> its printed score.
        first: name of the network that the weight belongs to.
    """
    figure = new_figure(3.6, "")
    for ax, (metric, line) in zip(figure.subplots(1, len(lines)), lines.items(), strict=True):
        ax.plot(line["weight"], line["score"], color=PALETTE[4], label="line between two rows of the table")
        ax.plot(listing["weight"], listing[metric], "o", color=PALETTE[0], markersize=5, label="printed listing")
        ax.plot(best_weight, best[metric], "*", color=PALETTE[5], markersize=14, label="printed best")
        name = {"iou": "IoU", "dice": "Dice"}.get(metric, metric)
        on_line = np.interp(best_weight, line["weight"][::-1], line["score"][::-1])
        ax.set(xlabel=f"weight of {first}", ylabel=f"{name} as printed")
        ax.set_title(f"{name} at {best_weight}: line {on_line:.3f}, printed {best[metric]:.3f}", fontsize=11)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.caption = "Printed scores of an ensemble by weight, the straight line between its two networks, and the printed best."
    return figure


@styled
def weight_curves(pairs: Mapping[str, PairWeight], title: str = "") -> CourseFigure:
    """The score of every weight, a panel a pair: the exact curve, the source's 21 weights, and the best weight of all.

    Args:
        pairs: by "<first>+<second>", as FusionStudy has them.
        title: above all panels.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("weight_curves needs at least one pair")
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure = new_figure(2.5 * lines + 0.7, title)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(pairs) :]:
        ax.set_axis_off()
    for ax, (name, best) in zip(axes, pairs.items(), strict=False):
        ax.plot(
            best.curve[["low", "high"]].to_numpy().ravel(), np.repeat(best.curve["score"], 2), color=PALETTE[0], linewidth=1.3
        )
        ax.plot(GRID, best.at(GRID), "o", color=PALETTE[1], markersize=4)
        ax.plot(best.weight, best.score, "*", color=PALETTE[5], markersize=13, clip_on=False, zorder=5)
        first, second = (TITLES.get(part, part) for part in name.split("+"))
        ax.set_title(f"{first} + {second}", fontsize=10)
        ax.set(xlabel=f"weight of {first}", xlim=(-0.02, 1.02))
        ax.set_ylabel("mean Dice, validation" if ax.get_subplotspec().is_first_col() else "")
        ax.ticklabel_format(axis="y", useOffset=False)
    shown = [axes[0].lines[k] for k in range(3)]
    figure.legend(shown, ["every weight (exact)", "21 weights of the source's grid", "best"], loc="outside lower center", ncols=3)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: validation Dice of every weight, of {len(GRID)} weights, and the best.".removeprefix(": ")
    return figure


def _name_lines(ax: Axes, models: pd.Series) -> None:
    """A line of the figure for each network or ensemble, the first on top."""
    ax.set_yticks(range(len(models)), [title_of(model) for model in models])
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


@styled
def differences(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """What each ensemble gains or loses, with its interval; filled where the interval does not hold zero.

    Args:
        table: of FusionStudy.against_best_single.
        title: above the figure.
    """
    figure = new_figure(0.36 * len(table) + 1.3, title)
    ax = figure.subplots()
    ax.axvline(0, color="black", linewidth=1)
    for place, row in enumerate(table.itertuples()):
        clear = row.low > 0 or row.high < 0
        errors = [[row.difference - row.low], [row.high - row.difference]]
        ax.errorbar(
            row.difference,
            place,
            xerr=errors,
            fmt="D",
            color=PALETTE[0],
            markerfacecolor=PALETTE[0] if clear else "white",
            capsize=4,
        )
        ax.text(1.02, place, f"{row.difference:+.4f}", transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    _name_lines(ax, table["ensemble"])
    ax.set(xlabel="difference of mean Dice, with 95 % interval (white: it holds zero)", title=title)
    figure.caption = f"{title}: difference of mean Dice with its 95 % interval over patients.".removeprefix(": ")
    return figure


@styled
def printed_beside_measured(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Dice as `medfusion` prints it beside ours, a line a network or pair, and the highest Dice that its printed IoU allows.

    Args:
        table: of FusionStudy.table2.
        title: above the figure.
    """
    figure = new_figure(0.42 * len(table) + 1.7, title)
    ax = figure.subplots()
    places = np.arange(len(table))
    allowed = highest_mean_dice(table["printed_iou"])
    for place, most, possible in zip(places, allowed, table["possible"], strict=True):
        ax.barh(
            place, most, 0.7, color="#e8e8e8", edgecolor="none", label="possible with the printed IoU" if place == 0 else None
        )
        if not possible:
            ax.text(1.012, place, "impossible", transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=PALETTE[5])
    ax.plot(table["printed_dice"], places, "x", color=PALETTE[5], markeredgewidth=2.5, markersize=9, label="printed Dice")
    errors = np.abs(table[["low", "high"]].sub(table["dice"], axis=0)).to_numpy(dtype=float).T
    ax.errorbar(
        table["dice"], places, xerr=errors, fmt="D", color="black", capsize=4, markersize=5, label="measured here, 95 % interval"
    )
    _name_lines(ax, table["model"])
    ax.set(xlabel="mean Dice", xlim=(min(0.35, table["low"].min() - 0.05), 1.0), title=title)
    figure.legend(loc="outside lower center", ncols=3)
    figure.caption = f"{title}: printed Dice, the highest that the printed IoU allows, and Dice measured here.".removeprefix(": ")
    return figure
