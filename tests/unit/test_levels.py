"""Levels from class masks: every rule on a spine of boxes worked out by hand, and the rate on phantoms.

The boxes: bodies 27 mm high, discs 8 mm, so 35 mm a level; 34 mm from front to back. Slices are 4 mm, pixels 1 mm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from spider_utils.data.discs import LABELLED_DISCS, SACRAL_DISC
from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.isotropic import draw_dixon, scan_dixon
from spider_utils.labels import LabelWarning, convert
from spider_utils.measure.levels import LevelResult, NoLevelsError, name_levels, one_level_a_part
from tests.levels_phantoms import DAMAGE, DRAWN, VIEWS, drawn_verdicts, make_patient, make_patients, rates, verdicts, wrong_levels

SPACING = (4.0, 1.0, 1.0)
ROWS, FRONT, BACK = 240, 20, 54  # bodies and discs fill columns 20 to 53
DISC_TOP = [200 - 35 * k for k in range(6)]  # rows of the top of discs 1, 2, ...; body k + 1 ends where disc k + 1 begins


def spine(levels: int = 5, canal: bool = True, arches: bool = True) -> np.ndarray:
    """structures4 (10, 240, 120): ``levels`` bodies with a disc below each; canal behind, and arches behind that."""
    mask = np.zeros((10, ROWS, 120), np.uint8)
    for k in range(levels):
        top = DISC_TOP[k]
        mask[1:9, top : top + 8, FRONT:BACK] = 3
        mask[1:9, top - 27 : top, FRONT:BACK] = 1
        if arches:
            mask[2:4, top - 20 : top - 10, BACK:74] = 1  # pedicles at the sides
            mask[6:8, top - 20 : top - 10, BACK:74] = 1
            mask[2:8, top - 16 : top + 2, 72:78] = 1  # lamina
            mask[4:6, top - 10 : top + 8, 78:95] = 1  # spinous process, lower than its body
    if canal:
        mask[4:6, 20:, 58:70] = 2
    return mask


def disc(mask: np.ndarray, level: int) -> tuple:
    """Where a disc lies."""
    return np.s_[1:9, DISC_TOP[level - 1] : DISC_TOP[level - 1] + 8, FRONT:BACK]


def body(mask: np.ndarray, level: int) -> tuple:
    """Where a body lies."""
    return np.s_[1:9, DISC_TOP[level - 1] - 27 : DISC_TOP[level - 1], FRONT:BACK]


def flags(result: LevelResult) -> dict[tuple[str, int], str]:
    return {(row.component, row.level): row.flag for row in result.table.itertuples()}


def assert_levels(result: LevelResult, mask: np.ndarray, levels: int = 5, without: tuple[int, ...] = ()) -> None:
    """Every disc and body of ``spine`` has its number, as far as ``mask`` still holds it."""
    for level in range(1, levels + 1):
        for place, value, label in ((disc(mask, level), 3, 200 + level), (body(mask, level), 1, level)):
            got = result.mask[place][mask[place] == value]
            if label not in without:
                assert len(got) and (got == label).all(), f"{label}: {np.unique(got, return_counts=True)}"


# ------------------------------------------------------------------------------------------------------------ whole spines


def test_a_whole_spine_is_counted_from_below():
    mask = spine()
    result = name_levels(mask, SPACING)
    assert_levels(result, mask)
    assert result.mask.dtype == np.uint8 and result.mask.shape == mask.shape
    assert np.array_equal(result.mask == 100, mask == 2) and np.array_equal(result.mask == 0, mask == 0)
    assert result.gap_mm == pytest.approx(35, abs=0.6) and not len(result.dropped) and result.notes == ()
    assert set(flags(result).values()) == {""}
    first = result.table.iloc[0]
    # Slices 1 to 8 of 4 mm, rows 200 to 207, columns 20 to 53: middles 18, 203.5 and 36.5 mm; 8 x 8 x 34 voxels of 4 mm3.
    assert (first["component"], first["level"], first["label"], first["name"]) == ("disc", 1, 201, "L5/S1")
    assert first[["slice_mm", "row_mm", "column_mm", "size_mm3"]].tolist() == [18.0, 203.5, 36.5, 8704.0]
    assert result.table["name"].tolist()[:4] == ["L5/S1", "L5", "L4/L5", "L4"]


def test_arches_belong_to_their_own_body():
    mask = spine()
    result = name_levels(mask, SPACING)
    for k in range(5):
        spinous = np.s_[4:6, DISC_TOP[k] - 10 : DISC_TOP[k] + 8, 78:95]
        assert (result.mask[spinous] == k + 1).all()
    slice_result = name_levels(mask[4], SPACING[1:])  # here the processes hang on nothing
    for k in range(5):
        assert (slice_result.mask[DISC_TOP[k] - 10 : DISC_TOP[k] + 8, 78:95] == k + 1).all()


def test_touching_vertebrae_are_parted():
    """Arches that touch their neighbours, and bodies that touch at the rim, as coarse voxels have it."""
    mask = spine()
    mask[2:4, 20:200, 74:76][mask[2:4, 20:200, 74:76] == 0] = 1
    mask[disc(mask, 3)][:, :, :2] = 1
    result = name_levels(mask, SPACING)
    for level in range(1, 6):
        assert (result.mask[body(mask, level)] == level).all()


@pytest.mark.parametrize("canal", [True, False])
@pytest.mark.parametrize("arches", [True, False])
def test_with_and_without_canal_and_arches(canal: bool, arches: bool):
    mask = spine(canal=canal, arches=arches)
    assert_levels(name_levels(mask, SPACING), mask)


def test_discs_alone_and_vertebrae_alone():
    mask = spine()
    discs = name_levels(mask == 3, SPACING, "discs")
    assert np.array_equal(discs.mask[mask == 3], name_levels(mask, SPACING).mask[mask == 3])
    assert set(discs.table["component"]) == {"disc"} and "discs alone" in discs.notes[0]
    for arches in (True, False):
        bones = spine(arches=arches) == 1
        result = name_levels(bones, SPACING, "vertebrae")
        for level in range(1, 6):
            assert (result.mask[body(mask, level)] == level).all()


def test_a_single_slice():
    mask = spine()[4]
    result = name_levels(mask, (1.0, 1.0))
    assert result.mask.shape == mask.shape
    assert [int(result.mask[top + 4, 30]) for top in DISC_TOP[:5]] == [201, 202, 203, 204, 205]
    assert [int(result.mask[top - 10, 30]) for top in DISC_TOP[:5]] == [1, 2, 3, 4, 5]
    assert list(result.names.items())[:3] == [(201, "L5/S1"), (1, "L5"), (202, "L4/L5")] and len(result.names) == 10
    assert result.table.iloc[0]["size_mm2"] == 8 * 34 and "slice_mm" not in result.table
    assert np.array_equal(name_levels(mask[None], SPACING).mask[0], result.mask)


def test_patients_of_any_size():
    mask = spine()
    for scale in (0.6, 1.4):
        assert_levels(name_levels(mask, tuple(scale * s for s in SPACING)), mask)


def test_two_levels_are_enough_and_one():
    for levels in (1, 2):
        mask = spine(levels)
        assert_levels(name_levels(mask, SPACING), mask, levels)
        assert name_levels(mask == 3, SPACING, "discs").mask.max() == 200 + levels


def test_levels_that_a_mask_holds_already_are_counted_anew():
    numbered = np.where(spine() == 3, 205, np.where(spine() == 1, 7, 0)).astype(np.uint8)
    assert np.array_equal(name_levels(numbered, SPACING, "spider").mask, name_levels(spine(canal=False), SPACING).mask)


def test_the_result_is_a_mask_of_the_kit():
    result = name_levels(spine(), SPACING)
    assert set(np.unique(convert(result.mask, "spider", "levels20"))) == {*range(6), 10, *range(11, 16)}
    assert np.array_equal(convert(result.mask, "spider", "structures4"), spine())


def test_repr_tells_names_and_flags():
    mask = spine()
    mask[disc(mask, 3)] = 0
    mask[0, 0, 0] = 3
    lines = repr(name_levels(mask, SPACING)).splitlines()
    assert lines[0] == "LevelResult(10 x 240 x 120, 35.0 mm a level)"
    assert lines[2] == "  discs from below: L5/S1, L4/L5, L3/L4 (filled gap), L2/L3, L1/L2"
    assert lines[3] == "  dropped: disc, crumb (1)"
    assert str(name_levels(mask, SPACING)).splitlines() == [line.strip() for line in lines[1:]]


def test_levels_that_are_not_kept_are_said():
    mask = name_levels(spine(), SPACING).mask
    assert name_levels(mask, SPACING, "spider").notes == ()
    moved = np.where(mask == 100, 100, np.where(mask > 0, mask + 1, 0))  # L5 was called L4, and so on
    moved[moved == 6] = 106  # what the picture cuts keeps its number
    result = name_levels(moved, SPACING, "spider")
    assert np.array_equal(result.mask, mask)
    (note,) = result.notes
    assert "L4 is L5 here" in note and "L4/L5 is L5/S1 here" in note and "T12 is L1 here" in note


@pytest.mark.parametrize("scheme", ["spider", "levels20"])
def test_classes_are_no_levels(scheme: str):
    with pytest.raises(ValueError, match=f"scheme '{scheme}'.*hold classes.*spider-kit levels"):
        name_levels(spine(), SPACING, scheme)
    three = np.where(name_levels(spine(), SPACING).mask <= 3, name_levels(spine(), SPACING).mask, 0)  # three vertebrae alone
    assert len(name_levels(three, SPACING, scheme).table) > 0


def test_clamped_masks_hold_no_levels():
    with pytest.raises(ValueError, match="canal, discs and cut vertebrae are one class"):
        name_levels(spine(), SPACING, "clamped20")


# ----------------------------------------------------------------------------------------------------------- missing parts


def test_levels20_that_is_called_spider_is_refused():
    named = convert(name_levels(spine(), SPACING).mask, "spider", "levels20")
    with pytest.raises(ValueError, match="holds nothing above 1[0-9], and 10 lies beside lower numbers.*--scheme levels20"):
        name_levels(named, SPACING, "spider")
    assert name_levels(named, SPACING, "levels20").names == name_levels(spine(), SPACING).names


def test_ten_vertebrae_without_canal_and_discs_are_no_levels20():
    stack = np.zeros((4, 440, 60), np.uint8)
    for level in range(1, 12):
        stack[:, 440 - 38 * level : 440 - 38 * level + 26, 10:40] = level
    assert set(name_levels(stack, (4.0, 1.0, 1.0), "spider").names.values()) >= {"L5", "T7"}


@pytest.mark.parametrize("scheme", ["structures4", "discs"])
def test_a_missing_disc_leaves_a_gap_in_the_count(scheme: str):
    mask = spine()
    mask[disc(mask, 3)] = 0
    result = name_levels(mask if scheme == "structures4" else mask == 3, SPACING, scheme)
    for level in (1, 2, 4, 5):
        assert (result.mask[disc(mask, level)] == 200 + level).all()
    gap = result.table[result.table["flag"] == "filled gap"].query("component == 'disc'")
    assert gap["level"].tolist() == [3] and gap["size_mm3"].tolist() == [0]
    assert gap["row_mm"].iloc[0] == pytest.approx(DISC_TOP[2] + 3.5, abs=2)


def test_a_missing_lowest_disc_is_seen_by_the_vertebra_above_it():
    mask = spine()
    mask[disc(mask, 1)] = 0
    result = name_levels(mask, SPACING)
    assert_levels(result, mask, without=(201,))
    assert flags(result)["disc", 1] == "filled gap" and 201 not in result.names and "no disc below" in result.notes[0]


def test_a_missing_lowest_body_is_seen_by_two_discs_in_a_row():
    mask = spine()
    mask[body(mask, 1)] = 0
    result = name_levels(mask, SPACING)
    assert_levels(result, mask, without=(1,))


def test_a_disc_that_became_bone_parts_two_bodies_all_the_same():
    mask = spine(arches=False)
    mask[disc(mask, 3)] = 1
    result = name_levels(mask, SPACING)
    for level in (1, 2, 5):
        assert (result.mask[body(mask, level)] == level).all()
    for level in (3, 4):
        assert (result.mask[body(mask, level)] == level).mean() > 0.9
        assert "merged" in flags(result)["vertebra", level] or level == 4
    assert (result.mask[disc(mask, 4)] == 204).all()


# ------------------------------------------------------------------------------------------------------ extra and false parts


def test_crumbs_are_dropped_by_their_size_in_mm():
    mask = spine()
    mask[0, 100, 5:7] = 3  # 8 mm3
    result = name_levels(mask, SPACING)
    assert_levels(result, mask)
    assert result.dropped[["component", "size_mm3", "reason"]].values.tolist() == [["disc", 8.0, "crumb"]]
    assert result.mask[0, 100, 5] == 0
    assert "crumb" not in set(name_levels(mask, (4.0, 2.0, 2.0)).dropped["reason"])  # 32 mm3


def test_blobs_far_from_the_spine_are_dropped():
    mask = spine()
    mask[3:6, 150:158, 2:8] = 3  # in the belly, 12 mm before the vertebrae
    mask[3:6, 100:110, 108:118] = 3  # in the back
    result = name_levels(mask, SPACING)
    assert_levels(result, mask)
    assert result.dropped["reason"].tolist() == ["off the curve of the spine"] * 2
    alone = name_levels(mask == 3, SPACING, "discs")
    assert (alone.mask[disc(mask, 3)] == 203).all() and alone.mask[4, 105, 110] == 0
    assert "off the curve of the spine" in set(alone.dropped["reason"])


@pytest.mark.parametrize("scheme", ["structures4", "discs"])
def test_a_false_disc_inside_a_body_takes_no_number(scheme: str):
    mask = spine()
    middle = DISC_TOP[2] - 14
    mask[3:6, middle - 3 : middle + 3, 28:45] = 3
    result = name_levels(mask if scheme == "structures4" else mask == 3, SPACING, scheme)
    for level in range(1, 6):
        assert (result.mask[disc(mask, level)] == 200 + level).all()
    assert result.dropped["reason"].tolist() == ["no place between the levels"]


@pytest.mark.parametrize("scheme", ["structures4", "discs"])
def test_a_split_disc_is_one_disc(scheme: str):
    mask = spine()
    mask[disc(mask, 2)][:, :, 14:18] = 0
    result = name_levels(mask if scheme == "structures4" else mask == 3, SPACING, scheme)
    got = result.mask[disc(mask, 2)]
    assert (got[mask[disc(mask, 2)] == 3] == 202).all()
    assert flags(result)["disc", 2] == "split" and flags(result)["disc", 3] == ""


@pytest.mark.parametrize("scheme", ["structures4", "discs"])
def test_merged_discs_are_cut(scheme: str):
    mask = spine()
    mask[4:6, DISC_TOP[2] : DISC_TOP[1], 30:38] = 3  # a bar from disc 2 to disc 3
    result = name_levels(mask if scheme == "structures4" else mask == 3, SPACING, scheme)
    for level in range(1, 6):
        assert (result.mask[disc(mask, level)] == 200 + level).all()
    assert flags(result)["disc", 2] == flags(result)["disc", 3] == "merged"


@pytest.mark.parametrize("scheme", ["structures4", "discs"])
def test_a_disc_inside_the_sacrum_is_left_out(scheme: str):
    mask = spine()
    mask[2:8, 232:236, 34:58] = 3  # 28 mm below disc 1, no bone between; 24 mm long and wide instead of 34 and 32
    result = name_levels(mask if scheme == "structures4" else mask == 3, SPACING, scheme)
    for level in range(1, 6):
        assert (result.mask[disc(mask, level)] == 200 + level).all()
    assert (result.mask[2:8, 232:236, 34:58] == 0).all()
    assert result.dropped["reason"].str.contains("sacrum|no place|far").all()


@pytest.mark.parametrize("seed", [1, 2])
def test_seven_lowest_discs_of_a_disc_phantom_with_a_sacral_disc(seed: int):
    anatomy = make_anatomy(seed)
    _, every = scan_dixon(anatomy, draw_dixon(anatomy, seed, 2.5), sacral_disc_mm=5.0)
    assert SACRAL_DISC in every.array
    found = name_levels(every.array > 0, every.spacing, "discs").mask
    for number in range(1, LABELLED_DISCS + 1):
        values, counts = np.unique(found[every.array == number], return_counts=True)
        assert values[counts.argmax()] == 200 + number, f"disc {number}"
    assert (found[every.array == SACRAL_DISC] == 0).mean() > 0.9


@pytest.mark.parametrize("scheme", ["structures4", "discs"])
def test_a_thin_lowest_disc_is_no_disc_of_the_sacrum(scheme: str):
    """Degeneration takes a disc's height, not its length."""
    mask = spine()
    mask[disc(mask, 1)][:, 2:, :] = 0  # 2 mm of 8 left
    result = name_levels(mask if scheme == "structures4" else mask == 3, SPACING, scheme)
    assert (result.mask[disc(mask, 1)][:, :2] == 201).all() and (result.mask[disc(mask, 4)] == 204).all()


