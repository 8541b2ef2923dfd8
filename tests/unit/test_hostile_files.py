"""What tests.fuzz found, one small test each: files that ended in a traceback, a crash or a silently wrong table."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from spider_utils.data.archives import UnpackRule, unpack_zip
from spider_utils.data.gradings import read_gradings
from spider_utils.data.rsna import open_rsna
from spider_utils.data.sources import open_source
from spider_utils.data.stores import ArrayStore
from spider_utils.data.volumes import read_picture, read_volume
from spider_utils.errors import DataError, KitError
from spider_utils.files import read_csv, read_json
from spider_utils.models import build_model
from spider_utils.predict import load_predictor
from spider_utils.training.checkpoints import load_model, read_training_state, save_model, write_training_state

SMALL = {"widths": [2, 2, 2]}


def test_messages_hold_nothing_that_a_terminal_would_obey():
    assert str(KitError("a\x1b[31m\nb\u202e\0")) == "a\ufffd[31m b\ufffd\ufffd"


def test_json_that_is_nested_too_deep(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"x\.json: cannot be read as JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("mark", ["=", ":"])
def test_a_metaimage_of_very_many_dimensions(tmp_path, mark):
    """ITK's reader ends the process on it."""
    path = tmp_path / "x.mha"
    path.write_text(f"ObjectType {mark} Image\nNDims {mark} 2147483647\nDimSize {mark} 5 6 4\nElementDataFile {mark} LOCAL\n")
    with pytest.raises(DataError, match=r"x\.mha: announces '2147483647' dimensions"):
        read_volume(path)


def test_a_png_without_a_picture_and_one_of_terapixels(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(stream, "PNG")
    data = stream.getvalue()
    start = data.index(b"IDAT") - 4
    length = struct.unpack(">I", data[start : start + 4])[0]
    (tmp_path / "none.png").write_bytes(data[:start] + data[start + 12 + length :])
    head = b"IHDR" + struct.pack(">II", 2**20, 2**20) + data[24:29]
    (tmp_path / "huge.png").write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    with pytest.raises(DataError, match=r"none\.png: cannot be read as a picture"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"huge\.png: cannot be read as a picture"):
        read_picture(tmp_path / "huge.png")


def test_members_without_a_name_and_damaged_lzma(tmp_path):
    rule = UnpackRule({"*.mha": "images"})
    nameless, info = tmp_path / "nameless.zip", zipfile.ZipInfo("x")
    info.filename = ""
    with zipfile.ZipFile(nameless, "w") as archive:
        archive.writestr(info, b"")
    with pytest.raises(DataError, match="'' has no name"):
        unpack_zip(nameless, tmp_path / "root", rule)
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(damaged, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1.mha", bytes(range(256)) * 20)
    data = bytearray(damaged.read_bytes())
    data[60:80] = b"\xff" * 20
    damaged.write_bytes(data)
    with pytest.raises(DataError, match=r"'1\.mha' is damaged"):
        unpack_zip(damaged, tmp_path / "root", rule)


def test_rows_with_a_cell_too_many_do_not_move_a_table(tmp_path):
    """pandas takes the first column for an index then, and every value stands under its neighbour's name."""
    path = tmp_path / "radiological_gradings.csv"
    path.write_text("a,b\n1,2,3\n4,5,6\n")
    assert pd.read_csv(path)["a"].tolist() == [2, 5]  # what is avoided
    with pytest.raises(ValueError, match="more cells than its header"):
        read_csv(path)
    with pytest.raises(DataError, match="more cells than its header"):
        read_gradings(path)
    path.write_text("a,b\n1,2\n4,5\n")
    assert read_csv(path).equals(pd.read_csv(path))


def test_a_challenge_without_images_and_a_point_without_a_level(tmp_path):
    (tmp_path / "train.csv").write_text("study_id,spinal_canal_stenosis_l4_l5\n7,Moderate\n")
    (tmp_path / "train_series_descriptions.csv").write_text("study_id,series_id,series_description\n7,9,Sagittal T2/STIR\n")
    columns = "study_id,series_id,instance_number,condition,level,x,y"
    (tmp_path / "train_label_coordinates.csv").write_text(f"{columns}\n7,9,2,Spinal Canal Stenosis,,9,8\n")
    mistakes = open_rsna(tmp_path).check()
    assert "missing study" in set(mistakes["what"])
    assert mistakes.loc[mistakes["what"] == "unknown level", "problem"].tolist() == ["'' is no known level"]


def test_a_link_to_nothing_in_a_data_root(spider_root):
    path = spider_root / "images" / "3_t2.mha"
    path.unlink()
    path.symlink_to(spider_root / "nowhere")
    with pytest.raises(DataError, match=r"3_t2\.mha: cannot be looked at"):
        open_source("spider", spider_root).state()


@pytest.fixture
def model_folder(tmp_path):
    save_model(tmp_path / "model", build_model("resunet", 1, 4, **SMALL), {"scheme": "structures4", "size": [32, 24]})
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("options", {"widths": [2**30, 2**30, 2**30]}, "has shape|cannot be built"),
        ("n_classes", 10**30, "cannot be built"),
        ("options", {"widths": None}, "cannot be built"),
        ("size", [10**9, 10**9], "larger than any image"),
        ("size", [33, 24], "divisible by 4"),
        ("size", 7, "positive whole numbers"),
        ("neighbours", "x", "neighbours do not fit"),
        ("neighbours", 1, "neighbours do not fit"),
        ("tidy", 7, "does not say how slices go in"),
        ("tidy", {"across_mm": 1.0}, "canal_share"),
        ("tidy", {"across_mm": "far", "canal_share": 0.1}, "across_mm of 'far'"),
        ("scheme", "levels20", "classes are not those"),
        ("scheme", ["structures4"], "does not say how slices go in"),
    ],
)
def test_cards_that_ask_for_what_cannot_be(model_folder, entry, value, words):
    """Sizes are compared with the file of weights before any memory is taken."""
    card = json.loads((model_folder / "model.json").read_text())
    (model_folder / "model.json").write_text(json.dumps(card | {entry: value}))
    with pytest.raises(DataError, match=words):
        load_predictor(model_folder, "cpu")


