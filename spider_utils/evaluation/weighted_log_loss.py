"""The score of the RSNA 2024 Lumbar Spine Degenerative Classification challenge: a log loss weighted by severity.

As its evaluation page defines it: a log loss each for spinal canal stenosis, foraminal narrowing and subarticular stenosis, in
which a row weighs 1 (normal or mild), 2 (moderate) or 4 (severe); a fourth one for "is there any severe spinal canal stenosis in
this study", predicted by the highest probability of severe over the study's levels and weighing as its heaviest level; and
the mean of the four. Rows without a severity count in none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spider_utils.errors import KitError
from spider_utils.evaluation.statistics import CONFIDENCE, N_BOOT, ratio_draws, ratio_interval

WEIGHTS = (1.0, 2.0, 4.0)  # of Normal/Mild, Moderate, Severe
GROUPS = {  # words by which a condition is known
    "spinal": "spinal_canal_stenosis",
    "foraminal": "neural_foraminal_narrowing",
    "subarticular": "subarticular_stenosis",
}
ANY_SEVERE = "any_severe_spinal"
PARTS = (*GROUPS, ANY_SEVERE)
PROBABILITIES = ("normal_mild", "moderate", "severe")  # columns of a prediction, as in the challenge's submissions


@dataclass(frozen=True)
class WeightedLogLoss:
    """The score and its four parts; lower is better, 0 is the best.

    Attributes:
        spinal, foraminal, subarticular: of the three groups of conditions.
        any_severe_spinal: of the study-wise question.
        mean: of the four parts: the challenge's score.
        rows: how many rows were scored.
    """

    spinal: float
    foraminal: float
    subarticular: float
    any_severe_spinal: float
    mean: float
    rows: int


def log_loss(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of -log of the probability of the true class.

    Args:
        truth: (n,) true class numbers.
        probabilities: (n, classes), each row adding up to 1.
        weights: (n,) positive.

    Returns:
        The loss in nats. A probability of 0 counts as the smallest step above it in float64, as in scikit-learn, so that the loss
        stays finite.
    """
    return float(np.average(-np.log(_within(probabilities[np.arange(len(truth)), truth])), weights=weights))


def _within(probability: np.ndarray) -> np.ndarray:
    smallest = np.finfo(np.float64).eps
    return np.clip(probability, smallest, 1 - smallest)


def weighted_log_loss(labels: pd.DataFrame, predictions: pd.DataFrame, any_severe_weight: float = 1.0) -> WeightedLogLoss:
    """Score predictions as the challenge does.

    Args:
        labels: a row a study, condition and level: study, condition, level, grade (0, 1, 2; NaN rows are not scored), as in
            data.rsna_tables.RsnaTables.labels.
        predictions: study, condition, level, and one column a severity (PROBABILITIES). A row for every label with a grade; rows
            that nobody labelled are not scored. Rows are divided by their sum.
        any_severe_weight: weight of the fourth part in the mean; 1 in the challenge.

    Returns:
        WeightedLogLoss.

    Raises:
        ValueError: a label has no prediction or two, or probabilities are negative, not finite or all 0 in a row.
        KitError: a group of conditions has no label.
    """
    table, given = _matched(labels, predictions)
    losses, weights = _sums(table, given)
    for name, words in GROUPS.items():
        if not weights[name].any():
            raise KitError(f"no label of '{words}' to score, and the score is a mean over all three groups: score more studies")
    parts = {name: float(losses[name].sum() / weights[name].sum()) for name in PARTS}
    mean = float(np.average(list(parts.values()), weights=(1.0, 1.0, 1.0, any_severe_weight)))
    return WeightedLogLoss(**parts, mean=mean, rows=len(table))


