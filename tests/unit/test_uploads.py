"""Uploads: what is read, what each trick of a hostile file runs into, and that nothing stays on the disk."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spider_utils.data import volumes
from spider_utils.data.uploads import FOLDER_PREFIX, UploadLimits, read_upload, remove_abandoned, safe_name
from spider_utils.data.volumes import read_volume, write_volume
from spider_utils.errors import DataError

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """A folder for temporary files of its own, empty again after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir()), "an upload was left on the disk"


def upload(name: str, data: bytes, **limits: float):
    return read_upload(name, io.BytesIO(data), UploadLimits(**limits))


def zipped(members: list[tuple[str | zipfile.ZipInfo, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def png(width: int = 12, height: int = 16, claimed: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width)).save(stream, format="PNG")
    data = bytearray(stream.getvalue())
    if claimed:
        data[16:24] = struct.pack(">2I", *claimed)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.fixture(scope="module")
def mha(tmp_path_factory, made_volume) -> bytes:
    return write_volume(made_volume(), tmp_path_factory.mktemp("mha") / "a.mha").read_bytes()


@pytest.fixture(scope="module")
def nifti(tmp_path_factory, made_volume) -> bytes:
    return write_volume(made_volume(), tmp_path_factory.mktemp("nii") / "a.nii.gz").read_bytes()


@pytest.fixture(scope="module")
def dicom(tmp_path_factory, write_dicom):
    """make(number, step, cosines, series) -> the bytes of one slice."""

    def make(
        number: int, step: tuple = (3.0, 0.0, 0.0), cosines: tuple = SAGITTAL, series: str = "1.2.3", shape=(16, 12)
    ) -> bytes:
        pixels = np.full(shape, number, np.uint16)
        folder = tmp_path_factory.mktemp("dicom")
        position = tuple(number * np.array(step))
        return write_dicom(folder / "slice.dcm", pixels, position, cosines, (0.5, 0.5), series).read_bytes()

    return make


# --------------------------------------------------------------------------------------------------------- what is taken


@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz"])
def test_volumes_come_with_their_geometry(tmp_path, made_volume, suffix):
    path = write_volume(made_volume(), tmp_path / f"a{suffix}")
    taken = upload(f"My scan{suffix.upper()}", path.read_bytes())
    there = read_volume(path)
    (volume,) = taken.volumes.values()
    assert taken.name == f"My_scan{suffix}" and list(taken.volumes) == ["My_scan"] and not taken.left_out
    np.testing.assert_array_equal(volume.array, there.array)
    assert volume.stored == there.stored and volume.path == Path(taken.name)


def test_png_and_a_single_dicom_slice(dicom):
    (picture,) = upload("a.png", png()).volumes.values()
    assert picture.array.shape == (1, 16, 12)
    (one,) = upload("a.dcm", dicom(7)).volumes.values()
    assert one.array.shape == (1, 16, 12) and (one.array == 7).all() and one.spacing[1:] == (0.5, 0.5)


def test_zip_gives_a_volume_a_series_and_says_what_it_left_out(dicom):
    axial = [(f"study/axial/IM{k}", dicom(k, (0.0, 0.0, 4.0), AXIAL, "1.2.4")) for k in range(7)]
    sagittal = [(f"study/sagittal/IM{k}", dicom(k)) for k in (3, 0, 2, 1)]  # same names in another folder, in no order
    rest = [("study/readme.txt", b"hello"), ("DICOMDIR", dicom(0)[:200])]
    taken = upload("study.zip", zipped(axial + sagittal + rest))
    assert list(taken.volumes) == ["series: sagittal, 4 slices", "series: axial, 7 slices"]
    first = taken.volumes["series: sagittal, 4 slices"]
    assert first.array[:, 0, 0].tolist() in ([0, 1, 2, 3], [3, 2, 1, 0]) and first.spacing == (3.0, 0.5, 0.5)
    assert len(taken.left_out) == 1 and "DICOMDIR" in taken.left_out[0]


def test_series_that_look_alike_are_told_apart(dicom):
    members = [(f"{s}{k}", dicom(k, series=f"1.2.{s}")) for s in range(3) for k in range(2)]
    titles = list(upload("a.zip", zipped(members)).volumes)
    assert titles == [f"series: sagittal, 2 slices{more}" for more in ("", " (2)", " (3)")]


# --------------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("scan.mha", "scan.mha"),
        ("7_t2_SPACE.NII.GZ", "7_t2_SPACE.nii.gz"),
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\scans\\a b.png", "a_b.png"),
        ("/abs/olute.dcm", "olute.dcm"),
        ("..", "image"),
        ("", "image"),
        (".hidden.png", "hidden.png"),
        ("-rf.png", "rf.png"),
        ("a\0b\n.png", "a_b_.png"),
        ("con.png", "_con.png"),
        ("![x](http://e.example/).png", "_.png"),
        ("<script>.png", "_script_.png"),
        ("\u202egnp.exe.png", "_gnp.exe.png"),
        ("x" * 500 + ".png", "x" * 80 + ".png"),
    ],
)
def test_names_become_harmless(name, safe):
    assert safe_name(name) == safe


