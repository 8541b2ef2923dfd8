"""The fit loop: it learns, keeps the best, goes on after any kill with the same numbers, and explains every refusal."""

import errno
import json
import math
import os
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from spider_utils.errors import DataError, KitError
from spider_utils.evaluation.metrics import ConfusionMatrix
from spider_utils.models import build_model
from spider_utils.models.network import SegmentationNetwork
from spider_utils.training import loop, precision, runs
from spider_utils.training.config import TrainConfig, scheduled_share
from spider_utils.training.loop import RunResult, fit, parameter_groups
from tests.tiny_runs import CARD, CONFIG, Altered, Squares, assert_same_run, numbers, tiny, tiny_network_and_one_thread, train


@pytest.fixture(autouse=True)
def _headless(monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")


@pytest.fixture(scope="module", autouse=True)
def _tiny_network_and_one_thread():
    with tiny_network_and_one_thread():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(tmp_path_factory.mktemp("unbroken") / "run")


# ---------------------------------------------------------------------------------------------------------- a run, unbroken


def test_the_network_learns(tmp_path):
    result = train(tmp_path / "run", replace(CONFIG, epochs=20, learning_rate=3e-2), model=tiny(dropout=0.0))
    assert result.history.val_mean_iou.max() > 0.8
    assert result.history.train_loss.iloc[-1] < 0.5 * result.history.train_loss.iloc[0]


def test_a_finished_folder_holds_exactly_what_it_should(unbroken):
    assert sorted(path.name for path in unbroken.folder.iterdir()) == [
        "history.csv",
        "model.json",
        "model.safetensors",
        "run.json",
    ]
    assert [path.name for path in unbroken.folder.parent.iterdir()] == ["run"]  # no lock, no partial folder
    assert list(unbroken.history.columns) == [
        "epoch", "train_loss", "val_loss", "val_mean_iou", "val_accuracy", "val_dice_0", "val_dice_1", "val_dice_2",
        "learning_rate", "seconds",
    ]  # fmt: skip
    assert unbroken.history.epoch.tolist() == [1, 2, 3, 4]
    record = json.loads((unbroken.folder / "run.json").read_text())
    assert record["config"] == asdict(CONFIG)
    assert record["seed"] == 3 and record["data"] == CARD["data"] and record["device"] == "cpu" and record["threads"] == 1
    assert record["amp"] == "off" and record["parts"] == 1 and not record["stopped_early"]
    assert record["epochs_trained"] == 4 and record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["wall_seconds"] == pytest.approx(unbroken.history.seconds.sum())
    assert record["peak_memory_bytes"]["process"] > 50e6
    assert record["parameters"] == 8 * 9 + 8 + 16 + 24 + 3


def test_the_best_epoch_by_validation_iou_is_kept(unbroken):
    best = unbroken.history.val_mean_iou.idxmax()
    assert unbroken.best_epoch == unbroken.history.epoch[best]
    model = unbroken.load_model()
    assert not model.training
    counts = ConfusionMatrix(3)
    for image, mask in Squares(12, seed=1):
        counts.update(mask.numpy()[None], model(image[None]).argmax(1).numpy())
        if counts.counts.sum() == 12 * 256:
            break
    assert counts.mean_iou() == unbroken.history.val_mean_iou[best]


def test_the_best_epoch_need_not_be_the_last(tmp_path):
    # From epoch 3 on the training masks are all background, so the network unlearns.
    bad = Altered(mask=torch.zeros_like, from_epoch=3)
    result = train(tmp_path / "run", replace(CONFIG, epochs=6, schedule="constant", learning_rate=3e-2), train_set=bad)
    assert result.best_epoch <= 3 and result.history.val_mean_iou.iloc[-1] < result.history.val_mean_iou.max()


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path, unbroken):
    torch.manual_seed(12345)
    np.random.seed(7)  # the state of the global generators must not matter
    again = train(tmp_path / "again")
    assert_same_run(unbroken, again)
    other = train(tmp_path / "other", replace(CONFIG, seed=4))
    assert numbers(other)[1] != numbers(unbroken)[1]


def test_worker_processes_do_not_change_the_result(tmp_path, unbroken):
    assert_same_run(unbroken, train(tmp_path / "run", replace(CONFIG, num_workers=1)))


def test_one_line_an_epoch_when_headless(tmp_path, capsys):
    train(tmp_path / "run")
    out = capsys.readouterr()
    assert out.err == ""
    assert [line.split("  ")[0] for line in out.out.splitlines()] == [f"epoch {n}/4" for n in (1, 2, 3, 4)]


