"""What each choice in testing adds, on counts small enough to do by hand."""

import numpy as np
import pandas as pd
import pytest

from spider_utils.ahmed import HONEST, Way, gain, neighbour_counts, on_same_slices, printed_table2, score, slice_counts
from spider_utils.errors import KitError


def table(*rows):
    return pd.DataFrame(rows, columns=["case", "patient", "slice"])


def counts_of(truth, labels, rows, run="run"):
    return slice_counts(np.array(truth), np.array(labels), rows, run)


ROWS = table(("1_t2", 1, 0), ("1_t2", 1, 1), ("2_t2", 2, 0))
TRUTH = [[[0, 1, 2, 3]], [[0, 0, 1, 1]], [[1, 2, 3, 0]]]
LABELS = [[[0, 1, 2, 0]], [[0, 0, 1, 0]], [[1, 2, 3, 0]]]


def test_counts_by_hand():
    counts = counts_of(TRUTH, LABELS, ROWS)
    first = counts[(counts["case"] == "1_t2") & (counts["slice"] == 0)].set_index("class")
    assert first[["tp", "fp", "fn"]].to_numpy().tolist() == [[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert counts.groupby(["case", "slice"])["passed"].first().tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="do not fit together"):
        slice_counts(np.zeros((2, 1, 4), int), np.zeros((2, 1, 4), int), ROWS, "run")


def test_each_way_by_hand():
    counts = counts_of(TRUTH, LABELS, ROWS)
    # Patient 1: vertebra 2 of 3 right, canal right, disc missed; patient 2 all right.
    patient_1 = (2 * 2 / (2 * 2 + 1) + 1 + 0) / 3
    assert score(counts).estimate == pytest.approx((patient_1 + 1) / 2)
    # Pooled: vertebra tp 3 fn 1, canal tp 2, disc tp 1 fn 1.
    assert score(counts, Way(pooled=True)).estimate == pytest.approx((6 / 7 + 1 + 2 / 3) / 3)
    # Background: tp 1 + 2 + 1, fp 1 + 1.
    assert score(counts, Way(pooled=True, background=True)).estimate == pytest.approx((6 / 7 + 1 + 2 / 3 + 8 / 10) / 4)
    # The second slice lacks canal and disc.
    assert score(counts, Way(filter_steps=1)).estimate == pytest.approx(((1 + 1 + 0) / 3 + 1) / 2)
    assert score(counts).n_groups == 2


def test_the_second_step_of_the_filter_is_a_limit_of_55():
    """Slices of 58 and 59 pixels with one disc: background 55 and 56 times as large."""

    def slice_of(n_background):
        return [[1, 2, 3] + [0] * n_background]

    just, above = (counts_of([slice_of(n)], [slice_of(n)], table(("1_t2", 1, 0))) for n in (55, 56))
    assert just["passed"].unique().tolist() == [2] and above["passed"].unique().tolist() == [1]
    assert score(above, Way(filter_steps=1)).n_groups == 1 and score(above, Way(filter_steps=2)).n_groups == 0
    assert score(just, Way(filter_steps=2)).estimate == 1


def test_a_class_that_nobody_shows_is_left_out():
    counts = counts_of([[[1, 1, 0, 0]]], [[[1, 1, 0, 0]]], table(("1_t2", 1, 0)))
    assert score(counts).estimate == 1
    assert np.isnan(score(counts).low), "one patient shows no spread"


def test_gain_is_paired_over_shared_patients():
    better = counts_of(TRUTH, TRUTH, ROWS)
    worse = counts_of([*TRUTH, [[1, 2, 3, 0]]], [*LABELS, [[0, 0, 0, 0]]], pd.concat([ROWS, table(("3_t2", 3, 0))]))
    found = gain(better, HONEST, worse, HONEST)
    patient_1 = (2 * 2 / (2 * 2 + 1) + 1 + 0) / 3
    assert found.estimate == pytest.approx((1 - patient_1) / 2) and found.n_groups == 2
    assert found.low == pytest.approx(0) and found.high == pytest.approx(1 - patient_1)
    with pytest.raises(KitError, match="share no patient"):
        gain(better, HONEST, counts_of([TRUTH[0]], [LABELS[0]], table(("9_t2", 9, 0))), HONEST)


def test_no_slice_that_counts_is_no_score():
    nothing = counts_of([[[0, 0, 1, 1]]] * 2, [[[0, 0, 1, 1]]] * 2, table(("1_t2", 1, 0), ("2_t2", 2, 0)))
    for pooled in (False, True):
        found = score(nothing, Way(pooled=pooled, filter_steps=1))
        assert np.isnan(found.estimate) and found.n_groups == 0


def test_same_slices_only():
    left, right = counts_of(TRUTH, LABELS, ROWS, "a"), counts_of(TRUTH[1:], LABELS[1:], ROWS[1:], "b")
    a, b = on_same_slices(left, right)
    for one in (a, b):
        assert one[["case", "slice"]].drop_duplicates().to_numpy().tolist() == [["1_t2", 1], ["2_t2", 0]]
    assert set(a["run"]) == set(b["run"]) == {"a and b"}


def test_volumes_are_the_same_in_both_when_several_runs_share_a_series():
    rows = table(*(("1_t2", 1, k) for k in range(4)))
    truth = [[[0, 1, 2, 3]]] * 4
    honest = counts_of(truth, truth, rows, "h")
    leaky = pd.concat([counts_of(truth[:2], truth[:2], rows[:2], "f0"), counts_of(truth[2:], truth[2:], rows[2:], "f1")])
    a, b = on_same_slices(leaky, honest)
    for one in (a, b):
        volumes = one.groupby(["run", "case"])["slice"].unique().map(list).to_dict()
        assert volumes == {("f0 and h", "1_t2"): [0, 1], ("f1 and h", "1_t2"): [2, 3]}


class Store:
    """What neighbour_counts needs of a slice store."""

    def __init__(self, rows, masks):
        self.table, self.masks = rows, np.array(masks, np.uint8)

    def lookup(self, scheme):
        assert scheme == "structures4"
        return np.arange(256, dtype=np.uint8), None


def test_the_copied_mask_is_the_next_ones_and_never_another_series():
    rows = table(("1_t2", 1, 0), ("1_t2", 1, 1), ("1_t2", 1, 5), ("2_t2", 2, 0))
    counts = neighbour_counts(Store(rows, [[[1, 1]], [[1, 2]], [[3, 3]], [[3, 3]]]))
    # Slices 0 and 1 copy each other; slice 5 and the only one of patient 2 have no neighbour.
    assert counts[["case", "slice"]].drop_duplicates().to_numpy().tolist() == [["1_t2", 0], ["1_t2", 1]]
    assert counts[counts["class"] == 2].set_index("slice")[["tp", "fp", "fn"]].to_numpy().tolist() == [[0, 1, 0], [0, 0, 1]]
    with pytest.raises(KitError, match="no mask to copy"):
        neighbour_counts(Store(rows.iloc[[0, 3]], [[[1, 1]], [[1, 2]]]))


def test_printed_table_is_whole():
    printed = printed_table2()
    assert printed.groupby("sequence").size().to_dict() == {"t1": 4, "t2": 4, "t2_SPACE": 4}
    assert printed.set_index(["sequence", "name"]).loc[("t2_SPACE", "vertebra"), "dice"] == 0.9712
    assert printed.notna().all(axis=None)
