"""Studies of the RSNA 2024 Lumbar Spine Degenerative Classification challenge: tables and DICOM tree to samples and volumes.

Layout: the tables of ``rsna_tables``, and ``train_images/<study>/<series>/<instance>.dcm``. The phantom (data.phantom.rsna)
writes the same. `misan` learns six classes from it, the five conditions and "healthy"; it does not say how "healthy" was made,
and a point whose severity is Normal/Mild is taken for it here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.dicom import DicomSlice, block_image, dicom_files, read_header, read_pixels, sort_into_blocks
from spider_utils.data.rsna_tables import (
    CONDITIONS,
    LEVELS,
    POINT_TABLE,
    SERIES_TABLE,
    SEVERITY_TABLE,
    RsnaTables,
    read_tables,
    side_of,
)
from spider_utils.data.tables import Report
from spider_utils.data.volumes import Volume, from_image
from spider_utils.errors import DataError
from spider_utils.files import fingerprint
from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count, progress

IMAGE_FOLDER = "train_images"
PHANTOM_FILE = "rsna-phantom.json"
_AT_ONCE = 500  # headers that a process reads for one answer
HEALTHY = len(CONDITIONS)  # `misan`'s sixth class
SAMPLE_COLUMNS = (
    "study", "series", "description", "instance", "path", "condition", "level", "side", "severity", "grade", "misan_class",
    "misan_level", "x", "y",
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One series of a study.

    Attributes:
        study, series: its numbers.
        description: "Sagittal T1", "Sagittal T2/STIR" or "Axial T2".
        blocks: one Volume (kit's axes) a block of parallel slices; an axial series angled at every disc has several.
        slices: instance number -> header.
        block_of: instance number -> place of its block in ``blocks``.
    """

    study: int
    series: int
    description: str
    blocks: tuple[Volume, ...]
    slices: dict[int, DicomSlice]
    block_of: dict[int, int]

    def locate(self, instance: int, x: float, y: float) -> tuple[int, np.ndarray]:
        """Where a labelled point lies in the volumes.

        Args:
            instance: instance number.
            x, y: column and row in pixels of the stored slice; whole numbers are the centres of pixels.

        Returns:
            (place of the block, (slice, row, column) as fractions of voxels in its volume).
        """
        volume = self.blocks[self.block_of[instance]]
        mm = volume.direction.T @ (self.slices[instance].point(x, y) - np.asarray(volume.origin))
        return self.block_of[instance], mm / np.asarray(volume.spacing)

    def __repr__(self) -> str:
        shapes = ", ".join(" x ".join(map(str, block.array.shape)) for block in self.blocks)
        return f"Series({self.study}/{self.series}, {self.description}, {len(self.slices)} slices in blocks of {shapes})"


