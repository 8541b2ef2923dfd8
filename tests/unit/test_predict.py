"""What makes masks of volumes: probabilities, windows, second opinions, cards."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from spider_utils import predict as predict_room
from spider_utils.data.slices import SliceGrid
from spider_utils.data.volumes import Volume, kit_direction, read_volume
from spider_utils.ensemble.pooling import NetworkAgreement, classes_in, pool_classes
from spider_utils.errors import DataError, KitError
from spider_utils.mask_table import TABLE
from spider_utils.masks import predict_path
from spider_utils.models import build_model
from spider_utils.models.network import top_class
from spider_utils.predict import (
    SLICES_AT_ONCE,
    MeanPredictor,
    PooledPredictor,
    Predictor,
    WholeVolumePredictor,
    load_predictor,
)
from spider_utils.tidy import Tidy
from spider_utils.training.checkpoints import save_model
from tests.stand_ins import BandOfClasses, BrightestClass, LevelsByGray, write_image


def test_masks_with_levels_have_one_number_a_part() -> None:
    drawn = np.zeros((4, 160, 60), np.uint8)
    for level in range(1, 5):
        top = 160 - 36 * level
        drawn[:, top : top + 26, 10:40], drawn[:, top + 27 : top + 34, 8:42] = level, 10 + level
    whole = drawn.copy()
    drawn[1:3, 60:70, 20:30][drawn[1:3, 60:70, 20:30] == 3] = 4  # a patch with the neighbour's number
    assert (drawn != whole).any()
    volume, network = Volume(drawn, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction()), BandOfClasses()
    network.scheme = "levels20"
    np.testing.assert_array_equal(network.predict_volume(volume).array, whole)
    network.whole_parts = False
    np.testing.assert_array_equal(network.predict_volume(volume).array, drawn)


def test_a_tidy_mask_has_no_stray_canal_and_one_slice_says_little_against_its_neighbours() -> None:
    drawn = np.zeros((9, 40, 30), np.uint8)
    drawn[:, 5:35, 10:14], drawn[3:6, 0:3, 25:29] = 2, 2  # canal, and what is taken for some of it
    wanted = np.where(np.arange(30) > 20, 0, drawn).astype(np.uint8)
    drawn[4, 5:35, 10:14] = 1  # a single slice in which the canal is called bone
    volume, network = Volume(drawn, (0.9, 0.5, 0.5), (0.0, 0.0, 0.0), kit_direction()), BandOfClasses()
    network.scheme, network.tidy = "structures4", Tidy(across_mm=1.3, canal_share=0.1)
    np.testing.assert_array_equal(network.predict_volume(volume).array, wanted)
    single = replace(volume, array=drawn[3:4])
    np.testing.assert_array_equal(network.predict_volume(single).array, single.array)
    network.tidy = None
    np.testing.assert_array_equal(network.predict_volume(volume).array, drawn)


def test_more_slices_than_fit_in_one_pass(tmp_path: Path, predictor: Predictor) -> None:
    write_image(tmp_path / "long.mha", "PIR", (20, 40, 2 * SLICES_AT_ONCE + 3))
    volume = read_volume(tmp_path / "long.mha")
    mask = predictor.predict_volume(volume)
    assert mask.array.shape == volume.array.shape
    probabilities = predictor.slice_probabilities(volume.array.astype(np.uint8)[:2], volume.spacing[1:])
    assert probabilities.shape == (2, 4, *volume.array.shape[1:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("tidy", "most"), [(None, 6e6), (Tidy(1.3, 0.1), 12e6)])
def test_probabilities_are_held_of_a_few_slices_never_of_the_volume(tidy: Tidy | None, most: float) -> None:
    array = np.random.default_rng(0).integers(0, 20, (61, 80, 64), np.uint8)
    volume, known = Volume(array, (0.9, 0.47, 0.47), (0.0, 0.0, 0.0), kit_direction()), BandOfClasses()
    known.scheme, known.whole_parts, known.tidy = "levels20", False, tidy
    known.predict_volume(volume)  # what torch sets up once is not counted below
    known.asked.clear()
    tracemalloc.start()
    mask = known.predict_volume(volume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if tidy is None:
        np.testing.assert_array_equal(mask.array, array)
    assert known.asked == [SLICES_AT_ONCE] * 7 + [5]
    # 25 MB of float32 probabilities in all; 3.3 MB of eight slices, 0.8 MB more as they are made, and the mask of 0.3 MB;
    # with neighbours at hand, seven slices of 0.4 MB and their mean.
    assert peak < most


@pytest.mark.parametrize("neighbours", [0, 1])
def test_slice_by_slice_is_the_same_as_all_at_once(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = build_model(
        "unet", in_channels=2 * neighbours + 1, n_classes=4, encoder="resnet18", decoder_channels=[16, 16, 8, 8, 8]
    ).eval()
    network = Predictor(model, SliceGrid(64, 32), "structures4", "cpu", neighbours)
    array = np.random.default_rng(0).integers(0, 255, (2 * SLICES_AT_ONCE + 3, 70, 50), np.uint8)
    batches = []
    model.register_forward_pre_hook(lambda _, images: batches.append(len(images[0])))
    whole = network.slice_probabilities(array, (1.0, 0.8))
    assert batches == [len(array)]
    monkeypatch.setattr(predict_room, "PIXELS_AT_ONCE", 3 * 64 * 32 + 5)
    mask = network.predict_volume(Volume(array, (3.0, 1.0, 0.8), (0.0, 0.0, 0.0), kit_direction())).array
    assert batches[1:] == [3, 3, 2, 3, 3, 2, 3]  # eight slices at once, in passes of three
    np.testing.assert_allclose(network.slice_probabilities(array, (1.0, 0.8)), whole, atol=1e-5)
    top_two = np.sort(whole, axis=1)[:, -2:]
    clear = top_two[:, 1] - top_two[:, 0] > 1e-4  # a tie may fall either way when sums are taken in another order
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(mask[clear], top_class(whole)[clear])


class ChannelAsClass(torch.nn.Module):
    """Class k where channel k is brightest: tells which slice a network was given as which channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 50


