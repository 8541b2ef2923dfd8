"""Figures of classifiers: confusion, ROC and reliability curves, predictions on pictures, and what speaks for them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from spider_utils.evaluation.classification import class_auc, confusion_counts, reliability, roc_curve
from spider_utils.view.plots import LINE_STYLES, PALETTE, WIDTH_IN, CourseFigure, new_figure, styled

_HEAT = "cividis"  # even in brightness, and the same to people with a colour vision deficiency


def _short(names: Sequence[str], width: int = 14) -> list[str]:
    return [textwrap.fill(name, width) for name in names]


@styled
def confusion_matrices(
    results: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], title: str = ""
) -> CourseFigure:
    """How often each class was called what, a panel a result; shades are shares of the true class, numbers are counts.

    Args:
        results: title -> (truth (n,), probabilities (n, classes)).
        names: of the classes.
        title: above all panels.
    """
    figure = new_figure(5.0, title)
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    said = []
    for place, (ax, (name, (truth, given))) in enumerate(zip(axes, results.items(), strict=True)):
        counts = confusion_counts(truth, given.argmax(axis=1), len(names))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shown = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(counts.shape):
            ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=9, color="white" if shares[i, j] > 0.55 else "black")
        ax.set_xticks(range(len(names)), _short(names), rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), _short(names, 18) if place == 0 else [""] * len(names), fontsize=8)
        ax.set(title=name, xlabel="predicted class")
        ax.grid(visible=False)
        said.append(f"{name} {np.trace(counts)} of {counts.sum()} right")
    axes[0].set_ylabel("true class")
    figure.colorbar(shown, ax=axes, label="share of the true class", shrink=0.7)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: confusion matrices; {'; '.join(said)}.".removeprefix(": ")
    return figure


@styled
def roc_curves(results: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], title: str = "") -> CourseFigure:
    """One class against the rest, a panel a result; classes that the truth does not hold have no curve.

    Args:
        results, names, title: as for ``confusion_matrices``.
    """
    figure = new_figure(5.8, title)
    axes = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    for ax, (name, (truth, given)) in zip(axes, results.items(), strict=True):
        for k, label in enumerate(names):
            if 0 < (truth == k).sum() < len(truth):
                area = class_auc(truth == k, given[:, k])
                ax.step(
                    *roc_curve(truth == k, given[:, k]), where="post", color=PALETTE[k % len(PALETTE)], linewidth=1.6,
                    linestyle=LINE_STYLES[k % len(LINE_STYLES)], label=f"{label} ({area:.2f})",
                )  # fmt: skip
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        ax.set(title=name, xlabel="share of the others called so", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), title="class (AUC)", title_fontsize=8)
    axes[0].set_ylabel("share of the class found")
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: ROC curves of each class against the rest; on the diagonal a score is chance.".removeprefix(": ")
    return figure


@styled
def reliability_curves(results: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> CourseFigure:
    """How sure a network was, and how often it was right; the area of a dot is the number of answers.

    Args:
        results: title -> (truth, probabilities).
        title: above the figure.
    """
    figure = new_figure(4.4, title)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, label="as often right as sure")
    for k, (name, (truth, given)) in enumerate(results.items()):
        table = reliability(truth, given)
        style = {"color": PALETTE[k % len(PALETTE)], "linestyle": LINE_STYLES[k % len(LINE_STYLES)]}
        ax.plot(table["confidence"], table["accuracy"], linewidth=1.5, label=name, **style)
        ax.scatter(table["confidence"], table["accuracy"], s=10 + 300 * table["n"] / len(truth), color=style["color"], alpha=0.6)
    ax.set(
        xlabel="mean confidence of the answers in a bin", ylabel="share of them that is right", xlim=(0, 1.06), ylim=(-0.02, 1.05)
    )
    ax.set_aspect("equal")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: reliability curves; below the diagonal a network is surer than it is right.".removeprefix(": ")
    return figure


@styled
def picture_row(
    pictures: Sequence[tuple[np.ndarray, str]], title: str = "", columns: int = 4, heat: Sequence[np.ndarray] | None = None
) -> CourseFigure:
    """Pictures with a line of text above each, and a heat map over them where there is one.

    Args:
        pictures: (gray (rows, columns), text).
        title: above all.
        columns: in a row of the figure.
        heat: a map for each picture, same size, 0 or more (Grad-CAM); each is scaled to its own highest value.
    """
    lines = -(-len(pictures) // columns)
    texts = [textwrap.fill(text, 120 // columns) for _, text in pictures]
    ratio = max(picture.shape[0] / picture.shape[1] for picture, _ in pictures)
    height = min(WIDTH_IN / columns * ratio, 3.2) + 0.16 * (1 + max(text.count("\n") + 1 for text in texts))
    figure = new_figure(height * lines + (0.4 if title else 0), title)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for k, (ax, (picture, _), text) in enumerate(zip(axes, pictures, texts, strict=False)):
        ax.imshow(picture, cmap="gray", interpolation="nearest")
        if heat is not None and heat[k].max() > 0:
            share = heat[k] / heat[k].max()
            ax.imshow(share, cmap=_HEAT, alpha=0.6 * share, vmin=0, vmax=1)
        ax.set_title(text, fontsize=9)
    if title:
        figure.suptitle(title)
    figure.caption = f"{title}: {'; '.join(text for _, text in pictures)}.".removeprefix(": ").replace("\n", " ")
    return figure
