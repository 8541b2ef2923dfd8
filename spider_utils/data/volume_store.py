"""Whole series in one grid: resampled once, kept in memory-mapped files, served to networks of volumes.

A grid has a fixed number of slices, rows and columns in the kit's orientation. `unetr` stretches it over the whole field of view
of each series, whatever its size in mm, so that a vertebra is large in one series and small in another. The other way is one
voxel size for all: a box that stands on the lower edge of the field of view, in the middle of its slices and columns. What it
does not cover is cut, what it covers beyond is black. It stands on the lower edge because a lumbar series is planned from the
sacrum: how far it reaches up differs far more than how far it reaches down.

Intensities stay as they are, and masks in the source's own scheme; both are prepared when they are served, in one of two ways:

``mended``
    a volume's 0.5 and 99.5 percentile become 0 and 1, as in slices (see data.slices.scale_to_uint8).
``as_printed``
    the window -1000..3096 becomes 0..1, for every volume alike (`unetr`, listing); a window for CT, where intensities are
    Hounsfield units.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch.utils.data import Dataset

from spider_utils.data.augment import Augment, item_seed
from spider_utils.data.slices import PERCENTILES, intensity_range
from spider_utils.data.sources import Source
from spider_utils.data.stores import ArrayStore, is_store
from spider_utils.data.volumes import Volume, resample, resample_like
from spider_utils.errors import KitError
from spider_utils.files import fingerprint
from spider_utils.labels import get_scheme
from spider_utils.locks import make_once
from spider_utils.processes import map_in_threads
from spider_utils.runtime import cpu_count, progress

VOLUME_STORE_VERSION = 1  # raised whenever the voxels or the table of a store would come out differently
PREPARATIONS = ("mended", "as_printed")
CT_WINDOW = (-1000.0, 3096.0)


def fit_volume(
    volume: Volume, size: tuple[int, int, int], is_mask: bool = False, voxel_mm: tuple[float, float, float] | None = None
) -> Volume:
    """Resample a volume to so many voxels.

    Args:
        volume: image or mask.
        size: slices, rows, columns.
        is_mask: nearest neighbour; images are interpolated linearly.
        voxel_mm: spacing along (slice, row, column); along an axis on which it is larger than the image's, the image is smoothed
            first, by the Gaussian that makes voxels of the one size of voxels of the other (variances of boxes). None stretches
            the grid over the whole field of view and smooths nothing, as the source.

    Returns:
        Volume of ``size``. Without ``voxel_mm`` its outer edges are where they were. With it, slices and columns have the old
        centre, the lower edge is where it was, and voxels beyond the field of view are 0.
    """
    shape, spacing = np.array(volume.array.shape), np.array(volume.spacing)
    if voxel_mm is not None and not is_mask:
        sigma = np.sqrt(np.maximum(0, (np.array(voxel_mm) / spacing) ** 2 - 1) / 12)  # in voxels of the image
        volume = volume.with_array(ndimage.gaussian_filter(volume.array.astype(np.float32), sigma, mode="nearest", truncate=2))
    if voxel_mm is None:
        return resample(volume, tuple(shape * spacing / np.array(size)), is_mask)
    room = shape * spacing - np.array(size) * np.array(voxel_mm)  # of the field of view beside the box, in mm
    first = room * (0.5, 1.0, 0.5) + (np.array(voxel_mm) - spacing) / 2  # between the centres of the first voxels
    origin = np.array(volume.origin) + volume.direction @ first
    grid = Volume(np.empty(size, np.uint8), tuple(map(float, voxel_mm)), tuple(origin), volume.direction)
    return resample_like(volume, grid, is_mask)


def covering_size(
    volume: Volume, size: tuple[int, int, int], voxel_mm: tuple[float, float, float] | None
) -> tuple[int, int, int]:
    """The grid of this voxel size that covers a volume's whole field of view, on no side smaller than ``size``."""
    if voxel_mm is None:
        return tuple(size)
    # A thousandth of a voxel more is rounding, no need for another one.
    needed = np.ceil(np.array(volume.array.shape) * volume.spacing / np.array(voxel_mm) - 1e-3).astype(int)
    return tuple(int(n) for n in np.maximum(size, needed))


