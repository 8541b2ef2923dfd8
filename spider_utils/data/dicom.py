"""DICOM slices: where each lies, which of them make one block, and their pixel values.

Geometry comes from every slice's own tags, the order from positions, never from file names or instance numbers. Decoding is
SimpleITK's (GDCM): plain, RLE, JPEG, JPEG-LS and JPEG 2000 pixels. It applies rescale slope and intercept, and turns pictures
that are stored as negatives (MONOCHROME1), so that bright is always strong signal.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.dicom_header import read_dicom_header
from spider_utils.errors import DataError

SAME_COSINES = 1e-3
SAME_SPACING = 1e-3  # share of the spacing
EVEN_STEPS = 0.1  # share of the usual distance by which slices of one block may lie nearer or further
SEXES = ("F", "M", "O")  # PS3.3, table C.7-1
PERPENDICULAR = 1e-2  # by which products of direction cosines may miss 0 and 1
DOUBLED_MM = 0.01  # slices nearer than this lie in one place
FARTHEST_MM = 1e6  # no position and no edge of a voxel is as large, no edge as small as its inverse: such a header is damaged

_quiet_lock = threading.Lock()
_quiet_state = {"depth": 0, "stderr": -1}


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Drop what ITK's C++ readers print to the standard error stream; what goes wrong is said once, as a DataError.

    Threads may be inside together: the first to enter redirects the stream, the last to leave restores it.
    """
    with _quiet_lock:
        if _quiet_state["depth"] == 0:
            _quiet_state["stderr"] = os.dup(2)
            with open(os.devnull, "wb") as sink:
                os.dup2(sink.fileno(), 2)
        _quiet_state["depth"] += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_state["depth"] -= 1
            if _quiet_state["depth"] == 0:
                os.dup2(_quiet_state["stderr"], 2)
                os.close(_quiet_state["stderr"])


@dataclass(frozen=True)
class DicomSlice:
    """One slice as its header has it.

    Attributes:
        path: the file.
        series: UID of its series, "" when it names none.
        instance: its instance number, None when it has none.
        position: LPS coordinates (mm) of the centre of the first pixel.
        cosines: six direction cosines: along growing column numbers, then along growing row numbers.
        spacing: mm between pixel centres along (rows, columns).
        shape: (rows, columns).
        gap_mm: distance to the next slice as the header states it, else the slice's thickness, else None.
        syntax: how its pixels are packed: name and UID of the transfer syntax.
        age: of the patient in years, None when the header has none.
        sex: "F", "M" or "O" (other), None when the header has none.
    """

    path: Path
    series: str
    instance: int | None
    position: tuple[float, float, float]
    cosines: tuple[float, ...]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    gap_mm: float | None
    syntax: str
    age: float | None = None
    sex: str | None = None

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the slice: along the columns' direction x the rows' direction."""
        return np.cross(self.cosines[:3], self.cosines[3:])

    @property
    def height(self) -> float:
        """Place along the slice's own normal, mm."""
        return float(np.asarray(self.position) @ self.normal)

    def point(self, x: float, y: float) -> np.ndarray:
        """LPS coordinates (mm) of column ``x`` and row ``y``; whole numbers are the centres of pixels."""
        along_row, along_column = np.asarray(self.cosines[:3]), np.asarray(self.cosines[3:])
        return np.asarray(self.position) + x * self.spacing[1] * along_row + y * self.spacing[0] * along_column


def possible_edges(edges_mm: Sequence[float]) -> bool:
    """Whether all could be edges of voxels: positive, and neither absurdly small nor large."""
    return all(1 / FARTHEST_MM <= edge <= FARTHEST_MM for edge in edges_mm)


def is_dicom_name(path: Path) -> bool:
    """DICOM files are called ``*.dcm`` or ``*.IMA``, have no suffix, or end in a number of their UID."""
    suffix = path.suffix.lower()
    return suffix in (".dcm", ".ima", "") or suffix[1:].isdigit()


