"""Audits of a data set: what its tables, headers and masks say, one table a question.

Nothing here changes data. ``verify.py`` says whether a root is complete and sound; this says what is in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from spider_utils.data.integrity import check_whole
from spider_utils.data.sources import Case, Source, parse_case
from spider_utils.data.volumes import Volume, orientation_code
from spider_utils.errors import KitError
from spider_utils.labels import CANAL, DISC, VERTEBRA, get_scheme

TOUCH_MM = 3.0  # a disc and a vertebra nearer than this are neighbours; discs themselves are 4 mm high and more
_OVERVIEW = {
    "sex": "sex", "subset": "subset", "ManufacturerModelName": "scanner", "MagneticFieldStrength": "tesla",
    "MRAcquisitionType": "acquisition", "SeriesDescription": "description", "RepetitionTime": "tr_ms", "EchoTime": "te_ms",
    "SpacingBetweenSlices": "slice_mm", "num_vertebrae": "num_vertebrae", "num_discs": "num_discs",
}  # fmt: skip


def series_table(overview: pd.DataFrame) -> pd.DataFrame:
    """The columns of SPIDER's overview.csv that a segmentation study needs, cleaned.

    Args:
        overview: as ``Source.overview`` returns it.

    Returns:
        One row a series: case, patient, sequence, sex ("F" or "M"), subset, scanner, tesla, acquisition ("2D" or "3D"),
        description, tr_ms, te_ms, slice_mm (distance of neighbouring slices), row_mm and column_mm (pixel spacing),
        num_vertebrae, num_discs. The table stores "F " and "F", and the pixel spacing as the text "[0.625, 0.625]".

    Raises:
        ValueError: a column is missing, a name is no series name, or a pixel spacing cannot be read.
    """
    missing = [column for column in ("new_file_name", "PixelSpacing", *_OVERVIEW) if column not in overview]
    if missing:
        raise ValueError(f"the overview lacks the column(s) {', '.join(missing)}")
    names = [parse_case(name) for name in overview["new_file_name"]]
    table = pd.DataFrame(
        {"case": overview["new_file_name"], "patient": [p for p, _ in names], "sequence": [s for _, s in names]}
    ).reset_index(drop=True)
    for column, name in _OVERVIEW.items():
        values = overview[column].reset_index(drop=True)
        table[name] = values.map(lambda v: v.strip() if isinstance(v, str) else v)
    spacings = [_pixel_spacing(text) for text in overview["PixelSpacing"]]
    table["row_mm"], table["column_mm"] = [s[0] for s in spacings], [s[1] for s in spacings]
    return table


def _pixel_spacing(text: object) -> tuple[float, float]:
    """ "[.46875, .46875]" -> (0.46875, 0.46875): row and column spacing, mm."""
    try:
        row, column = (float(part) for part in str(text).strip().strip("[]").split(","))
    except ValueError:
        raise ValueError(f"'{text}' is not a pixel spacing such as [0.625, 0.625]") from None
    return row, column


def header_table(source: Source) -> pd.DataFrame:
    """How each image lies in its file, read from the headers alone.

    Returns:
        One row a series: case, patient, sequence, code (ITK's name of the orientation), size and spacing_mm (tuples in the
        file's order, fastest axis first), thick_axis (index of the largest spacing in the file), left_right_axis (index of
        the axis that really runs between left and right).

    Raises:
        KitError: the source holds pictures, which store no geometry.
        DataError: a header is damaged.
    """
    if source.kind == "spider-2d":
        raise KitError("PNG pictures store neither spacing nor orientation: there is no header to read")
    rows = []
    for row in source.cases.itertuples(index=False):
        check_whole(Path(row.image), inflate=False)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(row.image))
        reader.ReadImageInformation()
        # The reader has no image yet; an empty one carries the direction to ITK's own naming.
        probe = sitk.Image([1, 1, 1], sitk.sitkUInt8)
        probe.SetDirection(reader.GetDirection())
        code = orientation_code(probe)
        rows.append(
            {
                "case": row.case,
                "patient": row.patient,
                "sequence": row.sequence,
                "code": code,
                "size": reader.GetSize(),
                "spacing_mm": tuple(round(s, 3) for s in reader.GetSpacing()),
                "thick_axis": int(np.argmax(reader.GetSpacing())),
                "left_right_axis": next(axis for axis, letter in enumerate(code) if letter in "LR"),
            }
        )
    return pd.DataFrame(rows)


def label_table(case: Case, scheme: str) -> pd.DataFrame:
    """Every value in a mask, background included.

    Args:
        case: one series.
        scheme: label scheme of its mask.

    Returns:
        One row a value: case, patient, sequence, label, name, voxels, volume_ml, slices (number it appears in), pieces
        (parts that do not touch, not even at a corner) and main_share (share of the voxels in the largest piece). Pieces of
        background are not counted: 0, and main_share is NaN.
    """
    mask, names = case.mask.array, get_scheme(scheme).names
    voxel_ml = float(np.prod(case.mask.spacing)) / 1000
    counts = np.bincount(mask.reshape(-1))
    boxes = ndimage.find_objects(mask)
    rows = []
    for label in np.flatnonzero(counts).tolist():
        row = {"case": case.case, "patient": case.patient, "sequence": case.sequence, "label": label, "name": names[label]}
        row |= {"voxels": int(counts[label]), "volume_ml": counts[label] * voxel_ml}
        if label == 0:
            rows.append(row | {"slices": int((mask == 0).any(axis=(1, 2)).sum()), "pieces": 0, "main_share": np.nan})
            continue
        region = mask[boxes[label - 1]] == label
        parts, pieces = ndimage.label(region, structure=np.ones((3, 3, 3)))
        largest = int(np.bincount(parts[region]).max())
        row |= {"slices": int(region.any(axis=(1, 2)).sum()), "pieces": pieces, "main_share": largest / int(counts[label])}
        rows.append(row)
    return pd.DataFrame(rows)


def structure_counts(labels: pd.DataFrame) -> pd.DataFrame:
    """How many structures each mask of scheme "spider" holds.

    Args:
        labels: rows of ``label_table`` for one or many series.

    Returns:
        One row a series: case, whole (vertebrae 1-25), partial (vertebrae 101-125), vertebrae (levels present, whole or
        partial), discs, canal (0 or 1).
    """
    labels = labels.reset_index(drop=True)
    value = labels["label"]
    kinds = pd.DataFrame(
        {
            "case": labels["case"],
            "whole": value.between(1, 25),
            "partial": value.between(101, 125),
            "discs": value.between(201, 225),
            "canal": value == 100,
        }
    )
    counts = kinds.groupby("case", sort=False).sum()
    levels = (value % 100).where(kinds["whole"] | kinds["partial"]).groupby(kinds["case"]).nunique()
    counts.insert(2, "vertebrae", levels.reindex(counts.index, fill_value=0))
    return counts.astype(int).reset_index()


def disc_neighbours(mask: Volume) -> pd.DataFrame:
    """Which vertebrae lie beside each disc, in a mask of scheme "spider".

    Disc 200 + N belongs between vertebra N above and N - 1 below (disc 201 lies on the sacrum, which has no label). Two
    structures are neighbours when they come within TOUCH_MM of each other in a sagittal slice.

    Returns:
        One row a disc: disc, expected and found (tuples of vertebra numbers, partly visible ones included), in_place (no
        other vertebra is found, and every expected one that is wholly in view is; of a vertebra that the picture's edge
        cuts, the part beside the disc may be outside).
    """
    array = mask.array
    reach = [0, *(int(np.ceil(TOUCH_MM / step)) for step in mask.spacing[1:])]
    values = set(np.flatnonzero(np.bincount(array.reshape(-1))).tolist()) - {0, 100}
    whole, present = ({v % 100 for v in values if v < end} for end in (100, 200))
    rows = []
    for label, box in enumerate(ndimage.find_objects(array), start=1):
        if box is None or label <= 200:
            continue
        wide = tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in zip(box, reach, array.shape, strict=True))
        part = array[wide]
        part = part[(part == label).any(axis=(1, 2))]
        # Slices are far apart: distances are measured within each.
        away = np.stack([ndimage.distance_transform_edt(one != label, sampling=mask.spacing[1:]) for one in part])
        touching = np.bincount(part[away <= TOUCH_MM], minlength=256)
        found = {v % 100 for v in range(1, 126) if v != 100 and touching[v]}
        number = label - 200
        expected = {number - 1, number} & present
        in_place = found <= expected and expected & whole <= found
        rows.append({"disc": number, "expected": tuple(sorted(expected)), "found": tuple(sorted(found)), "in_place": in_place})
    return pd.DataFrame(rows, columns=["disc", "expected", "found", "in_place"])


def disc_contacts(mask: np.ndarray) -> dict[str, float]:
    """What lies on the other side of a disc's border in the sagittal slices.

    Args:
        mask: (slice, row, column) labels of scheme "structures4".

    Returns:
        Share of the border's pixel sides that face "vertebra", "spinal canal" or "background"; NaN without a disc.
    """
    counts = np.zeros(4, dtype=np.int64)
    for axis in (1, 2):
        low, high = (np.moveaxis(mask, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        for disc, other in ((low, high), (high, low)):
            counts += np.bincount(other[(disc == DISC) & (other != DISC)], minlength=4)[:4]
    total = counts.sum()
    shares = counts / total if total else np.full(4, np.nan)
    return {"vertebra": float(shares[VERTEBRA]), "spinal canal": float(shares[CANAL]), "background": float(shares[0])}


def disc_gaps(mask: np.ndarray, row_mm: float, largest_mm: float = 4.0) -> pd.DataFrame:
    """How much background lies between discs and the vertebrae above and below them.

    Each column of pixels is followed from a disc's edge through background to a vertebra; ways longer than ``largest_mm``,
    which pass the disc's rim, are not counted.

    Args:
        mask: (slice, row, column) labels of scheme "structures4".
        row_mm: spacing of rows, mm.

    Returns:
        One row a width: pixels (0 means that disc and vertebra touch), gap_mm, columns (how many columns of pixels).
    """
    rows = []
    for pixels in range(int(largest_mm / row_mm) + 1):
        found = 0
        for array in (mask, mask[:, ::-1]):
            last = array.shape[1] - pixels - 1
            hit = (array[:, :last] == DISC) & (array[:, pixels + 1 :] == VERTEBRA)
            for step in range(1, pixels + 1):
                hit &= array[:, step : last + step] == 0
            found += int(hit.sum())
        rows.append({"pixels": pixels, "gap_mm": pixels * row_mm, "columns": found})
    return pd.DataFrame(rows)
