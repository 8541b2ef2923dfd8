"""The metric contract: hand-computed values, empty masks, invariances, and agreement with independent implementations."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import cKDTree

from spider_utils.evaluation.metrics import (
    REGION_METRICS,
    SURFACE_METRICS,
    ConfusionMatrix,
    Surfaces,
    foreground_mean,
    measure_case,
    measure_cases,
    region_scores,
)

NAN = float("nan")


def one_class(truth, prediction, spacing_mm, tolerance_mm=1.0, **options):
    """The row of class 1."""
    truth, prediction = np.asarray(truth, np.uint8), np.asarray(prediction, np.uint8)
    return measure_case(truth, prediction, spacing_mm, [1], tolerance_mm, **options).iloc[0]


def block(shape, *box):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*part) for part in box)] = 1
    return mask


# ------------------------------------------------------------------------------------------------------ values by hand


def test_region_scores_by_hand():
    # 6 right, 2 too many, 3 missing.
    truth = [[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]]
    prediction = [[1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0]]
    row = one_class(truth, prediction, (1, 1))
    assert (row.tp, row.fp, row.fn, row.status) == (6, 2, 3, "both")
    assert row.dice == pytest.approx(12 / 17)
    assert row.iou == pytest.approx(6 / 11)
    assert row.precision == pytest.approx(6 / 8)
    assert row.recall == pytest.approx(6 / 9)
    assert row.f1 == pytest.approx(12 / 17)


def test_surfaces_of_a_shifted_square_2d():
    # 2 x 2 pixels of 2 mm x 0.5 mm, shifted by one column. Contour points lie on pixel corners: 4 outer corners of weight
    # sqrt(2^2 + 0.5^2) / 2, two points of weight 0.5 (top, bottom), two of weight 2 (left, right). Two corners, the left
    # and the right point are 0.5 mm from the other contour, the rest lie on it.
    truth, prediction = block((4, 5), (1, 3), (1, 3)), block((4, 5), (1, 3), (2, 4))
    corner = np.hypot(2, 0.5) / 2
    total = 4 * corner + 2 * 0.5 + 2 * 2
    away = 2 * corner + 2 * 2
    row = one_class(truth, prediction, (2.0, 0.5), tolerance_mm=0.4, source_variants=True)
    assert row.asd_mm == pytest.approx(0.5 * away / total)
    assert row.nsd == pytest.approx(1 - away / total)
    assert row.nsd_one_sided == pytest.approx(1 - away / total)
    assert row.hd95_mm == pytest.approx(0.5)
    assert row.unit == "slice"
    # In pixels: corners sqrt(2) / 2, all other points 1, every distance 1.
    assert row.asd_pixels == pytest.approx((np.sqrt(2) + 2) / (2 * np.sqrt(2) + 4))


def test_surfaces_of_a_shifted_voxel_3d():
    # One voxel moved one step along the thick axis: half of its 8 corners stay, half are 3 mm away.
    truth, prediction = block((4, 3, 3), (1, 2), (1, 2), (1, 2)), block((4, 3, 3), (2, 3), (1, 2), (1, 2))
    row = one_class(truth, prediction, (3.0, 0.5, 0.8), tolerance_mm=2.9)
    assert (row.asd_mm, row.hd95_mm, row.nsd) == pytest.approx((1.5, 3.0, 0.5))
    assert row.unit == "volume"
    assert one_class(truth, prediction, (3.0, 0.5, 0.8), tolerance_mm=3.0).nsd == 1.0


def test_asd_weighs_both_surfaces_together():
    # A pixel inside a 3 x 3 square. Small contour: 4 points of weight sqrt(2)/2, all 1 mm away. Large one: 4 corners of weight
    # sqrt(2)/2 at sqrt(2) mm, 8 points of weight 1 at 1 mm. The mean of the two one-way means would be 1.054, not 1.086.
    row = one_class(block((5, 5), (2, 3), (2, 3)), block((5, 5), (1, 4), (1, 4)), (1, 1))
    weight_small, weight_large = 2 * np.sqrt(2), 2 * np.sqrt(2) + 8
    assert row.asd_mm == pytest.approx((weight_small + 4 + 8) / (weight_small + weight_large))
    assert row.hd95_mm == pytest.approx(np.sqrt(2))


def test_two_sided_nsd_sees_what_the_one_sided_does_not():
    truth = block((6, 30), (1, 4), (1, 4))
    prediction = truth | block((6, 30), (1, 4), (20, 29))
    row = one_class(truth, prediction, (1, 1), source_variants=True)
    assert row.nsd_one_sided == 1.0
    assert row.nsd < 0.6
    assert one_class(prediction, truth, (1, 1), source_variants=True).nsd_one_sided < 0.4


def test_nsd_tolerance_includes_its_bound_despite_rounding():
    # 3 * 0.1 is not 0.3 in binary; a surface exactly at the tolerance counts as within it.
    truth, prediction = block((20, 20), (5, 9), (5, 9)), block((20, 20), (5, 9), (8, 12))
    assert one_class(truth, prediction, (5.0, 0.1), tolerance_mm=0.3).nsd == 1.0
    assert one_class(truth, prediction, (5.0, 0.1), tolerance_mm=0.29).nsd < 1.0


def test_perfect_prediction_touching_every_border():
    row = one_class(np.ones((3, 4, 5)), np.ones((3, 4, 5)), (4, 1, 1))
    assert (row.dice, row.iou, row.f1, row.nsd, row.asd_mm, row.hd95_mm) == (1, 1, 1, 1, 0, 0)


# --------------------------------------------------------------------------------------------------------- empty regions


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_empty_masks_in_every_combination(shape):
    empty, full = np.zeros(shape, np.uint8), block(shape, *[(1, 3)] * len(shape))
    spacing = (3.0, 0.5, 0.7)[: len(shape)]
    expected = {
        "both": dict.fromkeys(("dice", "iou", "precision", "recall", "f1", "nsd"), 1.0) | {"asd_mm": 0.0, "hd95_mm": 0.0},
        "absent": dict.fromkeys(REGION_METRICS + SURFACE_METRICS, NAN),
        "missed": {"dice": 0, "iou": 0, "precision": NAN, "recall": 0, "f1": 0, "nsd": 0, "asd_mm": NAN, "hd95_mm": NAN},
        "false": {"dice": 0, "iou": 0, "precision": 0, "recall": NAN, "f1": 0, "nsd": 0, "asd_mm": NAN, "hd95_mm": NAN},
    }
    masks = {"both": (full, full), "absent": (empty, empty), "missed": (full, empty), "false": (empty, full)}
    for status, (truth, prediction) in masks.items():
        row = one_class(truth, prediction, spacing, source_variants=True)
        assert row.status == status
        for metric, value in expected[status].items():
            np.testing.assert_equal(float(row[metric]), float(value), err_msg=f"{status} {metric}")
        # The one-sided NSD looks at the truth alone: without truth it is undefined.
        np.testing.assert_equal(row.nsd_one_sided, {"both": 1.0, "missed": 0.0}.get(status, NAN))
        np.testing.assert_equal(row.asd_pixels, 0.0 if status == "both" else NAN)


def test_background_has_region_scores_but_no_distances_except_in_the_source_variants():
    truth, prediction = block((6, 6), (2, 4), (2, 4)), block((6, 6), (2, 4), (2, 5))
    row = measure_case(truth, prediction, (1, 1), [0, 1], 1.0).iloc[0]
    assert row["dice"] == pytest.approx(2 * 30 / (32 + 30))
    assert row[list(SURFACE_METRICS)].isna().all()
    nowhere = measure_case(np.ones_like(truth), prediction, (1, 1), [0, 1], 1.0).iloc[0]
    assert (nowhere["status"], nowhere["dice"]) == ("false", 0)
    assert nowhere[list(SURFACE_METRICS)].isna().all()
    variants = measure_case(truth, prediction, (1, 1), [0, 1], 0.5, source_variants=True).iloc[0]
    assert variants[list(SURFACE_METRICS)].isna().all()
    assert 0 < variants["nsd_one_sided"] < 1
    assert variants["asd_pixels"] > 0


def test_without_spacing_there_are_no_distances():
    truth, prediction = block((6, 6), (2, 4), (2, 4)), block((6, 6), (2, 4), (2, 5))
    row = one_class(truth, prediction, None, source_variants=True)
    assert row.dice == pytest.approx(0.8)
    assert np.isnan([row.asd_mm, row.hd95_mm, row.nsd, row.nsd_one_sided]).all()
    assert row.asd_pixels > 0
    assert np.isnan(one_class(truth, np.zeros_like(truth), None).nsd)


def test_classes_keep_their_order_and_names_and_others_are_nobody():
    truth = np.array([[0, 201, 201, 7, 7, 100]], np.uint16)
    prediction = np.array([[0, 201, 7, 7, 9, 9]], np.uint16)
    table = measure_case(truth, prediction, (1, 1), {201: "disc", 7: "vertebra", 100: "canal", 5: "none"}, 1.0)
    assert table["class"].tolist() == [201, 7, 100, 5]
    assert table["name"].tolist() == ["disc", "vertebra", "canal", "none"]
    assert table["status"].tolist() == ["both", "both", "missed", "absent"]
    assert table[["tp", "fp", "fn"]].to_numpy().tolist() == [[1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert (table["tolerance_mm"] == 1.0).all()


def test_each_class_is_measured_as_if_alone():
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 4, (2, 6, 9, 8)).astype(np.uint8)
    table = measure_case(truth, prediction, (3.0, 0.6, 0.9), [1, 2, 3], 1.0)
    for label, row in zip([1, 2, 3], table.to_dict("records"), strict=True):
        alone = one_class(truth == label, prediction == label, (3.0, 0.6, 0.9))
        for metric in REGION_METRICS + SURFACE_METRICS:
            assert row[metric] == alone[metric], (label, metric)


# ------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((3, 4), int)}, "shape"),
        ({"truth": np.zeros((3, 3))}, "integer labels"),
        ({"truth": np.full((3, 3), -1)}, r"0\.\.65535"),
        ({"truth": np.full((3, 3), 70000)}, r"0\.\.65535"),
        ({"spacing_mm": (1, 1, 1)}, "spacing_mm must be 2 positive"),
        ({"spacing_mm": (1, 0)}, "spacing_mm must be 2 positive"),
        ({"spacing_mm": (1, NAN)}, "spacing_mm must be 2 positive"),
        ({"tolerance_mm": -1}, "tolerance_mm"),
        ({"tolerance_mm": NAN}, "tolerance_mm"),
        ({"classes": [1, 1]}, "twice"),
        ({"classes": [-1]}, "classes must lie"),
        ({"truth": np.zeros(3, int), "prediction": np.zeros(3, int)}, "2 or 3 dimensions"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {
        "truth": np.zeros((3, 3), int), "prediction": np.zeros((3, 3), int), "spacing_mm": (1, 1), "classes": [1],
        "tolerance_mm": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        measure_case(**(arguments | change))


def test_surfaces_refuse_an_empty_region():
    with pytest.raises(ValueError, match="non-empty"):
        Surfaces(np.ones((3, 3), bool), np.zeros((3, 3), bool), (1, 1))


# ------------------------------------------------------------------------------------------------------------ properties

SPACING = (3.3, 0.6, 0.9)


@st.composite
def mask_pairs(draw, dims=(2, 3), n_labels=2):
    ndim = draw(st.sampled_from(dims))
    shape = draw(hnp.array_shapes(min_dims=ndim, max_dims=ndim, min_side=1, max_side=6))
    masks = hnp.arrays(np.uint8, shape, elements=st.integers(0, n_labels - 1))
    return draw(masks), draw(masks)


def compare_rows(first, second, swapped=None, leave_out=()):
    for metric in set(REGION_METRICS + SURFACE_METRICS) - set(leave_out):
        other = (swapped or {}).get(metric, metric)
        np.testing.assert_allclose(float(first[metric]), float(second[other]), rtol=1e-9, atol=1e-12, err_msg=metric)


@given(mask_pairs())
@settings(max_examples=150, deadline=None)
def test_swapping_truth_and_prediction(pair):
    """Everything is symmetric but precision and recall, which change places."""
    spacing = SPACING[: pair[0].ndim]
    swapped = {"precision": "recall", "recall": "precision"}
    compare_rows(one_class(*pair, spacing), one_class(*pair[::-1], spacing), swapped)


@given(mask_pairs())
@settings(max_examples=150, deadline=None)
def test_ranges_and_identities(pair):
    row = one_class(*pair, SPACING[: pair[0].ndim], source_variants=True)
    np.testing.assert_allclose(row.dice, 2 * row.iou / (1 + row.iou), rtol=1e-12)
    np.testing.assert_allclose(row.dice, row.f1, rtol=1e-12)
    scores = row[[*REGION_METRICS, "nsd", "nsd_one_sided"]].dropna().astype(float)
    assert scores.between(0, 1).all()
    assert (row.status == "absent") == np.isnan(row.dice)
    assert (row.status == "both") == (not np.isnan(row.asd_mm))
    if row.status == "both":
        assert row.dice < 1 or row.asd_mm == 0
        surfaces = Surfaces(*(mask == 1 for mask in pair), SPACING[: pair[0].ndim])
        assert row.asd_mm <= surfaces.hausdorff(100) + 1e-12
        assert row.hd95_mm <= surfaces.hausdorff(100)
        assert surfaces.nsd(surfaces.hausdorff(100)) == 1.0
        assert surfaces.nsd(0.5) <= surfaces.nsd(2.0)


@given(mask_pairs(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_permuting_and_flipping_axes_with_their_spacing_changes_nothing(pair, random):
    ndim = pair[0].ndim
    order = random.sample(range(ndim), ndim)
    flips = tuple(slice(None, None, random.choice([1, -1])) for _ in range(ndim))
    moved = [np.ascontiguousarray(mask.transpose(order)[flips]) for mask in pair]
    first = one_class(*pair, SPACING[:ndim])
    second = one_class(*moved, tuple(SPACING[axis] for axis in order))
    # The 95th percentile may fall exactly between two elements, where rounding decides: the largest distance is compared.
    compare_rows(first, second, leave_out=("hd95_mm",))
    if first.status == "both":
        largest = Surfaces(*(mask == 1 for mask in pair), SPACING[:ndim]).hausdorff(100)
        moved_largest = Surfaces(*(mask == 1 for mask in moved), [SPACING[axis] for axis in order]).hausdorff(100)
        assert largest == pytest.approx(moved_largest)


@given(mask_pairs(), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_moving_both_masks_in_a_larger_field_changes_nothing(pair, margins):
    padded = [np.pad(mask, margins[: mask.ndim]) for mask in pair]
    spacing = SPACING[: pair[0].ndim]
    compare_rows(one_class(*pair, spacing), one_class(*padded, spacing))


@given(mask_pairs(), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_distances_scale_with_the_spacing(pair, factor):
    spacing = np.array(SPACING[: pair[0].ndim])
    first, second = one_class(*pair, spacing), one_class(*pair, spacing * factor)
    np.testing.assert_allclose(second.asd_mm, first.asd_mm * factor, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------- other implementations


def contour_by_corners(mask, spacing):
    """Contour points of a 2D mask (mm) and their lengths, from the four pixels around every pixel corner."""
    padded = np.pad(mask.astype(int), 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    inside = a + b + c + d
    diagonal = np.hypot(*spacing) / 2
    length = np.where((inside == 1) | (inside == 3), diagonal, 0.0)
    length[(inside == 2) & (a == b)] = spacing[1]
    length[(inside == 2) & (a == c)] = spacing[0]
    length[(inside == 2) & (a == d)] = 2 * diagonal
    found = np.argwhere((inside > 0) & (inside < 4))
    return found * np.array(spacing), length[tuple(found.T)]


@given(mask_pairs(dims=(2,)))
@settings(max_examples=150, deadline=None)
def test_surface_scores_agree_exactly_with_a_nearest_neighbour_search_in_2d(pair):
    """An implementation of its own (k-d tree instead of distance transform), to rounding."""
    truth, prediction = (mask == 1 for mask in pair)
    if not (truth.any() and prediction.any()):
        return
    spacing, tolerance = (3.3, 0.6), 1.0
    (points_t, length_t), (points_p, length_p) = (contour_by_corners(mask, spacing) for mask in (truth, prediction))
    from_t, from_p = cKDTree(points_p).query(points_t)[0], cKDTree(points_t).query(points_p)[0]
    total = length_t.sum() + length_p.sum()
    row = one_class(truth, prediction, spacing, tolerance, source_variants=True)
    assert row.asd_mm == pytest.approx((from_t @ length_t + from_p @ length_p) / total)
    assert row.nsd == pytest.approx((length_t[from_t <= tolerance].sum() + length_p[from_p <= tolerance].sum()) / total)
    assert row.nsd_one_sided == pytest.approx(length_t[from_t <= tolerance].sum() / length_t.sum())
    largest = max(from_t.max(), from_p.max())
    assert Surfaces(truth, prediction, spacing).hausdorff(100) == pytest.approx(largest)


def scipy_surface_scores(truth, prediction, spacing, tolerance):
    """The common recipe: a surface is the voxels that erosion removes, all of one weight; distances by distance transform."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, prediction)]
    to_edge = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    one_way = to_edge[1][edges[0]], to_edge[0][edges[1]]
    both = np.concatenate(one_way)
    return both.mean(), max(np.percentile(part, 95) for part in one_way), (both <= tolerance).mean()


