"""Are a file's voxels all there? ITK fills what is missing in a NIfTI file with zeros, reads a MetaImage whose header
announces too little as far as it goes, and passes over damaged compressed bytes; in none of these cases does it say a word.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spider_utils.data.inflate import CHECKSUM_BYTES, adler32
from spider_utils.data.volume_headers import VoxelPlace, find_voxels
from spider_utils.errors import DataError

CHUNK_BYTES = 1 << 20
_NEVER = 10**18  # bytes: no disk holds so many
_MOST_UNPROVEN = 1 << 28  # bytes of voxels that ITK may make room for before anything shows that they are there
_MOST_PACKED = 1032  # times that zlib's format can shrink anything


@dataclass(frozen=True)
class Seal:
    """What a file says of its voxels: their number of bytes, and the checksum that ends zlib's format (Adler-32, RFC 1950).

    Attributes:
        place: where the stream lies.
        length: of the stream, in bytes.
        n_bytes: of the voxels that it packs.
        checksum: theirs.
    """

    place: VoxelPlace
    length: int
    n_bytes: int
    checksum: int

    def fits(self, voxels: np.ndarray) -> bool:
        """Whether these are the very voxels that were packed; an array without gaps, as the file has it."""
        return voxels.nbytes == self.n_bytes and adler32(voxels) == self.checksum


def find_seal(path: Path) -> Seal | None:
    """The seal of a compressed MetaImage: once ITK has inflated its voxels, it shows that they are whole without inflating again.

    None where that cannot be told before the voxels are read: other formats, voxels that are not packed, a stream that is no
    zlib stream, a file that is shorter than its header says, and more voxels than it can hold or than may be read on trust.
    ``check_whole`` judges those, and every file whose seal does not fit.

    Raises:
        DataError, OSError: as volume_headers.find_voxels.
    """
    place = find_voxels(path)
    if place is None or place.packing != "stream" or not path.name.lower().endswith((".mha", ".mhd")):
        return None
    n_bytes, there = place.voxels * place.voxel_bytes, place.path.stat().st_size - place.start
    length = there if place.length is None else place.length
    if not 2 + CHECKSUM_BYTES <= length <= there or n_bytes > min(_MOST_UNPROVEN, _MOST_PACKED * length):
        return None
    with open(place.path, "rb") as file:
        file.seek(place.start)
        method, flags = file.read(2)
        file.seek(place.start + length - CHECKSUM_BYTES)
        checksum = int.from_bytes(file.read(CHECKSUM_BYTES), "big")
    is_zlib = method & 15 == zlib.DEFLATED and (method << 8 | flags) % 31 == 0
    return Seal(place, length, n_bytes, checksum) if is_zlib else None


def check_whole(path: Path, inflate: bool = True) -> None:
    """Read the header of a .mha, .mhd, .nii, .nii.gz or .nrrd file strictly, and compare the bytes of voxels that it announces
    with those that are there.

    Other formats are left to the reader's own judgement.

    Args:
        path: the file.
        inflate: count compressed voxels too, which takes reading them all. False passes over compressed files.

    Raises:
        DataError: as volume_headers.find_voxels; too few or too many bytes, or a compressed stream that is cut or damaged.
        OSError: the file cannot be read at all.
    """
    place = find_voxels(path)
    if place is None or (place.packing and not inflate):
        return
    announced = place.voxels * place.voxel_bytes
    try:
        size = _voxel_bytes(place, announced)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"its compressed pixel data are cut or damaged ({error})", "Fetch or export it again.") from error
    if size != announced:
        raise DataError(
            path,
            f"its header announces {announced if announced < _NEVER else 'absurdly many'} bytes of voxels "
            f"but the file holds {size}",
            "The file is truncated or its header wrong: fetch or export it again.",
        )


def _voxel_bytes(place: VoxelPlace, wanted: int) -> int:
    """Bytes of voxels that are there, unpacked. Of packed ones no more are counted than show that there are too many."""
    if place.packing == "stream":
        return _inflated_size(place, wanted)
    if place.packing == "file":
        size = 0
        with gzip.open(place.path, "rb") as file:
            # gzip's own checksum is verified when the end is reached.
            while size - place.start <= wanted and (chunk := file.read(CHUNK_BYTES)):
                size += len(chunk)
        return max(0, size - place.start)
    size = place.path.stat().st_size
    return max(0, size - place.start) if place.start >= 0 else min(size, -place.start)


def _inflated_size(place: VoxelPlace, wanted: int) -> int:
    """Number of bytes that a packed stream holds; its checksum is verified on the way.

    Of a stream with more than ``wanted`` bytes only as many are counted as show that: little can stand for a thousand times more.
    """
    stream, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0  # 32: either format, as its first bytes say
    end = place.path.stat().st_size if place.length is None else place.start + place.length
    with open(place.path, "rb") as file:
        file.seek(place.start)
        while chunk := stream.unconsumed_tail or file.read(max(0, min(CHUNK_BYTES, end - file.tell()))):
            size += len(stream.decompress(chunk, CHUNK_BYTES))
            if size > wanted:
                return size
    if not stream.eof:
        raise EOFError("the stream ends early")
    return size
