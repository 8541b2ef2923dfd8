"""Damaged and hostile DICOM headers: one clear line before a decoder sees the file, whatever the header promises."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from spider_utils.data.dicom import read_header, read_pixels
from spider_utils.data.dicom_header import DEEPEST, TRANSFER_SYNTAXES, read_dicom_header
from spider_utils.data.dicom_write import SMALLEST_PACKED, write_slice
from spider_utils.errors import DataError
from tests.unit.test_dicom import PIXELS, TAGS, UPRIGHT, element, packed_file, run_lengths

PLAIN, DEFLATED, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
MODALITY = element(0x08, 0x60, "CS", b"MR")
PIXEL_HEAD = struct.pack("<HH2s", 0x7FE0, 0x10, b"OW")


def us(number: int, value: int) -> bytes:
    return element(0x28, number, "US", struct.pack("<H", value))


def swap(data: bytes, *pairs: tuple[bytes, bytes]) -> bytes:
    for old, new in pairs:
        assert data.count(old) == 1
        data = data.replace(old, new)
    return data


def size(rows: int, columns: int) -> tuple[tuple[bytes, bytes], ...]:
    return (us(0x10, 24), us(0x10, rows)), (us(0x11, 18), us(0x11, columns))


def deflated(data: bytes) -> bytes:
    """The same data set, deflated without a header (PS3.5, annex A.5)."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    meta = element(2, 0x10, "UI", DEFLATED.encode())
    head = b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta
    return head + packer.compress(data[data.index(MODALITY) :]) + packer.flush()


def recoded(data: bytes, syntax: str) -> bytes:
    """A plain data set in one of the two old transfer syntaxes (PS3.5, sections 7.1.3 and 7.3)."""
    meta, body, place = element(2, 0x10, "UI", syntax.encode()), b"", data.index(MODALITY)
    order = ">" if syntax == BIG_ENDIAN else "<"
    while place < len(data):
        group, number, kind, length = struct.unpack("<HH2sH", data[place : place + 8])
        start, long = place + 8, kind == b"OW"
        if long:
            start, length = place + 12, struct.unpack("<I", data[place + 8 : place + 12])[0]
        value = data[start : start + length]
        if order == ">" and kind in (b"US", b"OW"):
            value = np.frombuffer(value, "<u2").astype(">u2").tobytes()
        if syntax == IMPLICIT:
            body += struct.pack("<HHI", group, number, length) + value
        else:
            body += (
                struct.pack(">HH2s", group, number, kind) + struct.pack(">HI" if long else ">H", *([0] * long), length) + value
            )
        place = start + length
    return b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body


def huge_zeros(data: bytes) -> bytes:
    """Pixels of 270 MB in about one."""
    zeros = struct.pack("<HI", 0, 270_000_000) + b"\0" * 270_000_000
    return deflated(data[: data.index(PIXEL_HEAD)] + PIXEL_HEAD + zeros)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    write_slice(folder / "j.dcm", PIXELS, UPRIGHT, TAGS, "JPEG2000")
    write_slice(folder / "l.dcm", PIXELS, UPRIGHT, TAGS, "JPEG")
    return {
        "plain": packed_file(folder / "p.dcm", PIXELS, PLAIN, None).read_bytes(),
        "rle": packed_file(folder / "r.dcm", PIXELS, RLE, run_lengths(PIXELS)).read_bytes(),
        "j2k": (folder / "j.dcm").read_bytes(),
        "jpeg": (folder / "l.dcm").read_bytes(),
    }