def ellipsoid(shape, spacing, centre_mm, radii_mm):
    grid = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre_mm, radii_mm, strict=True)) <= 1


@pytest.mark.parametrize(
    ("shape", "spacing", "shift", "growth"),
    [
        ((34, 60, 60), (1.0, 0.6, 0.6), (0, 2.0, 1.0), 0.0),
        ((34, 60, 60), (1.0, 0.6, 0.6), (0, 0, 0), 1.5),
        ((12, 60, 60), (3.3, 0.6, 0.6), (0, 0.6, -1.2), 0.8),
        ((64, 64), (0.5, 0.9), (1.5, 1.0), 0.7),
    ],
)
def test_agreement_with_the_distance_transform_recipe(shape, spacing, shift, growth):
    """Two definitions of a surface, so close but not equal: ASD within 0.25 mm, NSD within 0.2, HD95 within one voxel."""
    shift, centre = np.array(shift)[-len(shape) :], np.array(shape) * spacing / 2
    radii = np.array((12.0, 13.0, 10.0))[: len(shape)]
    truth = ellipsoid(shape, spacing, centre, radii)
    prediction = ellipsoid(shape, spacing, centre + shift, radii + growth)
    asd, hd95, nsd = scipy_surface_scores(truth, prediction, spacing, 1.0)
    row = one_class(truth, prediction, spacing, 1.0)
    assert row.asd_mm == pytest.approx(asd, abs=0.25)
    assert row.hd95_mm == pytest.approx(hd95, abs=max(spacing))
    assert row.nsd == pytest.approx(nsd, abs=0.2)


