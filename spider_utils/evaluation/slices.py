"""Scores of label maps on a slice store's grid: quick, without distances, for ensembles and for the sources' own way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from spider_utils.evaluation.metrics import measure_case


def score_slices(
    truth: np.ndarray, labels: np.ndarray, table: pd.DataFrame, classes: Mapping[int, str], by_slice: bool = False
) -> pd.DataFrame:
    """Score label maps of slices, all slices of a series together.

    Pixels of the grid have another size in each series, so nothing here is a distance: surface scores are NaN.

    Args:
        truth, labels: integer (slices, rows, columns).
        table: the slices' rows of the store's table, with case, patient and slice.
        classes: label -> name of the classes to score.
        by_slice: score each slice by itself, as `medfusion` (section 5.1) seems to.

    Returns:
        Rows of measure_case with case (by slice: with the slice's number) and patient.

    Raises:
        ValueError: lengths differ; see also measure_case.
    """
    if not len(truth) == len(labels) == len(table):
        raise ValueError(f"{len(truth)} truths, {len(labels)} label maps and {len(table)} rows of the table do not fit together")
    case = table["case"].astype(str) + ("_slice" + table["slice"].astype(str) if by_slice else "")
    parts = []
    for name, rows in pd.Series(np.arange(len(table))).groupby(case.to_numpy(), sort=False):
        pick = rows.iloc[0] if by_slice else rows.to_numpy()
        scores = measure_case(truth[pick], labels[pick], None, classes, tolerance_mm=1.0)
        parts.append(scores.assign(case=name, patient=table["patient"].iloc[rows.iloc[0]]))
    return pd.concat(parts, ignore_index=True)
