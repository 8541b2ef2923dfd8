"""The dural sac, which SPIDER's masks call the canal: diameter and area at a right angle to its own axis."""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter

from spider_utils.measure.geometry import NotMeasurable, perpendicular
from spider_utils.measure.sheet import CANAL, Part, Spine

_SMOOTH_MM = 30.0  # the axis follows the sac over such a length, so that a hernia does not bend it
_REACH_MM = 20.0  # half of the longest line across the sac
_STEP_MM = 0.1
_INTERRUPTED, _CUT = "the canal's mask is interrupted at this level", "the picture cuts the canal in front or behind"
_LEVEL_MM = (-1.0, -0.5, 0.0, 0.5, 1.0)  # a diameter is the mean over lines so far above and below


class CanalAxis:
    """The axis of the canal in the sagittal plane, smoothed over 30 mm.

    Args:
        canal: on a sheet.

    Attributes:
        points: (n, 2) mm, from above.
        along: (n, 2) unit vectors, downwards.
    """

    def __init__(self, canal: Part) -> None:
        inside = canal.signed < 0
        rows = np.flatnonzero(inside.any(axis=1))
        middles = (inside[rows] * np.arange(inside.shape[1])).sum(axis=1) / inside[rows].sum(axis=1)
        every = np.arange(rows[0], rows[-1] + 1)  # a gap is bridged
        middles = np.interp(every, rows, middles)
        window = max(5, int(_SMOOTH_MM / canal.step_mm[0]) | 1)
        if len(every) >= window:
            middles = savgol_filter(middles, window, 2)
        self.points = np.stack([every, middles], axis=1) * canal.step_mm + canal.first_mm
        steps = np.gradient(self.points, axis=0) if len(every) > 1 else np.array([[1.0, 0.0]])
        self.along = steps / np.linalg.norm(steps, axis=1, keepdims=True)

    def meets(self, origin: np.ndarray, along: np.ndarray) -> int:
        """Index of the point where the plane through ``origin`` (2,) in direction ``along`` (2,) meets the axis.

        Raises:
            NotMeasurable: it does not: the canal ends above or below.
        """
        height = (self.points - origin) @ perpendicular(along)
        crossed = np.flatnonzero((height[:-1] > 0) & (height[1:] <= 0))
        if not len(crossed):
            raise NotMeasurable("the canal's mask does not reach this level")
        near = crossed[np.abs((self.points[crossed] - origin) @ along).argmin()]
        return int(near)


def _chord(canal: Part, centre: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, float]:
    """Points (n, 2) of the canal on the line through ``centre`` (2,) at a right angle to ``down`` (2,), and its length in mm.

    Raises:
        NotMeasurable: nothing of the canal lies on the line, or it reaches the picture's edge.
    """
    back = perpendicular(down) * np.sign(perpendicular(down)[1] or 1.0)
    points = centre + np.arange(-_REACH_MM, _REACH_MM, _STEP_MM)[:, None] * back
    inside = points[canal.at(points) < 0]
    if not len(inside):
        raise NotMeasurable(_INTERRUPTED)
    if not canal.in_picture(inside[[0, -1]]).all():
        raise NotMeasurable(_CUT)
    return inside, len(inside) * _STEP_MM


