"""The face that every 2D segmentation network of the kit shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


class SegmentationNetwork(nn.Module):
    """A 2D network that turns images into class scores (logits) of the same size.

    Args:
        body: the network proper, ``(batch, in_channels, height, width)`` -> ``(batch, n_classes, height, width)``.
        in_channels: channels that ``body`` expects.
        stride: how much the deepest features are smaller than the input; height and width must be divisible by it,
            else the ways down and up do not meet at the same size.
        initial_weights: "random" or "imagenet": what the encoder starts from.

    Attributes:
        spec: what ``build_model`` needs to build the network again (see there).
    """

    spec: dict[str, Any]

    def __init__(self, body: nn.Module, in_channels: int, stride: int, initial_weights: str = "random"):
        super().__init__()
        self.body = body
        self.in_channels = in_channels
        self.stride = stride
        self.initial_weights = initial_weights

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, n_classes, height, width)`` of float images ``(batch, in_channels, height, width)``.

        Gray images ``(batch, 1, height, width)`` go to every channel of a network that has several, as a gray picture turned
        into RGB does (`medfusion`, section 4.2).

        Raises:
            ValueError: wrong number of dimensions or channels, or a height or width that the stride does not divide;
                the message says what to pad to.
        """
        self._check(images)
        return self.body(images.expand(-1, self.in_channels, -1, -1))

    def _check(self, images: torch.Tensor) -> None:
        if images.ndim != 4 or images.shape[1] not in (1, self.in_channels):
            raise ValueError(f"images must have shape (batch, {self.in_channels}, height, width), not {tuple(images.shape)}")
        wrong = [
            f"{side} must be divisible by {self.stride}; pad to {-(-size // self.stride) * self.stride} (it is {size})"
            for side, size in zip(("height", "width"), images.shape[2:], strict=True)
            if size % self.stride or not size
        ]
        if wrong:
            raise ValueError(", ".join(wrong))


def whole_numbers(option: str, values: Sequence[int], fewest: int, most: int) -> tuple[int, ...]:
    """The value of an option as a tuple; ValueError when it is not ``fewest`` to ``most`` positive whole numbers."""
    plain = isinstance(values, Sequence) and all(isinstance(value, int) and value > 0 for value in values)
    if not plain or not fewest <= len(values) <= most:
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        raise ValueError(f"{option} must be {number} positive whole numbers, not {values!r}")
    return tuple(values)


def top_class(scores: np.ndarray) -> np.ndarray:
    """argmax over classes of (slices, classes, rows, columns), the lower class on a tie: int64 (slices, rows, columns)."""
    return torch.from_numpy(scores).max(dim=1).indices.numpy()  # the same as argmax, in a sixth of the time
