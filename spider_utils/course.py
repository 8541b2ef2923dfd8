"""Run the course: one notebook through papermill, or all of them through Snakemake, and say how it went."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spider_utils.errors import DataError, KitError
from spider_utils.files import atomic_path, read_json, remove_halves, write_json
from spider_utils.locks import file_lock, name_holder
from spider_utils.runtime import project_root

if TYPE_CHECKING:
    from traitlets.config import Config

    from spider_utils.workflow import Workspace

CELL_TIMEOUT_S = {"smoke": 300, "quick": 1800, "paper": 7 * 24 * 3600}
_COLOR_CODES = re.compile(r"\x1b\[[0-9;]*m")


def run_notebook(source: str | Path, out: str | Path, parameters: dict[str, str]) -> Path:
    """Execute a notebook with papermill; the source stays as it is.

    Args:
        source: the notebook.
        out: the executed copy; appears only when every cell ran. A failed run leaves <out>.failed.ipynb to look into.
        parameters: injected after the cell tagged ``parameters``.

    Returns:
        ``out``.

    Raises:
        DataError: a cell failed; the message holds the error and the number of the cell. Another process is running it.
    """
    source, out = Path(source), Path(out)
    if not source.is_file():
        raise DataError(source, "the notebook does not exist", "Check the path.")
    with file_lock(out.with_suffix(".lock"), "is running this notebook"):
        remove_halves(out)
        _run_notebook(source, out, parameters)
    return out


def _run_notebook(source: Path, out: Path, parameters: dict[str, str]) -> None:
    """``run_notebook`` for the holder of its lock."""
    import nbformat
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillException, PapermillExecutionError

    class WriteAtTheEnd(NBClientEngine):
        """Papermill's own, which writes the whole notebook twice a cell: seconds for one with pictures."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
            path, nb_man.output_path = nb_man.output_path, None
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **options)
            finally:
                nb_man.output_path = path  # where papermill writes next, whatever happened

    papermill_engines.register("write at the end", WriteAtTheEnd)
    failed, report = out.with_suffix(".failed.ipynb"), out.with_suffix(".json")
    for old in (failed, report):
        old.unlink(missing_ok=True)
    os.environ["PAPERMILL_EXECUTION"] = "1"  # the kernel inherits it: progress is then printed line by line
    start = time.monotonic()
    with atomic_path(out) as partial:
        try:
            papermill.execute_notebook(
                source,
                partial,
                parameters=parameters,
                kernel_name="python3",
                engine_name="write at the end",
                execution_timeout=CELL_TIMEOUT_S.get(parameters.get("PROFILE", "quick"), 1800),
                cwd=str(project_root()),
                progress_bar=False,
                log_output=False,
                config=_encrypted(),
            )
        except PapermillExecutionError as error:
            os.replace(partial, failed)
            problem = f"cell {error.exec_count} failed with {error.ename}: {_one_line(error.evalue)}"
            raise DataError(source, problem, f"The run up to there is in {failed}.") from error
        except (PapermillException, RuntimeError, TimeoutError) as error:
            if partial.exists():
                os.replace(partial, failed)
            problem = f"the run stopped: {_one_line(str(error))}"
            fix = "Did a cell take too long, or the machine run out of memory? Try PROFILE=smoke."
            raise DataError(source, problem, fix) from error
        notebook = nbformat.read(partial, as_version=4)
        # Viewers on the web cannot show saved widget state, and it can be large.
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, partial)
    write_json(report, {"notebook": source.stem, "seconds": round(time.monotonic() - start, 1)})


def _encrypted() -> Config:
    """Settings with which a kernel encrypts what it is sent, where Jupyter can: newer kernels warn of plain text."""
    import zmq
    from jupyter_client.manager import KernelManager
    from traitlets.config import Config

    can = hasattr(KernelManager, "transport_encryption") and zmq.has("curve")
    return Config({"KernelManager": {"transport_encryption": "auto"}} if can else {})


