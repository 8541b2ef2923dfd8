"""Figures of phantoms and patients: scores on two kinds of looks, and what phantoms are worth on real patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from spider_utils.view.plots import LINE_STYLES, PALETTE, CourseFigure, new_figure, styled
from spider_utils.view.plots.columns import need_columns

LOOK_COLORS = {"hospital": PALETTE[0], "random": PALETTE[1]}
_STARTS = {"random": ("from random weights", PALETTE[6]), "phantoms": ("from weights of phantoms", PALETTE[2])}
_MARKERS = "os"


@styled
def dice_by_looks(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Dice of networks on phantoms of hospital and of random looks: a point a patient, a diamond with a bar for mean and spread.

    Args:
        table: a row a patient and structure, with network, looks ("hospital" or "random"), patient, name and dice.
        title: above the figure.

    Raises:
        ValueError: a column is missing.
    """
    need_columns(table, ["network", "looks", "patient", "name", "dice"], "dice_by_looks")
    names, networks = (list(dict.fromkeys(table[column])) for column in ("name", "network"))
    figure = new_figure(4.2, title)
    axes = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for ax, network in zip(axes, networks, strict=True):
        for number, (look, color) in enumerate(LOOK_COLORS.items()):
            for k, name in enumerate(names):
                chosen = (table["network"] == network) & (table["looks"] == look) & (table["name"] == name)
                values = table.loc[chosen, "dice"].dropna().to_numpy()
                place = k + 0.4 * number - 0.2
                # Spread the points by rank, not by chance, so that the figure is the same each time.
                offsets = ((np.arange(len(values)) * 0.618) % 1 - 0.5) * 0.2
                ax.scatter(place + offsets, values, s=20, color=color, marker=_MARKERS[number], alpha=0.55, linewidths=0)
                if len(values):
                    spread = values.std(ddof=1) if len(values) > 1 else 0.0
                    ax.errorbar(place, values.mean(), yerr=spread, fmt="D", color="black", capsize=4, markersize=5, zorder=3)
        ax.set_xticks(range(len(names)), names, fontsize=9)
        ax.set(title=network, xlim=(-0.5, len(names) - 0.5), ylim=(0, 1))
        ax.title.set_fontsize(11)
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("Dice")
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=color, label=f"{look} looks")
        for marker, (look, color) in zip(_MARKERS, LOOK_COLORS.items(), strict=True)
    ]
    handles.append(Line2D([], [], color="black", marker="D", markersize=5, label="mean, with standard deviation"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    if title:
        figure.suptitle(title)
    figure.caption = (
        f"{title}: Dice of each patient by structure, network and looks, with mean and standard deviation.".removeprefix(": ")
    )
    return figure


@styled
def ladder_plot(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Dice on real patients against the number of phantoms learned from: a panel a structure, a line for the looks.

    Args:
        table: of evidence.worth.kept_ladder.
        title: above all panels.

    Raises:
        ValueError: a column is missing, or there is no Dice.
    """
    lines = {look: (f"{look} looks", color) for look, color in LOOK_COLORS.items()}
    return _curves(table, "looks", lines, "phantoms", "phantoms learned from", title)


@styled
def sizes_plot(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Dice against the number of real training patients, from random weights and from those of phantoms: a panel a structure.

    Args:
        table: of evidence.worth.kept_sizes.
        title: above all panels.

    Raises:
        ValueError: a column is missing, or there is no Dice.
    """
    return _curves(table, "start", _STARTS, "learned", "real patients learned from", title)


def _curves(
    table: pd.DataFrame, kind: str, lines: Mapping[str, tuple[str, str]], count: str, xlabel: str, title: str
) -> CourseFigure:
    """Dice with intervals by structure, against a number of patients on a logarithmic axis.

    Args:
        kind: column that tells the lines apart.
        lines: value of it -> (what the legend says, colour).
        count: column with the numbers of patients; ``xlabel`` says what they are.
    """
    need_columns(table, [kind, count, "name", "metric", "mean", "low", "high"], "the figure")
    rows = table[table["metric"] == "dice"]
    if rows.empty:
        raise ValueError("the figure needs rows with the metric 'dice'")
    names, counts = list(dict.fromkeys(rows["name"])), sorted(set(rows[count]))
    figure = new_figure(3.8, title)
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        for number, (value, (label, color)) in enumerate(lines.items()):
            part = rows[(rows["name"] == name) & (rows[kind] == value)].sort_values(count)
            lengths = np.stack([part["mean"] - part["low"], part["high"] - part["mean"]]).astype(float)
            ax.errorbar(
                part[count] * (1 + 0.06 * number),  # a little aside, so that intervals do not hide each other
                part["mean"],
                yerr=np.clip(np.nan_to_num(lengths), 0, None),
                capsize=3,
                color=color,
                marker=_MARKERS[number],
                linestyle=LINE_STYLES[number],
                label=label,
            )
        ax.set_xscale("log")
        ax.set_xticks(counts, [str(one) for one in counts])
        ax.set_xticks([], minor=True)
        ax.set(title=name, xlim=(counts[0] / 1.3, counts[-1] * 1.4))
        ax.set_xlabel(xlabel, fontsize=9.5)
        ax.title.set_fontsize(11)
    axes[0].set_ylabel("Dice on real patients")
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=len(lines))
    if title:
        figure.suptitle(title)
    told = " and ".join(label for label, _ in lines.values())
    what = f"Dice on real patients by structure against the number of {xlabel} (logarithmic axis), {told}"
    figure.caption = f"{title}: {what}, with 95 % intervals over patients.".removeprefix(": ")
    return figure
