"""Images on disk in, masks on disk out: what a path means, and what must be known of each image and its mask."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spider_utils.arrays import distinct
from spider_utils.data.dicom import has_dicom_mark, is_dicom_name
from spider_utils.data.slices import CROP_MM
from spider_utils.data.volumes import PICTURE_SUFFIXES, VOLUME_SUFFIXES, Volume, read_volume, suffix_of, write_volume
from spider_utils.ensemble.pooling import NetworkAgreement
from spider_utils.errors import DataError, KitError
from spider_utils.labels import convert, get_scheme
from spider_utils.mask_table import MaskTable, file_name
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS
from spider_utils.predict import SLICES_AT_ONCE, PooledPredictor, Track, VolumePredictor
from spider_utils.runtime import progress

IMAGE_SUFFIXES = (*(s for s in VOLUME_SUFFIXES if s != ".mhd"), *PICTURE_SUFFIXES)
HEADER_LIES = "If the slices are sagittal and the header is wrong: spider-kit data reorient SCAN --orientation PIR --out COPY."
LEAST_MM = 40.0  # the longer side of a picture: below it a header is more likely wrong than a picture of one vertebra
_FEW_VALUES = 30  # different ones in a picture: fewer are more likely labels
LOW_AGREEMENT = 0.8  # below it masks may be worth anything (docs/results/trust.md)


def find_inputs(path: str | Path) -> list[Path]:
    """The images that a path means: one file; every image file of a folder and every folder right below it that holds a DICOM
    series; or a folder with one DICOM series.

    Raises:
        DataError: nothing there that can be read, or a file of an unknown format.
    """
    path = Path(path)
    if path.is_dir():
        there = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        files = [p for p in there if suffix_of(p) in IMAGE_SUFFIXES]
        dicom = [p for p in there if suffix_of(p) not in IMAGE_SUFFIXES and is_dicom_name(p) and p.name.upper() != "DICOMDIR"]
        series = _series_below(path)
        if files or series:  # beside these a file without a suffix may be anything (README): only the mark makes it DICOM
            dicom = [p for p in dicom if has_dicom_mark(p)]
            if dicom:
                why = f"mixes {[*files, *series][0].name} with DICOM files such as {dicom[0].name}"
                raise DataError(path, why, "Give each a folder of its own.")
            return sorted([*files, *series])
        if dicom:
            return [path]
        fix = f"Give a folder with {', '.join(IMAGE_SUFFIXES)} files, one DICOM series, or folders of one series each."
        raise DataError(path, "holds no image", fix)
    if not path.exists():
        raise DataError(path, "the file does not exist", "Check the path.")
    if suffix_of(path) not in (*IMAGE_SUFFIXES, ".dcm"):
        raise DataError(path, f"the format '{suffix_of(path)}' is not known", f"Use one of {', '.join(IMAGE_SUFFIXES)}, .dcm.")
    return [path]


def _series_below(folder: Path) -> list[Path]:
    """Folders right below one whose files have DICOM's mark; those that cannot be looked into are warned of."""
    found = []
    for one in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
        try:
            if any(p.is_file() and is_dicom_name(p) and has_dicom_mark(p) for p in one.iterdir()):
                found.append(one)
        except OSError as error:
            warnings.warn(f"{one} is left out: {error.strerror or error}", stacklevel=2)
    return found


def _without_own(inputs: list[Path], out: Path, made: Collection[str]) -> list[Path]:
    """Inputs of a folder but for what was written there: ``out`` itself (a DICOM SEG lies in it) and masks ``made`` in it."""
    here = out.resolve()
    return [one for one in inputs if one.resolve() != here and not (one.resolve().parent == here and file_name(one) in made)]


def _mask_name(path: Path) -> str:
    if path.is_dir():
        return f"{os.path.basename(os.path.abspath(path))}.nii.gz"  # whole, as UIDs are full of dots; a link's own name
    if suffix_of(path) in PICTURE_SUFFIXES:
        return f"{path.stem}.png"  # JPEG would change labels
    return path.name if suffix_of(path) in IMAGE_SUFFIXES else f"{path.stem}.nii.gz"


def _targets(inputs: list[Path], out: Path) -> dict[Path, Path]:
    """Where the mask of each image goes.

    Raises:
        DataError: a mask would overwrite an image, or two images would share one.
    """
    targets = {path: out / _mask_name(path) for path in inputs}
    images, owners = {path.resolve() for path in inputs}, {}
    for path, target in targets.items():
        if target.resolve() in images:
            raise DataError(path, "the mask would overwrite the image", "Choose another folder for --out.")
        if target in owners:
            raise DataError(
                path, f"its mask would have the name of that of {owners[target].name}", "Rename one of the two images."
            )
        owners[target] = path
    return targets