def test_concentric_spheres_approach_their_difference_in_radius_as_voxels_shrink():
    """True distance 3 mm everywhere. The library's surface is a voxel thick, so distances read about half a voxel short."""
    short = []
    for spacing in ((1.6, 1.0, 1.0), (0.8, 0.5, 0.5), (0.4, 0.25, 0.25)):
        shape = tuple(int(34 / step) for step in spacing)
        centre = np.array(shape) * spacing / 2
        small, large = (ellipsoid(shape, spacing, centre, (radius,) * 3) for radius in (10.0, 13.0))
        surfaces = Surfaces(small, large, spacing)
        short.append(3.0 - surfaces.asd())
        assert 0 < short[-1] < 0.6 * max(spacing)
        assert surfaces.hausdorff(95) == pytest.approx(3.0, abs=max(spacing) / 2)
        assert surfaces.nsd(3.0 + max(spacing)) == 1.0
        assert surfaces.nsd(3.0 - max(spacing)) < 0.05
    assert short[0] > short[1] > short[2]


# ------------------------------------------------------------------------------------------------------ confusion matrix


def test_confusion_matrix_over_batches_equals_the_whole():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 6, 20, 30)).astype(np.uint8)
    running = ConfusionMatrix(4)
    for part in range(6):
        assert running.update(truth[part], prediction[part]) is running
    whole = measure_case(truth, prediction, None, [0, 1, 2, 3], 1.0)
    np.testing.assert_allclose(running.dice(), whole["dice"])
    np.testing.assert_allclose(running.iou(), whole["iou"])
    assert running.mean_iou() == pytest.approx(whole["iou"][1:].mean())
    assert running.mean_iou(exclude_background=False) == pytest.approx(whole["iou"].mean())
    assert running.mean_dice() == pytest.approx(whole["dice"][1:].mean())
    assert running.counts.sum() == truth.size


