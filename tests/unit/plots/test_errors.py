"""Errors: three kinds, told apart by colour."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.labels import get_scheme
from spider_utils.view import plots


def test_error_map_tells_the_three_kinds_apart():
    truth = np.array([[0, 0, 1, 1, 2, 2]])
    prediction = np.array([[0, 3, 1, 0, 2, 1]])
    found = plots.error_map(truth, prediction)
    assert found.tolist() == [[0, plots.FALSE_POSITIVE, 0, plots.FALSE_NEGATIVE, 0, plots.WRONG_CLASS]]
    assert found.dtype == np.uint8
    with pytest.raises(ValueError, match="prediction has"):
        plots.error_map(truth, prediction[:, 1:])


def test_overlay_comparison_has_four_panels_and_names_only_errors_that_exist(picture):
    image, mask = picture
    prediction = mask.copy()
    prediction[mask == 3] = 0
    figure = plots.overlay_comparison(image, mask, prediction, spacing_mm=(1.0, 1.0), title="patient 5")
    wrong = (mask == 3).mean()
    assert [ax.get_title() for ax in figure.axes] == ["image", "truth", "prediction", f"errors: {wrong:.1%} of pixels"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["vertebra", "spinal canal", "disc", "false negative"]


def test_error_colours_differ_from_those_of_structures():
    structure_colors = {color for name in ("spider", "structures4") for color in get_scheme(name).colors.values()}
    assert not set(plots.ERROR_COLORS.values()) & structure_colors
