"""misan's study on small sets: protocols, splits, shortcuts, ceilings by hand, the challenge's score and the printed table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from spider_utils import findings
from spider_utils.data.rsna import SAMPLE_COLUMNS, labelled_points
from spider_utils.data.rsna_tables import read_tables
from spider_utils.errors import KitError
from spider_utils.evaluation.severity_constants import best_constants
from spider_utils.evaluation.weighted_log_loss import PROBABILITIES, WEIGHTS, weighted_log_loss
from spider_utils.findings import AS_PRINTED, CONSTANTS, MENDED, SETTINGS, FindingStudy, ceilings
from spider_utils.models import CLASSIFIERS
from tests.finding_studies import make_studies


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDER_KIT_HEADLESS", "1")
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("findings")
    return FindingStudy(make_studies(folder / "set", 5), SETTINGS["smoke"], folder / "runs", folder / "stores", "cpu")


@pytest.fixture(scope="module")
def runs(study):
    return {one.name: study.train(protocol=one, samples_per_epoch=16) for one in (AS_PRINTED, MENDED)}


def test_the_printed_protocol_shares_studies_and_the_mended_one_does_not(study):
    samples = study.rsna.samples
    for protocol, shared in ((AS_PRINTED, True), (MENDED, False)):
        made, store = study.split(protocol.split), study.store(protocol)
        train, test = (set(samples["study"].iloc[made.rows(subset, store.table)]) for subset in ("train", "test"))
        assert bool(train & test) == shared
        assert store.settings.wrapped == protocol.whole == (store.settings.crop_mm is None)


def test_runs_hold_what_the_protocols_say(study, runs):
    printed, mended = runs["as_printed"], runs["mended"]
    assert printed.folder.name == "mobilenetv2-as_printed-samplesperepoch16"
    assert set(printed.card["options"]["heads"]) == {"condition", "level"} and not printed.card["options"]["normalise"]
    assert "train_condition_accuracy" in printed.history and "val_severity_score" in mended.history
    assert mended.card["task"]["class_weights"] == {"severity": list(WEIGHTS)}


def test_each_profile_names_the_network_that_it_trains(study):
    assert {name: one.network for name, one in SETTINGS.items()} == {
        "smoke": "mobilenetv2",
        "quick": "mobilenetv2",
        "paper": "inception_v3",  # the best row of the source's Table 3.1
    }
    other = FindingStudy(study.rsna, replace(study.settings, network="vgg16"), study.folder, study.stores, "cpu")
    assert other.train(samples_per_epoch=8).card["architecture"] == "vgg16"


def test_training_validates_on_validation_studies_and_never_sees_the_test_studies(study, monkeypatch):
    given = {}

    def noted(model, train_set, val_set, *rest, **more):
        given.update(train=train_set, val=val_set)

    monkeypatch.setattr(findings, "fit", noted)
    study.train(protocol=MENDED)
    store, made = study.store(MENDED), study.split(MENDED.split)
    rows = {name: np.asarray(one.rows) for name, one in given.items()} | {"test": made.rows("test", store.table)}
    for name, one in rows.items():
        assert np.array_equal(one, made.rows(name, store.table)) and len(one), name
    studies = [set(store.table["study"].iloc[one]) for one in rows.values()]
    assert sum(map(len, studies)) == len(set.union(*studies)), "no study in two parts"
    assert given["train"].augment and not given["val"].augment


def test_predictions_are_kept_and_renewed(study, runs, monkeypatch):
    table = study.predictions(runs["mended"])
    given = table[[f"severity_{k}" for k in range(3)]].to_numpy()
    assert np.allclose(given.sum(axis=1), 1) and table["study"].nunique() == 1 and len(table) == 25
    monkeypatch.setattr(study, "probabilities", None)
    pd.testing.assert_frame_equal(study.predictions(runs["mended"]), table)
    path = runs["mended"].folder / "predictions-test.csv"
    path.write_text("# other\n" + path.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    with pytest.raises(TypeError):
        study.predictions(runs["mended"])
    monkeypatch.undo()
    pd.testing.assert_frame_equal(study.predictions(runs["mended"]), table)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(True)[:-1]))
    pd.testing.assert_frame_equal(study.predictions(runs["mended"]), table)
    assert path.read_bytes() == whole, "a file that lacks a row is made anew"


def test_a_run_of_other_data_is_refused(study, runs, tmp_path):
    other = FindingStudy(make_studies(tmp_path / "set", 6), SETTINGS["smoke"], study.folder, tmp_path / "stores", "cpu")
    with pytest.raises(KitError, match="trained with other data"):
        other.predictions(runs["mended"])


def test_table_in_the_printed_form(study, runs):
    table = study.table31(list(runs.values()))
    printed = table[table["protocol"] == "printed"]
    assert printed["network"].tolist() == list(CLASSIFIERS) and printed["accuracy"].max() == 0.882
    ours = table[table["network"] == "mobilenetv2"].set_index("protocol")
    assert ours.index.tolist() == ["printed", "as_printed", "mended"]
    assert ours.loc["as_printed", "split"] == "sample" and ours.loc["mended", "split"] == "study"
    assert ours.loc["mended", "run"] == runs["mended"].folder.name and ours.loc["mended", "initial_weights"] == "random"
    scores = study.scores(runs["mended"])
    assert ours.loc["mended", "accuracy"] == scores.loc[scores["metric"] == "accuracy", "value"].iloc[0]
    assert np.isfinite(ours.loc["mended", "weighted_log_loss"]) and np.isnan(ours.loc["as_printed", "weighted_log_loss"])


def test_the_challenge_score_is_that_of_the_predictions(study, runs):
    table = study.challenge_score(runs["mended"])
    given = study.predictions(runs["mended"]).rename(columns={f"severity_{k}": name for k, name in enumerate(PROBABILITIES)})
    assert table.loc[0, "mean"] == pytest.approx(weighted_log_loss(given[["study", "condition", "level", "grade"]], given).mean)
    assert table["prediction"].tolist() == ["network", *CONSTANTS]
    assert table.loc[0, ["difference", "difference_low", "difference_high"]].isna().all()
    floors = table.iloc[1:]
    assert floors["difference"].tolist() == pytest.approx((table.loc[0, "mean"] - floors["mean"]).tolist())
    assert table["studies"].tolist() == [1, 1, 1] and floors["difference_low"].isna().all()  # no spread of one study
    samples = study.rsna.samples
    known = samples[samples["study"].isin(study.split().patients("train"))]
    constants = best_constants(known, given[["study", "condition", "level"]])
    assert table.loc[2, "mean"] == pytest.approx(
        weighted_log_loss(given[["study", "condition", "level", "grade"]], constants).mean
    )
    with pytest.raises(KitError, match="predicts no severities"):
        study.challenge_score(runs["as_printed"])


def test_ceilings_are_those_of_the_runs_own_test_samples(study, runs):
    ours = study.table31(list(runs.values())).dropna(subset="n").set_index("protocol")
    made, samples = study.split(AS_PRINTED.split), study.rsna.samples
    test = samples.iloc[made.rows("test", study.store(AS_PRINTED).table)]
    wanted = ceilings(test).set_index("asked")["highest"]
    assert ours.loc["as_printed", "ceiling"] == wanted["condition, with healthy"] >= ours.loc["as_printed", "accuracy"]
    assert ours.loc["as_printed", "level_ceiling"] == wanted["level"] >= ours.loc["as_printed", "level_accuracy"]
    assert wanted["level"] > ceilings(samples).set_index("asked").loc["level", "highest"], "fewer points share a slice"
    assert ours.loc["mended", ["ceiling", "level_ceiling"]].isna().all(), "a crop shows one point"


def test_age_and_sex_as_second_input(study):
    run = study.train(metadata=True, samples_per_epoch=8)
    assert run.card["options"]["metadata"] == 2 and "metadata" in run.folder.name
    assert study.table31([run]).dropna(subset="n")["protocol"].tolist() == ["mended + age, sex"]


# ----------------------------------------------------------------------------------------------------- without any picture


def test_ceilings_by_hand(study):
    """A slice with two points of two levels, one class; a slice with one point."""
    points = pd.DataFrame(
        {
            "study": 1, "series": 1, "instance": [3, 3, 4], "condition": "spinal_canal_stenosis",
            "misan_class": [5, 5, 4], "misan_level": [0, 1, 2],
        }
    )  # fmt: skip
    found = ceilings(points).set_index("asked")["highest"]
    assert found.tolist() == pytest.approx([1.0, 1.0, 2 / 3, 2 / 3])
    whole = ceilings(study.rsna.samples).set_index("asked")
    # Foramina and canal: five levels on each of three slices; recesses: two on each of five.
    assert whole.loc["level", "highest"] == pytest.approx((3 * 1 + 5 * 2) / 25) and whole.loc["level", "slices"] == 5 * 8
    by_tables = ceilings(labelled_points(read_tables(study.rsna.root)))
    pd.testing.assert_frame_equal(by_tables, ceilings(study.rsna.samples))


def test_points_of_the_tables_are_the_samples_without_images(study):
    points = labelled_points(read_tables(study.rsna.root))
    assert points.columns.tolist() == [name for name in SAMPLE_COLUMNS if name != "path"]
    in_order = points.sort_values(["study", "condition", "level", "series"], ignore_index=True)
    pd.testing.assert_frame_equal(in_order, study.rsna.samples.drop(columns="path"))


def test_the_ceiling_of_a_random_part_lies_higher(study):
    """Two levels on every slice. Of two points one is right of each pair, unless the draw parted it: 1/3 of pairs stay."""
    points = pd.DataFrame({"study": 1, "series": 1, "instance": [1, 1, 2, 2], "condition": "spinal_canal_stenosis"})
    points = points.assign(misan_class=5, misan_level=[0, 1, 0, 1])
    assert findings.ceiling_of_share(points, 1.0).set_index("asked").loc["level", "highest"] == 0.5
    half = findings.ceiling_of_share(points, 0.5, n_draws=400).set_index("asked")["highest"]
    assert half["level"] == pytest.approx(1 - 0.5 / 3, abs=0.05) and half["condition, with healthy"] == 1
    with pytest.raises(ValueError, match="above 0 and be at most 1"):
        findings.ceiling_of_share(points, 0.0)


def test_the_shortcut_reads_no_picture(study, monkeypatch):
    monkeypatch.setattr(study, "store", None)
    table = study.shortcut()
    samples, made = study.rsna.samples, study.split()
    test = samples[samples["study"].isin(made.patients("test"))]
    train = samples[samples["study"].isin(made.patients("train"))]
    usual = train["misan_class"].mode().iloc[0]
    assert table.loc[0, "accuracy"] == pytest.approx((test["misan_class"] == usual).mean())
    by_kind = {kind: rows["misan_class"].value_counts() for kind, rows in train.groupby("description")}
    guess = [min(counts.index[counts == counts.max()]) for counts in (by_kind[kind] for kind in test["description"])]
    assert table.loc[1, "accuracy"] == pytest.approx((test["misan_class"] == guess).mean())
    assert table["n"].tolist() == [25, 25]
