"""Is a data root whole and right? Lists what is missing, corrupt, unpaired or mislabelled, with a remedy for each."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.integrity import check_whole
from spider_utils.data.manifest import RECEIPT, load_manifest
from spider_utils.data.mend import MENDED_FILE, disc_lines, mended_series
from spider_utils.data.rsna import is_rsna, open_rsna
from spider_utils.data.sources import KINDS, find_file, parse_case
from spider_utils.data.volumes import check_same_geometry, read_mask, read_volume
from spider_utils.errors import DataError, KitError, one_line
from spider_utils.files import read_csv, sha256_of
from spider_utils.labels import convert, get_scheme
from spider_utils.runtime import progress as show_progress

CHECKED_KINDS = (*KINDS, "rsna")
FETCH_AGAIN = "Fetch the file again."
PHANTOM_MARK = "phantom.json"
_GRADES = {"Modic": (0, 3), "Pfirrman grade": (1, 5)}  # the other findings are 0 or 1 (van der Graaf et al. 2024, Table 4)
_BINARY_GRADES = ("UP endplate", "LOW endplate", "Spondylolisthesis", "Disc herniation", "Disc narrowing", "Disc bulging")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        level: "error" (this data cannot be used as it is) or "warning" (it can, but you should know).
        path: the file, relative to the data root; "." for the root as a whole.
        problem: what is wrong.
        fix: what to do.
    """

    level: str
    path: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level:<7}  {one_line(f'{self.path}: {self.problem}. {self.fix}')}"


def detect_kind(root: str | Path) -> str:
    """ "spider-2d", "phantom", "spider" or "rsna", from what lies in ``root``.

    A phantom carries phantom.json, or names a phantom as the scanner's manufacturer in overview.csv.

    Raises:
        DataError: no such folder, or nothing in it belongs to any layout.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(root, "this data folder does not exist", "Check the path.")
    for folder in (root, *_subfolders(root)):
        if next(folder.glob("images/*_slice*.png"), None) or next(folder.glob("masks/*_slice*.png"), None):
            return "spider-2d"
        volumes = next(folder.glob("images/*.mha"), None) or next(folder.glob("masks/*.mha"), None)
        if volumes or (folder / "overview.csv").is_file():
            return "phantom" if _is_phantom(root) or _is_phantom(folder) else "spider"
    if is_rsna(root):
        return "rsna"
    raise DataError(
        root,
        "holds neither images/*.mha nor images/*_slice*.png nor overview.csv nor train_series_descriptions.csv",
        "Give the folder that holds images/ and masks/, or the challenge's tables, or name the kind of data.",
    )


def _is_phantom(folder: Path) -> bool:
    if (folder / PHANTOM_MARK).is_file():
        return True
    try:
        table = read_csv(folder / "overview.csv", usecols=["Manufacturer"])
    except (OSError, ValueError):
        return False
    return bool(table["Manufacturer"].astype(str).str.contains("phantom", case=False).any())


def verify(kind: str | None, root: str | Path, deep: bool = True, progress: bool = False) -> list[Finding]:
    """Check a data root against its layout, its tables and, where known, its checksums.

    One volume or slice is in memory at a time.

    Args:
        kind: "phantom", "spider", "spider-2d" or "rsna"; None finds out.
        root: the data root, or a folder that holds it one level down.
        deep: read every voxel and every byte (rsna: the header of every slice that has a point). False reads headers, names and
            tables only.
        progress: show how far it is.

    Returns:
        Findings, errors first, then by path in counting order (2 before 10). Empty when all is well.

    Raises:
        KitError: unknown kind.
        DataError: no such folder, or no layout can be recognised.
    """
    if kind is None:
        kind = detect_kind(root)
    if kind not in CHECKED_KINDS:
        raise KitError(f"unknown kind of data '{kind}'. Known are: {', '.join(CHECKED_KINDS)}")
    root = Path(root)
    if not root.is_dir():
        raise DataError(root, "this data folder does not exist", "Check the path.")
    if kind == "rsna":
        # Lines keep the order of the table: errors first, then by kind of mistake, file and row.
        rows = open_rsna(root).check(deep, show_progress=progress).itertuples()
        return [Finding(r.level, f"{r.file} row {r.row}" if r.row else r.file, f"{r.what}: {r.problem}", r.fix) for r in rows]
    check = _SliceCheck(root, deep, progress) if kind == "spider-2d" else _VolumeCheck(kind, root, deep, progress)
    return sorted(set(check.findings()), key=lambda f: (f.level != "error", _counting(f.path), _counting(f.problem)))


def format_findings(findings: list[Finding], root: str | Path) -> str:
    """The findings as text, one line each, after a line that counts them."""
    errors = sum(finding.level == "error" for finding in findings)
    if not findings:
        return f"{root}: all is well"
    return "\n".join([f"{root}: {errors} error(s), {len(findings) - errors} warning(s)", *map(str, findings)])


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _counting(text: str) -> list[tuple[int, str]]:
    """Sort key that puts 2_t1 before 10_t1."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


