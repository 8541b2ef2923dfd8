"""The notebooks' first cell on Colab and Kaggle: packages, data and device, each told in a line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from spider_utils.cloud.inputs import (
    DRIVE,
    INPUT_VARIABLE,
    FoundData,
    find_data,
    find_wheels,
    input_folders,
    lay_out,
    look_through,
    place_name,
)
from spider_utils.cloud.packages import imported_packages, install, installed_versions, plan_packages, requirements
from spider_utils.errors import KitError
from spider_utils.runtime import pick_device, platform_name


def set_up() -> None:
    """Make a rented machine ready: install what is missing, find attached data, tell device and precision.

    Nothing that is there is replaced but packages which are outside the kit's range and not loaded (never those of
    packages.HELD). Data found are linked, not copied, where a notebook with an empty ROOT looks for them. On any other machine
    this does nothing.

    Raises:
        KitError: what is missing cannot be installed.
    """
    if platform_name() == "local":
        return
    inputs = input_folders()
    listed = look_through(inputs)  # once: somebody's Drive may hold thousands of folders
    _packages(find_wheels(listed))
    _data(inputs, find_data(listed))
    _device()


def _say(fine: bool, line: str) -> None:
    print("ok" if fine else "!!", line, flush=True)


def _packages(wheels: Path | None) -> None:
    loaded = imported_packages()
    plan = plan_packages(requirements(), installed_versions(), loaded)
    for requirement, (there, why) in plan.keep.items():
        _say(False, f"the kit needs {requirement}, {there} is here and stays: {why}")
    changed = install(plan.missing, loaded, wheels) if plan.missing else {}
    for requirement, there in plan.replace.items():
        try:
            changed |= install([requirement], loaded, wheels)
        except KitError as error:
            _say(False, f"the kit needs {requirement}, {there} is here and stays; lessons that use it may fail. {error}")
    new = sorted(f"{name} {now}" for name, (before, now) in changed.items() if not before)
    other = sorted(f"{name} {before} to {now}" for name, (before, now) in changed.items() if before)
    _say(True, f"packages: installed {', '.join(new)}" if new else "packages: nothing was missing")
    if other:
        _say(True, f"packages: changed {', '.join(other)}")


def _data(inputs: list[Path], found: list[FoundData]) -> None:
    folder = Path(tempfile.gettempdir()) / f"spider-kit-data-{os.getuid()}"  # what lies in the working folder would be kept
    placed = lay_out(found, folder)
    os.environ["SPIDER_KIT_DATA"] = str(folder)
    for data in found:
        name = place_name(data)
        if placed[name] is not data:
            _say(True, f"data: {data.root}, another {name}: give ROOT to use it")
        elif data.kind == "rsna":
            _say(True, f'data: {data.root}, studies for notebook 14: ROOT = "{data.root}"')
        elif data.kind == "phantom":
            _say(True, f"data: {data.root}, used where a notebook asks for this phantom")
        else:
            _say(True, f'data: {data.root}, DATA = "{name}" uses it, with ROOT left empty')
    if not found:
        where = ", ".join(map(str, inputs))
        _say(True, f"data: none found in {where}; the phantom needs none")
    if platform_name() == "colab" and INPUT_VARIABLE not in os.environ and not DRIVE.is_dir():
        _say(True, "data: to use files of your Drive, run: from google.colab import drive; drive.mount('/content/drive')")


def _device() -> None:
    import torch

    from spider_utils.training.precision import choose_amp

    device = pick_device()
    name = f" ({torch.cuda.get_device_name()})" if device == "cuda" else " (no GPU found; the quick profile is made for this)"
    amp = choose_amp("auto", device)
    _say(True, f"networks run on: {device}{name}, mixed precision: {amp}")
