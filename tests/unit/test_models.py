"""One tester class that every architecture passes, and what each architecture refuses."""

import subprocess
import sys
import warnings

import pytest
import torch

from spider_utils.models import available_models, build_model, parameter_count
from spider_utils.training.checkpoints import load_model, save_model

N_CLASSES = 4
# Parameters of the default network with 1 channel and 4 classes: a change of the network must be noticed.
PARAMETERS = {"unet": 14_322_372}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(model, batch=2, steps=(2, 3)):
    """A batch whose height and width differ, ``steps`` strides high and wide."""
    return torch.rand(batch, 1, steps[0] * model.stride, steps[1] * model.stride)


@pytest.mark.parametrize("name", available_models())
class TestModelContract:
    def test_gives_logits_of_the_input_size(self, name):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES).eval()
        x = images(model)
        with torch.no_grad():
            logits = model(x)
        assert logits.shape == (2, N_CLASSES, *x.shape[2:])
        assert logits.dtype == torch.float32 and logits.isfinite().all()
        assert logits.min() < 0  # scores, not probabilities

    def test_odd_sizes_are_refused_with_the_size_to_pad_to(self, name):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES).eval()
        stride = model.stride
        high = torch.rand(1, 1, 5 * stride - 10, 2 * stride)
        with pytest.raises(ValueError, match=rf"^height must be divisible by {stride}; pad to {5 * stride} "):
            model(high)
        both = torch.rand(1, 1, stride + 1, stride - 1)
        with pytest.raises(ValueError, match=rf"height .*pad to {2 * stride} .*width .*pad to {stride} "):
            model(both)

    @pytest.mark.parametrize("shape", [(1, 64, 64), (1, 3, 64, 64), (1, 1, 1, 64, 64)])
    def test_wrong_dimensions_or_channels_are_refused(self, name, shape):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES)
        with pytest.raises(ValueError, match=r"must have shape \(batch, 1, height, width\)"):
            model(torch.rand(shape))

    def test_every_weight_gets_a_gradient(self, name):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES).train()
        x = images(model)
        torch.nn.functional.cross_entropy(model(x), torch.randint(N_CLASSES, (2, *x.shape[2:]))).backward()
        without = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert without == []
        assert all(weight.grad.isfinite().all() for weight in model.parameters())

    def test_saved_and_loaded_it_is_equal(self, name, tmp_path):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES)
        x = images(model)
        model.train()(x)  # batch statistics that differ from the initial ones must survive too
        save_model(tmp_path, model, {"scheme": "structures4"})
        loaded, card = load_model(tmp_path)
        assert not loaded.training
        assert loaded.spec == model.spec and card["scheme"] == "structures4"
        with torch.no_grad():
            assert torch.equal(loaded(x), model.eval()(x))

    def test_channels_last_gives_the_same(self, name):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES).eval()
        x = images(model)
        with torch.no_grad():
            expected = model(x)
            last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)

    def test_bfloat16_autocast_is_finite_and_close(self, name):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES).eval()
        x = images(model)
        with torch.no_grad():
            expected = model(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
        assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
        assert (logits.float() - expected).abs().max() < 0.1 * expected.abs().max()

    def test_same_seed_same_weights(self, name):
        first, second = (self._seeded(name, seed) for seed in (1, 1))
        other = self._seeded(name, 2)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))

    def test_parameter_count(self, name):
        model = build_model(name, in_channels=1, n_classes=N_CLASSES)
        assert parameter_count(model) == PARAMETERS[name]
        next(model.parameters()).requires_grad_(False)
        assert parameter_count(model) < PARAMETERS[name] == parameter_count(model, trainable_only=False)

    @staticmethod
    def _seeded(name, seed):
        torch.manual_seed(seed)
        return build_model(name, in_channels=1, n_classes=N_CLASSES)


def test_unknown_model_and_options_are_refused():
    with pytest.raises(ValueError, match="unknown model 'vnet'. Known are: .*unet"):
        build_model("vnet", 1, 4)
    with pytest.raises(ValueError, match="no option depth. Its options are: encoder, encoder_weights, decoder_channels"):
        build_model("unet", 1, 4, depth=3)
    with pytest.raises(ValueError, match="n_classes at least 2"):
        build_model("unet", 1, 1)


def test_unet_stride_follows_its_depth():
    assert build_model("unet", 1, 4).stride == 32
    shallow = build_model("unet", 1, 4, decoder_channels=(16, 8, 8))
    assert shallow.stride == 8
    assert shallow(torch.rand(1, 1, 8, 24)).shape == (1, 4, 8, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet1"}, "unknown encoder 'resnet1'"),
        ({"encoder": "tu-nosuchnet"}, "unknown encoder 'tu-nosuchnet'"),
        ({"encoder_weights": "radimagenet"}, "must be None or 'imagenet'"),
        ({"decoder_channels": (16, 8)}, "3 to 5 positive numbers"),
        ({"decoder_channels": (16, 8, 0)}, "3 to 5 positive numbers"),
    ],
)
def test_unet_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("unet", 1, 4, **options)


def test_spec_names_every_option():
    model = build_model("unet", 1, 4, decoder_channels=(16, 8, 8))
    assert model.spec == {
        "architecture": "unet",
        "in_channels": 1,
        "n_classes": 4,
        "options": {"encoder": "resnet18", "encoder_weights": None, "decoder_channels": [16, 8, 8]},
        "initial_weights": "random",
    }


def test_imagenet_weights_that_cannot_be_fetched_are_one_notice(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to host\nmore lines")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = build_model("unet", 1, 4, encoder_weights="imagenet")
    ours = [str(notice.message) for notice in caught if "ImageNet" in str(notice.message)]
    assert ours == ["ImageNet weights of 'resnet18' cannot be had, so it starts from random weights (no route to host)"]
    assert model.spec["initial_weights"] == "random" and model.spec["options"]["encoder_weights"] == "imagenet"


def test_imagenet_weights_are_used_when_they_can_be_had(monkeypatch, tmp_path):
    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file

    # A stand-in for the hub: weights of the right names and shapes, all 0.5.
    encoder = smp.encoders.get_encoder("resnet18", in_channels=3, weights=None)
    weights = {key: torch.full_like(value, 0.5) for key, value in encoder.state_dict().items()}
    save_file(weights | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.hf_hub_download", lambda *a, **k: str(tmp_path / "model.safetensors")
    )
    model = build_model("unet", 1, 4, encoder_weights="imagenet")
    assert model.spec["initial_weights"] == "imagenet"
    assert torch.equal(model.body.encoder.conv1.weight, torch.full((64, 1, 7, 7), 1.5))  # three colours summed to one
    assert not torch.equal(model.body.decoder.blocks[0].conv1[0].weight.unique(), torch.tensor([0.5]))


def test_listing_models_loads_no_network_library():
    code = (
        "import sys, spider_utils.models as m; m.available_models(); "
        "assert not {'torch', 'segmentation_models_pytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
