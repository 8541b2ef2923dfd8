"""ONNX: onnxruntime gives what torch gives, for every architecture; the file says what it is; nothing half written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.slices import SliceGrid, scale_to_uint8
from spider_utils.errors import DataError, KitError
from spider_utils.models import available_models, build_model
from spider_utils.models.classifiers import build_classifier
from spider_utils.predict import Predictor
from spider_utils.training.checkpoints import load_model, save_model

onnx = pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")

from spider_utils.export import onnx_model  # noqa: E402
from spider_utils.export.onnx_model import export_onnx  # noqa: E402

SIZE = [64, 32]


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL = {
    "deeplabv3": {"encoder": "tu-test_resnet", "aspp_channels": 8},
    "dilated_unet": {"encoder": "tu-test_resnet", "decoder_channels": [16, 8, 8, 8]},
    "modified_unet": {"widths": [4, 8, 8, 8, 16], "dropout_down": [0.1] * 5, "dropout_up": [0.1] * 3},
    "resunet": {"widths": [4, 8, 8, 8]},
    "unet": {"encoder": "tu-test_resnet", "decoder_channels": [16, 16, 8, 8, 8]},
    "unetplusplus": {"encoder": "tu-test_resnet", "decoder_channels": [16, 16, 8, 8, 8]},
    "unetr": {"image_size": [16, 32, 48], "feature_size": 2, "hidden_size": 12, "mlp_dim": 16, "num_heads": 3},
}
CARD = {"scheme": "structures4", "size": SIZE, "data": {"kind": "spider", "fingerprint": "0"}}


def some_network(name: str, in_channels: int = 1, n_classes: int = 4) -> torch.nn.Module:
    """Random weights with an opinion: batch norms have statistics as if they had seen images, and scores spread by about 1.5."""
    torch.manual_seed(0)
    model = build_model(name, in_channels, n_classes, **SMALL[name]).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    last = [one for one in model.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Conv3d)][-1]
    with torch.no_grad():
        scores = model(torch.rand(1, in_channels, *(model.image_size or SIZE)))
        for weight in last.parameters():
            weight *= 1.5 / scores.std()
    return model


def run_of(folder: Path, name: str, in_channels: int = 1, n_classes: int = 4, **card: object) -> Path:
    model = some_network(name, in_channels, n_classes)
    size = {"size": model.image_size, "preparation": "mended", "voxel_mm": None} if model.image_size else {}
    save_model(folder, model, CARD | size | card)
    return folder


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["probabilities"], {"images": images})[
        0
    ]


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Probabilities to 1e-5, and the same class wherever two do not tie."""
    assert found.shape == wanted.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    best = np.sort(wanted, axis=1)
    decided = best[:, -1] - best[:, -2] > 2e-5
    assert decided.mean() > 0.9
    np.testing.assert_array_equal(found.argmax(1)[decided], wanted.argmax(1)[decided])


