"""Sweeps as a user runs them: on this machine, killed in the middle, and on a SLURM of one node."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from spider_utils.files import read_json
from tests.one_node_slurm import one_node_slurm, why_not
from tests.unit.test_sweeps import check_page

ROOT = Path(__file__).resolve().parents[2]
TINY = """
models: [dilated_unet, {model: resunet, label: small, options: {widths: [8, 12]}}]
folds: [0, 1]
profiles: smoke
settings: {rows: 32, columns: 32, epochs: 1, samples_per_epoch: 16}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What looks like a checkout, with one short notebook."""
    folder = tmp_path_factory.mktemp("sweeps") / "home"
    (folder / "notebooks").mkdir(parents=True)
    for name in ("spider_utils", "data_manifest", "pyproject.toml", "Sweepfile", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    cells = [nbformat.v4.new_code_cell('PROFILE = "quick"\nDATA = "phantom"\nROOT = ""', metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell('print(f"ran in {PROFILE}")'))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / "00_short.ipynb")
    return folder


def command_line(home: Path, *arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """``spider-kit course`` in ``home``: the command and its environment, with this checkout's package and its own command."""
    bin_folder = home.parent / "bin"
    if not bin_folder.exists():
        bin_folder.mkdir()
        (bin_folder / "spider-kit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spider_utils.cli "$@"\n', encoding="utf-8")
        (bin_folder / "spider-kit").chmod(0o755)
    environment = os.environ | {"SPIDER_KIT_HEADLESS": "1", "MPLBACKEND": "agg", "SPIDER_KIT_HOME": str(home)} | variables
    environment["PYTHONPATH"] = str(ROOT)
    environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
    environment.pop("OMP_NUM_THREADS", None)
    return [sys.executable, "-m", "spider_utils.cli", "course", *arguments], environment


def course(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command, environment = command_line(home, *arguments, **variables)
    return subprocess.run(command, cwd=home, env=environment, text=True, capture_output=True, timeout=540)


def write_sweep(home: Path, name: str, text: str) -> Path:
    path = home / f"{name}.yml"
    path.write_text(text, encoding="utf-8")
    return path


def stamps(folder: Path, pattern: str) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.glob(pattern)}


@pytest.fixture(scope="module")
def swept(home: Path) -> tuple[Path, dict[str, int], subprocess.CompletedProcess]:
    """A sweep killed after its first training and run again: its folder, what the kill left, and what the second run said.

    Two made-up GPUs are given out (its trainings find none, and go on on the CPU).
    """
    path = write_sweep(home, "tiny", f"{TINY}notebooks: 00_short\njob: {{gpus: 1}}\n")
    folder, arguments = home / "build" / "sweeps" / "tiny", ("--sweep", str(path), "--cores", "2")
    command, environment = command_line(home, *arguments, CUDA_VISIBLE_DEVICES="0,1")
    # A session of its own, so that Snakemake and its jobs can be killed with it as by a crash of the machine.
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    end, left = time.monotonic() + 300, {}
    # Two run at a time: where two are begun beside those that are done, Snakemake has noted these as done. Before that it would
    # rightly do them again.
    while process.poll() is None and time.monotonic() < end:
        left, begun = stamps(folder, "jobs/*.txt"), stamps(folder, "jobs/*fold*.partial")
        if any("fold" in name for name in left) and len(begun) == 2:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the sweep ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return folder, left, course(home, *arguments, CUDA_VISIBLE_DEVICES="0,1")


def test_a_killed_sweep_goes_on(swept: tuple[Path, dict[str, int], subprocess.CompletedProcess]) -> None:
    folder, left, said = swept
    assert said.returncode == 0, said.stdout + said.stderr
    now = stamps(folder, "jobs/*.txt")
    assert 2 <= len(left) < len(now) == 6, "the data, four trainings and a notebook"
    assert {name: now[name] for name in left} == left, "what was done is not done again"
    assert "6 of 6 jobs are done" in said.stdout and "FAILED" not in said.stdout
    for name in set(now) - set(left):
        title = Path(name).stem
        begun = [line for line in said.stdout.splitlines() if line.startswith("> ") and title.split("-")[2] in line]
        assert begun, f"no word of {title}"
    assert not list(folder.glob("jobs/*.partial")) and not list(folder.glob("jobs/*.failed"))


def test_its_tables_hold_every_run(swept: tuple[Path, dict[str, int], subprocess.CompletedProcess]) -> None:
    folder, _, said = swept
    runs, table = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "table.csv")
    assert sorted(zip(runs["model"], runs["fold"], runs["seed"], strict=True)) == [
        ("dilated_unet", 0, 0), ("dilated_unet", 1, 0), ("small", 0, 0), ("small", 1, 0),
    ]  # fmt: skip
    assert (runs["seconds"] > 0).all() and (runs["memory_mb"] > 100).all() and (runs["device"].str.startswith("cpu")).all()
    dice = table[(table["metric"] == "dice") & (table["name"] == "foreground mean")].set_index("model")
    for model, of_model in runs.groupby("model"):
        scores = [pd.read_csv(folder.parents[2] / "runs" / name / "metrics-test.csv") for name in of_model["run"]]
        cases = pd.concat(scores).groupby(["case"])["dice"].mean()  # of the classes that it has
        assert dice.loc[model, "mean"] == pytest.approx(cases.mean())
        assert dice.loc[model, "sd_folds"] == pytest.approx(of_model["dice"].std(ddof=1))
        assert f"{dice.loc[model, 'mean']:.3f}" in said.stdout
    assert set(dice["patients"]) == {runs.groupby("model")["patients"].sum().iloc[0]}, "folds test different patients"


