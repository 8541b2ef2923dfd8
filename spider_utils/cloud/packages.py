"""What of the kit's requirements a rented machine lacks, and installing that without replacing what is there.

Imported before anything is installed: the standard library, packaging and floor 1 alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from spider_utils.errors import KitError
from spider_utils.runtime import REQUIREMENTS, fits, supported_versions

# The rest of a rented machine is built around these: a wrong version is told, never replaced.
HELD = ("torch", "torchvision", "torchaudio", "numpy", "scipy", "pandas", "matplotlib", "pillow", "ipywidgets", "packaging")
# Packages that a new version of another asks for exactly, and that nothing else is made for.
COMPANIONS = {"albumentations": ("albucore",)}
NEWER = "Choose a newer environment (Kaggle) or runtime (Colab)"
# A machine without internet shall say so in seconds.
PATIENCE = ("--retries", "1", "--timeout", "15")


@dataclass(frozen=True)
class PackagePlan:
    """What is to be done about the kit's requirements.

    Attributes:
        missing: requirements, such as "monai>=1.4", of which nothing is installed.
        replace: requirements of which a version outside the kit's range is installed that may be replaced -> that version.
        keep: the same of which it may not -> that version and why.
    """

    missing: tuple[str, ...]
    replace: dict[str, str]
    keep: dict[str, tuple[str, str]]


def installed_versions() -> dict[str, str]:
    """Canonical name -> version of every distribution that this Python finds; the one that it imports where there are two."""
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        name, version = one.metadata["Name"], one.metadata["Version"]
        if name and version:  # broken installations leave folders without either
            found.setdefault(canonicalize_name(name), version)
    return found


def imported_packages() -> set[str]:
    """Canonical names of the distributions of which this process has imported a module."""
    owners = importlib.metadata.packages_distributions()
    return {canonicalize_name(name) for module, names in owners.items() if module in sys.modules for name in names}


def requirements() -> dict[str, SpecifierSet]:
    """Canonical name -> versions that the kit runs with: what the installed kit declares and what the course uses."""
    used = {canonicalize_name(name): SpecifierSet() for name in REQUIREMENTS}
    return used | {canonicalize_name(name): versions for name, versions in supported_versions().items()}


def plan_packages(wanted: dict[str, SpecifierSet], installed: dict[str, str], imported: Iterable[str] = ()) -> PackagePlan:
    """Compare what is wanted with what is there.

    Args:
        wanted: canonical name -> versions.
        installed: canonical name -> version.
        imported: canonical names of which a module is loaded: files replaced under a running program break it.
    """
    missing, replace, keep = [], {}, {}
    imported = set(imported)
    for name, versions in sorted(wanted.items()):
        requirement = f"{name}{versions}"
        if name not in installed:
            missing.append(requirement)
            continue
        there = installed[name]
        if fits(there, versions):
            continue
        if name in HELD:
            keep[requirement] = there, f"other software here is built for it. {NEWER}"
        elif name in imported:
            keep[requirement] = there, "it is loaded already: restart the session and run this cell first"
        else:
            replace[requirement] = there
    return PackagePlan(tuple(missing), replace, keep)


def pins(installed: dict[str, str], free: Iterable[str] = (), only: Iterable[str] | None = None) -> list[str]:
    """Lines of a constraints file that keep installed packages at their versions.

    Args:
        installed: canonical name -> version.
        free: requirements whose package may change, and with it its companions.
        only: canonical names to keep; all when None.
    """
    names = {canonicalize_name(Requirement(line).name) for line in free}
    names |= {companion for name in names for companion in COMPANIONS.get(name, ())}
    lines = []
    for name, version in sorted(installed.items()):
        if name not in names and (only is None or name in only):
            try:
                lines.append(f"{name}=={Version(version)}")
            except InvalidVersion:  # pip would refuse the whole file
                continue
    return lines


def install(wanted: Iterable[str], imported: Iterable[str] = (), wheels: Path | None = None) -> dict[str, tuple[str, str]]:
    """Install requirements beside what is there.

    First nothing that is installed may change. Where no versions of the wanted packages go with that, other packages may,
    but never those of HELD, nor one that is loaded.

    Args:
        wanted: requirements such as "monai>=1.4".
        imported: canonical names of which a module is loaded.
        wheels: a folder of wheels that is asked first, without internet.

    Returns:
        Canonical name -> (version before, "" for a new one; version now) of everything that changed.

    Raises:
        KitError: pip found no versions that go together, or nothing to fetch them from.
    """
    wanted = list(wanted)
    before = installed_versions()
    strict, loose = pins(before, free=wanted), pins(before, free=wanted, only={*HELD, *imported})
    local = [] if wheels is None else ["--find-links", str(wheels)]
    attempts = [(strict, [*local, "--no-index"])] if local else []
    attempts += [(strict, [*local, *PATIENCE]), (loose, [*local, *PATIENCE])]
    for constraints, options in attempts:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "constraints.txt"
            file.write_text("\n".join(constraints) + "\n", encoding="utf-8")
            ran = run_pip("install", "--quiet", "--constraint", str(file), *options, *wanted)
        if ran.returncode == 0:
            break
    else:
        said = [line.removeprefix("ERROR: ") for line in ran.stderr.splitlines() if line.startswith("ERROR: ")] or ["no reason"]
        offline = "Is the internet switched on? "
        if wheels is None:
            offline += "On Kaggle without it, attach the kit's bundle as an input (see docs/cloud.md)"
        else:
            offline += "The attached bundle has no wheel of it (kaggle-wheels in pyproject.toml)"
        advice = f"{NEWER}." if "conflict" in said[0] else offline
        raise KitError(f"pip could not install {', '.join(wanted)} ({said[0].rstrip('.')}). {advice}")
    importlib.invalidate_caches()
    after = installed_versions()
    return {name: (before.get(name, ""), version) for name, version in after.items() if before.get(name) != version}


def run_pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python's pip without questions; its ``returncode`` tells whether it failed, ``stderr`` why."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return subprocess.run(command, text=True, capture_output=True, check=False)
