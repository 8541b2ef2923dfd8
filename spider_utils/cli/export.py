"""``spider-kit export``: masks and networks for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spider_utils.cli.common import SchemeName

app = typer.Typer(
    help="Out into other tools: DICOM SEG, colour tables of viewers, ONNX.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("seg")
def export_seg(
    mask: Annotated[Path, typer.Argument(dir_okay=False, help="Mask of the series, as `spider-kit predict` writes it.")],
    series: Annotated[Path, typer.Option(help="Folder of the DICOM series that it was made of, or one .dcm file.")],
    out: Annotated[Path, typer.Option(help="The .dcm file to write, in another folder than the series.")],
    scheme: Annotated[SchemeName, typer.Option(help="Label scheme of the mask.")],
    model: Annotated[str | None, typer.Option(help="Folder or name of the run that made it, to be named in the file.")] = None,
) -> None:
    """Write a mask as DICOM SEG: coded anatomy, colours, references to the slices; patient and study as in the series.

    Example: spider-kit export seg build/masks/scan.nii.gz --series scan --scheme levels20 --out build/seg/scan.dcm
    """
    from spider_utils.data.volumes import read_mask
    from spider_utils.export.dicom_seg import Algorithm, write_dicom_seg
    from spider_utils.workflow import find_run

    algorithm = Algorithm() if model is None else Algorithm.of_run(find_run(model))
    print(write_dicom_seg(read_mask(mask), series, out, scheme.value, algorithm))


@app.command("colors")
def export_colors(
    scheme: Annotated[SchemeName, typer.Argument(help="Label scheme.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables, such as that of the masks.")],
) -> None:
    """Write a scheme's names and colours for 3D Slicer (.ctbl) and ITK-SNAP (label descriptions).

    Example: spider-kit export colors levels20 --out build/masks
    """
    from spider_utils.export.color_tables import write_color_tables

    print(*write_color_tables(scheme.value, out), sep="\n")


@app.command("onnx")
def export_onnx(
    run: Annotated[str, typer.Argument(help="Folder or name of a run.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
) -> None:
    """Write a trained network as ONNX, with what must be known in its metadata, and compare it with torch.

    Example: spider-kit export onnx quick-phantom-unet-structures4 --out build/unet.onnx
    """
    from spider_utils.export.onnx_model import export_onnx as export
    from spider_utils.training.checkpoints import read_card
    from spider_utils.workflow import find_run

    folder = find_run(run)
    done = export(folder, out)
    print(
        f"onnxruntime and torch on random images: probabilities differ by at most {done.largest_difference:.1e}, "
        f"the top class agrees in {100 * done.same_class:.4f} % of pixels"
    )
    if "second_opinion" in read_card(folder):
        print(f"note: the file holds {folder.name} alone, without the second opinion that it asks in `predict`")
    print(done.path)
