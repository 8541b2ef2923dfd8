"""Volumes: one set of axes in memory, the file's own grid on the way back, millimetres all along."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spider_utils.data.integrity import check_whole
from spider_utils.data.volumes import (
    Volume,
    check_same_geometry,
    from_image,
    geometry_differences,
    kit_direction,
    orientation_code,
    read_in_turn,
    read_mask,
    read_picture,
    read_volume,
    reorient_image,
    resample,
    resample_like,
    reslice_sagittal,
    stem_of,
    suffix_of,
    to_image,
    to_stored_image,
    with_pixel_size,
    write_volume,
)
from spider_utils.errors import DataError

# LPS unit vector that each letter of an orientation points to (ITK's convention: "to" the side named).
TOWARDS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
CODES = ["".join(letters) for axes in itertools.permutations(("LR", "AP", "IS")) for letters in itertools.product(*axes)]
SUFFIXES = (".mha", ".nii", ".nii.gz", ".nrrd")
ORIGIN = np.array([-7.25, 31.5, -120.125])
SPACING = np.array([3.3, 0.6, 0.7])  # slice, row, column


def rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """Rotation matrix by Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


TILTS = {"straight": np.eye(3), "oblique": rotation((1.0, 2.0, 0.5), 14)}


def stored_by_hand(anatomy: np.ndarray, code: str, tilt: np.ndarray) -> sitk.Image:
    """The anatomy (kit axes) laid down in the axes ``code``, worked out with numpy alone, without ITK's reorientation."""
    kit = "RIP"  # where the array axes slice, row, column lead to
    tilted = tilt @ kit_direction()
    order, corner, columns = [], ORIGIN.copy(), []
    flipped = anatomy
    for letter in code:  # ITK's order: fastest axis first
        axis = next(k for k, own in enumerate(kit) if letter in own + {"R": "L", "I": "S", "P": "A"}[own])
        order.append(axis)
        if letter == kit[axis]:
            columns.append(tilted[:, axis])
        else:
            flipped = np.flip(flipped, axis)
            corner = corner + tilted[:, axis] * SPACING[axis] * (anatomy.shape[axis] - 1)
            columns.append(-tilted[:, axis])
    image = sitk.GetImageFromArray(np.ascontiguousarray(flipped.transpose(order[::-1])))
    image.SetSpacing([SPACING[k] for k in order])
    image.SetOrigin(corner.tolist())
    image.SetDirection(np.stack(columns, axis=1).reshape(-1).tolist())
    return image


def header(image: sitk.Image) -> tuple:
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), image.GetPixelID()


def place(volume: Volume, index: np.ndarray) -> np.ndarray:
    """LPS mm of array indices (n, 3)."""
    return np.array(volume.origin) + (np.asarray(index) * volume.spacing) @ volume.direction.T


def test_there_are_48_orientations():
    assert len(CODES) == len(set(CODES)) == 48


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_48_axis_orders_are_one_anatomy_and_go_back_exactly(made_volume, tmp_path, suffix, tilt):
    anatomy = made_volume((4, 5, 6)).array
    corners = np.array(list(itertools.product((0, 3), (0, 4), (0, 5))))
    expected = ORIGIN + (corners * SPACING) @ (TILTS[tilt] @ kit_direction()).T
    # NIfTI keeps its header in 32-bit floats; the others keep every digit.
    digits = 2e-4 if "nii" in suffix else 1e-9
    for code in CODES:
        path, again = tmp_path / f"in_{code}{suffix}", tmp_path / f"out_{code}{suffix}"
        image = stored_by_hand(anatomy, code, TILTS[tilt])
        sitk.WriteImage(image, str(path))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, anatomy, err_msg=code)
        np.testing.assert_allclose(volume.spacing, SPACING, rtol=1e-6)
        np.testing.assert_allclose(place(volume, corners), expected, atol=digits, err_msg=code)
        assert volume.orientation == code and volume.stored.code == code
        write_volume(volume, again)
        before, after = sitk.ReadImage(str(path)), sitk.ReadImage(str(again))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after))
        if "nii" in suffix:
            assert before.GetSize() == after.GetSize() and before.GetSpacing() == after.GetSpacing()
            np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)
            np.testing.assert_allclose(after.GetOrigin(), before.GetOrigin(), atol=1e-5)
        elif suffix == ".nrrd":  # holds spacing times direction, so that the last digit of either may move
            assert before.GetSize() == after.GetSize() and before.GetOrigin() == after.GetOrigin()
            np.testing.assert_allclose(after.GetSpacing(), before.GetSpacing(), rtol=1e-14)
            np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-14)
        else:
            assert header(before) == header(after), code


