"""Made-up studies in the layout of the RSNA 2024 lumbar challenge: DICOM series and the three tables (see data.rsna).

Each study has a Sagittal T1, a Sagittal T2/STIR and an Axial T2 series of one patient. The axial series holds a block of slices
along each lumbar disc, so that its orientation changes from block to block, as in most hospitals. Points mark the dural sac on
Sagittal T2, the roots in the foramina on Sagittal T1, and the roots in the lateral recesses on Axial T2, at every level.
Departures from the challenge: no level lacks a severity, STIR is not made, and the pixels are packed as lossless JPEG 2000.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.dicom_write import SliceGeometry, made_up_uid, write_slice
from spider_utils.data.phantom.anatomy import GENERATOR_VERSION, Anatomy
from spider_utils.data.phantom.axial import AxialBlock, plan_block, scan_block, signal_volume
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.narrowing import (
    LUMBAR_DISCS,
    SIDES,
    LevelFindings,
    canal_point,
    draw_levels,
    foramen_point,
    make_narrowed_anatomy,
    paint_narrowing,
    recess_point,
)
from spider_utils.data.phantom.scanner import SIZES, Protocol, body_box, draw_protocols, render
from spider_utils.data.rsna import IMAGE_FOLDER, PHANTOM_FILE
from spider_utils.data.rsna_tables import LEVELS, PATIENT_TABLE, POINT_TABLE, SERIES_OF, SERIES_TABLE, SEVERITIES, SEVERITY_TABLE
from spider_utils.data.volumes import Volume
from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, fingerprint, require_free_space, write_csv, write_json
from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count, progress

RSNA_GENERATOR_VERSION = 2  # raise it whenever the same seed gives other numbers here; GENERATOR_VERSION counts as well
RSNA_STUDIES = 24
TRUTH_TABLE = "phantom_truth.csv"

# In the order of the challenge's columns.
_COLUMNS = (
    "spinal_canal_stenosis",
    "left_neural_foraminal_narrowing",
    "right_neural_foraminal_narrowing",
    "left_subarticular_stenosis",
    "right_subarticular_stenosis",
)
_LEVEL_OF_DISC = dict(zip(LUMBAR_DISCS, LEVELS, strict=True))
_HOSPITALS = {"full": ("OH", "UMC", "RH1"), "small": ("OH", "UMC")}  # SPIDER's machines; slices of 3.3 to 4.8 mm
_TISSUE_MM = {"full": (1.0, 0.8, 0.75), "small": (1.4, 1.1, 1.0)}
_AXIAL = {  # slices a disc, field and pixel in mm, slice distance, thickness
    "full": (5, 160.0, 0.7, 4.4, 4.0),
    "small": (3, 150.0, 1.0, 4.4, 4.0),
}
_BYTES = {"full": 9_000_000, "small": 3_500_000}  # a study, roughly
_AXIAL_TR_TE_TESLA = (3800.0, 105.0, 1.5)
_AXIAL_TRAIN = 15  # echoes of one excitation
_MEMBER = re.compile(r"^(train_images(/\d+(/\d+(/\d+\.dcm)?)?)?|train.*\.csv|phantom_truth\.csv|rsna-phantom\.json)$")


@dataclass(frozen=True)
class Scan:
    """One made-up study before it is written.

    Attributes:
        anatomy, levels: the patient and the findings.
        t1, t2: sagittal volumes, int16, kit's axes.
        blocks: the axial blocks, from L1/L2 down; pictures: uint16 (slice, row, column) of each.
        protocols: of the sagittal T1 and T2 series.
        to_lps: (3, 3); LPS coordinates are this times (right, down, back).
    """

    anatomy: Anatomy
    levels: tuple[LevelFindings, ...]
    t1: Volume
    t2: Volume
    blocks: tuple[AxialBlock, ...]
    pictures: tuple[np.ndarray, ...]
    protocols: tuple[Protocol, Protocol]
    to_lps: np.ndarray


def scan_study(seed: int, size: str = "full", levels: tuple[LevelFindings, ...] | None = None) -> Scan:
    """Draw one patient and scan all three series.

    Args:
        seed: non-negative integer; the same seed gives the same study on every machine.
        size: "full", or "small" for coarse pixels and few axial slices.
        levels: findings instead of those that the seed draws.

    Raises:
        ValueError: unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size '{size}'. Known are: {', '.join(SIZES)}")
    anatomy_seed, scan_seed, finding_seed = (int(s) for s in np.random.SeedSequence([seed, 9]).generate_state(3))
    levels = levels or draw_levels(finding_seed)
    anatomy = make_narrowed_anatomy(anatomy_seed, levels)
    hospitals = _HOSPITALS[size]
    hospital = hospitals[int(np.random.default_rng([scan_seed, 84]).integers(len(hospitals)))]
    protocols = draw_protocols(anatomy, hospital, ("t1", "t2"), scan_seed, size=size)
    n_slices, field, pixel, gap, thickness = _AXIAL[size]
    low, high = body_box(protocols)
    side = field / 2 + 4
    low, high = (min(low[0], -side), *low[1:]), (max(high[0], side), *high[1:])
    body = build_body(anatomy, low, high, _TISSUE_MM[size], whole_belly=True)
    paint_narrowing(body, anatomy, levels)
    t1, t2 = (render(anatomy, p.sequence, p, size=size, body=body)[0] for p in protocols)
    signal = signal_volume(body, *_AXIAL_TR_TE_TESLA)
    blocks = tuple(plan_block(anatomy, anatomy.discs[d - 1], n_slices, field, pixel, gap, thickness) for d in LUMBAR_DISCS)
    noise = float(0.03 + 0.03 * np.random.default_rng([scan_seed, 85]).random())
    pictures = tuple(scan_block(signal, body, anatomy, block, noise, scan_seed) for block in blocks)
    return Scan(anatomy, levels, t1, t2, blocks, pictures, tuple(protocols), t1.direction)


