"""Disc spaces in the mid-sagittal plane: heights, index, depth, angle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spider_utils.measure.geometry import (
    Block,
    Endplate,
    NotMeasurable,
    bisectrix,
    lower_face,
    perpendicular,
    signed_angle,
    surface_at,
)
from spider_utils.measure.sheet import Part

_FACING_MM = 6.0  # an endplate lies no further from its disc
_SLID_MM = 2.0  # a disc's own face ends further behind than beside the midline by less, unless a hernia has slid over its edge
_WITHIN_MM = 3.0  # the centre of a space lies no deeper in a bone
_HOLLOW_MM = 10.0  # no hollow of an endplate is deeper: what lies beyond is another surface
_TOUCH_MM = 1.0  # about a pixel: between bodies as near to each other there is no space
_ROUNDING_MM = 1e-6  # a height of 0 comes out as a little more or less, by processor


@dataclass(frozen=True, eq=False)
class Space:
    """What lies between two endplates.

    Attributes:
        upper, lower: the endplate above and the one below; of a bone without a label the disc's own face.
        above, below: outlines (n, 2) in mm on which those endplates lie.
        disc: the disc; None where it is missing.
        own_faces: which of "upper", "lower" is the disc's own face.
    """

    upper: Endplate
    lower: Endplate
    above: np.ndarray
    below: np.ndarray
    disc: Part | None
    own_faces: tuple[str, ...] = ()

    @property
    def along(self) -> np.ndarray:
        """Unit vector (2,) of its middle plane, from front to back."""
        return bisectrix(self.upper, self.lower)

    @property
    def centre(self) -> np.ndarray:
        """The mean (2,) of its four corners."""
        return (self.upper.middle + self.lower.middle) / 2


def space_between(above: Block | None, below: Block | None, disc: Part | None) -> Space:
    """The disc space between two bodies.

    SPIDER labels no sacrum: below L5 the disc's own lower face stands for the upper endplate of S1, and likewise wherever the
    body above or below is missing, cut, or far from the disc.

    Raises:
        NotMeasurable: an endplate is missing, and so is the disc.
    """
    if disc is not None and (disc.cut_above or disc.cut_below or disc.cut_side):
        raise NotMeasurable("the picture cuts the disc")
    upper, lower = (
        None if plate is None or (disc is not None and _stranger(plate, disc)) else plate
        for plate in (above.lower if above else None, below.upper if below else None)
    )
    outlines = [above.outline if upper else None, below.outline if lower else None]
    own = []
    if upper is None or lower is None:
        if disc is None:
            raise NotMeasurable("an endplate and the disc are missing")
        known = upper or lower
        along = known.along if known else np.array([0.0, 1.0])
        if upper is None:
            upper, outlines[0] = lower_face(disc.outline, -along), disc.outline
            own.append("upper")
        if lower is None:
            lower, outlines[1] = lower_face(disc.outline, along), disc.outline
            own.append("lower")
        if upper is None or lower is None:
            raise NotMeasurable("the disc has no straight face")
    return Space(upper, lower, *outlines, disc, tuple(own))


def without_slid_hernia(space: Space, beside: Sequence[Part]) -> Space:
    """The space with the posterior corners of the disc's own faces where the disc has them beside the midline.

    A hernia that slides over the edge of a bone without a label, as it does behind S1, lengthens the disc's own face: the line
    that it should stand out of would end on the hernia itself. A hernia is focal, a face is not.

    Args:
        space: of the mid-sagittal plane.
        beside: the disc in planes to either side, beyond most hernias; with fewer than two nothing is changed.
    """
    for side in space.own_faces:
        plate: Endplate = getattr(space, side)
        faces = [lower_face(part.outline, plate.along if side == "lower" else -plate.along) for part in beside]
        behind = [float((plate.back - face.back) @ plate.along) for face in faces if face is not None]
        slid = float(np.median(behind)) if len(behind) > 1 else 0.0
        if not _SLID_MM < slid < plate.length / 2:
            continue
        back = plate.back - slid * plate.along
        # Without the hernia the face may lie otherwise too: it is fitted anew.
        before = space.disc.outline[(space.disc.outline - back) @ plate.along < 0]
        face = lower_face(before, plate.along if side == "lower" else -plate.along) or plate
        end = face.front + float((back - face.front) @ face.along) * face.along
        space = replace(space, **{side: Endplate(face.front, end)})
    return space


def _stranger(plate: Endplate, disc: Part) -> bool:
    """Whether an endplate is not the disc's own: a mask may skip a level."""
    return float(np.linalg.norm(disc.outline - plate.middle, axis=1).min()) > _FACING_MM


