"""One face for every data root: which cases there are, and each case as an image and a mask with geometry.

Kinds
-----
``phantom``, ``spider``   SPIDER's layout: images/<patient>_<sequence>.mha, masks/<same name>.mha, overview.csv,
                          radiological_gradings.csv. Image and mask are paired by name, never by sorted position.
``spider-2d``             the 2D T2_SPACE slices that the authors of `ahmed` released: images/<patient>_t2_SPACE_slice<n>.png and
                          masks/<same name>.png, with an optional cases.csv that tells each patient's native size.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.manifest import manifest_folder
from spider_utils.data.volumes import Volume, kit_direction, read_in_turn, read_picture
from spider_utils.errors import DataError, KitError
from spider_utils.files import fingerprint, read_csv
from spider_utils.labels import convert, get_scheme

KINDS = ("phantom", "spider", "spider-2d")
SEQUENCES = ("t1", "t2", "t2_SPACE")
_CASE = re.compile(r"^(?P<patient>\d+)_(?P<sequence>t1|t2|t2_SPACE)$")
_SLICE = re.compile(r"^(?P<patient>\d+)_(?P<sequence>t2_SPACE)_slice(?P<slice>\d+)$")
RELEASED_PIXEL_MM = 0.46875  # PixelSpacing of every T2_SPACE series in SPIDER's overview.csv
RELEASED_COLUMNS = 512  # width of every released slice
RELEASED_SLICE_MM = 0.9  # SPIDER's nominal T2_SPACE slice distance (van der Graaf et al. 2024, Table 2)


@dataclass(frozen=True)
class Case:
    """One series: name, patient number, sequence, image and mask (in the source's scheme) on one grid."""

    case: str
    patient: int
    sequence: str
    image: Volume
    mask: Volume


def parse_case(name: str) -> tuple[int, str]:
    """ "12_t2_SPACE" -> (12, "t2_SPACE"). Raises ValueError for any other form."""
    match = _CASE.match(name)
    if not match:
        raise ValueError(f"'{name}' is not a series name such as 12_t1, 12_t2 or 12_t2_SPACE")
    return int(match["patient"]), match["sequence"]


def find_file(root: str | Path, name: str) -> Path | None:
    """The file ``name`` in ``root``, or one folder below or beside it, so that a root may hold tables and images apart."""
    root = Path(root)
    for candidate in (root / name, *sorted(root.glob(f"*/{name}")), *sorted(root.parent.glob(f"spider_tables/{name}"))):
        if candidate.is_file():
            return candidate
    return None


def _read_table(path: Path, needed: list[str]) -> pd.DataFrame:
    try:
        table = read_csv(path)
    except (ValueError, OSError) as error:
        raise DataError(path, f"cannot be read as CSV ({str(error)[:120]})", "Fetch the table again.") from error
    missing = [column for column in needed if column not in table]
    if missing:
        raise DataError(
            path, f"lacks the column(s) {', '.join(missing)}", "Use SPIDER's own table, or one with its column names."
        )
    return table


def scheme_of(kind: str) -> str:
    """Label scheme of the masks of a kind of data: the released 2D slices hold structures only, all others levels."""
    return "structures4" if kind == "spider-2d" else "spider"


class Source:
    """A data root of one kind.

    Attributes:
        kind: one of KINDS.
        root: the folder that holds images/ and masks/.
        scheme: label scheme of the masks that ``load`` returns.
        cases: one row a series: case, patient, sequence, subset ("training", "validation" or ""), image, mask (paths; for
            spider-2d the names of the slices are in ``slices``).
    """

    def __init__(self, kind: str, root: str | Path):
        if kind not in KINDS:
            raise KitError(f"unknown kind of data '{kind}'. Known are: {', '.join(KINDS)}")
        self.kind = kind
        given = Path(root)
        if not given.is_dir():
            raise DataError(
                given, "this data folder does not exist", "Check ROOT, or make a phantom: spider-kit data phantom --out DIR"
            )
        self.root = self._images_folder(given)
        self._given = given
        self.scheme = scheme_of(kind)

    def _images_folder(self, root: Path) -> Path:
        pattern = "images/*_slice*.png" if self.kind == "spider-2d" else "images/*_t[12]*.mha"
        for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
            if next(folder.glob(pattern), None):
                return folder
        raise DataError(
            root,
            f"holds no {pattern}",
            f"ROOT must be a folder with images/ and masks/ in the layout of '{self.kind}' (see the README).",
        )

    @property
    def tables(self) -> list[Path]:
        """The tables that decide what ``cases`` and ``load`` return: overview.csv and cases.csv, those that are there."""
        found = (find_file(self._given, "overview.csv") or find_file(self.root, "overview.csv"), self.root / "cases.csv")
        return [path for path in found if path is not None and path.is_file()]

    def state(self) -> str:
        """16 hex digits that change when a file does: images, masks and ``tables``, by name, size and time of change."""
        files = [path for folder in ("images", "masks") for path in sorted((self.root / folder).iterdir())]
        files = [(path.parent.name, path) for path in files if not path.name.startswith(".")]
        files += [("tables", path) for path in self.tables]
        facts = []
        for place, path in files:
            try:
                found = path.stat()
            except OSError as error:
                raise DataError(
                    path, f"cannot be looked at ({error.strerror})", "Is it a link to nothing? Put the file there."
                ) from error
            facts.append([place, path.name, found.st_size, found.st_mtime_ns])
        return fingerprint(facts)

    @cached_property
    def overview(self) -> pd.DataFrame | None:
        """SPIDER's overview.csv (one row a series, keyed by new_file_name), or None when the root has none."""
        path = find_file(self._given, "overview.csv") or find_file(self.root, "overview.csv")
        return None if path is None else _read_table(path, ["new_file_name", "subset"])

    @property
    def gradings_file(self) -> Path | None:
        """SPIDER's radiological_gradings.csv, or None; data.gradings reads it with its mistakes reported."""
        return find_file(self._given, "radiological_gradings.csv") or find_file(self.root, "radiological_gradings.csv")

    @cached_property
    def gradings(self) -> pd.DataFrame | None:
        """SPIDER's radiological_gradings.csv as it stands (one row a disc, keyed by Patient and IVD label), or None."""
        path = self.gradings_file
        return None if path is None else _read_table(path, ["Patient", "IVD label"])

    @cached_property
    def cases(self) -> pd.DataFrame:
        """See the class. Raises DataError when an image has no mask of the same name, or a mask no image."""
        suffix = ".png" if self.kind == "spider-2d" else ".mha"
        # Hidden files are what other programs, or a killed run, left behind.
        images, masks = (
            {p.stem: p for p in (self.root / folder).glob(f"*{suffix}") if not p.name.startswith(".")}
            for folder in ("images", "masks")
        )
        for have, lack, what in ((images, masks, "mask"), (masks, images, "image")):
            lonely = sorted(set(have) - set(lack))
            if lonely:
                raise DataError(
                    have[lonely[0]],
                    f"has no {what} of the same name" + (f" (and {len(lonely) - 1} more files)" if len(lonely) > 1 else ""),
                    "Add it, or move the lonely file away; `spider-kit data verify` lists them all.",
                )
        subset = {} if self.overview is None else dict(zip(self.overview["new_file_name"], self.overview["subset"], strict=True))
        rows: dict[str, dict] = {}
        for stem in sorted(images):
            match = (_SLICE if self.kind == "spider-2d" else _CASE).match(stem)
            if not match:
                raise DataError(
                    images[stem], "its name does not follow the layout", "Name files like 12_t1.mha or 12_t2_SPACE_slice50.png."
                )
            case = f"{match['patient']}_{match['sequence']}"
            row = rows.setdefault(
                case,
                {
                    "case": case,
                    "patient": int(match["patient"]),
                    "sequence": match["sequence"],
                    "subset": subset.get(case, ""),
                    "image": images[stem],
                    "mask": masks[stem],
                    "slices": [],
                },
            )
            if self.kind == "spider-2d":
                row["slices"].append((int(match["slice"]), stem))
        table = pd.DataFrame(list(rows.values())).sort_values(["patient", "sequence"], ignore_index=True)
        return table if self.kind == "spider-2d" else table.drop(columns="slices")

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return self.cases.set_index("case")

    def load(self, case: str, copy: bool = True) -> Case:
        """Read one series.

        Args:
            case: its name.
            copy: False may leave voxels in the file's order (see data.volumes.from_image).

        Raises:
            DataError: a file cannot be read, image and mask do not share one grid, or the mask holds unknown labels.
            KeyError: no such case.
        """
        image, mask = self.volumes(case, copy)
        row = self._rows.loc[case]
        return Case(case, int(row["patient"]), row["sequence"], image, mask)

    def volumes(self, case: str, copy: bool = True) -> Iterator[Volume]:
        """Image and then mask of one series, as ``load`` reads them: volumes are read one by one (see read_in_turn)."""
        row = self._rows.loc[case]
        if self.kind == "spider-2d":
            yield from self._stack(row)
        else:
            yield from read_in_turn(row["image"], row["mask"], copy=copy, scheme=get_scheme(self.scheme))

    @cached_property
    def _native_sizes(self) -> dict[int, tuple[int, int]]:
        """patient -> (rows, columns) of the series that the released slices were squeezed from, as cases.csv has them."""
        path = self.root / "cases.csv"
        return self._read_native_sizes(path) if path.is_file() else {}

    @cached_property
    def _released_sizes(self) -> dict[int, tuple[int, int]]:
        """The same from the manifest, for a clone of the releasers' repository, which has no cases.csv."""
        return self._read_native_sizes(manifest_folder() / "spider-2d-cases.csv")

    @staticmethod
    def _read_native_sizes(path: Path) -> dict[int, tuple[int, int]]:
        table = _read_table(path, ["patient", "native_width", "native_height"])
        columns = table[["patient", "native_height", "native_width"]].astype(int)
        return {patient: (height, width) for patient, height, width in columns.itertuples(index=False)}

    def _stack(self, row: pd.Series) -> tuple[Volume, Volume]:
        """The released slices of one patient as a volume with its true pixel spacing."""
        stacks: dict[str, list[np.ndarray]] = {"images": [], "masks": []}
        for _, stem in sorted(row["slices"]):
            for folder, stack in stacks.items():
                path = self.root / folder / f"{stem}.png"
                array = read_picture(path)
                if folder == "masks":
                    try:
                        array = convert(array, "released_gray", self.scheme)
                    except ValueError as error:
                        raise DataError(path, str(error), "Fetch the mask again.") from error
                if stack and stack[0].shape != array.shape:
                    raise DataError(
                        path, f"its size {array.shape} differs from the other slices {stack[0].shape}", "Fetch it again."
                    )
                stack.append(array)
            if stacks["images"][-1].shape != stacks["masks"][-1].shape:
                raise DataError(self.root / "masks" / f"{stem}.png", "its size differs from the image's", "Fetch the file again.")
        if not any(mask.any() for mask in stacks["masks"]):
            raise DataError(row["mask"], "this mask and all others of the patient are empty", "Leave the patient out.")
        spacing = (RELEASED_SLICE_MM, *self._pixel_mm(int(row["patient"]), *stacks["images"][0].shape))
        image = Volume(np.stack(stacks["images"]), spacing, (0.0, 0.0, 0.0), kit_direction(), None, row["image"])
        mask = Volume(np.stack(stacks["masks"]), spacing, (0.0, 0.0, 0.0), kit_direction(), None, row["mask"])
        return image, mask

    def _pixel_mm(self, patient: int, rows: int, columns: int) -> tuple[float, float]:
        """Row and column spacing of a patient's released slices of so many pixels."""
        known = self._native_sizes
        if not (self.root / "cases.csv").is_file() and columns == RELEASED_COLUMNS:
            known = self._released_sizes
        if known and patient not in known:
            warnings.warn(
                f"patient {patient}: the size of the series before its slices were squeezed is not known. Its pixels are "
                "taken as square, so its proportions, and distances in mm, may be wrong by a quarter",
                stacklevel=4,
            )
        native_rows, native_columns = known.get(patient, (rows, columns))
        # The releasers squeezed some series into 512x640: a pixel then spans more millimetres than in the series.
        return RELEASED_PIXEL_MM * native_rows / rows, RELEASED_PIXEL_MM * native_columns / columns

    def pixel_sizes(self) -> dict[int, tuple[float, float]]:
        """patient -> row and column spacing (mm) of the released slices, which tell none themselves; of spider-2d alone.

        Raises:
            DataError: a picture cannot be read.
        """
        return {row.patient: self._pixel_mm(row.patient, *read_picture(row.image).shape) for row in self.cases.itertuples()}

    def __repr__(self) -> str:
        patients = self.cases["patient"].nunique()
        return f"Source('{self.kind}', {len(self.cases)} series of {patients} patients, masks in '{self.scheme}')"


def open_source(kind: str, root: str | Path) -> Source:
    """Open a data root.

    Args:
        kind: "phantom", "spider" or "spider-2d".
        root: the folder with images/ and masks/, or one that holds it one level down.

    Raises:
        DataError: no such folder, or it does not hold that layout.
    """
    return Source(kind, root)
