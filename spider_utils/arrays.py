"""What all values of a large array say, at the pace of memory: read in the order in which they lie, and not sorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_COUNTED_DIRECTLY = 65535
_FEW = 100_000  # values that numpy sorts in no time
_SAMPLED = 4096


def in_memory_order(array: np.ndarray) -> np.ndarray:
    """The array with its axes swapped and turned so that memory runs forward and fastest along the last one: a view.

    The array itself may be a view whose axes are swapped or run backward. Where things lie no longer tells anything then; it is
    for what does not depend on that.
    """
    return array[_forward(array)].transpose(_slowest_first(array))


def _forward(array: np.ndarray) -> tuple[slice, ...]:
    """Turns every axis that runs backward in memory."""
    return tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)


def _slowest_first(array: np.ndarray) -> np.ndarray:
    """The axes in the order in which memory runs along them, the fastest last."""
    return np.argsort([-abs(stride) for stride in array.strides], kind="stable")


def from_memory_order(values: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Values that belong to those of ``in_memory_order(array)``, one after the other, in the axes of ``array``: a view."""
    laid = values.reshape(in_memory_order(array).shape)
    turned = laid.transpose(np.argsort(_slowest_first(array)))
    return turned[_forward(array)]


def counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, ascending, and how often each is there; without numpy's sorting where they are small and whole."""
    if values.size and values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= _COUNTED_DIRECTLY:
        counts = np.bincount(values.reshape(-1))
        return np.flatnonzero(counts).astype(values.dtype), counts[counts > 0]
    return np.unique(values, return_counts=True)


def distinct(array: np.ndarray) -> np.ndarray:
    """The distinct values of an array of whole numbers, ascending.

    In a mask most values are those of a few rows before. Eight bytes are compared at a time; whatever value there is, its first
    place is among those that differ from what lies before them, or at the beginning.
    """
    laid = in_memory_order(np.atleast_1d(array))
    values = np.ascontiguousarray(laid).reshape(-1)  # a picture's channel lies with gaps
    in_words = values.size - values.size % (8 // values.itemsize)
    words, before = values[:in_words].view(np.uint64), laid.shape[-1]
    changed = words[before:][words[before:] != words[:-before]]
    return counted(np.concatenate([words[:before].view(values.dtype), changed.view(values.dtype), values[in_words:]]))[0]


def percentiles(array: np.ndarray, wanted: Sequence[float]) -> list[float]:
    """``np.percentile`` to the last digit. Large arrays of whole numbers are not sorted: only what lies near is.

    Args:
        array: of any shape, not empty.
        wanted: from 0 to 100.
    """
    if array.dtype.kind not in "iu" or array.size < _FEW:
        return [float(value) for value in np.percentile(array, wanted)]
    values = in_memory_order(array).reshape(-1)
    sample = np.sort(values[:: values.size // _SAMPLED])
    return [_percentile(values, sample, one / 100) for one in wanted]


def _percentile(values: np.ndarray, sample: np.ndarray, share: float) -> float:
    """Interpolated as numpy does by default: Hyndman and Fan's method 7 (The American Statistician 50, 1996)."""
    place = (values.size - 1) * share
    rank = min(int(place), values.size - 2)
    lower, upper = _at_ranks(values, sample, rank)
    gap, weight = upper - lower, place - rank
    return float(lower + gap * weight if weight < 0.5 else upper - gap * (1 - weight))


def _at_ranks(values: np.ndarray, sample: np.ndarray, rank: int) -> tuple[int, int]:
    """The values at ``rank`` and the next one, counted from 0 in ascending order; a sorted sample says about where they lie."""
    share = rank / values.size
    reach = 4 * np.sqrt(sample.size * share * (1 - share)) + 4  # of the sample's own rank: four standard errors
    first, last = sample[np.clip([share * sample.size - reach, share * sample.size + reach], 0, sample.size - 1).astype(int)]
    if first == last and np.count_nonzero(values < first) <= rank < np.count_nonzero(values <= first) - 1:
        return int(first), int(first)  # very many are alike, as where a picture is black
    near = values[values <= last] if share < 0.5 else values[values >= first]
    below = 0 if share < 0.5 else values.size - near.size
    if not below <= rank <= below + near.size - 2:
        below, near = 0, values  # an odd sample
    lower, upper = np.partition(near, [rank - below, rank - below + 1])[rank - below : rank - below + 2]
    return int(lower), int(upper)
