"""Folders that cannot be written: what is finished can be used all the same, what must be written is one clear error."""

from __future__ import annotations

import pytest

from spider_utils.data.slices import build_store
from spider_utils.data.sources import open_source
from spider_utils.files import write_json
from tests.faults.started import in_a_mount, run, where_modes_count, write_notebook
from tests.tiny_runs import train

SCRIPT = """
import sys
from pathlib import Path
from spider_utils import course
from spider_utils.data import manifest, slices
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError
from spider_utils.files import write_json
from tests.tiny_runs import Squares, tiny_network_and_one_thread, train
place, words = Path(sys.argv[1]), sys.argv[2]
source = open_source("spider", place / "data")
toy = manifest.read_manifest(place / "toy.json")
def refused(work, name):
    try:
        work()
    except DataError as error:
        said = str(error)
        assert said.startswith(str(place / name)) and words in said and "folder" in said and "\\n" not in said, said
    else:
        raise SystemExit(f"{name} could be written")
with tiny_network_and_one_thread():
    data = Squares()
    train(place / "run", train_set=data)
    assert data.seen == []
    refused(lambda: train(place / "new-run"), "new-run")
assert slices.build_store(source, place / "store", (32, 32)).images.shape == (60, 32, 32)
refused(lambda: slices.build_store(source, place / "store", (40, 40)), "store")
assert manifest.fetch(toy, place / "data", progress=False).present == ("overview.csv",)
refused(lambda: manifest.fetch(toy, place / "store", progress=False), "store")
refused(lambda: write_json(place / "new" / "a.json", {}), "new")
refused(lambda: course.run_notebook(place / "lesson.ipynb", place / "executed.ipynb", {}), "executed")
"""


@pytest.fixture
def place(spider_root, tmp_path):
    """A finished run, a store and its data, a fetched data set."""
    place = tmp_path / "place"
    place.mkdir()
    spider_root.rename(place / "data")
    train(place / "run")
    build_store(open_source("spider", place / "data"), place / "store", (32, 32))
    texts = dict.fromkeys(("title", "licence", "licence_url", "homepage", "citation", "checksum_source", "notes"), "toy")
    files = [{"name": "overview.csv", "url": "http://localhost.invalid/overview.csv"}]
    facts = {"format": 1, "key": "toy", "kind": "download", "layout": "spider", "dois": [], "facts": {}, "files": files}
    write_json(place / "toy.json", texts | facts)
    write_notebook(place / "lesson.ipynb", "print(6 * 7)")
    return place


def test_a_read_only_file_system(place, unchanged):
    with unchanged(place):
        run(SCRIPT, place, "read-only", prefix=in_a_mount(place, "ro"))


def test_folders_without_the_permission(place, unchanged):
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with unchanged(place):
            run(SCRIPT, place, "permission denied", prefix=where_modes_count())
    finally:
        for folder in folders:
            folder.chmod(0o755)