def test_a_first_convolution_of_gigabytes(model_folder):
    """Its library makes it even where nothing should take memory."""
    card = json.loads((model_folder / "model.json").read_text())
    card |= {"architecture": "unet", "options": {"encoder": "resnet18"}, "in_channels": 400_000}
    (model_folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="asks for 400000 channels of input, not 1 to 512"):
        load_model(model_folder)


def test_an_encoder_that_is_an_address(model_folder):
    """timm would fetch it, or read a folder of this machine."""
    card = json.loads((model_folder / "model.json").read_text())
    card |= {"architecture": "unet", "options": {"encoder": "tu-hf-hub:somebody/model"}}
    (model_folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="is no name of an encoder"):
        load_model(model_folder)


def test_weights_that_are_no_numbers(model_folder):
    model = build_model("resunet", 1, 4, **SMALL)
    next(model.parameters()).data.fill_(float("nan"))
    save_model(model_folder, model, {"scheme": "structures4", "size": [32, 24]})
    with pytest.raises(DataError, match="NaN or infinite"):
        load_model(model_folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda notes: notes.pop("optimizer"), "lacks 'optimizer'"),
        (lambda notes: notes["optimizer"]["param_groups"].clear(), "not this optimizer's"),
        (lambda notes: notes["optimizer"]["param_groups"][0].update(lr="fast"), "lr is fast"),
        (lambda notes: notes["optimizer"]["param_groups"][0].update(lr=float("nan")), "lr is nan"),
        (lambda notes: notes["optimizer"]["param_groups"][0].update(betas=0.9), "betas is 0.9"),
        (lambda notes: notes["optimizer"]["numbers"].update({"99": {"x": 1}}), "of more weights than there are"),
        (lambda notes: notes.update(training=3), "is no training state"),
    ],
)
def test_training_states_of_something_else(tmp_path, change, words):
    path = tmp_path / "state.safetensors"
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    write_training_state(path, model, optimizer, {"epoch": 1})
    assert read_training_state(path, model, optimizer, "Train again.") == {"epoch": 1}
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    notes = json.loads(header["__metadata__"]["notes"])
    change(notes)
    header["__metadata__"]["notes"] = json.dumps(notes)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError, match=words):
        read_training_state(path, model, optimizer, "Train again.")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_store_whose_card_is_a_list(tmp_path):
    (tmp_path / "store.json").write_text("[1]")
    with pytest.raises(DataError, match=r"store\.json: holds no JSON object"):
        ArrayStore.open(tmp_path)
