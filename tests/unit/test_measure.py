"""Measurements against shapes worked out by hand: trapezia, plates, ellipses, under anisotropic spacing and turned any way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from spider_utils.measure.alignment import lordosis, meyerding_grade, slip
from spider_utils.measure.canal import CanalAxis, narrowest_diameter
from spider_utils.measure.discs import Space, disc_angle, disc_depth, disc_height_index, disc_heights, space_between
from spider_utils.measure.geometry import Endplate, NotMeasurable, body_block, outline, signed_angle, surface_at, tangent_line
from spider_utils.measure.herniation import Overhang, displacement
from spider_utils.measure.levels import name_levels
from spider_utils.measure.marks import marks, of_disc
from spider_utils.measure.report import COLUMNS, MEASURED, UNITS, measure
from spider_utils.measure.sheet import CANAL, Spine
from spider_utils.measure.vertebrae import body_depth, body_heights, body_wedge
from tests.known_labels import BODY_ROWS, box_spine

UP = np.array([-1.0, 0.0])


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return points @ np.array([[cos, -sin], [sin, cos]]).T


def polygon(corners: list[tuple[float, float]], step: float = 0.25) -> np.ndarray:
    """Points along the edges of a closed polygon."""
    ends = np.array([*corners, corners[0]], float)
    parts = []
    for a, b in zip(ends, ends[1:], strict=False):
        n = int(np.linalg.norm(b - a) / step)
        parts.append(a + (np.arange(n) / n)[:, None] * (b - a))
    return np.concatenate(parts)


# ------------------------------------------------------------------------------------------------------ points in a plane


def test_an_outline_lies_where_a_signed_distance_crosses_zero():
    rows, columns = np.mgrid[0:40, 0:60]
    radius = np.hypot(rows * 0.7 - 14, columns * 0.5 - 15) - 9.3
    points = outline(radius, (0.7, 0.5), (2.0, -3.0))
    assert np.abs(np.hypot(points[:, 0] - 16, points[:, 1] - 12) - 9.3).max() < 0.02
    cut = outline(radius[25:], (0.7, 0.5))  # the edge of a picture is no outline
    assert (cut[:, 0] == 0).sum() == 2 and len(cut) < len(points) / 2


@pytest.mark.parametrize("degrees", [-40, -12, 0, 25, 44])
@pytest.mark.parametrize(
    "corners",
    [
        [(0, 0), (0, 34), (26, 34), (26, 0)],
        [(0, 0), (3, 34), (25, 33), (29, -1)],  # lordotic wedge, walls that lean
        [(2, 0), (0, 30), (27, 33), (24, 2)],
    ],
)
def test_endplates_of_a_quadrilateral_are_its_sides(corners, degrees):
    body = body_block(turned(polygon(corners), degrees), turned(UP, degrees + 15))
    true = [turned(np.array(corner, float), degrees) for corner in corners]
    found = [body.upper.front, body.upper.back, body.lower.back, body.lower.front]
    assert np.abs(np.array(found) - np.array(true)).max() < 0.05
    sides = [np.linalg.norm(true[a] - true[b]) for a, b in ((0, 3), (1, 2))]
    front, middle, back = body_heights(body)
    assert (front, back) == pytest.approx(tuple(sides), abs=0.05) and min(sides) - 1 < middle < max(sides) + 1
    assert body_depth(body) == pytest.approx(
        np.mean([np.linalg.norm(true[0] - true[1]), np.linalg.norm(true[2] - true[3])]), abs=0.1
    )
    top, low = ((np.array(corners[b]) - corners[a]).astype(float) for a, b in ((0, 1), (3, 2)))
    wedge = math.degrees(math.atan2(top[0], top[1]) - math.atan2(low[0], low[1]))
    assert body_wedge(body) == pytest.approx(wedge, abs=0.15)


def test_a_ruler_on_a_hollow_endplate_touches_its_rims():
    x = np.arange(0, 30.01, 0.25)
    hollow = 0.1 * x + 5 - np.where((x > 4) & (x < 26), 2.0 * np.sin((x - 4) / 22 * math.pi), 0)
    slope, offset = tangent_line(x, hollow)
    assert slope == pytest.approx(0.1, abs=0.004) and offset == pytest.approx(5, abs=0.1)
    assert tangent_line(x, 0.2 * x - 3) == pytest.approx((0.2, -3), abs=1e-6)


def test_angles_are_positive_where_a_space_opens_to_the_front():
    plates = [Endplate(np.array(a, float), np.array(b, float)) for a, b in (((0, 0), (2, 30)), ((12, 0), (9, 30)))]
    wide = math.degrees(math.atan2(2, 30) + math.atan2(3, 30))
    assert signed_angle(plates[0].along, plates[1].along) == pytest.approx(wide)
    assert lordosis(plates[0], plates[1]) == pytest.approx(wide) and lordosis(plates[1], plates[0]) == pytest.approx(-wide)
    with pytest.raises(NotMeasurable, match="missing"):
        lordosis(plates[0], None)


def test_a_surface_is_the_first_one_ahead():
    points = polygon([(0, 0), (0, 20), (10, 20), (10, 0)], 0.1)
    assert surface_at(points, np.array([4.0, 10.0]), np.array([1.0, 0.0])) == pytest.approx(6, abs=0.01)
    assert surface_at(points, np.array([-5.0, 10.0]), np.array([1.0, 0.0])) == pytest.approx(5, abs=0.01)
    assert surface_at(points, np.array([40.0, 10.0]), np.array([1.0, 0.0])) is None


def blocks(moved: float, degrees: float = 0.0):
    """Two bodies 34 mm deep, 8 mm apart in front and 8 - 34 tan 5 behind; the upper one moved forwards along its endplate."""
    drop = 34 * math.tan(math.radians(5))
    upper = np.array([(0, 0), (0, 34), (26, 34), (26, 0)], float) - [0, moved]
    lower = np.array([(34, 0), (34 - drop, 34), (60, 34), (60, 0)], float)
    return [body_block(turned(polygon([tuple(c) for c in corners]), degrees), turned(UP, degrees)) for corners in (upper, lower)]


@pytest.mark.parametrize("degrees", [-30, 0, 33])
def test_heights_and_angle_of_a_disc_space(degrees):
    space = space_between(*blocks(0, degrees), None)
    half = math.radians(2.5)
    behind = 8 - 34 * math.tan(math.radians(5))
    # At a right angle to the bisectrix, which is turned by 2.5 degrees.
    front, middle, back = disc_heights(space)
    assert (front, back) == pytest.approx((8 * math.cos(half), behind * math.cos(half)), abs=0.05)
    assert middle == pytest.approx((front + back) / 2, abs=0.06) and disc_angle(space) == pytest.approx(5, abs=0.1)
    with pytest.raises(NotMeasurable, match="disc is missing"):
        disc_depth(space)


@pytest.mark.parametrize("degrees", [-30, 0, 33])
def test_slips_have_a_sign_and_a_grade(degrees):
    still = slip(space_between(*blocks(0, degrees), None))
    for moved in (1.0, 2.5, 3.5, 6.0, 8.0, 20.0, -2.0, -4.0, -8.0):
        found = slip(space_between(*blocks(moved, degrees), None)) - still
        assert found == pytest.approx(moved * math.cos(math.radians(2.5)), abs=0.1)


def test_grades_are_quarters_of_the_endplate_below():
    grades = [meyerding_grade(mm, 36.0) for mm in (2.9, 3.1, -8.9, 9.1, 18.5, -27.5, 35.9, 36.5)]
    assert grades == [0, 1, 1, 2, 3, 4, 4, 5]


def plates(upper: tuple[float, float], lower: tuple[float, float]) -> Space:
    """Two level endplates 9 mm apart, from front to back (mm)."""
    ends = [[np.array([down, back]) for back in span] for down, span in ((0.0, upper), (9.0, lower))]
    return Space(Endplate(*ends[0]), Endplate(*ends[1]), np.zeros((0, 2)), np.zeros((0, 2)), None)


def test_endplates_that_cross_have_no_heights():
    upper, lower = Endplate(np.array([0.0, 0.0]), np.array([5.0, 34.0])), Endplate(np.array([8.0, 0.0]), np.array([4.0, 34.0]))
    with pytest.raises(NotMeasurable, match="endplates cross"):
        disc_heights(Space(upper, lower, np.zeros((0, 2)), np.zeros((0, 2)), None))


@pytest.mark.parametrize(
    ("upper", "lower", "expected"),
    [
        ((-6, 28), (0, 34), 6.0),  # slipped as a whole
        ((-6, 29), (0, 32), 3.0),  # endplates of unlike length
        ((0, 32), (2, 34.5), 2.5),
        ((0, 31), (0, 33), 2.0),  # below 3 mm the anterior corners have no say
        ((0, 29), (-1, 34), None),  # 5 mm at the back, and the anterior corners moved the other way
        ((0, 36), (1, 30), None),
        ((0, 34), (11, 37.5), 3.5),
        ((0, 34), (14, 37.5), None),  # 14 and 3.5: a corner is wrong by a third of the endplate
    ],
)
def test_a_slip_that_the_anterior_corners_contradict_is_refused(upper, lower, expected):
    if expected is None:
        with pytest.raises(NotMeasurable, match=r"posterior corners say [+-]\d"):
            slip(plates(upper, lower))
    else:
        assert slip(plates(upper, lower)) == pytest.approx(expected)


def test_disc_height_index_by_hand():
    assert disc_height_index((10, 9, 8), (27, 26, 28)) == pytest.approx(9 / 27)
    assert disc_height_index((10, 9, 8), (27, 26, 28), (30, 30, 30)) == pytest.approx(9 / 28.5)


def planes(*heights: float) -> list[Overhang]:
    return [Overhang(4.0 * k, height, np.zeros(2)) for k, height in enumerate(heights)]


def test_a_herniation_is_high_and_focal():
    focal = displacement(planes(0.2, 0.4, 5.0, 4.0, 0.5, 0.1, 0.0), 4.0, 50, 36)
    assert focal.herniated and not focal.bulging and focal.top.aside == 8 and focal.width == 8
    spread = displacement(planes(3.2, 3.4, 3.6, 3.5, 3.4, 3.0, 3.1), 4.0, 50, 36)
    assert not spread.herniated and spread.bulging and spread.bulge == pytest.approx(3.15)
    low = displacement(planes(-1, -1, 2.5, -1, -1), 4.0, 50, 36)
    assert not low.herniated and not low.bulging
    wide = displacement(planes(0.0, 0, 0, 5, 5, 5, 5, 5, 0, 0), 7.0, 50, 36)  # 35 mm of 135 mm
    assert not wide.herniated
    assert spread.width is low.width is wide.width is None, "where there is no hernia there is no width"
    single = displacement(planes(2.0), 1.0, 1, 36), displacement(planes(3.5), 1.0, 1, 36)
    assert [(d.bulging, d.herniated, d.width) for d in single] == [(True, False, None), (False, True, None)]
    with pytest.raises(NotMeasurable):
        displacement([], 4.0, 50, 36)


# ------------------------------------------------------------------------------------------------------------- volumes

DEPTH, BODY, DISC, WEDGE = 34.0, 26.0, 9.0, 6.0  # mm, degrees a segment, all of it in the discs
SAC = (9.0, 7.0)  # half width and half depth of the canal
HERNIA = (5.0, 4.0)  # of disc 203: height behind the line and half width from side to side


def turns(degrees: tuple[float, float, float]) -> np.ndarray:
    """Rotation about the (slice, row, column) axes."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = math.cos(angle)
        step[i, j], step[j, i] = -math.sin(angle), math.sin(angle)
        out = out @ step
    return out


