"""Zip archives, and what is called so: names that lead out, links, bombs, lies in the directory, tar files."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from random import Random

from spider_utils.data.archives import UnpackRule, unpack_zip
from tests.fuzz.checks import upload_call
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import ODD_TEXTS, spoil_bytes

_RULE = UnpackRule({"*.mha": "images", "mask*/*.png": "masks"}, max_unpacked_bytes=20_000_000, max_ratio=200, max_members=300)


def _names(random: Random, folder: Path) -> str:
    """A member's name: harmless, or such that it may lead elsewhere."""
    evil = (
        "../evil.mha", "images/../../evil.mha", "..\\..\\evil.mha", "/evil.mha", str(folder.parent / "evil.mha"), "C:/evil.mha",
        "C:evil.mha", "\\\\server\\share\\evil.mha", "./../evil.mha", "images/./1.mha", "a/b/../../../evil.mha", "....//evil.mha",
        ".mha", "..mha", "...mha", " .mha", "images/", "images.mha/", "a\0b.mha", "\0.mha", "con.mha", "nul", "a:b.mha",
        "~/evil.mha",
        "$HOME/evil.mha", "%2e%2e/evil.mha", "1_t1.mha.", "1_t1.MHA", "é.mha", "日本.mha", "\u202eahm.mha", "x" * 300 + ".mha",
        "d/" * 200 + "1.mha", "masks/1.png", "\x1b[31m.mha", "a\nb.mha", "-rf.mha", "*.mha", "?.mha", "", "/", ".", "..",
        ".unpacked-case/1.mha", "images/1.mha/2.mha", "images",
    )  # fmt: skip
    plain = (f"images/{random.randrange(9)}_t1.mha", f"{random.randrange(9)}_t2.mha", "masks/3.png", "readme.txt")
    return random.choice((*plain, *plain, *plain, random.choice(ODD_TEXTS)[:60_000] + ".mha") if random.random() < 0.75 else evil)


def whole(folder: Path) -> None:
    """Archives are made anew for every case."""


def _zip(random: Random, folder: Path) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of double names, which are wanted here
        for _ in range(random.choice((0, 1, 2, 3, 6))):
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = _names(random, folder)
            info.compress_type = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            if random.random() < 0.15:
                kind = random.choice((stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR, stat.S_IFREG))
                info.create_system, info.external_attr = 3, (kind | 0o777) << 16
            data = random.choice((b"", b"voxels", b"/etc/passwd", random.randbytes(300), b"\0" * 100_000))
            if random.random() < 0.02:
                data = b"\0" * 10_000_000
            archive.writestr(info, data)
        if random.random() < 0.03:
            for k in range(400):
                archive.writestr(f"images/{k}.mha", b"")
        if random.random() < 0.05:
            archive.comment = random.randbytes(random.choice((10, 60_000)))
    return stream.getvalue()


def _with_lies(random: Random, data: bytes) -> bytes:
    """Odd numbers in the local headers and the directory (PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16)."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 4))):
        mark, fields = random.choice(
            (
                (b"PK\3\4", ((4, "H"), (6, "H"), (8, "H"), (14, "I"), (18, "I"), (22, "I"), (26, "H"), (28, "H"))),
                (b"PK\1\2", ((6, "H"), (8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (32,
                "H"), (38, "I"), (42, "I"))),
                (b"PK\5\6", ((4, "H"), (6, "H"), (8, "H"), (10, "H"), (12, "I"), (16, "I"), (20, "H"))),
            )
        )  # fmt: skip
        starts = [k for k in range(len(changed)) if changed.startswith(mark, k)]
        if not starts:
            continue
        at, code = random.choice(fields)
        value = random.choice((0, 1, 2, 8, 9, 12, 14, 63, 64, 99, 255, 2**11, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1))
        start = random.choice(starts) + at
        if start + 4 <= len(changed):
            struct.pack_into(f"<{code}", changed, start, value & (0xFFFF if code == "H" else 0xFFFFFFFF))
    return bytes(changed)


def _tar(random: Random, folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=random.choice(("w", "w:gz", "w:bz2", "w:xz"))) as archive:
        for _ in range(3):
            info = tarfile.TarInfo(_names(random, folder).replace("\0", "") or "x")
            info.type = random.choice((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE))
            info.linkname = "/etc/passwd" if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = 6 if info.type == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"voxels"))
    return stream.getvalue()


def spoil(random: Random, folder: Path, whole: None) -> dict[str, Call]:
    """A hostile or damaged archive, unpacked into a data root and sent as an upload."""
    data = _tar(random, folder) if random.random() < 0.08 else _zip(random, folder)
    if random.random() < 0.3:
        data = _with_lies(random, data)
    if random.random() < 0.25:
        data = spoil_bytes(random, data)
    path = folder / "case.zip"
    path.write_bytes(data)

    def unpack(out: Path) -> None:
        try:
            for file in unpack_zip(path, out / "root", _RULE):
                there = out / "root" / file.path
                demand(there.is_file() and not there.is_symlink() and there.stat().st_size == file.bytes, f"{file} is not there")
                demand(there.resolve().is_relative_to((out / "root").resolve()), f"{file} lies outside")
        finally:
            demand({stray.name for stray in out.iterdir()} <= {"root"}, "something lies beside the target")

    return {"unpack_zip": unpack, "read_upload": upload_call("case.zip", data)}