def sac_line(canal: Part, axis: CanalAxis, origin: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Both ends (2, 2) in mm, front first, of the middle one of the lines that ``sac_diameter`` is the mean of.

    Raises:
        NotMeasurable: as sac_diameter.
    """
    at = axis.meets(origin, along)
    return _chord(canal, axis.points[at], axis.along[at])[0][[0, -1]]


def sac_diameter(canal: Part, axis: CanalAxis, origin: np.ndarray, along: np.ndarray) -> float:
    """Front-to-back diameter of the dural sac in mm where the plane through ``origin`` meets it.

    Measured at a right angle to the sac's axis, mid-sagittal, as the mean over 2 mm of its length (Verbiest, J Bone Joint Surg Br
    36:230, 1954, measured the bony canal so; on MR the sac is taken, Steurer et al., BMC Musculoskelet Disord 12:175, 2011).

    Args:
        canal: on a sheet.
        axis: of it.
        origin, along: (2,) a point of the plane, and its direction from front to back: a disc's middle plane, say.

    Raises:
        NotMeasurable: the canal does not reach there, is interrupted, or the picture cuts it.
    """
    at = axis.meets(origin, along)
    centre, down = axis.points[at], axis.along[at]
    return float(np.mean([_chord(canal, centre + shift * down, down)[1] for shift in _LEVEL_MM]))


def narrowest_diameter(canal: Part, axis: CanalAxis, top: np.ndarray, bottom: np.ndarray) -> float:
    """Smallest front-to-back diameter in mm between two points' heights, as the running mean over 2 mm of the sac's length.

    Args:
        canal, axis: as for sac_diameter.
        top, bottom: (2,) mm, the posterior corners of the endplates above and below a disc; 3 mm beyond each are looked at.

    Raises:
        NotMeasurable: as sac_diameter, anywhere between.
    """
    heights = [int(np.linalg.norm(axis.points - corner, axis=1).argmin()) for corner in (top, bottom)]
    step = float(np.linalg.norm(np.diff(axis.points[[heights[0], min(heights[0] + 1, len(axis.points) - 1)]], axis=0))) or 1.0
    beyond = int(3.0 / step)
    span = range(min(heights) - beyond, max(heights) + beyond + 1)
    if span.start < 0 or span.stop > len(axis.points):
        raise NotMeasurable("the canal's mask does not reach this level")
    lengths = np.array([_chord(canal, axis.points[at], axis.along[at])[1] for at in span])
    width = min(len(lengths), max(1, int(2.0 / step)))
    return float(np.convolve(lengths, np.ones(width) / width, mode="valid").min())


def sac_area(spine: Spine, axis: CanalAxis, origin: np.ndarray, along: np.ndarray) -> float:
    """Cross-sectional area of the dural sac in mm2 where the plane through ``origin`` meets it.

    In the plane at a right angle to the sac's axis; Schönström et al. (Spine 10:806, 1985) and Hamanishi et al. (J Spinal
    Disord 7:388, 1994) took axial slices along the disc. A slice stands for its whole thickness.

    Args:
        spine: the volume.
        axis, origin, along: as for sac_diameter.

    Raises:
        NotMeasurable: as sac_diameter; the outer slices cut the canal; there is one slice alone.
    """
    if spine.flat:
        raise NotMeasurable("a single slice shows no area across the canal")
    at = axis.meets(origin, along)
    centre, down = axis.points[at], axis.along[at]
    back = perpendicular(down) * np.sign(perpendicular(down)[1] or 1.0)
    middle, ahead, below = spine.places(np.stack([centre, centre + back, centre + down]))
    ahead, below = ahead - middle, below - middle
    across = np.cross(ahead, below)
    across *= np.sign(across[0]) / np.linalg.norm(across)
    aside, steps = np.arange(-24, 24, 0.25), np.arange(-_REACH_MM, _REACH_MM, 2 * _STEP_MM)
    points = middle + aside[:, None, None] * across + steps[None, :, None] * (ahead / np.linalg.norm(ahead))
    inside = spine.signed(CANAL, np.moveaxis(points, -1, 0).copy(), nearest_slice=True) < 0
    if not inside.any():
        raise NotMeasurable(_INTERRUPTED)
    slices, _, columns = (points[inside] / spine.spacing).T
    if np.rint(slices).min() <= 0 or np.rint(slices).max() >= len(spine.mask) - 1:
        raise NotMeasurable("the canal reaches the outermost slice")
    if columns.min() < 0 or columns.max() > spine.mask.shape[2] - 1:
        raise NotMeasurable(_CUT)
    return float(inside.sum() * 0.25 * 2 * _STEP_MM)
