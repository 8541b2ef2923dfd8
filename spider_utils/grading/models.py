"""Models of each finding, tested on patients that they do not know, with what needs no measuring beside them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spider_utils.data.gradings import FINDINGS, Finding
from spider_utils.errors import KitError
from spider_utils.evaluation.grades import METRICS, grade_gains, grade_scores
from spider_utils.grading.ordinal import CumulativeLogit

MOST_FREQUENT, LEVEL = "most frequent", "level alone"
OTHERS, OTHERS_AND_LEVEL = "other findings", "level and other findings"
MEASURED, MEASURED_AND_IMAGE = "measurements", "measurements and image"
FOLDS = 5
_KEYS = ["patient", "disc"]
_HIGHEST_LEVEL = 7  # discs above are too few to have a column of their own


def grade_model(C: float = 0.3) -> BaseEstimator:  # noqa: N803 (scikit-learn's name)
    """Gaps filled with the median, columns scaled, cumulative logit; all learnt on training patients alone."""
    return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), CumulativeLogit(C))


def level_columns(discs: pd.Series) -> pd.DataFrame:
    """A column a level, 1 where the disc is of that level: a finding need not rise or fall steadily from level to level."""
    numbers = discs.clip(upper=_HIGHEST_LEVEL).to_numpy()
    return pd.DataFrame({f"disc {k}": (numbers == k).astype(float) for k in range(1, _HIGHEST_LEVEL + 1)}, index=discs.index)


def table_features(gradings: pd.DataFrame, finding: Finding) -> dict[str, pd.DataFrame]:
    """What the table of gradings itself knows of a disc but for the finding in question: name of the set -> columns."""
    others = {column: one.target(gradings[column]).astype("Float64") for column, one in FINDINGS.items() if one is not finding}
    table = pd.DataFrame(others, index=gradings.index).astype(float)
    level = level_columns(gradings["disc"])
    return {LEVEL: level, OTHERS: table, OTHERS_AND_LEVEL: pd.concat([level, table], axis=1)}


def image_features(features: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sets of columns of ``MeasuredSet.features``: level, measurements with it, and those with what needs the picture."""
    level, columns = level_columns(features["disc"]), [name for name in features if name not in _KEYS]
    shapes = [name for name in columns if not name.startswith("image: ")]
    sets = {MEASURED: features[shapes], MEASURED_AND_IMAGE: features[columns]}
    return {LEVEL: level} | {name: pd.concat([level, part], axis=1) for name, part in sets.items()}


