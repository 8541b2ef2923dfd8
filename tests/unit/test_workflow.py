"""Find or make: what is made once, what is made again, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.phantom import generate_dataset
from spider_utils.data.slices import thin_out
from spider_utils.data.splits import make_split
from spider_utils.ensemble import best_pair_weight
from spider_utils.errors import KitError
from spider_utils.files import fingerprint, read_json
from spider_utils.models import VOLUME_ARCHITECTURES, available_models
from spider_utils.runtime import PROFILES
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace, caution, describe_settings, find_run, newest_run

TINY = replace(
    PROFILES["smoke"],
    patients=10,
    slice_size=(32, 32),
    epochs=1,
    level_epochs=1,
    samples_per_epoch=16,
    volumes=replace(PROFILES["smoke"].volumes, size=(16, 16, 32), epochs=1, steps_per_epoch=2),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten small phantom patients, and a profile that trains for two steps."""
    home = tmp_path_factory.mktemp("home")
    generate_dataset(home / "data" / "phantom-smoke", 10, seed=2024, size="small", jobs=2)
    return Workspace(TINY, "phantom", "", home)


@pytest.fixture(autouse=True)
def in_home(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIDER_KIT_HOME", str(workspace.home))
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_phantom_store_and_run_are_made_once(workspace: Workspace) -> None:
    before = stamps(workspace.home / "data" / "phantom-smoke" / "images")
    run = workspace.train()
    made = stamps(run.folder)
    again = Workspace(TINY, "phantom", "", workspace.home)
    assert again.train().folder == run.folder
    assert stamps(run.folder) == made
    assert stamps(workspace.home / "data" / "phantom-smoke" / "images") == before


def test_the_first_case_needs_no_whole_phantom(workspace: Workspace, tmp_path: Path) -> None:
    """Made alone it holds the very voxels that the set holds, and nothing is written."""
    alone = Workspace(TINY, "phantom", "", tmp_path / "fresh").first_case()
    assert not (tmp_path / "fresh").exists()
    of_set = workspace.first_case()
    assert (alone.case, alone.patient, alone.sequence) == (of_set.case, of_set.patient, of_set.sequence)
    assert of_set.image.path == workspace.home / "data" / "phantom-smoke" / "images" / f"{of_set.case}.mha"
    for made, read in ((alone.image, of_set.image), (alone.mask, of_set.mask)):
        assert np.array_equal(made.array, read.array) and made.spacing == read.spacing
        assert np.allclose(made.origin, read.origin) and np.allclose(made.direction, read.direction)


def test_the_phantom_studies_are_made_once_and_again_for_other_settings(workspace: Workspace) -> None:
    first = Workspace(replace(TINY, rsna_studies=1), "phantom", "", workspace.home)
    before, folder = first.rsna().state(), workspace.home / "data" / "phantom-rsna-smoke"
    assert first.rsna().root == folder and first.rsna().state() == before and len(first.rsna().samples) == 25
    other = Workspace(replace(TINY, rsna_studies=2), "spider", "x", workspace.home)
    assert other.rsna().samples["study"].nunique() == 2
    assert other.rsna(folder).root == folder


def test_the_disc_phantom_is_made_once_and_again_for_other_settings(workspace: Workspace) -> None:
    first = Workspace(replace(TINY, disc_patients=1, disc_voxel_mm=4.0), "phantom", "", workspace.home)
    before, folder = first.discs().state(), workspace.home / "data" / "phantom-ivd-smoke"
    assert first.discs().root == folder and first.discs().state() == before
    assert len(Workspace(replace(TINY, disc_patients=2, disc_voxel_mm=4.0), "spider", "x", workspace.home).discs().cases) == 2


def test_other_settings_train_again(workspace: Workspace) -> None:
    first = workspace.train(tag="settings")
    second = workspace.train(tag="settings", learning_rate=1e-4)
    assert second.folder == first.folder
    assert second.history["train_loss"].tolist() != first.history["train_loss"].tolist()


def test_scores_are_kept_until_the_model_changes(workspace: Workspace) -> None:
    run = workspace.train(tag="kept")
    scores = workspace.evaluate(run)
    assert set(scores["patient"]) == set(workspace.split().patients("test"))
    kept = stamps(run.folder)["metrics-test.csv"]
    pd.testing.assert_frame_equal(workspace.evaluate(run), scores, check_dtype=False)
    assert stamps(run.folder)["metrics-test.csv"] == kept
    workspace.evaluate(workspace.train(tag="kept", seed=1))
    assert stamps(run.folder)["metrics-test.csv"] != kept
    assert set(workspace.predictions(run)) == set(scores["case"])


def test_a_corrected_mask_is_scored_anew(workspace: Workspace) -> None:
    run = workspace.train(tag="kept")
    scores = workspace.evaluate(run)
    mask = Path(workspace.source.cases.set_index("case").loc[scores["case"].iloc[0], "mask"])
    before, stamp = mask.read_bytes(), mask.stat()
    volume = sitk.ReadImage(str(mask))
    array = sitk.GetArrayFromImage(volume)
    array[array == array.max()] = 0
    try:
        changed = sitk.GetImageFromArray(array)
        changed.CopyInformation(volume)
        sitk.WriteImage(changed, str(mask))
        assert not workspace.evaluate(run)["dice"].equals(scores["dice"])
    finally:
        mask.write_bytes(before)
        os.utime(mask, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_scores_on_another_split_are_refused(workspace: Workspace) -> None:
    run = workspace.train()
    other = workspace.split(fold=1)
    with pytest.raises(KitError, match="another split"):
        workspace.evaluate(run, other)
    with pytest.raises(KitError, match="another split"):
        workspace.train(tag="leak", split=other, start_from=run)


def test_training_on_strips_is_another_run_and_keeps_to_its_slice_size(workspace: Workspace) -> None:
    strips = Workspace(replace(TINY, slice_size=(32, 64), crop_columns=32), "phantom", "", workspace.home)
    run = strips.train_levels(tag="strips")
    assert run.card["crop_columns"] == 32
    assert strips.train("unet", "structures4", tag="strips").card["crop_columns"] == 32
    assert strips.evaluate(run)["case"].nunique() > 0, "whole series are predicted"
    whole = strips.train(tag="strips", crop_columns=0)
    assert whole.card["crop_columns"] is None and whole.card["size"] == [32, 64]
    assert strips.train(tag="strips", size=(64, 64)).card["crop_columns"] is None
    for wrong in (48, 96):
        with pytest.raises(KitError, match=f"multiple of 32 and at most 64, the width of a slice, not {wrong}"):
            strips.train(tag="wrong", crop_columns=wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (100, 64)}, "multiples of 32 for this network, not 100x64"),
        ({"scheme": "spider"}, "'spider' cannot be learned.*Use structures4 or levels20"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(workspace: Workspace, settings: dict, message: str) -> None:
    before = sorted(p for p in workspace.home.rglob("*") if p.is_dir())
    with pytest.raises(KitError, match=message):
        workspace.train(tag="wrong", **settings)
    assert sorted(p for p in workspace.home.rglob("*") if p.is_dir()) == before


@pytest.mark.parametrize("architecture", sorted(set(available_models()) - set(VOLUME_ARCHITECTURES)))
def test_every_architecture_is_trained_scored_and_taken_up_again(workspace: Workspace, architecture: str) -> None:
    run = workspace.train_levels(architecture, tag="each")
    assert run.card["architecture"] == architecture and run.card["options"].items() >= TINY.networks[architecture].items()
    scores = workspace.evaluate(run)
    assert scores["dice"].notna().any() and set(workspace.predictions(run)) == set(scores["case"])
    assert workspace.train_levels(architecture, tag="each").folder == run.folder


@pytest.mark.parametrize(("preparation", "scheme"), [("mended", "levels20"), ("as_printed", "clamped20")])
def test_volumes_are_trained_and_scored_in_the_native_grid(workspace: Workspace, preparation: str, scheme: str) -> None:
    run = workspace.train_volumes(preparation=preparation)
    assert run.folder.name == "smoke-phantom-unetr-" + ("levels20" if preparation == "mended" else "clamped20-as-printed")
    assert (run.card["scheme"], run.card["size"], run.card["preparation"]) == (scheme, [16, 16, 32], preparation)
    assert run.card["voxel_mm"] == (None if preparation == "as_printed" else [4.0, 20.0, 7.5])
    assert run.card["options"]["image_size"] == [16, 16, 32] and len(run.history) == 1
    made = stamps(run.folder)
    assert workspace.train_volumes(preparation=preparation).folder == run.folder and stamps(run.folder) == made
    scores, masks = workspace.evaluate(run), workspace.predictions(run)
    assert set(scores["patient"]) == set(workspace.split().patients("test"))
    for name, mask in masks.items():
        assert mask.shape == workspace.source.load(name).mask.array.shape
    assert workspace.store_of(run).size == (16, 16, 32)
    assert (workspace.store_of(run).voxel_mm is None) == (preparation == "as_printed")
    with pytest.raises(KitError, match="sees volumes, not slices"):
        workspace.probabilities(run)


def test_volumes_refuse_augmentations_of_single_slices(workspace: Workspace) -> None:
    for name in ("tissue", "triplanar", "contrasts"):
        with pytest.raises(KitError, match=f"augment '{name}' changes single slices"):
            workspace.train_volumes(augment=name)


def test_contrasts_refuse_labels_that_are_one_tissue(workspace: Workspace) -> None:
    with pytest.raises(KitError, match="each label of levels20 its own brightness"):
        workspace.train("unet", scheme="levels20", augment="contrasts", tag="refused")


def test_another_grid_is_another_run(workspace: Workspace) -> None:
    run = workspace.train_volumes(stretched=True)
    assert run.folder.name == "smoke-phantom-unetr-levels20-stretched" and run.card["voxel_mm"] is None


def test_steps_of_an_epoch_do_not_depend_on_the_number_of_volumes(workspace: Workspace) -> None:
    run = workspace.train_volumes(tag="steps", steps_per_epoch=12, batch_size=3, schedule="constant")
    identity = read_json(run.folder / "run.json")["identity"]
    assert identity["config"]["samples_per_epoch"] == 36 and identity["train_items"] >= 36


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "unet"}, "'unet' is no network of volumes. These are: unetr"),
        ({"preparation": "raw"}, "preparation must be one of mended, as_printed, not 'raw'"),
        ({"scheme": "spider"}, "'spider' cannot be learned"),
    ],
)
def test_volumes_that_cannot_be_trained_are_refused(workspace: Workspace, settings: dict, message: str) -> None:
    with pytest.raises(KitError, match=message):
        workspace.train_volumes(tag="wrong", **settings)
    with pytest.raises(KitError, match="train it with Workspace.train_volumes"):
        workspace.train("unetr")
    with pytest.raises(KitError, match="give a split by patient"):
        workspace.train_volumes(split=workspace.split("leaky-slices"))


