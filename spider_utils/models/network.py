"""The faces that the kit's networks show: any that is trained, and those that segment slices or volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    """What training and the files of a model ask of any network.

    Attributes:
        channels_last: the memory format with channels last for its images.
        initial_weights: "random" or "imagenet": what it, or its encoder, starts from.
        spec: what builds the network again (see ``models.build_from_card``).
    """

    channels_last: ClassVar[torch.memory_format] = torch.channels_last
    initial_weights: str
    spec: dict[str, Any]

    @property
    def transformer(self) -> nn.Module | None:
        """Its transformer, which a training may give a learning rate of its own; None where there is none."""
        return None


class SegmentationNetwork(Network):
    """A network that turns images into class scores (logits) of the same size; of slices, unless a subclass says otherwise.

    Args:
        body: the network proper, ``(batch, in_channels, height, width)`` -> ``(batch, n_classes, height, width)``.
        in_channels: channels that ``body`` expects.
        stride: how much the deepest features are smaller than the input; every side must be divisible by it,
            else the ways down and up do not meet at the same size.
        initial_weights: "random" or "imagenet": what the encoder starts from.

    Attributes:
        axes: names of the sides of an image.
        image_size: the only size of an image that it takes; None for any that ``stride`` divides.
    """

    axes: ClassVar[tuple[str, ...]] = ("height", "width")
    image_size: tuple[int, ...] | None = None

    def __init__(self, body: nn.Module, in_channels: int, stride: int, initial_weights: str = "random"):
        super().__init__()
        self.body = body
        self.in_channels = in_channels
        self.stride = stride
        self.initial_weights = initial_weights

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(batch, n_classes, height, width)`` of float images ``(batch, in_channels, height, width)``.

        Gray images ``(batch, 1, height, width)`` go to every channel of a network that has several, as a gray picture turned
        into RGB does (`medfusion`, section 4.2). For a network of volumes read ``slices, rows, columns`` for height and width.

        Raises:
            ValueError: wrong number of dimensions or channels, or a side that the stride does not divide or that is not the
                one of ``image_size``; the message says what to pad or resample to.
        """
        self._check(images)
        return self.body(images.expand(-1, self.in_channels, *(-1 for _ in self.axes)))

    def _check(self, images: torch.Tensor) -> None:
        if images.ndim != 2 + len(self.axes) or images.shape[1] not in (1, self.in_channels):
            shape = ", ".join(("batch", str(self.in_channels), *self.axes))
            raise ValueError(f"images must have shape ({shape}), not {tuple(images.shape)}")
        sides = dict(zip(self.axes, images.shape[2:], strict=True))
        if self.image_size is None:
            wrong = [
                f"{side} must be divisible by {self.stride}; pad to {-(-size // self.stride) * self.stride} (it is {size})"
                for side, size in sides.items()
                if size % self.stride or not size
            ]
        else:
            wrong = [
                f"{side} must be {wanted}; resample to it, or build the network for another image_size (it is {size})"
                for (side, size), wanted in zip(sides.items(), self.image_size, strict=True)
                if size != wanted
            ]
        if wrong:
            raise ValueError(", ".join(wrong))


class VolumeNetwork(SegmentationNetwork):
    """A network of volumes: ``(batch, in_channels, slices, rows, columns)`` -> ``(batch, n_classes, slices, rows, columns)``."""

    axes = ("slices", "rows", "columns")
    channels_last = torch.channels_last_3d


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
