"""Networks of segmentation-models-pytorch, started from ImageNet weights where those can be had."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import nn

from spider_utils.models.network import SegmentationNetwork, whole_numbers

ENCODER_WEIGHTS = (None, "imagenet")


def build_with_encoder(
    network: Callable[..., nn.Module], encoder: str, encoder_weights: str | None, **settings: Any
) -> tuple[nn.Module, str]:
    """Build a network of segmentation-models-pytorch.

    Args:
        network: its class, for example ``segmentation_models_pytorch.Unet``.
        encoder: name of the encoder ("resnet18"); with the prefix "tu-" any image model of timm ("tu-resnet10t").
        encoder_weights: None for random weights or "imagenet" to start from weights trained on ImageNet, which are
            fetched from the Hugging Face hub on first use. Where they cannot be had, a UserWarning says so and the
            encoder starts from random weights: a course must go on without a network connection.
        **settings: passed on to ``network``.

    Returns:
        The network and what it starts from, "imagenet" or "random".

    Raises:
        ValueError: unknown encoder or encoder weights, or an encoder that this network or these settings do not allow.
    """
    if encoder_weights not in ENCODER_WEIGHTS:
        raise ValueError(f"encoder_weights must be None or 'imagenet', not {encoder_weights!r}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", encoder):  # with a colon timm takes it for an address to fetch from, or a folder
        raise ValueError(f"'{encoder}' is no name of an encoder: letters, digits, '_', '.' and '-' are allowed")
    try:
        random = network(encoder_name=encoder, encoder_weights=None, **settings)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"unknown encoder '{encoder}'. Use a name known to segmentation-models-pytorch, such as 'resnet18' or "
            "'mobilenet_v2', or 'tu-' and the name of a timm image model, such as 'tu-resnet10t'"
        ) from error
    except (ValueError, TypeError, AssertionError) as error:  # the libraries' ways to say so; some are silent asserts
        raise ValueError(
            f"encoder '{encoder}' does not work in {network.__name__} with these settings ({_reason(error)}). "
            "Use another one, such as 'resnet18'"
        ) from error
    if encoder_weights is None:
        return random, "random"
    try:
        wanted = True if encoder.startswith("tu-") else encoder_weights  # the library's two ways to ask for them
        return network(encoder_name=encoder, encoder_weights=wanted, **settings), "imagenet"
    except Exception as error:  # the settings were fine above, so all that can fail is getting the weights
        notice = f"ImageNet weights of '{encoder}' cannot be had, so it starts from random weights ({_reason(error)})"
        warnings.warn(notice, stacklevel=2)
        return random, "random"


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class EncoderDecoder(SegmentationNetwork):
    """A network of segmentation-models-pytorch with an exchangeable encoder and a decoder of as many stages.

    Args:
        in_channels: channels of the input image.
        n_classes: output channels, background included.
        encoder: "resnet18", "mobilenet_v2", ... or "tu-" and any timm image model (see ``build_with_encoder``).
        encoder_weights: None (random) or "imagenet".
        decoder_channels: channels of the decoder's stages from deepest to finest; as many stages as the encoder uses, 3
            to 5. The stride is 2 to the power of their number.

    Attributes:
        library_network: the library's class, set by each architecture.

    Shape:
        float ``(batch, in_channels, height, width)`` -> logits ``(batch, n_classes, height, width)``; height and width
        divisible by ``stride``.

    Raises:
        ValueError: unknown or unfit encoder, unknown encoder weights, or not 3 to 5 decoder stages.
    """

    library_network: ClassVar[Callable[..., nn.Module]]

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    ):
        channels = whole_numbers("decoder_channels", decoder_channels, 3, 5)
        body, initial_weights = build_with_encoder(
            self.library_network,
            encoder,
            encoder_weights,
            encoder_depth=len(channels),
            decoder_channels=channels,
            in_channels=in_channels,
            classes=n_classes,
        )
        super().__init__(body, in_channels, stride=2 ** len(channels), initial_weights=initial_weights)
