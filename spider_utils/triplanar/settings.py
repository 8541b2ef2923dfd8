"""What is compared in the study of `triplanar`, and how its networks are made and trained in each profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spider_utils.data.planes import PLANES
from spider_utils.ensemble.planes import FusionDesign

FUSED, MEAN = "fused", "mean of three"
FUSIONS = {
    FUSED: FusionDesign(),
    "fused without positions": FusionDesign(positions=False),
    "weights voxel by voxel": FusionDesign(kernel=1, hidden=0, positions=False),
}
METHODS = (*PLANES, MEAN, *FUSIONS)
CONTRASTS = ("fat", "inn", "wat")  # disc and surroundings differ least in the opposed phase (notebook 10)


@dataclass(frozen=True)
class Settings:
    """How the networks of one profile are made and trained.

    Attributes:
        options: of the network dilated_unet.
        epochs, steps_per_epoch: of a 2D network; steps rather than slices, so that planes and patient numbers compare.
        step_pixels: pixels of a step; slices of the three planes differ in size.
        learning_rate, optimizer, schedule, augment: as in a Profile.
        empty_step: of slices without a disc every so many is shown in training.
        fusion_steps: of a fusion.
        folds: how many of the N_FOLDS folds the notebook does.
        curve: numbers of training patients of the curve, besides all of them.
    """

    options: Mapping[str, Any] = field(hash=False)
    epochs: int
    steps_per_epoch: int
    step_pixels: int
    learning_rate: float
    optimizer: str
    schedule: str
    augment: str
    empty_step: int
    fusion_steps: int
    folds: int
    curve: tuple[int, ...]


SETTINGS: dict[str, Settings] = {
    "smoke": Settings(
        options={"encoder": "tu-test_resnet", "decoder_channels": [16, 16, 12, 8], "foreground_prior": 0.02},
        epochs=2,
        steps_per_epoch=8,
        step_pixels=4 * 128 * 128,
        learning_rate=1e-2,
        optimizer="adamw",
        schedule="one_cycle",
        augment="none",
        empty_step=6,
        fusion_steps=20,
        folds=1,
        curve=(1,),
    ),
    "quick": Settings(
        options={"encoder": "tu-test_resnet", "decoder_channels": [32, 24, 16, 8], "foreground_prior": 0.02},
        epochs=3,
        steps_per_epoch=26,
        step_pixels=8 * 128 * 128,
        learning_rate=1e-2,
        optimizer="adamw",
        schedule="one_cycle",
        augment="none",
        empty_step=4,
        fusion_steps=200,
        folds=4,
        curve=(1, 3),
    ),
    # The source says: ResNet-50 at stride 8, starting from pretrained weights, extensive augmentation, 4 folds. Nothing of
    # steps, rates or losses.
    "paper": Settings(
        options={"encoder": "resnet50", "encoder_weights": "imagenet", "decoder_channels": [256, 128, 64, 32]},
        epochs=50,
        steps_per_epoch=200,
        step_pixels=8 * 256 * 256,
        learning_rate=1e-3,
        optimizer="adam",
        schedule="cosine",
        augment="triplanar",
        empty_step=2,
        fusion_steps=2000,
        folds=4,
        curve=(1, 2, 4),
    ),
}