def test_its_report_opens(swept: tuple[Path, dict[str, int], subprocess.CompletedProcess]) -> None:
    folder, _, _ = swept
    page = check_page(folder / "report.html")
    assert "6 of 6 jobs are done" in page.text and len(page.sources) == 3
    assert "ran in smoke" in page.inside[0] and "notebooks/smoke-phantom/00_short.ipynb" in page.links


def test_a_sweep_that_is_done_does_nothing_and_a_deleted_run_comes_back(
    home: Path, swept: tuple[Path, dict[str, int], subprocess.CompletedProcess]
) -> None:
    folder, _, _ = swept
    before, scores = stamps(folder, "jobs/*.txt"), pd.read_csv(folder / "runs.csv").set_index(["model", "fold"])["dice"]
    run = next(path for path in (home / "runs").iterdir() if "resunet" in path.name and "fold1" in path.name)
    shutil.rmtree(run)
    again = course(home, "--sweep", str(home / "tiny.yml"), "--cores", "2", CUDA_VISIBLE_DEVICES="0,1")
    assert again.returncode == 0, again.stdout + again.stderr
    after = stamps(folder, "jobs/*.txt")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"jobs/smoke-phantom-small-fold1-seed0.txt", "jobs/smoke-phantom-00_short.txt"}
    assert (run / "model.safetensors").is_file()
    pd.testing.assert_series_equal(pd.read_csv(folder / "runs.csv").set_index(["model", "fold"])["dice"], scores)


