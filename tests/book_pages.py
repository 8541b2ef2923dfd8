"""What a built page asks a browser to load, for tests that it asks for nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# Links that a reader may follow are no loads; of <link> only those of pages are not.
_LOADED_BY = {"src", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}
_MERE_RELATIONS = {"next", "prev", "index", "search", "canonical", "author", "license", "help", "up", "top"}
_ADDRESS = re.compile(r"(?:https?:)?//[^\s\"'()<>,]+", re.IGNORECASE)
_STYLE_LOAD = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\s\"')]+)", re.IGNORECASE)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self._within = tag
        if tag == "link" and not set(named.get("rel", "").split()) & _MERE_RELATIONS:
            self.found += _ADDRESS.findall(named.get("href", ""))
        for name in _LOADED_BY & set(named):
            if not named[name].startswith("data:"):
                self.found += _ADDRESS.findall(named[name])
        self.found += _STYLE_LOAD.findall(named.get("style", ""))
        if tag == "meta" and named.get("http-equiv", "").lower() == "refresh":
            self.found += _ADDRESS.findall(named.get("content", ""))

    def handle_data(self, data: str) -> None:
        if self._within == "style":
            self.found += _STYLE_LOAD.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._within = ""


def loads_from_elsewhere(page: Path) -> list[str]:
    """Addresses of other hosts that a page (.html) or a style sheet (.css) loads: scripts, styles, fonts, pictures, frames."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".css":
        return _STYLE_LOAD.findall(text)
    parser = _Loads()
    parser.feed(text)
    return parser.found


def all_loads_from_elsewhere(book: Path) -> dict[str, list[str]]:
    """Page or style sheet of a built book -> what it loads from elsewhere; empty when nothing does."""
    files = [path for path in sorted(book.rglob("*")) if path.suffix in (".html", ".css")]
    assert files, f"no page in {book}"
    return {path.relative_to(book).as_posix(): found for path in files if (found := loads_from_elsewhere(path))}
