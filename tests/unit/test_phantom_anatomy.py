"""The made-up patients: findings, sizes and tables agree with each other and with what SPIDER's tables hold."""

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.phantom import make_anatomy
from spider_utils.data.phantom.anatomy import N_VERTEBRAE


@pytest.fixture(scope="module")
def patients():
    return [make_anatomy(seed) for seed in range(240)]


def test_same_seed_same_patient_and_other_seed_another():
    assert make_anatomy(5) == make_anatomy(5)
    assert make_anatomy(5) != make_anatomy(6)


def test_every_patient_has_eleven_levels_numbered_from_below(patients):
    for anatomy in patients:
        assert [v.number for v in anatomy.vertebrae] == [d.number for d in anatomy.discs] == list(range(1, N_VERTEBRAE + 1))
        heights = [v.frame.down for v in anatomy.vertebrae]
        assert heights == sorted(heights, reverse=True)
        for disc, above in zip(anatomy.discs, anatomy.vertebrae, strict=True):
            assert disc.frame.down > above.frame.down


def test_sizes_are_those_of_adults(patients):
    lordosis = [a.lordosis for a in patients]
    assert 42 < np.mean(lordosis) < 58 and min(lordosis) > 10 and max(lordosis) < 85
    heights = [a.vertebrae[2].height for a in patients]
    assert 25 < np.mean(heights) < 30
    free = [d.canal_ap for a in patients for d in a.discs]
    assert min(free) > 2 and 10 < np.median(free) < 15
    assert {a.n_lumbar for a in patients} == {4, 5, 6}
    assert np.mean([a.n_lumbar == 5 for a in patients]) > 0.8


def test_findings_are_about_as_common_as_in_spider(patients):
    table = pd.concat([a.gradings(k, list(range(1, 8))) for k, a in enumerate(patients)])
    assert list(table) == [
        "Patient", "IVD label", "Modic", "UP endplate", "LOW endplate", "Spondylolisthesis", "Disc herniation", "Disc narrowing",
        "Disc bulging", "Pfirrman grade",
    ]  # fmt: skip
    # Means of SPIDER's radiological_gradings.csv over all discs.
    expected = {
        "UP endplate": (0.40, 0.10),
        "LOW endplate": (0.41, 0.10),
        "Spondylolisthesis": (0.028, 0.02),
        "Disc herniation": (0.047, 0.03),
        "Disc narrowing": (0.36, 0.08),
        "Disc bulging": (0.49, 0.10),
        "Pfirrman grade": (2.83, 0.25),
        "Modic": (0.68, 0.2),
    }
    for column, (mean, slack) in expected.items():
        assert table[column].mean() == pytest.approx(mean, abs=slack), column
    by_level = table.groupby("IVD label")["Pfirrman grade"].mean()
    assert by_level[1] > by_level[4] > by_level[6]


def test_gradings_say_what_the_anatomy_holds(patients):
    for anatomy in patients[:60]:
        graded, truth = anatomy.gradings(9).set_index("IVD label"), anatomy.truth(9).set_index("disc")
        assert ((truth.herniation_mm > 0) == (graded["Disc herniation"] == 1)).all()
        assert ((truth.listhesis_mm > 0) == (graded["Spondylolisthesis"] == 1)).all()
        assert ((truth.bulge_mm > 0) == (graded["Disc bulging"] == 1)).all()
        assert (truth.pfirrmann == graded["Pfirrman grade"]).all()
        assert (truth.canal_ap_mm > 0).all() and (truth.patient == 9).all()


def test_narrow_discs_are_lower_and_a_worn_disc_is_lower_still():
    heights = [make_anatomy(3, pfirrmann={2: g}, narrowing={2: n}).discs[1].height for g, n in ((1, 0), (1, 1), (5, 1))]
    assert heights[0] > heights[1] > heights[2]


def test_an_override_changes_nothing_else():
    plain, changed = make_anatomy(8), make_anatomy(8, herniation={1: 6.0}, modic={3: 1})
    assert changed.discs[0].herniation == 6.0 and changed.discs[2].modic == 1
    assert changed.vertebrae == plain.vertebrae and changed.discs[4] == plain.discs[4] and changed.age == plain.age
    slipped = make_anatomy(8, listhesis={2: 8.0})
    step = [a.vertebrae[1].frame.back - a.vertebrae[0].frame.back for a in (plain, slipped)]
    assert step[1] - step[0] == pytest.approx(-8, abs=1.5)  # the vertebra above has moved forwards


@pytest.mark.parametrize("number", [4, 6])
def test_transitional_spines_count_from_the_lowest_mobile_vertebra(number):
    anatomy = make_anatomy(2, n_lumbar=number)
    assert anatomy.vertebrae[number - 1].thoracic == 0 and anatomy.vertebrae[number + 1].thoracic > 0
    assert anatomy.vertebrae[0].number == anatomy.discs[0].number == 1


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"hernia": {1: 4}}, "herniation"),
        ({"n_lumbar": 9}, "n_lumbar"),
        ({"herniation": 4}, "dict"),
        ({"pfirrmann": {1: 6}}, "pfirrmann"),
        ({"modic": {99: 1}}, "modic"),
        ({"sex": "X"}, "sex"),
    ],
)
def test_bad_overrides_are_refused_by_name(overrides, named):
    with pytest.raises(ValueError, match=named):
        make_anatomy(1, **overrides)
