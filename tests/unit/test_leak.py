"""Similarity of slices, and the copier that shows what a leak is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.leak import nearest_training_slices, similarity, thumbnails
from spider_utils.data.slices import SliceStore
from spider_utils.data.splits import Split
from spider_utils.errors import KitError


def noise(n: int, seed: int = 0, shape: tuple[int, int] = (24, 20)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


class TestThumbnails:
    def test_by_hand(self) -> None:
        image = np.zeros((1, 4, 4))
        image[0, :2, :2], image[0, 2:, 2:] = 4, 8  # means of the quarters 4, 0, 0, 8; less their mean 3: 1, -3, -3, 5
        expected = np.array([1, -3, -3, 5]) / np.sqrt(1 + 9 + 9 + 25)
        np.testing.assert_allclose(thumbnails(image, 2)[0], expected, rtol=1e-6)

    def test_more_slices_than_a_chunk(self) -> None:
        images = noise(300)
        found = thumbnails(images, 8)
        np.testing.assert_array_equal(found[299], thumbnails(images[299:], 8)[0])
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)

    @pytest.mark.parametrize("side", [1, 21])
    def test_side_out_of_range(self, side: int) -> None:
        with pytest.raises(ValueError, match="between 2 and the slices' own size 20"):
            thumbnails(noise(1), side)

    def test_one_slice_without_its_axis(self) -> None:
        with pytest.raises(ValueError, match="axes"):
            thumbnails(noise(1)[0])


class TestSimilarity:
    def test_brightness_and_contrast_do_not_count_but_sign_does(self) -> None:
        image = noise(3) // 4
        np.testing.assert_allclose(similarity(image, 20 + 3 * image), 1, atol=1e-5)
        np.testing.assert_allclose(similarity(image, 255 - image), -1, atol=1e-5)

    def test_unrelated_and_flat_slices(self) -> None:
        assert np.abs(similarity(noise(40, 1), noise(40, 2))).mean() < 0.1
        assert similarity(noise(1), np.full((1, 24, 20), 7)) == 0

    def test_same_picture_at_another_size(self) -> None:
        small = noise(1, shape=(16, 16))
        assert similarity(small, small.repeat(3, axis=1).repeat(2, axis=2))[0] == pytest.approx(1, abs=1e-5)

    def test_numbers_of_slices_differ(self) -> None:
        with pytest.raises(ValueError, match="2 slices .* 3"):
            similarity(noise(2), noise(3))


def make_store(folder: Path) -> SliceStore:
    """Three patients of four slices; slices of a patient are one picture with a little noise."""
    rng = np.random.default_rng(5)
    images = np.concatenate([np.clip(noise(1, p) + rng.normal(0, 5, (4, 24, 20)), 0, 255).astype(np.uint8) for p in (1, 2, 3)])
    masks = np.repeat(np.array([1, 2, 3], np.uint8), 4)[:, None, None] * np.ones((1, 24, 20), np.uint8)
    table = pd.DataFrame(
        [(f"{p}_t2", p, s) for p in (1, 2, 3) for s in range(4)],
        columns=["case", "patient", "slice"],
    )
    card = {"scheme": "structures4", "fingerprint": "0", "key": "0", "kind": "phantom", "counts": {"1": 1, "2": 1, "3": 1}}
    return SliceStore(folder, card, images, masks, table)


class TestNearestTrainingSlices:
    def test_split_by_slice_finds_the_same_patient(self, tmp_path: Path) -> None:
        store = make_store(tmp_path)
        subset = ["train", "test", "train", "val"] * 3
        split = Split("leaky-slices", 0, 0, store.table.assign(subset=subset))
        found = nearest_training_slices(store, split)
        assert found.rows.tolist() == [1, 5, 9]
        assert (store.masks[found.nearest] == store.masks[found.rows]).all()
        assert set(found.nearest) <= set(split.rows("train", store.table))
        assert found.similarity.min() > 0.9
        np.testing.assert_allclose(found.similarity, similarity(store.images[found.rows], store.images[found.nearest]), atol=1e-5)

    def test_split_by_patient_cannot(self, tmp_path: Path) -> None:
        store = make_store(tmp_path)
        split = Split("kfold5", 0, 0, pd.DataFrame({"patient": [1, 2, 3], "subset": ["train", "val", "test"]}))
        found = nearest_training_slices(store, split)
        assert found.rows.tolist() == [8, 9, 10, 11]
        assert set(found.nearest) <= {0, 1, 2, 3}
        assert found.similarity.max() < 0.5
        assert set(nearest_training_slices(store, split, "val").rows) == {4, 5, 6, 7}

    def test_training_slices_would_find_themselves(self, tmp_path: Path) -> None:
        store = make_store(tmp_path)
        split = Split("kfold5", 0, 0, pd.DataFrame({"patient": [1, 2, 3], "subset": ["train", "val", "test"]}))
        with pytest.raises(ValueError, match="itself"):
            nearest_training_slices(store, split, "train")

    def test_split_of_other_data(self, tmp_path: Path) -> None:
        split = Split("kfold5", 0, 0, pd.DataFrame({"patient": [1, 2], "subset": ["train", "test"]}))
        with pytest.raises(KitError, match="does not know patient 3"):
            nearest_training_slices(make_store(tmp_path), split)
