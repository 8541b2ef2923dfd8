"""What `triplanar` says and does not measure: errors and trust by place in the disc, number of patients, other discs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from spider_utils.data.discs import LABELLED_DISCS, SACRAL_DISC
from spider_utils.data.planes import PLANES
from spider_utils.ensemble.planes import sensitivity
from spider_utils.evaluation.discs import place_in_disc, position_counts
from spider_utils.evaluation.statistics import CONFIDENCE, ratio_draws, ratio_interval, summarise
from spider_utils.training.loop import RunResult
from spider_utils.triplanar.rules import ALL, LOWEST, NAMED, PART
from spider_utils.triplanar.settings import FUSED
from spider_utils.triplanar.study import TriplanarStudy
from spider_utils.triplanar.tables import foreground_dice

LESSON_PLANE = "sagittal"  # of the networks that show what patients and unlabelled discs are worth
_MIDDLE = 0.4  # from the middle of a disc so far, in halves of its extent


def train_lessons(study: TriplanarStudy) -> list[RunResult]:
    """Train what ``size_curve`` and ``unlabelled`` need besides the first fold's networks."""
    fold = study.folds[0]
    smaller = [study.train(fold, LESSON_PLANE, fold.train[:n]) for n in study.settings.curve if n < len(fold.train)]
    return [*smaller, study.train(fold, LESSON_PLANE, crop=False)]


# ------------------------------------------------------------------------------------------------------ by place in the disc


def by_position(study: TriplanarStudy, methods: Sequence[str] = (*PLANES, FUSED), bins: int = 9) -> pd.DataFrame:
    """Is a plane better in the middle of the disc, along its normal, than at its ends?

    Args:
        study: whose test patients; in the part of the volumes in which every disc is labelled.
        methods: of METHODS.
        bins: places along each direction.

    Returns:
        One row a method, direction (the plane whose normal it is) and bin: position (-1 to 1: the disc's ends; what is found
        beyond an end counts there), dice of all test patients' voxels there, low, high (95 % over patients).
    """
    tops, bottoms, places = _dice_parts(study, methods, bins)
    rows = []
    for d, direction in enumerate(PLANES):
        for m, method in enumerate(methods):
            for b, place in enumerate(places):
                top, bottom = tops[d, m, :, b], bottoms[d, m, :, b]
                low, high = ratio_interval(top[:, None], bottom[:, None])
                dice = top.sum() / bottom.sum() if bottom.any() else np.nan
                rows.append({"direction": direction, "method": method, "position": place, "dice": dice, "low": low, "high": high})
    return pd.DataFrame(rows)


