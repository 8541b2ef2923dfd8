"""PNG and JPEG pictures."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from spider_utils.data.volumes import read_picture
from tests.fuzz.checks import volume_calls
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import spoil_bytes

_MARK = b"\x89PNG\r\n\x1a\n"
_SIDES = (0, 1, 2, 50, 60, 5000, 20_000, 65_535, 100_000, 2**31 - 1, 2**31, 2**32 - 1)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(_MARK)
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        found.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def whole(folder: Path) -> dict[str, list[bytes]]:
    """Files by suffix: gray of 8 and 16 bits, 1 bit, RGB, RGBA, palette, gray with alpha; JPEG gray and coloured."""
    gray = np.random.default_rng(0).integers(0, 200, (60, 50), dtype=np.uint8)
    picture = Image.fromarray(gray)
    pngs = [
        picture,
        Image.fromarray(gray.astype(np.uint16) * 99),
        *(picture.convert(mode) for mode in ("1", "RGB", "RGBA", "P", "LA")),
    ]
    made: dict[str, list[bytes]] = {".png": [], ".jpg": []}
    for suffix, kind, pictures in ((".png", "PNG", pngs), (".jpg", "JPEG", [picture, picture.convert("RGB")])):
        for one in pictures:
            stream = io.BytesIO()
            one.save(stream, kind)
            made[suffix].append(stream.getvalue())
    return made


def spoil(random: Random, folder: Path, whole: dict[str, list[bytes]]) -> dict[str, Call]:
    """Chunks of a PNG with right sums and wrong content, or bytes changed anywhere."""
    suffix = random.choice((".png", ".png", ".png", ".jpg"))
    data = random.choice(whole[suffix])
    if suffix == ".png" and random.random() < 0.65:
        data = _with_odd_chunks(random, _chunks(data))
    if random.random() < 0.4:
        data = spoil_bytes(random, data)
    path = folder / f"case{random.choice((suffix, suffix, suffix, '.PNG', '.jpeg'))}"
    path.write_bytes(data)

    def picture(out: Path) -> None:
        array = read_picture(path)
        demand(array.ndim == 2 and array.dtype.kind in "iu", f"a picture of {array.shape}, {array.dtype}")

    return volume_calls(path, ".nii.gz") | {"read_picture": picture}


def _with_odd_chunks(random: Random, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG whose sums are right."""
    for _ in range(random.choice((1, 1, 2))):
        k = random.randrange(len(chunks))
        way = random.randrange(9)
        if way <= 2:  # IHDR: width, height, bits, kind of colour, compression, filter, interlace
            head = bytearray(chunks[0][1].ljust(13, b"\0"))
            at = random.randrange(7)
            if at < 2:
                struct.pack_into(">I", head, 4 * at, random.choice(_SIDES))
            else:
                head[6 + at] = random.choice((0, 1, 2, 3, 4, 6, 7, 8, 16, 255))
            chunks[0] = b"IHDR", bytes(head)
        elif way == 3:
            chunks[k] = chunks[k][0], spoil_bytes(random, chunks[k][1])
        elif way == 4 and len(chunks) > 1:
            del chunks[k]
        elif way == 5:
            chunks.insert(random.randrange(len(chunks) + 1), chunks[k])
        elif way == 6:  # little that becomes much
            zeros = zlib.compress(b"\0" * random.choice((100, 5_000_000)))
            bomb = random.choice(
                ((b"IDAT", zeros), (b"zTXt", b"k\0\0" + zeros), (b"iCCP", b"k\0\0" + zeros), (b"iTXt", b"k\0\1\0\0\0" + zeros))
            )
            chunks.insert(random.randrange(1, len(chunks) + 1), bomb)
        elif way == 7:
            odd = random.choice(
                (b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"pHYs", b"eXIf", b"tEXt", b"oDD1", b"IEND")
            )
            chunks.insert(random.randrange(len(chunks) + 1), (odd, random.randbytes(random.choice((0, 3, 8, 26, 300)))))
        else:
            random.shuffle(chunks)
        if not chunks:
            break
    return _MARK + b"".join(_chunk(*one) for one in chunks)
