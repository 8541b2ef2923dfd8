"""The slices of a scan with their masks on one picture, to look through before a mask is used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spider_utils.arrays import distinct
from spider_utils.data.volumes import Volume
from spider_utils.files import atomic_path
from spider_utils.labels import get_scheme
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS
from spider_utils.view.frame_marks import level_names, write_on_frame
from spider_utils.view.frames import Panel, render_panels
from spider_utils.view.plots.slices import box_around, window_of

_CELL_PIXELS = 480  # the longer side of a slice
_TITLE_PIXELS = 20
_COLUMNS = 5
_MOST = 20  # slices
_MARGIN_MM = 20.0  # of what is shown around the labels


def shown_slices(mask: np.ndarray, most: int = _MOST) -> list[int]:
    """Which slices a sheet shows: from the first to the last that holds a label, evenly spaced; of an empty mask from all.

    Args:
        mask: (slice, row, column).
        most: how many at most.
    """
    marked = np.flatnonzero(mask.any(axis=(1, 2)))
    first, last = (int(marked[0]), int(marked[-1])) if len(marked) else (0, len(mask) - 1)
    return sorted({round(place) for place in np.linspace(first, last, min(most, last - first + 1)).tolist()})


def shown_box(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[slice, slice]:
    """Rows and columns that hold all labels and some of what lies around them; all of an empty mask.

    Args:
        mask: (slice, row, column).
        spacing_mm: of a row and a column.
    """
    marked = mask.any(axis=0)
    if not marked.any():
        return tuple(slice(0, n) for n in marked.shape)
    return box_around(marked, spacing_mm, _MARGIN_MM)


def contact_sheet(image: Volume, mask: Volume, scheme: str) -> Image.Image:
    """Slices side by side and below each other, each with its number, the outlines of its labels and the names of vertebrae.

    Args:
        image: a sagittal series, or one slice.
        mask: integers of ``scheme``, of the image's shape.

    Raises:
        ValueError: shapes differ, or the mask holds values that the scheme does not know.
    """
    if image.array.shape != mask.array.shape:
        raise ValueError(f"an image of shape {image.array.shape} has no mask of shape {mask.array.shape}")
    spacing, box = image.spacing[1:], shown_box(mask.array, image.spacing[1:])
    shown = shown_slices(mask.array)
    window = window_of(image.array[[*shown]][:, *box])  # one for all, so that slices can be compared
    cells = [_cell(image.array[k][box], mask.array[k][box], scheme, window, spacing) for k in shown]
    width, height = cells[0].size
    columns = min(_COLUMNS, len(cells))
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * (_TITLE_PIXELS + height)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (k, cell) in enumerate(zip(shown, cells, strict=True)):
        left, top = place % columns * width, place // columns * (_TITLE_PIXELS + height)
        draw.text((left + 4, top + 2), f"slice {k + 1} of {len(mask.array)}", "white", font)
        sheet.paste(cell, (left, top + _TITLE_PIXELS))
    return sheet


def _cell(
    image: np.ndarray, mask: np.ndarray, scheme: str, window: tuple[float, float], spacing_mm: tuple[float, ...]
) -> Image.Image:
    """One slice with outlines and names."""
    frame = render_panels(image, [Panel(mask)], scheme, window, outline=True, spacing_mm=spacing_mm, size=_CELL_PIXELS)
    names = level_names(mask.astype(np.intp), scheme, spacing_mm) if scheme in SCHEMES_WITH_LEVELS else ()
    vertebrae = [name for name in names if name.centred]  # discs lie between them; with their names nothing else is seen
    return Image.open(io.BytesIO(write_on_frame(frame, mask.shape, spacing_mm, vertebrae)))


def write_contact_sheet(path: str | Path, image: Volume, mask: Volume, scheme: str) -> Path:
    """Write ``contact_sheet`` as PNG. It shows a patient: keep it out of repositories.

    Raises:
        ValueError: as there.
        DataError: the folder cannot be written.
    """
    get_scheme(scheme).check(distinct(mask.array))
    with atomic_path(path) as partial:
        contact_sheet(image, mask, scheme).save(partial, format="PNG")
    return Path(path)
