"""Disks that run full: a real file system of a megabyte. One clear error, what was there stays, and with space all completes."""

from __future__ import annotations

import errno

import pytest

from spider_utils.data.slices import SliceStore, build_store
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError
from spider_utils.training import checkpoints
from spider_utils.training.loop import RunResult
from tests.faults.started import in_a_mount, run
from tests.tiny_runs import assert_same_run, train

# sys.argv[1] of these scripts is the small disk, which ends with the process, sys.argv[2] a folder outside for what it leaves.
HEAD = """
import os, shutil, sys
from pathlib import Path
from spider_utils import files
from spider_utils.errors import DataError
disk, out = Path(sys.argv[1]), Path(sys.argv[2])
files.require_free_space = lambda *_: None  # the check before the work would see it coming; the disk may fill up later
def fill(leave):
    (disk / "ballast").unlink(missing_ok=True)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(free - leave))
def listing():
    return sorted(path.relative_to(disk).as_posix() for path in disk.rglob("*") if path.name != "ballast")
def refused(work, name):
    before = listing()
    try:
        work()
    except DataError as error:
        said = str(error)
        assert said.startswith(str(disk / name)) and ("full" in said or "space" in said) and "\\n" not in said, said
        return before
    raise SystemExit("the disk was to be full")
"""


@pytest.fixture
def small_disk(tmp_path):
    """run(script): run HEAD and a script where the folder ``disk`` is a file system of 1 MB; returns the folder for results."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()

    def on_it(script: str, *more: object):
        run(HEAD + script, disk, out, *more, prefix=in_a_mount(disk, "size=1m"))
        return out

    return on_it


def test_a_store_build(small_disk, spider_layout, tmp_path):
    """A store that is there already stays whole; nothing half written is left; with space the new one is as any other."""
    out = small_disk(
        """
from spider_utils.data import slices, stores
from spider_utils.data.sources import open_source
stores.require_free_space = files.require_free_space
source = open_source("spider", sys.argv[3])
slices.build_store(source, disk / "store", (16, 16))
fill(100_000)
before = refused(lambda: slices.build_store(source, disk / "store", (40, 40)), "store")
assert listing() == before, listing()
slices.SliceStore.open(disk / "store")
(disk / "ballast").unlink()
slices.build_store(source, disk / "store", (40, 40))
shutil.copytree(disk / "store", out / "store")
""",
        spider_layout,
    )
    expected = build_store(open_source("spider", spider_layout), tmp_path / "store", (40, 40))
    assert SliceStore.open(out / "store").fingerprint == expected.fingerprint


def test_a_training(small_disk, unbroken):
    """The state of the last epoch that was saved stays, and with space the training goes on from it to the same numbers."""
    out = small_disk(
        """
from tests.tiny_runs import Squares, tiny_network_and_one_thread, train
from spider_utils.training import loop
loop.require_free_space = files.require_free_space
class Filling(Squares):
    def set_epoch(self, epoch):
        super().set_epoch(epoch)
        if epoch == 3:
            fill(0)
with tiny_network_and_one_thread():
    before = refused(lambda: train(disk / "run", train_set=Filling()), "run.partial")
    assert listing() == ["run.partial", *("run.partial/" + name for name in
        ("best-00002.safetensors", "history.csv", "run.json", "training_state.safetensors"))], listing()
    (disk / "ballast").unlink()
    data = Squares()
    train(disk / "run", train_set=data)
    assert {epoch for epoch, _ in data.seen} == {3, 4}
shutil.copytree(disk / "run", out / "run")
"""
    )
    assert_same_run(unbroken, RunResult.open(out / "run"))


def test_files_of_every_kind(small_disk, tmp_path):
    """Volumes, pictures, tables, JSON, notebooks: the old file stays, and the message says that the disk is full."""
    small_disk(
        """
import nbformat, numpy as np, pandas as pd
from PIL import Image
from spider_utils.data.volumes import Volume, kit_direction, write_volume
from spider_utils.locks import file_lock
noise = np.random.default_rng(0).integers(0, 30_000, (8, 200, 200)).astype(np.int16)
volume = Volume(noise, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
def picture(path):
    with files.atomic_path(path) as partial:
        Image.fromarray((noise[0] % 256).astype(np.uint8)).save(partial)
writers = {
    "a.mha": lambda path: write_volume(volume, path),
    "a.nii.gz": lambda path: write_volume(volume, path),
    "a.png": picture,
    "a.csv": lambda path: files.write_csv(path, pd.DataFrame({"x": noise[0, 0]})),
    "a.json": lambda path: files.write_json(path, noise[0, 0]),
}
for name in writers:
    (disk / name).write_text("old")
fill(0)
for name, write in writers.items():
    assert refused(lambda: write(disk / name), name) == listing(), listing()
    assert (disk / name).read_text() == "old"
with file_lock(disk / "table.lock", "is writing"):  # an empty file needs no block: what must be locked still can be
    pass
assert listing() == sorted(writers)
"""
    )


def test_a_download_and_its_archive(small_disk, tmp_path):
    """What came stays for the next try; an archive that cannot be unpacked leaves nothing half done."""
    small_disk(
        """
import hashlib, io, zipfile
from tests.unit import test_fetch as t
import http.server, threading
from spider_utils.data import archives, download, manifest
for module in (archives, download, manifest):
    module.require_free_space = files.require_free_space
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), t.Handler)
server.files, server.requests, server.url = {}, [], f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
image = hashlib.shake_256(b"image").digest(200_000)
packed = t.zipped({"images/1_t1.mha": image})
server.files["images.zip"] = t.Served(packed)
rule = {"members": {"*.mha": "images"}, "expected_files": {"images": 1}, "max_ratio": 50}
entry = {"name": "images.zip", "url": f"{server.url}/images.zip", "unpack": rule, **t.sums(packed)}
toy = t.make_manifest(out / "manifests", [entry])
fill(100_000)
refused(lambda: manifest.fetch(toy, disk / "root", progress=False), "root/images.zip.partial")
left = (disk / "root" / "images.zip.partial").stat().st_size
assert 50_000 < left < 150_000, left
fill(150_000)
refused(lambda: manifest.fetch(toy, disk / "root", progress=False), "root")
assert listing() == ["root", "root/images.zip", "root/images.zip.partial.json"], listing()
assert server.requests[1][1] == f"bytes={left}-"
(disk / "ballast").unlink()
manifest.fetch(toy, disk / "root", progress=False)
assert listing() == ["root", "root/checksums.csv", "root/images", "root/images/1_t1.mha"], listing()
assert (disk / "root/images/1_t1.mha").read_bytes() == image and len(server.requests) == 2
"""
    )


def test_a_training_where_no_disk_can_be_made_small(tmp_path, monkeypatch, unbroken):
    """The same as above by the error number alone, for machines without mounts."""
    calls, real = [], checkpoints.save_file

    def full(tensors, filename, metadata):
        calls.append(1)
        real(tensors, filename, metadata)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full)
        with pytest.raises(DataError, match=r"run\.partial/.*the disk is full") as caught:
            train(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run.partial").glob(".partial-*"))
    assert_same_run(unbroken, train(tmp_path / "run"))
