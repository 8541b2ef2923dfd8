"""What the sources print: every number is there, with its protocol, and files that say too little are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from spider_utils.data.manifest import manifest_folder, published_table
from spider_utils.errors import DataError, KitError
from spider_utils.evaluation import published as room
from spider_utils.evaluation.published import PROTOCOL, SOURCES, printed_numbers, printed_rows, read_printed, table_names

HEAD = {key: "x" for key in ("table", "about", *PROTOCOL)} | {"source": "ahmed", "row": "{name}"}


def write(path: Path, body: str = "name,dice\na,0.90\n", **changes: str | None) -> Path:
    head = {key: text for key, text in (HEAD | changes).items() if text is not None}
    path.write_text("".join(f"# {key}: {text}\n" for key, text in head.items()) + body)
    return path


def test_a_table_keeps_its_digits_and_its_protocol(tmp_path: Path) -> None:
    body = "name,where,dice,patients\na,here,0.90,30\nb,there,,31\n"
    table = read_printed(write(tmp_path / "ahmed_t.csv", body, table="Table {where}", exact="patients", split="of {name}"))
    first, second = table.rows
    assert (first.table, first.row, first.cells["dice"].text) == ("Table here", "a", "0.90")
    assert first.cells["dice"].interval().low == Fraction(895, 1000) and first.cells["patients"].interval().low == 30
    assert list(second.cells) == ["patients"] and table["b"] is second
    assert table.protocol["split"] == "of {name}" and second.names == {"name": "b", "where": "there"}


@pytest.mark.parametrize(
    ("body", "changes", "problem"),
    [
        ("name,dice\na,0.9\n", {"split": None}, "lacks '# split: ...'"),
        ("name,dice\na,0.9\n", {"splits": "x"}, "unknown key 'splits'"),
        ("name,dice\na,0.9\n", {"source": "nobody"}, "no known source: 'nobody'"),
        ("name,dice\na,0.9\n", {"row": "{model}"}, "no column 'model'"),
        ("name,dice\na,0.9\n", {"exact": "n"}, "no column 'n'"),
        ("name,dice\na,high\n", {}, "column 'dice': 'high' is no number"),
        ("name,dice\na,nan\n", {}, "'nan' is no number"),
        ("name,dice\na,0.9\na,0.8\n", {}, "names two rows alike"),
    ],
)
def test_a_file_that_says_too_little_is_refused(tmp_path: Path, body: str, changes: dict[str, str | None], problem: str) -> None:
    path = write(tmp_path / "ahmed_t.csv", body, **changes)
    with pytest.raises(DataError, match=problem) as caught:
        read_printed(path)
    assert caught.value.path == path


def test_a_file_that_is_missing_or_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as CSV") as caught:
        read_printed(tmp_path / "ahmed_t.csv")
    assert caught.value.path == tmp_path / "ahmed_t.csv"
    with pytest.raises(DataError, match="more cells than its header"):
        read_printed(write(tmp_path / "ahmed_t.csv", "name,dice\na,0.90,0.91\n"))


def test_a_file_of_no_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "published").mkdir()
    path = write(tmp_path / "published" / "nobody_t.csv")
    monkeypatch.setattr(room, "manifest_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="begins with no source.*SOURCE_table.csv") as caught:
        table_names()
    assert caught.value.path == path


def test_every_file_is_read_by_both_readers() -> None:
    files = sorted(path.stem for path in (manifest_folder() / "published").glob("*"))
    assert sorted(table_names()) == files
    for name in files:
        table, plain = printed_rows(name), published_table(name)
        assert len(plain) == len(table.rows) and table.source == name.split("_")[0] in SOURCES
        for row, record in zip(table.rows, plain.to_dict("records"), strict=True):
            assert {key: float(cell.value) for key, cell in row.cells.items()} == {key: float(record[key]) for key in row.cells}


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return printed_numbers()


def test_every_number_has_source_table_row_and_protocol(numbers: pd.DataFrame) -> None:
    assert (numbers[["source", "table", "row", "quantity", "text", *PROTOCOL]].map(len) > 0).all(axis=None)
    assert not numbers.duplicated(["source", "table", "row", "quantity"]).any()
    assert (numbers["low"] <= numbers["value"]).all() and (numbers["value"] <= numbers["high"]).all()
    assert not numbers[list(PROTOCOL)].apply(lambda column: column.str.contains("[{}]")).any(axis=None), "a template was left"


@pytest.mark.parametrize(
    ("source", "table", "row", "quantity", "text"),
    [  # of the text of each source, one here and there, and both ends
        ("medfusion", "Table 2", "unet", "iou", "0.410"),
        ("medfusion", "Table 2", "resunet+deeplabv3", "dice", "0.918"),
        ("medfusion", "Figure 15, weights", "weight 0.35", "dice", "0.9237"),
        ("medfusion", "Figure 15, weights", "weight 0.60", "diff", "0.0432"),
        ("medfusion", "Figure 15, best weights", "best weights", "dice", "0.9890"),
        ("medfusion", "Figure 13", "unetplusplus, epoch 50", "val_loss", "0.1985"),
        ("medfusion", "Figure 13", "resunet, epoch 50", "train_loss", "0.6048"),
        ("ahmed", "Table 2", "t2_SPACE disc", "nsd", "0.9994"),
        ("ahmed", "Table 2", "t2 spinal canal", "f1", "0.9709"),
        ("ahmed", "Table 3", "spinal canal asd", "nnunet", "0.46"),
        ("ahmed", "section 3.2.2", "t1", "before_percent", "57"),
        ("unetr", "Evaluation & Results", "lowest loss", "value", "0.15683"),
        ("triplanar", "Table 3", "disc mean", "dice", "0.9112"),
        ("triplanar", "Table 5", "disc", "FN", "6"),
        ("triplanar", "Table 7", "ligament", "iou", "0.62"),
        ("misan", "Table 3.1", "resnet50", "loss", "1.024"),
        ("spider", "baseline IIS", "disc", "asd_mm_sd", "0.45"),
        ("spider", "Table 1", "OH", "female_percent", "68"),
    ],
)
def test_numbers_are_as_printed(numbers: pd.DataFrame, source: str, table: str, row: str, quantity: str, text: str) -> None:
    found = numbers.set_index(["source", "table", "row", "quantity"])["text"]
    assert found[source, table, row, quantity] == text


def test_counts_of_numbers(numbers: pd.DataFrame) -> None:
    counts = numbers.groupby(["source", "table"]).size()
    assert counts["medfusion", "Table 2"] == 20 and counts["medfusion", "Figure 15, weights"] == 17 * 3
    assert counts["medfusion", "Figure 13"] == 57 * 3 and counts["ahmed", "Table 2"] == 84
    assert counts["triplanar", "Table 7"] == 9 and counts["triplanar", "Table 5"] == 16 and counts["misan", "Table 3.1"] == 42
    assert counts["spider", "baseline IIS"] == 12


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KitError, match="no printed table 'ahmed_table9'"):
        printed_rows("ahmed_table9")
    with pytest.raises(KitError, match=r"'nobody' is no source\. Known are: medfusion, ahmed"):
        printed_numbers("nobody")
    assert set(printed_numbers("misan")["source"]) == {"misan"}
