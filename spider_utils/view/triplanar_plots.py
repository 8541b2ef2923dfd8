"""Figures of `triplanar`: scores beside printed ones, errors by place in the disc, weights of the fusion, training-size curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch
from torch import nn

from spider_utils.data.planes import PLANES
from spider_utils.ensemble.planes import PlaneFusion
from spider_utils.models import parameter_count
from spider_utils.models.dilated_unet import DilatedUNet
from spider_utils.view.diagrams import Box, block_diagram
from spider_utils.view.plots import LINE_STYLES, PALETTE, CourseFigure, new_figure, show_slice, styled
from spider_utils.view.plots.slices import box_around

_COLORS = dict(zip((*PLANES, "fused"), (PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[6]), strict=True))
_AXES = {"from the side": (0, "row", "column"), "from above": (1, "slice", "column")}  # view -> axis summed over, picture's axes

_KINDS = {
    "labelled disc": PALETTE[1],
    "disc that nobody labelled": PALETTE[3],
    "called disc, but is none": PALETTE[5],
    "missed": PALETTE[4],
}
_AROUND_MM = 25.0  # of a picture around the discs


def _caption(title: str, what: str) -> str:
    return f"{title}: {what}.".removeprefix(": ")


@styled
def discs_found(
    image: np.ndarray,
    spacing_mm: Sequence[float],
    discs: np.ndarray,
    n_labelled: int,
    answers: Mapping[str, np.ndarray],
    title: str = "",
) -> CourseFigure:
    """One sagittal slice around the spine: every disc in view, and what networks call a disc, in colours by what it truly is.

    Args:
        image: (row, column) gray values.
        spacing_mm: (row, column).
        discs: (row, column), number of every disc in view from below, 0 elsewhere.
        n_labelled: discs with a higher number are in nobody's mask, nor are those in the sacrum, which have numbers too.
        answers: title -> bool (row, column).
        title: above all panels.

    Raises:
        ValueError: there is no disc in the slice.
    """
    if not discs.any():
        raise ValueError("no disc in this slice: give one through the middle of the spine")
    box = box_around(discs > 0, spacing_mm, _AROUND_MM)
    labelled = (discs > 0) & (discs <= n_labelled)
    truly = np.select([labelled, discs > 0], [1, 2], 3)  # a kind of _KINDS
    shown = {"every disc in view": discs > 0, **answers}
    colors = np.array([(0, 0, 0, 0), *(to_rgba(color, 0.65) for color in _KINDS.values())])
    height, width = (n * mm for n, mm in zip(image[box].shape, spacing_mm, strict=True))
    figure = new_figure(min(5.4, 9 / len(shown) * height / width) + 0.9, title)
    found = set()
    for ax, (name, mask) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        kinds = np.where(mask, truly, np.where(labelled, 4, 0))[box]
        show_slice(ax, image[box], spacing_mm=spacing_mm, title=name, scale_bar=ax.get_subplotspec().is_first_col())
        ax.imshow(colors[kinds], interpolation="nearest", aspect=ax.get_aspect())
        ax.title.set_fontsize(10)
        found |= set(np.unique(kinds)) - {0}
    handles = [Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=name) for name, color in _KINDS.items()]
    figure.legend(handles=[handles[kind - 1] for kind in sorted(found)], loc="outside lower center", ncols=4)
    if title:
        figure.suptitle(title)
    figure.caption = _caption(title, f"every disc in view, and what is called a disc: {', '.join(answers)}")
    return figure


def ensemble_diagram(network: DilatedUNet, fusion: PlaneFusion, shape: Sequence[int], title: str = "") -> CourseFigure:
    """The whole of `triplanar`: a volume cut three ways, a 2D network for each plane, and the 3D network that fuses them.

    Every number is read from the networks: channels, kernels, parameters.

    Args:
        network: of one plane; those of the others are built alike.
        fusion: what weighs the three probabilities.
        shape: (slice, row, column) of a volume.
        title: above the drawing.

    Raises:
        ValueError: the network does not tell two classes apart, disc and background.
    """
    widths = [layer.out_channels for layer in fusion.layers]
    n_into, n_positions = fusion.layers[0].in_channels, len(PLANES) if fusion.design.positions else 0
    if (n_classes := network.body.segmentation_head[0].out_channels) != 2:
        raise ValueError(f"a network of one plane tells discs from background: it must have two classes, not {n_classes}")
    down = network.body.encoder.out_channels[1:]
    up = [next(m for m in block.modules() if isinstance(m, nn.Conv2d)).out_channels for block in network.body.decoder.blocks]
    size = " x ".join(map(str, shape))
    boxes = {"volume": Box(0, 0, f"volume\n{network.in_channels} contrasts\n{size}")}
    arrows = []
    for y, (plane, axis) in zip((1.5, 0, -1.5), PLANES.items(), strict=True):
        rows, columns = np.delete(shape, axis).tolist()
        boxes[f"{plane} slices"] = Box(1.2, y, f"{plane}\n{shape[axis]} slices\n{rows} x {columns}")
        boxes[f"{plane} network"] = Box(
            2.75,
            y,
            f"2D network\nencoder {'-'.join(map(str, down))}\ndecoder {'-'.join(map(str, up))}\n"
            f"{parameter_count(network):,} parameters",
            "down",
        )
        boxes[plane] = Box(4.2, y, f"probability,\n{plane}\n{size}")
        arrows += [("volume", f"{plane} slices"), (f"{plane} slices", f"{plane} network"), (f"{plane} network", plane)]
    beside = f"{len(PLANES)} probabilities" + (f"\n{n_positions} positions" if n_positions else "")
    boxes["input"] = Box(5.5, 0, f"put together:\n{beside}\n= {n_into} channels")
    arrows += [(plane, "input") for plane in PLANES]
    steps = np.linspace(1.5, -1.5, len(widths) + 1)
    before = "input"
    for number, (y, layer) in enumerate(zip(steps, fusion.layers, strict=False)):
        kernel, last = " x ".join(map(str, layer.kernel_size)), layer is fusion.layers[-1]
        text = f"conv {kernel}\n{layer.in_channels} to {layer.out_channels} channels\n{parameter_count(layer):,} parameters"
        boxes[f"layer {number}"] = Box(6.9, y, text if last else f"{text}\nthen ReLU", "new")
        arrows.append((before, f"layer {number}"))
        before = f"layer {number}"
    boxes["output"] = Box(6.9, steps[-1], f"probability,\nfused\n{size}")
    arrows.append((before, "output"))
    figure = block_diagram(boxes, arrows, height_in=3.9, font_size=7.5, title=title)
    figure.caption = _caption(
        title,
        f"three 2D networks of {parameter_count(network):,} parameters, one a plane, and a 3D fusion of "
        f"{parameter_count(fusion):,} parameters (pink)",
    )
    return figure


@styled
def printed_and_measured(
    table: pd.DataFrame, label: str, title: str = "", xlabel: str = "mean Dice over discs, then patients"
) -> CourseFigure:
    """Printed Dice beside measured, a line a row of the source's table.

    Args:
        table: with ``label``, printed, mean, low, high, as triplanar.table1 and table2 give.
        label: column that names the lines.
        title: above the figure.
        xlabel: what the means are of.
    """
    figure = new_figure(0.42 * len(table) + 1.6, title)
    ax = figure.subplots()
    places = np.arange(len(table))
    errors = np.abs(table[["low", "high"]].sub(table["mean"], axis=0)).to_numpy(dtype=float).T
    ax.errorbar(table["mean"], places, xerr=errors, fmt="D", color=PALETTE[0], capsize=4, label="measured here, 95 % interval")
    ax.plot(table["printed"], places, "x", color=PALETTE[5], markeredgewidth=2.5, markersize=9, label="printed (other patients)")
    ax.set_yticks(places, table[label].astype(str))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=xlabel, title=title)
    figure.legend(loc="outside lower center", ncols=2)
    figure.caption = _caption(title, "Dice measured with its 95 % interval over patients, and printed")
    return figure


@styled
def dice_by_position(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Dice along each plane's normal through the discs: a panel a direction, a line a method, bands for its plane and fused.

    Args:
        table: of triplanar.lessons.by_position.
        title: above all panels.
    """
    ends = {"sagittal": ("left", "right"), "axial": ("top", "bottom"), "coronal": ("front", "back")}
    figure = new_figure(3.5, title)
    axes = figure.subplots(1, len(PLANES), sharey=True)
    for ax, plane in zip(axes, PLANES, strict=True):
        rows = table[table["direction"] == plane]
        for number, (method, line) in enumerate(rows.groupby("method", sort=False)):
            own = method in (plane, "fused")
            look = {"linewidth": 2.6 if own else 1.2, "linestyle": LINE_STYLES[number % len(LINE_STYLES)]}
            color = _COLORS.get(method, "#777777")
            ax.plot(line["position"], line["dice"], color=color, label=method, **look)
            if own:
                ax.fill_between(line["position"], line["low"], line["high"], color=color, alpha=0.15, linewidth=0)
        ax.set(
            xlabel=f"{ends[plane][0]} end  \u2013  middle  \u2013  {ends[plane][1]} end",
            title=f"across {plane} slices",
            xlim=(-1, 1),
        )
        ax.set_xticks([-1, 0, 1], ["", "", ""])
    axes[0].set_ylabel("Dice at this place")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    if title:
        figure.suptitle(title)
    figure.caption = _caption(title, "Dice by place in the disc along the normal of each plane; bands: 95 % over patients")
    return figure


