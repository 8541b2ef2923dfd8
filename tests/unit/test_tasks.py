"""What the fit loop learns: classification by hand, and the same loop, checkpoints and resume as segmentation."""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from spider_utils.errors import KitError
from spider_utils.evaluation.weighted_log_loss import log_loss
from spider_utils.files import read_json
from spider_utils.models.classifiers import build_classifier
from spider_utils.training import loop
from spider_utils.training.config import TrainConfig
from spider_utils.training.loop import fit
from spider_utils.training.tasks import ClassificationTask, SegmentationTask

HEADS = {"condition": 3, "severity": 3}


class Spots(torch.utils.data.Dataset):
    """Pictures with a bright spot in one of three places (condition), of three strengths (severity)."""

    def __init__(self, n=12, seed=0):
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.n

    def __getitem__(self, item):
        random = np.random.default_rng([self.seed, item])
        condition, severity = random.integers(0, 3, 2)
        image = np.random.default_rng([self.seed, item, self.epoch]).normal(0, 0.05, (32, 32))
        image[8:24, 10 * condition : 10 * condition + 10] += (1 + severity) / 3
        return (torch.from_numpy(image.astype(np.float32))[None], torch.tensor([0.5, -1.0])), torch.tensor([condition, severity])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def task(**settings):
    return ClassificationTask(HEADS, **{"chosen_by": "severity", "class_weights": {"severity": (1, 2, 4)}, **settings})


LOGITS = {
    "condition": torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]),
    "severity": torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.5, 0.0, 0.0]]),
}
TRUTH = torch.tensor([[0, 0], [1, 2], [2, 1]])


def test_loss_by_hand():
    """The severity part is the challenge's weighted log loss of these rows."""
    plain = -np.mean([logits.log_softmax(0)[k].item() for logits, k in zip(LOGITS["condition"], TRUTH[:, 0], strict=True)])
    given = LOGITS["severity"].softmax(1).double().numpy()
    truth = TRUTH[:, 1].numpy()
    weighted = log_loss(truth, given, np.array([1.0, 2.0, 4.0])[truth])
    by_hand = -(1 * np.log(given[0, 0]) + 4 * np.log(given[1, 2]) + 2 * np.log(given[2, 1])) / 7
    assert weighted == pytest.approx(by_hand)
    assert float(task().loss(LOGITS, TRUTH)) == pytest.approx(plain + by_hand, rel=1e-5)


def test_meter_by_hand():
    meter = task().meter()
    meter.update(TRUTH[:2], {head: logits[:2] for head, logits in LOGITS.items()})
    meter.update(TRUTH[2:], {head: logits[2:] for head, logits in LOGITS.items()})
    columns = meter.columns()
    assert columns["val_condition_accuracy"] == pytest.approx(2 / 3)
    assert columns["val_severity_balanced_accuracy"] == pytest.approx((1 + 0 + 1) / 3)
    assert meter.score() == pytest.approx(np.exp(-columns["val_severity_loss"])) and meter.score() > 0
    chosen = task(chosen_by="condition", training_accuracy=True)
    assert chosen.score_name == "train_condition_accuracy" and chosen.facts["chosen_by"] == chosen.score_name
    assert "condition 0.667" in meter.text()


def test_truth_is_checked():
    for truth in (torch.tensor([[0, 3]]), torch.tensor([[-1, 0]]), torch.tensor([[0]])):
        with pytest.raises(KitError, match=r"condition \(0 to 2\), severity \(0 to 2\)"):
            task().parts(((torch.zeros(1, 1, 8, 8),), truth))
    with pytest.raises(KitError, match="a mask holds class 3"):
        SegmentationTask("ce", 3).parts((torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), 3)))
    with pytest.raises(ValueError, match="no head 'colour'"):
        task(chosen_by="colour")
    with pytest.raises(ValueError, match="one weight a class"):
        task(class_weights={"severity": (1, 2)})


CONFIG = TrainConfig(epochs=3, batch_size=4, learning_rate=2e-3, schedule="one_cycle", amp="off", loss="ce", seed=1)


def train(folder, chosen=None, **more):
    torch.manual_seed(0)
    chosen = chosen or task()
    model = build_classifier("mobilenetv2", heads=HEADS, metadata=2, dense=16)
    return fit(model, Spots(8), Spots(4, 1), folder, CONFIG, {}, task=chosen, save_every_s=0, **more)


def test_killed_and_gone_on_with_the_same_numbers(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    saves = []
    write = loop.write_training_state

    def dies(*args):
        write(*args)
        saves.append(1)
        if len(saves) == 3:  # the start, the first and the second epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_training_state", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    monkeypatch.undo()
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    again = train(tmp_path / "cut")
    pd.testing.assert_frame_equal(whole.history.drop(columns="seconds"), again.history.drop(columns="seconds"), check_exact=True)
    assert (whole.folder / "model.safetensors").read_bytes() == (again.folder / "model.safetensors").read_bytes()
    best = whole.history["val_severity_score"].idxmax()
    assert whole.best_epoch == whole.history["epoch"][best]
    assert read_json(whole.folder / "run.json")["best_val_severity_score"] == whole.history["val_severity_score"][best]
    model = whole.load_model()
    assert set(model.heads) == set(HEADS) and not model.training


def test_a_plateau_lowers_the_learning_rate(tmp_path, monkeypatch):
    """Scores that do not rise: after ``plateau_patience`` epochs the rate falls. With a negative score it never would."""
    meter = type(task().meter())
    scores = meter._scores
    monkeypatch.setattr(meter, "_scores", lambda self, head: scores(self, head) | {"loss": 1.5})
    stuck = dataclasses.replace(CONFIG, schedule="plateau", plateau_patience=1, epochs=4)
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", stuck)
    rates = train(tmp_path / "run").history["learning_rate"]
    assert rates.iloc[-1] == pytest.approx(CONFIG.learning_rate * CONFIG.plateau_factor)


def test_chosen_by_training_accuracy_as_printed(tmp_path):
    chosen = task(chosen_by="condition", class_weights={}, training_accuracy=True)
    run = train(tmp_path / "run", chosen)
    score = run.history["train_condition_accuracy"]
    assert run.best_epoch == run.history["epoch"][score.idxmax()] and score.between(0, 1).all()
    assert (score * 8).round(9).apply(float.is_integer).all(), "a share of the eight training pictures"
    with pytest.raises(KitError, match="holds a run with other settings"):
        train(tmp_path / "run")
