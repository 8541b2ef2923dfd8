"""The slice viewer: true frames, controls that change them, and no need of a front end."""

import builtins
import io
import sys

import numpy as np
import pytest
from PIL import Image

from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.errors import DataError, KitError
from spider_utils.view.frames import render_frame
from spider_utils.view.plots import PLANES
from spider_utils.view.viewer import SliceViewer


def pixels_of(png):
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.asarray(picture)


def children_of(widget):
    """A widget's children, and theirs."""
    for child in getattr(widget, "children", ()):
        yield child
        yield from children_of(child)


def is_class(cell):
    return len(cell.children) == 2 and type(cell.children[1]).__name__ == "Checkbox" and type(cell.children[0]).__name__ == "HTML"


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
            volume.array[index], mask.array[index], "structures4", viewer.view.window, spacing_mm=(0.5, 1.0), size=80,
            letters="SIAP",
        )  # fmt: skip
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
    assert [viewer.controls[one].max for one in ("slice", "play", "number")] == [last] * 3
    assert [viewer.controls[one].value for one in ("slice", "play", "number")] == [viewer.view.index] * 3
    shown = pixels_of(viewer.picture.value)
    rows, columns = plane.cut(volume.array, 0).shape
    row_mm, column_mm = plane.spacing(volume.spacing)
    assert shown.shape[0] / shown.shape[1] == pytest.approx(rows * row_mm / (columns * column_mm), rel=0.05)
    slider.value = last
    assert f"{name} slice {last} (of 0 to {last})" in viewer.readout.value
    viewer.controls["plane"].value = "sagittal"
    assert slider.max == 5 and slider.value == viewer.view.index == 5, "the slice where it was left"


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


def test_each_class_has_its_colour_and_a_switch(viewer, volume, mask):
    assert {value: box.description for value, box in viewer.classes.items()} == {1: "vertebra", 3: "disc"}
    swatches = [cell.children[0].value for cell in children_of(viewer.widget) if type(cell).__name__ == "HBox" and is_class(cell)]
    assert [color in swatch for color, swatch in zip(("rgb(0, 114, 178)", "rgb(230, 159, 0)"), swatches, strict=True)] == [
        True
    ] * 2
    viewer.classes[1].value = False
    kept = np.where(mask.array[4] == 1, 0, mask.array[4])
    look = {"window": viewer.view.window, "spacing_mm": (0.5, 1.0), "size": 80, "letters": "SIAP"}
    assert viewer.picture.value == render_frame(volume.array[4], kept, "structures4", **look)
    assert viewer.readout.value.endswith("labels here: disc") and viewer.view.hidden == {1}
    viewer.controls["none"].click()
    assert viewer.picture.value == render_frame(volume.array[4], **look) and viewer.readout.value.endswith("labels here: none")
    viewer.controls["all"].click()
    assert viewer.picture.value == render_frame(volume.array[4], mask.array[4], "structures4", **look)


def test_all_and_none_draw_once(viewer, monkeypatch):
    drawn = []
    original = viewer.frame
    monkeypatch.setattr(viewer, "frame", lambda: drawn.append(0) or original())
    viewer.controls["none"].click()
    assert len(drawn) == 1


# ------------------------------------------------------------------------------------------------------------ cross-hair


def test_the_cross_hair_tells_place_intensity_and_labels(viewer, volume, mask):
    viewer.controls["slice"].value = 4
    viewer.controls["down"].value, viewer.controls["across"].value = 18, 7
    assert viewer.controls["cross"].value and viewer.view.point == [4, 18, 7]
    # Origin 0; slices 4 mm apart run to the right (-x), rows of 0.5 mm down (-z), columns of 1 mm to the back (+y).
    assert viewer.point_mm().tolist() == [-16.0, 7.0, -9.0]
    said = viewer.readout.value.split("<br>")[-1].split("; ")
    assert said[0] == "cross-hair: x -16.0, y 7.0, z -9.0 mm (left, back, up)"
    assert said[1:] == [f"intensity {volume.array[4, 18, 7]}", "truth: disc", "model: background"]


