"""What a run was made with and what it cost, for run.json."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("spider-utils", "torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy", "safetensors")


def provenance(device: str) -> dict[str, Any]:
    """Versions, git commit of the kit (None outside a checkout), machine, device and number of CPU threads."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _git_commit() -> str | None:
    """The commit that the package's files come from, with "-dirty" when they were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def peak_memory_bytes(device: str) -> dict[str, int | None]:
    """Most memory used so far: by this whole process (None on Windows), and by torch on the GPU if there is one."""
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    except ImportError:
        peak = None
    return {"process": peak, "gpu": torch.cuda.max_memory_allocated() if device == "cuda" else None}
