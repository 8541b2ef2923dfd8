"""Where models disagree: the only pixels whose label can depend on the weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spider_utils.ensemble.lines import Counts
from spider_utils.models.network import top_class

CHUNK_VALUES = 1 << 24  # probabilities of all models held in memory at a time: 64 MB as float32
BLOCK_VALUES = 1 << 17  # scores of disputed pixels worked on at a time: 1 MB as float64, which caches hold
SUM_TOLERANCE = 0.02  # float16 maps of 20 classes miss 1 by up to about 0.01


def check_maps(probabilities: Sequence[np.ndarray], truth: np.ndarray, volumes: np.ndarray | None) -> np.ndarray:
    """The row of each slice's volume, 0..k-1, after a look at shapes and types.

    Raises:
        ValueError: fewer than two maps, shapes that do not fit together, a truth that holds no class or unknown classes.
    """
    if len(probabilities) < 2:
        raise ValueError(f"an ensemble needs at least two models, not {len(probabilities)}")
    shape = probabilities[0].shape
    for number, one in enumerate(probabilities):
        if one.ndim != 4 or one.shape != shape:
            raise ValueError(
                f"probabilities of model {number} have shape {one.shape}, those of model 0 {shape}; all must be "
                "(slices, classes, rows, columns) of the same slices"
            )
        if one.dtype.kind != "f":
            raise ValueError(f"probabilities of model {number} are {one.dtype}; give floating-point numbers, not labels")
    if truth.shape != (shape[0], *shape[2:]):
        raise ValueError(f"truth has shape {truth.shape}, but the probabilities are for {(shape[0], *shape[2:])}")
    if truth.dtype.kind not in "iu" or not truth.size or int(truth.min()) < 0 or int(truth.max()) >= shape[1]:
        raise ValueError(f"truth must hold classes 0 to {shape[1] - 1} as whole numbers")
    if volumes is None:
        return np.zeros(shape[0], np.int64)
    if len(volumes) != shape[0]:
        raise ValueError(f"volumes names {len(volumes)} slices, but there are {shape[0]}")
    return np.unique(np.asarray(volumes), return_inverse=True)[1].reshape(-1)


def chunks(probabilities: Sequence[np.ndarray]) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """A few slices at a time: which, and every model's float32 probabilities of them.

    Raises:
        ValueError: values that are not finite, negative, or do not sum to 1 over the classes.
    """
    at_once = max(1, CHUNK_VALUES // (len(probabilities) * probabilities[0][0].size))
    for start in range(0, len(probabilities[0]), at_once):
        part = slice(start, start + at_once)
        blocks = [np.require(one[part], np.float32, ["C", "W"]) for one in probabilities]  # as torch wants it; copied if it must
        for number, block in enumerate(blocks):
            values = torch.from_numpy(block)  # looks through large arrays on all cores
            low, high = values.sum(dim=1).aminmax()  # NaN and infinity do not sum to 1 either
            if not (low >= 1 - SUM_TOLERANCE and high <= 1 + SUM_TOLERANCE) or values.min() < -SUM_TOLERANCE:
                raise ValueError(
                    f"model {number}, slices {start} to {start + len(block) - 1}: class probabilities must be finite, not "
                    "negative, and sum to 1 in every pixel; give the softmax, not scores or labels"
                )
        yield part, blocks


@dataclass(frozen=True)
class Disputed:
    """Pixels whose label depends on the weights, and the counts of all others.

    Attributes:
        scores: float16 or float32 (pixels, models, classes), every model's probabilities, or votes; in a temporary file, mapped
            into memory.
        truth, volume: int32 (pixels,), true class and row of the volume.
        agreed: counts of the pixels that are not here; its ``true`` counts all pixels.
    """

    scores: np.ndarray
    truth: np.ndarray
    volume: np.ndarray
    agreed: Counts

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Some pixels at a time: which, and their scores as float64."""
        at_once = max(1, BLOCK_VALUES // self.scores[0].size) if len(self.scores) else 1
        for start in range(0, len(self.scores), at_once):
            part = slice(start, start + at_once)
            yield part, self.scores[part].astype(np.float64)


def find_disputed(
    probabilities: Sequence[np.ndarray],
    truth: np.ndarray,
    volumes: np.ndarray | None = None,
    votes: bool = False,
    by_class: bool = False,
) -> Disputed:
    """Sort the pixels into those whose label is settled whatever the weights, and those in dispute.

    Where all models put the same class on top, every weighted average does.

    Args:
        probabilities: of each model, (slices, classes, rows, columns), floating point, sums of 1; may be memory-mapped.
        truth: integer (slices, rows, columns).
        volumes: which volume each slice belongs to; None takes all slices as one.
        votes: keep only each model's top class, as 1, instead of its probabilities.
        by_class: weights may differ between classes, so a pixel is settled only when the top class beats every other even if
            the weights favour them.

    Raises:
        ValueError: see check_maps and chunks.
    """
    rows = check_maps(probabilities, truth, volumes)
    n_models, n_classes = len(probabilities), probabilities[0].shape[1]
    n_volumes = int(rows.max()) + 1
    everything, in_dispute = (np.zeros(n_volumes * n_classes * n_classes, np.int64) for _ in range(2))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    n_kept, dtype = 0, np.float16 if all(one.dtype == np.float16 for one in probabilities) else np.float32
    with tempfile.TemporaryFile() as store:
        for part, blocks in chunks(probabilities):
            labels = [top_class(block) for block in blocks]
            same = np.logical_and.reduce([label == labels[0] for label in labels[1:]])
            if by_class:
                same &= _beats_all(blocks, labels[0])
            where = np.nonzero(~same)
            cells = rows[part, None, None] * n_classes + truth[part]
            cells *= n_classes
            cells += labels[0]
            everything += np.bincount(cells.reshape(-1), minlength=len(everything))
            in_dispute += np.bincount(cells[where], minlength=len(everything))
            if votes:
                scores = np.stack([np.eye(n_classes, dtype=dtype)[label[where]] for label in labels], axis=1)
            else:
                scores = np.stack([block[where[0], :, where[1], where[2]] for block in blocks], axis=1).astype(dtype)
            store.write(scores.tobytes())
            kept.append((truth[part][where].astype(np.int32), rows[part][where[0]].astype(np.int32)))
            n_kept += len(scores)
        store.flush()
        shape = (n_kept, n_models, n_classes)
        scores = np.memmap(store, dtype, "r", shape=shape) if n_kept else np.zeros(shape, dtype)
    everything, in_dispute = (one.reshape(n_volumes, n_classes, n_classes) for one in (everything, in_dispute))
    settled = everything - in_dispute
    agreed = Counts(np.diagonal(settled, axis1=1, axis2=2).copy(), settled.sum(axis=1), everything.sum(axis=2))
    return Disputed(scores, *(np.concatenate([one[k] for one in kept]) for k in range(2)), agreed)


def _beats_all(blocks: list[np.ndarray], top: np.ndarray) -> np.ndarray:
    """Where the least probability that any model gives to class ``top`` is above the greatest that any gives to another."""
    least, greatest = np.minimum.reduce(blocks), np.maximum.reduce(blocks)
    own = np.take_along_axis(least, top[:, None], axis=1)[:, 0]
    np.put_along_axis(greatest, top[:, None], -np.inf, axis=1)
    return own > greatest.max(axis=1)
