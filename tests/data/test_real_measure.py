"""Measurements of real masks: nobody has measured them by hand, so they must lie where published sizes do, slice like volume."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from spider_utils.data.sources import open_source
from spider_utils.measure.levels import name_levels
from spider_utils.measure.report import measure

# Lowest and highest that adults are expected to have, with disease: Frobin 1997, Panjabi 1992, Been & Kalichman 2014.
RANGES = {
    "body height middle": (18, 34), "body depth": (26, 44), "disc height middle": (2, 19), "disc depth": (26, 46),
    "canal diameter": (5, 22), "canal diameter at the body": (6, 24), "disc angle": (-12, 25), "body wedge": (-16, 20),
    "slip": (-8, 12), "lordosis L1 to L5": (5, 65), "lordosis L1 to S1": (15, 80),
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(real_data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of twelve patients' released slices, every second pixel: the stack's measurements, and the middle slice's."""
    source = open_source("spider-2d", real_data / "spider_t2space_2d")
    stacks, slices = [], []
    for patient in (5, 18, 22, 50, 55, 57, 65, 98, 141, 162, 191, 220):
        mask = source.load(f"{patient}_t2_SPACE").mask
        spacing = (mask.spacing[0], 2 * mask.spacing[1], 2 * mask.spacing[2])
        named = name_levels(mask.array[:, ::2, ::2], spacing).mask
        stacks.append(measure(named, spacing).assign(patient=patient))
        slices.append(measure(named[len(named) // 2], spacing[1:]).assign(patient=patient))
    return tuple(
        (lambda table: table[table["label"].isin([*range(6), *range(201, 206)])])(pd.concat(parts, ignore_index=True))
        for parts in (stacks, slices)
    )


@pytest.mark.real_data("spider_t2space_2d")
def test_sizes_are_those_of_adults(tables):
    stacks = tables[0]
    for quantity, (low, high) in RANGES.items():
        rows = stacks[stacks["quantity"] == quantity]
        seen = rows[rows["status"] == "measured"]["value"]
        assert len(seen) >= 0.85 * len(rows), f"{quantity}: {len(seen)} of {len(rows)} measured"
        assert seen.between(low, high).mean() >= 0.93, f"{quantity}: {sorted(seen.round(1))}"


@pytest.mark.real_data("spider_t2space_2d")
def test_a_middle_slice_is_measured_like_its_stack(tables):
    both = tables[0].merge(tables[1], on=["patient", "label", "quantity"], suffixes=("", "_slice"))
    straight = both[~both["patient"].isin((18, 50))]  # a slice of a scoliotic spine is not mid-sagittal
    for quantity, most in (
        ("disc height middle", 0.8),
        ("body height middle", 0.8),
        ("canal diameter", 1.2),
        ("disc angle", 2.5),
    ):
        rows = straight[straight["quantity"] == quantity].dropna(subset=["value", "value_slice"])
        assert (rows["value"] - rows["value_slice"]).abs().median() < most, quantity
