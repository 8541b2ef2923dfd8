"""The house is as designed: floors, requirements in three places, nothing of one machine in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "spider_utils"

FLOORS = {  # room (module or folder) -> floor; upper floors import lower ones, never the other way
    "errors": 0,
    "files": 0,
    "locks": 0,
    "arrays": 0,
    "processes": 1,
    "labels": 1,
    "models": 1,
    "runtime": 1,
    "data": 2,
    "measure": 2,
    "tidy": 2,
    "evaluation": 3,
    "training": 4,
    "ensemble": 4,
    "predict": 5,
    "masks": 5,
    "mask_table": 4,
    "workflow": 6,
    "choices": 6,
    "course": 6,
    "rerun": 6,
    "sweeps": 6,
    "editions": 6,
    "exercises": 6,
    "medfusion": 6,
    "ahmed": 6,
    "evidence": 6,
    "findings": 6,
    "triplanar": 6,
    "grading": 6,
    "cloud": 6,
    "view": 6,
    "export": 6,
    "cli": 7,
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere, also inside functions; text in docstrings does not count."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports name the whole module, they are not relative"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return {name for name in found if name in known and name != "spider_utils"}


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
IMPORTS = {name: imported_modules(path, set(MODULES)) for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"spider_utils"}))
def test_rooms_import_lower_floors_only(module):
    assert room(module) in FLOORS, f"{module} is a new room: give it a floor here and in docs/developers.md"
    for other in IMPORTS[module]:
        mine, theirs = FLOORS[room(module)], FLOORS[room(other)]
        assert theirs <= mine, f"{module} (floor {mine}) imports {other} (floor {theirs}): upper floors import lower ones"


def test_the_developers_page_has_every_room_on_its_floor():
    text = (ROOT / "docs" / "developers.md").read_text(encoding="utf-8")
    told = {
        room: int(floor)
        for floor, rooms in re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE)
        for room in re.findall(r"`(\w+)(?:/|\.py)`", rooms)
    }
    assert told == FLOORS


def test_the_package_itself_imports_no_room():
    assert IMPORTS["spider_utils"] == set()


def test_the_import_check_sees_imports():
    assert {"spider_utils.files", "spider_utils.errors"} <= IMPORTS["spider_utils.data.stores"]
    assert "spider_utils.data.stores" not in IMPORTS["spider_utils.files"]


def test_there_are_no_circles():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "imports run in a circle: " + " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(IMPORTS[module] - {module}):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(MODULES):
        visit(module, ())
    assert done == set(MODULES)


# ------------------------------------------------------------------------------------------------------------- requirements

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def ranges(lines: list[str]) -> dict[str, Requirement]:
    requirements = [Requirement(line) for line in lines]
    assert len({canonicalize_name(r.name) for r in requirements}) == len(requirements), "a requirement is listed twice"
    return {canonicalize_name(r.name): r for r in requirements}


def project_ranges() -> dict[str, Requirement]:
    return ranges([*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)])


def environment_ranges() -> dict[str, Requirement]:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    plain = [line for line in listed if isinstance(line, str)]
    return ranges(plain + [line for part in listed if isinstance(part, dict) for line in part["pip"]])


def locked_versions() -> dict[str, list[tuple[str, str]]]:
    """name -> [(version, marker)]; one name may be locked to several versions for several Pythons."""
    locked: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._\[\]-]+)==(\S+?)(?:\s*;\s*(.+))?", line.strip())
            assert match, f"requirements.lock holds a line that is no exact version: {line}"
            locked.setdefault(canonicalize_name(match[1].split("[")[0]), []).append((match[2], match[3] or ""))
    return locked


def test_the_extras_are_those_of_the_readme():
    extras = {"notebooks", "batch", "cluster", "app", "book", "export", "fast", "gpus", "test"}
    assert set(PROJECT["optional-dependencies"]) == extras
    assert PROJECT["name"] == "spider-utils" and PROJECT["scripts"] == {"spider-kit": "spider_utils.cli:main"}


@pytest.mark.parametrize("name", sorted(project_ranges()))
def test_pyproject_environment_and_lock_agree(name):
    wanted = project_ranges()[name]
    assert name in environment_ranges(), f"environment.yml lacks {wanted}"
    assert environment_ranges()[name].specifier == wanted.specifier, f"environment.yml has another range of {name}"
    assert name in locked_versions(), f"requirements.lock lacks {name}: run `make lock`"
    for version, marker in locked_versions()[name]:
        assert wanted.specifier.contains(version, prereleases=True), f"{name}=={version} {marker} is outside {wanted}"


def test_scikit_learn_is_new_enough():
    """validate_data (grading.ordinal) and parametrize_with_checks(expected_failed_checks=...) came with 1.6."""
    for found in (project_ranges(), environment_ranges()):
        assert not found["scikit-learn"].specifier.contains("1.5.2") and found["scikit-learn"].specifier.contains("1.6.0")


def test_the_environment_holds_nothing_else():
    extra = set(environment_ranges()) - set(project_ranges())
    assert extra <= {"python", "pip", "make"}, f"not in pyproject.toml: {sorted(extra)}"
    assert str(environment_ranges()["python"].specifier) == PROJECT["requires-python"]


def third_party_imports() -> dict[str, str]:
    """Top-level name of every foreign import of the package -> a file that has it."""
    found: dict[str, str] = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {(node.module or "").split(".")[0]: name}
    return found


def test_every_library_that_the_package_imports_is_required():
    distribution = {"PIL": "pillow", "sklearn": "scikit-learn", "segmentation_models_pytorch": "segmentation-models-pytorch"}
    distribution |= {"surface_distance": "surface-distance", "yaml": "pyyaml"}
    implied = {"google", "spider_utils", "IPython", "traitlets"}  # Colab's own; this package; parts of ipykernel and ipywidgets
    implied |= {"jupyter_client", "zmq"}  # parts of ipykernel
    for name, module in third_party_imports().items():
        known = canonicalize_name(distribution.get(name, name))
        if name not in sys.stdlib_module_names and name not in implied:
            assert known in project_ranges(), f"{module} imports {name}, which pyproject.toml does not require"


# ------------------------------------------------------------------------------------------------- nothing of one machine


def tracked_text_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:8192]]


HOME_LIKE = r"(?<![\w.:/~-])/(?:work|root|home/\w+|Users/\w+|mnt/\w+)/|[A-Z]:\\\\?Users\\"
INDEX = r"(?:--|\b)(?:extra-)?index" + r"-url\b|/sim" + r"ple/?(?=[\s\"'])|pypi\.o" + r"rg/sim" + r"ple"


def test_no_absolute_path_and_no_package_index_anywhere():
    forbidden = {"an absolute path": re.compile(HOME_LIKE), "a package index": re.compile(INDEX)}
    this_checkout = str(ROOT)
    wrong = []
    for path in tracked_text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        for what, pattern in forbidden.items():
            if match := pattern.search(text):
                wrong.append(f"{path.relative_to(ROOT)}: {what}: {match[0]}")
        if len(this_checkout) > 4 and re.search(re.escape(this_checkout) + r"\b", text):
            wrong.append(f"{path.relative_to(ROOT)}: the path of this checkout")
    assert not wrong, wrong


def test_the_search_finds_what_it_must():
    for line in ("open('/ro" + "ot/x')", "cd /ho" + "me/anna/kit", "in /Us" + "ers/anna/x", "x = C:\\Us" + "ers\\anna"):
        assert re.search(HOME_LIKE, line), line
    for line in ("pip install --index" + "-url https://x", "https://pypi.o" + "rg/sim" + "ple"):
        assert re.search(INDEX, line), line
    for line in ("/content/data", "https://example.org/home-page/x", "../shared/data", "~/.cache", "a simple/plain thing"):
        assert not re.search(HOME_LIKE, line) and not re.search(INDEX, line), line
