"""A network that knows the answer, for tests of what happens around networks; and a spine of boxes whose sizes are plain.

Run as a script (``python -m tests.known_labels PORT SECONDS TRUTH SCHEME [TRUTH SCHEME ...]``) it serves the page for a scan with
such a network.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spider_utils.data.volumes import Volume, kit_direction, read_mask
from spider_utils.labels import convert
from spider_utils.predict import Track, VolumePredictor

SPACING = (4.0, 0.9, 1.3)
BODY_ROWS, DISC_ROWS, LEVELS, SLICES = 24, 8, 4, 5
FIRST_ROW, FRONT, BACK = 20, 20, 44  # of the highest body; columns of bodies and discs
CANAL = slice(46, 54)
GRAY = {0: 20, 1: 120, 2: 250, 3: 200}  # structures4 -> gray value in the image


@dataclass
class KnownLabels(VolumePredictor):
    """Gives the mask that it is told, in ``scheme``: ``truth`` makes it from the image's voxels. Each slice takes its time."""

    scheme: str
    truth: Callable[[np.ndarray], np.ndarray]
    seconds_a_slice: float = 0.0

    def _drawn(self, volume: Volume, track: Track | None) -> Volume:
        mask = self.truth(volume.array)
        return volume.with_array(np.stack(list(track(self._one_by_one(mask), len(mask)))) if track else mask)

    def _one_by_one(self, mask: np.ndarray) -> Iterator[np.ndarray]:
        for one in mask:
            time.sleep(self.seconds_a_slice)
            yield one


def by_gray(array: np.ndarray) -> np.ndarray:
    """The classes of a box spine's image."""
    return np.sum([value * (array == gray) for value, gray in GRAY.items()], axis=0).astype(np.uint8)


def box_spine() -> tuple[Volume, np.ndarray]:
    """Four bodies of 21.6 mm and five discs of 7.2 mm, 31.2 mm deep, upright, before a canal of 10.4 mm: image and classes."""
    classes = np.zeros((SLICES, 200, 90), np.uint8)
    row = FIRST_ROW - DISC_ROWS
    for kind, rows in [(3, DISC_ROWS), (1, BODY_ROWS)] * LEVELS + [(3, DISC_ROWS)]:
        classes[1:4, row : row + rows, FRONT:BACK] = kind
        row += rows
    classes[1:4, 5:195, CANAL] = 2
    for top in range(FIRST_ROW, row, BODY_ROWS + DISC_ROWS):  # spinous processes
        classes[1:4, top + 10 : top + 20, CANAL.stop : CANAL.stop + 14] = 1
    image = np.vectorize(GRAY.get, otypes=[np.uint8])(classes)
    return Volume(image, SPACING, (-8.0, 30.0, 100.0), kit_direction()), classes


def make_run(home: Path, name: str, scheme: str, **card: object) -> Path:
    """A folder under runs/ that looks like a finished run; its weights are empty."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    described = {"architecture": "unet", "in_channels": 1, "n_classes": 4, "options": {}, "scheme": scheme, "size": [32, 32]}
    described |= {"data": {"kind": "phantom"}, "split": {"name": "kfold5"}} | card
    (folder / "model.json").write_text(json.dumps(described))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def serve(port: int, seconds_a_slice: float, truths: list[tuple[Path, str]]) -> None:
    """The page for a scan, as ``spider-kit app`` serves it, with a network that answers with the classes of mask files.

    Args:
        port: of the page.
        seconds_a_slice: what the network takes.
        truths: masks and their schemes; which of them is the answer, the shape of the image decides. For all other shapes the
            network fails, as one with a mistake in it would.
    """
    import spider_utils.predict
    from spider_utils.cli.page import app

    masks = [convert(read_mask(path).array, scheme, "structures4") for path, scheme in truths]
    answers = {mask.shape: mask for mask in masks}
    network = KnownLabels("structures4", lambda array: answers[array.shape], seconds_a_slice)
    spider_utils.predict.load_predictor = lambda folder: network
    app(port=port)


if __name__ == "__main__":
    paths, schemes = map(Path, sys.argv[3::2]), sys.argv[4::2]
    serve(int(sys.argv[1]), float(sys.argv[2]), list(zip(paths, schemes, strict=True)))
