"""Several processes train the network that one would: two on the CPU (gloo) against one with the same batches.

The networks here have no batch norm, but where it is what is tested: on CPUs each process would see the statistics of its share.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spider_utils.errors import KitError
from spider_utils.locks import file_lock
from spider_utils.models import ARCHITECTURES, build_model
from spider_utils.models.network import Network, SegmentationNetwork
from spider_utils.training import launch
from spider_utils.training.config import TrainConfig
from spider_utils.training.distributed import joint_batch_norms
from spider_utils.training.launch import train_on_all_gpus
from spider_utils.training.loop import fit
from spider_utils.training.tasks import ClassificationTask


class Small(SegmentationNetwork):
    """A network whose norms look at one item each, and in which dropout can be turned on."""

    def __init__(self, in_channels, n_classes, norm="group", dropout=0.0):
        middle = nn.BatchNorm2d(8) if norm == "batch" else nn.GroupNorm(2, 8)
        body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), middle, nn.ReLU(), nn.Dropout2d(dropout), nn.Conv2d(8, n_classes, 1)
        )
        super().__init__(body, in_channels, stride=1)


class Squares(torch.utils.data.Dataset):
    """Noisy squares of class 1 or 2, a few of 3: not every share of a batch has every class. The noise follows from the epoch."""

    def __init__(self, n, seed=0):
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.n

    def __getitem__(self, item):
        mask = np.zeros((16, 16), np.int64)
        row, column = np.random.default_rng((self.seed, item)).integers(0, 8, 2)
        mask[row : row + 4 + item % 4, column : column + 6] = 3 if item % 7 == 0 else 1 + item % 2
        noise = np.random.default_rng((self.seed, item, self.epoch)).normal(0, 0.1, mask.shape)
        return torch.from_numpy((mask / 3 + noise).astype(np.float32)[None]), torch.from_numpy(mask)


class Wrong(Squares):
    """``Squares`` of which one item has a class that the network lacks."""

    def __getitem__(self, item):
        image, mask = super().__getitem__(item)
        return image, mask + 4 if item == 5 else mask


CONFIG = TrainConfig(epochs=4, batch_size=6, learning_rate=1e-2, optimizer="adamw", schedule="one_cycle", amp="off", seed=3)


def train(folder, config=CONFIG, train_set=None, task=None, model=None, **options):
    """26 items in 4 steps of 6, validation in batches of 6, 6 and 1."""
    torch.manual_seed(0)
    model = model or build_model("small", 1, 4, **options)
    return fit(model, train_set or Squares(26), Squares(13, seed=1), folder, config, {}, task=task, device="cpu", save_every_s=0)


@pytest.fixture(autouse=True)
def _headless(monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")


@pytest.fixture(scope="module", autouse=True)
def _small_network_and_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ARCHITECTURES["small"] = f"{__name__}:Small"
    yield
    del ARCHITECTURES["small"]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def record(run):
    return json.loads((run.folder / "run.json").read_text())


def weights(run):
    return load_file(run.folder / "model.safetensors")


def assert_same_curve(run, other):
    pd.testing.assert_frame_equal(run.history.drop(columns="seconds"), other.history.drop(columns="seconds"), rtol=1e-5)
    assert run.best_epoch == other.best_epoch
    others = weights(other)
    for name, tensor in weights(run).items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-6)


def assert_same_bits(run, other):
    pd.testing.assert_frame_equal(run.history.drop(columns="seconds"), other.history.drop(columns="seconds"), check_exact=True)
    assert (run.folder / "model.safetensors").read_bytes() == (other.folder / "model.safetensors").read_bytes()


# ------------------------------------------------------------------------------------------------------- the same loss curve


@pytest.mark.parametrize(
    ("processes", "changes"),
    [
        (2, {"loss": "dice_ce"}),
        (3, {"loss": "dice"}),
        (2, {"loss": "focal4_dice", "samples_per_epoch": 12, "schedule": "plateau", "plateau_patience": 0, "num_workers": 1}),
        (2, {"loss": "monai_dice_ce", "batch_size": 26}),
        (2, {"loss": "ce", "batch_size": 100, "optimizer": "adam"}),
    ],
)
def test_several_processes_give_the_loss_curve_of_one(tmp_path, capfd, processes, changes):
    config = replace(CONFIG, **changes)
    alone = train(tmp_path / "alone", config)
    capfd.readouterr()
    together = train_on_all_gpus(train, tmp_path / "together", config, processes=processes)
    assert_same_curve(alone, together)
    assert alone.history.train_loss.iloc[-1] < alone.history.train_loss.iloc[0]
    # One run, whoever made it; and one process speaks and writes.
    assert record(alone)["identity"] == record(together)["identity"] and alone.card == together.card
    assert (record(alone)["processes"], record(together)["processes"]) == (1, processes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "together"]
    assert sorted(path.name for path in alone.folder.iterdir()) == sorted(path.name for path in together.folder.iterdir())
    assert capfd.readouterr().out.count("epoch ") == 4


class Findings(Squares):
    """Images with two truths of three classes each, in unequal numbers."""

    def __getitem__(self, item):
        image, _ = super().__getitem__(item)
        return (image,), torch.tensor([item % 3, item % 5 // 2])


class TwoHeads(Network):
    """Two heads on the mean of a convolution."""

    def __init__(self):
        super().__init__()
        self.body, self.heads = nn.Conv2d(1, 8, 3), nn.ModuleDict({name: nn.Linear(8, 3) for name in ("condition", "severity")})
        self.spec = {"architecture": "two heads", "in_channels": 1, "n_classes": 6, "options": {}, "initial_weights": "random"}

    def forward(self, images):
        features = self.body(images).relu().mean((2, 3))
        return {name: head(features) for name, head in self.heads.items()}


@pytest.mark.parametrize("by_training", [False, True])
def test_heads_with_weighted_classes_give_the_loss_curve_of_one(tmp_path, by_training):
    """The loss of a head with weights is a weighted mean, and the shares of a batch hold unequal weights."""

    def run(name):
        task = ClassificationTask({"condition": 3, "severity": 3}, "severity", {"severity": (1, 2, 4)}, by_training)
        torch.manual_seed(0)
        config = replace(CONFIG, loss="ce", learning_rate=0.1)
        sets = Findings(26), Findings(13, seed=1)
        return fit(TwoHeads(), *sets, tmp_path / name, config, {}, task=task, device="cpu")

    alone, together = run("alone"), train_on_all_gpus(run, "together", processes=2)
    assert_same_curve(alone, together)
    assert alone.history.train_loss.nunique() == 4


def test_every_process_has_dropout_of_its_own(tmp_path):
    def run():
        model = build_model("small", 1, 4, dropout=0.5)
        dropout = next(module for module in model.modules() if isinstance(module, nn.Dropout2d))
        drawn = tmp_path / f"drawn-{os.environ.get('RANK', 'here')}"

        def note(_, inputs, output):
            if model.training:
                with open(drawn, "a") as file:
                    file.write(f"{(output == 0).all((2, 3)).int().tolist()}\n")

        dropout.register_forward_hook(note)
        return train(tmp_path / "run", replace(CONFIG, epochs=1), model=model)

    train_on_all_gpus(run, processes=2)
    first, second = ((tmp_path / f"drawn-{rank}").read_text().splitlines() for rank in (0, 1))
    assert len(first) == len(second) == 4 and all(a != b for a, b in zip(first, second, strict=True))
    assert not (tmp_path / "drawn-here").exists()


# --------------------------------------------------------------------------------------------------------------- batch norm


def test_batch_norms_on_cpus_validate_as_they_are_saved(tmp_path):
    """Each process has averages of its own share: those of the main one, which are saved, must have been validated."""
    run = train_on_all_gpus(train, tmp_path / "run", norm="batch", processes=2)
    validation = Squares(13, seed=1)
    images, masks = (torch.stack(parts) for parts in zip(*(validation[item] for item in range(13)), strict=True))
    with torch.inference_mode():
        right = (run.load_model()(images).argmax(1) == masks).double().mean().item()
    assert run.history.val_accuracy[run.best_epoch - 1] == pytest.approx(right, abs=1e-12)


def test_joint_batch_norms_are_the_same_network():
    """Of the two kinds that the kit's networks have; the second carries its activation (timm)."""
    torch.manual_seed(0)
    model = build_model("unetplusplus", 1, 4, encoder="tu-regnetx_002", decoder_channels=[16, 16, 12, 8, 8])
    images = torch.rand(2, 1, 64, 64)
    model(images)  # averages that are not those of the start
    names, before = list(model.state_dict()), model.eval()(images)
    joint = joint_batch_norms(model)
    norms = [module for module in joint.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 50 and all(isinstance(module, nn.SyncBatchNorm) for module in norms)
    assert joint is model and list(joint.state_dict()) == names
    torch.testing.assert_close(joint(images), before, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------------- kills, errors


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDER_KIT_HEADLESS", "1")
        return train_on_all_gpus(train, tmp_path_factory.mktemp("together") / "run", processes=2)


class Deadly(Squares):
    """``Squares`` that kill one process in the middle of an epoch."""

    def __init__(self, n, rank, pids):
        super().__init__(n)
        self.rank, self.pids, self.read = str(rank), pids, 0

    def __getitem__(self, item):
        self.read += self.epoch == 3
        (self.pids / str(os.getpid())).touch()
        if self.read == 5 and os.environ.get("RANK") == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(item)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_the_run_goes_on(tmp_path, together, capfd, rank):
    pids = tmp_path / "pids"
    pids.mkdir()
    with pytest.raises(KitError, match=r"one of 2 training processes was killed.*goes on after the last epoch"):
        train_on_all_gpus(train, tmp_path / "run", train_set=Deadly(26, rank, pids), processes=2)
    found = [int(path.name) for path in pids.iterdir()]
    assert len(found) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in found)
    assert not (tmp_path / "run").exists() and capfd.readouterr().err == ""
    gone_on = train_on_all_gpus(train, tmp_path / "run", processes=2)
    assert "going on after epoch 2 of 4" in capfd.readouterr().out
    assert_same_bits(gone_on, together)
    assert record(gone_on)["parts"] == 2


def test_one_process_goes_on_where_two_were_killed(tmp_path, together):
    with pytest.raises(KitError, match="was killed"):
        train_on_all_gpus(train, tmp_path / "run", train_set=Deadly(26, 1, tmp_path), processes=2)
    gone_on = train(tmp_path / "run")
    assert_same_curve(gone_on, together)
    assert (record(gone_on)["processes"], record(gone_on)["parts"]) == (1, 2)


def test_a_batch_must_be_divisible(tmp_path):
    with pytest.raises(KitError, match=r"a batch of 6 cannot be shared equally by 4 processes.*such as 8"):
        train_on_all_gpus(train, tmp_path / "run", processes=4)
    with pytest.raises(KitError, match="a batch of 13 cannot be shared equally by 2 processes"):
        train_on_all_gpus(train, tmp_path / "run", replace(CONFIG, batch_size=16), Squares(13), processes=2)
    assert not any(tmp_path.iterdir())


def test_an_error_in_one_process_is_the_error_here(tmp_path, capfd):
    with pytest.raises(KitError, match=r"^a mask holds class [4-7], but the model has classes 0 to 3"):
        train_on_all_gpus(train, tmp_path / "run", train_set=Wrong(26), processes=2)
    with file_lock(tmp_path / "other.lock"), pytest.raises(KitError, match="is training in this run folder right now"):
        train_on_all_gpus(train, tmp_path / "other", processes=2)

    def odd(kind):
        if "RANK" in os.environ:
            raise kind("something is odd")

    with pytest.raises(ValueError, match="^something is odd$"):
        train_on_all_gpus(odd, ValueError, processes=2)
    with pytest.raises(RuntimeError, match=r"KeyError: 'something is odd'\nin one of 2 training processes:\nTraceback"):
        train_on_all_gpus(odd, KeyError, processes=2)
    assert capfd.readouterr().err == ""


def test_an_interrupt_ends_all(tmp_path):
    def interrupted():
        if os.environ.get("RANK") == "1":
            os.kill(os.getppid(), signal.SIGINT)
        signal.pause()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_on_all_gpus(interrupted, processes=2)
    assert signal.getsignal(signal.SIGINT) is before


# --------------------------------------------------------------------------------------------------------------- no launcher


def test_one_gpu_or_none_needs_no_launcher(monkeypatch):
    monkeypatch.setattr(launch, "_launch", None)
    for gpus, processes in ((0, None), (1, None), (2, 1)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert train_on_all_gpus(lambda a, b: a - b, 3, b=1, processes=processes) == 2


def test_all_gpus_are_taken(monkeypatch):
    taken = []
    monkeypatch.setattr(launch, "_launch", lambda *args: taken.append(args[3]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    train_on_all_gpus(int)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    train_on_all_gpus(int)  # in a process that was launched
    assert taken == [2]


def test_what_cannot_be_launched_is_said(monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KitError, match="there are 2 GPUs for 3 processes"):
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        train_on_all_gpus(int, processes=3)
    with monkeypatch.context() as patch, pytest.raises(KitError, match="has used a GPU already"):
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        train_on_all_gpus(int, processes=2)
    with monkeypatch.context() as patch, pytest.raises(KitError, match=r"needs the package accelerate.*\[gpus\]"):
        patch.setitem(sys.modules, "accelerate", None)
        train_on_all_gpus(int, processes=2)
    with monkeypatch.context() as patch, pytest.raises(KitError, match="needs Linux"):
        patch.delattr(os, "fork")
        train_on_all_gpus(int, processes=2)
