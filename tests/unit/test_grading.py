"""Models of gradings: ordinal probabilities, folds by patient, the way from a phantom's series to tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from spider_utils.data.gradings import FINDINGS, read_gradings
from spider_utils.data.phantom import generate_dataset
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError, KitError
from spider_utils.grading import models, series
from spider_utils.grading.models import LEVEL, MEASURED_AND_IMAGE, MOST_FREQUENT, grade_table, out_of_fold
from spider_utils.grading.ordinal import CumulativeLogit
from spider_utils.grading.series import measure_source


def graded(patients: int = 30, seed: int = 0) -> pd.DataFrame:
    """Gradings of made-up patients, seven discs each, in which findings follow the grade."""
    rng = np.random.default_rng(seed)
    n = 7 * patients
    grade = rng.integers(1, 6, n)
    table = pd.DataFrame({"patient": np.repeat(np.arange(1, patients + 1), 7), "disc": np.tile(np.arange(1, 8), patients)})
    table["level"] = table["disc"].astype(str)
    for column, finding in FINDINGS.items():
        binary = (grade + rng.normal(0, 1, n) > 3).astype(int)
        table[column] = pd.array(grade if len(finding.grades) == 5 else binary, dtype="Int64")
    return table


# ----------------------------------------------------------------------------------------------------------------- ordinal


def test_two_grades_are_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    y = (x[:, 0] + rng.normal(size=80) > 0.8).astype(int)
    ours, theirs = CumulativeLogit(C=0.5).fit(x, y), LogisticRegression(C=0.5, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x))
    # The upper grade is called above its share in training.
    np.testing.assert_array_equal(ours.predict(x), (theirs.predict_proba(x)[:, 1] > y.mean()).astype(int))


def test_each_threshold_is_a_regression_and_is_cut_down_to_the_one_below():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 8))  # few rows, many columns: single regressions cross
    y = rng.integers(1, 6, 60)
    model = CumulativeLogit(C=10.0).fit(x, y)
    raw = np.stack([LogisticRegression(C=10.0, max_iter=1000).fit(x, y > k).predict_proba(x)[:, 1] for k in range(1, 5)], axis=1)
    assert (np.diff(raw, axis=1) > 0).any(), "the example does not cross: choose another seed"
    np.testing.assert_allclose(model.above(x), np.minimum.accumulate(raw, axis=1), atol=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_probabilities_are_monotone_and_sum_to_one(seed, k):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(25, 4)), rng.integers(0, k, 25)
    model = CumulativeLogit(C=100.0).fit(x, y)
    new = 5 * rng.normal(size=(40, 4))
    above, probabilities = model.above(new), model.predict_proba(new)
    assert (np.diff(above, axis=1) <= 0).all()
    assert (probabilities >= 0).all() and probabilities.shape == (40, len(model.classes_))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = model.predict(new)
    assert set(predicted) <= set(model.classes_)
    if len(model.classes_) > 2:  # the median: at most half lies above, at most half below
        at = np.searchsorted(model.classes_, predicted)
        below = np.cumsum(probabilities, axis=1)
        rows = np.arange(40)
        assert (below[rows, at] >= 0.5 - 1e-9).all() and (below[rows, at] - probabilities[rows, at] <= 0.5 + 1e-9).all()


def test_one_grade_alone_is_always_that_grade():
    model = CumulativeLogit().fit(np.zeros((4, 2)), [3, 3, 3, 3])
    assert model.predict(np.ones((2, 2))).tolist() == [3, 3] and model.predict_proba(np.ones((2, 2))).tolist() == [[1], [1]]


NOT_THE_LIKELIEST = {"check_classifiers_train": "predicts the median of the probabilities, not the likeliest grade"}


@parametrize_with_checks([CumulativeLogit()], expected_failed_checks=lambda _: NOT_THE_LIKELIEST)
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def test_measurements_are_no_grades():
    with pytest.raises(ValueError, match="continuous"):
        CumulativeLogit().fit(np.zeros((4, 1)), [0.5, 1.5, 2.5, 3.1])


# ------------------------------------------------------------------------------------------------------------------- folds


class Spy(ClassifierMixin, BaseEstimator):
    """Says 1 for a patient (the only column) that it learnt from, 0 for a stranger."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Spy:
        self.classes_, self.seen_ = np.array([0, 1]), set(x[:, 0])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.isin(x[:, 0], list(self.seen_)).astype(int)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.eye(2)[self.predict(x)]


