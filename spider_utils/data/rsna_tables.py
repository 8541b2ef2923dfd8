"""The three tables of the RSNA 2024 Lumbar Spine Degenerative Classification challenge, and every mistake in them.

``train.csv``
    a row a study; 25 columns <condition>_<level> hold Normal/Mild, Moderate, Severe or nothing.
``train_series_descriptions.csv``
    a row a series: study_id, series_id, series_description.
``train_label_coordinates.csv``
    a row a point: study_id, series_id, instance_number, condition, level, x, y (pixels). The challenge's file writes "Spinal
    Canal Stenosis" and "L1/L2"; copies that participants have put right write spinal_canal_stenosis and l1_l2, and mark what
    they changed in a column ``fix``. Such a copy (train_label_coordinates.<name>.csv) is preferred to an original beside it.
``train_patients.csv``
    not of the challenge, may be absent: study_id, age (years), sex (F, M, O); empty where unknown.

A mistake is reported, never mended in silence: the row in question is left out of what the tables give, or kept with a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.dicom import SEXES
from spider_utils.data.tables import Report, read_as_text, whole_numbers

# In the order in which `misan` numbers its classes 0 to 4.
CONDITIONS = (
    "left_neural_foraminal_narrowing",
    "left_subarticular_stenosis",
    "right_neural_foraminal_narrowing",
    "right_subarticular_stenosis",
    "spinal_canal_stenosis",
)
LEVELS = ("l1_l2", "l2_l3", "l3_l4", "l4_l5", "l5_s1")
SEVERITIES = ("Normal/Mild", "Moderate", "Severe")
DESCRIPTIONS = ("Sagittal T1", "Sagittal T2/STIR", "Axial T2")
SERIES_OF = {  # series in which the radiologists of the challenge marked a condition
    "left_neural_foraminal_narrowing": "Sagittal T1",
    "right_neural_foraminal_narrowing": "Sagittal T1",
    "left_subarticular_stenosis": "Axial T2",
    "right_subarticular_stenosis": "Axial T2",
    "spinal_canal_stenosis": "Sagittal T2/STIR",
}

SEVERITY_TABLE = "train.csv"
SERIES_TABLE = "train_series_descriptions.csv"
POINT_TABLE = "train_label_coordinates.csv"
PATIENT_TABLE = "train_patients.csv"
OLDEST = 120  # years
SAME_POINT_PIXELS = 1e-3  # copies are written with fewer digits
_POINT_COLUMNS = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")


@dataclass(frozen=True)
class RsnaTables:
    """What the tables say, mistakes left out.

    Attributes:
        labels: study, condition, level, severity (one of SEVERITIES), grade (0, 1, 2), row of train.csv.
        series: study, series, description, row.
        points: study, series, instance, condition, level, x, y, fixed (bool: changed by the makers of the copy), row.
        point_file: name of the table that the points come from.
        patients: study, age (years), sex ("F", "M", "O"), row; NaN where unknown; no rows when there is no such table.
        mistakes: see data.tables.Report.table.
    """

    labels: pd.DataFrame
    series: pd.DataFrame
    points: pd.DataFrame
    point_file: str
    patients: pd.DataFrame
    mistakes: pd.DataFrame


def plain_name(names: pd.Series) -> pd.Series:
    """ "Spinal Canal Stenosis" -> "spinal_canal_stenosis", "L1/L2" -> "l1_l2"."""
    return names.astype(str).str.strip().str.lower().str.replace(r"[\s/]+", "_", regex=True)


def _read(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    return read_as_text(path, needed, "Give the folder that holds the challenge's CSV files.", "Use the challenge's own table.")


def _drop_bad_numbers(table: pd.DataFrame, columns: dict[str, str], file: str, report: Report) -> pd.DataFrame:
    """Rename id columns to ``columns`` and make them integers; rows with anything else are reported and dropped."""
    table = table.rename(columns=columns)
    for name in columns.values():
        numbers = whole_numbers(table[name])
        table[name] = numbers.where(numbers > 0)
    bad = table[list(columns.values())].isna().any(axis=1)
    report.add(
        "error", "bad number", file, table.loc[bad, "row"], f"{' or '.join(columns)} is no whole number", "Correct the row."
    )
    return table[~bad].astype(dict.fromkeys(columns.values(), "int64"))


def _drop_twins(table: pd.DataFrame, keys: list[str], what: str, file: str, report: Report) -> pd.DataFrame:
    """Keep the first of rows that agree in ``keys``; the others are reported, worse where they disagree elsewhere."""
    twins = table.duplicated(keys)
    same = table.duplicated([c for c in table if c != "row"])
    for mask, level, text in (
        (twins & same, "warning", "repeats an earlier row"),
        (twins & ~same, "error", "contradicts an earlier row"),
    ):
        who = table.loc[mask, keys].astype(str).agg(", ".join, axis=1) if mask.any() else pd.Series(dtype=str)
        report.add(level, what, file, table.loc[mask, "row"], text + " of " + who, "The first row is used: delete this one.")
    return table[~twins]


def read_tables(root: str | Path) -> RsnaTables:
    """Read the tables of a folder and list every mistake in them and between them.

    Raises:
        DataError: a table is missing, cannot be read, or lacks a column.
    """
    root, report = Path(root), Report()
    labels, studies = _labels(root, report)
    series = _series(root, report)
    points, point_file = _points(root, report)
    patients = _patients(root, report)
    for table, name, other, where in (
        (studies, SEVERITY_TABLE, series, SERIES_TABLE),
        (series, SERIES_TABLE, studies, SEVERITY_TABLE),
        (points, point_file, studies, SEVERITY_TABLE),
        (studies, SEVERITY_TABLE, points, point_file),
        (patients, PATIENT_TABLE, studies, SEVERITY_TABLE),
    ):
        first = table.drop_duplicates("study")
        alone = first[~first["study"].isin(other["study"])]
        text = "study " + alone["study"].astype(str) + f" is not in {where}"
        report.add("warning", "study in one table only", name, alone["row"], text, f"Add it to {where}, or take it out here.")
    points = _match_series(points, series, point_file, report)
    _match_severities(points, labels, studies, point_file, report)
    return RsnaTables(labels, series, points, point_file, patients, report.table())


def _labels(root: Path, report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The severities, one a row, and the studies that have a row in the table."""
    table = _read(root / SEVERITY_TABLE, ("study_id",))
    known = {f"{condition}_{level}": (condition, level) for condition in CONDITIONS for level in LEVELS}
    found = [name for name in table if name not in ("study_id", "row")]
    odd = [name for name in found if plain_name(pd.Series([name]))[0] not in known]
    text = "column '" + pd.Series(odd, dtype=str) + "' names no known condition and level"
    report.add("error", "unknown condition or level", SEVERITY_TABLE, [1] * len(odd), text, "Correct the name of the column.")
    table = table.drop(columns=odd)
    table.columns = ["study_id" if c == "study_id" else "row" if c == "row" else plain_name(pd.Series([c]))[0] for c in table]
    lacking = [name for name in known if name not in table]
    text = "column '" + pd.Series(lacking, dtype=str) + "' is missing"
    report.add("error", "missing column", SEVERITY_TABLE, [1] * len(lacking), text, "Use the challenge's own table.")
    table = _drop_bad_numbers(table, {"study_id": "study"}, SEVERITY_TABLE, report)
    table = _drop_twins(table, ["study"], "study twice", SEVERITY_TABLE, report)
    long = table.melt(["study", "row"], var_name="name", value_name="severity")
    parts = long["name"].map(known)
    long["condition"], long["level"] = parts.str[0], parts.str[1]
    given = long["severity"].astype("string").str.strip()
    empty = given.isna() | (given == "")
    report.add(
        "warning", "no severity", SEVERITY_TABLE, long.loc[empty, "row"],
        "study " + long.loc[empty, "study"].astype(str) + " has none for " + long.loc[empty, "name"],
        "It counts in no score; nothing is to be done.",
    )  # fmt: skip
    names = {name.lower(): name for name in SEVERITIES}
    long["severity"] = given.str.lower().map(names)
    wrong = long["severity"].isna() & ~empty
    report.add(
        "error", "unknown severity", SEVERITY_TABLE, long.loc[wrong, "row"],
        "'" + given[wrong] + "' in column " + long.loc[wrong, "name"], f"Known are {', '.join(SEVERITIES)}.",
    )  # fmt: skip
    long = long[long["severity"].notna()].copy()
    long["grade"] = long["severity"].map(dict(zip(SEVERITIES, range(3), strict=True))).astype(int)
    order = ["study", "condition", "level", "severity", "grade", "row"]
    return long[order].sort_values(order[:3], ignore_index=True), table[["study", "row"]]


