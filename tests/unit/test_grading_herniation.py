"""Herniation in the form of Tables 5 and 6: by hand, on a hernia whose place is known, and where a mask misses discs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.phantom import generate_dataset, make_anatomy
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.scanner import body_box, body_spacing, draw_protocols, render
from spider_utils.data.sources import open_source
from spider_utils.data.volumes import Volume, read_mask
from spider_utils.errors import DataError
from spider_utils.evaluation.detection import COUNTS
from spider_utils.grading import herniation
from spider_utils.grading.herniation import (
    compare_discs,
    compare_set,
    heights_text,
    right_level,
    summary_lines,
    table5,
    table6,
    verdict_text,
)
from spider_utils.measure.report import COLUMNS, MEASURED, measure


@pytest.fixture(scope="module")
def by_hand() -> pd.DataFrame:
    """Five discs: found in part of its slices, found though not there, not judged though there, neither, found exactly."""
    names = ("patient", "truth", "judged", "found", "height_mm", "true_height_mm", "row_mm", "column_mm", "slice_mm",
             "row_pixel_mm", "column_pixel_mm", "slices", "true_slices", "all_slices")  # fmt: skip
    gap = np.nan
    rows = [
        (1, True, True, True, 5.0, 4.0, 2.0, -3.0, 3.0, 0.5, 0.25, {3, 4}, {4, 5}, {2, 3, 4, 5, 6}),
        (1, False, True, True, 4.0, 1.5, gap, gap, gap, 1.0, 0.5, {4}, set(), {3, 4, 5}),
        (2, True, False, False, gap, gap, gap, gap, gap, 1.0, 0.5, set(), {2}, {2, 3}),
        (2, False, True, False, 0.5, 1.0, gap, gap, gap, 1.0, 0.25, set(), set(), {2, 3}),
        (3, True, True, True, 4.0, 4.5, -1.0, 0.5, 0.0, 1.0, 0.5, {1}, {1}, {1, 2}),
    ]
    return pd.DataFrame(rows, columns=names)


def test_table5_by_hand(by_hand):
    table = table5(by_hand)
    assert table["source"].tolist() == ["printed"] * 2 + ["measured"] * 4
    ours = table[table["source"] == "measured"].set_index("unit")
    counts = ours[[*COUNTS, "n", "patients"]]
    assert counts.loc["sagittal slice of a disc"].tolist() == [2, 8, 2, 2, 14, 3]
    assert counts.loc["disc"].tolist() == [2, 1, 1, 1, 5, 3]  # one hernia in a disc that could not be judged: missed
    assert counts.loc["sagittal slice of a judged disc"].tolist() == [2, 7, 2, 1, 12, 3]
    assert counts.loc["judged disc"].tolist() == [2, 1, 1, 0, 4, 3]
    assert ours.loc["disc", ["accuracy", "sensitivity", "specificity", "precision"]].tolist() == pytest.approx(
        [3 / 5, 2 / 3, 1 / 2, 2 / 3]
    )
    assert ours.loc["judged disc", "sensitivity"] == 1


def test_table6_by_hand(by_hand):
    table = table6(by_hand)
    ours = table[table["source"] == "measured"].set_index(["quantity", "over"])
    assert ours["error_mm"].to_dict() == {
        ("top point front to back", "true positives"): 1.75,
        ("top point top to bottom", "true positives"): 1.5,
        ("top point side to side", "true positives"): 1.5,
        ("height", "true positives"): 0.75,
        ("height", "judged discs"): 1.125,
    }
    pixels = ours["error_pixels"]
    assert pixels.dropna().tolist() == [6.5, 2.5, 2.5, 3.0]  # 3 / 0.25 and 0.5 / 0.5; 2 / 0.5 and 1 / 1; ...
    assert np.isnan(pixels["top point side to side", "true positives"])
    assert ours["n"].tolist() == [2, 2, 2, 2, 4]


def test_what_is_printed_stands_in_rows_of_its_own(by_hand, monkeypatch):
    """The source does not say which way X and Y run; nor may the order of its rows matter."""
    theirs = herniation.printed("table6")
    for order in (theirs, theirs.iloc[::-1]):
        monkeypatch.setattr(herniation, "printed", lambda _, order=order: order)
        table = table6(by_hand)
        said = table[table["source"] == "printed"].set_index("quantity")
        assert said["error_pixels"].to_dict() == {"top point X": 3, "top point Y": 2, "height": 1.3}
        assert said["error_mm"].isna().all()


def test_summary_and_levels_by_hand(by_hand):
    said = summary_lines(by_hand)
    assert said["discs in view"] == "5 of 3 patients, 3 with a hernia"
    assert [text for what, text in said.items() if what.startswith("not judged")][0].startswith("1 discs, 1 with a hernia")
    found = right_level(by_hand)
    assert (found["right"], found["patients"]) == (2, 3)  # 2: nothing was found
    rows = [(1, True, True, 5.0), (1, False, True, 6.0), (2, True, True, 4.0), (3, True, False, 1.0), (4, False, False, 0.0)]
    found = right_level(pd.DataFrame(rows, columns=["patient", "truth", "found", "height_mm"]))
    assert (found["right"], found["patients"]) == (1, 3)  # 1: another disc stands out more; 2: right; 3: missed; 4: has none


def test_slices_of_a_hernia():
    shown = {2, 3, 4, 5, 6}
    assert herniation._between(shown, 3.4, 5.2, 4.0) == {4, 5}
    assert herniation._between(shown, 3.4, 5.2, 2.6) == {3, 4, 5}  # the slice of the top, however narrow the hernia
    assert herniation._between(shown, 0.0, 1.0, 0.5) == {2}


# --------------------------------------------------------------------------------------------------------- a known hernia


@pytest.fixture(scope="module")
def known() -> tuple:
    """A patient with a hernia of 6 mm in disc 2: anatomy, true mask, its measurements."""
    anatomy = make_anatomy(5, herniation={**dict.fromkeys(range(1, 12), 0.0), 2: 6.0})
    protocols = draw_protocols(anatomy, "OH", ("t2",), 1, size="small")
    body = build_body(anatomy, *body_box(protocols), body_spacing(protocols, "small"))
    _, mask = render(anatomy, "t2", protocols[0], size="small", body=body)
    return anatomy, mask, measure(mask.array, mask.spacing)


def test_a_hernia_is_found_at_its_place(known):
    discs = compare_discs(known[2], *known[:2]).set_index("disc")
    assert discs["truth"][discs["truth"]].index.tolist() == [2] and discs.loc[2, "found"]
    row = discs.loc[2]
    assert abs(row["row_mm"]) < 2 and abs(row["column_mm"]) < 2 and abs(row["slice_mm"]) < 3.4  # a slice is 3.3 mm
    assert row["row_pixel_mm"] == known[1].spacing[1] and row["column_pixel_mm"] == known[1].spacing[2]
    assert 1 <= len(row["true_slices"]) < len(row["all_slices"]) / 2 and row["slices"] & row["true_slices"]
    assert row["all_slices"] == set(np.flatnonzero((known[1].array == 202).any(axis=(1, 2))))
    judged = discs[discs["judged"]]
    assert (judged["height_mm"] - judged["true_height_mm"]).abs().median() < 1.0


def test_every_disc_in_view_is_in_the_table_whatever_was_measured(known, monkeypatch):
    monkeypatch.setattr(herniation, "overhang_of", lambda _, discs: {200 + k: 1.0 for k in discs})
    anatomy, mask, measured = known
    seen = sorted(int(v) - 200 for v in np.unique(mask.array) if v > 200)
    assert max(seen) > 7
    without = measured[measured["label"] != 202]
    for part, judged in ((measured, True), (without, False), (measured.iloc[:0], False)):
        discs = compare_discs(part, anatomy, mask).set_index("disc")
        assert discs.index.tolist() == seen and discs["truth"].sum() == 1
        assert discs.loc[2, ["judged", "found"]].tolist() == [judged, judged]
        assert discs.loc[2, "true_slices"] and np.isnan(discs.loc[2, "height_mm"]) != judged


def test_a_hernia_at_a_level_that_is_not_there_is_a_false_positive(known, monkeypatch):
    monkeypatch.setattr(herniation, "overhang_of", lambda _, discs: {200 + k: 1.0 for k in discs})
    anatomy, mask, measured = known
    hidden = mask.with_array(np.where(mask.array == 202, 0, mask.array))
    discs = compare_discs(measured, anatomy, hidden).set_index("disc")
    assert discs.loc[2, ["truth", "judged", "found"]].tolist() == [False, True, True]
    row = table5(discs.reset_index().assign(patient=1)).query("source == 'measured'").set_index("unit").loc["disc"]
    assert (row["TP"], row["FP"], row["FN"]) == (0, 1, 0)


# ------------------------------------------------------------------------------------------------------------------- sets


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("hernias") / "phantom"
    generate_dataset(root, 2, seed=12, jobs=1, size="small")
    return open_source("phantom", root)


def no_overhang(mask: Volume) -> pd.DataFrame:
    """Every disc of a mask judged, and none herniated."""
    labels = [int(v) for v in np.unique(mask.array) if v > 200]
    rows = [(str(k), k, name, 0.0, "mm", MEASURED) for k in labels for name in ("herniated", "overhang")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_a_patient_in_whom_nothing_was_measured_stays_in_the_tables(phantom, monkeypatch):
    monkeypatch.setattr(herniation, "overhang_of", lambda _, discs: {200 + k: 1.0 for k in discs})
    t2 = phantom.cases[phantom.cases["sequence"] == "t2"].set_index("patient")
    measured = no_overhang(read_mask(t2.loc[1, "mask"])).assign(case=t2.loc[1, "case"], patient=1, sequence="t2")
    discs = compare_set(phantom, measured)
    in_view = {k: sum(v > 200 for v in np.unique(read_mask(t2.loc[k, "mask"]).array)) for k in (1, 2)}
    assert discs.groupby("patient").size().to_dict() == in_view
    assert discs.groupby("patient")["judged"].sum().to_dict() == {1: in_view[1], 2: 0}
    assert not discs["found"].any()


def test_sets_without_known_hernias_are_refused(phantom, spider_layout, tmp_path):
    with pytest.raises(DataError, match=r"phantom\.json"):
        compare_set(open_source("spider", spider_layout), pd.DataFrame())
    for text, words in (('{"generator_version": 0, "seed": 1}', "version"), ("[]", "version")):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "phantom.json").write_text(text)
        with pytest.raises(DataError, match=words):
            herniation.phantom_facts(tmp_path)
    facts = (phantom.root / "phantom.json").read_text()
    (tmp_path / "phantom.json").write_text(facts.replace('"seed": 12', '"seed": "x"'))
    with pytest.raises(DataError, match="seed"):
        herniation.phantom_facts(tmp_path)


def test_a_picture_of_a_disc_that_was_not_judged_says_no_height():
    assert heights_text(3.14, 2.96) == "3.1 mm, true 3.0 mm"
    assert heights_text(float("nan"), float("nan")) == "no height"


def test_a_missed_hernia_says_which_part_of_the_rule_said_no():
    assert verdict_text(True, True, 5.0, 1.0) == "found"
    assert verdict_text(False, False, np.nan, np.nan) == "not judged"
    assert verdict_text(True, False, 2.9, 0.0) == "missed: less than 3 mm"
    assert verdict_text(True, False, 5.0, 3.8) == "missed: 1.2 mm above its bulge"
    assert verdict_text(True, False, 5.0, 3.0) == "missed: too wide, a bulge"
