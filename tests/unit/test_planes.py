"""Slices along three planes, and the small 3D network that fuses what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from spider_utils.data.discs import DiscCase
from spider_utils.data.planes import PLANES, ChannelVolume, PlaneSlices, cut, join, pad_to, padded_size, relative_positions
from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.ensemble.planes import (
    FusionDesign,
    FusionTraining,
    Lesson,
    PlaneFusion,
    fusion_input,
    plane_probability,
    sensitivity,
    train_fusion,
)
from spider_utils.errors import DataError
from spider_utils.models import build_model

SPACING = (2.0, 1.5, 1.0)


def volume(shape=(4, 10, 6), patient=1, seed=0, rows=slice(5, 7)):
    mask = np.zeros(shape, np.uint8)
    mask[1:3, rows, 2:5] = 1
    image = np.random.default_rng(seed).integers(0, 256, (3, *shape), dtype=np.uint8)
    return ChannelVolume(f"{patient:02d}", patient, image, mask, SPACING)


# ------------------------------------------------------------------------------------------------------------------ slices


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
@pytest.mark.parametrize("plane", PLANES)
def test_planes_there_and_back(plane, leading):
    array = np.arange(np.prod((*leading, 2, 3, 4))).reshape(*leading, 2, 3, 4)
    slices = cut(array, plane)
    expected = {"sagittal": (2, *leading, 3, 4), "axial": (3, *leading, 2, 4), "coronal": (4, *leading, 2, 3)}[plane]
    assert slices.shape == expected
    assert np.array_equal(join(slices, plane), array)


def test_a_slice_of_each_plane_is_what_its_name_says():
    array = np.arange(24).reshape(2, 3, 4)  # (left-right, superior-inferior, anterior-posterior)
    assert np.array_equal(cut(array, "sagittal")[1], array[1])
    assert np.array_equal(cut(array, "axial")[2], array[:, 2])
    assert np.array_equal(cut(array, "coronal")[3], array[:, :, 3])


def test_relative_positions_run_along_the_normal():
    shape = (3, 1, 5)
    assert relative_positions(shape, "sagittal")[:, 0, 2].tolist() == [-1, 0, 1]
    assert relative_positions(shape, "coronal")[1, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert (relative_positions(shape, "axial") == 0).all() and relative_positions(shape, "axial").shape == shape
    assert relative_positions(shape, "coronal", middle=1, reach=2)[1, 0].tolist() == [-0.5, 0, 0.5, 1, 1.5]


def test_padding_goes_below_and_right():
    padded = pad_to(np.ones((2, 3, 4)), (4, 8))
    assert padded.shape == (2, 4, 8) and padded[:, :3, :4].all() and padded.sum() == 24
    assert padded_size((3, 16), 8) == (8, 16)
    with pytest.raises(ValueError, match="slices of 3x4 do not fit into 2x8"):
        pad_to(np.ones((3, 4)), (2, 8))


def disc_case(contrasts):
    mask = np.zeros((4, 6, 5), np.uint8)
    mask[1:3, 2:4, 1:4] = 2
    images = tuple(
        Volume((np.arange(120).reshape(4, 6, 5) * (k + 1)).astype(np.int16), SPACING, (0.0, 0.0, 0.0), kit_direction())
        for k in range(len(contrasts))
    )
    return DiscCase("07", 7, contrasts, images, Volume(mask, SPACING, (0.0, 0.0, 0.0), kit_direction()))


def test_contrasts_become_channels():
    case = disc_case(("fat", "inn", "opp", "wat"))
    made = ChannelVolume.of(case, ("wat", "fat", "inn"))
    assert made.image.shape == (3, 4, 6, 5) and made.image.dtype == np.uint8 and made.patient == 7
    assert made.image.min() == 0 and made.image.max() == 255 and np.array_equal(made.mask, case.mask.array)
    assert ChannelVolume.of(disc_case(("t2",))).image.std(axis=0).max() == 0  # one contrast in all channels
    with pytest.raises(ValueError, match="no contrast t1; it has fat, inn, opp, wat"):
        ChannelVolume.of(case, ("t1", "fat", "inn"))
    with pytest.raises(ValueError, match="3 contrasts, not 2"):
        ChannelVolume.of(disc_case(("fat", "wat")))


def test_resampling_moves_image_and_mask_together():
    made = ChannelVolume.of(disc_case(("t2",)), spacing_mm=(2.0, 3.0, 2.0))
    assert made.image.shape[1:] == made.mask.shape == (4, 3, 2) and made.spacing == (2.0, 3.0, 2.0)
    assert set(np.unique(made.mask)) <= {0, 2} and made.mask.any()


def test_unlabelled_discs_are_cropped_out():
    whole = volume(rows=slice(7, 9))
    part = whole.without_unlabelled_discs()  # 6 mm above the highest labelled disc are 4 rows of 1.5 mm
    assert whole.first_labelled_row == 3 and part.mask.shape == (4, 7, 6) and part.image.shape == (3, 4, 7, 6)
    assert np.array_equal(part.image, whole.image[:, :, 3:]) and part.mask.sum() == whole.mask.sum()
    assert volume(rows=slice(2, 4)).first_labelled_row == 0


@pytest.mark.parametrize(("plane", "full", "empty", "size"), [("sagittal", 2, 2, (16, 8)), ("axial", 2, 8, (8, 8))])
def test_slices_of_a_plane(plane, full, empty, size):
    one = volume()
    every = PlaneSlices([one], plane, 8)
    assert len(every) == full + empty
    image, mask = every[full + empty - 1]
    assert image.shape == (3, *size) and image.dtype == torch.float32 and mask.shape == size and mask.dtype == torch.uint8
    shown = cut(one.image, plane)[-1]
    rows, columns = shown.shape[1:]
    np.testing.assert_allclose(image[:, :rows, :columns].numpy(), shown / 255, rtol=1e-6)
    assert not image[:, rows:].any() and not image[:, :, columns:].any()
    fewer = PlaneSlices([one], plane, 8, empty_step=2)
    assert len(fewer) == full + (empty + 1) // 2
    assert sum(int(mask.sum()) for _, mask in fewer) == one.mask.sum()


def test_volumes_of_several_sizes_share_one_set():
    slices = PlaneSlices([volume(), volume((4, 17, 6), 2)], "sagittal", 8)
    assert len(slices) == 8 and slices[0][0].shape == (3, 24, 8)
    with pytest.raises(ValueError, match="at least one volume"):
        PlaneSlices([], "axial", 8)


def test_repeated_slices_are_augmented_otherwise():
    def shift(image, mask, seed):
        assert image.shape[-1] == 3
        return np.roll(image, seed % 5, axis=1), np.roll(mask, seed % 5, axis=1)

    slices = PlaneSlices([volume()], "sagittal", 2, shift, at_least=40)
    assert len(slices) == 40
    pictures = {slices[k][0].numpy().tobytes() for k in range(1, 40, 4)}
    assert len(pictures) > 1
    again = slices[5][0]
    slices.set_epoch(1)
    others = {slices[k][0].numpy().tobytes() for k in range(1, 40, 4)}
    slices.set_epoch(0)
    assert torch.equal(slices[5][0], again) and others != pictures


@pytest.mark.parametrize("plane", PLANES)
def test_a_plane_network_answers_in_the_volumes_own_grid(plane):
    class Copy(torch.nn.Module):
        stride = 8

        def forward(self, images):
            return torch.stack([torch.zeros_like(images[:, 0]), 10 * images[:, 1] - 5], dim=1)

    one = volume()
    found = plane_probability(Copy(), one.image, plane)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(5 - one.image[1] / 25.5)), rtol=1e-4)


def test_a_real_network_goes_through_all_planes():
    torch.manual_seed(0)
    network = build_model("dilated_unet", 3, 2, encoder="tu-test_resnet", decoder_channels=[8, 8, 8, 8]).eval()
    one = volume()
    for plane in PLANES:
        found = plane_probability(network, one.image, plane)
        assert found.shape == one.mask.shape and found.dtype == np.float32 and 0 <= found.min() <= found.max() <= 1


# ------------------------------------------------------------------------------------------------------------------ fusion


def some_planes(shape=(4, 5, 6), seed=0):
    rng = np.random.default_rng(seed)
    return {plane: rng.random(shape, dtype=np.float32) for plane in PLANES}


def set_by_hand(fusion, **layers):
    with torch.no_grad():
        for layer in fusion.layers:
            layer.weight.zero_()
            layer.bias.zero_()
        for name, (weight, bias) in layers.items():
            layer = fusion.layers[int(name[1:])]
            for place, value in weight.items():
                layer.weight[place] = value
            layer.bias += torch.tensor(bias)
    return fusion.eval()


def test_channels_are_probability_and_place_of_each_plane():
    planes = some_planes()
    six, three = fusion_input(planes), fusion_input(planes, positions=False)
    assert six.shape == (6, 4, 5, 6) and three.shape == (3, 4, 5, 6) and six.dtype == np.float32
    for k, plane in enumerate(PLANES):
        assert np.array_equal(six[2 * k], planes[plane]) and np.array_equal(three[k], planes[plane])
        assert np.array_equal(cut(six[2 * k + 1], plane)[:, 0, 0], np.unique(six[2 * k + 1]))  # it runs along the normal alone
    with pytest.raises(ValueError, match="one volume of each of sagittal, axial, coronal"):
        fusion_input({"sagittal": planes["sagittal"]})
    with pytest.raises(ValueError, match="all of one shape"):
        fusion_input(planes | {"axial": np.zeros((1, 2, 3))})


def test_places_are_relative_to_what_the_three_call_discs():
    planes = {plane: np.zeros((4, 30, 9), np.float32) for plane in PLANES}
    nothing = fusion_input(planes)
    assert nothing[1, :, 0, 0].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])  # the volume itself
    for plane in ("sagittal", "axial"):  # two of three: above one half on average
        planes[plane][1:3, [10, 14], 2:5] = 0.9
    planes["coronal"][:, 29] = 0.9  # one alone does not count
    six = fusion_input(planes)
    assert six[1, :, 0, 0].tolist() == pytest.approx(
        [-1.5, -0.5, 0.5, 1.5]
    )  # middle 1.5, deviation 0.5, at least one voxel a unit
    assert six[3, 0, [10, 12, 14, 20], 0].tolist() == pytest.approx([-0.5, 0, 0.5, 2])  # middle 12, deviation 2
    assert six[5, 0, 0, [3, 4]].tolist() == pytest.approx([0, 1 / (2 * (2 / 3) ** 0.5)])
    moved = fusion_input({plane: np.roll(one, 3, axis=2) for plane, one in planes.items()})
    np.testing.assert_allclose(moved[5, 0, 0, 3:], six[5, 0, 0, :-3], atol=1e-6)


def test_fusion_is_two_convolutions_with_a_relu_between():
    planes = some_planes()
    # Hidden: the axial probability above 0.3, one voxel to the right of where it is read. Out: eight times the sum around.
    fusion = set_by_hand(
        PlaneFusion(FusionDesign(kernel=3, hidden=1)),
        _0=({(0, 2, 1, 1, 2): 1.0}, [-0.3]),
        _1=({(1, 0): 8.0}, [0.0, -20.0]),
    )
    shifted = np.zeros_like(planes["axial"])
    shifted[:, :, :-1] = planes["axial"][:, :, 1:]
    hidden = np.maximum(shifted - 0.3, 0)
    logit = 8 * ndimage.correlate(hidden.astype(np.float64), np.ones((3, 3, 3)), mode="constant") - 20
    np.testing.assert_allclose(fusion.probability(planes), 1 / (1 + np.exp(-logit)), rtol=1e-4, atol=1e-6)


def test_fusion_can_trust_a_plane_by_place():
    # Each hidden channel is an "and": the sagittal network says so and it is left, the coronal one says so and it is right.
    fusion = set_by_hand(
        PlaneFusion(FusionDesign(kernel=1, hidden=2)),
        _0=({(0, 0): 10.0, (0, 1): -10.0, (1, 4): 10.0, (1, 1): 10.0}, [-10.0, -10.0]),
        _1=({(1, 0): 1.0, (1, 1): 1.0}, [0.0, -0.5]),
    )
    for trusted, expected in (("sagittal", [True, False]), ("coronal", [False, True])):
        planes = {plane: np.full((6, 4, 4), float(plane == trusted), np.float32) for plane in PLANES}
        halves = np.split(fusion.probability(planes) > 0.5, 2)
        assert [half.all() for half in halves] == expected and [half.any() for half in halves] == expected


def test_only_what_some_plane_calls_a_disc_is_computed():
    torch.manual_seed(0)
    fusion, planes = PlaneFusion(FusionDesign()).eval(), {plane: np.zeros((9, 20, 12), np.float32) for plane in PLANES}
    assert not fusion.probability(planes).any()
    planes["axial"][3, 11, 6] = 0.9
    found = fusion.probability(planes)
    with torch.inference_mode():
        whole = torch.softmax(fusion(torch.from_numpy(fusion_input(planes))[None]), dim=1)[0, 1].numpy()
    near = np.s_[1:6, 9:14, 4:9]
    np.testing.assert_allclose(found[near], whole[near], rtol=1e-5)
    assert np.count_nonzero(found) == 5**3


def test_weights_voxel_by_voxel_see_no_neighbours():
    design = FusionDesign(kernel=1, hidden=0, positions=False)
    torch.manual_seed(0)
    fusion, planes = PlaneFusion(design).eval(), some_planes()
    assert len(fusion.layers) == 1 and sum(weight.numel() for weight in fusion.parameters()) == 3 * 2 + 2
    before = fusion.probability(planes)
    planes["axial"][2, 2, 2] = 1 - planes["axial"][2, 2, 2]
    assert np.argwhere(fusion.probability(planes) != before).tolist() == [[2, 2, 2]]


def lessons(n, seed=0, shape=(16, 16, 16)):
    """The sagittal network is right but for whole wrong slices; the others are right but for scattered voxels."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(n):
        truth = np.zeros(shape, bool)
        truth[3:13, 6:11, 4:12] = True
        planes = {}
        for plane in PLANES:
            said = truth.copy()
            rows = cut(said, plane)
            for k in rng.choice(len(rows), 4, replace=False):
                rows[k] = ~rows[k] & (rng.random(rows[k].shape) < 0.8)
            planes[plane] = np.where(said, 0.9, 0.1).astype(np.float32)
        made.append(Lesson(planes, truth))
    return made


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def test_fusion_learns_from_some_patients_and_helps_others():
    fusion, history = train_fusion(FusionDesign(), lessons(2), lessons(1, 1), FusionTraining(steps=80, crop=16, batch=2))
    assert [row["step"] for row in history] == [16, 32, 48, 64, 80] and not fusion.training
    for lesson in lessons(2, 2):
        mean = np.mean(list(lesson.planes.values()), axis=0)
        best = max(dice(one > 0.5, lesson.truth) for one in (*lesson.planes.values(), mean))
        assert dice(fusion.probability(lesson.planes) > 0.5, lesson.truth) > best + 0.1
    short = FusionTraining(steps=5, crop=16, batch=2)
    twice = [train_fusion(FusionDesign(), lessons(2), lessons(1, 1), short)[0] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(twice[0].parameters(), twice[1].parameters(), strict=True))
    with pytest.raises(ValueError, match="patients to learn from and others to be checked on"):
        train_fusion(FusionDesign(), lessons(1), [], short)