def test_a_first_piece_of_the_sacrum_that_is_labelled_as_bone_is_left_out():
    """Bodies alone, one of them 23 mm behind and 18 mm below the lowest: where a spine bends into the sacrum."""
    mask = spine(canal=False, arches=False) == 1
    mask[1:9, 190:200, 46:54] = False
    sacrum = np.s_[1:9, 194:216, 48:72]
    mask[sacrum] = True
    result = name_levels(mask, SPACING, "vertebrae")
    assert (result.mask[body(mask, 2)] == 2).all() and (result.mask[body(mask, 5)] == 5).all()
    assert (result.mask[sacrum] == 0).all()
    assert result.dropped["reason"].tolist() == ["piece of the sacrum"]


def test_a_sliver_of_the_sacrum_is_no_vertebra():
    mask = spine()
    mask[3:7, 208:214, 24:50] = 1  # 6 mm below disc 1
    mask[3:7, 212:222, 30:44] = 1
    result = name_levels(mask, SPACING)
    assert_levels(result, mask)


# ----------------------------------------------------------------------------------------------------------------- borders


def test_parts_that_the_image_cuts_are_flagged_and_counted():
    cut = spine(6)[:, DISC_TOP[4] - 6 :]  # six millimetres of body 5 are left
    result = name_levels(cut, SPACING)
    assert flags(result)["vertebra", 5] == "partly visible" and flags(result)["disc", 5] == ""
    assert (result.mask[1:9, :6, FRONT:BACK] == 5).all()


