"""The figure that shows itself in a notebook with its caption, and how it is saved."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from spider_utils.errors import DataError
from spider_utils.files import atomic_path
from spider_utils.view.plots.encoding import for_file, for_screen
from spider_utils.view.plots.style import WIDTH_IN


class CourseFigure(Figure):
    """A matplotlib Figure that shows itself in a notebook, whichever backend is active, with its caption as alternative text.

    Attributes:
        caption: what the figure shows, in words; set by the function that draws it or by ``save_figure``.
    """

    caption: str = ""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        kind, picture = for_screen(self)
        display({kind: picture, "text/plain": self.caption}, metadata={kind: {"alt": self.caption}}, raw=True)


def new_figure(height_in: float, caption: str) -> CourseFigure:
    """An empty figure of the course's width."""
    figure = CourseFigure(figsize=(WIDTH_IN, height_in), layout="constrained")
    figure.caption = caption
    return figure


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
    png = for_file(figure)
    with atomic_path(path) as partial:
        partial.write_bytes(png)
    with atomic_path(path.with_suffix(".txt")) as partial:
        partial.write_text(caption.strip() + "\n", encoding="utf-8")
    return path
