"""The course of the spine: a smooth curve through the middles of discs and bodies, robust to parts that lie elsewhere."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree

_STEP_MM = 0.5  # distance of the curve's sample points
_MOST_CANDIDATES = 16  # 560 triples; the heaviest parts are enough to find the curve


class SpineCurve:
    """A curve that gives slice and column (mm) for each row (mm), straight beyond its ends.

    Args:
        points: (n, 3) mm along (slice, row, column), n at least 1: middles of parts of the spine, and of other things.
        weights: (n,) how much each is trusted.
        reach_mm: a part further from the curve than this says nothing about its course. About half the distance from one
            disc to the next.

    Attributes:
        samples: (m, 3) mm, points on the curve from below.
    """

    def __init__(self, points: np.ndarray, weights: np.ndarray, reach_mm: float) -> None:
        rows = points[:, 1]
        near = self._consensus(points, weights, reach_mm)
        # A spine bends one way in the lumbar part and the other way above it: a cubic, where there are points enough.
        degree = min(3, len(np.unique(np.round(rows[near] / reach_mm))) - 1)
        used = weights[near]
        self._middle, self._scale = rows[near].mean(), max(float(np.ptp(rows[near])) / 2, 1.0)
        u = (rows[near] - self._middle) / self._scale
        self._slices, self._columns = (np.polyfit(u, points[near, axis], degree, w=np.sqrt(used)) for axis in (0, 2))
        self._ends = u.min(), u.max()
        low, high = rows.min() - 4 * reach_mm, rows.max() + 4 * reach_mm
        steps = np.arange(high, low, -_STEP_MM)
        self.samples = self.at_rows(steps)
        self._along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(self.samples, axis=0), axis=1))]
        self._tree = cKDTree(self.samples)

    @staticmethod
    def _consensus(points: np.ndarray, weights: np.ndarray, reach: float) -> np.ndarray:
        """Which points lie on one smooth curve: the parabola through three of them that most others are near to."""
        heaviest = np.argsort(-weights, kind="stable")[:_MOST_CANDIDATES]
        best, near = -1.0, np.ones(len(points), bool)
        for triple in combinations(sorted(heaviest), min(3, len(heaviest))):
            rows = points[list(triple), 1]
            if len(triple) > 1 and np.diff(np.sort(rows)).min() < 0.5 * reach:
                continue  # points beside each other say nothing about the course
            u = rows - rows.mean()
            fits = [np.polyfit(u, points[list(triple), axis], len(triple) - 1) for axis in (0, 2)]
            away = np.hypot(
                *(np.polyval(fit, points[:, 1] - rows.mean()) - points[:, axis] for fit, axis in ((fits[0], 0), (fits[1], 2)))
            )
            score = float((weights * np.clip(1 - (away / reach) ** 2, 0, None)).sum())
            if score > best + 1e-9:
                best, near = score, away < reach
        return near

    def at_rows(self, rows: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the curve in mm at these rows (mm)."""
        u = (rows - self._middle) / self._scale
        inside = np.clip(u, *self._ends)
        slices, columns = (
            np.polyval(fit, inside) + np.polyval(np.polyder(fit), inside) * (u - inside) for fit in (self._slices, self._columns)
        )
        return np.stack([slices, rows, columns], axis=1)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For points (n, 3) in mm: (mm along the curve, upwards; mm from the curve)."""
        off, nearest = self._tree.query(points)
        return self._along[nearest], off

    def at(self, along: float) -> np.ndarray:
        """The point (3,) in mm at this length along the curve."""
        return self.samples[int(np.clip(np.searchsorted(self._along, along), 0, len(self.samples) - 1))]
