"""Vertebral bodies in the mid-sagittal plane: heights, depth, wedge."""

from __future__ import annotations

from spider_utils.measure.geometry import Block, Endplate, NotMeasurable, signed_angle, surface_at


def _both(body: Block) -> tuple[Endplate, Endplate]:
    if body.upper is None or body.lower is None:
        raise NotMeasurable("the picture cuts the body, or one of its endplates has no straight rim")
    return body.upper, body.lower


def body_heights(body: Block) -> tuple[float, float, float]:
    """Anterior, middle and posterior height in mm.

    In front and behind the distance of the corners, in the middle that of the endplates along the body's axis: the six points
    of quantitative morphometry (McCloskey et al., Osteoporos Int 3:138, 1993).

    Raises:
        NotMeasurable: an endplate is missing.
    """
    upper, lower = _both(body)
    centre = (upper.middle + lower.middle) / 2
    halves = [surface_at(body.outline, centre, towards) for towards in (body.up, -body.up)]
    if None in halves:
        raise NotMeasurable("the body has no surface above or below its middle")
    front, back = ((upper.front - lower.front), (upper.back - lower.back))
    return float((front**2).sum() ** 0.5), sum(halves), float((back**2).sum() ** 0.5)


def body_depth(body: Block) -> float:
    """Mean length of both endplates in mm, as in Frobin et al. (Clin Biomech 12 Suppl 1:S1, 1997).

    Raises:
        NotMeasurable: an endplate is missing.
    """
    upper, lower = _both(body)
    return (upper.length + lower.length) / 2


def body_wedge(body: Block) -> float:
    """Angle between the endplates in degrees, positive where the body is higher in front (Been & Kalichman, Spine J 14:87, 2014).

    Raises:
        NotMeasurable: an endplate is missing.
    """
    upper, lower = _both(body)
    return signed_angle(upper.along, lower.along)
