"""What the kit's own weights are worth on patients whom they have not seen."""

from __future__ import annotations

import pandas as pd

from spider_utils.data.splits import Split
from spider_utils.evaluation.statistics import summarise
from spider_utils.evidence.recipe import N_FOLDS, Kitchen
from spider_utils.predict import load_predictor
from spider_utils.training.runs import RunResult


def mean_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice and ASD (mm) by class and for the foreground: name, metric, mean, std, low, high, n, patients (see summarise)."""
    found = summarise(scores)
    found = found[(found["view"] == "mean") & found["metric"].isin(["dice", "asd_mm"])]
    return found[["name", "metric", "mean", "std", "low", "high", "n", "patients"]]


def cross_validated(kitchen: Kitchen) -> pd.DataFrame:
    """Scores of all patients with released slices, each by the network of the fold that tests on him.

    Returns:
        Rows as of Workspace.evaluate (a series and class a row, in the series' own pixels), with ``fold``.
    """
    tables = []
    for number in range(N_FOLDS):
        split, run = kitchen.fold(number)
        tables.append(kitchen.real.evaluate(run, split).assign(fold=number))
    return pd.concat(tables, ignore_index=True)


def on_everyone(kitchen: Kitchen, run: RunResult) -> pd.DataFrame:
    """Scores of a network that has seen phantoms alone, on all patients with released slices; rows as ``cross_validated``.

    Raises:
        ValueError: the run has seen patients.
    """
    if run.card["data"]["kind"] != "phantom":
        raise ValueError(f"{run.folder} has seen real patients: it has no business with all of them")
    patients = kitchen.real.source.cases["patient"].unique()
    everyone = Split("everyone", 0, 0, pd.DataFrame({"patient": patients, "subset": "test"}))
    return kitchen.real.measure(load_predictor(run.folder), everyone)[0]
