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

from spider_utils.measure.alignment import SLIP_MM, steps
from spider_utils.measure.discs import Space
from spider_utils.measure.geometry import NotMeasurable, perpendicular
from spider_utils.measure.sheet import Part

HERNIA_MM, BULGE_MM = 3.0, 1.0  # least height behind the line
FOCAL_MM = 1.3  # a herniation stands out of the bulge beside it by so much
_CIRCUMFERENCE = 0.25  # of the disc's: what is wider is no herniation
_BESIDE = 25  # percentile of the heights across the disc that no herniation reaches
_BEHIND_MM = 16.0  # about the canal's depth: what lies further back is no disc
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
        top: the worst place; its height is the overhang.
        bulge: mm behind the line that the posterior wall reaches beside the worst place (lower quartile over planes).
        width: mm from side to side where a herniated disc stands out by more than half as much as at the worst place; None
            without a herniation, and of a single plane.
        herniated, bulging: presence.
    """

    top: Overhang
    bulge: float
    width: float | None
    herniated: bool
    bulging: bool


def overhang(space: Space, disc: Part, aside: float = 0.0) -> Overhang:
    """A disc's highest point behind the line between the posterior corners of its endplates, in one sagittal plane.

    Height is the distance from that line, in mm; negative when the whole disc lies in front of it. Where a vertebra has slipped
    by 3 mm or more the line stands at a right angle on the disc instead, at the corner that lies further back: what a slip
    uncovers is no displaced disc (a pseudobulge in Fardon et al.).

    Args:
        space: of the mid-sagittal plane, whose line is carried sideways.
        disc: in the plane that is asked for.
        aside: mm that this plane lies beside the mid-sagittal one.

    Raises:
        NotMeasurable: nothing of the disc lies near the line.
    """
    origin, down = space.upper.back, space.lower.back - space.upper.back
    length = float(np.linalg.norm(down))
    if length < 1e-6:
        raise NotMeasurable("the posterior corners coincide")
    slipped = steps(space)[1]
    if abs(slipped) >= SLIP_MM:
        down = -perpendicular(space.along)
        length = float((space.lower.back - space.upper.back) @ down)
        origin = space.upper.back + max(slipped, 0.0) * space.along
    else:
        down = down / length
    behind = np.array([-down[1], down[0]])  # backwards where ``down`` points down
    points = disc.outline - origin
    along = points @ down
    heights = points @ behind
    seen = (along > -_BEYOND_MM) & (along < length + _BEYOND_MM) & (heights < _BEHIND_MM)
    if not seen.any():
        raise NotMeasurable("the disc does not lie between its endplates")
    heights = np.where(seen, heights, -np.inf)
    at = int(heights.argmax())
    return Overhang(aside, float(heights[at]), disc.outline[at])


def displacement(planes: Sequence[Overhang], step_mm: float, width_mm: float, depth_mm: float) -> Displacement:
    """Bulge and herniation from the overhang in parallel sagittal planes.

    In several planes a herniation is focal: it stands out of the wall beside it by 1.3 mm, over less than a quarter of the
    circumference, and reaches 3 mm behind the line; a bulge reaches 1 mm. In a single plane 3 mm part herniation from bulge.

    Args:
        planes: one a plane, side by side; a single one for a single slice.
        step_mm: distance of neighbouring planes.
        width_mm, depth_mm: of the disc, for its circumference (an ellipse's).

    Raises:
        NotMeasurable: there is no plane.
    """
    if not planes:
        raise NotMeasurable("no plane shows the disc behind its endplates")
    heights = np.array([plane.height for plane in planes])
    top = planes[int(heights.argmax())]
    if len(planes) == 1:
        herniated = top.height >= HERNIA_MM
        return Displacement(top, top.height, None, herniated, top.height >= BULGE_MM and not herniated)
    bulge = float(np.percentile(heights, _BESIDE))
    width = float((heights > (top.height + bulge) / 2).sum() * step_mm)
    focal = top.height - bulge >= FOCAL_MM and width < _CIRCUMFERENCE * math.pi * (width_mm + depth_mm) / 2
    herniated = top.height >= HERNIA_MM and focal
    return Displacement(top, bulge, width if herniated else None, herniated, bulge >= BULGE_MM)
