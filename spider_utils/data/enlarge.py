"""The image set of `medfusion` (section 4.3): one slice a series, multiplied by augmented copies; only then is it split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.augment import item_seed, make_augment
from spider_utils.data.slices import SliceStore, write_store
from spider_utils.data.stores import is_store
from spider_utils.errors import KitError
from spider_utils.files import fingerprint
from spider_utils.locks import make_once

_VERSION = 1  # raised whenever the same settings give other images


def middle_slices(table: pd.DataFrame) -> np.ndarray:
    """Row numbers of the middle slice of each series: what "447 images" of 447 series can mean.

    Args:
        table: of a slice store.
    """
    rows = pd.Series(np.arange(len(table)))
    return rows.groupby(table["case"].to_numpy(), sort=False).apply(lambda one: one.iloc[len(one) // 2]).to_numpy()


def enlarge_store(store: SliceStore, n_images: int, augment: str, folder: str | Path, seed: int = 0) -> SliceStore:
    """The middle slice of each series and augmented copies of them, as a slice store of its own.

    `medfusion` has 447 images and makes 3535 of them. Nothing says that copies were kept on one side of the split; as a store
    of images they can be split either way, so that the difference can be measured. Every step of a pipeline happens by chance,
    so a few copies may equal their original.

    Args:
        store: all slices.
        n_images: images in all, originals among them.
        augment: name of the pipeline that makes copies (see make_augment).
        folder: of the new store.
        seed: of the augmentation.

    Returns:
        A store in which ``slice`` numbers the images of a series: 0 is the original, 1, 2, ... are its copies. A column
        ``from_slice`` says where in the series the original lies.

    Raises:
        KitError: fewer images than there are series, or an augmentation that changes nothing.
    """
    rows, pipeline, folder = middle_slices(store.table), make_augment(augment), Path(folder)
    if n_images < len(rows) or pipeline is None:
        raise KitError(f"{len(rows)} series cannot be enlarged to {n_images} images by augmentation '{augment}'")
    key = fingerprint([_VERSION, store.key, n_images, augment, seed])

    def write() -> None:
        which, copy = np.arange(n_images) % len(rows), np.arange(n_images) // len(rows)
        images, masks = np.array(store.images[rows])[which], np.array(store.masks[rows])[which]
        for i in np.flatnonzero(copy):
            images[i], masks[i] = pipeline(images[i], masks[i], item_seed(seed, copy[i], rows[which[i]]))
        table = store.table.iloc[rows[which]].reset_index(drop=True)
        table = table.assign(
            from_slice=table["slice"],
            slice=copy,
            labels=[len(np.unique(mask)) - 1 for mask in masks],
            labelled=(masks > 0).mean(axis=(1, 2)).round(5),
        )
        write_store(folder, [(images, masks, table)], store.kind, store.scheme, key)

    make_once(folder, lambda: is_store(folder, key), write)
    return SliceStore.open(folder)
