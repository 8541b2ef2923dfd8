"""The figures of the course: one look, real proportions, directions and lengths on every slice.

Conventions
-----------
* Slices are drawn in millimetres: a pixel is as tall and wide as its spacing says, a bar shows a length, letters show where the
  body's superior (S), inferior (I), anterior (A), posterior (P), right (R) and left (L) side lies. Coronal and axial pictures
  are drawn as radiologists look at them, with the patient's right on the left.
* Colours of structures come from the label scheme; all others from the palette of Okabe & Ito (2008), which people with a
  colour vision deficiency can tell apart. Vermilion, sky blue and yellow mark errors and are never used for a structure.
* Functions that make a figure return it and do nothing else: a notebook shows it when it is the last line of a cell, exactly
  once and with its caption as alternative text; without a notebook nothing happens. ``pyplot`` holds no reference to it.
"""

from __future__ import annotations

from spider_utils.view.plots.encoding import FILE_DPI, MAX_FILE_BYTES, MAX_SCREEN_BYTES, SCREEN_DPI
from spider_utils.view.plots.errors import (
    ERROR_COLORS,
    ERROR_NAMES,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    RIGHT,
    WRONG_CLASS,
    error_map,
    error_sheet,
    overlay_comparison,
    show_errors,
)
from spider_utils.view.plots.figures import CourseFigure, new_figure, save_figure
from spider_utils.view.plots.legends import legend_for, share_colors
from spider_utils.view.plots.planes import PLANES, Plane
from spider_utils.view.plots.scores import bar_with_intervals, metric_distribution, paired_lines, training_curves
from spider_utils.view.plots.sheets import contact_sheet, receptive_field_on_slice, three_planes
from spider_utils.view.plots.slices import show_slice, window_of
from spider_utils.view.plots.style import LINE_STYLES, PALETTE, STYLE, SUBSET_COLORS, WIDTH_IN, course_style, styled
from spider_utils.view.plots.tables import gradings_heatmap, intensity_histogram, split_diagram

__all__ = [
    "CourseFigure",
    "ERROR_COLORS",
    "ERROR_NAMES",
    "FALSE_NEGATIVE",
    "FALSE_POSITIVE",
    "FILE_DPI",
    "LINE_STYLES",
    "MAX_FILE_BYTES",
    "MAX_SCREEN_BYTES",
    "PALETTE",
    "PLANES",
    "Plane",
    "RIGHT",
    "SCREEN_DPI",
    "STYLE",
    "SUBSET_COLORS",
    "WIDTH_IN",
    "WRONG_CLASS",
    "bar_with_intervals",
    "contact_sheet",
    "course_style",
    "error_map",
    "error_sheet",
    "gradings_heatmap",
    "intensity_histogram",
    "legend_for",
    "metric_distribution",
    "new_figure",
    "overlay_comparison",
    "paired_lines",
    "receptive_field_on_slice",
    "save_figure",
    "share_colors",
    "show_errors",
    "show_slice",
    "split_diagram",
    "styled",
    "three_planes",
    "training_curves",
    "window_of",
]
