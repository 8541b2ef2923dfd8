"""DICOM: single slices, folders of one series, zips of them, and the tree of a study."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random

import numpy as np

from spider_utils.data.dicom import read_header, read_pixels
from spider_utils.data.dicom_write import SliceGeometry, write_slice
from spider_utils.data.rsna import RsnaSet
from spider_utils.data.volumes import read_volume
from tests.fuzz.checks import check_volume, upload_call, write_again
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import ODD_NUMBERS, ODD_TEXTS, spoil_bytes

_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN")
_SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.5", "1.2.3", "", "x",
)  # fmt: skip
_TEXTS = {  # tags whose values are numbers in text, or names
    0x00200032: ("0\\0", "nan\\0\\0", "1e400\\0\\0", "1e300\\1e300\\1e300", "0\\0\\0\\0"),
    0x00200037: ("1\\0\\0\\0\\1", "0\\0\\0\\0\\0\\0", "nan\\0\\0\\0\\1\\0", "1\\0\\0\\1\\0\\0", "2\\0\\0\\0\\2\\0"),
    0x00280030: ("0\\0", "-1\\1", "nan\\1", "1e-300\\1e-300", "1e300\\1", "1"),
    0x00200013: ("-1", "1.5", "999999999999", "9" * 13, "one"),
    0x00280008: ("0", "2", "-1", "99999999", "1.0"),
    0x00281053: ("0", "nan", "1e308", "-1", "1e-308", "inf"),
    0x00281052: ("nan", "1e308", "-99999"),
    0x00280004: ("MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL", ""),
    0x00180088: ("0", "-1", "nan", "1e300"),
    0x00180050: ("0", "nan"),
    0x0020000E: ("", "1.2.3", "../../x"),
    0x00101010: ("045Y", "999Y", "-01Y", "Y"),
    0x0008103E: ("../../x", "\x1b[31m", "a" * 500),
}  # fmt: skip
_SHORTS = (0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103)
_SHORT_VALUES = (0, 1, 2, 3, 7, 8, 11, 12, 15, 16, 17, 18, 24, 31, 32, 64, 255, 5000, 40_000, 65_535)
_HEAD = b"\0" * 128 + b"DICM"
Element = tuple[int, bytes, bytes]


def _elements(data: bytes) -> list[Element]:
    """(tag, value representation, value) of a plain explicit file, the meta elements as well."""
    found, place = [], 132
    while place < len(data):
        group, number, kind = struct.unpack_from("<HH2s", data, place)
        if kind in _LONG:
            length, start = struct.unpack_from("<I", data, place + 8)[0], place + 12
        else:
            length, start = struct.unpack_from("<H", data, place + 6)[0], place + 8
        if length == 0xFFFFFFFF:  # packed pixels reach to the end
            length = len(data) - start
        found.append((group << 16 | number, kind, data[start : start + length]))
        place = start + length
    return found


def _bytes(elements: list[Element], packed: bool) -> bytes:
    parts = [_HEAD]
    for tag, kind, value in elements:
        value += b" " * (len(value) % 2 if tag != 0x7FE00010 else 0)
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind)
        length = 0xFFFFFFFF if packed and tag == 0x7FE00010 else len(value)
        parts.append(head + (struct.pack("<HI", 0, length) if kind in _LONG else struct.pack("<H", min(length, 65_535))) + value)
    return b"".join(parts)


def whole(folder: Path) -> dict[str, list[list[Element]]]:
    """Series of three slices of 20 x 18: plain, JPEG 2000 and lossless JPEG, as their data elements."""
    random, made = np.random.default_rng(0), {}
    for name, packing in (("plain", None), ("j2k", "JPEG2000"), ("jpeg", "JPEG")):
        made[name] = []
        for k in range(3):
            geometry = SliceGeometry(
                np.array([4.0 * k, 10.0, 20.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0]), (0.9, 0.8), 3.5, 4.0
            )
            pixels = (random.integers(0, 99, (20, 18)) + 100 * k).astype(np.uint16)
            path = folder / f"{name}{k}.dcm"
            tags = {"0020|0013": str(k + 1), "0020|000e": "1.2.3.4", "0020|000d": "1.2.3", "0008|103e": "Sagittal T2"}
            write_slice(path, pixels, geometry, tags, packing)
            made[name].append(_elements(path.read_bytes()))
    return made


def spoil(random: Random, folder: Path, whole: dict[str, list[list[Element]]]) -> dict[str, Call]:
    """One slice of a series, now and then two, with odd data elements or other bytes; files lacking, doubled, or no DICOM."""
    packing = random.choice(("plain", "plain", "j2k", "jpeg"))
    files = [_bytes(one, packing != "plain") for one in whole[packing]]
    for k in random.sample(range(3), random.choice((1, 1, 1, 2, 3))):
        files[k] = _spoilt(random, whole[packing][k], packing != "plain")
    way = random.random()
    if way < 0.05:
        del files[random.randrange(3)]
    elif way < 0.1:
        files.append(files[random.randrange(3)])
    elif way < 0.15:
        files.append(spoil_bytes(random, b"no picture"))
    series = folder / "train_images" / "7" / "9"
    series.mkdir(parents=True)
    paths = [series / f"{k + 1}.dcm" for k in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    worst = paths[random.randrange(len(paths))]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    _write_tables(folder)

    def picture(out: Path) -> None:
        one = read_header(worst)
        demand(read_pixels(one).shape == one.shape, "pixels of another shape than the header's")

    def study(out: Path) -> None:
        for block in RsnaSet(folder).load(7, 9).blocks:
            check_volume(block)

    return {
        "read_volume of the folder": lambda out: write_again(check_volume(read_volume(series)), out, ".nii.gz"),
        "read_pixels": picture,
        "upload of a slice": upload_call("slice.dcm", worst.read_bytes()),
        "upload of a zip": upload_call("series.zip", stream.getvalue()),
        "study": study,
    }


def _write_tables(folder: Path) -> None:
    (folder / "train.csv").write_text("study_id,spinal_canal_stenosis_l4_l5\n7,Moderate\n")
    (folder / "train_series_descriptions.csv").write_text("study_id,series_id,series_description\n7,9,Sagittal T2/STIR\n")
    (folder / "train_label_coordinates.csv").write_text(
        "study_id,series_id,instance_number,condition,level,x,y\n7,9,2,Spinal Canal Stenosis,L4/L5,9.5,8.5\n"
    )


def _spoilt(random: Random, elements: list[Element], packed: bool) -> bytes:
    elements = list(elements)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        _spoil_element(random, elements)
    data = _bytes(elements, packed)
    if random.random() < 0.06:
        start = len(_HEAD) + sum(len(v) + (12 if k in _LONG else 8) for t, k, v in elements if t >> 16 == 2)
        many = b"" if random.random() < 0.9 else b"\0" * 40_000_000
        deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = (
            data[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
            + deflater.compress(data[start:] + many)
            + deflater.flush()
        )
    if random.random() < 0.4:
        data = spoil_bytes(random, data)
    return data


def _spoil_element(random: Random, elements: list[Element]) -> None:
    if not elements:
        return
    k = random.randrange(len(elements))
    tag, kind, value = elements[k]
    way = random.random()
    if way < 0.35:
        wanted = random.choice(sorted(_TEXTS))
        odd = random.choice((*_TEXTS[wanted], random.choice(ODD_NUMBERS), random.choice(ODD_TEXTS)))[:60_000]
        _put(elements, wanted, b"DS", odd.encode("utf-8"))
    elif way < 0.55:
        _put(elements, random.choice(_SHORTS), b"US", struct.pack("<H", random.choice(_SHORT_VALUES)))
    elif way < 0.62:
        _put(elements, 0x00020010, b"UI", random.choice(_SYNTAXES).encode())
    elif way < 0.7:
        del elements[k]
    elif way < 0.76:
        elements.insert(random.randrange(len(elements) + 1), elements[k])
    elif way < 0.82:
        other = random.randrange(len(elements))
        elements[k], elements[other] = elements[other], elements[k]
    elif way < 0.88:
        elements[k] = tag, random.choice((b"OB", b"SQ", b"UN", b"FD", b"US", b"\0\0", b"zz")), value
    elif way < 0.92:  # sequences within sequences
        deep = random.choice((3, 40, 3000))
        nested = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * deep
        elements.insert(k, (0x00081140, b"SQ", nested))
    else:
        elements[k] = tag, kind, spoil_bytes(random, value)[:60_000]


def _put(elements: list[Element], tag: int, kind: bytes, value: bytes) -> None:
    for k, one in enumerate(elements):
        if one[0] == tag:
            elements[k] = tag, one[1], value
            return
    place = next((k for k, one in enumerate(elements) if one[0] > tag), len(elements))
    elements.insert(place, (tag, kind, value))
