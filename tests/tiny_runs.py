"""The tiniest training there is: a network of two convolutions, noisy squares to learn from, and what makes two runs the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import nn

from spider_utils.models import ARCHITECTURES, build_model
from spider_utils.models.network import SegmentationNetwork
from spider_utils.training.config import TrainConfig
from spider_utils.training.loop import fit


class TinyNetwork(SegmentationNetwork):
    """Small enough for tests, with everything that has a state or random numbers: batch norm and dropout."""

    def __init__(self, in_channels, n_classes, dropout=0.2, norm=True):
        middle = nn.BatchNorm2d(8) if norm else nn.Identity()
        body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), middle, nn.ReLU(), nn.Dropout2d(dropout), nn.Conv2d(8, n_classes, 1)
        )
        super().__init__(body, in_channels, stride=1)


class Squares(torch.utils.data.Dataset):
    """Noisy images of a bright square (class 1) above a brighter one (class 2); the noise follows from the epoch."""

    def __init__(self, n=24, seed=0):
        self.n, self.seed, self.epoch, self.seen = n, seed, 0, []

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.n

    def __getitem__(self, item):
        self.seen.append((self.epoch, item))
        mask = np.zeros((16, 16), np.int64)
        row, column = np.random.default_rng((self.seed, item)).integers(0, 8, 2)
        mask[row : row + 4, column : column + 6] = 1
        mask[row + 4 : row + 8, column : column + 6] = 2
        noise = np.random.default_rng((self.seed, item, self.epoch)).normal(0, 0.1, mask.shape)
        return torch.from_numpy((mask / 2 + noise).astype(np.float32)[None]), torch.from_numpy(mask)


class Altered(Squares):
    """``Squares`` with every image or mask changed from some epoch on."""

    def __init__(self, image=lambda image: image, mask=lambda mask: mask, from_epoch=1, **settings):
        super().__init__(**settings)
        self.image, self.mask, self.from_epoch = image, mask, from_epoch

    def __getitem__(self, item):
        image, mask = super().__getitem__(item)
        return (self.image(image), self.mask(mask)) if self.epoch >= self.from_epoch else (image, mask)


CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=1e-2, schedule="one_cycle", amp="off", seed=3)
CARD = {"scheme": "toy", "data": "0123456789abcdef"}


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    return build_model("tiny", 1, 3, **options)


def train(folder, config=CONFIG, model=None, train_set=None, val_set=None, card=CARD, **more):
    sets = train_set or Squares(), val_set or Squares(12, seed=1)
    return fit(model or tiny(), *sets, folder, config, card, **{"save_every_s": 0, **more})


def numbers(result):
    """Everything of a run that must be the same however often it was interrupted."""
    return result.history.drop(columns="seconds"), (result.folder / "model.safetensors").read_bytes()


def assert_same_run(first, second):
    (table, weights), (other_table, other_weights) = numbers(first), numbers(second)
    pd.testing.assert_frame_equal(table, other_table, check_exact=True)
    assert weights == other_weights
    assert first.best_epoch == second.best_epoch and first.card == second.card


@contextlib.contextmanager
def tiny_network_and_one_thread() -> Iterator[None]:
    """While it lasts, ``build_model`` knows the tiny network, and torch uses one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ARCHITECTURES["tiny"] = f"{__name__}:TinyNetwork"
    try:
        yield
    finally:
        del ARCHITECTURES["tiny"]
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
