"""One tester class that every architecture passes, and what each architecture refuses."""

import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from spider_utils.models import VOLUME_ARCHITECTURES, available_models, build_model, parameter_count
from spider_utils.training.checkpoints import load_model, save_model

N_CLASSES = 4
# Parameters of the default network with 1 channel and 4 classes: a change of the network must be noticed.
PARAMETERS = {
    "deeplabv3": 15_893_444,
    "dilated_unet": 13_581_252,
    "modified_unet": 8_033_588,
    "resunet": 8_215_684,
    "unet": 14_322_372,
    "unetplusplus": 15_964_612,
    "unetr": 92_716_292,
}
WITH_ENCODER = ["deeplabv3", "dilated_unet", "unet", "unetplusplus"]
# Options that keep the tests fast; the others are built as they are.
SMALL = {"unetr": {"image_size": [16, 32, 48], "feature_size": 2, "hidden_size": 12, "mlp_dim": 16, "num_heads": 3}}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(name, in_channels=1, n_classes=N_CLASSES):
    return build_model(name, in_channels, n_classes, **SMALL.get(name, {}))


def images(model, batch=2, steps=(2, 3)):
    """A batch whose sides differ: the only size that the network takes, or ``steps`` strides high and wide."""
    return torch.rand(batch, model.in_channels, *(model.image_size or (step * model.stride for step in steps)))


def odd_sizes(model):
    """Two sizes that the network refuses, the first for one side only, each with the beginning of the message."""
    stride = model.stride
    if model.image_size is None:
        one = rf"^height must be divisible by {stride}; pad to {5 * stride} "
        both = rf"height .*pad to {2 * stride} .*width .*pad to {stride} "
        return ((5 * stride - stride // 3, 2 * stride), one), ((stride + 1, stride - 1), both)
    slices, rows, columns = model.image_size
    one = rf"^rows must be {rows}; resample to it, or build the network for another image_size \(it is {2 * rows}\)$"
    both = rf"slices must be {slices};.*columns must be {columns};"
    return ((slices, 2 * rows, columns), one), ((slices + 1, rows, columns - 1), both)


def seeded_digest(name, seed):
    """SHA-256 of all tensors of a network that is built after seeding."""
    torch.manual_seed(seed)
    digest = hashlib.sha256()
    for key, value in small(name).state_dict().items():
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def digests_elsewhere():
    """The digests for seed 1 from another process, with other threads and another order of building."""
    code = (
        "import json, torch; torch.set_num_threads(3); from tests.unit.test_models import PARAMETERS, seeded_digest; "
        "print(json.dumps({name: seeded_digest(name, 1) for name in reversed(PARAMETERS)}))"
    )
    root = Path(__file__).resolve().parents[2]
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True).stdout)


def test_every_architecture_is_tested():
    assert available_models() == sorted(PARAMETERS)


