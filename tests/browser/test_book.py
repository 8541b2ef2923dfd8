"""The built book: as a reader opens it from the disk, in a browser that reaches nothing else."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from book import sources
from tests.book_pages import all_loads_from_elsewhere
from tests.browser.tools import CHECKOUT, free_port, serve

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def book() -> Path:
    """The book's folder, built as `make book` does. Minutes at the first time; later only changed pages are read again."""
    if missing := [name for name in ("sphinx", "myst_nb", "furo") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"the book's packages are not installed ({', '.join(missing)}): run `make book`")
    laid_out, out = CHECKOUT / "build" / "book-sources", CHECKOUT / "build" / "book"
    sources.lay_out(CHECKOUT, laid_out)
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--jobs",
        "auto",
        "--fail-on-warning",
        "--keep-going",
        "--conf-dir",
        "book",
        laid_out,
        out,
    ]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "MPLBACKEND": "agg"}
    run = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"Sphinx warns; a docstring or a text may not be what it takes for markup:\n{run.stderr[-5000:]}"
    return out


def imported_by_notebooks() -> set[str]:
    """Full names of what the notebooks import from the package."""
    names = set()
    for path in sorted((CHECKOUT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                for node in ast.walk(ast.parse(re.sub(r"^\s*[%!].*", "", "".join(cell["source"]), flags=re.MULTILINE))):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spider_utils"):
                        names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_page_loads_anything_from_elsewhere(book):
    assert all_loads_from_elsewhere(book) == {}


def test_every_notebook_has_a_page_with_its_pictures(book):
    for path in sorted((CHECKOUT / "notebooks").glob("*.ipynb")):
        page = (book / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        drawn = sum(
            "text/html" not in output.get("data", {}) and any(kind.startswith("image/") for kind in output.get("data", {}))
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            for output in cell.get("outputs", [])
        )
        pictures = re.findall(r'<img alt="([^"]*)" src="\.\./(_images/[^"]+)"', page)
        assert len(pictures) == drawn, path.name
        assert all((book / name).is_file() for _, name in pictures), path.name
        assert not [alt for alt, _ in pictures if not alt or alt.startswith("../")], f"{path.name}: a picture without a text"


def test_the_api_tells_of_what_the_notebooks_use(book):
    told = {
        name for page in (book / "api").glob("*.html") for name in re.findall(r'id="(spider_utils\.[\w.]+)"', page.read_text())
    }
    modules = {
        name.removeprefix("module-")
        for page in (book / "api").glob("*.html")
        for name in re.findall(r'id="(module-[\w.]+)"', page.read_text())
    }
    constants = {name for name in imported_by_notebooks() if name.rsplit(".", 1)[1].isupper()}  # values without a docstring
    wanted = imported_by_notebooks() - constants
    assert len(wanted) > 60 and wanted - told - modules == set()


def test_a_reader_searches_and_opens_pages_from_the_disk(book, page, artefacts):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.goto((book / "index.html").as_uri())
    assert page.inner_text("h1") == "The spider kit" and page.locator("article img").first.is_visible()
    page.screenshot(path=artefacts / "book-entry.png")

    page.fill("input.sidebar-search", "Pfirrmann")
    page.press("input.sidebar-search", "Enter")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").all_inner_texts()
    assert any(text.startswith("13b · Gradings") for text in found), found
    page.screenshot(path=artefacts / "book-search.png")

    page.locator("#search-results li a", has_text="13b · Gradings").first.click()
    page.wait_for_selector("h1 >> text=13b · Gradings")
    widths = page.locator("article img").evaluate_all("pictures => pictures.map(picture => picture.naturalWidth)")
    assert widths and min(widths) > 100, "every figure is there"
    page.screenshot(path=artefacts / "book-notebook.png")

    page.locator(".sidebar-tree >> text=The package’s API").first.click()
    page.locator('article a[href="measure.html"]').first.click()
    page.wait_for_selector("h1 >> text=spider_utils.measure")
    assert "name_levels" in page.inner_text("#module-spider_utils\\.measure\\.levels")
    page.screenshot(path=artefacts / "book-api.png")

    # The search wants to fetch pages for its excerpts, which browsers refuse from the disk: it then lists titles alone.
    assert set(errors) <= {"Failed to fetch"} and [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_from_a_server_the_search_shows_excerpts(book, page, artefacts, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with serve(command, f"http://127.0.0.1:{port}/", tmp_path / "log", book) as url:
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}search.html?q=Pfirrmann")
        page.wait_for_selector("#search-results li p.context >> text=Pfirrmann")
        page.screenshot(path=artefacts / "book-search-served.png")
        assert errors == []


def test_no_page_is_wider_than_a_phone(book, page, artefacts):
    page.set_viewport_size(PHONE)
    for name in (
        "index",
        "docs/results/measurements",
        "docs/commands",
        "notebooks/01_data_exploration",
        "api/measure",
        "api/labels",
    ):
        page.goto((book / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        page.screenshot(path=artefacts / f"book-phone-{name.replace('/', '-')}.png")
