"""Links, DOIs and spelling of what people read: README, docs/, change log, notebooks, docstrings. Checked without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from spellchecker import SpellChecker

from tests import prose
from tests.prose import ROOT, bare_urls, docstrings, documents, dois, links, words

OWN_FILES = re.compile(r"github(?:\.com)?/spider-kit/spider-kit/(?:blob|tree)/main/([^\s?#)]+)")
DOI = re.compile(r"10\.\d{4,9}/[A-Za-z0-9][-._;()/:<>A-Za-z0-9]*")
MARKUP = ("[", "]", "`", "*", "\\", "{", "}", "|", "^", '"', "<", ">")


def fault_of_url(url: str) -> str | None:
    """What is wrong with the form of a web address; None when nothing is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return f"scheme {parts.scheme!r}"
    if host not in ("127.0.0.1", "localhost") and not re.fullmatch(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", host):
        return f"host {host!r}"
    if any(sign.isspace() or sign in MARKUP for sign in url):
        return "a blank or a sign of Markdown inside"
    if unbalanced(url):
        return "brackets that do not pair"
    if parts.path.endswith((".", ",", ";", ":")):
        return "punctuation at its end"
    if "//" in parts.path and "https://" not in url[8:]:
        return "an empty step in its path"
    if host in ("doi.org", "dx.doi.org") and (
        host != "doi.org" or parts.scheme != "https" or fault_of_doi(unquote(parts.path[1:]))
    ):
        return "not https://doi.org/ and a DOI"
    return None


def fault_of_doi(doi: str) -> str | None:
    """What is wrong with the form of a DOI; None when nothing is."""
    if not DOI.fullmatch(doi):
        return "not 10., four to nine digits, a slash and a suffix"
    return "brackets that do not pair" if unbalanced(doi) else None


def unbalanced(text: str) -> bool:
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return True
    return depth != 0


def fault_of_link(target: str, folder: Path) -> str | None:
    """What is wrong with a link's target in a document of ``folder``; None when nothing is."""
    if re.match(r"[a-z]+:", target, re.IGNORECASE):
        return fault_of_url(target)
    path = unquote(target.split("#")[0])
    if target.startswith("/") or target != target.strip():
        return "not a path from the document"
    return None if not path or (folder / path).exists() else "no such file"


def folder_of(place: str) -> Path:
    return (ROOT / place.split(",")[0]).parent


# ------------------------------------------------------------------------------------------------------------------- links


def test_links_of_documents_lead_somewhere():
    checked = [(place, target, fault_of_link(target, folder_of(place))) for place, text in documents() for target in links(text)]
    assert len(checked) > 150, "links were looked for and hardly any were found"
    assert [fault for fault in checked if fault[2]] == []


def test_no_document_waits_for_a_number():
    """Numbers that are filled in by a script stand as @NAME@ until then."""
    assert [(place, left) for place, text in documents() if (left := re.findall(r"@[A-Z]+@", text))] == []


def test_no_link_of_a_document_is_broken_in_its_markdown():
    """Every "](" belongs to a link that Markdown reads as one: its brackets pair, its target has no blank."""
    wrong = []
    for place, text in documents():
        plain = prose.without_code(text)
        if plain.count("](") != len(links(text)) or re.search(r"\]\s+\(https?:", plain):
            wrong.append(place)
    assert wrong == []


def test_addresses_in_running_text_and_docstrings_have_the_form_of_addresses():
    texts = [*documents(), *docstrings(), ("CITATION.cff", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))]
    checked = [(place, url, fault_of_url(url)) for place, text in texts for url in bare_urls(text)]
    assert checked and [fault for fault in checked if fault[2]] == []


def test_links_into_this_repository_name_files_that_are_there():
    named = {(place, path) for place, text in documents() for path in OWN_FILES.findall(text)}
    assert len(named) >= len(list((ROOT / "notebooks").glob("*.ipynb"))), "every notebook has badges"
    assert [(place, path) for place, path in sorted(named) if not (ROOT / unquote(path)).exists()] == []


def test_badges_of_a_notebook_open_this_notebook():
    wrong = []
    for place, text in documents():
        name = place.split(", ")[0]
        if name.endswith(".ipynb") and "colab-badge" in text:
            wrong += [(name, path) for path in OWN_FILES.findall(text) if path != name]
    assert wrong == []


# -------------------------------------------------------------------------------------------------------------------- DOIs


def test_dois_have_the_form_of_dois():
    texts = [*documents(), *docstrings(), ("CITATION.cff", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))]
    checked = [(place, doi, fault_of_doi(doi)) for place, text in texts for doi in dois(text)]
    assert len(checked) > 100, "DOIs were looked for and hardly any were found"
    assert [fault for fault in checked if fault[2]] == []


def test_a_link_with_a_doi_for_its_text_leads_to_that_doi():
    wrong, seen = [], 0
    for place, text in documents():
        for shown, target in prose.links_with_texts(text):
            if match := re.fullmatch(r"(?:doi:|https?://doi\.org/)?\s*(10\.\S+)", shown.strip(), re.IGNORECASE):
                seen += 1
                if unquote(target) != f"https://doi.org/{match[1]}":
                    wrong.append((place, shown, target))
    assert seen > 50 and wrong == []


