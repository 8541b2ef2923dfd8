"""Figures of what the networks that come with the kit are worth: from their cards, and by how far two of them agree."""

from __future__ import annotations

import pandas as pd

from spider_utils.data.centres import CENTRE_SETS
from spider_utils.evaluation.published import printed_rows
from spider_utils.evidence.score import AS_SERIES, RELEASED, SHOWN
from spider_utils.masks import LOW_AGREEMENT
from spider_utils.models.shipped import shipped
from spider_utils.training.checkpoints import read_card
from spider_utils.view.plots import PALETTE, CourseFigure, bar_with_intervals, new_figure, styled

STRUCTURES = ("vertebra", "spinal canal", "disc")
PRINTED = "ahmed_table2"  # of the same slices
OTHERS = "{}'s recipe, 5-fold: other patients"
RESULTS = {"spider-2d": OTHERS, "spider": OTHERS, "phantom": "{}: phantoms alone"}  # by what it learned from
SET_LABELS = {RELEASED: "T2_SPACE slices, other folds' patients"} | {
    one.name: f"{one.name}, {one.sequence}" for one in CENTRE_SETS
}
TITLE = "The networks of the kit on 30 real patients whom they had not seen"


def shipped_scores() -> pd.DataFrame:
    """Dice on real patients, as the cards of the shipped networks tell: of one that learned from patients, that of the networks
    of its recipe's folds, each on patients whom it had not seen.

    Returns:
        network, kind (of data, as in its card), shown (how slices were shown), name (STRUCTURES), mean, low, high (95 % over
        patients), patients.
    """
    tables = []
    for network, folder in shipped().items():
        card = read_card(folder)
        rows = pd.DataFrame(card["measured"])
        chosen = (rows["metric"] == "dice") & rows["name"].isin(STRUCTURES) & rows["shown"].isin(SHOWN)
        tables.append(rows[chosen].assign(network=network, kind=card["data"]["kind"]))
    found = pd.concat(tables, ignore_index=True)
    return found[["network", "kind", "shown", "name", "mean", "low", "high", "patients"]]


def shipped_dice() -> CourseFigure:
    """Bars of ``shipped_scores``, as series, beside what `ahmed` prints for the same slices with unknown patients."""
    rows = printed_rows(PRINTED)
    means = [float(rows[f"t2_SPACE {name}"].cells["dice"].value) for name in STRUCTURES]
    tables = [pd.DataFrame({"result": "printed by ahmed, patients unknown", "name": STRUCTURES, "mean": means})]
    found = shipped_scores()
    found = found[found["shown"] == AS_SERIES]
    for (kind, network), part in sorted(
        found.groupby(["kind", "network"]), key=lambda one: (one[0][0] == "phantom", one[0][0] != "spider-2d")
    ):
        tables.append(part.assign(result=RESULTS[kind].format(network)))
    table = pd.concat(tables, ignore_index=True)
    colors = dict(zip(table["result"].unique(), ("0.75", *PALETTE), strict=False))
    xlabel = "Dice with 95 % interval over patients (none printed)"
    figure = bar_with_intervals(table, "name", "result", xlabel, TITLE, colors)
    figure.legends[0].set_title(None)
    return figure


@styled
def agreement_against_dice(table: pd.DataFrame) -> CourseFigure:
    """Each image by how far two networks agree on it and by what their mask is worth; a color a set.

    Args:
        table: ``set``, ``agreement`` and ``dice``, as evidence.trust has them; rows with a NaN are left out.

    Raises:
        ValueError: fewer than three rows are left.
    """
    table = table.dropna(subset=["agreement", "dice"])
    if len(table) < 3:
        raise ValueError(f"there is too little to draw: {len(table)} images with both an agreement and a Dice")
    title = "How far two networks agree, and what their mask is worth"
    figure = new_figure(6.2, title)
    ax = figure.subplots()
    for number, (name, rows) in enumerate(table.groupby("set", sort=False)):
        color, marker = PALETTE[number % len(PALETTE)], "os^Dv*P"[number % 7]
        label = f"{SET_LABELS.get(name, name)} ({len(rows)})"
        ax.scatter(rows["agreement"], rows["dice"], s=34, color=color, marker=marker, alpha=0.8, linewidths=0, label=label)
    ax.axvline(LOW_AGREEMENT, color="0.4", linestyle="--", linewidth=1.2)
    ax.annotate(
        "predict warns below", (LOW_AGREEMENT, 0.02), xycoords=("data", "axes fraction"), xytext=(-4, 0),
        textcoords="offset points", ha="right", color="0.3", fontsize=9,
    )  # fmt: skip
    ax.set(title=title, xlabel="agreement of levels20 and structures4 (mean Dice of the one with the other)")
    ax.set(ylabel="Dice of their mask with the truth", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    rho = table["agreement"].corr(table["dice"], "spearman")
    figure.caption = (
        f"{len(table)} images, a point each: agreement of two networks across, Dice with the truth upward. "
        f"Spearman's correlation is {rho:.2f}. Left of the dashed line at {LOW_AGREEMENT:g} predict warns."
    )
    return figure
