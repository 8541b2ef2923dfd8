"""Two networks of different label schemes asked together: one that names levels, and one that draws classes more sharply."""

from __future__ import annotations

import numpy as np

from spider_utils.labels import convert, get_scheme

_SMALLEST = 1e-6  # a probability of 0 would be a veto


def classes_in(scheme: str, coarse: str) -> np.ndarray:
    """The class of ``coarse`` that each class of ``scheme`` belongs to: int (classes of ``scheme``,).

    Raises:
        ValueError: the schemes do not convert into one another.
    """
    return convert(np.arange(get_scheme(scheme).n_classes), scheme, coarse).astype(np.intp)


def pool_classes(fine: np.ndarray, coarse: np.ndarray, class_of: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """The logarithmic opinion pool of two networks on classes; levels share their class as the first one has it.

    Pooled, a class has the weighted geometric mean of both networks' probabilities, scaled to sum to 1 (Genest and Zidek,
    Combining probability distributions, Statistical Science 1986, section 3): where one is sure, the other's doubts count little.

    Args:
        fine: float32 (n, classes, rows, columns), of the network that names levels; sums to 1 over classes.
        coarse: the same of the other network, in its fewer classes.
        class_of: for each class of ``fine`` that of ``coarse`` it belongs to (see classes_in).
        weight: of the other network, from 0 to 1.

    Returns:
        float32, shape of ``fine``, summing to 1 over classes.
    """
    sums = np.full_like(coarse, _SMALLEST)
    for level, found in enumerate(class_of):
        sums[:, found] += fine[:, level]
    pooled = np.exp((1 - weight) * np.log(sums) + weight * np.log(np.maximum(coarse, _SMALLEST)))
    pooled /= pooled.sum(axis=1, keepdims=True) * sums  # now what each level's probability is multiplied with
    out = np.empty_like(fine)
    for level, found in enumerate(class_of):
        np.multiply(fine[:, level] + _SMALLEST / (class_of == found).sum(), pooled[:, found], out=out[:, level])
    return out
