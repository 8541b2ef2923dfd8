"""Score a folder of predicted masks against a folder of ground-truth masks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.volumes import (
    VOLUME_SUFFIXES,
    Volume,
    check_same_geometry,
    read_mask,
    stem_of,
    suffix_of,
)
from spider_utils.errors import DataError, KitError
from spider_utils.evaluation.metrics import check_spacing, check_tolerance, measure_case
from spider_utils.evaluation.statistics import pooled, summarise
from spider_utils.files import write_csv
from spider_utils.labels import ConversionReport, LabelWarning, convert, get_scheme
from spider_utils.processes import map_in_processes
from spider_utils.runtime import progress

MASK_SUFFIXES = (*VOLUME_SUFFIXES, ".png")
PAIRS_A_JOB = 20  # fewer are scored sooner than a process starts
_LISTED = 5  # names shown in one error line

Spacing = Sequence[float] | Mapping[Hashable, Sequence[float]]


class SpacingWarning(UserWarning):
    """Masks without a pixel size were scored without distances."""


def patient_of(case: str) -> str:
    """The patient a case belongs to: the number its name begins with ("12_t2_SPACE", "12_t2_slice7" -> "12"), else the name."""
    match = re.match(r"(\d+)(?:_|$)", case)
    return match.group(1) if match else case


def summary_path(out: str | Path) -> Path:
    """Where the summary of the table at ``out`` lies: "scores.csv" -> "scores_summary.csv"."""
    out = Path(out)
    return out.with_name(f"{out.stem}_summary.csv")


def evaluate_folders(
    truth_dir: str | Path,
    pred_dir: str | Path,
    scheme: str,
    out: str | Path,
    tolerance_mm: float = 1.0,
    truth_scheme: str | None = None,
    spacing_mm: Spacing | None = None,
    source_variants: bool = False,
    seed: int = 0,
    jobs: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every predicted mask in a folder against the ground truth of the same name.

    Files are paired by name without suffix (.mha, .mhd, .nii, .nii.gz, .nrrd, .png), and each process reads one pair at a time. A
    file with a single slice is measured in 2D. A prediction without any label is a result and is scored; a ground truth without
    any is an error.

    Args:
        truth_dir, pred_dir: folders of masks; both must hold the same cases.
        scheme: label scheme of the predictions, and of the scores.
        out: CSV for the scores, one row for each case and class; the summary goes beside it (see `summary_path`). Both are
            written only when every pair could be scored.
        tolerance_mm: tolerance of the NSD.
        truth_scheme: label scheme of the ground truth when it differs; it is converted to ``scheme``.
        spacing_mm: (row, column) pixel size of PNG files, which store none; or a mapping from case or patient to it. Files that
            store their spacing keep it. Without it, PNG files are scored without distances (NaN) and a SpacingWarning is issued.
        source_variants: see `measure_case`.
        seed: seed of the bootstrap.
        jobs: at most so many processes score pairs beside each other, each PAIRS_A_JOB at least. In a script of one's own more
            than one needs the usual ``if __name__ == "__main__":``.

    Returns:
        The table of cases (columns of `measure_case` after case and patient) and the summary (`summarise` and `pooled`).

    Raises:
        DataError: a folder is missing or holds no mask, files have no partner or share a name, a file cannot be read, holds
            a label unknown to its scheme, or differs from its partner in size, spacing, origin or direction.
        KitError: a scheme is unknown or cannot be converted, tolerance or spacing is not a valid number, the folders mix
            slices and volumes, or a process was killed.
    """
    truth_scheme = truth_scheme or scheme
    out = Path(out)
    try:
        names = get_scheme(scheme).names
        convert(np.zeros(1, dtype=np.uint8), truth_scheme, scheme)
        check_tolerance(tolerance_mm)
        if spacing_mm is not None:
            for one in spacing_mm.values() if isinstance(spacing_mm, Mapping) else [spacing_mm]:
                check_spacing(one, 2)
    except ValueError as error:
        raise KitError(str(error)) from error
    if out.is_dir():
        raise DataError(out, "is a folder", "Name a CSV file for the scores.")

    pairs = _pair_files(Path(truth_dir), Path(pred_dir))
    how = _How(scheme, truth_scheme, names, tolerance_mm, spacing_mm, source_variants)
    tasks = [(case, *paths, how) for case, paths in pairs.items()]
    scored = map_in_processes(_score_pair, tasks, max(1, min(jobs, len(tasks) // PAIRS_A_JOB)))
    report, tables, without_spacing = ConversionReport(), [], []
    for case, (rows, became, has_spacing) in zip(pairs, progress(scored, "evaluate", total=len(pairs)), strict=True):
        report.add(became)
        tables.append(rows)
        if not has_spacing:
            without_spacing.append(case)

    table = pd.concat(tables, ignore_index=True)
    _check_one_unit(table, Path(truth_dir))
    if report.dropped:
        warnings.warn(
            f"ground truth, '{truth_scheme}' to '{scheme}': {report}; what became background is not scored",
            LabelWarning,
            stacklevel=2,
        )
    predicted = table.loc[table["status"].isin(["both", "false"]), "class"]
    if scheme == "levels20" and len(predicted) and predicted.max() < len(get_scheme("structures4").names):
        warnings.warn(
            "no prediction holds a class above 3, so these look like masks of 'structures4'; if so, give that as the scheme",
            LabelWarning,
            stacklevel=2,
        )
    if without_spacing:
        warnings.warn(
            f"{_listing(without_spacing)} hold no pixel size, so ASD, HD95 and NSD are empty; give spacing_mm (row, column)",
            SpacingWarning,
            stacklevel=2,
        )
    summary = pd.concat([summarise(table, seed=seed), pooled(table, seed=seed)], ignore_index=True)
    write_csv(out, table)
    write_csv(summary_path(out), summary)
    return table, summary


@dataclass(frozen=True)
class _How:
    """What all pairs are scored with: arguments of evaluate_folders, and the names of the classes."""

    scheme: str
    truth_scheme: str
    names: Mapping[int, str]
    tolerance_mm: float
    spacing_mm: Spacing | None
    source_variants: bool


def _score_pair(task: tuple[str, Path, Path, _How]) -> tuple[pd.DataFrame, ConversionReport, bool]:
    """Scores of a case, what its truth's conversion could not keep, and whether its pixel size is known."""
    case, truth_path, prediction_path, how = task
    # A model that finds nothing is scored, not refused.
    truth, prediction = read_mask(truth_path), read_mask(prediction_path, allow_empty=True)
    check_same_geometry(truth, prediction)
    report = ConversionReport()
    truth_array = _to_scheme(truth, how.truth_scheme, how.scheme, report)
    prediction_array = _to_scheme(prediction, how.scheme, how.scheme, report)
    spacing = _spacing_of(truth, case, how.spacing_mm)
    of_array: tuple[float, ...] | None = spacing
    if truth_array.shape[0] == 1:
        truth_array, prediction_array = truth_array[0], prediction_array[0]
        of_array = None if spacing is None else spacing[1:]
    rows = measure_case(truth_array, prediction_array, of_array, how.names, how.tolerance_mm, how.source_variants)
    rows.insert(0, "case", case)
    rows.insert(1, "patient", patient_of(case))
    return rows, report, spacing is not None


def _mask_files(folder: Path) -> dict[str, Path]:
    """Case -> file, ascending by name."""
    if not folder.is_dir():
        raise DataError(folder, "there is no such folder", "Give a folder of masks, also for a single one.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or suffix_of(path) not in MASK_SUFFIXES:
            continue
        other = files.setdefault(stem_of(path), path)
        if other is not path:
            raise DataError(path, f"stands for the same case as {other.name}", "Keep one file for each case.")
    if not files:
        raise DataError(folder, f"holds no mask ({', '.join(MASK_SUFFIXES)})", "Give the folder that holds the mask files.")
    return files


def _pair_files(truth_dir: Path, pred_dir: Path) -> dict[str, tuple[Path, Path]]:
    truths, predictions = _mask_files(truth_dir), _mask_files(pred_dir)
    for files, others, folder in ((truths, predictions, pred_dir), (predictions, truths, truth_dir)):
        alone = [path.name for case, path in files.items() if case not in others]
        if alone:
            raise DataError(
                folder,
                f"holds no file for {_listing(alone)}",
                "Both folders must hold the same cases under the same names: add the missing files or take the others away.",
            )
    return {case: (path, predictions[case]) for case, path in truths.items()}


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _to_scheme(mask: Volume, source: str, target: str, report: ConversionReport) -> np.ndarray:
    try:
        return convert(mask.array, source, target, report)
    except ValueError as error:
        raise DataError(
            mask.path, str(error), "Name the scheme this mask was written in (--scheme, --truth-scheme), or correct the mask."
        ) from error


def _spacing_of(mask: Volume, case: str, spacing_mm: Spacing | None) -> tuple[float, float, float] | None:
    """Voxel size (slice, row, column) in mm; None for a PNG whose pixel size nobody gave."""
    if suffix_of(mask.path) != ".png":
        return mask.spacing
    if spacing_mm is None:
        return None
    if isinstance(spacing_mm, Mapping):
        given = {str(key): value for key, value in spacing_mm.items()}
        spacing_mm = given.get(case, given.get(patient_of(case)))
        if spacing_mm is None:
            raise DataError(mask.path, "spacing_mm names neither this case nor its patient", "Add its (row, column) pixel size.")
    return (mask.spacing[0], *spacing_mm)


def _check_one_unit(table: pd.DataFrame, folder: Path) -> None:
    first = table.drop_duplicates("unit")
    if len(first) > 1:
        shown = " and ".join(f"{row.case} (a {row.unit})" for row in first.itertuples())
        raise DataError(folder, f"mixes single slices and volumes: {shown}", "Score them as two folders.")