NESTED = struct.pack("<HH2sHI", 0x08, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
LONG = struct.pack("<HH2sHI", 0x08, 0x61, b"OB", 0, 0xFFFFFFF0)
SIZ = b"\xff\x4f\xff\x51"
HOSTILE = {
    "run lengths of 40000 x 40000": ("rle", lambda d: swap(d, *size(40000, 40000)), "claims 40000 x 40000 pixels"),
    "plain pixels of 40000 x 40000": ("plain", lambda d: swap(d, *size(40000, 40000)), "claims 40000 x 40000 pixels"),
    "run lengths of 4000 x 4000": ("rle", lambda d: swap(d, *size(4000, 4000)), "run lengths, too few for 4000 x 4000 pixels"),
    "a row too many": ("plain", lambda d: swap(d, *size(25, 18)), "holds 864 bytes of pixels, but 25 x 18 pixels take 900"),
    "rows too few": ("plain", lambda d: swap(d, *size(12, 18)), "holds 864 bytes of pixels, but 12 x 18 pixels take 432"),
    "no rows": ("plain", lambda d: swap(d, (us(0x10, 24), b"")), "does not say how many rows and columns"),
    "JPEG 2000 of another size": (
        "j2k",
        lambda d: d[: d.index(SIZ) + 8] + struct.pack(">2I", 60000, 60000) + d[d.index(SIZ) + 16 :],
        "claims 24 x 18 pixels, but its packed picture has 60000 x 60000",
    ),
    "JPEG of another size": (
        "jpeg", lambda d: d.replace(struct.pack(">BHH", 16, 24, 18), struct.pack(">BHH", 16, 6000, 6000)),
        "claims 24 x 18 pixels, but its packed picture has 6000 x 6000",
    ),
    "two frames": (
        "plain", lambda d: swap(d, (us(0x10, 24), element(0x28, 8, "IS", b"2") + us(0x10, 12))), "holds 2 frames",
    ),
    "frames in words": (
        "plain", lambda d: swap(d, (us(0x10, 24), element(0x28, 8, "IS", b"many") + us(0x10, 24))), "many frames",
    ),
    "colours": ("plain", lambda d: swap(d, (us(2, 1), us(2, 3))), "holds 3 value.s. a pixel"),
    "a palette": ("plain", lambda d: d.replace(b"\x0c\0MONOCHROME2 ", b"\x0e\0PALETTE COLOR "), "PALETTE COLOR"),
    "pixels of 7 bits": ("plain", lambda d: swap(d, (us(0x100, 16), us(0x100, 7))), "stores its pixels in 7 bits"),
    "a high bit beyond": ("plain", lambda d: swap(d, (us(0x102, 15), us(0x102, 40))), "up to bit 40"),
    "a sign of 7": ("plain", lambda d: swap(d, (us(0x103, 0), us(0x103, 7))), "PixelRepresentation 7"),
    "no sign": ("plain", lambda d: swap(d, (us(0x103, 0), b"")), "PixelRepresentation None"),
    "no slope": ("plain", lambda d: swap(d, (PIXEL_HEAD, element(0x28, 0x1053, "DS", b"0") + PIXEL_HEAD)), "the slope '0'"),
    "a slope in words": (
        "plain", lambda d: swap(d, (PIXEL_HEAD, element(0x28, 0x1053, "DS", b"nan") + PIXEL_HEAD)), "the slope 'nan'",
    ),
    "rows twice": ("plain", lambda d: swap(d, (us(0x10, 24), us(0x10, 24) + us(0x10, 9))), r"\(0028,0010\) twice"),
    "no pixels": ("plain", lambda d: d[: d.index(PIXEL_HEAD)], "holds no pixels"),
    "pixels cut off": ("plain", lambda d: d[:-200], r"\(7fe0,0010\) reaches beyond its end"),
    "run lengths cut off": ("rle", lambda d: d[:-200], "its pixels end too early"),
    "an element of 4 GB": ("plain", lambda d: swap(d, (MODALITY, MODALITY + LONG)), r"\(0008,0061\) reaches beyond its end"),
    "20000 nested sequences": ("plain", lambda d: swap(d, (MODALITY, MODALITY + 20000 * NESTED)), f"deeper than {DEEPEST}"),
    "200000 elements": (
        "plain", lambda d: swap(d, (MODALITY, MODALITY + NESTED + 200_000 * element(8, 0x60, "CS", b""))), "more than 100000",
    ),
    "a deflated file cut off": ("plain", lambda d: deflated(d)[:-100], "its deflated part ends too early"),
    "270 MB deflated": ("plain", huge_zeros, "unpacks to more than 256 MiB"),
    "nothing": ("plain", lambda d: b"", "the mark DICM is not at its place"),
    "the mark alone": ("plain", lambda d: d[:132], "does not name its transfer syntax"),
    "half a header": ("plain", lambda d: d[:180], "cannot be read as DICOM"),
    "garbage behind the pixels": ("plain", lambda d: d + b"something else", "cannot be read as DICOM"),
    "pixels of 0 mm": ("plain", lambda d: d.replace(b"0.7\\0.6", b"0.0\\0.6"), "has pixels of 0 x 0.6 mm"),
    "pixels of nan mm": ("plain", lambda d: d.replace(b"0.7\\0.6", b"nan\\0.6"), "lacks its position"),
    "skew axes": ("plain", lambda d: d.replace(b"0\\1\\0\\0\\0\\-1", b"0\\1\\0\\0\\1\\0 "), "two perpendicular unit vectors"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_and_no_decoder(name, files, tmp_path):
    base, spoil, words = HOSTILE[name]
    path = tmp_path / "spoiled.dcm"
    path.write_bytes(spoil(files[base]))
    start = time.monotonic()
    with pytest.raises(DataError, match=words) as caught:
        read_header(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("base", ["plain", "rle", "j2k", "jpeg"])
def test_files_cut_anywhere_are_refused(base, files, tmp_path):
    path = tmp_path / "cut.dcm"
    for end in range(0, len(files[base]) - 1, 37):
        path.write_bytes(files[base][:end])
        with pytest.raises(DataError):
            read_header(path)


def test_random_bytes_never_end_in_another_error(files, tmp_path):
    rng, path = np.random.default_rng(11), tmp_path / "spoiled.dcm"
    for k in range(400):
        data = bytearray(files[("plain", "rle", "j2k", "jpeg")[k % 4]])
        for place in rng.integers(132, min(len(data), 900), 3):
            data[place] = int(rng.integers(256))
        path.write_bytes(bytes(data))
        try:
            read_header(path)
        except DataError as error:
            assert "\n" not in str(error)


def test_whole_files_pass(files, tmp_path):
    """Deflated, big endian, implicit, with sequences of either length, and with signed pixels."""
    path, plain = tmp_path / "1.dcm", files["plain"]
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(MODALITY)) + MODALITY
    closed = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, len(item)) + item
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    opened = NESTED.replace(b"\x40\x11", b"\x50\x11") + MODALITY + b"".join(ends)
    for data in (
        plain,
        deflated(plain),
        recoded(plain, IMPLICIT),
        recoded(plain, BIG_ENDIAN),
        swap(plain, (MODALITY, MODALITY + closed + opened)),
    ):
        path.write_bytes(data)
        np.testing.assert_array_equal(read_pixels(read_header(path)), PIXELS)
    path.write_bytes(swap(plain, (us(0x103, 0), us(0x103, 1))))
    found = read_pixels(read_header(path))
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, PIXELS.astype(np.int16))
    path.write_bytes(plain)
    header = read_dicom_header(path)
    assert (header.shape, header.pixel_bytes, header.packed) == ((24, 18), 864, False)
    assert header.syntax_name == f"{TRANSFER_SYNTAXES[PLAIN]} ({PLAIN})" and header.text(0x00080060) == "MR"


def test_tiny_pictures_are_written_plain(tmp_path: Path):
    """GDCM's JPEG 2000 encoder ends the process on them."""
    pixels = PIXELS[:5, :6]
    write_slice(tmp_path / "1.dcm", pixels, UPRIGHT, TAGS, "JPEG2000")
    assert min(pixels.shape) < SMALLEST_PACKED
    np.testing.assert_array_equal(read_pixels(read_header(tmp_path / "1.dcm")), pixels)