def score_interval(
    labels: pd.DataFrame, predictions: pd.DataFrame, n_boot: int = N_BOOT, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the challenge's score from a bootstrap over studies.

    Args:
        labels, predictions: as for ``weighted_log_loss``.
        n_boot, confidence, seed: see statistics.bootstrap_interval. A resample without a part leaves it out of its mean.

    Returns:
        Low and high end; NaN with fewer than two studies.

    Raises:
        ValueError: as ``weighted_log_loss``, but for groups without a label.
    """
    losses, weights = _sums(*_matched(labels, predictions))
    return ratio_interval(losses.to_numpy(), weights.to_numpy(), n_boot, confidence, seed)


def score_difference(
    labels: pd.DataFrame,
    predictions: pd.DataFrame,
    others: pd.DataFrame,
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How much lower or higher one prediction scores than another one on the same studies.

    Both are scored on the same resamples of whole studies, so that what is hard about a study counts against both.

    Args:
        labels, predictions, others: as for ``weighted_log_loss``.
        n_boot, confidence, seed: see ``score_interval``.

    Returns:
        The score of ``predictions`` minus that of ``others`` (below 0 the former is better), low and high end of its percentile
        interval; the ends are NaN with fewer than two studies.

    Raises:
        ValueError, KitError: as ``weighted_log_loss``.
    """
    difference = weighted_log_loss(labels, predictions).mean - weighted_log_loss(labels, others).mean
    (losses, weights), (other_losses, _) = (_sums(*_matched(labels, given)) for given in (predictions, others))
    if len(weights) < 2:
        return difference, float("nan"), float("nan")
    draws, other_draws = (ratio_draws(top.to_numpy(), weights.to_numpy(), n_boot, seed) for top in (losses, other_losses))
    low, high = np.quantile(draws - other_draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return difference, float(low), float(high)


def _matched(labels: pd.DataFrame, predictions: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Labels with a grade, and what was predicted for each: (rows, 3), adding up to 1."""
    keys = ["study", "condition", "level"]
    labels = labels[labels["grade"].notna()]
    for table, name in ((labels, "label"), (predictions, "prediction")):
        twins = table[table.duplicated(keys)]
        if len(twins):
            raise ValueError(f"{len(twins)} {name}s come twice, such as {', '.join(map(str, twins[keys].iloc[0]))}")
    table = labels.merge(predictions[[*keys, *PROBABILITIES]], on=keys, how="left", indicator="found")
    bare = table[table["found"] == "left_only"]
    if len(bare):
        raise ValueError(f"{len(bare)} labels have no prediction, such as {', '.join(map(str, bare[keys].iloc[0]))}")
    given = table[list(PROBABILITIES)].to_numpy(np.float64)
    if not np.isfinite(given).all() or (given < 0).any() or (given.sum(axis=1) <= 0).any():
        raise ValueError("probabilities must be finite, 0 or more, and not all 0 in a row")
    return table, given / given.sum(axis=1, keepdims=True)


def _sums(table: pd.DataFrame, given: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By study (rows) and part (columns): the sum of weight x loss, and the sum of weights."""
    grade = table["grade"].to_numpy().astype(int)
    weight = np.asarray(WEIGHTS)[grade]
    loss = -np.log(_within(given[np.arange(len(grade)), grade]))
    studies = table["study"].to_numpy()
    tops, bottoms = {}, {}
    for name, words in GROUPS.items():
        rows = table["condition"].str.contains(words, regex=False).to_numpy()
        tops[name] = pd.Series((weight * loss)[rows]).groupby(studies[rows]).sum()
        bottoms[name] = pd.Series(weight[rows]).groupby(studies[rows]).sum()
    spinal = table["condition"].str.contains(GROUPS["spinal"], regex=False).to_numpy()
    by_study = pd.DataFrame({"truth": grade == 2, "severe": given[:, 2], "weight": weight})[spinal].groupby(studies[spinal]).max()
    chance = np.where(by_study["truth"], by_study["severe"], 1 - by_study["severe"])
    tops[ANY_SEVERE] = -np.log(_within(chance)) * by_study["weight"]
    bottoms[ANY_SEVERE] = by_study["weight"]
    everyone = np.unique(studies)
    return tuple(pd.DataFrame(part).reindex(everyone).fillna(0.0)[list(PARTS)] for part in (tops, bottoms))
