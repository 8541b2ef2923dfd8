"""DICOM slices: packings, negatives and rescaling, blocks of slices, and geometry there and back."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.dicom import block_image, read_header, read_pixels, sort_into_blocks
from spider_utils.data.dicom_write import PACKINGS, SliceGeometry, write_slice
from spider_utils.data.volumes import from_image, kit_direction, read_volume
from spider_utils.errors import DataError

PIXELS = np.random.default_rng(5).integers(0, 65536, (24, 18), dtype=np.uint16)
UPRIGHT = SliceGeometry(
    np.array([12.5, -40.25, 61.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0]), (0.7, 0.6), 4.0, 4.4
)
TAGS = {"0020|000d": "2.25.1", "0020|000e": "2.25.1.2", "0020|0013": "7", "0008|0020": "20240101", "0008|0030": "000000"}


def element(group: int, number: int, kind: str, value: bytes) -> bytes:
    """One data element, explicit VR little endian (DICOM PS3.5, section 7.1.2)."""
    value += (b"\0" if kind in ("UI", "OB", "OW") else b" ") * (len(value) % 2)
    long = kind in ("OB", "OW")
    return (
        struct.pack("<HH2s", group, number, kind.encode())
        + struct.pack("<HI" if long else "<H", *([0] * long), len(value))
        + value
    )


def packed_file(path: Path, pixels: np.ndarray, syntax: str, data: bytes | None, **more: bytes) -> Path:
    """A DICOM file as the standard builds it, byte by byte. ``data``: one encapsulated frame, or None for plain pixels."""
    meta = element(2, 0x10, "UI", syntax.encode())
    body = element(0x08, 0x60, "CS", b"MR") + element(0x20, 0x13, "IS", b"3")
    body += element(0x20, 0x32, "DS", b"1\\2\\3") + element(0x20, 0x37, "DS", b"0\\1\\0\\0\\0\\-1")
    body += element(0x28, 0x02, "US", struct.pack("<H", 1)) + element(0x28, 0x04, "CS", more.get("photometric", b"MONOCHROME2"))
    for number, value in ((0x10, pixels.shape[0]), (0x11, pixels.shape[1])):
        body += element(0x28, number, "US", struct.pack("<H", value))
    body += element(0x28, 0x30, "DS", b"0.7\\0.6")
    bits = int(more.get("bits", b"16"))
    for number, value in ((0x100, 16), (0x101, bits), (0x102, bits - 1), (0x103, 0)):
        body += element(0x28, number, "US", struct.pack("<H", value))
    for number, name in ((0x1052, "intercept"), (0x1053, "slope")):
        body += element(0x28, number, "DS", more[name]) if name in more else b""
    if data is None:
        body += element(0x7FE0, 0x10, "OW", pixels.astype("<u2").tobytes())
    else:
        data += b"\0" * (len(data) % 2)
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data
        start = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
        body += start + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path.write_bytes(b"\0" * 128 + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body)
    return path


def run_lengths(pixels: np.ndarray) -> bytes:
    """RLE of DICOM PS3.5, annex G: high bytes, then low bytes, in literal runs of at most 128 that end with each row."""
    segments = []
    for part in (pixels >> 8, pixels & 255):
        rows = part.astype(np.uint8)
        runs = [row[k : k + 128].tobytes() for row in rows for k in range(0, len(row), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\x80" * (len(segment) % 2))
    head = struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13)
    return head + b"".join(segments)


@pytest.mark.parametrize("packing", PACKINGS)
def test_lossless_packings_keep_every_bit(packing, tmp_path):
    path = tmp_path / "1.dcm"
    write_slice(path, PIXELS, UPRIGHT, TAGS, packing)
    one = read_header(path)
    found = read_pixels(one)
    assert found.dtype == np.uint16 and np.array_equal(found, PIXELS)
    names = {None: "Implicit VR Little Endian", "JPEG2000": "JPEG 2000 Lossless", "JPEG": "JPEG Lossless, first-order prediction"}
    assert one.syntax.startswith(names[packing])
    assert (one.instance, one.series, one.shape, one.gap_mm) == (7, "2.25.1.2", (24, 18), 4.4)
    np.testing.assert_allclose(one.point(3, 5), (12.5, -40.25 + 3 * 0.6, 61.0 - 5 * 0.7), err_msg="x runs along columns")


def test_run_length_packing(tmp_path):
    path = packed_file(tmp_path / "r.dcm", PIXELS, "1.2.840.10008.1.2.5", run_lengths(PIXELS))
    assert np.array_equal(read_pixels(read_header(path)), PIXELS)
    assert read_header(path).syntax == "RLE Lossless (1.2.840.10008.1.2.5)"
    np.testing.assert_array_equal(read_volume(path).array[0], PIXELS)


def test_pydicom_reads_the_same(tmp_path):
    write_slice(tmp_path / "1.dcm", PIXELS, UPRIGHT, TAGS, None)
    packed_file(tmp_path / "2.dcm", PIXELS, "1.2.840.10008.1.2.5", run_lengths(PIXELS))
    for name in ("1.dcm", "2.dcm"):
        np.testing.assert_array_equal(pydicom.dcmread(tmp_path / name).pixel_array, PIXELS)
    found = pydicom.dcmread(tmp_path / "1.dcm")
    assert (found.Modality, found.InstanceNumber, found.BitsAllocated, found.StudyInstanceUID) == ("MR", 7, 16, "2.25.1")
    assert [float(v) for v in found.ImageOrientationPatient] == [0, 1, 0, 0, 0, -1]
    assert [float(v) for v in found.PixelSpacing] == [0.7, 0.6]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"photometric": b"MONOCHROME1", "bits": b"12"}, lambda p: 4095 - p),
        ({"photometric": b"MONOCHROME1", "bits": b"12", "slope": b"2", "intercept": b"-100"}, lambda p: (4095 - p) * 2 - 100),
        ({"slope": b"2", "intercept": b"-100", "bits": b"12"}, lambda p: 2 * p - 100),
        ({"slope": b"0.5", "intercept": b"3", "bits": b"12"}, lambda p: 0.5 * p + 3),
    ],
    ids=["negative", "negative, rescaled", "rescaled", "rescaled to halves"],
)
def test_negatives_are_turned_and_values_rescaled(more, wanted, tmp_path):
    pixels = PIXELS >> 4
    path = packed_file(tmp_path / "1.dcm", pixels, "1.2.840.10008.1.2.1", None, **more)
    np.testing.assert_array_equal(read_pixels(read_header(path)).astype(float), wanted(pixels.astype(float)))


def test_what_cannot_be_decoded_is_named_with_its_transfer_syntax(tmp_path):
    path = packed_file(tmp_path / "h.dcm", PIXELS, "1.2.840.10008.1.2.4.201", b"\xff\x4f no such thing")
    with pytest.raises(
        DataError, match=r"h\.dcm: its pixels cannot be decoded; transfer syntax High-Throughput JPEG 2000 Lossless"
    ):
        read_pixels(read_header(path))
    path = packed_file(tmp_path / "x.dcm", PIXELS, "1.2.840.10008.1.2.4.90", b"\xff\x4f damaged")
    with pytest.raises(DataError, match=r"x\.dcm: .*JPEG 2000 Lossless \(1\.2\.840\.10008\.1\.2\.4\.90\)") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def angled(degrees: float, k: int, middle: float) -> SliceGeometry:
    """Slice k of an axial block tilted about the left-right axis."""
    tilt = np.radians(degrees)
    along_column = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    normal = np.cross([1.0, 0.0, 0.0], along_column)
    return SliceGeometry(
        np.array([-5.0, 0.0, middle]) - 4.4 * k * normal, np.array([1.0, 0, 0]), along_column, (0.7, 0.7), 4.0, 4.4
    )


def test_a_series_angled_at_every_disc_falls_into_blocks(tmp_path):
    """Three blocks of three slices, one of them of the first one's angle; files in disorder; a doubled slice; a gap."""
    instance, wanted = 0, {}
    for block, (degrees, middle, places) in enumerate(
        ((10, 60, (0, 1, 2)), (-15, 20, (0, 1, 2)), (10, -20, (0, 1, 2, 5)), (0, 0, (0,)))
    ):
        for k in places:
            instance += 1
            wanted.setdefault((block, k > 3), []).append(instance)
            name = tmp_path / f"{(instance * 5) % 13}.dcm"
            write_slice(name, PIXELS + np.uint16(instance), angled(degrees, k, middle), TAGS | {"0020|0013": str(instance)}, None)
    doubled = angled(-15, 1, 20)
    write_slice(tmp_path / "twin.dcm", PIXELS, doubled, TAGS | {"0020|0013": "30"}, None)
    blocks = sort_into_blocks([read_header(path) for path in sorted(tmp_path.iterdir())])
    found = [sorted(one.instance for one in block) for block in blocks]
    assert found == [*sorted(wanted.values()), [30]]
    for block in blocks[:3]:
        image = block_image(block)
        # From below upwards along the normal: instance numbers fall.
        assert [one.instance for one in block] == sorted((one.instance for one in block), reverse=True)
        np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.7, 4.4), rtol=1e-5)
        for k, one in enumerate(block):
            np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((3, 2, k)), one.point(3, 2), atol=1e-4)
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[k], PIXELS + np.uint16(one.instance))


