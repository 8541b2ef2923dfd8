"""Profiles, seeds, devices, progress: the kit knows where it runs."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spider_utils import runtime
from spider_utils.errors import KitError
from spider_utils.models import VOLUME_ARCHITECTURES, available_models, build_model


def test_profiles_are_found_by_name():
    assert [runtime.get_profile(name).name for name in ("smoke", "quick", "paper")] == ["smoke", "quick", "paper"]
    with pytest.raises(KitError, match="unknown profile 'fast'. Known are: smoke, quick, paper"):
        runtime.get_profile("fast")
    changed = replace(runtime.get_profile("smoke"), epochs=5)
    assert changed.epochs == 5 and runtime.get_profile("smoke").epochs != 5


@pytest.mark.parametrize("profile", runtime.PROFILES.values(), ids=lambda p: p.name)
def test_profiles_have_options_for_every_architecture(profile):
    assert sorted([*profile.networks, *VOLUME_ARCHITECTURES]) == available_models()
    with torch.device("meta"):
        tokens = build_model("unetr", 1, 20, image_size=profile.volumes.size, **profile.volumes.options).tokens
    assert min(tokens[1:]) >= 2, "one token to a side has nothing to attend to"
    for architecture, options in profile.networks.items():
        model = build_model(architecture, 1, 4, **options)
        assert all(side % model.stride == 0 for side in (*profile.slice_size, profile.crop_columns or 0))


def test_the_paper_profile_is_the_sources():
    paper = runtime.get_profile("paper")
    assert (paper.patients, paper.slice_size) == (218, (128, 128))
    assert (paper.epochs, paper.batch_size, paper.learning_rate) == (50, 64, 1e-3)
    volumes = paper.volumes
    assert (volumes.size, volumes.batch_size, volumes.epochs * volumes.steps_per_epoch) == ((32, 128, 128), 18, 21_000)
    assert (volumes.optimizer, volumes.learning_rate, volumes.weight_decay) == ("adamw", 1e-4, 1e-5)
    assert volumes.loss == "monai_dice_ce" and volumes.options == {}, "the network's defaults are the source's"


def test_seeds_reach_all_three_generators():
    draws = []
    for seed in (3, 3, 4, 2**40):
        runtime.seed_everything(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    torch.use_deterministic_algorithms(False)
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))


def test_the_fastest_device_is_taken_and_missing_ones_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert runtime.pick_device() == runtime.pick_device("cpu") == "cpu"
    for wanted in ("cuda", "mps", "tpu"):
        with pytest.raises(KitError, match=f"device '{wanted}' is not available here. Use one of: auto, cpu"):
            runtime.pick_device(wanted)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.pick_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.pick_device() == "cuda"


def test_the_platform_is_told_by_its_variables(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert runtime.platform_name() == "local"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert runtime.platform_name() == "kaggle"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    assert runtime.platform_name() == "colab"


def test_the_projects_root_is_found_from_below(monkeypatch, tmp_path):
    monkeypatch.delenv("SPIDER_KIT_HOME", raising=False)
    (tmp_path / "data_manifest").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks" / "deep")
    assert runtime.project_root() == tmp_path
    monkeypatch.setenv("SPIDER_KIT_HOME", "elsewhere")
    assert runtime.project_root() == Path("elsewhere")


def test_data_lie_in_the_project_or_where_the_variable_says(monkeypatch, tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    monkeypatch.delenv("SPIDER_KIT_DATA", raising=False)
    assert runtime.data_folder(home, "spider") == home / "data" / "spider"
    (other / "spider").mkdir(parents=True)
    monkeypatch.setenv("SPIDER_KIT_DATA", f"{tmp_path / 'nothing'}{os.pathsep}{other}")
    assert runtime.data_folder(home, "spider") == other / "spider"
    assert runtime.data_folder(home, "spider-2d") == home / "data" / "spider-2d"
    (home / "data" / "spider").mkdir(parents=True)
    assert runtime.data_folder(home, "spider") == home / "data" / "spider", "the project's own come first"


def test_the_environment_report_names_what_is_missing(monkeypatch):
    lines = runtime.environment_report()
    assert any(line.startswith("Python 3.") for _, line in lines) and any("networks run on" in line for _, line in lines)
    assert all(fine for fine, line in lines if "torch" in line)
    monkeypatch.setitem(runtime.REQUIREMENTS, "no-such-package", "nothing")
    wrong = [line for fine, line in runtime.environment_report() if "no-such-package" in line and not fine]
    assert wrong == ["no-such-package is missing (nothing): run `make setup`, or pip install no-such-package"]


def test_missing_packages_are_named(monkeypatch):
    assert runtime.missing_packages() == []
    monkeypatch.setitem(runtime.REQUIREMENTS, "no-such-package", "nothing")
    assert runtime.missing_packages() == ["no-such-package"]


def test_the_environment_report_names_versions_that_the_kit_does_not_support(monkeypatch):
    assert runtime.supported_versions()["torch"].contains("2.4.0") and "ipywidgets" not in runtime.supported_versions()
    found = runtime.importlib.metadata.version
    old = {"albumentations": "1.3.1", "torch": "2.4.0+cu121"}
    monkeypatch.setattr(runtime.importlib.metadata, "version", lambda name: old.get(name) or found(name))
    lines = {line.split(" ")[0]: (fine, line) for fine, line in runtime.environment_report()}
    assert lines["albumentations"] == (False, "albumentations 1.3.1 (augmentation): the kit needs <2.1,>=2.0")
    assert lines["torch"][0], "a local build of a supported version"


def test_progress_prints_few_lines_when_headless(monkeypatch, capsys):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    assert list(runtime.progress(range(1000), "cutting")) == list(range(1000))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("cutting: 250/1000") and lines[-1].startswith("cutting: 1000 done")
    assert list(runtime.progress(iter("ab"), "reading")) == ["a", "b"]
    assert capsys.readouterr().out.startswith("reading: 2 done")
    assert list(runtime.progress([], "nothing")) == []


def test_progress_is_a_bar_for_a_person(monkeypatch, capsys):
    monkeypatch.setattr(runtime, "is_interactive", lambda: True)
    assert list(runtime.progress(range(3), "cutting")) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == "" and "cutting" in captured.err


def test_cores_are_the_share_that_a_workflow_gives(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    there = runtime.cpu_count()
    for share, expected in {"1": 1, "100000": there, "": there, "0": there, "some": there}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", share)
        assert runtime.cpu_count() == expected, f"OMP_NUM_THREADS={share!r}"
