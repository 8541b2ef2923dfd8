"""Scores by disc, the rule of the lowest seven, and errors by place, on boxes that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.evaluation.discs import by_disc, keep_lowest, nearest_disc, pieces, position_counts

SPACING = (2.0, 1.0, 1.0)


def stack(n, shape=(6, 40, 8), first=35, step=4):
    """Boxes of 4 x 2 x 6 voxels, numbered from below."""
    mask = np.zeros(shape, np.uint8)
    for k in range(n):
        mask[1:5, first - step * k : first - step * k + 2, 1:7] = k + 1
    return mask


def test_pieces_are_numbered_from_below_and_crumbs_are_dropped():
    truth = stack(3)
    mask = (truth > 0).astype(np.uint8)
    mask[0, 0, 0] = 1  # 2 mm3, above all
    found = pieces(mask, SPACING, smallest_mm3=3)
    assert np.array_equal(found, truth)
    assert pieces(mask, SPACING, smallest_mm3=2).max() == 4
    assert pieces(mask, SPACING, smallest_mm3=96).max() == 3  # 48 voxels of 2 mm3
    assert not pieces(mask, SPACING, smallest_mm3=97).any()
    assert not pieces(np.zeros((2, 2, 2)), SPACING).any()


def test_a_sacral_disc_costs_the_top_one():
    eight = stack(8)
    kept = keep_lowest(eight, SPACING, smallest_mm3=10)
    assert np.array_equal(kept, (eight > 0) & (eight <= 7))
    # The same, when the lowest of the eight is not L5/S1 but lies in the sacrum: the seventh labelled disc is lost.
    truth = np.where(eight > 0, eight - 1, 0)
    scored = by_disc(nearest_disc(truth, SPACING), kept)
    found = {k: int((scored == k).sum()) for k in range(1, 8)}
    assert found == {1: 96} | dict.fromkeys(range(2, 7), 48) | {7: 0}  # the lowest disc pays for the sacral one


def test_near_is_measured_in_mm():
    truth = np.zeros((5, 3, 5), np.uint8)
    truth[0, 1, 2], truth[2, 1, 4] = 1, 2
    near = nearest_disc(truth, (1.0, 1.0, 1.0))
    assert near[2, 1, 2] in (1, 2) and near[1, 1, 2] == 1  # 2 and 2 steps; 1 and 2.2
    assert nearest_disc(truth, (1.0, 1.0, 4.0))[2, 1, 2] == 1  # 2 mm and 8 mm
    assert nearest_disc(truth, (4.0, 1.0, 1.0))[2, 1, 2] == 2  # 8 mm and 2 mm
    with pytest.raises(ValueError, match="no disc to be near to"):
        nearest_disc(np.zeros((2, 2, 2)), SPACING)


def test_right_and_wrong_by_place_along_an_axis():
    truth = np.zeros((4, 3, 3), np.uint8)
    truth[:, 1, 1] = 1  # places -0.75, -0.25, 0.25, 0.75
    mask = np.zeros_like(truth)
    mask[1:, 1, 1] = 1
    mask[3, 1, 2] = 1
    near = nearest_disc(truth, (1.0, 1.0, 1.0))
    counts = position_counts(truth, near, mask, 0, [-1, -0.5, 0, 0.5, 1])
    assert counts.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]]
    # Across, the disc is one voxel thick: all of it in the middle; false voxels beyond an end (at 2 and -2) count for that end.
    mask[3, 1, 0] = mask[0, 1, 0] = 1
    counts = position_counts(truth, near, mask, 2, [-1, -0.5, 0.5, 1])
    assert counts.tolist() == [[0, 3, 0], [2, 0, 1], [0, 1, 0]]


def test_each_disc_is_measured_from_its_own_middle():
    truth = stack(2)
    counts = position_counts(truth, nearest_disc(truth, SPACING), truth, 1, [-1, 0, 1])
    assert counts.tolist() == [[48, 48], [0, 0], [0, 0]]
