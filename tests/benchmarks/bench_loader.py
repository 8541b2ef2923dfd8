"""Batches from the slice store against one PNG file an item, the way that the sources load their data, and against MONAI."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import monai
import numpy as np
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.slices import SliceDataset, build_store, export_png
from spider_utils.data.sources import open_source
from tests.benchmarks.timing import Row, compare

SIZE, BATCH = (160, 128), 16


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


def cached_slices(files: PngSlices) -> monai.data.CacheDataset:
    """The same slices in MONAI's cache: read and scaled once, then kept in memory, all of them."""
    keys = ["image", "mask"]
    steps = [LoadImaged(keys), EnsureChannelFirstd(keys), ScaleIntensityRanged("image", 0, 255, 0, 1)]
    items = [{"image": image, "mask": mask} for image, mask in zip(files.images, files.masks, strict=True)]
    return monai.data.CacheDataset(items, Compose(steps), progress=False)


def run() -> Iterator[Row]:
    """Time a pass over all slices of a small phantom set, without augmentation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate_dataset(root / "phantom", n_patients=6, seed=0, size="small")
        store = build_store(open_source("phantom", root / "phantom"), root / "store", SIZE)
        export_png(store, root / "png", "structures4", color_masks=False)
        ours, files = SliceDataset(store, np.arange(len(store)), "structures4"), PngSlices(root / "png")
        peers = {
            "a PNG file an item": DataLoader(files, batch_size=BATCH),
            f"MONAI {monai.__version__}'s CacheDataset, filled": monai.data.DataLoader(cached_slices(files), batch_size=BATCH),
        }
        for name, peer in peers.items():
            yield compare(
                f"load a slice {SIZE[0]}x{SIZE[1]}, batch {BATCH}",
                lambda: [None for _ in DataLoader(ours, batch_size=BATCH)],
                lambda loader=peer: [None for _ in loader],
                name,
                items=len(store),
            )
