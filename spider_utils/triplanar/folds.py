"""Who does what in the cross-validation of `triplanar`.

Each fold parts the patients into four: those that train the three 2D networks, those whose predictions train the fusion, those on
which weights of both are chosen, and those that test. The source splits a validation set in two for the fusion and does not say
whether the patients of its tables were in it; here nobody who is scored chose anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spider_utils.errors import KitError
from spider_utils.files import fingerprint

N_FOLDS = 4


@dataclass(frozen=True)
class Fold:
    """Who does what in one fold; nobody does two things.

    Attributes:
        number: from 0.
        train: patients that train the 2D networks.
        learn: patients whose predictions train the fusion.
        check: patients on whom the best weights of networks and fusion are chosen; nobody where the set is too small.
        test: patients that are scored.

    Raises:
        KitError: a patient has two parts, or nobody trains or is tested.
    """

    number: int
    train: tuple[int, ...]
    learn: tuple[int, ...]
    check: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        parts = (self.train, self.learn, self.check, self.test)
        if not self.train or not self.test:
            raise KitError("a fold needs patients to train and patients to test: use more patients or fewer folds")
        everybody = [patient for part in parts for patient in part]
        if len(set(everybody)) != len(everybody):
            raise KitError(f"fold {self.number}: a patient is in two of its parts, so that scores would flatter")

    @property
    def facts(self) -> dict[str, Any]:
        """For the card of a run: name, number and fingerprint."""
        parts = [self.train, self.learn, self.check, self.test]
        return {"name": f"triplanar{N_FOLDS}", "seed": 0, "fold": self.number, "fingerprint": fingerprint(parts)}


def make_folds(patients: Sequence[int], n_folds: int = N_FOLDS, seed: int = 0) -> list[Fold]:
    """Folds by patient: each tests once; of the others two thirds train, and the rest parts into learn and check.

    Sixteen patients in four folds: 8 train, 2 learn, 2 check, 4 test. The patients stand in a circle; after those that a fold
    tests come those that train, then learn, then check. So each fold's fusion learns from other patients: in this case every
    patient serves once, to learn or to check.

    Raises:
        KitError: too few patients.
    """
    order = np.random.default_rng(seed).permutation(sorted(patients)).tolist()
    if len(order) < n_folds or len(order) - -(-len(order) // n_folds) < 3:
        raise KitError(
            f"{n_folds} folds with patients to train, to fuse, to check and to test need more than {len(order)} patients"
        )
    folds, begin = [], 0
    for number, test in enumerate(np.array_split(order, n_folds)):
        others = order[begin + len(test) :] + order[:begin]
        begin += len(test)
        n_train = len(others) - max(2, round(len(others) / 3))
        held = others[n_train:]
        parts = (others[:n_train], held[: (len(held) + 1) // 2], held[(len(held) + 1) // 2 :], test.tolist())
        folds.append(Fold(number, *(tuple(sorted(part)) for part in parts)))
    return folds
