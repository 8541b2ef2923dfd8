"""Folders of masks to score: predictions and ground truth that do not fit, or are damaged."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from spider_utils.data.volumes import Volume, kit_direction, write_volume
from spider_utils.evaluation.folders import evaluate_folders
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import spoil_bytes


def whole(folder: Path) -> None:
    """Masks are made anew for every case."""


def _mask(random: Random) -> Volume:
    chance = np.random.default_rng(random.randrange(2**32))
    shape = random.choice(((2, 6, 5),) * 8 + ((1, 6, 5), (2, 5, 6)))
    top = random.choice((4,) * 8 + (1, 5, 256, 300))
    array = chance.integers(0, top, shape).astype(np.uint8 if top <= 256 else np.uint16)
    spacing = random.choice(((3.3, 1.1, 0.9),) * 10 + ((3.3, 1.1, 1.0), (1e-6, 1e-6, 1e-6), (1e6, 1e6, 1e6)))
    return Volume(array, spacing, (0.0, 0.0, 0.0), kit_direction())


def spoil(random: Random, folder: Path, whole: None) -> dict[str, Call]:
    """Two folders of one to three masks each."""
    truth, predicted = folder / "truth", folder / "predicted"
    suffixes = [random.choice((".mha", ".mha", ".nii.gz", ".png")) for _ in range(random.choice((1, 1, 2)))]
    for place in (truth, predicted):
        place.mkdir()
        for k, suffix in enumerate(suffixes):
            path = place / f"{k + 1}_t1{suffix if random.random() < 0.95 else '.nii.gz'}"
            mask = _mask(random)
            if path.suffix == ".png":
                Image.fromarray(mask.array[0]).save(path)
            else:
                write_volume(mask, path)
            if random.random() < 0.2:
                path.write_bytes(spoil_bytes(random, path.read_bytes()))
            if random.random() < 0.04:
                path.rename(path.with_name(f"9_t1{suffix}"))
    scheme = random.choice(("structures4",) * 6 + ("levels20", "spider"))
    spacing = random.choice((None, None, (0.5, 0.5), {"1": (1.0, 1.0)}))

    def scored(out: Path) -> None:
        table, summary = evaluate_folders(truth, predicted, scheme, out / "scores.csv", spacing_mm=spacing)
        demand(len(table) > 0 and len(summary) > 0 and table["dice"].dropna().between(0, 1).all(), "scores that cannot be")

    return {"evaluate_folders": scored}
