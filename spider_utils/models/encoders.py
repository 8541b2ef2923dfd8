"""Networks of segmentation-models-pytorch, started from ImageNet weights where those can be had."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

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
        ValueError: unknown encoder, encoder weights or decoder settings.
    """
    if encoder_weights not in ENCODER_WEIGHTS:
        raise ValueError(f"encoder_weights must be None or 'imagenet', not {encoder_weights!r}")
    try:
        random = network(encoder_name=encoder, encoder_weights=None, **settings)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"unknown encoder '{encoder}'. Use a name known to segmentation-models-pytorch, such as 'resnet18' or "
            "'mobilenet_v2', or 'tu-' and the name of a timm image model, such as 'tu-resnet10t'"
        ) from error
    if encoder_weights is None:
        return random, "random"
    try:
        wanted = True if encoder.startswith("tu-") else encoder_weights  # the library's two ways to ask for them
        return network(encoder_name=encoder, encoder_weights=wanted, **settings), "imagenet"
    except Exception as error:  # the settings were fine above, so all that can fail is getting the weights
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"ImageNet weights of '{encoder}' cannot be had, so it starts from random weights ({reason})", stacklevel=2)
        return random, "random"