def test_confusion_matrix_leaves_classes_that_the_truth_lacks_out_of_the_mean():
    running = ConfusionMatrix(4).update(np.array([0, 1, 1, 0]), np.array([0, 1, 2, 0]))
    np.testing.assert_equal(running.iou(), [1.0, 0.5, 0.0, NAN])
    assert running.mean_iou() == 0.5, "class 2 is in the prediction alone, class 3 nowhere"
    assert running.mean_iou(exclude_background=False) == 0.75
    assert np.isnan(ConfusionMatrix(3).mean_iou())
    only_false = ConfusionMatrix(3).update(np.array([0, 0]), np.array([0, 1]))
    assert np.isnan(only_false.mean_iou()) and np.isnan(only_false.mean_dice())


def test_confusion_matrix_counts_more_than_one_chunk(monkeypatch):
    monkeypatch.setattr("spider_utils.evaluation.metrics._CHUNK", 7)
    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 3, (2, 50))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (truth, prediction), 1)
    np.testing.assert_array_equal(ConfusionMatrix(3).update(truth, prediction).counts, expected)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([0, 3], [0, 0], "truth holds class 3"),
        ([0, 0], [0, 3], "prediction holds class 3"),
        ([0, -1], [0, 0], r"truth holds labels -1"),
        ([0, 1], [0, 1, 2], "shape"),
        ([0.0, 1.0], [0, 1], "integer labels"),
    ],
)
def test_confusion_matrix_refuses(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3).update(np.array(truth), np.array(prediction))