def spine_at(points: np.ndarray, levels: int = 5) -> np.ndarray:
    """Labels at points (3, ...) in mm (right, down, back): bodies on an arc of WEDGE degrees a segment, their middles where the
    centre of the third one is the origin; disc spaces DISC mm high in their middle; a canal of elliptic section along them."""
    x, down, back = points
    labels = np.zeros(x.shape, np.uint8)
    pitch = BODY + DISC
    radius = pitch / (2 * math.tan(math.radians(WEDGE / 2)))  # neighbouring middle planes meet behind, at this distance
    # In polar coordinates around that point behind the spine every body is the same.
    towards = radius - back
    for number in range(1, levels + 1):
        angle = math.radians((number - 3) * WEDGE)
        v = -(towards * math.cos(angle) - down * math.sin(angle)) + radius
        w = -(towards * math.sin(angle) + down * math.cos(angle))
        body = (np.abs(v) < DEPTH / 2) & (np.abs(w) < BODY / 2) & (np.abs(x) < 22)
        labels[body] = number
        spine = (np.abs(x) < 2) & (v > 37) & (v < 52) & (w < 4) & (w > -14)  # its process
        labels[spine] = number
        mid = angle - math.radians(WEDGE / 2)
        dv = -(towards * math.cos(mid) - down * math.sin(mid)) + radius / math.cos(math.radians(WEDGE / 2))
        dw = -(towards * math.sin(mid) + down * math.cos(mid))
        disc = (np.abs(dv) < DEPTH / 2) & (np.abs(dw) < DISC) & (np.abs(x) < 20)
        if number == 3:
            disc |= (dv > 10) & (dv < DEPTH / 2 + HERNIA[0]) & (np.abs(dw) < 3) & (np.abs(x - 4) < HERNIA[1])
        labels[disc & (labels == 0)] = 200 + number
    sac = -np.hypot(towards, down) + radius - (DEPTH / 2 + 3 + SAC[1])
    labels[(labels == 0) & ((x / SAC[0]) ** 2 + (sac / SAC[1]) ** 2 < 1)] = 100
    return labels


