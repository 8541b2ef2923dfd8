"""What viewers need: colour tables that they parse, and one place in space in every format."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.dicom_write import SliceGeometry, write_slice
from spider_utils.data.volumes import Volume, check_same_geometry, read_mask, read_volume, to_image, write_volume
from spider_utils.errors import DataError
from spider_utils.export.color_tables import write_color_tables
from spider_utils.labels import SCHEMES, get_scheme


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_tables_hold_every_value_with_name_and_colour(scheme: str, tmp_path: Path) -> None:
    slicer, itksnap = write_color_tables(scheme, tmp_path / "masks")
    assert (slicer.name, itksnap.name) == (f"{scheme}.ctbl", f"{scheme}-itksnap.txt")
    wanted = get_scheme(scheme)

    lines = [line.split() for line in slicer.read_text().splitlines() if not line.startswith("#")]
    assert slicer.read_text().startswith("# Color table file")
    assert all(len(line) == 6 for line in lines), "names hold no space"
    found = {int(v): (name.replace("_", " "), tuple(map(int, rgb)), int(a)) for v, name, *rgb, a in lines}
    assert found == {v: (n, wanted.colors[v], 255 if v else 0) for v, n in wanted.names.items()}

    lines = [line for line in itksnap.read_text().splitlines() if not line.startswith("#")]
    parsed = [re.fullmatch(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([01])\s+([01])\s+([01])\s+"([^"]+)"', line) for line in lines]
    found = {int(m[1]): (m[8], tuple(int(m[k]) for k in (2, 3, 4)), m[5] + m[6] + m[7]) for m in parsed}
    assert found == {v: (n if v else "Clear Label", wanted.colors[v], "111" if v else "000") for v, n in wanted.names.items()}


def test_the_command_and_its_errors(tmp_path: Path) -> None:
    said = CliRunner().invoke(cli.app, ["export", "colors", "levels20", "--out", str(tmp_path)])
    assert said.exit_code == 0 and said.output.split() == [
        str(tmp_path / name) for name in ("levels20.ctbl", "levels20-itksnap.txt")
    ]
    with pytest.raises(ValueError, match="unknown label scheme 'levels'"):
        write_color_tables("levels", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file, not a folder"):
        write_color_tables("levels20", tmp_path / "file")


# --------------------------------------------------------------------------------------------- one place, whatever the format


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """Turned about x, then y, then z, in degrees."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        one, other = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[other, one], turn[one, other] = np.sin(angle), -np.sin(angle)
        matrix = turn @ matrix
    return matrix


def oblique(
    angles: tuple[float, float, float], spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> sitk.Image:
    """A mask whose voxels all lie at different distances; fastest axis back, then down, then right, before it is turned."""
    array = np.random.default_rng(1).choice((0, 3, 100, 204), (5, 7, 6)).astype(np.uint8)
    array[0, 0, 0] = 7
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection((rotation(angles) @ np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]])).reshape(-1).tolist())
    return image


def nifti_voxels(path: Path) -> dict[tuple[float, ...], int]:
    """LPS place -> value of every voxel, from the bytes of a NIfTI-1 file by its sform (nifti1.h), without any library."""
    data = gzip.decompress(path.read_bytes())
    sizes = struct.unpack_from("<8h", data, 40)
    assert struct.unpack_from("<h", data, 70) == (2,) and struct.unpack_from("<h", data, 254)[0] > 0  # uint8; sform is set
    (start,) = struct.unpack_from("<f", data, 108)
    affine = np.reshape(struct.unpack_from("<12f", data, 280), (3, 4)).astype(float)
    array = np.frombuffer(data, np.uint8, offset=int(start)).reshape(sizes[3:0:-1])
    index = np.argwhere(np.ones_like(array))[:, ::-1]
    places = index @ affine[:, :3].T + affine[:, 3]
    places[:, :2] *= -1  # NIfTI counts to the right and to the front
    return dict(zip(map(tuple, places.round(2).tolist()), array.reshape(-1).tolist(), strict=True))


