"""Training states: one safetensors file with the optimizer's numbers in its header."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random

import torch
from torch import nn

from spider_utils.training.checkpoints import read_training_state, write_training_state
from tests.fuzz.formats.models import spoil_tensors
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import spoil_json

_FIX = "Delete it and train again."


def _pair() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def whole(folder: Path) -> bytes:
    """A state after one step."""
    model, optimizer = _pair()
    model(torch.ones(1, 1, 5, 5)).sum().backward()
    optimizer.step()
    notes = {"epoch": 1, "best_score": 0.5, "history": [{"epoch": 0, "train_loss": 1.0}]}
    write_training_state(folder / "state.safetensors", model, optimizer, notes)
    return (folder / "state.safetensors").read_bytes()


def spoil(random: Random, folder: Path, whole: bytes) -> dict[str, Call]:
    """The notes spoilt as JSON, or the file as any file of tensors."""
    length = struct.unpack("<Q", whole[:8])[0]
    header, tensors = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    if random.random() < 0.5:
        notes = json.loads(header["__metadata__"]["notes"])
        part = random.choice(("optimizer", "optimizer", None))
        text = spoil_json(random, notes[part] if part else notes).decode("utf-8", "replace")
        if part:
            text = '{"optimizer": ' + text + ', "training": ' + json.dumps(notes["training"]) + "}"
        header["__metadata__"]["notes"] = text
        plain = json.dumps(header).encode()
        data = struct.pack("<Q", len(plain)) + plain + tensors
    else:
        data = spoil_tensors(random, whole, folder)
    path = folder / "state.safetensors"
    path.write_bytes(data)

    def resume(out: Path) -> None:
        model, optimizer = _pair()
        notes = read_training_state(path, model, optimizer, _FIX)
        demand(isinstance(notes, dict), "no notes")
        model(torch.ones(1, 1, 5, 5)).sum().backward()
        optimizer.step()
        demand(all(torch.is_tensor(weight) for weight in model.parameters()), "no weights")

    return {"read_training_state": resume}
