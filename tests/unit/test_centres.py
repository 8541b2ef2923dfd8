"""Readers of the sets of other centres: axes, labels, and every trap of the files, on small made-up ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from spider_utils.data.centres import CENTRE_SETS, CentreCase, sets_in
from spider_utils.errors import DataError
from spider_utils.labels import convert
from tests import other_centres
from tests.other_centres import chu, column, grays, in_colours, mendeley, save, save_volume, spider_vertebrae, tptbox

SETS = {one.name: one for one in CENTRE_SETS}


def only_case(root: Path, name: str) -> CentreCase:
    (case,) = SETS[name].cases(root)
    return case


def assert_refused(root: Path, name: str, file: Path, problem: str) -> None:
    with pytest.raises(DataError, match=re.escape(problem)) as refused:
        list(SETS[name].cases(root))
    assert refused.value.path.name == file.name


# ---------------------------------------------------------------------------------------------------------------- which sets


def test_all_sets_are_found_and_none_is_missed(tmp_path):
    there, absent = sets_in(other_centres.everything(tmp_path))
    assert there == list(CENTRE_SETS) and absent == []


def test_sets_that_are_not_there_are_named(tmp_path):
    chu(tmp_path)
    there, absent = sets_in(tmp_path)
    assert [one.name for one in there] == ["chu2015_t2_3d"] and len(absent) == len(CENTRE_SETS) - 1
    assert not any(list(one.cases(tmp_path)) for one in absent)


@pytest.mark.parametrize("folder", [".", "missing"])
def test_a_folder_without_any_set_is_refused(tmp_path, folder):
    with pytest.raises(DataError, match="none of the sets.*mendeley_t1_2d"):
        sets_in(tmp_path / folder)


def test_every_mask_is_in_structures4_on_the_image_grid(tmp_path):
    other_centres.everything(tmp_path)
    for one in CENTRE_SETS:
        for case in one.cases(tmp_path):
            if not one.structures:
                assert case.mask is None
                continue
            assert set(np.unique(case.mask.array)) == {0, *one.structures}, one.name
            assert case.mask.array.shape == case.image.array.shape and case.mask.array.dtype == np.uint8
            assert case.mask.spacing == case.image.spacing


def test_levels_are_those_of_spider_where_a_set_knows_them(tmp_path):
    other_centres.everything(tmp_path)
    known = {}
    for one in CENTRE_SETS:
        for case in one.cases(tmp_path):
            if case.levels is not None:
                assert case.levels.array.dtype == np.uint8 and case.levels.spacing == case.image.spacing
                np.testing.assert_array_equal(convert(case.levels.array, "spider", "structures4"), case.mask.array)
                known[one.name] = np.unique(case.levels.array)[1:].tolist()
    assert known == {
        "mendeley_t1_2d": [1, 2, 3, 4, 5], "spider_t1t2_vertebrae_2d": [1, 2, 3, 4, 5, 6, 7],
        "chu2015_t2_3d": [1, 2, 3, 4, 5, 6, 7], "isotropic_3d, IVD": [201, 202, 203, 204, 205],
        "isotropic_3d, VBs": [1, 2, 3, 4, 5],
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ mendeley


def test_mendeley_counts_downward_and_its_s1_is_background(tmp_path):
    mendeley(tmp_path, patient=7)
    case = only_case(tmp_path, "mendeley_t1_2d")
    upward = column(6)  # 1 is S1 here
    np.testing.assert_array_equal(case.mask.array[0], (upward > 1).astype(np.uint8))
    np.testing.assert_array_equal(case.levels.array[0], np.maximum(upward, 1) - 1)
    assert (case.case, case.patient) == ("T1_0007_S8", "0007")


def test_jpeg_blurs_the_image_but_not_the_mask(tmp_path):
    mask = mendeley(tmp_path)
    case = only_case(tmp_path, "mendeley_t1_2d")
    drawn = grays(column(6)).astype(int)
    difference = np.abs(case.image.array[0] - drawn)
    assert 0 < difference.max() and difference.mean() < 8
    assert mask.suffix == ".png" and set(np.unique(case.mask.array)) == {0, 1}


def test_mendeley_with_the_kit_own_order_of_numbers_is_refused(tmp_path):
    assert_refused(tmp_path, "mendeley_t1_2d", mendeley(tmp_path, mask=column(6)), "not stacked from below upward")


def test_mendeley_upside_down_is_refused(tmp_path):
    upward = column(6)
    path = mendeley(tmp_path, mask=np.where(upward > 0, 7 - upward, 0).astype(np.uint8)[::-1])
    assert_refused(tmp_path, "mendeley_t1_2d", path, "not stacked from below upward")


def test_an_unknown_label_is_named_and_counted(tmp_path):
    mask = np.where(column(6) > 0, 7 - column(6), 0).astype(np.uint8)
    mask[0, :3] = 9
    assert_refused(tmp_path, "mendeley_t1_2d", mendeley(tmp_path, mask=mask), "the unknown label 9 (3 voxels)")


def test_an_empty_mask_is_refused_where_every_slice_shows_vertebrae(tmp_path):
    path = mendeley(tmp_path, mask=np.zeros((40, 30), np.uint8))
    assert_refused(tmp_path, "mendeley_t1_2d", path, "the mask is empty")


def test_an_image_without_mask_is_refused(tmp_path):
    path = mendeley(tmp_path)
    path.unlink()
    assert_refused(tmp_path, "mendeley_t1_2d", path, "the mask of T1_0007_S8.jpg is missing")


def test_an_image_of_another_name_is_refused(tmp_path):
    mendeley(tmp_path)
    stranger = save(tmp_path / "mendeley_t1_2d" / "images" / "anna.jpg", grays(column(6)))
    assert_refused(tmp_path, "mendeley_t1_2d", stranger, "not named as the images of this set")


# ---------------------------------------------------------------------------------------------------- SPIDER's T1 and T2


def test_coloured_slices_are_turned_upright(tmp_path):
    spider_vertebrae(tmp_path)
    case = only_case(tmp_path, "spider_t1t2_vertebrae_2d")
    mask = column(7, rows=46)
    np.testing.assert_array_equal(case.image.array[0], grays(mask))
    np.testing.assert_array_equal(case.mask.array[0], (mask > 0).astype(np.uint8))
    np.testing.assert_array_equal(case.levels.array[0], mask)
    assert case.patient == "10008" and not SETS["spider_t1t2_vertebrae_2d"].patients_known


def test_coloured_slices_that_are_upright_already_are_refused(tmp_path):
    path = spider_vertebrae(tmp_path, mask=column(7, rows=46)[::-1])
    assert_refused(tmp_path, "spider_t1t2_vertebrae_2d", path, "not stacked from below upward")


def test_an_empty_coloured_mask_is_a_slice_at_the_side(tmp_path):
    spider_vertebrae(tmp_path, mask=np.zeros((40, 30), np.uint8))
    assert not only_case(tmp_path, "spider_t1t2_vertebrae_2d").mask.array.any()


def test_a_mask_of_one_gray_vertebra_may_be_stored_as_gray(tmp_path):
    path = spider_vertebrae(tmp_path)
    save(path, np.where(column(1, rows=46)[::-1] > 0, 128, 0).astype(np.uint8))
    case = only_case(tmp_path, "spider_t1t2_vertebrae_2d")
    np.testing.assert_array_equal(case.mask.array[0], column(1, rows=46))


def test_an_unknown_colour_is_named_and_counted(tmp_path):
    path = spider_vertebrae(tmp_path)
    picture = in_colours(column(7, rows=46))[::-1].copy()
    picture[0, :2] = (254, 0, 0)  # as lossy compression leaves behind
    save(path, picture)
    assert_refused(tmp_path, "spider_t1t2_vertebrae_2d", path, "the unknown colour (254, 0, 0) (2 pixels)")


def test_a_coloured_mask_of_another_size_is_refused(tmp_path):
    path = spider_vertebrae(tmp_path)
    save(path, in_colours(column(7, rows=48))[::-1])
    assert_refused(tmp_path, "spider_t1t2_vertebrae_2d", path, "has not the size of 10008_12.png")


# ------------------------------------------------------------------------------------------------------------------- volumes


def test_chu_headers_are_not_trusted(tmp_path):
    chu(tmp_path)
    case = only_case(tmp_path, "chu2015_t2_3d")
    mask = np.repeat(column(7, rows=46)[None], 3, axis=0)
    np.testing.assert_array_equal(case.image.array, grays(mask))
    np.testing.assert_array_equal(case.mask.array, (mask > 0).astype(np.uint8))
    np.testing.assert_array_equal(case.levels.array, mask)
    assert case.image.spacing == (2.0, 1.25, 1.25) and case.patient == "01"


def test_chu_upside_down_is_refused(tmp_path):
    path = chu(tmp_path, mask=np.repeat(column(7, rows=46)[None, ::-1], 3, axis=0))
    assert_refused(tmp_path, "chu2015_t2_3d", path, "not stacked from below upward")


def test_chu_on_another_grid_is_refused(tmp_path):
    path = chu(tmp_path)
    save_volume(path, np.repeat(column(7, rows=46)[None], 3, axis=0), (2.0, 1.25, 1.3))
    assert_refused(tmp_path, "chu2015_t2_3d", path, "its geometry differs")


def test_isotropic_volumes_hold_discs_or_bodies(tmp_path):
    other_centres.isotropic(tmp_path)
    discs, bodies = only_case(tmp_path, "isotropic_3d, IVD"), only_case(tmp_path, "isotropic_3d, VBs")
    assert (discs.mask.array == 3).sum() == 5 * 16 * 9 * 34
    for case, first in ((discs, 201), (bodies, 1)):  # a file of bodies counts downward
        heights = [np.argwhere(case.levels.array == level)[:, 1].mean() for level in range(first, first + 5)]
        assert np.diff(heights).tolist() == pytest.approx([-35] * 4)
    assert (discs.patient, bodies.patient) == ("11", "115")
    assert (bodies.mask.array == 1).sum() == 5 * 16 * 26 * 34


def test_bodies_that_are_none_are_refused(tmp_path):
    other_centres.isotropic(tmp_path)
    path = tmp_path / "isotropic_3d" / "VBs_VB1_15_mask.mha"
    mask = np.zeros((20, 200, 60), np.uint8)
    mask[3, 3, 3] = 1
    save_volume(path, mask, (1.0, 1.0, 1.0))
    assert_refused(tmp_path, "isotropic_3d, VBs", path, "no vertebral body can be told")


def test_tptbox_parts_become_structures_and_endplates_background(tmp_path):
    tptbox(tmp_path)
    case = only_case(tmp_path, "tptbox_crop_3d")
    expected = np.zeros((5, 20, 24), np.uint8)
    expected[:, 2:10, 2:12], expected[:, 11:14, 2:12], expected[1:4, :, 13:17], expected[1:4, 4:8, 18:22] = 1, 3, 2, 1
    np.testing.assert_array_equal(case.mask.array, expected)  # stored as RAS, so rows, columns and slices were turned
    assert case.image.array[0, 0, 0] < case.image.array[0, -1, 0]
    assert (case.case, case.patient) == ("sub-mri_label-6", "sub-mri")


def test_an_unknown_part_is_refused(tmp_path):
    path = tptbox(tmp_path)
    mask = np.full((5, 20, 24), 63, np.uint8)
    save_volume(path, mask, (1.5, 1.5, 1.5), "RAS")
    assert_refused(tmp_path, "tptbox_crop_3d", path, "the unknown label 63")


# ---------------------------------------------------------------------------------------------------------------- no truth


def test_sets_without_truth(tmp_path):
    other_centres.unlabelled(tmp_path)
    middle, volume = (only_case(tmp_path, name) for name in ("spider_midslices_unlabelled", "sct_t2_lumbar_3d"))
    assert (middle.case, middle.patient) == ("12_t1", "12")
    np.testing.assert_array_equal(middle.image.array[0], grays(column(5)))
    np.testing.assert_array_equal(volume.image.array[1], grays(column(5)))
