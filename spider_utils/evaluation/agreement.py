"""Agreement of a measurement with the truth, or with another one: bias and limits, with several values a patient."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Agreement:
    """How two measurements of the same things agree.

    Attributes:
        bias: mean difference, first minus second.
        spread: standard deviation of a single difference, within and between patients together.
        low, high: 95 % limits of agreement: bias -/+ 1.96 spread.
        mean_absolute: mean absolute difference.
        n, patients: how many pairs, and of how many patients.
    """

    bias: float
    spread: float
    mean_absolute: float
    n: int
    patients: int

    @property
    def low(self) -> float:
        return self.bias - 1.96 * self.spread

    @property
    def high(self) -> float:
        return self.bias + 1.96 * self.spread


def agreement(first: Sequence[float], second: Sequence[float], patients: Sequence[Hashable] | None = None) -> Agreement:
    """Bias and 95 % limits of agreement (Bland & Altman, Lancet 327:307, 1986).

    Several values of one patient (one a level) are not independent. The variance of a difference is therefore put together
    from that within patients and that between them, by analysis of variance (Bland & Altman, J Biopharm Stat 17:571, 2007,
    where the true value varies).

    Args:
        first, second: n values each, NaN left out in pairs.
        patients: whose each pair is; None takes every pair as a patient of its own.

    Raises:
        ValueError: lengths differ, or fewer than two pairs.
    """
    first, second = (np.asarray(values, dtype=float) for values in (first, second))
    names = np.arange(len(first)) if patients is None else np.asarray(patients)
    if not len(first) == len(second) == len(names):
        raise ValueError(f"{len(first)} and {len(second)} values of {len(names)} patients: give one of each for every pair")
    known = np.isfinite(first) & np.isfinite(second)
    difference, names = (first - second)[known], names[known]
    if len(difference) < 2:
        raise ValueError(f"limits of agreement need two pairs, not {len(difference)}")
    bias = float(difference.mean())
    codes, unique = pd.factorize(names)
    counts = np.bincount(codes)
    n, groups = len(difference), len(unique)
    if groups == 1 or groups == n:
        variance = float(difference.var(ddof=1))
    else:
        means = np.bincount(codes, difference) / counts
        within = float(((difference - means[codes]) ** 2).sum() / (n - groups))
        between = float((counts * (means - bias) ** 2).sum() / (groups - 1))
        usual = (n**2 - (counts**2).sum()) / ((groups - 1) * n)  # values a patient
        variance = within + max(0.0, (between - within) / usual)
    return Agreement(bias, math.sqrt(variance), float(np.abs(difference).mean()), n, groups)
