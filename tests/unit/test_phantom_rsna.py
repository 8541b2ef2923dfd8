"""Phantom studies in the challenge's layout: geometry there and back, points in their structures, severities that can be seen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from spider_utils.data.dicom_write import SliceGeometry, made_up_uid, write_slice
from spider_utils.data.phantom import generate_dataset
from spider_utils.data.phantom.axial import plan_block
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.narrowing import (
    LUMBAR_DISCS,
    SIDES,
    LevelFindings,
    canal_point,
    draw_levels,
    foramen_point,
    make_narrowed_anatomy,
    paint_narrowing,
    recess_point,
)
from spider_utils.data.phantom.rsna import generate_rsna_set, scan_study, set_facts, study_numbers
from spider_utils.data.phantom.signal import TISSUE
from spider_utils.data.rsna import PHANTOM_FILE, open_rsna
from spider_utils.data.rsna_tables import CONDITIONS, LEVELS, PATIENT_TABLE
from spider_utils.data.volumes import Volume
from spider_utils.errors import DataError
from spider_utils.files import read_json, sha256_of

FILLED, LEFT_OF_SAC = (0.0, 0.55, 0.97), (1.0, 0.6, 0.28)


def findings(left: int, right: int, canal: int = 0) -> tuple[LevelFindings, ...]:
    """The same severities at every level."""
    by_side = {"left": left, "right": right}
    filled = {side: FILLED[severity] for side, severity in by_side.items()}
    return tuple(LevelFindings(d, canal, LEFT_OF_SAC[canal], by_side, by_side, filled, filled) for d in LUMBAR_DISCS)


def sums(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return generate_rsna_set(tmp_path_factory.mktemp("rsna") / "set", 2, seed=5, jobs=1, size="small")


# ----------------------------------------------------------------------------------------------------------------- findings


def test_severities_are_as_frequent_as_in_the_challenge():
    """Of 3,000 patients; shares of severe and of moderate at L4/L5, and how canal and recess go together."""
    drawn = [draw_levels(seed)[3] for seed in range(3000)]
    assert all(one.disc == 2 for one in drawn)
    canal, recess = (np.array(v) for v in ([one.canal for one in drawn], [one.recess["left"] for one in drawn]))
    foramen = np.array([one.foramen["right"] for one in drawn])
    for found, moderate, severe in ((canal, 0.120, 0.129), (recess, 0.316, 0.234), (foramen, 0.320, 0.068)):
        assert np.mean(found == 1) == pytest.approx(moderate, abs=0.025) and np.mean(found == 2) == pytest.approx(
            severe, abs=0.025
        )
    assert 0.4 < np.corrcoef(canal, recess)[0, 1] < 0.7 and 0.15 < np.corrcoef(canal, foramen)[0, 1] < 0.5
    assert draw_levels(7) == draw_levels(7) and [one.disc for one in draw_levels(7)] == [5, 4, 3, 2, 1]


def test_severity_says_how_much_is_left():
    for seed in range(200):
        for one in draw_levels(seed):
            assert one.canal_left == 1.0 if one.canal == 0 else 0.2 < one.canal_left < (0.7, 0.7, 0.35)[one.canal]
            for severity, filled in ((one.foramen, one.foramen_filled), (one.recess, one.recess_filled)):
                for side in SIDES:
                    low, high = ((0, 0.15), (0.4, 0.65), (0.9, 1.0))[severity[side]]
                    assert low <= filled[side] <= high


# --------------------------------------------------------------------------------------------------------------- structures


@pytest.fixture(scope="module")
def bodies() -> dict[tuple[int, int, int], tuple]:
    """(left, right, canal) -> (anatomy, tissue grid around the lumbar canal) of patient 4."""
    found = {}
    for key in ((0, 0, 0), (1, 0, 1), (2, 0, 2), (0, 2, 0)):
        levels = findings(*key)
        anatomy = make_narrowed_anatomy(4, levels)
        low, high = anatomy.discs[4].frame.down - 25, anatomy.discs[0].frame.down + 30
        grid = build_body(anatomy, (-32, low, -15), (32, high, 75), (1.0, 1.0, 0.8))
        paint_narrowing(grid, anatomy, levels)
        found[key] = anatomy, grid
    return found


def voxel(grid, point: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(int(round((p - o) / s)) for p, o, s in zip(point, grid.origin, grid.spacing, strict=True))


def test_points_lie_in_their_structures(bodies):
    anatomy, grid = bodies[0, 0, 0]
    for disc in anatomy.discs[:5]:
        place = voxel(grid, canal_point(anatomy, disc))
        assert grid.label[place] == 100 and grid.tissue[place] in (TISSUE["fluid"], TISSUE["nerve"])
        for side, sign in SIDES.items():
            for point in (foramen_point(anatomy, disc, side), recess_point(anatomy, disc, side)):
                assert grid.tissue[voxel(grid, point)] == TISSUE["nerve"], f"disc {disc.number}, {side}"
                assert grid.label[voxel(grid, point)] == 0 and np.sign(point[0] - disc.frame.right) == sign


def fat_near(grid, point: tuple[float, float, float], mm: float = 7.0) -> float:
    """Cubic mm of fat within a distance of a point."""
    axes = [grid.coordinates(k) - np.float32(point[k]) for k in range(3)]
    near = axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2 < mm * mm
    return float((near & (grid.tissue == TISSUE["fat"])).sum() * np.prod(grid.spacing))


@pytest.mark.parametrize(("side", "key"), [("left", (2, 0, 2)), ("right", (0, 2, 0))])
def test_only_the_side_that_is_narrowed_loses_its_fat(bodies, side, key):
    other = "right" if side == "left" else "left"
    for place, left_over in ((foramen_point, 0.35), (recess_point, 0.45)):
        for number in range(5):
            fat = {}
            for name, (anatomy, grid) in (("free", bodies[0, 0, 0]), ("narrow", bodies[key])):
                fat[name] = {s: fat_near(grid, place(anatomy, anatomy.discs[number], s)) for s in SIDES}
            assert fat["narrow"][side] < left_over * fat["free"][side], (place.__name__, number + 1)
            assert fat["narrow"][other] > 0.6 * fat["free"][other], (place.__name__, number + 1)


def test_a_stenosis_leaves_the_share_of_the_sac_that_it_says(bodies):
    """Length of sac along the disc's plane, front to back, in the middle."""
    for number in (2, 3, 4):
        found = {}
        for severity in (0, 1, 2):
            anatomy, grid = bodies[severity, 0, severity]
            disc = anatomy.discs[number]
            middle = np.array(canal_point(anatomy, disc))
            ahead = np.array(disc.frame.point(0, 1, 0)) - disc.frame.point(0, 0, 0)
            labels = [grid.label[voxel(grid, middle + ahead * mm)] for mm in np.arange(-14, 14, 0.25)]
            found[severity] = 0.25 * labels.count(100)
            if severity:
                assert found[severity] == pytest.approx(disc.sac * LEFT_OF_SAC[severity], abs=1.3)
        assert found[0] > found[1] + 2 > found[2] + 3


