"""Exercises of the notebooks: hints for answers, and what some of them are about.

``check("04.1", answer)`` says what is right or what kind of mistake was made, never the answer, and raises for no answer.
``given("02.2")`` hands out what an exercise is about. Right answers are computed when they are needed; no file holds them.
The solutions are in ``solutions/``, and ``spider-kit edition`` lays them into the notebooks.
"""

from __future__ import annotations

import copy
from typing import Any

from spider_utils.errors import KitError
from spider_utils.exercises import images, networks, scores
from spider_utils.exercises.checking import Exercise, Feedback

EXERCISES: dict[str, Exercise] = {one.key: one for module in (images, networks, scores) for one in module.EXERCISES}


def examine(key: str, answer: Any) -> Feedback:
    """What ``check`` prints, as an object.

    Args:
        key: of the exercise, such as "04.1".
        answer: the student's, of whatever type; None or ``...`` means that there is none yet.
    """
    if key not in EXERCISES:
        return Feedback(str(key), "not yet", f"There is no exercise of this name; there are {_names_near(key)}.")
    return EXERCISES[key].examine(answer)


def check(key: str, answer: Any) -> None:
    """Print whether an answer is right and, if it is not, a hint. Wrong and missing answers raise nothing.

    Args:
        key: of the exercise, such as "04.1".
        answer: a number, an array or a function, as the exercise says.
    """
    print(examine(key, answer))


def given(key: str) -> Any:
    """What an exercise is about: one object or a tuple; of a function, arguments to try it on.

    Raises:
        KitError: there is no such exercise, or it needs nothing.
    """
    if key not in EXERCISES:
        raise KitError(f"there is no exercise {key!r}; there are {_names_near(key)}")
    arguments = copy.deepcopy(EXERCISES[key].cases()[0])
    if not arguments:
        raise KitError(f"exercise {key} needs nothing but its text")
    return arguments[0] if len(arguments) == 1 else arguments


def _names_near(key: object) -> str:
    """The exercises of the same notebook, or all of them."""
    notebook = str(key).partition(".")[0].zfill(2)
    return ", ".join([name for name in EXERCISES if name.startswith(f"{notebook}.")] or EXERCISES)
