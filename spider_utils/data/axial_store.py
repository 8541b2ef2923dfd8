"""Axial slices of one size for networks: the slice store of a set of axial blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.axial import AXIAL_SCHEME, AxialSet
from spider_utils.data.slices import STORE_VERSION, SliceGrid, SliceStore, scale_to_uint8, write_store
from spider_utils.data.stores import is_store
from spider_utils.files import fingerprint
from spider_utils.locks import make_once


def build_axial_store(axial: AxialSet, folder: str | Path, size: tuple[int, int]) -> SliceStore:
    """The slices of a set in one size, for networks; opened when it is there and up to date.

    Args:
        axial: the set.
        folder: of the store.
        size: rows, columns.

    Returns:
        A store in the scheme "axial8" whose table has the columns of ``slices.csv`` as well.

    Raises:
        DataError: a block cannot be read, or the disk is full.
    """
    folder, grid = Path(folder), SliceGrid(*size)
    key = fingerprint([STORE_VERSION, "axial", list(size), axial.state()])

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray, pd.DataFrame]]:
        for name, rows in axial.slices.groupby("case", sort=False):
            case = axial.load(name)
            native, spacing = case.images.shape[1:], case.spacing[1:]
            facts = {"pixel_mm": round(grid.placement(native, spacing)[2], 5), "native_rows": native[0]}
            facts |= {"native_columns": native[1], "slice_mm": case.spacing[0], "row_mm": spacing[0], "column_mm": spacing[1]}
            images, masks = grid.fit(scale_to_uint8(case.images), spacing), grid.fit(case.masks, spacing, is_mask=True)
            yield images, masks, rows.sort_values("slice").assign(sequence="axial", subset="", **facts)

    def write() -> None:
        write_store(folder, parts(), "axial", AXIAL_SCHEME, key)

    make_once(folder, lambda: is_store(folder, key), write)
    return SliceStore.open(folder)
