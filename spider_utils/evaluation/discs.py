"""Scores disc by disc for masks that only say "disc", and what becomes of discs that nobody labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from spider_utils.data.discs import LABELLED_DISCS

SMALLEST_DISC_MM3 = 500.0  # a tenth of a small disc


def pieces(mask: np.ndarray, spacing_mm: Sequence[float], smallest_mm3: float = SMALLEST_DISC_MM3) -> np.ndarray:
    """The connected pieces of a mask that are no crumbs, numbered from the lowest (by mean row) upward.

    Args:
        mask: (slice, row, column); everything but 0 is disc.
        spacing_mm: voxel size.
        smallest_mm3: smaller pieces become 0.

    Returns:
        int32 of the same shape: 0, and pieces from 1 upward.
    """
    found, n = ndimage.label(mask)
    sizes = np.bincount(found.ravel(), minlength=n + 1) * float(np.prod(spacing_mm))
    rows = np.bincount(found.ravel(), np.broadcast_to(np.arange(mask.shape[1])[:, None], mask.shape).ravel(), n + 1)
    kept = [piece for piece in range(1, n + 1) if sizes[piece] >= smallest_mm3]
    kept.sort(key=lambda piece: -rows[piece] / sizes[piece])
    table = np.zeros(n + 1, np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[found]


def keep_lowest(
    mask: np.ndarray, spacing_mm: Sequence[float], n: int = LABELLED_DISCS, smallest_mm3: float = SMALLEST_DISC_MM3
) -> np.ndarray:
    """The lowest ``n`` pieces of a mask, as `triplanar` filters what its networks find above the labelled discs: bool.

    It trusts that nothing is found below L5/S1: one sacral disc too many, and the top one is lost.

    Args:
        mask, spacing_mm, smallest_mm3: as for ``pieces``.
        n: pieces to keep.
    """
    found = pieces(mask, spacing_mm, smallest_mm3)
    return (found > 0) & (found <= n)


def nearest_disc(truth: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """The number of the true disc that each voxel is nearest to, in mm: of ``truth``'s shape and dtype.

    Raises:
        ValueError: ``truth`` holds no disc.
    """
    if not truth.any():
        raise ValueError("the truth holds no disc to be near to")
    places = ndimage.distance_transform_edt(truth == 0, spacing_mm, return_distances=False, return_indices=True)
    return truth[tuple(places)]


def by_disc(nearest: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A mask whose disc voxels carry the number of the nearest true disc, so that measure_case can score disc by disc.

    What is found where no disc is labelled burdens the nearest labelled one, as in `triplanar` the bottom disc pays for a
    sacral one.

    Args:
        nearest: of ``nearest_disc``.
        mask: everything but 0 is disc.
    """
    return np.where(mask.astype(bool), nearest, 0).astype(np.uint8)


def position_counts(truth: np.ndarray, nearest: np.ndarray, mask: np.ndarray, axis: int, edges: Sequence[float]) -> np.ndarray:
    """Right and wrong voxels by their place along ``axis`` within the nearest disc.

    Args:
        truth: discs by number.
        nearest: of ``nearest_disc``.
        mask: everything but 0 is disc.
        axis: of the arrays.
        edges: of the bins (bins + 1), in halves of the disc's extent from its middle: -1 and 1 are its ends. What lies beyond
            the first or last edge counts for the bin there: false positives beyond an end are errors of that end.

    Returns:
        int64 (3, bins): true positives, false positives, false negatives.
    """
    found, counts = mask.astype(bool), []
    for voxels in (found & (truth > 0), found & (truth == 0), ~found & (truth > 0)):
        places = place_in_disc(truth, nearest[voxels], np.nonzero(voxels)[axis], axis)
        counts.append(np.histogram(np.clip(places, edges[0], edges[-1]), edges)[0])
    return np.array(counts, np.int64)


def place_in_disc(truth: np.ndarray, discs: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """Where voxels lie along an axis within a disc: 0 is its middle, -1 and 1 are its ends.

    Args:
        truth: discs by number.
        discs: which disc each voxel is measured by, (n,).
        indices: the voxels' index along ``axis``, (n,).
        axis: of ``truth``.

    Returns:
        float64 (n,).
    """
    middle, half = np.full((2, int(truth.max()) + 1), np.nan)
    for number, box in enumerate(ndimage.find_objects(truth), start=1):
        if box is not None:
            first, end = box[axis].start, box[axis].stop
            middle[number], half[number] = (first + end - 1) / 2, (end - first) / 2
    return (indices - middle[discs]) / half[discs]
