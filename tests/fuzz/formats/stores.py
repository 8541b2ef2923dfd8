"""Slice stores, and the manifests of data sets."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd

from spider_utils.data.manifest import manifest_folder, read_manifest
from spider_utils.data.slices import SliceDataset, SliceStore, write_store
from tests.fuzz.formats.tables import spoil_table
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import spoil_bytes, spoil_json

Files = dict[str, bytes]


def whole(folder: Path) -> Files:
    """A store of six slices of two series, file by file."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "case": ["1_t1"] * 3 + ["2_t1"] * 3, "patient": [1] * 3 + [2] * 3, "sequence": "t1", "slice": [0, 1, 2] * 2,
            "subset": "",
            "pixel_mm": 1.0, "native_rows": 8, "native_columns": 6, "slice_mm": 4.0, "row_mm": 1.0, "column_mm": 1.0,
            "labels": 3, "labelled": 0.5,
        }
    )  # fmt: skip
    images, masks = (random.integers(0, top, (6, 8, 6), dtype=np.uint8) for top in (255, 4))
    write_store(folder / "store", [(images, masks, table)], "phantom", "structures4", "key")
    return {path.name: path.read_bytes() for path in (folder / "store").iterdir()}


def _array(random: Random, data: bytes) -> bytes:
    """An .npy file whose header says something else."""
    header = random.choice(
        (
            "{'descr': '|O', 'fortran_order': False, 'shape': (6, 8, 6)}",
            "{'descr': '|u1', 'fortran_order': True, 'shape': (6, 8, 6)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 8, 6)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (6, 2, 3)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': ()}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (288,)}", "__import__('os').system('touch opened')", "{}",
            "[" * 5000,
            "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 6, 8)}",
            "{'descr': '|V1', 'fortran_order': False, 'shape': (6, 8, 6)}",
        )
    )  # fmt: skip
    stream = io.BytesIO(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + data[128:])
    return stream.getvalue()


def spoil(random: Random, folder: Path, whole: Files) -> dict[str, Call]:
    """One file of a store, or a manifest."""
    if random.random() < 0.35:
        name = random.choice(("spider", "rsna", "phantom"))
        path = folder / f"{name}.json"
        path.write_bytes(spoil_json(random, json.loads((manifest_folder() / path.name).read_text())))

        def manifest(out: Path) -> None:
            found = read_manifest(path)
            demand(all("/" not in file.name and file.urls for file in found.files) and found.key == name, "an odd manifest")

        return {"read_manifest": manifest}
    store, files = folder / "store", dict(whole)
    store.mkdir()
    for name in sorted({random.choice(sorted(files)) for _ in range(random.choice((1, 1, 2)))}):
        if random.random() < 0.05:
            del files[name]
        elif name == "store.json":
            files[name] = spoil_json(random, json.loads(files[name]))
        elif name == "table.csv":
            files[name] = spoil_table(random, [line.split(",") for line in files[name].decode().splitlines()])
        else:
            files[name] = _array(random, files[name]) if random.random() < 0.6 else spoil_bytes(random, files[name])
    for name, data in files.items():
        (store / name).write_bytes(data)

    def served(out: Path) -> None:
        opened = SliceStore.open(store)
        dataset = SliceDataset(opened, np.arange(len(opened)))
        image, mask = dataset[0]
        demand(image.ndim == 3 and mask.ndim == 2 and len(repr(opened)) > 0, "odd slices")

    return {"SliceStore.open": served}
