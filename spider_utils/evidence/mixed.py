"""Real slices and phantoms in one set: levels from both, so that one network draws well near the middle and knows the sides.

The released slices say "vertebra" and "disc", not which one, and hold the middle of the spine alone. Which level is which
follows from their truth, counted from below as SPIDER does (measure.levels); the sides, where psoas, ribs and empty fields are
mistaken for a spine by networks that never saw them, come from phantoms, whose series are whole.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.phantom.dataset import phantom_facts
from spider_utils.data.sources import Source, open_source
from spider_utils.data.splits import Split
from spider_utils.data.volumes import Volume, write_volume
from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, fingerprint, read_json_object, write_json
from spider_utils.labels import get_scheme
from spider_utils.locks import make_once
from spider_utils.measure.levels import name_levels
from spider_utils.runtime import progress

FACTS_FILE = "mixed.json"
MOST_LOST = 0.02  # share of a class's voxels that may have no level: crumbs of an outline, not a disc
MADE_UP = 1000  # added to the numbers of made-up patients, lest one of them be taken for a real one
_VERSION = 1  # raised whenever the same sources give another set


@dataclass(frozen=True)
class MixedSet:
    """Real series whose levels are counted from their truth, beside as many made-up ones, in SPIDER's layout.

    Attributes:
        folder: images/<patient>_<sequence>.mha, masks/<same name>.mha in ``spider``; made-up patients have numbers above MADE_UP.
        real: whose series these are.
    """

    folder: Path
    real: Source

    def split(self, of_real: Split) -> Split:
        """A split of real patients with the made-up ones, who are there to learn from, in ``train``."""
        known = open_source("spider", self.folder).cases["patient"]
        made_up = pd.DataFrame({"patient": known[known > MADE_UP].unique(), "subset": "train"})
        table = pd.concat([of_real.table[["patient", "subset"]], made_up], ignore_index=True)
        return Split(f"{of_real.name}-mixed", of_real.seed, of_real.fold, table).check()


def mixed_set(real: Source, phantoms: Source, folder: str | Path) -> MixedSet:
    """Write the mixed set, or find it when it is there.

    Args:
        real: the released slices, or any other source in ``structures4``.
        phantoms: a set of made-up patients; of the first as many as there are real ones, one series each: T1 of one, T2 of the
            next, where they have both.
        folder: written beside, then renamed.

    Raises:
        DataError: a series cannot be read, has no level that could be told, or more than MOST_LOST of a class has none.
    """
    folder = Path(folder)
    key = fingerprint([_VERSION, real.state(), phantom_facts(phantoms.root)])

    def is_there() -> bool:
        return (folder / FACTS_FILE).is_file() and read_json_object(folder / FACTS_FILE).get("key") == key

    make_once(folder, is_there, lambda: _write(real, phantoms, folder, key))
    return MixedSet(folder, real)


def _write(real: Source, phantoms: Source, folder: Path, key: str) -> None:
    names, lost = real.cases["case"].tolist(), {}
    with atomic_folder(folder, marker=FACTS_FILE) as partial:
        images, masks = partial / "images", partial / "masks"
        images.mkdir()
        masks.mkdir()
        for name in progress(names, desc="naming levels of the truth"):
            case = real.load(name)
            try:
                levels = name_levels(case.mask.array, case.mask.spacing).mask
            except ValueError as error:
                raise DataError(case.mask.path, f"no level can be told ({error})", "Leave the patient out.") from error
            lost[name] = _lost(case.mask, levels)
            write_volume(case.image, images / f"{name}.mha")
            write_volume(case.mask.with_array(levels), masks / f"{name}.mha")
        series = phantoms.cases[phantoms.cases["sequence"] != "t2_SPACE"].groupby("patient", sort=True)
        for place, (patient, rows) in enumerate(list(series)[: len(names)]):
            row = rows.iloc[place % len(rows)]
            for source, to in ((row["image"], images), (row["mask"], masks)):
                shutil.copyfile(source, to / f"{MADE_UP + patient}_{row['sequence']}.mha")
        write_json(partial / FACTS_FILE, {"key": key, "voxels_without_level": {name: n for name, n in lost.items() if n}})


def _lost(truth: Volume, levels: np.ndarray) -> int:
    """How many labelled voxels have no level, and so become background. Raises DataError where these are more than crumbs."""
    for value, name in get_scheme("structures4").names.items():
        marked = truth.array == value
        without = int((levels[marked] == 0).sum()) if value else 0
        if without > MOST_LOST * marked.sum():
            raise DataError(
                truth.path, f"{without} voxels of {name} belong to no level", "Look at the mask, or leave the patient out."
            )
    return int(((truth.array > 0) & (levels == 0)).sum())