@given(
    code=st.sampled_from(CODES),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    # Whole numbers make grids turned by exactly 45 degrees, where two orientation names fit equally well.
    axis=st.tuples(*[st.sampled_from([-1, 0, 1]) | st.floats(-1, 1)] * 3).filter(lambda a: np.linalg.norm(a) > 0.1),
    degrees=st.sampled_from([45, 90, -90, 180]) | st.floats(-180, 180),
)
@settings(max_examples=150)
def test_any_rotation_keeps_every_voxel_in_its_place(made_volume, code, shape, axis, degrees):
    image = stored_by_hand(made_volume(shape).array, code, rotation(axis, degrees))
    volume = from_image(image)
    stored = sitk.GetArrayFromImage(image)
    back = to_stored_image(volume)
    assert header(back) == header(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), stored)
    # Every value occurs once: where it lay before and after must be one point in the patient.
    index = np.argwhere(volume.array == stored[0, 0, 0])[0]
    np.testing.assert_allclose(place(volume, index), image.GetOrigin(), atol=1e-6)


@pytest.mark.parametrize("tilt", [*TILTS.values(), rotation((1, 0, 0), 45), rotation((1, 1, 1), 60), rotation((0, 0, 1), -135)])
@pytest.mark.parametrize("copy", [True, False])
def test_axes_are_turned_as_itk_turns_them_to_the_last_digit(made_volume, tilt, copy):
    for code in CODES:
        image = stored_by_hand(made_volume((3, 4, 5)).array, code, tilt)
        volume, wanted = from_image(image, copy=copy), reorient_image(image, "PIR")
        np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(wanted))
        assert (volume.spacing, volume.origin) == (wanted.GetSpacing()[::-1], wanted.GetOrigin())
        np.testing.assert_array_equal(volume.direction[:, ::-1].reshape(-1), wanted.GetDirection())


def test_a_view_outlives_its_image_and_cannot_be_written_to(made_volume, tmp_path):
    made = made_volume((40, 50, 60))
    view = read_volume(write_volume(made, tmp_path / "a.mha"), copy=False).array
    np.testing.assert_array_equal(view, made.array)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0
    own = read_volume(tmp_path / "a.mha").array
    assert own.flags.c_contiguous and own.flags.writeable


def test_sagittal_slices_stand_upright(made_volume):
    """Row numbers grow downward, column numbers towards the back, slice numbers towards the patient's right."""
    volume = from_image(stored_by_hand(made_volume((4, 5, 6)).array, "LPS", np.eye(3)))
    for axis, letter in enumerate("RIP"):
        assert volume.direction[:, axis].tolist() == list(TOWARDS[letter])
    assert orientation_code(to_image(volume)) == "PIR"


def test_with_array_keeps_the_place_and_refuses_other_shapes(made_volume):
    volume = made_volume((2, 3, 4))
    other = volume.with_array(np.ones((2, 3, 4), bool))
    assert other.spacing == volume.spacing and to_image(other).GetPixelID() == sitk.sitkUInt8
    with pytest.raises(ValueError, match=r"\(2, 3, 5\) does not fit.*\(2, 3, 4\)"):
        volume.with_array(np.ones((2, 3, 5)))


def test_repr_tells_shape_spacing_orientation_and_memory(made_volume, tmp_path):
    assert repr(made_volume((5, 24, 20))) == (
        "Volume(5 x 24 x 20 (slice, row, column), 3.30 x 1.10 x 0.90 mm, stored as made, int16, 0.0 MB)"
    )
    write_volume(made_volume(), tmp_path / "a.mha")
    assert repr(read_volume(tmp_path / "a.mha")).startswith("Volume(a.mha: 5 x 24 x 20 (slice, row, column), 3.30 x 1.10")


