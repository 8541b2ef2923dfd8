"""Herniation measured on masks of made-up patients, against what was painted, in the form of `triplanar`'s Tables 5 and 6.

The source counts axial slices; here a slice is a sagittal one through a disc, as the series are sagittal. A hernia is in a slice,
painted or measured, whose middle lies where the disc stands out by more than half as much as at its worst, and in the slice of
its top. Sizes and places are in mm first: the source's pixels have no size.

What a mask misses counts as missed: every disc that the true mask shows is in the tables, of every patient. One that is lacking
in the measured mask, or cannot be measured there, is not judged, and nothing is found in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from spider_utils.data.phantom.anatomy import Anatomy, make_anatomy
from spider_utils.data.phantom.dataset import patient_seeds, phantom_facts
from spider_utils.data.phantom.hernias import hernias_of, voxel_of
from spider_utils.data.phantom.truth import overhang_of
from spider_utils.data.sources import Source
from spider_utils.data.volumes import Volume, read_mask
from spider_utils.errors import DataError
from spider_utils.evaluation.detection import COUNTS, RATES, detection_row, error_row, printed
from spider_utils.evaluation.prevalence import exact_interval
from spider_utils.grading.series import series_to_measure
from spider_utils.measure.herniation import FOCAL_MM, HERNIA_MM
from spider_utils.measure.report import MEASURED
from spider_utils.measure.sheet import DISCS

_AXES = ("slice", "row", "column")
_PLACES = [*(f"{axis}_mm" for axis in _AXES), "row_pixel_mm", "column_pixel_mm"]
COLUMNS = (
    "disc", "truth", "judged", "found", "height_mm", "true_height_mm", *_PLACES, "slices", "true_slices", "all_slices",
)  # fmt: skip


def anatomies(source: Source) -> dict[int, Anatomy]:
    """The made-up patients of a phantom set, drawn again from its seed.

    Raises:
        DataError: the folder is no phantom set, or not of this version of the generator.
    """
    seed = phantom_facts(source.root)["seed"]
    return {int(k): make_anatomy(patient_seeds(seed, int(k))[0]) for k in source.cases["patient"].unique()}


def compare_discs(measured: pd.DataFrame, anatomy: Anatomy, mask: Volume) -> pd.DataFrame:
    """One patient's discs, measured beside painted.

    Args:
        measured: the patient's rows of ``MeasuredSet.measured``; none where nothing could be measured.
        anatomy: the patient.
        mask: the true mask of the series that was measured.

    Returns:
        A row a disc that the true mask shows (COLUMNS): ``disc``; ``truth`` (a hernia is painted); ``judged`` (its herniation
        could be measured); ``found`` (bool; False where it was not judged); ``height_mm`` and ``true_height_mm`` (overhang; NaN
        where it was not judged); of hernias that were found ``slice_mm``, ``row_mm``, ``column_mm`` (measured minus true place of
        the top point); ``row_pixel_mm``, ``column_pixel_mm`` (size of a pixel); ``slices``, ``true_slices`` (numbers of the
        sagittal slices with the hernia, as sets), ``all_slices`` (those that show the disc). A hernia that is measured at a level
        which the true mask does not show is a row more, a false positive, without slices.
    """
    found = measured[measured["status"] == MEASURED].pivot(index="label", columns="quantity", values="value")
    judged = found[found["herniated"].notna()] if "herniated" in found else found.iloc[:0]
    painted = hernias_of(anatomy).set_index("disc")
    spacing, rows = np.asarray(mask.spacing), []
    in_view = [disc for disc in anatomy.discs if (mask.array == DISCS + disc.number).any()]
    heights = overhang_of(anatomy, [disc.number for disc in in_view if DISCS + disc.number in judged.index])
    for disc in in_view:
        label = DISCS + disc.number
        shown = {int(k) for k in np.flatnonzero((mask.array == label).any(axis=(1, 2)))}
        row = {"disc": disc.number, "truth": disc.herniation > 0, "judged": label in judged.index, "found": False}
        row |= {"row_pixel_mm": spacing[1], "column_pixel_mm": spacing[2]}
        row |= {"all_slices": shown, "slices": set(), "true_slices": set()}
        if row["judged"]:
            one = judged.loc[label]
            row |= {"found": bool(one["herniated"]), "height_mm": one["overhang"], "true_height_mm": heights[label]}
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
                for axis, where in zip(_AXES, top * spacing, strict=True):
                    row[f"{axis}_mm"] = one[f"hernia top {axis}"] - where
        rows.append(row)
    for label in judged.index.difference([DISCS + row["disc"] for row in rows]):
        if judged.loc[label, "herniated"]:
            row = {"disc": int(label) - DISCS, "truth": False, "judged": True, "found": True}
            rows.append(
                row | {"height_mm": judged.loc[label, "overhang"], "all_slices": set(), "slices": set(), "true_slices": set()}
            )
    kinds = dict.fromkeys(("truth", "judged", "found"), bool) | dict.fromkeys(("height_mm", "true_height_mm", *_PLACES), float)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)


def _between(slices: set[int], first: float, last: float, top: float) -> set[int]:
    """Those of ``slices`` from ``first`` to ``last``, and the one nearest to ``top``."""
    return {k for k in slices if first <= k <= last} | {min(slices, key=lambda k: abs(k - top))}


def heights_text(height_mm: float, true_height_mm: float) -> str:
    """What a picture of a hernia says of its heights: of a disc that was not judged there are none."""
    if np.isnan(height_mm):
        return "no height"
    return f"{height_mm:.1f} mm, true {true_height_mm:.1f} mm"


def verdict_text(judged: bool, found: bool, overhang_mm: float, bulge_mm: float) -> str:
    """What a picture of a hernia says of the rule: found, not judged, or which part of ``measure.herniation``'s rule said no."""
    if found:
        return "found"
    if not judged:
        return "not judged"
    if overhang_mm < HERNIA_MM:
        return f"missed: less than {HERNIA_MM:.0f} mm"
    if overhang_mm - bulge_mm < FOCAL_MM:
        return f"missed: {overhang_mm - bulge_mm:.1f} mm above its bulge"
    return "missed: too wide, a bulge"


