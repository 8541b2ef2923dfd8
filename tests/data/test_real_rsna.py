"""The RSNA 2024 tables and one real study: counts, orientation and every pixel against SimpleITK and pydicom."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.rsna import HEALTHY, open_rsna
from spider_utils.data.verify import detect_kind

STUDY, T2, T1 = 100206310, 1792451510, 2092806862


@pytest.fixture(scope="module")
def real(real_data):
    return open_rsna(real_data / "rsna2024_sample")


@pytest.mark.real_data("rsna2024_sample")
def test_counts_of_the_tables(real):
    """Counted with pandas alone in the files; 1,975 studies x 25 = 48,803 severities and 572 without one."""
    tables = real.tables
    assert tables.labels["study"].nunique() == 1975 and len(tables.labels) == 48803
    assert tables.labels["severity"].value_counts().to_dict() == {"Normal/Mild": 37754, "Moderate": 7960, "Severe": 3089}
    assert tables.series["description"].value_counts().to_dict() == {
        "Axial T2": 2340, "Sagittal T1": 1980, "Sagittal T2/STIR": 1974,
    }  # fmt: skip
    assert len(tables.points) == 48809 and tables.point_file == "train_label_coordinates.fix01b.csv"
    assert real.kind == "rsna" and detect_kind(real.root) == "rsna"


@pytest.mark.real_data("rsna2024_sample")
def test_mistakes_of_the_tables_and_the_images_that_are_not_here(real):
    report = real.check()
    assert report["what"].value_counts().to_dict() == {
        "missing study": 1974,
        "missing series": 1,
        "no severity": 572,
        "point put right": 141,
        "point without severity": 35,
        "severity without point": 29,
        "unusual series": 5,
        "study in one table only": 1,
    }
    assert set(report.query("level == 'error'")["what"]) == {"missing study", "missing series"}


@pytest.mark.real_data("rsna2024_sample")
def test_samples_of_the_study(real):
    samples = real.samples
    assert len(samples) == 15 and samples["study"].unique().tolist() == [STUDY]
    canal = samples[samples["condition"] == "spinal_canal_stenosis"]
    assert canal["severity"].tolist() == ["Normal/Mild", "Normal/Mild", "Moderate", "Severe", "Normal/Mild"]
    assert canal["misan_class"].tolist() == [HEALTHY, HEALTHY, 4, 4, HEALTHY] and set(canal["series"]) == {T2}
    assert samples["side"].value_counts().to_dict() == {"left": 5, "right": 5, "": 5}
    # In the patient, left points lie left of right ones, and lower levels below upper ones, by more than 15 mm.
    loaded = {number: real.load(STUDY, number) for number in (T1, T2)}
    for sample in samples.itertuples():
        series = loaded[sample.series]
        place = series.slices[sample.instance].point(sample.x, sample.y)
        middle = np.mean([one.point(0, 0)[0] for one in series.slices.values()])
        if sample.side:
            assert (place[0] - middle) * {"left": 1, "right": -1}[sample.side] > 5
        samples.loc[sample.Index, "height"] = place[2]
    for _, one in samples.groupby("condition"):
        assert (np.diff(one["height"]) < -15).all()


@pytest.mark.real_data("rsna2024_sample")
@pytest.mark.parametrize(("series", "shape", "pixel"), [(T2, (18, 462, 448), 0.53571), (T1, (18, 512, 512), 0.68359)])
def test_every_pixel_and_the_geometry(real, series, shape, pixel):
    """GDCM's own reader of single files and pydicom's RLE decoder, slice by slice."""
    found = real.load(STUDY, series)
    (volume,) = found.blocks
    assert volume.array.shape == shape and volume.array.dtype == np.uint16 and len(found.slices) == 18
    np.testing.assert_allclose(volume.spacing, (4.48, pixel, pixel), rtol=1e-4)
    folder = real.root / "train_images" / str(STUDY) / str(series)
    assert {one.syntax for one in found.slices.values()} == {"RLE Lossless (1.2.840.10008.1.2.5)"}
    for instance in range(1, 19):
        header = pydicom.dcmread(folder / f"{instance}.dcm")
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{instance}.dcm")))[0]
        np.testing.assert_array_equal(pixels, header.pixel_array)
        assert header.InstanceNumber == instance and header.pixel_array.dtype == np.uint16
        # Instances run from the patient's right to the left; slices in memory from left to right.
        np.testing.assert_array_equal(volume.array[18 - instance], pixels)
        np.testing.assert_array_equal(real.picture(folder / f"{instance}.dcm"), pixels)
        corner = volume.origin + volume.direction @ (np.array([18 - instance, 0, 0]) * volume.spacing)
        np.testing.assert_allclose(corner, [float(v) for v in header.ImagePositionPatient], atol=0.02)
        cosines = np.array([float(v) for v in header.ImageOrientationPatient])
        np.testing.assert_allclose(volume.direction[:, 2], cosines[:3], atol=1e-4)
        np.testing.assert_allclose(volume.direction[:, 1], cosines[3:], atol=1e-4)
        block, voxel = found.locate(instance, 100.0, 200.0)
        np.testing.assert_allclose(voxel, (18 - instance, 200, 100), atol=0.02)
        assert volume.array[tuple(np.rint(voxel).astype(int))] == header.pixel_array[200, 100]
    # Head up, face to the left, slices from left to right: the kit's axes.
    assert np.abs(volume.direction).argmax(axis=0).tolist() == [0, 2, 1]
    assert volume.direction[0, 0] < -0.99 and volume.direction[2, 1] < -0.99 and volume.direction[1, 2] > 0.99