def prepare(images: np.ndarray, preparation: str, low: float, high: float) -> np.ndarray:
    """Intensities as a network sees them.

    Args:
        images: of any shape.
        preparation: one of PREPARATIONS.
        low, high: the volume's own range (see data.slices.intensity_range), for "mended".

    Returns:
        float32 of the same shape, 0 to 1; values beyond the range are clipped.

    Raises:
        KitError: unknown preparation.
    """
    check_preparation(preparation)
    if preparation == "as_printed":
        low, high = CT_WINDOW
    if high <= low:
        return np.zeros(images.shape, np.float32)
    scaled = (np.asarray(images, np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def check_preparation(preparation: str) -> None:
    """Raise KitError unless it is one of PREPARATIONS."""
    if preparation not in PREPARATIONS:
        raise KitError(f"preparation must be one of {', '.join(PREPARATIONS)}, not '{preparation}'")


class VolumeStore(ArrayStore):
    """Series of one grid in memory-mapped files, with a table.

    Attributes:
        images: (n, slices, rows, columns) float32, intensities as the series have them.
        masks: (n, slices, rows, columns) uint8, in ``scheme``.
        table: one row a series: case, patient, sequence, subset, low and high (the range of its intensities, of the native
            volume), native_slices, native_rows, native_columns, slice_mm, row_mm, column_mm (native spacing).
    """

    what, version = "volume store", VOLUME_STORE_VERSION

    @property
    def voxel_mm(self) -> tuple[float, float, float] | None:
        """The one voxel size of all series; None where the grid is stretched over each."""
        return None if self._card["voxel_mm"] is None else tuple(self._card["voxel_mm"])

    @property
    def size(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the grid."""
        return tuple(self.images.shape[1:])

    def spacing_mm(self, row: int) -> tuple[float, float, float]:
        """Spacing of a series in the grid, along (slice, row, column)."""
        if self.voxel_mm is not None:
            return self.voxel_mm
        one = self.table.iloc[row]
        native = [one[f"native_{axis}s"] * one[f"{axis}_mm"] for axis in ("slice", "row", "column")]
        return tuple(float(length) / n for length, n in zip(native, self.size, strict=True))

    def prepared(self, row: int, preparation: str) -> np.ndarray:
        """The image of a row as a network sees it: float32 (slices, rows, columns), 0 to 1 (see ``prepare``)."""
        low, high = self.table["low"].iat[row], self.table["high"].iat[row]
        return prepare(self.images[row], preparation, low, high)

    def __repr__(self) -> str:
        size = (self.images.nbytes + self.masks.nbytes) / 1e6
        origin = f"{len(self)} series of {self.table['patient'].nunique()} patients"
        grid = "x".join(map(str, self.size)) + (
            "" if self.voxel_mm is None else f" of {' x '.join(f'{mm:.3g}' for mm in self.voxel_mm)} mm"
        )
        return f"VolumeStore('{self.kind}', {origin} as {grid}, scheme '{self.scheme}', {size:.0f} MB)"


def build_volume_store(
    source: Source, folder: str | Path, size: tuple[int, int, int], voxel_mm: tuple[float, float, float] | None = None
) -> VolumeStore:
    """Resample every series of a source to one grid, or open the store when it is there and up to date.

    Args:
        source: where the series come from.
        folder: of the store; written beside, then renamed, so that a killed build leaves nothing behind.
        size: slices, rows and columns.
        voxel_mm: see ``fit_volume``.

    Raises:
        DataError: a series cannot be read (it is named), or the disk is full.
    """
    series = list(source.cases.itertuples(index=False))  # says first what is unpaired
    folder = Path(folder)
    key = fingerprint([VOLUME_STORE_VERSION, source.kind, list(size), voxel_mm, PERCENTILES, source.state()])
    make_once(folder, lambda: is_store(folder, key), lambda: _write(source, series, folder, size, voxel_mm, key))
    return VolumeStore.open(folder)


def _write(
    source: Source,
    series: list[Any],
    folder: Path,
    size: tuple[int, int, int],
    voxel_mm: tuple[float, float, float] | None,
    key: str,
) -> None:
    fitted = map_in_threads(lambda row: _fit(source, row, size, voxel_mm), series, cpu_count())  # reading, beside each other
    card = {"kind": source.kind, "scheme": get_scheme(source.scheme).name, "percentiles": PERCENTILES, "key": key}
    card["voxel_mm"] = voxel_mm
    parts = progress(fitted, desc="resampling series", total=len(series))
    VolumeStore.write(folder, parts, card, served=["low", "high"], n_items=len(series))


def _fit(
    source: Source, row: Any, size: tuple[int, int, int], voxel_mm: tuple[float, float, float] | None
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Image and mask of one series in the grid, (1, slices, rows, columns), and its row of the table."""
    case = source.load(row.case)
    low, high = intensity_range(case.image.array)
    image, mask = (fit_volume(one, size, is_mask, voxel_mm).array for one, is_mask in ((case.image, False), (case.mask, True)))
    facts = {
        "case": case.case,
        "patient": case.patient,
        "sequence": case.sequence,
        "subset": row.subset,
        "low": low,
        "high": high,
    }
    for n, mm, axis in zip(case.image.array.shape, case.image.spacing, ("slice", "row", "column"), strict=True):
        facts |= {f"native_{axis}s": n, f"{axis}_mm": mm}
    return image.astype(np.float32, copy=False)[None], mask.astype(np.uint8)[None], pd.DataFrame([facts])


class VolumeDataset(Dataset):
    """Volumes of a store for training or validation.

    An item is (image, mask): float32 (1, slices, rows, columns) in [0, 1] and uint8 (slices, rows, columns).

    Args:
        store: where the volumes are.
        rows: row numbers of the store's table.
        scheme: label scheme to learn; the store's own when None.
        preparation: one of PREPARATIONS.
        augment: applied to image and mask together, all slices alike: they come as channels, float32 (rows, columns, slices);
            every second time, by chance, in reversed order. None leaves them as they are.
        seed: the random numbers of an item's augmentation follow from (seed, epoch, item) alone, so that an interrupted run
            repeats them when it goes on.
        repeats: times that each volume comes in an epoch, augmented anew; few volumes make short epochs, and each epoch ends
            with a validation.
    """

    def __init__(
        self,
        store: VolumeStore,
        rows: np.ndarray,
        scheme: str | None = None,
        preparation: str = "mended",
        augment: Augment | None = None,
        seed: int = 0,
        repeats: int = 1,
    ):
        check_preparation(preparation)
        self.store, self.rows, self.preparation, self.augment = store, np.asarray(rows, dtype=np.int64), preparation, augment
        self.seed, self.repeats = seed, repeats
        self.scheme = get_scheme(scheme or store.scheme)
        self._lookup, self.report = store.lookup(self.scheme.name)
        self._epoch = 0

    def class_shares(self) -> np.ndarray:
        """Share of the voxels of each class of the scheme, over all volumes, without augmentation."""
        counts = sum(np.bincount(self._lookup[self.store.masks[row]].reshape(-1), minlength=256) for row in self.rows)
        return counts[: max(self.scheme.values) + 1] / counts.sum()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentation draws its random numbers for."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self.repeats * len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = int(self.rows[index % len(self.rows)])
        image, mask = self.store.prepared(row, self.preparation), self._lookup[self.store.masks[row]]
        if self.augment is not None:
            seed = item_seed(self.seed, self._epoch, index)
            if seed % 2:  # left and right of a spine look alike, and no label has a side
                image, mask = image[::-1], mask[::-1]
            behind = (np.ascontiguousarray(np.moveaxis(array, 0, -1)) for array in (image, mask))
            image, mask = self.augment(*behind, seed)
            image, mask = (np.ascontiguousarray(np.moveaxis(array, -1, 0)) for array in (image, mask))
        return torch.from_numpy(image)[None], torch.from_numpy(mask)
