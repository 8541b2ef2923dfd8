"""Brightness of discs against fluid and bone, as a number behind the Pfirrmann grade."""

from __future__ import annotations

import numpy as np

from spider_utils.measure.discs import Space
from spider_utils.measure.geometry import NotMeasurable, perpendicular, surface_at
from spider_utils.measure.sheet import Part

_NUCLEUS = 0.5  # share of the disc's depth and height that counts as nucleus
_FLUID = 0.25  # share of the sac's pixels, the brightest ones, that counts as fluid: the rest is nerve
_CORE = 0.6  # share of a body's size that is marrow without endplates
_FEWEST = 4  # pixels of a region


def _inside(points: np.ndarray, centre: np.ndarray, along: np.ndarray, half_mm: tuple[float, float]) -> np.ndarray:
    """Which points (n, 2) lie in an ellipse with these half axes along ``along`` and across."""
    offset = points - centre
    return ((offset @ along) / half_mm[0]) ** 2 + ((offset @ perpendicular(along)) / half_mm[1]) ** 2 < 1


def nucleus(space: Space) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Centre (2,), direction (2,) and half axes (mm) of the ellipse that is taken for the nucleus: the middle half of the disc.

    Raises:
        NotMeasurable: the disc is missing.
    """
    if space.disc is None:
        raise NotMeasurable("the disc is missing")
    along, centre = space.along, space.disc.centre
    reach = [surface_at(space.disc.outline, centre, way) for way in (along, -along, perpendicular(along), -perpendicular(along))]
    if None in reach:
        raise NotMeasurable("the disc has no surface around its middle")
    return centre, along, (_NUCLEUS * (reach[0] + reach[1]) / 2, _NUCLEUS * (reach[2] + reach[3]) / 2)


def _mean(values: np.ndarray, what: str) -> float:
    if len(values) < _FEWEST:
        raise NotMeasurable(f"{what} has fewer than {_FEWEST} pixels")
    return float(values.mean())


def _ratio(part: float, whole: float, what: str) -> float:
    if whole <= 0:
        raise NotMeasurable(f"{what} has no signal")
    return part / whole


def signal_ratios(
    space: Space, points: np.ndarray, signal: np.ndarray, canal: Part | None, bodies: list[Part]
) -> dict[str, float]:
    """Mean signal of the nucleus over that of other tissue at the same level, which takes out the coil's brightness.

    Over cerebrospinal fluid as in Luoma et al. (Spine 26:680, 2001) and Niemeläinen et al. (Acta Radiol 49:93, 2008); over the
    marrow of the vertebrae beside it for pictures on which fluid is dark. Of T2 pictures the first falls with the Pfirrmann
    grade (Pfirrmann et al., Spine 26:1873, 2001).

    Args:
        space: the disc's.
        points: (n, 2) mm, pixels of the sheet; signal: (n,) their brightness.
        canal: on the sheet; its brightest quarter, within 10 mm of the disc's height, is fluid.
        bodies: the vertebrae beside the disc, on the sheet; the middle of each is marrow.

    Returns:
        "fluid" and "marrow" -> ratio; what cannot be measured is left out.

    Raises:
        NotMeasurable: the disc is missing or smaller than four pixels.
    """
    own = _mean(signal[_inside(points, *nucleus(space))], "the nucleus")
    found = {}
    if canal is not None:
        near = np.abs((points - space.centre) @ perpendicular(space.along)) < 10.0
        sac = signal[near & (canal.at(points) < -0.5)]
        if len(sac) >= _FEWEST / _FLUID:
            found["fluid"] = _ratio(own, _mean(np.sort(sac)[-int(_FLUID * len(sac)) :], "the sac"), "the sac")
    marrow = []
    for body in bodies:
        half = _CORE * np.sqrt(body.area_mm2) / 2
        core = signal[_inside(points, body.centre, space.along, (half, half))]
        if len(core) >= _FEWEST:
            marrow.append(core.mean())
    if marrow:
        found["marrow"] = _ratio(own, float(np.mean(marrow)), "the marrow")
    return found