def _one_line(text: str) -> str:
    return " ".join(_COLOR_CODES.sub("", text).split())[:300]


@dataclass(frozen=True)
class CourseResult:
    """What a run of the course left: executed notebooks with their seconds, failed and not-run ones, and where things are."""

    workspace: Workspace
    seconds: dict[str, float]
    failed: list[str]
    not_run: list[str]

    def __str__(self) -> str:
        lines = [f"  {name:24s} {'done':>8s} {seconds:7.1f} s" for name, seconds in self.seconds.items()]
        lines += [f"  {name:24s} {'FAILED':>8s}" for name in self.failed]
        lines += [f"  {name:24s} {'not run':>8s}  (needs one that failed)" for name in self.not_run]
        lines.append(f"  {len(self.seconds)} notebooks, {sum(self.seconds.values()):.0f} s in all")
        places = {
            "executed notebooks": self.workspace.build / "notebooks",
            "figures": self.workspace.build / "figures",
            "results table": self.workspace.results_path,
        }
        lines += [f"{what}: {path}" for what, path in places.items() if path.exists()]
        return "\n".join(lines)


def notebook_names(home: Path) -> list[str]:
    """The course's notebooks in reading order."""
    return sorted(path.stem for path in (home / "notebooks").glob("[0-9][0-9]*_*.ipynb"))


def run_course(profile: str, data: str, root: str | None, cores: int) -> CourseResult:
    """Run every notebook that is not up to date, in the order of the Snakefile.

    A notebook that fails is reported with its error; those that do not depend on it still run.

    Raises:
        KitError: unknown profile or data, or Snakemake could not start.
        DataError: the data folder lacks what its kind needs.
    """
    from spider_utils.workflow import Workspace  # not above: every notebook's own process would import torch for nothing

    home = project_root()
    if not (home / "Snakefile").is_file():
        raise KitError(f"{home} holds no Snakefile: run the course inside a checkout of the kit")
    workspace = Workspace.open(profile, data, root)
    out = workspace.build.relative_to(home)
    started = time.time()
    for stale in (workspace.build / "notebooks").glob("*.failed.ipynb"):
        stale.unlink()
    # The phantom follows from the package's code; real data can change under the same name.
    state = "" if data == "phantom" else workspace.source.state()
    config = {"out": out.as_posix(), "profile": profile, "data": data, "root": workspace.root_given, "state": state}
    # A file, because values on its command line are read as YAML: a "#" in a path would begin a comment.
    config_file = workspace.build / "course.config.json"
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--directory", str(home), "--cores", str(cores)]
    # Snakemake's own lock outlives a killed run and would block the next; the kit's does not (see file_lock).
    command += ["--nolock", "--keep-going", "--rerun-incomplete", "--quiet", "all", "--configfile", str(config_file)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    log = workspace.build / "snakemake.log"
    with (
        file_lock(workspace.build / "course.lock", "is running this course") as lock,
        open(log, "w", encoding="utf-8") as file,
    ):
        if data == "phantom":  # what every job needs, with all cores; real data may hold what only a notebook can explain
            workspace.store()
        write_json(config_file, config)
        date_back([*_sources(home), *workspace.build.glob("notebooks/*.ipynb"), *workspace.build.glob("training/*.txt")])
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=home,
            # It outlives this process when that is killed, and must keep the next course from starting beside it.
            pass_fds=() if sys.platform == "win32" else (lock,),
        )
        name_holder(lock, process.pid)
        begun = explained = False  # a training or a notebook has begun; it has said what is wrong
        try:
            for line in process.stdout:
                file.write(line)
                if line.startswith((">", "error:")):
                    print(line.rstrip(), flush=True)
                    begun |= line.startswith(">")
                    explained |= line.startswith("error:")
            code = process.wait()
        finally:
            process.terminate()  # without effect on one that has ended
            # It first ends what it is running, and holds the lock that long. A pipe that nobody reads would fill and keep it.
            process.communicate()
    result = _gather(workspace, started)
    if code and not explained:
        last = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if line.strip()][-1:]
        problem = f"Snakemake stopped with status {code} ({_one_line(' '.join(last))}); all its words are in {log}"
        fix = ". A job that ends without an error was killed, most likely for lack of memory: run again, with fewer cores"
        raise KitError(problem + fix if begun else problem)
    return result


