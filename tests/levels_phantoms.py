"""Made-up patients, masks damaged as networks damage them, and how often the levels come out right.

Run ``python -m tests.levels_phantoms --patients 300 --out build/levels.csv`` (8 minutes on one core). What FILE holds already is
not done again, so a run that was stopped goes on, and more patients may be added. The masks with levels, whose numbers are
partly wrong, are made alone by ``--patients 0 --damaged 0 --drawn 60``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import binomtest
from tqdm import tqdm

from spider_utils.data.phantom import HOSPITALS, Anatomy, draw_protocols, make_anatomy, render
from spider_utils.data.phantom.bones import paint_disc, paint_vertebra
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.scanner import body_box
from spider_utils.data.phantom.soft import paint_canal, trace
from spider_utils.labels import convert
from spider_utils.measure.levels import LevelResult, name_levels

VIEWS = ("four classes", "discs alone", "middle slice")
COUNT_FROM = ("lowest", "own")  # what masks with levels are seen by, see name_levels
_CHUNK = 10  # patients between two writes of the table


@dataclass(frozen=True, eq=False)
class Patient:
    """A made-up patient: anatomy, mask in scheme "spider", spacing, where voxel [0, 0, 0] lies in the anatomy's frame (mm)."""

    anatomy: Anatomy
    truth: np.ndarray
    spacing_mm: tuple[float, float, float]
    first_mm: tuple[float, float, float]

    @cached_property
    def axes_mm(self) -> list[np.ndarray]:
        """Open grid of mm along (slice, row, column) in the anatomy's frame."""
        along = [first + np.arange(n) * s for first, n, s in zip(self.first_mm, self.truth.shape, self.spacing_mm, strict=True)]
        return list(np.ix_(*along))

    @cached_property
    def away_mm(self) -> np.ndarray:
        """Distance of each voxel from what is labelled."""
        return ndimage.distance_transform_edt(self.truth == 0, sampling=self.spacing_mm)

    @property
    def discs(self) -> list[int]:
        """Labels of the discs in view, from below."""
        return [int(value) for value in np.unique(self.truth) if value > 200]

    def middle_mm(self, label: int) -> np.ndarray:
        """Centroid of a label."""
        return np.argwhere(self.truth == label).mean(axis=0) * self.spacing_mm + self.first_mm

    def ball(self, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
        """Where a ball is."""
        return sum((axis - c) ** 2 for axis, c in zip(self.axes_mm, centre_mm, strict=True)) < radius_mm**2

    def bar(self, start_mm: np.ndarray, end_mm: np.ndarray, radius_mm: float) -> np.ndarray:
        """Where a rounded bar from one point to another is."""
        return np.any([self.ball(start_mm + t * (end_mm - start_mm), radius_mm) for t in np.linspace(0, 1, 15)], axis=0)


def make_patient(seed: int, n_lumbar: int, every: int = 1) -> Patient:
    """A patient of any hospital, T2; ``every`` second (or so) pixel is kept."""
    anatomy = make_anatomy(seed, n_lumbar=n_lumbar)
    protocol = draw_protocols(anatomy, HOSPITALS[seed % len(HOSPITALS)], ("t2",), seed, size="small")[0]
    body = _labelled_parts(anatomy, *body_box([protocol]))
    _, mask = render(anatomy, "t2", protocol, size="small", body=body)
    first = tuple(c - (n - 1) / 2 * v for c, n, v in zip(protocol.centre, protocol.shape, protocol.voxel_mm, strict=True))
    across, down, back = mask.spacing
    return Patient(anatomy, mask.array[:, ::every, ::every], (across, every * down, every * back), first)


def _labelled_parts(anatomy: Anatomy, low: tuple[float, float, float], high: tuple[float, float, float]) -> TissueGrid:
    """What build_body paints, but coarsely, without endplate defects and without the tissues that no mask labels."""
    grid = TissueGrid.empty(low, high, (2.2, 1.4, 1.4))
    paint_canal(grid, anatomy, trace(grid, anatomy))
    for disc in anatomy.discs:
        paint_disc(grid, disc)
    for bone in reversed(anatomy.vertebrae):
        paint_vertebra(grid, bone, None, None)
    return grid


def make_patients(patients: range, every: int = 1) -> Iterator[tuple[int, Patient]]:
    """(number, patient): numbers below 10000 have five lumbar vertebrae; the same number above it, four or six by turns."""
    for number in patients:
        yield number, make_patient(number, 5, every)
        yield 10000 + number, make_patient(10000 + number, 4 if number % 2 else 6, every)


# -------------------------------------------------------------------------------------------------------------- the damage
# Each takes (patient, classes in structures4, random numbers) and returns classes.


def nothing(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The true mask."""
    return classes


def missing_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One disc, neither the lowest nor the uppermost, became background."""
    return np.where(patient.truth == rng.choice(patient.discs[1:-1]), 0, classes)


def missing_lowest_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The disc above the sacrum became background."""
    return np.where(patient.truth == 201, 0, classes)


def missing_vertebra(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One vertebra, any but the uppermost two, became background."""
    return np.where(patient.truth == rng.choice(patient.discs[:-2]) - 200, 0, classes)


def split_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One disc in a front and a back half, 4 mm apart."""
    label = rng.choice(patient.discs[:-1])
    between = np.abs(patient.axes_mm[2] - patient.middle_mm(label)[2]) < 2
    return np.where((patient.truth == label) & between, 0, classes)


def merged_discs(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two neighbouring discs joined by a bar of disc through the body between them, 10 mm thick."""
    label = rng.choice(patient.discs[:-2])
    return np.where(patient.bar(patient.middle_mm(label), patient.middle_mm(label + 1), 5.0), 3, classes)


def merged_bodies(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two neighbouring bodies joined by bone through the disc between them, 16 mm wide."""
    label = rng.choice(patient.discs[1:-1])
    return np.where(patient.ball(patient.middle_mm(label), 8.0) & (classes == 3), 1, classes)


def holes(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Forty balls of 2 to 5 mm radius, somewhere within the labelled parts, became background."""
    out = classes.copy()
    for centre in rng.choice(np.argwhere(classes > 0), 40) * patient.spacing_mm + patient.first_mm:
        out[patient.ball(centre, rng.uniform(2, 5))] = 0
    return out


def false_blobs(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Twelve balls of 1 to 8 mm radius, vertebra or disc, their middles 10 mm or more from all true parts."""
    out = classes.copy()
    for centre in rng.choice(np.argwhere(patient.away_mm > 10), 12) * patient.spacing_mm + patient.first_mm:
        out[patient.ball(centre, rng.uniform(1, 8))] = rng.choice((1, 3))
    return out


def sacrum_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The remnant of a disc between the first two pieces of the sacrum was found as well: 14 to 22 mm long, 5 mm thick."""
    radii = (13, rng.uniform(7, 11), 2.5)
    return np.where(_below_first_of_sacrum(patient, radii) & (classes == 0), 3, classes)


def _below_first_of_sacrum(patient: Patient, radii: tuple[float, float, float], up_mm: float = 0.0) -> np.ndarray:
    """Ellipsoid (radii to the sides, to the front and upwards) at the lower end of the sacrum's first piece, or so far above."""
    segment = patient.anatomy.sacrum[0]
    centre = np.array([0, 0, up_mm - segment.height / 2])
    origin, *ends = (np.array(segment.frame.point(*p)) for p in (centre, *(np.eye(3) + centre)))
    inside = 0.0
    for end, radius in zip(ends, radii, strict=True):
        inside = (
            inside
            + (sum(step * (axis - o) for step, axis, o in zip(end - origin, patient.axes_mm, origin, strict=True)) / radius) ** 2
        )
    return inside < 1


def all_of_it(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask of a bad network: merged bodies, merged discs, a disc in the sacrum, holes and false blobs at once."""
    for damage in (merged_bodies, merged_discs, sacrum_disc, holes, false_blobs):
        classes = damage(patient, classes, rng)
    return classes


DAMAGE: dict[str, Callable[[Patient, np.ndarray, np.random.Generator], np.ndarray]] = {
    function.__name__.replace("_", " "): function
    for function in (
        nothing, missing_disc, missing_lowest_disc, missing_vertebra, split_disc, merged_discs, merged_bodies, holes,
        false_blobs, sacrum_disc, all_of_it,
    )
}  # fmt: skip


# -------------------------------------------------------------------------------------- masks with levels, as networks draw them
# Each takes (patient, random numbers) and returns a mask in scheme "spider" with some wrong numbers; cut vertebrae have theirs.


def _patches(patient: Patient, rng: np.random.Generator, share: float) -> np.ndarray:
    """The true mask; balls of 8 to 16 mm, together ``share`` of the parts, carry the next higher or, by patient, lower number."""
    labels = np.where((patient.truth > 100) & (patient.truth < 200), patient.truth - 100, patient.truth).astype(int)
    parts = (labels > 0) & (patient.truth != 100)
    drawn, step, wanted = np.where(patient.truth == 100, 100, labels), int(rng.choice((-1, 1))), share * parts.sum()
    places = np.argwhere(parts)
    while ((drawn != labels) & parts).sum() < wanted:
        ball = patient.ball(places[rng.integers(len(places))] * patient.spacing_mm + patient.first_mm, rng.uniform(8, 16)) & parts
        drawn[ball] = np.where(np.isin(labels[ball] + step, (0, 200)), labels[ball], labels[ball] + step)
    return drawn.astype(np.uint8)


def a_fifth_wrong(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """A fifth of all voxels carries a neighbour's number."""
    return _patches(patient, rng, 0.2)


def two_fifths_wrong(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """Two fifths of all voxels carry a neighbour's number."""
    return _patches(patient, rng, 0.4)


def lowest_missing(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """A fifth carries a neighbour's number; of the lowest vertebra and the disc below it nothing was found."""
    return np.where(np.isin(patient.truth, (1, 201)), 0, a_fifth_wrong(patient, rng)).astype(np.uint8)


def lowest_doubled(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """A fifth carries a neighbour's number; S1 and the remnant of the disc below it were drawn too, as one more L5 and L5/S1."""
    drawn = a_fifth_wrong(patient, rng)
    height = patient.anatomy.sacrum[0].height
    drawn[_below_first_of_sacrum(patient, (18, 13, 0.45 * height), height / 2) & (drawn == 0)] = 1
    drawn[_below_first_of_sacrum(patient, (18, 14, 3.5)) & ((drawn == 0) | (drawn == 1))] = 201
    return drawn


def holes_and_merged_bodies(patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """A fifth carries a neighbour's number; forty holes; bone with the lower one's number joins two neighbouring bodies."""
    drawn = a_fifth_wrong(patient, rng)
    label = rng.choice(patient.discs[1:-1])
    drawn[patient.ball(patient.middle_mm(label), 8.0) & (drawn > 200)] = label - 200
    return np.where(holes(patient, drawn, rng) > 0, drawn, 0).astype(np.uint8)


DRAWN: dict[str, Callable[[Patient, np.random.Generator], np.ndarray]] = {
    function.__name__.replace("_", " "): function
    for function in (a_fifth_wrong, two_fifths_wrong, lowest_missing, lowest_doubled, holes_and_merged_bodies)
}


# -------------------------------------------------------------------------------------------------------------- the verdict


def wrong_levels(truth: np.ndarray, classes: np.ndarray, result: LevelResult) -> list[str]:
    """What has another number than in ``truth``, or none: discs, and vertebrae that are whole; and numbers too many.

    A part's number is what most of its voxels that ``classes`` still holds have got; a part with less than a tenth of its
    voxels left is not asked for.
    """
    meets = np.zeros((256, 256), int)  # voxels that ``classes`` still holds, by label and by what it became
    kinds = np.array([1 if 0 < label < 100 else 3 if label > 200 else 255 for label in range(256)])
    held = classes == kinds[truth]
    np.add.at(meets, (truth[held], result.mask[held]), 1)
    all_voxels = np.bincount(truth.reshape(-1), minlength=256)
    labels = np.flatnonzero((meets.sum(axis=1) > 0.1 * all_voxels) & (all_voxels > 0))
    wrong = [f"{label} became {meets[label].argmax()}" for label in labels if meets[label].argmax() != label]
    too_many = np.flatnonzero(np.bincount(result.mask.reshape(-1), minlength=256)[201:] * (all_voxels[201:] == 0)) + 201
    return wrong + [f"{label} is no disc" for label in too_many]


def verdicts(number: int, patient: Patient, damages: tuple[str, ...] = tuple(DAMAGE)) -> Iterator[dict]:
    """A row a damage and view: ``patient``, ``n_lumbar``, ``damage``, ``view``, ``right`` (all levels), ``wrong`` (which not)."""
    true_classes = convert(patient.truth, "spider", "structures4")
    for name in damages:
        classes = DAMAGE[name](patient, true_classes, np.random.default_rng([number, list(DAMAGE).index(name)]))
        for view in VIEWS:
            if (name, view) == ("missing lowest disc", "discs alone"):
                continue  # nothing shows it: levels are counted from the next disc
            at = np.s_[len(classes) // 2] if view == "middle slice" else np.s_[:]
            truth, given = patient.truth[at], classes[at]
            if view == "discs alone":
                truth, given = np.where(truth > 200, truth, 0), np.where(given == 3, given, 0)
            spacing = patient.spacing_mm[-given.ndim :]
            wrong = wrong_levels(truth, given, name_levels(given, spacing, "discs" if view == "discs alone" else "structures4"))
            yield {
                "patient": number, "n_lumbar": patient.anatomy.n_lumbar, "damage": name, "view": view,
                "right": not wrong, "wrong": "; ".join(wrong),
            }  # fmt: skip


def drawn_verdicts(number: int, patient: Patient) -> Iterator[dict]:
    """Rows as of ``verdicts``, of masks with levels; ``view`` is what levels are counted from."""
    for k, (name, draw) in enumerate(DRAWN.items()):
        drawn = draw(patient, np.random.default_rng([number, 100 + k]))
        for count_from in COUNT_FROM:
            result = name_levels(drawn, patient.spacing_mm, "spider", count_from=count_from)
            wrong = wrong_levels(patient.truth, convert(drawn, "spider", "structures4"), result)
            yield {
                "patient": number, "n_lumbar": patient.anatomy.n_lumbar, "damage": name, "view": count_from,
                "right": not wrong, "wrong": "; ".join(wrong),
            }  # fmt: skip


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Patients with all levels right, a row a damage: "k of n, low-high %" (Wilson's 95 %), by view and lumbar vertebrae."""

    def rate(right: pd.Series) -> str:
        low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        return f"{right.sum()} of {len(right)}, {100 * low:.1f}-{100 * high:.1f} %"

    lumbar = np.where(table["n_lumbar"] == 5, "five", "four or six")
    groups = table.groupby(["damage", "view", lumbar], sort=False)["right"]
    return groups.agg(rate).unstack([1, 2])


def main() -> None:
    """Print how many patients have all their levels right, by damage and by what is seen of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--patients", type=int, default=300, help="with five lumbar vertebrae, and as many with four or six")
    parser.add_argument("--damaged", type=int, default=60, help="so many of each are damaged too, with every second pixel")
    parser.add_argument("--drawn", type=int, default=60, help="so many of each as masks with levels that are partly wrong")
    parser.add_argument("--out", type=Path, default=Path("build/levels.csv"), help="table to write, or to go on with")
    options = parser.parse_args()
    table = (
        pd.read_csv(options.out, keep_default_na=False) if options.out.exists() else pd.DataFrame(columns=["patient", "damage"])
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    jobs = (
        ("true masks", options.patients, 1, "nothing", partial(verdicts, damages=("nothing",))),
        ("damaged masks", options.damaged, 2, list(DAMAGE)[-1], partial(verdicts, damages=tuple(DAMAGE)[1:])),
        ("masks with levels", options.drawn, 2, list(DRAWN)[-1], drawn_verdicts),
    )
    for name, count, every, last, judge in jobs:
        done = set(table.loc[table["damage"] == last, "patient"])
        left = [number for number in range(count) if not {number, 10000 + number} <= done]
        for start in tqdm(range(0, len(left), _CHUNK), desc=name, unit=f"{2 * _CHUNK} patients"):
            rows = [row for pair in make_patients(left[start : start + _CHUNK], every) for row in judge(*pair)]
            table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
            table.to_csv(options.out, index=False)
    for views in (VIEWS, COUNT_FROM):
        seen = table[table["view"].isin(views)]
        if len(seen):
            print(rates(seen).to_string())
    # Counted from the lowest part, a mask without the lowest vertebra, or with one too many, is always wrong.
    failed = table[(table["right"].astype(str) == "False") & (table["view"] != "lowest")]
    for row in failed.itertuples():
        print(f"  patient {row.patient}, {row.n_lumbar} lumbar, {row.damage}, {row.view}: {row.wrong}")


if __name__ == "__main__":
    main()
