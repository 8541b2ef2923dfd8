"""From series to a slice store, against reading them at all, and against one PNG file a slice, the sources' way."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.slices import build_store
from spider_utils.data.sources import open_source
from spider_utils.runtime import cpu_count
from tests.benchmarks.timing import Row, compare

PATIENTS, SIZE = 3, (128, 128)  # the size is `medfusion`'s


def as_png(image_path: Path, mask_path: Path, folder: Path) -> None:
    """A series as `medfusion` prepares it: SimpleITK, DICOMOrient to RPI, sagittal slices of 128x128 as PNG, gray as RGB."""
    image, mask = (sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RPI")) for path in (image_path, mask_path))
    low, high = np.percentile(image, (0.5, 99.5))
    for index in range(image.shape[2]):
        shades = np.clip(255 * (image[:, :, index] - low) / (high - low), 0, 255).astype(np.uint8)
        name = f"{image_path.stem}_slice{index}.png"
        Image.fromarray(shades).resize(SIZE[::-1], Image.Resampling.BILINEAR).convert("RGB").save(folder / "images" / name)
        labels = Image.fromarray(mask[:, :, index].astype(np.uint8))
        labels.resize(SIZE[::-1], Image.Resampling.NEAREST).save(folder / "masks" / name)


def run() -> Iterator[Row]:
    """A few phantom patients at hospital voxel sizes: processor time, and the time that a user waits, on all cores there are."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = open_source("phantom", generate_dataset(root / "phantom", PATIENTS, seed=0))
        pairs = list(zip(source.cases["image"], source.cases["mask"], strict=True))

        def build() -> None:
            shutil.rmtree(root / "store", ignore_errors=True)
            build_store(source, root / "store", SIZE)

        def read() -> None:
            for path in (path for pair in pairs for path in pair):
                sitk.ReadImage(str(path))

        def write_pngs() -> None:
            shutil.rmtree(root / "png", ignore_errors=True)
            for kind in ("images", "masks"):
                (root / "png" / kind).mkdir(parents=True)
            for image, mask in pairs:
                as_png(image, mask, root / "png")

        name, clock = f"a series into the store, {SIZE[0]}x{SIZE[1]}", time.process_time
        yield compare(name, build, write_pngs, "PNG files, processor time", len(pairs), rounds=3, clock=clock)
        yield compare(name, build, read, "SimpleITK reads it, processor time", len(pairs), rounds=3, clock=clock)
        waited = f"the same, waited for on {cpu_count()} cores"
        yield compare(waited, build, read, "SimpleITK reads one after the other", len(pairs), rounds=7)
