"""`ahmed`: what each choice in testing adds to a score, from all slices of unknown patients up to the printed number.

A network's errors are counted once, slice by slice and class by class; every way of making one number of them is arithmetic on
the same counts, so that differences between two ways can be taken patient by patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.manifest import published_table
from spider_utils.data.slices import SliceStore
from spider_utils.data.splits import LEAKY, Split
from spider_utils.errors import KitError
from spider_utils.evaluation.metrics import measure_cases, region_scores
from spider_utils.evaluation.statistics import FOREGROUND_NAME, Interval, ratio_draws
from spider_utils.labels import get_scheme
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace, describe_settings

SCHEME = "structures4"
_N = get_scheme(SCHEME).n_classes
TOLERANCE_PIXELS = 1.0  # of the paper's NSD, which it does not give
LOSSES = {4.0: "focal4_dice", 0.4: "focal0.4_dice"}
"""The paper's loss with each gamma that it names."""


def train_modified(
    workspace: Workspace,
    gamma: float = 4.0,
    split: Split | None = None,
    seed: int = 0,
    tag: str = "",
    options: dict | None = None,
    **changes: object,
) -> RunResult:
    """The paper's network with its loss, trained in the workspace's profile; found where it was trained before.

    Without ``tag`` the run has the name that ``spider-kit train --model modified_unet --loss ...`` gives it.

    Args:
        workspace: profile and data.
        gamma: 4.0 or 0.4, the two that the paper names.
        split: the default split when None.
        seed: of the weights, the order of slices, dropout and augmentation.
        tag: added to the run's name, to keep variants apart.
        options: of the network; the profile's when None.
        changes: fields of TrainConfig and the like, as for Workspace.train.
    """
    split, settings = split or workspace.split(), {"loss": LOSSES[gamma], **changes}
    name = "-".join(part for part in (describe_settings(split, seed, **settings, options=options), tag) if part)
    return workspace.train("modified_unet", split=split, seed=seed, tag=name, options=options, **settings)


def printed_table2() -> pd.DataFrame:
    """The paper's Table 2: sequence, name (of the class), iou, dice, asd, nsd, precision, recall, f1."""
    return published_table("ahmed_table2")


def printed_dice() -> pd.DataFrame:
    """The printed Dice for T2_SPACE as rows of ``choices.Choices.table``: each class, and the mean of the three."""
    table = printed_table2()
    found = table[(table["sequence"] == "t2_SPACE") & (table["name"] != "background")].rename(columns={"dice": "mean"})
    rows = [*found[["name", "mean"]].itertuples(index=False), (FOREGROUND_NAME, found["mean"].mean())]
    return pd.DataFrame(rows, columns=["name", "mean"]).assign(choice="printed for T2_SPACE")


@dataclass(frozen=True)
class Way:
    """A way of making one mean Dice of many slices.

    Attributes:
        pooled: pixels of all slices together, class by class; else each volume by itself, and then their mean.
        background: whether background counts as a class.
        complete_only: only slices that show every class, as the paper's filter leaves them.
    """

    pooled: bool = False
    background: bool = False
    complete_only: bool = False


HONEST = Way()


def slice_counts(truth: np.ndarray, labels: np.ndarray, table: pd.DataFrame, run: str) -> pd.DataFrame:
    """Right and wrong pixels of every slice and class.

    Args:
        truth, labels: integer (slices, rows, columns) in structures4.
        table: the slices' rows of a store's table, with case, patient and slice.
        run: what made the labels; slices of one series and run make a volume.

    Returns:
        One row a slice and class (background too): run, case, patient, slice, complete (whether the truth shows every class),
        class, tp, fp, fn.

    Raises:
        ValueError: lengths differ.
    """
    if not len(truth) == len(labels) == len(table):
        raise ValueError(f"{len(truth)} truths, {len(labels)} label maps and {len(table)} rows of the table do not fit together")
    pairs = (truth.astype(np.intp) * _N + labels).reshape(len(truth), -1)
    confusion = np.stack([np.bincount(one, minlength=_N * _N) for one in pairs]).reshape(-1, _N, _N)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    counts = {"tp": right, "fp": confusion.sum(axis=1) - right, "fn": confusion.sum(axis=2) - right}
    rows = table[["case", "patient", "slice"]].reset_index(drop=True)
    rows = rows.assign(run=run, complete=(confusion.sum(axis=2) > 0).all(axis=1)).loc[np.repeat(np.arange(len(table)), _N)]
    return rows.assign(**{"class": np.tile(np.arange(_N), len(table))} | {k: v.ravel() for k, v in counts.items()}).reset_index(
        drop=True
    )