def sac_area(anatomy, grid, disc) -> float:
    """Square mm of dural sac in the plane of a disc."""
    right, back = np.meshgrid(np.arange(-16, 16, 0.5), np.arange(-14, 14, 0.5))
    middle = np.array(canal_point(anatomy, disc))
    axes = [np.array(disc.frame.point(*unit)) - disc.frame.point(0, 0, 0) for unit in ((1, 0, 0), (0, 1, 0))]
    places = middle + right[..., None] * axes[0] + back[..., None] * axes[1]
    index = np.rint((places - grid.origin) / grid.spacing).astype(int)
    return 0.25 * float((grid.label[tuple(np.moveaxis(index, -1, 0))] == 100).sum())


def fat_beside(grid, point: tuple[float, float, float]) -> float:
    """Square mm of fat within 12 mm in the sagittal plane through a point, where readers grade foramina."""
    down, back = (grid.coordinates(axis).ravel() - point[axis] for axis in (1, 2))
    near = down[:, None] ** 2 + back[None] ** 2 < 12.0**2
    fat = grid.tissue[voxel(grid, point)[0]] == TISSUE["fat"]
    return float((near & fat).sum()) * grid.spacing[1] * grid.spacing[2]


def test_the_graver_the_less_is_left(bodies):
    """Area of the sac, fat in the left foramen and recess: each smaller from severity to severity, at every level."""
    for number in range(5):
        found = {"sac": [], "foramen": [], "recess": []}
        for severity in (0, 1, 2):
            anatomy, grid = bodies[severity, 0, severity]
            disc = anatomy.discs[number]
            found["sac"].append(sac_area(anatomy, grid, disc))
            found["foramen"].append(fat_beside(grid, foramen_point(anatomy, disc, "left")))
            found["recess"].append(fat_near(grid, recess_point(anatomy, disc, "left")))
        for what, (normal, moderate, severe) in found.items():
            assert normal > 1.15 * moderate and moderate > 1.3 * severe, (what, number + 1, normal, moderate, severe)
        assert found["sac"][0] > 80


