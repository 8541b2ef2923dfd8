"""Slices of a volume along any of its three planes, with several contrasts as channels, for networks of `triplanar`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from spider_utils.data.augment import Augment, item_seed
from spider_utils.data.discs import DiscCase
from spider_utils.data.slices import scale_to_uint8
from spider_utils.data.volumes import resample

PLANES = {"sagittal": 0, "axial": 1, "coronal": 2}  # plane -> axis of (slice, row, column) that runs across it
CHANNELS = 3  # `triplanar` shows its networks the three most useful contrasts, in place of red, green and blue
ABOVE_MM = 6.0  # left above the highest labelled disc when what lies further up is cut off: less than half a vertebra


def cut(volume: np.ndarray, plane: str) -> np.ndarray:
    """The slices of an array (..., slice, row, column) along a plane: (slices of the plane, ..., rows, columns), a view."""
    return np.moveaxis(volume, PLANES[plane] - 3, 0)


def join(slices: np.ndarray, plane: str) -> np.ndarray:
    """The way back: slices (n, ..., rows, columns) of a plane as (..., slice, row, column), a view."""
    return np.moveaxis(slices, 0, PLANES[plane] - 3)


def relative_positions(shape: Sequence[int], plane: str, middle: float | None = None, reach: float | None = None) -> np.ndarray:
    """Where each voxel of (slice, row, column) lies along a plane's normal: float32 of ``shape``, the middle 0.

    Args:
        shape: of the volume.
        plane: whose normal.
        middle: index that is 0; the middle of the volume when None.
        reach: voxels from 0 to 1; half of the volume when None, so that its ends are -1 and 1.
    """
    axis = PLANES[plane]
    middle = (shape[axis] - 1) / 2 if middle is None else middle
    reach = max((shape[axis] - 1) / 2, 1) if reach is None else reach
    along = ((np.arange(shape[axis]) - middle) / reach).astype(np.float32)
    return np.broadcast_to(along.reshape([-1 if k == axis else 1 for k in range(3)]), tuple(shape))


def pad_to(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Zeros below and to the right, so that (..., rows, columns) becomes ``(..., *size)``.

    Raises:
        ValueError: ``size`` is smaller than the array.
    """
    missing = [wanted - there for wanted, there in zip(size, array.shape[-2:], strict=True)]
    if min(missing) < 0:
        raise ValueError(f"slices of {array.shape[-2]}x{array.shape[-1]} do not fit into {size[0]}x{size[1]}")
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, more) for more in missing])