def test_neighbours_reach_the_network_in_order_whatever_the_chunk() -> None:
    """Only slice 9 of 20 is bright: right neighbour of 8 (class 2), its own centre (1), left neighbour of 10 (0)."""
    array = np.zeros((20, 32, 32), np.uint8)
    array[9] = 255
    network = Predictor(ChannelAsClass(), SliceGrid(32, 32), "structures4", "cpu", neighbours=1)
    volume = Volume(array, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    mask = network.predict_volume(volume).array
    assert [int(np.unique(one).item()) for one in mask[[8, 9, 10]]] == [2, 1, 0]
    assert not np.delete(mask, [8, 9], axis=0).any()
    with pytest.raises(ValueError, match="sees 3 slices at once, not 1"):
        network.grid_probabilities(array)
    whole = network.slice_probabilities(array, (1.0, 1.0))
    np.testing.assert_array_equal(network.slice_probabilities(array, (1.0, 1.0), slice(7, 11)), whole[7:11])


def test_mirrored_slices_are_averaged_in() -> None:
    """A network that only marks the left half marks, with its mirror image, both halves half as surely."""

    class LeftHalf(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            left = torch.zeros_like(images)
            left[..., : images.shape[-1] // 2] = 50
            return torch.cat([25 - left, left - 25], dim=1)

    plain = Predictor(LeftHalf(), SliceGrid(32, 32), "structures4", "cpu")
    slices = np.zeros((2, 32, 32), np.uint8)
    np.testing.assert_allclose(plain.grid_probabilities(slices)[:, 1, 0, [0, 31]], [[1, 0]] * 2, atol=1e-6)
    both = Predictor(LeftHalf(), SliceGrid(32, 32), "structures4", "cpu", mirror=True).grid_probabilities(slices)
    np.testing.assert_allclose(both, 0.5, atol=1e-6)


def test_mean_of_networks_of_different_sizes(predictor: Predictor) -> None:
    other = Predictor(BrightestClass(), SliceGrid(96, 96), "structures4", "cpu")
    slices = np.random.default_rng(0).integers(0, 255, (3, 40, 30), np.uint8)
    mean = MeanPredictor([predictor, other]).slice_probabilities(slices, (1.0, 1.0))
    expected = (predictor.slice_probabilities(slices, (1.0, 1.0)) + other.slice_probabilities(slices, (1.0, 1.0))) / 2
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    with pytest.raises(KitError, match="one label scheme"):
        MeanPredictor([predictor, Predictor(BrightestClass(), SliceGrid(96, 96), "levels20", "cpu")])
    with pytest.raises(KitError, match="one label scheme"):
        MeanPredictor([])


def test_a_second_opinion_decides_the_class_and_the_first_the_level() -> None:
    first = Predictor(LevelsByGray(), SliceGrid(32, 32), "levels20", "cpu")
    pooled = PooledPredictor(first, Predictor(BrightestClass(), SliceGrid(32, 32), "structures4", "cpu"))
    assert pooled.scheme == "levels20"
    slices = np.zeros((2, 32, 32), np.uint8)
    slices[:, :, 16:] = 255
    alone, found = (one.slice_probabilities(slices, (1.0, 1.0)) for one in (first, pooled))
    assert found.shape == alone.shape == (2, 20, 32, 32) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert alone[0, :, 5, 20].argmax() == 0 and found[0, :, 5, 20].argmax() == 12, "the second is sure of a disc"
    assert found[0, :, 5, 5].argmax() == 0
    np.testing.assert_allclose(found[0, 1] / found[0, 2], alone[0, 1] / alone[0, 2], rtol=0.02)
    for one, other in ((pooled.second, first), (first, replace(pooled.second, scheme="released_gray"))):
        with pytest.raises(KitError, match=f"no second opinion on {one.scheme}"):
            PooledPredictor(one, other)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.67, 1.0])
def test_pooling_is_the_weighted_geometric_mean_of_classes(weight: float) -> None:
    rng = np.random.default_rng(0)
    fine, coarse = rng.dirichlet(np.full(20, 3.0), (3, 4, 5)), rng.dirichlet(np.full(4, 3.0), (3, 4, 5))
    fine, coarse = (np.moveaxis(one, -1, 1).astype(np.float32) for one in (fine, coarse))
    class_of = classes_in("levels20", "structures4")
    assert class_of.tolist() == [0] + 9 * [1] + [2] + 9 * [3]
    found = pool_classes(fine.copy(), coarse, class_of, weight)
    sums = np.stack([fine[:, class_of == k].sum(axis=1) for k in range(4)], axis=1)
    wanted = sums ** (1 - weight) * coarse**weight
    wanted /= wanted.sum(axis=1, keepdims=True)
    for k in range(4):
        np.testing.assert_allclose(found[:, class_of == k].sum(axis=1), wanted[:, k], atol=1e-4)
    fine[:], coarse[:] = np.eye(20, dtype=np.float32)[None, 7, :, None, None], np.eye(4, dtype=np.float32)[None, 3, :, None, None]
    contrary = pool_classes(fine, coarse, class_of, weight)
    assert np.isfinite(contrary).all() and (contrary >= 0).all(), "two networks that are sure of different things"
    np.testing.assert_allclose(contrary.sum(axis=1), 1, atol=1e-4)


def test_the_card_says_how_many_votes_own_numbers_need(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(predict_room, "one_level_a_part", lambda *given: asked.append(given[-1]) or given[0])
    first = Predictor(LevelsByGray(), SliceGrid(32, 32), "levels20", "cpu")
    for one in (first, replace(first, tidy=Tidy(0.0, 0.0, own_votes=3.0))):
        one.predict_volume(Volume(np.zeros((1, 32, 32), np.uint8), (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction()))
    assert asked == [1.0, 3.0]


@pytest.mark.parametrize(("votes", "works"), [(3, True), (3.5, True), (0, False), ("3", False), (None, False), (True, False)])
def test_a_card_with_votes(advised: Path, votes: object, works: bool) -> None:
    card = json.loads((advised / "model.json").read_text())
    (advised / "model.json").write_text(json.dumps(card | {"tidy": card["tidy"] | {"own_votes": votes}}))
    if works:
        assert load_predictor(advised, "cpu").own_votes == votes
    else:
        with pytest.raises(DataError, match="own_votes of"):
            load_predictor(advised, "cpu")


def test_agreement_is_the_dice_of_what_each_draws_by_itself() -> None:
    agreement = NetworkAgreement("structures4")
    assert np.isnan(agreement.mean()), "nothing was seen"
    first, second = np.zeros((2, 4, 4), int), np.zeros((2, 4, 4), int)
    agreement.add(first, second)
    assert np.isnan(agreement.mean()), "nothing was drawn"
    first[0, :, :2], second[0, :, 1:3], second[1, 0, 0] = 1, 1, 3
    agreement.add(first[:1], second[:1])
    agreement.add(first[1:], second[1:])
    found = agreement.by_class()
    assert found["vertebra"] == 2 * 4 / 16 and found["disc"] == 0 and np.isnan(found["spinal canal"])
    assert agreement.mean() == pytest.approx((0.5 + 0) / 2), "over what one of the two draws"


@pytest.fixture
def advised(tmp_path: Path, model_folder: Path) -> Path:
    """A folder with a network of levels that asks the one beside it."""
    shutil.copytree(model_folder, tmp_path / "classes")
    torch.manual_seed(1)
    model = build_model("unet", in_channels=1, n_classes=20, encoder="resnet18", decoder_channels=[16, 16, 8, 8, 8])
    told = {"scheme": "levels20", "size": [64, 64], "tidy": {"across_mm": 1.3, "canal_share": 0.1, "front_mm": 50.0}}
    save_model(tmp_path / "levels", model, told | {"second_opinion": {"network": "classes", "weight": 0.6}})
    return tmp_path / "levels"


def test_a_card_names_whose_second_opinion_is_asked(advised: Path, model_folder: Path) -> None:
    found = load_predictor(advised, "cpu")
    assert isinstance(found, PooledPredictor) and found.tidy == Tidy(1.3, 0.1, front_mm=50.0)
    slices = np.random.default_rng(0).integers(0, 255, (3, 70, 60), np.uint8)
    by_hand = PooledPredictor(Predictor.load(advised, "cpu"), Predictor.load(model_folder, "cpu"), 0.6)
    np.testing.assert_array_equal(
        found.slice_probabilities(slices, (1.0, 1.0), slice(1, 3)), by_hand.slice_probabilities(slices, (1.0, 1.0), slice(1, 3))
    )
    volume = Volume(slices, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    assert found.predict_volume(volume).array.shape == slices.shape


@pytest.mark.parametrize("name", ["../classes", "", ".", "..", "levels", 7, None, "a/b", "/etc", "x" * 300])
def test_a_second_opinion_lies_in_a_folder_beside(advised: Path, name: object) -> None:
    card = json.loads((advised / "model.json").read_text())
    (advised / "model.json").write_text(json.dumps(card | {"second_opinion": {"network": name, "weight": 0.5}}))
    with pytest.raises(DataError, match=r"model\.json.*names no folder beside its own"):
        load_predictor(advised, "cpu")


@pytest.mark.parametrize("weight", [1.5, -0.1, None, "much", True, float("nan"), [1]])
def test_a_second_opinion_has_a_weight(advised: Path, weight: object) -> None:
    card = json.loads((advised / "model.json").read_text())
    (advised / "model.json").write_text(json.dumps(card | {"second_opinion": {"network": "classes", "weight": weight}}))
    with pytest.raises(DataError, match="a weight from 0 to 1, not"):
        load_predictor(advised, "cpu")
    (advised / "model.json").write_text(json.dumps(card | {"second_opinion": "classes"}))
    with pytest.raises(DataError, match="a weight from 0 to 1, not None"):
        load_predictor(advised, "cpu")


def test_a_second_opinion_that_is_not_there_or_does_not_fit(advised: Path) -> None:
    (advised.parent / "classes").rename(advised.parent / "moved")
    with pytest.raises(DataError, match="which is not there.*Copy both folders"):
        load_predictor(advised, "cpu")
    (advised.parent / "moved").rename(advised.parent / "classes")
    card = json.loads((advised.parent / "classes" / "model.json").read_text())
    (advised.parent / "classes" / "model.json").write_text(
        json.dumps(card | {"second_opinion": {"network": "levels", "weight": 0.5}})
    )
    with pytest.raises(DataError, match="levels20 is no second opinion on structures4"):
        load_predictor(advised.parent / "classes", "cpu")
    assert isinstance(load_predictor(advised, "cpu"), PooledPredictor), "whom it asks asks nobody"
    (advised.parent / "classes" / "model.json").write_text(json.dumps(card | {"plane": "axial"}))
    with pytest.raises(DataError, match="which is no network of slices"):
        load_predictor(advised, "cpu")


@pytest.mark.parametrize("field_mm", [[300], [300, 0], ["a", 3], 7, [300, float("nan")]])
def test_a_card_with_a_field_that_is_none(model_folder: Path, tmp_path: Path, field_mm: object) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(card | {"field_mm": field_mm}))
    with pytest.raises(DataError, match="does not say how slices go in"):
        Predictor.load(tmp_path / "model", "cpu")


def test_model_without_slice_size(tmp_path: Path) -> None:
    model = build_model("unet", in_channels=1, n_classes=4, encoder="resnet18", decoder_channels=[16, 16, 8, 8, 8])
    save_model(tmp_path, model, {"scheme": "structures4"})
    with pytest.raises(DataError, match=r"model\.json.*how slices go in"):
        Predictor.load(tmp_path, "cpu")


# ------------------------------------------------------------------------------------------------------ networks of volumes


class BrightVoxels(torch.nn.Module):
    """Stands in for a network of volumes: class 1 where the image is bright; it takes one size only."""

    image_size = (16, 32, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert tuple(images.shape[2:]) == self.image_size
        bright = (images[:, 0] - 0.5) * 40
        return torch.stack([-bright, bright], dim=1)


def block(code: str) -> tuple[sitk.Image, sitk.Image]:
    """A bright block off the middle and its mask, with odd spacings, in an orientation."""
    mask = np.zeros((13, 41, 23), np.uint8)
    mask[3:9, 11:30, 6:15] = 1
    images = []
    for array in (mask.astype(np.int16) * 900, mask):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.83, 1.21, 3.7))
        image.SetOrigin((-12.5, 30.25, 7.0))
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code))
        images.append(image)
    return tuple(images)


