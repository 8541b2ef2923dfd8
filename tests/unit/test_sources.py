"""Data roots: pairing by name, true spacing, tables found, and errors that name the file."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spider_utils.data.sources import RELEASED_PIXEL_MM, RELEASED_SLICE_MM, open_source, parse_case
from spider_utils.data.volumes import kit_direction
from spider_utils.errors import DataError, KitError


def test_a_root_in_spiders_layout(spider_layout, made_case):
    source = open_source("spider", spider_layout)
    assert repr(source) == "Source('spider', 12 series of 6 patients, masks in 'spider')"
    assert list(source.cases.columns) == ["case", "patient", "sequence", "subset", "image", "mask"]
    assert source.cases["case"].tolist() == [f"{p}_{s}" for p in range(1, 7) for s in ("t1", "t2")]
    assert source.cases.set_index("case")["subset"].loc[["3_t2", "4_t1"]].tolist() == ["training", "validation"]
    case = source.load("4_t2")
    image, mask = made_case(4, "t2")
    assert (case.case, case.patient, case.sequence) == ("4_t2", 4, "t2")
    np.testing.assert_array_equal(case.image.array, image.array)
    np.testing.assert_array_equal(case.mask.array, mask.array)
    assert len(source.gradings) == 18 and "Pfirrman grade" in source.gradings
    with pytest.raises(KeyError):
        source.load("99_t1")


def test_patients_are_sorted_as_numbers(spider_root):
    for folder in ("images", "masks"):
        shutil.copy(spider_root / folder / "1_t1.mha", spider_root / folder / "10_t2_SPACE.mha")
    cases = open_source("phantom", spider_root).cases
    assert cases["patient"].tolist()[-2:] == [6, 10] and cases["sequence"].iloc[-1] == "t2_SPACE"
    assert cases["subset"].iloc[-1] == ""  # not in the overview


def test_tables_are_found_in_the_root_one_below_and_in_spider_tables_beside(spider_root):
    outer = spider_root.parent / "outer"
    outer.mkdir()
    inner = Path(shutil.move(spider_root, outer / "inner"))
    assert open_source("spider", outer).overview is not None and open_source("spider", outer).root == inner
    (outer / "tables").mkdir()
    shutil.move(inner / "overview.csv", outer / "tables" / "overview.csv")
    assert len(open_source("spider", outer).overview) == 12
    (outer / "spider_tables").mkdir()
    shutil.move(outer / "tables" / "overview.csv", outer / "spider_tables" / "overview.csv")
    assert len(open_source("spider", inner).overview) == 12


def test_without_tables_there_is_no_subset(spider_root):
    (spider_root / "overview.csv").unlink()
    (spider_root / "radiological_gradings.csv").unlink()
    source = open_source("spider", spider_root)
    assert source.overview is None and source.gradings is None and source.tables == []
    assert set(source.cases["subset"]) == {""}


def test_what_killed_runs_and_other_programs_leave_is_passed_over(spider_root):
    (spider_root / "images" / ".partial-0123abcd-7_t1.mha").write_bytes(b"half")
    (spider_root / "masks" / "._1_t1.mha").write_bytes(b"resource fork")
    (spider_root / "images" / "notes.txt").write_text("x")
    assert len(open_source("spider", spider_root).cases) == 12


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: (r / "masks" / "3_t1.mha").unlink(), "3_t1.mha: has no mask of the same name. Add it"),
        (lambda r: [(r / "images" / f"{p}_t1.mha").unlink() for p in (2, 5)], r"2_t1.mha: has no image.*\(and 1 more files\)"),
        (
            lambda r: [(r / f / "3_t1.mha").rename(r / f / "3_flair.mha") for f in ("images", "masks")],
            "3_flair.mha: its name does not follow the layout",
        ),
        (lambda r: (r / "overview.csv").write_text("a,b\n1,2\n"), "overview.csv: lacks the column.*new_file_name, subset"),
        (lambda r: (r / "overview.csv").write_bytes(b""), "overview.csv: cannot be read as CSV"),
    ],
    ids=["no mask", "no image", "name", "columns", "empty table"],
)
def test_what_is_wrong_with_the_root_is_named(spider_root, spoil, words):
    spoil(spider_root)
    with pytest.raises(DataError, match=words):
        _ = open_source("spider", spider_root).cases


def test_wrong_kind_or_folder(tmp_path, spider_layout, released_root):
    with pytest.raises(KitError, match="unknown kind of data 'dicom'. Known are: phantom, spider, spider-2d"):
        open_source("dicom", tmp_path)
    with pytest.raises(DataError, match="nowhere: this data folder does not exist"):
        open_source("spider", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no images/\*_slice\*.png"):
        open_source("spider-2d", spider_layout)
    with pytest.raises(DataError, match="holds no images"):
        open_source("phantom", released_root)


def test_case_names():
    assert parse_case("12_t2_SPACE") == (12, "t2_SPACE") and parse_case("7_t1") == (7, "t1")
    for wrong in ("t1", "12_t3", "12_t1.mha", "a_t1", "12_t2_space"):
        with pytest.raises(ValueError, match="is not a series name"):
            parse_case(wrong)


# ---------------------------------------------------------------------------------------------------- the released 2D slices


def test_released_slices_become_volumes(released_root):
    source = open_source("spider-2d", released_root)
    assert source.scheme == "structures4"
    assert source.cases[["case", "patient", "sequence"]].to_numpy().tolist() == [
        ["5_t2_SPACE", 5, "t2_SPACE"],
        ["81_t2_SPACE", 81, "t2_SPACE"],
        ["142_t2_SPACE", 142, "t2_SPACE"],
    ]
    case = source.load("5_t2_SPACE")
    assert case.image.array.shape == case.mask.array.shape == (3, 64, 51)
    assert [np.unique(case.mask.array[k]).tolist() for k in range(3)] == [[0, 1, 2, 3]] * 3
    assert case.image.spacing == (RELEASED_SLICE_MM, RELEASED_PIXEL_MM, RELEASED_PIXEL_MM)
    np.testing.assert_array_equal(case.image.direction, kit_direction())
    assert source.load("81_t2_SPACE").image.array.shape == (2, 62, 51)


def test_slices_are_stacked_by_number_not_by_name(released_root):
    """99 comes before 100, though "100" sorts before "99"."""
    stack = open_source("spider-2d", released_root).load("81_t2_SPACE").image.array
    for k, number in enumerate((99, 100)):
        stored = np.asarray(Image.open(released_root / "images" / f"81_t2_SPACE_slice{number}.png"))
        np.testing.assert_array_equal(stack[k], stored)


def test_rgba_and_squeezed_slices(released_root):
    case = open_source("spider-2d", released_root).load("142_t2_SPACE")
    stored = np.asarray(Image.open(released_root / "images" / "142_t2_SPACE_slice7.png"))
    assert stored.shape == (64, 51, 4)
    np.testing.assert_array_equal(case.image.array[0], stored[..., 0])
    # 60 native rows over 64 stored ones: each stored row spans less than a native one; 50 over 51 columns likewise.
    np.testing.assert_allclose(case.image.spacing[1:], (0.46875 * 60 / 64, 0.46875 * 50 / 51))
    assert case.mask.spacing == case.image.spacing
    extent = np.multiply(case.image.spacing[1:], case.image.array.shape[1:])
    np.testing.assert_allclose(extent, (0.46875 * 60, 0.46875 * 50))


def test_a_patient_that_cases_csv_does_not_know_is_said(released_root):
    table = pd.read_csv(released_root / "cases.csv")
    table[table["patient"] != 142].to_csv(released_root / "cases.csv", index=False)
    source = open_source("spider-2d", released_root)
    with pytest.warns(UserWarning, match="patient 142: .* distances in mm, may be wrong"):
        source.load("142_t2_SPACE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source.load("81_t2_SPACE")


def test_without_cases_csv_the_stored_size_counts(released_root):
    (released_root / "cases.csv").unlink()
    assert open_source("spider-2d", released_root).load("142_t2_SPACE").image.spacing[1:] == (0.46875, 0.46875)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("masks/5_t2_SPACE_slice50.png", np.full((64, 51), 77), r"slice50.png: .*does not know: 77 \(3264 px\)"),
        ("images/5_t2_SPACE_slice50.png", np.zeros((64, 50)), "slice50.png: its size .64, 50. differs from the other slices"),
        ("masks/5_t2_SPACE_slice49.png", np.full((60, 51), 76), "masks/5_t2_SPACE_slice49.png: its size differs from the image"),
    ],
)
def test_wrong_slices_are_named_one_by_one(released_root, name, array, words):
    Image.fromarray(array.astype(np.uint8)).save(released_root / name)
    with pytest.raises(DataError, match=words):
        open_source("spider-2d", released_root).load("5_t2_SPACE")


def test_a_patient_without_any_label_is_refused_but_single_empty_slices_are_fine(released_root):
    empty = Image.fromarray(np.zeros((64, 51), np.uint8))
    empty.save(released_root / "masks" / "5_t2_SPACE_slice49.png")
    assert not open_source("spider-2d", released_root).load("5_t2_SPACE").mask.array[0].any()
    for number in (50, 51):
        empty.save(released_root / "masks" / f"5_t2_SPACE_slice{number}.png")
    with pytest.raises(DataError, match="this mask and all others of the patient are empty"):
        open_source("spider-2d", released_root).load("5_t2_SPACE")


def test_a_spoiled_cases_csv_is_named(released_root):
    pd.DataFrame({"patient": [5]}).to_csv(released_root / "cases.csv", index=False)
    with pytest.raises(DataError, match="cases.csv: lacks the column.*native_width, native_height"):
        open_source("spider-2d", released_root).load("5_t2_SPACE")
