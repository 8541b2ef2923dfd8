"""The source's study: who does what in a fold, what is kept, and its tables, on made-up volumes of seven boxes."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.planes import PLANES, ChannelVolume
from spider_utils.ensemble.planes import FusionTraining, PlaneFusion
from spider_utils.errors import DataError, KitError
from spider_utils.files import sha256_of
from spider_utils.measure.levels import NoLevelsError
from spider_utils.runtime import PROFILES
from spider_utils.training.checkpoints import read_tensors, write_tensors
from spider_utils.training.loop import _Run
from spider_utils.triplanar import (
    ALL,
    FUSED,
    FUSIONS,
    LOWEST,
    MEAN,
    METHODS,
    NAMED,
    PART,
    SETTINGS,
    Fold,
    TriplanarStudy,
    fallbacks,
    keep_by_rule,
    lost_discs,
    make_folds,
    printed,
    rules,
    table1,
    table2,
)
from spider_utils.triplanar import study as study_module
from spider_utils.triplanar.lessons import by_position, fall_to_ends, sacral, size_curve, unlabelled, weights_at_work

SPACING = (4.0, 2.5, 2.5)
TINY = replace(
    SETTINGS["smoke"],
    options={"encoder": "tu-test_resnet", "decoder_channels": [8, 8, 8, 8]},
    epochs=1,
    steps_per_epoch=3,
    step_pixels=2000,
    fusion_steps=5,
)


def boxes(n, sacral=False):
    """n discs of 32 x 7.5 x 30 mm, 30 mm apart, numbered from below; with a sacral one the lowest is 99, small and near."""
    mask = np.zeros((12, 108, 24), np.uint8)
    for k in range(n):
        top = 100 - 12 * k
        if sacral and k == 0:
            mask[4:8, 97:99, 8:14] = 99
        else:
            mask[2:10, top : top + 3, 6:18] = k + 1 - sacral
    return mask


def patient(number):
    """Bright boxes in noise; the eighth is in the picture, but not in the mask."""
    mask, rng = boxes(8), np.random.default_rng(number)
    image = np.clip(rng.normal(60, 20, (3, *mask.shape)) + 120 * (mask > 0), 0, 255).astype(np.uint8)
    return ChannelVolume(f"{number:02d}", number, image, np.where(mask == 8, 0, mask), SPACING)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    volumes = {number: patient(number) for number in range(1, 7)}
    return TriplanarStudy(volumes, tmp_path_factory.mktemp("runs"), TINY, {"kind": "boxes", "fingerprint": "1"}, device="cpu")


def test_sixteen_patients_in_four_folds():
    folds = make_folds(range(1, 17))
    assert [(len(f.train), len(f.learn), len(f.check), len(f.test)) for f in folds] == [(8, 2, 2, 4)] * 4
    assert sorted(patient for fold in folds for patient in fold.test) == list(range(1, 17))
    for fold in folds:
        parts = [set(part) for part in (fold.train, fold.learn, fold.check, fold.test)]
        assert set.union(*parts) == set(range(1, 17)) and sum(map(len, parts)) == 16
    assert len({fold.facts["fingerprint"] for fold in folds}) == 4
    # Each fusion has teachers of its own: everybody holds back once, to learn or to check.
    assert sorted(patient for fold in folds for patient in (*fold.learn, *fold.check)) == list(range(1, 17))
    assert make_folds(range(16, 0, -1)) == folds and make_folds(range(1, 17), seed=1) != folds


@pytest.mark.parametrize("n", [6, 9, 13, 16, 23])
def test_no_two_folds_learn_from_the_same_patients_and_nobody_does_two_things(n):
    folds = make_folds(range(n))
    assert len({fold.learn for fold in folds}) == len({fold.check for fold in folds}) == 4
    for fold in folds:
        everybody = [*fold.train, *fold.learn, *fold.check, *fold.test]
        assert sorted(everybody) == list(range(n)) and fold.learn and fold.check
    times = np.bincount([patient for fold in folds for patient in (*fold.learn, *fold.check)], minlength=n)
    assert times.max() - times.min() <= 1


def test_folds_of_few_patients():
    assert [(len(f.train), len(f.learn), len(f.check), len(f.test)) for f in make_folds(range(6))][0] == (2, 1, 1, 2)
    with pytest.raises(KitError, match="4 folds .* need more than 3 patients"):
        make_folds(range(3))
    with pytest.raises(KitError, match="a patient is in two of its parts"):
        Fold(0, (1, 2), (3,), (4,), (2,))
    with pytest.raises(KitError, match="patients to train and patients to test"):
        Fold(0, (1, 2), (3,), (4,), ())


def test_printed_tables_hold_together():
    table1, tables = (
        printed("table1").set_index("plane")["dice"],
        printed("tables2to4").pivot(index="disc", columns="table", values="dice"),
    )
    assert table1.to_dict() == {"sagittal": 0.81, "axial": 0.81, "coronal": 0.77, "ensemble": 0.915}
    means = tables.drop(index="mean").mean()
    np.testing.assert_allclose(means, tables.loc["mean"], atol=0.0006)
    assert tables.loc["mean", 2] == table1["ensemble"]  # so a mean is over discs first
    with pytest.raises(KitError, match="Known are: table1, tables2to4"):
        printed("table9")


def kept(mask, rule, n=7, volume=None):
    """What is left by a rule that needed no other."""
    left, by = keep_by_rule(mask, volume or patient(1), rule, n)
    assert by == rule
    return left


def test_rules():
    eight, nine, volume = boxes(8) > 0, boxes(9, sacral=True), patient(1)
    assert np.array_equal(kept(eight, ALL), eight)
    # The highest labelled disc begins in row 28; 6 mm are two rows (2.4), and the eighth disc lies in rows 16 to 18.
    assert volume.first_labelled_row == 26 and np.array_equal(kept(eight, PART), eight & (boxes(8) < 8))
    assert kept(np.ones_like(eight), PART).any(axis=(0, 2)).tolist() == [False] * 26 + [True] * 82
    for rule in (LOWEST, NAMED):
        assert np.array_equal(kept(eight, rule), np.isin(boxes(8), range(1, 8)))
        assert not kept(np.zeros_like(eight), rule).any()
    assert np.array_equal(kept(nine > 0, LOWEST), (nine == 99) | ((nine > 0) & (nine < 7)))
    assert np.array_equal(kept(eight, LOWEST, 5), np.isin(boxes(8), range(1, 6)))
    with pytest.raises(KitError, match="unknown rule 'best'"):
        keep_by_rule(eight, volume, "best")


def test_where_nothing_can_be_named_the_lowest_are_kept_and_it_is_said(monkeypatch):
    fine, crumb = replace(patient(1), spacing=(1.0, 1.0, 1.0)), np.zeros((12, 108, 24), bool)
    crumb[5, 50, 10] = True  # 1 mm3: less than name_levels looks at, and less than a piece
    left, by = keep_by_rule(crumb, fine, NAMED)
    assert by == LOWEST and not left.any()

    def mistake(*_):
        raise ValueError("give (slice, row, column)")

    monkeypatch.setattr(rules, "name_levels", mistake)
    with pytest.raises(ValueError, match="give"):  # an error of the caller is none of the mask
        keep_by_rule(boxes(8) > 0, patient(1), NAMED)


def test_fallbacks_are_counted(study, monkeypatch):
    def names(mask, *_):
        raise NoLevelsError("nothing")

    monkeypatch.setattr(study, "mask", lambda method, fold, patient: (boxes(8) > 0) & (method != "axial"))
    monkeypatch.setattr(rules, "name_levels", names)
    scores = study.scores(("sagittal", "axial"), rule=NAMED)
    assert (scores["rule"] == NAMED).all()
    assert fallbacks(scores).to_dict() == {"sagittal": len(study.folds[0].test), "axial": 0}  # an empty mask needs no names
    assert fallbacks(study.scores(("sagittal", "axial"), rule=PART)).sum() == 0


def again(study, settings=TINY, folder=None):
    """A study with nothing in memory, on the same folder."""
    return TriplanarStudy(study.volumes, folder or study.folder, settings, study.data, study.folds, device="cpu")


def counted(monkeypatch, owner, name):
    """The list that a call of ``owner.name`` adds an entry to."""
    calls, real = [], getattr(owner, name)

    def call(*arguments, **options):
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_runs_say_who_trained_them_and_are_not_trained_twice(study, monkeypatch):
    fold = study.folds[0]
    run = study.train(fold, "axial")
    assert run.folder == study.folder / "fold0-axial" and run.card["patients"] == list(fold.train) and run.card["cropped"]
    fits, trainings = counted(monkeypatch, study_module, "fit"), counted(monkeypatch, _Run, "train")
    study.train(fold, "axial")
    assert (len(fits), len(trainings)) == (0, 0)  # known
    assert again(study).train(fold, "axial").card == run.card
    assert (len(fits), len(trainings)) == (1, 0)  # found
    fewer = study.train(fold, "axial", fold.train[:1])
    assert fewer.folder.name == "fold0-axial-1patients" and len(trainings) <= 1
    trainings.clear()
    longer = again(study, replace(TINY, steps_per_epoch=4)).train(fold, "axial", fold.train[:1])
    assert longer.folder == fewer.folder and len(trainings) == 1
    with pytest.raises(KitError, match="fold 0 trains with"):
        study.train(fold, "axial", fold.test)


def test_no_prediction_of_a_patient_that_trained(study):
    fold = study.folds[0]
    run = study.train(fold, "axial")
    found = study.probability(run, fold.test[0])
    assert found.dtype == np.float16 and found.shape == study.volumes[fold.test[0]].mask.shape
    assert (run.folder / f"probability-{fold.test[0]}.npy").is_file()
    with pytest.raises(KitError, match=f"was trained on patient {fold.train[0]}: its predictions there mean nothing"):
        study.probability(run, fold.train[0])


def test_other_patients_train_in_a_folder_of_their_own(study):
    fold = study.folds[0]
    first, second = (study.train(fold, "axial", [patient]) for patient in fold.train)
    assert first.folder != second.folder and study.train(fold, "axial", fold.train[:1]).folder == first.folder
    for run, patient in ((first, fold.train[0]), (second, fold.train[1])):
        with pytest.raises(KitError, match=f"was trained on patient {patient}"):
            study.probability(run, patient)
    with pytest.raises(KitError, match="not with nobody"):
        study.train(fold, "axial", [])


def test_a_mask_belongs_to_its_fold(study):
    fold = study.folds[0]
    tested = fold.test[0]
    assert study.mask("axial", fold, tested).any()
    other = Fold(1, (tested, fold.train[0]), fold.learn, fold.check, fold.train[1:2])
    with pytest.raises(KitError, match=f"was trained on patient {tested}"):
        study.mask("axial", other, tested)


def test_fusions_are_kept_until_a_network_or_a_setting_changes(study, tmp_path, monkeypatch):
    study.fusion(study.folds[0])
    folder, fold = Path(shutil.copytree(study.folder, tmp_path / "runs")), study.folds[0]
    made = counted(monkeypatch, study_module, "train_fusion")
    again(study, folder=folder).fusion(fold)
    assert not made
    longer = replace(TINY, fusion_steps=6)
    for _ in range(2):
        again(study, longer, folder).fusion(fold)
    assert len(made) == 1 and made[0][-1] == FusionTraining(steps=6, seed=0)
    with monkeypatch.context() as patch:  # what nobody names counts as well
        patch.setattr(study_module, "FusionTraining", functools.partial(FusionTraining, learning_rate=0.5))
        again(study, longer, folder).fusion(fold)
    assert len(made) == 2
    again(study, longer, folder).fusion(fold)
    assert len(made) == 3
    weights, notes = read_tensors(folder / "fold0-coronal" / "model.safetensors", "")
    write_tensors(
        folder / "fold0-coronal" / "model.safetensors", {k: v + 1 if k.endswith("bias") else v for k, v in weights.items()}
    )
    for _ in range(2):
        again(study, longer, folder).fusion(fold)
    assert len(made) == 4


def test_a_fusion_says_what_made_it_in_its_own_file(study):
    fold = study.folds[0]
    study.fusion(fold)
    path = study.folder / "fold0-fused.safetensors"
    assert not list(study.folder.glob("*.json"))  # one file: weights and notes cannot belong to two trainings
    notes = PlaneFusion.notes(path)
    identity = notes["identity"]
    assert identity["patients"] == {"train": list(fold.train), "learn": list(fold.learn), "check": list(fold.check)}
    assert identity["training"] == {"steps": 5, "learning_rate": 0.01, "crop": 24, "batch": 4, "seed": 0}
    assert identity["design"] == {"kernel": 3, "hidden": 16, "positions": True} and identity["data"] == study.data
    assert identity["networks"] == {
        f"fold0-{plane}": sha256_of(study.folder / f"fold0-{plane}" / "model.safetensors") for plane in PLANES
    }
    assert notes["versions"]["torch"] and notes["history"][-1]["step"] == 5
    path.with_name("half.safetensors").write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="is damaged .* Delete the file"):
        PlaneFusion.notes(path.with_name("half.safetensors"))


def test_tables_have_the_sources_form(study, monkeypatch):
    # Masks by hand: the sagittal network finds all, the axial one misses the lowest disc, the coronal one half of each.
    def mask(method, fold, patient):
        found = boxes(8) > 0
        if method == "axial":
            found[:, 96:] = False
        elif method == "coronal":
            found[:6] = False
        return found

    monkeypatch.setattr(study, "mask", mask)
    scores = study.scores((*PLANES, FUSED), rule=LOWEST)
    table = table1(scores).set_index("method")
    n = len(study.folds[0].test)
    assert table.index.tolist() == ["sagittal", "axial", "coronal", "fused"] and (table["patients"] == n).all()
    assert table["printed"].tolist() == [0.81, 0.81, 0.77, 0.915]
    assert table.loc["sagittal", "mean"] == table.loc["fused", "mean"] == 1 and table.loc["sagittal", "gain"] == 0
    assert table.loc["coronal", "mean"] == pytest.approx(2 / 3) and table.loc["coronal", "gain_low"] == pytest.approx(1 / 3)
    # Lowest seven: the axial network's seventh piece is the eighth disc, which counts against the seventh true one.
    assert table.loc["axial", "mean"] == pytest.approx((0 + 5 * 1 + 2 / 3) / 7)
    by_level = table2(scores, "axial")
    assert by_level["disc"].tolist() == ["1", "2", "3", "4", "5", "6", "7", "mean"]
    assert by_level["mean"].tolist() == pytest.approx([0, 1, 1, 1, 1, 1, 2 / 3, (5 + 2 / 3) / 7])
    assert by_level["name"].iloc[[0, -1]].tolist() == ["L5/S1", "mean of 7 discs"]
    assert by_level["printed"].iloc[[0, -1]].tolist() == [0.898695, 0.915]


def test_errors_by_place_with_intervals_over_patients(study, monkeypatch):
    first, second = study.folds[0].test

    def mask(method, fold, patient):
        found = boxes(8) > 0
        if method == "coronal":  # half of each disc in both patients; all of it in one, and nothing in the other
            found[:6] = False
        elif patient == second:
            found[:] = False
        return found

    monkeypatch.setattr(study, "mask", mask)
    table = by_position(study, ("axial", "coronal"), bins=2).set_index(["method", "direction", "position"])
    for place, dice in ((-0.5, 0), (0.5, 1)):
        assert table.loc[("coronal", "sagittal", place)].tolist() == [dice] * 3
    assert table.loc[("coronal", "axial", 0.5)].tolist() == pytest.approx([2 / 3] * 3)
    # Drawn are twice the first (1), one of each (2 n of 3 n voxels) or twice the second (0), one time in four, two and four.
    assert table.loc[("axial", "axial", 0.5)].tolist() == pytest.approx([2 / 3, 0, 1])


def test_how_much_a_plane_loses_towards_the_ends_of_its_normal(study, monkeypatch):
    def mask(method, fold, patient):
        found = boxes(8) > 0
        if method == "sagittal":  # 4 of the 8 slices
            found[[2, 3, 8, 9]] = False
        elif method == "axial":  # a row too many above and below, which lie beyond the ends
            found |= np.roll(found, 1, axis=1) | np.roll(found, -1, axis=1)
        return found

    monkeypatch.setattr(study, "mask", mask)
    table = fall_to_ends(study, bins=3).set_index("direction")
    # Slices lie at 1/8, 3/8, 5/8, 7/8 of the half: at the ends one of three is found. Rows: one right and one too many there.
    expected = {"sagittal": (1 - 2 / 4, 0), "axial": (1 - 2 / 3, 0), "coronal": (0, 0)}
    for direction, (own, others) in expected.items():
        row = table.loc[direction]
        assert row[["own", "others", "fused"]].tolist() == pytest.approx([own, others, 0])
        assert row[["difference", "low", "high"]].tolist() == pytest.approx([own - others] * 3)


def test_unlabelled_and_sacral_discs_are_measured(study, monkeypatch):
    everything = {number: boxes(8) for number in study.volumes}
    monkeypatch.setattr(study, "probability", lambda run, patient: (boxes(8) > 0).astype(np.float16))
    table = unlabelled(study, everything)
    assert table["training"].unique().tolist() == ["cropped", "as labelled"] and (table["found_above"] == 1).all()
    assert (table["extra_mm3"] == 8 * 3 * 12 * 25).all() and (table["dice_seventh"] == 1).all()
    assert table["dice_seventh_all"].tolist() == pytest.approx([2 / 3] * len(table))  # the eighth burdens the seventh


def test_a_sacral_disc_costs_the_lowest_seven_their_top_one(study, monkeypatch):
    # Truth one disc further up, so that there is room for a sacral disc below: the discs above the seventh leave the picture.
    nine = boxes(9, sacral=True)
    volumes = {
        k: replace(one, mask=np.where((nine > 0) & (nine < 8), nine, 0).astype(np.uint8)) for k, one in study.volumes.items()
    }
    other = TriplanarStudy(volumes, study.folder, TINY, study.data, study.folds, device="cpu")
    monkeypatch.setattr(other, "mask", lambda method, fold, patient: (nine > 0) & (nine < 9))
    table = sacral(other, dict.fromkeys(volumes, nine)).set_index(["patient", "mask", "rule"])
    assert len(table) == 4 * len(study.folds[0].test) and (table["sacral_found"] == 0).all()
    for patient in study.folds[0].test:
        assert (table.loc[(patient, "as found"), "mean"] == 1).all()
        lowest, named = (table.loc[(patient, "sacral disc added", rule)] for rule in (LOWEST, NAMED))
        assert lowest["seventh"] == 0 and lowest["first"] == pytest.approx(2 * 288 / (2 * 288 + 48)) and named["mean"] == 1
    without = sacral(other, dict.fromkeys(volumes, np.where(nine == 99, 0, nine)))
    assert without.empty and set(without.columns) == set(table.reset_index().columns)
    assert lost_discs(other.scores([FUSED], ALL)).to_dict() == {FUSED: 0}


def test_weights_at_work_share_out_between_planes(study):
    weights, shares = weights_at_work(study, voxels=50, bins=2)
    assert weights.shape == (3, 5, 5, 5) and np.isfinite(weights).all()
    assert shares.index.tolist() == list(PLANES) and shares.columns.tolist() == [-0.5, 0.5]
    linear, _ = weights_at_work(study, "weights voxel by voxel", voxels=10)
    weight = study.fusion(study.folds[0], "weights voxel by voxel").layers[0].weight.detach().numpy()[..., 0, 0, 0]
    np.testing.assert_allclose(linear[:, 2, 2, 2], weight[1] - weight[0], rtol=1e-5)
    assert np.count_nonzero(linear) == 3


def test_the_curve_counts_patients_and_all_train_equally_long(study):
    curve = size_curve(study)
    assert curve["patients"].tolist() == [1, 2] and (curve["tested"] == 3).all()
    runs = [study.train(study.folds[0], "sagittal", study.folds[0].train[:n]) for n in (1, 2)]
    assert len({tuple(run.history["learning_rate"]) for run in runs}) == 1


def test_a_small_set_borrows_fusions_and_first_weights(study, tmp_path):
    fold = Fold(0, (1,), (), (), (2,))
    small = TriplanarStudy({k: study.volumes[k] for k in (1, 2)}, tmp_path, TINY, {"kind": "small"}, [fold], study, "cpu")
    run = small.train(fold, "coronal")
    assert run.card["starts_from"]["run"] == "fold0-coronal"
    ours, theirs = small.fusion(fold), study.fusion(study.folds[0])
    assert all((a == b).all() for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert small.mask(MEAN, fold, 2).shape == study.volumes[2].mask.shape


def test_the_command_trains_a_study_and_writes_its_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    monkeypatch.setitem(PROFILES, "smoke", replace(PROFILES["smoke"], disc_patients=4, disc_voxel_mm=4.0))
    monkeypatch.setitem(SETTINGS, "smoke", TINY)
    trainings = counted(monkeypatch, _Run, "train")

    def kit(*arguments):
        return CliRunner().invoke(cli.app, ["triplanar", *arguments, "--profile", "smoke"])

    said = kit("train", "--fold", "0")
    assert said.exit_code == 0, said.output
    runs = tmp_path / "runs" / "smoke-triplanar"
    assert said.stdout.splitlines()[-3:] == [str(runs / f"fold0-{plane}") for plane in PLANES] and len(trainings) == 3
    assert {path.name for path in runs.glob("*.safetensors")} == {
        f"fold0-{name.replace(' ', '-')}.safetensors" for name in FUSIONS
    }
    refused = kit("train", "--fold", "1")
    assert isinstance(refused.exception, KitError) and "there is no fold 1" in str(refused.exception)
    said = kit("tables", "--out", str(tmp_path / "tables"))
    assert said.exit_code == 0, said.output
    assert len(trainings) == 3  # those that `train` left
    first = pd.read_csv(tmp_path / "tables" / "table1.csv")
    assert first["method"].tolist() == list(METHODS) and first["printed"].tolist()[:3] == [0.81, 0.81, 0.77]
    second = pd.read_csv(tmp_path / "tables" / "table2.csv", dtype={"disc": str})
    fused = first.set_index("method").loc[FUSED]
    assert second["disc"].tolist()[-1] == "mean" and second["mean"].iloc[-1] == pytest.approx(fused["mean"])
    assert {path.stem for path in (tmp_path / "tables").glob("*.csv")} == {"table1", "table2", "table1-lowest", "table1-named"}
    assert "table1-named:" in said.stdout and "kept as 'lowest' instead: " in said.stdout  # networks of three steps find crumbs