def fall_to_ends(study: TriplanarStudy, bins: int = 9) -> pd.DataFrame:
    """Does a plane lose more towards the ends of its own normal than the two other planes lose there?

    Args:
        study: whose test patients.
        bins: places along each direction; the first and the last are the ends.

    Returns:
        One row a direction: direction, own, others, fused: how far the Dice falls from the middle of the disc (mean of the bins
        there) to its ends, for the plane whose normal it is, for the two others on average, and for the fusion. And
        difference, own minus others, with low and high: 95 % over patients, in pairs.
    """
    methods = (*PLANES, FUSED)
    tops, bottoms, places = _dice_parts(study, methods, bins)
    middle, ends = np.abs(places) < _MIDDLE, np.isin(np.arange(bins), (0, bins - 1))

    def falls(direction: int, method: int) -> np.ndarray:
        """The fall in all patients, then in each resample of patients."""
        parts = []
        for chosen in (middle, ends):
            top, bottom = tops[direction, method][:, chosen], bottoms[direction, method][:, chosen]
            held = bottom.any(axis=0)
            everybody = np.mean(top[:, held].sum(axis=0) / bottom[:, held].sum(axis=0))
            parts.append(np.append(everybody, ratio_draws(top, bottom)))  # the same resamples for every plane
        return parts[0] - parts[1]

    rows = []
    for d, direction in enumerate(PLANES):
        fall = {method: falls(d, m) for m, method in enumerate(methods)}
        others = np.mean([fall[plane] for plane in PLANES if plane != direction], axis=0)
        difference = fall[direction] - others
        alone = len(study.tested) < 2  # no spread can be seen
        low, high = np.quantile(difference[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if not alone else (np.nan, np.nan)
        row = {"direction": direction, "own": fall[direction][0], "others": others[0], "fused": fall[FUSED][0]}
        rows.append(row | {"difference": difference[0], "low": low, "high": high})
    return pd.DataFrame(rows)


def _dice_parts(study: TriplanarStudy, methods: Sequence[str], bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numerators and denominators of the Dice by place (direction, method, patient, bin), and the places (bin,)."""
    edges = np.linspace(-1, 1, bins + 1)
    counts = np.zeros((len(PLANES), len(methods), len(study.tested), 3, bins))
    for number, (fold, patient) in enumerate(study.tested):
        truth, nearest = study.volumes[patient].mask, study.nearest(patient)
        for m, method in enumerate(methods):
            found, _ = study.kept(study.mask(method, fold, patient), patient)
            for d, axis in enumerate(PLANES.values()):
                counts[d, m, number] = position_counts(truth, nearest, found, axis, edges)
    right, extra, missing = np.moveaxis(counts, 3, 0)
    return 2 * right, 2 * right + extra + missing, (edges[:-1] + edges[1:]) / 2


def weights_at_work(
    study: TriplanarStudy, name: str = FUSED, voxels: int = 400, bins: int = 5
) -> tuple[np.ndarray, pd.DataFrame]:
    """What a fusion weighs in test patients, at voxels drawn from their discs and one voxel around.

    Args:
        study: whose fusions.
        name: one of FUSIONS.
        voxels: of each patient.
        bins: places along each plane's normal in the disc.

    Returns:
        Mean of ``sensitivity`` (3, 5, 5, 5); and by plane and position (-1 to 1: the disc's ends along that plane's own
        normal) the share that the plane has in the sum of all three planes' weights.
    """
    rng, edges = np.random.default_rng(0), np.linspace(-1, 1, bins + 1)
    total, number = np.zeros((len(PLANES), 5, 5, 5)), 0
    sums, alls = np.zeros((2, len(PLANES), bins))
    for fold, patient in study.tested:
        truth = study.volumes[patient].mask
        around = np.argwhere(ndimage.binary_dilation(truth > 0))
        chosen = rng.choice(around, min(voxels, len(around)), replace=False)
        found = sensitivity(study.fusion(fold, name), study.planes(fold, patient), chosen)
        total, number = total + found.sum(axis=0), number + len(found)
        discs, weights = study.nearest(patient)[tuple(chosen.T)], found.sum(axis=(2, 3, 4))
        for k, axis in enumerate(PLANES.values()):
            places = np.clip(place_in_disc(truth, discs, chosen[:, axis], axis), -1, 1)  # what is around counts for the ends
            sums[k] += np.histogram(places, edges, weights=weights[:, k])[0]
            alls[k] += np.histogram(places, edges, weights=weights.sum(axis=1))[0]
    shares = pd.DataFrame(sums / np.where(alls == 0, np.nan, alls), list(PLANES), (edges[:-1] + edges[1:]) / 2)
    return total / number, shares.rename_axis("plane").rename_axis("position", axis=1)


# --------------------------------------------------------------------------------------------------- patients and other discs


def size_curve(study: TriplanarStudy) -> pd.DataFrame:
    """The training-size curve of LESSON_PLANE in the first fold: score by number of training patients, with as many steps.

    Scored are the fold's patients to test and to learn, who are all unknown to the network.

    Returns:
        One row a number: patients, mean, low, high (mean Dice over discs, then patients; 95 %), tested.
    """
    fold, rows = study.folds[0], []
    sizes = sorted({n for n in study.settings.curve if n < len(fold.train)} | {len(fold.train)})
    for n in sizes:
        run = study.train(fold, LESSON_PLANE, fold.train[:n])
        found = foreground_dice(summarise(_score(study, run, (*fold.learn, *fold.test))))
        rows.append({"patients": n, "mean": found["mean"], "low": found["low"], "high": found["high"], "tested": found["n"]})
    return pd.DataFrame(rows)


def _score(study: TriplanarStudy, run: RunResult, patients: Sequence[int], rule: str = PART) -> pd.DataFrame:
    """Scores of a single network, of rows as ``TriplanarStudy.scored`` gives."""
    found = {patient: study.probability(run, patient) > 0.5 for patient in patients}
    return pd.concat(
        [study.scored(patient, study.kept(mask, patient, rule)[0]) for patient, mask in found.items()], ignore_index=True
    )


def unlabelled(study: TriplanarStudy, all_discs: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """What discs that nobody labelled do to a network, with and without the source's remedy of cropping them out.

    The network is LESSON_PLANE's of the first fold; its patients to test and to learn are looked at.

    Args:
        study: whose network and patients.
        all_discs: every disc in view by patient, (slice, row, column), numbered from L5/S1 upward; those above the seventh
            were not labelled.

    Returns:
        One row a training and patient: training ("cropped" or "as labelled"), patient, found_above (share of the
        unlabelled discs' voxels that it calls disc), extra_mm3 (volume called disc above the highest labelled one),
        dice_seventh and dice (mean over discs), each with no rule ("all") and with the lowest seven.
    """
    fold, rows = study.folds[0], []
    for training, crop in (("cropped", True), ("as labelled", False)):
        run = study.train(fold, LESSON_PLANE, crop=crop)
        for patient in (*fold.learn, *fold.test):
            volume = study.volumes[patient]
            mask = study.probability(run, patient) > 0.5
            above = (all_discs[patient] > LABELLED_DISCS) & (all_discs[patient] != SACRAL_DISC)
            top = np.flatnonzero(volume.mask.any(axis=(0, 2)))[0]
            row = {
                "training": training,
                "patient": patient,
                "found_above": float(mask[above].mean()) if above.any() else np.nan,
                "extra_mm3": float(mask[:, :top].sum() * np.prod(volume.spacing)),
            }
            for rule, suffix in ((LOWEST, ""), (ALL, "_all")):
                scores = _score(study, run, [patient], rule).set_index("class")["dice"]
                row |= {f"dice_seventh{suffix}": scores[LABELLED_DISCS], f"dice{suffix}": scores.mean()}
            rows.append(row)
    return pd.DataFrame(rows)


def sacral(study: TriplanarStudy, all_discs: Mapping[int, np.ndarray], method: str = FUSED) -> pd.DataFrame:
    """What a rudimentary disc in the sacrum costs under each rule, as it was found and had it been found whole.

    Args:
        study: whose test patients.
        all_discs: every disc in view by patient, as for ``unlabelled``; SACRAL_DISC marks rudimentary ones.
        method: of METHODS.

    Returns:
        One row a test patient with such a disc, a mask and a rule: patient, sacral_found (share of the disc's voxels that the
        method calls disc), mask ("as found" or "sacral disc added"), rule (LOWEST or NAMED), kept_by (the rule that it was in
        the end, see ``keep_by_rule``), first, seventh (Dice of these discs) and mean (over discs).
    """
    columns = ("patient", "sacral_found", "mask", "rule", "kept_by", "first", "seventh", "mean")
    rows = []
    for fold, patient in study.tested:
        found, rudiment = study.mask(method, fold, patient), all_discs[patient] == SACRAL_DISC
        if not rudiment.any():
            continue
        for name, mask in (("as found", found), ("sacral disc added", found | rudiment)):
            for rule in (LOWEST, NAMED):
                kept, by = study.kept(mask, patient, rule)
                dice = study.scored(patient, kept).set_index("class")["dice"]
                facts = (patient, float(found[rudiment].mean()), name, rule, by, dice[1], dice.iloc[-1], dice.mean())
                rows.append(dict(zip(columns, facts, strict=True)))
    return pd.DataFrame(rows, columns=list(columns))
