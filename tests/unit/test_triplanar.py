"""The source's study: who does what in a fold, what is kept, and its tables, on made-up volumes of seven boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spider_utils.data.planes import PLANES, ChannelVolume
from spider_utils.errors import KitError
from spider_utils.triplanar import (
    ALL,
    FUSED,
    LOWEST,
    MEAN,
    NAMED,
    PART,
    SETTINGS,
    Fold,
    TriplanarStudy,
    keep_by_rule,
    lost_discs,
    make_folds,
    printed,
)

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
    assert make_folds(range(16, 0, -1)) == folds and make_folds(range(1, 17), seed=1) != folds


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


def test_rules():
    eight, nine, volume = boxes(8) > 0, boxes(9, sacral=True), patient(1)
    assert np.array_equal(keep_by_rule(eight, volume, ALL), eight)
    # The highest labelled disc begins in row 28; 6 mm are two rows (2.4), and the eighth disc lies in rows 16 to 18.
    assert volume.first_labelled_row == 26 and np.array_equal(keep_by_rule(eight, volume, PART), eight & (boxes(8) < 8))
    assert keep_by_rule(np.ones_like(eight), volume, PART).any(axis=(0, 2)).tolist() == [False] * 26 + [True] * 82
    for rule in (LOWEST, NAMED):
        assert np.array_equal(keep_by_rule(eight, volume, rule), np.isin(boxes(8), range(1, 8)))
        assert not keep_by_rule(np.zeros_like(eight), volume, rule).any()
    assert np.array_equal(keep_by_rule(nine > 0, volume, LOWEST), (nine == 99) | ((nine > 0) & (nine < 7)))
    assert np.array_equal(keep_by_rule(eight, volume, LOWEST, 5), np.isin(boxes(8), range(1, 6)))
    with pytest.raises(KitError, match="unknown rule 'best'"):
        keep_by_rule(eight, volume, "best")


def test_runs_say_who_trained_them_and_are_not_trained_twice(study):
    fold = study.folds[0]
    run = study.train(fold, "axial")
    assert run.folder == study.folder / "fold0-axial" and run.card["patients"] == list(fold.train) and run.card["cropped"]
    before = (run.folder / "model.safetensors").stat().st_mtime_ns
    assert (study.train(fold, "axial").folder / "model.safetensors").stat().st_mtime_ns == before
    assert study.train(fold, "axial", fold.train[:1]).folder.name == "fold0-axial-1patients"
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


def test_fusions_are_kept_until_a_network_changes(study):
    fold = study.folds[0]
    study.fusion(fold)
    path = study.folder / "fold0-fused.safetensors"
    before = path.stat().st_mtime_ns
    study.fusion(fold)
    assert path.stat().st_mtime_ns == before
    more = TriplanarStudy(study.volumes, study.folder, replace(TINY, fusion_steps=6), study.data, study.folds, device="cpu")
    more.fusion(fold)
    assert path.stat().st_mtime_ns > before


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
    table = study.table1(scores).set_index("method")
    n = len(study.folds[0].test)
    assert table.index.tolist() == ["sagittal", "axial", "coronal", "fused"] and (table["patients"] == n).all()
    assert table["printed"].tolist() == [0.81, 0.81, 0.77, 0.915]
    assert table.loc["sagittal", "mean"] == table.loc["fused", "mean"] == 1 and table.loc["sagittal", "gain"] == 0
    assert table.loc["coronal", "mean"] == pytest.approx(2 / 3) and table.loc["coronal", "gain_low"] == pytest.approx(1 / 3)
    # Lowest seven: the axial network's seventh piece is the eighth disc, which counts against the seventh true one.
    assert table.loc["axial", "mean"] == pytest.approx((0 + 5 * 1 + 2 / 3) / 7)
    table2 = study.table2("axial", scores)
    assert table2["disc"].tolist() == ["1", "2", "3", "4", "5", "6", "7", "mean"]
    assert table2["mean"].tolist() == pytest.approx([0, 1, 1, 1, 1, 1, 2 / 3, (5 + 2 / 3) / 7])
    assert table2["printed"].iloc[[0, -1]].tolist() == [0.898695, 0.915]
    place = study.by_position(("coronal",), bins=2).set_index(["direction", "position"])["dice"]
    assert place["sagittal", -0.5] == 0 and place["sagittal", 0.5] == 1 and place["axial", -0.5] == place["axial", 0.5]


def test_unlabelled_and_sacral_discs_are_measured(study, monkeypatch):
    everything = {number: boxes(8) for number in study.volumes}
    monkeypatch.setattr(study, "probability", lambda run, patient: (boxes(8) > 0).astype(np.float16))
    table = study.unlabelled(everything)
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
    table = other.sacral(dict.fromkeys(volumes, nine)).set_index(["patient", "mask", "rule"])
    assert len(table) == 4 * len(study.folds[0].test) and (table["sacral_found"] == 0).all()
    for patient in study.folds[0].test:
        assert (table.loc[(patient, "as found"), "mean"] == 1).all()
        lowest, named = (table.loc[(patient, "sacral disc added", rule)] for rule in (LOWEST, NAMED))
        assert lowest["seventh"] == 0 and lowest["first"] == pytest.approx(2 * 288 / (2 * 288 + 48)) and named["mean"] == 1
    without = other.sacral(dict.fromkeys(volumes, np.where(nine == 99, 0, nine)))
    assert without.empty and list(without.columns) == ["patient", "sacral_found", "mask", "rule", "first", "seventh", "mean"]
    assert lost_discs(other.scores([FUSED], ALL)).to_dict() == {FUSED: 0}


def test_weights_at_work_share_out_between_planes(study):
    weights, shares = study.weights_at_work(voxels=50, bins=2)
    assert weights.shape == (3, 5, 5, 5) and np.isfinite(weights).all()
    assert shares.index.tolist() == list(PLANES) and shares.columns.tolist() == [-0.5, 0.5]
    linear, _ = study.weights_at_work("weights voxel by voxel", voxels=10)
    weight = study.fusion(study.folds[0], "weights voxel by voxel").layers[0].weight.detach().numpy()[..., 0, 0, 0]
    np.testing.assert_allclose(linear[:, 2, 2, 2], weight[1] - weight[0], rtol=1e-5)
    assert np.count_nonzero(linear) == 3


def test_the_curve_counts_patients_and_all_train_equally_long(study):
    curve = study.curve()
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
