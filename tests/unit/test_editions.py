"""Two editions from one source: they differ by the solutions alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spider_utils.editions import has_tag, read_solutions, solution_edition, student_edition, write_edition
from spider_utils.errors import DataError
from spider_utils.files import read_json

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = '"""Solutions."""\n\n# %% 04.1\nanswer = 1\n\n\n# %% 04.2 [markdown]\n# Two *words*.\n#\n#     indented\n'


def cell(kind: str, text: str, *tags: str, **metadata: str) -> dict:
    return {"cell_type": kind, "id": text[:4], "metadata": {"tags": list(tags), **metadata}, "source": [text]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout of one notebook."""
    cells = [cell("markdown", "lesson"), cell("code", "answer = ...", "exercise", exercise="04.1")]
    cells += [cell("markdown", "What do you think?", "exercise", exercise="04.2"), cell("markdown", "References")]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "solutions").mkdir()
    (tmp_path / "notebooks" / "04_unet.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    (tmp_path / "solutions" / "04_unet.py").write_text(SOLUTIONS)
    return tmp_path


def test_solutions_follow_their_exercises(home: Path) -> None:
    [written] = write_edition("solution", home, home / "out")
    cells = read_json(written)["cells"]
    assert ["".join(one["source"]) for one in cells] == [
        "lesson",
        "answer = ...",
        "answer = 1",
        "What do you think?",
        "Two *words*.\n\n    indented",
        "References",
    ]
    assert [one["metadata"].get("tags") for one in cells][2] == ["solution"]
    assert cells[2]["outputs"] == [] and "outputs" not in cells[4]


def test_both_ways_lead_back(home: Path) -> None:
    source = home / "notebooks" / "04_unet.ipynb"
    [student] = write_edition("student", home, home / "student")
    assert read_json(student) == read_json(source)
    [solved] = write_edition("solution", home, home / "solved")
    assert student_edition(read_json(solved)) == read_json(source)
    shutil.copy(solved, source)  # whoever teaches may work in the solved edition
    assert read_json(write_edition("solution", home, home / "again")[0]) == read_json(solved)


def test_what_does_not_belong_together_is_said(home: Path) -> None:
    answers = home / "solutions" / "04_unet.py"
    notebook = read_json(home / "notebooks" / "04_unet.ipynb")
    with pytest.raises(ValueError, match=r"exercise 04\.1 has no solution"):
        solution_edition(notebook, {})
    for text, problem in (
        (SOLUTIONS.replace("04.1", "04.3"), "exercise 04.1 has no solution"),
        (SOLUTIONS + "\n# %% 04.9\npass\n", "no exercise for the solution of 04.9"),
        (SOLUTIONS + "\n# %% 04.1\npass\n", "solves 04.1 twice"),
        ("answer = 1\n", "holds no solution"),
    ):
        answers.write_text(text)
        with pytest.raises(DataError, match=problem) as caught:
            write_edition("solution", home, home / "out")
        assert caught.value.path == answers
    answers.unlink()
    with pytest.raises(DataError, match="does not exist"):
        write_edition("solution", home, home / "out")


def test_the_source_is_not_overwritten_and_must_be_there(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds the notebooks that the edition is made from"):
        write_edition("student", home, home / "notebooks")
    with pytest.raises(DataError, match="holds no notebooks"):
        write_edition("student", tmp_path / "elsewhere", home / "out")


def test_the_courses_own_notebooks_and_solutions_agree(tmp_path: Path) -> None:
    solved = write_edition("solution", ROOT, tmp_path / "solved")
    assert len(solved) == len(list((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb")))
    for path in solved:
        notebook, source = read_json(path), ROOT / "notebooks" / path.name
        assert not [one for one in read_json(source)["cells"] if has_tag(one, "solution")], "students would see it"
        assert json.dumps(student_edition(notebook), indent=1, ensure_ascii=False) + "\n" == source.read_text(encoding="utf-8")
        assert len({one["id"] for one in notebook["cells"]}) == len(notebook["cells"])
        behind = [cells for cells in zip(notebook["cells"], notebook["cells"][1:], strict=False) if has_tag(cells[1], "solution")]
        keys = [(one["metadata"]["exercise"], other["metadata"]["exercise"]) for one, other in behind]
        assert keys == [(key, key) for key in read_solutions(ROOT / "solutions" / f"{path.stem}.py")]


def test_the_command(home: Path) -> None:
    command = [sys.executable, "-m", "spider_utils.cli", "edition", "solution", "--out", str(home / "out")]
    environment = os.environ | {"SPIDER_KIT_HOME": str(home)}
    said = subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert "1 notebooks, solution edition" in said.stdout and (home / "out" / "04_unet.ipynb").is_file()
