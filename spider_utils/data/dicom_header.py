"""The header of a DICOM file, read from its bytes and checked before a decoder sees the file.

ITK's decoder (GDCM) believes headers. One that promises 40,000 x 40,000 pixels takes that much memory, pixels that are not there
become zeros, further frames are dropped in silence, and sequences nested some thousandfold end the process. So the data elements
are walked through here first (PS3.5, section 7 and annex A): every length must lie within the file, and the picture must be one
gray slice whose bytes are there.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from spider_utils.errors import DataError

# PS3.5 section 10 and PS3.6 table A-1.
TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, first-order prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 Lossless, RPCL",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"

MOST_PIXELS = 2**25  # of one slice; MR slices have less than 2**22
MOST_BYTES = 2**28  # of a deflated file, unpacked
DEEPEST = 32  # sequences within sequences; GDCM calls itself for each
MOST_ELEMENTS = 100_000
RLE_AT_BEST = 64  # two bytes stand for 128 (PS3.5, annex G)

_EXPLICIT_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF
_SYNTAX, _ITEM, _PIXELS = 0x00020010, 0xFFFEE000, 0x7FE00010
_LONGEST_TEXT = 1024
_FIRST_PIXELS = 1 << 16
_EXPORT = "Export the series again, one gray slice a file."
_FETCH = "Fetch or export the series again, or take the file out of the folder."


class _BrokenError(ValueError):
    """The bytes are no data elements, or end too early."""


class _RefusedError(ValueError):
    """No program writes such data elements, and a decoder may choke on them."""


@dataclass(frozen=True)
class DicomHeader:
    """The outermost data elements of a file, and what holds its pixels.

    Attributes:
        path: the file.
        syntax: UID of its transfer syntax.
        order: "<" for little endian, ">" for big endian.
        values: tag (0xggggeeee) -> bytes; of elements up to 1,024 bytes, whatever holds longer ones is no header.
        pixel_bytes: bytes of its pixels as they are packed; 0 when it has none.
        packed: whether they are encapsulated (PS3.5, annex A.4).
        first_pixels: the first of these bytes, at most 65,536.
    """

    path: Path
    syntax: str
    order: str
    values: dict[int, bytes]
    pixel_bytes: int
    packed: bool
    first_pixels: bytes

    def text(self, tag: int) -> str:
        """A value as text without padding; "" when it is absent."""
        return self.values.get(tag, b"").decode("latin-1").strip(" \0")

    def numbers(self, tag: int, count: int) -> tuple[float, ...] | None:
        """The decimal numbers of a value; None when it is absent or does not hold ``count`` finite ones."""
        try:
            numbers = tuple(float(part) for part in self.text(tag).split("\\"))
        except ValueError:
            return None
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None

    def integer(self, tag: int) -> int | None:
        """A 16-bit unsigned value (VR US); None when it is absent."""
        value = self.values.get(tag, b"")
        return struct.unpack(f"{self.order}H", value)[0] if len(value) == 2 else None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.integer(0x00280010) or 0, self.integer(0x00280011) or 0

    @property
    def syntax_name(self) -> str:
        """How the pixels are packed, in words: name and UID."""
        return f"{TRANSFER_SYNTAXES.get(self.syntax, 'not known to the kit')} ({self.syntax})"


def read_dicom_header(path: Path) -> DicomHeader:
    """Read and check a header.

    Raises:
        DataError: no DICOM file, a damaged one, or one whose picture is not one gray slice of at most MOST_PIXELS pixels with all
            its bytes.
    """
    try:
        header = _read(path)
    except (_BrokenError, _RefusedError, OSError, zlib.error) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise DataError(path, f"cannot be read as DICOM ({reason})", _FETCH) from error
    if problem := next(_problems(header), None):
        raise DataError(path, problem, _EXPORT)
    return header


def _read(path: Path) -> DicomHeader:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(132)[128:] != b"DICM":
            raise _BrokenError("the mark DICM is not at its place")
        syntax, start = "", 132
        # The meta elements, group 2, are always explicit and little endian (PS3.10, section 7.1).
        while file.seek(start) < size and file.read(2) == b"\2\0":
            tag, _, length, value = _head(file, start, "<", explicit=True)
            if tag == _SYNTAX:
                syntax = file.read(min(length, _LONGEST_TEXT)).decode("latin-1").strip(" \0")
            start = value + length
        if not syntax:
            raise _BrokenError("it does not name its transfer syntax")
        if syntax != DEFLATED:
            return _outermost(path, file, start, size, syntax)
        file.seek(start)
        unpacked = _inflated(file.read())
    return _outermost(path, io.BytesIO(unpacked), 0, len(unpacked), syntax)


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    found = unpacker.decompress(data, MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise _RefusedError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise _BrokenError("its deflated part ends too early")
    return found


def _outermost(path: Path, stream: BinaryIO, start: int, size: int, syntax: str) -> DicomHeader:
    """The header from the data elements between two places of a stream."""
    order, explicit = ">" if syntax == _BIG_ENDIAN else "<", syntax != _IMPLICIT
    values: dict[int, bytes] = {}
    pixels: tuple[int, bool, bytes] | None = None
    for tag, value, length in _elements(stream, start, size, order, explicit):
        if tag in values or (tag == _PIXELS and pixels):
            raise _RefusedError(f"it holds the data element {_name(tag)} twice")
        stream.seek(value)
        if tag == _PIXELS and length == _UNDEFINED:
            parts = _fragments(stream, value, size, order)[1:]  # the first item is the table of offsets
            stream.seek(parts[0][0] if parts else value)
            first = stream.read(min(parts[0][1], _FIRST_PIXELS)) if parts else b""
            pixels = sum(length for _, length in parts), True, first
        elif tag == _PIXELS:
            pixels = length, False, stream.read(min(length, _FIRST_PIXELS))
        elif length <= _LONGEST_TEXT:
            values[tag] = stream.read(length)
    return DicomHeader(path, syntax, order, values, *(pixels or (0, False, b"")))


def _elements(stream: BinaryIO, place: int, size: int, order: str, explicit: bool) -> Iterator[tuple[int, int, int]]:
    """(tag, place of the value, its length) of the outermost data elements; those within sequences are walked through as well."""
    around: list[tuple[float, bool]] = []  # (end, explicit) of the sequences and items that this place lies in
    for _ in range(MOST_ELEMENTS):
        while around and place == around[-1][0]:
            around.pop()
        if place == size and not around:
            return
        end = min([size, *(one for one, _ in around)])
        here = around[-1][1] if around else explicit
        tag, kind, length, value = _head(stream, place, order, here)
        defined, is_item = length != _UNDEFINED, tag == _ITEM
        if tag >> 16 == 0xFFFE and not around:
            raise _BrokenError("an item stands outside of a sequence")
        if tag >> 16 == 0xFFFE and not is_item:  # a delimiter
            around.pop()
            place = value
            continue
        if defined and value + length > end:
            raise _BrokenError(f"the data element {_name(tag)} reaches beyond its end")
        if not around:
            yield tag, value, length
        if is_item or kind == b"SQ" or (not defined and kind not in (b"OB", b"OW") and tag != _PIXELS):
            if len(around) >= 2 * DEEPEST:
                raise _RefusedError(f"its sequences are nested deeper than {DEEPEST}")
            # UN of undefined length holds implicit elements (PS3.5, section 6.2.2).
            around.append((value + length if defined else math.inf, here and kind != b"UN"))
            place = value
        elif defined:
            place = value + length
        else:
            last, length = _fragments(stream, value, size, order)[-1]
            place = last + length + 8  # behind the delimiter
    raise _RefusedError(f"it holds more than {MOST_ELEMENTS} data elements")


def _head(stream: BinaryIO, place: int, order: str, explicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, value representation, length, place of the value) of the data element at a place."""
    stream.seek(place)
    head = stream.read(8)
    if len(head) < 8:
        raise _BrokenError("it ends too early")
    group, number, kind, short = struct.unpack(f"{order}HH2sH", head)
    tag = group << 16 | number
    if not explicit or group == 0xFFFE:
        return tag, b"", struct.unpack(f"{order}I", head[4:])[0], place + 8
    if not (kind.isalpha() and kind.isupper()):
        raise _BrokenError(f"at byte {place} is no data element")
    if kind not in _EXPLICIT_LONG:
        return tag, kind, short, place + 8
    more = stream.read(4)
    if len(more) < 4:
        raise _BrokenError("it ends too early")
    return tag, kind, struct.unpack(f"{order}I", more)[0], place + 12