@pytest.mark.parametrize("name", available_models())
class TestModelContract:
    def test_gives_logits_of_the_input_size(self, name):
        model = small(name).eval()
        x = images(model)
        with torch.no_grad():
            logits = model(x)
        assert logits.shape == (2, N_CLASSES, *x.shape[2:])
        assert logits.dtype == torch.float32 and logits.isfinite().all()
        assert logits.min() < 0  # scores, not probabilities

    def test_takes_other_numbers_of_channels_and_classes(self, name):
        model = small(name, in_channels=3, n_classes=20).eval()
        x = images(model, batch=1, steps=(1, 2))
        with torch.no_grad():
            assert model(x).shape == (1, 20, *x.shape[2:])

    def test_odd_sizes_are_refused_with_the_size_to_pad_or_resample_to(self, name):
        model = small(name).eval()
        for size, message in odd_sizes(model):
            with pytest.raises(ValueError, match=message):
                model(torch.rand(1, 1, *size))

    def test_gray_goes_to_every_channel(self, name):
        model = small(name, in_channels=3).eval()
        gray = images(model)[:, :1]
        with torch.no_grad():
            torch.testing.assert_close(model(gray), model(torch.cat([gray] * 3, dim=1)))

    def test_wrong_dimensions_or_channels_are_refused(self, name):
        model = small(name)
        x = images(model, batch=1)
        axes = "slices, rows, columns" if name in VOLUME_ARCHITECTURES else "height, width"
        for wrong in (x[0], torch.cat([x] * 3, dim=1), x[None]):
            with pytest.raises(ValueError, match=rf"must have shape \(batch, 1, {axes}\)"):
                model(wrong)

    def test_every_weight_gets_a_gradient(self, name):
        model = small(name).train()
        x = images(model)
        F.cross_entropy(model(x), torch.randint(N_CLASSES, (2, *x.shape[2:]))).backward()
        without = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert without == []
        assert all(weight.grad.isfinite().all() for weight in model.parameters())

    def test_saved_and_loaded_it_is_equal(self, name, tmp_path):
        model = small(name)
        x = images(model)
        model.train()(x)  # batch statistics that differ from the initial ones must survive too
        save_model(tmp_path, model, {"scheme": "structures4"})
        loaded, card = load_model(tmp_path)
        assert not loaded.training
        assert loaded.spec == model.spec and card["scheme"] == "structures4"
        with torch.no_grad():
            assert torch.equal(loaded(x), model.eval()(x))

    def test_spec_outlives_json_and_builds_the_same(self, name):
        model = small(name)
        spec = json.loads(json.dumps(model.spec))
        assert spec == model.spec
        again = build_model(spec["architecture"], spec["in_channels"], spec["n_classes"], **spec["options"])
        assert again.spec == model.spec and again.stride == model.stride
        again.load_state_dict(model.state_dict())
        x = images(model)
        with torch.no_grad():
            assert torch.equal(again.eval()(x), model.eval()(x))

    def test_channels_last_gives_the_same(self, name):
        model = small(name).eval()
        x = images(model)
        with torch.no_grad():
            expected = model(x)
            last = model.to(memory_format=model.channels_last)(x.contiguous(memory_format=model.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)

    def test_bfloat16_autocast_is_finite_and_close(self, name):
        model = small(name).eval()
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

    def test_same_seed_same_weights_in_another_process(self, name, digests_elsewhere):
        assert seeded_digest(name, 1) == digests_elsewhere[name]

    def test_same_seed_same_training_step(self, name):
        model = small(name).train()
        x = images(model)
        outputs = []
        for _ in range(2):
            torch.manual_seed(1)  # dropout draws numbers
            outputs.append(model(x))
        assert torch.equal(*outputs)

    def test_parameter_count(self, name):
        with torch.device("meta"):  # counts, without the memory of it
            model = build_model(name, in_channels=1, n_classes=N_CLASSES)
        assert parameter_count(model) == PARAMETERS[name]
        next(model.parameters()).requires_grad_(False)
        assert parameter_count(model) < PARAMETERS[name] == parameter_count(model, trainable_only=False)

    @staticmethod
    def _seeded(name, seed):
        torch.manual_seed(seed)
        return small(name)


def test_unknown_model_and_options_are_refused():
    with pytest.raises(ValueError, match="unknown model 'vnet'. Known are: .*unet"):
        build_model("vnet", 1, 4)
    with pytest.raises(ValueError, match="no option depth. Its options are: encoder, encoder_weights, decoder_channels"):
        build_model("unet", 1, 4, depth=3)
    with pytest.raises(ValueError, match="n_classes at least 2"):
        build_model("unet", 1, 1)


@pytest.mark.parametrize(
    ("name", "options", "stride"),
    [
        ("unet", {}, 32),
        ("unet", {"decoder_channels": (16, 8, 8)}, 8),
        ("unetplusplus", {}, 32),
        ("unetplusplus", {"decoder_channels": (16, 8, 8)}, 8),
        ("resunet", {}, 8),
        ("resunet", {"widths": (8, 16)}, 2),
        ("resunet", {"widths": (8, 16), "pixel_shuffle": 3}, 6),
        ("modified_unet", {}, 16),
        ("modified_unet", {"widths": (4, 8, 8), "dropout_down": (0, 0, 0), "dropout_up": (0.1,)}, 2),
        ("deeplabv3", {}, 8),
        ("deeplabv3", {"output_stride": 16}, 16),
        ("dilated_unet", {"encoder": "tu-test_resnet"}, 8),
    ],
)
def test_stride_follows_the_depth(name, options, stride):
    model = build_model(name, 1, 4, **options).eval()
    assert model.stride == stride
    assert model(torch.rand(1, 1, stride, 3 * stride)).shape == (1, 4, stride, 3 * stride)


@pytest.mark.parametrize("name", WITH_ENCODER)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet1"}, "unknown encoder 'resnet1'"),
        ({"encoder": "tu-nosuchnet"}, "unknown encoder 'tu-nosuchnet'"),
        ({"encoder_weights": "radimagenet"}, "must be None or 'imagenet'"),
    ],
)
def test_bad_encoders_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, 1, 4, **options)


