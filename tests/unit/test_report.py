"""What lessons show of a trained network, and drawings of networks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest

from spider_utils.course import notebook_names
from spider_utils.data.phantom import generate_dataset
from spider_utils.runtime import PROFILES
from spider_utils.view.diagrams import KIND_COLORS, WORKFLOW, Box, block_diagram, course_workflow, workflow_notebooks
from spider_utils.view.report import ZONES, NetworkReport
from spider_utils.workflow import Workspace

TINY = replace(PROFILES["smoke"], patients=10, slice_size=(64, 64), epochs=2, samples_per_epoch=16)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> NetworkReport:
    home = tmp_path_factory.mktemp("home")
    generate_dataset(home / "data" / "phantom-smoke", 10, seed=2024, size="small", jobs=2)
    workspace = Workspace(TINY, "phantom", "", home)
    return NetworkReport(workspace, workspace.train(), "U-Net")


def test_training_is_told_as_it_was(report: NetworkReport) -> None:
    facts, history = report.training_facts(), report.run.history
    assert facts["epochs"] == 2 and facts["best_epoch"] == report.run.best_epoch
    assert facts["first train_loss"] == history["train_loss"][0] and facts["last train_loss"] == history["train_loss"][1]
    assert facts["best val_mean_iou"] == history["val_mean_iou"].max()
    assert report.training_curves()._suptitle.get_text() == "U-Net"


def test_the_network_is_looked_into_on_validation_patients(report: NetworkReport) -> None:
    images, truth, table = report.validation_batch
    assert images.shape == (32, 1, 64, 64) and truth.shape == (32, 64, 64) and truth.max() <= 3
    assert set(table["patient"]) <= set(report.workspace.split().patients("val"))
    assert table["labelled"].is_monotonic_decreasing
    sides = report.receptive_field_mm
    assert 0 < sides["effective (95 %)"] < sides["theoretical"]
    legend = report.receptive_field().legends[0]
    assert len(legend.get_texts()) == 2


def test_scores_are_those_of_the_workspace(report: NetworkReport) -> None:
    assert set(report.scores["patient"]) == set(report.workspace.split().patients("test"))
    table = report.score_table()
    assert set(table["metric"]) == {"dice"} and table["name"].iloc[-1] == "foreground mean"
    assert set(report.score_table("dice", "asd_mm")["metric"]) == {"dice", "asd_mm"}
    assert report.foreground["mean"] == pytest.approx(report.scores.groupby("case")["dice"].mean().mean())
    assert "U-Net" in report.score_figure().caption
    assert report.workspace.results_path.is_file()


def test_a_network_compared_with_itself_does_not_differ(report: NetworkReport) -> None:
    found = report.compared_with(replace(report, title="the same"))
    assert {"U-Net", "the same"} < set(found.columns)
    assert (found["difference"] == 0).all() and (found[["low", "high"]] == 0).all(axis=None)
    lines = report.paired_figure(replace(report, title="the same")).get_axes()[0].lines
    dice = report.scores.groupby("patient")["dice"].mean()
    assert [line.get_label() for line in lines] == [str(patient) for patient in dice.index]
    np.testing.assert_allclose([line.get_ydata() for line in lines], np.column_stack([dice, dice]))


def test_slices_are_ranked_by_their_own_dice(report: NetworkReport) -> None:
    ranking = report.ranking
    assert ranking["dice"].is_monotonic_increasing and len(ranking) >= 3
    worst = ranking.iloc[0]
    truth, found = (masks[worst["case"]][worst["slice"]] for masks in (report.truths, report.predictions))
    dice = [
        2 * ((truth == k) & (found == k)).sum() / ((truth == k).sum() + (found == k).sum())
        for k in (1, 2, 3)
        if (truth == k).any() or (found == k).any()
    ]
    assert worst["dice"] == pytest.approx(np.mean(dice))
    for which, place in (("best", -1), ("median", len(ranking) // 2), ("worst", 0)):
        row = ranking.iloc[place]
        assert f"{which} slice: {row['case']}, slice {row['slice']}" in report.slice_errors(which).caption
    with pytest.raises(ValueError, match="which must be one of best, median, worst, not 'nicest'"):
        report.slice_errors("nicest")


def test_zones_hold_every_ranked_slice(report: NetworkReport) -> None:
    zones = report.by_zone()
    assert set(zones.index) <= set(ZONES) and zones["count"].sum() == len(report.ranking)


def test_truth_is_in_the_scheme_of_the_run(report: NetworkReport) -> None:
    assert report.scheme == "structures4"
    assert all(set(np.unique(mask)) <= {0, 1, 2, 3} for mask in report.truths.values())


def test_boxes_and_arrows_are_drawn_where_they_belong(tmp_path: Path) -> None:
    boxes = {kind: Box(i, -i, kind, kind) for i, kind in enumerate(KIND_COLORS)}
    names = list(boxes)
    figure = block_diagram(boxes, list(zip(names, names[1:], strict=False)), [(names[0], names[-1])], title="a network")
    texts = [text for text in figure.get_axes()[0].texts if text.get_text()]
    assert [text.get_text() for text in texts] == names
    assert [text.get_position() for text in texts] == [(i, -i) for i in range(len(names))]
    assert len(figure.get_axes()[0].texts) - len(texts) == len(names)  # an arrow each
    assert figure.caption == "a network"


def test_arrows_to_nowhere_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="an arrow ends at 'b', but the boxes are: a"):
        block_diagram({"a": Box(0, 0, "a")}, [("a", "b")])
    with pytest.raises(ValueError, match="unknown kind of box: odd"):
        block_diagram({"a": Box(0, 0, "a", "odd")}, [])


def test_the_workflow_shows_every_notebook_of_the_course_once() -> None:
    home = Path(__file__).resolve().parents[2]
    assert workflow_notebooks() == notebook_names(home), "give a new notebook its place in WORKFLOW"
    cells = nbformat.read(home / "notebooks" / "00_start_here.ipynb", as_version=4).cells
    table = [name for cell in cells for name in re.findall(r"^\| `(\d\w+)` \|", cell.source, re.MULTILINE)]
    assert table == notebook_names(home), "and a row in the table of notebook 00"


def test_the_boxes_of_the_workflow_lie_apart() -> None:
    figure = course_workflow()
    figure.draw_without_rendering()
    texts = [text for text in figure.get_axes()[0].texts if text.get_text()]
    assert len(texts) == len(WORKFLOW) and texts[0].get_text() == "Data\nvolumes, masks,\ntables\n[00, 01]"
    extents = [text.get_bbox_patch().get_window_extent() for text in texts]
    assert not [1 for i, one in enumerate(extents) for other in extents[:i] if one.overlaps(other)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in extents)
