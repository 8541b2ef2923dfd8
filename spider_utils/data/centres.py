"""Lumbar MRI of other centres and sequences, to score networks on that have seen neither: each set as its owners stored it.

Images and masks come out in the kit's axes; masks in ``structures4`` as SPIDER draws them, so the sacrum and the endplates
between vertebra and disc, which SPIDER leaves out, are background. Where a set says which level is which, its cases have levels
too, in ``spider``.

Sets (each a folder of the same name, the isotropic one holds two)
------------------------------------------------------------------
``mendeley_t1_2d``
    middle T1 slices of another centre (Sudirman et al.): images/T1_<patient>_S<slice>.jpg, masks/<same name>.png. Vertebral
    bodies counted downward, 1 = L1 to 5 = L5, and 6 = S1. Pixel size not stored. JPEG blurs edges of the image, not of the mask.
``spider_t1t2_vertebrae_2d``
    single T1 and T2 slices of SPIDER, both upside down: images/<series>_<slice>.png, masks/<same name>.png. Whole vertebrae in
    colours (COLOURS), those that the picture cuts are not marked. Pixel size not stored. Numbers of series are not SPIDER's, and
    a patient may have two: patients are unknown. A mask may be empty, at the side of the spine.
``chu2015_t2_3d``
    T2 volumes (Chu et al. 2015): case<patient>_image.mha and _instances.mha. Vertebral bodies from 1 = L5 upward, as far as
    T11. Headers say identity; rows run down, columns backwards, slices from side to side.
``isotropic_3d``
    T2 volumes of 1 mm: discs up to L1/L2 (``IVD_*``) or vertebral bodies (``VBs_*``); see data.discs. A body of S1 is left out
    (measure.levels tells it from L5). Discs are numbered from 1 = L5/S1 upward. Numbers of bodies follow no order: the lowest one
    above the sacrum is L5, as it is in the two volumes of which the kit's results speak.
``tptbox_crop_3d``
    a crop of a T2 volume around one vertebra (TPTBox): <subject>_<rest>_T2w.nii.gz, <subject>_seg-subreg_<rest>_msk.nii.gz with
    parts of vertebrae, canal, cord, discs and endplates by SPINEPS' numbers.
``spider_midslices_unlabelled``, ``sct_t2_lumbar_3d``
    no truth: middle slices of SPIDER (images/<patient>_t1.png, _t2.png), a T2 volume of 1 mm (t2_lumbar.nii.gz).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spider_utils.data.discs import check_stacked, open_disc_set
from spider_utils.data.volumes import Volume, read_pair, read_pixels, read_volume
from spider_utils.errors import DataError
from spider_utils.labels import CANAL, DISC, VERTEBRA, convert
from spider_utils.measure.levels import name_levels

COLOURS = {  # of the vertebrae of spider_t1t2_vertebrae_2d, L5 to T11
    (255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3, (255, 255, 0): 4, (255, 0, 255): 5, (0, 255, 255): 6, (128, 128, 128): 7,
}  # fmt: skip
_LEVELS_DOWNWARD = {**{number: 6 - number for number in range(1, 6)}, 6: 0}  # L1 to L5, and S1, which is no level
_SUBREGIONS = {**{part: VERTEBRA for part in range(41, 51)}, 60: CANAL, 61: CANAL, 62: 0, 100: DISC}  # cord, canal, endplates
_DISCS = 200  # added to their numbers in ``spider``
_TRUE_AXES = "PIR"  # of volumes whose header says identity
_UPSIDE_DOWN = "PSR"


@dataclass(frozen=True)
class CentreCase:
    """One volume or single slice.

    Attributes:
        case: its name.
        patient: number or name of the patient; of the series where patients are unknown (CentreSet.patients_known).
        image: in the kit's axes; a single slice has a spacing of 1 mm that means nothing (CentreSet.spacing_known).
        mask: uint8 in ``structures4`` on the image's grid; None where there is no truth.
        levels: the same truth in ``spider``: 1 = L5 and upward, 201 = L5/S1 and upward; None where it knows no levels.
    """

    case: str
    patient: str
    image: Volume
    mask: Volume | None
    levels: Volume | None = None


@dataclass(frozen=True)
class CentreSet:
    """A set of cases with one kind of truth.

    Attributes:
        name: as in tables.
        sequence: "T1", "T2" or "T1 or T2".
        files: glob pattern, below the root, of its images.
        read: (paths of the images) -> cases, read one at a time.
        structures: values of ``structures4`` that its truth holds; empty where there is none.
        bodies_only: whether "vertebra" is the vertebral body alone in its truth, without arch and processes.
        spacing_known: False for pictures: pixels are taken as square, and there are no distances.
        patients_known: False where ``CentreCase.patient`` names a series.
    """

    name: str
    sequence: str
    files: str
    read: Callable[[list[Path]], Iterator[CentreCase]]
    structures: tuple[int, ...] = ()
    bodies_only: bool = False
    spacing_known: bool = True
    patients_known: bool = True

    def images(self, root: str | Path) -> list[Path]:
        """Its images below ``root``, ascending by name; none where the set is not there."""
        return sorted(Path(root).glob(self.files))

    def cases(self, root: str | Path) -> Iterator[CentreCase]:
        """Its cases, read one at a time; none where the set is not there.

        Raises:
            DataError: a file cannot be read, is named otherwise than in this set, has no mask, holds an unknown label or colour,
                or image and mask differ in their grid; or vertebrae do not stand one above the other as their numbers say.
        """
        images = self.images(root)
        return self.read(images) if images else iter(())


# ----------------------------------------------------------------------------------------------------------------- readers


def _mendeley(images: list[Path]) -> Iterator[CentreCase]:
    for path in images:
        patient = _name(path, r"T1_(\d+)_S\d+")
        image, mask = read_pair(path, _mask_of_picture(path))
        levels = _relabelled(mask, _LEVELS_DOWNWARD)
        check_stacked(mask.with_array((7 - mask.array) % 7))  # with S1
        yield _with_levels(path.stem, patient, image, levels)


def _spider_vertebrae(images: list[Path]) -> Iterator[CentreCase]:
    for path in images:
        series = _name(path, r"(\d+)_\d+")
        image = read_volume(path, _UPSIDE_DOWN)
        marked = _mask_of_picture(path)
        numbers = _numbers_of_colours(marked)[None, ::-1]
        if numbers.shape != image.array.shape:
            raise DataError(marked, f"has not the size of {path.name}", "Fetch both again.")
        levels = replace(image.with_array(numbers), path=marked)
        check_stacked(levels)
        yield _with_levels(path.stem, series, image, levels)


def _chu(images: list[Path]) -> Iterator[CentreCase]:
    for path in images:
        patient = _name(path, r"case(\d+)_image")
        image, mask = read_pair(path, path.with_name(f"case{patient}_instances.mha"), _TRUE_AXES)
        levels = _relabelled(mask, {level: level for level in range(1, 8)})
        check_stacked(levels)
        yield _with_levels(f"case{patient}", patient, image, levels)


def _isotropic_discs(images: list[Path]) -> Iterator[CentreCase]:
    found = open_disc_set("isotropic", images[0].parent)
    for name in found.cases["case"]:
        case = found.load(name)
        numbers = case.mask.array  # uint8, 1 = L5/S1 to 7
        levels = case.mask.with_array(np.where(numbers > 0, numbers + np.uint8(_DISCS), 0))
        yield _with_levels(name, str(case.patient), case.images[0], levels)


def _isotropic_bodies(images: list[Path]) -> Iterator[CentreCase]:
    found = open_disc_set("isotropic", images[0].parent, "bodies")
    for name in found.cases["case"]:
        case = found.load(name)
        try:
            levels = name_levels(case.mask.array > 0, case.mask.spacing, "vertebrae").mask
        except ValueError as error:
            raise DataError(case.mask.path, f"no vertebral body can be told ({error})", "Fetch the mask again.") from error
        yield _with_levels(name, str(case.patient), case.images[0], case.mask.with_array(levels))


def _tptbox(images: list[Path]) -> Iterator[CentreCase]:
    for path in images:
        subject, rest = path.name.removesuffix("_T2w.nii.gz").split("_", maxsplit=1)
        image, mask = read_pair(path, path.with_name(f"{subject}_seg-subreg_{rest}_msk.nii.gz"))
        truth = _relabelled(mask, _SUBREGIONS)
        yield CentreCase(f"{subject}_{rest}", subject, image, truth)


def _middle_slices(images: list[Path]) -> Iterator[CentreCase]:
    for path in images:
        yield CentreCase(path.stem, _name(path, r"(\d+)_t[12]"), read_volume(path), None)


def _volumes(images: list[Path]) -> Iterator[CentreCase]:
    for path in images:
        name = path.name.removesuffix(".nii.gz")
        yield CentreCase(name, name, read_volume(path), None)


def _with_levels(case: str, patient: str, image: Volume, levels: Volume) -> CentreCase:
    """A case whose truth numbers all that it marks."""
    return CentreCase(case, patient, image, levels.with_array(convert(levels.array, "spider", "structures4")), levels)


def _name(path: Path, pattern: str) -> str:
    """The patient (or series) in a file's name."""
    match = re.fullmatch(pattern, path.stem)
    if not match:
        raise DataError(path, "is not named as the images of this set", "Give it the set's name back, or take it away.")
    return match[1]


