"""Files that come through a web page: named, sized and checked before any reader sees them.

Nothing of an upload is trusted: not its name, not its suffix, not what its header promises. A file lies on the disk, in a folder
that only its owner can open, for as long as it takes to read it; volumes are then in memory and the folder is gone.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from spider_utils.data.archives import CHUNK_BYTES, UnpackRule, plan_unpacking, unpack_zip
from spider_utils.data.dicom import (
    DicomSlice,
    block_image,
    has_dicom_mark,
    read_header,
    sort_into_blocks,
)
from spider_utils.data.dicom_header import read_dicom_header
from spider_utils.data.volume_headers import find_voxels
from spider_utils.data.volumes import Volume, from_image, read_volume, stem_of, suffix_of
from spider_utils.errors import DataError

UPLOAD_SUFFIXES = (".png", ".mha", ".nii", ".nii.gz", ".dcm", ".zip")
FOLDER_PREFIX = "spider-kit-upload-"

_MARKS = {".png": b"\x89PNG\r\n\x1a\n", ".nii.gz": b"\x1f\x8b", ".zip": b"PK"}  # what files of a format begin with
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_LONGEST_NAME = 80
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # no file can be called so on Windows
_ABANDONED_AFTER_S = 3600  # reading takes seconds: such a folder's process was killed
_METAIMAGE_HEADER_BYTES = 1 << 20
_SERIES_DESCRIPTION = 0x0008103E
_NO_ARCHIVE = "Upload a zip that holds nothing but one patient's DICOM files, or a single image."
_EXPORT = "Export the image again, or upload another one."


@dataclass(frozen=True)
class UploadLimits:
    """How much is taken.

    Attributes:
        bytes: of the file as it is sent.
        unpacked_bytes, members, ratio: of a zip: what its members add up to, how many they are, how many times it may grow.
        voxels: of all images in it together; a T2_SPACE series of SPIDER has 40 million.
    """

    bytes: int = 200_000_000
    unpacked_bytes: int = 1_000_000_000
    members: int = 5_000
    ratio: float = 100.0
    voxels: int = 2**26


LIMITS = UploadLimits()


@dataclass(frozen=True)
class Upload:
    """What an uploaded file holds.

    Attributes:
        name: the file's name, harmless (see ``safe_name``).
        volumes: what it is called -> image. A zip may hold several series, and a series several blocks of parallel slices: the
            sagittal ones come first, those of most slices before others.
        left_out: what of a zip was not taken and why, a line each.
    """

    name: str
    volumes: dict[str, Volume]
    left_out: tuple[str, ...] = ()


def safe_name(name: str) -> str:
    """A name that is one file in any folder on any system, and plain text on any page: ASCII letters, digits, ".", "_", "-".

    Folders in front are dropped, every other character becomes "_", the suffix comes in lower case.
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".-")
    suffix = suffix_of(plain) if suffix_of(plain) in UPLOAD_SUFFIXES else ""
    stem = plain[: len(plain) - len(suffix)][:_LONGEST_NAME].rstrip(".") or "image"
    return ("_" if _DEVICES.match(stem) else "") + stem + suffix


def read_upload(name: str, data: BinaryIO, limits: UploadLimits = LIMITS) -> Upload:
    """Read an uploaded image, and leave nothing on the disk.

    Args:
        name: as the sender calls it; any text.
        data: the bytes, from where the stream stands.
        limits: how much is taken.

    Returns:
        Upload. The path of each volume is the upload's own harmless name.

    Raises:
        DataError: a format that is not taken; larger than allowed, packed or unpacked; no image of its suffix's format; a zip
            with unsafe names, links, archives within, or without DICOM; whatever volumes.read_volume refuses. The message names
            the upload, never a folder of this machine.
    """
    called = safe_name(name)
    suffix = suffix_of(called)
    if suffix not in UPLOAD_SUFFIXES:
        raise DataError(called, "is of a format that is not taken", f"Upload one of {', '.join(UPLOAD_SUFFIXES)}.")
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as made:
        folder = Path(made)
        path = folder / called
        try:
            _store(data, path, limits)
            if suffix == ".zip":
                volumes, left_out = _read_zip(path, limits)
            else:
                volumes, left_out = {stem_of(called): _read_single(path, suffix, limits)}, []
        except DataError as error:
            inside = error.path.relative_to(folder) if error.path.is_relative_to(folder) else error.path
            shown = inside if str(inside) == called else f"{called}, {inside.name}"
            raise DataError(shown, error.problem.replace(made, ""), error.fix) from error
    return Upload(called, {title: replace(v, path=Path(called)) for title, v in volumes.items()}, tuple(left_out))


