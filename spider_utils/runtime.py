"""Where am I, what can I use, how much work is wanted: platform, device, seeds, profiles, progress."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from spider_utils.errors import KitError

Item = TypeVar("Item")


@dataclass(frozen=True)
class VolumeSettings:
    """How a profile trains networks of volumes.

    Attributes:
        size: slices, rows and columns of the grid.
        box_mm: what such a grid covers along slices, rows and columns where it is not stretched over the field of view.
        options: of the architecture (see models.build_model), but for its image_size.
        epochs: each ends with a validation.
        steps_per_epoch, batch_size, learning_rate, weight_decay, optimizer, transformer_pace, schedule, loss: see
            training.config.TrainConfig.
        augment: name of the augmentation pipeline.
        class_shares: whether the network begins with the frequencies of classes (see models.unetr.start_from_shares).
    """

    size: tuple[int, int, int]
    box_mm: tuple[float, float, float]
    options: dict[str, object] = field(hash=False)
    epochs: int
    steps_per_epoch: int
    batch_size: int
    learning_rate: float
    schedule: str
    loss: str
    augment: str
    class_shares: bool
    optimizer: str = "adamw"
    weight_decay: float = 1e-5
    transformer_pace: float = 1.0


@dataclass(frozen=True)
class Profile:
    """How much work a run does.

    Attributes:
        name: ``smoke`` (checks that everything runs), ``quick`` (good enough to teach with) or ``paper`` (the sources' settings).
        patients: number of phantom patients generated when there is no real data.
        phantom_size: "small" (coarse voxels, few slices) or "full" (hospital voxel sizes).
        slice_size: rows, columns of the 2D slices that networks see.
        in_channels: of every 2D network; gray goes to each of them.
        networks: options of each architecture (see models.build_model), by its name.
        epochs, batch_size, learning_rate, optimizer, schedule: of every 2D network (see training.config.TrainConfig).
        level_epochs, level_learning_rate, level_augment: of a twenty-class network, which starts from the four-class one.
        samples_per_epoch: slices drawn a training epoch; None means all of them.
        augment: name of the augmentation pipeline used in training.
        slice_gap_mm: training slices of a series lie at least about this far apart (see data.slices.thin_out).
        enlarge_to: images of the set that `medfusion` makes of one slice a series (see data.enlarge).
        enlarged_epochs: epochs on that set.
        crop_columns: width of the strips that training slices of ``slice_size`` are cut to (see data.augment.crop_columns);
            None trains on whole slices.
        disc_patients, disc_voxel_mm: of the isotropic disc phantom (see data.phantom.isotropic).
        volumes: how networks of volumes are trained.
        axial_patients, axial_size: of the phantom of axial slices (see data.phantom.axial_set).
        rsna_studies, rsna_size: of the phantom studies for classification (see data.phantom.rsna).
    """

    name: str
    patients: int
    phantom_size: str
    slice_size: tuple[int, int]
    in_channels: int
    networks: dict[str, dict[str, object]] = field(hash=False)
    epochs: int
    level_epochs: int
    level_learning_rate: float
    level_augment: str
    batch_size: int
    learning_rate: float
    optimizer: str
    schedule: str
    samples_per_epoch: int | None
    augment: str
    slice_gap_mm: float
    enlarge_to: int
    enlarged_epochs: int
    crop_columns: int | None
    disc_patients: int
    disc_voxel_mm: float
    axial_patients: int
    axial_size: str
    volumes: VolumeSettings
    rsna_studies: int
    rsna_size: str


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        patients=6,
        phantom_size="small",
        slice_size=(64, 64),
        in_channels=1,
        networks={
            "unet": {"encoder": "resnet18", "decoder_channels": [32, 24, 16, 12, 8]},
            "unetplusplus": {"encoder": "resnet18", "decoder_channels": [32, 24, 16, 12, 8]},
            "resunet": {"widths": [16, 24, 32, 48]},
            "dilated_unet": {"encoder": "tu-test_resnet", "decoder_channels": [16, 16, 12, 8]},
            "modified_unet": {"widths": [8, 12, 16, 24, 32, 48]},
            "deeplabv3": {"encoder": "resnet18", "output_stride": 16, "aspp_channels": 32},
        },
        epochs=3,
        level_epochs=3,
        level_learning_rate=4e-3,
        level_augment="field_of_view",
        batch_size=8,
        learning_rate=3e-3,
        optimizer="adamw",
        schedule="one_cycle",
        samples_per_epoch=96,
        augment="light",
        slice_gap_mm=3.0,
        enlarge_to=64,
        enlarged_epochs=3,
        crop_columns=None,
        disc_patients=6,
        disc_voxel_mm=2.5,
        axial_patients=6,
        axial_size="tiny",
        volumes=VolumeSettings(
            size=(16, 48, 48),
            box_mm=(64.0, 320.0, 240.0),
            options={"feature_size": 4, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4},
            epochs=2,
            steps_per_epoch=4,
            batch_size=2,
            learning_rate=5e-3,
            schedule="one_cycle",
            loss="dice_ce",
            augment="field_of_view",
            class_shares=True,
        ),
        rsna_studies=4,
        rsna_size="small",
    ),
    "quick": Profile(
        name="quick",
        patients=24,
        phantom_size="full",
        slice_size=(160, 128),
        in_channels=1,
        networks={
            "unet": {"encoder": "resnet18", "decoder_channels": [128, 64, 32, 16, 16]},
            # With ResNet-18's 64 channels at half size, a step of this one costs three times as much (notebook 05).
            "unetplusplus": {"encoder": "tu-regnetx_002", "decoder_channels": [128, 64, 32, 16, 16]},
            "resunet": {"widths": [16, 32, 64, 128]},
            "dilated_unet": {"encoder": "tu-test_resnet", "decoder_channels": [32, 24, 16, 8]},
            "modified_unet": {"widths": [8, 16, 32, 64, 128, 256]},  # half of the paper's: a step takes a third of the time
            "deeplabv3": {"encoder": "tu-resnet10t", "output_stride": 8, "aspp_channels": 64},
        },
        epochs=7,
        level_epochs=20,
        level_learning_rate=5e-3,
        level_augment="field_of_view",
        batch_size=12,
        learning_rate=4e-3,
        optimizer="adamw",
        schedule="one_cycle",
        samples_per_epoch=512,
        augment="light",
        slice_gap_mm=3.0,
        enlarge_to=384,
        enlarged_epochs=12,
        crop_columns=64,
        disc_patients=16,
        disc_voxel_mm=2.5,
        axial_patients=24,
        axial_size="small",
        volumes=VolumeSettings(
            size=(16, 128, 48),
            box_mm=(64.0, 340.0, 160.0),
            options={"feature_size": 8, "hidden_size": 96, "mlp_dim": 384, "num_heads": 4},
            epochs=10,
            steps_per_epoch=74,
            batch_size=2,
            learning_rate=1e-2,
            schedule="one_cycle",
            loss="dice_ce",
            augment="light",
            weight_decay=0.05,
            transformer_pace=0.2,
            class_shares=True,
        ),
        rsna_studies=24,
        rsna_size="small",
    ),
    # `medfusion`, sections 4.2, 4.3 and 5.2: 128x128, gray as RGB, 3535 images made of 447, Adam 1e-3, 50 epochs, batch 64,
    # learning rate reduced on plateau. Its encoders are not said.
    "paper": Profile(
        name="paper",
        patients=218,
        phantom_size="full",
        slice_size=(128, 128),
        in_channels=3,
        networks={
            "unet": {"encoder": "resnet34", "decoder_channels": [256, 128, 64, 32, 16]},
            "unetplusplus": {"encoder": "resnet34", "decoder_channels": [256, 128, 64, 32, 16]},
            "resunet": {"widths": [64, 128, 256, 512]},
            "dilated_unet": {"encoder": "resnet50", "decoder_channels": [256, 128, 64, 32]},
            "modified_unet": {},
            "deeplabv3": {"encoder": "resnet34", "output_stride": 8, "aspp_channels": 256},
        },
        epochs=50,
        level_epochs=50,
        level_learning_rate=1e-3,
        level_augment="standard",
        batch_size=64,
        learning_rate=1e-3,
        optimizer="adam",
        schedule="plateau",
        samples_per_epoch=None,
        augment="standard",
        slice_gap_mm=0.0,
        enlarge_to=3535,
        enlarged_epochs=50,
        crop_columns=None,
        disc_patients=16,
        disc_voxel_mm=1.25,
        axial_patients=60,
        axial_size="full",
        # `unetr`: 21,000 steps of 18 volumes with a validation each 1,000. Its augmentation is not said: none is named.
        volumes=VolumeSettings(
            size=(32, 128, 128),
            box_mm=(80.0, 320.0, 256.0),
            options={},
            epochs=21,
            steps_per_epoch=1000,
            batch_size=18,
            learning_rate=1e-4,
            schedule="constant",
            loss="monai_dice_ce",
            augment="none",
            class_shares=False,
        ),
        rsna_studies=120,
        rsna_size="full",
    ),
}


def get_profile(name: str) -> Profile:
    """The profile called ``name``. Raises KitError with the known names for any other."""
    try:
        return PROFILES[name]
    except KeyError:
        raise KitError(f"unknown profile '{name}'. Known are: {', '.join(PROFILES)}") from None


def platform_name() -> str:
    """ "colab", "kaggle" or "local"."""
    if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules:
        return "colab"
    return "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "local"


def project_root() -> Path:
    """The folder that holds ``data/``, ``runs/`` and ``build/``: the checkout, or the working folder without one.

    The environment variable ``SPIDER_KIT_HOME`` overrides the search.
    """
    if home := os.environ.get("SPIDER_KIT_HOME"):
        return Path(home)
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "data_manifest").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return Path.cwd()


def data_folder(home: Path, name: str) -> Path:
    """Where the data set ``name`` lies: in ``data/`` of the project's folder ``home``, or in a folder of the variable
    SPIDER_KIT_DATA if only that has it (cloud.set_up sets it to what it found).
    """
    own = home / "data" / name
    others = [Path(folder) / name for folder in os.environ.get("SPIDER_KIT_DATA", "").split(os.pathsep) if folder]
    return next((folder for folder in (own, *others) if folder.is_dir()), own)


def cpu_count() -> int:
    """Number of CPU cores this process may use.

    A job of a workflow is told its share by OMP_NUM_THREADS, which torch and numpy keep to as well.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(share)) if share.isdigit() and int(share) else there


