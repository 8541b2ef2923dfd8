"""Every test of every printed row, and one verdict a row."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from spider_utils.evaluation.audit.findings import CONSISTENT, IMPOSSIBLE, UNDECIDED, VERDICTS, Finding, as_printed, undecided
from spider_utils.evaluation.audit.tables import TESTS
from spider_utils.evaluation.published import chosen_tables

ALONE = "nothing is printed beside it that it could be held against"


def audit(source: str | None = None) -> pd.DataFrame:
    """Every test of every printed row.

    Args:
        source: key of published.SOURCES; all when None.

    Returns:
        One row a test (a printed row without any test has one, undecided): the fields of Finding.

    Raises:
        KitError: another source.
    """
    found: list[Finding] = []
    for table in chosen_tables(source):
        tests = list(TESTS[table.name](table)) if table.name in TESTS else []
        for row in table.rows:
            mine = [one for one in tests if (one.table, one.row) == (row.table, row.row)]
            found += mine or [undecided(row, "-", as_printed(row, *row.cells), ALONE)]
        # Tests of several rows at once have rows of their own.
        found += [one for one in tests if one not in found]
    return pd.DataFrame([asdict(one) for one in found])


def by_row(findings: pd.DataFrame) -> pd.DataFrame:
    """One verdict a printed row.

    A row is impossible when a test fails that holds under every reading, or when every reading that was tried fails; otherwise it
    is consistent when a test was passed, and undecided when none could be.

    Args:
        findings: of ``audit``.

    Returns:
        One row a printed row, in the same order: source, table, row, verdict, numbers and why of the tests that decide.
    """
    rows = []
    for (source, table, row), tests in findings.groupby(["source", "table", "row"], sort=False):
        verdict, deciding = _verdict(tests.to_dict("records"))
        numbers, why = ("; ".join(dict.fromkeys(one[key] for one in deciding)) for key in ("numbers", "why"))
        rows.append({"source": source, "table": table, "row": row, "verdict": verdict, "numbers": numbers, "why": why})
    return pd.DataFrame(rows)


def _verdict(tests: list[dict[str, str]]) -> tuple[str, list[dict[str, str]]]:
    """The verdict of one row, and the tests that decide it."""
    readings = list(dict.fromkeys(one["reading"] for one in tests if one["reading"]))
    failed = [one for one in tests if one["verdict"] == IMPOSSIBLE]
    fallen = {one["reading"] for one in failed}
    standing = [one for one in readings if one not in fallen]
    if "" in fallen or (readings and not standing):
        # Of two readings that fail, the one that allows more says it: a mean has bounds where one region has a single value.
        told = {"", *([] if standing else readings[-1:])}
        return IMPOSSIBLE, [one for one in failed if one["reading"] in told]
    passed = [one for one in tests if one["verdict"] == CONSISTENT and one["reading"] in ("", *standing[:1])]
    return (CONSISTENT, passed) if passed else (UNDECIDED, [one for one in tests if one["verdict"] == UNDECIDED])


def verdict_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """How many printed rows of each source have each verdict.

    Args:
        rows: of ``by_row``.

    Returns:
        One row a source, a column a verdict, and ``rows``.
    """
    counts = pd.crosstab(rows["source"], rows["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    return counts.reindex(rows["source"].unique()).assign(rows=counts.sum(axis=1)).rename_axis(columns=None)