def test_orientation_overrides_a_header_that_lies(made_volume, tmp_path):
    """Sagittal slices stored with the identity as direction: the header says LPS, the truth is PIR."""
    truth = made_volume((4, 5, 6)).array
    image = sitk.GetImageFromArray(truth)
    image.SetSpacing((0.7, 0.6, 3.3))
    image.SetOrigin((1.5, 2.5, 3.5))
    path = tmp_path / "lies.mha"
    sitk.WriteImage(image, str(path))
    assert read_volume(path).array.shape == (6, 4, 5)  # as the header has it: wrong, but never guessed
    volume = read_volume(path, orientation="PIR")
    np.testing.assert_array_equal(volume.array, truth)
    assert volume.spacing == (3.3, 0.6, 0.7) and volume.orientation == "PIR"
    write_volume(volume, tmp_path / "back.mha")
    back = sitk.ReadImage(str(tmp_path / "back.mha"))
    assert header(back) == header(image)  # the file's own grid, lie included, so that it still lies on its siblings
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), truth)


@pytest.mark.parametrize("wrong", ["", "PI", "PIA", "PIRR", "pir", "XYZ"])
def test_nonsense_orientations_are_refused(made_volume, wrong):
    with pytest.raises(ValueError, match="is not an orientation"):
        from_image(to_image(made_volume()), orientation=wrong)


@given(st.sampled_from(CODES), st.sampled_from(CODES))
def test_reorienting_there_and_back_changes_nothing(made_volume, first, second):
    image = stored_by_hand(made_volume((3, 4, 5)).array, first, np.eye(3))
    back = reorient_image(reorient_image(image, second), first)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(back.GetOrigin(), image.GetOrigin(), atol=1e-9)
    assert orientation_code(reorient_image(image, second)) == second


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_voxels_of_every_type_come_back_as_they_were(tmp_path, suffix, dtype):
    array = np.random.default_rng(1).normal(0, 50, (2, 3, 4)).astype(dtype)
    path = write_volume(Volume(array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction()), tmp_path / f"a{suffix}")
    back = read_volume(path).array
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_four_dimensions_of_one_volume_are_three(tmp_path, made_volume):
    image = to_image(made_volume((3, 4, 5)))
    sitk.WriteImage(sitk.JoinSeries(image), str(tmp_path / "one.nii.gz"))
    np.testing.assert_array_equal(read_volume(tmp_path / "one.nii.gz").array, made_volume((3, 4, 5)).array)
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(tmp_path / "two.nii.gz"))
    with pytest.raises(DataError, match="two.nii.gz: holds 4 dimensions"):
        read_volume(tmp_path / "two.nii.gz")
    sitk.WriteImage(image[:, :, 0], str(tmp_path / "flat.mha"))
    with pytest.raises(DataError, match="flat.mha: holds 2 dimensions"):
        read_volume(tmp_path / "flat.mha")
    sitk.WriteImage(sitk.Compose(image, image), str(tmp_path / "vector.mha"))
    with pytest.raises(DataError, match="vector.mha: holds 3 dimensions and 2 values a voxel"):
        read_volume(tmp_path / "vector.mha")


def test_names_with_suffixes_of_two_parts():
    assert (suffix_of("a/b.NII.GZ"), stem_of("a/b.c.nii.gz"), stem_of("12_t1.mha"), stem_of("plain")) == (
        ".nii.gz",
        "b.c",
        "12_t1",
        "plain",
    )


# ---------------------------------------------------------------------------------------------------------------- pictures


def test_gray_pictures_are_gray_however_they_are_stored(tmp_path):
    gray = np.random.default_rng(2).integers(0, 256, (7, 9), dtype=np.uint8)
    for mode in ("L", "RGB", "RGBA", "LA", "P"):
        Image.fromarray(gray).convert(mode).save(tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(read_picture(tmp_path / f"{mode}.png"), gray, err_msg=mode)
    volume = read_volume(tmp_path / "RGBA.png")
    assert volume.array.shape == (1, 7, 9) and volume.spacing == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(volume.array[0], gray)
    write_volume(volume, tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), gray)
    deep = gray.astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "deep.png").array[0], deep)


