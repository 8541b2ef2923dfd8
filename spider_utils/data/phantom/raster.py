"""A grid of tissues with soft edges, and the shapes that are painted into it.

Each voxel holds two tissues and the share of the first, so that an edge that crosses a voxel mixes both signals as a real
voxel does, at one byte a quantity. A shape is a signed distance in mm, negative inside. Only sums, products, roots and
comparisons touch the arrays: these are exact to the last bit on every machine, where ``exp`` or ``sin`` are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from spider_utils.data.phantom.anatomy import Frame

Box = tuple[slice, slice, slice]


@dataclass
class TissueGrid:
    """Tissues on a regular grid in the patient's frame.

    Attributes:
        origin: (right, down, back) in mm of the centre of voxel [0, 0, 0].
        spacing: mm between voxel centres along (right, down, back).
        tissue, under: (n_right, n_down, n_back) uint8, the tissue that fills most of a voxel and the one that fills the rest.
        share: uint8, 255 x the share of ``tissue`` (128 to 255).
        mix: uint8, position of ``tissue`` between its two kinds (see signal.TISSUES), 0 to 255.
        label: uint8, SPIDER mask value.
    """

    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    tissue: np.ndarray
    under: np.ndarray
    share: np.ndarray
    mix: np.ndarray
    label: np.ndarray

    @classmethod
    def empty(
        cls, low: tuple[float, float, float], high: tuple[float, float, float], spacing: tuple[float, float, float]
    ) -> TissueGrid:
        """A grid of tissue 0 from corner ``low`` to corner ``high`` (right, down, back in mm)."""
        shape = tuple(max(1, math.ceil((b - a) / s)) for a, b, s in zip(low, high, spacing, strict=True))
        arrays = [np.zeros(shape, np.uint8) for _ in range(5)]
        arrays[2][:] = 255
        origin = tuple(a + s / 2 for a, s in zip(low, spacing, strict=True))
        return cls(origin, tuple(spacing), *arrays)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.tissue.shape

    @property
    def layers(self) -> tuple[np.ndarray, ...]:
        """All arrays, ``tissue`` first."""
        return self.tissue, self.under, self.share, self.mix, self.label

    def coordinates(self, axis: int, part: slice = slice(None)) -> np.ndarray:
        """Centres (mm, float32) along ``axis`` (0 right, 1 down, 2 back), shaped to broadcast against the grid."""
        values = self.origin[axis] + self.spacing[axis] * np.arange(self.shape[axis])[part]
        return values.astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Box | None:
        """Slices of the voxels whose centres lie between two corners, or None when there are none."""
        parts = []
        for axis in range(3):
            first = max(0, math.ceil((low[axis] - self.origin[axis]) / self.spacing[axis]))
            last = min(self.shape[axis] - 1, math.floor((high[axis] - self.origin[axis]) / self.spacing[axis]))
            if last < first:
                return None
            parts.append(slice(first, last + 1))
        return tuple(parts)

    def around(self, frame: Frame, low: tuple[float, float, float], high: tuple[float, float, float]) -> Box | None:
        """The box that holds the cuboid from ``low`` to ``high`` given in a frame's own (u right, v back, w up)."""
        corners = np.array(
            [frame.point(u, v, w) for u in (low[0], high[0]) for v in (low[1], high[1]) for w in (low[2], high[2])]
        )
        return self.box(tuple(corners.min(0)), tuple(corners.max(0)))

    def local(self, frame: Frame, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(u, v, w) in mm of a box's voxels in a frame: right, backwards, upwards; float32, broadcastable to the box."""
        return frame.local(*(self.coordinates(axis, box[axis]) for axis in range(3)))

    def paint(
        self,
        box: Box,
        distance: np.ndarray,
        tissue: int,
        mix: int | np.ndarray = 0,
        label: int | None = None,
        where: np.ndarray | None = None,
        soft: float = 0.0,
    ) -> None:
        """Fill the inside of a shape.

        Args:
            box: where ``distance`` lies in the grid.
            distance: signed distance in mm, negative inside; shape of the box.
            tissue: number of the tissue.
            mix: 0 to 255, one number or an array of the box's shape.
            label: mask value for the inside; None leaves the mask as it is.
            where: bool array of the box's shape; nothing else is touched.
            soft: width in mm of the transition at the edge, for what moves while it is imaged; 0 means a sharp edge.
        """
        edge = np.float32(max(soft, 0.5 * (self.spacing[1] + self.spacing[2])))
        touched = distance < edge / 2
        if where is not None:
            touched &= where
        # Work only where something happens.
        spans = [np.flatnonzero(touched.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
        if not len(spans[0]):
            return
        crop = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        box = tuple(slice(b.start + c.start, b.start + c.stop) for b, c in zip(box, crop, strict=True))
        touched, distance = touched[crop], distance[crop]
        mix = mix if np.isscalar(mix) else mix[crop]
        filled = np.float32(0.5) - distance / edge
        inside = filled >= 0.5
        inside &= touched
        share = (np.minimum(np.maximum(filled, 0), 1) * np.float32(255)).astype(np.uint8)
        old, under = self.tissue[box], self.under[box]
        other = old != tissue
        enters = inside & other
        np.copyto(under, old, where=enters)
        touches = touched & ~inside & other
        np.copyto(under, np.uint8(tissue), where=touches)
        share = np.where(inside, share, 255 - share)
        np.copyto(self.share[box], share, where=touched & other)
        np.copyto(self.share[box], np.uint8(255), where=inside & ~other)
        np.copyto(old, np.uint8(tissue), where=inside)
        np.copyto(self.mix[box], mix if np.isscalar(mix) else mix.astype(np.uint8), where=inside)
        if label is not None:
            np.copyto(self.label[box], np.uint8(label), where=inside)

    def noise(self, box: Box, kind: str, seed: int, shear: float = 0.0) -> np.ndarray:
        """A patch of smooth random texture for a box: float32, mean 0, standard deviation 1.

        Args:
            box: the voxels wanted.
            kind: one of NOISE_KINDS.
            seed: moves the patch about the endless texture.
            shear: mm that the texture leans backwards for each mm downwards.
        """
        tile = noise_tile(kind, self.spacing)
        patch = np.empty(tuple(part.stop - part.start for part in box), np.float32)
        starts = [part.start + (seed >> (7 * axis)) for axis, part in enumerate(box)]
        lean = shear * self.spacing[1] / self.spacing[2]
        # The tile repeats without a seam: copy it block by block; a leaning texture moves a little from row to row.
        down = [(j, j + 1) for j in range(patch.shape[1])] if shear else _wrap(starts[1], patch.shape[1], tile.shape[1])
        for i, i_end in _wrap(starts[0], patch.shape[0], tile.shape[0]):
            i_tile = (starts[0] + i) % tile.shape[0]
            for j, j_end in down:
                j_tile = (starts[1] + j) % tile.shape[1]
                start = starts[2] - (round((box[1].start + j) * lean) if shear else 0)
                for k, k_end in _wrap(start, patch.shape[2], tile.shape[2]):
                    k_tile = (start + k) % tile.shape[2]
                    patch[i:i_end, j:j_end, k:k_end] = tile[
                        i_tile : i_tile + i_end - i, j_tile : j_tile + j_end - j, k_tile : k_tile + k_end - k
                    ]
        return patch


def _wrap(start: int, count: int, period: int) -> list[tuple[int, int]]:
    """Cut 0..count into runs that do not cross a multiple of ``period`` when they begin at ``start``."""
    cuts = [0, *range(period - start % period, count, period), count]
    return list(zip(cuts, cuts[1:], strict=False))


# Textures as (weight, correlation length: standard deviation of the smoothing in mm along right, down, back).
_GRAIN, _ISLAND, _CLOUD = (0.8, 0.55, 0.55), (2.2, 1.6, 1.6), (6.0, 6.0, 6.0)
_MASS, _FIBRE, _STREAK = (9.0, 12.0, 10.0), (0.8, 6.5, 0.7), (2.2, 11.0, 1.2)
NOISE_KINDS = {
    "island": ((1.0, _ISLAND),),  # lobules, uneven surfaces
    "cloud": ((1.0, _CLOUD),),  # slow drifts, wavy outlines
    "mass": ((1.0, _MASS),),  # from organ to organ
    "fibre": ((1.0, _FIBRE),),  # fine bundles, running head to foot
    "septa": ((1.0, (3.5, 3.0, 5.5)),),  # sheets in the fat under the skin
    "marrow": ((0.72, _GRAIN), (0.60, _ISLAND), (0.36, _CLOUD)),  # trabeculae, fatty islands, drifts
    "muscle": ((0.95, _STREAK), (0.30, _FIBRE)),  # sheets of fat between bundles
    "gut": ((0.70, _CLOUD), (0.68, _MASS), (0.20, _ISLAND)),  # loops and mesentery
}


@lru_cache(maxsize=32)
def noise_tile(kind: str, spacing: tuple[float, float, float]) -> np.ndarray:
    """An endless (wrapping) texture, float32 in steps of 1/32 standard deviation; made once a process and spacing."""
    shape = (32, 160, 160)
    total = np.zeros(shape, np.float32)
    for part, (weight, lengths) in enumerate(NOISE_KINDS[kind]):
        rng = np.random.default_rng([20240264, list(NOISE_KINDS).index(kind), part])
        sigma = [length / step for length, step in zip(lengths, spacing, strict=True)]
        tile = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3.0)
        # Rounding keeps the tile the same where sums are added up in another order.
        scale = float(f"{weight / float(np.sqrt(np.mean(tile.astype(np.float64) ** 2))):.4g}")
        total += tile * np.float32(scale)
    return np.rint(total * np.float32(32)) / np.float32(32)


def smooth_min(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Union of two signed distances with the seam rounded over ``radius`` mm."""
    h = np.maximum(np.float32(radius) - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * np.float32(0.25 / radius)


def smooth_max(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Intersection of two signed distances with the edge rounded over ``radius`` mm."""
    h = np.maximum(np.float32(radius) - np.abs(a - b), 0)
    return np.maximum(a, b) + h * h * np.float32(0.25 / radius)


def ellipsoid(
    u: np.ndarray, v: np.ndarray, w: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> np.ndarray:
    """About the signed distance (mm) to an ellipsoid: exact on its surface, scaled by the smallest radius inside."""
    terms = [((x - np.float32(c)) * np.float32(1 / r)) ** 2 for x, c, r in zip((u, v, w), centre, radii, strict=True)]
    return (np.sqrt(terms[0] + terms[1] + terms[2]) - 1) * np.float32(min(radii[1], radii[2]))


def capsule(
    u: np.ndarray,
    v: np.ndarray,
    w: np.ndarray,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radius: float,
    end_radius: float | None = None,
    wide: float = 1.0,
) -> np.ndarray:
    """Signed distance (mm) to a rod with round ends from ``start`` to ``end``.

    Args:
        radius, end_radius: its radius at both ends.
        wide: how many times wider it is along u than across (a plate where it is large).
    """
    end_radius = radius if end_radius is None else end_radius
    squeeze = np.float32(1 / wide)
    axis = ((end[0] - start[0]) / wide, end[1] - start[1], end[2] - start[2])
    length2 = axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2
    du, dv, dw = (u - np.float32(start[0])) * squeeze, v - np.float32(start[1]), w - np.float32(start[2])
    t = du * np.float32(axis[0] / length2) + dv * np.float32(axis[1] / length2) + dw * np.float32(axis[2] / length2)
    t = np.minimum(np.maximum(t, 0), 1)
    du, dv, dw = du - t * np.float32(axis[0]), dv - t * np.float32(axis[1]), dw - t * np.float32(axis[2])
    return np.sqrt(du * du + dv * dv + dw * dw) - (np.float32(radius) + t * np.float32(end_radius - radius))
