"""What the kit's own weights are worth on patients whom they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from spider_utils.data.mend import mend_lines
from spider_utils.data.splits import Split
from spider_utils.data.volumes import Volume
from spider_utils.evaluation.metrics import measure_case
from spider_utils.evaluation.naming import LOWEST, NAME_COLUMNS, OWN, counted_names, score_names
from spider_utils.evaluation.statistics import summarise
from spider_utils.evidence.recipe import N_FOLDS, Kitchen
from spider_utils.labels import convert, get_scheme
from spider_utils.predict import PooledPredictor, Predictor, Track, VolumePredictor
from spider_utils.tidy import Tidy
from spider_utils.training.averaging import Averaged
from spider_utils.training.runs import RunResult
from spider_utils.workflow import TOLERANCE_MM

CLASSES = "structures4"
SHOWN = ALONE, AS_SERIES = ("slice by slice", "as series")  # each slice as if there were no other; with Recipe.tidy
MENDED = "as series, truth mended"  # the same masks, scored against a truth without lines of canal (data.mend)
DRAWN = "as drawn"  # with nothing left out
BY_LEVEL = "as series, by level"
UNADVISED = "as series, without a second opinion"
RELEASED = "spider_t2space_2d"  # in tables of names
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

    member: VolumePredictor
    scheme: str = CLASSES

    def predict_volume(self, volume: Volume, track: Track | None = None) -> Volume:
        """As VolumePredictor says."""
        mask = self.member.predict_volume(volume, track)
        return mask.with_array(convert(mask.array, self.member.scheme, CLASSES))


def in_classes(predictor: VolumePredictor) -> VolumePredictor:
    """The predictor, with masks of CLASSES whatever its own scheme."""
    return predictor if predictor.scheme == CLASSES else _InClasses(predictor)


def segmented(
    kitchen: Kitchen, run: RunResult | Averaged, split: Split, shown: str, second: RunResult | Averaged | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Scores and masks of the released slices of a split's test patients, in classes.

    Args:
        shown: DRAWN or ALONE; every other way of showing slices is as series.
        second: a run of the same split whose network gives a second opinion (see PooledPredictor).

    Returns:
        As Workspace.measure (a series and class a row, in the series' own pixels), rows with ``shown``.
    """
    predictor: Predictor | PooledPredictor = _predictor(kitchen, run)
    if second:
        predictor = _advised(kitchen, run, second)
    if shown in (DRAWN, ALONE):
        predictor = replace(predictor, tidy=predictor.tidy.of_slices if shown == ALONE else None)
    scores, masks = kitchen.real.measure(in_classes(predictor), split)
    return scores.assign(shown=shown), masks


def _predictor(kitchen: Kitchen, run: RunResult | Averaged) -> Predictor:
    """The network of a run, tidy as those that come with the kit are."""
    found = Predictor.load(run.folder)
    return replace(found, tidy=kitchen.recipe.tidy_for(found.scheme))


def _advised(kitchen: Kitchen, run: RunResult | Averaged, second: RunResult | Averaged) -> PooledPredictor:
    first = _predictor(kitchen, run)
    return PooledPredictor(first, Predictor.load(second.folder), kitchen.recipe.second_weight, tidy=first.tidy)


def both_ways(kitchen: Kitchen, run: RunResult | Averaged, split: Split) -> pd.DataFrame:
    """Scores with and without what neighbouring slices tell, and the former against the truth mended: rows of ``segmented``."""
    alone, _ = segmented(kitchen, run, split, ALONE)
    return pd.concat([alone, _both_truths(kitchen, *segmented(kitchen, run, split, AS_SERIES))], ignore_index=True)


def _both_truths(kitchen: Kitchen, scores: pd.DataFrame, masks: dict[str, np.ndarray]) -> pd.DataFrame:
    """The scores of masks in CLASSES, and below them those against the truth mended."""
    tables, scheme = [scores], get_scheme(CLASSES)
    names = {value: scheme.names[value] for value in scheme.foreground}
    for case, mask in masks.items():
        truth = kitchen.real.source.load(case).mask
        found = measure_case(mend_lines(truth.array), mask, truth.spacing, names, TOLERANCE_MM)
        facts = scores.loc[scores["case"] == case, ["case", "patient", "sequence"]].iloc[0].to_dict()
        tables.append(found.assign(**facts, shown=MENDED))
    return pd.concat(tables, ignore_index=True)


def cross_validated(kitchen: Kitchen) -> pd.DataFrame:
    """Scores of all patients with released slices, each by the network of the fold that tests on him.

    Returns:
        Rows of ``both_ways``, with ``fold``.
    """
    folds = [kitchen.fold(number) for number in range(N_FOLDS)]
    tables = [both_ways(kitchen, run, split).assign(fold=number) for number, (split, run) in enumerate(folds)]
    return pd.concat(tables, ignore_index=True)


