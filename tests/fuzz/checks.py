"""What a valid result is, and the calls that many formats share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.uploads import UploadLimits, read_upload
from spider_utils.data.volumes import Volume, read_mask, read_volume, to_stored_image, write_volume
from tests.fuzz.judge import Call, demand

LIMITS = UploadLimits(bytes=20_000_000, unpacked_bytes=20_000_000, members=200, voxels=2**20)
SHAPE = (4, 6, 5)  # slice, row, column of the volumes that are spoilt


def check_volume(volume: Volume) -> Volume:
    """Demand what all further code takes for granted of an image that was read."""
    array = volume.array
    demand(array.ndim == 3 and array.dtype.kind in "iuf", f"an array of {array.ndim} dimensions of {array.dtype}")
    demand(bool(np.isfinite(array).all()), "NaN or infinite voxels")
    demand(bool(np.isfinite(volume.spacing).all()) and min(volume.spacing) > 0, f"a spacing of {volume.spacing}")
    demand(bool(np.isfinite(volume.origin).all()), f"an origin of {volume.origin}")
    demand(np.allclose(volume.direction.T @ volume.direction, np.eye(3), atol=0.05), f"a direction of {volume.direction}")
    demand(volume.array.size > 0, "no voxel")
    demand("Volume(" in repr(volume), "no name")
    return volume


def check_mask(mask: Volume) -> Volume:
    """Demand that a mask holds labels."""
    demand(mask.array.dtype in (np.uint8, np.uint16), f"a mask of {mask.array.dtype}")
    return check_volume(mask)


def write_again(volume: Volume, out: Path, suffix: str) -> None:
    """What was read can be written, and is the same when it is read again."""
    back = read_volume(write_volume(volume, out / f"again{suffix}"))
    # As the files store them: at 45 degrees the last digit decides which of two names an axis gets.
    first, second = to_stored_image(volume), to_stored_image(back)
    demand(
        np.array_equal(sitk.GetArrayViewFromImage(first), sitk.GetArrayViewFromImage(second)),
        "other voxels when written and read",
    )
    demand(
        np.allclose(first.GetSpacing(), second.GetSpacing(), rtol=1e-3), f"spacing {second.GetSpacing()} when written and read"
    )


def upload_call(name: str, data: bytes) -> Call:
    """The bytes as an upload called ``name``."""

    def upload(out: Path) -> None:
        for volume in read_upload(name, io.BytesIO(data), LIMITS).volumes.values():
            check_volume(volume)

    return upload


def volume_calls(path: Path, again: str = ".mha") -> dict[str, Call]:
    """A file read as an image, as a mask and as an upload; what was read written again."""
    calls: dict[str, Call] = {
        "read_volume": lambda out: write_again(check_volume(read_volume(path)), out, again),
        "read_mask": lambda out: check_mask(read_mask(path)),
    }
    if path.suffix != ".nrrd":  # no upload takes it: see the format uploads
        calls["read_upload"] = upload_call(path.name, path.read_bytes())
    return calls
