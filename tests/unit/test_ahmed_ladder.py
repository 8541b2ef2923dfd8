"""The ladder on two tiny trainings: the same network split by patient and by slice."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils import ahmed
from spider_utils.cli import app
from spider_utils.data.phantom import generate_dataset
from spider_utils.errors import KitError
from spider_utils.workflow import Workspace
from tests.unit.test_workflow import TINY


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("home")
    generate_dataset(home / "data" / "phantom-smoke", 10, seed=2024, size="small", jobs=2)
    return Workspace(TINY, "phantom", "", home)


@pytest.fixture(scope="module")
def runs(workspace: Workspace) -> list:
    return [ahmed.train_modified(workspace), ahmed.train_modified(workspace, split=workspace.split("leaky-kfold5"))]


def test_both_kinds_have_names_of_their_own(runs):
    assert [run.folder.name for run in runs] == [
        "smoke-phantom-modified_unet-structures4-lossfocal4_dice-slicegapmm0.0",
        "smoke-phantom-modified_unet-structures4-leaky-kfold5-fold0-lossfocal4_dice-slicegapmm0.0",
    ]


ROWS = pd.DataFrame(
    [("1_t2", 1, 0), ("1_t2", 1, 1), ("2_t2", 2, 0), ("2_t2", 2, 1), ("9_t1", 9, 0), ("9_t1", 9, 1)],
    columns=["case", "patient", "slice"],
).assign(sequence=["t2"] * 4 + ["t1"] * 2)
FULL, NO_VERTEBRA = [[0, 1, 2, 3]], [[0, 0, 2, 3]]


class KnownAnswers:
    """Stands in for a workspace: two runs by patient, the first of which misses every vertebra, two by slice without error."""

    tested = {"p1": [0, 1], "p2": [2, 3], "s1": [0, 2], "s2": [1, 3, 4]}

    def split_of(self, run):
        return run.folder.name

    def label_maps(self, run, name):
        rows = self.tested[name]
        truth = np.array([FULL] * len(rows))
        return (np.array([NO_VERTEBRA] * len(rows)) if name == "p1" else truth), truth, ROWS.iloc[rows]

    def evaluate(self, run, name):
        """In its own grid each class of each series has half of its pixels right (Dice 2 / 3), but for the missed vertebra."""
        case, patient = ("1_t2", 1) if name == "p1" else ("2_t2", 2)
        tp = [0 if name == "p1" else 1, 1, 1]
        return pd.DataFrame({"case": case, "patient": patient, "class": [1, 2, 3], "tp": tp, "fp": 0, "fn": 1})

    def store_of(self, run):
        masks = np.array([FULL, FULL, FULL, NO_VERTEBRA, FULL, [[0, 0, 0, 0]]], np.uint8)
        return SimpleNamespace(table=ROWS, masks=masks, lookup=lambda scheme: (np.arange(256, dtype=np.uint8), None))


def known_run(name, **settings):
    split = {"name": "kfold5" if name.startswith("p") else "leaky-kfold5"}
    chosen = {"architecture": "unet", "scheme": "structures4", "slice_gap_mm": 0.0, "seed": int(name[1]), **settings}
    return SimpleNamespace(folder=Path(name), card={"split": split}, settings=chosen)


def test_every_rung_by_hand():
    ladder = ahmed.Ladder.of(KnownAnswers(), [known_run(name) for name in ("p1", "s1", "p2", "s2")])
    table = ladder.table()
    one_missed = (2 / 3 + 1) / 2  # patient 1 lacks the vertebra: Dice 0, 1, 1
    copied = (1 + 2 / 3) / 2  # one mask of patient 2 lacks it; what the next slice lacks, the slice before has
    pooled = (2 / 3 + 1 + 1) / 3
    assert table["mean"].tolist()[:5] == pytest.approx([(4 / 9 + 2 / 3) / 2, one_missed, one_missed, one_missed, pooled])
    assert table["mean"].tolist()[5:8] == pytest.approx([1, 1, copied])
    printed = ahmed.printed_table2()
    assert table["mean"].iloc[8] == pytest.approx(printed.loc[printed["sequence"] == "t2", "dice"].mean())
    gains = table["gain"].tolist()
    assert gains[1:5] == pytest.approx([one_missed - 5 / 9, 0, 0, pooled - one_missed])
    assert gains[5:8] == pytest.approx([1 - pooled, 0, copied - one_missed])
    assert np.isnan([gains[0], gains[8]]).all()
    assert table["patients"].tolist()[:8] == [2, 2, 2, 2, 2, 3, 3, 2]  # patient 9 was tested by slice only
    assert table["slices"].tolist()[1:8] == [4, 4, 4, 4, 5, 5, 4] and table["runs"].tolist()[:8] == [2] * 7 + [0]
    assert table["rung"].iloc[8] == "printed for t2"


def test_the_leak_is_what_knowing_the_patient_adds_on_shared_slices():
    ladder = ahmed.Ladder.of(KnownAnswers(), [known_run(name) for name in ("p1", "p2", "s1", "s2")])
    leak = ladder.leak()
    assert leak.estimate == pytest.approx(1 / 6) and leak.n_groups == 2
    assert leak.low == pytest.approx(0) and leak.high == pytest.approx(1 / 3)


def test_a_second_seed_on_the_same_slices_counts_no_slice_twice():
    workspace = KnownAnswers()
    workspace.tested = workspace.tested | {"p3": [0, 1]}
    table = ahmed.Ladder.of(workspace, [known_run(name) for name in ("p1", "p3", "s1")]).table()
    assert table["slices"].iloc[1] == 2 and table["runs"].iloc[1] == 2


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([known_run("p1")], "none split by slice (--split leaky-kfold5)"),
        ([known_run("s1")], "none split by patient (--split kfold5)"),
        ([known_run("p1"), known_run("s1", loss="dice")], "p1 and s1 differ in loss"),
        ([known_run("p1", slice_gap_mm=3.0), known_run("s1", slice_gap_mm=3.0)], "--slice-gap-mm 0"),
        ([known_run("p1", scheme="levels20"), known_run("s1", scheme="levels20")], "needs runs in structures4"),
    ],
)
def test_runs_that_make_no_ladder_are_refused(runs, words):
    with pytest.raises(KitError, match=re.escape(words)):
        ahmed.Ladder.of(KnownAnswers(), runs)


def test_the_ladder_of_real_trainings_is_whole(workspace, runs):
    table = ahmed.Ladder.of(workspace, runs).table()
    assert len(table) == 9 and table["rung"].is_unique and table["mean"].between(0, 1).all()
    assert table["patients"].iloc[0] == len(workspace.split().patients("test")) < table["patients"].iloc[5]


def test_unknown_gamma_is_refused(workspace):
    with pytest.raises(KitError, match=r"gamma 4.0 and 0.4, not 2.0"):
        ahmed.train_modified(workspace, 2.0)


def test_metric_table_lays_three_sets_of_definitions_side_by_side(workspace, runs):
    table = ahmed.metric_table(workspace, runs[0])
    assert set(table["definitions"]) == {"paper", "kit", "printed"}
    counts = table.groupby(["definitions", "sequence"]).size().unstack()
    assert (counts.loc["paper"] == 4).all() and (counts.loc["kit"] == 3).all() and (counts.loc["printed"] == 4).all()
    pooled = table[table["definitions"] == "paper"]
    defined = pooled.dropna(subset=["f1"])
    pd.testing.assert_series_equal(defined["dice"], defined["f1"], check_names=False)  # of pooled regions they are one number
    measured = table[table["definitions"] != "printed"].dropna(subset=["low"])
    assert (measured["low"] <= measured["dice"] + 1e-9).all() and (measured["dice"] <= measured["high"] + 1e-9).all()
    assert table.groupby("definitions")["name"].first().to_dict() == {
        "kit": "vertebra",
        "paper": "background",
        "printed": "background",
    }
    assert set(table["asd_unit"]) == {"pixels", "mm", "not said"}


def test_command_writes_table_and_figure(workspace, runs, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(workspace.home))
    monkeypatch.setattr(Workspace, "open", lambda *_, **__: workspace)
    result = CliRunner().invoke(app, ["ahmed", "ladder", *(run.folder.name for run in runs), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "split by slice minus by patient, on the very same slices" in result.output
    assert len(pd.read_csv(tmp_path / "out" / "ladder.csv")) == 9 and (tmp_path / "out" / "ladder.png").is_file()
