"""What phantoms are worth on real patients: kept tables are read and checked, saved patients are worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from spider_utils.errors import DataError
from spider_utils.evaluation import side_by_side
from spider_utils.evidence import worth
from spider_utils.evidence.score import MEAN_COLUMNS, mean_scores

SCORES = pd.DataFrame(
    {"class": [1, 2] * 8, "name": ["vertebra", "disc"] * 8, "patient": [1, 1, 2, 2] * 4, "case": list("aabb") * 4}
).assign(
    dice=[0.9, 0.7, 0.8, 0.6] * 4, asd_mm=1.0, status="both", unit="volume", tolerance_mm=1.0, tp=8, fp=1, fn=1,
    iou=0.5, precision=0.5, recall=0.5, f1=0.5, hd95_mm=2.0, nsd=0.5,
)  # fmt: skip


def sizes(random: dict[int, float], phantoms: dict[int, float], name: str = "foreground mean") -> pd.DataFrame:
    rows = [
        (start, n, name, "dice", dice)
        for start, curve in (("random", random), ("phantoms", phantoms))
        for n, dice in curve.items()
    ]
    return pd.DataFrame(rows, columns=["start", "learned", "name", "metric", "mean"])


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """File -> the table in it, as the command writes it."""
    texts = {}
    for file, groups, kinds in (
        ("sim_to_real.csv", ("looks", "phantoms"), ("hospital", "random")),
        ("training_sizes.csv", ("start", "learned"), ("random", "phantoms")),
    ):
        marks = [(kind, n) for kind in kinds for n in (3, 7) for _ in range(4)]
        scores = SCORES.assign(**dict(zip(groups, zip(*marks, strict=True), strict=True)))
        texts[file] = mean_scores(scores, groups).to_csv(index=False)
    return texts


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: dict[str, str]) -> Path:
    """The folder of a manifest with the two tables."""
    (tmp_path / "measured").mkdir()
    for module in (worth, side_by_side):
        monkeypatch.setattr(module, "manifest_folder", lambda: tmp_path)
    for file, text in written.items():
        (tmp_path / "measured" / file).write_text(text)
    return tmp_path / "measured"


def test_kept_tables_are_what_the_command_writes(kept):
    ladder, sizes_ = worth.kept_ladder(), worth.kept_sizes()
    assert list(ladder.columns) == ["looks", "phantoms", *MEAN_COLUMNS] and list(sizes_.columns)[:2] == ["start", "learned"]
    disc = ladder[(ladder["name"] == "disc") & (ladder["metric"] == "dice")]
    assert disc["mean"].tolist() == pytest.approx([0.65] * 4) and disc["phantoms"].tolist() == [3, 7, 3, 7]
    assert (disc["patients"] == 2).all() and set(ladder["metric"]) == {"dice", "asd_mm"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="high"), "lacks the column 'high'"),
        (lambda t: t.assign(mean="often"), "holds 'often' in column 'mean', not a number"),
        (lambda t: t.assign(n=math.nan), "holds '' in column 'n'"),
        (lambda t: t.replace({"looks": {"random": "odd"}}), "knows 'odd' in column 'looks', which is none of hospital, random"),
        (lambda t: t[t["looks"] == "hospital"], "has no row with 'random'"),
        (lambda t: pd.concat([t, t]), "holds a row twice"),
    ],
)
def test_a_damaged_table_is_refused_with_its_name(kept, change, said):
    path = kept / "sim_to_real.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(DataError, match="sim_to_real.csv") as refused:
        worth.kept_ladder()
    assert said in str(refused.value)


def test_a_missing_table_is_told_of(kept):
    (kept / "training_sizes.csv").unlink()
    with pytest.raises(DataError, match="training_sizes.csv"):
        worth.kept_sizes()


def test_intervals_may_be_unknown(kept):
    path = kept / "sim_to_real.csv"
    pd.read_csv(path).assign(low=math.nan, high=math.nan).to_csv(path, index=False)
    assert worth.kept_ladder()[["low", "high"]].isna().all(axis=None)


def test_saved_patients_by_hand():
    # From random weights 1, 4 and 16 patients give 0.6, 0.8 and 0.9. Halfway from 4 to 16 on a logarithm lies 8.
    table = sizes({1: 0.6, 4: 0.8, 16: 0.9}, {1: 0.8, 4: 0.85, 16: 0.92})
    found = worth.patients_saved(table)
    assert found["learned"].tolist() == [1, 4, 16] and found["limit"].tolist() == ["", "", "more than"]
    assert found["needed"].tolist() == pytest.approx([4, 8, 16]) and found["saved"].tolist() == pytest.approx([3, 4, 0])


def test_phantoms_that_do_harm_save_less_than_nothing():
    found = worth.patients_saved(sizes({2: 0.6, 8: 0.8}, {2: 0.5, 8: 0.7}))
    assert found["limit"].tolist() == ["at most", ""] and found["needed"].tolist() == pytest.approx([2, 4])
    assert found["saved"].tolist() == pytest.approx([0, -4])


def test_a_curve_that_falls_counts_with_its_best_so_far():
    # 4 patients are as good as 0.8; that 9 gave less does not make 0.8 need more.
    found = worth.patients_saved(sizes({1: 0.6, 4: 0.8, 9: 0.7, 36: 0.9}, {1: 0.8, 4: 0.85}))
    assert found["needed"].tolist() == pytest.approx([4, 18])  # halfway from 9 to 36


def test_an_unknown_structure_is_refused():
    with pytest.raises(ValueError, match="no Dice of 'hip'.*foreground mean"):
        worth.patients_saved(sizes({1: 0.5}, {1: 0.6}), "hip")
