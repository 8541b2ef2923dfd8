"""What of a disc reaches behind the line between the posterior corners of its endplates: bulge and herniation.

Words as in Fardon et al., Lumbar disc nomenclature: version 2.0, Spine J 14:2525, 2014: disc tissue beyond the edges of the ring
apophyses is a bulge where it is spread over more than a quarter of the circumference, mostly by less than 3 mm, and a herniation
where it is focal. A mask tells neither annulus from nucleus nor torn from whole: this is the outline's share of a diagnosis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spider_utils.measure.discs import Space
from spider_utils.measure.geometry import NotMeasurable

HERNIA_MM, BULGE_MM = 3.0, 1.0  # least height behind the line
_CIRCUMFERENCE = 0.25  # of the disc's: what is wider is no herniation
_BEYOND_MM = 10.0  # a hernia slides so far above or below the disc space at most; more is another structure


@dataclass(frozen=True, eq=False)
class Overhang:
    """How far a disc reaches behind the line in one sagittal plane: ``height`` mm at ``top`` (2,) on the sheet; ``aside`` mm."""

    aside: float
    height: float
    top: np.ndarray


@dataclass(frozen=True, eq=False)
class Displacement:
    """What a disc's outline says.

    Attributes:
        height: mm behind the line at the worst place; ``top`` is that place.
        bulge: mm behind the line that all of the posterior wall reaches (median over planes); equal to ``height`` in a single one.
        width: mm from side to side over which more than half of ``height`` is reached.
        herniated, bulging: presence.
    """

    height: float
    top: Overhang
    bulge: float
    width: float
    herniated: bool
    bulging: bool


def overhang(space: Space, aside: float = 0.0) -> Overhang:
    """The disc's highest point behind the line between the posterior corners of its endplates, in one sagittal plane.

    Height is the distance from that line, in mm; negative when the whole disc lies in front of it.

    Raises:
        NotMeasurable: the disc is missing.
    """
    if space.disc is None:
        raise NotMeasurable("the disc is missing")
    down = space.lower.back - space.upper.back
    length = np.linalg.norm(down)
    if length < 1e-6:
        raise NotMeasurable("the posterior corners coincide")
    down = down / length
    behind = np.array([-down[1], down[0]])  # backwards where ``down`` points down
    points = space.disc.outline - space.upper.back
    along = points @ down
    seen = (along > -_BEYOND_MM) & (along < length + _BEYOND_MM)
    if not seen.any():
        raise NotMeasurable("the disc does not lie between its endplates")
    heights = np.where(seen, points @ behind, -np.inf)
    at = int(heights.argmax())
    return Overhang(aside, float(heights[at]), space.disc.outline[at])


def displacement(planes: Sequence[Overhang], step_mm: float, width_mm: float, depth_mm: float) -> Displacement:
    """Bulge and herniation from the overhang in parallel sagittal planes.

    Args:
        planes: one a plane, side by side; a single one for a single slice.
        step_mm: distance of neighbouring planes.
        width_mm, depth_mm: of the disc, for its circumference (an ellipse's); NaN counts as wide enough.

    Raises:
        NotMeasurable: there is no plane.
    """
    if not planes:
        raise NotMeasurable("no plane shows the posterior corners of the endplates")
    heights = np.array([plane.height for plane in planes])
    peak = planes[int(heights.argmax())]
    wide = float((heights > peak.height / 2).sum() * step_mm)
    around = math.pi * (width_mm + depth_mm) / 2
    herniated = peak.height >= HERNIA_MM and not (len(planes) > 1 and wide > _CIRCUMFERENCE * around)
    bulge = float(np.median(heights))
    return Displacement(peak.height, peak, bulge, wide, herniated, bulge >= BULGE_MM and not (herniated and len(planes) == 1))
