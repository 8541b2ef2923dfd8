"""What happens to labels and scores along a straight line between two sets of class scores.

Along a line every class score of a pixel is a straight line too, and the pixel's label is whichever is on top. The label changes
only where lines cross, so the whole course of a score is known from the crossings alone: sort them, and update counts. This is
the line search of minimum error rate training (Och, ACL 2003), with pixels for sentences and classes for translations.

At a crossing two classes tie, and the label is that of the lower index, as argmax has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spider_utils.evaluation.metrics import region_scores

SAME = 1e-12  # scores closer than this differ by rounding alone: one voxel changes a Dice by more


@dataclass(frozen=True)
class Crossings:
    """Places where a pixel's label changes.

    Attributes:
        at: float64 (k,), place on the line, 0 to 1.
        pixel: int64 (k,), which pixel.
        old, new: int64 (k,), its label before and after.
    """

    at: np.ndarray
    pixel: np.ndarray
    old: np.ndarray
    new: np.ndarray


def find_crossings(start: np.ndarray, end: np.ndarray) -> Crossings:
    """Every change of label on the way from ``start`` to ``end``.

    Args:
        start, end: float64 (pixels, classes), class scores at 0 and at 1.

    Returns:
        The crossings, of each pixel in order.
    """
    slope = end - start
    label, last, here = start.argmax(axis=1), end.argmax(axis=1), np.zeros(len(start))
    moving, parts = np.flatnonzero(label != last), []  # straight lines: what is on top at both ends stays there
    while moving.size:  # each round, every pixel goes on to a steeper line: at most classes - 1 rounds
        top = label[moving][:, None]
        gap = np.take_along_axis(start[moving], top, 1) - start[moving]
        rise = slope[moving] - np.take_along_axis(slope[moving], top, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # No steeper line can have crossed the top one before: what seems so is rounding.
            meets = np.where(rise > 0, np.maximum(gap / rise, here[moving][:, None]), np.inf)
        nearest = meets.min(axis=1)
        # Of several lines that meet there, the steepest is on top afterwards.
        steepest = np.where(meets == nearest[:, None], rise, -np.inf).argmax(axis=1)
        goes_on = nearest <= 1
        lowest = (meets == nearest[:, None])[goes_on].argmax(axis=1)
        moving, nearest, steepest = moving[goes_on], nearest[goes_on], steepest[goes_on]
        # A third class that only touches the top has the pixel for that one place, if it is the lowest of those that tie.
        touches = lowest < np.minimum(label[moving], steepest)
        parts.append((nearest[touches], moving[touches], label[moving][touches], lowest[touches]))
        parts.append((nearest, moving, np.where(touches, lowest, label[moving]), steepest))
        label[moving], here[moving] = steepest, nearest
        moving = moving[steepest != last[moving]]
    if not parts:
        return Crossings(np.zeros(0), *(np.zeros(0, np.int64) for _ in range(3)))
    return Crossings(*(np.concatenate([part[k] for part in parts]) for k in range(4)))


@dataclass(frozen=True)
class Counts:
    """Pixels by volume and class, (volumes, classes) int64: true positives, predicted, and in the truth."""

    tp: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    def score(self, metric: str, classes: np.ndarray) -> float:
        """Mean over volumes of the mean over ``classes`` ("dice" or "iou"); a class in neither mask is left out of its volume."""
        values = region_score(metric, self.tp, self.predicted, self.true)[:, classes]
        defined = ~np.isnan(values)
        sums, numbers = np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1)
        return float((sums[numbers > 0] / numbers[numbers > 0]).mean())


def region_score(metric: str, tp: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """ "dice" or "iou" from counts; NaN where neither mask holds the class."""
    return region_scores(tp, predicted - tp, true - tp)[metric]


def score_curve(
    crossings: Crossings, truth: np.ndarray, volume: np.ndarray, counts: Counts, metric: str, classes: np.ndarray
) -> pd.DataFrame:
    """The score along the whole line.

    Args:
        crossings: changes of label.
        truth, volume: of every crossing's pixel: true label, and row in ``counts``.
        counts: at the start of the line.
        metric: "dice" or "iou".
        classes: indices of the classes whose mean is taken.

    Returns:
        One row a piece of constant score, in order: low, high (on the line, 0 to 1), score. Where a tie decides the score of a
        single place, that is a piece of its own, with low == high; other pieces may be open at their ends.
    """
    start = counts.score(metric, classes)
    late = crossings.new > crossings.old  # at the crossing itself the lower index wins, so these change just after it
    keep = ~(late & (crossings.at >= 1))
    order = np.lexsort((late[keep], crossings.at[keep]))
    at, old, new = (array[keep][order] for array in (crossings.at, crossings.old, crossings.new))
    late, truth, volume = (array[keep][order] for array in (late, truth, volume))
    if not len(at):
        return pd.DataFrame({"low": [0.0], "high": [1.0], "score": [start]})
    scores = _scores_after(old, new, truth, volume, counts, metric, classes)
    # Crossings of one place and kind happen together: only the score after the last of them exists.
    ends = np.flatnonzero(np.append((at[1:] != at[:-1]) | (late[1:] != late[:-1]), True))
    at, late, scores = at[ends], late[ends], scores[ends]
    following = np.append(at[1:], 1.0)
    # Early crossings hold at their very place, which is a piece, and from there on, unless late ones take over.
    twice = ~late & (following > at)
    piece = np.repeat(np.arange(len(at)), 1 + twice)
    low, high = at[piece], following[piece]
    is_first = np.diff(piece, prepend=-1) > 0
    high[is_first & twice[piece]] = low[is_first & twice[piece]]
    low, high = np.append(0.0, low), np.append(at[0], high)
    return pd.DataFrame({"low": low, "high": high, "score": np.append(start, scores[piece])})


def _scores_after(
    old: np.ndarray, new: np.ndarray, truth: np.ndarray, volume: np.ndarray, counts: Counts, metric: str, classes: np.ndarray
) -> np.ndarray:
    """The score after each crossing, in order."""
    n_volumes, n_classes = counts.tp.shape
    number = np.arange(len(old))
    # Every crossing touches two counters (volume, class): one loses the pixel, the other gains it.
    event = np.concatenate([number, number])
    label = np.concatenate([old, new])
    step = np.repeat([-1, 1], len(old))
    counted = np.isin(label, classes)
    event, label, step = event[counted], label[counted], step[counted]
    cell = volume[event] * n_classes + label
    order = np.lexsort((event, cell))
    event, cell, step, label = event[order], cell[order], step[order], label[order]
    hit = step * (truth[event] == label)
    predicted = _running(cell, step, counts.predicted.reshape(-1))
    tp = _running(cell, hit, counts.tp.reshape(-1))
    true = counts.true.reshape(-1)[cell]
    after = region_score(metric, tp, predicted, true)
    before = region_score(metric, tp - hit, predicted - step, true)
    sums, numbers = (np.zeros(len(old)) for _ in range(2))
    np.add.at(sums, event, np.nan_to_num(after) - np.nan_to_num(before))
    np.add.at(numbers, event, (~np.isnan(after)).astype(float) - (~np.isnan(before)))
    # From sums over classes to means over classes, volume by volume, and to the mean over volumes.
    values = region_score(metric, counts.tp, counts.predicted, counts.true)[:, classes]
    by_volume = np.argsort(volume, kind="stable")
    volume, sums, numbers = volume[by_volume], sums[by_volume], numbers[by_volume]
    total = _running(volume, sums, np.nansum(values, axis=1))
    defined = _running(volume, numbers, (~np.isnan(values)).sum(axis=1))
    mean_after, mean_before = _mean(total, defined), _mean(total - sums, defined - numbers)
    appears = (defined > 0).astype(int) - (defined - numbers > 0)
    in_order = np.argsort(by_volume)
    volumes_before = (~np.isnan(values)).any(axis=1).sum()
    all_means = np.cumsum((mean_after - mean_before)[in_order]) + _mean(np.nansum(values, 1), (~np.isnan(values)).sum(1)).sum()
    return all_means / (volumes_before + np.cumsum(appears[in_order]))


def _running(cell: np.ndarray, step: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Running value of each cell after each step; ``cell`` is sorted, ``base`` holds the value that each begins with."""
    total = np.cumsum(step)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    lengths = np.diff(np.append(first, len(cell)))
    return total - np.repeat((total - step)[first], lengths) + base[cell]


def _mean(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.divide(total, number, out=np.zeros(len(total)), where=number > 0.5)
