"""What phantoms are worth on real patients: alone, and as a start for a training that has few real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import pandas as pd

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.phantom.dataset import PHANTOM_FILE
from spider_utils.data.splits import Split
from spider_utils.evaluation.statistics import summarise
from spider_utils.evidence.recipe import ARCHITECTURE, Kitchen, Step
from spider_utils.evidence.score import on_everyone
from spider_utils.locks import make_once
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace

COLUMNS = ("name", "metric", "mean", "std", "low", "high", "n", "patients")
LADDER_STEP = Step((160, 128), 64, 12, 1000, batch_size=16, learning_rate=3e-3, slice_gap_mm=3.0, augment="standard")
FEW_PHANTOMS = 24
SIZES = (1, 3, 7, 21)  # real patients to learn from
SIZE_STEP = Step((320, 256), 160, 8, 400, batch_size=8, learning_rate=2e-3, slice_gap_mm=0.0, augment="standard")


def ladder(kitchen: Kitchen, step: Step = LADDER_STEP, few: int = FEW_PHANTOMS) -> pd.DataFrame:
    """Networks of phantoms alone on all real patients: few or many phantoms, of hospitals' looks or of any look.

    All see as many slices in training, so that only what these show differs.

    Returns:
        Rows as of Workspace.evaluate, with ``looks`` ("hospital" or "random") and ``phantoms`` (how many learned from).
    """
    tables = []
    for looks, made_up in (("hospital", _hospital_looks(kitchen)), ("random", kitchen.made_up)):
        for least in (few, kitchen.recipe.phantoms):
            split = _first(made_up.split(), least)
            settings = asdict(step) | {"options": kitchen.recipe.options}
            run = made_up.train(ARCHITECTURE, tag=f"ladder{least}", split=split, **settings)
            about = {"looks": looks, "phantoms": len(split.patients("train"))}
            tables.append(on_everyone(kitchen, run).assign(**about))
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


def by_group(scores: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Mean scores by group: of ``ladder`` by "looks" and "phantoms", of ``training_sizes`` by "start" and "learned".

    Returns:
        Rows of evaluation.statistics.summarise (Dice and ASD; by class and for the foreground mean), the groups' columns first.
    """
    tables = []
    for values, part in scores.groupby(list(groups), sort=False):
        found = summarise(part)
        found = found[(found["view"] == "mean") & found["metric"].isin(["dice", "asd_mm"])]
        tables.append(found.assign(**dict(zip(groups, values, strict=True)))[[*groups, *COLUMNS]])
    return pd.concat(tables, ignore_index=True)


def _hospital_looks(kitchen: Kitchen) -> Workspace:
    """The patients of the recipe's phantoms, scanned as hospitals do; made when they are not there."""
    folder, recipe = kitchen.home / "data" / "phantom-hospital", kitchen.recipe
    make_once(
        folder,
        lambda: (folder / PHANTOM_FILE).is_file(),
        lambda: generate_dataset(folder, recipe.phantoms, recipe.phantom_seed, size=recipe.phantom_size, show_progress=True),
    )
    return replace(Workspace.open("quick", "phantom", str(folder)), home=kitchen.home)


def _first(split: Split, most: int) -> Split:
    """The split with no more than ``most`` training patients and one to validate on, the first of those there are; the others
    are in no subset."""
    kept = [*split.patients("train")[:most], split.patients("val")[0], *split.patients("test")]
    table = split.table.copy()
    table.loc[~table["patient"].isin(kept), "subset"] = "left out"
    return Split(f"{split.name}-first{most}", split.seed, split.fold, table).check()
