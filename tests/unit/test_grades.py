"""Scores of grades, prevalence and detection: by hand, against scikit-learn, and what must hold for any numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, mean_absolute_error, roc_auc_score

from spider_utils.data.gradings import FINDINGS
from spider_utils.errors import KitError
from spider_utils.evaluation.detection import RATES, check_rates, detection_row, error_row, how_rounded, printed, rates
from spider_utils.evaluation.grades import balanced_accuracy, grade_gains, grade_scores
from spider_utils.evaluation.prevalence import co_occurrence, exact_interval, prevalence, share_interval


def scored(truth, probabilities, predicted, patients, grades, **options):
    table = grade_scores(truth, np.asarray(probabilities), predicted, patients, grades, **options)
    return table.set_index("metric")


# ------------------------------------------------------------------------------------------------------------------ grades


def test_scores_by_hand():
    truth, predicted = [0, 0, 0, 1], [0, 0, 1, 1]
    p = np.array([0.1, 0.4, 0.6, 0.5])
    found = scored(truth, np.stack([1 - p, p], axis=1), predicted, [1, 1, 2, 2], (0, 1))["value"]
    assert found["balanced accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["AUC"] == pytest.approx(2 / 3)  # 0.5 is above 0.1 and 0.4, below 0.6
    assert found["mean absolute error"] == pytest.approx(1 / 4)
    # Agreement 3/4; by chance (3/4)(2/4) + (1/4)(2/4) = 1/2.
    assert found["kappa"] == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))


@pytest.mark.parametrize("k", [2, 5])
def test_scores_are_those_of_scikit_learn(k):
    rng = np.random.default_rng(k)
    patients = np.repeat(np.arange(20), 6)
    truth = rng.integers(1, k + 1, 120)
    probabilities = rng.dirichlet(np.ones(k), 120).round(1) + 1e-3  # rounded: ties
    predicted = rng.integers(1, k + 1, 120)
    grades = tuple(range(1, k + 1))
    found = scored(truth, probabilities, predicted, patients, grades)["value"]
    above = [(truth > grade, probabilities[:, grade:].sum(axis=1)) for grade in grades[:-1]]
    assert found["AUC"] == pytest.approx(np.mean([roc_auc_score(t, p) for t, p in above]))
    assert found["balanced accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert found["kappa"] == pytest.approx(cohen_kappa_score(truth, predicted, weights="quadratic"))
    assert found["mean absolute error"] == pytest.approx(mean_absolute_error(truth, predicted))


def test_intervals_are_those_of_a_bootstrap_written_out():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(15), rng.integers(1, 6, 15))
    n = len(patients)
    truth = rng.integers(0, 2, n)
    score = truth * 0.3 + rng.random(n)
    found = scored(truth, np.stack([1 - score, score], axis=1), (score > 0.6).astype(int), patients, (0, 1))
    values = []
    rows = {patient: np.flatnonzero(patients == patient) for patient in range(15)}
    for _ in range(300):
        at = np.concatenate([rows[patient] for patient in rng.integers(0, 15, 15)])
        if 0 < truth[at].sum() < len(at):
            values.append(roc_auc_score(truth[at], score[at]))
    np.testing.assert_allclose(found.loc["AUC", ["low", "high"]].to_numpy(float), np.quantile(values, [0.025, 0.975]), atol=0.05)


def test_folds_are_not_compared_with_each_other():
    rng = np.random.default_rng(0)
    patients, folds = np.repeat(np.arange(20), 5), np.repeat(np.arange(20) % 4, 5)
    truth = (rng.random(100) < 0.3).astype(int)
    shares = np.array([truth[folds != fold].mean() for fold in range(4)])[folds]  # what a constant model learns
    constant = np.stack([1 - shares, shares], axis=1)
    assert scored(truth, constant, np.zeros(100, int), patients, (0, 1))["value"]["AUC"] < 0.5
    assert scored(truth, constant, np.zeros(100, int), patients, (0, 1), folds=folds)["value"]["AUC"] == 0.5
    score = rng.random(100) + 0.2 * truth
    found = scored(truth, np.stack([1 - score, score], axis=1), truth, patients, (0, 1), folds=folds)["value"]["AUC"]
    parts = [(roc_auc_score(truth[folds == f], score[folds == f]), truth[folds == f]) for f in range(4)]
    weights = [t.sum() * (len(t) - t.sum()) for _, t in parts]
    assert found == pytest.approx(np.average([auc for auc, _ in parts], weights=weights))


def test_a_patient_in_two_folds_is_refused():
    with pytest.raises(ValueError, match="two folds"):
        scored([0, 1], np.eye(2), [0, 1], ["a", "a"], (0, 1), folds=[0, 1])


def test_what_cannot_be_scored_is_nan_or_refused():
    found = scored([1, 1], np.array([[0, 1], [0, 1]]), [1, 1], [1, 2], (0, 1))["value"]
    assert math.isnan(found["AUC"]) and math.isnan(found["kappa"]) and found["balanced accuracy"] == 1
    for truth, predicted, patients, match in (([0], [0, 1], [1], "fit"), ([7], [0], [1], "none of"), ([], [], [], "no disc")):
        with pytest.raises(ValueError, match=match):
            scored(truth, np.zeros((len(truth), 2)), predicted, patients, (0, 1))


def test_a_resample_without_a_grade_has_no_balanced_accuracy():
    """All right of grade 0, all wrong of grade 1: 0.5, and never 1 because a resample held no grade 1."""
    sample, without, other = [[3, 0], [1, 0]], [[4, 0], [0, 0]], [[2, 0], [2, 0]]
    found = balanced_accuracy(np.array([sample, without, other], float))
    assert found[0] == found[2] == 0.5 and math.isnan(found[1])
    assert balanced_accuracy(np.array(without, float)) == 1  # of a sample that holds one grade alone
    patients = np.arange(12)
    truth = (patients < 2).astype(int)
    table = scored(truth, np.full((12, 2), 0.5), np.zeros(12, int), patients, (0, 1))
    assert table.loc["balanced accuracy", ["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]


def models_of(n: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two models of the same discs, the second nearly the first: 6 discs of each of n patients."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 6 * n)
    base = pd.DataFrame({"patient": np.repeat(np.arange(n), 6), "disc": np.tile(np.arange(6), n), "truth": truth, "fold": 0})
    score = 0.4 * truth + 0.6 * rng.random(6 * n)
    tables = []
    for one in (score, np.clip(score - 0.05 * truth, 0, 1)):
        tables.append(base.assign(p0=1 - one, p1=one, predicted=(one > 0.5).astype(int)))
    return tables[0], tables[1]


def test_gains_are_of_pairs():
    a, b = models_of(30)
    found = grade_gains(a, b.sample(frac=1, random_state=1), (0, 1)).set_index("metric")
    alone = [
        scored(t["truth"], t[["p0", "p1"]].to_numpy(), t["predicted"], t["patient"], (0, 1), folds=t["fold"]) for t in (a, b)
    ]
    assert found["value"].to_dict() == pytest.approx((alone[0]["value"] - alone[1]["value"]).to_dict())
    row, single = found.loc["AUC"], alone[0].loc["AUC"]
    assert row["low"] > 0  # the gain is sure, though the intervals of both overlap
    assert single["low"] < alone[1].loc["AUC", "high"] and row["high"] - row["low"] < (single["high"] - single["low"]) / 2
    swapped = grade_gains(b, a, (0, 1)).set_index("metric")
    np.testing.assert_allclose(swapped[["value", "low", "high"]], -found[["value", "high", "low"]].to_numpy())
    np.testing.assert_array_equal(grade_gains(a, a, (0, 1))[["value", "low", "high"]], 0)


def test_gains_of_other_discs_are_refused():
    a, b = models_of(3)
    for other in (b.iloc[1:], b.assign(fold=1), b.assign(truth=1 - b["truth"])):
        with pytest.raises(ValueError, match="same discs"):
            grade_gains(a, other, (0, 1))


# -------------------------------------------------------------------------------------------------------------- prevalence


def table_of(patients: list[int], **columns: list) -> pd.DataFrame:
    discs = pd.Series(patients).groupby(patients).cumcount() + 1
    base = pd.DataFrame({"patient": patients, "disc": discs, "level": discs.astype(str)})
    for column, finding in FINDINGS.items():
        base[column] = pd.array(columns.get(column, [finding.grades[0]] * len(patients)), dtype="Int64")
    return base


def test_prevalence_by_hand():
    table = table_of([1, 1, 2, 2], **{"Pfirrman grade": [5, 4, 3, None], "Disc bulging": [1, 1, 0, 0]})
    found = prevalence(table).set_index("finding")
    assert found.loc["Pfirrmann grade 4 to 5", ["discs", "count", "patients"]].tolist() == [3, 2, 2]
    assert found.loc["disc bulging", ["share", "low", "high"]].tolist() == [0.5, 0, 1]  # one patient all, one none
    by_level = prevalence(table, by_level=True)
    assert by_level[by_level["finding"] == "disc bulging"]["count"].tolist() == [1, 1]
    grades = prevalence(table, every_grade=True)
    assert grades[grades["finding"] == "Pfirrmann grade"]["count"].tolist() == [0, 0, 1, 1, 1]


def test_a_share_of_nothing_still_has_an_interval():
    low, high = share_interval(np.zeros(40, bool), np.repeat(np.arange(10), 4))
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 10))  # of ten patients, not of forty discs
    low, high = share_interval(np.ones(40, bool), np.repeat(np.arange(10), 4))
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 10))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_intervals_hold_their_share_and_its_mirror(pair):
    count, n = pair
    low, high = exact_interval(count, n)
    assert 0 <= low <= count / n <= high <= 1
    mirrored = exact_interval(n - count, n)
    assert low == pytest.approx(1 - mirrored[1], abs=1e-9)


def test_co_occurrence_by_hand():
    rng = np.random.default_rng(0)
    bulging = rng.integers(0, 2, 200)
    table = table_of(list(np.repeat(np.arange(40), 5)), **{"Disc bulging": list(bulging), "Disc narrowing": list(bulging)})
    found = co_occurrence(table).set_index(["finding", "given"])
    row = found.loc[("disc narrowing", "disc bulging")]
    assert (row["with_given"], row["without_given"], row["difference"], row["low"], row["high"]) == (1, 0, 1, 1, 1)
    assert row["both"] == bulging.sum()
    unknown = found.loc[("disc bulging", "spondylolisthesis")]
    assert math.isnan(unknown["with_given"]) and math.isnan(unknown["low"])
    assert len(found) == 8 * 7


# --------------------------------------------------------------------------------------------------------------- detection


def test_the_printed_rates_follow_from_the_printed_counts_cut_off_not_rounded():
    """Table 5: every rate is that of its counts with digits dropped; three are not what rounding gives."""
    found = check_rates(printed("table5"))
    assert set(found["follows"]) == {"rounded", "cut off"}
    cut = found[found["follows"] == "cut off"]
    assert set(zip(cut["unit"], cut["rate"], strict=True)) == {
        ("axial slice", "sensitivity"), ("axial slice", "precision"), ("disc", "accuracy"),
    }  # fmt: skip
    assert printed("table5").set_index("unit")[["TP", "TN", "FP", "FN"]].sum(axis=1).to_dict() == {"axial slice": 362, "disc": 64}


def test_table6_as_printed():
    assert printed("table6")["error_pixels"].tolist() == [3, 2, 1.3]
    with pytest.raises(KitError, match="table5"):
        printed("table7")


def test_rates_by_hand():
    assert rates({"TP": 18, "TN": 39, "FP": 1, "FN": 6}) == {
        "accuracy": 57 / 64, "sensitivity": 0.75, "specificity": 0.975, "precision": 18 / 19,
    }  # fmt: skip
    assert math.isnan(rates({"TP": 0, "TN": 5, "FP": 0, "FN": 0})["sensitivity"])
    assert how_rounded(0.5, math.nan) == "undefined"
    assert (how_rounded(0.667, 2 / 3), how_rounded(0.666, 2 / 3), how_rounded(0.668, 2 / 3)) == ("rounded", "cut off", "neither")


def test_detection_counts_and_intervals():
    rng = np.random.default_rng(2)
    truth, patients = rng.random(300) < 0.2, np.repeat(np.arange(60), 5)
    found = np.where(rng.random(300) < 0.1, ~truth, truth)
    row = detection_row(truth, found, patients)
    assert sum(row[name] for name in ("TP", "TN", "FP", "FN")) == row["n"] == 300 and row["patients"] == 60
    assert row["accuracy"] == pytest.approx((truth == found).mean())
    assert row["sensitivity"] == pytest.approx(found[truth].mean()) and row["precision"] == pytest.approx(truth[found].mean())
    for name in RATES:
        assert row[f"{name} low"] < row[name] < row[f"{name} high"]
    with pytest.raises(ValueError, match="fit"):
        detection_row(truth, found[1:], patients)


def test_errors_are_absolute_means_without_gaps():
    row = error_row(np.array([-1.0, 3.0, np.nan]), np.array([1, 2, 3]))
    assert row["error"] == 2 and row["n"] == 2 and row["patients"] == 2
