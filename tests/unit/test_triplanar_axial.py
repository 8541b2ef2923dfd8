"""The axial study: who trains, what is kept, and its tables; figures of slices with lines; all on five coarse patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.axial import AxialSet
from spider_utils.data.axial_store import build_axial_store
from spider_utils.data.phantom.axial_set import generate_axial_set
from spider_utils.labels import get_scheme
from spider_utils.measure.axial import HERNIA, HerniaLine, SacLine
from spider_utils.runtime import PROFILES
from spider_utils.triplanar import axial as axial_module
from spider_utils.triplanar.axial import (
    AXIAL_SETTINGS,
    BOTH,
    MEASURED,
    TISSUES,
    AxialStudy,
    errors,
    herniated_slices,
    lines_on,
    measured,
    table7,
)
from spider_utils.view.axial_plots import AxialPicture, axial_slices, found_objects, named_tissues
from spider_utils.workflow import PHANTOM_SEED, Workspace

PRINTED = [0.86, 0.86, 0.89, 0.66, 0.68, 0.62, 0.73, 0.90, 0.88]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    generate_axial_set(home / "data" / "phantom-axial-smoke", 5, PHANTOM_SEED, jobs=1, size="tiny")
    return home


@pytest.fixture(scope="module")
def study(home):
    axial = AxialSet(home / "data" / "phantom-axial-smoke")
    settings = replace(AXIAL_SETTINGS["smoke"], epochs=1)
    return AxialStudy(axial, build_axial_store(axial, home / "store", (64, 64)), settings, home / "runs", device="cpu")


@pytest.fixture
def perfect(study, monkeypatch):
    """A study whose network makes no mistake."""

    def predicted(self, fold=0):
        rows = self.rows(fold, "test")
        return rows, np.array(self.store.masks[rows])

    monkeypatch.setattr(AxialStudy, "predicted", predicted)
    return study


def test_nobody_who_trains_is_tested(study):
    patients = study.store.table["patient"].to_numpy()
    for fold in range(5):
        parts = [set(patients[study.rows(fold, subset)]) for subset in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 5
    assert set().union(*(patients[study.rows(fold, "test")] for fold in range(5))) == set(patients), "each is tested once"


def test_a_run_is_trained_once_and_its_masks_are_kept(study):
    run = study.train()
    stamp = (run.folder / "run.json").stat().st_mtime_ns
    rows, masks = study.predicted()
    assert masks.shape == (len(rows), 64, 64) and masks.dtype == np.uint8 and masks.max() < 8
    assert (study.train().folder / "run.json").stat().st_mtime_ns == stamp
    assert run.card["scheme"] == "axial8" and run.card["architecture"] == "dilated_unet"
    np.testing.assert_array_equal(study.predicted()[1], masks)
    assert len(list(study.tested())) == len(rows)


def test_perfect_masks_have_perfect_tables(perfect):
    objects = perfect.objects()
    table = table7(objects)
    assert table["tissue"].tolist() == list(TISSUES) and table["printed"].tolist() == PRINTED
    found = table[table["found"] > 0]
    assert (found["iou"] == 1).all() and (table["missed"] == 0).all() and (table["false"] == 0).all() and len(found) >= 7
    discs = objects[objects["tissue"] == "whole disc"]
    both = objects[objects["tissue"] == BOTH]
    with_hernia = {(row["case"], row["slice"]) for row, truth, _ in perfect.tested() if (truth == HERNIA).any()}
    assert set(zip(both["case"], both["slice"], strict=True)) <= with_hernia and len(discs) >= len(both)


def test_what_is_measured_on_true_masks(perfect):
    found, true = perfect.measurements(), perfect.measurements("true")
    pd.testing.assert_frame_equal(found, true)
    assert set(found["quantity"]) == set(MEASURED) and len(found) == 3 * len(perfect.rows(0, "test"))
    table = errors(found).set_index("quantity")
    assert table.loc["sac_ap_mm", "mae"] < 1.5 and table.loc["sac_ap_mm", "n"] > 3, "pixels are of 1.7 mm here"
    with pytest.raises(ValueError, match="'predicted' or 'true'"):
        perfect.measurements("guessed")


def test_errors_and_herniated_slices_by_hand():
    nan = np.nan
    values = [(3.0, 4.0), (6.0, 5.0), (nan, 3.0), (2.0, nan), (nan, nan), (nan, nan)]
    rows = [
        {"case": "a", "slice": k, "patient": k, "quantity": "hernia_height_mm", "value": v, "truth": t}
        for k, (v, t) in enumerate(values)
    ]
    table = pd.DataFrame(rows)
    true = table.assign(value=table["truth"])
    row = herniated_slices(table, true.iloc[::-1]).iloc[0]
    assert row[["tp", "tn", "fp", "fn"]].tolist() == [2, 2, 1, 1]
    assert row["accuracy"] == pytest.approx(4 / 6) and row["sensitivity"] == row["precision"] == row["specificity"] == 2 / 3
    height = errors(table).set_index("quantity").loc["hernia_height_mm"]
    assert (height["n"], height["mae"], height["bias"]) == (2, 1, 0) and height["limit high"] == pytest.approx(1.96 * 2**0.5)
    assert errors(table).set_index("quantity").loc["sac_ap_mm", "n"] == 0
    for wrong in (true.head(5), true.assign(case="b")):
        with pytest.raises(ValueError, match="same slices"):
            herniated_slices(table, wrong)
    none = herniated_slices(table.tail(2), true.tail(2)).iloc[0]
    assert np.isnan(none["sensitivity"]) and none["accuracy"] == 1


def test_a_slice_that_shows_nothing():
    empty = np.zeros((64, 64), np.uint8)
    assert lines_on(empty, 1.7) == (None, None) and all(np.isnan(value) for value in measured(empty, 1.7).values())


def test_the_workspace_makes_its_set_once(home, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    workspace = Workspace(replace(PROFILES["smoke"], axial_patients=5), "phantom", "", home)
    before = (home / "data" / "phantom-axial-smoke" / "slices.csv").stat().st_mtime_ns
    assert len(workspace.axial().slices) == 30
    assert (home / "data" / "phantom-axial-smoke" / "slices.csv").stat().st_mtime_ns == before


def test_commands(study, tmp_path, monkeypatch):
    monkeypatch.setattr(axial_module.AxialStudy, "open", classmethod(lambda cls, workspace: study))
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))

    def kit(*arguments):
        said = CliRunner().invoke(cli.app, ["triplanar", "axial", *arguments, "--profile", "smoke"])
        assert said.exit_code == 0, said.output
        return said.stdout

    assert kit("train").splitlines()[-1] == str(study.folder / "fold0")
    said = kit("tables", "--out", str(tmp_path / "tables"))
    table = pd.read_csv(tmp_path / "tables" / "table7.csv")
    assert table["printed"].tolist() == PRINTED and "table7:" in said
    names = {"table7", "herniated-slices", "errors-predicted", "errors-true"}
    assert {path.stem for path in (tmp_path / "tables").glob("*.csv")} == names


# ---------------------------------------------------------------------------------------------------------------- figures


def picture(rows=60, columns=50):
    mask = np.zeros((rows, columns), np.uint8)
    mask[5:20, 10:40], mask[25:35, 18:32] = 1, 3
    sac = SacLine(np.array([24.5, 25.0]) * 0.8, np.array([34.5, 25.0]) * 0.8, 90.0)
    hernia = HerniaLine(np.array([[19.5, 20.0], [19.5, 28.0]]) * 0.8, np.array([19.5, 24]) * 0.8, np.array([24, 24]) * 0.8)
    return AxialPicture(np.arange(rows * columns).reshape(rows, columns), mask, 0.8, "a slice", sac, hernia)


def test_lines_are_drawn_where_they_were_measured():
    ax = axial_slices([picture()], title="Lines").axes[0]
    drawn = {tuple(map(tuple, np.round(line.get_xydata(), 3))) for line in ax.lines}
    assert {((25.0, 24.5), (25.0, 34.5)), ((20.0, 19.5), (28.0, 19.5)), ((24.0, 19.5), (24.0, 24.0))} <= drawn
    texts = {text.get_text() for text in ax.texts}
    assert {"8.0 mm", "3.6 mm", "A", "P", "R", "L"} <= texts


def test_a_cropped_picture_keeps_lines_and_lengths():
    plain = axial_slices([picture()]).axes[0]
    ax = axial_slices([picture()], crop_mm=(24, 24)).axes[0]
    assert ax.images[0].get_array().shape == (30, 30)
    shift = np.array([25.0, 24.5]) - ax.lines[1].get_xydata()[0]  # the scale bar is drawn first
    row, column = round(shift[1]), round(shift[0])
    np.testing.assert_array_equal(ax.images[0].get_array(), plain.images[0].get_array()[row : row + 30, column : column + 30])
    np.testing.assert_allclose(ax.lines[1].get_xydata() + shift, plain.lines[1].get_xydata())
    assert {"8.0 mm", "3.6 mm"} <= {text.get_text() for text in ax.texts}


def test_several_pictures_and_their_legend():
    one = picture()
    figure = axial_slices([one, replace(one, sac=None, hernia=None, title="another"), one], columns=2, title="Tissues")
    assert len(figure.axes) == 3 and "another" in figure.caption and "right on the left" in figure.caption
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [get_scheme("axial8").names[k] for k in (1, 3)]
    assert not axial_slices([replace(one, mask=None)]).legends
    with pytest.raises(ValueError, match="at least one"):
        axial_slices([])


def test_found_objects_shows_both_numbers_and_all_counts():
    table = pd.DataFrame(
        {"tissue": ["disc", "hernia"], "printed": [0.86, 0.66], "iou": [0.9, np.nan], "low": [0.85, np.nan]}
        | {"high": [0.95, np.nan], "found": [10, 0], "missed": [1, 3], "false": [2, 0]}
    )
    figure = found_objects(table, "Table 7")
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["disc", "hernia"]
    assert any(line.get_xdata().tolist() == [0.86, 0.66] for line in left.lines)
    assert [bar.get_width() for bar in right.patches] == [10, 0, 1, 3, 2, 0]


def test_names_of_tissues_are_joined_to_their_largest_piece():
    mask = np.zeros((40, 40), np.uint8)
    mask[2, 2], mask[10:20, 5:30], mask[25:30, 10:20] = 1, 1, 3
    figure = named_tissues(AxialPicture(np.ones((40, 40)), mask, 1.0), "Title")
    names = get_scheme("axial8").names
    placed = {text.get_text(): text.xy for text in figure.axes[0].texts if hasattr(text, "xy")}
    for value, (rows, columns) in {1: ((10, 20), (5, 30)), 3: ((25, 30), (10, 20))}.items():
        x, y = placed[names[value]]
        assert rows[0] <= y < rows[1] and columns[0] <= x < columns[1]
    with pytest.raises(ValueError, match="mask"):
        named_tissues(AxialPicture(np.ones((4, 4)), None, 1.0))
