"""The made-up scans: labels in anatomical order, contrast of the sequences, geometry, cut fields of view."""

from dataclasses import replace

import numpy as np
import pytest

from spider_utils.data.phantom import HOSPITALS, draw_protocols, make_anatomy, render
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.scanner import SPACE_VOXEL_MM, VOXEL_RANGE_MM, body_box, body_spacing
from spider_utils.data.phantom.signal import FAT, FLUID, MUSCLE, TISSUE, spin_echo
from spider_utils.data.volumes import check_same_geometry, from_image, orientation_code, to_stored_image
from spider_utils.labels import get_scheme


def scan(anatomy, hospital, sequences, seed):
    """All series of a patient on one painted body, small."""
    protocols = draw_protocols(anatomy, hospital, sequences, seed, size="small")
    body = build_body(anatomy, *body_box(protocols), body_spacing(protocols, "small"))
    return {p.sequence: render(anatomy, p.sequence, p, size="small", body=body) for p in protocols}


@pytest.fixture(scope="module")
def series():
    return scan(make_anatomy(21, scoliosis=2.0), "UMC", ("t1", "t2", "t2_SPACE"), 3)


def rows_of(mask, label):
    return np.nonzero(mask.array == label)[1]


def test_labels_belong_to_the_scheme_and_run_upwards(series):
    for _, mask in series.values():
        get_scheme("spider").check(mask.array)
        present = set(np.unique(mask.array).tolist())
        whole = sorted(v for v in present if 0 < v < 100)
        assert whole == list(range(1, len(whole) + 1)) and len(whole) >= 5
        assert 100 in present
        middles = [rows_of(mask, v).mean() for v in whole]
        assert middles == sorted(middles, reverse=True)
        discs = sorted(v - 200 for v in present if v > 200)
        assert discs == list(range(1, len(discs) + 1))
        assert len(discs) >= len(whole)


def test_every_disc_lies_between_its_vertebrae(series):
    for _, mask in series.values():
        # Bodies alone: what lies before the canal in its row.
        for number in range(2, 6):
            disc = rows_of(mask, 200 + number).mean()
            below, above = rows_of(mask, number - 1), rows_of(mask, number)
            assert np.percentile(above, 25) < disc < np.percentile(below, 75)
            assert above.mean() < below.mean()


def test_the_canal_is_one_piece_from_the_top_to_the_sacrum(series):
    for _, mask in series.values():
        rows = np.unique(rows_of(mask, 100))
        assert rows[0] == 0 and len(rows) == rows[-1] + 1
        assert rows[-1] > rows_of(mask, 201).mean()


def test_contrast_of_the_sequences(series):
    means = {}
    for name, (image, mask) in series.items():
        assert image.array.dtype == np.int16 and image.array.min() >= 0
        labels = mask.array
        means[name] = {
            "canal": image.array[labels == 100].mean(),
            "vertebra": image.array[(labels > 0) & (labels < 6)].mean(),
            "disc": image.array[labels > 200].mean(),
            "air": np.median(image.array[:, :10, -2:]),
        }
    assert means["t1"]["canal"] < 0.8 * means["t1"]["vertebra"]
    for name in ("t2", "t2_SPACE"):
        assert means[name]["canal"] > 1.5 * means[name]["vertebra"] > 1.5 * means[name]["disc"]
    for one in means.values():
        assert one["air"] < 0.4 * one["vertebra"]


def test_spin_echo_shows_fat_bright_in_both_and_fluid_only_in_t2():
    for tesla in (1.5, 3.0):
        t1 = {m: spin_echo(m, 550, 10, tesla) for m in (FAT, MUSCLE, FLUID)}
        t2 = {m: spin_echo(m, 3600, 110, tesla) for m in (FAT, MUSCLE, FLUID)}
        assert t1[FAT] > 2 * t1[MUSCLE] and t1[FLUID] < 0.7 * t1[MUSCLE]
        assert t2[FLUID] > t2[FAT] > 2 * t2[MUSCLE]
        assert spin_echo(FLUID, 1000, 70, tesla, restored=True) > 2 * spin_echo(FLUID, 1000, 70, tesla)


def test_nucleus_signal_falls_with_the_pfirrmann_grade():
    found = []
    for grade in (1, 2, 3, 4, 5):
        anatomy = make_anatomy(4, pfirrmann={3: grade}, narrowing={3: 0}, scoliosis=0.0)
        image, mask = scan(anatomy, "OH", ("t2",), 2)["t2"]
        inside = np.argwhere(mask.array == 203)
        middle = inside.mean(axis=0)
        scale = np.array(mask.spacing)
        near = inside[np.linalg.norm((inside - middle) * scale, axis=1) < 7]
        canal = np.median(image.array[mask.array == 100])
        found.append(np.mean(image.array[tuple(near.T)]) / canal)
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[4]


def test_a_hernia_reaches_behind_the_body_line():
    reach = {}
    for size in (0.0, 6.5):
        anatomy = make_anatomy(4, herniation={2: size}, bulge={2: 0}, scoliosis=0.0)
        _, mask = scan(anatomy, "OH", ("t2",), 2)["t2"]
        disc = anatomy.discs[1]
        # (right, down, back) of the disc's voxels in the disc's own frame, from the protocol's grid.
        protocol = draw_protocols(anatomy, "OH", ("t2",), 2, size="small")[0]
        index = np.argwhere(mask.array == 202)
        place = np.array(protocol.centre) + (index - (np.array(protocol.shape) - 1) / 2) * protocol.voxel_mm
        cos, sin = np.cos(np.radians(disc.frame.tilt)), np.sin(np.radians(disc.frame.tilt))
        behind = (place[:, 2] - disc.frame.back) * cos - (place[:, 1] - disc.frame.down) * sin
        reach[size] = behind.max() - disc.depth / 2
    assert reach[0.0] < 2.0
    assert reach[6.5] > 4.5


