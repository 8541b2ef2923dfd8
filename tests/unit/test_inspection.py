"""Looking into networks: counts, sizes and receptive fields that can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from spider_utils.models import build_model, parameter_count
from spider_utils.models.inspection import (
    central_box,
    cost_table,
    effective_receptive_field,
    feature_sizes,
    parameter_table,
    theoretical_receptive_field,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def unet():
    return build_model("unet", 1, 4, encoder="resnet18", decoder_channels=(16, 16, 8, 8, 8))


def test_costs_can_be_worked_out_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.Conv2d(8, 4, 1))
    table = cost_table({"small": model, "unet": unet()}, (32, 64), batch_size=2, repeats=1).set_index("network")
    assert table.at["small", "parameters"] == 8 * 9 + 4 * 8 + 4
    assert table.at["small", "gflops"] == pytest.approx(2 * 32 * 64 * (8 * 9 + 4 * 8) / 1e9)
    assert (table[["predict_ms", "train_ms"]] > 0).all(axis=None)
    assert model[0].weight.grad is None and model.training, "networks stay as they are"


def test_parameters_by_block_add_up():
    model = nn.Sequential()
    model.add_module("first", nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)))
    model.add_module("head", nn.Conv2d(8, 2, 1, bias=False))
    table = parameter_table(model)
    assert table["block"].tolist() == ["first", "head"]
    assert table["parameters"].tolist() == [8 * 9 + 8 + 16, 16]
    assert table["share"].sum() == pytest.approx(1)
    assert parameter_table(model, depth=2)["block"].tolist() == ["first.0", "first.1", "head"]
    assert parameter_table(unet(), depth=3)["parameters"].sum() == parameter_count(unet())


def test_frozen_parameters_do_not_count():
    model = nn.Conv2d(1, 2, 3)
    model.weight.requires_grad_(False)
    assert parameter_table(model)["parameters"].tolist() == [2]
    with pytest.raises(ValueError, match="no trainable parameter"):
        parameter_table(model.requires_grad_(False))
    with pytest.raises(ValueError, match="depth must be at least 1"):
        parameter_table(nn.Conv2d(1, 2, 3), depth=0)


def test_feature_sizes_of_the_unet():
    model = unet().train()
    blocks = ["body.encoder.layer1", "body.encoder.layer4", "body.segmentation_head"]
    table = feature_sizes(model, torch.rand(2, 1, 64, 96), blocks)
    assert table.to_numpy().tolist() == [
        ["body.encoder.layer1", 64, 16, 24],
        ["body.encoder.layer4", 512, 2, 3],
        ["body.segmentation_head", 4, 64, 96],
    ]
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def small(name):
    """A narrow network of each other architecture."""
    options = {
        "unetplusplus": {"decoder_channels": (16, 16, 8, 8, 8)},
        "resunet": {"widths": (4, 8, 12, 16)},
        "deeplabv3": {"output_stride": 16, "aspp_channels": 8},
    }
    return build_model(name, 1, 4, **options[name])


@pytest.mark.parametrize("name", ["unetplusplus", "resunet", "deeplabv3"])
def test_parameters_of_every_architecture_lie_in_parts_of_the_same_names(name):
    model = small(name)
    table = parameter_table(model, depth=2)
    assert {"body.encoder", "body.decoder", "body.segmentation_head"} == set(table["block"]) - {"body.bridge"}
    assert table["parameters"].sum() == parameter_count(model)


def test_feature_sizes_of_the_grid_of_a_unetplusplus():
    model = small("unetplusplus")
    # One row a size, from deepest to finest, and in it from left to right; then the block that doubles to the image's size.
    rows = [[f"body.decoder.blocks.x_{start}_{row}" for start in range(row, -1, -1)] for row in range(4)]
    blocks = [block for row in rows for block in row] + ["body.decoder.blocks.x_0_4"]
    assert len(blocks) == len(model.body.decoder.blocks)
    table = feature_sizes(model, torch.rand(1, 1, 64, 96), blocks)
    # Inside the grid as wide as the encoder (128, 64 and 64 at these sizes), at the end of a row as wide as the decoder.
    assert table.drop(columns="block").to_numpy().tolist() == [
        *[[16, 4, 6]],
        *[[128, 8, 12], [16, 8, 12]],
        *[[64, 16, 24], [64, 16, 24], [8, 16, 24]],
        *[[64, 32, 48], [64, 32, 48], [64, 32, 48], [8, 32, 48]],
        [8, 64, 96],
    ]


def test_feature_sizes_of_the_resunet():
    blocks = [*(f"body.encoder.{i}" for i in range(3)), "body.bridge", *(f"body.decoder.{i}" for i in range(3))]
    table = feature_sizes(small("resunet"), torch.rand(2, 1, 32, 48), blocks)
    assert table.drop(columns="block").to_numpy().tolist() == [
        *[[4, 32, 48], [8, 16, 24], [12, 8, 12]],
        [16, 4, 6],
        *[[12, 8, 12], [8, 16, 24], [4, 32, 48]],
    ]


def test_feature_sizes_of_deeplab_stop_at_its_output_stride():
    blocks = [
        *(f"body.encoder.layer{i}" for i in range(1, 5)),
        "body.decoder.aspp.convs.4",
        "body.decoder",
        "body.segmentation_head",
    ]
    table = feature_sizes(small("deeplabv3"), torch.rand(1, 1, 64, 96), blocks)
    assert table.drop(columns="block").to_numpy().tolist() == [
        *[[64, 16, 24], [128, 8, 12], [256, 4, 6], [512, 4, 6]],
        *[[8, 4, 6], [8, 4, 6], [4, 64, 96]],
    ]


def test_feature_sizes_refuse_blocks_without_one_map():
    model, images = unet(), torch.rand(1, 1, 64, 64)
    with pytest.raises(ValueError, match="no block body.nothing"):
        feature_sizes(model, images, ["body.nothing"])
    with pytest.raises(ValueError, match="'body.encoder' does not give out one tensor"):
        feature_sizes(model, images, ["body.encoder"])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(1, 4, 3, padding=1)], (3, 3)),
        ([nn.Conv2d(1, 4, (5, 3), padding=(2, 1)), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)], (7, 5)),
        ([nn.Conv2d(1, 1, 3, padding=4, dilation=4)], (9, 9)),
        # 7x7 at stride 2 then a 3x3 maximum at stride 2: 7 + 2 * 2.
        ([nn.Conv2d(1, 4, 7, 2, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Upsample(scale_factor=4)], (11, 11)),
    ],
)
def test_theoretical_field_of_small_networks(layers, expected):
    assert theoretical_receptive_field(nn.Sequential(*layers), stride=4) == expected


def test_theoretical_field_holds_every_pixel_that_changes_the_output():
    # A U-Net of two scales, small enough to try every pixel.
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 3, 3, 2, 1), nn.Conv2d(4, 2, 3, padding=1)

        def forward(self, x):
            deep = nn.functional.interpolate(torch.relu(self.down(x)), scale_factor=2)
            return self.up(torch.cat([deep, x], dim=1))

    model = Small().eval()
    rows, columns = theoretical_receptive_field(model, stride=2)
    images = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        before = model(images)[0, :, 16, 16]
        changed = np.zeros((32, 32), bool)
        for row, column in np.ndindex(32, 32):
            other = images.clone()
            other[0, 0, row, column] += 10
            changed[row, column] = not torch.equal(model(other)[0, :, 16, 16], before)
    assert (rows, columns) == tuple(np.ptp(np.flatnonzero(changed.any(axis=a))) + 1 for a in (1, 0))


def test_theoretical_fields_of_the_architectures():
    # By hand, from the output pixel 0 downwards, as first and last pixel that is reached (two 3x3 convolutions add 2 on either
    # side; doubling: floor(p / 2)): 2 -> [-2, 2], [-1, 1]; [-3, 3], [-2, 1]; [-4, 3], [-2, 1]; the bridge [-3, 2], then stride
    # 2 (2p - 1 to 2p + 1): [-7, 5]; [-8, 6], [-17, 13]; [-18, 14], [-37, 29]; [-39, 31].
    assert theoretical_receptive_field(small("resunet")) == (71, 71)
    # The grid adds paths, but none that is longer than the one through the deepest features.
    assert theoretical_receptive_field(small("unetplusplus")) == theoretical_receptive_field(unet())
    # One branch takes the mean over the whole image.
    assert theoretical_receptive_field(small("deeplabv3")) == (math.inf, math.inf)


@pytest.mark.parametrize("name", ["unetplusplus", "resunet", "deeplabv3"])
def test_effective_fields_of_the_architectures(name):
    field = effective_receptive_field(small(name), torch.rand(2, 1, 64, 96), center=(32, 64))
    assert field.shape == (64, 96) and field.sum() == pytest.approx(1)
    assert field[:, 48:].sum() > field[:, :48].sum()


def test_pooling_over_the_whole_image_has_no_limit():
    class Whole(nn.Module):
        def forward(self, x):
            return x + x.mean(dim=(2, 3), keepdim=True)

    assert theoretical_receptive_field(Whole(), stride=256) == (math.inf, math.inf)


def test_fields_leave_the_network_as_it_was():
    model = unet().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    theoretical_receptive_field(model)
    effective_receptive_field(model, torch.rand(1, 1, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_effective_field_sums_to_one_and_lies_around_its_pixel():
    field = effective_receptive_field(nn.Conv2d(1, 2, 3, padding=1), torch.rand(3, 1, 16, 16), center=(4, 12))
    assert field.shape == (16, 16) and field.sum() == pytest.approx(1)
    assert set(zip(*np.nonzero(field), strict=True)) == {(r, c) for r in (3, 4, 5) for c in (11, 12, 13)}
    with pytest.raises(ValueError, match="lies outside"):
        effective_receptive_field(nn.Conv2d(1, 2, 3, padding=1), torch.rand(1, 1, 8, 8), center=(8, 0))
    with pytest.raises(ValueError, match="no input pixel changes"):
        effective_receptive_field(nn.Threshold(2.0, 0.0), torch.rand(1, 1, 8, 8))


def test_central_box():
    field = np.zeros((9, 9))
    field[4, 4], field[4, 6], field[0, 4] = 0.6, 0.3, 0.1
    assert [central_box(field, share) for share in (0.6, 0.61, 0.9, 0.95, 1.0)] == [1, 5, 5, 9, 9]
    assert central_box(field, 0.3, center=(4, 6)) == 1
    with pytest.raises(ValueError, match="share must lie above 0"):
        central_box(field, 0.0)
