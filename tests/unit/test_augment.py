"""Augmentation: image and mask move together, no label is invented, and the seed decides everything."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from spider_utils.data.augment import (
    AUGMENTS,
    PLANE_AUGMENTS,
    _transforms,
    augment_tissue,
    augment_triplanar,
    brighten_tissue,
    change_contrasts,
    crop_columns,
    deform_at_points,
    deform_grid,
    deform_tissue,
    displace,
    make_augment,
)

NAMES = [name for name in (*AUGMENTS, *PLANE_AUGMENTS) if name != "none"]


def pair(rows: int = 96, columns: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Three structures of one brightness each on black: the image shows exactly what the mask says."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[30:50, 20:50], mask[54:62, 20:50], mask[20:76, 58:66] = 1, 3, 2
    return np.array([0, 90, 160, 230], np.uint8)[mask], mask


@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline_keeps_shape_type_and_labels(name):
    image, mask = pair()
    kept = image.copy(), mask.copy()
    augment = make_augment(name)
    different = 0
    for seed in range(25):
        new_image, new_mask = augment(image, mask, seed)
        assert new_image.shape == image.shape and new_mask.shape == mask.shape
        assert new_image.dtype == new_mask.dtype == np.uint8
        assert set(np.unique(new_mask)) <= {0, 1, 2, 3}
        different += not np.array_equal(new_image, image)
    assert different > 15
    np.testing.assert_array_equal(image, kept[0])  # the input is not written into
    np.testing.assert_array_equal(mask, kept[1])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "contrasts"])  # which has brightness in any order
@given(seed=st.integers(0, 2**32 - 1))
def test_image_and_mask_move_together(name, seed):
    """Where the mask says a structure is, the image shows that structure: the order of brightness survives every pipeline."""
    new_image, new_mask = make_augment(name)(*pair(), seed)
    core = {label: ndimage.binary_erosion(new_mask == label, iterations=3) for label in range(4)}
    medians = [np.median(new_image[core[label]]) for label in (0, 1, 2, 3) if core[label].sum() > 25]
    assert medians == sorted(medians) and len(set(medians)) == len(medians)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything(name):
    image, mask = pair()
    augment = make_augment(name)
    first = [augment(image, mask, seed) for seed in (3, 4, 5)]
    np.random.seed(99)  # nobody else's random numbers matter
    again = [make_augment(name)(image, mask, seed) for seed in (5, 3, 4)]
    for k, j in ((0, 1), (1, 2), (2, 0)):
        np.testing.assert_array_equal(first[k][0], again[j][0])
        np.testing.assert_array_equal(first[k][1], again[j][1])
    assert not np.array_equal(first[0][0], first[1][0]) or not np.array_equal(first[1][0], first[2][0])


def _in_another_process(augment, queue) -> None:
    queue.put(augment(*pair(), 7))


@pytest.mark.parametrize("name", ["standard", "tissue"])
def test_pipelines_travel_to_another_process(name):
    augment = make_augment(name)
    assert len(pickle.dumps(augment)) < 500
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_in_another_process, args=(pickle.loads(pickle.dumps(augment)), queue))
    worker.start()
    there = queue.get(timeout=60)
    worker.join()
    for a, b in zip(there, augment(*pair(), 7), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_of_any_value_survive():
    image, mask = pair()
    mask = np.array([0, 25, 100, 225], np.uint8)[mask]
    for name in NAMES:
        for seed in range(5):
            assert set(np.unique(make_augment(name)(image, mask, seed)[1])) <= {0, 25, 100, 225}


def test_no_flips_in_the_kits_own_pipelines():
    image, mask = pair()
    for name in ("light", "field_of_view", "standard", "contrasts"):
        for seed in range(30):
            _, new = make_augment(name)(image, mask, seed)
            middle = [np.argwhere(new == label).mean(axis=0) for label in (1, 2, 3)]
            assert middle[0][0] < middle[2][0] and middle[0][1] < middle[1][1]


def test_other_contrasts_keep_structures_where_they_are_and_give_each_a_brightness_of_its_own():
    image, mask = pair()
    image = np.clip(image + np.random.default_rng(0).integers(0, 8, image.shape), 0, 255).astype(np.uint8)
    orders, brightest = set(), []
    for seed in range(150):
        new = change_contrasts(image, mask, seed)
        assert new.dtype == np.uint8 and new.shape == image.shape
        inside = [ndimage.binary_erosion(mask == label, np.ones((7, 7))) for label in range(4)]
        medians = [float(np.median(new[one])) for one in inside]
        assert medians[0] <= 45, "air stays dark"
        # One gray gives one gray, away from edges: nothing is drawn that was not there.
        for label, one in enumerate(inside):
            pairs = np.unique(np.stack([image[one], new[one]], axis=1), axis=0)
            assert len(pairs) == len(np.unique(image[one])), label
        orders.add(tuple(np.argsort(medians[1:])))
        brightest.append(max(medians[1:]))
    assert len(orders) == 6, "every order of three structures occurs"
    assert min(brightest) > 60


def test_neighbouring_slices_change_contrast_alike():
    image, mask = pair()
    several = np.stack([image, np.roll(image, 3, axis=0), image], axis=-1)
    changed = make_augment("contrasts")(several, mask, 1)[0]
    assert changed.shape == several.shape and change_contrasts(several, mask, 1).dtype == np.uint8
    np.testing.assert_array_equal(change_contrasts(several, mask, 1)[..., 2], change_contrasts(image, mask, 1))


def test_half_of_the_slices_keep_their_contrast():
    image, mask = pair()
    plain, other = make_augment("standard"), make_augment("contrasts")
    same = sum(np.array_equal(plain(image, mask, seed)[0], other(image, mask, seed)[0]) for seed in range(80))
    assert 25 < same < 55
    for seed in range(10):
        np.testing.assert_array_equal(plain(image, mask, seed)[1], other(image, mask, seed)[1])


def test_field_of_view_moves_the_picture_up_and_resizes_it():
    image, mask = pair()
    centre = np.argwhere(mask > 0).mean(axis=0)
    moved, areas = [], []
    for seed in range(60):
        new = make_augment("field_of_view")(image, mask, seed)[1]
        moved.append((np.argwhere(new > 0).mean(axis=0) - centre) / mask.shape)
        areas.append((new > 0).sum() / (mask > 0).sum())
    up, aside = np.mean(moved, axis=0)
    assert -0.12 < up < -0.03 and abs(aside) < 0.03, "upper levels leave the picture, on average a fourteenth of its height"
    assert min(areas) < 0.8 and max(areas) > 1.2


def test_strips_have_full_height_and_lie_around_the_structures():
    image = np.arange(40 * 60, dtype=np.uint32).reshape(40, 60).astype(np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:30, 26:34] = 3
    starts = set()
    for seed in range(40):
        strip, labels = crop_columns(image, mask, 20, seed)
        assert strip.shape == labels.shape == (40, 20) and (labels == 3).sum() == (mask == 3).sum()
        start = 26 - int(np.flatnonzero(labels.any(axis=0))[0])
        np.testing.assert_array_equal(strip, image[:, start : start + 20])
        starts.add(start)
    assert min(starts) <= 15 and max(starts) >= 24, "the strip lies up to 0.3 of its width off the structures"
    again = crop_columns(image, mask, 20, 3)
    np.testing.assert_array_equal(again[0], crop_columns(image, mask, 20, 3)[0])
    assert crop_columns(image, np.zeros_like(mask), 60, 0)[0].shape == (40, 60), "without labels, and as wide as the slice"
    with pytest.raises(ValueError, match="a strip of 61 columns does not fit into a slice of 60"):
        crop_columns(image, mask, 61, 0)


def test_the_sources_pipeline_flips():
    image, mask = pair()
    upside_down = mirrored = 0
    for seed in range(30):
        _, new = make_augment("medfusion")(image, mask, seed)
        middle = [np.argwhere(new == label).mean(axis=0) for label in (1, 2, 3)]
        upside_down += middle[0][0] > middle[2][0]
        mirrored += middle[0][1] > middle[1][1]
    assert 6 <= upside_down <= 24 and 6 <= mirrored <= 24


def test_steps_of_a_pipeline_draw_independently():
    image, mask = pair()
    seen = set()
    for seed in range(30):
        _, new = make_augment("medfusion")(image, mask, seed)
        middle = [np.argwhere(new == label).mean(axis=0) for label in (1, 2, 3)]
        seen.add((bool(middle[0][0] > middle[2][0]), bool(middle[0][1] > middle[1][1])))
    assert len(seen) == 4, "upside down and mirrored must come in all four combinations"


def test_none_and_unknown_names():
    assert make_augment("none") is None
    assert repr(make_augment("light")) == "PipelineAugment('light')"
    with pytest.raises(ValueError, match="unknown augmentation 'flip'. Known are: none, light"):
        make_augment("flip")


# ------------------------------------------------------------------------------------------------------ tissue augmentation


def test_displace_moves_by_whole_pixels_exactly():
    image, _ = pair()
    shift = np.full(image.shape, 2.0)
    moved = displace(image, shift, -shift, is_mask=False)  # fetched from two rows below and two columns to the left
    np.testing.assert_array_equal(moved[:-2, 2:], image[2:, :-2])
    halves = displace(np.array([[0, 100]], np.uint8), np.zeros((1, 2)), np.array([[0.5, 0.0]]), is_mask=False)
    assert halves.tolist() == [[50, 100]]


def test_a_pull_moves_the_point_by_its_vector():
    image, mask = np.zeros((61, 61), np.uint8), np.zeros((61, 61), np.uint8)
    image[29:32, 29:32], mask[29:32, 29:32] = 200, 5
    new_image, new_mask = deform_at_points(image, mask, np.array([[30, 30]]), np.array([[4.0, -3.0]]), reach=12.0)
    for new in (new_image, new_mask):
        middle = np.average(np.argwhere(new > 0), axis=0, weights=new[new > 0].astype(float))
        np.testing.assert_allclose(middle, (34, 27), atol=0.6)


def test_the_inverse_fading_is_half_at_its_reach():
    points, vectors = np.array([[20, 25]]), np.array([[6.0, 0.0]])
    with pytest.MonkeyPatch.context() as patch:
        fields = []
        patch.setattr("spider_utils.data.augment.displace", lambda array, *field, is_mask: fields.append(field) or array)
        deform_at_points(np.zeros((50, 60), np.uint8), np.zeros((50, 60), np.uint8), points, vectors, 10.0, "inverse")
        deform_at_points(np.zeros((50, 60), np.uint8), np.zeros((50, 60), np.uint8), points, vectors, 10.0)
    rows, columns = fields[0]
    assert rows[20, 25] == -6 and rows[30, 25] == rows[20, 15] == -3 and not columns.any()
    assert rows[26, 33] == pytest.approx(-3) and rows[20, 55] == pytest.approx(-0.6)  # 10 and 30 pixels away
    np.testing.assert_allclose(fields[2][0][20, [25, 35, 55]], -6 * np.exp([0, -0.5, -4.5]), rtol=1e-5)
    with pytest.raises(ValueError, match="unknown fading 'linear'. Known are: gaussian, inverse"):
        deform_at_points(np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8), points, vectors, 1.0, "linear")


def test_deform_grid_bends_everywhere_by_about_its_strength():
    image, mask = pair()
    with pytest.MonkeyPatch.context() as patch:
        fields = []
        patch.setattr("spider_utils.data.augment.displace", lambda array, *field, is_mask: fields.append(field) or array)
        deform_grid(image, mask, 0, nodes=4, strength=5.0)
        deform_grid(image, mask, 1, nodes=4, strength=5.0)
    lengths = np.hypot(*fields[0])
    assert 2 < lengths.max() < 10 and (lengths > 0.5).mean() > 0.9
    np.testing.assert_array_equal(fields[0], fields[1])  # image and mask move alike
    assert not np.array_equal(fields[0], fields[2])
    unmoved = deform_grid(image, mask, 0, strength=0.0)
    np.testing.assert_array_equal(unmoved[0], image)
    np.testing.assert_array_equal(unmoved[1], mask)


@pytest.mark.parametrize("label", [1, 2, 3])
def test_deform_tissue_works_near_its_structure_only(label):
    image, mask = pair(200, 180)
    noisy = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    far = ndimage.distance_transform_edt(mask != label) > 30  # five times the reach of 6 pixels
    for seed in range(8):
        new_image, new_mask = deform_tissue(noisy, mask, label, seed)
        np.testing.assert_array_equal(new_image[far], noisy[far])
        np.testing.assert_array_equal(new_mask[far], mask[far])
        assert not np.array_equal(new_image, noisy) and set(np.unique(new_mask)) <= {0, 1, 2, 3}
        size = (new_mask == label).sum() / (mask == label).sum()
        assert 0.6 < size < 1.6


def test_deform_tissue_without_its_structure_changes_nothing():
    image, mask = pair()
    same_image, same_mask = deform_tissue(image, mask, 9, 0)
    np.testing.assert_array_equal(same_image, image)
    np.testing.assert_array_equal(same_mask, mask)


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 3]))
def test_brighten_tissue_changes_one_structure_and_no_mask(seed, label):
    image, mask = pair()
    before = mask.copy()
    new = brighten_tissue(image, mask, label, seed)
    np.testing.assert_array_equal(mask, before)
    inside = ndimage.binary_erosion(mask == label, iterations=3)
    outside = ndimage.distance_transform_edt(mask != label) > 4
    np.testing.assert_array_equal(new[outside], image[outside])
    factors = new[inside] / image[inside].astype(float)
    assert np.ptp(factors) < 1e-9 and 0.75 - 0.01 <= factors[0] <= 1.25 + 0.01


def test_bright_tissue_stops_at_white():
    image, mask = np.full((30, 30), 250, np.uint8), np.zeros((30, 30), np.uint8)
    mask[5:25, 5:25] = 1
    for seed in range(10):
        assert brighten_tissue(image, mask, 1, seed).min() > 150  # a wrapped byte would be dark


def test_augment_tissue_leaves_an_empty_mask_alone():
    image, _ = pair()
    empty = np.zeros_like(image)
    new_image, new_mask = augment_tissue(image, empty, 3)
    np.testing.assert_array_equal(new_image, image)
    assert not new_mask.any()


# ------------------------------------------------------------------------------------------------- pictures of three contrasts


def contrasts() -> tuple[np.ndarray, np.ndarray]:
    """The made-up slice in three channels that differ: as it is, inverted, and with every gray halved."""
    image, mask = pair()
    return np.stack([image, 255 - image, image // 2], axis=-1), mask


@pytest.mark.parametrize("deform", [deform_grid, lambda image, mask, seed: deform_tissue(image, mask, 1, seed)])
def test_channels_are_deformed_as_one(deform):
    image, mask = contrasts()
    together, labels = deform(image, mask, 5)
    for channel in range(3):
        alone, alike = deform(np.ascontiguousarray(image[..., channel]), mask, 5)
        np.testing.assert_array_equal(together[..., channel], alone)
        np.testing.assert_array_equal(labels, alike)


def test_brightness_of_a_tissue_goes_in_a_direction_of_its_own_in_each_channel():
    image, mask = np.full((40, 40, 3), 100, np.uint8), np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 4
    new = brighten_tissue(image, mask, 4, 2)
    middle = new[20, 20].astype(int)
    assert len(set(middle.tolist())) == 3 and (np.abs(middle - 100) <= 25).all()
    np.testing.assert_array_equal(new[0, 0], image[0, 0])


def test_triplanar_keeps_three_contrasts_and_their_mask_together():
    image, mask = contrasts()
    kept = image.copy(), mask.copy()
    for seed in range(40):
        new_image, new_mask = augment_triplanar(image, mask, seed)
        assert new_image.shape == image.shape and new_image.dtype == new_mask.dtype == np.uint8
        core = {label: ndimage.binary_erosion(new_mask == label, iterations=3) for label in (1, 2, 3)}
        medians = [np.median(new_image[core[label]], axis=0) for label in core if core[label].sum() > 25]
        for one, other in itertools.pairwise(medians):  # brighter in the first and the third channel, darker in the second
            assert one[0] < other[0] and one[1] > other[1] and one[2] < other[2]
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(mask, kept[1])


def test_triplanar_takes_its_steps_in_all_combinations(monkeypatch):
    """Its own three steps come in all eight combinations, and each of the library's five in about half of the pictures."""
    image, mask = contrasts()
    steps = ("deform_grid", "deform_tissue", "brighten_tissue")
    taken: list[str] = []
    for name in steps:
        monkeypatch.setattr(
            f"spider_utils.data.augment.{name}", lambda image, *a, name=name, **k: taken.append(name) or (image, a[0])
        )
    monkeypatch.setattr(
        "spider_utils.data.augment.brighten_tissue", lambda image, *a, **k: taken.append("brighten_tissue") or image
    )
    monkeypatch.setattr("spider_utils.data.augment.PipelineAugment", lambda name: lambda image, mask, seed: (image, mask))
    seen = set()
    for seed in range(80):
        taken.clear()
        augment_triplanar(image, mask, seed)
        seen.add(tuple(taken))
    assert len(seen) == 8
    library = _transforms("triplanar").transforms
    assert [type(step).__name__ for step in library] == ["Affine", "Affine", "Rotate", "RandomBrightnessContrast", "GaussNoise"]
    assert {step.p for step in library} == {0.5}


def test_triplanar_never_mirrors_and_takes_an_empty_mask():
    image, mask = contrasts()
    for seed in range(30):
        _, new = augment_triplanar(image, mask, seed)
        middle = [np.argwhere(new == label).mean(axis=0) for label in (1, 2, 3)]
        assert middle[0][0] < middle[2][0] and middle[0][1] < middle[1][1]
        assert not augment_triplanar(image, np.zeros_like(mask), seed)[1].any()
