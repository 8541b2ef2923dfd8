"""Notebooks on machines like Colab's and Kaggle's: their versions of packages, their variables and folders, with and without
internet.

Minutes, and a gigabyte of downloads, so only on request: SPIDER_TEST_CLOUD=1 pytest tests/notebooks/test_rented_machines.py.
Theirs is not all: Python is the one that runs the tests, and torch and torchvision (nearly 5 GB) are those of this environment,
linked into the other; so what pip may not touch is really there.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spider_utils.cloud.bundle import build_bundle
from spider_utils.cloud.heads import settings
from spider_utils.cloud.packages import pins
from tests.notebooks.conftest import CHECKOUT
from tests.unit.test_cloud import make_wheel

pytestmark = pytest.mark.skipif(not os.environ.get("SPIDER_TEST_CLOUD"), reason="minutes; SPIDER_TEST_CLOUD=1 runs it")

COMMON = [
    "absl-py==1.4.0",
    "einops==0.8.1",
    "requests==2.32.4",
    "tqdm==4.67.1",
    "packaging==25.0",
    "ipykernel==6.17.1",
    "ipython==7.34.0",
]
# Colab's runtime 2026.01 (googlecolab/backend-info, pip-freeze.txt at bd8aaa45).
COLAB = ["numpy==2.0.2", "pandas==2.2.2", "scipy==1.16.3", "scikit-learn==1.6.1", "matplotlib==3.10.0", "pillow==11.3.0"]
COLAB += ["albumentations==2.0.8", "timm==1.0.24", "pooch==1.8.2", "safetensors==0.7.0", "typer==0.21.1", "ipywidgets==7.7.1"]
# Kaggle's image of 2025 (Kaggle/docker-python, kaggle_requirements.txt at 01d659bb; numpy and pandas as its users list them).
KAGGLE = ["numpy==1.26.4", "pandas==2.2.3", "scipy==1.13.1", "scikit-learn==1.2.2", "matplotlib==3.7.5", "pillow==11.1.0"]
KAGGLE += ["albumentations==2.0.8", "timm==1.0.19", "pooch==1.8.2", "safetensors==0.5.3", "typer==0.16.0", "ipywidgets==8.1.5"]
KAGGLE += ["SimpleITK==2.5.2"]
HELD = ("torch", "torchvision", "numpy", "pandas", "scipy", "matplotlib", "pillow", "ipywidgets")


@dataclass
class Machine:
    """An environment of its own: where it is, and what runs in it."""

    folder: Path
    variables: dict[str, str]

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def run(self, *arguments: str, timeout: int = 1800, **variables: str) -> str:
        """Run its Python; what it printed. Nothing of this environment reaches it."""
        ours = ("PATH", "HOME", "OMP_NUM_THREADS")
        kept = {name: value for name, value in os.environ.items() if name in ours or name.startswith("PIP_")}
        shown = {"MPLBACKEND": "agg", "SPIDER_KIT_HEADLESS": "1", "SPIDER_KIT_HOME": str(self.folder / "working")}
        (self.folder / "working").mkdir(exist_ok=True)
        ran = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder / "working",
            env=kept | shown | self.variables | variables,
            text=True,
            capture_output=True,
            check=False,
            timeout=timeout,
        )
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
        return ran.stdout

    def versions(self) -> dict[str, str]:
        said = self.run("-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        return {canonicalize_name(one["name"]): one["version"] for one in json.loads(said)}

    def first_cell(self, **variables: str) -> list[str]:
        """Run the first cell of a notebook as it stands; the lines that it says."""
        return self.run("-c", code_cells("04_unet")[0], **variables).splitlines()

    def notebook(self, name: str, **variables: str) -> None:
        """Run all cells of a notebook in the smoke profile, with no front end."""
        cells = "\n".join(code_cells(name)).replace('PROFILE = "quick"', 'PROFILE = "smoke"')
        script = self.folder / f"{name}.py"
        script.write_text(f"from IPython.display import display\n{cells}", encoding="utf-8")
        self.run(str(script), **variables)


def code_cells(name: str) -> list[str]:
    notebook = json.loads((CHECKOUT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def link_torch(folder: Path) -> None:
    """Links to torch, torchvision and all that they need but numpy and pillow, which the machine has in its own version."""
    folder.mkdir()
    waiting, done = ["torch", "torchvision"], {"numpy", "pillow"}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in done:
            continue
        done.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # for another machine
            continue
        for top in {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
        needs = [Requirement(line) for line in distribution.requires or ()]
        waiting += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]


def make_machine(folder: Path, packages: list[str], **variables: str) -> Machine:
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    machine = Machine(folder, variables)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    link_torch(folder / "linked")
    (site / "linked.pth").write_text(f"{folder / 'linked'}\n")
    machine.run("-m", "pip", "install", "--quiet", "setuptools==75.2.0", *COMMON, *packages)
    there = machine.versions()
    assert there["torch"] == importlib.metadata.version("torch") and there["numpy"] == packages[0].split("==")[1]
    return machine


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kaggle's input folder with the unpacked bundle in it, built as `make kaggle-bundle PROFILE=smoke` does."""
    folder = tmp_path_factory.mktemp("kaggle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDER_KIT_HOME", str(folder / "home"))
        zipped = build_bundle(CHECKOUT, folder / "bundle.zip", "smoke")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(folder / "input" / "datasets" / "somebody" / "spider-kit")
    return folder / "input"


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (before[name], after[name]) for name in before if after[name] != before[name]}


