"""Fetching against a local HTTP server that behaves as badly as the network does."""

import contextlib
import errno
import hashlib
import http.server
import io
import json
import os
import re
import threading
import time
import zipfile
from dataclasses import dataclass, field

import pandas as pd
import pytest

from spider_utils.data import download
from spider_utils.data import manifest as manifest_module
from spider_utils.data.manifest import RECEIPT, fetch, read_manifest
from spider_utils.errors import DataError, KitError

BIG = hashlib.shake_256(b"seed").digest(400_000)  # several chunks, and incompressible


@dataclass
class Served:
    """One address of the server and how it misbehaves; the lists are used up request by request.

    Attributes:
        cut_after: bytes of the body after which the connection is closed (None: send all).
        status: answer this code instead.
        stall_after: send this many bytes, then nothing for a while.
        pieces: send the body in so many, with short breaks, or, where there is ``go_on``, all but the first once that is set.
    """

    data: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    length: bool = True
    cut_after: list = field(default_factory=list)
    status: list = field(default_factory=list)
    stall_after: list = field(default_factory=list)
    pieces: int = 1
    go_on: threading.Event | None = None
    obeys_if_range: bool = True
    most_a_range: int | None = None
    after_request: object = None


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        name = self.path.split("?")[0].lstrip("/")
        server.requests.append((name, self.headers.get("Range"), self.headers.get("If-Range")))
        served = server.files.get(name)
        if served is None:
            return self.send_error(404)
        if served.status and (code := served.status.pop(0)):
            return self.send_error(code)
        data, start = served.data, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if (
            asked
            and served.ranges
            and (not served.obeys_if_range or condition is None or condition in (served.etag, served.last_modified))
        ):
            start = int(asked[1])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            data = data[: start + (served.most_a_range or len(data))]
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(served.data)}")
        else:
            self.send_response(200)
        body = data[start:]
        if served.length:
            self.send_header("Content-Length", str(len(body)))
        for header, value in (("ETag", served.etag), ("Last-Modified", served.last_modified)):
            if value:
                self.send_header(header, value)
        self.end_headers()
        cut = served.cut_after.pop(0) if served.cut_after else None
        stall = served.stall_after.pop(0) if served.stall_after else None
        body = body[: min(x for x in (cut, stall, len(body)) if x is not None)]
        step = max(1, len(body) // served.pieces)
        with contextlib.suppress(OSError):
            for at in range(0, len(body), step):
                self.wfile.write(body[at : at + step])
                self.wfile.flush()
                if served.go_on:
                    served.go_on.wait()
                elif served.pieces > 1:
                    time.sleep(0.02)
            if stall is not None:
                time.sleep(1.0)
        if served.after_request:
            served.after_request(served)
            served.after_request = None
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "RETRY_WAIT_S", 0.0)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.requests = {}, []
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def sums(data):
    return {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}


