"""Slices side by side, three planes, fields of view."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.view import plots
from spider_utils.view.plots import PLANES
from tests.unit.plots.conftest import texts_of, volume_of


def test_contact_sheet_shows_every_slice_with_its_title(picture):
    image, mask = picture
    slices = [(image, mask if i else None, (0.7, 0.9), f"slice {i}") for i in range(5)]
    figure = plots.contact_sheet(slices, columns=3)
    assert [ax.get_title() for ax in figure.axes] == [f"slice {i}" for i in range(5)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vertebra", "spinal canal", "disc"]
    assert "slice 4" in figure.caption
    with pytest.raises(ValueError, match="at least one slice"):
        plots.contact_sheet([])


def test_three_planes_cross_at_the_point():
    array = np.random.default_rng(0).integers(0, 100, (6, 20, 30)).astype(np.uint8)
    mask = np.zeros_like(array)
    mask[1:4, 4:12, 8:16] = 1
    figure = plots.three_planes(volume_of(array), volume_of(mask), scheme="structures4")
    assert [ax.get_title() for ax in figure.axes] == ["sagittal", "coronal", "axial"]
    point = (2, 8, 12)  # the middle of the labelled box
    for ax, name in zip(figure.axes, PLANES, strict=True):
        horizontal, vertical = ax.lines[-2:]
        assert (horizontal.get_ydata()[0], vertical.get_xdata()[0]) == PLANES[name].place(point, array.shape)
        assert np.array_equal(ax.images[0].get_array(), PLANES[name].cut(array, point[PLANES[name].axis]))
        assert tuple(texts_of(ax)[:4]) == tuple(PLANES[name].letters)
    plots.three_planes(volume_of(array), None, (0, 0, 0))
    with pytest.raises(ValueError, match="outside the volume"):
        plots.three_planes(volume_of(array), None, (6, 0, 0))
    with pytest.raises(ValueError, match="the mask has shape"):
        plots.three_planes(volume_of(array), volume_of(mask[1:]))


def test_receptive_field_boxes_have_their_size_in_mm(picture):
    figure = plots.receptive_field_on_slice(picture[0], (0.5, 2.0), {"U-Net": 10, "all": (100, 200)}, center=(30, 12))
    first, second = figure.axes[0].patches
    assert (first.get_height() * 0.5, first.get_width() * 2.0) == (10, 10)
    assert (first.get_y() + first.get_height() / 2, first.get_x() + first.get_width() / 2) == (30, 12)
    assert "larger than the slice" not in first.get_label() and "larger than the slice" in second.get_label()
    with pytest.raises(ValueError, match="positive size"):
        plots.receptive_field_on_slice(picture[0], (1, 1), {"none": 0})