def test_kaggle_without_internet_and_then_with_it(tmp_path, attached):
    machine = make_machine(tmp_path, KAGGLE, KAGGLE_KERNEL_RUN_TYPE="Batch", SPIDER_KIT_INPUT=str(attached))
    before = machine.versions()
    offline = {"PIP_NO_INDEX": "1", "TMPDIR": str(tmp_path)}
    said = machine.first_cell(**offline)
    print("\n".join(said))
    after = machine.versions()
    assert changed(before, after) == {}, "nothing that was there is replaced"
    wanted = {"captum", "monai", "segmentation-models-pytorch", "surface-distance"}
    assert wanted | {"spider-utils"} == set(after) - set(before)
    told = [line for line in said if line.startswith("!!")]
    assert len(told) == 1 and re.match(r"!! the kit needs scikit-learn>=1.6, 1.2.2 is here and stays", told[0])
    for name in ("00_start_here", "04_unet"):
        machine.notebook(name, **offline)
    assert not (machine.folder / "working" / "data" / "phantom-smoke").exists(), "the bundle's phantom was used"

    said = machine.first_cell(TMPDIR=str(tmp_path))
    print("\n".join(said))
    moved = changed(before, machine.versions())
    assert "scikit-learn" in moved and not set(moved) & set(HELD)
    assert any(line.startswith("ok packages: changed") and "scikit-learn 1.2.2 to" in line for line in said)
    assert not [line for line in said if line.startswith("!!")]
    machine.notebook("13b_gradings", TMPDIR=str(tmp_path))


def test_colab_takes_the_kit_from_the_repository(tmp_path):
    where = settings(CHECKOUT)
    local = tmp_path / "repository"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(CHECKOUT), str(local)], check=True)
    subprocess.run(["git", "branch", "--force", where["branch"], "HEAD"], cwd=local, check=True)
    # The cell's own address, answered from this checkout.
    redirect = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{local.as_uri()}.insteadOf"}
    redirect["GIT_CONFIG_VALUE_0"] = f"https://github.com/{where['repository']}"
    machine = make_machine(tmp_path, COLAB, COLAB_RELEASE_TAG="release-colab_20260115", TMPDIR=str(tmp_path), **redirect)
    before = machine.versions()
    said = machine.first_cell()
    print("\n".join(said))
    after = machine.versions()
    assert changed(before, after) == {} and not [line for line in said if line.startswith("!!")]
    wanted = {"captum", "monai", "segmentation-models-pytorch", "simpleitk", "surface-distance", "spider-utils"}
    assert wanted == set(after) - set(before)
    for name in ("00_start_here", "02_preprocessing"):
        machine.notebook(name)


@pytest.mark.parametrize(("torch", "torchvision"), [("2.6.0+cu124", "0.21.0+cu124"), ("2.10.0+cu128", "0.25.0+cu128")])
def test_their_own_torch_stays_whatever_new_releases_ask_for(tmp_path, torch, torchvision):
    """What pip would install beside stand-ins of the torch of Colab 2025.07 and of Kaggle 2026: never another torch or numpy."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    machine = Machine(tmp_path, {})
    stand_ins = [make_wheel(tmp_path, "torch", torch), make_wheel(tmp_path, "torchvision", torchvision)]
    machine.run("-m", "pip", "install", "--quiet", "numpy==2.0.2", *map(str, stand_ins))
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(pins(machine.versions())) + "\n")
    wanted = ["captum>=0.7", "monai>=1.4", "segmentation-models-pytorch>=0.5", "surface-distance>=0.1"]
    options = ["--dry-run", "--quiet", "--report", str(tmp_path / "report.json"), "--constraint", str(constraints)]
    machine.run("-m", "pip", "install", *options, *wanted)
    report = json.loads((tmp_path / "report.json").read_text())
    found = {canonicalize_name(one["metadata"]["name"]): one["metadata"]["version"] for one in report["install"]}
    print(torch, {name: version for name, version in found.items() if any(line.startswith(name) for line in wanted)})
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= set(found)
    assert not {"torch", "torchvision", "numpy"} & set(found)
