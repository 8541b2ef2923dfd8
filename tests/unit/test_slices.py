"""Slices in a grid of one size, the store that keeps them, and the data set that serves them."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from spider_utils.data import slices
from spider_utils.data.augment import make_augment
from spider_utils.data.slices import (
    SliceDataset,
    SliceGrid,
    SliceStore,
    _resize,
    build_store,
    export_png,
    scale_to_uint8,
    store_key,
    windows,
)
from spider_utils.data.sources import Source, open_source
from spider_utils.data.volumes import write_volume
from spider_utils.errors import DataError
from spider_utils.files import read_json, write_json
from spider_utils.labels import convert

sides, spacings = st.integers(2, 60), st.floats(0.2, 3.0)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")


@pytest.fixture
def store(spider_layout, tmp_path) -> SliceStore:
    return build_store(open_source("spider", spider_layout), tmp_path / "store", (32, 32))


# -------------------------------------------------------------------------------------------------------------- intensities


def test_percentiles_of_the_whole_volume_become_black_and_white():
    array = np.random.default_rng(0).normal(500, 100, (8, 40, 40)).astype(np.float32)
    array[0, 0, 0] = 1e6  # one hot voxel must not darken the rest
    out = scale_to_uint8(array)
    low, high = np.percentile(array, (0.5, 99.5))
    assert out.dtype == np.uint8
    assert (out[array <= low] == 0).all() and (out[array >= high] == 255).all()
    middle = (array > low) & (array < high)
    np.testing.assert_allclose(out[middle], (array[middle] - low) / (high - low) * 255, atol=0.51)


@given(st.sampled_from([np.int16, np.uint16, np.float32]), st.integers(1, 50), st.integers(0, 1000))
def test_scaling_ignores_unit_and_offset(dtype, factor, offset):
    array = np.random.default_rng(1).integers(0, 500, (3, 12, 12))
    reference = scale_to_uint8(array.astype(np.int32))
    scaled = scale_to_uint8((array * factor + offset).astype(dtype)).astype(int)
    assert np.abs(scaled - reference).max() <= 1


def test_bytes_pass_and_flat_volumes_are_black():
    array = np.random.default_rng(2).integers(0, 9, (2, 3, 4), dtype=np.uint8)
    assert scale_to_uint8(array) is array
    assert not scale_to_uint8(np.full((2, 3, 4), 77, np.int16)).any()


# --------------------------------------------------------------------------------------------------------------------- grid


@given(sides, sides, spacings, spacings, st.integers(8, 96), st.integers(8, 96))
def test_placement_keeps_proportions_in_mm_centred_and_inside(h, w, row_mm, column_mm, rows, columns):
    grid = SliceGrid(rows, columns)
    r, c, pixel = grid.placement((h, w), (row_mm, column_mm))
    assert 0 <= r.start < r.stop <= rows and 0 <= c.start < c.stop <= columns
    assert r.stop - r.start == rows or c.stop - c.start == columns  # as large as it can be
    for part, mm, whole in ((r, h * row_mm, rows), (c, w * column_mm, columns)):
        assert abs((part.stop - part.start) - mm / pixel) <= 0.5 + 1e-9 or part.stop - part.start == 1
        assert abs(part.start - (whole - part.stop)) <= 1


@given(sides, sides, spacings, spacings, st.integers(0, 2**31))
def test_a_mask_goes_into_a_finer_grid_and_comes_back_exactly(h, w, row_mm, column_mm, seed):
    grid = SliceGrid(96, 80)
    r, c, _ = grid.placement((h, w), (row_mm, column_mm))
    assume(r.stop - r.start >= h and c.stop - c.start >= w)
    mask = np.random.default_rng(seed).integers(0, 226, (2, h, w), dtype=np.uint8)
    fitted = grid.fit(mask, (row_mm, column_mm), is_mask=True)
    assert fitted.shape == (2, 96, 80) and fitted.dtype == np.uint8
    np.testing.assert_array_equal(grid.unfit(fitted, (h, w), (row_mm, column_mm), is_mask=True), mask)


@given(sides, sides, spacings, spacings, st.integers(0, 2**31))
def test_a_mask_never_gains_a_label(h, w, row_mm, column_mm, seed):
    mask = np.random.default_rng(seed).choice(np.array([0, 3, 100, 209], np.uint8), (h, w))
    grid = SliceGrid(16, 20)
    fitted = grid.fit(mask, (row_mm, column_mm), is_mask=True)
    assert set(np.unique(fitted)) <= set(np.unique(mask)) | {0}
    assert set(np.unique(grid.unfit(fitted, (h, w), (row_mm, column_mm), is_mask=True))) <= set(np.unique(mask)) | {0}


def disc_picture(shape, spacing, centre_mm, radius_mm):
    y, x = np.meshgrid(*(np.arange(n) * s + s / 2 for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    return ((y - centre_mm[0]) ** 2 + (x - centre_mm[1]) ** 2 < radius_mm**2).astype(np.uint8) * 200


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((512, 640), (0.46875, 0.46875)), ((512, 620), (0.46875, 0.46875)), ((300, 200), (1.2, 0.6)), ((100, 400), (2.0, 0.5))],
)
@pytest.mark.parametrize("is_mask", [True, False])
def test_circles_stay_circles_where_they_were(shape, spacing, is_mask):
    extent = np.multiply(shape, spacing)
    centre, radius = extent * (0.4, 0.55), 0.2 * extent.min()
    picture = disc_picture(shape, spacing, centre, radius)
    grid = SliceGrid(160, 128)
    rows, columns, pixel = grid.placement(shape, spacing)
    weight = grid.fit(picture, spacing, is_mask).astype(float) / 200
    where = np.argwhere(np.ones(weight.shape))
    middle = np.average(where, axis=0, weights=weight.reshape(-1))
    expected = centre / pixel + (rows.start, columns.start) - 0.5
    assert np.abs(middle - expected).max() < 0.6
    assert weight.sum() * pixel**2 == pytest.approx(np.pi * radius**2, rel=0.03)
    spread = np.sqrt(np.average((where - middle) ** 2, axis=0, weights=weight.reshape(-1)))
    assert spread[0] == pytest.approx(spread[1], rel=0.06)
    back = grid.unfit(grid.fit(picture, spacing, is_mask), shape, spacing, is_mask).astype(float)
    there = np.argwhere(np.ones(shape))
    found = np.average(there, axis=0, weights=back.reshape(-1)) * spacing + np.divide(spacing, 2)
    assert np.abs(found - centre).max() < 0.5 * pixel


@given(sides, sides, spacings, spacings)
def test_probabilities_still_sum_to_one_on_the_way_back(h, w, row_mm, column_mm):
    stack = np.random.default_rng(0).dirichlet(np.ones(4), (24, 32)).transpose(2, 0, 1).astype(np.float32)
    back = SliceGrid(24, 32).unfit(stack, (h, w), (row_mm, column_mm))
    assert back.shape == (4, h, w) and back.dtype == np.float32
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_flat_images_stay_flat_and_zero_fills_the_rest(dtype):
    out = SliceGrid(40, 40).fit(np.full((3, 10, 20), 100, dtype), (1.0, 1.0))
    assert out.dtype == dtype
    assert (out[:, 10:30] == 100).all() and not out[:, :10].any() and not out[:, 30:].any()


@pytest.mark.parametrize("wanted", [1, 7, 32, 100, 128, 160, 640])
def test_nearest_pixels_are_torchs(wanted):
    for there in (*range(1, 70), 376, 416, 443, 512, 654):
        mask = (np.arange(there) % 251).astype(np.uint8)[None, None]
        expected = F.interpolate(torch.from_numpy(mask)[None], size=(1, wanted), mode="nearest-exact")[0].numpy()
        found = _resize(mask, (1, wanted), is_mask=True)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected, err_msg=f"{there} to {wanted}")


def test_a_view_in_another_order_of_memory_gives_the_same_slices():
    volume = np.random.default_rng(3).integers(-200, 3000, (30, 40, 9)).astype(np.int16)
    view = volume.transpose(2, 0, 1)[::-1, :, ::-1]
    whole, grid = np.ascontiguousarray(view), SliceGrid(16, 20)
    np.testing.assert_array_equal(scale_to_uint8(view), scale_to_uint8(whole))
    np.testing.assert_array_equal(grid.fit(scale_to_uint8(view), (1, 1)), grid.fit(scale_to_uint8(whole), (1, 1)))
    np.testing.assert_array_equal(grid.fit(view & 127, (1, 1), is_mask=True), grid.fit(whole & 127, (1, 1), is_mask=True))


def test_large_label_values_are_refused_not_wrapped():
    with pytest.raises(ValueError, match="between 0 and 255 here, not 0 to 300"):
        SliceGrid(8, 8).fit(np.array([[0, 300]], np.uint16), (1.0, 1.0), is_mask=True)
    assert SliceGrid(8, 8).fit(np.array([[0, 200]], np.uint16), (1.0, 1.0), is_mask=True).max() == 200


# -------------------------------------------------------------------------------------------------------------------- store


def test_a_store_holds_every_slice_with_its_origin(spider_layout, store, made_case):
    assert len(store) == 12 * 5 and store.images.shape == store.masks.shape == (60, 32, 32)
    assert store.images.dtype == store.masks.dtype == np.uint8 and isinstance(store.images, np.memmap)
    assert repr(store).startswith("SliceStore('spider', 60 slices of 32x32 from 12 series of 6 patients, scheme 'spider'")
    row = store.table.iloc[5 * 7 + 2]
    assert (row["case"], row["patient"], row["sequence"], row["slice"], row["subset"]) == ("4_t2", 4, "t2", 2, "validation")
    assert (row["native_rows"], row["native_columns"], row["row_mm"], row["column_mm"]) == (24, 20, 1.1, 0.9)
    assert row["pixel_mm"] == pytest.approx(24 * 1.1 / 32)
    image, mask = made_case(4, "t2")
    grid = SliceGrid(32, 32)
    np.testing.assert_array_equal(store.images[37], grid.fit(scale_to_uint8(image.array), (1.1, 0.9))[2])
    np.testing.assert_array_equal(store.masks[37], grid.fit(mask.array, (1.1, 0.9), is_mask=True)[2])
    assert row["labels"] == len(np.unique(store.masks[37])) - 1 and row["labelled"] == pytest.approx(
        (store.masks[37] > 0).mean(), abs=1e-5
    )
    assert store.table["labels"].iloc[0] == 0  # the outermost slice shows no spine


def test_a_second_build_only_opens(spider_layout, store, monkeypatch):
    monkeypatch.setattr(Source, "volumes", lambda *_, **__: pytest.fail("nothing may be read again"))
    again = build_store(open_source("spider", spider_layout), store.folder, (32, 32))
    assert again.fingerprint == store.fingerprint
    pd.testing.assert_frame_equal(again.table, SliceStore.open(store.folder).table)


def test_a_changed_file_size_or_table_means_a_new_build(spider_root, tmp_path, made_case):
    first = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    write_volume(made_case(3, "t1", seed=9)[0], spider_root / "images" / "3_t1.mha")
    second = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    assert second.fingerprint != first.fingerprint
    changed = [k for k in range(60) if not np.array_equal(first.images[k], second.images[k])]
    assert set(second.table["case"].iloc[changed]) == {"3_t1"}
    assert build_store(open_source("spider", spider_root), tmp_path / "store", (32, 24)).images.shape == (60, 32, 24)
    overview = pd.read_csv(spider_root / "overview.csv").assign(subset="training")
    overview.to_csv(spider_root / "overview.csv", index=False)
    assert set(build_store(open_source("spider", spider_root), tmp_path / "store", (32, 24)).table["subset"]) == {"training"}


def test_true_spacing_that_arrives_later_counts(released_root, tmp_path):
    kept = (released_root / "cases.csv").read_bytes()
    (released_root / "cases.csv").unlink()
    before = build_store(open_source("spider-2d", released_root), tmp_path / "store", (64, 64)).table
    (released_root / "cases.csv").write_bytes(kept)
    after = build_store(open_source("spider-2d", released_root), tmp_path / "store", (64, 64)).table
    squeezed = after["patient"] == 142
    assert (before["row_mm"] == 0.46875).all()
    np.testing.assert_allclose(after.loc[squeezed, "row_mm"], 0.46875 * 60 / 64)
    assert (after.loc[~squeezed, "row_mm"] == 0.46875).all()
    assert after.loc[after["patient"] == 81, "native_rows"].tolist() == [62, 62]


def test_hidden_files_do_not_count(spider_root):
    source = open_source("spider", spider_root)
    before = store_key(source, (32, 32))
    (spider_root / "images" / ".DS_Store").write_bytes(b"x")
    assert store_key(source, (32, 32)) == before
    os.utime(spider_root / "images" / "1_t1.mha", ns=(1, 1))
    assert store_key(source, (32, 32)) != before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DataError("5_t1.mha", "is bad", "Fix it.")])
def test_a_killed_build_leaves_nothing(spider_layout, tmp_path, monkeypatch, stop):
    volumes = Source.volumes

    def stops(self, case, **options):
        if case == "5_t1":
            raise stop
        return volumes(self, case, **options)

    monkeypatch.setattr(Source, "volumes", stops)
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        build_store(open_source("spider", spider_layout), tmp_path / "store", (32, 32))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(spider_layout, tmp_path, full_disk):
    with pytest.raises(DataError, match="store"), full_disk(20_000):
        build_store(open_source("spider", spider_layout), tmp_path / "store", (32, 32))
    assert list(tmp_path.iterdir()) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: cut(f / "images.npy"), "the slice store is damaged"),
        (lambda f: (f / "masks.npy").unlink(), "the slice store is damaged"),
        (lambda f: (f / "masks.npy").write_bytes(b""), "the slice store is damaged"),
        (lambda f: (f / "store.json").write_text("{"), "store.json: cannot be read as JSON"),
        (lambda f: (f / "store.json").unlink(), "store.json: the file does not exist"),
        (lambda f: cut(f / "table.csv"), "the slice store is damaged: its parts differ in length"),
        (lambda f: write_json(f / "store.json", read_json(f / "store.json") | {"version": 0}), "has version 0, not "),
    ],
    ids=["cut images", "no masks", "empty masks", "cut card", "no card", "cut table", "old version"],
)
def test_a_damaged_store_is_named(store, spoil, words):
    spoil(store.folder)
    with pytest.raises(DataError, match=words) as caught:
        SliceStore.open(store.folder)
    assert str(store.folder) in str(caught.value)


def test_a_store_never_replaces_a_folder_of_somebody_else(spider_layout, tmp_path, unchanged):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    source = open_source("spider", spider_layout)
    with unchanged(tmp_path), pytest.raises(DataError, match="thesis: holds other files"):
        build_store(source, tmp_path / "thesis", (32, 32))


def test_lookups_to_the_schemes_that_networks_learn(store):
    table, report = store.lookup("levels20")
    stored = np.array(store.masks)
    np.testing.assert_array_equal(table[stored], convert(stored, "spider", "levels20"))
    assert report.dropped == {} and report.partial == {104: int((stored == 104).sum())}
    table, _ = store.lookup("structures4")
    np.testing.assert_array_equal(table[stored], convert(stored, "spider", "structures4"))


def test_lookups_report_what_they_drop(spider_root, tmp_path, made_case):
    _, mask = made_case(2, "t1")
    write_volume(mask.with_array(np.where(mask.array == 203, 212, mask.array)), spider_root / "masks" / "2_t1.mha")
    store = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    _, report = store.lookup("levels20")
    assert report.dropped == {212: int((np.array(store.masks) == 212).sum())} and report.dropped[212] > 0


def test_released_slices_cannot_become_levels(released_root, tmp_path):
    store = build_store(open_source("spider-2d", released_root), tmp_path / "store", (64, 64))
    assert store.scheme == "structures4" and set(np.unique(store.masks)) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="which level"):
        store.lookup("levels20")


# ----------------------------------------------------------------------------------------------------------------- data set


def test_items_are_what_networks_take(store):
    data = SliceDataset(store, np.array([7, 2, 40]), scheme="structures4")
    image, mask = data[1]
    assert len(data) == 3
    assert image.shape == (1, 32, 32) and image.dtype == torch.float32
    assert mask.shape == (32, 32) and mask.dtype == torch.uint8
    np.testing.assert_allclose(image[0].numpy() * 255, store.images[2], atol=1e-4)
    np.testing.assert_array_equal(mask.numpy(), convert(np.array(store.masks[2]), "spider", "structures4"))
    own = SliceDataset(store, np.array([2]))[0][1]
    np.testing.assert_array_equal(own.numpy(), store.masks[2])


def test_the_store_is_not_changed_by_what_is_done_to_an_item(store):
    before = np.array(store.images[3])
    image, mask = SliceDataset(store, np.array([3]))[0]
    image += 1
    mask += 1
    np.testing.assert_array_equal(store.images[3], before)


def pairs(data, order):
    return {int(data.rows[k]): tuple(part.numpy().copy() for part in data[k]) for k in order}


def test_augmented_items_follow_from_seed_epoch_and_row_alone(store):
    rows = np.array([11, 12, 13, 27])
    one = SliceDataset(store, rows, "structures4", make_augment("standard"), seed=5)
    forward = pairs(one, [0, 1, 2, 3])
    other = SliceDataset(store, rows[::-1].copy(), "structures4", make_augment("standard"), seed=5)
    for row, (image, mask) in pairs(other, [2, 0, 3, 1]).items():
        np.testing.assert_array_equal(image, forward[row][0])
        np.testing.assert_array_equal(mask, forward[row][1])
    one.set_epoch(1)
    assert any(not np.array_equal(image, forward[row][0]) for row, (image, _) in pairs(one, range(4)).items())
    one.set_epoch(0)
    for row, (image, _) in pairs(one, range(4)).items():
        np.testing.assert_array_equal(image, forward[row][0])
    seeded = SliceDataset(store, rows, "structures4", make_augment("standard"), seed=6)
    assert any(not np.array_equal(image, forward[row][0]) for row, (image, _) in pairs(seeded, range(4)).items())


def test_batches_and_single_items_are_the_same(store):
    data = SliceDataset(store, np.arange(6), "levels20", make_augment("light"), columns=16, seed=1)
    assert data[0][0].shape == (1, store.grid.rows, 16) and data[0][1].shape == (store.grid.rows, 16)
    for together, alone in zip(data.__getitems__([4, 0, 2]), (data[4], data[0], data[2]), strict=True):
        assert torch.equal(together[0], alone[0]) and torch.equal(together[1], alone[1])


def test_worker_processes_see_the_same(store):
    data = SliceDataset(store, np.arange(10, 18), "structures4", make_augment("standard"), seed=2)
    data.set_epoch(3)
    here = list(DataLoader(data, batch_size=4))
    there = list(DataLoader(data, batch_size=4, num_workers=2))
    for (image, mask), (image2, mask2) in zip(here, there, strict=True):
        assert torch.equal(image, image2) and torch.equal(mask, mask2)


def test_a_worker_is_sent_the_folder_not_the_slices(store):
    sent = pickle.dumps(SliceDataset(store, np.arange(4), "levels20", make_augment("standard")))
    assert len(sent) < 20_000
    again = pickle.loads(sent)
    assert torch.equal(again[0][0], SliceDataset(store, np.arange(4), "levels20", make_augment("standard"))[0][0])


def test_windows_hold_neighbours_and_repeat_the_ends():
    assert windows(3, 1).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    assert windows(3, 2, slice(2, 5)).tolist() == [[0, 1, 2, 2, 2]]
    assert windows(1, 1).tolist() == [[0, 0, 0]]
    assert windows(4, 0).tolist() == [[0], [1], [2], [3]]


def test_neighbours_come_from_the_same_series(store):
    found = store.windows(1)
    case, number = store.table["case"].to_numpy(), store.table["slice"].to_numpy()
    np.testing.assert_array_equal(found[:, 1], np.arange(len(store)))
    assert (case[found] == case[:, None]).all()
    last = store.table.groupby("case")["slice"].transform("max").to_numpy()
    np.testing.assert_array_equal(number[found[:, 0]], np.maximum(number - 1, 0))
    np.testing.assert_array_equal(number[found[:, 2]], np.minimum(number + 1, last))


def test_neighbours_are_channels_around_the_slice_whose_mask_it_is(store):
    row = 7
    plain = SliceDataset(store, np.array([row]), "structures4", neighbours=1)
    image, mask = plain[0]
    assert image.shape == (3, 32, 32) and mask.shape == (32, 32)
    np.testing.assert_allclose(image.numpy() * 255, store.images[store.windows(1)[row]], atol=1e-4)
    np.testing.assert_array_equal(mask, SliceDataset(store, np.array([row]), "structures4")[0][1])


@pytest.mark.parametrize("name", ["light", "field_of_view", "medfusion", "elastic"])  # "standard" adds noise, to each its own
@pytest.mark.parametrize("neighbours", [1, 2])
def test_all_channels_are_moved_alike(store, name, neighbours):
    """Neighbours that are copies of the slice must come out as copies; with every image different, as its own is moved."""
    same = SliceStore(store.folder, store._card, np.array(store.images), store.masks, store.table)
    row = int(np.flatnonzero((store.table["slice"] == 3).to_numpy())[0])
    same.images[same.windows(neighbours)[row]] = store.images[row]
    for seed in range(8):
        data = SliceDataset(
            same, np.array([row]), "structures4", make_augment(name), columns=16, seed=seed, neighbours=neighbours
        )
        alone = SliceDataset(same, np.array([row]), "structures4", make_augment(name), columns=16, seed=seed)
        image, mask = data[0]
        assert image.shape == (2 * neighbours + 1, 32, 16)
        np.testing.assert_array_equal(mask, alone[0][1])
        for channel in image[1:]:
            np.testing.assert_array_equal(channel, image[0])
        np.testing.assert_allclose(image[0], alone[0][0][0], atol=1.01 / 255)  # rounding differs with the number of channels


# --------------------------------------------------------------------------------------------------------------- PNG export


def test_exported_pictures_hold_images_label_values_and_colours(store, tmp_path):
    folder = export_png(store, tmp_path / "png", scheme="structures4")
    names = {p.name for p in (folder / "images").iterdir()}
    assert len(names) == 60 and names == {p.name for p in (folder / "masks").iterdir()}
    row = store.table.index[(store.table["case"] == "4_t2") & (store.table["slice"] == 2)][0]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "images" / "4_t2_slice2.png")), store.images[row])
    mask = np.asarray(Image.open(folder / "masks" / "4_t2_slice2.png"))
    np.testing.assert_array_equal(mask, convert(np.array(store.masks[row]), "spider", "structures4"))
    assert np.asarray(Image.open(folder / "colors" / "4_t2_slice2.png")).shape == (32, 32, 3)
    assert read_json(folder / "labels.json") == {"0": "background", "1": "vertebra", "2": "spinal canal", "3": "disc"}
    assert len(pd.read_csv(folder / "slices.csv")) == 60
    export_png(store, folder, color_masks=False)  # an older export is replaced
    assert sorted(p.name for p in folder.iterdir()) == ["images", "labels.json", "masks", "slices.csv"]


def test_an_export_into_a_folder_with_other_files_is_refused(store, tmp_path, unchanged):
    shutil.copytree(store.folder, tmp_path / "other")
    with unchanged(tmp_path), pytest.raises(DataError, match="other: holds other files"):
        export_png(store, tmp_path / "other")


@pytest.mark.parametrize("fails", [False, True])
def test_torch_has_its_threads_back_after_a_build(spider_root, tmp_path, monkeypatch, fails):
    seen, before, real = [], torch.get_num_threads(), slices._cut

    def cut(*args):
        seen.append(torch.get_num_threads())
        if fails:
            raise DataError("a.mha", "is damaged", "Fetch it again.")
        return real(*args)

    monkeypatch.setattr(slices, "_cut", cut)
    torch.set_num_threads(3)
    try:
        with contextlib.suppress(DataError):
            build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
        assert set(seen) == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
