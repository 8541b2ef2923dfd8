"""``spider-kit gradings``: what radiologists grade."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spider_utils.cli.common import Data, DataKind, Profile, ProfileName, as_text
from spider_utils.errors import KitError

if TYPE_CHECKING:
    import pandas as pd

    from spider_utils.data.sources import Source


app = typer.Typer(
    help="What radiologists grade: their table, models of it, herniation.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("table")
def gradings_table(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="radiological_gradings.csv, or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; nothing is written when left out.")] = None,
) -> None:
    """What a table of gradings says by itself: its mistakes, how frequent findings are, which come together, what predicts them.

    Example: spider-kit gradings table data/spider --out build/gradings
    """
    from spider_utils.data.gradings import read_gradings
    from spider_utils.evaluation.prevalence import co_occurrence, prevalence
    from spider_utils.grading.models import grade_table

    found = read_gradings(table)
    _print_mistakes(found.mistakes)
    tables = {
        "prevalence": prevalence(found.table),
        "grades": prevalence(found.table, every_grade=True),
        "prevalence-by-level": prevalence(found.table, by_level=True),
        "co-occurrence": co_occurrence(found.table),
    }
    for name in ("prevalence", "grades"):
        print(f"{name}:\n{as_text(tables[name], 3)}\n")
    print("low, high: 95 % interval, bootstrap over patients")
    _write_gradings(out, tables)
    try:
        scores, _ = grade_table(found.table)
    except KitError as error:  # a table of a patient or two is read for what it holds
        print(f"not predicted from the table alone: {error}")
        return
    print("\npredicted from the table alone, on patients that a model does not know:")
    _print_grade_scores(scores)
    _write_gradings(out, {"predicted-from-the-table": scores})


GivenMasks = Annotated[
    Path | None,
    typer.Option(
        help="Masks of the same names, such as a network's, measured instead; number masks of classes first: `spider-kit levels`."
    ),
]
GivenScheme = Annotated[str, typer.Option(help="Scheme of those masks: spider or levels20.")]


@app.command("models")
def gradings_models(
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Annotated[
        Path | None, typer.Option(help="Any folder in SPIDER's layout, a phantom set too; the course's when left out.")
    ] = None,
    masks: GivenMasks = None,
    scheme: GivenScheme = "spider",
    out: Annotated[
        Path | None, typer.Option(help="Folder for measurements and scores; needed with --root, else build/...")
    ] = None,
) -> None:
    """Grade every disc from measurements and image, tested on patients that the models do not know.

    Example: spider-kit gradings models --root data/mine --out build/mine
    """
    import pandas as pd

    from spider_utils.data.gradings import read_gradings
    from spider_utils.grading.models import LEVEL, MEASURED, MEASURED_AND_IMAGE, gains, grade_table, without_measurement
    from spider_utils.grading.series import measure_source

    source, folder = _gradings_place(profile, data, root, out, masks)
    given = read_gradings(source.gradings_file or source.root)
    _print_mistakes(given.mistakes)
    gradings = given.table[given.table["patient"].isin(source.cases["patient"])]
    features = measure_source(source, folder, masks, scheme, show_progress=True).features()
    lost = without_measurement(gradings, features)
    print(
        f"{len(gradings)} graded discs of {gradings['patient'].nunique()} patients; {lost} without a measurement: graded by level"
    )
    scores, predictions = grade_table(gradings, features)
    _print_grade_scores(scores)
    pairs = ((MEASURED, LEVEL), (MEASURED_AND_IMAGE, MEASURED))
    gained = pd.concat([gains(predictions, *pair).assign(model=pair[0], base=pair[1]) for pair in pairs], ignore_index=True)
    print("\nAUC gained by 'model' over 'base' on the same discs, patients drawn in pairs:")
    aucs = gained.loc[gained["metric"] == "AUC", ["finding", "model", "base", "value", "low", "high", "discs", "patients"]]
    print(as_text(aucs, 3))
    _write_gradings(folder, {"scores": scores, "predictions": predictions, "gains": gained})


@app.command("herniation")
def gradings_herniation(
    profile: Profile = ProfileName.quick,
    root: Annotated[Path | None, typer.Option(help="A phantom set; the course's when left out.")] = None,
    masks: GivenMasks = None,
    scheme: GivenScheme = "spider",
    out: Annotated[
        Path | None, typer.Option(help="Folder for measurements and tables; needed with --root, else build/...")
    ] = None,
) -> None:
    """The source triplanar's Tables 5 and 6, printed beside measured: are hernias found, and how far off are they?

    Example: spider-kit gradings herniation --root data/mine --out build/mine
    """
    from spider_utils.data.phantom.dataset import phantom_facts
    from spider_utils.grading.herniation import compare_set, summary_lines, table5, table6
    from spider_utils.grading.series import measure_source

    source, folder = _gradings_place(profile, DataKind.phantom, root, out, masks)
    phantom_facts(source.root)  # what is no phantom is refused before hours of measuring
    found = measure_source(source, folder, masks, scheme, show_progress=True)
    discs = compare_set(source, found.measured)
    tables = {"table5": table5(discs), "table6": table6(discs)}
    for name, one in tables.items():
        print(f"{name}:\n{as_text(one, 3)}\n")
    print(*(f"{what}: {text}" for what, text in summary_lines(discs).items()), sep="\n")
    print(
        "low, high: 95 % over patients. A disc that could not be judged counts as one in which nothing was found; 'judged disc'"
    )
    print("leaves it out. The source's slices are axial, of other patients; its pixels have no size, its X and Y no direction.")
    _write_gradings(folder, tables)


def _gradings_place(
    profile: ProfileName, data: DataKind, root: Path | None, out: Path | None, masks: Path | None
) -> tuple[Source, Path]:
    """The series to measure, and the folder for what comes of it."""
    from spider_utils.data.sources import open_source
    from spider_utils.workflow import Workspace

    if root is not None:
        if out is None:
            raise KitError("--root needs --out: a folder of its own for measurements and tables, apart from the course's")
        return open_source("phantom" if (root / "phantom.json").is_file() else "spider", root), out
    workspace = Workspace.open(profile.value, data.value)
    return workspace.source, out or workspace.build / ("gradings" if masks is None else "gradings-of-given-masks")


def _print_mistakes(mistakes: pd.DataFrame) -> None:
    if len(mistakes):
        print(f"mistakes in the table:\n{mistakes.to_string(index=False)}\n")


def _print_grade_scores(scores: pd.DataFrame) -> None:
    from spider_utils.grading.models import compact, scores_that_are_missing

    shown = {"AUC": "AUC", "balanced accuracy": "balanced accuracy", "kappa": "kappa", "mean absolute error": "grades off"}
    print(compact(scores, shown).to_string(index=False))
    for row in scores_that_are_missing(scores).itertuples():
        print(f"- {row.finding}: {row.reason}")
    print("[ ]: 95 % interval, bootstrap over patients; Modic: any change; kappa: quadratic weights.")


def _write_gradings(folder: Path | None, tables: dict[str, pd.DataFrame]) -> None:
    from spider_utils.files import write_csv

    for name, table in tables.items() if folder is not None else ():
        write_csv(folder / f"{name}.csv", table)
        print(folder / f"{name}.csv")