def _sagittal_index(volume: Volume, to_lps: np.ndarray, point: tuple[float, float, float]) -> np.ndarray:
    """(slice, row, column), in fractions, of a point (right, down, back) in mm."""
    return (volume.direction.T @ (to_lps @ np.asarray(point) - np.asarray(volume.origin))) / np.asarray(volume.spacing)


def _sagittal_slices(volume: Volume, backwards: bool, protocol: Protocol) -> list[tuple[int, np.ndarray, SliceGeometry]]:
    """(place in the volume, pixels, geometry) in the order of instance numbers."""
    thick, apart = protocol.machine.slices
    thickness = round(thick / apart * volume.spacing[0], 2)
    places = range(len(volume.array))
    slices = []
    for k in reversed(places) if backwards else places:
        position = np.asarray(volume.origin) + k * volume.spacing[0] * volume.direction[:, 0]
        geometry = SliceGeometry(
            position, volume.direction[:, 2], volume.direction[:, 1], volume.spacing[1:], thickness, volume.spacing[0]
        )
        slices.append((k, np.clip(volume.array[k], 0, None).astype(np.uint16), geometry))
    return slices


def _axial_slices(scan: Scan) -> list[tuple[tuple[int, int], np.ndarray, SliceGeometry]]:
    """((block, slice in it), pixels, geometry) from the top of the spine downwards."""
    slices = []
    for number, (block, pictures) in enumerate(zip(scan.blocks, scan.pictures, strict=True)):
        for k in range(block.shape[0]):
            geometry = SliceGeometry(
                scan.to_lps @ block.place(k, 0, 0),
                scan.to_lps @ block.axes[2],
                scan.to_lps @ block.axes[1],
                block.spacing_mm[1:],
                block.thickness_mm,
                block.spacing_mm[0],
            )
            slices.append(((number, k), pictures[k], geometry))
    return slices


def _points(scan: Scan) -> list[tuple[str, str, object, float, float]]:
    """(condition, level, place of the slice, x, y) of all 25 labels."""
    rows = []
    for number, found in enumerate(scan.levels):
        disc, level = scan.anatomy.discs[found.disc - 1], _LEVEL_OF_DISC[found.disc]
        k, row, column = _sagittal_index(scan.t2, scan.to_lps, canal_point(scan.anatomy, disc))
        rows.append(("spinal_canal_stenosis", level, round(float(k)), column, row))
        for side in SIDES:
            k, row, column = _sagittal_index(scan.t1, scan.to_lps, foramen_point(scan.anatomy, disc, side))
            rows.append((f"{side}_neural_foraminal_narrowing", level, round(float(k)), column, row))
            k, row, column = scan.blocks[number].index(recess_point(scan.anatomy, disc, side))
            rows.append((f"{side}_subarticular_stenosis", level, (number, round(float(k))), column, row))
    return rows


def _severity(found: LevelFindings, condition: str) -> str:
    if condition == "spinal_canal_stenosis":
        return SEVERITIES[found.canal]
    side, kind = condition.split("_", 1)
    return SEVERITIES[(found.foramen if "foraminal" in kind else found.recess)[side]]


