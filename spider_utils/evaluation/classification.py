"""Scores of classifiers with intervals over studies: accuracy, balanced accuracy, AUC a class, calibration.

All take ``truth`` int (n,) and ``probabilities`` float (n, classes), whose rows add up to 1. Pictures of one study are no
independent cases: intervals draw whole studies (see ``statistics``).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from spider_utils.evaluation.statistics import CONFIDENCE, N_BOOT, ratio_interval, times_drawn

N_BINS = 10
ALL = "all classes"


def confusion_counts(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """How often class i (row) was called class j (column): int (classes, classes).

    Raises:
        ValueError: lengths differ, or a class lies outside 0 to n_classes - 1.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"truth and prediction must be two lists of one length, not of shapes {truth.shape}, {predicted.shape}")
    if len(truth) and not (0 <= min(truth.min(), predicted.min()) and max(truth.max(), predicted.max()) < n_classes):
        raise ValueError(f"classes must lie from 0 to {n_classes - 1}")
    flat = np.bincount(truth.astype(np.intp) * n_classes + predicted.astype(np.intp), minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes)


def balanced_accuracy(counts: np.ndarray) -> float:
    """Mean over classes of the share that was found (recall); classes that the truth does not hold are left out."""
    total = counts.sum(axis=1)
    return float((np.diagonal(counts)[total > 0] / total[total > 0]).mean())


def class_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive scores higher than a negative, ties counted half; NaN without either.

    Hanley & McNeil, Radiology 143:29, 1982.
    """
    positive = np.asarray(positive, bool)
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def roc_curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share of negatives, share of positives) called positive at every threshold, from none to all."""
    positive, scores = np.asarray(positive, bool), np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores pass together
    found, false = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    return np.append(0, false / max(false[-1], 1)), np.append(0, found / max(found[-1], 1))


def reliability(truth: np.ndarray, probabilities: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """How sure a network was of its answers, and how often it was right: a row a bin of confidence that holds any.

    Guo et al., ICML 2017: confidence is the highest probability of a row; bins are of equal width, their upper end included.

    Returns:
        low, high (of the bin), n, confidence (mean), accuracy.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = _bins(confidence, n_bins)
    rows = [
        (k / n_bins, (k + 1) / n_bins, int((bins == k).sum()), confidence[bins == k].mean(), right[bins == k].mean())
        for k in np.unique(bins)
    ]
    return pd.DataFrame(rows, columns=["low", "high", "n", "confidence", "accuracy"])


def _bins(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, n_bins: int = N_BINS) -> float:
    """Expected calibration error: mean over answers of ``|accuracy - confidence|`` of their bin (Guo et al., ICML 2017)."""
    table = reliability(truth, probabilities, n_bins)
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["n"]))


def brier_score(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Sum over classes of (probability - truth)^2 of every row, 0 to 2 (Brier, Mon Weather Rev 78:1, 1950)."""
    return ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)


# ------------------------------------------------------------------------------------------------------------------ table


