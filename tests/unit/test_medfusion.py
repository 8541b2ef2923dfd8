"""MedFusionNet's study: weights from validation patients, scores of test patients, the printed table beside them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spider_utils.ensemble import as_published
from spider_utils.errors import KitError
from spider_utils.evaluation.arithmetic import highest_mean_dice
from spider_utils.evaluation.slices import score_slices
from spider_utils.medfusion import OTHER_WAYS, TITLES, FusionStudy, Maps, printed, title_of
from spider_utils.training.runs import RunResult
from spider_utils.view import fusion_plots

CARD = {"scheme": "structures4", "size": [16, 12], "split": {"fingerprint": "x"}}


def maps_of(seed: int, series: int) -> Maps:
    """Noisy probabilities of four networks, deeplabv3 noisiest: two slices of each series; patients differ by seed."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, (2 * series, 16, 12)).astype(np.uint8)
    right = np.eye(4, dtype=np.float32)[truth].transpose(0, 3, 1, 2)
    probabilities = {}
    for noise, name in zip((1.0, 0.9, 0.9, 2.0), TITLES, strict=True):
        scores = np.exp(2 * right + noise * random.normal(size=right.shape))
        probabilities[name] = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float16)
    patient = 100 * seed + np.repeat(np.arange(series), 2)
    table = pd.DataFrame({"case": [f"{p}_t2" for p in patient], "patient": patient, "slice": [0, 1] * series})
    return Maps(probabilities, truth, table, table["case"].to_numpy())


class FakeWorkspace:
    """Answers as a workspace with four finished runs does."""

    maps = {"val": maps_of(1, 4), "test": maps_of(2, 6)}

    def probabilities(self, run, split, subset="val"):
        assert split == "the split"
        maps = self.maps[subset]
        return maps.probabilities[run.card["architecture"]], maps.truth, maps.table

    def evaluate_slices(self, run, split, by_slice=False):
        probabilities, truth, table = self.probabilities(run, split, "test")
        return score_slices(truth, probabilities.argmax(axis=1), table, {1: "vertebra", 2: "spinal canal", 3: "disc"}, by_slice)


@pytest.fixture(scope="module")
def study() -> FusionStudy:
    return study_of(TITLES)


def study_of(names, **card) -> FusionStudy:
    runs = {name: RunResult(Path(name), pd.DataFrame(), 1, CARD | {"architecture": name} | card) for name in names}
    return FusionStudy(FakeWorkspace(), runs, "the split")


def test_what_is_printed_is_as_in_the_source():
    table = printed("table2").set_index("model")
    assert len(table) == 10 and table.at["unetplusplus+resunet", "dice"] == 0.989
    listing = printed("weights")
    assert len(listing) == 17 and listing.iloc[-1].tolist() == [0.0, 0.85, 0.89, 0.127]
    line = as_published(table.at["unetplusplus", "iou"], table.at["resunet", "iou"]).set_index("weight")["score"]
    for row in listing.itertuples():
        assert row.iou == pytest.approx(line.loc[line.index[np.abs(line.index - row.weight).argmin()]], abs=5e-5)
    with pytest.raises(KitError, match="'table3' is not known. Known are: table2, weights"):
        printed("table3")


def test_no_mean_of_dice_passes_the_bound():
    iou = np.random.default_rng(0).random((1000, 7))
    dice = 2 * iou / (1 + iou)
    assert (dice.mean(axis=1) <= highest_mean_dice(iou.mean(axis=1)) + 1e-12).all()
    assert highest_mean_dice(1.0) == 1 and highest_mean_dice(0.0) == 0


def test_pairs_are_searched_on_validation_patients(study):
    assert list(study.pairs) == [f"{a}+{b}" for a, b in combinations(TITLES, 2)]
    table = study.pair_table().set_index("pair")
    assert (table["exact"] >= table[["grid", "first_alone", "second_alone"]].max(axis=1) - 1e-12).all()
    alone = score_slices(study.val.truth, study.val.probabilities["unet"].argmax(axis=1), study.val.table, study.classes)
    assert table.at["unet+resunet", "first_alone"] == pytest.approx(alone.groupby("case")["dice"].mean().mean())
    assert study.best_single == max(TITLES, key=lambda name: max(_alone(table, name)))
    assert study.best_pair == table["exact"].idxmax()


def _alone(table: pd.DataFrame, name: str) -> list[float]:
    first = [row.first_alone for row in table.itertuples() if row.Index.split("+")[0] == name]
    return first + [row.second_alone for row in table.itertuples() if row.Index.split("+")[1] == name]


def test_every_ensemble_is_scored_on_test_patients(study):
    assert set(study.fused) == {*study.pairs, *OTHER_WAYS, "all networks, stacking"}
    against = study.against_best_single().set_index("ensemble")
    assert set(against.index) == set(study.fused)
    np.testing.assert_allclose(against["dice"] - against["best_single"], against["difference"])
    assert (against["low"] <= against["difference"]).all() and (against["difference"] <= against["high"]).all()
    assert against.at["all networks", "difference"] > 0, "independent noise averages out"
    assert (against["patients"] == 6).all()
    weight = study.pairs["unet+resunet"].weight
    test = study.test
    average = sum(w * test.probabilities[name].astype(float) for w, name in ((weight, "unet"), (1 - weight, "resunet")))
    by_hand = score_slices(test.truth, average.argmax(axis=1), test.table, study.classes)
    pd.testing.assert_frame_equal(study.fused["unet+resunet"], by_hand)
    assert set(by_hand["patient"]) == set(range(200, 206))


