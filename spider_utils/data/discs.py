"""Sets of disc volumes that are as fine across slices as in them: several co-registered contrasts, discs numbered in the mask.

Kinds
-----
``ivd-phantom``
    what data.phantom.isotropic writes, in IVDM3Seg's layout (MICCAI 2018 challenge): a folder a patient,
    ``01/01_fat.nii.gz``, ``01_inn`` (in phase), ``01_opp`` (opposed phase), ``01_wat`` (water) and ``01_Labels``. Departures:
    files are compressed; discs are numbered 1 to 7 from below where the challenge marks all with 1; ``01_AllDiscs`` holds the
    discs that ``01_Labels`` leaves out.
``isotropic``
    T2 volumes of 1 mm with masks (``IVD_*``: discs, Menezes-Reis 2016; ``VBs_*``: vertebral bodies): <case>_image.mha and
    <case>_mask.mha. Headers say identity, which is wrong: rows run down, columns backwards, slices from side to side, and
    that is how they are read. Which side the first slice lies on is recorded nowhere; it is taken to be the left, as in the
    kit's other volumes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.volumes import Volume, geometry_differences, read_mask, read_volume
from spider_utils.errors import DataError, KitError
from spider_utils.files import fingerprint, sha256_of

DISC_KINDS = ("ivd-phantom", "isotropic")
STRUCTURES = ("discs", "bodies")
DIXON = ("fat", "inn", "opp", "wat")  # IVDM3Seg's names of its images, in alphabetical order
LABELLED_DISCS = 7  # L5/S1 to T11/T12; discs above are in the picture, but not in the mask
MOST_BODIES = 25  # labels of the isotropic set's vertebral bodies
SACRAL_DISC = 99  # a rudimentary disc between S1 and S2, in the file of all discs
ALL_DISCS = (*range(1, 12), SACRAL_DISC)  # values of the file of all discs

_FOLDER = re.compile(r"^\d{2,}$")
_ISOTROPIC = {
    "discs": re.compile(r"^(?P<case>IVD_(?P<patient>\d+))_image\.mha$"),
    "bodies": re.compile(r"^(?P<case>VBs_VB(?P<group>\d)_(?P<patient>\d\d))_image\.mha$"),
}
_TRUE_AXES = "PIR"  # of the isotropic set, whose headers say identity


@dataclass(frozen=True)
class DiscCase:
    """One patient.

    Attributes:
        case, patient: name and number.
        contrasts: ("fat", "inn", "opp", "wat") or ("t2",).
        images: one Volume a contrast, in the order of ``contrasts``, all on one grid, the kit's axes (slice, row, column).
        mask: uint8 on the same grid: 0, and discs 1 to 7 counted from L5/S1 upward. Discs that nobody labelled are 0. With
            structure "bodies": vertebral bodies, counted from the lowest labelled one upward (which may be S1).
    """

    case: str
    patient: int
    contrasts: tuple[str, ...]
    images: tuple[Volume, ...]
    mask: Volume


class DiscSet:
    """A folder of disc volumes.

    Attributes:
        kind, root, structure: as given to open_disc_set.
        cases: one row a patient, by number: case, patient, contrasts (tuple of names), images (tuple of paths), mask (path).
    """

    def __init__(self, kind: str, root: str | Path, structure: str = "discs"):
        if kind not in DISC_KINDS:
            raise KitError(f"unknown kind of disc volumes '{kind}'. Known are: {', '.join(DISC_KINDS)}")
        if structure not in STRUCTURES or (structure == "bodies" and kind != "isotropic"):
            raise KitError(f"structure '{structure}' of '{kind}' is not known: discs, or bodies of 'isotropic'")
        self.kind, self.root, self.structure = kind, Path(root), structure
        if not self.root.is_dir():
            raise DataError(
                self.root,
                "this data folder does not exist",
                "Check the path, or make a phantom: spider-kit data phantom --kind ivd",
            )

    @cached_property
    def cases(self) -> pd.DataFrame:
        """See the class. Raises DataError when a patient lacks a contrast or the mask, or there is no patient."""
        rows = self._phantom_rows() if self.kind == "ivd-phantom" else self._isotropic_rows()
        if not rows:
            pattern = "01/01_fat.nii.gz" if self.kind == "ivd-phantom" else "IVD_*_image.mha or VBs_*_image.mha"
            raise DataError(self.root, f"holds no {pattern}", f"Give a folder in the layout of '{self.kind}'.")
        return pd.DataFrame(rows).sort_values("patient", ignore_index=True)

    def _phantom_rows(self) -> list[dict]:
        rows = []
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir() and _FOLDER.match(path.name)):
            files = {name: folder / f"{folder.name}_{name}.nii.gz" for name in (*DIXON, "Labels")}
            rows.append(self._row(folder.name, int(folder.name), files, "Labels"))
        return rows

    def _isotropic_rows(self) -> list[dict]:
        rows = []
        for image in sorted(self.root.iterdir()):
            match = _ISOTROPIC[self.structure].match(image.name)
            if match:
                # Bodies come in two groups, each numbered from 1: VB3_01 is patient 301.
                patient = 100 * int(match.groupdict().get("group") or 0) + int(match["patient"])
                files = {"t2": image, "mask": self.root / f"{match['case']}_mask.mha"}
                rows.append(self._row(match["case"], patient, files, "mask"))
        return rows

    @staticmethod
    def _row(case: str, patient: int, files: dict[str, Path], mask: str) -> dict:
        for name, path in files.items():
            if not path.is_file():
                what = "the mask" if name == mask else f"the contrast '{name}'"
                raise DataError(path, f"{what} of patient {case} is missing", "Add the file, or take the patient out.")
        contrasts = tuple(name for name in files if name != mask)
        images = tuple(files[name] for name in contrasts)
        return {"case": case, "patient": patient, "contrasts": contrasts, "images": images, "mask": files[mask]}

    def load(self, case: str) -> DiscCase:
        """Read one patient.

        Raises:
            DataError: a file cannot be read; contrasts or mask do not share one grid; the mask is empty, holds an unknown
                label, or its structures do not lie one above the other.
            KeyError: no such case.
        """
        row = self.cases.set_index("case").loc[case]
        axes = _TRUE_AXES if self.kind == "isotropic" else None
        images = tuple(read_volume(path, axes) for path in row["images"])
        mask = read_mask(row["mask"], axes)
        for other in (*images[1:], mask):
            _check_one_grid(images[0], other)
        _check_labels(mask, tuple(range(1, 1 + (LABELLED_DISCS if self.structure == "discs" else MOST_BODIES))))
        if self.structure == "bodies":
            mask = mask.with_array(_count_from_below(mask.array))
        check_stacked(mask)
        return DiscCase(case, int(row["patient"]), row["contrasts"], images, mask)

    def all_discs(self, case: str) -> Volume:
        """Every disc in the field of view, those that nobody labelled too, uint8: 1 to 11 from L5/S1 upward, SACRAL_DISC.

        Raises:
            KitError: the set has no such file: only the phantom knows its unlabelled discs.
            DataError: as ``load``.
        """
        if self.kind != "ivd-phantom":
            raise KitError(f"only 'ivd-phantom' knows the discs that nobody labelled, not '{self.kind}'")
        row = self.cases.set_index("case").loc[case]
        mask = read_mask(row["mask"].with_name(f"{case}_AllDiscs.nii.gz"))
        _check_labels(mask, ALL_DISCS)
        _check_one_grid(read_volume(row["images"][0]), mask)
        return mask

    def state(self) -> str:
        """16 hex digits that change when the name or a byte of a case's file does, and with nothing else: a copy has its own."""
        files = [path for row in self.cases.itertuples() for path in (*row.images, row.mask)]
        return fingerprint([self.kind, self.structure, [[path.name, sha256_of(path)] for path in files]])

    def __repr__(self) -> str:
        contrasts = ", ".join(self.cases["contrasts"].iloc[0])
        return f"DiscSet('{self.kind}', {len(self.cases)} patients, {self.structure}, contrasts {contrasts})"


