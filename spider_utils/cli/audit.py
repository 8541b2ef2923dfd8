"""``spider-kit audit``: what arithmetic says of the printed numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import pandas as pd


def audit(
    source: Annotated[
        str | None, typer.Option(help="medfusion, ahmed, unetr, triplanar, misan or spider; all when left out.")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="A second line with the reason.")] = False,
    verdict: Annotated[
        Literal["impossible", "consistent", "undecided"] | None, typer.Option(help="Only rows of this one.")
    ] = None,
    measured: Annotated[bool, typer.Option("--measured", help="Instead of verdicts, ours beside the printed numbers.")] = False,
    out: Annotated[Path | None, typer.Option(help="CSV of every single test, or of every printed number beside ours.")] = None,
) -> None:
    """Which printed numbers can be right together: a line a printed row, with source, table, row, verdict and the numbers.

    "impossible": no data give these numbers as they are said to belong together; "undecided": nothing printed decides.

    Example: spider-kit audit --source medfusion --why --out build/audit.csv
    """
    from spider_utils.cli.common import write_table
    from spider_utils.evaluation import audit as room
    from spider_utils.evaluation.published import SOURCES

    if source is not None and source not in SOURCES:
        raise typer.BadParameter(f"'{source}' is none of {', '.join(SOURCES)}", param_hint="--source")
    if measured and verdict:
        raise typer.BadParameter("--measured gives no verdicts: leave one of the two out", param_hint="--verdict")
    if measured:
        table = _print_measured(source)
    else:
        table = room.audit(source)
        _print_verdicts(table, why, verdict)
    if out is not None:
        write_table(out, table)
        print(out)


def _print_verdicts(findings: pd.DataFrame, why: bool, verdict: str | None) -> None:
    from spider_utils.evaluation import audit as room

    rows = room.by_row(findings)
    widths = {name: max(map(len, rows[name])) for name in ("source", "table", "row", "verdict")}
    for row in (rows if verdict is None else rows[rows["verdict"] == verdict]).to_dict("records"):
        print(*(row[name].ljust(width) for name, width in widths.items()), row["numbers"], sep="  ")
        if why:
            print(" " * 4 + row["why"])
    print()
    for name, counts in room.verdict_counts(rows).iterrows():
        print(f"{name}: {counts['rows']} rows, " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in room.VERDICTS))


def _print_measured(source: str | None) -> pd.DataFrame:
    from spider_utils.evaluation.side_by_side import side_by_side

    table = side_by_side(source)
    ours = table[table["note"] == ""]
    for row in ours.to_dict("records"):
        interval = f" [{row['low']:g}, {row['high']:g}]" if row["low"] == row["low"] else ""
        place = "  ".join(str(row[key]) for key in ("source", "table", "row", "quantity"))
        print(f"{place}  printed {row['printed']}  {row['protocol']} protocol, {row['data']}: {row['measured']:g}{interval}")
    print()
    for note, count in table.loc[table["note"] != "", "note"].value_counts(sort=False).items():
        print(f"{count} numbers {note}")
    return table
