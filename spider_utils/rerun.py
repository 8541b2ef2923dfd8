"""A finished training made again from its ``run.json``, and compared with what it was."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spider_utils.data.axial import AXIAL_SCHEME
from spider_utils.errors import DataError, KitError
from spider_utils.files import fingerprint, read_json
from spider_utils.findings import PROTOCOLS, FindingStudy
from spider_utils.models import VOLUME_ARCHITECTURES
from spider_utils.training.config import TrainConfig
from spider_utils.training.runs import RUN_FILE, TRAINING_VERSION, RunResult
from spider_utils.triplanar.axial import AxialStudy
from spider_utils.triplanar.study import TriplanarStudy
from spider_utils.workflow import Workspace

MACHINE = ("versions", "git_commit", "platform", "device", "device_name", "threads", "processes", "amp")  # may change the numbers
_TIMES = ("seconds",)


@dataclass(frozen=True)
class Comparison:
    """A run and the same training made again.

    Attributes:
        weights: tensors of the network.
        other_weights: how many of them are not the same, bit for bit.
        largest_step: the largest difference of two weights.
        history: the largest difference in each column of the history that differs, times left out; the number of epochs when
            that differs.
        machine: what differs of versions, machine and number format: then, now.
    """

    weights: int
    other_weights: int
    largest_step: float
    history: dict[str, float]
    machine: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether every weight and every number of the history is the same, bit for bit."""
        return not self.other_weights and not self.history


def repeat(run_file: str | Path, root: str | None = None, keep: str | Path | None = None) -> Comparison:
    """Train again as a ``run.json`` says, apart from all other runs, and compare. On a CPU as many threads are used as then.

    Args:
        run_file: ``run.json`` of a finished run, or its folder.
        root: folder of the real data, where it is not the one of then.
        keep: a new or empty folder for the new run; it is thrown away when None.

    Raises:
        DataError: there is no such run, its ``run.json`` does not say where its data come from, or ``keep`` holds something.
        KitError: data or settings are others today: the new run would not be the same training.
    """
    folder = Path(run_file).parent if Path(run_file).name == RUN_FILE else Path(run_file)
    then = RunResult.open(folder)
    record = read_json(folder / RUN_FILE)
    made_in = record.get("made_in")
    if not made_in:
        raise DataError(
            folder / RUN_FILE, "does not say which profile and data it was made with", "Only runs of a workspace are repeated."
        )
    if record["identity"]["code"] != TRAINING_VERSION:
        raise KitError(_another(folder, ["code"]))
    # What lies there could be overwritten, or be taken for the new run and compared with itself.
    if keep is not None and Path(keep).exists() and (not Path(keep).is_dir() or any(Path(keep).iterdir())):
        raise DataError(keep, "is not empty", "Give a new folder.")
    # Everything but the runs stays where it is: data and slices are looked at, not made again.
    workspace = Workspace.open(made_in["profile"], made_in["data"], root or made_in["root"])
    threads = torch.get_num_threads()
    with contextlib.nullcontext(keep) if keep else tempfile.TemporaryDirectory(prefix="spider-kit-rerun-") as apart:
        try:
            torch.set_num_threads(record["threads"])
            now = _trainer(then)(replace(workspace, runs=Path(apart)), then, made_in)
        finally:
            torch.set_num_threads(threads)
        today = read_json(now.folder / RUN_FILE)
        if today["identity"] != record["identity"]:
            changed = [name for name, value in record["identity"].items() if today["identity"].get(name) != value]
            raise KitError(_another(folder, changed))
        return _compare(then, now, record, today)


def _another(folder: Path, changed: list[str]) -> str:
    return f"{folder}: cannot be made again, as this is another training today: {', '.join(changed)} differ"


