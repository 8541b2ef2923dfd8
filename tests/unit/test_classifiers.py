"""The seven networks: shapes, smallest pictures, one step of each, cards, weights from the hub without a network, Grad-CAM."""

import json
import os
import warnings

import pytest
import torch
from torch import nn

from spider_utils.errors import DataError
from spider_utils.models import CLASSIFIERS, build_from_card, pretrained
from spider_utils.models.classifiers import HEADS, SMALLEST_SIDE, build_classifier
from spider_utils.models.gradcam import grad_cam
from spider_utils.models.pretrained import hub_name, load_imagenet_weights
from spider_utils.training.checkpoints import load_model, read_tensors, save_model, write_tensors
from spider_utils.training.tasks import ClassificationTask


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mobile(**options):
    torch.manual_seed(0)
    return build_classifier("mobilenetv2", **{"dense": 16, **options})


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_of_the_seven_takes_its_smallest_picture_and_learns_from_it(name):
    torch.manual_seed(0)
    model, side = build_classifier(name, dense=32), SMALLEST_SIDE[name]
    images, truth = torch.rand(2, 1, side, side), torch.tensor([[0, 1], [5, 4]])
    task = ClassificationTask(HEADS, "condition")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = next(model.backbone.parameters()).detach().clone()
    outputs = model(images)
    assert {head: tuple(logits.shape) for head, logits in outputs.items()} == {"condition": (2, 6), "level": (2, 5)}
    task.loss(outputs, truth).backward()
    optimizer.step()
    assert not torch.equal(before, next(model.backbone.parameters())), "the first layer learns as well"
    assert model.features(images).shape[2:] >= (1, 1) and model.spec["n_classes"] == 11
    with pytest.raises(ValueError, match=f"at least {side} x {side} pixels.*resize them to {side} x {side + 4}"):
        model(torch.zeros(1, 3, side - 1, side + 4))


def test_head_as_the_source_describes_it():
    model = build_classifier("mobilenetv2")
    dense, relu, dropout = model.dense
    assert dense.out_features == 1024 and isinstance(relu, nn.ReLU) and dropout.p == 0.3
    assert {name: layer.out_features for name, layer in model.outputs.items()} == {"condition": 6, "level": 5}


def test_gray_goes_to_all_three_channels_and_is_normalised_as_the_weights_were():
    model, images = mobile().eval(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        one, three = model(images), model(images.expand(-1, 3, -1, -1))
        assert torch.allclose(one["level"], three["level"], atol=1e-6)
        plain = mobile(normalise=False).eval()
        shifted = (images.expand(-1, 3, -1, -1) - model.image_mean) / model.image_std
        assert torch.allclose(plain(shifted)["level"], one["level"], atol=1e-5)


def test_age_and_sex_are_a_second_input():
    model, images = mobile(metadata=2).eval(), torch.rand(2, 1, 32, 32)
    assert model.dense[0].in_features == 1280 + 2
    with torch.no_grad():
        young, old = (model(images, torch.full((2, 2), value))["condition"] for value in (-1.0, 1.0))
    assert not torch.allclose(young, old)
    for wrong in (None, torch.zeros(2, 1)):
        with pytest.raises(ValueError, match="second input of shape"):
            model(images, wrong)


def test_saved_and_built_again(tmp_path):
    model = mobile(heads={"condition": 6, "severity": 3}, metadata=2, normalise=False).eval()
    save_model(tmp_path, model, {"scheme": "findings"})
    again, card = load_model(tmp_path)
    assert card["architecture"] == "mobilenetv2" and again.spec == model.spec
    inputs = torch.rand(2, 1, 32, 32), torch.rand(2, 2)
    with torch.no_grad():
        assert torch.equal(model(*inputs)["severity"], again(*inputs)["severity"])
    card["architecture"] = "alexnet"
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="unknown architecture 'alexnet'.*densenet121"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "alexnet"}, "unknown classifier 'alexnet'. Known are: inception_v3, xception"),
        ({"heads": {"condition": 1}}, "two classes or more"),
        ({"weights": "coco"}, "None or 'imagenet'"),
        ({"dropout": 1.0}, "below 1"),
        ({"metadata": -1}, "at least 0"),
    ],
)
def test_refusals(settings, said):
    with pytest.raises(ValueError, match=said):
        build_classifier(**{"name": "mobilenetv2", **settings})


# ------------------------------------------------------------------------------------------------------- ImageNet weights


