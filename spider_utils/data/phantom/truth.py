"""What there is to measure on a made-up spine, worked out from the shapes that are painted, without voxels.

``Anatomy.truth`` tells what was drawn by lot; painted shapes are not all so. The back wall of a body is hollow in the midline,
surfaces meet in rounded edges, neighbouring diameters of the sac blend, a hernia beside the midline leaves the sac's middle open,
and below disc 1 no body is painted over the disc, so that it ends in a plane 4.5 mm below its nominal lower face. Here the signed
distances of the painted shapes are followed along lines, with the waves and roughness of their surfaces (0.1 to 0.35 mm) where
the grid that they were painted into is known. Nothing of ``spider_utils.measure`` is used, so that one can be checked against the
other; quantities have its names and definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import ConvexHull

from spider_utils.data.phantom.anatomy import Anatomy, Disc, Vertebra
from spider_utils.data.phantom.axial_tissues import in_hernia
from spider_utils.data.phantom.bones import body_distance, defect_distance, disc_reach, hernia_distance, wall_distance
from spider_utils.data.phantom.dataset import draw_patient, phantom_facts
from spider_utils.data.phantom.raster import TissueGrid, noise_tile, smooth_min
from spider_utils.data.phantom.scanner import body_box, body_spacing
from spider_utils.data.phantom.soft import Course, trace

_STEP_MM, _FINE_MM = 0.02, 0.06
_FAR_MM = 40.0  # surfaces are not looked for further away
_NEAR_MM = 2.0  # to a surface: texture moves it by less
_HOLLOW_MM = 1.1  # of a body's back wall in the midline, see body_distance
_SIDE_MM = 12.0  # to either side hernias are looked for
_STRIP_MM = 2.0  # half width of the strip over which a height in the middle of an endplate is the mean
_SLIP_MM, _QUARTER = 3.0, 0.25
_SLICE_MM = 0.15  # places on an axial slice lie so far apart
_SEEN_MM2 = 4.0  # of a hernia on a slice: less is not seen

Line = tuple[np.ndarray, np.ndarray]  # front and back corner (down, back) in mm


def truth_of(anatomy: Anatomy, discs: Iterable[int] | None = None, grid: TissueGrid | None = None) -> pd.DataFrame:
    """Measurements of a patient's painted shapes.

    Args:
        anatomy: from make_anatomy.
        discs: numbers of the discs wanted, with the vertebrae above them; the lowest seven when None.
        grid: what the patient was painted into. The texture of surfaces hangs on its place and spacing; None leaves it out.

    Returns:
        A row a label and quantity: ``label`` (SPIDER's mask value; 0 for the whole spine), ``quantity`` (as in
        ``spider_utils.measure.report.UNITS``), ``value`` (mm, degrees, mm2). "herniated" is what was drawn.
    """
    shapes = _Shapes(anatomy, grid)
    rows = []
    for number in range(1, 8) if discs is None else discs:
        for label, values in ((200 + number, shapes.disc(number)), (number, shapes.body(number))):
            rows += [{"label": label, "quantity": name, "value": float(value)} for name, value in values.items()]
    rows += [{"label": 0, "quantity": name, "value": value} for name, value in shapes.spine().items()]
    return pd.DataFrame(rows)


def overhang_of(anatomy: Anatomy, discs: Iterable[int] | None = None) -> dict[int, float]:
    """The quantity "overhang" of ``truth_of`` alone, half a second a disc: mm by mask value.

    Args:
        anatomy: from make_anatomy.
        discs: numbers of the discs wanted; the lowest seven when None.
    """
    shapes = _Shapes(anatomy)
    return {200 + k: shapes._overhang(anatomy.discs[k - 1]) for k in (range(1, 8) if discs is None else discs)}


def truth_in_set(folder: str | Path, patient: int) -> pd.DataFrame:
    """``truth_of`` for a patient of a phantom set on disk, with the texture of its surfaces.

    Args:
        folder: from generate_dataset.
        patient: its number.

    Raises:
        DataError: the folder is no phantom set, or was made by another version of the generator.
    """
    facts = phantom_facts(folder)
    anatomy, protocols = draw_patient(patient, facts["seed"], facts["size"])
    grid = TissueGrid.empty(*body_box(protocols), body_spacing(protocols, facts["size"]))
    return truth_of(anatomy, grid=grid)


def _direction(line: Line) -> np.ndarray:
    return (line[1] - line[0]) / np.linalg.norm(line[1] - line[0])


def _opening(upper: Line, lower: Line) -> float:
    """Degrees by which two lines from front to back part towards the front."""
    slopes = [np.degrees(np.arctan2(*_direction(line))) for line in (upper, lower)]
    return float(slopes[0] - slopes[1])


def _first(inside: Callable[[np.ndarray], np.ndarray], origin: np.ndarray, way: np.ndarray, strip: float = 0.0) -> float:
    """Distance (mm) from ``origin`` along ``way`` to where ``inside`` of points (n, 2) first changes; the mean over a strip.

    Args:
        strip: half of its width in mm; 0 follows a single line.

    Raises:
        ValueError: nothing changes within 40 mm.
    """
    steps, aside = np.arange(0, _FAR_MM, _STEP_MM), np.array([-way[1], way[0]])
    found = []
    for shift in np.linspace(-strip, strip, 5 if strip else 1):
        seen = inside(origin + shift * aside + steps[:, None] * way)
        changed = seen != seen[0]
        if not changed.any():
            raise ValueError(f"no surface within {_FAR_MM:g} mm of {np.round(origin, 1)} towards {np.round(way, 2)}")
        found.append(steps[changed.argmax()])
    return float(np.mean(found))


class _Shapes:
    def __init__(self, anatomy: Anatomy, grid: TissueGrid | None = None) -> None:
        self.anatomy, self.grid = anatomy, grid
        self.course: Course = trace(TissueGrid.empty((-1, -340, -1), (1, 300, 1), (2, 0.5, 2)), anatomy)

    # ---- shapes at points; points are (down, back) in the plane at ``right``

    def _texture(self, kind: str, seed: int, points: np.ndarray, right: np.ndarray | float) -> np.ndarray | float:
        """TissueGrid.noise between its voxels."""
        if self.grid is None:
            return 0.0
        tile = noise_tile(kind, self.grid.spacing)
        places = np.broadcast_arrays(np.asarray(right, float), points[..., 0], points[..., 1])
        index = [
            (place - first) / step + ((seed >> (7 * axis)) % n)
            for axis, (place, first, step, n) in enumerate(
                zip(places, self.grid.origin, self.grid.spacing, tile.shape, strict=True)
            )
        ]
        return ndimage.map_coordinates(tile, index, order=1, mode="grid-wrap")

    def _roughened(
        self, distance: np.ndarray, points: np.ndarray, right: np.ndarray | float, waves: Iterable[tuple[float, str, int]]
    ) -> np.ndarray:
        """A distance with textures (mm, kind, seed) added near its surface: further away they move nothing."""
        near = np.abs(distance) < _NEAR_MM
        beside = np.broadcast_to(right, distance.shape)[near]
        added = sum(size * self._texture(kind, seed, points[near], beside) for size, kind, seed in waves)
        distance = np.array(distance, float)
        distance[near] += added
        return distance

    @staticmethod
    def _body_waves(bone: Vertebra) -> tuple[tuple[float, str, int], ...]:
        """Textures that paint_vertebra adds to a body's distance."""
        return (0.10 + 0.05 * sum(bone.lip), "island", bone.texture), (0.25, "cloud", bone.texture + 7)

    def _in_body(self, bone: Vertebra, points: np.ndarray, right: np.ndarray | float) -> np.ndarray:
        u, v, w = bone.frame.local(right, points[..., 0], points[..., 1])
        inside = self._roughened(body_distance(bone, u, v, w), points, right, self._body_waves(bone)) < 0
        for disc, up in ((self.anatomy.discs[bone.number - 1], -1.0), (self.anatomy.discs[min(bone.number, 10)], 1.0)):
            if (disc.up_defect if up < 0 else disc.low_defect) is not None:
                node = defect_distance(bone, disc, up, u, v, w)
                inside &= self._roughened(node, points, right, [(0.35, "island", disc.texture + 8)]) >= 0
        return inside

    def _in_disc(self, disc: Disc, points: np.ndarray, right: np.ndarray | float) -> np.ndarray:
        u, v, w = disc.frame.local(right, points[..., 0], points[..., 1])
        side = self._roughened(wall_distance(disc, u, v, w), points, right, [(0.25, "island", disc.texture)])
        distance = np.maximum(side, np.abs(w) - disc_reach(disc))
        if disc.herniation > 0:
            hernia = self._roughened(hernia_distance(disc, u, v, w), points, right, [(0.2, "island", disc.texture + 3)])
            distance = smooth_min(distance, hernia, 2.0)
        inside = distance < 0
        for bone in self._beside(disc):
            inside &= ~self._in_body(bone, points, right)
        return inside

    def _beside(self, disc: Disc) -> list[Vertebra]:
        return [self.anatomy.vertebrae[k] for k in (disc.number - 1, disc.number - 2) if k >= 0]

    def _in_sac(self, disc: Disc, points: np.ndarray, right: np.ndarray | float) -> np.ndarray:
        c = self.course
        down, back = points[..., 0], points[..., 1]
        middle, wide, deep, side, slant = (
            np.interp(down, c.down, values) for values in (c.back, c.half_width, c.half_ap, c.right, c.slant)
        )
        wide, deep = np.maximum(wide, 0.05), np.maximum(deep, 0.05)
        away = np.sqrt(((right - side) / wide) ** 2 + ((back - middle) / deep) ** 2) - 1
        distance = away * np.minimum(wide, deep * slant)
        inside = self._roughened(distance, points, right, [(0.22, "cloud", self.anatomy.texture + 70)]) < 0
        inside &= ~self._in_disc(disc, points, right)
        for bone in self._beside(disc):
            inside &= ~self._in_body(bone, points, right)
        return inside

    # ---- endplates

    @lru_cache(maxsize=64)  # noqa: B019 (the shapes of one patient live as long as their truth is worked out)
    def _rim(self, number: int, upper: bool) -> tuple[float, float]:
        """Slope and offset (mm) of an endplate in the midline: height over the body's middle plane by mm behind its centre.

        Its line is the straight one that the body touches in front and behind, as a ruler laid on it would be.
        """
        bone = self.anatomy.vertebrae[number - 1]
        b, way = bone.depth / 2, 1 if upper else -1
        v, w = np.meshgrid(
            np.arange(-1.15 * b, 1.15 * b, _FINE_MM), way * np.arange(0.3 * bone.height, 0.65 * bone.height, _FINE_MM)
        )
        right, down, back = bone.frame.point(0.0, v, w)
        inside = self._in_body(bone, np.stack([down, back], axis=-1), right)
        columns = np.flatnonzero(inside.any(axis=0))
        heights = np.abs(w[len(w) - 1 - inside[::-1, columns].argmax(axis=0), 0])
        points = np.stack([v[0, columns], heights], axis=1)
        hull = points[ConvexHull(points).vertices]
        edge = next((p, q) for p, q in zip(hull, np.roll(hull, -1, axis=0), strict=True) if p[0] > 0 >= q[0] and p[1] > 1)
        slope = (edge[0][1] - edge[1][1]) / (edge[0][0] - edge[1][0])
        return float(slope), float(edge[0][1] - slope * edge[0][0])

    def _plate(self, number: int, upper: bool) -> Line:
        """Corners of an endplate in the midline.

        It ends at the walls, which are straight at its height but for osteophytes: these are left out. Where a wall lies is the
        mean over the quarter of the body's height next to the endplate.
        """
        bone, (slope, offset) = self.anatomy.vertebrae[number - 1], self._rim(number, upper)
        b, way = bone.depth / 2, 1 if upper else -1
        corners = []
        for end, out in ((-b, -1), (b - _HOLLOW_MM, 1)):
            right, down, back = bone.frame.point(0, end, way * np.linspace(0.2, 0.45, 9) * bone.height)
            points = np.stack([down, back], axis=-1)
            rough = sum(size * self._texture(kind, seed, points, right) for size, kind, seed in self._body_waves(bone))
            place = end - out * np.mean(rough)
            corners.append(np.array(bone.frame.point(0, place, way * (offset + slope * place))[1:]))
        return tuple(corners)

    def _plates(self, number: int) -> tuple[Line, Line]:
        """The endplate above and the one below disc ``number``."""
        upper = self._plate(number, False)
        if number > 1:
            return upper, self._plate(number - 1, True)
        disc = self.anatomy.discs[0]
        w = -disc_reach(disc)

        def wall(way: int) -> float:
            v = np.arange(0, disc.depth, _STEP_MM) * way
            right, down, back = disc.frame.point(0, v, np.full_like(v, w))
            rough = 0.25 * self._texture("island", disc.texture, np.stack([down, back], axis=-1), right)
            return float(v[np.argmax(wall_distance(disc, np.zeros_like(v), v, np.full_like(v, w)) + rough >= 0)])

        return upper, tuple(np.array(disc.frame.point(0, wall(way), w)[1:]) for way in (-1, 1))

    # ---- quantities

    def disc(self, number: int) -> dict[str, float]:
        disc, (upper, lower) = self.anatomy.discs[number - 1], self._plates(number)
        along = _direction(upper) + _direction(lower)
        along /= np.linalg.norm(along)
        up = np.array([-along[1], along[0]])
        centre, right = sum((*upper, *lower)) / 4, disc.frame.right
        above = self.anatomy.vertebrae[number - 1]
        gap = _first(lambda points: self._in_body(above, points, right), centre, up, _STRIP_MM)
        if number > 1:
            below = self.anatomy.vertebrae[number - 2]
            gap += _first(lambda points: self._in_body(below, points, right), centre, -up, _STRIP_MM)
        else:
            gap += _first(lambda points: self._in_disc(disc, points, right), centre, -up, _STRIP_MM)
        heights = [float((upper[0] - lower[0]) @ up), gap, float((upper[1] - lower[1]) @ up)]
        beside = [self._body_heights(bone) for bone in self._beside(disc)]
        slip = float((lower[1] - upper[1]) @ along)
        length = float(np.linalg.norm(lower[1] - lower[0]))
        top = self._plate(number, True)
        values = {
            **dict(zip((f"disc height {k}" for k in ("anterior", "middle", "posterior")), heights, strict=True)),
            "disc height index": np.mean(heights) / np.mean(beside),
            "disc depth": sum(_first(lambda points: self._in_disc(disc, points, right), centre, way) for way in (along, -along)),
            "disc angle": _opening(upper, lower),
            "segment angle": _opening(top, lower),
            "slip": slip,
            "slip grade": 0 if abs(slip) < _SLIP_MM else min(5, int(np.ceil(abs(slip) / (_QUARTER * length)))),
            "herniated": disc.herniation > 0,
            "overhang": self._overhang(disc),
        }
        place = self._axis_at(centre, along)
        if place is not None:
            values["canal diameter"] = self._mean_diameter(disc, place)
            values["canal area"] = self._sac_area(disc, place)
            values["canal diameter narrowest"] = self._narrowest(disc, upper[1], lower[1])
        return values

    def _body_heights(self, bone: Vertebra) -> list[float]:
        upper, lower = self._plate(bone.number, True), self._plate(bone.number, False)
        centre = sum((*upper, *lower)) / 4
        along = _direction(upper) + _direction(lower)
        up = np.array([-along[1], along[0]]) / np.linalg.norm(along)
        middle = sum(
            _first(lambda points: self._in_body(bone, points, bone.frame.right), centre, way, _STRIP_MM) for way in (up, -up)
        )
        return [float(np.linalg.norm(upper[0] - lower[0])), middle, float(np.linalg.norm(upper[1] - lower[1]))]

    def body(self, number: int) -> dict[str, float]:
        bone = self.anatomy.vertebrae[number - 1]
        upper, lower = self._plate(bone.number, True), self._plate(bone.number, False)
        heights = self._body_heights(bone)
        values = {
            **dict(zip((f"body height {k}" for k in ("anterior", "middle", "posterior")), heights, strict=True)),
            "body depth": float(np.mean([np.linalg.norm(line[1] - line[0]) for line in (upper, lower)])),
            "body wedge": _opening(upper, lower),
        }
        place = self._axis_at(sum((*upper, *lower)) / 4, _direction(upper) + _direction(lower))
        if place is not None:
            values["canal diameter at the body"] = self._mean_diameter(self.anatomy.discs[number - 1], place)
            values["canal area at the body"] = self._sac_area(self.anatomy.discs[number - 1], place)
        return values

    def spine(self) -> dict[str, float]:
        top = self._plate(5, True)
        bottoms = self._plate(1, False), self._plates(1)[1]
        return {f"lordosis L1 to {name}": _opening(top, line) for name, line in zip(("L5", "S1"), bottoms, strict=True)}

    # ---- the sac

    def _axis_at(self, origin: np.ndarray, along: np.ndarray) -> int | None:
        """Row of the course where the plane through ``origin`` meets the sac's middle; None below its end."""
        c = self.course
        height = -(c.down - origin[0]) * along[1] + (c.back - origin[1]) * along[0]
        at = int(np.abs(height).argmin())
        return at if c.half_ap[at] > 1.0 else None

    def _across(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        """The sac's middle in a row of the course, and the direction (2,) backwards at a right angle to its axis."""
        c = self.course
        span = slice(max(0, at - 14), at + 15)  # 7 mm either way
        slope = np.polyfit(c.down[span], c.back[span], 1)[0]
        return np.array([c.down[at], c.back[at]]), np.array([-slope, 1.0]) / np.hypot(slope, 1)

    def _sac_diameter(self, disc: Disc, at: int) -> float:
        centre, across = self._across(at)
        steps = np.arange(-20, 20, _STEP_MM)
        return float(self._in_sac(disc, centre + steps[:, None] * across, self.course.right[at]).sum() * _STEP_MM)

    def _mean_diameter(self, disc: Disc, at: int) -> float:
        """Over 2 mm of the sac's length; rows are 0.5 mm apart."""
        return float(np.mean([self._sac_diameter(disc, row) for row in range(at - 2, at + 3)]))

    def _sac_area(self, disc: Disc, at: int) -> float:
        centre, across = self._across(at)
        right, steps = np.arange(-16, 16, 0.2), np.arange(-20, 20, 0.2)
        points = np.broadcast_to(centre + steps[:, None, None] * across, (len(steps), len(right), 2))
        return float(self._in_sac(disc, points, self.course.right[at] + right).sum() * 0.04)

    def _narrowest(self, disc: Disc, top: np.ndarray, bottom: np.ndarray) -> float:
        rows = sorted(
            int(np.hypot(self.course.down - corner[0], self.course.back - corner[1]).argmin()) for corner in (top, bottom)
        )
        lengths = [self._sac_diameter(disc, at) for at in range(rows[0] - 6, rows[1] + 7)]  # rows are 0.5 mm apart
        return float(np.convolve(lengths, np.full(4, 0.25), mode="valid").min())

    # ---- what lies behind the line of the posterior corners

    def _overhang(self, disc: Disc) -> float:
        v, w = np.meshgrid(np.arange(0, 14, 0.15) + disc.depth / 2 - 4, np.arange(-12, 10, 0.15))
        plates = self._plates(disc.number)
        (_, upper), (_, lower) = plates
        line = (lower - upper) / np.linalg.norm(lower - upper)
        along = _direction(plates[0]) + _direction(plates[1])
        along /= np.linalg.norm(along)
        if abs((lower - upper) @ along) >= _SLIP_MM:
            line, upper = np.array([along[1], -along[0]]), max((lower, upper), key=lambda corner: float(corner @ along))
        best = -np.inf
        for u in np.linspace(-1, 1, 13) * min(_SIDE_MM, disc.width / 4):
            right, down, back = disc.frame.point(u, v, w)
            points = np.stack([down, back], axis=-1)
            behind = (points - upper) @ np.array([-line[1], line[0]])
            best = max(best, float(behind[self._in_disc(disc, points, right)].max(initial=-np.inf)))
        return best

    # ---- axial slices

    def in_slice(self, disc: Disc, corner: np.ndarray, axes: np.ndarray) -> dict[str, float]:
        """See slice_truth; ``corner`` (3,) mm."""
        # Places of the plane around the disc's back wall, told by mm backwards and to the left of a point on the midline there.
        wall = np.array(disc.frame.point(0.0, disc.depth / 2, 0.0))
        middle = corner + ((wall - corner) @ axes[1]) * axes[1] + ((wall - corner) @ axes[2]) * axes[2]
        back, left = np.arange(-8, 34, _SLICE_MM), np.arange(-16, 16, _SLICE_MM)
        right, down, behind = (middle + back[:, None, None] * axes[1] + left[None, :, None] * axes[2]).transpose(2, 0, 1)
        points = np.stack([down, behind], axis=-1)
        out = dict.fromkeys(("sac_ap_mm", "sac_area_mm2", "hernia_height_mm"), np.nan)
        sac = self._in_sac(disc, points, right)
        if sac.any():
            aside = float(left[0] + np.argwhere(sac)[:, 1].mean() * _SLICE_MM)
            line = middle + np.arange(-8, 34, _STEP_MM)[:, None] * axes[1] + aside * axes[2]
            out["sac_ap_mm"] = round(float(self._in_sac(disc, line[:, 1:], line[:, 0]).sum() * _STEP_MM), 2)
            out["sac_area_mm2"] = round(float(sac.sum() * _SLICE_MM**2), 1)
        if disc.herniation > 0:
            u, v, w = disc.frame.local(right, down, behind)
            hernia = self._in_disc(disc, points, right) & in_hernia(disc, u, v, w)
            if hernia.sum() * _SLICE_MM**2 >= _SEEN_MM2:
                out["hernia_height_mm"] = round(_height_over_base(hernia), 2)
        return out


def _height_over_base(hernia: np.ndarray) -> float:
    """mm from the line between the front ends of a hernia's outermost columns to its farthest point; (back, left), bool."""
    columns = np.flatnonzero(hernia.any(axis=0))
    fronts = hernia.argmax(axis=0)[columns[[0, -1]]]
    ends = np.stack([fronts, columns[[0, -1]]], axis=1).astype(float)
    along = (ends[1] - ends[0]) / max(float(np.linalg.norm(ends[1] - ends[0])), 1e-9)
    behind = (np.argwhere(hernia) - ends[0]) @ np.array([along[1], -along[0]])
    return float(behind.max() * _SLICE_MM)


def slice_truth(anatomy: Anatomy, disc: int, corners: Sequence[np.ndarray], axes: np.ndarray) -> list[dict[str, float]]:
    """What there is to measure on axial slices along a disc, in the middle plane of each.

    Args:
        anatomy: the patient.
        disc: number of the disc that the slices lie along.
        corners: (right, down, back) in mm of the first pixel of each slice.
        axes: (3, 3) unit vectors from slice to slice, row to row (backwards), column to column (to the left).

    Returns:
        A dict a slice: ``sac_ap_mm``, the dural sac on the line that runs straight backwards through its centroid;
        ``sac_area_mm2``; ``hernia_height_mm``, how far the hernia reaches over the straight line between the two ends of its
        base on disc or bone. NaN where there is none, or where less than 4 mm2 of a hernia is cut.
    """
    shapes = _Shapes(anatomy)
    return [shapes.in_slice(anatomy.discs[disc - 1], np.asarray(corner), axes) for corner in corners]