# ------------------------------------------------------------------------------------------------------------------ pictures


@pytest.fixture(scope="module")
def one_sided():
    """A patient with everything severe on the left and free on the right, and severe canal stenosis."""
    return scan_study(3, "small", findings(2, 0, 2)), scan_study(3, "small", findings(0, 0, 0))


def around(picture: np.ndarray, row: float, column: float, reach: int) -> np.ndarray:
    r, c = round(row), round(column)
    return picture[r - reach : r + reach + 1, c - reach : c + reach + 1].astype(float)


def sagittal(volume: Volume, scan, point) -> tuple[np.ndarray, float, float]:
    k, row, column = (volume.direction.T @ (scan.to_lps @ np.array(point) - volume.origin)) / volume.spacing
    return volume.array[round(k)], row, column


def test_severities_can_be_seen(one_sided):
    """Bright fluid in the sac on T2; bright fat beside the foramen's root on T1 and beside the recess's root on axial T2."""
    spoiled, free = one_sided
    for number in range(5):
        seen = {}
        for name, scan in (("spoiled", spoiled), ("free", free)):
            disc = scan.anatomy.discs[number]
            picture, row, column = sagittal(scan.t2, scan, canal_point(scan.anatomy, disc))
            seen[name, "canal"] = around(picture, row, column, 2).mean() / np.median(picture)
            for side in SIDES:
                gap = scan.anatomy.vertebrae[number].pedicle_gap
                fat = disc.frame.point(SIDES[side] * (gap + 5), disc.depth / 2 + 1.5, 5.5)  # below the root, behind the body
                picture, row, column = sagittal(scan.t1, scan, fat)
                seen[name, "foramen", side] = around(picture, row, column, 1).mean() / np.median(picture)
                block = scan.blocks[4 - number]
                k, row, column = block.index(recess_point(scan.anatomy, disc, side))
                picture = scan.pictures[4 - number][round(k)]
                seen[name, "recess", side] = around(picture, row, column, 3).mean() / np.median(picture)
        assert seen["spoiled", "canal"] < 0.7 * seen["free", "canal"], number + 1
        for what in ("foramen", "recess"):
            assert seen["spoiled", what, "left"] < 0.85 * seen["free", what, "left"], (what, number + 1)
        assert seen["spoiled", "recess", "left"] < 0.8 * seen["spoiled", "recess", "right"], number + 1


def test_axial_slices_follow_the_discs():
    anatomy = make_narrowed_anatomy(6, findings(0, 0))
    for disc in anatomy.discs[:5]:
        block = plan_block(anatomy, disc, 3, 120.0, 0.8, 4.4, 4.0)
        np.testing.assert_allclose(block.axes @ block.axes.T, np.eye(3), atol=1e-12)
        for point in (disc.frame.point(0, 0, 0), disc.frame.point(0, 18, 0)):
            # The disc's own roll and twist, which slices do not follow, move it by hundredths.
            assert block.index(point)[0] == pytest.approx(1.0, abs=0.03), "the middle slice runs along the disc"
        assert block.index(disc.frame.point(0, 0, 4.4))[0] == pytest.approx(0.0, abs=0.03), "slices run downwards"
        right, left = (block.index(disc.frame.point(u, 0, 0))[2] for u in (20, -20))
        assert right < left, "the patient's right is on the picture's left"
        np.testing.assert_allclose(block.place(*block.index((3.0, 4.0, 5.0))), (3, 4, 5))


