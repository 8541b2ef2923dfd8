"""What the repository says in words: README, docs/, notebooks and docstrings, without code, for tests of links and spelling."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CHANGELOG.md")
_FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^>]*>")
# Markdown's [text](target); the target may hold one pair of brackets or escaped ones, as DOIs of old papers do.
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\](?!\())*)\]\(((?:\\.|[^()\\]|\([^()]*\))*)\)")
_URL = re.compile(r"https?://[^\s<>\"'`|]+")
_SUFFIX = r"[^\s<>\"'`|,;]+(?:;\w+)?"  # some old DOIs end in ";2"
_DOI = re.compile(rf"\b(?:doi:\s*|doi\.org/)(10\.{_SUFFIX})|(?<![\w/.:])(10\.\d{{4,9}}/{_SUFFIX})")
_PARAMETER = re.compile(r"^ +\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*(?: \([^)]*\))?: ", re.MULTILINE)


def documents() -> Iterator[tuple[str, str]]:
    """(path, Markdown) of every document of the repository and every notebook: of a notebook its texts, cell by cell."""
    for path in [*(ROOT / name for name in DOCUMENTS), *sorted((ROOT / "docs").rglob("*.md"))]:
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "markdown":
                yield f"{path.relative_to(ROOT).as_posix()}, cell {number}", "".join(cell["source"])


def docstrings() -> Iterator[tuple[str, str]]:
    """("path: name", docstring) of every module, class and function of the package."""
    for path in sorted((ROOT / "spider_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if text := ast.get_docstring(node):
                    yield f"{path.relative_to(ROOT).as_posix()}: {getattr(node, 'name', 'module')}", text


def without_code(markdown: str) -> str:
    """The Markdown without code and comments: a blank stands for each."""
    return _SPAN.sub(" ", _COMMENT.sub(" ", _FENCED.sub(" ", markdown)))


def links_with_texts(markdown: str) -> list[tuple[str, str]]:
    """(text, target) of the Markdown's links and pictures, escapes of targets undone; code holds none."""
    text, found = without_code(markdown), []
    while matches := list(_LINK.finditer(text)):  # a badge is a picture inside a link: from the inside outwards
        found += [(match[1], re.sub(r"\\(.)", r"\1", match[2])) for match in matches]
        text = _LINK.sub("", text)
    return found


def links(markdown: str) -> list[str]:
    """Targets of the Markdown's links and pictures."""
    return [target for _, target in links_with_texts(markdown)]


def bare_urls(text: str) -> list[str]:
    """Web addresses in a text that are not targets of links, without the sentence's punctuation behind them."""
    return [_without_sentence(match[0]) for match in _URL.finditer(_LINK.sub(r"\1", _LINK.sub(r"\1", text)))]


def dois(text: str) -> list[str]:
    """DOIs in a text, also in links, without ``doi:`` and the sentence's punctuation behind them, escapes undone."""
    flat = re.sub(r"\\([()])", r"\1", re.sub(r"\]\(", "] (", text))
    return [unquote(_without_sentence(match[1] or match[2])) for match in _DOI.finditer(flat)]


def _without_sentence(address: str) -> str:
    """The address without closing brackets and full stops that belong to the sentence around it."""
    while address and (address[-1] in ".,;:!?*_]" or (address[-1] == ")" and address.count(")") > address.count("("))):
        address = address[:-1]
    return address


def words(text: str, docstring: bool = False) -> set[str]:
    """Words of a text: no code, no addresses, no identifiers, nothing with digits, no abbreviations in capitals.

    Args:
        text: Markdown, or a docstring.
        docstring: names of parameters at the beginnings of lines are no words either.
    """
    if docstring:
        text = _PARAMETER.sub(" ", text)
    text = _TAG.sub(" ", without_code(text))
    text = _LINK.sub(r" \1 ", _LINK.sub(r" \1 ", text))
    text = _DOI.sub(" ", _URL.sub(" ", text)).replace("’", "'")
    text = re.sub(r"\*{1,3}(?=\w)([^*\n]+)\*{1,3}", r"\1", text)  # **L**eft is one word
    tokens = re.findall(r"[^\s()\[\]{}<>\"“”,;:!?*/|=+–—…]+", text)
    return {part for token in tokens for part in _parts(token.strip(".'-"))}


def _parts(token: str) -> list[str]:
    """The words of a token: none of an identifier, a number or an abbreviation, both of a hyphenated word."""
    if not re.fullmatch(r"[^\W\d_]+(?:['-][^\W\d_]+)*", token):
        return []
    plain = [re.sub(r"'s?$", "", part) for part in token.split("-")]
    return [part for part in plain if len(part) > 2 and part[1:].islower()]