def test_parallel_blocks_that_overlap_along_their_normal_stay_apart(tmp_path):
    """Two discs of one tilt: the lower block's first slice lies between the upper one's last two, 25 mm further back."""
    for block in range(2):
        for k in range(3):
            one = angled(20, k, 40)
            along_column = np.asarray(one.along_column)
            normal = np.cross(one.along_row, along_column)
            place = one.position - block * (6.6 * normal - 25 * along_column)
            geometry = SliceGeometry(place, one.along_row, along_column, (0.7, 0.7), 4.0, 4.4)
            instance = str(1 + 3 * block + k)
            write_slice(tmp_path / f"{instance}.dcm", PIXELS, geometry, TAGS | {"0020|0013": instance}, None)
    blocks = sort_into_blocks([read_header(path) for path in tmp_path.iterdir()])
    assert [sorted(one.instance for one in block) for block in blocks] == [[1, 2, 3], [4, 5, 6]]


def test_slices_are_sorted_by_position_not_by_number(tmp_path):
    for k, instance in enumerate((4, 1, 3, 2)):
        geometry = SliceGeometry(
            UPRIGHT.position - [4.4 * k, 0, 0], UPRIGHT.along_row, UPRIGHT.along_column, UPRIGHT.pixel_mm, 4.0, 4.4
        )
        write_slice(tmp_path / f"{instance}.dcm", PIXELS + np.uint16(k), geometry, TAGS | {"0020|0013": str(instance)})
    block = sort_into_blocks([read_header(path) for path in tmp_path.iterdir()])[0]
    assert [one.instance for one in block] == [4, 1, 3, 2]
    volume = from_image(block_image(block))
    np.testing.assert_array_equal(volume.array, np.stack([PIXELS + np.uint16(k) for k in range(4)]))
    np.testing.assert_allclose(volume.direction, kit_direction())
    np.testing.assert_allclose(volume.origin, UPRIGHT.position)
    np.testing.assert_allclose(volume.spacing, (4.4, 0.7, 0.6))
    np.testing.assert_array_equal(read_volume(tmp_path).array, volume.array)


def test_only_uint16_pictures_are_written(tmp_path):
    for wrong in (PIXELS.astype(np.int16), PIXELS[None]):
        with pytest.raises(ValueError, match="a slice must be a uint16 picture"):
            write_slice(tmp_path / "1.dcm", wrong, UPRIGHT, TAGS)
    with pytest.raises(DataError, match="cannot be written"):
        write_slice(tmp_path / "nowhere" / "1.dcm", PIXELS, UPRIGHT, TAGS)
