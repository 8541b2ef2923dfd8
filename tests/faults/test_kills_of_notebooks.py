"""Notebooks and the course, killed or started twice: nothing is left that runs or lies about, and the next run completes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import nbformat
import pytest

from tests.conftest import REPOSITORY
from tests.faults.started import children, finish, is_alive, kill, kit, wait_for, write_notebook

WAITS = """
import os, time
from pathlib import Path
Path("kernel.pid").write_text(str(os.getpid()))
Path("parent.pid").write_text(str(os.getppid()))
while not Path("go").exists():
    time.sleep(0.05)
if Path("die").exists():
    os.kill(os.getpid(), 9)
print(6 * 7)
"""


def process_in(path: Path) -> int:
    """The process id that a notebook wrote, 0 before it did."""
    return int(path.read_text() or 0) if path.exists() else 0


def printed(path: Path) -> str:
    """What the second cell of a notebook printed."""
    return nbformat.read(path, as_version=4).cells[-1].outputs[0].text


def test_a_killed_notebook_a_second_one_beside_it_and_a_dead_kernel(tmp_path):
    source, out = tmp_path / "lesson.ipynb", tmp_path / "out" / "lesson.ipynb"
    write_notebook(source, WAITS)

    def lesson():
        return kit("run-notebook", source, out, "--profile", "smoke", SPIDER_KIT_HOME=str(tmp_path))

    process = lesson()
    wait_for(lambda: process_in(tmp_path / "parent.pid"), process)
    kernel = process_in(tmp_path / "kernel.pid")
    code, said = finish(lesson())
    assert code == 1 and f"process {process.pid} is running this notebook right now. Wait until it ends" in said
    kill(process)
    assert not out.exists()
    wait_for(lambda: not is_alive(kernel))
    (tmp_path / "go").touch()
    (tmp_path / "die").touch()
    code, said = finish(lesson())
    assert code == 1 and f"error: {source}: the run stopped: Kernel died" in said and "out of memory" in said
    assert not out.exists()
    (tmp_path / "die").unlink()
    code, said = finish(lesson())
    assert code == 0 and printed(out) == "42\n", said
    assert "without encryption" not in said
    assert sorted(path.name for path in out.parent.iterdir()) == ["lesson.ipynb", "lesson.json"]


@pytest.fixture
def home(tmp_path):
    """A course of one notebook, which waits for a file "go"."""
    home, root = tmp_path / "home", tmp_path / "root"
    (home / "notebooks").mkdir(parents=True)
    for name in ("spider_utils", "data_manifest", "pyproject.toml"):
        (home / name).symlink_to(REPOSITORY / name)
    write_notebook(home / "notebooks" / "00_start_here.ipynb", WAITS)
    emptied = "for names in (TRAININGS, PLANE_TRAININGS, FINDING_TRAININGS, NOTEBOOKS):\n    names.clear()\n"
    text = (REPOSITORY / "Snakefile").read_text(encoding="utf-8")
    text = text.replace("# Where cores are few", f"{emptied}NOTEBOOKS['00_start_here'] = []\n# Where cores are few", 1)
    (home / "Snakefile").write_text(text, encoding="utf-8")
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        (root / folder / "1_t2.mha").touch()
    return home


def course(home: Path):
    options = ("--profile", "smoke", "--cores", 1, "--data", "spider", "--root", home.parent / "root")
    return kit("course", *options, SPIDER_KIT_HOME=str(home))


def test_a_killed_course_is_not_joined_by_a_second_one_and_the_next_completes(home):
    """Snakemake outlives the command: it goes on, and holds the lock until it ends."""
    process = course(home)
    wait_for(lambda: process_in(home / "parent.pid"), process)
    (snakemake,) = children(process)
    kill(process)
    assert is_alive(snakemake)
    code, said = finish(course(home))
    assert code == 1 and f"process {snakemake} is running this course right now. Wait until it ends" in said
    os.kill(process_in(home / "parent.pid"), signal.SIGKILL)  # the job too: nothing of it is complete
    wait_for(lambda: not is_alive(snakemake))
    (home / "go").touch()
    code, said = finish(course(home))
    assert code == 0 and "1 notebooks" in said, said
    executed = home / "build" / "smoke-spider" / "notebooks"
    assert sorted(path.name for path in executed.iterdir()) == ["00_start_here.ipynb", "00_start_here.json"]
    assert printed(executed / "00_start_here.ipynb") == "42\n"


def test_a_job_that_is_killed_is_told_and_a_clock_that_was_put_back_stops_nothing(home):
    process = course(home)
    wait_for(lambda: process_in(home / "parent.pid"), process)
    os.kill(process_in(home / "parent.pid"), signal.SIGKILL)
    code, said = finish(process)
    assert code == 1 and "A job that ends without an error was killed, most likely for lack of memory: run again" in said
    (home / "go").touch()
    tomorrow = time.time() + 24 * 3600
    source = home / "notebooks" / "00_start_here.ipynb"
    os.utime(source, (tomorrow, tomorrow))  # written before the clock was put back by a day
    code, said = finish(course(home))
    assert code == 0 and "1 notebooks" in said, said
    assert source.stat().st_mtime < time.time()
