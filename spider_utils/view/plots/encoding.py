"""A figure as bytes: for the screen of a notebook and for a file."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from spider_utils.view.plots.style import course_style

MAX_FILE_BYTES, MAX_SCREEN_BYTES = 300_000, 80_000
SCREEN_DPI, FILE_DPI = 100, 150
_SMALLEST_SCALE = 0.6  # of the resolution; below it the text would be hard to read
_MOST_CHANGE = 8  # of 255, of a channel of a pixel, for a smaller file


def _pixels(figure: Figure, dpi: float) -> np.ndarray:
    """The figure as (rows, columns, 3) uint8."""
    buffer = io.BytesIO()
    with course_style():
        # Not compressed, as it is read at once.
        figure.savefig(buffer, format="png", dpi=round(dpi), facecolor="white", pil_kwargs={"compress_level": 0})
    return np.asarray(Image.open(buffer).convert("RGB"))


def for_screen(figure: Figure) -> tuple[str, bytes]:
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


def for_file(figure: Figure) -> bytes:
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
