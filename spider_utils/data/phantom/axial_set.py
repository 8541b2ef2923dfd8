"""Made-up axial T2 slices angled along the lowest discs, with the tissues that `triplanar` outlines on them.

Of the source's 362 axial slices of 64 discs, a fifth showed a hernia (Table 5, TP + FN). Here each of the three lowest discs has
five slices of 4 mm, and hernias are drawn so often that about a sixth of the slices shows one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.axial import AXIAL_SCHEME, SET_FILE, SLICE_TABLE
from spider_utils.data.phantom.anatomy import GENERATOR_VERSION, Anatomy, make_anatomy
from spider_utils.data.phantom.axial import AxialBlock, label_block, plan_block, scan_block, signal_volume
from spider_utils.data.phantom.axial_tissues import HERNIA, axial_labels, paint_axial_detail
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.truth import slice_truth
from spider_utils.data.volumes import from_image, kit_direction, write_volume
from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, fingerprint, require_free_space, write_csv, write_json
from spider_utils.labels import disc_name, get_scheme
from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count, progress

AXIAL_GENERATOR_VERSION = 1  # raise it whenever the same seed gives other numbers here; GENERATOR_VERSION counts as well
AXIAL_PATIENTS = 24
HERNIATED_SHARE = {1: 0.60, 2: 0.70, 3: 0.45}  # of discs L5/S1, L4/L5, L3/L4
HERNIA_MM = (3.5, 8.0)


@dataclass(frozen=True)
class AxialSize:
    """How finely a set is made: disc numbers from above, slices a disc, field and pixel in mm, tissue voxels in mm, bytes."""

    discs: tuple[int, ...]
    slices: int
    field_mm: float
    pixels: int
    tissue_mm: tuple[float, float, float]


SIZES = {
    "full": AxialSize((3, 2, 1), 5, 128.0, 256, (1.0, 0.8, 0.6)),
    "small": AxialSize((3, 2, 1), 5, 110.0, 128, (1.2, 1.0, 0.8)),
    "tiny": AxialSize((2, 1), 3, 110.0, 64, (2.0, 1.6, 1.4)),
}
_GAP_MM = _THICKNESS_MM = 4.0
_TR_MS, _TE_MS, _TESLA = 3800.0, 105.0, 1.5
_MEMBER = re.compile(r"^((images|masks)(/\d{2,}_\w+-\w+\.mha)?|slices\.csv|axial-phantom\.json)$")


def draw_patient(seed: int) -> Anatomy:
    """A patient whose three lowest discs are often herniated; the same seed gives the same patient on every machine."""
    rng = np.random.default_rng([int(seed), AXIAL_GENERATOR_VERSION, 87])
    plain, sizes, grades = make_anatomy(seed), {}, {}
    for number, share in HERNIATED_SHARE.items():
        draw = rng.random(2)
        herniated = draw[0] < share
        sizes[number] = round(float(HERNIA_MM[0] + (HERNIA_MM[1] - HERNIA_MM[0]) * draw[1]), 2) if herniated else 0.0
        grades[number] = max(plain.discs[number - 1].grade, 3) if herniated else plain.discs[number - 1].grade
    return make_anatomy(seed, herniation=sizes, pfirrmann=grades)


def scan_patient(anatomy: Anatomy, seed: int, size: str = "small") -> list[tuple[AxialBlock, np.ndarray, np.ndarray]]:
    """Blocks of axial slices of one patient, from the highest disc down.

    Args:
        anatomy: the patient.
        seed: of the noise.
        size: one of SIZES.

    Returns:
        (where the slices lie, pictures uint16, labels uint8 in the scheme "axial8"), arrays (slice, row, column).

    Raises:
        ValueError: unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size '{size}'. Known are: {', '.join(SIZES)}")
    how = SIZES[size]
    pixel = how.field_mm / how.pixels
    blocks = [
        plan_block(anatomy, anatomy.discs[number - 1], how.slices, how.field_mm, pixel, _GAP_MM, _THICKNESS_MM)
        for number in how.discs
    ]
    ends = [(k, r, c) for k in (-0.5, how.slices - 0.5) for r in (0, how.pixels - 1) for c in (0, how.pixels - 1)]
    corners = np.array([block.place(*end) for block in blocks for end in ends])
    low, high = (tuple(map(float, side)) for side in (corners.min(0) - 2, corners.max(0) + 2))
    body = build_body(anatomy, low, high, how.tissue_mm, whole_belly=True)
    paint_axial_detail(body, anatomy, how.discs)
    labels, signal = axial_labels(body, anatomy, how.discs), signal_volume(body, _TR_MS, _TE_MS, _TESLA)
    noise = float(0.03 + 0.03 * np.random.default_rng([int(seed), 88]).random())
    n_labels = get_scheme(AXIAL_SCHEME).n_classes
    return [
        (block, scan_block(signal, body, anatomy, block, noise, seed), label_block(labels, body, block, n_labels))
        for block in blocks
    ]