def test_colours_are_refused_rather_than_cut_down_to_red(tmp_path):
    mask = np.zeros((4, 4, 3), np.uint8)
    mask[0, 0], mask[1, 1] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(mask).save(tmp_path / "colours.png")
    with pytest.raises(DataError, match="colours.png: holds colours"):
        read_mask(tmp_path / "colours.png")


def test_a_png_holds_one_slice_of_bytes(made_volume, tmp_path):
    for volume in (made_volume((2, 4, 5), dtype=np.uint8), made_volume((1, 4, 5))):
        with pytest.raises(DataError, match="one 8-bit slice"):
            write_volume(volume, tmp_path / "a.png")
    with pytest.raises(DataError, match="'.jpg' cannot be written"):
        write_volume(made_volume(), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------------- DICOM

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)  # columns run to the back, rows downward: slices then run to the right


def write_series(write_dicom, folder: Path, array: np.ndarray, step: float = 4.5, **options) -> Path:
    """Sagittal slices whose names are in another order than their positions, as scanners number them."""
    for k in range(len(array)):
        write_dicom(folder / f"{(k * 7) % 10}.dcm", array[k], (20.0 - step * k, -50.0, 80.0), SAGITTAL, (0.6, 0.7), **options)
    return folder


@pytest.fixture
def dicom_array() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 4000, (5, 8, 6), dtype=np.uint16)


def test_dicom_slices_are_sorted_by_position_and_measured_by_their_tags(write_dicom, dicom_array, tmp_path):
    volume = read_volume(write_series(write_dicom, tmp_path / "series", dicom_array))
    np.testing.assert_array_equal(volume.array, dicom_array)
    np.testing.assert_allclose(volume.spacing, (4.5, 0.6, 0.7))
    np.testing.assert_allclose(volume.origin, (20.0, -50.0, 80.0))
    np.testing.assert_array_equal(volume.direction, kit_direction())


def test_oblique_dicom_slices(write_dicom, dicom_array, tmp_path):
    turn = rotation((0.2, 1.0, 0.3), 11)
    cosines = tuple((turn @ np.array(SAGITTAL).reshape(2, 3).T).T.reshape(-1))
    normal = np.cross(cosines[:3], cosines[3:])
    for k, pixels in enumerate(dicom_array):
        position = tuple(np.array([5.0, 6.0, 7.0]) + 3.25 * k * normal)
        write_dicom(tmp_path / "s" / f"1.2.840.{9 - k}", pixels, position, cosines, (0.6, 0.7))  # named by UID, no .dcm
    volume = read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, dicom_array)
    np.testing.assert_allclose(volume.spacing, (3.25, 0.6, 0.7), rtol=1e-6)
    np.testing.assert_allclose(volume.direction, turn @ kit_direction(), atol=1e-8)