def _compare(then: RunResult, now: RunResult, record: dict[str, Any], today: dict[str, Any]) -> Comparison:
    """See Comparison."""
    old, new = (run.load_model().state_dict() for run in (then, now))
    steps = [float((old[name].double() - new[name].double()).abs().max()) for name in old if old[name].numel()]
    unequal = sum(not torch.equal(old[name], new[name]) for name in old)
    history = {}
    if len(then.history) != len(now.history):
        history["epochs"] = float(abs(len(then.history) - len(now.history)))
    else:
        for column in then.history.columns.difference(_TIMES):
            a, b = then.history[column].to_numpy(), now.history[column].to_numpy()
            if not np.array_equal(a, b, equal_nan=True):
                apart = np.isnan(a) != np.isnan(b)  # a number on one side alone
                history[column] = math.inf if apart.any() else float(np.nanmax(np.abs(a - b)))
    record = {"processes": 1} | record  # not in those of before several could train together
    machine = {name: (record.get(name), today.get(name)) for name in MACHINE if record.get(name) != today.get(name)}
    return Comparison(len(old), unequal, max(steps, default=0.0), history, machine)


# ---------------------------------------------------------------------------------------------------------------- trainers


def _trainer(run: RunResult) -> Callable[[Workspace, RunResult, dict[str, str]], RunResult]:
    """Who made a run, by what it learned."""
    by_scheme = {"findings": _findings, "discs": _plane, AXIAL_SCHEME: _axial}
    of_series = _volumes if run.card["architecture"] in VOLUME_ARCHITECTURES else _slices
    return by_scheme.get(run.card["scheme"], of_series)


def _config(run: RunResult) -> dict[str, Any]:
    return read_json(run.folder / RUN_FILE)["identity"]["config"]


def _given(run: RunResult, *names: str) -> dict[str, Any]:
    """The card's entries of these names, where there are any."""
    return {name: run.card[name] for name in names if name in run.card}


def _slices(workspace: Workspace, run: RunResult, _: dict[str, str]) -> RunResult:
    card, settings = run.card, _given(run, "augment", "slice_gap_mm", "neighbours", "enlarged_to")
    if "starts_from" in card:
        beside = run.folder.parent / card["starts_from"]["run"]
        if not beside.is_dir():
            raise DataError(beside, "is not there, and the run started from it", "Put it beside the run that is repeated.")
        start = RunResult.open(beside)
        if fingerprint(start.card) != card["starts_from"]["card"]:
            raise KitError(f"{run.folder} started from a run that is another one today: make {start.folder.name} again first")
        settings["start_from"] = start
    return workspace.train(
        card["architecture"],
        card["scheme"],
        split=workspace.split_of(run),
        size=tuple(card["size"]),
        options=card["options"],
        crop_columns=card["crop_columns"] or 0,
        **settings,
        **_config(run),
    )


def _volumes(workspace: Workspace, run: RunResult, _: dict[str, str]) -> RunResult:
    card, config = run.card, _config(run)
    return workspace.train_volumes(
        card["architecture"],
        card["preparation"],
        card["scheme"],
        split=workspace.split_of(run),
        size=tuple(card["size"]),
        stretched=card["voxel_mm"] is None,
        options={name: value for name, value in card["options"].items() if name != "image_size"},
        steps_per_epoch=config.pop("samples_per_epoch") // config["batch_size"],
        **_given(run, "augment", "class_shares"),
        **config,
    )


def _findings(workspace: Workspace, run: RunResult, made_in: dict[str, str]) -> RunResult:
    card, study = run.card, FindingStudy.open(workspace, made_in["rsna"] or None)
    config, usual = _config(run), asdict(TrainConfig())
    # What the study sets by itself, and what else was chosen: the folder is named after all that is given here.
    own = ("epochs", "batch_size", "learning_rate", "schedule", "early_stop_patience", "loss", "amp", "seed")
    return study.train(
        card["architecture"],
        PROTOCOLS[card["protocol"]],
        card["split"]["name"],
        metadata=bool(card["options"]["metadata"]),
        **{name: value for name, value in config.items() if name in own or value != usual[name]},
    )


def _plane(workspace: Workspace, run: RunResult, _: dict[str, str]) -> RunResult:
    study = TriplanarStudy.open(workspace)
    fold = study.folds[run.card["split"]["fold"]]
    return study.train(fold, run.card["plane"], run.card["patients"], run.card["cropped"])


def _axial(workspace: Workspace, run: RunResult, _: dict[str, str]) -> RunResult:
    return AxialStudy.open(workspace).train(run.card["split"]["fold"])
