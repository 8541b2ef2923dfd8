"""Downloads that are killed or started twice: what came is kept, nothing is glued wrongly, nothing stays behind."""

from __future__ import annotations

import threading

import pytest

from spider_utils.data.manifest import RECEIPT, fetch
from spider_utils.errors import DataError
from tests.faults.started import halves, kill, start, wait_for
from tests.unit.test_fetch import BIG, IMAGES, names_in, one_file, spider_like

FETCH = """
import sys, time
from pathlib import Path
from spider_utils.data import archives, manifest
unpack = archives._unpack_member
def slow(opened, info, target, archive):
    if info.filename == "images/10_t2.mha":
        time.sleep(600)
    return unpack(opened, info, target, archive)
archives._unpack_member = slow
move = archives.os.replace
def slow_move(source, target):
    move(source, target)
    if str(target).endswith("masks/1_t1.mha"):
        time.sleep(600)
archives.os.replace = slow_move
manifest.fetch(manifest.read_manifest(Path(sys.argv[1])), sys.argv[2], progress=False)
"""


def test_a_second_fetch_is_refused_and_after_a_kill_it_goes_on(tmp_path, server):
    manifest, root = one_file(tmp_path, server), tmp_path / "root"
    server.files["big.bin"].pieces, server.files["big.bin"].go_on = 2, threading.Event()
    partial = root / "big.bin.partial"
    process = start(FETCH, manifest.path, root)
    wait_for(lambda: partial.exists() and partial.stat().st_size > 60_000, process)
    with pytest.raises(DataError, match=rf"process {process.pid} is fetching data into this folder right now\. Wait"):
        fetch(manifest, root, progress=False)
    kill(process)
    have = partial.stat().st_size
    assert 0 < have < len(BIG) and not (root / "big.bin").exists()
    server.files["big.bin"].go_on.set()
    fetch(manifest, root, progress=False)
    assert (root / "big.bin").read_bytes() == BIG and server.requests[-1][1] == f"bytes={have}-"
    assert names_in(root) == ["big.bin"]


@pytest.mark.parametrize(
    ("images", "moment"),
    [(IMAGES, "images/1_t1.mha"), ({"images/1_t1.mha": b"1", "images/2_t1.mha": b"2"}, "masks/1_t1.mha")],
    ids=["while images are unpacked", "while masks are moved into place"],
)
def test_a_kill_in_the_middle_of_unpacking(tmp_path, server, images, moment):
    manifest, root = spider_like(tmp_path, server, images=images), tmp_path / "root"
    process = start(FETCH, manifest.path, root)
    if moment.startswith("images"):
        wait_for(lambda: list(root.glob(f".partial-*/{moment}")), process)
        assert not (root / moment).exists()
    else:
        wait_for((root / moment).exists, process)
    kill(process)
    before = len(server.requests)
    fetch(manifest, root, progress=False)
    fetched = [name for name, *_ in server.requests[before:]]
    assert "images.zip" not in fetched, "the archive had come whole already"
    volumes = ["masks/10_t2.mha", "masks/1_t1.mha", *images]
    assert names_in(root) == sorted([RECEIPT, "overview.csv", *volumes]) and not halves(root), "its archives are deleted"
    assert all((root / path).read_bytes() == content for path, content in images.items())