@pytest.mark.parametrize(
    ("name", "encoder", "reason"),
    [
        ("unetplusplus", "mit_b0", "UnetPlusPlus is not support"),
        ("deeplabv3", "densenet121", "do not support dilated mode"),
        ("deeplabv3", "tu-vgg11", "AssertionError"),
        ("dilated_unet", "densenet121", "do not support dilated mode"),
        ("deeplabv3", "tu-swin_tiny_patch4_window7_224", "output_stride"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(name, encoder, reason):
    with pytest.raises(
        ValueError, match=rf"encoder '{encoder}' does not work in .*{reason}.*\. Use another one, such as 'resnet18'"
    ):
        build_model(name, 1, 4, encoder=encoder)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"decoder_channels": (16, 8)}, "3 to 5 positive whole numbers"),
        ("unet", {"decoder_channels": (16, 8, 0)}, "3 to 5 positive whole numbers"),
        ("unet", {"decoder_channels": (16, 8, 8.0)}, "3 to 5 positive whole numbers"),
        ("unetplusplus", {"decoder_channels": (16, 8)}, "decoder_channels must be 3 to 5 positive whole numbers"),
        ("unetplusplus", {"decoder_channels": (16, 8, 0)}, "decoder_channels must be 3 to 5 positive whole numbers"),
        ("resunet", {"widths": (16,)}, "widths must be 2 to 7 positive whole numbers"),
        ("resunet", {"widths": 16}, "widths must be 2 to 7 positive whole numbers, not 16"),
        ("resunet", {"widths": "16"}, "widths must be 2 to 7 positive whole numbers, not '16'"),
        ("resunet", {"widths": (16, -1)}, "widths must be 2 to 7 positive whole numbers"),
        ("resunet", {"pixel_shuffle": 0}, "pixel_shuffle must be 1, 2, 3 or 4, not 0"),
        ("resunet", {"encoder": "resnet18"}, "no option encoder. Its options are: widths, pixel_shuffle"),
        ("modified_unet", {"widths": (16, 32)}, "widths must be 3 to 8 positive whole numbers"),
        (
            "modified_unet",
            {"dropout_down": (0.1,)},
            r"dropout_down must be 6 rates from 0 to below 1, .*, not \(0.1,\); with other than six widths",
        ),
        ("modified_unet", {"dropout_up": (0.1, 0.1, 0.1, 1)}, "dropout_up must be 4 rates from 0 to below 1"),
        ("modified_unet", {"dropout_up": 0.1}, "dropout_up must be 4 rates"),
        ("dilated_unet", {"decoder_channels": (16, 8, 8)}, "decoder_channels must be 4 positive whole numbers"),
        ("deeplabv3", {"output_stride": 32}, "output_stride must be 8 or 16, not 32"),
        ("deeplabv3", {"aspp_channels": 0}, "aspp_channels must be a positive whole number"),
        ("deeplabv3", {"atrous_rates": (6, 12)}, "atrous_rates must be 3 positive whole numbers"),
        ("deeplabv3", {"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ("unetr", {"image_size": (32, 128)}, "image_size must be 3 positive whole numbers"),
        ("unetr", {"image_size": (30, 128, 100)}, r"multiples of 16, .*, such as \[32, 128, 112\], not \[30, 128, 100\]"),
        ("unetr", {"feature_size": 0}, "feature_size must be a positive whole number, not 0"),
        ("unetr", {"num_heads": 0}, "hidden_size and num_heads must be 2 positive whole numbers"),
        ("unetr", {"hidden_size": 100}, r"hidden_size must be a multiple of num_heads \(12\), such as 96, not 100"),
        ("unetr", {"norm": "group"}, "norm must be 'instance' or 'batch', not 'group'"),
        ("unetr", {"dropout": 1}, "dropout must be at least 0 and below 1"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, 1, 4, **options)


def test_resunet_is_the_published_one():
    # Table I: 15 convolutions, the last of them 1x1. For colour images the paper prints 7.8 million weights.
    model = build_model("resunet", 3, 2)
    convolutions = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Conv2d) and "shortcut" not in name}
    assert [(m.out_channels, m.stride[0]) for m in convolutions.values()] == [
        *[(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)],
        *[(256, 1), (256, 1), (128, 1), (128, 1), (64, 1), (64, 1), (2, 1)],
    ]
    assert round(sum(m.weight.numel() for m in convolutions.values()) / 1e6, 1) == 7.8


def test_resunet_sees_and_scores_every_pixel_through_a_pixel_shuffle():
    torch.manual_seed(0)
    model = build_model("resunet", 1, 2, widths=(4, 8), pixel_shuffle=2).eval()
    image = torch.rand(1, 1, 8, 12)
    # Blocks of 2 x 2 pixels as channels, row by row; of the scores the four of class 0 come first.
    blocks = image[0, 0].reshape(4, 2, 6, 2).permute(1, 3, 0, 2).reshape(1, 4, 4, 6)
    seen = []
    model.body.encoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.body.segmentation_head.register_forward_hook(lambda *found: seen.append(found[2]))
    scores = model(image)
    torch.testing.assert_close(seen[0], blocks)
    for label, row, column in [(0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)]:
        torch.testing.assert_close(scores[0, label, row::2, column::2], seen[1][0, 4 * label + 2 * row + column])


def test_dilated_unet_has_the_published_feature_map():
    from spider_utils.models.inspection import feature_sizes

    # `triplanar`, section 2: 64 x 64 x 1024 from 512 x 512; an eighth of the image's size. Deeper stages are not built.
    model = build_model("dilated_unet", 3, 2)
    stages = [f"body.encoder.layer{k}" for k in (1, 2, 3)]
    sizes = feature_sizes(model, torch.rand(1, 3, 64, 48), stages)
    assert sizes[["channels", "rows", "columns"]].to_numpy().tolist() == [[256, 16, 12], [512, 8, 6], [1024, 8, 6]]
    assert not hasattr(model.body.encoder, "layer4")
    assert model.body.encoder.layer3[1].conv2.dilation == (2, 2)


def test_dilated_unet_begins_with_its_prior():
    torch.manual_seed(0)
    model = build_model("dilated_unet", 3, 3, encoder="tu-test_resnet", foreground_prior=0.04).eval()
    bias = model.body.segmentation_head[0].bias
    torch.testing.assert_close(bias.softmax(dim=0), torch.tensor([0.96, 0.02, 0.02]))
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="foreground_prior must lie between 0 and 1"):
            build_model("dilated_unet", 3, 3, encoder="tu-test_resnet", foreground_prior=wrong)


