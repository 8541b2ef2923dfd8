"""How far sizes of the kit's own masks are from those of the truth, on patients whom its networks have not seen."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.data.mend import mend_lines
from spider_utils.evidence.recipe import N_FOLDS, Kitchen
from spider_utils.evidence.score import CLASSES, fold_predictor, in_classes
from spider_utils.measure.levels import name_levels
from spider_utils.measure.report import MEASURED, measure
from spider_utils.runtime import progress

QUANTITIES = (
    "disc height anterior", "disc height middle", "disc height posterior", "disc depth", "disc angle", "body height middle",
    "body depth", "canal diameter", "canal diameter at the body", "slip", "overhang", "lordosis L1 to L5",
)  # fmt: skip
_LUMBAR = (*range(6), *range(201, 206))  # the spine as a whole, L5 to L1 and the discs below them


def compare(truth: np.ndarray, drawn: np.ndarray, spacing_mm: tuple[float, ...]) -> pd.DataFrame:
    """Sizes of a mask beside those of its truth, both with levels counted from the lowest part in view.

    Args:
        truth, drawn: in CLASSES, of one shape (slice, row, column).
        spacing_mm: voxel size in mm.

    Returns:
        A row for each label from L1 down and quantity that the truth has: ``label``, ``level``, ``quantity``, ``value``,
        ``status`` (as of measure.report) and ``truth``, where that could be measured.

    Raises:
        ValueError: the truth holds no part of a spine.
    """
    true = measure(name_levels(truth, spacing_mm, CLASSES).mask, spacing_mm)
    try:
        found = measure(name_levels(drawn, spacing_mm, CLASSES).mask, spacing_mm)
    except ValueError:  # nothing in it that could be a level: then none of it is in its table
        found = true.iloc[:0]
    true = true[(true["status"] == MEASURED) & true["label"].isin(_LUMBAR)].rename(columns={"value": "truth"})
    rows = true[["label", "level", "quantity", "truth"]].merge(
        found[["label", "quantity", "value", "status"]], on=["label", "quantity"], how="left"
    )
    return rows.assign(status=rows["status"].fillna("not in the table"))


def on_patients(kitchen: Kitchen) -> pd.DataFrame:
    """``compare`` for all patients with released slices as series, each by the two networks of the fold that tests on him, as
    predict draws; against their truth without lines of canal around discs (data.mend).

    Returns:
        Its rows, with ``case``, ``patient`` and ``fold``.
    """
    return pd.concat([_of_fold(kitchen, number) for number in range(N_FOLDS)], ignore_index=True)


def _of_fold(kitchen: Kitchen, number: int) -> pd.DataFrame:
    split, predictor = fold_predictor(kitchen, number)
    _, masks = kitchen.real.measure(in_classes(predictor), split)
    tables = []
    for name, mask in progress(masks.items(), desc="measuring series", total=len(masks)):
        case = kitchen.real.source.load(name)
        rows = compare(mend_lines(case.mask.array), mask, case.mask.spacing)
        tables.append(rows.assign(case=name, patient=case.patient, fold=number))
    return pd.concat(tables, ignore_index=True)
