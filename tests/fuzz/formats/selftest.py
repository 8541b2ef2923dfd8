"""Not a format: calls that pass, die, hang or eat memory, for the test of the runner."""

from __future__ import annotations

import ctypes
from pathlib import Path
from random import Random

from tests.fuzz.judge import Call


def passes(out: Path) -> None:
    """As a good file does."""


def dies(out: Path) -> None:
    """As a decoder does on a file that it does not expect."""
    ctypes.string_at(0)


def hangs(out: Path) -> None:
    """For ever, at work."""
    while True:
        pass


def eats(out: Path) -> None:
    """More than a process may have."""
    bytearray(1 << 32)


WAYS = (passes, dies, hangs, eats)


def whole(folder: Path) -> None:
    """Nothing is read."""


def spoil(random: Random, folder: Path, whole: None) -> dict[str, Call]:
    """One of the ways."""
    return {"call": WAYS[random.randrange(len(WAYS))]}