# ---------------------------------------------------------------------------------------------------------------- the folder


def test_the_set_on_disk(made):
    assert sorted(p.name for p in made.iterdir()) == [
        "phantom_truth.csv", PHANTOM_FILE, "train.csv", "train_images", "train_label_coordinates.csv",
        "train_patients.csv", "train_series_descriptions.csv",
    ]  # fmt: skip
    assert read_json(made / PHANTOM_FILE) == set_facts(2, 5, "small")
    data = open_rsna(made)
    assert data.kind == "rsna-phantom" and data.check().empty
    assert len(data.samples) == 50 and len(data.tables.labels) == 50
    assert set(data.samples["condition"]) == set(CONDITIONS) and set(data.samples["level"]) == set(LEVELS)
    points = pd.read_csv(made / "train_label_coordinates.csv")
    assert "Spinal Canal Stenosis" in set(points["condition"]) and "L5/S1" in set(points["level"])
    patients = data.patients.set_index("study")
    assert patients["age"].between(18, 90).all() and patients["sex"].isin(["F", "M"]).all() and len(patients) == 2
    (made / PATIENT_TABLE).rename(made / "aside.csv")
    pd.testing.assert_frame_equal(open_rsna(made).patients.set_index("study"), patients, obj="from the headers alone")
    (made / "aside.csv").rename(made / PATIENT_TABLE)
    truth = pd.read_csv(made / "phantom_truth.csv").set_index(["study_id", "level"])
    for row in data.tables.labels.itertuples():
        if row.condition.endswith("foraminal_narrowing"):
            filled = truth.loc[(row.study, row.level), f"{row.condition.split('_')[0]}_foramen_filled"]
            assert row.grade == np.searchsorted([0.3, 0.8], filled)


def test_studies_read_back_as_they_were_scanned(made):
    study_seed, study, ids = study_numbers(5, 1)
    scan, data = scan_study(study_seed, "small"), open_rsna(made)
    for series_id, volume in zip(ids[:2], (scan.t1, scan.t2), strict=True):
        (found,) = data.load(study, series_id).blocks
        np.testing.assert_array_equal(found.array, volume.array)
        assert found.array.dtype == np.uint16
        np.testing.assert_allclose(found.spacing, volume.spacing, rtol=1e-5)
        np.testing.assert_allclose(found.origin, volume.origin, atol=2e-3)
        np.testing.assert_allclose(found.direction, volume.direction, atol=1e-5)
    axial = data.load(study, ids[2])
    assert axial.description == "Axial T2" and len(axial.blocks) == 5
    for number, block in enumerate(scan.blocks):
        for k in range(block.shape[0]):
            instance = 1 + number * block.shape[0] + k
            path = made / "train_images" / str(study) / str(ids[2]) / f"{instance}.dcm"
            np.testing.assert_array_equal(data.picture(path), scan.pictures[number][k])
            np.testing.assert_allclose(axial.slices[instance].point(7, 9), scan.to_lps @ block.place(k, 9, 7), atol=2e-3)
            # The volume in the kit's axes holds the same pixel at the same place.
            where, index = axial.locate(instance, 7, 9)
            assert axial.blocks[where].array[tuple(np.rint(index).astype(int))] == scan.pictures[number][k][9, 7]


def test_left_right_and_order_of_levels_in_the_patient(made):
    data = open_rsna(made)
    for study, samples in data.samples.groupby("study"):
        lps = {}
        for sample in samples.itertuples():
            series = data.load(study, sample.series) if sample.series not in lps else lps[sample.series]
            lps[sample.series] = series
            lps[sample.condition, sample.level] = series.slices[sample.instance].point(sample.x, sample.y)
        for level in LEVELS:
            for what in ("neural_foraminal_narrowing", "subarticular_stenosis"):
                left, canal, right = (lps[name, level] for name in (f"left_{what}", "spinal_canal_stenosis", f"right_{what}"))
                assert left[0] > canal[0] > right[0], "LPS: the first axis grows to the left"
                assert np.linalg.norm(left - canal) < 32 and np.linalg.norm(right - canal) < 32
        for condition in CONDITIONS:
            heights = [lps[condition, level][2] for level in LEVELS]
            assert heights == sorted(heights, reverse=True)


