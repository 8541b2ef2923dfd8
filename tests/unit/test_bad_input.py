"""Bad input, one kind after the other: one clear error that names the file and what to do, and nothing half written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data import sources, volumes
from spider_utils.data.slices import SliceStore, build_store, export_png
from spider_utils.data.sources import open_source
from spider_utils.data.volumes import read_mask, read_pair, read_volume, to_image, write_volume
from spider_utils.errors import DataError, KitError


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")


def image_of(root: Path) -> Path:
    return root / "images" / "3_t2.mha"


def mask_of(root: Path) -> Path:
    return root / "masks" / "3_t2.mha"


def truncated(root: Path) -> None:
    data = image_of(root).read_bytes()
    image_of(root).write_bytes(data[: len(data) * 2 // 3])


def truncated_uncompressed(root: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(image_of(root))), str(image_of(root)))
    truncated(root)


def header_says(root: Path, size: str) -> None:
    """The header of an uncompressed file rewritten, its voxels left as they are (20 x 24 x 5 of them)."""
    sitk.WriteImage(sitk.ReadImage(str(image_of(root))), str(image_of(root)))
    data = image_of(root).read_bytes()
    assert b"DimSize = 20 24 5\n" in data
    image_of(root).write_bytes(data.replace(b"DimSize = 20 24 5\n", f"DimSize = {size}\n".encode()))


def compressed_header_says(root: Path, size: str) -> None:
    data = image_of(root).read_bytes()
    image_of(root).write_bytes(data.replace(b"DimSize = 20 24 5\n", f"DimSize = {size}\n".encode()))


def nan_voxels(root: Path) -> None:
    volume = read_volume(image_of(root))
    array = volume.array.astype(np.float32)
    array[2, 3, 4], array[0, 0, 0] = np.nan, np.inf
    image = to_image(volume.with_array(array))
    sitk.WriteImage(image, str(image_of(root)))


def change_mask(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    mask = read_mask(mask_of(root))
    sitk.WriteImage(to_image(mask.with_array(change(mask.array))), str(mask_of(root)))


def move_mask(root: Path, change: Callable[[sitk.Image], sitk.Image]) -> None:
    sitk.WriteImage(change(sitk.ReadImage(str(mask_of(root)))), str(mask_of(root)))


def with_spacing(image: sitk.Image) -> sitk.Image:
    image.SetSpacing((1.0, 1.0, 1.0))
    return image


def with_origin(image: sitk.Image) -> sitk.Image:
    image.SetOrigin((0.0, 0.0, 0.0))
    return image


def a_folder_instead(root: Path) -> None:
    image_of(root).unlink()
    image_of(root).mkdir()


def text_instead(root: Path) -> None:
    image_of(root).write_text("<html>404 Not Found</html>")


BAD = {  # what is done to patient 3's T2 -> the file that the error names, what it says
    "truncated": (truncated, "images/3_t2.mha", "cut or damaged"),
    "truncated, not compressed": (truncated_uncompressed, "images/3_t2.mha", "announces 4800 bytes of voxels but the file holds"),
    "header too large": (lambda r: header_says(r, "20 24 6"), "images/3_t2.mha", "announces 5760 bytes .* holds 4800"),
    "header too small": (lambda r: header_says(r, "19 24 5"), "images/3_t2.mha", "announces 4560 bytes .* holds 4800"),
    "header lies, compressed": (lambda r: compressed_header_says(r, "24 24 5"), "images/3_t2.mha", "announces 5760"),
    "header is nonsense": (lambda r: header_says(r, "twenty"), "images/3_t2.mha", "cannot be read"),
    "not an image": (text_instead, "images/3_t2.mha", "cannot be read"),
    "empty file": (lambda r: image_of(r).write_bytes(b""), "images/3_t2.mha", "cannot be read"),
    "one byte": (lambda r: image_of(r).write_bytes(b"x"), "images/3_t2.mha", "its header is damaged or of another format"),
    "a folder": (a_folder_instead, "images/3_t2.mha", "no DICOM file was found in this folder"),
    "NaN voxels": (nan_voxels, "images/3_t2.mha", "2 voxels are NaN or infinite"),
    "empty mask": (lambda r: change_mask(r, np.zeros_like), "masks/3_t2.mha", "the mask is empty"),
    "unknown label": (
        lambda r: change_mask(r, lambda m: np.where(m == 100, 99, m).astype(np.uint8)),
        "masks/3_t2.mha",
        r"does not know: 99 \(48 px\)",
    ),
    "fractions in the mask": (
        lambda r: change_mask(r, lambda m: m.astype(np.float32) / 2),
        "masks/3_t2.mha",
        "must hold whole numbers",
    ),
    "negative mask": (lambda r: change_mask(r, lambda m: m.astype(np.int16) - 1), "masks/3_t2.mha", "values run from -1 to 202"),
    "mask of another size": (lambda r: move_mask(r, lambda m: m[:, :-1, :]), "masks/3_t2.mha", "differs from 3_t2.mha in size"),
    "mask of another spacing": (lambda r: move_mask(r, with_spacing), "masks/3_t2.mha", "in spacing"),
    "mask of another origin": (lambda r: move_mask(r, with_origin), "masks/3_t2.mha", "in origin"),
    "mask of another direction": (
        lambda r: move_mask(r, lambda m: sitk.DICOMOrient(m, "LPS")),
        "masks/3_t2.mha",
        r"direction \(PIR against LPS",
    ),
    "no mask": (lambda r: mask_of(r).unlink(), "images/3_t2.mha", "has no mask of the same name"),
    "no image": (lambda r: image_of(r).unlink(), "masks/3_t2.mha", "has no image of the same name"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_clear_error_and_nothing_half_written(spider_root, tmp_path, unchanged, kind, capfd):
    spoil, name, words = BAD[kind]
    spoil(spider_root)
    with unchanged(tmp_path), pytest.raises(DataError, match=words) as caught:
        build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    message = str(caught.value)
    assert message.startswith(str(spider_root / name)) and "\n" not in message and len(message) < 600
    assert message.endswith((".", "?")) and message.count(". ") >= 1  # the problem, then what to do
    assert capfd.readouterr().err == ""


def test_the_undamaged_root_passes(spider_root, tmp_path):
    """The same path through the code without anything spoilt, so that the test above cannot pass by accident."""
    assert len(build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))) == 60


def test_a_missing_file(tmp_path):
    for read in (read_volume, read_mask):
        with pytest.raises(DataError, match="nothing.mha: the file does not exist. Check the path"):
            read(tmp_path / "nothing.mha")
    with pytest.raises(DataError, match="nothing.nii.gz"):
        read_pair(tmp_path / "nothing.nii.gz", tmp_path / "nothing.nii.gz")


@pytest.mark.parametrize("suffix", [".mha", ".nii.gz", ".png"])
def test_a_file_that_may_not_be_read(spider_root, monkeypatch, suffix):
    """Permissions do not bind the superuser, who may run this test: the refusal is put in by hand."""
    path = spider_root / f"secret{suffix}"
    shutil.copy(image_of(spider_root), path)

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for name in ("find_seal", "check_whole", "read_picture"):
        monkeypatch.setattr(volumes, name, refused)
    with pytest.raises(DataError, match=f"secret{suffix}: cannot be read .*Permission denied") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def test_a_table_that_may_not_be_read(spider_root, monkeypatch):
    def refused(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(sources.pd, "read_csv", refused)
    with pytest.raises(DataError, match="overview.csv: cannot be read as CSV .*Permission denied"):
        _ = open_source("spider", spider_root).cases


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing(spider_root, tmp_path, monkeypatch, unchanged, number, made_volume):
    """Full, read-only, not permitted: every way of writing ends in one line, and what was there stays."""
    source = open_source("spider", spider_root)
    store = build_store(source, tmp_path / "store", (32, 32))
    write_volume(made_volume(), tmp_path / "old.mha")

    def refused(self, *args, **kwargs):
        raise OSError(number, "refused", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    for write, name in (
        (lambda: write_volume(made_volume(seed=1), tmp_path / "old.mha"), "old.mha"),
        (lambda: build_store(source, tmp_path / "store", (64, 64)), "store"),
        (lambda: build_store(source, tmp_path / "new", (64, 64)), "new"),
        (lambda: export_png(store, tmp_path / "png"), "png"),
    ):
        with unchanged(tmp_path), pytest.raises(DataError, match=r"disk is full|read-only|permission denied") as caught:
            write()
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    assert SliceStore.open(tmp_path / "store").fingerprint == store.fingerprint


def test_a_disk_that_runs_full_half_way(spider_root, tmp_path, full_disk, unchanged):
    store = build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    with unchanged(tmp_path), pytest.raises(DataError, match="store"), full_disk(30_000):
        build_store(open_source("spider", spider_root), tmp_path / "store", (64, 64))
    with unchanged(tmp_path), pytest.raises(DataError, match="png"), full_disk(600):
        export_png(store, tmp_path / "png")


def test_too_little_space_is_said_before_the_work_starts(spider_root, tmp_path, monkeypatch):
    monkeypatch.setattr("spider_utils.files.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(KitError, match="the slice store needs 0.0 GB but only 0.0 GB are free"):
        build_store(open_source("spider", spider_root), tmp_path / "store", (32, 32))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["root"]


def test_broken_pictures_wherever_they_are_cut(released_root):
    path = released_root / "images" / "5_t2_SPACE_slice50.png"
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match="slice50.png: cannot be read as a picture") as caught:
            open_source("spider-2d", released_root).load("5_t2_SPACE")
        assert "\n" not in str(caught.value)
    for position in range(20, 60):
        spoiled = bytearray(whole)
        spoiled[position] ^= 0xFF
        path.write_bytes(spoiled)
        with pytest.raises(DataError, match="slice50.png"):
            open_source("spider-2d", released_root).load("5_t2_SPACE")