def rasterised(spacing: tuple[float, float, float], degrees: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A volume around the spine that lies turned in it; where the third body's centre is (mm from the first voxel)."""
    extent = np.array([84.0, 230.0, 130.0])
    shape = np.ceil(extent / spacing).astype(int)
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    centre = np.array([42.0, 112.0, 55.0])
    points = np.stack(axes) - centre.reshape(3, 1, 1, 1)
    return spine_at(np.tensordot(turns(degrees).T, points, 1)), centre


def looked_up(table: pd.DataFrame, label: int, quantity: str) -> float:
    row = table[(table["label"] == label) & (table["quantity"] == quantity)]
    assert len(row) == 1, (label, quantity)
    assert row["status"].item() == MEASURED, row["status"].item()
    return row["value"].item()


GRIDS = [
    ((3.3, 0.6, 0.6), (0, 0, 0)),
    ((4.4, 0.5, 0.8), (14, 0, 0)),  # tilted in the sagittal plane
    ((3.0, 0.9, 0.6), (-10, 5, 4)),  # turned about every axis
    ((1.0, 1.0, 1.0), (0, -12, 8)),
]


@pytest.fixture(scope="module", params=GRIDS, ids=str)
def measured(request):
    spacing, degrees = request.param
    mask, centre = rasterised(spacing, degrees)
    return measure(mask, spacing), max(spacing[1:]), degrees, centre


def test_a_sheet_keeps_lengths_and_right_angles_where_a_spine_leans_and_is_turned():
    """A mm down, back or aside on the sheet is a mm in the volume, at a right angle to the others."""
    spine = Spine(rasterised((3.0, 0.9, 0.7), (0, 9, 12))[0], np.array([3.0, 0.9, 0.7]), flat=False)
    for down, back in ((60.0, 30.0), (100.0, 70.0), (150.0, 50.0)):
        start, lower, behind = spine.places(np.array([[down, back], [down + 1, back], [down, back + 1]]))
        beside = spine.places(np.array([[down, back]]), aside_mm=1.0)[0]
        steps = np.stack([lower, behind, beside]) - start
        assert abs(steps[1, 0]) > 0.1 and abs(steps[0, 0]) > 0.1, "turned, and leaning"
        np.testing.assert_allclose(steps @ steps.T, np.eye(3), atol=0.02)


def narrowed(down_mm: float) -> float:
    """Narrowest diameter between corners at 40 and 50 mm of a canal of 14 mm, 8 mm wide over 2 mm around ``down_mm``."""
    mask = np.zeros((200, 60), np.uint8)
    mask[:, 20:48] = CANAL
    middle = round(down_mm / 0.5)
    mask[middle - 3 : middle + 4, [*range(20, 26), *range(42, 48)]] = 0
    canal = Spine(mask[None], np.array([1.0, 0.5, 0.5]), flat=True).part(CANAL)
    return narrowest_diameter(canal, CanalAxis(canal), np.array([40.0, 17.0]), np.array([50.0, 17.0]))


@pytest.mark.parametrize(("down", "seen"), [(45, True), (38.5, True), (51.5, True), (34, False), (56, False)])
def test_the_narrowest_place_lies_between_the_corners_or_three_mm_beyond(down, seen):
    assert narrowed(down) == pytest.approx(8 if seen else 14, abs=0.2)


def test_bodies_of_a_volume(measured):
    table, pixel, _, _ = measured
    for number in (2, 3, 4):
        for place in ("anterior", "middle", "posterior"):
            assert looked_up(table, number, f"body height {place}") == pytest.approx(BODY, abs=0.9 * pixel)
        assert looked_up(table, number, "body depth") == pytest.approx(DEPTH, abs=0.9 * pixel)
        assert looked_up(table, number, "body wedge") == pytest.approx(0, abs=1.5)


def test_discs_of_a_volume(measured):
    table, pixel, _, _ = measured
    half = math.radians(WEDGE / 2)
    for number in (2, 3, 4):
        # Endplates half a wedge either side of the middle plane, at BODY / 2 before and behind each body's middle.
        pitch = (BODY + DISC) / (2 * math.tan(half))
        front, back = (2 * ((pitch + way * DEPTH / 2) * math.sin(half) - BODY / 2 * math.cos(half)) for way in (1, -1))
        middle = (front + back) / 2
        for place, true in (("anterior", front), ("middle", middle), ("posterior", back)):
            assert looked_up(table, 200 + number, f"disc height {place}") == pytest.approx(true, abs=0.9 * pixel)
        assert looked_up(table, 200 + number, "disc angle") == pytest.approx(WEDGE, abs=1.5)
        assert looked_up(table, 200 + number, "segment angle") == pytest.approx(WEDGE, abs=1.5)
        assert looked_up(table, 200 + number, "slip") == pytest.approx(0, abs=0.9 * pixel)
        assert looked_up(table, 200 + number, "slip grade") == 0
        index = looked_up(table, 200 + number, "disc height index")
        assert index == pytest.approx(middle / BODY, abs=0.02)


def test_curvature_of_a_volume(measured):
    table = measured[0]
    assert looked_up(table, 0, "lordosis L1 to L5") == pytest.approx(4 * WEDGE, abs=1.5)


def test_canal_of_a_volume(measured):
    table, pixel, _, _ = measured
    for number in (2, 4):
        assert looked_up(table, 200 + number, "canal diameter") == pytest.approx(2 * SAC[1], abs=0.6 * pixel)
        assert looked_up(table, 200 + number, "canal area") == pytest.approx(math.pi * SAC[0] * SAC[1], rel=0.06)
        assert looked_up(table, number, "canal diameter at the body") == pytest.approx(2 * SAC[1], abs=0.6 * pixel)


def test_the_hernia_of_a_volume(measured):
    table, pixel, degrees, centre = measured
    assert table[table["quantity"] == "hernia width"]["label"].tolist() == [203]
    assert looked_up(table, 203, "hernia width") == pytest.approx(2 * HERNIA[1], abs=4.5), "slices are 1 to 4.4 mm apart"
    discs = table[table["quantity"] == "herniated"].set_index("label")["value"]
    assert discs[203] == 1 and discs.drop(203).sum() == 0
    assert looked_up(table, 203, "overhang") == pytest.approx(HERNIA[0], abs=1.1 * pixel)
    top = np.array([looked_up(table, 203, f"hernia top {axis}") for axis in ("slice", "row", "column")])
    right, down, back = turns(degrees).T @ (top - centre)
    # The disc's middle plane lies half a pitch below the third body's middle, turned by half a wedge.
    pitch = (BODY + DISC) / (2 * math.tan(math.radians(WEDGE / 2)))
    mid = math.radians(-WEDGE / 2)
    dw = -((pitch - back) * math.sin(mid) + down * math.cos(mid))
    dv = -((pitch - back) * math.cos(mid) - down * math.sin(mid)) + pitch / math.cos(mid)
    assert abs(right - 4) < HERNIA[1] + 1.5 and abs(dw) < 3.5 and dv == pytest.approx(DEPTH / 2 + HERNIA[0], abs=pixel)


@pytest.mark.parametrize("spacing", [(3.0, 0.6, 0.6), (4.8, 0.75, 0.75)], ids=str)
@pytest.mark.parametrize("slid_mm", [-5.0, 8.0])
def test_a_hernia_that_slides_behind_a_bone_without_a_label(spacing, slid_mm):
    mask, centre = rasterised(spacing, (-2.5 * WEDGE, 0, 0))  # the lowest disc is level
    plain = measure(mask, spacing)
    at = np.argwhere(mask == 201) * spacing
    lowest, rear = at[:, 1].max(), at[:, 2].max()
    aside, down, back = (np.arange(n) * step for n, step in zip(mask.shape, spacing, strict=True))
    # 6 mm behind the disc over the middle ten mm; slid, it ends 8 mm below the disc, else within its height.
    hernia = np.ix_(
        np.abs(aside - centre[0]) < 5,
        (down > lowest - 11) & (down < lowest + slid_mm),
        (back > rear - 4) & (back < rear + 6),
    )
    mask[hernia] = np.where(np.isin(mask[hernia], (0, 100)), 201, mask[hernia])
    table = measure(mask, spacing)
    assert looked_up(plain, 201, "herniated") == 0 and looked_up(table, 201, "herniated") == 1
    added = looked_up(table, 201, "overhang") - looked_up(plain, 201, "overhang")
    assert added == pytest.approx(6, abs=2 * spacing[2])  # the line ends at the bone's corner, not on the hernia
    for quantity in ("disc height anterior", "disc height middle", "slip"):
        assert looked_up(table, 201, quantity) == pytest.approx(looked_up(plain, 201, quantity), abs=spacing[2])


def test_a_single_slice_is_measured_like_its_volume():
    spacing = (3.0, 0.5, 0.7)
    mask, _ = rasterised(spacing, (8, 0, 0))
    volume, flat = measure(mask, spacing), measure(mask[14], spacing[1:])  # 42 mm: the middle
    both = flat.merge(volume, on=["label", "quantity"])
    both = both[both["quantity"].str.contains("height|angle|wedge|canal diameter|lordosis") & (both["status_x"] == MEASURED)]
    assert len(both) > 50 and (both["value_x"] - both["value_y"]).abs().max() < 0.6
    why = flat[flat["quantity"].isin(["canal area", "disc width"])]["status"]
    assert why.str.contains("single slice").all() and len(why) == 10


# --------------------------------------------------------------------------------------------- what is cut, missing, odd


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return rasterised((3.0, 0.8, 0.8), (0, 0, 0))[0]


SPACING = (3.0, 0.8, 0.8)


def complete(table: pd.DataFrame) -> None:
    """A table says a number or why not, in known quantities and units."""
    assert list(table.columns) == list(COLUMNS)
    assert (table["value"].isna() == table["status"].str.startswith("not measurable: ")).all()
    assert (table["status"].str.startswith("not measurable: ") | (table["status"] == MEASURED)).all()
    assert [UNITS[quantity] for quantity in table["quantity"]] == table["unit"].tolist()
    assert not table.duplicated(["label", "quantity"]).any()


def test_what_lies_behind_the_canal_is_no_hernia(plain):
    at = np.argwhere(plain == 202)
    low, high = at.min(axis=0), at.max(axis=0)
    damaged = plain.copy()
    behind = damaged[low[0] : high[0], low[1] : low[1] + 8, high[2] + 24 : high[2] + 34]
    behind[behind == 0] = 202  # a false piece 20 mm behind the disc, as wide and large enough to count
    whole, table = measure(plain, SPACING), measure(damaged, SPACING)
    assert looked_up(table, 202, "overhang") == pytest.approx(looked_up(whole, 202, "overhang"), abs=0.3)
    assert looked_up(table, 202, "herniated") == 0


def test_a_missing_disc_leaves_the_space_between_the_bodies(plain):
    whole, table = measure(plain, SPACING), measure(np.where(plain == 203, 0, plain), SPACING)
    complete(table)
    for quantity in ("disc height middle", "disc angle", "slip"):
        assert looked_up(table, 203, quantity) == pytest.approx(looked_up(whole, 203, quantity), abs=0.15)
    gone = table[(table["label"] == 203) & table["quantity"].isin(["disc depth", "herniated", "overhang"])]
    assert gone["status"].str.contains("disc is missing").all()


def test_a_missing_vertebra_is_replaced_by_the_disc_faces(plain):
    table = measure(np.where(plain == 3, 0, plain), SPACING)
    complete(table)
    assert not (table["level"] == "L3").any()
    assert looked_up(table, 203, "disc height middle") == pytest.approx(DISC, abs=1.0)
    assert table[(table["label"] == 203) & (table["quantity"] == "slip")]["status"].str.contains("missing or cut").all()
    assert looked_up(table, 204, "slip") == pytest.approx(0, abs=2.0)


def test_cut_vertebrae_keep_the_endplate_in_view(plain):
    rows = np.flatnonzero((plain == 5).any(axis=(0, 2)))
    cut = plain[:, rows[0] + 18 :]  # 14 mm of L1's body are gone
    for mask in (cut, np.where(cut == 5, 105, cut)):
        table = measure(mask, SPACING)
        complete(table)
        bodies = table[(table["label"] == 5) & table["quantity"].str.startswith("body")]
        assert len(bodies) == 5 and bodies["status"].str.contains("cut").all()
        assert looked_up(table, 205, "disc height middle") == pytest.approx(DISC, abs=0.7)
        lordotic = table[table["quantity"] == "lordosis L1 to L5"]
        assert lordotic["status"].str.contains("missing").all()


def test_what_the_picture_cuts_in_front_has_no_depth(plain):
    columns = np.flatnonzero((plain == 3).any(axis=(0, 1)))
    table = measure(plain[..., columns[0] + 8 :], SPACING)
    complete(table)
    cut = table[table["label"].isin([3, 203]) & table["quantity"].isin(["body depth", "disc depth", "disc height anterior"])]
    assert len(cut) == 3 and cut["status"].str.contains("the picture cuts").all()


def believable(table: pd.DataFrame, mask: np.ndarray, spacing: tuple[float, ...]) -> None:
    """What is measured is there: no more of the canal than its label holds, and no height far from those beside it."""
    values = table[table["status"] == MEASURED].pivot(index="label", columns="quantity", values="value")
    extent = [np.ptp(at) * step + step for at, step in zip(np.nonzero(mask == 100), spacing, strict=True)] if 100 in mask else []
    for _, row in values.iterrows():
        found = row.dropna()
        for quantity in found.index[found.index.str.startswith("canal diameter")]:
            assert 0 < found[quantity] <= np.hypot(*extent[-2:])
        for quantity in found.index[found.index.str.startswith("canal area")]:
            assert 0 < found[quantity] <= extent[0] * np.hypot(*extent[1:])
        if "disc height middle" in found:
            corners = found["disc height anterior"], found["disc height posterior"]
            assert 1.0 <= found["disc height middle"] <= max(corners) + 20, "two hollows of 10 mm"


def reason(table: pd.DataFrame, label: int, quantity: str) -> str:
    """Why a quantity could not be measured; "measured" if it could."""
    return table[(table["label"] == label) & (table["quantity"] == quantity)]["status"].item()


@pytest.mark.parametrize(("gap", "above"), [(1, 0), (2, 0), (2, 1), (4, 1)])
def test_a_block_vertebra_has_no_disc_space(gap, above):
    """Two bodies grown together in the middle, with a slit of some pixels in front and behind: no far endplate is taken."""
    mask = np.zeros((120, 80), np.uint8)
    mask[26:60, 20:60], mask[60:94, 20:60] = 3, 2
    mask[60 - above : 60 - above + gap, [*range(20, 36), *range(44, 60)]] = 0
    table = measure(mask, (0.8, 0.8))
    for place in ("anterior", "middle", "posterior"):
        assert "the bodies touch" in reason(table, 203, f"disc height {place}")
    assert not any(mark.quantity == "disc height middle" for mark in marks(mask, (0.8, 0.8)))


def test_bodies_that_nearly_touch_keep_their_height():
    mask = np.zeros((120, 80), np.uint8)
    mask[26:60, 20:60], mask[62:94, 20:60] = 3, 2
    assert looked_up(measure(mask, (0.8, 0.8)), 203, "disc height middle") == pytest.approx(1.6, abs=0.05)


def test_a_hole_through_an_endplate_is_no_disc_space():
    """Without bone above and below the middle the far endplates, 25 mm away, are no height."""
    mask = np.zeros((120, 80), np.uint8)
    mask[26:58, 20:60], mask[64:94, 20:60] = 3, 2
    whole = measure(mask, (0.8, 0.8))
    assert looked_up(whole, 203, "disc height middle") == pytest.approx(6 * 0.8, abs=0.05)
    mask[34:58, 36:44] = 0
    assert "no endplate above or below" in reason(measure(mask, (0.8, 0.8)), 203, "disc height middle")


def test_an_interrupted_canal_has_no_diameter(plain):
    rows = np.flatnonzero((plain == 203).any(axis=(0, 2)))
    gone = plain.copy()
    gone[:, rows[0] - 4 : rows[-1] + 5][gone[:, rows[0] - 4 : rows[-1] + 5] == 100] = 0
    table = measure(gone, SPACING)
    complete(table)
    for quantity in ("canal diameter", "canal diameter narrowest", "canal area"):
        assert "interrupted" in reason(table, 203, quantity)
        assert looked_up(table, 202, quantity) == pytest.approx(looked_up(measure(plain, SPACING), 202, quantity), rel=0.05)
    assert not any(mark.level == "L3/L4" and mark.quantity == "canal diameter" for mark in marks(gone, SPACING))


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 5, 14)])
@pytest.mark.parametrize("pixels", [0, 1, 6])
def test_a_canal_that_the_picture_cuts_has_no_diameter(pixels, degrees):
    """The picture ends at the canal's back at L4/L5, or so many pixels before: what lies beyond is not known."""
    mask, _ = rasterised(SPACING, degrees)
    rows = np.flatnonzero((mask == 202).any(axis=(0, 2)))
    last = np.flatnonzero((mask == 100)[:, rows[0] : rows[-1]].any(axis=(0, 1)))[-1]
    whole, table = measure(mask, SPACING), measure(mask[..., : last + 1 - pixels], SPACING)
    complete(table)
    found = table[table["quantity"].str.startswith("canal")].merge(whole, on=["label", "quantity"])
    known = found[(found["status_x"] == MEASURED) & (found["status_y"] == MEASURED)]
    assert known["value_x"].to_numpy() == pytest.approx(known["value_y"].to_numpy(), rel=0.05)
    for quantity in ("canal diameter", "canal diameter narrowest", "canal area"):
        assert "the picture cuts the canal" in reason(table, 201, quantity)
        assert pixels < 6 or "the picture cuts the canal" in reason(table, 202, quantity)


