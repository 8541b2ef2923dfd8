"""Volumes with their geometry: read any format, work in one set of axes, write back exactly as it lay.

In memory every volume has the axes (slice, row, column) = (left to right, superior to inferior, anterior to posterior), so
``volume.array[k]`` is a sagittal slice as radiologists look at it: head up, face to the left. The axes are reached by
true reorientation from the file's header (SimpleITK), never guessed from sizes. ITK calls this order "PIR"; it is right-handed.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils.arrays import distinct
from spider_utils.data.dicom import FARTHEST_MM, is_dicom_name, possible_edges, quiet_itk, read_series_image
from spider_utils.data.dicom_header import MOST_PIXELS
from spider_utils.data.inflate import inflate
from spider_utils.data.integrity import Seal, check_whole, find_seal
from spider_utils.errors import DataError
from spider_utils.files import atomic_path
from spider_utils.labels import LabelScheme

KIT_AXES = "PIR"  # ITK's name for (fastest axis to Posterior, then Inferior, then Right)
VOLUME_SUFFIXES = (".mha", ".mhd", ".nii", ".nii.gz", ".nrrd")
_AXIS_OF = {letter: axis for axis in ("LR", "AP", "IS") for letter in axis}
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
PNG_SLICE_SPACING_MM = (1.0, 1.0, 1.0)  # a PNG has no spacing; callers who know it pass it
# Voxels as a MetaImage has them, little-endian; whole numbers of 8 bytes are named differently from system to system.
_STORED = {
    sitk.sitkInt8: "<i1", sitk.sitkUInt8: "<u1", sitk.sitkInt16: "<i2", sitk.sitkUInt16: "<u2", sitk.sitkInt32: "<i4",
    sitk.sitkUInt32: "<u4", sitk.sitkFloat32: "<f4", sitk.sitkFloat64: "<f8",
}  # fmt: skip
Header = sitk.Image | sitk.ImageFileReader  # both tell size, spacing, origin, direction and pixel type


@dataclass(frozen=True)
class StoredGeometry:
    """How a volume lies in its file: sizes and spacings in ITK's order (fastest axis first), mm.

    Attributes:
        size, spacing, origin: as in the header.
        direction: the nine direction cosines, row by row.
        code: orientation as ITK names it, for example "PIR" or "RAI".
        pixel_type: SimpleITK's pixel id of the file.
        axes: for each axis of the file, the axis of the same image in the kit's order that it runs along (1 to 3, fastest
            first; negative: backward). A code cannot say this for a grid turned by 45 degrees, where two names fit.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    code: str
    pixel_type: int
    axes: tuple[int, int, int] = (1, 2, 3)


