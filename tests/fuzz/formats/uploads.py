"""Uploads: hostile names, and bytes of every format under the suffix of every other."""

from __future__ import annotations

from pathlib import Path
from random import Random

from spider_utils.data.uploads import UPLOAD_SUFFIXES, safe_name
from tests.fuzz.checks import upload_call
from tests.fuzz.formats import dicom, metaimage, nifti, nrrd, pictures
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import JUNK, ODD_TEXTS, spoil_bytes

_OTHERS = {"dicom": dicom, "metaimage": metaimage, "nifti": nifti, "nrrd": nrrd, "pictures": pictures}
_NAMES = (
    "../../evil", "/etc/passwd", "C:\\Windows\\x", "..", ".", "", "con", "nul.txt", "a\0b", "x" * 5000, ".hidden", "-rf",
    "a b", "é", "日本",
    "\x1b[31m", "<img src=x onerror=alert(1)>", "a.nii.gz.zip", "a.zip.png", "$(id)", "`id`", "%00", "\ud800", "a\nb",
    "a;b", "..\\..\\x",
)  # fmt: skip


def whole(folder: Path) -> dict[str, object]:
    """What is whole of the other formats."""
    made = {}
    for name, module in _OTHERS.items():
        (folder / name).mkdir()
        made[name] = module.whole(folder / name)
    return made


def spoil(random: Random, folder: Path, whole: dict[str, object]) -> dict[str, Call]:
    """A file of some format, spoilt as there, under any name."""
    name = random.choice(sorted(_OTHERS))
    beside = folder / "made"
    beside.mkdir()
    _OTHERS[name].spoil(random, beside, whole[name])
    files = sorted(path for path in beside.rglob("*") if path.is_file())
    data = random.choice(files).read_bytes() if random.random() < 0.85 else spoil_bytes(random, random.choice(JUNK))
    called = random.choice((*_NAMES, random.choice(ODD_TEXTS), "scan", "scan")) + random.choice(
        (*UPLOAD_SUFFIXES, *UPLOAD_SUFFIXES, ".exe", ".MHA", "")
    )

    def harmless(out: Path) -> None:
        safe = safe_name(called)
        demand(
            safe.isascii() and safe.isprintable() and len(safe) < 120 and not set(safe) & set("/\\: ") and safe.strip(".") != "",
            safe,
        )

    return {"read_upload": upload_call(called, data), "safe_name": harmless}