def _series(root: Path, report: Report) -> pd.DataFrame:
    table = _read(root / SERIES_TABLE, ("study_id", "series_id", "series_description"))
    table = table.rename(columns={"series_description": "description"})
    table = _drop_bad_numbers(table, {"study_id": "study", "series_id": "series"}, SERIES_TABLE, report)
    table = _drop_twins(table, ["study", "series"], "series twice", SERIES_TABLE, report)
    table["description"] = table["description"].astype("string").str.strip()
    odd = ~table["description"].isin(DESCRIPTIONS)
    text = "'" + table.loc[odd, "description"].fillna("") + "' is no known description"
    report.add("warning", "unknown description", SERIES_TABLE, table.loc[odd, "row"], text, f"Known: {', '.join(DESCRIPTIONS)}.")
    return table[["study", "series", "description", "row"]].sort_values(["study", "series"], ignore_index=True)


def _patients(root: Path, report: Report) -> pd.DataFrame:
    """Age and sex by study; what is no age or no sex is reported and missing."""
    if not (root / PATIENT_TABLE).is_file():
        empty = {"study": "int64", "age": "float64", "sex": "str", "row": "int64"}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in empty.items()})
    table = _read(root / PATIENT_TABLE, ("study_id", "age", "sex"))
    table = _drop_bad_numbers(table, {"study_id": "study"}, PATIENT_TABLE, report)
    table = _drop_twins(table[["study", "age", "sex", "row"]], ["study"], "patient twice", PATIENT_TABLE, report).copy()
    age, sex = pd.to_numeric(table["age"], errors="coerce"), table["sex"].str.strip().str.upper()
    age, sex = age.where(age.between(0, OLDEST)), sex.where(sex.isin(SEXES))
    for column, found, fix in (
        ("age", age, f"Write years from 0 to {OLDEST}, or nothing."),
        ("sex", sex, f"Known are {', '.join(SEXES)}, or nothing."),
    ):
        odd = found.isna() & (table[column].fillna("").str.strip() != "")
        text = "'" + table.loc[odd, column] + f"' is no {column}"
        report.add("error", f"unknown {column}", PATIENT_TABLE, table.loc[odd, "row"], text, fix)
    table["age"], table["sex"] = age.astype("float64"), sex.astype("str")
    return table.sort_values("study", ignore_index=True)


