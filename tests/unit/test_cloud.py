"""Colab and Kaggle emulated by folders, variables and small made-up packages: what is installed, found and told."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pip
import pytest
from packaging.specifiers import SpecifierSet

from spider_utils import workflow
from spider_utils.cloud import inputs, packages, session, set_up
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError, KitError
from spider_utils.workflow import Workspace

# ------------------------------------------------------------------------------------------------------------------- packages

WANTED = {
    name: SpecifierSet(text)
    for name, text in {
        "monai": ">=1.4",
        "torch": ">=2.4",
        "pandas": ">=2.0",
        "scikit-learn": ">=1.6",
        "albumentations": "<2.1,>=2.0",
        "timm": ">=1.0",
        "ipywidgets": "",
        "einops": ">=0.6",
    }.items()
}


def test_the_plan_installs_what_is_missing_and_never_replaces_what_others_are_built_on():
    there = {"torch": "2.3.1+cu121", "pandas": "1.5.3", "scikit-learn": "1.2.2", "albumentations": "2.1.0"}
    there |= {"timm": "0.9.2", "ipywidgets": "7.7.1", "einops": "not a version"}
    plan = packages.plan_packages(WANTED, there, imported={"timm", "pandas"})
    assert plan.missing == ("monai>=1.4",)
    assert plan.replace == {"scikit-learn>=1.6": "1.2.2", "albumentations<2.1,>=2.0": "2.1.0", "einops>=0.6": "not a version"}
    assert {name: version for name, (version, _) in plan.keep.items()} == {
        "pandas>=2.0": "1.5.3",
        "timm>=1.0": "0.9.2",
        "torch>=2.4": "2.3.1+cu121",
    }
    assert "restart the session" in plan.keep["timm>=1.0"][1] and "newer environment" in plan.keep["torch>=2.4"][1]


@pytest.mark.parametrize("version", ["2.4.0", "2.9.0+cpu", "2.10.0a0+git1", "2.5.0.dev20250101"])
def test_local_builds_of_a_supported_version_are_fine(version):
    plan = packages.plan_packages({"torch": SpecifierSet(">=2.4")}, {"torch": version})
    assert plan == packages.PackagePlan((), {}, {})


def test_pins_hold_everything_but_what_may_change():
    there = {"torch": "2.9.0+cpu", "albumentations": "1.3.1", "albucore": "0.0.13", "click": "8.1", "odd": "1.0-final-x"}
    assert packages.pins(there) == ["albucore==0.0.13", "albumentations==1.3.1", "click==8.1", "torch==2.9.0+cpu"]
    assert packages.pins(there, free=["albumentations<2.1,>=2.0"]) == ["click==8.1", "torch==2.9.0+cpu"]
    assert packages.pins(there, only=packages.HELD) == ["torch==2.9.0+cpu"]


def test_the_kits_own_requirements_are_those_that_are_checked():
    wanted = packages.requirements()
    assert wanted["torch"].contains("2.4.0") and not wanted["torch"].contains("2.3.1")
    assert not len(wanted["ipywidgets"]), "Colab's is older than the extra asks for, and its front end goes with it"
    assert {"numpy", "torch", "segmentation-models-pytorch"} <= set(wanted) and "pytest" not in wanted


def test_this_process_has_imported_pytest():
    assert {"pytest", "numpy"} <= packages.imported_packages() and "snakemake" not in packages.imported_packages()
    assert packages.installed_versions()["numpy"] == importlib.metadata.version("numpy")


def make_wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    """The smallest wheel: one module that tells its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(path, "w") as archive:
        contents = {
            f"{name}.py": f"version = {version!r}\n",
            f"{info}/METADATA": "\n".join(lines) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        }
        for member, text in contents.items():
            archive.writestr(zipfile.ZipInfo(member), text)  # the same bytes whenever it is made
    return path


