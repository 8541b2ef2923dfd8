"""Files that are either whole or absent: write beside the target, then rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spider_utils.errors import DataError

ABANDONED_AFTER_S = 24 * 3600  # a half that nobody changed for a day has no writer any more
_swept: set[Path] = set()  # folders that this process has looked through for halves


def explain_write_error(path: str | Path, error: OSError) -> DataError:
    """Turn an OSError met while writing ``path`` into one line with a remedy."""
    reasons = {
        errno.ENOSPC: ("the disk is full", "Free some space or choose another folder, then run again; nothing was lost."),
        errno.EDQUOT: ("your disk quota is used up", "Free some space or choose another folder, then run again."),
        errno.EFBIG: ("larger than this file system or account allows a file to be", "Choose a folder on another disk."),
        errno.EROFS: ("the file system is read-only", "Choose a folder that you can write to."),
        errno.EACCES: ("permission denied", "Choose a folder that you can write to, or change its permissions."),
        errno.ENOTDIR: ("a part of this path is a file, not a folder", "Choose another folder."),
        errno.EEXIST: ("a part of this path is a file, not a folder", "Choose another folder."),
    }
    # Libraries raise PermissionError anew with a text of their own, and then it has no number.
    number = errno.EACCES if isinstance(error, PermissionError) else error.errno
    problem, fix = reasons.get(number, (f"cannot write ({error.strerror or error})", "Check the folder and run again."))
    return DataError(path, problem, fix)


def _sibling(path: Path) -> Path:
    """A name beside ``path`` that keeps its suffixes, because writers choose the format by suffix."""
    return path.with_name(f".partial-{uuid.uuid4().hex[:8]}-{path.name}")


def _halves(folder: Path, name: str | None = None) -> Iterator[Path]:
    """What is being written, or was when its writer was killed, into ``folder`` under ``name``, or under any."""
    return folder.glob(f".partial-????????-{'*' if name is None else glob.escape(name)}")


def _is_abandoned(half: Path) -> bool:
    """Whether nothing in it was changed lately: not within a day of now, and not after now, as a clock that was put back says."""
    return all(abs(time.time() - part.lstat().st_mtime) > ABANDONED_AFTER_S for part in (half, *half.rglob("*")))


def _remove(path: Path) -> None:
    """Delete a file or a folder, as far as that can be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_halves(path: str | Path) -> None:
    """Delete what processes that were killed while they wrote ``path`` left beside it, however young it is.

    Only for the holder of a lock that every writer of ``path`` asks for: others could be at work.
    """
    path = Path(path)
    for half in _halves(path.parent, path.name):
        _remove(half)


def _sweep_files(folder: Path) -> None:
    """Delete abandoned halves of files in ``folder``, unless this process has done so before."""
    if folder in _swept:
        return
    _swept.add(folder)
    for half in _halves(folder):
        with contextlib.suppress(OSError):
            if not half.is_dir() and _is_abandoned(half):
                _remove(half)


def _clean_up_after_the_killed(path: Path) -> None:
    """Put right what processes that were killed while they wrote the folder ``path`` left beside it."""
    if not path.exists():  # killed between moving the old one away and moving the new one in
        for old in sorted(path.parent.glob(f".old-????????-{glob.escape(path.name)}"))[:1]:
            os.replace(old, path)
    for half in _halves(path.parent, path.name):
        with contextlib.suppress(OSError):
            if _is_abandoned(half):
                _remove(half)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file name beside ``path``; on success it becomes ``path``, on failure it is removed.

    Halves that killed processes left in the folder, and that nobody changed for a day, are deleted: once in a process and
    folder, as a folder may hold very many files.

    Raises:
        DataError: the folder cannot be written (full disk, read-only, no permission).
    """
    path = Path(path)
    partial = _sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_files(path.parent)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise explain_write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path, marker: str | None = None) -> Iterator[Path]:
    """Yield a new folder beside ``path``; on success it replaces ``path`` as a whole, on failure it is removed.

    What a killed process left beside ``path`` is put right first: a moved-away old folder comes back when there is no other,
    and halves in which nothing changed for a day are deleted.

    Args:
        path: the folder to make.
        marker: a file by which an older folder is known as the kit's own. Any other folder that is not empty is left alone:
            its owner may have named it by mistake. None replaces whatever is there (for names that only the kit uses).

    Raises:
        DataError: the parent folder cannot be written, or ``path`` is a file or a folder that is not the kit's own.
    """
    path = Path(path)
    if path.is_file():
        raise DataError(path, "is a file where a folder is to be written", "Choose another folder.")
    if marker and path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise DataError(path, f"holds other files (no {marker}), which would be lost", "Choose a new or an empty folder.")
    partial = _sibling(path)
    old = partial.with_name(partial.name.replace(".partial-", ".old-", 1))
    try:
        partial.mkdir(parents=True)
        _clean_up_after_the_killed(path)
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise explain_write_error(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def require_free_space(folder: str | Path, bytes_needed: int, what: str) -> None:
    """Raise DataError when the disk that holds ``folder`` has less than ``bytes_needed`` bytes free for ``what``."""
    probe = Path(folder).absolute()
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free
    if free < bytes_needed:
        raise DataError(
            folder,
            f"{what} needs {bytes_needed / 1e9:.1f} GB but only {free / 1e9:.1f} GB are free on this disk",
            "Free some space or choose a folder on another disk.",
        )


def _plain(value: Any) -> Any:
    """Numpy scalars, arrays and paths as JSON can hold them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(obj, indent=2, default=_plain) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises DataError when it is missing, is not JSON, or is nested too deep to be read."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, "the file does not exist", "Check the path.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(path, f"cannot be read as JSON ({str(error)[:160]})", "Delete it and make it again.") from error


def read_json_object(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises DataError as read_json does, and when it holds anything else."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(path, f"holds no JSON object but a {type(found).__name__}", "Delete it and make it again.")
    return found


def read_csv(path: str | Path, **options: Any) -> pd.DataFrame:
    """``pandas.read_csv`` that takes no column for an index: of rows with more cells than the header all would move by one.

    Raises:
        ValueError: such rows; whatever else ``pandas.read_csv`` raises for a table that is none.
        OSError: the file cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, index_col=False, **options)
        except pd.errors.ParserWarning as error:
            raise ValueError("its rows have more cells than its header") from error


def write_csv(path: str | Path, frame: pd.DataFrame, **options: Any) -> None:
    """Write a table as CSV without its index, whole or not at all."""
    with atomic_path(path) as partial:
        frame.to_csv(partial, index=False, **options)


def sha256_of(path: str | Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(obj: Any) -> str:
    """16 hex digits that change whenever ``obj`` (anything JSON can hold) changes."""
    text = json.dumps(obj, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