def _middle(space: Space, ends: tuple[float, float]) -> tuple[float, float]:
    """How far (mm) the endplates lie above and below the centre of a space whose heights at the ends are known."""
    up, halves = perpendicular(space.along), []
    for side, points, towards in (("upper", space.above, up), ("lower", space.below, -up)):
        # The centre of a narrow space may lie within a bone, whose far side must not be taken for the endplate. A disc's own
        # face is looked for from within the disc.
        half = surface_at(points, space.centre, towards, behind_mm=0.0 if side in space.own_faces else _WITHIN_MM)
        if half is None or half > max(ends) / 2 + _HOLLOW_MM:
            raise NotMeasurable("there is no endplate above or below the middle of the space")
        halves.append(half)
    if sum(halves) < _TOUCH_MM:
        raise NotMeasurable("the bodies touch")
    return halves[0], halves[1]


def _ends(space: Space) -> tuple[float, float]:
    """Heights in mm in front and behind."""
    up = perpendicular(space.along)
    front, back = (float((a - b) @ up) for a, b in ((space.upper.front, space.lower.front), (space.upper.back, space.lower.back)))
    if min(front, back) < _ROUNDING_MM:
        raise NotMeasurable("the endplates cross: a corner is in the wrong place, or the bodies touch")
    return front, back


def disc_heights(space: Space) -> tuple[float, float, float]:
    """Anterior, middle and posterior height in mm.

    In front and behind the distance of the corners at a right angle to the bisectrix of both endplates (Frobin et al., Clin
    Biomech 12 Suppl 1:S1, 1997), which a slipped vertebra does not upset; in the middle the distance of the endplates
    themselves, hollows included, as the mean over a strip of 4 mm.

    Raises:
        NotMeasurable: no surface above or below the middle of the space; endplates that cross; bodies that touch.
    """
    front, back = _ends(space)
    return front, sum(_middle(space, (front, back))), back


def height_lines(space: Space) -> dict[str, np.ndarray]:
    """The three heights as lines (2, 2) in mm, from above: those in front and behind half way between the corners.

    Raises:
        NotMeasurable: as disc_heights.
    """
    front, back = _ends(space)
    above, below = _middle(space, (front, back))
    up = perpendicular(space.along)
    lines = {"disc height middle": np.array([space.centre + above * up, space.centre - below * up])}
    corners = {"anterior": (space.upper.front, space.lower.front, front), "posterior": (space.upper.back, space.lower.back, back)}
    for place, (a, b, height) in corners.items():
        half = height / 2 * up
        lines[f"disc height {place}"] = np.array([(a + b) / 2 + half, (a + b) / 2 - half])
    return lines


def disc_height_index(disc: Sequence[float], *bodies: Sequence[float]) -> float:
    """Mean of a disc's three heights over the mean of the heights of the bodies beside it (Masuda et al., Spine 30:5, 2005).

    Args:
        disc: anterior, middle and posterior height in mm.
        *bodies: the same of the bodies above and below, or of the one of them that can be measured.
    """
    return float(np.mean(disc) / np.mean(bodies))


def disc_depth(space: Space) -> float:
    """Diameter of the disc itself from front to back along its middle plane, in mm (Farfan, Mechanical Disorders of the Low
    Back, 1973): what bulges counts.

    Raises:
        NotMeasurable: the disc is missing.
    """
    if space.disc is None:
        raise NotMeasurable("the disc is missing")
    aside = np.abs((space.disc.outline - space.centre) @ perpendicular(space.along)) < 1.0
    if aside.sum() < 2:
        raise NotMeasurable("the disc does not lie in the middle of its space")
    along = (space.disc.outline[aside] - space.centre) @ space.along
    return float(_end(-along) + _end(along))


def _end(along: np.ndarray) -> float:
    """Mean of the outermost values: those within 1 mm of the largest."""
    return float(along[along > along.max() - 1.0].mean())


def disc_angle(space: Space) -> float:
    """Angle between the endplates in degrees, positive where the space opens to the front (Been & Kalichman 2014)."""
    return signed_angle(space.upper.along, space.lower.along)
