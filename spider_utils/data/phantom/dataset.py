"""A whole made-up data set on disk, in SPIDER's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spider_utils.data.phantom.anatomy import GENERATOR_VERSION, Anatomy, make_anatomy
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.randomize import randomized
from spider_utils.data.phantom.scanner import SIZES, Protocol, body_box, body_spacing, draw_protocols, render
from spider_utils.data.sources import Case
from spider_utils.data.volumes import write_volume
from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, fingerprint, read_json, require_free_space, write_csv, write_json
from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count, progress

OVERVIEW_COLUMNS = tuple(
    """
    new_file_name num_vertebrae num_discs sex birth_date subset AngioFlag BodyPartExamined DeviceSerialNumber EchoNumbers EchoTime
    EchoTrainLength FlipAngle ImagedNucleus ImagingFrequency InPlanePhaseEncodingDirection MRAcquisitionType MagneticFieldStrength
    Manufacturer ManufacturerModelName NumberOfPhaseEncodingSteps PercentPhaseFieldOfView PercentSampling
    PhotometricInterpretation PixelBandwidth PixelSpacing RepetitionTime SAR SamplesPerPixel ScanningSequence SequenceName
    SeriesDescription SliceThickness SoftwareVersions SpacingBetweenSlices SpecificCharacterSet TransmitCoilName WindowCenter
    WindowWidth
    """.split()
)

# Of 11 patients in a row five are of OH and two of each other hospital, as 90, 41, 43 and 44 of SPIDER's 218 are.
_HOSPITAL_BLOCK = ("OH",) * 5 + ("UMC",) * 2 + ("RH1",) * 2 + ("RH2",) * 2
_LARGEST_CASE_BYTES = 12_000_000
PHANTOM_FILE = "phantom.json"
LOOKS = ("hospital", "random")
_OWN = {"images", "masks", "overview.csv", "radiological_gradings.csv", "phantom_truth.csv", PHANTOM_FILE}


def patient_plan(patient: int, seed: int) -> tuple[str, tuple[str, ...], str]:
    """(hospital, sequences, subset) of a patient: depends on patient and seed alone, not on how many there are.

    Series are missing as often as in SPIDER: T1 for 45 % of RH2, T2 for 14 % of RH1; every UMC patient has T2_SPACE. Two of 11
    patients are for validation.
    """
    block, place = divmod(patient - 1, len(_HOSPITAL_BLOCK))
    order = np.random.default_rng([seed, 3, block]).permutation(len(_HOSPITAL_BLOCK))
    hospital = _HOSPITAL_BLOCK[order[place]]
    draw = np.random.default_rng([seed, 4, patient]).random()
    if hospital == "UMC":
        sequences: tuple[str, ...] = ("t1", "t2", "t2_SPACE")
    elif (hospital == "RH2" and draw < 0.45) or (hospital == "RH1" and draw < 0.14):
        sequences = ("t2",) if hospital == "RH2" else ("t1",)
    else:
        sequences = ("t1", "t2")
    # Spread evenly, so that small sets have validation patients too.
    offset = seed % 11
    subset = "validation" if (2 * (patient + offset)) // 11 != (2 * (patient - 1 + offset)) // 11 else "training"
    return hospital, sequences, subset


def _overview_row(
    patient: int, protocol: Protocol, subset: str, sex: str, counts: tuple[int, int], window: tuple[float, float]
) -> dict:
    """One row of overview.csv with what the series was really made with; fields that no phantom has stay empty."""
    machine = protocol.machine
    row, column = protocol.voxel_mm[1:]
    philips = machine.manufacturer.startswith("Philips")
    values = {
        "new_file_name": f"{patient}_{protocol.sequence}",
        "num_vertebrae": counts[0],
        "num_discs": counts[1],
        "sex": sex,
        "subset": subset,
        "AngioFlag": None if philips else "N",
        "BodyPartExamined": machine.body_part or None,
        "EchoNumbers": 1,
        "EchoTime": protocol.te_ms,
        "EchoTrainLength": machine.train,
        "FlipAngle": machine.flip,
        "ImagedNucleus": "1H",
        "ImagingFrequency": {1.5: 63.68, 3.0: 127.77}[machine.tesla],
        "InPlanePhaseEncodingDirection": "COL",
        "MRAcquisitionType": "3D" if protocol.sequence == "t2_SPACE" else "2D",
        "MagneticFieldStrength": machine.tesla,
        "Manufacturer": machine.manufacturer,
        "ManufacturerModelName": machine.model,
        "NumberOfPhaseEncodingSteps": round(protocol.extent_mm[1] / protocol.blur_mm[0]),
        "PercentPhaseFieldOfView": 100.0,
        "PercentSampling": round(100 * min(1.0, row / protocol.blur_mm[0]), 1),
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelBandwidth": machine.bandwidth,
        "PixelSpacing": f"[{row:g}, {column:g}]",
        "RepetitionTime": protocol.tr_ms,
        "SamplesPerPixel": 1,
        "ScanningSequence": "SE",
        "SeriesDescription": machine.description or None,
        "SliceThickness": machine.slices[0],
        "SpacingBetweenSlices": round(protocol.voxel_mm[0], 4),
        "SpecificCharacterSet": "ISO_IR 100",
        "TransmitCoilName": None if philips else "Body",
        "WindowCenter": window[0],
        "WindowWidth": window[1],
    }
    return {column: values.get(column) for column in OVERVIEW_COLUMNS}


def patient_seeds(seed: int, patient: int) -> tuple[int, int]:
    """Seeds of a patient's anatomy (for make_anatomy) and scans in a set made with ``seed`` (stored in PHANTOM_FILE)."""
    anatomy, scan = np.random.SeedSequence([seed, 2, patient]).generate_state(2)
    return int(anatomy), int(scan)


