"""Where measurements are taken: the lines to draw on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from spider_utils.labels import disc_name, vertebra_name
from spider_utils.measure.canal import sac_line
from spider_utils.measure.discs import height_lines
from spider_utils.measure.geometry import NotMeasurable
from spider_utils.measure.report import Report, checked


@dataclass(frozen=True, eq=False)
class Mark:
    """A line that something is measured on: its ``ends`` (2, 3) in mm (slice, row, column) from the first voxel's middle.

    ``quantity`` is a key of report.UNITS, or "endplate".
    """

    level: str
    quantity: str
    ends: np.ndarray


def marks(mask: np.ndarray, spacing_mm: tuple[float, ...], scheme: str = "spider") -> list[Mark]:
    """Endplates of bodies, heights of discs and diameters of the canal at the discs, from below, as far as measurable.

    Args:
        mask, spacing_mm, scheme: as for report.measure.

    Raises:
        ValueError: as report.measure.
    """
    report = Report(*checked(mask, spacing_mm, None, scheme))
    found = []

    def add(level: str, quantity: str, ends: np.ndarray) -> None:
        found.append(Mark(level, quantity, report.spine.places(ends)))

    for number, body in report.bodies.items():
        for plate in (body.upper, body.lower) if body else ():
            if plate is not None:
                add(vertebra_name(number), "endplate", np.array([plate.front, plate.back]))
    for number in report.discs:
        level = disc_name(number)
        with suppress(NotMeasurable):
            space = report.space(number)
            for plate in (getattr(space, side) for side in space.own_faces):
                add(level, "endplate", np.array([plate.front, plate.back]))
            with suppress(NotMeasurable):
                for quantity, ends in height_lines(space).items():
                    add(level, quantity, ends)
            if report.canal is not None:
                add(level, "canal diameter", sac_line(report.canal, report.axis, space.centre, space.along))
    return found


def of_disc(found: Sequence[Mark], level: str) -> list[Mark]:
    """The marks of one disc and of the endplates that face it, without those on the far side of both bodies.

    Args:
        found: of ``marks``.
        level: of the disc, such as "L4/L5".
    """
    upper, lower = level.split("/")
    chosen = [mark for mark in found if mark.level == level]
    for body, facing in ((upper, max), (lower, min)):  # rows run downwards: the upper body's lower plate faces the disc
        plates = [mark for mark in found if (mark.level, mark.quantity) == (body, "endplate")]
        if plates:
            chosen.append(facing(plates, key=lambda mark: mark.ends[:, 1].mean()))
    return chosen
