"""What a choice is worth: trained networks on the same test patients, each compared with the first, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from spider_utils.data.splits import LEAKY
from spider_utils.errors import KitError
from spider_utils.evaluation.statistics import compare, summarise
from spider_utils.predict import MeanPredictor, Predictor
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace


@dataclass(frozen=True)
class Choices:
    """Runs that differ in one choice or more, tested on the same patients in the series' own grid, whatever their slice size.

    Attributes:
        workspace: where runs and data are.
        runs: finished runs of one label scheme and split; the first is the base that the others are compared with.
        mirror: also the base with mirrored slices averaged in (see predict.Predictor).
        mean: also the mean of all runs' probabilities.

    Raises:
        KitError: a run is given twice, they differ in scheme or split, or were split by slice.
    """

    workspace: Workspace
    runs: Sequence[RunResult]
    mirror: bool = False
    mean: bool = False

    def __post_init__(self) -> None:
        kinds = {(run.card["scheme"], run.card["split"]["fingerprint"]) for run in self.runs}
        names = [Path(run.folder).name for run in self.runs]
        if len(kinds) != 1 or len(set(names)) < len(names):
            raise KitError(f"choices are compared between different runs with one label scheme and split, not {', '.join(names)}")
        if self.runs[0].card["split"]["name"].startswith(LEAKY):
            raise KitError(
                f"{names[0]} was split by slice, which makes every choice look good: give runs that were split by patient"
            )

    def title(self, run: RunResult) -> str:
        """What a run's name has that the base's lacks; the base's own title is its architecture."""
        base = Path(self.runs[0].folder).name.split("-")
        return " ".join(part for part in Path(run.folder).name.split("-") if part not in base) or run.card["architecture"]

    def scores(self) -> dict[str, pd.DataFrame]:
        """Scores of every test series (see Workspace.evaluate) by title, the base first."""
        split = self.workspace.split_of(self.runs[0])
        found = {self.title(run): self.workspace.evaluate(run, split) for run in self.runs}
        predictors = [Predictor.load(run.folder) for run in self.runs] if self.mirror or self.mean else []
        if self.mirror:
            found["base, mirrored slices too"] = self.workspace.measure(replace(predictors[0], mirror=True), split)[0]
        if self.mean:
            found[f"mean of these {len(predictors)}"] = self.workspace.measure(MeanPredictor(predictors), split)[0]
        return found

    def table(self) -> pd.DataFrame:
        """Mean Dice of test series, and what it gains on the base.

        Returns:
            One row a choice and class (and the foreground mean): choice, name, mean, low, high (95 % over patients), gain,
            gain_low, gain_high (to the base, paired over patients; NaN for the base), asd_mm, n, patients.
        """
        rows, base = [], None
        for choice, scores in self.scores().items():
            summary = summarise(scores).set_index(["metric", "name"])
            base = scores if base is None else base
            gains = compare(scores, base).set_index("name")
            for name, dice in summary.loc["dice"].iterrows():
                gain = gains.loc[name, ["difference", "low", "high"]] if scores is not base else [float("nan")] * 3
                rows.append(
                    {"choice": choice, "name": name, **dice[["mean", "low", "high"]]}
                    | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
                    | {"asd_mm": summary.loc[("asd_mm", name), "mean"], "n": dice["n"], "patients": dice["patients"]}
                )
        return pd.DataFrame(rows)
