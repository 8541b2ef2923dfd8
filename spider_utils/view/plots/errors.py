"""Prediction against truth: where it is wrong, and in which way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from spider_utils.view.plots.figures import CourseFigure, new_figure
from spider_utils.view.plots.legends import add_legend, color_patch, legend_for, share_colors, values_in
from spider_utils.view.plots.slices import draw_fill, height_over_width, show_slice
from spider_utils.view.plots.style import WIDTH_IN, styled

RIGHT, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = range(4)
ERROR_NAMES = {FALSE_POSITIVE: "false positive", FALSE_NEGATIVE: "false negative", WRONG_CLASS: "wrong class"}
ERROR_COLORS = {FALSE_POSITIVE: (213, 94, 0), FALSE_NEGATIVE: (86, 180, 233), WRONG_CLASS: (240, 228, 66)}


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Where a prediction is wrong, and how.

    Args:
        truth, prediction: integer label arrays of one shape, background 0.

    Returns:
        uint8 array of that shape: RIGHT 0, FALSE_POSITIVE 1 (a structure where there is none), FALSE_NEGATIVE 2 (a structure
        missed), WRONG_CLASS 3 (a structure taken for another).

    Raises:
        ValueError: the shapes differ.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape} but prediction has {prediction.shape}")
    wrong = truth != prediction
    return np.select(
        [wrong & (truth == 0), wrong & (prediction == 0), wrong], [FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS], RIGHT
    ).astype(np.uint8)


@styled
def show_errors(
    ax: Axes,
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float] | None = None,
    title: str = "",
    **options: object,
) -> list[Patch]:
    """Draw one slice with the errors of a prediction (see ``error_map``) over it.

    Args:
        ax, image, spacing_mm, title, options: see ``show_slice``.
        truth, prediction: (rows, columns) labels of one scheme.

    Returns:
        Handles for a legend of the errors that there are.
    """
    errors = error_map(truth, prediction)
    show_slice(ax, image, None, spacing_mm=spacing_mm, title=title, **options)  # type: ignore[arg-type]
    draw_fill(ax, errors, ERROR_COLORS, 0.9, ax.get_aspect())
    return [color_patch(ERROR_COLORS[kind], name) for kind, name in ERROR_NAMES.items() if (errors == kind).any()]


@styled
def overlay_comparison(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    scheme: str = "structures4",
    spacing_mm: Sequence[float] | None = None,
    *,
    title: str = "",
    outline: bool = False,
    opacity: float = 0.4,
) -> CourseFigure:
    """Image, truth, prediction and error map of one sagittal slice, side by side.

    Args:
        image: (rows, columns) gray values.
        truth, prediction: (rows, columns) labels of ``scheme``.
        spacing_mm: (row, column), or None when not known.
        title: text above all four.
        outline, opacity: see ``show_slice``.

    Raises:
        ValueError: see ``show_slice``.
    """
    figure = new_figure(WIDTH_IN / 4 * height_over_width(np.shape(image), spacing_mm) + (1.3 if title else 1.0), title)
    axes = figure.subplots(1, 4)
    values = values_in([truth, prediction])
    options = {"outline": outline, "opacity": opacity, "name_labels": share_colors(scheme, values)}
    show_slice(axes[0], image, None, scheme, spacing_mm, title="image")
    show_slice(axes[1], image, truth, scheme, spacing_mm, title="truth", scale_bar=False, **options)
    show_slice(axes[2], image, prediction, scheme, spacing_mm, title="prediction", scale_bar=False, **options)
    share = f"errors: {np.mean(np.not_equal(truth, prediction)):.1%} of pixels"
    errors_found = show_errors(axes[3], image, truth, prediction, spacing_mm, share, scale_bar=False)
    for ax in axes:
        ax.title.set_fontsize(10)
    if title:
        figure.suptitle(title)
    add_legend(figure, legend_for(scheme, values) + errors_found)
    figure.caption = f"{title}: image, truth, prediction and error map.".removeprefix(": ")
    return figure


@styled
def error_sheet(
    image: np.ndarray,
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    scheme: str = "structures4",
    spacing_mm: Sequence[float] | None = None,
    **options: object,
) -> CourseFigure:
    """The truth of one slice, and beside it the errors of several predictions.

    Args:
        image: (rows, columns) gray values.
        truth: (rows, columns) labels of ``scheme``.
        predictions: name -> labels, at least one.
        spacing_mm: (row, column), or None when not known.
        options: window and letters, see ``show_slice``.

    Raises:
        ValueError: see ``show_slice``.
    """
    panels = 1 + len(predictions)
    figure = new_figure(WIDTH_IN / panels * min(height_over_width(np.shape(image), spacing_mm), 2.5) + 1.2, "")
    first, *others = figure.subplots(1, panels)
    values = values_in([truth])
    show_slice(first, image, truth, scheme, spacing_mm, title="truth", name_labels=share_colors(scheme, values), **options)
    found: dict[str, Patch] = {}
    for ax, (name, mask) in zip(others, predictions.items(), strict=True):
        title = f"{name}\n{np.not_equal(truth, mask).sum():,} pixels wrong"
        found |= {h.get_label(): h for h in show_errors(ax, image, truth, mask, spacing_mm, title, scale_bar=False, **options)}
    for ax in figure.axes:
        ax.title.set_fontsize(10)
    add_legend(figure, legend_for(scheme, values) + [found[name] for name in ERROR_NAMES.values() if name in found])
    figure.caption = f"Truth, and errors of {', '.join(predictions)}."
    return figure
