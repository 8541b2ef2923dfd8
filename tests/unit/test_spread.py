"""Values that spread inside a region, on regions small enough to follow by finger."""

from __future__ import annotations

import numpy as np

from spider_utils.measure.spread import spread

WALLED = ["111", "101", "101"]  # rows of a single slice; the middle can only be passed above


def grid(rows: list[str]) -> np.ndarray:
    """One slice (1, rows, columns) of digits; "." is -1."""
    return np.array([[[-1 if c == "." else int(c) for c in row] for row in rows]], np.int16)


def test_the_nearest_seed_by_a_way_inside_not_as_the_crow_flies():
    # From the lower right both seeds are two pixels off, but the way to 3 leads round the wall.
    found = spread(grid(WALLED) > 0, grid(["..5", "...", "3.."]), np.ones(3))
    assert found[0, :, 2].tolist() == [5, 5, 5] and found[0, 1:, 0].tolist() == [3, 3] and found[0, 0, 1] == 5
    assert (found[0, 1:, 1] == -1).all()


def test_lengths_are_in_mm():
    line = grid(["1111"]) > 0
    seeds = np.stack([grid(["2..."])[0], grid(["...7"])[0]])  # two slices, each a line
    region = np.stack([line[0], line[0]])
    near_slices = spread(region, seeds, np.array([1.0, 1.0, 5.0]))
    assert near_slices[:, 0, :].tolist() == [[2, 2, 7, 7], [2, 2, 7, 7]]
    far_slices = spread(region, seeds, np.array([50.0, 1.0, 1.0]))
    assert far_slices[:, 0, :].tolist() == [[2, 2, 2, 2], [7, 7, 7, 7]]


def test_what_no_way_reaches_stays_without_and_seeds_outside_do_not_count():
    region = grid(["101"]) > 0
    assert spread(region, grid(["4.."]), np.ones(3)).tolist() == [[[4, -1, -1]]]
    assert spread(region, grid([".4."]), np.ones(3)).tolist() == [[[-1, -1, -1]]]
    assert spread(region, grid(["4.6"]), np.ones(3)).tolist() == [[[4, -1, 6]]]