def test_an_image_that_ends_above_the_sacrum_says_so():
    cut = spine()[:, : DISC_TOP[0] - 5]
    result = name_levels(cut, SPACING)
    assert (result.mask[1:9, DISC_TOP[1] : DISC_TOP[1] + 8, FRONT:BACK] == 202).all()  # body 1 is the lowest in view
    assert any("lower edge" in note for note in result.notes)


# ---------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("mask", "spacing", "scheme", "wanted"),
    [
        (np.zeros((4, 4, 4), np.uint8), SPACING, "structures4", "no vertebra and no disc"),
        (np.full((4, 4, 4), 2, np.uint8), SPACING, "structures4", "no vertebra and no disc"),
        (np.ones((4, 4, 4, 1), np.uint8), SPACING, "structures4", r"shape \(4, 4, 4, 1\)"),
        (np.ones((0, 4, 4), np.uint8), SPACING, "structures4", r"shape \(0, 4, 4\)"),
        (np.ones((4, 4, 4), np.uint8), (1.0, 1.0), "structures4", "3 positive numbers"),
        (np.ones((4, 4), np.uint8), SPACING, "structures4", "2 positive numbers"),
        (np.ones((4, 4, 4), np.uint8), (1.0, 0.0, 1.0), "structures4", "positive"),
        (np.ones((4, 4, 4), np.uint8), (1.0, np.nan, 1.0), "structures4", "positive"),
        (np.full((4, 4, 4), 9, np.uint8), SPACING, "structures4", r"9 \(64 px\)"),
        (np.ones((4, 4, 4), np.float32), SPACING, "structures4", "integers"),
        (np.ones((4, 4, 4), np.float32), SPACING, "discs", "integers"),
        (np.ones((4, 4, 4), np.uint8), SPACING, "levels", "unknown scheme 'levels'"),
        (np.pad(np.full((1, 2, 2), 3, np.uint8), 3), (1.0, 1.0, 1.0), "structures4", "smaller than 10"),
        (np.pad(np.ones((1, 1, 1), np.uint8), 3), (4.0, 4.0, 4.0), "discs", "no longer than a voxel"),
    ],
)
def test_bad_input_is_said_in_one_line(mask: np.ndarray, spacing: tuple, scheme: str, wanted: str):
    with pytest.raises(ValueError, match=wanted) as caught:
        name_levels(mask, spacing, scheme)
    assert "\n" not in str(caught.value)
    nothing_to_name = wanted in ("no vertebra and no disc", "smaller than 10", "no longer than a voxel")
    assert isinstance(caught.value, NoLevelsError) == nothing_to_name


