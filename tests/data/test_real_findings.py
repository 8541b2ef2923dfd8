"""The ceiling that the challenge's own tables set."""

from __future__ import annotations

from pathlib import Path

import pytest

from spider_utils.data.rsna import labelled_points
from spider_utils.data.rsna_tables import read_tables
from spider_utils.findings import ceilings, printed_table31


@pytest.mark.real_data("rsna2024_sample")
def test_no_network_passes_these_accuracies_on_whole_slices(real_data: Path):
    points = labelled_points(read_tables(real_data / "rsna2024_sample"))
    found = ceilings(points).set_index("asked")
    assert len(points) == 48_774 and found["slices"].unique().tolist() == [24_526]
    assert found["highest"].round(3).tolist() == [0.889, 0.887, 0.615, 0.572]
    assert found.loc["level", "highest"] < printed_table31()["accuracy"].max() < found.loc["condition, with healthy", "highest"]
