"""How vertebrae stand to each other: curvature, segment angles, slips."""

from __future__ import annotations

import numpy as np

from spider_utils.measure.discs import Space
from spider_utils.measure.geometry import Endplate, NotMeasurable, signed_angle

SLIP_MM = 3.0  # a smaller displacement counts as none (Kauppila et al., Spine 23:1868, 1998)
_CORNERS_AGREE = 0.25  # share of an endplate by which anterior and posterior corners may differ


def lordosis(top: Endplate | None, bottom: Endplate | None) -> float:
    """Angle in degrees between two endplates of a spine, positive where it bends backwards.

    Cobb's angle in the sagittal plane (Been & Kalichman, Spine J 14:87, 2014): of the lumbar spine from the upper endplate of L1
    to the lower one of L5, which needs no sacrum, or to the upper endplate of S1; of a segment from the upper endplate of a
    vertebra to that of the next one below.

    Raises:
        NotMeasurable: an endplate is missing.
    """
    if top is None or bottom is None:
        raise NotMeasurable("an endplate at the end of the curve is missing")
    return signed_angle(top.along, bottom.along)


def steps(space: Space) -> tuple[float, float]:
    """How far the upper vertebra stands before the lower one, in mm along the bisectrix of their endplates: at the anterior
    corners, and at the posterior ones."""
    upper, lower = space.upper, space.lower
    return float((lower.front - upper.front) @ space.along), float((lower.back - upper.back) @ space.along)


def slip(space: Space) -> float:
    """How far the upper vertebra has slipped, in mm: positive forwards (anterolisthesis), negative backwards (retrolisthesis).

    Distance of the posterior corners along the bisectrix of both endplates (Frobin et al. 1997, sagittal plane displacement). A
    vertebra slips as a whole: a step of 3 mm or more of which the anterior corners show nothing, or the contrary, is a corner in
    the wrong place, and so is one that differs from theirs by a quarter of an endplate. Below 3 mm the anterior corners have no
    say, as endplates differ in length.

    Raises:
        NotMeasurable: the anterior corners contradict.
    """
    front, back = steps(space)
    apart = abs(back - front) > _CORNERS_AGREE * (space.upper.length + space.lower.length) / 2
    if apart or (abs(back) >= SLIP_MM and front * back <= 0):
        raise NotMeasurable(f"the posterior corners say {back:+.1f} mm, the anterior ones {front:+.1f} mm")
    return back


def meyerding_grade(slip_mm: float, endplate_mm: float) -> int:
    """Grade 0 to 5 of a slip either way: quarters of the endplate below; 5 is beyond it (Meyerding, Surg Gynecol Obstet 54:371,
    1932). Below 3 mm it is 0.

    Args:
        slip_mm: of the upper vertebra.
        endplate_mm: length of the endplate that it stands on.
    """
    if abs(slip_mm) < SLIP_MM:
        return 0
    return min(5, max(1, int(np.ceil(4 * abs(slip_mm) / endplate_mm))))
