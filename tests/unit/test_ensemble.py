"""Ensembles: the line search against brute force, on random maps, tied maps and many volumes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from spider_utils.ensemble import Stacking, as_published, best_pair_weight, best_weights, label_map
from spider_utils.ensemble.pixels import find_disputed
from spider_utils.evaluation.metrics import measure_case


def maps(seed: int, n_models: int = 2, shape: tuple[int, ...] = (3, 5, 12, 10), sharp: float = 2.0, dtype=np.float32):
    """A truth, and models that are right in places of their own."""
    random = np.random.default_rng(seed)
    n, classes, rows, columns = shape
    truth = random.integers(0, classes, (n, rows, columns)).astype(np.uint8)
    hint = sharp * np.eye(classes)[truth].transpose(0, 3, 1, 2)
    models = []
    for _ in range(n_models):
        logits = random.normal(0, 1.5, shape) + hint * random.uniform(0, 1, (n, 1, rows, columns))
        models.append((np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(dtype))
    return models, truth


def brute_force(models, weights, truth, metric="dice", classes=None, volumes=None):
    """The score of given weights, computed the plain way."""
    mixed = sum(w * model.astype(np.float64) for w, model in zip(weights, models, strict=True))
    labels = mixed.argmax(axis=1).astype(np.uint8)
    classes = range(1, models[0].shape[1]) if classes is None else classes
    volumes = np.zeros(len(truth)) if volumes is None else np.asarray(volumes)
    tables = [measure_case(truth[volumes == v], labels[volumes == v], None, list(classes), 1.0) for v in np.unique(volumes)]
    return float(np.nanmean([table[metric].mean() for table in tables]))


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("volumes", [None, [4, 4, 9]], ids=["pooled", "by volume"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_weight_scores_as_brute_force_says(metric, volumes, dtype):
    for seed in range(6):
        (a, b), truth = maps(seed, dtype=dtype)
        found = best_pair_weight(a, b, truth, metric, volumes=volumes)
        grid = np.append(np.linspace(0, 1, 101), np.random.default_rng(seed).uniform(0, 1, 60))
        expected = np.array([brute_force((a, b), (w, 1 - w), truth, metric, volumes=volumes) for w in grid])
        np.testing.assert_allclose(found.at(grid), expected, rtol=0, atol=1e-12)
        assert found.score >= expected.max() - 1e-12
        for weight in (found.weight, 0.999 * found.interval[0] + 0.001 * found.interval[1]):
            again = brute_force((a, b), (weight, 1 - weight), truth, metric, volumes=volumes)
            assert again == pytest.approx(found.score, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_twenty_thousand_weights_to_the_last_count(seed):
    (a, b), truth = maps(seed, shape=(1, 4, 6, 6))
    grid = np.linspace(0, 1, 20_001)
    share = grid[:, None, None, None]
    labels = (share * a.astype(np.float64) + (1 - share) * b.astype(np.float64)).argmax(axis=1)
    hits = np.stack([((labels == k) & (truth == k)).sum(axis=(1, 2)) for k in (1, 2, 3)])
    said = np.stack([(labels == k).sum(axis=(1, 2)) + (truth == k).sum() for k in (1, 2, 3)])
    expected = (2 * hits / said).mean(axis=0)
    found = best_pair_weight(a, b, truth)
    np.testing.assert_allclose(found.at(grid), expected, rtol=0, atol=1e-12)
    assert found.score >= expected.max() - 1e-12 and found.score >= expected[::1000].max() - 1e-12


def test_ties_go_to_the_lower_class_as_argmax_has_them():
    """Quarters make many lines cross at the same weights, the ends among them."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        parts = [random.multinomial(4, [1 / 3] * 3, (2, 4, 4)).transpose(0, 3, 1, 2) / 4 for _ in range(2)]
        truth = random.integers(0, 3, (2, 4, 4)).astype(np.uint8)
        found = best_pair_weight(*parts, truth)
        grid = np.append(random.uniform(0, 1, 30), [0, 0.25, 0.5, 0.75, 1])
        expected = [brute_force(parts, (w, 1 - w), truth) for w in grid]
        np.testing.assert_allclose(found.at(grid), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [((0.75, 0.25), (0.25, 0.75)), ((0.25, 0.5, 0.0, 0.25), (0.25, 0.0, 0.5, 0.25))],
    ids=["two classes", "a third one touches"],
)
def test_at_a_tie_the_lowest_class_has_the_pixel(a, b):
    parts = [np.array(one).reshape(1, -1, 1, 1) for one in (a, b)]
    found = best_pair_weight(*parts, np.zeros((1, 1, 1), np.uint8), classes=[0])
    for w in (0.0, 0.4, 0.5, 0.6, 1.0):
        assert found.at(w) == brute_force(parts, (w, 1 - w), np.zeros((1, 1, 1), np.uint8), classes=[0]), w
    assert found.score == 1.0


