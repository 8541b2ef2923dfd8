"""DICOM SEG: read again by pydicom alone and by highdicom, and compared with mask and series voxel by voxel."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.dicom_write import SliceGeometry, write_slice
from spider_utils.data.volumes import Volume, read_mask, read_volume, reorient_image, to_stored_image, write_volume
from spider_utils.errors import DataError, KitError
from spider_utils.labels import get_scheme
from spider_utils.models import build_model
from spider_utils.training.checkpoints import save_model

hd = pytest.importorskip("highdicom", reason="needs the extra export")
pydicom = pytest.importorskip("pydicom")

from spider_utils.export.anatomy import CODED_SCHEMES, DISC, PRIVATE, anatomy_of  # noqa: E402
from spider_utils.export.dicom_seg import Algorithm, write_dicom_seg  # noqa: E402

SLICES, ROWS, COLUMNS = 7, 23, 17  # rows times columns is no multiple of 8: frames share bytes
GAP_MM, PIXEL_MM = 4.4, (0.7, 0.6)
STUDY = {"0020|000d": "2.25.11", "0020|000e": "2.25.12", "0020|0052": "2.25.13", "0010|0020": "P7", "0010|0010": "Doe^Jo"}


def turned(about_x: float, about_z: float) -> tuple[np.ndarray, np.ndarray]:
    """A sagittal slice's two directions (along columns: back, along rows: down), turned by two angles in degrees."""
    a, b = np.radians([about_x, about_z])
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return z @ x @ [0.0, 1.0, 0.0], z @ x @ [0.0, 0.0, -1.0]


def write_series(folder: Path, slices: int = SLICES, about_x: float = 9.0, about_z: float = -6.0) -> Path:
    """An oblique series whose slices lie 4.4 mm apart and are 4 mm thick, its files in disorder, its header wrong on the gap."""
    folder.mkdir()
    along_row, along_column = turned(about_x, about_z)
    normal = np.cross(along_row, along_column)
    for k in range(slices):
        geometry = SliceGeometry(
            np.array([12.5, -40.25, 61.0]) + k * GAP_MM * normal, along_row, along_column, PIXEL_MM, 4.0, 9.9
        )
        pixels = np.random.default_rng(k).integers(0, 900, (ROWS, COLUMNS), dtype=np.uint16)
        tags = STUDY | {"0020|0013": str((3 * k) % slices + 1), "0020|0011": "5"}
        write_slice(folder / f"{(3 * k) % slices}.dcm", pixels, geometry, tags, None)
    return folder


def some_labels(volume: Volume, values: tuple[int, ...], seed: int = 0) -> Volume:
    """A mask in which two slices are empty, one of them between labelled ones."""
    array = np.random.default_rng(seed).choice((0, *values), volume.array.shape).astype(np.uint8)
    array[[0, 3]] = 0
    return volume.with_array(array)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("dicom") / "series")


@pytest.fixture(scope="module")
def mask(series: Path) -> Volume:
    return some_labels(read_volume(series), (1, 2, 6, 10, 11, 16))


@pytest.fixture(scope="module")
def written(series: Path, mask: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seg") / "mask.dcm"
    return write_dicom_seg(mask, series, path, "levels20", Algorithm("spider kit unet", "9.8", "run-7"))


def sources_by_place(series: Path) -> dict[tuple[float, ...], pydicom.Dataset]:
    return {tuple(map(float, one.ImagePositionPatient)): one for one in map(pydicom.dcmread, series.glob("*.dcm"))}


def place_of(frame: pydicom.Dataset) -> tuple[float, ...]:
    return tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))


def unpacked(seg: pydicom.Dataset) -> np.ndarray:
    """Frames (n, rows, columns) of bits, the first pixel in the lowest bit (PS3.5, section 8.1.1)."""
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    shape = int(seg.NumberOfFrames), seg.Rows, seg.Columns
    return bits[: np.prod(shape)].reshape(shape)