def test_probabilities_are_kept_and_fit_the_networks_labels(workspace: Workspace) -> None:
    run = workspace.train(tag="kept")
    probabilities, truth, table = workspace.probabilities(run)
    store, split = workspace.store(), workspace.split()
    rows = split.rows("val", store.table)
    assert probabilities.dtype == np.float16 and probabilities.shape == (len(rows), 4, 32, 32)
    assert truth.shape == (len(rows), 32, 32)
    pd.testing.assert_frame_equal(table, store.table.iloc[rows].reset_index(drop=True))
    with torch.inference_mode():
        logits = run.load_model()(torch.from_numpy(np.array(store.images[rows]))[:, None].float() / 255)
    np.testing.assert_allclose(probabilities, logits.softmax(dim=1).numpy(), atol=1e-3)
    before = stamps(run.folder)
    workspace.probabilities(run)
    assert stamps(run.folder) == before, "computed once"
    other = workspace.train("resunet", tag="kept")
    found = best_pair_weight(probabilities, workspace.probabilities(other)[0], truth, volumes=table["case"].to_numpy())
    assert found.score >= max(found.at([0.0, 1.0]))
    with pytest.raises(KitError, match="another split"):
        workspace.probabilities(run, workspace.split(fold=1))


def test_slices_are_scored_as_the_network_labels_them(workspace: Workspace) -> None:
    run = workspace.train(tag="kept")
    probabilities, truth, table = workspace.probabilities(run, subset="test")
    scores = workspace.evaluate_slices(run)
    assert scores["case"].unique().tolist() == pd.unique(table["case"]).tolist() and set(scores["unit"]) == {"volume"}
    by_slice = workspace.evaluate_slices(run, by_slice=True)
    assert set(by_slice["unit"]) == {"slice"} and by_slice["case"].nunique() == len(table)
    labels = np.array(probabilities, np.float32).argmax(axis=1)
    for value in (1, 2, 3):
        rows = scores[scores["class"] == value]
        assert (
            rows["tp"].sum() == ((labels == value) & (truth == value)).sum() == by_slice[by_slice["class"] == value]["tp"].sum()
        )


