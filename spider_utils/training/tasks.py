"""What the fit loop is asked to learn: what a batch is, its loss, and the score by which the best epoch is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from spider_utils.errors import KitError
from spider_utils.evaluation.classification import balanced_accuracy, confusion_counts
from spider_utils.evaluation.metrics import ConfusionMatrix
from spider_utils.evaluation.weighted_log_loss import log_loss
from spider_utils.training.losses import Total, alone, make_loss

Parts = tuple[tuple[torch.Tensor, ...], torch.Tensor]


class Meter(Protocol):
    """Counts of one pass over a set."""

    def update(self, truth: torch.Tensor, outputs: Any) -> None:
        """Count a batch."""

    def merge(self, other: Any) -> None:
        """Add what another meter of its kind counted."""

    def score(self) -> float:
        """Higher is better. Raises KitError where it is not defined."""

    def columns(self) -> dict[str, float]:
        """What the history keeps of a validation, next to the score."""

    def text(self) -> str:
        """What a line of progress says."""


class Task(Protocol):
    """What ``training.loop.fit`` needs to know of what it trains.

    Attributes:
        score_name: column of the history that holds the score by which the best epoch is chosen.
        chooses_by_training: the score is that of the epoch's own training batches, not of validation.
        facts: JSON values that make it this task.
    """

    score_name: str
    chooses_by_training: bool

    @property
    def facts(self) -> dict[str, Any]:
        """For the card of a run."""

    def parts(self, batch: Any) -> Parts:
        """What the network is called with, images first, and the truth, its first axis the items. Checks the truth."""

    def loss(self, outputs: Any, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        """A scalar; with ``total`` where processes share a batch, see training.losses."""

    def meter(self) -> Meter:
        """One that has counted nothing."""


# ------------------------------------------------------------------------------------------------------------ segmentation


class SegmentationTask:
    """Masks of classes; the best epoch by mean IoU of the foreground, pooled over the validation set.

    Args:
        loss: one of training.losses.LOSSES.
        n_classes: including background.
    """

    score_name = "val_mean_iou"
    chooses_by_training = False
    facts: ClassVar[dict[str, Any]] = {}  # the loss stands in the config, the classes in the card

    def __init__(self, loss: str, n_classes: int):
        self.loss: nn.Module = make_loss(loss, n_classes)
        self.n_classes = n_classes

    def parts(self, batch: Sequence[torch.Tensor]) -> Parts:
        images, masks = batch
        lowest, highest = int(masks.min()), int(masks.max())
        if lowest < 0 or highest >= self.n_classes:
            raise KitError(
                f"a mask holds class {lowest if lowest < 0 else highest}, but the model has classes 0 to "
                f"{self.n_classes - 1}. Convert the masks to the model's label scheme first"
            )
        return (images,), masks

    def meter(self) -> _SegmentationMeter:
        return _SegmentationMeter(self.n_classes)


class _SegmentationMeter:
    """History: val_mean_iou (foreground classes that the truth holds), val_accuracy (share of right pixels), val_dice_<class>."""

    def __init__(self, n_classes: int):
        self.confusion = ConfusionMatrix(n_classes)

    def update(self, truth: torch.Tensor, outputs: torch.Tensor) -> None:
        self.confusion.update(truth.cpu().numpy(), outputs.argmax(dim=1).cpu().numpy())

    def merge(self, other: _SegmentationMeter) -> None:
        self.confusion.counts += other.confusion.counts

    def score(self) -> float:
        score = self.confusion.mean_iou()
        if math.isnan(score):
            raise KitError("the validation set holds no foreground class: mean IoU is undefined. Use other validation patients")
        return score

    def columns(self) -> dict[str, float]:
        dice = {f"val_dice_{index}": float(value) for index, value in enumerate(self.confusion.dice())}
        return {"val_accuracy": self.confusion.accuracy()} | dice

    def text(self) -> str:
        return f"mean IoU {self.confusion.mean_iou():.4f}  mean Dice {self.confusion.mean_dice():.4f}"


# ---------------------------------------------------------------------------------------------------------- classification


class ClassificationTask:
    """Several heads on one picture: cross-entropy of each, added up.

    The softmax and the categorical cross-entropy of `misan` (section 3.9.6), both heads with the same weight, as Keras adds
    the losses of several outputs.

    Args:
        heads: name -> number of classes, in the order of the truth's columns.
        class_weights: head -> weight of each class in the loss; a head's loss is then the weighted mean over the batch.
        chosen_by: the best epoch is the one with the lowest (weighted) loss of this head over the validation set; its score is
            exp(-loss), the geometric mean of the true classes' probabilities.
        training_accuracy: instead, the one with the highest accuracy of this head on its own training batches, as `misan`
            chooses (section 3.9.7). That says nothing about pictures that were not trained on.

    Raises:
        ValueError: a head is unknown, or its weights are not one a class.
    """

    def __init__(
        self,
        heads: Mapping[str, int],
        chosen_by: str,
        class_weights: Mapping[str, Sequence[float]] | None = None,
        training_accuracy: bool = False,
    ):
        self.heads, self.chosen_by, self.chooses_by_training = dict(heads), chosen_by, training_accuracy
        self.class_weights = {name: tuple(map(float, weights)) for name, weights in (class_weights or {}).items()}
        for name in (chosen_by, *self.class_weights):
            if name not in self.heads:
                raise ValueError(f"there is no head '{name}'. The heads are: {', '.join(self.heads)}")
        for name, weights in self.class_weights.items():
            if len(weights) != self.heads[name]:
                raise ValueError(f"head '{name}' has {self.heads[name]} classes, not {len(weights)}: one weight a class")
        self.score_name = f"train_{chosen_by}_accuracy" if training_accuracy else f"val_{chosen_by}_score"

    @property
    def facts(self) -> dict[str, Any]:
        """What makes it this task, for the card of a run."""
        return {
            "name": "classification",
            "heads": self.heads,
            "chosen_by": self.score_name,
            "class_weights": {name: list(weights) for name, weights in self.class_weights.items()},
        }

    def parts(self, batch: Sequence[Any]) -> Parts:
        """((images, metadata, ...), int64 truth (items, heads))."""
        inputs, truth = batch
        limits = torch.tensor(list(self.heads.values()))
        if truth.ndim != 2 or truth.shape[1] != len(limits) or bool(((truth < 0) | (truth >= limits)).any()):
            columns = ", ".join(f"{name} (0 to {n - 1})" for name, n in self.heads.items())
            raise KitError(
                f"the truth must have a column for each of {columns}; "
                f"given: {tuple(truth.shape)} with {int(truth.min())} to {int(truth.max())}. Check the labels of the samples"
            )
        return tuple(inputs), truth

    def loss(self, outputs: Mapping[str, torch.Tensor], truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        parts = []
        for column, name in enumerate(self.heads):
            logits, weights = outputs[name].float(), self.class_weights.get(name)
            weight = None if weights is None else torch.tensor(weights, device=logits.device)
            part = functional.cross_entropy(logits, truth[:, column], weight)
            if weight is not None:  # divided by the sum of weights of this process's items: make it that of an equal share
                own = weight[truth[:, column]].sum()
                of_all, processes = total(torch.stack([own, torch.ones_like(own)]))
                part = part * (own * processes / of_all)
            parts.append(part)
        return torch.stack(parts).sum()

    def meter(self) -> _ClassificationMeter:
        return _ClassificationMeter(self)


class _ClassificationMeter:
    """History: for each head val_<head>_accuracy, val_<head>_balanced_accuracy, and val_<head>_loss (weighted as in training)."""

    def __init__(self, task: ClassificationTask):
        self.task = task
        self.truth: list[np.ndarray] = []
        self.probabilities: dict[str, list[np.ndarray]] = {name: [] for name in task.heads}

    def update(self, truth: torch.Tensor, outputs: Mapping[str, torch.Tensor]) -> None:
        self.truth.append(truth.cpu().numpy())
        for name, logits in outputs.items():
            self.probabilities[name].append(logits.detach().float().softmax(dim=1).cpu().numpy())

    def merge(self, other: _ClassificationMeter) -> None:
        self.truth += other.truth
        for name, probabilities in other.probabilities.items():
            self.probabilities[name] += probabilities

    def _of(self, head: str) -> tuple[np.ndarray, np.ndarray]:
        truth = np.concatenate(self.truth)[:, list(self.task.heads).index(head)]
        return truth, np.concatenate(self.probabilities[head])

    def _scores(self, head: str) -> dict[str, float]:
        truth, probabilities = self._of(head)
        counts = confusion_counts(truth, probabilities.argmax(axis=1), self.task.heads[head])
        weights = np.asarray(self.task.class_weights.get(head, (1.0,) * self.task.heads[head]))
        return {
            "accuracy": float(np.trace(counts) / counts.sum()),
            "balanced_accuracy": balanced_accuracy(counts),
            "loss": log_loss(truth, probabilities, weights[truth]),
        }

    def score(self) -> float:
        scores = self._scores(self.task.chosen_by)
        # The plateau schedule asks for a score that rises by a share of itself: it must be positive.
        return scores["accuracy"] if self.task.chooses_by_training else math.exp(-scores["loss"])

    def columns(self) -> dict[str, float]:
        return {f"val_{head}_{name}": value for head in self.task.heads for name, value in self._scores(head).items()}

    def text(self) -> str:
        said = [f"{head} {self._scores(head)['balanced_accuracy']:.3f}" for head in self.task.heads]
        return f"balanced accuracy: {', '.join(said)}"
