"""The command ``spider-kit``: parse, call, print. Errors are one line; exit status 2 for wrong usage, 1 for anything else."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spider_utils.errors import KitError
from spider_utils.models import CLASSIFIERS, available_models

if TYPE_CHECKING:
    import pandas as pd

    from spider_utils.data.sources import Source
    from spider_utils.data.volumes import Volume
    from spider_utils.training.runs import RunResult
    from spider_utils.workflow import Workspace

app = typer.Typer(
    help="Lumbar-spine MRI segmentation: data, course, training, prediction, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make, fetch, check and export data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
medfusion_app = typer.Typer(help="The source medfusion: its protocol and its table.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(medfusion_app, name="medfusion")
ahmed_app = typer.Typer(
    help="The source ahmed: what testing and training otherwise add.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(ahmed_app, name="ahmed")
triplanar_app = typer.Typer(
    help="The source triplanar: one network a plane, fused by a small 3D network.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(triplanar_app, name="triplanar")
classify_app = typer.Typer(
    help="The source misan: findings classified on studies of the RSNA 2024 challenge.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(classify_app, name="classify")
gradings_app = typer.Typer(
    help="What radiologists grade: their table, models of it, herniation.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(gradings_app, name="gradings")
axial_app = typer.Typer(help="Its network for the tissues of axial slices.", no_args_is_help=True, rich_markup_mode=None)
triplanar_app.add_typer(axial_app, name="axial")


class ProfileName(StrEnum):
    """How much work a run does."""

    smoke = "smoke"
    quick = "quick"
    paper = "paper"


class DataKind(StrEnum):
    """What data a run uses."""

    phantom = "phantom"
    spider = "spider"
    spider_2d = "spider-2d"


class PhantomSize(StrEnum):
    """How finely a phantom is scanned."""

    full = "full"
    small = "small"


class PhantomKind(StrEnum):
    """Which layout a phantom is written in."""

    spider = "spider"
    ivd = "ivd"
    axial = "axial"
    rsna = "rsna"


class CheckedKind(StrEnum):
    """What kind of data a folder is checked as."""

    phantom = "phantom"
    spider = "spider"
    spider_2d = "spider-2d"
    rsna = "rsna"


Profile = Annotated[ProfileName, typer.Option(help="How much work is done.")]
Data = Annotated[DataKind, typer.Option(help="phantom needs nothing; the others need --root.")]
Root = Annotated[str | None, typer.Option(help="Folder of the real data.")]


# The rooms below are imported inside each command: `--help` answers at once, without loading torch.


@data_app.command("phantom")
def data_phantom(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    patients: Annotated[
        int | None, typer.Option(min=1, help="How many patients or studies; 24, of kind ivd 16, when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same files.")] = 0,
    size: Annotated[PhantomSize, typer.Option(help="full (hospital voxel sizes) or small (coarse).")] = PhantomSize.full,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one a core, at most 4, when left out.")] = None,
    kind: Annotated[
        PhantomKind,
        typer.Option(
            help="spider (SPIDER's layout), ivd (isotropic Dixon volumes of discs, IVDM3Seg's layout), axial (T2 slices along "
            "discs with masks of their tissues) or rsna (DICOM studies with tables of severities, as in the RSNA 2024 challenge)."
        ),
    ] = PhantomKind.spider,
) -> None:
    """Generate phantoms: images, masks and tables of made-up patients.

    Example: spider-kit data phantom --out data/mine --patients 4 --seed 7
    """
    if kind == PhantomKind.ivd:
        from spider_utils.data.phantom.isotropic import IVDM3SEG_PATIENTS, VOXEL_MM, generate_disc_set

        print(generate_disc_set(out, patients or IVDM3SEG_PATIENTS, seed, jobs, VOXEL_MM[size.value], show_progress=True))
        return
    if kind == PhantomKind.axial:
        from spider_utils.data.phantom.axial_set import AXIAL_PATIENTS, generate_axial_set

        print(generate_axial_set(out, patients or AXIAL_PATIENTS, seed, jobs, size.value, show_progress=True))
        return
    if kind == PhantomKind.rsna:
        from spider_utils.data.phantom.rsna import RSNA_STUDIES, generate_rsna_set

        print(generate_rsna_set(out, patients or RSNA_STUDIES, seed, jobs, size.value, show_progress=True))
        return
    from spider_utils.data.phantom import generate_dataset

    print(generate_dataset(out, patients or 24, seed, jobs, size.value, show_progress=True))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="spider or spider-2d.")],
    root: Annotated[Path, typer.Option(help="Folder to put the data into.")],
    base_url: Annotated[str | None, typer.Option(help="Take the files from this address instead (a mirror nearby).")] = None,
    file: Annotated[list[str] | None, typer.Option(help="Only this file; may be repeated.")] = None,
) -> None:
    """Download a data set, check it and unpack it; a cut download goes on where it stopped.

    Example: spider-kit data fetch spider --root data/spider
    """
    from spider_utils.data.manifest import fetch

    print(fetch(name, root, base_url=base_url, files=file))


@data_app.command("verify")
def data_verify(
    root: Annotated[Path, typer.Argument(help="The data folder.")],
    kind: Annotated[CheckedKind | None, typer.Option(help="Found out when left out.")] = None,
    deep: Annotated[
        bool, typer.Option(help="Read every voxel (rsna: the header of every slice with a point), or names and tables only.")
    ] = True,
) -> None:
    """List what is missing, corrupt, unpaired or mislabelled. Exit status 1 when there is an error.

    Example: spider-kit data verify data/spider
    """
    from spider_utils.data.verify import format_findings, verify

    findings = verify(kind.value if kind else None, root, deep=deep, progress=True)
    print(format_findings(findings, root))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@data_app.command("export-slices")
def data_export_slices(
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")],
    data: Data = DataKind.phantom,
    root: Root = None,
    profile: Profile = ProfileName.quick,
    rows: Annotated[int | None, typer.Option(min=8, help="Rows of a slice; the profile's when left out.")] = None,
    columns: Annotated[int | None, typer.Option(min=8, help="Columns of a slice.")] = None,
    scheme: Annotated[str | None, typer.Option(help="Label scheme of the masks; as stored when left out.")] = None,
) -> None:
    """Write sagittal slices and masks as PNG files, to look at and to share.

    Example: spider-kit data export-slices --out slices --scheme structures4 --rows 256 --columns 256
    """
    from spider_utils.data.slices import export_png
    from spider_utils.workflow import Workspace

    if (rows is None) != (columns is None):
        raise typer.BadParameter("give --rows and --columns together")
    print(export_png(Workspace.open(profile.value, data.value, root).store((rows, columns) if rows else None), out, scheme))


@app.command("course")
def course(
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    cores: Annotated[int, typer.Option(min=1, help="CPU cores to use.")] = 2,
    publish: Annotated[bool, typer.Option(help="Renew the committed notebooks and figures (quick, phantom).")] = False,
) -> None:
    """Run every notebook that is not up to date, and tell where the results are.

    Example: spider-kit course --profile smoke
    """
    from spider_utils.course import publish as publish_outputs
    from spider_utils.course import run_course

    result = run_course(profile.value, data.value, root, cores)
    print(result)
    if result.failed or result.not_run:
        raise typer.Exit(1)
    if publish:
        publish_outputs(result.workspace)


@app.command("run-notebook")
def run_one_notebook(
    source: Annotated[Path, typer.Argument(help="The notebook.")],
    out: Annotated[Path, typer.Argument(help="The executed copy.")],
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
) -> None:
    """Execute one notebook through papermill; the original stays as it is.

    Example: spider-kit run-notebook notebooks/04_unet.ipynb out/04_unet.ipynb --profile smoke
    """
    from spider_utils.course import run_notebook

    print(f"> {source.stem} ...", flush=True)
    run_notebook(source, out, {"PROFILE": profile.value, "DATA": data.value, "ROOT": root or ""})


def _runs_of(workspace: Workspace, names: list[str]) -> list[RunResult]:
    """Finished runs by folder or name, refused before anything is computed when they belong to another profile or data."""
    from spider_utils.training.runs import RunResult
    from spider_utils.workflow import find_run

    folders = [find_run(name) for name in names]
    if odd := next((folder.name for folder in folders if not folder.name.startswith(f"{workspace.name}-")), None):
        made = f"--profile {workspace.profile.name} --data {workspace.data}"
        raise typer.BadParameter(f"run '{odd}' was not made with {made}: give its own")
    return [RunResult.open(folder) for folder in folders]


def _as_text(table: pd.DataFrame, digits: int = 4) -> str:
    """A table for the terminal: means with so many digits, counts as whole numbers, "-" where there is none."""
    counts = {name: "Int64" for name in ("n", "patients", "slices", "runs") if name in table}
    return table.astype(counts).to_string(index=False, float_format=f"{{:.{digits}f}}".format, na_rep="-").replace("<NA>", "   -")


def _json_object(name: str, text: str | None) -> dict[str, object] | None:
    """The object that an option's JSON text holds."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        found = error
    if not isinstance(found, dict):
        raise typer.BadParameter(f'{name} must be a JSON object such as {{"encoder": "resnet34"}}, not {text!r}')
    return found


