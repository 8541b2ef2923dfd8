"""The mid-sagittal sheet: what a radiologist measures on, also where the spine bends sideways or the patient lies turned.

A sheet follows the middle of the canal from slice to slice and is as wide as the picture: rows run along the canal's course in
the frontal plane (their distance is true length), columns from front to back, turned as the patient is turned about the long
axis. Between slices shapes are interpolated by their signed distances (Raya & Udupa, IEEE Trans Med Imaging 9:32, 1990).
A single slice is its own sheet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import ndimage

from spider_utils.measure.geometry import outline

CANAL, DISCS = 100, 200
_FAR_MM = 10.0  # distances are not followed further
_MARGIN = 4  # pixels around a label
_PIECE = 0.2  # smaller pieces, against the largest, are crumbs
_LEAST_MM2 = 15.0  # of a part on the sheet: less is a crumb


@dataclass(frozen=True, eq=False)
class Part:
    """One label on a sheet: ``signed`` (rows, columns) mm, negative inside, its first pixel's place, and the pixels' distance.

    ``cut_above``, ``cut_below``: the picture ends within it there; ``cut_side``: in front of or behind it. ``shown``: which
    pixels lie between the picture's first and last column; beyond them its outermost ones are repeated.
    """

    label: int
    signed: np.ndarray
    first_mm: tuple[float, float]
    step_mm: tuple[float, float]
    cut_above: bool
    cut_below: bool
    cut_side: bool
    shown: np.ndarray

    @cached_property
    def outline(self) -> np.ndarray:
        """Points (n, 2) in mm, (down, back)."""
        return outline(self.signed, self.step_mm, self.first_mm)

    @cached_property
    def centre(self) -> np.ndarray:
        """Its centroid (2,) in mm."""
        return np.argwhere(self.signed < 0).mean(axis=0) * self.step_mm + self.first_mm

    @property
    def area_mm2(self) -> float:
        return float((self.signed < 0).sum() * self.step_mm[0] * self.step_mm[1])

    def at(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (mm) at points (n, 2) in mm; outside what was sampled the nearest sample."""
        index = ((points - self.first_mm) / self.step_mm).T
        return ndimage.map_coordinates(self.signed, index, order=1, mode="nearest")

    def in_picture(self, points: np.ndarray) -> np.ndarray:
        """Whether points (n, 2) in mm lie between the picture's first and last column, within what was sampled; bool."""
        rows, columns = np.rint((points - self.first_mm) / self.step_mm).astype(int).T
        height, width = self.shown.shape
        sampled = (columns >= 0) & (columns < width)
        return sampled & self.shown[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]


@dataclass(frozen=True, eq=False)
class _Course:
    """How the middle sheet lies in the volume, row by row: it holds the points (middle + turn column, row, column).

    ``rows`` mm; ``middle`` mm; ``lean``: slices a row; ``shift``: mm in columns by which its own columns move from row to row;
    ``along``: mm along the sheet; ``turn``: tangent of the angle by which the patient is turned about the long axis.
    """

    rows: np.ndarray
    middle: np.ndarray
    lean: np.ndarray
    shift: np.ndarray
    along: np.ndarray
    turn: float