def pick_device(wanted: str = "auto") -> str:
    """ "cuda", "mps" or "cpu": the fastest that torch can use, or the one asked for.

    Raises:
        KitError: the device asked for is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, ok in there.items() if ok)
    if not there.get(wanted, False):
        raise KitError(
            f"device '{wanted}' is not available here. Use one of: auto, {', '.join(n for n, ok in there.items() if ok)}"
        )
    return wanted


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's random numbers, and ask torch for deterministic algorithms."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # no code here reads what it has not written


REQUIREMENTS = {  # distribution -> what the course uses it for
    "numpy": "arrays",
    "pandas": "tables",
    "SimpleITK": "medical image files",
    "torch": "networks",
    "segmentation-models-pytorch": "U-Net and its relatives",
    "albumentations": "augmentation",
    "surface-distance": "surface metrics",
    "scikit-learn": "grading from measurements",
    "timm": "classifiers",
    "captum": "what they look at (Grad-CAM)",
    "matplotlib": "figures",
    "monai": "networks of volumes",
    "einops": "the transformer of these",
    "pooch": "downloads",
    "safetensors": "trained weights",
    "typer": "the command spider-kit",
    "ipywidgets": "the slice viewer",
}


def missing_packages() -> list[str]:
    """Packages of the course that are not installed here."""
    missing = []
    for package in REQUIREMENTS:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def supported_versions() -> dict[str, SpecifierSet]:
    """Distribution -> the versions that the installed kit declares; empty where the kit itself is not installed."""
    try:
        declared = importlib.metadata.requires("spider-utils") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    parsed = [Requirement(line) for line in declared]
    return {one.name: one.specifier for one in parsed if one.marker is None}


def fits(version: str, wanted: SpecifierSet) -> bool:
    """Whether an installed version is a wanted one. A version that is none, of a broken build, fits where any would."""
    try:
        return wanted.contains(Version(version).base_version)  # local builds call themselves 2.4.0+cu121 or 2.5.0.dev
    except InvalidVersion:
        return not len(wanted)


def environment_report() -> list[tuple[bool, str]]:
    """One (is it fine, line of text) for each thing that the course needs: Python, packages, cores, memory, disk, device."""
    lines = [(sys.version_info >= (3, 11), f"Python {platform.python_version()} on {platform.system()} ({platform_name()})")]
    missing, supported = missing_packages(), supported_versions()
    for package, purpose in REQUIREMENTS.items():
        if package in missing:
            lines.append((False, f"{package} is missing ({purpose}): run `make setup`, or pip install {package}"))
            continue
        version, wanted = importlib.metadata.version(package), supported.get(package, SpecifierSet())
        if fits(version, wanted):
            lines.append((True, f"{package} {version}: {purpose}"))
        else:
            lines.append((False, f"{package} {version} ({purpose}): the kit needs {wanted}"))
    cores, share = os.cpu_count() or 1, cpu_count()
    lines.append((True, f"{cores} CPU core{'s' * (cores > 1)}{f', {share} for this process' if share < cores else ''}"))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        lines.append((memory > 6, f"{memory:.0f} GB of memory (6 GB are enough)"))
    free = shutil.disk_usage(project_root()).free / 1e9
    lines.append((free > 2, f"{free:.0f} GB of free disk (2 GB are enough for the phantom)"))
    device = pick_device()
    lines.append(
        (True, f"networks run on: {device}" + ("" if device != "cpu" else " (no GPU found; the quick profile is made for this)"))
    )
    return lines


def is_interactive() -> bool:
    """True where a moving progress bar can be drawn: a terminal, or a notebook that a person runs."""
    if os.environ.get("SPIDER_KIT_HEADLESS") or os.environ.get("CI"):
        return False
    # A kernel is asked for by its shell: test tools import ipykernel without being one.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    in_notebook = getattr(shell, "kernel", None) is not None
    return sys.stderr.isatty() or (in_notebook and "PAPERMILL_EXECUTION" not in os.environ)


def progress(items: Iterable[Item], desc: str, total: int | None = None, lines: int = 4) -> Iterator[Item]:
    """Go through ``items`` and show how far it is: a bar for a person, about ``lines`` printed lines when headless.

    Papermill and CI keep every refresh of a bar as a line of output; hence the printed lines there.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if is_interactive():
        from tqdm.auto import tqdm

        yield from tqdm(items, desc=desc, total=total)
        return
    start, step = time.monotonic(), max(1, (total or 0) // lines)
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if total and done % step == 0 and done < total:
            print(f"{desc}: {done}/{total} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{desc}: {done} done in {time.monotonic() - start:.1f} s", flush=True)