@app.command("train")
def train(
    model: Annotated[str, typer.Option(help=f"Architecture: {', '.join(available_models())}.")] = "unet",
    scheme: Annotated[
        str | None, typer.Option(help="Label scheme to learn: structures4 (when left out) or levels20 (for unetr when left out).")
    ] = None,
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    split: Annotated[
        str,
        typer.Option(
            help="kfold5, seed70-5-25, official; by slice, to see a leak: leaky-kfold5 ...; or a CSV file under build/."
        ),
    ] = "kfold5",
    fold: Annotated[int, typer.Option(help="Fold of kfold5, 0 to 4.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the weights, the order of slices and the augmentation.")] = 0,
    rows: Annotated[int | None, typer.Option(min=32, help="Rows of a slice, or of volumes; the profile's when left out.")] = None,
    columns: Annotated[int | None, typer.Option(min=32, help="Columns of a slice.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="The profile's when left out.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="The profile's when left out.")] = None,
    samples_per_epoch: Annotated[int | None, typer.Option(min=1, help="Slices an epoch; the profile's when left out.")] = None,
    early_stop_patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better validation score; never when left out.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="The profile's when left out.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="dice_ce (when left out), focal4_dice, focal0.4_dice, dice, ce or monai_dice_ce.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="none, light, field_of_view, standard, medfusion, elastic or tissue; the profile's when left out."),
    ] = None,
    slice_gap_mm: Annotated[float | None, typer.Option(min=0, help="Least distance of training slices; 0 takes all.")] = None,
    crop_columns: Annotated[int | None, typer.Option(min=0, help="Train on strips of this width; 0: whole slices.")] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=1, help="Slices on each side that the network sees as well (2.5D); none when left out.")
    ] = None,
    slices: Annotated[int | None, typer.Option(min=16, help="Of the grid of volumes, with --rows and --columns.")] = None,
    steps_per_epoch: Annotated[int | None, typer.Option(min=1, help="Of volumes; the profile's when left out.")] = None,
    preparation: Annotated[
        Literal["mended", "as_printed"] | None,
        typer.Option(help="Of volumes: mended (when left out), or as_printed (window for CT, clamped labels)."),
    ] = None,
    options: Annotated[
        str | None,
        typer.Option(help='Of the architecture, as JSON: \'{"encoder": "resnet34"}\'; the profile\'s when left out.'),
    ] = None,
    score: Annotated[bool, typer.Option(help="Score the test patients' series afterwards.")] = True,
) -> None:
    """Train a network and score it on its test patients; a killed training goes on where it stopped.

    Example: spider-kit train --profile smoke --scheme levels20
    """
    from spider_utils.data.splits import Split
    from spider_utils.evaluation.statistics import format_summary, summarise
    from spider_utils.models import VOLUME_ARCHITECTURES
    from spider_utils.workflow import Workspace, describe_settings

    if (rows is None) != (columns is None):
        raise typer.BadParameter("give --rows and --columns together")
    workspace = Workspace.open(profile.value, data.value, root)
    given = {
        "epochs": epochs,
        "early_stop_patience": early_stop_patience,
        "batch_size": batch_size,
        "samples_per_epoch": samples_per_epoch,
        "learning_rate": learning_rate,
        "loss": loss,
        "augment": augment,
        "slice_gap_mm": slice_gap_mm,
        "crop_columns": crop_columns,
        "neighbours": neighbours,
        "options": _json_object("--options", options),
    }
    of_volumes, of_slices = {"steps_per_epoch": steps_per_epoch, "preparation": preparation}, {"slice_gap_mm", "crop_columns"}
    of_slices |= {"neighbours", "samples_per_epoch"}
    sees_volumes = model in VOLUME_ARCHITECTURES
    unfit = [name for name, value in (given if sees_volumes else of_volumes | {"slices": slices}).items() if value is not None]
    if odd := [name for name in unfit if not sees_volumes or name in of_slices]:
        kind = "volumes" if sees_volumes else "slices"
        raise typer.BadParameter(f"'{model}' sees {kind}: it has no --{odd[0].replace('_', '-')}")
    if sees_volumes and (rows is None) != (slices is None):
        raise typer.BadParameter("give --slices, --rows and --columns together")
    changes = {name: value for name, value in (given | of_volumes).items() if value is not None}
    size = None if not rows else (slices, rows, columns) if sees_volumes else (rows, columns)
    chosen = Split.load(split) if split.endswith(".csv") else workspace.split(split, fold=fold)
    # Named after what differs from the defaults, so that the course's own run is found, not trained again.
    tag = describe_settings(chosen, seed, size=size, **{name: value for name, value in changes.items() if name != "preparation"})
    settings = {"split": chosen, "size": size, "tag": tag, "seed": seed, **changes}
    if sees_volumes:
        run = workspace.train_volumes(model, scheme=scheme, **settings)
    elif scheme == "levels20":
        run = workspace.train_levels(model, **settings)
    else:
        run = workspace.train(model, scheme or "structures4", **settings)
    if score:
        scores = workspace.evaluate(run, chosen)
        workspace.add_result(run, scores)
        print(format_summary(summarise(scores)))
    print(run.folder)


