"""Where the truth of the released slices limits what a score can be, and the slices on which the kit's own network does worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from spider_utils.data.mend import disc_lines, mend_lines
from spider_utils.evaluation.metrics import ConfusionMatrix, measure_case
from spider_utils.evaluation.statistics import bootstrap_interval
from spider_utils.evidence.recipe import N_FOLDS, Kitchen
from spider_utils.evidence.score import ALONE, CLASSES, segmented
from spider_utils.labels import CANAL, convert, get_scheme
from spider_utils.view.plots import overlay_comparison, save_figure
from spider_utils.workflow import TOLERANCE_MM

LIMIT_COLUMNS = (
    *("dice", "in_rows", "at_offset", "offset_mm", "moved_mm", "truth_to_mended", "truth_to_next", "drawn_to_next"),
    *("asd_mm", "asd_mended_mm", "truth_to_mended_mm", "lines"),
)
OFFSETS_MM = np.round(np.arange(-1.5, 1.51, 0.1), 1)


def within_rows(mask: np.ndarray, truth: np.ndarray, value: int) -> np.ndarray:
    """Where a mask has a class, in the rows from the truth's highest to its lowest of this class in any slice; bool."""
    rows = np.flatnonzero((truth == value).any(axis=(0, 2)))
    inside = mask == value
    if len(rows):
        inside[:, : rows[0]] = inside[:, rows[-1] + 1 :] = False
    return inside


