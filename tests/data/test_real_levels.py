"""Levels on real masks: instances of four groups reduced to one class and numbered again, and SPIDER's own counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spider_utils.data.sources import open_source
from spider_utils.data.volumes import read_mask
from spider_utils.measure.levels import name_levels


def renumbered(instances: np.ndarray, mask: np.ndarray) -> dict[int, int]:
    """Instance -> the value that most of its voxels have in ``mask``."""
    return {int(i): int(np.bincount(mask[instances == i]).argmax()) for i in np.unique(instances) if i}


@pytest.mark.real_data("chu2015_t2_3d")
@pytest.mark.parametrize("case", ["01", "02", "05", "08", "12"])
def test_vertebral_bodies_of_chu(real_data: Path, case: str):
    truth = read_mask(real_data / "chu2015_t2_3d" / f"case{case}_instances.mha", orientation="PIR")
    result = name_levels(truth.array > 0, truth.spacing, "vertebrae")
    assert np.array_equal(result.mask, truth.array)
    assert not len(result.dropped) and 33 < result.gap_mm < 42


@pytest.mark.real_data("isotropic_3d")
@pytest.mark.parametrize("case", ["11", "46"])
def test_discs_of_the_isotropic_set(real_data: Path, case: str):
    truth = read_mask(real_data / "isotropic_3d" / f"IVD_{case}_mask.mha", orientation="PIR")
    result = name_levels(truth.array > 0, truth.spacing, "discs")
    assert np.array_equal(result.mask, np.where(truth.array > 0, truth.array + 200, 0))


@pytest.mark.real_data("isotropic_3d")
@pytest.mark.parametrize(
    ("case", "upward"),
    # The set's own numbers follow no order. Its first case holds S1 as instance 4, below a slipped L5: SPIDER numbers no sacrum.
    [("VB1_15", {4: 0, 5: 1, 2: 2, 3: 3, 1: 4, 6: 5, 7: 6}), ("VB3_01", {5: 1, 4: 2, 3: 3, 2: 4, 1: 5})],
)
def test_vertebral_bodies_of_the_isotropic_set(real_data: Path, case: str, upward: dict[int, int]):
    truth = read_mask(real_data / "isotropic_3d" / f"VBs_{case}_mask.mha", orientation="PIR")
    result = name_levels(truth.array > 0, truth.spacing, "vertebrae")
    assert renumbered(truth.array, result.mask) == upward
    assert result.dropped["reason"].tolist() == (["piece of the sacrum"] if 0 in upward.values() else [])


@pytest.mark.real_data("tptbox_crop_3d")
def test_a_crop_of_three_vertebrae_counts_from_its_own_lowest(real_data: Path):
    truth = read_mask(real_data / "tptbox_crop_3d" / "sub-mri_seg-vert_label-6_msk.nii.gz")
    # By their volume (13 and 16 cm3) 105 and 106 are the discs, and 205 to 207 the endplates, which are bone here.
    classes = np.where((truth.array > 100) & (truth.array < 200), 3, truth.array > 0).astype(np.uint8)
    result = name_levels(classes, truth.spacing)
    got = renumbered(truth.array, result.mask)
    assert {i: got[i] for i in (5, 6, 7)} == {7: 1, 6: 2, 5: 3}  # this set counts downward
    assert {i: got[i] for i in (105, 106)} == {106: 202, 105: 203}
    assert any("lower edge" in note for note in result.notes)


_COLOURS = {(255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3, (255, 255, 0): 4, (255, 0, 255): 5, (0, 255, 255): 6, (128,) * 3: 7}


@pytest.mark.real_data("spider_t1t2_vertebrae_2d")
def test_single_slices_with_bodies_in_view(real_data: Path):
    """36 single slices of vertebrae alone. They store no pixel size: 270 mm from top to bottom are taken for all."""
    seen, right_levels, levels = 0, 0, 0
    for path in sorted((real_data / "spider_t1t2_vertebrae_2d" / "masks").glob("*.png")):
        picture = np.asarray(Image.open(path).convert("RGB"))[::-1]  # stored upside down
        truth = np.zeros(picture.shape[:2], np.uint8)
        for colour, level in _COLOURS.items():
            truth[(picture == colour).all(axis=-1)] = level
        pixel = 270 / len(truth)
        area = np.bincount(truth.reshape(-1), minlength=8)[1:] * pixel**2
        if (area > 500).sum() < 4:
            continue  # at the side of the spine: processes, and less than four bodies
        seen += 1
        result = name_levels(truth > 0, (pixel, pixel), "vertebrae")
        for level, got in renumbered(truth, result.mask).items():
            if area[level - 1] > 100:  # smaller ones are what the upper edge leaves of a vertebra
                levels, right_levels = levels + 1, right_levels + (got == level)
    assert seen >= 14
    assert right_levels == levels, f"{right_levels} of {levels} vertebrae"


@pytest.mark.real_data("spider_t2space_2d", "spider_tables")
def test_as_many_discs_as_spider_counts(real_data: Path):
    """Stacks of the released slices: the highest disc is the one that SPIDER's overview.csv counts.

    A count cannot tell wrong numbers from right ones by itself, but one disc missed, doubled or taken from the sacrum shows.
    """
    source = open_source("spider-2d", real_data / "spider_t2space_2d")
    counted = pd.read_csv(real_data / "spider_tables" / "overview.csv").set_index("new_file_name")["num_discs"]
    differ = {}
    # Twelve of the thirty: with them are the scoliotic ones (18, 50), and squeezed ones (65, 141).
    for patient in (5, 18, 22, 50, 55, 57, 65, 98, 141, 162, 191, 220):
        mask = source.load(f"{patient}_t2_SPACE").mask
        # Every second pixel is enough to count.
        result = name_levels(mask.array[:, ::2, ::2], (mask.spacing[0], 2 * mask.spacing[1], 2 * mask.spacing[2]))
        discs = result.table.query("component == 'disc'")
        assert not (discs["flag"] == "filled gap").any()
        if discs["level"].max() != counted[f"{patient}_t2_SPACE"]:
            differ[patient] = (int(discs["level"].max()), int(counted[f"{patient}_t2_SPACE"]))
    # Patient 18's spine leaves the released slices at the top: its eighth disc is not in them.
    assert differ == {18: (7, 8)}
