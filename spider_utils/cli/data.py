"""``spider-kit data``: make, fetch, check and export data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spider_utils.cli.common import Data, DataKind, Profile, ProfileName, Root, SchemeName
from spider_utils.errors import KitError

app = typer.Typer(help="Make, fetch, check and export data.", no_args_is_help=True, rich_markup_mode=None)


class PhantomSize(StrEnum):
    """How finely a phantom is scanned."""

    full = "full"
    small = "small"


class PhantomLooks(StrEnum):
    """What a phantom's scans look like."""

    hospital = "hospital"
    random = "random"


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


@app.command("reorient")
def data_reorient(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A series whose header does not say how its axes lie.")],
    orientation: Annotated[
        str,
        typer.Option(
            help="Where the file's axes really go, the one that changes fastest first: L or R, A or P, I or S, such as PIR "
            "(columns to posterior, rows to inferior, slices to right). Left and right cannot be seen in a picture."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write: .mha, .nii.gz or .nrrd.")],
) -> None:
    """Write a copy of a series with a header that says how its axes really lie; its voxels stay as they are.

    Example: spider-kit data reorient scan.mha --orientation PIR --out build/scan.mha
    """
    from dataclasses import replace

    from spider_utils.data.volumes import kit_direction, read_volume, write_volume

    if out.resolve() == image.resolve():
        raise typer.BadParameter("the copy would overwrite the image: choose another file", param_hint="--out")
    try:
        volume = read_volume(image, orientation.upper())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--orientation") from error
    print(write_volume(replace(volume, direction=kit_direction(), stored=None), out))


@app.command("phantom")
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
    looks: Annotated[
        PhantomLooks,
        typer.Option(
            help="Of kind spider: as hospitals scan, or random contrasts, coils, resolution and artefacts to learn from."
        ),
    ] = PhantomLooks.hospital,
) -> None:
    """Generate phantoms: images, masks and tables of made-up patients.

    Example: spider-kit data phantom --out data/mine --patients 4 --seed 7
    """
    from spider_utils.locks import maker_lock

    with maker_lock(out):  # the course may be making a phantom of this name
        print(_generate(kind, out, patients, seed, jobs, size.value, looks.value))


def _generate(kind: PhantomKind, out: Path, patients: int | None, seed: int, jobs: int | None, size: str, looks: str) -> Path:
    """The folder of a new phantom of this kind."""
    if looks != PhantomLooks.hospital and kind != PhantomKind.spider:
        raise KitError(f"only phantoms of kind spider have {looks} looks, not {kind.value}. Leave --looks out")
    if kind == PhantomKind.ivd:
        from spider_utils.data.phantom.isotropic import IVDM3SEG_PATIENTS, VOXEL_MM, generate_disc_set

        return generate_disc_set(out, patients or IVDM3SEG_PATIENTS, seed, jobs, VOXEL_MM[size], show_progress=True)
    if kind == PhantomKind.axial:
        from spider_utils.data.phantom.axial_set import AXIAL_PATIENTS, generate_axial_set

        return generate_axial_set(out, patients or AXIAL_PATIENTS, seed, jobs, size, show_progress=True)
    if kind == PhantomKind.rsna:
        from spider_utils.data.phantom.rsna import RSNA_STUDIES, generate_rsna_set

        return generate_rsna_set(out, patients or RSNA_STUDIES, seed, jobs, size, show_progress=True)
    from spider_utils.data.phantom import generate_dataset

    return generate_dataset(out, patients or 24, seed, jobs, size, show_progress=True, looks=looks)


@app.command("fetch")
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


@app.command("verify")
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


@app.command("mend")
def data_mend(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the released T2_SPACE slices (spider-2d).")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write a copy of the released slices in whose masks discs are not lined with thin pieces of canal any more.

    Example: spider-kit data mend data/spider-2d --out data/spider-2d-mended
    """
    from spider_utils.data.mend import mended_series, write_mended
    from spider_utils.data.sources import open_source

    folder = write_mended(open_source("spider-2d", root), out)
    mended = mended_series(folder).values()
    pieces, pixels = sum(one.pieces for one in mended), sum(one.pixels for one in mended)
    print(f"{folder}: {pieces} pieces of canal ({pixels} pixels) of {len(mended)} patients became background")


@app.command("prepare")
def data_prepare(profile: Profile = ProfileName.quick, data: Data = DataKind.phantom, root: Root = None) -> None:
    """Make what every training of a profile needs, the phantom and its slices, before several begin side by side.

    Example: spider-kit data prepare --profile smoke
    """
    from spider_utils.workflow import Workspace

    print(Workspace.open(profile.value, data.value, root).store())


@app.command("export-slices")
def data_export_slices(
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")],
    data: Data = DataKind.phantom,
    root: Root = None,
    profile: Profile = ProfileName.quick,
    rows: Annotated[int | None, typer.Option(min=8, help="Rows of a slice; the profile's when left out.")] = None,
    columns: Annotated[int | None, typer.Option(min=8, help="Columns of a slice.")] = None,
    scheme: Annotated[SchemeName | None, typer.Option(help="Label scheme of the masks; as stored when left out.")] = None,
) -> None:
    """Write sagittal slices and masks as PNG files, to look at and to share.

    Example: spider-kit data export-slices --out build/slices --scheme structures4 --rows 256 --columns 256
    """
    from spider_utils.data.slices import export_png
    from spider_utils.workflow import Workspace

    if (rows is None) != (columns is None):
        raise typer.BadParameter("give --rows and --columns together")
    store = Workspace.open(profile.value, data.value, root).store((rows, columns) if rows else None)
    print(export_png(store, out, scheme.value if scheme else None))
