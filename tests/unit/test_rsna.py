"""The challenge's tables and tree: samples, volumes, and every mistake as a row of the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.dicom import read_header
from spider_utils.data.dicom_write import SliceGeometry, write_slice
from spider_utils.data.rsna import HEALTHY, SAMPLE_COLUMNS, is_rsna, open_rsna
from spider_utils.data.rsna_tables import (
    CONDITIONS,
    LEVELS,
    PATIENT_TABLE,
    POINT_TABLE,
    SERIES_TABLE,
    SEVERITY_TABLE,
    side_of,
)
from spider_utils.data.tables import REPORT_COLUMNS
from spider_utils.data.verify import detect_kind, verify
from spider_utils.errors import DataError

ROWS, COLUMNS = 40, 30
SERIES = {11: "Sagittal T1", 12: "Sagittal T2/STIR", 13: "Axial T2"}
SPOTS = {"left": 20.0, "right": 10.0, "": 15.0}  # x on axial slices; the patient's left is on the picture's right


def write_images(root: Path, study: int) -> None:
    """Five slices a series. Sagittal slices run from right to left, axial ones downwards; every pixel has its own value."""
    for series, description in SERIES.items():
        folder = root / "train_images" / str(study) / str(10 * study + series)
        folder.mkdir(parents=True)
        for k in range(5):
            if description == "Axial T2":
                geometry = SliceGeometry(
                    np.array([-15.0, -20.0, 50.0 - 10 * k]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (1.0, 1.0), 4.0, 10.0
                )
            else:
                position = np.array([-20.0 + 10 * k, -20.0, 60.0])
                geometry = SliceGeometry(position, np.array([0, 1.0, 0]), np.array([0, 0, -1.0]), (1.5, 1.5), 4.0, 10.0)
            pixels = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS) + np.uint16(2000 * k)
            tags = {"0020|000d": f"2.25.{study}", "0020|000e": f"2.25.{study}.{series}", "0020|0013": str(k + 1)}
            write_slice(folder / f"{k + 1}.dcm", pixels, geometry, tags)


def write_tables(root: Path, studies: tuple[int, ...]) -> None:
    """Tables as the challenge writes them. Study 2 is worse than study 1."""
    wide, series, points = [], [], []
    for study in studies:
        row: dict[str, object] = {"study_id": study}
        for c, condition in enumerate(CONDITIONS):
            for k, level in enumerate(LEVELS):
                row[f"{condition}_{level}"] = ("Normal/Mild", "Moderate", "Severe")[(c + k + study) % 3]
        wide.append(row)
        for number, text in SERIES.items():
            series.append({"study_id": study, "series_id": 10 * study + number, "series_description": text})
        for condition in CONDITIONS:
            side, number = side_of(condition), {"n": 11, "s": 13}.get(condition.split("_")[1][0], 12)
            for k, level in enumerate(LEVELS):
                instance = k + 1 if number == 13 else {"left": 5, "right": 1, "": 3}[side]
                point = {"study_id": study, "series_id": 10 * study + number, "instance_number": instance}
                point |= {"condition": condition.replace("_", " ").title(), "level": level.upper().replace("_", "/")}
                points.append(point | {"x": SPOTS[side], "y": 6.5 + 5 * k})
    pd.DataFrame(wide).to_csv(root / SEVERITY_TABLE, index=False)
    pd.DataFrame(series).to_csv(root / SERIES_TABLE, index=False)
    pd.DataFrame(points).to_csv(root / POINT_TABLE, index=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two studies without a mistake."""
    root = tmp_path_factory.mktemp("rsna") / "whole"
    for study in (1, 2):
        write_images(root, study)
    write_tables(root, (1, 2))
    return root


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A copy of it, to spoil."""
    shutil.copytree(whole, tmp_path / "set")
    return tmp_path / "set"


def change(path: Path, row: int, column: str, value: object) -> None:
    """Change one cell; ``row`` is the line of the file."""
    table = pd.read_csv(path, dtype=object)
    table.loc[row - 2, column] = value
    table.to_csv(path, index=False)


def test_a_whole_set(whole):
    data = open_rsna(whole)
    assert data.kind == "rsna" and repr(data) == "RsnaSet('rsna', 2 studies with images, 50 labelled points)"
    report = data.check()
    assert report.empty and tuple(report.columns) == REPORT_COLUMNS
    samples = data.samples
    assert tuple(samples.columns) == SAMPLE_COLUMNS and len(samples) == 50
    assert is_rsna(whole) and detect_kind(whole) == "rsna" and verify(None, whole) == []
    # Worked out by hand for study 1: condition 0 at L1/L2 is (0 + 0 + 1) % 3 = 1, Moderate; condition 2 there is Normal/Mild.
    one = samples.set_index(["study", "condition", "level"])
    left = one.loc[(1, "left_neural_foraminal_narrowing", "l1_l2")]
    assert (left["series"], left["instance"], left["severity"], left["grade"]) == (21, 5, "Moderate", 1)
    assert (left["description"], left["side"], left["misan_class"], left["misan_level"]) == ("Sagittal T1", "left", 0, 0)
    assert (left["x"], left["y"]) == (20.0, 6.5)
    right = one.loc[(1, "right_neural_foraminal_narrowing", "l1_l2")]
    assert (right["severity"], right["misan_class"], right["side"]) == ("Normal/Mild", HEALTHY, "right")
    canal = one.loc[(2, "spinal_canal_stenosis", "l5_s1")]
    assert (canal["grade"], canal["misan_class"], canal["misan_level"], canal["side"]) == (1, 4, 4, "")
    assert Path(canal["path"]).relative_to(whole).as_posix() == "train_images/2/32/3.dcm"


def test_a_series_as_a_volume_and_points_in_it(whole):
    data = open_rsna(whole)
    series = data.load(1, 21)
    (volume,) = series.blocks
    assert volume.array.shape == (5, ROWS, COLUMNS) and volume.array.dtype == np.uint16
    np.testing.assert_allclose(volume.spacing, (10, 1.5, 1.5))
    # Slices run from left to right in memory; the file runs from right to left: instance 5 comes first.
    assert volume.array[0, 0, 0] == 8000 and volume.array[4, 0, 0] == 0
    block, voxel = series.locate(5, 20, 6)
    assert block == 0
    np.testing.assert_allclose(voxel, (0, 6, 20), atol=1e-9)
    picture = data.picture(whole / "train_images/1/21/5.dcm", 20, 6)
    assert picture[6, 20] == volume.array[tuple(np.rint(voxel).astype(int))] == 8000 + 6 * COLUMNS + 20
    axial = data.load(1, 23)
    block, voxel = axial.locate(2, 20.0, 11.0)
    np.testing.assert_allclose(axial.blocks[block].array[tuple(np.rint(voxel).astype(int))], 2000 + 11 * COLUMNS + 20)
    np.testing.assert_allclose(axial.blocks[0].spacing, (1, 10, 1), err_msg="axes are the kit's: sagittal slices first")
    # x = 20 lies at LPS -15 + 20 = 5 mm, to the patient's left, and so before the middle of the slices from left to right.
    assert voxel[0] < (axial.blocks[0].array.shape[0] - 1) / 2
    assert repr(axial) == "Series(1/23, Axial T2, 5 slices in blocks of 30 x 5 x 40)"
    assert data.series_of(2, "Axial T2")["series"].tolist() == [33]


def test_only_what_has_an_image_is_a_sample(root):
    shutil.rmtree(root / "train_images" / "2")
    assert open_rsna(root).samples["study"].unique().tolist() == [1]
    assert len(open_rsna(root).tables.points) == 50


def test_age_and_sex_stay_missing_where_nobody_says_them(whole):
    patients = open_rsna(whole).patients
    assert patients["study"].tolist() == [1, 2] and patients[["age", "sex"]].isna().all(axis=None)
    assert patients["age"].dtype == np.float64


def test_age_and_sex_from_the_table_first_then_from_the_headers(root):
    """Study 1: the table knows the sex, the headers both. Study 2: the table knows nothing, one series' headers the age."""
    (root / PATIENT_TABLE).write_text("study_id,age,sex\n1,,m\n2,,\n")
    path = root / "train_images/1/21/1.dcm"
    one = read_header(path)
    geometry = SliceGeometry(np.array(one.position), np.array(one.cosines[:3]), np.array(one.cosines[3:]), one.spacing, 4.0, 10.0)
    pixels = np.zeros(one.shape, np.uint16)
    write_slice(path, pixels, geometry, {"0020|0013": "1", "0010|1010": "054Y", "0010|0040": "F"})
    write_slice(root / "train_images/2/33/1.dcm", pixels, geometry, {"0020|0013": "1", "0010|1010": "018M", "0010|0040": "?"})
    (root / "train_images/2/31/1.dcm").write_text("damaged")
    patients = open_rsna(root).patients.set_index("study")
    assert (patients.at[1, "age"], patients.at[1, "sex"]) == (54.0, "M")
    assert patients.at[2, "age"] == 1.5 and pd.isna(patients.at[2, "sex"])


