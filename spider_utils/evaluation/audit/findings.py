"""One test of one printed row, and how a verdict is reached: with numbers that were rounded, then with digits cut off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spider_utils.evaluation.arithmetic import CUT, ROUNDED, Interval, Printed
from spider_utils.evaluation.published import PrintedRow

CONSISTENT, IMPOSSIBLE, UNDECIDED = "consistent", "impossible", "undecided"
VERDICTS = (CONSISTENT, IMPOSSIBLE, UNDECIDED)
POOLED, MEANS = "pixels pooled", "means over the same items"
"""Two readings of a table that does not say how it averaged: a row is impossible when both are."""
_CUT_OFF = ", but only if some digits were cut off instead of rounded"


@dataclass(frozen=True)
class Finding:
    """One test of one printed row.

    Attributes:
        source, table, row: where the numbers stand.
        test: what is compared.
        reading: POOLED, MEANS, or "" when the test holds under every reading.
        verdict: of VERDICTS.
        numbers: those that decide.
        why: one sentence.
    """

    source: str
    table: str
    row: str
    test: str
    reading: str
    verdict: str
    numbers: str
    why: str


Ends = Callable[[Printed], Interval]
"""What a printed number stands for, rounded or cut off."""


def tested(
    row: PrintedRow,
    test: str,
    holds: Callable[[Ends], bool],
    numbers: str,
    yes: str,
    no: str,
    reading: str = "",
    otherwise: str = IMPOSSIBLE,
) -> Finding:
    """A finding that arithmetic decides: rounded numbers first, and where these cannot be, numbers whose digits were cut off.

    Args:
        row: the numbers' row.
        test: what is compared.
        holds: whether the numbers can be right together.
        numbers: those that decide.
        yes, no: one sentence for each answer.
        reading: as of Finding.
        otherwise: the verdict where it does not hold: UNDECIDED where some data could still give the numbers.
    """
    if holds(lambda number: number.interval(ROUNDED)):
        verdict, why = CONSISTENT, yes
    elif holds(lambda number: number.interval(CUT)):
        verdict, why = CONSISTENT, yes + _CUT_OFF
    else:
        verdict, why = otherwise, no
    return Finding(row.source, row.table, row.row, test, reading, verdict, numbers, why)


def in_two_places(
    row: PrintedRow, holds: Callable[[Ends], bool], numbers: str, yes: str, no: str, test: str = "one number, two places"
) -> Finding:
    """A finding of what a source says twice. A contradiction is undecided: data can give either, and which holds is not told."""
    return tested(row, test, holds, numbers, yes, no, otherwise=UNDECIDED)


def undecided(row: PrintedRow, test: str, numbers: str, why: str) -> Finding:
    """A finding that arithmetic cannot decide."""
    return Finding(row.source, row.table, row.row, test, "", UNDECIDED, numbers, why)


def total_of(cells: list[Interval]) -> Interval:
    """The sum of intervals."""
    return sum(cells[1:], cells[0])


def as_printed(row: PrintedRow, *quantities: str) -> str:
    """ "IoU 0.800, Dice 0.986": numbers as they are printed."""
    titles = {"iou": "IoU", "dice": "Dice", "f1": "F1", "precision": "P", "recall": "R", "asd_mm": "ASD in mm"}
    return ", ".join(f"{titles.get(name, name.replace('_', ' '))} {row.cells[name]}" for name in quantities)
