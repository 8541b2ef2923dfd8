"""Augmentation of an image and its mask together; the only module that knows albumentations.

Pipelines by name; the two tissue augmentations of `triplanar`, which no library has: elastic deformation at points of one
structure's contour and interior, and a change of that structure's brightness alone; and contrasts that no sequence need have.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from random import Random

import numpy as np
from scipy import ndimage

# The library asks the network for a newer version at import, which delays or breaks offline machines.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Augment = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Called with image uint8 (rows, columns) or (rows, columns, channels), mask uint8 (rows, columns) and a seed; returns both,
augmented alike, and all channels alike. Pipelines of whole pictures also take volumes, slices as channels: image float32 from 0
to 1 and mask, (rows, columns, slices)."""

AUGMENTS = ("none", "light", "field_of_view", "standard", "medfusion", "elastic", "tissue", "contrasts")  # for gray slices
PLANE_AUGMENTS = ("axial", "triplanar")  # for axial slices; for several contrasts, one a channel, from any plane
FADINGS = ("gaussian", "inverse")


@lru_cache
def _transforms(name: str) -> object:
    import albumentations as A

    small = A.Affine(rotate=(-8, 8), scale=(0.9, 1.12), translate_percent=(-0.06, 0.06), p=0.8)
    brightness = A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.25, p=0.6)
    elastic = A.ElasticTransform(alpha=60, sigma=9, p=1.0)
    lists = {
        "light": [small, brightness],
        # As if the scanner's field of view had been placed and sized otherwise. The picture moves up far more than down: the
        # upper levels leave it, the sacrum, from which levels are counted, seldom does.
        "field_of_view": [
            A.Affine(rotate=(-10, 10), scale=(0.82, 1.18), translate_percent={"x": (-0.06, 0.06), "y": (-0.2, 0.06)}, p=0.95),
            brightness,
        ],
        # No flips: a spine seen in a mirror, or upside down, does not exist.
        "standard": [
            A.Affine(rotate=(-12, 12), scale=(0.8, 1.25), translate_percent=(-0.08, 0.08), shear=(-4, 4), p=0.9),
            A.ElasticTransform(alpha=60, sigma=9, p=0.2),
            brightness,
            A.RandomGamma(gamma_limit=(70, 140), p=0.4),
            A.OneOf([A.GaussianBlur(blur_limit=(3, 3)), A.Downscale(scale_range=(0.6, 0.9))], p=0.2),
            A.GaussNoise(std_range=(0.01, 0.05), p=0.3),
        ],
        # As the source lists them: rotation, flips, translation, brightness (`medfusion`, section 3.2).
        "medfusion": [
            A.Rotate(limit=20, p=0.7),
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.Affine(translate_percent=(-0.1, 0.1), p=0.5),
            brightness,
        ],
        # An axial slice seen in a mirror does exist: a hernia lies on either side.
        "axial": [A.HorizontalFlip(p=0.5), small, brightness],
        "elastic": [elastic],
        # The library's share of the source's list (`triplanar`, Methods and Augmentation); each step by its own coin, so that
        # all combinations come. A window that is cut out and resized is the picture enlarged and shifted.
        "triplanar": [
            A.Affine(scale=(1.0, 1.3), translate_percent=(-0.08, 0.08), p=0.5),  # crop and resize
            A.Affine(shear=(-8, 8), p=0.5),  # tilt
            A.Rotate(limit=12, p=0.5),
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3, p=0.5),  # dynamic range
            A.GaussNoise(std_range=(0.01, 0.05), p=0.5),
        ],
    }
    return A.Compose(lists[name])


