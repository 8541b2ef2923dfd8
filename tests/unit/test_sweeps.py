"""A sweep's file: what it expands into, and what is refused in one line; GPUs given out; tables and report of what runs left."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest

from spider_utils.cli.course import train
from spider_utils.errors import DataError, KitError
from spider_utils.sweeps import devices
from spider_utils.sweeps.gather import MODEL_COLUMNS, RUN_COLUMNS, FinishedTraining, run_table, sweep_table
from spider_utils.sweeps.plan import SETTINGS, DataSet, Model, Training, read_sweep, slug
from spider_utils.sweeps.report import write_report
from spider_utils.sweeps.run import _jobs

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ["00_start_here", "12_evaluation"]


def sweep_of(tmp_path: Path, text: str):
    path = tmp_path / "mine.yml"
    path.write_text(text, encoding="utf-8")
    return read_sweep(path, NOTEBOOKS)


# ------------------------------------------------------------------------------------------------------------- expansion


def test_every_combination_is_trained_once(tmp_path: Path) -> None:
    text = """
models: [unet, {model: resunet, label: big, options: {widths: [8, 12]}, epochs: 5}]
folds: [0, 2]
seeds: [1, 0]
profiles: [smoke, quick]
data: [phantom, {kind: spider, root: "somewhere/with space"}]
settings: {epochs: 3, loss: dice}
"""
    sweep = sweep_of(tmp_path, text)
    keys = [one.key for one in sweep.trainings]
    assert len(keys) == len(set(keys)) == 2 * 2 * 2 * 2 * 2
    assert keys[0] == "smoke-phantom-unet-fold0-seed1" and keys[-1] == "quick-spider-big-fold2-seed0"
    last = sweep.trainings[-1]
    assert last.model.settings == {"epochs": 5, "loss": "dice", "options": {"widths": [8, 12]}}  # its own before the shared
    assert last.arguments == [
        "--model=resunet", "--profile=quick", "--data=spider", "--root=somewhere/with space", "--split=kfold5", "--fold=2",
        "--seed=0", "--epochs=5", "--loss=dice", '--options={"widths": [8, 12]}',
    ]  # fmt: skip


def test_little_is_enough(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "models: unet")
    (only,) = sweep.trainings
    assert str(only) == "unet, fold 0, seed 0 (quick-phantom)" and only.is_default and sweep.name == "mine"
    assert (sweep.needs.threads, sweep.needs.gpus, sweep.notebooks) == (1, 0, ())


def test_models_are_called_after_what_is_chosen_for_them(tmp_path: Path) -> None:
    sweep = sweep_of(
        tmp_path, "models: [unet, {model: unet, loss: dice}, {model: unet, scheme: levels20}]\nsettings: {epochs: 2}"
    )
    assert [model.label for model in sweep.models] == ["unet", "unet, loss dice", "unet, scheme levels20"]
    assert slug("Res #2: wide, loss=x") == "Res_2_wide_loss_x"


def test_a_sweep_knows_every_option_of_a_training() -> None:
    gone_through = {"model", "profile", "data", "root", "split", "fold", "seed", "score"}
    left_out = {"processes"}  # how one training is run, not what is trained: a sweep has `needs` for that
    assert set(SETTINGS) == set(inspect.signature(train).parameters) - gone_through - left_out


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yml")), ids=lambda path: path.name)
def test_the_examples_are_sweeps(path: Path) -> None:
    assert read_sweep(path, [notebook.stem for notebook in (ROOT / "notebooks").glob("*.ipynb")]).trainings


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no mapping of keys to values"),
        ("- unet", "is no mapping of keys to values"),
        ("models: [unet", "is no YAML file"),
        ("models: unet\nseeds: 0\nseeds: 1", "the key 'seeds' stands twice"),
        ("models: !!python/object/apply:os.getcwd []", "is no YAML file"),
        ("seeds: 0", "names no models"),
        ("models: []", "'models' is empty"),
        ("model: unet", "the sweep has an unknown key 'model'. Known are: models, folds"),
        ("models: vnet", "models[0].model holds 'vnet', which is not known. Known are:"),
        ("models: [unet, {label: x}]", "models[1] names no network"),
        ("models: {model: unet, lr: 1}", "models[0] has an unknown key 'lr'"),
        ("models: unet\nsettings: {fold: 1}", "settings has an unknown key 'fold'"),
        ("models: unet\nsettings: {epochs: many}", "settings.epochs must be a whole number, not 'many'"),
        ("models: unet\nsettings: {epochs: true}", "settings.epochs must be a whole number, not True"),
        ("models: unet\nsettings: {epochs: 0}", "settings.epochs: epochs must be at least 1, not 0"),
        ("models: unet\nsettings: {learning_rate: 1e-3}", "not '1e-3' (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"),
        ("models: unet\nsettings: {loss: hinge}", "settings.loss: loss must be one of"),
        ("models: unet\nsettings: {augment: lots}", "settings.augment: "),
        ("models: unet\nsettings: {scheme: mine}", "settings.scheme: "),
        ("models: {model: unet, preparation: mended}", "models[0]: 'unet' sees slices, which have no 'preparation'"),
        ("models: unetr\nsettings: {crop_columns: 32}", "models[0]: 'unetr' sees volumes, which have no 'crop_columns'"),
        ("models: {model: unet, rows: 64}", "models[0] gives a part of a size. Give rows, columns together"),
        ("models: [unet, {model: unet, label: again}]", "models[1] makes the same runs as models[0]"),
        ("models: [{model: unet, label: A-b}, {model: resunet, label: a-B}]", "two models are called 'a-b'"),
        ("models: {model: unet, label: '#'}", "models[0].label is empty"),
        ("models: unet\nfolds: [0, 5]", "folds holds 5. Give 0 to 4"),
        ("models: unet\nfolds: [0, 0]", "folds holds 0 twice"),
        ("models: unet\nseeds: [-1]", "seeds holds -1. Give 0 or more"),
        ("models: unet\nseeds: [1.5]", "seeds must be a whole number, not 1.5"),
        ("models: unet\nsplit: mine", "split holds 'mine', which is not known"),
        ("models: unet\nsplit: official\nfolds: [0, 1]", "split 'official' has no folds"),
        ("models: unet\nprofiles: fast", "profiles holds 'fast', which is not known. Known are: smoke, quick, paper"),
        ("models: unet\ndata: mri", "data[0].kind holds 'mri', which is not known"),
        ("models: unet\ndata: {kind: phantom, root: x}", "data[0]: the phantom has no root"),
        ("models: unet\ndata: [{kind: spider, root: a}, {kind: spider, root: b}]", "data holds 'spider' twice"),
        ("models: unet\nnotebooks: 99_nothing", "notebooks holds '99_nothing', which is not known"),
        ("models: unet\njob: {cores: 2}", "job has an unknown key 'cores'"),
        ("models: unet\njob: {threads: 0}", "job.threads is 0. Give at least 1"),
        ("models: unet\njob: {gpus: 2, jobs_per_gpu: 2}", "job.jobs_per_gpu is 2 and job.gpus 2"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        sweep_of(tmp_path, text)
    message = str(caught.value)
    assert said in message and "mine.yml" in message and "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_sweep(tmp_path / "none.yml", [])


# ------------------------------------------------------------------------------------------------------------------ jobs


def test_jobs_wait_for_what_they_need(tmp_path: Path) -> None:
    text = """
