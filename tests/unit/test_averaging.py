"""The mean of several trainings' weights: by hand, what its card says, and which runs have none."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from spider_utils.files import sha256_of
from spider_utils.models import build_model
from spider_utils.training.averaging import average_runs
from spider_utils.training.checkpoints import load_model, save_model
from spider_utils.training.runs import RunResult

CARD = {
    "scheme": "structures4",
    "size": [32, 24],
    "split": {"name": "kfold5", "seed": 0, "fold": 1, "fingerprint": "a"},
    "starts_from": {"run": "before", "card": "b"},
    "data": {"kind": "spider-2d", "fingerprint": "c"},
    "augment": "standard",
}


def run_of(folder: Path, seed: int, **card: object) -> RunResult:
    torch.manual_seed(seed)
    model = build_model("resunet", 1, 4, widths=[4, 8])
    model(torch.rand(2, 1, 32, 24))  # moves the running means of its normalisation
    save_model(folder, model, CARD | card)
    return RunResult(folder, pd.DataFrame(), 1, json.loads((folder / "model.json").read_text(encoding="utf-8")))


def test_each_weight_is_the_mean_by_shares(tmp_path):
    runs = [run_of(tmp_path / "one", 1), run_of(tmp_path / "two", 2, augment="contrasts")]
    found = average_runs(runs, [0.75, 0.25], tmp_path / "mean")
    first, second, mean = (load_model(folder)[0].state_dict() for folder in (runs[0].folder, runs[1].folder, found.folder))
    floats = [name for name, tensor in first.items() if tensor.is_floating_point()]
    assert any("running_mean" in name for name in floats) and len(floats) < len(first)
    for name in first:
        wanted = 0.75 * first[name] + 0.25 * second[name] if name in floats else first[name]
        torch.testing.assert_close(mean[name], wanted)


def test_the_card_says_what_all_say_and_what_each_says_otherwise(tmp_path):
    other = {"kind": "spider-2d", "fingerprint": "d"}
    runs = [run_of(tmp_path / "one", 1), run_of(tmp_path / "two", 2, augment="contrasts", data=other)]
    card = average_runs(runs, [0.5, 0.5], tmp_path / "mean").card
    assert card == json.loads((tmp_path / "mean" / "model.json").read_text(encoding="utf-8"))
    assert {key: card[key] for key in ("scheme", "size", "split", "starts_from")} == {
        key: CARD[key] for key in ("scheme", "size", "split", "starts_from")
    }
    assert "augment" not in card and card["data"]["kind"] == "spider-2d" and card["data"]["fingerprint"] not in ("c", "d")
    sums = [sha256_of(run.folder / "model.safetensors") for run in runs]
    assert card["averaged"] == [
        {"run": "one", "share": 0.5, "sha256": sums[0], "augment": "standard", "data": CARD["data"]},
        {"run": "two", "share": 0.5, "sha256": sums[1], "augment": "contrasts", "data": other},
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"starts_from": {"run": "elsewhere", "card": "b"}},
        {"split": CARD["split"] | {"fingerprint": "z"}},
        {"size": [64, 48]},
        {"starts_from": None},
    ],
)
def test_runs_that_did_not_begin_alike_are_not_averaged(tmp_path, changes):
    runs = [run_of(tmp_path / "one", 1), run_of(tmp_path / "two", 2, **changes)]
    with pytest.raises(ValueError, match="runs are averaged that began alike"):
        average_runs(runs, [0.5, 0.5], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_runs_from_random_weights_are_not_averaged(tmp_path):
    runs = [run_of(tmp_path / name, seed, starts_from=None) for seed, name in enumerate(("one", "two"))]
    with pytest.raises(ValueError, match="'starts_from': None, None"):
        average_runs(runs, [0.5, 0.5], tmp_path / "mean")


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.4], [1.5, -0.5], [0.5, 0.25, 0.25], [float("nan"), 1.0]])
def test_shares_that_do_not_fit(tmp_path, shares):
    runs = [run_of(tmp_path / "one", 1), run_of(tmp_path / "two", 2)]
    with pytest.raises(ValueError, match="2 runs need as many positive shares"):
        average_runs(runs, shares, tmp_path / "mean")


def test_the_mean_is_made_once_and_anew_for_other_weights_or_shares(tmp_path):
    runs, mean = [run_of(tmp_path / "one", 1), run_of(tmp_path / "two", 2)], tmp_path / "mean"
    average_runs(runs, [0.5, 0.5], mean)
    made = (mean / "model.safetensors").stat().st_mtime_ns
    average_runs(runs, [0.5, 0.5], mean)
    assert (mean / "model.safetensors").stat().st_mtime_ns == made
    first = (mean / "model.safetensors").read_bytes()
    average_runs(runs, [0.25, 0.75], mean)
    second = (mean / "model.safetensors").read_bytes()
    average_runs([runs[0], run_of(tmp_path / "two", 3)], [0.25, 0.75], mean)
    assert len({first, second, (mean / "model.safetensors").read_bytes()}) == 3
