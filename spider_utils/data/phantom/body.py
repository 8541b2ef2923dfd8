"""From a patient as numbers to a grid of tissues: who is painted over whom."""

from __future__ import annotations

from spider_utils.data.phantom.anatomy import Anatomy
from spider_utils.data.phantom.bones import paint_disc, paint_sacrum, paint_vertebra
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.soft import paint_abdomen, paint_around_canal, paint_canal, paint_layers, trace


def build_body(
    anatomy: Anatomy, low: tuple[float, float, float], high: tuple[float, float, float], spacing: tuple[float, float, float]
) -> TissueGrid:
    """Paint a patient's tissues and labels between two corners.

    Args:
        anatomy: the patient.
        low, high: (right, down, back) in mm of the corners.
        spacing: mm between voxel centres along (right, down, back).

    Returns:
        TissueGrid; ``label`` holds 1 to 11 for vertebrae (whether or not all of one is in the grid), 100 for the canal,
        201 to 211 for discs. Partly visible vertebrae are told apart later, when the field of view is known.
    """
    grid = TissueGrid.empty(low, high, spacing)
    course = trace(grid, anatomy)
    paint_layers(grid, anatomy, course)
    paint_abdomen(grid, anatomy, course)
    paint_around_canal(grid, anatomy, course)
    paint_canal(grid, anatomy, course)
    for disc in anatomy.discs:
        paint_disc(grid, disc)
    for bone in reversed(anatomy.vertebrae):
        above = anatomy.discs[bone.number] if bone.number < len(anatomy.discs) else None
        paint_vertebra(grid, bone, below=anatomy.discs[bone.number - 1], above=above)
    paint_sacrum(grid, anatomy)
    return grid