def test_stenosis_and_slip_change_the_mask():
    plain = make_anatomy(4, stenosis={3: 0}, herniation={}, scoliosis=0.0)
    tight = make_anatomy(4, stenosis={3: 0.5}, scoliosis=0.0)
    assert tight.discs[2].canal_ap < 0.75 * plain.discs[2].canal_ap
    counts = []
    for anatomy in (plain, tight):
        _, mask = scan(anatomy, "OH", ("t2",), 2)["t2"]
        row = round(rows_of(mask, 203).mean())
        counts.append((mask.array[:, row - 1 : row + 2] == 100).sum())
    assert counts[1] < 0.75 * counts[0]


def test_a_cut_vertebra_is_labelled_from_101():
    anatomy = make_anatomy(21)
    protocol = draw_protocols(anatomy, "RH1", ("t1",), 5, size="small")[0]
    # Move the upper edge of the field into the middle of the sixth body.
    top = anatomy.vertebrae[5].frame.down
    centre = (protocol.centre[0], top + protocol.extent_mm[1] / 2, protocol.centre[2])
    _, mask = render(anatomy, "t1", replace(protocol, centre=centre), size="small")
    present = set(np.unique(mask.array).tolist())
    assert 106 in present and 6 not in present and 5 in present
    assert (mask.array[:, 0] == 106).any()
    assert not present & {7, 107, 207}
    # A field that ends inside the lowest vertebra cuts that one.
    bottom = anatomy.vertebrae[0].frame.down
    centre = (protocol.centre[0], bottom - protocol.extent_mm[1] / 2, protocol.centre[2])
    _, mask = render(anatomy, "t1", replace(protocol, centre=centre), size="small")
    assert 1 not in np.unique(mask.array)


@pytest.fixture(scope="module")
def turned():
    """A patient who lies a little askew, painted once."""
    anatomy = make_anatomy(6)
    protocol = replace(draw_protocols(anatomy, "RH2", ("t2",), 4, size="small")[0], tilts_deg=(3.0, -2.0, 4.0))
    return anatomy, protocol, build_body(anatomy, *body_box([protocol]), body_spacing([protocol], "small"))


@pytest.mark.parametrize("code", ["RAI", "PIR", "LPS", "SAL", "IRP"])
def test_stored_orientation_is_honoured(turned, code):
    anatomy, protocol, body = turned
    image, mask = render(anatomy, "t2", protocol, orientation=code, size="small", body=body)
    check_same_geometry(image, mask)
    stored = to_stored_image(image)
    assert orientation_code(stored) == code == image.orientation
    again = from_image(stored)
    assert np.array_equal(again.array, image.array)
    assert np.allclose(again.origin, image.origin, atol=1e-4) and np.allclose(again.direction, image.direction)
    assert not np.allclose(np.abs(again.direction).max(axis=0), 1, atol=1e-4)


def test_series_of_one_patient_show_one_anatomy(series):
    (_, one), (_, two) = series["t1"], series["t2"]
    assert one.array.shape == two.array.shape
    assert (one.array == two.array).mean() > 0.999


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_voxels_lie_in_the_hospitals_range(hospital):
    (thin, thick), (fine, coarse) = VOXEL_RANGE_MM[hospital]
    codes = set()
    for seed in range(40):
        anatomy = make_anatomy(seed)
        for protocol in draw_protocols(anatomy, hospital, ("t1", "t2"), seed):
            across, row, column = protocol.voxel_mm
            assert thin <= across <= thick and fine <= row <= coarse and fine <= column <= coarse
            assert protocol.machine.tr[0] <= protocol.tr_ms <= protocol.machine.tr[2]
            codes.add(protocol.orientation)
    assert len(codes) > 1
    # Which axis of the file is the thick one differs between hospitals.
    first = {code for code in codes if code[0] in "RL"}
    assert first and (first == codes) == (hospital in ("UMC", "OH"))
    if hospital == "UMC":
        assert draw_protocols(make_anatomy(1), "UMC", ("t2_SPACE",), 1)[0].voxel_mm == SPACE_VOXEL_MM


def test_lateral_slices_hold_fat_of_the_foramina_and_muscle():
    anatomy = make_anatomy(4, scoliosis=0.0)
    body = build_body(anatomy, (10, -60, -40), (22, 60, 80), (2.0, 0.8, 0.8))
    for name in ("fat", "nerve", "muscle", "marrow", "disc"):
        assert (body.tissue == TISSUE[name]).sum() > 50, name


@pytest.mark.parametrize(
    ("sequence", "hospital", "options", "named"),
    [
        ("t3", "OH", {}, "t2_SPACE"),
        ("t1", "XX", {}, "UMC"),
        ("t2_SPACE", "OH", {}, "UMC only"),
        ("t1", "OH", {"orientation": "LLS"}, "PIR"),
        ("t1", "OH", {"size": "huge"}, "small"),
    ],
)
def test_bad_requests_are_refused(sequence, hospital, options, named):
    with pytest.raises(ValueError, match=named):
        render(make_anatomy(1), sequence, hospital, **options)
