"""The slice viewer: true frames, controls that change them, and no need of a front end."""

import builtins
import io
import sys

import numpy as np
import pytest
from PIL import Image

from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.errors import DataError, KitError
from spider_utils.labels import get_scheme
from spider_utils.view.plots import PLANES
from spider_utils.view.viewer import SliceViewer, render_frame

COLORS = get_scheme("structures4").colors


def pixels_of(png):
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.asarray(picture)


@pytest.fixture
def volume():
    """6 sagittal slices of 40 x 30 pixels, 4.0 x 0.5 x 1.0 mm."""
    array = np.random.default_rng(1).integers(0, 1000, (6, 40, 30)).astype(np.int16)
    return Volume(array, (4.0, 0.5, 1.0), (0.0, 0.0, 0.0), kit_direction())


@pytest.fixture
def mask(volume):
    """A vertebra in slices 1 to 4, a disc in slice 4 only: slice 4 holds most."""
    array = np.zeros(volume.array.shape, np.uint8)
    array[1:5, 5:15, 5:20] = 1
    array[4, 16:20, 5:20] = 3
    return volume.with_array(array)


@pytest.fixture
def viewer(volume, mask):
    made = SliceViewer(volume, {"truth": mask, "model": mask.with_array(np.roll(mask.array, 3, axis=1))}, "structures4", size=80)
    assert made.widget is made.widget
    return made


# ---------------------------------------------------------------------------------------------------------------- frames


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


# ---------------------------------------------------------------------------------------------------------------- viewer


def test_opens_on_the_fullest_slice_in_every_plane(volume, mask):
    for name, plane in PLANES.items():
        counts = (mask.array > 0).sum(axis=tuple({0, 1, 2} - {plane.axis}))
        assert SliceViewer(volume, mask, "structures4", plane=name).view.index == counts.argmax()
    assert SliceViewer(volume).view.index == 3  # nothing is labelled: the middle
    assert SliceViewer(volume, mask.with_array(np.zeros_like(mask.array)), "structures4").view.index == 3


def test_slider_changes_the_picture(viewer, volume, mask):
    seen = []
    for index in range(6):
        viewer.controls["slice"].value = index
        expected = render_frame(
            volume.array[index], mask.array[index], "structures4", viewer.view.window, 0.4, False, (0.5, 1.0), 80, "SIAP"
        )
        assert viewer.picture.value == expected
        assert f"sagittal slice {index} (of 0 to 5)" in viewer.readout.value
        seen.append(expected)
    assert len(set(seen)) == 6


def test_read_out_tells_side_distance_and_labels(viewer):
    viewer.controls["slice"].value = 4
    assert "6.0 mm right of the middle" in viewer.readout.value  # slices run from left to right, 4 mm apart, middle 2.5
    assert "labels here: vertebra, disc" in viewer.readout.value
    viewer.controls["slice"].value = 1
    assert "6.0 mm left of the middle" in viewer.readout.value and "labels here: vertebra<" not in viewer.readout.value
    assert viewer.readout.value.endswith("labels here: vertebra")
    viewer.controls["slice"].value = 0
    assert viewer.readout.value.endswith("labels here: none")


@pytest.mark.parametrize("name", ["coronal", "axial"])
def test_plane_gives_the_slider_its_range_and_the_picture_its_proportions(viewer, volume, mask, name):
    viewer.controls["slice"].value = 5
    viewer.controls["plane"].value = name
    plane, slider = PLANES[name], viewer.controls["slice"]
    last = volume.array.shape[plane.axis] - 1
    assert (slider.max, viewer.controls["play"].max) == (last, last)
    assert slider.value == viewer.controls["play"].value == viewer.view.index
    shown = pixels_of(viewer.picture.value)
    rows, columns = plane.cut(volume.array, 0).shape
    row_mm, column_mm = plane.spacing(volume.spacing)
    assert shown.shape[0] / shown.shape[1] == pytest.approx(rows * row_mm / (columns * column_mm), rel=0.05)
    slider.value = last
    assert f"{name} slice {last} (of 0 to {last})" in viewer.readout.value
    viewer.controls["plane"].value = "sagittal"
    assert slider.max == 5 and slider.value == viewer.view.index == 4


def test_turning_the_plane_draws_once(viewer, monkeypatch):
    drawn = []
    original = viewer.frame
    monkeypatch.setattr(viewer, "frame", lambda: drawn.append(viewer.view.index) or original())
    viewer.controls["plane"].value = "coronal"
    assert drawn == [viewer.view.index]


