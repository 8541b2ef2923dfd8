"""The figures of the course: one look, real proportions, directions and lengths on every slice.

Conventions
-----------
* Slices are drawn in millimetres: a pixel is as tall and wide as its spacing says, a bar shows a length, letters show where the
  body's superior (S), inferior (I), anterior (A), posterior (P), right (R) and left (L) side lies. Coronal and axial pictures
  are drawn as radiologists look at them, with the patient's right on the left.
* Colours of structures come from the label scheme; all others from the palette of Okabe & Ito (2008), which people with a
  colour vision deficiency can tell apart. Vermilion, sky blue and yellow mark errors and are never used for a structure.
* Functions that make a figure return it and do nothing else: a notebook shows it when it is the last line of a cell, exactly
  once and with its caption as alternative text; without a notebook nothing happens. ``pyplot`` holds no reference to it.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from PIL import Image
from scipy import ndimage

from spider_utils.data.splits import SUBSETS, Split
from spider_utils.data.volumes import Volume
from spider_utils.errors import DataError
from spider_utils.evaluation.statistics import bootstrap_interval
from spider_utils.files import atomic_path
from spider_utils.labels import LabelScheme, convert, disc_name, get_scheme

P = ParamSpec("P")
R = TypeVar("R")

WIDTH_IN = 9.0  # width of every figure, inches
SCREEN_DPI, FILE_DPI = 100, 150
MAX_FILE_BYTES, MAX_SCREEN_BYTES = 300_000, 80_000
_MOST_CHANGE = 8  # of 255, of a channel of a pixel, for a smaller file
_SMALLEST_SCALE = 0.6  # of the resolution; below it the text would be hard to read
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")  # Okabe & Ito, without yellow
LINE_STYLES = ("-", "--", "-.", ":")
SUBSET_COLORS = {"train": "#999999", "val": "#56B4E9", "test": "#D55E00"}
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.frameon": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "image.interpolation": "antialiased",  # "auto" from matplotlib 3.9 on, which still knows this name
}

RIGHT, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = range(4)
ERROR_NAMES = {FALSE_POSITIVE: "false positive", FALSE_NEGATIVE: "false negative", WRONG_CLASS: "wrong class"}
ERROR_COLORS = {FALSE_POSITIVE: (213, 94, 0), FALSE_NEGATIVE: (86, 180, 233), WRONG_CLASS: (240, 228, 66)}

_SMALL_PANEL_IN = 2.3  # narrower pictures have no room for all names
_NAME_SIZE, _LETTER_WIDTH = 8, 0.65  # of a name on the picture: points, and the width of its letters as a share
_BAR_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_OUTLINED_TEXT = [withStroke(linewidth=2.5, foreground="black")]


def course_style() -> object:
    """Context manager: matplotlib's defaults plus the course's look, whatever the user's own settings are."""
    return matplotlib.style.context(STYLE, after_reset=True)


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function in the course's style."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with course_style():
            return function(*args, **kwargs)

    return wrapper


class CourseFigure(Figure):
    """A matplotlib Figure that shows itself in a notebook, whichever backend is active, with its caption as alternative text.

    Attributes:
        caption: what the figure shows, in words; set by the function that draws it or by ``save_figure``.
    """

    caption: str = ""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        kind, picture = _for_screen(self)
        display({kind: picture, "text/plain": self.caption}, metadata={kind: {"alt": self.caption}}, raw=True)


def new_figure(height_in: float, caption: str) -> CourseFigure:
    """An empty figure of the course's width."""
    figure = CourseFigure(figsize=(WIDTH_IN, height_in), layout="constrained")
    figure.caption = caption
    return figure


# ---------------------------------------------------------------------------------------------------------------- planes


