"""Axial slices through a phantom, angled along its discs as a technician plans them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spider_utils.data.phantom.anatomy import Anatomy, Disc
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.signal import TISSUE, signal_table, sliver_signal

PARTS = 5  # planes that are averaged over a slice's thickness
LEVEL = 420.0  # brightness of marrow in the stored integers


@dataclass(frozen=True)
class AxialBlock:
    """Parallel slices along one disc, from above downwards.

    Attributes:
        disc: SPIDER number of the disc.
        shape: (slices, rows, columns).
        spacing_mm: between slices, rows, columns.
        thickness_mm: of a slice.
        first: (right, down, back) in mm of the centre of the first pixel of the uppermost slice.
        axes: (3, 3): row k is the unit vector, in (right, down, back), from slice to slice, row to row, column to column. Row
            numbers grow backwards, column numbers to the patient's left.
    """

    disc: int
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    thickness_mm: float
    first: tuple[float, float, float]
    axes: np.ndarray

    def place(self, slice_: float, row: float, column: float) -> np.ndarray:
        """(right, down, back) in mm of a place given in slices, rows and columns."""
        return np.asarray(self.first) + (np.array([slice_, row, column]) * self.spacing_mm) @ self.axes

    def index(self, point: tuple[float, float, float]) -> np.ndarray:
        """(slice, row, column), in fractions, of a point (right, down, back) in mm."""
        return (self.axes @ (np.asarray(point) - self.first)) / self.spacing_mm


def plan_block(
    anatomy: Anatomy, disc: Disc, n_slices: int, field_mm: float, pixel_mm: float, gap_mm: float, thickness_mm: float
) -> AxialBlock:
    """Slices centred on a disc and tilted with it; a sideways bend of the spine is not followed."""
    tilt = math.radians(disc.frame.tilt)
    across = np.array([0.0, math.cos(tilt), math.sin(tilt)])
    backwards = np.array([0.0, -math.sin(tilt), math.cos(tilt)])
    axes = np.stack([across, backwards, np.array([-1.0, 0.0, 0.0])])
    n = round(field_mm / pixel_mm)
    spacing = (gap_mm, pixel_mm, pixel_mm)
    # The picture's middle lies a little behind the disc's back wall.
    middle = np.asarray(disc.frame.point(0.0, disc.depth / 2 + 6.0, 0.0))
    first = middle - (np.array([(n_slices - 1) / 2, 0.5 * (n - 1), 0.5 * (n - 1)]) * spacing) @ axes
    return AxialBlock(disc.number, (n_slices, n, n), spacing, thickness_mm, tuple(first.tolist()), axes)


def signal_volume(body: TissueGrid, tr_ms: float, te_ms: float, tesla: float) -> np.ndarray:
    """Spin-echo signal of every voxel of a tissue grid relative to marrow, float32."""
    table = signal_table(tr_ms, te_ms, tesla)
    slivers, flat = sliver_signal(table), table.reshape(-1)
    out = np.empty(body.shape, np.float32)
    for k in range(body.shape[0]):  # plane by plane, to save memory
        under = slivers[body.under[k]]
        pure = flat[body.tissue[k].astype(np.uint16) * np.uint16(256) + body.mix[k]]
        out[k] = under + body.share[k].astype(np.float32) * np.float32(1 / 255) * (pure - under)
    return out / np.float32(table[TISSUE["marrow"], 120])


def scan_block(signal: np.ndarray, body: TissueGrid, anatomy: Anatomy, block: AxialBlock, noise: float, seed: int) -> np.ndarray:
    """Pictures of one block: uint16 (slice, row, column).

    Args:
        signal: from signal_volume.
        body: its grid.
        anatomy: the patient, whose back carries the coil.
        block: where the slices lie.
        noise: standard deviation as a share of the signal of marrow.
        seed: of the noise.
    """
    rng = np.random.default_rng([int(seed), 83, block.disc])
    n, rows, columns = block.shape
    out = np.empty(block.shape, np.uint16)
    plane = anatomy.vertebrae[1].frame.back + 72 + 1.2 * anatomy.subcutaneous  # where the coil lies
    for k in range(n):
        picture = np.zeros((rows, columns), np.float32)
        for places in _planes(block, k):
            picture += _sample(signal, body, places) * np.float32(1 / PARTS)
            depth = plane - places[2]
        # The lowest plane stands for the slice. With the middle one depth would differ by 1.1 mm at most and brightness by less
        # than 2 %, but every set that was made so far would differ, too.
        depth = np.maximum(depth, 4.0)
        gain = (160.0 / (100.0 + depth)).astype(np.float32) ** np.float32(1.5)
        picture = picture * gain
        grain = rng.standard_normal((2, rows, columns), dtype=np.float32) * np.float32(noise)
        picture = np.sqrt((picture + grain[0]) ** 2 + grain[1] ** 2) * np.float32(LEVEL)
        out[k] = np.minimum(np.rint(picture), 4095).astype(np.uint16)
    return out


def _sample(signal: np.ndarray, body: TissueGrid, places: list[np.ndarray]) -> np.ndarray:
    """Trilinear values at (right, down, back) places in mm; 0 outside the grid. Added in a fixed order, the same everywhere."""
    inside, corners = _corners(body, places)
    flat, total = signal.reshape(-1), np.float32(0)
    for index, weight in corners:
        total = total + weight * flat[index]
    return np.where(inside, total, np.float32(0))


def _corners(body: TissueGrid, places: list[np.ndarray]) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Which places lie in a grid, and the (flat index, weight) of the eight voxels around each."""
    low, part, inside = [], [], True
    for axis in range(3):
        index = (places[axis] - np.float32(body.origin[axis])) / np.float32(body.spacing[axis])
        inside &= (index >= 0) & (index <= body.shape[axis] - 1)
        floor = np.clip(index.astype(np.int64), 0, body.shape[axis] - 2)
        low.append(floor)
        part.append(np.clip(index - floor, 0, 1).astype(np.float32))
    stride = (body.shape[1] * body.shape[2], body.shape[2], 1)
    base = low[0] * stride[0] + low[1] * stride[1] + low[2]
    corners = []
    for corner in range(8):
        bits = [(corner >> axis) & 1 for axis in range(3)]
        weight = np.float32(1)
        for axis in range(3):
            weight = weight * (part[axis] if bits[axis] else 1 - part[axis])
        corners.append((base + sum(bit * step for bit, step in zip(bits, stride, strict=True)), weight))
    return inside, corners