def _sums(counts: pd.DataFrame, way: Way, patients: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators (patients, terms) whose ratios of sums, averaged over terms, are the score."""
    if way.complete_only:
        counts = counts[counts["complete"]]
    if not way.background:
        counts = counts[counts["class"] != 0]
    by = ["patient", "class"] if way.pooled else ["patient", "run", "case", "class"]
    summed = counts.groupby(by, as_index=False)[["tp", "fp", "fn"]].sum()
    tops, bottoms = 2 * summed["tp"], 2 * summed["tp"] + summed["fp"] + summed["fn"]
    if way.pooled:
        found = summed.assign(top=tops, bottom=bottoms).pivot(index="patient", columns="class", values=["top", "bottom"])
        found = found.reindex(patients).fillna(0)
        return found["top"].to_numpy(float), found["bottom"].to_numpy(float)
    # A class that a volume neither shows nor is given has no score there (0 / 0) and is left out.
    summed = summed.assign(dice=tops / bottoms)
    volumes = summed.groupby(["patient", "run", "case"])["dice"].mean().groupby("patient").agg(["sum", "count"])
    volumes = volumes.reindex(patients).fillna(0)
    return volumes[["sum"]].to_numpy(float), volumes[["count"]].to_numpy(float)


def score(counts: pd.DataFrame, way: Way = HONEST) -> Interval:
    """Mean Dice of ``slice_counts`` made in one way, with its 95 % interval from a bootstrap over patients."""
    patients = sorted(counts["patient"].unique())
    return _interval([_sums(counts, way, patients)], patients)


def gain(counts: pd.DataFrame, way: Way, other_counts: pd.DataFrame, other_way: Way) -> Interval:
    """Score of the first minus that of the second, with a paired 95 % interval over the patients that both hold.

    Raises:
        KitError: they share no patient.
    """
    patients = sorted(set(counts["patient"]) & set(other_counts["patient"]))
    if not patients:
        raise KitError("the two results share no patient: there is nothing to compare in pairs")
    both = [(counts[counts["patient"].isin(patients)], way), (other_counts[other_counts["patient"].isin(patients)], other_way)]
    return _interval([_sums(some, how, patients) for some, how in both], patients)


def _interval(sums: list[tuple[np.ndarray, np.ndarray]], patients: Sequence[int]) -> Interval:
    """Of one score, or of the first minus the second."""
    # Whoever has no slice in one of them can be drawn for none.
    used = np.all([(bottoms > 0).any(axis=1) for _, bottoms in sums], axis=0)
    n = int(used.sum())
    values, draws = [], []
    for tops, bottoms in sums:
        total = bottoms[used].sum(axis=0)
        values.append(float((tops[used].sum(axis=0)[total > 0] / total[total > 0]).mean()) if n else float("nan"))
        draws.append(ratio_draws(tops[used], bottoms[used]) if n > 1 else np.full(1, np.nan))
    low, high = np.quantile(draws[0] - draws[1] if len(draws) > 1 else draws[0], [0.025, 0.975])
    estimate = values[0] - values[1] if len(values) > 1 else values[0]
    return Interval(estimate, float(low), float(high), n, n, len(patients) - n)


def on_same_slices(counts: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of two results on the slices that both have, with the same volumes in both."""
    keys = ["case", "slice", "class"]
    shared = counts[keys].drop_duplicates().merge(other[keys].drop_duplicates())
    return counts.merge(shared), other.merge(shared)


def neighbour_counts(store: SliceStore) -> pd.DataFrame:
    """`slice_counts` of a "prediction" that learns nothing: the true mask of the next slice (before the last: of the last).

    Raises:
        KitError: no series has two slices.
    """
    truth, table = store.lookup(SCHEME)[0][store.masks[:]], store.table.reset_index(drop=True)
    following = table["case"].eq(table["case"].shift(-1)) & table["slice"].add(1).eq(table["slice"].shift(-1))
    preceding = table["case"].eq(table["case"].shift(1)) & table["slice"].sub(1).eq(table["slice"].shift(1))
    rows = np.flatnonzero(following | preceding)
    if not len(rows):
        raise KitError("no series of these data has two neighbouring slices: there is no mask to copy")
    sources = np.where(following.to_numpy()[rows], rows + 1, rows - 1)
    return slice_counts(truth[rows], truth[sources], table.iloc[rows], "neighbour's mask")


def metric_table(workspace: Workspace, run: RunResult) -> pd.DataFrame:
    """The paper's Table 2 for a run's test patients, once by its definitions and once by the kit's (see evaluation.metrics).

    "paper": slices of the network's size; regions with the pixels of all slices pooled, background too; surface distance in
    pixels and the normalised one over the truth's contour alone, each a mean over the slices that hold the class in both. "kit":
    series in their own grid, mean over series, surface distances in mm over both surfaces. The tolerance, which the paper does
    not give, is 1 pixel and 1 mm.

    Returns:
        One row a sequence, class and set of definitions: sequence, name, definitions ("paper", "kit" or "printed"), iou, dice,
        asd, asd_unit, nsd, precision, recall, f1, n, unit ("slice" or "volume"), patients. "kit" has no background; the printed
        rows follow those of their sequence.
    """
    split = workspace.split_of(run)
    names, regions = get_scheme(SCHEME).names, ["iou", "dice", "precision", "recall", "f1"]
    labels, truth, table = workspace.label_maps(run, split)
    pairs = [(one, other, (1.0, 1.0)) for one, other in zip(truth, labels, strict=True)]
    scores = pd.concat(
        [
            found.assign(patient=slice_.patient, sequence=slice_.sequence)
            for found, slice_ in zip(
                measure_cases(pairs, names, TOLERANCE_PIXELS, source_variants=True), table.itertuples(), strict=True
            )
        ]
    )
    rows = []
    for (sequence, label), part in scores.groupby(["sequence", "class"], sort=False):
        pooled = region_scores(*(np.float64(part[count].sum()) for count in ("tp", "fp", "fn")))
        about = {"sequence": sequence, "name": names[label], "definitions": "paper", "asd_unit": "pixels", "unit": "slice"}
        surfaces = {"asd": part["asd_pixels"].mean(), "nsd": part["nsd_one_sided"].mean()}
        found = {"n": len(part), "patients": part["patient"].nunique()}
        rows.append(about | surfaces | found | {one: float(pooled[one]) for one in regions})
    for (sequence, name), part in workspace.evaluate(run, split).groupby(["sequence", "name"], sort=False):
        about = {"sequence": sequence, "name": name, "definitions": "kit", "asd_unit": "mm", "unit": "volume"}
        surfaces = {"asd": part["asd_mm"].mean(), "nsd": part["nsd"].mean()}
        rows.append(about | surfaces | {"n": len(part), "patients": part["patient"].nunique()} | part[regions].mean().to_dict())
    printed = printed_table2()
    printed = printed[printed["sequence"].isin(scores["sequence"])].assign(definitions="printed", asd_unit="not said")
    columns = ["sequence", "name", "definitions", "iou", "dice", "asd", "asd_unit", "nsd", "precision", "recall", "f1"]
    found = pd.concat([pd.DataFrame(rows), printed], ignore_index=True)[[*columns, "n", "unit", "patients"]]
    return found.sort_values(["sequence", "definitions"], kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Ladder:
    """The same architecture trained and tested by patient and by slice, with several seeds each.

    Attributes:
        workspace: where runs and data are.
        by_patient, by_slice: finished runs with four classes.
    """

    workspace: Workspace
    by_patient: Sequence[RunResult]
    by_slice: Sequence[RunResult]

    @classmethod
    def of(cls, workspace: Workspace, runs: Sequence[RunResult]) -> Ladder:
        """Sort runs by how they were split.

        Raises:
            KitError: not all are of one architecture, scheme and slice size, or one of the two kinds is missing.
        """
        kinds = {(run.card["architecture"], run.card["scheme"], tuple(run.card["size"])) for run in runs}
        if len(kinds) != 1 or next(iter(kinds))[1] != SCHEME:
            raise KitError(f"a ladder needs runs of one architecture and slice size in {SCHEME}, not {sorted(kinds)}")
        leaky = [run.card["split"]["name"].startswith(LEAKY) for run in runs]
        if all(leaky) or not any(leaky):
            raise KitError("a ladder needs runs that were split by patient and runs that were split by slice")
        apart = {kind: [run for run, is_leaky in zip(runs, leaky, strict=True) if is_leaky == kind] for kind in (False, True)}
        return cls(workspace, apart[False], apart[True])

    def counts(self, runs: Sequence[RunResult]) -> pd.DataFrame:
        """`slice_counts` of the test slices of some runs."""
        parts = []
        for run in runs:
            labels, truth, table = self.workspace.label_maps(run, self.workspace.split_of(run))
            parts.append(slice_counts(truth, labels, table, Path(run.folder).name))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def honest(self) -> pd.DataFrame:
        """``counts`` of the runs that were split by patient."""
        return self.counts(self.by_patient)

    @cached_property
    def leaky(self) -> pd.DataFrame:
        """``counts`` of the runs that were split by slice."""
        return self.counts(self.by_slice)

    def table(self) -> pd.DataFrame:
        """The ladder.

        Returns:
            One row a rung: rung, mean (mean Dice), low, high (95 % over patients), gain, gain_low, gain_high (to the rung
            before, paired over the patients that both hold), patients, slices, runs. The last rungs are the copied mask of the
            next slice, scored as the first rung, and the mean of the four printed values for T2_SPACE.
        """
        complete = replace(HONEST, complete_only=True)
        pooled = replace(complete, pooled=True)
        rungs = [
            ("patients unknown, mean of volumes", self.honest, HONEST),
            ("only slices with all classes", self.honest, complete),
            ("pixels pooled", self.honest, pooled),
            ("patients known: split by slice", self.leaky, pooled),
            ("background counted", self.leaky, replace(pooled, background=True)),
        ]
        rows = [self._rung(*rung) for rung in rungs]
        for row, rung, before in zip(rows[1:], rungs[1:], rungs, strict=False):
            step = gain(*rung[1:], *before[1:])
            row |= {"gain": step.estimate, "gain_low": step.low, "gain_high": step.high}
        copied = neighbour_counts(self.workspace.store_of(self.by_patient[0]))
        rows.append(self._rung("next slice's true mask, as the first", copied, HONEST) | {"runs": 0})
        table2 = printed_table2()
        printed = table2.loc[table2["sequence"] == "t2_SPACE", "dice"].mean()
        return pd.DataFrame([*rows, {"rung": "printed for T2_SPACE, four classes", "mean": printed}])

    @staticmethod
    def _rung(name: str, counts: pd.DataFrame, way: Way) -> dict[str, object]:
        found = score(counts, way)
        tested = counts[counts["complete"]] if way.complete_only else counts
        return {
            "rung": name, "mean": found.estimate, "low": found.low, "high": found.high,
            "gain": np.nan, "gain_low": np.nan, "gain_high": np.nan,
            "patients": found.n_groups, "slices": len(tested) // _N, "runs": counts["run"].nunique(),
        }  # fmt: skip

    def leak(self) -> Interval:
        """What the split by slice adds on the very same slices, scored as the first rung; paired over patients."""
        leaky, honest = on_same_slices(self.leaky, self.honest)
        return gain(leaky, HONEST, honest, HONEST)
