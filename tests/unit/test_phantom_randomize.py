"""Phantoms of any look: the anatomy and its mask stay, everything else changes."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.data.phantom import generate_dataset
from spider_utils.data.phantom.dataset import draw_patient, make_case, phantom_facts
from spider_utils.data.phantom.randomize import Disturbance, random_table, randomized
from spider_utils.data.phantom.scanner import render
from spider_utils.data.phantom.signal import TISSUE, TISSUES
from spider_utils.data.volumes import read_pair
from spider_utils.errors import DataError
from spider_utils.files import sha256_of
from spider_utils.workflow import Workspace


@pytest.fixture(scope="module")
def patient():
    return draw_patient(1, 5, "small")


@pytest.fixture(scope="module")
def looks(patient):
    """The patient's first series as a hospital scans it, and with two random looks."""
    anatomy, (protocol, *_) = patient
    chosen = [protocol, randomized(protocol, 3), randomized(protocol, 4)]
    return [render(anatomy, protocol.sequence, one, size="small") for one in chosen]


def test_the_mask_and_the_grid_are_those_of_the_anatomy_whatever_the_look(looks):
    (_, plain), *others = looks
    for image, mask in others:
        np.testing.assert_array_equal(mask.array, plain.array)
        assert image.spacing == plain.spacing and image.origin == plain.origin


def test_looks_differ_in_contrast_not_in_scale_alone(looks):
    # The order of the brightness of vertebrae, canal and discs against the mean: another one, or other ratios.
    ratios = []
    for image, mask in looks:
        means = [
            image.array[where].mean() for where in ((mask.array > 0) & (mask.array < 100), mask.array == 100, mask.array > 200)
        ]
        ratios.append(np.array(means) / np.mean(means))
    assert min(np.abs(a - b).max() for k, a in enumerate(ratios) for b in ratios[:k]) > 0.1


def test_the_same_seed_gives_the_same_voxels(patient):
    anatomy, (protocol, *_) = patient
    first, again, other = (
        render(anatomy, protocol.sequence, randomized(protocol, seed), size="small")[0].array for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_air_is_dark_and_tissues_are_not_alike_in_random_tables():
    rng = np.random.default_rng(0)
    tables = [random_table(rng, 1.5) for _ in range(40)]
    assert all(table.shape == (len(TISSUES), 256) and np.isfinite(table).all() and (table >= 0).all() for table in tables)
    assert all((table[TISSUE["air"]] == 0).all() for table in tables)
    fluid_over_fat = [table[TISSUE["fluid"], 0] > table[TISSUE["fat"], 0] for table in tables]
    assert 5 < sum(fluid_over_fat) < 35, "weighting runs from T1 to T2"


def test_disturbances_keep_darkness_dark_and_change_the_rest():
    changed = 0
    for seed in range(12):
        picture = np.full((60, 50), 100, np.float32)
        picture[:, :20] = 0
        out = Disturbance(np.random.default_rng(seed))(picture)
        assert out.dtype == np.float32 and np.isfinite(out).all() and (out >= 0).all()
        assert out[:, :20].max() <= 0.1 * out.max(), "a ghost is faint"
        changed += (out != picture).any()
    assert changed >= 11


def test_a_set_of_random_looks_has_its_own_facts_and_is_no_default(tmp_path):
    plain = generate_dataset(tmp_path / "plain", 1, seed=5, jobs=1, size="small")
    other = generate_dataset(tmp_path / "other", 1, seed=5, jobs=1, size="small", looks="random")
    assert phantom_facts(other) == phantom_facts(plain) | {"looks": "random", "fingerprint": phantom_facts(other)["fingerprint"]}
    assert phantom_facts(other)["fingerprint"] != phantom_facts(plain)["fingerprint"]
    names = sorted(path.name for path in (plain / "images").iterdir())
    assert names == sorted(path.name for path in (other / "images").iterdir())
    for name in names:
        assert sha256_of(plain / "masks" / name) == sha256_of(other / "masks" / name)
        assert sha256_of(plain / "images" / name) != sha256_of(other / "images" / name)
    case = make_case(1, 5, "small", "random")
    in_the_set = read_pair(other / "images" / f"{case.case}.mha", other / "masks" / f"{case.case}.mha")[0]
    np.testing.assert_array_equal(case.image.array, in_the_set.array)
    with pytest.raises(ValueError, match="looks='odd'.*'hospital', 'random'"):
        generate_dataset(tmp_path / "odd", 1, looks="odd")


def test_a_workspace_opens_a_phantom_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    own = generate_dataset(tmp_path / "mine", 1, seed=5, jobs=1, size="small", looks="random")
    workspace = Workspace.open("smoke", "phantom", str(own))
    assert workspace.name == "smoke-phantom-mine" and workspace.facts["root"] == str(own)
    case = workspace.first_case()
    np.testing.assert_array_equal(
        case.image.array, read_pair(own / "images" / f"{case.case}.mha", own / "masks" / f"{case.case}.mha")[0].array
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no phantom set"):
        Workspace.open("smoke", "phantom", str(tmp_path / "empty"))