# Types of PS3.3, section A.4 (MR Image IOD) and its modules: 1 has a value, 2 is there and may be empty.
MR_ATTRIBUTES = {
    "patient (C.7.1.1)": {"PatientName": 2, "PatientID": 2, "PatientBirthDate": 2, "PatientSex": 2},
    "general study (C.7.2.1)": {
        "StudyInstanceUID": 1, "StudyDate": 2, "StudyTime": 2, "ReferringPhysicianName": 2, "StudyID": 2, "AccessionNumber": 2,
    },
    "general series (C.7.3.1)": {"Modality": 1, "SeriesInstanceUID": 1, "SeriesNumber": 2, "PatientPosition": 1},
    "frame of reference (C.7.4.1)": {"FrameOfReferenceUID": 1, "PositionReferenceIndicator": 2},
    "general equipment (C.7.5.1)": {"Manufacturer": 2},
    "general image (C.7.6.1)": {"InstanceNumber": 2},
    "image plane (C.7.6.2)": {"PixelSpacing": 1, "ImageOrientationPatient": 1, "ImagePositionPatient": 1, "SliceThickness": 2},
    "image pixel (C.7.6.3)": {
        "SamplesPerPixel": 1, "PhotometricInterpretation": 1, "Rows": 1, "Columns": 1, "BitsAllocated": 1, "BitsStored": 1,
        "HighBit": 1, "PixelRepresentation": 1, "PixelData": 1,
    },
    "MR image (C.8.3.1)": {
        "ImageType": 1, "ScanningSequence": 1, "SequenceVariant": 1, "ScanOptions": 2, "MRAcquisitionType": 2,
        "RepetitionTime": 2, "EchoTime": 2, "EchoTrainLength": 2,
    },
    "window (C.11.2): a width without a centre is none": {"WindowCenter": 1, "WindowWidth": 1},
    "SOP common (C.12.1)": {"SOPClassUID": 1, "SOPInstanceUID": 1},
}  # fmt: skip


def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("train_images/*/*/*.dcm"))]


@pytest.mark.parametrize("module", MR_ATTRIBUTES)
def test_the_attributes_of_an_mr_image(module, made):
    for header in headers(made):
        for name, kind in MR_ATTRIBUTES[module].items():
            assert name in header, f"{name} (type {kind}) is missing in {header.filename}"
            assert kind == 2 or header[name].value not in (None, ""), f"{name} (type 1) is empty in {header.filename}"


def test_a_slice_without_tags_is_a_whole_mr_image_too(tmp_path):
    pixels = np.arange(30, dtype=np.uint16).reshape(5, 6)
    one = SliceGeometry(np.zeros(3), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (1.0, 1.0), 4.0, 4.4)
    write_slice(tmp_path / "1.dcm", pixels, one, {})
    header = pydicom.dcmread(tmp_path / "1.dcm")
    for attributes in MR_ATTRIBUTES.values():
        for name, kind in attributes.items():
            assert name in header or name.startswith("Window")
            assert kind == 2 or name.startswith("Window") or header[name].value not in (None, ""), name
    np.testing.assert_array_equal(header.pixel_array, pixels)


