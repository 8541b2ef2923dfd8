"""Run folders: what a finished one holds, which run it is, and how one replaces another."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spider_utils.errors import DataError, KitError
from spider_utils.files import explain_write_error, read_csv, read_json, read_json_object
from spider_utils.models.network import Network
from spider_utils.training.checkpoints import CARD_FILE, WEIGHTS_FILE, load_model
from spider_utils.training.config import TrainConfig

RUN_FILE, HISTORY_FILE, STATE_FILE = "run.json", "history.csv", "training_state.safetensors"
TRAINING_VERSION = 2  # raised whenever the same settings give other weights: loss, loop, augmentation, initial weights
_NOTHING = "nothing"


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: holds ``run.json``, ``history.csv``, ``model.safetensors`` and ``model.json``.
        history: one row an epoch: epoch, train_loss, val_loss, the task's columns (see training.tasks), learning_rate (at the
            end of the epoch), seconds.
        best_epoch: the epoch whose weights were kept, the best by the task's score: val_mean_iou for segmentation.
        card: what is known about the model (``model.json``).
    """

    folder: Path
    history: pd.DataFrame
    best_epoch: int
    card: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> RunResult:
        """The finished run in ``folder``. Raises DataError when there is none or a file of it is missing."""
        folder = Path(folder)
        if not folder.exists():
            raise DataError(folder, "does not exist", "Give the folder of a run.")
        if not (folder / RUN_FILE).is_file():
            raise DataError(folder, f"is no run: it holds no {RUN_FILE}", "Give the folder of a run.")
        fix = "Delete the folder and train again."
        for name in (HISTORY_FILE, CARD_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise DataError(folder, f"is no finished run: {name} is missing", fix)
        try:
            # Through text, because some versions of pandas read the last digit of a number wrong.
            history = read_csv(folder / HISTORY_FILE, dtype=str).astype(float).astype({"epoch": int})
        except (ValueError, KeyError, OSError) as error:
            raise DataError(folder / HISTORY_FILE, f"cannot be read as a table ({str(error)[:160]})", fix) from error
        best_epoch = read_json_object(folder / RUN_FILE).get("best_epoch")
        if type(best_epoch) is not int:
            raise DataError(folder / RUN_FILE, "does not say which epoch was the best", fix)
        card = read_json_object(folder / CARD_FILE)
        if not isinstance(card.get("options"), dict):
            raise DataError(folder / CARD_FILE, "lacks the options of its network", fix)
        return cls(folder, history, best_epoch, card)

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen for it, by name: fields of TrainConfig, options of the network, and how slices were prepared.

        Not what it was made of: data and split stand in ``card``.
        """
        try:
            config = dict(read_json_object(self.folder / RUN_FILE)["identity"]["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(self.folder / RUN_FILE, "does not say how the run was trained", "Train it again.") from error
        made_of = ("options", "data", "split", "initial_weights")
        prepared = {name: value for name, value in self.card.items() if name not in made_of}
        return {**prepared, **self.card["options"], **config}

    def load_model(self, device: str = "cpu") -> Network:
        """The trained network, in evaluation mode, on ``device``."""
        return load_model(self.folder, device)[0]


def run_identity(config: TrainConfig, card: dict[str, Any], n_train: int, n_val: int) -> dict[str, Any]:
    """What makes two runs the same run, as JSON gives it back; ``card`` and sets describe the data, TRAINING_VERSION the code."""
    settings = {key: value for key, value in asdict(config).items() if key != "num_workers"}
    described = {key: value for key, value in card.items() if key != "initial_weights"}  # depends on the network being there
    return json.loads(
        json.dumps({"code": TRAINING_VERSION, "config": settings, "card": described, "train_items": n_train, "val_items": n_val})
    )


def is_other_run(folder: Path, identity: dict[str, Any], overwrite: bool) -> bool:
    """Whether ``folder`` is empty or holds a run with another identity that may be replaced.

    Raises:
        KitError: it holds a run with another identity, and ``overwrite`` is False.
        DataError: it holds anything else, which is never replaced.
    """
    if not folder.is_dir():
        raise DataError(folder, "is a file, not a run folder", "Choose another name.")
    if not any(folder.iterdir()):
        return True
    try:
        stored = read_json(folder / RUN_FILE)["identity"]
    except (DataError, KeyError, TypeError) as error:
        raise DataError(folder, "exists but holds no run that can be read", "Choose another folder, or delete it.") from error
    if stored == identity:
        return False
    if overwrite:
        return True
    listed = _differences(stored, identity)
    raise KitError(
        f"{folder}: holds a run with other settings ({listed}). Choose another folder, or overwrite=True to replace it."
    )


def replaced_note(folder: Path, identity: dict[str, Any]) -> str:
    """What is to be said before the finished run in ``folder``, which has another identity, is trained anew and replaced."""
    listed = _differences(read_json(folder / RUN_FILE)["identity"], identity)
    return (
        f"{folder.name}: the finished run of this name has other settings and will be replaced when this one is done ({listed})"
    )


def _differences(stored: dict[str, Any], identity: dict[str, Any]) -> str:
    """Up to five settings in which two runs differ, with both values."""
    old, new = _flat(stored), _flat(identity)
    changed = [key for key in old | new if old.get(key, _NOTHING) != new.get(key, _NOTHING)]
    listed = "; ".join(f"{key}: {old.get(key, _NOTHING)} there, {new.get(key, _NOTHING)} now" for key in changed[:5])
    return listed + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def remove_unfinished_writes(folder: Path) -> None:
    """Delete what a kill in the middle of writing a file left behind; only where nobody else can be writing."""
    for path in folder.glob(".partial-*"):
        path.unlink(missing_ok=True)


def remove_training_files(folder: Path) -> None:
    """Delete what only training needed. Other processes may be writing scores into a finished run: theirs stay."""
    for path in (folder / STATE_FILE, *folder.glob("best-*.safetensors")):
        path.unlink(missing_ok=True)


def move_into_place(partial: Path, folder: Path) -> None:
    """Rename the complete ``partial`` to ``folder``, then delete what only training needed.

    In this order a kill in between leaves either a partial folder that can be finished again or a complete one.
    """
    old = folder.with_name(folder.name + ".old")
    try:
        if old.exists():
            shutil.rmtree(old)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
    except OSError as error:
        raise explain_write_error(folder, error) from error
    shutil.rmtree(old, ignore_errors=True)
    remove_training_files(folder)