@pytest.mark.parametrize("seed", range(30))
def test_no_mask_however_odd_makes_it_fail_otherwise(seed: int):
    """Random blocks of all classes: levels or a ValueError, labels of the scheme, and nothing numbered that was background."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((4, 90, 60), np.uint8)
    for _ in range(rng.integers(1, 14)):
        start, size = rng.integers(0, (4, 90, 60)), rng.integers(1, (5, 25, 25))
        mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = rng.integers(0, 4)
    for given, spacing in ((mask, (4.0, 2.0, 2.0)), (mask[1], (2.0, 2.0))):
        for scheme in ("structures4", "discs", "vertebrae"):
            try:
                result = name_levels(given, spacing, scheme)
            except ValueError as error:
                assert "nothing to number" in str(error)
                continue
            assert not (result.mask[given == 0] > 0).any()
            if scheme == "structures4":
                kept = result.mask > 0
                assert np.array_equal(convert(result.mask, "spider", "structures4")[kept], given[kept])
            assert set(np.unique(result.mask)) - {0, 100} == set(result.table.query("flag != 'filled gap'")["label"])


def test_the_input_is_left_as_it_was():
    mask = spine()
    before = mask.copy()
    mask.flags.writeable = False
    name_levels(mask, SPACING)
    assert np.array_equal(mask, before)


# ----------------------------------------------------------------------------------------------------------------- phantoms


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame([row for number, patient in make_patients(range(1), every=2) for row in verdicts(number, patient)])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_phantoms_keep_their_levels(table: pd.DataFrame, damage: str, view: str):
    """Two patients of the many that `python -m tests.levels_phantoms` counts."""
    rows = table[(table["damage"] == damage) & (table["view"] == view)]
    assert len(rows) == 2 * ((damage, view) != ("missing lowest disc", "discs alone")) and rows["right"].all(), rows[
        "wrong"
    ].tolist()


def test_the_verdict_sees_wrong_levels():
    """The test of the test: numbers that are one off are counted as wrong, and so are discs that are none."""
    patient = make_patient(2, 4, every=2)
    classes = convert(patient.truth, "spider", "structures4")
    right = name_levels(classes, patient.spacing_mm)
    assert wrong_levels(patient.truth, classes, right) == []
    shifted = np.where(right.mask > 200, right.mask + 1, right.mask).astype(np.uint8)
    wrong = wrong_levels(patient.truth, classes, replace(right, mask=shifted))
    assert wrong == [f"{label} became {label + 1}" for label in patient.discs] + [f"{patient.discs[-1] + 1} is no disc"]


def test_rates_count_patients():
    rows = [
        {"damage": "nothing", "view": "discs alone", "n_lumbar": n_lumbar, "right": right}
        for n_lumbar, right in [(5, True), (5, True), (5, False), (5, True), (4, True), (6, False)]
    ]
    # Wilson's interval for 3 of 4 is 0.3006 to 0.9544, for 1 of 2 it is 0.0945 to 0.9055.
    assert rates(pd.DataFrame(rows)).loc["nothing"].tolist() == ["3 of 4, 30.1-95.4 %", "1 of 2, 9.5-90.5 %"]


def test_masks_with_levels_of_made_up_patients():
    patient = make_patient(2, 5, every=3)
    parts = (patient.truth > 0) & (patient.truth != 100)
    whole = parts & ~((patient.truth > 100) & (patient.truth < 200))
    wrong = DRAWN["a fifth wrong"](patient, np.random.default_rng(0))
    assert 0.15 < (wrong != patient.truth)[whole].mean() < 0.3 and np.array_equal(wrong > 0, patient.truth > 0)
    rows = pd.DataFrame(drawn_verdicts(2, patient)).pivot(index="damage", columns="view", values="right")
    names = [name for name in DRAWN if name != "two fifths wrong"]  # there the majority of this patient is wrong
    assert rows.loc[names, "own"].tolist() == [True] * len(names)
    assert rows.loc[names, "lowest"].tolist() == [name not in ("lowest missing", "lowest doubled") for name in names]


# ---------------------------------------------------------------------------------------------------- a network's own levels


def as_a_network_draws(patches: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(truth, drawn) in scheme "spider": five levels; cubes of the drawn mask carry their neighbour's number."""
    truth = name_levels(spine(), SPACING).mask
    drawn, rng = truth.copy(), np.random.default_rng(3)
    places = np.argwhere((truth > 0) & (truth != 100))
    for k, row, column in places[rng.choice(len(places), patches, replace=False)]:
        cube = np.s_[max(0, k - 2) : k + 2, row - 6 : row + 6, column - 6 : column + 6]
        level = drawn[cube]
        drawn[cube] = np.where((level > 0) & (level < 5) | (level > 200) & (level < 205), level + 1, level)
    assert (drawn != truth).sum() > 0.05 * (truth > 0).sum()
    return truth, drawn