def test_the_sources_protocol_splits_images_or_patients(workspace: Workspace) -> None:
    store = workspace.enlarged_store()
    assert len(store) == TINY.enlarge_to
    run = workspace.train_as_published()
    assert run.card["n_classes"] == 20 and run.card["enlarged_to"] == TINY.enlarge_to
    assert run.card["split"]["name"] == "leaky-seed70-5-25" and run.card["augment"] == "none"
    leaky = workspace.split("leaky-seed70-5-25", store=store)
    scores = workspace.evaluate_slices(run, leaky, by_slice=True)
    assert scores["case"].nunique() == len(leaky.rows("test", store.table)) == 16
    with pytest.raises(KitError, match="single images of series: score it with evaluate_slices"):
        workspace.evaluate(run, leaky)
    patients = workspace.split("seed70-5-25", store=store)
    other = workspace.train_as_published(split=patients, scheme="structures4")
    assert other.folder != run.folder and other.card["n_classes"] == 4
    assert set(workspace.evaluate_slices(other, patients)["patient"]) == set(patients.patients("test"))
    assert workspace.split_of(run).fingerprint == leaky.fingerprint != workspace.split_of(other).fingerprint
    assert workspace.train_as_published(seed=1).folder != run.folder, "another seed is another run"
    assert read_json(run.folder / "run.json")["identity"]["train_items"] == len(leaky.rows("train", store.table))
    # Whatever the profile's own set is, a run is scored on the one that it was trained on.
    elsewhere = Workspace(replace(TINY, enlarge_to=40, slice_size=(64, 64)), "phantom", "", workspace.home)
    pd.testing.assert_frame_equal(elsewhere.evaluate_slices(run, leaky, by_slice=True), scores)
    with pytest.raises(KitError, match="made of 64 slices, these are"):
        workspace.train(split=leaky)
    card = run.card | {"data": {"kind": "phantom", "fingerprint": "another"}}
    with pytest.raises(KitError, match="was trained on other data"):
        workspace.evaluate_slices(replace(run, card=card), leaky)


