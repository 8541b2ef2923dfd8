"""Unpack zip archives that come from elsewhere: every member is checked before the first byte is written."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, explain_write_error, remove_halves, require_free_space

MAX_MEMBERS = 200_000
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class UnpackRule:
    """Which members of an archive are wanted, where they go, and how large they may be.

    Attributes:
        members: pattern of the member's last path parts (``*.mha``, ``image*/*.png``; case does not matter) -> folder under the
            data root. Folders above the matched parts are dropped, so an archive with or without them unpacks alike.
        under: only members below a folder with this path are taken ("" takes all).
        expected_files: folder -> number of files that a complete archive brings.
        max_unpacked_bytes: refuse archives whose members add up to more.
        max_ratio: refuse archives that grow more than this many times (a zip bomb; deflate alone reaches 1032).
        max_members: refuse archives with more of them, wanted or not.
        rename: the file's name from the member's number in the archive and its whole path; None keeps the last part of the path.
        advice: what to do with an archive that is refused; ends the error message.
    """

    members: dict[str, str]
    under: str = ""
    expected_files: dict[str, int] | None = None
    max_unpacked_bytes: int = 50_000_000_000
    max_ratio: float = 100.0
    max_members: int = MAX_MEMBERS
    rename: Callable[[int, str], str] | None = None
    advice: str = "Do not use this archive: delete it and fetch the data again from the address in the manifest."


@dataclass(frozen=True)
class UnpackedFile:
    """A file that an archive brought: path relative to the data root, size in bytes, sha256 in hex."""

    path: str
    bytes: int
    sha256: str


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be unpacked, or None."""
    name = info.orig_filename  # zipfile cuts .filename at a NUL byte
    if "\0" in name:
        return "has a NUL byte in its name"
    if not name:
        return "has no name"
    if name.startswith(("/", "\\")) or PureWindowsPath(name).drive:
        return "has an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads out of the folder ('..')"
    # The upper half of external_attr is the Unix mode; 0 where the archive was made elsewhere.
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    return "is encrypted" if info.flag_bits & 0x1 else None


def _target(number: int, info: zipfile.ZipInfo, rule: UnpackRule) -> str | None:
    """Where a member goes, relative to the data root; None when it is not wanted."""
    member = PurePosixPath(info.filename.replace("\\", "/").lower())
    under = f"/{rule.under.strip('/').lower()}/" if rule.under.strip("/") else "/"
    # macOS puts a "._name" twin beside every file it packs; it holds no data.
    if info.is_dir() or "__macosx" in member.parts or member.name.startswith("._") or under not in f"/{member}":
        return None
    for pattern, folder in rule.members.items():
        if member.match(pattern.lower()):
            path = PurePosixPath(info.filename.replace("\\", "/"))
            return f"{folder}/{rule.rename(number, str(path)) if rule.rename else path.name}"
    return None


