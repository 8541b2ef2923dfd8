"""The table of gradings: what is read, what is reported, what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from spider_utils.data.gradings import FINDINGS, read_gradings
from spider_utils.data.phantom import make_anatomy
from spider_utils.data.verify import _BINARY_GRADES, _GRADES
from spider_utils.errors import DataError

HEAD = "Patient,IVD label," + ",".join(FINDINGS)


def written(folder: Path, *rows: str, head: str = HEAD, encoding: str = "utf-8") -> Path:
    path = folder / "radiological_gradings.csv"
    path.write_text("\r\n".join([head, *rows, ""]), encoding=encoding, newline="")
    return path


def test_a_table_of_two_patients(tmp_path):
    written(tmp_path, "2,1,2,1,0,0,1,1,1,5", "1,2,0,0,0,0,0,0,0,1")
    found = read_gradings(tmp_path)
    assert found.table["patient"].tolist() == [1, 2] and found.table["level"].tolist() == ["L4/L5", "L5/S1"]
    assert found.table.iloc[1][list(FINDINGS)].tolist() == [2, 1, 0, 0, 1, 1, 1, 5]
    assert not len(found.mistakes)


def test_what_the_phantom_grades_is_read(tmp_path):
    table = make_anatomy(3).gradings(7)
    table.to_csv(tmp_path / "radiological_gradings.csv", index=False, lineterminator="\r\n")
    found = read_gradings(tmp_path)
    assert len(found.table) == len(table) and not len(found.mistakes)
    assert (found.table[list(FINDINGS)].to_numpy() == table[list(FINDINGS)].to_numpy()).all()


def test_findings_are_those_that_verify_checks():
    assert set(FINDINGS) == {*_GRADES, *_BINARY_GRADES}
    for column, finding in FINDINGS.items():
        low, high = _GRADES.get(column, (0, 1))
        assert finding.grades == tuple(range(low, high + 1))


def test_every_mistake_is_a_row_of_the_report(tmp_path):
    path = written(
        tmp_path,
        "1,1,0,0,0,0,0,0,0,3",  # line 2, fine
        "1,0,0,0,0,0,0,0,0,1",  # no disc
        "x,2,0,0,0,0,0,0,0,1",  # no patient
        "1,2,7,0,0,0,0,0,0,2.5",  # two unknown grades
        "1,3,0,,0,0,0,0,0,4",  # nothing there
        "1,1,0,0,0,0,0,0,0,3",  # twice alike
        "1,4,0,0,0,0,0,0,0,3",
        "1,4,0,0,0,0,0,0,0,4",  # a contradiction with the line before
        "1,99,0,0,0,0,0,0,0,4",
    )
    found = read_gradings(path)
    assert found.table["disc"].tolist() == [1, 2, 3]
    assert pd.isna(found.table.loc[1, "Modic"]) and pd.isna(found.table.loc[1, "Pfirrman grade"])
    assert found.table.loc[1, "Disc bulging"] == 0 and pd.isna(found.table.loc[2, "UP endplate"])
    said = {(row.what, row.row) for row in found.mistakes.itertuples()}
    assert said == {
        ("no disc", 3), ("no patient", 4), ("unknown grade", 5), ("no grade", 6), ("graded twice", 7), ("contradiction", 8),
        ("contradiction", 9), ("no disc", 10),
    }  # fmt: skip
    assert (found.mistakes["what"] == "unknown grade").sum() == 2


def test_a_byte_order_mark_and_decimals_do_no_harm(tmp_path):
    path = written(tmp_path, "1.0,1.0,0,0,0,0,0,0,0,3.0", encoding="utf-8-sig")
    found = read_gradings(path)
    assert found.table["Pfirrman grade"].tolist() == [3] and found.table["patient"].tolist() == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "radiological_gradings.csv", "missing"),
        (lambda folder: written(folder, "1,1,0,0,0,0,0,0,0,3", head=HEAD.replace("Pfirrman", "Pfirrmann")), "Pfirrman grade"),
        (lambda folder: written(folder, "1;1;0", head=HEAD.replace(",", ";")), "lacks the column"),
        (
            lambda folder: written(folder, "1,1,0,0,0,0,0,0,0,3", head=HEAD.replace("Modic", "Modikä"), encoding="latin-1"),
            "UTF-8",
        ),
        (lambda folder: written(folder, head=""), "CSV"),
        (lambda folder: written(folder), "no row"),
        (lambda folder: written(folder, "1,0,0,0,0,0,0,0,0,3"), "no row"),
        (lambda folder: written(folder, '1,1,"0,0,0', "1,1"), "CSV|no row"),
    ],
)
def test_a_bad_table_is_one_clear_error(tmp_path, make, message):
    with pytest.raises(DataError, match=message) as caught:
        read_gradings(make(tmp_path))
    assert "radiological_gradings.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_modic_is_learnt_as_there_or_not():
    modic, pfirrmann = FINDINGS["Modic"], FINDINGS["Pfirrman grade"]
    values = pd.Series([0, 1, 2, 3, None], dtype="Int64")
    assert modic.target(values).iloc[:4].tolist() == [0, 1, 1, 1] and pd.isna(modic.target(values).iloc[4])
    assert modic.target_grades == (0, 1) and pfirrmann.target_grades == (1, 2, 3, 4, 5)
    assert pfirrmann.target(values) is values
    assert (modic.present_name, pfirrmann.present_name) == ("Modic change", "Pfirrmann grade 4 to 5")