@dataclass(frozen=True)
class Plane:
    """How a plane is cut out of a volume in the kit's axes (slice, row, column) and laid on the screen.

    Attributes:
        name: sagittal, coronal or axial.
        axis: the array axis that is cut through.
        letters: body directions at the top, bottom, left and right of the picture.
        sides: where a slice at the low and at the high end of ``axis`` lies, as in "left of" the middle.
    """

    name: str
    axis: int
    letters: str
    sides: tuple[str, str]

    def cut(self, array: np.ndarray, index: int) -> np.ndarray:
        """The picture at ``index`` of an array (slice, row, column): (rows, columns), from the top left."""
        return array[index] if self.axis == 0 else array[::-1].take(index, axis=self.axis).T

    def spacing(self, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Spacing (row, column) of the picture, mm, from the volume's (slice, row, column)."""
        slices, rows, columns = spacing_mm
        return {0: (rows, columns), 1: (columns, slices), 2: (rows, slices)}[self.axis]

    def place(self, point: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
        """Where voxel ``point`` of a volume of ``shape`` lies in the picture: (row, column)."""
        flipped = shape[0] - 1 - point[0]
        return {0: (point[1], point[2]), 1: (point[2], flipped), 2: (point[1], flipped)}[self.axis]

    def voxel(self, row: int, column: int, index: int, shape: Sequence[int]) -> tuple[int, int, int]:
        """The voxel (slice, row, column) at a place of the picture at ``index``: what ``place`` undoes."""
        flipped = shape[0] - 1 - column
        return {0: (index, row, column), 1: (flipped, index, row), 2: (flipped, row, index)}[self.axis]


# The array's slice axis runs from the patient's left to the right; screens of radiologists have the right on the left.
PLANES = {
    "sagittal": Plane("sagittal", 0, "SIAP", ("left of", "right of")),
    "coronal": Plane("coronal", 2, "SIRL", ("in front of", "behind")),
    "axial": Plane("axial", 1, "APRL", ("above", "below")),
}


# ---------------------------------------------------------------------------------------------------------------- slices


def window_of(array: np.ndarray) -> tuple[float, float]:
    """(low, high) intensities between which an array is shown: 0.5 and 99.5 percentile, never equal.

    Of a large array about a million evenly spaced values are looked at, as sorting a whole volume would take seconds.
    """
    array = array.reshape(-1)[:: max(1, array.size // 1_000_000)]
    low, high = (float(v) for v in np.percentile(array, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


@styled
def show_slice(
    ax: Axes,
    image: np.ndarray,
    mask: np.ndarray | None = None,
    scheme: str = "structures4",
    spacing_mm: Sequence[float] | None = None,
    outline: bool = False,
    title: str = "",
    *,
    opacity: float = 0.4,
    window: tuple[float, float] | None = None,
    letters: str | None = "SIAP",
    scale_bar: bool = True,
    name_labels: bool = False,
) -> Axes:
    """Draw one slice, with its mask over it, into ``ax``.

    Args:
        ax: axes to draw into.
        image: (rows, columns) gray values, or (rows, columns, 3) uint8 RGB.
        mask: (rows, columns) integer labels of ``scheme``; None draws the image alone.
        spacing_mm: (row, column) spacing in mm. None when it is not known: pixels are then drawn square and no length is shown.
        outline: draw the borders of the labels instead of filling them.
        title: text above the slice.
        opacity: 0 (invisible) to 1 (opaque) of filled labels.
        window: (low, high) gray values shown as black and white; None takes the 0.5 and 99.5 percentile.
        letters: body directions at the top, bottom, left, right; None for none.
        scale_bar: draw a bar of a round length in mm.
        name_labels: write the names of levels on them (a small picture with vertebrae names those alone).

    Returns:
        ``ax``.

    Raises:
        ValueError: shapes do not fit, the mask holds values that the scheme does not know, spacing is not two positive numbers.
    """
    image = np.asarray(image)
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(f"a slice must have shape (rows, columns) or (rows, columns, 3), not {image.shape}")
    rows, columns = image.shape[:2]
    aspect = 1.0
    if spacing_mm is not None:
        if len(spacing_mm) != 2 or not all(np.isfinite(step) and step > 0 for step in spacing_mm):
            raise ValueError(f"spacing_mm must be two positive numbers (row, column), not {tuple(spacing_mm)}")
        aspect = spacing_mm[0] / spacing_mm[1]
    if not np.isfinite(image).all():
        raise ValueError("the slice holds values that are not finite (NaN or infinity)")
    low, high = window_of(image) if window is None else window
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect)
    names: list[tuple[float, float]] = []
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != (rows, columns):
            raise ValueError(f"the mask has shape {mask.shape}, but the image {(rows, columns)}")
        chosen = get_scheme(scheme)
        chosen.check(mask)
        mask = mask.astype(np.uint8)  # every value of every scheme fits; a boolean mask would select instead of looking up
        if outline:
            _draw_outlines(ax, mask, chosen)
        else:
            _draw_fill(ax, mask, {v: chosen.colors[v] for v in chosen.foreground}, opacity, aspect)
        if name_labels:
            names = _draw_names(ax, mask, chosen, spacing_mm or (1.0, 1.0))
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_axis_off()
    if title:
        ax.set_title(title)
    if letters:
        _draw_letters(ax, letters, names)
    if scale_bar and spacing_mm is not None:
        _draw_scale_bar(ax, columns, spacing_mm[1])
    return ax


def _draw_fill(ax: Axes, mask: np.ndarray, colors: Mapping[int, tuple[int, int, int]], opacity: float, aspect: float) -> None:
    table = np.zeros((max(colors) + 1, 4), dtype=np.float32)
    for value, color in colors.items():
        table[value] = (*(c / 255 for c in color), opacity)
    # Colours are already chosen: interpolating between them would show classes that are not there.
    ax.imshow(table[mask], interpolation="nearest", aspect=aspect)


def _draw_outlines(ax: Axes, mask: np.ndarray, scheme: LabelScheme) -> None:
    for value in np.unique(mask[mask > 0]).tolist():
        # A margin of background lets the contour of a structure that is cut by the picture's edge close.
        region = np.pad(mask == value, 1).astype(np.uint8)
        x, y = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
        ax.contour(x, y, region, levels=[0.5], colors=[tuple(c / 255 for c in scheme.colors[value])], linewidths=1.4)


def _short_name(name: str) -> str:
    return name.removeprefix("disc ").replace(" (partly in view)", "*")


def _draw_names(ax: Axes, mask: np.ndarray, scheme: LabelScheme, spacing_mm: Sequence[float]) -> list[tuple[float, float]]:
    """Names of levels at their innermost pixels, which lie inside even where the centre of mass does not.

    A piece that its name would hide has it to the right. Returns where names stand, as shares of the picture from the lower left.
    The canal needs none. In a small picture discs have none either where vertebrae beside them have, as the names would overlap.
    """
    values = [value for value in _values_in([mask]) if scheme.names[value] != "spinal canal"]
    vertebrae = [value for value in values if "disc" not in scheme.names[value]]
    if vertebrae and ax.get_position().width * ax.figure.get_figwidth() < _SMALL_PANEL_IN:
        values = vertebrae
    boxes = ndimage.find_objects(mask)
    margin = 0.025 * mask.shape[0]
    size_in = (ax.get_position().height * ax.figure.get_figheight(), ax.get_position().width * ax.figure.get_figwidth())
    points_per_mm = min(72 * inch / (n * mm) for inch, n, mm in zip(size_in, mask.shape, spacing_mm, strict=True))
    places = []
    for value in values:
        box, name = boxes[value - 1], _short_name(scheme.names[value])
        inside = mask[box] == value
        depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing_mm)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        if not margin <= box[0].start + row <= mask.shape[0] - 1 - margin:  # nearer to the edge it would stand in the title
            continue
        pieces = ndimage.label(inside)[0]
        piece = ndimage.find_objects(pieces)[pieces[row, column] - 1]
        height, width = ((part.stop - part.start) * mm * points_per_mm for part, mm in zip(piece, spacing_mm, strict=True))
        hidden = height < _NAME_SIZE and width < _NAME_SIZE * _LETTER_WIDTH * len(name)
        x = box[1].start + (piece[1].stop + 1 if hidden else column)
        ax.text(
            x, box[0].start + row, name, color="white", fontsize=_NAME_SIZE, ha="left" if hidden else "center", va="center",
            path_effects=_OUTLINED_TEXT,
        )  # fmt: skip
        places.append((x / mask.shape[1], 1 - (box[0].start + row) / mask.shape[0]))
    return places


def _draw_letters(ax: Axes, letters: str, names: Sequence[tuple[float, float]] = ()) -> None:
    """Body directions in the middle of each edge; that of the upper and of the lower one where no name stands."""

    def free_x(y: float) -> float:
        beside = [x for x, y_of_name in names if abs(y_of_name - y) < 0.08]
        return next((x for x in (0.5, 0.35, 0.65, 0.2, 0.8) if all(abs(x - other) > 0.12 for other in beside)), 0.5)

    places = ((free_x(0.985), 0.985, "center", "top"), (free_x(0.015), 0.015, "center", "bottom"))
    places += ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    for letter, (x, y, horizontal, vertical) in zip(letters, places, strict=True):
        ax.text(
            x, y, letter, transform=ax.transAxes, ha=horizontal, va=vertical, color="white", fontsize=10, weight="bold",
            path_effects=_OUTLINED_TEXT,
        )  # fmt: skip


def _draw_scale_bar(ax: Axes, columns: int, column_mm: float) -> None:
    """A bar of a round length, at most a third of the picture, at the lower left."""
    width_mm = columns * column_mm
    length_mm = max((mm for mm in _BAR_LENGTHS_MM if mm <= width_mm / 3), default=_BAR_LENGTHS_MM[0])
    left, right = 0.04, 0.04 + length_mm / width_mm
    # Above the lower edge by points, not by a share of the height: flat pictures would cut it.
    bar, text = (offset_copy(ax.transAxes, ax.figure, y=points, units="points") for points in (7, 10))
    ax.plot(
        [left, right], [0, 0], transform=bar, color="white", linewidth=3, solid_capstyle="butt",
        path_effects=[withStroke(linewidth=5, foreground="black")], scalex=False, scaley=False,
    )  # fmt: skip
    ax.text(
        left, 0, f"{length_mm} mm", transform=text, color="white", fontsize=9, ha="left", va="bottom",
        path_effects=_OUTLINED_TEXT,
    )  # fmt: skip


def share_colors(scheme: str, values: Sequence[int]) -> bool:
    """True when some labels in ``values`` have one colour, because the shades of a scheme with levels repeat every third level.

    A legend cannot tell such labels apart; their names must then stand on the picture.
    """
    colors = get_scheme(scheme).colors
    return len({colors[value] for value in values}) < len(set(values))


def legend_for(scheme: str, values: Sequence[int]) -> list[Patch]:
    """Handles for a legend of the labels in ``values``, in ascending order, without background.

    Each label has an entry of its own, unless some of them share a colour: then each kind of structure has one (neighbouring
    levels differ in shade), and the picture should carry the names (``name_labels`` of ``show_slice``).

    Raises:
        ValueError: a value is not in the scheme.
    """
    chosen, kinds = get_scheme(scheme), get_scheme("structures4")
    chosen.check(np.asarray(list(values), dtype=np.int64))
    shown = sorted({int(v) for v in values} - {0})
    if not share_colors(scheme, shown):
        return [_patch(chosen.colors[v], chosen.names[v]) for v in shown]
    melted = [max(chosen.values)] if scheme == "clamped20" else []  # of no one structure; the others are as spider has them
    kept = np.array([v for v in shown if v not in melted], dtype=np.uint8)
    found = np.unique(convert(kept, "spider" if melted else scheme, "structures4")).tolist()
    handles = [_patch(kinds.colors[v], kinds.names[v] + ("" if v == 2 else " (shade: level)")) for v in found]
    return handles + [_patch(chosen.colors[v], chosen.names[v]) for v in melted if v in shown]


def _patch(color: tuple[int, int, int], name: str) -> Patch:
    return Patch(facecolor=tuple(c / 255 for c in color), edgecolor="black", linewidth=0.5, label=name)


def _values_in(masks: Sequence[np.ndarray | None]) -> list[int]:
    return sorted({int(v) for mask in masks if mask is not None for v in np.unique(mask)} - {0})


def _add_legend(figure: Figure, handles: list[Patch]) -> None:
    if handles:
        # About 105 letters fit into a line, and the patch of an entry takes the room of eight.
        entries_a_line = max(1, 105 // max(8 + len(handle.get_label()) for handle in handles))
        lines = -(-len(handles) // entries_a_line)
        figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // lines))


def _height_over_width(shape: Sequence[int], spacing_mm: Sequence[float] | None) -> float:
    rows, columns = shape[:2]
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    return rows * row_mm / (columns * column_mm)


@styled
def contact_sheet(
    slices: Sequence[tuple[np.ndarray, np.ndarray | None, Sequence[float] | None, str]],
    scheme: str = "structures4",
    columns: int = 4,
    *,
    outline: bool = False,
    opacity: float = 0.4,
    letters: str | None = "SIAP",
    name_labels: bool | None = None,
    window: tuple[float, float] | None = None,
) -> CourseFigure:
    """Many slices side by side, each in its own proportions.

    Args:
        slices: (image, mask or None, (row, column) spacing in mm or None, title) each; see ``show_slice``.
        scheme: label scheme of the masks.
        columns: pictures in a row.
        outline, opacity, letters, window: see ``show_slice``.
        name_labels: write names on the labels; None does so where a legend could not tell them apart.

    Raises:
        ValueError: there is no slice, or one does not fit (see ``show_slice``).
    """
    if not slices:
        raise ValueError("a contact sheet needs at least one slice")
    columns = min(columns, len(slices))
    rows = -(-len(slices) // columns)
    tallest = max(_height_over_width(np.shape(image), spacing) for image, _, spacing, _ in slices)
    figure = new_figure(rows * (WIDTH_IN / columns * min(tallest, 2.5) + 0.3) + 0.4, f"{len(slices)} slices.")
    values = _values_in([mask for _, mask, _, _ in slices])
    name_labels = share_colors(scheme, values) if name_labels is None else name_labels
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax, (image, mask, spacing, title) in zip(grid.flat, slices, strict=False):
        show_slice(
            ax, image, mask, scheme, spacing, outline, title,
            opacity=opacity, window=window, letters=letters, name_labels=name_labels,
        )  # fmt: skip
        ax.title.set_fontsize(10)
    for ax in grid.flat[len(slices) :]:
        ax.remove()
    _add_legend(figure, legend_for(scheme, values))
    figure.caption = f"{len(slices)} slices: {'; '.join(title for *_, title in slices[:12] if title)}."
    return figure


@styled
def three_planes(
    volume: Volume,
    mask: Volume | None = None,
    point: Sequence[int] | None = None,
    scheme: str = "spider",
    *,
    outline: bool = False,
    opacity: float = 0.4,
    window: tuple[float, float] | None = None,
) -> CourseFigure:
    """The sagittal, coronal and axial plane through one voxel, in true proportions, with lines where the others cut.

    Args:
        volume: the image.
        mask: labels of ``scheme`` on the same grid, or None.
        point: voxel (slice, row, column). None: the middle of the labelled region, or of the volume without a mask.
        outline, opacity, window: see ``show_slice``.

    Raises:
        ValueError: mask and volume differ in shape, or the point lies outside the volume.
    """
    shape = volume.array.shape
    if mask is not None and mask.array.shape != shape:
        raise ValueError(f"the mask has shape {mask.array.shape}, but the volume {shape}")
    if point is None:
        box = ndimage.find_objects((mask.array > 0).astype(np.uint8))[0] if mask is not None and mask.array.any() else None
        point = [n // 2 for n in shape] if box is None else [(s.start + s.stop) // 2 for s in box]
    if len(point) != 3 or not all(0 <= p < n for p, n in zip(point, shape, strict=True)):
        raise ValueError(f"voxel {tuple(point)} lies outside the volume of shape {shape}")
    window = window or window_of(volume.array)
    cuts = [(plane, plane.cut(volume.array, point[plane.axis])) for plane in PLANES.values()]
    spacings = [plane.spacing(volume.spacing) for plane, _ in cuts]
    tall = max(picture.shape[0] * row_mm for (_, picture), (row_mm, _) in zip(cuts, spacings, strict=True))
    widths = np.array([picture.shape[1] * column_mm for (_, picture), (_, column_mm) in zip(cuts, spacings, strict=True)])
    widths = np.maximum(widths, 0.35 * widths.max())
    height = tall / widths.sum() * WIDTH_IN
    caption = f"Sagittal, coronal and axial plane through voxel {tuple(int(p) for p in point)}."
    figure = new_figure(min(max(height, 2.5), 9.0) + 0.7, caption)
    axes = figure.subplots(1, 3, width_ratios=widths)
    values = [] if mask is None else _values_in([plane.cut(mask.array, point[plane.axis]) for plane, _ in cuts])
    for ax, (plane, picture), spacing_mm in zip(axes, cuts, spacings, strict=True):
        labels = None if mask is None else plane.cut(mask.array, point[plane.axis])
        show_slice(
            ax, picture, labels, scheme, spacing_mm, outline, plane.name,
            opacity=opacity, window=window, letters=plane.letters, name_labels=share_colors(scheme, values),
        )  # fmt: skip
        row, column = plane.place(point, shape)
        ax.axhline(row, color="white", linewidth=0.8, linestyle=":")
        ax.axvline(column, color="white", linewidth=0.8, linestyle=":")
    _add_legend(figure, legend_for(scheme, values))
    return figure


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Where a prediction is wrong, and how.

    Args:
        truth, prediction: integer label arrays of one shape, background 0.

    Returns:
        uint8 array of that shape: RIGHT 0, FALSE_POSITIVE 1 (a structure where there is none), FALSE_NEGATIVE 2 (a structure
        missed), WRONG_CLASS 3 (a structure taken for another).

    Raises:
        ValueError: the shapes differ.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape} but prediction has {prediction.shape}")
    wrong = truth != prediction
    return np.select(
        [wrong & (truth == 0), wrong & (prediction == 0), wrong], [FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS], RIGHT
    ).astype(np.uint8)


@styled
def show_errors(
    ax: Axes,
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float] | None = None,
    title: str = "",
    **options: object,
) -> list[Patch]:
    """Draw one slice with the errors of a prediction (see ``error_map``) over it.

    Args:
        ax, image, spacing_mm, title, options: see ``show_slice``.
        truth, prediction: (rows, columns) labels of one scheme.

    Returns:
        Handles for a legend of the errors that there are.
    """
    errors = error_map(truth, prediction)
    show_slice(ax, image, None, spacing_mm=spacing_mm, title=title, **options)  # type: ignore[arg-type]
    _draw_fill(ax, errors, ERROR_COLORS, 0.9, ax.get_aspect())
    return [_patch(ERROR_COLORS[kind], name) for kind, name in ERROR_NAMES.items() if (errors == kind).any()]


@styled
def overlay_comparison(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    scheme: str = "structures4",
    spacing_mm: Sequence[float] | None = None,
    *,
    title: str = "",
    outline: bool = False,
    opacity: float = 0.4,
) -> CourseFigure:
    """Image, truth, prediction and error map of one sagittal slice, side by side.

    Args:
        image: (rows, columns) gray values.
        truth, prediction: (rows, columns) labels of ``scheme``.
        spacing_mm: (row, column), or None when not known.
        title: text above all four.
        outline, opacity: see ``show_slice``.

    Raises:
        ValueError: see ``show_slice``.
    """
    figure = new_figure(WIDTH_IN / 4 * _height_over_width(np.shape(image), spacing_mm) + (1.3 if title else 1.0), title)
    axes = figure.subplots(1, 4)
    values = _values_in([truth, prediction])
    options = {"outline": outline, "opacity": opacity, "name_labels": share_colors(scheme, values)}
    show_slice(axes[0], image, None, scheme, spacing_mm, title="image")
    show_slice(axes[1], image, truth, scheme, spacing_mm, title="truth", scale_bar=False, **options)
    show_slice(axes[2], image, prediction, scheme, spacing_mm, title="prediction", scale_bar=False, **options)
    share = f"errors: {np.mean(np.not_equal(truth, prediction)):.1%} of pixels"
    errors_found = show_errors(axes[3], image, truth, prediction, spacing_mm, share, scale_bar=False)
    for ax in axes:
        ax.title.set_fontsize(10)
    if title:
        figure.suptitle(title)
    _add_legend(figure, legend_for(scheme, values) + errors_found)
    figure.caption = f"{title}: image, truth, prediction and error map.".removeprefix(": ")
    return figure


@styled
def error_sheet(
    image: np.ndarray,
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    scheme: str = "structures4",
    spacing_mm: Sequence[float] | None = None,
    **options: object,
) -> CourseFigure:
    """The truth of one slice, and beside it the errors of several predictions.

    Args:
        image: (rows, columns) gray values.
        truth: (rows, columns) labels of ``scheme``.
        predictions: name -> labels, at least one.
        spacing_mm: (row, column), or None when not known.
        options: window and letters, see ``show_slice``.

    Raises:
        ValueError: see ``show_slice``.
    """
    panels = 1 + len(predictions)
    figure = new_figure(WIDTH_IN / panels * min(_height_over_width(np.shape(image), spacing_mm), 2.5) + 1.2, "")
    first, *others = figure.subplots(1, panels)
    values = _values_in([truth])
    show_slice(first, image, truth, scheme, spacing_mm, title="truth", name_labels=share_colors(scheme, values), **options)
    found: dict[str, Patch] = {}
    for ax, (name, mask) in zip(others, predictions.items(), strict=True):
        title = f"{name}\n{np.not_equal(truth, mask).sum():,} pixels wrong"
        found |= {h.get_label(): h for h in show_errors(ax, image, truth, mask, spacing_mm, title, scale_bar=False, **options)}
    for ax in figure.axes:
        ax.title.set_fontsize(10)
    _add_legend(figure, legend_for(scheme, values) + [found[name] for name in ERROR_NAMES.values() if name in found])
    figure.caption = f"Truth, and errors of {', '.join(predictions)}."
    return figure


@styled
def receptive_field_on_slice(
    image: np.ndarray,
    spacing_mm: Sequence[float],
    boxes_mm: Mapping[str, float | tuple[float, float]],
    center: tuple[int, int] | None = None,
    *,
    title: str = "",
) -> CourseFigure:
    """How much of a slice a network sees when it labels one pixel.

    Args:
        image: (rows, columns) gray values.
        spacing_mm: (row, column).
        boxes_mm: name -> side of its receptive field in mm, or (height, width).
        center: the pixel (row, column) that is labelled; None takes the middle.

    Raises:
        ValueError: a box has no positive size; see also ``show_slice``.
    """
    rows, columns = np.shape(image)[:2]
    center = center or (rows // 2, columns // 2)
    figure = new_figure(min(WIDTH_IN * 0.6 * _height_over_width((rows, columns), spacing_mm), 7.0) + 0.5, title)
    ax = figure.subplots()
    show_slice(ax, image, None, spacing_mm=spacing_mm, title=title)
    for number, (name, size) in enumerate(boxes_mm.items()):
        height_mm, width_mm = (size, size) if np.isscalar(size) else size
        if not (height_mm > 0 and width_mm > 0):
            raise ValueError(f"the receptive field '{name}' must have a positive size in mm, not {size}")
        height, width = height_mm / spacing_mm[0], width_mm / spacing_mm[1]
        beyond = ", larger than the slice" if height > rows and width > columns else ""
        box = Rectangle(
            (center[1] - width / 2, center[0] - height / 2), width, height, fill=False, linewidth=2.2,
            edgecolor=(*PALETTE[4:6], PALETTE[1], PALETTE[3])[number % 4], linestyle=LINE_STYLES[number % 4],
            label=f"{name}: {height_mm:.0f} x {width_mm:.0f} mm{beyond}",
        )  # fmt: skip
        ax.add_patch(box)
    ax.plot(center[1], center[0], "o", color="white", markeredgecolor="black", markersize=7)
    figure.legend(loc="outside right center")
    figure.caption = f"{title}: receptive fields of {', '.join(boxes_mm)}.".removeprefix(": ")
    return figure


# --------------------------------------------------------------------------------------------------------------- numbers


def _need(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{what} needs the column(s) {', '.join(missing)}; the table has {', '.join(map(str, table.columns))}")


@styled
def training_curves(history: pd.DataFrame, title: str = "") -> CourseFigure:
    """Loss, validation mean IoU and learning rate by epoch; the best epoch is marked.

    Args:
        history: one row an epoch: ``epoch``, any columns that end in ``loss``, ``val_mean_iou`` and ``learning_rate``. The best
            epoch is the first with the highest ``val_mean_iou``. What is not there is not drawn.

    Raises:
        ValueError: the table has no row, no ``epoch``, or nothing to draw.
    """
    _need(history, ["epoch"], "training_curves")
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
    _need(table, ["patient", by, metric], "metric_distribution")
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
    _need(table, [label, "mean", "low", "high"] + ([group] if group else []), "bar_with_intervals")
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
        figure.legend(loc="outside lower center", ncols=min(len(groups), 4), title=group)
    figure.caption = f"{title}: {xlabel}, by {label}{f' and {group}' if group else ''}.".removeprefix(": ")
    return figure


@styled
def intensity_histogram(
    images: Mapping[str, np.ndarray], xlabel: str = "intensity", bins: int = 100, title: str = ""
) -> CourseFigure:
    """Share of voxels by intensity, a line an image; the range shown ends at the highest 99.9 percentile.

    Args:
        images: name -> array of any shape.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("intensity_histogram needs at least one image")
    low = min(float(np.min(image)) for image in images.values())
    high = max(float(np.percentile(image, 99.9)) for image in images.values())
    high = high if high > low else low + 1
    edges = np.linspace(low, high, bins + 1)
    if all(np.asarray(image).dtype.kind in "iu" for image in images.values()):
        # Bins that hold differing numbers of integers would draw a comb.
        edges = np.arange(low, high + 1 + (step := max(1, round((high - low) / bins))), step) - 0.5
    figure = new_figure(3.4, title)
    ax = figure.subplots()
    for number, (name, image) in enumerate(images.items()):
        counts, _ = np.histogram(image, bins=edges)
        ax.stairs(
            counts / np.size(image), edges, label=name, linewidth=1.8, color=PALETTE[number % len(PALETTE)],
            linestyle=LINE_STYLES[number // len(PALETTE) % 4],
        )  # fmt: skip
    # Air fills half of most slices; on a linear axis tissue would be a flat line.
    ax.set(xlabel=xlabel, ylabel="share of voxels", yscale="log", title=title)
    figure.legend(loc="outside right upper")
    figure.caption = f"{title}: {xlabel} of {', '.join(images)}.".removeprefix(": ")
    return figure


@styled
def split_diagram(split: Split, table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Who is in which subset: a column a patient, a line a sequence, coloured by subset.

    A split by patient shows columns of one colour. A split that parts a patient's slices shows mixed ones: the leak made visible.

    Args:
        split: the split.
        table: one row a series or slice, with patient, sequence and whatever the split's ``rows`` needs.

    Raises:
        ValueError: a column is missing.
        KitError: the split does not know a row of the table.
    """
    _need(table, ["patient", "sequence"], "split_diagram")
    subset = pd.Series("", index=range(len(table)))
    for name in SUBSETS:
        subset[split.rows(name, table)] = name
    rows = table[["patient", "sequence"]].reset_index(drop=True).assign(subset=subset)
    counts = rows.groupby(["sequence", "patient", "subset"]).size()
    shares = (counts / counts.groupby(["sequence", "patient"]).transform("sum")).unstack(fill_value=0.0)
    shares = shares.reindex(columns=list(SUBSETS), fill_value=0.0)
    main = rows.groupby(["patient", "subset"]).size().unstack(fill_value=0).reindex(columns=list(SUBSETS), fill_value=0)
    order = sorted(main.index, key=lambda patient: (int(main.loc[patient].to_numpy().argmax()), patient))
    place = {patient: x for x, patient in enumerate(order)}
    sequences = sorted(rows["sequence"].unique())
    figure = new_figure(0.55 * len(sequences) + 1.7, title)
    ax = figure.subplots()
    width = 0.9 if len(order) <= 60 else 1.0  # gaps thinner than a pixel would come and go
    for line, sequence in enumerate(sequences):
        part = shares.loc[sequence]
        x = np.array([place[patient] for patient in part.index])
        bottom = np.full(len(part), line - 0.42)
        for name in SUBSETS:
            height = 0.84 * part[name].to_numpy()
            ax.bar(x, height, width, bottom, color=SUBSET_COLORS[name], linewidth=0)
            bottom += height
    unit = "series" if split.by_patient and not rows.duplicated(["patient", "sequence"]).any() else "slices"
    handles = [
        Patch(
            color=SUBSET_COLORS[name],
            label=f"{name}: {rows.loc[rows['subset'] == name, 'patient'].nunique()} patients, {(subset == name).sum()} {unit}",
        )
        for name in SUBSETS
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    ax.set_yticks(range(len(sequences)), sequences)
    ax.set_ylim(len(sequences) - 0.5, -0.5)
    ax.set_xlim(-0.7, len(order) - 0.3)
    if len(order) <= 40:
        ax.set_xticks(range(len(order)), [str(patient) for patient in order], rotation=90 if len(order) > 20 else 0)
        ax.set_xlabel("patient")
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{len(order)} patients")
    ax.grid(visible=False)
    shared = int((main > 0).sum(axis=1).gt(1).sum())
    ax.set_title(title or f"split '{split.name}': {shared} of {len(order)} patients in more than one subset")
    figure.caption = f"Patients by subset and sequence in split '{split.name}'; {shared} of {len(order)} are in more than one."
    return figure


_FINDINGS = {  # column of the table -> what is written under it
    "Modic": "Modic\nchange",
    "UP endplate": "upper\nendplate",
    "LOW endplate": "lower\nendplate",
    "Spondylolisthesis": "spondylo-\nlisthesis",
    "Disc herniation": "disc\nherniation",
    "Disc narrowing": "disc\nnarrowing",
    "Disc bulging": "disc\nbulging",
}


@styled
def gradings_heatmap(gradings: pd.DataFrame, title: str = "") -> CourseFigure:
    """Radiological gradings by level: number of discs of each Pfirrmann grade, and share of discs with each finding.

    Args:
        gradings: SPIDER's radiological_gradings.csv: "IVD label" (1 = L5/S1, upward), "Pfirrman grade" (1-5), and the findings
            (0 = none). Rows with IVD label 0, which belong to no disc, are left out.

    Raises:
        ValueError: a column is missing.
    """
    _need(gradings, ["IVD label", "Pfirrman grade", *_FINDINGS], "gradings_heatmap")
    discs = gradings[gradings["IVD label"] > 0]
    levels = sorted(discs["IVD label"].unique(), reverse=True)
    grouped = discs.groupby("IVD label")
    grades = pd.crosstab(discs["IVD label"], discs["Pfirrman grade"]).reindex(index=levels, columns=range(1, 6), fill_value=0)
    findings = grouped[list(_FINDINGS)].agg(lambda column: 100 * (column > 0).mean()).reindex(levels)
    names = [f"{disc_name(int(level))}  (n = {len(grouped.get_group(level))})" for level in levels]
    figure = new_figure(0.38 * len(levels) + 2.2, title)
    left, right = figure.subplots(1, 2, width_ratios=(5, 7), sharey=True)
    _draw_heatmap(left, grades.to_numpy(dtype=float), "number of discs by Pfirrmann grade", range(1, 6))
    _draw_heatmap(right, findings.to_numpy(dtype=float), "discs with the finding (%)", list(_FINDINGS.values()))
    right.tick_params(axis="x", labelsize=8)
    left.set_yticks(range(len(levels)), names)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: Pfirrmann grades and findings of {len(discs)} discs by level.".removeprefix(": ")
    return figure


def _draw_heatmap(ax: Axes, values: np.ndarray, title: str, columns: Sequence[object]) -> None:
    """A table of numbers, darker where larger, with every number written in."""
    ax.imshow(values, cmap="Blues", aspect="auto", vmin=0)
    dark = values > 0.6 * np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        ax.text(
            column, row, f"{value:.0f}", ha="center", va="center", fontsize=9, color="white" if dark[row, column] else "black"
        )
    ax.set_xticks(range(len(columns)), [str(column) for column in columns])
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=11)


# ----------------------------------------------------------------------------------------------------------------- files


def _pixels(figure: Figure, dpi: float) -> np.ndarray:
    """The figure as (rows, columns, 3) uint8."""
    buffer = io.BytesIO()
    with course_style():
        # Not compressed, as it is read at once.
        figure.savefig(buffer, format="png", dpi=round(dpi), facecolor="white", pil_kwargs={"compress_level": 0})
    return np.asarray(Image.open(buffer).convert("RGB"))


def _for_screen(figure: Figure) -> tuple[str, bytes]:
    """(MIME type, bytes) for a notebook: PNG; JPEG where that is much larger, as a notebook must stay below 1 MB.

    Charts and drawings have few colours: a palette of 256 halves them, and nobody sees it. Where one would, all colours are kept.
    """
    pixels = _pixels(figure, SCREEN_DPI)
    png = _with_palette(pixels) or _with_shades(pixels, 256)
    if len(png) <= MAX_SCREEN_BYTES:
        return "image/png", png
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=85, subsampling=0, optimize=True)
    return "image/jpeg", buffer.getvalue()


def _for_file(figure: Figure) -> bytes:
    """The figure as PNG: with all shades when that is small enough, else with fewer, else at a lower resolution too.

    Fewer shades are 64 or 32 a channel, which moves no colour by more than 4 of 255; a palette would be no smaller and would
    merge the colours of a legend, as they cover few pixels. The file holds no date and no version, so that the same figure is
    the same file on every run.
    """
    scale = 1.0
    while True:
        pixels = _pixels(figure, FILE_DPI * scale)
        png = _with_shades(pixels, 256)
        full_bytes = len(png)
        for shades, typical_saving in ((64, 0.65), (32, 0.5)):
            if len(png) > MAX_FILE_BYTES and full_bytes * typical_saving < 1.15 * MAX_FILE_BYTES:
                png = _with_shades(pixels, shades)
        if len(png) <= MAX_FILE_BYTES or scale <= _SMALLEST_SCALE:
            return png
        # The size goes with the number of pixels: one more rendering is mostly enough.
        scale = max(_SMALLEST_SCALE, scale * min(0.9, (1.9 * MAX_FILE_BYTES / full_bytes) ** 0.5))


def _with_shades(pixels: np.ndarray, shades: int) -> bytes:
    """RGB pixels as PNG with ``shades`` evenly spaced values a channel."""
    if shades < 256:
        step = 255 / (shades - 1)
        pixels = np.rint(np.rint(np.arange(256) / step) * step).astype(np.uint8)[pixels]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _with_palette(pixels: np.ndarray) -> bytes | None:
    """RGB pixels as PNG with 256 colours of their own; None where some pixel would change by more than can be seen."""
    image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    if np.abs(np.asarray(image.convert("RGB"), dtype=np.int16) - pixels).max() > _MOST_CHANGE:
        return None
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path, caption: str) -> Path:
    """Write a figure as PNG (150 dpi, below 300 kB where that is possible) and its caption beside it as text.

    The caption is the figure's alternative text: it goes to ``<name>.txt`` and, where the figure is shown in a notebook after
    this call, into the notebook. Both files are the same on every run with the same figure.

    Args:
        figure: any matplotlib figure.
        path: where to write, for example ``workspace.figures("02_preprocessing") / "orientation"``; ".png" is added if it
            has no suffix.
        caption: what a reader who cannot see the figure needs to know.

    Returns:
        The path of the PNG.

    Raises:
        DataError: the suffix is not .png, or the folder cannot be written.
        ValueError: the caption is empty.
    """
    path = Path(path)
    if not caption.strip():
        raise ValueError(f"the figure '{path.name}' needs a caption: say in a sentence what it shows")
    if path.suffix == "":
        path = path.with_suffix(".png")
    if path.suffix.lower() != ".png":
        raise DataError(path, f"figures are written as PNG, not '{path.suffix}'", "End the name in .png.")
    if isinstance(figure, CourseFigure):
        figure.caption = caption.strip()
    png = _for_file(figure)
    with atomic_path(path) as partial:
        partial.write_bytes(png)
    with atomic_path(path.with_suffix(".txt")) as partial:
        partial.write_text(caption.strip() + "\n", encoding="utf-8")
    return path