def test_overlay_style_opacity_and_mask_change_the_picture(viewer):
    controls, frames = viewer.controls, [viewer.picture.value]
    for name, value in (("opacity", 0.9), ("style", True), ("mask", "model"), ("overlay", False)):
        controls[name].value = value
        frames.append(viewer.picture.value)
    assert len(set(frames)) == 5
    gray = pixels_of(frames[-1])
    assert (gray == gray[..., :1]).all() and "labels here" not in viewer.readout.value
    unlabelled = SliceViewer(viewer.volume, size=80)
    assert set(unlabelled.controls) == set() and "mask" not in (unlabelled.widget and unlabelled.controls)


def test_level_and_window_set_black_and_white(viewer, volume):
    viewer.controls["overlay"].value = False
    viewer.controls["level"].value, viewer.controls["window"].value = 500.0, 100.0
    low, high = viewer.view.window
    assert (low, high) == pytest.approx((450, 550), abs=5)  # sliders move in steps
    expected = render_frame(volume.array[viewer.view.index], window=(low, high), spacing_mm=(0.5, 1.0), size=80, letters="SIAP")
    assert viewer.picture.value == expected


def test_legend_names_all_labels_and_dims_those_not_in_the_slice(viewer):
    def lines():
        return viewer.legend.value.split("</div>")[:-1]

    viewer.controls["slice"].value = 4
    assert ["1: vertebra" in lines()[0], "3: disc" in lines()[1]] == [True, True]
    assert "rgb(0,114,178)" in lines()[0] and not any("opacity" in line for line in lines())
    viewer.controls["slice"].value = 1
    assert ["opacity" in line for line in lines()] == [False, True]


def test_play_is_tied_to_the_slider_in_the_browser(viewer):
    link = viewer._play_link
    assert link.source == (viewer.controls["play"], "value") and link.target == (viewer.controls["slice"], "value")


def test_notebooks_get_the_widget_and_a_line_of_text(viewer):
    bundle = viewer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == viewer.widget.model_id
    assert bundle["text/plain"] == repr(viewer)
    assert repr(viewer).startswith("SliceViewer(sagittal slice 4 (of 0 to 5), 6.0 mm right of the middle, masks: truth, model")


def test_static_figure_shows_the_current_slice_under_every_mask(viewer, volume, mask):
    viewer.controls["slice"].value = 2
    figure = viewer.static_figure()
    assert [ax.get_title() for ax in figure.axes] == ["image", "truth", "model"]
    assert np.array_equal(figure.axes[0].images[0].get_array(), volume.array[2])
    assert figure.axes[0].images[0].get_clim() == pytest.approx(viewer.view.window)
    assert [len(ax.images) for ax in figure.axes] == [1, 2, 2]
    assert "sagittal slice 2" in figure.caption


def test_without_ipywidgets_the_error_says_what_to_install(volume, mask, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("ipywidgets"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "ipywidgets", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    viewer = SliceViewer(volume, mask, "structures4")
    with pytest.raises(KitError, match="pip install 'ipywidgets>=8'"):
        _ = viewer.widget
    assert viewer.frame().startswith(b"\x89PNG") and viewer.static_figure().axes


def test_viewer_refuses_what_does_not_fit(volume, mask):
    with pytest.raises(DataError, match="geometry differs from the image in size"):
        SliceViewer(volume, Volume(mask.array[1:], mask.spacing, mask.origin, mask.direction), "structures4")
    shifted = Volume(mask.array, mask.spacing, (5.0, 0.0, 0.0), mask.direction)
    with pytest.raises(DataError, match="origin"):
        SliceViewer(volume, {"truth": mask, "model": shifted}, "structures4")
    for value in (9, -2, 999):
        bad = mask.array.astype(np.int16)
        bad[0, 0, 0] = value
        with pytest.raises(ValueError, match=rf"does not know: {value} \(1 px\)"):
            SliceViewer(volume, mask.with_array(bad), "structures4")
    with pytest.raises(ValueError, match="not finite"):
        SliceViewer(volume.with_array(np.where(volume.array > 990, np.nan, volume.array)))
    with pytest.raises(ValueError, match="Known are: sagittal, coronal, axial"):
        SliceViewer(volume, plane="oblique")


def test_names_of_masks_and_labels_cannot_inject_html(volume, mask):
    viewer = SliceViewer(volume, {"<b>truth</b>": mask}, "structures4", size=40)
    assert viewer.widget and "<b>" not in viewer.readout.value + viewer.legend.value
