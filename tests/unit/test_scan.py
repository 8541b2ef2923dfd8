"""A scan's reading: levels and numbers worked out by hand on a spine of boxes, which runs are offered, files to hand out."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spider_utils.data.volumes import read_mask, read_volume, with_pixel_size, write_volume
from spider_utils.ensemble.pooling import NetworkAgreement
from spider_utils.errors import KitError
from spider_utils.masks import Segmented
from spider_utils.measure.marks import Mark
from spider_utils.view import scan
from spider_utils.view.frame_marks import level_names, write_on_frame
from spider_utils.view.frames import render_frame
from spider_utils.workflow import newest_run
from tests.known_labels import BACK, BODY_ROWS, DISC_ROWS, FIRST_ROW, FRONT, KnownLabels, box_spine, by_gray, make_run


@pytest.fixture(scope="module")
def reading() -> scan.Reading:
    image, _ = box_spine()
    return scan.read_scan(image, KnownLabels("structures4", by_gray))


def test_classes_become_levels_counted_from_below(reading):
    image, classes = box_spine()
    assert reading.scheme == "spider" and (reading.mask.array > 0).sum() == (classes > 0).sum()
    lowest = FIRST_ROW + 3 * (BODY_ROWS + DISC_ROWS)
    assert reading.mask.array[2, lowest + 5, FRONT + 5] == 1
    assert reading.mask.array[2, lowest + BODY_ROWS + 4, FRONT + 5] == 201
    assert any("counted from the lowest part" in note for note in reading.notes)


def test_whoever_watches_sees_every_slice_go_by():
    image, _ = box_spine()
    seen = []

    def track(slices, total):
        for one in slices:
            seen.append((one.shape, total))
            yield one

    watched = scan.read_scan(image, KnownLabels("structures4", by_gray), track=track)
    assert seen == [(image.array.shape[1:], 5)] * 5
    assert np.array_equal(watched.mask.array, scan.read_scan(image, KnownLabels("structures4", by_gray)).mask.array)


def test_measurements_by_level_are_those_of_the_boxes(reading):
    discs = scan.by_level(reading.table, scan.DISC_QUANTITIES)
    assert discs.index.tolist() == ["L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"]
    inner = discs.loc[["L2/L3", "L3/L4", "L4/L5"]]
    assert np.allclose(inner["height, middle [mm]"], DISC_ROWS * 0.9, atol=0.3)
    assert np.allclose(inner["angle [°]"], 0, atol=1) and np.allclose(inner["slip [mm]"], 0, atol=0.3)
    assert np.allclose(inner["canal diameter [mm]"], 10.4, atol=0.4)
    bodies = scan.by_level(reading.table, scan.VERTEBRA_QUANTITIES)
    assert bodies.index.tolist() == ["L2", "L3", "L4", "L5"]
    assert np.allclose(bodies["height, middle [mm]"], BODY_ROWS * 0.9, atol=0.4)
    assert np.allclose(bodies["depth [mm]"], (BACK - FRONT) * 1.3, atol=0.6)
    assert scan.by_level(reading.table, scan.SPINE_QUANTITIES).isna().all(axis=None)  # there is no L1
    assert any(reason.startswith("spine (") for reason in scan.not_measured(reading.table, list(scan.SPINE_QUANTITIES)))


def test_masks_with_levels_are_measured_as_they_are():
    image, classes = box_spine()
    named = scan.read_scan(image, KnownLabels("structures4", by_gray)).mask.array
    levels20 = np.where(named == 100, 10, np.where(named > 200, named - 190, named)).astype(np.uint8)
    reading = scan.read_scan(image, KnownLabels("levels20", lambda array: levels20))
    assert reading.scheme == "levels20" and np.array_equal(reading.mask.array, levels20)
    assert scan.by_level(reading.table, scan.VERTEBRA_QUANTITIES).index.tolist() == ["L2", "L3", "L4", "L5"]


def test_a_single_slice_is_measured_only_with_its_pixel_size(tmp_path):
    image, _ = box_spine()
    path = tmp_path / "a.png"
    Image.fromarray(image.array[2]).save(path)
    picture, network = read_volume(path), KnownLabels("structures4", by_gray)
    unknown = scan.read_scan(picture, network, has_pixel_size=False)
    assert unknown.table is None and unknown.scheme == "structures4" and "Pixels were taken to be square." in unknown.notes
    known = scan.read_scan(with_pixel_size(picture, (0.9, 1.3)), network)
    heights = scan.by_level(known.table, scan.VERTEBRA_QUANTITIES)["height, middle [mm]"]
    assert np.allclose(heights, BODY_ROWS * 0.9, atol=0.4) and len(heights) == 4


@pytest.mark.parametrize(("value", "said"), [(0, "found nothing"), (2, "Nothing was measured")])
def test_what_cannot_be_named_is_said(value, said):
    image, _ = box_spine()
    reading = scan.read_scan(image, KnownLabels("structures4", lambda array: np.full(array.shape, value, np.uint8)))
    assert reading.table is None and not reading.marks and said in " ".join(reading.cautions if value == 0 else reading.notes)


def test_series_of_another_plane_are_warned_of():
    image, _ = box_spine()
    image = replace(image, spacing=(0.5, 4.0, 0.5))
    reading = scan.read_scan(image, KnownLabels("structures4", by_gray))
    assert any("axial" in said and "do not trust" in said for said in reading.cautions)


def test_crops_are_warned_of_where_their_size_is_known():
    image, _ = box_spine()
    crop = replace(image, array=image.array[:, :100, :60])
    network = KnownLabels("structures4", by_gray)
    assert scan.read_scan(crop, network).cautions == (), "nobody says what this network learned from"
    network.field_mm = (300.0, 240.0)
    said = scan.read_scan(crop, network).cautions
    assert len(said) == 1 and said[0].startswith("It is a crop of 90 x 78 mm. The networks learned from 300 x 240 mm")
    assert scan.read_scan(crop, network, has_pixel_size=False).cautions == scan.read_scan(image, network).cautions == ()
    (said,) = scan.read_scan(replace(crop, spacing=(0.004, 0.0009, 0.0013)), network).cautions[:1]
    assert said == "By its header it shows 0.09 x 0.078 mm: is that in cm or metres? Nothing can be found in so little."


@pytest.mark.parametrize("is_doubtful", [False, True])
def test_two_networks_that_agree_little_are_a_caution_and_others_a_note(monkeypatch, is_doubtful):
    image, classes = box_spine()
    agreement = NetworkAgreement("structures4")
    agreement.add(classes, np.roll(classes, 30 if is_doubtful else 0, axis=1))
    drawn = Segmented(image.with_array(classes), agreement)
    assert drawn.is_doubtful == is_doubtful
    monkeypatch.setattr(scan, "segment", lambda *given: drawn)
    reading = scan.read_scan(image, KnownLabels("structures4", by_gray))
    assert (drawn.said in reading.cautions, drawn.said in reading.notes) == (is_doubtful, not is_doubtful)
    assert reading.table is not None, "it is measured all the same"


# ----------------------------------------------------------------------------------------------------------------------- runs


def test_what_comes_with_the_kit_is_offered_first_by_what_it_is_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    own = make_run(tmp_path, "mine", scheme="structures4")
    names = [folder.name for folder in scan.usable_runs()]
    assert names == ["levels20", "structures4", "structures4-phantom", "mine"]
    assert scan.usable_runs(series=False)[0].name == "structures4" and scan.usable_runs()[-1] == own
    called, learned = scan.describe_run(scan.usable_runs(series=False)[0])
    assert called == "structures4, comes with the kit" and "T2_SPACE" in learned


@pytest.mark.usefixtures("nothing_shipped")
def test_runs_that_can_be_measured_are_offered_the_best_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    names = {
        "classes": {"scheme": "structures4"},
        "levels": {"scheme": "levels20"},
        "melted": {"scheme": "clamped20"},
        "plane": {"scheme": "structures4", "plane": "axial"},
        "leaky": {"scheme": "structures4", "split": {"name": "leaky-kfold5"}},
        "volumes": {"scheme": "levels20", "architecture": "unetr"},
    }
    for age, (name, card) in enumerate(names.items()):
        os.utime(make_run(tmp_path, name, **card) / "model.safetensors", (1e9 + age,) * 2)
    assert [folder.name for folder in scan.usable_runs()] == ["levels", "classes", "volumes"]
    called, learned = scan.describe_run(tmp_path / "runs" / "levels")
    assert called == "unet, levels (phantom)" and "phantoms only" in learned


@pytest.mark.usefixtures("nothing_shipped")
def test_odd_cards_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    odd = ["[]", "{", '{"split": null}', '{"scheme": "structures4"}', '{"split": ["kfold5"]}']
    for number, text in enumerate(odd):
        folder = make_run(tmp_path, f"odd{number}", "structures4")
        (folder / "model.json").write_text(text)
    assert scan.usable_runs() == []
    with pytest.raises(KitError, match="no trained model"):
        newest_run()
    splits = {"none": None, "list": ["leaky-slices"], "nameless": {"name": None}}
    for age, (name, split) in enumerate(splits.items()):
        os.utime(make_run(tmp_path, name, "structures4", split=split) / "model.safetensors", (1e9 + age,) * 2)
    assert [folder.name for folder in scan.usable_runs()] == ["nameless", "list", "none"]
    assert newest_run().name == "nameless"


# ---------------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "called"),
    [("a.mha", "a_mask.mha"), ("a.nii.gz", "a_mask.nii.gz"), ("study.zip", "study_mask.nii.gz"), ("1.dcm", "1_mask.nii.gz")],
)
def test_the_mask_to_hand_out_lies_on_the_images_grid(tmp_path, made_volume, name, called):
    image = read_volume(write_volume(made_volume(), tmp_path / "image.nrrd"))
    mask = image.with_array((image.array % 4).astype(np.uint8))
    found, data = scan.mask_file(mask, name)
    assert found == called
    (tmp_path / called).write_bytes(data)
    back = read_mask(tmp_path / called)
    assert np.array_equal(back.array, mask.array)
    assert np.allclose(back.spacing, image.spacing) and np.allclose(back.origin, image.origin)
    assert np.allclose(back.direction, image.direction)


def test_the_mask_of_a_picture_is_a_picture(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "a.png")
    picture = read_volume(tmp_path / "a.png")
    called, data = scan.mask_file(picture.with_array(np.full((1, 3, 4), 3, np.uint8)), "a.png")
    assert called == "a_mask.png" and (np.asarray(Image.open(io.BytesIO(data))) == 3).all()


# ---------------------------------------------------------------------------------------------------------- names and lines


def test_names_stand_in_bodies_and_before_discs(reading):
    names = {name.text: name for name in level_names(reading.mask.array[2], "spider", (0.9, 1.3))}
    assert set(names) == {"L2", "L3", "L4", "L5", "L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1"}
    lowest = FIRST_ROW + 3 * (BODY_ROWS + DISC_ROWS)
    assert lowest < names["L5"].row < lowest + BODY_ROWS and FRONT < names["L5"].column < BACK and names["L5"].centred
    assert names["L4/L5"].column == FRONT and not names["L4/L5"].centred
    disc = names["L4/L5"]
    assert abs(disc.row - (lowest - DISC_ROWS / 2 - 0.5)) <= 0.5
    assert not level_names(by_gray(reading.image.array[2]), "structures4", (0.9, 1.3))  # classes have no level


def test_lines_lie_where_they_were_measured():
    """A slice of 40 x 20 pixels of 2 x 1 mm becomes 320 x 80 pixels of the screen: four a mm."""
    gray = np.zeros((40, 20), np.uint8)
    frame = render_frame(gray, window=(0.0, 255.0), spacing_mm=(2.0, 1.0), size=320)
    line = Mark("L4/L5", "canal diameter", np.array([[0.0, 30.0, 4.0], [0.0, 30.0, 12.0]]))
    other = Mark("L4/L5", "no such", np.array([[0.0, 60.0, 4.0], [0.0, 60.0, 12.0]]))
    drawn = np.asarray(Image.open(io.BytesIO(write_on_frame(frame, gray.shape, (2.0, 1.0), lines=[line, other]))))
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert drawn.shape == (320, 80, 3)
    assert abs(rows.mean() - (30 / 2 + 0.5) * 8) <= 1 and rows.max() - rows.min() <= 2
    assert abs(columns.min() - 4.5 * 4) <= 1 and abs(columns.max() - 12.5 * 4) <= 1
