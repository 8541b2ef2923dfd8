"""Scores on MRI of other centres and sequences, whose truth holds other things than SPIDER's.

Two scopes
----------
``picture``
    the prediction as it is. Whatever the annotators left out counts as false: levels above those they marked, S1, and arches and
    processes where they marked vertebral bodies alone. Recall is fair here; precision and Dice are a lower bound.
``annotated``
    what can be compared: of each structure only the rows from the highest to the lowest that the truth marks, and where the truth
    holds bodies alone, of vertebrae only what does not lie behind them (behind_bodies). What is false in front of, between and up
    to 4 mm behind the bodies still counts; so do parts of the next level that reach into the rows.

Both are needed: a network has learned SPIDER's vertebra, body and arch in one piece, and must be cut to be compared with a body.
The cut follows the truth, not the canal that the network found, because a cut there made weak networks worse than they are: one
that takes the skin of the belly for a canal would lose every body that it did find. It is the same for all networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.centres import CENTRE_SETS, CentreCase, CentreSet, sets_in
from spider_utils.data.volumes import Volume
from spider_utils.evaluation.metrics import measure_case
from spider_utils.evaluation.naming import LOWEST, NAME_COLUMNS, OWN, counted_names, own_names, score_names
from spider_utils.evaluation.statistics import FOREGROUND, SUMMARY_COLUMNS, pooled, summarise
from spider_utils.labels import VERTEBRA, convert, get_scheme
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS
from spider_utils.runtime import progress

SCHEME = "structures4"
PICTURE, ANNOTATED = SCOPES = ("picture", "annotated")


def behind_bodies(truth: np.ndarray) -> np.ndarray:
    """What lies behind the vertebral bodies of a mask, in rows and columns.

    The back wall of a row is the last column of any slice that marks a body there; rows between bodies lie between their walls.
    Behind begins an eighth of the bodies' depth (about 4 mm, a quarter of the canal) after the wall: wide enough to see a body
    drawn too large, narrow enough to leave most of the pedicles out.

    Args:
        truth: integers of ``structures4``, (slices, rows, columns), vertebrae being bodies alone.

    Returns:
        bool (rows, columns); False everywhere when there is no body.
    """
    marked = (truth == VERTEBRA).any(axis=0)
    rows = np.flatnonzero(marked.any(axis=1))
    if not len(rows):
        return marked
    walls = marked.shape[1] - 1 - marked[rows, ::-1].argmax(axis=1)
    depth = np.median(walls + 1 - marked[rows].argmax(axis=1))
    wall = np.interp(np.arange(len(marked)), rows, walls)
    return np.arange(marked.shape[1]) > wall[:, None] + depth / 8


def annotated_part(prediction: np.ndarray, truth: np.ndarray, structures: tuple[int, ...], bodies_only: bool) -> np.ndarray:
    """The prediction without what the truth could not hold (scope ``annotated``, see the module).

    Args:
        prediction, truth: integers of ``structures4``, (slices, rows, columns).
        structures: values that the truth holds. One that it does not mark in this case is taken out of the prediction wholly.
        bodies_only: whether its vertebrae are bodies alone.

    Returns:
        A copy of the prediction, with 0 for what was taken out.
    """
    part = prediction.copy()
    for structure in structures:
        marked = np.flatnonzero((truth == structure).any(axis=(0, 2)))
        outside = np.ones(truth.shape[1:], bool)
        if len(marked):
            outside[marked[0] : marked[-1] + 1] = False
        if bodies_only and structure == VERTEBRA:
            outside |= behind_bodies(truth)
        part[outside & (prediction == structure)] = 0
    return part


def score_case(one: CentreSet, case: CentreCase, prediction: np.ndarray, tolerance_mm: float = 1.0) -> pd.DataFrame:
    """Score one case for the structures that its truth holds, in both scopes.

    Args:
        one: the set that it belongs to.
        case: with a mask.
        prediction: integers of ``structures4``, of the image's shape.
        tolerance_mm: of the NSD.

    Returns:
        One row a scope and structure: set, case, patient, scope, and the columns of measure_case. Distances are NaN where the set
        stores no pixel size.

    Raises:
        ValueError: shapes differ, or the case has no mask.
    """
    if case.mask is None:
        raise ValueError(f"{case.case} of {one.name} has no truth to score with")
    truth, spacing = case.mask.squeezed()
    names = {value: get_scheme(SCHEME).names[value] for value in one.structures}
    parts = []
    for scope in SCOPES:
        seen = prediction
        if scope == ANNOTATED:
            seen = annotated_part(prediction, case.mask.array, one.structures, one.bodies_only)
        seen = seen[0] if len(seen) == 1 else seen
        rows = measure_case(truth, seen, spacing if one.spacing_known else None, names, tolerance_mm)
        parts.append(rows.assign(set=one.name, case=case.case, patient=case.patient, scope=scope))
    table = pd.concat(parts, ignore_index=True)
    first = ["set", "case", "patient", "scope"]
    return table[[*first, *(name for name in table if name not in first)]]


def _names(one: CentreSet, case: CentreCase, named: Mapping[str, np.ndarray]) -> list[pd.DataFrame]:
    """The rows of score_names for each way to count."""
    facts = {"set": one.name, "case": case.case, "patient": case.patient}
    return [score_names(case.levels.array, mask).assign(**facts, count_from=way)[[*NAME_COLUMNS]] for way, mask in named.items()]


def score_centres(
    root: str | Path,
    predict: Callable[[Volume], Volume],
    scheme: str = SCHEME,
    tolerance_mm: float = 1.0,
    show: Callable[[CentreSet, CentreCase, np.ndarray], None] | None = None,
    own_votes: float = 1.0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict and score every case of the sets below a folder.

    Args:
        root: folder that holds some of the sets of data.centres.
        predict: image -> mask on the same grid, as the network draws it (VolumePredictor.predict_volume without whole_parts).
            Of a network with levels each part gets one number here, as ``spider-kit predict`` does.
        scheme: label scheme of these masks; for the scores it is converted to ``structures4``.
        tolerance_mm: of the NSD.
        show: told each case and its prediction in ``structures4``, to draw it. Without it sets without truth are passed over.
        own_votes: of the predictor, for names of its own.

    Returns:
        The rows of score_case for all cases, and those of evaluation.naming (NAME_COLUMNS) for cases whose truth knows levels:
        ``count_from`` "lowest", and "own" of a network with levels. Empty where no set below ``root`` has such a truth.

    Raises:
        DataError: none of the sets is there, or a file of one is not as it should be.
        ValueError: the scheme cannot be converted to ``structures4``.
    """
    convert(np.zeros(1, np.uint8), scheme, SCHEME)  # said before anything is computed
    tables, names = [pd.DataFrame()], []
    for one in sets_in(root)[0]:
        if not (one.structures or show):
            continue
        for case in progress(one.cases(root), one.name, total=len(one.images(root))):
            drawn, named = predict(case.image), {}
            prediction = convert(drawn.array, scheme, SCHEME)
            if scheme in SCHEMES_WITH_LEVELS:
                named[OWN] = own_names(drawn, scheme, own_votes)
                prediction = convert(named[OWN], "spider", SCHEME)
            if show:
                show(one, case, prediction)
            if one.structures:
                tables.append(score_case(one, case, prediction, tolerance_mm))
            if case.levels is not None:
                named[LOWEST] = counted_names(drawn, scheme)
                names += _names(one, case, named)
    named_parts = pd.concat(names, ignore_index=True) if names else pd.DataFrame(columns=list(NAME_COLUMNS))
    return pd.concat(tables, ignore_index=True), named_parts


