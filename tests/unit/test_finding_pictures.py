"""Pictures for classifiers: grey levels, crops in millimetres, flips that know left from right, splits by study."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spider_utils.data import finding_pictures as fp
from spider_utils.data.dicom_write import SliceGeometry, write_slice
from spider_utils.data.finding_pictures import FindingPictures, PictureSettings, PictureStore, build_picture_store
from spider_utils.data.rsna import open_rsna
from spider_utils.data.rsna_tables import CONDITIONS, POINT_TABLE, SEVERITY_TABLE
from spider_utils.data.splits import make_split
from spider_utils.errors import DataError
from tests.finding_studies import make_studies


def noise(shape=(40, 30), top=4096, seed=0):
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint16)


# ----------------------------------------------------------------------------------------------------------- grey levels


def test_eight_bits_are_equalised_as_by_opencv():
    for seed, top in ((0, 256), (1, 40), (2, 2)):
        image = (noise(top=top, seed=seed) ** 2 // top).astype(np.uint8)
        assert np.array_equal(fp.equalise_8_bit(image), cv2.equalizeHist(image))
    flat = np.full((4, 4), 9, np.uint8)
    assert np.array_equal(fp.equalise_8_bit(flat), cv2.equalizeHist(flat))


def test_the_printed_way_wraps_and_the_mended_one_does_not():
    ramp = np.tile(np.arange(0, 1024, 4, dtype=np.uint16), (8, 1))
    wrapped, mended = fp.equalise_wrapped(ramp), fp.equalise(ramp)
    assert np.array_equal(wrapped, cv2.equalizeHist(ramp.astype(np.uint8)))
    assert (np.diff(wrapped[0].astype(int)) < 0).sum() == 3, "white turns black at 256, 512 and 768"
    assert (np.diff(mended[0]) >= 0).all() and mended.min() == 0 and mended.max() == 1


@given(st.integers(0, 2**31), st.sampled_from([300, 4096, 65536]))
def test_order_of_brightness_is_kept_and_spread_evenly(seed, top):
    image = noise(top=top, seed=seed)
    found = fp.equalise(image)
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(found.reshape(-1)[order]) >= 0).all()
    assert 0.4 < found.mean() < 0.6 and found.dtype == np.float32


def test_a_blank_slice_stays_blank():
    assert not fp.equalise(np.full((5, 5), 700, np.uint16)).any()


# -------------------------------------------------------------------------------------------------------------- geometry


def test_resized_as_by_opencv():
    image = noise((31, 50)).astype(np.float32)
    expected = cv2.resize(image, (24, 24), interpolation=cv2.INTER_LINEAR)
    assert np.allclose(fp.resize(image, 24), expected, atol=0.05)


def test_crop_by_hand_with_unequal_pixels():
    """Pixels of 2 mm down and 1 mm across: 8 mm in 4 pixels takes every row and every second column."""
    image = np.zeros((20, 30), np.float32)
    image[10, 15] = 1
    rows, columns = np.mgrid[:20, :30]
    ramp = (100 * rows + columns).astype(np.float32)
    found = fp.crop(ramp, (2.0, 2.0), 15.5, 10.5, 8.0, 4)
    assert np.allclose(found, ramp[9:13, 14:18])
    found = fp.crop(ramp, (2.0, 1.0), 15.0, 10.0, 8.0, 4)  # columns 12, 14, 16, 18; rows 8.5 to 11.5
    assert np.allclose(found[:, 0], 100 * np.array([8.5, 9.5, 10.5, 11.5]) + 12, atol=1e-3)
    assert np.allclose(found[0], 850 + np.array([12, 14, 16, 18]), atol=1e-3)
    beyond = fp.crop(np.ones((20, 30), np.float32), (1.0, 1.0), 0.0, 0.0, 8.0, 8)
    assert beyond[:4].max() == 0 and beyond[4:, 4:].min() == 1, "nothing lies beyond the slice"


def test_mirrored_classes():
    assert fp.MIRRORED_CLASS == (2, 3, 0, 1, 4, 5)
    for k, name in enumerate(CONDITIONS):
        partner = CONDITIONS[fp.MIRRORED_CLASS[k]]
        assert partner == name.replace("left", "X").replace("right", "left").replace("X", "right")


def test_a_mirror_turns_axial_columns_and_leaves_sagittal_pictures_and_labels():
    image = np.arange(12).reshape(3, 4)
    turned, condition = fp.mirror(image, 1, axial=True)
    assert condition == 3 and np.array_equal(turned, image[:, ::-1])
    for given in range(6):
        same, condition = fp.mirror(image, given, axial=False)
        assert condition == given and np.array_equal(same, image), "left and right lie along the slices"
    back, condition = fp.mirror(*fp.mirror(image, 3, True), True)
    assert condition == 3 and np.array_equal(back, image)


def test_augmented_is_the_same_again_and_another_with_another_seed():
    image = noise(top=256).astype(np.float32)[:30] / 255
    assert np.array_equal(fp.augmented(image, 4), fp.augmented(image, 4))
    assert not np.allclose(fp.augmented(image, 4), fp.augmented(image, 5))
    assert fp.augmented(image, 4).min() >= 0 and fp.augmented(image, 4).max() <= 1


# ------------------------------------------------------------------------------------------------------- store and dataset

MENDED, PRINTED = PictureSettings(24, 48.0), PictureSettings(32, None, wrapped=True)


@pytest.fixture(scope="module")
def small_rsna(tmp_path_factory):
    return make_studies(tmp_path_factory.mktemp("rsna") / "set", 2)


@pytest.fixture(scope="module")
def store(small_rsna, tmp_path_factory):
    return build_picture_store(small_rsna, tmp_path_factory.mktemp("store") / "mended", MENDED)


def test_the_labelled_point_lies_in_the_middle(small_rsna, store):
    assert store.images.shape == (len(small_rsna.samples), 24, 24) and store.settings == MENDED
    row = small_rsna.samples.iloc[7]
    whole = fp.ndimage.gaussian_filter(fp.equalise(small_rsna.picture(row.path)), fp.DENOISE_PIXELS)
    expected = whole[round(row.y), round(row.x)]
    assert abs(store.images[7][11:13, 11:13].mean() / 255 - expected) < 0.2
    assert store.table["patient"].equals(store.table["study"]) and set(store.table["sex"]) <= {"F", "M", "O", ""}


def test_every_crop_is_centred_with_columns_rows_and_spacing_in_their_places(tmp_path):
    """Each slice has 3 x 3 bright pixels around column 21, row 8; its rows are 0.5 mm and its columns 1 mm apart.

    With x and y exchanged the spot lies off the middle; with the spacings exchanged it is stretched the other way.
    """
    rsna = make_studies(tmp_path / "set", 1)
    pixels = np.zeros((40, 30), np.uint16)
    pixels[7:10, 20:23] = 1000
    for path in map(Path, rsna.files["path"]):
        write_slice(
            path, pixels, SliceGeometry(np.zeros(3), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.5, 1.0), 4.0, 4.0), {}
        )
    points = pd.read_csv(rsna.root / POINT_TABLE).assign(x=21, y=8)
    points.to_csv(rsna.root / POINT_TABLE, index=False)
    rsna = open_rsna(rsna.root)
    found = build_picture_store(rsna, tmp_path / "store", PictureSettings(31, 15.5))
    assert len(found) == 25
    along = np.arange(31) - 15.0
    for image in found.images:
        weights = image.astype(float) - image.min()
        middle = [(weights.sum(axis=axis) * along).sum() / weights.sum() for axis in (1, 0)]
        width = [np.sqrt((weights.sum(axis=axis) * along**2).sum() / weights.sum()) for axis in (1, 0)]
        assert image[15, 15] == image.max() and np.allclose(middle, 0, atol=0.05), "the point is the middle"
        assert width[0] / width[1] == pytest.approx(0.5, abs=0.05), "half as high as wide, in mm"


def test_whole_slices_of_five_levels_are_one_picture(small_rsna, tmp_path):
    whole = build_picture_store(small_rsna, tmp_path / "printed", PRINTED)
    shared = whole.table.groupby("case").filter(lambda rows: len(rows) > 1)
    rows = shared[shared["case"] == shared["case"].iloc[0]].index
    assert all(np.array_equal(whole.images[rows[0]], whole.images[row]) for row in rows)
    assert whole.table.loc[rows, "misan_level"].nunique() > 1


def test_found_again_and_made_anew_with_other_settings(small_rsna, store, monkeypatch):
    monkeypatch.setattr(fp, "grey_levels", None)
    assert build_picture_store(small_rsna, store.folder, MENDED).fingerprint == store.fingerprint
    with pytest.raises(TypeError):
        build_picture_store(small_rsna, store.folder, PRINTED)
    assert PictureStore.open(store.folder).fingerprint == store.fingerprint, "a failed attempt leaves the old store"


def test_the_fingerprint_follows_pictures_and_labels_and_no_times(tmp_path):
    rsna = make_studies(tmp_path / "set", 1)
    first = build_picture_store(rsna, tmp_path / "store", MENDED).fingerprint
    for path in [*rsna.files["path"], rsna.root / POINT_TABLE]:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert build_picture_store(open_rsna(rsna.root), tmp_path / "store", MENDED).fingerprint == first, "a touch changes nothing"
    points = pd.read_csv(rsna.root / POINT_TABLE)
    points.assign(x=points["x"] + 2).to_csv(rsna.root / POINT_TABLE, index=False)
    moved = build_picture_store(open_rsna(rsna.root), tmp_path / "store", MENDED).fingerprint
    labels = pd.read_csv(rsna.root / SEVERITY_TABLE)
    labels.iloc[:, 1] = "Severe" if labels.iloc[0, 1] != "Severe" else "Moderate"
    labels.to_csv(rsna.root / SEVERITY_TABLE, index=False)
    relabelled = build_picture_store(open_rsna(rsna.root), tmp_path / "store", MENDED).fingerprint
    other = build_picture_store(open_rsna(rsna.root), tmp_path / "other", PictureSettings(24, 40.0)).fingerprint
    assert len({first, moved, relabelled, other}) == 4


def test_flips_carry_the_label_along(store):
    axial = np.flatnonzero((store.table["description"] == "Axial T2") & (store.table["misan_class"] < 4))
    if not len(axial):
        axial = np.flatnonzero(store.table["description"] == "Axial T2")
    plain = FindingPictures(store, axial, augment=True)
    mirrored = FindingPictures(store, axial, augment=True, flip="mirrored")
    printed = FindingPictures(store, axial, augment=True, flip="as_printed")
    turned = 0
    for k in range(len(axial)):
        (image,), truth = plain[k]
        (other,), swapped = mirrored[k]
        (third,), kept = printed[k]
        if not np.array_equal(image, other):
            turned += 1
            assert np.array_equal(image.flip(-1), other) and swapped[0] == fp.MIRRORED_CLASS[truth[0]]
            assert np.array_equal(other, third) and kept.tolist() == truth.tolist()
    assert 0 < turned < len(axial) or len(axial) < 4


def test_a_sagittal_picture_keeps_picture_and_side(store):
    sagittal = np.flatnonzero((store.table["description"] != "Axial T2") & (store.table["misan_class"] < 4))
    plain = FindingPictures(store, sagittal, augment=True)
    mirrored = FindingPictures(store, sagittal, augment=True, flip="mirrored")
    assert len(sagittal) > 8, "enough for flips that are drawn for half of the items"
    for k in range(len(sagittal)):
        assert np.array_equal(plain[k][0][0], mirrored[k][0][0]) and plain[k][1].tolist() == mirrored[k][1].tolist()


def test_items_follow_from_seed_epoch_and_sample(store):
    rows = np.arange(6)
    data = FindingPictures(store, rows, ("condition", "level", "severity"), augment=True, flip="mirrored", metadata=True, seed=3)
    (image, known), truth = data[2]
    assert image.shape == (1, 24, 24) and known.shape == (2,) and truth.shape == (3,)
    again, _ = data[2][0]
    data.set_epoch(1)
    later, _ = data[2][0]
    assert np.array_equal(image, again) and not np.array_equal(image, later)
    plain = FindingPictures(store, rows)
    assert np.array_equal(plain[2][0][0][0] * 255, store.images[2])


def test_metadata_of_what_is_not_known_is_zero():
    table = pd.DataFrame({"age": [70.0, np.nan, 30.0], "sex": ["F", "", "M"]})
    assert fp.metadata_of(table).tolist() == [[1.0, -1.0], [0.0, 0.0], [-1.0, 1.0]]


def test_splits_part_studies_and_the_leaky_one_does_not(store):
    many = pd.concat([store.table.assign(patient=k, case=f"{k}/" + store.table["case"]) for k in range(10)], ignore_index=True)
    many["slice"] = np.arange(len(many))
    by_study, by_image = make_split(many, "kfold5"), make_split(many, "leaky-kfold5")
    train, test = (set(many["patient"].iloc[by_study.rows(subset, many)]) for subset in ("train", "test"))
    assert not train & test
    train, test = (set(many["patient"].iloc[by_image.rows(subset, many)]) for subset in ("train", "test"))
    assert train & test


def test_a_point_outside_its_slice_is_named(tmp_path):
    rsna = make_studies(tmp_path / "set", 1)
    path = rsna.root / POINT_TABLE
    table = pd.read_csv(path)
    table.loc[3, "x"] = 500
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match="the point x 500"):
        build_picture_store(rsna, tmp_path / "store", MENDED)
    assert not (tmp_path / "store").exists()


def test_refusals(store, small_rsna, tmp_path):
    with pytest.raises(ValueError, match="flip must be one of"):
        FindingPictures(store, np.arange(2), flip="upside down")
    with pytest.raises(ValueError, match="unknown head"):
        FindingPictures(store, np.arange(2), heads=("colour",))
    with pytest.raises(DataError, match="no point with a severity"):
        build_picture_store(make_studies(tmp_path / "set", 1, points=0), tmp_path / "none", MENDED)
