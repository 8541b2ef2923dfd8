"""What the kit's own weights are worth on patients whom they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from spider_utils.data.splits import Split
from spider_utils.data.volumes import Volume
from spider_utils.evaluation.statistics import summarise
from spider_utils.evidence.recipe import N_FOLDS, Kitchen
from spider_utils.labels import convert
from spider_utils.predict import Predictor, Track, VolumePredictor
from spider_utils.training.runs import RunResult

CLASSES = "structures4"
SHOWN = ALONE, AS_SERIES = ("slice by slice", "as series")  # each slice as if there were no other; with Recipe.tidy
MEAN_COLUMNS = ("name", "metric", "mean", "std", "low", "high", "n", "patients")


def mean_scores(scores: pd.DataFrame, groups: Sequence[str] = ()) -> pd.DataFrame:
    """Mean Dice and ASD (mm) by class and for the foreground, of all rows or of each group of them (see summarise).

    Args:
        scores: rows as of Workspace.evaluate.
        groups: columns that tell the groups, such as "shown" of ``both_ways``.

    Returns:
        ``groups`` and MEAN_COLUMNS.
    """
    tables = []
    for values, part in scores.groupby(list(groups), sort=False) if groups else [((), scores)]:
        found = summarise(part)
        found = found[(found["view"] == "mean") & found["metric"].isin(["dice", "asd_mm"])]
        tables.append(found.assign(**dict(zip(groups, values, strict=True)))[[*groups, *MEAN_COLUMNS]])
    return pd.concat(tables, ignore_index=True)


@dataclass
class _InClasses(VolumePredictor):
    """A predictor of levels whose masks become those of vertebra, canal and disc, the only truth that released slices have."""

    member: Predictor
    scheme: str = CLASSES

    def predict_volume(self, volume: Volume, track: Track | None = None) -> Volume:
        """As VolumePredictor says."""
        mask = self.member.predict_volume(volume, track)
        return mask.with_array(convert(mask.array, self.member.scheme, CLASSES))


def segmented(kitchen: Kitchen, run: RunResult, split: Split, shown: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Scores and masks of the released slices of a split's test patients.

    Args:
        shown: one of SHOWN.

    Returns:
        As Workspace.measure (a series and class a row, in the series' own pixels), rows with ``shown``.
    """
    tidy = kitchen.recipe.tidy if shown == AS_SERIES else None
    predictor: VolumePredictor = replace(Predictor.load(run.folder), tidy=tidy)
    if predictor.scheme != CLASSES:
        predictor = _InClasses(predictor)
    scores, masks = kitchen.real.measure(predictor, split)
    return scores.assign(shown=shown), masks


def both_ways(kitchen: Kitchen, run: RunResult, split: Split) -> pd.DataFrame:
    """Scores with and without what neighbouring slices tell: rows of ``segmented``."""
    return pd.concat([segmented(kitchen, run, split, shown)[0] for shown in SHOWN], ignore_index=True)


def cross_validated(kitchen: Kitchen) -> pd.DataFrame:
    """Scores of all patients with released slices, each by the network of the fold that tests on him.

    Returns:
        Rows of ``both_ways``, with ``fold``.
    """
    folds = [kitchen.fold(number) for number in range(N_FOLDS)]
    tables = [both_ways(kitchen, run, split).assign(fold=number) for number, (split, run) in enumerate(folds)]
    return pd.concat(tables, ignore_index=True)


def everyone(kitchen: Kitchen, run: RunResult) -> Split:
    """A split that tests a network which has seen phantoms alone on all patients with released slices.

    Raises:
        ValueError: the run has seen patients.
    """
    if run.card["data"]["kind"] != "phantom":
        raise ValueError(f"{run.folder} has seen real patients: it has no business with all of them")
    patients = kitchen.real.source.cases["patient"].unique()
    return Split("everyone", 0, 0, pd.DataFrame({"patient": patients, "subset": "test"}))


def on_everyone(kitchen: Kitchen, run: RunResult) -> pd.DataFrame:
    """Scores of a network that has seen phantoms alone on all patients with released slices; rows of ``both_ways``."""
    return both_ways(kitchen, run, everyone(kitchen, run))


def of_levels(kitchen: Kitchen) -> pd.DataFrame:
    """Scores of the network of levels: rows of ``on_everyone``, in classes; and by level those of the phantoms it has not seen,
    ``shown`` being "phantoms"."""
    run = kitchen.levels()
    own = kitchen.made_up.evaluate(run).assign(shown="phantoms")
    return pd.concat([on_everyone(kitchen, run), own], ignore_index=True)