def test_one_dicom_file_is_measured_by_its_tags_too(write_dicom, dicom_array, tmp_path):
    path = write_dicom(tmp_path / "1.dcm", dicom_array[0], (20.0, -50.0, 80.0), SAGITTAL, (0.6, 0.7))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, dicom_array[:1])
    np.testing.assert_allclose(volume.spacing, (1.0, 0.6, 0.7))
    np.testing.assert_allclose(volume.origin, (20.0, -50.0, 80.0))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda write, folder, pixels: (folder / "3.dcm").write_bytes(b"no dicom"), "3.dcm: cannot be read as DICOM"),
        (
            lambda write, folder, pixels: write(folder / "z.dcm", pixels, (-40.0, -50.0, 80.0), SAGITTAL, (0.6, 0.7), "9.9"),
            "mixes 2 DICOM series",
        ),
        (
            lambda write, folder, pixels: write(folder / "z.dcm", pixels, (-40.0, -50.0, 80.0), SAGITTAL, (0.6, 0.7)),
            "slices lie 4.50 to 42.00 mm apart",
        ),
        (
            lambda write, folder, pixels: write(folder / "z.dcm", pixels, (20.0, -50.0, 80.0), SAGITTAL, (0.6, 0.7)),
            "slices lie 0.00 to 4.50 mm apart",
        ),
        (
            lambda write, folder, pixels: write(folder / "z.dcm", pixels, (-2.5, -50.0, 80.0), (1, 0, 0, 0, 1, 0), (0.6, 0.7)),
            "z.dcm: its orientation or pixel spacing differs",
        ),
        (
            lambda write, folder, pixels: write(folder / "z.dcm", pixels[:4], (-2.5, -50.0, 80.0), SAGITTAL, (0.6, 0.7)),
            "slices differ in size",
        ),
        (
            lambda write, folder, pixels: write(
                folder / "z.dcm", pixels, (-2.5, -50.0, 80.0), SAGITTAL, (0.6, 0.7), leave_out=("position",)
            ),
            "z.dcm: lacks its position",
        ),
        (lambda write, folder, pixels: [p.unlink() for p in folder.iterdir()], "no DICOM file was found"),
    ],
    ids=["not dicom", "two series", "a gap", "doubled", "localizer", "other size", "no position", "empty"],
)
def test_spoiled_dicom_folders_say_what_is_wrong(write_dicom, dicom_array, tmp_path, spoil, words):
    folder = write_series(write_dicom, tmp_path / "series", dicom_array)
    spoil(write_dicom, folder, dicom_array[0])
    with pytest.raises(DataError, match=words) as caught:
        read_volume(folder)
    assert "series" in str(caught.value) and "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- resampling


def ball(shape: tuple[int, int, int], spacing: tuple[float, ...], centre_mm: np.ndarray, radius_mm: float) -> Volume:
    """A ball of value 7 placed by its LPS centre."""
    frame = Volume(np.zeros(shape, np.uint8), spacing, tuple(ORIGIN), TILTS["oblique"] @ kit_direction())
    points = place(frame, np.argwhere(np.ones(shape, bool)))
    inside = np.linalg.norm(points - centre_mm, axis=1) < radius_mm
    return frame.with_array((7 * inside).astype(np.uint8).reshape(shape))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 0.5, 0.9), (2.0, 2.0, 2.0)])
def test_landmarks_keep_their_place_in_mm(spacing):
    centre = ORIGIN + (np.array([30.0, 23.0, 25.0])) @ (TILTS["oblique"] @ kit_direction()).T
    volume = ball((40, 80, 70), (1.5, 0.6, 0.7), centre, 14.0)
    for is_mask in (True, False):
        new = resample(volume, spacing, is_mask)
        np.testing.assert_allclose(new.spacing, spacing)
        weights = new.array.astype(float)
        found = np.average(place(new, np.argwhere(np.ones(new.array.shape))), axis=0, weights=weights.reshape(-1))
        assert np.linalg.norm(found - centre) < 0.5
        size = weights.sum() / 7 * np.prod(spacing)
        assert size == pytest.approx(4 / 3 * np.pi * 14.0**3, rel=0.05)
        if is_mask:
            assert new.array.dtype == np.uint8 and set(np.unique(new.array)) == {0, 7}


@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.floats(0.3, 5)] * 3),
    st.tuples(*[st.floats(0.3, 5)] * 3),
    st.booleans(),
)
def test_the_outer_edges_stay(shape, old, new, is_mask):
    volume = Volume(np.full(shape, 9, np.uint8), old, tuple(ORIGIN), TILTS["oblique"] @ kit_direction())
    out = resample(volume, new, is_mask)
    first = place(volume, [-0.5] * 3), place(out, [-0.5] * 3)
    np.testing.assert_allclose(*first, atol=1e-6)
    extent_old, extent_new = np.multiply(shape, old), np.multiply(out.array.shape, new)
    assert (np.abs(extent_old - extent_new) <= np.maximum(np.array(new) / 2, np.array(new) - extent_old) + 1e-6).all()
    assert (out.array == 9).all()  # no dark rim: the edge is held where the grid was rounded up


