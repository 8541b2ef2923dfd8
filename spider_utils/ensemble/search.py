"""The weights of an ensemble that truly maximise Dice or IoU, found along lines instead of on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, cycle

import numpy as np
import pandas as pd

from spider_utils.ensemble.fusion import label_map
from spider_utils.ensemble.lines import SAME, Counts, Crossings, find_crossings, score_curve
from spider_utils.ensemble.pixels import Disputed, find_disputed

METRICS = ("dice", "iou")
_NARROWEST = 1e-9  # of a piece to aim at with several models: rounded weights must still lie on it
RULES = ("probabilities", "votes", "by class")


@dataclass(frozen=True)
class PairWeight:
    """The optimum along a line between two models (or two mixtures of models).

    Attributes:
        weight: share of the first, in the middle of ``interval``.
        score: its score, the highest of all weights in [0, 1].
        interval: lowest and highest weight that share it (the widest such range); the ends themselves may be ties that do not.
        curve: the score of every weight: rows (low, high, score) of pieces with one score, in order; see score_curve.
    """

    weight: float
    score: float
    interval: tuple[float, float]
    curve: pd.DataFrame

    def at(self, weight: float | np.ndarray) -> np.ndarray:
        """The score at one or more weights of the first model. Raises ValueError for weights outside 0 to 1."""
        low, high = self.curve["low"].to_numpy(), self.curve["high"].to_numpy()
        weight = np.asarray(weight, dtype=np.float64)
        if not ((weight >= 0) & (weight <= 1)).all():
            raise ValueError("weights must lie between 0 and 1")
        piece = np.searchsorted(high, weight, side="left")
        following = np.minimum(piece + 1, len(high) - 1)
        # The end of one piece can be the place of a tie, which is a piece of its own.
        tie = (low[following] == weight) & (high[following] == weight)
        return self.curve["score"].to_numpy()[np.where(tie, following, piece)]


@dataclass(frozen=True)
class EnsembleWeights:
    """The best weights found for several models.

    Attributes:
        weights: (models,), summing to 1; for the rule "by class" (models, classes), each class's column summing to 1.
        score: their score.
        rule: what is averaged, see best_weights.
        lines: for each model, the line through ``weights`` from the mixture without that model (0) to that model alone (1);
            empty for the rule "by class".
    """

    weights: np.ndarray
    score: float
    rule: str
    lines: tuple[PairWeight, ...]

    def label_map(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (slices, rows, columns): the ensemble's labels, by its own rule (see fusion.label_map)."""
        return label_map(probabilities, self.weights, votes=self.rule == "votes")


@dataclass(frozen=True)
class _Problem:
    """What a search needs to know besides weights."""

    disputed: Disputed
    metric: str
    classes: np.ndarray
    narrowest: float = 0.0

    def line(self, start: np.ndarray, end: np.ndarray) -> PairWeight:
        """Optimum between two sets of weights, each (models, 1) or (models, classes)."""
        parts, (tp, predicted) = [], (count.copy() for count in (self.disputed.agreed.tp, self.disputed.agreed.predicted))
        for part, scores in self.disputed.blocks():
            low, high = _mixed(scores, start), _mixed(scores, end)
            label, volume, truth = low.argmax(axis=1), self.disputed.volume[part], self.disputed.truth[part]
            np.add.at(predicted, (volume, label), 1)
            np.add.at(tp, (volume, label), label == truth)
            found = find_crossings(low, high)
            parts.append((found.at, found.pixel + part.start, found.old, found.new))
        columns = zip(*parts, strict=True) if parts else ([np.zeros(0)], *([np.zeros(0, np.int64)] for _ in range(3)))
        crossings = Crossings(*(np.concatenate(column) for column in columns))
        truth, volume = self.disputed.truth[crossings.pixel], self.disputed.volume[crossings.pixel]
        counts = Counts(tp, predicted, self.disputed.agreed.true)
        return _optimum(score_curve(crossings, truth, volume, counts, self.metric, self.classes), self.narrowest)


