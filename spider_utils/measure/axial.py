"""Measurements on one axial slice along a disc: the dural sac's front-to-back line and area, and the height of a hernia.

`triplanar` draws both on the slice (its Figs. 1b and 6) and says nothing of how they are placed; the choices are named at each.
Points are (row, column) in mm from the centre of the first pixel; masks have the values of the scheme "axial8".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spider_utils.labels import AXIAL_DISC as DISC
from spider_utils.labels import AXIAL_HERNIA as HERNIA
from spider_utils.labels import AXIAL_SAC as SAC
from spider_utils.labels import AXIAL_VERTEBRA as VERTEBRA
from spider_utils.measure.geometry import NotMeasurable, outline

_STEP_MM = 0.02
_STRIP_MM = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)  # beside the line
_LEAST_BASE_MM = 2.0  # a shorter base has no direction of its own
_LEAST_MM2 = 4.0  # of a structure: less is a crumb
_MARGIN = 2  # pixels around a structure


@dataclass(frozen=True, eq=False)
class SacLine:
    """The dural sac on one slice: its line from ``front`` to ``back``, (2,) mm each; ``length`` in mm, ``area`` in mm2."""

    front: np.ndarray
    back: np.ndarray
    area: float

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.back - self.front))


@dataclass(frozen=True, eq=False)
class HerniaLine:
    """A hernia on one slice: its ``base``, (2, 2) mm from end to end; its height from ``foot`` on the base's line to ``top``."""

    base: np.ndarray
    foot: np.ndarray
    top: np.ndarray

    @property
    def height(self) -> float:
        """Distance of ``top`` from the base's line in mm."""
        return float(np.linalg.norm(self.top - self.foot))


def sac_line(mask: np.ndarray, spacing_mm: Sequence[float]) -> SacLine:
    """Front-to-back line and area of the dural sac.

    The line runs through the sac's centroid, away from the middle of disc, hernia and vertebral body, so that it turns with a
    turned patient; it ends at the sac's outline, of which a strip 3 mm wide is averaged. Diameter and area at the disc's level
    as in Hamanishi et al. (J Spinal Disord 7:388, 1994) and Steurer et al. (BMC Musculoskelet Disord 12:175, 2011), who leave
    the line's place to the reader.

    Args:
        mask: (rows, columns), values of "axial8", front above.
        spacing_mm: of rows and columns.

    Raises:
        NotMeasurable: the mask holds no sac, or nothing in front of it.
    """
    step = np.asarray(spacing_mm, float)
    sac = _largest(mask == SAC, step, "dural sac")
    centre = _centroid(sac, step)
    ahead = _largest(np.isin(mask, (DISC, HERNIA, VERTEBRA)), step, "disc or vertebra")
    # Processes and what the slice cuts of the sacrum's sides would draw the middle aside: they are thin.
    depth = ndimage.distance_transform_edt(np.pad(ahead, 1), step)[1:-1, 1:-1]
    way = centre - _centroid(depth > depth.max() / 2, step)
    way /= np.linalg.norm(way)
    box, signed = _signed(sac, step)
    reach = float(np.hypot(*(np.array(signed.shape) * step)))
    along, found = np.arange(-reach, reach, _STEP_MM), []
    for aside in _STRIP_MM:
        places = centre + along[:, None] * way + aside * np.array([-way[1], way[0]])
        inside = ndimage.map_coordinates(signed, (places / step - [part.start for part in box]).T, order=1, mode="nearest") < 0
        runs, n = ndimage.label(inside)
        if n:  # the stretch that holds the centroid, or the one next to it where a hernia dents the sac so far
            nearest = min(range(1, n + 1), key=lambda run: float(np.abs(along[runs == run]).min()))
            found.append(along[runs == nearest][[0, -1]] + [-_STEP_MM / 2, _STEP_MM / 2])
    if not found:
        raise NotMeasurable("the line through the dural sac's centroid misses it")
    front, back = np.mean(found, axis=0)
    return SacLine(centre + front * way, centre + back * way, float(sac.sum() * step.prod()))