def test_where_the_weights_lie():
    """Also for the one network for which timm names nothing but a pickle."""
    assert hub_name(mobile().backbone) == "timm/mobilenetv2_100.ra_in1k"
    assert hub_name(build_classifier("xception", dense=2).backbone) == "timm/legacy_xception.tf_in1k"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub as a folder: what is asked for is noted; files that are not there raise what the hub raises."""
    asked = []

    def download(repo_id, filename, **_):
        asked.append((repo_id, filename))
        path = tmp_path / "hub" / repo_id / filename
        if not path.is_file():
            raise ConnectionError("cannot reach the hub\nat all")
        return str(path)

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    download.asked, download.root = asked, tmp_path / "hub"
    return download


def test_weights_of_the_hub_are_used(hub):
    theirs = mobile(dense=4).backbone
    with torch.no_grad():
        for value in theirs.parameters():
            value.add_(1)
    write_tensors(hub.root / hub_name(theirs) / "model.safetensors", {**theirs.state_dict(), "classifier.weight": torch.zeros(3)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = mobile(weights="imagenet")
    assert model.initial_weights == model.spec["initial_weights"] == "imagenet"
    assert torch.equal(model.backbone.conv_stem.weight, theirs.conv_stem.weight)
    assert hub.asked == [("timm/mobilenetv2_100.ra_in1k", "model.safetensors")], "never a pickle"
    assert build_from_card(model.spec).initial_weights == "random" and len(hub.asked) == 1, "nothing is fetched for trained ones"


def test_without_a_network_one_line_says_so(hub):
    with pytest.warns(UserWarning) as caught:
        model = mobile(weights="imagenet")
    (notice,) = (str(one.message) for one in caught)
    assert notice == (
        "ImageNet weights of 'mobilenetv2' cannot be had, so it starts from random weights "
        "(timm/mobilenetv2_100.ra_in1k: cannot reach the hub)"
    )
    assert model.initial_weights == "random" and caught[0].filename == __file__


class Trap:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_or_a_file_of_another_network_is_not_used(hub, tmp_path):
    backbone = mobile().backbone
    before = backbone.conv_stem.weight.detach().clone()
    path = hub.root / hub_name(backbone) / pretrained.WEIGHTS_FILE
    write_tensors(path, {"conv_stem.weight": before + 1})
    assert "the file lacks" in load_imagenet_weights(backbone)
    mark = tmp_path / "mark"
    torch.save(Trap(mark), path)
    assert load_imagenet_weights(backbone) is not None
    with pytest.raises(DataError, match="pickle"):
        read_tensors(path, "no")
    assert torch.equal(before, backbone.conv_stem.weight)
    assert not mark.exists(), "nothing of the pickle was run"
    torch.load(path, weights_only=False)
    assert mark.is_dir(), "and it would have shown"


# --------------------------------------------------------------------------------------------------------------- Grad-CAM


class Plain(nn.Module):
    """A "classifier" whose features are its pictures' two channels and whose head is one matrix: all by hand."""

    metadata = 0

    def __init__(self, weights):
        super().__init__()
        self.heads = {"condition": 2}
        self.dense, self.outputs = nn.Identity(), nn.ModuleDict({"condition": nn.Linear(2, 2, bias=False)})
        self.outputs["condition"].weight.data = torch.tensor(weights)

    def features(self, images):
        return torch.cat([images, 1 - images], dim=1)[:, :2] * 1.0

    def classify(self, features, metadata=None):
        return {"condition": self.outputs["condition"](self.dense(features.mean(dim=(2, 3))))}


def test_grad_cam_by_hand():
    """Logit of class 0: mean of 3 a - b with maps a and b = 1 - a of 4 pixels; slopes 3/4 and -1/4, their means likewise."""
    model, image = Plain([[3.0, -1.0], [0.0, -2.0]]), torch.tensor([[[[0.0, 0.2], [0.6, 1.0]]]])
    found = grad_cam(model, image, "condition", torch.tensor([0]))[0]
    a = image[0, 0]
    assert torch.allclose(found, (0.75 * a - 0.25 * (1 - a)).clamp(min=0))
    against = grad_cam(model, image, "condition", torch.tensor([1]))[0]
    assert not against.any(), "what speaks against a class is cut off"


def test_grad_cam_of_a_network_as_worked_out_from_its_gradients():
    model, images, known = mobile(metadata=2), torch.rand(2, 1, 64, 64), torch.rand(2, 2)
    model.train()
    classes = torch.tensor([4, 1])
    found = grad_cam(model, images, "condition", classes, known)
    assert model.training and found.shape == (2, 64, 64) and (found >= 0).all()
    model.eval()
    features = model.features(images).detach().requires_grad_()
    model.classify(features, known)["condition"][[0, 1], classes].sum().backward()
    maps = (features.grad.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True).clamp(min=0)
    expected = nn.functional.interpolate(maps.detach(), (64, 64), mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="no head 'colour'"):
        grad_cam(model, images, "colour", classes, known)
