"""Figures of classifiers show the numbers that they are given."""

import numpy as np

from spider_utils.view.classification_plots import (
    MarkedSlice,
    PointPicture,
    confusion_matrices,
    labelled_points,
    picture_row,
    reliability_curves,
    roc_curves,
)

TRUTH = np.array([0, 0, 1, 2])
GIVEN = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
NAMES = ["left narrowing", "canal", "healthy"]


def test_confusion_counts_are_written_into_their_places():
    figure = confusion_matrices({"one": (TRUTH, GIVEN), "two": (TRUTH, GIVEN)}, NAMES, "Title")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["1", "1", "0", "0", "1", "0", "1", "0", "0"]
    assert "one 2 of 4 right" in figure.caption and figure.axes[0].get_ylabel() == "true class"


def test_roc_has_a_curve_for_each_class_that_is_there():
    figure = roc_curves({"one": (np.array([0, 0, 1, 1]), GIVEN)}, NAMES)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["left narrowing (0.75)", "canal (0.75)"]


def test_one_matrix_does_not_stand_in_an_empty_page():
    one, two = (confusion_matrices(dict.fromkeys(names, (TRUTH, GIVEN)), NAMES) for names in (["a"], ["a", "b"]))
    assert one.get_size_inches()[0] < 0.7 * two.get_size_inches()[0]


def test_reliability_draws_bins_of_enough_answers_in_a_panel_a_run():
    # Five answers at 0.7, four of them right; four at 0.9, too few to be shown.
    truth = np.array([0, 0, 0, 0, 1] + [0] * 4)
    given = np.array([[0.7, 0.3]] * 5 + [[0.9, 0.1]] * 4)
    figure = reliability_curves({"one": (truth, given), "two": (truth, given)})
    assert len(figure.axes) == 2
    line = figure.axes[0].lines[1]
    assert np.allclose(line.get_xdata(), [0.7]) and np.allclose(line.get_ydata(), [0.8])
    assert [text.get_text() for text in figure.axes[0].texts] == ["5"]
    assert "one 5 of 9 answers shown" in figure.caption


def test_pictures_show_their_map_their_point_and_directions():
    crop = PointPicture(np.eye(8), "canal, 0.8", (5.0, 5.0), "APRL", (3.5, 3.5), heat=np.outer(np.arange(8), np.arange(8)))
    whole = PointPicture(np.ones((8, 8)), "healthy, 0.4", (2.0, 4.0), point=(4, 4), box_mm=8, heat=np.zeros((8, 8)))
    figure = picture_row([crop, whole], "Predictions")
    assert [len(ax.collections) for ax in figure.axes] == [1, 0, 0, 0], "a map of zeros is not drawn"
    assert {"A", "P", "R", "L", "10 mm"} <= {text.get_text() for text in figure.axes[0].texts}
    box = figure.axes[1].patches[0]
    assert (box.get_width(), box.get_height()) == (2, 4), "8 mm are two columns of 4 mm and four rows of 2 mm"
    assert "canal, 0.8; healthy, 0.4" in figure.caption


def test_points_are_named_on_the_outer_side_where_both_sides_of_the_body_are_seen():
    image = np.ones((20, 40))
    axial = MarkedSlice(image, (1.0, 1.0), "axial", "APRL", {"right": (15, 9), "left": (25, 9)})
    sagittal = MarkedSlice(image, (1.0, 1.0), "sagittal", "SIAP", {"L4/L5": (15, 9)})
    figure = labelled_points([axial, sagittal], "Labels")
    sides = [{text.get_text(): text.get_ha() for text in ax.texts if hasattr(text, "xy")} for ax in figure.axes]
    assert sides == [{"right": "right", "left": "left"}, {"L4/L5": "left"}]
    rings = [line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert rings == [[[15, 9]], [[25, 9]]]
    assert figure.caption == "Labels: axial (right, left); sagittal (L4/L5)."


def test_low_pictures_make_a_narrow_figure():
    one = PointPicture(np.eye(8), "a")
    wide, narrow = (picture_row([one] * 3, columns=3, highest_in=inches) for inches in (2.5, 1.0))
    assert narrow.get_size_inches()[0] < 0.6 * wide.get_size_inches()[0]
    assert len(narrow.axes) == 3
