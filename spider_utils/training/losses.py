"""Losses that compare logits with label masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class DiceLoss(nn.Module):
    """One minus the soft Dice, averaged over the classes that occur in the batch.

    For class c, with softmax probability p and one-hot truth t summed over all pixels of the whole batch:
    ``loss_c = 1 - 2 sum(p t) / (sum(p) + sum(t))``.

    The rule for absent classes: a class with no true pixel in the batch is left out of the mean. Its Dice would be 0 for any
    prediction, with no useful gradient, and counting it as 0 or 1 would make the loss depend on how many classes the batch
    happens to show. Background counts as a class, because otherwise pixels of background given to an absent class would cost
    nothing.

    Args:
        n_classes: number of output channels.

    Shape:
        logits float ``(batch, n_classes, ...)``, truth int64 ``(batch, ...)`` -> scalar float32.

    Raises:
        ValueError: the number of channels is not ``n_classes``.

    Reference:
        Milletari, Navab, Ahmadi. V-Net. 3DV 2016 (soft Dice, there with squared terms in the denominator).
        doi:10.1109/3DV.2016.79; without squares and over classes as in Isensee et al., nnU-Net, Nat Methods 2021.
    """

    def __init__(self, n_classes: int):
        super().__init__()
        self.n_classes = n_classes

    def forward(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return self.from_log_probability(*log_probability(logits, truth, self.n_classes), truth)

    def from_log_probability(self, of_all: torch.Tensor, of_truth: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """The loss from what ``log_probability`` returns."""
        # Summed image row by image row, then over the rows: one float32 sum over millions of voxels would lose the small ones.
        rows = truth.reshape(-1, truth.shape[-1])
        empty = torch.zeros(len(rows), self.n_classes, device=of_all.device)
        overlap = empty.scatter_add(1, rows, of_truth.exp().reshape(rows.shape)).sum(0)
        n_true = empty.scatter_add(1, rows, torch.ones_like(rows, dtype=empty.dtype)).sum(0)
        present = n_true > 0
        total = of_all.exp().sum([axis for axis in range(of_all.ndim) if axis != 1]) + n_true
        dice = 2 * overlap / torch.where(present, total, 1)  # an absent class may have no probability at all: 0 / 0
        return ((1 - dice) * present).sum() / present.sum()


class CrossEntropyLoss(nn.Module):
    """Cross-entropy, mean over all pixels of the batch; float logits ``(batch, classes, ...)``, int64 truth ``(batch, ...)``."""

    def forward(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), truth)  # float32 also where the network ran in half precision


class DiceCrossEntropyLoss(nn.Module):
    """Sum of ``DiceLoss`` and ``CrossEntropyLoss``: Dice weighs classes equally, cross-entropy gives smooth gradients."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.dice = DiceLoss(n_classes)

    def forward(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        of_all, of_truth = log_probability(logits, truth, self.dice.n_classes)  # once for both
        return self.dice.from_log_probability(of_all, of_truth, truth) - of_truth.mean()


def log_probability(logits: torch.Tensor, truth: torch.Tensor, n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithm of the softmax in float32: of every class ``(batch, classes, ...)``, and of the true one ``(batch, ...)``.

    Raises:
        ValueError: the number of channels is not ``n_classes``.
    """
    if logits.shape[1] != n_classes:
        raise ValueError(f"logits have {logits.shape[1]} channels, the loss was made for {n_classes} classes")
    of_all = logits.float().log_softmax(dim=1)
    return of_all, of_all.gather(1, truth.unsqueeze(1)).squeeze(1)


LOSSES = {
    "ce": lambda n_classes: CrossEntropyLoss(),
    "dice": DiceLoss,
    "dice_ce": DiceCrossEntropyLoss,
}


def make_loss(name: str, n_classes: int) -> nn.Module:
    """The loss called ``name``: "ce" (cross-entropy), "dice" (soft Dice) or "dice_ce" (their sum).

    Args:
        name: one of ``LOSSES``.
        n_classes: classes including background.

    Returns:
        A module: logits float ``(batch, n_classes, ...)`` and truth int64 ``(batch, ...)`` -> scalar float32.

    Raises:
        ValueError: unknown name.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss '{name}'. Known are: {', '.join(LOSSES)}")
    return LOSSES[name](n_classes)