def remove_abandoned() -> None:
    """Delete folders of uploads that killed processes of this user left behind: they hold somebody's images."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        try:
            state = folder.lstat()
        except OSError:  # another process was faster
            continue
        owned = not hasattr(os, "getuid") or state.st_uid == os.getuid()
        if owned and time.time() - state.st_mtime > _ABANDONED_AFTER_S and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _store(data: BinaryIO, path: Path, limits: UploadLimits) -> None:
    """Write the bytes, counted: a sender may announce fewer."""
    left = limits.bytes
    with open(path, "wb") as file:
        while chunk := data.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                most = f"{limits.bytes / 1e6:.0f} MB"
                raise DataError(path, f"is larger than the {most} allowed", "Upload one series, or use spider-kit predict.")
            file.write(chunk)


# ------------------------------------------------------------------------------------------------------------ single images


def _read_single(path: Path, suffix: str, limits: UploadLimits) -> Volume:
    with open(path, "rb") as file:
        head = file.read(_METAIMAGE_HEADER_BYTES if suffix == ".mha" else 32)
    if not head.startswith(_MARKS.get(suffix, b"")):
        raise DataError(path, f"is no {suffix} file: it begins with other bytes", _EXPORT)
    if suffix == ".mha":
        # A MetaImage may name another file, any of this machine, to take its voxels from.
        places = re.findall(rb"ElementDataFile\s*[=:]\s*([^\r\n]*)", head)
        if head.count(b"ElementDataFile") != 1 or [place.strip().upper() for place in places] != [b"LOCAL"]:
            raise DataError(path, "does not hold its own voxels (ElementDataFile must be LOCAL, once)", _EXPORT)
    if suffix == ".dcm":
        rows, columns = read_dicom_header(path).shape
        voxels = rows * columns
    else:
        voxels = _png_pixels(head) if suffix == ".png" else find_voxels(path).voxels
    _check_voxels(path, voxels, limits)
    volume = read_volume(path)
    if volume.array.size == 0:
        raise DataError(path, "holds no voxel", _EXPORT)
    return volume


def _png_pixels(head: bytes) -> int:
    """Width times height in the first chunk (PNG specification, section 11.2.2)."""
    return int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")


def _check_voxels(path: Path, voxels: int, limits: UploadLimits) -> None:
    if voxels > limits.voxels:
        most = f"{limits.voxels / 1e6:.0f} million"
        raise DataError(path, f"claims {voxels} voxels, more than the {most} allowed", "Upload one series of one patient.")


# --------------------------------------------------------------------------------------------------------------- zip of DICOM


def _read_zip(path: Path, limits: UploadLimits) -> tuple[dict[str, Volume], list[str]]:
    rule = UnpackRule(
        {"*": "files"},
        max_unpacked_bytes=limits.unpacked_bytes,
        max_ratio=limits.ratio,
        max_members=limits.members,
        rename=lambda number, member: f"{number:05d}_{safe_name(member)}",
        advice=_NO_ARCHIVE,
    )
    with open(path, "rb") as file:
        if file.read(2) != _MARKS[".zip"]:
            raise DataError(path, "is no .zip file: it begins with other bytes", _EXPORT)
    _check_directory(path, limits)
    for info in plan_unpacking(path, rule).values():
        if PurePosixPath(info.filename.lower()).suffix in _ARCHIVES:
            raise DataError(path, f"holds another archive ({safe_name(info.filename)})", _NO_ARCHIVE)
    root = path.parent / "unpacked"
    files = [root / file.path for file in unpack_zip(path, root, rule)]
    if packed := next((file for file in files if zipfile.is_zipfile(file)), None):
        raise DataError(path, f"holds another archive ({packed.name})", _NO_ARCHIVE)
    slices, left_out = _headers(path, files)
    blocks = [block for one in _by_series(slices) for block in sort_into_blocks(one)]
    _check_voxels(path, sum(one.shape[0] * one.shape[1] for one in slices), limits)
    return _volumes(path, blocks, left_out), left_out


def _check_directory(path: Path, limits: UploadLimits) -> None:
    """Refuse a directory of millions of entries before it is read: each takes ten times its size in memory."""
    entries, tail = 0, b""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            entries += (tail + chunk).count(_DIRECTORY_ENTRY)
            tail = chunk[1 - len(_DIRECTORY_ENTRY) :]
    if entries > 2 * limits.members:  # an uncompressed archive within may show some of its own
        raise DataError(path, f"holds {entries} members, more than the {limits.members} allowed", _NO_ARCHIVE)


def _headers(path: Path, files: list[Path]) -> tuple[list[DicomSlice], list[str]]:
    """Headers of the slices among the files, and why others are none: reports, directories, notes lie beside images."""
    slices, left_out = [], []
    for file in files:
        try:
            if has_dicom_mark(file):
                slices.append(read_header(file))
        except DataError as error:
            left_out.append(f"{file.name}: {error.problem}")
    if not slices:
        reason = f"; {left_out[0]}" if left_out else ""
        raise DataError(path, f"holds no DICOM slice that can be read{reason}", _NO_ARCHIVE)
    return slices, left_out


def _by_series(slices: list[DicomSlice]) -> Iterator[list[DicomSlice]]:
    for series in dict.fromkeys(one.series for one in slices):
        yield [one for one in slices if one.series == series]


def _volumes(path: Path, blocks: list[list[DicomSlice]], left_out: list[str]) -> dict[str, Volume]:
    """Blocks as volumes by title; what cannot be decoded goes to ``left_out``."""
    found: list[tuple[str, Volume]] = []
    for block in blocks:
        try:
            volume = from_image(block_image(block), path)
        except DataError as error:
            left_out.append(f"{error.path.name}: {error.problem}")
            continue
        found.append((_description(block[0]), volume))
    if not found:
        raise DataError(path, f"holds no slice that can be decoded; {left_out[-1]}", _NO_ARCHIVE)
    found.sort(key=lambda item: (item[1].acquired_plane != "sagittal", -max(item[1].stored.size[2], 1)))
    titles: dict[str, Volume] = {}
    for description, volume in found:
        count = volume.stored.size[2]
        plane = "" if volume.acquired_plane == "undecided" else f"{volume.acquired_plane}, "
        title = f"{description}: {plane}{count} slice{'' if count == 1 else 's'}"
        same = sum(other == title or other.startswith(f"{title} (") for other in titles)
        titles[f"{title} ({same + 1})" if same else title] = volume
    return titles


def _description(one: DicomSlice) -> str:
    """What the scanner's operator called the series, in plain characters."""
    text = read_dicom_header(one.path).text(_SERIES_DESCRIPTION)
    return " ".join(re.sub(r"[^A-Za-z0-9 ._+-]", " ", text).split())[:40] or "series"
