"""Pictures, training histories and ways to read a figure that the tests of figures share."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.view.plots import CourseFigure


@pytest.fixture
def picture():
    """A slice of 60 x 40 pixels with a vertebra (1), a canal (2) and a disc (3)."""
    image = np.random.default_rng(3).integers(0, 900, (60, 40)).astype(np.int16)
    mask = np.zeros((60, 40), np.uint8)
    mask[10:20, 5:20], mask[10:40, 25:30], mask[21:24, 5:20] = 1, 2, 3
    return image, mask


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "train_loss": [1.0, 0.6, 0.4, 0.3],
            "val_loss": [1.1, 0.7, 0.6, 0.7],
            "val_mean_iou": [0.2, 0.6, 0.6, 0.5],
            "learning_rate": [1e-3, 1e-3, 1e-3, 1e-4],
            "seconds": [1.0, 1.0, 1.0, 1.0],
        }
    )


def volume_of(array, spacing=(4.0, 0.5, 0.8)):
    return Volume(array, spacing, (0.0, 0.0, 0.0), kit_direction())


def axes_of(figure):
    return [ax for ax in figure.axes if ax.images or ax.lines or ax.patches or ax.collections]


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def rgb(figure, dpi=100):
    """The figure's pixels with the pixel box of its first axes: (rows, columns, 3) and (top, bottom, left, right)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, facecolor="white")
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    box = figure.axes[0].get_position()
    height, width = pixels.shape[:2]
    return pixels, (round((1 - box.y1) * height), round((1 - box.y0) * height), round(box.x0 * width), round(box.x1 * width))


def empty_figure():
    figure = CourseFigure(figsize=(4, 4))
    return figure, figure.subplots()