@pytest.mark.parametrize("swapped", [False, True])
def test_a_score_that_only_a_tie_reaches_is_found(swapped):
    """Two pixels cross at one half, one to a higher and one to a lower class: only there both are right."""
    a = np.array([[0.2, 0.5, 0.3], [0.2, 0.3, 0.5]]).T.reshape(1, 3, 1, 2)
    b = a[..., ::-1].copy()
    truth = np.array([[[1, 1]]])
    found = best_pair_weight(*((b, a) if swapped else (a, b)), truth, classes=[1])
    assert found.score == 1.0 and found.interval == (0.5, 0.5) and found.weight == 0.5
    assert found.at([0.49, 0.5, 0.51]) == pytest.approx([2 / 3, 1, 2 / 3])


def test_classes_that_one_side_lacks_are_counted_as_in_the_metrics():
    (a, b), truth = maps(1, shape=(4, 5, 6, 6))
    truth[truth == 4] = 0  # nobody has class 4, models still say it
    truth[2:][truth[2:] == 3] = 0
    volumes = [0, 0, 1, 1]
    found = best_pair_weight(a, b, truth, volumes=volumes, classes=[1, 3, 4])
    for w in np.linspace(0, 1, 41):
        assert found.at(w) == pytest.approx(brute_force((a, b), (w, 1 - w), truth, "dice", [1, 3, 4], volumes), abs=1e-12)


def test_models_that_agree_leave_every_weight_open():
    (a, _), truth = maps(0)
    found = best_pair_weight(a, a, truth)
    assert found.interval == (0.0, 1.0) and found.weight == 0.5 and len(found.curve) == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        found.at(1.001)


def test_only_pixels_in_dispute_are_kept():
    (a, b), truth = maps(0)
    disputed = find_disputed([a, b], truth)
    assert len(disputed.scores) == (a.argmax(axis=1) != b.argmax(axis=1)).sum()
    assert (disputed.agreed.tp <= disputed.agreed.predicted).all()
    assert disputed.agreed.true.sum() == truth.size


def test_four_models_reach_the_best_of_the_whole_grid():
    models, truth = maps(5, n_models=4, shape=(2, 4, 10, 10), sharp=1.0)
    found = best_weights(models, truth)
    steps = [np.array(parts) / 20 for parts in product(range(21), repeat=4) if sum(parts) == 20]
    assert len(steps) == 1771
    assert found.score >= max(brute_force(models, w, truth) for w in steps) - 1e-12
    assert found.weights.sum() == pytest.approx(1) and (found.weights >= 0).all()
    assert brute_force(models, found.weights, truth) == pytest.approx(found.score, abs=1e-12)
    assert len(found.lines) == 4
    for k, line in enumerate(found.lines):
        assert line.score <= found.score + 1e-12, "no line through the optimum leads higher"
        assert line.at(found.weights[k]) == pytest.approx(found.score, abs=1e-12)


def test_two_models_by_the_general_search():
    models, truth = maps(8)
    pair, many = best_pair_weight(*models, truth), best_weights(models, truth)
    assert many.score == pytest.approx(pair.score, abs=1e-12)
    assert pair.interval[0] - 1e-9 <= many.weights[0] <= pair.interval[1] + 1e-9


@pytest.mark.parametrize("n_models", [2, 3])
def test_weights_of_each_class_are_never_worse_than_common_ones(n_models):
    models, truth = maps(2, n_models, shape=(2, 4, 9, 9))
    common, own = best_weights(models, truth), best_weights(models, truth, rule="by class")
    assert own.weights.shape == (n_models, 4) and own.score >= common.score - 1e-12
    np.testing.assert_allclose(own.weights.sum(axis=0), 1)
    with pytest.raises(ValueError, match="weights must be finite"):
        label_map(models, -own.weights)


@pytest.mark.parametrize("rule", ["probabilities", "votes", "by class"])
@pytest.mark.parametrize("n_models", [2, 4])
def test_the_returned_weights_have_the_returned_score(rule, n_models):
    for seed in range(8):
        models, truth = maps(seed, n_models, shape=(2, 4, 7, 7), dtype=np.float16 if seed % 2 else np.float32)
        found = best_weights(models, truth, rule=rule, restarts=2)
        table = measure_case(truth, found.label_map(models), None, [1, 2, 3], 1.0)
        assert table["dice"].mean() == pytest.approx(found.score, abs=1e-12)


def test_votes_of_two_models_know_three_answers():
    models, truth = maps(4)
    curve = best_weights(models, truth, rule="votes").lines[0].curve
    assert list(zip(curve["low"], curve["high"], strict=True)) == [(0.0, 0.5), (0.5, 0.5), (0.5, 1.0)]
    three, truth = maps(4, n_models=3)
    found = best_weights(three, truth, rule="votes")
    votes = [np.eye(5)[model.argmax(axis=1)].transpose(0, 3, 1, 2) for model in three]
    assert brute_force(votes, found.weights, truth) == pytest.approx(found.score, abs=1e-12)