@given(st.text(max_size=300))
def test_any_name_becomes_one_harmless_file(name):
    safe = safe_name(name)
    assert 1 <= len(safe) <= 90 and set(safe) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert not safe.startswith((".", "-")) and Path(safe).name == safe and safe_name(safe) == safe


# ------------------------------------------------------------------------------------------------------------- hostile files


def special(kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a.dcm")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("scan.exe", b"MZ", r"scan\.exe: is of a format that is not taken"),
        ("scan", b"", "format that is not taken"),
        ("scan.nrrd", b"NRRD0004", "format that is not taken"),
        ("scan.png", b"", "is no .png file"),
        ("scan.png", b"\xff\xd8\xff\xe0 a JPEG", "is no .png file"),
        ("scan.png", png()[:60], "cannot be read as a picture"),
        ("scan.png", png(claimed=(60_000, 60_000)), "claims 3600000000 voxels, more than the 67 million allowed"),
        ("scan.dcm", png(), "the mark DICM is not at its place"),
        ("scan.mha", b"", "does not hold its own voxels"),
        ("scan.mha", b"NDims = 3\nElementDataFile = /etc/passwd\n", "does not hold its own voxels"),
        ("scan.mha", b"NDims = 3\nElementDataFile = ../other.raw\n", "does not hold its own voxels"),
        ("scan.mha", b"NDims = 3\nElementDataFile = LIST\n", "does not hold its own voxels"),
        ("scan.mha", b"Comment = ElementDataFile = LOCAL\nElementDataFile : /etc/passwd\n", "does not hold its own voxels"),
        ("scan.mha", b"nonsense\nElementDataFile = LOCAL\n", "its header is damaged or of another format"),
        ("scan.nii.gz", b"plain", "is no .nii.gz file"),
        ("scan.nii.gz", gzip.compress(b"nonsense" * 100), "its header is damaged"),
        ("a.zip", b"no archive", "is no .zip file"),
        ("a.zip", b"PK\3\4 no archive", "is not a whole zip archive"),
        ("a.zip", zipped([]), "holds no file"),
        ("a.zip", zipped([("readme.txt", b"hello")]), "holds no DICOM slice that can be read"),
        ("a.zip", zipped([("a.dcm", bytes(128) + b"DICM" + bytes(9))]), "holds no DICOM slice .* 00000_a.dcm: cannot be read"),
        ("a.zip", zipped([("../../evil.dcm", b"x")]), "leads out of the folder"),
        ("a.zip", zipped([("/etc/cron.d/evil", b"x")]), "has an absolute path"),
        ("a.zip", zipped([("C:\\evil.dcm", b"x")]), "has an absolute path"),
        ("a.zip", zipped([(special(stat.S_IFLNK), b"/etc/passwd")]), "is a link or a special file"),
        ("a.zip", zipped([(special(stat.S_IFIFO), b"")]), "is a link or a special file"),
        ("a.zip", zipped([("inner.zip", b"x")]), r"holds another archive \(inner.zip\)"),
        ("a.zip", zipped([("inner.tar.gz", b"x")]), "holds another archive"),
        ("a.zip", zipped([("IM1", zipped([("b.dcm", b"x")]))]), r"holds another archive \(00000_IM1\)"),
        ("a.zip", zipped([("a.dcm", bytes(3_000_000))], zipfile.ZIP_DEFLATED), r"would grow \d+ times.*zip bomb"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_in_one_clear_line(name, data, problem, temporary):
    with pytest.raises(DataError, match=problem) as caught:
        upload(name, data)
    message = str(caught.value)
    assert "\n" not in message and str(temporary) not in message and FOLDER_PREFIX not in message
    assert message.startswith(safe_name(name)) and caught.value.fix.startswith(
        ("Upload", "Export", "Fetch", "Delete", "The file")
    )


def test_sizes_are_counted_not_believed(mha, dicom):
    with pytest.raises(DataError, match="is larger than the 0 MB allowed"):
        upload("a.mha", mha, bytes=len(mha) - 1)
    assert upload("a.mha", mha, bytes=len(mha)).volumes
    three = zipped([(f"{k}.dcm", dicom(k)) for k in range(3)])
    with pytest.raises(DataError, match="holds 3 members, more than the 2 allowed"):
        upload("a.zip", three, members=2)
    with pytest.raises(DataError, match="would unpack to"):
        upload("a.zip", three, unpacked_bytes=1000)
    with pytest.raises(DataError, match="claims 576 voxels"):
        upload("a.zip", three, voxels=575)
    with pytest.raises(DataError, match="claims 2400 voxels"):
        upload("a.mha", mha, voxels=2399)


def test_a_directory_of_very_many_members_is_not_even_read(monkeypatch):
    data = zipped([(f"{k}", b"") for k in range(41)])
    monkeypatch.setattr("spider_utils.data.uploads.plan_unpacking", lambda *_: pytest.fail("the directory was read"))
    monkeypatch.setattr("spider_utils.data.uploads.CHUNK_BYTES", 50)  # marks that lie across two chunks count as well
    with pytest.raises(DataError, match="holds 41 members, more than the 20 allowed"):
        upload("a.zip", data, members=20)


def test_headers_that_promise_too_much_cost_nothing(mha, nifti):
    with pytest.raises(DataError, match="claims 1000000000 voxels"):
        upload("a.mha", mha.replace(b"DimSize = 20 24 5", b"DimSize = 1000 1000 1000"))
    head = bytearray(gzip.decompress(nifti))
    head[40:56] = struct.pack("<8h", 3, 1000, 1000, 1000, 1, 1, 1, 1)
    with pytest.raises(DataError, match="claims 1000000000 voxels"):
        upload("a.nii.gz", gzip.compress(bytes(head)))


def test_bombs_inside_compressed_images_are_not_unpacked(mha, nifti, monkeypatch):
    """A gigabyte of zeros behind an honest header: counting stops where the header's promise ends."""
    seen = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, *form):
            self.inner = real(*form)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def decompress(self, data, most):
            seen.append(len(found := self.inner.decompress(data, most)))
            return found

    head, mark, _ = mha.partition(b"ElementDataFile = LOCAL\n")
    zeros = zlib.compress(bytes(200_000_000), 9)
    bomb = re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = %d" % len(zeros), head) + mark + zeros
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(DataError, match="announces 4800 bytes of voxels but the file holds"):
        upload("a.mha", bomb)
    assert 0 < sum(seen) <= 2 << 20
    monkeypatch.undo()
    start = time.monotonic()
    with pytest.raises(DataError, match="announces 4800 bytes of voxels but the file holds"):
        upload("a.nii.gz", gzip.compress(gzip.decompress(nifti) + bytes(50_000_000)))
    assert time.monotonic() - start < 5


def test_a_dicom_header_cannot_hide_behind_another_suffix(dicom):
    """ITK chooses its decoder by what a file holds: a slice called .mha would reach it unchecked."""
    with pytest.raises(DataError, match="does not hold its own voxels"):
        upload("a.mha", dicom(1))


@pytest.mark.parametrize("name", ["a.mha", "a.nii.gz", "a.png", "a.dcm", "a.zip"])
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_bytes_give_volumes_or_one_error(name, seed, mha, nifti, dicom):
    whole = {"a.mha": mha, "a.nii.gz": nifti, "a.png": png(), "a.dcm": dicom(1)}
    whole["a.zip"] = zipped([("1.dcm", dicom(1)), ("2.dcm", dicom(2))])
    rng = np.random.default_rng(seed)
    data = bytearray(whole[name])
    for place in rng.integers(0, min(len(data), 600), rng.integers(1, 6)):
        data[place] = rng.integers(256)
    if rng.random() < 0.3:
        del data[int(rng.integers(len(data))) :]
    try:
        assert upload(name, bytes(data)).volumes
    except DataError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------------------------------------------------------- left-overs


def test_folders_of_killed_processes_go_and_others_stay(temporary):
    old, fresh, other = (temporary / name for name in (f"{FOLDER_PREFIX}old", f"{FOLDER_PREFIX}new", "somebody-else"))
    for folder in (old, fresh, other):
        folder.mkdir()
        (folder / "scan.mha").write_bytes(b"x")
    link = temporary / f"{FOLDER_PREFIX}link"
    link.symlink_to(other)
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    remove_abandoned()
    assert sorted(p.name for p in temporary.iterdir()) == sorted([fresh.name, other.name, link.name])
    link.unlink()
    for folder in (fresh, other):
        (folder / "scan.mha").unlink()
        folder.rmdir()


def test_the_folder_of_an_upload_is_its_owners_alone(mha, monkeypatch):
    modes = []
    real = volumes.find_seal  # looks at a file before anybody reads it, whoever inflates its voxels
    monkeypatch.setattr(volumes, "find_seal", lambda path: (modes.append(path.parent.stat().st_mode & 0o777), real(path))[1])
    upload("a.mha", mha)
    assert modes == [0o700]
