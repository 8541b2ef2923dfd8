"""The slice viewer for Jupyter: scroll through a volume with its masks, in any plane.

Only the core of ipywidgets is used, and each picture is a PNG made here from arrays, so the same viewer works in JupyterLab,
Notebook, Colab, Kaggle, VS Code and Voila. Without ipywidgets everything but the controls still works: ``frame()`` and
``static_figure()``. The controls follow the keyboard: with the slider in focus, the arrow keys move from slice to slice.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spider_utils.data.volumes import Volume, check_same_geometry
from spider_utils.errors import KitError
from spider_utils.labels import get_scheme
from spider_utils.view import plots

FRAME_PIXELS = 640  # longer side of the picture on the screen
_LETTER_PIXELS = 16
_UNKNOWN = 255  # stands for "no value of the scheme"; the largest scheme has fewer than 100 values


# ---------------------------------------------------------------------------------------------------------------- frames


@lru_cache(maxsize=8)
def _positions(scheme: str) -> np.ndarray:
    """(256,) uint8: mask value -> its number in the scheme's sorted values."""
    table = np.full(256, _UNKNOWN, dtype=np.uint8)
    values = get_scheme(scheme).values
    table[list(values)] = np.arange(len(values))
    return table


@lru_cache(maxsize=32)
def _blends(scheme: str, opacity: float) -> np.ndarray:
    """Every gray under every label: uint32 at [256 * number of the label + gray], the bytes red, green, blue, unused."""
    chosen = get_scheme(scheme)
    gray = np.arange(256, dtype=np.float64)[None, :, None]
    colors = np.array([chosen.colors[value] for value in chosen.values], dtype=np.float64)[:, None, :]
    share = np.where(np.array(chosen.values) == 0, 0.0, opacity)[:, None, None]
    table = np.zeros((len(chosen.values), 256, 4), dtype=np.uint8)
    table[..., :3] = np.rint(gray * (1 - share) + colors * share)
    return table.reshape(-1, 4).view(np.uint32).reshape(-1)


