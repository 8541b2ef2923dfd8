"""What the masks that `ahmed` released show of its cleaning and filtering (numbers of docs/results/ahmed.md)."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.data.explore import disc_contacts
from spider_utils.data.filtering import READINGS, class_weights, filter_table
from spider_utils.data.sources import open_source


@pytest.fixture(scope="module")
def masks(real_data) -> list[np.ndarray]:
    source = open_source("spider-2d", real_data / "spider_t2space_2d")
    return [source.load(case).mask.array for case in source.cases["case"]]


@pytest.mark.real_data("spider_t2space_2d")
def test_the_printed_imbalance_ratio_is_the_formula_with_a_percent_sign_too_much(masks):
    weights = np.concatenate([class_weights(mask) for mask in masks])
    table = filter_table(weights, np.array(["t2_SPACE"] * len(weights))).set_index("reading")
    assert (table["slices"] == 622).all() and (table["without_all"] == 0).all(), "the slices went through the first step already"
    expected = {
        "highest / lowest, % a slip": 0.397,
        "highest / lowest": 39.7,
        "lowest / highest": 0.025,
        "highest / lowest, structures": 4.41,
        "lowest / highest, structures": 0.227,
        "highest share": 0.851,
        "highest share, structures": 0.635,
        "share of structures": 0.149,
    }
    assert list(expected) == list(READINGS)
    for reading, value in expected.items():
        assert table.loc[reading, "before"] == pytest.approx(value, rel=0.02)
    # Printed: 40 % before filtering, 37 % after it. Only the formula itself, without "%", comes near both.
    near = (table["before"] - 0.40).abs() < 0.05
    assert near[near].index.tolist() == ["highest / lowest, % a slip"]
    slip = table.loc["highest / lowest, % a slip"]
    assert slip["above"] == 83 and slip["after"] == pytest.approx(0.381, abs=0.001)
    assert table.loc["highest / lowest", "above"] == 622, "at its word the rule drops every slice"


@pytest.mark.real_data("spider_t2space_2d")
def test_discs_lie_in_a_frame_of_background(masks):
    contacts = [disc_contacts(mask) for mask in masks]
    assert np.mean([one["background"] for one in contacts]) == pytest.approx(0.930, abs=0.005)
    assert np.mean([one["vertebra"] for one in contacts]) < 0.06