def study_numbers(seed: int, number: int) -> tuple[int, int, tuple[int, int, int]]:
    """(seed of scan_study, study id, ids of the T1, T2 and axial series) of the study ``number``, from 1 on, of a set."""
    state = np.random.SeedSequence([seed, 8, number]).generate_state(5)
    study_seed, *ids = (int(one) for one in state)
    study, *series = (1 + one % 4_000_000_000 for one in ids)
    return study_seed, study, tuple(series)


def _study_tags(study: int, scan: Scan, who: tuple[object, ...]) -> dict[str, str]:
    """What the headers say of patient, study and machine. Names and dates are nobody's."""
    return {
        "0008|0020": "20240101",
        "0008|0030": "000000",
        "0008|0070": "spider kit",
        "0008|1090": "phantom",
        "0010|0010": f"Phantom^{study}",
        "0010|0020": str(study),
        "0010|0040": scan.anatomy.sex,
        "0010|1010": f"{scan.anatomy.age:03d}Y",
        "0018|0015": "LSPINE",
        "0018|1020": ".".join(map(str, who[1:3])),  # software: the generator's versions
        "0020|000d": made_up_uid(*who),
        "0020|0010": str(study),
        "0020|0052": made_up_uid(*who, "frame"),
    }


def _series_tags(scan: Scan, description: str, number: int, who: tuple[object, ...]) -> dict[str, str]:
    """What the headers say of a series: how it was weighted."""
    if description == "Axial T2":
        name, train, (tr, te, tesla) = "T2", _AXIAL_TRAIN, _AXIAL_TR_TE_TESLA
    else:
        protocol = scan.protocols[number - 1]
        name, train = protocol.sequence.upper(), protocol.machine.train
        tr, te, tesla = protocol.tr_ms, protocol.te_ms, protocol.machine.tesla
    return {
        "0008|103e": name,
        "0018|0021": "SK" if train > 1 else "NONE",  # segmented k-space: fast spin echo
        "0018|0080": f"{tr:g}",
        "0018|0081": f"{te:g}",
        "0018|0087": f"{tesla:g}",
        "0018|0091": str(train),
        "0020|000e": made_up_uid(*who, number),
        "0020|0011": str(number),
    }


def _write_study(task: tuple[str, int, int, str]) -> dict[str, list[dict]]:
    """Draw, scan and write one study; returns its rows of every table. Runs in a worker process."""
    folder, number, seed, size = task
    study_seed, study, series = study_numbers(seed, number)
    scan = scan_study(study_seed, size)
    backwards = bool(study_seed % 2)
    pictures = {
        "Sagittal T1": _sagittal_slices(scan.t1, backwards, scan.protocols[0]),
        "Sagittal T2/STIR": _sagittal_slices(scan.t2, backwards, scan.protocols[1]),
        "Axial T2": _axial_slices(scan),
    }
    # Sets of other seeds, sizes or versions never share a UID.
    who = ("rsna", GENERATOR_VERSION, RSNA_GENERATOR_VERSION, seed, size, number)
    instance_of: dict[str, dict] = {}
    for series_number, (series_id, (description, slices)) in enumerate(zip(series, pictures.items(), strict=True), start=1):
        place = Path(folder) / IMAGE_FOLDER / str(study) / str(series_id)
        place.mkdir(parents=True)
        instance_of[description] = {}
        of_series = _study_tags(study, scan, who) | _series_tags(scan, description, series_number, who)
        bright = float(np.quantile(np.stack([pixels[::4, ::4] for _, pixels, _ in slices]), 0.985))
        for instance, (key, pixels, geometry) in enumerate(slices, start=1):
            instance_of[description][key] = instance
            tags = of_series | {
                "0008|0018": made_up_uid(*who, series_number, instance),
                "0020|0013": str(instance),
                "0028|1050": f"{0.45 * bright:.0f}",
                "0028|1051": f"{0.9 * bright:.0f}",
            }
            write_slice(place / f"{instance}.dcm", pixels, geometry, tags)
    ids = dict(zip(pictures, series, strict=True))
    points = [
        {
            "study_id": study,
            "series_id": ids[SERIES_OF[condition]],
            "instance_number": instance_of[SERIES_OF[condition]][key],
            "condition": condition.replace("_", " ").title(),
            "level": level.upper().replace("_", "/"),
            "x": round(float(x), 3),
            "y": round(float(y), 3),
        }
        for condition, level, key, x, y in _points(scan)
    ]
    by_level = {_LEVEL_OF_DISC[found.disc]: found for found in scan.levels}
    severities = {f"{name}_{level}": _severity(by_level[level], name) for name in _COLUMNS for level in LEVELS}
    return {
        SEVERITY_TABLE: [{"study_id": study, **severities}],
        SERIES_TABLE: [{"study_id": study, "series_id": n, "series_description": text} for text, n in ids.items()],
        POINT_TABLE: points,
        PATIENT_TABLE: [{"study_id": study, "age": scan.anatomy.age, "sex": scan.anatomy.sex}],
        TRUTH_TABLE: [_truth(study, scan, found) for found in scan.levels],
    }


