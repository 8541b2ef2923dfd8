"""Means, intervals and paired comparisons: by hand, by simulation, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from spider_utils.evaluation.metrics import REGION_METRICS, measure_case
from spider_utils.evaluation.statistics import (
    FOREGROUND,
    SUMMARY_COLUMNS,
    bootstrap_interval,
    compare,
    format_summary,
    paired_bootstrap,
    pooled,
    summarise,
    wilcoxon_test,
)

NAN = float("nan")


def cases(scores, classes=(1, 2)):
    """A table of cases: {case: (truth row, prediction row)}; the patient is what stands before the first "_"."""
    tables = []
    for case, (truth, prediction) in scores.items():
        rows = measure_case(np.array([truth]), np.array([prediction]), (1.0, 1.0), classes, 1.0)
        tables.append(rows.assign(case=case, patient=case.split("_")[0]))
    return pd.concat(tables, ignore_index=True)


def random_cases(seed, patients=8, series=2, noise=0.15):
    rng = np.random.default_rng(seed)
    scores = {}
    for patient in range(patients):
        own = rng.uniform(0, noise)
        for k in range(series):
            truth = np.repeat([0, 1, 2], 30)
            flip = rng.random(truth.size) < own
            scores[f"{patient}_{k}"] = (truth, np.where(flip, rng.integers(0, 3, truth.size), truth))
    return cases(scores, classes=(0, 1, 2))


def row_of(summary, label, metric):
    found = summary[(summary["class"] == label) & (summary["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


# -------------------------------------------------------------------------------------------------------------- intervals


def test_interval_of_two_groups_by_hand():
    # Two patients with means 0 and 1: a resample's mean is 0, 0.5 or 1 with probability 1/4, 1/2, 1/4.
    found = bootstrap_interval([0, 1], confidence=0.95)
    assert (found.estimate, found.low, found.high, found.n, found.n_groups) == (0.5, 0, 1, 2, 2)
    assert bootstrap_interval([0, 1], confidence=0.4).low == 0.5


def test_values_of_a_patient_move_together():
    # The same two patients, ten images each: no more is known about patients than before.
    found = bootstrap_interval([0] * 10 + [1] * 10, ["a"] * 10 + ["b"] * 10)
    assert (found.low, found.high, found.n, found.n_groups) == (0, 1, 20, 2)
    alone = bootstrap_interval([0] * 10 + [1] * 10)
    assert 0 < alone.low < alone.high < 1


def test_clustered_interval_is_wider_when_patients_correlate():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 5)
    values = rng.normal(size=30)[patients] + 0.1 * rng.normal(size=150)
    clustered, naive = bootstrap_interval(values, patients), bootstrap_interval(values)
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    # Five nearly identical values each: theory says sqrt(5) = 2.24.
    assert 1.9 < ratio < 2.6
    assert clustered.estimate == naive.estimate


def test_clustered_interval_is_as_wide_when_they_do_not():
    values, patients = np.random.default_rng(1).normal(size=150), np.repeat(np.arange(30), 5)
    clustered, naive = bootstrap_interval(values, patients), bootstrap_interval(values)
    assert 0.7 < (clustered.high - clustered.low) / (naive.high - naive.low) < 1.4


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 3)
    clustered = naive = 0
    for _ in range(300):
        values = rng.normal(size=40)[patients] + 0.3 * rng.normal(size=120)
        found, alone = bootstrap_interval(values, patients, n_boot=500), bootstrap_interval(values, n_boot=500)
        clustered += found.low <= 0 <= found.high
        naive += alone.low <= 0 <= alone.high
    assert 0.91 <= clustered / 300 <= 0.98
    assert naive / 300 < 0.85  # what ignoring the patients would have claimed as 95 %


def test_interval_agrees_with_the_normal_approximation():
    values = np.random.default_rng(3).normal(5, 2, size=400)
    found = bootstrap_interval(values, n_boot=4000)
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    assert (found.low + found.high) / 2 == pytest.approx(values.mean(), abs=0.05)


def test_interval_repeats_exactly_and_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(4)
    values, patients = rng.normal(size=60), np.repeat([f"p{i}" for i in range(20)], 3)
    first = bootstrap_interval(values, patients, seed=7)
    assert bootstrap_interval(values, patients, seed=7) == first
    order = np.lexsort((np.arange(60), -np.repeat(np.arange(20), 3)))  # patients backwards
    again = bootstrap_interval(values[order], patients[order], seed=7)
    assert (again.low, again.high) == pytest.approx((first.low, first.high), rel=1e-12)
    assert bootstrap_interval(values, patients, seed=8) != first


def test_missing_values_are_left_out_and_counted():
    found = bootstrap_interval([1, NAN, 3, NAN], ["a", "a", "b", "c"])
    assert (found.estimate, found.n, found.n_groups, found.left_out) == (2, 2, 2, 2)
    empty = bootstrap_interval([NAN, NAN])
    assert (empty.n, empty.n_groups) == (0, 0)
    assert np.isnan([empty.estimate, empty.low, empty.high]).all()


def test_one_patient_has_a_mean_but_no_interval():
    found = bootstrap_interval([0.8, 0.9], ["a", "a"])
    assert found.estimate == pytest.approx(0.85)
    assert np.isnan([found.low, found.high]).all()
    assert "n = 2 of 1 patients" in str(found)


@pytest.mark.parametrize("bad", [{"n_boot": 0}, {"confidence": 1.0}, {"confidence": 0.0}, {"groups": ["a"]}])
def test_interval_refuses(bad):
    with pytest.raises(ValueError):
        bootstrap_interval([1.0, 2.0], **bad)


# ------------------------------------------------------------------------------------------------------------------ pairs


def test_pairing_removes_what_the_cases_share():
    rng = np.random.default_rng(5)
    base = rng.normal(0.8, 0.1, size=40)
    a, b = base + 0.02 + 0.005 * rng.normal(size=40), base + 0.005 * rng.normal(size=40)
    found = paired_bootstrap(a, b)
    assert 0 < found.low < 0.02 < found.high < 0.03
    assert wilcoxon_test(a, b).p_value < 1e-6
    backwards = paired_bootstrap(b, a)
    assert (backwards.low, backwards.high) == pytest.approx((-found.high, -found.low), abs=1e-3)


def test_pairs_with_a_missing_side_are_left_out():
    found = paired_bootstrap([1, NAN, 3, 5], [0, 1, NAN, 3], ["a", "b", "c", "d"])
    assert (found.estimate, found.n, found.n_groups, found.left_out) == (1.5, 2, 2, 2)


def test_wilcoxon_uses_one_difference_a_patient():
    rng = np.random.default_rng(6)
    patients = np.repeat(np.arange(12), 4)
    a, b = rng.normal(size=48), rng.normal(size=48)
    a[5] = NAN
    found = wilcoxon_test(a, b, patients)
    means = pd.Series(a - b).groupby(patients).mean()
    expected = stats.wilcoxon(means)
    assert (found.p_value, found.statistic, found.n) == (expected.pvalue, expected.statistic, 12)
    assert wilcoxon_test(np.tile(a, 1), b).n == 47


def test_wilcoxon_by_hand_and_at_its_edges():
    # Five differences of one sign: 2 of the 2^5 sign patterns are as extreme.
    assert wilcoxon_test([1.1, 2.2, 3.3, 4.4, 5.5], [0] * 5).p_value == pytest.approx(2 / 32)
    assert wilcoxon_test([1, 2, 3], [1, 2, 3]).p_value == 1.0
    nothing = wilcoxon_test([NAN], [1])
    assert np.isnan(nothing.p_value) and nothing.n == 0


def test_pairs_of_different_length_are_refused():
    for function in (paired_bootstrap, wilcoxon_test):
        with pytest.raises(ValueError, match="one length"):
            function([1, 2], [1, 2, 3])


# ----------------------------------------------------------------------------------------------------------------- tables

# Patient 7 has two series. Class 1: right, half found; patient 8 has it missed. Class 2: absent, false; patient 8 right.
SMALL = {
    "7_t1": ([0, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0]),
    "7_t2": ([0, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0, 2, 2]),
    "8_t1": ([0, 1, 1, 0, 0, 2, 2, 2], [0, 0, 0, 0, 0, 2, 2, 2]),
}


def test_summary_by_hand():
    summary = summarise(cases(SMALL))
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    one = row_of(summary, 1, "dice")
    dice = [1, 4 / 6, 0]
    assert one["mean"] == pytest.approx(np.mean(dice))
    assert one["std"] == pytest.approx(np.std(dice, ddof=1))
    assert one[["n", "unit", "patients", "absent", "missed", "false"]].tolist() == [3, "slice", 2, 0, 1, 0]
    # Patients 7 (mean of two) and 8: resampled means are 0, all three, or patient 7's own.
    assert (one["low"], one["high"]) == pytest.approx((0, 5 / 6))
    assert (one["tolerance_mm"], one["confidence"], one["view"]) == (1.0, 0.95, "mean")
    two = row_of(summary, 2, "dice")
    assert two["mean"] == 0.5
    assert two[["n", "patients", "absent", "missed", "false"]].tolist() == [2, 2, 1, 0, 1]
    assert row_of(summary, 2, "asd_mm")[["mean", "n", "patients"]].tolist() == [0, 1, 1]
    assert np.isnan(row_of(summary, 2, "asd_mm")["low"])
    foreground = row_of(summary, FOREGROUND, "dice")
    assert foreground["mean"] == pytest.approx(np.mean([1, 2 / 6, 0.5]))
    assert foreground[["n", "absent", "missed", "false"]].tolist() == [3, 1, 1, 1]


def test_summary_by_patient_averages_the_patient_first():
    summary = summarise(cases(SMALL), unit="patient")
    one = row_of(summary, 1, "dice")
    assert one["mean"] == pytest.approx((5 / 6 + 0) / 2)
    assert one[["n", "unit", "patients", "missed"]].tolist() == [2, "patient", 2, 1]


def test_background_stays_out_of_the_foreground_mean():
    table = random_cases(0)
    summary = summarise(table)
    expected = table[table["class"] != 0].groupby("case")["dice"].mean().mean()
    assert row_of(summary, FOREGROUND, "dice")["mean"] == pytest.approx(expected)
    assert row_of(summary, 0, "dice")["n"] == 16
    only_background = summarise(table[table["class"] == 0])
    assert FOREGROUND not in only_background["class"].to_numpy()


def test_pooled_by_hand():
    summary = pooled(cases(SMALL))
    one = row_of(summary, 1, "dice")
    # tp 4 + 2 + 0, fp 0, fn 0 + 2 + 2.
    assert one["mean"] == pytest.approx(12 / 16)
    assert row_of(summary, 1, "iou")["mean"] == pytest.approx(6 / 10)
    assert row_of(summary, 1, "recall")["mean"] == pytest.approx(6 / 10)
    assert row_of(summary, 1, "precision")[["mean", "n", "patients"]].tolist() == [1, 2, 1]
    assert one[["view", "n", "unit", "patients", "missed"]].tolist() == ["pooled", 3, "slice", 2, 1]
    assert (one["low"], one["high"]) == pytest.approx((0, 12 / 14))
    foreground = row_of(summary, FOREGROUND, "dice")
    assert foreground["mean"] == pytest.approx((12 / 16 + 6 / 8) / 2)
    # Patient 7 alone: (12 / 14 + 0) / 2; patient 8 alone: (0 + 1) / 2; both: 3 / 4.
    assert (foreground["low"], foreground["high"]) == pytest.approx((3 / 7, 3 / 4))


def test_pooled_interval_is_over_the_patients_that_hold_the_class():
    # A rare class, in two of ten patients: resamples without it would have no score.
    without = ([0, 1, 1, 0], [0, 1, 1, 0])
    scores = {f"{n}_t1": without for n in range(8)} | {"8_t1": ([0, 2, 2, 2], [0, 2, 2, 2]), "9_t1": ([0, 2, 0, 0], [0, 0, 0, 0])}
    found = row_of(pooled(cases(scores)), 2, "dice")
    assert found[["n", "patients", "absent", "missed"]].tolist() == [2, 2, 8, 1]
    assert found[["low", "mean", "high"]].tolist() == pytest.approx([0, 6 / 7, 1])


def test_pooled_scores_obey_the_identity_of_one_region():
    summary = pooled(random_cases(1)).pivot(index="class", columns="metric", values="mean").drop(index=FOREGROUND)
    np.testing.assert_allclose(summary["dice"], 2 * summary["iou"] / (1 + summary["iou"]))
    np.testing.assert_allclose(summary["dice"], summary["f1"])
    assert set(summary.columns) == set(REGION_METRICS)


def test_tables_repeat_exactly():
    for function in (summarise, pooled):
        pd.testing.assert_frame_equal(function(random_cases(2)), function(random_cases(2)))


def test_summary_holds_estimates_inside_their_intervals():
    for summary in (summarise(random_cases(3)), pooled(random_cases(3))):
        defined = summary.dropna(subset="mean")
        assert set(defined["class"]) == {0, 1, 2, FOREGROUND}
        assert (defined["low"] <= defined["mean"]).all() and (defined["mean"] <= defined["high"]).all()


def test_compare_finds_the_better_model():
    good, bad = random_cases(4, noise=0.1), random_cases(4, noise=0.4)
    found = compare(good, bad).set_index("class")
    assert found.index.tolist() == [0, 1, 2, FOREGROUND]
    best = found.loc[FOREGROUND]
    assert best["difference"] == pytest.approx(best["mean_a"] - best["mean_b"])
    assert best["low"] > 0 and best["p_wilcoxon"] < 0.05
    assert best[["n", "unit", "patients", "left_out"]].tolist() == [16, "slice", 8, 0]
    shuffled = compare(good, bad.sample(frac=1, random_state=0)).set_index("class")
    pd.testing.assert_frame_equal(shuffled, found)
    same = compare(good, good)
    assert (same["difference"] == 0).all() and (same["p_wilcoxon"] == 1).all()


def test_compare_leaves_out_cases_without_a_value_on_either_side():
    perfect = {case: (truth, truth) for case, (truth, _) in SMALL.items()}
    found = compare(cases(SMALL), cases(perfect)).set_index("class")
    # Class 2 in 7_t1 is absent from both tables; in 7_t2 it is false in one, absent (no score) in the other.
    assert found.loc[2, ["n", "left_out"]].tolist() == [1, 2]
    assert found.loc[1, "difference"] == pytest.approx((0 - 2 / 6 - 1) / 3)


def test_tables_that_do_not_fit_are_refused():
    table = cases(SMALL)
    with pytest.raises(ValueError, match="no column patient"):
        summarise(table.drop(columns="patient"))
    with pytest.raises(ValueError, match="twice"):
        summarise(pd.concat([table, table]))
    with pytest.raises(ValueError, match="no rows"):
        pooled(table.iloc[:0])
    with pytest.raises(ValueError, match="mixes tolerance_mm"):
        summarise(table.assign(tolerance_mm=np.arange(len(table))))
    with pytest.raises(ValueError, match="unit must be 'slice'"):
        summarise(table, unit="volume")
    with pytest.raises(ValueError, match="same cases"):
        compare(table, table[table["case"] != "8_t1"])
    with pytest.raises(ValueError, match="no column nonsense"):
        compare(table, table, metric="nonsense")


def test_console_table_states_what_it_shows():
    table = cases(SMALL, classes={0: "background", 1: "vertebra", 2: "disc", 3: "never"})
    text = format_summary(pd.concat([summarise(table), pooled(table)]))
    lines = text.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["0 background", "1 vertebra", "2 disc", "foreground mean"]
    assert "never" not in text
    assert lines[2].split()[2:6] == ["0.556", "[0.000,", "0.833]", "0.750"]
    for stated in ("ASD mm", "NSD 1 mm", "slices", "patients", "95% interval, bootstrap over patients", "missed"):
        assert stated in text
    assert lines[1].count("–") == 3  # background has no distances
    with pytest.raises(ValueError, match="no means"):
        format_summary(pooled(table))
