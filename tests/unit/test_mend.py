"""Lines of "canal" around discs, as interpolated masks have them, and copies of released slices without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spider_utils.data import mend
from spider_utils.data.mend import MENDED_FILE, disc_lines, mend_lines, mended_key, mended_series, write_mended
from spider_utils.data.phantom import generate_dataset
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError, KitError
from spider_utils.files import read_json_object, sha256_of


def resized_as_amounts(labels: np.ndarray, factor: int) -> np.ndarray:
    """A mask of ``structures4`` (rows, columns) whose SPIDER values were enlarged like a picture, and told by ranges after."""
    values = np.array([0, 3, 100, 203], np.float32)[labels]
    big = Image.fromarray(values).resize((factor * labels.shape[1], factor * labels.shape[0]), Image.Resampling.BILINEAR)
    return np.digitize(np.asarray(big), [1.5, 50.0, 150.0]).astype(np.uint8)


def test_enlarging_values_like_a_picture_lines_discs_with_canal_and_mending_takes_it_away() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[4:36, 28:34], labels[10:14, 6:20] = 2, 3
    resized = resized_as_amounts(labels, 2)[None]
    nearest = labels.repeat(2, axis=0).repeat(2, axis=1)[None]
    lines = disc_lines(resized)
    assert lines.max() == 1 and lines[resized == 3].max() == 0
    mended = mend_lines(resized)
    assert mended.dtype == np.uint8 and (mended == 2)[:, :, :50].sum() == 0 < (resized == 2)[:, :, :50].sum()
    assert np.array_equal((mended == 2)[:, :, 50:], (resized == 2)[:, :, 50:]), "the canal itself stays"
    assert np.array_equal(mended == 3, resized == 3) and np.array_equal(mend_lines(nearest), nearest)


def test_what_is_a_line() -> None:
    truth = np.zeros((2, 30, 30), np.uint8)
    truth[:, 10:14, 4:12] = 3
    truth[0, 8:10, 4:12] = 2  # two pixels thick, on the disc
    truth[0, 14, 12] = 2  # at its corner
    truth[0, 20, 4:12] = 2  # beside nothing
    truth[1, 7:10, 4:7] = 2  # three thick
    truth[1, 9, 12] = 2  # in the next slice, at the disc's other corner
    lines = disc_lines(truth)
    assert np.unique(lines).tolist() == [0, 1, 2, 3]
    wanted = np.zeros(truth.shape, bool)
    wanted[0, 8:10, 4:12] = wanted[0, 14, 12] = wanted[1, 9, 12] = True
    np.testing.assert_array_equal(lines > 0, wanted)


def test_a_mask_without_canal_or_discs_has_no_lines() -> None:
    for value in (0, 1, 2, 3):
        assert not disc_lines(np.full((1, 5, 5), value, np.uint8)).any()


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """Two released slices of patient 7, the first of them with a line, and native sizes."""
    root = tmp_path / "released"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in (1, 2):
        mask = np.zeros((40, 32), np.uint8)
        mask[4:36, 22:28], mask[10:14, 4:12], mask[20:30, 4:12] = 150, 29, 76
        if number == 1:
            mask[9, 4:10] = 150
        name = f"7_t2_SPACE_slice{number}.png"
        Image.fromarray(np.full((40, 32), 10 * number, np.uint8)).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    (root / "cases.csv").write_text("patient,native_width,native_height\n7,32,60\n", encoding="utf-8")
    return root


def test_a_mended_copy_is_read_like_any_other_and_says_what_went(released, tmp_path):
    source = open_source("spider-2d", released)
    (released / "images" / ".left").write_bytes(b"")
    copy = open_source("spider-2d", write_mended(source, tmp_path / "mended"))
    given, mended = source.load("7_t2_SPACE"), copy.load("7_t2_SPACE")
    assert np.array_equal(given.image.array, mended.image.array) and given.mask.spacing == mended.mask.spacing
    np.testing.assert_array_equal(mended.mask.array, mend_lines(given.mask.array))
    assert np.count_nonzero(given.mask.array != mended.mask.array) == 6
    (series,) = mended_series(tmp_path / "mended").values()
    assert (series.pieces, series.pixels) == (1, 6)
    path = "masks/7_t2_SPACE_slice1.png"
    assert series.sha256 == {path: sha256_of(tmp_path / "mended" / path)}, "the other mask is a copy"
    assert read_json_object(tmp_path / "mended" / MENDED_FILE)["key"] == mended_key(source)
    assert not list((tmp_path / "mended" / "images").glob(".*"))


def test_a_copy_replaces_no_other_folder_and_is_made_of_released_slices_alone(released, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds other files \(no mended.json\)"):
        write_mended(open_source("spider-2d", released), tmp_path / "mine")
    generate_dataset(tmp_path / "phantom", 4, 0, size="small")
    with pytest.raises(KitError, match="only masks of spider-2d are mended, not of 'phantom'"):
        write_mended(open_source("phantom", tmp_path / "phantom"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (released / "masks" / "7_t2_SPACE_slice2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="slice2.png"):
        write_mended(open_source("spider-2d", released), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_copy_is_not_mended_again_and_keeps_its_record(released, tmp_path):
    copy = write_mended(open_source("spider-2d", released), tmp_path / "mended")
    before = (copy / MENDED_FILE).read_bytes()
    for out in (copy, tmp_path / "again"):
        with pytest.raises(DataError, match=r"is a mended copy \(mended.json lies in it\). Use it as it is."):
            write_mended(open_source("spider-2d", copy), out)
    assert (copy / MENDED_FILE).read_bytes() == before and not (tmp_path / "again").exists()


def test_another_rule_is_another_key(released, monkeypatch):
    source = open_source("spider-2d", released)
    before = mended_key(source)
    monkeypatch.setattr(mend, "_VERSION", mend._VERSION + 1)
    assert mended_key(source) != before


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"canal_made_background": 7}', '{"canal_made_background": {"a": {"pieces": 1}}}', "{}"]
)
def test_a_record_that_says_nothing_is_refused(tmp_path, text):
    assert mended_series(tmp_path) == {}
    (tmp_path / MENDED_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="mended.json"):
        mended_series(tmp_path)
