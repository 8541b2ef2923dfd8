"""Exercises: solutions pass, untouched cells and nonsense fail politely, hints fit the mistake and give nothing away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from spider_utils.editions import has_tag, read_solutions
from spider_utils.errors import KitError
from spider_utils.exercises import EXERCISES, check, examine, given
from spider_utils.exercises.checking import Exercise
from spider_utils.files import read_json

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb"))}
WITH_EXERCISES = {name: path for name, path in NOTEBOOKS.items() if (ROOT / "solutions" / f"{name}.py").is_file()}


def exercise_cells(name: str) -> dict[str, dict[str, Any]]:
    """Exercise -> its cell in a committed notebook, in the notebook's order."""
    tagged = [cell for cell in read_json(NOTEBOOKS[name])["cells"] if has_tag(cell, "exercise")]
    found = {cell["metadata"]["exercise"]: cell for cell in tagged}
    assert len(found) == len(tagged), f"{name} holds an exercise twice"
    return found


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


CODE = [(name, key) for name in WITH_EXERCISES for key, cell in exercise_cells(name).items() if cell["cell_type"] == "code"]
keys = pytest.mark.parametrize("key", list(EXERCISES))


@pytest.mark.parametrize("name", list(NOTEBOOKS))
def test_every_notebook_has_two_to_four_exercises_one_of_them_open(name: str) -> None:
    number, cells = name.split("_")[0], exercise_cells(name)
    assert list(cells) == [f"{number}.{k}" for k in range(1, len(cells) + 1)] and 2 <= len(cells) <= 4
    assert {"code", "markdown"} == {cell["cell_type"] for cell in cells.values()}
    solutions = read_solutions(ROOT / "solutions" / f"{name}.py")
    assert list(solutions) == list(cells)
    assert all(solutions[key].is_markdown == (cell["cell_type"] == "markdown") for key, cell in cells.items())
    assert all(len(one.source) > 200 for one in solutions.values() if one.is_markdown), "says what a good answer contains"


def test_checks_and_cells_belong_together() -> None:
    numbers = {name.split("_")[0] for name in NOTEBOOKS}
    assert sorted(key for _, key in CODE) == sorted(key for key in EXERCISES if key.split(".")[0] in numbers)


