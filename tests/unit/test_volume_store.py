"""Whole series in one grid: geometry, both preparations, the store, and the data set."""

from __future__ import annotations

import hashlib
import pickle
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from spider_utils.data.augment import make_augment
from spider_utils.data.slices import scale_to_uint8
from spider_utils.data.sources import open_source
from spider_utils.data.volume_store import (
    PREPARATIONS,
    VolumeDataset,
    VolumeStore,
    build_volume_store,
    covering_size,
    fit_volume,
    prepare,
)
from spider_utils.data.volumes import Volume, from_image, resample_like, to_stored_image
from spider_utils.errors import DataError, KitError

SIZE = (6, 16, 12)


def places(volume: Volume) -> np.ndarray:
    """LPS coordinates (mm) of every voxel's centre, (slices, rows, columns, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), axis=-1)
    return np.array(volume.origin) + (index * volume.spacing) @ volume.direction.T


def turned(code: str, oblique: bool = False) -> Volume:
    """A block of ones that lies off the middle, stored with odd spacings in an orientation, read into the kit's axes."""
    array = np.zeros((13, 21, 17), np.uint8)
    array[3:9, 5:16, 4:11] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.71, 1.37, 3.31))
    image.SetOrigin((-31.7, 12.9, 5.3))
    direction = np.reshape(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code), (3, 3))
    if oblique:
        angle = 0.3
        direction = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ direction
    image.SetDirection(direction.reshape(-1).tolist())
    return from_image(image)


@pytest.mark.parametrize("voxel_mm", [None, (2.9, 2.3, 3.1)])
@pytest.mark.parametrize(("code", "oblique"), [("PIR", False), ("RAI", False), ("LSA", True)])
def test_a_grid_voxel_lies_where_its_number_says(code: str, oblique: bool, voxel_mm: tuple[float, float, float] | None) -> None:
    # An image whose value is a coordinate: linear interpolation must give the coordinate of the new voxel's centre.
    native = turned(code, oblique)
    where = places(native)
    # Both have one centre; with a voxel size of its own the grid's rows end at the same lower edge instead.
    fitted = fit_volume(native, SIZE, voxel_mm=voxel_mm)
    middles = places(fitted).mean(axis=(0, 1, 2)), where.mean(axis=(0, 1, 2))
    lower = 0.0 if voxel_mm is None else (native.array.shape[1] * native.spacing[1] - SIZE[1] * voxel_mm[1]) / 2
    np.testing.assert_allclose(middles[0], middles[1] + lower * native.direction[:, 1], atol=1e-6)
    for axis in range(3):
        grid = fit_volume(native.with_array(where[..., axis].astype(np.float32)), SIZE, voxel_mm=voxel_mm)
        assert grid.array.shape == SIZE and (voxel_mm is None or grid.spacing == voxel_mm)
        expected = places(grid)[..., axis]
        inner = np.ones(SIZE, bool)  # beyond the outermost centres there is nothing to interpolate from
        for k, (n, old, new) in enumerate(zip(native.array.shape, native.spacing, grid.spacing, strict=True)):
            at = (np.arange(SIZE[k]) - (SIZE[k] - 1) / 2) * new / old + (n - 1) / 2 + (lower / old if k == 1 else 0)
            smoothed = (
                0 if voxel_mm is None else np.ceil(2 * np.sqrt(max(0, (new / old) ** 2 - 1) / 12))
            )  # so far reaches the edge
            there = (at >= smoothed) & (at <= n - 1 - smoothed)
            inner &= np.expand_dims(there, [other for other in range(3) if other != k])
        assert inner.any()
        np.testing.assert_allclose(grid.array[inner], expected[inner], atol=1e-3)


def test_one_voxel_size_cuts_and_fills_up_with_black() -> None:
    native = turned("PIR")  # 13 slices of 3.31 mm, 21 rows of 1.37 mm, 17 columns of 0.71 mm
    bright = native.with_array(np.full(native.array.shape, 100, np.int16))
    grid = fit_volume(bright, SIZE, voxel_mm=(3.0, 1.0, 2.0))
    assert (grid.array[:, :, 4:8] == 100).all(), "6 x 3.0 mm and 16 x 1.0 mm lie within the field of view"
    assert not grid.array[:, :, :2].any() and not grid.array[:, :, -2:].any(), "12 x 2.0 mm reach beyond 17 x 0.71 mm"
    assert covering_size(native, SIZE, (3.0, 1.0, 2.0)) == (15, 29, 12)
    assert covering_size(native, SIZE, None) == SIZE
    assert covering_size(native, (13, 21, 17), native.spacing) == (13, 21, 17), "rounding asks for no further voxel"


