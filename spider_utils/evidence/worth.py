"""What phantoms are worth on real patients: the tables that are kept of it, and how many patients they save.

``data_manifest/measured`` keeps what `spider-kit weights ladder` and `spider-kit weights sizes` measured, because it takes real
patients and hours of training. So anybody can draw and question these numbers, and whoever has the data can measure them again.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spider_utils.data.manifest import manifest_folder
from spider_utils.errors import DataError
from spider_utils.evaluation.side_by_side import read_measured
from spider_utils.evaluation.statistics import FOREGROUND_NAME
from spider_utils.evidence.score import MEAN_COLUMNS

LADDER_FILE, SIZES_FILE = "sim_to_real.csv", "training_sizes.csv"
_NUMBERS = [column for column in MEAN_COLUMNS if column not in ("name", "metric")]
_COUNTS = ["n", "patients"]


def kept_ladder() -> pd.DataFrame:
    """Networks of phantoms alone on all real patients, as `spider-kit weights ladder` writes them.

    Returns:
        Rows of score.mean_scores: looks ("hospital" or "random"), phantoms (how many learned from), name, metric ("dice" or
        "asd_mm"), mean, std, low, high (95 % over patients), n, patients.

    Raises:
        DataError: the file is missing, no CSV, or is not of this form.
    """
    return _read(LADDER_FILE, "looks", ("hospital", "random"), "phantoms", "ladder")


def kept_sizes() -> pd.DataFrame:
    """Networks of few real patients, as `spider-kit weights sizes` writes them.

    Returns:
        Rows of score.mean_scores: start ("random" weights, or those of "phantoms"), learned (real patients in training), and
        the rest as for ``kept_ladder``.

    Raises:
        DataError: as kept_ladder.
    """
    return _read(SIZES_FILE, "start", ("random", "phantoms"), "learned", "sizes")


def _read(file: str, kind: str, kinds: tuple[str, ...], count: str, command: str) -> pd.DataFrame:
    """A kept table of scores by two groups, a name and a number of patients, checked."""
    path, fix = manifest_folder() / "measured" / file, f"Restore the committed file, or measure it: spider-kit weights {command}."
    table = read_measured(file, [kind, count, *MEAN_COLUMNS])
    for column in (count, *_NUMBERS):
        numbers = pd.to_numeric(table[column].replace("", "nan"), errors="coerce")
        wrong = numbers.isna() & ~(table[column].isin(["", "nan"]) & (column in ("std", "low", "high")))
        if wrong.any():
            raise DataError(path, f"holds '{table.loc[wrong, column].iloc[0]}' in column '{column}', not a number", fix)
        table[column] = numbers.astype(int) if column in (count, *_COUNTS) else numbers
    if strange := sorted(set(table[kind]) - set(kinds)):
        raise DataError(path, f"knows '{strange[0]}' in column '{kind}', which is none of {', '.join(kinds)}", fix)
    if missing := [one for one in kinds if one not in set(table[kind])]:
        raise DataError(path, f"has no row with '{missing[0]}' in column '{kind}'", fix)
    if table.duplicated([kind, count, "name", "metric"]).any():
        raise DataError(path, "holds a row twice", fix)
    return table


def patients_saved(sizes: pd.DataFrame, name: str = FOREGROUND_NAME) -> pd.DataFrame:
    """How many real patients a training from random weights needs to be as good as one that starts from phantoms.

    Between measured numbers of patients the Dice is taken along a straight line over their logarithm. Where the curve of random
    weights falls, its best value so far counts, as nobody is made to use the worse network.

    Args:
        sizes: of ``kept_sizes``.
        name: structure, or the mean over the foreground.

    Returns:
        A row a number of patients with phantoms: learned (patients), dice (mean), needed (patients from random weights; the end
        of what was measured where it lies beyond), limit ("" where it lies within; "more than" or "at most" that end), saved
        (needed - learned).

    Raises:
        ValueError: the table knows no Dice of this name.
    """
    rows = sizes[(sizes["metric"] == "dice") & (sizes["name"] == name)].sort_values("learned")
    curves = {start: rows[rows["start"] == start] for start in ("random", "phantoms")}
    if any(curve.empty for curve in curves.values()):
        raise ValueError(f"the table holds no Dice of '{name}' from both starts; it knows {', '.join(sizes['name'].unique())}")
    counts, dice = curves["random"]["learned"].to_numpy(float), np.maximum.accumulate(curves["random"]["mean"].to_numpy())
    found = []
    for learned, wanted in curves["phantoms"][["learned", "mean"]].itertuples(index=False):
        if wanted > dice[-1]:
            needed, limit = counts[-1], "more than"
        elif wanted < dice[0]:
            needed, limit = counts[0], "at most"
        else:
            k = int(np.argmax(dice >= wanted))  # the first that is as good
            share = 1.0 if k == 0 else (wanted - dice[k - 1]) / (dice[k] - dice[k - 1])
            needed, limit = counts[k] if k == 0 else counts[k - 1] ** (1 - share) * counts[k] ** share, ""
        found.append((int(learned), float(wanted), float(needed), limit, float(needed - learned)))
    return pd.DataFrame(found, columns=["learned", "dice", "needed", "limit", "saved"])
