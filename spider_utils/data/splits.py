"""Who trains, who validates, who tests: by patient, so that no picture of a test patient was ever seen in training.

A patient's T1, T2 and T2_SPACE series show the same anatomy; neighbouring slices of one series are nearly the same picture. Only
the splits whose name begins with "leaky-" part them, for the lessons that show what such a leak is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.errors import DataError, KitError
from spider_utils.files import atomic_path, fingerprint, read_csv

LEAKY = "leaky-"
SPLITS = ("official", "seed70-5-25", "kfold5", "leaky-slices", "leaky-seed70-5-25", "leaky-kfold5")
SUBSETS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """An assignment to train, val and test.

    Attributes:
        name: one of SPLITS.
        seed, fold: what it was made with.
        table: patient, subset; when leaky also case and slice.
    """

    name: str
    seed: int
    fold: int
    table: pd.DataFrame

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when anything moves between the subsets."""
        return fingerprint([self.name, self.table.astype(str).to_numpy().tolist()])

    @property
    def by_patient(self) -> bool:
        """False for the leaky splits, which part the slices of a patient."""
        return not self.name.startswith(LEAKY)

    def patients(self, subset: str) -> list[int]:
        """Patients in ``train``, ``val`` or ``test``, ascending."""
        return sorted(self.table.loc[self.table["subset"] == subset, "patient"].unique().tolist())

    def rows(self, subset: str, table: pd.DataFrame) -> np.ndarray:
        """Row numbers of ``table`` (of a slice store, or of cases) that belong to ``subset``.

        Raises:
            KitError: no such subset, or the table holds a patient (or slice) that this split does not know.
        """
        if subset not in SUBSETS:
            raise KitError(f"unknown subset '{subset}'. Known are: {', '.join(SUBSETS)}")
        if not self.by_patient and len(table) != len(self.table):
            raise KitError(
                f"split '{self.name}' was made of {len(self.table)} slices, these are {len(table)}: make it of the same"
            )
        keys = ["patient"] if self.by_patient else ["case", "slice"]
        merged = table[keys].merge(self.table[[*keys, "subset"]], on=keys, how="left")
        if merged["subset"].isna().any():
            first = merged.loc[merged["subset"].isna(), keys[0]].iloc[0]
            raise KitError(f"split '{self.name}' does not know {keys[0]} {first}. Make the split from the same data")
        return np.flatnonzero((merged["subset"] == subset).to_numpy())

    def check(self) -> Split:
        """Raise KitError when a patient is in two subsets (unless this is the leak lesson's split) or a subset is empty."""
        if self.by_patient:
            shared = self.table.groupby("patient")["subset"].nunique()
            shared = shared[shared > 1].index.tolist()
            if shared:
                raise KitError(
                    f"split '{self.name}': patient(s) {', '.join(map(str, shared[:5]))} are in two subsets, so test slices would "
                    "show patients seen in training. Split by patient"
                )
        for subset in SUBSETS:
            if not (self.table["subset"] == subset).any():
                raise KitError(f"split '{self.name}': nobody is left for '{subset}'. Use more patients or another split")
        return self

    def save(self, path: str | Path) -> Path:
        """Write as CSV; the first line holds name, seed, fold and fingerprint."""
        with atomic_path(path) as partial:
            head = f"# split={self.name} seed={self.seed} fold={self.fold} fingerprint={self.fingerprint}\n"
            partial.write_text(head + self.table.to_csv(index=False), encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Read a split back. Raises DataError when the file is no split or was changed by hand, KitError on overlap."""
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            head = dict(part.split("=") for part in lines[0].removeprefix("# ").split())
            table = read_csv(path, comment="#")
            split = cls(head["split"], int(head["seed"]), int(head["fold"]), table)
            table[["patient", "subset"]]  # KeyError when a column is missing
            stored, found = head["fingerprint"], split.fingerprint
            split.check()
        except KitError as error:
            raise DataError(path, str(error).rstrip("."), "Make it again with make_split(...).save(path).") from error
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(
                path, f"is not a split ({str(error)[:80]})", "Make it again with make_split(...).save(path)."
            ) from error
        if stored != found:
            raise DataError(path, "was changed since it was written: its fingerprint does not fit", "Make the split again.")
        return split


def _chunks(members: list[int], sizes: list[int]) -> dict[int, str]:
    ends = np.cumsum(sizes)
    return {p: SUBSETS[int(np.searchsorted(ends, i, side="right"))] for i, p in enumerate(members)}


def make_split(table: pd.DataFrame, name: str, seed: int = 0, fold: int = 0) -> Split:
    """Assign the patients (or, for the leak lessons, the slices) of a table to train, val and test.

    Args:
        table: has patient; for "official" also subset ("training"/"validation"); for leaky splits case and slice.
        name: "official": SPIDER's validation patients are the test set, an eighth of its training patients validates.
            "seed70-5-25": the ratio of `medfusion` (section 5.2), by patient. "kfold5": fold ``fold`` of five tests, an eighth of
            the rest validates. "leaky-slices": 70/10/20 of all slices at random, patients on both sides. "leaky-seed70-5-25" and
            "leaky-kfold5": as those without "leaky-", but of slices instead of patients.
        seed: of the shuffling.
        fold: 0..4, for kfold5.

    Raises:
        KitError: unknown name, bad fold, too few patients, no official subset in the table.
    """
    if name not in SPLITS:
        raise KitError(f"unknown split '{name}'. Known are: {', '.join(SPLITS)}")
    random = np.random.default_rng(np.random.SeedSequence([seed, 20240611]))
    if name == "leaky-slices":
        subset = random.choice(SUBSETS, size=len(table), p=[0.7, 0.1, 0.2])
        return Split(name, seed, fold, table[["patient", "case", "slice"]].assign(subset=subset).reset_index(drop=True)).check()
    leaky = name.startswith(LEAKY)
    members = np.arange(len(table)) if leaky else np.array(sorted(table["patient"].unique()))
    shuffled = random.permutation(members).tolist()
    n = len(shuffled)
    if name == "official":
        held_out = set(table.loc[table["subset"] == "validation", "patient"])
        unknown = set(table.loc[~table["subset"].isin(["training", "validation"]), "patient"])
        if unknown or not held_out:
            raise KitError(
                "split 'official' needs SPIDER's subset for every patient: put overview.csv beside images/ or use 'kfold5'"
            )
        rest = [p for p in shuffled if p not in held_out]
        n_val = max(1, round(len(rest) / 8))
        subsets = dict.fromkeys(held_out, "test") | _chunks(rest, [len(rest) - n_val, n_val, 0])
    elif name.removeprefix(LEAKY) == "seed70-5-25":
        n_val, n_test = max(1, round(0.05 * n)), max(1, round(0.25 * n))
        subsets = _chunks(shuffled, [n - n_val - n_test, n_val, n_test])
    else:
        if not 0 <= fold < 5:
            raise KitError(f"kfold5 has the folds 0 to 4, not {fold}")
        test = set(shuffled[fold::5])
        rest = [p for p in shuffled if p not in test]
        n_val = max(1, round(len(rest) / 8))
        # Another eighth of the rest validates in each fold, so that no patient always trains.
        rest = rest[fold * n_val :] + rest[: fold * n_val]
        subsets = dict.fromkeys(test, "test") | _chunks(rest, [len(rest) - n_val, n_val, 0])
    who = table[["patient", "case", "slice"]].reset_index(drop=True) if leaky else pd.DataFrame({"patient": members})
    return Split(name, seed, fold, who.assign(subset=[subsets[member] for member in members])).check()
