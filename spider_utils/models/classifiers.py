"""The seven networks of `misan`, from timm, each with the same two heads; a third one, and a second input, where asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from spider_utils.models import CLASSIFIERS
from spider_utils.models.network import Network
from spider_utils.models.pretrained import load_imagenet_weights

TIMM_NAMES = {
    "inception_v3": "inception_v3",
    "xception": "legacy_xception",  # the one of Chollet 2017, as in Keras; timm's xception41 ... are others
    "vgg16": "vgg16",
    "nasnetalarge": "nasnetalarge",
    "resnet50": "resnet50",
    "mobilenetv2": "mobilenetv2_100",
    "densenet121": "densenet121",  # `misan` says "DenseNet"; of Keras's three the smallest
}
SMALLEST_SIDE = {name: 75 if name == "inception_v3" else 32 for name in CLASSIFIERS}
"""Pixels. Below, Inception's unpadded convolutions run out of picture; the others have not one whole pixel left at 1/32."""
HEADS = {"condition": 6, "level": 5}
WEIGHTS = (None, "imagenet")


class Classifier(Network):
    """A network of timm without its own head, then what `misan` puts on it (section 3.9.5).

    Global average pooling, a dense layer of 1024 with ReLU, dropout 0.3, and a dense layer a head, whose softmax is left to the
    loss. Numbers that are known of the patient (age and sex, which the source asks for as future work) join the pooled features
    before the dense layer.

    Args:
        backbone: name in CLASSIFIERS.
        heads: name -> number of classes.
        metadata: how many numbers of the second input; 0 for none.
        dense: width of the dense layer.
        dropout: share of its outputs that is dropped in training.
        weights: None (random) or "imagenet" (see ``pretrained``).
        normalise: whether the pictures, given from 0 to 1, are shifted and scaled to the mean and spread that the ImageNet
            weights were trained with. The source gives them as they are to all seven.

    Attributes:
        heads, metadata: as given.
        smallest_side: fewest rows and columns of a picture.

    Shape:
        images float ``(batch, 3, rows, columns)`` or ``(batch, 1, rows, columns)``, and ``metadata`` float ``(batch, metadata)``
        where there is any -> logits by head, float ``(batch, classes)``.

    Raises:
        ValueError: see ``build_classifier``.
    """

    def __init__(
        self,
        backbone: str,
        heads: Mapping[str, int],
        metadata: int,
        dense: int,
        dropout: float,
        weights: str | None,
        normalise: bool,
    ):
        super().__init__()
        self.name, self.heads, self.metadata = backbone, dict(heads), metadata
        self.smallest_side = SMALLEST_SIDE[backbone]
        # VGG's own 119 million weights behind the convolutions are not used: made narrow, then left out.
        narrow = {"mlp_ratio": 1 / 4096} if backbone == "vgg16" else {}
        self.backbone = timm.create_model(TIMM_NAMES[backbone], pretrained=False, num_classes=0, global_pool="", **narrow)
        if backbone == "vgg16":
            self.backbone.pre_logits = nn.Identity()
        self.initial_weights = "random"
        if weights == "imagenet":
            problem = load_imagenet_weights(self.backbone)
            if problem is None:
                self.initial_weights = "imagenet"
            else:
                notice = f"ImageNet weights of '{backbone}' cannot be had, so it starts from random weights ({problem})"
                warnings.warn(notice, stacklevel=4)
        config = self.backbone.pretrained_cfg
        mean, std = (config["mean"], config["std"]) if normalise else ((0.0,) * 3, (1.0,) * 3)
        for key, values in (("mean", mean), ("std", std)):
            self.register_buffer(f"image_{key}", torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)
        width = self.backbone.num_features
        self.dense = nn.Sequential(nn.Linear(width + metadata, dense), nn.ReLU(), nn.Dropout(dropout))
        self.outputs = nn.ModuleDict({name: nn.Linear(dense, classes) for name, classes in self.heads.items()})

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last convolutional features, ``(batch, channels, rows, columns)`` at about 1/32 of the picture's size.

        Raises:
            ValueError: wrong shape, or pictures that are too small.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must have shape (batch, 3, rows, columns), not {tuple(images.shape)}")
        if min(images.shape[2:]) < self.smallest_side:
            rows, columns = images.shape[2:]
            raise ValueError(
                f"{self.name} needs pictures of at least {self.smallest_side} x {self.smallest_side} pixels, these have "
                f"{rows} x {columns}: resize them to {max(rows, self.smallest_side)} x {max(columns, self.smallest_side)}"
            )
        return self.backbone.forward_features((images.expand(-1, 3, -1, -1) - self.image_mean) / self.image_std)

    def forward(self, images: torch.Tensor, metadata: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return self.classify(self.features(images), metadata)

    def classify(self, features: torch.Tensor, metadata: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Logits by head of ``features``.

        Raises:
            ValueError: the network has a second input, and ``metadata`` is not of its shape.
        """
        pooled = features.mean(dim=(2, 3))
        if self.metadata:
            if metadata is None or metadata.shape != (len(features), self.metadata):
                found = "none" if metadata is None else tuple(metadata.shape)
                raise ValueError(f"this network has a second input of shape ({len(features)}, {self.metadata}), given: {found}")
            pooled = torch.cat([pooled, metadata.to(pooled.dtype)], dim=1)
        hidden = self.dense(pooled)
        return {name: output(hidden) for name, output in self.outputs.items()}


def build_classifier(
    name: str,
    heads: Mapping[str, int] = HEADS,
    metadata: int = 0,
    dense: int = 1024,
    dropout: float = 0.3,
    weights: str | None = None,
    normalise: bool = True,
) -> Classifier:
    """Build one of `misan`'s seven networks; see ``Classifier`` for what the arguments mean.

    Returns:
        The network, in training mode. ``.spec`` is a dict that JSON can hold and ``models.build_from_card`` builds it from.

    Raises:
        ValueError: unknown name or weights, a head of fewer than two classes, or a number out of its range.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown classifier '{name}'. Known are: {', '.join(CLASSIFIERS)}")
    if not heads or min(heads.values()) < 2:
        raise ValueError(f"every head needs two classes or more, given: {dict(heads)}")
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be None or 'imagenet', not {weights!r}")
    if metadata < 0 or dense < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"metadata={metadata}, dense={dense}, dropout={dropout}: at least 0, at least 1, and from 0 to below 1 are allowed"
        )
    options: dict[str, Any] = {
        "heads": {head: int(classes) for head, classes in heads.items()},
        "metadata": int(metadata),
        "dense": int(dense),
        "dropout": float(dropout),
        "weights": weights,
        "normalise": bool(normalise),
    }
    model = Classifier(name, **options)
    model.spec = {
        "architecture": name,
        "in_channels": 3,
        "n_classes": sum(options["heads"].values()),
        "options": options,
        "initial_weights": model.initial_weights,
    }
    return model