@styled
def fusion_weights(weights: np.ndarray, title: str = "") -> CourseFigure:
    """What the fusion weighs: each plane's weights around a voxel, seen from two sides.

    Args:
        weights: (3, 5, 5, 5) of PLANES, mean of ``sensitivity`` over voxels.
        title: above all panels.
    """
    pictures = {view: weights.sum(axis=1 + axis) for view, (axis, _, _) in _AXES.items()}
    most = max(np.abs(picture).max() for picture in pictures.values())
    figure = new_figure(5.4, title)
    axes = figure.subplots(len(_AXES), len(PLANES))
    for line, (view, (_, down, right)) in zip(axes, _AXES.items(), strict=True):
        for ax, plane, picture in zip(line, PLANES, pictures[view], strict=True):
            shown = ax.imshow(picture, cmap="PuOr_r", vmin=-most, vmax=most, extent=(-2.5, 2.5, 2.5, -2.5))
            ax.set(title=f"{plane} network, {view}", xlabel=f"{right}s away", ylabel=f"{down}s away" if ax is line[0] else "")
            ax.title.set_fontsize(10)
            ax.grid(visible=False)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="rise of the fused score")
    if title:
        figure.suptitle(title)
    figure.caption = _caption(title, "how the fused answer hangs on each network's probability at the voxel and around it")
    return figure


