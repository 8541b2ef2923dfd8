"""What the slice viewer shows, without a front end: which slice and masks, as a picture, in words and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spider_utils.data.volumes import Volume, check_same_geometry, stem_of
from spider_utils.errors import DataError
from spider_utils.files import atomic_path
from spider_utils.labels import get_scheme
from spider_utils.view import plots
from spider_utils.view.frames import FRAME_PIXELS, Panel, as_uint8, render_panels

MOST_MASKS = 4  # a truth and three predictions: more side by side are too small to compare
ONE, SIDE_BY_SIDE, DIFFERENCE = "one mask", "side by side", "difference"
MODES = (ONE, SIDE_BY_SIDE, DIFFERENCE)
_WIDEST = 2.0  # of several panels together, in sizes of a single picture


@dataclass
class View:
    """What is shown at the moment. Set a field, and the next picture follows.

    Attributes:
        plane: "sagittal", "coronal" or "axial".
        point: the voxel [slice, row, column] that the cross-hair points at. Along the plane's own axis it is the slice shown, so
            another plane cuts through the same place.
        mask: name of the mask that is shown alone, or None when there is none.
        mode: "one mask", "side by side" (all masks) or "difference" (errors of each prediction against the first mask).
        overlay: are masks shown?
        outline: borders instead of filled labels.
        opacity: of filled labels, 0 to 1.
        level, width: the window's centre and width, in gray values.
        cross: is the cross-hair drawn?
        hidden: labels that are not drawn, and count as background where masks are compared.
    """

    plane: str
    point: list[int]
    mask: str | None
    mode: str
    overlay: bool
    outline: bool
    opacity: float
    level: float
    width: float
    cross: bool = False
    hidden: set[int] = field(default_factory=set)

    @property
    def index(self) -> int:
        """Number of the slice along the plane's axis of the array."""
        return self.point[plots.PLANES[self.plane].axis]

    @index.setter
    def index(self, index: int) -> None:
        self.point[plots.PLANES[self.plane].axis] = int(index)

    @property
    def window(self) -> tuple[float, float]:
        """(low, high) gray values shown as black and white."""
        return self.level - self.width / 2, self.level + self.width / 2