class _Check:
    """What the checks of all layouts share. ``home`` is the folder with images/ and masks/, ``given`` what the caller named."""

    suffix: str

    def __init__(self, root: Path, deep: bool, progress: bool):
        self.given, self.deep, self.progress = root, deep, progress
        candidates = [folder for folder in (root, *_subfolders(root)) if next(folder.glob(f"images/*{self.suffix}"), None)]
        self.home = candidates[0] if candidates else root
        self.images = self._by_stem("images")
        self.masks = self._by_stem("masks")

    def _by_stem(self, folder: str) -> dict[str, Path]:
        return {path.stem: path for path in (self.home / folder).glob(f"*{self.suffix}") if not path.name.startswith(".")}

    def _finding(self, level: str, path: Path, problem: str, fix: str) -> Finding:
        try:
            shown = path.relative_to(self.given).as_posix()
        except ValueError:
            shown = path.as_posix()
        return Finding(level, shown, problem.rstrip("."), fix)

    def _error(self, path: Path, problem: str, fix: str) -> Finding:
        return self._finding("error", path, problem, fix)

    def _warning(self, path: Path, problem: str, fix: str) -> Finding:
        return self._finding("warning", path, problem, fix)

    def _from(self, error: DataError) -> Finding:
        return self._error(error.path, error.problem, error.fix)

    def _strangers(self) -> Iterator[Finding]:
        """Files that belong to no layout, and what cut downloads left."""
        for folder in ("images", "masks"):
            if not (self.home / folder).is_dir():
                yield self._error(self.home / folder, "this folder is missing", "Fetch the data again, or put the files there.")
                continue
            for path in (self.home / folder).iterdir():
                if path.suffix != self.suffix and not path.name.startswith("."):
                    yield self._warning(path, f"is no {self.suffix} file", "Move it away: it does not belong to this data set.")
        for path in {*self.home.glob("*.partial"), *self.home.glob(".partial-*"), *self.home.glob(".unpacked-*")}:
            yield self._warning(path, "was left by a cut download", "Run the fetch again to go on, or delete it.")

    def _unpaired(self) -> Iterator[Finding]:
        for have, lack, what in ((self.images, self.masks, "mask"), (self.masks, self.images, "image")):
            for stem in set(have) - set(lack):
                yield self._error(have[stem], f"has no {what} of the same name", f"Add the {what}, or move this file away.")

    def _sums(self, known: dict[str, str], fix: str = FETCH_AGAIN) -> Iterator[Finding]:
        """Files whose sha256 is not the known one. Only asked for in a deep check: every byte is read."""
        there = [name for name in known if (self.home / name).is_file()] if self.deep else []
        for name in show_progress(there, "checksums") if self.progress and there else there:
            received = sha256_of(self.home / name)
            if received != known[name]:
                yield self._error(self.home / name, f"has sha256 {received}, but {known[name]} is known", fix)

    def _receipt(self) -> dict[str, str]:
        """path -> sha256 of what the download unpacked; empty when the data came another way."""
        try:
            table = pd.read_csv(self.home / RECEIPT, dtype=str)
            return dict(zip(table["path"], table["sha256"], strict=True))
        except (OSError, ValueError, KeyError):
            return {}

    def _gone(self, listed: dict[str, str]) -> Iterator[Finding]:
        """Files that the download brought and that are no longer there."""
        for name in listed:
            if not (self.home / name).is_file():
                yield self._error(self.home / name, "was fetched but is missing now", FETCH_AGAIN)

    def _labels(self, path: Path, values: np.ndarray, scheme: str) -> Iterator[Finding]:
        try:
            get_scheme(scheme).check(values)
        except ValueError as error:
            yield self._error(path, str(error), "Was the file edited, or is it another data set's? Fetch it again.")


