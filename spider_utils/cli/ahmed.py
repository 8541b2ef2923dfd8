"""``spider-kit ahmed``: what testing and training otherwise add."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Literal

import typer

from spider_utils.cli.common import Data, DataKind, Profile, ProfileName, Root, as_text, runs_of, write_table

app = typer.Typer(help="The source ahmed: what testing and training otherwise add.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ladder")
def ahmed_ladder(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs of one architecture, by patient and by slice.")],
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for ladder.csv and its figure; build/<profile>-<data>/ahmed when left out.")
    ] = None,
) -> None:
    """From a score on unknown patients to the printed one: what each choice in testing adds.

    The runs differ in split and seed alone, and saw all slices: train them with --slice-gap-mm 0, once with --split kfold5, once
    with --split leaky-kfold5.

    Example: spider-kit ahmed ladder quick-phantom-unet-structures4-slicegapmm0.0
    quick-phantom-unet-structures4-leaky-kfold5-fold0-slicegapmm0.0
    """
    from spider_utils.ahmed import Ladder
    from spider_utils.view.ahmed_plots import ladder as draw_ladder
    from spider_utils.view.plots import save_figure
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value, data.value, root)
    ladder = Ladder.of(workspace, runs_of(workspace, runs))
    table, folder = ladder.table(), out or workspace.build / "ahmed"
    print(as_text(table))
    print("gain: to the row before, paired over the patients of both; [low, high]: 95 % interval over patients.")
    print(f"split by slice minus by patient, on the very same slices: {ladder.leak()}")
    write_table(folder / "ladder.csv", table)
    title = f"From an honest score to the printed one: {workspace.data}"
    figure = draw_ladder(table, title)
    print(folder / "ladder.csv", save_figure(figure, folder / "ladder", figure.caption), sep="\n")


@app.command("choices")
def ahmed_choices(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs of one split by patient; the first is the base.")],
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also the base with mirrored slices averaged in (for networks trained with flips).")
    ] = False,
    mean: Annotated[bool, typer.Option("--mean", help="Also the mean of all runs' probabilities.")] = False,
    subset: Annotated[Literal["test", "val"], typer.Option(help="test to report, val to choose.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder for choices.csv and its figure; build/<profile>-<data>/ahmed when left out.")
    ] = None,
) -> None:
    """Networks that were trained otherwise, compared with the first on the same patients, with the printed scores beside them.

    Example: spider-kit ahmed choices quick-phantom-unet-structures4 quick-phantom-resunet-structures4 --mean
    """
    import numpy as np
    import pandas as pd

    from spider_utils.ahmed import printed_dice
    from spider_utils.choices import Choices
    from spider_utils.evaluation.statistics import FOREGROUND_NAME
    from spider_utils.labels import get_scheme
    from spider_utils.view.plots import bar_with_intervals, save_figure
    from spider_utils.workflow import Workspace

    scheme = get_scheme("structures4")
    workspace = Workspace.open(profile.value, data.value, root)
    chosen = Choices(workspace, runs_of(workspace, runs), mirror, mean, subset)
    printed, folder = printed_dice(set(workspace.source.cases["sequence"])), out or workspace.build / "ahmed"
    table = pd.concat([chosen.table(), printed], ignore_index=True)
    print(as_text(table))
    print(
        "gain: to the base, paired over patients; low, high: 95 % over patients, not over trainings: another seed may differ too."
    )
    write_table(folder / "choices.csv", table)
    figure = bar_with_intervals(
        table.assign(choice=table["choice"].map(lambda title: textwrap.fill(title, 32))).rename(columns={"name": "class"}),
        label="choice",
        group="class",
        xlabel=f"mean Dice of {subset} series (95 % over patients)",
        title=f"Networks trained otherwise: {workspace.data}",
        colors={name: np.array(scheme.colors[value]) / 255 for value, name in scheme.names.items()}
        | {FOREGROUND_NAME: "#777777"},
    )
    print(folder / "choices.csv", save_figure(figure, folder / "choices", figure.caption), sep="\n")
