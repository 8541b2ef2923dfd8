"""Measured against true values: every count and mean worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.evaluation.measured import decision_table, error_table, false_hernias, hernia_counts


def rows(quantity: str, *values: tuple[str, int, float, float]) -> pd.DataFrame:
    table = pd.DataFrame(values, columns=["case", "label", "value", "truth"])
    return table.assign(quantity=quantity, patient=table["case"].str.split("_").str[0].astype(int))


def test_errors_count_what_is_missing_and_keep_the_sign_of_the_bias():
    table = rows("slip", ("1_t1", 201, 3.0, 1.0), ("1_t1", 202, 0.0, 1.0), ("2_t1", 201, np.nan, 4.0), ("2_t1", 202, 5.0, 4.0))
    found = error_table(table, {"slip": "mm", "lordosis": "deg"})
    assert list(found.index) == ["slip"], "a quantity that nobody measured has no row"
    row = found.loc["slip"]
    assert (row["unit"], row["n"], row["missing"]) == ("mm", 3, 1)
    assert row["mean abs. error"] == pytest.approx(4 / 3) and row["bias"] == pytest.approx(2 / 3)
    assert row["low"] == pytest.approx(1.0) and row["high"] == pytest.approx(1.5), "means of patient 2 alone and of patient 1"


def hernias() -> pd.DataFrame:
    """Series 1: the true disc is found and the highest. Series 2: a false one is higher. Series 3: nothing is found."""
    flags = rows(
        "herniated",
        ("1_t1", 201, 1, 1), ("1_t1", 202, 1, 0), ("2_t1", 201, 1, 1), ("2_t1", 202, 1, 0), ("3_t1", 201, 0, 1),
        ("3_t1", 202, np.nan, 1), ("3_t2", 201, 0, 0),
    )  # fmt: skip
    heights = rows(
        "overhang",
        ("1_t1", 201, 6.0, 5.0), ("1_t1", 202, 3.5, 2.0), ("2_t1", 201, 4.0, 4.0), ("2_t1", 202, 4.5, 1.0),
        ("3_t1", 201, 1.0, 4.0), ("3_t1", 202, 9.0, 9.0), ("3_t2", 201, 0.5, 0.5),
    )  # fmt: skip
    return pd.concat([flags, heights], ignore_index=True)


def test_hernias_are_found_or_not_and_the_highest_one_names_the_level():
    assert hernia_counts(hernias()) == {
        "discs found": "2 of 3",
        "others called herniated": "2 of 3",
        "series with the level right": "1 of 3 (of 3 patients)",
    }
    false = false_hernias(hernias())
    assert false["case"].tolist() == ["1_t1", "2_t1"] and false["label"].tolist() == [202, 202]
    assert false["overhang"].tolist() == [3.5, 4.5] and false["true overhang"].tolist() == [2.0, 1.0]


def test_without_hernias_nothing_is_counted():
    none = hernias().assign(truth=0)
    assert hernia_counts(none)["series with the level right"] == "0 of 0 (of 0 patients)"
    assert false_hernias(none.assign(value=0)).empty


def test_decisions_stand_beside_always_no():
    table = rows("canal", ("1_t1", 201, 9.0, 11.0), ("1_t1", 202, 9.0, 8.0), ("2_t1", 201, 12.0, 9.5), ("2_t1", 202, np.nan, 5.0))
    found = decision_table(table, {"narrow": ("canal", lambda mm: mm < 10)}, "a network")
    assert found["answers from"].tolist() == ["a network", "always no"]
    assert found[["levels", "true", "missed", "false alarm"]].to_numpy().tolist() == [[3, 2, 1, 1], [3, 2, 2, 0]]