def plane_note(image: Volume) -> str | None:
    """What must be known of a series that was not taken in sagittal slices; None of others."""
    words = {"axial": "axial (crosswise)", "coronal": "coronal (from the front)"}.get(image.acquired_plane)
    if words is None:
        return None
    return f"This series was taken in {words} slices. The network knows sagittal ones: do not trust what it draws."


class Segmented(NamedTuple):
    """A mask, and how far two networks agree on it where two drew it.

    Attributes:
        mask: on the image's grid.
        agreement: None where one network drew the mask alone, or where it is empty.
    """

    mask: Volume
    agreement: NetworkAgreement | None = None

    @property
    def dice(self) -> float:
        """Mean Dice of the one network with the other, as it is told: to two digits; NaN without agreement."""
        return round(self.agreement.mean(), 2) if self.agreement else float("nan")

    @property
    def is_doubtful(self) -> bool:
        """Whether they agree so little that the mask may be worth anything."""
        return self.dice < LOW_AGREEMENT

    @property
    def said(self) -> str | None:
        """Their agreement in a sentence or two."""
        if not self.agreement:
            return None
        parts = ", ".join(f"{name} {dice:.2f}" for name, dice in self.agreement.by_class().items() if not np.isnan(dice))
        said = f"Two networks drew this mask; they agree to a Dice of {self.dice:.2f} ({parts})."
        if self.is_doubtful:
            said += f" Below {LOW_AGREEMENT:g} a mask may be worth anything: look at every slice before you use it."
            return f"{said} Where the belly is in view good masks have less, too."
        return said + f" Masks with {LOW_AGREEMENT:g} and more were nearly always good where measured; of names it says nothing."


def segment(predictor: VolumePredictor, volume: Volume, track: Track | None = None, has_pixel_size: bool = True) -> Segmented:
    """The mask of an image, with what two networks' agreement tells of it.

    Args:
        predictor, volume, track: as for VolumePredictor.predict_volume, which also says what is raised.
        has_pixel_size: False for a picture whose size in mm nobody told: it is no crop, however few its pixels.
    """
    longer_mm = max(n * mm for n, mm in zip(volume.array.shape[1:], volume.spacing[1:], strict=True))
    if not has_pixel_size and longer_mm < CROP_MM:
        rows_mm, columns_mm = (mm * CROP_MM / longer_mm for mm in volume.spacing[1:])
        drawn = segment(predictor, replace(volume, spacing=(volume.spacing[0], rows_mm, columns_mm)), track)
        return drawn._replace(mask=volume.with_array(drawn.mask.array))
    if not isinstance(predictor, PooledPredictor):
        return Segmented(predictor.predict_volume(volume, track))
    mask, agreement = predictor.with_agreement(volume, track)
    return Segmented(mask, agreement if mask.array.any() else None)


def field_note(image: Volume, predictor: VolumePredictor) -> str | None:
    """What must be known of an image that shows much less than its network learned from; None of others."""
    sides = [n * mm for n, mm in zip(image.array.shape[1:], image.spacing[1:], strict=True)]
    if predictor.field_mm is None or max(sides) >= CROP_MM:
        return None
    shown, usual = ("{:.3g} x {:.3g}".format(*mm) for mm in (sides, predictor.field_mm))
    if max(sides) < LEAST_MM:
        return f"By its header it shows {shown} mm: is that in cm or metres? Nothing can be found in so little."
    names = ", and guess levels" if predictor.scheme in SCHEMES_WITH_LEVELS else ""
    return f"It is a crop of {shown} mm. The networks learned from {usual} mm: they miss much of crops{names}."


def vertebrae_named(mask: Volume, scheme: str) -> list[str]:
    """The vertebrae that a mask names, from below; none where its scheme knows no levels."""
    if scheme not in SCHEMES_WITH_LEVELS:
        return []
    values = distinct(convert(mask.array, scheme, "spider"))
    return [get_scheme("spider").names[int(value)] for value in values if 0 < value < 100]


