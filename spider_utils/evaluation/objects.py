"""IoU of correctly found objects, as `triplanar` scores the tissues of its axial slices (Table 7).

The source says "IoU of mask for correctly detected objects" and no more. Chosen here: an object is a connected piece of one
tissue on one slice (corners connect); truth and prediction are paired one to one so that the IoUs add up to the most; a pair
whose IoU reaches a threshold is a found object. True objects without partner are missed, predicted ones false. IoU is averaged
over found objects alone: it says nothing of what was missed, so both counts stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from spider_utils.evaluation.statistics import bootstrap_interval

FOUND_IOU = 0.5
SMALLEST_MM2 = 10.0  # of a true object: what is smaller is a slice through another one's edge

Tissues = Mapping[str, Sequence[int]]


def object_scores(
    truth: np.ndarray,
    prediction: np.ndarray,
    values: Sequence[int],
    pixel_mm: float,
    found_iou: float = FOUND_IOU,
    smallest_mm2: float = SMALLEST_MM2,
) -> pd.DataFrame:
    """Pair the true and predicted objects of one tissue on one slice.

    Args:
        truth, prediction: (rows, columns) labels.
        values: labels that make up the tissue together.
        pixel_mm: edge of a pixel.
        found_iou: least IoU of a found object, above 0.
        smallest_mm2: smaller objects are left out: true ones with predicted ones that lie on them by more than half, predicted
            ones unless paired.

    Returns:
        A row an object: status ("found", "missed", "false"), iou (NaN but for found ones), area_mm2 (of the true one; of the
        predicted one where it is false).

    Raises:
        ValueError: shapes differ, or found_iou is not above 0 and at most 1.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(f"truth and prediction must be slices of one shape, not {truth.shape} and {prediction.shape}")
    if not 0 < found_iou <= 1:
        raise ValueError(f"found_iou must lie above 0 and not above 1, not {found_iou}")
    (ours, n), (theirs, m) = (ndimage.label(np.isin(mask, values), np.ones((3, 3))) for mask in (truth, prediction))
    overlap = np.bincount((ours * (m + 1) + theirs).reshape(-1), minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    sizes, found_sizes = overlap.sum(axis=1)[1:], overlap.sum(axis=0)[1:]
    both = overlap[1:, 1:]
    iou = both / np.maximum(sizes[:, None] + found_sizes[None] - both, 1)
    iou = np.where(iou >= found_iou, iou, 0)
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-iou), strict=True) if iou[i, j] > 0]
    least, area = smallest_mm2 / pixel_mm**2, pixel_mm**2
    crumbs = sizes < least
    rows = [{"status": "found", "iou": iou[i, j], "area_mm2": sizes[i] * area} for i, j in pairs if not crumbs[i]]
    lost = set(range(n)) - {i for i, _ in pairs}
    rows += [{"status": "missed", "iou": np.nan, "area_mm2": sizes[i] * area} for i in sorted(lost) if not crumbs[i]]
    for j in sorted(set(range(m)) - {j for _, j in pairs}):
        on_crumbs = both[crumbs, j].sum() > 0.5 * found_sizes[j]
        if found_sizes[j] >= least and not on_crumbs:
            rows.append({"status": "false", "iou": np.nan, "area_mm2": found_sizes[j] * area})
    return pd.DataFrame(rows, columns=["status", "iou", "area_mm2"])


def score_objects(
    slices: Iterable[tuple[Mapping[str, object], np.ndarray, np.ndarray, float]],
    tissues: Tissues,
    found_iou: float = FOUND_IOU,
    only_with: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """``object_scores`` of many slices and tissues.

    Args:
        slices: (what to know of the slice, as ``patient``; truth; prediction; pixel_mm) each.
        tissues: name -> labels that make it up together.
        found_iou: as for object_scores.
        only_with: tissue -> a label that a slice's truth must hold for the tissue to be scored there.

    Returns:
        A row an object: the slice's facts, tissue, status, iou, area_mm2.
    """
    tables = []
    for facts, truth, prediction, pixel_mm in slices:
        for tissue, values in tissues.items():
            needed = (only_with or {}).get(tissue)
            if needed is None or (np.asarray(truth) == needed).any():
                found = object_scores(truth, prediction, values, pixel_mm, found_iou)
                tables.append(found.assign(**facts, tissue=tissue))
    full = [table for table in tables if len(table)]
    return (
        pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=["status", "iou", "area_mm2", "patient", "tissue"])
    )


def summarise_objects(table: pd.DataFrame, tissues: Iterable[str]) -> pd.DataFrame:
    """One row a tissue: mean IoU of found objects with its 95 % interval over patients, and how many were found, missed, false.

    Args:
        table: of score_objects.
        tissues: in the order wanted.

    Returns:
        tissue, iou, low, high, patients (with a found object), found, missed, false; NaN where nothing was found.
    """
    rows = []
    for tissue in tissues:
        part = table[table["tissue"] == tissue]
        counts = {status: int((part["status"] == status).sum()) for status in ("found", "missed", "false")}
        found = part[part["status"] == "found"]
        row = {"tissue": tissue, "iou": np.nan, "low": np.nan, "high": np.nan, "patients": found["patient"].nunique()}
        if len(found):
            interval = bootstrap_interval(found["iou"].tolist(), found["patient"].tolist())
            row |= {"iou": interval.estimate, "low": interval.low, "high": interval.high}
        rows.append(row | counts)
    return pd.DataFrame(rows)