def compare_set(source: Source, measured: pd.DataFrame) -> pd.DataFrame:
    """``compare_discs`` of every patient of a phantom set, with ``patient``.

    Args:
        source: the set.
        measured: ``MeasuredSet.measured`` of its masks, or of a network's masks of its images.

    Raises:
        DataError: no phantom set, or its true masks show no disc.
    """
    parts, people = [], anatomies(source)
    cases = series_to_measure(source.cases)
    for row in cases[cases["wholly"]].itertuples():
        mine = measured[measured["case"] == row.case]
        parts.append(compare_discs(mine, people[int(row.patient)], read_mask(row.mask)).assign(patient=int(row.patient)))
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise DataError(source.root, "its masks show no disc", "Make the set anew: spider-kit data phantom.")
    return table


def table5(discs: pd.DataFrame) -> pd.DataFrame:
    """Detection of herniation, printed rows first; ours over all discs in view, then over those alone that could be judged.

    Args:
        discs: of ``compare_set``.

    Returns:
        ``unit``, ``source`` ("printed" or "measured"), RATES with "<rate> low" and "<rate> high" (95 % over patients), COUNTS,
        ``n``, ``patients``.
    """
    rows = []
    for which, part in (("disc", discs), ("judged disc", discs[discs["judged"]])):
        slices = [
            (k in row.true_slices, k in row.slices, row.patient) for row in part.itertuples() for k in sorted(row.all_slices)
        ]
        by_slice = np.array(slices, dtype=object).reshape(-1, 3)
        units = {
            f"sagittal slice of a {which}": [by_slice[:, k].astype(kind) for k, kind in enumerate((bool, bool, int))],
            which: [part[name].to_numpy() for name in ("truth", "found", "patient")],
        }
        rows += [{"unit": unit, "source": "measured"} | detection_row(*columns) for unit, columns in units.items()]
    theirs = printed("table5")
    theirs = theirs.assign(source="printed", n=theirs[list(COUNTS)].sum(axis=1))
    return pd.concat([theirs, pd.DataFrame(rows)], ignore_index=True)[
        ["unit", "source", *(f"{rate}{end}" for rate in RATES for end in ("", " low", " high")), *COUNTS, "n", "patients"]
    ]


def right_level(discs: pd.DataFrame) -> dict[str, float]:
    """In how many patients with a hernia the highest finding lies at a level where there is one.

    Returns:
        ``right``, ``patients`` (with a hernia in view), ``share``, ``low``, ``high`` (95 %, exact: one answer a patient). A
        patient in whom nothing is found, or nothing could be judged, counts as wrong.
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
    """Mean absolute error of the hernia's top point and height, in mm and pixels, printed rows first.

    The source does not say along which axes its X and Y run, and its slices are axial: its rows stand beside ours without being
    paired with them.

    Args:
        discs: of ``compare_set``.

    Returns:
        ``quantity``, ``source`` ("printed" or "measured"), ``over``, ``error_mm`` with ``low`` and ``high`` (95 % over
        patients), ``error_pixels`` (of the sagittal slice; NaN from side to side), ``n``, ``patients``.
    """
    both, height = discs["truth"] & discs["found"], discs["height_mm"] - discs["true_height_mm"]
    lines: list[tuple[str, str, pd.Series, pd.Series, str | None]] = [
        ("top point front to back", "true positives", both, discs["column_mm"], "column_pixel_mm"),
        ("top point top to bottom", "true positives", both, discs["row_mm"], "row_pixel_mm"),
        ("top point side to side", "true positives", both, discs["slice_mm"], None),
        ("height", "true positives", both, height, "column_pixel_mm"),
        ("height", "judged discs", discs["judged"], height, "column_pixel_mm"),
    ]
    rows = []
    for quantity, over, used, errors, pixel in lines:
        found = error_row(errors[used].to_numpy(), discs.loc[used, "patient"].to_numpy())
        row = {"quantity": quantity, "source": "measured", "over": over, "error_mm": found.pop("error"), **found}
        row["error_pixels"] = float((errors[used].abs() / discs.loc[used, pixel]).mean()) if pixel else np.nan
        rows.append(row)
    theirs = printed("table6").assign(source="printed")
    order = ["quantity", "source", "over", "error_mm", "low", "high", "error_pixels", "n", "patients"]
    return pd.DataFrame([*theirs.to_dict("records"), *rows], columns=order)


def summary_lines(discs: pd.DataFrame) -> Mapping[str, str]:
    """What was judged, in words: discs, hernias, level."""
    level, lost = right_level(discs), discs[~discs["judged"]]
    return {
        "discs in view": f"{len(discs)} of {discs['patient'].nunique()} patients, {int(discs['truth'].sum())} with a hernia",
        "not judged (lacking in the mask, or not measurable)": f"{len(lost)} discs, {int(lost['truth'].sum())} with a hernia; "
        "nothing is found there",
        "level of herniation right": f"{level['right']} of {level['patients']} patients ({100 * level['share']:.1f} %, "
        f"95 % interval {100 * level['low']:.1f} to {100 * level['high']:.1f})",
    }
