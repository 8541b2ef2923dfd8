"""Frames: PNG bytes straight from arrays, compared with pictures worked out by hand."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from spider_utils.labels import get_scheme
from spider_utils.view.frames import Panel, png_of, render_frame, render_panels
from spider_utils.view.plots import ERROR_COLORS, FALSE_NEGATIVE, FALSE_POSITIVE, WRONG_CLASS

COLORS = get_scheme("structures4").colors


def pixels_of(png):
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        picture.verify()
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_png_holds_the_pixels_it_was_given(pixels):
    """Pillow, which reads them here, is the independent implementation."""
    assert np.array_equal(pixels_of(png_of(pixels)), pixels)


def test_frame_windows_the_image():
    image = np.array([[-50, 0, 100], [200, 250, 300]], dtype=np.int16)
    found = pixels_of(render_frame(image, window=(0, 200), size=3))
    assert found[..., 0].tolist() == [[0, 0, 127], [255, 255, 255]]
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_frame_is_the_same_whatever_the_type_of_the_image(dtype):
    image = np.arange(48).reshape(6, 8)
    assert render_frame(image.astype(dtype), window=(5, 40), size=8) == render_frame(image, window=(5, 40), size=8)


@pytest.mark.parametrize("spacing, size", [((1.0, 1.0), 60), ((0.5, 1.0), 100), ((3.0, 0.5), 90)])
def test_frame_has_true_proportions_and_the_size_asked_for(spacing, size):
    found = pixels_of(render_frame(np.zeros((40, 30), np.uint8), spacing_mm=spacing, size=size))
    height, width = 40 * spacing[0], 30 * spacing[1]
    assert max(found.shape) == size
    assert found.shape[0] / found.shape[1] == pytest.approx(height / width, rel=0.03)


def test_frame_blends_labels_with_the_image():
    image = np.full((10, 10), 100, np.uint8)
    mask = np.zeros((10, 10), np.uint8)
    mask[2:8, 2:8] = 3
    for opacity in (0.0, 0.25, 1.0):
        found = pixels_of(render_frame(image, mask, "structures4", (0, 255), opacity, size=10))
        expected = np.rint(100 * (1 - opacity) + np.array(COLORS[3]) * opacity)
        assert found[5, 5].tolist() == expected.tolist()
        assert found[0, 0].tolist() == [100, 100, 100]


def test_outline_draws_the_border_and_nothing_else():
    image = np.full((12, 12), 50, np.uint8)
    mask = np.zeros((12, 12), np.uint8)
    mask[2:10, 2:10] = 1
    found = pixels_of(render_frame(image, mask, "structures4", (0, 255), 0.1, True, size=12))
    colored = (found == COLORS[1]).all(axis=2)
    ring = mask.astype(bool)
    ring[3:9, 3:9] = False
    assert np.array_equal(colored, ring)
    assert (found[~ring] == 50).all()


def test_enlarged_labels_stay_labels():
    image = np.zeros((4, 4), np.uint8)
    mask = np.array([[1, 1, 3, 3]] * 4)
    found = pixels_of(render_frame(image, mask, "structures4", (0, 255), 1.0, size=37)).reshape(-1, 3)
    assert {tuple(color) for color in found.tolist()} == {COLORS[1], COLORS[3]}  # nothing in between


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_every_value_of_the_spider_scheme_has_its_colour(dtype):
    scheme = get_scheme("spider")
    mask = np.array([scheme.values], dtype=dtype)
    found = pixels_of(render_frame(np.zeros(mask.shape, np.uint8), mask, "spider", (0, 255), 1.0, size=mask.size))
    assert found[0].tolist() == [list(scheme.colors[value]) for value in scheme.values]


def test_boolean_masks_are_label_one():
    mask = np.array([[False, True]])
    found = pixels_of(render_frame(np.zeros((1, 2), np.uint8), mask, "structures4", (0, 255), 1.0, size=2))
    assert found[0].tolist() == [[0, 0, 0], list(COLORS[1])]


def test_letters_stand_at_the_edges_of_large_pictures_only():
    image = np.zeros((100, 100), np.uint8)
    plain = pixels_of(render_frame(image, window=(0, 255), size=200))
    lettered = pixels_of(render_frame(image, window=(0, 255), size=200, letters="SIAP"))
    changed = np.argwhere((plain != lettered).any(axis=2))
    inside = ((changed > 30) & (changed < 170)).all(axis=1)
    assert len(changed) and not inside.any()
    for near in (changed[:, 0] < 30, changed[:, 0] > 170, changed[:, 1] < 30, changed[:, 1] > 170):
        assert near.any()
    assert render_frame(image, window=(0, 255), size=50, letters="SIAP") == render_frame(image, window=(0, 255), size=50)


def test_frame_refuses_what_it_cannot_draw():
    image, mask = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    for value, shown in ((7, "7"), (300, "300"), (-1, "-1")):
        bad = mask.astype(np.int32)
        bad[0, 0] = value
        with pytest.raises(ValueError, match=rf"does not know: {shown} \(1 px\)"):
            render_frame(image, bad, "structures4")
    with pytest.raises(ValueError, match="mask has shape"):
        render_frame(image, mask[1:], "structures4")
    with pytest.raises(ValueError, match="opacity"):
        render_frame(image, mask, "structures4", opacity=1.5)
    with pytest.raises(ValueError, match="must be positive"):
        render_frame(image, spacing_mm=(0, 1))
    with pytest.raises(ValueError, match=r"\(rows, columns\)"):
        render_frame(image[None])


def test_hidden_labels_are_not_drawn():
    image, mask = np.full((4, 6), 90, np.uint8), np.repeat([[0, 1, 1, 2, 3, 3]], 4, axis=0)
    found = pixels_of(render_frame(image, mask, "structures4", (0, 255), 1.0, size=6, hidden={1, 2}))
    assert [tuple(color) for color in found[0].tolist()] == [(90, 90, 90)] * 4 + [COLORS[3]] * 2
    # A hidden label is background, so it has no border to show either, and what touches it ends there.
    outlined = pixels_of(render_frame(image, mask, "structures4", (0, 255), 1.0, True, size=6, hidden={1}))
    assert [tuple(color) for color in outlined[0].tolist()] == [(90, 90, 90)] * 3 + [COLORS[2], COLORS[3], (90, 90, 90)]
    everything = render_frame(image, mask, "structures4", (0, 255), size=6, hidden={1, 2, 3})
    assert everything == render_frame(image, window=(0, 255), size=6)


def test_panels_stand_side_by_side_with_their_titles_above():
    image = np.full((30, 20), 60, np.uint8)
    masks = [np.full(image.shape, value, np.uint8) for value in (1, 2, 3)]
    panels = [Panel(mask, f"m{k}") for k, mask in enumerate(masks)]
    found = pixels_of(render_panels(image, panels, "structures4", (0, 255), 1.0, size=60))
    assert found.shape == (22 + 60, 3 * 40 + 2 * 4, 3)
    for k, value in enumerate((1, 2, 3)):
        panel = found[22:, k * 44 : k * 44 + 40]
        assert (panel == COLORS[value]).all()
        assert found[:22, k * 44 : k * 44 + 40].max() > 200, "its title"
    assert (found[:, 40:44] == 0).all(), "a gap between them"
    single = pixels_of(render_panels(image, [Panel(masks[0])], "structures4", (0, 255), 1.0, size=60))
    assert single.shape == (60, 40, 3), "no title, no bar"


def test_a_title_too_long_for_its_panel_is_cut():
    image = np.zeros((40, 40), np.uint8)
    long, other = "a network with a very long name", "b"
    found = pixels_of(render_panels(image, [Panel(title=long), Panel(title=other)], window=(0, 255), size=60))
    assert (found[:22, 58:64] == 0).all(), "it does not run into the next panel"


def test_errors_have_the_colours_of_the_figures():
    image = np.full((2, 4), 200, np.uint8)
    truth = np.array([[0, 0, 1, 1]] * 2)
    prediction = np.array([[0, 3, 0, 3]] * 2)
    png = render_panels(image, [Panel(prediction, truth=truth)], "structures4", (0, 255), 0.1, size=4)
    expected = [(200,) * 3]
    for kind in (FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS):
        expected.append(tuple(round(0.1 * 200 + 0.9 * channel) for channel in ERROR_COLORS[kind]))
    assert [tuple(color) for color in pixels_of(png)[0].tolist()] == expected
    # Hidden discs are background on both sides: what was a false disc is right, what was mistaken for one is missed.
    hidden = pixels_of(render_panels(image, [Panel(prediction, truth=truth)], "structures4", (0, 255), size=4, hidden={3}))
    assert [tuple(color) for color in hidden[0].tolist()] == [expected[0], expected[0], expected[2], expected[2]]


@pytest.mark.parametrize("size", [100, 200])
def test_the_cross_hair_meets_at_its_pixel(size):
    image = np.full((100, 50), 128, np.uint8)
    plain = pixels_of(render_frame(image, window=(0, 255), size=size)).astype(int)
    crossed = pixels_of(render_frame(image, window=(0, 255), size=size, cross=(70, 20))).astype(int)
    rows, columns = np.nonzero((plain != crossed).any(axis=2))
    scale = size // 100
    row, column = int(70.5 * scale), int(20.5 * scale)
    assert set(rows[columns != column]) == {row} and set(columns[rows != row]) == {column}
    assert not ((abs(rows - row) < 9) & (abs(columns - column) < 9)).any(), "its middle is free: the pixel can be seen"
    assert set(np.unique(crossed[row])) == {0, 128, 255}, "dashes of white and black show on any gray"


def test_every_error_of_several_panels_is_one_clear_line():
    image, mask = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="at least one panel"):
        render_panels(image, [])
    with pytest.raises(ValueError, match=r"mask has shape \(3, 5\)"):
        render_panels(image, [Panel(mask, truth=mask[1:])], "structures4")
    with pytest.raises(ValueError, match=r"cross-hair points at \(4, 0\), outside"):
        render_frame(image, cross=(4, 0))
    with pytest.raises(ValueError, match=r"does not know: 9 \(1 px\)"):
        render_frame(image, mask, "structures4", hidden={9})
