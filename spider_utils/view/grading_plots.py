"""Figures of gradings: how frequent, which together, how well predicted; hernias with their top points."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from spider_utils.labels import convert, get_scheme
from spider_utils.view.plots import PALETTE, CourseFigure, new_figure, show_slice, styled

_COLUMNS = 4
_FEWEST = 5  # discs that a share is drawn of
_MARKERS = "sv^oD"
_CLASSES = get_scheme("structures4")
_CLOSE_UP_MM = 34.0  # half the side of a picture of a hernia


def _with_title(figure: CourseFigure, title: str, what: str) -> CourseFigure:
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: {what}.".removeprefix(": ")
    return figure


def _errors(rows: pd.DataFrame, value: str) -> np.ndarray:
    """Lengths of the bars of an interval (2, n); none where it is not defined."""
    lengths = np.stack([rows[value] - rows["low"], rows["high"] - rows[value]]).astype(float)
    return np.clip(np.nan_to_num(lengths), 0, None)


@styled
def prevalence_by_level(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Share of discs with each finding, a panel a finding, a line a level, with 95 % intervals over patients.

    Args:
        table: of evaluation.prevalence.prevalence with ``by_level``. Levels with fewer than five discs are left out: one disc
            is a share of 0 or 100 %. So are findings of too few discs at a level.
        title: above all panels.
    """
    findings = list(dict.fromkeys(table["finding"]))
    discs = table.groupby("level", sort=False)["discs"].max()
    levels = list(discs.index[discs >= _FEWEST])
    left_out = [f"{level} ({n})" for level, n in discs.items() if n < _FEWEST]
    table = table[table["discs"] >= _FEWEST]
    figure = new_figure(2 * (0.26 * len(levels) + 1.1), title)
    axes = figure.subplots(math.ceil(len(findings) / _COLUMNS), _COLUMNS, squeeze=False, sharey=True)
    for ax, finding in zip(axes.flat, findings, strict=False):
        rows = table[table["finding"] == finding].set_index("level").reindex(levels).reset_index()
        places = np.arange(len(levels))
        share = rows.assign(**{name: 100 * rows[name] for name in ("share", "low", "high")})
        look = {"fmt": "o", "color": PALETTE[0], "capsize": 3, "markersize": 5, "clip_on": False}  # whole points at 0 and 100 %
        ax.errorbar(share["share"], places, xerr=_errors(share, "share"), **look)
        ax.set_yticks(places, [f"{level}, n = {discs[level]}" for level in levels])
        ax.set(title=finding, xlim=(0, 100), ylim=(-0.5, len(levels) - 0.5))
        ax.title.set_fontsize(10.5)
    for ax in axes[-1]:
        ax.set_xlabel("discs (%)")
    for ax in axes.flat[len(findings) :]:
        ax.set_visible(False)
    what = f"share of discs (n graded) with each finding by level, 95 % intervals over patients; from {_FEWEST} discs on"
    return _with_title(figure, title, f"{what}, without {', '.join(left_out)}" if left_out else what)


