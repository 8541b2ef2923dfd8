"""Are a file's voxels all there? ITK fills what is missing in a NIfTI file with zeros, reads a MetaImage whose header
announces too little as far as it goes, and passes over damaged compressed bytes; in none of these cases does it say a word.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from spider_utils.data.volume_headers import VoxelPlace, find_voxels
from spider_utils.errors import DataError

CHUNK_BYTES = 1 << 20
_NEVER = 10**18  # bytes: no disk holds so many


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