@pytest.mark.parametrize("patients", [2, 3, 23])
def test_no_model_has_seen_the_patient_that_it_grades(patients):
    rng = np.random.default_rng(0)
    of = rng.permutation(np.repeat(np.arange(patients), 4))
    found = out_of_fold(Spy(), pd.DataFrame({"patient": of}), np.arange(len(of)) % 2, of, (0, 1))
    assert not found["predicted"].any()
    folds = pd.Series(found["fold"].to_numpy()).groupby(of).nunique()
    assert (folds == 1).all() and found["fold"].nunique() == min(5, patients)
    with pytest.raises(KitError, match="1 patient"):
        out_of_fold(Spy(), pd.DataFrame({"patient": [1, 1]}), np.array([0, 1]), np.array([1, 1]), (0, 1))


def test_what_belongs_to_the_patient_alone_teaches_nothing():
    """A feature that names the patient is perfect within patients; by patient it is worth no more than a guess."""
    rng = np.random.default_rng(5)
    table = graded(40)
    own = rng.integers(0, 2, 40)
    for column, finding in FINDINGS.items():
        if finding.target_grades == (0, 1):
            table[column] = pd.array(own[table["patient"] - 1], dtype="Int64")
    features = table[["patient", "disc"]].assign(**{f"is {k}": (table["patient"] == k).astype(float) for k in range(1, 41)})
    scores, _ = grade_table(table, features)
    row = scores[(scores["finding"] == "disc bulging") & (scores["metric"] == "AUC")].set_index("model")
    assert row.loc["measurements", "value"] < 0.65


def test_models_of_the_table_alone():
    scores, predictions = grade_table(graded())
    assert set(scores["finding"]) == {finding.name for finding in FINDINGS.values()}
    auc = scores[scores["metric"] == "AUC"].set_index(["finding", "model"])["value"]
    assert (auc.xs(MOST_FREQUENT, level="model") == 0.5).all()
    assert auc["Pfirrmann grade", "other findings"] > auc["Pfirrmann grade", LEVEL] + 0.2
    one = predictions[(predictions["finding"] == "Pfirrmann grade") & (predictions["model"] == "other findings")]
    assert len(one) == 210 and not one.duplicated(["patient", "disc"]).any()
    np.testing.assert_allclose(one[[f"p{k}" for k in range(1, 6)]].sum(axis=1), 1)
    table = models.confusion(predictions, FINDINGS["Pfirrman grade"], "other findings")
    assert table.to_numpy().sum() == 210 and list(table.index) == [1, 2, 3, 4, 5]
    compact = models.compact(scores, {"AUC": "AUC"})
    assert compact["AUC"].str.match(r"^\d\.\d\d \[\d\.\d\d, \d\.\d\d\]$").all()


def test_what_cannot_be_tested_has_no_score_but_a_reason():
    """No disc, or one patient alone, has the finding; a constant table is refused as a whole."""
    table = graded()
    table["Spondylolisthesis"] = pd.array([0] * 210, dtype="Int64")
    table["Disc herniation"] = pd.array((table["patient"] == 4).astype(int), dtype="Int64")
    scores, predictions = grade_table(table)
    for finding, count in (("spondylolisthesis", 0), ("disc herniation", 1)):
        rows = scores[scores["finding"] == finding]
        assert len(rows) == 4 * 4 and rows["value"].isna().all() and set(rows["discs"]) == {210}
        assert rows["reason"].str.startswith(f"{count} patient(s) have a disc with it: ").all()
        assert finding not in set(predictions["finding"])
    assert (scores.loc[scores["finding"] == "disc bulging", "reason"] == "").all()
    missing = models.scores_that_are_missing(scores)
    assert missing["finding"].tolist() == ["spondylolisthesis", "disc herniation"]
    assert (models.compact(scores, {"AUC": "AUC"}).set_index("finding").loc["disc herniation", "AUC"] == "-").all()
    gained = models.gains(predictions, models.OTHERS, LEVEL)
    assert "disc herniation" not in set(gained["finding"])
    for column, finding in FINDINGS.items():
        table[column] = pd.array([finding.grades[0]] * len(table), dtype="Int64")
    with pytest.raises(KitError, match="nothing can be learnt from this table: Modic change: 0 patient"):
        grade_table(table)
    with pytest.raises(KitError, match="same patients"):
        grade_table(graded(), pd.DataFrame({"patient": [99], "disc": [1], "x": [1.0]}))


