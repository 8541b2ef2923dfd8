"""A mask as DICOM Segmentation (PS3.3, section A.51), beside the series that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils import __version__
from spider_utils.data.dicom import DicomSlice, place, series_slices
from spider_utils.data.dicom_write import MR_IMAGE_STORAGE
from spider_utils.data.volumes import Volume, check_same_geometry, from_image, to_stored_image
from spider_utils.errors import DataError
from spider_utils.export import optional_library
from spider_utils.export.anatomy import anatomy_of
from spider_utils.files import atomic_path
from spider_utils.labels import get_scheme
from spider_utils.training.checkpoints import read_card

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

KIT = "spider kit"
SERIES_NUMBERS_FROM = 1000  # of segmentations: this plus the number of their source
_LONGEST = 64  # characters of a text of VR LO
# What a segmentation's references need of every source image, and what it may copy empty (types 1 and 2 of PS3.3).
_NEEDED = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True)
class Algorithm:
    """What made a mask, as PS3.3, table 10-19, asks.

    Attributes:
        name: of the program and its network, such as "spider kit unet".
        version: of the program.
        parameters: anything that tells its models apart, such as the run's name.
    """

    name: str = KIT
    version: str = __version__
    parameters: str = ""

    @classmethod
    def of_run(cls, folder: str | Path) -> Algorithm:
        """The network of a run folder. Raises DataError when it holds none."""
        card, name = read_card(folder), Path(folder).resolve().name
        if "second_opinion" in card:  # opened before it drew, so the entry is whole
            name += f", with a second opinion of {card['second_opinion']['network']}"
        return cls(f"{KIT} {card['architecture']}", parameters=name)


def write_dicom_seg(mask: Volume, series: str | Path, path: str | Path, scheme: str, algorithm: Algorithm | None = None) -> Path:
    """Write a mask of a DICOM series as DICOM SEG: one binary segment for each label that it holds.

    Segments have the scheme's names as labels, its colours, codes of their anatomy (see ``anatomy``), and are numbered from 1
    in the order of mask values. Every frame refers to the slice that it lies on, in the series' frame of reference. Patient and
    study are those of the series: the file says whatever the series says of the patient.

    Args:
        mask: in the series' own grid, in any order of axes, as ``predict`` writes it.
        series: folder of one series of single-frame slices, or one .dcm file.
        path: the .dcm file to write.
        scheme: label scheme of the mask.
        algorithm: what made it; the kit when left out.

    Returns:
        ``path``.

    Raises:
        DataError: another suffix, or a path within the series' folder; no proper series (see data.dicom.series_slices), or one
            without the UIDs that references need; the mask lies in another grid, is empty, or holds values that the scheme does
            not know; ``path`` cannot be written.
        KitError: highdicom is not installed, or the scheme's labels have no codes.
    """
    path, series, algorithm = Path(path), Path(series), algorithm or Algorithm()
    if path.suffix.lower() != ".dcm":
        raise DataError(path, "a DICOM SEG is a .dcm file", "Give a name that ends in .dcm.")
    if path.resolve().parent == (series.parent if series.is_file() else series).resolve():
        raise DataError(path, "it would lie among the slices of its series", "Choose another folder.")
    optional_library("highdicom")  # said before anything is read
    anatomy_of(scheme)
    slices = series_slices(series)
    frames = _in_series_grid(mask, series, slices)
    try:
        get_scheme(scheme).check(frames)
    except ValueError as error:
        raise DataError(mask.path or "mask", str(error), "Give the scheme that the mask was written in.") from error
    values = [value for value in np.unique(frames).tolist() if value]
    if not values:
        raise DataError(mask.path or "mask", "is empty: a DICOM SEG needs one segment at least", "Nothing was found to export.")
    numbered = np.searchsorted(values, frames) + 1  # background comes out as 1 and is put right
    segments = np.where(frames == 0, 0, numbered).astype(np.uint8)
    seg = _segmentation(_sources(slices), segments, _descriptions(values, scheme, algorithm), scheme)
    with atomic_path(path) as partial:
        seg.save_as(partial)
    return path


def _in_series_grid(mask: Volume, series: Path, slices: list[DicomSlice]) -> np.ndarray:
    """The mask's values (slices, rows, columns), in the order and the axes of the series' pictures."""
    rows, columns = slices[0].shape
    grid = from_image(place(sitk.Image(columns, rows, len(slices), sitk.sitkUInt8), slices), series)
    # In the kit's axes: a mask that another program stored in another order of axes may lie in the same grid all the same.
    check_same_geometry(replace(grid, stored=None), replace(mask, stored=None))
    return sitk.GetArrayFromImage(to_stored_image(grid.with_array(mask.array)))


def _sources(slices: list[DicomSlice]) -> list[Dataset]:
    """The slices' attributes without their pixels, completed where anonymised files lack what may be empty or is known."""
    pydicom = optional_library("pydicom")
    steps = np.diff([one.height for one in slices])
    found = []
    for one in slices:
        source = pydicom.dcmread(one.path, stop_before_pixels=True)
        if "SOPClassUID" not in source and "MediaStorageSOPClassUID" in source.file_meta:
            source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID  # they must be equal (PS3.10, section 7.1)
        if missing := [name for name in (*_NEEDED, "SOPClassUID") if not source.get(name)]:
            raise DataError(
                one.path,
                f"lacks {', '.join(missing)}, without which a DICOM SEG cannot refer to it",
                "Export the series again with these DICOM tags.",
            )
        for name in _MAY_BE_EMPTY:
            if name not in source:
                setattr(source, name, "")
        # Headers tell the gap between slices wrong now and then; positions do not.
        source.SpacingBetweenSlices = pydicom.valuerep.format_number_as_ds(
            float(np.median(steps)) if len(steps) else one.gap_mm or 1.0
        )
        if not source.get("SliceThickness"):
            source.SliceThickness = source.SpacingBetweenSlices
        found.append(source)
    return found


