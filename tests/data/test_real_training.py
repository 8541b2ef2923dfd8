"""Training on real slices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spider_utils.runtime import PROFILES
from spider_utils.workflow import Workspace

TINY = replace(PROFILES["smoke"], patients=10, slice_size=(32, 32), epochs=1, samples_per_epoch=16)


@pytest.mark.real_data("spider_t2space_2d")
def test_a_training_on_real_patients_may_start_from_one_on_made_up_ones(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    start = Workspace(TINY, "phantom", "", tmp_path).train()
    real = Workspace(TINY, "spider-2d", str(real_data / "spider_t2space_2d"), tmp_path)
    run = real.train(start_from=start, tag="from-phantom")
    assert run.card["starts_from"]["run"] == start.folder.name
