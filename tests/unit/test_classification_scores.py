"""Scores of classifiers: by hand, against scikit-learn, and intervals against resampling row by row."""

import numpy as np
import pytest
from sklearn import metrics

from spider_utils.evaluation import classification as cls
from spider_utils.evaluation.statistics import times_drawn

TRUTH = np.array([0, 0, 1, 2])
GIVEN = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])


def drawn(n=60, classes=4, seed=0):
    random = np.random.default_rng(seed)
    given = random.dirichlet(np.ones(classes), n).round(2) + 1e-4  # rounded: with ties
    return random.integers(0, classes, n), given / given.sum(axis=1, keepdims=True), random.integers(0, 7, n)


def value(table, metric, name=cls.ALL):
    return table.set_index(["metric", "name"]).loc[(metric, name), "value"]


def test_by_hand():
    table = cls.score_table(TRUTH, GIVEN, [1, 1, 2, 2], ["a", "b", "c"])
    assert cls.confusion_counts(TRUTH, GIVEN.argmax(1), 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert value(table, "accuracy") == 0.5
    assert value(table, "balanced accuracy") == pytest.approx((0.5 + 1 + 0) / 3)
    assert value(table, "AUC", "a") == pytest.approx(3 / 4)  # .7 beats .2 and .6, .3 beats .2 alone
    assert value(table, "AUC", "c") == pytest.approx(0.5 / 3)  # .1 ties with one and loses against two
    assert value(table, "Brier score") == pytest.approx(np.mean([0.14, 0.74, 0.38, 1.26]))
    # Bins: (.3, .4] holds .4 wrong, (.4, .5] .5 right, (.5, .6] .6 wrong, (.6, .7] .7 right.
    assert value(table, "calibration error") == pytest.approx((0.4 + 0.5 + 0.6 + 0.3) / 4)
    assert value(table, "log loss") == pytest.approx(-np.log([0.7, 0.3, 0.5, 0.1]).mean())
    assert table["studies"].unique().tolist() == [2]


def test_as_scikit_learn():
    truth, given, studies = drawn()
    table, hot = cls.score_table(truth, given, studies, list("abcd")), np.eye(4)[truth]
    assert value(table, "balanced accuracy") == pytest.approx(metrics.balanced_accuracy_score(truth, given.argmax(1)))
    for k, name in enumerate("abcd"):
        assert value(table, "AUC", name) == pytest.approx(metrics.roc_auc_score(hot[:, k], given[:, k]))
        assert cls.class_auc(truth == k, given[:, k]) == pytest.approx(value(table, "AUC", name))
        false, found = cls.roc_curve(truth == k, given[:, k])
        assert np.trapezoid(found, false) == pytest.approx(value(table, "AUC", name))
    assert value(table, "AUC") == pytest.approx(metrics.roc_auc_score(truth, given, multi_class="ovr"))
    assert value(table, "log loss") == pytest.approx(metrics.log_loss(truth, given))


def test_intervals_are_those_of_resampled_studies():
    truth, given, studies = drawn(40, 3, 5)
    table, names = cls.score_table(truth, given, studies, list("abc"), n_boot=200), np.unique(studies)
    found = {"accuracy": [], "balanced accuracy": [], "AUC": [], "calibration error": [], "Brier score": []}
    for times in times_drawn(len(names), 200, 0).astype(int):
        rows = np.concatenate([np.flatnonzero(studies == s) for s, k in zip(names, times, strict=True) for _ in range(k)])
        t, p = truth[rows], given[rows]
        found["accuracy"].append((p.argmax(1) == t).mean())
        found["balanced accuracy"].append(cls.balanced_accuracy(cls.confusion_counts(t, p.argmax(1), 3)))
        found["AUC"].append(np.nanmean([cls.class_auc(t == k, p[:, k]) for k in range(3)]))
        found["calibration error"].append(cls.calibration_error(t, p))
        found["Brier score"].append(cls.brier_score(t, p).mean())
    for metric, draws in found.items():
        row = table[(table["metric"] == metric) & (table["name"] == cls.ALL)].iloc[0]
        assert [row["low"], row["high"]] == pytest.approx(np.quantile(draws, [0.025, 0.975])), metric


def test_reliability_of_a_network_that_knows_its_limits():
    random = np.random.default_rng(1)
    sure = random.uniform(0.5, 1, 20_000)
    truth = (random.random(20_000) > sure).astype(int)  # class 0 as often as it says
    given = np.stack([sure, 1 - sure], axis=1)
    table = cls.reliability(truth, given)
    assert len(table) == 5 and table["n"].sum() == 20_000
    assert (table["accuracy"] - table["confidence"]).abs().max() < 0.03
    assert cls.calibration_error(truth, given) < 0.02 < 0.2 < cls.calibration_error(1 - truth, given)


def test_one_study_has_no_interval_and_a_missing_class_no_auc():
    table = cls.score_table(np.array([0, 1]), np.array([[0.9, 0.1, 0], [0.2, 0.8, 0]]), [5, 5], ["a", "b", "c"])
    assert table[["low", "high"]].isna().all().all()
    assert np.isnan(value(table, "AUC", "c")) and value(table, "AUC") == 1


@pytest.mark.parametrize(
    ("truth", "given", "studies", "said"),
    [
        (TRUTH, GIVEN, [1], "do not fit"),
        (TRUTH, GIVEN * 2, [1] * 4, "add up to 1"),
        (np.array([0, 0, 0, 3]), GIVEN, [1] * 4, "from 0 to 2"),
    ],
)
def test_refusals(truth, given, studies, said):
    with pytest.raises(ValueError, match=said):
        cls.score_table(truth, given, studies, ["a", "b", "c"])