def test_what_the_attributes_say(made):
    truth = pd.read_csv(made / "phantom_truth.csv").drop_duplicates("study_id").set_index("study_id")
    series = open_rsna(made).tables.series.set_index("series")["description"]
    for header in headers(made):
        study, series_id, file = Path(header.filename).parts[-3:]
        patient, description = truth.loc[int(study)], series[int(series_id)]
        assert (header.PatientID, f"{header.InstanceNumber}.dcm") == (study, file)
        assert (header.PatientSex, header.PatientAge) == (patient["sex"], f"{patient['age']:03d}Y")
        assert header.SOPClassUID == pydicom.uid.MRImageStorage == header.file_meta.MediaStorageSOPClassUID
        assert header.SOPInstanceUID == header.file_meta.MediaStorageSOPInstanceUID
        assert header.ScanningSequence == "SE" and header.SequenceVariant in ("SK", "NONE") and header.Modality == "MR"
        assert list(header.ImageType) == ["ORIGINAL", "PRIMARY", "OTHER"] and "Laterality" not in header
        # T1 weighting: short repetition and echo; T2: long ones.
        assert (header.RepetitionTime < 1000) == (header.EchoTime < 30) == (description == "Sagittal T1")
        assert header.SeriesDescription == description.split()[-1].split("/")[0]
        assert 0 < header.SliceThickness <= header.SpacingBetweenSlices
        low, high = header.WindowCenter - header.WindowWidth / 2, header.WindowCenter + header.WindowWidth / 2
        assert low <= np.median(header.pixel_array) < high


def test_uids_are_valid_and_of_one_set_alone(made, tmp_path):
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")

    def uids(folder: Path) -> list[list[str]]:
        return [[str(header[name].value) for name in names] for header in headers(folder)]

    table = pd.DataFrame(uids(made), columns=names)
    for name in names:
        for uid in table[name].unique():
            assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid) and pydicom.uid.UID(uid).is_valid
    assert table.nunique().tolist() == [2, 6, len(table), 2]
    assert table.groupby("SeriesInstanceUID")["StudyInstanceUID"].nunique().eq(1).all()
    assert table.groupby("StudyInstanceUID")["FrameOfReferenceUID"].nunique().eq(1).all(), "its series lie in one patient"
    assert not set(table["StudyInstanceUID"]) & set(table["FrameOfReferenceUID"])
    first = made_up_uid("rsna", 1, 1, 5, "small", 1)
    others = {
        made_up_uid("rsna", *rest)
        for rest in ((1, 2, 5, "small", 1), (1, 1, 6, "small", 1), (1, 1, 5, "full", 1), (1, 1, 5, "small", 2))
    }
    assert len(others | {first}) == 5 and first == made_up_uid("rsna", 1, 1, 5, "small", 1)
    other = generate_rsna_set(tmp_path / "other", 1, seed=6, jobs=1, size="small")
    assert not set(table.to_numpy().ravel()) & {uid for row in uids(other) for uid in row}


def test_bytes_depend_on_the_seed_alone(made, tmp_path):
    """Not on the number of studies, nor on the number of processes."""
    one = generate_rsna_set(tmp_path / "one", 1, seed=5, jobs=1, size="small")
    images = {name: value for name, value in sums(one).items() if name.startswith("train_images")}
    assert len(images) > 30 and images.items() <= sums(made).items()
    assert study_numbers(5, 1)[1] != study_numbers(6, 1)[1]


def test_two_processes_make_the_files_that_one_makes(made, tmp_path):
    assert sums(generate_rsna_set(tmp_path / "two", 2, seed=5, jobs=2, size="small")) == sums(made)


def test_only_a_set_of_this_kind_is_replaced(made, tmp_path):
    generate_dataset(tmp_path / "spider", 1, jobs=1, size="small")
    with pytest.raises(DataError, match=f"holds other files \\(no {PHANTOM_FILE}\\)"):
        generate_rsna_set(tmp_path / "spider", 1, jobs=1, size="small")
    shutil.copytree(made, tmp_path / "set")
    (tmp_path / "set" / "train_images" / "notes.txt").write_text("my work")
    with pytest.raises(DataError, match="notes.txt: is no file of the phantom, and would be lost"):
        generate_rsna_set(tmp_path / "set", 1, jobs=1, size="small")
    assert (tmp_path / "set" / "train_images" / "notes.txt").read_text() == "my work"


@pytest.mark.parametrize("wrong", [{"n_studies": 0}, {"seed": -1}, {"size": "huge"}])
def test_settings_out_of_range(wrong, tmp_path):
    with pytest.raises(ValueError, match="at least 1 study, seed 0 or more, size in"):
        generate_rsna_set(tmp_path / "x", **{"n_studies": 1, "seed": 0, "size": "small", **wrong})
    with pytest.raises(ValueError, match="unknown size 'huge'"):
        scan_study(1, "huge")
