"""`ahmed`: what each choice in testing adds to a score, from all slices of unknown patients up to the printed number.

A network's errors are counted once, slice by slice and class by class; every way of making one number of them is arithmetic on
the same counts, so that differences between two ways can be taken patient by patient.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.filtering import LIKELY_READING, LIMIT, has_all_classes
from spider_utils.data.manifest import published_table
from spider_utils.data.slices import SliceStore
from spider_utils.data.splits import LEAKY, Split
from spider_utils.errors import KitError
from spider_utils.evaluation.metrics import measure_cases, region_scores
from spider_utils.evaluation.statistics import FOREGROUND_NAME, Interval, bootstrap_interval, ratio_draws
from spider_utils.labels import get_scheme
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace, describe_settings

SCHEME = "structures4"
_N = get_scheme(SCHEME).n_classes
TOLERANCE_PIXELS = 1.0  # of the paper's NSD, which it does not give
LOSS_OF_GAMMA = {4.0: "focal4_dice", 0.4: "focal0.4_dice"}
"""The paper's loss with each gamma that it names."""
PUBLISHED = {
    "size": (640, 512), "epochs": 100, "batch_size": 8, "optimizer": "adam", "learning_rate": 1e-3, "schedule": "plateau",
    "early_stop_patience": 10, "samples_per_epoch": None, "augment": "none",
}  # fmt: skip
"""What the paper says of its training; learning rate and patience are the kit's choice, as none is given. Its filter is not part
of it: what that would drop, data.filtering says."""


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

    All slices of a series can be drawn, neighbours too, as in the paper (``slice_gap_mm`` 0): thinned out, they would hide what a
    split by slice is worth. In the profile "paper" the settings are PUBLISHED.

    Without ``tag`` the run has the name that ``spider-kit train --model modified_unet --loss ...`` gives it.

    Args:
        workspace: profile and data.
        gamma: 4.0 or 0.4, the two that the paper names.
        split: the default split when None.
        seed: of the weights, the order of slices, dropout and augmentation.
        tag: added to the run's name, to keep variants apart.
        options: of the network; the profile's when None.
        changes: fields of TrainConfig and the like, as for Workspace.train.

    Raises:
        KitError: another gamma.
    """
    if gamma not in LOSS_OF_GAMMA:
        raise KitError(f"the paper names gamma {' and '.join(map(str, LOSS_OF_GAMMA))}, not {gamma}")
    published = PUBLISHED if workspace.profile.name == "paper" else {}
    split, settings = split or workspace.split(), {**published, "loss": LOSS_OF_GAMMA[gamma], "slice_gap_mm": 0.0, **changes}
    name = "-".join(part for part in (describe_settings(split, seed, **settings, options=options), tag) if part)
    return workspace.train("modified_unet", split=split, seed=seed, tag=name, options=options, **settings)


def printed_table2() -> pd.DataFrame:
    """The paper's Table 2: sequence, name (of the class), iou, dice, asd, nsd, precision, recall, f1."""
    return published_table("ahmed_table2")


def printed_dice(sequences: Collection[str]) -> pd.DataFrame:
    """The printed Dice as rows of ``choices.Choices.table``: each class, and the mean of the three.

    Args:
        sequences: "t1", "t2", "t2_SPACE": those of the patients that ours is measured on; the mean is taken over them.
    """
    table = printed_table2()
    found = table[table["sequence"].isin(sequences)].groupby("name")["dice"].mean()
    found = found.reindex([name for value, name in get_scheme(SCHEME).names.items() if value])
    rows = [*found.items(), (FOREGROUND_NAME, found.mean())]
    return pd.DataFrame(rows, columns=["name", "mean"]).assign(choice=f"printed for {', '.join(sorted(sequences))}")


@dataclass(frozen=True)
class Way:
    """A way of making one mean Dice of many slices.

    Attributes:
        pooled: pixels of all slices together, class by class; else each volume by itself, and then their mean.
        background: whether background counts as a class.
        filter_steps: how many steps of the paper's filter choose the slices that are tested (see data.filtering): 0 takes all,
            1 those that show every class, 2 of these those whose largest class is at most 55 times the smallest (the reading
            of the paper's ratio that fits its numbers).
    """

    pooled: bool = False
    background: bool = False
    filter_steps: int = 0


