"""The table beside predicted masks: a row a mask with what was said of it, those to look at first on top."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from spider_utils.errors import DataError
from spider_utils.files import explain_write_error, read_csv, write_csv
from spider_utils.locks import file_lock

TABLE = "predicted-masks.csv"  # beside masks
COLUMNS = ("mask", "image", "network", "scheme", "doubtful", "agreement", "vertebrae", "notes")
_ORDER = {"yes": 0, "": 1, "no": 2}  # of ``doubtful``


def file_name(path: Path) -> str:
    """A file's name as text: "." has one, a link its own, and of one that is not UTF-8 the odd bytes are spelled out."""
    return _as_text(os.path.basename(os.path.abspath(path)))


def _as_text(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def doubt_about(mask: str | Path) -> str | None:
    """Why a mask is to be looked at before use, by the table in its folder; None where nothing is said against it."""
    rows = MaskTable(Path(mask).parent).rows()
    found = rows[(rows["mask"] == file_name(Path(mask))) & (rows["doubtful"] == "yes")]
    return f"when this mask was predicted it was said to be doubtful: {found['notes'].iloc[0]}" if len(found) else None


class MaskTable:
    """The rows of the masks in a folder, in TABLE.

    ``mask`` and ``image`` are file names, ``network`` and ``scheme`` those of the mask. ``doubtful`` is yes (look at it before
    use), no (two networks agree on it) or empty (one network drew it alone: nothing is known). ``agreement`` is the
    mean Dice of two networks, ``vertebrae`` are those named, from below. Further columns may follow.

    Several processes may write into one folder. A mask and its row change together: who is killed in between leaves a mask
    without a row, never one with the row of another.

    Args:
        folder: the masks'; need not exist.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.path = self.folder / TABLE

    def rows(self) -> pd.DataFrame:
        """All rows as text; none where there is no table.

        Raises:
            DataError: there is a table of that name which is another's, or cannot be read.
        """
        try:
            table = read_csv(self.path, dtype=str, keep_default_na=False)
        except (FileNotFoundError, NotADirectoryError):  # what is wrong with such a folder is said when it is written to
            return pd.DataFrame(columns=list(COLUMNS))
        except ValueError as error:
            raise DataError(self.path, f"cannot be read as CSV ({str(error)[:120]})", "Rename it.") from error
        except OSError as error:
            raise explain_write_error(self.path, error) from error
        if tuple(table.columns[: len(COLUMNS)]) != COLUMNS:
            why = "is not a table that predict wrote, or was saved with other columns or other signs between them"
            raise DataError(self.path, why, "Rename it, or choose another folder for the masks.")
        return table

    def write(self, mask: Path, write: Callable[[], object], row: dict[str, object]) -> None:
        """Write a mask, and its row in place of that of an older mask of its name.

        Args:
            mask: the file, in ``folder``.
            write: writes it.
            row: of COLUMNS those but ``mask``, and more.

        Raises:
            DataError: the folder cannot be written; whatever ``write`` raises. Then the older mask, if any, keeps its row.
        """
        with file_lock(self.folder / f".{TABLE}.lock"):
            table, name = self.rows(), file_name(mask)
            there = [_as_text(other) for other in os.listdir(self.folder)]
            others = table[(table["mask"] != name) & table["mask"].isin(there)]
            is_known = (table["mask"] == name).any()
            if is_known:
                self._save(others)
            try:
                write()
            except DataError:  # the older mask is still there, and so is what was said of it
                if is_known:
                    self._save(table)
                raise
            own = {column: "" if pd.isna(value) else str(value) for column, value in ({"mask": name} | row).items()}
            columns = dict.fromkeys([*COLUMNS, *table.columns, *own])
            self._save(pd.DataFrame([*others.to_dict("records"), own], columns=[*columns]))

    def _save(self, table: pd.DataFrame) -> None:
        keys = pd.DataFrame({"order": table["doubtful"].map(_ORDER).fillna(1), "mask": table["mask"]})
        keys["agreement"] = pd.to_numeric(table["agreement"], errors="coerce")
        table = table.loc[keys.sort_values(["order", "agreement", "mask"]).index]
        write_csv(self.path, table, quoting=csv.QUOTE_ALL)
