"""Columns that a figure needs of a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def need_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise ValueError when a column is missing; ``what`` names the figure."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{what} needs the column(s) {', '.join(missing)}; the table has {', '.join(map(str, table.columns))}")
