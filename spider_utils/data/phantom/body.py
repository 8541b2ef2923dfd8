"""From a patient as numbers to a grid of tissues: who is painted over whom."""

from __future__ import annotations

import numpy as np

from spider_utils.data.phantom.anatomy import Anatomy
from spider_utils.data.phantom.bones import paint_disc, paint_sacrum, paint_vertebra
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.signal import TISSUE
from spider_utils.data.phantom.soft import paint_abdomen, paint_around_canal, paint_canal, paint_layers, trace


def build_body(
    anatomy: Anatomy,
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    spacing: tuple[float, float, float],
    whole_belly: bool = False,
) -> TissueGrid:
    """Paint a patient's tissues and labels between two corners.

    Args:
        anatomy: the patient.
        low, high: (right, down, back) in mm of the corners.
        spacing: mm between voxel centres along (right, down, back).
        whole_belly: for fields of view that reach the skin of the belly: keep bowel from coming through it in the thin. SPIDER's
            phantoms end before it, or darken it, and stay as they are.

    Returns:
        TissueGrid; ``label`` holds 1 to 11 for vertebrae (whether or not all of one is in the grid), 100 for the canal,
        201 to 211 for discs. Partly visible vertebrae are told apart later, when the field of view is known.
    """
    grid = TissueGrid.empty(low, high, spacing)
    course = trace(grid, anatomy)
    paint_layers(grid, anatomy, course)
    # What lies before the cavity of the abdomen: belly wall, fat, skin, air.
    arrays = [array[..., : int(np.searchsorted(grid.coordinates(2).reshape(-1), course.front.min()))] for array in grid.layers]
    before = [array.copy() for array in arrays] if whole_belly else []
    paint_abdomen(grid, anatomy, course)
    for array, old in zip(arrays, before, strict=False):
        np.copyto(array, old, where=before[0] != TISSUE["abdomen"])
    paint_around_canal(grid, anatomy, course)
    paint_canal(grid, anatomy, course)
    for disc in anatomy.discs:
        paint_disc(grid, disc)
    for bone in reversed(anatomy.vertebrae):
        above = anatomy.discs[bone.number] if bone.number < len(anatomy.discs) else None
        paint_vertebra(grid, bone, below=anatomy.discs[bone.number - 1], above=above)
    paint_sacrum(grid, anatomy)
    return grid
