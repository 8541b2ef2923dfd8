"""The course as a user runs it: Snakemake and papermill in the smoke profile, then nbval on every notebook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from spider_utils.runtime import cpu_count
from tests.notebooks.conftest import CHECKOUT, NOTEBOOKS, kit, make_home

pytestmark = pytest.mark.notebooks
NAMES = [path.stem for path in NOTEBOOKS]
EXPECTED = [
    "00_start_here",
    "01_data_exploration",
    "02_preprocessing",
    "03_augmentation",
    "04_unet",
    "05_unetplusplus",
    "06_resunet",
    "07_deeplabv3",
    "08_modified_unet",
    "09_unetr_3d",
    "10_triplanar_ensemble",
    "11_ensemble_weight_search",
    "12_evaluation",
    "13_measurements",
    "13b_gradings",
    "13c_axial_tissues",
    "14_disease_classification",
    "15_reproducibility_audit",
    "15b_from_phantom_to_patient",
    "16_interactive_viewer",
]


def test_all_notebooks_are_there() -> None:
    assert NAMES == EXPECTED


def test_course_runs_every_notebook(smoke_course: tuple[Path, subprocess.CompletedProcess]) -> None:
    home, said = smoke_course
    assert said.returncode == 0, said.stdout + said.stderr
    executed = home / "build" / "smoke-phantom" / "notebooks"
    assert sorted(path.stem for path in executed.glob("*.ipynb")) == NAMES
    assert (home / "build" / "smoke-phantom" / "results.csv").is_file()
    for wanted in ("executed notebooks:", "figures:", "results table:"):
        assert wanted in said.stdout


def test_every_notebook_leaves_a_figure_with_a_caption(smoke_course: tuple[Path, subprocess.CompletedProcess]) -> None:
    home, _ = smoke_course
    for name in NAMES:
        figures = list((home / "build" / "smoke-phantom" / "figures" / name).glob("*.png"))
        assert figures, f"{name} saved no figure"
        assert all(list(figure.parent.glob(figure.stem + ".[tj][xs]*")) for figure in figures), f"{name}: a figure has no caption"


def test_second_course_does_nothing(smoke_course: tuple[Path, subprocess.CompletedProcess]) -> None:
    home, _ = smoke_course
    before = {path: path.stat().st_mtime_ns for path in (home / "build").rglob("*.ipynb")}
    again = kit(home, "course", "--profile", "smoke", "--cores", "2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert ">" not in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (home / "build").rglob("*.ipynb")}


def test_the_sources_protocol_and_table_from_the_command_line(smoke_course: tuple[Path, subprocess.CompletedProcess]) -> None:
    home, _ = smoke_course
    runs = []
    for model in ("resunet", "unetplusplus"):
        said = kit(home, "medfusion", "protocol", "--profile", "smoke", "--model", model)
        assert said.returncode == 0, said.stdout + said.stderr
        runs.append(Path(said.stdout.splitlines()[-1]).name)
    said = kit(home, "medfusion", "table", "--profile", "smoke", *runs)
    assert said.returncode == 0, said.stdout + said.stderr
    table = pd.read_csv(home / "build" / "smoke-phantom" / "medfusion" / "table2.csv")
    assert table["model"].tolist() == ["unetplusplus", "resunet", "unetplusplus+resunet"]
    assert (table["unit"] == "slice").all() and (home / "build" / "smoke-phantom" / "medfusion" / "table2.png").is_file()


def put_source(home: Path, name: str, source: str) -> None:
    """Leave of a notebook its parameters, and a cell with this source."""
    path = home / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    notebook.cells = [parameters, nbformat.v4.new_code_cell(source)]
    nbformat.write(notebook, path)


def small_course(folder: Path, sources: dict[str, str], trainings: Sequence[str] = (), **after: list[str]) -> Path:
    """A home whose course has some notebooks, of a cell each, and some trainings; ``after`` lets notebooks wait for others."""
    home = make_home(folder)
    for name in set(NAMES) - set(sources):
        (home / "notebooks" / f"{name}.ipynb").unlink()
    for name, source in sources.items():
        put_source(home, name, source)
    lines = [
        f"TRAININGS = {{name: TRAININGS[name] for name in {list(trainings)}}}",
        f"NOTEBOOKS = {{name: NOTEBOOKS[name] for name in {list(sources)}}}",
        f"NOTEBOOKS.update({after})",
    ]
    text = (CHECKOUT / "Snakefile").read_text(encoding="utf-8")
    (home / "Snakefile").unlink()
    place = "# Where cores are few"
    assert place in text
    (home / "Snakefile").write_text(text.replace(place, "\n".join([*lines, place]), 1), encoding="utf-8")
    return home


def real_root(folder: Path) -> Path:
    """A folder in SPIDER's layout with one series, which cannot be read."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        (folder / part / "1_t2.mha").touch()
    return folder


def test_root_reaches_the_notebooks_whatever_its_name(tmp_path: Path) -> None:
    root = real_root(tmp_path / "Lumbar MRI #2: it's new")
    check = "from pathlib import Path\nassert (Path(ROOT) / 'images').is_dir(), ROOT"
    home = small_course(tmp_path / "home", dict.fromkeys(["00_start_here", "04_unet"], check))
    said = kit(home, "course", "--profile", "smoke", "--cores", "2", "--data", "spider", "--root", str(root))
    assert said.returncode == 0, said.stdout + said.stderr


