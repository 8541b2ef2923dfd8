"""Figures of measurements: agreement with the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from spider_utils.evaluation.agreement import agreement
from spider_utils.view.plots import PALETTE, CourseFigure, new_figure, styled

_PANELS = 3  # in a row


@styled
def bland_altman(table: pd.DataFrame, quantities: Mapping[str, str], title: str = "") -> CourseFigure:
    """Difference against mean, a panel a quantity, with bias and 95 % limits of agreement (Bland & Altman, Lancet 327:307, 1986).

    The limits allow for several values of one patient (evaluation.agreement); patients are told apart by shade, so that a
    patient whose values all lie on one side is seen.

    Args:
        table: a row a value: ``patient``, ``quantity``, ``value`` (measured), ``truth``; rows with a NaN are left out.
        quantities: name -> unit of those to draw.
        title: above all panels.

    Raises:
        ValueError: a quantity has fewer than two values.
    """
    rows = math.ceil(len(quantities) / _PANELS)
    figure = new_figure(3.1 * rows + 0.5, title)
    axes = figure.subplots(rows, min(_PANELS, len(quantities)), squeeze=False)
    said = []
    for ax, (quantity, unit) in zip(axes.flat, quantities.items(), strict=False):
        part = table[table["quantity"] == quantity].dropna(subset=["value", "truth"])
        found = agreement(part["value"], part["truth"], part["patient"])
        means, differences = (part["value"] + part["truth"]) / 2, part["value"] - part["truth"]
        shades = pd.factorize(part["patient"])[0] / max(found.patients - 1, 1)
        ax.scatter(means, differences, c=shades, cmap="viridis", s=12, linewidths=0, alpha=0.8)
        for value, style in ((found.bias, "-"), (found.low, "--"), (found.high, "--")):
            ax.axhline(value, color=PALETTE[5], linestyle=style, linewidth=1.4)
            ax.annotate(
                f"{value:+.2f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
                ha="right", fontsize=9, color=PALETTE[5], bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "linewidth": 0},
            )  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.8)
        reach = 1.25 * max(np.abs(differences).max(), abs(found.low), abs(found.high))
        ax.set(title=quantity, xlabel=f"mean of both [{unit}]", ylabel=f"measured - true [{unit}]", ylim=(-reach, reach))
        ax.title.set_fontsize(10.5)
        ax.text(0.02, 0.02, f"{found.n} values, {found.patients} patients", transform=ax.transAxes, fontsize=9)
        said.append(f"{quantity} {found.bias:+.2f} ({found.low:+.2f} to {found.high:+.2f}) {unit}")
    for ax in axes.flat[len(quantities) :]:
        ax.set_visible(False)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: bias and 95 % limits of agreement: {'; '.join(said)}.".removeprefix(": ")
    return figure