def deal(present: np.ndarray, patients: np.ndarray, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal whole patients into five folds that have about the same share of discs with a finding; up to five one by one.

    Args:
        present: (n,) bool, discs with the finding.
        patients: (n,) whose each disc is.
        seed: of the deal.

    Returns:
        Rows to train and to test on, a pair a fold; every row is tested once.

    Raises:
        KitError: fewer than two patients have a disc with it, or one without, or a fold has got all of them: why no model can be
            tested on patients that it does not know.
    """
    for which, what in ((present, "with"), (~present, "without")):
        if (carriers := len(set(patients[which].tolist()))) < 2:
            raise KitError(
                f"{carriers} patient(s) have a disc {what} it: to test on patients that a model does not know takes two"
            )
    rows = np.zeros((len(present), 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # a rare finding: not in every fold
        if len(set(patients.tolist())) <= FOLDS:
            splits = list(LeaveOneGroupOut().split(rows, present, patients))
        else:
            folds = min(FOLDS, max(int(present.sum()), int((~present).sum())))
            splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(rows, present, patients))
    splits = [(train, test) for train, test in splits if len(test)]
    if any(len(set(present[train].tolist())) < 2 for train, _ in splits):
        raise KitError("one fold has got all patients with it, or all without it: nothing is left to learn from")
    return splits


def out_of_fold(
    model: BaseEstimator,
    features: pd.DataFrame,
    target: np.ndarray,
    patients: np.ndarray,
    grades: tuple[int, ...],
    present_from: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Grade every disc by a model that saw none of the patient's discs.

    Args:
        model: a scikit-learn classifier; a fresh copy learns in each fold.
        features: (n, features), NaN where unknown.
        target: (n,) grades.
        patients: (n,) whose each disc is; see ``deal``.
        grades: columns of the probabilities; a grade that a fold's training patients lack gets 0 there.
        present_from: the grade from which the finding counts as present in the deal.
        seed: of the deal.

    Returns:
        (n) rows: ``fold``, ``predicted``, and a column ``p<grade>`` a grade.

    Raises:
        KitError: as ``deal``.
    """
    target, patients = np.asarray(target), np.asarray(patients)
    table = pd.DataFrame(0.0, index=range(len(target)), columns=["fold", "predicted", *(f"p{grade}" for grade in grades)])
    table = table.astype({"fold": int, "predicted": int})
    values = features.to_numpy(dtype=float)
    for fold, (train, test) in enumerate(deal(target >= present_from, patients, seed)):
        fitted = clone(model).fit(values[train], target[train])
        classes = fitted.classes_ if hasattr(fitted, "classes_") else fitted[-1].classes_
        table.loc[test, "fold"] = fold
        table.loc[test, "predicted"] = fitted.predict(values[test])
        table.loc[test, [f"p{grade}" for grade in classes]] = fitted.predict_proba(values[test])
    return table


def grade_table(gradings: pd.DataFrame, features: pd.DataFrame | None = None, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test models of every finding, by cross-validation over patients.

    Args:
        gradings: of data.gradings.read_gradings.
        features: of ``MeasuredSet.features``, for models of measurements and image. Discs without a row are graded too, by their
            level, as a disc of median measurements: leaving out what a network's masks miss would flatter them. None: what the
            table alone says.
        seed: of the folds.

    Returns:
        Scores, a row a finding, model and metric: ``finding``, ``model``, then the columns of evaluation.grades.grade_scores, and
        ``reason``: why the scores are missing (see ``deal``), else "". Predictions, a row a finding, model and disc:
        ``finding``, ``model``, ``patient``, ``disc``, ``truth``, ``fold``, ``predicted`` and probabilities.

    Raises:
        KitError: no disc has both grades and features, or no finding can be tested.
    """
    rows = gradings.reset_index(drop=True)
    if features is not None:
        if without_measurement(rows, features) == len(rows):
            raise KitError("no measured disc is graded: check that both tables are of the same patients")
        features = rows[_KEYS].merge(features, on=_KEYS, how="left")
    scores, predictions = [], []
    for column, finding in FINDINGS.items():
        graded = rows[column].notna().to_numpy()
        target = finding.target(rows.loc[graded, column]).astype(int).to_numpy()
        try:
            deal(target >= finding.target_from, rows.loc[graded, "patient"].to_numpy(), seed)
            reason = ""
        except KitError as error:
            reason = str(error)
        sets = table_features(rows, finding) if features is None else image_features(features)
        models = {MOST_FREQUENT: (DummyClassifier(strategy="prior"), sets[LEVEL])}
        models |= {name: (grade_model(), part) for name, part in sets.items()}
        for name, (model, part) in models.items():
            if reason:
                scores.append(_no_scores(rows[graded], reason).assign(finding=finding.name, model=name))
                continue
            found = _predicted(model, part[graded], target, rows[graded], finding, seed)
            scores.append(_scored(found, finding).assign(finding=finding.name, model=name, reason=""))
            predictions.append(found.assign(finding=finding.name, model=name))
    if not predictions:
        missing = scores_that_are_missing(pd.concat(scores)).itertuples()
        raise KitError(f"nothing can be learnt from this table: {'; '.join(f'{one.finding}: {one.reason}' for one in missing)}")
    order = ["finding", "model"]
    return tuple(_first(pd.concat(parts, ignore_index=True), order) for parts in (scores, predictions))  # type: ignore[return-value]


def _predicted(
    model: BaseEstimator, features: pd.DataFrame, target: np.ndarray, rows: pd.DataFrame, finding: Finding, seed: int
) -> pd.DataFrame:
    patients = rows["patient"].to_numpy()
    table = out_of_fold(model, features, target, patients, finding.target_grades, finding.target_from, seed)
    return pd.concat([rows[_KEYS].reset_index(drop=True), table.assign(truth=target)], axis=1)


def _scored(found: pd.DataFrame, finding: Finding) -> pd.DataFrame:
    probabilities = found[[f"p{grade}" for grade in finding.target_grades]].to_numpy()
    return grade_scores(found["truth"], probabilities, found["predicted"], found["patient"], finding.target_grades, found["fold"])


def _no_scores(rows: pd.DataFrame, reason: str) -> pd.DataFrame:
    table = pd.DataFrame({"metric": METRICS, "value": np.nan, "low": np.nan, "high": np.nan})
    return table.assign(discs=len(rows), patients=rows["patient"].nunique(), reason=reason)


def scores_that_are_missing(scores: pd.DataFrame) -> pd.DataFrame:
    """The findings of ``grade_table`` that no model could be tested on: ``finding``, ``reason``."""
    return scores.loc[scores["reason"] != "", ["finding", "reason"]].drop_duplicates(ignore_index=True)


def without_measurement(gradings: pd.DataFrame, features: pd.DataFrame) -> int:
    """How many graded discs have no row in ``MeasuredSet.features``."""
    return len(gradings) - len(gradings.merge(features[_KEYS], on=_KEYS))


def gains(predictions: pd.DataFrame, model: str, base: str) -> pd.DataFrame:
    """By how much ``model`` scores higher than ``base`` on the same discs, patients drawn in pairs.

    Args:
        predictions: of ``grade_table``.
        model, base: two of its models.

    Returns:
        ``finding``, then the columns of evaluation.grades.grade_gains.
    """
    parts = []
    for finding in FINDINGS.values():
        rows = predictions[predictions["finding"] == finding.name]
        a, b = (rows[rows["model"] == name] for name in (model, base))
        if len(rows):
            parts.append(grade_gains(a, b, finding.target_grades).assign(finding=finding.name))
    return _first(pd.concat(parts, ignore_index=True), ["finding"])


def _first(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table[columns + [name for name in table if name not in columns]]


def confusion(predictions: pd.DataFrame, finding: Finding, model: str) -> pd.DataFrame:
    """Discs by given (rows) and predicted (columns) grade.

    Args:
        predictions: of ``grade_table``.
    """
    rows = predictions[(predictions["finding"] == finding.name) & (predictions["model"] == model)]
    table = pd.crosstab(rows["truth"], rows["predicted"])
    return table.reindex(index=finding.target_grades, columns=finding.target_grades, fill_value=0)


def compact(scores: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """Scores to read: a row a finding and model, a column a metric ("0.81 [0.75, 0.86]").

    Args:
        metrics: metric -> head of its column.
    """

    def text(row: pd.Series) -> str:
        if pd.isna(row["value"]):
            return "-"
        return f"{row['value']:.2f}" + ("" if pd.isna(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]")

    rows = scores[scores["metric"].isin(list(metrics))]
    rows = rows.assign(text=rows.apply(text, axis=1))
    order = rows[["finding", "model", "discs", "patients"]].drop_duplicates()
    wide = rows.pivot(index=["finding", "model"], columns="metric", values="text")[list(metrics)].rename(columns=dict(metrics))
    return order.merge(wide.reset_index(), on=["finding", "model"])
