"""Legends of labels, and what is needed to place them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from spider_utils.labels import convert, get_scheme


def share_colors(scheme: str, values: Sequence[int]) -> bool:
    """True when some labels in ``values`` have one colour, because the shades of a scheme with levels repeat every third level.

    A legend cannot tell such labels apart; their names must then stand on the picture.
    """
    colors = get_scheme(scheme).colors
    return len({colors[value] for value in values}) < len(set(values))


def legend_for(scheme: str, values: Sequence[int]) -> list[Patch]:
    """Handles for a legend of the labels in ``values``, in ascending order, without background.

    Each label has an entry of its own, unless some of them share a colour: then each kind of structure has one (neighbouring
    levels differ in shade), and the picture should carry the names (``name_labels`` of ``show_slice``).

    Raises:
        ValueError: a value is not in the scheme.
    """
    chosen, kinds = get_scheme(scheme), get_scheme("structures4")
    chosen.check(np.asarray(list(values), dtype=np.int64))
    shown = sorted({int(v) for v in values} - {0})
    if not share_colors(scheme, shown):
        return [color_patch(chosen.colors[v], chosen.names[v]) for v in shown]
    melted = [max(chosen.values)] if scheme == "clamped20" else []  # of no one structure; the others are as spider has them
    kept = np.array([v for v in shown if v not in melted], dtype=np.uint8)
    found = np.unique(convert(kept, "spider" if melted else scheme, "structures4")).tolist()
    handles = [color_patch(kinds.colors[v], kinds.names[v] + ("" if v == 2 else " (shade: level)")) for v in found]
    return handles + [color_patch(chosen.colors[v], chosen.names[v]) for v in melted if v in shown]


def color_patch(color: tuple[int, int, int], name: str) -> Patch:
    """The handle of one entry; the colour is red, green, blue, 0 to 255."""
    return Patch(facecolor=tuple(c / 255 for c in color), edgecolor="black", linewidth=0.5, label=name)


def values_in(masks: Sequence[np.ndarray | None]) -> list[int]:
    """The labels that any of the masks holds, ascending, without background."""
    return sorted({int(v) for mask in masks if mask is not None for v in np.unique(mask)} - {0})


def add_legend(figure: Figure, handles: list[Patch]) -> None:
    """Put a legend below the figure, in as many lines as its width asks for; none without handles."""
    if handles:
        # About 105 letters fit into a line, and the patch of an entry takes the room of eight.
        entries_a_line = max(1, 105 // max(8 + len(handle.get_label()) for handle in handles))
        lines = -(-len(handles) // entries_a_line)
        figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // lines))