class SliceView:
    """A slice of a volume with its masks. It opens where most is labelled, along each of the three axes.

    Args:
        volume: the image.
        masks: a mask on the same grid, or name -> mask (the first is the truth when masks are compared, the others are
            predictions, three at most), or None.
        scheme: label scheme of the masks.
        plane: the plane it opens in: "sagittal", "coronal" or "axial".
        size: the longer side of the picture, in pixels of the screen; several panels together are at most twice as wide.

    Attributes:
        view: what is shown now.
        labels: values that occur in any mask, ascending, without background.
        names: names of the masks.

    Raises:
        DataError: a mask does not lie on the volume's grid.
        ValueError: a mask holds values that the scheme does not know, there are more than four, the image is not finite, or the
            plane is unknown.
    """

    def __init__(
        self,
        volume: Volume,
        masks: Volume | Mapping[str, Volume] | None = None,
        scheme: str = "spider",
        plane: str = "sagittal",
        size: int = FRAME_PIXELS,
    ):
        if plane not in plots.PLANES:
            raise ValueError(f"unknown plane '{plane}'. Known are: {', '.join(plots.PLANES)}")
        if not np.isfinite(volume.array).all():
            raise ValueError("the volume holds values that are not finite (NaN or infinity)")
        self.volume, self.scheme, self.size = volume, get_scheme(scheme), size
        given = {"mask": masks} if isinstance(masks, Volume) else dict(masks or {})
        if len(given) > MOST_MASKS:
            raise ValueError(f"one truth and up to {MOST_MASKS - 1} predictions can be shown, not {len(given)} masks")
        self._masks: dict[str, np.ndarray] = {}
        found: set[int] = set()
        for name, mask in given.items():
            check_same_geometry(volume, mask)
            array = as_uint8(mask.array, self.scheme)
            # Counting is much faster than sorting a whole volume.
            values = {v for part in array for v in np.flatnonzero(np.bincount(part.reshape(-1), minlength=1)).tolist()}
            if not values <= set(self.scheme.values):
                self.scheme.check(array)
            self._masks[name] = array
            found |= values
        self.labels, self.names = sorted(found - {0}), list(self._masks)
        low, high = plots.window_of(volume.array)
        first = next(iter(self._masks), None)
        point = [self._fullest(axis, first) for axis in range(3)]
        self.view = View(plane, point, first, ONE, first is not None, False, 0.4, (low + high) / 2, high - low)

    # ------------------------------------------------------------------------------------------------------ what is shown

    @property
    def plane(self) -> plots.Plane:
        """The plane shown. Raises ValueError when the view's fields do not fit the volume and its masks."""
        view = self.view
        for what, value, known in (("plane", view.plane, plots.PLANES), ("mode", view.mode, MODES)):
            if value not in known:
                raise ValueError(f"unknown {what} '{value}'. Known are: {', '.join(known)}")
        if view.mask not in (self.names or [None]):
            raise ValueError(f"there is no mask '{view.mask}'. There are: {', '.join(self.names) or 'none'}")
        for what, place, n in zip(("slice", "row", "column"), view.point, self.volume.array.shape, strict=True):
            if not 0 <= place < n:
                raise ValueError(f"{what} {place} lies outside the volume, whose {what}s run from 0 to {n - 1}")
        return plots.PLANES[view.plane]

    def count(self, plane: str) -> int:
        """How many slices the volume has in that plane."""
        return self.volume.array.shape[plots.PLANES[plane].axis]

    def _fullest(self, axis: int, name: str | None) -> int:
        """Number of the slice along an axis with most labelled pixels; the middle one when nothing is labelled."""
        if name is not None:
            counts = np.count_nonzero(self._masks[name], axis=tuple({0, 1, 2} - {axis}))
            if counts.any():
                return int(counts.argmax())
        return self.volume.array.shape[axis] // 2

    def cut(self, name: str | None = None) -> np.ndarray:
        """The slice shown of the image, or of the mask with that name."""
        return self.plane.cut(self.volume.array if name is None else self._masks[name], self.view.index)

    def _compared(self) -> list[str]:
        """Masks that are shown, in order."""
        if not self.view.overlay or not self.names:
            return []
        if self.view.mode == ONE or len(self.names) == 1:
            return [self.view.mask]
        return self.names if self.view.mode == SIDE_BY_SIDE else self.names[1:]

    def differing(self) -> bool:
        """Are errors shown in place of labels?"""
        return self.view.mode == DIFFERENCE and len(self.names) > 1 and self.view.overlay

    def frame(self) -> bytes:
        """The current picture as PNG."""
        plane, view, names = self.plane, self.view, self._compared()
        image, truth = self.cut(), self.cut(self.names[0]) if self.differing() else None
        several = view.mode != ONE and len(self.names) > 1
        titles = {name: (f"{name} against {self.names[0]}" if self.differing() else name) if several else "" for name in names}
        panels = [Panel(self.cut(name), titles[name], truth) for name in names] or [Panel()]
        spacing_mm = plane.spacing(self.volume.spacing)
        height, width = np.multiply(image.shape, spacing_mm)
        size = max(1, round(self.size * min(1.0, _WIDEST * max(height, width) / (width * len(panels)))))
        cross = plane.place(view.point, self.volume.array.shape) if view.cross else None
        return render_panels(
            image, panels, self.scheme.name, view.window, view.opacity, view.outline, spacing_mm, size, plane.letters,
            view.hidden, cross,
        )  # fmt: skip

    def position(self) -> str:
        """Where the current slice lies, in words: number, and mm from the middle of the volume."""
        last = self.count(self.view.plane) - 1
        offset = (self.view.index - last / 2) * self.volume.spacing[self.plane.axis]
        where = "in" if abs(offset) < 0.05 else f"{abs(offset):.1f} mm {self.plane.sides[int(offset > 0)]}"
        return f"{self.view.plane} slice {self.view.index} (of 0 to {last}), {where} the middle"

    def point_mm(self) -> np.ndarray:
        """Where the cross-hair points in the scanner's room: x to the left, y to the back, z to the head, mm."""
        return np.asarray(self.volume.origin) + self.volume.direction @ (np.array(self.view.point) * self.volume.spacing)

    def at_point(self) -> str:
        """What the cross-hair points at: place in mm, intensity, and what each mask says."""
        x, y, z = self.point_mm()
        place = tuple(self.view.point)
        said = [f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm (left, back, up)", f"intensity {self.volume.array[place]:g}"]
        return "; ".join(said + [f"{name}: {self.scheme.names[int(array[place])]}" for name, array in self._masks.items()])

    def present(self) -> list[int]:
        """Labels in the current slice of the masks that are shown, ascending, without background and hidden ones."""
        found = {v for name in self._compared() for v in np.flatnonzero(np.bincount(self.cut(name).reshape(-1))).tolist()}
        return sorted(found - {0} - self.view.hidden)

    # ----------------------------------------------------------------------------------------------------------- comparing

    def _without_hidden(self, array: np.ndarray) -> np.ndarray:
        if not self.view.hidden:
            return array
        kept = np.arange(256, dtype=np.uint8)
        kept[list(self.view.hidden)] = 0
        return kept[array]

    def wrong_pixels(self, name: str | None = None) -> np.ndarray:
        """Pixels of each slice in the current plane where a prediction differs from the first mask, hidden labels left out.

        Args:
            name: the prediction; None counts all of them together.

        Returns:
            int array, one number a slice; zeros when there is nothing to compare.

        Raises:
            ValueError: there is no such prediction.
        """
        if name is not None and name not in self.names[1:]:
            raise ValueError(f"there is no prediction '{name}'. There are: {', '.join(self.names[1:]) or 'none'}")
        axis, total = self.plane.axis, np.zeros(self.count(self.view.plane), dtype=np.int64)
        for other in self.names[1:] if name is None else [name]:
            wrong = self._without_hidden(self._masks[self.names[0]]) != self._without_hidden(self._masks[other])
            total += np.count_nonzero(wrong, axis=tuple({0, 1, 2} - {axis}))
        return total

    def to_worst_slice(self) -> int:
        """Move to the slice with most wrong pixels: of the prediction shown alone, or of all predictions together.

        Returns:
            Number of these pixels; 0 when no slice has any, and nothing moves.
        """
        alone = self.view.mask if self.view.mode == ONE and self.view.mask in self.names[1:] else None
        wrong = self.wrong_pixels(alone)
        if wrong.any():
            self.view.index = int(wrong.argmax())
        return int(wrong.max(initial=0))

    # -------------------------------------------------------------------------------------------------------------- to keep

    def save_picture(self, path: str | Path | None = None) -> Path:
        """Write the current picture as PNG.

        Args:
            path: where; None takes "<series>-<plane>-<slice>.png" in the working folder, with a number where that is taken.

        Returns:
            The file.

        Raises:
            DataError: the name does not end in .png, or the file cannot be written.
        """
        if path is None:
            series = stem_of(self.volume.path) if self.volume.path else "slice"
            name = f"{series}-{self.view.plane}-{self.view.index}"
            path = Path(f"{name}.png")
            number = 2
            while path.exists():
                path, number = Path(f"{name}-{number}.png"), number + 1
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise DataError(path, "is no name for a PNG picture", "Give one that ends in .png.")
        picture = self.frame()
        try:
            with atomic_path(path) as partial:
                partial.write_bytes(picture)
        except OSError as error:
            raise DataError(path, f"cannot be written ({error.strerror})", "Choose another folder.") from error
        return path

    def static_figure(self) -> plots.CourseFigure:
        """The current slice alone and under each mask, or with the errors of each prediction, as a matplotlib figure.

        For papermill, GitHub and print. Labels that are hidden and the cross-hair are treated as in the picture.
        """
        plane, view, image = self.plane, self.view, self.cut()
        spacing_mm = plane.spacing(self.volume.spacing)
        masks = {name: self._without_hidden(self.cut(name)) for name in self.names} if view.overlay else {}
        shared = {"letters": plane.letters, "window": view.window}
        if self.differing():
            truth, *predictions = masks
            errors = {name: masks[name] for name in predictions}
            figure = plots.error_sheet(image, masks[truth], errors, self.scheme.name, spacing_mm, **shared)
        else:
            panels = [(image, None, spacing_mm, "image")] + [(image, mask, spacing_mm, name) for name, mask in masks.items()]
            shared |= {"outline": view.outline, "opacity": view.opacity}
            figure = plots.contact_sheet(panels, self.scheme.name, max(2, len(panels)), **shared)
        if view.cross:
            row, column = plane.place(view.point, self.volume.array.shape)
            for ax in figure.axes:
                ax.axhline(row, color="white", linewidth=0.8, linestyle=":")
                ax.axvline(column, color="white", linewidth=0.8, linestyle=":")
        words = f"{self.position()}; cross-hair at {self.at_point()}" if view.cross else self.position()
        figure.suptitle(self.position(), fontsize=11)
        figure.caption = f"{words}: {', '.join(' '.join(ax.get_title().split()) for ax in figure.axes)}."
        return figure

    def __repr__(self) -> str:
        masks = f", masks: {', '.join(self.names)}" if self.names else ""
        return f"{type(self).__name__}({self.position()}{masks})"
