"""Measured values beside true ones: errors by quantity, hernias by disc, decisions at a threshold.

Every table here has a row a measured value, with the columns ``case`` (the series), ``patient``, ``label`` (of the disc or
vertebra), ``quantity``, ``value`` (measured; NaN where it could not be) and ``truth``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from spider_utils.evaluation.agreement import agreement
from spider_utils.evaluation.statistics import bootstrap_interval

HERNIA, OVERHANG = "herniated", "overhang"


def _both_known(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return table[table["quantity"] == quantity].dropna(subset=["value", "truth"])


def error_table(table: pd.DataFrame, quantities: Mapping[str, str]) -> pd.DataFrame:
    """How far measured values are from true ones.

    Args:
        table: measured beside true values (see the module).
        quantities: name -> unit of those to tell of; one that was never measured is left out.

    Returns:
        A row a quantity (the index): unit, n (values that both know), missing (the others), mean abs. error, low, high (95 %
        interval of this mean, from a bootstrap over patients), bias (mean of measured minus true).
    """
    rows = []
    for quantity, unit in quantities.items():
        part = _both_known(table, quantity)
        if part.empty:
            continue
        off = part["value"] - part["truth"]
        found = bootstrap_interval(off.abs(), part["patient"])
        missing = int((table["quantity"] == quantity).sum()) - len(part)
        rows.append((quantity, unit, len(part), missing, found.estimate, found.low, found.high, off.mean()))
    columns = ["quantity", "unit", "n", "missing", "mean abs. error", "low", "high", "bias"]
    return pd.DataFrame(rows, columns=columns).set_index("quantity")


def agreement_by_quantity(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """``error_table``, and how far single values may be off.

    Args:
        table: measured beside true values (see the module); ``case`` is not needed.
        quantities: which, in this order; those with fewer than two values are left out.

    Returns:
        ``quantity``, ``n`` that both know, ``missing`` (the others), ``MAE`` (mean absolute error) with its 95 % interval over
        patients ``MAE from`` and ``MAE to``, the ``median`` of absolute errors, ``bias``, 95 % limits of agreement ``low`` and
        ``high`` (see evaluation.agreement), and the largest absolute error, ``worst``; all in the quantity's unit.
    """
    errors = error_table(table, dict.fromkeys(quantities, "")).query("n > 1").drop(columns="unit")
    errors.columns = ["n", "missing", "MAE", "MAE from", "MAE to", "bias"]
    more = []
    for quantity in errors.index:
        part = _both_known(table, quantity)
        found, off = agreement(part["value"], part["truth"], part["patient"]), (part["value"] - part["truth"]).abs()
        more.append((off.median(), found.low, found.high, off.max()))
    errors[["median", "low", "high", "worst"]] = pd.DataFrame(more, index=errors.index, columns=range(4), dtype=float)
    order = ["quantity", "n", "missing", "MAE", "MAE from", "MAE to", "median", "bias", "low", "high", "worst"]
    return errors.reset_index()[order]


def hernia_counts(table: pd.DataFrame) -> dict[str, str]:
    """How many herniated discs are found, how many others are called so, and whether the level is right.

    Args:
        table: measured beside true values, with the quantities "herniated" (1 or 0) and "overhang" (mm).

    Returns:
        "discs found", "others called herniated" and "series with the level right", each as "x of y". A series counts as right
        when its disc with the largest measured overhang, of those called herniated, is truly herniated.
    """
    discs = table[(table["quantity"] == HERNIA) & table["value"].notna()]
    heights = table[table["quantity"] == OVERHANG].set_index(["case", "label"])["value"]
    found, true = discs["value"] == 1, discs["truth"] == 1
    series, right = discs.loc[true, "case"].unique(), 0
    for case in series:
        of_case = discs["case"] == case
        named = discs.loc[of_case & found, "label"]
        if len(named):
            highest = heights.loc[[(case, label) for label in named]].idxmax()[1]
            right += highest in set(discs.loc[of_case & true, "label"])
    return {
        "discs found": f"{(found & true).sum()} of {true.sum()}",
        "others called herniated": f"{(found & ~true).sum()} of {(~true).sum()}",
        "series with the level right": f"{right} of {len(series)} (of {discs.loc[true, 'patient'].nunique()} patients)",
    }


def false_hernias(table: pd.DataFrame) -> pd.DataFrame:
    """The discs that are called herniated and are not: case, label, overhang (mm, measured) and true overhang (mm)."""
    keys = ["case", "label"]
    discs = table[(table["quantity"] == HERNIA) & (table["value"] == 1) & (table["truth"] == 0)]
    heights = table.loc[table["quantity"] == OVERHANG, [*keys, "value", "truth"]]
    heights = heights.rename(columns={"value": "overhang", "truth": "true overhang"})
    return discs[keys].merge(heights, on=keys, how="left")


def decision_table(table: pd.DataFrame, rules: Mapping[str, tuple[str, Callable]], answers_from: str) -> pd.DataFrame:
    """What a rule decides on measured values, against what it decides on true ones, and beside an answer that is always "no".

    Args:
        table: measured beside true values.
        rules: name -> (quantity, function of a Series of values that gives a Series of bool).
        answers_from: where the measured values come from, in words.

    Returns:
        Two rows a rule: decision, answers from, levels (values that both know), true (the rule says yes to the true value),
        missed, false alarm.
    """
    rows = []
    for name, (quantity, rule) in rules.items():
        part = _both_known(table, quantity)
        true = rule(part["truth"])
        for origin, said in ((answers_from, rule(part["value"])), ("always no", true & False)):
            counts = {"true": true.sum(), "missed": (true & ~said).sum(), "false alarm": (said & ~true).sum()}
            rows.append({"decision": name, "answers from": origin, "levels": len(part), **counts})
    return pd.DataFrame(rows)
