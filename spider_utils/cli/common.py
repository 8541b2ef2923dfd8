"""What several groups of commands share: options, and how runs and tables are read and shown."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from spider_utils.training.runs import RunResult
    from spider_utils.workflow import Workspace


class ProfileName(StrEnum):
    """How much work a run does."""

    smoke = "smoke"
    quick = "quick"
    paper = "paper"


class DataKind(StrEnum):
    """What data a run uses."""

    phantom = "phantom"
    spider = "spider"
    spider_2d = "spider-2d"


class SchemeName(StrEnum):
    """What the numbers of a mask mean (see labels.SCHEMES)."""

    spider = "spider"
    levels20 = "levels20"
    clamped20 = "clamped20"
    structures4 = "structures4"
    axial8 = "axial8"
    released_gray = "released_gray"


Profile = Annotated[ProfileName, typer.Option(help="How much work is done.")]


Data = Annotated[DataKind, typer.Option(help="phantom needs nothing; the others need --root.")]


Root = Annotated[str | None, typer.Option(help="Folder of the real data, or of a phantom of your own.")]


def _length(text: str) -> float:
    """One of two lengths: says what to write when somebody joins them by a comma."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no number. Give two numbers with a space between, such as 0.6 0.6") from None


PixelSize = Annotated[
    tuple[float, float] | None,
    typer.Option(
        parser=_length,
        metavar="ROW COLUMN",
        help="Pixel size in mm of a .png or .jpg mask, which stores none: two numbers with a space between; 1 1 when left out.",
    ),
]


def runs_of(workspace: Workspace, names: list[str]) -> list[RunResult]:
    """Finished runs by folder or name, refused before anything is computed when they belong to another profile or data."""
    from spider_utils.training.runs import RunResult
    from spider_utils.workflow import find_run

    folders = [find_run(name) for name in names]
    if odd := next((folder.name for folder in folders if not folder.name.startswith(f"{workspace.name}-")), None):
        made = f"--profile {workspace.profile.name} --data {workspace.data}"
        raise typer.BadParameter(f"run '{odd}' was not made with {made}: give its own")
    return [RunResult.open(folder) for folder in folders]


def as_text(table: pd.DataFrame, digits: int = 4) -> str:
    """A table for the terminal: means with so many digits, counts as whole numbers, "-" where there is none."""
    counts = {name: "Int64" for name in ("n", "patients", "slices", "runs") if name in table}
    return table.astype(counts).to_string(index=False, float_format=f"{{:.{digits}f}}".format, na_rep="-").replace("<NA>", "   -")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, and say so when another one lay there: runs of another name may have been compared in it."""
    from spider_utils.files import write_csv

    old = path.read_bytes() if path.is_file() else None
    write_csv(path, table)
    if old is not None and old != path.read_bytes():
        warnings.warn(f"{path} held another table, which is replaced; give --out another folder to keep both", stacklevel=2)