def test_outer_slices_that_cut_the_canal_show_no_area(plain):
    """Nine slices, 27 mm, hold the canal of 18 mm and a slice beside it; five hold 15 mm of it."""
    assert looked_up(measure(plain[10:19], SPACING), 202, "canal area") == looked_up(measure(plain, SPACING), 202, "canal area")
    table = measure(plain[12:17], SPACING)
    assert "outermost slice" in reason(table, 202, "canal area")
    assert looked_up(table, 202, "canal diameter") == pytest.approx(2 * SAC[1], abs=0.5)


def test_crumbs_holes_and_noise_change_little(plain):
    rng = np.random.default_rng(5)
    damaged = plain.copy()
    for label in (1, 3, 203, 100):  # crumbs far from the spine
        place = rng.integers(0, 12, 2)
        damaged[10:14, 5 + place[0] : 9 + place[0], 5 + place[1] : 9 + place[1]] = label
    inside = np.argwhere(damaged == 3)
    damaged[tuple(inside[rng.choice(len(inside), 40, replace=False)].T)] = 0
    whole, table = measure(plain, SPACING), measure(damaged, SPACING)
    complete(table)
    both = whole.merge(table, on=["label", "quantity"])
    both = both[(both["status_x"] == MEASURED) & both["quantity"].str.contains("height|angle|canal diameter|lordosis")]
    assert (both["value_x"] - both["value_y"]).abs().median() < 0.05
    assert (both["value_x"] - both["value_y"]).abs().quantile(0.95) < 1.0


