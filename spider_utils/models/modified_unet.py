"""The modified U-Net of `ahmed`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spider_utils.models.network import SegmentationNetwork, whole_numbers

LEAK = 0.1  # slope of the leaky ReLU below zero (section 4)


class ModifiedUNet(SegmentationNetwork):
    """The U-Net of `ahmed`: one block more at the bottom, dropout in every block, and one normalised up step.

    Going down, blocks of 16, 32, 64, 128 and 256 channels with max pooling between them, then the "additional 512-channel
    layer" (section 4): a block of 512 at the size of the one of 256, without pooling in between, so the deepest features are a
    sixteenth of the image. Going up, the first step is the paper's "upsample block", a 3x3 transposed convolution of stride 2
    with batch norm and leaky ReLU; the others are plain 2x2 transposed convolutions of stride 2. After each step come the
    features of that size from the way down and a block as wide as the step. All weights start as Glorot and Bengio's uniform
    numbers, all biases at 0.

    The paper leaves open the activation inside blocks (here ReLU, after each convolution), and how wide the blocks going up
    are (here as their steps). Dropout sits between the two convolutions of a block, after the norm.

    Args:
        in_channels: channels of the input image.
        n_classes: output channels, background included.
        widths: channels of the blocks going down; the last two are at one size. The steps and blocks going up have the widths
            of the blocks going down but the first and the last.
        dropout_down: dropout rate of each block going down.
        dropout_up: dropout rate of each block going up.

    Shape:
        float ``(batch, in_channels, height, width)`` -> logits ``(batch, n_classes, height, width)``; height and width
        divisible by ``stride``.

    Raises:
        ValueError: widths are not 3 to 8 positive whole numbers, or there is not one rate from 0 to below 1 a block.

    Reference:
        Ahmed et al. Pioneering precision in lumbar spine MRI segmentation with advanced deep learning and data enhancement.
        2024. arXiv:2409.06018, section 4 and figure 7; the initial weights: Glorot, Bengio. Understanding the difficulty of
        training deep feedforward neural networks. AISTATS 2010.
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        widths: Sequence[int] = (16, 32, 64, 128, 256, 512),
        dropout_down: Sequence[float] = (0.1, 0.1, 0.2, 0.2, 0.3, 0.3),
        dropout_up: Sequence[float] = (0.2, 0.2, 0.1, 0.1),
    ):
        widths = whole_numbers("widths", widths, 3, 8)
        down, up = _rates("dropout_down", dropout_down, len(widths)), _rates("dropout_up", dropout_up, len(widths) - 2)
        super().__init__(_Body(in_channels, n_classes, widths, down, up), in_channels, stride=2 ** (len(widths) - 2))


def _rates(option: str, values: Sequence[float], number: int) -> tuple[float, ...]:
    plain = isinstance(values, Sequence) and all(isinstance(value, int | float) and 0 <= value < 1 for value in values)
    if not plain or len(values) != number:
        raise ValueError(
            f"{option} must be {number} rates from 0 to below 1, one for each block that widths make, not {values!r}; with other "
            "than six widths give dropout_down (as many) and dropout_up (two fewer) as well"
        )
    return tuple(map(float, values))


class Block(nn.Sequential):
    """3x3 convolution, ReLU, batch norm, dropout, 3x3 convolution, ReLU; the size stays.

    Args:
        n_in, n_out: channels of input and output.
        dropout: rate.
    """

    def __init__(self, n_in: int, n_out: int, dropout: float):
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(n_out),
            nn.Dropout(dropout),
            nn.Conv2d(n_out, n_out, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class UpsampleBlock(nn.Sequential):
    """The paper's "upsample block": 3x3 transposed convolution of stride 2, batch norm, leaky ReLU; doubles the size."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(
            nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(n_out),
            nn.LeakyReLU(LEAK, inplace=True),
        )


class _Body(nn.Module):
    """The blocks; its parts have the names that the library gives those of the other architectures."""

    def __init__(
        self, in_channels: int, n_classes: int, widths: Sequence[int], dropout_down: Sequence[float], dropout_up: Sequence[float]
    ):
        super().__init__()
        inputs = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(Block(*one) for one in zip(inputs, widths, dropout_down, strict=True))
        self.pool = nn.MaxPool2d(2)
        steps = widths[-2:0:-1]
        below = [widths[-1], *steps[:-1]]
        first, *others = zip(below, steps, strict=True)
        self.upsample = nn.ModuleList([UpsampleBlock(*first), *(nn.ConvTranspose2d(*one, 2, stride=2) for one in others)])
        skips = widths[-3::-1]
        self.decoder = nn.ModuleList(
            Block(step + skip, step, rate) for step, skip, rate in zip(steps, skips, dropout_up, strict=True)
        )
        self.segmentation_head = nn.Conv2d(steps[-1], n_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        *down, last, extra = self.encoder
        for block in down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = extra(last(x))
        for step, block in zip(self.upsample, self.decoder, strict=True):
            x = block(torch.cat([step(x), skips.pop()], dim=1))
        return self.segmentation_head(x)
