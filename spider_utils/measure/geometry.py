"""Geometry in a sagittal plane: outlines, endplates with their corners, heights, angles. Points are (down, back) in mm.

Everything works on points in mm, so that neither pixel size nor the way a spine lies in the picture matters. Angles are in
degrees and positive where a space opens to the front, as discs and the lordotic spine do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

_ROUND_MM = 1.5  # corners are rounded so far: walls are followed from further away
_WALL_SHARE, _WALL_MM = 0.3, 1.0  # a wall is followed over this share of the height; its points lie in such a layer
_RIM_SHARE = 0.35  # of a body's depth in front and behind, where an endplate touches its line
_BAND_MM = 0.25  # points as near to the line as this count as touching: more, and it would sink into rounded rims
_STRAY_MM = 1.2  # a corner lies no further in front of or behind the last of the wall
_LEAST_MM = 5.0  # no endplate is shorter
_STRIP_MM = 2.0  # half width of the strip over which the place of a surface is averaged
_SURFACE_MM = 1.5  # points of a surface within a strip lie in such a layer


class NotMeasurable(Exception):  # noqa: N818
    """A quantity that a mask does not show; the text says why. Tables of measurements carry it as their status."""


@dataclass(frozen=True, eq=False)
class Endplate:
    """A straight endplate from its anterior corner ``front`` to its posterior corner ``back``, both (2,) in mm (down, back)."""

    front: np.ndarray
    back: np.ndarray

    @property
    def length(self) -> float:
        """Distance of its corners in mm."""
        return float(np.linalg.norm(self.back - self.front))

    @property
    def along(self) -> np.ndarray:
        """Unit vector (2,) from front to back."""
        return (self.back - self.front) / self.length

    @property
    def middle(self) -> np.ndarray:
        """Point (2,) half way between its corners."""
        return (self.front + self.back) / 2


@dataclass(frozen=True, eq=False)
class Block:
    """A vertebral body seen from the side: its outline (n, 2) in mm, its endplates, and ``up``, the unit vector of its axis.

    An endplate is None where the picture cuts the body.
    """

    outline: np.ndarray
    upper: Endplate | None
    lower: Endplate | None
    up: np.ndarray


def outline(signed_mm: np.ndarray, step_mm: tuple[float, float], first_mm: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Points (n, 2) in mm where a signed distance crosses zero between neighbouring pixels, linearly interpolated.

    No point lies on the picture's edge: a shape that the picture cuts has an open outline.

    Args:
        signed_mm: (rows, columns), negative inside.
        step_mm: distance of pixels along rows and columns.
        first_mm: where pixel [0, 0] lies.
    """
    found = []
    for axis in (0, 1):
        near = np.delete(signed_mm, -1, axis)
        far = np.delete(signed_mm, 0, axis)
        at = np.argwhere((near < 0) != (far < 0))
        a, b = near[tuple(at.T)], far[tuple(at.T)]
        points = at.astype(float)
        points[:, axis] += a / (a - b)
        found.append(points)
    return np.concatenate(found) * step_mm + first_mm


def perpendicular(along: np.ndarray) -> np.ndarray:
    """Unit vector (2,) at a right angle to ``along`` (front to back), pointing up."""
    return np.array([-along[1], along[0]])


def signed_angle(upper: np.ndarray, lower: np.ndarray) -> float:
    """Degrees between two directions from front to back, (2,) each: positive where the space between them opens to the front."""
    cross = upper[0] * lower[1] - upper[1] * lower[0]
    return math.degrees(math.atan2(cross, float(upper @ lower)))


def bisectrix(upper: Endplate, lower: Endplate) -> np.ndarray:
    """Unit vector (2,) from front to back, half way between the directions of two endplates."""
    middle = upper.along + lower.along
    return middle / np.linalg.norm(middle)


