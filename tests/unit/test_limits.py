"""What a truth's stray outlines and jumps do to a score, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.evidence.limits import best_offset, label_limits, within_rows

SPACING = (0.9, 1.0, 0.5)  # a pixel of 0.5 mm2


def test_limits_by_hand() -> None:
    truth, drawn = np.zeros((3, 20, 20), np.uint8), np.zeros((3, 20, 20), np.uint8)
    truth[0, 0:10, 0:4] = truth[1, 0:10, 2:6] = truth[2, 0:10, 0:4] = 1  # 40 pixels that jump by half
    drawn[:, 0:10, 0:4] = 1  # and do not
    truth[:, 12:18, 10:15] = drawn[:, 12:18, 10:15] = 2
    truth[0, 18:19, 0:2], truth[0, 19, 0:2] = 2, 3  # 2 pixels of canal on a disc
    drawn[0, 19, 0:2] = 3
    found = label_limits(truth, drawn, SPACING).set_index("name")
    vertebra, canal, disc = (found.loc[name] for name in ("vertebra", "spinal canal", "disc"))
    assert vertebra["dice"] == pytest.approx(2 * 100 / 240) and vertebra["truth_to_mended"] == 1
    assert vertebra["truth_to_next"] == pytest.approx(0.5) and vertebra["drawn_to_next"] == 1
    assert (vertebra["worst_slice"], vertebra["worst_dice"]) == (1, pytest.approx(0.5))
    assert canal["truth_to_mended"] == pytest.approx(2 * 90 / (92 + 90)) and canal["dice"] == pytest.approx(2 * 90 / (92 + 90))
    assert canal["truth_to_next"] == pytest.approx((2 * 30 / 62 + 1) / 2) and canal["worst_slice"] == 0
    assert (disc["dice"], disc["truth_to_mended"], disc["worst_slice"]) == (1, 1, 0)
    assert canal["lines"] == 1 and np.isnan([vertebra["lines"], disc["lines"]]).all()


def test_lines_of_canal_along_discs_lengthen_distances() -> None:
    """As in masks whose values were interpolated: a line of canal along a disc, 10 mm from the canal."""
    truth = np.zeros((2, 40, 40), np.uint8)
    truth[:, 2:38, 30:36], truth[:, 10:14, 4:12] = 2, 3
    drawn = truth.copy()
    truth[:, 9, 4:10] = 2
    found = label_limits(truth, drawn, SPACING).set_index("name")
    assert found.loc["spinal canal", "lines"] == 2, "pieces of neighbouring slices are two"
    assert found.loc["spinal canal", "asd_mended_mm"] == 0
    assert 0.2 < found.loc["spinal canal", "asd_mm"] == found.loc["spinal canal", "truth_to_mended_mm"]
    assert (found.loc["disc", "asd_mm"], found.loc["disc", "truth_to_mended_mm"]) == (0, 0)


def test_a_class_that_nobody_marks_has_no_numbers() -> None:
    mask = np.zeros((2, 12, 12), np.uint8)
    mask[:, 2:10, 2:10] = 1
    disc = label_limits(mask, mask, SPACING).set_index("name").loc["disc"]
    assert np.isnan(disc[["dice", "truth_to_mended", "truth_to_next", "worst_dice"]].astype(float)).all()
    assert disc["worst_slice"] == -1


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
