"""Figures of classifiers show the numbers that they are given."""

import numpy as np

from spider_utils.view.classification_plots import confusion_matrices, picture_row, reliability_curves, roc_curves

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


def test_reliability_draws_the_bins():
    figure = reliability_curves({"one": (TRUTH, GIVEN)})
    line = figure.axes[0].lines[1]
    assert np.allclose(line.get_xdata(), [0.4, 0.5, 0.6, 0.7]) and line.get_ydata().tolist() == [0, 1, 0, 1]


def test_pictures_with_and_without_heat():
    pictures = [(np.zeros((8, 8)), "canal, 0.8"), (np.ones((8, 8)), "healthy, 0.4")]
    figure = picture_row(pictures, "Predictions", heat=[np.eye(8), np.zeros((8, 8))])
    assert [len(ax.images) for ax in figure.axes] == [2, 1, 0, 0], "a map of zeros is not drawn"
    assert "canal, 0.8; healthy, 0.4" in figure.caption
