"""What a table of gradings says by itself: how frequent findings are, by level, and which come together.

Intervals are percentile intervals of a bootstrap over patients (see evaluation.statistics): the discs of one spine resemble
each other. Where no disc, or every one, has the finding, no resample shows another share; there the exact interval of Clopper &
Pearson (Biometrika 26:404, 1934) for as many trials as patients stands instead: wide enough however alike a patient's discs are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.data.gradings import FINDINGS, Finding
from spider_utils.evaluation.statistics import CONFIDENCE, N_BOOT, ratio_interval, times_drawn


def exact_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's interval of ``count`` out of ``n`` independent trials; NaN without a trial."""
    from scipy import stats  # a second to import

    if not n:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high


def share_interval(hits: np.ndarray, patients: np.ndarray, n_boot: int = N_BOOT, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the share of True in ``hits``, patients drawn whole; see the module for shares of 0 and 1.

    Args:
        hits, patients: (n,) bool, and whose each is.
    """
    codes, names = pd.factorize(np.asarray(patients))
    counts, totals = np.bincount(codes, hits, len(names)), np.bincount(codes, minlength=len(names))
    if counts.sum() in (0, totals.sum()):
        return exact_interval(len(names) if counts.sum() else 0, len(names))
    return ratio_interval(counts[:, None], totals[:, None].astype(float), n_boot, seed=seed)


def is_present(values: pd.Series, finding: Finding) -> pd.Series:
    """Which grades count as the finding being there: boolean, missing where nothing is graded."""
    return (values >= finding.present_from).astype("boolean").where(values.notna())


def prevalence(table: pd.DataFrame, by_level: bool = False, every_grade: bool = False) -> pd.DataFrame:
    """How many discs have each finding.

    Args:
        table: of data.gradings.read_gradings.
        by_level: a row a level too.
        every_grade: a row a grade instead of one for "present" (Pfirrmann grade 4 and 5, any Modic change).

    Returns:
        ``finding`` (its name), ``grade`` ("present" or the grade), ``level`` ("all", or as in the table, from below), ``discs``
        (graded), ``patients``, ``count``, ``share``, ``low``, ``high`` (95 %).
    """
    parts = [("all", table)]
    if by_level:
        parts = [(level, rows) for (_, level), rows in table.groupby(["disc", "level"], sort=True)]
    found = []
    for finding in FINDINGS.values():
        for level, rows in parts:
            graded = rows[rows[finding.column].notna()]
            values, patients = graded[finding.column].astype(int), graded["patient"].to_numpy()
            wanted = {str(grade): values == grade for grade in finding.grades}
            for grade, hits in (wanted if every_grade else {"present": values >= finding.present_from}).items():
                low, high = share_interval(hits.to_numpy(), patients)
                name = finding.name if every_grade else finding.present_name
                share = float(hits.mean()) if len(hits) else float("nan")
                found.append(
                    {"finding": name, "grade": grade, "level": level, "discs": len(hits), "patients": len(set(patients)),
                     "count": int(hits.sum()), "share": share, "low": low, "high": high}
                )  # fmt: skip
    return pd.DataFrame(found)


def co_occurrence(table: pd.DataFrame, n_boot: int = N_BOOT, seed: int = 0) -> pd.DataFrame:
    """How much more frequent each finding is where another one is.

    Args:
        table: of data.gradings.read_gradings.

    Returns:
        A row an ordered pair: ``finding``, ``given`` (names), ``discs`` (both graded), ``both`` (count), ``with_given`` and
        ``without_given`` (share of discs with the finding among those with and without the other), ``difference`` of the two
        with ``low`` and ``high`` (95 %; NaN where a share is not defined).
    """
    present = {finding: is_present(table[finding.column], finding) for finding in FINDINGS.values()}
    codes, names = pd.factorize(table["patient"])
    times, rows = times_drawn(len(names), n_boot, seed), []
    for finding, hits in present.items():
        for given, others in present.items():
            if finding is given:
                continue
            known = (hits.notna() & others.notna()).to_numpy()
            a, b = hits[known].to_numpy(bool), others[known].to_numpy(bool)
            # Per patient: with both, with the other, with the finding alone, without the other.
            sums = np.stack([np.bincount(codes[known], part, len(names)) for part in (a & b, b, a & ~b, ~b)], axis=1)
            both, with_, alone, without = np.vstack([sums.sum(axis=0), times @ sums]).T
            with np.errstate(invalid="ignore"):
                shares = both / with_, alone / without
            drawn = (shares[0] - shares[1])[1:]
            usable = len(names) > 1 and np.isfinite(drawn).mean() > 0.5
            low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if usable else (np.nan, np.nan)
            rows.append(
                {"finding": finding.present_name, "given": given.present_name, "discs": int(known.sum()), "both": int(both[0]),
                 "with_given": shares[0][0], "without_given": shares[1][0], "difference": shares[0][0] - shares[1][0],
                 "low": low, "high": high}
            )  # fmt: skip
    return pd.DataFrame(rows)