def test_a_training_that_fails_is_named_and_the_others_run(home: Path, swept: tuple) -> None:
    """Rows of 40 fit no network here, which only the training itself can tell."""
    models = "models: [{model: resunet, label: small, options: {widths: [8, 12]}}, {model: unet, rows: 40, columns: 40}]"
    text = TINY.replace(TINY.splitlines()[1], models).replace("folds: [0, 1]", "folds: 0")
    said = course(home, "--sweep", str(write_sweep(home, "broken", text)), "--cores", "2")
    assert said.returncode == 1, said.stdout + said.stderr
    assert "2 of 3 jobs are done" in said.stdout
    failed = [line for line in said.stdout.splitlines() if "FAILED" in line]
    assert failed and all("rows and columns of a slice must be multiples of" in line for line in failed)
    assert "unet, rows 40, columns 40" in failed[0]
    assert "failed. error:" in check_page(home / "build" / "sweeps" / "broken" / "report.html").text


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--sweep", "none.yml"], 1, "none.yml: No such file"),
        (["--sweep", "bad.yml"], 1, "bad.yml: models[0].model holds 'vnet'"),
        (["--sweep", "bad.yml", "--profile", "smoke"], 2, "--profile does not go with --sweep"),
        (["--cluster", "profiles/slurm"], 2, "--cluster runs sweeps: give --sweep too"),
        (["--sweep", "bad.yml", "--cluster", "notebooks"], 1, "notebooks is no Snakemake profile"),
        (["--sweep", "many.yml"], 1, "a training wants 2 GPUs (job.gpus in many.yml), and 1 are there"),
    ],
)
def test_wrong_use_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str], status: int, said: str
) -> None:
    from spider_utils import cli

    write_sweep(home, "bad", "models: vnet")
    write_sweep(home, "many", "models: unet\njob: {gpus: 2}")
    monkeypatch.chdir(home)
    monkeypatch.setenv("SPIDER_KIT_HOME", str(home))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(sys, "argv", ["spider-kit", "course", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == status
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


# -------------------------------------------------------------------------------------------------------------- clusters


def plugin_missing(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is None


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_the_ready_profiles_are_known_to_snakemake(home: Path, swept: tuple, name: str, tmp_path: Path) -> None:
    """A dry run: Snakemake refuses an option that it or the executor does not know, and plans every job."""
    if plugin_missing(f"snakemake_executor_plugin_{name}"):
        pytest.skip(f"snakemake-executor-plugin-{name} is not installed: pip install 'spider-utils[cluster]'")
    folder, _, _ = swept
    profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))
    if "default-storage-prefix" in profile:
        profile["default-storage-prefix"] = str(home)  # where the checkout is
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    _, environment = command_line(home)
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Sweepfile", "--profile", str(tmp_path)]
    command += ["--workflow-profile", "none", "--configfile", str(folder / "sweep.json"), "--dry-run", "--forceall", "--nolock"]
    said = subprocess.run(command, cwd=home, env=environment, text=True, capture_output=True, timeout=300)
    assert said.returncode == 0, said.stdout + said.stderr
    for job in read_json(folder / "sweep.json")["jobs"]:
        assert job["name"] in said.stdout + said.stderr


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    if reason := why_not():
        pytest.skip(reason)
    if plugin_missing("snakemake_executor_plugin_slurm"):
        pytest.skip("snakemake-executor-plugin-slurm is not installed: pip install 'spider-utils[cluster]'")
    with one_node_slurm(tmp_path / "slurm") as environment:
        yield environment


def test_a_sweep_runs_on_slurm(home: Path, swept: tuple, slurm: dict[str, str], tmp_path: Path) -> None:
    """Two trainings as SLURM's own jobs, with a made-up GPU each, by the ready profile and what this small cluster lacks."""
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    profile |= {"slurm-status-command": "squeue", "slurm-no-account": True, "slurm-init-seconds-before-status-checks": 1}
    profile |= {"seconds-between-status-checks": 1, "slurm-keep-successful-logs": True}
    cluster = tmp_path / "profile"
    cluster.mkdir()
    (cluster / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    text = TINY.replace("folds: [0, 1]", "folds: 2").replace("[dilated_unet, ", "[") + "seeds: [3, 4]\n"
    path = write_sweep(home, "on-slurm", f"{text}job: {{gpus: 1, memory_mb: 400, minutes: 9}}\n")
    said = course(home, "--sweep", str(path), "--cluster", str(cluster), **slurm)
    log = home / "build" / "sweeps" / "on-slurm" / "snakemake.log"
    assert said.returncode == 0, said.stdout + said.stderr + log.read_text()
    assert "3 of 3 jobs are done" in said.stdout and "> training small, fold 2, seed 3 (smoke-phantom) ..." in said.stdout
    assert log.read_text().count("has been submitted with SLURM jobid") == 3
    asked = subprocess.run(["scontrol", "show", "job"], env=slurm, capture_output=True, text=True, timeout=60).stdout
    assert asked.count("JobState=COMPLETED") == 3
    assert asked.count("TresPerJob=gres:gpu:1") == 2, asked
    assert asked.count("TimeLimit=00:09:00") == 3 and asked.count("MinMemoryNode=400M") == 3
