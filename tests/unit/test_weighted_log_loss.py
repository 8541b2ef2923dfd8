"""The challenge's score against values worked out by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from spider_utils.data.rsna_tables import CONDITIONS, LEVELS
from spider_utils.errors import KitError
from spider_utils.evaluation.weighted_log_loss import PROBABILITIES, WEIGHTS, score_difference, score_interval, weighted_log_loss

KEYS = ["study", "condition", "level"]


def table(rows: list[tuple]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(labels, predictions) from (study, condition, level, grade, three probabilities)."""
    frame = pd.DataFrame(rows, columns=[*KEYS, "grade", *PROBABILITIES])
    return frame[[*KEYS, "grade"]], frame.drop(columns="grade")


HAND = [
    (1, "spinal_canal_stenosis", "l4_l5", 0, 0.5, 0.25, 0.25),
    (1, "spinal_canal_stenosis", "l5_s1", 2, 0.25, 0.25, 0.5),
    (2, "spinal_canal_stenosis", "l4_l5", 1, 0.25, 0.5, 0.25),
    (1, "left_neural_foraminal_narrowing", "l4_l5", 0, 0.5, 0.5, 0.0),
    (2, "right_neural_foraminal_narrowing", "l4_l5", 1, 0.75, 0.25, 0.0),
    (1, "left_subarticular_stenosis", "l4_l5", 2, 0.75, 0.125, 0.125),
]


def test_by_hand():
    """With ln 2 = u: spinal (1u + 4u + 2u) / 7; foraminal (1u + 2 * 2u) / 3; subarticular 3u; study 1 is severe with
    probability 1/2 and weighs 4, study 2 is not, with 3/4, and weighs 2."""
    u = math.log(2)
    found = weighted_log_loss(*table(HAND))
    assert found.spinal == pytest.approx(u)
    assert found.foraminal == pytest.approx(5 * u / 3)
    assert found.subarticular == pytest.approx(3 * u)
    any_severe = (4 * u - 2 * math.log(0.75)) / 6
    assert found.any_severe_spinal == pytest.approx(any_severe)
    assert found.mean == pytest.approx((u + 5 * u / 3 + 3 * u + any_severe) / 4)
    assert found.rows == 6
    third = weighted_log_loss(*table(HAND), any_severe_weight=3.0)
    assert third.mean == pytest.approx((u + 5 * u / 3 + 3 * u + 3 * any_severe) / 6)


def test_shares_of_the_classes_as_a_constant_guess():
    """All rows 1/3 each: ln 3 in every group, and for "any severe" ln 3 (severe) or ln 1.5 (not)."""
    labels, predictions = table([(*row[:4], 1.0, 1.0, 1.0) for row in HAND])
    found = weighted_log_loss(labels, predictions)
    assert found.spinal == pytest.approx(math.log(3)) == found.foraminal == found.subarticular
    assert found.any_severe_spinal == pytest.approx((4 * math.log(3) + 2 * math.log(1.5)) / 6)


def test_rows_without_a_severity_and_the_order_of_rows_change_nothing():
    labels, predictions = table(HAND)
    more, extra = table([(7, "spinal_canal_stenosis", "l1_l2", np.nan, 0.1, 0.1, 0.8)])
    shuffled = pd.concat([extra, predictions.sample(frac=1, random_state=3)])
    assert weighted_log_loss(pd.concat([labels, more]), shuffled) == weighted_log_loss(labels, predictions)


def test_certain_and_wrong_is_dear_but_finite():
    labels, predictions = table([*HAND[:5], (1, "left_subarticular_stenosis", "l4_l5", 2, 1.0, 0.0, 0.0)])
    assert weighted_log_loss(labels, predictions).subarticular == pytest.approx(-math.log(np.finfo(float).eps))


