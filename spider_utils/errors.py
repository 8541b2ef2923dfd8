"""Errors that a user can act on: one line that names what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path


def one_line(text: object) -> str:
    """Text on one line, with "�" for whatever no terminal should be sent, such as escape sequences of a damaged header."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(str(text).split()))


class KitError(Exception):
    """A problem the user can act on. ``str(error)`` is one line; the command line prints it and exits with 1."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class DataError(KitError):
    """A file or folder is not as it should be.

    Args:
        path: the file or folder at fault.
        problem: what is wrong with it.
        fix: what the user should do.
    """

    def __init__(self, path: str | Path, problem: str, fix: str):
        self.path, self.problem, self.fix = Path(path), problem, fix
        super().__init__(f"{path}: {problem.rstrip('.')}. {fix}")

    def __reduce__(self) -> tuple[type[DataError], tuple[Path, str, str]]:
        """Pickled as its parts, so that it comes back from a process whole."""
        return type(self), (self.path, self.problem, self.fix)
