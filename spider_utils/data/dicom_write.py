"""Write slices as DICOM files (MR Image Storage, 16 bit), with the geometry in their tags."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.dicom import quiet_itk
from spider_utils.errors import DataError

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
_UIDS = {"0020|000d": "study", "0020|000e": "series", "0020|0052": "frame"}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "spider kit")
SMALLEST_PACKED = 16  # pixels; GDCM's JPEG 2000 encoder ends the process on pictures of 5 x 6
PACKINGS = (None, "JPEG2000", "JPEG")  # as SimpleITK calls them; both are lossless


@dataclass(frozen=True)
class SliceGeometry:
    """Where a slice lies: LPS position (mm) of its first pixel, direction cosines along columns and rows, spacings in mm.

    Attributes:
        position: centre of the first pixel.
        along_row: unit vector in which column numbers grow; along_column: in which row numbers grow.
        pixel_mm: between rows, between columns.
        thickness_mm, gap_mm: of the slice, and from its middle to the next one's.
    """

    position: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    pixel_mm: tuple[float, float]
    thickness_mm: float
    gap_mm: float


# Attributes that an MR image must have, even if empty (types 1 and 2 of PS3.3, section A.4), and that this module can say for
# every slice. Laterality (2C) is not among them: the spine is no paired part of the body.
_OWN = {
    "0008|0005": "ISO_IR 192",  # UTF-8
    "0008|0008": "ORIGINAL\\PRIMARY\\OTHER",
    "0008|0016": MR_IMAGE_STORAGE,
    "0008|0020": "",
    "0008|0030": "",
    "0008|0050": "",
    "0008|0060": "MR",
    "0008|0070": "",
    "0008|0090": "",
    "0010|0010": "",
    "0010|0020": "",
    "0010|0030": "",
    "0010|0040": "",
    "0018|0020": "SE",  # scanning sequence: spin echo
    "0018|0021": "NONE",
    "0018|0022": "",
    "0018|0023": "2D",
    "0018|0080": "",
    "0018|0081": "",
    "0018|0091": "",
    "0018|5100": "HFS",
    "0020|0010": "",
    "0020|0011": "1",
    "0020|0013": "1",
    "0020|1040": "",
    # SimpleITK writes these now and then by itself: always, so that the same slice gives the same bytes.
    "0028|1052": "0",
    "0028|1053": "1",
    "0028|1054": "US",
}


def made_up_uid(*parts: object) -> str:
    """A valid UID that depends on ``parts`` alone: 2.25 and a UUID of version 5 as an integer (PS3.5, annex B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}"


def write_slice(
    path: Path, pixels: np.ndarray, geometry: SliceGeometry, tags: dict[str, str], packing: str | None = "JPEG2000"
) -> None:
    """Write one slice.

    Args:
        path: the .dcm file.
        pixels: uint16 (rows, columns).
        geometry: where it lies.
        tags: more tags, "gggg|eeee" -> text. Those of a study, such as UIDs, patient, instance number, echo and repetition time.
            What an MR image must have and is left out here is written empty, or made up from the file's name where it is a UID.
        packing: one of PACKINGS; None leaves the pixels plain, as they are in pictures with a side under SMALLEST_PACKED.

    Raises:
        ValueError: pixels of another type.
        DataError: the file cannot be written.
    """
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ValueError(f"a slice must be a uint16 picture, not {pixels.dtype} of {pixels.ndim} dimensions")
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels[None]))
    image.SetSpacing((float(geometry.pixel_mm[1]), float(geometry.pixel_mm[0]), float(geometry.gap_mm)))
    image.SetOrigin([round(float(value), 6) for value in geometry.position])
    normal = np.cross(geometry.along_row, geometry.along_column)
    image.SetDirection(np.stack([geometry.along_row, geometry.along_column, normal], axis=1).reshape(-1).tolist())
    own = {"0018|0050": f"{geometry.thickness_mm:g}", "0018|0088": f"{geometry.gap_mm:g}"}
    own |= {tag: made_up_uid(name, path.parent.name) for tag, name in _UIDS.items()}
    own["0008|0018"] = made_up_uid("instance", path.parent.name, path.name)
    for tag, value in (_OWN | own | tags).items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.KeepOriginalImageUIDOn()
    if packing is not None and min(pixels.shape) >= SMALLEST_PACKED:
        writer.SetCompressor(packing)
        writer.UseCompressionOn()
    try:
        with quiet_itk():
            writer.Execute(image)
    except RuntimeError as error:
        raise DataError(path, "cannot be written", "Is the disk full, or the folder read-only?") from error
