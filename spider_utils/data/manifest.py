"""Data sets by name: what ``data_manifest/`` says of them, and how to fetch them whole and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pooch

from spider_utils.data.archives import UnpackRule, unpack_zip
from spider_utils.data.download import AddressError, ResumingDownloader, WrongBytesError
from spider_utils.errors import DataError, KitError
from spider_utils.files import atomic_path, explain_write_error, read_json, require_free_space, write_csv
from spider_utils.locks import file_lock

RECEIPT = "checksums.csv"  # path, bytes, sha256 and source of every unpacked file, in the data root
LAYOUTS = ("spider", "spider-2d", "rsna")
MANIFEST_KINDS = ("download", "generated", "by hand")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEX = {"md5": 32, "sha256": 64}


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        name: file name in the data root.
        urls: addresses in the order in which they are tried.
        bytes: size, None when not known. Used for the disk-space check; the checksum decides.
        md5, sha256: checksums in hex, None when not known.
        unpack: what to take out of it; None for a file that is used as it is.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int | None
    md5: str | None
    sha256: str | None
    unpack: UnpackRule | None

    @property
    def known_hash(self) -> str | None:
        """The stronger of the known checksums, as pooch writes it ("sha256:..."); None without any."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}" if self.md5 else None


@dataclass(frozen=True)
class Manifest:
    """A data set: where it is, what it holds, what may be done with it.

    Attributes:
        key: its name in the kit.
        kind: "download"; "generated" for the phantom; "by hand" for data whose rules each user must accept with their owner.
        layout: layout on disk, one of LAYOUTS.
        title, licence, licence_url, homepage, citation, dois: for people who use it.
        checksum_source: where the sums come from.
        files: what to fetch.
        copies: file in the data root -> file in ``data_manifest/`` that is copied there.
        sums: path relative to the data root -> sha256, for sets whose single files have known sums.
        facts: counts, as published.
        sets: for the phantom, profile -> {patients, seed, size}.
        path: the JSON file.
    """

    key: str
    kind: str
    layout: str
    title: str
    licence: str
    licence_url: str
    homepage: str
    citation: str
    dois: tuple[str, ...]
    checksum_source: str
    notes: str
    files: tuple[RemoteFile, ...]
    copies: dict[str, str]
    sums: dict[str, str] = field(repr=False)
    facts: dict[str, int]
    sets: dict[str, dict[str, Any]]
    path: Path

    def file(self, name: str) -> RemoteFile:
        """The file called ``name``. Raises KitError with the known names for any other."""
        for file in self.files:
            if file.name == name:
                return file
        raise KitError(f"data set '{self.key}' has no file '{name}'. Known are: {', '.join(f.name for f in self.files)}")


