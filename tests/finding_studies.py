"""Small sets in the challenge's layout for the tests of classification."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from spider_utils.data.rsna import RsnaSet, open_rsna
from spider_utils.data.rsna_tables import PATIENT_TABLE, POINT_TABLE
from tests.unit.test_rsna import write_images, write_tables


def make_studies(root: Path, n: int, points: int | None = None) -> RsnaSet:
    """``n`` studies of 25 points each; ``points`` keeps so many rows of the points' table."""
    for study in range(1, n + 1):
        write_images(root, study)
    write_tables(root, tuple(range(1, n + 1)))
    patients = {
        "study_id": range(1, n + 1),
        "age": [40 + 5 * k for k in range(n)],
        "sex": ["F", "M"] * (n // 2) + ["F"] * (n % 2),
    }
    pd.DataFrame(patients).to_csv(root / PATIENT_TABLE, index=False)
    if points is not None:
        pd.read_csv(root / POINT_TABLE).head(points).to_csv(root / POINT_TABLE, index=False)
    return open_rsna(root)
