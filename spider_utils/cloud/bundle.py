"""One zip with all that a Kaggle notebook without internet needs: wheels of the kit and of what Kaggle lacks, and a phantom.

The same checkout and lock give the same bytes: members are sorted, stored without compression (a wheel and a .mha file are
compressed already, and compressors differ between machines) and dated 1980, the first year that a zip can name.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from spider_utils.cloud.heads import settings
from spider_utils.cloud.packages import run_pip
from spider_utils.errors import DataError, KitError
from spider_utils.files import atomic_path, require_free_space, sha256_of
from spider_utils.workflow import Workspace

TOP = "spider-kit"
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_SOURCES = ("spider_utils", "data_manifest", "pyproject.toml", "setup.py", "README.md", "LICENSE")
_PHANTOM_FILES = ("images/*.mha", "masks/*.mha", "*.csv", "phantom.json")
_README = """\
# Spider kit for Kaggle, without internet

1. Upload this zip as a data set on Kaggle (Datasets > New Dataset). Kaggle unpacks it.
2. Open a notebook of the course on Kaggle and add the data set to it (Add Input).
3. Run the notebook. Its first cell installs what is missing from `wheels/` and uses `phantom-{profile}/` with
   `PROFILE = "{profile}"`; other phantoms are generated on the spot.

`SHA256SUMS` lists every file: `sha256sum --check SHA256SUMS`.

Wheels: {wheels}.

The kit and the phantom are under the Apache License 2.0; the other wheels carry their own licences.
"""


def write_zip(path: Path, members: dict[str, Path | bytes]) -> None:
    """Write a zip whose bytes follow from the members' names and contents alone; files of mode 0644, nothing compressed.

    Args:
        path: the zip; appears when it is complete.
        members: name in the archive -> file or content.
    """
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, strict_timestamps=True) as archive:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name, _FIRST_DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # as on Unix, wherever it is written
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.stat().st_size
            with open(content, "rb") as file, archive.open(info, "w") as member:
                shutil.copyfileobj(file, member, 1 << 20)


def repack_wheel(wheel: Path) -> None:
    """Write a wheel anew without the times, modes and order that its builder left in it."""
    with zipfile.ZipFile(wheel) as archive:
        members: dict[str, Path | bytes] = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    write_zip(wheel, members)


def _pip(doing: str, *arguments: str) -> None:
    ran = run_pip("--quiet", *arguments)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if "ERROR" in line or "error:" in line] or [ran.stderr.strip()]
        raise KitError(f"{doing} failed: {said[-1]}")


def build_kit_wheel(home: Path, out: Path) -> Path:
    """Build the wheel of the checkout ``home`` in the folder ``out``. Raises KitError with pip's reason."""
    with tempfile.TemporaryDirectory() as folder:
        # A copy, because setuptools leaves folders beside the sources and takes old ones for its own.
        for name in _SOURCES:
            source, target = home / name, Path(folder) / name
            if not source.exists():
                raise DataError(source, "is missing", "Run this inside a whole checkout of the kit.")
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copyfile(source, target)
        arguments = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), folder)
        _pip("building the kit's wheel", *arguments)
    (wheel,) = out.glob("spider_utils-*.whl")
    repack_wheel(wheel)
    return wheel


def locked(home: Path, names: list[str]) -> list[str]:
    """Exact requirements (``monai==1.6.1``) of ``names`` from requirements.lock. Raises DataError when one is not there once."""
    path = home / "requirements.lock"
    versions: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            versions.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    for name in names:
        if len(versions.get(canonicalize_name(name), ())) != 1:
            fix = "Take it out of kaggle-wheels in pyproject.toml, or add it to the requirements and run `make lock`."
            raise DataError(path, f"has not one version of {name}", fix)
    return [f"{name}{versions[canonicalize_name(name)].copy().pop()}" for name in names]


def fetch_wheels(requirements: list[str], out: Path) -> None:
    """Download wheels, without what they need in turn, into the folder ``out``.

    Raises:
        KitError: pip could not, or one is for certain Pythons or machines only, which need not be Kaggle's.
    """
    _pip("fetching wheels", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(out), *requirements)
    for wheel in out.glob("*.whl"):
        if {tag.platform for tag in parse_wheel_filename(wheel.name)[3]} != {"any"}:
            raise KitError(f"{wheel.name} is for certain machines only: take it out of kaggle-wheels in pyproject.toml")


def build_bundle(home: Path, out: Path, profile: str) -> Path:
    """Write the bundle of a checkout.

    Args:
        home: the checkout.
        out: the zip.
        profile: whose phantom goes in; it is made where it is not there.

    Returns:
        ``out``.

    Raises:
        KitError, DataError: no checkout, pip failed, or the disk is full.
    """
    names = list(settings(home).get("kaggle-wheels", []))
    source = Workspace.open(profile, "phantom").source
    phantom = sorted(path for pattern in _PHANTOM_FILES for path in source.root.glob(pattern) if not path.name.startswith("."))
    require_free_space(out.parent, sum(path.stat().st_size for path in phantom) + 50_000_000, "the bundle")
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder)
        build_kit_wheel(home, wheels)
        if names:
            fetch_wheels(locked(home, names), wheels)
        members: dict[str, Path | bytes] = {f"wheels/{path.name}": path for path in sorted(wheels.glob("*.whl"))}
        text = _README.format(profile=profile, wheels=", ".join(name.removeprefix("wheels/") for name in members))
        members |= {f"phantom-{profile}/{path.relative_to(source.root).as_posix()}": path for path in phantom}
        members["README.md"] = text.encode()
        members["SHA256SUMS"] = _sums(members).encode()
        write_zip(out, {f"{TOP}/{name}": content for name, content in members.items()})
    return out


def _sums(members: dict[str, Path | bytes]) -> str:
    """Lines for ``sha256sum --check``."""
    sums = {
        name: hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_of(content)
        for name, content in sorted(members.items())
    }
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())
