"""Mend the lines of "canal" around discs in the released slices' masks.

In SPIDER's masks a disc is 201 and more, the canal 100 and background 0. Where such values are interpolated as if they were
amounts, as happens when a mask is resized like a picture, the border between a disc and background passes through 100: the disc
is lined with "canal". All seven patients whose slices the releasers squeezed have such lines, and three others.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from spider_utils.data.sources import Source
from spider_utils.errors import DataError, KitError
from spider_utils.files import atomic_folder, fingerprint, read_json_object, sha256_of, write_json
from spider_utils.labels import CANAL, DISC, convert
from spider_utils.runtime import progress

MENDED_FILE = "mended.json"
_VERSION = 1  # raised whenever the same masks come out otherwise
_NEIGHBOURS = np.ones((1, 3, 3), bool)  # of a slice, corners included


def disc_lines(truth: np.ndarray) -> np.ndarray:
    """Pieces of canal that touch a disc, or its corner, and are so thin that no square of 3 x 3 pixels fits into them.

    A canal that is cut so that it ends as thin as this beside a disc would be taken for a line; in the thirty released patients
    of known size none is: ten have 29 to 707 such pieces, the others none.

    Args:
        truth: uint8 of ``structures4``, (slices, rows, columns).

    Returns:
        int32 of the same shape: each piece with a number of its own from 1, slice by slice; 0 elsewhere.
    """
    canal = truth == CANAL
    in_slice = np.zeros((3, 3, 3), bool)
    in_slice[1] = True
    pieces, n = ndimage.label(canal, in_slice)
    is_line = np.zeros(n + 1, bool)
    is_line[pieces[ndimage.binary_dilation(truth == DISC, _NEIGHBOURS)]] = True
    is_line[pieces[ndimage.binary_erosion(canal, _NEIGHBOURS)]] = False
    is_line[0] = False
    numbers = np.where(is_line, np.cumsum(is_line), 0).astype(np.int32)
    return numbers[pieces]


def mend_lines(truth: np.ndarray) -> np.ndarray:
    """A copy of a mask of ``structures4`` (slices, rows, columns) whose ``disc_lines`` are background."""
    return np.where(disc_lines(truth) > 0, 0, truth).astype(truth.dtype)


def mended_key(source: Source) -> str:
    """What a mended copy depends on: the files it is made of, and the rule."""
    return fingerprint([_VERSION, source.state()])


def write_mended(source: Source, folder: str | Path) -> Path:
    """Write a copy of released slices in which masks with lines are mended; all other files are copied as they are.

    Args:
        source: of kind spider-2d.
        folder: written beside, then renamed. ``mended.json`` in it says what it was made of and how, and of each series what
            MendedSeries does.

    Raises:
        KitError: the source is of another kind.
        DataError: the source is a mended copy itself, a file cannot be read, or ``folder`` holds files of somebody else's.
    """
    if source.kind != "spider-2d":
        raise KitError(f"only masks of spider-2d are mended, not of '{source.kind}': they alone were resized like pictures")
    if (source.root / MENDED_FILE).exists():
        raise DataError(source.root, f"is a mended copy ({MENDED_FILE} lies in it)", "Use it as it is.")
    folder, key, found = Path(folder), mended_key(source), {}
    with atomic_folder(folder, marker=MENDED_FILE) as partial:
        for kind in ("images", "masks"):
            shutil.copytree(source.root / kind, partial / kind, ignore=shutil.ignore_patterns(".*"))
        if (source.root / "cases.csv").is_file():
            shutil.copyfile(source.root / "cases.csv", partial / "cases.csv")
        for row in progress(list(source.cases.itertuples()), desc="mending masks"):
            truth = source.load(row.case).mask.array
            lines = disc_lines(truth)
            sums = {}
            for (_, stem), one, line in zip(sorted(row.slices), truth, lines, strict=True):
                if line.any():
                    mended, path = convert(np.where(line > 0, 0, one), "structures4", "released_gray"), f"masks/{stem}.png"
                    Image.fromarray(mended).save(partial / path)
                    sums[path] = sha256_of(partial / path)
            if sums:
                found[row.case] = {"pieces": int(lines.max()), "pixels": int(np.count_nonzero(lines)), "sha256": sums}
        write_json(partial / MENDED_FILE, {"key": key, "canal_made_background": found})
    return folder


@dataclass(frozen=True)
class MendedSeries:
    """What was mended in a series.

    Attributes:
        pieces, pixels: of canal that became background.
        sha256: of each mask that was written anew, by its path from the copy's root.
    """

    pieces: int
    pixels: int
    sha256: dict[str, str]


def mended_series(root: str | Path) -> dict[str, MendedSeries]:
    """Series -> what was mended in a copy; empty for any other folder.

    Raises:
        DataError: mended.json cannot be read, or does not say so.
    """
    path = Path(root) / MENDED_FILE
    if not path.is_file():
        return {}
    try:
        found = {case: MendedSeries(**facts) for case, facts in read_json_object(path)["canal_made_background"].items()}
        if not all(isinstance(one.sha256, dict) for one in found.values()):
            raise TypeError("no checksums")
        return found
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(path, "does not say which series were mended", "Make the copy again: spider-kit data mend.") from error
