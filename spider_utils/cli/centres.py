"""``spider-kit centres``: a network on MRI of other centres and sequences."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from spider_utils.cli.common import as_text


def centres(
    data: Annotated[
        Path, typer.Option(help="Folder that holds some of the sets (see docs/results/centres.md), each in a folder of its name.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Folder or name of a run, or of a network that comes with the kit; that for series when left out."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="CSV of all cases to write; the summary and the names go beside it.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for pictures, also of sets without truth. They show patients: publish none.")
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the NSD in mm.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Score a network on lumbar MRI of other centres and sequences: structures that their truth holds, and names of levels.

    Example: spider-kit centres --model quick-phantom-unet-structures4 --data ../other-centres --out build/centres.csv
    """
    from spider_utils.data.centres import sets_in
    from spider_utils.evaluation.centres import overview, score_centres, summarise_centres
    from spider_utils.evaluation.folders import summary_path
    from spider_utils.evaluation.naming import names_path, summarise_names
    from spider_utils.files import write_csv
    from spider_utils.models.shipped import shipped_for
    from spider_utils.predict import load_predictor
    from spider_utils.view.centre_pictures import write_picture
    from spider_utils.workflow import find_run

    _, absent = sets_in(data)  # a wrong folder is said before a model is loaded
    folder = find_run(model or shipped_for(series=True))
    predictor = load_predictor(folder, device)
    predictor.whole_parts = False  # names are given, and compared, below
    print(f"model: {folder.name}, masks in scheme {predictor.scheme}", flush=True)
    show = None if pictures is None else partial(write_picture, pictures)
    table, names = score_centres(data, predictor.predict_volume, predictor.scheme, tolerance_mm, show, predictor.own_votes)
    if len(table):
        summary = summarise_centres(table)
        print(f"\n{as_text(overview(summary), 3)}\n")
        print("picture: the whole prediction; annotated: the rows that the truth marks, without what lies behind its bodies.")
        print(f"low, high: 95 % over patients or series; asd in mm, nsd at {tolerance_mm:g} mm; -: no pixel size, or one case.")
        if out is not None:
            write_csv(out, table)
            write_csv(summary_path(out), summary)
            print(f"{out}\n{summary_path(out)}")
    if len(names):
        named = summarise_names(names)
        print(f"\nnames of levels\n{as_text(named, 3)}\n")
        print("own: as predict names them; lowest: counted from the lowest part in view. Pictures without pixel size: 1 mm.")
        if out is not None:
            write_csv(names_path(out), names)
            write_csv(summary_path(names_path(out)), named)
            print(f"{names_path(out)}\n{summary_path(names_path(out))}")
    for one in absent:
        print(f"not there: {one.name} ({one.files})")
    if pictures is not None:
        print(f"pictures: {pictures}")
