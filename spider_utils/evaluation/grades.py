"""Predicted grades against given ones: balanced accuracy, AUC, kappa, mean error, with intervals over patients.

Accuracy alone says little where most discs have no finding. Every score here is a ratio of sums over patients, or (AUC) of sums
over pairs of patients, so that 2,000 resamples of whole patients (see evaluation.statistics) cost a few matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from spider_utils.evaluation.statistics import CONFIDENCE, N_BOOT, times_drawn

METRICS = ("balanced accuracy", "AUC", "kappa", "mean absolute error")


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean recall over the grades that the truth holds.

    Args:
        confusion: (..., grades, grades) counts, true grade by predicted grade. Of several (a sample and its resamples) the mean
            goes over the grades that any of them holds, and is NaN where one is lacking: a mean over fewer grades is another
            quantity.
    """
    total = confusion.sum(axis=-1)
    held = (total > 0).reshape(-1, total.shape[-1]).any(axis=0)
    hits, total = np.diagonal(confusion, axis1=-2, axis2=-1)[..., held], total[..., held]
    return np.divide(hits, total, out=np.full(total.shape, np.nan), where=total > 0).mean(axis=-1)


def weighted_kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa with quadratic weights (Psychol Bull 70:213, 1968): a mistake by two grades counts four times.

    With two grades it is the plain kappa. NaN where truth and prediction hold one and the same grade alone.

    Args:
        confusion: as for ``balanced_accuracy``.
    """
    k = confusion.shape[-1]
    weights = (np.arange(k)[:, None] - np.arange(k)) ** 2
    total = confusion.sum(axis=(-2, -1))
    expected = confusion.sum(axis=-1)[..., :, None] * confusion.sum(axis=-2)[..., None, :]
    disagreement, by_chance = (weights * confusion).sum(axis=(-2, -1)) * total, (weights * expected).sum(axis=(-2, -1))
    return 1 - np.divide(disagreement, by_chance, out=np.full(np.shape(by_chance), np.nan), where=by_chance > 0)


def mean_grade_error(confusion: np.ndarray) -> np.ndarray:
    """Mean number of grades between prediction and truth. Args: as for ``balanced_accuracy``."""
    k = confusion.shape[-1]
    return (np.abs(np.arange(k)[:, None] - np.arange(k)) * confusion).sum(axis=(-2, -1)) / confusion.sum(axis=(-2, -1))


def _pair_sums(scores: np.ndarray, positive: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """(patients, patients): pairs of a positive of the one and a negative of the other in right order, ties counted half."""
    rank = np.sign(scores[positive][:, None] - scores[~positive][None]) / 2 + 0.5
    rows, columns = (np.eye(n)[codes[part]] for part in (positive, ~positive))
    return rows.T @ rank @ columns


def _auc(scores: np.ndarray, positive: np.ndarray, codes: np.ndarray, times: np.ndarray, together: np.ndarray) -> np.ndarray:
    """AUC (Hanley & McNeil, Radiology 143:29, 1982) for each row of ``times`` (how often each patient counts).

    ``together``: (patients, patients), 1 where a disc of the one may be compared with one of the other.
    """
    n = times.shape[1]
    ups, downs = (np.bincount(codes[part], minlength=n) for part in (positive, ~positive))
    right, all_pairs = _pair_sums(scores, positive, codes, n) * together, np.outer(ups, downs) * together
    tops, bottoms = (np.einsum("bi,bi->b", times @ pairs, times) for pairs in (right, all_pairs))
    return np.divide(tops, bottoms, out=np.full(len(times), np.nan), where=bottoms > 0)


def _drawn(
    truth: Sequence[int],
    probabilities: np.ndarray,
    predicted: Sequence[int],
    patients: Sequence,
    grades: Sequence[int],
    folds: Sequence[int] | None,
    n_boot: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], int]:
    """Each of METRICS as (1 + n_boot,): of the sample, then of its resamples; and the number of patients. See grade_scores."""
    truth, predicted, probabilities = np.asarray(truth), np.asarray(predicted), np.asarray(probabilities, dtype=float)
    grades = list(grades)
    if not (len(truth) == len(predicted) == len(probabilities) == len(patients)) or probabilities.shape[1:] != (len(grades),):
        raise ValueError(f"{len(truth)} grades, {len(predicted)} predictions, probabilities {probabilities.shape} do not fit")
    if not len(truth):
        raise ValueError("there is no disc to score")
    strange = sorted((set(truth.tolist()) | set(predicted.tolist())) - set(grades))
    if strange:
        raise ValueError(f"grade {strange[0]} is none of {grades}")
    codes, names = pd.factorize(np.asarray(patients))
    together = np.ones((len(names), len(names)))
    if folds is not None:
        pairs = pd.DataFrame({"code": codes, "fold": np.asarray(folds)}).drop_duplicates().sort_values("code")
        if len(pairs) != len(names):
            raise ValueError("a patient is in two folds: split by patient")
        together = (pairs["fold"].to_numpy()[:, None] == pairs["fold"].to_numpy()).astype(float)
    place = {grade: k for k, grade in enumerate(grades)}
    by_patient = np.zeros((len(names), len(grades), len(grades)))
    np.add.at(by_patient, (codes, [place[t] for t in truth.tolist()], [place[p] for p in predicted.tolist()]), 1)
    # The first row is the sample itself, the others are resamples.
    times = np.vstack([np.ones(len(names)), times_drawn(len(names), n_boot, seed)])
    confusion = np.tensordot(times, by_patient, axes=1)
    splits = [(probabilities[:, k:].sum(axis=1), truth >= grades[k]) for k in range(1, len(grades))]
    aucs = [_auc(score, positive, codes, times, together) for score, positive in splits if 0 < positive.sum() < len(positive)]
    values = {
        "balanced accuracy": balanced_accuracy(confusion),
        "AUC": np.mean(aucs, axis=0) if aucs else np.full(len(times), np.nan),
        "kappa": weighted_kappa(confusion),
        "mean absolute error": mean_grade_error(confusion),
    }
    return values, len(names)


def _intervals(values: dict[str, np.ndarray], discs: int, patients: int) -> pd.DataFrame:
    """A row a metric of what ``_drawn`` gives, or of the difference of two such."""
    rows = []
    for metric, draws in values.items():
        usable = patients > 1 and np.isfinite(draws[1:]).mean() > 0.5
        low, high = np.nanquantile(draws[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if usable else (np.nan, np.nan)
        row = {"metric": metric, "value": float(draws[0]), "low": float(low), "high": float(high)}
        rows.append(row | {"discs": discs, "patients": patients})
    return pd.DataFrame(rows)


def grade_scores(
    truth: Sequence[int],
    probabilities: np.ndarray,
    predicted: Sequence[int],
    patients: Sequence,
    grades: Sequence[int],
    folds: Sequence[int] | None = None,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> pd.DataFrame:
    """Score predicted grades.

    Args:
        truth, predicted: (n,) grades.
        probabilities: (n, grades) of each grade. The AUC of more than two grades is the mean over the splits into "below g" and
            "g or more" that the truth holds on both sides.
        patients: (n,) whose each is.
        grades: all that there can be, ascending.
        folds: (n,) of a cross-validation. The AUC then compares discs of the same fold alone, as models of two folds need not be
            on one scale: pooled, even a constant prediction would fall below 0.5 (Parker et al., BMC Bioinformatics 8:326, 2007).
        n_boot, seed: of the bootstrap.

    Returns:
        A row a metric: ``metric``, ``value``, ``low``, ``high`` (95 %), ``discs``, ``patients``. NaN where one is not defined.

    Raises:
        ValueError: lengths differ, there is no case, a grade is none of ``grades``, or a patient is in two folds.
    """
    values, n = _drawn(truth, probabilities, predicted, patients, grades, folds, n_boot, seed)
    return _intervals(values, len(truth), n)


def grade_gains(
    found_a: pd.DataFrame, found_b: pd.DataFrame, grades: Sequence[int], n_boot: int = N_BOOT, seed: int = 0
) -> pd.DataFrame:
    """By how much one model scores higher than another on the same discs, patients drawn in pairs.

    Two intervals that overlap say little of the difference: what is hard for one model is mostly hard for the other. Here every
    resample scores both.

    Args:
        found_a, found_b: a row a disc: ``patient``, ``disc``, ``truth``, ``fold``, ``predicted`` and ``p<grade>`` a grade, as of
            grading.models.grade_table; in any order.
        grades, n_boot, seed: as for ``grade_scores``.

    Returns:
        As ``grade_scores``; ``value`` is a minus b. (A "mean absolute error" below zero means that a is better.)

    Raises:
        ValueError: the tables are not of the same discs, grades given and folds, or as for ``grade_scores``.
    """
    keys = ["patient", "disc", "truth", "fold"]
    a, b = (table.sort_values(keys, ignore_index=True) for table in (found_a, found_b))
    if not a[keys].equals(b[keys]):
        raise ValueError("two models are compared on the same discs, in the same folds: these tables differ")
    columns = [f"p{grade}" for grade in grades]
    (one, n), (other, _) = (
        _drawn(t["truth"], t[columns].to_numpy(), t["predicted"], t["patient"], grades, t["fold"], n_boot, seed) for t in (a, b)
    )
    return _intervals({metric: one[metric] - other[metric] for metric in METRICS}, len(a), n)
