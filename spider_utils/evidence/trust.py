"""Whether two networks' agreement tells what a mask is worth: measured where there is truth, for images where there is none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.volumes import Volume
from spider_utils.ensemble.pooling import NetworkAgreement
from spider_utils.evaluation.centres import ANNOTATED, score_centres
from spider_utils.evidence.recipe import N_FOLDS, Kitchen
from spider_utils.evidence.score import RELEASED, fold_predictor, in_classes
from spider_utils.masks import LOW_AGREEMENT
from spider_utils.predict import PooledPredictor, Track, VolumePredictor

BANDS = (0.0, 0.5, 0.7, LOW_AGREEMENT, 0.9)  # of agreement, from this to the next
KEYS = ["set", "case", "patient"]
TRUST_COLUMNS = (*KEYS, "agreement", "dice")


@dataclass
class _Listening(VolumePredictor):
    """A network that asks another one; keeps how far both agreed on each volume, in the order of asking."""

    member: PooledPredictor
    found: list[NetworkAgreement] = field(default_factory=list)

    @property
    def scheme(self) -> str:  # type: ignore[override]
        return self.member.scheme

    @property
    def own_votes(self) -> float:
        return self.member.own_votes

    def predict_volume(self, volume: Volume, track: Track | None = None) -> Volume:
        """As VolumePredictor says."""
        mask, agreement = self.member.with_agreement(volume, track)
        self.found.append(agreement)
        return mask


def on_patients(kitchen: Kitchen) -> pd.DataFrame:
    """Agreement and Dice of all patients with released slices as series, each by the two networks of the fold that tests on him.

    Returns:
        TRUST_COLUMNS, a row a series: ``agreement`` as NetworkAgreement.mean, ``dice`` the mean over structures.
    """
    tables = []
    for number in range(N_FOLDS):
        split, predictor = fold_predictor(kitchen, number)
        asked = _Listening(predictor)
        scores, _ = kitchen.real.measure(in_classes(asked), split)
        tables.append(_rows(scores.assign(set=RELEASED), asked.found))
    return pd.concat(tables, ignore_index=True)


def on_centres(root: str | Path, predictor: PooledPredictor) -> pd.DataFrame:
    """The same of the sets of other centres that lie below a folder: Dice of what their truth annotates (see evaluation.centres).

    Raises:
        DataError: none of the sets is there, or a file of one is not as it should be.
    """
    asked = _Listening(replace(predictor, whole_parts=False))
    scores, _ = score_centres(root, asked.predict_volume, predictor.scheme, own_votes=predictor.own_votes)
    return _rows(scores[scores["scope"] == ANNOTATED], asked.found)


def _rows(scores: pd.DataFrame, found: list[NetworkAgreement]) -> pd.DataFrame:
    """Scores of structures as those of series, in the order in which these were asked for, with the agreement of each."""
    table = scores.groupby(KEYS, sort=False, dropna=False)["dice"].mean().reset_index()
    if len(table) != len(found):
        raise ValueError(f"{len(found)} images were drawn and {len(table)} scored")
    return table.assign(agreement=[one.mean() for one in found])[[*TRUST_COLUMNS]]


def rank_correlation(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of agreement with Dice.

    Returns:
        set (the last row: "all" of them), images, agreement and dice (means), rho; NaN of fewer than three. Images without an
        agreement or a Dice are left out.
    """
    table = table.dropna(subset=["agreement", "dice"])
    parts = [*table.groupby("set", sort=False), ("all", table)]
    return pd.DataFrame(
        [
            {
                "set": name,
                "images": len(rows),
                "agreement": rows["agreement"].mean(),
                "dice": rows["dice"].mean(),
                "rho": rows["agreement"].corr(rows["dice"], "spearman", min_periods=3),
            }
            for name, rows in parts
        ]
    )


def by_band(table: pd.DataFrame) -> pd.DataFrame:
    """What masks are worth by how far the networks agreed.

    Returns:
        agreement (of BANDS, in words; only those that occur), images, and their mean, lowest and highest dice.
    """
    names = [*(f"{low:g} to {high:g}" for low, high in pairwise(BANDS)), f"{BANDS[-1]:g} and more"]
    bands = pd.cut(table["agreement"], [*BANDS, np.inf], right=False, labels=names)
    found = table.groupby(bands, observed=True)["dice"].agg(images="count", dice="mean", lowest="min", highest="max")
    return found.reset_index().astype({"agreement": str})
