"""SPIDER itself: the slices that the authors of `ahmed` released, and the two tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.slices import SliceDataset, build_store
from spider_utils.data.sources import RELEASED_PIXEL_MM, open_source
from spider_utils.data.splits import make_split

SQUEEZED = {65, 81, 141, 142, 146, 191, 209}


@pytest.fixture(scope="module")
def source(real_data):
    return open_source("spider-2d", real_data / "spider_t2space_2d")


@pytest.mark.real_data("spider_t2space_2d")
def test_thirty_patients_and_their_slices(source):
    assert len(source.cases) == source.cases["patient"].nunique() == 30
    assert source.cases["slices"].map(len).sum() == 622
    for slices in source.cases["slices"]:
        numbers = sorted(number for number, _ in slices)
        assert numbers == list(range(numbers[0], numbers[-1] + 1))  # no gap: a stack of them is a volume
    assert repr(source) == "Source('spider-2d', 30 series of 30 patients, masks in 'structures4')"


@pytest.mark.real_data("spider_t2space_2d")
@pytest.mark.parametrize("patient", [5, 81, 142])
def test_plain_low_and_rgba_patients_alike(source, patient):
    case = source.load(f"{patient}_t2_SPACE")
    # 640 rows of 512 columns, but for patient 81.
    assert case.image.array.shape[1:] == case.mask.array.shape[1:] == ((620, 512) if patient == 81 else (640, 512))
    assert np.unique(case.mask.array).tolist() == [0, 1, 2, 3]
    assert case.image.array.dtype == case.mask.array.dtype == np.uint8
    # A real picture and not a channel of the wrong kind (an alpha channel would be flat).
    assert 20 < case.image.array.std() < 110
    rows = {label: np.argwhere(case.mask.array == label).mean(axis=0) for label in (1, 2, 3)}
    assert rows[2][2] > rows[1][2]  # the canal lies behind the bodies: the slice looks to the left
    assert abs(rows[3][1] - rows[1][1]) < 80


@pytest.mark.real_data("spider_t2space_2d")
def test_squeezed_patients_have_their_true_spacing(source, real_data):
    table = pd.read_csv(real_data / "spider_t2space_2d" / "cases.csv").set_index("patient")
    changed = table.index[(table["width"] != table["native_width"]) | (table["height"] != table["native_height"])]
    assert set(changed) == SQUEEZED
    for patient in sorted(SQUEEZED):
        volume = source.load(f"{patient}_t2_SPACE").image
        row = table.loc[patient]
        extent = np.multiply(volume.array.shape[1:], volume.spacing[1:])
        # The field of view in mm is the series' own, whatever the number of pixels became.
        np.testing.assert_allclose(extent, np.array([row["native_height"], row["native_width"]]) * RELEASED_PIXEL_MM)
        assert volume.spacing[2] == pytest.approx(row["native_width"] / row["width"] * 0.46875)
        assert volume.spacing[1] == pytest.approx(row["native_height"] / row["height"] * 0.46875)
    assert source.load("5_t2_SPACE").image.spacing[1:] == (0.46875, 0.46875)


@pytest.mark.real_data("spider_t2space_2d")
def test_the_store_of_three_real_patients(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    few = source.cases[source.cases["patient"].isin([5, 81, 142])].reset_index(drop=True)
    monkeypatch.setattr(source, "cases", few, raising=False)
    store = build_store(source, tmp_path / "store", (256, 208))
    assert len(store) == few["slices"].map(len).sum() and set(np.unique(store.masks)) == {0, 1, 2, 3}
    # Shares of the labelled area do not depend on the pixel size: compare with the native stack.
    native = source.load("81_t2_SPACE")
    spacing = native.mask.spacing
    area = (native.mask.array == 1).sum(axis=(1, 2)) * spacing[1] * spacing[2]
    rows = np.flatnonzero(store.table["patient"] == 81)
    stored = (store.masks[rows] == 1).sum(axis=(1, 2)) * store.table["pixel_mm"].iloc[rows].to_numpy() ** 2
    np.testing.assert_allclose(stored, area, rtol=0.02)
    data = SliceDataset(store, rows)
    assert data[0][0].shape == (1, 256, 208) and 0 < data[0][0].mean() < 1


@pytest.mark.real_data("spider_tables", "spider_t2space_2d")
def test_the_real_tables_are_found_and_read(source):
    overview, gradings = source.overview, source.gradings
    assert len(overview) == 447 and overview["new_file_name"].is_unique
    assert overview["subset"].value_counts().to_dict() == {"training": 360, "validation": 87}
    patients = overview["new_file_name"].str.split("_").str[0].astype(int)
    assert patients.nunique() == 218
    assert len(gradings) == 1520 and set(gradings["Pfirrman grade"].dropna()) <= {1, 2, 3, 4, 5}
    assert (gradings["IVD label"] == 0).any()  # a few rows name no disc; they are kept as they are
    assert set(source.cases["subset"]) == {"training"}


@pytest.mark.real_data("spider_tables", "spider_t2space_2d")
def test_the_official_split_of_all_patients(source):
    names = source.overview["new_file_name"].str.extract(r"^(?P<patient>\d+)_")["patient"].astype(int)
    split = make_split(pd.DataFrame({"patient": names, "subset": source.overview["subset"]}), "official")
    held_out = names[source.overview["subset"] == "validation"].unique()
    assert split.patients("test") == sorted(held_out.tolist())
    assert len(split.patients("train")) + len(split.patients("val")) + len(split.patients("test")) == 218
