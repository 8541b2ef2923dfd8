"""Every series of a data set measured once: what models of gradings and tables of herniation stand on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.sources import Source
from spider_utils.data.volumes import check_same_geometry, read_mask
from spider_utils.errors import DataError, KitError
from spider_utils.files import fingerprint, read_json, write_csv, write_json
from spider_utils.measure.endplates import UNITS as ENDPLATE_UNITS
from spider_utils.measure.endplates import endplate_features
from spider_utils.measure.report import COLUMNS, MEASURED, measure
from spider_utils.measure.sheet import DISCS
from spider_utils.processes import map_in_processes
from spider_utils.runtime import cpu_count, progress

VERSION = 3  # raised whenever measurements come out differently, so that kept tables are made again
_FILES = ("measured.csv", "endplates.csv")
_T2 = ("t2", "t2_SPACE")  # measured, and the source of T2 signal: the first that a patient has
_WHO = ["case", "patient", "sequence"]


@dataclass(frozen=True)
class MeasuredSet:
    """Measurements of every patient.

    Attributes:
        measured: rows of ``measure.report.measure`` of each patient's T2 series (T2_SPACE where there is no other, T1 where there
            is neither): ``case``, ``patient``, ``sequence``, then its columns.
        endplates: rows of ``measure.endplates.endplate_features``, of that series and of the T1 series: ``case``, ``patient``,
            ``sequence``, then its columns.
    """

    measured: pd.DataFrame
    endplates: pd.DataFrame

    def features(self) -> pd.DataFrame:
        """A row a disc: ``patient``, ``disc``, then the measurements of the disc, then ``image: ...`` columns.

        "image" holds what needs the picture: signal of the disc over fluid and marrow (T2), marrow beside each endplate by
        sequence. Measurements are of the mask alone. NaN where something could not be measured or a sequence is missing: of
        a patient without T2 the disc's signal too, which in T1 means something else.
        """
        discs = self.measured[(self.measured["label"] > DISCS) & (self.measured["status"] == MEASURED)]
        discs = discs[~discs["quantity"].str.startswith("hernia top")]
        in_t1 = discs["quantity"].str.contains("signal") & ~discs["sequence"].isin(_T2)
        discs = discs.assign(value=discs["value"].mask(in_t1))
        wide = discs.pivot(index=["patient", "label"], columns="quantity", values="value")
        wide.columns = [f"image: {name}" if "signal" in name else name for name in wide.columns]
        parts, first = [wide], self.measured.drop_duplicates("patient")[["patient", "case"]]
        own = self.endplates.merge(first, on=["patient", "case"])
        shape = [name for name in ENDPLATE_UNITS if "marrow" not in name]
        parts.append(own.set_index(["patient", "label"])[shape])
        marrow = [name for name in ENDPLATE_UNITS if "marrow" in name]
        for kind, sequences in (("t2", _T2), ("t1", ("t1",))):
            rows = self.endplates[self.endplates["sequence"].isin(sequences)].set_index(["patient", "label"])[marrow]
            parts.append(rows.rename(columns=lambda name, kind=kind: f"image: {kind} {name}"))
        table = pd.concat(parts, axis=1).dropna(how="all", axis=0).reset_index()
        table.insert(1, "disc", table.pop("label") - DISCS)
        order = sorted(table.columns[2:], key=lambda name: name.startswith("image: "))
        return table[["patient", "disc", *order]].sort_values(["patient", "disc"], ignore_index=True)


def series_to_measure(cases: pd.DataFrame) -> pd.DataFrame:
    """The series to measure: of each patient the first of T2, T2_SPACE and T1 ``wholly``, and T1 for its marrow.

    Args:
        cases: of a Source.

    Raises:
        KitError: a sequence is not known.
    """
    rank = cases["sequence"].map({name: k for k, name in enumerate((*_T2, "t1"))})
    if rank.isna().any():
        raise KitError(f"sequence '{cases['sequence'][rank.isna()].iloc[0]}' is not known: {', '.join((*_T2, 't1'))}")
    cases = cases.assign(wholly=rank == rank.groupby(cases["patient"]).transform("min"))
    return cases[cases["wholly"] | (cases["sequence"] == "t1")]


def _measure_one(task: tuple[Source, str, bool, Path | None, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of one series; runs in a worker process."""
    source, name, wholly, masks, scheme = task
    case = source.load(name)
    mask = case.mask
    if masks is not None:
        mask = read_mask(masks / f"{name}.mha", allow_empty=True)
        check_same_geometry(case.image, mask)
    who = {"case": name, "patient": case.patient, "sequence": case.sequence}
    try:
        whole = measure(mask.array, mask.spacing, case.image.array, scheme) if wholly else None
        plates = endplate_features(mask.array, mask.spacing, case.image.array, scheme)
    except ValueError as error:
        raise DataError(mask.path or name, str(error), "Give the scheme of these masks, or make them again.") from error
    tables = [pd.DataFrame() if table is None else table.assign(**who) for table in (whole, plates)]
    return tables[0], tables[1]


