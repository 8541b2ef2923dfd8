"""zlib streams (RFC 1950) inflated with Intel's ISA-L where the package isal is installed: faster than ITK's own inflater."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # the extra "fast": ITK inflates instead, and zlib takes the checksum
    igzip_lib = isal_zlib = None

_READ_BYTES, _PIECE_BYTES = 1 << 16, 1 << 18  # small enough to stay in the processor's cache


def adler32(data: np.ndarray) -> int:
    """The checksum that ends a zlib stream, of an array without gaps."""
    return zlib.adler32(data) if isal_zlib is None else isal_zlib.adler32(data)


def inflate(path: Path, start: int, length: int, n_bytes: int) -> np.ndarray | None:
    """What a zlib stream packs, when that is exactly so many bytes and its checksum is right.

    Args:
        path: the file.
        start, length: of the stream, in bytes.
        n_bytes: that it shall hold. Room is made for no more, whatever it holds.

    Returns:
        uint8 (n_bytes,), or None: isal is not installed, or the stream is damaged, cut, followed by more within ``length``, or
        holds another number of bytes.

    Raises:
        OSError: the file cannot be read.
    """
    if igzip_lib is None:
        return None
    out, filled = np.empty(n_bytes, np.uint8), 0
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    with open(path, "rb") as file:
        file.seek(start)
        while not stream.eof:
            chunk = file.read(min(_READ_BYTES, length)) if stream.needs_input else b""
            length -= len(chunk)
            try:
                piece = stream.decompress(chunk, _PIECE_BYTES)
            except igzip_lib.IsalError:
                return None
            if not (chunk or piece) or filled + len(piece) > n_bytes:
                return None
            out[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
    return out if filled == n_bytes and not length and not stream.unused_data else None
