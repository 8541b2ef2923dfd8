"""The manifests that ship with the kit, and what is refused in one."""

import json
import re

import pandas as pd
import pytest

from spider_utils.data.manifest import fetch, known_manifests, load_manifest, manifest_folder, read_manifest
from spider_utils.errors import DataError, KitError
from spider_utils.runtime import PROFILES
from spider_utils.workflow import PHANTOM_SEED


def test_known_names_and_unknown_name():
    assert known_manifests() == ["phantom", "rsna", "spider", "spider-2d"]
    with pytest.raises(KitError, match=r"unknown data set 'spyder'.*phantom, rsna, spider, spider-2d"):
        load_manifest("spyder")


def test_data_with_rules_of_their_own_are_fetched_by_hand(tmp_path):
    manifest = load_manifest("rsna")
    assert (manifest.kind, manifest.layout, manifest.files) == ("by hand", "rsna", ())
    assert "never redistribute" in manifest.licence
    with pytest.raises(KitError, match=r"'rsna' cannot be fetched by the kit: accept its rules .* at https://www\.kaggle\.com/"):
        fetch("rsna", tmp_path / "rsna")
    assert not (tmp_path / "rsna").exists()


def test_spider_manifest_has_the_published_sums_and_addresses():
    manifest = load_manifest("spider")
    assert [file.name for file in manifest.files] == ["images.zip", "masks.zip", "overview.csv", "radiological_gradings.csv"]
    assert manifest.file("images.zip").md5 == "7a9fa44aac0c72e2937bdef62cff88db"
    assert manifest.file("masks.zip").known_hash == "sha256:13a6e25a8c0d74f507e16ebb2edafc277ceeaf2598474f1fed24fdf59cb7f18f"
    for file in manifest.files:
        assert file.urls[0] == f"https://zenodo.org/records/10159290/files/{file.name}?download=1"
    assert manifest.licence == "CC-BY-4.0" and "10.1038/s41597-024-03090-w" in manifest.dois
    assert "not from a download" in manifest.checksum_source
    facts = manifest.facts
    assert (
        facts["t1"] + facts["t2"] + facts["t2_SPACE"] == facts["series"] == facts["training_series"] + facts["validation_series"]
    )
    with pytest.raises(KitError, match=r"no file 'image\.zip'\. Known are: images\.zip"):
        manifest.file("image.zip")


def test_released_slices_have_a_sum_for_image_and_mask_and_a_native_size_for_every_patient():
    manifest = load_manifest("spider-2d")
    assert len(manifest.sums) == 2 * manifest.facts["slices_with_sums"] == 1244
    assert all(name.replace("images/", "masks/") in manifest.sums for name in manifest.sums)
    cases = pd.read_csv(manifest_folder() / manifest.copies["cases.csv"])
    patients = {int(re.match(r"images/(\d+)_t2_SPACE_slice\d+\.png", name)[1]) for name in manifest.sums if "images" in name}
    assert set(cases["patient"]) == patients and len(patients) == manifest.facts["patients_with_sums"]
    assert cases["slices"].sum() == manifest.facts["slices_with_sums"]


def test_phantom_sets_agree_with_the_profiles():
    sets = load_manifest("phantom").sets
    assert sets.keys() == PROFILES.keys()
    for name, profile in PROFILES.items():
        assert sets[name] == {"patients": profile.patients, "seed": PHANTOM_SEED, "size": profile.phantom_size}


def _change(raw, keys, value):
    for key in keys[:-1]:
        raw = raw[key]
    raw[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (["format"], 2, "format 2 is not known"),
        (["key"], "other", "key 'other' is not the file's name"),
        (["kind"], "torrent", "kind must be"),
        (["layout"], "bids", "layout must be one of"),
        (["title"], 3, "title must be text"),
        (["dois"], ["doi.org"], "dois must look like"),
        (["files"], [], "only a download has files"),
        (["files", 0, "name"], "../images.zip", "must be plain"),
        (["files", 0, "url"], "zenodo.org/x", "is no web address"),
        (["files", 0, "bytes"], "3.7 GB", "bytes must be a count"),
        (["files", 0, "md5"], "7a9f", "md5 must be 32 hex digits"),
        (["files", 0, "unpack", "members"], {"*.mha": "../out"}, "must be a plain folder name"),
        (["files", 0, "unpack", "surprise"], 1, "surprise"),
        (["files", 1, "name"], "images.zip", "two files have one name"),
        (["copies"], {"cases.csv": "absent.csv"}, "absent.csv that it copies is missing"),
    ],
)
def test_a_manifest_with_a_fault_is_refused_by_name(tmp_path, keys, value, problem):
    raw = json.loads((manifest_folder() / "spider.json").read_text())
    _change(raw, keys, value)
    path = tmp_path / "spider.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=problem) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_that_lacks_something_or_is_no_json(tmp_path):
    raw = json.loads((manifest_folder() / "spider.json").read_text())
    del raw["licence"]
    path = tmp_path / "spider.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match="lacks 'licence'"):
        read_manifest(path)
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_manifest(path)
