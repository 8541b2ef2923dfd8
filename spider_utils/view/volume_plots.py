"""Figures of networks of volumes: intensities as they are given, a volume cut into patches, what a token attends to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from spider_utils.view.plots import LINE_STYLES, PALETTE, CourseFigure, new_figure, show_slice, styled

_EDGE, _ASKING = PALETTE[4], PALETTE[1]  # of patches, and of the token that asks


@styled
def intensities(prepared: Mapping[str, Mapping[str, np.ndarray]]) -> CourseFigure:
    """Histograms of what a network is given, a panel a preparation, a line a series; the upward axis is logarithmic.

    Args:
        prepared: title -> series -> intensities in [0, 1], of any shape; the same series in every panel.
    """
    figure = new_figure(3.2, "Intensities as the network gets them.")
    axes = figure.subplots(1, len(prepared), sharey=True, squeeze=False)[0]
    for ax, (title, series) in zip(axes, prepared.items(), strict=True):
        for number, (name, values) in enumerate(series.items()):
            shares, edges = np.histogram(values, bins=100, range=(0, 1))
            style = LINE_STYLES[number % len(LINE_STYLES)]
            ax.stairs(shares / values.size, edges, color=PALETTE[number], linestyle=style, linewidth=1.3, label=name)
        ax.set(xlabel="intensity as the network gets it", yscale="log", title=title)
    axes[0].set_ylabel("share of voxels")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def attention_distance(distances_mm: Mapping[str, np.ndarray], equal_mm: float) -> CourseFigure:
    """How far away tokens attend, by layer.

    Args:
        distances_mm: network -> mean distance of each layer, mm.
        equal_mm: the mean distance where all tokens get equal shares.
    """
    figure = new_figure(3.0, "Mean distance in mm at which tokens attend, by layer, and for equal shares.")
    ax = figure.subplots()
    for (name, values), style in zip(distances_mm.items(), ("s--", "o-"), strict=True):
        ax.plot(np.arange(1, len(values) + 1), values, style, label=name)
    ax.axhline(equal_mm, color="#666666", linestyle=":", label="equal shares")
    highest = max(equal_mm, *(float(np.max(values)) for values in distances_mm.values()))
    ax.set(xlabel="layer", ylabel="mean distance (mm)", ylim=(0, 1.1 * highest))
    figure.legend(loc="outside right center")
    return figure


@styled
def patches(image: np.ndarray, spacing_mm: Sequence[float], side: int, title: str = "") -> CourseFigure:
    """A volume cut into cubes: its middle sagittal slice and its middle coronal slice, in one scale.

    Args:
        image: (slice, row, column), each a multiple of ``side``.
        spacing_mm: along (slice, row, column).
        side: of a cube, voxels.
        title: above both panels.
    """
    slices, rows, columns = image.shape
    views = {
        f"from the side: {rows // side} x {columns // side} patches": (image[slices // 2], spacing_mm[2], "SIAP"),
        # The slice axis runs from left to right; a picture from the front has the patient's right on the left.
        f"from the front: {rows // side} x {slices // side}": (image[::-1, :, columns // 2].T, spacing_mm[0], "SIRL"),
    }
    figure = new_figure(5.4, title)
    widths = [picture.shape[1] * across_mm for picture, across_mm, _ in views.values()]
    for ax, (name, (picture, across_mm, letters)) in zip(
        figure.subplots(1, 2, width_ratios=[max(width, 0.45 * max(widths)) for width in widths]), views.items(), strict=True
    ):
        first = ax.get_subplotspec().is_first_col()  # one bar: both pictures have one scale
        show_slice(ax, picture, spacing_mm=(spacing_mm[1], across_mm), title=name, letters=letters, scale_bar=first)
        for top, left in np.ndindex(picture.shape[0] // side, picture.shape[1] // side):
            _mark(ax, top, left, side, _EDGE, 1.2)
    if title:
        figure.suptitle(title)
    figure.caption = f"A volume cut into cubes of {side} voxels, in a sagittal (left) and in a coronal slice (right)."
    return figure


@styled
def attention_maps(
    image: np.ndarray, shares: Mapping[str, np.ndarray], asking: tuple[int, int], spacing_mm: Sequence[float], side: int
) -> CourseFigure:
    """What one token attends to: the slice that it lies in, and beside it a table of shares for each layer, in one colour scale.

    Args:
        image: (row, column), the slice.
        shares: title -> (patches along rows, patches along columns), the shares of the patches that this slice runs through.
        asking: row and column of the token that asks, in patches.
        spacing_mm: of the slice, (row, column).
        side: of a patch, voxels.
    """
    figure = new_figure(4.6, "")
    axes = figure.subplots(1, 1 + len(shares))
    show_slice(axes[0], image, spacing_mm=spacing_mm, title="the slice")
    most = max(float(share.max()) for share in shares.values())
    rows, columns = image.shape
    for ax, (title, share) in zip(axes[1:], shares.items(), strict=True):
        shown = ax.imshow(
            share, cmap="Blues", vmin=0, vmax=most, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
            aspect=spacing_mm[0] / spacing_mm[1], interpolation="nearest",
        )  # fmt: skip
        for (top, left), value in np.ndenumerate(share):
            ax.text(
                (left + 0.5) * side - 0.5, (top + 0.5) * side - 0.5, f"{value:.2f}".removeprefix("0"), ha="center", va="center",
                fontsize=9 if share.shape[1] <= 4 else 6, color="white" if value > 0.6 * most else "black",
            )  # fmt: skip
        ax.set_title(title)
        ax.set_axis_off()
    for number, ax in enumerate(axes):
        for top, left in np.ndindex(rows // side, columns // side):
            _mark(ax, top, left, side, _EDGE if number == 0 else "#bbbbbb", 0.6)
        _mark(ax, *asking, side, _ASKING, 2.5)
    figure.colorbar(shown, ax=axes[1:], label="share of attention", shrink=0.7)
    figure.caption = (
        f"Attention of one token (orange): the slice that it lies in, and its share for every patch there, {', '.join(shares)}."
    )
    return figure


def _mark(ax: Axes, top: int, left: int, side: int, color: str, width: float) -> None:
    corner = (left * side - 0.5, top * side - 0.5)
    ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=width))
