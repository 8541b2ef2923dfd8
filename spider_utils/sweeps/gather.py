"""What the runs of a sweep say together: one table of models, one of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spider_utils.errors import DataError
from spider_utils.evaluation.statistics import FOREGROUND_NAME, SUMMARY_COLUMNS, summarise
from spider_utils.files import read_json
from spider_utils.sweeps.plan import Training
from spider_utils.training.runs import RUN_FILE, RunResult

GROUP = ("model", "profile", "data")
MODEL_COLUMNS = (*GROUP, *SUMMARY_COLUMNS, "runs", "sd_runs", "folds", "sd_folds", "seeds", "sd_seeds")
RUN_COLUMNS = (
    *GROUP, "fold", "seed", "run", "dice", "low", "high", "patients", "best_epoch", "epochs", "parameters", "seconds",
    "memory_mb", "gpu_memory_mb", "device", "finished",
)  # fmt: skip


@dataclass(frozen=True)
class FinishedTraining:
    """A training of a sweep that is done.

    Attributes:
        training: what was asked for.
        run: what it left.
        record: its ``run.json``.
        scores: rows of measure_case for each test series, with case and patient.
    """

    training: Training
    run: RunResult
    record: dict[str, Any]
    scores: pd.DataFrame

    @classmethod
    def open(cls, training: Training, folder: Path) -> FinishedTraining:
        """Read a run that was scored. Raises DataError where a file of it is missing or is no table."""
        path = folder / "metrics-test.csv"
        try:
            scores = pd.read_csv(path, dtype={"case": str})
        except (OSError, ValueError) as error:
            fix = "Delete it and run the sweep again: the run is then scored anew."
            raise DataError(path, f"cannot be read as a table ({error})", fix) from error
        return cls(training, RunResult.open(folder), read_json(folder / RUN_FILE), scores)

    @property
    def group(self) -> tuple[str, str, str]:
        """The model's label, the profile and the kind of data: what is gathered over folds and seeds."""
        return self.training.model.label, self.training.profile, self.training.data.kind


def sweep_table(finished: list[FinishedTraining]) -> pd.DataFrame:
    """Every model's scores over its folds and seeds, class by class and for the foreground mean.

    Each series counts once a run that tested it. The interval is over patients: a bootstrap draws a patient with all series,
    folds and seeds in which it was tested (see evaluation.statistics), so that more seeds do not feign more patients.

    Returns:
        One row a model, profile, data set, class and metric: SUMMARY_COLUMNS over all tested series, then ``runs`` (how many),
        ``sd_runs`` (between the means of single runs), ``folds`` and ``sd_folds`` (between folds, each the mean of its seeds),
        ``seeds`` and ``sd_seeds`` (between seeds, each the mean of its folds). Standard deviations divide by n - 1 and are NaN
        with fewer than two. Where runs are missing, folds are compared over the seeds that all of them have, and seeds over
        the folds.
    """
    tables = []
    groups = dict.fromkeys(one.group for one in finished)
    for group in groups:
        members = [one for one in finished if one.group == group]
        together = [
            one.scores.assign(case=f"{one.training.fold}/{one.training.seed}/" + one.scores["case"].astype(str))
            for one in members
        ]
        summary = summarise(pd.concat(together, ignore_index=True)).set_index(["name", "metric"])
        of_runs = pd.concat(
            [summarise(one.scores).assign(fold=one.training.fold, seed=one.training.seed) for one in members], ignore_index=True
        )
        spread = of_runs.groupby(["name", "metric"], sort=False)[["fold", "seed", "mean"]].apply(_spread)
        spread = spread.astype({"runs": int, "folds": int, "seeds": int})
        facts = dict(zip(GROUP, group, strict=True))
        tables.append(summary.join(spread).reset_index().assign(**facts))
    return pd.concat(tables, ignore_index=True)[list(MODEL_COLUMNS)] if tables else pd.DataFrame(columns=list(MODEL_COLUMNS))


def _spread(runs: pd.DataFrame) -> pd.Series:
    """How much a score differs between runs, folds and seeds; ``runs`` holds fold, seed and mean, NaN where it says nothing."""
    runs = runs.dropna(subset="mean")
    grid = runs.pivot(index="fold", columns="seed", values="mean")
    by_fold, by_seed = grid.dropna(axis="columns").mean(axis="columns"), grid.dropna(axis="index").mean(axis="index")
    return pd.Series(
        {
            "runs": len(runs),
            "sd_runs": runs["mean"].std(ddof=1),
            "folds": len(grid),
            "sd_folds": by_fold.std(ddof=1),
            "seeds": grid.shape[1],
            "sd_seeds": by_seed.std(ddof=1),
        }
    )


def run_table(finished: list[FinishedTraining]) -> pd.DataFrame:
    """One row a run: its mean Dice over structures with a 95 % interval over patients, what it took, and where it is.

    Returns:
        RUN_COLUMNS. ``seconds`` are those of training, without the scoring; memory is the most that the whole process and that
        torch on the GPU held (NaN without one), in MB of 1,000,000 bytes.
    """
    rows = []
    for one in finished:
        summary = summarise(one.scores)
        dice = summary[(summary["metric"] == "dice") & (summary["name"] == FOREGROUND_NAME)].iloc[0]
        peak = one.record["peak_memory_bytes"]
        rows.append(
            {
                **dict(zip(GROUP, one.group, strict=True)),
                "fold": one.training.fold,
                "seed": one.training.seed,
                "run": one.run.folder.name,
                "dice": dice["mean"],
                "low": dice["low"],
                "high": dice["high"],
                "patients": dice["patients"],
                "best_epoch": one.run.best_epoch,
                "epochs": len(one.run.history),
                "parameters": one.record["parameters"],
                "seconds": one.record["wall_seconds"],
                "memory_mb": peak["process"] / 1e6 if peak["process"] else float("nan"),
                "gpu_memory_mb": peak["gpu"] / 1e6 if peak["gpu"] else float("nan"),
                "device": f"{one.record['device']} ({one.record['device_name']})",
                "finished": one.record["finished"],
            }
        )
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS))
