"""Figures of a sweep: what its models score, how they learned, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from spider_utils.evaluation.statistics import FOREGROUND_NAME
from spider_utils.view.plots import LINE_STYLES, PALETTE, CourseFigure, new_figure, styled

MOST_CLASSES = 6  # with more, such as twenty levels, the mean alone is drawn
PANELS_A_ROW = 3


@styled
def model_scores(table: pd.DataFrame, runs: pd.DataFrame) -> CourseFigure:
    """Mean Dice of every model by structure with its 95 % interval over patients; a point each run for the mean of structures.

    Args:
        table: rows of sweeps.gather.sweep_table with a column ``title``.
        runs: rows of sweeps.gather.run_table with the same column.
    """
    dice = table[table["metric"] == "dice"]
    names = list(dict.fromkeys(dice["name"]))
    names = [FOREGROUND_NAME, *(name for name in names if name != FOREGROUND_NAME)] if len(names) <= MOST_CLASSES + 1 else []
    names, titles = names or [FOREGROUND_NAME], list(dict.fromkeys(dice["title"]))
    step = 0.8 / len(titles)
    figure = new_figure(0.26 * len(names) * len(titles) + 0.28 * -(-len(titles) // 2) + 1.3, "")
    ax = figure.subplots()
    for number, title in enumerate(titles):
        rows = dice[dice["title"] == title].set_index("name").reindex(names)
        lines = np.arange(len(names)) + (number - (len(titles) - 1) / 2) * step
        errors = np.nan_to_num([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
        color = PALETTE[number % len(PALETTE)]
        ax.errorbar(rows["mean"], lines, xerr=errors, fmt="D", color=color, capsize=3, markersize=5, label=title)
        of_runs = runs.loc[runs["title"] == title, "dice"]
        ax.scatter(of_runs, np.full(len(of_runs), lines[0] + 0.3 * step), s=16, color=color, alpha=0.6, linewidths=0)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set(xlabel="Dice (diamond and bar: mean and 95 % interval over patients; points: single runs)")
    figure.legend(loc="outside upper center", ncols=2)
    figure.caption = "Mean Dice of each model by structure, with 95 % intervals over patients; points are single runs."
    return figure


@styled
def model_curves(histories: Mapping[str, Mapping[str, pd.DataFrame]]) -> CourseFigure:
    """Validation mean IoU by epoch: a panel a model, a line a run.

    Args:
        histories: title of a model -> name of a run -> its history (epoch, val_mean_iou).
    """
    rows = -(-len(histories) // PANELS_A_ROW)
    figure = new_figure(2.6 * rows, "Validation mean IoU by epoch, a panel a model and a line a run.")
    axes = figure.subplots(rows, min(len(histories), PANELS_A_ROW), squeeze=False, sharex=True, sharey=True)
    for ax, (title, runs) in zip(axes.flat, histories.items(), strict=False):
        for number, (name, history) in enumerate(runs.items()):
            style = LINE_STYLES[number // len(PALETTE) % len(LINE_STYLES)]
            ax.plot(
                history["epoch"], history["val_mean_iou"], label=name, color=PALETTE[number % len(PALETTE)], linestyle=style,
                marker="." if len(history) < 40 else None,
            )  # fmt: skip
        ax.set_title(title, fontsize=10)
        if len(runs) <= MOST_CLASSES:
            ax.legend(fontsize=8)
    for ax in axes.flat[len(histories) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("validation mean IoU")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.set_xlim(0.5, 0.5 + max(len(history) for runs in histories.values() for history in runs.values()))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


@styled
def run_costs(runs: pd.DataFrame) -> CourseFigure:
    """Seconds of training and the most memory of every run, a line a model.

    Args:
        runs: rows of sweeps.gather.run_table with a column ``title``.
    """
    titles = list(dict.fromkeys(runs["title"]))
    figure = new_figure(0.35 * len(titles) + 1.1, "Seconds of training and most memory held, a point a run.")
    on_gpu = runs["gpu_memory_mb"].notna().any()
    panels = {"seconds": "seconds of training", "memory_mb": "most memory of the process (MB)"}
    panels |= {"gpu_memory_mb": "most memory on the GPU (MB)"} if on_gpu else {}
    for ax, (column, label) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        for line, title in enumerate(titles):
            values = runs.loc[runs["title"] == title, column]
            ax.scatter(values, np.full(len(values), line), s=28, color=PALETTE[line % len(PALETTE)], alpha=0.7, linewidths=0)
        ax.set(xlabel=label)
        ax.set_xlim(left=0)
        ax.set_yticks(range(len(titles)), titles)
        ax.set_ylim(len(titles) - 0.5, -0.5)
    return figure
