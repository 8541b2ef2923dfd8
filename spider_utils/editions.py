"""The course's notebooks in two editions from one source: for students with open exercises, and with solutions behind them.

The committed notebooks are the students' edition: cells tagged ``exercise`` hold what a student fills in, and name their exercise
in ``metadata["exercise"]``. The solutions lie apart, in ``solutions/<notebook>.py``, so that nobody meets them in passing. In the
solution edition each follows its exercise as a cell tagged ``solution``; without these cells it is the students' edition again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spider_utils.course import notebook_names
from spider_utils.errors import DataError
from spider_utils.files import atomic_path, read_json

Kind = Literal["student", "solution"]
_HEAD = re.compile(r"^# %% (?P<key>\d\d\w?\.\d+)(?P<text> \[markdown\])?\n", re.MULTILINE)


@dataclass(frozen=True)
class Solution:
    """One cell of a file of solutions: code, or markdown for an open question."""

    key: str
    source: str
    is_markdown: bool


def read_solutions(path: str | Path) -> dict[str, Solution]:
    """Solutions of one notebook, by exercise.

    Args:
        path: a Python file of cells, each under a line ``# %% 04.1``, or ``# %% 04.3 [markdown]`` with commented text.

    Raises:
        DataError: the file is missing, holds no cell, or an exercise twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "the file does not exist", "Each notebook needs a file of solutions of the same name.")
    _, *parts = _HEAD.split(path.read_text(encoding="utf-8"))
    found: dict[str, Solution] = {}
    for key, text, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if key in found:
            raise DataError(path, f"solves {key} twice", "Leave one of the two cells.")
        lines = body.strip().splitlines()
        if text:
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        found[key] = Solution(key, "\n".join(lines), bool(text))
    if not found:
        raise DataError(path, "holds no solution", 'Begin each with a line such as "# %% 04.1".')
    return found


def has_tag(cell: Mapping[str, Any], tag: str) -> bool:
    """Whether a cell of a notebook carries a tag."""
    return tag in cell["metadata"].get("tags", [])


def student_edition(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook without the cells tagged ``solution``."""
    return {**notebook, "cells": [cell for cell in notebook["cells"] if not has_tag(cell, "solution")]}


def solution_edition(notebook: Mapping[str, Any], solutions: Mapping[str, Solution]) -> dict[str, Any]:
    """A notebook with a cell tagged ``solution`` behind each exercise, not run; older ones are replaced.

    Raises:
        ValueError: an exercise has no solution, or a solution no exercise.
    """
    notebook, cells, left = student_edition(notebook), [], dict(solutions)
    for cell in notebook["cells"]:
        cells.append(cell)
        if has_tag(cell, "exercise"):
            key = cell["metadata"].get("exercise")
            if key not in left:
                raise ValueError(f"exercise {key} has no solution")
            cells.append(_cell(left.pop(key)))
    if left:
        raise ValueError(f"no exercise for the solution of {', '.join(left)}")
    return {**notebook, "cells": cells}


def _cell(solution: Solution) -> dict[str, Any]:
    cell = {
        "cell_type": "markdown" if solution.is_markdown else "code",
        "id": f"solution-{solution.key.replace('.', '-')}",
        "metadata": {"exercise": solution.key, "tags": ["solution"]},
        "source": solution.source.splitlines(keepends=True),
    }
    return cell if solution.is_markdown else cell | {"execution_count": None, "outputs": []}


def write_edition(kind: Kind, home: str | Path, out: str | Path) -> list[Path]:
    """Write all notebooks of a checkout in one edition; outputs of lessons stay as they are.

    Args:
        kind: "student" or "solution".
        home: the checkout: ``notebooks/`` in either edition, and ``solutions/``.
        out: the folder; files of the same names are overwritten.

    Returns:
        The notebooks written, in reading order.

    Raises:
        DataError: there are no notebooks, ``out`` is the folder they lie in, or exercises and solutions do not belong together.
    """
    home, out, written = Path(home), Path(out), []
    source = home / "notebooks"
    if out.resolve() == source.resolve():
        raise DataError(out, "holds the notebooks that the edition is made from", "Choose another folder.")
    for name in notebook_names(home):
        notebook = read_json(source / f"{name}.ipynb")
        if kind == "solution":
            answers = home / "solutions" / f"{name}.py"
            try:
                notebook = solution_edition(notebook, read_solutions(answers))
            except ValueError as error:
                raise DataError(answers, str(error), f"Compare it with notebooks/{name}.ipynb.") from error
        else:
            notebook = student_edition(notebook)
        with atomic_path(out / f"{name}.ipynb") as partial:
            partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(out / f"{name}.ipynb")
    if not written:
        raise DataError(source, "holds no notebooks of the course", "Run this inside a checkout of the kit.")
    return written