@medfusion_app.command("table")
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
        opened = _runs_of(workspace, runs)
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


@medfusion_app.command("protocol")
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


@ahmed_app.command("ladder")
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
    from spider_utils.files import write_csv
    from spider_utils.view.plots import bar_with_intervals, save_figure
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value, data.value, root)
    ladder = Ladder.of(workspace, _runs_of(workspace, runs))
    table, folder = ladder.table(), out or workspace.build / "ahmed"
    print(_as_text(table))
    print("gain: to the row before, paired over the patients of both; [low, high]: 95 % interval over patients.")
    print(f"split by slice minus by patient, on the very same slices: {ladder.leak()}")
    write_csv(folder / "ladder.csv", table)
    title = f"From an honest score to the printed one: {workspace.data}"
    figure = bar_with_intervals(table, label="rung", xlabel="mean Dice (95 % interval over patients)", title=title)
    print(folder / "ladder.csv", save_figure(figure, folder / "ladder", figure.caption), sep="\n")


@ahmed_app.command("choices")
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
    from spider_utils.files import write_csv
    from spider_utils.labels import get_scheme
    from spider_utils.view.plots import bar_with_intervals, save_figure
    from spider_utils.workflow import Workspace

    scheme = get_scheme("structures4")
    workspace = Workspace.open(profile.value, data.value, root)
    chosen = Choices(workspace, _runs_of(workspace, runs), mirror, mean, subset)
    printed, folder = printed_dice(set(workspace.source.cases["sequence"])), out or workspace.build / "ahmed"
    table = pd.concat([chosen.table(), printed], ignore_index=True)
    print(_as_text(table))
    print(
        "gain: to the base, paired over patients; low, high: 95 % over patients, not over trainings: another seed may differ too."
    )
    write_csv(folder / "choices.csv", table)
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