def _fragments(stream: BinaryIO, place: int, size: int, order: str) -> list[tuple[int, int]]:
    """(place, length) of the items of encapsulated pixels, the table of offsets first."""
    found: list[tuple[int, int]] = []
    while len(found) < MOST_ELEMENTS:
        tag, _, length, value = _head(stream, place, order, explicit=False)
        if tag != _ITEM and found:
            return found
        if tag != _ITEM or value + length > size:
            raise _BrokenError("its pixels end too early")
        found.append((value, length))
        place = value + length
    raise _RefusedError(f"its pixels lie in more than {MOST_ELEMENTS} pieces")


def _name(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _problems(header: DicomHeader) -> Iterator[str]:
    """Why a picture is not one gray slice that can be decoded."""
    rows, columns = header.shape
    if not rows or not columns:
        yield "does not say how many rows and columns it has"
    if rows * columns > MOST_PIXELS:
        yield f"claims {rows} x {columns} pixels, more than any MR slice has"
    frames = header.text(0x00280008) or "1"
    if frames != "1":
        yield f"holds {frames[:20]} frames: it is no file of one slice"
    samples, photometric = header.integer(0x00280002) or 1, header.text(0x00280004) or "MONOCHROME2"
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        yield f"holds {samples} value(s) a pixel ({photometric[:20]}), not one gray value"
    bits, stored, high, sign = (header.integer(tag) for tag in (0x00280100, 0x00280101, 0x00280102, 0x00280103))
    # Missing ones mean what GDCM takes them for: all bits hold the value.
    if bits not in (8, 16, 32) or not 1 <= (stored or bits) <= bits or (high is not None and high + 1 != (stored or bits)):
        yield f"stores its pixels in {bits} bits, of which {stored} up to bit {high} are used: no decoder knows what that means"
    if sign not in (0, 1):
        yield f"does not say whether its pixels have a sign (PixelRepresentation {sign})"
    for tag, name in ((0x00281053, "slope"), (0x00281052, "intercept")):
        numbers = header.numbers(tag, 1)
        if header.text(tag) and (numbers is None or (name == "slope" and numbers[0] == 0)):
            yield f"rescales its values with the {name} '{header.text(tag)[:20]}'"
    yield from _pixel_problems(header, rows, columns, rows * columns * (bits or 0) // 8)


def _pixel_problems(header: DicomHeader, rows: int, columns: int, wanted: int) -> Iterator[str]:
    """Whether the bytes of the pixels are there; ``wanted`` unpacked ones."""
    if not header.pixel_bytes:
        yield "holds no pixels"
    if not header.packed and header.pixel_bytes != wanted + wanted % 2:
        yield f"holds {header.pixel_bytes} bytes of pixels, but {rows} x {columns} pixels take {wanted}"
    if header.syntax == RLE and header.pixel_bytes * RLE_AT_BEST < wanted:
        yield f"holds {header.pixel_bytes} bytes of run lengths, too few for {rows} x {columns} pixels"
    if header.packed and (coded := _coded_shape(header.first_pixels)) not in (None, (rows, columns)):
        yield f"claims {rows} x {columns} pixels, but its packed picture has {coded[0]} x {coded[1]}"


def _coded_shape(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) in the header of a JPEG, JPEG-LS or JPEG 2000 stream; None when it has none that is known."""
    if (place := data.find(b"\xff\x4f\xff\x51")) >= 0 and len(data) >= place + 24:  # SOC, SIZ: ISO/IEC 15444-1, annex A.5.1
        right, bottom, left, top = struct.unpack(">4I", data[place + 8 : place + 24])
        return bottom - top, right - left
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:  # segments: ISO/IEC 10918-1, annex B
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack(">2H", data[place + 5 : place + 9])
        place += 2 + length
    return None