@pytest.mark.parametrize("code", ["PIR", "RAI", "RPI", "LSA"])
@pytest.mark.parametrize(
    ("grid", "voxel_mm"),
    [
        ((16, 32, 16), None),
        ((24, 32, 40), None),
        ((16, 32, 16), (5.0, 3.0, 4.0)),  # covers the whole field of view
        ((16, 32, 16), (2.1, 1.3, 2.9)),  # does not: the window must slide
    ],
)
def test_a_volume_comes_back_in_its_own_grid_within_half_a_voxel(
    tmp_path: Path, code: str, grid: tuple[int, int, int], voxel_mm: tuple[float, float, float] | None
) -> None:
    image, truth = block(code)
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    predictor = WholeVolumePredictor(BrightVoxels(), grid, "structures4", "cpu", voxel_mm=voxel_mm, slide=True)
    (written,) = predict_path(tmp_path / "scan.mha", tmp_path / "masks", predictor)
    mask = sitk.ReadImage(str(written))
    assert mask.GetSize() == image.GetSize() and mask.GetSpacing() == image.GetSpacing()
    assert mask.GetOrigin() == image.GetOrigin() and mask.GetDirection() == image.GetDirection()
    sitk.WriteImage(truth, str(tmp_path / "truth.mha"))
    found, expected = read_volume(written), read_volume(tmp_path / "truth.mha")  # both in the kit's axes
    shape = expected.array.shape
    coarse_mm = voxel_mm or [n * mm / g for n, mm, g in zip(shape, expected.spacing, grid, strict=True)]
    for axis, (step, coarse) in enumerate(zip(expected.spacing, coarse_mm, strict=True)):
        others = tuple(k for k in range(3) if k != axis)
        edges = [np.flatnonzero(one.array.any(axis=others))[[0, -1]] for one in (found, expected)]
        assert (np.abs(np.subtract(*edges)) * step <= (coarse + step) / 2).all(), (axis, edges)


