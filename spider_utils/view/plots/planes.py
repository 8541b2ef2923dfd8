"""The three planes of a volume: how each is cut out and laid on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plane:
    """How a plane is cut out of a volume in the kit's axes (slice, row, column) and laid on the screen.

    Attributes:
        name: sagittal, coronal or axial.
        axis: the array axis that is cut through.
        letters: body directions at the top, bottom, left and right of the picture.
        sides: where a slice at the low and at the high end of ``axis`` lies, as in "left of" the middle.
    """

    name: str
    axis: int
    letters: str
    sides: tuple[str, str]

    def cut(self, array: np.ndarray, index: int) -> np.ndarray:
        """The picture at ``index`` of an array (slice, row, column): (rows, columns), from the top left."""
        return array[index] if self.axis == 0 else array[::-1].take(index, axis=self.axis).T

    def spacing(self, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Spacing (row, column) of the picture, mm, from the volume's (slice, row, column)."""
        slices, rows, columns = spacing_mm
        return {0: (rows, columns), 1: (columns, slices), 2: (rows, slices)}[self.axis]

    def place(self, point: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
        """Where voxel ``point`` of a volume of ``shape`` lies in the picture: (row, column)."""
        flipped = shape[0] - 1 - point[0]
        return {0: (point[1], point[2]), 1: (point[2], flipped), 2: (point[1], flipped)}[self.axis]

    def voxel(self, row: int, column: int, index: int, shape: Sequence[int]) -> tuple[int, int, int]:
        """The voxel (slice, row, column) at a place of the picture at ``index``: what ``place`` undoes."""
        flipped = shape[0] - 1 - column
        return {0: (index, row, column), 1: (flipped, index, row), 2: (flipped, row, index)}[self.axis]


# The array's slice axis runs from the patient's left to the right; screens of radiologists have the right on the left.
PLANES = {
    "sagittal": Plane("sagittal", 0, "SIAP", ("left of", "right of")),
    "coronal": Plane("coronal", 2, "SIRL", ("in front of", "behind")),
    "axial": Plane("axial", 1, "APRL", ("above", "below")),
}
