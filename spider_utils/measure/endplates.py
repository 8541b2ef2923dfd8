"""Both surfaces of a disc space, ray by ray: how uneven they are, and how bright the marrow behind them is.

From the middle of a disc rays go up and down, in sagittal planes side by side, until they meet bone. Defects of an endplate
(Schmorl's nodes) are deeper than the smooth bowl around them; Modic changes are marrow beside an endplate that is brighter or
darker than the middle of the same vertebra (Modic et al., Radiology 166:193, 1988: type 1 dark in T1 and bright in T2, type 2
bright in both, type 3 dark in both).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import ndimage

from spider_utils.labels import disc_name
from spider_utils.measure.geometry import perpendicular
from spider_utils.measure.report import checked
from spider_utils.measure.sheet import CANAL, DISCS, Part, Spine

PLATES = ("upper", "lower")
_PLACES = np.linspace(-0.8, 0.8, 17)  # along the disc, -1 its front and 1 its back: rims are left out
_ASIDE_MM = 13.0  # planes are looked at so far to either side, but not beyond 0.3 of the disc's width
_ASIDE_SHARE = 0.3
_RAY_MM, _STEP_MM = 26.0, 0.25  # how far a ray looks for bone
_NEAR_MM, _CORE_MM = (1.5, 6.0), (9.0, 14.0)  # behind the endplate: marrow beside it, and in the vertebra's middle
_GAP_MM = 2.5  # between disc and bone at most: further off a ray has passed its vertebra (one that slipped) and met another part
_FEWEST = 12  # rays that a surface needs
_TILT_DEG = 30.0  # a disc's long axis leans so far at most
UNITS = {
    f"{plate} endplate {what}": unit
    for plate in PLATES
    for what, unit in (("depth", "mm"), ("roughness", "mm"), ("marrow", "1"), ("marrow high", "1"), ("marrow low", "1"))
}


@dataclass(frozen=True, eq=False)
class Surface:
    """One side of a disc space.

    Attributes:
        distance: (planes, places) mm from the disc's middle line to the bone along each ray, NaN where none is beside the disc.
        aside: (planes,) mm beside the mid-sagittal plane; along: (planes, places) mm from the disc's middle backwards.
        marrow: (planes, places) mean signal beside the endplate over that of the vertebra's middle; NaN without image or bone.
    """

    distance: np.ndarray
    aside: np.ndarray
    along: np.ndarray
    marrow: np.ndarray


def _axis(disc: Part) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (2,), direction from front to back (2,) and half length (mm) of a disc on a sheet."""
    points = np.argwhere(disc.signed < 0) * disc.step_mm
    points = points - points.mean(axis=0)
    _, vectors = np.linalg.eigh(points.T @ points)
    along = vectors[:, 1] * (1 if vectors[1, 1] > 0 else -1)
    limit = np.sin(np.radians(_TILT_DEG))
    if abs(along[0]) > limit:  # a disc as high as long has no axis of its own
        along = np.array([np.clip(along[0], -limit, limit), np.sqrt(1 - limit**2)])
    reach = points @ along
    return disc.centre, along, float(np.quantile(reach, 0.99) - np.quantile(reach, 0.01)) / 2


def _first_inside(signed: np.ndarray) -> np.ndarray:
    """(rays,) mm at which signed distances (rays, steps) first become negative, between two steps; NaN where they never do."""
    inside = signed < 0
    at = inside.argmax(axis=1)
    rays = np.arange(len(signed))
    before, here = signed[rays, np.maximum(at - 1, 0)], signed[rays, at]
    share = np.divide(before, before - here, out=np.zeros(len(signed)), where=before > here)
    return np.where(inside.any(axis=1) & (at > 0), (at - 1 + share) * _STEP_MM, np.nan)


def surfaces(
    spine: Spine, number: int, image: np.ndarray | None = None, part: Callable[..., Part | None] | None = None
) -> dict[str, Surface] | None:
    """Both surfaces of the space of disc ``number``; None where the disc is not on the sheet.

    SPIDER labels no sacrum: where a bone has no label the disc's own face stands for it.

    Args:
        spine: whole vertebrae, those that the picture cuts included under their own number.
        number: 1 for L5/S1.
        image: of the mask's shape.
        part: ``spine.part``, or one that remembers what it gave: neighbouring discs share a bone.
    """
    label, part = DISCS + number, part or spine.part
    if part(label, 0.0) is None:
        return None
    box = spine.boxes[label][0]
    reach = min(_ASIDE_MM, _ASIDE_SHARE * (box.stop - box.start) * spine.spacing[0])
    beside = 0 if spine.flat else int(reach / spine.spacing[0])
    asides = np.arange(-beside, beside + 1) * spine.spacing[0]
    steps = np.arange(0, _RAY_MM, _STEP_MM)
    depths = np.arange(_NEAR_MM[0], _CORE_MM[1], 0.75)
    found: dict[str, list] = {plate: [] for plate in PLATES}
    kept, alongs = [], []
    for aside in asides:
        disc = part(label, float(aside))
        if disc is None:
            continue
        centre, along, half = _axis(disc)
        starts = centre + (_PLACES * half)[:, None] * along
        kept.append(aside)
        alongs.append(_PLACES * half)
        for plate, bone_number, way in (("upper", number, 1.0), ("lower", number - 1, -1.0)):
            up = way * perpendicular(along)
            rays = starts[:, None] + steps[:, None] * up
            bone = part(bone_number, float(aside)) if bone_number >= 1 else None
            signed = (-disc.at(rays.reshape(-1, 2)) if bone is None else bone.at(rays.reshape(-1, 2))).reshape(len(starts), -1)
            distance = _first_inside(signed)
            hits = starts + np.nan_to_num(distance)[:, None] * up
            distance[disc.at(hits) > _GAP_MM] = np.nan
            marrow = np.full(len(starts), np.nan)
            if image is not None:
                places = starts[:, None] + (np.nan_to_num(distance)[:, None] + depths)[..., None] * up
                marrow = _marrow(spine, image, places, depths, float(aside), bone)
                marrow[np.isnan(distance)] = np.nan
            found[plate].append((distance, marrow))
    if not kept:
        return None
    return {
        plate: Surface(np.array([d for d, _ in rows]), np.array(kept), np.array(alongs), np.array([m for _, m in rows]))
        for plate, rows in found.items()
    }