def test_region_scores_of_arrays():
    scores = region_scores([1, 0, 0], [0, 0, 2], [1, 0, 0])
    np.testing.assert_allclose(scores["dice"], [2 / 3, NAN, 0])
    np.testing.assert_allclose(scores["f1"], [2 / 3, NAN, 0])


# ------------------------------------------------------------------------------------------------------- foreground mean


def test_foreground_mean_is_over_the_classes_of_each_case():
    truth = np.array([[0, 1, 1, 2, 0, 0, 0, 0]])
    prediction = np.array([[0, 1, 1, 0, 0, 3, 0, 0]])
    table = pd.concat(
        [
            measure_case(truth, prediction, (1, 1), [0, 1, 2, 3, 4], 1.0).assign(case="7_t1", patient=7),
            measure_case(truth, truth, (1, 1), [0, 1, 2, 3, 4], 1.0).assign(case="7_t2", patient=7),
        ]
    )
    means = foreground_mean(table).set_index("case")
    # Class 1 right, 2 missed, 3 false, 4 absent.
    assert means.loc["7_t1", "dice"] == pytest.approx(1 / 3)
    assert means.loc["7_t1", "recall"] == pytest.approx(1 / 2)
    assert means.loc["7_t1", "asd_mm"] == 0
    assert means.loc["7_t1", ["absent", "missed", "false"]].tolist() == [1, 1, 1]
    assert means.loc["7_t2", "dice"] == 1
    assert means.loc["7_t2", ["absent", "missed", "false"]].tolist() == [2, 0, 0]
    assert (means["patient"] == 7).all()
    with pytest.raises(ValueError, match="no foreground"):
        foreground_mean(table[table["class"] == 0])