def test_each_part_gets_the_number_of_its_place():
    truth, drawn = as_a_network_draws()
    assert np.array_equal(one_level_a_part(drawn, SPACING, "spider"), truth)
    in_levels20 = convert(drawn, "spider", "levels20")
    assert np.array_equal(one_level_a_part(in_levels20, SPACING, "levels20"), convert(truth, "spider", "levels20"))
    assert np.array_equal(one_level_a_part(drawn[4:5], SPACING, "spider"), truth[4:5])  # a volume of one slice


@pytest.mark.parametrize("lost", [(201, 1), (201, 1, 202, 2)])
def test_what_is_missing_at_the_lower_end_does_not_rename_the_rest(lost: tuple[int, ...]):
    truth, drawn = as_a_network_draws()
    truth, drawn = (np.where(np.isin(truth, lost), 0, one).astype(np.uint8) for one in (truth, drawn))
    result = name_levels(drawn, SPACING, "spider", count_from="own")
    assert np.array_equal(result.mask, truth)
    assert result.table["level"].min() == len(lost) // 2 + 1 and "filled gap" not in " ".join(result.table["flag"])
    assert result.notes[0].startswith(
        f"the mask's own numbers begin the count; from the lowest part all would be {len(lost) // 2} level"
    ) and result.notes[0].endswith("lower")
    from_lowest = name_levels(drawn, SPACING, "spider")
    assert from_lowest.table["level"].min() == 1
    assert from_lowest.notes[-1].startswith("the mask's own levels are not kept: ")
    assert from_lowest.notes[-1].endswith("; where no sacrum is in view they may be right: --count-from own")
    assert not any("count-from" in note for note in result.notes)


