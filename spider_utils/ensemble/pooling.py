"""Two networks of different label schemes asked together: one that names levels, and one that draws classes more sharply."""

from __future__ import annotations

import numpy as np

from spider_utils.evaluation.metrics import ConfusionMatrix
from spider_utils.labels import convert, get_scheme

_SMALLEST = 1e-6  # a probability of 0 would be a veto


def classes_in(scheme: str, coarse: str) -> np.ndarray:
    """The class of ``coarse`` that each class of ``scheme`` belongs to: int (classes of ``scheme``,).

    Raises:
        ValueError: the schemes do not convert into one another, or the values of one are no classes of a network, 0, 1, 2, ...
    """
    for name in (scheme, coarse):
        if tuple(get_scheme(name).values) != tuple(range(get_scheme(name).n_classes)):
            raise ValueError(f"values of {name} are no classes of a network")
    return convert(np.arange(get_scheme(scheme).n_classes), scheme, coarse).astype(np.intp)


class NetworkAgreement:
    """How far two networks agree on an image: Dice of what the one draws with what the other draws, class by class.

    Where two networks agree less, a mask is worth less. How well this holds is measured (docs/results/trust.md); networks that
    have training pictures in common may share mistakes, so agreement is no proof.

    Args:
        scheme: label scheme of the classes, whose values are 0, 1, 2, ...

    Raises:
        ValueError: there is no such scheme.
    """

    def __init__(self, scheme: str):
        self._scheme = get_scheme(scheme)
        self._counts = ConfusionMatrix(self._scheme.n_classes)

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count what two networks draw of the same pixels.

        Args:
            first, second: integers from 0 to n_classes - 1, of any shape, both of the same.

        Raises:
            ValueError: shapes differ, or a value is no class.
        """
        self._counts.update(first, second)

    def by_class(self) -> dict[str, float]:
        """Dice of each class but background, by its name; NaN where neither draws it."""
        dice = self._counts.dice()
        return {self._scheme.names[value]: float(dice[value]) for value in self._scheme.foreground}

    def mean(self) -> float:
        """Mean over the classes that at least one of the two draws; NaN where there is none."""
        known = [dice for dice in self.by_class().values() if not np.isnan(dice)]
        return float(np.mean(known)) if known else float("nan")


def pool_classes(fine: np.ndarray, coarse: np.ndarray, class_of: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """The logarithmic opinion pool of two networks on classes; levels share their class as the first one has it.

    Pooled, a class has the weighted geometric mean of both networks' probabilities, scaled to sum to 1 (Genest and Zidek,
    Combining probability distributions, Statistical Science 1986, section 3): where one is sure, the other's doubts count little.

    Args:
        fine: float32 (n, classes, rows, columns), of the network that names levels; sums to 1 over classes. Changed in place.
        coarse: the same of the other network, in its fewer classes.
        class_of: for each class of ``fine`` that of ``coarse`` it belongs to (see classes_in).
        weight: of the other network, from 0 to 1.

    Returns:
        ``fine``, pooled, summing to 1 over classes.
    """
    shared = np.bincount(class_of)  # levels of each class
    for levels, classes in zip(fine, coarse, strict=True):  # a slice at a time: few are held beside those given
        levels += (_SMALLEST / shared[class_of])[:, None, None].astype(np.float32)
        sums = np.stack([levels[class_of == one].sum(axis=0) for one in range(len(classes))])
        pooled = np.exp((1 - weight) * np.log(sums) + weight * np.log(np.maximum(classes, _SMALLEST)))
        pooled /= pooled.sum(axis=0) * sums  # now what each level's probability is multiplied with
        for level, found in enumerate(class_of):
            levels[level] *= pooled[found]
    return fine
