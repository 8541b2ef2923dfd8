"""``spider-kit triplanar``: three planes and their fusion, and the tissues of axial slices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spider_utils.cli.common import Profile, ProfileName, as_text
from spider_utils.errors import KitError

app = typer.Typer(
    help="The source triplanar: one network a plane, fused by a small 3D network.", no_args_is_help=True, rich_markup_mode=None
)


axial_app = typer.Typer(help="Its network for the tissues of axial slices.", no_args_is_help=True, rich_markup_mode=None)


app.add_typer(axial_app, name="axial")


@app.command("train")
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


@app.command("tables")
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
        print(f"{name}:\n{as_text(table)}")
        write_csv(folder / f"{name}.csv", table)
    print("mean: over discs, then patients; low, high: 95 % over patients; gain: fused minus this, in pairs. Tables 1 and 2: in")
    print("the part of the volumes in which every disc is labelled; lowest and named: under these rules, which need no truth.")
    print(f"Masks in which nothing could be named, kept as 'lowest' instead: {fallbacks(by_rule[NAMED]).sum()}")
    print(folder)


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
        print(f"{name}:\n{as_text(table)}")
        write_csv(folder / f"{name}.csv", table)
    print(
        f"table7: mean IoU over found objects (IoU of {FOUND_IOU:g} or more), 95 % over patients; missed and false ones counted."
    )
    print("errors: measured on predicted and on true masks against the painted shapes, in mm and mm2.")
    print(folder)
