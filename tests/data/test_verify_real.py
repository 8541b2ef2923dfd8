"""Verify on the real data beside the checkout; nothing is copied into the project."""

import shutil

import pandas as pd
import pytest

from spider_utils.data.manifest import load_manifest, manifest_folder
from spider_utils.data.mend import mended_series, write_mended
from spider_utils.data.sources import open_source
from spider_utils.data.verify import detect_kind, verify
from spider_utils.files import sha256_of


@pytest.mark.real_data("spider_t2space_2d")
def test_the_released_slices_are_whole_and_ten_patients_have_lined_discs_until_they_are_mended(real_data, tmp_path):
    root = real_data / "spider_t2space_2d"
    assert detect_kind(root) == "spider-2d"
    share, lined = verify(None, root)
    assert (share.level, share.problem) == ("warning", "holds 622 of the 853 released slices")
    assert lined.problem.startswith("of 10 patients line discs with 4499 thin pieces of canal: 41_t2_SPACE, 65_t2_SPACE, 81_")
    copy = write_mended(open_source("spider-2d", root), tmp_path / "mended")
    assert verify(None, copy) == [share]
    table = pd.read_csv(root / "cases.csv")
    squeezed = set(table.loc[table["height"] != table["native_height"], "patient"])
    assert {f"{patient}_t2_SPACE" for patient in squeezed} < set(mended_series(copy)), "lines come from resizing"


@pytest.mark.real_data("spider_t2space_2d")
def test_the_native_sizes_in_the_manifest_are_those_of_the_data(real_data):
    here = pd.read_csv(real_data / "spider_t2space_2d" / "cases.csv")
    pd.testing.assert_frame_equal(here, pd.read_csv(manifest_folder() / "spider-2d-cases.csv"))


@pytest.mark.real_data("spider_tables")
def test_spider_tables_have_the_published_sums(real_data):
    tables = real_data / "spider_tables"
    for name in ("overview.csv", "radiological_gradings.csv"):
        file = load_manifest("spider").file(name)
        assert sha256_of(tables / name) == file.sha256 and (tables / name).stat().st_size == file.bytes


@pytest.mark.real_data("spider_tables")
def test_spider_tables_without_images_and_with_other_line_ends(real_data, tmp_path):
    for path in (real_data / "spider_tables").glob("*.csv"):
        shutil.copyfile(path, tmp_path / path.name)
    findings = verify(None, tmp_path)
    assert sum("but has no files" in f.problem for f in findings) == 218
    invalid = [f.problem for f in findings if "invalid IVD label 0" in f.problem]
    assert len(invalid) == 2 and "patient 107" in invalid[0] and "patient 152" in invalid[1]
    assert not [f for f in findings if f.path.endswith(".csv") and f.level == "error"]
    table = tmp_path / "overview.csv"
    table.write_bytes(table.read_bytes().replace(b"\r\n", b"\n"))
    assert [f.problem for f in verify("spider", tmp_path) if f.path == "overview.csv"] == [
        "has other line ends than the published file"
    ]
    table.write_bytes(table.read_bytes().replace(b"training", b"validation", 1))
    assert any("but bba75159" in f.problem for f in verify("spider", tmp_path) if f.path == "overview.csv" and f.level == "error")