@triplanar_app.command("train")
def triplanar_train(
    profile: Profile = ProfileName.quick,
    fold: Annotated[int, typer.Option(min=0, max=3, help="Which of the four folds.")] = 0,
    lessons: Annotated[
        bool, typer.Option("--lessons", help="Instead: networks of fewer patients, and of images with unlabelled discs.")
    ] = False,
) -> None:
    """Train the three networks of a fold of the disc phantom, and what fuses them.

    Example: spider-kit triplanar train --profile smoke --fold 0
    """
    from spider_utils.triplanar import TriplanarStudy
    from spider_utils.triplanar.lessons import train_lessons
    from spider_utils.workflow import Workspace

    study = TriplanarStudy.open(Workspace.open(profile.value))
    if fold >= len(study.folds):
        raise KitError(f"profile {profile.value} does {len(study.folds)} fold(s), numbered from 0: there is no fold {fold}")
    runs = train_lessons(study) if lessons else study.train_fold(study.folds[fold])
    print(*(run.folder for run in runs), sep="\n")


@triplanar_app.command("tables")
def triplanar_tables(
    profile: Profile = ProfileName.quick,
    real: Annotated[
        Path | None, typer.Option(help="Folder of isotropic T2 volumes (IVD_*): leave one out instead of the phantom's folds.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables; build/<profile>-phantom/triplanar when left out.")
    ] = None,
) -> None:
    """The source's Tables 1 and 2, printed beside measured: each plane and the fused three, then disc by disc.

    Example: spider-kit triplanar tables --profile smoke
    """
    from spider_utils.data.discs import open_disc_set
    from spider_utils.files import write_csv
    from spider_utils.triplanar import LOWEST, NAMED, TriplanarStudy, fallbacks, table1, table2
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value)
    if real is None:
        study = TriplanarStudy.open(workspace)
    else:
        study = TriplanarStudy.leave_one_out(workspace, open_disc_set("isotropic", real), workspace.profile.disc_voxel_mm)
    folder = out or workspace.build / ("triplanar" if real is None else "triplanar-isotropic")
    scores, by_rule = study.scores(), {rule: study.scores(rule=rule) for rule in (LOWEST, NAMED)}
    tables = {"table1": table1(scores), "table2": table2(scores)}
    tables |= {f"table1-{rule}": table1(found) for rule, found in by_rule.items()}
    for name, table in tables.items():
        print(f"{name}:\n{_as_text(table)}")
        write_csv(folder / f"{name}.csv", table)
    print("mean: over discs, then patients; low, high: 95 % over patients; gain: fused minus this, in pairs. Tables 1 and 2: in")
    print("the part of the volumes in which every disc is labelled; lowest and named: under these rules, which need no truth.")
    print(f"Masks in which nothing could be named, kept as 'lowest' instead: {fallbacks(by_rule[NAMED]).sum()}")
    print(folder)


