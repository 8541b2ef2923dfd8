"""Find data sets among what somebody attached to a rented machine, and give each the place where notebooks look for it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spider_utils.files import atomic_folder
from spider_utils.runtime import platform_name

INPUT_VARIABLE = "SPIDER_KIT_INPUT"
DRIVE = Path("/content/drive")
MAX_DEPTH = 7  # /kaggle/input/datasets/<owner>/<name>/<folder>/<folder>/images
MAX_FOLDERS = 5000  # of somebody's whole Drive; the nearest to the top are looked at
_SERIES = re.compile(r"^\d+_(t1|t2|t2_SPACE)\.mha$")
_SLICE = re.compile(r"^\d+_t2_SPACE_slice\d+\.png$")
_TABLES = ("overview.csv", "radiological_gradings.csv", "cases.csv")
_RSNA_MARKS = ("train_images", "train.csv")
_PHANTOM_MARK = "phantom.json"


@dataclass(frozen=True)
class FoundData:
    """A data set.

    Attributes:
        kind: "spider" or "spider-2d" (values of DATA), "rsna", or "phantom".
        root: the folder that holds all of it.
        images, masks: folders of files; equal to ``root`` for rsna.
    """

    kind: str
    root: Path
    images: Path
    masks: Path


def input_folders() -> list[Path]:
    """Where attached data lie: /kaggle/input, or the mounted Drive of Colab; or the folder that SPIDER_KIT_INPUT names."""
    if given := os.environ.get(INPUT_VARIABLE):
        return [Path(given)]
    return {"kaggle": [Path("/kaggle/input")], "colab": [DRIVE / "MyDrive"]}.get(platform_name(), [])


class Listed(NamedTuple):
    """A folder under ``top``: its path, the names of its folders and of its files."""

    top: Path
    path: Path
    folders: set[str]
    files: set[str]


def look_through(folders: list[Path]) -> list[Listed]:
    """Every folder under these: nearest first, not below the folders that hold data themselves."""
    return [one for top in folders for one in _listed(top)]


def _listed(top: Path) -> Iterator[Listed]:
    level, seen = [top], 0
    for _ in range(MAX_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > MAX_FOLDERS:
                return
            try:
                with os.scandir(folder) as entries:
                    kinds = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
            except OSError:  # no permission, or gone meanwhile
                continue
            folders = {name for name, is_folder in kinds.items() if is_folder}
            yield Listed(top, folder, folders, set(kinds) - folders)
            below += [folder / name for name in sorted(folders - {"train_images", "test_images"})]
        level = below


def find_wheels(listed: list[Listed]) -> Path | None:
    """The nearest folder that holds a wheel of the kit (see cloud.bundle), or None; ``listed`` is of look_through."""
    for one in listed:
        if any(name.startswith("spider_utils-") and name.endswith(".whl") for name in one.files):
            return one.path
    return None


def find_data(listed: list[Listed]) -> list[FoundData]:
    """Data sets of known layout in any folder of ``listed`` (of look_through), the nearest to the top first.

    SPIDER's archives unpack to images/ and masks/, and an upload may wrap each once more (images/images, masks/masks): the masks
    are looked for where every "images" of the path is "masks".
    """
    found: list[FoundData] = []
    for top, folder, inside, files in listed:
        if inside.union(files).issuperset(_RSNA_MARKS):
            found.append(FoundData("rsna", folder, folder, folder))
            continue
        patterns = {"spider": _SERIES, "spider-2d": _SLICE}
        kind = next((kind for kind, pattern in patterns.items() if any(map(pattern.match, files))), None)
        parts = folder.relative_to(top).parts
        if kind is None or "images" not in parts:
            continue
        root = top.joinpath(*parts[: parts.index("images")])
        masks = top.joinpath(*("masks" if part == "images" else part for part in parts))
        if masks.is_dir():
            kind = "phantom" if (root / _PHANTOM_MARK).is_file() else kind
            found.append(FoundData(kind, root, folder, masks))
    return found


def place_name(data: FoundData) -> str:
    """Name of the folder under data/ where a notebook looks for it: a phantom is named by its folder."""
    return data.root.name if data.kind == "phantom" else data.kind


def lay_out(found: list[FoundData], folder: Path) -> dict[str, FoundData]:
    """Give each found set its place by links, so that nothing is copied; of two of a name the first.

    Args:
        found: see find_data.
        folder: made anew.

    Returns:
        Name of a folder under ``folder`` -> what lies there: <name>/images, <name>/masks and the tables; rsna as a whole.
    """
    placed: dict[str, FoundData] = {}
    with atomic_folder(folder) as partial:
        for data in found:
            name = place_name(data)
            if name in placed:
                continue
            placed[name] = data
            if data.kind == "rsna":
                (partial / name).symlink_to(data.root.resolve(), target_is_directory=True)
                continue
            (partial / name).mkdir()
            for inside, target in (("images", data.images), ("masks", data.masks)):
                (partial / name / inside).symlink_to(target.resolve(), target_is_directory=True)
            for file in sorted(data.root.iterdir()):
                if file.name in _TABLES or (data.kind == "phantom" and file.suffix in (".csv", ".json")):
                    (partial / name / file.name).symlink_to(file.resolve())
    return placed
