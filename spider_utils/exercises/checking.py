"""An exercise that is checked: what is right is computed, and so is what typical mistakes lead to."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Verdict = Literal["right", "not yet", "not answered yet"]

_FACTORS = {  # answer / right value -> what probably happened
    -1.0: "The size is right, the sign is not: which direction counts as positive?",
    10.0: "The answer is ten times too large: cm for mm, or the other way round?",
    0.1: "The answer is ten times too small: cm for mm, or the other way round?",
    100.0: "The answer is a hundred times too large: a share is asked for, not per cent.",
    0.01: "The answer is a hundred times too small: was it divided by 100 once too often?",
    1000.0: "The answer is a thousand times too large: look at its unit.",
    0.001: "The answer is a thousand times too small: look at its unit.",
    2.0: "The answer is twice what it should be: is something counted from both ends?",
    0.5: "The answer is half of what it should be: is only one of two parts, or one of two sides, counted?",
}


@dataclass(frozen=True)
class Feedback:
    """What a student reads of an answer.

    Attributes:
        key: of the exercise, such as "04.1".
        verdict: "right", "not yet" or "not answered yet".
        text: why it is right, or what to look at; never the answer itself.
    """

    key: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        said = f"{self.key} {self.verdict}: {self.text}"
        return textwrap.fill(said, 100, break_long_words=False, break_on_hyphens=False)  # JupyterLab breaks within words


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A question whose answer is a number, an array, a collection, or a function that is tried on several arguments.

    Attributes:
        key: notebook and number, such as "04.1".
        expected: the form of the answer, in words: "one number, in mm".
        right: computes what is right from the arguments of a case.
        why: what a student reads who is right.
        slips: hint -> the same calculation with that mistake; the first that gives the student's answer is shown.
        cases: makes the arguments; a function is tried on all of them, any other answer belongs to the first.
        is_function: whether the answer is a function.
        unordered: whether the answer is a collection whose order says nothing.
        tolerance: relative, so that three digits are enough; 0 for counts.
    """

    key: str
    expected: str
    right: Callable[..., Any]
    why: str
    slips: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    cases: Callable[[], Sequence[tuple[Any, ...]]] = lambda: [()]
    is_function: bool = False
    unordered: bool = False
    tolerance: float = 2e-3

    def examine(self, answer: Any) -> Feedback:
        """Judge an answer, whatever it is: nothing that a student hands in raises."""
        try:
            return self._examine(answer)
        except Exception as error:  # an array of objects, a result that refuses to be compared ...
            problem = f"The answer cannot be read ({type(error).__name__}: {error})."
            return Feedback(self.key, "not yet", f"{problem} Expected is {self.expected}.")

    def _examine(self, answer: Any) -> Feedback:
        how = f"put your answer in place of the dots and run the cell again. Expected is {self.expected}."
        unanswered = Feedback(self.key, "not answered yet", how)
        if _is_nothing(answer):
            return unanswered
        if self.is_function != callable(answer):
            what = "the function itself, without calling it" if self.is_function else "what the function returns"
            return Feedback(self.key, "not yet", f"Hand in {what}: expected is {self.expected}.")
        cases = list(self.cases())
        if not self.is_function:
            found = [answer]
        else:
            found = []
            for case in cases:
                try:
                    found.append(answer(*copy.deepcopy(case)))
                except Exception as error:  # the student's own function
                    problem = f"The function stops with {type(error).__name__}: {error}"
                    return Feedback(self.key, "not yet", f"{problem}. It was called with {_shown(case)}.")
            if all(_is_nothing(one) for one in found):
                return unanswered
            if missing := [case for case, one in zip(cases, found, strict=True) if _is_nothing(one)]:
                return Feedback(self.key, "not yet", f"The function returns nothing for {_shown(missing[0])}.")
        hint = self._hint(cases, found)
        return Feedback(self.key, "not yet", hint) if hint else Feedback(self.key, "right", self.why)

    def _hint(self, cases: list[tuple[Any, ...]], found: list[Any]) -> str | None:
        """What is off in the answers to the cases; None when nothing is."""
        right = [self.right(*copy.deepcopy(case)) for case in cases]
        fits = [self._same(one, other) for one, other in zip(found, right, strict=True)]
        if all(fits):
            return None
        for hint, slip in self.slips.items():
            if all(self._same(one, slip(*copy.deepcopy(case))) for case, one in zip(cases, found, strict=True)):
                return hint
        first = fits.index(False)
        hint = (_of_sets if self.unordered else _of_numbers)(found[first], right[first], self.expected)
        if not self.is_function:
            return hint
        return f"It is right for {sum(fits)} of {len(fits)} arguments that were tried. For {_shown(cases[first])}: {hint}"

    def _same(self, found: Any, right: Any) -> bool:
        if self.unordered:
            return _items(found) == _items(right)
        found, right = _numbers(found), _numbers(right)
        if found is None or right is None or found.shape != right.shape:
            return False
        largest = np.nanmax(np.abs(right), initial=0.0)
        return bool(np.allclose(found, right, rtol=self.tolerance, atol=1e-6 * self.tolerance * largest, equal_nan=True))


