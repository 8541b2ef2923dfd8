"""Masks of real DICOM series as DICOM SEG: the RSNA sample's tilted series, whose stripped headers claim another class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spider_utils.data.volumes import read_mask, read_volume, write_volume
from spider_utils.labels import get_scheme

SERIES = Path("rsna2024_sample", "train_images", "100206310")


@pytest.mark.real_data("rsna2024_sample")
@pytest.mark.parametrize("number", ["1792451510", "2092806862"])
def test_a_mask_of_a_real_series_comes_back_voxel_by_voxel(real_data: Path, tmp_path: Path, number: str) -> None:
    hd = pytest.importorskip("highdicom", reason="needs the extra export")
    pydicom = pytest.importorskip("pydicom")
    from spider_utils.export.dicom_seg import write_dicom_seg

    folder = real_data / SERIES / number
    volume = read_volume(folder)
    array = np.random.default_rng(0).choice(get_scheme("levels20").values, volume.array.shape).astype(np.uint8)
    array[[0, 7, -1]] = 0
    mask = read_mask(write_volume(volume.with_array(array), tmp_path / "mask.nii.gz"))
    path = write_dicom_seg(mask, folder, tmp_path / "seg.dcm", "levels20")

    found = hd.seg.segread(path).get_volume(combine_segments=True)
    stored, axes = volume.stored, np.reshape(volume.stored.direction, (3, 3)) * volume.stored.spacing
    inverse = np.linalg.inv(axes)  # from mm to the series' own column, row, slice
    index = np.argwhere(found.array > 0)
    places = index @ found.affine[:3, :3].T + found.affine[:3, 3]
    voxels = (places - stored.origin) @ inverse.T
    np.testing.assert_allclose(voxels, voxels.round(), atol=1e-3)
    labels = np.zeros(stored.size, np.uint8)
    labels[tuple(voxels.round().astype(int).T)] = found.array[tuple(index.T)]  # segments 1 to 19 are values 1 to 19
    np.testing.assert_array_equal(labels.T, array)  # the file is stored in the kit's own order of axes

    seg = pydicom.dcmread(path)
    sources = {}
    for one in folder.glob("*.dcm"):
        source = pydicom.dcmread(one, stop_before_pixels=True)
        sources[tuple(source.ImagePositionPatient)] = source
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID and seg.PatientID == source.PatientID
    for item in seg.PerFrameFunctionalGroupsSequence:
        (reference,) = item.DerivationImageSequence[0].SourceImageSequence
        own = sources[tuple(item.PlanePositionSequence[0].ImagePositionPatient)]
        assert reference.ReferencedSOPInstanceUID == own.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == own.file_meta.MediaStorageSOPClassUID
