"""Axial slices along discs: their place in the patient, their tissues, their truth, and the set on disk."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from spider_utils.data.axial import AXIAL_SCHEME, SET_FILE, AxialSet
from spider_utils.data.axial_store import build_axial_store
from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.axial import LEVEL, plan_block, scan_block
from spider_utils.data.phantom.axial_set import draw_patient, generate_axial_set, scan_patient, set_facts
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.truth import slice_truth
from spider_utils.data.volumes import kit_direction
from spider_utils.errors import DataError
from spider_utils.files import read_json, sha256_of
from spider_utils.labels import get_scheme
from spider_utils.measure.axial import hernia_line, sac_line

NUMBER = {name: value for value, name in get_scheme(AXIAL_SCHEME).names.items()}


def sums(folder):
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate_axial_set(tmp_path_factory.mktemp("axial") / "set", 2, seed=3, jobs=1, size="tiny")


@pytest.fixture(scope="module")
def patient():
    """One patient with a hernia at L4/L5 and none at L5/S1, and the blocks of both discs."""
    anatomy = make_anatomy(11, n_lumbar=5, scoliosis=0, herniation={2: 6.0, 1: 0.0}, pfirrmann={2: 4}, listhesis={1: 0, 2: 0})
    return anatomy, {block.disc: (block, pictures, labels) for block, pictures, labels in scan_patient(anatomy, 1, "small")[1:]}


def test_slices_lie_along_their_disc(made):
    """What the files' headers say, read by ITK alone: the plane's tilt is the disc's, and the disc lies in the middle slice."""
    table = pd.read_csv(made / "slices.csv")
    for case in table["case"].unique():
        row = table[table["case"] == case].iloc[0]
        seeds = np.random.SeedSequence([3, 10, row["patient"]]).generate_state(2)
        disc = draw_patient(int(seeds[0])).discs[row["disc"] - 1]
        mask = sitk.ReadImage(str(made / "masks" / f"{case}.mha"))
        axes = np.reshape(mask.GetDirection(), (3, 3))
        assert np.linalg.det(axes) == pytest.approx(1)
        np.testing.assert_allclose(axes[:, 0], [1, 0, 0], atol=1e-9, err_msg="columns run to the patient's left")
        assert math.degrees(math.atan2(-axes[2, 1], axes[1, 1])) == pytest.approx(-disc.frame.tilt, abs=1e-3)
        labels = sitk.GetArrayFromImage(mask)
        middle = len(labels) // 2
        at = np.argwhere(np.isin(labels[middle], [NUMBER["disc"], NUMBER["hernia"]])).mean(axis=0)
        place = np.array(mask.TransformContinuousIndexToPhysicalPoint([float(at[1]), float(at[0]), float(middle)]))
        wanted = kit_direction() @ disc.frame.point(0, 0, 0)
        assert np.abs(place - wanted).max() < 3, "the disc's middle, wherever the slices lie"


def test_reading_turns_nothing_upside_down(made):
    axial = AxialSet(made)
    for case in axial.cases["case"]:
        one = axial.load(case)
        stored = sitk.ReadImage(str(made / "images" / f"{case}.mha"))
        assert one.spacing == pytest.approx(stored.GetSpacing()[::-1])
        np.testing.assert_array_equal(one.images, sitk.GetArrayFromImage(stored)[::-1])
        rows = {name: np.argwhere(one.masks == value)[:, 1].mean() for name, value in NUMBER.items() if value in one.masks}
        assert rows["disc"] < rows["dural sac"] < rows["ligament"] < rows["spinous process"], "rows run backwards"
    assert "2 patients" in repr(axial) and axial.cases["slices"].eq(3).all()


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_whichever_way_a_file_runs_it_is_read_alike(made, tmp_path, axes):
    """Files with flipped axes show the same patient: slices belong to the same rows of the table, left stays left."""
    folder, case = broken(made, tmp_path)
    before = AxialSet(folder).load(case)
    for path in (folder / "images" / f"{case}.mha", folder / "masks" / f"{case}.mha"):
        sitk.WriteImage(sitk.Flip(sitk.ReadImage(str(path)), [axis in axes for axis in range(3)]), str(path))
    after = AxialSet(folder).load(case)
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.masks, before.masks)


def test_sagittal_slices_are_refused(made, tmp_path):
    folder, case = broken(made, tmp_path)
    for path in (folder / "images" / f"{case}.mha", folder / "masks" / f"{case}.mha"):
        sitk.WriteImage(sitk.PermuteAxes(sitk.ReadImage(str(path)), [1, 2, 0]), str(path))
    with pytest.raises(DataError, match="no axial slices"):
        AxialSet(folder).load(case)


