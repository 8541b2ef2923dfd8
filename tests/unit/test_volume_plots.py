"""Figures of networks of volumes: patches where they are, shares where they belong."""

import numpy as np
import pytest

from spider_utils.view import volume_plots


def squares(ax):
    return [patch.get_bbox().bounds for patch in ax.patches]


def test_patches_are_drawn_in_both_views_in_one_scale():
    image = np.random.default_rng(0).random((16, 48, 32))
    figure = volume_plots.patches(image, (4.0, 3.0, 2.0), 16)
    side, front = figure.axes
    np.testing.assert_array_equal(side.images[0].get_array(), image[8])
    np.testing.assert_array_equal(front.images[0].get_array(), image[::-1, :, 16].T)  # the patient's right on the left
    assert side.images[0].axes.get_aspect() == 3 / 2 and front.get_aspect() == 3 / 4
    assert squares(side) == [(16 * x - 0.5, 16 * y - 0.5, 16, 16) for y in range(3) for x in range(2)]
    assert len(squares(front)) == 3
    assert "3 x 2" in side.get_title() and "3 x 1" in front.get_title()


def test_attention_has_one_colour_scale_and_every_number():
    image = np.zeros((48, 32))
    shares = {"layer 1": np.arange(6).reshape(3, 2) / 10, "layer 2": np.full((3, 2), 0.25)}
    figure = volume_plots.attention_maps(image, shares, (2, 1), (3.0, 2.0), 16)
    picture, first, second, _ = figure.axes
    assert [ax.images[0].get_clim() for ax in (first, second)] == [(0, 0.5)] * 2
    assert [text.get_text() for text in first.texts] == [".00", ".10", ".20", ".30", ".40", ".50"]
    assert first.texts[3].get_position() == (23.5, 23.5), "the second row's right patch"
    np.testing.assert_array_equal(first.images[0].get_array(), shares["layer 1"])
    for ax in (picture, first, second):
        assert squares(ax)[-1] == (15.5, 31.5, 16, 16), "the token that asks"
        assert ax.get_aspect() == pytest.approx(1.5)


def test_histograms_hold_the_shares_of_voxels_of_each_series():
    dark, bright = np.full((2, 3, 4), 0.245), np.r_[np.full(30, 0.005), np.full(10, 1.0)]
    figure = volume_plots.intensities({"as printed": {"a": dark, "b": bright}, "mended": {"a": bright, "b": dark}})
    left, right = figure.axes
    shares = [stairs.get_data().values for stairs in left.patches]
    assert shares[0][24] == 1 and shares[1][0] == 0.75 and shares[1][-1] == 0.25  # the brightest voxel belongs to the last bin
    assert [ax.get_title() for ax in figure.axes] == ["as printed", "mended"] and right.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_attention_distances_are_drawn_within_the_axis():
    figure = volume_plots.attention_distance({"fresh": np.array([100.0, 101.0]), "trained": np.array([150.0, 90.0])}, 100.5)
    (ax,) = figure.axes
    fresh, trained, equal = ax.lines
    assert list(trained.get_xdata()) == [1, 2] and list(trained.get_ydata()) == [150, 90]
    assert list(equal.get_ydata()) == [100.5, 100.5] and ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 151