def test_the_cross_hair_stays_at_its_voxel_in_every_plane(viewer, volume):
    viewer.view.point = [4, 18, 7]
    viewer.controls["plane"].value = "axial"
    assert (viewer.controls["slice"].value, viewer.controls["down"].value, viewer.controls["across"].value) == (18, 7, 1)
    viewer.controls["plane"].value = "coronal"
    assert (viewer.controls["slice"].value, viewer.controls["down"].value, viewer.controls["across"].value) == (7, 18, 1)
    viewer.controls["across"].value = 0  # the left of the picture is the patient's right, where slices end
    assert viewer.view.point == [5, 18, 7]
    viewer.controls["plane"].value = "sagittal"
    assert viewer.controls["slice"].value == 5 and viewer.view.point == [5, 18, 7]


@pytest.mark.parametrize("name", list(PLANES))
def test_place_and_voxel_undo_each_other(name):
    plane, shape = PLANES[name], (3, 4, 5)
    array = np.arange(60).reshape(shape)
    for point in np.ndindex(shape):
        row, column = plane.place(point, shape)
        assert plane.cut(array, point[plane.axis])[row, column] == array[point]
        assert plane.voxel(row, column, point[plane.axis], shape) == point


# ------------------------------------------------------------------------------------------------------------- comparing


def test_side_by_side_shows_every_mask(viewer, volume, mask):
    viewer.controls["mode"].value = "side by side"
    shown = pixels_of(viewer.picture.value)
    single = render_frame(
        volume.array[4],
        viewer._masks["model"][4],
        "structures4",
        viewer.view.window,
        spacing_mm=(0.5, 1.0),
        size=80,
        letters="SIAP",
    )
    expected = pixels_of(single)
    assert np.array_equal(shown[-expected.shape[0] :, -expected.shape[1] :], expected), "the prediction is on the right"
    assert shown.shape[1] == 2 * expected.shape[1] + 4


def test_many_panels_stay_within_twice_the_size(volume, mask):
    viewer = SliceViewer(volume, {f"m{k}": mask for k in range(4)}, "structures4", plane="coronal", size=200)
    viewer.view.mode = "side by side"
    assert pixels_of(viewer.frame()).shape[1] <= 2 * 200 + 3 * 4


def test_difference_shows_errors_and_says_what_their_colours_mean(viewer):
    viewer.controls["mode"].value = "difference"
    assert [f"{name}" in viewer.readout.value for name in ("false positive", "false negative", "wrong class")] == [True] * 3
    colors = {tuple(c) for c in pixels_of(viewer.picture.value).reshape(-1, 3).tolist()}
    viewer.controls["overlay"].value = False
    assert "false positive" not in viewer.readout.value
    assert colors != {tuple(c) for c in pixels_of(viewer.picture.value).reshape(-1, 3).tolist()}


def test_the_worst_slice_has_most_wrong_pixels(volume, mask):
    """Worked out by hand: the model misses 3 pixels of slice 1, adds 7 in slice 5, and takes 5 for a disc in slice 2."""
    wrong = mask.array.copy()
    wrong[1, 5, 5:8] = 0
    wrong[5, 0, :7] = 1
    wrong[2, 5, 5:10] = 3
    viewer = SliceViewer(volume, {"truth": mask, "good": mask, "bad": mask.with_array(wrong)}, "structures4", size=40)
    assert viewer.wrong_pixels("bad").tolist() == [0, 3, 5, 0, 0, 7] and viewer.wrong_pixels("good").sum() == 0
    assert viewer.wrong_pixels().tolist() == [0, 3, 5, 0, 0, 7]
    assert viewer.widget
    viewer.controls["worst"].click()
    assert (
        viewer.controls["slice"].value == viewer.view.index == 5 and "most wrong pixels in this plane: 7" in viewer.readout.value
    )
    viewer.classes[1].value = False  # without vertebrae the false disc is the only error
    assert viewer.wrong_pixels("bad").tolist() == [0, 0, 5, 0, 0, 0]
    viewer.controls["worst"].click()
    assert viewer.view.index == 2
    viewer.controls["mask"].value = "good"  # shown alone, it alone counts
    viewer.controls["worst"].click()
    assert viewer.view.index == 2 and "no pixel differs" in viewer.readout.value
    viewer.controls["plane"].value = "axial"
    viewer.controls["mode"].value = "difference"
    viewer.controls["worst"].click()
    assert viewer.view.index == 5, "row 5 has all five of them"
    with pytest.raises(ValueError, match="no prediction 'truth'. There are: good, bad"):
        viewer.wrong_pixels("truth")