def spoil_copy(root: Path) -> None:
    """A copy of the points that was put right in line 2, moved in line 3, lacks line 4, and adds nothing."""
    table = pd.read_csv(root / POINT_TABLE)
    table["condition"] = table["condition"].str.lower().str.replace(" ", "_")
    table["level"] = table["level"].str.lower().str.replace("/", "_")
    table["fix"] = [1] + [0] * (len(table) - 1)
    table.loc[1, "x"] += 2
    table.drop(index=2).to_csv(root / "train_label_coordinates.mended.csv", index=False)


MISTAKES = {
    "unknown severity": (
        lambda root: change(root / SEVERITY_TABLE, 2, "spinal_canal_stenosis_l1_l2", "Grave"),
        ("error", SEVERITY_TABLE, 2, "'Grave' in column spinal_canal_stenosis_l1_l2"),
    ),
    "no severity": (
        lambda root: change(root / SEVERITY_TABLE, 3, "spinal_canal_stenosis_l1_l2", None),
        ("warning", SEVERITY_TABLE, 3, "study 2 has none for spinal_canal_stenosis_l1_l2"),
    ),
    "study twice": (
        lambda root: (root / SEVERITY_TABLE).write_text(
            (root / SEVERITY_TABLE).read_text() + (root / SEVERITY_TABLE).read_text().splitlines()[1] + "\n"
        ),
        ("warning", SEVERITY_TABLE, 4, "repeats an earlier row of 1"),
    ),
    "unknown condition or level": (
        lambda root: pd.read_csv(root / SEVERITY_TABLE).assign(hernia_l1_l2="Severe").to_csv(root / SEVERITY_TABLE, index=False),
        ("error", SEVERITY_TABLE, 1, "column 'hernia_l1_l2' names no known condition and level"),
    ),
    "missing column": (
        lambda root: pd.read_csv(root / SEVERITY_TABLE)
        .drop(columns="spinal_canal_stenosis_l5_s1")
        .to_csv(root / SEVERITY_TABLE, index=False),
        ("error", SEVERITY_TABLE, 1, "column 'spinal_canal_stenosis_l5_s1' is missing"),
    ),
    "study in one table only": (
        lambda root: pd.read_csv(root / SEVERITY_TABLE)[1:].to_csv(root / SEVERITY_TABLE, index=False),
        ("warning", SERIES_TABLE, 2, f"study 1 is not in {SEVERITY_TABLE}"),
    ),
    "series twice": (
        lambda root: (root / SERIES_TABLE).write_text((root / SERIES_TABLE).read_text() + "1,21,Axial T2\n"),
        ("error", SERIES_TABLE, 8, "contradicts an earlier row of 1, 21"),
    ),
    "unknown description": (
        lambda root: change(root / SERIES_TABLE, 2, "series_description", "Coronal"),
        ("warning", SERIES_TABLE, 2, "'Coronal' is no known description"),
    ),
    "bad number": (
        lambda root: change(root / POINT_TABLE, 5, "instance_number", "1.5"),
        ("error", POINT_TABLE, 5, "study_id or series_id or instance_number is no whole number"),
    ),
    "infinite number": (
        lambda root: change(root / POINT_TABLE, 5, "instance_number", "inf"),
        ("error", POINT_TABLE, 5, "study_id or series_id or instance_number is no whole number"),
    ),
    "unknown condition": (
        lambda root: change(root / POINT_TABLE, 6, "condition", "Hernia"),
        ("error", POINT_TABLE, 6, "'Hernia' is no known condition"),
    ),
    "unknown level": (
        lambda root: change(root / POINT_TABLE, 7, "level", "L6/S1"),
        ("error", POINT_TABLE, 7, "'L6/S1' is no known level"),
    ),
    "no place in an image": (
        lambda root: change(root / POINT_TABLE, 8, "x", "-3"),
        ("error", POINT_TABLE, 8, "x -3.0, y 11.5"),
    ),
    "point twice": (
        lambda root: (root / POINT_TABLE).write_text(
            (root / POINT_TABLE).read_text() + "1,21,5,Left Neural Foraminal Narrowing,L1/L2,3,4\n"
        ),
        ("error", POINT_TABLE, 52, "contradicts an earlier row of 1, 21, left_neural_foraminal_narrowing, l1_l2"),
    ),
    "series not described": (
        lambda root: change(root / POINT_TABLE, 2, "series_id", "31"),
        ("error", POINT_TABLE, 2, "series 31 of study 1 is described as another study's"),
    ),
    "unusual series": (
        lambda root: change(root / SERIES_TABLE, 3, "series_description", "Sagittal T1"),
        ("warning", POINT_TABLE, 22, "spinal_canal_stenosis is marked in a series Sagittal T1, study 1"),
    ),
    "point without severity": (
        lambda root: change(root / SEVERITY_TABLE, 2, "left_neural_foraminal_narrowing_l2_l3", None),
        ("warning", POINT_TABLE, 3, "left_neural_foraminal_narrowing at l2_l3 of study 1"),
    ),
    "severity without point": (
        lambda root: pd.read_csv(root / POINT_TABLE).drop(index=0).to_csv(root / POINT_TABLE, index=False),
        ("warning", SEVERITY_TABLE, 2, "left_neural_foraminal_narrowing at l1_l2 of study 1"),
    ),
    "patient twice": (
        lambda root: (root / PATIENT_TABLE).write_text("study_id,age,sex\n1,50,F\n1,51,F\n"),
        ("error", PATIENT_TABLE, 3, "contradicts an earlier row of 1"),
    ),
    "unknown age": (
        lambda root: (root / PATIENT_TABLE).write_text("study_id,age,sex\n1,50,F\n2,500,\n"),
        ("error", PATIENT_TABLE, 3, "'500' is no age"),
    ),
    "unknown sex": (
        lambda root: (root / PATIENT_TABLE).write_text("study_id,age,sex\n1,50,woman\n"),
        ("error", PATIENT_TABLE, 2, "'woman' is no sex"),
    ),
    "missing study": (
        lambda root: shutil.rmtree(root / "train_images" / "2"),
        ("error", SERIES_TABLE, 5, "train_images/2 is not there"),
    ),
    "missing series": (
        lambda root: shutil.rmtree(root / "train_images" / "2" / "31"),
        ("error", SERIES_TABLE, 5, "train_images/2/31 holds no DICOM file"),
    ),
    "missing instance": (
        lambda root: (root / "train_images/1/23/2.dcm").unlink(),
        ("error", POINT_TABLE, 8, "train_images/1/23/2.dcm is not there"),
    ),
    "folder not described": (
        lambda root: shutil.copytree(root / "train_images/1/21", root / "train_images/1/99"),
        ("warning", "train_images/1/99", 0, f"is not in {SERIES_TABLE}"),
    ),
    "unreadable slice": (
        lambda root: (root / "train_images/1/22/3.dcm").write_text("text"),
        ("error", "train_images/1/22/3.dcm", 0, "cannot be read as DICOM (the mark DICM is not at its place)"),
    ),
    "outside the image": (
        lambda root: change(root / POINT_TABLE, 2, "x", "29.5"),
        ("error", POINT_TABLE, 2, "x 29.5, y 6.5 in 30 columns and 40 rows"),
    ),
    "other instance number": (
        lambda root: shutil.copy(root / "train_images/1/22/4.dcm", root / "train_images/1/22/3.dcm"),
        ("warning", POINT_TABLE, 22, "train_images/1/22/3.dcm says instance 4"),
    ),
    "left and right exchanged": (
        lambda root: (change(root / POINT_TABLE, 7, "x", "10"), change(root / POINT_TABLE, 17, "x", "20")),
        (
            "warning", POINT_TABLE, 7,
            "subarticular_stenosis at l1_l2 of study 1: the left point lies 10.0 mm right of the right one",
        ),
    ),
    "point put right": (
        spoil_copy,
        ("warning", "train_label_coordinates.mended.csv", 2, "not as in the challenge's own table: "
         "left_neural_foraminal_narrowing at l1_l2, study 1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_a_row_of_the_report(name, root):
    spoil, wanted = MISTAKES[name]
    spoil(root)
    what = {"folder not described": "series not described", "infinite number": "bad number"}.get(name, name)
    report = open_rsna(root).check()
    found = report[report["what"] == what]
    rows = [(r.level, r.file, r.row, r.problem) for r in found.itertuples()]
    assert wanted in rows, report.to_string()
    assert (report["fix"].str.len() > 0).all()
    lines = [str(finding) for finding in verify("rsna", root)]
    assert any(what in line and wanted[3] in line for line in lines)


def test_two_processes_find_what_one_finds(root, monkeypatch, capsys):
    (root / "train_images/1/22/3.dcm").write_text("text")
    change(root / POINT_TABLE, 2, "x", "29.5")
    alone = open_rsna(root).check(show_progress=True, jobs=1)
    assert "reading headers" in capsys.readouterr().out
    monkeypatch.setattr("spider_utils.data.rsna._AT_ONCE", 4)
    pd.testing.assert_frame_equal(open_rsna(root).check(jobs=2), alone)
    assert {"unreadable slice", "outside the image"} <= set(alone["what"])


def test_left_and_right_on_sagittal_slices_are_known_from_the_header(root):
    """Points of the left side on the slice at the patient's right."""
    table = pd.read_csv(root / POINT_TABLE)
    left = table["condition"].str.startswith("Left Neural") & (table["study_id"] == 2)
    right = table["condition"].str.startswith("Right Neural") & (table["study_id"] == 2)
    table.loc[left, "instance_number"], table.loc[right, "instance_number"] = 1, 5
    table.to_csv(root / POINT_TABLE, index=False)
    report = open_rsna(root).check()
    assert report["what"].tolist() == ["left and right exchanged"] * 5
    assert "the left point lies 40.0 mm right of the right one" in report["problem"][0]
    assert open_rsna(root).check(deep=False).empty


def test_a_copy_that_was_put_right_is_compared_with_the_original(root):
    spoil_copy(root)
    data = open_rsna(root)
    assert data.tables.point_file == "train_label_coordinates.mended.csv" and len(data.samples) == 49
    differ = data.check().query("what == 'copies differ'")
    assert sorted(zip(differ["file"], differ["row"], differ["problem"], strict=True)) == [
        (POINT_TABLE, 3, "train_label_coordinates.mended.csv has moved left_neural_foraminal_narrowing at l2_l3, study 1"),
        (POINT_TABLE, 4, "train_label_coordinates.mended.csv has no left_neural_foraminal_narrowing at l3_l4, study 1"),
    ]
    moved = data.samples.set_index(["study", "condition", "level"]).loc[(1, "left_neural_foraminal_narrowing", "l2_l3")]
    assert moved["x"] == 22.0


def test_points_in_error_are_no_samples(root):
    for row, column, value in ((2, "condition", "Hernia"), (3, "x", "nan"), (4, "series_id", "31"), (5, "level", "L9")):
        change(root / POINT_TABLE, row, column, value)
    assert len(open_rsna(root).samples) == 46


def test_what_cannot_be_opened_or_read_is_one_line(root):
    with pytest.raises(DataError, match="does not exist. Check the path, or: spider-kit data phantom --kind rsna"):
        open_rsna(root / "nowhere")
    data = open_rsna(root)
    with pytest.raises(DataError, match="5.dcm: the point x 30, y 6 lies outside its 30 columns and 40 rows"):
        data.picture(root / "train_images/1/21/5.dcm", 30, 6)
    with pytest.raises(DataError, match="train_images/1/77: this series has no folder"):
        data.load(1, 77)
    shutil.copy(root / "train_images/1/22/4.dcm", root / "train_images/1/22/3.dcm")
    with pytest.raises(DataError, match="4.dcm: repeats the instance number 4"):
        data.load(1, 22)
    (root / POINT_TABLE).unlink()
    with pytest.raises(DataError, match=f"{POINT_TABLE}: this table is missing"):
        _ = open_rsna(root).samples
    (root / SERIES_TABLE).write_text("study_id,series\n1,2\n")
    with pytest.raises(DataError, match=r"lacks the column\(s\) series_id, series_description"):
        _ = open_rsna(root).tables


def test_the_state_changes_with_tables_and_files(root):
    before = open_rsna(root).state()
    assert open_rsna(root).state() == before
    (root / "train_images/1/21/5.dcm").touch()
    after = open_rsna(root).state()
    (root / SERIES_TABLE).write_text((root / SERIES_TABLE).read_text() + "\n")
    assert len({before, after, open_rsna(root).state()}) == 3