class _VolumeCheck(_Check):
    """SPIDER's layout: one .mha a series, paired by name, and two tables."""

    suffix = ".mha"

    def __init__(self, kind: str, root: Path, deep: bool, progress: bool):
        super().__init__(root, deep, progress)
        self.kind = kind

    def findings(self) -> Iterator[Finding]:
        """All findings of this root, in no order."""
        listed = self._receipt()
        yield from self._strangers()
        yield from self._unpaired()
        yield from self._gone(listed)
        overview = yield from self._overview()
        yield from self._names(overview)
        yield from self._gradings(overview)
        if self.kind == "spider":
            yield from self._table_sums()
        yield from self._sums(listed)
        stems = sorted(self.images | self.masks, key=_counting)
        for stem in show_progress(stems, "verify") if self.progress else stems:
            yield from self._series(stem)

    def _table(self, name: str, columns: list[str]) -> Iterator[Finding]:
        """Read a table; a generator that yields findings and returns the table, None when it cannot be used."""
        path = find_file(self.given, name) or find_file(self.home, name)
        if path is None:
            yield self._error(self.home / name, "this table is missing", FETCH_AGAIN)
            return None
        try:
            table = read_csv(path)
        except (OSError, ValueError) as error:
            yield self._error(path, f"cannot be read as CSV ({str(error)[:120]})", FETCH_AGAIN)
            return None
        lacking = [column for column in columns if column not in table]
        if lacking:
            yield self._error(path, f"lacks the column(s) {', '.join(lacking)}", FETCH_AGAIN)
            return None
        table.attrs["path"] = path
        return table

    def _overview(self) -> Iterator[Finding]:
        table = yield from self._table("overview.csv", ["new_file_name", "subset"])
        if table is None:
            return None
        path, names = table.attrs["path"], table["new_file_name"].astype(str)
        for name in sorted(set(names[names.duplicated()])):
            yield self._error(path, f"lists {name} more than once", "Keep one of the rows.")
        subsets: dict[int, set[str]] = {}
        for name, subset in zip(names, table["subset"].astype(str), strict=True):
            try:
                subsets.setdefault(parse_case(name)[0], set()).add(subset)
            except ValueError as error:
                yield self._error(path, str(error), "Correct new_file_name in this row.")
        for patient, found in subsets.items():
            if len(found) > 1:
                problem = f"patient {patient} is in {' and '.join(sorted(found))}"
                yield self._error(path, problem, "All series of a patient must be in one subset.")
            elif not found <= {"training", "validation"}:
                yield self._warning(path, f"patient {patient} has subset '{found.pop()}'", "Known are training and validation.")
        return table

    def _names(self, overview: pd.DataFrame | None) -> Iterator[Finding]:
        """File names against the pattern and the table, both ways."""
        known = set() if overview is None else set(overview["new_file_name"].astype(str))
        for stem, path in [*self.images.items(), *self.masks.items()]:
            try:
                parse_case(stem)
            except ValueError as error:
                yield self._error(path, str(error), _rename(stem, known) or "Rename it as overview.csv does.")
                continue
            if overview is not None and stem not in known:
                yield self._error(path, "is not in overview.csv", _rename(stem, known) or "Rename it, or move it away.")
        patients: dict[int, list[str]] = {}
        for name in known:
            try:
                patients.setdefault(parse_case(name)[0], []).append(name)
            except ValueError:  # reported with the table
                continue
        for patient, names in patients.items():
            if not any(name in self.images or name in self.masks for name in names):
                yield self._error(
                    self.home / "images",
                    f"patient {patient} is in overview.csv ({', '.join(sorted(names))}) but has no files",
                    "Fetch the data again, or leave this patient out of the table.",
                )
                continue
            for name in names:
                # Where only one of the two is there, the other is reported as unpaired.
                if name not in self.images and name not in self.masks:
                    problem = "is in overview.csv but its image and mask are missing"
                    yield self._error(self.home / "images" / f"{name}.mha", problem, "Fetch the data again.")

    def _gradings(self, overview: pd.DataFrame | None) -> Iterator[Finding]:
        table = yield from self._table("radiological_gradings.csv", ["Patient", "IVD label"])
        if table is None:
            return
        path = table.attrs["path"]
        for row, patient, label in table[["Patient", "IVD label"]].itertuples():
            if label not in range(1, 26):
                # Row numbers as a spreadsheet shows them: the header is row 1.
                problem = f"row {row + 2} (patient {patient}) has the invalid IVD label {label}"
                yield self._warning(path, problem, "Leave this row out: it belongs to no disc of the mask.")
        for patient, label in table.loc[table.duplicated(["Patient", "IVD label"]), ["Patient", "IVD label"]].itertuples(
            index=False
        ):
            yield self._error(path, f"grades disc {label} of patient {patient} more than once", "Keep one of the rows.")
        for column, (low, high) in {**_GRADES, **dict.fromkeys(_BINARY_GRADES, (0, 1))}.items():
            if column in table:
                bad = table[table[column].notna() & ~table[column].isin(range(low, high + 1))]
                for row, value in bad[column].items():
                    yield self._warning(
                        path, f"row {row + 2} has {column} {value}, outside {low}-{high}", "Correct it or leave it out."
                    )
        if overview is not None:
            listed = {int(found[1]) for name in overview["new_file_name"].astype(str) if (found := re.match(r"(\d+)_", name))}
            graded = set(table["Patient"])
            for patient in sorted(graded - listed):
                yield self._error(path, f"grades patient {patient}, who is not in overview.csv", "Correct the patient number.")
            for patient in sorted(listed - graded):
                yield self._warning(
                    path, f"has no gradings of patient {patient}", "Lessons on gradings will leave the patient out."
                )

    def _table_sums(self) -> Iterator[Finding]:
        for file in load_manifest("spider").files:
            path = find_file(self.given, file.name) or find_file(self.home, file.name)
            if file.unpack is not None or path is None:
                continue
            received = sha256_of(path)
            if received == file.sha256:
                continue
            problem = f"has sha256 {received}, but {file.sha256} is known"
            if _sha256_with_crlf(path) == file.sha256:
                yield self._warning(
                    path, "has other line ends than the published file", "Its values are right; fetch it for the exact file."
                )
            else:
                yield self._error(path, problem, "The table was changed: fetch it again, or keep the change knowingly.")

    def _series(self, stem: str) -> Iterator[Finding]:
        image, mask = self.images.get(stem), self.masks.get(stem)
        if not self.deep:
            headers = []
            for path in filter(None, (image, mask)):
                try:
                    headers.append(_header(path))
                except DataError as error:
                    yield self._from(error)
            if len(headers) == 2 and headers[0].GetSize() != headers[1].GetSize():
                sizes = " against ".join(str(header.GetSize()) for header in headers)
                yield self._error(mask, f"its size differs from the image's ({sizes})", FETCH_AGAIN)
            return
        volumes = []
        for path, read in ((image, read_volume), (mask, read_mask)):
            if path is None:
                continue
            try:
                volumes.append(read(path))
            except DataError as error:
                yield self._from(error)
                continue
            if path is mask:
                yield from self._labels(path, volumes[-1].array, "spider")
            elif volumes[-1].array.min() == volumes[-1].array.max():
                yield self._error(path, "every voxel has the same value", FETCH_AGAIN)
            elif volumes[-1].acquired_plane in ("axial", "coronal"):
                problem = f"was taken in the {volumes[-1].acquired_plane} plane, while SPIDER's series are sagittal"
                yield self._warning(
                    path, problem, "The kit cuts sagittal slices all the same, but they are coarse: leave it out, or mind that."
                )
        if len(volumes) == 2:
            try:
                check_same_geometry(*volumes)
            except DataError as error:
                yield self._from(error)


