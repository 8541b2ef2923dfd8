"""IoU of found objects: by hand, one to one, and what it leaves out is counted."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spider_utils.evaluation.objects import object_scores, score_objects, summarise_objects


def blank():
    return np.zeros((40, 60), np.uint8)


def test_iou_by_hand():
    """10 x 10 pixels found two rows too low: 80 shared, 120 together."""
    truth, found = blank(), blank()
    truth[5:15, 5:15], found[7:17, 5:15] = 1, 1
    table = object_scores(truth, found, [1], pixel_mm=1.0)
    assert table.to_dict("records") == [{"status": "found", "iou": 80 / 120, "area_mm2": 100.0}]


def test_missed_false_and_the_threshold():
    truth, found = blank(), blank()
    truth[5:15, 5:15], truth[5:15, 30:40] = 1, 1  # the second is met by a third alone
    found[5:15, 5:15], found[10:20, 30:40], found[25:35, 45:55] = 1, 1, 1
    counts = object_scores(truth, found, [1], 1.0)["status"].value_counts().to_dict()
    assert counts == {"found": 1, "missed": 1, "false": 2}
    counts = object_scores(truth, found, [1], 1.0, found_iou=0.3)["status"].value_counts().to_dict()
    assert counts == {"found": 2, "false": 1}


def test_one_prediction_finds_one_object():
    """Two objects that a network melts into one: one of them at most is found."""
    truth, found = blank(), blank()
    truth[5:15, 5:20], truth[5:15, 22:30] = 1, 1
    found[5:15, 5:30] = 1
    table = object_scores(truth, found, [1], 1.0)
    assert table["status"].tolist() == ["found", "missed"] and table["iou"].iloc[0] == pytest.approx(150 / 250)


def test_labels_that_make_up_one_tissue():
    truth, found = blank(), blank()
    truth[5:15, 5:15], truth[15:18, 8:12] = 1, 2
    found[5:18, 5:15] = 1
    assert object_scores(truth, found, [1, 2], 1.0)["iou"].tolist() == [pytest.approx(112 / 130)]
    assert object_scores(truth, found, [2], 1.0)["status"].tolist() == ["missed"]


def test_crumbs_are_neither_found_nor_missed_nor_false():
    truth, found = blank(), blank()
    truth[0:2, 0:3], found[0:2, 0:3] = 1, 1  # 6 mm2
    found[30:32, 30:33] = 1
    truth[10:20, 10:20] = 1
    assert object_scores(truth, found, [1], 1.0)["status"].tolist() == ["missed"]
    assert object_scores(truth, found, [1], 2.0)["status"].tolist() == ["found", "missed", "false"], "of 2 mm pixels: 24 mm2"


@pytest.mark.parametrize(("columns", "false"), [(4, []), (5, ["false"]), (20, ["false"])])
def test_what_lies_mostly_on_a_crumb_is_not_false(columns, false):
    """A crumb of 3 x 3 pixels under a prediction of 4 rows: 9 of its 16 pixels lie on it, 9 of 20, 9 of 80."""
    truth, found = blank(), blank()
    truth[10:13, 10:13], found[9:13, 10 : 10 + columns] = 1, 1
    assert object_scores(truth, found, [1], 1.0, found_iou=0.9)["status"].tolist() == false


@given(st.integers(0, 2**32 - 1))
def test_as_an_independent_count_has_it(seed):
    """Against the definition written out: all pairs by a loop, objects by flood fill; above one half no pairing is in doubt."""
    rng = np.random.default_rng(seed)
    truth, found = blank(), blank()
    for mask in (truth, found):
        for _ in range(4):
            r, c, h, w = rng.integers(0, 30), rng.integers(0, 50), *rng.integers(4, 10, 2)
            mask[r : r + h, c : c + w] = 1
    ours, theirs = _flood(truth), _flood(found)
    ious = [len(a & b) / len(a | b) for a, b in itertools.product(ours, theirs)]
    wanted = sorted(iou for iou in ious if iou > 0.5)
    table = object_scores(truth, found, [1], 1.0, found_iou=0.500001)
    assert sorted(table["iou"].dropna()) == pytest.approx(wanted)
    counts = table["status"].value_counts()
    assert counts.get("missed", 0) == len(ours) - len(wanted) and counts.get("false", 0) == len(theirs) - len(wanted)


def _flood(mask):
    left, objects = {tuple(at) for at in np.argwhere(mask)}, []
    while left:
        queue, seen = [left.pop()], set()
        while queue:
            at = queue.pop()
            seen.add(at)
            near = {(at[0] + i, at[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue += near
        objects.append(seen)
    return objects


def test_summary_counts_and_intervals():
    truth, found = blank(), blank()
    truth[5:15, 5:15], found[5:15, 5:15] = 1, 1
    slices = [({"patient": k}, truth, np.roll(found, k, 0), 1.0) for k in range(3)]
    slices.append(({"patient": 9}, truth, blank(), 1.0))
    table = score_objects(slices, {"disc": [1], "sac": [3], "only": [1]}, only_with={"only": 2})
    summary = summarise_objects(table, ["disc", "sac", "only"]).set_index("tissue")
    ious = [100 / 100, 90 / 110, 80 / 120]
    assert summary.loc["disc", "iou"] == pytest.approx(np.mean(ious))
    assert summary.loc["disc", ["found", "missed", "false", "patients"]].tolist() == [3, 1, 0, 3]
    assert min(ious) <= summary.loc["disc", "low"] < summary.loc["disc", "high"] <= max(ious)
    assert summary.loc[["sac", "only"], "iou"].isna().all() and (summary.loc[["sac", "only"], "found"] == 0).all()


def test_no_object_at_all():
    table = score_objects([({"patient": 1}, blank(), blank(), 1.0)], {"disc": [1]})
    assert not len(table) and summarise_objects(table, ["disc"])["found"].tolist() == [0]


def test_bad_input():
    with pytest.raises(ValueError, match="one shape"):
        object_scores(blank(), blank()[1:], [1], 1.0)
    with pytest.raises(ValueError, match="found_iou"):
        object_scores(blank(), blank(), [1], 1.0, found_iou=0)
    assert isinstance(object_scores(blank(), blank(), [1], 1.0), pd.DataFrame)
