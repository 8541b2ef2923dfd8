"""The look of the course's figures: sizes, colours and matplotlib's settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import matplotlib.style
from matplotlib.patheffects import withStroke

P = ParamSpec("P")
R = TypeVar("R")
WIDTH_IN = 9.0  # width of every figure, inches
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")  # Okabe & Ito, without yellow
LINE_STYLES = ("-", "--", "-.", ":")
SUBSET_COLORS = {"train": "#999999", "val": "#56B4E9", "test": "#D55E00"}
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.frameon": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "image.interpolation": "antialiased",  # "auto" from matplotlib 3.9 on, which still knows this name
}
OUTLINED_TEXT = [withStroke(linewidth=2.5, foreground="black")]


def course_style() -> object:
    """Context manager: matplotlib's defaults plus the course's look, whatever the user's own settings are."""
    return matplotlib.style.context(STYLE, after_reset=True)


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function in the course's style."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with course_style():
            return function(*args, **kwargs)

    return wrapper