def make_augment(name: str) -> Augment | None:
    """The augmentation pipeline called ``name``; None for "none".

    Args:
        name: "none"; "light" (small shifts, brightness); "field_of_view" (other cuts and sizes of
            the picture: for networks that count levels); "standard" (the kit's training default, no flips); "medfusion" (the
            source's list, flips included); "axial" ("light" with left and right swapped in half of
            the slices); "elastic" (deformation of the whole image); "tissue" (`triplanar`: one structure
            deformed and brightened); "contrasts" ("standard", and half of the slices as if another sequence had made them);
            "triplanar" (the whole of that source's list, see augment_triplanar).

    Raises:
        ValueError: unknown name.
    """
    if name == "none":
        return None
    if name == "tissue":
        return augment_tissue
    if name == "triplanar":
        return augment_triplanar
    if name == "contrasts":
        return augment_contrasts
    if name not in AUGMENTS + PLANE_AUGMENTS:
        raise ValueError(f"unknown augmentation '{name}'. Known are: {', '.join(AUGMENTS + PLANE_AUGMENTS)}")
    return PipelineAugment(name)


def item_seed(seed: int, epoch: int, row: int) -> int:
    """Seed of one item's augmentation, 0..2**32-1: its own for each seed, epoch (or copy) and row, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{epoch}:{row}".encode(), digest_size=4).digest(), "big")


class PipelineAugment:
    """A named albumentations pipeline; pickles as its name, so that worker processes can build their own."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        pipeline = _transforms(self.name)
        # One stream for all steps: set_random_seed would give each step its own with the same seed, so that all draw alike.
        pipeline.set_random_state(np.random.default_rng(seed), Random(seed))
        out = pipeline(image=image, mask=mask)
        return out["image"], out["mask"]

    def __repr__(self) -> str:
        return f"PipelineAugment('{self.name}')"


