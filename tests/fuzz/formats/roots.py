"""Data roots: the layouts of SPIDER and of the released slices, with one or two files spoilt."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
from PIL import Image

from spider_utils.data.gradings import FINDINGS
from spider_utils.data.sources import open_source
from spider_utils.data.verify import verify
from spider_utils.data.volumes import Volume, kit_direction, write_volume
from tests.fuzz.checks import check_mask, check_volume
from tests.fuzz.formats.tables import spoil_table
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import ODD_TEXTS, spoil_bytes

_NAMES = (
    "1_t3.mha",
    "x.mha",
    "1_t1 (1).mha",
    "-1_t1.mha",
    "99999999999999999999_t1.mha",
    "١_t1.mha",
    "1_t1.MHA",
    "1_T1.mha",
    ".1_t1.mha",
)


def whole(folder: Path) -> Path:
    """Both layouts: two patients with volumes, two with slices."""
    random = np.random.default_rng(0)
    spider, released = folder / "spider", folder / "spider-2d"
    for patient in (1, 2):
        image = Volume(random.integers(0, 900, (3, 8, 6)).astype(np.int16), (3.3, 1.1, 0.9), (0.0, 0.0, 0.0), kit_direction())
        mask = image.with_array(random.choice([0, 1, 2, 100, 201], (3, 8, 6)).astype(np.uint8))
        write_volume(image, spider / "images" / f"{patient}_t1.mha")
        write_volume(mask, spider / "masks" / f"{patient}_t1.mha")
    (spider / "overview.csv").write_text("new_file_name,subset\n1_t1,training\n2_t1,validation\n")
    grades = pd.DataFrame({"Patient": [1, 1, 2], "IVD label": [1, 2, 1], **{name: 1 for name in FINDINGS}})
    grades.to_csv(spider / "radiological_gradings.csv", index=False)
    for name in ("images", "masks"):
        (released / name).mkdir(parents=True)
    for patient in (5, 81):
        for number in (1, 2):
            file = f"{patient}_t2_SPACE_slice{number}.png"
            Image.fromarray(random.integers(0, 255, (12, 10), dtype=np.uint8)).save(released / "images" / file)
            Image.fromarray(random.choice([0, 29, 76, 150], (12, 10)).astype(np.uint8)).save(released / "masks" / file)
    (released / "cases.csv").write_text("patient,width,height,native_width,native_height\n5,10,12,10,12\n81,10,12,10,11\n")
    (folder / "odd").mkdir()
    return folder


def spoil(random: Random, folder: Path, whole: Path) -> dict[str, Call]:
    """A copy of one of the layouts with one or two files changed."""
    kind = random.choice(("spider", "spider-2d"))
    root = Path(shutil.copytree(whole / kind, folder / "root"))
    for path in random.sample(sorted(p for p in root.rglob("*") if p.is_file()), random.choice((1, 1, 2))):
        way = random.random()
        if path.suffix == ".csv" and way < 0.85:
            path.write_bytes(spoil_table(random, [line.split(",") for line in path.read_text().splitlines()]))
        elif way < 0.5:
            path.write_bytes(spoil_bytes(random, path.read_bytes()))
        elif way < 0.6:
            path.unlink()
        elif way < 0.75:
            path.rename(path.with_name(random.choice(_NAMES)))
        elif way < 0.8:
            path.unlink()
            path.mkdir()
        elif way < 0.85:
            path.unlink()
            path.symlink_to(folder / "nowhere")
        else:
            name = random.choice(ODD_TEXTS)[:200].replace("/", "_").replace("\0", "_") + path.suffix
            (path.parent / name).write_bytes(path.read_bytes())

    def loaded(out: Path) -> None:
        source = open_source(kind, root)
        demand(len(source.cases) > 0 and len(source.state()) == 16, "no case")
        for case in source.cases["case"]:
            one = source.load(case)
            check_volume(one.image)
            check_mask(one.mask)

    def verified(out: Path) -> None:
        demand(all(str(one).isprintable() for one in verify(None, root)), "a finding that no terminal should be sent")

    return {"open_source": loaded, "verify": verified}
