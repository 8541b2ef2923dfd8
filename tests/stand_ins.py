"""Stand-ins for networks whose answers are known, and images to show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch

from spider_utils.models import build_model
from spider_utils.predict import SlicePredictor
from spider_utils.training.checkpoints import save_model


def save_untrained_unet(folder: Path) -> Path:
    """A U-Net of structures4 in a folder: its masks mean nothing, but their geometry must be right."""
    torch.manual_seed(0)
    model = build_model("unet", in_channels=1, n_classes=4, encoder="resnet18", decoder_channels=[16, 16, 8, 8, 8])
    save_model(folder, model, {"scheme": "structures4", "size": [64, 32]})
    return folder


class BrightestClass:
    """Stands in for a network whose answer is known: class 3 where the image is bright, background elsewhere."""

    def __call__(self, images: object) -> object:
        bright = (images[:, 0] > 0.5).float() * 20
        return torch.stack([10 - bright, torch.zeros_like(bright) - 99, torch.zeros_like(bright) - 99, bright - 10], dim=1)


class BandOfClasses(SlicePredictor):
    """Class k where the image's value is k of 20; notes which slices it was asked for."""

    scheme = "clamped20"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        self.asked.append(len(slices[wanted]))
        return (slices[wanted][:, None] == np.arange(20, dtype=np.uint8)[:, None, None]).astype(np.float32)


class LevelsByGray:
    """Stands in for a network of levels that is sure of nothing: where the image is bright it says L5, L4, or their disc."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        scores = torch.full((len(images), 20, *images.shape[2:]), -9.0)
        scores[:, 0] = 1.0
        for value, score in ((1, 0.9), (2, 0.8), (12, 0.5)):
            scores[:, value] = torch.where(images[:, 0] > 0.5, score, -9.0)
        return scores


def write_image(path: Path, code: str, size: tuple[int, int, int] = (20, 40, 11)) -> sitk.Image:
    """Write noise of 0.6 x 4 x 0.7 mm with axes of ITK's code; ``size`` is ITK's, columns first."""
    random = np.random.default_rng(0)
    image = sitk.GetImageFromArray(random.integers(0, 900, size[::-1]).astype(np.int16))
    image.SetSpacing((0.7, 0.6, 4.0))
    image.SetOrigin((-12.5, 30.25, 7.0))
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code))
    sitk.WriteImage(image, str(path))
    return image