def _descriptions(values: list[int], scheme: str, algorithm: Algorithm) -> list[SegmentDescription]:
    """The segments' descriptions, in the order of mask values."""
    hd = optional_library("highdicom")
    codes = optional_library("pydicom.sr.codedict").codes
    chosen, anatomy = get_scheme(scheme), anatomy_of(scheme)
    made_by = hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:_LONGEST],
        version=algorithm.version[:_LONGEST],
        family=codes.CID7162.ArtificialIntelligence,
        parameters={"model": algorithm.parameters} if algorithm.parameters else None,
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=chosen.names[value],
            segmented_property_category=anatomy[value].category,
            segmented_property_type=anatomy[value].type,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
            display_color=hd.color.CIELabColor.from_rgb(*chosen.colors[value]),
        )
        for number, value in enumerate(values, start=1)
    ]


def _segmentation(
    sources: list[Dataset], segments: np.ndarray, descriptions: list[SegmentDescription], scheme: str
) -> Segmentation:
    """The data set of frames (slices, rows, columns) of segment numbers, 0 for none."""
    hd = optional_library("highdicom")
    folder = Path(sources[0].filename).parent
    classes, uids = {source.SOPClassUID for source in sources}, {source.SOPInstanceUID for source in sources}
    if len(classes) > 1 or len(uids) < len(sources):
        problem = "its slices are of several SOP classes" if len(classes) > 1 else "two of its slices have one SOPInstanceUID"
        raise DataError(folder, problem, "Export the series again.")
    # Files of one slice that carry the class of multi-frame images (RSNA 2024) have none of their attributes: highdicom takes
    # them for what they are under the class of slices; references name the class that the files have.
    (stored_class,) = classes
    for source in sources:
        source.SOPClassUID = MR_IMAGE_STORAGE
    try:
        seg = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=segments,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBERS_FROM + int(sources[0].get("SeriesNumber") or 0),
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=KIT,
            manufacturer_model_name="spider-utils",
            software_versions=__version__,
            device_serial_number="none",
            content_label="SPIDER_KIT",
            content_description=f"Lumbar spine, labels of scheme {scheme}",
            series_description=f"Segmentation by the {KIT}, not for diagnosis",
        )
    except (AttributeError, TypeError, ValueError) as error:
        problem = f"highdicom cannot make a segmentation of it ({error})"
        raise DataError(folder, problem, "Export the series again with complete headers.") from error
    for reference in _references(seg):
        reference.ReferencedSOPClassUID = stored_class
    return seg


def _references(dataset: Dataset) -> Iterator[Dataset]:
    """Every item within ``dataset`` that refers to an image."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "ReferencedSOPClassUID" in item:
                    yield item
                yield from _references(item)
