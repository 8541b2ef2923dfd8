"""Pictures of labelled points for classifiers: the whole slice as `misan` prepares it, or a crop around the point.

As printed (sections 3.3 and 3.9.3): resize, ``astype(uint8)``, histogram equalisation, Gaussian smoothing, values from 0 to 1.
Mended: all grey levels equalised, and a square of so many millimetres around the labelled point, so that the five levels that
share a sagittal slice become five different pictures.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch.nn import functional
from torch.utils.data import Dataset

from spider_utils.data.augment import item_seed
from spider_utils.data.dicom import read_header
from spider_utils.data.rsna import RsnaSet
from spider_utils.data.rsna_tables import CONDITIONS
from spider_utils.data.stores import is_store
from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, fingerprint, read_json, require_free_space, write_csv, write_json
from spider_utils.locks import make_once
from spider_utils.runtime import progress

STORE_VERSION = 2  # raised whenever a store would come out differently
DENOISE_PIXELS = 0.8  # sigma; `misan` says "Gaussian" and no strength: that of OpenCV's 3 x 3 kernel
CLIPPED = (0.005, 0.995)  # quantiles between which grey levels are equalised
FLIPS = ("none", "mirrored", "as_printed")
TARGETS = ("condition", "level", "severity")
AXIAL = "Axial T2"
_ROTATION_DEGREES, _ZOOM, _BRIGHTNESS = 10.0, 0.1, 0.15
_AGE_MIDDLE, _AGE_SPREAD = 50.0, 20.0  # years
_SEX = {"F": -1.0, "M": 1.0}
_SERVED = ("study", "series", "instance", "description", "misan_class", "misan_level", "grade", "age", "sex")


def _mirrored(condition: str) -> str:
    swapped = {"left": "right", "right": "left"}
    side, _, rest = condition.partition("_")
    return f"{swapped[side]}_{rest}" if side in swapped else condition


MIRRORED_CLASS = (*(CONDITIONS.index(_mirrored(name)) for name in CONDITIONS), len(CONDITIONS))
"""`misan`'s class of what was class k, in a mirror: left and right exchanged, canal and healthy as they were."""


@dataclass(frozen=True)
class PictureSettings:
    """How a slice becomes a picture.

    Attributes:
        side: rows and columns of the picture.
        crop_mm: side of the square around the point; None takes the whole slice, its sides stretched to a square.
        wrapped: take every grey level modulo 256 before equalising, as `misan`'s listing does; else equalise all of them.
    """

    side: int
    crop_mm: float | None
    wrapped: bool = False


# ----------------------------------------------------------------------------------------------------------- grey levels