def zipped(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def make_manifest(folder, files, **more):
    """A manifest "toy" of RemoteFile entries; each entry is a dict as in the JSON."""
    texts = dict.fromkeys(("title", "licence", "licence_url", "homepage", "citation", "checksum_source", "notes"), "toy")
    raw = {
        "format": 1,
        "key": "toy",
        "kind": "download",
        "layout": "spider",
        "dois": [],
        "facts": {},
        **texts,
        **more,
        "files": files,
    }
    folder.mkdir(exist_ok=True)
    (folder / "toy.json").write_text(json.dumps(raw))
    return read_manifest(folder / "toy.json")


def one_file(tmp_path, server, data=BIG, mirrors=(), known=True, **more):
    """A manifest of one plain file, served under its name."""
    entry = {"name": "big.bin", "url": f"{server.url}/big.bin", "mirrors": list(mirrors), **(sums(data) if known else {}), **more}
    server.files.setdefault("big.bin", Served(data))
    return make_manifest(tmp_path / "manifests", [entry])


def names_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_plain_file_arrives_and_is_not_fetched_twice(tmp_path, server, capsys, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    report = fetch(manifest, root)
    assert (root / "big.bin").read_bytes() == BIG and names_in(root) == ["big.bin"]
    assert (report.fetched, report.present) == (("big.bin",), ())
    assert capsys.readouterr().out.count("\n") == 1, "headless progress is one line a file"
    report = fetch(manifest, root, progress=False)
    assert (report.fetched, report.present) == ((), ("big.bin",)) and len(server.requests) == 1
    assert capsys.readouterr().out == ""


def test_md5_alone_is_enough_and_wrong_file_in_place_is_replaced(tmp_path, server):
    manifest, root = one_file(tmp_path, server, known=False, md5=sums(BIG)["md5"]), tmp_path / "root"
    root.mkdir()
    (root / "big.bin").write_bytes(b"cut by hand")
    assert fetch(manifest, root, progress=False).fetched == ("big.bin",)
    assert (root / "big.bin").read_bytes() == BIG


def test_cut_connection_goes_on_where_it_stopped(tmp_path, server):
    manifest = one_file(tmp_path, server)
    server.files["big.bin"].cut_after = [150_000, 100_000]
    fetch(manifest, tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG
    starts = [int(r[1][6:-1]) if r[1] else 0 for r in server.requests]
    assert len(starts) == 3 and starts == sorted(starts) and starts[1] >= 100_000 and starts[2] > starts[1]
    assert [r[2] for r in server.requests] == [None, '"v1"', '"v1"']


def test_resumes_in_a_later_call(tmp_path, server, monkeypatch):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    monkeypatch.setattr(download, "MAX_FAILURES", 1)
    server.files["big.bin"].cut_after, server.files["big.bin"].status = [150_000], [None, 503]
    with pytest.raises(DataError, match="503"):
        fetch(manifest, root, progress=False)
    assert names_in(root) == ["big.bin.partial", "big.bin.partial.json"]
    assert fetch(manifest, root, progress=False).fetched == ("big.bin",)
    assert server.requests[-1][1] is not None and names_in(root) == ["big.bin"]


def test_partial_file_that_is_complete_already(tmp_path, server):
    """A run killed between the last byte and the rename."""
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    root.mkdir()
    (root / "big.bin.partial").write_bytes(BIG)
    note = {"url": f"{server.url}/big.bin", "etag": '"v1"', "last_modified": "", "length": len(BIG)}
    (root / "big.bin.partial.json").write_text(json.dumps(note))
    fetch(manifest, root, progress=False)
    assert names_in(root) == ["big.bin"] and server.requests == [("big.bin", f"bytes={len(BIG)}-", '"v1"')]


@pytest.mark.parametrize("note", [None, "{", '{"surprise": 1}'])
def test_partial_file_of_unknown_origin_is_not_trusted(tmp_path, server, note):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    root.mkdir()
    (root / "big.bin.partial").write_bytes(b"?" * 1000)
    if note:
        (root / "big.bin.partial.json").write_text(note)
    fetch(manifest, root, progress=False)
    assert (root / "big.bin").read_bytes() == BIG and server.requests == [("big.bin", None, None)]


def test_server_without_ranges_starts_over(tmp_path, server):
    manifest = one_file(tmp_path, server)
    server.files["big.bin"].ranges, server.files["big.bin"].cut_after = False, [200_000]
    fetch(manifest, tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG and len(server.requests) == 2


def test_cut_in_a_body_of_unstated_length_is_caught_by_the_sum(tmp_path, server):
    manifest = one_file(tmp_path, server)
    server.files["big.bin"].length, server.files["big.bin"].cut_after = (
        False,
        [200_000, 150_000],
    )  # a doubtful sum gets one fresh try
    with pytest.raises(DataError, match="wrong bytes"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert names_in(tmp_path / "root") == []
    fetch(manifest, tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG


@pytest.mark.parametrize("honest", [True, False], ids=["If-Range obeyed", "If-Range ignored"])
@pytest.mark.parametrize("known", [True, False], ids=["sum known", "no sum"])
def test_changed_file_between_tries_is_never_glued(tmp_path, server, honest, known):
    new = hashlib.shake_256(b"other").digest(len(BIG))  # same length, so that only the ETag tells
    manifest = one_file(tmp_path, server, data=new if known else BIG, known=known)
    server.files["big.bin"] = Served(BIG, cut_after=[150_000], obeys_if_range=honest)

    def change(served):
        served.data, served.etag = new, '"v2"'

    server.files["big.bin"].after_request = change
    fetch(manifest, tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "big.bin").read_bytes() == new
    assert names_in(tmp_path / "root") == ["big.bin"]
    # The partial file is given up once the new ETag shows, and a third request begins anew.
    assert [bool(r[1]) for r in server.requests] == [False, True, False]


def test_server_may_answer_with_less_than_the_rest(tmp_path, server):
    """A 206 answer may be shorter than asked (RFC 9110, 15.3.7); only Content-Range tells how long the whole file is."""
    manifest = one_file(tmp_path, server)
    server.files["big.bin"] = Served(BIG, cut_after=[150_000], most_a_range=120_000)
    fetch(manifest, tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG and len(server.requests) == 4


def test_without_validator_and_sum_nothing_is_resumed(tmp_path, server):
    manifest = one_file(tmp_path, server, known=False)
    server.files["big.bin"].etag, server.files["big.bin"].cut_after = None, [150_000]
    fetch(manifest, tmp_path / "root", progress=False)
    assert [r[1] for r in server.requests] == [None, None]
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG


def test_weak_etag_is_not_sent_as_a_condition(tmp_path, server):
    manifest = one_file(tmp_path, server)
    server.files["big.bin"].etag, server.files["big.bin"].cut_after = 'W/"v1"', [150_000]
    fetch(manifest, tmp_path / "root", progress=False)
    assert server.requests[1][1] is not None and server.requests[1][2] is None


def test_wrong_bytes_name_both_sums_and_leave_nothing(tmp_path, server):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    server.files["big.bin"] = Served(b"tampered")
    with pytest.raises(DataError) as caught:
        fetch(manifest, root, progress=False)
    assert sums(b"tampered")["sha256"] in str(caught.value) and sums(BIG)["sha256"] in str(caught.value)
    assert names_in(root) == [] and len(server.requests) == 1


def test_next_mirror_after_wrong_bytes_404_and_500(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "MAX_FAILURES", 2)
    manifest = one_file(tmp_path, server, mirrors=[f"{server.url}/{name}" for name in ("gone", "ill", "good")])
    server.files |= {"big.bin": Served(b"x"), "ill": Served(b"", status=[500] * 9), "good": Served(BIG)}
    fetch(manifest, tmp_path / "root", progress=False)
    assert [r[0] for r in server.requests] == ["big.bin", "gone", "ill", "ill", "good"]
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG


def test_mirror_goes_on_with_the_bytes_of_another_when_the_sum_is_known(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "MAX_FAILURES", 1)
    manifest = one_file(tmp_path, server, mirrors=[f"{server.url}/second"])
    server.files |= {"big.bin": Served(BIG, cut_after=[200_000], status=[None, 503]), "second": Served(BIG, etag='"another"')}
    fetch(manifest, tmp_path / "root", progress=False)
    assert server.requests[-1][0] == "second" and server.requests[-1][1] is not None
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG


def test_glued_wrong_bytes_are_fetched_afresh(tmp_path, server):
    """A partial file whose first half is bad (same ETag and length): the sum finds it, and one fresh try follows."""
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    root.mkdir()
    (root / "big.bin.partial").write_bytes(bytes(100_000))
    note = {"url": f"{server.url}/big.bin", "etag": '"v1"', "last_modified": "", "length": len(BIG)}
    (root / "big.bin.partial.json").write_text(json.dumps(note))
    fetch(manifest, root, progress=False)
    assert (root / "big.bin").read_bytes() == BIG
    assert [r[1] for r in server.requests] == ["bytes=100000-", None]


def test_passing_500_and_slow_and_stalled_server(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", (1.0, 0.3))
    manifest = one_file(tmp_path, server)
    server.files["big.bin"] = Served(BIG, status=[500, 429], stall_after=[150_000], pieces=8)
    fetch(manifest, tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "big.bin").read_bytes() == BIG and len(server.requests) == 4


def test_a_server_that_never_gets_further_is_given_up(tmp_path, server):
    manifest = one_file(tmp_path, server)
    server.files["big.bin"] = Served(BIG, ranges=False, cut_after=[100_000] * 50)
    with pytest.raises(DataError, match="cut"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert len(server.requests) == download.MAX_FAILURES + 1


def test_offline_error_says_what_to_do(tmp_path, server):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError) as caught:
        fetch(manifest, root, progress=False)
    message = str(caught.value)
    assert f"{server.url}/big.bin: connection refused" in message
    assert f"put it at {root / 'big.bin'}" in message and f"spider-kit data verify {root}" in message and "\n" not in message
    assert names_in(root) == []


def test_file_placed_by_hand_needs_no_network(tmp_path, server):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    root.mkdir()
    (root / "big.bin").write_bytes(BIG)
    assert fetch(manifest, root, progress=False).present == ("big.bin",) and server.requests == []
    (root / "big.bin").write_bytes(BIG[:-1])
    server.files.clear()
    with pytest.raises(DataError, match=r"404.*the big\.bin that lies in .* has another checksum"):
        fetch(manifest, root, progress=False)
    assert (root / "big.bin").read_bytes() == BIG[:-1], "a user's file is only ever replaced by a right one"


def test_disk_space_is_checked_before_anything_is_asked(tmp_path, server, monkeypatch):
    archive = {"name": "a.zip", "url": f"{server.url}/a.zip", "bytes": 1000, "unpack": {"members": {"*.mha": "images"}}}
    plain = {"name": "t.csv", "url": f"{server.url}/t.csv", "bytes": 500}
    manifest = make_manifest(tmp_path / "manifests", [archive, plain])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2499})())
    with pytest.raises(DataError, match=r"fetching a\.zip, t\.csv \(with unpacking\) needs") as caught:
        fetch(manifest, tmp_path / "root", progress=False)
    assert "free" in caught.value.problem and server.requests == [] and not (tmp_path / "root").exists()


def test_disk_too_small_for_a_size_that_only_the_server_knows(tmp_path, server, monkeypatch):
    manifest = one_file(tmp_path, server)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": len(BIG) - 1})())
    with pytest.raises(DataError, match=r"downloading big\.bin needs"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert names_in(tmp_path / "root") == []


REFUSALS = [
    (errno.ENOSPC, r"the disk is full\. Free some space"),
    (errno.EROFS, r"the file system is read-only\. Choose a folder"),
    (errno.EACCES, r"permission denied\. Choose a folder"),
]


@pytest.mark.parametrize(("number", "words"), REFUSALS)
def test_disk_that_takes_no_more_keeps_the_partial_file(tmp_path, server, monkeypatch, number, words):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    real_open = open

    class Filling:
        def __init__(self, *args):
            self.file, self.room = real_open(*args), 130_000

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(number, os.strerror(number))
            return self.file.write(data)

        def flush(self):
            self.file.flush()

        def close(self):
            self.file.close()

    with monkeypatch.context() as patch:
        patch.setattr("spider_utils.data.download.open", Filling, raising=False)
        with pytest.raises(DataError, match=rf"big\.bin\.partial: {words}"):
            fetch(manifest, root, progress=False)
    assert names_in(root) == ["big.bin.partial", "big.bin.partial.json"]
    fetch(manifest, root, progress=False)
    assert (root / "big.bin").read_bytes() == BIG and server.requests[-1][1] is not None


def test_root_that_is_a_file_or_below_one(tmp_path, server):
    manifest = one_file(tmp_path, server)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file, not a folder"):
        fetch(manifest, tmp_path / "file", progress=False)
    with pytest.raises(DataError, match=r"below: a part of this path is a file, not a folder\. Choose another folder"):
        fetch(manifest, tmp_path / "file" / "below", progress=False)


@pytest.mark.parametrize(("number", "words"), REFUSALS)
def test_root_that_cannot_be_made(tmp_path, server, monkeypatch, number, words):
    def refused(path, *_, **__):
        raise OSError(number, os.strerror(number), path)

    manifest = one_file(tmp_path, server)
    monkeypatch.setattr("os.mkdir", refused)
    with pytest.raises(DataError, match=f"root: {words}") as caught:
        fetch(manifest, tmp_path / "root", progress=False)
    assert str(caught.value).startswith(f"{tmp_path / 'root'}: ") and "\n" not in str(caught.value)
    assert server.requests == [] and not (tmp_path / "root").exists()


IMAGES = {"images/1_t1.mha": b"image one", "images/10_t2.mha": b"image ten"}


def spider_like(tmp_path, server, images=None, known=True, **more):
    packed = {"images.zip": zipped(images or IMAGES), "masks.zip": zipped({"1_t1.mha": b"mask one", "10_t2.mha": b"mask ten"})}
    entries = []
    for name, data in packed.items():
        folder = name.removesuffix(".zip")
        server.files[name] = Served(data)
        rule = {"members": {"*.mha": folder}, "expected_files": {folder: 2}, "max_ratio": 50}
        entries.append({"name": name, "url": f"{server.url}/{name}", "unpack": rule, **(sums(data) if known else {})})
    table = b"new_file_name,subset\r\n1_t1,training\r\n10_t2,training\r\n"
    server.files["overview.csv"] = Served(table)
    entries.append({"name": "overview.csv", "url": f"{server.url}/overview.csv", **sums(table)})
    return make_manifest(tmp_path / "manifests", entries, **more)


def test_archives_end_in_the_layout_with_a_receipt(tmp_path, server):
    manifest, root = spider_like(tmp_path, server), tmp_path / "root"
    report = fetch(manifest, root, progress=False)
    volumes = ["images/10_t2.mha", "images/1_t1.mha", "masks/10_t2.mha", "masks/1_t1.mha"]
    assert names_in(root) == sorted([RECEIPT, "overview.csv", *volumes])
    receipt = pd.read_csv(root / RECEIPT, index_col="path")
    assert sorted(receipt.index) == volumes
    assert receipt.loc["images/1_t1.mha", "sha256"] == hashlib.sha256(b"image one").hexdigest()
    assert report.unchecked == 0
    before = len(server.requests)
    assert fetch(manifest, root, progress=False).fetched == () and len(server.requests) == before
    (root / "masks/1_t1.mha").write_bytes(b"cut")
    assert fetch(manifest, root, progress=False).fetched == ("masks.zip",)
    assert (root / "masks/1_t1.mha").read_bytes() == b"mask one"
    assert sorted(pd.read_csv(root / RECEIPT)["path"]) == volumes


def test_archive_placed_by_hand_is_unpacked_and_kept(tmp_path, server):
    manifest, root = spider_like(tmp_path, server), tmp_path / "root"
    root.mkdir()
    (root / "images.zip").write_bytes(server.files["images.zip"].data)
    report = fetch(manifest, root, progress=False)
    assert "images.zip" in report.present and "images.zip" not in [r[0] for r in server.requests]
    assert (root / "images.zip").exists() and not (root / "masks.zip").exists()
    assert (root / "images/1_t1.mha").read_bytes() == b"image one"
    (root / "masks.zip").write_bytes(b"")
    assert fetch(manifest, root, progress=False).fetched == () and (root / "masks.zip").exists()


@pytest.mark.parametrize("note", ['{"url": "u", "etag": "", "last_modified": "", "length": 9}', "{", "[]", '{"done": 1}'])
def test_archive_placed_by_hand_after_a_download_that_never_began_is_kept(tmp_path, server, note):
    """A process that is killed between writing the note and opening the partial file leaves the note alone."""
    manifest, root = spider_like(tmp_path, server), tmp_path / "root"
    root.mkdir()
    (root / "images.zip.partial.json").write_text(note)
    (root / "images.zip").write_bytes(server.files["images.zip"].data)
    fetch(manifest, root, progress=False)
    assert (root / "images.zip").exists() and (root / "images/1_t1.mha").read_bytes() == b"image one"
    assert not (root / "images.zip.partial.json").exists()


def test_what_another_process_brought_meanwhile_is_not_fetched_again(tmp_path, server, monkeypatch):
    manifest, root = spider_like(tmp_path, server), tmp_path / "root"
    real_lock = manifest_module.file_lock

    def late_lock(*arguments):
        monkeypatch.setattr(manifest_module, "file_lock", real_lock)
        fetch(manifest, root, progress=False)  # as another process does, after this one has looked what is missing
        return real_lock(*arguments)

    monkeypatch.setattr(manifest_module, "file_lock", late_lock)
    report = fetch(manifest, root, progress=False)
    assert (report.fetched, report.present) == ((), ("images.zip", "masks.zip", "overview.csv"))
    assert len(server.requests) == 3


def test_data_unpacked_by_hand_is_left_alone(tmp_path, server):
    manifest, root = spider_like(tmp_path, server), tmp_path / "root"
    for name in ("images/1_t1.mha", "images/10_t2.mha", "masks/1_t1.mha"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"by hand")
    assert fetch(manifest, root, progress=False).fetched == ("masks.zip", "overview.csv")
    assert (root / "images/1_t1.mha").read_bytes() == b"by hand"


def test_only_the_wanted_files(tmp_path, server):
    manifest, root = spider_like(tmp_path, server), tmp_path / "root"
    fetch(manifest, root, files=["overview.csv"], progress=False)
    assert names_in(root) == ["overview.csv"]
    with pytest.raises(KitError, match=r"no file 'gradings\.csv'\. Known are: images\.zip"):
        fetch(manifest, root, files=["gradings.csv"])


def test_base_url_replaces_the_addresses(tmp_path, server):
    entry = {"name": "big.bin", "url": "http://localhost.invalid/elsewhere", **sums(BIG)}
    server.files["mirror/big.bin"] = Served(BIG)
    manifest = make_manifest(tmp_path / "manifests", [entry])
    fetch(manifest, tmp_path / "root", base_url=f"{server.url}/mirror/", progress=False)
    assert [r[0] for r in server.requests] == ["mirror/big.bin"]


def test_archive_without_sum_is_checked_file_by_file(tmp_path, server):
    (tmp_path / "manifests").mkdir()
    right, other = hashlib.sha256(b"image one").hexdigest(), hashlib.sha256(b"mask one").hexdigest()
    table = tmp_path / "manifests" / "sums.csv"
    table.write_text(f"name,image_sha256,mask_sha256\n1_t1.mha,{right},{other}\n")
    manifest, root = (
        spider_like(tmp_path, server, known=False, sums="sums.csv", copies={"cases.csv": "sums.csv"}),
        tmp_path / "root",
    )
    assert fetch(manifest, root, progress=False).unchecked == 2  # the two files of patient 10
    assert (root / "cases.csv").read_bytes() == table.read_bytes()
    tampered = spider_like(tmp_path, server, images={**IMAGES, "images/1_t1.mha": b"tampered"}, known=False, sums="sums.csv")
    with pytest.raises(DataError, match=f"1_t1.mha' has sha256 .* but {right} is known"):
        fetch(tampered, tmp_path / "other", files=["images.zip"], progress=False)
    assert names_in(tmp_path / "other") == ["images.zip", "images.zip.partial.json"]


def test_slip_in_a_fetched_archive_leaves_nothing_outside(tmp_path, server):
    manifest = spider_like(tmp_path, server, images={"images/1_t1.mha": b"x", "../../evil.mha": b"x"})
    with pytest.raises(DataError, match="leads out of the folder"):
        fetch(manifest, tmp_path / "root", progress=False)
    assert not list(tmp_path.rglob("evil*")) and names_in(tmp_path / "root") == ["images.zip", "images.zip.partial.json"]


def test_generated_set_says_how_it_is_made(tmp_path):
    with pytest.raises(KitError, match="is made, not downloaded: run spider-kit data phantom --out"):
        fetch("phantom", tmp_path)
