"""Are a file's voxels all there? ITK fills what is missing in a NIfTI file with zeros, reads a MetaImage whose header
announces too little as far as it goes, and passes over damaged compressed bytes; in none of these cases does it say a word.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

from spider_utils.errors import DataError

CHUNK_BYTES = 1 << 20
_NEVER = 10**18  # bytes: no disk holds so many
_ELEMENT_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG_LONG": 8, "ULONG_LONG": 8}
MOST_DIMENSIONS = 4  # ITK's reader of MetaImages ends the process where a header announces very many
_ELEMENT_BYTES |= {"FLOAT": 4, "DOUBLE": 8}  # MET_LONG is left out: its width depends on the writer's machine


def check_whole(path: Path, inflate: bool = True) -> None:
    """Compare the bytes that the header of a .mha, .mhd, .nii or .nii.gz announces with those that are there.

    Other formats, and headers that this cannot make out, are left to the reader's own judgement.

    Args:
        path: the file.
        inflate: count compressed voxels too, which takes reading them all. False passes over compressed files.

    Raises:
        DataError: too few or too many bytes, or a compressed stream that is cut or damaged.
        OSError: the file cannot be read at all.
    """
    name = path.name.lower()
    if not name.endswith((".mha", ".mhd", ".nii", ".nii.gz")):
        return
    try:
        sizes = _metaimage_sizes(path, inflate) if name.endswith((".mha", ".mhd")) else _nifti_sizes(path, inflate)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"its compressed pixel data are cut or damaged ({error})", "Fetch or export it again.") from error
    if sizes and sizes[0] != sizes[1]:
        announced = sizes[0] if sizes[0] < _NEVER else "absurdly many"
        raise DataError(
            path,
            f"its header announces {announced} bytes of voxels but the file holds {sizes[1]}",
            "The file is truncated or its header wrong: fetch or export it again.",
        )


def _inflated_size(path: Path, start: int, wanted: int) -> int:
    """Number of bytes that the zlib stream from byte ``start`` on holds; its checksum is verified on the way.

    Of a stream with more than ``wanted`` bytes only as many are counted as show that: little can stand for a thousand times more.
    """
    stream, size = zlib.decompressobj(), 0
    with open(path, "rb") as file:
        file.seek(start)
        while chunk := stream.unconsumed_tail or file.read(CHUNK_BYTES):
            size += len(stream.decompress(chunk, CHUNK_BYTES))
            if size > wanted:
                return size
    if not stream.eof:
        raise EOFError("the stream ends early")
    return size


def _metaimage_sizes(path: Path, inflate: bool) -> tuple[int, int] | None:
    """Bytes announced and bytes there, of a MetaImage; None when the header leaves it open or nothing may be inflated."""
    header: dict[str, str] = {}
    with open(path, "rb") as file:
        while "ElementDataFile" not in header and (line := file.readline(4096)):
            key, value = (re.split("[=:]", line.decode("latin-1"), maxsplit=1) + [""])[:2]
            header[key.strip()] = value.strip()
            if key.strip() == "NDims" and value.strip() not in map(str, range(1, MOST_DIMENSIONS + 1)):
                raise DataError(path, f"announces '{value.strip()[:20]}' dimensions", "Give a three-dimensional image.")
        start = file.tell()
    where, kind = header.get("ElementDataFile", ""), header.get("ElementType", "").removeprefix("MET_")
    data = path if where.upper() == "LOCAL" else path.parent / where
    is_text = header.get("BinaryData", "True").lower() != "true"
    if is_text or kind not in _ELEMENT_BYTES or not data.is_file() or "HeaderSize" in header:
        return None
    start = start if data == path else 0
    try:
        voxels = math.prod(int(n) for n in header["DimSize"].split()) * int(header.get("ElementNumberOfChannels", 1))
    except (KeyError, ValueError):
        return None
    if header.get("CompressedData", "False").lower() == "true":
        announced = voxels * _ELEMENT_BYTES[kind]
        return (announced, _inflated_size(data, start, announced)) if inflate else None
    return voxels * _ELEMENT_BYTES[kind], data.stat().st_size - start


def _nifti_sizes(path: Path, inflate: bool) -> tuple[int, int] | None:
    """As _metaimage_sizes, of a NIfTI-1 file (NIfTI-2 is not read by ITK)."""
    with open(path, "rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    if is_compressed and not inflate:
        return None
    with gzip.open(path, "rb") if is_compressed else open(path, "rb") as file:
        head = file.read(348)
        if (found := _nifti_header(head)) is None:
            return None
        announced, start = found
        size = len(head) if is_compressed else path.stat().st_size
        # gzip's own checksum is verified when the end is reached; more than announced need not be counted.
        while is_compressed and size - start <= announced and (chunk := file.read(CHUNK_BYTES)):
            size += len(chunk)
    return announced, size - start


def _nifti_header(head: bytes) -> tuple[int, int] | None:
    """Bytes of voxels that a header announces, and where in the file they begin; None when it is none."""
    for order in "<>":
        if len(head) == 348 and struct.unpack(f"{order}i", head[:4]) == (348,):
            shape = struct.unpack(f"{order}8h", head[40:56])
            bits, start = struct.unpack(f"{order}h", head[72:74])[0], struct.unpack(f"{order}f", head[108:112])[0]
            if not math.isfinite(start):
                return None
            return math.prod(max(1, n) for n in shape[1 : 1 + shape[0]]) * bits // 8, int(start)
    return None
