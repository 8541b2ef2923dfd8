"""The same seed gives the same course, in processes of its own and from nothing: texts, tables, figures and weights."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.conftest import kit, make_home

ASKED_FOR = "SPIDER_TEST_TWICE"
pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.skipif(
        not os.environ.get(ASKED_FOR), reason=f"runs the whole course a second time, 5 minutes on two quiet cores: {ASKED_FOR}=1"
    ),
]
# What is no number of the course: times, memory, dates, names of folders that hang on them, and of styled tables.
NO_NUMBERS = re.compile(
    r"\d+(\.\d+)?(e-\d+)?\s*(ms|s|min|h|MB|GB|MiB|GiB|a second)\b"
    r"|\d{4}-\d\d-\d\d[T ][\d:.+]+|0x[0-9a-f]+|/[\w/.+-]*/|T_[0-9a-f]{5}"
)
# Tables of times have the unit in a heading, not beside each number; what has no decimals in them still counts.
TIMES, NUMBER = re.compile(r"\bms\b|_ms\b"), re.compile(r"\d+\.\d+")


@pytest.fixture(scope="module")
def second_course(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    home = make_home(tmp_path_factory.mktemp("again") / "home")
    return home, kit(home, "course", "--profile", "smoke", "--cores", "2")


def outputs(path: Path) -> list[tuple[int, str]]:
    """(cell, output) of an executed notebook, without NO_NUMBERS and the numbers of TIMES; pictures as they are.

    What a cell prints is one output, in however many pieces the kernel sent it.
    """
    found = []
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        shown = cell.get("outputs", [])
        printed = "".join(output.text for output in shown if output.output_type == "stream")
        parts = [part for output in shown for part in output.get("data", {}).items() if "widget" not in part[0]]
        found += [(number, text if "image" in kind else _without_times(text)) for kind, text in [("text", printed), *parts]]
    return found


def _without_times(text: str) -> str:
    kept = NO_NUMBERS.sub("...", text)
    return " ".join(NUMBER.sub("...", kept).split()) if TIMES.search(kept) else kept  # columns are as wide as their numbers


def test_every_notebook_says_and_shows_the_same(
    smoke_course: tuple[Path, subprocess.CompletedProcess], second_course: tuple[Path, subprocess.CompletedProcess]
) -> None:
    (first, _), (second, said) = smoke_course, second_course
    assert said.returncode == 0, said.stdout + said.stderr
    differing = {}
    executed = sorted((first / "build" / "smoke-phantom" / "notebooks").glob("*.ipynb"))
    assert executed
    for path in executed:
        one, other = outputs(path), outputs(second / "build" / "smoke-phantom" / "notebooks" / path.name)
        if one != other:
            pairs = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
            differing[path.stem] = [(a[0], a[1][:200], b[1][:200]) for a, b in pairs[:3]] or (len(one), len(other))
    assert not differing


def test_every_training_ends_with_the_same_weights(
    smoke_course: tuple[Path, subprocess.CompletedProcess], second_course: tuple[Path, subprocess.CompletedProcess]
) -> None:
    homes = smoke_course[0], second_course[0]
    weights = [
        {p.relative_to(home): p.read_bytes() for p in sorted((home / "runs").rglob("model.safetensors"))} for home in homes
    ]
    # In the first home the test of `medfusion protocol` trains more than the course does.
    course = {path: weight for path, weight in weights[0].items() if "as-published-leaky" not in str(path)}
    assert course.keys() == weights[1].keys() and len(course) >= 10
    assert [str(path) for path in course if course[path] != weights[1][path]] == []
