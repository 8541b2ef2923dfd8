"""What radiologists wrote of each disc: SPIDER's ``radiological_gradings.csv``, and every mistake in it.

A row a disc, keyed by ``Patient`` and ``IVD label`` (1 = L5/S1, counted upward; mask label 200 + N), with eight findings (van der
Graaf et al., Sci Data 11:264, 2024, Table 4). The table's own column names are kept, its spelling of Pfirrmann too. A mistake is
reported, never mended in silence: the row, or the one value, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spider_utils.data.tables import Report, read_as_text, whole_numbers
from spider_utils.errors import DataError
from spider_utils.labels import disc_name

GRADINGS_FILE = "radiological_gradings.csv"
_KEYS = ("Patient", "IVD label")
_HIGHEST_DISC = 25  # SPIDER's labels 201 to 225


@dataclass(frozen=True)
class Finding:
    """One column of the table.

    Attributes:
        column: its name there.
        name: for figures and text.
        grades: values that it can have, ascending.
        present_from: the grade from which the finding counts as present.
        ordered: whether a higher grade means more of the same. Modic types are kinds, not steps.
    """

    column: str
    name: str
    grades: tuple[int, ...] = (0, 1)
    present_from: int = 1
    ordered: bool = True

    @property
    def target_grades(self) -> tuple[int, ...]:
        """What a model learns to tell apart: the grades; of kinds only "none" (0) and "present" (1), see ``target``."""
        return self.grades if self.ordered else (0, 1)

    def target(self, values: pd.Series) -> pd.Series:
        """Grades as a model learns them: of SPIDER's 514 Modic changes 11 are of type 1 or 3, too few to tell types apart."""
        return values if self.ordered else (values >= self.present_from).astype("Int64")

    @property
    def target_from(self) -> int:
        """The value of ``target`` from which the finding counts as present."""
        return self.present_from if self.ordered else 1

    @property
    def present_name(self) -> str:
        """What "present" means, in words."""
        return self.name if self.target_grades == (0, 1) else f"{self.name} {self.present_from} to {self.grades[-1]}"


FINDINGS = {
    finding.column: finding
    for finding in (
        Finding("Modic", "Modic change", (0, 1, 2, 3), ordered=False),
        Finding("UP endplate", "upper endplate defect"),
        Finding("LOW endplate", "lower endplate defect"),
        Finding("Spondylolisthesis", "spondylolisthesis"),
        Finding("Disc herniation", "disc herniation"),
        Finding("Disc narrowing", "disc narrowing"),
        Finding("Disc bulging", "disc bulging"),
        Finding("Pfirrman grade", "Pfirrmann grade", (1, 2, 3, 4, 5), present_from=4),
    )
}


@dataclass(frozen=True)
class Gradings:
    """The table, mistakes left out.

    Attributes:
        table: a row a disc, by patient and disc: ``patient``, ``disc`` (1 = L5/S1), ``level`` ("L5/S1"), and the columns of
            FINDINGS (Int64, missing where nothing usable stands there).
        mistakes: see data.tables.Report.table.
    """

    table: pd.DataFrame
    mistakes: pd.DataFrame


def read_gradings(path: str | Path) -> Gradings:
    """Read the gradings of SPIDER or of a phantom.

    Rows whose ``IVD label`` belongs to no disc (0 in two of SPIDER's), rows without a patient, and discs that are graded twice
    with different grades are left out; of equal rows the first stays. Values that a finding cannot have are left out alone.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        DataError: there is no such file, it is no UTF-8 text or no CSV, lacks a column, or has no usable row.
    """
    path = Path(path)
    path = path / GRADINGS_FILE if path.is_dir() else path
    raw = read_as_text(
        path,
        (*_KEYS, *FINDINGS),
        f"Give {GRADINGS_FILE} or the folder that holds it.",
        "Commas between columns, and SPIDER's names, are expected.",
    )
    report = Report()
    raw["patient"] = whole_numbers(raw["Patient"])
    nameless = ~(raw["patient"] >= 1).fillna(False)
    problem = "'" + raw.loc[nameless, "Patient"].fillna("") + "' is no patient's number"
    report.add("error", "no patient", path.name, raw.loc[nameless, "row"], problem, "Write the patient's number.")
    raw["disc"] = whole_numbers(raw["IVD label"])
    no_disc = ~raw["disc"].between(1, _HIGHEST_DISC).fillna(False) & ~nameless
    problem = "IVD label " + raw.loc[no_disc, "IVD label"].fillna("(nothing)") + " of patient "
    problem += raw.loc[no_disc, "patient"].astype(str)
    report.add("error", "no disc", path.name, raw.loc[no_disc, "row"], problem, "The row belongs to no disc of a mask.")
    table = raw[~nameless & ~no_disc].copy()
    for finding in FINDINGS.values():
        values = whole_numbers(table[finding.column])
        known = values.isin(finding.grades)
        odd = ~known & table[finding.column].notna()
        allowed = f"{finding.grades[0]} to {finding.grades[-1]}"
        problem = f"{finding.column} '" + table.loc[odd, finding.column] + f"' is not one of {allowed}"
        report.add("error", "unknown grade", path.name, table.loc[odd, "row"], problem, "Correct it; it is left out.")
        gap = ~known & ~odd
        report.add(
            "warning", "no grade", path.name, table.loc[gap, "row"], f"{finding.column} is empty", "Grade it, or leave it out."
        )
        table[finding.column] = values.where(known)
    table = _once(table, path.name, report)
    if table.empty:
        raise DataError(path, "holds no row that grades a disc", "Use SPIDER's own table, or a phantom's.")
    table = table.assign(level=table["disc"].map(disc_name)).astype({"patient": "int64", "disc": "int64"})
    table = table.sort_values(["patient", "disc"], ignore_index=True)
    return Gradings(table[["patient", "disc", "level", *FINDINGS]], report.table())


def _once(table: pd.DataFrame, file: str, report: Report) -> pd.DataFrame:
    """Every disc once: of equal rows the first, of contradicting ones none."""
    keys = ["patient", "disc"]
    again = table.duplicated([*keys, *FINDINGS])
    text = "disc " + table["disc"].astype(str) + " of patient " + table["patient"].astype(str) + " is graded "
    report.add("warning", "graded twice", file, table.loc[again, "row"], text[again] + "twice alike", "Keep one of the rows.")
    table, text = table[~again], text[~again]
    torn = table.duplicated(keys, keep=False)
    fix = "Keep one of the rows; all are left out."
    report.add("error", "contradiction", file, table.loc[torn, "row"], text[torn] + "twice, otherwise each time", fix)
    return table[~torn]
