"""One file over HTTP, through cut connections: resume where it stopped, never glue two versions of a file, check its sum."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from spider_utils.errors import DataError
from spider_utils.files import explain_write_error, read_json, read_json_object, require_free_space, write_json
from spider_utils.runtime import is_interactive

TIMEOUT_S = (15.0, 60.0)  # connecting; waiting for the next bytes
MAX_FAILURES = 5  # in a row without new bytes, before an address is given up
MAX_TRIES = 100  # in all, for one address
RETRY_WAIT_S = 1.0  # doubled after each failure in a row
CHUNK_BYTES = 1 << 16  # what a cut connection can cost at most
USER_AGENT = "spider-kit"


class AddressError(Exception):
    """One address did not deliver the file; the message says why. Another address may."""


class WrongBytesError(AddressError):
    """The file came whole but its checksum is not the known one.

    Attributes:
        doubtful: True when the file was put together from several connections, or the server did not say how long it is, so
            that a fresh try is worth while.
    """

    def __init__(self, message: str, doubtful: bool):
        super().__init__(message)
        self.doubtful = doubtful


class _TryAgainError(Exception):
    """A passing fault: the same address is tried again."""


class _ChangedError(_TryAgainError):
    """The file on the server is no longer the one that the partial file was begun from."""

    def __init__(self) -> None:
        super().__init__("the file on the server has changed")


@dataclass
class _Progress:
    """Progress of one download: a moving bar for a person, one line at the start and one at the end when headless."""

    name: str
    shown: bool
    bar: object | None = None

    def begin(self, url: str, done: int, total: int | None) -> None:
        """A connection starts to deliver: ``done`` of ``total`` bytes are here already."""
        if not self.shown:
            return
        if is_interactive():
            from tqdm.auto import tqdm

            if self.bar is None:
                self.bar = tqdm(desc=self.name, total=total, unit="B", unit_scale=True)
            self.bar.n = done
            self.bar.refresh()
        else:
            size = f"{total / 1e6:.1f} MB" if total else "size unknown"
            resumed = f", going on after {done / 1e6:.1f} MB" if done else ""
            print(f"{self.name}: fetching from {urlsplit(url).netloc} ({size}{resumed})", flush=True)

    def add(self, count: int) -> None:
        """``count`` more bytes are here."""
        if self.bar is not None:
            self.bar.update(count)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


@dataclass
class _Origin:
    """Where the bytes of a partial file came from, kept beside it as JSON.

    Attributes:
        url: the address.
        etag, last_modified: the server's validators, "" when it sent none.
        length: bytes of the whole file, None when the server did not say.
        done: whether the file has come whole and right, and only has to be moved into place.
    """

    url: str
    etag: str
    last_modified: str
    length: int | None
    done: bool = False

    @property
    def validator(self) -> str:
        """What If-Range may hold: a strong ETag, else the date. A weak ETag does not promise equal bytes (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class ResumingDownloader:
    """Downloads one file and keeps a ``.partial`` file between tries and between runs.

    Args:
        partial: the file that collects the bytes; beside it the note ``<partial>.json`` remembers address, ETag and length.
        known_hash: "sha256:..." or "md5:..." of the whole file; None when nobody knows it.
        shown: show progress.
    """

    def __init__(self, partial: Path, known_hash: str | None, shown: bool = True):
        self.partial, self.known_hash = Path(partial), known_hash
        self.note = self.partial.with_name(self.partial.name + ".json")
        self._progress = _Progress(self.partial.name.removesuffix(".partial"), shown)

    def __call__(self, url: str, output_file: str | Path) -> None:
        """Download ``url`` to ``output_file``; the note stays until ``forget``, as a sign that the file was downloaded.

        Raises:
            AddressError: the address does not have the file, or it failed too often; the partial file stays for a later run.
            WrongBytesError: the checksum differs; the partial file is deleted.
            DataError: the disk is full or read-only; what came so far stays.
        """
        try:
            doubtful = self._collect(url)
        finally:
            self._progress.close()
        if self.known_hash:
            algorithm, expected = self.known_hash.split(":")
            received = pooch.file_hash(str(self.partial), alg=algorithm)
            if received != expected.lower():
                self.discard()
                raise WrongBytesError(f"wrong bytes ({algorithm} {received}, expected {expected})", doubtful)
        write_json(self.note, read_json(self.note) | {"done": True})  # only now: see has_brought
        with _explained(Path(output_file)):
            os.replace(self.partial, output_file)

    def has_brought(self, output_file: str | Path) -> bool:
        """Whether ``output_file`` was downloaded by this process, or by one before it that could not ``forget``."""
        if self.partial.exists() or not Path(output_file).is_file():
            return False
        try:
            return read_json_object(self.note).get("done") is True
        except DataError:
            return False  # a note that was begun proves nothing: the file may have been put there by hand

    def forget(self) -> None:
        """Delete the note on a file that was downloaded; the one on a partial file stays."""
        if not self.partial.exists():
            self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the partial file and its note."""
        self.note.unlink(missing_ok=True)  # first: one that is left alone could say that the file was downloaded
        self.partial.unlink(missing_ok=True)

    def have(self) -> int:
        """Bytes of the partial file that is here already."""
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _collect(self, url: str) -> bool:
        """Fill the partial file; True when it may be whole only by chance: several connections, or a length nobody stated."""
        failures, most, resumed, last = 0, self.have(), self.have() > 0, ""
        for _ in range(MAX_TRIES):
            try:
                stated = self._connect(url)
                return resumed or not stated
            except _ChangedError as error:
                self.discard()
                most, last = 0, str(error)
            except (
                _TryAgainError,
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                last = _reason(error)
            except requests.RequestException as error:
                raise AddressError(_reason(error)) from error
            resumed = True
            failures = 0 if self.have() > most else failures + 1
            most = max(most, self.have())
            if failures >= MAX_FAILURES:
                break
            time.sleep(RETRY_WAIT_S * 2 ** max(0, failures - 1))
        raise AddressError(last)

    def _connect(self, url: str) -> bool:
        """One request: go on from the partial file when the server has the same file, else begin anew.

        Returns whether the server stated the length, which the partial file then has.
        """
        origin, start = self._resumable(url)
        # Without "identity" a server may compress, and then byte positions mean nothing.
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        if start:
            headers["Range"] = f"bytes={start}-"
            if origin.url == url and origin.validator:
                headers["If-Range"] = origin.validator
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            code = response.status_code
            if code in (408, 425, 429) or code >= 500:
                raise _TryAgainError(f"the server answers {code} {response.reason}")
            if code == 416 and start:  # the server has no bytes after ours: complete, or another file
                if _content_range(response) == (None, start) and self._same(origin, url, response):
                    return True
                raise _ChangedError
            if code not in (200, 206):
                raise AddressError(f"the server answers {code} {response.reason}")
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            if code == 206:
                first, total = _content_range(response)
                changed = origin is None or (origin.length is not None and total is not None and total != origin.length)
                if first != start or changed or not self._same(origin, url, response):
                    raise _ChangedError
            else:
                if start and not self._same(origin, url, response):
                    raise _ChangedError
                start = 0
            self._store(url, response, start, total)
            return total is not None

    def _resumable(self, url: str) -> tuple[_Origin | None, int]:
        """The note on the partial file and where to go on; a partial file that cannot be trusted is deleted."""
        if not (self.have() and self.note.exists()):
            self.discard()
            return None, 0
        try:
            origin = _Origin(**read_json(self.note))
        except (DataError, TypeError):
            self.discard()
            return None, 0
        # Without a validator, or on another mirror, only the final checksum can tell whether the halves belong together.
        if not self.known_hash and (origin.url != url or not origin.validator):
            self.discard()
            return None, 0
        return origin, self.have()

    @staticmethod
    def _same(origin: _Origin | None, url: str, response: requests.Response) -> bool:
        """False when the server's validators say that the file is no longer the one we began with."""
        if origin is None or origin.url != url:
            return origin is not None
        headers = response.headers
        pairs = ((origin.etag, headers.get("ETag", "")), (origin.last_modified, headers.get("Last-Modified", "")))
        return all(old == new for old, new in pairs if old and new)

    def _store(self, url: str, response: requests.Response, start: int, total: int | None) -> None:
        """Append the body to the partial file and make sure that it came whole."""
        if total is not None:
            require_free_space(self.partial.parent, total - start, f"downloading {self._progress.name}")
        headers = response.headers
        write_json(self.note, asdict(_Origin(url, headers.get("ETag", ""), headers.get("Last-Modified", ""), total)))
        self._progress.begin(url, start, total)
        with _explained(self.partial):
            file = open(self.partial, "ab" if start else "wb")
        with contextlib.closing(file):
            for chunk in response.iter_content(CHUNK_BYTES):
                with _explained(self.partial):
                    file.write(chunk)
                self._progress.add(len(chunk))
            with _explained(self.partial):
                file.flush()
        if total is not None and self.have() != total:
            if self.have() > total:
                self.discard()
            raise _TryAgainError(f"the connection was cut after {self.have()} of {total} bytes")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing into a DataError. Kept narrow: network errors are OSErrors as well."""
    try:
        yield
    except OSError as error:
        raise explain_write_error(path, error) from error


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and whole length from the Content-Range header; None for what it does not say."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if not found:
        return None, None
    return (int(found[1]) if found[1] else None), (int(found[2]) if found[2] != "*" else None)


def _reason(error: Exception) -> str:
    """A network error in few words; requests nests the real cause several levels deep."""
    if isinstance(error, requests.ConnectTimeout):
        return "no connection within the time allowed"
    text = str(error)
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return "the server stopped sending"
    if "resolve" in text or "Name or service" in text or "getaddrinfo" in text:
        return "the name cannot be resolved: this machine seems to be offline"
    if "refused" in text:
        return "connection refused"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "Connection broken" in text:
        return "the connection was cut"
    return text[:160] or type(error).__name__