def notebook_lines(text: str) -> dict[str, str]:
    """Name of a notebook -> the line that says how it went."""
    return {line.split()[0]: line for line in text.splitlines() if re.match(r"  \d\d\w?_", line)}


def test_failed_training_says_why_and_its_notebooks_are_not_run(tmp_path: Path) -> None:
    sources = dict.fromkeys(["01_data_exploration", "04_unet"], "pass")
    home, root = small_course(tmp_path / "home", sources, ["unet", "levels20"]), real_root(tmp_path / "root")
    said = kit(home, "course", "--profile", "smoke", "--cores", "2", "--data", "spider", "--root", str(root))
    assert said.returncode == 1
    assert "> training unet ..." in said.stdout and "error: split 'kfold5': nobody is left" in said.stdout
    lines = notebook_lines(said.stdout)
    assert "done" in lines["01_data_exploration"] and "not run" in lines["04_unet"]


def test_failed_notebook_is_named_and_others_run(tmp_path: Path) -> None:
    sources = dict.fromkeys(["01_data_exploration", "02_preprocessing", "04_unet", "12_evaluation"], "pass")
    sources["02_preprocessing"] = "raise RuntimeError('the scanner is on fire')"
    home = small_course(tmp_path / "home", sources, **{"12_evaluation": ["04_unet"]})
    said = kit(home, "course", "--profile", "smoke", "--cores", "2")
    assert said.returncode == 1
    assert "02_preprocessing.ipynb: cell 3 failed with RuntimeError: the scanner is on fire" in said.stdout
    lines = notebook_lines(said.stdout)
    assert "FAILED" in lines["02_preprocessing"] and set(lines) == set(sources)
    assert not [line for name, line in lines.items() if name != "02_preprocessing" and "done" not in line], said.stdout
    assert not (home / "build" / "smoke-phantom" / "notebooks" / "02_preprocessing.ipynb").exists()

    # Mended, while another one breaks on which a finished one depends: the finished one is out of date, not "done".
    put_source(home, "02_preprocessing", "pass  # mended")
    put_source(home, "04_unet", "raise RuntimeError('again')")
    later = home / "notebooks" / "12_evaluation.ipynb"
    later.write_text(later.read_text() + "\n")
    said = kit(home, "course", "--profile", "smoke", "--cores", "2")
    lines = notebook_lines(said.stdout)
    assert said.returncode == 1 and "FAILED" in lines["04_unet"] and "done" in lines["02_preprocessing"]
    assert "not run" in lines["12_evaluation"]


def run_nbval(home: Path, name: str) -> subprocess.CompletedProcess:
    """Run a notebook once more, where its trainings are, and compare the outputs of marked cells with the committed ones."""
    notebook = papermill.iorw.load_notebook_node(str(CHECKOUT / "notebooks" / f"{name}.ipynb"))
    notebook = papermill.parameterize.parameterize_notebook(notebook, {"PROFILE": "smoke"})
    copy = home / "nbval" / f"{name}.ipynb"
    copy.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, copy)
    # One thread each: as many run at a time as there are cores.
    environment = os.environ | {"SPIDER_KIT_HOME": str(home), "SPIDER_KIT_HEADLESS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(home), "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-cell-timeout=600", "--nbval-kernel-name=python3", str(copy)]
    return subprocess.run(command, cwd=home, env=environment, text=True, capture_output=True, timeout=1800)


@pytest.fixture(scope="module")
def nbval_runs(
    smoke_course: tuple[Path, subprocess.CompletedProcess], request: pytest.FixtureRequest
) -> Iterator[dict[str, Future]]:
    """The notebooks that are to be tested, as many at a time as there are cores."""
    wanted = [item.callspec.params["name"] for item in request.session.items if item.name.startswith("test_nbval[")]
    with ThreadPoolExecutor(cpu_count()) as pool:
        yield {name: pool.submit(run_nbval, smoke_course[0], name) for name in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", NAMES)
def test_nbval(name: str, nbval_runs: dict[str, Future]) -> None:
    ran = nbval_runs[name].result()
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
class TestCommittedNotebook:
    """What a reader finds on the web: outputs, one parameters cell, no traces of a machine."""

    def test_structure(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1
        assert {"PROFILE", "DATA", "ROOT"} <= {line.split(" ")[0] for line in tagged[0].source.splitlines()}
        assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
        headings = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
        for wanted in ("What you will learn", "Summary", "Exercises", "References"):
            assert any(line.startswith("#") and wanted in line for line in headings), f"no section '{wanted}'"
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert any("assert" in cell.source for cell in code)
        # A sentence before each code cell.
        for previous, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
            if cell.cell_type == "code":
                assert previous.cell_type == "markdown", f"no sentence before: {cell.source[:60]}"

    def test_outputs_are_clean(self, path: Path) -> None:
        assert path.stat().st_size < 1_000_000
        notebook = nbformat.read(path, as_version=4)
        assert "widgets" not in notebook.metadata
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), "committed without its outputs"
        outputs = [output for cell in code for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error"]
        text = json.dumps([cell.source for cell in notebook.cells] + outputs)
        for trace in (str(CHECKOUT), str(Path.home()) + "/", "/tmp/", "site-packages"):
            assert trace not in text, f"holds {trace}"