def test_the_order_of_runs_does_not_matter(study):
    turned = study_of(["resunet", "unetplusplus"])
    assert list(turned.pairs) == ["unetplusplus+resunet"]
    assert turned.table2()["model"].tolist() == ["unetplusplus", "resunet", "unetplusplus+resunet"]
    pd.testing.assert_frame_equal(turned.fused["unetplusplus+resunet"], study.fused["unetplusplus+resunet"])


def test_copies_of_one_slice_count_one_by_one():
    study = study_of(["unet", "resunet"], enlarged_to=12)
    assert study.by_slice and len(set(study.val.volumes)) == 8
    table = study.table2()
    assert (table["n"] == 12).all() and (table["unit"] == "slice").all() and (table["patients"] == 6).all()


def test_table_has_printed_and_measured_numbers_side_by_side(study):
    table = study.table2().set_index("model")
    assert table.index.tolist() == printed("table2")["model"].tolist()
    assert table.index[table["possible"]].tolist() == ["resunet", "unet+resunet"]
    assert table["weight"].isna().tolist() == [True] * 4 + [False] * 6
    assert table.at["unet", "dice"] == pytest.approx(study.singles["unet"].groupby("case")["dice"].mean().mean())
    assert (table["iou"] < table["dice"]).all() and (table["n"] == 6).all() and (table["unit"] == "volume").all()


def test_runs_that_do_not_fit_together_are_refused(study):
    with pytest.raises(KitError, match="two or more runs with the same label scheme, slices and split, not unet$"):
        study_of(["unet"])
    for change in ({"size": [32, 32]}, {"scheme": "levels20"}, {"split": {"fingerprint": "y"}}, {"enlarged_to": 40}):
        odd = RunResult(Path("odd"), pd.DataFrame(), 1, CARD | {"architecture": "resunet"} | change)
        with pytest.raises(KitError, match="not unet, odd"):
            FusionStudy(FakeWorkspace(), {"unet": study.runs["unet"], "resunet": odd}, "the split")


def test_titles():
    assert title_of("unet+unetplusplus") == "U-Net + U-Net++" and title_of("all networks") == "all networks"


def test_curves_show_the_exact_line_the_grid_and_the_best(study):
    figure = fusion_plots.weight_curves(study.pairs, title="pairs")
    axes = figure.get_axes()
    assert len(axes) == 6 and axes[1].get_title() == "U-Net + ResUNet"
    exact, grid, best = axes[1].lines
    found = study.pairs["unet+resunet"]
    assert exact.get_ydata().max() == pytest.approx(found.score) and len(grid.get_xdata()) == 21
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (found.weight, found.score)
    with pytest.raises(ValueError, match="at least one pair"):
        fusion_plots.weight_curves({})


def test_printed_weights_are_drawn_with_the_score_that_the_line_has_at_the_printed_best():
    listing = pd.DataFrame({"weight": [0.0, 0.5], "iou": [0.8, 0.7], "dice": [0.6, 0.7]})
    lines = {"iou": as_published(0.6, 0.8), "dice": as_published(0.8, 0.6)}
    figure = fusion_plots.printed_weights(listing, lines, 0.75, {"iou": 0.9, "dice": 0.95}, "U-Net")
    left, right = figure.axes
    assert left.get_title() == "IoU at 0.75: line 0.650, printed 0.900"
    assert right.get_title() == "Dice at 0.75: line 0.750, printed 0.950"
    assert left.get_xlabel() == "weight of U-Net" and left.get_ylabel() == "IoU as printed"
    line, dots, star = right.lines
    assert list(dots.get_ydata()) == [0.6, 0.7] and (star.get_xdata()[0], star.get_ydata()[0]) == (0.75, 0.95)
    assert np.isclose(np.ptp(line.get_ydata()), 0.2)


def test_differences_are_marked_where_zero_lies_outside(study):
    table = study.against_best_single()
    ax = fusion_plots.differences(table, "gain").get_axes()[0]
    found = [container.lines[0] for container in ax.containers]
    np.testing.assert_allclose([line.get_xdata()[0] for line in found], table["difference"])
    white = [line.get_markerfacecolor() == "white" for line in found]
    assert white == ((table["low"] <= 0) & (table["high"] >= 0)).tolist()


def test_printed_crosses_stand_beside_measured_diamonds(study):
    figure = fusion_plots.printed_beside_measured(study.table2())
    ax = figure.get_axes()[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()][:2] == ["U-Net", "U-Net++"]
    assert sum(text.get_text() == "impossible" for text in ax.texts) == 8
    np.testing.assert_allclose(ax.lines[0].get_xdata(), printed("table2")["dice"])