def _point_paths(root: Path) -> tuple[Path, Path | None]:
    """The table of points to use, and the challenge's own when a copy that was put right lies beside it."""
    original, copies = root / POINT_TABLE, sorted(root.glob("train_label_coordinates.*.csv"))
    if not copies:
        return original, None
    return copies[-1], original if original.is_file() else None


def _points(root: Path, report: Report) -> tuple[pd.DataFrame, str]:
    path, original = _point_paths(root)
    points = _clean_points(_read(path, _POINT_COLUMNS), path.name, report)
    fixed = points[points["fixed"]]
    place = fixed["condition"] + " at " + fixed["level"]
    report.add(
        "warning", "point put right", path.name, fixed["row"],
        "not as in the challenge's own table: " + place + ", study " + fixed["study"].astype(str),
        "Made by the copy's authors, not by the challenge's radiologists: say so, or leave it out.",
    )  # fmt: skip
    if original is not None:
        _compare(
            _clean_points(_read(original, _POINT_COLUMNS), original.name, Report()), points, original.name, path.name, report
        )
    return points, path.name


def _clean_points(table: pd.DataFrame, file: str, report: Report) -> pd.DataFrame:
    """Points with known names and usable numbers, one a study, condition and level of a series."""
    ids = {"study_id": "study", "series_id": "series", "instance_number": "instance"}
    table = _drop_bad_numbers(table, ids, file, report)
    for column, known in (("condition", CONDITIONS), ("level", LEVELS)):
        given = table[column].fillna("").astype(str)
        table[column] = plain_name(table[column])
        odd = ~table[column].isin(known)
        text = "'" + given[odd] + f"' is no known {column}"
        report.add("error", f"unknown {column}", file, table.loc[odd, "row"], text, f"Known are {', '.join(known)}.")
        table = table[~odd].copy()
    for axis in ("x", "y"):
        table[axis] = pd.to_numeric(table[axis], errors="coerce")
    outside = ~(np.isfinite(table["x"]) & np.isfinite(table["y"]) & (table["x"] >= 0) & (table["y"] >= 0))
    x, y = (table.loc[outside, axis].map(str).astype(str) for axis in ("x", "y"))  # a missing number is a word too: "nan"
    text = "x " + x + ", y " + y
    report.add("error", "no place in an image", file, table.loc[outside, "row"], text, "Coordinates are pixels from 0 on.")
    table = table[~outside].copy()
    fix = pd.to_numeric(table["fix"], errors="coerce") if "fix" in table else pd.Series(0, index=table.index)
    table["fixed"] = fix.fillna(0) != 0
    table = table[["study", "series", "instance", "condition", "level", "x", "y", "fixed", "row"]]
    table = _drop_twins(table, ["study", "series", "condition", "level"], "point twice", file, report)
    return table.sort_values(["study", "condition", "level", "series"], ignore_index=True)