def test_linear_between_centres_and_nearest_for_masks():
    """Worked out by hand: centres at 0 and 1 mm; with half the spacing new centres lie at -0.25, 0.25, 0.75, 1.25 mm."""
    ramp = Volume(np.array([0, 100], np.int16).reshape(1, 1, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    halves = resample(ramp, (1.0, 1.0, 0.5))
    np.testing.assert_allclose(halves.array.reshape(-1), [0, 25, 75, 100])
    assert halves.array.dtype == np.float32
    np.testing.assert_array_equal(resample(ramp, (1.0, 1.0, 0.5), is_mask=True).array.reshape(-1), [0, 0, 100, 100])
    with pytest.raises(ValueError, match="spacing must be positive"):
        resample(ramp, (1.0, 0.0, 1.0))


def test_resample_like_leaves_zero_outside_and_takes_the_other_grid(made_volume):
    small = Volume(np.full((2, 2, 2), 5, np.uint8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    large = from_image(stored_by_hand(np.zeros((4, 4, 4), np.uint8), "LPS", np.eye(3)))
    grid = Volume(large.array, (1.0, 1.0, 1.0), (1.0, -1.0, 1.0), kit_direction(), large.stored)
    for is_mask in (True, False):
        out = resample_like(small, grid, is_mask)
        expected = np.zeros((4, 4, 4))
        expected[1:3, 1:3, 1:3] = 5
        np.testing.assert_array_equal(out.array, expected)
        assert out.stored == large.stored and out.origin == (1.0, -1.0, 1.0)


@pytest.mark.parametrize("code", ["PIR", "LPS", "ASL"])
@pytest.mark.parametrize(
    ("spacing", "plane"),
    [((4.0, 0.5, 0.5), "sagittal"), ((0.5, 4.0, 0.6), "axial"), ((0.5, 0.6, 4.0), "coronal"), ((0.6, 0.6, 0.85), "undecided")],
)
def test_the_plane_of_the_slices_is_seen_however_they_are_stored(code, spacing, plane):
    made = Volume(np.zeros((3, 4, 5), np.uint8), spacing, (0.0, 0.0, 0.0), kit_direction())
    assert from_image(reorient_image(to_image(made), code)).acquired_plane == plane


def test_axial_series_become_sagittal_slices_with_square_pixels():
    rows = np.repeat(np.arange(6, dtype=np.int16) * 100, 5 * 8).reshape(6, 5, 8).transpose(1, 0, 2)  # brightness grows downward
    axial = Volume(np.ascontiguousarray(rows), (0.5, 4.0, 0.5), (0.0, 0.0, 0.0), kit_direction())
    sagittal = reslice_sagittal(axial)
    assert sagittal.spacing == (0.5, 0.5, 0.5) and sagittal.array.shape == (5, 48, 8)
    assert place(sagittal, [-0.5] * 3) == pytest.approx(place(axial, [-0.5] * 3))
    # By hand: new rows lie 0.25, 0.75 ... mm from the upper edge, old ones 2, 6, 10 ... mm.
    depth = 0.25 + 0.5 * np.arange(48)
    np.testing.assert_allclose(sagittal.array[2, :, 3], np.clip((depth - 2) / 4 * 100, 0, 500), atol=1e-3)
    labels = reslice_sagittal(axial.with_array((axial.array > 250).astype(np.uint8) * 7), is_mask=True)
    assert labels.array.dtype == np.uint8 and set(np.unique(labels.array)) == {0, 7}
    for spacing in ((4.0, 0.5, 0.5), (0.5, 0.5, 0.5)):
        there = Volume(axial.array, spacing, (0.0, 0.0, 0.0), kit_direction())
        assert reslice_sagittal(there) is there


# ---------------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (5, 24, 21)}, "size (20 x 24 x 5 against 21 x 24 x 5)"),
        ({"spacing": (3.3, 1.1, 0.91)}, "spacing (0.900 x 1.100 x 3.300 against 0.910 x 1.100 x 3.300 mm)"),
        ({"origin": (-7.25, 31.5, -119.0)}, "origin (-7.250 x 31.500 x -120.125 against -7.250 x 31.500 x -119.000 mm)"),
        ({"direction": rotation((1, 0, 0), 2) @ kit_direction()}, "direction (PIR against PIR, cosines differ by up to 0.035)"),
    ],
    ids=["size", "spacing", "origin", "direction"],
)
def test_the_geometry_check_names_what_differs_and_only_that(made_volume, change, words):
    image, mask = made_volume(), made_volume(**change)
    assert geometry_differences(image, mask) == [words]
    with pytest.raises(DataError) as caught:
        check_same_geometry(image, mask)
    assert words in str(caught.value)
    for other in {"size", "spacing", "origin", "direction"} - {words.split()[0]}:
        assert f"{other} (" not in str(caught.value)


def test_the_geometry_check_lets_rounding_pass_and_lists_all_differences(made_volume):
    image = made_volume()
    rounded = made_volume(spacing=(3.3001, 1.1, 0.9), origin=(-7.2501, 31.5, -120.12))
    assert geometry_differences(image, rounded) == []
    off = made_volume(shape=(5, 25, 20), spacing=(3.0, 1.1, 0.9), origin=(0.0, 0.0, 0.0))
    assert [d.split()[0] for d in geometry_differences(image, off)] == ["size", "spacing", "origin"]


def test_geometry_is_compared_as_the_files_have_it(made_volume, tmp_path):
    image = to_image(made_volume())
    for name, code in (("image", "PIR"), ("mask", "LPS")):
        sitk.WriteImage(reorient_image(image, code), str(tmp_path / f"{name}.mha"))
    image, mask = read_volume(tmp_path / "image.mha"), read_volume(tmp_path / "mask.mha")
    np.testing.assert_array_equal(image.array, mask.array)
    with pytest.raises(DataError, match=r"mask.mha: its geometry differs from image.mha in size .* direction \(PIR against LPS"):
        check_same_geometry(image, mask)


# --------------------------------------------------------------------------------------------------------------- integrity


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.98])
def test_truncated_files_of_every_format_are_named(made_volume, tmp_path, suffix, compress, share):
    path = tmp_path / f"cut{suffix}"
    sitk.WriteImage(to_image(made_volume((6, 30, 30))), str(path), useCompression=compress)
    read_volume(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=f"cut{suffix}") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value) and "No such file" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".mha", ".nii.gz"])
