"""APTA: each step on pictures small enough to do by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spider_utils.data.apta import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    apta,
    between_others,
    color_shades,
    is_single,
    most_common_neighbour,
)
from tests.notebook_code import definitions

(LOOP,) = definitions("02_preprocessing", "apta_by_pixel")


def picture(text):
    """Colours from letters: . black, r red, g green, b blue."""
    return np.array([[".rgb".index(letter) for letter in row] for row in text.split()], np.uint8)


def test_shades_of_spider_labels():
    shades = np.array([0, 1, 25, 100, 101, 125, 201, 225, 255], np.uint8)
    assert color_shades(shades).tolist() == [BLACK, RED, RED, GREEN, GREEN, GREEN, BLUE, BLUE, BLUE]


def test_most_common_neighbour_by_hand():
    found = most_common_neighbour(picture("rrr rgr rrb"))
    # The corner below on the right has the neighbours r, g, r.
    assert (found == RED).all()
    tie = most_common_neighbour(picture("rg gr"))  # each pixel has one neighbour across and two beside it
    assert (tie == picture("gr rg")).all()
    assert (most_common_neighbour(picture("rb")) == picture("br")).all(), "nothing outside the picture counts"


def test_on_a_tie_a_pixel_keeps_its_colour_else_the_first_wins():
    assert most_common_neighbour(picture("rrb brb bbr"))[1, 1] == BLUE  # three r, five b
    assert most_common_neighbour(picture("rrr rrb bbb"))[1, 1] == RED  # four each, its own among them
    assert most_common_neighbour(picture("ggg grb bbb"))[1, 1] == GREEN  # four each, its own not: green comes before blue


def test_between_others_looks_left_and_right_only():
    found = between_others(picture("rbr bbr rbb"))
    assert found.tolist() == [[False, True, False], [False, False, False], [False, False, False]]


def test_is_single_looks_at_all_eight():
    found = is_single(picture("r.. .b. ..r"))
    assert found[1, 1] and found[0, 0] and found[2, 2] and not found[0, 1]


def test_a_thin_canal_is_lost_and_a_wide_one_stays():
    rows = ["r" * 9] * 9
    thin, wide = (picture(" ".join(rows)) for _ in range(2))
    thin[:, 4], wide[:, 3:6] = GREEN, GREEN
    shades = np.array([0, 10, 100, 210], np.uint8)
    assert not (apta(shades[thin]) == GREEN).any()
    assert (apta(shades[wide])[:, 4] == GREEN).all()


def test_without_red_the_rest_becomes_red():
    shades = np.zeros((8, 8), np.uint8)
    shades[2:6, 2:6] = 210
    assert set(np.unique(apta(shades))) == {BLACK, RED}
    shades[:, :2] = 5
    assert BLUE in apta(shades)


@given(arrays(np.uint8, (3, 6, 5)))
def test_pictures_do_not_see_each_other(shades):
    assert (apta(shades) == np.stack([apta(one) for one in shades])).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 3)))
def test_counts_of_neighbours_are_those_of_a_loop(colors):
    expected = np.empty_like(colors)
    for r, c in np.ndindex(colors.shape):
        around = colors[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].ravel().tolist()
        around.remove(colors[r, c])
        counts = [around.count(color) for color in range(4)]
        expected[r, c] = colors[r, c] if counts[colors[r, c]] == max(counts) else counts.index(max(counts))
    assert (most_common_neighbour(colors) == expected).all()


@pytest.mark.parametrize("shades", [np.zeros((4, 4)), np.zeros(4, np.uint8), np.zeros((4, 4), np.int16)])
def test_anything_but_pictures_of_bytes_is_refused(shades):
    with pytest.raises(ValueError, match=r"must be uint8 \(\.\.\., rows, columns\)"):
        apta(shades)


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_it_is_the_loop_over_pixels_of_notebook_02(shades):
    assert (apta(shades) == LOOP(shades)).all()
