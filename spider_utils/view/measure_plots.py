"""Figures of measurements: where they are taken, and how they agree with the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from spider_utils.data.volumes import Volume
from spider_utils.evaluation.agreement import agreement
from spider_utils.measure.marks import Mark
from spider_utils.view.plots import PALETTE, WIDTH_IN, CourseFigure, new_figure, show_slice, styled

_PANELS = 3  # in a row
_MARK_COLORS = {"endplate": PALETTE[1], "disc height": PALETTE[2], "canal diameter": PALETTE[3]}
_OUTLINES = (("-", PALETTE[4]), ("--", "white"), (":", PALETTE[5]))
_AROUND_MM = 22.0  # of the picture is shown around what is marked
_NARROWEST_IN = 5.6  # of a figure: title and legend need as much
_UNITS = {"mm2": "mm²", "deg": "°"}  # as they are written on axes


@styled
def marked_slice(
    image: Volume,
    marks: Sequence[Mark],
    title: str = "",
    points_mm: Mapping[str, Sequence[float]] | None = None,
    outlines: Mapping[str, np.ndarray] | None = None,
) -> CourseFigure:
    """Lines of measurements on a sagittal slice; left the slice alone.

    The slice is that of the first point, or without one that which most of the lines lie next to.

    Args:
        image: that was measured.
        marks: of measure.marks.
        title: above both.
        points_mm: name -> (slice, row, column) mm of places to mark as well, such as the top of a hernia.
        outlines: name -> labels of the image's shape whose borders are drawn; at most three, told apart by color and dashes.

    Raises:
        ValueError: there is nothing to mark, or labels of another shape.
    """
    if not marks:
        raise ValueError("there is nothing to mark: nothing of this mask could be measured")
    for name, labels in (outlines or {}).items():
        if labels.shape != image.array.shape:
            raise ValueError(f"'{name}' of shape {labels.shape} does not fit an image of shape {image.array.shape}")
    places = np.concatenate([mark.ends for mark in marks])
    at_mm = next((point[0] for point in (points_mm or {}).values()), np.median(places[:, 0]))
    number = int(np.clip(np.rint(at_mm / image.spacing[0]), 0, len(image.array) - 1))
    row_mm, column_mm = image.spacing[1:]
    low, high = places[:, 1:].min(axis=0) - _AROUND_MM, places[:, 1:].max(axis=0) + _AROUND_MM
    rows, columns = (
        slice(max(0, int(a / step)), min(n, int(b / step) + 1))
        for a, b, step, n in zip(low, high, image.spacing[1:], image.array.shape[1:], strict=True)
    )
    shown = image.array[number, rows, columns]
    tall = shown.shape[0] * row_mm / (shown.shape[1] * column_mm)
    height = min(6.3, 4.3 * tall)
    figure = new_figure(height + 0.7, title)
    figure.set_size_inches(np.clip(2 * height / tall + 0.4, _NARROWEST_IN, WIDTH_IN), height + 0.7)  # both side by side
    axes = figure.subplots(1, 2)
    for ax in axes:
        show_slice(ax, shown, spacing_mm=image.spacing[1:])
    ax, drawn = axes[1], set()
    for (name, labels), (style, color) in zip((outlines or {}).items(), _OUTLINES, strict=False):
        part = labels[number, rows, columns]
        for label in np.unique(part[part > 0]):
            ax.contour(part == label, levels=[0.5], colors=[color], linestyles=style, linewidths=1.3)
        ax.plot([], [], color=color, linestyle=style, linewidth=1.3, label=name)
    for mark in marks:
        kind = next((name for name in _MARK_COLORS if mark.quantity.startswith(name)), None)
        if kind is None:
            continue
        y, x = mark.ends[:, 1] / row_mm - rows.start, mark.ends[:, 2] / column_mm - columns.start
        ax.plot(x, y, color=_MARK_COLORS[kind], linewidth=1.8, label=None if kind in drawn else kind)
        drawn.add(kind)
        if mark.quantity == "canal diameter":
            _name_level(ax, mark.level, (x[1], y[1]), shown.shape[1])
    for name, place in (points_mm or {}).items():
        ax.plot(
            place[2] / column_mm - columns.start, place[1] / row_mm - rows.start, "o", markersize=11, markerfacecolor="none",
            markeredgecolor="white", markeredgewidth=1.8, label=name,
        )  # fmt: skip
    figure.legend(
        *ax.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        frameon=True,
        facecolor="#555555",
        labelcolor="white",
    )
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: slice {number}, alone and with lines of {', '.join(sorted(drawn))}.".removeprefix(": ")
    return figure


def _name_level(ax: Axes, level: str, end: tuple[float, float], columns: int) -> None:
    """The level's name behind the rear end of its line; above the line where the picture ends too soon."""
    beside = end[0] < 0.78 * columns
    ax.annotate(
        level, end, xytext=(5, 0) if beside else (8, 9), textcoords="offset points", ha="left" if beside else "right",
        va="center", color="white", fontsize=9, path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )  # fmt: skip


@styled
def bland_altman(table: pd.DataFrame, quantities: Mapping[str, str], title: str = "") -> CourseFigure:
    """Difference against mean, a panel a quantity, with bias and 95 % limits of agreement (Bland & Altman, Lancet 327:307, 1986).

    The limits allow for several values of one patient (evaluation.agreement); patients are told apart by shade, so that a
    patient whose values all lie on one side is seen.

    Args:
        table: a row a value: ``patient``, ``quantity``, ``value`` (measured), ``truth``; rows with a NaN are left out.
        quantities: name -> unit of those to draw.
        title: above all panels.

    Raises:
        ValueError: a quantity has fewer than two values.
    """
    rows = math.ceil(len(quantities) / _PANELS)
    figure = new_figure(3.1 * rows + 0.5, title)
    axes = figure.subplots(rows, min(_PANELS, len(quantities)), squeeze=False)
    said = []
    for ax, (quantity, unit) in zip(axes.flat, quantities.items(), strict=False):
        part = table[table["quantity"] == quantity].dropna(subset=["value", "truth"])
        found = agreement(part["value"], part["truth"], part["patient"])
        means, differences = (part["value"] + part["truth"]) / 2, part["value"] - part["truth"]
        shades = 0.8 * pd.factorize(part["patient"])[0] / max(found.patients - 1, 1)  # the map's yellow end is hard to see
        ax.scatter(means, differences, c=shades, cmap="viridis", vmin=0, vmax=1, s=12, linewidths=0, alpha=0.8)
        for value, style in ((found.bias, "-"), (found.low, "--"), (found.high, "--")):
            ax.axhline(value, color=PALETTE[5], linestyle=style, linewidth=1.4)
            ax.annotate(
                f"{value:+.2f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
                ha="right", fontsize=9, color=PALETTE[5], bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "linewidth": 0},
            )  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.8)
        reach = 1.25 * max(np.abs(differences).max(), abs(found.low), abs(found.high))
        sign = _UNITS.get(unit, unit)
        ax.set(
            title=quantity, xlabel=f"mean of both ({sign})", ylabel=f"measured \N{MINUS SIGN} true ({sign})", ylim=(-reach, reach)
        )
        ax.title.set_fontsize(10.5)
        ax.text(0.02, 0.02, f"{found.n} values, {found.patients} patients", transform=ax.transAxes, fontsize=9)
        said.append(f"{quantity} {found.bias:+.2f} ({found.low:+.2f} to {found.high:+.2f}) {unit}")
    for ax in axes.flat[len(quantities) :]:
        ax.set_visible(False)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: bias and 95 % limits of agreement: {'; '.join(said)}.".removeprefix(": ")
    return figure
