"""The book's sources hold README, docs/, every notebook and every room; a small book loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from book import sources
from tests.book_pages import all_loads_from_elsewhere, loads_from_elsewhere
from tests.unit.test_layout import FLOORS, MODULES, PROJECT, project_ranges

ROOT = Path(__file__).resolve().parents[2]
needs_sphinx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("sphinx", "myst_nb", "furo")),
    reason="the book's packages (extra `book`) are not installed: run `make book`",
)


@pytest.fixture(scope="module")
def pages():
    return sources.pages(ROOT)


# --------------------------------------------------------------------------------------------------------- README and docs/


def test_readme_and_docs_are_pages_at_the_places_where_they_lie(pages):
    committed = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert len(committed) > 10 and {name for name in pages if name.startswith("docs/")} == set(committed)
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in readme if line not in pages["index.md"].splitlines() and "badge" not in line] == []
    for name in committed:
        changed = [
            (line, laid_out)
            for line, laid_out in zip((ROOT / name).read_text("utf-8").splitlines(), pages[name].splitlines(), strict=True)
            if line != laid_out
        ]
        assert all(line.replace("README.md", "index.md") == laid_out for line, laid_out in changed), changed


def test_a_link_to_the_readme_leads_to_the_entry(tmp_path):
    root = small_checkout(tmp_path)
    assert sources.text_pages(root)["docs/results/spine.md"].endswith("[Two commands](../../index.md#use), `README.md`.\n")


def test_the_contents_name_every_page_once(pages):
    listed = re.findall(r"^((?:docs|api)/[\w/-]*)$", pages["index.md"], re.MULTILINE)
    wanted = [name.removesuffix(".md") for name in pages if name.startswith("docs/")] + ["api/index"]
    assert sorted(listed) == sorted(wanted), "each page of docs/ wants a line in book/contents.md"
    for name in wanted:
        titles = re.findall(
            r"^# (.*)$", re.sub(r"^```.*?^```", "", pages[f"{name}.md"], flags=re.MULTILINE | re.DOTALL), re.MULTILINE
        )
        assert len(titles) == 1, f"{name}: a page has one title, not {titles}"


def test_the_readme_is_read_in_three_minutes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200, "what is long belongs on a page under docs/"


def test_files_that_pages_show_or_link_to_come_along(pages):
    linked = sources.linked_files(pages, ROOT)
    assert {"CITATION.cff", "figures/06_resunet/slice_best.png", "figures/ahmed_spider-2d/ladder.png"} <= linked
    assert not [name for name in linked if name.endswith((".md", ".ipynb"))]


# --------------------------------------------------------------------------------------------------------------- notebooks


def markdown_of(notebook):
    return "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def test_every_notebook_is_a_page_with_its_number_and_own_title(pages):
    committed = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(name for name in pages if name.startswith("notebooks/")) == [f"notebooks/{name}" for name in committed]
    for name in committed:
        text = markdown_of(json.loads(pages[f"notebooks/{name}"]))
        before = markdown_of(json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8")))
        titles = re.findall(r"^# (.*)$", text, re.MULTILINE)
        own = re.search(r"^# (.*)$", before, re.MULTILINE)[1]
        assert titles == [f"{name.split('_')[0]} · {own}"], name
        assert not re.search(r"!\[[^\]]*\]\(http", text), f"{name} shows a picture from the web"
        assert "[Open in Colab](https://colab.research.google.com/" in text, f"{name} lost its link to Colab"


def test_badges_and_further_titles_and_alt_texts_are_made_ready():
    picture = {"image/png": "", "text/plain": ""}
    cells = [
        {
            "cell_type": "markdown",
            "source": [
                "# Title\n",
                "\n",
                "[![Open](https://a.org/b.svg)](https://a.org/x) [![Try](https://a.org/c.svg)](https://a.org/y)\n",
                "# Part 2",
            ],
        },
        {"cell_type": "markdown", "source": "# Part 3"},
        {"cell_type": "code", "metadata": {}, "outputs": [{"data": picture, "metadata": {"image/png": {"alt": "a spine"}}}]},
        {"cell_type": "code", "metadata": {}, "outputs": [{"data": picture, "metadata": {}}, {"output_type": "stream"}]},
    ]
    made = sources.as_page({"cells": cells}, "07")["cells"]
    assert made[0]["source"].startswith("# 07 · Title\n\n[Open](https://a.org/x) · [Try](https://a.org/y)\n")
    assert made[1]["source"] == "## Part 3"
    assert made[2]["metadata"] == {"mystnb": {"image": {"alt": "a spine"}}} and made[3]["metadata"] == {}


# --------------------------------------------------------------------------------------------------------------------- API


def test_every_room_has_a_page_with_all_its_modules(pages):
    rooms = {
        name.removeprefix("api/").removesuffix(".rst") for name in pages if name.startswith("api/") and name.endswith(".rst")
    }
    assert rooms == set(FLOORS) - {"cli"}
    named = {
        line.split(":: ")[1] for name, text in pages.items() for line in text.splitlines() if line.startswith(".. automodule")
    }
    assert named == {name for name in MODULES if name != "spider_utils" and not name.startswith("spider_utils.cli")}
    for room in rooms:
        said = re.search(rf"^\| \[{room}\]\({room}\.rst\) \| (.*) \|$", pages["api/index.md"], re.MULTILINE)
        assert said and said[1], f"{room} says nothing of itself in the table of rooms: it lacks a docstring"


# ---------------------------------------------------------------------------------------------------------------- lay_out


def small_checkout(root: Path) -> Path:
    """README, two pages of docs/, one notebook with a widget, a figure and a badge, and one room."""
    (root / "book").mkdir(parents=True)
    (root / "book" / "contents.md").write_text(
        "\n```{toctree}\n:hidden:\n:glob:\n\nnotebooks/*\n```\n\n```{toctree}\n:hidden:\n\ndocs/results/spine\ndocs/developers\napi/index\n```\n"
    )
    (root / "README.md").write_text(
        "# Small kit\n\n[first](notebooks/00_first.ipynb), [licence](LICENSE)\n\n## Use\n\n"
        "Read [results](docs/results/spine.md).\n"
    )
    (root / "docs" / "results").mkdir(parents=True)
    (root / "docs" / "developers.md").write_text("# For developers\n\nFloors.\n")
    (root / "docs" / "results" / "spine.md").write_text(
        "# Results\n\nLordosis, [notebook](../../notebooks/00_first.ipynb), [its numbers](../../data_manifest/numbers.csv),\n"
        "[Two commands](../../README.md#use), `README.md`.\n"
    )
    (root / "data_manifest").mkdir()
    (root / "data_manifest" / "numbers.csv").write_text("n\n1\n")
    (root / "LICENSE").write_text("free\n")
    (root / "spider_utils").mkdir()
    (root / "spider_utils" / "errors.py").write_text((ROOT / "spider_utils" / "errors.py").read_text(encoding="utf-8"))
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1", "version_major": 2}, "text/plain": "SliceViewer()"}
    outputs = [
        {"output_type": "display_data", "data": {"image/png": pixel}, "metadata": {"image/png": {"alt": "a white spine"}}},
        {"output_type": "display_data", "data": widget, "metadata": {}},
    ]
    cells = [
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": "# First\n\n[![Open](https://example.org/badge.svg)](https://example.org/open)",
        },
        {
            "cell_type": "code",
            "metadata": {},
            "execution_count": 1,
            "outputs": outputs,
            "source": "1 / 0  # would fail if it ran",
        },
    ]
    (root / "notebooks").mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    (root / "notebooks" / "00_first.ipynb").write_text(json.dumps(notebook))
    return root


def test_laying_out_again_touches_only_what_changed(tmp_path):
    root, out = small_checkout(tmp_path / "kit"), tmp_path / "out"
    sources.lay_out(root, out)
    assert (out / "LICENSE").read_text() == "free\n" and (out / "data_manifest" / "numbers.csv").read_text() == "n\n1\n"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    (root / "notebooks" / "00_first.ipynb").rename(root / "notebooks" / "01_first.ipynb")
    sources.lay_out(root, out)
    assert not (out / "notebooks" / "00_first.ipynb").exists() and (out / "notebooks" / "01_first.ipynb").exists()
    kept = {path: time for path, time in before.items() if path.exists()}
    assert len(kept) == len(before) - 1 and all(path.stat().st_mtime_ns == time for path, time in kept.items())


@needs_sphinx
def test_a_small_book_shows_everything_and_loads_nothing_from_elsewhere(tmp_path):
    sources.lay_out(small_checkout(tmp_path / "kit"), tmp_path / "out")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "book", tmp_path / "out", tmp_path / "html"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "html" / "notebooks" / "00_first.html").read_text(encoding="utf-8")
    assert 'alt="a white spine"' in page and "SliceViewer()" in page and "widget-view" not in page
    assert 'href="https://example.org/open"' in page and "badge.svg" not in page
    assert "Traceback" not in page and "would fail if it ran" in page
    assert 'href="notebooks/00_first.html"' in (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    result = (tmp_path / "html" / "docs" / "results" / "spine.html").read_text(encoding="utf-8")
    assert 'href="../../notebooks/00_first.html"' in result and 'href="../../index.html#use"' in result
    assert 'id="spider_utils.errors.KitError"' in (tmp_path / "html" / "api" / "errors.html").read_text(encoding="utf-8")
    assert "lordosi" in (tmp_path / "html" / "searchindex.js").read_text(encoding="utf-8"), (
        "the search knows the words of the results"
    )
    assert all_loads_from_elsewhere(tmp_path / "html") == {}


def test_loads_from_elsewhere_are_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="//cdn.org/a.css"><link rel="next" href="https://x.org/next"><script src="https://cdn.org/a.js">'
        '</script><img src="b.png" srcset="b.png 1x, http://cdn.org/b2.png 2x"><a href="https://doi.org/10.1000/1">read</a>'
        '<div style="background: url(https://cdn.org/c.png)"></div><style>@import "https://cdn.org/d.css";</style>'
        '<svg xmlns="http://www.w3.org/2000/svg"></svg><img src="data:image/png;base64,//8=">'
    )
    hosts = [address.split("/")[-1] for address in loads_from_elsewhere(page)]
    assert hosts == ["a.css", "a.js", "b2.png", "c.png", "d.css"]
    sheet = tmp_path / "sheet.css"
    sheet.write_text("@font-face { src: url('https://fonts.org/f.woff2') } /* https://example.org/why */")
    assert loads_from_elsewhere(sheet) == ["https://fonts.org/f.woff2"]


# ------------------------------------------------------------------------------------------------------------------ Binder


def test_binder_installs_what_pyproject_asks_for():
    asked = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    python = next(line for line in asked if line.startswith("python"))
    assert re.fullmatch(r"python=3\.\d+", python), "repo2docker reads the Python version from one exact minor version"
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.split("=")[1])
    torch = Requirement(next(line for line in asked if line.startswith("pytorch-cpu")))
    assert torch.specifier == project_ranges()["torch"].specifier
    script = ROOT / ".binder" / "postBuild"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK) and text.startswith("#!/") and subprocess.run(["bash", "-n", script]).returncode == 0
    extras = re.search(r'--editable "\.\[([\w,]+)\]"', text)[1].split(",")
    assert {"notebooks", "batch"} <= set(extras) <= set(PROJECT["optional-dependencies"])
