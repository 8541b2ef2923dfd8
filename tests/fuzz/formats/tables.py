"""CSV tables: the challenge's, gradings, overview, native sizes, splits, histories, axial slices."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd

from spider_utils.data.axial import AxialSet
from spider_utils.data.gradings import read_gradings
from spider_utils.data.rsna import labelled_points
from spider_utils.data.rsna_tables import CONDITIONS, LEVELS, SERIES_OF, read_tables
from spider_utils.data.splits import Split, make_split
from spider_utils.data.verify import verify
from tests.fuzz.judge import Call, demand
from tests.fuzz.mutators import ODD_NUMBERS, ODD_TEXTS, spoil_bytes

_ENCODINGS = ("utf-16", "utf-16-le", "latin-1", "utf-8-sig", "utf-32", "cp1252")
Rows = list[list[str]]


def _rows(text: str) -> Rows:
    return list(csv.reader(io.StringIO(text)))


def whole(folder: Path) -> dict[str, Rows]:
    """Tables by file name."""
    names = [(condition, level) for condition in CONDITIONS for level in LEVELS]
    severities = ["study_id," + ",".join(f"{c}_{v}" for c, v in names)]
    severities += [
        f"{study}," + ",".join(("Normal/Mild", "Moderate", "Severe", "")[(k + study) % 4] for k in range(25)) for study in (7, 8)
    ]
    series = ["study_id,series_id,series_description"]
    series += [f"{study},{study}{k},{text}" for study in (7, 8) for k, text in enumerate(sorted(set(SERIES_OF.values())))]
    points = ["study_id,series_id,instance_number,condition,level,x,y"]
    for study in (7, 8):
        for k, (condition, level) in enumerate(names):
            place = sorted(set(SERIES_OF.values())).index(SERIES_OF[condition])
            points.append(
                f"{study},{study}{place},{k + 1},{condition.replace('_', ' ').title()},"
                f"{level.replace('_', '/').upper()},{k}.5,9.25"
            )
    gradings = [
        "Patient,IVD label,Modic,UP endplate,LOW endplate,Spondylolisthesis,"
        "Disc herniation,Disc narrowing,Disc bulging,Pfirrman grade"
    ]
    gradings += [f"{patient},{disc},0,1,0,0,1,0,1,{1 + disc % 5}" for patient in (1, 2, 3) for disc in (1, 2, 3, 4)]
    patients = pd.DataFrame({"patient": range(1, 21)})
    split = make_split(patients, "kfold5").save(folder / "split.csv").read_text()
    axial = ["case,patient,disc,level,slice"]
    axial += [f"{patient}_{disc},{patient},{disc},L5/S1,{k}" for patient in (1, 2) for disc in (1, 2) for k in range(3)]
    texts = {
        "train.csv": "\n".join(severities),
        "train_series_descriptions.csv": "\n".join(series),
        "train_label_coordinates.csv": "\n".join(points),
        "train_patients.csv": "study_id,age,sex\n7,45,F\n8,,M\n",
        "radiological_gradings.csv": "\n".join(gradings),
        "split.csv": split,
        "slices.csv": "\n".join(axial),
    }
    return {name: _rows(text) for name, text in texts.items()}


def spoil_table(random: Random, rows: Rows) -> bytes:
    """A table with odd cells, columns or rows, in another encoding or with other marks between cells, or with bytes changed."""
    rows = [list(row) for row in rows]
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        _change(random, rows)
    stream = io.StringIO()
    csv.writer(
        stream,
        delimiter=random.choice((",",) * 12 + (";", "\t", "|")),
        lineterminator=random.choice(("\n",) * 6 + ("\r\n", "\r", "\n\n")),
        quoting=random.choice((csv.QUOTE_MINIMAL,) * 4 + (csv.QUOTE_ALL,)),
    ).writerows(rows)
    text = stream.getvalue()
    data = text.encode("utf-8", "replace")
    if random.random() < 0.08:
        data = text.encode(random.choice(_ENCODINGS), "replace")
    if random.random() < 0.2:
        data = spoil_bytes(random, data)
    return data


def _change(random: Random, rows: Rows) -> None:
    if not rows:
        return
    k, width = random.randrange(len(rows)), max(len(row) for row in rows)
    column, way = random.randrange(max(1, width)), random.randrange(16)
    row = rows[k]
    if way <= 4 and row:
        row[min(column, len(row) - 1)] = random.choice((random.choice(ODD_NUMBERS), random.choice(ODD_TEXTS)))
    elif way == 5:
        for one in rows:
            del one[column : column + 1]
    elif way == 6:
        for one in rows:
            one.insert(random.choice((0, len(one))), *one[column : column + 1] or [""])
    elif way == 7:
        rows[0] = [random.choice((name, name.upper(), f" {name} ", random.choice(ODD_TEXTS)[:500])) for name in rows[0]]
    elif way == 8:
        rows.insert(random.randrange(len(rows) + 1), list(row))
    elif way == 9 and row:
        rows.append([*row[:-1], random.choice(ODD_NUMBERS)])
    elif way == 10:
        del rows[k]
    elif way == 11:
        row += ["x"] * random.choice((1, 3, 50))
    elif way == 12:
        del row[random.randrange(len(row) + 1) :]
    elif way == 13:
        other = random.randrange(width)
        for one in rows:
            if max(column, other) < len(one):
                one[column], one[other] = one[other], one[column]
    elif way == 14:
        for one in rows[1:]:
            if column < len(one):
                one[column] = random.choice(ODD_NUMBERS)
    else:
        del rows[random.choice((0, 1)) :]


def spoil(random: Random, folder: Path, whole: dict[str, Rows]) -> dict[str, Call]:
    """One or two of the tables spoilt, the others whole; now and then one is missing, or a folder."""
    what = random.choice(("rsna", "gradings", "split", "slices"))
    names = {
        "rsna": [name for name in whole if name.startswith("train")],
        "gradings": ["radiological_gradings.csv"],
        "split": ["split.csv"],
        "slices": ["slices.csv"],
    }[what]
    odd = random.sample(names, min(len(names), random.choice((1, 1, 2))))
    for name in names:
        data = spoil_table(random, whole[name]) if name in odd else "\n".join(map(",".join, whole[name])).encode()
        if name in odd and random.random() < 0.03:
            if random.random() < 0.5:
                (folder / name).mkdir()
            continue
        (folder / name).write_bytes(data)
    if what == "rsna" and random.random() < 0.1:
        (folder / "train_label_coordinates.fixed.csv").write_bytes(spoil_table(random, whole["train_label_coordinates.csv"]))

    def challenge(out: Path) -> None:
        tables = read_tables(folder)
        demand(bool(np.isfinite(tables.points[["x", "y"]].to_numpy(float)).all()), "points that are nowhere")
        demand(set(tables.labels["grade"]) <= {0, 1, 2}, "unknown grades")
        demand(tables.mistakes["problem"].map(lambda text: isinstance(text, str)).all(), "a mistake without words")
        labelled_points(tables)

    def findings(out: Path) -> None:
        found = verify(None, folder)
        demand(all(str(one) for one in found), "a finding without words")

    def graded(out: Path) -> None:
        found = read_gradings(folder)
        demand(not found.table.duplicated(["patient", "disc"]).any() and found.table["disc"].between(1, 25).all(), "odd discs")

    def split(out: Path) -> None:
        made = Split.load(folder / "split.csv")
        demand(not set(made.patients("train")) & set(made.patients("test")), "a leak")

    def axial(out: Path) -> None:
        demand(len(AxialSet(folder).cases) > 0, "no case")

    return {
        "rsna": {"read_tables": challenge, "verify": findings},
        "gradings": {"read_gradings": graded},
        "split": {"Split.load": split},
        "slices": {"AxialSet": axial},
    }[what]
