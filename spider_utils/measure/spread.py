"""Values of a few voxels spread over a region, to the voxels that are nearest to them by a way inside it."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra


def spread(inside: np.ndarray, seeds: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Give each voxel of a region the value of the seed that is nearest by a way inside the region.

    Ways go straight along an axis, or diagonally in the plane of the last two axes.

    Args:
        inside: bool (slice, row, column), the region.
        seeds: integers of the same shape: a value from 0 up at a seed, -1 elsewhere. Seeds outside the region do not count.
        spacing: (3,) voxel size in mm.

    Returns:
        ``seeds`` within the region with the values spread; -1 outside it, and where no way leads to a seed.
    """
    level = np.where(inside, seeds, -1)
    number = np.full(inside.shape, -1, np.int64)
    free = inside & (seeds < 0)
    n_free = int(free.sum())
    number[free] = np.arange(n_free)
    values = np.unique(seeds[inside & (seeds >= 0)])
    if not n_free or not len(values):
        return level
    number[inside & (seeds >= 0)] = n_free + np.searchsorted(values, seeds[inside & (seeds >= 0)])  # all seeds of a value are one
    starts, ends, lengths = [], [], []
    for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, -1)):
        near = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, inside.shape, strict=True))
        far = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, inside.shape, strict=True))
        a, b = number[near], number[far]
        joined = (a >= 0) & (b >= 0) & ((a < n_free) | (b < n_free))
        starts.append(a[joined])
        ends.append(b[joined])
        lengths.append(np.full(int(joined.sum()), np.linalg.norm(np.multiply(step, spacing))))
    start, end, length = (np.concatenate(part) for part in (starts, ends, lengths))
    # A voxel may meet several seeds of one value, now one node: the shortest step counts, where a sparse matrix would add them.
    order = np.argsort(length, kind="stable")
    size = n_free + len(values)
    first = order[np.unique(np.minimum(start, end)[order] * size + np.maximum(start, end)[order], return_index=True)[1]]
    graph = coo_matrix((length[first], (start[first], end[first])), shape=(size, size)).tocsr()
    away, _, source = dijkstra(graph, directed=False, indices=np.arange(n_free, size), return_predecessors=True, min_only=True)
    reached = np.isfinite(away[:n_free])
    level[free] = np.where(reached, values[np.clip(source[:n_free] - n_free, 0, None)], -1)
    return level
