"""What is written over a frame of the viewer: names of levels, and the lines that were measured on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from spider_utils.labels import get_scheme
from spider_utils.measure.marks import Mark
from spider_utils.view.plots import PALETTE

MARK_COLORS = {"endplate": PALETTE[4], "disc height": "#FFFFFF", "canal diameter": PALETTE[3]}
_NAME_SHARE = 0.026  # height of letters, of the picture's longer side
_UNNAMED = ("spinal canal", "vertebra", "disc")


@dataclass(frozen=True)
class Name:
    """A name on a slice: its ``text``, where (``row``, ``column``), and whether it is ``centred`` there or ends there."""

    text: str
    row: int
    column: int
    centred: bool


def level_names(mask: np.ndarray, scheme: str, spacing_mm: Sequence[float]) -> list[Name]:
    """Names of levels for a sagittal slice: vertebrae at their innermost pixel; discs, which are thin, in front of them.

    Args:
        mask: (rows, columns) integers of ``scheme``.
        spacing_mm: (row, column).

    Returns:
        A Name a level; the canal and classes without levels have none.
    """
    names, found = get_scheme(scheme).names, []
    for value, box in enumerate(ndimage.find_objects(mask), start=1):
        if box is None or names[value] in _UNNAMED:
            continue
        inside = mask[box] == value
        depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing_mm)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        text = names[value].removeprefix("disc ").replace(" (partly in view)", "*")
        if is_disc := names[value].startswith("disc "):
            pieces = ndimage.label(inside)[0]
            rows, columns = np.nonzero(pieces == pieces[row, column])
            row, column = rows[columns == columns.min()].mean(), columns.min()
        found.append(Name(text, int(box[0].start + row), int(box[1].start + column), not is_disc))
    return found


def write_on_frame(
    frame: bytes,
    shape: tuple[int, int],
    spacing_mm: Sequence[float],
    names: Sequence[Name] = (),
    lines: Sequence[Mark] = (),
) -> bytes:
    """A frame with names and lines on it.

    Args:
        frame: PNG of frames.render_frame, of a sagittal slice.
        shape: rows and columns of that slice.
        spacing_mm: its (row, column).
        names: of level_names.
        lines: of measure.marks; drawn are those whose quantity MARK_COLORS knows, wherever in the volume they lie.

    Returns:
        An RGB PNG of the same size.
    """
    picture = Image.open(io.BytesIO(frame)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    scale = np.array([picture.height / shape[0], picture.width / shape[1]])  # pixels of the screen for one of the slice
    for mark in lines:
        color = next((color for kind, color in MARK_COLORS.items() if mark.quantity.startswith(kind)), None)
        if color is not None:
            ends = (mark.ends[:, 1:] / np.asarray(spacing_mm) + 0.5) * scale
            draw.line([tuple(end[::-1]) for end in ends.tolist()], fill=color, width=2)
    font = ImageFont.load_default(max(11, round(_NAME_SHARE * max(picture.size))))
    for name in names:
        row, column = (np.array([name.row, name.column + (0 if name.centred else -1)]) + 0.5) * scale
        draw.text((column, row), name.text, "white", font, "mm" if name.centred else "rm", stroke_width=2, stroke_fill="black")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
