"""Lay out the book's pages: README, docs/, notebooks and package as Sphinx wants them. `make book` calls this, then Sphinx.

The book holds no text of its own: its entry page is the README with the contents (book/contents.md) behind it; its further
pages are those of docs/; the course is the notebooks in the order of their names; the API is the package's docstrings, a page a
room. Files lie in the book's sources where they lie in the repository, so that a link leads to the same place in both.
A page that has not changed is left as it is, so that Sphinx reads it only once.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "spider_utils"
ENTRY = "index.md"  # the README's name in the book
COMMANDS = "cli"  # the room of commands: they are told on a page of their own, not by docstrings
_BADGE = re.compile(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]")  # a link that shows a picture from the web
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)[^)]*\)")


def _without_badges(text: str) -> str:
    """The Markdown with badges as plain links: their pictures would come from the web."""
    return _BADGE.sub(r"[\1]", text.replace(") [![", ") · [!["))


def as_page(notebook: dict, number: str) -> dict:
    """The notebook for the book: its number before its title, badges as plain links, the figures' own alt texts in use.

    Args:
        notebook: parsed .ipynb; it is changed.
        number: from the file's name, such as "13b": texts speak of "notebook 13b".
    """
    titled = False
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = _without_badges("".join(cell["source"]))
            text = re.sub(r"^# ", "## " if titled else f"# {number} · ", text, flags=re.MULTILINE)  # a page has one title
            titled = titled or text.startswith("# ")
            cell["source"] = text
        for output in cell.get("outputs", []):
            for about in output.get("metadata", {}).values():
                if isinstance(about, dict) and "alt" in about:
                    cell["metadata"]["mystnb"] = {"image": {"alt": about["alt"]}}
    return notebook


def rooms(package: Path) -> dict[str, list[str]]:
    """Room -> names of its modules: a module or folder of the package, but for the commands."""
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if len(parts) > 1 and parts[1] != COMMANDS and not parts[-1].startswith("_"):
            found.setdefault(parts[1], []).append(".".join(parts))
    return found


def room_page(room: str, modules: list[str]) -> str:
    """reStructuredText: the docstrings of a room's modules, of their public functions and classes."""
    page_title = f"{PACKAGE}.{room}"
    lines = [page_title, "=" * len(page_title), ""]
    for module in modules:
        title = module.removeprefix(f"{PACKAGE}.")
        if title != room:
            lines += [title, "-" * len(title), ""]
        lines += [f".. automodule:: {module}", ""]
    return "\n".join(lines)


def first_words(path: Path) -> str:
    """What the docstring of a module or package says first, in one line."""
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def api_page(sayings: dict[str, str]) -> str:
    """Markdown: the entry of the API.

    Args:
        sayings: room -> what is in it.
    """
    table = "\n".join(f"| [{room}]({room}.rst) | {what} |" for room, what in sayings.items())
    listed = "\n".join(sayings)
    return (
        "# The package's API\n\n"
        f"What can be imported from `{PACKAGE}`, a page for each room: the docstrings of its public functions and classes. "
        "[For developers](../docs/developers.md) says which rooms build on which.\n\n"
        f"| room | what is in it |\n|---|---|\n{table}\n\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    )


def text_pages(root: Path) -> dict[str, str]:
    """Path in the book's sources -> Markdown of the README, with the contents behind it, and of every page under docs/."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    texts = {ENTRY: readme + (root / "book" / "contents.md").read_text(encoding="utf-8")}
    for path in sorted((root / "docs").rglob("*.md")):
        name = path.relative_to(root).as_posix()
        up = "../" * name.count("/")
        texts[name] = path.read_text(encoding="utf-8").replace(f"]({up}README.md", f"]({up}{ENTRY}")
    return {name: _without_badges(text) for name, text in texts.items()}


def pages(root: Path) -> dict[str, str]:
    """Path in the book's sources -> text, of all pages that are made from a checkout."""
    texts = text_pages(root)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        texts[f"notebooks/{path.name}"] = json.dumps(as_page(notebook, path.name.split("_")[0]), ensure_ascii=False, indent=1)
    found = rooms(root / PACKAGE)
    texts |= {f"api/{room}.rst": room_page(room, modules) for room, modules in found.items()}
    texts["api/index.md"] = api_page({room: first_words(root / PACKAGE / room) for room in found})
    return texts


def linked_files(texts: dict[str, str], root: Path) -> set[str]:
    """Paths in the checkout ``root`` of files that are no pages, to which pages (see pages) of Markdown link, pictures too."""
    markdown = [(posixpath.dirname(name), text) for name, text in texts.items() if name.endswith(".md")]
    linked = {posixpath.normpath(posixpath.join(folder, link)) for folder, text in markdown for link in _LINK.findall(text)}
    return {name for name in linked if name not in texts and (root / name).is_file()}


def lay_out(root: Path, out: Path) -> None:
    """Write the book's sources of the checkout ``root`` into the folder ``out``; what is no longer a page is removed."""
    texts = pages(root)
    linked = linked_files(texts, root)
    for name, text in texts.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for name in linked:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, out / name)
    for path in out.rglob("*"):
        if path.is_file() and path.relative_to(out).as_posix() not in texts.keys() | linked:
            path.unlink()


if __name__ == "__main__":
    lay_out(ROOT, Path(sys.argv[1]))
