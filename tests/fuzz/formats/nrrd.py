"""NRRD with its voxels in the file."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.checks import SHAPE, volume_calls
from tests.fuzz.judge import Call
from tests.fuzz.mutators import spoil_bytes, spoil_fields

_ODD = {
    "type": ("block", "int128", "double", "float", "uint8", "signed char", "unsigned long long"),
    "dimension": ("0", "1", "2", "4", "16", "17", "-1", "99999999"),
    "sizes": ("0 0 0", "5 6", "-5 -6 -4", "99999 99999 99999", "2147483647 2147483647 1", "5 6 4 1", "1 1 120", "40000 40000 4"),
    "space": ("left-posterior-superior", "right-anterior-superior", "scanner-xyz", "nonsense", "3D-right-handed"),
    "space dimension": ("2", "0", "9"),
    "space directions": ("(0,0,0) (0,0,0) (0,0,0)", "none (1,0,0) (0,1,0)", "(nan,0,0) (0,1,0) (0,0,1)",
    "(1,0,0) (1,0,0) (0,0,1)", "(1e300,0,0) (0,1,0) (0,0,1)", "(1,0) (0,1)"),
    "space origin": ("(nan,0,0)", "(1,2)", "(1e308,1e308,1e308)", "none"),
    "kinds": ("domain domain vector", "list domain domain", "RGB-color domain domain", "complex domain domain"),
    "endian": ("big", "middle"),
    "encoding": ("gzip", "raw", "ascii", "hex", "bzip2", "zrl"),
    "data file": ("LIST", "missing.raw", "/dev/zero", "case.nrrd", "slice%03d.raw 1 99999 1", "SKIPLIST"),
    "byte skip": ("-1", "-2", "99999999999", "10"),
    "line skip": ("-1", "999999999", "3"),
}  # fmt: skip


def whole(folder: Path) -> list[tuple[list[tuple[str, str]], bytes]]:
    """Headers and voxels, plain and packed, of an image and a mask."""
    random, made = np.random.default_rng(0), []
    for kind, dtype, top in (("short", "<i2", 900), ("uchar", "u1", 4)):
        voxels = random.integers(0, top, SHAPE).astype(dtype).tobytes()
        for encoding, data in (("raw", voxels), ("gzip", gzip.compress(voxels, mtime=0))):
            fields = {
                "type": kind, "dimension": "3", "space": "left-posterior-superior", "sizes": " ".join(map(str, reversed(SHAPE))),
                "space directions": "(0,0.9,0) (0,0,-1.1) (-3.3,0,0)", "kinds": "domain domain domain", "endian": "little",
                "encoding": encoding, "space origin": "(-7.25,31.5,-120.125)",
            }  # fmt: skip
            made.append((list(fields.items()), data))
    return made


def spoil(random: Random, folder: Path, whole: list[tuple[list[tuple[str, str]], bytes]]) -> dict[str, Call]:
    """A header with odd fields, bytes changed anywhere, or both."""
    fields, voxels = random.choice(whole)
    if random.random() < 0.8:
        if random.random() < 0.2:
            name = random.choice(sorted(_ODD))
            fields = [*fields, (name, random.choice(_ODD[name]))]
        fields = spoil_fields(random, fields, _ODD)
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in fields) + "\n"
    data = header.encode("utf-8", "surrogatepass") + voxels
    if random.random() < 0.3:
        data = spoil_bytes(random, data)
    path = folder / "case.nrrd"
    path.write_bytes(data)
    return volume_calls(path, ".mha")
