"""Exercises of notebooks 00 to 03: volumes, masks, splits, augmentation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from spider_utils.data.volumes import Volume, kit_direction, reorient_image, resample, to_image
from spider_utils.exercises.checking import Exercise

TOY = ((3, 4, 5), (4.0, 1.0, 1.0), (10.0, -20.0, 30.0))  # shape, spacing and origin of notebook 00's toy volume


def _toy() -> Volume:
    shape, spacing, origin = TOY
    return Volume(np.zeros(shape), spacing, origin, kit_direction())


def _place(volume: Volume, index: tuple[int, ...]) -> np.ndarray:
    return np.array(volume.origin) + volume.direction @ (np.array(index) * volume.spacing)


def _oblique() -> Volume:
    """A volume that is turned by 30 degrees about the patient's long axis."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return Volume(np.zeros((9, 20, 16)), (4.4, 0.7, 0.9), (31.0, -82.0, 140.0), turn @ kit_direction())


def _places() -> list[tuple[Volume, np.ndarray]]:
    inside = (((1, 2, 3), (0.3, -0.2, 0.4)), ((2, 3, 1), (-0.4, 0.4, -0.3)))  # voxels, and how far beside their centres
    return [
        (volume, _place(volume, tuple(np.add(index, aside)))) for volume in (_toy(), _oblique()) for index, aside in inside
    ] + [(_oblique(), _place(_oblique(), (7.2, 17.7, 4.1)))]


def _index(volume: Volume, place_mm: np.ndarray) -> np.ndarray:
    """Where a place lies in voxels, not rounded."""
    return volume.direction.T @ (np.asarray(place_mm) - volume.origin) / volume.spacing