def _gray(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """uint8: the window's low end and below is 0, its high end and above 255."""
    low, high = window
    scaled = np.subtract(image, low, dtype=np.float32)
    scaled *= 255.0 / max(high - low, np.finfo(np.float32).tiny)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def _as_uint8(mask: np.ndarray, scheme: str) -> np.ndarray:
    """The mask in one byte a pixel; ValueError when it holds values that no scheme has."""
    if mask.dtype != np.uint8:
        if mask.dtype != bool and mask.size and (mask.min() < 0 or mask.max() > 255):
            get_scheme(scheme).check(mask)
        mask = mask.astype(np.uint8)
    return mask


def _borders(mask: np.ndarray, thickness: int) -> np.ndarray:
    """Bool: pixels within ``thickness`` of another label, to the side, above or below."""
    border = np.zeros(mask.shape, dtype=bool)
    t = thickness
    for ahead, behind in ((np.s_[t:], np.s_[:-t]), (np.s_[:, t:], np.s_[:, :-t])):
        differ = mask[ahead] != mask[behind]
        border[ahead] |= differ
        border[behind] |= differ
    return border


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(_LETTER_PIXELS)


def _draw_letters(picture: Image.Image, letters: str) -> None:
    draw, (width, height), gap = ImageDraw.Draw(picture), picture.size, 4
    places = (
        (width // 2, gap, "mt"), (width // 2, height - gap, "mb"), (gap, height // 2, "lm"), (width - gap, height // 2, "rm"),
    )  # fmt: skip
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        draw.text((x, y), letter, "white", _font(), anchor, stroke_width=2, stroke_fill="black")


def render_frame(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    scheme: str = "spider",
    window: tuple[float, float] | None = None,
    opacity: float = 0.4,
    outline: bool = False,
    spacing_mm: Sequence[float] = (1.0, 1.0),
    size: int = FRAME_PIXELS,
    letters: str = "",
) -> bytes:
    """One slice with its overlay as PNG, fast enough to scroll: no figure is drawn.

    Args:
        image: (rows, columns) gray values of any numeric type, finite.
        mask: (rows, columns) integer labels of ``scheme``, or None for no overlay.
        window: (low, high) gray values that become black and white; None takes the 0.5 and 99.5 percentile of the slice.
        opacity: 0 to 1, of filled labels; outlines are always opaque.
        outline: borders of the labels instead of filled labels.
        spacing_mm: (row, column); gives the picture its true proportions.
        size: the longer side of the picture in pixels.
        letters: body directions at the top, bottom, left and right ("SIAP"); "" for none. A picture too narrow has none.

    Returns:
        An RGB PNG.

    Raises:
        ValueError: shapes differ, the mask holds values that the scheme does not know, or opacity, spacing or size is impossible.
    """
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"a slice must have shape (rows, columns), not {image.shape}")
    if len(spacing_mm) != 2 or not all(np.isfinite(step) and step > 0 for step in spacing_mm) or size < 1:
        raise ValueError(f"spacing_mm and size must be positive, not {tuple(spacing_mm)} and {size}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie between 0 and 1, not {opacity}")
    extent = np.multiply(image.shape, spacing_mm)
    rows, columns = np.maximum(1, np.rint(extent * (size / extent.max()))).astype(int).tolist()
    gray = _gray(image, plots.window_of(image) if window is None else window)
    if gray.shape != (rows, columns):
        gray = np.asarray(Image.fromarray(gray).resize((columns, rows), Image.Resampling.BILINEAR))
    if mask is None:
        picture = Image.fromarray(gray).convert("RGB")
    else:
        if mask.shape != image.shape:
            raise ValueError(f"the mask has shape {mask.shape}, but the slice {image.shape}")
        number = _positions(scheme)[_as_uint8(mask, scheme)]
        if number.max() == _UNKNOWN:
            get_scheme(scheme).check(mask)
        if number.shape != (rows, columns):
            number = np.asarray(Image.fromarray(number).resize((columns, rows), Image.Resampling.NEAREST))
        if outline:
            number = number * _borders(number, max(1, round(size / 400)))
        index = (number.astype(np.uint16) << 8) | gray
        pixels = _blends(scheme, 1.0 if outline else round(float(opacity), 3))[index]
        picture = Image.frombytes("RGB", (columns, rows), pixels.tobytes(), "raw", "RGBX")
    if letters and min(rows, columns) >= 6 * _LETTER_PIXELS:
        _draw_letters(picture, letters)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------------------- viewer


def _import_widgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise KitError(
            "the slice viewer's controls need ipywidgets, which is not installed: run `pip install 'ipywidgets>=8'` and restart "
            "the notebook (without it, static_figure() shows one slice)"
        ) from error
    return ipywidgets


@dataclass
class View:
    """What the viewer shows at the moment.

    Attributes:
        plane: "sagittal", "coronal" or "axial".
        index: number of the slice along the plane's axis of the array.
        mask: name of the mask, or None when there is none.
        overlay: is the mask shown?
        outline: borders instead of filled labels.
        opacity: of filled labels, 0 to 1.
        level, width: the window's centre and width, in gray values.
    """

    plane: str
    index: int
    mask: str | None
    overlay: bool
    outline: bool
    opacity: float
    level: float
    width: float

    @property
    def window(self) -> tuple[float, float]:
        """(low, high) gray values shown as black and white."""
        return self.level - self.width / 2, self.level + self.width / 2


class SliceViewer:
    """A volume to scroll through, with one or more masks over it.

    Put it on the last line of a cell to see it. It opens on the slice with most labelled pixels.

    Args:
        volume: the image.
        masks: a mask on the same grid, or name -> mask (the first is shown first), or None.
        scheme: label scheme of the masks.
        plane: the plane it opens in: "sagittal", "coronal" or "axial".
        size: the longer side of the picture, in pixels of the screen.

    Attributes:
        view: what is shown now.
        controls: name -> ipywidget: "plane", "slice", "play", "mask", "overlay", "style", "opacity", "level", "window". Setting
            a control's ``value`` in code does what moving it does. Filled by ``widget``.
        picture, readout, legend: the widgets that show the frame, where it is, and the labels. Made by ``widget``.

    Raises:
        DataError: a mask does not lie on the volume's grid.
        ValueError: a mask holds values that the scheme does not know, the image is not finite, or the plane is unknown.
    """

    def __init__(
        self,
        volume: Volume,
        masks: Volume | Mapping[str, Volume] | None = None,
        scheme: str = "spider",
        plane: str = "sagittal",
        size: int = FRAME_PIXELS,
    ):
        if plane not in plots.PLANES:
            raise ValueError(f"unknown plane '{plane}'. Known are: {', '.join(plots.PLANES)}")
        if not np.isfinite(volume.array).all():
            raise ValueError("the volume holds values that are not finite (NaN or infinity)")
        self.volume, self.scheme, self.size = volume, get_scheme(scheme), size
        given = {"mask": masks} if isinstance(masks, Volume) else dict(masks or {})
        self._masks: dict[str, np.ndarray] = {}
        found: set[int] = set()
        for name, mask in given.items():
            check_same_geometry(volume, mask)
            array = _as_uint8(mask.array, scheme)
            # Counting is much faster than sorting a whole volume.
            values = {v for part in array for v in np.flatnonzero(np.bincount(part.reshape(-1), minlength=1)).tolist()}
            if not values <= set(self.scheme.values):
                self.scheme.check(array)
            self._masks[name] = array
            found |= values
        self.labels = sorted(found - {0})
        low, high = plots.window_of(volume.array)
        first = next(iter(self._masks), None)
        self.view = View(plane, 0, first, first is not None, False, 0.4, (low + high) / 2, high - low)
        self.view.index = self._fullest(plane)
        self.controls: dict[str, Any] = {}
        self._box: Any = None
        self._settling = False  # several controls are being set at once: draw after the last of them

    # ------------------------------------------------------------------------------------------------------ what is shown

    @property
    def _plane(self) -> plots.Plane:
        return plots.PLANES[self.view.plane]

    def _count(self, plane: str) -> int:
        return self.volume.array.shape[plots.PLANES[plane].axis]

    def _fullest(self, plane: str) -> int:
        """Number of the slice with most labelled pixels of the current mask; the middle one when nothing is labelled."""
        axis = plots.PLANES[plane].axis
        if self.view.mask is not None:
            counts = np.count_nonzero(self._masks[self.view.mask], axis=tuple({0, 1, 2} - {axis}))
            if counts.any():
                return int(counts.argmax())
        return self._count(plane) // 2

    def _cut(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The current slice of the image, and of the current mask."""
        plane, index = self._plane, self.view.index
        mask = None if self.view.mask is None else plane.cut(self._masks[self.view.mask], index)
        return plane.cut(self.volume.array, index), mask

    def frame(self) -> bytes:
        """The current picture as PNG."""
        image, mask = self._cut()
        return render_frame(
            image, mask if self.view.overlay else None, self.scheme.name, self.view.window, self.view.opacity, self.view.outline,
            self._plane.spacing(self.volume.spacing), self.size, self._plane.letters,
        )  # fmt: skip

    def position(self) -> str:
        """Where the current slice lies, in words: number, and mm from the middle of the volume."""
        last = self._count(self.view.plane) - 1
        offset = (self.view.index - last / 2) * self.volume.spacing[self._plane.axis]
        where = "in" if abs(offset) < 0.05 else f"{abs(offset):.1f} mm {self._plane.sides[int(offset > 0)]}"
        return f"{self.view.plane} slice {self.view.index} (of 0 to {last}), {where} the middle"

    def present(self) -> list[int]:
        """Labels of the current mask in the current slice, ascending, without background."""
        _, mask = self._cut()
        return [] if mask is None else [v for v in np.flatnonzero(np.bincount(mask.reshape(-1))).tolist() if v]

    def static_figure(self) -> plots.CourseFigure:
        """The current slice alone and under each mask, as a matplotlib figure: for papermill, GitHub and print."""
        plane, view = self._plane, self.view
        image, spacing = plane.cut(self.volume.array, view.index), plane.spacing(self.volume.spacing)
        panels = [(image, None, spacing, "image")]
        panels += [(image, plane.cut(array, view.index), spacing, name) for name, array in self._masks.items()]
        figure = plots.contact_sheet(
            panels, self.scheme.name, max(2, min(len(panels), 4)),
            outline=view.outline, opacity=view.opacity, letters=plane.letters, window=view.window,
        )  # fmt: skip
        figure.suptitle(self.position(), fontsize=11)
        figure.caption = f"{self.position()}: {', '.join(title for *_, title in panels)}."
        return figure

    def __repr__(self) -> str:
        masks = f", masks: {', '.join(self._masks)}" if self._masks else ""
        return f"SliceViewer({self.position()}{masks}; run the cell to use it)"

    # ----------------------------------------------------------------------------------------------------------- controls

    @property
    def widget(self) -> Any:
        """The viewer as one ipywidget. Raises KitError when ipywidgets is not installed."""
        if self._box is None:
            self._box = self._build(_import_widgets())
            self._refresh()
        return self._box

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = dict(self.widget._repr_mimebundle_(**kwargs))
        bundle["text/plain"] = repr(self)  # what is left where no widget can be shown
        return bundle

    def _build(self, w: Any) -> Any:
        view, wide = self.view, w.Layout(width="98%")
        low, high = float(self.volume.array.min()), float(self.volume.array.max())
        span = max(high - low, 1e-6)
        number = {"step": span / 256, "readout_format": ".0f" if span > 20 else ".2f", "layout": wide}
        last = self._count(view.plane) - 1
        self.controls = {
            "plane": w.ToggleButtons(options=list(plots.PLANES), value=view.plane, style={"button_width": "76px"}),
            "slice": w.IntSlider(value=view.index, min=0, max=last, description="Slice", layout=w.Layout(flex="1 1 auto")),
            "play": w.Play(value=view.index, min=0, max=last, interval=100),
            "overlay": w.Checkbox(value=view.overlay, description="overlay", indent=False, layout=w.Layout(width="90px")),
            "style": w.ToggleButtons(
                options=[("fill", False), ("outline", True)], value=view.outline, style={"button_width": "72px"}
            ),
            "opacity": w.FloatSlider(value=view.opacity, min=0, max=1, step=0.05, description="Opacity", layout=wide),
            "level": w.FloatSlider(value=view.level, min=low, max=low + span, description="Level", **number),
            "window": w.FloatSlider(value=view.width, min=span / 256, max=2 * span, description="Window", **number),
        }
        if self._masks:
            self.controls["mask"] = w.Dropdown(options=list(self._masks), value=view.mask, description="Mask", layout=wide)
        # Never taller than a laptop's screen, or the slider and the slice cannot be seen together.
        fit = w.Layout(max_width="100%", max_height="560px", object_fit="contain", align_self="center")
        self.picture = w.Image(format="png", layout=fit)
        self.readout, self.legend = w.HTML(), w.HTML()
        self._play_link = w.jslink((self.controls["play"], "value"), (self.controls["slice"], "value"))
        for name, attribute in _VIEW_OF_CONTROL.items():
            if name in self.controls:
                self.controls[name].observe(lambda change, a=attribute: self._set(a, change["new"]), names="value")
        self.controls["plane"].observe(lambda change: self._turn(change["new"]), names="value")
        c = self.controls
        overlay = [w.HBox([c["overlay"], c["style"]]), c["opacity"], self.legend] if self._masks else []
        side = [c["plane"], c["level"], c["window"], *([c["mask"]] if len(self._masks) > 1 else []), *overlay]
        beside = w.Layout(flex="1 1 0", min_width="320px")  # the panel goes below only where there is no room beside
        picture = w.VBox([w.HBox([c["play"], c["slice"]]), self.picture, self.readout], layout=beside)
        return w.HBox([picture, w.VBox(side, layout=w.Layout(width="300px"))], layout=w.Layout(flex_flow="row wrap"))

    def _set(self, attribute: str, value: Any) -> None:
        setattr(self.view, attribute, value)
        if not self._settling:
            self._refresh()

    def _turn(self, plane: str) -> None:
        """Change the plane: the slider gets the new number of slices and the fullest slice."""
        self.view.plane, self.view.index = plane, self._fullest(plane)
        self._settling = True
        try:
            for control in (self.controls["slice"], self.controls["play"]):
                # One message, or a range that excludes the old value would move it on the way.
                with control.hold_trait_notifications():
                    control.max, control.value = self._count(plane) - 1, self.view.index
        finally:
            self._settling = False
        self._refresh()

    def _refresh(self) -> None:
        self.picture.value = self.frame()
        present = self.present() if self.view.overlay else []
        names = ", ".join(self.scheme.names[value] for value in present) or "none"
        self.readout.value = escape(self.position()) + (f"<br>labels here: {escape(names)}" if self.view.overlay else "")
        self.legend.value = "".join(self._legend_line(value, value in present) for value in self.labels)

    def _legend_line(self, value: int, present: bool) -> str:
        red, green, blue = self.scheme.colors[value]
        box = f"display:inline-block;width:0.9em;height:0.9em;margin-right:0.5em;background:rgb({red},{green},{blue})"
        style = "line-height:1.35;" + ("" if present else "opacity:0.45;")
        return f'<div style="{style}"><span style="{box}"></span>{value}: {escape(self.scheme.names[value])}</div>'


_VIEW_OF_CONTROL = {
    "slice": "index", "mask": "mask", "overlay": "overlay", "style": "outline", "opacity": "opacity", "level": "level",
    "window": "width",
}  # fmt: skip
