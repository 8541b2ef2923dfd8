"""Losses that compare logits with label masks.

Several processes can share a batch, each with as many items as the others (see training.distributed). Every loss then takes
``total``, which adds up a tensor over the processes, and the mean of the processes' losses is the loss of the whole batch, in
value and gradient. A mean over items or pixels is such a loss as it stands; a ratio of sums over the batch must add up the sums
first, or it would be a mean of ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

Total = Callable[[torch.Tensor], torch.Tensor]


def alone(sums: torch.Tensor) -> torch.Tensor:
    """The ``total`` of a process that has the whole batch: what it was given."""
    return sums


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

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        return self.from_log_probability(*log_probability(logits, truth, self.n_classes), truth, total)

    def from_log_probability(
        self, of_all: torch.Tensor, of_truth: torch.Tensor, truth: torch.Tensor, total: Total
    ) -> torch.Tensor:
        """The loss from what ``log_probability`` returns."""
        # Summed image row by image row, then over the rows: one float32 sum over millions of voxels would lose the small ones.
        rows = truth.reshape(-1, truth.shape[-1])
        empty = torch.zeros(len(rows), self.n_classes, device=of_all.device)
        overlap = empty.scatter_add(1, rows, of_truth.exp().reshape(rows.shape)).sum(0)
        n_true = empty.scatter_add(1, rows, torch.ones_like(rows, dtype=empty.dtype)).sum(0)
        probability = of_all.exp().sum([axis for axis in range(of_all.ndim) if axis != 1])
        overlap, n_true, probability = total(torch.stack([overlap, n_true, probability]))
        present = n_true > 0
        dice = (
            2 * overlap / torch.where(present, probability + n_true, 1)
        )  # an absent class may have no probability at all: 0 / 0
        return ((1 - dice) * present).sum() / present.sum()


class CrossEntropyLoss(nn.Module):
    """Cross-entropy, mean over all pixels of the batch; float logits ``(batch, classes, ...)``, int64 truth ``(batch, ...)``."""

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        return F.cross_entropy(logits.float(), truth)  # float32 also where the network ran in half precision


class DiceCrossEntropyLoss(nn.Module):
    """Sum of ``DiceLoss`` and ``CrossEntropyLoss``: Dice weighs classes equally, cross-entropy gives smooth gradients."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.dice = DiceLoss(n_classes)

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        of_all, of_truth = log_probability(logits, truth, self.dice.n_classes)  # once for both
        return self.dice.from_log_probability(of_all, of_truth, truth, total) - of_truth.mean()


class FocalLoss(nn.Module):
    """Cross-entropy in which a pixel counts the less the surer the network is of its true class.

    The mean over all pixels of the batch of ``-(1 - p) ** gamma * log(p)``, p the softmax probability of the true class. With
    gamma 0 it is cross-entropy. A class without a true pixel in the batch has no term of its own.

    Args:
        gamma: focus on uncertain pixels, 0 or more.

    Shape:
        logits float ``(batch, n_classes, ...)``, truth int64 ``(batch, ...)`` -> scalar float32.

    Raises:
        ValueError: gamma is negative.

    Reference:
        Lin, Goyal, Girshick, He, Dollar. Focal loss for dense object detection. ICCV 2017. arXiv:1708.02002, section 3.2. As in
        `ahmed`, section 4, but without its weights of classes, for which no numbers are given.
    """

    def __init__(self, gamma: float):
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"gamma must be 0 or more, not {gamma}")
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        return self.from_log_probability(log_probability(logits, truth, logits.shape[1])[1])

    def from_log_probability(self, of_truth: torch.Tensor) -> torch.Tensor:
        """The loss from the logarithm of the true class's probability."""
        # A power below 1 has no finite slope at 0, where a pixel is certain: kept a rounding error away from it.
        uncertainty = (-torch.expm1(of_truth)).clamp(min=torch.finfo(of_truth.dtype).eps)
        return -(uncertainty**self.gamma * of_truth).mean()


class FocalDiceLoss(nn.Module):
    """``alpha`` times ``FocalLoss`` plus ``1 - alpha`` times ``DiceLoss``, the loss of `ahmed`.

    The paper sets alpha 0.6 and names two values of gamma: 4.0 where it explains the focal term, 0.4 in the paragraph after it.
    Its formula of the Dice term does not say over what it sums; here as ``DiceLoss``: by class, and absent classes left out.

    Args:
        n_classes: number of output channels.
        alpha: share of the focal term, 0 to 1.
        gamma: see ``FocalLoss``.

    Shape:
        logits float ``(batch, n_classes, ...)``, truth int64 ``(batch, ...)`` -> scalar float32.

    Raises:
        ValueError: alpha lies outside 0 to 1, gamma is negative, or the number of channels is not ``n_classes``.

    Reference:
        Ahmed et al. 2024. arXiv:2409.06018, section 4.
    """

    def __init__(self, n_classes: int, alpha: float = 0.6, gamma: float = 4.0):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
        self.alpha, self.focal, self.dice = alpha, FocalLoss(gamma), DiceLoss(n_classes)

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        of_all, of_truth = log_probability(logits, truth, self.dice.n_classes)  # once for both
        focal = self.focal.from_log_probability(of_truth)
        dice = self.dice.from_log_probability(of_all, of_truth, truth, total)
        return self.alpha * focal + (1 - self.alpha) * dice


class MonaiDiceCrossEntropyLoss(nn.Module):
    """MONAI's ``DiceCELoss`` on one-hot truth and softmax, as in `unetr` (Training).

    Where every class has a true voxel and a batch holds one item it is the same as ``DiceCrossEntropyLoss``. The difference is in
    the Dice term: here each item has its own, and a class that the truth of an item does not hold counts as a loss of nearly 1,
    whatever the network says; with 20 classes and a spine that shows half of them, half of the term is a constant.

    Args:
        n_classes: number of output channels.

    Shape:
        logits float ``(batch, n_classes, ...)``, truth int64 ``(batch, ...)`` -> scalar float32.

    Raises:
        ValueError: the number of channels is not ``n_classes``.
    """

    def __init__(self, n_classes: int):
        super().__init__()
        from monai.losses.dice import DiceCELoss  # takes seconds

        self.n_classes, self.loss = n_classes, DiceCELoss(to_onehot_y=True, softmax=True)

    def forward(self, logits: torch.Tensor, truth: torch.Tensor, total: Total = alone) -> torch.Tensor:
        if logits.shape[1] != self.n_classes:
            raise ValueError(f"logits have {logits.shape[1]} channels, the loss was made for {self.n_classes} classes")
        return self.loss(logits.float(), truth.unsqueeze(1))


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
    "monai_dice_ce": MonaiDiceCrossEntropyLoss,
    "focal4_dice": partial(FocalDiceLoss, gamma=4.0),
    "focal0.4_dice": partial(FocalDiceLoss, gamma=0.4),
}


def make_loss(name: str, n_classes: int) -> nn.Module:
    """The loss called ``name``.

    "ce" is cross-entropy, "dice" soft Dice, "dice_ce" their sum; "monai_dice_ce" is MONAI's, of `unetr`;
    "focal4_dice" and "focal0.4_dice" are the loss of `ahmed` with the two values of gamma that it names.

    Args:
        name: one of ``LOSSES``.
        n_classes: classes including background.

    Returns:
        A module: logits float ``(batch, n_classes, ...)``, truth int64 ``(batch, ...)`` and, where processes share a batch,
        ``total`` (see above) -> scalar float32.

    Raises:
        ValueError: unknown name.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss '{name}'. Known are: {', '.join(LOSSES)}")
    return LOSSES[name](n_classes)
