"""Several pictures of one thing: slices side by side, three planes of a volume, fields of view on a slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle
from scipy import ndimage

from spider_utils.data.volumes import Volume
from spider_utils.view.plots.figures import CourseFigure, new_figure
from spider_utils.view.plots.legends import add_legend, legend_for, share_colors, values_in
from spider_utils.view.plots.planes import PLANES
from spider_utils.view.plots.slices import height_over_width, show_slice, window_of
from spider_utils.view.plots.style import LINE_STYLES, PALETTE, WIDTH_IN, styled


@styled
def contact_sheet(
    slices: Sequence[tuple[np.ndarray, np.ndarray | None, Sequence[float] | None, str]],
    scheme: str = "structures4",
    columns: int = 4,
    *,
    outline: bool = False,
    opacity: float = 0.4,
    letters: str | None = "SIAP",
    name_labels: bool | None = None,
    window: tuple[float, float] | None = None,
) -> CourseFigure:
    """Many slices side by side, each in its own proportions.

    Args:
        slices: (image, mask or None, (row, column) spacing in mm or None, title) each; see ``show_slice``.
        scheme: label scheme of the masks.
        columns: pictures in a row.
        outline, opacity, letters, window: see ``show_slice``.
        name_labels: write names on the labels; None does so where a legend could not tell them apart.

    Raises:
        ValueError: there is no slice, or one does not fit (see ``show_slice``).
    """
    if not slices:
        raise ValueError("a contact sheet needs at least one slice")
    columns = min(columns, len(slices))
    rows = -(-len(slices) // columns)
    tallest = max(height_over_width(np.shape(image), spacing) for image, _, spacing, _ in slices)
    figure = new_figure(rows * (WIDTH_IN / columns * min(tallest, 2.5) + 0.3) + 0.4, f"{len(slices)} slices.")
    values = values_in([mask for _, mask, _, _ in slices])
    name_labels = share_colors(scheme, values) if name_labels is None else name_labels
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax, (image, mask, spacing, title) in zip(grid.flat, slices, strict=False):
        show_slice(
            ax, image, mask, scheme, spacing, outline, title,
            opacity=opacity, window=window, letters=letters, name_labels=name_labels,
        )  # fmt: skip
        ax.title.set_fontsize(10)
    for ax in grid.flat[len(slices) :]:
        ax.remove()
    add_legend(figure, legend_for(scheme, values))
    figure.caption = f"{len(slices)} slices: {'; '.join(title for *_, title in slices[:12] if title)}."
    return figure


@styled
def three_planes(
    volume: Volume,
    mask: Volume | None = None,
    point: Sequence[int] | None = None,
    scheme: str = "spider",
    *,
    outline: bool = False,
    opacity: float = 0.4,
    window: tuple[float, float] | None = None,
) -> CourseFigure:
    """The sagittal, coronal and axial plane through one voxel, in true proportions, with lines where the others cut.

    Args:
        volume: the image.
        mask: labels of ``scheme`` on the same grid, or None.
        point: voxel (slice, row, column). None: the middle of the labelled region, or of the volume without a mask.
        outline, opacity, window: see ``show_slice``.

    Raises:
        ValueError: mask and volume differ in shape, or the point lies outside the volume.
    """
    shape = volume.array.shape
    if mask is not None and mask.array.shape != shape:
        raise ValueError(f"the mask has shape {mask.array.shape}, but the volume {shape}")
    if point is None:
        box = ndimage.find_objects((mask.array > 0).astype(np.uint8))[0] if mask is not None and mask.array.any() else None
        point = [n // 2 for n in shape] if box is None else [(s.start + s.stop) // 2 for s in box]
    if len(point) != 3 or not all(0 <= p < n for p, n in zip(point, shape, strict=True)):
        raise ValueError(f"voxel {tuple(point)} lies outside the volume of shape {shape}")
    window = window or window_of(volume.array)
    cuts = [(plane, plane.cut(volume.array, point[plane.axis])) for plane in PLANES.values()]
    spacings = [plane.spacing(volume.spacing) for plane, _ in cuts]
    tall = max(picture.shape[0] * row_mm for (_, picture), (row_mm, _) in zip(cuts, spacings, strict=True))
    widths = np.array([picture.shape[1] * column_mm for (_, picture), (_, column_mm) in zip(cuts, spacings, strict=True)])
    widths = np.maximum(widths, 0.35 * widths.max())
    height = tall / widths.sum() * WIDTH_IN
    caption = f"Sagittal, coronal and axial plane through voxel {tuple(int(p) for p in point)}."
    figure = new_figure(min(max(height, 2.5), 9.0) + 0.7, caption)
    axes = figure.subplots(1, 3, width_ratios=widths)
    values = [] if mask is None else values_in([plane.cut(mask.array, point[plane.axis]) for plane, _ in cuts])
    for ax, (plane, picture), spacing_mm in zip(axes, cuts, spacings, strict=True):
        labels = None if mask is None else plane.cut(mask.array, point[plane.axis])
        show_slice(
            ax, picture, labels, scheme, spacing_mm, outline, plane.name,
            opacity=opacity, window=window, letters=plane.letters, name_labels=share_colors(scheme, values),
        )  # fmt: skip
        row, column = plane.place(point, shape)
        ax.axhline(row, color="white", linewidth=0.8, linestyle=":")
        ax.axvline(column, color="white", linewidth=0.8, linestyle=":")
    add_legend(figure, legend_for(scheme, values))
    return figure


@styled
def receptive_field_on_slice(
    image: np.ndarray,
    spacing_mm: Sequence[float],
    boxes_mm: Mapping[str, float | tuple[float, float]],
    center: tuple[int, int] | None = None,
    *,
    title: str = "",
) -> CourseFigure:
    """How much of a slice a network sees when it labels one pixel.

    Args:
        image: (rows, columns) gray values.
        spacing_mm: (row, column).
        boxes_mm: name -> side of its receptive field in mm, or (height, width).
        center: the pixel (row, column) that is labelled; None takes the middle.

    Raises:
        ValueError: a box has no positive size; see also ``show_slice``.
    """
    rows, columns = np.shape(image)[:2]
    center = center or (rows // 2, columns // 2)
    figure = new_figure(min(WIDTH_IN * 0.6 * height_over_width((rows, columns), spacing_mm), 7.0) + 0.5, title)
    ax = figure.subplots()
    show_slice(ax, image, None, spacing_mm=spacing_mm, title=title)
    for number, (name, size) in enumerate(boxes_mm.items()):
        height_mm, width_mm = (size, size) if np.isscalar(size) else size
        if not (height_mm > 0 and width_mm > 0):
            raise ValueError(f"the receptive field '{name}' must have a positive size in mm, not {size}")
        height, width = height_mm / spacing_mm[0], width_mm / spacing_mm[1]
        beyond = ", larger than the slice" if height > rows and width > columns else ""
        box = Rectangle(
            (center[1] - width / 2, center[0] - height / 2), width, height, fill=False, linewidth=2.2,
            edgecolor=(*PALETTE[4:6], PALETTE[1], PALETTE[3])[number % 4], linestyle=LINE_STYLES[number % 4],
            label=f"{name}: {height_mm:.0f} x {width_mm:.0f} mm{beyond}",
        )  # fmt: skip
        ax.add_patch(box)
    ax.plot(center[1], center[0], "o", color="white", markeredgecolor="black", markersize=7)
    figure.legend(loc="outside right center")
    figure.caption = f"{title}: receptive fields of {', '.join(boxes_mm)}.".removeprefix(": ")
    return figure
