"""Trained models: cards and weights that do not fit each other, lie about sizes, or are something else in disguise."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import torch

from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.models import build_model
from spider_utils.predict import load_predictor
from spider_utils.training.checkpoints import load_model, save_model
from spider_utils.training.runs import RunResult
from spider_utils.view.scan import describe_run
from tests.fuzz.checks import check_mask
from tests.fuzz.formats.tables import spoil_table
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import ODD_TEXTS, odd_json, spoil_bytes, spoil_json

_SMALL = {
    "modified_unet": {"widths": [2, 2, 2], "dropout_down": [0, 0, 0], "dropout_up": [0]},
    "resunet": {"widths": [2, 2, 2]},
    "unet": {"encoder": "tu-test_resnet", "decoder_channels": [8, 4, 4, 2, 2]},
}
Files = dict[str, bytes]


class _Evil:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.path}'",)


def whole(folder: Path) -> list[Files]:
    """Run folders, file by file: three small networks of slices."""
    made = []
    for name, options in _SMALL.items():
        torch.manual_seed(0)
        card = {
            "scheme": "structures4",
            "size": [32, 24],
            "neighbours": 0,
            "data": {"kind": "phantom"},
            "split": {"name": "kfold5"},
        }
        save_model(folder / name, build_model(name, 1, 4, **options), card)
        files = {path.name: path.read_bytes() for path in (folder / name).iterdir()}
        files["run.json"] = json.dumps({"best_epoch": 1, "identity": {"config": {"epochs": 2}}}).encode()
        files["history.csv"] = b"epoch,train_loss,val_loss,learning_rate,seconds\n0,1.0,1.1,0.001,3.5\n1,0.9,1.0,0.001,3.4\n"
        made.append(files)
    return made


def spoil_tensors(random: Random, data: bytes, folder: Path) -> bytes:
    """A safetensors file with an odd header, other bytes, or another format in its place."""
    way = random.random()
    if way < 0.15:
        return spoil_bytes(random, data)
    if way < 0.3:
        return _disguised(random, folder)
    length = struct.unpack("<Q", data[:8])[0]
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    if way < 0.42:
        text = spoil_json(random, header)
    else:
        for _ in range(random.choice((1, 1, 2, 4))):
            _spoil_entry(random, header)
        text = json.dumps(header).encode()
    size = (
        len(text) if random.random() < 0.9 else random.choice((0, 1, 2**63, 2**64 - 1, 100_000_000, len(text) + 1, len(text) - 1))
    )
    if random.random() < 0.1:
        tensors = random.choice((b"", tensors[:-1], tensors + b"\0" * 1000))
    return struct.pack("<Q", size) + text + tensors


def _spoil_entry(random: Random, header: dict) -> None:
    name = random.choice(sorted(header))
    entry, way = header[name], random.random()
    if not isinstance(entry, dict) or "shape" not in entry or way < 0.1:
        header[name] = odd_json(random)
    elif way < 0.25:
        del header[name]
    elif way < 0.35:
        header[random.choice(ODD_TEXTS)[:200]] = header.pop(name)
    elif way < 0.55:
        sizes = ([], [0], [1], [2**31], [2**40, 2**40], [-1], entry["shape"][::-1], [*entry["shape"], 1], [1] * 80)
        entry["shape"] = random.choice((*sizes, odd_json(random)))
    elif way < 0.75:
        kinds = ("F16", "F64", "I64", "BOOL", "BF16", "F8_E4M3", "I8", "C64", "X99", "", "U16", "F4")
        entry["dtype"] = random.choice((*kinds, odd_json(random)))
    elif way < 0.9:
        start, end = entry["data_offsets"]
        entry["data_offsets"] = random.choice(
            ([0, 0], [end, start], [start, 2**60], [start + 1, end + 1], [0, end], odd_json(random))
        )
    else:
        other = random.choice(sorted(header))
        header[name], header[other] = header[other], header[name]


def _disguised(random: Random, folder: Path) -> bytes:
    """Something else that bears a model's name."""
    evil, stream = _Evil(folder / "opened"), io.BytesIO()
    way = random.randrange(9)
    if way <= 2:
        data = pickle.dumps(evil, protocol=random.choice((0, 1, 2, 3, 4, 5)))
        return data if way < 2 else gzip.compress(data)
    if way == 3:
        torch.save({"state_dict": torch.zeros(3), "epoch": 1}, stream)
    elif way == 4:
        torch.save([1, 2], stream, _use_new_zipfile_serialization=False)
    elif way == 5:
        np.savez(stream, weights=np.zeros(5))
    elif way == 6:
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif way == 7:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(evil))
    else:
        stream.write(b"\x89HDF\r\n\x1a\n" + bytes(200))
    return stream.getvalue()


def spoil(random: Random, folder: Path, whole: list[Files]) -> dict[str, Call]:
    """One or two files of a run folder spoilt, or lacking, or of another run."""
    run = folder / "run"
    run.mkdir()
    files = dict(random.choice(whole))
    names = ("model.json", "model.json", "model.json", "model.safetensors", "model.safetensors", "run.json", "history.csv")
    for name in sorted({random.choice(names) for _ in range(random.choice((1, 1, 2)))}):
        way = random.random()
        if way < 0.03:
            del files[name]
        elif way < 0.07:
            files[name] = random.choice(whole)[name]
        elif name == "model.safetensors":
            files[name] = spoil_tensors(random, files[name], run)
        elif name == "history.csv":
            files[name] = spoil_table(random, [line.split(",") for line in files[name].decode().splitlines()])
        else:
            files[name] = spoil_json(random, json.loads(files[name]))
    for name, data in files.items():
        (run / name).write_bytes(data)
    image = Volume(np.arange(2 * 20 * 16, dtype=np.int16).reshape(2, 20, 16), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())

    def load(out: Path) -> None:
        model, card = load_model(run)
        demand(all(torch.is_tensor(weight) for weight in model.state_dict().values()) and isinstance(card, dict), "no model")

    def predict(out: Path) -> None:
        mask = check_mask(load_predictor(run, "cpu").predict_volume(image))
        demand(mask.array.shape == image.array.shape and mask.array.max() < 20, "a mask of another shape or scheme")

    def opened(out: Path) -> None:
        result = RunResult.open(run)
        demand(
            isinstance(result.history, pd.DataFrame) and isinstance(result.card, dict) and type(result.best_epoch) is int,
            "odd run",
        )
        demand(isinstance(result.settings, dict), "odd settings")

    def described(out: Path) -> None:
        demand(all(isinstance(text, str) for text in describe_run(run)), "no words")

    return {"load_model": load, "load_predictor": predict, "RunResult.open": opened, "describe_run": described}
