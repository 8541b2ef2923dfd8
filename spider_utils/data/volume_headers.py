"""Headers of MetaImage, NIfTI-1 and NRRD files, read strictly before ITK sees the file.

ITK's parsers guess where a header is odd: they take the next line's number where one is missing, one of two fields that
contradict each other, what they can make out of a number. Very many dimensions and very long values end the process. Here a
header is taken only where no two readers could understand it differently; what it says beside the voxels' size, type and place
is free.

Sources: MetaIO's documentation (itk.org/Wiki/MetaIO/Documentation), nifti1.h (nifti.nimh.nih.gov/nifti-1), the definition of
the NRRD format (teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from spider_utils.data.dicom import FARTHEST_MM
from spider_utils.errors import DataError

MOST_DIMENSIONS = 4
_MOST_HEADER_BYTES = 1 << 20
_LONGEST_LINE = 30_000  # ITK's readers have a little more room
_LONGEST_NAME, _LONGEST_FIELD = 200, 500
_FIX = "Fetch or export it again."
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_NO_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f]")
_VECTOR = re.compile(r"\(([^()]*)\)|none")

_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG_LONG": 8, "ULONG_LONG": 8}
_META_BYTES |= {"LONG": 4, "ULONG": 4, "FLOAT": 4, "DOUBLE": 8}  # as MetaIO has it, wherever the file comes from
_META_FLAGS = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
_META_SINGLE = (
    "ElementNumberOfChannels", "HeaderSize", "CompressedDataSize", "CompressionLevel", "ID", "ParentID",
    "ElementMin", "ElementMax", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset",
)  # fmt: skip
_META_STEPS = ("ElementSpacing", "ElementSize")
_META_POINTS = ("Offset", "Position", "Origin", "CenterOfRotation", "ImagePosition", "SequenceID", "DimSize", *_META_STEPS)
_META_TURNS = ("TransformMatrix", "Rotation", "Orientation")
_META_WORDS = ("ObjectType", "NDims", "AnatomicalOrientation", "Color", "ElementType", "ElementDataFile")
_META_KNOWN = {name.lower(): name for name in (*_META_FLAGS, *_META_SINGLE, *_META_POINTS, *_META_TURNS, *_META_WORDS)}

_NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}  # datatype -> bytes
_NIFTI_START = 352  # header and extension flag

_NRRD_BYTES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, "
    "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, "
    "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_NRRD_TYPES = {name: count for count, names in _NRRD_BYTES.items() for name in names.split(", ")}
_NRRD_ELSEWHERE = ("data file", "datafile")
_NRRD_SKIPS = ("line skip", "lineskip", "byte skip", "byteskip")


@dataclass(frozen=True)
class VoxelPlace:
    """Where a file's voxels lie, and how many its header announces.

    Attributes:
        path: the file that holds them.
        start: their first byte; of a file that is packed as a whole, counted in what it unpacks to. Negative: from the end.
        length: bytes of a packed stream, None when it reaches to the end.
        packing: "" (none), "stream" (the voxels alone) or "file" (the header with them).
        voxels: number of values, those of all channels.
        voxel_bytes: bytes of one value.
        is_big_endian: whether a value's highest byte comes first.
    """

    path: Path
    start: int
    length: int | None
    packing: str
    voxels: int
    voxel_bytes: int
    is_big_endian: bool


def find_voxels(path: Path) -> VoxelPlace | None:
    """Read the header of a .mha, .mhd, .nii, .nii.gz or .nrrd file; None for other suffixes. No voxel is read.

    Raises:
        DataError: a header that is damaged or contradicts itself, or describes something else than numbers on a grid of two to
            four dimensions whose voxels lie in one file.
        OSError: the file cannot be read at all.
    """
    name = path.name.lower()
    if name.endswith((".mha", ".mhd")):
        return _metaimage(path)
    if name.endswith((".nii", ".nii.gz")):
        return _nifti(path)
    return _nrrd(path) if name.endswith(".nrrd") else None


# ------------------------------------------------------------------------------------------------------------- parts of headers


def _damaged(path: Path, how: str) -> DataError:
    return DataError(path, f"cannot be read: its header is damaged or of another format ({how})", _FIX)


def _odd(path: Path, name: str, value: str, wanted: str) -> DataError:
    shown = f"{value[:40]}..." if len(value) > 40 else value
    return _damaged(path, f"{name} is '{shown}', not {wanted}")


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The lines of a text header one by one, without their ends; the file then stands behind the line."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        text = line.decode("latin-1").removesuffix("\n").removesuffix("\r")
        if len(line) == _LONGEST_LINE or file.tell() > _MOST_HEADER_BYTES:
            raise _damaged(path, f"line {number} is too long")
        if _NO_TEXT.search(text):
            raise _damaged(path, f"line {number} holds characters that are no text")
        yield text
    raise _damaged(path, "it ends before the voxels begin")


def _whole_numbers(path: Path, name: str, value: str, count: int, least: int) -> list[int]:
    words = value.split()
    if len(words) != count or not all(_WHOLE.fullmatch(word) and int(word) >= least for word in words):
        raise _odd(path, name, value, f"{count} whole number{'s' if count > 1 else ''} of at least {least}")
    return [int(word) for word in words]


def _check_numbers(path: Path, name: str, value: str, count: int, positive: bool = False) -> None:
    words = value.split()
    if len(words) != count or not all(_is_number(word) and (float(word) > 0 or not positive) for word in words):
        raise _odd(path, name, value, f"{count} {'positive ' if positive else ''}number{'s' if count > 1 else ''}")


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None and math.isfinite(float(word))


# -------------------------------------------------------------------------------------------------------------------- MetaImage


def _metaimage(path: Path) -> VoxelPlace:
    with open(path, "rb") as file:
        fields = _metaimage_fields(path, file)
        start = file.tell()
    if missing := [name for name in ("NDims", "DimSize", "ElementType") if name not in fields]:
        raise _damaged(path, f"it lacks {', '.join(missing)}")
    dimensions = int(fields["NDims"])
    for name, count in (dict.fromkeys(_META_SINGLE, 1) | {"Color": 4}).items():
        if name in fields:
            _check_numbers(path, name, fields[name], count)
    for name in (*_META_POINTS, *_META_TURNS):
        if name in fields:
            count = dimensions**2 if name in _META_TURNS else dimensions
            _check_numbers(path, name, fields[name], count, name in _META_STEPS)
    sizes = _whole_numbers(path, "DimSize", fields["DimSize"], dimensions, 1)
    channels = _whole_numbers(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1, 1)[0]
    kind = fields["ElementType"]
    if not kind.startswith("MET_") or kind.removeprefix("MET_") not in _META_BYTES:
        raise _odd(path, "ElementType", kind, "a type of number")
    for name in _META_FLAGS:
        if fields.get(name, "True").lower() not in ("true", "false"):
            raise _odd(path, name, fields[name], "True or False")
    if fields.get("BinaryData", "True").lower() == "false":
        raise DataError(path, "holds its voxels as text", "Save it again with BinaryData = True.")
    where = fields["ElementDataFile"]
    is_packed = fields.get("CompressedData", "False").lower() == "true"
    skipped = _whole_numbers(path, "HeaderSize", fields.get("HeaderSize", "0"), 1, -1)[0]
    length = _whole_numbers(path, "CompressedDataSize", fields.get("CompressedDataSize", "0"), 1, 0)[0]
    if is_packed and skipped:
        raise _damaged(path, "HeaderSize and CompressedData contradict each other")
    voxels, voxel_bytes = math.prod(sizes) * channels, _META_BYTES[kind.removeprefix("MET_")]
    if where.upper() != "LOCAL":
        path, start = _file_beside(path, where), 0
    elif is_packed and not length:  # ITK then reads whatever its memory held
        raise DataError(path, "does not say how many bytes its packed voxels take (CompressedDataSize)", "Save the image again.")
    if skipped:
        start = skipped if skipped > 0 else -voxels * voxel_bytes
    is_big_endian = any(fields.get(name, "False").lower() == "true" for name in _META_FLAGS if name.endswith("MSB"))
    packing, length = ("stream", length or None) if is_packed else ("", None)
    return VoxelPlace(path, start, length, packing, voxels, voxel_bytes, is_big_endian)


def _metaimage_fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Name -> value of all lines to ElementDataFile, the last one."""
    fields: dict[str, str] = {}
    for text in _lines(path, file):
        name, mark, value = (part.strip() for part in re.fullmatch(r"([^=:]*)([=:]?)(.*)", text, re.DOTALL).groups())
        if not name and not mark:
            continue
        if not mark or not 0 < len(name) <= _LONGEST_NAME:
            raise _odd(path, "a line", text, "'name = value'")
        known = _META_KNOWN.get(name.lower())
        if known is None:
            continue
        if name != known or name in fields:
            raise _damaged(path, f"{known} is there twice" if name == known else f"{known} is written '{name}'")
        fields[name] = value
        if name == "ObjectType" and value != "Image":
            raise _odd(path, name, value, "Image")
        if name == "NDims" and value not in map(str, range(2, MOST_DIMENSIONS + 1)):
            raise DataError(path, f"announces '{value[:20]}' dimensions", "Give a three-dimensional image.")
        if name == "AnatomicalOrientation" and not re.fullmatch("[A-Za-z?]{0,4}", value):
            raise _odd(path, name, value, "a letter a dimension")
        if name == "ElementDataFile":
            break
    return fields


