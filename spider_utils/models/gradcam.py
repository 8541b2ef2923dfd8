"""Grad-CAM: which places of a picture speak for a class."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from spider_utils.models.classifiers import Classifier


class _Features(nn.Module):
    """The convolutional part of a classifier as one layer, which captum can be pointed at."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.features(images)


def grad_cam(
    model: Classifier, images: torch.Tensor, head: str, classes: torch.Tensor, metadata: torch.Tensor | None = None
) -> torch.Tensor:
    """Grad-CAM on the last convolutional features (Selvaraju et al., ICCV 2017, equations 1 and 2; by captum).

    Each feature map is weighted by the mean slope of the class's logit over the map; the weighted maps are added up, and what
    speaks against the class (below 0) is cut off.

    Args:
        model: a classifier; its mode is left as it was, and batch norms and dropout work as in evaluation.
        images: float (n, 1 or 3, rows, columns).
        head: name of the head.
        classes: int64 (n,), the class of each picture to ask for.
        metadata: float (n, numbers) where the network has such an input.

    Returns:
        float32 (n, rows, columns), 0 or more, of the picture's size (bilinear). Maps are not scaled: a map of zeros says that
        nothing speaks for the class.

    Raises:
        ValueError: unknown head.
    """
    from captum.attr import LayerGradCam  # takes seconds

    if head not in model.heads:
        raise ValueError(f"the network has no head '{head}'. Its heads are: {', '.join(model.heads)}")
    was_training = model.training
    model.eval()
    layer = _Features(model)

    def logits(batch: torch.Tensor) -> torch.Tensor:
        return model.classify(layer(batch), metadata)[head]

    try:
        found = LayerGradCam(logits, layer).attribute(images, target=classes, relu_attributions=True)
    finally:
        model.train(was_training)
    return functional.interpolate(found.detach().float(), images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
