"""One scan, from the image to named levels and measurements: what the page for a scan shows, without the page."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from spider_utils.data.volumes import VOLUME_SUFFIXES, Volume, stem_of, suffix_of, write_volume
from spider_utils.errors import DataError
from spider_utils.masks import field_note, plane_note, segment
from spider_utils.measure import report
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS, name_levels
from spider_utils.measure.marks import Mark, marks
from spider_utils.models import VOLUME_ARCHITECTURES
from spider_utils.models.shipped import shipped, shipped_for
from spider_utils.predict import Track, VolumePredictor, WholeVolumePredictor
from spider_utils.training.checkpoints import read_card
from spider_utils.workflow import finished_runs, is_by_patient, newest_run

CLASS_SCHEMES = ("structures4", "released_gray")  # their masks are numbered by name_levels
DISC_QUANTITIES = {
    "disc height anterior": "height, front", "disc height middle": "height, middle", "disc height posterior": "height, back",
    "disc depth": "depth", "disc angle": "angle", "slip": "slip", "canal diameter": "canal diameter", "bulge": "bulge",
}  # fmt: skip
VERTEBRA_QUANTITIES = {
    "body height anterior": "height, front", "body height middle": "height, middle", "body height posterior": "height, back",
    "body depth": "depth", "body wedge": "wedge", "canal diameter at the body": "canal diameter",
}  # fmt: skip
SPINE_QUANTITIES = {"lordosis L1 to L5": "lordosis, L1 to L5", "lordosis L1 to S1": "lordosis, L1 to S1"}
_UNITS = {"deg": "°"}


@dataclass(frozen=True)
class Reading:
    """What a network and the ruler say about one image.

    Attributes:
        image: that was read.
        mask: labels on the image's grid, of ``scheme``: with levels where they could be named, else as the network drew them.
        scheme: label scheme of ``mask``.
        table: of measure.report.measure; None when nothing was measured (``notes`` say why, unless no pixel size was known).
        marks: lines that were measured on.
        notes: what a reader must know about this result, a sentence each.
        cautions: why it may be worth nothing, a sentence or two each; to be shown before anything else.
    """

    image: Volume
    mask: Volume
    scheme: str
    table: pd.DataFrame | None
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    cautions: tuple[str, ...] = ()


def usable_runs(series: bool = True) -> list[Path]:
    """Networks that label sagittal series or slices: what ``spider-kit predict`` takes by itself, the others that come with the
    kit, then finished runs, the best of the newest first.

    Left out are planes of an ensemble, networks that learned labels which nothing can be measured on, and those of the leak
    lesson, which know slices of their test patients.

    Args:
        series: whether it is for a series, or else for a single slice.
    """
    runs = [folder for folder in finished_runs() if _is_usable(folder)]
    own = sorted(shipped().values(), key=lambda folder: folder.name != shipped_for(series))
    first = newest_run() if runs else None
    of_volumes = {folder for folder in runs if read_card(folder)["architecture"] in VOLUME_ARCHITECTURES}
    return own + sorted(reversed(runs), key=lambda folder: (folder != first, folder in of_volumes))


def _is_usable(folder: Path) -> bool:
    try:
        card = read_card(folder)
        return is_by_patient(card) and "plane" not in card and card.get("scheme") in (*CLASS_SCHEMES, *SCHEMES_WITH_LEVELS)
    except DataError:
        return False


def describe_run(folder: Path) -> tuple[str, str]:
    """A run in a few words, and what it learned from in a sentence, from its card."""
    card = read_card(folder)
    if folder in shipped().values():
        return f"{folder.name}, comes with the kit", card["what"]
    what = "levels" if card.get("scheme") in SCHEMES_WITH_LEVELS else "vertebra, canal, disc"
    data = str(card["data"].get("kind", "unknown data")) if isinstance(card.get("data"), dict) else "unknown data"
    learned = {
        "phantom": "It learned from generated phantoms only: expect mistakes on real scans.",
        "spider": "It learned from SPIDER's real series.",
        "spider-2d": "It learned from released T2_SPACE slices of SPIDER: expect mistakes on other sequences.",
    }
    return f"{card['architecture']}, {what} ({data})", learned.get(data, f"It learned from {data}.")


def read_scan(image: Volume, predictor: VolumePredictor, has_pixel_size: bool = True, track: Track | None = None) -> Reading:
    """Segment an image, name its levels and measure it.

    Args:
        image: a sagittal series or slice.
        predictor: of a scheme of CLASS_SCHEMES or with levels.
        has_pixel_size: False for a picture whose size in mm nobody told: then it is segmented as if pixels were square, and
            nothing is measured.
        track: see VolumePredictor.predict_volume; once it has gone through all slices, levels are named and measured.

    Raises:
        DataError: the image is nothing for this network.
    """
    drawn = segment(predictor, image, track, has_pixel_size)
    cautions = [plane_note(image), field_note(image, predictor) if has_pixel_size else None]
    notes = [f"This network labels {predictor.reach}."] if isinstance(predictor, WholeVolumePredictor) else []
    if drawn.said:
        (cautions if drawn.is_doubtful else notes).append(drawn.said)
    if not drawn.mask.array.any():
        cautions.append("The network found nothing in this image.")
    reading = Reading(image, drawn.mask, predictor.scheme, None, (), tuple(notes), tuple(one for one in cautions if one))
    return _measured(reading, predictor, has_pixel_size) if drawn.mask.array.any() else reading


def _measured(reading: Reading, predictor: VolumePredictor, has_pixel_size: bool) -> Reading:
    """The reading of a mask that is not empty, with levels, measurements, and notes on how they were come by."""
    image, mask, scheme, notes = reading.image, reading.mask, reading.scheme, [*reading.notes]
    if scheme in SCHEMES_WITH_LEVELS:
        how = "those that the network knows by sight"
        if predictor.own_votes > 1:
            how = "counted from the lowest part in view, or those that the network knows by sight where it is sure"
        notes.append(f"Levels are {how}, in a spine with five lumbar vertebrae.")
    if not has_pixel_size:
        return replace(reading, notes=(*notes, "Pixels were taken to be square."))
    picture, spacing = image.squeezed()
    if picture.ndim == 2:
        notes.append("A single slice is measured as if it were the middle one.")
    try:
        if scheme in CLASS_SCHEMES:
            levels = name_levels(mask.squeezed()[0], spacing, scheme)
            mask, scheme = mask.with_array(levels.mask.reshape(mask.array.shape)), "spider"
            notes.append("Levels are counted from the lowest part in view, in a spine with five lumbar vertebrae.")
            notes += [f"{note[0].upper()}{note[1:]}." for note in levels.notes]
        drawn = mask.squeezed()[0]
        table = report.measure(drawn, spacing, picture, scheme)
        lines = tuple(marks(drawn, spacing, scheme))
    except ValueError as error:  # nothing that could be a level, or labels that no spine can have
        return replace(reading, mask=mask, scheme=scheme, notes=(*notes, f"Nothing was measured: {error}."))
    return replace(reading, mask=mask, scheme=scheme, table=table, marks=lines, notes=tuple(notes))


def by_level(table: pd.DataFrame, quantities: Mapping[str, str]) -> pd.DataFrame:
    """Levels down, from the head to the feet as on the picture; quantities across, with units; NaN where not measurable.

    Args:
        table: of report.measure.
        quantities: quantity -> what it is called here.
    """
    part = table[table["quantity"].isin(quantities.keys())]
    levels = list(dict.fromkeys(part["level"]))[::-1]
    wide = part.pivot(index="level", columns="quantity", values="value").reindex(index=levels, columns=list(quantities))
    units = {name: _UNITS.get(report.UNITS[name], report.UNITS[name]) for name in quantities}
    wide.columns = [f"{called} [{units[name]}]" for name, called in quantities.items()]
    wide.index.name = "level"
    return wide


def not_measured(table: pd.DataFrame, quantities: Sequence[str]) -> list[str]:
    """Why values are missing: a text a reason, with the levels that it holds for."""
    missing = table[(table["status"] != report.MEASURED) & table["quantity"].isin(quantities)]
    reasons = missing.groupby("status", sort=False)["level"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    return [f"{names} ({status.removeprefix('not measurable: ')})" for status, names in reasons.items()]


def mask_file(mask: Volume, name: str) -> tuple[str, bytes]:
    """A mask as a file to hand out: what it is called, and its bytes. It lies in the image's own grid.

    Args:
        mask: on the grid of the image that it was made for.
        name: the image's; its format is kept where masks can have it, else it is .nii.gz.
    """
    suffix = suffix_of(name) if suffix_of(name) in (*VOLUME_SUFFIXES, ".png") else ".nii.gz"
    called = f"{stem_of(name)}_mask{suffix}"
    with tempfile.TemporaryDirectory() as folder:
        return called, write_volume(mask, Path(folder) / called).read_bytes()