def test_levels_in_disorder_give_no_advice_to_who_took_it():
    truth = name_levels(spine(), SPACING).mask.astype(int)
    turned = np.where((truth > 0) & (truth < 6), 6 - truth, np.where(truth > 200, 406 - truth, truth)).astype(np.uint8)
    for count_from in ("lowest", "own"):
        assert "--count-from" not in " ".join(name_levels(turned, SPACING, "spider", count_from=count_from).notes)


def test_two_numbers_changed_for_one_another_are_no_reason_to_count_from_them():
    truth = name_levels(spine(), SPACING).mask
    swapped = np.choose(truth.astype(int) == 2, [np.where(truth == 3, 2, truth), 3]).astype(np.uint8)
    for count_from in ("lowest", "own"):
        result = name_levels(swapped, SPACING, "spider", count_from=count_from)
        assert np.array_equal(result.mask, truth)
        assert result.notes == ("the mask's own levels are not kept: L4 is L3 here, L3 is L4 here",)


def test_a_false_part_at_the_lower_end_does_not_rename_the_rest():
    truth, drawn = as_a_network_draws()
    lowest = np.isin(truth, (201, 1))
    without = np.where(lowest, 0, truth)  # S1 and the disc below it, drawn as L5 and L5/S1: the lowest true one is the next
    down = np.where(without == 100, 100, np.where(without > 0, without - 1, 0))
    drawn = np.where(lowest, truth, down).astype(np.uint8)
    result = name_levels(drawn, SPACING, "spider", count_from="own")
    assert np.array_equal(result.mask, np.where(lowest, 0, down))
    assert set(result.dropped["reason"]) == {"below level 1 by the mask's own numbers"}
    assert result.notes[0] == "the mask's own numbers begin the count; from the lowest part all would be 1 level higher"