def equalise_8_bit(image: np.ndarray) -> np.ndarray:
    """Histogram equalisation of a uint8 picture, as OpenCV's equalizeHist does it: uint8 of the same shape."""
    counts = np.bincount(image.reshape(-1), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    if counts[first] == image.size:
        return image.copy()
    below = np.cumsum(counts) - counts[first]
    return np.rint(below * (255 / (image.size - counts[first]))).clip(0, 255).astype(np.uint8)[image]


def equalise_wrapped(image: np.ndarray) -> np.ndarray:
    """What ``equalizeHist(image.astype(uint8))`` makes of it: grey levels modulo 256, so that 255 is white and 256 black.

    Args:
        image: (rows, columns), numbers of 12 or 16 bits as a scanner stores them.

    Returns:
        uint8 of the same shape.
    """
    return equalise_8_bit(np.asarray(image).astype(np.int64).astype(np.uint8))


def equalise(image: np.ndarray) -> np.ndarray:
    """Histogram equalisation over all grey levels that there are: a pixel becomes the share of pixels that are darker.

    What lies beyond the quantiles CLIPPED is cut to them first. No brighter pixel ever becomes darker than another.

    Args:
        image: (rows, columns), any numbers.

    Returns:
        float32 of the same shape, 0 to 1; zeros where all pixels are equal.
    """
    values = np.clip(image, *np.quantile(image, CLIPPED))
    levels, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(levels) == 1:
        return np.zeros(image.shape, np.float32)
    below = np.cumsum(counts) - counts[0]  # equalise_8_bit's formula with as many levels as there are
    return (below / below[-1]).astype(np.float32)[place.reshape(image.shape)]


# -------------------------------------------------------------------------------------------------------------- geometry


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """A picture stretched to ``side`` x ``side``, bilinear between the nearest four pixels, as OpenCV does it; float32."""
    given = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    return functional.interpolate(given, (side, side), mode="bilinear", align_corners=False)[0, 0].numpy()


def crop(image: np.ndarray, spacing: tuple[float, float], x: float, y: float, mm: float, side: int) -> np.ndarray:
    """A square of ``mm`` around a point, in ``side`` x ``side`` pixels of equal size; 0 beyond the slice.

    Args:
        image: float (rows, columns).
        spacing: mm between rows and between columns.
        x, y: column and row of the point, in pixels; whole numbers are the centres of pixels.
        mm: side of the square.
        side: pixels.
    """
    step = mm / side
    along = (np.arange(side) - (side - 1) / 2) * step
    smooth = [max(0.0, 0.5 * (step / one - 1)) for one in spacing]  # what the picture's pixels cannot show is averaged first
    image = ndimage.gaussian_filter(np.asarray(image, np.float32), smooth) if any(smooth) else image
    where = np.meshgrid(y + along / spacing[0], x + along / spacing[1], indexing="ij")
    return ndimage.map_coordinates(image, where, order=1, mode="constant", output=np.float32)


def grey_levels(image: np.ndarray, settings: PictureSettings) -> np.ndarray:
    """A slice with its grey levels equalised and smoothed: float32 from 0 to 1; whole slices are stretched to a square first.

    Args:
        image: the slice as stored.
        settings: see PictureSettings.
    """
    if settings.crop_mm is None:
        image = resize(image, settings.side)
    if settings.wrapped:
        grey = equalise_wrapped(np.rint(image)).astype(np.float32) / 255
    else:
        grey = equalise(image)
    return ndimage.gaussian_filter(grey, DENOISE_PIXELS)


def mirror(image: np.ndarray, condition: int, axial: bool) -> tuple[np.ndarray, int]:
    """An axial picture and its class in a mirror; a sagittal picture as it is.

    In an axial slice left and right lie side by side: columns and class turn round together. In a sagittal series left and right
    lie along the slices: no flip within a slice changes its side, so picture and class stay. To exchange the class alone would
    give one picture two answers at random; to turn its columns round, as `misan` does, shows a patient who faces the other way.

    Args:
        image: (..., rows, columns).
        condition: `misan`'s class.
        axial: whether the slice is axial.
    """
    return (np.flip(image, -1), MIRRORED_CLASS[condition]) if axial else (image, condition)


def augmented(image: np.ndarray, seed: int) -> np.ndarray:
    """Turned by up to 10 degrees, enlarged or shrunk by up to a tenth, brighter or darker by up to 0.15: float32 (rows, columns).

    `misan` names rotation, zoom and brightness (sections 3.3 and 3.4) and no strengths.
    """
    random = np.random.default_rng(seed)
    angle = np.deg2rad(random.uniform(-_ROTATION_DEGREES, _ROTATION_DEGREES))
    zoom, light = 1 + random.uniform(-_ZOOM, _ZOOM), random.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    middle = (np.array(image.shape) - 1) / 2
    moved = ndimage.affine_transform(np.asarray(image, np.float32), turn, middle - turn @ middle, order=1, mode="nearest")
    return np.clip(moved + light, 0, 1)


# ----------------------------------------------------------------------------------------------------------------- store


class PictureStore:
    """The pictures of all samples of a set, memory-mapped, with their table.

    Attributes:
        folder: where it lies.
        images: uint8 (samples, side, side).
        table: RsnaSet.samples with age (years) and sex; for splits also patient (the study), case (the image: one slice may hold
            many samples) and slice (the sample's number).
        settings: how the pictures were made.
        fingerprint: changes when a picture, or what is served with it, changes; not when files are only copied or touched.
    """

    def __init__(self, folder: Path, images: np.ndarray, table: pd.DataFrame, card: dict):
        self.folder, self.images, self.table = folder, images, table
        self.settings, self.fingerprint = PictureSettings(**card["settings"]), card["fingerprint"]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a store. Raises DataError when it is missing or damaged."""
        folder = Path(folder)
        card = read_json(folder / "store.json")
        try:
            images = np.load(folder / "images.npy", mmap_mode="r")
            table = pd.read_csv(folder / "table.csv", keep_default_na=False, na_values={"age": [""]})
        except (OSError, ValueError, EOFError) as error:
            problem = f"the store of pictures is damaged ({str(error)[:100]})"
            raise DataError(folder, problem, "Delete the folder; it is rebuilt.") from error
        if len(images) != len(table):
            raise DataError(folder, "the store of pictures is damaged: its parts differ", "Delete the folder; it is rebuilt.")
        return cls(folder, images, table, card)

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple:
        return type(self).open, (self.folder,)  # worker processes map the file anew


def split_keys(samples: pd.DataFrame) -> pd.DataFrame:
    """What ``data.splits`` parts samples by: patient (the study), case (the image) and slice (the sample's number).

    Args:
        samples: of an RsnaSet.
    """
    image = samples["study"].astype(str) + "/" + samples["series"].astype(str) + "/" + samples["instance"].astype(str)
    return pd.DataFrame({"patient": samples["study"], "case": image, "slice": np.arange(len(samples))})


def build_picture_store(rsna: RsnaSet, folder: str | Path, settings: PictureSettings) -> PictureStore:
    """Prepare the picture of every sample once; found where it was made before from the same files.

    Args:
        rsna: the studies.
        folder: of the store.
        settings: of the pictures.

    Raises:
        DataError: the set has no sample, a slice cannot be decoded, or a point lies outside it (the message names it).
    """
    folder = Path(folder)
    key = fingerprint([STORE_VERSION, rsna.state(), asdict(settings)])
    make_once(folder, lambda: is_store(folder, key), lambda: _write(rsna, folder, settings, key))
    return PictureStore.open(folder)


def _write(rsna: RsnaSet, folder: Path, settings: PictureSettings, key: str) -> None:
    samples = rsna.samples
    if samples.empty:
        raise DataError(
            rsna.root, "holds no point with a severity and an image", "Look for what is missing: spider-kit data verify DIR"
        )
    table = samples.drop(columns="path").merge(rsna.patients, on="study", how="left")
    table = table.join(split_keys(samples))
    require_free_space(folder.parent, len(table) * settings.side**2 + 10_000_000, "the store of pictures")
    with atomic_folder(folder, marker="store.json") as partial:
        shape = (len(table), settings.side, settings.side)
        out = np.lib.format.open_memmap(partial / "images.npy", "w+", np.uint8, shape)
        for path, rows in progress(list(samples.groupby("path")), desc="preparing slices", lines=2):
            one, image = read_header(Path(path)), rsna.picture(path)
            grey = grey_levels(image, settings)
            for row in rows.itertuples():
                if not (-0.5 <= row.x < one.shape[1] - 0.5 and -0.5 <= row.y < one.shape[0] - 0.5):
                    rsna.picture(path, row.x, row.y)  # raises, and says which point
                if settings.crop_mm is None:
                    made = grey
                else:
                    made = crop(grey, one.spacing, row.x, row.y, settings.crop_mm, settings.side)
                out[row.Index] = np.rint(made * 255).clip(0, 255)
        out.flush()
        write_csv(partial / "table.csv", table)
        # The key, made of names and times of files, only says when to look again; runs go by what a network is given.
        served = table[list(_SERVED)].to_csv(index=False, lineterminator="\n")
        digest = hashlib.sha256((fingerprint([STORE_VERSION, asdict(settings)]) + served).encode())
        for picture in out:
            digest.update(picture.tobytes())
        card = {"key": key, "fingerprint": digest.hexdigest()[:16], "settings": asdict(settings), "kind": rsna.kind}
        write_json(partial / "store.json", card)


# --------------------------------------------------------------------------------------------------------------- dataset


def metadata_of(table: pd.DataFrame) -> np.ndarray:
    """Age and sex as a network takes them: float32 (n, 2), both about -1 to 1, and 0 where they are not known."""
    age = ((pd.to_numeric(table["age"], errors="coerce") - _AGE_MIDDLE) / _AGE_SPREAD).fillna(0.0)
    return np.stack([age, table["sex"].map(_SEX).fillna(0.0)], axis=1).astype(np.float32)


class FindingPictures(Dataset):
    """Samples of a store for ``training.loop.fit``: ((image, metadata), truth), or ((image,), truth) without metadata.

    Image float32 (1, side, side) from 0 to 1, which networks spread over three channels; truth int64 (heads,).

    Args:
        store: of the pictures.
        rows: which samples.
        heads: columns of the truth, of TARGETS.
        augment: whether pictures are turned, zoomed, brightened and flipped.
        flip: what half of the augmented pictures undergo: "none"; "mirrored" (``mirror``: axial ones, left becomes right in the
            label as well); "as_printed" (columns of any slice turned round, the label left alone).
        metadata: whether age and sex come along.
        seed: all random numbers follow from it, the epoch and the sample.

    Raises:
        ValueError: unknown flip or head.
    """

    def __init__(
        self,
        store: PictureStore,
        rows: np.ndarray,
        heads: tuple[str, ...] = TARGETS[:2],
        augment: bool = False,
        flip: str = "none",
        metadata: bool = False,
        seed: int = 0,
    ):
        if flip not in FLIPS:
            raise ValueError(f"flip must be one of {', '.join(FLIPS)}, not '{flip}'")
        if unknown := set(heads) - set(TARGETS):
            raise ValueError(f"unknown head {', '.join(sorted(unknown))}. Known are: {', '.join(TARGETS)}")
        self.store, self.rows, self.heads = store, np.asarray(rows), tuple(heads)
        self.augment, self.flip, self.metadata, self.seed, self._epoch = augment, flip, metadata, seed, 0
        columns = dict(zip(TARGETS, ("misan_class", "misan_level", "grade"), strict=True))
        self._truth = store.table[[columns[head] for head in self.heads]].to_numpy(np.int64)
        self._axial = (store.table["description"] == AXIAL).to_numpy()
        self._known = metadata_of(store.table)

    def set_epoch(self, epoch: int) -> None:
        """Each epoch augments anew."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        row = int(self.rows[index])
        image, truth = self.store.images[row] / np.float32(255), self._truth[row].copy()
        if self.augment:
            seed = item_seed(self.seed, self._epoch, row)
            image = augmented(image, seed)
            if self.flip != "none" and np.random.default_rng([seed, 1]).random() < 0.5:
                image, truth = self._flipped(image, truth, bool(self._axial[row]))
        inputs = (torch.from_numpy(np.ascontiguousarray(image, np.float32))[None],)
        if self.metadata:
            inputs += (torch.from_numpy(self._known[row]),)
        return inputs, torch.from_numpy(truth)

    def _flipped(self, image: np.ndarray, truth: np.ndarray, axial: bool) -> tuple[np.ndarray, np.ndarray]:
        if self.flip == "as_printed":
            return np.flip(image, -1), truth
        if "condition" in self.heads:
            place = self.heads.index("condition")
            image, truth[place] = mirror(image, int(truth[place]), axial)
            return image, truth
        return mirror(image, 0, axial)[0], truth
