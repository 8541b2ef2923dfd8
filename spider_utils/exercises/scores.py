"""Exercises of notebooks 11 to 16: ensembles, scores, measurements, findings, printed numbers, looking at errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pandas as pd

from spider_utils.evaluation.grades import weighted_kappa
from spider_utils.evaluation.weighted_log_loss import log_loss
from spider_utils.exercises.checking import Exercise
from spider_utils.labels import get_scheme
from spider_utils.measure.alignment import meyerding_grade

FIRST, SECOND = np.array([0.85, 0.15]), np.array([0.40, 0.60])  # two networks' probabilities of background and disc


def _crossing() -> float:
    """Share of the first network from which background is on top: where the two lines meet."""
    gap_first, gap_second = FIRST[0] - FIRST[1], SECOND[0] - SECOND[1]
    return float(-gap_second / (gap_first - gap_second))


def _maps() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(11)
    made = []
    for shape in ((3, 4, 5, 6), (2, 3, 7, 4)):
        a = rng.dirichlet(np.full(shape[1], 0.4), (shape[0], *shape[2:]))
        b = 0.5 * a + 0.5 * rng.dirichlet(np.full(shape[1], 0.4), (shape[0], *shape[2:]))
        made.append((np.moveaxis(a, -1, 1), np.moveaxis(b, -1, 1)))
    return made


def _agree(a: np.ndarray, b: np.ndarray, axis: int = 1) -> np.ndarray:
    return a.argmax(axis=axis) == b.argmax(axis=axis)


def _cubes(shift: Sequence[int] = (2, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """A cube of 10 voxels a side, and the same one moved."""
    truth, moved = (np.zeros((14, 14, 14), bool) for _ in range(2))
    truth[:10, :10, :10] = True
    moved[tuple(slice(step, step + 10) for step in shift)] = True
    return truth, moved


def _iou(truth: np.ndarray, moved: np.ndarray) -> float:
    return (truth & moved).sum() / (truth | moved).sum()


def _dice(truth: np.ndarray, moved: np.ndarray) -> float:
    return 2 * (truth & moved).sum() / (truth.sum() + moved.sum())


def _draws() -> list[tuple[pd.DataFrame, list[int]]]:
    table = pd.DataFrame({"patient": [1, 1, 2, 3, 3, 3, 4], "dice": [0.8, 0.9, 0.5, 0.7, 0.75, 0.6, 0.95]})
    return [(table, [1, 1, 2, 4]), (table, [3, 3, 3, 2]), (table, [4, 2, 1, 3])]


def _mean_of_draw(table: pd.DataFrame, patients: Sequence[int], by_patient: bool = False) -> float:
    of = {patient: rows["dice"] for patient, rows in table.groupby("patient")}
    drawn = [of[patient] for patient in patients]
    return float(np.mean([rows.mean() for rows in drawn])) if by_patient else float(pd.concat(drawn).mean())


def _pairs_of_heights() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(13)
    true = rng.uniform(5, 13, 12)
    return [(true + rng.normal(0.4, 0.8, 12), true), (true[:5] - 0.3, true[:5] + rng.normal(0, 0.5, 5))]


def _limits(measured: np.ndarray, true: np.ndarray, ddof: int = 1, width: float = 1.96) -> list[float]:
    """Bias and limits of agreement."""
    difference = np.asarray(measured) - true
    half = width * difference.std(ddof=ddof)
    return [difference.mean(), difference.mean() - half, difference.mean() + half]


def _mean_and_error(measured: np.ndarray, true: np.ndarray) -> list[float]:
    bias, low, high = _limits(measured, true)
    return [bias, bias + (low - bias) / np.sqrt(len(true)), bias + (high - bias) / np.sqrt(len(true))]


def _predictive(sensitivity: float = 0.80, specificity: float = 0.95, share: float = 0.05) -> float:
    """Share of the positive answers that are true."""
    hits, false = sensitivity * share, (1 - specificity) * (1 - share)
    return hits / (hits + false)


def _readers() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(130)
    made = []
    for n in (40, 25):
        truth = rng.integers(1, 6, n)
        made.append((truth, np.clip(truth + rng.choice([-2, -1, 0, 0, 0, 1], n), 1, 5)))
    return made


def _confusion(truth: np.ndarray, given: np.ndarray) -> np.ndarray:
    table = np.zeros((5, 5))
    np.add.at(table, (np.asarray(truth) - 1, np.asarray(given) - 1), 1)
    return table


def _kappa(truth: np.ndarray, given: np.ndarray, weight: Callable[[np.ndarray], np.ndarray]) -> float:
    """Kappa with weights of its own for the distance of two grades."""
    table = _confusion(truth, given)
    weights = weight(np.abs(np.subtract.outer(np.arange(5), np.arange(5))))
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    return 1 - (weights * table).sum() / (weights * expected).sum()


def _sac() -> tuple[np.ndarray, int, tuple[float, float]]:
    """A mask of an axial slice, the number of the dural sac in it, and the size of its pixels in mm."""
    numbers = {name: value for value, name in get_scheme("axial8").names.items()}
    sac, disc = numbers["dural sac"], numbers["disc"]
    row, column = np.mgrid[:60, :60]
    mask = np.where(((row - 18) / 14) ** 2 + ((column - 30) / 24) ** 2 < 1, disc, 0)
    mask[((row - 42) / 8) ** 2 + ((column - 30) / 11) ** 2 < 1] = sac
    return mask, sac, (0.6, 0.5)


def _partners() -> list[tuple[np.ndarray, float]]:
    ious = np.array([0.82, 0.0, 0.5, 0.34, 0.71, 0.0, 0.9])
    return [(ious, 0.5), (ious, 0.3), (ious, 0.8)]


def _found(ious: np.ndarray, threshold: float) -> list[float]:
    """Mean IoU of the found objects, how many are found, how many missed."""
    hit = np.asarray(ious) >= threshold
    return [np.asarray(ious)[hit].mean(), hit.sum(), (~hit).sum()]


def _severities() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(14)
    return [(rng.permutation([0, 0, 0, 1, 1, 2][:n]), rng.dirichlet([3, 2, 1], n)) for n in (6, 5)]


def _severity_loss(truth: np.ndarray, probabilities: np.ndarray, weights: Sequence[float] = (1, 2, 4)) -> float:
    return log_loss(truth, probabilities, np.array(weights, float)[truth])


_SHARES = [("0.882", 17), ("0.882", 500), ("0.90", 7), ("0.9", 7), ("0.567", 74), ("0.667", 9), ("0.5", 3), ("0.25", 8)]


def _can_be_share(text: str, items: int, digits: int | None = None, cut: bool = False) -> bool:
    """Whether a whole number of items, divided by their number, is printed so."""
    digits = len(text.partition(".")[2]) if digits is None else digits
    unit = Fraction(1, 10**digits)
    low, high = Fraction(text) - (0 if cut else unit / 2), Fraction(text) + (unit if cut else unit / 2)
    return math.floor(high * items) >= math.ceil(low * items)


def _masks() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(16)
    return [tuple(rng.integers(0, 4, shape) for _ in range(2)) for shape in ((6, 7), (3, 4, 5))]


def _difference(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """0 where both agree, 1 made up, 2 missed, 3 taken for another."""
    wrong = truth != prediction
    return np.select([~wrong, truth == 0, prediction == 0], [0, 1, 2], 3)


def _two_looks() -> list[tuple[pd.DataFrame]]:
    """Series of patients with both kinds of looks, some twice, and of one patient with one kind only."""
    rows = [(1, "hospital", 0.92), (1, "hospital", 0.88), (1, "random", 0.70), (2, "hospital", 0.80), (2, "random", 0.76)]
    rows += [(3, "hospital", 0.95), (4, "random", 0.30), (4, "random", 0.40), (4, "random", 0.20), (4, "hospital", 0.85)]
    columns = ["patient", "looks", "dice"]
    return [(pd.DataFrame(rows, columns=columns),), (pd.DataFrame(rows[1:], columns=columns),)]


def _mean_loss(table: pd.DataFrame) -> float:
    """Mean over patients of their own difference between hospital and random looks."""
    means = table.groupby(["patient", "looks"])["dice"].mean().unstack().dropna()
    return float((means["hospital"] - means["random"]).mean())


def _unpaired(table: pd.DataFrame) -> float:
    means = table.groupby("looks")["dice"].mean()
    return float(means["hospital"] - means["random"])


EXERCISES = (
    Exercise(
        key="11.1",
        expected="one number between 0 and 1",
        right=_crossing,
        slips={
            "That is the share of the *second* network; w is that of the first.": lambda: 1 - _crossing(),
            "At a half they have equal say; but the first is surer of its answer than the second of its own.": lambda: 0.5,
            "Where the two lines of *one* class meet is no question: compare background with disc.": lambda: 0.6 / (0.6 + 0.85),
        },
        why="two straight lines cross once at most: that is why the best weight can be found exactly.",
    ),
    Exercise(
        key="11.2",
        expected="a function of (prob_a, prob_b) that returns a share between 0 and 1",
        is_function=True,
        cases=_maps,
        right=lambda a, b: _agree(a, b).mean(),
        slips={
            "That is the share of the disputed pixels, the others.": lambda a, b: 1 - _agree(a, b).mean(),
            "The axes are (n, classes, rows, columns): the class on top is along the second.": lambda a, b: _agree(
                a, b, 0
            ).mean(),
            "The axes are (n, classes, rows, columns): that compares columns, not classes.": lambda a, b: _agree(a, b, 3).mean(),
            "That is the share of *pictures* on which they agree everywhere; count pixels.": lambda a, b: (
                _agree(a, b).all(axis=(1, 2)).mean()
            ),
            "That is a number of pixels; asked is their share.": lambda a, b: _agree(a, b).sum(),
        },
        why="where both put the same class on top, every mixture does. Only the others need a search, which is why it is fast.",
    ),
    Exercise(
        key="12.1",
        expected="one number between 0 and 1",
        right=lambda: _iou(*_cubes()),
        slips={
            "That is the Dice. The IoU divides by the union, in which the shared part counts once.": lambda: _dice(*_cubes()),
            "It moved along one axis only.": lambda: _iou(*_cubes((2, 2, 2))),
            "The union reaches over both cubes: it is longer than one of them by the shift.": lambda: 8 / 14,
            "That is what the union holds beside the intersection.": lambda: 1 - _iou(*_cubes()),
        },
        why="8 of 12 layers: a shift by a fifth of the size costs the Dice a fifth, the IoU a third.",
    ),
    Exercise(
        key="12.2",
        expected="a function of (table, patients) that returns one number",
        is_function=True,
        cases=_draws,
        right=_mean_of_draw,
        slips={
            "A patient who is drawn twice counts twice: `isin` takes each once.": lambda table, patients: table[
                table["patient"].isin(patients)
            ]["dice"].mean(),
            "That is a mean of patients' means; here every series of the draw counts alike.": lambda t, p: _mean_of_draw(
                t, p, by_patient=True
            ),
            "That is the mean of the whole table, whoever is drawn.": lambda table, patients: table["dice"].mean(),
        },
        why="all series of a drawn patient come along, as often as the patient is drawn: that is a bootstrap over patients.",
    ),
    Exercise(
        key="13.1",
        expected="two numbers: the slip in mm and the grade",
        right=lambda: [-4.0, meyerding_grade(-4.0, 36.0)],
        slips={
            "Forwards is positive, so backwards is not.": lambda: [4.0, meyerding_grade(4.0, 36.0)],
            "A step of 3 mm or more counts, either way.": lambda: [-4.0, 0],
            "A grade has no sign: it counts begun quarters, either way.": lambda: [-4.0, -1],
            "A slip in pixels says nothing: give it in mm.": lambda: [-4 / 0.6, 1],
        },
        why="a retrolisthesis, within the first quarter of an endplate of 36 mm.",
    ),
    Exercise(
        key="13.2",
        expected="a function of (measured, true) that returns three numbers: bias, lower limit, upper limit",
        is_function=True,
        cases=_pairs_of_heights,
        right=_limits,
        slips={
            "The sign is turned: a difference is measured minus true.": lambda measured, true: _limits(true, measured),
            "That is an interval for the *mean* difference. Limits of agreement hold single differences: no root of n.": (
                _mean_and_error
            ),
            "One standard deviation holds two thirds of the differences; 95 % need 1.96.": lambda measured, true: _limits(
                measured, true, width=1
            ),
            "The standard deviation divides by n; of a sample it divides by n - 1 (ddof=1).": lambda measured, true: _limits(
                measured, true, ddof=0
            ),
            "Upper and lower limit are exchanged.": lambda measured, true: np.array(_limits(measured, true))[[0, 2, 1]],
        },
        why="the bias can be subtracted; what lies between the limits cannot.",
    ),
    Exercise(
        key="13b.1",
        tolerance=1e-3,
        expected="one number between 0 and 1",
        right=_predictive,
        slips={
            "That is the sensitivity: of the discs with a hernia. Asked is: of the discs that are called herniated.": lambda: (
                0.80
            ),
            "Hernias are rare here. That would be right if every other disc had one.": lambda: _predictive(share=0.5),
            "A specificity of 0.95 means that 5 % of the healthy ones are called herniated, not 95 %.": lambda: _predictive(
                specificity=0.05
            ),
            "That is the accuracy.": lambda: 0.80 * 0.05 + 0.95 * 0.95,
            "These are all who are called herniated; asked is which share of them has a hernia.": lambda: (
                0.80 * 0.05 + 0.05 * 0.95
            ),
            "That is the share of *false* alarms among them.": lambda: 1 - _predictive(),
        },
        why="more than half of the alarms are false, though both numbers of the test look good: the finding is rare.",
    ),
    Exercise(
        key="13b.2",
        expected="a function of (truth, given), both grades 1 to 5, that returns one number",
        is_function=True,
        cases=_readers,
        right=lambda truth, given: float(weighted_kappa(_confusion(truth, given))),
        slips={
            "That is kappa without weights: for it a mistake by one grade is as bad as by four.": lambda a, b: _kappa(
                a, b, lambda far: far > 0
            ),
            "The weights grow with the distance of two grades; asked is its square.": lambda a, b: _kappa(a, b, lambda far: far),
            "That is the share of equal grades; kappa takes off what chance alone would reach.": lambda a, b: np.mean(a == b),
            "That is a correlation: it does not notice a reader who is always one grade too high.": lambda a, b: np.corrcoef(
                a, b
            )[0, 1],
            "That is what is missing to a perfect agreement: 1 minus it is kappa.": lambda a, b: (
                1 - _kappa(a, b, lambda far: far**2)
            ),
        },
        why="a mistake by two grades counts four times one by a single grade, and chance is taken off.",
    ),
    Exercise(
        key="13c.1",
        expected="one number, in mm²",
        cases=lambda: [_sac()],
        right=lambda mask, sac, pixel_mm: (mask == sac).sum() * pixel_mm[0] * pixel_mm[1],
        slips={
            "That is a number of pixels.": lambda mask, sac, pixel_mm: (mask == sac).sum(),
            "A pixel is not as tall as it is wide: its area is the product of both sides.": lambda mask, sac, pixel_mm: (
                (mask == sac).sum() * pixel_mm[0] ** 2
            ),
            "A pixel is not as wide as it is tall: its area is the product of both sides.": lambda mask, sac, pixel_mm: (
                (mask == sac).sum() * pixel_mm[1] ** 2
            ),
            "That holds the disc as well.": lambda mask, sac, pixel_mm: (mask > 0).sum() * pixel_mm[0] * pixel_mm[1],
            "An area needs the size of a pixel twice, along rows and along columns.": lambda mask, sac, pixel_mm: (
                (mask == sac).sum() * pixel_mm[0]
            ),
            "Along columns as well: an area has two directions.": lambda mask, sac, pixel_mm: (mask == sac).sum() * pixel_mm[1],
        },
        why="count, times the area of a pixel.",
    ),
    Exercise(
        key="13c.2",
        expected="a function of (ious, threshold) that returns three numbers: mean IoU of the found ones, found, missed",
        is_function=True,
        cases=_partners,
        right=_found,
        slips={
            "The mean runs over all objects; the source's runs over the found ones alone.": lambda ious, threshold: [
                ious.mean(),
                *_found(ious, threshold)[1:],
            ],
            "From the threshold *on*: an object that just reaches it is found.": lambda ious, threshold: _found(
                ious, np.nextafter(threshold, 1)
            ),
            "Missed is every object that is not found, not only one without any partner.": lambda ious, threshold: [
                *_found(ious, threshold)[:2],
                (ious == 0).sum(),
            ],
            "Found and missed are exchanged.": lambda ious, threshold: np.array(_found(ious, threshold))[[0, 2, 1]],
        },
        why="three numbers that belong together: the first rises with the threshold while the second falls.",
    ),
    Exercise(
        key="14.1",
        expected="one whole number",
        right=lambda: np.flatnonzero(np.arange(1024).astype(np.uint8) == np.arange(1024)).max(),
        tolerance=0,
        slips={
            "That is how many values a byte can hold; the first of them is 0.": lambda: 256,
            "That is the largest value of a *signed* byte.": lambda: 127,
            "That is the largest value of 16 bits.": lambda: 65535,
        },
        why="one more, and bright turns black, without any error.",
    ),
    Exercise(
        key="14.2",
        expected="a function of (truth, probabilities) that returns one number",
        is_function=True,
        cases=_severities,
        right=_severity_loss,
        slips={
            "All severities weigh alike for you; a moderate case counts twice, a severe one four times.": lambda t, p: (
                _severity_loss(t, p, (1, 1, 1))
            ),
            "A weighted mean is divided by the sum of the weights, not by the number of cases.": lambda t, p: (
                _severity_loss(t, p) * np.array([1, 2, 4])[t].mean()
            ),
            "The weights are 1, 2 and 4; these are 1, 2 and 3.": lambda t, p: _severity_loss(t, p, (1, 2, 3)),
            "That is negative: the logarithm of a probability is.": lambda t, p: -_severity_loss(t, p),
            "The loss reads the probability of the *true* class, not the largest one.": lambda t, p: np.average(
                -np.log(p.max(axis=1)), weights=np.array([1, 2, 4])[t]
            ),
            "A mean of probabilities is no log loss: take the logarithm of each first.": lambda t, p: (
                -np.log(np.average(p[np.arange(len(t)), t], weights=np.array([1, 2, 4])[t]))
            ),
        },
        why="whoever calls every case normal pays dearly for the few severe ones.",
    ),
    Exercise(
        key="15.1",
        expected="one number between 0 and 1",
        right=lambda: 2 * 0.605 / 1.605,
        tolerance=3e-4,
        slips={
            "A printed 0.60 may have been a little more: how much, before it was rounded?": lambda: 2 * 0.60 / 1.60,
            "Rounding reaches half a unit of the last printed digit, not a whole one.": lambda: 2 * 0.61 / 1.61,
            "Two digits were printed, not three.": lambda: 2 * 0.6005 / 1.6005,
            "That is the lowest mean Dice, with every item found whole or not at all.": lambda: 0.595,
        },
        why="reached when every item has this IoU; anything unequal lies below.",
    ),
    Exercise(
        key="15.2",
        expected="a function of (text, items) that returns True or False",
        is_function=True,
        cases=lambda: list(_SHARES),
        right=_can_be_share,
        slips={
            "A rounded share need not be one exactly: which counts are printed so?": lambda text, items: (
                (Fraction(text) * items).denominator == 1
            ),
            "Digits are rounded here, not cut off.": lambda text, items: _can_be_share(text, items, cut=True),
            "How far rounding reaches hangs on how many digits are printed, not always three.": lambda text, items: _can_be_share(
                text, items, digits=3
            ),
            "How far rounding reaches hangs on how many digits are printed, not always two.": lambda text, items: _can_be_share(
                text, items, digits=2
            ),
            "That is the other way round: True where it *can* be.": lambda text, items: not _can_be_share(text, items),
        },
        why="a share of few items has few values, so its digits give the number of items away.",
    ),
    Exercise(
        key="15b.1",
        expected="one number of patients",
        right=lambda: math.sqrt(4 * 16),
        slips={
            "That is halfway between the numbers of patients themselves, not between their logarithms.": lambda: (4 + 16) / 2,
            "That is the logarithm of the number: go back to patients.": lambda: math.log(8),
            "That is the logarithm to base 10 of the number: go back to patients.": lambda: math.log10(8),
            "That is the logarithm to base 2 of the number: go back to patients.": lambda: math.log2(8),
        },
        why="halfway along the logarithm is the geometric mean: each doubling of the patients gives the same gain.",
    ),
    Exercise(
        key="15b.2",
        expected="a function of (table) that returns one number",
        is_function=True,
        cases=_two_looks,
        right=_mean_loss,
        slips={
            "The sign is the other way round: a loss is positive where random looks score lower.": lambda table: (
                -_mean_loss(table)
            ),
            "A patient who has one kind of looks only has no difference: leave him out.": lambda table: _unpaired(
                table.groupby(["patient", "looks"], as_index=False)["dice"].mean()
            ),
            "A patient with several series counts once: average these first.": lambda table: _unpaired(
                table[table.groupby("patient")["looks"].transform("nunique") == 2]
            ),
            "Those are differences of series, of everybody: one difference a patient, of those who have both.": lambda table: (
                _unpaired(table)
            ),
        },
        why="each patient is compared with himself, so that easy and hard patients do not blur what the looks cost.",
    ),
    Exercise(
        key="16.1",
        expected="one number",
        right=lambda: 320 + 140 / 2,
        tolerance=0,  # just below it is the last shade of gray
        slips={
            "The window reaches half its width to each side of the level.": lambda: 320 + 140,
            "There every pixel is *black*.": lambda: 320 - 140 / 2,
            "At the level a pixel is gray: it is the middle of the window.": lambda: 320,
        },
        why="level plus half the window; whatever is brighter looks the same.",
    ),
    Exercise(
        key="16.2",
        expected="a function of (truth, prediction) that returns an array of 0, 1, 2 and 3",
        is_function=True,
        cases=_masks,
        right=_difference,
        slips={
            "Made up and missed are exchanged: made up is what the *truth* calls background.": lambda truth, prediction: (
                _difference(prediction, truth)
            ),
            "A vertebra in place of a disc is neither missed nor made up: that is 3.": lambda truth, prediction: np.where(
                truth == prediction, 0, np.where(truth == 0, 1, 2)
            ),
            "3 is for structures alone: where one of both is background, it is 1 or 2.": lambda truth, prediction: np.where(
                truth == prediction, 0, 3
            ),
            "Where both agree, nothing is wrong: 0.": lambda truth, prediction: np.select(
                [truth == 0, prediction == 0], [1, 2], 3
            ),
        },
        why="three kinds of errors that a Dice adds up to one number.",
    ),
)