RsnaRoot = Annotated[Path | None, typer.Option(help="Folder in the challenge's layout; the profile's phantom when left out.")]


@classify_app.command("labels")
def classify_labels(profile: Profile = ProfileName.quick, root: RsnaRoot = None) -> None:
    """What the tables ask for, and the highest accuracy that anything which sees whole slices alone can reach.

    Needs the tables alone, no image.

    Example: spider-kit classify labels --profile smoke
    """
    import pandas as pd

    from spider_utils.data.rsna_tables import read_tables
    from spider_utils.findings import ceiling_of_share, ceilings, labelled_points
    from spider_utils.workflow import Workspace

    folder = root if root is not None else Workspace.open(profile.value).rsna().root
    points = labelled_points(read_tables(folder))
    print(points.groupby(["description", "condition", "grade"]).size().unstack(fill_value=0).to_string())
    print("grade: 0 Normal/Mild, 1 Moderate, 2 Severe\n")
    print(_as_text(ceilings(points)))
    print("highest: accuracy when every slice gets its most frequent label; a slice that holds several points has one answer.")
    print("On a random part of the points alone, as a split by sample tests them (mean of five parts):")
    print(_as_text(pd.concat(ceiling_of_share(points, share) for share in (0.2, 0.15, 0.1)), 3))


