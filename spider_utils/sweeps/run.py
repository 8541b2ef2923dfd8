"""Run a sweep: its jobs through Snakemake, on this machine or a cluster, with a line for each that begins and ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spider_utils.course import date_back, notebook_names
from spider_utils.data.phantom import GENERATOR_VERSION
from spider_utils.errors import KitError
from spider_utils.files import fingerprint, read_json, sha256_of, write_csv, write_json
from spider_utils.locks import file_lock, name_holder
from spider_utils.runtime import project_root
from spider_utils.sweeps.devices import visible_devices
from spider_utils.sweeps.gather import FinishedTraining, run_table, sweep_table
from spider_utils.sweeps.plan import DataSet, Sweep, Training, read_sweep
from spider_utils.sweeps.report import write_report
from spider_utils.training.runs import RUN_FILE, TRAINING_VERSION
from spider_utils.workflow import SCORES_VERSION, Workspace

POLL_S = 0.5


@dataclass(frozen=True)
class Job:
    """One command of a sweep, as the Sweepfile runs it.

    Attributes:
        title: for people.
        name: of Snakemake's rule and of the job's files.
        command: what is run.
        after: names of the jobs that it waits for.
        threads, resources: what it is given.
        first: jobs with higher numbers begin first.
        state: not for the command: another state runs it again.
    """

    title: str
    name: str
    command: list[str]
    after: list[str]
    threads: int
    resources: dict[str, int]
    first: int
    state: str


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "failed" (with its error), "running" or "not run"."""

    title: str
    status: str
    error: str = ""

    @property
    def at_the_end(self) -> Outcome:
        """What became of it when nothing runs any more: a job that left no word was killed."""
        killed = "It was stopped from outside: run the sweep again, and it goes on where it was."
        return Outcome(self.title, "failed", killed) if self.status == "running" else self


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left: outcomes of its jobs, the table of its models, and where things are."""

    folder: Path
    outcomes: list[Outcome]
    table: pd.DataFrame

    @property
    def complete(self) -> bool:
        """Whether every job is done."""
        return all(outcome.status == "done" for outcome in self.outcomes)

    def __str__(self) -> str:
        lines = []
        if not self.table.empty:
            shown = self.table[(self.table["metric"] == "dice") & (self.table["name"] == "foreground mean")]
            columns = ["model", "profile", "data", "mean", "low", "high", "sd_folds", "sd_seeds", "runs", "patients"]
            numbers = shown[columns].to_string(index=False, float_format="{:.3f}".format, na_rep="-")
            lines += ["Dice, mean over structures, with 95 % intervals over patients:", numbers]
        lines += [f"{one.title}: {one.status.upper()}. {one.error}".rstrip() for one in self.outcomes if one.status != "done"]
        done = sum(outcome.status == "done" for outcome in self.outcomes)
        lines.append(f"{done} of {len(self.outcomes)} jobs are done")
        places = {"report": "report.html", "table": "table.csv", "runs": "runs.csv"}
        lines += [f"{what}: {self.folder / name}" for what, name in places.items() if (self.folder / name).is_file()]
        return "\n".join(lines)


def run_sweep(path: str | Path, cores: int, cluster: str | Path | None = None) -> SweepResult:
    """Run what is not done of a sweep, and gather all that is.

    Args:
        path: the sweep's YAML file (see ``plan``).
        cores: CPU cores of this machine to use.
        cluster: folder of a Snakemake profile, whose executor runs the jobs instead of this machine.

    Raises:
        KitError: Snakemake could not start, or a training wants more GPUs than this machine has.
        DataError: the file asks for what there is not; another process runs this sweep.
    """
    home = project_root()
    if not (home / "Sweepfile").is_file():
        raise KitError(f"{home} holds no Sweepfile: run sweeps inside a checkout of the kit")
    if cluster is not None and not (Path(cluster) / "config.yaml").is_file():
        raise KitError(f"{cluster} is no Snakemake profile: it holds no config.yaml. The kit's own are under profiles/")
    sweep = read_sweep(path, notebook_names(home))
    places: list[str] = []
    if cluster is None and sweep.needs.gpus:
        places = [device for device in visible_devices() for _ in range(sweep.needs.jobs_per_gpu)]
        if len(places) < sweep.needs.gpus:
            raise KitError(f"a training wants {sweep.needs.gpus} GPUs (job.gpus in {path}), and {len(places)} are there")
    folder = home / "build" / "sweeps" / sweep.name
    with file_lock(folder / "sweep.lock", "is running this sweep") as lock:
        plan = _jobs(sweep, home, folder, places, None if cluster else cores)
        _clear(folder, sweep, home)
        date_back(list((folder / "jobs").glob("*.txt")))
        code = _run(plan, home, folder, _snakemake(home, folder, cores, cluster, len(places)), lock)
        outcomes = [_outcome(folder, job).at_the_end for job in plan]
        result = _gather(sweep, home, folder, outcomes)
    if code and not any(outcome.status == "failed" for outcome in outcomes):
        log = folder / "snakemake.log"
        said = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise KitError(f"Snakemake stopped with status {code} ({' '.join(said[-1:])[:300]}); all its words are in {log}")
    return result


# -------------------------------------------------------------------------------------------------------------------- jobs


def _jobs(sweep: Sweep, home: Path, folder: Path, places: list[str], cores: int | None) -> list[Job]:
    """Every job; ``places`` of GPUs and ``cores`` are this machine's, None on a cluster."""
    needs = sweep.needs
    resources = {"gpu": needs.gpus, "mem_mb": needs.memory_mb, "runtime": needs.minutes}
    given = {name: value for name, value in resources.items() if value}
    on_cpu = {name: value for name, value in given.items() if name != "gpu"}
    # On a cluster the scheduler gives GPUs out.
    on_device = ["CUDA_VISIBLE_DEVICES="] if not needs.gpus else []
    if places:
        on_device = [sys.executable, "-m", "spider_utils.sweeps.devices", str(folder / "devices"), ",".join(places)]
        on_device += [str(needs.gpus)]
    jobs = []
    for profile, data in sweep.places:
        workspace = Workspace.open(profile, data.kind, data.root or None)
        state = GENERATOR_VERSION if data.kind == "phantom" else workspace.source.state()
        command = ["spider-kit", "data", "prepare", *_where(profile, data)]
        name = f"prepare-{workspace.name}"
        jobs.append(Job(f"preparing {workspace.name}", name, command, [], cores or needs.threads, on_cpu, 2, str(state)))
    for one in sweep.trainings:
        command = [*on_device, "spider-kit", "train", *one.arguments]
        after = [f"prepare-{one.place}", *_started_from(one, sweep)]
        state = f"{TRAINING_VERSION} {SCORES_VERSION}"
        jobs.append(Job(f"training {one}", one.key, command, after, needs.threads, given, 1, state))
    package = [sha256_of(path) for path in sorted((home / "spider_utils").rglob("*.py"))] if sweep.notebooks else []
    for (profile, data), notebook in [(place, name) for place in sweep.places for name in sweep.notebooks]:
        place, source = f"{profile}-{data.kind}", home / "notebooks" / f"{notebook}.ipynb"
        executed = folder / "notebooks" / place / f"{notebook}.ipynb"
        command = [*on_device, "spider-kit", "run-notebook", str(source), str(executed), *_where(profile, data)]
        after = [f"prepare-{place}", *(one.key for one in sweep.trainings if one.place == place)]
        # One at a time: two that miss the same training would both begin it.
        more = given | {"notebooks": 1}
        title = f"notebook {notebook} ({place})"
        state = fingerprint([sha256_of(source), package])
        jobs.append(Job(title, f"{place}-{notebook}", command, after, needs.threads, more, 0, state))
    return jobs


