"""Crops: which images are one, the empty field that networks are shown them in, and their masks in their own grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spider_utils.data.crops import in_a_field, is_crop
from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.predict import segment
from tests.known_labels import KnownLabels


def image_of(array: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    return Volume(array, spacing, (0.0, 0.0, 0.0), kit_direction())


@pytest.mark.parametrize(
    ("rows", "columns", "mm", "wanted"),
    [(100, 100, 1.0, True), (100, 100, 1.6, False), (40, 151, 1.0, False), (149, 20, 1.0, True)],
)
def test_the_longer_side_decides(rows, columns, mm, wanted):
    assert is_crop(image_of(np.zeros((300, rows, columns), np.uint8), (4.0, mm, mm))) == wanted


def test_a_crop_lies_in_the_middle_of_an_empty_field():
    field, place = in_a_field(image_of(np.ones((2, 4, 3), np.uint8), (1.0, 2.0, 1.0)), (20.0, 8.0))
    assert field.array.shape == (2, 10, 8) and place == (slice(0, 2), slice(3, 7), slice(2, 5))
    assert field.array[place].all() and field.array.sum() == 24 and field.spacing == (1.0, 2.0, 1.0)


def test_what_is_large_enough_stays_as_it_is():
    field, place = in_a_field(image_of(np.ones((1, 30, 30), np.uint8), (1.0, 1.0, 1.0)), (20.0, 8.0))
    assert field.array.shape == (1, 30, 30) and field.array[place].all()


def test_intensities_are_scaled_by_the_crop_alone():
    array = np.linspace(500, 900, 2 * 40 * 30, dtype=np.float32).reshape(2, 40, 30)
    field, place = in_a_field(image_of(array, (4.0, 1.0, 1.0)))
    assert field.array.dtype == np.uint8 and field.array.shape == (2, 300, 240)
    assert field.array[place].min() == 0 and field.array[place].max() == 255 and 120 < np.median(field.array[place]) < 135


def test_a_network_of_slices_sees_a_crop_in_a_field_and_its_mask_lies_on_the_crop():
    array = np.random.default_rng(0).integers(1, 256, (3, 50, 40)).astype(np.uint8)
    crop, seen = image_of(array, (4.0, 1.5, 1.5)), []

    def bright(given: np.ndarray) -> np.ndarray:
        seen.append(given.shape)
        return (given > 128).astype(np.uint8)

    network = KnownLabels("structures4", bright)
    mask = segment(network, crop).mask
    assert seen.pop() == (3, 200, 160) and mask.spacing == crop.spacing
    np.testing.assert_array_equal(mask.array, array > 128)
    segment(network, crop, has_pixel_size=False)
    segment(network, replace(crop, spacing=(4.0, 4.0, 4.0)))
    assert seen == [(3, 50, 40)] * 2, "whose size is not known, and what is large enough, is shown as it is"
