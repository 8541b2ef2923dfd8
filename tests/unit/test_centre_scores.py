"""Scores on MRI of other centres: what each scope leaves out, by hand; means, intervals and the command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.centres import CENTRE_SETS, CentreCase, CentreSet
from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.errors import DataError
from spider_utils.evaluation.centres import (
    annotated_part,
    behind_bodies,
    overview,
    score_case,
    score_centres,
    summarise_centres,
)
from spider_utils.evaluation.naming import NAME_COLUMNS
from spider_utils.labels import convert
from spider_utils.view.centre_pictures import shown_slice, write_picture
from tests import other_centres

SETS = {one.name: one for one in CENTRE_SETS}


def case_of(truth: np.ndarray, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0), name: str = "a", patient: str = "1"):
    image = Volume(np.zeros(truth.shape, np.uint8), spacing, (0.0, 0.0, 0.0), kit_direction())
    return CentreCase(name, patient, image, image.with_array(truth))


def bodies() -> np.ndarray:
    """(2, 20, 40): bodies in rows 4-7 (columns 8-23) and, 4 columns further back, rows 12-15; only in the second slice."""
    truth = np.zeros((2, 20, 40), np.uint8)
    truth[1, 4:8, 8:24] = truth[1, 12:16, 12:28] = 1
    return truth


def column_of(row: pd.DataFrame, scope: str, name: str) -> float:
    return row.loc[row["scope"] == scope, name].item()


# ------------------------------------------------------------------------------------------------------------------ scopes


def test_behind_begins_an_eighth_of_the_depth_after_the_wall():
    behind = behind_bodies(bodies())
    # Walls at column 23 and 27, depth 16, an eighth is 2: the first column behind is 26 and 30.
    first = behind.argmax(axis=1)
    assert first[:8].tolist() == [26] * 8 and first[12:].tolist() == [30] * 8
    # Row 7 to row 12 the wall goes from 23 to 27 in steps of 0.8; row 9: 24.6 + 2, so column 27 is the first behind.
    assert first[8:12].tolist() == [26, 27, 28, 29]
    assert behind[:, -1].all() and not behind[:, :26].any()


def test_behind_takes_the_last_column_of_all_slices():
    truth = bodies()
    truth[0, 4:8, 8:32] = 1
    assert behind_bodies(truth).argmax(axis=1)[5] == 32 + 2  # median depth of rows 4-7 (24) and 12-15 (16) is 20, an eighth 2.5


def test_nothing_lies_behind_no_body():
    assert not behind_bodies(np.zeros((1, 4, 5), np.uint8)).any()


def test_annotated_leaves_out_rows_beyond_and_what_is_behind_bodies():
    prediction = np.zeros((2, 20, 40), np.uint8)
    prediction[:, 0:3, 8:24] = 1  # a level above, not annotated
    prediction[:, 4:8, 8:24] = 1
    prediction[:, 5:9, 30:36] = 1  # a spinous process
    prediction[:, 9:11, 8:24] = 3  # a disc, of which this truth says nothing
    part = annotated_part(prediction, bodies(), (1,), bodies_only=True)
    expected = prediction.copy()
    expected[:, 0:3] = 0
    expected[:, :, 30:36] = 0
    np.testing.assert_array_equal(part, expected)
    whole = annotated_part(prediction, bodies(), (1,), bodies_only=False)
    np.testing.assert_array_equal(whole[:, 5:9, 30:36], prediction[:, 5:9, 30:36])
    assert prediction[0, 0, 8] == 1, "the prediction itself stays as it was"


def test_a_structure_that_a_case_does_not_mark_cannot_be_compared():
    prediction = np.ones((1, 4, 4), np.uint8)
    assert not annotated_part(prediction, np.zeros((1, 4, 4), np.uint8), (1,), False).any()


MASKS = hnp.arrays(np.uint8, (2, 6, 8), elements=st.integers(0, 3))


@given(MASKS, MASKS, st.booleans())
def test_the_cut_takes_nothing_that_is_right(truth, prediction, bodies_only):
    part = annotated_part(prediction, truth, (1, 2, 3), bodies_only)
    right = (prediction == truth) & (truth > 0)
    np.testing.assert_array_equal(part[right], prediction[right])
    assert set(np.unique(part[part != prediction])) <= {0}


# ------------------------------------------------------------------------------------------------------------------ scores


def test_scores_by_hand():
    prediction = np.zeros((2, 20, 40), np.uint8)
    prediction[1, 0:3, 8:24] = 1  # 48 voxels above
    prediction[1, 4:8, 8:24] = 1  # one body right: 64 of 128
    prediction[1, 4:8, 32:36] = 1  # 16 behind
    rows = score_case(SETS["chu2015_t2_3d"], case_of(bodies()), prediction)
    assert rows["name"].tolist() == ["vertebra"] * 2 and rows["unit"].unique().tolist() == ["volume"]
    assert column_of(rows, "picture", "dice") == pytest.approx(2 * 64 / (128 + 128))
    assert column_of(rows, "picture", "precision") == pytest.approx(64 / 128)
    assert column_of(rows, "annotated", "dice") == pytest.approx(2 * 64 / (64 + 128))
    assert column_of(rows, "annotated", "precision") == 1
    assert rows["recall"].tolist() == [0.5, 0.5]
    assert rows["asd_mm"].notna().all()


def test_a_flawless_network_scores_one_where_bodies_alone_are_marked():
    truth = bodies()
    prediction = truth.copy()
    prediction[:, 5:7, 33:37] = 1
    rows = score_case(SETS["chu2015_t2_3d"], case_of(truth), prediction)
    assert column_of(rows, "annotated", "dice") == 1 and column_of(rows, "annotated", "asd_mm") == 0
    assert column_of(rows, "picture", "dice") < 1


def test_without_a_pixel_size_there_are_no_distances():
    rows = score_case(SETS["mendeley_t1_2d"], case_of(bodies()[1:]), bodies()[1:])
    assert rows["unit"].unique().tolist() == ["slice"]
    assert rows["dice"].tolist() == [1, 1] and rows[["asd_mm", "hd95_mm", "nsd"]].isna().all(axis=None)


def test_distances_are_in_mm():
    truth, prediction = np.zeros((2, 1, 12, 12), np.uint8)
    truth[0, 4:8, 2:10] = 3
    prediction[0, 5:9, 2:10] = 3  # one row lower
    rows = score_case(SETS["isotropic_3d, IVD"], case_of(truth, (9.0, 3.0, 3.0)), prediction, tolerance_mm=3.0)
    assert column_of(rows, "picture", "hd95_mm") == pytest.approx(3) and column_of(rows, "picture", "nsd") == 1


def test_a_case_without_truth_is_not_scored():
    case = CentreCase("a", "1", case_of(bodies()).image, None)
    with pytest.raises(ValueError, match="no truth"):
        score_case(SETS["sct_t2_lumbar_3d"], case, bodies())


class Copycat:
    """Predicts what the truth is, and remembers what it was shown. With a shift in ``levels20``: so many levels too high."""

    def __init__(self, root: Path, shift: int | None = None):
        cases = [case for one in CENTRE_SETS for case in one.cases(root) if case.mask]
        self.truth = {case.image.path: case.mask.array for case in cases}
        if shift is not None:
            levels = {case.image.path: case.levels.array for case in cases if case.levels}
            self.truth = {
                path: convert(mask + (mask > 0) * np.uint8(shift), "spider", "levels20") for path, mask in levels.items()
            }
        self.seen: list[Volume] = []

    def __call__(self, image: Volume) -> Volume:
        self.seen.append(image)
        return image.with_array(self.truth.get(image.path, np.zeros(image.array.shape, np.uint8)))


def test_every_set_is_scored_and_shown(tmp_path):
    root, shown = other_centres.everything(tmp_path), []
    table, names = score_centres(
        root, Copycat(root), show=lambda one, case, mask: shown.append((one.name, case.case, mask.shape))
    )
    assert [name for name, _, _ in shown] == list(SETS), "those without truth are shown too"
    whole = table[table["set"] != "tptbox_crop_3d"]
    assert (whole["dice"] == 1).all() and set(whole["set"]) == {n for n, one in SETS.items() if one.structures} - {
        "tptbox_crop_3d"
    }
    assert set(names["set"]) == {name for name in SETS if name.startswith(("mendeley", "spider_t1t2", "chu", "isotropic"))}
    assert len(names) == 5 + 7 + 7 + 5 + 5 and set(names["count_from"]) == {"lowest"}
    assert names[names["set"].str.startswith("isotropic")]["right"].all(), "of the size of real ones"


def test_sets_without_truth_are_passed_over_when_nobody_looks(tmp_path):
    other_centres.unlabelled(tmp_path)
    copycat = Copycat(tmp_path)
    table, names = score_centres(tmp_path, copycat)
    assert table.empty and names.empty and not copycat.seen


def test_masks_with_levels_are_scored_by_structure_and_by_name(tmp_path):
    other_centres.isotropic(tmp_path)
    table, names = score_centres(tmp_path, Copycat(tmp_path, shift=1), scheme="levels20")
    assert (table["dice"] == 1).all(), "the wrong name costs no Dice"
    shifts = names.groupby(["set", "component", "count_from"])["shift"].unique().map(list).to_dict()
    assert shifts == {
        ("isotropic_3d, IVD", "disc", "own"): [1],
        ("isotropic_3d, IVD", "disc", "lowest"): [0],
        ("isotropic_3d, VBs", "vertebra", "own"): [1],
        ("isotropic_3d, VBs", "vertebra", "lowest"): [0],
    }
    assert len(names) == 4 * 5 and names.columns.tolist() == list(NAME_COLUMNS)


def test_each_part_of_a_network_with_levels_gets_one_number_before_it_is_scored(tmp_path):
    other_centres.isotropic(tmp_path)
    network = Copycat(tmp_path, shift=0)
    for drawn in network.truth.values():
        drawn[:, :2, :2] = 3  # a crumb far from the spine
        drawn[:, :, 10:16][drawn[:, :, 10:16] > 10] = 15  # the front of every disc is taken for one of them
    table, names = score_centres(tmp_path, network, scheme="levels20")
    assert (table["dice"] == 1).all() and names["right"].all()


def test_a_scheme_without_structures_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="axial"):
        score_centres(tmp_path, lambda image: image, scheme="axial8")


# ---------------------------------------------------------------------------------------------------------------- summaries


def slices(name: str, parts: dict[tuple[str, str], tuple[int, int]]) -> pd.DataFrame:
    """Rows of a set whose cases (patient, case) predict so many of so many true pixels, and nothing else."""
    tables = []
    for (patient, case), (right, true) in parts.items():
        truth, prediction = np.zeros((2, 1, 4, 12), np.uint8)
        truth[0, 1, :true] = 1
        prediction[0, 1, :right] = 1
        tables.append(score_case(SETS[name], case_of(truth, name=case, patient=patient), prediction))
    return pd.concat(tables, ignore_index=True)


def test_means_over_cases_and_over_series():
    # Dice 2*2/(2+4) = 2/3, 1 and 0: the mean of three slices is 5/9, of series (5/6 and 0) 5/12; pooled 2*6/(6+12) = 2/3.
    table = slices("spider_t1t2_vertebrae_2d", {("s", "s_1"): (2, 4), ("s", "s_2"): (4, 4), ("t", "t_1"): (0, 4)})
    summary = summarise_centres(table)
    assert set(summary["drawn"]) == {"series"} and "foreground mean" not in set(summary["name"])
    found = overview(summary).query("scope == 'picture'").set_index("unit")
    assert found["dice"].to_dict() == pytest.approx({"slice": 5 / 9, "series": 5 / 12})
    assert found["n"].to_dict() == {"slice": 3, "series": 2} and set(found["drawn"]) == {"2 series"}
    assert found["pooled"]["slice"] == pytest.approx(2 * 6 / (6 + 12)) and np.isnan(found["pooled"]["series"])
    assert found["std"]["slice"] == pytest.approx(np.std([2 / 3, 1, 0], ddof=1))
    assert found["low"]["slice"] == 0 and found["high"]["slice"] == pytest.approx(5 / 6), "only ever s, or only ever t"
    assert found["recall"]["slice"] == pytest.approx((0.5 + 1 + 0) / 3)


def test_patients_with_one_case_each_are_told_once():
    table = slices("mendeley_t1_2d", {("1", "a"): (4, 4), ("2", "b"): (2, 4)})
    found = overview(summarise_centres(table)).query("scope == 'picture'")
    assert found["unit"].tolist() == ["slice"] and found["drawn"].tolist() == ["2 patients"]


def test_an_empty_truth_counts_in_the_picture_alone():
    table = slices("spider_t1t2_vertebrae_2d", {("s", "s_1"): (4, 4), ("t", "t_1"): (3, 0)})
    found = overview(summarise_centres(table)).query("unit == 'slice'").set_index("scope")
    assert found["dice"].to_dict() == {"picture": 0.5, "annotated": 1.0} and found["n"].to_dict() == {
        "picture": 2,
        "annotated": 1,
    }


def test_sets_are_never_mixed():
    tables = [slices(name, {("1", "a"): (right, 4)}) for name, right in (("mendeley_t1_2d", 4), ("spider_t1t2_vertebrae_2d", 2))]
    found = overview(summarise_centres(pd.concat(tables))).query("scope == 'annotated'").set_index("set")["dice"]
    assert found.to_dict() == pytest.approx({"mendeley_t1_2d": 1, "spider_t1t2_vertebrae_2d": 2 / 3})


# ----------------------------------------------------------------------------------------------------------------- pictures


def test_a_picture_shows_the_middle_of_the_marked_slices(tmp_path):
    truth = np.zeros((9, 20, 40), np.uint8)
    truth[5:8] = bodies()[1]
    case = case_of(truth)
    assert shown_slice(case) == 6
    assert shown_slice(CentreCase("a", "1", case.image, None)) == 4
    path = write_picture(tmp_path, SETS["chu2015_t2_3d"], case, truth)
    assert path == tmp_path / "chu2015_t2_3d" / "a.png"
    with_truth = Image.open(path).size
    without = Image.open(write_picture(tmp_path, SETS["sct_t2_lumbar_3d"], CentreCase("a", "1", case.image, None), truth)).size
    assert with_truth[0] > 1.4 * without[0] and with_truth[1] == without[1], "three panels, and two"


# -------------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def said(monkeypatch, tmp_path):
    """Runs the command with a network that predicts the truth."""

    def run(root: Path, *arguments: str, shift: int | None = None):
        (tmp_path / "run").mkdir(exist_ok=True)
        predictor = SimpleNamespace(
            predict_volume=Copycat(root, shift), scheme="structures4" if shift is None else "levels20", own_votes=1.0
        )
        monkeypatch.setattr("spider_utils.workflow.find_run", lambda _: tmp_path / "run")
        monkeypatch.setattr("spider_utils.predict.load_predictor", lambda *_: predictor)
        return CliRunner().invoke(cli.app, ["centres", "--data", str(root), *arguments], env={"COLUMNS": "300"})

    return run


def test_the_command_writes_tables_and_pictures(said, tmp_path):
    root, out, pictures = other_centres.everything(tmp_path / "data"), tmp_path / "out" / "t.csv", tmp_path / "pictures"
    result = said(root, "--out", str(out), "--pictures", str(pictures))
    assert result.exit_code == 0, result.output
    assert pd.read_csv(out)["set"].nunique() == 6
    assert set(pd.read_csv(out.with_name("t_summary.csv"))["scope"]) == {"picture", "annotated"}
    shown = {path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png")}
    assert {"sct_t2_lumbar_3d/t2_lumbar.png", "spider_midslices_unlabelled/12_t1.png", "isotropic_3d/IVD_11.png"} <= shown
    assert len(shown) == len(CENTRE_SETS)
    assert len(pd.read_csv(out.with_name("t_names.csv"))) == 5 + 7 + 7 + 5 + 5
    assert len(pd.read_csv(out.with_name("t_names_summary.csv"))) == 5 * 6


def test_the_command_tells_names_in_both_ways(said, tmp_path):
    other_centres.isotropic(tmp_path / "data")
    out = tmp_path / "t.csv"
    result = said(tmp_path / "data", "--out", str(out), shift=1)
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(tmp_path / "t_names_summary.csv").query("quantity == 'named right'")
    assert summary.set_index(["set", "count_from"])["share"].to_dict() == {
        (name, way): share for name in ("isotropic_3d, IVD", "isotropic_3d, VBs") for way, share in (("own", 0), ("lowest", 1))
    }
    assert len(pd.read_csv(tmp_path / "t_names.csv")) == 20 and "names of levels" in result.output


def test_the_command_names_what_is_not_there_and_writes_nothing_unasked(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other_centres.chu(tmp_path / "data")
    result = said(tmp_path / "data")
    assert result.exit_code == 0 and "not there: mendeley_t1_2d (mendeley_t1_2d/images/*.jpg)" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]


def test_a_wrong_folder_is_said_before_a_model_is_sought(tmp_path):
    result = CliRunner().invoke(cli.app, ["centres", "--data", str(tmp_path), "--model", "none"])
    assert isinstance(result.exception, DataError) and "none of the sets" in str(result.exception)


def test_sets_are_of_known_structures():
    assert all(isinstance(one, CentreSet) and set(one.structures) <= {1, 2, 3} for one in CENTRE_SETS)
    assert len(SETS) == len(CENTRE_SETS)
