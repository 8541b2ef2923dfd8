"""The reader on real files of other groups: headers that tell the truth, headers that lie, and DICOM without a SOP class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.volumes import (
    check_same_geometry,
    kit_direction,
    read_mask,
    read_pair,
    read_picture,
    read_volume,
    resample,
    write_volume,
)
from spider_utils.errors import DataError


def centres_mm(mask) -> dict[int, np.ndarray]:
    """Label -> centre in mm along (slice, row, column): right, down, back."""
    return {int(label): np.argwhere(mask.array == label).mean(axis=0) * mask.spacing for label in np.unique(mask.array) if label}


def assert_written_back_as_it_lay(volume, path: Path, folder: Path) -> None:
    again = write_volume(volume, folder / f"again{'.nii.gz' if path.name.endswith('.gz') else '.mha'}")
    before, after = sitk.ReadImage(str(path)), sitk.ReadImage(str(again))
    assert before.GetSize() == after.GetSize() and before.GetSpacing() == after.GetSpacing()
    np.testing.assert_allclose(after.GetOrigin(), before.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)
    assert np.array_equal(sitk.GetArrayViewFromImage(before), sitk.GetArrayViewFromImage(after))


@pytest.mark.real_data("chu2015_t2_3d")
@pytest.mark.parametrize("case", ["01", "02", "05", "08", "12"])
def test_chu_headers_say_identity_but_slices_are_sagittal(real_data, tmp_path, case):
    paths = [real_data / "chu2015_t2_3d" / f"case{case}_{kind}.mha" for kind in ("image", "instances")]
    image, mask = read_pair(*paths, orientation="PIR")
    assert image.array.shape == (39, 305, 305) and image.spacing == (2.0, 1.25, 1.25)
    centres = centres_mm(mask)
    downward = [centres[label][1] for label in range(1, 8)]  # 1 is L5, 7 is T11
    assert downward == sorted(downward, reverse=True)
    steps = -np.diff(downward)
    assert (steps > 20).all() and (steps < 50).all()  # from body to body, mm, as adults have it
    # Trusting the header would lay the spine along another axis.
    wrong = centres_mm(read_mask(paths[1]))
    assert abs(wrong[7][1] - wrong[1][1]) < abs(wrong[7][2] - wrong[1][2])
    assert_written_back_as_it_lay(mask, paths[1], tmp_path)


@pytest.mark.real_data("isotropic_3d")
@pytest.mark.parametrize("case", ["11", "46"])
def test_discs_of_the_isotropic_set_are_counted_from_below(real_data, case):
    folder = real_data / "isotropic_3d"
    image, mask = read_pair(folder / f"IVD_{case}_image.mha", folder / f"IVD_{case}_mask.mha", orientation="PIR")
    assert image.spacing == (1.0, 1.0, 1.0)
    centres = centres_mm(mask)
    downward = [centres[label][1] for label in range(1, 6)]  # 1 is L5/S1, 5 is L1/L2
    assert downward == sorted(downward, reverse=True) and (-np.diff(downward) > 25).all()


@pytest.mark.real_data("isotropic_3d")
def test_vertebral_bodies_of_the_isotropic_set_stand_in_one_column(real_data):
    folder = real_data / "isotropic_3d"
    for case in ("VB1_15", "VB3_01"):
        _, mask = read_pair(folder / f"VBs_{case}_image.mha", folder / f"VBs_{case}_mask.mha", orientation="PIR")
        centres = np.array(sorted(centres_mm(mask).values(), key=lambda c: c[1]))
        assert (np.diff(centres[:, 1]) > 14).all()  # the sacrum's segments are the nearest to each other
        assert np.ptp(centres[:, 0]) < 15  # one above the other, left to right


@pytest.mark.real_data("tptbox_crop_3d")
def test_tptbox_headers_tell_the_truth(real_data, tmp_path):
    folder = real_data / "tptbox_crop_3d"
    image_path, mask_path = folder / "sub-mri_label-6_T2w.nii.gz", folder / "sub-mri_seg-vert_label-6_msk.nii.gz"
    image, mask = read_pair(image_path, mask_path)
    assert image.orientation == "PIR" and image.array.shape == (67, 52, 68)
    np.testing.assert_allclose(image.spacing, 1.5, rtol=1e-6)
    np.testing.assert_allclose(image.direction, kit_direction(), atol=1e-6)
    centres = centres_mm(mask)
    assert centres[5][1] < centres[6][1] < centres[7][1]  # this set counts downward
    check_same_geometry(image, read_mask(folder / "sub-mri_seg-subreg_label-6_msk.nii.gz"))
    parts = centres_mm(read_mask(folder / "sub-mri_seg-subreg_label-6_msk.nii.gz"))
    assert parts[49][2] < parts[42][2]  # the body (49) lies before the spinous process (42)
    assert_written_back_as_it_lay(mask, mask_path, tmp_path)


@pytest.mark.real_data("sct_t2_lumbar_3d")
def test_sct_is_stored_another_way_round_and_comes_back(real_data, tmp_path):
    path = real_data / "sct_t2_lumbar_3d" / "t2_lumbar.nii.gz"
    volume = read_volume(path)
    assert volume.orientation == "RAS" and volume.array.shape == (38, 201, 257)
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))  # (superior, anterior, right): rows upward, columns forward
    np.testing.assert_array_equal(volume.array, stored[::-1, ::-1, :].transpose(2, 0, 1))
    # The back is in this field of view and the belly is partly: more signal lies behind the middle than in front.
    middle = volume.array.shape[2] // 2
    assert volume.array[:, :, middle:].sum() > volume.array[:, :, :middle].sum()
    assert_written_back_as_it_lay(volume, path, tmp_path)


@pytest.mark.real_data("chu2015_t2_3d")
def test_resampling_keeps_real_vertebrae_where_they_are(real_data):
    mask = read_mask(real_data / "chu2015_t2_3d" / "case01_instances.mha", orientation="PIR")
    finer = resample(mask, (1.0, 1.0, 1.0), is_mask=True)
    assert set(np.unique(finer.array)) == set(np.unique(mask.array))
    before, after = centres_mm(mask), centres_mm(finer)
    for label, centre in before.items():
        # Outer edges stay, so centres of voxels count from half a voxel in.
        assert np.abs((centre + np.array(mask.spacing) / 2) - (after[label] + 0.5)).max() < 0.35
        size = (finer.array == label).sum() / ((mask.array == label).sum() * np.prod(mask.spacing))
        assert size == pytest.approx(1, abs=0.02)


@pytest.mark.real_data("rsna2024_sample")
@pytest.mark.parametrize(
    ("series", "shape", "pixel"), [("1792451510", (18, 462, 448), 0.5357), ("2092806862", (18, 512, 512), 0.6836)]
)
def test_rsna_dicom_folders_are_measured_by_their_tags(real_data, series, shape, pixel):
    folder = next((real_data / "rsna2024_sample" / "train_images").glob(f"*/{series}"))
    volume = read_volume(folder)
    assert volume.array.shape == shape and volume.array.max() > 0
    np.testing.assert_allclose(volume.spacing, (4.48, pixel, pixel), atol=0.001)
    assert volume.orientation == "PIR"
    # Tilted by a few degrees, as patients lie; still right-handed and upright.
    np.testing.assert_allclose(volume.direction.T @ volume.direction, np.eye(3), atol=1e-6)
    assert (np.sum(volume.direction * kit_direction(), axis=0) > 0.98).all()


@pytest.mark.real_data("rsna2024_sample")
def test_gdcm_alone_would_get_the_rsna_spacing_wrong(real_data):
    """The SOP class is missing, so ITK falls back to 1 mm; the reader takes the tags, for one file as for a folder."""
    path = sorted((real_data / "rsna2024_sample" / "train_images").glob("*/1792451510/*.dcm"))[0]
    assert sitk.ReadImage(str(path)).GetSpacing()[:2] == (1.0, 1.0)
    np.testing.assert_allclose(read_volume(path).spacing, (4.48, 0.5357, 0.5357), atol=0.001)


@pytest.mark.real_data("spider_t1t2_vertebrae_2d")
def test_the_36_t1_t2_slices_are_readable_and_their_colour_masks_are_refused(real_data):
    folder = real_data / "spider_t1t2_vertebrae_2d"
    images = sorted((folder / "images").glob("*.png"))
    assert len(images) == 36
    assert all(read_volume(path).array.shape[0] == 1 for path in images)
    colours = 0
    for path in sorted((folder / "masks").glob("*.png")):
        with pytest.raises(DataError, match="holds colours|the mask is empty"):
            read_mask(path)
        colours += 1
    assert colours == 36


@pytest.mark.real_data("mendeley_t1_2d", "spider_midslices_unlabelled")
def test_other_2d_sets_are_readable(real_data):
    jpegs = sorted((real_data / "mendeley_t1_2d" / "images").glob("*.jpg"))
    assert len(jpegs) == 30
    assert {read_picture(path).shape for path in jpegs} == {(512, 512)}
    middles = sorted((real_data / "spider_midslices_unlabelled" / "images").glob("*.png"))
    assert len(middles) == 40 and all(read_picture(path).ndim == 2 for path in middles)