def test_one_voxel_size_averages_what_a_voxel_covers() -> None:
    native = turned("PIR")  # rows of 1.37 mm
    array = np.zeros(native.array.shape, np.int16)
    array[:, 1::2] = 80
    striped = native.with_array(array)
    inner = (slice(2, 4), slice(-4, -1), slice(2, 8))
    # Voxels as large as n: variance (n^2 - 1) / 12 in rows; stripes of two rows keep exp(-2 pi^2 variance / 4) of their height.
    even = fit_volume(striped, SIZE, voxel_mm=(3.31, 1.37 * 4, 0.71)).array[inner]
    np.testing.assert_allclose(even, 40, atol=1)
    assert np.ptp(fit_volume(striped, SIZE, voxel_mm=(3.31, 1.37 * 2.5, 0.71)).array[inner]) < 12  # 0.12 of 80
    assert np.ptp(fit_volume(striped, SIZE, voxel_mm=(3.31, 1.37, 0.71)).array[inner]) == 80, "as fine as the image"
    assert np.ptp(fit_volume(striped, SIZE).array[inner]) > 40, "nothing is smoothed in the source"
    np.testing.assert_array_equal(striped.array, array)


@pytest.mark.parametrize(("code", "oblique"), [("PIR", False), ("RAI", False), ("RPI", False), ("LSA", True)])
def test_a_mask_comes_back_within_half_a_voxel(code: str, oblique: bool) -> None:
    native = turned(code, oblique)
    grid = fit_volume(native, SIZE, is_mask=True)
    np.testing.assert_allclose(np.multiply(SIZE, grid.spacing), np.multiply(native.array.shape, native.spacing))
    back = resample_like(grid, native, is_mask=True)
    assert back.array.shape == native.array.shape and set(np.unique(back.array)) == {0, 1}
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        edges = [np.flatnonzero(mask.array.any(axis=others))[[0, -1]] for mask in (native, back)]
        moved_mm = np.abs(np.subtract(*edges)) * native.spacing[axis]
        # Nearest neighbour goes wrong by half a voxel of the grid, and once more by half a voxel of the series.
        assert (moved_mm <= (grid.spacing[axis] + native.spacing[axis]) / 2 + 1e-6).all(), (axis, edges)
    stored = to_stored_image(back)
    assert stored.GetSize() == (17, 21, 13) and stored.GetSpacing() == (0.71, 1.37, 3.31)