def test_the_box_stands_on_the_lower_edge_and_what_lies_beyond_is_background() -> None:
    array = np.zeros((20, 50, 40), np.int16)  # 60 x 100 x 80 mm
    array[:, 5:, 3:37] = 900
    volume = Volume(array, (3.0, 2.0, 2.0), (0.0, 0.0, 0.0), kit_direction())
    predictor = WholeVolumePredictor(BrightVoxels(), (16, 32, 16), "structures4", "cpu", voxel_mm=(2.0, 2.5, 3.0))
    expected = np.zeros_like(array, np.uint8)  # the box is 32 x 80 x 48 mm: voxels whose centres lie in it
    expected[5:15, 10:, 8:32] = 1
    np.testing.assert_array_equal(predictor.predict_volume(volume).array, expected)
    assert predictor.reach.startswith("a box of 32 x 80 x 48 mm (slices, rows, columns) on the lower edge")
    assert replace(predictor, slide=True).reach == replace(predictor, voxel_mm=None).reach == "the whole field of view"


@pytest.mark.parametrize("shape", [(1, 40, 30), (5, 2, 30)])
def test_a_single_slice_is_refused_by_a_network_of_volumes(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    predictor = WholeVolumePredictor(BrightVoxels(), (16, 32, 16), "structures4", "cpu", voxel_mm=(2.0, 2.5, 3.0))
    for name, size in (("thin", shape), ("whole", (5, 40, 30))):
        image = sitk.GetImageFromArray(np.arange(np.prod(size), dtype=np.int16).reshape(size))
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("PIR"))  # the kit's axes
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    message = rf"thin.mha: {' x '.join(map(str, shape))} voxels are no volume for a network of volumes. Give a whole series"
    with pytest.raises(DataError, match=message):
        predict_path(tmp_path / "thin.mha", tmp_path / "masks", predictor)
    with pytest.raises(KitError, match="1 of 2 images were segmented.*thin.mha"):
        predict_path(tmp_path, tmp_path / "masks", predictor)
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"whole.mha", TABLE}


