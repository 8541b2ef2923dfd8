"""Phantom masks, damaged on purpose, and how many keep their levels: `python -m tests.levels_phantoms --patients 60`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spider_utils.data.phantom import HOSPITALS, Anatomy, draw_protocols, make_anatomy, render
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.scanner import body_box
from spider_utils.labels import convert
from spider_utils.measure.levels import LevelResult, name_levels


@dataclass(frozen=True)
class Patient:
    """A made-up patient: anatomy, mask in scheme "spider", spacing and where voxel [0, 0, 0] lies in the anatomy's frame (mm)."""

    anatomy: Anatomy
    truth: np.ndarray
    spacing_mm: tuple[float, float, float]
    first_mm: np.ndarray

    @property
    def transitional(self) -> bool:
        return self.anatomy.n_lumbar != 5

    @property
    def positions_mm(self) -> np.ndarray:
        """(3, slices, rows, columns): mm of each voxel in the anatomy's frame."""
        grids = np.indices(self.truth.shape, sparse=False).astype(float)
        return grids * np.reshape(self.spacing_mm, (3, 1, 1, 1)) + self.first_mm.reshape(3, 1, 1, 1)


def make_patient(seed: int, n_lumbar: int | None = None) -> Patient:
    """A patient of any hospital, T2, scanned coarsely from a coarse body: half a second instead of four."""
    anatomy = make_anatomy(seed, **({} if n_lumbar is None else {"n_lumbar": n_lumbar}))
    protocol = draw_protocols(anatomy, HOSPITALS[seed % len(HOSPITALS)], ("t2",), seed, size="small")[0]
    body = build_body(anatomy, *body_box([protocol]), (2.2, 1.4, 1.4))
    _, mask = render(anatomy, "t2", protocol, size="small", body=body)
    first = np.array(protocol.centre) - (np.array(protocol.shape) - 1) / 2 * np.array(protocol.voxel_mm)
    return Patient(anatomy, mask.array, mask.spacing, first)


def make_patients(plain: int, transitional: int) -> Iterator[Patient]:
    """So many patients as they are drawn, then so many with four or six lumbar vertebrae, by turns."""
    for seed in range(plain):
        yield make_patient(seed)
    for seed in range(transitional):
        yield make_patient(1000 + seed, n_lumbar=4 if seed % 2 else 6)


# -------------------------------------------------------------------------------------------------------------- the damage


def _discs(patient: Patient) -> list[int]:
    return [int(value) for value in np.unique(patient.truth) if value > 200]


def _ball(patient: Patient, centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    return ((patient.positions_mm - centre_mm.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < radius_mm**2


def _middle_mm(patient: Patient, label: int) -> np.ndarray:
    return patient.positions_mm[:, patient.truth == label].mean(axis=1)


def nothing(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The true classes."""
    return classes


def missing_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One disc, not the lowest, became background."""
    return np.where(patient.truth == rng.choice(_discs(patient)[1:-1]), 0, classes)


def missing_lowest_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The disc above the sacrum became background."""
    return np.where(patient.truth == 201, 0, classes)


def merged_discs(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two neighbouring discs joined by a bar through the body between them, 10 mm thick."""
    label = rng.choice(_discs(patient)[:-2])
    start, end = _middle_mm(patient, label), _middle_mm(patient, label + 1)
    bar = np.any([_ball(patient, start + t * (end - start), 5.0) for t in np.linspace(0, 1, 15)], axis=0)
    return np.where(bar, 3, classes)


def false_blobs(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Twelve balls of 1 to 8 mm radius, vertebra or disc, at random places away from the spine."""
    out = classes.copy()
    spine = patient.positions_mm[:, classes > 0]
    low, high = patient.positions_mm.min(axis=(1, 2, 3)), patient.positions_mm.max(axis=(1, 2, 3))
    left = 12
    while left:
        centre = rng.uniform(low, high)
        if np.linalg.norm(spine - centre[:, None], axis=0).min() > 15:
            out[_ball(patient, centre, rng.uniform(1, 8))] = rng.choice((1, 3))
            left -= 1
    return out


def split_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One disc cut in a front and a back half, 4 mm apart."""
    label = rng.choice(_discs(patient)[:-1])
    back = patient.positions_mm[2]
    cut = np.abs(back - _middle_mm(patient, label)[2]) < 2
    return np.where((patient.truth == label) & cut, 0, classes)


def sacrum_disc(patient: Patient, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A disc between the first two pieces of the sacrum was found as well, 20 mm long and 5 mm thick."""
    segment = patient.anatomy.sacrum[0]
    middle = np.array(segment.frame.point(0, 0, -segment.height / 2))
    across, along, upwards = (np.array(segment.frame.point(*step)) - segment.frame.point(0, 0, 0) for step in np.eye(3))
    offset = patient.positions_mm - middle.reshape(3, 1, 1, 1)
    lengths = (np.tensordot(axis, offset, 1) / radius for axis, radius in ((across, 13), (along, 10), (upwards, 2.5)))
    return np.where(sum(length**2 for length in lengths) < 1, 3, classes)


DAMAGE: dict[str, Callable[[Patient, np.ndarray, np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (nothing, missing_disc, missing_lowest_disc, merged_discs, false_blobs, split_disc, sacrum_disc)
}


# -------------------------------------------------------------------------------------------------------------- the verdict


def wrong_discs(patient: Patient, classes: np.ndarray, result: LevelResult) -> list[str]:
    """Discs of the truth that got another number or none, and numbers that no disc of the truth has."""
    wrong, discs = [], _discs(patient)
    for label in discs:
        left = (patient.truth == label) & (classes == 3)
        if left.any() and (got := int(np.bincount(result.mask[left]).argmax())) != label:
            wrong.append(f"{label} became {got}")
    return wrong + [f"{label} is no disc" for label in np.unique(result.mask) if label > 200 and label not in discs]


def accuracy(patients: list[Patient], scheme: str = "structures4") -> pd.DataFrame:
    """One row a patient and damage: ``damage``, ``transitional``, ``right`` (all discs), ``wrong`` (what is not)."""
    rows = []
    for number, patient in enumerate(patients):
        true_classes = convert(patient.truth, "spider", "structures4")
        for name, damage in DAMAGE.items():
            classes = damage(patient, true_classes, np.random.default_rng([number, len(name)]))
            given = classes == 3 if scheme == "discs" else classes
            wrong = wrong_discs(patient, classes, name_levels(given, patient.spacing_mm, scheme))
            rows.append({"damage": name, "transitional": patient.transitional, "right": not wrong, "wrong": "; ".join(wrong)})
    return pd.DataFrame(rows)


def main() -> None:
    """Print how many patients have all their discs right, by damage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--patients", type=int, default=60, help="as drawn; about one in ten has four or six lumbar vertebrae")
    parser.add_argument("--transitional", type=int, default=20, help="more, all with four or six lumbar vertebrae")
    options = parser.parse_args()
    patients = list(make_patients(options.patients, options.transitional))
    for scheme in ("structures4", "discs"):
        table = accuracy(patients, scheme)
        print(scheme)
        print(table.groupby(["damage", "transitional"], sort=False)["right"].agg(["size", "sum"]).unstack().to_string())
        for row in table[~table["right"]].itertuples():
            print(f"  {row.damage}, {'transitional' if row.transitional else 'five lumbar'}: {row.wrong}")


if __name__ == "__main__":
    main()
