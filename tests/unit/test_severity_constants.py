"""Constants fitted to the challenge's score: by hand, and against a general optimiser on the score itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from spider_utils.data.rsna_tables import CONDITIONS, LEVELS
from spider_utils.evaluation.severity_constants import best_constants
from spider_utils.evaluation.weighted_log_loss import PROBABILITIES, weighted_log_loss

KEYS = ["study", "condition", "level"]
CANAL, FORAMEN = "spinal_canal_stenosis", "left_neural_foraminal_narrowing"


def studies(n: int) -> pd.DataFrame:
    """Labels of ``n`` whole studies; the lower the level, the worse, and the canal's are bad together."""
    rng = np.random.default_rng(0)
    keys = pd.MultiIndex.from_product([range(n), CONDITIONS, LEVELS], names=KEYS).to_frame(index=False)
    level = keys["level"].map(LEVELS.index).to_numpy()
    ill = 0.5 * rng.normal(size=n)[keys["study"]] + 0.5 * rng.normal(size=len(keys)) + 0.15 * level
    return keys.assign(grade=(ill > 0.7).astype(int) + (ill > 1.2))


def test_one_set_by_hand():
    """Counts and one more of each: canal 3, 2, 2, foramen 3, 2, 1, so 3, 4, 8 of 15 and 3, 4, 4 of 11 when weighed. One of two
    studies is severe and weighs 4, the other 2. Severe: (8/15 + 4/11 + 4/6) / 3; the rest by (3/15 + 3/11) to (4/15 + 4/11)."""
    rows = [(1, CANAL, "l1_l2", 0), (1, CANAL, "l2_l3", 2), (2, CANAL, "l1_l2", 0), (2, CANAL, "l2_l3", 1)]
    rows += [(1, FORAMEN, "l1_l2", 0), (1, FORAMEN, "l2_l3", 0), (2, FORAMEN, "l1_l2", 1)]
    known = pd.DataFrame(rows, columns=[*KEYS, "grade"])
    severe = (8 / 15 + 4 / 11 + 4 / 6) / 3
    wanted = [(1 - severe) * 3 / 7, (1 - severe) * 4 / 7, severe]
    labels = pd.DataFrame([(9, "right_subarticular_stenosis", "l5_s1")], columns=KEYS, index=[7])
    assert best_constants(known, labels)[list(PROBABILITIES)].to_numpy()[0] == pytest.approx(wanted)
    twice = pd.concat([known, known.iloc[[2]]])  # a label with two points
    assert best_constants(twice, labels)[list(PROBABILITIES)].to_numpy()[0] == pytest.approx(wanted)


def test_by_place_by_hand():
    rows = [(k, FORAMEN, "l1_l2", grade) for k, grade in enumerate([0, 0, 0, 1, 1, 2])]
    rows += [(7, FORAMEN.replace("left", "right"), "l4_l5", 1)]
    known = pd.DataFrame(rows, columns=[*KEYS, "grade"])
    labels = pd.DataFrame([(9, "right_neural_foraminal_narrowing", "l1_l2"), (9, CANAL, "l1_l2")], columns=KEYS)
    found = best_constants(known, labels, by_place=True)
    # One more of each: 4, 3, 2; times 1, 2, 4: 4, 6, 8.
    assert found.loc[0, list(PROBABILITIES)].tolist() == pytest.approx([4 / 18, 6 / 18, 8 / 18])
    assert found.loc[1, list(PROBABILITIES)].tolist() == pytest.approx([1 / 3] * 3), "nothing is known of the canal"


def free_score(known: pd.DataFrame, logits: np.ndarray, place: np.ndarray) -> float:
    """The challenge's score of constants given as (places, 2) logits against Normal/Mild."""
    odds = np.exp(np.column_stack([np.zeros(len(logits) // 2), logits.reshape(-1, 2)]))
    given = (odds / odds.sum(axis=1, keepdims=True))[place]
    return weighted_log_loss(known, known[KEYS].assign(**dict(zip(PROBABILITIES, given.T, strict=True)))).mean


def test_one_set_is_what_an_optimiser_finds():
    known = studies(300)
    ours = weighted_log_loss(known, best_constants(known, known[KEYS])).mean
    place = np.zeros(len(known), int)
    free = minimize(lambda logits: free_score(known, logits, place), np.zeros(2), method="BFGS", options={"gtol": 1e-4})
    assert ours == pytest.approx(free.fun, abs=1e-4)


def test_by_place_no_change_of_one_place_scores_better():
    known = studies(300)
    given = best_constants(known, known[KEYS], by_place=True)
    ours = weighted_log_loss(known, given).mean
    assert ours < weighted_log_loss(known, best_constants(known, known[KEYS])).mean - 0.01
    for level in LEVELS:
        at = (known["condition"] == CANAL).to_numpy() & (known["level"] == level).to_numpy()
        for name in PROBABILITIES:
            for factor in (0.8, 0.95, 1.05, 1.25):
                other = given.copy()
                other.loc[at, name] *= factor  # rows are divided by their sum
                assert weighted_log_loss(known, other).mean > ours - 1e-4
    alone = given.copy()  # the canal's levels each by themselves
    canal = (known["condition"] == CANAL).to_numpy()
    shares = pd.crosstab(known["level"][canal], known["grade"][canal]) * [1, 2, 4]
    shares = shares.div(shares.sum(axis=1), axis=0)
    alone.loc[canal, list(PROBABILITIES)] = shares.loc[known.loc[canal, "level"]].to_numpy()
    assert weighted_log_loss(known, alone).mean > ours + 1e-3
