"""A copy of the course in a folder of its own, run once in the smoke profile and shared by the tests here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("[0-9][0-9]*_*.ipynb"))


def make_home(folder: Path) -> Path:
    """A folder that looks like a checkout: own notebooks, the checkout's package."""
    folder.mkdir(parents=True)
    for name in ("spider_utils", "data_manifest", "pyproject.toml", "Snakefile"):
        (folder / name).symlink_to(CHECKOUT / name)
    shutil.copytree(CHECKOUT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return folder


def kit(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run ``spider-kit`` in ``home`` as a user would."""
    environment = os.environ | {"SPIDER_KIT_HOME": str(home), "SPIDER_KIT_HEADLESS": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, "-m", "spider_utils.cli", *arguments]
    return subprocess.run(command, cwd=home, env=environment, text=True, capture_output=True, timeout=1800)


@pytest.fixture(scope="session")
def smoke_course(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """The whole course run in the smoke profile: its home, and what the command said."""
    home = make_home(tmp_path_factory.mktemp("course") / "home")
    return home, kit(home, "course", "--profile", "smoke", "--cores", "2")