def _sources(home: Path) -> list[Path]:
    """What every notebook is made from: when one changes, it is run again."""
    return [*(home / "notebooks").glob("*.ipynb"), *(home / "spider_utils").rglob("*.py")]


def date_back(paths: list[Path]) -> None:
    """Give files that are dated after now dates just before it, in their order.

    They are there when the clock was put back. What is written from now on would look older than they are, and Snakemake
    refuses outputs that are older than what they were made from.
    """
    now = time.time_ns()
    dates = {path: path.stat().st_mtime_ns for path in paths}
    for rank, date in enumerate(sorted({date for date in dates.values() if date > now}, reverse=True)):
        for path in (path for path in paths if dates[path] == date):
            with contextlib.suppress(OSError):  # a checkout that cannot be written
                os.utime(path, ns=(now - 10_000 * rank,) * 2)


def _gather(workspace: Workspace, started: float) -> CourseResult:
    """Which notebooks are done, failed or waiting, from what lies in the build folder after a run that began at ``started``."""
    seconds, failed, not_run = {}, [], []
    folder = workspace.build / "notebooks"
    for name in notebook_names(workspace.home):
        executed, report = folder / f"{name}.ipynb", folder / f"{name}.json"
        sources = [workspace.home / "notebooks" / f"{name}.ipynb", *(workspace.home / "spider_utils").rglob("*.py")]
        if executed.with_suffix(".failed.ipynb").exists():
            failed.append(name)
        elif not (executed.exists() and report.exists()) or (
            # An older copy is still there when its notebook could not run again because one before it failed.
            executed.stat().st_mtime < min(started, max(path.stat().st_mtime for path in sources))
        ):
            not_run.append(name)
        else:
            seconds[name] = read_json(report)["seconds"]
    return CourseResult(workspace, seconds, failed, not_run)


def _with_joined_streams(outputs: list[Any]) -> list[Any]:
    """Outputs with pieces of one stream put together that chance and timing parted."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and last.output_type == output.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def publish(workspace: Workspace) -> None:
    """Copy executed notebooks and figures into the places that are committed: notebooks/ and figures/.

    Raises:
        KitError: the workspace is not the quick profile on the phantom, whose outputs alone are committed (real images
            must not be).
    """
    import nbformat

    if (workspace.profile.name, workspace.data) != ("quick", "phantom"):
        raise KitError("only the quick profile on the phantom is published")
    for executed in sorted((workspace.build / "notebooks").glob("[0-9][0-9]*_*.ipynb")):
        if executed.name.endswith(".failed.ipynb"):
            continue
        notebook = nbformat.read(executed, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
        notebook.metadata.pop("papermill", None)
        for cell in notebook.cells:
            for stamp in ("papermill", "execution"):
                cell.metadata.pop(stamp, None)
            if cell.cell_type == "code":
                cell.outputs = _with_joined_streams(cell.outputs)
        target = workspace.home / "notebooks" / executed.name
        changed = target.stat().st_mtime_ns
        with atomic_path(target) as partial:
            nbformat.write(notebook, partial)
        # Only outputs were renewed, so the course is still up to date: without this, Snakemake would run it all again.
        os.utime(target, ns=(changed, changed))
    figures = workspace.home / "figures"
    for folder in sorted(p for p in (workspace.build / "figures").iterdir() if p.is_dir()):
        shutil.rmtree(figures / folder.name, ignore_errors=True)
        shutil.copytree(folder, figures / folder.name)
