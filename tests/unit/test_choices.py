"""Comparison of trained networks, on tiny trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils.ahmed import printed_dice
from spider_utils.choices import Choices
from spider_utils.cli import app
from spider_utils.data.phantom import generate_dataset
from spider_utils.errors import KitError
from spider_utils.evaluation.statistics import paired_bootstrap
from spider_utils.predict import Predictor
from spider_utils.workflow import Workspace
from tests.unit.test_workflow import TINY


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("home")
    generate_dataset(home / "data" / "phantom-smoke", 10, seed=2024, size="small", jobs=2)
    return Workspace(TINY, "phantom", "", home)


@pytest.fixture(scope="module")
def runs(workspace: Workspace) -> list:
    return [workspace.train("unet"), workspace.train("unet", neighbours=1, tag="neighbours1")]


def test_a_network_with_neighbours_is_trained_found_again_and_scored(workspace, runs):
    with_neighbours = runs[1]
    assert with_neighbours.card["in_channels"] == 3 and with_neighbours.card["neighbours"] == 1
    assert "neighbours" not in runs[0].card
    assert Predictor.load(with_neighbours.folder).neighbours == 1
    assert workspace.train("unet", neighbours=1, tag="neighbours1").history.equals(with_neighbours.history)
    probabilities, truth, table = workspace.probabilities(with_neighbours)
    assert len(probabilities) == len(truth) == len(table)
    # By hand: the slices around the third one, as the store holds them.
    store = workspace.store()
    row = int(workspace.split().rows("val", store.table)[2])
    model = Predictor.load(with_neighbours.folder)
    np.testing.assert_allclose(
        probabilities[2], model.grid_probabilities(np.array(store.images[store.windows(1)[row]])[None])[0], atol=1e-3
    )


@pytest.mark.parametrize("changes", [{"augment": "tissue"}, {"enlarged_to": 20}])
def test_neighbours_do_not_go_with_single_slices(workspace, changes):
    with pytest.raises(KitError, match="neighbouring slices"):
        workspace.train("unet", neighbours=1, tag="refused", **changes)


def test_every_choice_is_compared_with_the_base(workspace, runs):
    choices = Choices(workspace, runs, mirror=True, mean=True)
    table = choices.table()
    assert list(table["choice"].unique()) == ["unet (base)", "neighbours 1", "base, mirrored slices too", "mean of these 2"]
    assert (table.groupby("choice").size() == 4).all()  # three classes and their mean
    base, other = (table[table["choice"] == choice].set_index("name") for choice in ("unet (base)", "neighbours 1"))
    assert base["gain"].isna().all()
    np.testing.assert_allclose(other["gain"], other["mean"] - base["mean"])
    scores = [workspace.evaluate(run) for run in runs]
    disc = [one[one["name"] == "disc"].sort_values("case") for one in scores]
    by_hand = paired_bootstrap(disc[1]["dice"], disc[0]["dice"], disc[0]["patient"])
    assert other.loc["disc", ["gain", "gain_low", "gain_high"]].tolist() == pytest.approx(
        [by_hand.estimate, by_hand.low, by_hand.high]
    )


def test_titles_say_what_differs_whichever_is_the_base(workspace, runs):
    other = workspace.train("unet", seed=1, learning_rate=1e-5, tag="seed1-learningrate1e-05")
    titles = [title for title, _ in Choices(workspace, [runs[1], runs[0], other]).scores()]
    assert titles[0] == "unet (base)" and titles[1] == "neighbours None"
    assert set(titles[2].split(", ")) == {"neighbours None", "seed 1", "learning_rate 1e-05"}
    modified = workspace.train("modified_unet")
    assert Choices(workspace, [runs[0], modified]).scores()[1][0] == "modified_unet"


def test_validation_patients_are_scored_on_request(workspace, runs):
    found = Choices(workspace, runs[:1], subset="val").table()
    assert found["patients"].max() == len(workspace.split().patients("val"))
    expected = workspace.evaluate(runs[0], subset="val")
    assert found.set_index("name").loc["disc", "mean"] == pytest.approx(expected.loc[expected["name"] == "disc", "dice"].mean())


def test_what_cannot_be_compared_is_refused(workspace, runs):
    with pytest.raises(KitError, match="different runs"):
        Choices(workspace, [runs[0], runs[0]])
    with pytest.raises(KitError, match="one label scheme and split"):
        Choices(workspace, [runs[0], workspace.train("unet", split=workspace.split(fold=1), tag="fold1")])
    leaky = workspace.train("unet", split=workspace.split("leaky-kfold5"), tag="leaky-kfold5-fold0")
    with pytest.raises(KitError, match="split by slice"):
        Choices(workspace, [leaky])


def test_command_writes_table_and_figure(workspace, runs, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(workspace.home))
    monkeypatch.setattr(Workspace, "open", lambda *_, **__: workspace)
    names = [run.folder.name for run in runs]
    result = CliRunner().invoke(app, ["ahmed", "choices", *names, "--mean", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out" / "choices.csv").set_index(["choice", "name"])
    printed = table.loc["printed for t1, t2, t2_SPACE", "mean"]
    assert printed.loc["disc"] == pytest.approx((0.9688 + 0.9592 + 0.9527) / 3)
    space = printed_dice(["t2_SPACE"]).set_index("name")["mean"]
    assert space.loc["disc"] == 0.9688 and space.loc["foreground mean"] == pytest.approx((0.9688 + 0.9712 + 0.9671) / 3)
    assert set(printed.index) == set(table.loc["unet (base)"].index)
    assert (tmp_path / "out" / "choices.png").is_file()
