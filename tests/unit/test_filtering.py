"""The filter of `ahmed` on masks whose shares are plain to see."""

import numpy as np
import pytest

from spider_utils.data.filtering import READINGS, class_weights, filter_table, has_all_classes


def mask(*counts):
    """A slice of 10 x 10 pixels with so many of vertebra, canal and disc; the rest is background."""
    values = np.repeat([1, 2, 3], counts)
    return np.concatenate([values, np.zeros(100 - len(values), int)]).reshape(10, 10)


def test_class_weights_are_shares():
    weights = class_weights(np.stack([mask(20, 5, 10), mask(0, 0, 0)]))
    np.testing.assert_allclose(weights, [[0.65, 0.2, 0.05, 0.1], [1, 0, 0, 0]])
    assert has_all_classes(weights).tolist() == [True, False]
    assert class_weights(np.zeros((0, 2, 2), int)).shape == (0, 4)
    with pytest.raises(ValueError, match="class 4"):
        class_weights(np.full((1, 2, 2), 4))


def test_readings_by_hand():
    weights = class_weights(np.stack([mask(20, 5, 10)]))
    expected = {
        "highest / lowest, % a slip": 0.13,
        "highest / lowest": 0.65 / 0.05,
        "lowest / highest": 0.05 / 0.65,
        "highest / lowest, structures": 4,
        "lowest / highest, structures": 0.25,
        "highest share": 0.65,
        "highest share, structures": 20 / 35,
        "share of structures": 0.35,
    }
    assert {name: pytest.approx(float(ratio(weights)[0])) for name, ratio in READINGS.items()} == expected


def test_the_printed_formula_is_never_below_one():
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    assert (READINGS["highest / lowest"](weights) >= 1).all()


def test_a_missing_class_and_an_empty_slice_are_no_division_by_zero():
    weights = class_weights(np.stack([mask(20, 0, 10), mask(0, 0, 0)]))
    assert READINGS["highest / lowest"](weights).tolist() == [np.inf, np.inf]
    assert READINGS["lowest / highest"](weights).tolist() == [0, 0]
    assert READINGS["highest share, structures"](weights)[1] == 0


def test_both_steps_are_counted_by_sequence():
    weights = class_weights(np.stack([mask(20, 5, 10), mask(8, 6, 7), mask(20, 0, 10), mask(20, 5, 10)]))
    table = filter_table(weights, np.array(["t1", "t1", "t1", "t2"])).set_index(["sequence", "reading"])
    row = table.loc[("t1", "highest share, structures")]
    assert (row["slices"], row["without_all"], row["above"]) == (3, 1, 1)  # 20 of 35 is above 55 %, 8 of 21 is not
    assert row["before"] == pytest.approx(28 / 56) and row["after"] == pytest.approx(8 / 21)
    assert table.loc[("t2", "highest / lowest"), "above"] == 1 and np.isnan(table.loc[("t2", "highest / lowest"), "after"])
    # The formula itself: 13 and 79 / 6, as plain numbers below 55; at the text's word both are far above 55 %.
    plain = table.loc[("t1", "highest / lowest, % a slip")]
    assert plain["above"] == 0 and plain["before"] == pytest.approx(144 / 11 / 100)
    assert (row["printed_before"], row["printed_after"]) == (0.57, 0.55)
