"""A training made again from its run.json."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.phantom import generate_dataset
from spider_utils.errors import DataError, KitError
from spider_utils.files import read_json, write_json
from spider_utils.findings import AS_PRINTED, FindingStudy
from spider_utils.rerun import repeat
from spider_utils.runtime import PROFILES
from spider_utils.training.checkpoints import save_model
from spider_utils.training.runs import RunResult
from spider_utils.triplanar.axial import AxialStudy
from spider_utils.triplanar.study import TriplanarStudy
from spider_utils.workflow import Workspace

SMALL = replace(
    PROFILES["smoke"],
    patients=10,
    slice_size=(32, 32),
    epochs=2,
    level_epochs=1,
    samples_per_epoch=16,
    rsna_studies=10,
    volumes=replace(PROFILES["smoke"].volumes, size=(16, 16, 32), epochs=1, steps_per_epoch=2),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("home")
    generate_dataset(home / "data" / "phantom-smoke", 10, seed=2024, size="small", jobs=2)
    return Workspace(SMALL, "phantom", "", home)


@pytest.fixture(autouse=True)
def opened(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIDER_KIT_HOME", str(workspace.home))
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    monkeypatch.setattr("spider_utils.rerun.Workspace.open", lambda *_: workspace)


def runs(workspace: Workspace) -> set[str]:
    return {path.name for path in (workspace.home / "runs").rglob("*") if path.is_dir()}


def test_slices_with_settings_of_their_own_come_out_bit_for_bit(workspace: Workspace) -> None:
    chosen = {"augment": "standard", "slice_gap_mm": 0.0, "neighbours": 1, "seed": 3, "loss": "focal4_dice", "schedule": "cosine"}
    run = workspace.train("resunet", split=workspace.split(fold=2), size=(64, 32), tag="own", crop_columns=32, **chosen)
    before = runs(workspace)
    found = repeat(run.folder / "run.json")
    assert found.same and found.weights == len(run.load_model().state_dict()) and not found.machine
    assert runs(workspace) == before, "nothing is left behind"


def test_what_a_training_started_from_is_started_from_again(workspace: Workspace) -> None:
    run = workspace.train_levels(tag="levels")
    assert repeat(run.folder).same
    start = workspace.home / "runs" / run.card["starts_from"]["run"]
    card = read_json(start / "model.json")
    write_json(start / "model.json", card | {"note": "another"})
    try:
        with pytest.raises(KitError, match="another one today: make smoke-phantom-unet-structures4-levels-start again"):
            repeat(run.folder)
    finally:
        write_json(start / "model.json", card)


@pytest.mark.parametrize("preparation", ["mended", "as_printed"])
def test_volumes(workspace: Workspace, preparation: str) -> None:
    assert repeat(workspace.train_volumes(preparation=preparation).folder).same


def test_findings(workspace: Workspace) -> None:
    assert repeat(FindingStudy.open(workspace).train("mobilenetv2", AS_PRINTED, seed=1, weight_decay=0.1).folder).same


def test_a_plane_and_axial_slices(workspace: Workspace) -> None:
    study = TriplanarStudy.open(workspace)
    assert repeat(study.train(study.folds[0], "axial", study.folds[0].train[:1], crop=False).folder).same
    assert repeat(AxialStudy.open(workspace).train(0).folder).same


def test_a_changed_weight_is_found_and_said(workspace: Workspace, tmp_path: Path) -> None:
    folder = shutil.copytree(workspace.train().folder, workspace.home / "runs" / "touched")
    then = RunResult.open(folder)
    model = then.load_model()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 0.5
    save_model(folder, model, then.card)
    history = then.history.assign(val_loss=then.history["val_loss"] + [0.0, 0.25])
    history.to_csv(folder / "history.csv", index=False)
    found = repeat(folder)
    assert (found.other_weights, found.largest_step) == (1, pytest.approx(0.5, abs=1e-6))
    assert found.history == {"val_loss": pytest.approx(0.25)}
    said = CliRunner().invoke(cli.app, ["rerun", str(folder), "--keep", str(tmp_path / "kept")])
    assert said.exit_code == 1
    assert "history, val_loss: differs by up to 0.25" in said.stdout and "on the same machine" in said.stdout
    assert (tmp_path / "kept" / "smoke-phantom-unet-structures4" / "model.safetensors").is_file()


def test_the_command_says_that_all_is_the_same(workspace: Workspace) -> None:
    said = CliRunner().invoke(cli.app, ["rerun", str(workspace.train().folder / "run.json")])
    assert said.exit_code == 0 and "the same: all 182 tensors of weights" in said.stdout


def test_the_new_run_lies_where_nothing_lay(workspace: Workspace) -> None:
    """A run of the same name would be replaced, and one of the same settings taken for the new one."""
    plain = workspace.train()
    own = workspace.train(tag="tagged", seed=7)
    weights = (plain.folder / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match="is not empty"):
        repeat(own.folder, keep=own.folder.parent)
    assert (plain.folder / "model.safetensors").read_bytes() == weights
    (workspace.home / "a-file").touch()
    with pytest.raises(DataError, match="is not empty"):
        repeat(own.folder, keep=workspace.home / "a-file")


def test_what_cannot_be_made_again_is_said(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="is no finished run"):
        repeat(tmp_path / "run.json")
    older = shutil.copytree(workspace.train().folder, tmp_path / "older")
    record = read_json(older / "run.json")
    write_json(older / "run.json", record | {"made_in": None})
    with pytest.raises(DataError, match="does not say which profile and data"):
        repeat(older)
    write_json(older / "run.json", record | {"identity": record["identity"] | {"code": 1}})
    monkeypatch.setattr("spider_utils.rerun._trainer", lambda _: pytest.fail("nothing is trained for this"))
    with pytest.raises(KitError, match="another training today: code differ"):
        repeat(older)