def test_every_tissue_is_where_a_reader_looks_for_it(patient):
    _, blocks = patient
    block, _, labels = blocks[2]
    middle = labels[2]
    where = {name: np.argwhere(middle == value) for name, value in NUMBER.items()}
    centre = {name: places.mean(axis=0) for name, places in where.items() if len(places)}
    assert {"disc", "hernia", "dural sac", "articular process", "ligament", "spinous process"} <= set(centre)
    assert centre["disc"][0] < centre["hernia"][0] < centre["dural sac"][0] < centre["spinous process"][0]
    column = centre["disc"][1]
    sides = where["articular process"][:, 1] - column
    assert (sides < -8).any() and (sides > 8).any() and abs(sides.mean()) < 3, "a pair of joints"
    pieces, n = ndimage.label(middle == NUMBER["dural sac"])
    assert n == 1 and np.abs(centre["spinous process"][1] - column) < 3
    assert (labels[0] == NUMBER["vertebra"]).sum() > 600 > 400 > (middle == NUMBER["vertebra"]).sum(), "bodies above and below"
    assert block.thickness_mm == 4.0


def test_it_looks_like_t2(patient):
    _, blocks = patient
    _, pictures, labels = blocks[2]
    mean = {name: pictures[labels == value].mean() for name, value in NUMBER.items()}
    assert mean["dural sac"] > 2 * mean["disc"] and mean["dural sac"] > 3 * mean["ligament"], "fluid is bright, ligament dark"
    sac = ndimage.binary_erosion(labels[2] == NUMBER["dural sac"], iterations=2)
    inside = pictures[2][sac]
    assert inside.min() < 0.75 * np.median(inside), "roots are seen in the fluid"


def test_a_hernia_is_what_stands_out_of_the_disc(patient):
    anatomy, blocks = patient
    (block, _, labels), (_, _, free) = blocks[2], blocks[1]
    assert (labels == NUMBER["hernia"]).any() and not (free == NUMBER["hernia"]).any()
    disc = anatomy.discs[1]
    for k, row, column in np.argwhere(labels == NUMBER["hernia"]):
        u, v, _ = (float(x) for x in disc.frame.local(*block.place(k, row, column)))
        assert v > disc.depth / 2 - 3.5 and abs(u - disc.hernia_side) < 9


def test_truth_against_masks(patient):
    """Masks have pixels of 0.86 mm and stand for 4 mm of thickness; truth is the painted shape in the middle plane."""
    anatomy, blocks = patient
    for number, (block, _, labels) in blocks.items():
        truth = slice_truth(anatomy, number, [block.place(k, 0, 0) for k in range(len(labels))], block.axes)
        for mask, true in zip(labels, truth, strict=True):
            line = sac_line(mask, block.spacing_mm[1:])
            assert line.length == pytest.approx(true["sac_ap_mm"], abs=1.3)
            assert line.area == pytest.approx(true["sac_area_mm2"], rel=0.12)
            if (mask == NUMBER["hernia"]).sum() > 12:
                assert hernia_line(mask, block.spacing_mm[1:]).height == pytest.approx(true["hernia_height_mm"], abs=1.5)
        assert all(np.isnan(true["hernia_height_mm"]) for true in truth) == (number == 1)


def test_truth_of_a_plain_sac():
    """Without bulge, hernia and slip the sac's diameter is what was drawn, but for the corners that its smooth course cuts."""
    none = dict.fromkeys(range(1, 12), 0)
    anatomy = make_anatomy(4, n_lumbar=5, scoliosis=0, herniation=none, bulge=none, listhesis=none, stenosis=none)
    disc = anatomy.discs[2]
    tilt = math.radians(disc.frame.tilt)
    axes = np.array([[0, math.cos(tilt), math.sin(tilt)], [0, -math.sin(tilt), math.cos(tilt)], [-1, 0, 0]])
    (true,) = slice_truth(anatomy, 3, [np.array(disc.frame.point(0, 0, 0))], axes)
    assert true["sac_ap_mm"] == pytest.approx(disc.sac, abs=0.8)
    assert true["sac_area_mm2"] == pytest.approx(math.pi / 4 * disc.sac * anatomy.sac_width(3) * 0.97, rel=0.08)
    assert np.isnan(true["hernia_height_mm"])


def test_same_seed_same_files(made, tmp_path):
    again = generate_axial_set(tmp_path / "again", 1, seed=3, jobs=1, size="tiny")
    first = {name: one for name, one in sums(made).items() if name.split("/")[-1].startswith("01_")}
    assert {name: one for name, one in sums(again).items() if "/" in name} == first, (
        "patient 1 is the same however many there are"
    )
    assert read_json(made / SET_FILE) == set_facts(2, 3, "tiny")