def test_every_axis_order_of_one_volume_scores_alike():
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 12, 20, 16)), (0, 2, 2, 2))
    truth, prediction = smooth > 0
    expected = one_class(truth, prediction, SPACING)
    for order in itertools.permutations(range(3)):
        moved = one_class(truth.transpose(order), prediction.transpose(order), [SPACING[axis] for axis in order])
        compare_rows(expected, moved)


def test_several_cases_in_processes_score_as_one_by_one(monkeypatch):
    generator = np.random.default_rng(0)
    cases = [(generator.integers(0, 3, (4, 9, 8)), generator.integers(0, 3, (4, 9, 8)), (2.0, 1.0, n)) for n in (0.5, 1.0, 2.0)]
    one_by_one = [measure_case(*case, {1: "disc", 2: "canal"}, 1.0) for case in cases]
    monkeypatch.setattr("spider_utils.evaluation.metrics.cpu_count", lambda: 2)
    for voxels_a_process in (1, 1 << 30):
        monkeypatch.setattr("spider_utils.evaluation.metrics._VOXELS_A_PROCESS", voxels_a_process)
        for found, expected in zip(measure_cases(cases, {1: "disc", 2: "canal"}, 1.0), one_by_one, strict=True):
            pd.testing.assert_frame_equal(found, expected)