def mask_note(image: Volume) -> str | None:
    """Of what holds as few values as masks do, that it may be one; None of others."""
    few = np.unique(image.array.reshape(-1)[:: max(1, image.array.size // 10_000)])
    if len(few) > _FEW_VALUES or not 0 < len(distinct(image.array)) <= _FEW_VALUES:
        return None
    return "It holds few different values, as masks do: is it a picture?"


def _notes_before(image: Volume, predictor: VolumePredictor, has_pixel_size: bool) -> list[str]:
    """What must be known of an image before it is drawn."""
    notes = [said] if (said := mask_note(image)) else []
    notes += [f"{said} {HEADER_LIES}"] if (said := plane_note(image)) else []
    return notes + ([said] if has_pixel_size and (said := field_note(image, predictor)) else [])


def _notes_after(drawn: Segmented, named: list[str], has_pixel_size: bool) -> list[str]:
    """What must be known of its mask."""
    if not drawn.mask.array.any():
        return ["The network found nothing, the mask is empty." + (f" {HEADER_LIES}" if has_pixel_size else "")]
    told = [f"Vertebrae named, from below: {', '.join(named)}."] if named else []
    return ([drawn.said] if drawn.said else []) + told


def _say(path: Path, notes: list[str], note: Callable[[str], None] | None) -> None:
    for said in notes if note else ():
        note(f"{path.name}: {said}")


def _tell(slices: Iterable[np.ndarray], total: int) -> Iterator[np.ndarray]:
    return progress(slices, "segmenting slices", total)


def predict_path(
    source: str | Path,
    out: str | Path,
    predictor: VolumePredictor,
    note: Callable[[str], None] | None = None,
    network: str = "",
    look: Callable[[Path, Volume, Volume], object] | None = None,
) -> list[Path]:
    """Segment a file or every image of a folder.

    Masks keep the input's name and lie in the input's own grid: same size, spacing, origin and direction. A DICOM series
    becomes <folder name>.nii.gz. A picture gives a PNG of label values. Tells how many images of a folder, or slices of a long
    volume, are done. What is told of masks is kept beside them (see MaskTable); images that fail have no row there.

    Args:
        source: file, folder of files, or folder with a DICOM series.
        out: folder for the masks.
        predictor: the model.
        note: told what must be known of an image: not taken in sagittal slices by its header, a small crop, or nothing found in
            it; and where two networks drew it, how far they agree.
        network: name of the model, for the table.
        look: gets each mask's file, the image and the mask once it is written; whatever it raises is raised here.

    Returns:
        The masks written.

    Raises:
        DataError: the one image that was given cannot be read or is nothing for this model, or ``out`` cannot be written, or
            holds a table of MaskTable's name which is another's.
        KitError: so it is with some images of a folder; the others are done, and each failure is named.
    """
    out = Path(out)
    table, inputs = MaskTable(out), find_inputs(source)
    made = set(table.rows()["mask"])  # a table that is another's is said before anything is drawn
    if inputs != [Path(source)]:
        inputs = _without_own(inputs, out, made)
        if not inputs:
            raise DataError(source, "holds masks alone, which were predicted into it", "Give a folder of images.")
    targets, written, failures = _targets(inputs, out), [], []
    for path in progress(inputs, "segmenting images") if len(inputs) > 1 else inputs:
        try:
            volume = read_volume(path)
            if volume.array.size == 0:
                raise DataError(path, "holds no voxel", "Export the image again.")
            is_long = len(volume.array) > 4 * SLICES_AT_ONCE
            has_pixel_size = suffix_of(path) not in PICTURE_SUFFIXES
            cautions = _notes_before(volume, predictor, has_pixel_size)
            _say(path, cautions, note)
            drawn = segment(predictor, volume, _tell if is_long else None, has_pixel_size)
            named = vertebrae_named(drawn.mask, predictor.scheme)
            notes = _notes_after(drawn, named, has_pixel_size)
            _say(path, notes, note)
            row = {"image": file_name(path), "network": network, "scheme": predictor.scheme, "vertebrae": " ".join(named)}
            row |= {"notes": " | ".join([*cautions, *notes])} | _judged(drawn, bool(cautions))
            table.write(targets[path], partial(write_volume, drawn.mask, targets[path]), row)
        except DataError as error:
            if len(inputs) == 1:
                raise
            failures.append(str(error))
            if note:
                note(f"not segmented: {error}")
            continue
        written.append(targets[path])
        if look:
            look(targets[path], volume, drawn.mask)
    if failures:
        raise KitError(
            f"{len(written)} of {len(inputs)} images were segmented, into {out}; these were not: " + " | ".join(failures)
        )
    return written


def _judged(drawn: Segmented, has_cautions: bool) -> dict[str, object]:
    """Of a row of MaskTable what the mask is thought to be worth."""
    if has_cautions or drawn.is_doubtful or not drawn.mask.array.any():
        doubtful = "yes"
    else:
        doubtful = "no" if drawn.agreement else ""
    classes = drawn.agreement.by_class() if drawn.agreement else {}
    by_class = {f"agreement {name}": round(dice, 2) for name, dice in classes.items()}
    return {"doubtful": doubtful, "agreement": drawn.dice} | by_class
