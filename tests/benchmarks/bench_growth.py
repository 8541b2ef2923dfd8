"""Ten, a hundred and a thousand patients: time must grow as their number does, and memory not at all."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.slices import build_store
from spider_utils.data.sources import open_source
from spider_utils.data.volumes import Volume, write_volume
from spider_utils.labels import convert
from tests.benchmarks.apart import Cost, run_apart

PATIENTS = (10, 100, 1000)
MODELS = 5  # patients that are made; all others are copies of their series under numbers of their own
FOLDERS, TABLES = ("images", "masks", "predicted"), ("overview.csv", "radiological_gradings.csv")
CORES, SIZE, SCHEME = 2, (64, 64), "structures4"
MOST_SLOWER = 1.5  # a patient of the last 900 against one of the 90 before, in processor time
START_VARIES_S = 1.0  # of processor time, from one start of the same command to the next
MOST_MORE_BYTES = 100e6  # of a thousand patients against ten: their tables, not their voxels


def tiny(volume: Volume) -> Volume:
    """Every other voxel of six slices from the middle."""
    first = len(volume.array) // 2 - 3
    slices, rows, columns = volume.spacing
    kept = volume.array[first : first + 6, ::2, ::2]
    return replace(volume, array=kept, spacing=(slices, 2 * rows, 2 * columns), stored=None)


def make_models(root: Path, n_patients: int) -> Path:
    """Write tiny phantom series in SPIDER's layout, with a predicted mask of each (the true one, a row off) in ``predicted``."""
    source = open_source("phantom", generate_dataset(root / "coarse", n_patients, seed=0, size="small"))
    for folder in FOLDERS:
        (root / "tiny" / folder).mkdir(parents=True)
    for case in source.cases["case"]:
        series = source.load(case)
        image, mask = tiny(series.image), tiny(series.mask)
        shifted = np.roll(convert(mask.array, source.scheme, SCHEME), 1, axis=1)
        for folder, volume in zip(FOLDERS, (image, mask, mask.with_array(shifted)), strict=True):
            write_volume(volume, root / "tiny" / folder / f"{case}.mha")
    for table in TABLES:
        shutil.copyfile(source.root / table, root / "tiny" / table)
    return root / "tiny"


def copy_patients(models: Path, root: Path, n_patients: int) -> None:
    """Write so many patients, one series each: T1 and T2 of the models, one after the other and again from the first one on."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    source = open_source("phantom", models)
    series = source.cases[source.cases["sequence"] != "t2_SPACE"]
    overview = source.overview.set_index("new_file_name")
    listed, graded = [], []
    for patient in range(1, n_patients + 1):
        model = series.iloc[(patient - 1) % len(series)]
        case = f"{patient}_{model.sequence}"
        for folder in FOLDERS:
            shutil.copyfile(models / folder / f"{model.case}.mha", root / folder / f"{case}.mha")
        listed.append(overview.loc[model.case].rename(case))
        graded.append(source.gradings[source.gradings["Patient"] == model.patient].assign(Patient=patient))
    pd.DataFrame(listed).rename_axis("new_file_name").to_csv(root / "overview.csv")
    pd.concat(graded).to_csv(root / "radiological_gradings.csv", index=False)


def run() -> Iterator[Cost]:
    """`spider-kit data verify`, the slice store, and `spider-kit evaluate`, each in a process of its own.

    The volumes are tiny ones: what a patient costs hangs on the voxels, how it grows does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        models = make_models(home, MODELS)
        for n_patients in PATIENTS:
            copy_patients(models, home / str(n_patients), n_patients)
        for what in ("verify", "store", "evaluate"):
            costs = []
            for n_patients in PATIENTS:
                costs.append(_least(what, home / str(n_patients), n_patients))
                yield costs[-1]
            _check_growth(what, costs)


def _least(what: str, root: Path, n_patients: int) -> Cost:
    """The run that took least processor time: of few patients starting takes longer than their work, and varies more."""
    times = 1 if n_patients == max(PATIENTS) else 3
    found = (run_apart(f"{what}, {n_patients} patients", _command(what, root), CORES) for _ in range(times))
    return min(found, key=lambda cost: cost.cpu_s)


def _command(what: str, root: Path) -> list[str]:
    kit = [sys.executable, "-m", "spider_utils.cli"]
    if what == "verify":
        return [*kit, "data", "verify", str(root), "--kind", "phantom"]
    if what == "store":
        return [sys.executable, "-m", "tests.benchmarks.bench_growth", str(root)]
    folders = ["--truth", str(root / "masks"), "--pred", str(root / "predicted")]
    schemes = ["--truth-scheme", "spider", "--scheme", SCHEME]
    return [*kit, "evaluate", *folders, *schemes, "--out", str(root / "scores.csv")]


def _check_growth(what: str, costs: list[Cost]) -> None:
    few, more, most = costs
    early, late = (
        (b.cpu_s - a.cpu_s) / (n_b - n_a) for a, b, n_a, n_b in ((few, more, *PATIENTS[:2]), (more, most, *PATIENTS[1:]))
    )
    assert late < MOST_SLOWER * (early + START_VARIES_S / (PATIENTS[1] - PATIENTS[0])), (
        f"{what}: {1e3 * early:.1f} ms of processor time a patient became {1e3 * late:.1f} ms"
    )
    grown = most.peak_bytes - few.peak_bytes
    assert grown < MOST_MORE_BYTES, f"{what}: {PATIENTS[-1]} patients take {grown / 1e6:.0f} MB more than {PATIENTS[0]}"


if __name__ == "__main__":
    root = Path(sys.argv[1])
    build_store(open_source("phantom", root), root / "store", SIZE)