def test_residual_unit_adds_its_input_to_the_pre_activated_branch():
    from spider_utils.models.resunet import ResidualUnit

    for pre_activation in (True, False):
        unit = ResidualUnit(3, 5, stride=2, pre_activation=pre_activation).eval()
        *_, first, norm, _, second = unit.residual
        norm.running_mean.uniform_(-1, 1)
        x = torch.randn(2, 3, 8, 6)
        entered = F.relu(unit.residual[0](x)) if pre_activation else x
        branch = F.conv2d(F.relu(norm(F.conv2d(entered, first.weight, stride=2, padding=1))), second.weight, padding=1)
        torch.testing.assert_close(unit(x), branch + F.conv2d(x[:, :, ::2, ::2], unit.shortcut.weight))


def test_modified_unet_is_the_published_one():
    body = build_model("modified_unet", 1, 4).body
    blocks = [*body.encoder, *body.decoder]
    assert [block[0].out_channels for block in blocks] == [16, 32, 64, 128, 256, 512, 256, 128, 64, 32]
    assert [block[4].in_channels for block in blocks] == [block[4].out_channels for block in blocks]
    assert [block[0].in_channels for block in blocks] == [1, 16, 32, 64, 128, 256, 256 + 128, 128 + 64, 64 + 32, 32 + 16]
    assert [block[3].p for block in blocks] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]
    first, *others = body.upsample
    assert [type(layer).__name__ for layer in first] == ["ConvTranspose2d", "BatchNorm2d", "LeakyReLU"]
    assert first[0].kernel_size == (3, 3) and first[0].out_channels == 256 and first[2].negative_slope == 0.1
    assert [(step.kernel_size, step.out_channels) for step in others] == [((2, 2), 128), ((2, 2), 64), ((2, 2), 32)]


