"""Ours beside the printed numbers: README and docs say the same, and nothing is left blank."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.errors import DataError
from spider_utils.evaluation import side_by_side as room
from spider_utils.evaluation.published import chosen_tables, printed_numbers, printed_rows, table_names
from spider_utils.evaluation.side_by_side import PROTOCOLS, SYSTEMS, measured_results, reasons, side_by_side

ROOT = Path(__file__).resolve().parents[2]
OURS = measured_results().to_dict("records")


def plain(text: str) -> str:
    """A text on one line, commands of several lines joined."""
    return re.sub(r"\s+", " ", text.replace("\\\n", " "))


@pytest.fixture(scope="module")
def documents() -> str:
    """README and docs/ as one text, wherever a table stands in them."""
    return plain(
        " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))))
    )


def test_readme_and_docs_print_what_is_kept(documents: str) -> None:
    missing = [one["quoted"] for one in OURS if plain(one["quoted"]) not in documents]
    assert not missing, "README and docs say something else: renew data_manifest/measured/results.csv with them"


@pytest.mark.parametrize(
    "one", OURS, ids=lambda one: f"{one['source']}-{one['row']}-{one['quantity']}-{one['protocol']}-{one['data']}"
)
def test_a_number_is_in_its_quotation_with_its_interval(one: dict[str, str]) -> None:
    found = f"{one['value']} [{one['low']}, {one['high']}]" if one["low"] else one["value"]
    assert re.search(rf"(?<![\d.]){re.escape(found)}(?![\d]|\.\d)", one["quoted"])
    if one["low"]:
        assert float(one["low"]) <= float(one["value"]) <= float(one["high"])
    assert one["protocol"] in (*PROTOCOLS, "both") and one["data"] and one["settings"] and one["unit"]


def test_commands_are_those_of_readme_and_docs(documents: str) -> None:
    assert not [one["command"] for one in OURS if plain(one["command"]) not in documents]


def test_every_line_is_of_a_printed_number() -> None:
    from fnmatch import fnmatchcase

    printed = printed_numbers()
    for one in OURS:
        rows = printed[(printed["source"] == one["source"]) & (printed["table"] == one["table"])]
        assert (
            (rows["quantity"] == one["quantity"]) & rows["row"].map(lambda row, one=one: fnmatchcase(row, one["row"]))
        ).any(), one
    assert all(text.startswith("not measured, because ") for text in reasons()["reason"])
    assert set(SYSTEMS) <= set(table_names())


def test_nothing_is_left_blank() -> None:
    table = side_by_side()
    blank = table["note"] == ""
    assert (table["measured"].notna() == blank).all()
    known = set(table.loc[:, ["source", "table", "row", "quantity", "protocol"]].itertuples(index=False, name=None))
    for one in chosen_tables():
        if one.name in SYSTEMS:
            wanted = {(r.source, r.table, r.row, q, p) for r in one.rows for q in r.cells for p in PROTOCOLS}
            assert wanted <= known
    used = set(table.loc[~blank, "note"])
    assert used == set(reasons()["reason"]), "a reason that no number needs"


def test_a_mean_of_several_rows_is_printed_as_their_mean() -> None:
    table = side_by_side("ahmed")
    row = table[(table["row"] == "t2_SPACE [dvs]*") & (table["protocol"] == "honest")].iloc[0]
    cells = [printed_rows("ahmed_table2")[f"t2_SPACE {name}"].cells["dice"] for name in ("disc", "vertebra", "spinal canal")]
    assert row["printed"] == f"{float(sum(one.value for one in cells)) / 3:.4f}" == "0.9690"
    assert (row["measured"], row["low"], row["high"], row["patients"]) == (0.874, 0.849, 0.894, "18")
    assert set(table["source"]) == {"ahmed"}


def test_a_printed_number_without_measurement_or_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "reasons", lambda: reasons().query("source != 'misan'"))
    with pytest.raises(DataError, match=r"says nothing of misan, Table 3\.1, inception_v3, accuracy, printed.*say"):
        side_by_side("misan")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"row": "t9 *"}, r"the line 'ahmed, Table 2, t9 \*, dice, honest' fits no printed result"),
        ({"quantity": "dise"}, "the line 'ahmed, Table 2, t1 disc, dise, honest' fits no printed result"),
        ({"table": "Table 9"}, "fits no printed result"),
        ({"protocol": "honnest"}, "has a protocol that is none of printed, honest, both"),
    ],
)
def test_a_measurement_that_stands_beside_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], problem: str
) -> None:
    fits = OURS[0] | {"source": "ahmed", "table": "Table 2", "row": "t1 disc", "quantity": "dice", "protocol": "honest"}
    monkeypatch.setattr(room, "measured_results", lambda: pd.DataFrame([*OURS, fits | changes]))
    with pytest.raises(DataError, match=problem) as caught:
        side_by_side("ahmed")
    assert caught.value.path.name == "results.csv"


def test_a_file_that_is_missing_or_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "manifest_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"results\.csv: cannot be read as CSV"):
        measured_results()
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "not_measured.csv").write_text("source,table\nahmed,Table 2,t1\n")
    with pytest.raises(DataError, match="more cells than its header"):
        reasons()


def test_the_command(tmp_path: Path) -> None:
    said = CliRunner().invoke(cli.app, ["audit", "--measured", "--source", "unetr", "--out", str(tmp_path / "beside.csv")])
    assert said.exit_code == 0, said.output
    assert "best mean Dice  value  printed 0.7154  honest protocol, phantom: 0.696 [0.668, 0.738]" in said.stdout
    assert "2 numbers not measured, because a loss of training batches" in said.stdout
    written = pd.read_csv(tmp_path / "beside.csv")
    assert len(written) == 6 and math.isnan(written["low"].iloc[0])