def crop_columns(image: np.ndarray, mask: np.ndarray, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a strip of full height around the labelled structures, as patch-based training does (nnU-Net).

    A spine fills a third of a sagittal slice's width; a step on the strip takes little more than its share of the time. The
    height stays whole, because levels are counted along it; wide structures may lose an edge. What lies far from the spine is
    never seen, and can be mistaken for one: give up the saved time and train on whole slices where that matters.

    Args:
        image, mask: uint8 (rows, columns); the image may have channels behind.
        columns: width of the strip, in pixels.
        seed: of its place: its centre lies up to 0.3 strips off the mean labelled column (the middle of a slice without
            labels), unless the edge of the slice is nearer.

    Raises:
        ValueError: the slice is narrower than the strip.
    """
    width = image.shape[1]
    if columns > width:
        raise ValueError(f"a strip of {columns} columns does not fit into a slice of {width}")
    weights = np.count_nonzero(mask, axis=0)
    centre = np.average(np.arange(width), weights=weights) if weights.any() else width / 2
    centre += np.random.default_rng(seed).uniform(-0.3, 0.3) * columns
    start = int(np.clip(round(centre - columns / 2), 0, width - columns))
    return tuple(np.ascontiguousarray(array[:, start : start + columns]) for array in (image, mask))


def displace(array: np.ndarray, rows: np.ndarray, columns: np.ndarray, is_mask: bool) -> np.ndarray:
    """Move pixels by a displacement field.

    Args:
        array: uint8 (rows, columns) or (rows, columns, channels).
        rows, columns: float (rows, columns), where each output pixel is fetched from, relative to itself, in pixels.
        is_mask: nearest neighbour instead of linear interpolation.
    """
    grid = np.meshgrid(np.arange(array.shape[0]), np.arange(array.shape[1]), indexing="ij")
    where = (grid[0] + rows, grid[1] + columns)

    def moved(channel: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(channel, where, order=0 if is_mask else 1, mode="nearest").astype(array.dtype)

    return moved(array) if array.ndim == 2 else np.stack([moved(channel) for channel in np.moveaxis(array, -1, 0)], axis=-1)


def deform_at_points(
    image: np.ndarray, mask: np.ndarray, points: np.ndarray, vectors: np.ndarray, reach: float, fading: str = "gaussian"
) -> tuple[np.ndarray, np.ndarray]:
    """Pull image and mask along ``vectors`` at ``points``; the pull fades with the distance to each point.

    The source moves pixels "with amplitude proportional to f(inverse distance)" (`triplanar`, Augmentation) and leaves f open; an
    inverse distance is not defined at the point itself, where both choices here are smooth. The library has no such transform:
    its elastic transform smooths noise of every pixel (Simard et al., ICDAR 2003), without points.

    Args:
        image: uint8 (rows, columns) or (rows, columns, channels).
        mask: uint8 (rows, columns).
        points: (k, 2) row and column.
        vectors: (k, 2) displacement at each point, in pixels.
        reach: in pixels: the standard deviation of the Gaussian, or the distance at which the inverse has fallen to half.
        fading: "gaussian", which leaves far pixels alone, or "inverse", 1 / (1 + (distance / reach)^2), which moves all.

    Raises:
        ValueError: unknown fading.
    """
    if fading not in FADINGS:
        raise ValueError(f"unknown fading '{fading}'. Known are: {', '.join(FADINGS)}")
    # Squared distances in reaches along rows (k, rows) and columns (k, columns).
    rows, columns = (
        ((np.arange(image.shape[axis]) - points[:, axis, None]).astype(np.float32) / np.float32(reach)) ** 2 for axis in (0, 1)
    )
    pulls = np.asarray(vectors, np.float32)
    if fading == "gaussian":  # the product of one factor a row and one a column
        rows, columns = np.exp(-0.5 * rows), np.exp(-0.5 * columns)
        field = [-(rows * pulls[:, k, None]).T @ columns for k in (0, 1)]
    else:
        weights = 1 / (1 + rows[:, :, None] + columns[:, None, :])
        field = [-np.tensordot(pulls[:, k], weights, axes=1) for k in (0, 1)]
    return displace(image, *field, is_mask=False), displace(mask, *field, is_mask=True)


def deform_grid(
    image: np.ndarray, mask: np.ndarray, seed: int, nodes: int = 5, strength: float = 3.0, fading: str = "gaussian"
) -> tuple[np.ndarray, np.ndarray]:
    """Elastic deformation of the whole slice from an N x N grid of points with random directions (`triplanar`, Augmentation).

    Args:
        image, mask: as for deform_at_points.
        seed: of the directions and lengths.
        nodes: N; the points lie in the middle of N x N equal fields, and each point's pull fades over half a field.
        strength: largest displacement at a point, in pixels. Neighbours may add up to somewhat more.
        fading: as for deform_at_points.
    """
    random, shape = np.random.default_rng(seed), image.shape[:2]
    middles = (np.arange(nodes) + 0.5) / nodes
    points = np.stack(np.meshgrid(*(middles * n - 0.5 for n in shape), indexing="ij"), axis=-1).reshape(-1, 2)
    vectors = _random_vectors(random, len(points), strength)
    return deform_at_points(image, mask, points, vectors, reach=sum(shape) / 4 / nodes, fading=fading)


def _random_vectors(random: np.random.Generator, n: int, strength: float) -> np.ndarray:
    """(n, 2) vectors in any direction, 0.3 to 1 times ``strength`` long."""
    angle, length = random.uniform(0, 2 * np.pi, n), random.uniform(0.3, 1, n) * strength
    return np.stack([np.sin(angle), np.cos(angle)], axis=1) * length[:, None]


def deform_tissue(
    image: np.ndarray, mask: np.ndarray, label: int, seed: int, points: int = 6, strength: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Elastic deformation at random points of one structure's contour and interior (`triplanar`, Augmentation).

    Args:
        image, mask: as for deform_at_points.
        label: mask value of the structure; image and mask come back unchanged when it is absent.
        seed: of the random points and directions.
        points: how many.
        strength: largest displacement, in pixels.
    """
    random = np.random.default_rng(seed)
    inside = mask == label
    if not inside.any():
        return image, mask
    contour = np.argwhere(inside & ~ndimage.binary_erosion(inside))
    interior = np.argwhere(inside)
    chosen = np.concatenate([random.choice(contour, (points + 1) // 2), random.choice(interior, points // 2)])
    vectors = _random_vectors(random, points, strength)
    return deform_at_points(image, mask, chosen, vectors, reach=max(3.0, 2 * strength))


def brighten_tissue(image: np.ndarray, mask: np.ndarray, label: int, seed: int, strength: float = 0.25) -> np.ndarray:
    """Multiply the pixels of one structure by a random factor of 1 ± ``strength``, blended over its edge (`triplanar`).

    Channels have a factor each: the source changes values "in some random direction".
    """
    factor = 1 + np.random.default_rng(seed).uniform(-strength, strength, image.shape[2:])
    weight = ndimage.gaussian_filter((mask == label).astype(np.float32), 0.7).reshape(mask.shape + (1,) * (image.ndim - 2))
    return np.clip(np.rint(image * (1 + (factor - 1) * weight)), 0, 255).astype(np.uint8)


def _draw_label(mask: np.ndarray, seed: int) -> int | None:
    """One of the mask's labels, or None when it has none."""
    labels = np.flatnonzero(np.bincount(mask.reshape(-1)))
    labels = labels[1:] if len(labels) and labels[0] == 0 else labels
    return int(np.random.default_rng(seed).choice(labels)) if len(labels) else None


def augment_tissue(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Deform and brighten one structure of the slice, drawn at random (an Augment)."""
    label = _draw_label(mask, seed)
    if label is None:
        return image, mask
    image, mask = deform_tissue(image, mask, label, seed + 1)
    return brighten_tissue(image, mask, label, seed + 2), mask


def augment_triplanar(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All augmentations of `triplanar` in all combinations (an Augment, for one channel a contrast).

    Elastic grid, tissue deformation, tissue brightness, crop and resize, tilt, rotation, dynamic range and noise, each in half of
    the pictures. Deformations are given as shares of the picture's longer side (1.2 %: 4 mm of IVDM3Seg's 320), because pictures
    of the three planes and of coarser voxels differ in size. The source names no strengths; these keep a disc a disc.
    """
    bend, pull, shade = np.random.default_rng([seed, 3]).random(3) < 0.5
    strength, label = 0.012 * max(mask.shape), _draw_label(mask, seed)
    if bend:
        image, mask = deform_grid(image, mask, seed + 1, 4, strength, fading="inverse")
    if pull and label is not None:
        image, mask = deform_tissue(image, mask, label, seed + 2, points=10, strength=strength)
    if shade and label is not None:
        image = brighten_tissue(image, mask, label, seed + 3)
    return PipelineAugment("triplanar")(image, mask, seed)


def change_contrasts(image: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
    """Give each structure, and what lies around it, a brightness as another sequence might.

    Grays go through a random curve that need not rise, so that fat may become darker than muscle; then each labelled structure is
    multiplied by a factor from 0.4 to 2.2, blended over its edge. Networks that see contrasts at random depend less on the one
    they were taught with (Billot et al., Medical Image Analysis 2023, "SynthSeg", which draws whole images from labels). As
    brightness follows the mask, a mask's mistakes are painted into the image: mend them first (data.mend).

    Args:
        image: uint8 (rows, columns) or (rows, columns, channels); neighbouring slices as channels change alike.
        mask: uint8 (rows, columns), a value a tissue.
        seed: of the curve and the factors.

    Returns:
        uint8, shape of ``image``.
    """
    random = np.random.default_rng([seed, 5])
    knots = np.linspace(0, 255, 6)
    heights = knots + random.uniform(-0.25, 0.25, 6) * 255
    heights[0] = random.uniform(0, 30)  # air stays dark
    curve = np.interp(np.arange(256), knots, np.clip(heights, 0, 255)).astype(np.float32)
    factors = np.exp(random.uniform(np.log(0.4), np.log(2.2), 256)).astype(np.float32)  # one a label
    factors[0] = 1
    weights = ndimage.gaussian_filter(factors[mask], 0.7, truncate=2.5).reshape(mask.shape + (1,) * (image.ndim - 2))
    return np.clip(np.rint(curve[image] * weights), 0, 255).astype(np.uint8)


def augment_contrasts(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The kit's standard list, and before it in half of the slices other contrasts (an Augment, for slices alone)."""
    if np.random.default_rng([seed, 4]).random() < 0.5:
        image = change_contrasts(image, mask, seed)
    return PipelineAugment("standard")(image, mask, seed)
