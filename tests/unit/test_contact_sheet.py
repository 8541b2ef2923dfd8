"""The slices of a scan on one picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spider_utils.view.contact_sheet import contact_sheet, shown_box, shown_slices, write_contact_sheet
from tests.known_labels import SLICES, box_spine


def test_slices_from_the_first_to_the_last_with_a_label_evenly_spaced() -> None:
    mask = np.zeros((60, 4, 4), np.uint8)
    assert shown_slices(mask, 3) == [0, 30, 59] and shown_slices(mask[:1]) == [0]
    mask[10], mask[49] = 1, 1
    shown = shown_slices(mask)
    assert (shown[0], shown[-1], len(shown)) == (10, 49, 20) and set(np.diff(shown)) == {2, 3}
    mask[11:] = 0
    assert shown_slices(mask) == [10]


def test_each_slice_lies_in_its_place_with_its_outlines(tmp_path: Path) -> None:
    image, classes = box_spine()
    sheet = np.asarray(contact_sheet(image, image.with_array(classes), "structures4"), int)
    shown = shown_slices(classes)
    assert shown == [1, 2, 3] and sheet.shape[0] == 20 + 480 and SLICES == 5
    cells = np.split(sheet[20:], 3, axis=1)
    colourful = [(np.ptp(cell, axis=2) > 30).mean() for cell in cells]
    assert min(colourful) > 0.01, "outlines in each"
    bare = np.asarray(contact_sheet(image, image.with_array(np.zeros_like(classes)), "structures4"), int)
    assert bare.shape[1] % 5 == 0 and (np.ptp(bare, axis=2) == 0).all(), "all slices, gray"
    levels = np.where(classes == 1, 3, 0).astype(np.uint8)
    assert (np.asarray(contact_sheet(image, image.with_array(levels), "levels20")) != 0).any()
    path = write_contact_sheet(tmp_path / "pictures" / "a.png", image, image.with_array(classes), "structures4")
    assert path.is_file() and [one.name for one in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match="7"):
        write_contact_sheet(tmp_path / "b.png", image, image.with_array(np.full_like(classes, 7)), "structures4")
    with pytest.raises(ValueError, match="has no mask of shape"):
        contact_sheet(image, replace(image, array=classes[:3]), "structures4")
    assert not (tmp_path / "b.png").exists()


def test_what_lies_far_from_the_labels_is_left_out() -> None:
    mask = np.zeros((2, 300, 100), np.uint8)
    assert shown_box(mask, (1.0, 0.5)) == (slice(0, 300), slice(0, 100))
    mask[0, 100, 50], mask[1, 150, 99] = 1, 2
    assert shown_box(mask, (1.0, 0.5)) == (slice(80, 171), slice(10, 100)), "20 mm around, but not beyond the picture"


def test_many_slices_are_in_rows() -> None:
    image, classes = box_spine()
    many = replace(image, array=np.repeat(image.array[2:3], 12, axis=0))
    sheet = contact_sheet(many, many.with_array(np.repeat(classes[2:3], 12, axis=0)), "structures4")
    assert sheet.height == 3 * (20 + 480)
