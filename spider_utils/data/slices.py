"""Sagittal slices of one size: cut from volumes, kept in memory-mapped files, served to networks.

The slice store is built once for a data root, a size and a code version, and read by every 2D network. Masks stay in the
source's own label scheme (every value fits in a byte); a dataset converts them to the scheme that its network learns.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from spider_utils import arrays
from spider_utils.data.augment import Augment, crop_columns, item_seed
from spider_utils.data.sources import Source
from spider_utils.data.stores import ArrayStore, is_store
from spider_utils.files import atomic_folder, atomic_path, fingerprint, write_csv
from spider_utils.labels import colorize, get_scheme
from spider_utils.locks import make_once
from spider_utils.processes import map_in_threads
from spider_utils.runtime import cpu_count, progress

STORE_VERSION = 2  # raised whenever the pixels or the table of a store would come out differently
PERCENTILES = (0.5, 99.5)
CROP_MM = 150.0  # the longer side of a slice below which it is a crop: half of what lumbar MRI shows
_PIECE = 1 << 16  # values


def intensity_range(array: np.ndarray, percentiles: tuple[float, float] = PERCENTILES) -> tuple[float, float]:
    """The two percentiles of a whole volume's intensities (of every so many slices where there are many); uint8: 0 and 255."""
    if array.dtype == np.uint8:
        return 0.0, 255.0
    low, high = arrays.percentiles(array[:: max(1, array.shape[0] // 32)], percentiles)
    return low, high


def scale_to_uint8(array: np.ndarray, percentiles: tuple[float, float] = PERCENTILES) -> np.ndarray:
    """Map a volume's intensities to 0..255, the given percentiles of the whole volume to the ends; uint8 passes unchanged.

    MR intensities have no unit, so a fixed window (as `unetr` uses, made for CT) cannot fit every scanner; percentiles do.
    """
    if array.dtype == np.uint8:
        return array
    low, high = intensity_range(array, percentiles)
    if high <= low:
        return np.zeros(array.shape, np.uint8)
    values = arrays.in_memory_order(array).reshape(-1)
    scaled, buffer = np.empty(values.size, np.uint8), np.empty(_PIECE, np.float32)
    for start in range(0, values.size, _PIECE):  # pieces stay in the processor's cache
        piece = values[start : start + _PIECE]
        shades = np.subtract(piece, np.float32(low), out=buffer[: piece.size], dtype=np.float32, casting="unsafe")
        shades *= 255 / (high - low)
        scaled[start : start + _PIECE] = np.clip(np.rint(shades, out=shades), 0, 255, out=shades)
    return arrays.from_memory_order(scaled, array)


@dataclass(frozen=True)
class SliceGrid:
    """A fixed number of rows and columns into which slices of any size are fitted, their proportions in mm kept.

    The whole field of view is scaled until it fits, centred, and the rest filled with zeros.

    Attributes:
        rows, columns: of the grid.
        field_mm: height and width that the grid shows at least of a crop (longer side below CROP_MM), so that a network sees it
            at the size at which it learned; None magnifies crops like any other slice.
    """

    rows: int
    columns: int
    field_mm: tuple[float, float] | None = None

    def placement(self, native_shape: tuple[int, int], spacing_mm: tuple[float, float]) -> tuple[slice, slice, float]:
        """Where a native slice lies in the grid: row range, column range, and the edge of a grid pixel in mm."""
        height, width = native_shape[0] * spacing_mm[0], native_shape[1] * spacing_mm[1]
        pixel_mm = max(height / self.rows, width / self.columns)
        if self.field_mm and max(height, width) < CROP_MM:
            pixel_mm = max(pixel_mm, self.field_mm[0] / self.rows, self.field_mm[1] / self.columns)
        rows = min(self.rows, max(1, round(height / pixel_mm)))
        columns = min(self.columns, max(1, round(width / pixel_mm)))
        top, left = (self.rows - rows) // 2, (self.columns - columns) // 2
        return slice(top, top + rows), slice(left, left + columns), pixel_mm

    def fit(self, slices: np.ndarray, spacing_mm: tuple[float, float], is_mask: bool = False) -> np.ndarray:
        """Native slices to the grid.

        Args:
            slices: (..., native rows, native columns).
            spacing_mm: row and column spacing of the native slices.
            is_mask: nearest neighbour; images are interpolated linearly with anti-aliasing.

        Returns:
            (..., rows, columns), same dtype.
        """
        rows, columns, _ = self.placement(slices.shape[-2:], spacing_mm)
        out = np.zeros((*slices.shape[:-2], self.rows, self.columns), slices.dtype)
        out[..., rows, columns] = _resize(slices, (rows.stop - rows.start, columns.stop - columns.start), is_mask)
        return out

    def unfit(
        self, array: np.ndarray, native_shape: tuple[int, int], spacing_mm: tuple[float, float], is_mask: bool = False
    ) -> np.ndarray:
        """The way back: (..., rows, columns) in the grid to (..., native rows, native columns)."""
        rows, columns, _ = self.placement(native_shape, spacing_mm)
        return _resize(array[..., rows, columns], native_shape, is_mask)


def _resize(array: np.ndarray, shape: tuple[int, int], is_mask: bool) -> np.ndarray:
    if array.shape[-2:] == tuple(shape):
        return array
    if is_mask:
        rows, columns = (_nearest(*sides) for sides in zip(array.shape[-2:], shape, strict=True))
        chosen = array[..., rows[:, None], columns]
        if chosen.dtype != np.uint8 and chosen.size and (chosen.min() < 0 or chosen.max() > 255):
            raise ValueError(f"mask values must lie between 0 and 255 here, not {chosen.min()} to {chosen.max()}")
        return chosen
    resized = np.empty((*array.shape[:-2], *shape), array.dtype)
    # One after the other, so that a few stay in the processor's cache; class probabilities of a slice beside each other.
    for index in np.ndindex(array.shape[: -3 if array.dtype.kind == "f" else -2]):
        planes = torch.from_numpy(np.ascontiguousarray(array[index], dtype=np.float32))
        planes = planes.reshape(1, -1, *planes.shape[-2:])
        fitted = F.interpolate(planes, size=shape, mode="bilinear", antialias=True, align_corners=False)
        resized[index] = (fitted.round_() if array.dtype.kind in "iu" else fitted).reshape(resized[index].shape)
    return resized


def _nearest(there: int, wanted: int) -> np.ndarray:
    """Which of so many pixels in a row are nearest to the centres of so many others over the same length, as torch has it."""
    indices = torch.arange(there, dtype=torch.float32).reshape(1, 1, -1)
    return F.interpolate(indices, size=wanted, mode="nearest-exact").reshape(-1).long().numpy()


class SliceStore(ArrayStore):
    """Slices of one size in memory-mapped files, with a table.

    Attributes:
        images: (n, rows, columns) uint8, memory-mapped.
        masks: (n, rows, columns) uint8, memory-mapped, in ``scheme``.
        table: one row a slice: case, patient, sequence, slice (index from the left), subset, pixel_mm (edge of a pixel of
            the store), native_rows, native_columns, slice_mm, row_mm, column_mm (native spacing), labels (number of different
            labels), labelled (share of labelled pixels).
    """

    what, version = "slice store", STORE_VERSION

    @property
    def grid(self) -> SliceGrid:
        """The grid that its slices were fitted into."""
        return SliceGrid(*self.images.shape[1:])

    def windows(self, neighbours: int) -> np.ndarray:
        """Rows of every slice's neighbours within its series, int64 (slices, 2 neighbours + 1): see ``windows``."""
        lengths = self.table.groupby("case", sort=False).size().to_numpy()  # a series' slices lie one after the other
        starts = np.cumsum(lengths) - lengths
        return np.concatenate([start + windows(n, neighbours) for start, n in zip(starts, lengths, strict=True)])

    def __repr__(self) -> str:
        size = (self.images.nbytes + self.masks.nbytes) / 1e6
        origin = f"{self.table['case'].nunique()} series of {self.table['patient'].nunique()} patients"
        slices = f"{len(self)} slices of {self.grid.rows}x{self.grid.columns}"
        return f"SliceStore('{self.kind}', {slices} from {origin}, scheme '{self.scheme}', {size:.0f} MB)"


def store_key(source: Source, size: tuple[int, int]) -> str:
    """What a store depends on, as a short name: the files (name, size, time of change), the slice size and the code's version.

    Tables count too: cases.csv gives the pixel spacing of the released slices, overview.csv the subset.
    """
    return fingerprint([STORE_VERSION, source.kind, list(size), PERCENTILES, source.state()])


def build_store(source: Source, folder: str | Path, size: tuple[int, int]) -> SliceStore:
    """Cut every series of a source into sagittal slices of one size, or open the store when it is there and up to date.

    Args:
        source: where the series come from.
        folder: of the store; written beside, then renamed, so that a killed build leaves nothing behind.
        size: rows and columns of a slice.

    Raises:
        DataError: a series cannot be read (it is named), or the disk is full.
    """
    series = list(source.cases.itertuples(index=False))  # says first what is unpaired
    folder, key = Path(folder), store_key(source, size)
    make_once(folder, lambda: is_store(folder, key), lambda: _write_store(source, series, folder, size, key))
    return SliceStore.open(folder)


def _write_store(source: Source, series: list[Any], folder: Path, size: tuple[int, int], key: str) -> None:
    """Build the store of ``series``, rows of ``source.cases``."""
    grid = SliceGrid(*size)
    scheme = get_scheme(source.scheme)
    with _one_torch_thread():
        cut = map_in_threads(lambda row: _cut(source, grid, row), series, cpu_count())  # reading and inflating, beside each other
        parts = progress(cut, desc="cutting slices", total=len(series))
        write_store(folder, parts, source.kind, scheme.name, key)


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Threads that begin meanwhile get no further ones from torch: where each core has its series, those only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_store(
    folder: Path, parts: Iterable[tuple[np.ndarray, np.ndarray, pd.DataFrame]], kind: str, scheme: str, key: str
) -> None:
    """Write slices as a store, beside first and then renamed.

    Args:
        folder: of the store.
        parts: images and masks, uint8 (n, rows, columns), masks in ``scheme``; and n rows of the table, see SliceStore.
        kind: of the source that they come from.
        key: what the store was made from; it is made anew when that changes.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    SliceStore.write(folder, parts, {"kind": kind, "scheme": scheme, "percentiles": PERCENTILES, "key": key})


def _cut(source: Source, grid: SliceGrid, row: Any) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Images and masks of one series in the grid, and their rows of the table; ``row`` is its row of ``source.cases``."""
    volumes = source.volumes(row.case, copy=False)
    image = next(volumes)
    (slice_mm, *spacing), native = image.spacing, image.array.shape[1:]
    images = grid.fit(scale_to_uint8(image.array), spacing)
    del image  # its room is the mask's
    masks = grid.fit(next(volumes).array, spacing, is_mask=True).astype(np.uint8, copy=False)
    counts = np.array([np.bincount(mask.reshape(-1), minlength=256) for mask in masks])
    rows = {
        "case": row.case,
        "patient": int(row.patient),
        "sequence": row.sequence,
        "slice": range(len(images)),
        "subset": row.subset,
        "pixel_mm": round(grid.placement(native, spacing)[2], 5),
        "native_rows": native[0],
        "native_columns": native[1],
        "slice_mm": slice_mm,
        "row_mm": spacing[0],
        "column_mm": spacing[1],
        "labels": np.count_nonzero(counts, axis=1) - 1,
        "labelled": [round(float(n) / masks[0].size, 5) for n in counts[:, 1:].sum(axis=1)],
    }
    return images, masks, pd.DataFrame(rows)


def thin_out(table: pd.DataFrame, rows: np.ndarray, gap_mm: float) -> np.ndarray:
    """Those of ``rows`` whose slices lie about ``gap_mm`` or more apart within their series.

    A T2_SPACE series has four times as many slices as a T1 or T2 one, each nearly a copy of the next; left in, a few
    patients would fill most of an epoch.

    Args:
        table: of a slice store.
        rows: row numbers.
        gap_mm: smallest distance between slices, in mm; 0 keeps all.
    """
    chosen = table.iloc[rows]
    stride = np.maximum(1, np.rint(gap_mm / chosen["slice_mm"])).astype(int)
    return rows[(chosen["slice"] % stride == 0).to_numpy()]


def windows(n_slices: int, neighbours: int, wanted: slice = slice(None)) -> np.ndarray:
    """Which slices a network sees that is given the neighbours of a slice as further channels (often called 2.5D).

    Neighbours are counted, not measured: the next slice of T2_SPACE is a millimetre away, of T1 and T2 several.

    Args:
        n_slices: of the series.
        neighbours: on each side.
        wanted: the slices in question; all when left out.

    Returns:
        int64 (slices, 2 neighbours + 1), from the left neighbours to the right ones. Beyond an end the last slice is repeated.
    """
    around = np.arange(n_slices)[wanted, None] + np.arange(-neighbours, neighbours + 1)
    return np.clip(around, 0, n_slices - 1)


class SliceDataset(Dataset):
    """Slices of a store for a network, in the order of ``rows``.

    An item is (image, mask): float32 (channels, rows, columns) in [0, 1] and uint8 (rows, columns); losses want the mask as
    int64, which is eight times as much to copy, so the fit loop converts it on the device. A whole batch can be asked for at once
    with ``__getitems__``, as torch's DataLoader does, which saves most of the cost of small items.

    Args:
        store: where the slices are.
        rows: row numbers of the store's table.
        scheme: label scheme to learn; the store's own when None.
        augment: applied to image and mask together; None leaves them as they are.
        columns: width of the strip that is cut out at random (see ``crop_columns``); None serves whole slices.
        seed: the random numbers of an item's augmentation follow from (seed, epoch, row) alone, so that an interrupted run
            repeats them when it goes on.
        neighbours: slices on each side that come with a slice as further channels (see ``windows``); the mask is that of the
            slice itself. Neighbours come from the whole store, whatever ``rows`` holds.
    """

    def __init__(
        self,
        store: SliceStore,
        rows: np.ndarray,
        scheme: str | None = None,
        augment: Augment | None = None,
        columns: int | None = None,
        seed: int = 0,
        neighbours: int = 0,
    ):
        self.store, self.rows, self.augment, self.columns = store, np.asarray(rows, dtype=np.int64), augment, columns
        self.seed = seed
        self._windows = store.windows(neighbours) if neighbours else None
        self.scheme = get_scheme(scheme or store.scheme)
        self._lookup, self.report = store.lookup(self.scheme.name)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentation draws its random numbers for."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def _augmented(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        seed = item_seed(self.seed, self._epoch, row)
        image, mask = np.array(self._images(row)), self._lookup[self.store.masks[row]]
        if self._windows is not None:
            image = np.ascontiguousarray(np.moveaxis(image, 0, -1))
        if self.augment is not None:
            image, mask = self.augment(image, mask, seed)
        if self.columns is not None:
            image, mask = crop_columns(image, mask, self.columns, seed)
        return (image if self._windows is None else np.moveaxis(image, -1, 0)), mask

    def _images(self, rows: int | np.ndarray) -> np.ndarray:
        """uint8 (..., rows, columns), or (..., channels, rows, columns) with neighbours."""
        return self.store.images[rows if self._windows is None else self._windows[rows]]

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        rows = self.rows[indices]
        if self.augment is not None or self.columns is not None:
            pairs = [self._augmented(int(row)) for row in rows]
            images, masks = np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])
        else:
            images, masks = self._images(rows), self.store.masks[rows]
            if self.scheme.name != self.store.scheme:
                # bytes.translate looks bytes up three times faster than numpy's indexing (make bench).
                masks = np.frombuffer(bytearray(masks.tobytes().translate(self._lookup.tobytes())), np.uint8).reshape(masks.shape)
        # numpy, not torch: torch would start all cores for a millisecond's work and wait for the busiest.
        image_batch = torch.from_numpy(np.multiply(images, np.float32(1 / 255), dtype=np.float32))
        image_batch = image_batch[:, None] if self._windows is None else image_batch
        return list(zip(image_batch, torch.from_numpy(masks), strict=True))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.__getitems__([index])[0]


def export_png(store: SliceStore, folder: str | Path, scheme: str | None = None, color_masks: bool = True) -> Path:
    """Write a store as PNG files for looking at and sharing: images/, masks/ (label values) and, on request, colors/.

    Files are named <case>_slice<n>.png. Training reads the store, not these.

    Raises:
        DataError: the disk is full or the folder cannot be written; nothing is left half written.
    """
    from PIL import Image

    scheme = scheme or store.scheme
    lookup, _ = store.lookup(scheme)
    with atomic_folder(folder, marker="slices.csv") as partial:
        for name in ("images", "masks", *(["colors"] if color_masks else [])):
            (partial / name).mkdir()
        for row in progress(list(store.table.itertuples()), desc="writing PNG"):
            name, mask = f"{row.case}_slice{row.slice}.png", lookup[store.masks[row.Index]]
            Image.fromarray(np.asarray(store.images[row.Index])).save(partial / "images" / name)
            Image.fromarray(mask).save(partial / "masks" / name)
            if color_masks:
                Image.fromarray(colorize(mask, scheme)).save(partial / "colors" / name)
        write_csv(partial / "slices.csv", store.table)
        with atomic_path(partial / "labels.json") as path:
            path.write_text(json.dumps({str(v): n for v, n in get_scheme(scheme).names.items()}, indent=2), encoding="utf-8")
    return Path(folder)