@styled
def co_occurrence_map(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """By how many percentage points each finding (row) is more frequent where another one (column) is there.

    Args:
        table: of evaluation.prevalence.co_occurrence. Differences whose interval holds zero stand in brackets.
        title: above the figure.
    """
    names = list(dict.fromkeys(table["finding"]))
    wide = {name: table.pivot(index="finding", columns="given", values=name).reindex(index=names, columns=names).to_numpy(float)
            for name in ("difference", "low", "high")}  # fmt: skip
    values = 100 * wide["difference"]
    unsure = ~((wide["low"] > 0) | (wide["high"] < 0))
    figure = new_figure(0.46 * len(names) + 1.9, title)
    ax = figure.subplots()
    most = max(1.0, float(np.nanmax(np.abs(values))))
    shown = ax.imshow(values, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{value:+.0f}" if round(value) else "0"  # never "-0"
            text = f"({text})" if unsure[row, column] else text
            color = "white" if abs(value) > 0.65 * most else "black"
            ax.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    short = [name.replace("dylol", "dylo- l").replace(" to ", "\N{EN DASH}") for name in names]
    ax.set_xticks(range(len(names)), [textwrap.fill(name, 11) for name in short], fontsize=8)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="where this is present ...", ylabel="... this is more frequent by")
    ax.grid(visible=False)
    figure.colorbar(shown, ax=ax, label="difference (percentage points)")
    return _with_title(
        figure,
        title,
        "how much more frequent a finding is in discs with another one; in brackets: the interval holds zero",
    )


@styled
def grade_scores_plot(scores: pd.DataFrame, metric: str, title: str = "") -> CourseFigure:
    """One score of every finding, a marker a model, with 95 % intervals over patients.

    Args:
        scores: of grading.models.grade_table.
        metric: of evaluation.grades.METRICS.
        title: above the figure.

    Raises:
        ValueError: the metric is not in the table.
    """
    table = scores[scores["metric"] == metric]
    if table.empty:
        raise ValueError(f"the table holds no '{metric}'")
    findings, models = list(dict.fromkeys(table["finding"])), list(dict.fromkeys(table["model"]))
    figure = new_figure(0.2 * len(findings) * max(3, len(models)) + 1.5, title)
    ax = figure.subplots()
    for k, model in enumerate(models):
        rows = table[table["model"] == model].set_index("finding").reindex(findings).reset_index()
        places = np.arange(len(findings)) + 0.72 * ((k + 0.5) / len(models) - 0.5)
        look = {"fmt": _MARKERS[k % len(_MARKERS)], "color": (PALETTE[6], *PALETTE)[k % 6], "capsize": 2, "linewidth": 1.4}
        ax.errorbar(rows["value"], places, xerr=_errors(rows, "value"), label=model, **look)
    for border in np.arange(1, len(findings)) - 0.5:
        ax.axhline(border, color="#dddddd", linewidth=0.8)
    ax.set_yticks(range(len(findings)), findings)
    ax.set_ylim(len(findings) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"{metric} (95 % interval over patients)")
    figure.legend(loc="outside lower center", ncols=min(4, len(models)))
    return _with_title(figure, title, f"{metric} of every finding by model, with 95 % intervals over patients")


@styled
def confusion_map(table: pd.DataFrame, name: str, title: str = "") -> CourseFigure:
    """Discs by given and predicted grade: numbers, and shades by share of the given grade.

    Args:
        table: of grading.models.confusion.
        name: of what is graded.
        title: above the figure.
    """
    counts = table.to_numpy(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure(0.5 * len(counts) + 1.4, title)
    ax = figure.subplots()
    shown = ax.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.6 else "black"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=color)
    ax.set_xticks(range(len(counts)), [str(grade) for grade in table.columns])
    ax.set_yticks(range(len(counts)), [str(grade) for grade in table.index])
    ax.set(xlabel=f"predicted {name}", ylabel=f"given {name}")
    ax.grid(visible=False)
    figure.colorbar(shown, ax=ax, label="% of the given grade")
    return _with_title(figure, title, f"discs by given and predicted {name}")


@styled
def ordinal_curves(values: np.ndarray, above: np.ndarray, grades: Sequence[int], xlabel: str, title: str = "") -> CourseFigure:
    """Probability of more than each grade, and of each grade, along one feature.

    Args:
        values: (n,) ascending values of the feature.
        above: (n, grades - 1) of CumulativeLogit.above.
        grades: the model's grades.
        xlabel: name and unit of the feature.
        title: above both panels.
    """
    edges = np.hstack([np.ones((len(above), 1)), above, np.zeros((len(above), 1))])
    small = {"fontsize": 8, "columnspacing": 0.8, "handlelength": 1.2}
    figure = new_figure(3.3, title)
    left, right = figure.subplots(1, 2, sharey=True)
    for k, grade in enumerate(grades[:-1]):
        left.plot(values, above[:, k], color=PALETTE[k], label=f"more than {grade}")
    for k, grade in enumerate(grades):
        right.fill_between(
            values, edges[:, k + 1], edges[:, k], color=PALETTE[k], alpha=0.75, linewidth=0, label=f"grade {grade}"
        )
    left.set(xlabel=xlabel, ylabel="probability", ylim=(0, 1))
    right.set_xlabel(xlabel)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=len(grades) - 1, **small)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=len(grades), **small)
    return _with_title(figure, title, "probability of more than each grade, and what is left for each grade, along one feature")


@dataclass(frozen=True, eq=False)
class HerniaPicture:
    """A sagittal slice around a hernia.

    Attributes:
        image, mask: (rows, columns) of the slice, mask in scheme "spider".
        spacing_mm: (row, column).
        measured, true: (row, column) in mm from the first pixel's middle; None where there is none.
        title: above the picture.
    """

    image: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]
    measured: tuple[float, float] | None
    true: tuple[float, float] | None
    title: str


@styled
def hernia_pictures(pictures: Sequence[HerniaPicture], title: str = "") -> CourseFigure:
    """Hernias from the side, with the measured and the true top point and outlines of discs, vertebrae and dural sac.

    Args:
        pictures: at most four; each has one point at least.
        title: above all.
    """
    figure = new_figure(9.0 / max(len(pictures), 3) + 1.5, title)
    axes = figure.subplots(1, max(len(pictures), 3), squeeze=False)[0]
    for ax in axes[len(pictures) :]:
        ax.set_visible(False)
    handles: dict[str, object] = {}
    for ax, picture in zip(axes, pictures, strict=False):
        spacing = np.asarray(picture.spacing_mm)
        middle = np.asarray(picture.true or picture.measured) / spacing
        reach = _CLOSE_UP_MM / spacing
        low = np.clip(np.floor(middle - reach), 0, None).astype(int)
        high = np.ceil(middle + reach).astype(int)
        part = np.s_[low[0] : high[0], low[1] : high[1]]
        classes = convert(picture.mask[part], "spider", "structures4")
        show_slice(ax, picture.image[part], classes, "structures4", picture.spacing_mm, True, picture.title)
        ax.title.set_fontsize(9.5)
        for value in np.unique(classes[classes > 0]).tolist():
            color = [part / 255 for part in _CLASSES.colors[value]]
            handles[_CLASSES.names[value]] = Line2D([], [], color=color, linewidth=1.4)
        for point, marker, color, name in (
            (picture.true, "o", PALETTE[5], "true top point"),
            (picture.measured, "x", PALETTE[4], "measured top point"),
        ):
            if point is not None:
                row, column = np.asarray(point) / spacing - low
                look = {"marker": marker, "color": color, "markersize": 11, "markeredgewidth": 2.2, "fillstyle": "none"}
                handles[name] = ax.plot(column, row, linestyle="none", **look)[0]
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5)
    return _with_title(figure, title, "hernias from the side with true and measured top point, outlines of the true mask")
