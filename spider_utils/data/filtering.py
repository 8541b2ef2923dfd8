"""Which slices `ahmed` drops: those without all four classes, and those whose classes are too unequal (section 3.2.2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

LIMIT = 0.55  # "images with a class weight ratio above 55% ... were subsequently removed"
PRINTED_RATIOS = {"t1": (0.57, 0.55), "t2": (0.56, 0.55), "t2_SPACE": (0.40, 0.37)}
"""Class imbalance ratios by sequence that the paper prints: before filtering, after it."""


def class_weights(masks: np.ndarray, n_classes: int = 4) -> np.ndarray:
    """Share of each class in the pixels of each slice: the paper's class weight.

    Args:
        masks: integer (slices, rows, columns), values 0 to n_classes - 1.
        n_classes: classes, background included.

    Returns:
        float64 (slices, n_classes); rows sum to 1.

    Raises:
        ValueError: a value is no class.
    """
    if len(masks) == 0:
        return np.zeros((0, n_classes))
    if int(masks.max()) >= n_classes:
        raise ValueError(f"a mask holds class {masks.max()}, but there are only classes 0 to {n_classes - 1}")
    counts = np.stack([np.bincount(mask.reshape(-1), minlength=n_classes) for mask in masks])
    return counts / counts.sum(axis=1, keepdims=True)


def has_all_classes(weights: np.ndarray) -> np.ndarray:
    """The paper's first step keeps these: bool (slices,), whether a slice shows every class; ``weights`` of class_weights."""
    return (weights > 0).all(axis=1)


def _foreground(weights: np.ndarray) -> np.ndarray:
    shares = weights[..., 1:]
    return np.divide(shares, shares.sum(axis=-1, keepdims=True), out=np.zeros_like(shares), where=shares.any(-1, keepdims=True))


def _highest_over_lowest(weights: np.ndarray) -> np.ndarray:
    lowest = weights.min(axis=-1)
    return np.divide(weights.max(axis=-1), lowest, out=np.full(lowest.shape, np.inf), where=lowest > 0)


READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "highest / lowest, % a slip": lambda weights: _highest_over_lowest(weights) / 100,
    "highest / lowest": _highest_over_lowest,
    "lowest / highest": lambda weights: 1 / _highest_over_lowest(weights),
    "highest / lowest, structures": lambda weights: _highest_over_lowest(_foreground(weights)),
    "lowest / highest, structures": lambda weights: 1 / _highest_over_lowest(_foreground(weights)),
    "highest share": lambda weights: weights.max(axis=-1),
    "highest share, structures": lambda weights: _foreground(weights).max(axis=-1),
    "share of structures": lambda weights: 1 - weights[..., 0],
}
"""What "class imbalance ratio" may mean. The first two are the paper's formula, which is never below 1, so that no percentage
below 100 can come of it: the first takes the printed 40 % as a plain 40 (and the limit as 55), by counting in hundredths; the
second takes the text at its word. The others are what else can be computed from class weights. "Structures" leaves background
out."""

LIKELY_READING = READINGS["highest / lowest, % a slip"]  # 39.7 on the 622 released slices, beside a printed 40


def filter_table(weights: np.ndarray, sequences: np.ndarray, limit: float = LIMIT) -> pd.DataFrame:
    """Both steps of the paper's filter, under every reading of its ratio.

    Args:
        weights: of all slices, see class_weights.
        sequences: the sequence of each slice (slices,).
        limit: slices with a ratio above it go.

    Returns:
        One row a sequence and reading: sequence, reading, slices, without_all (dropped by the first step), before (the ratio of
        all slices that are left, taken together), above (dropped by the second step), after (the ratio then; NaN when no slice
        is left), printed_before, printed_after.
    """
    rows, sequences = [], np.asarray(sequences)
    for sequence in dict.fromkeys(sequences.tolist()):
        mine = weights[sequences == sequence]
        kept = mine[has_all_classes(mine)]
        for reading, ratio in READINGS.items():
            left = kept[ratio(kept) <= limit] if len(kept) else kept
            before, after = (float(ratio(some.mean(axis=0))) if len(some) else np.nan for some in (kept, left))
            printed = PRINTED_RATIOS.get(sequence, (np.nan, np.nan))
            rows.append((sequence, reading, len(mine), len(mine) - len(kept), before, len(kept) - len(left), after, *printed))
    columns = ["sequence", "reading", "slices", "without_all", "before", "above", "after", "printed_before", "printed_after"]
    return pd.DataFrame(rows, columns=columns)
