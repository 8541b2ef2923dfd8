"""Are levels named right? Which number a prediction gives each vertebra and each disc that the truth numbers.

Two ways to come to names, as in ``measure.levels.name_levels``:

``own``
    a network that draws levels knows them by sight. Its masks are taken as ``spider-kit predict`` gives them, one number a part.
``lowest``
    parts are counted from the lowest one in view, whatever draws them: the way of networks that draw classes alone. Of a
    network with levels only the classes are used, so both ways start from the same pixels.

A part is what the truth marks of one vertebra or disc. Its name is the number that most of the predicted pixels of its kind
inside it have: pixels beside it, and how well its outline is drawn, do not count. Shape and outline are what Dice is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.centres import CENTRE_SETS
from spider_utils.data.volumes import Volume
from spider_utils.evaluation.prevalence import share_interval
from spider_utils.labels import DISC, VERTEBRA, convert
from spider_utils.measure.levels import NoLevelsError, name_levels, one_level_a_part

OWN, LOWEST = "own", "lowest"
FOUND_SHARE = 0.2  # of a true part that is drawn as its kind: less is not found, and has no name
NAME_COLUMNS = ("set", "case", "patient", "count_from", "component", "level", "found", "right", "shift")

_COMPONENTS = {VERTEBRA: "vertebra", DISC: "disc"}


def names_path(out: str | Path) -> Path:
    """Where the names of the table at ``out`` lie: "scores.csv" -> "scores_names.csv"."""
    out = Path(out)
    return out.with_name(f"{out.stem}_names.csv")


def own_names(drawn: Volume, scheme: str, own_votes: float = 1.0) -> np.ndarray:
    """A network's own levels, one number a part, in ``spider``: uint8 of the mask's shape.

    Args:
        drawn: as the network draws it, voxel by voxel.
        scheme: of its labels; one of measure.levels.SCHEMES_WITH_LEVELS.
        own_votes: see measure.levels.one_level_a_part; that of the predictor.
    """
    return convert(one_level_a_part(drawn.array, drawn.spacing, scheme, own_votes), scheme, "spider")


def counted_names(drawn: Volume, scheme: str) -> np.ndarray:
    """Levels counted from the lowest part in view, in ``spider``: uint8 of the mask's shape; 0 where nothing can be numbered.

    Args:
        drawn: as for own_names.
        scheme: of its labels; any that can be converted to ``structures4``.
    """
    classes, spacing = drawn.with_array(convert(drawn.array, scheme, "structures4")).squeezed()
    try:
        return name_levels(classes, spacing).mask.reshape(drawn.array.shape)
    except NoLevelsError:
        return np.zeros(drawn.array.shape, np.uint8)


def score_names(truth: np.ndarray, named: np.ndarray, found_share: float = FOUND_SHARE) -> pd.DataFrame:
    """The number that each true part has in a prediction.

    Args:
        truth, named: integers of ``spider``, of one shape. Of a vertebra that is said to be cut (101-125) the number counts.
        found_share: least share of a part's pixels that must be drawn as its kind (vertebra or disc, whatever number).

    Returns:
        A row a part, vertebrae first, from below: component ("vertebra" or "disc"), level (1 = L5, or L5/S1), found (the level
        that most pixels of its kind inside it have, the lower one of two with as many; <NA> when the part was not found), right
        (whether the two agree) and shift (found - level: 1 when L5 is called L4), both <NA> as well.

    Raises:
        ValueError: shapes differ, or a value is none of ``spider``.
    """
    if truth.shape != named.shape:
        raise ValueError(f"truth and prediction must have one shape, not {truth.shape} and {named.shape}")
    kinds, drawn_kinds = (convert(mask, "spider", "structures4") for mask in (truth, named))
    rows = []
    for kind, component in _COMPONENTS.items():
        levels, drawn = truth % 100, drawn_kinds == kind
        for level in np.unique(levels[kinds == kind]).tolist():
            part = (kinds == kind) & (levels == level)
            votes = np.bincount(named[part & drawn] % 100)
            enough = votes.sum() >= found_share * part.sum() and votes.any()
            rows.append({"component": component, "level": level, "found": int(votes.argmax()) if enough else None})
    table = pd.DataFrame(rows, columns=["component", "level", "found"]).astype({"level": "Int64", "found": "Int64"})
    shift = table["found"] - table["level"]
    return table.assign(right=shift == 0, shift=shift)


def summarise_names(table: pd.DataFrame) -> pd.DataFrame:
    """How many parts were found and named right, and in how many patients all are right, or all one level off.

    Args:
        table: NAME_COLUMNS, the rows of score_names of all cases.

    Returns:
        A row a set, way to count, unit and quantity: set, count_from, unit, quantity, count, n, share (count / n), low, high
        (95 %) and drawn (the patients, or series where patients are unknown, that the bootstrap draws; see
        evaluation.prevalence for shares of 0 and 1). Quantities: of parts "found", and of those found "named right"; of patients
        or series "all right", "all one too high", "all one too low" and "none right" (which holds the two before it), n being
        those with a part that was found. Where these have several cases, each of which is named by itself, the last four stand
        there of cases too.
    """
    one_of = {one.name: "patient" if one.patients_known else "series" for one in CENTRE_SETS}
    rows = []
    for (name, count_from), group in table.groupby(["set", "count_from"], sort=False):
        for unit, quantity, hits, patients in _quantities(group):
            share = float(hits.mean()) if len(hits) else float("nan")
            low, high = share_interval(hits, patients)
            drawn = one_of.get(name, "patient")
            rows.append(
                {"set": name, "count_from": count_from, "unit": drawn if unit == "patient" else unit, "quantity": quantity,
                 "count": int(hits.sum()), "n": len(hits), "share": share, "low": low, "high": high,
                 "drawn": f"{len(set(patients.tolist()))} {drawn}{'s' if drawn == 'patient' else ''}"}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _quantities(table: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(unit, quantity, hits, patients) of the rows of one set and way to count."""
    is_found = table["found"].notna().to_numpy(bool)
    yield "part", "found", is_found, table["patient"].to_numpy()
    found = table[is_found]
    yield "part", "named right", found["right"].to_numpy(bool), found["patient"].to_numpy()
    units = ["patient"] if table["case"].nunique() == table["patient"].nunique() else ["case", "patient"]
    for unit in units:
        wholes = found.groupby(unit, sort=False)
        patients, lowest, highest = wholes["patient"].first(), wholes["shift"].min(), wholes["shift"].max()
        for quantity, shift in (("all right", 0), ("all one too high", 1), ("all one too low", -1)):
            yield unit, quantity, ((lowest == shift) & (highest == shift)).to_numpy(bool), patients.to_numpy()
        yield unit, "none right", ~wholes["right"].any().to_numpy(bool), patients.to_numpy()
