"""MetaImage: .mha, and .mhd with its voxels in a file beside it."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.checks import SHAPE, volume_calls
from tests.fuzz.judge import Call
from tests.fuzz.mutators import spoil_bytes, spoil_fields

_SIZES = (
    "0 0 0", "5 6", "5 6 4 1", "5 6 4 2", "-5 -6 -4", "99999 99999 99999", "2147483647 2147483647 2147483647", "5 6 0", "1 1 120",
    "120", "4294967301 6 4", "5 6 4 1 1 1 1 1", "5.5 6 4", "65536 65536 1", "40000 40000 4",
)  # fmt: skip
_TYPES = (
    "MET_FOO",
    "MET_LONG",
    "MET_STRING",
    "MET_NONE",
    "MET_DOUBLE",
    "MET_FLOAT",
    "MET_CHAR",
    "MET_ULONG_LONG",
    "MET_UCHAR_ARRAY",
    "MET_OTHER",
)
_ODD = {
    "ObjectType": ("Mesh", "Tube", "Scene", "Transform"),
    "NDims": ("0", "1", "2", "4", "10", "11", "-1", "99999", "2147483647"),
    "DimSize": _SIZES,
    "ElementSpacing": ("0 0 0", "-1 -1 -1", "nan nan nan", "inf 1 1", "1 1", "1e-300 1 1", "1e300 1e300 1e300", "0 1 1",
    "-0.9 1.1 3.3"),
    "ElementSize": ("0 0 0", "nan nan nan", "-1 1 1"),
    "TransformMatrix": (
        "0 0 0 0 0 0 0 0 0", "nan nan nan nan nan nan nan nan nan", "1 1 1 1 1 1 1 1 1", "2 0 0 0 2 0 0 0 2",
        "1 0 0 0 1 0 0 0 -1",
        "1 0 0 0 1 0", "1 0 0 0 1 0 0 0 inf", "0.7 0.7 0 -0.7 0.7 0 0 0 1", "1 0 0 0 1 0 0 0 1 0 0 0",
    ),
    "Offset": ("nan 0 0", "inf 0 0", "1e308 1e308 1e308", "0 0"),
    "ElementType": _TYPES,
    "ElementNumberOfChannels": ("0", "-1", "2", "3", "1000000000"),
    "BinaryData": ("False", "maybe"),
    "BinaryDataByteOrderMSB": ("True",),
    "ElementByteOrderMSB": ("True",),
    "CompressedData": ("True", "False"),
    "CompressedDataSize": ("0", "-1", "999999999999", "1"),
    "HeaderSize": ("-1", "-2", "0", "999999999", "10"),
    "ElementDataFile": ("LIST", "LIST 2", "LOCAL x", "missing.raw", "/dev/zero", "/proc/self/mem",
    "slice%03d.raw 1 99999 1", "%s%s%n.raw", ".", "..", "case.mha"),
    "AnatomicalOrientation": ("XYZ", "RAI", "R", "RRR"),
    "Modality": ("MET_MOD_FOO",),
    "CenterOfRotation": ("nan nan nan",),
}  # fmt: skip


def _fields(kind: str, **more: str) -> list[tuple[str, str]]:
    fields = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
        "TransformMatrix": "0 1 0 0 0 -1 -1 0 0", "Offset": "-7.25 31.5 -120.125", "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "PIR", "ElementSpacing": "0.9 1.1 3.3", "ElementNumberOfChannels": "1",
        "DimSize": " ".join(map(str, reversed(SHAPE))), "ElementType": kind,
    }  # fmt: skip
    return list((fields | more).items())


def whole(folder: Path) -> list[tuple[list[tuple[str, str]], bytes]]:
    """Headers and voxels: 16-bit image, mask, float image; plain and compressed."""
    random, made = np.random.default_rng(0), []
    for kind, dtype, top in (("MET_SHORT", "<i2", 900), ("MET_UCHAR", "u1", 4), ("MET_FLOAT", "<f4", 900)):
        voxels = random.integers(0, top, SHAPE).astype(dtype).tobytes()
        packed = zlib.compress(voxels)
        made.append((_fields(kind), voxels))
        made.append((_fields(kind, CompressedData="True", CompressedDataSize=str(len(packed))), packed))
    return made


def spoil(random: Random, folder: Path, whole: list[tuple[list[tuple[str, str]], bytes]]) -> dict[str, Call]:
    """A header with odd fields, bytes changed anywhere, or both."""
    fields, voxels = random.choice(whole)
    apart = random.random() < 0.12
    fields = [*fields, ("ElementDataFile", "case.raw" if apart else "LOCAL")]
    if random.random() < 0.75:
        if random.random() < 0.2:
            fields.insert(random.randrange(len(fields)), (random.choice(sorted(_ODD)), "1"))
        fields = spoil_fields(random, fields, _ODD)
    lines = [f"{name} = {value}" for name, value in fields]
    if random.random() < 0.05:
        lines.insert(0, "Comment = " + "x" * random.choice((1000, 5000, 2_000_000)))
    ending = random.choice(("\n", "\n", "\n", "\n", "\r\n", "\r"))
    header = (ending.join(lines) + ending).encode("utf-8", "surrogatepass")
    data = header if apart else header + voxels
    if random.random() < 0.35:
        data = spoil_bytes(random, data)
    if random.random() < 0.02:  # few bytes that become many
        many = b"\0" * 60_000_000
        data = header + zlib.compress(many, 1)
    path = folder / ("case.mhd" if apart else "case.mha")
    path.write_bytes(data)
    if apart and random.random() < 0.8:
        (folder / "case.raw").write_bytes(spoil_bytes(random, voxels) if random.random() < 0.3 else voxels)
    return volume_calls(path, random.choice((".mha", ".nii.gz", ".nrrd")))