def random_case(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    keys = pd.MultiIndex.from_product([range(40), CONDITIONS, LEVELS], names=KEYS).to_frame(index=False)
    labels = keys.assign(grade=rng.choice([0, 1, 2, np.nan], len(keys), p=[0.7, 0.15, 0.1, 0.05]))
    chances = pd.DataFrame(rng.dirichlet((2, 1, 1), len(keys)), columns=PROBABILITIES)
    return labels, pd.concat([keys, chances], axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_against_scikit_learn(seed):
    labels, predictions = random_case(seed)
    found = weighted_log_loss(labels, predictions)
    both = labels.merge(predictions, on=KEYS).dropna()
    weight = both["grade"].map(dict(enumerate(WEIGHTS)))
    for name in ("spinal", "foraminal", "subarticular"):
        rows = both["condition"].str.contains(name)
        wanted = metrics.log_loss(
            both.loc[rows, "grade"].astype(int), both.loc[rows, list(PROBABILITIES)], sample_weight=weight[rows], labels=[0, 1, 2]
        )
        assert getattr(found, name) == pytest.approx(wanted, rel=1e-12)
    spinal = both[both["condition"].str.contains("spinal")].assign(weight=weight)
    study = spinal.assign(truth=spinal["grade"] == 2).groupby("study")[["truth", "severe", "weight"]].max()
    wanted = metrics.log_loss(study["truth"].astype(int), study["severe"], sample_weight=study["weight"])
    assert found.any_severe_spinal == pytest.approx(wanted, rel=1e-12)


def test_what_cannot_be_scored_is_refused():
    labels, predictions = table(HAND)
    with pytest.raises(ValueError, match="1 labels have no prediction, such as 1, left_subarticular_stenosis, l4_l5"):
        weighted_log_loss(labels, predictions[:5])
    with pytest.raises(ValueError, match="1 predictions come twice, such as 1, spinal_canal_stenosis, l4_l5"):
        weighted_log_loss(labels, pd.concat([predictions, predictions[:1]]))
    with pytest.raises(KitError, match="no label of 'subarticular_stenosis'"):
        weighted_log_loss(labels[:5], predictions)
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="probabilities must be finite"):
            weighted_log_loss(labels, predictions.assign(severe=wrong))
    with pytest.raises(ValueError, match="not all 0 in a row"):
        weighted_log_loss(labels, predictions.assign(**dict.fromkeys(PROBABILITIES, 0.0)))


def test_a_difference_is_paired_over_studies():
    labels, predictions = random_case(0)
    others = predictions.assign(normal_mild=0.8, moderate=0.15, severe=0.05)
    difference, low, high = score_difference(labels, predictions, others)
    assert difference == pytest.approx(weighted_log_loss(labels, predictions).mean - weighted_log_loss(labels, others).mean)
    assert low < difference < high
    back = score_difference(labels, others, predictions)
    assert back == pytest.approx((-difference, -high, -low))
    # A prediction that is a bit worse everywhere: far apart in pairs, though the two intervals overlap.
    chances = predictions[list(PROBABILITIES)].to_numpy()
    flatter = predictions.assign(**dict(zip(PROBABILITIES, (0.97 * chances + 0.03 * (1 - chances) / 2).T, strict=True)))
    difference, low, high = score_difference(labels, predictions, flatter)
    mine, theirs = score_interval(labels, predictions), score_interval(labels, flatter)
    assert high - low < 0.5 * (mine[1] - mine[0]) and mine[0] < theirs[1] and theirs[0] < mine[1]
    assert score_difference(labels, predictions, predictions) == (0, 0, 0)


def test_a_difference_drawn_by_hand():
    """Two studies: of the resamples, a quarter holds the first alone, a quarter the second alone, one half both."""
    rows = [(study, condition, "l4_l5", 0, 0.5, 0.25, 0.25) for study in (1, 2) for condition in CONDITIONS]
    labels, half = table(rows)
    quarter = half.assign(normal_mild=0.25, moderate=0.5).where(half["study"] == 1, half)
    difference, low, high = score_difference(labels, quarter, half)
    # Study 1 loses ln 2 in three of four parts, study 2 nothing.
    assert (difference, low, high) == pytest.approx((0.375 * math.log(2), 0, 0.75 * math.log(2)))
    one = labels["study"] == 1
    assert np.isnan(score_difference(labels[one], quarter, half)[1:]).all(), "no spread of one study"
