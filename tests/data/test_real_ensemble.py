"""Exact ensemble weights on what networks say of real slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spider_utils.ensemble import best_pair_weight
from spider_utils.runtime import PROFILES
from spider_utils.workflow import Workspace

TINY = replace(PROFILES["smoke"], epochs=2, samples_per_epoch=96)


@pytest.mark.real_data("spider_t2space_2d")
def test_twenty_thousand_weights_on_real_maps_to_the_last_count(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    workspace = Workspace(TINY, "spider-2d", str(real_data / "spider_t2space_2d"), tmp_path)
    found = [workspace.probabilities(workspace.train(name)) for name in ("unet", "deeplabv3")]
    shown = np.argsort([-(truth > 0).sum() for truth in found[0][1]], kind="stable")[:4]
    a, b = (np.asarray(probabilities[shown]) for probabilities, _, _ in found)
    truth = found[0][1][shown]
    assert (a.argmax(axis=1) != b.argmax(axis=1)).mean() > 0.01, "networks that agree leave nothing to search"
    best = best_pair_weight(a, b, truth)
    # A little off round numbers: half-precision maps tie exactly at some, and rounding would then choose the class.
    grid = np.linspace(3e-8, 1 - 4e-8, 20_001)
    # Classes last, so that the class on top is found along neighbouring numbers.
    flat = [np.moveaxis(one, 1, -1).reshape(-1, 4).astype(np.float64) for one in (a, b)]
    true = truth.reshape(-1)
    expected = np.empty(len(grid))
    for k, w in enumerate(grid):
        labels = (w * flat[0] + (1 - w) * flat[1]).argmax(axis=1)
        pairs = np.bincount(4 * true + labels, minlength=16).reshape(4, 4)
        said = (pairs.sum(axis=0) + pairs.sum(axis=1))[1:]
        dice = np.divide(2.0 * np.diagonal(pairs)[1:], said, out=np.full(3, np.nan), where=said > 0)
        expected[k] = np.nanmean(dice)
    np.testing.assert_allclose(best.at(grid), expected, rtol=0, atol=1e-12)
    assert best.score >= expected.max() - 1e-12