def test_views_and_double_precision_are_read_as_single(recwarn):
    (a, b), truth = maps(6)
    plain = best_pair_weight(a, b, truth)
    flipped = best_pair_weight(a[..., ::-1].copy()[..., ::-1], b.astype(np.float64), truth)
    assert (flipped.weight, flipped.score) == (plain.weight, plain.score)
    assert not recwarn.list


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.filterwarnings("error")
def test_memory_maps_are_read_in_chunks(tmp_path, monkeypatch, dtype):
    (a, b), truth = maps(6, dtype=dtype)
    paths = []
    for name, array in (("a", a), ("b", b)):
        np.save(tmp_path / name, array)
        paths.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    whole = best_pair_weight(a, b, truth)
    monkeypatch.setattr("spider_utils.ensemble.pixels.CHUNK_VALUES", 1)
    chunked = best_pair_weight(*paths, truth)
    assert (chunked.weight, chunked.score) == (whole.weight, pytest.approx(whole.score, abs=1e-12))


def test_the_published_rule_is_a_straight_line_whose_best_is_an_end():
    table = as_published(0.986, 0.890)
    assert len(table) == 21 and table["weight"].iloc[[0, -1]].tolist() == [1.0, 0.0]
    assert table.loc[table["score"].idxmax(), "weight"] == 1.0
    np.testing.assert_allclose(np.diff(table["score"], 2), 0, atol=1e-12)
    with pytest.raises(ValueError, match="step must divide 1"):
        as_published(0.9, 0.8, step=0.3)
    # The printed listing (SOURCES, `medfusion`): w 0.80 -> Dice 0.9671, 0.05 -> 0.8948.
    np.testing.assert_allclose(table.set_index(table["weight"].round(2))["score"].loc[[0.8, 0.05]], [0.9668, 0.8948], atol=5e-4)


def test_label_map_takes_the_class_on_top():
    models, truth = maps(7, n_models=3)
    weights = [0.2, 0.5, 0.3]
    np.testing.assert_array_equal(
        label_map(models, weights), sum(w * m for w, m in zip(weights, models, strict=True)).argmax(axis=1)
    )
    with pytest.raises(ValueError, match="2 weights for 3 models"):
        label_map(models, [0.5, 0.5])


def test_stacking_learns_which_model_to_trust_for_which_class():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (4, 20, 20)).astype(np.uint8)
    sure = np.eye(3)[truth].transpose(0, 3, 1, 2) * 0.85 + 0.05
    blind = np.full_like(sure, 1 / 3)
    a = np.where(truth[:, None] == 1, sure, blind)  # each knows one class only
    b = np.where(truth[:, None] == 2, sure, blind)
    stacked = Stacking.fit([a, b], truth)
    assert (stacked.label_map([a, b]) == truth).mean() > 0.99
    np.testing.assert_array_equal(stacked.weight, Stacking.fit([a, b], truth).weight)
    with pytest.raises(ValueError, match="other models"):
        stacked.label_map([a, b, b])


def _broken(change):
    models, truth = maps(0)
    return change([m.copy() for m in models], truth.copy())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m, t: ([m[0], m[1][:, :, :-1]], t), r"model 1 have shape \(3, 5, 11, 10\)"),
        (lambda m, t: ([m[0], m[1] * 1.1], t), r"model 1, slices 0 to 2: .* sum to 1"),
        (lambda m, t: ([np.where(np.arange(10) == 3, np.nan, m[0]), m[1]], t), "model 0, .* must be finite"),
        (lambda m, t: ([m[0] - 0.2 + 1.0 * (np.arange(5) == 0)[None, :, None, None], m[1]], t), "model 0, .* not negative"),
        (lambda m, t: ([m[0], m[1].argmax(axis=1)], t), "model 1 have shape"),
        (lambda m, t: ([(m[0] > 0.5).astype(np.uint8), m[1]], t), "model 0 are uint8"),
        (lambda m, t: (m, t[:2]), "truth has shape"),
        (lambda m, t: (m, t + 3), "truth must hold classes 0 to 4"),
        (lambda m, t: (m, t * 0), "no pixel of the truth has one of the classes"),
        (lambda m, t: (m[:1], t), "at least two models, not 1"),
    ],
)
def test_bad_input_is_refused(change, words):
    models, truth = _broken(change)
    with pytest.raises(ValueError, match=words):
        best_weights(models, truth)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "accuracy"}, "metric must be one of dice, iou"),
        ({"rule": "median"}, "rule must be one of"),
        ({"classes": [1, 7]}, "classes must be some of 0 to 4"),
        ({"volumes": [1, 2]}, "volumes names 2 slices"),
    ],
)
def test_bad_options_are_refused(options, words):
    models, truth = maps(0)
    with pytest.raises(ValueError, match=words):
        best_weights(models, truth, **options)
