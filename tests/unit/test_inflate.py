"""Compressed MetaImages whose voxels are inflated here: the same as SimpleITK reads, or no voxel at all."""

import math
import re
import tracemalloc
import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st

from spider_utils.data import inflate as module
from spider_utils.data import volumes
from spider_utils.data.inflate import adler32, inflate
from spider_utils.data.volumes import read_volume
from spider_utils.errors import DataError

needs_deflate = pytest.mark.skipif(module.deflate is None, reason="deflate is not installed: ITK inflates")
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
SIZE = (5, 4, 3)  # ITK's order
NOISE = np.random.default_rng(0).integers(0, 100, SIZE[::-1])


def metaimage(path, voxels, kind, packed=True, size=SIZE, **fields):
    """A MetaImage written by hand; ``voxels`` are bytes."""
    data = zlib.compress(voxels) if packed else voxels
    lines = {"ObjectType": "Image", "NDims": len(size), "DimSize": " ".join(map(str, size)), "ElementType": kind}
    lines |= {"CompressedData": packed, **({"CompressedDataSize": len(data)} if packed else {}), **fields}
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    path.write_bytes(text.encode() + b"ElementDataFile = LOCAL\n" + data)
    return path


def forbid_itk(monkeypatch):
    monkeypatch.setattr(volumes.sitk, "ReadImage", lambda *args: pytest.fail("read by ITK"))


def assert_as_itk_reads(path):
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    wanted = volumes.from_image(image if image.GetDimension() == 3 else image[:, :, :, 0])
    assert volume.array.dtype == wanted.array.dtype and volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, wanted.array)
    assert (volume.stored, volume.spacing, volume.origin) == (wanted.stored, wanted.spacing, wanted.origin)
    np.testing.assert_array_equal(volume.direction, wanted.direction)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("kind", TYPES)
def test_voxels_of_every_type_and_order_are_those_of_itk(tmp_path, kind, order, packed):
    voxels = NOISE.astype(order + TYPES[kind]).tobytes()
    assert_as_itk_reads(metaimage(tmp_path / "a.mha", voxels, kind, packed, BinaryDataByteOrderMSB=order == ">"))


@needs_deflate
@pytest.mark.parametrize("kind", [kind for kind in TYPES if "LONG" not in kind])
def test_voxels_of_usual_types_are_inflated_here(tmp_path, monkeypatch, kind):
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<" + TYPES[kind]).tobytes(), kind)
    wanted = volumes.from_image(sitk.ReadImage(str(path))).array
    forbid_itk(monkeypatch)
    volume = read_volume(path, copy=False)
    np.testing.assert_array_equal(volume.array, wanted)
    assert not volume.array.flags.writeable


@given(st.data())
def test_geometry_is_that_of_itk(tmp_path_factory, data):
    number = st.floats(-500, 500)
    turn, _ = np.linalg.qr(np.reshape(data.draw(st.lists(st.floats(-1, 1), min_size=9, max_size=9)), (3, 3)) + 3 * np.eye(3))
    axes = data.draw(st.permutations(range(3)))
    step = data.draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    fields = {
        "TransformMatrix": " ".join(map(repr, turn[axes].reshape(-1).tolist())),
        data.draw(st.sampled_from(["Offset", "Position", "Origin"])): " ".join(map(repr, data.draw(st.tuples(*[number] * 3)))),
        data.draw(st.sampled_from(["ElementSpacing", "ElementSize"])): " ".join(map(repr, step)),
    }
    if data.draw(st.booleans()):  # what says something of values, or of nothing
        fields |= {"ElementToIntensityFunctionSlope": 2, "ElementToIntensityFunctionOffset": 7, "AnatomicalOrientation": "RAI"}
    path = tmp_path_factory.getbasetemp() / "geometry.mha"
    assert_as_itk_reads(metaimage(path, NOISE.astype("<i2").tobytes(), "MET_SHORT", **fields))


@pytest.mark.parametrize("size", [(10, 6), (5, 4, 3, 1), (5, 4, 1, 3)], ids=str)
def test_other_numbers_of_dimensions_are_left_to_itk(tmp_path, size):
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<i2").tobytes(), "MET_SHORT", size=size)
    if len(size) == 4 and size[3] == 1:
        assert_as_itk_reads(path)
    else:
        with pytest.raises(DataError, match=f"holds {len(size)} dimensions"):
            read_volume(path)


def test_several_values_a_voxel_are_refused(tmp_path):
    voxels = np.repeat(NOISE, 3).astype("<i2").tobytes()
    with pytest.raises(DataError, match="3 values a voxel"):
        read_volume(metaimage(tmp_path / "a.mha", voxels, "MET_SHORT", ElementNumberOfChannels=3))


