"""What is said of masks is kept beside them, and never beside another mask."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spider_utils import masks
from spider_utils.data.slices import SliceGrid
from spider_utils.data.volumes import Volume, kit_direction, read_volume, write_volume
from spider_utils.errors import DataError, KitError
from spider_utils.mask_table import COLUMNS, TABLE, MaskTable
from spider_utils.masks import predict_path, segment
from spider_utils.predict import PooledPredictor, Predictor
from tests.stand_ins import BrightestClass, LevelsByGray, write_image


def pooled() -> PooledPredictor:
    """Of what is bright the first says vertebra and the second disc: they agree to a Dice of 0."""
    first = Predictor(LevelsByGray(), SliceGrid(32, 32), "levels20", "cpu")
    return PooledPredictor(first, Predictor(BrightestClass(), SliceGrid(32, 32), "structures4", "cpu"))


def agreeing() -> PooledPredictor:
    """Value 12 of levels20 is a disc, as value 3 of structures4 is."""
    second = pooled().second
    sure = Predictor(lambda images: BrightestClass()(images)[:, [0, *11 * [1], 3, *7 * [1]]], second.grid, "levels20", "cpu")
    sure.whole_parts = False
    return PooledPredictor(sure, second)


def write_half_bright(path: Path, code: str = "PIR", gray: int = 255) -> None:
    array = np.random.default_rng(0).integers(0, 40, (4, 50, 40), np.uint8)  # more values than a mask has
    array[:, :, 20:] = np.maximum(array[:, :, 20:], gray) if gray else 0
    write_volume(Volume(array, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), kit_direction()), path)


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / TABLE, keep_default_na=False).set_index("mask", drop=False)


def test_what_is_said_of_masks_is_kept_beside_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_half_bright(tmp_path / "in" / "b.mha")
    write_image(tmp_path / "in" / "a.mha", "RAI")
    said: list[str] = []
    predict_path(tmp_path / "in", tmp_path / "out", pooled(), said.append, network="two")
    table = rows(tmp_path / "out")
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS and set(table["mask"]) == {"a.mha", "b.mha"}
    assert set(table["network"]) == {"two"} and set(table["scheme"]) == {"levels20"}
    for row in table.itertuples():
        assert row.notes == " | ".join(one.split(": ", 1)[1] for one in said if one.startswith(f"{row.image}: ")) != ""
    assert "axial (crosswise)" in table.loc["a.mha", "notes"] and "agree to a Dice" in table.loc["b.mha", "notes"]
    drawn = segment(pooled(), read_volume(tmp_path / "in" / "b.mha"))
    assert table.loc["b.mha", "agreement"] == drawn.dice
    assert table.loc["b.mha", "agreement disc"] == round(drawn.agreement.by_class()["disc"], 2)


def test_masks_to_look_at_first_are_on_top(tmp_path: Path, predictor: Predictor) -> None:
    """Nothing found, and another plane, are doubts as little agreement is; one network alone says nothing, two may say no."""
    for name, gray in (("little", 255), ("nothing", 0), ("much", 255)):
        write_half_bright(tmp_path / f"{name}.mha", gray=gray)
    write_image(tmp_path / "crosswise.mha", "RAI")
    network = {"much": agreeing(), "alone": predictor}
    write_half_bright(tmp_path / "alone.mha")
    for name in ("much", "alone", "nothing", "crosswise", "little"):
        predict_path(tmp_path / f"{name}.mha", tmp_path / "out", network.get(name, pooled()))
    table = rows(tmp_path / "out")
    assert dict(zip(table["image"], table["doubtful"], strict=True)) == {
        "little.mha": "yes", "nothing.mha": "yes", "crosswise.mha": "yes", "alone.mha": "", "much.mha": "no",
    }  # fmt: skip
    assert list(table["doubtful"]) == ["yes", "yes", "yes", "", "no"] and table.loc["much.mha", "agreement"] == "1.0"
    known = pd.to_numeric(table["agreement"][:3])
    assert known.dropna().is_monotonic_increasing and known.isna().iloc[-1], "of those in doubt the least agreed on come first"


def test_other_rows_stay_and_those_of_lost_masks_go(tmp_path: Path, predictor: Predictor) -> None:
    for name in ("a", "b", "c"):
        write_half_bright(tmp_path / f"{name}.mha")
        predict_path(tmp_path / f"{name}.mha", tmp_path / "out", pooled(), network="two")
    before = rows(tmp_path / "out")
    (tmp_path / "out" / "c.mha").unlink()
    predict_path(tmp_path / "b.mha", tmp_path / "out", predictor, network="one")
    after = rows(tmp_path / "out")
    assert set(after["mask"]) == {"a.mha", "b.mha"}
    assert (after.loc["a.mha"].astype(str) == before.loc["a.mha"].astype(str)).all()
    assert tuple(after.loc["b.mha", ["network", "agreement", "doubtful"]]) == ("one", "", "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mha", "b.mha", TABLE}, "and no lock"


def test_images_are_called_as_they_are_given(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((40, 30), 90, np.uint8)).save(tmp_path / "in" / "photo.jpg")
    write_half_bright(tmp_path / "store.mha")
    (tmp_path / "in" / "linked.mha").symlink_to(tmp_path / "store.mha")
    predict_path(tmp_path / "in", tmp_path / "out", predictor)
    assert {row.mask: row.image for row in rows(tmp_path / "out").itertuples()} == {
        "photo.png": "photo.jpg",
        "linked.mha": "linked.mha",
    }
    image = read_volume(tmp_path / "store.mha")
    (tmp_path / "1.2.840.1").mkdir()
    (tmp_path / "1.2.840.1" / "IM0001").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setattr(masks, "read_volume", lambda path: image)
    monkeypatch.chdir(tmp_path / "1.2.840.1")
    predict_path(".", tmp_path / "out", predictor)
    assert rows(tmp_path / "out").loc["1.2.840.1.nii.gz", "image"] == "1.2.840.1"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_and_names_with_signs_of_a_table(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    names = ["m\udce9d.png", 'a,"b".png', "c\rd.png", "NA.png", "z.png"]
    for name in names:
        Image.fromarray(np.full((40, 30), 90, np.uint8)).save(tmp_path / "in" / name)
    for _ in range(2):
        assert len(predict_path(tmp_path / "in", tmp_path / "out", predictor)) == 5
        assert sorted(MaskTable(tmp_path / "out").rows()["mask"]) == sorted([r"m\udce9d.png", *names[1:]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"patient,age\n1,40\n", "is not a table that predict wrote"),
        (b"", r"cannot be read as CSV .* Rename it"),
        (b"a,b\n1,2,3\n", "cannot be read as CSV"),
        (";".join(COLUMNS).encode(), ".*or other signs between them"),
    ],
)
def test_a_table_of_somebody_else_is_kept_and_said_before_anything_is_drawn(
    tmp_path: Path, predictor: Predictor, content: bytes, words: str
) -> None:
    write_half_bright(tmp_path / "scan.mha")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / TABLE).write_bytes(content)
    with pytest.raises(DataError, match=f"{TABLE}: {words}"):
        predict_path(tmp_path / "scan.mha", tmp_path / "out", predictor)
    assert (tmp_path / "out" / TABLE).read_bytes() == content and len(list((tmp_path / "out").iterdir())) == 1


def test_a_file_where_the_folder_should_be_is_said_of_it(tmp_path: Path, predictor: Predictor) -> None:
    write_half_bright(tmp_path / "scan.mha")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="a part of this path is a file, not a folder"):
        predict_path(tmp_path / "scan.mha", tmp_path / "out", predictor)


def test_an_older_mask_that_stays_keeps_its_row(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    write_half_bright(tmp_path / "scan.mha")
    predict_path(tmp_path / "scan.mha", tmp_path / "out", pooled(), network="two")
    before = (tmp_path / "out" / TABLE).read_bytes()

    def full(*given: object) -> None:
        raise DataError(tmp_path / "out" / "scan.mha", "the disk is full", "Free some space.")

    monkeypatch.setattr(masks, "write_volume", full)
    with pytest.raises(DataError, match="disk is full"):
        predict_path(tmp_path / "scan.mha", tmp_path / "out", predictor, network="one")
    assert (tmp_path / "out" / TABLE).read_bytes() == before


class Killed(BaseException):
    """As a signal ends a process: nothing catches it."""


def test_who_is_killed_between_mask_and_row_leaves_no_row_of_another_mask(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_half_bright(tmp_path / "scan.mha")
    write_half_bright(tmp_path / "other.mha")
    for name in ("other", "scan"):
        predict_path(tmp_path / f"{name}.mha", tmp_path / "out", pooled(), network="two")

    def write_and_die(*given: object) -> None:
        write_volume(*given)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(masks, "write_volume", write_and_die)
        predict_path(tmp_path / "scan.mha", tmp_path / "out", predictor, network="one")
    assert list(rows(tmp_path / "out")["mask"]) == ["other.mha"]
    predict_path(tmp_path / "scan.mha", tmp_path / "out", predictor, network="one")
    assert set(rows(tmp_path / "out")["mask"]) == {"other.mha", "scan.mha"}


def test_a_table_that_cannot_be_written_costs_no_other_mask(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        write_half_bright(tmp_path / "in" / f"{name}.mha")
    save, left = MaskTable._save, [1, 0, 1]

    def fails_once(self: MaskTable, table: pd.DataFrame) -> None:
        if not left.pop():
            raise DataError(self.path, "permission denied", "Close it.")
        save(self, table)

    monkeypatch.setattr(MaskTable, "_save", fails_once)
    with pytest.raises(KitError, match="2 of 3 images were segmented, into .*out; these were not: .*permission denied"):
        predict_path(tmp_path / "in", tmp_path / "out", predictor)
    assert len(rows(tmp_path / "out")) == 2