def _as_image(array: np.ndarray, block: AxialBlock) -> sitk.Image:
    """A block's array as an image with its place in the patient: columns to the left, rows backwards, slices upwards (LPS)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array[::-1]))
    image.SetSpacing([float(step) for step in reversed(block.spacing_mm)])
    image.SetOrigin((kit_direction() @ block.place(block.shape[0] - 1, 0, 0)).tolist())
    up, back, left = -block.axes[0], block.axes[1], block.axes[2]
    image.SetDirection((kit_direction() @ np.stack([left, back, up], axis=1)).reshape(-1).tolist())
    return image


def _make_patient(task: tuple[str, int, int, str]) -> list[dict]:
    """Draw, scan and write one patient; returns its rows of the table. Runs in a worker process."""
    folder, patient, seed, size = task
    anatomy_seed, scan_seed = (int(s) for s in np.random.SeedSequence([seed, 10, patient]).generate_state(2))
    anatomy = draw_patient(anatomy_seed)
    rows = []
    for block, pictures, labels in scan_patient(anatomy, scan_seed, size):
        level, disc = disc_name(block.disc), anatomy.discs[block.disc - 1]
        case = f"{patient:02d}_{level.replace('/', '-')}"
        for name, array in (("images", pictures.astype(np.int16)), ("masks", labels)):
            write_volume(from_image(_as_image(array, block)), Path(folder) / name / f"{case}.mha")
        truth = slice_truth(anatomy, block.disc, [block.place(k, 0, 0) for k in range(block.shape[0])], block.axes)
        for k, found in enumerate(truth):
            rows.append(
                {
                    "case": case,
                    "patient": patient,
                    "disc": block.disc,
                    "level": level,
                    "slice": k,
                    "herniated": int(disc.herniation > 0),
                    "hernia_seen": int((labels[k] == HERNIA).any()),
                    "sac_ap_mm": found["sac_ap_mm"],
                    "sac_area_mm2": found["sac_area_mm2"],
                    "hernia_height_mm": found["hernia_height_mm"],
                }
            )
    return rows


def _refuse_foreign_files(folder: Path) -> None:
    """Raise DataError when an older set holds a file that no generator wrote: it would be lost."""
    if not (folder / SET_FILE).is_file():
        return  # what is no set of this kind is refused as a whole
    for path in sorted(folder.rglob("*")):
        if not _MEMBER.match(path.relative_to(folder).as_posix()) and not path.name.startswith("."):
            raise DataError(path, "is no file of the phantom, and would be lost", "Move it away, or choose another folder.")


def generate_axial_set(
    out: str | Path,
    n_patients: int = AXIAL_PATIENTS,
    seed: int = 0,
    jobs: int | None = None,
    size: str = "full",
    show_progress: bool = False,
) -> Path:
    """Write a made-up set of axial slices (see data.axial for reading it).

    ``images/<patient>_<level>.mha`` (int16) and ``masks/<same>.mha`` (uint8, scheme "axial8") with their true oblique geometry,
    a block of slices a disc; ``slices.csv``, a row a slice from above: case, patient, disc, level, slice, herniated (drawn for
    the disc), hernia_seen (on this slice), and what there is to measure: sac_ap_mm, sac_area_mm2, hernia_height_mm (empty where
    there is none; see truth.slice_truth); ``axial-phantom.json``. The same seed gives the same files, however many processes
    work; patient k is the same whatever ``n_patients``. The folder appears when it is complete.

    Args:
        out: folder to write; a set of this kind that is there already is replaced, anything else is refused.
        n_patients: how many patients; their ids are 1 to n.
        seed: non-negative integer.
        jobs: processes to use; None takes one for every core, at most 4.
        size: one of SIZES.
        show_progress: tell how many patients are done.

    Returns:
        ``out`` as a Path.

    Raises:
        ValueError: n_patients below 1, negative seed, unknown size.
        DataError: the folder cannot be written, or its disk is too full.
        KitError: a process was killed.
    """
    if n_patients < 1 or seed < 0 or size not in SIZES:
        raise ValueError(
            f"n_patients={n_patients}, seed={seed}, size='{size}': at least 1 patient, seed 0 or more, size in {', '.join(SIZES)}"
        )
    out, how = Path(out), SIZES[size]
    _refuse_foreign_files(out)
    pixels = n_patients * len(how.discs) * how.slices * how.pixels**2
    require_free_space(out.parent, 3 * pixels, f"an axial phantom of {n_patients} patients")
    jobs = min(jobs or min(cpu_count(), 4), n_patients)
    with atomic_folder(out, marker=SET_FILE) as folder:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        tasks = [(str(folder), patient, seed, size) for patient in range(1, n_patients + 1)]
        advice = "Close other programs, or take fewer: spider-kit data phantom --kind axial --jobs 1"
        results = map_in_processes(_make_patient, tasks, jobs, advice)
        done = list(progress(results, "making patients", n_patients) if show_progress else results)
        write_csv(folder / SLICE_TABLE, pd.DataFrame([row for one in done for row in one]), lineterminator="\n")
        write_json(folder / SET_FILE, set_facts(n_patients, seed, size))
    return out


def set_facts(n_patients: int, seed: int, size: str) -> dict:
    """What ``axial-phantom.json`` says of a set made with these settings."""
    facts = {
        "generator_version": [GENERATOR_VERSION, AXIAL_GENERATOR_VERSION],
        "seed": seed,
        "n_patients": n_patients,
        "size": size,
    }
    return {**facts, "fingerprint": fingerprint(json.loads(json.dumps(facts)))}
