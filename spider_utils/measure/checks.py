"""Masks that can be numbered or measured: shape, voxel size, and numbers that are levels indeed."""

from __future__ import annotations

from itertools import combinations

import numpy as np

_BESIDE = 0.5  # of the rows of two vertebrae are never shared: a process reaches down to a third of the next vertebra
_CLASSES = frozenset({0, 1, 2, 3})  # of structures4
_OF_LEVELS20 = range(10, 20)  # its canal, 10, and discs


def checked_spacing(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """The spacing of a mask (slice, row, column) or of one sagittal slice (row, column), as floats in mm.

    Raises:
        ValueError: another shape, or not a positive number an axis.
    """
    spacing = np.asarray(spacing_mm, dtype=float).reshape(-1)
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ValueError(f"mask of shape {mask.shape}: give (slice, row, column), or one sagittal slice (row, column)")
    if len(spacing) != mask.ndim or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(
            f"spacing_mm={tuple(spacing.tolist())}: give {mask.ndim} positive numbers, mm along the axes of the mask"
        )
    return spacing


def refuse_classes(mask: np.ndarray, scheme: str) -> None:
    """Refuse a mask of classes (structures4) that is given as one of levels, where 1, 2 and 3 would be three vertebrae; and one
    of levels20 that is given as ``spider``, where its canal and discs would be vertebrae, up to those of the neck.

    Three vertebrae alone are a mask like any other, one above the other. What tells classes is that they lie beside each other:
    canal and discs share most of their rows with the vertebrae.

    Args:
        mask: integers (..., row, column).
        scheme: that it is said to be in.

    Raises:
        ValueError: it holds classes, or levels20.
    """
    found = np.flatnonzero(np.bincount(mask.reshape(-1)))
    if scheme == "spider" and found[-1] in _OF_LEVELS20:
        # A tenth vertebra would lie above the others; the canal, which has this number in levels20, lies behind them.
        tenth, lower = (((mask >= low) & (mask <= high)).any(axis=-1) for low, high in ((10, 10), (1, 9)))
        if (tenth & lower).sum() > _BESIDE * tenth.sum():
            raise ValueError(
                f"the mask is said to be in scheme 'spider', but it holds nothing above {found[-1]}, and 10 lies beside lower "
                "numbers: it seems to be in levels20, as `spider-kit predict` draws series. Say so, with --scheme levels20"
            )
    if not set(found.tolist()) <= _CLASSES:
        return
    spans = []
    for value in found[found > 0]:
        per_row = (mask == value).sum(axis=tuple(k for k in range(mask.ndim) if k != mask.ndim - 2)).cumsum()
        spans.append(np.searchsorted(per_row, (0.05 * per_row[-1], 0.95 * per_row[-1])) + (0, 1))
    for (top, bottom), (other_top, other_bottom) in combinations(spans, 2):
        shared = min(bottom, other_bottom) - max(top, other_top)
        if shared > _BESIDE * min(bottom - top, other_bottom - other_top):
            values = ", ".join(str(value) for value in found[found > 0])
            raise ValueError(
                f"the mask is said to be in scheme '{scheme}', but it holds only {values}, which lie side by side: it seems to "
                "hold classes, not levels. Number them first, with `spider-kit levels` (scheme structures4)"
            )