def draw_patient(patient: int, seed: int, size: str, looks: str = "hospital") -> tuple[Anatomy, list[Protocol]]:
    """A patient of a set: anatomy, and how each of its series is made; ``looks`` as for generate_dataset."""
    anatomy_seed, scan_seed = patient_seeds(seed, patient)
    hospital, sequences, _ = patient_plan(patient, seed)
    anatomy = make_anatomy(anatomy_seed)
    protocols = draw_protocols(anatomy, hospital, sequences, scan_seed, size=size)
    if looks == "random":
        protocols = [randomized(protocol, scan_seed + k) for k, protocol in enumerate(protocols)]
    return anatomy, protocols


def make_case(patient: int, seed: int, size: str, looks: str = "hospital") -> Case:
    """One series of a patient of a set, T2 where there is one: the voxels that ``generate_dataset`` writes, in memory."""
    anatomy, protocols = draw_patient(patient, seed, size, looks)
    body = build_body(anatomy, *body_box(protocols), body_spacing(protocols, size))
    protocol = next((one for one in protocols if one.sequence == "t2"), protocols[0])
    image, mask = render(anatomy, protocol.sequence, protocol, size=size, body=body)
    return Case(f"{patient}_{protocol.sequence}", patient, protocol.sequence, image, mask)


def phantom_facts(folder: str | Path) -> dict[str, Any]:
    """What a phantom set was made with: ``seed``, ``size``, ``n_patients``, ``generator_version``.

    Raises:
        DataError: the folder is no phantom set, was made by another version of the generator, or its facts are damaged.
    """
    path = Path(folder) / PHANTOM_FILE
    if not path.is_file():
        raise DataError(folder, f"is no phantom set (it holds no {PHANTOM_FILE})", "Only of made-up patients the truth is known.")
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("generator_version") != GENERATOR_VERSION:
        raise DataError(
            path, f"is not from version {GENERATOR_VERSION} of the generator", "Make the set anew: spider-kit data phantom."
        )
    if type(facts.get("seed")) is not int or facts["seed"] < 0 or facts.get("size") not in SIZES:
        raise DataError(
            path, "does not say with which seed and size the set was made", "Make the set anew: spider-kit data phantom."
        )
    return facts