class RsnaSet:
    """A folder in the challenge's layout.

    Attributes:
        root: the folder with the tables and train_images/.
        kind: "rsna-phantom" for a set that the kit has made, else "rsna".
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                self.root, "this data folder does not exist", "Check the path, or: spider-kit data phantom --kind rsna --out DIR"
            )
        self.kind = "rsna-phantom" if (self.root / PHANTOM_FILE).is_file() else "rsna"

    @cached_property
    def tables(self) -> RsnaTables:
        """What the tables say. Raises DataError when one is missing or has not the challenge's columns."""
        return read_tables(self.root)

    @cached_property
    def files(self) -> pd.DataFrame:
        """Every DICOM file of the tree by name: study, series, instance, path."""
        rows = []
        folder = self.root / IMAGE_FOLDER
        for place, _, names in os.walk(folder):
            parts = Path(place).relative_to(folder).parts
            if len(parts) == 2 and all(part.isdigit() for part in parts):
                study, series = map(int, parts)
                stems = [(name, name[:-4]) for name in names if name.endswith(".dcm")]
                rows += [(study, series, int(stem), os.path.join(place, name)) for name, stem in stems if stem.isdigit()]
        table = pd.DataFrame(rows, columns=["study", "series", "instance", "path"])
        table = table.astype({"study": "int64", "series": "int64", "instance": "int64"})
        return table.sort_values(["study", "series", "instance"], ignore_index=True)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a labelled point that has a severity and an image: SAMPLE_COLUMNS.

        ``severity`` as the challenge writes it, ``grade`` 0 to 2; ``misan_class`` the place of the condition in CONDITIONS, or
        HEALTHY where the severity is Normal/Mild; ``misan_level`` the place of the level in LEVELS; ``x``, ``y`` pixels (column,
        row); ``side`` the patient's side, "" for the canal.
        """
        table = labelled_points(self.tables).merge(self.files, on=["study", "series", "instance"])
        return table[list(SAMPLE_COLUMNS)].sort_values(["study", "condition", "level", "series"], ignore_index=True)

    @cached_property
    def patients(self) -> pd.DataFrame:
        """One row a study of the tables or the tree: study, age (years), sex ("F", "M", "O").

        From train_patients.csv where it says so, else from the study's DICOM headers. What neither says is missing (NaN), as in
        the challenge's own files, which have neither.
        """
        studies = np.unique(np.concatenate([t["study"] for t in (self.tables.labels, self.tables.series, self.files)]))
        told = self.tables.patients.set_index("study")[["age", "sex"]].reindex(studies)
        silent = told.index[told.isna().any(axis=1)]
        first = self.files[self.files["study"].isin(silent)].drop_duplicates(["study", "series"])
        for study, paths in first.groupby("study")["path"]:
            for path in paths:
                try:
                    one = read_header(Path(path))
                except DataError:
                    continue  # the other series may be whole; check() lists the damaged one
                for name, value in (("age", one.age), ("sex", one.sex)):
                    if value is not None and pd.isna(told.at[study, name]):
                        told.at[study, name] = value
                if told.loc[study].notna().all():
                    break
        return told.rename_axis("study").reset_index()

    def series_of(self, study: int, description: str | None = None) -> pd.DataFrame:
        """The described series of a study: study, series, description."""
        table = self.tables.series[self.tables.series["study"] == study]
        if description is not None:
            table = table[table["description"] == description]
        return table.drop(columns="row").reset_index(drop=True)

    def load(self, study: int, series: int) -> Series:
        """Read one series: slices in order of their positions, blocks in order of their instance numbers.

        Raises:
            DataError: the folder is missing or holds no DICOM, a slice has no geometry or no instance number or one twice, or
                cannot be decoded (the line names its transfer syntax).
        """
        folder = self.root / IMAGE_FOLDER / str(study) / str(series)
        if not folder.is_dir():
            raise DataError(folder, "this series has no folder", "Fetch the images of this study.")
        slices: dict[int, DicomSlice] = {}
        for path in dicom_files(folder):
            one = read_header(path)
            if one.instance is None or one.instance in slices:
                problem = "has no instance number" if one.instance is None else f"repeats the instance number {one.instance}"
                raise DataError(path, problem, "Points could not be told apart: fetch the series again.")
            slices[one.instance] = one
        blocks = sort_into_blocks(list(slices.values()))
        volumes = tuple(from_image(block_image(block), folder) for block in blocks)
        described = self.series_of(study).set_index("series")["description"]
        return Series(
            study=int(study),
            series=int(series),
            description=str(described.get(series, "")),
            blocks=volumes,
            slices=slices,
            block_of={one.instance: k for k, block in enumerate(blocks) for one in block},
        )

    def picture(self, path: str | Path, x: float | None = None, y: float | None = None) -> np.ndarray:
        """The slice of one sample as it is stored: (rows, columns), 16-bit values unless the header rescales them.

        Args:
            path: of the sample.
            x, y: its point, which must lie in the picture.

        Raises:
            DataError: the file cannot be decoded, or the point lies outside.
        """
        one = read_header(Path(path))
        if x is not None and y is not None and not _inside(x, y, one.shape):
            raise DataError(
                path,
                f"the point x {x:g}, y {y:g} lies outside its {one.shape[1]} columns and {one.shape[0]} rows",
                f"Correct it in {self.tables.point_file}, or leave it out.",
            )
        return read_pixels(one)

    def check(self, deep: bool = True, show_progress: bool = False, jobs: int | None = None) -> pd.DataFrame:
        """Every mistake in tables and files, one a row (see tables.Report).

        Args:
            deep: read the header of every slice that has a point: points outside the picture, left and right exchanged, instance
                numbers that differ from the file's name.
            show_progress: tell how many slices are read.
            jobs: processes that read them; None takes one for every core, at most 4, where there are many slices.
        """
        report = Report()
        self._check_tree(report)
        if deep:
            self._check_points(report, show_progress, jobs)
        table = pd.concat([self.tables.mistakes, report.table()], ignore_index=True)
        return table.sort_values(["level", "what", "file", "row"], ignore_index=True, kind="stable")

    def _check_tree(self, report: Report) -> None:
        """Files that the tables name and the tree lacks, and the other way round."""
        series, files = self.tables.series, self.files[["study", "series"]].drop_duplicates()
        lost = series[~series["study"].isin(files["study"])].drop_duplicates("study")
        text = f"{IMAGE_FOLDER}/" + lost["study"].astype(str) + " is not there"
        report.add("error", "missing study", SERIES_TABLE, lost["row"], text, "Fetch the images of this study.")
        there = series[series["study"].isin(files["study"])]
        marked = there.merge(files, on=["study", "series"], how="left", indicator="found")
        lost = marked[marked["found"] == "left_only"]
        text = _folder(lost) + " holds no DICOM file"
        report.add("error", "missing series", SERIES_TABLE, lost["row"], text, "Fetch the images of this series.")
        marked = files.merge(series, on=["study", "series"], how="left", indicator="found")
        extra = marked[marked["found"] == "left_only"]
        report.add(
            "warning", "series not described", _folder(extra), [0] * len(extra), f"is not in {SERIES_TABLE}", "Describe it there."
        )
        points = self.tables.points.merge(files, on=["study", "series"])
        marked = points.merge(self.files, on=["study", "series", "instance"], how="left")
        lost = marked[marked["path"].isna()]
        text = _folder(lost) + "/" + lost["instance"].astype(str) + ".dcm is not there"
        report.add("error", "missing instance", self.tables.point_file, lost["row"], text, "Fetch it, or correct the number.")

    def _check_points(self, report: Report, show_progress: bool, jobs: int | None) -> None:
        """Read the headers of the slices that have points."""
        points = self.tables.points.merge(self.files, on=["study", "series", "instance"])
        headers, broken = {}, {}
        paths = points["path"].unique().tolist()
        tasks = [paths[k : k + _AT_ONCE] for k in range(0, len(paths), _AT_ONCE)]
        if jobs is None:
            jobs = min(cpu_count(), 4) if len(tasks) > 8 else 1  # a process takes some seconds to start
        found = map_in_processes(_headers, tasks, jobs)
        for part in progress(found, f"reading headers, {_AT_ONCE} at a time", len(tasks)) if show_progress else found:
            for path, (one, problem) in part.items():
                if one is None:
                    broken[path] = problem
                else:
                    headers[path] = one
        names = pd.Series([Path(path).relative_to(self.root).as_posix() for path in broken], dtype=str)
        report.add(
            "error", "unreadable slice", names, [0] * len(names), pd.Series(broken.values(), dtype=str), "Fetch the file again."
        )
        points = points[points["path"].isin(list(headers))].reset_index(drop=True)
        found = points["path"].map(headers)
        beyond = [not _inside(p.x, p.y, one.shape) for p, one in zip(points.itertuples(), found, strict=True)]
        outside = points[np.array(beyond, dtype=bool)]
        size = outside["path"].map(lambda path: f"{headers[path].shape[1]} columns and {headers[path].shape[0]} rows")
        text = "x " + outside["x"].round(1).astype(str) + ", y " + outside["y"].round(1).astype(str) + " in " + size
        fix = "Correct the point, or leave it out."
        report.add("error", "outside the image", self.tables.point_file, outside["row"], text.astype(str), fix)
        named = points.drop_duplicates("path")
        number = named["path"].map(lambda path: headers[path].instance)
        wrong = named[number.fillna(-1) != named["instance"]]
        text = _folder(wrong) + "/" + wrong["instance"].astype(str) + ".dcm says instance " + number[wrong.index].astype(str)
        report.add("warning", "other instance number", self.tables.point_file, wrong["row"], text, "The file's name is used.")
        self._check_sides(points, found, report)

    def _check_sides(self, points: pd.DataFrame, headers: pd.Series, report: Report) -> None:
        """Left must lie to the left of right, in the patient: the headers know, whatever the order of slices and columns."""
        lps = [one.point(p.x, p.y)[0] for p, one in zip(points.itertuples(), headers, strict=True)]
        table = points.assign(lps=lps, side=points["condition"].str.extract("^(left|right)_", expand=False))
        table["finding"] = points["condition"].str.replace("^(left|right)_", "", regex=True)
        keys = ["study", "series", "level", "finding"]
        left, right = (table[table["side"] == side] for side in ("left", "right"))
        pairs = left.merge(right[[*keys, "lps"]], on=keys, suffixes=("", "_right"))
        swapped = pairs[pairs["lps"] <= pairs["lps_right"]]
        text = swapped["finding"] + " at " + swapped["level"] + " of study " + swapped["study"].astype(str)
        text = (
            text + ": the left point lies " + (swapped["lps_right"] - swapped["lps"]).round(1).astype(str) + " mm right of the "
        )
        report.add(
            "warning", "left and right exchanged", self.tables.point_file, swapped["row"], text + "right one",
            "Look at both points, and exchange or leave them out.",
        )  # fmt: skip

    def state(self) -> str:
        """16 hex digits that change when a table or a file does, by name, size and time of change."""
        tables = [path for path in sorted(self.root.glob("train*.csv"))]
        paths = [*tables, *map(Path, self.files["path"])]
        facts = [[path.relative_to(self.root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
        return fingerprint(facts)

    def __repr__(self) -> str:
        samples = self.samples
        return f"RsnaSet('{self.kind}', {samples['study'].nunique()} studies with images, {len(samples)} labelled points)"


def open_rsna(root: str | Path) -> RsnaSet:
    """Open a folder in the challenge's layout: the challenge's own, or one that ``spider-kit data phantom --kind rsna`` made.

    Args:
        root: the folder that holds train.csv, train_series_descriptions.csv, train_label_coordinates.csv and train_images/.

    Raises:
        DataError: no such folder.
    """
    return RsnaSet(root)


def labelled_points(tables: RsnaTables) -> pd.DataFrame:
    """Points of the tables that have a severity, with `misan`'s classes; needs no image.

    Returns:
        SAMPLE_COLUMNS without path, as in ``RsnaSet.samples``, in the order of the points' table.
    """
    table = tables.points.merge(tables.labels.drop(columns="row"), on=["study", "condition", "level"])
    number = table["condition"].map({name: k for k, name in enumerate(CONDITIONS)}).astype(int)
    table["misan_class"] = number.where(table["grade"] > 0, HEALTHY)
    table["misan_level"] = table["level"].map({name: k for k, name in enumerate(LEVELS)}).astype(int)
    table["side"] = table["condition"].map({name: side_of(name) for name in CONDITIONS})
    return table[[name for name in SAMPLE_COLUMNS if name != "path"]]


def is_rsna(root: str | Path) -> bool:
    """Whether a folder looks like the challenge's: it holds one of its tables."""
    return any((Path(root) / name).is_file() for name in (SERIES_TABLE, POINT_TABLE)) or (
        (Path(root) / SEVERITY_TABLE).is_file() and (Path(root) / IMAGE_FOLDER).is_dir()
    )


def _headers(paths: list[str]) -> dict[str, tuple[DicomSlice | None, str]]:
    """(header, "") of every path, or (None, what is wrong with it). Runs in a worker process."""
    found: dict[str, tuple[DicomSlice | None, str]] = {}
    for path in paths:
        try:
            found[path] = read_header(Path(path)), ""
        except DataError as error:
            found[path] = None, error.problem
    return found


def _folder(table: pd.DataFrame) -> pd.Series:
    return f"{IMAGE_FOLDER}/" + table["study"].astype(str) + "/" + table["series"].astype(str)


def _inside(x: float, y: float, shape: tuple[int, int]) -> bool:
    """Whether a point lies on a pixel; pixels reach half their size beyond their centres."""
    return -0.5 <= x < shape[1] - 0.5 and -0.5 <= y < shape[0] - 0.5
