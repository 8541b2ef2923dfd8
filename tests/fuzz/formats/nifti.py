"""NIfTI-1: .nii and .nii.gz."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np

from spider_utils.data.volumes import Volume, kit_direction, write_volume
from tests.fuzz.checks import SHAPE, volume_calls
from tests.fuzz.judge import Call
from tests.fuzz.mutators import spoil_bytes

# Field -> place, struct code and count (the NIfTI-1 standard, nifti1.h).
_FIELDS = {
    "sizeof_hdr": (0, "i", 1), "dim_info": (39, "b", 1), "dim": (40, "h", 8), "intent_code": (68, "h", 1),
    "datatype": (70, "h", 1),
    "bitpix": (72, "h", 1), "slice_start": (74, "h", 1), "pixdim": (76, "f", 8), "vox_offset": (108, "f", 1),
    "scl_slope": (112, "f", 1),
    "scl_inter": (116, "f", 1), "slice_end": (120, "h", 1), "slice_code": (122, "b", 1), "xyzt_units": (123, "b", 1),
    "cal_max": (124, "f", 1),
    "qform_code": (252, "h", 1), "sform_code": (254, "h", 1), "quatern": (256, "f", 3), "qoffset": (268, "f", 3),
    "srow": (280, "f", 12),
}  # fmt: skip
_MAGIC = 344
_SHORTS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 100, 128, 256, 512, 768, 1024, 1536, 1792, 2048, 2304, 32767, -32768, 30000)
_FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e38,
    -1e38,
    1e-38,
    352.0,
    353.0,
    0.5,
    1e9,
    348.0,
    2.0,
)


def whole(folder: Path) -> list[bytes]:
    """Unpacked files: 16-bit image, mask, float image."""
    random, made = np.random.default_rng(0), []
    for dtype, top in ((np.int16, 900), (np.uint8, 4), (np.float32, 900)):
        volume = Volume(random.integers(0, top, SHAPE).astype(dtype), (3.3, 1.1, 0.9), (-7.25, 31.5, -120.125), kit_direction())
        made.append(write_volume(volume, folder / f"{np.dtype(dtype)}.nii").read_bytes())
    return made


def spoil(random: Random, folder: Path, whole: list[bytes]) -> dict[str, Call]:
    """Fields of the header, the order of its bytes, its magic, any byte; of packed files the packing too."""
    data = bytearray(random.choice(whole))
    order = "<"
    if random.random() < 0.1:  # a file of the other endianness, its voxels as they were
        order = ">"
        for place, code, count in _FIELDS.values():
            data[place : place + struct.calcsize(code) * count] = struct.pack(
                f">{count}{code}", *struct.unpack_from(f"<{count}{code}", data, place)
            )
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        place, code, count = _FIELDS[random.choice(sorted(_FIELDS))]
        at = place + struct.calcsize(code) * random.randrange(count)
        if code == "f":
            struct.pack_into(f"{order}f", data, at, random.choice(_FLOATS))
        elif code == "b":
            struct.pack_into("b", data, at, random.randrange(-128, 128))
        else:
            struct.pack_into(
                f"{order}{code}", data, at, random.choice((*_SHORTS, *((348, 540, 2**31 - 1) if code == "i" else ())))
            )
    if random.random() < 0.05:
        data[_MAGIC : _MAGIC + 4] = random.choice((b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+1 "))
    if random.random() < 0.05:
        struct.pack_into(
            f"{order}8h", data, 40, 3, *random.choice(((30000, 30000, 30000), (32767, 1, 1), (0, 0, 0), (-5, -6, -4))), 1, 1, 1, 1
        )
    if random.random() < 0.06:  # a header extension that promises much
        data[348:352] = b"\1\0\0\0"
        data[352:352] = struct.pack("<ii", random.choice((16, 8, 0, -16, 2**31 - 1, 100)), 6)
    plain = bytes(data)
    if random.random() < 0.35:
        plain = spoil_bytes(random, plain)
    packed = random.random() < 0.6
    if not packed:
        file = plain
    elif random.random() < 0.04:
        file = gzip.compress(plain + b"\0" * 50_000_000, 1)
    else:
        file = gzip.compress(plain, 1, mtime=0)
        if random.random() < 0.3:
            file = spoil_bytes(random, file)
        elif random.random() < 0.05:
            file = random.choice((file + file, zlib.compress(plain), plain))
    path = folder / ("case.nii.gz" if packed else "case.nii")
    path.write_bytes(file)
    return volume_calls(path, random.choice((".mha", ".nii.gz", ".nii")))