def _marrow(
    spine: Spine, image: np.ndarray, places: np.ndarray, depths: np.ndarray, aside: float, bone: Part | None
) -> np.ndarray:
    """Signal near the endplate over signal deep in the bone, ray by ray; what lies outside picture or bone is left out."""
    flat = places.reshape(-1, 2)
    index = (spine.places(flat, aside) / spine.spacing).T
    if spine.flat:
        index[0] = 0
    inside = (index > -0.5).all(axis=0) & (index < np.array(image.shape)[:, None] - 0.5).all(axis=0)
    if bone is not None:
        inside &= bone.at(flat) < -0.3
    signal = ndimage.map_coordinates(image, index, order=1, mode="nearest")
    signal = np.where(inside, signal, np.nan).reshape(places.shape[:2])
    near, core = (signal[:, (depths >= low) & (depths <= high)] for low, high in (_NEAR_MM, _CORE_MM))
    if np.isfinite(core).sum() < _FEWEST:
        return np.full(len(places), np.nan)
    middle = float(np.nanmedian(core))
    counts = np.isfinite(near).sum(axis=1)
    mean = np.divide(np.nansum(near, axis=1), counts, out=np.full(len(near), np.nan), where=counts > 1)
    return mean / middle if middle > 0 else np.full(len(places), np.nan)


def unevenness(surface: Surface) -> tuple[float, float]:
    """How deep the worst place of a surface lies below the smooth bowl around it, and how far it is from smooth, both in mm.

    The bowl is a quadratic in both directions, fitted anew without the rays that lie more than 0.8 mm off it (twice). Depth is
    the second largest distance behind it, so that one ray decides nothing; roughness the root mean square. NaN with too few rays.
    """
    aside, along = np.broadcast_to(surface.aside[:, None], surface.along.shape).ravel(), surface.along.ravel()
    height = surface.distance.ravel()
    known = np.isfinite(height)
    if known.sum() < _FEWEST:
        return float("nan"), float("nan")
    x, y, height = along[known] / 10, aside[known] / 10, height[known]
    columns = [np.ones_like(x), x, x**2]
    if np.ptp(y) > 0:
        columns += [y, x * y] + ([y**2] if len(np.unique(y)) > 2 else [])
    design, used = np.stack(columns, axis=1), np.ones(len(x), bool)
    for _ in range(3):
        weights, *_ = np.linalg.lstsq(design[used], height[used], rcond=None)
        off = height - design @ weights
        calm = np.abs(off) < max(0.8, 1.5 * float(np.median(np.abs(off))))
        if calm.sum() < _FEWEST:
            break
        used = calm
    return float(np.sort(off)[-2]), float(np.sqrt(np.mean(off**2)))


def marrow_extremes(surface: Surface) -> tuple[float, float, float]:
    """The marrow's ratio: mean over all rays, brightest and darkest tenth (5 neighbours averaged); NaN with too few rays."""
    known = np.isfinite(surface.marrow)
    if known.sum() < _FEWEST:
        return float("nan"), float("nan"), float("nan")
    smooth = ndimage.uniform_filter1d(np.where(known, surface.marrow, np.nanmean(surface.marrow)), 5, axis=1, mode="nearest")
    high, low = np.quantile(smooth[known], (0.9, 0.1))
    return float(np.mean(surface.marrow[known])), float(high), float(low)


def endplate_features(
    mask: np.ndarray, spacing_mm: tuple[float, ...], image: np.ndarray | None = None, scheme: str = "spider"
) -> pd.DataFrame:
    """Unevenness of both endplates of every disc, and the marrow beside them.

    Args:
        mask, spacing_mm, image, scheme: as for ``measure.report.measure``.

    Returns:
        A row a disc: ``level``, ``label`` (mask value), and the columns of UNITS: depth and roughness (mm) of each endplate,
        mean, bright and dark marrow beside it over the middle of the same vertebra (NaN without an image).

    Raises:
        ValueError: as ``measure.report.measure``.
    """
    given, picture = checked(mask, spacing_mm, image, scheme)
    labels = given.mask
    whole = np.where((labels > CANAL) & (labels <= DISCS), labels - CANAL, labels)
    spine, rows = Spine(whole, given.spacing, given.flat), []
    part = cache(spine.part)
    for label in (int(v) for v in np.flatnonzero(np.bincount(whole.reshape(-1), minlength=256)) if v > DISCS):
        found = surfaces(spine, label - DISCS, picture, part)
        if found is None:
            continue
        row: dict[str, object] = {"level": disc_name(label - DISCS), "label": label}
        for plate, surface in found.items():
            values = (*unevenness(surface), *marrow_extremes(surface))
            names = ("depth", "roughness", "marrow", "marrow high", "marrow low")
            row |= {f"{plate} endplate {name}": value for name, value in zip(names, values, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows, columns=["level", "label", *UNITS])
