"""Surfaces of the disc space and the marrow beside it: shapes whose depth and brightness are known, made-up hernias."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spider_utils.data.phantom import make_anatomy
from spider_utils.data.phantom.hernias import hernias_of, voxel_of
from spider_utils.data.phantom.truth import overhang_of, truth_of
from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.measure.endplates import UNITS, endplate_features

SPACING = (3.0, 0.5, 0.5)  # slice, row, column


def blocks() -> np.ndarray:
    """L4, disc L4/L5, L5: boxes 35 mm deep and 39 mm wide; bodies 28 mm high, the disc 10 mm."""
    mask = np.zeros((17, 160, 110), np.uint8)
    mask[2:15, 10:66, 20:90], mask[2:15, 66:86, 20:90], mask[2:15, 86:142, 20:90] = 2, 202, 1
    return mask


def features(mask: np.ndarray, image: np.ndarray | None = None, spacing: tuple[float, ...] = SPACING):
    table = endplate_features(mask, spacing, image)
    assert list(table.columns) == ["level", "label", *UNITS]
    return table.set_index("label").loc[202]


def test_flat_endplates_are_even():
    row = features(blocks())
    assert row["level"] == "L4/L5"
    for plate in ("upper", "lower"):
        assert row[f"{plate} endplate depth"] == pytest.approx(0, abs=0.1)
        assert row[f"{plate} endplate roughness"] == pytest.approx(0, abs=0.1)
        assert np.isnan(row[f"{plate} endplate marrow"])  # there is no image


@pytest.mark.parametrize(("plate", "rows"), [("upper", slice(60, 66)), ("lower", slice(86, 92))])
def test_a_pit_is_as_deep_as_it_is_on_its_own_side(plate, rows):
    mask = blocks()
    mask[6:11, rows, 50:62] = 202  # 3 mm deep, 6 mm long
    row = features(mask)
    other = {"upper": "lower", "lower": "upper"}[plate]
    assert row[f"{plate} endplate depth"] == pytest.approx(3.0, abs=0.45)
    assert row[f"{other} endplate depth"] < 0.2 and row[f"{plate} endplate roughness"] > 0.5


def test_a_smooth_bowl_is_no_pit():
    mask = blocks()
    columns = np.arange(20, 90)
    deep = np.rint(6 * (1 - ((columns - 54.5) / 35) ** 2)).astype(int)  # 3 mm in the middle
    for column, rows in zip(columns, deep, strict=True):
        mask[2:15, 66 - rows : 66, column] = 202
    assert features(mask)["upper endplate depth"] < 0.5


def test_marrow_beside_an_endplate_over_the_middle_of_its_vertebra():
    mask = blocks()
    image = np.where(mask == 2, 100.0, np.where(mask == 1, 50.0, 10.0)).astype(np.float32)
    image[:, 50:66] = np.where(mask[:, 50:66] == 2, 150.0, image[:, 50:66])  # the lowest 8 mm of L4
    row = features(mask, image)
    assert row["upper endplate marrow"] == pytest.approx(1.5, abs=0.02)
    assert row["lower endplate marrow"] == pytest.approx(1.0, abs=0.02)
    assert row["upper endplate marrow high"] >= row["upper endplate marrow"] >= row["upper endplate marrow low"]
    # The coil's brightness cancels out.
    assert features(mask, 3 * image)["upper endplate marrow"] == pytest.approx(row["upper endplate marrow"])


def test_a_slipped_vertebra_is_not_looked_for_elsewhere():
    mask = blocks()
    upper = mask == 2
    mask[upper] = 0
    mask[np.roll(upper, -24, axis=2)] = 2  # 12 mm forwards
    mask[2:15, 10:40, 90:100] = 2  # a part of it that lies behind, far above the disc's free end
    assert features(mask)["upper endplate depth"] < 0.5


def test_a_slice_alone_a_cut_vertebra_and_a_disc_without_bones():
    mask = blocks()
    flat = endplate_features(mask[8], SPACING[1:]).iloc[0]
    assert flat["upper endplate depth"] == pytest.approx(0, abs=0.1)
    partial = np.where(mask == 2, 102, mask)
    assert features(partial)["upper endplate depth"] == pytest.approx(0, abs=0.1)
    bare = features(np.where(mask == 202, 202, 0).astype(np.uint8))
    assert np.isnan(bare["upper endplate depth"]) or bare["upper endplate depth"] < 0.2
    assert not len(endplate_features(np.zeros_like(mask), SPACING))


# ----------------------------------------------------------------------------------------------------------------- hernias


def test_hernias_lie_where_they_were_asked_for():
    anatomy = make_anatomy(5, herniation={2: 6.0})
    table = hernias_of(anatomy).set_index("disc")
    disc = anatomy.discs[1]
    assert disc.herniation > 0 and 2 in table.index
    u, v, w = disc.frame.local(*(np.float32(table.loc[2, axis]) for axis in ("right", "down", "back")))
    assert u == pytest.approx(disc.hernia_side, abs=0.2) and w == pytest.approx(-disc.hernia_drop, abs=0.2)
    assert v == pytest.approx(disc.depth / 2 + disc.herniation, abs=0.2)
    assert table.loc[2, "first_right"] < table.loc[2, "right"] < table.loc[2, "last_right"]
    assert table.loc[2, "last_right"] - table.loc[2, "first_right"] < 16
    without = dataclasses.replace(anatomy, discs=tuple(dataclasses.replace(d, herniation=0.0) for d in anatomy.discs))
    assert not len(hernias_of(without))


def test_true_overhangs_are_those_of_the_whole_truth():
    anatomy = make_anatomy(5, herniation={2: 6.0})
    table = truth_of(anatomy, [1, 2]).query("quantity == 'overhang'").set_index("label")["value"]
    found = overhang_of(anatomy)
    assert {label: found[label] for label in (201, 202)} == table.to_dict() and len(found) == 7


def test_places_become_voxels():
    direction = kit_direction()
    first = np.array([-30.0, 10.0, 5.0])  # right, down, back of the first voxel
    volume = Volume(np.zeros((3, 4, 5), np.uint8), (4.0, 1.0, 0.5), tuple(direction @ first), direction)
    assert voxel_of(np.array([[-22.0, 13.0, 7.0]]), volume).tolist() == [[2, 3, 4]]


def test_bad_arguments_are_refused_as_by_measure():
    mask = blocks()
    for arguments, words in (
        ((mask, SPACING[1:]), "3 positive numbers"),
        ((mask, (0.0, 0.5, 0.5)), "3 positive numbers"),
        ((mask, SPACING, mask[1:]), "does not fit"),
        ((mask, SPACING, None, "structures4"), "without levels"),
        ((mask[0, 0], SPACING), "shape"),
    ):
        with pytest.raises(ValueError, match=words):
            endplate_features(*arguments)
