"""Where a made-up patient's hernias are, in millimetres and in the voxels of any of the patient's series.

The axes of a phantom's volumes are the patient's own (see data.phantom.anatomy), whatever orientation a file is stored in: origin
and spacing alone turn a place into voxels. Nothing of ``spider_utils.measure`` is used here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.data.phantom.anatomy import Anatomy, Disc
from spider_utils.data.phantom.bones import hernia_distance, wall_distance
from spider_utils.data.phantom.raster import smooth_min
from spider_utils.data.volumes import Volume

_STEP_MM, _REACH_MM, _SIDE_MM = 0.2, 14.0, 20.0


def hernias_of(anatomy: Anatomy) -> pd.DataFrame:
    """The hernias that are painted.

    Returns:
        A row a herniated disc: ``disc``; ``right``, ``down``, ``back`` (mm in the patient's frame) of the point that reaches
        furthest back in the disc's own frame; ``first_right`` and ``last_right`` (mm): between them the disc stands out of the
        wall that it would have without the hernia by more than half as much as at its worst.
    """
    return pd.DataFrame(
        [_row(disc) for disc in anatomy.discs if disc.herniation > 0],
        columns=["disc", "right", "down", "back", "first_right", "last_right"],
    )


def _row(disc: Disc) -> dict[str, float]:
    sides = np.arange(-_SIDE_MM, _SIDE_MM + _STEP_MM, _STEP_MM)
    backs = disc.depth / 2 + np.arange(-4.0, _REACH_MM, _STEP_MM)
    heights = np.arange(-_REACH_MM, _REACH_MM, _STEP_MM)
    u, v, w = np.meshgrid(sides, backs, heights, indexing="ij")
    wall = np.maximum(wall_distance(disc, u, v, w), np.abs(w) - disc.height / 2)
    whole = smooth_min(wall, hernia_distance(disc, u, v, w), 2.0)
    reach = [np.where((part < 0).any(axis=2), backs, backs[0]).max(axis=1) for part in (wall, whole)]
    out = reach[1] - reach[0]
    wide = sides[out > out.max() / 2]
    top = (disc.hernia_side, disc.depth / 2 + disc.herniation, -disc.hernia_drop)
    place = dict(zip(("right", "down", "back"), map(float, disc.frame.point(*top)), strict=True))
    ends = [float(disc.frame.point(side, *top[1:])[0]) for side in (wide[0], wide[-1])]
    return {"disc": disc.number, **place, "first_right": ends[0], "last_right": ends[1]}


def voxel_of(points: np.ndarray, volume: Volume) -> np.ndarray:
    """Places in a series: (n, 3) mm (right, down, back) to (n, 3) voxels (slice, row, column), in fractions."""
    first = np.asarray(volume.direction).T @ np.asarray(volume.origin)
    return (np.asarray(points, dtype=float) - first) / np.asarray(volume.spacing)
