"""Splits by patient: nobody on two sides, whatever the seed; only the leak lesson's split parts a patient's slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spider_utils.data.splits import LEAKY, SPLITS, SUBSETS, Split, make_split
from spider_utils.errors import DataError, KitError

seeds, folds = st.integers(0, 2**31), st.integers(0, 4)
cohorts = st.sets(st.integers(1, 500), min_size=6, max_size=60)


def slices_of(patients, per_series: int = 4) -> pd.DataFrame:
    """A table as a slice store has it: T1 and T2 of each patient, every third patient held out officially."""
    return pd.DataFrame(
        [
            (p, f"{p}_{s}", k, "validation" if i % 3 == 2 else "training")
            for i, p in enumerate(sorted(patients))
            for s in ("t1", "t2")
            for k in range(per_series)
        ],
        columns=["patient", "case", "slice", "subset"],
    )


@given(cohorts, st.sampled_from([name for name in SPLITS if not name.startswith(LEAKY)]), seeds, folds)
def test_no_patient_is_ever_in_two_subsets(patients, name, seed, fold):
    table = slices_of(patients)
    split = make_split(table, name, seed, fold)
    sides = [set(split.patients(subset)) for subset in SUBSETS]
    assert all(sides) and not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert set.union(*sides) == patients
    rows = [split.rows(subset, table) for subset in SUBSETS]
    assert sorted(np.concatenate(rows)) == list(range(len(table)))
    for side, part in zip(sides, rows, strict=True):
        assert set(table["patient"].iloc[part]) == side


@given(cohorts, seeds)
def test_five_folds_test_everybody_exactly_once(patients, seed):
    table = slices_of(patients)
    tested = [p for fold in range(5) for p in make_split(table, "kfold5", seed, fold).patients("test")]
    assert sorted(tested) == sorted(patients)
    sizes = [len(make_split(table, "kfold5", seed, fold).patients("test")) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 1


@given(cohorts, st.sampled_from(SPLITS), seeds, st.randoms())
def test_the_same_seed_gives_the_same_split_in_any_order_of_rows(patients, name, seed, random):
    table = slices_of(patients, per_series=12)
    split = make_split(table, name, seed)
    assert make_split(table, name, seed).fingerprint == split.fingerprint
    if split.by_patient:
        order = list(range(len(table)))
        random.shuffle(order)
        assert make_split(table.iloc[order], name, seed).fingerprint == split.fingerprint


def test_another_seed_gives_another_split():
    table = slices_of(range(1, 40))
    for name in SPLITS:
        assert len({make_split(table, name, seed).fingerprint for seed in range(5)}) == 5


def test_official_takes_spiders_validation_patients_as_the_test_set():
    table = slices_of(range(1, 31))
    split = make_split(table, "official", seed=1)
    assert split.patients("test") == list(range(3, 31, 3))
    assert (len(split.patients("train")), len(split.patients("val"))) == (18, 2)
    with pytest.raises(KitError, match="needs SPIDER's subset for every patient: put overview.csv"):
        make_split(table.assign(subset=""), "official")
    with pytest.raises(KitError, match="needs SPIDER's subset"):
        make_split(table.assign(subset="training"), "official")


def test_the_sources_ratio_is_kept_by_patient():
    split = make_split(slices_of(range(218)), "seed70-5-25")
    assert [len(split.patients(subset)) for subset in SUBSETS] == [153, 11, 54]


def test_leaky_slices_really_share_patients():
    table = slices_of(range(1, 21), per_series=10)
    split = make_split(table, "leaky-slices")
    train, test = set(split.patients("train")), set(split.patients("test"))
    assert train == test == set(range(1, 21))
    rows = [split.rows(subset, table) for subset in SUBSETS]
    assert sorted(np.concatenate(rows)) == list(range(400))  # but no slice is on two sides
    assert [len(r) / 400 for r in rows] == pytest.approx([0.7, 0.1, 0.2], abs=0.06)


@pytest.mark.parametrize(("name", "sizes"), [("leaky-seed70-5-25", [280, 20, 100]), ("leaky-kfold5", [280, 40, 80])])
def test_leaky_twins_split_slices_in_the_same_ratio(name, sizes):
    table = slices_of(range(1, 21), per_series=10)
    split = make_split(table, name, seed=3)
    rows = [split.rows(subset, table) for subset in SUBSETS]
    assert [len(r) for r in rows] == sizes and sorted(np.concatenate(rows)) == list(range(400))
    assert not split.by_patient and set(split.patients("train")) & set(split.patients("test"))


def test_leaky_folds_test_every_slice_exactly_once():
    table = slices_of(range(1, 11), per_series=10)
    tested = [make_split(table, "leaky-kfold5", 0, fold).rows("test", table) for fold in range(5)]
    assert sorted(np.concatenate(tested)) == list(range(200))


def test_too_few_patients_bad_folds_and_names_are_refused():
    for n in range(1, 3):
        for name in ("seed70-5-25", "kfold5"):
            with pytest.raises(KitError, match="nobody is left for"):
                make_split(slices_of(range(n)), name)
    with pytest.raises(KitError, match="folds 0 to 4, not 5"):
        make_split(slices_of(range(9)), "kfold5", fold=5)
    with pytest.raises(KitError, match="unknown split 'random'. Known are: official, seed70-5-25, kfold5, leaky-slices"):
        make_split(slices_of(range(9)), "random")


def test_overlap_is_refused():
    table = pd.DataFrame({"patient": [1, 2, 2, 3], "subset": ["train", "train", "test", "val"]})
    with pytest.raises(KitError, match=r"patient\(s\) 2 are in two subsets"):
        Split("kfold5", 0, 0, table).check()
    Split("leaky-slices", 0, 0, table.assign(case="c", slice=range(4))).check()


def test_rows_of_unknown_patients_are_refused():
    split = make_split(slices_of(range(9)), "kfold5")
    with pytest.raises(KitError, match="does not know patient 77"):
        split.rows("train", slices_of([1, 77]))


@pytest.mark.parametrize("name", SPLITS)
def test_saved_splits_come_back(tmp_path, name):
    table = slices_of(range(1, 15))
    split = make_split(table, name, seed=4, fold=2)
    back = Split.load(split.save(tmp_path / "split.csv"))
    assert (back.name, back.seed, back.fold, back.fingerprint) == (name, 4, 2, split.fingerprint)
    for subset in SUBSETS:
        np.testing.assert_array_equal(back.rows(subset, table), split.rows(subset, table))


def test_changed_files_are_refused(tmp_path):
    path = make_split(slices_of(range(1, 15)), "kfold5").save(tmp_path / "split.csv")
    whole = path.read_text()
    line = next(line for line in whole.splitlines() if line.endswith(",train"))
    for text, words in (
        (whole.replace(line, line.replace("train", "test")), "split.csv: was changed since it was written"),
        (whole.replace(line + "\n", ""), "split.csv: was changed"),
        (whole + line.replace("train", "test") + "\n", "are in two subsets"),
        (whole.replace("fingerprint=", "fingerprint=0"), "split.csv: was changed"),
        (whole.replace("patient,subset", "a,b"), "split.csv: is not a split"),
        (whole.splitlines()[-1], "split.csv: is not a split"),
        ("", "split.csv: is not a split"),
    ):
        path.write_text(text)
        with pytest.raises(KitError, match=words):
            Split.load(path)
    with pytest.raises(DataError, match="none.csv: is not a split"):
        Split.load(tmp_path / "none.csv")


def test_an_unknown_subset_is_refused():
    table = slices_of(range(10))
    with pytest.raises(KitError, match="unknown subset 'validation'. Known are: train, val, test"):
        make_split(table, "kfold5").rows("validation", table)