models: [unet, {model: unet, scheme: levels20}]
seeds: [0, 1]
profiles: smoke
notebooks: 12_evaluation
job: {threads: 3, memory_mb: 900, minutes: 5}
"""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "12_evaluation.ipynb").write_text("{}", encoding="utf-8")
    plan = _jobs(sweep_of(tmp_path, text), tmp_path, tmp_path / "out", [], cores=4)
    by_name = {job.name: job for job in plan}
    trainings = [name for name in by_name if "fold" in name]
    assert len(trainings) == 4 and len(plan) == 6
    prepare, twenty = by_name["prepare-smoke-phantom"], by_name["smoke-phantom-unet_scheme_levels20-fold0-seed0"]
    assert prepare.after == [] and prepare.threads == 4 and twenty.threads == 3
    # It starts from the course's own four-class network; with another seed each has a first stage of its own name.
    assert twenty.after == [prepare.name, "smoke-phantom-unet-fold0-seed0"]
    assert by_name["smoke-phantom-unet_scheme_levels20-fold0-seed1"].after == [prepare.name]
    notebook = by_name["smoke-phantom-12_evaluation"]
    assert set(notebook.after) == {prepare.name, *trainings} and notebook.resources["notebooks"] == 1
    assert twenty.resources == {"mem_mb": 900, "runtime": 5}
    assert twenty.command[:2] == ["CUDA_VISIBLE_DEVICES=", "spider-kit"], "without gpus the CPU trains, whatever is there"


def test_gpus_are_given_out_here_and_asked_for_on_a_cluster(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "models: unet\nprofiles: smoke\njob: {gpus: 1, jobs_per_gpu: 2}")
    here = _jobs(sweep, tmp_path, tmp_path / "out", ["0", "0"], cores=4)
    assert here[1].resources == {"gpu": 1} and here[0].resources == {}
    assert here[1].command[1:3] == ["-m", "spider_utils.sweeps.devices"] and "0,0" in here[1].command
    there = _jobs(sweep, tmp_path, tmp_path / "out", [], cores=None)
    assert there[1].resources == {"gpu": 1} and there[1].command[0] == "spider-kit" and there[0].threads == 1


# --------------------------------------------------------------------------------------------------------------- devices


def test_no_gpu_is_given_twice(tmp_path: Path) -> None:
    with devices.take(tmp_path, ["4", "5", "5"], 2) as (first, _):
        assert first == ["4", "5"]
        with devices.take(tmp_path, ["4", "5", "5"], 1) as (second, _):
            assert second == ["5"]
            command = [sys.executable, "-m", "spider_utils.sweeps.devices", str(tmp_path), "4,5,5", "1"]
            code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
            third = subprocess.Popen([*command, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
            time.sleep(1.5)
            assert third.poll() is None, "it must wait while all are held"
    assert third.communicate(timeout=60)[0].strip() == "4" and third.returncode == 0
    with pytest.raises(KitError, match="4 GPUs are wanted, and 3 are there"), devices.take(tmp_path, ["0", "1", "2"], 4):
        pass


def test_a_command_keeps_its_exit_status(tmp_path: Path) -> None:
    assert devices.main([str(tmp_path), "0", "1", sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_which_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, found in {"": [], "-1": [], "2,3": ["2", "3"], "GPU-ab12": ["GPU-ab12"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert devices.visible_devices() == found


# ---------------------------------------------------------------------------------------------------------------- tables


def finished(label: str, fold: int, seed: int, dice: dict[str, list[float]], folder: Path = Path("runs/a-run")) -> Any:
    """A training with one class whose series, by patient, have these Dice values."""
    rows = [
        {
            "case": f"{patient}_t{number}", "patient": patient, "class": 1, "name": "disc", "status": "present", "unit": "volume",
            "tolerance_mm": 1.0, "dice": value,
        }
        for patient, values in dice.items()
        for number, value in enumerate(values)
    ]  # fmt: skip
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "train_loss": [1.0, 0.6, 0.5], "val_mean_iou": [0.1, 0.3 + 0.1 * seed, 0.4 - 0.02 * fold]}
    )
    record = {
        "versions": {"torch": "2.9" if fold else "2.8"}, "git_commit": "abc", "platform": "here", "parameters": 1200,
        "wall_seconds": 12.5 + fold, "device": "cpu", "device_name": "x86", "finished": "2026-01-01T00:00:00+00:00",
        "peak_memory_bytes": {"process": 250_000_000 + 10_000_000 * seed, "gpu": None},
    }  # fmt: skip
    run = SimpleNamespace(folder=folder, history=history, best_epoch=3)
    training = Training(Model("unet", label, {}), "smoke", DataSet("phantom"), "kfold5", fold, seed)
    return FinishedTraining(training, run, record, pd.DataFrame(rows))  # type: ignore[arg-type]


def disc_dice(found: list[Any]) -> pd.Series:
    table = sweep_table(found)
    assert list(table.columns) == list(MODEL_COLUMNS)
    return table[(table["name"] == "disc") & (table["metric"] == "dice")].iloc[0]


def test_mean_spread_and_interval_by_hand() -> None:
    """Two folds of one patient each, two seeds. Run means: fold 0 0.5, 0.7; fold 1 0.8, 0.9."""
    found = [
        finished("a", 0, 0, {"p": [0.4, 0.6]}),
        finished("a", 0, 1, {"p": [0.6, 0.8]}),
        finished("a", 1, 0, {"q": [0.8, 0.8]}),
        finished("a", 1, 1, {"q": [0.9, 0.9]}),
    ]
    row = disc_dice(found)
    assert row["mean"] == pytest.approx(0.725) and (row["n"], row["patients"], row["runs"]) == (8, 2, 4)
    # Of two patients a resample takes p twice (1/4), each once (1/2) or q twice (1/4): the 2.5 % lie at p's own mean.
    assert (row["low"], row["high"]) == (pytest.approx(0.6), pytest.approx(0.85))
    assert row["sd_folds"] == pytest.approx((0.85 - 0.6) / 2**0.5)  # of two values: their distance by the root of 2
    assert row["sd_seeds"] == pytest.approx((0.8 - 0.65) / 2**0.5)
    assert row["sd_runs"] == pytest.approx((((0.5 - 0.725) ** 2 + 0.025**2 + 0.075**2 + 0.175**2) / 3) ** 0.5)
    assert (row["folds"], row["seeds"]) == (2, 2)


def test_more_seeds_feign_no_more_patients() -> None:
    dice = {name: [0.1 * number] for number, name in enumerate("pqrstuv")}
    one = disc_dice([finished("a", 0, 0, dice)])
    five = disc_dice([finished("a", 0, seed, dice) for seed in range(5)])
    assert five["patients"] == one["patients"] == 7 and five["n"] == 35
    assert (five["low"], five["high"]) == (pytest.approx(one["low"]), pytest.approx(one["high"]))
    assert five["sd_seeds"] == 0 and pd.isna(one["sd_seeds"]) and pd.isna(one["sd_folds"])


def test_a_missing_run_does_not_pass_for_a_difference() -> None:
    """Seed 1 lacks the easy fold: over the fold that both have the seeds agree."""
    found = [finished("a", 0, 0, {"p": [0.4]}), finished("a", 1, 0, {"q": [0.9]}), finished("a", 0, 1, {"p": [0.4]})]
    row = disc_dice(found)
    assert row["sd_seeds"] == 0 and row["sd_folds"] == pytest.approx(0.5 / 2**0.5) and row["runs"] == 3


def test_models_are_told_apart_and_nothing_is_a_table_too() -> None:
    table = sweep_table([finished("b", 0, 0, {"p": [0.4]}), finished("a", 0, 0, {"p": [0.8]})])
    means = table[table["name"] == "disc"].set_index("model")["mean"]
    assert list(means.index) == ["b", "a"] and means.tolist() == [0.4, 0.8]
    assert sweep_table([]).empty and list(sweep_table([]).columns) == list(MODEL_COLUMNS)
    assert list(run_table([]).columns) == list(RUN_COLUMNS)
    runs = run_table([finished("a", 1, 2, {"p": [0.8], "q": [0.6]})])
    assert runs.iloc[0][["fold", "seed", "dice", "seconds", "memory_mb"]].tolist() == [1, 2, pytest.approx(0.7), 13.5, 270.0]


# ---------------------------------------------------------------------------------------------------------------- report


class Page(HTMLParser):
    """Collects a page's links, pictures, headings and cells; every element that opens must close."""

    VOID = {"meta", "img", "br", "hr", "link", "input"}

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.inside: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if "href" in found:
            self.links.append(found["href"] or "")
        if "src" in found:
            self.sources.append(found["src"] or "")
        if tag == "iframe":
            assert "sandbox" in found, "scripts of a notebook must not run in the report"
            self.inside.append(found["srcdoc"] or "")
        if tag == "img":
            assert found.get("alt"), "a picture wants a text"

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    for link in page.links:
        assert (path.parent / link).is_file(), f"the report links {link}, which is not there"
    whole = path.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", whole), "the report loads something from the network"
    for text in [whole, *page.inside]:  # a notebook may show pictures from elsewhere: the browser is told not to load them
        assert "Content-Security-Policy" in text and "default-src 'none'; img-src data:" in text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    return page


