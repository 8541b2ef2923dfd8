"""zlib streams (RFC 1950) inflated with libdeflate where the package deflate is installed: faster than ITK's own inflater."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

try:
    import deflate
except ImportError:  # the extra "fast": ITK inflates instead, and zlib takes the checksum
    deflate = None

CHECKSUM_BYTES = 4


def adler32(data: np.ndarray) -> int:
    """The checksum that ends a zlib stream, of an array without gaps."""
    return (deflate or zlib).adler32(data)


def inflate(path: Path, start: int, length: int, n_bytes: int) -> np.ndarray | None:
    """What a zlib stream packs, when that is exactly so many bytes and its checksum is right.

    Args:
        path: the file.
        start, length: of the stream, in bytes.
        n_bytes: that it shall hold. Room is made for all of them at once: ask only for what so short a stream can hold.

    Returns:
        uint8 (n_bytes,), or None: deflate is not installed, or the stream is damaged, cut, followed by more within ``length``, or
        holds another number of bytes.

    Raises:
        OSError: the file cannot be read.
    """
    if deflate is None:
        return None
    with open(path, "rb") as file:
        file.seek(start)
        stream = file.read(length)
    try:
        out = np.frombuffer(deflate.zlib_decompress(stream, n_bytes), np.uint8)
    except deflate.DeflateError:
        return None
    # libdeflate holds the checksum against the voxels, and passes over what follows it: the last bytes must be that checksum.
    is_whole = len(stream) == length and len(out) == n_bytes
    return out if is_whole and stream[-CHECKSUM_BYTES:] == adler32(out).to_bytes(CHECKSUM_BYTES, "big") else None
