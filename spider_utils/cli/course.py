"""``spider-kit course``, ``run-notebook`` and ``train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from spider_utils.cli.common import Data, DataKind, Profile, ProfileName, Root
from spider_utils.models import available_models


def course(
    context: typer.Context,
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
    cores: Annotated[int, typer.Option(min=1, help="CPU cores to use.")] = 2,
    publish: Annotated[bool, typer.Option(help="Renew the committed notebooks and figures (quick, phantom).")] = False,
    sweep: Annotated[
        Path | None,
        typer.Option(help="YAML file of a sweep to run instead: many trainings, one table and report (docs/sweeps.md)."),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="Snakemake profile that runs a sweep's jobs elsewhere, such as profiles/slurm.")
    ] = None,
) -> None:
    """Run every notebook that is not up to date, and tell where the results are.

    Example: spider-kit course --profile smoke; of a sweep: spider-kit course --sweep sweeps/example.yml --cores 4
    """
    if sweep:
        named_there = ("profile", "data", "root", "publish")
        if odd := [name for name in named_there if context.get_parameter_source(name).name != "DEFAULT"]:
            raise typer.BadParameter(f"--{odd[0]} does not go with --sweep: the sweep's file names profiles and data")
        from spider_utils.sweeps.run import run_sweep

        found = run_sweep(sweep, cores, cluster)
        print(found)
        if not found.complete:
            raise typer.Exit(1)
        return
    if cluster:
        raise typer.BadParameter("--cluster runs sweeps: give --sweep too")
    from spider_utils.course import publish as publish_outputs
    from spider_utils.course import run_course

    result = run_course(profile.value, data.value, root, cores)
    print(result)
    if result.failed or result.not_run:
        raise typer.Exit(1)
    if publish:
        publish_outputs(result.workspace)


def run_one_notebook(
    source: Annotated[Path, typer.Argument(help="The notebook.")],
    out: Annotated[Path, typer.Argument(help="The executed copy.")],
    profile: Profile = ProfileName.quick,
    data: Data = DataKind.phantom,
    root: Root = None,
) -> None:
    """Execute one notebook through papermill; the original stays as it is.

    Example: spider-kit run-notebook notebooks/04_unet.ipynb build/04_unet.ipynb --profile smoke
    """
    from spider_utils.course import run_notebook

    print(f"> {source.stem} ...", flush=True)
    run_notebook(source, out, {"PROFILE": profile.value, "DATA": data.value, "ROOT": root or ""})


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
        typer.Option(
            help="none, light, field_of_view, standard, medfusion, elastic, tissue or contrasts; the profile's when left out."
        ),
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
    start_from: Annotated[
        str | None,
        typer.Option(help="Finished run to start from: of the same split, or of the phantom; not for volumes."),
    ] = None,
    score: Annotated[bool, typer.Option(help="Score the test patients' series afterwards.")] = True,
    processes: Annotated[
        int, typer.Option(min=1, help="Train in so many processes, each with a GPU of its own and its share of every batch.")
    ] = 1,
) -> None:
    """Train a network and score it on its test patients; a killed training goes on where it stopped.

    Example: spider-kit train --profile smoke --scheme levels20
    """
    from spider_utils.data.splits import Split
    from spider_utils.evaluation.statistics import format_summary, summarise
    from spider_utils.files import fingerprint
    from spider_utils.models import VOLUME_ARCHITECTURES
    from spider_utils.training.distributed import is_main_process
    from spider_utils.training.launch import train_on_all_gpus
    from spider_utils.training.runs import RunResult
    from spider_utils.workflow import SLICE_SETTINGS, VOLUME_SETTINGS, Workspace, caution, describe_settings, find_run

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
        "start_from": RunResult.open(find_run(start_from)) if start_from else None,
    }
    of_volumes = {"steps_per_epoch": steps_per_epoch, "preparation": preparation}
    sees_volumes = model in VOLUME_ARCHITECTURES
    told = {name for name, value in (given | of_volumes | {"slices": slices}).items() if value is not None}
    if odd := [name for name in (SLICE_SETTINGS if sees_volumes else VOLUME_SETTINGS) if name in told]:
        kind = "volumes" if sees_volumes else "slices"
        raise typer.BadParameter(f"'{model}' sees {kind}: it has no --{odd[0].replace('_', '-')}")
    if sees_volumes and (rows is None) != (slices is None):
        raise typer.BadParameter("give --slices, --rows and --columns together")
    changes = {name: value for name, value in (given | of_volumes).items() if value is not None}
    size = None if not rows else (slices, rows, columns) if sees_volumes else (rows, columns)
    # Named after what differs from the defaults, so that the course's own run is found, not trained again.
    named = {name: value for name, value in changes.items() if name not in ("preparation", "start_from")}
    if "start_from" in changes:
        named["start"] = fingerprint(changes["start_from"].card)[:8]

    def trained() -> tuple[Split, RunResult]:
        chosen = Split.load(split) if split.endswith(".csv") else workspace.split(split, fold=fold)
        settings = {"split": chosen, "size": size, "tag": describe_settings(chosen, seed, size=size, **named), "seed": seed}
        if sees_volumes:
            return chosen, workspace.train_volumes(model, scheme=scheme, **settings, **changes)
        if scheme == "levels20":
            return chosen, workspace.train_levels(model, **settings, **changes)
        return chosen, workspace.train(model, scheme or "structures4", **settings, **changes)

    chosen, run = train_on_all_gpus(trained, processes=processes)
    if not is_main_process():  # of `accelerate launch` or torchrun
        return
    if score:
        scores = workspace.evaluate(run, chosen)
        workspace.add_result(run, scores)
        print(format_summary(summarise(scores)))
    if said := caution(run.folder):
        print(f"note: {run.folder.name} was {said}")
    print(f"next: spider-kit predict SCAN --out masks --model {run.folder.name}")
    print(run.folder)
