"""Made-up patients as IVDM3Seg has them: isotropic Dixon volumes, the seven lowest discs labelled and no more.

The challenge's volumes hold 36 slices of 256 x 256 voxels of 2.0 x 1.25 x 1.25 mm at 1.5 T, in four co-registered contrasts
(fat, in phase, opposed phase, water). Here voxels are cubes, so that a network for axial slices sees pictures as sharp as one
for sagittal slices. What made the source stumble (`triplanar`, section 3) is in the set on purpose: discs above the seventh that
nobody labelled, and in some patients a rudimentary disc in the sacrum, below the first.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.discs import DIXON, LABELLED_DISCS, SACRAL_DISC
from spider_utils.data.phantom.anatomy import GENERATOR_VERSION, Anatomy, make_anatomy
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.bones import paint_sacral_disc
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.scanner import Machine, Protocol, as_volume, coil_field
from spider_utils.data.phantom.signal import TISSUE, sliver_signal, water_fat_tables
from spider_utils.data.volumes import Volume, write_volume
from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, fingerprint, require_free_space, write_csv, write_json
from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count, progress

DISC_GENERATOR_VERSION = 1  # raise it whenever the same seed gives other numbers here; GENERATOR_VERSION counts as well
IVDM3SEG_PATIENTS = 16
VOXEL_MM = {"full": 1.25, "small": 2.5}
FIELD_MM = (72.0, 320.0, 320.0)  # of the challenge's volumes: right, down, back
SACRAL_DISC_SHARE = 0.25  # of the patients; the source met it in 2 patients of its test set
SET_FILE = "ivd-phantom.json"

_FLIP_DEG = 20.0
# Fat and water, 3.4 ppm apart, are opposed 2.4 ms and in phase 4.8 ms after the pulse at 1.5 T; 3.6 ms is the mean.
_MACHINE = Machine(
    1, "SIEMENS", "Sonata", 1.5, (10.6, 10.6, 10.6), (3.6, 3.6, 3.6), 1, int(_FLIP_DEG), 300, (1.0, 1.0), (1.25,),
    "dixon", "", 320,
)  # fmt: skip
_OWN = re.compile(r"^(\d{2,}/(?P<patient>\d{2,})_(fat|inn|opp|wat|Labels|AllDiscs)\.nii\.gz|patients\.csv|ivd-phantom\.json)$")


def draw_dixon(anatomy: Anatomy, seed: int, voxel_mm: float) -> Protocol:
    """Draw how a patient's Dixon volume is made.

    The field of view is the challenge's, to a multiple of 4 voxels. It always shows the seven lowest discs whole; how many
    more depends on the patient's size and on where the field was placed.

    Args:
        anatomy: the patient.
        seed: non-negative integer.
        voxel_mm: edge of a voxel, 0.8 to 4.

    Raises:
        ValueError: voxel_mm out of range.
    """
    if not 0.8 <= voxel_mm <= 4:
        raise ValueError(f"voxel_mm={voxel_mm}: expected 0.8 to 4 mm")
    rng = np.random.default_rng([int(seed), GENERATOR_VERSION, 72])
    pick, normal = rng.random(8), rng.standard_normal(4)
    shape = tuple(4 * round(side / voxel_mm / 4) for side in FIELD_MM)
    tall, deep = (n * voxel_mm for n in shape[1:])
    lowest, highest = anatomy.discs[0].frame, anatomy.discs[LABELLED_DISCS - 1]
    # From S2 to beyond the coccyx; the seventh disc stays clear of the upper edge, and often little more than that.
    bottom = min(lowest.down + 62 + 50 * pick[0], highest.frame.down - highest.height - 12 + tall)
    back = anatomy.sacrum[1].frame.back + 62 + 1.3 * anatomy.subcutaneous + 26 * pick[1]
    return Protocol(
        hospital="IVDM3Seg", sequence="dixon", machine=_MACHINE, tr_ms=_MACHINE.tr[1], te_ms=_MACHINE.te[1],
        voxel_mm=(float(voxel_mm),) * 3, shape=shape, centre=(float(1.5 * normal[0]), bottom - tall / 2, back - deep / 2),
        tilts_deg=(0.0, 0.0, 0.0), orientation="PIR", blur_mm=(float(voxel_mm),) * 2, noise=float(0.025 + 0.03 * pick[2]),
        coil_mm=float(200 + 150 * pick[3]), coil_span_mm=float(200 + 90 * pick[4]), band=(0.0, 0.0),
        seed=int(pick[5] * 1e8),
    )  # fmt: skip


def scan_dixon(anatomy: Anatomy, protocol: Protocol, sacral_disc_mm: float = 0.0) -> tuple[dict[str, Volume], Volume]:
    """Scan a patient with a two-point Dixon sequence.

    Two echoes are received, each with its own noise: water and fat in phase, and opposed. Half their sum is the water image, half
    their difference the fat image. So every voxel of the four fits together as on a scanner, noise included.

    Args:
        anatomy: the patient.
        protocol: from draw_dixon.
        sacral_disc_mm: height of a rudimentary disc between S1 and S2, 0 for none.

    Returns:
        (images, discs): int16 Volumes by the names in DIXON, and the uint8 Volume of all discs in view, numbered from 1 = L5/S1
        upward (SACRAL_DISC for the rudimentary one), all on one grid.
    """
    body = build_body(anatomy, *_fine_box(protocol), (protocol.voxel_mm[0] / 2,) * 3, whole_belly=True)
    if sacral_disc_mm:
        paint_sacral_disc(body, anatomy, sacral_disc_mm, SACRAL_DISC)
    water, fat = _water_and_fat(body, protocol)
    rng = np.random.default_rng([protocol.seed, 5])
    gain = coil_field(anatomy, protocol, rng)
    tables = water_fat_tables(protocol.tr_ms, protocol.te_ms, _FLIP_DEG, protocol.machine.tesla)
    marrow = float(sum(table[TISSUE["marrow"], 120] for table in tables))
    level = np.float32(protocol.machine.level / marrow)
    water, fat = water * gain * level, fat * gain * level
    sigma = np.float32(protocol.noise * protocol.machine.level)
    noise = rng.standard_normal((2, 2, *water.shape), dtype=np.float32) * sigma  # echo, real or imaginary
    in_real, opposed_real = water + fat + noise[0, 0], water - fat + noise[1, 0]
    half = np.float32(0.5)
    pictures = {
        "inn": (in_real, noise[0, 1]),
        "opp": (opposed_real, noise[1, 1]),
        "wat": ((in_real + opposed_real) * half, (noise[0, 1] + noise[1, 1]) * half),
        "fat": ((in_real - opposed_real) * half, (noise[0, 1] - noise[1, 1]) * half),
    }
    images = {}
    for name in DIXON:
        real, imaginary = pictures[name]
        size = np.minimum(np.rint(np.sqrt(real * real + imaginary * imaginary)), 32000).astype(np.int16)
        images[name] = as_volume(size, protocol, protocol.orientation)
    return images, as_volume(_discs(body.label), protocol, protocol.orientation)


def _fine_box(protocol: Protocol) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Corners (right, down, back in mm) of a tissue grid of half the voxel's edge, with a tissue voxel at each voxel's centre.

    It has 2 n + 1 tissue voxels along an axis of n image voxels: the centres, what lies between them, and both ends.
    """
    step = protocol.voxel_mm[0] / 2
    low = tuple(c - e / 2 - step / 2 for c, e in zip(protocol.centre, protocol.extent_mm, strict=True))
    # A quarter of a step short, so that rounding never adds a plane.
    return low, tuple(a + (2 * n + 1 - 0.25) * step for a, n in zip(low, protocol.shape, strict=True))


