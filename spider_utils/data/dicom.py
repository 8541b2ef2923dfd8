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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils.errors import DataError

SAME_COSINES = 1e-3
SAME_SPACING = 1e-3  # share of the spacing
EVEN_STEPS = 0.1  # share of the usual distance by which slices of one block may lie nearer or further
SEXES = ("F", "M", "O")  # PS3.3, table C.7-1
DOUBLED_MM = 0.01  # slices nearer than this lie in one place

# PS3.5 section 10 and PS3.6 table A-1; what GDCM decodes and what it does not.
TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, first-order prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 Lossless, RPCL",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}

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


def is_dicom_name(path: Path) -> bool:
    """DICOM files are called *.dcm or *.IMA, have no suffix, or end in a number of their UID."""
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


def transfer_syntax(path: Path) -> str:
    """How the pixels of a DICOM file are packed, in words: name and UID; "unknown" when the file does not say."""
    with open(path, "rb") as file:
        head = file.read(4096)
    place = head.find(b"\x02\x00\x10\x00UI", 132)
    if head[128:132] != b"DICM" or place < 0:
        return "unknown"
    length = int.from_bytes(head[place + 6 : place + 8], "little")
    uid = head[place + 8 : place + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")
    return f"{TRANSFER_SYNTAXES.get(uid, 'not known to the kit')} ({uid})"


def _text(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _numbers(reader: sitk.ImageFileReader, tag: str, count: int) -> np.ndarray | None:
    """The numbers of a DICOM tag, or None when the tag is absent or does not hold ``count`` of them."""
    try:
        numbers = np.array([float(part) for part in _text(reader, tag).split("\\")])
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def _age(text: str) -> float | None:
    """Years of an age string such as 045Y or 018M (PS3.5, table 6.2-1), None when it is no such string."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text)
    return int(match[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}[match[2]] if match else None


def read_header(path: Path) -> DicomSlice:
    """One slice's header.

    Raises:
        DataError: no DICOM, or one without position, orientation or pixel spacing.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(
            path, "cannot be read as DICOM", "Fetch or export the series again, or take the file out of the folder."
        ) from error
    # These tags are read here because GDCM falls back to a spacing of 1 mm when a file lacks its SOP class.
    position, cosines = _numbers(reader, "0020|0032", 3), _numbers(reader, "0020|0037", 6)
    spacing = _numbers(reader, "0028|0030", 2)
    if position is None or cosines is None or spacing is None:
        raise DataError(
            path, "lacks its position, orientation or pixel spacing", "Export the series again with these DICOM tags."
        )
    gaps = [_numbers(reader, tag, 1) for tag in ("0018|0088", "0018|0050")]
    instance = _numbers(reader, "0020|0013", 1)
    sex = _text(reader, "0010|0040").upper()
    columns, rows = reader.GetSize()[:2]
    return DicomSlice(
        path=path,
        series=_text(reader, "0020|000e"),
        instance=None if instance is None else int(instance[0]),
        position=tuple(position.tolist()),
        cosines=tuple(cosines.tolist()),
        spacing=tuple(spacing.tolist()),
        shape=(rows, columns),
        gap_mm=next((float(gap[0]) for gap in gaps if gap is not None and gap[0] > 0), None),
        age=_age(_text(reader, "0010|1010")),
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
        DataError: the pixels cannot be decoded; the line names the transfer syntax.
    """
    try:
        with quiet_itk():
            image = sitk.ReadImage(str(one.path))
        array = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise DataError(
            one.path,
            f"its pixels cannot be decoded; transfer syntax {transfer_syntax(one.path)}",
            "The file is damaged, or packed in a way that SimpleITK does not know: export the series again, uncompressed.",
        ) from error
    if array.shape != (1, *one.shape):
        raise DataError(
            one.path,
            f"holds pixels of shape {array.shape}, not one gray picture of {one.shape[0]} x {one.shape[1]}",
            "Export the series again, one gray slice a file.",
        )
    return array[0]


def block_image(block: list[DicomSlice]) -> sitk.Image:
    """One block of ``sort_into_blocks`` as an image, slices along the normal; its geometry is that of the tags.

    Raises:
        DataError: as read_pixels.
    """
    pictures = [read_pixels(one) for one in block]
    image = sitk.GetImageFromArray(np.stack(pictures).astype(np.result_type(*(p.dtype for p in pictures)), copy=False))
    first = block[0]
    row_mm, column_mm = first.spacing
    # A single slice tells its extent only by its tags: distance to the next slice, or else its own thickness.
    slice_mm = float(np.median(np.diff([one.height for one in block]))) if len(block) > 1 else first.gap_mm or 1.0
    image.SetSpacing((column_mm, row_mm, slice_mm))
    image.SetOrigin(first.position)
    axes = np.stack([first.cosines[:3], first.cosines[3:], first.normal], axis=1)
    image.SetDirection(axes.reshape(-1).tolist())
    return image


def read_series_image(folder: Path) -> sitk.Image:
    """One DICOM series (a folder, or a single file) that is one block, as an image.

    Raises:
        DataError: no DICOM file; several series; slices of several orientations, sizes or distances; undecodable pixels.
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
    return block_image(slices)