def test_what_lies_above_the_labelled_part_teaches_nothing():
    design, clean = FusionDesign(hidden=2), lessons(1)[0]
    spoiled = Lesson(clean.planes, clean.truth.copy(), first_row=4)
    spoiled.truth[:, :4] = True
    cut_off = Lesson(clean.planes, clean.truth, first_row=4)
    training = FusionTraining(steps=5, crop=8, batch=2)
    both = [train_fusion(design, [one], [one], training)[0] for one in (spoiled, cut_off)]
    assert all(torch.equal(a, b) for a, b in zip(both[0].parameters(), both[1].parameters(), strict=True))


def test_fusion_survives_its_file(tmp_path):
    torch.manual_seed(0)
    fusion, planes = PlaneFusion(FusionDesign()).eval(), some_planes()
    fusion.save(tmp_path / "fusion.safetensors")
    loaded = PlaneFusion(FusionDesign()).load(tmp_path / "fusion.safetensors").eval()
    assert np.array_equal(loaded.probability(planes), fusion.probability(planes))
    with pytest.raises(DataError, match="holds the weights of another fusion"):
        PlaneFusion(FusionDesign(hidden=4)).load(tmp_path / "fusion.safetensors")


def test_sensitivity_is_the_weights_that_are_at_work():
    planes = some_planes()
    torch.manual_seed(0)
    linear = PlaneFusion(FusionDesign(kernel=3, hidden=0)).eval()
    found = sensitivity(linear, planes, np.array([[1, 2, 3], [2, 2, 2]]))
    weight = linear.layers[0].weight.detach().numpy()
    expected = np.zeros((3, 5, 5, 5), np.float32)
    expected[:, 1:4, 1:4, 1:4] = (weight[1] - weight[0])[::2]
    np.testing.assert_allclose(found, np.stack([expected] * 2), atol=1e-6)
    # With a ReLU: what a voxel's answer changes by when one plane changes a little, near and at the border of the volume.
    fusion = PlaneFusion(FusionDesign(hidden=3)).eval()
    for voxel in ([1, 2, 3], [2, 1, 2]):
        found = sensitivity(fusion, planes, np.array([voxel]))[0]
        for k, plane in enumerate(PLANES):
            changed = planes | {plane: planes[plane].copy()}
            changed[plane][tuple(voxel)] += 1e-3
            logits = [torch.logit(torch.tensor(fusion.probability(p)[tuple(voxel)].astype(float))) for p in (planes, changed)]
            assert float(logits[1] - logits[0]) == pytest.approx(1e-3 * found[k, 2, 2, 2], abs=2e-5)


def test_larger_kernels_reach_further_and_even_ones_are_refused():
    planes = some_planes()
    torch.manual_seed(1)
    wide = PlaneFusion(FusionDesign(kernel=5, hidden=0)).eval()
    assert (wide.design.reach, FusionDesign(kernel=5).reach, FusionDesign(kernel=1).reach) == (2, 4, 2)
    weight = wide.layers[0].weight.detach().numpy()
    found = sensitivity(wide, planes, np.array([[2, 2, 2]]))[0]
    np.testing.assert_allclose(found, (weight[1] - weight[0])[::2], atol=1e-6)
    assert sensitivity(PlaneFusion(FusionDesign(kernel=5)).eval(), planes, np.array([[2, 2, 2]])).shape == (1, 3, 9, 9, 9)
    with pytest.raises(ValueError, match="kernel must be 1, 3, 5"):
        FusionDesign(kernel=2)