def test_cut_vertebrae_stay_cut():
    truth, drawn = as_a_network_draws()
    truth, drawn = (np.where(one == 5, 105, one) for one in (truth, drawn))  # the patches of 4 that say 5 now say 105
    wanted = one_level_a_part(drawn, SPACING, "spider")
    assert np.array_equal(wanted, truth) and wanted.dtype == np.uint8
    few = np.where((drawn == 105) & (np.arange(ROWS)[:, None] > DISC_TOP[4] - 10), 5, drawn)
    assert 0 < (few == 5).sum() < (few == 105).sum()
    assert np.array_equal(one_level_a_part(few, SPACING, "spider"), truth)


def test_of_equal_votes_the_least_move_wins_and_of_those_the_one_up():
    truth = name_levels(spine(4, canal=False, arches=False), SPACING).mask.astype(int)
    half = np.arange(10)[:, None, None] < 5  # slices 1 to 8 show the same
    one_up = np.where(half, truth, truth + (truth > 0))
    assert np.array_equal(name_levels(one_up, SPACING, "spider", count_from="own").mask, truth)
    above = (truth > 0) & ~np.isin(truth, (1, 201))  # three levels, more than the one that asks for no move
    for step in (1, -1):  # whichever is met first
        drawn = truth + np.where(half, step, -step) * above
        result = name_levels(drawn, SPACING, "spider", count_from="own")
        assert np.array_equal(result.mask, truth + (truth > 0)) and not len(result.dropped)


