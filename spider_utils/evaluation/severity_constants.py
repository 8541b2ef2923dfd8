"""Severities guessed without a picture: the constants that score best on known studies, as a floor for networks.

A network that learned no more than how frequent each severity is scores like these. They are fitted to the challenge's own score
(see weighted_log_loss): a mean of three groups of conditions, of which each counts as much as the others however many rows it
has, and of the question whether a study's canal is severely narrow anywhere, answered by the highest probability of its levels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.evaluation.weighted_log_loss import GROUPS, PROBABILITIES, WEIGHTS

_HIGHEST = np.arange(1, 1000) / 1000  # tried for the canal's highest probability of severe


def best_constants(known: pd.DataFrame, labels: pd.DataFrame, by_place: bool = False) -> pd.DataFrame:
    """The constant probabilities of each severity that score best on known studies.

    One of each severity is added to the counts, so that none is thought impossible. One set for all places has a closed form, as
    its probability of severe is also every study's highest. By place, foramina and recesses score best where p(k) is proportional
    to weight x count of k. The canal's levels answer for their study too, by their highest probability of severe: for each of 999
    values of it, a level keeps its own best probability where that is lower, and the best of the 999 is taken. That is the
    optimum (to 0.001) where every known study has all levels of the canal, and close to it elsewhere.

    Args:
        known: study, condition, level and grade (0, 1, 2) of training studies; labels that come several times count once.
        labels: study, condition, level of what is predicted.
        by_place: a set for each group of conditions (left and right together) and level; else one set for all.

    Returns:
        ``labels`` with one column a severity (PROBABILITIES); 1/3 each at a place that ``known`` lacks.
    """
    known = known.drop_duplicates(["study", "condition", "level"])
    known = known.assign(place=_places(known, by_level=by_place), canal=_groups(known) == "spinal")
    counts = pd.crosstab(known["place"], known["grade"]).reindex(columns=range(len(WEIGHTS)), fill_value=0)
    weighted = (counts + 1) * np.asarray(WEIGHTS)
    canal = known[known["canal"]]
    if by_place:
        places = weighted.index.intersection(canal["place"].unique())
        shares = weighted.div(weighted.sum(axis=1), axis=0)
        if len(places):
            shares.loc[places] = _best_of_canal(weighted.loc[places].to_numpy(), canal, places)
        given = shares.reindex(_places(labels, by_level=True)).fillna(1 / len(WEIGHTS)).to_numpy()
    else:
        given = np.tile(_best_of_all(weighted.to_numpy(), canal), (len(labels), 1))
    return labels.reset_index(drop=True).assign(**dict(zip(PROBABILITIES, given.T, strict=True)))


def _groups(table: pd.DataFrame) -> pd.Series:
    """The name of each row's group of conditions."""
    words = {words: name for name, words in GROUPS.items()}
    return table["condition"].str.replace("^(left|right)_", "", regex=True).map(words)


def _places(table: pd.DataFrame, by_level: bool) -> pd.Series:
    """What a set of constants is for: group, or group and level."""
    return _groups(table) + (" " + table["level"] if by_level else "")


def _severe_studies(canal: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Of each study with a canal, by its number: whether it is severely narrow anywhere, and the study's weight."""
    heaviest = canal.groupby("study")["grade"].max().to_numpy(int)
    return heaviest == 2, np.asarray(WEIGHTS)[heaviest]


def _best_of_all(weighted: np.ndarray, canal: pd.DataFrame) -> np.ndarray:
    """(3,) one set for all groups; ``weighted`` (groups, 3) weight x count."""
    sums = (weighted / weighted.sum(axis=1, keepdims=True)).sum(axis=0)  # each group counts alike
    severe, weight = _severe_studies(canal)
    share = weight[severe].sum() / weight.sum() if len(canal) else 0.0
    chance = (sums[2] + share) / (sums.sum() + bool(len(canal)))
    return np.array([*(1 - chance) * sums[:2] / sums[:2].sum(), chance])


def _best_of_canal(weighted: np.ndarray, canal: pd.DataFrame, places: pd.Index) -> np.ndarray:
    """(levels, 3) sets for the canal; ``weighted`` (levels, 3) weight x count at ``places``."""
    own = weighted[:, 2] / weighted.sum(axis=1)
    tried = [np.minimum(own, highest) for highest in _HIGHEST]
    for highest in _HIGHEST[_HIGHEST > own.max()]:  # one level alone must be raised to it
        tried += [np.where(np.arange(len(own)) == k, highest, own) for k in range(len(own))]
    chances = np.array(tried)
    at_level = -weighted[:, 2] * np.log(chances) - weighted[:, :2].sum(axis=1) * np.log(1 - chances)
    severe, weight = _severe_studies(canal)
    has = pd.crosstab(canal["study"], canal["place"]).reindex(columns=places).to_numpy() > 0  # studies in the same order
    of_study = np.zeros(len(chances))
    for there, truth, heavy in zip(has, severe, weight, strict=True):
        top = chances[:, there].max(axis=1)
        of_study -= heavy * np.log(top if truth else 1 - top)
    best = chances[np.argmin(at_level.sum(axis=1) / weighted.sum() + of_study / weight.sum())]
    rest = weighted[:, :2] / weighted[:, :2].sum(axis=1, keepdims=True)
    return np.column_stack([rest * (1 - best)[:, None], best])
