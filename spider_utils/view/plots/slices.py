"""One slice in millimetres, with its mask, letters, names and a bar of a round length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import offset_copy
from scipy import ndimage

from spider_utils.labels import LabelScheme, get_scheme
from spider_utils.view.plots.legends import values_in
from spider_utils.view.plots.style import OUTLINED_TEXT, styled

_SMALL_PANEL_IN = 2.3  # narrower pictures have no room for all names
_NAME_SIZE, _LETTER_WIDTH = 8, 0.65  # of a name on the picture: points, and the width of its letters as a share
_BAR_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)


def window_of(array: np.ndarray) -> tuple[float, float]:
    """(low, high) intensities between which an array is shown: 0.5 and 99.5 percentile, never equal.

    Of a large array about a million evenly spaced values are looked at, as sorting a whole volume would take seconds.
    """
    array = array.reshape(-1)[:: max(1, array.size // 1_000_000)]
    low, high = (float(v) for v in np.percentile(array, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def box_around(marked: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> tuple[slice, slice]:
    """Rows and columns that hold what is marked in a slice and ``margin_mm`` around it, as far as the slice goes.

    Args:
        marked: bool (row, column), True somewhere.
        spacing_mm: of a row and a column.
        margin_mm: on each side.
    """
    box = []
    for axis, (n, mm) in enumerate(zip(marked.shape, spacing_mm, strict=True)):
        places, margin = np.flatnonzero(marked.any(axis=1 - axis)), round(margin_mm / mm)
        box.append(slice(max(0, int(places[0]) - margin), min(n, int(places[-1]) + 1 + margin)))
    return tuple(box)


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
            draw_fill(ax, mask, {v: chosen.colors[v] for v in chosen.foreground}, opacity, aspect)
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


def draw_fill(ax: Axes, mask: np.ndarray, colors: Mapping[int, tuple[int, int, int]], opacity: float, aspect: float) -> None:
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
    values = [value for value in values_in([mask]) if scheme.names[value] != "spinal canal"]
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
            path_effects=OUTLINED_TEXT,
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
            path_effects=OUTLINED_TEXT,
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
        path_effects=OUTLINED_TEXT,
    )  # fmt: skip


def height_over_width(shape: Sequence[int], spacing_mm: Sequence[float] | None) -> float:
    """Of a picture of ``shape`` (rows, columns, ...); of square pixels where their spacing (row, column) in mm is not known."""
    rows, columns = shape[:2]
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    return rows * row_mm / (columns * column_mm)