def _file_beside(path: Path, where: str) -> Path:
    """The one other file that a header names for its voxels."""
    if where.upper().startswith("LIST") or "%" in where:
        raise DataError(path, "spreads its voxels over several files", "Save the image again as one .mha file.")
    if not (where and (path.parent / where).is_file()):
        named = f"cannot be read: it names '{where[:60]}' for its voxels, which is no file"
        raise DataError(path, named, "Put that file beside it, or fetch both again.")
    return path.parent / where


# ------------------------------------------------------------------------------------------------------------------------ NIfTI


def _nifti(path: Path) -> VoxelPlace:
    with open(path, "rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if is_packed else open(path, "rb") as file:
            head = file.read(_NIFTI_START)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"it is cut or damaged ({error})") from error
    if len(head) < _NIFTI_START:
        raise _damaged(path, f"the file is cut, {_NIFTI_START} bytes would be a header")
    order = next((order for order in "<>" if struct.unpack_from(f"{order}i", head) == (348,)), None)
    if order is None or head[344:348] != b"n+1\0":
        raise _damaged(path, "it is not that of a NIfTI-1 file with its voxels within")
    dimensions, *sizes = struct.unpack_from(f"{order}8h", head, 40)
    kind, bits = struct.unpack_from(f"{order}2h", head, 70)
    start = struct.unpack_from(f"{order}f", head, 108)[0]
    steps = struct.unpack_from(f"{order}7f", head, 80)[: max(0, min(dimensions, 3))]
    if not 1 <= dimensions <= len(sizes) or min(sizes[:dimensions]) < 1:
        raise _damaged(path, f"{dimensions} dimensions of {sizes[: max(0, dimensions)]} voxels")
    if kind not in _NIFTI_BYTES or bits != 8 * _NIFTI_BYTES[kind]:
        raise DataError(path, f"holds values of type {kind} with {bits} bits, no single numbers", "Save it as whole numbers.")
    if not math.isfinite(start) or start < _NIFTI_START or start != int(start):
        raise _damaged(path, f"its voxels begin at byte {start:g}")
    if not all(math.isfinite(step) and step != 0 for step in steps):
        raise _damaged(path, f"its voxels have edges of {', '.join(f'{step:g}' for step in steps)} mm")
    for name, at, count in (("qform", 252, 6), ("sform", 254, 12)):
        numbers = struct.unpack_from(f"{order}{count}f", head, 256 if name == "qform" else 280)
        if struct.unpack_from(f"{order}h", head, at)[0] > 0 and not all(abs(one) <= FARTHEST_MM for one in numbers):
            raise _damaged(path, f"{name} holds {', '.join(f'{one:g}' for one in numbers)}")  # ITK never ends on infinite ones
    packing = "file" if is_packed else ""
    return VoxelPlace(path, int(start), None, packing, math.prod(sizes[:dimensions]), _NIFTI_BYTES[kind], order == ">")


