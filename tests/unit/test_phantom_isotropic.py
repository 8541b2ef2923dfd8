"""Isotropic Dixon phantoms: contrasts that fit together, seven labelled discs, and the source's troubles on purpose."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from spider_utils.data.discs import DIXON, LABELLED_DISCS, SACRAL_DISC, open_disc_set
from spider_utils.data.phantom import generate_dataset, make_anatomy, render
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.isotropic import SET_FILE, draw_dixon, generate_disc_set, scan_dixon, set_facts
from spider_utils.data.phantom.signal import AIR, ANNULUS, FAT, FLUID, TISSUE, YELLOW_MARROW, gradient_echo
from spider_utils.data.volumes import check_same_geometry
from spider_utils.errors import DataError
from spider_utils.files import read_json, sha256_of

COARSE_MM = 4.0


def sums(folder):
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate_disc_set(tmp_path_factory.mktemp("ivd") / "set", 3, seed=3, jobs=1, voxel_mm=COARSE_MM)


@pytest.fixture(scope="module")
def quiet():
    """One patient scanned at 2.5 mm nearly without noise, with a rudimentary disc."""
    anatomy = make_anatomy(8, n_lumbar=5, subcutaneous=15)
    protocol = replace(draw_dixon(anatomy, 1, 2.5), noise=1e-6)
    return anatomy, protocol, *scan_dixon(anatomy, protocol, sacral_disc_mm=6.0)


def test_gradient_echo_is_the_spoiled_steady_state():
    """Worked by hand from the Ernst equation for fluid, which has no fat: T1 3900 ms, T2 1600 ms, 12 per second of the field."""
    e1 = math.exp(-10.6 / 3900)
    wanted = math.sin(math.radians(20)) * (1 - e1) / (1 - math.cos(math.radians(20)) * e1)
    water, fat = gradient_echo(FLUID, 10.6, 3.6, 20, 1.5)
    assert water == pytest.approx(wanted * math.exp(-3.6 * (1 / 1600 + 0.012))) and fat == 0
    assert gradient_echo(AIR, 10.6, 3.6, 20, 1.5) == (0, 0)
    assert gradient_echo(FAT, 10.6, 3.6, 20, 1.5)[1] > 10 * gradient_echo(FAT, 10.6, 3.6, 20, 1.5)[0]
    assert gradient_echo(ANNULUS, 10.6, 3.6, 20, 1.5)[0] > water, "T1 weighting: discs are brighter than the fluid"
    assert gradient_echo(YELLOW_MARROW, 10.6, 3.6, 20, 1.5)[1] > gradient_echo(ANNULUS, 10.6, 3.6, 20, 1.5)[0]


def test_four_contrasts_are_sums_and_differences(quiet):
    *_, images, _ = quiet
    fat, inn, opp, wat = (images[name].array.astype(int) for name in DIXON)
    assert np.abs(inn - (wat + fat)).max() <= 2, "in phase = water + fat, up to rounding"
    assert np.abs(opp - np.abs(wat - fat)).max() <= 2, "opposed = |water - fat|"
    for image in images.values():
        check_same_geometry(images["fat"], image)
        assert image.spacing == (2.5, 2.5, 2.5) and image.array.shape == (28, 128, 128) and image.array.dtype == np.int16


def test_discs_are_where_the_anatomy_says_and_show_water_but_no_fat(quiet):
    anatomy, protocol, images, discs = quiet
    corner = np.array(protocol.centre) - np.array(protocol.extent_mm) / 2
    for disc in anatomy.discs[:LABELLED_DISCS]:
        centre = (np.argwhere(discs.array == disc.number).mean(axis=0) + 0.5) * 2.5 + corner
        frame = disc.frame
        assert np.abs(centre - (frame.right, frame.down, frame.back)).max() < 2.5
        body = anatomy.vertebrae[disc.number - 1].frame
        right, down, back = (((np.array([body.right, body.down, body.back]) - corner) / 2.5) // 1).astype(int)
        inside = discs.array == disc.number
        assert np.median(images["fat"].array[inside]) < 0.4 * np.median(
            images["fat"].array[right - 1 : right + 2, down - 1 : down + 2, back - 1 : back + 2]
        )
        assert np.median(images["wat"].array[inside]) > 2 * np.median(images["fat"].array[inside])


def test_the_rudimentary_disc_lies_between_s1_and_s2(quiet):
    anatomy, protocol, images, discs = quiet
    inside = discs.array == SACRAL_DISC
    corner = np.array(protocol.centre) - np.array(protocol.extent_mm) / 2
    centre = (np.argwhere(inside).mean(axis=0) + 0.5) * 2.5 + corner
    upper, lower = anatomy.sacrum[0].frame, anatomy.sacrum[1].frame
    assert upper.down < centre[1] < lower.down and upper.back < centre[2] < lower.back
    assert np.median(images["wat"].array[inside]) > 2 * np.median(images["fat"].array[inside]), "it looks like a disc"
    without = scan_dixon(anatomy, protocol)[1]
    assert not (without.array == SACRAL_DISC).any()
    np.testing.assert_array_equal(np.where(inside, 0, discs.array), without.array)


def test_coarse_voxels_keep_the_volume_of_a_disc(quiet):
    """Against the labels of a tissue grid of half the voxel's edge that lies elsewhere."""
    anatomy, _, _, discs = quiet
    middle = anatomy.discs[2].frame
    low, high = (-36, middle.down - 48, middle.back - 36), (36, middle.down + 48, middle.back + 36)
    labels = build_body(anatomy, low, high, (1.25, 1.25, 1.25)).label
    coarse = sum((discs.array == number).sum() for number in (2, 3, 4)) * 2.5**3
    assert coarse == pytest.approx(sum((labels == 200 + number).sum() for number in (2, 3, 4)) * 1.25**3, rel=0.03)