@pytest.mark.parametrize(("name", "key"), CODE)
def test_untouched_cell_fails_politely_and_the_solution_passes(name: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    cell, names = exercise_cells(name)[key], {}
    exec(compile(source(cell), key, "exec"), names)
    said = capsys.readouterr().out
    assert said.startswith(f"{key} not answered yet: put ")
    assert "".join(cell["outputs"][0]["text"]) == said, "the notebook was committed with another output"
    exec(
        compile(read_solutions(ROOT / "solutions" / f"{name}.py")[key].source, key, "exec"), names
    )  # in the notebook: the next cell
    assert capsys.readouterr().out.startswith(f"{key} right: ")


class Hostile:
    """An answer that refuses everything."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("no")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None


NONSENSE = [
    "abc",
    b"x",
    [],
    {},
    {"a": 1},
    set(),
    float("nan"),
    np.inf,
    -1e300,
    10**400,
    1j,
    True,
    object(),
    Hostile(),
    [1, [2, 3]],
]
NONSENSE += [np.zeros((0, 3)), np.zeros((2, 2, 2, 2)), np.array(["a"]), np.array([None, object()]), pd.DataFrame({"a": ["x"]})]
NONSENSE += [range(3), (x for x in "ab"), torch.zeros(2, requires_grad=True), lambda: 1, lambda *a: a, lambda *a: 1 / 0, int]
NONSENSE += [lambda *a: Hostile(), lambda *a: "text", lambda *a: np.zeros((2, 3)), lambda *a: [None, 1]]


@keys
def test_nonsense_raises_nothing_and_is_not_right(key: str) -> None:
    for answer in NONSENSE:
        found = examine(key, answer)
        assert found.verdict == "not yet" and len(found.text) > 10, (answer, found)


@keys
@pytest.mark.parametrize("nothing", [None, ..., "", "  "])
def test_no_answer_is_no_mistake(key: str, nothing: Any) -> None:
    assert examine(key, nothing).verdict == "not answered yet"
    if EXERCISES[key].is_function:
        assert examine(key, lambda *_: nothing).verdict == "not answered yet"


@keys
def test_each_typical_mistake_gets_its_own_hint(key: str) -> None:
    exercise = EXERCISES[key]
    for hint, slip in exercise.slips.items():
        found = examine(key, slip if exercise.is_function else slip(*exercise.cases()[0]))
        assert (found.verdict, found.text) == ("not yet", hint)


@keys
def test_hints_do_not_give_the_answer_away(key: str) -> None:
    exercise = EXERCISES[key]
    if exercise.is_function or exercise.unordered:
        return
    right = np.asarray(exercise.right(*exercise.cases()[0]), float)
    wrong = [right + 1, right * 1.3, right * 2, -right, right * 100, right[..., None], str(right), np.append(right, 0)]
    texts = list(exercise.slips) + [examine(key, answer).text for answer in (*wrong, None)]
    for number in right.ravel()[:5]:
        if len(f"{number:g}") >= 3:  # shorter ones occur in every text
            told = rf"(?<![\d.]){re.escape(f'{number:g}')}(?!\d)"
            assert not [text for text in texts if re.search(told, text)]


def test_a_right_answer_may_come_as_any_type() -> None:
    for answer in (192, 192.0, np.int64(192), np.array(192), np.array([192]), torch.tensor(192), "not 192"):
        assert (examine("07.1", answer).verdict == "right") == (answer != "not 192")
    assert examine("00.1", torch.tensor([2.0, -16.0, 27.0])).verdict == "right"
    assert examine("08.1", 0.869).verdict == "right" and examine("08.1", 0.86).verdict == "not yet"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.4, "too small"),
        (40.0, "ten times"),
        (400.0, "per cent"),
        (-4.0, "sign"),
        ([4.0, 1.0], "shape"),
        (np.nan, "NaN"),
        (lambda: 4.0, "what the function returns"),
        (5, "Off by one"),
    ],
)
def test_general_mistakes_are_named(answer: Any, said: str) -> None:
    exercise = Exercise(key="x", expected="one number", right=lambda: 4, why="")
    if said == "too small":
        answer = 1.7
    assert said in exercise.examine(answer).text


def test_arrays_transposed_reversed_and_partly_wrong() -> None:
    table, row = np.arange(6.0).reshape(2, 3), np.array([1.5, 2.5, 7.0])
    of = lambda right: Exercise(key="x", expected="numbers", right=lambda: right, why="")  # noqa: E731
    assert "exchanged" in of(table).examine(table.T).text
    assert "reversed" in of(row).examine(row[::-1]).text
    assert of(row).examine([1.5, 2.5, 9.0]).text.startswith("Look at the third number")
    assert "17%" in of(table).examine(table + (table == 5)).text


def test_a_function_that_fails_is_shown_its_arguments_not_the_answer() -> None:
    stops = examine("07.2", lambda rate, rows, columns: 1 // (rows - rate))
    assert "ZeroDivisionError" in stops.text and "8, 8, 9" in stops.text
    partly = examine("07.2", lambda rate, rows, columns: 9)
    assert "right for 2 of 7" in partly.text and "12, 20, 8" in partly.text
    assert "returns nothing for" in examine("07.2", lambda rate, *_: 9 if rate == 1 else None).text
    assert "without calling it" in examine("07.2", 9).text


def test_a_function_cannot_spoil_the_arguments_of_the_check() -> None:
    def right_but_untidy(image: np.ndarray, mask: np.ndarray, rows: int) -> list[np.ndarray]:
        both = [np.vstack([np.zeros((rows, one.shape[1])), one[: len(one) - rows]]) for one in (image, mask)]
        image[:], mask[:] = -1, -1
        return both

    assert examine("03.2", right_but_untidy).verdict == "right"


def test_given_hands_out_copies() -> None:
    given("10.2")[0][:] = 7
    assert given("10.2")[0].max() <= 1
    with pytest.raises(KitError, match=r"no exercise '10.9'; there are 10.1, 10.2$"):
        given("10.9")
    with pytest.raises(KitError, match="needs nothing"):
        given("03.1")


@pytest.mark.parametrize("key", ["4.1", "04.9", "nothing", None])
def test_unknown_exercise_is_no_error(key: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check(key, 1)
    said = capsys.readouterr().out
    assert "no exercise of this name" in said
    assert ("04.1, 04.2" in said) and ("00.1" in said) == ("4" not in str(key))
