"""What a set of data holds: intensities, who is in which subset, what radiologists found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from spider_utils.data.splits import SUBSETS, Split
from spider_utils.labels import disc_name
from spider_utils.view.plots.columns import need_columns
from spider_utils.view.plots.figures import CourseFigure, new_figure
from spider_utils.view.plots.style import LINE_STYLES, PALETTE, SUBSET_COLORS, styled


@styled
def intensity_histogram(
    images: Mapping[str, np.ndarray], xlabel: str = "intensity", bins: int = 100, title: str = ""
) -> CourseFigure:
    """Share of voxels by intensity, a line an image; the range shown ends at the highest 99.9 percentile.

    Args:
        images: name -> array of any shape.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("intensity_histogram needs at least one image")
    low = min(float(np.min(image)) for image in images.values())
    high = max(float(np.percentile(image, 99.9)) for image in images.values())
    high = high if high > low else low + 1
    edges = np.linspace(low, high, bins + 1)
    if all(np.asarray(image).dtype.kind in "iu" for image in images.values()):
        # Bins that hold differing numbers of integers would draw a comb.
        edges = np.arange(low, high + 1 + (step := max(1, round((high - low) / bins))), step) - 0.5
    figure = new_figure(3.4, title)
    ax = figure.subplots()
    for number, (name, image) in enumerate(images.items()):
        counts, _ = np.histogram(image, bins=edges)
        ax.stairs(
            counts / np.size(image), edges, label=name, linewidth=1.8, color=PALETTE[number % len(PALETTE)],
            linestyle=LINE_STYLES[number // len(PALETTE) % 4],
        )  # fmt: skip
    # Air fills half of most slices; on a linear axis tissue would be a flat line.
    ax.set(xlabel=xlabel, ylabel="share of voxels", yscale="log", title=title)
    figure.legend(loc="outside right upper")
    figure.caption = f"{title}: {xlabel} of {', '.join(images)}.".removeprefix(": ")
    return figure


@styled
def split_diagram(split: Split, table: pd.DataFrame, title: str = "") -> CourseFigure:
    """Who is in which subset: a column a patient, a line a sequence, coloured by subset.

    A split by patient shows columns of one colour. A split that parts a patient's slices shows mixed ones: the leak made visible.

    Args:
        split: the split.
        table: one row a series or slice, with patient, sequence and whatever the split's ``rows`` needs.

    Raises:
        ValueError: a column is missing.
        KitError: the split does not know a row of the table.
    """
    need_columns(table, ["patient", "sequence"], "split_diagram")
    subset = pd.Series("", index=range(len(table)))
    for name in SUBSETS:
        subset[split.rows(name, table)] = name
    rows = table[["patient", "sequence"]].reset_index(drop=True).assign(subset=subset)
    counts = rows.groupby(["sequence", "patient", "subset"]).size()
    shares = (counts / counts.groupby(["sequence", "patient"]).transform("sum")).unstack(fill_value=0.0)
    shares = shares.reindex(columns=list(SUBSETS), fill_value=0.0)
    main = rows.groupby(["patient", "subset"]).size().unstack(fill_value=0).reindex(columns=list(SUBSETS), fill_value=0)
    order = sorted(main.index, key=lambda patient: (int(main.loc[patient].to_numpy().argmax()), patient))
    place = {patient: x for x, patient in enumerate(order)}
    sequences = sorted(rows["sequence"].unique())
    figure = new_figure(0.55 * len(sequences) + 1.7, title)
    ax = figure.subplots()
    width = 0.9 if len(order) <= 60 else 1.0  # gaps thinner than a pixel would come and go
    for line, sequence in enumerate(sequences):
        part = shares.loc[sequence]
        x = np.array([place[patient] for patient in part.index])
        bottom = np.full(len(part), line - 0.42)
        for name in SUBSETS:
            height = 0.84 * part[name].to_numpy()
            ax.bar(x, height, width, bottom, color=SUBSET_COLORS[name], linewidth=0)
            bottom += height
    unit = "series" if split.by_patient and not rows.duplicated(["patient", "sequence"]).any() else "slices"
    handles = [
        Patch(
            color=SUBSET_COLORS[name],
            label=f"{name}: {rows.loc[rows['subset'] == name, 'patient'].nunique()} patients, {(subset == name).sum()} {unit}",
        )
        for name in SUBSETS
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    ax.set_yticks(range(len(sequences)), sequences)
    ax.set_ylim(len(sequences) - 0.5, -0.5)
    ax.set_xlim(-0.7, len(order) - 0.3)
    if len(order) <= 40:
        ax.set_xticks(range(len(order)), [str(patient) for patient in order], rotation=90 if len(order) > 20 else 0)
        ax.set_xlabel("patient")
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{len(order)} patients")
    ax.grid(visible=False)
    shared = int((main > 0).sum(axis=1).gt(1).sum())
    ax.set_title(title or f"split '{split.name}': {shared} of {len(order)} patients in more than one subset")
    figure.caption = f"Patients by subset and sequence in split '{split.name}'; {shared} of {len(order)} are in more than one."
    return figure


_FINDINGS = {  # column of the table -> what is written under it
    "Modic": "Modic\nchange",
    "UP endplate": "upper\nendplate",
    "LOW endplate": "lower\nendplate",
    "Spondylolisthesis": "spondylo-\nlisthesis",
    "Disc herniation": "disc\nherniation",
    "Disc narrowing": "disc\nnarrowing",
    "Disc bulging": "disc\nbulging",
}


@styled
def gradings_heatmap(gradings: pd.DataFrame, title: str = "") -> CourseFigure:
    """Radiological gradings by level: number of discs of each Pfirrmann grade, and share of discs with each finding.

    Args:
        gradings: SPIDER's radiological_gradings.csv: "IVD label" (1 = L5/S1, upward), "Pfirrman grade" (1-5), and the findings
            (0 = none). Rows with IVD label 0, which belong to no disc, are left out.

    Raises:
        ValueError: a column is missing.
    """
    need_columns(gradings, ["IVD label", "Pfirrman grade", *_FINDINGS], "gradings_heatmap")
    discs = gradings[gradings["IVD label"] > 0]
    levels = sorted(discs["IVD label"].unique(), reverse=True)
    grouped = discs.groupby("IVD label")
    grades = pd.crosstab(discs["IVD label"], discs["Pfirrman grade"]).reindex(index=levels, columns=range(1, 6), fill_value=0)
    findings = grouped[list(_FINDINGS)].agg(lambda column: 100 * (column > 0).mean()).reindex(levels)
    names = [f"{disc_name(int(level))}  (n = {len(grouped.get_group(level))})" for level in levels]
    figure = new_figure(0.38 * len(levels) + 2.2, title)
    left, right = figure.subplots(1, 2, width_ratios=(5, 7), sharey=True)
    _draw_heatmap(left, grades.to_numpy(dtype=float), "number of discs by Pfirrmann grade", range(1, 6))
    _draw_heatmap(right, findings.to_numpy(dtype=float), "discs with the finding (%)", list(_FINDINGS.values()))
    right.tick_params(axis="x", labelsize=8)
    left.set_yticks(range(len(levels)), names)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: Pfirrmann grades and findings of {len(discs)} discs by level.".removeprefix(": ")
    return figure


def _draw_heatmap(ax: Axes, values: np.ndarray, title: str, columns: Sequence[object]) -> None:
    """A table of numbers, darker where larger, with every number written in."""
    ax.imshow(values, cmap="Blues", aspect="auto", vmin=0)
    dark = values > 0.6 * np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        ax.text(
            column, row, f"{value:.0f}", ha="center", va="center", fontsize=9, color="white" if dark[row, column] else "black"
        )
    ax.set_xticks(range(len(columns)), [str(column) for column in columns])
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=11)