def test_a_bar_for_a_person(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "is_interactive", lambda: True)
    train(tmp_path / "run", replace(CONFIG, epochs=1))
    out = capsys.readouterr()
    assert "epoch 1:" in out.err and "epoch 1 validation:" in out.err
    assert out.out.startswith("epoch 1/1")


def test_samples_per_epoch_draws_a_fresh_subset_each_epoch(tmp_path):
    data = Squares()
    train(tmp_path / "run", replace(CONFIG, epochs=3, samples_per_epoch=16), train_set=data)
    epochs = [[item for epoch, item in data.seen if epoch == number] for number in (1, 2, 3)]
    assert [len(set(items)) for items in epochs] == [16, 16, 16] == [len(items) for items in epochs]
    assert epochs[0] != epochs[1] != epochs[2]
    again = Squares()
    train(tmp_path / "again", replace(CONFIG, epochs=3, samples_per_epoch=16), train_set=again)
    assert again.seen == data.seen


def test_an_incomplete_last_batch_is_dropped_unless_it_is_the_only_one(tmp_path):
    data = Squares(21)
    train(tmp_path / "a", replace(CONFIG, epochs=1), train_set=data)
    assert len(data.seen) == 16
    few = Squares(5)
    train(tmp_path / "b", replace(CONFIG, epochs=1, samples_per_epoch=1000), train_set=few)
    assert len(few.seen) == 5


# ---------------------------------------------------------------------------------------------------------------- schedules

STANDSTILL = replace(CONFIG, epochs=9, learning_rate=1e-6, schedule="plateau", plateau_patience=1, plateau_factor=0.1)


def test_early_stopping_and_plateau(tmp_path):
    # With a learning rate near zero, no batch norm and no noise the score stands still: epoch 1 stays the best.
    result = train(tmp_path / "run", replace(STANDSTILL, early_stop_patience=5), model=tiny(norm=False))
    assert result.best_epoch == 1 and len(result.history) == 6
    # Two epochs without a better score are more than a patience of one: down by ten after epochs 3 and 5.
    assert result.history.learning_rate.tolist() == pytest.approx([1e-6, 1e-6, 1e-7, 1e-7, 1e-8, 1e-8], rel=1e-6, abs=0)
    assert json.loads((result.folder / "run.json").read_text())["stopped_early"]


def test_scheduled_share_by_hand():
    assert scheduled_share("plateau", 3, 10) is None
    assert scheduled_share("constant", 3, 10) == 1
    assert [scheduled_share("cosine", step, 4) for step in range(4)] == pytest.approx(
        [1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4]
    )
    # Eight steps: two of warm-up (a third, two thirds), then the cosine over the other six.
    shares = [scheduled_share("one_cycle", step, 8) for step in range(8)]
    assert shares == pytest.approx([1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)])
    assert scheduled_share("one_cycle", 0, 1) == 1
    with pytest.raises(ValueError, match="unknown schedule 'steps'"):
        scheduled_share("steps", 0, 1)


# ------------------------------------------------------------------------------------------------------- kills and resuming


def test_states_are_saved_no_more_often_than_asked_for(tmp_path, unbroken, monkeypatch):
    saved = []
    write = loop.write_training_state
    monkeypatch.setattr(loop, "write_training_state", lambda *args: saved.append(args[-1]["epoch"]) or write(*args))
    assert_same_run(unbroken, train(tmp_path / "rarely", save_every_s=1000))
    assert saved == [0, CONFIG.epochs], "at the start, so that a resumed run has the same first weights, and at the end"
    saved.clear()
    assert_same_run(unbroken, train(tmp_path / "often"))
    assert saved == list(range(CONFIG.epochs + 1))


def test_resuming_keeps_plateau_and_early_stopping(tmp_path):
    config = replace(STANDSTILL, early_stop_patience=5)
    whole = train(tmp_path / "whole", config, model=tiny(norm=False))

    class Interrupted(Squares):
        def set_epoch(self, epoch):
            if epoch == 5:
                raise KeyboardInterrupt
            super().set_epoch(epoch)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", config, model=tiny(norm=False), train_set=Interrupted())
    assert not (tmp_path / "run.lock").exists()
    assert_same_run(whole, train(tmp_path / "run", config, model=tiny(norm=False)))