def _truth(study: int, scan: Scan, found: LevelFindings) -> dict:
    """What was drawn for one level."""
    disc = scan.anatomy.discs[found.disc - 1]
    return {
        "study_id": study,
        "sex": scan.anatomy.sex,
        "age": scan.anatomy.age,
        "level": _LEVEL_OF_DISC[found.disc],
        "pfirrmann": disc.grade,
        "sac_ap_mm": round(disc.sac * found.canal_left if found.canal else disc.canal_ap, 2),
        **{f"{side}_foramen_filled": round(found.foramen_filled[side], 3) for side in SIDES},
        **{f"{side}_recess_filled": round(found.recess_filled[side], 3) for side in SIDES},
    }


def _refuse_foreign_files(folder: Path) -> None:
    """Raise DataError when an older set holds a file that no generator wrote: it would be lost."""
    if not (folder / PHANTOM_FILE).is_file():
        return  # what is no set of this kind is refused as a whole
    for path in sorted(folder.rglob("*")):
        if not _MEMBER.match(path.relative_to(folder).as_posix()) and not path.name.startswith("."):
            raise DataError(path, "is no file of the phantom, and would be lost", "Move it away, or choose another folder.")


def generate_rsna_set(
    out: str | Path,
    n_studies: int = RSNA_STUDIES,
    seed: int = 0,
    jobs: int | None = None,
    size: str = "full",
    show_progress: bool = False,
) -> Path:
    """Write made-up studies in the challenge's layout.

    ``train.csv``, ``train_series_descriptions.csv``, ``train_label_coordinates.csv``, ``train_patients.csv`` (age and sex),
    ``train_images/<study>/<series>/<instance>.dcm``, ``phantom_truth.csv`` (what was drawn, a row a level) and
    ``rsna-phantom.json``. The same seed gives the same files with one version of SimpleITK, however many processes work; study k
    is the same whatever ``n_studies``. The folder appears when it is complete.

    Args:
        out: folder to write; a set of this kind that is there already is replaced, anything else is refused.
        n_studies: how many.
        seed: non-negative integer.
        jobs: processes to use; None takes one for every core, at most 4.
        size: "full" or "small" (pixels of 1 mm, three axial slices a disc).
        show_progress: tell how many studies are done.

    Returns:
        ``out`` as a Path.

    Raises:
        ValueError: n_studies below 1, negative seed, unknown size.
        DataError: the folder cannot be written, or its disk is too full.
        KitError: a process was killed.
    """
    if n_studies < 1 or seed < 0 or size not in SIZES:
        raise ValueError(f"n_studies={n_studies}, seed={seed}, size='{size}': at least 1 study, seed 0 or more, size in {SIZES}")
    out = Path(out)
    _refuse_foreign_files(out)
    require_free_space(out.parent, n_studies * _BYTES[size], f"a phantom of {n_studies} studies")
    jobs = min(jobs or min(cpu_count(), 4), n_studies)
    with atomic_folder(out, marker=PHANTOM_FILE) as folder:
        tasks = [(str(folder), number, seed, size) for number in range(1, n_studies + 1)]
        advice = "Close other programs, or take fewer: spider-kit data phantom --kind rsna --jobs 1"
        results = map_in_processes(_write_study, tasks, jobs, advice)
        done = list(progress(results, "making studies", n_studies) if show_progress else results)
        for name in (SEVERITY_TABLE, SERIES_TABLE, POINT_TABLE, PATIENT_TABLE, TRUTH_TABLE):
            table = pd.DataFrame([row for one in done for row in one[name]])
            write_csv(folder / name, table.sort_values("study_id", kind="stable"), lineterminator="\n")
        write_json(folder / PHANTOM_FILE, set_facts(n_studies, seed, size))
    return out


def set_facts(n_studies: int, seed: int, size: str) -> dict:
    """What ``rsna-phantom.json`` says of a set made with these settings."""
    facts = {
        "generator_version": [GENERATOR_VERSION, RSNA_GENERATOR_VERSION],
        "seed": seed,
        "n_studies": n_studies,
        "size": size,
    }
    return {**facts, "fingerprint": fingerprint(json.loads(json.dumps(facts)))}