def test_every_frame_holds_its_label_on_its_slice(written: Path, series: Path, mask: Volume) -> None:
    """By pydicom alone: a frame's place names its slice, its segment number a label; both say which voxels are set."""
    seg, stored = pydicom.dcmread(written), sitk.GetArrayFromImage(to_stored_image(mask))
    places = sorted(sources_by_place(series), key=lambda p: np.dot(p, np.cross(*turned(9.0, -6.0))))
    label_of = {one.SegmentNumber: one.SegmentLabel for one in seg.SegmentSequence}
    value_of = {name: value for value, name in get_scheme("levels20").names.items()}
    found = np.zeros_like(stored)
    for frame, item in zip(unpacked(seg), seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        k = places.index(place_of(item))
        assert not found[k][frame == 1].any(), "one voxel in two segments"
        found[k][frame == 1] = value_of[label_of[number]]
    np.testing.assert_array_equal(found, stored)
    assert seg.NumberOfFrames == sum(len(np.unique(one[one > 0])) for one in stored)  # empty ones are left out
    assert list(label_of) == [1, 2, 3, 4, 5, 6] and [*label_of.values()] == [
        "L5", "L4", "T12", "spinal canal", "disc L5/S1", "disc T12/L1",
    ]  # fmt: skip


def test_geometry_is_that_of_the_series(written: Path, series: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    axes = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    volume = hd.seg.segread(written).get_volume(combine_segments=True)
    spacing = np.array([GAP_MM, *PIXEL_MM])
    np.testing.assert_allclose(volume.spacing, spacing, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.linalg.inv(axes) @ volume.affine[:3, [2, 1, 0]]).round(4), np.eye(3), atol=1e-4)
    index = np.linalg.inv(axes) @ (volume.affine[:3, 3] - image.GetOrigin())
    np.testing.assert_allclose(index, index.round(), atol=1e-4)  # on a voxel's centre
    measures = pydicom.dcmread(written).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == list(PIXEL_MM)
    assert float(measures.SliceThickness) == 4.0
    assert float(measures.SpacingBetweenSlices) == pytest.approx(GAP_MM, rel=1e-5), "by positions, not by the wrong tag"


def test_references_patient_and_study(written: Path, series: Path) -> None:
    seg, sources = pydicom.dcmread(written), sources_by_place(series)
    any_source = next(iter(sources.values()))
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert seg[name].value == any_source[name].value
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4" and seg.Modality == "SEG"
    assert seg.SeriesInstanceUID != any_source.SeriesInstanceUID and seg.SeriesNumber == 1005
    assert seg.SOPInstanceUID not in {one.SOPInstanceUID for one in sources.values()}
    for item in seg.PerFrameFunctionalGroupsSequence:
        (reference,) = item.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == sources[place_of(item)].SOPInstanceUID
        assert reference.ReferencedSOPClassUID == any_source.SOPClassUID
    (listed,) = seg.ReferencedSeriesSequence
    assert listed.SeriesInstanceUID == any_source.SeriesInstanceUID
    named = {one.ReferencedSOPInstanceUID for one in listed.ReferencedInstanceSequence}
    assert named == {one.SOPInstanceUID for one in sources.values()}


def test_segments_say_what_they_are_and_what_made_them(written: Path) -> None:
    """Codes as in PS3.16 2022c, CID 7603, 7604 and 6115, written here by hand."""
    wanted = {
        "L5": ("49668003", "L5 vertebra"),
        "L4": ("11994002", "L4 vertebra"),
        "T12": ("23215003", "T12 vertebra"),
        "spinal canal": ("61853006", "Vertebral canal"),
        "disc L5/S1": ("715056000", "L5/S1 disc"),
        "disc T12/L1": ("76206002", "T12/L1 disc"),
    }
    scheme = get_scheme("levels20")
    color_of = {name: scheme.colors[value] for value, name in scheme.names.items()}
    for one in pydicom.dcmread(written).SegmentSequence:
        (kind,), (code,) = one.SegmentedPropertyTypeCodeSequence, one.SegmentedPropertyCategoryCodeSequence
        assert (kind.CodeValue, kind.CodeMeaning) == wanted[one.SegmentLabel] and kind.CodingSchemeDesignator == "SCT"
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("91723000", "SCT")
        shown = hd.color.CIELabColor.from_dicom_value(tuple(one.RecommendedDisplayCIELabValue)).to_rgb()
        np.testing.assert_allclose(shown, color_of[one.SegmentLabel], atol=1)
        assert (one.SegmentAlgorithmType, one.SegmentAlgorithmName) == ("AUTOMATIC", "spider kit unet")
        (algorithm,) = one.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmVersion, algorithm.AlgorithmParameters) == ("9.8", "model=run-7")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_every_label_has_a_code_of_its_own() -> None:
    for scheme in CODED_SCHEMES:
        anatomy = anatomy_of(scheme)
        kinds = [(one.type.scheme_designator, one.type.value) for one in anatomy.values()]
        assert set(anatomy) == set(get_scheme(scheme).foreground)
        assert all(len(value) <= 16 for _, value in kinds), "CodeValue is a short string of 16 characters"
        assert len(set(kinds)) == len(kinds) or scheme == "spider"
    spider = anatomy_of("spider")
    assert [spider[100 + n] for n in range(1, 26)] == [spider[n] for n in range(1, 26)], "in view or partly: one level"
    assert spider[203].type.value == "62551000" and spider[22].type.meaning == "C3 vertebra"
    assert spider[25].type.meaning == "Vertebra"  # C0
    assert {spider[v].type.value for v in (224, 225)} == {DISC[0]}  # discs above C2
    once = [spider[v].type.value for v in (*range(1, 25), 100, *range(201, 224))]
    assert len(set(once)) == len(once) and all(len(code) >= 7 for code in once)