@pytest.fixture
def rented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own without internet, with torch 2.6 (a stand-in) and helper 1.0; returns a folder of wheels."""
    venv.create(tmp_path / "venv", symlinks=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (site / "pip").symlink_to(Path(pip.__file__).parent)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def versions() -> dict[str, str]:
        return {one.metadata["Name"]: one.version for one in importlib.metadata.distributions(path=[str(site)])}

    monkeypatch.setattr(packages, "installed_versions", versions)
    first = [make_wheel(tmp_path / "first", "torch", "2.6.0+cu124"), make_wheel(tmp_path / "first", "helper", "1.0")]
    ran = packages.run_pip("install", "--quiet", *map(str, first))
    assert ran.returncode == 0, ran.stderr
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "torch", "2.9.0")
    make_wheel(wheels, "helper", "2.0")
    make_wheel(wheels, "tool", "1.0", "torch", "helper")
    make_wheel(wheels, "tool", "2.0", "torch>=2.8", "helper")
    make_wheel(wheels, "other", "1.0", "helper>=2", "torch")
    make_wheel(wheels, "hungry", "1.0", "torch>=2.8")
    return wheels


def test_an_older_version_is_taken_rather_than_replacing_torch(rented):
    assert packages.install(["tool>=1"], wheels=rented) == {"tool": ("", "1.0")}
    assert packages.installed_versions()["torch"] == "2.6.0+cu124"


def test_where_nothing_else_helps_small_packages_may_change_and_this_is_told(rented):
    assert packages.install(["other"], wheels=rented) == {"other": ("", "1.0"), "helper": ("1.0", "2.0")}
    assert packages.installed_versions()["torch"] == "2.6.0+cu124"


def test_a_loaded_package_is_never_replaced(rented):
    with pytest.raises(KitError, match=r"could not install other \(Cannot install other.*conflict.*\)\. Choose a newer"):
        packages.install(["other"], imported={"helper"}, wheels=rented)
    assert packages.installed_versions().keys() == {"torch", "helper"}


def test_what_needs_another_torch_is_refused_and_nothing_changes(rented):
    before = packages.installed_versions()
    with pytest.raises(KitError, match="pip could not install hungry"):
        packages.install(["hungry"], wheels=rented)
    assert packages.installed_versions() == before


def test_an_old_package_is_upgraded_when_asked_for(rented):
    assert packages.install(["helper>=2"], wheels=rented) == {"helper": ("1.0", "2.0")}


def test_without_wheels_and_internet_the_reader_is_told_what_to_do(rented):
    with pytest.raises(KitError, match=r"install tool \(Could not find.*Is the internet switched on.* attach the kit's bundle"):
        packages.install(["tool"])


# ------------------------------------------------------------------------------------------------------------------ data sets


@pytest.fixture
def attached(tmp_path: Path, spider_layout: Path, released_root: Path) -> Path:
    """Kaggle's input folder: SPIDER as two unpacked archives, the released slices, studies, a phantom and the kit's wheel."""
    top = tmp_path / "input"
    spider = top / "datasets" / "somebody" / "spider-mri"
    for inside in ("images", "masks"):
        (spider / inside).mkdir(parents=True)
        (spider / inside / inside).symlink_to(spider_layout / inside)
    (spider / "overview.csv").symlink_to(spider_layout / "overview.csv")
    (top / "slices").mkdir()
    (top / "slices" / "release").symlink_to(released_root)
    studies = top / "competitions" / "rsna"
    (studies / "train_images" / "1" / "2" / "images").mkdir(parents=True)
    (studies / "train.csv").touch()
    (studies / "train_images" / "1" / "2" / "images" / "1_t1.mha").touch()
    phantom = top / "kit" / "spider-kit" / "phantom-smoke"
    for inside in ("images", "masks"):
        (phantom / inside).mkdir(parents=True)
        (phantom / inside / "1_t1.mha").touch()
    (phantom / "phantom.json").write_text("{}")
    make_wheel(phantom.parent / "wheels", "spider_utils", "0.1.0")
    (top / ".hidden" / "images").mkdir(parents=True)
    (top / ".hidden" / "images" / "1_t1.mha").touch()
    return top


def test_data_are_found_in_any_folder(attached):
    found = {one.kind: one for one in inputs.find_data(inputs.look_through([attached]))}
    assert (
        sorted(found) == ["phantom", "rsna", "spider", "spider-2d"]
        and len(inputs.find_data(inputs.look_through([attached]))) == 4
    )
    spider = attached / "datasets" / "somebody" / "spider-mri"
    assert found["spider"] == inputs.FoundData("spider", spider, spider / "images" / "images", spider / "masks" / "masks")
    assert found["spider-2d"].root == attached / "slices" / "release"
    assert found["rsna"].root == attached / "competitions" / "rsna"
    assert inputs.find_wheels(inputs.look_through([attached])) == attached / "kit" / "spider-kit" / "wheels"


def test_images_without_masks_or_of_other_names_are_no_data(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1_t1.mha").touch()
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "1_t1.mha").touch()
    (tmp_path / "more" / "images").mkdir(parents=True)
    (tmp_path / "more" / "images" / "1_t1.mha").touch()
    (tmp_path / "photos" / "images").mkdir(parents=True)
    (tmp_path / "photos" / "images" / "cat.png").touch()
    (tmp_path / "photos" / "masks").mkdir()
    assert [one.root for one in inputs.find_data(inputs.look_through([tmp_path]))] == [tmp_path]
    assert (
        inputs.find_data(inputs.look_through([tmp_path / "nothing"])) == []
        and inputs.find_wheels(inputs.look_through([tmp_path])) is None
    )


def test_the_search_ends(tmp_path, monkeypatch):
    deep = tmp_path.joinpath(*"abcdefghij")
    (deep / "images").mkdir(parents=True)
    (deep / "masks").mkdir()
    (deep / "images" / "1_t1.mha").touch()
    assert inputs.find_data(inputs.look_through([tmp_path])) == []
    assert len(inputs.find_data(inputs.look_through([tmp_path.joinpath(*"abcdef")]))) == 1
    monkeypatch.setattr(inputs, "MAX_FOLDERS", 3)
    assert inputs.find_data(inputs.look_through([tmp_path.joinpath(*"abcdef")])) == []


def test_found_sets_get_their_places_by_links(attached, tmp_path):
    found = inputs.find_data(inputs.look_through([attached]))
    second = inputs.FoundData("spider", attached, attached, attached)
    placed = inputs.lay_out([*found, second], tmp_path / "laid")
    assert sorted(placed) == ["phantom-smoke", "rsna", "spider", "spider-2d"] and placed["spider"] is not second
    assert len(open_source("spider", tmp_path / "laid" / "spider").cases) == 12
    source = open_source("spider", tmp_path / "laid" / "spider")
    assert set(source.cases["subset"]) == {"training", "validation"}, "the table came along"
    assert source.load("1_t1").image.array.shape == (5, 24, 20)
    assert len(open_source("spider-2d", tmp_path / "laid" / "spider-2d").cases) == 3
    assert (tmp_path / "laid" / "phantom-smoke" / "phantom.json").is_file()
    assert (tmp_path / "laid" / "rsna" / "train.csv").is_file()


def test_where_data_are_looked_for(monkeypatch):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "SPIDER_KIT_INPUT"):
        monkeypatch.delenv(name, raising=False)
    assert inputs.input_folders() == []
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert inputs.input_folders() == [Path("/kaggle/input")]
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260101")
    assert inputs.input_folders() == [Path("/content/drive/MyDrive")]
    monkeypatch.setenv("SPIDER_KIT_INPUT", "elsewhere")
    assert inputs.input_folders() == [Path("elsewhere")]


# --------------------------------------------------------------------------------------------------------------- the whole cell


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: Path) -> Path:
    """Variables of a Kaggle notebook; nothing is installed. Returns the working folder."""
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setenv("SPIDER_KIT_INPUT", str(attached))
    monkeypatch.setenv("SPIDER_KIT_DATA", "")
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path / "working"))
    monkeypatch.setattr(session.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    monkeypatch.setattr(session, "install", lambda *_, **__: pytest.fail("nothing was missing"))
    return tmp_path / "working"


def test_on_ones_own_computer_nothing_happens(monkeypatch, capsys):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "SPIDER_KIT_DATA"):
        monkeypatch.delenv(name, raising=False)
    set_up()
    assert capsys.readouterr().out == "" and "SPIDER_KIT_DATA" not in os.environ


def test_the_first_cell_needs_nothing_that_it_installs():
    """Imported where SimpleITK, MONAI and their like are still missing; torch would take seconds for nothing."""
    late = ["SimpleITK", "monai", "torch", "sklearn", "albumentations", "pooch", "timm", "matplotlib", "typer"]
    code = f"import sys; from spider_utils.cloud import set_up; set_up(); print([m for m in {late} if m in sys.modules])"
    environment = {k: v for k, v in os.environ.items() if k not in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_kaggle_notebook_is_told_what_is_there(kaggle, attached, capsys):
    set_up()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ok packages: nothing was missing"
    spider = attached / "datasets" / "somebody" / "spider-mri"
    assert f'ok data: {spider}, DATA = "spider" uses it, with ROOT left empty' in said
    studies = attached / "competitions" / "rsna"
    assert f'ok data: {studies}, studies for notebook 14: ROOT = "{studies}"' in said
    assert said[-1].startswith("ok networks run on: ") and "mixed precision: " in said[-1] and len(said) == 6
    workspace = Workspace.open("smoke", "spider", "")
    assert len(workspace.source.cases) == 12 and workspace.home == kaggle
    assert not kaggle.exists(), "what lies in the working folder would be kept as a result"
    set_up()  # a second run of the cell
    assert capsys.readouterr().out.splitlines() == said


def test_a_phantom_of_other_settings_is_not_used(kaggle, monkeypatch):
    set_up()
    workspace = Workspace.open("smoke", "phantom")
    made = []
    monkeypatch.setattr(workflow, "make_once", lambda path, is_there, make: made.append((path, is_there())))
    with pytest.raises(DataError, match="does not exist"):  # nothing was made here
        _ = workspace.source
    assert made == [(kaggle / "data" / "phantom-smoke", False)]


def test_what_is_missing_old_or_kept_is_told(kaggle, monkeypatch, capsys):
    found = packages.installed_versions()
    there = found | {"scikit-learn": "1.2.2", "timm": "0.9.2", "pandas": "1.5.3"}
    del there["monai"]
    asked = []

    def install(wanted, loaded, wheels):
        asked.append((list(wanted), wheels))
        if wanted[0].startswith("timm"):
            raise KitError("pip could not install timm")
        return {"monai": ("", "1.5.0")} if wanted[0].startswith("monai") else {"scikit-learn": ("1.2.2", "1.6.1")}

    monkeypatch.setattr(session, "install", install)
    monkeypatch.setattr(session, "installed_versions", lambda: there)
    monkeypatch.setattr(session, "requirements", lambda: WANTED)
    monkeypatch.setattr(session, "imported_packages", set)
    set_up()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("!! the kit needs pandas>=2.0, 1.5.3 is here and stays: other software here is built for it")
    assert said[1].startswith("!! the kit needs timm>=1.0, 0.9.2 is here and stays; lessons that use it may fail")
    assert said[2:4] == ["ok packages: installed monai 1.5.0", "ok packages: changed scikit-learn 1.2.2 to 1.6.1"]
    assert [wanted[0].split(">")[0] for wanted, _ in asked] == ["monai", "scikit-learn", "timm"]
    assert {wheels for _, wheels in asked} == {inputs.find_wheels(inputs.look_through(inputs.input_folders()))}


def test_colab_without_drive_says_how_to_mount_it(kaggle, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260101")
    monkeypatch.delenv("SPIDER_KIT_INPUT")
    monkeypatch.setattr(inputs, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(session, "DRIVE", tmp_path / "drive")
    set_up()
    assert "drive.mount('/content/drive')" in capsys.readouterr().out
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    set_up()
    said = capsys.readouterr().out
    assert "drive.mount" not in said and "data: none found in" in said