def test_one_window_is_the_network_itself_and_more_cover_a_finer_grid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"image_size": [16, 32, 16], "feature_size": 2, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2}
    model = build_model("unetr", 1, 4, **options)
    save_model(tmp_path, model, {"scheme": "structures4", "size": [16, 32, 16], "preparation": "as_printed", "voxel_mm": None})
    predictor = load_predictor(tmp_path, "cpu")
    assert isinstance(predictor, WholeVolumePredictor) and predictor.preparation == "as_printed"
    array = np.random.default_rng(0).integers(0, 900, (16, 32, 16)).astype(np.int16)
    volume = Volume(array, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    with torch.no_grad():
        expected = torch.softmax(model.eval()(torch.from_numpy((array + 1000) / np.float32(4096))[None, None]), dim=1)[0]
    torch.testing.assert_close(predictor.grid_probabilities(volume), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(KitError, match="holds a network of volumes: open it with load_predictor"):
        Predictor.load(tmp_path, "cpu")


def test_windows_cover_a_finer_grid_voxel_by_voxel() -> None:
    array = np.random.default_rng(0).integers(0, 900, (16, 48, 40)).astype(np.int16)
    volume = Volume(array, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    predictor = WholeVolumePredictor(BrightVoxels(), (16, 48, 40), "structures4", "cpu")  # the network takes 16 x 32 x 16
    low, high = np.percentile(array, (0.5, 99.5))
    bright = (np.clip((array - low) / (high - low), 0, 1) - 0.5) * 80
    np.testing.assert_allclose(predictor.grid_probabilities(volume)[1], 1 / (1 + np.exp(-bright)), atol=1e-3)


def test_a_card_of_volumes_without_its_preparation_is_explained(tmp_path: Path) -> None:
    options = {"image_size": [16, 16, 16], "feature_size": 2, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2}
    save_model(tmp_path, build_model("unetr", 1, 4, **options), {"scheme": "structures4", "size": [16, 16, 16]})
    with pytest.raises(DataError, match=r"model.json: does not say how volumes go in \('preparation'\). Train the model again."):
        load_predictor(tmp_path, "cpu")


def test_one_plane_of_an_ensemble_is_not_run_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(tmp_path / "m", build_model("unet", 3, 2, decoder_channels=(8, 8, 8)), {"scheme": "discs", "plane": "axial"})
    message = "holds the axial network of a three-plane ensemble, .* Choose another model; notebook 10"
    with pytest.raises(KitError, match=message):
        load_predictor(tmp_path / "m", "cpu")


def test_slices_keep_their_predictor(model_folder: Path) -> None:
    assert isinstance(load_predictor(model_folder, "cpu"), Predictor)