def _compare(original: pd.DataFrame, copy: pd.DataFrame, original_name: str, copy_name: str, report: Report) -> None:
    """List where a copy that was put right differs from the challenge's own table."""
    keys = ["study", "series", "condition", "level"]
    both = original.merge(copy, on=keys, how="outer", suffixes=("_old", "_new"), indicator=True)
    place = both["condition"] + " at " + both["level"] + ", study " + both["study"].astype(str)
    moved = (both["_merge"] == "both") & (
        (both["instance_old"] != both["instance_new"])
        | (np.hypot(both["x_old"] - both["x_new"], both["y_old"] - both["y_new"]) > SAME_POINT_PIXELS)
    )
    for mask, file, row, text in (
        (moved, original_name, "row_old", f"{copy_name} has moved "),
        (both["_merge"] == "left_only", original_name, "row_old", f"{copy_name} has no "),
        (both["_merge"] == "right_only", copy_name, "row_new", f"{original_name} has no "),
    ):
        rows = both.loc[mask, row].astype(int)
        report.add("warning", "copies differ", file, rows, text + place[mask], f"{copy_name} is used.")


def _match_series(points: pd.DataFrame, series: pd.DataFrame, file: str, report: Report) -> pd.DataFrame:
    """Drop points whose series nobody described; warn of those in an unusual series."""
    described = points.merge(series.drop(columns="row"), on=["study", "series"], how="left")
    lost = described["description"].isna()
    owner = series.drop_duplicates("series").set_index("series")["study"]
    elsewhere = described.loc[lost, "series"].map(owner)
    text = "series " + described.loc[lost, "series"].astype(str) + " of study " + described.loc[lost, "study"].astype(str)
    text += np.where(elsewhere.notna(), " is described as another study's", f" is not in {SERIES_TABLE}")
    report.add("error", "series not described", file, described.loc[lost, "row"], text, f"Add it to {SERIES_TABLE}.")
    described = described[~lost]
    usual = described["condition"].map(SERIES_OF)
    odd = described[described["description"].isin(DESCRIPTIONS) & (described["description"] != usual)]
    text = odd["condition"] + " is marked in a series " + odd["description"] + ", study " + odd["study"].astype(str)
    report.add("warning", "unusual series", file, odd["row"], text, "Look at it, or leave it out.")
    return described.reset_index(drop=True)


def _match_severities(points: pd.DataFrame, labels: pd.DataFrame, studies: pd.DataFrame, file: str, report: Report) -> None:
    keys = ["study", "condition", "level"]
    found = points.merge(labels[[*keys, "grade"]], on=keys, how="left")
    bare = found[found["grade"].isna() & found["study"].isin(studies["study"])]
    text = bare["condition"] + " at " + bare["level"] + " of study " + bare["study"].astype(str)
    report.add("warning", "point without severity", file, bare["row"], text, "It is no sample: nothing is to be learnt from it.")
    found = labels.merge(points[keys].drop_duplicates().assign(there=True), on=keys, how="left")
    bare = found[found["there"].isna()]
    text = bare["condition"] + " at " + bare["level"] + " of study " + bare["study"].astype(str)
    fix = "Whole images can use it, crops around points not."
    report.add("warning", "severity without point", SEVERITY_TABLE, bare["row"], text, fix)


def side_of(condition: str) -> str:
    """ "left", "right" or "" for the canal."""
    match = re.match(r"(left|right)_", condition)
    return match[1] if match else ""
