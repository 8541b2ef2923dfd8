"""U-Net."""

from __future__ import annotations

from collections.abc import Sequence

from spider_utils.models.encoders import build_with_encoder
from spider_utils.models.network import SegmentationNetwork


class UNet(SegmentationNetwork):
    """U-Net with an exchangeable encoder, from segmentation-models-pytorch.

    The encoder halves the image once a stage; the decoder doubles it again and joins it at each size with the encoder's
    features of that size.

    Args:
        in_channels: channels of the input image.
        n_classes: output channels, background included.
        encoder: "resnet18", "mobilenet_v2", ... or "tu-" and any timm image model (see ``build_with_encoder``).
        encoder_weights: None (random) or "imagenet".
        decoder_channels: channels of the decoder's stages from deepest to finest; as many stages as the encoder uses, 3
            to 5. The stride is 2 to the power of their number.

    Shape:
        float ``(batch, in_channels, height, width)`` -> logits ``(batch, n_classes, height, width)``; height and width
        divisible by ``stride``.

    Raises:
        ValueError: unknown encoder or encoder weights, or not 3 to 5 decoder stages.

    Reference:
        Ronneberger, Fischer, Brox. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
        doi:10.1007/978-3-319-24574-4_28
    """

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    ):
        import segmentation_models_pytorch as smp

        depth = len(decoder_channels)
        if not 3 <= depth <= 5 or min(decoder_channels) < 1:
            raise ValueError(f"decoder_channels must be 3 to 5 positive numbers, not {tuple(decoder_channels)}")
        body, initial_weights = build_with_encoder(
            smp.Unet,
            encoder,
            encoder_weights,
            encoder_depth=depth,
            decoder_channels=tuple(decoder_channels),
            in_channels=in_channels,
            classes=n_classes,
        )
        super().__init__(body, in_channels, stride=2**depth, initial_weights=initial_weights)