def hernia_line(mask: np.ndarray, spacing_mm: Sequence[float]) -> HerniaLine:
    """Height of a hernia over the disc's back line.

    The back line is the straight line between the two ends of the hernia's base, where it leaves the disc's outline, or the
    vertebra's where no disc touches it; what touches the hernia from beside or behind is no base;
    the height is the distance from it of the hernia's farthest point, as the size that Fardon et al. (Spine J 14:2525, 2014)
    set against the base. Of several hernias the largest counts.

    Args:
        mask, spacing_mm: as for sac_line.

    Raises:
        NotMeasurable: there is no hernia, or it touches neither disc nor vertebra.
    """
    step = np.asarray(spacing_mm, float)
    hernia = _largest(mask == HERNIA, step, "hernia")
    contacts, away = _base(mask, hernia, step)
    box, signed = _signed(hernia, step)
    points = outline(signed, tuple(step), tuple(part.start * one for part, one in zip(box, step, strict=True)))
    along = np.array([away[1], -away[0]])
    order = contacts @ along
    base = contacts[[order.argmin(), order.argmax()]]
    length = float(np.linalg.norm(base[1] - base[0]))
    if length >= _LEAST_BASE_MM:
        along = (base[1] - base[0]) / length
    normal = np.array([-along[1], along[0]])
    normal *= np.sign(normal @ away) or 1.0
    heights = (points - base[0]) @ normal
    top = points[heights.argmax()]
    return HerniaLine(base, top - max(float(heights.max()), 0.0) * normal, top)


def _base(mask: np.ndarray, hernia: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a hernia leaves the disc, or the vertebra, (n, 2) mm, and the unit vector (2,) away from that structure.

    Raises:
        NotMeasurable: it leaves neither.
    """
    middle = _centroid(hernia, step)
    for label in (DISC, VERTEBRA):
        pieces, areas = _pieces(mask == label, step)
        # All but crumbs: of a disc that bulges into the slice from above or below there may be a ring, or its front and its back.
        rest = np.isin(pieces, np.flatnonzero(areas >= _LEAST_MM2) + 1)
        if not rest.any():
            continue
        away = middle - _centroid(rest, step)
        away /= np.linalg.norm(away)
        contacts = _contacts(hernia, rest) * step
        contacts = contacts[(contacts - middle) @ away < 0]
        if len(contacts):
            return contacts, away
    raise NotMeasurable("the hernia touches neither disc nor vertebra in front of it")


def _pieces(region: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from 1 for the connected pieces of a region (corners connect), and the area of each in mm2."""
    pieces, _ = ndimage.label(region, np.ones((3, 3)))
    return pieces, np.bincount(pieces.reshape(-1))[1:] * step.prod()


def _largest(region: np.ndarray, step: np.ndarray, what: str) -> np.ndarray:
    """The largest connected piece of a region. Raises NotMeasurable where there is none but crumbs."""
    pieces, areas = _pieces(region, step)
    if not len(areas) or areas.max() < _LEAST_MM2:
        raise NotMeasurable(f"the slice shows no {what}")
    return pieces == 1 + areas.argmax()


def _centroid(region: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.argwhere(region).mean(axis=0) * step


def _signed(region: np.ndarray, step: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """The box around a region, and its signed distance there (mm, negative inside): zero half way between pixels."""
    padded = np.pad(region, _MARGIN)
    box = ndimage.find_objects(padded.astype(np.uint8))[0]
    box = tuple(slice(part.start - _MARGIN, part.stop + _MARGIN) for part in box)
    part = padded[box]
    signed = ndimage.distance_transform_edt(~part, step) - ndimage.distance_transform_edt(part, step)
    return tuple(slice(one.start - _MARGIN, one.stop - _MARGIN) for one in box), signed


def _contacts(region: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Middles of the edges that pixels of two regions share, (n, 2) in pixels."""
    found = []
    for axis in (0, 1):
        near, far = (np.delete(one, -1, axis) for one in (region, other)), (np.delete(one, 0, axis) for one in (region, other))
        (region_near, other_near), (region_far, other_far) = near, far
        at = np.argwhere((region_near & other_far) | (other_near & region_far)).astype(float)
        at[:, axis] += 0.5
        found.append(at)
    return np.concatenate(found)
