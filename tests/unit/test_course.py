"""The course around Snakemake, with a stand-in for it."""

from __future__ import annotations

import sys

import pytest

from spider_utils import course

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
