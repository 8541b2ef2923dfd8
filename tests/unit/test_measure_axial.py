"""Lines on axial slices: exact on shapes worked out by hand, under anisotropic pixels and rotation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spider_utils.measure.axial import DISC, HERNIA, SAC, VERTEBRA, hernia_line, sac_line
from spider_utils.measure.geometry import NotMeasurable

CENTRE = np.array([40.13, 45.21])  # mm, of the sac: no pixel lies just on an edge


def drawn(shapes, spacing, turn_deg=0.0, size_mm=(80, 90)):
    """Labels of shapes: label -> test of (back, left) mm from the sac's centre in the patient's frame; later ones on top."""
    rows, columns = (round(mm / step) for mm, step in zip(size_mm, spacing, strict=True))
    y, x = np.meshgrid(np.arange(rows) * spacing[0], np.arange(columns) * spacing[1], indexing="ij")
    y, x, turn = y - CENTRE[0], x - CENTRE[1], math.radians(turn_deg)
    back, left = y * math.cos(turn) + x * math.sin(turn), x * math.cos(turn) - y * math.sin(turn)
    mask = np.zeros((rows, columns), np.uint8)
    for label, inside in shapes.items():
        mask[inside(back, left)] = label
    return mask


def box(front, back, right, left):
    return lambda b, a: (b > front) & (b < back) & (a > right) & (a < left)


def oval(middle, half_back, half_left):
    return lambda b, a: ((b - middle) / half_back) ** 2 + (a / half_left) ** 2 < 1


SPINE = {DISC: box(-34, -9, -20, 20), SAC: oval(0, 6, 9)}


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.4, 0.9), (0.9, 0.4)])
@pytest.mark.parametrize("turn", [0, 17, -30])
def test_the_sac_of_an_oval(spacing, turn):
    line = sac_line(drawn(SPINE, spacing, turn), spacing)
    assert line.length == pytest.approx(12, abs=0.75 * max(spacing)), "three quarters of a pixel"
    assert line.area == pytest.approx(math.pi * 6 * 9, rel=0.02)
    middle, way = (line.front + line.back) / 2, (line.back - line.front) / line.length
    np.testing.assert_allclose(middle, CENTRE, atol=0.25)
    assert np.degrees(np.arctan2(way[1], way[0])) == pytest.approx(turn, abs=1.5), "it turns with the patient"


def test_pixels_are_counted_exactly():
    """20 x 30 pixels of 0.6 x 0.5 mm: 12 mm from edge to edge, and half a pixel beyond the outer pixels' centres."""
    mask = np.zeros((80, 90), np.uint8)
    mask[10:30, 20:70] = VERTEBRA
    mask[35:55, 30:60] = SAC
    line = sac_line(mask, (0.6, 0.5))
    assert line.length == pytest.approx(12.0, abs=0.04) and line.area == pytest.approx(20 * 30 * 0.3)
    np.testing.assert_allclose(line.front, [34.5 * 0.6, 44.5 * 0.5], atol=0.03)
    np.testing.assert_allclose(line.back, [54.5 * 0.6, 44.5 * 0.5], atol=0.03)


def test_a_hernia_shortens_the_line():
    spacing = (0.5, 0.5)
    pressed = drawn(SPINE | {HERNIA: box(-9.5, -2, -3, 3)}, spacing)
    plain, line = sac_line(drawn(SPINE, spacing), spacing), sac_line(pressed, spacing)
    assert line.length == pytest.approx(8, abs=0.5) and line.area < plain.area - 15
    np.testing.assert_allclose(line.back, plain.back, atol=0.6)


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.4, 0.9), (0.9, 0.4)])
@pytest.mark.parametrize("turn", [0, 17, -30])
def test_the_height_of_a_hernia_over_its_base(spacing, turn):
    """A dome of half an oval, 10 mm wide and 5 mm high, beside the midline of a straight back wall."""
    dome = lambda b, a: (((b + 9) / 5) ** 2 + ((a - 4) / 5) ** 2 < 1) & (b >= -9)  # noqa: E731
    line = hernia_line(drawn(SPINE | {HERNIA: dome}, spacing, turn), spacing)
    assert line.height == pytest.approx(5, abs=0.6 * max(spacing))
    assert np.linalg.norm(line.base[1] - line.base[0]) == pytest.approx(10, abs=2 * max(spacing))
    turned = math.radians(turn)
    top = CENTRE + [-4 * math.cos(turned) - 4 * math.sin(turned), -4 * math.sin(turned) + 4 * math.cos(turned)]
    np.testing.assert_allclose(line.top, top, atol=1.6)
    assert abs((line.top - line.foot) @ (line.base[1] - line.base[0])) < 1e-6, "the height stands on the base at a right angle"