def _where(profile: str, data: DataSet) -> list[str]:
    return [f"--profile={profile}", f"--data={data.kind}", *([f"--root={data.root}"] if data.root else [])]


def _started_from(training: Training, sweep: Sweep) -> list[str]:
    """The sweep's own four-class training that a twenty-class one starts from, where both are the course's own."""
    if not training.is_default or training.model.settings.get("scheme") != "levels20":
        return []
    return [
        other.key
        for other in sweep.trainings
        if other.is_default
        and (other.place, other.model.architecture) == (training.place, training.model.architecture)
        and other.model.settings.get("scheme", "structures4") == "structures4"
    ]


def _file(folder: Path, name: str, ending: str) -> Path:
    """Of a job: "txt" when it is done (what it said), "partial" while it runs, "failed", "log" (its errors)."""
    return folder / "jobs" / f"{name}.{ending}"


# --------------------------------------------------------------------------------------------------------------- Snakemake


def _clear(folder: Path, sweep: Sweep, home: Path) -> None:
    """Forget how earlier attempts ended, and trainings whose run was deleted since."""
    for ending in ("partial", "failed"):
        for path in (folder / "jobs").glob(f"*.{ending}"):
            path.unlink()
    for training in sweep.trainings:
        if _finished(folder, home, training) is None:
            _file(folder, training.key, "txt").unlink(missing_ok=True)


def _finished(folder: Path, home: Path, training: Training) -> Path | None:
    """The run folder of a training that is done. What it said ends with it; by name, as a cluster may mount it elsewhere."""
    said = _file(folder, training.key, "txt")
    lines = said.read_text(encoding="utf-8").split("\n") if said.is_file() else []
    run = home / "runs" / Path(next((line for line in reversed(lines) if line), "none")).name
    return run if (run / RUN_FILE).is_file() and (run / "metrics-test.csv").is_file() else None


