"""The figure of what the networks that come with the kit are worth, from their cards."""

from __future__ import annotations

import pandas as pd

from spider_utils.evaluation.published import printed_rows
from spider_utils.evidence.score import AS_SERIES, SHOWN
from spider_utils.models.shipped import shipped
from spider_utils.training.checkpoints import read_card
from spider_utils.view.plots import PALETTE, CourseFigure, bar_with_intervals

STRUCTURES = ("vertebra", "spinal canal", "disc")
PRINTED = "ahmed_table2"  # of the same slices
OTHERS = "{}'s recipe, 5-fold: other patients"
RESULTS = {"spider-2d": OTHERS, "spider": OTHERS, "phantom": "{}: phantoms alone"}  # by what it learned from
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
