"""Audits, on data small enough to count by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.explore import (
    disc_contacts,
    disc_gaps,
    disc_neighbours,
    header_table,
    label_table,
    series_table,
    structure_counts,
)
from spider_utils.data.sources import Case, open_source
from spider_utils.data.volumes import Volume, kit_direction, reorient_image, to_image
from spider_utils.errors import KitError
from spider_utils.labels import convert

OVERVIEW = {
    "new_file_name": ["10_t1", "2_t2_SPACE"], "sex": ["F ", "M"], "subset": ["training", "validation"],
    "ManufacturerModelName": ["Ingenia", "Avanto_fit "], "MagneticFieldStrength": [3.0, 1.5], "MRAcquisitionType": ["2D", "3D"],
    "SeriesDescription": [np.nan, "T2_space_sag_c4"], "RepetitionTime": [700.0, 1000.0], "EchoTime": [14.0, 124.0],
    "SpacingBetweenSlices": [3.3, 1.0], "num_vertebrae": [7, 8], "num_discs": [7, 8],
    "PixelSpacing": ["[0.625, 0.5]", "[.46875, .46875]"],
}  # fmt: skip


@pytest.fixture
def case(made_case: Callable) -> Case:
    return Case("3_t1", 3, "t1", *made_case(3, "t1"))


class TestSeriesTable:
    def test_cleans_text_and_spacing(self) -> None:
        table = series_table(pd.DataFrame(OVERVIEW, index=[7, 9]))
        assert table["case"].tolist() == ["10_t1", "2_t2_SPACE"]
        assert table["patient"].tolist() == [10, 2] and table["sequence"].tolist() == ["t1", "t2_SPACE"]
        assert table["sex"].tolist() == ["F", "M"] and table["scanner"].tolist() == ["Ingenia", "Avanto_fit"]
        assert table["row_mm"].tolist() == [0.625, 0.46875] and table["column_mm"].tolist() == [0.5, 0.46875]
        assert pd.isna(table.loc[0, "description"])

    def test_names_a_missing_column(self) -> None:
        with pytest.raises(ValueError, match="lacks the column.*EchoTime"):
            series_table(pd.DataFrame(OVERVIEW).drop(columns="EchoTime"))

    @pytest.mark.parametrize("text", ["0.625", "[a, b]", np.nan, "[1, 2, 3]"])
    def test_refuses_a_pixel_spacing_that_is_none(self, text: object) -> None:
        with pytest.raises(ValueError, match="is not a pixel spacing"):
            series_table(pd.DataFrame(OVERVIEW | {"PixelSpacing": ["[1, 1]", text]}))


class TestHeaderTable:
    def test_follows_the_files(self, spider_root: Path, made_case: Callable) -> None:
        image, mask = made_case(1, "t1")
        for volume, folder in ((image, "images"), (mask, "masks")):
            sitk.WriteImage(reorient_image(to_image(volume), "RAI"), str(spider_root / folder / "1_t1.mha"))
        table = header_table(open_source("spider", spider_root)).set_index("case")
        assert table.loc["1_t2", "code"] == "PIR" and table.loc["1_t1", "code"] == "RAI"
        assert table.loc["1_t2", "size"] == (20, 24, 5) and table.loc["1_t1", "size"] == (5, 20, 24)
        assert table.loc["1_t2", "spacing_mm"] == (0.9, 1.1, 3.3)
        assert table.loc[["1_t2", "1_t1"], "thick_axis"].tolist() == [2, 0]
        assert table.loc[["1_t2", "1_t1"], "left_right_axis"].tolist() == [2, 0]

    def test_pictures_have_no_header(self, released_root: Path) -> None:
        with pytest.raises(KitError, match="neither spacing nor orientation"):
            header_table(open_source("spider-2d", released_root))


class TestLabels:
    def test_counts_voxels_pieces_and_slices(self, case: Case) -> None:
        case.mask.array[0, 23, 0] = 201  # a speck that touches nothing
        table = label_table(case, "spider").set_index("label")
        assert table["voxels"].sum() == case.mask.array.size
        assert table.loc[1, "voxels"] == 3 * 5 * 6 and table.loc[1, "name"] == "L5"
        assert table.loc[1, "volume_ml"] == pytest.approx(90 * 3.3 * 1.1 * 0.9 / 1000)
        assert table.loc[201, "pieces"] == 2 and table.loc[201, "main_share"] == pytest.approx(36 / 37)
        assert table.loc[201, "slices"] == 4 and table.loc[100, "slices"] == 1
        assert table.loc[0, "pieces"] == 0 and np.isnan(table.loc[0, "main_share"])
        assert set(table["case"]) == {"3_t1"}

    def test_parts_that_touch_at_a_corner_are_one(self, case: Case) -> None:
        case.mask.array[0, 21, 5] = 1  # diagonal to the corner voxel [1, 21, 6]
        assert label_table(case, "spider").set_index("label").loc[1, "pieces"] == 1

    def test_structure_counts(self, case: Case, made_case: Callable) -> None:
        image, mask = made_case(4, "t2")
        mask.array[mask.array == 100] = 0
        mask.array[0, 0, 0] = 103  # level 3 is then there both whole and in part
        both = pd.concat([label_table(case, "spider"), label_table(Case("4_t2", 4, "t2", image, mask), "spider")])
        counts = structure_counts(both).set_index("case")
        assert counts.loc["3_t1"].to_dict() == {"whole": 3, "partial": 1, "vertebrae": 4, "discs": 3, "canal": 1}
        assert counts.loc["4_t2"].to_dict() == {"whole": 3, "partial": 2, "vertebrae": 4, "discs": 3, "canal": 0}


class TestDiscs:
    def test_neighbours_are_right(self, case: Case) -> None:
        table = disc_neighbours(case.mask).set_index("disc")
        assert table["expected"].to_dict() == {1: (1,), 2: (1, 2), 3: (2, 3)}
        assert table["found"].to_dict() == table["expected"].to_dict()
        assert table["in_place"].all()

    def test_swapped_discs_are_found(self, case: Case) -> None:
        array = case.mask.array
        low, high = array == 202, array == 203
        array[low], array[high] = 203, 202
        assert disc_neighbours(case.mask).set_index("disc")["in_place"].to_dict() == {1: True, 2: False, 3: False}

    def test_a_whole_vertebra_must_be_near_but_a_cut_one_may_not(self, case: Case) -> None:
        array = case.mask.array
        array[array == 3] = 0
        array[0, 0, 0] = 3
        assert not disc_neighbours(case.mask).set_index("disc").loc[3, "in_place"]
        array[0, 0, 0] = 103
        assert disc_neighbours(case.mask).set_index("disc").loc[3, "in_place"]

    def test_no_disc_gives_an_empty_table(self, case: Case) -> None:
        case.mask.array[case.mask.array > 200] = 0
        assert disc_neighbours(case.mask).empty and "in_place" in disc_neighbours(case.mask)

    def test_distance_is_in_mm(self) -> None:
        array = np.zeros((1, 12, 3), np.uint8)
        array[0, 0:2], array[0, 5:7], array[0, 8:] = 2, 202, 1  # 4 rows from disc to L4, 2 to L5
        near, far = (
            disc_neighbours(Volume(array, (3.0, row_mm, 1.0), (0.0, 0.0, 0.0), kit_direction())) for row_mm in (0.75, 0.8)
        )
        assert near.loc[0, "found"] == (1, 2) and far.loc[0, "found"] == (1,)

    def test_contacts(self, case: Case) -> None:
        # Three discs of 2 x 6 pixels a slice: 30 sides face vertebrae (the lowest disc ends at the edge), 12 background.
        shares = disc_contacts(convert(case.mask.array, "spider", "structures4"))
        assert shares == pytest.approx({"vertebra": 30 / 42, "spinal canal": 0, "background": 12 / 42})
        assert all(np.isnan(share) for share in disc_contacts(np.zeros((1, 4, 4), np.uint8)).values())

    def test_contact_with_the_canal(self) -> None:
        mask = np.array([[[3, 2], [3, 0]]], np.uint8)
        assert disc_contacts(mask) == {"vertebra": 0.0, "spinal canal": 0.5, "background": 0.5}

    def test_gaps(self) -> None:
        columns = [[1, 3, 0, 1], [1, 0, 3, 1], [0, 0, 3, 2], [1, 0, 2, 3]]  # each from top to bottom
        mask = np.array(columns, np.uint8).T[None]
        table = disc_gaps(mask, row_mm=0.5, largest_mm=1.0)
        assert table["gap_mm"].tolist() == [0.0, 0.5, 1.0]
        assert table["columns"].tolist() == [2, 2, 0]