def test_bowel_stays_inside_the_belly_of_the_thin():
    thin, front = make_anatomy(1, subcutaneous=4), {}
    for whole in (False, True):
        grid = build_body(thin, (-20, -60, -190), (20, 60, 0), (2.5, 2.5, 2.5), whole_belly=whole)
        front[whole] = 2.5 * np.argmax(grid.tissue != TISSUE["air"], axis=2)  # mm from the grid's edge to the belly
    steps = {whole: np.abs(np.diff(mm, axis=1)).max() for whole, mm in front.items()}
    assert steps[True] <= 5 < steps[False], "a belly is smooth; with loops coming through it, it is not"
    assert (front[False] <= front[True]).all()


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("n_lumbar", [4, 5, 6])
def test_the_field_of_view_shows_seven_whole_discs(scale, n_lumbar):
    for seed in range(6):
        anatomy = make_anatomy(seed, scale=scale, n_lumbar=n_lumbar)
        protocol = draw_dixon(anatomy, seed, 2.5)
        top, bottom = (protocol.centre[1] + side * protocol.extent_mm[1] / 2 for side in (-1, 1))
        first, seventh = anatomy.discs[0], anatomy.discs[LABELLED_DISCS - 1]
        assert seventh.frame.down - seventh.height > top + 5 and first.frame.down + 25 < bottom


def test_some_patients_show_discs_that_nobody_labelled():
    above = []
    for seed in range(40):
        anatomy = make_anatomy(seed)
        protocol = draw_dixon(anatomy, seed, 2.5)
        top = protocol.centre[1] - protocol.extent_mm[1] / 2
        above.append(sum(disc.frame.down - disc.height > top for disc in anatomy.discs[LABELLED_DISCS:]))
    assert 0.3 < np.mean(np.array(above) > 0) < 0.9 and max(above) >= 2


