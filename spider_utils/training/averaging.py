"""Weights of several trainings averaged: one network, as fast as one, that has something of each.

Trainings that begin with the same weights and go on with different data or augmentation end close enough to one another that the
mean of their weights is a good network, too, often a better one on pictures of other kinds (Wortsman et al., ICML 2022, "Model
soups"; CVPR 2022, "Robust fine-tuning of zero-shot models"). Of trainings that began with other weights it is none. Running
means and variances of normalisation are averaged like weights, not taken anew from the training's pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spider_utils.files import atomic_folder, fingerprint, read_json_object, sha256_of, write_json
from spider_utils.locks import make_once
from spider_utils.training.checkpoints import CARD_FILE, WEIGHTS_FILE, load_model, write_tensors
from spider_utils.training.runs import RunResult


@dataclass(frozen=True)
class Averaged:
    """The mean of runs' networks.

    Attributes:
        folder: holds ``model.safetensors`` and ``model.json``, as a run's folder does.
        card: what all runs' cards say alike; ``data`` is of all together, and ``averaged`` says of each run which it is, its
            share, the checksum of its weights, its data, and what its card says otherwise than the others'.
    """

    folder: Path
    card: dict[str, Any]


def average_runs(runs: Sequence[RunResult], shares: Sequence[float], folder: str | Path) -> Averaged:
    """Average the networks of runs that began with the same weights and know the same patients.

    Args:
        runs: two or more.
        shares: of each, positive; their sum is 1.
        folder: made when it is not there, or not of these runs; of several processes at once one makes it.

    Raises:
        ValueError: shares do not fit, or the runs differ in architecture, scheme, size, split or what they started from.
    """
    if len(runs) != len(shares) or len(runs) < 2 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"{len(runs)} runs need as many positive shares with a sum of 1, not {list(shares)}")
    cards = [run.card for run in runs]
    for key in ("architecture", "options", "scheme", "size", "split", "starts_from"):
        found = [card.get(key) for card in cards]
        if found[0] is None or any(one != found[0] for one in found):
            raise ValueError(f"runs are averaged that began alike; these say of '{key}': {', '.join(map(str, found))}")
    common = {key: value for key, value in cards[0].items() if key != "data" and all(card.get(key) == value for card in cards)}
    own = [{key: value for key, value in card.items() if key not in common} for card in cards]
    sums = [sha256_of(Path(run.folder) / WEIGHTS_FILE) for run in runs]
    averaged = [
        {"run": Path(run.folder).name, "share": share, "sha256": sha256} | facts
        for run, share, sha256, facts in zip(runs, shares, sums, own, strict=True)
    ]
    data = {"kind": cards[0]["data"]["kind"], "fingerprint": fingerprint([card["data"] for card in cards])}
    folder = Path(folder)
    card = common | {"data": data, "averaged": averaged}

    def is_there() -> bool:
        return (folder / CARD_FILE).is_file() and read_json_object(folder / CARD_FILE) == card

    make_once(folder, is_there, lambda: _write(runs, shares, folder, card))
    return Averaged(folder, card)


def _write(runs: Sequence[RunResult], shares: Sequence[float], folder: Path, card: dict[str, Any]) -> None:
    models = [load_model(run.folder)[0] for run in runs]
    tensors = models[0].state_dict()
    for name, tensor in tensors.items():
        if tensor.is_floating_point():  # counters stay those of the first
            parts = [share * model.state_dict()[name] for share, model in zip(shares, models, strict=True)]
            tensors[name] = torch.stack(parts).sum(0)
    with atomic_folder(folder, marker=CARD_FILE) as partial:
        write_tensors(partial / WEIGHTS_FILE, tensors)
        write_json(partial / CARD_FILE, card)