def test_every_architecture_is_tested() -> None:
    assert available_models() == sorted(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_onnxruntime_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    done = export_onnx(run_of(tmp_path / "run", name), tmp_path / "model.onnx")
    assert done.largest_difference < 1e-5 and done.same_class > 0.999
    model = load_model(tmp_path / "run")[0]
    sides = model.image_size or SIZE
    for batch in (1, 4):
        images = np.random.default_rng(batch).random((batch, 1, *sides), dtype=np.float32)
        with torch.inference_mode():
            wanted = torch.softmax(model(torch.from_numpy(images)), dim=1).numpy()
        assert wanted.std() > 0.01, "a network that says the same everywhere would prove nothing"
        assert_same(answer(done.path, images), wanted)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_metadata_is_enough_to_segment_a_slice(tmp_path: Path) -> None:
    """Rebuild the kit's prediction from the file alone: grid and percentiles from its metadata."""
    done = export_onnx(run_of(tmp_path / "run", "unet"), tmp_path / "model.onnx")
    told = {one.key: one.value for one in onnx.load(done.path).metadata_props}
    assert told == done.metadata
    assert json.loads(told["classes"]) == {"0": "background", "1": "vertebra", "2": "spinal canal", "3": "disc"}
    assert told["scheme"] == "structures4" and told["architecture"] == "unet" and told["kit_version"] == "0.1.0"
    assert told["licence"].startswith("CC-BY-4.0") and "Scientific Data 11, 264" in told["citation"]
    assert json.loads(told["card"])["size"] == SIZE and told["run"] == "run"
    assert told["normalisation"].startswith("percentiles 0.5 and 99.5 of the whole series to 0 and 1")
    volume = np.random.default_rng(3).gamma(2, 200, (3, 50, 40)).astype(np.float32)
    low, high = np.percentile(volume, (0.5, 99.5))
    spacing = (1.5, 1.2)
    fitted = SliceGrid(*json.loads(told["pixel_grid"])["size"]).fit(np.clip((volume - low) / (high - low), 0, 1), spacing)
    found = answer(done.path, fitted[:, None].astype(np.float32))
    predictor = Predictor.load(tmp_path / "run", "cpu")
    wanted = predictor.grid_probabilities(predictor.grid.fit(scale_to_uint8(volume), spacing))
    np.testing.assert_allclose(found, wanted, atol=0.02)  # the kit rounds intensities to 8 bits on the way
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.98


def test_channels_are_those_that_the_run_was_given(tmp_path: Path) -> None:
    """Gray to all channels, neighbouring slices, contrasts of one plane."""

    def channels(path: Path) -> list[object]:
        shape = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
        return [one.dim_param or one.dim_value for one in shape]

    gray = export_onnx(run_of(tmp_path / "gray", "modified_unet", 3), tmp_path / "gray.onnx")
    assert channels(gray.path) == ["batch", 1, *SIZE]
    seen = export_onnx(run_of(tmp_path / "seen", "modified_unet", 3, neighbours=1), tmp_path / "seen.onnx")
    assert channels(seen.path) == ["batch", 3, *SIZE] and "channels: slices, left to right" in seen.metadata["input"]
    run = tmp_path / "plane"
    save_model(run, some_network("dilated_unet", 3, 2), {"scheme": "discs", "plane": "axial", "data": {"kind": "ivd-phantom"}})
    plane = export_onnx(run, tmp_path / "plane.onnx")
    assert channels(plane.path) == ["batch", 3, "height", "width"]
    assert json.loads(plane.metadata["classes"]) == {"0": "background", "1": "discs"}
    assert plane.metadata["licence"].startswith("Apache-2.0")
    images = np.random.default_rng(0).random((2, 3, 24, 56), dtype=np.float32)  # neither size nor proportion was traced
    with torch.inference_mode():
        wanted = torch.softmax(load_model(run)[0](torch.from_numpy(images)), dim=1).numpy()
    assert_same(answer(plane.path, images), wanted)


def test_data_of_unknown_rights_are_called_so(tmp_path: Path) -> None:
    done = export_onnx(run_of(tmp_path / "run", "modified_unet", data={"kind": "mine"}), tmp_path / "model.onnx")
    assert done.metadata["licence"] == "not known: ask whoever trained it"


# ------------------------------------------------------------------------------------------------------------- what is refused


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "run", build_classifier("mobilenetv2", dense=8), {"scheme": "findings"})
    with pytest.raises(KitError, match="holds the classifier mobilenetv2, which gives several answers a picture"):
        export_onnx(tmp_path / "run", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_differs_from_its_network_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the network changes once it is traced."""
    run = run_of(tmp_path / "run", "modified_unet")
    (tmp_path / "model.onnx").write_bytes(b"an older one")

    def describe(network: torch.nn.Module, *rest: object, true: object = onnx_model.describe) -> dict[str, str]:
        with torch.no_grad():
            network.body.segmentation_head.bias[1] += 0.1
        return true(network, *rest)

    monkeypatch.setattr(onnx_model, "describe", describe)
    with pytest.raises(KitError, match="differ .* no file was written"):
        export_onnx(run, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"an older one"


def test_bad_paths_and_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: object) -> None:
    run = run_of(tmp_path / "run", "modified_unet")
    with pytest.raises(DataError, match="an ONNX model is a .onnx file"):
        export_onnx(run, tmp_path / "model.pt")
    with pytest.raises(DataError, match="the folder does not exist"):
        export_onnx(tmp_path / "none", tmp_path / "model.onnx")
    with full_disk(1000), pytest.raises(DataError):
        export_onnx(run, tmp_path / "model.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(KitError, match=r"onnxruntime cannot be imported .*pip install 'spider-utils\[export\]'"):
        export_onnx(run, tmp_path / "model.onnx")


def test_the_command(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "modified_unet")
    out = tmp_path / "out" / "model.onnx"
    said = CliRunner().invoke(cli.app, ["export", "onnx", str(run), "--out", str(out)])
    assert said.exit_code == 0 and out.is_file(), said.output
    assert "the top class agrees in 100.0000 % of pixels" in said.output and str(out) in said.output