def _is_nothing(value: Any) -> bool:
    return value is None or value is Ellipsis or (isinstance(value, str) and not value.strip())


def _numbers(value: Any) -> np.ndarray | None:
    """An answer as an array of floats; None when it is no number and no array of numbers. A row of one number is a number."""
    if isinstance(value, (str, bytes, dict, set, frozenset)):
        return None
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
    return array.reshape(()) if array.shape == (1,) else array


def _items(value: Any) -> set[Any] | None:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return None
    return set(np.asarray(list(value), dtype=object).ravel().tolist())


def _of_sets(found: Any, right: Any, expected: str) -> str:
    found, right = _items(found), _items(right)
    if found is None:
        return f"Expected is {expected}."
    parts = [text for text, one in (("something is missing", right - found), ("something does not belong", found - right)) if one]
    return f"{' and '.join(parts).capitalize()}."


def _of_numbers(found: Any, right: Any, expected: str) -> str:
    """What distinguishes an answer from the right numbers, without saying these."""
    values, wanted = _numbers(found), _numbers(right)
    if values is None:
        return f"Expected is {expected}, not {type(found).__name__}."
    if values.shape != wanted.shape:
        if values.ndim == 2 and values.shape == wanted.shape[::-1]:
            return "Rows and columns are exchanged."
        return f"Expected is {expected}; this has the shape {values.shape or 'of one number'}."
    if np.isnan(values).any() and not np.isnan(wanted).any():
        return "There is a NaN in it: is something divided by zero?"
    for factor, hint in _FACTORS.items():
        if wanted.any() and np.allclose(values, factor * wanted, rtol=1e-3):
            return hint
    whole = not np.any(wanted % 1)
    if whole and wanted.size and wanted.max() < 1000 and (np.abs(values - wanted) == 1).all():
        return "Off by one: is the first or the last counted, or counted twice?"
    if wanted.ndim and np.allclose(values, wanted[::-1], rtol=1e-3):
        return "The numbers are right, their order is reversed."
    if not wanted.ndim:
        return f"The number is too {'large' if values > wanted else 'small'}. Write down what is counted, and in which unit."
    wrong = ~np.isclose(values, wanted, rtol=1e-3)
    if wanted.size <= 5:
        ordinals = ("first", "second", "third", "fourth", "fifth")
        return f"Look at the {' and the '.join(ordinals[k] for k in np.flatnonzero(wrong))} number again; any other is right."
    return f"{wrong.mean():.0%} of the {wanted.size} numbers are off."


def _shown(case: tuple[Any, ...]) -> str:
    """Arguments in a few words."""
    return ", ".join(
        f"an array of shape {value.shape}"
        if isinstance(value, np.ndarray) and value.size > 12
        else f"a table of {len(value)} rows"
        if hasattr(value, "columns")
        else " ".join(repr(value).split())
        for value in case
    )
