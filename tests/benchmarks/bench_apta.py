"""APTA on whole arrays against notebook 02's loop over pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spider_utils.data.apta import apta
from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.scanner import render
from tests.benchmarks.timing import Row, compare
from tests.notebook_code import definitions


def run() -> Iterator[Row]:
    """Time both on the middle slice of a phantom's mask."""
    mask = render(make_anatomy(1), "t2", "UMC")[1].array
    shades = mask[len(mask) // 2].astype(np.uint8)
    (apta_by_pixel,) = definitions("02_preprocessing", "apta_by_pixel")
    assert np.array_equal(apta(shades), apta_by_pixel(shades))
    rows, columns = shades.shape
    name = f"APTA, one mask {rows}x{columns}"
    yield compare(name, lambda: apta(shades), lambda: apta_by_pixel(shades), "a loop over pixels", rounds=3)
