"""Figures of three planes and their fusion: colours say what was found, labels what was measured."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from spider_utils.data.discs import SACRAL_DISC
from spider_utils.ensemble.planes import FusionDesign, PlaneFusion
from spider_utils.models import build_model, parameter_count
from spider_utils.view import triplanar_plots


def color_at(ax, row, column):
    return to_hex(ax.images[1].get_array()[row, column]) if ax.images[1].get_array()[row, column, 3] else None


def test_found_voxels_have_the_colour_of_what_they_are():
    discs = np.zeros((100, 90), np.uint8)
    discs[30:33, 40:50], discs[50:53, 40:50], discs[60:63, 40:50] = 8, 7, SACRAL_DISC
    found = np.zeros(discs.shape, bool)
    found[30:33, 40:45], found[50:53, 40:47], found[40, 40], found[60, 40] = True, True, True, True
    figure = triplanar_plots.discs_found(np.zeros(discs.shape), (2.5, 2.0), discs, 7, {"a network": found})
    truth, answer = figure.axes
    top, left = 30 - 10, 40 - 12  # 25 mm around the discs
    assert truth.images[0].get_array().shape == (33 + 20, 10 + 24)
    labelled, unlabelled, wrong, missed = "#e69f00", "#cc79a7", "#d55e00", "#56b4e9"
    assert color_at(truth, 50 - top, 49 - left) == labelled
    assert color_at(truth, 30 - top, 49 - left) == color_at(truth, 60 - top, 49 - left) == unlabelled
    assert color_at(answer, 50 - top, 46 - left) == labelled and color_at(answer, 50 - top, 47 - left) == missed
    assert color_at(answer, 30 - top, 44 - left) == unlabelled and color_at(answer, 30 - top, 45 - left) is None
    assert color_at(answer, 40 - top, 40 - left) == wrong and color_at(answer, 60 - top, 40 - left) == unlabelled
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "labelled disc", "disc that nobody labelled", "called disc, but is none", "missed",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no disc in this slice"):
        triplanar_plots.discs_found(np.zeros((9, 9)), (1, 1), np.zeros((9, 9)), 7, {})


def test_tables_are_drawn_with_what_the_means_are_of():
    table = pd.DataFrame({"name": ["L5/S1"], "printed": [0.9], "mean": [0.8], "low": [0.7], "high": [0.85]})
    ax = triplanar_plots.printed_and_measured(table, "name", xlabel="Dice, mean over patients").axes[0]
    assert ax.get_xlabel() == "Dice, mean over patients" and ax.get_yticklabels()[0].get_text() == "L5/S1"


def test_the_ensemble_is_drawn_with_the_numbers_of_its_networks():
    network = build_model("dilated_unet", 3, 2, encoder="tu-test_resnet", decoder_channels=[16, 16, 12, 8])
    fusion = PlaneFusion(FusionDesign(kernel=5, hidden=4))
    figure = triplanar_plots.ensemble_diagram(network, fusion, (4, 6, 10))
    boxes = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert "volume\n3 contrasts\n4 x 6 x 10" in boxes
    assert {"sagittal\n4 slices\n6 x 10", "axial\n6 slices\n4 x 10", "coronal\n10 slices\n4 x 6"} <= set(boxes)
    parameters = f"{parameter_count(network):,} parameters"
    assert boxes.count(f"2D network\nencoder 32-32-48-192\ndecoder 16-16-12-8\n{parameters}") == 3
    assert "put together:\n3 probabilities\n3 positions\n= 6 channels" in boxes
    assert "conv 5 x 5 x 5\n6 to 4 channels\n3,004 parameters\nthen ReLU" in boxes  # 6 * 4 * 125 + 4
    assert "conv 5 x 5 x 5\n4 to 2 channels\n1,002 parameters" in boxes  # 4 * 2 * 125 + 2
    assert parameters in figure.caption and "4,006 parameters" in figure.caption


def test_a_fusion_of_one_layer_without_positions_is_drawn_as_such():
    network = build_model("dilated_unet", 1, 2, encoder="tu-test_resnet", decoder_channels=[16, 16, 12, 8])
    fusion = PlaneFusion(FusionDesign(kernel=1, hidden=0, positions=False))
    boxes = [text.get_text() for text in triplanar_plots.ensemble_diagram(network, fusion, (4, 6, 10)).axes[0].texts]
    assert "put together:\n3 probabilities\n= 3 channels" in boxes
    assert "conv 1 x 1 x 1\n3 to 2 channels\n8 parameters" in boxes and not any("ReLU" in text for text in boxes)


def test_networks_that_do_not_fit_the_fusion_are_not_drawn():
    network = build_model("dilated_unet", 3, 4, encoder="tu-test_resnet", decoder_channels=[16, 16, 12, 8])
    with pytest.raises(ValueError, match="two classes, not 4"):
        triplanar_plots.ensemble_diagram(network, PlaneFusion(FusionDesign()), (4, 6, 10))
