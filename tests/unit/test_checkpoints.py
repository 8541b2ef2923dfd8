"""Models and training states on disk: equal after a round trip, one clear error for every kind of damage."""

import json
import os
import pickle
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from spider_utils.errors import DataError
from spider_utils.models import build_model
from spider_utils.training.checkpoints import (
    copy_matching_weights,
    load_model,
    read_training_state,
    save_model,
    write_tensors,
    write_training_state,
)

SMALL = {"decoder_channels": (8, 8, 8)}


def small_model(seed=0, n_classes=3):
    torch.manual_seed(seed)
    return build_model("unet", 1, n_classes, **SMALL)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(folder, small_model(), {"scheme": "structures4", "size": [64, 64], "data": "0123"})
    return folder


@pytest.fixture
def damaged(saved, tmp_path):
    """A copy of the saved model, to be damaged."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_card_holds_all_that_is_needed_to_rebuild(saved):
    card = json.loads((saved / "model.json").read_text())
    assert card == {
        "architecture": "unet",
        "in_channels": 1,
        "n_classes": 3,
        "options": {"encoder": "resnet18", "encoder_weights": None, "decoder_channels": [8, 8, 8]},
        "initial_weights": "random",
        "scheme": "structures4",
        "size": [64, 64],
        "data": "0123",
    }
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_files_can_be_read_by_whom_the_umask_allows(saved):
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in saved.iterdir()}
    assert len(modes) == 1


def test_loading_fetches_no_imagenet_weights(damaged, monkeypatch):
    def offline(*args, **kwargs):
        raise AssertionError("a fetch was tried")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    path = damaged / "model.json"
    card = json.loads(path.read_text())
    card["options"]["encoder_weights"], card["initial_weights"] = "imagenet", "imagenet"
    path.write_text(json.dumps(card))
    model, _ = load_model(damaged)
    assert model.spec["options"]["encoder_weights"] == "imagenet"


def test_an_earlier_card_with_the_transformers_pace_among_the_options_loads(damaged):
    path = damaged / "model.json"
    card = json.loads(path.read_text())
    card["options"]["transformer_pace"] = 0.2
    path.write_text(json.dumps(card))
    model, read = load_model(damaged)
    assert "transformer_pace" not in model.spec["options"] and "transformer_pace" not in read["options"]


def test_a_card_that_contradicts_the_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="card says n_classes = 20, but the model was built with 3"):
        save_model(tmp_path / "m", small_model(), {"n_classes": 20})
    assert not (tmp_path / "m").exists()


def test_missing_folder_card_and_weights(damaged, tmp_path):
    with pytest.raises(DataError, match="nowhere: the folder does not exist"):
        load_model(tmp_path / "nowhere")
    (damaged / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: the file does not exist"):
        load_model(damaged)
    (damaged / "model.json").unlink()
    with pytest.raises(DataError, match=r"holds no model\.json"):
        load_model(damaged)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights(damaged, keep):
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"model\.safetensors: is damaged or no safetensors file"):
        load_model(damaged)


class Bomb:
    """What a hostile pickle looks like: loading it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [2, 4, "torch"])
def test_a_pickle_in_disguise_is_not_opened(damaged, tmp_path, protocol):
    path, proof = damaged / "model.safetensors", tmp_path / "exploded"
    if protocol == "torch":
        torch.save({"w": Bomb(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(proof), protocol=protocol))
    with pytest.raises(DataError, match="is a pickle"):
        load_model(damaged)
    assert not proof.exists()


def test_other_files_in_disguise(damaged):
    path = damaged / "model.safetensors"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match="is an HDF5 file"):
        load_model(damaged)
    path.write_bytes(b"cos\nsystem\n(S'echo'\ntR.")  # a pickle of protocol 0 has no mark, but is no safetensors either
    with pytest.raises(DataError, match="is damaged or no safetensors file"):
        load_model(damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card | {"architecture": "vnet"}, r"unknown architecture 'vnet' \(known: .*unet"),
        (lambda card: {key: value for key, value in card.items() if key != "options"}, "lacks a proper options"),
        (lambda card: card | {"n_classes": "three"}, "lacks a proper n_classes"),
        (lambda card: card | {"options": {"wings": 2}}, "no option wings"),
        (lambda card: card | {"options": {"decoder_channels": "888"}}, r"model\.json: "),
        (lambda card: [card], "holds no JSON object but a list"),
    ],
)
def test_damaged_cards(damaged, change, message):
    path = damaged / "model.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=message) as caught:
        load_model(damaged)
    assert "model.json" in str(caught.value) and "\n" not in str(caught.value)