def open_disc_set(kind: str, root: str | Path, structure: str = "discs") -> DiscSet:
    """Open a folder of disc volumes.

    Args:
        kind: "ivd-phantom" or "isotropic" (see the module).
        root: the folder that holds the patients.
        structure: "discs", or "bodies" for the isotropic set's vertebral bodies.

    Raises:
        KitError: unknown kind or structure.
        DataError: no such folder.
    """
    return DiscSet(kind, root, structure)


def _check_one_grid(first: Volume, other: Volume) -> None:
    differences = geometry_differences(first, other)
    if differences:
        raise DataError(
            other.path,
            f"its grid differs from that of {first.path.name} in " + ", ".join(differences),
            "All files of a patient share one grid: fetch or export them again.",
        )


def _check_labels(mask: Volume, known: tuple[int, ...]) -> None:
    unknown = sorted(set(np.unique(mask.array).tolist()) - {0, *known})
    if unknown:
        raise DataError(
            mask.path,
            f"holds the unknown label {unknown[0]} ({int((mask.array == unknown[0]).sum())} voxels)",
            f"Known are 0 to {max(k for k in known if k != SACRAL_DISC)}: fetch or export the mask again.",
        )


def _heights(mask: np.ndarray) -> dict[int, float]:
    """Label -> mean row."""
    rows = np.stack([np.bincount(mask[:, row].reshape(-1), minlength=256) for row in range(mask.shape[1])])
    counts = rows.sum(axis=0)
    return {int(k): float(np.arange(len(rows)) @ rows[:, k] / counts[k]) for k in np.flatnonzero(counts) if k}


def _count_from_below(mask: np.ndarray) -> np.ndarray:
    """The same instances numbered 1, 2, ... from the lowest upward: files of the set count in no common order."""
    table = np.zeros(256, np.uint8)
    heights = _heights(mask)
    table[sorted(heights, key=heights.__getitem__, reverse=True)] = np.arange(1, len(heights) + 1)
    return table[mask]


def check_stacked(mask: Volume) -> None:
    """Raise DataError unless each label's mean row lies above that of the label before it (uint8, 0 is background).

    Axes that are read wrongly put the structures side by side or upside down.
    """
    heights = [mean for _, mean in sorted(_heights(mask.array).items())]
    if any(above >= below for below, above in zip(heights, heights[1:], strict=False)):
        raise DataError(
            mask.path,
            "its labels are not stacked from below upward",
            "The axes, or the numbers, are not those of this layout: fetch the mask again.",
        )
