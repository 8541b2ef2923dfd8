"""The slices of a scan with their masks on one picture, to look through before a mask is used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from spider_utils.data.volumes import Volume
from spider_utils.files import atomic_path
from spider_utils.labels import get_scheme
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS
from spider_utils.view.frame_marks import level_names, write_on_frame
from spider_utils.view.frames import Panel, render_panels

_CELL_PIXELS = 360  # the longer side of a slice
_COLUMNS = 5
_MOST = 20  # slices


def shown_slices(mask: np.ndarray, most: int = _MOST) -> list[int]:
    """Which slices a sheet shows: from the first to the last that holds a label, evenly spaced; of an empty mask from all.

    Args:
        mask: (slice, row, column).
        most: how many at most.
    """
    marked = np.flatnonzero(mask.any(axis=(1, 2)))
    first, last = (int(marked[0]), int(marked[-1])) if len(marked) else (0, len(mask) - 1)
    return sorted({round(place) for place in np.linspace(first, last, min(most, last - first + 1)).tolist()})


def contact_sheet(image: Volume, mask: Volume, scheme: str) -> Image.Image:
    """Slices side by side and below each other, each with its number, the outlines of its labels and the names of levels.

    Args:
        image: a sagittal series, or one slice.
        mask: integers of ``scheme``, of the image's shape.

    Raises:
        ValueError: shapes differ, or the mask holds values that the scheme does not know.
    """
    cells, total, spacing = [], len(mask.array), image.spacing[1:]
    for k in shown_slices(mask.array):
        drawn = mask.array[k]
        frame = render_panels(image.array[k], [Panel(drawn)], scheme, outline=True, spacing_mm=spacing, size=_CELL_PIXELS)
        names = level_names(drawn.astype(np.intp), scheme, spacing) if scheme in SCHEMES_WITH_LEVELS else ()
        cells.append(
            Image.open(io.BytesIO(write_on_frame(frame, drawn.shape, spacing, names, title=f"slice {k + 1} of {total}")))
        )
    width, height = cells[0].size
    columns = min(_COLUMNS, len(cells))
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height))
    for place, cell in enumerate(cells):
        sheet.paste(cell, (place % columns * width, place // columns * height))
    return sheet


def write_contact_sheet(path: str | Path, image: Volume, mask: Volume, scheme: str) -> Path:
    """Write ``contact_sheet`` as PNG. It shows a patient: keep it out of repositories.

    Raises:
        ValueError: as there.
        DataError: the folder cannot be written.
    """
    get_scheme(scheme).check(np.unique(mask.array))
    with atomic_path(path) as partial:
        contact_sheet(image, mask, scheme).save(partial, format="PNG")
    return Path(path)
