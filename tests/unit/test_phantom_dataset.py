"""The made-up data set on disk: SPIDER's layout, its tables, and the same bytes for the same seed."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.phantom.dataset import OVERVIEW_COLUMNS, patient_plan
from spider_utils.data.volumes import read_pair
from spider_utils.errors import DataError, KitError
from spider_utils.files import sha256_of
from tests.unit.test_processes import kill_this_process

PATIENTS, SEED = 2, 5


def sums(folder):
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return generate_dataset(tmp_path_factory.mktemp("phantom") / "set", PATIENTS, seed=SEED, jobs=1, size="small")


def test_only_a_phantom_is_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="phantom.json"):
        generate_dataset(tmp_path, 1, jobs=1, size="small")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["pred/1_t2.mha", "images/own.mha", "masks/notes.txt", "notes.txt"])
def test_a_phantom_with_somebodys_files_in_it_is_not_replaced(dataset, tmp_path, name):
    shutil.copytree(dataset, tmp_path / "set")
    own = tmp_path / "set" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("my work")
    with pytest.raises(DataError, match="is no file of the phantom, and would be lost"):
        generate_dataset(tmp_path / "set", 1, jobs=1, size="small")
    assert own.read_text() == "my work" and sums(dataset).items() <= sums(tmp_path / "set").items()


def test_bytes_depend_on_the_seed_alone(dataset, tmp_path):
    again = generate_dataset(tmp_path / "again", PATIENTS, seed=SEED, jobs=2, size="small")
    assert sums(again) == sums(dataset)
    fewer = sums(generate_dataset(tmp_path / "fewer", 1, seed=SEED, jobs=1, size="small"))
    first = [name for name in fewer if name.startswith(("images/1_", "masks/1_"))]
    assert first and all(fewer[name] == sums(dataset)[name] for name in first), "patient 1 is the same however many follow"
    other = sums(generate_dataset(tmp_path / "other", 1, seed=SEED + 1, jobs=1, size="small"))
    shared = set(other) & set(first)
    assert shared and all(other[name] != fewer[name] for name in shared)


def test_a_killed_process_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("spider_utils.data.phantom.dataset._make_patient", kill_this_process)
    with pytest.raises(KitError, match="lack of memory.*--jobs 1"):
        generate_dataset(tmp_path / "set", 2, jobs=2, size="small")
    assert not list(tmp_path.iterdir()), "nothing half written"


def test_layout_and_tables(dataset):
    overview = pd.read_csv(dataset / "overview.csv")
    assert tuple(overview) == OVERVIEW_COLUMNS
    names = [f"{name}.mha" for name in overview.new_file_name]
    assert sorted(names) == sorted(p.name for p in (dataset / "images").iterdir())
    assert sorted(names) == sorted(p.name for p in (dataset / "masks").iterdir())
    assert b"\r\n" in (dataset / "overview.csv").read_bytes()
    assert b"\r\n" in (dataset / "radiological_gradings.csv").read_bytes()
    assert set(overview.subset) <= {"training", "validation"}
    gradings = pd.read_csv(dataset / "radiological_gradings.csv")
    truth = pd.read_csv(dataset / "phantom_truth.csv")
    assert list(zip(gradings.Patient, gradings["IVD label"], strict=True)) == list(zip(truth.patient, truth.disc, strict=True))
    facts = json.loads((dataset / "phantom.json").read_text())
    assert facts["seed"] == SEED and facts["n_patients"] == PATIENTS and len(facts["fingerprint"]) == 16


def test_cases_read_back_and_agree_with_the_tables(dataset):
    overview = pd.read_csv(dataset / "overview.csv").set_index("new_file_name")
    gradings = pd.read_csv(dataset / "radiological_gradings.csv")
    seen = {}
    for name, row in overview.iterrows():
        image, mask = read_pair(dataset / "images" / f"{name}.mha", dataset / "masks" / f"{name}.mha")
        labels = set(np.unique(mask.array).tolist()) - {0, 100}
        discs = {v - 200 for v in labels if v > 200}
        assert row.num_discs == len(discs) and row.num_vertebrae == len(labels) - len(discs)
        assert row.num_discs - row.num_vertebrae in (0, 1)
        assert float(row.SpacingBetweenSlices) == pytest.approx(image.spacing[0], abs=1e-3)
        assert json.loads(row.PixelSpacing) == pytest.approx(image.spacing[1:], rel=1e-4)
        seen.setdefault(int(name.split("_")[0]), set()).update(discs)
    for patient, discs in seen.items():
        assert sorted(gradings[gradings.Patient == patient]["IVD label"]) == sorted(discs)


def test_plan_has_spiders_shares():
    plan = [patient_plan(k, 0) for k in range(1, 221)]
    hospitals = pd.Series([p[0] for p in plan]).value_counts()
    assert hospitals.to_dict() == {"OH": 100, "UMC": 40, "RH1": 40, "RH2": 40}
    assert sum(p[2] == "validation" for p in plan) == 40
    assert all(("t2_SPACE" in p[1]) == (p[0] == "UMC") for p in plan)
    assert 2 < sum("t1" not in p[1] for p in plan) < 30
    assert {p[2] for p in plan[:6]} == {"training", "validation"}


@pytest.mark.real_data("spider_tables")
def test_columns_are_those_of_the_real_table(real_data):
    assert OVERVIEW_COLUMNS == tuple(pd.read_csv(real_data / "spider_tables" / "overview.csv", nrows=1))


def test_failures_leave_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="at least 1 patient"):
        generate_dataset(tmp_path / "none", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        generate_dataset(tmp_path / "file" / "set", 1, size="small", jobs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
