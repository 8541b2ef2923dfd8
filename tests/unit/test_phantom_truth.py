"""What painted shapes measure, against what was drawn; and measurements of a mask against it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.phantom import generate_dataset, make_anatomy
from spider_utils.data.phantom.bones import paint_vertebra
from spider_utils.data.phantom.dataset import draw_patient
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.scanner import body_box, body_spacing
from spider_utils.data.phantom.truth import _first, truth_in_set, truth_of
from spider_utils.errors import DataError
from spider_utils.evaluation.measured import agreement_by_quantity
from tests.measure_phantoms import SHOWN, compared, herniations, labelled


def wide(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot(index="label", columns="quantity", values="value")


@pytest.fixture(scope="module")
def healthy():
    """A patient without findings that change shapes, so that closed forms hold."""
    none = dict.fromkeys(range(1, 12), 0)
    changes = {name: none for name in ("bulge", "herniation", "listhesis", "stenosis", "up_endplate", "low_endplate")}
    return make_anatomy(21, age=30, scoliosis=0.0, n_lumbar=5, pfirrmann=dict.fromkeys(range(1, 12), 1), **changes)


@pytest.fixture(scope="module")
def drawn(healthy):
    return wide(truth_of(healthy))


def test_local_is_the_inverse_of_point(healthy):
    for bone in healthy.vertebrae[::3]:
        place = bone.frame.point(3.0, -5.0, 7.0)
        assert np.allclose(bone.frame.local(*(np.array(value) for value in place)), (3, -5, 7), atol=0.02)


def test_heights_follow_from_rims_and_hollows(healthy, drawn):
    for number in range(2, 7):
        disc, above, below = healthy.discs[number - 1], healthy.vertebrae[number - 1], healthy.vertebrae[number - 2]
        truth = drawn.loc[200 + number]
        # The middle lies between the hollows; edges are rounded, so that corners are up to a millimetre inside the rims' planes.
        assert truth["disc height middle"] == pytest.approx(disc.height + above.cups[1] + below.cups[0], abs=0.35)
        rims = (truth["disc height anterior"] + truth["disc height posterior"]) / 2
        assert disc.height - 0.1 < rims < disc.height + 2.0
        assert drawn.loc[number, "body height middle"] == pytest.approx(above.height - sum(above.cups), abs=0.35)
        assert drawn.loc[number, "body depth"] == pytest.approx(above.depth - 1.1, abs=0.3)


def test_below_disc_1_there_is_the_plane_in_which_it_ends(healthy, drawn):
    disc, above = healthy.discs[0], healthy.vertebrae[0]
    expected = disc.height + 4.5 + above.cups[1]
    assert drawn.loc[201, "disc height middle"] == pytest.approx(expected, abs=0.5)


def test_angles_add_up(drawn):
    segments = sum(drawn.loc[200 + number, "segment angle"] for number in (2, 3, 4, 5))
    assert drawn.loc[0, "lordosis L1 to L5"] == pytest.approx(segments + drawn.loc[1, "body wedge"], abs=1e-6)
    assert drawn.loc[0, "lordosis L1 to S1"] == pytest.approx(segments + drawn.loc[201, "segment angle"], abs=1e-6)
    for number in (2, 3, 4):
        parts = drawn.loc[number, "body wedge"] + drawn.loc[200 + number, "disc angle"]
        assert drawn.loc[200 + number, "segment angle"] == pytest.approx(parts, abs=1e-6)


def test_a_surface_that_is_not_there_is_an_error():
    inside, origin, way = (lambda points: points[:, 0] < 12.5), np.zeros(2), np.array([1.0, 0.0])
    assert _first(inside, origin, way, 2.0) == pytest.approx(12.5, abs=0.021)
    with pytest.raises(ValueError, match="no surface within 40 mm"):
        _first(inside, origin, -way)
    with pytest.raises(ValueError, match="no surface"):  # one line of the strip alone misses it
        _first(lambda points: (points[:, 0] < 12.5) | (points[:, 1] > 1.5), origin, way, 2.0)


def test_a_free_sac_is_as_wide_as_drawn(healthy, drawn):
    for number in range(2, 7):
        disc = healthy.discs[number - 1]
        assert drawn.loc[200 + number, "canal diameter"] == pytest.approx(disc.sac, abs=0.4)
        width = healthy.sac_width(number)
        area = np.pi / 4 * drawn.loc[200 + number, "canal diameter"] * width * 0.97
        assert drawn.loc[200 + number, "canal area"] == pytest.approx(area, rel=0.08)


def test_findings_change_what_they_should():
    plain = {"bulge": {3: 0}, "herniation": {3: 0}, "listhesis": {2: 0}}
    before = wide(truth_of(make_anatomy(5, **plain), [2, 3]))
    after = wide(truth_of(make_anatomy(5, **(plain | {"herniation": {3: 6.0}, "listhesis": {2: 7.0}})), [2, 3]))
    assert after.loc[202, "slip"] - before.loc[202, "slip"] == pytest.approx(7, abs=0.3) and after.loc[202, "slip grade"] == 1
    assert before.loc[203, "herniated"] == 0 and after.loc[203, "herniated"] == 1
    assert 5.5 < after.loc[203, "overhang"] < 7.6 and before.loc[203, "overhang"] < 3
    assert after.loc[203, "canal area"] < 0.9 * before.loc[203, "canal area"]


def test_texture_moves_surfaces_as_it_is_painted(healthy):
    """The line through the middle of a disc space, followed through painted labels of 0.2 mm."""
    disc = healthy.discs[2]
    low = (disc.frame.right - 4, disc.frame.down - 30, disc.frame.back - 25)
    high = (disc.frame.right + 4, disc.frame.down + 30, disc.frame.back + 25)
    grid = TissueGrid.empty(low, high, (0.8, 0.2, 0.2))
    for number in (4, 3, 2):
        paint_vertebra(grid, healthy.vertebrae[number - 1], None, None)
    smooth, rough = (wide(truth_of(healthy, [3], on)).loc[203] for on in (None, grid))
    plane = grid.label[round((disc.frame.right - grid.origin[0]) / grid.spacing[0])]
    tilt = np.radians(disc.frame.tilt)
    steps = np.arange(-20, 20, 0.02)
    gaps = []
    for aside in np.linspace(-2, 2, 9):  # at a right angle to the disc's middle plane, a strip of 4 mm
        down = disc.frame.down - steps * np.cos(tilt) - aside * np.sin(tilt)
        back = disc.frame.back - steps * np.sin(tilt) + aside * np.cos(tilt)
        index = [
            np.rint((x - o) / s).astype(int) for x, o, s in zip((down, back), grid.origin[1:], grid.spacing[1:], strict=True)
        ]
        gaps.append((plane[tuple(index)] == 0).sum() * 0.02)
    assert rough["disc height middle"] == pytest.approx(np.mean(gaps), abs=0.15)
    assert 0.02 < abs(rough["disc height middle"] - smooth["disc height middle"]) < 1.2


def test_truth_of_a_set_on_disk(tmp_path):
    generate_dataset(tmp_path / "set", 1, seed=3, jobs=1, size="small")
    anatomy, protocols = draw_patient(1, 3, "small")
    grid = TissueGrid.empty(*body_box(protocols), body_spacing(protocols, "small"))
    pd.testing.assert_frame_equal(truth_in_set(tmp_path / "set", 1), truth_of(anatomy, grid=grid))
    (tmp_path / "set" / "phantom.json").write_text('{"generator_version": 0}')
    with pytest.raises(DataError, match="version"):
        truth_in_set(tmp_path / "set", 1)


def test_measurements_of_masks_agree_with_painted_shapes():
    # Seeds 11 (two hernias, wide pixels) and 0 (a hernia where L5 has slipped).
    tables = []
    for seed in (0, 11):
        mask, grid = labelled(make_anatomy(seed), seed)
        tables.append(compared(mask, truth_of(make_anatomy(seed), grid=grid), seed))
    table = pd.concat(tables)
    errors = agreement_by_quantity(table, SHOWN).set_index("quantity")["MAE"]
    for place in ("anterior", "middle", "posterior"):
        assert errors[f"disc height {place}"] < 0.5 and errors[f"body height {place}"] < 0.5
    assert errors["canal diameter"] < 0.5 and errors["slip"] < 0.7 and errors["lordosis L1 to L5"] < 2
    found = herniations(table)
    assert found["discs with a hernia found"] == "3 of 3"
    assert found["discs without one called herniated"] == "0 of 11"
