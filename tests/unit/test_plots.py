"""Figures: true proportions, true directions, true colours and numbers; files that repeat."""

import io
import sys
import types

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spider_utils.data.splits import make_split
from spider_utils.data.volumes import Volume, kit_direction
from spider_utils.errors import DataError
from spider_utils.evaluation.statistics import bootstrap_interval
from spider_utils.labels import get_scheme
from spider_utils.view import plots
from spider_utils.view.plots import PLANES, CourseFigure


@pytest.fixture
def picture():
    """A slice of 60 x 40 pixels with a vertebra (1), a canal (2) and a disc (3)."""
    image = np.random.default_rng(3).integers(0, 900, (60, 40)).astype(np.int16)
    mask = np.zeros((60, 40), np.uint8)
    mask[10:20, 5:20], mask[10:40, 25:30], mask[21:24, 5:20] = 1, 2, 3
    return image, mask


def volume_of(array, spacing=(4.0, 0.5, 0.8)):
    return Volume(array, spacing, (0.0, 0.0, 0.0), kit_direction())


def axes_of(figure):
    return [ax for ax in figure.axes if ax.images or ax.lines or ax.patches or ax.collections]


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def rgb(figure, dpi=100):
    """The figure's pixels with the pixel box of its first axes: (rows, columns, 3) and (top, bottom, left, right)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, facecolor="white")
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    box = figure.axes[0].get_position()
    height, width = pixels.shape[:2]
    return pixels, (round((1 - box.y1) * height), round((1 - box.y0) * height), round(box.x0 * width), round(box.x1 * width))


def empty_figure():
    figure = CourseFigure(figsize=(4, 4))
    return figure, figure.subplots()


# ---------------------------------------------------------------------------------------------------------------- planes


def marked_volume():
    """A volume with one bright voxel toward each side of the body: value 1 right, 2 left, 3 superior, 4 anterior."""
    array = np.zeros((5, 7, 9), np.uint8)
    array[4, 3, 4], array[0, 3, 4], array[2, 0, 4], array[2, 3, 0] = 1, 2, 3, 4
    return array


def test_planes_put_each_side_of_the_body_where_their_letters_say():
    array = marked_volume()
    # (plane, slice number, value of a marker) -> where it must be: rows from the top, columns from the left
    sagittal, coronal, axial = (PLANES[name] for name in ("sagittal", "coronal", "axial"))
    assert sagittal.letters == "SIAP" and coronal.letters == "SIRL" and axial.letters == "APRL"
    assert np.argwhere(sagittal.cut(array, 2) == 3).tolist() == [[0, 4]]  # superior at the top
    assert np.argwhere(sagittal.cut(array, 2) == 4).tolist() == [[3, 0]]  # anterior at the left
    assert np.argwhere(coronal.cut(array, 4) == 1).tolist() == [[3, 0]]  # the patient's right at the left
    assert np.argwhere(coronal.cut(array, 4) == 2).tolist() == [[3, 4]]
    assert np.argwhere(coronal.cut(array, 4) == 3).tolist() == [[0, 2]]
    assert np.argwhere(axial.cut(array, 3) == 1).tolist() == [[4, 0]]
    assert np.argwhere(axial.cut(array, 3) == 4).tolist() == [[0, 2]]  # anterior at the top


@pytest.mark.parametrize("name", list(PLANES))
def test_plane_places_a_voxel_where_its_cut_shows_it(name):
    array = np.zeros((5, 7, 9), np.uint8)
    point = (1, 5, 7)
    array[point] = 1
    plane = PLANES[name]
    assert np.argwhere(plane.cut(array, point[plane.axis])).tolist() == [list(plane.place(point, array.shape))]
    rows_mm, columns_mm = plane.spacing((4.0, 0.5, 0.8))
    shape = plane.cut(array, 0).shape
    extents = {5: 4.0, 7: 0.5, 9: 0.8}
    assert (rows_mm, columns_mm) == (extents[shape[0]], extents[shape[1]])


# ---------------------------------------------------------------------------------------------------------------- slices


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (1.5, 0.5), (0.25, 1.0)])
def test_slice_has_its_proportions_in_mm(picture, spacing):
    figure, ax = empty_figure()
    plots.show_slice(ax, picture[0], spacing_mm=spacing)
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    assert box.height / box.width == pytest.approx(60 * spacing[0] / (40 * spacing[1]), rel=1e-3)


def test_scale_bar_is_as_long_as_it_says(picture):
    figure, ax = empty_figure()
    plots.show_slice(ax, picture[0], spacing_mm=(0.9, 2.0))  # 80 mm wide: the bar is at most a third, so 20 mm
    figure.draw_without_rendering()
    (bar,) = ax.lines
    (x0, _), (x1, _) = bar.get_transform().transform(np.column_stack(bar.get_data()))
    shown_mm = (x1 - x0) / ax.get_window_extent().width * 40 * 2.0
    assert "20 mm" in texts_of(ax)
    assert shown_mm == pytest.approx(20, rel=1e-6)


def test_unknown_spacing_shows_no_length(picture):
    _, ax = empty_figure()
    plots.show_slice(ax, picture[0], picture[1])
    assert not ax.lines and texts_of(ax) == ["S", "I", "A", "P"]


def test_filled_labels_have_the_colour_of_the_scheme_and_leave_background_alone(picture):
    image, mask = np.full((60, 40), 100, np.uint8), picture[1]
    figure, ax = empty_figure()
    plots.show_slice(ax, image, mask, "structures4", opacity=1.0, window=(0, 200), letters=None)
    pixels, (top, bottom, left, right) = rgb(figure)
    part = pixels[top:bottom, left:right]
    row, column = (np.array(part.shape[:2]) / (60, 40)).tolist()
    assert part[round(15 * row), round(12 * column)].tolist() == list(get_scheme("structures4").colors[1])
    assert part[round(35 * row), round(27.5 * column)].tolist() == list(get_scheme("structures4").colors[2])
    assert part[round(50 * row), round(10 * column)].tolist() == pytest.approx([127.5] * 3, abs=1)


def test_outline_follows_the_border_also_at_the_edge_of_the_picture():
    mask = np.zeros((30, 30), np.uint8)
    mask[0:10, 0:10] = 1
    _, ax = empty_figure()
    plots.show_slice(ax, mask, mask, outline=True)
    (lines,) = ax.collections
    (path,) = (p for p in lines.get_paths() if len(p.vertices))
    assert path.vertices.min() == pytest.approx(-0.5) and path.vertices.max() == pytest.approx(9.5)
    assert len(ax.images) == 1  # no fill


def test_names_stand_on_their_levels():
    mask = np.zeros((90, 60), np.uint8)
    mask[10:30, 10:40], mask[40:60, 10:40], mask[32:38, 10:40], mask[10:80, 45:50] = 2, 1, 202, 100
    figure = CourseFigure(figsize=(9, 9))
    ax = figure.subplots()
    plots.show_slice(ax, mask, mask, "spider", letters=None, name_labels=True)
    names = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(names) == {"L4", "L5", "L4/L5"}
    for name, value in (("L4", 2), ("L5", 1), ("L4/L5", 202)):
        x, y = names[name]
        assert mask[int(y), int(x)] == value
    small = CourseFigure(figsize=(9, 3)).subplots(1, 5)[0]
    plots.show_slice(small, mask, mask, "spider", letters=None, name_labels=True)
    assert set(texts_of(small)) == {"L4", "L5"}


def test_names_leave_small_pieces_and_letters_to_be_seen():
    mask = np.zeros((90, 60), np.uint8)
    mask[3:6, 28:31], mask[40:60, 10:50] = 1, 2
    ax = CourseFigure(figsize=(3, 4)).subplots()
    plots.show_slice(ax, mask, mask, "spider", name_labels=True)
    at = {text.get_text(): text for text in ax.texts}
    (x, y), hidden = at["L5"].get_position(), at["L5"].get_ha()
    assert hidden == "left" and x > 31 and 3 <= y < 6, "beside a piece that it would hide"
    assert at["L4"].get_ha() == "center" and mask[tuple(map(int, at["L4"].get_position()[::-1]))] == 2
    assert at["S"].get_position()[0] == 0.35 and at["I"].get_position()[0] == 0.5, "S gives way to L5"


def test_bad_slices_are_refused(picture):
    image, mask = picture
    _, ax = empty_figure()
    with pytest.raises(ValueError, match=r"mask has shape \(60, 39\)"):
        plots.show_slice(ax, image, mask[:, :-1])
    with pytest.raises(ValueError, match=r"does not know: 9 \(1 px\)"):
        bad = mask.copy()
        bad[0, 0] = 9
        plots.show_slice(ax, image, bad)
    with pytest.raises(ValueError, match="two positive numbers"):
        plots.show_slice(ax, image, spacing_mm=(0.5, 0))
    with pytest.raises(ValueError, match="not finite"):
        plots.show_slice(ax, np.where(image > 800, np.nan, image))
    with pytest.raises(ValueError, match="must have shape"):
        plots.show_slice(ax, image[None])


def test_window_of_constant_and_of_large_arrays():
    low, high = plots.window_of(np.full((4, 4), 7))
    assert low == 7 and high > low
    array = np.random.default_rng(0).normal(100, 10, (40, 256, 256)).astype(np.float32)
    assert plots.window_of(array) == pytest.approx(np.percentile(array, (0.5, 99.5)), abs=0.2)


# --------------------------------------------------------------------------------------------------------------- legends


def test_legend_names_each_label_when_colours_differ():
    handles = plots.legend_for("structures4", [3, 0, 1])
    assert [h.get_label() for h in handles] == ["vertebra", "disc"]
    expected = [np.array(get_scheme("structures4").colors[v]) / 255 for v in (1, 3)]
    assert np.allclose([h.get_facecolor()[:3] for h in handles], expected)


def test_legend_never_shows_two_labels_with_one_colour():
    scheme = get_scheme("levels20")
    assert not plots.share_colors("levels20", [1, 2, 3, 10]) and plots.share_colors("levels20", [1, 2, 3, 4])
    for values in ([1, 2, 3, 10, 11], list(scheme.foreground), [11, 12, 13, 14]):
        colors = [h.get_facecolor() for h in plots.legend_for("levels20", values)]
        assert len(set(colors)) == len(colors)
    assert [h.get_label() for h in plots.legend_for("levels20", scheme.foreground)] == [
        "vertebra (shade: level)", "spinal canal", "disc (shade: level)",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="does not know"):
        plots.legend_for("levels20", [25])


def test_legend_of_clamped_labels_names_the_melted_class():
    labels = [handle.get_label() for handle in plots.legend_for("clamped20", [1, 2, 3, 4, 19])]
    assert labels == ["vertebra (shade: level)", "all else"]
    assert [handle.get_label() for handle in plots.legend_for("clamped20", [1, 2, 3, 4])] == ["vertebra (shade: level)"]


def test_legend_fits_into_the_figure():
    image = np.zeros((80, 60), np.uint8)
    truth, prediction = image.copy(), image.copy()
    for level in range(9):
        truth[8 * level : 8 * level + 5, 10:30], truth[8 * level + 5 : 8 * level + 8, 10:30] = level + 1, level + 11
    truth[:, 35:40] = 10
    prediction[:, 1:] = truth[:, :-1]
    prediction[20:24, 15:20] = 10
    figure = plots.overlay_comparison(image, truth, prediction, "levels20", (1.0, 1.0))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 6
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0


# --------------------------------------------------------------------------------------------------------- sheets, errors


def test_contact_sheet_shows_every_slice_with_its_title(picture):
    image, mask = picture
    slices = [(image, mask if i else None, (0.7, 0.9), f"slice {i}") for i in range(5)]
    figure = plots.contact_sheet(slices, columns=3)
    assert [ax.get_title() for ax in figure.axes] == [f"slice {i}" for i in range(5)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vertebra", "spinal canal", "disc"]
    assert "slice 4" in figure.caption
    with pytest.raises(ValueError, match="at least one slice"):
        plots.contact_sheet([])


def test_three_planes_cross_at_the_point():
    array = np.random.default_rng(0).integers(0, 100, (6, 20, 30)).astype(np.uint8)
    mask = np.zeros_like(array)
    mask[1:4, 4:12, 8:16] = 1
    figure = plots.three_planes(volume_of(array), volume_of(mask), scheme="structures4")
    assert [ax.get_title() for ax in figure.axes] == ["sagittal", "coronal", "axial"]
    point = (2, 8, 12)  # the middle of the labelled box
    for ax, name in zip(figure.axes, PLANES, strict=True):
        horizontal, vertical = ax.lines[-2:]
        assert (horizontal.get_ydata()[0], vertical.get_xdata()[0]) == PLANES[name].place(point, array.shape)
        assert np.array_equal(ax.images[0].get_array(), PLANES[name].cut(array, point[PLANES[name].axis]))
        assert tuple(texts_of(ax)[:4]) == tuple(PLANES[name].letters)
    plots.three_planes(volume_of(array), None, (0, 0, 0))
    with pytest.raises(ValueError, match="outside the volume"):
        plots.three_planes(volume_of(array), None, (6, 0, 0))
    with pytest.raises(ValueError, match="the mask has shape"):
        plots.three_planes(volume_of(array), volume_of(mask[1:]))


def test_error_map_tells_the_three_kinds_apart():
    truth = np.array([[0, 0, 1, 1, 2, 2]])
    prediction = np.array([[0, 3, 1, 0, 2, 1]])
    found = plots.error_map(truth, prediction)
    assert found.tolist() == [[0, plots.FALSE_POSITIVE, 0, plots.FALSE_NEGATIVE, 0, plots.WRONG_CLASS]]
    assert found.dtype == np.uint8
    with pytest.raises(ValueError, match="prediction has"):
        plots.error_map(truth, prediction[:, 1:])


def test_overlay_comparison_has_four_panels_and_names_only_errors_that_exist(picture):
    image, mask = picture
    prediction = mask.copy()
    prediction[mask == 3] = 0
    figure = plots.overlay_comparison(image, mask, prediction, spacing_mm=(1.0, 1.0), title="patient 5")
    wrong = (mask == 3).mean()
    assert [ax.get_title() for ax in figure.axes] == ["image", "truth", "prediction", f"errors: {wrong:.1%} of pixels"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["vertebra", "spinal canal", "disc", "false negative"]


def test_error_colours_differ_from_those_of_structures():
    structure_colors = {color for name in ("spider", "structures4") for color in get_scheme(name).colors.values()}
    assert not set(plots.ERROR_COLORS.values()) & structure_colors


def test_receptive_field_boxes_have_their_size_in_mm(picture):
    figure = plots.receptive_field_on_slice(picture[0], (0.5, 2.0), {"U-Net": 10, "all": (100, 200)}, center=(30, 12))
    first, second = figure.axes[0].patches
    assert (first.get_height() * 0.5, first.get_width() * 2.0) == (10, 10)
    assert (first.get_y() + first.get_height() / 2, first.get_x() + first.get_width() / 2) == (30, 12)
    assert "larger than the slice" not in first.get_label() and "larger than the slice" in second.get_label()
    with pytest.raises(ValueError, match="positive size"):
        plots.receptive_field_on_slice(picture[0], (1, 1), {"none": 0})


# --------------------------------------------------------------------------------------------------------------- numbers


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "train_loss": [1.0, 0.6, 0.4, 0.3],
            "val_loss": [1.1, 0.7, 0.6, 0.7],
            "val_mean_iou": [0.2, 0.6, 0.6, 0.5],
            "learning_rate": [1e-3, 1e-3, 1e-3, 1e-4],
            "seconds": [1.0, 1.0, 1.0, 1.0],
        }
    )


def test_training_curves_mark_the_first_best_epoch(history):
    figure = plots.training_curves(history)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "validation mean IoU", "learning rate"]
    assert figure.axes[1].get_title() == "best: epoch 2, 0.600"
    star = figure.axes[1].lines[-1]
    assert (float(star.get_xdata()[0]), float(star.get_ydata()[0])) == (2.0, 0.6)
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["train", "val"]
    assert figure.axes[2].get_yscale() == "log"


def test_training_curves_draw_what_there_is(history):
    assert len(plots.training_curves(history[["epoch", "train_loss"]]).axes) == 1
    plots.training_curves(history.assign(val_mean_iou=np.nan))
    with pytest.raises(ValueError, match=r"needs the column\(s\) epoch"):
        plots.training_curves(history.drop(columns="epoch"))
    with pytest.raises(ValueError, match="at least one epoch"):
        plots.training_curves(history[["epoch", "seconds"]])


@pytest.fixture
def scores():
    rows = []
    for patient in range(8):
        for case in ("t1", "t2"):
            rows.append({"patient": patient, "case": f"{patient}_{case}", "name": "disc", "dice": 0.7 + 0.03 * patient})
            rows.append({"patient": patient, "case": f"{patient}_{case}", "name": "canal", "dice": 0.9 + 0.01 * (case == "t2")})
    table = pd.DataFrame(rows)
    table.loc[(table["patient"] == 7) & (table["name"] == "disc"), "dice"] = np.nan
    return table


def test_metric_distribution_shows_patients_mean_and_interval(scores):
    ax = plots.metric_distribution(scores).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["disc", "canal"]
    points = [collection for collection in ax.collections if len(collection.get_offsets()) > 1]
    assert np.allclose(points[0].get_offsets()[:, 0], 0.7 + 0.03 * np.arange(7))
    assert np.allclose(points[1].get_offsets()[:, 0], 0.905)
    values = 0.7 + 0.03 * np.arange(7)
    expected = bootstrap_interval(values, range(7))
    (segment,) = ax.containers[0].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([expected.low, expected.high])
    assert texts_of(ax)[0] == f"{values.mean():.3f}  (n = 7, 2 cases without value)"


def test_metric_distribution_survives_a_class_without_values(scores):
    nothing = scores.assign(dice=scores["dice"].where(scores["name"] != "disc"))
    ax = plots.metric_distribution(nothing).axes[0]
    assert texts_of(ax)[0] == "n = 0, 16 cases without value"
    one = plots.metric_distribution(scores[scores["patient"] == 0]).axes[0]
    assert texts_of(one)[0] == "0.700  (n = 1)"
    with pytest.raises(ValueError, match=r"needs the column\(s\) patient"):
        plots.metric_distribution(scores.drop(columns="patient"))


def test_bars_have_their_lengths_and_intervals():
    table = pd.DataFrame(
        {
            "name": ["disc", "disc", "canal"],
            "model": ["a", "b", "a"],  # model b has no canal
            "mean": [0.8, 0.7, 0.9],
            "low": [0.75, 0.6, np.nan],
            "high": [0.85, 0.8, np.nan],
        }
    )
    ax = plots.bar_with_intervals(table, group="model").axes[0]
    widths = [[bar.get_width() for bar in container] for container in ax.containers if hasattr(container, "patches")]
    assert widths[0] == [0.8, 0.9] and widths[1][0] == 0.7 and np.isnan(widths[1][1])
    (segment, _) = ax.containers[1].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([0.75, 0.85])
    assert texts_of(ax) == ["0.800", "0.900", "0.700"]
    with pytest.raises(ValueError, match="one row a bar"):
        plots.bar_with_intervals(table)


def test_intensity_histogram_bins_hold_equally_many_integers():
    image = np.arange(250, dtype=np.int16)  # each value once: every full bin must hold the same share
    ax = plots.intensity_histogram({"even": image}, bins=100).axes[0]
    heights = ax.patches[0].get_data().values
    assert len(set(heights[:-1].round(9))) == 1
    plots.intensity_histogram({"flat": np.full(5, 2.0), "float": np.linspace(0, 1, 50)})
    with pytest.raises(ValueError, match="at least one image"):
        plots.intensity_histogram({})


@pytest.fixture
def slices_table():
    rows = [
        {"patient": p, "case": f"{p}_{s}", "sequence": s, "slice": n}
        for p in range(1, 13)
        for s in (("t1", "t2") if p % 2 else ("t2",))
        for n in range(10)
    ]
    return pd.DataFrame(rows)


def test_split_diagram_of_a_split_by_patient_has_columns_of_one_colour(slices_table):
    split = make_split(slices_table, "kfold5")
    figure = plots.split_diagram(split, slices_table)
    ax = figure.axes[0]
    assert ax.get_title() == "split 'kfold5': 0 of 12 patients in more than one subset"
    colors = {}
    for bar in ax.patches:
        if bar.get_height():
            colors.setdefault(round(bar.get_x() + bar.get_width() / 2), set()).add(bar.get_facecolor())
    assert len(colors) == 12 and all(len(found) == 1 for found in colors.values())
    for text, subset in zip(figure.legends[0].get_texts(), ("train", "val", "test"), strict=True):
        rows = split.rows(subset, slices_table)
        assert text.get_text() == f"{subset}: {len(split.patients(subset))} patients, {len(rows)} slices"


def test_split_diagram_shows_the_leak(slices_table):
    figure = plots.split_diagram(make_split(slices_table, "leaky-slices"), slices_table)
    assert "12 of 12 patients in more than one subset" in figure.axes[0].get_title()
    bars = [bar for bar in figure.axes[0].patches if bar.get_height()]
    assert len(bars) > len(slices_table["case"].unique())
    assert sum(bar.get_height() for bar in bars) == pytest.approx(0.84 * 18)  # a full column a series


def test_gradings_heatmap_counts_discs():
    findings = dict.fromkeys(plots._FINDINGS, 0)
    rows = [{"Patient": p, "IVD label": level, "Pfirrman grade": 1 + level, **findings} for p in range(4) for level in (0, 1, 2)]
    table = pd.DataFrame(rows)
    table.loc[(table["IVD label"] == 1) & (table["Patient"] == 0), "Modic"] = 3
    figure = plots.gradings_heatmap(table)
    grades, found = (ax.images[0].get_array() for ax in figure.axes)
    assert grades.tolist() == [[0, 0, 4, 0, 0], [0, 4, 0, 0, 0]]  # L4/L5 above L5/S1; label 0 is no disc
    assert found[:, 0].tolist() == [0, 25]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["L4/L5  (n = 4)", "L5/S1  (n = 4)"]
    with pytest.raises(ValueError, match="Pfirrman grade"):
        plots.gradings_heatmap(table.drop(columns="Pfirrman grade"))


# ------------------------------------------------------------------------------------------------------- look and files


def test_user_settings_neither_change_figures_nor_are_changed(history):
    expected = plots._pixels(plots.training_curves(history), 50)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        found = plots._pixels(plots.training_curves(history), 50)
        assert dict(matplotlib.rcParams) == before
    assert np.array_equal(found, expected)


def test_pyplot_does_not_know_the_figures(history):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.training_curves(history)
    assert plt.get_fignums() == before


def test_saved_figures_repeat_byte_by_byte_and_hold_no_date(history, tmp_path):
    first = plots.save_figure(plots.training_curves(history), tmp_path / "a" / "curves", "  Loss falls. ")
    second = plots.save_figure(plots.training_curves(history), tmp_path / "b" / "curves.png", "Loss falls.")
    assert first == tmp_path / "a" / "curves.png"
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".txt").read_text() == "Loss falls.\n"
    with Image.open(first) as picture:
        assert picture.width == 1350 and not {"Software", "Creation Time", "date"} & set(picture.info)
    assert sorted(path.name for path in first.parent.iterdir()) == ["curves.png", "curves.txt"]


def test_large_figures_are_made_smaller_but_keep_the_colours_of_their_legend(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 320)).astype(np.uint8)
    mask = np.zeros((400, 320), np.uint8)
    mask[50:150, 50:150], mask[50:300, 200:220], mask[160:180, 50:150] = 1, 2, 3
    path = plots.save_figure(plots.overlay_comparison(noise, mask, mask, spacing_mm=(1, 1)), tmp_path / "noise", "Noise.")
    assert path.stat().st_size <= 1.05 * plots.MAX_FILE_BYTES
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    legend = pixels[int(0.85 * len(pixels)) :].reshape(-1, 3)
    for value in (1, 2, 3):
        color = np.array(get_scheme("structures4").colors[value])
        assert (np.abs(legend - color).max(axis=1) <= 4).sum() > 20


def test_save_figure_refuses_what_it_cannot_do(history, tmp_path):
    figure = plots.training_curves(history)
    with pytest.raises(ValueError, match="needs a caption"):
        plots.save_figure(figure, tmp_path / "x", " ")
    with pytest.raises(DataError, match="written as PNG, not '.svg'"):
        plots.save_figure(figure, tmp_path / "x.svg", "A caption.")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"x\.png: "):
        plots.save_figure(figure, tmp_path / "file" / "x.png", "A caption.")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_figures_show_themselves_once_with_their_caption(history, tmp_path, monkeypatch):
    shown = []
    fake = types.ModuleType("IPython.display")
    fake.display = lambda data, metadata, raw: shown.append((data, metadata, raw))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    figure = plots.training_curves(history)
    plots.save_figure(figure, tmp_path / "x", "Loss falls.")
    assert not shown
    figure._ipython_display_()
    ((data, metadata, raw),) = shown
    assert raw and data["text/plain"] == "Loss falls." and metadata == {"image/png": {"alt": "Loss falls."}}
    assert data["image/png"].startswith(b"\x89PNG")


def test_charts_are_shown_with_a_palette_that_nobody_sees(history):
    figure = plots.training_curves(history)
    kind, picture = plots._for_screen(figure)
    with Image.open(io.BytesIO(picture)) as shown:
        assert kind == "image/png" and shown.mode == "P"
        change = np.abs(np.asarray(shown.convert("RGB")).astype(int) - plots._pixels(figure, plots.SCREEN_DPI))
    assert change.max() <= 8
    assert len(picture) < 0.6 * len(plots._with_shades(plots._pixels(figure, plots.SCREEN_DPI), 256))


def test_no_palette_where_it_would_show():
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert plots._with_palette(colours) is None
    few = colours[:2, :2].repeat(32, axis=0).repeat(32, axis=1)
    with Image.open(io.BytesIO(plots._with_palette(few))) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), few)


def test_large_pictures_are_shown_as_jpeg():
    figure = plots.new_figure(4, "Noise in colour.")
    figure.subplots().imshow(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8))
    kind, picture = plots._for_screen(figure)
    assert kind == "image/jpeg" and picture.startswith(b"\xff\xd8")
    assert Image.open(io.BytesIO(picture)).width == 900
