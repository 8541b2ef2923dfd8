"""``spider-kit medfusion``: the source's protocol and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spider_utils.cli.common import Data, DataKind, Profile, ProfileName, Root, runs_of
from spider_utils.models import available_models

app = typer.Typer(help="The source medfusion: its protocol and its table.", no_args_is_help=True, rich_markup_mode=None)


@app.command("table")
def medfusion_table(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs of one slice size; the profile's four when left out.")
    ] = None,
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for table2.csv and its figure; build/<profile>-<data>/medfusion when left out.")
    ] = None,
) -> None:
    """Networks, pairs and all together: weights from validation patients, scores of test patients, beside the printed Table 2.

    Example: spider-kit medfusion table --profile smoke
    """
    from spider_utils.files import write_csv
    from spider_utils.medfusion import FusionStudy
    from spider_utils.view.fusion_plots import printed_beside_measured
    from spider_utils.view.plots import save_figure
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value, data.value, root)
    if runs:
        opened = runs_of(workspace, runs)
        named = {run.card["architecture"]: run for run in opened}
        if len(named) < len(opened):
            raise typer.BadParameter("give one run an architecture")
        study = FusionStudy(workspace, named, workspace.split_of(opened[0]))
    else:
        study = FusionStudy.train(workspace)
    table, folder = study.table2(), out or workspace.build / "medfusion"
    print(table.to_string(index=False, float_format="{:.3f}".format, na_rep="-"))
    print(f"\nensembles minus {study.best_single} alone, the best on validation patients; [low, high] 95 % over patients:")
    print(study.against_best_single().to_string(index=False, float_format="{:.4f}".format))
    write_csv(folder / "table2.csv", table)
    title = f"MedFusionNet's Table 2: printed, and measured on {workspace.data}"
    figure = printed_beside_measured(table, title)
    print(folder / "table2.csv", save_figure(figure, folder / "table2", figure.caption), sep="\n")


@app.command("protocol")
def medfusion_protocol(
    model: Annotated[str, typer.Option(help=f"Architecture: {', '.join(available_models())}.")] = "unet",
    split: Annotated[
        str,
        typer.Option(help="leaky-seed70-5-25 (images at random), seed70-5-25 (by patient), leaky-kfold5 or kfold5."),
    ] = "leaky-seed70-5-25",
    fold: Annotated[int, typer.Option(help="Fold of kfold5, 0 to 4.")] = 0,
    scheme: Annotated[str | None, typer.Option(help="levels20 when left out, structures4 for data without levels.")] = None,
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="The profile's when left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of images.")] = 0,
) -> None:
    """Train as the source describes: one slice a series, enlarged by copies, split at random or, to compare, by patient.

    Four of these, one an architecture, can be laid beside the printed table with `spider-kit medfusion table RUN RUN RUN RUN`.

    Example: spider-kit medfusion protocol --profile smoke --split seed70-5-25
    """
    from spider_utils.evaluation.statistics import format_summary, summarise
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value, data.value, root)
    chosen = workspace.split(split, fold=fold, store=workspace.enlarged_store())
    changes: dict[str, object] = {"seed": seed} | ({"epochs": epochs} if epochs else {})
    run = workspace.train_as_published(model, chosen, scheme, **changes)
    print(format_summary(summarise(workspace.evaluate_slices(run, chosen, by_slice=True))))
    if not chosen.by_patient:
        print(
            "Copies of test images, and other images of test patients, were in training: these scores say little of new patients."
        )
    print(run.folder)
