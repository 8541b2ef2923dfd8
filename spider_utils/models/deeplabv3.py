"""DeepLabV3."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch

from spider_utils.models.encoders import build_with_encoder
from spider_utils.models.network import SegmentationNetwork, whole_numbers

_OUTPUT_STRIDES = (8, 16)
_RATES_STRIDE = 16  # the output stride for which section 3.3 gives its rates


class DeepLabV3(SegmentationNetwork):
    """DeepLabV3 with an exchangeable encoder, from segmentation-models-pytorch.

    The encoder stops halving at 1/8 or 1/16 of the image's size; from there on its convolutions are dilated (atrous) instead
    (section 3.1). Five branches side by side, a 1x1 convolution, three dilated 3x3 convolutions and the mean over the
    whole image, look at the result at several scales (atrous spatial pyramid pooling, section 3.3). Their mixture becomes
    class scores, which are enlarged to the image's size by bilinear interpolation: there are no skip connections.

    As the libraries have it, and unlike the paper: there is no multi-grid of dilations inside an encoder stage (section
    3.2.1), a 3x3 convolution follows the mixture, and there is ``dropout``.

    Args:
        in_channels: channels of the input image.
        n_classes: output channels, background included.
        encoder: "resnet18", "mobilenet_v2", ... or "tu-" and a timm image model (see ``build_with_encoder``); one that can
            be dilated: not VGG, DenseNet, Inception or Swin.
        encoder_weights: None (random) or "imagenet".
        output_stride: 8 or 16, how much smaller than the image the encoder's last features are: finer or faster.
        aspp_channels: channels of each of the five branches and of their mixture.
        atrous_rates: dilations of the three 3x3 convolutions, in pixels of 1/16 of the image's size. At output stride 8 they
            are doubled, so that they span as much of the image (section 3.3).
        dropout: share of the mixture's values that training sets to zero, at least 0 and below 1.

    Shape:
        float ``(batch, in_channels, height, width)`` -> logits ``(batch, n_classes, height, width)``; height and width
        divisible by ``stride``, which is ``output_stride``. In training mode the batch must have two images or more.

    Raises:
        ValueError: unknown encoder weights, an encoder that is unknown or cannot be dilated, or another option out of range.

    Reference:
        Chen, Papandreou, Schroff, Adam. Rethinking atrous convolution for semantic image segmentation. 2017.
        arXiv:1706.05587
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        output_stride: int = 8,
        aspp_channels: int = 256,
        atrous_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
    ):
        if output_stride not in _OUTPUT_STRIDES:
            raise ValueError(f"output_stride must be 8 or 16, not {output_stride!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {dropout!r}")
        if not (isinstance(aspp_channels, int) and aspp_channels > 0):
            raise ValueError(f"aspp_channels must be a positive whole number, not {aspp_channels!r}")
        rates = whole_numbers("atrous_rates", atrous_rates, 3, 3)
        body, initial_weights = build_with_encoder(
            smp.DeepLabV3,
            encoder,
            encoder_weights,
            encoder_output_stride=output_stride,
            decoder_channels=aspp_channels,
            decoder_atrous_rates=tuple(rate * _RATES_STRIDE // output_stride for rate in rates),
            decoder_aspp_dropout=dropout,
            in_channels=in_channels,
            classes=n_classes,
        )
        super().__init__(body, in_channels, stride=output_stride, initial_weights=initial_weights)

    def _check(self, images: torch.Tensor) -> None:
        super()._check(images)
        if self.training and len(images) < 2:
            # The mean over a whole image is one value a channel, and batch normalisation cannot take the variance of one value.
            raise ValueError(f"training needs batches of at least 2 images, not {len(images)}: raise batch_size")