@dataclass(frozen=True, repr=False, eq=False)
class Volume:
    """An image or a mask with its place in the patient.

    Attributes:
        array: (slice, row, column) = (left to right, superior to inferior, anterior to posterior).
        spacing: mm between voxel centres along (slice, row, column).
        origin: LPS coordinates (mm) of the centre of voxel [0, 0, 0].
        direction: (3, 3); column k is the LPS unit vector along array axis k.
        stored: how the file holds it; None for a volume that was made or resampled here.
        path: the file it came from.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray
    stored: StoredGeometry | None = None
    path: Path | None = None

    def with_array(self, array: np.ndarray) -> Volume:
        """The same geometry around another array of the same shape (a mask predicted for this image, say)."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit a volume of shape {self.array.shape}")
        return replace(self, array=array)

    def squeezed(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """Array and spacing (mm) as ``measure`` takes them: of a single slice (rows, columns), else (slices, rows, columns)."""
        return (self.array[0], self.spacing[1:]) if len(self.array) == 1 else (self.array, self.spacing)

    @property
    def orientation(self) -> str:
        """ITK's name for the orientation of the file ("made" when there is none)."""
        return self.stored.code if self.stored else "made"

    @property
    def acquired_plane(self) -> str:
        """Plane in which a scanner took the slices: "sagittal", "axial" or "coronal", across the longest side of the voxels.

        "undecided" when no side is half as long again as both others: such a volume may have been taken in any plane.
        """
        (second, _), (longest, plane) = sorted(zip(self.spacing, ("sagittal", "axial", "coronal"), strict=True))[1:]
        return plane if longest >= 1.5 * second else "undecided"

    def __repr__(self) -> str:
        name = f"{self.path.name}: " if self.path else ""
        shape = " x ".join(map(str, self.array.shape))
        spacing = " x ".join(f"{s:.2f}" for s in self.spacing)
        return (
            f"Volume({name}{shape} (slice, row, column), {spacing} mm, stored as {self.orientation}, "
            f"{self.array.dtype}, {self.array.nbytes / 1e6:.1f} MB)"
        )


def orientation_code(header: Header) -> str:
    """ITK's three-letter name of an image's orientation, nearest one for oblique images."""
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(header.GetDirection())


def reorient_image(image: sitk.Image, code: str) -> sitk.Image:
    """The same image with its axes permuted and flipped to orientation ``code`` (one of 48); no voxel is interpolated."""
    return sitk.DICOMOrient(image, code)


def _geometry(header: Header) -> StoredGeometry:
    return StoredGeometry(
        header.GetSize(),
        header.GetSpacing(),
        header.GetOrigin(),
        header.GetDirection(),
        orientation_code(header),
        header.GetPixelID(),
    )


class _Kept:
    """Lends the voxels of an image to numpy; the image lives as long as an array of them."""

    def __init__(self, image: sitk.Image):
        self.image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


def from_image(image: sitk.Image, path: str | Path | None = None, orientation: str | None = None, copy: bool = True) -> Volume:
    """A SimpleITK image as a Volume in the kit's axes; its own grid is remembered in ``stored``.

    Args:
        image: three-dimensional, one value a voxel.
        path: where it came from.
        orientation: the true orientation where the image's own direction is wrong (see read_volume).
        copy: False leaves the voxels where ITK has them: ``array`` is a view that cannot be written to, its axes swapped and
            running backward in memory as the file has them. For those who need few of the voxels, or read them once.

    Raises:
        ValueError: ``orientation`` is not one of the 48 codes.
    """
    return _volume(image, np.asarray(_Kept(image)), path, orientation, copy)


def _volume(header: Header, voxels: np.ndarray, path: str | Path | None, orientation: str | None, copy: bool) -> Volume:
    """See from_image; ``voxels`` in the file's own order, slowest axis first."""
    if orientation is not None and sorted(_AXIS_OF.get(letter, letter) for letter in orientation) != ["AP", "IS", "LR"]:
        raise ValueError(f"'{orientation}' is not an orientation: give one of L/R, one of A/P and one of I/S, such as 'PIR'")
    stored = _geometry(header)
    cosines = header.GetDirection()
    if orientation is not None:
        # The header's numbers are kept for writing back; only the meaning of the axes changes.
        stored = replace(stored, code=orientation)
        cosines = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(orientation)
    order, signs, grid = _turned(header, cosines)
    stored = replace(stored, axes=tuple(signs[order.index(axis)] * (order.index(axis) + 1) for axis in range(3)))
    # ITK lists the fastest axis first, numpy last: reverse the order of axes, not the vectors' components.
    array = voxels.transpose([2 - axis for axis in reversed(order)])
    array = array[tuple(slice(None, None, sign) for sign in reversed(signs))]
    direction = np.array(grid.GetDirection()).reshape(3, 3)[:, ::-1]
    return Volume(
        np.array(array, order="C") if copy else array,
        tuple(reversed(grid.GetSpacing())),
        grid.GetOrigin(),
        direction,
        stored,
        Path(path) if path else None,
    )


def _turned(header: Header, cosines: tuple[float, ...]) -> tuple[list[int], list[int], sitk.Image]:
    """What ``reorient_image`` to the kit's axes does, without moving a voxel: ITK takes longer for that than for inflating them.

    Args:
        header: of the image to be turned.
        cosines: its direction.

    Returns:
        For each of the kit's axes the image's axis and 1, or -1 when that runs backward; and a grid of one voxel with the
        spacing, origin and direction of the turned image, to the last digit.
    """
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(cosines)
    order = [next(k for k, own in enumerate(code) if _AXIS_OF[own] == _AXIS_OF[letter]) for letter in KIT_AXES]
    signs = [1 if code[axis] == letter else -1 for axis, letter in zip(order, KIT_AXES, strict=True)]
    grid = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    grid.SetSpacing([header.GetSpacing()[axis] for axis in order])
    grid.SetOrigin(header.GetOrigin())
    permuted = np.reshape(cosines, (3, 3))[:, order]
    grid.SetDirection(permuted.reshape(-1).tolist())
    last = [header.GetSize()[axis] - 1 for axis in order]
    grid.SetOrigin(grid.TransformIndexToPhysicalPoint([n if sign < 0 else 0 for n, sign in zip(last, signs, strict=True)]))
    grid.SetDirection((permuted * signs + 0.0).reshape(-1).tolist())  # no zero is negative
    return order, signs, grid


def to_image(volume: Volume) -> sitk.Image:
    """A Volume as a SimpleITK image in the kit's axes."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([float(s) for s in reversed(volume.spacing)])
    image.SetOrigin([float(o) for o in volume.origin])
    image.SetDirection(volume.direction[:, ::-1].reshape(-1).tolist())
    return image


def to_stored_image(volume: Volume) -> sitk.Image:
    """A Volume as a SimpleITK image exactly in the grid of the file it came from (the kit's axes when it came from none)."""
    image = to_image(volume)
    if volume.stored is None:
        return image
    image = sitk.PermuteAxes(image, [abs(axis) - 1 for axis in volume.stored.axes])
    image = sitk.Flip(image, [axis < 0 for axis in volume.stored.axes])
    if image.GetSize() != tuple(volume.stored.size):
        raise ValueError(f"size {image.GetSize()} differs from the stored {volume.stored.size}")
    # Flipping moves the origin by sums of products; put the header's own numbers back to the last digit.
    image.SetSpacing(volume.stored.spacing)
    image.SetOrigin(volume.stored.origin)
    image.SetDirection(volume.stored.direction)
    return image


def suffix_of(path: str | Path) -> str:
    """The file's suffix in lower case, with ".nii.gz" as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem_of(path: str | Path) -> str:
    """The file's name without its suffix, with ".nii.gz" as one."""
    return Path(path).name[: -len(suffix_of(path)) or None]


def read_pixels(path: str | Path) -> np.ndarray:
    """A PNG or JPEG as an array: (rows, columns) of 8 or 16 bits where the file is gray, else (rows, columns, 3) uint8.

    Raises:
        DataError: the file is no picture, or is truncated.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"):  # it warns of sizes that are refused here, and of animations
            with Image.open(path) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ValueError(f"it claims {picture.width} x {picture.height} pixels, more than any slice has")
                picture.verify()  # the checksums of a PNG, which decoding passes over; closes the file
            with Image.open(path) as picture:
                return np.asarray(picture if picture.mode in ("L", "I", "I;16") else picture.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise whatever damaged bytes lead to: OSError, SyntaxError, IndexError, ...
        reason = str(error).replace(str(path), "").strip() or type(error).__name__
        raise DataError(path, f"cannot be read as a picture ({reason[:80]})", "Fetch or export the file again.") from error


def read_picture(path: str | Path) -> np.ndarray:
    """A gray PNG or JPEG as an array (rows, columns) of 8 or 16 bits. Gray that is stored as RGB or RGBA is gray all the same.

    Raises:
        DataError: as read_pixels, and the file holds colours.
    """
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        return pixels
    if (pixels != pixels[..., :1]).any():
        raise DataError(path, "holds colours, not gray values", "Give a gray image, or a mask with one label value a pixel.")
    return pixels[..., 0]


def kit_direction() -> np.ndarray:
    """Direction matrix of an upright volume: columns right (-x), inferior (-z), posterior (+y) in LPS."""
    return np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def _inflated(path: Path, seal: Seal) -> tuple[Header, np.ndarray] | None:
    """Header and voxels of a compressed MetaImage whose voxels ITK would inflate more slowly, or not what the seal promises.

    None where ITK shall try: the same voxels, or what is wrong with them, come out of that.
    """
    if seal.place.is_big_endian or path.suffix not in (".mha", ".mhd"):  # ITK knows no .MHA
        return None
    header = sitk.ImageFileReader()
    header.SetImageIO("MetaImageIO")
    header.SetFileName(str(path))
    header.ReadImageInformation()
    kind, size = _STORED.get(header.GetPixelID()), header.GetSize()
    single = kind is not None and header.GetNumberOfComponents() == 1 and len(size) == 3
    if not single or math.prod(size) * np.dtype(kind).itemsize != seal.n_bytes:
        return None
    voxels = inflate(seal.place.path, seal.place.start, seal.length, seal.n_bytes)
    if voxels is None:
        return None
    voxels.setflags(write=False)
    return header, voxels.view(kind).reshape(size[::-1])


def _read_whole(path: Path) -> tuple[Header, np.ndarray]:
    """Header and voxels of a file whose voxels are all there and undamaged, which ITK itself does not look at."""
    if seal := find_seal(path):
        with contextlib.suppress(RuntimeError), quiet_itk():
            if found := _inflated(path, seal):
                return found
            image = sitk.ReadImage(str(path))
            if seal.fits(sitk.GetArrayViewFromImage(image)):
                return _single_valued(path, image)
    check_whole(path)
    with quiet_itk():
        image = sitk.ReadImage(str(path))
    return _single_valued(path, image)


def _single_valued(path: Path, image: sitk.Image) -> tuple[sitk.Image, np.ndarray]:
    """A three-dimensional image with one real value a voxel, and its voxels in the file's order. Raises DataError for others."""
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(
            path,
            f"holds {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} values a voxel",
            "Give a three-dimensional image with one value a voxel.",
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise DataError(path, "holds complex values", "Give an image of magnitudes.")
    return image, np.asarray(_Kept(image))


def _read_image(path: Path) -> tuple[Header, np.ndarray]:
    """Header and voxels, in the file's order, of an image of any format. Raises DataError: see read_volume."""
    try:
        if not path.exists():
            raise DataError(path, "the file does not exist", "Check the path.")
        if path.is_dir() or is_dicom_name(path):
            return _single_valued(path, read_series_image(path))
        if suffix_of(path) in PICTURE_SUFFIXES:
            picture = np.ascontiguousarray(read_picture(path))
            image = to_image(Volume(picture[None], PNG_SLICE_SPACING_MM, (0.0, 0.0, 0.0), kit_direction()))
            return _single_valued(path, image)
        return _read_whole(path)
    except (RuntimeError, OSError, ValueError) as error:
        if suffix_of(path) not in (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES) and not (path.is_dir() or is_dicom_name(path)):
            raise DataError(
                path,
                f"is no image: '{suffix_of(path) or path.name}' is no format that is read here",
                f"Give {', '.join(VOLUME_SUFFIXES)}, DICOM, or one slice as {', '.join(PICTURE_SUFFIXES)}.",
            ) from error
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DataError(
            path, f"cannot be read ({reason[:160]})", "The file may be truncated or its header wrong: fetch or export it again."
        ) from error


def read_volume(path: str | Path, orientation: str | None = None, copy: bool = True) -> Volume:
    """Read an image: .mha, .mhd, .nii, .nii.gz, .nrrd, a folder with one DICOM series, one .dcm file, or a PNG/JPEG slice.

    Args:
        path: file, or folder of DICOM files.
        orientation: what the axes really are (an ITK code such as "PIR"), for files whose header is known to be wrong: some
            public sets store sagittal slices with the identity as direction. None trusts the header.
        copy: see from_image.

    Returns:
        Volume in the kit's axes. A 2D picture becomes one sagittal slice with a spacing of 1 mm (it stores none).

    Raises:
        DataError: missing, truncated or unreadable file; more than one channel; NaN or infinite voxels; fewer than 3 dimensions.
    """
    path = Path(path)
    header, voxels = _read_image(path)
    edges, origin = header.GetSpacing(), header.GetOrigin()
    if not possible_edges(edges) or not np.abs(origin).max() <= FARTHEST_MM:  # NaN is neither
        raise DataError(
            path,
            f"has voxels of {' x '.join(f'{e:g}' for e in edges)} mm at {', '.join(f'{o:g}' for o in origin)} mm",
            "Export the file again with a valid header.",
        )
    cosines = np.array(header.GetDirection()).reshape(3, 3)
    if not np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-2):
        raise DataError(
            path, "its direction cosines are not perpendicular unit vectors", "Export the file again with a valid header."
        )
    volume = _volume(header, voxels, path, orientation, copy)
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
        count = int((~np.isfinite(volume.array)).sum())
        raise DataError(path, f"{count} voxels are NaN or infinite", "Export the image again, or replace them on purpose.")
    return volume


def read_mask(
    path: str | Path,
    orientation: str | None = None,
    allow_empty: bool = False,
    copy: bool = True,
    scheme: LabelScheme | None = None,
) -> Volume:
    """Read a mask of labels: like read_volume, and the values must be whole numbers from 0 to 65535.

    Args:
        path, orientation: as read_volume.
        copy: see from_image; a view has the file's own type, else it is uint8 or, for values above 255, uint16.
        allow_empty: take a mask without a single labelled voxel: a model may find nothing, an annotator must not.
        scheme: that must know all its values; None takes any.

    Raises:
        DataError: as read_volume; values that are negative or not whole, or that ``scheme`` does not know; no labelled voxel,
            unless ``allow_empty``.
    """
    volume = read_volume(path, orientation, copy=False)
    array = values = volume.array
    if array.dtype.kind == "f":
        if not np.array_equal(array, np.rint(array)):
            raise DataError(
                path, "a mask must hold whole numbers, but this one has fractions", "Was the image given as the mask?"
            )
    else:
        values = distinct(array)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            path,
            f"mask values run from {values.min():g} to {values.max():g}",
            "Labels must lie between 0 and 65535: was the image given as the mask?",
        )
    if not allow_empty and not values.any():
        raise DataError(path, "the mask is empty: every voxel is 0", "Leave this case out, or get another mask.")
    if scheme is not None:
        try:
            scheme.check(array, None if array.dtype.kind == "f" else values)
        except ValueError as error:
            raise DataError(path, str(error), "Fetch the mask again.") from error
    if not copy:
        return volume
    return volume.with_array(array.astype(np.uint8 if values.max() <= 255 else np.uint16, order="C"))


def with_pixel_size(picture: Volume, spacing_mm: tuple[float, float]) -> Volume:
    """The slice that was read from a picture (.png, .jpg, .jpeg), which stores no pixel size, with the one that is given.

    Args:
        picture: from read_volume or read_mask.
        spacing_mm: of (row, column).

    Raises:
        ValueError: not two positive numbers.
        DataError: the file is of a format that tells its voxel size: a second one could only contradict it.
    """
    if len(spacing_mm) != 2 or not (np.isfinite(spacing_mm).all() and min(spacing_mm) > 0):
        raise ValueError(f"a pixel size is two positive numbers, row and column in mm, not {' '.join(map(str, spacing_mm))}")
    path = picture.path or Path("mask")
    if picture.stored is None or suffix_of(path) not in PICTURE_SUFFIXES:
        raise DataError(
            path,
            f"tells its own voxel size ({_numbers(picture.spacing)} mm: slice, row, column)",
            f"Leave the pixel size (--spacing-mm) out: it is for files that store none ({', '.join(PICTURE_SUFFIXES)}).",
        )
    (row, column), slice_mm = map(float, spacing_mm), picture.spacing[0]
    stored = replace(picture.stored, spacing=(column, row, slice_mm))  # a volume that is written takes it from here
    return replace(picture, spacing=(slice_mm, row, column), stored=stored)


GEOMETRY_TOLERANCE_MM = 1e-2  # rounding of positions in headers; far below a voxel
SPACING_TOLERANCE = 1e-3  # share of the spacing: over 512 voxels it adds up to half a voxel


def geometry_differences(first: Volume, second: Volume) -> list[str]:
    """Which of size, spacing, origin and direction differ, each with both values; empty when all agree.

    Compared as the files store them when both come from files, so that the numbers are those of the headers.
    """
    a, b = (v.stored or _geometry(to_image(v)) for v in (first, second))
    found = []
    if tuple(a.size) != tuple(b.size):
        found.append(f"size ({_numbers(a.size)} against {_numbers(b.size)})")
    for name, absolute, relative in (("spacing", 0.0, SPACING_TOLERANCE), ("origin", GEOMETRY_TOLERANCE_MM, 0.0)):
        x, y = getattr(a, name), getattr(b, name)
        if not np.allclose(x, y, atol=absolute, rtol=relative):
            found.append(f"{name} ({_numbers(x)} against {_numbers(y)} mm)")
    if not np.allclose(a.direction, b.direction, atol=1e-3):
        largest = np.abs(np.subtract(a.direction, b.direction)).max()
        found.append(f"direction ({a.code} against {b.code}, cosines differ by up to {largest:.3f})")
    return found


def _numbers(values: tuple[float, ...]) -> str:
    return " x ".join(f"{v:g}" if isinstance(v, int) else f"{v:.3f}" for v in values)


def check_same_geometry(image: Volume, mask: Volume) -> None:
    """Raise DataError when image and mask do not share one grid, naming which of size, spacing, origin, direction differ."""
    differences = geometry_differences(image, mask)
    if differences:
        raise DataError(
            mask.path or "mask",
            f"its geometry differs from {image.path.name if image.path else 'the image'} in " + ", ".join(differences),
            "Pair files by name, or resample the mask onto the image's grid (resample_like).",
        )


def read_pair(
    image_path: str | Path,
    mask_path: str | Path,
    orientation: str | None = None,
    copy: bool = True,
    scheme: LabelScheme | None = None,
) -> tuple[Volume, Volume]:
    """Read an image and its mask (see read_volume, read_mask) and make sure that they share one grid, else raise DataError."""
    image, mask = read_in_turn(image_path, mask_path, orientation, copy, scheme)
    return image, mask


def read_in_turn(
    image_path: str | Path,
    mask_path: str | Path,
    orientation: str | None = None,
    copy: bool = True,
    scheme: LabelScheme | None = None,
) -> Iterator[Volume]:
    """The image and then the mask of ``read_pair``: who lets go of the image before taking the mask has room for one only."""
    read = [read_volume(image_path, orientation, copy)]
    grid = read[0].with_array(np.broadcast_to(np.uint8(0), read[0].array.shape))
    yield read.pop()  # kept by the taker alone
    mask = read_mask(mask_path, orientation, copy=copy, scheme=scheme)
    check_same_geometry(grid, mask)
    yield mask


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write a volume in the grid of the file it came from: same size, spacing, origin and direction.

    Args:
        volume: image or mask. Its dtype decides the file's.
        path: .mha, .nii, .nii.gz or .nrrd (compressed); .png for a single 8-bit slice.

    Raises:
        DataError: unknown suffix, several slices for a PNG, full disk, read-only folder. Nothing is left half written.
    """
    path = Path(path)
    if suffix_of(path) == ".png":
        from PIL import Image

        if volume.array.shape[0] != 1 or volume.array.dtype != np.uint8:
            raise DataError(path, "a PNG holds one 8-bit slice", "Write this volume as .mha or .nii.gz.")
        with atomic_path(path) as partial:
            Image.fromarray(volume.array[0]).save(partial)
        return path
    if suffix_of(path) not in VOLUME_SUFFIXES or suffix_of(path) == ".mhd":
        raise DataError(path, f"the format '{suffix_of(path)}' cannot be written", "Use .mha, .nii, .nii.gz or .nrrd.")
    image = to_stored_image(volume)
    with atomic_path(path) as partial:
        failed = DataError(path, "cannot be written", "Is the disk full, or the folder read-only?")
        try:
            with quiet_itk():
                sitk.WriteImage(image, str(partial), useCompression=True)
            # ITK does not notice when a full disk cuts a NIfTI or NRRD file short: read it back.
            back = _read_image(partial)[1]
        except (RuntimeError, DataError) as error:
            raise failed from error
        array = sitk.GetArrayViewFromImage(image)
        if not np.array_equal(back, array, equal_nan=array.dtype.kind == "f"):
            raise failed
    return path


def resample(volume: Volume, spacing_mm: tuple[float, float, float], is_mask: bool = False) -> Volume:
    """Resample to another voxel size over the same field of view.

    Args:
        volume: image or mask.
        spacing_mm: new spacing along (slice, row, column).
        is_mask: nearest neighbour, which never invents a label; images are interpolated linearly.

    Returns:
        New volume; the outer edges of the grid stay where they were (to half a voxel of rounding).
    """
    old_spacing, old_shape = np.array(volume.spacing), np.array(volume.array.shape)
    spacing = np.array(spacing_mm, dtype=float)
    if (spacing <= 0).any():
        raise ValueError(f"spacing must be positive, in mm, not {spacing_mm}")
    shape = np.maximum(1, np.rint(old_shape * old_spacing / spacing)).astype(int)
    # Voxel centres move when the outer edge stays: half a new voxel in from the edge instead of half an old one.
    shift = volume.direction @ ((spacing - old_spacing) / 2)
    reference = Volume(np.empty(shape, np.uint8), tuple(spacing), tuple(np.array(volume.origin) + shift), volume.direction)
    # A grid of a single voxel may reach beyond the old one: the nearest edge is held there.
    return _resample(volume, reference, is_mask, hold_edges=True)


def reslice_sagittal(volume: Volume, is_mask: bool = False) -> Volume:
    """A series that was taken in the axial or coronal plane, as sagittal slices with square pixels (`ahmed`, data cleaning).

    What lies between two thick slices was never measured: it is interpolated here, and no finer than the file.

    Args:
        volume: image or mask; in the kit's axes, as every volume that was read: ``array[k]`` is sagittal, if with long pixels.
        is_mask: nearest neighbour instead of linear interpolation.

    Returns:
        The volume itself when its plane is sagittal or undecided; else rows and columns as close as the finer of both.
    """
    if volume.acquired_plane in ("sagittal", "undecided"):
        return volume
    edge = min(volume.spacing[1:])
    return resample(volume, (volume.spacing[0], edge, edge), is_mask)


def resample_like(volume: Volume, reference: Volume, is_mask: bool = False) -> Volume:
    """Resample onto the grid of another volume. Outside the field of view (half a voxel beyond the outer centres) all is 0.

    Args:
        volume: image or mask.
        reference: gives size, spacing, origin and direction; its array is not read.
        is_mask: nearest neighbour instead of linear interpolation.
    """
    return _resample(volume, reference, is_mask, hold_edges=False)


def _resample(volume: Volume, reference: Volume, is_mask: bool, hold_edges: bool) -> Volume:
    grid = sitk.Image([int(n) for n in reversed(reference.array.shape)], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in reversed(reference.spacing)])
    grid.SetOrigin([float(o) for o in reference.origin])
    grid.SetDirection(reference.direction[:, ::-1].reshape(-1).tolist())
    source = to_image(volume)
    if not is_mask and source.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64):
        source = sitk.Cast(source, sitk.sitkFloat32)
    method = sitk.sitkNearestNeighbor if is_mask else sitk.sitkLinear
    out = sitk.Resample(source, grid, sitk.Transform(), method, 0.0, source.GetPixelID(), hold_edges)
    return Volume(
        sitk.GetArrayFromImage(out), reference.spacing, reference.origin, reference.direction, reference.stored, volume.path
    )