# ------------------------------------------------------------------------------------------------------------------------- NRRD


def _nrrd(path: Path) -> VoxelPlace:
    with open(path, "rb") as file:
        fields = _nrrd_fields(path, file)
        start = file.tell()
    if missing := [name for name in ("dimension", "type", "sizes", "encoding") if name not in fields]:
        raise _damaged(path, f"it lacks {', '.join(missing)}")
    if any(name in fields for name in _NRRD_ELSEWHERE) or any(fields.get(name, "0") != "0" for name in _NRRD_SKIPS):
        raise DataError(path, "has its voxels in other files, or apart from its header", "Save it again as one .nrrd file.")
    if fields["dimension"] not in map(str, range(2, MOST_DIMENSIONS + 1)):
        raise DataError(path, f"announces '{fields['dimension'][:20]}' dimensions", "Give a three-dimensional image.")
    dimensions = int(fields["dimension"])
    sizes = _whole_numbers(path, "sizes", fields["sizes"], dimensions, 1)
    for name, count in (("space directions", dimensions), ("space origin", 1)):
        if name in fields:
            _check_vectors(path, name, fields[name], count)
    kind, encoding = fields["type"].lower(), fields["encoding"].lower()
    if kind not in _NRRD_TYPES:
        raise _odd(path, "type", kind, "a type of number")
    if encoding not in ("raw", "gzip", "gz"):
        raise DataError(path, f"packs its voxels as '{encoding[:20]}'", "Save the image again with encoding raw or gzip.")
    if _NRRD_TYPES[kind] > 1 and fields.get("endian", "").lower() not in ("little", "big"):
        raise _odd(path, "endian", fields.get("endian", ""), "little or big")
    packing, is_big_endian = "" if encoding == "raw" else "stream", fields.get("endian", "").lower() == "big"
    return VoxelPlace(path, start, None, packing, math.prod(sizes), _NRRD_TYPES[kind], is_big_endian)