@pytest.mark.parametrize("seed", range(5))
def test_rare_findings_are_dealt_into_different_folds(seed):
    """Of twenty patients two have the finding: no fold may hold both, or its model would never have seen one."""
    patients = np.repeat(np.arange(20), 6)
    present = np.isin(np.arange(120), (12, 13, 77))  # of patients 2 and 12
    splits = models.deal(present, patients, seed)
    assert len(splits) == 5 and sorted(np.concatenate([test for _, test in splits])) == list(range(120))
    for train, test in splits:
        assert not set(patients[train]) & set(patients[test]) and 0 < present[train].sum()


def test_up_to_five_patients_have_a_fold_each():
    patients = np.repeat([7, 3, 9, 1, 5], [4, 1, 2, 8, 3])
    splits = models.deal(np.arange(18) % 2 == 0, patients)
    assert sorted(tuple(set(patients[test])) for _, test in splits) == [(1,), (3,), (5,), (7,), (9,)]


def test_a_fold_with_all_of_a_kind_is_refused():
    with pytest.raises(KitError, match="without it"):
        models.deal(np.array([True, True, True, False]), np.array([1, 2, 3, 3]))


def test_discs_that_a_mask_misses_are_graded_all_the_same():
    """A network that sees healthy discs alone must not be scored on those alone."""
    table = graded(12)
    features = table[["patient", "disc"]].assign(x=table["Pfirrman grade"].astype(float))
    lost = (features["patient"] > 9) | (features["disc"] == 3)
    assert models.without_measurement(table, features[~lost]) == lost.sum() == 3 * 7 + 9
    scores, predictions = grade_table(table, features[~lost])
    assert set(scores["discs"]) == {84} and set(scores["patients"]) == {12}
    assert predictions.groupby(["finding", "model"]).size().eq(84).all()


# ----------------------------------------------------------------------------------------------------------------- phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Four small made-up patients, measured."""
    root = tmp_path_factory.mktemp("gradings") / "phantom"
    generate_dataset(root, 4, seed=12, jobs=1, size="small")
    source, folder = open_source("phantom", root), root.parent / "measured"
    return source, folder, measure_source(source, folder, jobs=1)


def test_features_of_a_phantom(phantom):
    source, _, found = phantom
    features = found.features()
    assert not features.duplicated(["patient", "disc"]).any() and set(features["patient"]) == {1, 2, 3, 4}
    assert {"disc height middle", "slip", "upper endplate depth", "image: disc signal over fluid"} <= set(features)
    assert {"image: t2 upper endplate marrow", "image: t1 lower endplate marrow high"} <= set(features)
    graded_discs = read_gradings(source.root).table.merge(features, on=["patient", "disc"])
    assert len(graded_discs) >= 0.9 * len(features)
    scores, predictions = grade_table(read_gradings(source.root).table, features)
    assert MEASURED_AND_IMAGE in set(scores["model"]) and predictions["patient"].nunique() == 4


def test_series_are_measured_once(phantom, monkeypatch):
    source, folder, found = phantom
    monkeypatch.setattr(series, "map_in_processes", lambda *_: pytest.fail("measured again"))
    again = measure_source(source, folder, jobs=1)
    pd.testing.assert_frame_equal(again.measured, found.measured)
    monkeypatch.undo()
    with pytest.raises(DataError, match="mask is missing"):
        measure_source(source, folder, masks=folder / "nowhere")


T1_ONLY = pd.DataFrame({"case": ["1_t1", "2_t1", "2_t2"], "patient": [1, 2, 2], "sequence": ["t1", "t1", "t2"]})