def test_axes_that_lie_in_a_plane_are_refused(tmp_path):
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<i2").tobytes(), "MET_SHORT", TransformMatrix="1 0 0 1 0 0 0 0 1")
    with pytest.raises(DataError):
        read_volume(path)


def test_every_damaged_byte_of_a_stream_is_noticed(tmp_path):
    data = zlib.compress(NOISE.astype("<i2").tobytes())
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<i2").tobytes(), "MET_SHORT")
    whole, wanted = path.read_bytes(), read_volume(path).array
    for place in range(len(whole) - len(data), len(whole)):
        for bit in (0, 6):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                volume = read_volume(path)
            except DataError:
                continue
            # Bits that mean nothing, as the level of compression, may change.
            np.testing.assert_array_equal(volume.array, wanted)


# --------------------------------------------------------------------------------------------------------------- the stream alone


@needs_deflate
@pytest.mark.parametrize("count", [1, 1000, (1 << 18) + 1])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_stream_between_other_bytes(tmp_path, count, level):
    wanted = np.random.default_rng(count).integers(0, 9, count, np.uint8)
    data, path = zlib.compress(wanted.tobytes(), level), tmp_path / "a"
    path.write_bytes(b"before" + data + b"behind")
    np.testing.assert_array_equal(inflate(path, 6, len(data), count), wanted)
    for wrong in ((6, len(data) + 1, count), (6, len(data) - 1, count), (6, len(data), count + 1), (6, len(data), count - 1)):
        assert inflate(path, *wrong) is None
    assert inflate(path, 5, len(data) + 1, count) is None


@needs_deflate
def test_of_a_stream_that_holds_too_much_little_is_inflated(tmp_path, monkeypatch):
    """A thousand times as much as its own length: room is asked for what the header announces, and for no more."""
    path, rooms, real = tmp_path / "a", [], module.deflate.zlib_decompress
    data = zlib.compress(bytes(1 << 24))
    path.write_bytes(data)
    monkeypatch.setattr(module.deflate, "zlib_decompress", lambda stream, room: (rooms.append(room), real(stream, room))[1])
    tracemalloc.start()
    try:
        assert inflate(path, 0, len(data), 1000) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert rooms == [1000]


@needs_deflate
def test_no_room_is_made_for_what_cannot_be_there(tmp_path, monkeypatch):
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<i2").tobytes(), "MET_SHORT", size=(900, 900, 9))
    monkeypatch.setattr(module.deflate, "zlib_decompress", lambda *args: pytest.fail("room was made"))
    forbid_itk(monkeypatch)
    with pytest.raises(DataError, match="announces"):
        read_volume(path)


@needs_deflate
def test_what_follows_a_whole_stream_is_noticed(tmp_path):
    """libdeflate itself stops at the checksum."""
    wanted, path = NOISE.astype(np.uint8).reshape(-1), tmp_path / "a"
    data = zlib.compress(wanted.tobytes())
    for more in (b"\0", b"12345678", data[:-1]):
        path.write_bytes(data + more)
        assert module.deflate.zlib_decompress(data + more, wanted.size) == wanted.tobytes()
        assert inflate(path, 0, len(data + more), wanted.size) is None


@pytest.mark.parametrize("said", [b"", b"CompressedDataSize = 0\n"])
def test_a_stream_of_unknown_length_is_refused_with_and_without_deflate(tmp_path, monkeypatch, said):
    """ITK takes such a file, and gives voxels that are not in it."""
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<i2").tobytes(), "MET_SHORT")
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+\n", said, path.read_bytes()))
    for inflater in (module.deflate, None):
        monkeypatch.setattr(module, "deflate", inflater)
        with pytest.raises(DataError, match="how many bytes"):
            read_volume(path)


def test_without_deflate_itk_inflates_the_same(tmp_path, monkeypatch):
    path = metaimage(tmp_path / "a.mha", NOISE.astype("<i2").tobytes(), "MET_SHORT")
    before, calls, real = read_volume(path), [], sitk.ReadImage
    monkeypatch.setattr(module, "deflate", None)
    monkeypatch.setattr(volumes.sitk, "ReadImage", lambda path: (calls.append(path), real(path))[1])
    np.testing.assert_array_equal(read_volume(path).array, before.array)
    assert len(calls) == 1


@pytest.mark.parametrize("shape", [(0,), (1,), (300, 7)])
def test_the_checksum_is_that_of_zlib(monkeypatch, shape):
    data = np.full(shape, 255, np.uint8) if math.prod(shape) else np.zeros(shape, np.uint8)
    assert adler32(data) == zlib.adler32(data.tobytes())
    monkeypatch.setattr(module, "deflate", None)
    assert adler32(data) == zlib.adler32(data.tobytes())