HONEST = Way()


def slice_counts(truth: np.ndarray, labels: np.ndarray, table: pd.DataFrame, run: str) -> pd.DataFrame:
    """Right and wrong pixels of every slice and class.

    Args:
        truth, labels: integer (slices, rows, columns) in structures4.
        table: the slices' rows of a store's table, with case, patient and slice.
        run: what made the labels; slices of one series and run make a volume.

    Returns:
        One row a slice and class (background too): run, case, patient, slice, passed (steps of the filter, see ``Way``, that
        the slice's truth passes: 0, 1 or 2), class, tp, fp, fn.

    Raises:
        ValueError: lengths differ.
    """
    if not len(truth) == len(labels) == len(table):
        raise ValueError(f"{len(truth)} truths, {len(labels)} label maps and {len(table)} rows of the table do not fit together")
    pairs = zip(truth, labels, strict=True)
    confusion = [np.bincount((one.astype(np.intp) * _N + other).ravel(), minlength=_N * _N) for one, other in pairs]
    confusion = np.reshape(confusion, (-1, _N, _N))
    right = np.diagonal(confusion, axis1=1, axis2=2)
    counts = {"tp": right, "fp": confusion.sum(axis=1) - right, "fn": confusion.sum(axis=2) - right}
    rows = table[["case", "patient", "slice"]].reset_index(drop=True)
    weights = confusion.sum(axis=2) / np.maximum(confusion.sum(axis=(1, 2)), 1)[:, None]
    passed = has_all_classes(weights) * (1 + (LIKELY_READING(weights) <= LIMIT))
    rows = rows.assign(run=run, passed=passed).loc[np.repeat(np.arange(len(table)), _N)]
    return rows.assign(**{"class": np.tile(np.arange(_N), len(table))} | {k: v.ravel() for k, v in counts.items()}).reset_index(
        drop=True
    )


