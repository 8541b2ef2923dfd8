"""The slice viewer for Jupyter: scroll through a volume with its masks, in any plane.

Only the core of ipywidgets is used, and each picture is a PNG made from arrays (see frames.py), so the same viewer works in
JupyterLab, Notebook 7, Colab, Kaggle, VS Code and Voila. Without ipywidgets everything but the controls still works: ``frame()``
and ``static_figure()``. The controls follow the keyboard: with the slider in focus, the arrow keys move from slice to slice.

The mouse wheel turns the number beside the slider while that number is in focus, in browsers where wheels turn number fields
(Chromium, Chrome, Edge and what is built on them; elsewhere nothing is lost). Over the picture there is none: no core widget
tells Python of a wheel. It would need a package with a front-end part of its own (ipyevents, anywidget), which not every one of
these front ends loads, or a script inside an HTML widget, which some refuse to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from spider_utils.data.volumes import Volume
from spider_utils.errors import KitError
from spider_utils.view import plots
from spider_utils.view.frames import FRAME_PIXELS
from spider_utils.view.slice_view import MODES, SliceView

_FIELD_OF_CONTROL = {
    "plane": "plane", "slice": "index", "mode": "mode", "mask": "mask", "overlay": "overlay", "style": "outline",
    "opacity": "opacity", "level": "level", "window": "width", "cross": "cross",
}  # fmt: skip


def _import_widgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise KitError(
            "the slice viewer's controls need ipywidgets, which is not installed: run `pip install 'ipywidgets>=8'` and restart "
            "the notebook (without it, static_figure() shows one slice)"
        ) from error
    return ipywidgets


def _swatch(color: tuple[int, int, int]) -> str:
    box = "display:inline-block;width:0.9em;height:0.9em;margin-right:0.3em;border:1px solid #888;vertical-align:middle"
    return f'<span style="{box};background:rgb{color}"></span>'


class SliceViewer(SliceView):
    """A volume to scroll through, with a truth and up to three predictions over it.

    Put it on the last line of a cell to see it. It opens on the slice with most labelled pixels. See SliceView for the arguments,
    for ``view`` (what is shown) and for what works without a front end.

    Attributes:
        controls: name -> ipywidget: "plane", "slice", "number", "play", "level", "window", "cross", "across", "down" and "save";
            with a mask "overlay", "style", "opacity", "all" and "none"; with several "mode", "mask" and "worst". Setting a
            control's ``value`` in code does what moving it does. Filled by ``widget``.
        classes: label -> the checkbox that shows or hides it. Filled by ``widget``.
        picture, readout: the widgets that show the frame, and where it is. Made by ``widget``.
    """

    def __init__(
        self,
        volume: Volume,
        masks: Volume | Mapping[str, Volume] | None = None,
        scheme: str = "spider",
        plane: str = "sagittal",
        size: int = FRAME_PIXELS,
    ):
        super().__init__(volume, masks, scheme, plane, size)
        self.controls: dict[str, Any] = {}
        self.classes: dict[int, Any] = {}
        self._box: Any = None
        self._settling = False  # several controls are being set at once: draw after the last of them
        self._said = ""  # the last answer of a button

    @property
    def widget(self) -> Any:
        """The viewer as one ipywidget. Raises KitError when ipywidgets is not installed."""
        if self._box is None:
            self._box = self._build(_import_widgets())
            self._draw()
        return self._box

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = dict(self.widget._repr_mimebundle_(**kwargs))
        bundle["text/plain"] = repr(self)  # what is left where no widget can be shown
        return bundle

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; run the cell to use it)"

    # ------------------------------------------------------------------------------------------------------------ building

    def _build(self, w: Any) -> Any:
        view = self.view
        narrow, button = {"button_width": "72px"}, w.Layout(width="auto")
        at = {name: {"value": value, "min": 0, "max": end} for name, (value, end) in self._places().items()}
        self.controls = {
            "plane": w.ToggleButtons(options=list(plots.PLANES), value=view.plane, style={"button_width": "76px"}),
            "slice": w.IntSlider(
                **at["slice"], description="Slice", tooltip="click here, then use the arrow keys", readout=False,
                layout=w.Layout(flex="1 1 auto"),
            ),
            "number": w.BoundedIntText(
                **at["number"], tooltip="click here, then use the mouse wheel", continuous_update=True,
                layout=w.Layout(width="64px"),
            ),
            "play": w.Play(**at["play"], interval=100),
            **self._gray_controls(w),
            "cross": w.Checkbox(value=view.cross, description="cross-hair", indent=False, layout=w.Layout(width="120px")),
            "across": w.IntSlider(**at["across"], description="Across", readout=False, layout=_wide(w)),
            "down": w.IntSlider(**at["down"], description="Down", readout=False, layout=_wide(w)),
            "save": w.Button(description="Save picture", icon="download", layout=button),
        }  # fmt: skip
        if self.names:
            self.controls |= {
                "overlay": w.Checkbox(value=view.overlay, description="overlay", indent=False, layout=w.Layout(width="90px")),
                "style": w.ToggleButtons(options=[("fill", False), ("outline", True)], value=view.outline, style=narrow),
                "opacity": w.FloatSlider(value=view.opacity, min=0, max=1, step=0.05, description="Opacity", layout=_wide(w)),
                "all": w.Button(description="all", layout=button),
                "none": w.Button(description="none", layout=button),
            }
        if len(self.names) > 1:
            self.controls |= {
                "mode": w.Dropdown(options=list(MODES), value=view.mode, description="Compare", layout=_wide(w)),
                "mask": w.Dropdown(options=self.names, value=view.mask, description="Mask", layout=_wide(w)),
                "worst": w.Button(
                    description="Worst slice", tooltip="the slice of this plane with most wrong pixels", layout=button
                ),
            }
        for value in self.labels:
            shown = value not in view.hidden
            name = self.scheme.names[value].replace(" (partly in view)", "*")  # as in the figures
            row = w.Layout(width="auto", margin="0")
            self.classes[value] = w.Checkbox(value=shown, description=name, indent=False, layout=row)
        # Never taller than a laptop's screen, or the slider and the slice cannot be seen together.
        self.picture = w.Image(
            format="png", layout=w.Layout(max_width="100%", max_height="560px", object_fit="contain", align_self="center")
        )
        self.readout = w.HTML()
        self._connect(w)
        return self._arrange(w)

    def _gray_controls(self, w: Any) -> dict[str, Any]:
        low, high = float(self.volume.array.min()), float(self.volume.array.max())
        span = max(high - low, 1e-6)
        number = {"step": span / 256, "readout_format": ".0f" if span > 20 else ".2f", "layout": _wide(w)}
        return {
            "level": w.FloatSlider(value=self.view.level, min=low, max=low + span, description="Level", **number),
            "window": w.FloatSlider(value=self.view.width, min=span / 256, max=2 * span, description="Window", **number),
        }

    def _connect(self, w: Any) -> None:
        c = self.controls
        # In the browser, so that playing goes on smoothly however busy the kernel is.
        self._links = [w.jslink((c[name], "value"), (c["slice"], "value")) for name in ("play", "number")]
        for name, attribute in _FIELD_OF_CONTROL.items():
            if name in c:
                c[name].observe(lambda change, a=attribute: self._set(a, change["new"]), names="value")
        for name in ("across", "down"):
            c[name].observe(lambda change: self._point(), names="value")
        for value, box in self.classes.items():
            box.observe(lambda change, v=value: self._show_class(v, change["new"]), names="value")
        for name, action in (
            ("save", self._save), ("worst", self._go_to_worst), ("all", lambda: self._show_all(True)),
            ("none", lambda: self._show_all(False)),
        ):  # fmt: skip
            if name in c:
                c[name].on_click(lambda _, act=action: act())

    def _arrange(self, w: Any) -> Any:
        c, beside = self.controls, w.Layout(flex="1 1 0", min_width="320px")  # below only where there is no room beside
        side = [c["plane"], c["level"], c["window"], w.HBox([c["cross"], c["save"]]), c["across"], c["down"]]
        if len(self.names) > 1:
            side += [c["mode"], c["mask"], c["worst"]]
        if self.names:
            swatches = (w.HTML(_swatch(self.scheme.colors[value]), layout=w.Layout(margin="0")) for value in self.classes)
            cells = [w.HBox(pair) for pair in zip(swatches, self.classes.values(), strict=True)]
            # Rows of a fixed height: others are squeezed until names are cut, instead of being scrolled through.
            columns = {"grid_template_columns": "1fr 1fr", "grid_auto_rows": "28px"}
            grid = w.GridBox(cells, layout=w.Layout(**columns, max_height="280px", overflow="auto"))
            side += [w.HBox([c["overlay"], c["style"]]), c["opacity"], w.HBox([w.Label("classes"), c["all"], c["none"]]), grid]
        picture = w.VBox([w.HBox([c["play"], c["slice"], c["number"]]), self.picture, self.readout], layout=beside)
        return w.HBox([picture, w.VBox(side, layout=w.Layout(width="300px"))], layout=w.Layout(flex_flow="row wrap"))

    # ------------------------------------------------------------------------------------------------------------ answering

    def update(self) -> None:
        """Draw again, and bring every control to what ``view`` says. Call it after setting fields of ``view`` in code.

        Without a widget there is nothing to bring up to date, and nothing happens.
        """
        if self._settling or self._box is None:
            return
        self._settling = True
        try:
            for name, (value, end) in self._places().items():
                # One message, or a range that excludes the old value would move it on the way.
                with self.controls[name].hold_trait_notifications():
                    self.controls[name].max, self.controls[name].value = end, value
            for name, attribute in _FIELD_OF_CONTROL.items():
                if name in self.controls:
                    self.controls[name].value = getattr(self.view, attribute)
            for value, box in self.classes.items():
                box.value = value not in self.view.hidden
        finally:
            self._settling = False
        self._draw()

    def _places(self) -> dict[str, tuple[int, int]]:
        """(value, greatest value) of the controls that stand for a place in the volume."""
        row, column = self.plane.place(self.view.point, self.volume.array.shape)
        rows, columns = self.cut().shape
        slices = dict.fromkeys(("slice", "number", "play"), (self.view.index, self.count(self.view.plane) - 1))
        return slices | {"down": (row, rows - 1), "across": (column, columns - 1)}

    def _set(self, attribute: str, value: Any) -> None:
        if not self._settling:
            setattr(self.view, attribute, value)
            self._said = ""
            self.update()

    def _point(self) -> None:
        if not self._settling:
            across, down = self.controls["across"].value, self.controls["down"].value
            self.view.point = list(self.plane.voxel(down, across, self.view.index, self.volume.array.shape))
            self.view.cross = True  # whoever moves it wants to see it
            self.update()

    def _show_class(self, value: int, shown: bool) -> None:
        if not self._settling:
            (self.view.hidden.discard if shown else self.view.hidden.add)(value)
            self.update()

    def _show_all(self, shown: bool) -> None:
        self.view.hidden = set() if shown else set(self.labels)
        self.update()

    def _go_to_worst(self) -> None:
        wrong = self.to_worst_slice()
        self._said = f"most wrong pixels in this plane: {wrong:,}" if wrong else "no pixel differs in this plane"
        self.update()

    def _save(self) -> None:
        try:
            self._said = f"saved as {self.save_picture()}"
        except KitError as error:
            self._said = str(error)
        self.update()

    def _draw(self) -> None:
        self.picture.value = self.frame()
        lines = [escape(self.position())]
        if self.view.overlay:
            lines.append(f"labels here: {escape(', '.join(self.scheme.names[value] for value in self.present()) or 'none')}")
        if self.differing():
            marks = [f"{_swatch(plots.ERROR_COLORS[kind])}{name}" for kind, name in plots.ERROR_NAMES.items()]
            lines.append(f"errors: {'; '.join(marks)}")
        if self.view.cross:
            lines.append(escape(f"cross-hair: {self.at_point()}"))
        self.readout.value = "<br>".join([*lines, *([escape(self._said)] if self._said else [])])


def _wide(w: Any) -> Any:
    return w.Layout(width="98%")