def _nrrd_fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Name in small letters -> description of all fields to the empty line; comments and pairs of key and value are left out."""
    fields: dict[str, str] = {}
    lines = _lines(path, file)
    if not re.fullmatch("NRRD000[1-6]", next(lines)):
        raise _damaged(path, "it does not begin as NRRD does")
    for text in lines:
        if not text:
            break
        if text.startswith("#") or re.match("[^:]*:=", text):
            continue
        name, mark, value = (part.strip() for part in text.partition(":"))
        if not mark or not name:
            raise _odd(path, "a line", text, "'name: value'")
        if len(text) > _LONGEST_FIELD:
            raise _damaged(path, f"'{name[:40]}' is too long")
        if name.lower() in fields:
            raise _damaged(path, f"'{name[:40]}' is there twice")
        fields[name.lower()] = value
    return fields


def _check_vectors(path: Path, name: str, value: str, count: int) -> None:
    """Raise DataError unless there are so many vectors of finite numbers, all of one length; "none" is one of any."""
    found = [match[1] for match in _VECTOR.finditer(value)]
    vectors = [[part.strip() for part in text.split(",")] for text in found if text is not None]
    good = all(map(_is_number, sum(vectors, []))) and len({len(vector) for vector in vectors}) == 1
    if len(found) != count or _VECTOR.sub("", value).strip() or not good:
        raise _odd(path, name, value, f"{count} vector{'s' if count > 1 else ''} of finite numbers")
