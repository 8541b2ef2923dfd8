"""The 2D network of `triplanar`."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch

from spider_utils.models.encoders import build_with_encoder
from spider_utils.models.network import SegmentationNetwork, whole_numbers

_OUTPUT_STRIDE = 8


class DilatedUNet(SegmentationNetwork):
    """A U-Net-like decoder on a fully convolutional ResNet that stops halving at 1/8 of the image (`triplanar`, section 2).

    The source takes a ResNet-50 whose coarsest features have stride 8: of an image of 512 x 512 it makes 64 x 64 with 1024
    channels. 1024 channels are those of the third of its four stages, which halves to 1/16 as it is; so here its
    stride is replaced by dilation, and the fourth stage is left out. From there the decoder joins the second stage's features,
    which have the same size, then doubles three times and joins at each size what the encoder had there, except at full size.

    Not said in the source, and the kit's choice: how stride 8 was reached (dilation), the widths and layers of the decoder
    (two 3x3 convolutions with batch normalisation a step, as segmentation-models-pytorch has them), where its dropout
    lies (none here), and how the channels of three MR contrasts meet a first layer trained on colours. Its encoder starts from
    COCO; here ImageNet is the one other start than random.

    Args:
        in_channels: channels of the input image; in the source the three most useful contrasts.
        n_classes: output channels, background included.
        encoder: "resnet50", "resnet18", ... or "tu-" and a timm image model (see ``build_with_encoder``); one that can be
            dilated.
        encoder_weights: None (random) or "imagenet".
        decoder_channels: channels of the decoder's four steps, from 1/8 to full size.
        foreground_prior: the share of foreground that the network expects before it has learned anything, as a constant of its
            last layer (Lin et al. 2017, section 3.3). Where foreground is rare, short trainings else spend their first steps on
            learning to say "background", and small networks may never say anything else again. None: all classes alike.

    Shape:
        float ``(batch, in_channels, height, width)`` -> logits ``(batch, n_classes, height, width)``; height and width
        divisible by ``stride``, 8.

    Raises:
        ValueError: unknown or unfit encoder, unknown encoder weights, not four decoder steps, or a prior that is no share.

    Reference:
        Georgiev, Asenov. Automatic segmentation of lumbar spine MRI using ensemble of 2D algorithms. Computational Methods and
        Clinical Applications for Spine Imaging, 2019. Encoder: He, Zhang, Ren, Sun. Deep residual learning for image recognition.
        CVPR 2016. doi:10.1109/CVPR.2016.90. Prior: Lin, Goyal, Girshick, He, Dollar. Focal loss for dense object detection.
        ICCV 2017. doi:10.1109/ICCV.2017.324
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32),
        foreground_prior: float | None = None,
    ):
        channels = whole_numbers("decoder_channels", decoder_channels, 4, 4)
        body, initial_weights = build_with_encoder(
            smp.Unet,
            encoder,
            encoder_weights,
            encoder_depth=len(channels),
            output_stride=_OUTPUT_STRIDE,
            decoder_channels=channels,
            in_channels=in_channels,
            classes=n_classes,
        )
        if foreground_prior is not None:
            if not 0 < foreground_prior < 1:
                raise ValueError(f"foreground_prior must lie between 0 and 1, not {foreground_prior!r}")
            shares = [1 - foreground_prior, *[foreground_prior / (n_classes - 1)] * (n_classes - 1)]
            with torch.no_grad():
                body.segmentation_head[0].bias.copy_(torch.tensor(shares).log())
        if hasattr(body.encoder, "layer4"):  # of the library's own ResNets; timm builds no stage that is not asked for
            del body.encoder.layer4
        super().__init__(body, in_channels, stride=_OUTPUT_STRIDE, initial_weights=initial_weights)
