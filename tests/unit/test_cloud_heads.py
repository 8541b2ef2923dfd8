"""Badges and first cells follow from one setting, in every notebook and the README."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from spider_utils import cloud
from spider_utils.cloud import heads
from spider_utils.errors import DataError
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]*_*.ipynb"))


def test_badges_and_first_cells_are_up_to_date():
    stale = [str(path.relative_to(REPOSITORY)) for path in heads.renewed_heads(REPOSITORY)]
    assert not stale, f"run `make badges`, which writes {stale}"


def test_every_notebook_has_the_same_first_cell_and_its_own_badges():
    where = heads.settings(REPOSITORY)
    cells, lines = set(), set()
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert "find_spec" in code[0], f"{path.name} begins with another cell than the set-up"
        assert "parameters" in notebook["cells"][4]["metadata"]["tags"], "the set-up runs before the parameters"
        cells.add(code[0])
        (line,) = [line for line in "".join(notebook["cells"][0]["source"]).splitlines() if "Open in" in line]
        assert line == heads.badges(path.stem, where["repository"], where["branch"])
        lines.add(line)
    assert len(cells) == 1 and len(lines) == len(NOTEBOOKS)
    (cell,) = cells
    assert len(cell.splitlines()) <= 15 and max(map(len, cell.splitlines())) <= 120, "short enough to read"
    assert f"github.com/{where['repository']}@{where['branch']}" in cell


def test_the_setting_agrees_with_the_projects_address():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    repository = project["tool"]["spider-kit"]["repository"]
    assert project["project"]["urls"]["Repository"] == f"https://github.com/{repository}"


def test_badges_lead_to_the_notebook():
    assert heads.badges("04_unet", "o/n", "next") == (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        "(https://colab.research.google.com/github/o/n/blob/next/notebooks/04_unet.ipynb) "
        "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
        "(https://kaggle.com/kernels/welcome?src=https://github.com/o/n/blob/next/notebooks/04_unet.ipynb)"
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one notebook, whose repository has moved."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(REPOSITORY / "notebooks" / "04_unet.ipynb", tmp_path / "notebooks")
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.spider-kit]\nrepository = "new-owner/new.name"\nbranch = "course/2027"\n')
    return tmp_path


def test_a_moved_repository_reaches_every_place_and_nothing_else_changes(checkout):
    path = checkout / "notebooks" / "04_unet.ipynb"
    before, changed = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime_ns
    assert heads.write_heads(checkout) == [path, checkout / "README.md"]
    text = path.read_text(encoding="utf-8")
    assert text.count("new-owner/new.name") == 3 and "spider-kit/spider-kit" not in text and "@course/2027" in text
    assert "new-owner/new.name/blob/course/2027/notebooks/00_start_here.ipynb" in (checkout / "README.md").read_text()
    after = json.loads(text)
    for cell in (0, 2):
        before["cells"][cell].pop("source"), after["cells"][cell].pop("source")
    assert before == after and path.stat().st_mtime_ns == changed
    assert heads.write_heads(checkout) == [], "a second run finds nothing to do"


def test_a_notebook_without_badges_gets_them(checkout):
    path = checkout / "notebooks" / "04_unet.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = ["# A title\n", "\n", "and a sentence"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    heads.write_heads(checkout)
    source = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    assert source[:4] == ["# A title\n", "\n", "and a sentence\n", "\n"] and source[4].startswith("[![Open in Colab]")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"holds no \[tool.spider-kit\]"),
        ("[tool.spider-kit]\n", "has no repository"),
        ('[tool.spider-kit]\nrepository = "x/y/z"\nbranch = "main"\n', "has no repository"),
        ('[tool.spider-kit]\nrepository = "x/y"\nbranch = "a b"\n', "has no branch"),
    ],
)
def test_bad_settings_are_refused(checkout, text, problem):
    (checkout / "pyproject.toml").write_text(text)
    with pytest.raises(DataError, match=problem):
        heads.write_heads(checkout)


def test_a_file_that_is_no_notebook_is_named(checkout):
    (checkout / "notebooks" / "05_broken.ipynb").write_text("{")
    with pytest.raises(DataError, match="05_broken.ipynb: is no notebook"):
        heads.write_heads(checkout)


def run_first_cell(monkeypatch: pytest.MonkeyPatch, inputs: Path) -> tuple[list[list[str]], list[str]]:
    """Run the cell as where the kit is not installed; returns the commands it would run and what it called."""
    commands: list[list[str]] = []
    called: list[str] = []
    monkeypatch.setenv("SPIDER_KIT_INPUT", str(inputs))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(cloud, "set_up", lambda: called.append("set_up"))
    where = heads.settings(REPOSITORY)
    exec(heads.SETUP_CELL.format(repository=where["repository"], branch=where["branch"]), {})
    return commands, called


@pytest.mark.parametrize("place", ["wheels", "kit/wheels", "kit/spider-kit/wheels", "datasets/me/kit/spider-kit/wheels"])
def test_the_first_cell_takes_the_bundles_wheel_wherever_it_lies(monkeypatch, tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    wheel = tmp_path / place / "spider_utils-0.1.0-py3-none-any.whl"
    wheel.touch()
    commands, called = run_first_cell(monkeypatch, tmp_path)
    assert [command[1:] for command in commands] == [["-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]]
    assert called == ["set_up"]


def test_the_first_cell_takes_the_repository_where_no_bundle_is(monkeypatch, tmp_path):
    commands, called = run_first_cell(monkeypatch, tmp_path / "nothing")
    assert commands[0][-1] == "git+https://github.com/spider-kit/spider-kit@main" and called == ["set_up"]