def _mask_of_picture(path: Path) -> Path:
    """The PNG of the same name in the folder masks/ beside images/."""
    mask = path.parents[1] / "masks" / f"{path.stem}.png"
    if not mask.is_file():
        raise DataError(mask, f"the mask of {path.name} is missing", "Add it, or take the image away.")
    return mask


def _relabelled(mask: Volume, values: Mapping[int, int]) -> Volume:
    """A mask of the set's own labels as uint8 with the values given. Raises DataError when it holds a label that has none."""
    unknown = sorted(set(np.unique(mask.array).tolist()) - {0, *values})
    if unknown:
        count = int((mask.array == unknown[0]).sum())
        raise DataError(
            mask.path, f"holds the unknown label {unknown[0]} ({count} voxels)", f"Known are {', '.join(map(str, values))}."
        )
    table = np.zeros(max(values) + 1, np.uint8)
    table[list(values)] = list(values.values())
    return mask.with_array(table[mask.array])


def _numbers_of_colours(path: Path) -> np.ndarray:
    """A mask in COLOURS as uint8 numbers (rows, columns). Raises DataError when it holds another colour."""
    pixels = read_pixels(path)
    if pixels.ndim == 2:  # one gray colour alone, or nothing, may be stored as gray
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    numbers = np.zeros(pixels.shape[:2], np.uint8)
    for colour, number in COLOURS.items():
        numbers[(pixels == colour).all(axis=2)] = number
    strange = pixels[(numbers == 0) & pixels.any(axis=2)]
    if len(strange):
        raise DataError(
            path, f"holds the unknown colour {tuple(strange[0].tolist())} ({len(strange)} pixels)", "Fetch the mask again."
        )
    return numbers


