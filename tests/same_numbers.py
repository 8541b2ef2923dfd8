"""What must come out the same in every process on one machine: ``python -m tests.same_numbers FOLDER`` prints it as JSON.

A phantom patient, and every network of the kit trained for two steps with everything random in it: first weights, order,
augmentation, dropout. Numbers are given as sha256 of their bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from spider_utils.data.augment import make_augment
from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.scanner import draw_protocols, render
from spider_utils.models import CLASSIFIERS, VOLUME_ARCHITECTURES, available_models, build_model
from spider_utils.models.classifiers import SMALLEST_SIDE, build_classifier
from spider_utils.runtime import get_profile, seed_everything
from spider_utils.training.config import TrainConfig
from spider_utils.training.loop import RunResult, fit
from spider_utils.training.tasks import ClassificationTask

HEADS = {"condition": 6, "level": 5}
CONFIG = TrainConfig(epochs=1, batch_size=4, samples_per_epoch=8, learning_rate=1e-3, schedule="one_cycle", seed=5)


class Noise(torch.utils.data.Dataset):
    """Slices (or pictures) of noise, augmented, and classes of noise; all of it follows from the item and the epoch."""

    def __init__(self, shape: tuple[int, ...], heads: dict[str, int] | None = None):
        self.shape, self.heads, self.epoch, self.augment = shape, heads, 0, make_augment("standard")

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 8

    def __getitem__(self, item: int) -> tuple[torch.Tensor | tuple[torch.Tensor], torch.Tensor]:
        random = np.random.default_rng((item, self.epoch))
        image = random.integers(0, 256, self.shape, dtype=np.uint8)
        if self.heads:
            truth = torch.tensor([random.integers(n) for n in self.heads.values()])
            return (torch.from_numpy(image).float() / 255,), truth
        mask = random.integers(0, 4, self.shape[1:], dtype=np.uint8)
        if len(self.shape) == 3:
            moved, mask = self.augment(image[0], mask, seed=item)
            image = moved[None]
        return torch.from_numpy(image).float() / 255, torch.from_numpy(mask).long()


def digest(*arrays: np.ndarray) -> str:
    """sha256 of the bytes of arrays, one after the other."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def of_run(run: RunResult) -> str:
    """Weights, as they lie in the file, and the history without its times."""
    weights = np.frombuffer((run.folder / "model.safetensors").read_bytes(), np.uint8)
    return digest(weights, run.history.drop(columns="seconds").to_numpy())


def numbers(folder: Path) -> dict[str, str]:
    """Everything, by name."""
    anatomy = make_anatomy(7)
    image, mask = render(anatomy, "t2", draw_protocols(anatomy, "UMC", ("t2",), 7)[0])
    found = {"phantom": digest(image.array, mask.array)}
    networks = get_profile("smoke").networks
    for name in available_models():
        seed_everything(5)
        of_volumes = name in VOLUME_ARCHITECTURES
        shape = (1, 16, 32, 32) if of_volumes else (1, 64, 64)
        options = {**get_profile("smoke").volumes.options, "image_size": [16, 32, 32]} if of_volumes else networks[name]
        model = build_model(name, in_channels=1, n_classes=4, **options)
        found[name] = of_run(fit(model, Noise(shape), Noise(shape), folder / name, CONFIG, {"data": "noise"}))
    for name in CLASSIFIERS:
        seed_everything(5)
        shape, task = (1, SMALLEST_SIDE[name], SMALLEST_SIDE[name]), ClassificationTask(HEADS, "condition")
        model = build_classifier(name, HEADS, dense=8)
        sets = (Noise(shape, HEADS), Noise(shape, HEADS))
        found[name] = of_run(fit(model, *sets, folder / name, CONFIG, {"data": "noise"}, task=task))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(numbers(Path(sys.argv[1]))))