@dataclass(frozen=True, eq=False)
class Spine:
    """A labelled volume (slice, row, column) with its sheets.

    Attributes:
        mask: integers in scheme "spider".
        spacing: (3,) mm.
        flat: it is a single slice.
    """

    mask: np.ndarray
    spacing: np.ndarray
    flat: bool
    _planes: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @cached_property
    def boxes(self) -> dict[int, tuple[slice, slice, slice]]:
        """Label -> where it lies, with a margin in the slice."""
        found = {}
        for label, box in enumerate(ndimage.find_objects(self.mask), start=1):
            if box is not None:
                inner = [
                    slice(max(part.start - _MARGIN, 0), min(part.stop + _MARGIN, n))
                    for part, n in zip(box[1:], self.mask.shape[1:], strict=True)
                ]
                found[label] = (box[0], *inner)
        return found

    def _plane(self, label: int, number: int) -> np.ndarray:
        """Signed distance (mm) of a label within one slice, in the label's box."""
        if (label, number) not in self._planes:
            box = self.boxes[label]
            inside = self.mask[number, box[1], box[2]] == label
            if inside.any():
                # A frame that continues the edge: a part that the picture cuts has no border there.
                framed = np.pad(inside, 1, mode="edge")
                away, deep = (ndimage.distance_transform_edt(part, sampling=self.spacing[1:]) for part in (~framed, framed))
                signed = np.clip(away - deep if not inside.all() else -deep, -_FAR_MM, _FAR_MM)[1:-1, 1:-1]
            else:
                signed = np.full(inside.shape, _FAR_MM)
            self._planes[label, number] = signed.astype(np.float32)
        return self._planes[label, number]

    def signed(self, label: int, points_mm: np.ndarray, nearest_slice: bool = False) -> np.ndarray:
        """Signed distance (mm) of a label at points (3, ...) in mm (slice, row, column).

        Args:
            nearest_slice: take the nearest slice instead of a mean of both beside the point: a slice stands for its thickness.
        """
        index = points_mm / self.spacing.reshape(3, *[1] * (points_mm.ndim - 1))
        index[0] = np.clip(np.rint(index[0]) if nearest_slice else index[0], 0, len(self.mask) - 1)
        low, high = int(np.floor(index[0].min())), int(np.ceil(index[0].max()))
        stack = np.stack([self._plane(label, number) for number in range(low, high + 1)])
        index[0] -= low
        for axis in (1, 2):
            index[axis] -= self.boxes[label][axis].start
        return ndimage.map_coordinates(stack, index, order=1, mode="nearest")

    @cached_property
    def _course(self) -> _Course:
        rows_mm = np.arange(self.mask.shape[1]) * self.spacing[1]
        if self.flat:
            return _Course(rows_mm, *np.zeros((3, len(rows_mm))), rows_mm, 0.0)
        canal = self.mask == CANAL
        per_row = canal.sum(axis=(0, 2))
        discs = {label: box for label, box in self.boxes.items() if label > DISCS}
        middles = {label: (np.argwhere(self.mask[box] == label).mean(axis=0) + [p.start for p in box]) * self.spacing
                   for label, box in (discs or self.boxes).items() if label != CANAL}  # fmt: skip
        turn = 0.0
        if per_row.any():
            at = np.flatnonzero(per_row)
            slices = (canal.sum(axis=2)[:, at] * np.arange(len(canal))[:, None]).sum(axis=0) / per_row[at] * self.spacing[0]
            columns = (canal.sum(axis=0)[at] * np.arange(canal.shape[2])).sum(axis=1) / per_row[at] * self.spacing[2]
            rows, weights = at * self.spacing[1], per_row[at].astype(float)
            inner = [m for label, m in middles.items() if 0 < discs.get(label, (slice(0, 0),))[0].start
                     and discs[label][0].stop < len(self.mask) and rows[0] <= m[1] <= rows[-1]]  # fmt: skip
            if len(inner) >= 3:  # discs that no edge cuts: from their middles to the canal's the way leads straight back
                inner = np.array(inner)
                away = np.interp(inner[:, 1], rows, slices) - inner[:, 0]
                turn = float(np.median(away / (np.interp(inner[:, 1], rows, columns) - inner[:, 2])))
        else:
            slices, rows, columns = np.array(sorted(middles.values(), key=lambda m: m[1])).T
            weights = np.ones(len(rows))
        degree = min(4, max(0, int(np.ptp(rows) // 40))) if len(np.unique(rows)) > 1 else 0
        middle, scale = rows.mean(), max(np.ptp(rows) / 2, 1.0)
        fits = [np.polyfit((rows - middle) / scale, values, degree, w=np.sqrt(weights)) for values in (slices, columns)]
        inside = (np.clip(rows_mm, rows.min(), rows.max()) - middle) / scale
        beyond = (rows_mm - middle) / scale - inside
        slice_mm, column_mm = (np.polyval(fit, inside) + np.polyval(np.polyder(fit), inside) * beyond for fit in fits)
        # The sheet's rows at a right angle to its columns: leaning sideways, a turned spine moves forwards or backwards too.
        middle = slice_mm - turn * column_mm
        lean = np.gradient(middle, rows_mm) if len(rows_mm) > 1 else np.zeros(1)
        steps = np.diff(rows_mm) * np.hypot(1, (lean[1:] + lean[:-1]) / 2 / np.hypot(1, turn))
        shift = -turn * (middle - middle[len(middle) // 2]) / (1 + turn**2)
        return _Course(rows_mm, middle, lean, shift, np.r_[0.0, np.cumsum(steps)], turn)

    @property
    def step_mm(self) -> tuple[float, float]:
        """Distance of rows and columns of a sheet."""
        return float(self.spacing[1]), float(self.spacing[2] * np.hypot(1, self._course.turn))

    def places(self, points: np.ndarray, aside_mm: float = 0.0) -> np.ndarray:
        """Where points (n, 2) of a sheet, in mm (down, back), lie in the volume: (n, 3) mm (slice, row, column).

        Args:
            aside_mm: of a sheet parallel to the middle one, so far towards higher slices.
        """
        course = self._course
        rows, middle, lean, shift = (
            np.interp(points[:, 0], course.along, values) for values in (course.rows, course.middle, course.lean, course.shift)
        )
        columns = points[:, 1] / np.hypot(1, course.turn) + shift
        aside = aside_mm / np.sqrt(1 + lean**2 + course.turn**2)
        return np.stack([middle + course.turn * columns + aside, rows - lean * aside, columns - course.turn * aside], axis=1)

    def part(self, label: int, aside_mm: float = 0.0) -> Part | None:
        """A label on the sheet, all its pieces but crumbs; None where it is not there."""
        if label not in self.boxes:
            return None
        step, along = np.array(self.step_mm), self._course.along
        _, rows, columns = self.boxes[label]
        shift = self._course.shift[rows] / self.spacing[2]
        first = int(np.floor(along[rows.start] / step[0])), int(np.floor(columns.start - shift.max()))
        last = int(np.ceil(along[rows.stop - 1] / step[0])), int(np.ceil(columns.stop - 1 - shift.min()))
        down, back = np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1]
        points = np.stack([down.ravel(), back.ravel()], axis=1) * step
        places = self.places(points, aside_mm)
        shown = ((places[:, 2] >= 0) & (places[:, 2] <= (self.mask.shape[2] - 1) * self.spacing[2])).reshape(down.shape)
        signed = self.signed(label, places.T.copy()).reshape(down.shape).astype(float)
        pieces, count = ndimage.label(signed < 0, np.ones((3, 3)))
        sizes = np.bincount(pieces.reshape(-1))[1:]
        if not count or sizes.max() * step.prod() < _LEAST_MM2:
            return None
        kept = np.isin(pieces, np.flatnonzero(sizes >= _PIECE * sizes.max()) + 1)
        signed = np.where(kept, signed, np.where(pieces > 0, step.min() / 2, signed))
        # The sheet may begin above the first row or end below the last one, by less than a row.
        top, bottom = rows.start == 0 and bool(kept[:2].any()), rows.stop == self.mask.shape[1] and bool(kept[-2:].any())
        # Columns of the window that lie outside the picture, where the sheet is turned, and two more.
        before, behind = max(0, -first[1]) + 2, max(0, last[1] + 1 - self.mask.shape[2]) + 2
        side = (columns.start == 0 and bool(kept[:, :before].any())) or (
            columns.stop == self.mask.shape[2] and bool(kept[:, -behind:].any())
        )
        return Part(label, signed, tuple((first * step).tolist()), tuple(step.tolist()), top, bottom, side, shown)


def body_of(bone: Part, canal: Part | None) -> Part | None:
    """The body of a vertebra on the sheet: its foremost piece, without what lies behind the canal's front; holes filled."""
    inside = bone.signed < 0
    rows, columns = (bone.first_mm[k] + np.arange(bone.signed.shape[k]) * bone.step_mm[k] for k in (0, 1))
    if canal is not None:
        sac = canal.signed < 0
        seen = np.flatnonzero(sac.any(axis=1))
        heights = canal.first_mm[0] + seen * canal.step_mm[0]
        fronts = canal.first_mm[1] + sac[seen].argmax(axis=1) * canal.step_mm[1]
        # Beyond the canal's ends nothing says what is behind it.
        inside &= columns < np.interp(rows, heights, fronts, left=np.inf, right=np.inf)[:, None]
    pieces, count = ndimage.label(inside)
    if not count:
        return None
    sizes = np.bincount(pieces.reshape(-1))[1:]
    large = np.flatnonzero(sizes >= _PIECE * sizes.max()) + 1
    body = pieces == min(large, key=lambda number: np.nonzero(pieces == number)[1].mean())
    body = ndimage.binary_fill_holes(body)
    half = min(bone.step_mm) / 2
    signed = np.where(body, np.minimum(bone.signed, -1e-3), np.where(bone.signed < 0, half, bone.signed))
    holes = body & (bone.signed >= 0)
    signed[holes] = -half
    if signed[body].size * bone.step_mm[0] * bone.step_mm[1] < _LEAST_MM2:
        return None
    return Part(
        bone.label, signed, bone.first_mm, bone.step_mm, bone.cut_above and bool(body[:2].any()),
        bone.cut_below and bool(body[-2:].any()), bone.cut_side and bool(body[:, [0, 1, -2, -1]].any()), bone.shown,
    )  # fmt: skip