def itk_voxels(image: sitk.Image) -> dict[tuple[float, ...], int]:
    """LPS place -> value of every voxel, by ITK."""
    array = sitk.GetArrayFromImage(image)
    index = np.argwhere(np.ones_like(array))[:, ::-1]
    axes = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    places = index @ axes.T + image.GetOrigin()
    return dict(zip(map(tuple, places.round(2).tolist()), array.reshape(-1).tolist(), strict=True))


def assert_same_voxels(found: dict[tuple[float, ...], int], wanted: dict[tuple[float, ...], int]) -> None:
    """The same values at the same places, to 0.02 mm; places are the keys, so order of axes does not matter."""
    places, values = np.array(list(wanted)), np.array(list(wanted.values()))
    theirs, numbers = np.array(list(found)), np.array(list(found.values()))
    nearest = np.linalg.norm(places[:, None] - theirs[None], axis=2)
    assert nearest.min(axis=1).max() < 0.02 and len(places) == len(theirs)
    np.testing.assert_array_equal(numbers[nearest.argmin(axis=1)], values)


GRIDS = st.tuples(
    st.tuples(*[st.floats(-40, 40)] * 3),
    st.tuples(st.floats(0.3, 1.2), st.floats(0.3, 1.2), st.floats(0.8, 5.0)),
    st.tuples(*[st.floats(-200, 200)] * 3),
)


@given(GRIDS)
def test_a_mask_lies_where_it_lay_in_every_format(tmp_path_factory: pytest.TempPathFactory, grid: tuple) -> None:
    """.mha, .nii.gz, .nrrd and back, oblique and anisotropic, against ITK's own reading and the bare bytes of the NIfTI file."""
    folder, source = tmp_path_factory.mktemp("formats"), oblique(*grid)
    sitk.WriteImage(source, str(folder / "first.mha"))
    wanted, volume = itk_voxels(source), read_mask(folder / "first.mha")
    for name in ("a.nii.gz", "b.nrrd", "c.mha"):
        volume = read_mask(write_volume(volume, folder / name))
        check_same_geometry(read_mask(folder / "first.mha"), volume)
        assert_same_voxels(itk_voxels(sitk.ReadImage(str(folder / name))), wanted)
    assert_same_voxels(nifti_voxels(folder / "a.nii.gz"), wanted)


def test_a_series_and_its_mask_lie_in_one_place(tmp_path: Path) -> None:
    """DICOM to .nii.gz and .mha, oblique: read by ITK, each voxel lies where the series has it, by GDCM's own reader."""
    turn = rotation((11, -7, 5))
    along_row, along_column = turn @ [0, 1.0, 0], turn @ [0, 0, -1.0]
    step = 4.2 * np.cross(along_row, along_column)
    series = tmp_path / "series"
    series.mkdir()
    for k in range(4):
        pixels = np.random.default_rng(k).integers(0, 200, (9, 8), dtype=np.uint16)
        where = SliceGeometry(np.array([20, -30, 15.5]) + k * step, along_row, along_column, (0.7, 0.55), 4.0, 4.2)
        tags = {"0020|000d": "2.25.1", "0020|000e": "2.25.2", "0020|0013": str(k + 1)}
        write_slice(series / f"{k}.dcm", pixels, where, tags, None)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    wanted = itk_voxels(sitk.Cast(reader.Execute(), sitk.sitkUInt8))
    volume = read_volume(series)
    mask: Volume = volume.with_array(volume.array.astype(np.uint8))
    assert_same_voxels(itk_voxels(to_image(mask)), wanted)
    for name in ("mask.nii.gz", "mask.mha"):
        assert_same_voxels(itk_voxels(sitk.ReadImage(str(write_volume(mask, tmp_path / name)))), wanted)
        check_same_geometry(volume, read_mask(tmp_path / name))
    assert_same_voxels(nifti_voxels(tmp_path / "mask.nii.gz"), wanted)