@pytest.mark.parametrize(("share", "moves"), [(0.45, [0, 0]), (0.6, [1, 0]), (0.8, [1, 1]), (1.0, [1, 1])])
def test_own_numbers_may_need_more_votes_than_counting(share: float, moves: list[int]):
    truth = name_levels(spine(4, canal=False, arches=False), SPACING).mask.astype(int)
    up = (np.arange(120) < FRONT + round(share * (BACK - FRONT)))[None, None]  # so much of each part calls itself one higher
    drawn = np.where(up, truth + (truth > 0), truth)
    for own_votes, move in zip((1.0, 3.0), moves, strict=True):
        wanted = truth + move * (truth > 0)
        assert np.array_equal(one_level_a_part(drawn, SPACING, "spider", own_votes), wanted)


def test_where_the_picture_cuts_the_lowest_part_a_majority_is_enough():
    truth = name_levels(spine(4, canal=False, arches=False), SPACING).mask.astype(int)
    up = (np.arange(120) < FRONT + round(0.6 * (BACK - FRONT)))[None, None]
    drawn = np.where(up, truth + (truth > 0), truth)[:, : DISC_TOP[0] + 4]
    assert np.array_equal(one_level_a_part(drawn, SPACING, "spider", 3.0), (truth + (truth > 0))[:, : DISC_TOP[0] + 4])
    for votes in (0.5, float("nan")):
        with pytest.raises(ValueError, match="own_votes must be at least 1"):
            one_level_a_part(drawn, SPACING, "spider", votes)


def test_levels_without_a_class_become_background():
    six = name_levels(spine(6, canal=False, arches=False), SPACING).mask
    moved = np.where(six > 0, six + 5, 0)  # levels 6 to 11; levels20 knows nine
    with pytest.warns(LabelWarning):
        known = convert(moved, "spider", "levels20")
    drawn = np.where(moved > 200, 19, np.where(moved > 0, 9, 0))  # what is above looks like the ninth to a network
    drawn[known > 0] = known[known > 0]
    assert np.array_equal(one_level_a_part(drawn, SPACING, "levels20"), known)


def test_a_mask_without_parts_is_left_as_it_is():
    canal_alone = np.full((4, 30, 30), 10, np.uint8)
    assert np.array_equal(one_level_a_part(canal_alone, SPACING, "levels20"), canal_alone)
    assert np.array_equal(one_level_a_part(np.zeros((4, 30, 30), np.uint8), SPACING, "levels20"), np.zeros((4, 30, 30)))


def test_a_poor_networks_levels_may_look_like_classes():
    classes = spine()
    with pytest.raises(ValueError, match="classes, not levels"):
        name_levels(classes, SPACING, "levels20", count_from="own")
    assert one_level_a_part(classes, SPACING, "levels20").shape == classes.shape


@pytest.mark.parametrize("seed", range(8))
def test_any_mask_can_be_asked(seed: int):
    rng = np.random.default_rng(seed)
    shape, spacing = ((5, 2, 58), (4.8, 1.6, 3.4)) if seed == 0 else (rng.integers(1, (8, 60, 40)), rng.uniform(0.3, 5, 3))
    noise = [gaussian_filter(rng.normal(size=shape), rng.uniform(0.3, 4)) for _ in range(20)]
    mask = np.argmax(noise, axis=0)
    out = one_level_a_part(mask, tuple(spacing), "levels20")
    assert out.shape == mask.shape and out.dtype == np.uint8 and out.max() < 20
    assert np.array_equal(out == 10, mask == 10)  # the canal is none of its business


def test_pieces_that_lie_beside_each_other_are_nothing_to_number():
    mask = np.zeros((2, 54), np.uint8)
    mask[:, 1:7], mask[:, 13:18] = 3, 3  # one before the other, at one height
    with pytest.raises(NoLevelsError, match="in line"):
        name_levels(mask, (2.0, 1.0))
    assert np.array_equal(one_level_a_part(mask, (2.0, 1.0), "levels20"), mask)


@pytest.mark.parametrize(
    ("scheme", "count_from", "said"), [("structures4", "own", "no numbers of its own"), ("spider", "top", "lowest or own")]
)
def test_what_cannot_be_counted_from(scheme: str, count_from: str, said: str):
    with pytest.raises(ValueError, match=said):
        name_levels(spine(), SPACING, scheme, count_from=count_from)


def test_a_mask_of_classes_has_no_levels_to_share():
    with pytest.raises(ValueError, match="no numbers of its own"):
        one_level_a_part(spine(), SPACING, "structures4")
