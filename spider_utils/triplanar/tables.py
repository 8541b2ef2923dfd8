"""The tables of `triplanar` from its scores, printed values beside measured ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.data.manifest import printed_table
from spider_utils.evaluation.statistics import FOREGROUND, compare, summarise
from spider_utils.triplanar.settings import FUSED


def printed(table: str) -> pd.DataFrame:
    """What the source prints: "table1" (plane, dice) or "tables2to4" (table, row, disc, dice).

    Raises:
        KitError: another name.
    """
    return printed_table("triplanar", table, ("table1", "tables2to4"))


def table1(scores: pd.DataFrame) -> pd.DataFrame:
    """The source's Table 1: mean Dice (over discs, then patients) of planes and fusion, printed beside measured.

    Args:
        scores: of TriplanarStudy.scores, under one rule.

    Returns:
        One row a method: method, printed, mean, low, high (95 % over patients), patients, and fused minus it with its paired
        interval: gain, gain_low, gain_high.
    """
    print_of = printed("table1").set_index("plane")["dice"]
    of = {method: rows for method, rows in scores.groupby("method", sort=False)}
    rows = []
    for method in of:
        ours = foreground_dice(summarise(of[method]))
        row = {"method": method, "printed": print_of.get("ensemble" if method == FUSED else method, np.nan)}
        row |= {"mean": ours["mean"], "low": ours["low"], "high": ours["high"], "patients": ours["patients"]}
        if method != FUSED and FUSED in of:
            gain = foreground_dice(compare(of[FUSED], of[method]))
            row |= {"gain": gain["difference"], "gain_low": gain["low"], "gain_high": gain["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def table2(scores: pd.DataFrame, method: str = FUSED) -> pd.DataFrame:
    """The source's Table 2: Dice by disc, printed beside measured.

    Args:
        scores: of TriplanarStudy.scores, under one rule.
        method: of METHODS.

    Returns:
        One row a disc and, last, the mean of them: disc, name, printed, mean, low, high, patients.
    """
    ours = summarise(scores[scores["method"] == method])
    ours = ours[ours["metric"] == "dice"].assign(disc=lambda rows: rows["class"].map(lambda k: "mean" if k < 0 else str(k)))
    theirs = printed("tables2to4").query("table == 2").set_index("disc")["dice"]
    ours["name"] = ours["name"].where(ours["class"] >= 0, f"mean of {(ours['class'] >= 0).sum()} discs")
    return ours.assign(printed=ours["disc"].map(theirs))[["disc", "name", "printed", "mean", "low", "high", "patients"]]


def lost_discs(scores: pd.DataFrame) -> pd.Series:
    """How many labelled discs a table of scores lost altogether, by method."""
    return scores["status"].eq("missed").groupby(scores["method"], sort=False).sum()


def fallbacks(scores: pd.DataFrame) -> pd.Series:
    """In how many masks a table of scores fell back to another rule than was asked for, by method (see ``keep_by_rule``)."""
    masks = scores.drop_duplicates(["method", "case"])
    return (masks["rule"] != masks["kept_by"]).groupby(masks["method"], sort=False).sum()


def foreground_dice(table: pd.DataFrame) -> pd.Series:
    """The row of the mean Dice over discs, of ``summarise`` or ``compare``."""
    return table[(table["class"] == FOREGROUND) & (table["metric"] == "dice")].iloc[0]