def test_what_ps3_16_has_no_code_for_is_private() -> None:
    axial = {name: anatomy_of("axial8")[value].type for value, name in get_scheme("axial8").names.items() if value}
    private = {name for name, code in axial.items() if code.scheme_designator == PRIVATE}
    assert private == {"hernia", "dural sac", "articular process"}
    with pytest.raises(KitError, match="clamped20"):
        anatomy_of("clamped20")


def test_a_mask_stored_in_other_axes_gives_the_same_frames(written: Path, series: Path, mask: Volume, tmp_path: Path) -> None:
    sitk.WriteImage(reorient_image(to_stored_image(mask), "RAS"), str(tmp_path / "ras.nii.gz"))
    again = write_dicom_seg(read_mask(tmp_path / "ras.nii.gz"), series, tmp_path / "again.dcm", "levels20")
    np.testing.assert_array_equal(unpacked(pydicom.dcmread(again)), unpacked(pydicom.dcmread(written)))


def test_one_slice_alone(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "one", slices=1)
    volume = read_volume(folder)
    mask = volume.with_array(np.full(volume.array.shape, 3, np.uint8))
    path = write_dicom_seg(mask, next(folder.glob("*.dcm")), tmp_path / "seg.dcm", "structures4")
    seg = pydicom.dcmread(path)
    assert seg.NumberOfFrames == 1 and unpacked(seg).all()
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == DISC[0]


