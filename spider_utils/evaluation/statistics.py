"""From scores of single cases to statements: means with intervals, pooled scores, paired comparisons.

Patients, not images, are the independent unit: the series and slices of one patient resemble each other, so treating them as
independent makes every interval too narrow. All intervals here are percentile intervals of a bootstrap that draws whole
patients with replacement (cluster bootstrap; Field & Welsh, J R Stat Soc B 69(3):369, 2007) with a fixed seed. With fewer than
about ten patients percentile intervals are themselves too narrow: read them as a lower bound of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from spider_utils.evaluation.metrics import BACKGROUND, METRICS, REGION_METRICS, SOURCE_VARIANTS, foreground_mean

FOREGROUND = -1  # stands in the column "class" for the mean over the foreground classes
FOREGROUND_NAME = "foreground mean"
N_BOOT = 2000
CONFIDENCE = 0.95
SUMMARY_COLUMNS = (
    "view", "class", "name", "metric", "mean", "std", "low", "high", "n", "unit", "patients", "absent", "missed", "false",
    "tolerance_mm", "confidence",
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval.

    Attributes:
        estimate: the mean (or mean difference) of the values themselves.
        low, high: ends of the interval; NaN with fewer than two groups, from which no spread can be seen.
        n: number of values used (values, or pairs of values, that are not NaN).
        n_groups: number of groups (patients) that they come from.
        left_out: number of values or pairs left out because of NaN.
    """

    estimate: float
    low: float
    high: float
    n: int
    n_groups: int
    left_out: int

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n} of {self.n_groups} patients"


@dataclass(frozen=True)
class TestResult:
    """A paired test: ``statistic``, two-sided ``p_value``, and the number of independent differences ``n``."""

    __test__ = False  # the name must not make pytest collect it

    statistic: float
    p_value: float
    n: int


# -------------------------------------------------------------------------------------------------------------- bootstrap