def test_modified_unet_has_two_blocks_at_its_coarsest_size():
    from spider_utils.models.inspection import feature_sizes

    model = build_model("modified_unet", 1, 4)
    sizes = feature_sizes(model, torch.rand(1, 1, 64, 32), [f"body.encoder.{k}" for k in range(6)])
    assert sizes["rows"].tolist() == [64, 32, 16, 8, 4, 4]
    assert sizes["channels"].tolist() == [16, 32, 64, 128, 256, 512]


def test_modified_unet_starts_from_glorots_numbers():
    # Uniform between -limit and limit, limit = sqrt(6 / (fan in + fan out)); so the standard deviation is limit / sqrt(3).
    body = build_model("modified_unet", 1, 4).body
    for layer in (m for m in body.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)):
        fans = (layer.in_channels + layer.out_channels) * layer.kernel_size[0] ** 2
        limit = (6 / fans) ** 0.5
        assert layer.weight.abs().max() <= limit and not layer.bias.any()
        if layer.weight.numel() > 5000:
            assert layer.weight.abs().max() > 0.99 * limit
            assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
            assert abs(layer.weight.mean().item()) < 0.05 * limit


def test_deeplab_spans_the_same_part_of_the_image_at_both_output_strides():
    dilations = {}
    for output_stride in (8, 16):
        decoder = build_model("deeplabv3", 1, 4, output_stride=output_stride).body.decoder
        dilations[output_stride] = [branch[0].dilation for branch in list(decoder.aspp.convs)[1:4]]
    assert dilations == {8: [(12, 12), (24, 24), (36, 36)], 16: [(6, 6), (12, 12), (18, 18)]}


def test_deeplab_refuses_to_train_on_single_images():
    model = build_model("deeplabv3", 1, 4, output_stride=16, aspp_channels=8)
    with pytest.raises(ValueError, match="training needs batches of at least 2 images, not 1: raise batch_size"):
        model.train()(torch.rand(1, 1, 32, 32))
    assert model.eval()(torch.rand(1, 1, 32, 32)).shape == (1, 4, 32, 32)


def test_unetr_is_monais_with_the_sources_configuration():
    from monai.networks.nets.unetr import UNETR

    with torch.device("meta"):
        ours = build_model("unetr", 1, 20)
        theirs = UNETR(
            1, 20, (32, 128, 128), feature_size=16, hidden_size=768, mlp_dim=3072, num_heads=12, norm_name="instance",
            res_block=True, dropout_rate=0.0,
        )  # fmt: skip
    unused = sum(weight.numel() for name, weight in theirs.named_parameters() if "cross_attn" in name)
    assert parameter_count(ours) == parameter_count(theirs) - unused
    assert ours.image_size == (32, 128, 128) and ours.tokens == (2, 8, 8)
    embedded = ours.body.vit.patch_embedding
    assert embedded.position_embeddings.shape == (1, 2 * 8 * 8, 768) and len(ours.body.vit.blocks) == 12