@classify_app.command("train")
def classify_train(
    network: Annotated[str | None, typer.Option(help=f"{', '.join(CLASSIFIERS)}; the profile's first when left out.")] = None,
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
    print(_as_text(study.scores(run)))
    print(run.folder)


@classify_app.command("score")
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
    print(_as_text(table, 3))
    print(
        "loss: of both printed heads on test samples; auc: mean of each class against the rest; low, high: 95 % over studies.\n"
    )
    print(_as_text(study.shortcut(BY_STUDY), 3))
    for run in runs:
        if run.card["protocol"] == PROTOCOLS["mended"].name:
            print(f"\n{run.folder.name}, weighted log loss (lower is better):\n{_as_text(study.challenge_score(run), 3)}")
    write_csv(path, table)
    print(path)


@gradings_app.command("table")
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
        print(f"{name}:\n{_as_text(tables[name], 3)}\n")
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


@gradings_app.command("models")
def gradings_models(
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Annotated[
        Path | None, typer.Option(help="Any folder in SPIDER's layout, a phantom set too; the course's when left out.")
    ] = None,
    masks: GivenMasks = None,
    scheme: Annotated[str, typer.Option(help="Scheme of those masks: spider or levels20.")] = "spider",
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
    print(_as_text(aucs, 3))
    _write_gradings(folder, {"scores": scores, "predictions": predictions, "gains": gained})


@gradings_app.command("herniation")
def gradings_herniation(
    profile: Profile = ProfileName.quick,
    root: Annotated[Path | None, typer.Option(help="A phantom set; the course's when left out.")] = None,
    masks: GivenMasks = None,
    scheme: Annotated[str, typer.Option(help="Scheme of those masks: spider or levels20.")] = "spider",
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
        print(f"{name}:\n{_as_text(one, 3)}\n")
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


@axial_app.command("train")
def triplanar_axial_train(
    profile: Profile = ProfileName.quick,
    fold: Annotated[int | None, typer.Option(min=0, max=4, help="One fold of five; all of the profile's when left out.")] = None,
) -> None:
    """Train the network for disc, hernia, dural sac, joints, ligament, spinous process and vertebra on the axial phantom.

    Example: spider-kit triplanar axial train --profile smoke
    """
    from spider_utils.triplanar.axial import AxialStudy
    from spider_utils.workflow import Workspace

    study = AxialStudy.open(Workspace.open(profile.value))
    for number in range(study.settings.folds) if fold is None else [fold]:
        print(study.train(number).folder)


@axial_app.command("tables")
def triplanar_axial_tables(
    profile: Profile = ProfileName.quick,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables; build/<profile>-phantom/triplanar-axial when left out.")
    ] = None,
) -> None:
    """The source's Table 7, printed beside measured; which slices show a hernia; errors of what is measured on the slices.

    Example: spider-kit triplanar axial tables --profile smoke
    """
    from spider_utils.evaluation.objects import FOUND_IOU
    from spider_utils.files import write_csv
    from spider_utils.triplanar.axial import AxialStudy, errors, herniated_slices, table7
    from spider_utils.workflow import Workspace

    workspace = Workspace.open(profile.value)
    study, folder = AxialStudy.open(workspace), out or workspace.build / "triplanar-axial"
    found, true = (study.measurements(masks) for masks in ("predicted", "true"))
    tables = {"table7": table7(study.objects()), "herniated-slices": herniated_slices(found, true)}
    tables |= {"errors-predicted": errors(found), "errors-true": errors(true)}
    for name, table in tables.items():
        print(f"{name}:\n{_as_text(table)}")
        write_csv(folder / f"{name}.csv", table)
    print(
        f"table7: mean IoU over found objects (IoU of {FOUND_IOU:g} or more), 95 % over patients; missed and false ones counted."
    )
    print("errors: measured on predicted and on true masks against the painted shapes, in mm and mm2.")
    print(folder)


@app.command("predict")
def predict(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image file, folder of images, or folder of one DICOM series.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks; they keep the input's name and geometry.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or name of a run; when left out, of those with the newest one's data and split the best in validation."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_drawn: Annotated[
        bool,
        typer.Option(
            "--as-drawn",
            help="Leave levels voxel by voxel as the network draws them; without it each vertebra and disc gets one number.",
        ),
    ] = False,
) -> None:
    """Segment an image or a folder of images.

    Example: spider-kit predict scan.mha --out masks --model quick-phantom-unet-structures4
    """
    start = time.monotonic()
    from spider_utils.predict import WholeVolumePredictor, find_inputs, load_predictor, predict_path
    from spider_utils.workflow import find_run

    find_inputs(source)  # a wrong path is said before a model is loaded
    folder = find_run(model)
    predictor = load_predictor(folder, device)
    predictor.whole_parts = not as_drawn
    print(f"model: {folder.name}, masks in scheme {predictor.scheme}", flush=True)
    if isinstance(predictor, WholeVolumePredictor):
        print(f"it labels {predictor.reach}", flush=True)
    masks = predict_path(source, out, predictor)
    print(*masks, sep="\n")
    images = "1 image" if len(masks) == 1 else f"{len(masks)} images"
    print(f"{images} segmented in {time.monotonic() - start:.1f} s, with loading the model, reading and writing")


def _length(text: str) -> float:
    """One of two lengths: says what to write when somebody joins them by a comma."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no number. Give two numbers with a space between, such as 0.6 0.6") from None


PixelSize = Annotated[
    tuple[float, float] | None,
    typer.Option(
        parser=_length,
        metavar="ROW COLUMN",
        help="Pixel size in mm of a .png or .jpg mask, which stores none: two numbers with a space between; 1 1 when left out.",
    ),
]


@app.command("evaluate")
def evaluate(
    truth: Annotated[Path, typer.Option(help="Folder of ground-truth masks.")],
    pred: Annotated[Path, typer.Option(help="Folder of predicted masks of the same names.")],
    scheme: Annotated[str, typer.Option(help="Label scheme of the predictions.")],
    out: Annotated[Path, typer.Option(help="CSV to write; a summary is written beside it.")],
    truth_scheme: Annotated[str | None, typer.Option(help="Label scheme of the ground truth when it differs.")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the NSD in mm.")] = 1.0,
    spacing_mm: PixelSize = None,
) -> None:
    """Score predicted masks against the ground truth: Dice, IoU, precision, recall, ASD, HD95, NSD with intervals.

    Example: spider-kit evaluate --truth masks --pred out --scheme structures4 --truth-scheme spider --out scores.csv
    """
    from spider_utils.evaluation.folders import evaluate_folders, summary_path
    from spider_utils.evaluation.statistics import format_summary

    # An option of two values that is left out arrives as an empty tuple or None, depending on typer's version.
    _, summary = evaluate_folders(
        truth, pred, scheme, out, tolerance_mm=tolerance_mm, truth_scheme=truth_scheme, spacing_mm=spacing_mm or None
    )
    print(format_summary(summary))
    print(f"{out}\n{summary_path(out)}")


def _read_mask(path: Path, spacing_mm: tuple[float, float] | None) -> Volume:
    """A mask; a picture's pixel size as it is given, or with a warning that none is."""
    from spider_utils.data.volumes import PICTURE_SUFFIXES, read_mask, suffix_of, with_pixel_size

    volume = read_mask(path)
    if spacing_mm:  # left out, it arrives as an empty tuple or None, depending on typer's version
        return with_pixel_size(volume, spacing_mm)
    if suffix_of(path) in PICTURE_SUFFIXES:
        warnings.warn(f"{path} stores no pixel size: 1 x 1 mm is taken; give it by --spacing-mm ROW COLUMN", stacklevel=1)
    return volume


@app.command("levels")
def levels(
    mask: Annotated[Path, typer.Argument(dir_okay=False, help="Mask of classes: a volume, or one sagittal slice as PNG.")],
    out: Annotated[
        Path, typer.Option(help="Mask to write, in scheme spider and in the input's grid; the table beside it as CSV.")
    ],
    scheme: Annotated[
        str,
        typer.Option(help="Label scheme of the mask, such as released_gray; or discs or vertebrae when all but 0 is that."),
    ] = "structures4",
    count_from: Annotated[
        str,
        typer.Option(
            help="lowest: the lowest part in view is level 1. own (of a mask with levels): what most voxels' numbers say."
        ),
    ] = "lowest",
    spacing_mm: PixelSize = None,
) -> None:
    """Number discs and vertebrae from below, and name them: which disc is L4/L5.

    Example: spider-kit levels masks/scan.mha --out levels/scan.mha
    """
    from spider_utils.data.volumes import stem_of, write_volume
    from spider_utils.files import write_csv
    from spider_utils.measure.levels import name_levels

    volume = _read_mask(mask, spacing_mm)
    flat = len(volume.array) == 1
    array, spacing = (volume.array[0], volume.spacing[1:]) if flat else (volume.array, volume.spacing)
    result = name_levels(array, spacing, scheme, count_from=count_from)
    written = write_volume(volume.with_array(result.mask.reshape(volume.array.shape)), out)
    table = out.with_name(f"{stem_of(out)}.csv")
    write_csv(table, result.table)
    print(f"{result.table.to_string(index=False)}\n\n{result}\n{written}\n{table}")


@app.command("measure")
def measure(
    mask: Annotated[Path, typer.Argument(help="Mask with levels: a volume, or one mid-sagittal slice as PNG.")],
    image: Annotated[Path | None, typer.Option(help="Its image, for the discs' signal.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write: level, label, quantity, value, unit, status.")] = None,
    scheme: Annotated[
        str, typer.Option(help="spider or levels20; of classes alone `spider-kit levels` makes spider.")
    ] = "spider",
    spacing_mm: PixelSize = None,
) -> None:
    """Measure discs, vertebrae, canal, slips, curvature and hernias in mm and degrees.

    Example: spider-kit measure masks/scan.mha --image images/scan.mha --out measurements/scan.csv
    """
    from spider_utils.data.volumes import check_same_geometry, read_volume, with_pixel_size
    from spider_utils.files import write_csv
    from spider_utils.measure import report

    volume = _read_mask(mask, spacing_mm)
    picture = None if image is None else read_volume(image)
    if picture is not None and spacing_mm:
        picture = with_pixel_size(picture, spacing_mm)
    if picture is not None:
        check_same_geometry(picture, volume)
    flat = len(volume.array) == 1
    at = 0 if flat else slice(None)
    spacing = volume.spacing[1:] if flat else volume.spacing
    table = report.measure(volume.array[at], spacing, None if picture is None else picture.array[at], scheme)
    print(report.format_measurements(table))
    if out is not None:
        write_csv(out, table)
        print(out)


def main() -> None:
    """Entry point: every error that a user can act on is one line on the standard error stream."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        app()
    except (KitError, ValueError) as error:  # ValueError: an argument that a room refuses, such as an unknown scheme
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(
            f"error: {error.filename or 'file system'}: {error.strerror or error}. Check the path and the disk.", file=sys.stderr
        )
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        # torch: OutOfMemoryError on a GPU, a plain RuntimeError on a CPU.
        if isinstance(error, RuntimeError) and not re.search(r"out of memory|can't allocate memory", str(error)):
            raise
        print("error: not enough memory. Close other programs, or use a smaller profile or slice size.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
