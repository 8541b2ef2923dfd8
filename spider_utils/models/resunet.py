"""ResUNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from spider_utils.models.network import SegmentationNetwork, whole_numbers


class ResUNet(SegmentationNetwork):
    """Deep residual U-Net.

    A U-Net whose pairs of convolutions are residual units: encoding units, a bridge and decoding units (section II-A, figure 2
    and table I). On the way down the first convolution of every unit but the first has stride 2, in place of pooling. On the
    way up the features are doubled by repeating each pixel, put beside those of the encoding unit of that size, and go
    through a unit. A 1x1 convolution turns the last features into class scores.

    The paper leaves open how a unit adds its input where that has other channels or another size than its output, which is
    everywhere: here by a 1x1 convolution of the unit's stride, the projection of He et al. (Deep residual learning for image
    recognition, CVPR 2016, section 3.3). All other convolutions together have the 7.8 million weights that the paper prints.

    Args:
        in_channels: channels of the input image.
        n_classes: output channels, background included.
        widths: channels of the encoding units from finest to deepest, then of the bridge; 2 to 7 numbers. Decoding units are
            as wide as the encoding units of their size. The stride is ``pixel_shuffle`` times 2 to the power of the number of
            encoding units.
        pixel_shuffle: 1 is the paper. With r > 1 each r x r pixels of the image go in as r x r channels of one, and the last
            layer gives the scores of r x r pixels at once (sub-pixel convolution, Shi et al., CVPR 2016, section 3). The units
            that cost most, those at full size, fall away, and no pixel is thrown away.

    Shape:
        float ``(batch, in_channels, height, width)`` -> logits ``(batch, n_classes, height, width)``; height and width
        divisible by ``stride``.

    Raises:
        ValueError: widths are not 2 to 7 positive whole numbers, or pixel_shuffle is none from 1 to 4.

    Reference:
        Zhang, Liu, Wang. Road extraction by deep residual U-Net. IEEE Geoscience and Remote Sensing Letters 15(5), 2018.
        doi:10.1109/LGRS.2018.2802944
    """

    def __init__(self, in_channels: int, n_classes: int, widths: Sequence[int] = (64, 128, 256, 512), pixel_shuffle: int = 1):
        widths = whole_numbers("widths", widths, 2, 7)
        if pixel_shuffle not in (1, 2, 3, 4):
            raise ValueError(f"pixel_shuffle must be 1, 2, 3 or 4, not {pixel_shuffle!r}")
        stride = pixel_shuffle * 2 ** (len(widths) - 1)
        super().__init__(_Body(in_channels, n_classes, widths, pixel_shuffle), in_channels, stride)


class ResidualUnit(nn.Module):
    """Residual unit with full pre-activation: norm, ReLU, 3x3 convolution, norm, ReLU, 3x3 convolution, plus the input.

    Args:
        n_in, n_out: channels of input and output.
        stride: of the first convolution; the output is smaller by it.
        pre_activation: False leaves out the first norm and ReLU, for a unit that sees the image itself (figure 2).

    Shape:
        ``(batch, n_in, height, width)`` -> ``(batch, n_out, height / stride, width / stride)``, rounded up.

    Reference:
        Zhang, Liu, Wang 2018 (see ``ResUNet``), section II-A and figure 1b, after He, Zhang, Ren, Sun. Identity mappings in
        deep residual networks. ECCV 2016. doi:10.1007/978-3-319-46493-0_38
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1, pre_activation: bool = True):
        super().__init__()
        before = [nn.BatchNorm2d(n_in), nn.ReLU(inplace=True)] if pre_activation else []
        # No biases: what they could add is taken out again by the next norm, or is what the bias of the last layer does.
        self.residual = nn.Sequential(
            *before,
            nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residual(x) + self.shortcut(x)


class _Body(nn.Module):
    """The units of a ResUNet; its parts have the names that the library gives those of the other architectures."""

    def __init__(self, in_channels: int, n_classes: int, widths: Sequence[int], pixel_shuffle: int):
        super().__init__()
        # Not with 1: torch would copy image and scores for nothing.
        self.into_channels = nn.PixelUnshuffle(pixel_shuffle) if pixel_shuffle > 1 else nn.Identity()
        self.into_pixels = nn.PixelShuffle(pixel_shuffle) if pixel_shuffle > 1 else nn.Identity()
        in_channels, n_classes = (n * pixel_shuffle**2 for n in (in_channels, n_classes))
        first, *steps = zip([in_channels, *widths[:-1]], widths, strict=True)
        *down, bridge = [ResidualUnit(*step, stride=2) for step in steps]
        self.encoder = nn.ModuleList([ResidualUnit(*first, pre_activation=False), *down])
        self.bridge = bridge
        up = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.decoder = nn.ModuleList(ResidualUnit(deeper + skip, skip) for deeper, skip in up)
        self.segmentation_head = nn.Conv2d(widths[0], n_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into_channels(x)
        skips = []
        for unit in self.encoder:
            x = unit(x)
            skips.append(x)
        x = self.bridge(x)
        for unit in self.decoder:
            x = unit(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        return self.into_pixels(self.segmentation_head(x))
