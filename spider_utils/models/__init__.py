"""Networks: those that segment behind one ``build_model``, one architecture one file; those that classify in ``classifiers``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from spider_utils.models.network import Network, SegmentationNetwork

# Name -> "module:class". Imported on first use only, because torch and the network libraries take seconds to load.
ARCHITECTURES: dict[str, str] = {
    "deeplabv3": "spider_utils.models.deeplabv3:DeepLabV3",
    "dilated_unet": "spider_utils.models.dilated_unet:DilatedUNet",
    "modified_unet": "spider_utils.models.modified_unet:ModifiedUNet",
    "resunet": "spider_utils.models.resunet:ResUNet",
    "unet": "spider_utils.models.unet:UNet",
    "unetplusplus": "spider_utils.models.unetplusplus:UNetPlusPlus",
    "unetr": "spider_utils.models.unetr:UNETR",
}
VOLUME_ARCHITECTURES = ("unetr",)
"""Those that see whole volumes; the others see slices."""
CLASSIFIERS = ("inception_v3", "xception", "vgg16", "nasnetalarge", "resnet50", "mobilenetv2", "densenet121")
"""The seven networks of `misan` in the order of its Table 3.1, for ``classifiers.build_classifier``."""


def available_models() -> list[str]:
    """Names that ``build_model`` knows, sorted."""
    return sorted(ARCHITECTURES)


def build_model(name: str, in_channels: int, n_classes: int, **options: Any) -> SegmentationNetwork:
    """Build a segmentation network.

    Args:
        name: one of ``available_models()``.
        in_channels: channels of the input image; 1 for MRI.
        n_classes: classes including background; the number of output channels.
        **options: the architecture's own settings (see the class in its file); anything JSON can hold.

    Returns:
        A module that takes float32 ``(batch, in_channels, height, width)`` and gives logits, float
        ``(batch, n_classes, height, width)``; for one of ``VOLUME_ARCHITECTURES`` with ``slices, rows, columns`` instead of
        ``height, width``. ``.stride`` is what these must be divisible by; ``.image_size``, where it is not None, what they must
        be; ``.spec`` is a dict that JSON can hold, from which the same network can be built again: ``architecture``,
        ``in_channels``, ``n_classes``, ``options`` (with every default filled in) and ``initial_weights`` ("random" or
        "imagenet").

    Raises:
        ValueError: unknown name or option, fewer than one channel or two classes, or an option's value is refused.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown model '{name}'. Known are: {', '.join(available_models())}")
    if in_channels < 1 or n_classes < 2:
        raise ValueError(
            f"in_channels must be at least 1 and n_classes at least 2 (background is one), not {in_channels} and {n_classes}"
        )
    module, _, class_name = ARCHITECTURES[name].partition(":")
    architecture = getattr(importlib.import_module(module), class_name)
    signature = inspect.signature(architecture)
    known = [option for option in signature.parameters if option not in ("in_channels", "n_classes")]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"model '{name}' has no option {', '.join(unknown)}. Its options are: {', '.join(known)}")
    filled = signature.bind(in_channels, n_classes, **options)
    filled.apply_defaults()
    model = architecture(*filled.args, **filled.kwargs)
    chosen = {option: filled.arguments[option] for option in known}
    model.spec = {
        "architecture": name,
        "in_channels": int(in_channels),
        "n_classes": int(n_classes),
        "options": {option: list(value) if isinstance(value, tuple | list) else value for option, value in chosen.items()},
        "initial_weights": model.initial_weights,
    }
    return model


def build_from_card(card: Mapping[str, Any]) -> Network:
    """The network that a model's card describes, with random weights: its trained ones replace them.

    Args:
        card: holds the entries of ``spec`` of a network of ``build_model`` or ``build_classifier``.

    Raises:
        ValueError, TypeError: unknown architecture, or settings that it refuses.
    """
    options = dict(card["options"])
    if card["architecture"] in CLASSIFIERS:
        classifiers = importlib.import_module("spider_utils.models.classifiers")
        return classifiers.build_classifier(card["architecture"], **{**options, "weights": None})
    if "encoder_weights" in options:
        options["encoder_weights"] = None  # nothing to fetch
    return build_model(card["architecture"], card["in_channels"], card["n_classes"], **options)


def parameter_count(model: nn.Module, trainable_only: bool = True) -> int:
    """Number of weights of ``model``; with ``trainable_only`` those that training changes."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad or not trainable_only)