def test_unetr_gives_what_monais_gives_with_the_same_weights():
    from monai.networks.nets.unetr import UNETR

    ours, options = small("unetr").eval(), SMALL["unetr"]
    theirs = UNETR(1, N_CLASSES, options["image_size"], **{key: options[key] for key in options if key != "image_size"}).eval()
    left = theirs.load_state_dict(ours.body.state_dict(), strict=False)
    assert all("cross_attn" in name for name in left.missing_keys) and not left.unexpected_keys
    x = images(ours)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_a_network_that_starts_from_shares_says_how_frequent_classes_are():
    model = small("unetr").eval()
    with torch.no_grad():
        model.body.out.conv.conv.weight.zero_()  # whatever the features are
        model.start_from_shares([0.9, 0.08, 0.02, 0.0])
        found = model(images(model)).softmax(dim=1).mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(found, torch.tensor([0.9, 0.08, 0.02, 1e-7]), rtol=1e-4, atol=1e-8)


def test_networks_tell_their_transformer():
    model = small("unetr")
    assert model.transformer is model.body.vit and small("unet").transformer is None


def test_attention_of_every_layer_and_head_sums_to_one():
    model = small("unetr").train()
    found = model.attention(images(model))
    assert found.shape == (12, 2, 3, 6, 6) and model.tokens == (1, 2, 3) and model.training
    torch.testing.assert_close(found.sum(-1), torch.ones(12, 2, 3, 6))
    assert not any(block.attn.save_attn or block.attn.att_mat.numel() for block in model.body.vit.blocks)


def test_spec_names_every_option():
    model = build_model("unet", 1, 4, decoder_channels=(16, 8, 8))
    assert model.spec == {
        "architecture": "unet",
        "in_channels": 1,
        "n_classes": 4,
        "options": {"encoder": "resnet18", "encoder_weights": None, "decoder_channels": [16, 8, 8]},
        "initial_weights": "random",
    }


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_imagenet_weights_that_cannot_be_fetched_are_one_notice(name, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to host\nmore lines")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = build_model(name, 1, 4, encoder="resnet18", encoder_weights="imagenet")
    ours = [str(notice.message) for notice in caught if "ImageNet" in str(notice.message)]
    assert ours == ["ImageNet weights of 'resnet18' cannot be had, so it starts from random weights (no route to host)"]
    assert model.spec["initial_weights"] == "random" and model.spec["options"]["encoder_weights"] == "imagenet"


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_imagenet_weights_are_used_when_they_can_be_had(name, monkeypatch, tmp_path):
    import segmentation_models_pytorch as smp
    from safetensors.torch import save_file

    # A stand-in for the hub: weights of the right names and shapes, all 0.5.
    encoder = smp.encoders.get_encoder("resnet18", in_channels=3, weights=None)
    weights = {key: torch.full_like(value, 0.5) for key, value in encoder.state_dict().items()}
    save_file(weights | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.hf_hub_download", lambda *a, **k: str(tmp_path / "model.safetensors")
    )
    model = build_model(name, 1, 4, encoder="resnet18", encoder_weights="imagenet")
    assert model.spec["initial_weights"] == "imagenet"
    assert torch.equal(model.body.encoder.conv1.weight, torch.full((64, 1, 7, 7), 1.5))  # three colours summed to one
    convolutions = [weight for weight in model.body.decoder.parameters() if weight.ndim == 4]
    assert convolutions and not any((weight == 0.5).any() for weight in convolutions)


def test_listing_models_loads_no_network_library():
    code = (
        "import sys, spider_utils.models as m; m.available_models(); "
        "assert not {'torch', 'segmentation_models_pytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