def _water_and_fat(body: TissueGrid, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Water and fat signal of each image voxel: two of (slice, row, column) float32."""
    out = []
    for table in water_fat_tables(protocol.tr_ms, protocol.te_ms, _FLIP_DEG, protocol.machine.tesla):
        slivers, flat = sliver_signal(table), table.reshape(-1)
        total = np.empty(protocol.shape, np.float32)
        for number in range(protocol.shape[0]):  # slice by slice, to save memory
            planes = slice(2 * number, 2 * number + 3)
            under = slivers[body.under[planes]]
            pure = flat[body.tissue[planes].astype(np.uint16) * np.uint16(256) + body.mix[planes]]
            share = body.share[planes].astype(np.float32) * np.float32(1 / 255)
            total[number] = _blur(under + share * (pure - under))[0]
        out.append(total)
    return out[0], out[1]


def _blur(fine: np.ndarray) -> np.ndarray:
    """Mean over each image voxel with weights 1, 2, 1 along each axis: what a scanner resolves, one voxel wide at half height.

    Added in a fixed order, so that it is the same on every machine.
    """
    for axis in range(3):
        before, middle, after = (fine[(slice(None),) * axis + (part,)] for part in (np.s_[:-2:2], np.s_[1:-1:2], np.s_[2::2]))
        fine = np.float32(0.25) * (before + after) + np.float32(0.5) * middle
    return fine


def _discs(label: np.ndarray) -> np.ndarray:
    """Disc at the centre of each image voxel, uint8 (slice, row, column), from the tissue grid's labels."""
    label = label[1::2, 1::2, 1::2]
    return np.where(label == SACRAL_DISC, label, np.where(label > 200, label - np.uint8(200), 0)).astype(np.uint8)


def _make_patient(task: tuple[str, int, int, float]) -> dict:
    """Draw, scan and write one patient; returns its row of patients.csv. Runs in a worker process."""
    folder, patient, seed, voxel_mm = task
    anatomy_seed, scan_seed, sacral = (int(s) for s in np.random.SeedSequence([seed, 6, patient]).generate_state(3))
    anatomy = make_anatomy(anatomy_seed)
    draw = np.random.default_rng([sacral, DISC_GENERATOR_VERSION]).random(2)
    sacral_mm = round(4.0 + 2.5 * float(draw[1]), 2) if draw[0] < SACRAL_DISC_SHARE else 0.0
    images, discs = scan_dixon(anatomy, draw_dixon(anatomy, scan_seed, voxel_mm), sacral_mm)
    name = f"{patient:02d}"
    place = Path(folder) / name
    place.mkdir()
    for contrast, image in images.items():
        write_volume(image, place / f"{name}_{contrast}.nii.gz")
    labelled = np.where(discs.array <= LABELLED_DISCS, discs.array, 0).astype(np.uint8)
    write_volume(discs.with_array(labelled), place / f"{name}_Labels.nii.gz")
    write_volume(discs, place / f"{name}_AllDiscs.nii.gz")
    seen = np.flatnonzero(np.bincount(discs.array.reshape(-1), minlength=256))
    return {
        "patient": patient,
        "sex": anatomy.sex,
        "age": anatomy.age,
        "n_lumbar": anatomy.n_lumbar,
        "discs_in_view": int(((seen > 0) & (seen < SACRAL_DISC)).sum()),
        "sacral_disc_mm": sacral_mm,
    }


def _refuse_foreign_files(folder: Path) -> None:
    """Raise DataError when an older set holds a file that no generator wrote: it would be lost."""
    if not (folder / SET_FILE).is_file():
        return  # what is no set of this kind is refused as a whole
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        if path.is_file() and not _OWN.match(place) and not path.name.startswith("."):
            raise DataError(path, "is no file of the phantom, and would be lost", "Move it away, or choose another folder.")


def generate_disc_set(
    out: str | Path,
    n_patients: int = IVDM3SEG_PATIENTS,
    seed: int = 0,
    jobs: int | None = None,
    voxel_mm: float = VOXEL_MM["full"],
    show_progress: bool = False,
) -> Path:
    """Write a made-up set in IVDM3Seg's layout (see data.discs).

    ``<nn>/<nn>_fat.nii.gz``, ``_inn``, ``_opp``, ``_wat`` (int16), ``_Labels`` (uint8, discs 1 to 7 from below), ``_AllDiscs``
    (uint8, every disc in view: 1 to 11, SACRAL_DISC), ``patients.csv`` (what was drawn) and ``ivd-phantom.json``. The same seed
    gives the same files, byte for byte, however many processes work; patient k is the same whatever ``n_patients``. The folder
    appears when it is complete.

    Args:
        out: folder to write; a set of this kind that is there already is replaced, anything else is refused.
        n_patients: how many patients; their ids are 1 to n.
        seed: non-negative integer.
        jobs: processes to use; None takes one for every core, at most 4.
        voxel_mm: edge of a voxel, 0.8 to 4 mm; see VOXEL_MM.
        show_progress: tell how many patients are done.

    Returns:
        ``out`` as a Path.

    Raises:
        ValueError: n_patients below 1, negative seed, voxel_mm out of range.
        DataError: the folder cannot be written, or its disk is too full.
        KitError: a process was killed.
    """
    if n_patients < 1 or seed < 0 or not 0.8 <= voxel_mm <= 4:
        raise ValueError(
            f"n_patients={n_patients}, seed={seed}, voxel_mm={voxel_mm}: at least 1 patient, seed 0 or more, 0.8 to 4 mm"
        )
    out = Path(out)
    _refuse_foreign_files(out)
    voxels = math.prod(FIELD_MM) / voxel_mm**3
    require_free_space(out.parent, int(n_patients * voxels * 8), f"a disc phantom of {n_patients} patients")
    jobs = min(jobs or min(cpu_count(), 4), n_patients)
    with atomic_folder(out, marker=SET_FILE) as folder:
        tasks = [(str(folder), patient, seed, float(voxel_mm)) for patient in range(1, n_patients + 1)]
        advice = "Close other programs, or take fewer: spider-kit data phantom --kind ivd --jobs 1"
        results = map_in_processes(_make_patient, tasks, jobs, advice)
        rows = list(progress(results, "making patients", n_patients) if show_progress else results)
        write_csv(folder / "patients.csv", pd.DataFrame(rows), lineterminator="\n")
        write_json(folder / SET_FILE, set_facts(n_patients, seed, voxel_mm))
    return out


def set_facts(n_patients: int, seed: int, voxel_mm: float) -> dict:
    """What ``ivd-phantom.json`` says of a set made with these settings."""
    facts = {
        "generator_version": [GENERATOR_VERSION, DISC_GENERATOR_VERSION],
        "seed": seed,
        "n_patients": n_patients,
        "voxel_mm": float(voxel_mm),
    }
    return {**facts, "fingerprint": fingerprint(json.loads(json.dumps(facts)))}