def _sums(counts: pd.DataFrame, way: Way, patients: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators (patients, terms) whose ratios of sums, averaged over terms, are the score."""
    if way.filter_steps:
        counts = counts[counts["passed"] >= way.filter_steps]
    if not way.background:
        counts = counts[counts["class"] != 0]
    by = ["patient", "class"] if way.pooled else ["patient", "run", "case", "class"]
    summed = counts.groupby(by, as_index=False)[["tp", "fp", "fn"]].sum()
    tops, bottoms = 2 * summed["tp"], 2 * summed["tp"] + summed["fp"] + summed["fn"]
    if way.pooled:
        found = summed.assign(top=tops, bottom=bottoms).pivot(index="patient", columns="class", values=["top", "bottom"])
        wanted = pd.MultiIndex.from_product([("top", "bottom"), range(0 if way.background else 1, _N)])
        found = found.reindex(index=patients, columns=wanted).fillna(0)
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


def _ratio_of_patients(counts: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators (patients, 1) of the pooled Dice of one class."""
    tops = 2 * counts["tp"].to_numpy(float)
    return tops[:, None], (tops + counts["fp"].to_numpy() + counts["fn"].to_numpy())[:, None]


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
    """Two results on the slices that both have, run against run, so that volumes are the same in both.

    Args:
        counts, other: ``slice_counts`` of one run or several. Every run of the one meets every run of the other; what a pair
            shares is a result of its own, called "<run> and <other run>".
    """
    keys = ["case", "slice", "class"]
    parts: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for run, mine in counts.groupby("run", sort=False):
        for other_run, theirs in other.groupby("run", sort=False):
            shared = mine[keys].merge(theirs[keys])
            for found, part in ((mine, parts[0]), (theirs, parts[1])):
                part.append(found.merge(shared).assign(run=f"{run} and {other_run}"))
    return pd.concat(parts[0], ignore_index=True), pd.concat(parts[1], ignore_index=True)


def neighbour_counts(store: SliceStore) -> pd.DataFrame:
    """`slice_counts` of a "prediction" that learns nothing: the true mask of the next slice (before the last: of the last).

    Raises:
        KitError: no series has two slices.
    """
    to_scheme, table = store.lookup(SCHEME)[0], store.table.reset_index(drop=True)
    following = table["case"].eq(table["case"].shift(-1)) & table["slice"].add(1).eq(table["slice"].shift(-1))
    preceding = table["case"].eq(table["case"].shift(1)) & table["slice"].sub(1).eq(table["slice"].shift(1))
    rows = np.flatnonzero(following | preceding)
    if not len(rows):
        raise KitError("no series of these data has two neighbouring slices: there is no mask to copy")
    sources = np.where(following.to_numpy()[rows], rows + 1, rows - 1)
    parts = []
    for start in range(0, len(rows), 64):  # a few masks at a time, whatever the store's size
        some, of = rows[start : start + 64], sources[start : start + 64]
        masks = to_scheme[store.masks[some]], to_scheme[store.masks[of]]
        parts.append(slice_counts(*masks, table.iloc[some], "neighbour's mask"))
    return pd.concat(parts, ignore_index=True)


def metric_table(workspace: Workspace, run: RunResult) -> pd.DataFrame:
    """The paper's Table 2 for a run's test patients, once by its definitions and once by the kit's (see evaluation.metrics).

    "paper": slices of the network's size; regions with the pixels of all slices pooled, background too; surface distance in
    pixels, a mean over the slices that hold the class in truth and prediction; the normalised one over the truth's contour alone,
    a mean over the slices whose truth holds the class, 0 where it was missed. The edge of the picture is part of background's
    surface, which makes its distances small. "kit": series in their own grid, mean over series, surface distances in mm over both
    surfaces. The tolerance, which the paper does not give, is 1 pixel and 1 mm, and what lies exactly that far away is within it
    (the paper's formula has "less than", which no tolerance of whole pixels can tell).

    Returns:
        One row a sequence, class and set of definitions: sequence, name, definitions ("paper", "kit" or "printed"), iou, dice,
        low and high (95 % interval of dice, bootstrap over patients), asd, asd_unit, nsd, precision, recall, f1, n (slices or
        volumes whose truth or prediction holds the class), unit ("slice" or "volume"), patients. "kit" has no background; the
        printed rows follow those of their sequence, classes in one order.
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
        by_patient = part.groupby("patient")[["tp", "fp", "fn"]].sum()
        ends = _interval([_ratio_of_patients(by_patient)], by_patient.index)
        found = {"n": int((part["status"] != "absent").sum()), "patients": len(by_patient), "low": ends.low, "high": ends.high}
        rows.append(about | surfaces | found | {one: float(pooled[one]) for one in regions})
    for (sequence, name), part in workspace.evaluate(run, split).groupby(["sequence", "name"], sort=False):
        about = {"sequence": sequence, "name": name, "definitions": "kit", "asd_unit": "mm", "unit": "volume"}
        surfaces = {"asd": part["asd_mm"].mean(), "nsd": part["nsd"].mean()}
        ends = bootstrap_interval(part["dice"], part["patient"])
        found = {"n": int((part["status"] != "absent").sum()), "patients": part["patient"].nunique()}
        rows.append(about | surfaces | found | {"low": ends.low, "high": ends.high} | part[regions].mean().to_dict())
    printed = printed_table2()
    printed = printed[printed["sequence"].isin(scores["sequence"])].assign(definitions="printed", asd_unit="not said")
    columns = ["sequence", "name", "definitions", "iou", "dice", "low", "high", "asd", "asd_unit", "nsd", *regions[2:]]
    found = pd.concat([pd.DataFrame(rows), printed], ignore_index=True)[[*columns, "n", "unit", "patients"]]
    order = {name: number for number, name in enumerate(names.values())}
    found = found.assign(number=found["name"].map(order)).sort_values(["sequence", "definitions", "number"], ignore_index=True)
    return found.drop(columns="number")


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
            KitError: they differ in more than split and seed, are not of four classes, were trained on slices that were thinned
                out, or one of the two kinds is missing.
        """
        first = runs[0].settings
        for run in runs:
            mine = run.settings
            odd = [name for name in {**first, **mine} if name != "seed" and first.get(name) != mine.get(name)]
            if odd:
                names = " and ".join(Path(one.folder).name for one in (runs[0], run))
                raise KitError(f"runs of a ladder differ in split and seed alone, but {names} differ in {', '.join(odd)}")
        if first["scheme"] != SCHEME:
            raise KitError(f"a ladder needs runs in {SCHEME}, not {first['scheme']}")
        if first["slice_gap_mm"]:
            raise KitError(
                f"these runs saw slices {first['slice_gap_mm']:g} mm apart: a test slice's neighbours may have been left out, "
                "which hides what a split by slice adds. Train with --slice-gap-mm 0"
            )
        leaky = [run.card["split"]["name"].startswith(LEAKY) for run in runs]
        if all(leaky) or not any(leaky):
            lacks = f"split by {'patient (--split kfold5)' if all(leaky) else 'slice (--split leaky-kfold5)'}"
            raise KitError(
                f"a ladder needs runs that were split by patient and runs that were split by slice; there is none {lacks}"
            )
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
    def native(self) -> pd.DataFrame:
        """As ``counts`` of the runs that were split by patient, but of whole series in their own grid, without background."""
        scores = [
            self.workspace.evaluate(run, self.workspace.split_of(run)).assign(run=Path(run.folder).name)
            for run in self.by_patient
        ]
        return pd.concat(scores, ignore_index=True)[["run", "case", "patient", "class", "tp", "fp", "fn"]]

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
            before, paired over the patients that both hold), patients, slices (different ones; NaN for whole series), runs. The
            last rows are the copied mask of the next slice for the same patients, scored as the second rung with its gain over
            it, and the mean of the printed values of the sequences that were tested.
        """
        complete, filtered = (replace(HONEST, filter_steps=steps) for steps in (1, 2))
        pooled = replace(filtered, pooled=True)
        rungs = [
            ("patients unknown, series in their own grid", self.native, HONEST),
            ("slices of the network's size", self.honest, HONEST),
            ("only slices with all classes", self.honest, complete),
            ("of these, none above the limit of 55", self.honest, filtered),
            ("pixels pooled", self.honest, pooled),
            ("patients known: split by slice", self.leaky, pooled),
            ("background counted", self.leaky, replace(pooled, background=True)),
        ]
        rows = [self._rung(*rung) for rung in rungs]
        for row, rung, before in zip(rows[1:], rungs[1:], rungs, strict=False):
            step = gain(*rung[1:], *before[1:])
            row |= {"gain": step.estimate, "gain_low": step.low, "gain_high": step.high}
        copied = neighbour_counts(self.workspace.store_of(self.by_patient[0]))
        copied = copied[copied["patient"].isin(set(self.honest["patient"]))]
        over = gain(copied, HONEST, self.honest, HONEST)
        gains = {"gain": over.estimate, "gain_low": over.low, "gain_high": over.high, "runs": 0}
        rows.append(self._rung("next slice's true mask, against the second", copied, HONEST) | gains)
        table2, store = printed_table2(), self.workspace.store_of(self.by_patient[0]).table
        tested = set(store.loc[store["patient"].isin(set(self.honest["patient"])), "sequence"])
        printed = table2.loc[table2["sequence"].isin(tested), "dice"].mean()
        return pd.DataFrame([*rows, {"rung": f"printed for {', '.join(sorted(tested))}", "mean": printed}])

    @staticmethod
    def _rung(name: str, counts: pd.DataFrame, way: Way) -> dict[str, object]:
        found = score(counts, way)
        tested = counts[counts["passed"] >= way.filter_steps] if way.filter_steps else counts
        slices = len(tested[["case", "slice"]].drop_duplicates()) if "slice" in tested else np.nan
        return {
            "rung": name, "mean": found.estimate, "low": found.low, "high": found.high,
            "gain": np.nan, "gain_low": np.nan, "gain_high": np.nan,
            "patients": found.n_groups, "slices": slices, "runs": counts["run"].nunique(),
        }  # fmt: skip

    def leak(self) -> Interval:
        """What the split by slice adds on the very same slices, scored as the second rung; paired over patients."""
        leaky, honest = on_same_slices(self.leaky, self.honest)
        return gain(leaky, HONEST, honest, HONEST)