@styled
def trust_by_position(shares: Mapping[str, Sequence[float]], positions: Sequence[float], title: str = "") -> CourseFigure:
    """The share of the fusion's weight that each plane has, by place in the disc along that plane's own normal.

    Args:
        shares: by plane, one a position.
        positions: -1 to 1, the disc's ends.
        title: above the figure.
    """
    figure = new_figure(3.2, title)
    ax = figure.subplots()
    for number, (plane, share) in enumerate(shares.items()):
        ax.plot(positions, share, "o", linestyle=LINE_STYLES[number], color=_COLORS[plane], label=f"{plane} network")
    ax.axhline(1 / len(PLANES), color="black", linewidth=0.8, label="equal trust")
    ax.set(
        xlabel="place in the disc along the network's own normal (0: middle, -1 and 1: ends)",
        ylabel="share of the weight",
        title=title,
    )
    figure.legend(loc="outside lower center", ncols=4)
    figure.caption = _caption(title, "share of the fusion's weight that each plane has, by place along its own normal")
    return figure


@styled
def size_curve(table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Score against the number of training patients.

    Args:
        table: of triplanar.lessons.size_curve.
        title: above the figure.
    """
    figure = new_figure(3.2, title)
    ax = figure.subplots()
    errors = np.abs(table[["low", "high"]].sub(table["mean"], axis=0)).to_numpy(dtype=float).T
    ax.errorbar(table["patients"], table["mean"], yerr=errors, fmt="o-", color=PALETTE[0], capsize=4)
    ax.set_xticks(table["patients"])
    ax.set(xlabel="patients in training", ylabel="mean Dice", title=title)
    figure.caption = _caption(title, "mean Dice with its 95 % interval over patients, by number of training patients")
    return figure
