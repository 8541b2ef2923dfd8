"""Herniation measured on masks of made-up patients, against what was painted, in the form of `triplanar`'s Tables 5 and 6.

The source counts axial slices; here a slice is a sagittal one through a disc, as the series are sagittal. A hernia is in a slice,
painted or measured, whose middle lies where the disc stands out by more than half as much as at its worst, and in the slice of
its top. Sizes and places are in mm first: the source's pixels have no size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from spider_utils.data.phantom.anatomy import Anatomy, make_anatomy
from spider_utils.data.phantom.dataset import PHANTOM_FILE, patient_seeds
from spider_utils.data.phantom.hernias import hernias_of, voxel_of
from spider_utils.data.phantom.truth import overhang_of
from spider_utils.data.sources import Source
from spider_utils.data.volumes import Volume, read_mask
from spider_utils.errors import DataError
from spider_utils.evaluation.detection import COUNTS, RATES, detection_row, error_row, printed
from spider_utils.evaluation.prevalence import exact_interval
from spider_utils.files import read_json
from spider_utils.measure.report import MEASURED

UNITS = ("slice", "disc", "level")


def anatomies(source: Source) -> dict[int, Anatomy]:
    """The made-up patients of a phantom set, drawn again from its seed.

    Raises:
        DataError: the folder is no phantom set.
    """
    path = source.root / PHANTOM_FILE
    if not path.is_file():
        raise DataError(source.root, f"holds no {PHANTOM_FILE}", "True hernias are known of phantom sets alone.")
    seed = int(read_json(path)["seed"])
    return {int(k): make_anatomy(patient_seeds(seed, int(k))[0]) for k in source.cases["patient"].unique()}


def compare_discs(measured: pd.DataFrame, anatomy: Anatomy, mask: Volume) -> pd.DataFrame:
    """One patient's discs, measured beside painted.

    Args:
        measured: the patient's rows of ``MeasuredSet.measured``.
        anatomy: the patient.
        mask: the true mask of the series that was measured; discs that it does not hold are no part of the comparison.

    Returns:
        A row a disc in view whose herniation could be judged: ``disc``, ``truth``, ``found`` (bool), ``height_mm`` and
        ``true_height_mm`` (overhang), of discs where both hold ``slice_mm``, ``row_mm``, ``column_mm`` (measured minus true place
        of the top point), ``row_pixel_mm``, ``column_pixel_mm`` (size of a pixel), and ``slices``, ``true_slices`` (numbers of
        the sagittal slices with the hernia, as sets), ``all_slices`` (those that show the disc).
    """
    found = measured[measured["status"] == MEASURED].pivot(index="label", columns="quantity", values="value")
    heights = overhang_of(anatomy)
    painted = hernias_of(anatomy).set_index("disc")
    spacing, rows = np.asarray(mask.spacing), []
    for disc in anatomy.discs:
        label = 200 + disc.number
        at = np.flatnonzero((mask.array == label).any(axis=(1, 2)))
        if not len(at) or label not in found.index or label not in heights or "herniated" not in found:
            continue
        one = found.loc[label]
        if pd.isna(one["herniated"]):
            continue
        row = {"disc": disc.number, "truth": disc.herniation > 0, "found": bool(one["herniated"]), "height_mm": one["overhang"]}
        row |= {"true_height_mm": heights[label], "row_pixel_mm": spacing[1], "column_pixel_mm": spacing[2]}
        shown = {int(k) for k in at}
        row |= {"all_slices": shown, "slices": set(), "true_slices": set()}
        if row["found"]:
            # Where a single plane shows the hernia it has no width, and no slice but the one nearest to its top.
            top, reach = one["hernia top slice"] / spacing[0], one.get("hernia width", np.nan) / spacing[0] / 2
            row["slices"] = _between(shown, top - reach, top + reach, top)
        if row["truth"]:
            hernia = painted.loc[disc.number]
            ends = voxel_of([(hernia[side], 0, 0) for side in ("first_right", "last_right")], mask)[:, 0]
            top = voxel_of([hernia[["right", "down", "back"]]], mask)[0]
            row["true_slices"] = _between(shown, ends.min(), ends.max(), top[0])
            if row["found"]:
                for axis, where in zip(("slice", "row", "column"), top * spacing, strict=True):
                    row[f"{axis}_mm"] = one[f"hernia top {axis}"] - where
        rows.append(row)
    return pd.DataFrame(rows)


def _between(slices: set[int], first: float, last: float, top: float) -> set[int]:
    """Those of ``slices`` from ``first`` to ``last``, and the one nearest to ``top``."""
    return {k for k in slices if first <= k <= last} | {min(slices, key=lambda k: abs(k - top))}


def compare_set(source: Source, measured: pd.DataFrame) -> pd.DataFrame:
    """``compare_discs`` of every patient of a phantom set, with ``patient``.

    Args:
        source: the set.
        measured: ``MeasuredSet.measured`` of its masks, or of a network's masks of its images.

    Raises:
        DataError: no phantom set, or nothing of it was measured.
    """
    parts, people = [], anatomies(source)
    paths = source.cases.set_index("case")["mask"]
    for (patient, case), rows in measured.groupby(["patient", "case"]):
        table = compare_discs(rows, people[int(patient)], read_mask(paths[case]))
        parts.append(table.assign(patient=int(patient)))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if table.empty:
        raise DataError(source.root, "no disc's herniation could be measured", "Check that the masks hold discs and bodies.")
    return table


def table5(discs: pd.DataFrame) -> pd.DataFrame:
    """Detection of herniation, printed rows first.

    Args:
        discs: of ``compare_set``.

    Returns:
        ``unit``, ``source`` ("printed" or "measured"), RATES with "<rate> low" and "<rate> high" (95 % over patients), COUNTS,
        ``n``, ``patients``.
    """
    slices = [(k in row.true_slices, k in row.slices, row.patient) for row in discs.itertuples() for k in sorted(row.all_slices)]
    by_slice = np.array(slices, dtype=object).reshape(-1, 3)
    rows = [
        {"unit": "sagittal slice of a disc", "source": "measured"}
        | detection_row(by_slice[:, 0].astype(bool), by_slice[:, 1].astype(bool), by_slice[:, 2].astype(int)),
        {"unit": "disc", "source": "measured"}
        | detection_row(discs["truth"].to_numpy(), discs["found"].to_numpy(), discs["patient"].to_numpy()),
    ]
    theirs = printed("table5")
    theirs = theirs.assign(source="printed", n=theirs[list(COUNTS)].sum(axis=1))
    return pd.concat([theirs, pd.DataFrame(rows)], ignore_index=True)[
        ["unit", "source", *(f"{rate}{end}" for rate in RATES for end in ("", " low", " high")), *COUNTS, "n", "patients"]
    ]


def right_level(discs: pd.DataFrame) -> dict[str, float]:
    """In how many patients with a hernia the highest finding lies at a level where there is one.

    Returns:
        ``right``, ``patients`` (with a hernia that could be judged), ``share``, ``low``, ``high`` (95 %, exact: one answer a
        patient). A patient in whom nothing is found counts as wrong.
    """
    right, patients = 0, 0
    for _, rows in discs.groupby("patient"):
        if not rows["truth"].any():
            continue
        patients += 1
        found = rows[rows["found"]]
        right += bool(len(found)) and bool(found.loc[found["height_mm"].idxmax(), "truth"])
    low, high = exact_interval(right, patients)
    return {"right": right, "patients": patients, "share": right / patients if patients else np.nan, "low": low, "high": high}


def table6(discs: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error of the hernia's top point and height, in mm and pixels, with what is printed.

    Args:
        discs: of ``compare_set``.

    Returns:
        ``quantity``, ``over``, ``error_mm`` with ``low`` and ``high`` (95 % over patients), ``error_pixels``, ``n``,
        ``patients``, ``printed_pixels``. X: front to back, Y: top to bottom; of the side the source says nothing.
    """
    both = discs[discs["truth"] & discs["found"]].reindex(columns=[*discs.columns.union(["slice_mm", "row_mm", "column_mm"])])
    height = discs["height_mm"] - discs["true_height_mm"]
    both_height = height[both.index]
    lines: list[tuple[str, str, pd.Series, pd.Series | None, pd.DataFrame]] = [
        ("top point X (front to back)", "true positives", both["column_mm"], both["column_pixel_mm"], both),
        ("top point Y (top to bottom)", "true positives", both["row_mm"], both["row_pixel_mm"], both),
        ("top point side to side", "true positives", both["slice_mm"], None, both),
        ("height", "true positives", both_height, both["column_pixel_mm"], both),
        ("height", "all discs", height, discs["column_pixel_mm"], discs),
    ]
    theirs = dict(
        zip(("top point X (front to back)", "top point Y (top to bottom)"), printed("table6")["error_pixels"], strict=False)
    )
    rows = []
    for quantity, over, errors, pixel, part in lines:
        found = error_row(errors.to_numpy(dtype=float), part["patient"].to_numpy())
        row = {"quantity": quantity, "over": over, "error_mm": found.pop("error"), **found}
        row["error_pixels"] = float((errors.abs() / pixel).mean()) if pixel is not None else np.nan
        row["printed_pixels"] = theirs.get(quantity, np.nan)
        if (quantity, over) == ("height", "all discs"):
            row["printed_pixels"] = float(printed("table6").set_index("quantity").loc["height", "error_pixels"])
        rows.append(row)
    return pd.DataFrame(rows)


def summary_lines(discs: pd.DataFrame) -> Mapping[str, str]:
    """What was judged, in words: discs, hernias, level."""
    level = right_level(discs)
    return {
        "discs judged": f"{len(discs)} of {discs['patient'].nunique()} patients, {int(discs['truth'].sum())} with a hernia",
        "level of herniation right": f"{level['right']} of {level['patients']} patients ({100 * level['share']:.1f} %, "
        f"95 % interval {100 * level['low']:.1f} to {100 * level['high']:.1f})",
    }
