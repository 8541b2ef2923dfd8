"""Drawings of networks: boxes for blocks, arrows for what flows between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spider_utils.view.plots import CourseFigure, new_figure, styled

KIND_COLORS = {"data": "#ffffff", "down": "#cfe3f2", "up": "#fbe6c2", "between": "#d5ecd9", "new": "#f6d5e6"}
"""Fill of a box by its kind: data, way down (encoder), way up (decoder), between both, or what is new in a network."""


@dataclass(frozen=True)
class Box:
    """A block of a network in a drawing.

    Attributes:
        x, y: its middle, in steps of the drawing; y grows upward.
        text: its lines.
        kind: one of KIND_COLORS.
    """

    x: float
    y: float
    text: str
    kind: str = "data"


@styled
def block_diagram(
    boxes: Mapping[str, Box],
    arrows: Sequence[tuple[str, str]],
    skips: Sequence[tuple[str, str]] = (),
    *,
    height_in: float = 5.0,
    font_size: float = 8,
    bend: float = 0.0,
    title: str = "",
) -> CourseFigure:
    """Draw a network.

    Args:
        boxes: its blocks by name.
        arrows: pairs of names, from and to: what each block passes on.
        skips: pairs that are drawn dashed: skip connections and shortcuts.
        height_in: of the figure, inches.
        font_size: of the texts in boxes, points.
        bend: curvature of the dashed arrows, 0 for straight ones; needed where they would cross other boxes.
        title: above the drawing.

    Raises:
        ValueError: an arrow from or to a box that is not there, or an unknown kind.
    """
    for name in (end for pair in (*arrows, *skips) for end in pair):
        if name not in boxes:
            raise ValueError(f"an arrow ends at '{name}', but the boxes are: {', '.join(boxes)}")
    if unknown := {box.kind for box in boxes.values()} - set(KIND_COLORS):
        raise ValueError(f"unknown kind of box: {', '.join(sorted(unknown))}. Known are: {', '.join(KIND_COLORS)}")
    figure = new_figure(height_in, title)
    ax = figure.subplots()
    drawn = {}
    for name, box in boxes.items():
        style = {"boxstyle": "round", "facecolor": KIND_COLORS[box.kind], "edgecolor": "#555555"}
        drawn[name] = ax.text(box.x, box.y, box.text, ha="center", va="center", fontsize=font_size, bbox=style, zorder=3)
    xs, ys = [box.x for box in boxes.values()], [box.y for box in boxes.values()]
    ax.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.5, max(ys) + 0.5), title=title)
    ax.set_axis_off()
    figure.draw_without_rendering()  # boxes know their size now, so that arrows can end at their edges
    for pairs, look in ((arrows, {}), (skips, {"linestyle": "--", "connectionstyle": f"arc3,rad={bend}"})):
        for start, end in pairs:
            arrow = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 3, "shrinkB": 3, **look}
            arrow |= {"patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()}
            ax.annotate("", (boxes[end].x, boxes[end].y), (boxes[start].x, boxes[start].y), arrowprops=arrow, zorder=2)
    return figure