def padded_size(size: Sequence[int], stride: int) -> tuple[int, int]:
    """The smallest (rows, columns) not below ``size`` that ``stride`` divides."""
    rows, columns = (-(-side // stride) * stride for side in size)
    return rows, columns


@dataclass(frozen=True)
class ChannelVolume:
    """A patient's contrasts in one array, ready for networks.

    Attributes:
        case, patient: as in the set that it comes from.
        image: uint8 (channels, slice, row, column), each channel scaled by its own percentiles.
        mask: uint8 (slice, row, column): 0, and discs from 1 (L5/S1) upward.
        spacing: mm along (slice, row, column).
    """

    case: str
    patient: int
    image: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float, float]

    @classmethod
    def of(
        cls, case: DiscCase, contrasts: Sequence[str] | None = None, spacing_mm: tuple[float, float, float] | None = None
    ) -> ChannelVolume:
        """Make it of one patient of a set.

        Args:
            case: as DiscSet.load gives it.
            contrasts: three names, in the channels' order; None takes the case's first three. A case with a single contrast
                shows it in all three channels.
            spacing_mm: resample to this voxel size (mm); None keeps the case's own.

        Raises:
            ValueError: the case lacks a contrast, or has two and none were chosen.
        """
        wanted = tuple(contrasts or (case.contrasts * CHANNELS if len(case.contrasts) == 1 else case.contrasts[:CHANNELS]))
        if missing := sorted(set(wanted) - set(case.contrasts)):
            raise ValueError(f"case {case.case} has no contrast {', '.join(missing)}; it has {', '.join(case.contrasts)}")
        if len(wanted) != CHANNELS:
            raise ValueError(f"the networks see {CHANNELS} contrasts, not {len(wanted)}: {', '.join(wanted)}")
        images = [case.images[case.contrasts.index(name)] for name in wanted]
        mask = case.mask
        if spacing_mm is not None:
            images, mask = [resample(image, spacing_mm) for image in images], resample(mask, spacing_mm, is_mask=True)
        channels = np.stack([scale_to_uint8(image.array) for image in images])
        return cls(case.case, case.patient, channels, mask.array.astype(np.uint8), mask.spacing)

    @property
    def first_labelled_row(self) -> int:
        """The row ABOVE_MM over the highest labelled disc: from there down every disc is labelled."""
        top = np.flatnonzero(self.mask.any(axis=(0, 2)))[0]
        return max(0, int(top) - round(ABOVE_MM / self.spacing[1]))

    def without_unlabelled_discs(self) -> ChannelVolume:
        """The volume from ``first_labelled_row`` down: `triplanar` crops unlabelled discs out of training images."""
        first = self.first_labelled_row
        return replace(self, image=self.image[:, :, first:], mask=self.mask[:, first:])

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.mask.shape))
        spacing = " x ".join(f"{s:.2f}" for s in self.spacing)
        return f"ChannelVolume({self.case}: {len(self.image)} contrasts, {shape} (slice, row, column), {spacing} mm)"


class PlaneSlices(Dataset):
    """The slices of some volumes along one plane, held in memory; disc against background.

    An item is (image, mask): float32 (channels, rows, columns) in [0, 1] and uint8 (rows, columns), padded with zeros so that all
    have one size, which ``stride`` divides.

    Args:
        volumes: whose slices; they may differ in size.
        plane: "sagittal", "axial" or "coronal".
        stride: of the network.
        augment: applied to image and mask together; None leaves them as they are.
        seed: the random numbers of an item's augmentation follow from (seed, epoch, index) alone.
        empty_step: of the slices without a disc every so many is kept, as most slices of two of the planes show none.
        at_least: slices are repeated until there are so many, so that sets of other sizes give epochs of the same length; 0
            repeats none. Repeated ones are augmented otherwise.

    Raises:
        ValueError: there is no volume.
    """

    def __init__(
        self,
        volumes: Sequence[ChannelVolume],
        plane: str,
        stride: int,
        augment: Augment | None = None,
        seed: int = 0,
        empty_step: int = 1,
        at_least: int = 0,
    ):
        if not volumes:
            raise ValueError("slices need at least one volume")
        shown = [(cut(one.image, plane), cut(one.mask > 0, plane)) for one in volumes]
        size = padded_size([max(mask.shape[k] for _, mask in shown) for k in (1, 2)], stride)
        images, masks = [], []
        for image, mask in shown:
            full = mask.any(axis=(1, 2))
            kept = np.sort(np.concatenate([np.flatnonzero(full), np.flatnonzero(~full)[::empty_step]]))
            images.append(pad_to(image[kept], size))
            masks.append(pad_to(mask[kept].view(np.uint8), size))
        self.images, self.masks = np.concatenate(images), np.concatenate(masks)
        self.plane, self.augment, self.seed, self.epoch = plane, augment, seed, 0
        self._length = max(len(self.images), at_least)

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmentations of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"slice {index} of {len(self)}")
        index = int(index)
        image, mask = self.images[index % len(self.images)], self.masks[index % len(self.images)]
        if self.augment is not None:
            seed = item_seed(self.seed, self.epoch, index)
            image, mask = self.augment(np.ascontiguousarray(np.moveaxis(image, 0, -1)), mask, seed)
            image = np.moveaxis(image, -1, 0)
        scaled = np.multiply(image, np.float32(1 / 255), dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled)), torch.from_numpy(np.ascontiguousarray(mask))
