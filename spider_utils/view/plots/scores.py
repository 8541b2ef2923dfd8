"""Training curves and scores: by epoch, by patient, with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from spider_utils.evaluation.statistics import bootstrap_interval
from spider_utils.view.plots.columns import need_columns
from spider_utils.view.plots.figures import CourseFigure, new_figure
from spider_utils.view.plots.style import LINE_STYLES, PALETTE, styled


@styled
def training_curves(history: pd.DataFrame, title: str = "") -> CourseFigure:
    """Loss, validation mean IoU and learning rate by epoch; the best epoch is marked.

    Args:
        history: one row an epoch: ``epoch``, any columns that end in ``loss``, ``val_mean_iou`` and ``learning_rate``. The best
            epoch is the first with the highest ``val_mean_iou``. What is not there is not drawn.

    Raises:
        ValueError: the table has no row, no ``epoch``, or nothing to draw.
    """
    need_columns(history, ["epoch"], "training_curves")
    losses = [column for column in history if str(column).endswith("loss")]
    panels = [(losses, "loss", "linear")] if losses else []
    panels += [([c], label, scale) for c, label, scale in _CURVES if c in history]
    if not panels or history.empty:
        raise ValueError("training_curves needs at least one epoch and one of: a column that ends in loss, " + _CURVES[0][0])
    figure = new_figure(3.2, title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    best = None
    if "val_mean_iou" in history and history["val_mean_iou"].notna().any():
        best = history.loc[history["val_mean_iou"].idxmax()]
    for ax, (columns, label, scale) in zip(axes, panels, strict=True):
        for number, column in enumerate(columns):
            name = str(column).removesuffix("loss").strip("_") or "loss"
            ax.plot(
                history["epoch"], history[column], label=name, color=PALETTE[number], linestyle=LINE_STYLES[number % 4],
                marker="." if len(history) < 40 else None,
            )  # fmt: skip
        if best is not None:
            ax.axvline(best["epoch"], color="#555555", linewidth=1.2, linestyle=":")
        ax.set(xlabel="epoch", ylabel=label, yscale=scale)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            ax.legend()
    if best is not None:
        ax = axes[[label for _, label, _ in panels].index(_CURVES[0][1])]
        ax.plot(best["epoch"], best["val_mean_iou"], "*", color=PALETTE[5], markersize=14)
        ax.set_title(f"best: epoch {best['epoch']:.0f}, {best['val_mean_iou']:.3f}")
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: {', '.join(label for _, label, _ in panels)} by epoch.".removeprefix(": ")
    return figure


_CURVES = (("val_mean_iou", "validation mean IoU", "linear"), ("learning_rate", "learning rate", "log"))
_METRIC_LABELS = {
    "dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall", "f1": "F1", "nsd": "NSD",
    "asd_mm": "ASD (mm)", "hd95_mm": "HD95 (mm)",
}  # fmt: skip


@styled
def metric_distribution(table: pd.DataFrame, metric: str = "dice", by: str = "name", title: str = "") -> CourseFigure:
    """One point a patient, and the mean with its 95 % interval, class by class.

    Args:
        table: rows of ``measure_case`` for many cases, with ``patient`` added.
        metric: the column to show, for example "dice" or "asd_mm".
        by: the column whose values become the lines of the figure, in the table's order.

    Points are means over a patient's cases; so is the mean, and the interval is a bootstrap over patients. Values that
    do not exist (a class absent, or a distance to nothing) are left out and counted at the right.

    Raises:
        ValueError: a column is missing.
    """
    need_columns(table, ["patient", by, metric], "metric_distribution")
    groups = list(dict.fromkeys(table[by]))
    figure = new_figure(0.42 * len(groups) + 1.3, title)
    ax = figure.subplots()
    for line, group in enumerate(groups):
        rows = table[table[by] == group]
        patients = rows.groupby("patient")[metric].mean().dropna()
        # Spread the points by rank, not by chance, so that the figure is the same each time.
        offsets = ((np.arange(len(patients)) * 0.618) % 1 - 0.5) * 0.5
        ax.scatter(patients, line + offsets, s=18, color=PALETTE[4], alpha=0.7, linewidths=0, zorder=2)
        counted = f"n = {len(patients)}"
        if empty := int(rows[metric].isna().sum()):
            counted += f", {empty} case{'s' * (empty > 1)} without value"
        if len(patients):
            found = bootstrap_interval(patients.to_numpy(), patients.index.tolist())
            errors = [[found.estimate - found.low], [found.high - found.estimate]]
            ax.errorbar(found.estimate, line, xerr=errors, fmt="D", color="black", capsize=4, markersize=5, zorder=3)
            counted = f"{found.estimate:.{2 if metric.endswith('_mm') else 3}f}  ({counted})"
        ax.text(1.02, line, counted, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.set_yticks(range(len(groups)), [str(group) for group in groups])
    ax.set_ylim(len(groups) - 0.4, -0.6)
    label = _METRIC_LABELS.get(metric, metric)
    ax.set(xlabel=f"{label} (one point per patient; diamond and bar: mean and 95 % interval)", title=title)
    figure.caption = f"{title}: {label} of each patient by {by}, with mean and 95 % interval.".removeprefix(": ")
    return figure


@styled
def paired_lines(table: pd.DataFrame, ylabel: str, title: str = "") -> CourseFigure:
    """A line a patient from one model to the other: who gains and who loses.

    Args:
        table: one row a patient (index), one column a model.
        ylabel: what the values are.
        title: above the figure.

    Raises:
        ValueError: there is no row, or fewer than two columns.
    """
    if table.empty or table.shape[1] < 2:
        raise ValueError(f"paired_lines needs patients (rows) and two or more models (columns), not a table of {table.shape}")
    figure = new_figure(3.6, title)
    ax = figure.subplots()
    few = len(table) <= 12  # more names would not fit, and more colours could not be told apart
    for number, (patient, values) in enumerate(table.iterrows()):
        look = {"color": PALETTE[number % len(PALETTE)], "linestyle": LINE_STYLES[number // len(PALETTE) % 4]} if few else {}
        ax.plot(table.columns, values, marker="o", label=str(patient), **({"color": PALETTE[4], "alpha": 0.7} | look))
    ax.set(ylabel=ylabel, xlim=(-0.3, table.shape[1] - 0.7), title=title)
    if few:
        figure.legend(loc="outside right center", title="patient")
    figure.caption = f"{title}: {ylabel} with {' and '.join(map(str, table.columns))}, a line a patient.".removeprefix(": ")
    return figure


@styled
def bar_with_intervals(
    table: pd.DataFrame,
    label: str = "name",
    group: str | None = None,
    xlabel: str = "mean with 95 % interval",
    title: str = "",
    colors: Mapping[str, object] | None = None,
) -> CourseFigure:
    """Bars with intervals: classes, or classes by model.

    Args:
        table: one row a bar with ``mean``, ``low``, ``high`` (as ``summarise`` gives, one metric of it), ``label`` and ``group``.
        label: column that names the bars.
        group: column whose values stand side by side in different colours, for example "model".
        xlabel: what the bars mean, with its unit.
        colors: by group; the palette's when None.

    Raises:
        ValueError: a column is missing, or two rows share a label and group.
    """
    need_columns(table, [label, "mean", "low", "high"] + ([group] if group else []), "bar_with_intervals")
    if table.duplicated([label] + ([group] if group else [])).any():
        raise ValueError("bar_with_intervals needs one row a bar; choose one metric and one view of the summary first")
    labels = list(dict.fromkeys(table[label]))
    groups = list(dict.fromkeys(table[group])) if group else [None]
    height = 0.8 / len(groups)
    figure = new_figure(max(0.24 * len(groups), 0.4) * len(labels) + 1.3, title)
    ax = figure.subplots()
    for number, one in enumerate(groups):
        rows = (table if one is None else table[table[group] == one]).set_index(label).reindex(labels)
        places = np.arange(len(labels)) + (number - (len(groups) - 1) / 2) * height
        color = colors[one] if colors else PALETTE[number % len(PALETTE)]
        ax.barh(places, rows["mean"], height * 0.92, color=color, label=one)
        errors = np.abs(rows[["low", "high"]].sub(rows["mean"], axis=0)).to_numpy(dtype=float).T
        ax.errorbar(rows["mean"], places, xerr=errors, fmt="none", ecolor="black", capsize=3, elinewidth=1.3)
        ends = rows["high"].fillna(rows["mean"])
        for place, end, mean in zip(places, ends, rows["mean"], strict=True):
            if np.isfinite(mean):
                ax.annotate(f"{mean:.3f}", (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.margins(x=0.1)
    ax.set_yticks(range(len(labels)), [str(one) for one in labels])
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=xlabel, title=title)
    if group:
        wide = sum(len(str(one)) for one in groups) > 85  # characters, more than a line of the figure holds
        figure.legend(loc="outside lower center", ncols=min(len(groups), 2 if wide else 4), title=group)
    figure.caption = f"{title}: {xlabel}, by {label}{f' and {group}' if group else ''}.".removeprefix(": ")
    return figure