def _snakemake(home: Path, folder: Path, cores: int, cluster: str | Path | None, places: int) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Sweepfile", "--directory", str(home)]
    # Snakemake's own lock outlives a killed run and would block the next; the kit's does not (see file_lock).
    command += ["--nolock", "--keep-going", "--rerun-incomplete", "--configfile", str(folder / "sweep.json")]
    command += ["--workflow-profile", "none"]  # profiles/default would be taken unasked
    if cluster is None:
        command += ["--cores", str(cores), "--resources", "notebooks=1", *([f"gpu={places}"] if places else [])]
    else:
        command += ["--profile", str(Path(cluster).resolve()), "--resources", "notebooks=1"]
    return command


def _run(plan: list[Job], home: Path, folder: Path, command: list[str], lock: int) -> int:
    """Start Snakemake and tell what begins and ends, until it ends; its exit status."""
    jobs = []
    for job in plan:
        jobs.append(
            {
                "name": job.name.replace("-", "_").replace(".", "_"),
                # Where Snakemake copies files to its jobs and back (Kubernetes), a job runs elsewhere than in the checkout.
                "command": shlex.join(["env", f"SPIDER_KIT_HOME={home}", *job.command]),
                "after": [_file(folder, name, "txt").relative_to(home).as_posix() for name in job.after],
                "txt": _file(folder, job.name, "txt").relative_to(home).as_posix(),
                **{ending: str(_file(folder, job.name, ending)) for ending in ("partial", "failed", "log")},
                "threads": job.threads,
                "resources": job.resources,
                "priority": job.first,
                "state": job.state,
            }
        )
    # A file, because values on Snakemake's command line are read as YAML.
    write_json(folder / "sweep.json", {"jobs": jobs})
    (folder / "jobs").mkdir(exist_ok=True)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    news = _News(plan, folder)
    with open(folder / "snakemake.log", "w", encoding="utf-8") as log:
        # Snakemake outlives this process when that is killed, and must keep the next sweep from starting beside it.
        kept = () if sys.platform == "win32" else (lock,)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=home, pass_fds=kept)
        name_holder(lock, process.pid)
        try:
            while process.poll() is None:
                news.tell()
                time.sleep(POLL_S)
        finally:
            process.terminate()  # without effect on one that has ended
            process.wait()  # it first ends what it is running
    news.tell()
    return process.returncode


class _News:
    """Says what began and ended since it was asked last. It reads the jobs' files: those say the same on every executor."""

    def __init__(self, plan: list[Job], folder: Path):
        self.plan, self.folder = plan, folder
        self.last = {job.name: _outcome(folder, job).status for job in plan}
        self.begun: dict[str, float] = {}

    def tell(self) -> None:
        ended, begun, now = [], [], time.monotonic()
        for job in self.plan:
            found, before = _outcome(self.folder, job), self.last[job.name]
            self.last[job.name] = found.status
            if found.status == before:
                continue
            if found.status == "running" or before == "not run":
                self.begun[job.name] = now
                begun.append(f"> {job.title} ...")
            seconds = now - self.begun.get(job.name, now)
            if found.status == "done":
                ended.append(f"{job.title}: done in {seconds:.0f} s")
            elif found.status == "failed":
                ended.append(f"{job.title}: FAILED after {seconds:.0f} s. {found.error}")
        for line in ended + begun:
            print(line, flush=True)


def _outcome(folder: Path, job: Job) -> Outcome:
    """What became of a job, by its files."""
    if _file(folder, job.name, "partial").exists():
        return Outcome(job.title, "running")
    if _file(folder, job.name, "failed").exists():
        log = _file(folder, job.name, "log")
        said = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        errors = [line for line in said if line.startswith("error:")] or [line for line in said if line.strip()]
        return Outcome(job.title, "failed", errors[-1].strip() if errors else f"It said nothing; see {folder / 'snakemake.log'}")
    return Outcome(job.title, "done" if _file(folder, job.name, "txt").is_file() else "not run")


# ------------------------------------------------------------------------------------------------------------------ gather


def _gather(sweep: Sweep, home: Path, folder: Path, outcomes: list[Outcome]) -> SweepResult:
    """Tables and the report of what is done."""
    found = [(training, _finished(folder, home, training)) for training in sweep.trainings]
    finished = [FinishedTraining.open(training, run) for training, run in found if run]
    table, runs = sweep_table(finished), run_table(finished)
    write_csv(folder / "table.csv", table)
    write_csv(folder / "runs.csv", runs)
    executed = []
    for place in [f"{profile}-{data.kind}" for profile, data in sweep.places]:
        for name in sweep.notebooks:
            path = folder / "notebooks" / place / f"{name}.ipynb"
            if path.is_file() and path.with_suffix(".json").is_file():
                executed.append((f"{name} ({place})", path, read_json(path.with_suffix(".json"))["seconds"]))
    write_report(folder / "report.html", sweep, finished, table, runs, executed, [vars(outcome) for outcome in outcomes])
    return SweepResult(folder, outcomes, table)
