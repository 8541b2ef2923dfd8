"""The bundle for Kaggle: the same bytes from the same state, safe to unpack, and enough to install from without internet."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from spider_utils.cloud import bundle
from spider_utils.data.archives import UnpackRule, plan_unpacking, unpack_zip
from spider_utils.data.phantom import GENERATOR_VERSION
from spider_utils.data.volumes import write_volume
from spider_utils.errors import DataError, KitError
from spider_utils.runtime import get_profile
from spider_utils.workflow import PHANTOM_SEED
from tests.conftest import REPOSITORY
from tests.unit.test_cloud import make_wheel


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, made_case) -> Path:
    """A folder like a checkout, with a phantom of two made-up series in the place of the smoke profile's."""
    home = tmp_path_factory.mktemp("home")
    for name in bundle._SOURCES:
        (home / name).symlink_to(REPOSITORY / name)
    (home / "requirements.lock").write_text("# made by hand\ntool==1.0\nother==2.0 ; python_version < '3.12'\nother==3.0\n")
    (home / "pyproject.toml").unlink()
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    lines = ['kaggle-wheels = ["tool"]' if line.startswith("kaggle-wheels") else line for line in text.splitlines()]
    (home / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    root, profile = home / "data" / "phantom-smoke", get_profile("smoke")
    for sequence in ("t1", "t2"):
        image, mask = made_case(1, sequence)
        write_volume(image, root / "images" / f"1_{sequence}.mha")
        write_volume(mask, root / "masks" / f"1_{sequence}.mha")
    (root / "overview.csv").write_text("new_file_name,subset\n1_t1,training\n")
    facts = {"n_patients": profile.patients, "seed": PHANTOM_SEED, "size": profile.phantom_size}
    (root / "phantom.json").write_text(json.dumps(facts | {"generator_version": GENERATOR_VERSION}))
    (root / "notes.txt").write_text("somebody's own")
    return home


@pytest.fixture(scope="module")
def bundled(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The bundle made twice; the second time after every file was touched and under another umask."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDER_KIT_HOME", str(home))
        patch.setenv("SPIDER_KIT_DATA", "")
        patch.setattr(bundle, "fetch_wheels", lambda wanted, out: [make_wheel(out, *one.split("==")) for one in wanted])
        for mask in (0o022, 0o077):
            before = os.umask(mask)
            try:
                made.append(bundle.build_bundle(home, tmp_path_factory.mktemp("out") / "kit.zip", "smoke"))
            finally:
                os.umask(before)
            for path in (home / "data").rglob("*"):
                os.utime(path, (1e9, 1e9))
    return made


def test_only_what_belongs_is_in_it_under_one_folder(bundled):
    with zipfile.ZipFile(bundled[0]) as archive:
        names = archive.namelist()
        assert names == sorted(names) and {name.split("/")[0] for name in names} == {"spider-kit"}
        assert [name.removeprefix("spider-kit/") for name in names if not name.endswith(".mha")] == [
            "README.md",
            "SHA256SUMS",
            "phantom-smoke/overview.csv",
            "phantom-smoke/phantom.json",
            "wheels/spider_utils-0.1.0-py3-none-any.whl",
            "wheels/tool-1.0-py3-none-any.whl",
        ]
        assert sum(name.endswith(".mha") for name in names) == 4
        sums = dict(reversed(line.split("  ")) for line in archive.read("spider-kit/SHA256SUMS").decode().splitlines())
        assert {f"spider-kit/{name}" for name in sums} == set(names) - {"spider-kit/SHA256SUMS"}
        for name, digest in sums.items():
            assert hashlib.sha256(archive.read(f"spider-kit/{name}")).hexdigest() == digest
        readme = archive.read("spider-kit/README.md").decode()
        assert 'PROFILE = "smoke"' in readme and "tool-1.0" in readme and "{" not in readme


def test_the_same_state_gives_the_same_bytes(bundled):
    first, second = bundled
    assert first != second and first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}


def test_a_zip_follows_from_names_and_contents_alone(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
    os.utime(tmp_path / "a" / "file", (1e9, 1e9))
    os.chmod(tmp_path / "a" / "file", 0o600)
    bundle.write_zip(tmp_path / "1.zip", {"y": tmp_path / "a" / "file", "x": b"bytes"})
    bundle.write_zip(tmp_path / "2.zip", {"x": b"bytes", "y": tmp_path / "b" / "file"})
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert (archive.read("x"), archive.read("y")) == (b"bytes", b"content")


def test_it_unpacks_safely(bundled, tmp_path):
    rule = UnpackRule(members={"images/*.mha": "images", "masks/*.mha": "masks"}, under="spider-kit/phantom-smoke")
    assert len(plan_unpacking(bundled[0], rule)) == 4, "no link, no '..', no absolute path, no bomb"
    assert len(unpack_zip(bundled[0], tmp_path / "root", rule)) == 4


def test_the_kit_installs_from_it_without_internet(bundled, tmp_path):
    with zipfile.ZipFile(bundled[0]) as archive:
        archive.extractall(tmp_path / "input")
    wheels, target = tmp_path / "input" / "spider-kit" / "wheels", tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    command = [*pip, "--find-links", str(wheels), "--target", str(target), "spider-utils", "tool"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PIP_CONFIG_FILE": os.devnull})
    assert ran.returncode == 0, ran.stderr
    code = (
        "import importlib.metadata, spider_utils; from spider_utils.data.manifest import manifest_folder; "
        "from spider_utils.runtime import supported_versions; "
        "print(spider_utils.__file__, (manifest_folder() / 'spider.json').is_file(), supported_versions()['torch'])"
    )
    environment = os.environ | {"PYTHONPATH": str(target)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    file, has_manifest, torch = ran.stdout.split()
    assert Path(file).is_relative_to(target) and has_manifest == "True" and torch == ">=2.4"


def test_versions_come_from_the_lock(home):
    assert bundle.locked(home, ["Tool"]) == ["Tool==1.0"]
    for name in ("other", "missing"):
        with pytest.raises(DataError, match=f"requirements.lock: has not one version of {name}"):
            bundle.locked(home, [name])


def test_what_kaggle_lacks_is_locked():
    from spider_utils.cloud.heads import settings

    assert len(bundle.locked(REPOSITORY, settings(REPOSITORY)["kaggle-wheels"])) == 4


def test_wheels_for_one_machine_are_refused(tmp_path, monkeypatch):
    def pip(doing, *arguments):
        make_wheel(tmp_path, "tool", "1.0").rename(tmp_path / "tool-1.0-cp311-cp311-manylinux2014_x86_64.whl")

    monkeypatch.setattr(bundle, "_pip", pip)
    with pytest.raises(KitError, match="tool-1.0-cp311-cp311-manylinux2014_x86_64.whl is for certain machines only"):
        bundle.fetch_wheels(["tool==1.0"], tmp_path)


def test_a_failing_pip_is_one_line(tmp_path):
    with pytest.raises(KitError, match=r"^fetching wheels failed: .*nothing-of-this-name"):
        bundle._pip("fetching wheels", "download", "--no-index", "--dest", str(tmp_path), "nothing-of-this-name")


def test_outside_a_checkout_it_says_so(tmp_path):
    with pytest.raises(DataError, match="Run this inside a"):
        bundle.build_bundle(tmp_path, tmp_path / "x.zip", "smoke")
