"""The Bland-Altman figure shows the points, bias and limits that were worked out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.evaluation.agreement import agreement
from spider_utils.view.measure_plots import bland_altman


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    truth = rng.uniform(5, 12, 40)
    rows = pd.DataFrame({"patient": np.repeat(range(8), 5), "quantity": "disc height middle", "truth": truth})
    rows["value"] = truth + 0.3 + rng.normal(0, 0.4, 40)
    rows.loc[3, "value"] = np.nan
    return pd.concat([rows, rows.assign(quantity="slip")], ignore_index=True)


def test_bias_limits_and_points(table):
    figure = bland_altman(table, {"disc height middle": "mm", "slip": "mm"}, "Phantoms")
    part = table[(table["quantity"] == "slip")].dropna()
    found = agreement(part["value"], part["truth"], part["patient"])
    ax = figure.axes[1]
    lines = [line.get_ydata()[0] for line in ax.lines]
    assert lines == pytest.approx([found.bias, found.low, found.high, 0])
    points = ax.collections[0].get_offsets()
    assert np.allclose(points[:, 1], part["value"] - part["truth"]) and len(points) == 39
    assert np.allclose(points[:, 0], (part["value"] + part["truth"]) / 2)
    assert any(text.get_text() == "39 values, 8 patients" for text in ax.texts)
    assert len(set(map(tuple, ax.collections[0].to_rgba(ax.collections[0].get_array())))) == 8
    assert ax.get_ylabel() == "measured - true [mm]" and f"{found.bias:+.2f}" in figure.caption


def test_a_quantity_without_values_is_refused(table):
    with pytest.raises(ValueError, match="two pairs"):
        bland_altman(table, {"no such": "mm"})
