"""Figures of axial slices: tissues over the picture, and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from scipy import ndimage

from spider_utils.data.axial import AXIAL_SCHEME
from spider_utils.labels import get_scheme
from spider_utils.measure.axial import HerniaLine, SacLine
from spider_utils.view.plots import (
    PALETTE,
    WIDTH_IN,
    CourseFigure,
    legend_for,
    new_figure,
    show_slice,
    styled,
)

LETTERS = "APRL"  # top, bottom, left, right, as radiologists look at it
_LINE_COLORS = {"sac": "white", "hernia": "#F0E442", "base": "#F0E442"}


@dataclass(frozen=True, eq=False)
class AxialPicture:
    """One slice to draw.

    Attributes:
        image: (rows, columns) gray values.
        mask: labels of "axial8", or None.
        pixel_mm: edge of a pixel.
        title: above it.
        sac, hernia: lines to draw (see measure.axial), or None.
    """

    image: np.ndarray
    mask: np.ndarray | None
    pixel_mm: float
    title: str = ""
    sac: SacLine | None = None
    hernia: HerniaLine | None = None


@styled
def axial_slices(
    pictures: Sequence[AxialPicture],
    columns: int = 4,
    title: str = "",
    crop_mm: tuple[float, float] | None = None,
    **look: object,
) -> CourseFigure:
    """Axial slices side by side, with their tissues and with the lines that were measured on them.

    Args:
        pictures: what to draw.
        columns: pictures in a row.
        title: above all panels.
        crop_mm: show only so many mm, down and across, around the sac line's middle (the picture's where there is none).
        look: ``outline``, ``opacity`` and others of plots.show_slice.

    Raises:
        ValueError: there is no picture.
    """
    if not pictures:
        raise ValueError("a figure of axial slices needs at least one picture")
    pictures = [_cropped(one, crop_mm) for one in pictures] if crop_mm else list(pictures)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    shape, with_legend = crop_mm or (1.0, 1.0), any(one.mask is not None for one in pictures)
    figure = new_figure(rows * (WIDTH_IN / columns * shape[0] / shape[1] + 0.3) + (0.8 if with_legend else 0.4), title)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax, one in zip(axes.flat, pictures, strict=False):
        step = (one.pixel_mm, one.pixel_mm)
        show_slice(ax, one.image, one.mask, AXIAL_SCHEME, step, title=one.title, letters=LETTERS, **look)
        ax.title.set_fontsize(10)
        draw_lines(ax, one)
    for ax in axes.flat[len(pictures) :]:
        ax.remove()
    values = sorted({int(v) for one in pictures if one.mask is not None for v in np.unique(one.mask)} - {0})
    if values:
        figure.legend(handles=legend_for(AXIAL_SCHEME, values), loc="outside lower center", ncols=7, columnspacing=1.0)
    if title:
        figure.suptitle(title)
    shown = "; ".join(one.title for one in pictures[:12] if one.title)
    figure.caption = f"{title}: axial slices, the patient's right on the left: {shown}.".removeprefix(": ")
    return figure


@styled
def named_tissues(picture: AxialPicture, title: str = "", crop_mm: tuple[float, float] | None = None) -> CourseFigure:
    """One large slice with the border of each tissue; its name stands beside the picture, joined to its largest piece by a line.

    Args:
        picture: the slice, with its mask.
        title: above it.
        crop_mm: as for ``axial_slices``.

    Raises:
        ValueError: the picture has no mask.
    """
    if picture.mask is None:
        raise ValueError("tissues can only be named on a picture with its mask")
    picture = _cropped(picture, crop_mm) if crop_mm else picture
    figure = new_figure(5.6, title)
    ax, scheme = figure.subplots(), get_scheme(AXIAL_SCHEME)
    step = (picture.pixel_mm, picture.pixel_mm)
    show_slice(ax, picture.image, picture.mask, AXIAL_SCHEME, step, outline=True, letters=LETTERS)
    named = [value for value in scheme.foreground if (picture.mask == value).any()]
    places = {value: _innermost(picture.mask == value) for value in named}
    middle, rows = (picture.mask.shape[1] - 1) / 2, picture.mask.shape[0]
    for on_right in (False, True):
        beside = [value for value in named if (places[value][1] >= middle) == on_right]
        beside.sort(key=lambda value: places[value][0])
        heights = _apart([1 - (places[value][0] + 0.5) / rows for value in beside])
        for value, height in zip(beside, heights, strict=True):
            line = {"arrowstyle": "-", "linewidth": 1.4, "shrinkA": 2, "shrinkB": 0}
            line |= {"color": [part / 255 for part in scheme.colors[value]]}
            line |= {"path_effects": [withStroke(linewidth=3.0, foreground="black")]}
            ax.annotate(
                scheme.names[value], places[value][::-1], xytext=(1.02 if on_right else -0.02, height), arrowprops=line,
                textcoords="axes fraction", ha="left" if on_right else "right", va="center", fontsize=11,
            )  # fmt: skip
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: axial slice with {', '.join(scheme.names[value] for value in named)}.".removeprefix(": ")
    return figure


def _innermost(region: np.ndarray) -> tuple[int, int]:
    """(row, column) of the pixel of the largest piece that lies deepest inside it, as a centroid need not do."""
    pieces, _ = ndimage.label(region)
    largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(row), int(column)


def _apart(heights: Sequence[float], gap: float = 0.08) -> list[float]:
    """Falling heights (shares of the picture), moved downward where they are nearer to each other than ``gap``."""
    moved: list[float] = []
    for height in heights:
        moved.append(min(height, moved[-1] - gap) if moved else height)
    return moved


def draw_lines(ax: Axes, picture: AxialPicture) -> None:
    """Draw the dural sac's line (white), and the hernia's base (dashed) and height (solid, yellow), with their lengths in mm."""
    pixel = picture.pixel_mm
    if picture.sac is not None:
        _line(ax, picture.sac.front, picture.sac.back, pixel, _LINE_COLORS["sac"])
        _number(ax, picture.sac.back, f"{picture.sac.length:.1f} mm", pixel, _LINE_COLORS["sac"], (5, -6), "left")
    if picture.hernia is not None:
        _line(ax, *picture.hernia.base, pixel, _LINE_COLORS["base"], "--")
        _line(ax, picture.hernia.foot, picture.hernia.top, pixel, _LINE_COLORS["hernia"])
        at = picture.hernia.base[picture.hernia.base[:, 1].argmin()]
        _number(ax, at, f"{picture.hernia.height:.1f} mm", pixel, _LINE_COLORS["hernia"], (-5, 0), "right")


def _line(ax: Axes, start: np.ndarray, end: np.ndarray, pixel: float, color: str, style: str = "-") -> None:
    (row, column), (row_end, column_end) = start / pixel, end / pixel
    ax.plot(
        [column, column_end], [row, row_end], color=color, linestyle=style, linewidth=1.6,
        path_effects=[withStroke(linewidth=3.0, foreground="black")],
    )  # fmt: skip


def _number(ax: Axes, at: np.ndarray, text: str, pixel: float, color: str, shift: tuple[int, int], side: str) -> None:
    ax.annotate(
        text, (at[1] / pixel, at[0] / pixel), xytext=shift, textcoords="offset points", color=color, fontsize=9, ha=side,
        va="center", path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )  # fmt: skip


def _cropped(picture: AxialPicture, crop_mm: tuple[float, float]) -> AxialPicture:
    """The middle of a picture; lines keep their places in it."""
    pixel, shape = picture.pixel_mm, np.array(np.shape(picture.image))
    middle = shape / 2 if picture.sac is None else (picture.sac.front + picture.sac.back) / 2 / pixel
    size = np.minimum(np.rint(np.array(crop_mm) / pixel).astype(int), shape)
    start = np.clip(np.rint(middle - size / 2).astype(int), 0, shape - size)
    part = tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))
    moved = {
        name: None if line is None else replace(line, **{at: getattr(line, at) - start * pixel for at in ends})
        for name, line, ends in (
            ("sac", picture.sac, ("front", "back")),
            ("hernia", picture.hernia, ("base", "foot", "top")),
        )
    }
    mask = None if picture.mask is None else picture.mask[part]
    return replace(picture, image=picture.image[part], mask=mask, **moved)


@styled
def found_objects(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """IoU of found objects, printed beside measured, and what was found, missed and made up: a line a tissue.

    Args:
        table: of triplanar.axial.table7.
        title: above the figure.
    """
    figure = new_figure(0.42 * len(table) + 1.8, title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(len(table))
    errors = np.abs(table[["low", "high"]].sub(table["iou"], axis=0)).to_numpy(dtype=float).T
    left.errorbar(table["iou"], places, xerr=errors, fmt="D", color=PALETTE[0], capsize=4, label="measured, 95 % interval")
    left.plot(
        table["printed"], places, "x", color=PALETTE[5], markeredgewidth=2.5, markersize=9, label="printed (other patients)"
    )
    left.set_yticks(places, table["tissue"])
    left.set_ylim(len(table) - 0.5, -0.5)
    lowest = table[["printed", "low", "iou"]].min(axis=None)
    left.set(xlabel="mean IoU of found objects", xlim=(np.floor(10 * lowest) / 10, 1.0))
    start = np.zeros(len(table))
    looks = {"found": (PALETTE[0], ""), "missed": (PALETTE[4], "//"), "false": (PALETTE[5], "..")}
    for status, (color, hatch) in looks.items():
        right.barh(places, table[status], left=start, color=color, hatch=hatch, edgecolor="white", label=status)
        start = start + table[status].to_numpy()
    right.set(xlabel="objects on test slices")
    for ax in (left, right):
        ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=5)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: IoU of found objects by tissue, and how many were found, missed and made up.".removeprefix(": ")
    return figure
