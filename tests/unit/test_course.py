"""The course around Snakemake, with a stand-in for it."""

from __future__ import annotations

import sys

import nbformat
import pytest

from spider_utils import course
from spider_utils.runtime import PROFILES
from spider_utils.workflow import Workspace

WORDY_AT_ITS_END = """
import os, pathlib, signal, sys, time

def end(*_):
    signal.alarm(20)  # against waiting for ever for a reader
    os.write(1, b"last words\\n" * 50_000)  # more than a pipe holds
    pathlib.Path("ended").touch()
    os._exit(1)

signal.signal(signal.SIGTERM, end)
print("> a job", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there terminate() ends a process at once, without last words")
def test_a_course_that_is_interrupted_lets_snakemake_say_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "Snakefile").touch()
    (tmp_path / "snakemake.py").write_text(WORDY_AT_ITS_END)
    for folder in ("images", "masks"):
        (tmp_path / "root" / folder).mkdir(parents=True)
        (tmp_path / "root" / folder / "1_t2.mha").touch()
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "print", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        course.run_course("smoke", "spider", str(tmp_path / "root"), cores=1)
    assert (tmp_path / "ended").exists()
    assert not list(tmp_path.rglob("course.lock"))


def test_a_published_notebook_has_one_stream_where_chance_made_several(tmp_path):
    home = tmp_path
    cell = nbformat.v4.new_code_cell("print('ab'); 1; print('c')")
    pieces = [("stdout", "a"), ("stdout", "b\n"), ("stderr", "x"), ("stdout", "c\n")]
    cell.outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces]
    executed = home / "build" / "quick-phantom" / "notebooks" / "00_a.ipynb"
    for folder in (executed.parent, home / "notebooks", home / "build" / "quick-phantom" / "figures", home / "figures"):
        folder.mkdir(parents=True)
    for path in (executed, home / "notebooks" / "00_a.ipynb"):
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    course.publish(Workspace(PROFILES["quick"], "phantom", "", home))
    found = nbformat.read(home / "notebooks" / "00_a.ipynb", as_version=4).cells[0].outputs
    assert [(one.name, one.text) for one in found] == [("stdout", "ab\n"), ("stderr", "x"), ("stdout", "c\n")]