def has_dicom_mark(path: Path) -> bool:
    """Whether a file says that it is DICOM: "DICM" after 128 bytes (DICOM PS3.10, section 7.1)."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder by name, or the one file given. Raises DataError when there is none."""
    listed = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    names = [p for p in listed if is_dicom_name(p) and p.is_file() and not p.name.startswith(".")]
    if not names:
        raise DataError(
            folder, "no DICOM file was found in this folder", "Give a folder that holds the .dcm files of one series."
        )
    return names


def _age(text: str) -> float | None:
    """Years of an age string such as 045Y or 018M (PS3.5, table 6.2-1), None when it is no such string."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text)
    return int(match[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}[match[2]] if match else None


def read_header(path: Path) -> DicomSlice:
    """One slice's header; its pixels are not decoded.

    Raises:
        DataError: as dicom_header.read_dicom_header; no position, orientation or pixel spacing, or impossible ones.
    """
    header = read_dicom_header(path)
    position, cosines, spacing = header.numbers(0x00200032, 3), header.numbers(0x00200037, 6), header.numbers(0x00280030, 2)
    if position is None or cosines is None or spacing is None:
        raise DataError(
            path, "lacks its position, orientation or pixel spacing", "Export the series again with these DICOM tags."
        )
    if np.abs(position).max() > FARTHEST_MM:
        raise DataError(
            path, f"lies at {', '.join(f'{p:g}' for p in position)} mm, far from any patient", "Export the series again."
        )
    axes = np.reshape(cosines, (2, 3))
    if not possible_edges(spacing) or not np.allclose(axes @ axes.T, np.eye(2), atol=PERPENDICULAR):
        raise DataError(
            path,
            f"has pixels of {spacing[0]:g} x {spacing[1]:g} mm and direction cosines {', '.join(f'{c:g}' for c in cosines)}",
            "Sizes must be positive, cosines two perpendicular unit vectors: export the series again.",
        )
    gaps = [header.numbers(tag, 1) for tag in (0x00180088, 0x00180050)]
    instance, sex = header.text(0x00200013), header.text(0x00100040).upper()
    return DicomSlice(
        path=path,
        series=header.text(0x0020000E),
        instance=int(instance) if re.fullmatch(r"[+-]?\d{1,12}", instance) else None,
        position=position,
        cosines=cosines,
        spacing=spacing,
        shape=header.shape,
        gap_mm=next((gap[0] for gap in gaps if gap is not None and possible_edges(gap)), None),
        syntax=header.syntax_name,
        age=_age(header.text(0x00101010)),
        sex=sex if sex in SEXES else None,
    )


def parallel(one: DicomSlice, other: DicomSlice) -> bool:
    """Whether two slices have one orientation and one pixel spacing."""
    return np.allclose(one.cosines, other.cosines, atol=SAME_COSINES) and np.allclose(
        one.spacing, other.spacing, rtol=SAME_SPACING
    )


def sort_into_blocks(slices: list[DicomSlice]) -> list[list[DicomSlice]]:
    """Slices in blocks of parallel, evenly spaced ones with pixels of one size, each block in order along its normal.

    Axial series of the lumbar spine are often angled anew at every disc: one series then holds a block a disc. A gap or a doubled
    slice begins a new block as well.

    Args:
        slices: of one series, in any order.

    Returns:
        Blocks by their lowest instance number.
    """
    bundles: list[list[DicomSlice]] = []
    for one in slices:
        fits = (bundle for bundle in bundles if parallel(one, bundle[0]) and one.shape == bundle[0].shape)
        bundle = next(fits, None)
        if bundle is None:
            bundles.append([one])
        else:
            bundle.append(one)
    blocks = []
    for bundle in bundles:
        bundle = sorted(bundle, key=lambda one: (one.height, one.instance or 0))
        # The usual step is that to the nearest neighbour in space: parallel blocks at two discs may overlap along their normal.
        places = np.array([one.position for one in bundle])
        apart = np.linalg.norm(places[:, None] - places[None], axis=2)
        nearest = np.where(apart > DOUBLED_MM, apart, np.inf).min(axis=1)
        usual = float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 0.0
        opened: list[list[DicomSlice]] = []
        for one in bundle:
            # Slices of one block follow each other along the normal: beside it they do not move by as much as a step.
            ends = [block for block in opened if abs(one.height - block[-1].height - usual) <= EVEN_STEPS * usual]
            ends = [b for b in ends if np.linalg.norm(np.subtract(one.position, b[-1].position)) < 1.5 * usual]
            if usual and ends:
                ends[0].append(one)
            else:
                opened.append([one])
        blocks += opened
    return sorted(blocks, key=lambda block: min(one.instance or 0 for one in block))


def read_pixels(one: DicomSlice) -> np.ndarray:
    """Pixel values (rows, columns): the stored integers, or what they mean where the header gives a slope and an intercept.

    Raises:
        DataError: the pixels cannot be decoded (the line names the transfer syntax), or are no finite numbers.
    """
    try:
        with quiet_itk():
            image = sitk.ReadImage(str(one.path))
        array = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise DataError(
            one.path,
            f"its pixels cannot be decoded; transfer syntax {one.syntax}",
            "The file is damaged, or packed in a way that SimpleITK does not know: export the series again, uncompressed.",
        ) from error
    if array.shape != (1, *one.shape):
        raise DataError(
            one.path,
            f"holds pixels of shape {array.shape}, not one gray picture of {one.shape[0]} x {one.shape[1]}",
            "Export the series again, one gray slice a file.",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            one.path, "its pixels are NaN or infinite with the slope and intercept of its header", "Export the series again."
        )
    return array[0]


def place(image: sitk.Image, block: list[DicomSlice]) -> sitk.Image:
    """Give ``image``, whose slices are those of ``block``, the geometry that their tags tell; returns it."""
    first = block[0]
    row_mm, column_mm = first.spacing
    # A single slice tells its extent only by its tags: distance to the next slice, or else its own thickness.
    slice_mm = float(np.median(np.diff([one.height for one in block]))) if len(block) > 1 else first.gap_mm or 1.0
    image.SetSpacing((column_mm, row_mm, slice_mm))
    image.SetOrigin(first.position)
    axes = np.stack([first.cosines[:3], first.cosines[3:], first.normal], axis=1)
    image.SetDirection(axes.reshape(-1).tolist())
    return image


def block_image(block: list[DicomSlice]) -> sitk.Image:
    """One block of ``sort_into_blocks`` as an image, slices along the normal; its geometry is that of the tags.

    Raises:
        DataError: as read_pixels.
    """
    pictures = [read_pixels(one) for one in block]
    image = sitk.GetImageFromArray(np.stack(pictures).astype(np.result_type(*(p.dtype for p in pictures)), copy=False))
    return place(image, block)


def read_series_image(folder: Path) -> sitk.Image:
    """One DICOM series (a folder, or a single file) that is one block, as an image.

    Raises:
        DataError: as series_slices and read_pixels.
    """
    return block_image(series_slices(folder))


def series_slices(folder: Path) -> list[DicomSlice]:
    """The slices of one DICOM series (a folder, or a single file) that is one block, in order along their normal.

    Raises:
        DataError: no DICOM file; several series; slices of several orientations, sizes or distances; several frames in a file.
    """
    slices: list[DicomSlice] = []
    for path in dicom_files(folder):
        one = read_header(path)
        if slices and not parallel(one, slices[0]):
            raise DataError(
                path,
                "its orientation or pixel spacing differs from that of the other slices",
                "Take it out of the folder: one folder holds the parallel slices of one series.",
            )
        slices.append(one)
    series = {one.series for one in slices}
    if len(series) > 1:
        raise DataError(
            folder, f"the folder mixes {len(series)} DICOM series", "Put each series in a folder of its own and give one of them."
        )
    slices.sort(key=lambda one: one.height)
    steps = np.diff([one.height for one in slices])
    if len(steps) and (steps.min() <= DOUBLED_MM or steps.max() - steps.min() > EVEN_STEPS * np.median(steps)):
        raise DataError(
            folder,
            f"its slices lie {steps.min():.2f} to {steps.max():.2f} mm apart",
            "Slices are missing or doubled: export the series again.",
        )
    if len({one.shape for one in slices}) > 1:
        raise DataError(folder, "its slices differ in size", "Export the series again.")
    return slices