def best_offset(inside: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[float, float]:
    """How far a mask's outline must be moved, the same everywhere, to agree best with the truth.

    Args:
        inside, truth: bool (slices, rows, columns).
        spacing_mm: of their axes; the outline moves within slices.

    Returns:
        Millimetres outward (negative: inward) out of OFFSETS_MM, and the Dice there. Of the pixel itself half counts, so that an
        offset of 0 changes nothing.
    """
    depth_mm = np.empty(inside.shape, np.float32)  # from the outline, positive inside
    for one, depth in zip(inside, depth_mm, strict=True):
        within, beyond = (ndimage.distance_transform_edt(part, spacing_mm[1:]) for part in (one, ~one))
        depth[:] = np.where(one, within, -beyond) if one.any() else -np.inf
    half = 0.5 * min(spacing_mm[1:])
    depth_mm -= np.where(inside, half, -half).astype(np.float32)
    found = []
    for offset in OFFSETS_MM:
        moved = depth_mm >= -offset if offset else inside
        found.append(_overlap(moved, truth))
    # Offsets of less than a pixel give one mask: of those that are equally good the nearest to none.
    best = min(np.flatnonzero(np.isclose(found, max(found), rtol=0, atol=1e-12)), key=lambda k: abs(OFFSETS_MM[k]))
    return float(OFFSETS_MM[best]), float(found[best])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks of one class, bool; one of them at least is not empty."""
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def _dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dice of two masks of CLASSES by class; NaN for a class that neither holds."""
    return ConfusionMatrix(get_scheme(CLASSES).n_classes).update(a, b).dice()


def label_limits(truth: np.ndarray, drawn: np.ndarray, spacing_mm: tuple[float, ...]) -> pd.DataFrame:
    """What one series' masks say about the truth.

    Args:
        truth, drawn: uint8 of ``structures4``, (slices, rows, columns); ``drawn`` by a network that saw each slice by itself.
        spacing_mm: of their axes.

    Returns:
        A row a structure: name; ``dice`` of the two; ``in_rows``, the same within_rows; ``at_offset``, ``offset_mm`` and
        ``moved_mm``, the Dice in these rows after the outline was moved as agrees best, how far, and its amount;
        ``truth_to_mended``, the truth's Dice with itself after data.mend.mend_lines; ``truth_to_next`` and ``drawn_to_next``,
        mean Dice of each mask with that of the next slice; ``asd_mm`` of the two, ``asd_mended_mm``, the same from the mended
        truth, and ``truth_to_mended_mm``, from this to the truth as it is; ``lines``, how many pieces were mended (of the canal
        alone); ``worst_slice``, the number of the slice with the lowest Dice, and ``worst_dice``.
    """
    mended = mend_lines(truth)
    to_mended, lines = _dice(truth, mended), int(disc_lines(truth).max())
    asd_mm = [_asd_mm(*pair, spacing_mm) for pair in ((truth, drawn), (mended, drawn), (truth, mended))]
    steps = [np.array([_dice(a, b) for a, b in zip(one[:-1], one[1:], strict=True)]) for one in (truth, drawn)]
    by_slice = np.array([_dice(a, b) for a, b in zip(truth, drawn, strict=True)])
    rows, whole = [], _dice(truth, drawn)
    for value in get_scheme(CLASSES).foreground:
        truth_to_next, drawn_to_next = (_mean(step[:, value]) if len(step) else np.nan for step in steps)
        known = ~np.isnan(by_slice[:, value])
        worst = int(np.nanargmin(by_slice[:, value])) if known.any() else -1
        marked, found = truth == value, within_rows(drawn, truth, value)
        in_rows = _overlap(marked, found) if marked.any() else np.nan
        offset_mm, at_offset = best_offset(found, marked, spacing_mm) if marked.any() else (np.nan, np.nan)
        moved = (at_offset, offset_mm, abs(offset_mm))
        about = (whole[value], in_rows, *moved, to_mended[value], truth_to_next, drawn_to_next)
        about += (*(found[value] for found in asd_mm), lines if value == CANAL else np.nan)
        rows.append((get_scheme(CLASSES).names[value], *about, worst, by_slice[worst, value]))
    return pd.DataFrame(rows, columns=["name", *LIMIT_COLUMNS, "worst_slice", "worst_dice"])


def _asd_mm(a: np.ndarray, b: np.ndarray, spacing_mm: tuple[float, ...]) -> dict[int, float]:
    """Average surface distance of two masks of CLASSES by class; NaN for a class that one does not hold."""
    scores = measure_case(a, b, spacing_mm, get_scheme(CLASSES).foreground, TOLERANCE_MM)
    return dict(zip(scores["class"], scores["asd_mm"], strict=True))


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def limits(kitchen: Kitchen) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The rows of ``label_limits`` for all patients with released slices, with ``patient`` and ``case``; and by case the masks,
    each drawn slice by slice by the network of the fold that tests on the patient."""
    tables, masks = [], {}
    for number in range(N_FOLDS):
        split, run = kitchen.fold(number)
        masks |= segmented(kitchen, run, split, ALONE)[1]
    for name, drawn in masks.items():
        case = kitchen.real.source.load(name)
        truth = convert(case.mask.array, kitchen.real.source.scheme, CLASSES)
        tables.append(label_limits(truth, drawn, case.mask.spacing).assign(patient=case.patient, case=name))
    return pd.concat(tables, ignore_index=True), masks


def summarise_limits(table: pd.DataFrame) -> pd.DataFrame:
    """Means over patients of ``limits``' rows: name, quantity (LIMIT_COLUMNS), mean, low, high (95 % over patients), patients."""
    rows = []
    for name, part in table.groupby("name", sort=False):
        for quantity in LIMIT_COLUMNS:
            found = bootstrap_interval(part[quantity], part["patient"].tolist())
            rows.append(
                (name, quantity, found.estimate, found.low, found.high, part.loc[part[quantity].notna(), "patient"].nunique())
            )
    return pd.DataFrame(rows, columns=["name", "quantity", "mean", "low", "high", "patients"])


def write_worst(
    folder: str | Path, kitchen: Kitchen, table: pd.DataFrame, masks: dict[str, np.ndarray], lowest: int = 2
) -> list[Path]:
    """Write pictures of the worst slice of the patients with the lowest Dice of each structure: truth, mask and errors.

    Args:
        folder: for the pictures. They show patients: keep it out of repositories.
        table, masks: of ``limits``.
        lowest: so many patients a structure.
    """
    written = []
    for structure, rows in table.groupby("name", sort=False):
        for row in rows.nsmallest(lowest, "dice").itertuples():
            case, k = kitchen.real.source.load(row.case), row.worst_slice
            truth = convert(case.mask.array[k], kitchen.real.source.scheme, CLASSES)
            title = f"{structure}, patient {row.patient}: Dice {row.dice:.3f}, of this slice {row.worst_dice:.3f}"
            spacing_mm = case.image.spacing[1:]
            figure = overlay_comparison(case.image.array[k], truth, masks[row.case][k], CLASSES, spacing_mm, title=title)
            name = f"{structure.replace(' ', '-')}-{row.case}.png"
            written.append(save_figure(figure, Path(folder) / name, figure.caption))
    return written