def test_finding_a_finished_run_leaves_what_others_write_into_it(tmp_path):
    train(tmp_path / "run")
    theirs = tmp_path / "run" / ".partial-01234567-probabilities-val.npy"
    theirs.write_bytes(b"half")
    train(tmp_path / "run")
    assert theirs.read_bytes() == b"half"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"the disk is full\. Free some space"),
        (errno.EROFS, r"the file system is read-only\. Choose a folder"),
        (errno.EACCES, r"permission denied\. Choose a folder"),
    ],
)
def test_a_finished_run_that_cannot_be_renamed_stays_where_it_is(tmp_path, monkeypatch, unchanged, number, words):
    partial = tmp_path / "run.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_text("weights")

    def refused(source, place):
        raise OSError(number, os.strerror(number), str(source), None, str(place))

    monkeypatch.setattr(os, "replace", refused)
    with unchanged(tmp_path), pytest.raises(DataError, match=f"run: {words}") as caught:
        runs.move_into_place(partial, tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path / 'run'}: ")


def test_too_little_disk_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    data = Squares()
    with pytest.raises(DataError, match="training needs"):
        train(tmp_path / "run", train_set=data)
    assert data.seen == []


def test_a_damaged_state_names_the_folder_to_delete(tmp_path):
    with pytest.raises(KitError, match="holds class"):
        train(tmp_path / "run", train_set=Altered(mask=lambda mask: mask + 5, from_epoch=2))
    state = tmp_path / "run.partial" / "training_state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is damaged .* Delete the folder .*run\.partial"):
        train(tmp_path / "run")


# ------------------------------------------------------------------------------------------------------------ which run is it


def test_a_finished_run_is_returned_without_training(unbroken):
    before = {path.name: path.stat().st_mtime_ns for path in unbroken.folder.iterdir()}
    data = Squares()
    result = train(unbroken.folder, replace(CONFIG, num_workers=2), train_set=data, overwrite=True)
    assert data.seen == []
    assert_same_run(unbroken, result)
    assert before == {path.name: path.stat().st_mtime_ns for path in unbroken.folder.iterdir()}


def test_another_config_card_or_data_is_refused_by_name_and_trained_with_overwrite(tmp_path, capsys):
    folder = tmp_path / "run"
    short = replace(CONFIG, epochs=1)
    train(folder, short)
    for changes, message in (
        ({"config": replace(short, learning_rate=5e-3)}, r"config\.learning_rate: 0\.01 there, 0\.005 now"),
        ({"card": CARD | {"data": "other"}}, r"card\.data: 0123456789abcdef there, other now"),
        ({"card": CARD | {"split": "s"}}, r"card\.split: nothing there, s now"),
        ({"model": tiny(dropout=0.5)}, r"card\.options\.dropout: 0\.2 there, 0\.5 now"),
        ({"train_set": Squares(25)}, r"train_items: 24 there, 25 now"),
        ({"val_set": Squares(9)}, r"val_items: 12 there, 9 now"),
    ):
        with pytest.raises(KitError, match=message) as caught:
            train(folder, **{"config": short, **changes})
        assert str(folder) in str(caught.value) and "overwrite=True" in str(caught.value)
    weights = (folder / "model.safetensors").read_bytes()
    capsys.readouterr()
    result = train(folder, replace(short, learning_rate=5e-3), overwrite=True)
    told = "run: the finished run of this name has other settings and will be replaced when this one is done"
    assert f"{told} (config.learning_rate: 0.01 there, 0.005 now)" in capsys.readouterr().out
    assert (folder / "model.safetensors").read_bytes() != weights
    assert json.loads((result.folder / "run.json").read_text())["config"]["learning_rate"] == 5e-3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_old_run_stays_until_the_new_one_is_complete(tmp_path):
    folder = tmp_path / "run"
    old = train(folder, replace(CONFIG, epochs=1))
    with pytest.raises(KitError):
        train(folder, replace(CONFIG, epochs=2), train_set=Altered(mask=lambda mask: mask + 5, from_epoch=2), overwrite=True)
    assert_same_run(old, RunResult.open(folder))
    with pytest.raises(KitError, match=r"config\.epochs"):  # a half-done run of other settings is not thrown away unasked
        shutil.move(folder, tmp_path / "elsewhere")
        train(folder, replace(CONFIG, epochs=3))
    train(folder, replace(CONFIG, epochs=3), overwrite=True)


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="holds no run that can be read"):
            train(tmp_path / "mine", overwrite=overwrite)
        with pytest.raises(DataError, match="is a file"):
            train(tmp_path / "mine" / "thesis.txt", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "mine").is_dir() and len(list(tmp_path.iterdir())) == 1


