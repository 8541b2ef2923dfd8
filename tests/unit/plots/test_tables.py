"""What a set of data holds, counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.splits import make_split
from spider_utils.view import plots
from spider_utils.view.plots import tables


def test_intensity_histogram_bins_hold_equally_many_integers():
    image = np.arange(250, dtype=np.int16)  # each value once: every full bin must hold the same share
    ax = plots.intensity_histogram({"even": image}, bins=100).axes[0]
    heights = ax.patches[0].get_data().values
    assert len(set(heights[:-1].round(9))) == 1
    plots.intensity_histogram({"flat": np.full(5, 2.0), "float": np.linspace(0, 1, 50)})
    with pytest.raises(ValueError, match="at least one image"):
        plots.intensity_histogram({})


@pytest.fixture
def slices_table():
    rows = [
        {"patient": p, "case": f"{p}_{s}", "sequence": s, "slice": n}
        for p in range(1, 13)
        for s in (("t1", "t2") if p % 2 else ("t2",))
        for n in range(10)
    ]
    return pd.DataFrame(rows)


def test_split_diagram_of_a_split_by_patient_has_columns_of_one_colour(slices_table):
    split = make_split(slices_table, "kfold5")
    figure = plots.split_diagram(split, slices_table)
    ax = figure.axes[0]
    assert ax.get_title() == "split 'kfold5': 0 of 12 patients in more than one subset"
    colors = {}
    for bar in ax.patches:
        if bar.get_height():
            colors.setdefault(round(bar.get_x() + bar.get_width() / 2), set()).add(bar.get_facecolor())
    assert len(colors) == 12 and all(len(found) == 1 for found in colors.values())
    for text, subset in zip(figure.legends[0].get_texts(), ("train", "val", "test"), strict=True):
        rows = split.rows(subset, slices_table)
        assert text.get_text() == f"{subset}: {len(split.patients(subset))} patients, {len(rows)} slices"


def test_split_diagram_shows_the_leak(slices_table):
    figure = plots.split_diagram(make_split(slices_table, "leaky-slices"), slices_table)
    assert "12 of 12 patients in more than one subset" in figure.axes[0].get_title()
    bars = [bar for bar in figure.axes[0].patches if bar.get_height()]
    assert len(bars) > len(slices_table["case"].unique())
    assert sum(bar.get_height() for bar in bars) == pytest.approx(0.84 * 18)  # a full column a series


def test_gradings_heatmap_counts_discs():
    findings = dict.fromkeys(tables._FINDINGS, 0)
    rows = [{"Patient": p, "IVD label": level, "Pfirrman grade": 1 + level, **findings} for p in range(4) for level in (0, 1, 2)]
    table = pd.DataFrame(rows)
    table.loc[(table["IVD label"] == 1) & (table["Patient"] == 0), "Modic"] = 3
    figure = plots.gradings_heatmap(table)
    grades, found = (ax.images[0].get_array() for ax in figure.axes)
    assert grades.tolist() == [[0, 0, 4, 0, 0], [0, 4, 0, 0, 0]]  # L4/L5 above L5/S1; label 0 is no disc
    assert found[:, 0].tolist() == [0, 25]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["L4/L5  (n = 4)", "L5/S1  (n = 4)"]
    with pytest.raises(ValueError, match="Pfirrman grade"):
        plots.gradings_heatmap(table.drop(columns="Pfirrman grade"))