def test_the_set_on_disk(made):
    assert sorted(p.name for p in made.iterdir()) == ["01", "02", "03", SET_FILE, "patients.csv"]
    names = [f"02_{name}.nii.gz" for name in ("AllDiscs", "Labels", "fat", "inn", "opp", "wat")]
    assert sorted(p.name for p in (made / "02").iterdir()) == names
    assert read_json(made / SET_FILE) == set_facts(3, 3, COARSE_MM)
    data, table = open_disc_set("ivd-phantom", made), pd.read_csv(made / "patients.csv")
    assert repr(data) == "DiscSet('ivd-phantom', 3 patients, discs, contrasts fat, inn, opp, wat)"
    for row in table.itertuples():
        case, everything = data.load(f"{row.patient:02d}"), data.all_discs(f"{row.patient:02d}").array
        assert (case.patient, case.contrasts) == (row.patient, DIXON)
        labels = np.unique(case.mask.array).tolist()
        assert labels == list(range(LABELLED_DISCS + 1)), "seven discs are labelled, and no more"
        np.testing.assert_array_equal(case.mask.array, np.where(everything <= LABELLED_DISCS, everything, 0))
        seen = set(np.unique(everything).tolist()) - {0}
        assert len(seen - {SACRAL_DISC}) == row.discs_in_view and (SACRAL_DISC in seen) == (row.sacral_disc_mm > 0)
    with pytest.raises(KeyError):
        data.load("99")


def test_bytes_depend_on_the_seed_alone(made, tmp_path):
    assert sums(generate_disc_set(tmp_path / "again", 3, seed=3, jobs=2, voxel_mm=COARSE_MM)) == sums(made)
    fewer = sums(generate_disc_set(tmp_path / "fewer", 1, seed=3, jobs=1, voxel_mm=COARSE_MM))
    first = [name for name in fewer if name.startswith("01/")]
    assert len(first) == 6 and all(fewer[name] == sums(made)[name] for name in first)
    other = sums(generate_disc_set(tmp_path / "other", 1, seed=4, jobs=1, voxel_mm=COARSE_MM))
    assert all(other[name] != fewer[name] for name in first)


def test_only_a_set_of_this_kind_is_replaced(made, tmp_path):
    generate_dataset(tmp_path / "spider", 1, jobs=1, size="small")
    with pytest.raises(DataError, match=f"holds other files \\(no {SET_FILE}\\)"):
        generate_disc_set(tmp_path / "spider", 1, jobs=1, voxel_mm=COARSE_MM)
    shutil.copytree(made, tmp_path / "set")
    (tmp_path / "set" / "01" / "my_mask.nii.gz").write_text("my work")
    with pytest.raises(DataError, match="my_mask.nii.gz: is no file of the phantom, and would be lost"):
        generate_disc_set(tmp_path / "set", 1, jobs=1, voxel_mm=COARSE_MM)
    assert (tmp_path / "set" / "01" / "my_mask.nii.gz").read_text() == "my work"


@pytest.mark.parametrize("wrong", [{"n_patients": 0}, {"seed": -1}, {"voxel_mm": 0.5}, {"voxel_mm": 9}])
def test_settings_out_of_range(wrong, tmp_path):
    with pytest.raises(ValueError, match="at least 1 patient, seed 0 or more, 0.8 to 4 mm"):
        generate_disc_set(tmp_path / "x", **{"n_patients": 1, "seed": 0, "voxel_mm": 2.5, **wrong})


@pytest.mark.parametrize(
    ("hospital", "sequence", "seed", "labels", "total"),
    [
        ("OH", "t1", 1, {1: 12622, 100: 12375, 201: 3465, 203: 2986}, 553711597),
        ("UMC", "t2_SPACE", 6, {1: 17102, 100: 19567, 201: 6069, 203: 4496}, 131451961),
    ],
)
def test_phantoms_in_spiders_layout_stay_as_they_were(hospital, sequence, seed, labels, total):
    """Pinned before isotropic volumes were added: whoever changes these must raise GENERATOR_VERSION."""
    image, mask = render(make_anatomy(seed), sequence, hospital, seed=seed, size="small")
    counts = np.bincount(mask.array.reshape(-1), minlength=256)
    assert {int(k): int(counts[k]) for k in (1, 100, 201, 203)} == labels
    assert int(image.array.sum(dtype=np.int64)) == pytest.approx(total, rel=1e-6)