def test_card_that_is_no_json(damaged):
    (damaged / "model.json").write_text('{"architecture": "un')
    with pytest.raises(DataError, match=r"model\.json: cannot be read as JSON"):
        load_model(damaged)


def test_weights_of_another_network(damaged):
    path = damaged / "model.safetensors"
    save_model(damaged, small_model(n_classes=5), {})
    card = json.loads((damaged / "model.json").read_text())
    (damaged / "model.json").write_text(json.dumps(card | {"n_classes": 3}))
    with pytest.raises(DataError, match=r"segmentation_head.0.weight has shape \(5, 8, 3, 3\), .* asks for \(3, 8, 3, 3\)"):
        load_model(damaged)
    (damaged / "model.json").write_text(json.dumps(card))
    weights = load_file(path)
    name = "body.encoder.conv1.weight"
    save_file({key: value for key, value in weights.items() if key != name}, path)
    with pytest.raises(DataError, match=f"lacks the tensor {name}"):
        load_model(damaged)
    save_file(weights | {"extra": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="holds 1 tensors that model.json knows nothing of, such as extra"):
        load_model(damaged)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    write_tensors(path, {"a": torch.zeros(2)})
    before = path.read_bytes()

    def full(tensors, filename, metadata):
        open(filename, "wb").write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spider_utils.training.checkpoints.save_file", full)
    with pytest.raises(DataError, match="disk is full"):
        write_tensors(path, {"a": torch.ones(2)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def _some_steps(model, optimizer, n, seed):
    torch.manual_seed(seed)
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.rand(4, 1, 16, 16).contiguous(memory_format=torch.channels_last)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1),
        lambda weights: torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1, fused=True),
        lambda weights: torch.optim.SGD(weights, lr=1e-2, momentum=0.9),
    ],
)
def test_training_goes_on_from_a_stored_state_as_if_never_interrupted(tmp_path, make):
    model = small_model().to(memory_format=torch.channels_last).train()
    optimizer = make(model.parameters())
    _some_steps(model, optimizer, 3, seed=1)
    optimizer.param_groups[0]["lr"] = 5e-3
    write_training_state(tmp_path / "state.safetensors", model, optimizer, {"epoch": 3, "best": -float("inf")})
    _some_steps(model, optimizer, 3, seed=2)

    resumed = small_model(seed=9).to(memory_format=torch.channels_last).train()
    other = make(resumed.parameters())
    notes = read_training_state(tmp_path / "state.safetensors", resumed, other, "fix")
    assert notes == {"epoch": 3, "best": -float("inf")}
    _some_steps(resumed, other, 3, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_a_damaged_state_names_the_file_and_the_fix(tmp_path):
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters())
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"not a state")
    with pytest.raises(DataError, match=r"state\.safetensors: is damaged .*\. Delete it"):
        read_training_state(path, model, optimizer, "Delete it")
    write_training_state(path, small_model(n_classes=5), optimizer, {})
    with pytest.raises(DataError, match="has shape"):
        read_training_state(path, model, optimizer, "Delete it")


def test_weights_are_copied_by_name_and_class():
    """Transfer to more classes: the body is copied, each new class starts as the class that it is a part of."""
    options = {"encoder": "resnet18", "decoder_channels": [8, 8, 8]}
    four = build_model("unet", in_channels=1, n_classes=2, **options)
    five = build_model("unet", in_channels=1, n_classes=3, **options)
    left = copy_matching_weights(four, five)
    assert left and all("head" in name for name in left)
    assert copy_matching_weights(four, five, class_of=[0, 1, 1]) == []
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        old, new = four.eval()(image), five.eval()(image)
    torch.testing.assert_close(new, old[:, [0, 1, 1]])
    shuffled = {"widths": [4, 8], "pixel_shuffle": 2}
    four, five = (build_model("resunet", in_channels=1, n_classes=n, **shuffled) for n in (2, 3))
    assert copy_matching_weights(four, five, class_of=[0, 1, 1]) == []
    with torch.no_grad():
        torch.testing.assert_close(five.eval()(image), four.eval()(image)[:, [0, 1, 1]])
    with pytest.raises(ValueError, match="share no weight"):
        copy_matching_weights(torch.nn.Linear(2, 2), five)
