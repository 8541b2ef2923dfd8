"""Printed beside measured: every result of every source, under its own protocol and under an honest one, or why there is none.

Ours stand in ``data_manifest/measured``: ``results.csv``, a row a number as README and docs print it (a test holds them
together), and ``not_measured.csv``, the reasons for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import pandas as pd

from spider_utils.data.manifest import manifest_folder
from spider_utils.errors import DataError
from spider_utils.evaluation.published import PrintedTable, chosen_tables
from spider_utils.files import read_csv

PROTOCOLS = ("printed", "honest")
"""As the source measured, as far as it says and data allow; and by patient, every slice, a mean over patients."""
BOTH = "both"
SYSTEMS = (
    "medfusion_table2", "medfusion_weights", "medfusion_best", "ahmed_table2", "ahmed_table3", "ahmed_ratios",
    "unetr_results", "triplanar_table1", "triplanar_tables2to4", "triplanar_table5", "triplanar_table6", "triplanar_table7",
    "misan_table3_1", "spider_baseline",
)  # fmt: skip
"""Printed tables that hold results; the others hold data, settings and quotations."""
_PLACE = ["source", "table", "row", "quantity"]


def measured_results() -> pd.DataFrame:
    """What the kit measured.

    Raises:
        DataError: the file is missing, no CSV, or lacks a column.

    Returns:
        source, table, row and quantity of the printed number (``row`` is a pattern: ours is a mean over all printed rows that
        fit), protocol (PROTOCOLS, or "both"), data, settings, value, low and high (95 % over patients), n, unit, patients,
        command, quoted (where README or docs print it); text as written, "" where there is none.
    """
    return read_measured(
        "results.csv", [*_PLACE, "protocol", "data", "settings", "value", "low", "high", "n", "unit", "patients"]
    )


def reasons() -> pd.DataFrame:
    """Why a printed number has none of ours beside it: source, table, row, quantity and protocol as patterns, reason.

    Raises:
        DataError: as measured_results.
    """
    return read_measured("not_measured.csv", [*_PLACE, "protocol", "reason"])


def read_measured(name: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table of data_manifest/measured, all of it text ("" where there is nothing).

    Args:
        name: of its file.
        columns: that it must have.

    Raises:
        DataError: the file is missing, no CSV, or lacks a column.
    """
    path = manifest_folder() / "measured" / name
    try:
        table = read_csv(path, comment="#", dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(path, f"cannot be read as CSV ({str(error)[:120]})", "Restore the committed file.") from error
    if lost := [column for column in columns if column not in table]:
        raise DataError(path, f"lacks the column '{lost[0]}'", "See the head of the committed file.")
    return table


def side_by_side(source: str | None = None) -> pd.DataFrame:
    """Every printed result beside ours.

    Args:
        source: key of published.SOURCES; all when None.

    Returns:
        One row a printed number, protocol and measurement: source, table, row, quantity, printed (its digits; of several rows
        their mean), protocol, data, settings, measured, low, high, n, unit, patients, command, note (why there is none, or "").
        A measurement that covers several printed rows has a line of its own, its row the pattern, in front of these.

    Raises:
        KitError: another source.
        DataError: a printed result has neither a measurement nor a reason, or a measurement is of no printed result.
    """
    ours, why, rows = measured_results(), reasons(), []
    tables = [table for table in chosen_tables(source) if table.name in SYSTEMS]
    _demand_printed(ours if source is None else ours[ours["source"] == source], tables)
    for table in tables:
        mine = ours[ours["source"] == table.source]
        for name in dict.fromkeys(row.table for row in table.rows):
            printed = {(row.row, q): cell for row in table.rows if row.table == name for q, cell in row.cells.items()}
            here = mine[mine["table"] == name]
            exact = here["row"].isin({row for row, _ in printed})
            for one in here[~exact].to_dict("records"):
                fits = [cell for (row, q), cell in printed.items() if q == one["quantity"] and fnmatchcase(row, one["row"])]
                mean = float(sum(cell.value for cell in fits) / len(fits))
                rows += [_line(one, f"{mean:.{fits[0].digits}f}", p) for p in _protocols(one)]
            for (row, quantity), cell in printed.items():
                place = dict(zip(_PLACE, (table.source, name, row, quantity), strict=True))
                found = here[exact & (here["row"] == row) & (here["quantity"] == quantity)].to_dict("records")
                for protocol in PROTOCOLS:
                    lines = [_line(one, cell.text, protocol) for one in found if protocol in _protocols(one)]
                    rows += lines or [_blank(place, cell.text, protocol, why)]
    return pd.DataFrame(rows)


def _demand_printed(ours: pd.DataFrame, tables: list[PrintedTable]) -> None:
    """Refuse a measurement that would stand beside nothing."""
    printed = [(row.source, row.table, row.row, quantity) for table in tables for row in table.rows for quantity in row.cells]
    for one in ours.to_dict("records"):
        known = one["protocol"] in (*PROTOCOLS, BOTH)
        fits = any(
            (source, table, quantity) == (one["source"], one["table"], one["quantity"])
            and (row == one["row"] or fnmatchcase(row, one["row"]))
            for source, table, row, quantity in printed
        )
        if not (known and fits):
            line = ", ".join(one[key] for key in (*_PLACE, "protocol"))
            problem = "fits no printed result" if known else f"has a protocol that is none of {', '.join((*PROTOCOLS, BOTH))}"
            fix = "See data_manifest/published for how it is written."
            raise DataError(manifest_folder() / "measured" / "results.csv", f"the line '{line}' {problem}", fix)


def _protocols(one: dict[str, str]) -> tuple[str, ...]:
    return PROTOCOLS if one["protocol"] == BOTH else (one["protocol"],)


def _line(one: dict[str, str], printed: str, protocol: str) -> dict[str, object]:
    place = {key: one[key] for key in _PLACE} | {"printed": printed, "protocol": protocol}
    numbers = {
        new: float(one[key]) if one[key] else float("nan")
        for new, key in (("measured", "value"), ("low", "low"), ("high", "high"))
    }
    about = {key: one[key] for key in ("n", "unit", "patients", "command")}
    return place | {"data": one["data"], "settings": one["settings"]} | numbers | about | {"note": ""}


def _blank(place: dict[str, str], printed: str, protocol: str, why: pd.DataFrame) -> dict[str, object]:
    sought = place | {"protocol": protocol}
    for one in why.to_dict("records"):
        if all(fnmatchcase(sought[key], one[key]) for key in sought):
            nothing = dict.fromkeys(("data", "settings", "n", "unit", "patients", "command"), "")
            numbers = dict.fromkeys(("measured", "low", "high"), float("nan"))
            return place | {"printed": printed, "protocol": protocol} | nothing | numbers | {"note": one["reason"]}
    path = manifest_folder() / "measured" / "not_measured.csv"
    where = ", ".join(sought.values())
    raise DataError(path, f"says nothing of {where}", "Measure it, or add a line that says why it is not measured.")
