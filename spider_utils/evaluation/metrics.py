"""Scores of one segmented volume or slice against its ground truth, class by class.

Definitions, for one class with truth region T and prediction region P
----------------------------------------------------------------------
Regions (voxel counts; tp = T and P, fp = P only, fn = T only):

* Dice = 2 tp / (2 tp + fp + fn); IoU = tp / (tp + fp + fn); precision = tp / (tp + fp); recall = tp / (tp + fn);
  F1 = harmonic mean of precision and recall. For one region Dice = F1 = 2 IoU / (1 + IoU), always.

Surfaces (mm; from the surface-distance library of Google DeepMind; Nikolov et al., J Med Internet Res 23(7):e26151, 2021).
A surface is a set of surface elements, marching-cubes triangles in 3D and contour pieces in 2D, each with an area (mm2) or
length (mm) as its weight and a distance (mm) to the nearest element of the other surface. Where a structure is cut by the
border of the image, the cut counts as surface. The elements sit on voxel corners and make a layer one voxel thick, so distances
read short by up to about half a voxel (concentric spheres 3 mm apart: ASD 2.5 mm at 1.6 x 1 x 1 mm, 2.8 mm at a quarter of that):
compare ASD and NSD only at one voxel size.

* ASD, symmetric: the weighted mean over the elements of both surfaces taken together,
  (sum of w d over T + sum of w d over P) / (sum of w over T + sum of w over P). This is the "average symmetric surface
  distance" of Heimann et al., IEEE TMI 28(8):1251, 2009, with elements weighted by their area; it is not the mean of the two
  one-way means, which differs when the surfaces differ in size.
* HD95: the larger of the two one-way weighted 95th percentiles of distance.
* NSD (surface Dice), two-sided, at a stated tolerance: weight of all elements of both surfaces that lie within the tolerance
  of the other surface / weight of all elements.

Two variants appear in the literature and exist here under their own names, for comparison only: ``nsd_one_sided`` looks at
the truth surface alone, so it cannot see what the prediction adds; ``asd_pixels`` measures in voxel steps as if voxels were
cubes of side one, so its value has no length unit and changes with the image size.

Empty regions
-------------
=========  ==================  =====================================================================
status     class is in         scores
=========  ==================  =====================================================================
both       truth, prediction   all defined
absent     neither             all NaN: left out of means, and counted
missed     truth only          Dice, IoU, recall, F1, NSD 0; precision and distances NaN; counted
false      prediction only     Dice, IoU, precision, F1, NSD 0; recall and distances NaN; counted
=========  ==================  =====================================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import surface_distance
from scipy import ndimage

from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count

# The library calls scipy by old module names.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"surface_distance\.")

BACKGROUND = 0
REGION_METRICS = ("dice", "iou", "precision", "recall", "f1")
SURFACE_METRICS = ("asd_mm", "hd95_mm", "nsd")
METRICS = REGION_METRICS + SURFACE_METRICS
SOURCE_VARIANTS = ("nsd_one_sided", "asd_pixels")
STATUSES = ("both", "absent", "missed", "false")

_CHUNK = 1 << 20  # voxels counted at a time: the 8-byte indices of a whole volume would need eight times its memory
_MAX_LABEL = 65535
_VOXELS_A_PROCESS = 4 << 20  # fewer are measured sooner than a process starts
# Distances are square roots of sums of squared spacings: 3 voxels of 0.1 mm come out as 0.30000000000000004 mm.
_ROUNDING_MM = 1e-9


# ---------------------------------------------------------------------------------------------------------------- regions


def region_scores(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Dice, IoU, precision, recall and F1 from counts.

    Args:
        tp, fp, fn: voxel counts, numbers or arrays of one shape.

    Returns:
        The five scores by name (see REGION_METRICS), float64 arrays of that shape; NaN where the definition divides by zero,
        but F1 is 0 when there is something and nothing of it is right.
    """
    tp, fp, fn = (np.asarray(count, dtype=np.float64) for count in (tp, fp, fn))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        f1 = np.where(tp > 0, 2 * precision * recall / (precision + recall), np.where(fp + fn > 0, 0.0, np.nan))
        return {
            "dice": 2 * tp / (2 * tp + fp + fn),
            "iou": tp / (tp + fp + fn),
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }


