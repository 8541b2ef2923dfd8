"""Figures of classifiers: confusion, ROC and reliability curves, predictions on pictures, and what speaks for them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from spider_utils.evaluation.classification import class_auc, confusion_counts, reliability, roc_curve
from spider_utils.view.plots import LINE_STYLES, PALETTE, WIDTH_IN, CourseFigure, new_figure, show_slice, styled

FEWEST_ANSWERS = 5  # in a bin of a reliability curve: the share of fewer is chance
_HEAT_LEVELS = (0.3, 0.6, 0.9)  # lines round places of a map, as shares of its highest value
_MARK = PALETTE[1]
_ON_BLACK = [withStroke(linewidth=3.0, foreground="black")]


@dataclass(frozen=True, eq=False)
class PointPicture:
    """A picture with what is known about one point of it.

    Attributes:
        image: (rows, columns) gray values.
        text: above it.
        spacing_mm: (row, column) of a pixel; None draws no scale bar.
        letters: body directions at the top, bottom, left and right; None for none.
        point: (x, y) in pixels to mark by a small cross.
        box_mm: side of a square around the point, drawn where given (what a crop shows of a slice).
        heat: a map of the picture's size, 0 or more (Grad-CAM).
    """

    image: np.ndarray
    text: str
    spacing_mm: tuple[float, float] | None = None
    letters: str | None = None
    point: tuple[float, float] | None = None
    box_mm: float | None = None
    heat: np.ndarray | None = None


def _short(names: Sequence[str], width: int = 14) -> list[str]:
    return [textwrap.fill(name, width) for name in names]


@dataclass(frozen=True, eq=False)
class MarkedSlice:
    """A slice with named points.

    Attributes:
        image: (rows, columns) gray values.
        spacing_mm: (row, column) of a pixel.
        title: above it.
        letters: body directions at the top, bottom, left and right.
        points: name -> (x, y) in pixels. A name stands right of its point; where the picture shows both sides of the body (its
            left is "R"), that of a point in the left half stands left of it.
    """

    image: np.ndarray
    spacing_mm: tuple[float, float]
    title: str
    letters: str
    points: Mapping[str, tuple[float, float]]


@styled
def labelled_points(slices: Sequence[MarkedSlice], title: str = "") -> CourseFigure:
    """Slices side by side with a ring and a name at each labelled point.

    Args:
        slices: what to draw.
        title: above all.
    """
    figure = new_figure(WIDTH_IN / len(slices) * 1.17 + 0.4, title)
    for ax, one in zip(figure.subplots(1, len(slices), squeeze=False)[0], slices, strict=True):
        show_slice(ax, one.image, spacing_mm=one.spacing_mm, letters=one.letters, title=one.title)
        ax.title.set_fontsize(10)
        middle = one.image.shape[1] / 2
        for name, (x, y) in one.points.items():
            outward = -1 if one.letters[2] == "R" and x < middle else 1
            ax.plot(x, y, "o", markerfacecolor="none", markeredgecolor=_MARK, markersize=10, markeredgewidth=1.8)
            ax.annotate(
                name, (x, y), xytext=(9 * outward, 0), textcoords="offset points", color="white", fontsize=9, va="center",
                ha="right" if outward < 0 else "left", path_effects=_ON_BLACK,
            )  # fmt: skip
    if title:
        figure.suptitle(title)
    shown = "; ".join(f"{one.title} ({', '.join(one.points)})" for one in slices)
    figure.caption = f"{title or 'Labelled points'}: {shown}."
    return figure


@styled
def confusion_matrices(
    results: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], title: str = ""
) -> CourseFigure:
    """How often each class was called what, a panel a result; shades are shares of the true class, numbers are counts.

    Args:
        results: title -> (truth (n,), probabilities (n, classes)).
        names: of the classes.
        title: above all panels.
    """
    figure = new_figure(5.0, title)
    if len(results) == 1:  # one square panel needs half the course's width
        figure.set_size_inches(0.62 * WIDTH_IN, 4.4)
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    said = []
    for place, (ax, (name, (truth, given))) in enumerate(zip(axes, results.items(), strict=True)):
        counts = confusion_counts(truth, given.argmax(axis=1), len(names))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shown = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(counts.shape):
            ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=9, color="white" if shares[i, j] > 0.55 else "black")
        ax.set_xticks(range(len(names)), _short(names), rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), _short(names, 18) if place == 0 else [""] * len(names), fontsize=8)
        ax.set(title=name, xlabel="predicted class")
        ax.grid(visible=False)
        said.append(f"{name} {np.trace(counts)} of {counts.sum()} right")
    axes[0].set_ylabel("true class")
    figure.colorbar(shown, ax=axes, label="share of the true class", shrink=0.7)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: confusion matrices; {'; '.join(said)}.".removeprefix(": ")
    return figure


@styled
def roc_curves(results: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], title: str = "") -> CourseFigure:
    """One class against the rest, a panel a result; classes that the truth does not hold have no curve.

    Args:
        results, names, title: as for ``confusion_matrices``.
    """
    figure = new_figure(5.4, title)
    axes = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    for ax, (name, (truth, given)) in zip(axes, results.items(), strict=True):
        for k, label in enumerate(names):
            if 0 < (truth == k).sum() < len(truth):
                area = class_auc(truth == k, given[:, k])
                ax.step(
                    *roc_curve(truth == k, given[:, k]), where="post", color=PALETTE[k % len(PALETTE)], linewidth=1.6,
                    linestyle=LINE_STYLES[k % len(LINE_STYLES)], label=f"{label} ({area:.2f})",
                )  # fmt: skip
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        ax.set(title=name, xlabel="false positive rate: share of the others called so", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), title="class (AUC)", title_fontsize=9)
    axes[0].set_ylabel("true positive rate:\nshare of the class found")
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: ROC curves of each class against the rest; on the diagonal a score is chance.".removeprefix(": ")
    return figure


@styled
def reliability_curves(results: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> CourseFigure:
    """How sure a network was, and how often it was right, a panel a result; bins of fewer than FEWEST_ANSWERS are left out.

    Args:
        results: title -> (truth, probabilities).
        title: above all panels.
    """
    figure = new_figure(3.2, title)
    axes = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    said = []
    for k, (ax, (name, (truth, given))) in enumerate(zip(axes, results.items(), strict=True)):
        table = reliability(truth, given)
        table, total = table[table["n"] >= FEWEST_ANSWERS], int(table["n"].sum())
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        ax.plot(table["confidence"], table["accuracy"], "o-", linewidth=1.5, color=PALETTE[k % len(PALETTE)])
        for row in table.itertuples():
            below = row.accuracy > 0.5 * (row.confidence + 1)
            below ^= row.Index % 2 == 1 and len(table) > 3  # neighbouring numbers would run into each other
            ax.annotate(
                f"{row.n}", (row.confidence, row.accuracy), xytext=(0, -7 if below else 7), textcoords="offset points",
                ha="center", va="top" if below else "bottom", fontsize=9,
            )  # fmt: skip
        ax.set(xlabel="mean confidence", xlim=(0, 1.06), ylim=(-0.02, 1.08))
        ax.set_title(textwrap.fill(name, 20), fontsize=10)
        ax.set_aspect("equal")
        said.append(f"{name} {table['n'].sum()} of {total} answers shown")
    axes[0].set_ylabel("share that is right")
    if title:
        figure.suptitle(title)
    figure.caption = (
        f"{title}: reliability curves, numbers are answers in a bin of {FEWEST_ANSWERS} or more; below the diagonal a network is "
        f"surer than it is right; {'; '.join(said)}."
    ).removeprefix(": ")
    return figure


@styled
def picture_row(pictures: Sequence[PointPicture], title: str = "", columns: int = 4, highest_in: float = 2.5) -> CourseFigure:
    """Pictures with a line of text above each, and what each knows of its point; see PointPicture.

    A map is drawn as lines at 30, 60 and 90 % of its highest value, so that the anatomy stays in sight.

    Args:
        pictures: what to draw.
        title: above all.
        columns: in a row of the figure.
        highest_in: inches that a picture may be high; the figure gets narrower where that makes all of them narrower.
    """
    lines = -(-len(pictures) // columns)
    texts = [textwrap.fill(one.text, 116 // columns) for one in pictures]
    ratio = max(map(_tallness, pictures))
    tall = min(WIDTH_IN / columns * ratio, highest_in)
    height = (tall + 0.16 * (1 + max(text.count("\n") + 1 for text in texts))) * lines + (0.4 if title else 0)
    figure = new_figure(height, title)
    widest = max(tall / _tallness(one) for one in pictures)
    figure.set_size_inches(min(WIDTH_IN, columns * (widest + 0.25)), height)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(pictures) :]:
        ax.set_axis_off()
    for ax, one, text in zip(axes, pictures, texts, strict=False):
        show_slice(ax, one.image, spacing_mm=one.spacing_mm, letters=one.letters)
        ax.set_title(text, fontsize=9)
        _draw_point(ax, one)
        if one.heat is not None and one.heat.max() > 0:
            share = one.heat / one.heat.max()
            ax.contour(share, levels=_HEAT_LEVELS, colors=_MARK, linewidths=(0.8, 1.6, 2.8))
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: {'; '.join(one.text for one in pictures)}.".removeprefix(": ")
    return figure


def _tallness(picture: PointPicture) -> float:
    """Height over width, in millimetres where they are known."""
    row_mm, column_mm = picture.spacing_mm or (1.0, 1.0)
    return picture.image.shape[0] * row_mm / (picture.image.shape[1] * column_mm)


def _draw_point(ax: Axes, picture: PointPicture) -> None:
    if picture.point is None:
        return
    x, y = picture.point
    if picture.box_mm is None:
        ax.plot(x, y, "+", color=_MARK, markersize=9, markeredgewidth=1.4, path_effects=_ON_BLACK)
        return
    rows, columns = (picture.box_mm / step for step in picture.spacing_mm or (1.0, 1.0))
    ax.add_patch(
        Rectangle(
            (x - columns / 2, y - rows / 2), columns, rows, fill=False, edgecolor=_MARK, linewidth=1.6, path_effects=_ON_BLACK
        )
    )