def test_a_run_is_named_after_what_differs_from_the_default() -> None:
    table = pd.DataFrame({"patient": range(20), "case": "1_t2", "slice": range(20)})
    names = {name: describe_settings(make_split(table, name, fold=2)) for name in ("kfold5", "leaky-kfold5", "seed70-5-25")}
    assert names == {"kfold5": "fold2", "leaky-kfold5": "leaky-kfold5-fold2", "seed70-5-25": "seed70-5-25"}
    split = make_split(table, "kfold5")
    assert describe_settings(split) == ""
    assert describe_settings(split, 3, size=(64, 32), learning_rate=0.1, epochs=None) == "seed3-64x32-learningrate0.1"
    options = {"encoder": "resnet34", "decoder_channels": [32, 16]}
    assert describe_settings(split, loss="dice", options=options) == "lossdice-decoderchannels32x16-encoderresnet34"
    assert describe_settings(split, options=None) == ""


@pytest.mark.parametrize(
    ("name", "record", "smoke"),
    [
        ("mine", {"made_in": {"profile": "smoke"}}, True),
        ("smoke-test", {"made_in": {"profile": "quick"}}, False),
        ("smoke-phantom-unet", {"made_in": None}, True),
        ("smoke-phantom-unet", None, True),
        ("quick-phantom-unet", None, False),
    ],
)
def test_a_run_of_profile_smoke_is_told_by_its_record_else_by_its_name(
    name: str, record: dict | None, smoke: bool, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    if record is not None:
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    assert caution(tmp_path / name) == ("trained in profile smoke: its masks mean nothing" if smoke else "")


def test_levels_are_refused_before_the_first_stage_is_trained(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace.source, "scheme", "structures4")  # as in the released slices
    with pytest.raises(KitError, match="DATA=phantom cannot teach 'levels20'"):
        workspace.train_levels(tag="no-levels")
    assert not list((workspace.home / "runs").glob("*no-levels*"))


def test_the_first_stage_of_levels_takes_what_bounds_memory_and_work(workspace: Workspace) -> None:
    run = workspace.train_levels(tag="small", epochs=1, batch_size=4, samples_per_epoch=8, slice_gap_mm=0.0)
    start = read_json(workspace.home / "runs" / run.card["starts_from"]["run"] / "run.json")
    config = start["identity"]["config"]
    assert (config["batch_size"], config["samples_per_epoch"]) == (4, 8)
    assert config["epochs"] == workspace.profile.epochs


def test_levels_start_from_the_same_split(workspace: Workspace) -> None:
    fold = workspace.split(fold=1)
    run = workspace.train_levels(split=fold, tag="fold1")
    assert run.card["n_classes"] == 20
    assert run.card["starts_from"]["run"] == "smoke-phantom-unet-structures4-fold1-start"
    assert run.card["split"]["fingerprint"] == fold.fingerprint


def test_training_goes_on_from_a_run_of_the_same_split_alone(workspace: Workspace) -> None:
    first = workspace.train()
    finer = workspace.train(start_from=first, size=(64, 64), learning_rate=1e-9, tag="finer")
    assert finer.card["starts_from"]["run"] == first.folder.name
    for (name, mine), theirs in zip(finer.load_model().named_parameters(), first.load_model().parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-6), name
    with pytest.raises(KitError, match="trained with another split than 'kfold5'"):
        workspace.train(split=workspace.split(fold=1), start_from=first, tag="other-fold")
    levels = workspace.train_levels(start_from=first, tag="from-first")
    assert levels.card["starts_from"]["run"] == first.folder.name
    assert not list((workspace.home / "runs").glob("*from-first-start"))


def test_train_starts_from_a_named_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = workspace.train()
    monkeypatch.setattr(Workspace, "open", lambda *_: workspace)
    words = ["train", "--profile", "smoke", "--start-from", first.folder.name, "--no-score"]
    said = CliRunner().invoke(cli.app, words)
    assert said.exit_code == 0, said.output
    folder = Path(said.stdout.splitlines()[-1])
    assert folder.name == f"{first.folder.name}-start{fingerprint(first.card)[:8]}"
    assert read_json(folder / "model.json")["starts_from"]["run"] == first.folder.name
    said = CliRunner().invoke(cli.app, ["train", "--profile", "smoke", "--model", "unetr", "--start-from", first.folder.name])
    assert said.exit_code == 2 and "it has no --start-from" in said.output


def test_leaky_split_scores_only_its_test_slices(workspace: Workspace) -> None:
    split = workspace.split("leaky-slices")
    run = workspace.train(split=split, tag="leaky")
    expected = split.table[split.table["subset"] == "test"].groupby("case").size()
    scores = workspace.evaluate(run, split)
    assert set(scores["case"]) == set(expected.index)
    assert scores["asd_mm"].isna().all()
    masks = workspace.predictions(run)
    assert {name: len(mask) for name, mask in masks.items()} == expected.to_dict()


def test_results_table_replaces_rows_of_the_same_run(workspace: Workspace) -> None:
    run = workspace.train(tag="kept")
    scores = workspace.evaluate(run)
    workspace.add_result(run, scores)
    once = len(pd.read_csv(workspace.results_path))
    workspace.add_result(run, scores)
    assert len(pd.read_csv(workspace.results_path)) == once
    workspace.add_result(workspace.train(), workspace.evaluate(workspace.train()))
    assert pd.read_csv(workspace.results_path)["run"].nunique() == 2


def test_best_run_of_the_newest_kind_is_the_default_model(workspace: Workspace) -> None:
    runs = [workspace.train(tag="kept"), workspace.train("resunet", tag="kept"), workspace.train(tag="rival", seed=3)]
    os.utime(runs[1].folder / "model.safetensors")
    best = max((run for run in map(RunResult.open, (workspace.home / "runs").glob("*structures4*"))
                if all(run.card[what] == runs[0].card[what] for what in ("split", "data")) and "enlarged_to" not in run.card),
               key=lambda run: run.history["val_mean_iou"].max())  # fmt: skip
    assert newest_run() == best.folder
    os.utime(workspace.train_levels(tag="small2").folder / "model.safetensors")
    assert "levels20" in newest_run().name, "networks of another scheme are no rivals"
    workspace.train(split=workspace.split("leaky-slices"), tag="leaky")
    assert "leaky" not in newest_run().name
    before = newest_run()
    os.utime(workspace.train_volumes(preparation="as_printed").folder / "model.safetensors")
    assert newest_run() == before, "networks of volumes are for those who ask for them"
    assert find_run("smoke-phantom-unet-structures4-leaky").name.endswith("leaky")
    with pytest.raises(KitError, match="no trained model called 'nothing'.*smoke-phantom"):
        find_run("nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("huge",), "unknown profile"),
        (("quick", "ct"), "unknown data"),
        (("quick", "spider"), "give ROOT=path .*spider-kit data fetch spider"),
    ],
)
def test_wrong_choices(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(KitError, match=message):
        Workspace.open(*arguments)


def test_thin_out_keeps_distance_within_a_series() -> None:
    table = pd.DataFrame({"slice": [0, 1, 2, 3, 4, 5, 0, 1], "slice_mm": [0.9] * 6 + [4.0] * 2})
    rows = thin_out(table, table.index.to_numpy(), gap_mm=3.0)
    assert rows.tolist() == [0, 3, 6, 7]
    assert thin_out(table, table.index.to_numpy(), gap_mm=0).tolist() == list(range(8))