def test_damaged_bytes_inside_a_compressed_file_are_noticed(made_volume, tmp_path, suffix):
    path = write_volume(made_volume((6, 30, 30)), tmp_path / f"bad{suffix}")
    data = bytearray(path.read_bytes())
    for position in np.random.default_rng(5).integers(len(data) // 2, len(data) - 10, 10):
        spoiled = bytearray(data)
        spoiled[position] ^= 0x55
        path.write_bytes(spoiled)
        with pytest.raises(DataError, match="cut or damaged"):
            read_volume(path)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz"])
def test_a_quick_check_passes_over_compressed_voxels(made_volume, tmp_path, suffix, compress):
    path = tmp_path / f"cut{suffix}"
    sitk.WriteImage(to_image(made_volume((6, 30, 30))), str(path), useCompression=compress)
    check_whole(path, inflate=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=f"cut{suffix}"):
        check_whole(path)
    if suffix == ".nii.gz" or (suffix == ".mha" and compress):
        check_whole(path, inflate=False)
    else:
        with pytest.raises(DataError, match="announces 10800 bytes of voxels but the file holds 10760"):
            check_whole(path, inflate=False)


@pytest.mark.parametrize("order", "<>")
def test_a_nifti_header_of_either_byte_order_is_understood(tmp_path, made_volume, order):
    """Written by hand: 348 bytes of header, 4 of extension flag, then voxels (nifti.nimh.nih.gov/nifti-1)."""
    array = made_volume((3, 4, 5)).array
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into(f"{order}hh", head, 70, 4, 16)
    struct.pack_into(f"{order}8f", head, 76, 1, 0.7, 0.6, 3.3, 1, 1, 1, 1)
    struct.pack_into(f"{order}f", head, 108, 352)
    head[344:348] = b"n+1\0"
    whole = bytes(head) + array.astype(f"{order}i2").tobytes()
    (tmp_path / "a.nii").write_bytes(whole)
    assert sorted(read_volume(tmp_path / "a.nii").array.reshape(-1)) == sorted(array.reshape(-1))
    (tmp_path / "a.nii").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="announces 120 bytes of voxels but the file holds 119"):
        read_volume(tmp_path / "a.nii")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole + b"\0"))
    with pytest.raises(DataError, match="announces 120 bytes of voxels but the file holds 121"):
        read_volume(tmp_path / "a.nii.gz")