def _guess_right(shape: tuple[int, int, int]) -> int:
    """In how many of the 48 ways to store a block its axes are guessed right from its sizes (notebook 01)."""
    toy = Volume(np.arange(np.prod(shape)).reshape(shape), (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    right = 0
    for axes in permutations(("LR", "AP", "IS")):
        for letters in product(*axes):
            array = sitk.GetArrayFromImage(reorient_image(to_image(toy), "".join(letters)))
            slices, columns, rows = np.argsort(array.shape)
            right += np.array_equal(array.transpose(slices, rows, columns), toy.array)
    return right


def _outside(mask: np.ndarray, label: int, diagonal: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the pieces of a label, and the voxels of the label."""
    region = np.asarray(mask) == label
    structure = np.ones((3,) * region.ndim) if diagonal else None
    return np.bincount(ndimage.label(region, structure)[0][region])[1:], region


def _pieces() -> list[tuple[np.ndarray, int]]:
    flat = np.zeros((12, 14), int)
    flat[1:4, 1:6], flat[7:9, 2:4], flat[4, 6] = 203, 203, 203  # 15, 4, and 1 that touches the 15 at a corner
    flat[5, 8:12], flat[10:12, 8:] = 204, 3
    solid = np.zeros((3, 6, 6), int)
    solid[:, 1:3, 1:5], solid[1, 5, 5], solid[0, 4, 0] = 5, 5, 5
    solid[2, 5, 0:3] = 7
    return [(flat, 203), (flat, 204), (solid, 5)]


def _table(rows: list[tuple[int, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["patient", "sequence", "subset"]).assign(
        case=lambda t: t["patient"].astype(str) + "_" + t["sequence"]
    )


def _splits() -> list[tuple[pd.DataFrame]]:
    by_series = [(1, "t1", "train"), (1, "t2", "test"), (2, "t1", "train"), (2, "t1", "test"), (3, "t2", "train")]
    by_series += [(3, "t1", "train"), (4, "t1", "validation"), (4, "t2", "train"), (5, "t2", "test"), (5, "t2", "test")]
    fine = [(7, "t1", "train"), (7, "t2", "train"), (8, "t1", "test"), (9, "t2", "validation")]
    return [(_table(by_series),), (_table(fine),)]


def _crossing(table: pd.DataFrame, by: str = "patient", among: tuple[str, ...] = ("train", "validation", "test")) -> set[int]:
    rows = table[table["subset"].isin(among)]
    found = rows.groupby(by)["subset"].transform("nunique") > 1
    return set(rows.loc[found, "patient"])


def _series() -> tuple[Volume, tuple[float, float, float]]:
    return Volume(np.zeros((15, 256, 160), np.uint8), (4.0, 1.2, 1.13), (0.0, 0.0, 0.0), kit_direction()), (4.0, 2.0, 2.0)


def _sizes(volume: Volume, target: tuple[float, ...]) -> np.ndarray:
    return np.array(volume.array.shape) * volume.spacing / np.array(target)


def _effective(series: int, copies: int, rho: float) -> float:
    """Kish's effective number of the copies."""
    return series * copies / (1 + (copies - 1) * rho)


def _picture_and_mask() -> list[tuple[np.ndarray, np.ndarray, int]]:
    rng = np.random.default_rng(3)
    image = rng.integers(1, 256, (9, 7))
    mask = rng.integers(0, 4, (9, 7))
    return [(image, mask, 3), (image, mask, 0), (image[:, ::-1].copy(), mask, 5)]


def _down(array: np.ndarray, rows: int, axis: int = 0) -> np.ndarray:
    """Moved down by so many rows (up when negative), zeros where nothing is known."""
    moved = np.roll(array, rows, axis)
    empty = [slice(None)] * array.ndim
    empty[axis] = slice(0, rows) if rows >= 0 else slice(rows, None)
    moved[tuple(empty)] = 0
    return moved


EXERCISES = (
    Exercise(
        key="00.1",
        expected="a list of three numbers [x, y, z], in mm",
        cases=lambda: [(_toy(),)],
        right=lambda toy: _place(toy, (2, 3, 4)),
        slips={
            "An index counts voxels. Each axis has its own spacing in mm.": lambda toy: toy.origin + toy.direction @ (2, 3, 4),
            "The spacing is there, the direction is not: slices run to the right, where x falls; rows run down; columns to the "
            "back.": lambda toy: np.array(toy.origin) + np.array((2, 3, 4)) * toy.spacing,
            "The origin is missing: it says where voxel [0, 0, 0] lies.": lambda toy: _place(toy, (2, 3, 4)) - toy.origin,
            "The order is reversed: x (left) comes first, z (head) last.": lambda toy: _place(toy, (2, 3, 4))[::-1],
            "Rows and columns are exchanged: the second index is the row, and rows lower z.": lambda toy: _place(toy, (2, 4, 3)),
            "That is where the voxel of the lesson lies, [1, 2, 3].": lambda toy: _place(toy, (1, 2, 3)),
        },
        why="origin + direction @ (index * spacing): the four parts of a volume, each used once.",
    ),
    Exercise(
        key="00.2",
        expected="a function of (volume, place_mm) that returns three whole numbers (slice, row, column)",
        is_function=True,
        cases=_places,
        right=lambda volume, place: np.rint(_index(volume, place)),
        slips={
            "Cut off is not nearest: a voxel reaches half its size to either side of its centre. Round.": lambda volume, place: (
                np.floor(_index(volume, place))
            ),
            "These are fractions of voxels. An index is a whole number: round.": _index,
            "What comes out is in mm along the axes of the array. Divide by the spacing.": lambda volume, place: np.rint(
                volume.direction.T @ (np.asarray(place) - volume.origin)
            ),
            "That is the direction on the way to mm; the way back needs its transpose.": lambda volume, place: np.rint(
                volume.direction @ (np.asarray(place) - volume.origin) / volume.spacing
            ),
            "Origin and spacing are there, the direction is not: x, y and z are the room's axes, not the array's.": (
                lambda volume, place: np.rint((np.asarray(place) - volume.origin) / volume.spacing)
            ),
            "The origin is missing: subtract it first.": lambda volume, place: np.rint(
                volume.direction.T @ np.asarray(place) / volume.spacing
            ),
            "The order is reversed: the kit counts (slice, row, column).": lambda volume, place: np.rint(_index(volume, place))[
                ::-1
            ],
        },
        why="the way back undoes each step in reverse order, also for a volume that lies askew in the room.",
    ),
    Exercise(
        key="01.1",
        expected="one whole number from 0 to 48",
        right=lambda: _guess_right((5, 4, 3)),
        tolerance=0,
        slips={
            "So it was for 2 x 4 x 3, where slices are the shortest axis. Which axis is taken for slices now?": lambda: (
                _guess_right((2, 4, 3))
            ),
            "In all of them? The guess never looks at the header.": lambda: 48,
        },
        why="the shortest axis is no longer that of the slices, so even the axes come out wrong, in whichever way it is stored.",
    ),
    Exercise(
        key="01.2",
        expected="a function of (mask, label) that returns a share between 0 and 1",
        is_function=True,
        cases=_pieces,
        right=lambda mask, label: 1 - _outside(mask, label)[0].max() / _outside(mask, label)[0].sum(),
        slips={
            "That is the share *inside* the largest piece.": lambda mask, label: (
                _outside(mask, label)[0].max() / _outside(mask, label)[0].sum()
            ),
            "That is a number of voxels; asked is their share of the label's.": lambda mask, label: (
                _outside(mask, label)[0].sum() - _outside(mask, label)[0].max()
            ),
            "Pieces that touch at a corner are one for you; here only faces count.": lambda mask, label: (
                1 - _outside(mask, label, True)[0].max() / _outside(mask, label, True)[0].sum()
            ),
            "The share is taken of all labelled voxels; only this label counts.": lambda mask, label: (
                (_outside(mask, label)[0].sum() - _outside(mask, label)[0].max()) / np.count_nonzero(mask)
            ),
            "That is the share of the *pieces*; count their voxels.": lambda mask, label: 1 - 1 / len(_outside(mask, label)[0]),
            "That is the number of pieces.": lambda mask, label: len(_outside(mask, label)[0]),
        },
        why="a share of 0 means one piece. A small share is mostly a slip of the brush, a large one may be anatomy.",
    ),
    Exercise(
        key="02.1",
        expected="three whole numbers (slices, rows, columns)",
        cases=lambda: [_series()],
        right=lambda volume, target: resample(volume, target).array.shape,
        tolerance=0,
        slips={
            "The other way round: larger pixels, fewer of them.": lambda volume, target: np.rint(
                np.array(volume.array.shape) * target / np.array(volume.spacing)
            ),
            "Rounded down loses up to a pixel at the edge; the kit rounds to the nearest.": lambda volume, target: np.floor(
                _sizes(volume, target)
            ),
            "Rounded up; the kit rounds to the nearest.": lambda volume, target: np.ceil(_sizes(volume, target)),
            "The slices stay as far apart as they are; only pixels change.": lambda volume, target: np.rint(
                _sizes(volume, (2.0, 2.0, 2.0))
            ),
            "Rows and columns have different spacings; they are exchanged.": lambda volume, target: np.rint(
                np.array(volume.array.shape) * np.array(volume.spacing)[[0, 2, 1]] / target
            ),
            "That is the extent in mm.": lambda volume, target: np.array(volume.array.shape) * volume.spacing,
        },
        why="what stays is the extent in mm; the number of voxels follows from it.",
    ),
    Exercise(
        key="02.2",
        expected="a function of a table that returns the set of patients",
        is_function=True,
        unordered=True,
        cases=_splits,
        right=_crossing,
        slips={
            "Only torn series are found. T1 and T2 of one patient show one body: group by patient.": lambda table: _crossing(
                table, by="case"
            ),
            "Patients between training and validation leak too: the epoch is chosen on them.": lambda table: _crossing(
                table, among=("train", "test")
            ),
            "Several series of a patient are no leak as long as they are in one subset.": lambda table: set(
                table.groupby("patient").filter(lambda rows: rows["case"].nunique() > 1)["patient"]
            ),
            "These are series; the question is about patients.": lambda table: set(
                table[table["patient"].isin(_crossing(table))]["case"]
            ),
        },
        why="a split is by patient when this set is empty; the kit's Split refuses any other.",
    ),
    Exercise(
        key="03.1",
        expected="one number",
        right=lambda: _effective(120, 8, 0.9),
        slips={
            "A picture does not resemble itself only: in a group of k there are k - 1 others.": lambda: 960 / (1 + 8 * 0.9),
            "That is the number of series: as if copies were worth nothing, which needs a correlation of 1.": lambda: 120,
            "That is the number of pictures: as if copies were new patients, which would need a correlation of 0.": lambda: 960,
            "n is the number of all pictures, not of series.": lambda: 120 / (1 + 7 * 0.9),
            "k is the size of a group, not the number of groups.": lambda: 960 / (1 + 119 * 0.9),
            "The 1 in the denominator is missing.": lambda: 960 / (7 * 0.9),
        },
        why="a little more than the number of series, far less than the number of pictures.",
    ),
    Exercise(
        key="03.2",
        expected="a function of (image, mask, rows) that returns the moved image and the moved mask",
        is_function=True,
        cases=_picture_and_mask,
        right=lambda image, mask, rows: [_down(image, rows), _down(mask, rows)],
        slips={
            "What leaves at the bottom comes in again at the top: the pelvis above the chest. Put zeros there.": (
                lambda image, mask, rows: [np.roll(image, rows, 0), np.roll(mask, rows, 0)]
            ),
            "The image moves, its mask stays beside it.": lambda image, mask, rows: [
                _down(image, rows),
                mask,
            ],
            "It moves up: rows count from the head downwards.": lambda image, mask, rows: (
                [_down(image, -rows), _down(mask, -rows)] if rows else [image, mask]
            ),
            "It moves to the side: rows are the first axis.": lambda image, mask, rows: [
                _down(image, rows, 1),
                _down(mask, rows, 1),
            ],
            "Mask and image are exchanged.": lambda image, mask, rows: [_down(mask, rows), _down(image, rows)],
        },
        why="image and mask by one rule, also for 0 rows (where image[:-rows] would be empty).",
    ),
)
