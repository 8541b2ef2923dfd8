"""The heads of notebooks that follow from where the repository lies: badges, and the cell that installs the kit elsewhere.

Both are written from ``[tool.spider-kit]`` in pyproject.toml, into all notebooks and the README.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from spider_utils.course import notebook_names
from spider_utils.errors import DataError
from spider_utils.files import atomic_path

SETUP_CELL = """\
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("spider_utils") is None:  # on Colab or Kaggle: from an attached bundle, or from the web
    inputs = Path(os.environ.get("SPIDER_KIT_INPUT", "/kaggle/input"))
    bundled = (path for depth in range(5) for path in inputs.glob("*/" * depth + "wheels/spider_utils-*.whl"))
    kit = str(next(bundled, "git+https://github.com/{repository}@{branch}"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", kit], check=True)
from spider_utils.cloud import set_up

set_up()"""
_SETUP_MARK = 'find_spec("spider_utils")'
_BADGES = re.compile(r"^\[!\[Open in Colab\].*$", re.MULTILINE)
FIRST_NOTEBOOK = "00_start_here"
_SLUG = re.compile(r"[\w.-]+/[\w.-]+")
_BRANCH = re.compile(r"[\w.-]+(?:/[\w.-]+)*")


def settings(home: Path) -> dict[str, Any]:
    """``[tool.spider-kit]`` of the checkout ``home``. Raises DataError where it is missing or names no repository."""
    path = home / "pyproject.toml"
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["spider-kit"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise DataError(path, "holds no [tool.spider-kit]", "Run this inside a checkout of the kit.") from error
    for key, pattern, example in (("repository", _SLUG, "owner/name"), ("branch", _BRANCH, "main")):
        if not pattern.fullmatch(str(found.get(key, ""))):
            raise DataError(path, f"[tool.spider-kit] has no {key} such as {example}", "Write it there, then run this again.")
    return found


def badges(notebook: str, repository: str, branch: str) -> str:
    """The line of badges that open a notebook in Colab and in Kaggle."""
    path = f"{repository}/blob/{branch}/notebooks/{notebook}.ipynb"
    colab = f"https://colab.research.google.com/github/{path}"
    kaggle = f"https://kaggle.com/kernels/welcome?src=https://github.com/{path}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )


def _with_badges(text: str, line: str) -> str:
    return _BADGES.sub(lambda _: line, text, count=1) if _BADGES.search(text) else f"{text.rstrip()}\n\n{line}"


def renewed_notebook(text: str, name: str, repository: str, branch: str) -> str:
    """A notebook's JSON with badges at the end of its first cell and the set-up cell; outputs and all else stay as they are.

    Args:
        text: JSON as nbformat writes it.
        name: file name without .ipynb.
    """
    notebook = json.loads(text)
    cells = notebook["cells"]
    setup = next((cell for cell in cells if cell["cell_type"] == "code" and _SETUP_MARK in "".join(cell["source"])), None)
    changes = [(cells[0], _with_badges("".join(cells[0]["source"]), badges(name, repository, branch)))]
    if setup is not None:
        changes.append((setup, SETUP_CELL.format(repository=repository, branch=branch)))
    for cell, source in changes:
        cell["source"] = source.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def renewed_heads(home: Path) -> dict[Path, str]:
    """File -> its text as it should be, for every notebook and the README of a checkout; only those that are out of date.

    Raises:
        DataError: see settings; or a notebook is no JSON.
    """
    where = settings(home)
    repository, branch = where["repository"], where["branch"]
    stale = {}
    for path in (home / "notebooks" / f"{name}.ipynb" for name in notebook_names(home)):
        text = path.read_text(encoding="utf-8")
        try:
            wanted = renewed_notebook(text, path.stem, repository, branch)
        except (ValueError, KeyError, IndexError) as error:
            raise DataError(path, f"is no notebook ({error})", "Take it from the repository again.") from error
        if wanted != text:
            stale[path] = wanted
    readme = home / "README.md"
    text = readme.read_text(encoding="utf-8")
    if (wanted := _BADGES.sub(lambda _: badges(FIRST_NOTEBOOK, repository, branch), text)) != text:
        stale[readme] = wanted
    return stale


def write_heads(home: Path) -> list[Path]:
    """Bring badges and set-up cells of a checkout up to date; returns the files that changed."""
    stale = renewed_heads(home)
    for path, text in stale.items():
        changed = path.stat().st_mtime_ns
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
        os.utime(path, ns=(changed, changed))  # nothing that a run makes hangs on it: Snakemake need not run the course again
    return list(stale)
