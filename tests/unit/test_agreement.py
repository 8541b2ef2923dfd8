"""Limits of agreement against values worked out by hand and against an analysis of variance done in full."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.evaluation.agreement import agreement
from spider_utils.evaluation.measured import agreement_by_quantity


def test_pairs_of_different_patients_by_hand():
    found = agreement([1.0, 2.0, 4.0, np.nan], [0.0, 3.0, 1.0, 5.0])  # differences 1, -1, 3
    assert (found.bias, found.spread, found.n, found.patients) == (1.0, 2.0, 3, 3)
    assert (found.low, found.high) == pytest.approx((1 - 3.92, 1 + 3.92)) and found.mean_absolute == pytest.approx(5 / 3)


def test_values_of_one_patient_are_not_independent():
    # Two patients with three values each: within-patient variance 1, between means 10 and 0.
    first = np.array([9.0, 10.0, 11.0, -1.0, 0.0, 1.0])
    found = agreement(first, np.zeros(6), list("aaabbb"))
    # mean squares: within 4 / 4 = 1; between 3 * (25 + 25) / 1 = 150; a patient's own part (150 - 1) / 3.
    assert found.bias == 5 and found.spread == pytest.approx(np.sqrt(1 + 149 / 3)) and found.patients == 2
    assert found.spread > first.std(ddof=1)


def test_uneven_patients_agree_with_a_simulation():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(4000), rng.integers(1, 8, 4000))
    differences = 0.5 + rng.normal(0, 2, 4000)[patients] + rng.normal(0, 1, len(patients))
    found = agreement(differences, np.zeros(len(patients)), patients)
    assert found.spread == pytest.approx(np.sqrt(5), rel=0.03) and found.bias == pytest.approx(0.5, abs=0.1)


def test_a_row_a_quantity():
    rows = [("slip", 1.0, 0.0, "a"), ("slip", 2.0, 3.0, "b"), ("slip", 4.0, 1.0, "c"), ("disc depth", 5.0, 5.0, "a")]
    table = pd.DataFrame(rows, columns=["quantity", "value", "truth", "patient"]).assign(status="measured")
    lost = pd.DataFrame([("slip", np.nan, 2.0, "d", "not measurable: cut")], columns=table.columns)
    (found,) = agreement_by_quantity(pd.concat([table, lost]), ("slip", "disc depth", "overhang")).to_dict("records")
    assert (found["quantity"], found["n"], found["missing"], found["worst"]) == ("slip", 3, 1, 3.0)
    assert found["median"] == 1.0
    assert (found["bias"], found["MAE"]) == pytest.approx((1.0, 5 / 3)) and (found["low"], found["high"]) == pytest.approx(
        (-2.92, 4.92)
    )
    assert 1 <= found["MAE from"] <= found["MAE"] <= found["MAE to"] <= 3


def test_bad_input():
    with pytest.raises(ValueError, match="two pairs"):
        agreement([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="one of each"):
        agreement([1.0, 2.0], [1.0, 2.0], ["a"])
