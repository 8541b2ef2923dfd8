"""Pictures of the slice viewer, 512 x 640 pixels with an overlay, against matplotlib's fastest way to the same."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.scanner import draw_protocols, render
from spider_utils.view.plots import window_of
from spider_utils.view.slice_view import SIDE_BY_SIDE, SliceView
from tests.benchmarks.timing import Row, compare

ROWS, COLUMNS, SLICES = 640, 512, 12
LEAST_FRAMES_A_SECOND = 30


class Redrawn:
    """The peer: a figure without axes that is kept, whose two pictures get new arrays; matplotlib draws and packs them."""

    def __init__(self, view: SliceView):
        self.view = view
        self.figure = Figure(figsize=(COLUMNS / 100, ROWS / 100), dpi=100)
        FigureCanvasAgg(self.figure)
        ax = self.figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        low, high = window_of(view.volume.array)
        self.colors = np.zeros((256, 4), dtype=np.uint8)
        for value in view.labels:
            self.colors[value] = (*view.scheme.colors[value], round(0.4 * 255))
        self.image = ax.imshow(view.cut(), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        self.mask = ax.imshow(self.colors[view.cut("mask")], interpolation="nearest")

    def frame(self) -> bytes:
        """The slice that the view shows."""
        self.image.set_data(self.view.cut())
        self.mask.set_data(self.colors[self.view.cut("mask")])
        buffer = io.BytesIO()
        self.figure.canvas.print_png(buffer, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()


def run() -> Iterator[Row]:
    """Scroll through a phantom's middle with one mask, and with four side by side (the peer still draws one)."""
    anatomy = make_anatomy(7)
    protocol = replace(draw_protocols(anatomy, "UMC", ("t2_SPACE",), 7)[0], shape=(SLICES, ROWS, COLUMNS))
    image, mask = render(anatomy, "t2_SPACE", protocol)
    view = SliceView(image, mask, size=ROWS)
    redrawn = Redrawn(view)

    def scroll(show: SliceView | Redrawn) -> None:
        for index in range(SLICES):
            view.view.index = index
            show.frame()

    peer = f"matplotlib {matplotlib.__version__}, artists kept"
    row = compare(
        f"viewer, a slice of {COLUMNS}x{ROWS} with overlay", lambda: scroll(view), lambda: scroll(redrawn), peer, SLICES
    )
    yield row
    start = time.process_time()  # of the processor: the rate must not hang on what else the machine does
    scroll(view)
    rate = SLICES / (time.process_time() - start)
    assert rate > LEAST_FRAMES_A_SECOND, f"{rate:.0f} frames a second, not {LEAST_FRAMES_A_SECOND}"
    four = SliceView(image, {name: mask for name in ("truth", "a", "b", "c")}, size=ROWS)
    four.view.mode = SIDE_BY_SIDE
    yield compare(
        "viewer, truth and three predictions", lambda: scroll(four), lambda: scroll(redrawn), f"{peer}, one mask", SLICES
    )
