"""Pictures of predictions on MRI of other centres: slice, truth, prediction, and where they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spider_utils.data.centres import CentreCase, CentreSet
from spider_utils.files import atomic_path
from spider_utils.view.frames import Panel, render_panels


def shown_slice(case: CentreCase) -> int:
    """The middle one of the slices that the truth marks; without truth the middle one of all."""
    marked = np.arange(len(case.image.array))
    if case.mask is not None and case.mask.array.any():
        marked = np.flatnonzero(case.mask.array.any(axis=(1, 2)))
    return int(marked[len(marked) // 2])


def write_picture(folder: str | Path, one: CentreSet, case: CentreCase, prediction: np.ndarray) -> Path:
    """Write one slice of a case as PNG: alone, with the truth where there is one, and with the prediction.

    Args:
        folder: the picture becomes <folder>/<folder of the set>/<case>.png. It shows a patient: keep it out of repositories.
        one: the set of the case.
        case: image and truth.
        prediction: integers of ``structures4``, of the image's shape.

    Raises:
        DataError: the folder cannot be written.
    """
    k = shown_slice(case)
    panels = [Panel(None, case.case), Panel(prediction[k], "prediction")]
    if case.mask is not None:
        panels.insert(1, Panel(case.mask.array[k], "truth: vertebral bodies" if one.bodies_only else "truth"))
    path = Path(folder) / Path(one.files).parts[0] / f"{case.case}.png"
    with atomic_path(path) as partial:
        partial.write_bytes(
            render_panels(case.image.array[k], panels, "structures4", spacing_mm=case.image.spacing[1:], letters="SIAP")
        )
    return path