def test_the_report_is_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, 'models: [unet, {model: resunet, label: "<b>wide</b>"}]\nfolds: [0, 1]\nprofiles: smoke')
    found = [
        finished(label, fold, 0, {"p": [0.4 + 0.1 * fold], "q": [0.5]}) for label in ("unet", "<b>wide</b>") for fold in (0, 1)
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A heading\n\n[![badge](https://example.org/badge.svg)](https://example.org)"),
            nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "forty-two"})]),
        ]
    )
    executed = tmp_path / "notebooks" / "smoke-phantom" / "00.ipynb"
    executed.parent.mkdir(parents=True)
    nbformat.write(notebook, executed)
    table, runs = sweep_table(found), run_table(found)
    for name, frame in {"table.csv": table, "runs.csv": runs}.items():
        frame.to_csv(tmp_path / name, index=False)
    outcomes = [
        {"title": "one", "status": "done", "error": ""},
        {"title": "two", "status": "failed", "error": "error: <it> broke"},
    ]
    write_report(tmp_path / "report.html", sweep, found, table, runs, [("00 (smoke-phantom)", executed, 2.0)], outcomes)
    page = check_page(tmp_path / "report.html")
    assert page.links == ["table.csv", "runs.csv", "notebooks/smoke-phantom/00.ipynb"] and len(page.sources) == 3
    assert "1 of 2 jobs are done" in page.text and "two: failed. error: <it> broke" in page.text
    assert "0.475" in page.text and "<b>wide</b>" in page.text, "labels are text, not HTML"
    assert "forty-two" in page.inside[0] and "A heading" in page.inside[0]
    assert "2.8 (2 runs), 2.9 (2 runs)" in page.text and "Not all runs were made with the same" in page.text


def test_a_report_of_nothing_is_still_a_page(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "models: unet")
    write_report(
        tmp_path / "report.html",
        sweep,
        [],
        sweep_table([]),
        run_table([]),
        [],
        [{"title": "x", "status": "not run", "error": ""}],
    )
    assert "x: not run" in check_page(tmp_path / "report.html").text
