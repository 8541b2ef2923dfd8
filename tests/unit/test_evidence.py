"""The recipe of the kit's own weights, followed with tiny trainings: what starts from what, who is scored by whom, the pack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.cli.weights import ProductName
from spider_utils.data.mend import mend_lines, mended_series, write_mended
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError, KitError
from spider_utils.evidence import millimetres
from spider_utils.evidence import mixed as mixing
from spider_utils.evidence import pack as packing
from spider_utils.evidence.limits import limits, write_worst
from spider_utils.evidence.mixed import MADE_UP
from spider_utils.evidence.recipe import RECIPE, Kitchen, Step, all_but_two
from spider_utils.evidence.score import (
    ALONE,
    AS_SERIES,
    BY_LEVEL,
    MENDED,
    RELEASED,
    UNADVISED,
    choices_of_share,
    choices_of_tidy,
    cross_validated,
    fold_predictor,
    mean_scores,
    names_of_levels,
    of_levels,
    on_everyone,
    segmented,
)
from spider_utils.evidence.sim_to_real import epochs_for, ladder, training_sizes
from spider_utils.evidence.trust import TRUST_COLUMNS, by_band, on_patients, rank_correlation
from spider_utils.labels import convert
from spider_utils.measure.levels import name_levels
from spider_utils.measure.report import measure
from spider_utils.models import build_model
from spider_utils.models.shipped import SHIPPED_FOLDER, shipped
from spider_utils.predict import PooledPredictor, Predictor, load_predictor
from spider_utils.tidy import Tidy
from spider_utils.training.checkpoints import load_model, read_card
from tests.known_labels import SPACING, box_spine

TINY_STEP = Step((32, 32), None, 1, 16, batch_size=8, learning_rate=1e-3, slice_gap_mm=3.0, augment="none")
TINY = replace(
    RECIPE,
    phantoms=7,
    phantom_size="small",
    options={"widths": [4, 8], "pixel_shuffle": 2},
    coarse=TINY_STEP,
    real=replace(TINY_STEP, size=(48, 32), slice_gap_mm=0.0),
    again=replace(TINY_STEP, size=(48, 32), slice_gap_mm=0.0),
    fine=replace(TINY_STEP, size=(64, 48), slice_gap_mm=0.0),
    wide=replace(TINY_STEP, size=(64, 48), slice_gap_mm=0.0, augment="contrasts"),
    levels=TINY_STEP,
    mixed=replace(TINY_STEP, size=(48, 32), slice_gap_mm=0.0),
)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    """Seven tiny phantoms, and eight patients with two released slices each."""
    home = tmp_path_factory.mktemp("home")
    root, rng, rows = home / "released", np.random.default_rng(0), []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for patient in range(1, 9):
        for number in (5, 6):
            mask = np.zeros((64, 51), np.uint8)
            mask[10:20, 10:30], mask[22:26, 10:30], mask[:, 35:39] = 76, 29, 150
            if (patient, number) == (3, 5):
                mask[21, 12:18] = 150  # a line of canal on the disc
            for folder, array in (("images", rng.integers(0, 256, mask.shape, dtype=np.uint8)), ("masks", mask)):
                Image.fromarray(array).save(root / folder / f"{patient}_t2_SPACE_slice{number}.png")
        rows.append((patient, 51, 64, 51, 64))
    columns = ["patient", "width", "height", "native_width", "native_height"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "cases.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDER_KIT_HOME", str(home))
        yield Kitchen(home, str(root), TINY)


def test_real_trainings_start_from_the_phantoms_and_leave_their_test_patients_out(kitchen):
    first = Path(kitchen.coarse().folder).name
    tested = []
    for number in range(5):
        split, run = kitchen.fold(number)
        runs = kitchen.home / "runs"
        before = read_card(runs / run.card["starts_from"]["run"])
        start = read_card(runs / before["starts_from"]["run"])
        assert start["starts_from"]["run"] == first and start["split"] == before["split"] == run.card["split"]
        fine, wide = run.card["averaged"]
        assert (fine["share"], fine["augment"], wide["share"], wide["augment"]) == (0.5, "none", 0.5, "contrasts")
        assert [read_card(runs / one["run"])["data"] for one in (fine, wide)] == [fine["data"], wide["data"]]
        assert fine["data"]["fingerprint"] != wide["data"]["fingerprint"], "masks were mended"
        assert (start["size"], before["size"], run.card["size"]) == ([48, 32], [48, 32], [64, 48])
        assert run.card["split"]["fingerprint"] == split.fingerprint
        tested += split.patients("test")
    assert sorted(tested) == list(range(1, 9)), "each patient is tested once"


def test_everyone_is_scored_once_by_a_network_that_has_not_seen_him(kitchen):
    scores = cross_validated(kitchen)
    assert scores.groupby("patient")["fold"].nunique().tolist() == [1] * 8
    for number in range(5):
        split, run = kitchen.fold(number)
        own = kitchen.real.measure(replace(load_predictor(run.folder), tidy=kitchen.recipe.tidy.of_slices), split)[0]
        there = scores[(scores["fold"] == number) & (scores["shown"] == ALONE)].drop(columns=["fold", "shown"])
        pd.testing.assert_frame_equal(there.reset_index(drop=True), own, check_dtype=False)
        assert not set(there["patient"]) & set(split.patients("train") + split.patients("val"))


def test_only_networks_of_phantoms_are_scored_on_everyone(kitchen):
    assert sorted(on_everyone(kitchen, kitchen.coarse())["patient"].unique()) == list(range(1, 9))
    with pytest.raises(ValueError, match="has seen real patients"):
        on_everyone(kitchen, kitchen.final())


def test_series_are_scored_with_what_neighbouring_slices_tell(kitchen):
    split, run = kitchen.fold(0)
    predictor = replace(load_predictor(run.folder), tidy=kitchen.recipe.tidy)
    own = kitchen.real.measure(predictor, split)[0]
    scores = cross_validated(kitchen)
    there = scores[(scores["fold"] == 0) & (scores["shown"] == AS_SERIES)].drop(columns=["fold", "shown"])
    pd.testing.assert_frame_equal(there.reset_index(drop=True), own)


def test_masks_of_series_are_scored_against_the_mended_truth_as_well(kitchen):
    scores, masks = cross_validated(kitchen), {}
    for number in range(5):
        split, run = kitchen.fold(number)
        masks |= segmented(kitchen, run, split, AS_SERIES)[1]
    released, mended = (scores[scores["shown"] == shown].set_index(["patient", "name"]) for shown in (AS_SERIES, MENDED))
    assert mended.index.is_unique and set(mended.index) == set(released.index)
    truth, canal = kitchen.real.source.load("3_t2_SPACE").mask.array, (3, "spinal canal")
    assert released.loc[canal, ["tp", "fn"]].sum() - mended.loc[canal, ["tp", "fn"]].sum() == 6
    assert mended.loc[canal, "tp"] == np.count_nonzero((masks["3_t2_SPACE"] == 2) & (mend_lines(truth) == 2))
    assert np.array_equal(mended.drop(index=canal)["dice"], released.drop(index=canal)["dice"][mended.drop(index=canal).index])


def test_a_root_that_is_mended_is_used_as_it_is(kitchen, tmp_path):
    copy = write_mended(kitchen.real.source, tmp_path / "copy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDER_KIT_HOME", str(tmp_path))
        other = Kitchen(tmp_path, str(copy), TINY)
        assert other.mended is other.real and mended_series(copy)
    assert not mended_series(kitchen.real.source.root) and mended_series(kitchen.mended.source.root)


def test_real_patients_stand_beside_as_many_made_up_ones_with_their_levels_counted(kitchen):
    mixed, real = open_source("spider", kitchen.mixed.folder), kitchen.real.source
    is_real = mixed.cases["patient"] < MADE_UP
    assert mixed.cases[is_real]["case"].tolist() == real.cases["case"].tolist()
    assert (mixed.cases[~is_real]["patient"] - MADE_UP).tolist() == list(range(1, 8)), "all seven phantoms for eight patients"
    for name in real.cases["case"]:
        given, named = real.load(name), mixed.load(name)
        assert np.array_equal(given.image.array, named.image.array) and given.image.spacing == pytest.approx(named.image.spacing)
        assert np.array_equal(convert(named.mask.array, "spider", "structures4"), given.mask.array)
        assert np.unique(named.mask.array).tolist() == [0, 1, 100, 201], "the lowest vertebra and the disc below it"
    row = mixed.cases[~is_real].iloc[0]
    name = f"{row['patient'] - MADE_UP}_{row['sequence']}"
    twin = kitchen.made_up.source.load(name)
    assert np.array_equal(mixed.load(row["case"]).mask.array, twin.mask.array)


def test_trainings_on_both_start_from_levels_and_test_on_whom_they_have_not_seen(kitchen):
    tested = []
    for number in range(5):
        split, run = kitchen.levels_fold(number)
        whole = kitchen.mixed.split(split)
        assert run.card["split"]["fingerprint"] == whole.fingerprint and run.card["scheme"] == "levels20"
        assert run.card["starts_from"]["run"] == Path(kitchen.levels().folder).name
        assert [whole.patients(one) for one in ("val", "test")] == [split.patients(one) for one in ("val", "test")]
        assert {n for n in whole.patients("train") if n < MADE_UP} == set(split.patients("train"))
        tested += whole.patients("test")
    assert sorted(tested) == list(range(1, 9)), "each real patient is tested once, and nobody made up"


def test_the_numbers_of_tidy_are_chosen_by_validation_patients(kitchen):
    scores = choices_of_tidy(kitchen, (0.0, 1.3), (0.1,))
    validating = {patient for number in range(5) for patient in kitchen.fold(number)[0].patients("val")}
    assert {patient for _, rows in scores.groupby("across_mm") for patient in rows["patient"]} == validating
    split, run = kitchen.fold(1)
    own = kitchen.real.measure(replace(load_predictor(run.folder), tidy=Tidy(1.3, 0.1)), split, "val")[0]
    there = scores[(scores["fold"] == 1) & (scores["across_mm"] == 1.3)].drop(columns=["fold", "across_mm", "canal_share"])
    pd.testing.assert_frame_equal(there.reset_index(drop=True), own)


def test_the_share_of_random_contrasts_is_weighed_on_validation_patients(kitchen):
    scores = choices_of_share(kitchen, (0.0, 0.5, 1.0))
    split, (fine, wide) = kitchen.third_rounds(1)
    _, mean = kitchen.fold(1)
    for share, run in ((0.0, fine), (0.5, mean), (1.0, wide)):
        own = kitchen.real.measure(replace(load_predictor(run.folder), tidy=kitchen.recipe.tidy), split, "val")[0]
        there = scores[(scores["fold"] == 1) & (scores["wide_share"] == share)].drop(columns=["fold", "wide_share"])
        pd.testing.assert_frame_equal(there.reset_index(drop=True), own)
    assert set(scores["fold"]) == set(range(5))


def test_the_networks_of_levels_are_scored_in_classes_and_by_level(kitchen):
    scores = of_levels(kitchen)
    assert set(scores["shown"]) == {AS_SERIES, MENDED, UNADVISED, BY_LEVEL}
    for shown in (AS_SERIES, UNADVISED):
        in_classes = scores[scores["shown"] == shown]
        assert set(in_classes["name"]) == {"vertebra", "spinal canal", "disc"} and set(in_classes["patient"]) == set(range(1, 9))
    by_level = scores[scores["shown"] == BY_LEVEL]
    assert {"L5", "disc L5/S1"} <= set(by_level["name"])
    assert by_level.groupby("patient")["fold"].nunique().tolist() == [1] * 8


def test_a_fold_asks_the_network_of_classes_that_has_not_seen_its_patients_either(kitchen):
    (split, run), (same, second) = kitchen.levels_fold(2), kitchen.fold(2)
    assert split.fingerprint == same.fingerprint
    networks, weight = [Predictor.load(one.folder) for one in (run, second)], kitchen.recipe.second_weight
    asked = PooledPredictor(*networks, weight, tidy=kitchen.recipe.levels_tidy)
    by_level = kitchen.both.measure(asked, kitchen.mixed.split(split))[0]
    scores = of_levels(kitchen)
    there = scores[(scores["fold"] == 2) & (scores["shown"] == BY_LEVEL)].drop(columns=["fold", "shown"])
    pd.testing.assert_frame_equal(there.reset_index(drop=True), by_level)


def test_sizes_are_held_against_the_truth_by_networks_that_have_not_seen_the_patient(kitchen):
    table = millimetres.on_patients(kitchen)
    assert set(table["patient"]) == set(kitchen.real.source.cases["patient"])
    assert set(table["label"]) <= {*range(6), *range(201, 206)}
    for patient, rows in table.groupby("patient"):
        assert patient in kitchen.levels_fold(int(rows["fold"].iloc[0]))[0].patients("test")
    case = kitchen.real.source.load("3_t2_SPACE")
    truth, spacing = mend_lines(case.mask.array), case.mask.spacing
    true = measure(name_levels(truth, spacing, "structures4").mask, spacing).set_index(["label", "quantity"])["value"]
    rows = table[table["patient"] == 3].set_index(["label", "quantity"])
    assert len(rows) > 5 and (rows["truth"] == true.loc[rows.index]).all()


def test_the_commands_say_what_each_row_is_of(kitchen, monkeypatch, tmp_path):
    monkeypatch.setattr("spider_utils.cli.weights._kitchen", lambda root: kitchen)
    measured = millimetres.on_patients(kitchen)
    right = measured.assign(value=measured["truth"] + 1, status="measured")  # these networks draw nothing that can be measured
    monkeypatch.setattr(millimetres, "on_patients", lambda kitchen: right)
    said = CliRunner().invoke(cli.app, ["weights", "millimetres", "--out", str(tmp_path / "sizes.csv")])
    assert said.exit_code == 0 and "discs called herniated: " in said.output
    name = next(one for one in millimetres.QUANTITIES if (right["quantity"] == one).sum() > 1)
    (row,) = [line.split() for line in said.output.splitlines() if line.strip().startswith(f"{name} ")]
    assert row[-1] == row[-5] == "1.00", "worst and median"
    assert set(pd.read_csv(tmp_path / "sizes.csv")["patient"]) == set(range(1, 9))
    said = CliRunner().invoke(cli.app, ["weights", "shares"])
    (head,) = [line for line in said.output.splitlines() if "wide_share" in line]
    assert head.split()[:2] == ["wide_share", "name"] and "0.75" in said.output and "spinal canal" in said.output


def test_sizes_of_a_mask_beside_those_of_its_truth():
    truth = box_spine()[1]
    same = millimetres.compare(truth, truth, SPACING)
    assert len(same) and (same["value"] == same["truth"]).all() and (same["status"] == "measured").all()
    taller = np.repeat(truth, 2, axis=1)[:, :200]  # rows twice as high: the upper half of the picture, so with other levels
    heights = millimetres.compare(truth, taller, SPACING).query("quantity == 'body height middle'")
    assert (heights["value"].dropna() > 1.8 * heights["truth"].iloc[0]).all() and len(heights["value"].dropna())
    nothing = millimetres.compare(truth, np.zeros_like(truth), SPACING)
    assert len(nothing) == len(same) and nothing["value"].isna().all() and set(nothing["status"]) == {"not in the table"}
    with pytest.raises(ValueError, match="no vertebra"):
        millimetres.compare(np.zeros_like(truth), truth, SPACING)


def test_agreement_and_dice_are_of_the_same_patient_and_of_networks_that_have_not_seen_him(kitchen):
    table = on_patients(kitchen)
    assert sorted(table["patient"]) == list(range(1, 9)) and set(table["set"]) == {RELEASED}
    scores = of_levels(kitchen)
    wanted = scores[scores["shown"] == AS_SERIES].groupby("case")["dice"].mean()
    assert table.set_index("case")["dice"].to_dict() == pytest.approx(wanted.to_dict(), nan_ok=True)
    agreement = {}
    for number in range(5):
        split, predictor = fold_predictor(kitchen, number)
        for case in table.loc[table["patient"].isin(split.patients("test")), "case"]:
            agreement[case] = predictor.with_agreement(kitchen.real.source.load(case).image)[1].mean()
    assert table.set_index("case")["agreement"].to_dict() == pytest.approx(agreement, nan_ok=True)
    assert table["agreement"].nunique() > 1


def test_agreement_is_held_against_dice() -> None:
    rows = [
        ("a", 1, 0.95, 0.9),
        ("a", 2, 0.85, 0.8),
        ("a", 3, 0.75, 0.85),
        ("b", 4, 0.9, 0.7),
        ("b", 5, float("nan"), float("nan")),
    ]
    table = pd.DataFrame([(one, f"c{n}", n, *rest) for one, n, *rest in rows], columns=list(TRUST_COLUMNS))
    found = rank_correlation(table).set_index("set")
    assert found.loc["a", "rho"] == pytest.approx(0.5) and found.loc["all", "images"] == 4 and np.isnan(found.loc["b", "rho"])
    bands = by_band(table).set_index("agreement")
    assert bands.loc["0.9 and more", ["images", "dice", "lowest"]].tolist() == pytest.approx([2, 0.8, 0.7])
    assert bands.loc["0.8 to 0.9", "images"] == 1 and len(bands) == 3, "of what neither network drew nothing is known"


def test_the_card_of_levels_says_nothing_of_levels_that_nobody_has(kitchen, tmp_path):
    with pytest.raises(KitError, match="levels20 asks structures4, which is not beside"):
        packing.ship("levels20", kitchen, tmp_path / "levels20")
    packing.pack(kitchen.final(), tmp_path / "structures4", {})
    card = read_card(packing.ship("levels20", kitchen, tmp_path / "levels20"))
    assert load_predictor(tmp_path / "levels20").weight == kitchen.recipe.second_weight
    assert [credit["licence"] for credit in card["learned_from"]] == ["Apache-2.0", "CC-BY-4.0"]
    by_level = {row["name"] for row in card["measured"] if row["shown"] == BY_LEVEL and row["metric"] == "dice"}
    assert {"L5", "disc L5/S1", "spinal canal"} <= by_level
    assert all(row["n"] > 0 for row in card["measured"])
    json.dumps(card, allow_nan=False)


def test_a_truth_with_much_that_has_no_level_is_refused(kitchen, tmp_path, monkeypatch):
    monkeypatch.setattr(mixing, "name_levels", lambda mask, spacing: SimpleNamespace(mask=np.where(mask == 3, 0, mask)))
    with pytest.raises(DataError, match="voxels of disc belong to no level"):
        mixing.mixed_set(kitchen.real.source, kitchen.made_up.source, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def test_names_are_asked_of_networks_that_have_not_seen_the_patient(kitchen):
    names = names_of_levels(kitchen)
    assert set(names["count_from"]) == {"own", "lowest"} and sorted(names["patient"].unique()) == [str(n) for n in range(1, 9)]
    assert len(names) == 8 * 2 * 2, "a vertebra and a disc a patient, counted in two ways"


def test_limits_are_of_everyone_and_the_worst_slices_are_drawn(kitchen, tmp_path):
    table, masks = limits(kitchen)
    assert sorted(table["patient"].unique()) == list(range(1, 9)) and len(table) == 8 * 3 and len(masks) == 8
    whole = cross_validated(kitchen)
    whole = whole[whole["shown"] == ALONE].set_index(["case", "name"])["dice"]
    assert table.set_index(["case", "name"])["dice"].to_dict() == pytest.approx(whole.to_dict(), nan_ok=True)
    written = write_worst(tmp_path, kitchen, table, masks, lowest=1)
    assert [path.suffix for path in written] == 3 * [".png"] and all(path.is_file() for path in written)


def test_the_final_training_leaves_out_two_patients():
    split = all_but_two(pd.DataFrame({"patient": [7, 3, 3, 9, 1]}))
    assert [split.patients(subset) for subset in ("train", "val", "test")] == [[1, 3], [7], [9]]


def test_the_ladder_differs_in_what_is_shown_alone(kitchen):
    scores = ladder(kitchen, TINY_STEP, few=2)
    many = len(kitchen.made_up.split().patients("train"))
    found = scores.groupby(["looks", "phantoms"])["patient"].nunique()
    assert found.to_dict() == {(looks, n): 8 for looks in ("hospital", "random") for n in (2, many)}
    table = mean_scores(scores, ("looks", "phantoms")).set_index(["looks", "phantoms", "name", "metric"])
    one = scores[(scores["looks"] == "random") & (scores["phantoms"] == 2) & (scores["name"] == "disc")]
    assert table.loc[("random", 2, "disc", "dice"), "mean"] == pytest.approx(one["dice"].mean()) and len(table) == 4 * 4 * 2
    cards = [read_card(path) for path in sorted((kitchen.home / "runs").glob("*-ladder*")) if path.is_dir()]
    assert len(cards) == 4
    alike = ("size", "options", "augment", "slice_gap_mm", "crop_columns", "scheme")
    assert all(card[key] == cards[0][key] for card in cards for key in alike)
    assert (
        len({card["data"]["fingerprint"] for card in cards}) == 2 and len({card["split"]["fingerprint"] for card in cards}) == 2
    )


def test_training_sizes_share_their_test_patients_and_differ_in_the_start(kitchen):
    scores = training_sizes(kitchen, TINY_STEP, sizes=(1, 3))
    assert set(scores["learned"]) == {1, 3} and set(scores["start"]) == {"random", "phantoms"}
    tested = scores.groupby(["start", "learned"])["patient"].agg(lambda who: tuple(sorted(set(who))))
    assert set(tested) == {tuple(kitchen.real.split("kfold5", fold=0).patients("test"))}
    cards = {path.name: read_card(path) for path in (kitchen.home / "runs").glob("*-sizes*") if path.is_dir()}
    assert {("phantoms" in name) for name, card in cards.items() if "starts_from" in card} == {True}
    assert len(cards) == 4


def test_few_slices_are_shown_in_more_epochs():
    step = replace(TINY_STEP, epochs=8, samples_per_epoch=400, batch_size=8)
    assert [epochs_for(step, n) for n in (20, 23, 24, 400, 500)] == [200, 200, 133, 8, 8]
    assert epochs_for(step, 2) == 1600, "then a batch is smaller"


def test_a_packed_network_predicts_as_its_run_does(kitchen, tmp_path, monkeypatch):
    run = kitchen.final()
    out = packing.ship("structures4", kitchen, tmp_path / "weights" / "structures4")
    model, card = load_model(out)
    image = torch.rand(2, 1, 48, 32)
    with torch.no_grad():
        kept, packed = (torch.softmax(network(image), dim=1) for network in (load_model(run.folder)[0], model))
    assert (kept - packed).abs().max() < 0.01
    assert sum(p.stat().st_size for p in out.iterdir()) < 0.8 * (Path(run.folder) / "model.safetensors").stat().st_size + 20_000
    assert [credit["licence"] for credit in card["learned_from"]] == ["Apache-2.0", "CC-BY-4.0"]
    assert load_predictor(out).field_mm == (300.0, 240.0) and load_predictor(run.folder).field_mm is None
    assert {row["name"] for row in card["measured"]} >= {"vertebra", "disc"} and card["made_by"].startswith(
        "spider-kit weights pack"
    )
    assert all(row["patients"] == 8 for row in card["measured"])
    assert {row["shown"] for row in card["measured"]} == {ALONE, AS_SERIES, MENDED}
    assert load_predictor(out).tidy == kitchen.recipe.tidy and load_predictor(run.folder).tidy is None
    json.dumps(card, allow_nan=False)
    monkeypatch.setattr(packing, "MOST_BYTES", 1000)
    with pytest.raises(KitError, match="are more than 1000"):
        packing.pack(run, out, {})
    assert load_model(out)[1] == card, "what was there stays"


# --------------------------------------------------------------------------------------------------- what comes with the kit


def test_the_networks_that_come_with_the_kit_are_small_told_of_and_open():
    assert set(shipped()) == set(packing.PRODUCTS) == {name.value for name in ProductName}
    assert sum(path.stat().st_size for path in SHIPPED_FOLDER.rglob("*") if path.is_file()) <= packing.MOST_BYTES
    for name, folder in shipped().items():
        card = read_card(folder)
        assert card["what"] == packing.PRODUCTS[name].what and card["measured"] and card["learned_from"]
        second = packing.PRODUCTS[name].second
        advice = {"network": second, "weight": RECIPE.second_weight} if second else None
        assert card.get("second_opinion") == advice
        assert load_predictor(folder).scheme == name.split("-")[0] and load_predictor(folder).tidy == RECIPE.tidy_for(
            card["scheme"]
        )
        assert card["options"] == build_model(card["architecture"], 1, card["n_classes"], **RECIPE.options).spec["options"]
