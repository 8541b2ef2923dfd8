"""``spider-kit audit``: what arithmetic says of the printed numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit(
    source: Annotated[
        str | None, typer.Option(help="medfusion, ahmed, unetr, triplanar, misan or spider; all when left out.")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="A second line with the reason.")] = False,
    out: Annotated[Path | None, typer.Option(help="CSV of every single test, with its reading and reason.")] = None,
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
    findings = room.audit(source)
    rows = room.by_row(findings)
    widths = {name: max(map(len, rows[name])) for name in ("source", "table", "row", "verdict")}
    for row in rows.to_dict("records"):
        print(*(row[name].ljust(width) for name, width in widths.items()), row["numbers"], sep="  ")
        if why:
            print(" " * 4 + row["why"])
    print()
    for name, counts in room.verdict_counts(rows).iterrows():
        print(f"{name}: {counts['rows']} rows, " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in room.VERDICTS))
    if out is not None:
        write_table(out, findings)
        print(out)
