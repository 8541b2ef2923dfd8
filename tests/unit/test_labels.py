"""Label schemes: nothing is wrapped, clipped, clamped or lost without being said."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spider_utils.labels import SCHEMES, ConversionReport, LabelWarning, colorize, convert, disc_name, get_scheme, vertebra_name

POSSIBLE = {  # the pairs that a conversion exists for; a target that needs levels cannot come from a source without them
    ("spider", "levels20"),
    ("spider", "clamped20"),
    ("spider", "structures4"),
    ("spider", "released_gray"),
    ("levels20", "spider"),
    ("levels20", "clamped20"),
    ("levels20", "structures4"),
    ("levels20", "released_gray"),
    ("structures4", "released_gray"),
    ("released_gray", "structures4"),
} | {(name, name) for name in SCHEMES}


def masks(scheme: str, dtype=np.int32) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(dtype, arrays.array_shapes(max_dims=3, max_side=6), elements=st.sampled_from(get_scheme(scheme).values))


def test_what_the_schemes_hold():
    spider, levels, four = (get_scheme(name) for name in ("spider", "levels20", "structures4"))
    assert spider.values == (0, *range(1, 26), 100, *range(101, 126), *range(201, 226))
    assert levels.values == tuple(range(20)) and levels.n_classes == 20 and levels.foreground == tuple(range(1, 20))
    assert four.names == {0: "background", 1: "vertebra", 2: "spinal canal", 3: "disc"}
    assert get_scheme("released_gray").names == {0: "background", 29: "disc", 76: "vertebra", 150: "spinal canal"}
    assert [vertebra_name(n) for n in (1, 5, 6, 17, 18)] == ["L5", "L1", "T12", "T1", "C7"]
    assert [disc_name(n) for n in (1, 2, 6)] == ["L5/S1", "L4/L5", "T12/L1"]
    assert spider.names[103] == "L3 (partly in view)" and levels.names[11] == "disc L5/S1" and spider.names[201] == "disc L5/S1"
    assert repr(spider) == "LabelScheme('spider', 77 values: 0-25, 100-125, 201-225)"
    for scheme in SCHEMES.values():
        assert scheme.names.keys() == scheme.colors.keys() and scheme.values[0] == 0


def test_unknown_scheme_names_the_known_ones():
    with pytest.raises(ValueError, match="'spidr'.*spider, levels20, clamped20, structures4, axial8, released_gray"):
        get_scheme("spidr")


@pytest.mark.parametrize(("source", "target"), list(itertools.product(SCHEMES, SCHEMES)))
def test_every_pair_converts_or_says_why_not(source, target):
    everything = np.array(get_scheme(source).values, np.uint8)
    if (source, target) not in POSSIBLE:
        why = "labels of their own" if "axial8" in (source, target) else "which level"
        with pytest.raises(ValueError, match=f"'{source}' cannot be converted to '{target}'.*{why}"):
            convert(everything, source, target)
        return
    out = convert(everything, source, target, ConversionReport())
    assert out.dtype == np.uint8 and set(out.tolist()) <= set(get_scheme(target).values)
    assert out[everything == 0].tolist() == [0]


def test_spider_to_levels_value_by_value():
    stored = np.array([0, 1, 9, 100, 101, 109, 201, 209], np.uint8)
    assert convert(stored, "spider", "levels20").tolist() == [0, 1, 9, 10, 1, 9, 11, 19]
    assert convert(stored, "spider", "structures4").tolist() == [0, 1, 1, 2, 1, 1, 3, 3]
    assert convert(np.arange(20), "levels20", "spider").tolist() == [0, *range(1, 10), 100, *range(201, 210)]
    assert convert(np.arange(4), "structures4", "released_gray").tolist() == [0, 76, 150, 29]


def test_clamping_melts_the_canal_all_discs_and_cut_vertebrae_into_one_class():
    stored = np.array([0, 1, 9, 18, 19, 25, 100, 101, 109, 201, 209, 225], np.uint8)
    report = ConversionReport()
    assert convert(stored, "spider", "clamped20", report).tolist() == [0, 1, 9, 18, 19, 19, 19, 19, 19, 19, 19, 19]
    assert report == ConversionReport()  # nothing became background, and cut vertebrae did not join their level
    assert convert(np.array([9, 10, 11]), "levels20", "clamped20").tolist() == [9, 19, 19]
    assert get_scheme("clamped20").values == tuple(range(20)) and get_scheme("clamped20").names[19] == "all else"


@given(masks("levels20"))
def test_levels_go_through_spider_and_back(mask):
    np.testing.assert_array_equal(convert(convert(mask, "levels20", "spider"), "spider", "levels20"), mask)


@given(masks("structures4", np.uint8))
def test_structures_go_through_gray_and_back(mask):
    np.testing.assert_array_equal(convert(convert(mask, "structures4", "released_gray"), "released_gray", "structures4"), mask)


@given(masks("spider"))
def test_the_way_through_levels_agrees_with_the_direct_one_where_levels_exist(mask):
    report = ConversionReport()
    through = convert(mask, "spider", "levels20", report)
    direct = convert(mask, "spider", "structures4")
    kept = ~np.isin(mask, list(report.dropped))
    np.testing.assert_array_equal(convert(through, "levels20", "structures4")[kept], direct[kept])
    assert (through[~kept] == 0).all()


@given(masks("spider"))
def test_the_report_counts_every_pixel_it_must(mask):
    report = ConversionReport()
    convert(mask, "spider", "levels20", report)
    values, counts = np.unique(mask, return_counts=True)
    number = {int(v): int(c) for v, c in zip(values, counts, strict=True)}
    lost = [*range(10, 26), *range(110, 126), *range(210, 226)]
    assert report.dropped == {v: n for v, n in number.items() if v in lost}
    assert report.partial == {v: n for v, n in number.items() if 101 <= v <= 109}


def test_dropped_values_are_said_aloud_when_nobody_collects_them():
    with pytest.warns(LabelWarning, match=r"became background: 10 \(1 px\), 215 \(2 px\).*kept: 103 \(1 px\)"):
        out = convert(np.array([215, 10, 215, 103, 2], np.uint8), "spider", "levels20")
    assert out.tolist() == [0, 0, 0, 3, 2]


def test_partial_vertebrae_alone_need_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = ConversionReport()
        assert convert(np.array([101, 125], np.uint8), "spider", "structures4", report).tolist() == [1, 1]
        assert convert(np.array([101, 125], np.uint8), "spider", "spider").tolist() == [101, 125]
    assert report.partial == {101: 1, 125: 1} and report.dropped == {}


def test_reports_add_up():
    first, second = ConversionReport({210: 2}, {101: 1}), ConversionReport({210: 3, 25: 1})
    first.add(second)
    assert first == ConversionReport({210: 5, 25: 1}, {101: 1})
    assert str(ConversionReport()) == "became background: none; partly visible vertebrae kept: none"


@given(st.sampled_from(sorted(POSSIBLE)), st.data())
def test_unknown_values_are_refused_with_their_counts(pair, data):
    source, target = pair
    unknown = data.draw(st.integers(-300, 70_000).filter(lambda v: v not in get_scheme(source).names))
    mask = data.draw(masks(source, np.int64).filter(lambda m: m.size))
    flat = mask.reshape(-1)
    times = data.draw(st.integers(1, flat.size))
    flat[:times] = unknown
    with pytest.raises(ValueError, match=rf"scheme '{source}' does not know: {unknown} \({times} px\)"):
        convert(mask, source, target, ConversionReport())


def test_many_unknown_values_are_cut_short():
    with pytest.raises(ValueError, match=r"57 \(1 px\) and 42 more\. Known are 0-25, 100-125, 201-225"):
        convert(np.arange(50, 100), "spider", "levels20")


def test_fractions_are_refused_and_booleans_are_numbers():
    with pytest.raises(ValueError, match="must hold integers, not float32"):
        convert(np.zeros(3, np.float32), "spider", "levels20")
    with pytest.raises(ValueError, match="must hold integers"):
        colorize(np.zeros((2, 2)), "structures4")
    lit = np.array([[True, False], [False, True]])
    assert convert(lit, "structures4", "released_gray").tolist() == [[76, 0], [0, 76]]
    assert colorize(lit, "structures4").shape == (2, 2, 3)


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_empty_and_scalar_masks_keep_their_shape(shape):
    assert convert(np.zeros(shape, np.uint8), "spider", "levels20").shape == shape


def lightness(rgb: tuple[int, int, int]) -> float:
    """Relative luminance (WCAG 2), 0..1: what is left of a colour in a gray print."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize(("name", "above"), [("spider", 200), ("levels20", 10)])
def test_neighbours_can_be_told_apart_in_colour_and_in_gray(name, above):
    colors = get_scheme(name).colors
    for level in range(1, 9):
        for a, b in ((level, level + 1), (above + level, above + level + 1)):
            assert abs(lightness(colors[a]) - lightness(colors[b])) > 0.05, (a, b)
        for touching in ((level, above + level), (level, above + level + 1)):
            assert np.abs(np.subtract(*(colors[v] for v in touching))).max() > 80
    canal = colors[100 if name == "spider" else 10]
    assert all(np.abs(np.subtract(canal, color)).max() > 60 for value, color in colors.items() if color != canal)


def test_colorize_paints_every_value_and_refuses_others():
    picture = colorize(np.array([[0, 1], [2, 3]], np.uint8), "structures4")
    assert picture.dtype == np.uint8 and picture[0, 0].tolist() == [0, 0, 0]
    assert {tuple(p) for p in picture.reshape(-1, 3).tolist()} == set(get_scheme("structures4").colors.values())
    with pytest.raises(ValueError, match=r"does not know: 4 \(1 px\)"):
        colorize(np.array([[4]]), "structures4")
