"""Pictures for the screen, from arrays straight to PNG: fast enough to scroll, as no figure is drawn."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spider_utils.labels import LabelScheme, get_scheme
from spider_utils.view.plots import ERROR_COLORS, error_map, window_of

FRAME_PIXELS = 640  # longer side of a picture on the screen
_LETTER_PIXELS, _TITLE_PIXELS, _GAP_PIXELS = 16, 22, 4
_CROSS_GAP, _CROSS_DASH = 9, 5  # pixels that the cross-hair leaves free around its point, and of a dash
_UNKNOWN = 255  # stands for "no value of the scheme"; the largest scheme has fewer than 100 values
_ERROR_OPACITY = 0.9  # as in the figures: errors are few and must not be overlooked
_ERROR_LOOK = (None, *(ERROR_COLORS[kind] for kind in sorted(ERROR_COLORS)))
Colors = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class Panel:
    """One of several pictures of a slice, side by side.

    Attributes:
        mask: (rows, columns) labels drawn over the slice, or None for the slice alone.
        title: written above; "" for none.
        truth: labels that ``mask`` is compared with: its errors are then drawn (see plots.error_map) in place of its labels.
    """

    mask: np.ndarray | None = None
    title: str = ""
    truth: np.ndarray | None = None


# ---------------------------------------------------------------------------------------------------------------- colours


@lru_cache(maxsize=32)
def _positions(scheme: str, hidden: frozenset[int]) -> np.ndarray:
    """(256,) uint8: mask value -> its number in the scheme's sorted values; hidden ones are background."""
    table = np.full(256, _UNKNOWN, dtype=np.uint8)
    values = get_scheme(scheme).values
    table[list(values)] = np.arange(len(values))
    table[list(hidden)] = table[0]
    return table


def _label_look(scheme: LabelScheme) -> Colors:
    """Colour of each number of ``_positions``; None for background."""
    return tuple(scheme.colors[value] if value else None for value in scheme.values)


@lru_cache(maxsize=32)
def _blends(colors: Colors, opacity: float) -> np.ndarray:
    """Every gray under every colour: uint32 at [256 * number of the colour + gray], the bytes red, green, blue, unused."""
    gray = np.arange(256, dtype=np.float64)[None, :, None]
    over = np.array([color or (0, 0, 0) for color in colors], dtype=np.float64)[:, None, :]
    share = np.array([0.0 if color is None else opacity for color in colors])[:, None, None]
    table = np.zeros((len(colors), 256, 4), dtype=np.uint8)
    table[..., :3] = np.rint(gray * (1 - share) + over * share)
    return table.reshape(-1, 4).view(np.uint32).reshape(-1)


