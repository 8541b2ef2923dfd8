"""Images that show a small part of what lumbar MRI shows, and the empty field of view that they are laid in for networks."""

from __future__ import annotations

import numpy as np

from spider_utils.data.slices import scale_to_uint8
from spider_utils.data.volumes import Volume

FIELD_MM = (300.0, 240.0)  # rows and columns of SPIDER's T2_SPACE series
LEAST_FIELD_MM = 150.0  # the longer side of a picture: half of what is usual


def is_crop(image: Volume) -> bool:
    """Whether the longer side of an image's slices is below LEAST_FIELD_MM."""
    return max(n * mm for n, mm in zip(image.array.shape[1:], image.spacing[1:], strict=True)) < LEAST_FIELD_MM


def in_a_field(image: Volume, field_mm: tuple[float, float] = FIELD_MM) -> tuple[Volume, tuple[slice, ...]]:
    """A crop in the middle of an empty field of view.

    Networks of slices see the whole field of view at one size, so a crop alone would be shown to them magnified.

    Args:
        image: in the kit's axes.
        field_mm: rows and columns that the field has at least.

    Returns:
        The field in grays (uint8), 0 around the crop, and the index that takes the crop out of its array. Its origin is that of
        the crop: no network asks where it lies.
    """
    # Grays first: percentiles of intensities would fall on the empty field instead of on the picture.
    grays = scale_to_uint8(image.array)
    wanted = np.rint(np.divide(field_mm, image.spacing[1:])).astype(int)
    short = np.maximum(0, wanted - grays.shape[1:])
    starts = (0, *(short // 2).tolist())
    place = tuple(slice(start, start + n) for start, n in zip(starts, grays.shape, strict=True))
    field = np.zeros((len(grays), *(grays.shape[1:] + short)), np.uint8)
    field[place] = grays
    return Volume(field, image.spacing, image.origin, image.direction), place
