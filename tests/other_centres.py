"""Small made-up files in the layouts of the sets of other centres (data.centres), with every trap that the real ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from spider_utils.data.centres import COLOURS

COLOUR_OF = {number: colour for colour, number in COLOURS.items()}


def column(n: int, rows: int = 40, columns: int = 30, height: int = 4, gap: int = 2) -> np.ndarray:
    """(rows, columns) uint8: ``n`` bodies from 1 at the bottom upward, ten columns wide, none of them in the middle."""
    mask = np.zeros((rows, columns), np.uint8)
    for number in range(1, n + 1):
        bottom = rows - 2 - (number - 1) * (height + gap)
        mask[bottom - height : bottom, 6:16] = number
    return mask


def grays(mask: np.ndarray) -> np.ndarray:
    """An image that tells its corners apart: darker upward, brighter backward, brightest in the mask."""
    rows, columns = mask.shape[-2:]
    ramp = np.arange(rows)[:, None] + np.arange(columns)
    return (ramp + 100 * (mask > 0)).astype(np.uint8)


def in_colours(mask: np.ndarray) -> np.ndarray:
    """Numbers 1 to 7 as (rows, columns, 3)."""
    picture = np.zeros((*mask.shape, 3), np.uint8)
    for number, colour in COLOUR_OF.items():
        picture[mask == number] = colour
    return picture


def save(path: Path, array: np.ndarray, **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def save_volume(path: Path, array: np.ndarray, spacing: tuple[float, float, float], orientation: str | None = None) -> Path:
    """``array`` (slice, row, column) and ``spacing`` in the kit's axes; without an orientation the header says identity."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    if orientation:
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("PIR"))
        image = sitk.DICOMOrient(image, orientation)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def mendeley(root: Path, patient: int = 7, mask: np.ndarray | None = None) -> Path:
    """S1 and L5 to L1, numbered downward; a JPEG in RGB."""
    upward = column(6)
    mask = np.where(upward > 0, 7 - upward, 0).astype(np.uint8) if mask is None else mask
    folder = root / "mendeley_t1_2d"
    save(folder / "images" / f"T1_{patient:04d}_S8.jpg", np.repeat(grays(mask)[..., None], 3, axis=2), quality=60)
    return save(folder / "masks" / f"T1_{patient:04d}_S8.png", mask)


def spider_vertebrae(root: Path, name: str = "10008_12", mask: np.ndarray | None = None) -> Path:
    """Seven vertebrae in colours, image and mask upside down."""
    mask = column(7, rows=46) if mask is None else mask
    folder = root / "spider_t1t2_vertebrae_2d"
    save(folder / "images" / f"{name}.png", grays(mask)[::-1])
    return save(folder / "masks" / f"{name}.png", in_colours(mask)[::-1])


def chu(root: Path, patient: str = "01", mask: np.ndarray | None = None) -> Path:
    """Three slices of seven bodies; the header says identity."""
    mask = np.repeat(column(7, rows=46)[None], 3, axis=0) if mask is None else mask
    save_volume(root / "chu2015_t2_3d" / f"case{patient}_image.mha", grays(mask), (2.0, 1.25, 1.25))
    return save_volume(root / "chu2015_t2_3d" / f"case{patient}_instances.mha", mask, (2.0, 1.25, 1.25))


def isotropic(root: Path) -> None:
    """Five discs in one volume; five vertebral bodies, numbered downward, in another. Of the size of a patient's."""
    discs, bodies = np.zeros((2, 20, 200, 60), np.uint8)
    discs[2:18, :, 10:44] = column(5, 200, 34, height=9, gap=26).repeat(5, axis=1)[:, 30:64]
    bodies[2:18, :, 10:44] = column(5, 200, 34, height=26, gap=9).repeat(5, axis=1)[:, 30:64]
    for name, mask in (("IVD_11", discs), ("VBs_VB1_15", np.where(bodies > 0, 6 - bodies, 0).astype(np.uint8))):
        save_volume(root / "isotropic_3d" / f"{name}_image.mha", grays(mask).astype(np.uint16), (1.0, 1.0, 1.0))
        save_volume(root / "isotropic_3d" / f"{name}_mask.mha", mask, (1.0, 1.0, 1.0))


def tptbox(root: Path) -> Path:
    """A crop with a body (49), an endplate (62), a disc (100), cord (60) and canal (61), an arch (41); stored as RAS."""
    mask = np.zeros((5, 20, 24), np.uint8)
    mask[:, 2:10, 2:12], mask[:, 10, 2:12], mask[:, 11:14, 2:12] = 49, 62, 100
    mask[1:4, :, 13:17], mask[2, :, 14:16], mask[1:4, 4:8, 18:22] = 61, 60, 41
    folder = root / "tptbox_crop_3d"
    save_volume(folder / "sub-mri_label-6_T2w.nii.gz", grays(mask).astype(np.uint16) * 3, (1.5, 1.5, 1.5), "RAS")
    return save_volume(folder / "sub-mri_seg-subreg_label-6_msk.nii.gz", mask, (1.5, 1.5, 1.5), "RAS")


def unlabelled(root: Path) -> None:
    """A middle slice of a patient, and a volume that is stored as RAS."""
    save(root / "spider_midslices_unlabelled" / "images" / "12_t1.png", grays(column(5)))
    save_volume(
        root / "sct_t2_lumbar_3d" / "t2_lumbar.nii.gz", grays(np.repeat(column(5)[None], 3, axis=0)), (1.0, 1.0, 1.0), "RAS"
    )


def everything(root: Path) -> Path:
    """One case of every set, two of the isotropic one."""
    for write in (mendeley, spider_vertebrae, chu, isotropic, tptbox, unlabelled):
        write(root)
    return root
