"""What a truth's stray outlines and jumps do to a score, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.evidence.limits import best_offset, label_limits, within_rows, without_small_pieces

SPACING = (0.9, 1.0, 0.5)  # a pixel of 0.5 mm2


def test_small_pieces_of_a_slice_go_and_neighbouring_slices_do_not_save_them() -> None:
    mask = np.zeros((2, 20, 20), np.uint8)
    mask[:, 2:12, 2:6] = 1  # 20 mm2
    mask[:, 15:17, 10:17] = 1  # 7 mm2: not smaller
    mask[:, 0:2, 10:16] = 1  # 6 mm2
    mask[:, 15:19, 0:3] = 2  # 6 mm2 of another class
    mask[:, 12, 6] = 3  # touches the vertebra at a corner, but is no part of it
    kept = without_small_pieces(mask, SPACING)
    wanted = np.zeros_like(mask)
    wanted[:, 2:12, 2:6] = wanted[:, 15:17, 10:17] = 1
    np.testing.assert_array_equal(kept, wanted)
    np.testing.assert_array_equal(without_small_pieces(mask, SPACING, 0.0), mask)


def test_limits_by_hand() -> None:
    truth, drawn = np.zeros((3, 20, 20), np.uint8), np.zeros((3, 20, 20), np.uint8)
    truth[0, 0:10, 0:4] = truth[1, 0:10, 2:6] = truth[2, 0:10, 0:4] = 1  # 40 pixels that jump by half
    drawn[:, 0:10, 0:4] = 1  # and do not
    truth[:, 12:18, 10:15] = drawn[:, 12:18, 10:15] = 2
    truth[0, 0:1, 18:20] = 2  # 2 stray pixels
    found = label_limits(truth, drawn, SPACING).set_index("name")
    vertebra, canal, disc = (found.loc[name] for name in ("vertebra", "spinal canal", "disc"))
    assert vertebra["dice"] == pytest.approx(2 * 100 / 240) and vertebra["stray"] == 1
    assert vertebra["truth_to_next"] == pytest.approx(0.5) and vertebra["drawn_to_next"] == 1
    assert (vertebra["worst_slice"], vertebra["worst_dice"]) == (1, pytest.approx(0.5))
    assert canal["stray"] == pytest.approx(2 * 90 / (92 + 90)) and canal["dice"] == pytest.approx(2 * 90 / (92 + 90))
    assert canal["truth_to_next"] == pytest.approx((2 * 30 / 62 + 1) / 2) and canal["worst_slice"] == 0
    assert np.isnan(disc[["dice", "stray", "truth_to_next", "worst_dice"]].astype(float)).all() and disc["worst_slice"] == -1


def test_small_pieces_beside_discs_are_counted_and_lengthen_distances() -> None:
    """As in masks whose values were interpolated: a line of canal along a disc, 10 mm from the canal."""
    truth = np.zeros((2, 40, 40), np.uint8)
    truth[:, 2:38, 30:36], truth[:, 10:14, 4:12] = 2, 3
    drawn = truth.copy()
    truth[:, 9, 4:10] = 2  # 3 mm2, on top of the disc
    truth[0, 20, 4:6] = 2  # beside nothing
    canal = label_limits(truth, drawn, SPACING).set_index("name").loc["spinal canal"]
    assert (canal["small_pieces"], canal["small_by_disc"]) == (3, 2)
    assert canal["asd_cleaned_mm"] == 0 and 0.2 < canal["asd_mm"] == canal["stray_asd_mm"]
    disc = label_limits(truth, drawn, SPACING).set_index("name").loc["disc"]
    assert (disc["small_pieces"], disc["asd_mm"], disc["stray_asd_mm"]) == (0, 0, 0) and np.isnan(disc["small_by_disc"])
    # Pieces of neighbouring slices are two, as is one at the disc's corner.
    truth[1, 14, 12] = 2
    assert label_limits(truth, drawn, SPACING).set_index("name").loc["spinal canal", "small_by_disc"] == 3


def test_a_single_slice_has_no_next() -> None:
    mask = np.ones((1, 6, 6), np.uint8)
    found = label_limits(mask, mask, SPACING).set_index("name").loc["vertebra"]
    assert found["dice"] == 1 and np.isnan(found["truth_to_next"])


def square(half: float, n: int = 41) -> np.ndarray:
    """Pixels of 0.1 mm whose middle lies within so many mm of the middle of the picture, in one slice."""
    mm = 0.1 * np.abs(np.arange(n) - n // 2)
    return (np.maximum(mm[:, None], mm) <= half + 1e-9)[None]


@pytest.mark.parametrize("wider_mm", [-0.5, -0.2, 0.0, 0.3, 0.6])
def test_an_outline_that_runs_beside_the_true_one_is_moved_onto_it(wider_mm: float) -> None:
    offset_mm, dice = best_offset(square(1.0 + wider_mm), square(1.0), (1.0, 0.1, 0.1))
    assert offset_mm == pytest.approx(-wider_mm, abs=1e-6)
    assert dice == pytest.approx(1, abs=0.03)  # corners become round: 0.5 mm of it cost 2.5 % of the Dice
    if wider_mm == 0:
        assert dice == 1


@pytest.mark.parametrize("wider", [-2, -1, 0, 1, 2])
def test_pixels_larger_than_the_steps_favour_no_side(wider: int) -> None:
    spacing, middle = (1.0, 0.47, 0.47), 20
    masks = []
    for half in (8 + wider, 8):
        mask = np.zeros((1, 41, 41), bool)
        mask[:, middle - half : middle + half + 1, middle - half : middle + half + 1] = True
        masks.append(mask)
    offset_mm, dice = best_offset(*masks, spacing)
    if wider == 0:
        assert (offset_mm, dice) == (0, 1)
    else:
        assert abs(offset_mm + wider * 0.47) <= 0.3 and np.sign(offset_mm) == -np.sign(wider) and dice > 0.97


def test_nothing_drawn_stays_nothing() -> None:
    assert best_offset(square(-1), square(1.0), (1.0, 0.1, 0.1))[1] == 0


def test_rows_that_the_truth_leaves_out_do_not_count() -> None:
    truth, drawn = np.zeros((2, 20, 4), np.uint8), np.ones((2, 20, 4), np.uint8)
    truth[0, 5:9], truth[1, 8:12] = 1, 1
    found = within_rows(drawn, truth, 1)
    assert found[:, 5:12].all() and found.sum() == 2 * 7 * 4
    assert (drawn == 1).all(), "the mask that was given stays as it is"
    vertebra = label_limits(truth, drawn, SPACING).set_index("name").loc["vertebra"]
    assert vertebra["in_rows"] == pytest.approx(2 * 32 / (32 + 56)) and vertebra["dice"] == pytest.approx(2 * 32 / (32 + 160))