def test_single_slices_of_a_multi_frame_class_keep_their_class_in_references(tmp_path: Path) -> None:
    """As RSNA 2024's files are: Enhanced MR by the file's meta information, no class in the data set, names left out."""
    folder, enhanced = write_series(tmp_path / "series"), "1.2.840.10008.5.1.4.1.1.4.1"
    for path in folder.glob("*.dcm"):
        one = pydicom.dcmread(path)
        one.file_meta.MediaStorageSOPClassUID = enhanced
        for name in ("SOPClassUID", "PatientName", "StudyDate", "SliceThickness", "AccessionNumber", "SeriesNumber"):
            if name in one:
                delattr(one, name)
        one.save_as(path, enforce_file_format=False)
    volume = read_volume(folder)
    seg = pydicom.dcmread(write_dicom_seg(some_labels(volume, (1,)), folder, tmp_path / "seg.dcm", "structures4"))
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    for item in seg.PerFrameFunctionalGroupsSequence:
        assert item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID == enhanced
    assert {one.ReferencedSOPClassUID for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {enhanced}


def test_a_slice_alone_is_never_overwritten_by_its_mask(tmp_path: Path) -> None:
    slice_ = next(write_series(tmp_path / "one", slices=1).glob("*.dcm"))
    before, volume = slice_.read_bytes(), read_volume(slice_)
    mask = volume.with_array(np.full(volume.array.shape, 3, np.uint8))
    with pytest.raises(DataError, match="would lie among the slices of its series"):
        write_dicom_seg(mask, slice_, slice_, "structures4")
    assert slice_.read_bytes() == before


# ------------------------------------------------------------------------------------------------------------- what is refused


def refused(mask: Volume, series: Path, path: Path, wanted: str, scheme: str = "levels20") -> None:
    """One line, and nothing is written."""
    with pytest.raises(DataError, match=wanted) as caught:
        write_dicom_seg(mask, series, path, scheme)
    assert "\n" not in str(caught.value) and not path.exists() and not list(path.parent.glob(".partial*"))


def test_another_grid_is_refused(series: Path, mask: Volume, tmp_path: Path) -> None:
    out = tmp_path / "x.dcm"
    moved = replace(mask, origin=tuple(np.add(mask.origin, (0, 0, 1.0))))
    refused(moved, series, out, "its geometry differs from series in origin")
    refused(replace(mask, array=mask.array[:, :-1]), series, out, "size")
    coarser = replace(mask, spacing=(4.0, *mask.spacing[1:]))
    refused(coarser, series, out, r"spacing \(0.600 x 0.700 x 4.400 against 0.600 x 0.700 x 4.000 mm\)")
    tilted = write_series(tmp_path / "other", about_x=12.0)
    refused(mask, tilted, out, "direction")


def test_empty_masks_and_unknown_values_are_refused(series: Path, mask: Volume, tmp_path: Path) -> None:
    out = tmp_path / "x.dcm"
    refused(mask.with_array(np.zeros_like(mask.array)), series, out, "is empty: a DICOM SEG needs one segment at least")
    refused(mask, series, out, "scheme 'structures4' does not know: 6 ", "structures4")


def test_series_that_cannot_be_referred_to_are_refused(mask: Volume, tmp_path: Path, write_dicom: object) -> None:
    bare = tmp_path / "bare"
    write_dicom(bare / "1.dcm", np.ones((4, 5), np.uint16), (0, 0, 0), (0, 1, 0, 0, 0, -1), (1, 1))
    labels = read_volume(bare)
    labels = labels.with_array(np.ones(labels.array.shape, np.uint8))
    refused(labels, bare, tmp_path / "x.dcm", "1.dcm: lacks SOPInstanceUID, StudyInstanceUID, FrameOfReferenceUID, SOPClassUID")

    many = write_series(tmp_path / "many", slices=2)
    one = pydicom.dcmread(many / "0.dcm")
    one.NumberOfFrames, one.PixelData = 2, one.PixelData * 2
    one.save_as(many / "0.dcm")
    refused(mask, many, tmp_path / "x.dcm", "0.dcm: holds 2 frames: it is no file of one slice")

    twins = write_series(tmp_path / "twins", slices=2)
    uid = pydicom.dcmread(twins / "0.dcm").SOPInstanceUID
    other = pydicom.dcmread(twins / "1.dcm")
    other.SOPInstanceUID = uid
    other.save_as(twins / "1.dcm")
    labels = read_volume(twins)
    labels = labels.with_array(np.ones(labels.array.shape, np.uint8))
    refused(labels, twins, tmp_path / "x.dcm", "two of its slices have one SOPInstanceUID")


def test_bad_paths_are_refused(series: Path, mask: Volume, tmp_path: Path, unchanged: object, full_disk: object) -> None:
    refused(mask, series, tmp_path / "x.mha", "a DICOM SEG is a .dcm file")
    with unchanged(series):
        refused(mask, series, series / "x.dcm", "it would lie among the slices of its series")
    with full_disk(1000):
        refused(mask, series, tmp_path / "x.dcm", "cannot|disk")


def test_what_is_missing_is_named(series: Path, mask: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(KitError, match=r"highdicom cannot be imported .*pip install 'spider-utils\[export\]'"):
        write_dicom_seg(mask, series, tmp_path / "x.dcm", "levels20")


# ------------------------------------------------------------------------------------------------------------------ the command


def test_predict_writes_it_beside_the_mask(series: Path, tmp_path: Path) -> None:
    run = tmp_path / "run-3"
    model = build_model("modified_unet", 1, 4, widths=[4, 4, 4], dropout_down=[0, 0, 0], dropout_up=[0])
    save_model(run, model, {"scheme": "structures4", "size": [32, 32]})
    out = tmp_path / "masks"
    said = CliRunner().invoke(cli.app, ["predict", str(series), "--out", str(out), "--model", str(run), "--dicom-seg"])
    assert said.exit_code == 0, said.output
    assert sorted(p.name for p in out.iterdir()) == [
        "predicted-masks.csv", "series.dcm", "series.nii.gz", "structures4-itksnap.txt", "structures4.ctbl",
    ]  # fmt: skip
    seg = pydicom.dcmread(out / "series.dcm")
    mask = read_mask(out / "series.nii.gz")
    assert unpacked(seg).sum() == np.count_nonzero(mask.array) > 0
    (algorithm,) = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmParameters) == ("spider kit modified_unet", "model=run-3")

    again = tmp_path / "again.dcm"
    said = CliRunner().invoke(cli.app, [
        "export", "seg", str(out / "series.nii.gz"), "--series", str(series), "--scheme", "structures4", "--out", str(again),
    ])  # fmt: skip
    assert said.exit_code == 0 and str(again) in said.output
    np.testing.assert_array_equal(unpacked(pydicom.dcmread(again)), unpacked(seg))

    write_volume(mask, tmp_path / "scan.mha")
    said = CliRunner().invoke(
        cli.app, ["predict", str(tmp_path / "scan.mha"), "--out", str(out), "--model", str(run), "--dicom-seg"]
    )
    assert said.exit_code == 2 and "DICOM" in said.output
