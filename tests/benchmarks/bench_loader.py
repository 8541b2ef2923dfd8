"""Batches from the slice store against one PNG file an item, the way that the sources load their data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.slices import SliceDataset, build_store, export_png
from spider_utils.data.sources import open_source
from tests.benchmarks.timing import Row, compare

SIZE = (160, 128)


class PngSlices(Dataset):
    """Reads an image and a mask file for every item."""

    def __init__(self, folder: Path):
        self.images = sorted((folder / "images").iterdir())
        self.masks = [folder / "masks" / path.name for path in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = np.array(Image.open(self.images[index]), dtype=np.float32) / 255
        mask = np.array(Image.open(self.masks[index]), dtype=np.int64)
        return torch.from_numpy(image)[None], torch.from_numpy(mask)


def run() -> Iterator[Row]:
    """Time a pass over all slices of a small phantom set, without augmentation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate_dataset(root / "phantom", n_patients=6, seed=0, size="small")
        store = build_store(open_source("phantom", root / "phantom"), root / "store", SIZE)
        export_png(store, root / "png", "structures4", color_masks=False)
        ours, peer = SliceDataset(store, np.arange(len(store)), "structures4"), PngSlices(root / "png")
        yield compare(
            f"load a slice {SIZE[0]}x{SIZE[1]}, batch 16",
            lambda: [None for _ in DataLoader(ours, batch_size=16)],
            lambda: [None for _ in DataLoader(peer, batch_size=16)],
            "a PNG file an item",
            items=len(store),
        )
