"""Figures of measurements show the points, bias, limits and lines that were worked out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.volumes import Volume
from spider_utils.evaluation.agreement import agreement
from spider_utils.measure.marks import Mark
from spider_utils.view.measure_plots import bland_altman, marked_slice


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
    assert ax.get_ylabel() == "measured \N{MINUS SIGN} true (mm)" and f"{found.bias:+.2f}" in figure.caption


def test_a_quantity_without_values_is_refused(table):
    with pytest.raises(ValueError, match="two pairs"):
        bland_altman(table, {"no such": "mm"})


def test_marks_lie_on_the_slice_that_most_are_next_to():
    array = np.zeros((7, 100, 90), np.int16)
    array[3] = 50
    image = Volume(array, (4.0, 0.5, 0.8), (0.0, 0.0, 0.0), np.eye(3))
    lines = [
        Mark("L4", "endplate", np.array([[12.0, 20.0, 24.0], [12.4, 20.0, 56.0]])),
        Mark("L4/L5", "disc height middle", np.array([[11.5, 20.0, 40.0], [11.5, 30.0, 40.0]])),
        Mark("L4/L5", "canal diameter", np.array([[13.0, 25.0, 58.0], [13.0, 25.0, 70.0]])),
    ]
    figure = marked_slice(image, lines, "A patient", {"top of the hernia": (12.0, 26.0, 60.0)})
    ax = figure.axes[1]
    assert len(figure.axes) == 2 and "slice 3" in figure.caption and ax.images[0].get_array().max() == 50
    # What is shown begins 22 mm before the marks, in whole pixels: row 0 (there is no more), column 2.
    ends = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert ends["disc height"] == pytest.approx(np.array([[48, 40], [48, 60]])) and len(figure.axes[0].lines) < len(ax.lines)
    assert ends["canal diameter"][:, 0] == pytest.approx([70.5, 85.5])
    assert ends["top of the hernia"][0] == pytest.approx([73, 52])
    assert [text.get_text() for text in ax.texts].count("L4/L5") == 1
    # The slice of the point, with borders that lie half a pixel outside of what they enclose.
    drawn = np.zeros(array.shape, np.uint8)
    drawn[5, 30:40, 40:50] = 202
    figure = marked_slice(image, lines, points_mm={"top": (20.2, 26.0, 60.0)}, outlines={"predicted": drawn, "true": drawn})
    (first, second) = figure.axes[1].collections
    assert "slice 5" in figure.caption and first.get_paths()[0].get_extents().bounds == pytest.approx((37.5, 29.5, 10, 10))
    assert first.get_linestyle() != second.get_linestyle()
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["predicted", "true"]
    with pytest.raises(ValueError, match="nothing to mark"):
        marked_slice(image, [])
    with pytest.raises(ValueError, match="'predicted' of shape"):
        marked_slice(image, lines, outlines={"predicted": drawn[0]})
