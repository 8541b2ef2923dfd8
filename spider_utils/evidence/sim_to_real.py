"""What phantoms are worth on real patients: alone, and as a start for a training that has few real ones."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from spider_utils.data.phantom.dataset import LOOKS
from spider_utils.data.splits import Split
from spider_utils.evidence.recipe import ARCHITECTURE, Kitchen, Step
from spider_utils.evidence.score import DRAWN, everyone, segmented
from spider_utils.training.runs import RunResult

LADDER_STEP = Step((160, 128), 64, 12, 1000, batch_size=16, learning_rate=3e-3, slice_gap_mm=3.0, augment="standard")
FEW_PHANTOMS = 24
SIZES = (1, 3, 7, 21)  # real patients to learn from
SIZE_STEP = Step((320, 256), 160, 8, 400, batch_size=8, learning_rate=2e-3, slice_gap_mm=0.0, augment="standard")


def ladder(kitchen: Kitchen, step: Step = LADDER_STEP, few: int = FEW_PHANTOMS) -> pd.DataFrame:
    """Networks of phantoms alone on all real patients: few or many phantoms, of hospitals' looks or of any look.

    Each goes through as many epochs of at most ``step.samples_per_epoch`` slices. The first 24 have fewer (809).

    Returns:
        Rows as of Workspace.evaluate, with ``looks`` ("hospital" or "random") and ``phantoms`` (how many learned from).
    """
    tables = []
    for looks in LOOKS:
        made_up = kitchen.phantoms(looks)
        for least in (few, kitchen.recipe.phantoms):
            split = _first(made_up.split(), least)
            settings = asdict(step) | {"options": kitchen.recipe.options}
            run = made_up.train(ARCHITECTURE, tag=f"ladder{least}", split=split, **settings)
            about = {"looks": looks, "phantoms": len(split.patients("train"))}
            tables.append(segmented(kitchen, run, everyone(kitchen, run), DRAWN)[0].assign(**about))
    return pd.concat(tables, ignore_index=True)


def training_sizes(kitchen: Kitchen, step: Step = SIZE_STEP, sizes: tuple[int, ...] = SIZES) -> pd.DataFrame:
    """Networks of few real patients, from random weights and from those of phantoms, on the same test patients.

    All see as many slices in training, the few again and again: where there are fewer than an epoch asks for, there are more
    epochs. Fewer patients are always among the more.

    Returns:
        Rows as of Workspace.evaluate of the test patients of fold 0, with ``start`` ("random" or "phantoms") and ``learned``
        (real patients in training).
    """
    real, tables = kitchen.real, []
    whole, slices = real.split("kfold5", fold=0), real.store(step.size).table
    for size in sizes:
        split = _first(whole, size)
        epochs = epochs_for(step, len(split.rows("train", slices)))
        for start in ("random", "phantoms"):
            begun: RunResult | None = kitchen.coarse() if start == "phantoms" else None
            settings = asdict(step) | {"epochs": epochs, "options": kitchen.recipe.options, "start_from": begun}
            run = real.train(ARCHITECTURE, tag=f"sizes{size}-{start}", split=split, **settings)
            about = {"start": start, "learned": len(split.patients("train"))}
            tables.append(real.evaluate(run, split).assign(**about))
    return pd.concat(tables, ignore_index=True)


def epochs_for(step: Step, n_slices: int) -> int:
    """Epochs after which a training of so many slices has shown as many as ``step`` does of enough; whole batches count."""
    batch = min(step.batch_size, n_slices)
    shown = min(step.samples_per_epoch, n_slices) // batch * batch
    return round(step.epochs * step.samples_per_epoch / shown)


def _first(split: Split, most: int) -> Split:
    """The split with no more than ``most`` training patients and one to validate on, the first of those there are; the others
    are in no subset."""
    kept = [*split.patients("train")[:most], split.patients("val")[0], *split.patients("test")]
    table = split.table.copy()
    table.loc[~table["patient"].isin(kept), "subset"] = "left out"
    return Split(f"{split.name}-first{most}", split.seed, split.fold, table).check()