def test_both_preparations_by_hand() -> None:
    values = np.array([-2000, -1000, 0, 1048, 3096, 5000], np.int16)
    np.testing.assert_allclose(prepare(values, "as_printed", 0, 100), [0, 0, 1000 / 4096, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(prepare(values, "mended", 0, 2096), [0, 0, 0, 0.5, 1, 1], atol=1e-6)
    assert prepare(values, "mended", 5, 5).tolist() == [0] * 6  # a constant image
    assert all(prepare(values, name, 0, 1).dtype == np.float32 for name in PREPARATIONS)
    with pytest.raises(KitError, match="preparation must be one of mended, as_printed, not 'printed'"):
        prepare(values, "printed", 0, 1)


@pytest.fixture(scope="module")
def store(spider_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    return build_volume_store(open_source("spider", spider_layout), tmp_path_factory.mktemp("stores") / "volumes", SIZE)


def test_store_holds_every_series_in_one_grid(store: VolumeStore, spider_layout: Path) -> None:
    source = open_source("spider", spider_layout)
    assert len(store) == 12 and store.images.shape == store.masks.shape == (12, *SIZE) and store.size == SIZE
    assert store.table["case"].tolist() == source.cases["case"].tolist()
    assert store.table["subset"].tolist() == source.cases["subset"].tolist()
    case = source.load(store.table["case"][5])
    np.testing.assert_array_equal(store.images[5], fit_volume(case.image, SIZE).array)
    np.testing.assert_array_equal(store.masks[5], fit_volume(case.mask, SIZE, is_mask=True).array)
    np.testing.assert_allclose(store.spacing_mm(5), fit_volume(case.mask, SIZE, is_mask=True).spacing)
    assert repr(store).startswith("VolumeStore('spider', 12 series of 6 patients as 6x16x12, scheme 'spider'")


def test_a_store_of_one_voxel_size_says_so(store: VolumeStore, spider_layout: Path, tmp_path: Path) -> None:
    source, voxel_mm = open_source("spider", spider_layout), (3.0, 2.0, 2.5)
    one = build_volume_store(source, tmp_path / "one", SIZE, voxel_mm)
    assert one.voxel_mm == one.spacing_mm(3) == voxel_mm and store.voxel_mm is None and one.key != store.key
    case = source.load(one.table["case"][5])
    np.testing.assert_array_equal(one.masks[5], fit_volume(case.mask, SIZE, True, voxel_mm).array)
    assert "6x16x12 of 3 x 2 x 2.5 mm" in repr(one)


def test_mended_intensities_are_those_of_slices(store: VolumeStore, spider_layout: Path) -> None:
    case = open_source("spider", spider_layout).load(store.table["case"][3])
    low, high = store.table["low"][3], store.table["high"][3]
    expected = scale_to_uint8(case.image.array)
    np.testing.assert_allclose(255 * prepare(case.image.array, "mended", low, high), expected, atol=0.5001)


def test_store_is_built_once_and_again_when_the_data_change(spider_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    first = build_volume_store(open_source("spider", spider_root), folder, SIZE)
    made = (folder / "images.npy").stat().st_mtime_ns
    assert build_volume_store(open_source("spider", spider_root), folder, SIZE).fingerprint == first.fingerprint
    assert (folder / "images.npy").stat().st_mtime_ns == made
    for name in ("images", "masks"):
        (spider_root / name / "6_t2.mha").unlink()
    again = build_volume_store(open_source("spider", spider_root), folder, SIZE)
    assert len(again) == 11 and again.key != first.key and again.fingerprint != first.fingerprint


def test_store_writes_one_series_at_a_time(tmp_path: Path) -> None:
    alive = []

    def parts():
        for number in range(12):  # ten more than one make the first axis a digit longer
            alive.append(weakref.ref(images := np.full((1, *SIZE), number, np.float32)))
            assert sum(ref() is not None for ref in alive) <= 2, "the last part may still be held while the next is made"
            table = pd.DataFrame({"case": [f"{number}_t1"], "patient": [number], "low": [number / 2]})
            yield images, np.full((1, *SIZE), number, np.uint8), table

    card = {"kind": "phantom", "scheme": "spider", "key": "k", "voxel_mm": None}
    VolumeStore.write(tmp_path / "store", parts(), card, served=["low"], n_items=12)
    store = VolumeStore.open(tmp_path / "store")
    assert store.images.shape == store.masks.shape == (12, *SIZE) and store.table["low"].tolist() == [n / 2 for n in range(12)]
    assert all((store.images[n] == n).all() and (store.masks[n] == n).all() for n in range(12))
    served = hashlib.sha256(store.table[["low"]].to_numpy().tobytes() + store.images.tobytes() + store.masks.tobytes())
    assert store.fingerprint == served.hexdigest()[:16]


def test_a_store_of_mixed_sizes_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    one = np.zeros((1, *SIZE), np.float32), np.zeros((1, *SIZE), np.uint8), pd.DataFrame({"case": ["1_t1"]})
    other = np.zeros((1, 6, 16, 16), np.float32), np.zeros((1, 6, 16, 16), np.uint8), pd.DataFrame({"case": ["2_t1"]})
    with pytest.raises(ValueError, match=r"items must be \(6, 16, 12\) of float32, not \(6, 16, 16\) of float32"):
        VolumeStore.write(tmp_path / "store", [one, other], {"kind": "phantom", "scheme": "spider", "key": "k"})
    assert not list(tmp_path.iterdir())


def test_damaged_store_says_what_to_do(spider_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    build_volume_store(open_source("spider", spider_root), folder, SIZE)
    (folder / "masks.npy").write_bytes(b"short")
    with pytest.raises(DataError, match="the volume store is damaged .* Delete the folder; it is rebuilt."):
        VolumeStore.open(folder)


def test_dataset_serves_both_preparations(store: VolumeStore) -> None:
    rows = np.array([4, 7])
    mended = VolumeDataset(store, rows, "levels20")
    printed = VolumeDataset(store, rows, "clamped20", "as_printed")
    (image, mask), (window, clamped) = mended[1], printed[1]
    assert image.shape == window.shape == (1, *SIZE) and image.dtype == window.dtype == torch.float32
    assert mask.shape == clamped.shape == SIZE and mask.dtype == clamped.dtype == torch.uint8
    np.testing.assert_array_equal(window[0], ((store.images[7] + 1000) / 4096).astype(np.float32))
    stored = store.masks[7]
    assert np.isin([1, 100, 201], stored).all()
    np.testing.assert_array_equal(clamped, np.clip(stored, 0, 19))
    assert mask[stored == 100].unique().tolist() == [10] and mask[stored == 201].unique().tolist() == [11]
    with pytest.raises(KitError, match="preparation must be"):
        VolumeDataset(store, rows, "levels20", "both")


def test_shares_of_classes_are_counted_over_the_served_volumes(store: VolumeStore) -> None:
    dataset = VolumeDataset(store, np.array([4, 7]), "structures4", augment=make_augment("light"), repeats=3)
    labels = np.stack([VolumeDataset(store, np.array([row]), "structures4")[0][1] for row in (4, 7)])
    np.testing.assert_allclose(dataset.class_shares(), [(labels == value).mean() for value in range(4)])


def test_augmentation_follows_from_seed_epoch_and_item_and_moves_all_slices_alike(store: VolumeStore) -> None:
    dataset = VolumeDataset(store, np.array([4, 7]), "levels20", augment=make_augment("light"), seed=1, repeats=2)
    assert len(dataset) == 4
    dataset.set_epoch(1)
    first = [dataset[index] for index in range(4)]
    assert torch.equal(dataset[0][0], first[0][0])
    assert not torch.equal(first[0][0], first[2][0])  # the same volume, augmented anew
    dataset.set_epoch(2)
    assert not torch.equal(dataset[0][0], first[0][0])
    with pytest.raises(IndexError):
        dataset[4]
    # An augmentation that does nothing leaves the order of slices: as it is, or reversed in image and mask.
    dataset.repeats, dataset.augment = 8, lambda image, mask, seed: (image, mask)
    plain = VolumeDataset(store, np.array([4, 7]), "levels20")
    turns = []
    for index in range(16):
        (image, mask), (stored_image, stored_mask) = dataset[index], plain[index % 2]
        turned = not torch.equal(image, stored_image)
        assert torch.equal(image, stored_image.flip(1) if turned else stored_image)
        assert torch.equal(mask, stored_mask.flip(0) if turned else stored_mask)
        turns.append(turned)
    assert 4 < sum(turns) < 12, "about every second time"
    # Slices that are all alike stay alike.
    dataset.augment = make_augment("field_of_view")
    dataset.store = type("Same", (), {"prepared": lambda self, row, how: np.tile(store.prepared(4, "mended")[3], (6, 1, 1))})()
    dataset.store.masks = np.tile(store.masks[4][3], (12, 6, 1, 1))
    image, mask = dataset[0]
    assert torch.equal(image[0, 0], image[0, 5]) and torch.equal(mask[0], mask[5])


def test_fingerprint_knows_what_intensities_are_scaled_by(tmp_path: Path) -> None:
    images, masks = np.ones((1, *SIZE), np.float32), np.zeros((1, *SIZE), np.uint8)
    card = {"kind": "phantom", "scheme": "spider", "key": "k", "voxel_mm": None}
    made = []
    for number, high in enumerate((10.0, 20.0, 10.0)):
        table = pd.DataFrame({"case": ["1_t1"], "patient": [1], "low": [0.0], "high": [high]})
        VolumeStore.write(tmp_path / str(number), [(images, masks, table)], card, served=["low", "high"])
        made.append(VolumeStore.open(tmp_path / str(number)).fingerprint)
    assert made[0] == made[2] != made[1]


def test_store_travels_to_worker_processes_by_name(store: VolumeStore) -> None:
    packed = pickle.dumps(VolumeDataset(store, np.arange(3), "levels20"))
    assert len(packed) < 20_000
    assert torch.equal(pickle.loads(packed)[2][0], VolumeDataset(store, np.arange(3), "levels20")[2][0])