def score_table(
    truth: np.ndarray,
    probabilities: np.ndarray,
    studies: Sequence[Hashable],
    names: Sequence[str],
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> pd.DataFrame:
    """All scores of one head, each with its interval from a bootstrap over studies.

    Args:
        truth, probabilities: see above.
        studies: (n,) study of each row; rows of a study are drawn together.
        names: of the classes.
        n_boot, confidence, seed: see statistics.bootstrap_interval.

    Returns:
        metric ("accuracy", "balanced accuracy", "AUC", "calibration error", "Brier score", "log loss"), name (a class, or
        ALL), value, low, high, n (rows; of a class, its own), studies. AUC is one class against the rest; its ALL is the mean
        over the classes that have both sides. Resamples that lack a class leave it out.

    Raises:
        ValueError: lengths differ, or probabilities are negative, not finite or do not add up to 1.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities, np.float64)
    if probabilities.shape != (len(truth), len(names)) or len(studies) != len(truth) or not len(truth):
        raise ValueError(
            f"{len(truth)} true classes, {len(studies)} studies and probabilities of shape {probabilities.shape} do not fit "
            f"together with {len(names)} classes"
        )
    if not np.isfinite(probabilities).all() or (probabilities < 0).any() or (abs(probabilities.sum(axis=1) - 1) > 1e-3).any():
        raise ValueError("probabilities must be finite, 0 or more, and add up to 1 in every row")
    counts = confusion_counts(truth, probabilities.argmax(axis=1), len(names))
    unique, group = np.unique(np.asarray(list(studies)).astype(str), return_inverse=True)
    n_groups, right = len(unique), probabilities.argmax(axis=1) == truth
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = []

    def add(metric: str, name: str, value: float, interval: tuple[float, float], n: int) -> None:
        rows.append((metric, name, value, *interval, n, n_groups))

    def summed(values: np.ndarray) -> np.ndarray:
        """Sums by study of values (n,) or (n, k): (studies, k)."""
        table = np.zeros((n_groups, *values.shape[1:]))
        np.add.at(table, group, values)
        return table.reshape(n_groups, -1)

    ones, hot = np.ones(len(truth)), np.eye(len(names))[truth]
    add(
        "accuracy", ALL, float(right.mean()),
        ratio_interval(summed(right.astype(float)), summed(ones), n_boot, confidence, seed), len(truth),
    )  # fmt: skip
    add(
        "balanced accuracy", ALL, balanced_accuracy(counts),
        ratio_interval(summed(hot * right[:, None]), summed(hot), n_boot, confidence, seed), len(truth),
    )  # fmt: skip
    times = times_drawn(n_groups, n_boot, seed)
    draws, values = [], []
    for k, name in enumerate(names):
        value, drawn = _auc_draws(truth == k, probabilities[:, k], group, times)
        interval = tuple(np.nanquantile(drawn, ends)) if n_groups > 1 and np.isfinite(drawn).any() else (np.nan, np.nan)
        add("AUC", name, value, interval, int((truth == k).sum()))
        if np.isfinite(value):
            values.append(value)
            draws.append(drawn)
    if values:
        table = np.stack(draws)
        held = np.isfinite(table)
        means = np.where(held, table, 0).sum(axis=0)[held.any(axis=0)] / held.sum(axis=0)[held.any(axis=0)]
        interval = tuple(np.quantile(means, ends)) if n_groups > 1 and len(means) else (np.nan, np.nan)
        add("AUC", ALL, float(np.mean(values)), interval, len(truth))
    sure = probabilities.max(axis=1)
    gaps = np.zeros((len(truth), N_BINS))
    gaps[np.arange(len(truth)), _bins(sure, N_BINS)] = right - sure
    drawn = np.abs(times @ summed(gaps)).sum(axis=1) / (times @ summed(ones))[:, 0]
    interval = tuple(np.quantile(drawn, ends)) if n_groups > 1 else (np.nan, np.nan)
    add("calibration error", ALL, calibration_error(truth, probabilities), interval, len(truth))
    losses = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], np.finfo(float).eps, None))
    for metric, each in (("Brier score", brier_score(truth, probabilities)), ("log loss", losses)):
        interval = ratio_interval(summed(each), summed(ones), n_boot, confidence, seed)
        add(metric, ALL, float(each.mean()), interval, len(truth))
    return pd.DataFrame(rows, columns=["metric", "name", "value", "low", "high", "n", "studies"])


def _auc_draws(positive: np.ndarray, scores: np.ndarray, group: np.ndarray, times: np.ndarray) -> tuple[float, np.ndarray]:
    """The AUC, and that of each resample of whole groups (NaN where one side is missing).

    Wins of positives of one group over negatives of another are counted once; a resample weighs them by how often it holds both.
    """
    n_groups = times.shape[1]
    wins, order = np.zeros((n_groups, n_groups)), np.argsort(scores, kind="stable")
    values = scores[order]
    low, high = np.searchsorted(values, scores, "left"), np.searchsorted(values, scores, "right")
    for g in np.unique(group[~positive]):
        # Negatives of this group below each threshold; half of those that tie.
        below = np.append(0, np.cumsum((~positive & (group == g))[order]))
        np.add.at(wins[:, g], group[positive], (below[low] + below[high])[positive] / 2)
    sides = [np.bincount(group[which], minlength=n_groups) for which in (positive, ~positive)]
    pairs = (times @ sides[0]) * (times @ sides[1])
    drawn = np.full(len(times), np.nan)
    np.divide(((times @ wins) * times).sum(axis=1), pairs, out=drawn, where=pairs > 0)
    total = sides[0].sum() * sides[1].sum()
    return (float(wins.sum() / total) if total else float("nan")), drawn
