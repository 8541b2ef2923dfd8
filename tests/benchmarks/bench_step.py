"""What the input pipeline adds to a training step: a batch from the slice store, augmented, against the bare network's step."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from spider_utils.data.augment import make_augment
from spider_utils.data.phantom import generate_dataset
from spider_utils.data.slices import SliceDataset, build_store
from spider_utils.data.sources import open_source
from spider_utils.models import build_model
from spider_utils.runtime import get_profile
from spider_utils.training.config import TrainConfig
from spider_utils.training.loop import fit
from spider_utils.training.losses import make_loss
from tests.benchmarks.timing import Row, compare

ARCHITECTURE, SCHEME, N_CLASSES = "unet", "structures4", 4
STEPS, ROUNDS = 4, 3
MOST_OF_A_STEP = 0.03


def run() -> Iterator[Row]:
    """A U-Net of profile quick: its batch size, augmentation and strips; one thread."""
    # Two threads that wait for each other at every layer measure what else the machine does.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _rows()
    finally:
        torch.set_num_threads(threads)


def _rows() -> Iterator[Row]:
    profile = get_profile("quick")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = open_source("phantom", generate_dataset(root / "phantom", n_patients=6, seed=0, size="small"))
        store = build_store(source, root / "store", profile.slice_size)
        rows = np.resize(np.arange(len(store)), STEPS * profile.batch_size)
        dataset = SliceDataset(store, rows, SCHEME, make_augment(profile.augment), profile.crop_columns)
        network = profile.networks[ARCHITECTURE]
        model = build_model(ARCHITECTURE, profile.in_channels, N_CLASSES, **network).train()
        model = model.to(memory_format=model.channels_last)
        optimizer, loss = torch.optim.AdamW(model.parameters(), fused=True), make_loss("dice_ce", N_CLASSES)
        images, masks = next(iter(DataLoader(dataset, batch_size=profile.batch_size)))
        images, masks = images.to(memory_format=model.channels_last), masks.long()

        def bare() -> None:
            for _ in range(STEPS):
                found = loss(model(images), masks)
                optimizer.zero_grad(set_to_none=True)
                found.backward()
                optimizer.step()

        def load() -> None:
            for batch in DataLoader(dataset, batch_size=profile.batch_size):
                batch[0].to(memory_format=model.channels_last), batch[1].long()

        size = "x".join(map(str, images.shape))
        row = compare(f"input of a training step, {size}", load, bare, "a bare U-Net's step", STEPS, ROUNDS, time.process_time)
        yield row
        assert row.ratio > 1 / MOST_OF_A_STEP, f"the input takes {1 / row.ratio:.1%} of a step"
        few = SliceDataset(store, np.arange(1), SCHEME)  # validation is no part of a step, and fit must have some
        config = TrainConfig(epochs=1, batch_size=profile.batch_size, optimizer="adamw", amp="off")  # as the bare step
        seconds: dict[str, list[float]] = {"fit": [], "bare": []}
        for number in range(ROUNDS + 1):
            fresh = build_model(ARCHITECTURE, profile.in_channels, N_CLASSES, **network)
            with redirect_stdout(StringIO()):
                result = fit(fresh, dataset, few, root / f"run-{number}", config, {"scheme": SCHEME}, device="cpu")
            start = time.perf_counter()
            bare()
            if number:
                seconds["fit"].append(float(result.history["seconds"].sum()) / STEPS)
                seconds["bare"].append((time.perf_counter() - start) / STEPS)
        yield Row(f"a step of the fit loop, {size}", *map(statistics.median, seconds.values()), "a bare U-Net's step")
