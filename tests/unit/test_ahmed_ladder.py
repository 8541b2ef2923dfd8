"""The ladder on two tiny trainings: the same network split by patient and by slice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils import ahmed
from spider_utils.cli import app
from spider_utils.data.phantom import generate_dataset
from spider_utils.errors import KitError
from spider_utils.workflow import Workspace
from tests.unit.test_workflow import TINY


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("home")
    generate_dataset(home / "data" / "phantom-smoke", 10, seed=2024, size="small", jobs=2)
    return Workspace(TINY, "phantom", "", home)


@pytest.fixture(scope="module")
def runs(workspace: Workspace) -> list:
    return [ahmed.train_modified(workspace), ahmed.train_modified(workspace, split=workspace.split("leaky-kfold5"))]


def test_both_kinds_have_names_of_their_own(runs):
    assert [run.folder.name for run in runs] == [
        "smoke-phantom-modified_unet-structures4-lossfocal4_dice",
        "smoke-phantom-modified_unet-structures4-leaky-kfold5-fold0-lossfocal4_dice",
    ]


def test_every_rung_is_there_and_steps_are_differences(workspace, runs):
    table = ahmed.Ladder.of(workspace, runs).table()
    assert len(table) == 7 and table["rung"].is_unique
    measured = table.iloc[:6]
    assert measured["mean"].between(0, 1).all()
    assert (measured["low"] <= measured["mean"]).all() and (measured["mean"] <= measured["high"]).all()
    # On one set of patients a step is the difference of the two means.
    for k in (1, 2):
        assert table["gain"].iloc[k] == pytest.approx(table["mean"].iloc[k] - table["mean"].iloc[k - 1])
    assert table["slices"].iloc[1] <= table["slices"].iloc[0]
    assert table["patients"].iloc[0] == len(workspace.split().patients("test")) < table["patients"].iloc[3]
    assert table["mean"].iloc[6] == pytest.approx(np.mean([0.9950, 0.9688, 0.9712, 0.9671]))


def test_the_leak_is_measured_on_shared_slices(workspace, runs):
    ladder = ahmed.Ladder.of(workspace, runs)
    leaky, honest = ahmed.on_same_slices(ladder.counts(ladder.by_slice), ladder.counts(ladder.by_patient))
    keys = ["case", "slice", "class"]
    assert leaky[keys].sort_values(keys).to_numpy().tolist() == honest[keys].sort_values(keys).to_numpy().tolist()
    assert ladder.leak().estimate == pytest.approx(ahmed.score(leaky).estimate - ahmed.score(honest).estimate)


def test_runs_that_make_no_ladder_are_refused(workspace, runs):
    for some in (runs[:1], runs[1:]):
        with pytest.raises(KitError, match="by patient and runs that were split by slice"):
            ahmed.Ladder.of(workspace, some)
    with pytest.raises(KitError, match="one architecture"):
        ahmed.Ladder.of(workspace, [runs[0], workspace.train("unet")])


def test_metric_table_lays_three_sets_of_definitions_side_by_side(workspace, runs):
    table = ahmed.metric_table(workspace, runs[0])
    assert set(table["definitions"]) == {"paper", "kit", "printed"}
    counts = table.groupby(["definitions", "sequence"]).size().unstack()
    assert (counts.loc["paper"] == 4).all() and (counts.loc["kit"] == 3).all() and (counts.loc["printed"] == 4).all()
    pooled = table[table["definitions"] == "paper"]
    defined = pooled.dropna(subset=["f1"])
    pd.testing.assert_series_equal(defined["dice"], defined["f1"], check_names=False)  # of pooled regions they are one number
    assert set(table["asd_unit"]) == {"pixels", "mm", "not said"}


def test_command_writes_table_and_figure(workspace, runs, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(workspace.home))
    monkeypatch.setattr(Workspace, "open", lambda *_, **__: workspace)
    result = CliRunner().invoke(app, ["ahmed", "ladder", *(run.folder.name for run in runs), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "split by slice minus by patient, on the very same slices" in result.output
    assert len(pd.read_csv(tmp_path / "out" / "ladder.csv")) == 7 and (tmp_path / "out" / "ladder.png").is_file()
