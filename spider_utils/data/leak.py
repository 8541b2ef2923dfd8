"""How alike slices are, and what a "model" scores that only copies: the measure of a leak between training and test slices.

A network has to learn; the copier of this module cannot. It gives each test slice the mask of the training slice that looks most
like it. Where that scores well, the split rewards memory, and no score on it says how the network does on a new patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from spider_utils.data.slices import SliceStore
from spider_utils.data.splits import Split

_CHUNK = 256  # slices turned to float at a time


def thumbnails(images: np.ndarray, side: int = 16) -> np.ndarray:
    """Slices as small pictures without brightness and contrast, so that the dot product of two is their correlation.

    Args:
        images: (n, rows, columns), any real dtype, a memory map too.
        side: rows and columns of the small pictures, each the mean over its part of the slice.

    Returns:
        float32 (n, side * side); each row has mean 0 and length 1, or is 0 where a slice is of one gray value.

    Raises:
        ValueError: not three axes, or a side below 2 or above the slices' own size.
    """
    if images.ndim != 3:
        raise ValueError(f"images must have the axes (n, rows, columns), not shape {images.shape}")
    if not 2 <= side <= min(images.shape[1:]):
        raise ValueError(f"side must lie between 2 and the slices' own size {min(images.shape[1:])}, not {side}")
    out = np.empty((len(images), side * side), np.float32)
    for start in range(0, len(images), _CHUNK):
        part = torch.from_numpy(np.asarray(images[start : start + _CHUNK], dtype=np.float32))
        out[start : start + _CHUNK] = F.adaptive_avg_pool2d(part[:, None], side).reshape(len(part), -1).numpy()
    out -= out.mean(axis=1, keepdims=True)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, length, out=np.zeros_like(out), where=length > 1e-3)


def similarity(first: np.ndarray, second: np.ndarray, side: int = 16) -> np.ndarray:
    """Correlation of each slice of ``first`` with the slice of ``second`` at the same place.

    Args:
        first, second: (n, rows, columns); the two may differ in rows and columns.
        side: see ``thumbnails``.

    Returns:
        float32 (n,) in [-1, 1]; 1 for pictures that differ only in brightness and contrast, 0 with a slice of one gray value.

    Raises:
        ValueError: different numbers of slices; see also ``thumbnails``.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} slices cannot be compared one by one with {len(second)}")
    return (thumbnails(first, side) * thumbnails(second, side)).sum(axis=1)


@dataclass(frozen=True)
class NearestSlices:
    """For each slice of a subset, the training slice that looks most like it.

    Attributes:
        rows: row numbers of the store's table, the subset's slices.
        nearest: row number of the most similar training slice of each.
        similarity: correlation of the two (see ``similarity``).
    """

    rows: np.ndarray
    nearest: np.ndarray
    similarity: np.ndarray


def nearest_training_slices(store: SliceStore, split: Split, subset: str = "test", side: int = 16) -> NearestSlices:
    """Find the most similar training slice of every slice of a subset: what a nearest-neighbour "model" would copy from.

    Args:
        store: the slices.
        split: who trains; ``leaky-slices`` too.
        subset: "val" or "test".
        side: see ``thumbnails``.

    Raises:
        KitError: the split does not know a slice of the store.
        ValueError: ``subset`` is "train" (each slice would find itself), or see ``thumbnails``.
    """
    if subset == "train":
        raise ValueError("the nearest training slice of a training slice is that slice itself; choose 'val' or 'test'")
    rows, pool = split.rows(subset, store.table), split.rows("train", store.table)
    correlations = thumbnails(store.images[rows], side) @ thumbnails(store.images[pool], side).T
    best = correlations.argmax(axis=1)
    return NearestSlices(rows, pool[best], correlations[np.arange(len(rows)), best])
