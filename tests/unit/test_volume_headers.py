"""Headers that ITK would guess at are refused; what other tools write is taken."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data import volumes
from spider_utils.data.integrity import check_whole, find_seal
from spider_utils.data.volume_headers import VoxelPlace, find_voxels
from spider_utils.data.volumes import read_volume
from spider_utils.errors import DataError

SHAPE = (2, 3, 4)  # slice, row, column
VOXELS = np.arange(24, dtype="<i2").reshape(SHAPE)
META = {"ObjectType": "Image", "NDims": "3", "DimSize": "4 3 2", "ElementType": "MET_SHORT"}
NRRD = {"type": "short", "dimension": "3", "sizes": "4 3 2", "encoding": "raw", "endian": "little"}


def metaimage(folder: Path, data: bytes | None = None, name: str = "a.mha", **fields: str | None) -> Path:
    """A MetaImage of VOXELS with fields changed, added or (None) left out."""
    where = {"ElementDataFile": "LOCAL"} if "ElementDataFile" not in fields else {}
    lines = [f"{key} = {value}" for key, value in (META | fields | where).items() if value is not None]
    (folder / name).write_bytes(("\n".join(lines) + "\n").encode() + (VOXELS.tobytes() if data is None else data))
    return folder / name


def nrrd(folder: Path, data: bytes | None = None, **fields: str | None) -> Path:
    """The same as NRRD; "_" in a name stands for a space."""
    named = NRRD | {key.replace("_", " "): value for key, value in fields.items()}
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in named.items() if value is not None), "", ""]
    (folder / "a.nrrd").write_bytes("\n".join(lines).encode() + (VOXELS.tobytes() if data is None else data))
    return folder / "a.nrrd"


def nifti(folder: Path, packed: bool = False, **fields: tuple) -> Path:
    """The same as NIfTI-1; fields are (place, struct code, values)."""
    head = bytearray(352)
    whole = {
        "size": (0, "<i", 348), "dim": (40, "<8h", 3, 4, 3, 2, 1, 1, 1, 1), "kind": (70, "<2h", 4, 16),
        "steps": (76, "<8f", *[1.0] * 8), "start": (108, "<f", 352.0), "magic": (344, "4s", b"n+1\0"),
    }  # fmt: skip
    for place, code, *values in (whole | fields).values():
        struct.pack_into(code, head, place, *values)
    path = folder / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(bytes(head) + VOXELS.tobytes()) if packed else bytes(head) + VOXELS.tobytes())
    return path


def test_where_the_voxels_lie(tmp_path):
    meta = metaimage(tmp_path)
    assert find_voxels(meta) == VoxelPlace(meta, meta.stat().st_size - 48, None, "", 24, 2, False)
    packed = zlib.compress(VOXELS.tobytes())
    meta = metaimage(tmp_path, packed, CompressedData="True", CompressedDataSize=str(len(packed)))
    assert find_voxels(meta) == VoxelPlace(meta, meta.stat().st_size - len(packed), len(packed), "stream", 24, 2, False)
    (tmp_path / "a.raw").write_bytes(b"head" + VOXELS.tobytes())
    for skipped, start in (("4", 4), ("-1", -48)):
        beside = metaimage(tmp_path, b"", "a.mhd", ElementDataFile=None, HeaderSize=skipped)
        with open(beside, "ab") as file:
            file.write(b"ElementDataFile = a.raw")  # no line end: many write none
        assert find_voxels(beside) == VoxelPlace(tmp_path / "a.raw", start, None, "", 24, 2, False)
    assert find_voxels(nifti(tmp_path)) == VoxelPlace(tmp_path / "a.nii", 352, None, "", 24, 2, False)
    assert find_voxels(nifti(tmp_path, packed=True)) == VoxelPlace(tmp_path / "a.nii.gz", 352, None, "file", 24, 2, False)
    made = nrrd(tmp_path)
    assert find_voxels(made) == VoxelPlace(made, made.stat().st_size - 48, None, "", 24, 2, False)
    assert find_voxels(tmp_path / "a.png") is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False"},
        {"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "-1.5 +2 3e1", "CenterOfRotation": "0 0 0", "Color": "1 1 1 1"},
        {
            "0008|103e": "T2 = sag: ä",
            "ITK_InputFilterName": "MetaImageIO",
            "Modality": "MET_MOD_MR",
            "Name": "",
            "Comment": "x y",
        },
        {"ElementSize": "1 1 1", "ElementNumberOfChannels": "1", "AnatomicalOrientation": "RAI", "ID": "-1", "HeaderSize": "0"},
    ],
)
def test_metaimages_of_other_tools_are_taken(tmp_path, fields):
    """And hold what ITK reads from them."""
    path = metaimage(tmp_path, **fields)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)
    read_volume(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"DimSize": "4 3"}, r"DimSize is '4 3', not 3"),  # ITK takes the third from the next line
        ({"DimSize": "4 3 2.0"}, "DimSize"),
        ({"DimSize": "4 0 2"}, "DimSize"),
        ({"DimSize": None}, "it lacks DimSize"),
        ({"NDims": "-1"}, "announces '-1' dimensions"),
        ({"NDims": "3 3"}, "announces '3 3' dimensions"),
        ({"ndims": "3"}, "NDims is written 'ndims'"),
        ({"ObjectType": "Mesh"}, "ObjectType is 'Mesh', not Image"),
        ({"ElementType": "MET_STRING"}, "ElementType"),
        ({"ElementSpacing": "1 1 -1"}, "3 positive numbers"),  # ITK drops the sign
        ({"ElementSpacing": "1 1 nan"}, "ElementSpacing"),
        ({"Offset": "0 0 1e400"}, "Offset"),
        ({"Offset": "0 0 ٣"}, "Offset"),
        ({"TransformMatrix": "1 0 0 0 1 0"}, "TransformMatrix .* 9 numbers"),
        ({"ElementNumberOfChannels": "1 9"}, "ElementNumberOfChannels"),
        ({"BinaryData": "maybe"}, "True or False"),
        ({"BinaryData": "False"}, "holds its voxels as text"),
        ({"HeaderSize": "-2"}, "HeaderSize"),
        ({"CompressedData": "True", "HeaderSize": "3"}, "contradict"),
        ({"ElementDataFile": "LIST"}, "several files"),
        ({"ElementDataFile": "%03d.raw 1 2 1"}, "several files"),
        ({"ElementDataFile": "/dev/zero"}, "which is no file"),
        ({"x" * 201: "1"}, "'name = value'"),
        ({"x": "\0"}, "no text"),
        ({"x": "y" * 40_000}, "line 5 is too long"),
    ],
)
def test_metaimages_that_can_be_misread_are_refused(tmp_path, fields, words):
    with pytest.raises(DataError, match=words) as caught:
        check_whole(metaimage(tmp_path, **fields))
    assert str(caught.value).isprintable() and "a.mha: " in str(caught.value)


def test_a_field_that_is_there_twice(tmp_path):
    path = metaimage(tmp_path)
    path.write_bytes(b"NDims = 2\n" + path.read_bytes())
    with pytest.raises(DataError, match="NDims is there twice"):
        find_voxels(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": (0, "<i", 540)}, "not that of a NIfTI-1 file"),
        ({"magic": (344, "4s", b"ni1\0")}, "not that of a NIfTI-1 file"),
        ({"dim": (40, "<8h", 3, 4, 3, -2, 1, 1, 1, 1)}, "3 dimensions"),
        ({"dim": (40, "<8h", 9, 4, 3, 2, 1, 1, 1, 1)}, "9 dimensions"),
        ({"kind": (70, "<2h", 32, 64)}, "type 32"),
        ({"kind": (70, "<2h", 4, 32)}, "type 4 with 32 bits"),
        ({"steps": (76, "<8f", *[0.0] * 8)}, "edges of 0, 0, 0 mm"),
        ({"code": (254, "<h", 1), "row": (280, "<f", -np.inf)}, "sform holds -inf, 0"),  # ITK never ends
        ({"code": (252, "<h", 1), "shift": (268, "<f", np.nan)}, "qform holds 0, 0, 0, nan"),
        ({"start": (108, "<f", 348.0)}, "begin at byte 348"),
        ({"start": (108, "<f", np.nan)}, "begin at byte nan"),
    ],
)
def test_niftis_that_can_be_misread_are_refused(tmp_path, fields, words):
    check_whole(nifti(tmp_path))
    for packed in (False, True):
        with pytest.raises(DataError, match=words):
            check_whole(nifti(tmp_path, packed, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"space": "left-posterior-superior", "space_directions": "(1,0,0) (0, 1, 0) (0,0,1e0)", "space_origin": "(0,-1.5,3)"},
        {"kinds": "domain domain domain", "content": "a volume", "spacings": "1 1 2", "type": "signed short"},
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_nrrds_of_other_tools_are_taken(tmp_path, fields, packed):
    path = nrrd(tmp_path, gzip.compress(VOXELS.tobytes()), encoding="gzip", **fields) if packed else nrrd(tmp_path, **fields)
    data = path.read_bytes().replace(b"\ntype", b"\n# a comment: of some tool\nkey:=value: x\ntype", 1)
    path.write_bytes(data)
    check_whole(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dimension": "99999999"}, "announces '99999999' dimensions"),
        ({"sizes": "4 3"}, "sizes is '4 3'"),
        ({"type": "block"}, "type is 'block'"),
        ({"endian": "1" * 5000}, "'endian' is too long"),  # ends ITK's process
        ({"endian": None}, "endian is ''"),
        ({"space_directions": "(1,0,0) (0,1,0) (nan,0,1)"}, "space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) 1"}, "space directions"),
        ({"space_directions": "(1,0,0) (0,1) (0,0,1)"}, "space directions"),
        ({"space_origin": "none"}, "space origin"),
        ({"encoding": "hex"}, "packs its voxels as 'hex'"),
        ({"data_file": "a.raw"}, "in other files"),
        ({"byte_skip": "-1"}, "apart from its header"),
        ({"Sizes": "4 3 2"}, "'Sizes' is there twice"),
    ],
)
def test_nrrds_that_can_be_misread_are_refused(tmp_path, fields, words):
    with pytest.raises(DataError, match=words):
        check_whole(nrrd(tmp_path, **fields))


@pytest.mark.parametrize(("change", "size"), [(lambda data: data[:-1], 47), (lambda data: data + b"x", 49)])
def test_missing_and_surplus_voxels_of_an_nrrd_are_counted(tmp_path, change, size):
    path = nrrd(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"announces 48 bytes of voxels but the file holds {size}"):
        check_whole(path)


def test_a_packed_stream_that_ends_before_its_size_is_cut(tmp_path):
    packed = zlib.compress(VOXELS.tobytes())
    path = metaimage(tmp_path, packed, CompressedData="True", CompressedDataSize=str(len(packed) - 5))
    with pytest.raises(DataError, match="cut or damaged"):
        check_whole(path)
    check_whole(path, inflate=False)


# ------------------------------------------------------------------------------------------------------- the end of a stream


def packed(folder: Path, data: bytes, length: int | None = None, **fields: str) -> Path:
    return metaimage(folder, data, CompressedData="True", CompressedDataSize=str(length or len(data)), **fields)


def test_a_whole_stream_is_inflated_once(tmp_path, monkeypatch):
    path = packed(tmp_path, zlib.compress(VOXELS.tobytes()))
    seal = find_seal(path)
    assert seal.fits(VOXELS) and not seal.fits(VOXELS + 1) and not seal.fits(VOXELS[:1])
    monkeypatch.setattr(volumes, "check_whole", lambda path: pytest.fail("inflated a second time"))
    assert read_volume(path).array.sum() == VOXELS.sum()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),  # its checksum alone
        lambda data: data[:10] + bytes([data[10] ^ 255]) + data[11:],
        lambda data: data[: len(data) // 2],
        lambda data: zlib.compress(VOXELS.tobytes() + b"x"),
        lambda data: zlib.compress(VOXELS.tobytes()[:-1]),
    ],
    ids=["checksum", "middle", "cut", "surplus", "missing"],
)
def test_a_stream_that_is_not_whole_is_refused_as_when_it_is_inflated(tmp_path, damage):
    path = packed(tmp_path, damage(zlib.compress(VOXELS.tobytes())))
    with pytest.raises(DataError) as by_inflating:
        check_whole(path)
    with pytest.raises(DataError) as by_reading:
        read_volume(path)
    assert str(by_reading.value) == str(by_inflating.value)


def test_what_no_seal_can_tell_is_inflated(tmp_path):
    data = zlib.compress(VOXELS.tobytes())
    assert find_seal(metaimage(tmp_path)) is None  # not packed
    assert find_seal(nifti(tmp_path, packed=True)) is None
    assert find_seal(packed(tmp_path, gzip.compress(VOXELS.tobytes()))) is None
    assert find_seal(packed(tmp_path, data, len(data) + 1)) is None  # the file is shorter than its header says
    assert find_seal(packed(tmp_path, data, DimSize="400 400 400")) is None  # so little cannot hold so much: no room is made
    assert find_seal(packed(tmp_path, data + bytes(10**6), DimSize="700 700 700")) is None
    with pytest.raises(DataError, match="announces 128000000 bytes of voxels but the file holds 48"):
        read_volume(packed(tmp_path, data, DimSize="400 400 400"))


def test_bytes_behind_a_stream_and_swapped_ones_are_read_as_before(tmp_path):
    for data, fields in (
        (zlib.compress(VOXELS.tobytes()) + b"more", {}),
        (zlib.compress(VOXELS.astype(">i2").tobytes()), {"BinaryDataByteOrderMSB": "True"}),
    ):
        path = packed(tmp_path, data, **fields)
        check_whole(path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)
        assert sorted(read_volume(path).array.reshape(-1)) == list(range(24))