def test_a_foreign_file_is_not_lost(made, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(made, folder)
    (folder / "mine.txt").write_text("notes")
    with pytest.raises(DataError, match="mine.txt"):
        generate_axial_set(folder, 1, size="tiny")


@pytest.mark.parametrize("wrong", [{"n_patients": 0}, {"seed": -1}, {"size": "huge"}])
def test_bad_settings(tmp_path, wrong):
    with pytest.raises(ValueError, match="at least 1 patient"):
        generate_axial_set(tmp_path / "set", **({"n_patients": 1} | wrong))
    with pytest.raises(ValueError, match="unknown size"):
        scan_patient(make_anatomy(1), 1, "huge")


def test_store(made, tmp_path):
    axial = AxialSet(made)
    store = build_axial_store(axial, tmp_path / "store", (64, 64))
    assert store.scheme == AXIAL_SCHEME and len(store) == len(axial.slices) == 12
    assert store.table[["case", "slice"]].equals(axial.slices[["case", "slice"]])
    case = axial.load(store.table["case"][4])
    np.testing.assert_array_equal(store.masks[4], case.masks[store.table["slice"][4]])
    assert store.table["pixel_mm"].iloc[0] == pytest.approx(case.spacing[1], abs=1e-4)
    before = (tmp_path / "store" / "store.json").stat().st_mtime_ns
    assert build_axial_store(axial, tmp_path / "store", (64, 64)).fingerprint == store.fingerprint
    assert (tmp_path / "store" / "store.json").stat().st_mtime_ns == before, "opened, not built again"


def broken(made, tmp_path):
    shutil.copytree(made, tmp_path / "set")
    return tmp_path / "set", AxialSet(tmp_path / "set").cases["case"][0]


def test_what_is_wrong_with_a_set_is_said(made, tmp_path):
    folder, case = broken(made, tmp_path)
    with pytest.raises(DataError, match="holds no slices.csv"):
        AxialSet(tmp_path)
    mask = sitk.ReadImage(str(folder / "masks" / f"{case}.mha"))
    array = sitk.GetArrayFromImage(mask)
    array[0, 0, 0] = 9
    wrong = sitk.GetImageFromArray(array)
    wrong.CopyInformation(mask)
    sitk.WriteImage(wrong, str(folder / "masks" / f"{case}.mha"))
    with pytest.raises(DataError, match=r"9 \(1 px\)"):
        AxialSet(folder).load(case)
    mask.SetSpacing([1.0, 1.0, 4.0])
    sitk.WriteImage(mask, str(folder / "masks" / f"{case}.mha"))
    with pytest.raises(DataError):
        AxialSet(folder).load(case)
    (folder / "masks" / f"{case}.mha").unlink()
    with pytest.raises(DataError, match="does not exist"):
        AxialSet(folder).state()
    table = pd.read_csv(folder / "slices.csv")
    table[table["slice"] > 0].to_csv(folder / "slices.csv", index=False)
    other = AxialSet(folder).cases["case"][1]
    with pytest.raises(DataError, match="holds 3 slices, slices.csv 2"):
        AxialSet(folder).load(other)
    table.drop(columns="patient").to_csv(folder / "slices.csv", index=False)
    with pytest.raises(DataError, match="lacks the column.*patient"):
        AxialSet(folder)


def test_planes_steeper_than_45_degrees_keep_their_order(tmp_path, made):
    """A lordosis of 80 degrees: no orientation of the body names such slices, and the reader must not turn them."""
    steep = make_anatomy(2, lordosis=80)
    disc = replace(steep.discs[0], frame=replace(steep.discs[0].frame, tilt=52.0))
    from spider_utils.data.phantom.axial import plan_block
    from spider_utils.data.phantom.axial_set import _as_image
    from spider_utils.data.volumes import from_image, write_volume

    block = plan_block(steep, disc, 3, 20, 2.0, 4.0, 4.0)
    array = np.arange(300, dtype=np.int16).reshape(3, 10, 10)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        data = array if name == "images" else (array % 8).astype(np.uint8)
        write_volume(from_image(_as_image(data, block)), tmp_path / name / "01_L5-S1.mha")
    rows = [{"case": "01_L5-S1", "patient": 1, "disc": 1, "level": "L5/S1", "slice": k} for k in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "slices.csv", index=False)
    one = AxialSet(tmp_path).load("01_L5-S1")
    np.testing.assert_array_equal(one.images, array)
    assert one.spacing == pytest.approx((4.0, 2.0, 2.0))


def test_the_coil_of_a_slice_is_that_of_its_middle_within_two_percent():
    """One plane stands for a slice's depth under the coil; the slices of a disc that is steep are the worst case."""
    anatomy = make_anatomy(4)
    disc = max(anatomy.discs[:5], key=lambda one: abs(one.frame.tilt))
    assert abs(disc.frame.tilt) > 15
    block = plan_block(anatomy, disc, n_slices=1, field_mm=80, pixel_mm=4, gap_mm=4.5, thickness_mm=4)
    middle = np.array(disc.frame.point(0, 0, 0))
    body = TissueGrid.empty(tuple(middle - 110), tuple(middle + 110), (10.0, 10.0, 10.0))
    picture = scan_block(np.ones(body.shape, np.float32), body, anatomy, block, noise=0.0, seed=0)[0]
    rows, columns = np.indices(picture.shape)
    back = np.array([block.place(0, r, c)[2] for r, c in zip(rows.flat, columns.flat, strict=True)]).reshape(picture.shape)
    depth = anatomy.vertebrae[1].frame.back + 72 + 1.2 * anatomy.subcutaneous - back
    assert (depth > 4).all() and picture == pytest.approx(LEVEL * (160 / (100 + depth)) ** 1.5, rel=0.02)