def plan_unpacking(archive: str | Path, rule: UnpackRule) -> dict[str, zipfile.ZipInfo]:
    """Check every member of a zip archive and list the wanted ones; nothing is written.

    Returns:
        Path relative to the data root -> member, in the archive's order.

    Raises:
        DataError: no zip archive or a damaged one; a member with an absolute path, "..", a link, encryption; two members for one
            path; more members, bytes or growth than allowed; no wanted member.
    """
    archive = Path(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(archive, f"is not a whole zip archive ({error})", "Delete it and fetch it again.") from error
    total, packed = sum(info.file_size for info in infos), max(1, archive.stat().st_size)
    if len(infos) > rule.max_members:
        raise DataError(archive, f"holds {len(infos)} members, more than the {rule.max_members} allowed", rule.advice)
    if total > rule.max_unpacked_bytes:
        limit = rule.max_unpacked_bytes / 1e9
        raise DataError(archive, f"would unpack to {total / 1e9:.1f} GB, more than the {limit:.1f} GB allowed", rule.advice)
    if total > rule.max_ratio * packed:
        raise DataError(
            archive,
            f"would grow {total / packed:.0f} times, more than the {rule.max_ratio:.0f} times allowed (zip bomb)",
            rule.advice,
        )
    plan: dict[str, zipfile.ZipInfo] = {}
    by_folded_name: dict[str, str] = {}
    for number, info in enumerate(infos):
        if problem := _unsafe(info):
            raise DataError(archive, f"its member {info.orig_filename!r} {problem}", rule.advice)
        target = _target(number, info, rule)
        if target is None:
            continue
        # Two names that differ only in case are one file on Windows and macOS.
        earlier = by_folded_name.setdefault(target.lower(), target)
        if earlier in plan and (plan[earlier].CRC, plan[earlier].file_size) != (info.CRC, info.file_size):
            raise DataError(archive, f"two different members would become '{target}'", rule.advice)
        plan.setdefault(earlier, info)
    if not plan:
        wanted = ", ".join(f"'{pattern}'" for pattern in rule.members)
        seen = sorted({str(PurePosixPath(info.filename).parent) for info in infos})
        raise DataError(
            archive,
            f"holds no file {wanted}" + (f" under '{rule.under}'" if rule.under else "") + f"; its folders are {seen[:8]}",
            rule.advice,
        )
    return plan


def unpack_zip(
    archive: str | Path,
    root: str | Path,
    rule: UnpackRule,
    known_sums: dict[str, str] | None = None,
) -> list[UnpackedFile]:
    """Unpack the wanted members of a zip archive into ``root``, file by file whole.

    Everything is unpacked into a folder beside the targets and checked there; only then are the files renamed into place.
    Other files that already lie in the target folders stay. One process at a time may unpack an archive into ``root``: what a
    killed one left is deleted.

    Args:
        archive: the zip file.
        root: the data root.
        rule: what to take, where it goes, and the limits.
        known_sums: path relative to ``root`` -> sha256; a listed file with other bytes stops the unpacking.

    Returns:
        One UnpackedFile a file.

    Raises:
        DataError: as plan_unpacking; too little free space; a member whose bytes do not fit its checksum; full or read-only disk.
            Nothing is left half written.
    """
    archive, root = Path(archive), Path(root)
    plan = plan_unpacking(archive, rule)
    needed = sum(info.file_size for info in plan.values())
    require_free_space(root, needed, f"unpacking {archive.name}")
    staging = root / f".unpacked-{archive.stem}"
    remove_halves(staging)
    written: list[UnpackedFile] = []
    with atomic_folder(staging) as folder, zipfile.ZipFile(archive) as opened:
        for target, info in plan.items():
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            digest = _unpack_member(opened, info, folder / target, archive)
            if (known_sums or {}).get(target, digest) != digest:
                raise DataError(
                    archive,
                    f"its member '{info.filename}' has sha256 {digest} but {known_sums[target]} is known",
                    "The published files have changed or the download is damaged: delete the archive and fetch again.",
                )
            written.append(UnpackedFile(target, info.file_size, digest))
    _move_into_place(staging, root, [file.path for file in written])
    return written


def _unpack_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, archive: Path) -> str:
    """Write one member and return its sha256. The sizes in the archive's directory are not trusted: bytes are counted."""
    digest, left = hashlib.sha256(), info.file_size
    damaged = "Delete the archive and fetch it again."
    with open(target, "wb") as out:
        for chunk in _chunks(opened, info, archive, damaged):
            left -= len(chunk)
            if left < 0:
                raise DataError(archive, f"its member '{info.filename}' is longer than its directory says", damaged)
            out.write(chunk)
            digest.update(chunk)
    if left:
        raise DataError(archive, f"its member '{info.filename}' lacks {left} bytes", damaged)
    return digest.hexdigest()


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path, fix: str) -> Iterator[bytes]:
    """The bytes of a member, a piece at a time. Raises DataError where they cannot be unpacked."""
    try:
        with opened.open(info) as member:
            while chunk := member.read(CHUNK_BYTES):
                yield chunk
    # zlib, bz2 (OSError) and lzma each have an error of their own; zipfile raises the others, by kind of damage.
    except (zipfile.BadZipFile, EOFError, LookupError, lzma.LZMAError, OSError, RuntimeError, ValueError, zlib.error) as error:
        raise DataError(archive, f"its member '{info.filename}' is damaged ({error})", fix) from error


def _move_into_place(staging: Path, root: Path, paths: list[str]) -> None:
    """Rename checked files from the staging folder to their places, and remove the folder."""
    try:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / path, root / path)
    except OSError as error:
        raise explain_write_error(error.filename2 or error.filename or root, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