def _rename(stem: str, known: set[str]) -> str | None:
    """Advice to rename a file, when the table has one name that is close."""
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(stem.lower(), folded, n=1, cutoff=0.8)
    return f"Did you mean {folded[close[0]]}.mha? Rename it if so." if close else None


def _header(path: Path) -> sitk.ImageFileReader:
    """The header of a volume. Raises DataError when it is damaged, or when uncompressed voxels do not fill the file."""
    check_whole(path, inflate=False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(path, "its header cannot be read", FETCH_AGAIN) from error
    return reader


def _sha256_with_crlf(path: str | Path) -> str:
    """sha256 that a text file would have with CRLF line ends, in which SPIDER's tables are published."""
    return hashlib.sha256(Path(path).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")).hexdigest()


class _SliceCheck(_Check):
    """The released 2D slices: one PNG a slice, paired by name, and an optional cases.csv."""

    suffix = ".png"

    def findings(self) -> Iterator[Finding]:
        """All findings of this root, in no order."""
        manifest = load_manifest("spider-2d")
        yield from self._strangers()
        yield from self._unpaired()
        slices, problems = self._patients()
        yield from problems
        yield from self._cases(slices)
        yield from self._against_release(manifest.sums, manifest.facts["slices"])
        try:
            mended = [one.sha256 for one in mended_series(self.home).values()]
        except DataError as error:
            yield self._error(self.home / MENDED_FILE, error.problem, error.fix)
            mended = []
        known = self._receipt() | manifest.sums
        for sums in mended:
            known = {name: value for name, value in known.items() if name not in sums}
            yield from self._sums(
                sums, "It is not what mending wrote: make the copy again, `spider-kit data mend RELEASED --out COPY`."
            )
        yield from self._sums(known)
        stems = sorted(set(self.images) & set(self.masks), key=_counting)
        lined: dict[str, int] = {}
        for stem in show_progress(stems, "verify") if self.progress else stems:
            lines = yield from self._slice(stem)
            if lines:
                case = stem.rpartition("_slice")[0]
                lined[case] = lined.get(case, 0) + lines
        if lined:
            problem = f"of {len(lined)} patients line discs with {sum(lined.values())} thin pieces of canal: {', '.join(lined)}"
            yield self._warning(
                self.home / "masks", problem, "To train or score without: `spider-kit data mend ROOT --out COPY`."
            )

    def _patients(self) -> tuple[dict[int, list[int]], list[Finding]]:
        """patient -> slice numbers, and the files whose names do not fit."""
        slices: dict[int, list[int]] = {}
        problems = []
        for stem, path in (self.masks | self.images).items():
            case, _, number = stem.rpartition("_slice")
            try:
                patient, _ = parse_case(case)
                slices.setdefault(patient, []).append(int(number))
            except ValueError:
                problems.append(self._error(path, "its name does not follow the layout", "Name it like 12_t2_SPACE_slice50.png."))
        return {patient: sorted(numbers) for patient, numbers in slices.items()}, problems

    def _cases(self, slices: dict[int, list[int]]) -> Iterator[Finding]:
        path = self.home / "cases.csv"
        unknown = "Pixel spacings are taken as unsqueezed: distances of squeezed patients come out wrong."
        needed = ["patient", "native_width", "native_height"]
        if not path.is_file():
            yield self._warning(path, "is missing, so that native sizes are not known", unknown)
            return
        try:
            table = read_csv(path)
            table = table.set_index(table["patient"].astype(int))
            lacking = [column for column in needed if column not in table]
        except (OSError, ValueError, KeyError):
            lacking = needed
        if lacking:
            yield self._error(path, f"lacks or garbles the column(s) {', '.join(lacking)}", FETCH_AGAIN)
            return
        for patient in sorted(set(slices) - set(table.index)):
            yield self._warning(path, f"does not know patient {patient}", unknown)
        for patient in sorted(set(table.index) - set(slices)):
            yield self._error(
                self.home / "images", f"patient {patient} is in cases.csv but has no slices", "Fetch the data again."
            )

    def _against_release(self, sums: dict[str, str], published: int) -> Iterator[Finding]:
        """What the release holds and this root lacks."""
        patients = {stem.split("_")[0] for stem in self.images | self.masks}
        for name in sums:
            folder, _, file = name.partition("/")
            stem = file.removesuffix(self.suffix)
            # A patient who is wholly absent shows in the count below; a lonely image or mask is reported as unpaired.
            if folder == "images" and file.split("_")[0] in patients and stem not in self.images and stem not in self.masks:
                yield self._error(self.home / name, "this slice and its mask are missing", "Fetch the data again.")
        if len(self.images) < published:
            problem = f"holds {len(self.images)} of the {published} released slices"
            yield self._warning(self.home / "images", problem, "Nothing to do if a part was wanted; else fetch the data again.")

    def _slice(self, stem: str) -> Generator[Finding, None, int]:
        """Findings of a slice; returns how many thin pieces of canal line its discs."""
        from PIL import Image

        sizes, lines = [], 0
        for path, is_mask in ((self.images[stem], False), (self.masks[stem], True)):
            try:
                with Image.open(path) as picture:
                    sizes.append(picture.size)
                    # Gray stored as RGBA has equal channels; the red one is the gray value.
                    array = np.asarray(picture if picture.mode == "L" else picture.convert("RGB")) if self.deep else None
            except Exception as error:  # Pillow's decoders raise whatever damaged bytes lead to
                yield self._error(path, f"cannot be read as PNG ({str(error)[:80]})", FETCH_AGAIN)
                continue
            if array is None:
                continue
            array = array if array.ndim == 2 else array[..., 0]
            if is_mask:
                strange = list(self._labels(path, array, "released_gray"))
                yield from strange
                lines = 0 if strange else int(disc_lines(convert(array[None], "released_gray", "structures4")).max())
                if not array.any():
                    yield self._error(
                        path, "the mask is empty: every pixel is 0", "Leave this slice out, or fetch the mask again."
                    )
            elif array.min() == array.max():
                yield self._error(path, "every pixel has the same value", FETCH_AGAIN)
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            yield self._error(self.masks[stem], f"its size {sizes[1]} differs from the image's {sizes[0]}", FETCH_AGAIN)
        return lines