def manifest_folder() -> Path:
    """The folder ``data_manifest``: beside the package in a checkout, inside the package when installed from a wheel.

    Raises:
        KitError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "data_manifest", package / "data_manifest"):
        if (folder / "spider.json").is_file():
            return folder
    raise KitError("the folder data_manifest is missing: install the kit again, or work in a complete checkout")


def published_table(name: str) -> pd.DataFrame:
    """A table of printed results: data_manifest/published/<name>.csv, whose comments say what it is."""
    return pd.read_csv(manifest_folder() / "published" / f"{name}.csv", comment="#")


def printed_table(source: str, table: str, known: tuple[str, ...]) -> pd.DataFrame:
    """One of the tables of a source: ``published_table`` of <source>_<table>.

    Raises:
        KitError: ``table`` is none of ``known``, the tables that the caller reads.
    """
    if table not in known:
        raise KitError(f"'{table}' is not known. Known are: {', '.join(known)}")
    return published_table(f"{source}_{table}")


def known_manifests() -> list[str]:
    """Names that load_manifest takes, sorted."""
    return sorted(path.stem for path in manifest_folder().glob("*.json"))


def load_manifest(name: str) -> Manifest:
    """The manifest of a data set: "spider", "spider-2d", "rsna" or "phantom".

    Raises:
        KitError: unknown name (the known ones are listed).
        DataError: the manifest is not as it should be.
    """
    if name not in known_manifests():
        raise KitError(f"unknown data set '{name}'. Known are: {', '.join(known_manifests())}")
    return read_manifest(manifest_folder() / f"{name}.json")


def read_manifest(path: str | Path) -> Manifest:
    """Read and check one manifest file.

    Raises:
        DataError: the file is missing, is no JSON, or lacks or misstates something (which is named).
    """
    path = Path(path)
    raw = read_json(path)
    try:
        return _parse(raw, path)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise DataError(path, f"is not a valid manifest: {problem}", "Take the file from the kit again.") from error


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _parse(raw: Any, path: Path) -> Manifest:
    """Build a Manifest; KeyError, TypeError or ValueError says what is wrong."""
    _demand(isinstance(raw, dict), "it must be a JSON object")
    _demand(raw["format"] == 1, f"format {str(raw['format'])[:40]} is not known to this version of the kit")
    _demand(raw["key"] == path.stem, f"key '{str(raw['key'])[:40]}' is not the file's name")
    _demand(raw["kind"] in MANIFEST_KINDS, f"kind must be one of {MANIFEST_KINDS}")
    _demand(raw["layout"] in LAYOUTS, f"layout must be one of {LAYOUTS}")
    texts = {name: raw[name] for name in ("title", "licence", "licence_url", "homepage", "citation", "checksum_source", "notes")}
    for name, text in texts.items():
        _demand(isinstance(text, str), f"{name} must be text")
    _demand(all(re.fullmatch(r"10\.\d{4,}/\S+", doi) for doi in raw["dois"]), "dois must look like 10.1234/abc")
    files = tuple(_parse_file(entry) for entry in raw["files"])
    names = [file.name for file in files]
    _demand(len(set(names)) == len(names), "two files have one name")
    _demand(bool(files) == (raw["kind"] == "download"), "only a download has files")
    copies = dict(raw.get("copies", {}))
    for target, source in copies.items():
        _demand(bool(_PLAIN_NAME.fullmatch(target)), f"copy target '{target}' must be a plain file name")
        _demand((path.parent / source).is_file(), f"the file {source} that it copies is missing")
    return Manifest(
        key=raw["key"],
        kind=raw["kind"],
        layout=raw["layout"],
        dois=tuple(raw["dois"]),
        files=files,
        copies=copies,
        sums=_read_sums(path.parent / raw["sums"]) if raw.get("sums") else {},
        facts=dict(raw["facts"]),
        sets=dict(raw.get("sets", {})),
        path=path,
        **texts,
    )


def _parse_file(entry: dict[str, Any]) -> RemoteFile:
    name = entry["name"]
    _demand(bool(_PLAIN_NAME.fullmatch(name)), f"file name '{name}' must be plain (no folders)")
    urls = (entry["url"], *entry.get("mirrors", []))
    for url in urls:
        _demand(bool(re.match(r"https?://[^/\s]+/", url)), f"'{url}' is no web address")
    size = entry.get("bytes")
    _demand(size is None or (isinstance(size, int) and size >= 0), f"{name}: bytes must be a count or null")
    for kind, digits in _HEX.items():
        value = entry.get(kind)
        fits = value is None or bool(re.fullmatch(rf"[0-9a-f]{{{digits}}}", value))
        _demand(fits, f"{name}: {kind} must be {digits} hex digits")
    rule = UnpackRule(**entry["unpack"]) if entry.get("unpack") else None
    _demand(rule is None or name.endswith(".zip"), f"{name}: only zip archives can be unpacked")
    _demand(rule is None or isinstance(rule.members, dict), f"{name}: members must be patterns and their folders")
    for folder in rule.members.values() if rule else ():
        _demand(bool(_PLAIN_NAME.fullmatch(folder)), f"{name}: '{folder}' must be a plain folder name")
    return RemoteFile(name, urls, size, entry.get("md5"), entry.get("sha256"), rule)


def _read_sums(path: Path) -> dict[str, str]:
    """Sums of image and mask slices: columns name, image_sha256, mask_sha256."""
    table = pd.read_csv(path, dtype=str)
    sums: dict[str, str] = {}
    for folder, column in (("images", "image_sha256"), ("masks", "mask_sha256")):
        _demand(bool(table[column].str.fullmatch(r"[0-9a-f]{64}").all()), f"{path.name}: {column} must be 64 hex digits")
        sums |= dict(zip(folder + "/" + table["name"], table[column], strict=True))
    return sums


@dataclass(frozen=True)
class FetchReport:
    """What fetch did.

    Attributes:
        root: the data root.
        fetched: names of the files that were downloaded.
        present: names of the files that were there already.
        unchecked: number of unpacked files for which nobody knows a checksum (the archive's own CRC was right).
    """

    root: Path
    fetched: tuple[str, ...]
    present: tuple[str, ...]
    unchecked: int

    def __str__(self) -> str:
        parts = [f"fetched {', '.join(self.fetched) or 'nothing'}"]
        if self.present:
            parts.append(f"already there: {', '.join(self.present)}")
        if self.unchecked:
            parts.append(f"{self.unchecked} files have no known checksum")
        return f"{self.root}: {'; '.join(parts)}"


def fetch(
    name: str | Manifest,
    root: str | Path,
    base_url: str | None = None,
    files: Iterable[str] | None = None,
    progress: bool = True,
) -> FetchReport:
    """Download a data set into ``root``, check it and unpack it; what is there already and right is left alone.

    A cut download goes on where it stopped, in this call or a later one. An archive that was put into ``root`` by hand is used
    instead of a download when its checksum is right, and kept; a downloaded one is deleted after unpacking.

    Args:
        name: "spider" or "spider-2d", or a Manifest.
        root: data root; made when missing. Ends up in the layout that the manifest names.
        base_url: take the files from ``<base_url>/<file name>`` instead of the manifest's addresses (a mirror nearby).
        files: names of the wanted files, for example ["overview.csv"]; None takes all.
        progress: show a bar, or a line a file when headless.

    Returns:
        FetchReport.

    Raises:
        KitError: unknown data set or file name, or a set that is generated, or fetched by hand, rather than downloaded.
        DataError: too little disk space; no address delivers the file (each address with its reason, and how to place the file by
            hand); wrong bytes (both sums); an unsafe or damaged archive; unwritable folder; another process fetches into it.
            Nothing is left half written but the ``.partial`` file of a cut download.
    """
    manifest = load_manifest(name) if isinstance(name, str) else name
    if manifest.kind == "generated":
        raise KitError(f"data set '{manifest.key}' is made, not downloaded: run spider-kit data phantom --out {root}")
    if manifest.kind == "by hand":
        raise KitError(
            f"data set '{manifest.key}' cannot be fetched by the kit: accept its rules and download it at {manifest.homepage}, "
            f"unpack it into {root}, then run spider-kit data verify {root}"
        )
    root = Path(root)
    chosen = manifest.files if files is None else [manifest.file(one) for one in files]
    if root.exists() and not root.is_dir():
        raise DataError(root, "is a file, not a folder", "Give the folder that is to hold the data.")
    receipt = _read_receipt(root)
    missing = [file for file in chosen if not _is_present(file, root, receipt)]
    _check_space(missing, root)
    fetched = []
    if missing:  # else nothing is written: a folder that is complete may be read-only
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_write_error(root, error) from error
        with file_lock(root / ".fetch.lock", "is fetching data into this folder"):
            receipt = _read_receipt(root)  # another process may have brought them since
            missing = [file for file in missing if not _is_present(file, root, receipt)]
            fetched = [file.name for file in missing if _bring(file, root, manifest, base_url, progress)]
    for target, source in manifest.copies.items() if files is None else ():
        if not (root / target).exists():
            with atomic_path(root / target) as partial:
                partial.write_bytes((manifest.path.parent / source).read_bytes())
    unchecked = int((_read_receipt(root)["checked"] == "crc").sum())
    return FetchReport(root, tuple(fetched), tuple(f.name for f in chosen if f.name not in fetched), unchecked)


def _source(file: RemoteFile) -> str:
    """How the receipt names an archive: with its sum, so that a new manifest makes old contents stale."""
    return f"{file.name} {file.known_hash or 'no sum known'}"


def _read_receipt(root: Path) -> pd.DataFrame:
    """The list of unpacked files, empty without one: path (index), bytes, sha256, source, checked ("archive", "file", "crc")."""
    path, columns = root / RECEIPT, ["bytes", "sha256", "source", "checked"]
    if not path.is_file():
        return pd.DataFrame(columns=columns, index=pd.Index([], name="path"))
    try:
        return pd.read_csv(path, index_col="path")[columns]
    except (ValueError, KeyError) as error:
        raise DataError(path, f"cannot be read as the list of fetched files ({error})", "Delete it and fetch again.") from error


def _is_present(file: RemoteFile, root: Path, receipt: pd.DataFrame) -> bool:
    """True when ``root`` holds the file whole: by its sum, or by name and size of everything that its archive brought."""
    if file.unpack is None:
        return _is_right(root / file.name, file)
    brought = receipt[receipt["source"] == _source(file)]
    if len(brought):
        paths = [root / path for path in brought.index]
        return all(p.is_file() and p.stat().st_size == size for p, size in zip(paths, brought["bytes"], strict=True))
    # Unpacked by hand: as many files as a complete archive brings.
    expected = file.unpack.expected_files or {}
    suffixes = {folder: Path(pattern).suffix for pattern, folder in file.unpack.members.items()}
    return bool(expected) and all(
        len(list((root / folder).glob(f"*{suffixes[folder]}"))) >= count for folder, count in expected.items()
    )


def _check_space(files: list[RemoteFile], root: Path) -> None:
    """Raise DataError when the disk cannot hold what is still to come.

    An archive's contents count as much as the archive itself, because compressed volumes hardly shrink any more; the exact
    size is known, and checked, before unpacking.
    """
    needed = 0
    for file in files:
        here = sum((root / name).stat().st_size for name in (file.name, file.name + ".partial") if (root / name).is_file())
        size = file.bytes or 0
        needed += max(0, size - here) + (size if file.unpack else 0)
    if needed:
        require_free_space(root, needed, f"fetching {', '.join(file.name for file in files)} (with unpacking)")


def _bring(file: RemoteFile, root: Path, manifest: Manifest, base_url: str | None, shown: bool) -> bool:
    """Bring one file into ``root`` and unpack it; False when the file was there already."""
    path = root / file.name
    downloader = ResumingDownloader(root / f"{file.name}.partial", file.known_hash, shown)
    there = _is_right(path, file)
    if not there:
        _download(file, path, base_url, downloader)
    if file.unpack is not None:
        _unpack(file, root, manifest, shown)
        # One that was put there by hand is kept, one that a process brought that was killed before this line is not.
        if downloader.has_brought(path):
            path.unlink()
    downloader.forget()
    return not there


def _is_right(path: Path, file: RemoteFile) -> bool:
    """Whether ``path`` is there with the bytes that ``file`` must have, as far as anybody knows them."""
    if not path.is_file():
        return False
    return file.known_hash is None or pooch.file_hash(str(path), alg=file.known_hash.split(":")[0]) in (file.sha256, file.md5)


def _download(file: RemoteFile, path: Path, base_url: str | None, downloader: ResumingDownloader) -> None:
    """Download one file to ``path``, trying its addresses in turn; what lies there is replaced by the right file only."""
    urls = (f"{base_url.rstrip('/')}/{file.name}",) if base_url else file.urls
    problems = []
    for url in urls:
        for _ in range(2):
            try:
                downloader(url, path)
                return
            except WrongBytesError as error:
                problems.append(f"{url}: {error}")
                if not error.doubtful:
                    break  # whole, in one go, and wrong: no use in asking this address again
            except AddressError as error:
                problems.append(f"{url}: {error}")
                break
    if path.is_file():
        problems.append(f"the {file.name} that lies in {path.parent} has another checksum")
    expected = f" (expected {file.known_hash.replace(':', ' ')})" if file.known_hash else ""
    fix = (
        "Check the network and run the same command again: a cut download goes on where it stopped. "
        f"Or download {urls[0]} by other means, put it at {path}{expected} and run the command again; "
        f"spider-kit data verify {path.parent} checks the result."
    )
    raise DataError(path, "could not be fetched. " + "; ".join(problems), fix)


def _unpack(file: RemoteFile, root: Path, manifest: Manifest, shown: bool) -> None:
    """Unpack one archive and add what it brought to the receipt."""
    unpacked = unpack_zip(root / file.name, root, file.unpack, known_sums=manifest.sums)
    if shown:
        print(f"{file.name}: {len(unpacked)} files unpacked", flush=True)
    new = pd.DataFrame(
        {
            "path": [one.path for one in unpacked],
            "bytes": [one.bytes for one in unpacked],
            "sha256": [one.sha256 for one in unpacked],
            "source": _source(file),
            "checked": ["archive" if file.known_hash else "file" if one.path in manifest.sums else "crc" for one in unpacked],
        }
    )
    old = _read_receipt(root).reset_index()
    old = old[~old["path"].isin(new["path"]) & ~old["source"].str.startswith(file.name + " ")]
    write_csv(root / RECEIPT, pd.concat([old, new], ignore_index=True) if len(old) else new)
