"""What a choice is worth: trained networks on the same patients, each compared with the first, pair by pair."""

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
    """Runs that differ in one choice or more, scored on the same patients in the series' own grid, whatever their slice size.

    Attributes:
        workspace: where runs and data are.
        runs: finished runs of one label scheme and split; the first is the base that the others are compared with.
        mirror: also the base with mirrored slices averaged in (see predict.Predictor).
        mean: also the mean of all runs' probabilities.
        subset: whose series are scored: "test" to report, "val" to choose.

    Raises:
        KitError: two runs have the same settings, or they differ in scheme or split, or were split by slice.
    """

    workspace: Workspace
    runs: Sequence[RunResult]
    mirror: bool = False
    mean: bool = False
    subset: str = "test"

    def __post_init__(self) -> None:
        kinds = {(run.card["scheme"], run.card["split"]["fingerprint"]) for run in self.runs}
        names = [Path(run.folder).name for run in self.runs]
        if len(kinds) != 1 or len({self.title(run) for run in self.runs}) < len(self.runs):
            raise KitError(f"choices are compared between different runs with one label scheme and split, not {', '.join(names)}")
        if self.runs[0].card["split"]["name"].startswith(LEAKY):
            raise KitError(
                f"{names[0]} was split by slice, which makes every choice look good: give runs that were split by patient"
            )

    def title(self, run: RunResult) -> str:
        """The architecture of the base; of another run what was chosen otherwise than for the base."""
        mine, base = run.settings, self.runs[0].settings
        if run is self.runs[0]:
            return f"{mine['architecture']} (base)"
        if mine["architecture"] != base["architecture"]:  # its options differ as a matter of course
            named = {name: mine.get(name) for name in base if name in mine and name not in run.card["options"]}
            differs = {name: value for name, value in named.items() if value != base[name]}
        else:
            differs = {name: mine.get(name) for name in {**base, **mine} if mine.get(name) != base.get(name)}
        differs.pop("in_channels", None)  # follows from neighbours
        shown = {name: "x".join(map(str, value)) if isinstance(value, list) else value for name, value in differs.items()}
        return ", ".join(str(value) if name == "architecture" else f"{name} {value}" for name, value in shown.items())

    def scores(self) -> list[tuple[str, pd.DataFrame]]:
        """Titles and scores of every series of ``subset`` (see Workspace.evaluate), the base first."""
        split = self.workspace.split_of(self.runs[0])
        found = [(self.title(run), self.workspace.evaluate(run, split, self.subset)) for run in self.runs]
        predictors = [Predictor.load(run.folder) for run in self.runs] if self.mirror or self.mean else []
        if self.mirror:
            mirrored = replace(predictors[0], mirror=True)
            found.append(("base, mirrored slices too", self.workspace.measure(mirrored, split, self.subset)[0]))
        if self.mean:
            mean = self.workspace.measure(MeanPredictor(predictors), split, self.subset)[0]
            found.append((f"mean of these {len(predictors)}", mean))
        return found

    def table(self) -> pd.DataFrame:
        """Mean Dice of the subset's series, and what it gains on the base.

        Intervals are over patients. Another seed can move a score as much as another choice (give runs with another seed to
        see), and the best of many choices on one set of test patients is flattered by chance: choose on "val".

        Returns:
            One row a choice and class (and the foreground mean): choice, name, mean, low, high (95 % over patients), gain,
            gain_low, gain_high (to the base, paired over patients; NaN for the base), asd_mm, n, patients.
        """
        rows, found = [], self.scores()
        base = found[0][1]
        for choice, scores in found:
            summary = summarise(scores).set_index(["metric", "name"])
            gains = compare(scores, base).set_index("name")
            for name, dice in summary.loc["dice"].iterrows():
                gain = gains.loc[name, ["difference", "low", "high"]] if scores is not base else [float("nan")] * 3
                rows.append(
                    {"choice": choice, "name": name, **dice[["mean", "low", "high"]]}
                    | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
                    | {"asd_mm": summary.loc[("asd_mm", name), "mean"], "n": dice["n"], "patients": dice["patients"]}
                )
        return pd.DataFrame(rows)
