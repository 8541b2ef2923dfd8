"""Neighbouring slices averaged, and a canal without stray pieces."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from scipy import ndimage

from spider_utils.tidy import MOST_NEIGHBOURS, Tidy

RANDOM = np.random.default_rng(0)
MM = (1.0, 1.0, 1.0)


def parts_of(array: np.ndarray, at_once: int) -> list[np.ndarray]:
    return [array[k : k + at_once] for k in range(0, len(array), at_once)]


@pytest.mark.parametrize("at_once", [1, 3, 8, 40])
@pytest.mark.parametrize(
    ("n", "gap_mm", "across_mm"), [(20, 0.9, 1.0), (20, 0.5, 1.7), (3, 0.9, 2.0), (1, 1.0, 1.0), (6, 4.4, 1.0)]
)
def test_blending_is_a_gaussian_mean_that_knows_its_ends(n: int, gap_mm: float, across_mm: float, at_once: int) -> None:
    given = RANDOM.random((n, 2, 5, 4), dtype=np.float32)
    found = list(Tidy(across_mm, 0.1).blended(parts_of(given, at_once), gap_mm))
    assert [one.shape for one in found] == n * [(1, 2, 5, 4)]
    settings = {"sigma": across_mm / gap_mm, "axis": 0, "mode": "constant", "radius": int(2.5 * across_mm / gap_mm)}
    there = ndimage.gaussian_filter1d(np.ones(n), **settings)  # of the kernel's weight, what falls on slices
    wanted = ndimage.gaussian_filter1d(given.astype(float), **settings) / there[:, None, None, None]
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-6)


def test_slices_far_apart_stay_as_they_are() -> None:
    given = RANDOM.random((5, 2, 3, 3), dtype=np.float32)
    np.testing.assert_array_equal(np.concatenate(list(Tidy(1.0, 0.1).blended([given], 3.3))), given)


def test_no_more_slices_are_asked_for_than_count() -> None:
    """Memory is bounded: before slice k is given back, none beyond its last neighbour was made; and of a header's absurdly thin
    slices no more than MOST_NEIGHBOURS a side count."""
    made = []

    def slices(n: int):
        for k in range(n):
            made.append(k)
            yield np.full((1, 1, 2, 2), k, np.float32)

    for k, _ in enumerate(Tidy(1.0, 0.1).blended(slices(30), 1e-6)):
        assert len(made) == min(30, k + MOST_NEIGHBOURS + 1)


@pytest.mark.parametrize("gap_mm", [0.9, 5.0])
def test_a_part_is_let_go_before_the_next_is_made(gap_mm: float) -> None:
    alive: list[bool] = []

    def parts():
        last = None
        for _ in range(4):
            if last is not None:
                alive.append(last() is not None)
            part = RANDOM.random((3, 2, 3, 3), dtype=np.float32)
            last = weakref.ref(part)
            yield part
            del part

    for one in Tidy(1.0, 0.1).blended(parts(), gap_mm):
        del one
    assert alive == 3 * [False]


def canal_in_pieces(canal: int, bone: int) -> np.ndarray:
    mask = np.zeros((3, 60, 30), np.uint8)
    mask[:, 5:55, 10:14] = canal  # 600 voxels
    mask[0, 0:4, 25:29] = canal  # 16
    mask[2, 50:60, 20:29] = canal  # 90
    mask[1, 30:33, 0:3] = bone
    return mask


@pytest.mark.parametrize(("scheme", "canal"), [("structures4", 2), ("spider", 100)])
def test_small_pieces_of_the_canal_alone_become_background(scheme: str, canal: int) -> None:
    mask = canal_in_pieces(canal, 1)
    wanted = mask.copy()
    wanted[0, 0:4, 25:29] = 0
    np.testing.assert_array_equal(Tidy(1.0, 0.1).tidied(mask, scheme, MM), wanted)
    wanted[2, 50:60, 20:29] = 0
    np.testing.assert_array_equal(Tidy(1.0, 0.2).tidied(mask, scheme, MM), wanted)
    assert (mask == canal).sum() == 600 + 16 + 90, "the mask that was given stays as it is"


def test_a_mask_without_canal_stays_as_it_is() -> None:
    mask = np.eye(4, dtype=np.uint8)[None]
    np.testing.assert_array_equal(Tidy(1.0, 0.1).tidied(mask, "structures4", MM), mask)


def test_what_lies_near_the_spine_stays_and_what_lies_far_from_it_goes() -> None:
    mask = np.zeros((3, 80, 60), np.uint8)
    mask[:, 5:75, 20:24] = 2  # 840 voxels of canal
    mask[1, 10:14, 8:18] = 1  # 2 mm in front of it: one piece with it
    mask[2, 30:38, 40:50] = 1  # 80 voxels, 16 mm behind
    mask[0, 60:66, 50:52] = 3  # 12 voxels, far
    wanted = mask.copy()
    wanted[0, 60:66, 50:52] = wanted[2, 30:38, 40:50] = 0
    np.testing.assert_array_equal(Tidy(1.0, 0.1, 0.1).tidied(mask, "structures4", MM), wanted)
    wanted[2, 30:38, 40:50] = 1
    np.testing.assert_array_equal(Tidy(1.0, 0.1, 0.05).tidied(mask, "structures4", MM), wanted)
    np.testing.assert_array_equal(Tidy(1.0, 0.1).tidied(mask, "structures4", MM), mask)
    fine = mask.repeat(3, axis=1)  # rows of a third of a millimetre: the same lengths
    found = Tidy(1.0, 0.1, 0.05).tidied(fine, "structures4", (1.0, 1 / 3, 1.0))
    np.testing.assert_array_equal(found, wanted.repeat(3, axis=1))


def test_an_empty_mask_has_no_pieces() -> None:
    mask = np.zeros((2, 9, 7), np.uint8)
    np.testing.assert_array_equal(Tidy(1.0, 0.1, 0.1).tidied(mask, "structures4", MM), mask)


def spine_and_belly(belly_discs: int = 2) -> np.ndarray:
    """Bodies, discs, canal and a spinous process of a spine that leans, and in front of it, larger, what a network may take for
    another: dark air, a bright strip of fat, with a few voxels called disc."""
    mask = np.zeros((3, 200, 220), np.uint8)
    for part in range(5):
        top, lean = 10 + 36 * part, 4 * part
        mask[:, top : top + 25, 120 + lean : 150 + lean] = 1
        mask[:, top + 26 : top + 35, 118 + lean : 152 + lean] = 3
    mask[:, 10:190, 168:184], mask[:, 80:100, 187:218] = 2, 1
    mask[:, :, :30], mask[:, :, 30:50] = 1, 2
    mask[:, 60 : 60 + belly_discs, 10:20] = 3
    return mask


FRONT = Tidy(0.0, 0.0, front_mm=50.0)


@pytest.mark.parametrize("n", [1, 3])
def test_what_lies_far_in_front_of_the_discs_goes(n: int) -> None:
    mask = spine_and_belly()[:n]
    wanted = mask.copy()
    wanted[:, :, :50] = 0
    np.testing.assert_array_equal(FRONT.tidied(mask, "structures4", MM), wanted)
    small = (1.0, 0.25, 0.25)  # the belly is 25 mm away now: it stays
    np.testing.assert_array_equal(FRONT.tidied(mask, "structures4", small), mask)
    large = mask.repeat(2, axis=1).repeat(2, axis=2)  # a picture of half millimetres whose pixels are taken to be of 1 mm
    np.testing.assert_array_equal(FRONT.tidied(large, "structures4", MM), wanted.repeat(2, axis=1).repeat(2, axis=2))
    levels = np.select([mask == 1, mask == 2, mask == 3], [1, 10, 12], 0).astype(np.uint8)
    np.testing.assert_array_equal(FRONT.tidied(levels, "levels20", MM), np.where(wanted > 0, levels, 0))
    assert (mask[:, :, :50] > 0).any(), "the mask that was given stays as it is"


def one_disc() -> np.ndarray:
    """A steep disc below bodies that lie far in front of its middle, as where the other discs were missed."""
    mask = np.zeros((1, 200, 220), np.uint8)
    mask[:, 10:120, 60:100], mask[:, 10:170, 130:142] = 1, 2
    for row in range(130, 165):
        mask[:, row, 95 + (row - 130) // 3 : 105 + (row - 130) // 3] = 3
    return mask


@pytest.mark.parametrize("name", ["one disc", "mirrored", "on its side", "upside down and mirrored", "no disc", "crumbs"])
def test_where_no_line_goes_through_the_discs_all_stays(name: str) -> None:
    mask = spine_and_belly()
    mask[:, :, :50] = 0
    discs_gone = np.where(mask == 3, 0, mask)
    crumbs = discs_gone.copy()
    crumbs[:, 36:45, 110:140], crumbs[:, 72, 120:123] = 3, 3
    given = {
        "one disc": one_disc().repeat(2, axis=1).repeat(2, axis=2),
        "mirrored": mask[:, :, ::-1],
        "on its side": mask.transpose(0, 2, 1),
        "upside down and mirrored": mask[:, ::-1, ::-1],
        "no disc": discs_gone,
        "crumbs": crumbs,
    }[name]
    for spacing in (MM, (1.0, 2.0, 2.0)):
        np.testing.assert_array_equal(FRONT.tidied(given, "structures4", spacing), given)


def test_the_depth_of_a_steep_disc_is_that_along_it() -> None:
    mask = spine_and_belly()[:1, :, 60:]
    for row in range(154, 190):  # the lowest disc, turned by 45 degrees; bodies reach 44 pixels in front of the line
        mask[:, row, 60:120][mask[:, row, 60:120] == 3] = 0
    for row in range(160, 185):
        mask[:, row, row - 90 : row - 80] = 3
    mask[:, 20:30, 20:60] = 1  # a spur, 54 in front of the line: more than 50, less than one and a half discs
    found = FRONT.tidied(mask, "structures4", MM)
    assert (found != mask).sum() < 0.01 * (mask > 0).sum()


def test_the_largest_piece_is_not_the_spine_when_another_has_the_discs() -> None:
    """Without the belly its canal is the largest, and the spine is measured against itself."""
    mask = spine_and_belly()
    mask[:, :4, 200:210] = 2  # a stray piece of canal: 120 voxels
    found = Tidy(1.0, 0.1, 0.1, 50.0).tidied(mask, "structures4", MM)
    assert not found[:, :, :50].any() and not found[:, :4, 200:210].any()
    np.testing.assert_array_equal(found[:, :, 100:190], mask[:, :, 100:190])


@pytest.mark.parametrize(
    "settings",
    [
        {"across_mm": -1.0},
        {"front_mm": -1.0},
        {"front_mm": 501.0},
        {"front_mm": True},
        {"across_mm": float("nan")},
        {"canal_share": 1.5},
        {"canal_share": "x"},
        {"spine_share": -0.1},
        {"own_votes": 0.5},
        {"own_votes": 101},
        {"own_votes": True},
    ],
)
def test_settings_that_mean_nothing(settings: dict) -> None:
    with pytest.raises(ValueError, match="of "):
        Tidy(**{"across_mm": 1.0, "canal_share": 0.1} | settings)