def _mixed(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum over models of scores (pixels, models, classes), weights (models, 1) or (models, classes).

    Model after model: numpy's sum over a short axis in the middle gives the same to the last bit in three to six times as long.
    """
    total = scores[:, 0] * weights[0]
    for model in range(1, len(weights)):
        total += scores[:, model] * weights[model]
    return total


def _optimum(curve: pd.DataFrame, narrowest: float) -> PairWeight:
    low, high, score = (curve[column].to_numpy() for column in ("low", "high", "score"))
    wide = high - low >= narrowest
    low, high, score = low[wide], high[wide], score[wide]
    best = score.max()
    is_best = score >= best - SAME
    low, high = low[is_best & ~np.append(False, is_best[:-1])], high[is_best & ~np.append(is_best[1:], False)]
    widest = int((high - low).argmax())
    interval = (float(low[widest]), float(high[widest]))
    return PairWeight(sum(interval) / 2, float(best), interval, curve)


def _problem(
    probabilities: Sequence[np.ndarray],
    truth: np.ndarray,
    metric: str,
    classes: Sequence[int] | None,
    volumes: np.ndarray | None,
    rule: str = "probabilities",
) -> _Problem:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not '{metric}'")
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not '{rule}'")
    disputed = find_disputed(probabilities, truth, volumes, votes=rule == "votes", by_class=rule == "by class")
    n_classes = disputed.agreed.tp.shape[1]
    chosen = np.array(sorted(set(range(1, n_classes) if classes is None else classes)), dtype=np.int64)
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= n_classes:
        raise ValueError(f"classes must be some of 0 to {n_classes - 1}, not {list(chosen)}")
    if not disputed.agreed.true[:, chosen].any():
        raise ValueError(f"no pixel of the truth has one of the classes {chosen.tolist()}: there is nothing to weigh models by")
    return _Problem(disputed, metric, chosen)


def best_pair_weight(
    prob_a: np.ndarray,
    prob_b: np.ndarray,
    truth: np.ndarray,
    metric: str = "dice",
    classes: Sequence[int] | None = None,
    volumes: np.ndarray | None = None,
) -> PairWeight:
    """The share of model a in a weighted average with model b that gives the best score, over all shares in [0, 1].

    The score is that of the label map argmax(w a + (1 - w) b): Dice or IoU by class, averaged over ``classes`` and then over
    ``volumes``. A class that neither truth nor prediction of a volume holds is left out of that volume's mean; one that only
    one of them holds counts 0. The search is exact (see ensemble.lines), unlike the grid of 0.05 of `medfusion`. Only pixels in
    which the models disagree cost memory: about 0.4 kB each.

    Args:
        prob_a, prob_b: (slices, classes, rows, columns) float, read as float32, summing to 1 over classes; may be memory-mapped,
            and are read a few slices at a time.
        truth: integer (slices, rows, columns).
        metric: "dice" or "iou".
        classes: indices averaged over; all but 0 when None.
        volumes: which volume each slice belongs to; None pools all slices as if they were one volume.

    Raises:
        ValueError: shapes that differ, probabilities that are not finite or do not sum to 1, a truth without any of the classes.
    """
    problem = _problem([prob_a, prob_b], truth, metric, classes, volumes)
    return problem.line(np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]]))


def best_weights(
    probabilities: Sequence[np.ndarray],
    truth: np.ndarray,
    metric: str = "dice",
    classes: Sequence[int] | None = None,
    volumes: np.ndarray | None = None,
    rule: str = "probabilities",
    restarts: int = 8,
    seed: int = 0,
) -> EnsembleWeights:
    """Weights of two or more models, by exact line searches in many directions from many starts.

    From every start (each model alone, equal weights, ``restarts`` random ones) the search goes along the lines towards each
    model and between each two, to the best place of each line, until none gets any further. With two models the first line is
    the whole problem; with more the result is a local optimum, the best of all starts. Scores that only a single place has (a
    tie) are not aimed at, because rounded weights would miss it.

    Args:
        probabilities: one array a model, as for ``best_pair_weight``.
        truth, metric, classes, volumes: as for ``best_pair_weight``.
        rule: what is averaged. "probabilities"; "votes" (each model's top class counts 1: weighted voting); "by class" (every
            class has weights of its own: starts from the best common ones).
        restarts: number of random starts.
        seed: of the random starts.

    Raises:
        ValueError: as best_pair_weight; unknown rule.
    """
    problem = replace(_problem(probabilities, truth, metric, classes, volumes, rule), narrowest=_NARROWEST)
    n, n_classes = len(probabilities), problem.disputed.agreed.tp.shape[1]
    starts = [np.full(n, 1 / n)]
    if n > 2:
        starts += [*np.eye(n), *np.random.default_rng(seed).dirichlet(np.ones(n), restarts)]
    pairs = list(combinations(range(n), 2))
    moves: list[Move] = [partial(_exchange, pair=pair, column=0) for pair in pairs]
    moves += [partial(_toward, model=model) for model in range(n) if n > 2]
    # Weights are columns: one for all classes, or one a class.
    weights, score = max((_climb(problem, start[:, None], moves) for start in starts), key=lambda found: found[1])
    if rule == "by class":
        moves = [partial(_exchange, pair=pair, column=k) for k in range(n_classes) for pair in pairs]
        weights, score = _climb(problem, np.repeat(weights, n_classes, axis=1), moves, score)
        return EnsembleWeights(weights, score, rule, ())
    return EnsembleWeights(weights[:, 0], score, rule, tuple(problem.line(*_toward(weights, model)) for model in range(n)))


Move = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From weights to the two ends of a line through them."""


def _climb(problem: _Problem, weights: np.ndarray, moves: list[Move], score: float = -np.inf) -> tuple[np.ndarray, float]:
    """Go to the best place of line after line, until none leads to a better score."""
    turns, settled = cycle(moves), 0  # lines in a row that the weights are best on
    while settled < len(moves):
        start, end = next(turns)(weights)
        found = problem.line(start, end)
        settled += 1
        if found.score > score + SAME:
            weights, score, settled = found.weight * end + (1 - found.weight) * start, found.score, 1
    return weights, score


def _exchange(weights: np.ndarray, pair: tuple[int, int], column: int) -> tuple[np.ndarray, np.ndarray]:
    """From the first of two models having their whole common share to the second having it."""
    ends = weights.copy(), weights.copy()
    for k, end in enumerate(ends):
        end[pair[k], column] += end[pair[1 - k], column]
        end[pair[1 - k], column] = 0
    return ends


def _toward(weights: np.ndarray, model: int) -> tuple[np.ndarray, np.ndarray]:
    """From the mixture without a model to that model alone."""
    without, alone = weights.copy(), np.zeros_like(weights)
    without[model], alone[model] = 0, 1
    if not without.any():
        without = (1 - alone) / (len(weights) - 1)
    return without / without.sum(axis=0), alone