def summarise_centres(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean, spread and interval of every set, scope and structure.

    Args:
        table: rows of score_centres, of one network.
        seed: of the bootstrap, which draws whole patients, or series where patients are unknown.

    Returns:
        set, sequence, scope, drawn ("patient" or "series") and SUMMARY_COLUMNS of evaluation.statistics: means over cases; where
        patients or series have several cases, also means over these (unit "patient" or "series"); and all pixels pooled.
    """
    sets = {one.name: one for one in CENTRE_SETS}
    parts = []
    for (name, scope), rows in table.groupby(["set", "scope"], sort=False):
        drawn = "patient" if sets[name].patients_known else "series"
        views = [summarise(rows, seed=seed), pooled(rows, seed=seed)]
        if rows["patient"].nunique() < rows["case"].nunique():
            views.insert(1, summarise(rows, "patient", seed=seed).assign(unit=drawn))
        parts.append(pd.concat(views).assign(set=name, sequence=sets[name].sequence, scope=scope, drawn=drawn))
    found = pd.concat(parts, ignore_index=True)
    found = found[found["class"] != FOREGROUND]  # each set holds other structures: means over them compare nothing
    return found[["set", "sequence", "scope", "drawn", *SUMMARY_COLUMNS]].reset_index(drop=True)


def overview(summary: pd.DataFrame) -> pd.DataFrame:
    """The most important columns of summarise_centres, one row a set, scope, structure and unit of the mean.

    Returns:
        set, sequence, scope, structure, unit, n (with a defined Dice), drawn (how many patients or series the interval draws),
        dice, std, low, high, pooled (Dice of all pixels together), precision, recall, asd_mm, nsd.
    """
    keys = ["set", "sequence", "scope", "name", "unit"]
    means = summary[summary["view"] == "mean"]
    table = means[means["metric"] == "dice"].set_index(keys)[["n", "patients", "drawn", "mean", "std", "low", "high"]]
    table["drawn"] = table["patients"].astype(str) + " " + table["drawn"].replace({"patient": "patients"})
    table = table.drop(columns="patients").rename(columns={"mean": "dice"})
    whole = summary[(summary["view"] == "pooled") & (summary["metric"] == "dice")].set_index(keys)["mean"]
    table["pooled"] = whole.reindex(table.index)
    for metric in ("precision", "recall", "asd_mm", "nsd"):
        table[metric] = means[means["metric"] == metric].set_index(keys)["mean"]
    return table.reset_index().rename(columns={"name": "structure"})
