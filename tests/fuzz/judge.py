"""One case in a folder of its own: what is done there, and whether it ended as it must.

A case must end in a valid result, or in DataErrors and KitErrors whose one line names the file and says what to do. Nothing may
be printed, no warning of a library may reach the user, and no file may appear but where files were asked for.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from spider_utils.errors import DataError, KitError

_PROGRESS = re.compile(rb"[\w ,]+: \d+(/\d+ \(\d+ s\)| done in [\d.]+ s)\r?\n")  # what long work tells where nobody watches a bar
LONGEST_MESSAGE = 900  # characters without the path
Call = Callable[[Path], Any]  # given the folder in which it may write


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        format, seed: which case.
        verdict: "taken" (at least one call gave a valid result), "refused" (each said why not) or "failed".
        text: the messages; of a failed case what is wrong with it.
        seconds: of processor time that it took.
    """

    format: str
    seed: int
    verdict: str
    text: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.format} {self.seed}: {self.verdict} after {self.seconds:.2f} s\n{self.text}"


class WrongResultError(AssertionError):
    """A call took what it was given, and what it made of it is not valid."""


def demand(holds: bool, problem: str) -> None:
    """Raise WrongResultError unless ``holds``."""
    if not holds:
        raise WrongResultError(problem)


class Sandbox:
    """A folder in which cases run one after the other: ``in`` for bad input, ``out`` for what is made of it.

    The working folder and the one for temporary files lie within as well, so that whatever is written there is seen.
    """

    def __init__(self, root: Path):
        self.root = root
        self.given, self.out, self.temporary, self.here = (root / name for name in ("in", "out", "tmp", "cwd"))
        self.printed = root / "printed"

    def clear(self) -> None:
        """Empty, as before any case."""
        own = (self.given, self.out, self.temporary, self.here)
        for folder in own:
            if folder.is_symlink() or not folder.is_dir():
                folder.unlink(missing_ok=True)
                folder.mkdir(parents=True)
        # Emptied, not made anew: each folder that is removed costs more than most cases.
        for stray in [path for folder in (self.root, *own) for path in folder.iterdir()]:
            if stray not in (*own, self.printed):
                shutil.rmtree(stray) if stray.is_dir() and not stray.is_symlink() else stray.unlink()
        os.environ["TMPDIR"] = str(self.temporary)
        sys.modules["tempfile"].tempdir = str(self.temporary)
        os.chdir(self.here)

    def listing(self) -> dict[str, int]:
        """Everything but what lies in ``out``: path -> size."""
        found: dict[str, int] = {}
        for place, folders, files in os.walk(self.root):
            if place == str(self.root):
                folders.remove("out")
            found |= {os.path.join(place, name): 0 for name in folders}
            found |= {path: os.lstat(path).st_size for path in (os.path.join(place, name) for name in files)}
        found.pop(str(self.printed), None)
        return found


def random_of(name: str, seed: int) -> Random:
    """The chance of one case, the same on every machine."""
    return Random(zlib.crc32(name.encode()) << 32 | seed)


def judge(name: str, seed: int, module: Any, good: Any, sandbox: Sandbox) -> Outcome:
    """Make one case, run it, and say how it ended."""
    sandbox.clear()
    began = time.process_time()
    problems: list[str] = []
    messages: list[str] = []
    try:
        calls: dict[str, Call] = module.spoil(random_of(name, seed), sandbox.given, good)
    except Exception:
        return Outcome(name, seed, "failed", f"the case itself could not be made:\n{traceback.format_exc()}", 0.0)
    before, printed = sandbox.listing(), _size(sandbox.printed)
    for called, call in calls.items():
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                call(sandbox.out)
            except KitError as error:
                messages.append(f"{called}: {error}")
                problems += [f"{called}: {problem}: {error}" for problem in _faults(error, sandbox)]
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                problems.append(f"{called}:\n{traceback.format_exc()}")
        problems += [
            f"{called} warned: {w.category.__name__}: {w.message} ({w.filename}:{w.lineno})" for w in warned if not _own(w)
        ]
    after = sandbox.listing()
    if changed := sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)):
        problems.append(f"files appeared or changed where none may: {changed[:5]}")
    if left := [path for path in sandbox.out.rglob("*") if path.name.startswith((".partial-", ".old-", ".unpacked-"))]:
        problems.append(f"half-written files were left: {left[:5]}")
    sys.stdout.flush()
    sys.stderr.flush()
    told = sandbox.printed.read_bytes()[printed:] if _size(sandbox.printed) > printed else b""
    if told := _PROGRESS.sub(b"", told):
        problems.append(f"printed: {told[:500]!r}")
    verdict = "failed" if problems else "refused" if len(messages) == len(calls) else "taken"
    return Outcome(name, seed, verdict, "\n".join(problems or messages), time.process_time() - began)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _own(warned: warnings.WarningMessage) -> bool:
    """Whether it is one of the kit's own warnings, which say in plain words what was done, or one that no user sees."""
    if issubclass(warned.category, DeprecationWarning):  # Python shows these to developers only
        return True
    of_the_kit = warned.category.__module__.startswith("spider_utils")
    return of_the_kit or (warned.category is UserWarning and {"spider_utils", "fuzz"} & set(Path(warned.filename).parts))


def _faults(error: KitError, sandbox: Sandbox) -> list[str]:
    """What is wrong with a message."""
    text = str(error)
    faults = []
    if not text.isprintable():
        faults.append("the message is not one printable line")
    if len(text.replace(str(sandbox.root), "")) > LONGEST_MESSAGE:
        faults.append(f"the message has {len(text)} characters")
    names = {path.name for path in sandbox.given.rglob("*")} | {"in", "out", *(path.name for path in sandbox.out.rglob("*"))}
    if isinstance(error, DataError):  # a file of the case, which may be missing, or an upload by its bare name
        named = Path(error.path).is_relative_to(sandbox.root) or len(Path(error.path).parts) == 1
    else:
        named = any(name and name in text for name in names)
    if not named:
        faults.append("the message names no file")
    if isinstance(error, DataError) and not (error.problem.strip() and error.fix.strip()):
        faults.append("the message does not say what is wrong and what to do")
    return faults