def _gray(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """uint8: the window's low end and below is 0, its high end and above 255."""
    low, high = window
    scaled = np.subtract(image, low, dtype=np.float32)
    scaled *= 255.0 / max(high - low, np.finfo(np.float32).tiny)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def as_uint8(mask: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """The mask in one byte a pixel; ValueError when it holds values that no scheme has."""
    if mask.dtype != np.uint8:
        if mask.dtype != bool and mask.size and (mask.min() < 0 or mask.max() > 255):
            scheme.check(mask)
        mask = mask.astype(np.uint8)
    return mask


def _numbers(mask: np.ndarray, shape: tuple[int, ...], scheme: LabelScheme, hidden: frozenset[int]) -> np.ndarray:
    """The mask as numbers of ``_positions``."""
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {mask.shape}, but the slice {shape}")
    number = _positions(scheme.name, hidden)[as_uint8(mask, scheme)]
    if number.max() == _UNKNOWN:
        scheme.check(mask)
    return number


def _borders(mask: np.ndarray, thickness: int) -> np.ndarray:
    """Bool: pixels within ``thickness`` of another label, to the side, above or below."""
    border = np.zeros(mask.shape, dtype=bool)
    t = thickness
    for ahead, behind in ((np.s_[t:], np.s_[:-t]), (np.s_[:, t:], np.s_[:, :-t])):
        differ = mask[ahead] != mask[behind]
        border[ahead] |= differ
        border[behind] |= differ
    return border


# ---------------------------------------------------------------------------------------------------- letters and lines


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(_LETTER_PIXELS)


@lru_cache(maxsize=16)
def _stamps(letters: str, rows: int, columns: int) -> tuple[tuple[tuple[slice, slice], np.ndarray, np.ndarray], ...]:
    """(where, colour, opacity) of each body direction on a picture of that size; drawing text takes too long for each frame."""
    gap, places = 4, []
    anchors = (
        (columns // 2, gap, "mt"),
        (columns // 2, rows - gap, "mb"),
        (gap, rows // 2, "lm"),
        (columns - gap, rows // 2, "rm"),
    )
    for letter, (x, y, anchor) in zip(letters, anchors, strict=True):
        layer = Image.new("LA", (columns, rows))
        ImageDraw.Draw(layer).text((x, y), letter, (255, 255), _font(), anchor, stroke_width=2, stroke_fill=(0, 255))
        left, top, right, bottom = layer.getchannel("A").getbbox()
        color, alpha = np.moveaxis(np.asarray(layer)[top:bottom, left:right].astype(np.float32), 2, 0)
        places.append((np.s_[top:bottom, left:right], color[..., None], alpha[..., None] / 255))
    return tuple(places)


def _draw_letters(pixels: np.ndarray, letters: str) -> None:
    for where, color, alpha in _stamps(letters, *pixels.shape[:2]):
        pixels[where] = np.rint(pixels[where] * (1 - alpha) + color * alpha)


def _draw_cross(pixels: np.ndarray, row: int, column: int) -> None:
    """Dashes of white and black, which show on any picture, with a gap where they would meet."""
    for line, centre in ((pixels[row], column), (pixels[:, column], row)):
        along = np.arange(len(line))
        free = np.abs(along - centre) >= _CROSS_GAP
        line[free] = np.where(along // _CROSS_DASH % 2, 0, 255)[free, None]


@lru_cache(maxsize=16)
def _title_bar(titles: tuple[str, ...], width: int) -> np.ndarray:
    """White on black, each title in the middle above its panel; a long one is cut."""
    bar = Image.new("L", (len(titles) * (width + _GAP_PIXELS) - _GAP_PIXELS, _TITLE_PIXELS))
    for place, title in enumerate(titles):
        shown = title
        while len(shown) > 1 and _font().getlength(shown) > width - 4:
            shown = shown.removesuffix("…")[:-1] + "…"
        middle = place * (width + _GAP_PIXELS) + width // 2
        ImageDraw.Draw(bar).text((middle, _TITLE_PIXELS // 2), shown, 255, _font(), "mm")
    return np.repeat(np.asarray(bar)[..., None], 3, axis=2)


# ---------------------------------------------------------------------------------------------------------------- frames


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(pixels: np.ndarray) -> bytes:
    """(rows, columns, 3) uint8 as an RGB PNG.

    Each byte is stored as the difference to its left neighbour ("Sub", PNG specification, 9.2) and packed at the fastest level.
    Pillow tries five such filters for every row, which takes half as long again for a file of the same size.
    """
    rows, columns, _ = pixels.shape
    flat = pixels.reshape(rows, -1)
    filtered = np.empty((rows, 1 + flat.shape[1]), dtype=np.uint8)
    filtered[:, 0] = 1  # the filter's number
    filtered[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=filtered[:, 4:])
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(filtered, 1)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _overlaid(gray: np.ndarray, number: np.ndarray, look: Colors, opacity: float, line_pixels: int) -> np.ndarray:
    """(rows, columns, 3): the picture under filled labels, or under their outlines (0: filled)."""
    if number.shape != gray.shape:
        number = np.asarray(Image.fromarray(number).resize(gray.shape[::-1], Image.Resampling.NEAREST))
    if line_pixels:
        number = number * _borders(number, line_pixels)
    index = (number.astype(np.uint16) << 8) | gray
    return _blends(look, 1.0 if line_pixels else round(opacity, 3))[index].view(np.uint8).reshape(*gray.shape, 4)[..., :3]


def render_panels(
    image: np.ndarray,
    panels: Sequence[Panel],
    scheme: str = "spider",
    window: tuple[float, float] | None = None,
    opacity: float = 0.4,
    outline: bool = False,
    spacing_mm: Sequence[float] = (1.0, 1.0),
    size: int = FRAME_PIXELS,
    letters: str = "",
    hidden: Collection[int] = (),
    cross: tuple[int, int] | None = None,
) -> bytes:
    """One slice several times side by side, each time under another mask, as PNG.

    Args:
        image: (rows, columns) gray values of any numeric type, finite.
        panels: at least one.
        scheme: of all masks.
        window: (low, high) gray values that become black and white; None takes the 0.5 and 99.5 percentile of the slice.
        opacity: 0 to 1, of filled labels; outlines are always opaque, filled errors nearly so.
        outline: borders of the labels instead of filled labels.
        spacing_mm: (row, column); gives the picture its true proportions.
        size: the longer side of a panel in pixels.
        letters: body directions at the top, bottom, left and right ("SIAP"); "" for none. A panel too narrow has none.
        hidden: labels that are treated as background, in errors too.
        cross: pixel (row, column) of ``image`` that a cross-hair points at, or None.

    Returns:
        An RGB PNG.

    Raises:
        ValueError: no panel, shapes differ, a mask holds values that the scheme does not know, the cross-hair lies outside, or
            opacity, spacing or size is impossible.
    """
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"a slice must have shape (rows, columns), not {image.shape}")
    if len(spacing_mm) != 2 or not all(np.isfinite(step) and step > 0 for step in spacing_mm) or size < 1:
        raise ValueError(f"spacing_mm and size must be positive, not {tuple(spacing_mm)} and {size}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie between 0 and 1, not {opacity}")
    if cross is not None and not all(0 <= place < n for place, n in zip(cross, image.shape, strict=True)):
        raise ValueError(f"the cross-hair points at {tuple(cross)}, outside a slice of {image.shape}")
    if not panels:
        raise ValueError("a picture needs at least one panel")
    chosen, out = get_scheme(scheme), frozenset(hidden) - {0}
    chosen.check(np.array(sorted(out), dtype=np.int64))
    extent = np.multiply(image.shape, spacing_mm)
    rows, columns = np.maximum(1, np.rint(extent * (size / extent.max()))).astype(int).tolist()
    gray = _gray(image, window_of(image) if window is None else window)
    if gray.shape != (rows, columns):
        gray = np.asarray(Image.fromarray(gray).resize((columns, rows), Image.Resampling.BILINEAR))
    line_pixels = max(1, round(size / 400)) if outline else 0
    titles = tuple(panel.title for panel in panels)
    top = _TITLE_PIXELS if any(titles) else 0
    pixels = np.zeros((top + rows, len(panels) * (columns + _GAP_PIXELS) - _GAP_PIXELS, 3), dtype=np.uint8)
    if top:
        pixels[:top] = _title_bar(titles, columns)
    for place, panel in enumerate(panels):
        left = place * (columns + _GAP_PIXELS)
        part = pixels[top:, left : left + columns]
        if panel.mask is None:
            part[:] = gray[..., None]
        else:
            number, look, share = _numbers(panel.mask, image.shape, chosen, out), _label_look(chosen), float(opacity)
            if panel.truth is not None:
                number = error_map(_numbers(panel.truth, image.shape, chosen, out), number)
                look, share = _ERROR_LOOK, _ERROR_OPACITY
            part[:] = _overlaid(gray, number, look, share, line_pixels)
        if cross is not None:
            _draw_cross(part, *(int((p + 0.5) * n / m) for p, n, m in zip(cross, (rows, columns), image.shape, strict=True)))
        if letters and min(rows, columns) >= 6 * _LETTER_PIXELS:
            _draw_letters(part, letters)
    return png_of(pixels)


def render_frame(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    scheme: str = "spider",
    window: tuple[float, float] | None = None,
    opacity: float = 0.4,
    outline: bool = False,
    **look: object,
) -> bytes:
    """One slice with its overlay as PNG: ``render_panels`` with a single panel, of which ``look`` takes the other arguments."""
    return render_panels(image, [Panel(mask)], scheme, window, opacity, outline, **look)  # type: ignore[arg-type]