def test_header_and_data_in_two_files(made_volume, tmp_path):
    sitk.WriteImage(to_image(made_volume((3, 4, 5))), str(tmp_path / "two.mhd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "two.mhd").array, made_volume((3, 4, 5)).array)
    raw = tmp_path / "two.raw"
    raw.write_bytes(raw.read_bytes()[:-3])
    with pytest.raises(DataError, match="two.mhd: its header announces 120 bytes of voxels but the file holds 117"):
        read_volume(tmp_path / "two.mhd")
    raw.unlink()
    with pytest.raises(DataError, match="two.mhd: cannot be read"):
        read_volume(tmp_path / "two.mhd")


def test_a_picture_takes_a_pixel_size_and_keeps_it_as_a_volume(made_volume, tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "slice.png")
    picture = read_volume(tmp_path / "slice.png")
    assert with_pixel_size(picture, (0.5, 0.75)).spacing == (1.0, 0.5, 0.75)
    back = read_volume(write_volume(with_pixel_size(picture, (0.5, 0.75)), tmp_path / "slice.mha"))
    assert back.spacing == (1.0, 0.5, 0.75) and np.array_equal(back.array, picture.array)
    for wrong in ((0.5, 0.0), (0.5, np.nan), (0.5,)):
        with pytest.raises(ValueError, match="two positive numbers"):
            with_pixel_size(picture, wrong)
    write_volume(made_volume(), tmp_path / "scan.mha")
    with pytest.raises(DataError, match=r"scan\.mha: tells its own voxel size \(3\.300 x 1\.100 x 0\.900 mm.*\.png"):
        with_pixel_size(read_volume(tmp_path / "scan.mha"), (0.5, 0.5))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_runs_full_leaves_the_old_file(made_volume, tmp_path, full_disk, unchanged, suffix):
    path = tmp_path / f"mask{suffix}"
    write_volume(made_volume((2, 3, 4)), path)
    noisy = made_volume((20, 50, 50))
    size = write_volume(noisy, tmp_path / f"whole{suffix}").stat().st_size
    for limit in (3_000, size - 200):
        with unchanged(tmp_path), pytest.raises(DataError, match=f"mask{suffix}: cannot be written"), full_disk(limit):
            write_volume(noisy, path)


def test_what_itk_prints_stays_quiet_and_the_error_stream_comes_back(made_volume, tmp_path, capfd):
    good = write_volume(made_volume(), tmp_path / "good.nrrd")
    bad = tmp_path / "bad.nrrd"
    bad.write_bytes(good.read_bytes()[:-500])
    failures = []

    def work():
        for path in (good, bad, good):
            try:
                read_volume(path)
            except DataError:
                failures.append(path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here\n")
    assert failures == [bad] * 4
    assert capfd.readouterr().err == "still here\n"


@pytest.mark.parametrize("copy", [True, False])
def test_of_image_and_mask_in_turn_only_one_is_kept(tmp_path, copy):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for name, spacing in (("image", (3.0, 2.0, 1.0)), ("mask", (3.0, 2.0, 1.0)), ("other", (3.0, 2.0, 1.5))):
        write_volume(Volume(voxels, spacing, (1.0, 2.0, 3.0), kit_direction()), tmp_path / f"{name}.mha")
    for mask in ("mask", "other"):
        volumes = read_in_turn(tmp_path / "image.mha", tmp_path / f"{mask}.mha", copy=copy)
        image = next(volumes)
        np.testing.assert_array_equal(image.array, voxels)
        kept = weakref.ref(image)
        del image
        assert kept() is None
        if mask == "mask":
            np.testing.assert_array_equal(next(volumes).array, voxels)
            assert not list(volumes)
        else:
            with pytest.raises(DataError, match="other.mha: its geometry differs from image.mha in spacing"):
                next(volumes)