def rectangle_axis(points: np.ndarray, hint: np.ndarray, reach_deg: float = 45.0) -> np.ndarray:
    """The upward axis (2,) of the smallest rectangle around points (n, 2), among axes within ``reach_deg`` of ``hint``."""
    start = math.atan2(hint[1], -hint[0])
    turns = start + np.radians(np.arange(-reach_deg, reach_deg + 0.5, 1.0))
    ups = np.stack([-np.cos(turns), np.sin(turns)], axis=1)
    backs = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    areas = np.ptp(points @ ups.T, axis=0) * np.ptp(points @ backs.T, axis=0)
    return ups[areas.argmin()]


def _straight(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least squares y = slope x + offset, left anew without what lies far off (twice: a lip or crumb has no say)."""
    used = np.ones(len(x), bool)
    for _ in range(3):
        slope, offset = np.polyfit(x[used], y[used], 1) if np.ptp(x[used]) > 1e-6 else (0.0, y[used].mean())
        off = np.abs(y - slope * x - offset)
        used = off <= max(2.5 * np.median(off[used]), 0.3)
        if used.sum() < 3:
            break
    return float(slope), float(offset)


def tangent_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """The line y = slope x + offset that lies on an endplate's rims, in front and behind, as a ruler on a hollow one does.

    Args:
        x: (n,) mm from front to back of points on the endplate's side of a body; y: (n,) mm, growing away from the body.

    Returns:
        Slope and offset, or None when there are points on one rim alone.
    """
    low, high = x.min(), x.max()
    front, rear = x < low + _RIM_SHARE * (high - low), x > high - _RIM_SHARE * (high - low)
    if front.sum() < 2 or rear.sum() < 2:
        return None
    points = np.stack([x, y], axis=1)[front | rear]  # whether hollow or humped, the middle has no say
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:  # all points on one line
        return _straight(*points.T)
    corners = np.concatenate([corners, corners[:1]])  # anticlockwise: the upper side runs from high x to low x
    middle = (low + high) / 2
    over = [(a, b) for a, b in zip(corners, corners[1:], strict=False) if a[0] > middle >= b[0]]
    if not over:
        return None
    (x1, y1), (x0, y0) = over[0]
    slope = (y1 - y0) / (x1 - x0)
    offset = y0 - slope * x0
    for _ in range(8):  # outermost pixels stand out by half a pixel: the mean of those along the rims does not
        used = (front | rear) & (np.abs(y - slope * x - offset) < _BAND_MM)
        if min((used & front).sum(), (used & rear).sum()) < 2:
            break
        slope, offset = np.polyfit(x[used], y[used], 1)
    return float(slope), float(offset)


def _endplate(points: np.ndarray, up: np.ndarray, height: float) -> Endplate | None:
    """The endplate of a body on the side that ``up`` points to (for the lower one, downwards)."""
    back = perpendicular(up) * (1 if perpendicular(up)[1] > 0 else -1)
    x, y = points @ back, points @ up
    side = y > y.max() - 0.5 * height
    line = tangent_line(x[side], y[side])
    if line is None:
        return None
    slope, offset = line
    depth = slope * x + offset - y  # mm below the endplate's line
    near = (depth > _ROUND_MM) & (depth < _ROUND_MM + _WALL_SHARE * height)
    if not near.any():
        return None
    middle = (x[near].min() + x[near].max()) / 2
    corners = []
    for way in (-1, 1):
        # Each mm of a wall has its outermost points; what lies inside is a hollow. Of this wall alone: with rows of a mm the
        # points of one wall may all fall into other mm than the other's.
        half = np.flatnonzero(near & (way * (x - middle) > 0))
        if len(half) < 4:
            return None
        depth_mm = (depth[half] - _ROUND_MM).astype(int)
        outermost = ndimage.maximum(way * x[half], depth_mm, np.arange(depth_mm.max() + 1))
        wall = half[way * x[half] > outermost[depth_mm] - _WALL_MM]
        if len(wall) < 4:
            return None
        lean, place = _straight(y[wall], x[wall])  # wall: x = lean y + place
        last = way * outermost[depth_mm.min()]  # the wall next to the endplate: a flaring one is not followed far beyond it
        at = np.clip((lean * offset + place) / (1 - lean * slope), last - _STRAY_MM, last + _STRAY_MM)
        corners.append(at * back + (slope * at + offset) * up)
    return Endplate(*corners) if (corners[1] - corners[0]) @ back >= _LEAST_MM else None


def body_block(points: np.ndarray, hint: np.ndarray, cut_above: bool = False, cut_below: bool = False) -> Block | None:
    """Endplates and corners of a vertebral body.

    An endplate's line lies on its front and rear rim, as in Brinckmann's and Frobin's protocol (Frobin et al., Clin Biomech
    12 Suppl 1:S1, 1997), and ends where the straight continuations of the walls meet it. Of a quadrilateral these are its
    sides and corners.

    Args:
        points: (n, 2) mm, the body's outline without its arch.
        hint: (2,) upward direction, right to 45 degrees.
        cut_above, cut_below: the picture ends within the body there: it has no endplate on that side.

    Returns:
        The body, or None when the outline is too small to have endplates.
    """
    if len(points) < 20:
        return None
    up = rectangle_axis(points, hint)
    upper = lower = None
    for _ in range(3):  # endplates turn the axis, the axis decides which points are whose
        height = float(np.ptp(points @ up))
        if height < 4 * _ROUND_MM:
            return None
        upper = None if cut_above else _endplate(points, up, height)
        lower = None if cut_below else _endplate(points, -up, height)
        found = [plate.along for plate in (upper, lower) if plate is not None]
        if not found:
            return None
        along = np.sum(found, axis=0)
        up = perpendicular(along / np.linalg.norm(along))
    return Block(points, upper, lower, up)


def lower_face(points: np.ndarray, along: np.ndarray) -> Endplate | None:
    """The straight lower face of a disc (its upper one when ``along`` is turned round), from its middle eight tenths.

    For discs that lie on a bone without a label, as the sacrum is in SPIDER.

    Args:
        points: (n, 2) mm, the disc's outline.
        along: (2,) about its direction from front to back.
    """
    for _ in range(4):
        up = perpendicular(along)
        x, y = points @ along, points @ up
        low, high = x.min(), x.max()
        bins = np.floor((x - low) / 1.0).astype(int)
        deepest = ndimage.minimum(y, bins, np.arange(bins.max() + 1))
        near = (y < deepest[bins] + 0.5) & (x > low + 0.1 * (high - low)) & (x < high - 0.1 * (high - low))
        if near.sum() < 6:
            return None
        slope, offset = _straight(x[near], y[near])
        turned = along + slope * up
        along = turned / np.linalg.norm(turned)
    up = perpendicular(along)
    x, y = points @ along, points @ up
    level = float(np.median(y[near]))
    at_face = np.abs(y - level) < _SURFACE_MM
    if at_face.sum() < 6:
        return None
    ends = [value * along + level * up for value in (x[at_face].min(), x[at_face].max())]
    return Endplate(*(ends if along[1] > 0 else ends[::-1]))


def surface_at(
    points: np.ndarray, origin: np.ndarray, towards: np.ndarray, strip_mm: float = _STRIP_MM, behind_mm: float = 0.0
) -> float | None:
    """How far (mm) the first surface lies from ``origin`` in the direction ``towards``, averaged over a strip; None: nowhere.

    Args:
        points: (n, 2) mm on an outline.
        origin, towards: (2,) point in mm and unit vector.
        strip_mm: half width of the strip.
        behind_mm: a surface may lie so far behind ``origin``: its distance is negative then.
    """
    aside = np.abs((points - origin) @ perpendicular(towards))
    ahead = (points - origin) @ towards
    seen = ahead[(aside <= strip_mm) & (ahead > -behind_mm)]
    return float(seen[seen < seen.min() + _SURFACE_MM].mean()) if len(seen) else None