def _group_index(groups: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Index 0.. of each value's group, numbered by sorted name so that the order of rows does not matter."""
    if groups is None:
        return np.arange(n)
    groups = list(groups)
    if len(groups) != n:
        raise ValueError(f"{n} values need {n} groups, not {len(groups)}")
    number = {name: i for i, name in enumerate(sorted(set(groups), key=lambda name: (str(type(name)), name)))}
    return np.array([number[name] for name in groups], dtype=np.intp)


@lru_cache(maxsize=16)
def times_drawn(groups: int, n_boot: int, seed: int) -> np.ndarray:
    """How often each group is taken in each resample: (n_boot, groups) float64, rows sum to ``groups``.

    That is the same as drawing ``groups`` of them with replacement. Kept, because every class and metric needs it again.
    """
    times = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=n_boot).astype(np.float64)
    times.setflags(write=False)
    return times


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of sum(numerators) / sum(denominators) when whole groups are drawn with replacement.

    Means (sum of values / number of values) and pooled scores (sum of counts / sum of counts) are both such ratios.

    Args:
        numerators, denominators: (groups, classes); the ratios of several classes are averaged, without those that a resample
            does not hold. Groups that hold none of the classes say nothing and are not drawn.
        n_boot, confidence, seed: see `bootstrap_interval`.

    Returns:
        Low and high end; NaN with fewer than two groups.
    """
    used = (denominators > 0).any(axis=1)
    if used.sum() < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(
        ratio_draws(numerators[used], denominators[used], n_boot, seed), [(1 - confidence) / 2, (1 + confidence) / 2]
    )
    return float(low), float(high)


def ratio_draws(numerators: np.ndarray, denominators: np.ndarray, n_boot: int = N_BOOT, seed: int = 0) -> np.ndarray:
    """Ratios of sums, averaged over classes, in each resample of whole groups: (n_boot,).

    The same number of groups and the same seed give the same resamples, so two such results can be subtracted.

    Args:
        numerators, denominators: (groups, classes); a class that a resample does not hold is left out of its mean.
        n_boot: number of resamples.
        seed: of the draws.
    """
    times = times_drawn(len(numerators), n_boot, seed)
    tops, bottoms = times @ numerators, times @ denominators
    held = bottoms > 0
    return np.divide(tops, bottoms, out=np.zeros_like(tops), where=held).sum(axis=1) / held.sum(axis=1)


def _check_bootstrap(n_boot: int, confidence: float) -> None:
    if n_boot < 1 or not 0 < confidence < 1:
        raise ValueError(f"n_boot must be at least 1 and confidence between 0 and 1, not {n_boot} and {confidence}")


def bootstrap_interval(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean of ``values`` and its percentile interval from a bootstrap over groups.

    Args:
        values: (n,) numbers; NaN are left out and counted.
        groups: (n,) group (patient) of each value; values of a group are drawn together. None: every value on its own.
        n_boot: number of resamples.
        confidence: share of the resampled means inside the interval.
        seed: seed of the random draws; the same input and seed give the same interval.

    Raises:
        ValueError: lengths differ, or n_boot or confidence is out of range.
    """
    _check_bootstrap(n_boot, confidence)
    values = np.asarray(values, dtype=np.float64)
    group = _group_index(groups, len(values))
    keep = ~np.isnan(values)
    values, (names, group) = values[keep], np.unique(group[keep], return_inverse=True)
    sums, counts = np.bincount(group, values, len(names)), np.bincount(group, minlength=len(names))
    low, high = ratio_interval(sums[:, None], counts[:, None], n_boot, confidence, seed)
    estimate = float(values.mean()) if len(values) else float("nan")
    return Interval(estimate, low, high, len(values), len(names), int((~keep).sum()))


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean of a - b over pairs, with its interval from a bootstrap over groups. Arguments as in `bootstrap_interval`.

    Pairs with a NaN on either side are left out and counted.

    Raises:
        ValueError: a, b and groups differ in length.
    """
    return bootstrap_interval(_differences(a, b), groups, n_boot, confidence, seed)


def _differences(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a paired comparison needs two lists of one length, not shapes {a.shape} and {b.shape}")
    return a - b


def wilcoxon_test(a: Sequence[float], b: Sequence[float], groups: Sequence[Hashable] | None = None) -> TestResult:
    """Wilcoxon signed-rank test of a against b, two-sided, on one difference a group (the mean over its pairs).

    The test assumes independent differences, hence one for each patient. Pairs with NaN are left out. Differences of exactly
    zero carry no sign and are dropped (Wilcoxon's own rule); if all are zero, p is 1.

    Raises:
        ValueError: a, b and groups differ in length.
    """
    difference = _differences(a, b)
    group = _group_index(groups, len(difference))
    keep = ~np.isnan(difference)
    _, group = np.unique(group[keep], return_inverse=True)
    means = np.bincount(group, difference[keep]) / np.bincount(group) if keep.any() else np.zeros(0)
    if not len(means):
        return TestResult(float("nan"), float("nan"), 0)
    if not means.any():
        return TestResult(0.0, 1.0, len(means))
    from scipy import stats  # a second to import, and rarely needed

    result = stats.wilcoxon(means)
    return TestResult(float(result.statistic), float(result.pvalue), len(means))


# ----------------------------------------------------------------------------------------------------------------- tables


def _check_table(table: pd.DataFrame, extra: Iterable[str] = ()) -> None:
    """ValueError unless ``table`` holds one row for each case and class, as `measure_case` makes them."""
    missing = [name for name in ("case", "patient", "class", "name", "status", *extra) if name not in table]
    if missing:
        raise ValueError(f"the table of cases has no column {', '.join(missing)}; add it to the rows of measure_case")
    if table.empty:
        raise ValueError("the table of cases has no rows")
    twice = table.duplicated(["case", "class"])
    if twice.any():
        first = table[twice].iloc[0]
        raise ValueError(f"case {first['case']} has class {first['class']} twice; summarise one model at a time")


def _one_value(table: pd.DataFrame, column: str) -> object:
    values = table[column].unique()
    if len(values) != 1:
        raise ValueError(f"the table mixes {column} {', '.join(map(str, values))}; summarise them apart")
    return values[0]


def _metrics_in(table: pd.DataFrame) -> list[str]:
    return [metric for metric in METRICS + SOURCE_VARIANTS if metric in table]


def _by_class(table: pd.DataFrame) -> list[tuple[int, str, pd.DataFrame, dict[str, int]]]:
    """(class, name, rows with one a case, {status: count}) for every class and, last, the foreground mean."""
    statuses = ("absent", "missed", "false")
    parts = []
    for (label, name), rows in table.groupby(["class", "name"], sort=False):
        parts.append((label, name, rows, {status: int((rows["status"] == status).sum()) for status in statuses}))
    if (table["class"] != BACKGROUND).any():
        means = foreground_mean(table)
        parts.append((FOREGROUND, FOREGROUND_NAME, means, {status: int(means[status].sum()) for status in statuses}))
    return parts


def summarise(
    table: pd.DataFrame,
    unit: str | None = None,
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of every metric over cases, class by class and for the foreground mean, with intervals over patients.

    Args:
        table: rows of `measure_case` for all cases of one model, with columns ``case`` and ``patient`` added.
        unit: what ``n`` counts and the mean is over. None: the table's own unit, "volume" or "slice" (mean over volumes, the
            kit's rule). "patient": the cases of a patient are averaged first.
        n_boot, confidence, seed: see `bootstrap_interval`. Whatever the unit, whole patients are drawn.

    Returns:
        One row for each class and metric, with SUMMARY_COLUMNS: view ("mean"), class (FOREGROUND = -1 for the foreground mean),
        name, metric, mean, std (between units, n - 1), low, high, n (units with a defined value), unit, patients (patients
        with a defined value), absent, missed, false (cases in which the class was so, summed over classes for the foreground
        mean), tolerance_mm, confidence.

    Raises:
        ValueError: a column is missing, a case appears twice, units or tolerances are mixed, or the unit is not the table's.
    """
    _check_table(table, ("unit", "tolerance_mm"))
    own_unit, tolerance = _one_value(table, "unit"), _one_value(table, "tolerance_mm")
    unit = own_unit if unit is None else unit
    if unit not in (own_unit, "patient"):
        raise ValueError(f"unit must be '{own_unit}' (what this table measured) or 'patient', not '{unit}'")
    metrics, rows = _metrics_in(table), []
    for label, name, cases, counts in _by_class(table):
        if unit == "patient":
            cases = cases.groupby("patient", sort=False)[metrics].mean().reset_index()
        for metric in metrics:
            found = bootstrap_interval(cases[metric], cases["patient"], n_boot, confidence, seed)
            rows.append(
                {
                    "view": "mean", "class": label, "name": name, "metric": metric, "mean": found.estimate,
                    "std": cases[metric].std(ddof=1), "low": found.low, "high": found.high, "n": found.n, "unit": unit,
                    "patients": found.n_groups, **counts, "tolerance_mm": tolerance, "confidence": confidence,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def pooled(table: pd.DataFrame, n_boot: int = N_BOOT, confidence: float = CONFIDENCE, seed: int = 0) -> pd.DataFrame:
    """Scores of all voxels of all cases thrown together, class by class: the second view, because sources print it.

    Large structures and large volumes weigh more than in `summarise`, and a missed small one hardly shows. Only the region
    metrics are pooled. The foreground mean here is the mean of the pooled scores of the foreground classes.

    Args:
        table: as for `summarise`.
        n_boot, confidence, seed: bootstrap over patients, see `bootstrap_interval`.

    Returns:
        The columns of `summarise` with view "pooled"; ``n`` counts the cases that add to the score's denominator; std and
        tolerance_mm are NaN.

    Raises:
        ValueError: as for `summarise`.
    """
    _check_bootstrap(n_boot, confidence)
    _check_table(table, ("unit", "tp", "fp", "fn"))
    unit, rows = _one_value(table, "unit"), []
    for label, name, cases, counts in _by_class(table):
        members = table[table["class"] != BACKGROUND] if label == FOREGROUND else cases
        patient = _group_index(list(members["patient"]), len(members))
        cell = (patient, _group_index(list(members["class"]), len(members)))
        for metric in REGION_METRICS:
            top, bottom = _ratio(metric, members)
            tops, bottoms = np.zeros((2, members["patient"].nunique(), members["class"].nunique()))
            np.add.at(tops, cell, top)
            np.add.at(bottoms, cell, bottom)
            with np.errstate(invalid="ignore"):
                scores = pd.Series(tops.sum(axis=0) / bottoms.sum(axis=0))
            low, high = ratio_interval(tops, bottoms, n_boot, confidence, seed)
            rows.append(
                {
                    "view": "pooled", "class": label, "name": name, "metric": metric, "mean": scores.mean(), "low": low,
                    "high": high, "n": members.loc[bottom > 0, "case"].nunique(), "unit": unit,
                    "patients": members.loc[bottom > 0, "patient"].nunique(), **counts, "confidence": confidence,
                }
            )  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(SUMMARY_COLUMNS))


def _ratio(metric: str, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a region metric, row by row."""
    tp, fp, fn = (rows[name].to_numpy(dtype=np.float64) for name in ("tp", "fp", "fn"))
    return {
        "dice": (2 * tp, 2 * tp + fp + fn),
        "iou": (tp, tp + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
    }[metric]


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    metric: str = "dice",
    n_boot: int = N_BOOT,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two models on the same cases, class by class and for the foreground mean.

    Args:
        a, b: tables of cases (as for `summarise`) of the two models, over the same cases and classes.
        metric: the metric to compare.
        n_boot, confidence, seed: see `bootstrap_interval`.

    Returns:
        One row a class: class, name, metric, mean_a, mean_b (over the pairs), difference (a - b), low, high, p_wilcoxon,
        n (pairs), unit, patients, left_out (cases in which either has no value), confidence. The p values are not corrected
        for the number of classes.

    Raises:
        ValueError: cases, classes, units or tolerances differ, or the metric is not in both tables.
    """
    for table in (a, b):
        _check_table(table, ("unit", "tolerance_mm", metric))
    both = pd.concat([a, b])
    unit = _one_value(both, "unit")
    _one_value(both, "tolerance_mm")
    keys = ["case", "class"]
    differing = pd.MultiIndex.from_frame(a[keys]).symmetric_difference(pd.MultiIndex.from_frame(b[keys]))
    if len(differing):
        raise ValueError(f"the two tables do not hold the same cases and classes: {len(differing)} differ, first {differing[0]}")
    rows = []
    for (label, name, cases_a, _), (_, _, cases_b, _) in zip(_by_class(a), _by_class(_in_order_of(b, a)), strict=True):
        values_a, values_b = cases_a[metric].to_numpy(), cases_b[metric].to_numpy()
        patients = list(cases_a["patient"])
        found = paired_bootstrap(values_a, values_b, patients, n_boot, confidence, seed)
        paired = ~np.isnan(values_a - values_b)
        rows.append(
            {
                "class": label, "name": name, "metric": metric,
                "mean_a": pd.Series(values_a[paired]).mean(), "mean_b": pd.Series(values_b[paired]).mean(),
                "difference": found.estimate, "low": found.low, "high": found.high,
                "p_wilcoxon": wilcoxon_test(values_a, values_b, patients).p_value, "n": found.n, "unit": unit,
                "patients": found.n_groups, "left_out": found.left_out, "confidence": confidence,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _in_order_of(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``table`` in the order of ``other``'s cases and classes."""
    keys = ["case", "class"]
    return table.set_index(keys).loc[pd.MultiIndex.from_frame(other[keys])].reset_index()


def format_summary(summary: pd.DataFrame) -> str:
    """The table of `summarise` as text for a console: a line a class, units in the head; a column for rows of `pooled`, if there.

    Classes that no case holds are left out.
    """
    means = summary[summary["view"] == "mean"]
    if means.empty:
        raise ValueError("the summary holds no means over cases to show")
    unit, confidence, tolerance = (means[column].iloc[0] for column in ("unit", "confidence", "tolerance_mm"))
    cell = {(row["class"], row["metric"]): row for _, row in means.iterrows()}
    pooled_dice = summary[(summary["view"] == "pooled") & (summary["metric"] == "dice")].set_index("class")["mean"]
    pooled_head = [] if pooled_dice.empty else ["pooled"]
    head = ["class", f"Dice [{confidence:.0%}]", *pooled_head, "IoU", "prec.", "recall", f"ASD mm [{confidence:.0%}]",
            "HD95 mm", f"NSD {tolerance:g} mm", f"{unit}s", "patients", "absent", "missed", "false"]  # fmt: skip
    lines = [head]
    for label in means["class"].unique():
        dice = cell[label, "dice"]
        if dice["n"] == 0:
            continue
        asd = cell[label, "asd_mm"]
        values = [cell[label, metric]["mean"] for metric in ("iou", "precision", "recall")]
        lines.append(
            [dice["name"] if label == FOREGROUND else f"{label} {dice['name']}", _with_interval(dice)]
            + [_number(pooled_dice.get(label, float("nan"))) for _ in pooled_head]
            + [_number(value) for value in values]
            + [_with_interval(asd, 2), _number(cell[label, "hd95_mm"]["mean"], 2), _number(cell[label, "nsd"]["mean"])]
            + [str(dice[column]) for column in ("n", "patients", "absent", "missed", "false")]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    text.append(
        f"Means over {unit}s; [ ] = {confidence:.0%} interval, bootstrap over patients; distances in mm; "
        f"absent, missed, false count {'cases' if unit == 'patient' else unit + 's'}."
    )
    return "\n".join(text)


def _number(value: float, digits: int = 3) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _with_interval(row: pd.Series, digits: int = 3) -> str:
    if np.isnan(row["low"]):
        return _number(row["mean"], digits)
    return f"{row['mean']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