def _make_patient(task: tuple[str, int, int, str, str]) -> tuple[list[dict], list[dict], list[dict]]:
    """Draw, scan and write one patient; returns its rows of overview, gradings and truth. Runs in a worker process."""
    folder, patient, seed, size, looks = task
    hospital, _, subset = patient_plan(patient, seed)
    anatomy, protocols = draw_patient(patient, seed, size, looks)
    body = build_body(anatomy, *body_box(protocols), body_spacing(protocols, size))
    overview, discs_seen = [], set()
    for protocol in protocols:
        image, mask = render(anatomy, protocol.sequence, protocol, size=size, body=body)
        name = f"{patient}_{protocol.sequence}.mha"
        write_volume(image, Path(folder) / "images" / name)
        write_volume(mask.with_array(mask.array.astype(np.uint16)), Path(folder) / "masks" / name)
        labels = np.flatnonzero(np.bincount(mask.array.reshape(-1), minlength=256))
        discs = [int(v) - 200 for v in labels if v > 200]
        counts = (sum(1 for v in labels if 0 < v < 200 and v != 100), len(discs))
        discs_seen |= set(discs)
        sample = np.sort(image.array[:: max(1, image.array.shape[0] // 6), ::4, ::4].reshape(-1))
        bright = float(sample[int(0.985 * (len(sample) - 1))])
        overview.append(
            _overview_row(patient, protocol, subset, anatomy.sex, counts, (round(0.45 * bright), round(0.9 * bright)))
        )
    numbers = sorted(discs_seen)
    truth = anatomy.truth(patient, numbers)
    truth.insert(1, "hospital", hospital)
    return overview, anatomy.gradings(patient, numbers).to_dict("records"), truth.to_dict("records")


def _refuse_foreign_files(folder: Path) -> None:
    """Raise DataError when an older phantom set holds a file that no generator wrote: it would be lost."""
    if not (folder / "overview.csv").is_file() or not (folder / PHANTOM_FILE).is_file():
        return  # what is no phantom set is refused as a whole
    series = set(pd.read_csv(folder / "overview.csv")["new_file_name"])
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        is_series = (
            len(place.parts) == 2 and place.parts[0] in ("images", "masks") and path.suffix == ".mha" and path.stem in series
        )
        if not (is_series or place.as_posix() in _OWN or path.name.startswith(".")):
            raise DataError(
                path, "is no file of the phantom, and would be lost", "Move it away, or choose another folder for --out."
            )


def generate_dataset(
    out: str | Path,
    n_patients: int,
    seed: int = 0,
    jobs: int | None = None,
    size: str = "full",
    show_progress: bool = False,
    looks: str = "hospital",
) -> Path:
    """Write a made-up data set in SPIDER's layout.

    ``images/<patient>_<sequence>.mha`` (int16), ``masks/<same>.mha`` (uint16, scheme "spider"), ``overview.csv``,
    ``radiological_gradings.csv`` (both with SPIDER's columns and line ends), ``phantom_truth.csv`` (what was drawn, in mm and
    degrees, a row a patient and disc; see Anatomy.truth) and ``phantom.json``. The same seed gives the same files, byte for
    byte, however many processes work; patient k is the same whatever ``n_patients``. The folder appears when it is complete.

    Args:
        out: folder to write; a phantom set that is there already is replaced, anything else, or one that somebody added files
            to, is refused.
        n_patients: how many patients; their ids are 1 to n.
        seed: non-negative integer.
        jobs: processes to use; None takes one for every core, at most 4.
        size: "full", or "small" for coarse series with few slices.
        show_progress: tell how many patients are done.
        looks: "hospital", as SPIDER's four hospitals scan; "random", any contrast, coil, resolution and artefacts, for networks
            that learn from phantoms what is to hold on real series (see phantom.randomize). Times in overview.csv then say
            nothing about the pictures.

    Returns:
        ``out`` as a Path.

    Raises:
        ValueError: n_patients below 1, negative seed, unknown size or looks.
        DataError: the folder cannot be written, or its disk is too full.
        KitError: a process was killed.
    """
    if n_patients < 1 or seed < 0 or size not in SIZES or looks not in LOOKS:
        raise ValueError(
            f"n_patients={n_patients}, seed={seed}, size='{size}', looks='{looks}': at least 1 patient, seed 0 or more, size in "
            f"{SIZES}, looks in {LOOKS}"
        )
    out = Path(out)
    _refuse_foreign_files(out)
    require_free_space(
        out.parent, n_patients * _LARGEST_CASE_BYTES * (2 if size == "full" else 0.2), f"a phantom of {n_patients} patients"
    )
    jobs = min(jobs or min(cpu_count(), 4), n_patients)  # a process takes up to 0.8 GB
    with atomic_folder(out, marker=PHANTOM_FILE) as folder:
        (folder / "images").mkdir()
        (folder / "masks").mkdir()
        tasks = [(str(folder), patient, seed, size, looks) for patient in range(1, n_patients + 1)]
        advice = "Making a patient takes up to 0.8 GB: close other programs, or take fewer: spider-kit data phantom --jobs 1"
        results = map_in_processes(_make_patient, tasks, jobs, advice)
        done = list(progress(results, "making patients", n_patients) if show_progress else results)
        tables = [pd.DataFrame([row for one in done for row in one[k]]) for k in range(3)]
        for name, table in zip(("overview.csv", "radiological_gradings.csv", "phantom_truth.csv"), tables, strict=True):
            write_csv(folder / name, table, lineterminator="\n" if name.startswith("phantom") else "\r\n")
        facts = {"generator_version": GENERATOR_VERSION, "seed": seed, "n_patients": n_patients, "size": size}
        if looks != "hospital":
            facts["looks"] = looks
        write_json(folder / PHANTOM_FILE, {**facts, "fingerprint": fingerprint(json.loads(json.dumps(facts)))})
    return out
