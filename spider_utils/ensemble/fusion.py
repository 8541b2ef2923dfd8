"""From several models' class probabilities to one label map, once the weights are known; and two other ways of combining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from spider_utils.ensemble.pixels import check_maps, chunks
from spider_utils.models.network import top_class

_PENALTY = 1e-5  # keeps the weights finite where the drawn pixels can be told apart without error
_SMALLEST = 1e-4  # probability below which a stacking model makes no difference: float16 holds little below


def label_map(probabilities: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray, votes: bool = False) -> np.ndarray:
    """The class on top of a weighted average.

    Args:
        probabilities: of each model, (slices, classes, rows, columns) float, summing to 1; may be memory-mapped.
        weights: (models,), or (models, classes) for weights of each class; not negative.
        votes: average each model's top class, as 1, instead of its probabilities.

    Returns:
        uint8 (slices, rows, columns); the lower class where two tie.

    Raises:
        ValueError: shapes that do not fit, or probabilities or weights that are none.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if len(weights) != len(probabilities):
        raise ValueError(f"{len(weights)} weights for {len(probabilities)} models")
    if not (weights >= 0).all() or not np.isfinite(weights).all() or not weights.any():
        raise ValueError(f"weights must be finite, not negative, and not all 0: {weights.tolist()}")
    shape = probabilities[0].shape
    labels = np.zeros((shape[0], *shape[2:]), np.uint8)
    check_maps(probabilities, labels, None)
    columns = weights.reshape(len(weights), -1, 1, 1)
    classes = np.arange(shape[1])[:, None, None]
    for part, blocks in chunks(probabilities):
        if votes:
            blocks = [top_class(block)[:, None] == classes for block in blocks]
        labels[part] = top_class(sum(block * column for block, column in zip(blocks, columns, strict=True)))
    return labels


def as_published(score_a: float, score_b: float, step: float = 0.05) -> pd.DataFrame:
    """The "weighted ensemble" of `medfusion` (section 3.4): an average of two models' *scores*, not of their predictions.

    No ensemble is evaluated. The result is a straight line between the two scores, so the best weight is always 0 or 1.

    Args:
        score_a, score_b: Dice or IoU of the two models.
        step: of the weights; 1 must be a multiple of it.

    Returns:
        One row a weight, from 1 to 0: weight (share of model a), score.

    Raises:
        ValueError: a step that does not divide 1.
    """
    if not 0 < step <= 1 or abs(1 / step - round(1 / step)) > 1e-9:
        raise ValueError(f"step must divide 1, as 0.05 does, not {step}")
    weight = np.linspace(1, 0, round(1 / step) + 1)
    return pd.DataFrame({"weight": weight, "score": weight * score_a + (1 - weight) * score_b})


@dataclass(frozen=True)
class Stacking:
    """A linear model on the log-probabilities of all models, fitted to validation pixels (stacked generalisation, Wolpert 1992).

    Attributes:
        weight: float32 (classes, models * classes).
        bias: float32 (classes,).
    """

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, probabilities: Sequence[np.ndarray], truth: np.ndarray, max_pixels: int = 200_000, seed: int = 0) -> Stacking:
        """Fit by the cross-entropy of drawn pixels, held near the equal average by a small squared penalty on the distance to it.

        Args:
            probabilities, truth: as for best_weights; of validation patients.
            max_pixels: as many pixels are drawn at random, or all when there are fewer.
            seed: of the draw.

        Raises:
            ValueError: as best_weights.
        """
        check_maps(probabilities, truth, None)
        n_models, n_classes = len(probabilities), probabilities[0].shape[1]
        chosen = np.zeros(truth.size, bool)
        chosen[np.random.default_rng(seed).choice(truth.size, min(max_pixels, truth.size), replace=False)] = True
        chosen = chosen.reshape(truth.shape)
        features, targets = [], []
        for part, blocks in chunks(probabilities):
            drawn = chosen[part]
            features.append(_features([np.moveaxis(block, 1, -1)[drawn] for block in blocks]))
            targets.append(torch.from_numpy(truth[part][drawn].astype(np.int64)))
        inputs, target = torch.cat(features), torch.cat(targets)
        average = torch.eye(n_classes).repeat(1, n_models) / n_models
        weight, bias = average.clone().requires_grad_(), torch.zeros(n_classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, target)
            loss = loss + _PENALTY * ((weight - average).square().sum() + bias.square().sum())
            loss.backward()
            return loss

        optimizer.step(closure)
        return cls(weight.detach().numpy(), bias.detach().numpy())

    def label_map(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (slices, rows, columns), as the function of this name."""
        shape = probabilities[0].shape
        labels = np.zeros((shape[0], *shape[2:]), np.uint8)
        check_maps(probabilities, labels, None)
        if self.weight.shape != (shape[1], len(probabilities) * shape[1]):
            raise ValueError(
                f"fitted for other models: {self.weight.shape} for {len(probabilities)} models of {shape[1]} classes"
            )
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        for part, blocks in chunks(probabilities):
            inputs = _features([np.moveaxis(block, 1, -1) for block in blocks])
            labels[part] = (inputs @ weight.T + bias).max(dim=-1).indices.numpy()
        return labels


def _features(blocks: list[np.ndarray]) -> torch.Tensor:
    """Log-probabilities of all models side by side along the last axis."""
    return torch.from_numpy(np.log(np.maximum(np.concatenate(blocks, axis=-1), _SMALLEST)))
