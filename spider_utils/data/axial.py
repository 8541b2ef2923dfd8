"""Axial slices angled along discs, with their tissues outlined: blocks of parallel slices as files.

Layout (what data.phantom.axial_set writes): ``images/<case>.mha`` and ``masks/<case>.mha``, a block of slices a disc with its
true oblique geometry, masks in the scheme "axial8"; ``slices.csv``, a row a slice counted from above, with at least case,
patient, disc, level and slice. A file's own axes are kept, as planes tilted by 45 degrees have no nearest anatomical one; which
way each of them runs is read from the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.volumes import Volume, check_same_geometry, read_mask, read_volume, to_stored_image
from spider_utils.errors import DataError
from spider_utils.files import fingerprint, read_csv, sha256_of
from spider_utils.labels import get_scheme

AXIAL_SCHEME = "axial8"
SET_FILE, SLICE_TABLE = "axial-phantom.json", "slices.csv"
_COLUMNS = ("case", "patient", "disc", "level", "slice")
_LEAST_COSINE = 0.2  # slices along a disc lean by less than 78 degrees
_MAKE = "Make a phantom: spider-kit data phantom --kind axial --out DIR"


@dataclass(frozen=True, eq=False)
class AxialCase:
    """One block of slices, from above downwards, drawn as radiologists look at them (the patient's right on the left).

    Attributes:
        case: its name.
        images: (slice, row, column); rows run backwards, columns to the patient's left.
        masks: uint8 of the same shape, in the scheme "axial8".
        spacing: mm between slices, rows and columns.
    """

    case: str
    images: np.ndarray
    masks: np.ndarray
    spacing: tuple[float, float, float]


class AxialSet:
    """A folder of axial blocks.

    Attributes:
        root: the folder.
        slices: ``slices.csv``, a row a slice.

    Raises:
        DataError: no such folder, or its table is missing or lacks a column.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not (self.root / SLICE_TABLE).is_file():
            raise DataError(self.root, f"holds no {SLICE_TABLE}", f"Check the path. {_MAKE}")
        try:
            self.slices = read_csv(self.root / SLICE_TABLE)
        except (ValueError, OSError) as error:
            raise DataError(self.root / SLICE_TABLE, f"cannot be read as a table ({str(error)[:80]})", _MAKE) from error
        if missing := [name for name in _COLUMNS if name not in self.slices]:
            raise DataError(self.root / SLICE_TABLE, f"lacks the column(s) {', '.join(missing)}", _MAKE)
        if self.cases.empty:
            raise DataError(self.root / SLICE_TABLE, "names no case", _MAKE)

    @cached_property
    def cases(self) -> pd.DataFrame:
        """A row a block, in the table's order: case, patient, disc, level, slices (how many)."""
        return self.slices.groupby(list(_COLUMNS[:-1]), sort=False).size().rename("slices").reset_index()

    def load(self, case: str) -> AxialCase:
        """Read one block.

        Raises:
            DataError: a file is missing or cannot be read, or holds no axial slices; image and mask differ in their grid; the
                mask holds unknown labels; the table counts other slices.
            KeyError: no such case.
        """
        row = self.cases.set_index("case").loc[case]
        image = read_volume(self.root / "images" / f"{case}.mha")
        mask = read_mask(self.root / "masks" / f"{case}.mha", allow_empty=True)
        check_same_geometry(image, mask)
        images, masks = _from_above(image), _from_above(mask).astype(np.uint8)
        if len(images) != row["slices"]:
            raise DataError(image.path, f"holds {len(images)} slices, {SLICE_TABLE} {row['slices']}", "Make the set again.")
        try:
            get_scheme(AXIAL_SCHEME).check(masks)
        except ValueError as error:
            raise DataError(mask.path, str(error), "Fetch or make the mask again.") from error
        return AxialCase(case, images, masks, tuple(reversed(image.stored.spacing)))

    def state(self) -> str:
        """16 hex digits that change when the table, or the name or a byte of a case's file does."""
        paths = [self.root / kind / f"{case}.mha" for case in self.cases["case"] for kind in ("images", "masks")]
        for path in paths:
            if not path.is_file():
                raise DataError(path, "the file does not exist", _MAKE)
        return fingerprint([[path.name, sha256_of(path)] for path in (self.root / SLICE_TABLE, *paths)])

    def __repr__(self) -> str:
        return f"AxialSet({len(self.slices)} slices of {len(self.cases)} discs of {self.cases['patient'].nunique()} patients)"


def _from_above(volume: Volume) -> np.ndarray:
    """A volume's pictures (slice, row, column) along the file's own axes, from above, rows backwards, columns to the left."""
    stored = to_stored_image(volume)
    # LPS: the file's axes (column, row, slice) against the patient's left, back and up.
    ways = np.diag(np.reshape(stored.GetDirection(), (3, 3)))
    if (np.abs(ways) < _LEAST_COSINE).any():
        raise DataError(volume.path, "holds no axial slices", "Its columns must run sideways, its rows forwards or backwards.")
    turned = ways * (1, 1, -1) < 0
    return np.flip(sitk.GetArrayFromImage(stored), np.flatnonzero(turned[::-1]))