CENTRE_SETS = (
    CentreSet("mendeley_t1_2d", "T1", "mendeley_t1_2d/images/*.jpg", _mendeley, (VERTEBRA,), True, spacing_known=False),
    CentreSet(
        "spider_t1t2_vertebrae_2d", "T1 or T2", "spider_t1t2_vertebrae_2d/images/*.png", _spider_vertebrae, (VERTEBRA,),
        spacing_known=False, patients_known=False,
    ),
    CentreSet("chu2015_t2_3d", "T2", "chu2015_t2_3d/case*_image.mha", _chu, (VERTEBRA,), bodies_only=True),
    CentreSet("isotropic_3d, IVD", "T2", "isotropic_3d/IVD_*_image.mha", _isotropic_discs, (DISC,)),
    CentreSet("isotropic_3d, VBs", "T2", "isotropic_3d/VBs_*_image.mha", _isotropic_bodies, (VERTEBRA,), bodies_only=True),
    CentreSet("tptbox_crop_3d", "T2", "tptbox_crop_3d/sub-*_T2w.nii.gz", _tptbox, (VERTEBRA, CANAL, DISC)),
    CentreSet(
        "spider_midslices_unlabelled", "T1 or T2", "spider_midslices_unlabelled/images/*.png", _middle_slices, spacing_known=False
    ),
    CentreSet("sct_t2_lumbar_3d", "T2", "sct_t2_lumbar_3d/*.nii.gz", _volumes),
)  # fmt: skip


def sets_in(root: str | Path) -> tuple[list[CentreSet], list[CentreSet]]:
    """The sets whose images are below ``root``, and those whose are not.

    Raises:
        DataError: none is there.
    """
    there = [one for one in CENTRE_SETS if one.images(root)]
    if not there:
        known = ", ".join(dict.fromkeys(Path(one.files).parts[0] for one in CENTRE_SETS))
        raise DataError(root, "holds none of the sets of other centres", f"Give the folder that holds one of: {known}.")
    return there, [one for one in CENTRE_SETS if one not in there]
