"""The audit: bounds against brute force, verdicts against pencil and paper."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction as F  # noqa: N817
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.errors import KitError
from spider_utils.evaluation import arithmetic as ar
from spider_utils.evaluation.arithmetic import CUT, Interval, Printed
from spider_utils.evaluation.audit import CONSISTENT, IMPOSSIBLE, UNDECIDED, VERDICTS, audit, by_row, verdict_counts
from spider_utils.evaluation.audit import findings as findings_of
from spider_utils.evaluation.audit.overlap import dice_and_f1, dice_and_iou, f1_and_rates
from spider_utils.evaluation.audit.tables import TESTS
from spider_utils.evaluation.published import PrintedRow, printed_rows

RNG = np.random.default_rng(15)


def ends(low: float | str, high: float | str) -> Interval:
    return Interval(F(str(low)), F(str(high)))


def row(**cells: str) -> PrintedRow:
    return PrintedRow("ahmed", "a table", "a row", {name: Printed(text) for name, text in cells.items()}, {})


# --------------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("text", "low", "high", "cut"),
    [
        ("0.410", "0.4095", "0.4105", "0.411"),
        ("0.41", "0.405", "0.415", "0.42"),
        ("57", "56.5", "57.5", "58"),
        ("1.0", ".95", "1.05", "1.1"),
    ],
)
def test_a_printed_number_is_an_interval(text: str, low: str, high: str, cut: str) -> None:
    number = Printed(text)
    assert number.interval() == ends(low, high) and number.interval(CUT) == ends(low, cut)
    assert Printed(text, exact=True).interval(CUT) == ends(text, text)
    assert str(number) == text


@pytest.mark.parametrize("text", ["", "high", "nan", "inf", "0,5"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        Printed(text)


def test_intervals_hold_what_numbers_in_them_give() -> None:
    for _ in range(200):
        a, b = (Interval(*sorted(F(int(x), 100) for x in RNG.integers(1, 100, 2))) for _ in range(2))
        x, y = (one.low + (one.high - one.low) * F(int(RNG.integers(0, 11)), 10) for one in (a, b))
        for found, value in ((a + b, x + y), (a - b, x - y), (a / b, x / y), ((a - b).size(), abs(x - y)), (a * 3, 3 * x)):
            assert found.low <= value <= found.high
        assert bool(a & b) == (max(a.low, b.low) <= min(a.high, b.high))
    assert (ends(-3, 2).size(), ends(-3, -2).size()) == (ends(0, 3), ends(2, 3))
    assert ends("0.25", "0.75").text(2) == "0.25 to 0.75" and ends("0.25", "0.25").text(3) == "0.250"


# ------------------------------------------------------------------------------------------------------------------ bounds


def test_scores_of_one_region_are_those_of_its_counts() -> None:
    for tp, fp, fn in RNG.integers(1, 50, (100, 3)).tolist():
        dice, iou = F(2 * tp, 2 * tp + fp + fn), F(tp, tp + fp + fn)
        assert ar.dice_of_iou(iou) == dice == ar.harmonic_mean(F(tp, tp + fp), F(tp, tp + fn))
    assert ar.harmonic_mean(F(0), F(0)) == 0


@pytest.mark.parametrize("items", [1, 2, 3, 7])
def test_bounds_of_a_mean_dice_hold_and_are_reached(items: int) -> None:
    """Every set of items from a grid of IoU lies within; the corner and the even set lie on the bounds."""
    grid = [F(k, 6) for k in range(7)]
    for ious in itertools.combinations_with_replacement(grid, items):
        mean, dice = sum(ious) / items, sum(map(ar.dice_of_iou, ious)) / items
        bounds = ar.mean_dice_bounds(Interval(mean, mean), items)
        assert bounds.low <= dice <= bounds.high
        assert ar.mean_dice_bounds(Interval(mean, mean)).low == mean <= bounds.low, "an unknown number of items allows more"
        whole, rest = divmod(mean * items, 1)
        corner = [F(1)] * int(whole) + ([rest] if rest else [])
        assert sum(map(ar.dice_of_iou, corner)) / items == bounds.low and ar.dice_of_iou(mean) == bounds.high
    assert ar.mean_dice_bounds(ends("0.9995", "1.0005")).high == 1


def test_bounds_of_a_mean_f1_hold_and_are_reached() -> None:
    for _ in range(500):
        n = int(RNG.integers(1, 6))
        tp, fp, fn = RNG.integers(0, 20, (3, n)) ** int(RNG.integers(1, 3))
        keep = tp > 0
        if not keep.any():
            continue
        p, r = ([F(int(t), int(t + e)) for t, e in zip(tp[keep], wrong[keep], strict=True)] for wrong in (fp, fn))
        mean = [sum(some) / len(p) for some in (p, r, list(map(ar.harmonic_mean, p, r)))]
        bounds = ar.mean_f1_bounds(*(Interval(one, one) for one in mean[:2]))
        assert bounds.low <= mean[2] <= bounds.high
    same = Interval(F(3, 5), F(3, 5))
    assert ar.mean_f1_bounds(same, same).high == F(3, 5), "reached when all items are alike"
    nearly = [ar.harmonic_mean(F(1), F(1)), ar.harmonic_mean(F(1), F(1, 10**6))]  # P 1 and 1, R 1 and nearly 0
    low = ar.mean_f1_bounds(Interval(F(1), F(1)), Interval(F(1, 2), F(1, 2))).low
    assert low == F(1, 2) and sum(nearly) / 2 - low < F(1, 10**5)


def test_spread_loss_and_shares() -> None:
    values = RNG.random((300, 5)).round(2)
    assert all(one.var() <= float(ar.largest_variance(Interval(F(one.mean()), F(one.mean())))) + 1e-12 for one in values)
    for one in printed_rows("spider_baseline").rows:  # with n - 1 in place of n, even of two values, it holds as well
        mean, sd = one.cells["dice"].interval(), one.cells["dice_sd"].interval()
        assert 2 * sd.high**2 < ar.largest_variance(Interval(mean.high, mean.high))
    assert values[0].var(ddof=1) <= 5 / 4 * float(ar.largest_variance(Interval(F(values[0].mean()), F(values[0].mean()))))
    assert ar.largest_variance(ends("0.4", "0.9")) == F(1, 4) and ar.largest_variance(ends("0.8", "0.9")) == F(16, 100)
    logits = RNG.normal(size=(400, 4))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = RNG.integers(0, 4, 400)
    right = F(int((probability.argmax(axis=1) == truth).sum()), 400)
    assert -np.log(probability[np.arange(400), truth]).mean() >= ar.lowest_cross_entropy(Interval(right, right))
    assert ar.lowest_cross_entropy(ends("0.5", "0.5")) == pytest.approx(np.log(2) / 2)
    assert ar.is_share(ends("0.3335", "0.3345"), 3) is False and ar.is_share(ends("0.333", "0.334"), 3)
    assert ar.fewest_items([Printed("0.33").interval(), Printed("0.25").interval()]) == 12
    assert ar.fewest_items([Printed("0.333").interval(), Printed("0.334").interval()], most=100) is None


def test_weights_between_two_scores() -> None:
    first, second = [ends(1, 1), ends(0, 0)], [ends(0, 0), ends(1, 1)]
    assert ar.weights_on_line(first, second, [ends("0.2", "0.3"), ends("0.6", "0.75")]) == ends("0.25", "0.3")
    assert not ar.weights_on_line(first, second, [ends("0.2", "0.3"), ends("0.6", "0.65")])
    assert not ar.weights_on_line(first[:1], second[:1], [ends("1.1", "1.2")])
    assert ar.weights_on_line([ends(2, 2)], [ends(2, 2)], [ends(1, 3)]) == ends(0, 1), "both ends alike: every weight"
    for _ in range(300):  # against a walk over weights
        a, b, seen = (Interval(*sorted(F(int(x), 20) for x in RNG.integers(0, 21, 2))) for _ in range(3))
        found = ar.weights_on_line([a], [b], [seen])
        for w in (F(k, 40) for k in range(41)):
            assert bool((a * w + b * (1 - w)) & seen) == (found.low <= w <= found.high)


# ---------------------------------------------------------------------------------------------------------------- verdicts


def test_rounding_comes_before_cutting() -> None:
    def verdict(text: str, value: str) -> tuple[str, bool]:
        one = row(x=text)
        found = findings_of.tested(
            one, "x", lambda of: bool(of(one.cells["x"]) & Interval.exactly(F(value))), "", "it fits", "it does not"
        )
        return found.verdict, "cut off" in found.why

    assert verdict("0.567", "0.5672") == (CONSISTENT, False)
    assert verdict("0.567", "0.5677") == (CONSISTENT, True)
    assert verdict("0.567", "0.5664") == (IMPOSSIBLE, False)


def test_overlap_by_pencil() -> None:
    readings = {one.reading: one.verdict for one in dice_and_iou(row(iou="0.50", dice="0.60"))}
    assert readings == {"pixels pooled": IMPOSSIBLE, "means over the same items": CONSISTENT}
    assert [one.verdict for one in dice_and_iou(row(iou="0.50", dice="0.67"))] == [CONSISTENT, CONSISTENT]
    assert [one.verdict for one in dice_and_iou(row(iou="0.60", dice="0.58"))] == [IMPOSSIBLE, IMPOSSIBLE], "below the mean IoU"
    assert [one.verdict for one in f1_and_rates(row(precision="0.90", recall="0.50", f1="0.70"))] == [IMPOSSIBLE, IMPOSSIBLE]
    assert [one.verdict for one in f1_and_rates(row(precision="0.90", recall="0.50", f1="0.55"))] == [IMPOSSIBLE, CONSISTENT]
    assert [one.verdict for one in dice_and_f1(row(dice="0.91", f1="0.912"))] == [CONSISTENT, CONSISTENT]
    differ = {one.reading: (one.verdict, "averaged alike" in one.why) for one in dice_and_f1(row(dice="0.910", f1="0.912"))}
    assert differ == {"pixels pooled": (IMPOSSIBLE, True), "means over the same items": (IMPOSSIBLE, True)}, (
        "not under every reading: one column could be of pooled pixels, the other a mean"
    )


def test_two_places_that_contradict_each_other_are_undecided(rows: pd.DataFrame) -> None:
    one, other = row(x="4.0").cells["x"], row(x="0.4").cells["x"]
    found = findings_of.in_two_places(row(x="4.0"), lambda of: bool(of(one) & of(other)), "4.0, 0.4", "alike", "not alike")
    assert (found.verdict, found.why) == (UNDECIDED, "not alike")
    same = findings_of.in_two_places(row(x="4.0"), lambda of: bool(of(one) & of(one)), "4.0, 4.0", "alike", "not alike")
    assert (same.verdict, same.why) == (CONSISTENT, "alike")
    assert rows.loc[("ahmed", "section 4", "text after it"), "verdict"] == UNDECIDED, "two values of one gamma"
    both = rows.loc[("misan", "text and listing", "text against listing")]
    assert both["verdict"] == UNDECIDED and both["numbers"].startswith(
        "70/15/15 in the listing, 80/10/10 in the text; 299 pixels"
    )
    assert set(rows.loc["misan"]["verdict"]) == {CONSISTENT, UNDECIDED}


def test_a_share_of_women_that_does_not_fit_is_undecided() -> None:
    table = printed_rows("spider_hospitals")
    total = table["total"]
    total = replace(total, cells=total.cells | {"female_percent": Printed("70")})
    found = list(TESTS["spider_hospitals"](replace(table, rows=(*table.rows[:-1], total))))[-1]
    assert found.verdict == UNDECIDED and "the sex of some patients is not known" in found.why


@pytest.fixture(scope="module")
def findings() -> pd.DataFrame:
    return audit()


@pytest.fixture(scope="module")
def rows(findings: pd.DataFrame) -> pd.DataFrame:
    return by_row(findings).set_index(["source", "table", "row"])


def test_every_printed_row_has_one_verdict_with_numbers_and_a_reason(rows: pd.DataFrame) -> None:
    from spider_utils.evaluation.published import printed_numbers

    printed = printed_numbers().groupby(["source", "table", "row"]).size().index
    assert rows.index.is_unique and set(printed) <= set(rows.index)
    assert (rows[["numbers", "why"]].map(len) > 3).all(axis=None) and set(rows["verdict"]) == {CONSISTENT, IMPOSSIBLE, UNDECIDED}


def test_eight_of_ten_rows_of_medfusion_are_impossible(rows: pd.DataFrame) -> None:
    table = rows.loc["medfusion"].loc["Table 2"]["verdict"]
    assert len(table) == 10 and (table == IMPOSSIBLE).sum() == 8
    assert set(table.index[table == CONSISTENT]) == {"resunet", "unet+resunet"}


def test_the_weights_are_a_line_and_seek_a_pair_given_beforehand(findings: pd.DataFrame, rows: pd.DataFrame) -> None:
    listing = findings[findings["table"] == "Figure 15, weights"]
    assert len(listing) == 34 and (listing["verdict"] == CONSISTENT).all()
    for one in printed_rows("medfusion_weights").rows:  # again, with floats
        iou, dice, diff = (float(one.cells[name].value) for name in ("iou", "dice", "diff"))
        assert abs(0.989 - dice) + abs(0.822 - iou) == pytest.approx(diff, abs=1.01e-4)
    assert rows.loc[("medfusion", "Figure 15, best weights", "best weights"), "verdict"] == IMPOSSIBLE
    pairs = rows.loc["medfusion"].loc["Figure 14"]["verdict"]
    assert len(pairs) == 6 and set(pairs.index[pairs == CONSISTENT]) == {"unetplusplus+deeplabv3"}, (
        "and this one by cutting digits"
    )
    logs = rows.loc["medfusion"].loc["Figure 13"]
    assert logs.loc["unet, epoch 50", "why"].endswith("one row below, for unetplusplus")
    assert (logs["verdict"] == UNDECIDED).all()


def test_table_2_of_ahmed(findings: pd.DataFrame, rows: pd.DataFrame) -> None:
    assert (rows.loc["ahmed"].loc["Table 2"]["verdict"] == IMPOSSIBLE).all(), "Dice is nowhere F1"
    table = findings[(findings["source"] == "ahmed") & (findings["table"] == "Table 2")]
    f1 = table[table["test"].isin(["F1 against IoU", "F1 against P and R"])]
    space = f1["row"].str.startswith("t2_SPACE")
    assert (f1.loc[space, "verdict"] == CONSISTENT).all(), "IoU, P, R and F1 of T2_SPACE fit to the last digit"
    pooled = f1["reading"] == "pixels pooled"
    assert (f1.loc[~space & pooled, "verdict"] == IMPOSSIBLE).all()
    means = f1[~space & ~pooled & (f1["test"] == "F1 against P and R")].set_index("row")["verdict"]
    assert set(means.index[means == IMPOSSIBLE]) == {"t1 background", "t1 disc", "t1 spinal canal", "t2 disc", "t2 spinal canal"}
    assert rows.loc[("ahmed", "section 3.2.2", "t2_SPACE"), "verdict"] == IMPOSSIBLE, "a ratio below 1"
    reduction = findings[findings["test"] == "the reduction"]
    assert len(reduction) == 3 and (reduction["verdict"] == CONSISTENT).all()


def test_counts_and_totals(findings: pd.DataFrame, rows: pd.DataFrame) -> None:
    rates = findings[(findings["source"] == "triplanar") & findings["test"].str.endswith("from counts")]
    assert len(rates) == 8 and (rates["verdict"] == CONSISTENT).all() and rates["why"].str.contains("cut off").sum() == 3
    totals = findings[findings["test"].str.contains("total against parts|mean of its parts|parts of a whole")]
    assert len(totals) == 18 and (totals["verdict"] == CONSISTENT).all()
    assert rows.loc[("triplanar", "Table 4", "disc 7"), "verdict"] == IMPOSSIBLE
    assert "asks for 21 patients or more" in rows.loc[("triplanar", "Table 3", "disc 7"), "why"]
    assert "whole numbers of 500 images" in rows.loc[("misan", "Table 3.1", "all networks"), "numbers"]
    assert rows.loc[("unetr", "Evaluation & Results", "lowest loss"), "verdict"] == UNDECIDED


def test_a_row_needs_one_reading_that_stands() -> None:
    def of(*tests: tuple[str, str]) -> str:
        table = pd.DataFrame(tests, columns=["reading", "verdict"]).assign(source="s", table="t", row="r", numbers="n", why="w")
        return by_row(table)["verdict"].item()

    assert of(("pixels pooled", IMPOSSIBLE), ("means", CONSISTENT)) == CONSISTENT
    assert of(("pixels pooled", IMPOSSIBLE), ("means", IMPOSSIBLE)) == IMPOSSIBLE
    assert of(("pixels pooled", CONSISTENT), ("means", CONSISTENT), ("", IMPOSSIBLE)) == IMPOSSIBLE
    assert of(("", UNDECIDED)) == UNDECIDED and of(("", UNDECIDED), ("", CONSISTENT)) == CONSISTENT
    assert of(("pixels pooled", IMPOSSIBLE), ("means", CONSISTENT), ("means", IMPOSSIBLE)) == IMPOSSIBLE, "no reading passes all"


def test_counts_of_verdicts(rows: pd.DataFrame) -> None:
    counts = verdict_counts(rows.reset_index())
    assert counts["rows"].sum() == len(rows) and (counts.drop(columns="rows").sum(axis=1) == counts["rows"]).all()
    assert list(counts.columns) == [CONSISTENT, IMPOSSIBLE, UNDECIDED, "rows"]
    with pytest.raises(KitError, match="'nobody' is no source"):
        audit("nobody")


def test_the_page_of_results_counts_the_same(rows: pd.DataFrame) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "results" / "audit.md").read_text(encoding="utf-8")
    for source, counts in verdict_counts(rows.reset_index()).iterrows():
        name = "SPIDER" if source == "spider" else f"`{source}`"
        assert f"| {name} | {counts[CONSISTENT]} | {counts[IMPOSSIBLE]} | {counts[UNDECIDED]} |" in page


def test_the_command(tmp_path: Path) -> None:
    said = CliRunner().invoke(cli.app, ["audit", "--source", "medfusion", "--out", str(tmp_path / "audit.csv")])
    assert said.exit_code == 0, said.output
    lines = [line.split() for line in said.stdout.splitlines() if line.startswith("medfusion  Table 2 ")]
    assert len(lines) == 10 and sum(line[4] == IMPOSSIBLE for line in lines) == 8
    assert "ahmed  " not in said.stdout and "medfusion: 105 rows" in said.stdout
    written = pd.read_csv(tmp_path / "audit.csv")
    assert {"test", "reading", "verdict", "numbers", "why"} <= set(written.columns)
    assert (written["table"] == "Table 2").sum() == 20, "two readings of each row"
    with_why = CliRunner().invoke(cli.app, ["audit", "--source", "unetr", "--why"]).stdout
    assert "\n    the soft Dice behind this loss" in with_why
    assert CliRunner().invoke(cli.app, ["audit", "--source", "nobody"]).exit_code == 2


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_command_lists_the_rows_of_one_verdict(verdict: str) -> None:
    said = CliRunner().invoke(cli.app, ["audit", "--source", "medfusion", "--verdict", verdict]).stdout
    rows, counts = said.rstrip().rsplit("\n", 1)
    listed = [line for line in rows.splitlines() if line]
    assert f"{len(listed)} {verdict}" in counts and all(f"  {verdict}  " in line for line in listed)
    assert CliRunner().invoke(cli.app, ["audit", "--measured", "--verdict", verdict]).exit_code == 2