def choices_of_tidy(
    kitchen: Kitchen, across_mm: Sequence[float] = (0.0, 0.65, 1.3, 2.0), canal_shares: Sequence[float] = (0.0, 0.1)
) -> pd.DataFrame:
    """What Recipe.tidy was chosen by: scores of the validation patients of each fold, with every pair of its numbers.

    Returns:
        Rows of Workspace.measure with across_mm, canal_share and fold. Half of all patients validate in some fold.
    """
    tables = []
    for number in range(N_FOLDS):
        split, run = kitchen.fold(number)
        predictor = Predictor.load(run.folder)
        for across, share in product(across_mm, canal_shares):
            scores, _ = kitchen.real.measure(replace(predictor, tidy=Tidy(across, share)), split, "val")
            tables.append(scores.assign(across_mm=across, canal_share=share, fold=number))
    return pd.concat(tables, ignore_index=True)


def choices_of_share(kitchen: Kitchen, shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> pd.DataFrame:
    """What Recipe.wide_share costs and brings on slices of the kind that all learned from: scores of the validation patients of
    each fold, as series, by both third rounds (0 and 1) and by means of their weights.

    Returns:
        Rows of Workspace.measure with wide_share and fold. Half of all patients validate in some fold.
    """
    tables = []
    for number in range(N_FOLDS):
        split, thirds = kitchen.third_rounds(number)
        for share in shares:
            run = thirds[int(share)] if share in (0, 1) else kitchen.averaged(f"fold{number}-{share:g}", thirds, share)
            scores, _ = kitchen.real.measure(_predictor(kitchen, run), split, "val")
            tables.append(scores.assign(wide_share=share, fold=number))
    return pd.concat(tables, ignore_index=True)


def everyone(kitchen: Kitchen, run: RunResult | Averaged) -> Split:
    """A split that tests a network which has seen phantoms alone on all patients with released slices.

    Raises:
        ValueError: the run has seen patients.
    """
    if run.card["data"]["kind"] != "phantom":
        raise ValueError(f"{run.folder} has seen real patients: it has no business with all of them")
    patients = kitchen.real.source.cases["patient"].unique()
    return Split("everyone", 0, 0, pd.DataFrame({"patient": patients, "subset": "test"}))


def on_everyone(kitchen: Kitchen, run: RunResult | Averaged) -> pd.DataFrame:
    """Scores of a network that has seen phantoms alone on all patients with released slices; rows of ``both_ways``."""
    return both_ways(kitchen, run, everyone(kitchen, run))


def fold_predictor(kitchen: Kitchen, number: int) -> tuple[Split, PooledPredictor]:
    """A fold, and the network of levels of this fold with the second opinion of that of classes: neither has seen its test
    patients."""
    (split, run), (_, second) = kitchen.levels_fold(number), kitchen.fold(number)
    return split, _advised(kitchen, run, second)


def drawn_levels(kitchen: Kitchen, number: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Scores by level, and masks in ``levels20``, of a fold's test patients as series, by the two networks that have not seen
    them: as Workspace.measure. The truth's levels are counted from below (evidence.mixed)."""
    split, predictor = fold_predictor(kitchen, number)
    return kitchen.both.measure(predictor, kitchen.mixed.split(split))


def of_levels(kitchen: Kitchen) -> pd.DataFrame:
    """Scores of all patients with released slices as series, each by the network of levels of the fold that tests on him, which
    asks the network of classes of the same fold for a second opinion.

    Returns:
        Rows of ``segmented``, in classes, with the second opinion, against both truths, and, ``shown`` being UNADVISED, without;
        and those of
        ``drawn_levels``, ``shown`` being BY_LEVEL; with ``fold``.
    """
    tables = []
    for number in range(N_FOLDS):
        (split, run), (_, second) = kitchen.levels_fold(number), kitchen.fold(number)
        found = [_both_truths(kitchen, *segmented(kitchen, run, split, AS_SERIES, second))]
        found.append(segmented(kitchen, run, split, UNADVISED)[0])
        found.append(drawn_levels(kitchen, number)[0].assign(shown=BY_LEVEL))
        tables += [one.assign(fold=number) for one in found]
    return pd.concat(tables, ignore_index=True)


def names_of_levels(kitchen: Kitchen) -> pd.DataFrame:
    """Which number each true part has in the masks of ``drawn_levels``. What is true was counted from the lowest part of the mask
    by hand, so this asks whether a network and the one who counts agree, not who is right about the sacrum.

    Returns:
        Rows of evaluation.naming (NAME_COLUMNS): the network's own names, and those counted from the lowest part in view.
    """
    return pd.concat([_names(kitchen, drawn_levels(kitchen, number)[1]) for number in range(N_FOLDS)], ignore_index=True)


def _names(kitchen: Kitchen, masks: dict[str, np.ndarray]) -> pd.DataFrame:
    tables = []
    for name, mask in masks.items():
        case = kitchen.both.source.load(name)
        drawn = case.mask.with_array(mask)
        for way, named in ((OWN, convert(mask, "levels20", "spider")), (LOWEST, counted_names(drawn, "levels20"))):
            facts = {"set": RELEASED, "case": name, "patient": str(case.patient), "count_from": way}
            tables.append(score_names(case.mask.array, named).assign(**facts)[[*NAME_COLUMNS]])
    return pd.concat(tables, ignore_index=True)