# ---------------------------------------------------------------------------------------------------------------- spelling

KNOWN = frozenset(
    word
    for line in (ROOT / "tests" / "words.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for word in line.split()
)


@pytest.fixture(scope="module")
def dictionary() -> SpellChecker:
    return SpellChecker(language="en", distance=1)


def misspelt(found: set[str], dictionary: SpellChecker) -> list[str]:
    return sorted(word for word in found if word.lower() not in KNOWN and word.lower() not in dictionary)


def test_words_are_spelt_as_the_dictionary_or_the_field_spells_them(dictionary):
    texts = [
        *((place, words(text)) for place, text in documents()),
        *((place, words(text, True)) for place, text in docstrings()),
    ]
    wrong = {place: found for place, all_words in texts if (found := misspelt(all_words, dictionary))}
    assert wrong == {}, "mend the words, or add those that are right to tests/words.txt"


def test_the_word_list_holds_no_word_twice_and_none_that_the_dictionary_has(dictionary):
    listed = [
        w
        for line in (ROOT / "tests" / "words.txt").read_text(encoding="utf-8").splitlines()
        if line[:1] != "#"
        for w in line.split()
    ]
    assert len(listed) == len(KNOWN) and all(word == word.lower() for word in listed)
    assert [word for word in listed if word in dictionary] == []


def test_no_known_misspelling_in_texts_and_code(tmp_path):
    """codespell knows common misspellings, in names and comments of the code too."""
    texts = tmp_path / "notebooks.md"
    texts.write_text("\n\n".join(text for place, text in documents() if ".ipynb" in place), encoding="utf-8")
    places = [
        "README.md",
        "docs",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
        "Snakefile",
        "book",
        "spider_utils",
        "tests",
        str(texts),
    ]
    run = subprocess.run([sys.executable, "-m", "codespell_lib", *places], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr


# ------------------------------------------------------------------------------------------------- the checks see mistakes


@pytest.mark.parametrize(
    "url",
    [
        "htps://doi.org/10.1000/182", "https://doi.org/doi:10.1000/182", "https://doi.org/10.1000/182.", "http://doi.org/10.1000/182",
        "https://example/page", "https://exam ple.org/", "https://example.org/a(b", "https://example.org/a)b(", "https://example.org//a",
        "https://example.org/a]", "https://example.org:port/", "https://-example.org/",
    ],
)  # fmt: skip
def test_faults_of_addresses_are_seen(url):
    assert fault_of_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://doi.org/10.1016/S0268-0033(96)00067-8", "https://example.org/", "https://a-b.example.org:8080/x_y?z=1&w=%20#part",
        "http://127.0.0.1:8501",
        "https://kaggle.com/kernels/welcome?src=https://github.com/a/b.ipynb",
    ],
)  # fmt: skip
def test_addresses_of_good_form_pass(url):
    assert fault_of_url(url) is None


@pytest.mark.parametrize(
    "doi", ["10.1016/S0268-0033(96)00067", "10.1109/TMI.2019.2903562", "10.1175/1520-0493(1950)078<0001:VOF>2.0.CO;2"]
)
def test_dois_of_good_form_pass(doi):
    assert fault_of_doi(doi) is None


@pytest.mark.parametrize("doi", ["10.1016/", "10.10/x", "1.1016/x", "10.1016/S0268-0033(96", "10.1016/a b", "10.1016x"])
def test_faults_of_dois_are_seen(doi):
    assert fault_of_doi(doi)


def test_links_and_addresses_are_found_with_their_brackets():
    text = (
        "[![badge](https://a.org/b.svg)](https://a.org/x) and [doi:10.1016/S0(96)7](https://doi.org/10.1016/S0\\(96\\)7),\n"
        "[a [b]](c.md) (see https://b.org/c_(d)), `[no](link)`. DOI: 10.1000/182.\n"
        "```\n[code](nowhere.md)\n```\n[file](docs/no.md#part)"
    )
    assert sorted(links(text)) == [
        *("c.md", "docs/no.md#part", "https://a.org/b.svg", "https://a.org/x", "https://doi.org/10.1016/S0(96)7")
    ]
    assert bare_urls(text) == ["https://b.org/c_(d)"]
    assert dois(text) == ["10.1016/S0(96)7", "10.1016/S0(96)7", "10.1000/182"]
    assert fault_of_link("docs/no.md#part", ROOT) == "no such file" and fault_of_link("README.md#data", ROOT) is None


def test_words_are_found_and_code_is_not(dictionary):
    text = "**L**eft of the `coxde`, a Volumme's dissc-field; see https://a.org/addrezz, SPIDER, x_wrng, T2.\n```\ncoxde\n```"
    assert words(text) == {"Left", "the", "Volumme", "dissc", "field", "see"}
    assert misspelt(words(text), dictionary) == ["Volumme", "dissc"]
    assert words("Args:\n    sise_mm, dissc: the sizess.\n", docstring=True) == {"Args", "the", "sizess"}