def _planes(block: AxialBlock, slice_: int) -> Iterator[list[np.ndarray]]:
    """(right, down, back) in mm of a slice's pixels, float32 (rows, columns) each, in PARTS planes through its thickness."""
    r, c = np.meshgrid(*(np.arange(n) for n in block.shape[1:]), indexing="ij")
    steps = [np.float32(block.spacing_mm[a]) * block.axes[a].astype(np.float32) for a in (1, 2)]
    for part in range(PARTS):
        start = block.place(slice_ + ((part + 0.5) / PARTS - 0.5) * block.thickness_mm / block.spacing_mm[0], 0, 0)
        yield [np.float32(start[a]) + r * steps[0][a] + c * steps[1][a] for a in range(3)]


def label_block(labels: np.ndarray, body: TissueGrid, block: AxialBlock, n_labels: int, smooth_mm: float = 0.7) -> np.ndarray:
    """Labels of one block: uint8 (slice, row, column), in each pixel the one that fills most of the slice's thickness there.

    Where a slice runs along a surface that would be a lace of islands, which nobody outlines: shares are smoothed in the slice.

    Args:
        labels: uint8 of the grid's shape, below ``n_labels``.
        body: the grid.
        block: where the slices lie.
        n_labels: how many labels there are.
        smooth_mm: standard deviation of the smoothing.
    """
    out, flat = np.zeros(block.shape, np.uint8), labels.reshape(-1)
    pixel = np.arange(block.shape[1] * block.shape[2])
    for k in range(block.shape[0]):
        shares = np.zeros(n_labels * len(pixel), np.float32)
        for places in _planes(block, k):
            inside, corners = _corners(body, places)
            for index, weight in corners:
                shares[flat[index].reshape(-1).astype(np.intp) * len(pixel) + pixel] += (weight * inside).reshape(-1)
        shares = shares.reshape(n_labels, *block.shape[1:])
        sigma = [smooth_mm / step for step in block.spacing_mm[1:]]
        out[k] = np.rint(ndimage.gaussian_filter(shares, (0, *sigma)) * np.float32(1 << 12)).argmax(axis=0)
    return out