def test_a_height_counted_in_pixels():
    mask = np.zeros((60, 60), np.uint8)
    mask[5:30, 10:50] = DISC
    mask[30:37, 26:34] = HERNIA
    line = hernia_line(mask, (0.7, 0.5))
    assert line.height == pytest.approx(7 * 0.7, abs=0.02)
    np.testing.assert_allclose(np.sort(line.base[:, 1]), [26 * 0.5, 33 * 0.5])
    np.testing.assert_allclose(line.base[:, 0], 29.5 * 0.7)


@given(shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)), ap=st.floats(4, 8), width=st.floats(6, 11))
def test_lengths_follow_the_shape_wherever_it_lies(shift, ap, width):
    moved = {DISC: box(-34, -9, -20, 20), SAC: lambda b, a: ((b - shift[0]) / ap) ** 2 + ((a - shift[1]) / width) ** 2 < 1}
    moved[DISC] = lambda b, a: (np.abs(b - shift[0] + 24) < 12) & (np.abs(a - shift[1]) < 20)
    line = sac_line(drawn(moved, (0.5, 0.6)), (0.5, 0.6))
    assert line.length == pytest.approx(2 * ap, abs=0.6) and line.area == pytest.approx(math.pi * ap * width, rel=0.05)


def test_twice_the_pixels_twice_the_lengths():
    mask = drawn(SPINE | {HERNIA: box(-9.5, -5, -3, 3)}, (0.5, 0.5))
    assert sac_line(mask, (1, 1)).length == pytest.approx(2 * sac_line(mask, (0.5, 0.5)).length, abs=0.05)
    assert hernia_line(mask, (1, 1)).height == pytest.approx(2 * hernia_line(mask, (0.5, 0.5)).height)


def test_crumbs_have_no_say():
    mask = drawn(SPINE, (0.5, 0.5))
    dirty = mask.copy()
    dirty[150:153, 5:8] = SAC
    dirty[2:5, 170:173] = DISC
    assert sac_line(dirty, (0.5, 0.5)).length == sac_line(mask, (0.5, 0.5)).length


def drawn_pixels(*boxes):
    """60 x 60 labels of boxes (label, rows, columns), later ones on top."""
    mask = np.zeros((60, 60), np.uint8)
    for label, rows, columns in boxes:
        mask[slice(*rows), slice(*columns)] = label
    return mask


def test_the_line_is_the_mean_over_a_strip_of_three_mm():
    """20 rows and a spike of 4 on the middle one of the strip's seven lines; pixels are as far apart as they are."""
    mask = drawn_pixels((DISC, (5, 20), (15, 36)), (SAC, (25, 45), (10, 41)), (SAC, (45, 49), (25, 26)))
    assert sac_line(mask, (0.5, 0.5)).length == pytest.approx(10 + 4 * 0.5 / 7, abs=0.02)


def test_processes_do_not_draw_the_line_aside():
    """A vertebral body with a thin process on one side: the line still runs straight backwards."""
    plain = drawn_pixels((VERTEBRA, (5, 20), (15, 36)), (SAC, (25, 45), (18, 33)))
    one_sided = drawn_pixels((VERTEBRA, (5, 20), (15, 36)), (SAC, (25, 45), (18, 33)), (VERTEBRA, (16, 19), (36, 60)))
    way = sac_line(one_sided, (0.5, 0.5)).back - sac_line(one_sided, (0.5, 0.5)).front
    assert way[1] == pytest.approx(0, abs=0.05) and way[0] == pytest.approx(10, abs=0.05)
    assert sac_line(plain, (0.5, 0.5)).length == pytest.approx(sac_line(one_sided, (0.5, 0.5)).length, abs=0.02)


def test_the_stretch_at_the_centroid_counts():
    """A sac that something parts from one side to beyond its middle: 4 rows in front, 16 behind, where its centroid lies."""
    mask = drawn_pixels((DISC, (2, 14), (10, 40)), (SAC, (18, 41), (10, 40)), (HERNIA, (22, 25), (10, 36)))
    line = sac_line(mask, (0.5, 0.5))
    assert line.length == pytest.approx(16 * 0.5, abs=0.1) and line.front[0] == pytest.approx(24.5 * 0.5, abs=0.05)


