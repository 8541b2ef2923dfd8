"""What arithmetic allows printed scores to be: rounding carried exactly, and the bounds that bind scores to each other.

A printed number stands for an interval. All of this is in fractions, so that no verdict hangs on floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

ROUNDED, CUT = "rounded", "cut off"
"""How a number may have got its digits: rounded to the nearest, or also with the rest of its digits dropped."""


@dataclass(frozen=True)
class Interval:
    """All values from ``low`` to ``high``, ends included; empty when ``low`` is above ``high``."""

    low: Fraction
    high: Fraction

    @classmethod
    def exactly(cls, value: int | Fraction) -> Interval:
        """The interval of one value."""
        return cls(Fraction(value), Fraction(value))

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, factor: int | Fraction) -> Interval:
        """Times a number that is not negative."""
        return Interval(self.low * factor, self.high * factor)

    def __truediv__(self, other: Interval) -> Interval:
        """Of an interval without negative values by a positive one."""
        return Interval(self.low / other.high, self.high / other.low)

    def __and__(self, other: Interval) -> Interval:
        return Interval(max(self.low, other.low), min(self.high, other.high))

    def __bool__(self) -> bool:
        """Whether there is a value in it."""
        return self.low <= self.high

    def size(self) -> Interval:
        """The absolute values of its values."""
        if self.low >= 0:
            return self
        return Interval(Fraction(0), max(-self.low, self.high)) if self.high >= 0 else Interval(-self.high, -self.low)

    def through(self, function: Callable[[Fraction], Fraction]) -> Interval:
        """What a function that never falls makes of it."""
        return Interval(function(self.low), function(self.high))

    def text(self, digits: int = 4) -> str:
        """ "0.8995 to 0.9005"; one number where both ends look the same."""
        low, high = (f"{float(end):.{digits}f}" for end in (self.low, self.high))
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Printed:
    """A number as it is printed.

    Attributes:
        text: its digits, such as "0.410": trailing zeros count.
        exact: whether it is a count, or a setting, and so was not rounded.
    """

    text: str
    exact: bool = False

    def __post_init__(self) -> None:
        try:
            finite = Decimal(self.text).is_finite()
        except InvalidOperation:
            finite = False
        if not finite:
            raise ValueError(f"'{self.text}' is no number")

    @property
    def value(self) -> Fraction:
        """The number that its digits say."""
        return Fraction(Decimal(self.text))

    @property
    def digits(self) -> int:
        """Digits behind the point."""
        return max(0, -int(Decimal(self.text).as_tuple().exponent))

    def interval(self, how: str = ROUNDED) -> Interval:
        """Everything that is printed so: half a unit of the last digit to both sides, and with CUT a whole one upward."""
        if self.exact:
            return Interval.exactly(self.value)
        unit = Fraction(1, 10**self.digits)
        return Interval(self.value - unit / 2, self.value + (unit if how == CUT else unit / 2))

    def __str__(self) -> str:
        return self.text


# ---------------------------------------------------------------------------------------------------- scores of one region


def dice_of_iou(iou: Fraction) -> Fraction:
    """Dice = F1 = 2 IoU / (1 + IoU) of one region; it rises and bends downward."""
    return 2 * iou / (1 + iou)


def harmonic_mean(first: Fraction, second: Fraction) -> Fraction:
    """F1 of one region from its precision and recall: 2 P R / (P + R); 0 where both are."""
    return 2 * first * second / (first + second) if first + second else Fraction(0)


# -------------------------------------------------------------------------------------------------- means over the same items


def highest_mean_dice(mean_iou: float) -> float:
    """The highest mean Dice that can go with a mean IoU over the same items; numbers or arrays.

    For one region Dice = 2 IoU / (1 + IoU), which bends downward; so the mean of Dice is at most that of the mean (Jensen).
    """
    return 2 * mean_iou / (1 + mean_iou)


def mean_dice_bounds(mean_iou: Interval, items: int | None = None) -> Interval:
    """What a mean Dice can be beside a mean IoU over the same items.

    Above by Jensen's inequality, reached when all items are alike. Below, a sum of functions that bend downward is smallest in a
    corner: some items have IoU 1, at most one has an IoU between, the others 0. For an unknown number of items that is the mean
    IoU itself.

    Args:
        mean_iou: as printed, within 0 and 1 where it is read.
        items: how many there are; None when it is not known.
    """
    inside = mean_iou & Interval(Fraction(0), Fraction(1))
    if items is None:
        return Interval(inside.low, dice_of_iou(inside.high))
    whole = math.floor(inside.low * items)
    return Interval((whole + dice_of_iou(inside.low * items - whole)) / items, dice_of_iou(inside.high))


def mean_f1_bounds(mean_precision: Interval, mean_recall: Interval) -> Interval:
    """What a mean F1 can be beside mean precision and mean recall over the same items.

    The harmonic mean of two numbers bends downward in both together: so at most the harmonic mean of the two means (Jensen), and
    at least max(0, P + R - 1), the plane through its corners on the unit square.
    """
    low = max(Fraction(0), mean_precision.low + mean_recall.low - 1)
    return Interval(low, harmonic_mean(mean_precision.high, mean_recall.high))


def largest_variance(mean: Interval) -> Fraction:
    """The largest variance of a population of values between 0 and 1 with this mean: m (1 - m) (Bhatia, Davis 2000).

    With n - 1 in place of n it is n / (n - 1) times as large.
    """
    nearest = min(max(Fraction(1, 2), mean.low), mean.high)
    return nearest * (1 - nearest)


def lowest_cross_entropy(accuracy: Interval) -> float:
    """The lowest mean cross-entropy, in nats, beside an accuracy: a wrong top class leaves the true one 1/2 at most."""
    return float(1 - accuracy.high) * math.log(2)


# --------------------------------------------------------------------------------------------------- sums, shares and lines


def weights_on_line(first: Sequence[Interval], second: Sequence[Interval], printed: Sequence[Interval]) -> Interval:
    """Every weight w in [0, 1] with which w first + (1 - w) second can be what is printed, of all scores at once.

    Args:
        first, second: the two ends, an interval a score.
        printed: what is said to lie between them.

    Returns:
        The weights; empty when there is none.
    """
    found = Interval(Fraction(0), Fraction(1))
    for a, b, seen in zip(first, second, printed, strict=True):
        # Two half-lines: the lowest that w can give is not above what is printed, the highest not below it.
        for slope, rest in ((b.low - a.low, b.low - seen.high), (a.high - b.high, seen.low - b.high)):
            # slope * w >= rest
            if slope > 0:
                found &= Interval(rest / slope, Fraction(1))
            elif slope < 0:
                found &= Interval(Fraction(0), rest / slope)
            elif rest > 0:
                found &= Interval(Fraction(1), Fraction(0))
    return found


def is_share(printed: Interval, items: int) -> bool:
    """Whether a share can be a whole number of ``items`` divided by their number (Brown, Heathers 2017: GRIM)."""
    return math.floor(printed.high * items) >= math.ceil(printed.low * items)


def fewest_items(shares: Sequence[Interval], most: int = 10_000) -> int | None:
    """The smallest number of items of which all shares can be whole numbers; None when there is none up to ``most``."""
    return next((n for n in range(1, most + 1) if all(is_share(one, n) for one in shares)), None)