def test_opening_what_is_no_finished_run(tmp_path, unbroken):
    with pytest.raises(DataError, match=r"nowhere: does not exist\. Give the folder of a run\.$"):
        RunResult.open(tmp_path / "nowhere")
    # It may hold anything: nobody is told to delete it.
    with pytest.raises(DataError, match=r"is no run: it holds no run\.json\. Give the folder of a run\.$"):
        RunResult.open(tmp_path)
    copy = shutil.copytree(unbroken.folder, tmp_path / "copy")
    (copy / "history.csv").write_text("")
    with pytest.raises(DataError, match=r"history\.csv: cannot be read as a table"):
        RunResult.open(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors is missing\. Delete the folder and train again"):
        RunResult.open(copy)


def test_weights_that_could_be_fetched_or_not_are_the_same_run(unbroken):
    model = tiny()
    model.spec["initial_weights"] = "imagenet"
    assert train(unbroken.folder, model=model).best_epoch == unbroken.best_epoch


# ----------------------------------------------------------------------------------------------------------------- bad input


def test_a_loss_that_is_no_number_names_epoch_and_step(tmp_path):
    nan = Altered(image=lambda image: image * float("nan"), from_epoch=2)
    with pytest.raises(KitError, match=r"training loss is no longer a number at epoch 2, step 1\. Check the images for NaN"):
        train(tmp_path / "run", train_set=nan)
    data = Squares()
    train(tmp_path / "run", train_set=data)  # the state of the last good epoch is still there
    assert {epoch for epoch, _ in data.seen} == {2, 3, 4}


def test_a_validation_loss_that_is_no_number(tmp_path):
    with pytest.raises(KitError, match=r"validation loss is no longer a number at epoch 1\."):
        train(tmp_path / "run", val_set=Altered(image=lambda image: image * float("nan"), from_epoch=0))


@pytest.mark.parametrize(("shift", "value"), [(1, 3), (-1, -1)])
def test_masks_with_classes_that_the_model_lacks(tmp_path, shift, value):
    with pytest.raises(KitError, match=f"a mask holds class {value}, but the model has classes 0 to 2"):
        train(tmp_path / "run", train_set=Altered(mask=lambda mask: mask + shift))


def test_a_validation_set_without_foreground(tmp_path):
    # A network that never predicts foreground either leaves nothing to measure.
    model = tiny()
    nn.init.constant_(model.body[-1].bias, 0.0)
    model.body[-1].bias.data[0] = 1e3
    config = replace(CONFIG, epochs=1, learning_rate=1e-9)
    with pytest.raises(KitError, match="validation set holds no foreground class"):
        train(tmp_path / "run", config, model=model, val_set=Altered(mask=torch.zeros_like, from_epoch=0))


def test_empty_sets_and_contradicting_cards(tmp_path):
    with pytest.raises(ValueError, match="training set is empty"):
        fit(tiny(), Squares(0), Squares(4), tmp_path / "run", CONFIG, CARD)
    with pytest.raises(ValueError, match="validation set is empty"):
        fit(tiny(), Squares(4), Squares(0), tmp_path / "run", CONFIG, CARD)
    with pytest.raises(ValueError, match="card says n_classes = 7"):
        train(tmp_path / "run", card={"n_classes": 7})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", 0, "epochs must be at least 1, not 0"),
        ("batch_size", -1, "batch_size must be at least 1"),
        ("weight_decay", -0.1, "weight_decay must be at least 0"),
        ("early_stop_patience", 0, "early_stop_patience must be at least 1"),
        ("learning_rate", 0.0, "learning_rate must be a positive number"),
        ("learning_rate", float("nan"), "learning_rate must be a positive number"),
        ("plateau_factor", 1.0, "plateau_factor must lie between 0 and 1"),
        ("transformer_pace", 0, "transformer_pace must be above 0 and at most 1, not 0"),
        ("optimizer", "sgd", "optimizer must be one of adam, adamw, not 'sgd'"),
        ("loss", "mse", "loss must be one of ce, dice, dice_ce"),
        ("schedule", "steps", "schedule must be one of plateau"),
        ("amp", "int8", "amp must be one of auto"),
    ],
)
def test_bad_settings(setting, value, message):
    with pytest.raises(KitError, match=message):
        TrainConfig(**{setting: value})


# ----------------------------------------------------------------------------------------------------------- mixed precision


