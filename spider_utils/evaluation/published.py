"""What the sources print, number by number, each with what is known of how it was measured.

A table is a file in ``data_manifest/published``: comment lines ``# key: text``, then a CSV with a row a printed row. ``row`` and
``table`` are templates that name a row by its columns; columns that hold numbers and are in neither are the printed quantities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter

import pandas as pd

from spider_utils.data.manifest import manifest_folder
from spider_utils.errors import DataError, KitError
from spider_utils.evaluation.arithmetic import Printed
from spider_utils.files import read_csv

PROTOCOL = ("data", "split", "classes", "averaging", "resolution")
"""What is told of how a number was measured, as far as its source says."""
_NEEDED = ("source", "table", "about", *PROTOCOL, "row")
_OPTIONAL = ("exact",)
SOURCES = {
    "medfusion": "MedFusionNet (project report, 2024)",
    "ahmed": "Ahmed et al. (arXiv 2409.06018, 2024)",
    "unetr": "UNETR on SPIDER (course project, 2024)",
    "triplanar": "Georgiev & Asenov (2019)",
    "misan": "classification with seven CNNs (thesis)",
    "spider": "SPIDER itself (van der Graaf et al., 2024)",
}
"""Key of a source -> what it is."""


@dataclass(frozen=True)
class PrintedRow:
    """One row of a printed table.

    Attributes:
        source: key of SOURCES.
        table: as the source calls it.
        row: what the row is of.
        cells: quantity -> the number, in the table's order; what is not printed is left out.
        names: the columns that name the row.
    """

    source: str
    table: str
    row: str
    cells: dict[str, Printed]
    names: dict[str, str]


@dataclass(frozen=True)
class PrintedTable:
    """One file of ``data_manifest/published``.

    Attributes:
        name: of the file, without its suffix.
        source: key of SOURCES.
        about: what the table holds.
        protocol: PROTOCOL -> what the source says.
        rows: in the file's order.
    """

    name: str
    source: str
    about: str
    protocol: dict[str, str]
    rows: tuple[PrintedRow, ...]

    def __getitem__(self, row: str) -> PrintedRow:
        """The row of this name. Raises KeyError without one."""
        return {one.row: one for one in self.rows}[row]


def table_names() -> list[str]:
    """Names of all printed tables, source after source in the order of SOURCES.

    Raises:
        DataError: a file's name does not begin with a source.
    """
    order = list(SOURCES)
    paths = sorted((manifest_folder() / "published").glob("*.csv"))
    for path in paths:
        if path.stem.split("_")[0] not in order:
            raise DataError(path, "its name begins with no source", f"Call it SOURCE_table.csv; sources are {', '.join(order)}.")
    return sorted((path.stem for path in paths), key=lambda name: order.index(name.split("_")[0]))


@cache
def printed_rows(name: str) -> PrintedTable:
    """A printed table by the name of its file, such as "ahmed_table2".

    Raises:
        KitError: there is no such table.
        DataError: as read_printed.
    """
    if name not in table_names():
        raise KitError(f"there is no printed table '{name}'; there are {', '.join(table_names())}")
    return read_printed(manifest_folder() / "published" / f"{name}.csv")


def read_printed(path: str | Path) -> PrintedTable:
    """Read one file of printed numbers.

    Raises:
        DataError: the file is missing or no CSV, a key is missing or unknown, a template names no column, a cell is no number,
            or two rows have one name.
    """
    path = Path(path)
    head: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith("#"):
                    break
                key, _, text = line[1:].partition(":")
                head[key.strip()] = text.strip()
        table = read_csv(path, comment="#", dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(path, f"cannot be read as CSV ({str(error)[:120]})", "Check the path, and its rows.") from error
    _demand(path, set(head) >= set(_NEEDED), f"lacks '# {next((k for k in _NEEDED if k not in head), '')}: ...'")
    odd = [key for key in head if key not in (*_NEEDED, *_OPTIONAL)]
    _demand(path, not odd, f"has an unknown key '{next(iter(odd), '')}'")
    _demand(path, head["source"] in SOURCES, f"is of no known source: '{head['source']}'")
    templates = [head["table"], head["row"], *(head[key] for key in PROTOCOL)]
    naming = {field for text in templates for _, field, _, _ in Formatter().parse(text) if field}
    exact = set(re.split(r",\s*", head["exact"])) if "exact" in head else set()
    lost = (naming | exact) - set(table.columns)
    _demand(path, not lost, f"has no column '{next(iter(sorted(lost)), '')}', which its head names")
    rows = []
    for record in table.to_dict("records"):
        cells = {}
        for column, text in record.items():
            if column not in naming and text:
                try:
                    cells[column] = Printed(text, column in exact)
                except ValueError as error:
                    raise DataError(path, f"column '{column}': {error}", "Write the number as it is printed.") from error
        names = {column: record[column] for column in table.columns if column in naming}
        rows.append(PrintedRow(head["source"], head["table"].format(**names), head["row"].format(**names), cells, names))
    _demand(path, len({(row.table, row.row) for row in rows}) == len(rows), "names two rows alike")
    protocol = {key: head[key] for key in PROTOCOL}
    return PrintedTable(path.stem, head["source"], head["about"], protocol, tuple(rows))


def _demand(path: Path, holds: bool, problem: str) -> None:
    if not holds:
        raise DataError(path, problem, "See the head of data_manifest/published/medfusion_table2.csv.")


def chosen_tables(source: str | None = None) -> Iterator[PrintedTable]:
    """All printed tables, or those of one source.

    Raises:
        KitError: another source.
    """
    if source is not None and source not in SOURCES:
        raise KitError(f"'{source}' is no source. Known are: {', '.join(SOURCES)}")
    for name in table_names():
        if source in (None, name.split("_")[0]):
            yield printed_rows(name)


def printed_numbers(source: str | None = None) -> pd.DataFrame:
    """Every printed number.

    Args:
        source: key of SOURCES; all when None.

    Returns:
        One row a number: source, table, row, quantity, text (its digits), value, low and high (what is rounded to these digits),
        then PROTOCOL, and file.

    Raises:
        KitError: another source.
    """
    found = []
    for table in chosen_tables(source):
        for row in table.rows:
            for quantity, number in row.cells.items():
                ends = number.interval()
                about = {"source": row.source, "table": row.table, "row": row.row, "quantity": quantity, "text": number.text}
                about |= {"value": float(number.value), "low": float(ends.low), "high": float(ends.high)}
                protocol = {key: text.format(**row.names) for key, text in table.protocol.items()}
                found.append(about | protocol | {"file": f"{table.name}.csv"})
    return pd.DataFrame(found)
