"""Was it found, and where? Rates of a yes-or-no diagnosis and errors of place, in the form of `triplanar`'s Tables 5 and 6."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from spider_utils.data.manifest import printed_table
from spider_utils.evaluation.prevalence import share_interval
from spider_utils.evaluation.statistics import bootstrap_interval

COUNTS = ("TP", "TN", "FP", "FN")
RATES = {  # rate -> counts above and below the line
    "accuracy": (("TP", "TN"), ("TP", "TN", "FP", "FN")),
    "sensitivity": (("TP",), ("TP", "FN")),
    "specificity": (("TN",), ("TN", "FP")),
    "precision": (("TP",), ("TP", "FP")),
}


def printed(table: str) -> pd.DataFrame:
    """What `triplanar` prints of herniation: "table5" (unit, RATES, COUNTS) or "table6" (quantity, over, error_pixels).

    Raises:
        KitError: another name.
    """
    return printed_table("triplanar", table, ("table5", "table6"))


def rates(counts: Mapping[str, int]) -> dict[str, float]:
    """Accuracy, sensitivity, specificity and precision of TP, TN, FP, FN; NaN where nothing is to be divided by."""
    sums = {name: [sum(counts[key] for key in part) for part in parts] for name, parts in RATES.items()}
    return {name: top / bottom if bottom else math.nan for name, (top, bottom) in sums.items()}


def how_rounded(value: float, exact: float, digits: int = 3) -> str:
    """How a printed rate follows from its counts: "rounded", "cut off" (digits dropped), "neither", or "undefined" (0 / 0)."""
    if not math.isfinite(exact):
        return "undefined"
    step = 10**digits
    if math.isclose(value, math.floor(exact * step + 0.5) / step, abs_tol=1e-9):
        return "rounded"
    return "cut off" if math.isclose(value, math.floor(exact * step + 1e-9) / step, abs_tol=1e-9) else "neither"


def check_rates(table: pd.DataFrame) -> pd.DataFrame:
    """Whether printed rates follow from the counts beside them.

    Args:
        table: ``unit``, RATES, COUNTS.

    Returns:
        A row a unit and rate: ``unit``, ``rate``, ``printed``, ``from_counts``, ``follows`` (see ``how_rounded``).
    """
    rows = []
    for _, row in table.iterrows():
        for name, exact in rates({key: int(row[key]) for key in COUNTS}).items():
            rows.append({"unit": row["unit"], "rate": name, "printed": row[name], "from_counts": exact})
    found = pd.DataFrame(rows)
    return found.assign(follows=[how_rounded(p, e) for p, e in zip(found["printed"], found["from_counts"], strict=True)])


def detection_row(truth: np.ndarray, found: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """Counts and rates of one diagnosis.

    Args:
        truth, found: (n,) bool: there, and said to be there.
        patients: (n,) whose each is.

    Returns:
        RATES, each with "<rate> low" and "<rate> high" (95 %, bootstrap over patients, see evaluation.prevalence), COUNTS,
        ``n`` and ``patients``.

    Raises:
        ValueError: lengths differ.
    """
    truth, found, patients = np.asarray(truth, bool), np.asarray(found, bool), np.asarray(patients)
    if not len(truth) == len(found) == len(patients):
        raise ValueError(f"{len(truth)} truths, {len(found)} findings and {len(patients)} patients do not fit together")
    which = {"TP": truth & found, "TN": ~truth & ~found, "FP": ~truth & found, "FN": truth & ~found}
    counts = {name: int(part.sum()) for name, part in which.items()}
    row: dict[str, float] = {}
    for name, value in rates(counts).items():
        top, bottom = RATES[name]
        used = np.any([which[key] for key in bottom], axis=0)
        low, high = share_interval(np.any([which[key] for key in top], axis=0)[used], patients[used])
        row |= {name: value, f"{name} low": low, f"{name} high": high}
    return row | counts | {"n": len(truth), "patients": len(set(patients.tolist()))}


def error_row(errors: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """Mean absolute error with its 95 % interval over patients: ``error``, ``low``, ``high``, ``n``, ``patients``.

    Args:
        errors: (n,) of either sign; NaN are left out.
        patients: (n,) whose each is.
    """
    found = bootstrap_interval(np.abs(np.asarray(errors, dtype=float)), list(patients))
    return {"error": found.estimate, "low": found.low, "high": found.high, "n": found.n, "patients": found.n_groups}
