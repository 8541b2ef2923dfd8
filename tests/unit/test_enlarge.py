"""One slice a series, enlarged by copies: the right slices, copies that differ, made once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.enlarge import enlarge_store, middle_slices
from spider_utils.data.slices import SliceStore, build_store
from spider_utils.data.sources import open_source
from spider_utils.data.splits import make_split
from spider_utils.errors import KitError


@pytest.fixture
def store(spider_layout, tmp_path, monkeypatch) -> SliceStore:
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    return build_store(open_source("spider", spider_layout), tmp_path / "store", (32, 32))


def test_the_middle_slice_of_each_series_is_taken():
    table = pd.DataFrame({"case": ["a"] * 5 + ["b"] * 4 + ["c"]})
    assert middle_slices(table).tolist() == [2, 7, 9]


def test_originals_come_first_and_copies_differ_from_them(store, tmp_path):
    middle = middle_slices(store.table)
    n = len(middle)
    large = enlarge_store(store, 3 * n + 1, "medfusion", tmp_path / "large")
    assert len(large) == 3 * n + 1 and large.scheme == store.scheme
    np.testing.assert_array_equal(large.images[:n], store.images[middle])
    np.testing.assert_array_equal(large.masks[:n], store.masks[middle])
    assert large.table["slice"].tolist() == [0] * n + [1] * n + [2] * n + [3]
    assert large.table["from_slice"][:n].tolist() == store.table["slice"].iloc[middle].tolist()
    assert large.table["case"][n : 2 * n].tolist() == large.table["case"][:n].tolist()
    differs = [(large.images[i] != large.images[i % n]).any() for i in range(n, len(large))]
    assert np.mean(differs) > 0.8, "nearly every copy is changed: each step of the pipeline happens by chance"
    assert large.table["labelled"].tolist() == [round(float((mask > 0).mean()), 5) for mask in large.masks]
    assert set(np.unique(large.masks)) <= set(np.unique(store.masks)), "a copy has no new label"


def test_it_is_made_once_and_anew_with_other_settings(store, tmp_path):
    n = len(middle_slices(store.table))
    first = enlarge_store(store, 2 * n, "medfusion", tmp_path / "large")
    made = (first.folder / "images.npy").stat().st_mtime_ns
    again = enlarge_store(store, 2 * n, "medfusion", tmp_path / "large")
    assert (again.folder / "images.npy").stat().st_mtime_ns == made and again.fingerprint == first.fingerprint
    other = enlarge_store(store, 2 * n, "medfusion", tmp_path / "large", seed=1)
    assert other.fingerprint != first.fingerprint
    renamed = SliceStore(store.folder, store._card | {"key": "other tables"}, store.images, store.masks, store.table)
    assert enlarge_store(renamed, 2 * n, "medfusion", tmp_path / "large", seed=1).key != other.key


def test_every_image_can_be_split_by_itself_or_with_its_patient(store, tmp_path):
    large = enlarge_store(store, 40, "light", tmp_path / "large")
    split = make_split(large.table, "leaky-seed70-5-25")
    parts = [split.rows(subset, large.table) for subset in ("train", "val", "test")]
    assert [len(part) for part in parts] == [28, 2, 10] and sorted(np.concatenate(parts)) == list(range(40))
    by_patient = make_split(large.table, "seed70-5-25")
    sides = [set(large.table["patient"].iloc[by_patient.rows(subset, large.table)]) for subset in ("train", "val", "test")]
    assert all(sides) and not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_too_few_images_and_no_augmentation_are_refused(store, tmp_path):
    n = len(middle_slices(store.table))
    for images, augment in ((n - 1, "light"), (2 * n, "none")):
        with pytest.raises(KitError, match=f"{n} series cannot be enlarged to {images} images by augmentation '{augment}'"):
            enlarge_store(store, images, augment, tmp_path / "large")
    assert not (tmp_path / "large").exists()