def test_a_narrow_base_has_no_direction_of_its_own():
    """A hernia that hangs on two pixels, one a row deeper than the other: its height stands on the way from the disc."""
    mask = drawn_pixels((DISC, (10, 30), (20, 41)), (DISC, (30, 31), (20, 31)), (HERNIA, (33, 41), (25, 37)))
    mask[31:33, 30], mask[30:33, 31] = HERNIA, HERNIA
    line = hernia_line(mask, (0.5, 0.5))
    assert np.linalg.norm(line.base[1] - line.base[0]) < 2
    way = line.top - line.foot
    assert abs(way[1] / way[0]) < 0.1, "not askew by 45 degrees, as the base is"
    assert line.height == pytest.approx(11 * 0.5, abs=0.15)


@pytest.mark.parametrize(
    "stray",
    [
        (VERTEBRA, (30, 31), (34, 35)),  # of a pedicle, beside the hernia
        (VERTEBRA, (36, 37), (34, 35)),
        (DISC, (36, 37), (34, 35)),  # of a disc, beside its top
        (DISC, (37, 38), (30, 31)),  # behind it
        (DISC, (34, 37), (34, 35)),
    ],
)
def test_stray_pixels_do_not_move_the_base(stray):
    plain = drawn_pixels((DISC, (5, 30), (10, 50)), (HERNIA, (30, 37), (26, 34)))
    line, dirty = (hernia_line(mask, (0.7, 0.5)) for mask in (plain, np.where(drawn_pixels(stray) > 0, stray[0], plain)))
    np.testing.assert_array_equal(dirty.base, line.base)
    assert dirty.height == pytest.approx(line.height)


def test_pixels_that_hang_on_the_disc_beside_a_hernia_are_no_base():
    """A spur of the disc along the hernia's flank: only what lies before the hernia's middle can be its base."""
    plain = drawn_pixels((DISC, (5, 30), (10, 50)), (HERNIA, (30, 37), (26, 34)))
    spur = drawn_pixels(
        (DISC, (5, 30), (10, 50)), (HERNIA, (30, 37), (26, 34)), (DISC, (30, 40), (36, 37)), (DISC, (36, 37), (34, 37))
    )
    assert hernia_line(spur, (0.5, 0.5)).height == pytest.approx(hernia_line(plain, (0.5, 0.5)).height, abs=0.05)


def test_of_a_disc_the_slice_may_show_its_front_and_its_back():
    """A hollow endplate reaches into the slice: the larger piece of the disc lies in front, the hernia on the smaller one."""
    mask = drawn_pixels(
        (VERTEBRA, (5, 30), (10, 50)), (DISC, (5, 12), (10, 50)), (DISC, (27, 30), (20, 44)), (HERNIA, (30, 37), (26, 34))
    )
    line = hernia_line(mask, (0.7, 0.5))
    assert line.height == pytest.approx(4.9, abs=0.02)
    np.testing.assert_allclose(np.sort(line.base[:, 1]), [26 * 0.5, 33 * 0.5])


def test_a_hernia_on_bone_alone_stands_on_it():
    mask = drawn_pixels((VERTEBRA, (5, 30), (10, 50)), (HERNIA, (30, 37), (26, 34)), (DISC, (45, 55), (10, 50)))
    assert hernia_line(mask, (0.5, 0.5)).height == pytest.approx(3.5, abs=0.02)


def test_what_a_slice_does_not_show():
    mask = drawn(SPINE, (0.5, 0.5))
    with pytest.raises(NotMeasurable, match="no hernia"):
        hernia_line(mask, (0.5, 0.5))
    with pytest.raises(NotMeasurable, match="no dural sac"):
        sac_line(np.where(mask == SAC, 0, mask), (0.5, 0.5))
    with pytest.raises(NotMeasurable, match="no disc or vertebra"):
        sac_line(np.where(mask == DISC, 0, mask), (0.5, 0.5))
    alone = np.zeros((40, 40), np.uint8)
    alone[5:10, 5:35], alone[20:30, 15:25] = DISC, HERNIA
    with pytest.raises(NotMeasurable, match="touches neither"):
        hernia_line(alone, (0.5, 0.5))
