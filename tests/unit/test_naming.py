"""Names of levels: which number a prediction gives each true part, and what its sums say; all worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.evaluation.naming import NAME_COLUMNS, counted_names, names_path, own_names, score_names, summarise_names
from spider_utils.evaluation.statistics import bootstrap_interval
from spider_utils.labels import convert

ROWS, GAP, BODY, DISC = 140, 35, 27, 8  # of a spine in mm, which are its pixels


def truth(levels: int = 3) -> np.ndarray:
    """(1, 140, 60) in ``spider``: bodies 1, 2, ... from below in columns 10 to 43, with a disc below each."""
    mask = np.zeros((1, ROWS, 60), np.uint8)
    for level in range(1, levels + 1):
        foot = ROWS - 10 - GAP * (level - 1)
        mask[0, foot - DISC : foot, 10:44] = 200 + level
        mask[0, foot - DISC - BODY : foot - DISC, 10:44] = level
    return mask


def found(table: pd.DataFrame) -> dict[tuple[str, int], object]:
    return {(row.component, row.level): None if row.found is pd.NA else row.found for row in table.itertuples()}


def drawing(mask: np.ndarray) -> Volume:
    return Volume(mask, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())


# ------------------------------------------------------------------------------------------------------------ single parts


def test_the_truth_itself_is_right_in_all_parts():
    table = score_names(truth(), truth())
    assert table.columns.tolist() == ["component", "level", "found", "right", "shift"]
    assert list(found(table)) == [("vertebra", 1), ("vertebra", 2), ("vertebra", 3), ("disc", 1), ("disc", 2), ("disc", 3)]
    assert table["right"].all() and (table["shift"] == 0).all() and (table["found"] == table["level"]).all()


def test_most_pixels_of_the_same_kind_within_the_part_decide():
    true = np.zeros((1, 4, 10), np.uint8)
    true[0, 0], true[0, 2] = 4, 203  # ten pixels each
    named = np.zeros_like(true)
    named[0, 0] = [3, 3, 3, 3, 4, 4, 4, 201, 201, 100]  # four for L3, three for L2; disc and canal have no vote
    named[0, 2] = [203, 203, 203, 204, 204, 1, 1, 1, 1, 0]
    named[0, 1] = 4  # beside the part
    table = score_names(true, named)
    assert found(table) == {("vertebra", 4): 3, ("disc", 3): 3}
    assert table["right"].tolist() == [False, True] and table["shift"].tolist() == [-1, 0]


@pytest.mark.parametrize(("drawn", "is_found"), [(0, False), (1, False), (2, True), (10, True)])
def test_a_fifth_of_a_part_must_be_drawn(drawn, is_found):
    true, named = np.zeros((2, 1, 1, 10), np.uint8)
    true[0, 0] = 2
    named[0, 0, :drawn] = 5
    named[0, 0, drawn:] = 205  # drawn as a disc: not found as a vertebra
    row = score_names(true, named).iloc[0]
    assert (row["found"] is not pd.NA) == is_found
    if is_found:
        assert (row["found"], bool(row["right"]), row["shift"]) == (5, False, 3)
    else:
        assert row[["found", "right", "shift"]].isna().all()


def test_of_a_cut_vertebra_the_number_counts():
    true, named = np.zeros((2, 1, 1, 4), np.uint8)
    true[0, 0], named[0, 0] = 106, 6
    assert found(score_names(true, named)) == found(score_names(named, true)) == {("vertebra", 6): 6}


def test_a_truth_without_parts_has_no_rows():
    table = score_names(np.full((1, 2, 2), 100, np.uint8), truth()[:, :2, :2])
    assert not len(table) and table.columns.tolist() == ["component", "level", "found", "right", "shift"]


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        score_names(truth(), truth()[0])


@given(hnp.arrays(np.uint8, (2, 3, 6), elements=st.sampled_from([0, 1, 2, 101, 100, 201, 202])), st.integers(0, 8))
def test_all_levels_moved_alike_are_shifted_alike(mask, shift):
    moved = np.where((mask == 0) | (mask == 100), mask, mask + shift).astype(np.uint8)
    assert (score_names(mask, moved)["shift"] == shift).all()


# ------------------------------------------------------------------------------------------------------------- ways to name


def levels20(mask: np.ndarray, shift: int = 0) -> np.ndarray:
    """A drawing of a network that calls every part ``shift`` levels higher."""
    return convert(np.where(mask > 0, mask + shift, 0).astype(np.uint8), "spider", "levels20")


def test_own_names_are_the_network_s_and_counted_ones_are_not():
    drawn = drawing(levels20(truth(), shift=1))
    np.testing.assert_array_equal(own_names(drawn, "levels20"), np.where(truth() > 0, truth() + 1, 0))
    np.testing.assert_array_equal(counted_names(drawn, "levels20"), truth())


def test_own_names_are_one_number_a_part():
    mixed = levels20(truth())
    mixed[0, 60:66, 10:44] = 5  # a band in the body of L4 that the network takes for L1
    assert truth()[0, 60:66, 10:44].tolist() == np.full((6, 34), 2).tolist()
    np.testing.assert_array_equal(own_names(drawing(mixed), "levels20"), truth())


def test_a_part_too_few_at_the_lower_end_moves_what_is_counted_but_not_what_is_known():
    """The case for networks with levels: the lowest vertebra and disc are not drawn."""
    true, mask = truth(), truth()
    mask[np.isin(mask, (1, 201))] = 0
    drawn = drawing(levels20(mask))
    own, counted = (score_names(true, named(drawn, "levels20")) for named in (own_names, counted_names))
    assert found(own) == {("vertebra", 1): None, ("vertebra", 2): 2, ("vertebra", 3): 3} | {
        ("disc", 1): None, ("disc", 2): 2, ("disc", 3): 3,
    }  # fmt: skip
    assert counted["shift"].dropna().tolist() == [-1, -1, -1, -1]


@pytest.mark.parametrize("slices", [1, 3])
def test_classes_of_slices_and_volumes_are_counted(slices):
    classes = np.repeat(convert(truth(), "spider", "structures4"), slices, axis=0)
    np.testing.assert_array_equal(counted_names(drawing(classes), "structures4"), np.repeat(truth(), slices, axis=0))


def test_a_mask_in_which_nothing_can_be_numbered_names_nothing():
    empty = drawing(np.zeros((1, 20, 20), np.uint8))
    assert not counted_names(empty, "structures4").any() and not own_names(empty, "levels20").any()


# ------------------------------------------------------------------------------------------------------------------- sums


def rows(cases: dict[tuple[str, str], list[int | None]], name: str = "mendeley_t1_2d", way: str = "lowest") -> pd.DataFrame:
    """(patient, case) -> the level found for L5, L4, ..."""
    tables = []
    for (patient, case), levels in cases.items():
        true = np.arange(1, len(levels) + 1, dtype=np.uint8)[None, :, None].repeat(5, axis=2)
        named = np.array([level or 0 for level in levels], np.uint8)[None, :, None].repeat(5, axis=2)
        tables.append(score_names(true, named).assign(set=name, case=case, patient=patient, count_from=way))
    return pd.concat(tables, ignore_index=True)[list(NAME_COLUMNS)]


def test_sums_by_hand():
    table = rows({
        ("1", "a"): [1, 2, 3], ("2", "b"): [2, 3, 4], ("3", "c"): [None, 1, 2], ("4", "d"): [1, 3, None],
        ("5", "e"): [None, None, None], ("6", "f"): [3, 4, 4],
    })  # fmt: skip
    got = summarise_names(table).set_index(["unit", "quantity"])
    assert got[["count", "n"]].apply(tuple, axis=1).to_dict() == {
        ("part", "found"): (13, 18), ("part", "named right"): (4, 13), ("patient", "all right"): (1, 5),
        ("patient", "all one too high"): (1, 5), ("patient", "all one too low"): (1, 5), ("patient", "none right"): (3, 5),
    }  # fmt: skip
    assert got["share"].tolist() == pytest.approx([13 / 18, 4 / 13, 0.2, 0.2, 0.2, 0.6])
    assert got.loc["part"]["drawn"].tolist() == ["6 patients", "5 patients"]
    # The interval is that of the kit's bootstrap over patients.
    right = table[table["found"].notna()]
    expected = bootstrap_interval(right["right"].astype(float), list(right["patient"]))
    assert got.loc[("part", "named right"), ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])


def test_all_right_has_an_interval_of_some_width():
    got = summarise_names(rows({(str(k), str(k)): [1, 2] for k in range(5)})).set_index("quantity")
    assert got.loc["all right", "share"] == 1 and got.loc["all right", "high"] == 1
    assert got.loc["all right", "low"] == pytest.approx(0.025 ** (1 / 5)), "Clopper and Pearson's, for five of five"


def test_series_of_several_slices_are_told_by_case_and_by_series():
    table = rows({("s", "s_1"): [1, 2], ("s", "s_2"): [2, 3], ("t", "t_1"): [1, 2]}, "spider_t1t2_vertebrae_2d")
    got = summarise_names(table).set_index(["unit", "quantity"])
    names = ["all right", "all one too high", "all one too low", "none right"]
    assert got.loc["case", "count"].to_dict() == dict(zip(names, [2, 1, 0, 1], strict=True))
    assert got.loc["series", "count"].to_dict() == dict(zip(names, [1, 0, 0, 0], strict=True))
    assert set(got["drawn"]) == {"2 series"}


def test_sets_and_ways_to_count_stay_apart():
    table = pd.concat([
        rows({("1", "a"): [1, 2]}), rows({("1", "a"): [2, 3]}, way="own"), rows({("1", "a"): [1, 3]}, "chu2015_t2_3d"),
    ])  # fmt: skip
    got = summarise_names(table).query("quantity == 'named right'").set_index(["set", "count_from"])["count"]
    assert got.to_dict() == {("mendeley_t1_2d", "lowest"): 2, ("mendeley_t1_2d", "own"): 0, ("chu2015_t2_3d", "lowest"): 1}


def test_nothing_found_has_shares_of_nothing():
    got = summarise_names(rows({("1", "a"): [None, None]})).set_index("quantity")
    assert got.loc["found", "share"] == 0 and got.loc["all right", "n"] == 0
    assert got.loc["all right", ["share", "low", "high"]].isna().all()


def test_names_lie_beside_the_scores(tmp_path):
    assert names_path(tmp_path / "t.csv") == tmp_path / "t_names.csv"
