"""``spider-kit edition``: the notebooks with and without solutions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def edition(
    kind: Annotated[
        Literal["student", "solution"], typer.Argument(help="student: open exercises; solution: a solution behind each.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the notebooks; files of the same names are overwritten.")],
) -> None:
    """Write the course's notebooks for students, or with the solutions of their exercises.

    Example: spider-kit edition solution --out build/solutions
    """
    from spider_utils.editions import write_edition
    from spider_utils.runtime import project_root

    written = write_edition(kind, project_root(), out)
    print(f"{len(written)} notebooks, {kind} edition: {out}")