def test_masks_with_nothing_or_next_to_nothing(plain):
    empty = measure(np.zeros((5, 20, 20), np.uint8), (3, 1, 1))
    assert list(empty.columns) == list(COLUMNS) and not len(empty)
    for label in (1, 201, 105, 100):
        crumb = np.zeros((5, 30, 30), np.uint8)
        crumb[2, 10:12, 10:13] = label
        complete(measure(crumb, (3, 1, 1)))
        complete(measure(crumb[2], (1, 1)))
    complete(measure(np.full((4, 30, 30), 2, np.uint8), (3, 1, 1)))
    discs = measure(np.where(plain > 200, plain, 0), SPACING)
    complete(discs)
    assert looked_up(discs, 203, "disc height middle") == pytest.approx(DISC, abs=1.0)
    assert discs[discs["quantity"] == "canal diameter"]["status"].str.contains("no canal").all()


@pytest.mark.parametrize("seed", range(4))
def test_any_mask_gives_numbers_or_reasons(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((6, 60, 50), np.uint8)
    for _ in range(40):
        low = rng.integers(0, (6, 55, 45))
        high = low + rng.integers(1, (4, 22, 22))
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = rng.choice(
            [0, 1, 2, 3, 4, 103, 100, 201, 202, 203, 204]
        )
    image = rng.normal(100, 20, mask.shape).astype(np.float32)
    for part, picture, spacing in (
        (mask, image, (4.0, 1.3, 0.8)),
        (mask[3], image[3], (1.3, 0.8)),
        (mask[:1], image[:1], (4, 1, 1)),
    ):
        table = measure(part, spacing, picture)
        complete(table)
        believable(table, part, spacing)


def test_a_single_slice_shows_no_width_of_a_hernia():
    spacing = (3.0, 0.5, 0.7)
    mask, _ = rasterised(spacing, (0, 0, 0))
    table = measure(mask[15], spacing[1:])  # 45 mm: within the hernia
    assert looked_up(table, 203, "herniated") == 1
    assert "a single plane shows no width" in reason(table, 203, "hernia width")


def test_what_cannot_be_marked_takes_nothing_else_along(plain):
    """Endplates that cross have no heights; the canal beside them is marked all the same."""
    mask = np.zeros((120, 90), np.uint8)
    mask[26:60, 20:60], mask[60:94, 20:60], mask[10:110, 66:82] = 3, 2, 100
    mask[58:62, 30:50] = 203
    found = {mark.quantity for mark in marks(mask, (0.8, 0.8)) if mark.level == "L3/L4"}
    assert reason(measure(mask, (0.8, 0.8)), 203, "disc height middle") != MEASURED
    assert found == {"canal diameter"}


def test_marks_are_as_long_as_what_they_mark():
    spacing, degrees = (3.0, 0.9, 0.6), (-10, 5, 4)
    mask, _ = rasterised(spacing, degrees)
    table, found = measure(mask, spacing), marks(mask, spacing)
    levels = {"L3/L4": 203, "L4/L5": 202, "L2/L3": 204}
    for level, label in levels.items():
        lengths = {mark.quantity: np.linalg.norm(mark.ends[1] - mark.ends[0]) for mark in found if mark.level == level}
        for quantity in ("disc height middle", "disc height anterior", "disc height posterior"):
            assert lengths[quantity] == pytest.approx(looked_up(table, label, quantity), abs=0.05)
        assert lengths["canal diameter"] == pytest.approx(looked_up(table, label, "canal diameter"), abs=0.6)
    plates = [np.linalg.norm(np.diff(mark.ends, axis=0)) for mark in found if mark.quantity == "endplate" and mark.level == "L3"]
    assert len(plates) == 2 and np.mean(plates) == pytest.approx(looked_up(table, 3, "body depth"), abs=0.1)
    lowest = [mark for mark in found if mark.level == "L5/S1" and mark.quantity == "endplate"]
    assert len(lowest) == 1, "no S1 is labelled: the disc's own lower face is drawn"
    near = {(mark.level, mark.quantity): mark.ends[:, 1].mean() for mark in of_disc(found, "L3/L4")}
    assert {level for level, _ in near} == {"L3", "L3/L4", "L4"} and ("L3/L4", "canal diameter") in near
    assert near["L3", "endplate"] < near["L3/L4", "disc height middle"] < near["L4", "endplate"]
    assert near["L4", "endplate"] - near["L3", "endplate"] < 20, "the plates that face the disc"
    assert marks(np.zeros((5, 20, 20), np.uint8), (3, 1, 1)) == []


def test_schemes_and_bad_input(plain):
    nine = np.where(plain > 200, plain - 190, np.where(plain == 100, 10, plain))
    pd.testing.assert_frame_equal(measure(nine, SPACING, scheme="levels20"), measure(plain, SPACING))
    with pytest.raises(ValueError, match="without levels.*spider-kit levels"):
        measure(plain, SPACING, scheme="structures4")
    classes = np.where(plain > 200, 3, np.where(plain == 100, 2, plain > 0)).astype(np.uint8)
    with pytest.raises(ValueError, match="hold classes.*spider-kit levels"):
        measure(classes, SPACING)
    with pytest.raises(ValueError, match="hold classes"):
        measure(classes[14], SPACING[1:], scheme="levels20")
    with pytest.raises(ValueError, match="only 1, 2, 3.*hold classes"):  # however little of the spine is in view
        rows = np.flatnonzero((plain == 203).any(axis=(0, 2)))
        measure(classes[:, rows[0] - 15 : rows[-1] + 15], SPACING)
    complete(measure(np.where(plain <= 3, plain, 0), SPACING))  # three vertebrae alone are no classes
    with pytest.raises(ValueError, match="unknown"):
        measure(plain, SPACING, scheme="colours")
    with pytest.raises(ValueError, match="3 positive numbers"):
        measure(plain, (1, 1))
    with pytest.raises(ValueError, match="does not fit"):
        measure(plain, SPACING, plain[0])
    with pytest.raises(ValueError, match="shape"):
        measure(np.zeros(7, np.uint8), (1,))


def test_signal_of_discs_against_fluid_and_marrow(plain):
    image = np.zeros(plain.shape, np.float32)
    image[plain == 100], image[(plain > 0) & (plain < 100)] = 400, 100
    for label, value in ((201, 40), (202, 80), (203, 120), (204, 160), (205, 200)):
        image[plain == label] = value
    table = measure(plain, SPACING, image)
    complete(table)
    for number in range(2, 6):
        assert looked_up(table, 200 + number, "disc signal over fluid") == pytest.approx(number / 10, abs=0.01)
        assert looked_up(table, 200 + number, "disc signal over marrow") == pytest.approx(number * 0.4, abs=0.02)
    assert not measure(plain, SPACING)["quantity"].str.contains("signal").any()


def test_a_canal_and_vertebrae_without_discs_are_measured():
    mask = np.zeros((5, 120, 60), np.uint8)
    mask[1:4, :, 40:48] = CANAL
    for number, top in ((1, 80), (2, 45), (3, 10)):
        mask[1:4, top : top + 27, 8:38] = number
    table = measure(mask, (4.0, 0.9, 1.1))
    heights = table[table["quantity"] == "body height middle"]
    assert heights["value"].to_numpy() == pytest.approx([27 * 0.9] * 3, abs=0.4)


@pytest.mark.parametrize("spacing", [(4.0, 1.0, 1.0), (4.0, 1.0, 1.3), (4.0, 0.9, 1.3)])
def test_rows_of_a_millimetre_hide_no_wall(spacing: tuple[float, float, float]):
    """The points of one wall of a box may all fall into other millimetres below the endplate than the other wall's."""
    table = measure(name_levels(box_spine()[1], spacing).mask, spacing)
    heights = table[(table["quantity"] == "body height middle")]
    assert (heights["status"] == MEASURED).all() and np.allclose(heights["value"], BODY_ROWS * spacing[1], atol=0.05)
    assert (table["status"] == MEASURED).sum() == 110
