"""Scores of a volume with all levels against MONAI's on the same masks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import monai
import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance, compute_surface_dice

from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.scanner import draw_protocols, render
from spider_utils.evaluation.metrics import measure_case
from spider_utils.labels import convert, get_scheme
from tests.benchmarks.timing import Row, compare

SHAPE, TOLERANCE_MM = (17, 512, 512), 1.0


def run() -> Iterator[Row]:
    """Dice, average surface distance, 95th percentile of the Hausdorff distance and surface Dice of every class, 3D."""
    anatomy = make_anatomy(1)
    protocol = replace(draw_protocols(anatomy, "UMC", ("t2",), 1)[0], shape=SHAPE)
    mask = render(anatomy, "t2", protocol)[1]
    truth = convert(mask.array, "spider", "levels20")
    prediction = np.roll(truth, (2, 1), axis=(1, 2))
    classes = [value for value in get_scheme("levels20").names if value]
    n_classes = len(classes)

    def ours() -> None:
        measure_case(truth, prediction, mask.spacing, classes, TOLERANCE_MM)

    def peer() -> None:
        values = torch.arange(n_classes + 1)[:, None, None, None]
        a, b = ((torch.from_numpy(labels)[None] == values)[None].to(torch.uint8) for labels in (prediction, truth))
        compute_dice(a, b, include_background=False)
        compute_average_surface_distance(a, b, symmetric=True, spacing=mask.spacing)
        compute_hausdorff_distance(a, b, percentile=95, spacing=mask.spacing)
        compute_surface_dice(a, b, [TOLERANCE_MM] * n_classes, spacing=mask.spacing)

    name = f"metrics, {'x'.join(map(str, SHAPE))}, {len(np.unique(truth)) - 1} of {n_classes} classes"
    yield compare(name, ours, peer, f"MONAI {monai.__version__}, processor time", rounds=1, clock=time.process_time)