def test_static_figure_of_the_difference(viewer):
    viewer.controls["mode"].value = "difference"
    viewer.controls["cross"].value = True
    figure = viewer.static_figure()
    wrong = int((viewer._masks["truth"][4] != viewer._masks["model"][4]).sum())
    assert [ax.get_title() for ax in figure.axes] == ["truth", f"model\n{wrong} pixels wrong"]
    assert "false positive" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "cross-hair at x" in figure.caption and [len(ax.lines) for ax in figure.axes] == [3, 2]  # the bar is a line, too


# --------------------------------------------------------------------------------------------------------------- saving


def test_save_writes_what_is_shown_and_never_over_another(viewer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    viewer.controls["save"].click()
    assert (tmp_path / "slice-sagittal-4.png").read_bytes() == viewer.picture.value
    assert "saved as slice-sagittal-4.png" in viewer.readout.value
    viewer.controls["overlay"].value = False
    assert "saved" not in viewer.readout.value
    assert viewer.save_picture().name == "slice-sagittal-4-2.png"
    assert (tmp_path / "slice-sagittal-4-2.png").read_bytes() == viewer.picture.value
    assert viewer.save_picture(tmp_path / "deep" / "mine.png").is_file()
    with pytest.raises(DataError, match="ends in .png"):
        viewer.save_picture("mine.jpg")
    monkeypatch.setattr(
        SliceViewer, "save_picture", lambda self: (_ for _ in ()).throw(DataError("x.png", "is full", "Tidy up."))
    )
    viewer.controls["save"].click()
    assert viewer.readout.value.endswith("x.png: is full. Tidy up.")


# ------------------------------------------------------------------------------------------------------------ front ends


def test_update_brings_the_controls_to_what_code_has_set(viewer, monkeypatch):
    drawn = []
    original = viewer.frame
    monkeypatch.setattr(viewer, "frame", lambda: drawn.append(0) or original())
    viewer.view.plane, viewer.view.point, viewer.view.hidden = "axial", [4, 18, 7], {3}
    viewer.view.mode, viewer.view.cross, viewer.view.outline = "difference", True, True
    viewer.update()
    shown = {name: viewer.controls[name].value for name in ("plane", "slice", "down", "across", "mode", "cross", "style")}
    assert shown == {
        "plane": "axial", "slice": 18, "down": 7, "across": 1, "mode": "difference", "cross": True, "style": True,
    }  # fmt: skip
    assert (viewer.classes[1].value, viewer.classes[3].value) == (True, False)
    assert len(drawn) == 1 and viewer.picture.value == original()
    # Whatever a front end sends next must not leave controls that contradict the picture.
    viewer.view.index = 20
    viewer.controls["opacity"].value = 0.7
    assert viewer.controls["slice"].value == viewer.view.index == 20


def test_update_without_a_widget_does_nothing(volume):
    SliceViewer(volume).update()


def test_play_and_number_are_tied_to_the_slider_in_the_browser(viewer):
    ties = [(link.source, link.target) for link in viewer._links]
    assert ties == [((viewer.controls[name], "value"), (viewer.controls["slice"], "value")) for name in ("play", "number")]


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
    with pytest.raises(ValueError, match="one truth and up to 3 predictions can be shown, not 5 masks"):
        SliceViewer(volume, {str(k): mask for k in range(5)}, "structures4")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("index", 6, "slice 6 lies outside the volume, whose slices run from 0 to 5"),
        ("index", -1, "slice -1 lies outside"),
        ("point", [0, 40, 0], "row 40 lies outside the volume, whose rows run from 0 to 39"),
        ("plane", "oblique", "unknown plane 'oblique'. Known are: sagittal, coronal, axial"),
        ("mode", "blink", "unknown mode 'blink'. Known are: one mask, side by side, difference"),
        ("mask", "nobody", "there is no mask 'nobody'. There are: truth, model"),
        ("hidden", {77}, r"does not know: 77 \(1 px\)"),
        ("opacity", 2, "opacity must lie between 0 and 1"),
    ],
)
def test_a_view_that_does_not_fit_is_named(viewer, field, value, message):
    setattr(viewer.view, field, value)
    with pytest.raises(ValueError, match=message):
        viewer.frame()


def test_names_of_masks_and_labels_cannot_inject_html(volume, mask):
    viewer = SliceViewer(volume, {"<b>truth</b>": mask}, "structures4", size=40)
    assert viewer.widget and "<b>" not in viewer.readout.value
