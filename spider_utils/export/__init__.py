"""Results for other tools: masks as DICOM SEG, colour tables for viewers, networks as ONNX."""

from __future__ import annotations

import importlib
from types import ModuleType

from spider_utils.errors import KitError


def optional_library(name: str) -> ModuleType:
    """A library of the extra ``export``. Raises KitError that says how to install it when it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise KitError(
            f"{name} cannot be imported ({error}). Install it: run `pip install 'spider-utils[export]'`, or `make setup` again"
        ) from error
