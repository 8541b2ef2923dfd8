"""SPIDER's own table of gradings: counts, and what level and other findings tell of a finding."""

from __future__ import annotations

import pytest

from spider_utils.data.gradings import FINDINGS, read_gradings
from spider_utils.evaluation.prevalence import co_occurrence, prevalence


@pytest.fixture(scope="module")
def gradings(real_data):
    return read_gradings(real_data / "spider_tables")


@pytest.mark.real_data("spider_tables")
def test_all_discs_but_two_are_read(gradings):
    table, mistakes = gradings.table, gradings.mistakes
    assert len(table) == 1518 and table["patient"].nunique() == 218 and not table[list(FINDINGS)].isna().any().any()
    assert mistakes["what"].tolist() == ["no disc", "no disc"] and mistakes["row"].tolist() == [647, 907]


@pytest.mark.real_data("spider_tables")
def test_prevalence(gradings):
    counts = prevalence(gradings.table).set_index("finding")["count"].to_dict()
    assert counts == {
        "Modic change": 514, "upper endplate defect": 614, "lower endplate defect": 623, "spondylolisthesis": 42,
        "disc herniation": 72, "disc narrowing": 544, "disc bulging": 746, "Pfirrmann grade 4 to 5": 475,
    }  # fmt: skip
    by_level = prevalence(gradings.table, by_level=True)
    hernias = by_level[by_level["finding"] == "disc herniation"].set_index("level")["share"]
    assert hernias.idxmax() == "L4/L5" and hernias["T12/L1"] < 0.02


@pytest.mark.real_data("spider_tables")
def test_what_comes_together(gradings):
    found = co_occurrence(gradings.table).set_index(["finding", "given"])
    assert found.loc[("upper endplate defect", "lower endplate defect"), "low"] > 0.7
    assert found.loc[("disc narrowing", "Pfirrmann grade 4 to 5"), "low"] > 0.5
    row = found.loc[("disc bulging", "disc herniation")]
    assert row["low"] < 0 < row["high"]  # a herniated disc is not more often graded as bulging