def measure_source(
    source: Source,
    folder: str | Path,
    masks: str | Path | None = None,
    scheme: str | None = None,
    jobs: int | None = None,
    show_progress: bool = False,
) -> MeasuredSet:
    """Measure every patient's series, or read what was measured before.

    Args:
        source: volumes with levels ("phantom", "spider").
        folder: keeps the tables; they are made again when the data, masks or measuring changed.
        masks: folder of other masks of the same names (a network's), measured instead of the source's own.
        scheme: of those masks; the source's own when None.
        jobs: processes; None takes one a core, at most 4.
        show_progress: tell how many series are done.

    Raises:
        KitError: the source holds no levels, a sequence is unknown, or a process was killed.
        DataError: a file cannot be read, a mask is missing or of another grid, or no mask holds a disc.
    """
    scheme = scheme or source.scheme
    if source.kind == "spider-2d":
        raise KitError("the released slices have classes without levels and no grades of their own: give volumes")
    folder, masks = Path(folder), None if masks is None else Path(masks)
    chosen = series_to_measure(source.cases)
    stamps = []
    if masks is not None:
        for name in chosen["case"]:
            path = masks / f"{name}.mha"
            if not path.is_file():
                raise DataError(path, "this mask is missing", "Predict it first: spider-kit predict IMAGES --out MASKS")
            stamps.append([name, os.stat(path).st_size, os.stat(path).st_mtime_ns])
    state = fingerprint([VERSION, source.state(), scheme, stamps])
    kept, note = [folder / name for name in _FILES], folder / "measured.json"
    if not (note.is_file() and read_json(note).get("state") == state and all(path.is_file() for path in kept)):
        tasks = [(source, row.case, bool(row.wholly), masks, scheme) for row in chosen.itertuples()]
        results = map_in_processes(_measure_one, tasks, jobs or min(cpu_count(), 4))
        done = list(progress(results, "measuring series", len(tasks)) if show_progress else results)
        note.unlink(missing_ok=True)  # killed between two tables, their folder must not pass for whole
        for k, (path, columns) in enumerate(zip(kept, (COLUMNS, ("level", "label", *ENDPLATE_UNITS)), strict=True)):
            empty = pd.DataFrame(columns=[*_WHO, *columns])
            table = pd.concat([tables[k] for tables in done if len(tables[k])] or [empty], ignore_index=True)
            write_csv(path, table[list(empty)])
        write_json(note, {"state": state, "version": VERSION, "series": len(tasks)})
    measured, endplates = (pd.read_csv(path) for path in kept)
    if not (measured["label"] > DISCS).any():
        where = source.root if masks is None else masks
        raise DataError(where, "no disc could be measured in any of these masks", "Check that they hold discs with levels.")
    return MeasuredSet(measured.astype({"value": np.float64}), endplates)
