"""``spider-kit classify``: findings on studies of the RSNA 2024 challenge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spider_utils.cli.common import Profile, ProfileName, as_text
from spider_utils.models import CLASSIFIERS

app = typer.Typer(
    help="The source misan: findings classified on studies of the RSNA 2024 challenge.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


RsnaRoot = Annotated[Path | None, typer.Option(help="Folder in the challenge's layout; the profile's phantom when left out.")]


@app.command("labels")
def classify_labels(profile: Profile = ProfileName.quick, root: RsnaRoot = None) -> None:
    """What the tables ask for, and the highest accuracy that anything which sees whole slices alone can reach.

    Needs the tables alone, no image.

    Example: spider-kit classify labels --profile smoke
    """
    import pandas as pd

    from spider_utils.data.rsna import labelled_points
    from spider_utils.data.rsna_tables import read_tables
    from spider_utils.findings import ceiling_of_share, ceilings
    from spider_utils.workflow import Workspace

    folder = root if root is not None else Workspace.open(profile.value).rsna().root
    points = labelled_points(read_tables(folder))
    print(points.groupby(["description", "condition", "grade"]).size().unstack(fill_value=0).to_string())
    print("grade: 0 Normal/Mild, 1 Moderate, 2 Severe\n")
    print(as_text(ceilings(points)))
    print("highest: accuracy when every slice gets its most frequent label; a slice that holds several points has one answer.")
    print("On a random part of the points alone, as a split by sample tests them (mean of five parts):")
    print(as_text(pd.concat(ceiling_of_share(points, share) for share in (0.2, 0.15, 0.1)), 3))


@app.command("train")
def classify_train(
    network: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(CLASSIFIERS)}; the profile's own when left out: mobilenetv2, in paper inception_v3."),
    ] = None,
    protocol: Annotated[
        Literal["mended", "as_printed"],
        typer.Option(help="mended (crop around the point, by study, severities), or as_printed (whole slices, by sample)."),
    ] = "mended",
    profile: Profile = ProfileName.quick,
    root: RsnaRoot = None,
    split: Annotated[
        Literal["kfold5", "leaky-kfold5"] | None, typer.Option(help="By study or by sample; the protocol's when left out.")
    ] = None,
    metadata: Annotated[bool, typer.Option("--metadata", help="Age and sex as a second input.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights, the order of pictures and the augmentation.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="The profile's when left out.")] = None,
) -> None:
    """Train one of misan's seven networks and score it on its test samples; a killed training goes on where it stopped.

    Example: spider-kit classify train --network mobilenetv2 --profile smoke
    """
    from spider_utils.findings import PROTOCOLS, FindingStudy
    from spider_utils.workflow import Workspace

    if network is not None and network not in CLASSIFIERS:  # before studies are made, which takes minutes
        raise typer.BadParameter(f"'{network}' is unknown. Choose one of {', '.join(CLASSIFIERS)}.", param_hint="--network")
    study = FindingStudy.open(Workspace.open(profile.value), root)
    changes = {} if epochs is None else {"epochs": epochs}
    run = study.train(network, PROTOCOLS[protocol], split, metadata, seed, **changes)
    print(as_text(study.scores(run)))
    if PROTOCOLS[protocol].whole:
        highest = study.run_ceilings(run)
        print(
            f"no network that sees whole slices can pass, on these test samples: accuracy {highest['ceiling']:.3f} of the "
            f"condition, {highest['level_ceiling']:.3f} of the level"
        )
    print(run.folder)


@app.command("score")
def classify_score(
    profile: Profile = ProfileName.quick,
    root: RsnaRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV to write; build/<profile>-phantom/findings/table3_1.csv when left out.")
    ] = None,
) -> None:
    """The source's Table 3.1 with all finished runs of the profile below its rows, and what needs no picture.

    Example: spider-kit classify score --profile smoke
    """
    from spider_utils.files import write_csv
    from spider_utils.findings import BY_STUDY, PROTOCOLS, FindingStudy
    from spider_utils.training.runs import RUN_FILE, RunResult
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value)
    study = FindingStudy.open(workspace, root)
    runs = [
        RunResult.open(path.parent) for path in sorted(study.folder.glob(f"*/{RUN_FILE}")) if path.parent.suffix != ".partial"
    ]
    table, path = study.table31(runs), out or workspace.build / "findings" / "table3_1.csv"
    print(as_text(table, 3))
    print(
        "loss: of both printed heads on test samples; auc: mean of each class against the rest; low, high: 95 % over studies;\n"
        "ceiling, level_ceiling: the highest accuracy that whole slices allow on the run's own test samples.\n"
    )
    print(as_text(study.shortcut(BY_STUDY), 3))
    for run in runs:
        if run.card["protocol"] == PROTOCOLS["mended"].name:
            print(f"\n{run.folder.name}, weighted log loss (lower is better):\n{as_text(study.challenge_score(run), 3)}")
            print("difference: the network minus this row, and its 95 % interval, on the same draws of studies.")
    write_csv(path, table)
    print(path)