def _count_pairs(truth: np.ndarray, prediction: np.ndarray, n: int) -> np.ndarray:
    """How often each (truth, prediction) pair of indices 0..n-1 occurs: (n, n) int64, truth in rows. Indices are trusted."""
    truth, prediction = truth.reshape(-1), prediction.reshape(-1)
    counts = np.zeros(n * n, dtype=np.int64)
    for start in range(0, truth.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        counts += np.bincount(truth[part].astype(np.intp) * n + prediction[part], minlength=n * n)
    return counts.reshape(n, n)


def _tp_fp_fn(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class, from a confusion matrix with truth in rows."""
    tp = np.diagonal(counts)
    return tp, counts.sum(axis=0) - tp, counts.sum(axis=1) - tp


def _as_labels(mask: np.ndarray, name: str) -> np.ndarray:
    """``mask`` as an integer array, or ValueError when it is not a mask of labels 0..65535."""
    mask = np.asarray(mask)
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    if mask.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integer labels, not {mask.dtype}; take the argmax of probabilities first")
    if mask.size and (int(mask.max()) > _MAX_LABEL or int(mask.min()) < 0):
        raise ValueError(f"{name} holds labels {mask.min()}..{mask.max()}; labels must lie in 0..{_MAX_LABEL}")
    return mask


def _same_shape(truth: np.ndarray, prediction: np.ndarray) -> None:
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape} but prediction has {prediction.shape}; bring them to one grid first")


class ConfusionMatrix:
    """Running (truth, prediction) counts over batches, for a quick score during training: pooled, regions only.

    Attributes:
        counts: (n_classes, n_classes) int64, truth in rows.
    """

    def __init__(self, n_classes: int):
        if n_classes < 1:
            raise ValueError(f"n_classes must be at least 1, not {n_classes}")
        self.n_classes = n_classes
        self.counts = np.zeros((n_classes, n_classes), dtype=np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> ConfusionMatrix:
        """Add one batch.

        Args:
            truth, prediction: integer arrays of one (any) shape, values 0..n_classes-1.

        Returns:
            This object.

        Raises:
            ValueError: shapes differ, or a value lies outside 0..n_classes-1.
        """
        truth, prediction = _as_labels(truth, "truth"), _as_labels(prediction, "prediction")
        _same_shape(truth, prediction)
        for name, mask in (("truth", truth), ("prediction", prediction)):
            if mask.size and int(mask.max()) >= self.n_classes:
                raise ValueError(f"{name} holds class {mask.max()}, but there are only classes 0..{self.n_classes - 1}")
        self.counts += _count_pairs(truth, prediction, self.n_classes)
        return self

    def accuracy(self) -> float:
        """Share of right pixels, background included; NaN before anything was seen. Mostly background, so always high."""
        return float(np.trace(self.counts) / self.counts.sum()) if self.counts.any() else float("nan")

    def dice(self) -> np.ndarray:
        """Dice per class over everything seen: (n_classes,) float64, NaN for a class seen in neither mask."""
        return region_scores(*_tp_fp_fn(self.counts))["dice"]

    def iou(self) -> np.ndarray:
        """IoU per class over everything seen: (n_classes,) float64, NaN for a class seen in neither mask."""
        return region_scores(*_tp_fp_fn(self.counts))["iou"]

    def mean_dice(self, exclude_background: bool = True) -> float:
        """Mean Dice of the classes that the truth holds, as ``mean_iou``."""
        return self._mean_over_truth(self.dice(), exclude_background)

    def mean_iou(self, exclude_background: bool = True) -> float:
        """Mean IoU of the classes that the truth holds; NaN when there is none. Class 0 is left out unless asked for.

        A class that the truth lacks would count 0 from its first false pixel on: with many classes and few validation patients
        that is most of what moves the mean. Its false pixels still cost the classes they were taken from.
        """
        return self._mean_over_truth(self.iou(), exclude_background)

    def _mean_over_truth(self, values: np.ndarray, exclude_background: bool) -> float:
        present = self.counts.any(axis=1)
        present[0] &= not exclude_background
        return float(values[present].mean()) if present.any() else float("nan")


# --------------------------------------------------------------------------------------------------------------- surfaces


def check_tolerance(tolerance_mm: float) -> None:
    """Raise ValueError unless ``tolerance_mm`` is a finite number of at least zero."""
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"tolerance_mm must be a finite number, zero or more, not {tolerance_mm}")


def check_spacing(spacing_mm: Sequence[float], ndim: int) -> tuple[float, ...]:
    """``spacing_mm`` as floats; ValueError unless it is ``ndim`` positive finite numbers (mm)."""
    spacing = tuple(float(step) for step in spacing_mm)
    if len(spacing) != ndim or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing_mm must be {ndim} positive numbers, one an array axis, not {spacing}")
    return spacing


class Surfaces:
    """Surface elements of two regions of one image and their distances, as the surface-distance library finds them.

    Args:
        truth, prediction: bool arrays of one shape, 2D or 3D, each with at least one True.
        spacing_mm: voxel size in mm along each axis, in array order.

    Raises:
        ValueError: one of the regions is empty, or shapes and spacing do not fit.
    """

    def __init__(self, truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]):
        if not (truth.any() and prediction.any()):
            raise ValueError("distances between surfaces need both regions to be non-empty")
        self._found = surface_distance.compute_surface_distances(truth, prediction, tuple(map(float, spacing_mm)))
        self._distances = np.concatenate([self._found["distances_gt_to_pred"], self._found["distances_pred_to_gt"]])
        self._weights = np.concatenate([self._found["surfel_areas_gt"], self._found["surfel_areas_pred"]])

    def asd(self) -> float:
        """Average symmetric surface distance, in the unit of the spacing (mm)."""
        # Not @: its rounding hangs on the number of threads.
        return float((self._distances * self._weights).sum() / self._weights.sum())

    def hausdorff(self, percent: float = 95) -> float:
        """The larger of the two one-way weighted percentiles of distance, in the unit of the spacing (mm)."""
        return float(surface_distance.compute_robust_hausdorff(self._found, percent))

    def nsd(self, tolerance_mm: float) -> float:
        """Share (0..1) of both surfaces that lies within ``tolerance_mm`` of the other one."""
        return float(surface_distance.compute_surface_dice_at_tolerance(self._found, tolerance_mm + _ROUNDING_MM))

    def nsd_one_sided(self, tolerance_mm: float) -> float:
        """Share (0..1) of the truth surface that lies within ``tolerance_mm`` of the predicted one."""
        overlap = surface_distance.compute_surface_overlap_at_tolerance(self._found, tolerance_mm + _ROUNDING_MM)
        return float(overlap[0])


# ------------------------------------------------------------------------------------------------------------------- case


def measure_case(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float] | None,
    classes: Sequence[int] | Mapping[int, str],
    tolerance_mm: float,
    source_variants: bool = False,
) -> pd.DataFrame:
    """Score one volume (3D) or one slice (2D), class by class.

    Args:
        truth, prediction: integer label arrays of one shape, 2D or 3D. Labels that are not in ``classes`` belong to no class.
        spacing_mm: voxel size in mm along each array axis. None when it is not known: all surface scores are then NaN,
            because a distance without it would have no unit.
        classes: the labels to score, or a mapping from label to name. Label 0 (background) gets the region scores only.
        tolerance_mm: NSD counts a surface element as right when the other surface is at most this far away.
        source_variants: add the columns ``nsd_one_sided`` and ``asd_pixels`` (see the module's text); here background is
            measured too, as `ahmed` (arXiv 2409.06018, Table 2) does. Twice the time.

    Returns:
        One row a class, in the order given: class, name, status ("both", "absent", "missed", "false"), tp, fp, fn (voxels),
        dice, iou, precision, recall, f1, asd_mm, hd95_mm, nsd, tolerance_mm, unit ("volume" or "slice").

    Raises:
        ValueError: shapes differ or are not 2D or 3D, labels are not integers in 0..65535, a class is named twice, spacing or
            tolerance is not a positive (tolerance: or zero) finite number.
    """
    truth, prediction = _as_labels(truth, "truth"), _as_labels(prediction, "prediction")
    _same_shape(truth, prediction)
    if truth.ndim not in (2, 3):
        raise ValueError(f"masks must have 2 or 3 dimensions, not {truth.ndim}")
    check_tolerance(tolerance_mm)
    if spacing_mm is not None:
        spacing_mm = check_spacing(spacing_mm, truth.ndim)
    names = dict(classes) if isinstance(classes, Mapping) else {int(label): str(label) for label in classes}
    if len(names) != len(classes):
        raise ValueError(f"classes names a label twice: {list(classes)}")
    if not all(0 <= label <= _MAX_LABEL for label in names):
        raise ValueError(f"classes must lie in 0..{_MAX_LABEL}, not {list(names)}")

    # Index 0 stands for every label that is not asked for, 1.. for the classes in the order given.
    n = len(names) + 1
    lookup = np.zeros(_MAX_LABEL + 1, dtype=np.min_scalar_type(n))
    lookup[list(names)] = np.arange(1, n)
    truth, prediction = lookup[truth], lookup[prediction]
    tp, fp, fn = (counts[1:] for counts in _tp_fp_fn(_count_pairs(truth, prediction, n)))
    table = pd.DataFrame({"class": list(names), "name": list(names.values())})
    table["status"] = np.select(
        [tp + fp + fn == 0, tp + fp == 0, tp + fn == 0], ["absent", "missed", "false"], default="both"
    ).astype(object)
    table = table.assign(tp=tp, fp=fp, fn=fn, **region_scores(tp, fp, fn))
    one_only = table["status"].isin(["missed", "false"]) & (table["class"] != BACKGROUND) & (spacing_mm is not None)
    table = table.assign(asd_mm=np.nan, hd95_mm=np.nan, nsd=np.where(one_only, 0.0, np.nan))
    table = table.assign(tolerance_mm=float(tolerance_mm), unit="volume" if truth.ndim == 3 else "slice")
    if source_variants:
        known_miss = (table["status"] == "missed") & (spacing_mm is not None)
        table = table.assign(nsd_one_sided=np.where(known_miss, 0.0, np.nan), asd_pixels=np.nan)

    for row, truth_part, prediction_part in _crops(truth, prediction, table["status"] == "both"):
        is_background = table.at[row, "class"] == BACKGROUND
        if is_background and not source_variants:
            continue
        if spacing_mm is not None:
            surfaces = Surfaces(truth_part, prediction_part, spacing_mm)
            if not is_background:
                table.loc[row, list(SURFACE_METRICS)] = (surfaces.asd(), surfaces.hausdorff(95), surfaces.nsd(tolerance_mm))
            if source_variants:
                table.loc[row, "nsd_one_sided"] = surfaces.nsd_one_sided(tolerance_mm)
        if source_variants:
            table.loc[row, "asd_pixels"] = Surfaces(truth_part, prediction_part, (1.0,) * truth.ndim).asd()
    return table


def measure_cases(
    cases: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float] | None]],
    classes: Sequence[int] | Mapping[int, str],
    tolerance_mm: float,
    source_variants: bool = False,
) -> Iterator[pd.DataFrame]:
    """Score several volumes or slices, side by side on all cores where that is worth it.

    Args:
        cases: truth, prediction and spacing_mm of each, as for `measure_case`.
        classes, tolerance_mm, source_variants: as for `measure_case`.

    Returns:
        The tables of `measure_case`, in the order of the cases.

    Raises:
        ValueError: as `measure_case`.
        KitError: a process was killed.
    """
    jobs = min(cpu_count(), sum(truth.size for truth, _, _ in cases) // _VOXELS_A_PROCESS)
    return map_in_processes(_measure, [(*case, classes, tolerance_mm, source_variants) for case in cases], jobs)


def _measure(task: tuple) -> pd.DataFrame:
    return measure_case(*task)


def _crops(truth: np.ndarray, prediction: np.ndarray, wanted: pd.Series) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each wanted row i: (i, truth == i + 1, prediction == i + 1), both cut to the box that holds the class in either."""
    boxes = [ndimage.find_objects(mask, max_label=len(wanted)) for mask in (truth, prediction)]
    for row in np.flatnonzero(wanted):
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(boxes[0][row], boxes[1][row], strict=True))
        yield row, truth[box] == row + 1, prediction[box] == row + 1


def foreground_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over the foreground classes of each case.

    A class that is absent from truth and prediction has no score and does not count; a missed or false one counts with its
    zeros, but has no distance: read the distances together with the numbers of missed and false classes.

    Args:
        table: rows of `measure_case` for one or more cases, with a column ``case`` and, where known, ``patient``.

    Returns:
        One row a case: case, patient, the mean of every metric, and absent, missed, false: how many classes were so.

    Raises:
        ValueError: the table has no foreground class.
    """
    rows = table[table["class"] != BACKGROUND]
    if rows.empty:
        raise ValueError("the table holds no foreground class to average over")
    keys = [key for key in ("case", "patient") if key in rows]
    metrics = [metric for metric in METRICS + SOURCE_VARIANTS if metric in rows]
    counts = {status: (rows["status"] == status).astype(int) for status in STATUSES[1:]}
    grouped = rows.assign(**counts).groupby(keys, sort=False, dropna=False)
    return grouped[metrics].mean().join(grouped[list(counts)].sum()).reset_index()
