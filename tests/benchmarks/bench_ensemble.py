"""Exact ensemble weights against evaluating a grid of weights on the same arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from spider_utils.ensemble import best_pair_weight, best_weights
from spider_utils.ensemble.lines import Counts
from spider_utils.models.network import top_class
from tests.benchmarks.timing import Row, compare

CLASSES = 20


def made_up_maps(n_models: int, slices: int, rows: int, columns: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Class probabilities, and a truth of bands and background.

    Two models put different classes on top in 4 % of the pixels; pairs of the kit's trained networks do so in 1 to 7 %.
    """
    random = np.random.default_rng(0)
    truth = np.zeros((slices, rows, columns), np.uint8)
    middle = slice(columns // 3, columns // 2)
    truth[:, :, middle] = (np.arange(rows) * CLASSES // rows)[None, :, None]
    logits = 5 * np.eye(CLASSES, dtype=np.float32)[truth].transpose(0, 3, 1, 2)
    models = []
    for _ in range(n_models):
        noisy = logits + random.normal(0, 1.2, logits.shape).astype(np.float32)
        exponentials = np.exp(noisy - noisy.max(axis=1, keepdims=True))
        models.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return models, truth


def grid_score(models: list[np.ndarray], weights: tuple[float, ...], truth: np.ndarray) -> float:
    """Mean foreground Dice of one point of a grid."""
    labels = top_class(sum(np.float32(weight) * model for weight, model in zip(weights, models, strict=True)))
    pairs = np.bincount((truth * np.int64(CLASSES) + labels).reshape(-1), minlength=CLASSES**2).reshape(1, CLASSES, CLASSES)
    counts = Counts(np.diagonal(pairs, axis1=1, axis2=2), pairs.sum(axis=1), pairs.sum(axis=2))
    return counts.score("dice", np.arange(1, CLASSES))


def run() -> Iterator[Row]:
    """The pair search at 655,360 pixels, and the search for four models at 40,960."""
    (a, b), truth = made_up_maps(2, 32, 160, 128)
    yield compare(
        "best weight of a pair, 655,360 pixels",
        lambda: best_pair_weight(a, b, truth),
        lambda: max(grid_score([a, b], (w, 1 - w), truth) for w in np.linspace(0, 1, 21)),
        "21 weights, one by one",
        rounds=3,
    )
    models, truth = made_up_maps(4, 2, 160, 128)
    grid = [tuple(share / 20 for share in shares) for shares in product(range(21), repeat=4) if sum(shares) == 20]
    yield compare(
        "best weights of four models, 40,960 pixels",
        lambda: best_weights(models, truth),
        lambda: max(grid_score(models, weights, truth) for weights in grid),
        "1,771 weights, one by one",
        rounds=1,
    )