def test_auto_takes_what_the_hardware_has(monkeypatch):
    for has, expected in ((True, "bf16"), (False, "off")):
        monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda has=has: has)
        assert precision.choose_amp("auto", "cpu") == expected
    for capability, expected in (((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert precision.choose_amp("auto", "cuda") == expected
    assert precision.choose_amp("auto", "mps") == "off"
    assert precision.choose_amp("bf16", "cpu") == "bf16"
    with pytest.raises(KitError, match="needs a CUDA GPU"):
        precision.choose_amp("fp16", "cpu")


def test_a_network_that_bf16_trains_wrongly_on_cpus_stays_in_float32(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    wrong = build_model("deeplabv3", 1, 4, encoder="mobilenet_v2")
    assert precision.choose_amp("auto", "cpu", wrong) == "off" and precision.choose_amp("auto", "cuda", wrong) == "bf16"
    for fine in (build_model("deeplabv3", 1, 4), build_model("unet", 1, 4, encoder="mobilenet_v2")):
        assert precision.choose_amp("auto", "cpu", fine) == "bf16"
    with pytest.raises(KitError, match="gives wrong gradients on a CPU .* grouped convolutions with dilation"):
        precision.choose_amp("bf16", "cpu", wrong)


def test_networks_of_volumes_stay_in_float32_on_cpus(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    with torch.device("meta"):
        model = build_model("unetr", 1, 4, image_size=(16, 16, 16), feature_size=2, hidden_size=4, mlp_dim=4, num_heads=2)
    assert precision.choose_amp("auto", "cpu", model) == "off" and precision.choose_amp("auto", "cuda", model) == "bf16"
    with pytest.raises(KitError, match="because it has 3D convolutions. Use amp='auto'"):
        precision.choose_amp("bf16", "cpu", model)


class TwoPaces(SegmentationNetwork):
    """The tiny network; its last layer stands for a transformer."""

    @property
    def transformer(self):
        return self.body[-1]


def two_paces(**options):
    model = tiny(**options)
    model.__class__ = TwoPaces
    return model


def test_a_transformer_learns_at_its_own_pace(tmp_path):
    model = two_paces(dropout=0.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    config = replace(CONFIG, schedule="constant", optimizer="adam", weight_decay=0.0, epochs=1, batch_size=24, learning_rate=1e-3)
    config = replace(config, transformer_pace=0.1)
    moved = train(tmp_path / "run", config, model=model).load_model()
    longest = {name: (value - before[name]).abs().max().item() for name, value in moved.named_parameters()}
    # Adam's first step is as long as the learning rate, whatever the gradient.
    assert longest["body.1.weight"] == pytest.approx(1e-3, rel=0.01)
    assert longest["body.4.weight"] == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize("schedule", ["one_cycle", "plateau"])
def test_paces_are_kept_when_a_training_resumes(tmp_path, schedule):
    config = replace(CONFIG, schedule=schedule, transformer_pace=0.1)
    whole = train(tmp_path / "whole", config, model=two_paces())
    with pytest.raises(KitError, match="holds class"):
        train(tmp_path / "run", config, model=two_paces(), train_set=Altered(mask=lambda mask: mask + 5, from_epoch=3))
    assert_same_run(whole, train(tmp_path / "run", config, model=two_paces()))


def test_every_weight_learns_once_whatever_the_pace():
    model = two_paces()
    for pace in (1.0, 0.1):
        groups = parameter_groups(model, replace(CONFIG, transformer_pace=pace))
        assert sorted(id(w) for group in groups for w in group["params"]) == sorted(map(id, model.parameters()))
        assert [group["pace"] for group in groups] == ([1.0] if pace == 1 else [1.0, 0.1])


def test_a_pace_needs_a_transformer():
    with pytest.raises(KitError, match="transformer_pace is 0.5, but .* has no transformer: leave it at 1"):
        parameter_groups(tiny(), replace(CONFIG, transformer_pace=0.5))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_bfloat16_trains_and_resumes(tmp_path, optimizer):
    config = replace(CONFIG, amp="bf16", optimizer=optimizer, weight_decay=0.01, channels_last=False)
    whole = train(tmp_path / "whole", config)
    assert json.loads((whole.folder / "run.json").read_text())["amp"] == "bf16"
    assert whole.history.train_loss.iloc[-1] < whole.history.train_loss.iloc[0]
    with pytest.raises(KitError, match="holds class"):
        train(tmp_path / "run", config, train_set=Altered(mask=lambda mask: mask + 5, from_epoch=3))
    assert_same_run(whole, train(tmp_path / "run", config))
