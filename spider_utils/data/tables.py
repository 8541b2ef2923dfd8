"""Tables that people wrote: read as text, numbers taken only from what is one, every mistake kept with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.errors import DataError
from spider_utils.files import read_csv

REPORT_COLUMNS = ("level", "what", "file", "row", "problem", "fix")


class Report:
    """Collects mistakes, row by row of a table."""

    def __init__(self) -> None:
        self._parts: list[pd.DataFrame] = []

    def add(
        self, level: str, what: str, file: str | pd.Series, rows: pd.Series | list[int], problem: str | pd.Series, fix: str
    ) -> None:
        """Add one mistake a row.

        Args:
            level: "error" (left out) or "warning" (kept).
            what: short name of the kind of mistake.
            file: table, or a path below the root; one for all or one a row.
            rows: line numbers of the table as an editor counts them (the header is line 1); 0 where there is none.
            problem: what is wrong; one text for all or one a row.
            fix: what to do.
        """
        n = len(rows)
        values = {"level": level, "what": what, "file": file, "row": np.asarray(rows, int), "problem": problem, "fix": fix}
        plain = {k: v.to_numpy() if isinstance(v, pd.Series) else v for k, v in values.items()}
        if n:
            self._parts.append(pd.DataFrame(plain, index=range(n)))

    def table(self) -> pd.DataFrame:
        """All mistakes: REPORT_COLUMNS, errors first, then by kind, file and row."""
        if not self._parts:
            return pd.DataFrame({name: pd.Series(dtype=int if name == "row" else str) for name in REPORT_COLUMNS})
        table = pd.concat(self._parts, ignore_index=True)[list(REPORT_COLUMNS)]
        # "error" comes before "warning" in the alphabet as well.
        return table.sort_values(["level", "what", "file", "row"], ignore_index=True, kind="stable")


def read_as_text(path: Path, needed: tuple[str, ...], if_missing: str, if_other: str) -> pd.DataFrame:
    """A CSV table as text, so that no number is rounded on the way.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        needed: columns that it must have.
        if_missing: what to do where there is no such file.
        if_other: what to do where a column is lacking.

    Returns:
        All its columns as text (missing where empty), and ``row``: line numbers as an editor counts them, the header is line 1.

    Raises:
        DataError: there is no such file, it is no UTF-8 text or no CSV, or lacks a column.
    """
    try:
        table = read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(path, "this table is missing", if_missing) from error
    except UnicodeDecodeError as error:
        raise DataError(path, "is not UTF-8 text", "Save it as CSV in UTF-8, or fetch it again.") from error
    except (ValueError, OSError) as error:
        raise DataError(path, f"cannot be read as CSV ({str(error)[:120]})", "Fetch the table again.") from error
    missing = [column for column in needed if column not in table]
    if missing:
        raise DataError(path, f"lacks the column(s) {', '.join(missing)}", if_other)
    return table.assign(row=np.arange(2, 2 + len(table)))


def whole_numbers(text: pd.Series) -> pd.Series:
    """Whole numbers from 0 to 10^18 - 1 ("3", " 3" and "3.0") as Int64, exactly; all else ("-3", "1e3", "inf") is missing."""
    plain = text.astype("string").str.strip()
    is_one = plain.str.fullmatch(r"[0-9]{1,18}(\.0*)?").fillna(False).astype(bool)
    return pd.Series(
        [int(one.partition(".")[0]) if ok else pd.NA for one, ok in zip(plain, is_one, strict=True)],
        index=text.index,
        dtype="Int64",
    )