def rows_of(case: str, signal: float) -> pd.DataFrame:
    """A disc measured in a series: height and signal, as of ``measure``."""
    rows = [
        ("L5/S1", 201, "disc height middle", 9.0, "mm", "measured"),
        ("L5/S1", 201, "disc signal over fluid", signal, "1", "measured"),
    ]
    who = T1_ONLY.set_index("case").loc[case]
    return pd.DataFrame(rows, columns=list(series.COLUMNS)).assign(case=case, patient=who["patient"], sequence=who["sequence"])


def plates_of(case: str, marrow: float) -> pd.DataFrame:
    who = T1_ONLY.set_index("case").loc[case]
    values = {name: marrow if "marrow" in name else 1.0 for name in series.ENDPLATE_UNITS}
    return pd.DataFrame([{"level": "L5/S1", "label": 201, **values}]).assign(
        case=case, patient=who["patient"], sequence=who["sequence"]
    )


def test_signal_of_t1_is_no_signal_of_t2():
    """Patient 1 has T1 alone, in which fluid is dark: its disc has a height there, and no signal over fluid."""
    found = series.MeasuredSet(
        pd.concat([rows_of("1_t1", 3.0), rows_of("2_t2", 0.4)], ignore_index=True),
        pd.concat([plates_of("1_t1", 1.1), plates_of("2_t1", 1.2), plates_of("2_t2", 1.3)], ignore_index=True),
    ).features()
    table = found.set_index("patient")
    assert table["disc height middle"].tolist() == [9, 9]
    assert np.isnan(table.loc[1, "image: disc signal over fluid"]) and table.loc[2, "image: disc signal over fluid"] == 0.4
    assert np.isnan(table.loc[1, "image: t2 upper endplate marrow"]) and table.loc[1, "image: t1 upper endplate marrow"] == 1.1
    assert table.loc[2, ["image: t1 upper endplate marrow", "image: t2 upper endplate marrow"]].tolist() == [1.2, 1.3]
    alone = series.MeasuredSet(rows_of("1_t1", 3.0), plates_of("1_t1", 1.1)).features()
    assert alone["image: disc signal over fluid"].isna().all()


class OneSource:
    """As much of a Source as measure_source asks for; patient 2 of T1_ONLY alone."""

    kind, scheme, root, cases = "phantom", "spider", "the set", T1_ONLY[T1_ONLY["patient"] == 2]

    def state(self) -> str:
        return "the same"


def measured_as(monkeypatch, height: float) -> None:
    def made(_, tasks, *__):
        for _, case, wholly, *_ in tasks:
            table = rows_of(case, height)
            yield (table if wholly else pd.DataFrame(), plates_of(case, height))

    monkeypatch.setattr(series, "map_in_processes", made)


def test_tables_of_two_runs_are_never_mixed(tmp_path, monkeypatch):
    """Killed between its tables, a second run leaves nothing that passes for the first one's."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for case in ("2_t1", "2_t2"):
        (masks / f"{case}.mha").write_text("another network's")
    measured_as(monkeypatch, 1.0)
    measure_source(OneSource(), tmp_path / "kept")
    real, written = series.write_csv, []

    def fails_at_the_second(path, table):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        real(path, table)

    measured_as(monkeypatch, 2.0)
    monkeypatch.setattr(series, "write_csv", fails_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        measure_source(OneSource(), tmp_path / "kept", masks)
    monkeypatch.setattr(series, "write_csv", real)
    measured_as(monkeypatch, 1.0)
    found = measure_source(OneSource(), tmp_path / "kept")
    assert found.endplates["upper endplate marrow"].tolist() == [1.0, 1.0]
    assert found.measured.set_index("quantity").loc["disc signal over fluid", "value"] == 1.0


def test_masks_without_discs_are_one_clear_error(tmp_path, monkeypatch):
    bone = rows_of("2_t2", 1.0).assign(label=1, quantity=["body depth", "body wedge"])
    monkeypatch.setattr(series, "map_in_processes", lambda *_: [(pd.DataFrame(), pd.DataFrame()), (bone, pd.DataFrame())])
    with pytest.raises(DataError, match="the set: no disc could be measured"):
        measure_source(OneSource(), tmp_path)
    endplates = pd.read_csv(tmp_path / "endplates.csv")
    assert list(endplates) == ["case", "patient", "sequence", "level", "label", *series.ENDPLATE_UNITS]
    assert not len(series.MeasuredSet(pd.read_csv(tmp_path / "measured.csv"), endplates).features())
