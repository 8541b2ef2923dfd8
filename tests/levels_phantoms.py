"""Made-up patients, masks damaged as networks damage them, and how often the levels come out right.

Run ``python -m tests.levels_phantoms --patients 300 --out build/levels.csv`` (15 minutes on one core). What FILE holds already is
not done again, so a run that was stopped goes on, and more patients may be added.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import binomtest
from tqdm import tqdm

from spider_utils.data.phantom import HOSPITALS, Anatomy, draw_protocols, make_anatomy, render
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.scanner import body_box
from spider_utils.labels import convert
from spider_utils.measure.levels import LevelResult, name_levels

VIEWS = ("four classes", "discs alone", "middle slice")
_CHUNK = 10  # patients between two writes of the table


@dataclass(frozen=True, eq=False)
class Patient:
    """A made-up patient: anatomy, mask in scheme "spider", spacing, and where voxel [0, 0, 0] lies in the anatomy's frame (mm)."""

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
    """A patient of any hospital, T2; scanned from a coarse body, to be fast; ``every`` second (or so) pixel is kept."""
    anatomy = make_anatomy(seed, n_lumbar=n_lumbar)
    protocol = draw_protocols(anatomy, HOSPITALS[seed % len(HOSPITALS)], ("t2",), seed, size="small")[0]
    body = build_body(anatomy, *body_box([protocol]), (2.2, 1.4, 1.4))
    _, mask = render(anatomy, "t2", protocol, size="small", body=body)
    first = tuple(c - (n - 1) / 2 * v for c, n, v in zip(protocol.centre, protocol.shape, protocol.voxel_mm, strict=True))
    across, down, back = mask.spacing
    return Patient(anatomy, mask.array[:, ::every, ::every], (across, every * down, every * back), first)


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
    segment = patient.anatomy.sacrum[0]
    origin, *ends = (
        np.array(segment.frame.point(*p)) for p in ((0, 0, -segment.height / 2), *(np.eye(3) - [0, 0, segment.height / 2]))
    )
    radii = (13, rng.uniform(7, 11), 2.5)
    inside = 0.0
    for end, radius in zip(ends, radii, strict=True):
        inside = (
            inside
            + (sum(step * (axis - o) for step, axis, o in zip(end - origin, patient.axes_mm, origin, strict=True)) / radius) ** 2
        )
    return np.where((inside < 1) & (classes == 0), 3, classes)


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


# -------------------------------------------------------------------------------------------------------------- the verdict


def wrong_levels(truth: np.ndarray, classes: np.ndarray, result: LevelResult) -> list[str]:
    """What has another number than in ``truth``, or none: discs, and vertebrae that are whole; and numbers too many.

    A part's number is what most of its voxels that ``classes`` still holds have got; a part with less than a tenth of its
    voxels left is not asked for.
    """
    wrong = []
    for label in (int(value) for value in np.unique(truth)):
        kind = 3 if label > 200 else 1 if 0 < label < 100 else None
        part = truth == label
        left = part & (classes == kind)
        if kind and left.sum() > 0.1 * part.sum() and (got := int(np.bincount(result.mask[left]).argmax())) != label:
            wrong.append(f"{label} became {got}")
    return wrong + [f"{label} is no disc" for label in np.unique(result.mask) if label > 200 and label not in truth]


def verdicts(number: int, patient: Patient, damages: tuple[str, ...] = tuple(DAMAGE)) -> Iterator[dict]:
    """A row a damage and view: ``patient``, ``n_lumbar``, ``damage``, ``view``, ``right`` (all of it), ``wrong`` (what is not)."""
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


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Patients with all levels right, a row a damage: "k of n, lowest-highest %" (Wilson's 95 %), by view and lumbar vertebrae."""

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
    parser.add_argument("--out", type=Path, default=Path("build/levels.csv"), help="table to write, or to go on with")
    options = parser.parse_args()
    table = (
        pd.read_csv(options.out, keep_default_na=False) if options.out.exists() else pd.DataFrame(columns=["patient", "damage"])
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for damages, count, every in ((("nothing",), options.patients, 1), (tuple(DAMAGE)[1:], options.damaged, 2)):
        done = set(table.loc[table["damage"] == damages[-1], "patient"])
        left = [number for number in range(count) if not {number, 10000 + number} <= done]
        for start in tqdm(range(0, len(left), _CHUNK), desc=f"{len(damages)} kinds of masks", unit=f"{2 * _CHUNK} patients"):
            pairs = make_patients(left[start : start + _CHUNK], every)
            rows = pd.DataFrame([row for number, patient in pairs for row in verdicts(number, patient, damages)])
            table = pd.concat([table, rows], ignore_index=True)
            table.to_csv(options.out, index=False)
    print(rates(table).to_string())
    for row in table[table["right"].astype(str) == "False"].itertuples():
        print(f"  patient {row.patient}, {row.n_lumbar} lumbar, {row.damage}, {row.view}: {row.wrong}")


if __name__ == "__main__":
    main()
