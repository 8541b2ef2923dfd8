"""``spider-kit predict``, ``evaluate``, ``levels`` and ``measure``: from an image to a mask to numbers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spider_utils.cli.common import PixelSize, SchemeName
from spider_utils.errors import DataError, KitError

if TYPE_CHECKING:
    from spider_utils.data.volumes import Volume


def predict(
    source: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="Image file, folder of images, folder of one DICOM series, or of such folders."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the masks; they keep the input's name and geometry.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or name of a run, newest (the best of your newest trainings), or a network that comes with the kit: "
            "structures4, which single slices get when this is left out, levels20, which series get, or structures4-phantom."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_drawn: Annotated[
        bool,
        typer.Option(
            "--as-drawn",
            help="Of models with levels: leave these voxel by voxel as the network draws them. Without it each vertebra and disc "
            "gets one number, and pieces that are neither are left out.",
        ),
    ] = False,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures",
            help="Write up to 20 slices with their mask on one picture as well, in OUT/pictures. They show patients.",
        ),
    ] = False,
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Of a DICOM series: write the mask as DICOM SEG as well, beside it.")
    ] = False,
) -> None:
    """Segment an image or a folder of images. Beside the masks go predicted-masks.csv, which tells of each whether it may be
    trusted, and tables of the labels' names and colours for viewers.

    Example: spider-kit predict scan.mha --out build/masks --pictures
    """
    start = time.monotonic()
    from spider_utils.data.volumes import PICTURE_SUFFIXES, read_mask, stem_of, suffix_of
    from spider_utils.export import optional_library
    from spider_utils.export.color_tables import write_color_tables
    from spider_utils.mask_table import TABLE, file_name
    from spider_utils.masks import find_inputs, predict_path
    from spider_utils.models.shipped import shipped, shipped_for
    from spider_utils.predict import PooledPredictor, WholeVolumePredictor, load_predictor
    from spider_utils.training.checkpoints import read_card
    from spider_utils.workflow import caution, find_run

    inputs = find_inputs(source)  # a wrong path is said before a model is loaded
    if dicom_seg:
        if inputs != [source] or not (source.is_dir() or source.suffix.lower() == ".dcm"):
            raise typer.BadParameter("a DICOM SEG can be written of a DICOM series: give its folder, or leave --dicom-seg out")
        optional_library("highdicom")
    folder = find_run(model or shipped_for(series=any(suffix_of(path) not in PICTURE_SUFFIXES for path in inputs)))
    predictor = load_predictor(folder, device)
    predictor.whole_parts = not as_drawn
    card = read_card(folder)
    asks = isinstance(predictor, PooledPredictor)
    advice = f" with a second opinion of {card['second_opinion']['network']}" if asks else ""
    about = card.get("what", "")
    print(f"model: {folder.name}{advice}, masks in scheme {predictor.scheme}. {about}".rstrip(". "), flush=True)
    if isinstance(predictor, WholeVolumePredictor):
        print(f"it labels {predictor.reach}", flush=True)
    look = None
    if pictures:
        images = {path.resolve() for path in inputs}
        from spider_utils.view.contact_sheet import write_contact_sheet

        def look(mask: Path, image: Volume, drawn: Volume) -> None:
            path = out / "pictures" / f"{mask.name}-slices.png"  # whole: a.mha and a.nii.gz are two
            try:
                if path.resolve() in images:
                    raise DataError(path, "the picture would overwrite an image", "Choose another folder for --out.")
                print(write_contact_sheet(path, image, drawn, predictor.scheme), flush=True)
            except DataError as error:
                print(f"note: no picture: {error}", flush=True)

    masks = predict_path(source, out, predictor, lambda said: print(f"note: {said}", flush=True), file_name(folder), look)
    print(*masks, f"{out / TABLE}: what is known of each mask, those to look at first on top", sep="\n")
    if not pictures:
        print("up to 20 slices of each with its mask on one picture, to look through: --pictures")
    write_color_tables(predictor.scheme, out)
    if dicom_seg:
        from spider_utils.export.dicom_seg import Algorithm, write_dicom_seg

        seg = out / f"{stem_of(masks[0])}.dcm"
        print(write_dicom_seg(read_mask(masks[0], allow_empty=True), source, seg, predictor.scheme, Algorithm.of_run(folder)))
    images = "1 image" if len(masks) == 1 else f"{len(masks)} images"
    print(f"{images} segmented in {time.monotonic() - start:.1f} s, with loading the model, reading and writing")
    if said := caution(folder):
        print(f"note: {folder.name} was {said}")
    if folder in shipped().values():
        if not asks:
            print("one network drew this; names of levels, and how far two networks agree: --model levels20")
        print("not a medical device; may I trust my mask? docs/results/trust.md")


def evaluate(
    truth: Annotated[Path, typer.Option(help="Folder of ground-truth masks.")],
    pred: Annotated[Path, typer.Option(help="Folder of predicted masks of the same names.")],
    scheme: Annotated[SchemeName, typer.Option(help="Label scheme of the predictions.")],
    out: Annotated[Path, typer.Option(help="CSV to write; a summary is written beside it.")],
    truth_scheme: Annotated[SchemeName | None, typer.Option(help="Label scheme of the ground truth when it differs.")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the NSD in mm.")] = 1.0,
    spacing_mm: PixelSize = None,
) -> None:
    """Score predicted masks against the ground truth: Dice, IoU, precision, recall, ASD, HD95, NSD with intervals.

    Example: spider-kit evaluate --truth masks --pred build/masks --scheme structures4 --truth-scheme spider --out build/a.csv
    """
    from spider_utils.evaluation.folders import evaluate_folders, summary_path
    from spider_utils.evaluation.statistics import format_summary
    from spider_utils.runtime import cpu_count

    # An option of two values that is left out arrives as an empty tuple or None, depending on typer's version.
    options = {"tolerance_mm": tolerance_mm, "spacing_mm": _pixel_sizes(truth, spacing_mm or None)}
    of_truth = truth_scheme.value if truth_scheme else None
    _, summary = evaluate_folders(truth, pred, scheme.value, out, truth_scheme=of_truth, jobs=cpu_count(), **options)
    print(format_summary(summary))
    print(f"{out}\n{summary_path(out)}")


def _pixel_sizes(
    truth: Path, spacing_mm: tuple[float, float] | None
) -> tuple[float, float] | dict[int, tuple[float, float]] | None:
    """The pixel size that was given; of the released slices (spider-2d), some of which were squeezed, that of each patient."""
    from spider_utils.data.sources import open_source

    root = truth.resolve().parent
    if truth.resolve().name != "masks" or not (root / "cases.csv").is_file():
        return spacing_mm
    known = open_source("spider-2d", root).pixel_sizes()
    if not spacing_mm:
        print(f"pixel sizes: of each patient, by {root / 'cases.csv'}", flush=True)
        return known
    others = [patient for patient, mm in known.items() if max(abs(a - b) for a, b in zip(mm, spacing_mm, strict=True)) > 0.005]
    if others:
        listed = ", ".join(map(str, others[:10])) + (", ..." if len(others) > 10 else "")
        raise typer.BadParameter(
            f"by cases.csv the pixels of {len(others)} patients ({listed}) have another size: leave it out, and each has its own",
            param_hint="--spacing-mm",
        )
    return spacing_mm


def _read_mask(path: Path, spacing_mm: tuple[float, float] | None) -> Volume:
    """A mask; a picture's pixel size as it is given, or with a warning that none is."""
    from spider_utils.data.volumes import PICTURE_SUFFIXES, read_mask, suffix_of, with_pixel_size

    volume = read_mask(path)
    if spacing_mm:  # left out, it arrives as an empty tuple or None, depending on typer's version
        return with_pixel_size(volume, spacing_mm)
    if suffix_of(path) in PICTURE_SUFFIXES:
        warnings.warn(f"{path} stores no pixel size: 1 x 1 mm is taken; give it by --spacing-mm ROW COLUMN", stacklevel=1)
    return volume


def _tell_doubt(mask: Path) -> None:
    """What was said against a mask when it was predicted; a table that cannot be read keeps nobody from his numbers."""
    from spider_utils.mask_table import doubt_about

    try:
        said = doubt_about(mask)
    except DataError as error:
        said = str(error)
    if said:
        print(f"note: {said}")


@contextmanager
def _named(mask: Path) -> Iterator[None]:
    """Rooms of arrays know no file: what they refuse, they refuse of this mask."""
    try:
        yield
    except ValueError as error:
        raise KitError(f"{mask}: {error}") from error


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
        Literal["lowest", "own"],
        typer.Option(
            help="lowest: the lowest part in view is level 1. own (of a mask with levels): the level that most voxels of all "
            "parts together ask for."
        ),
    ] = "lowest",
    spacing_mm: PixelSize = None,
) -> None:
    """Number discs and vertebrae from below, and name them: which disc is L4/L5.

    Example: spider-kit levels build/masks/scan.mha --out build/levels/scan.mha
    """
    from spider_utils.data.volumes import stem_of, write_volume
    from spider_utils.files import write_csv
    from spider_utils.measure.levels import name_levels

    volume = _read_mask(mask, spacing_mm)
    array, spacing = volume.squeezed()
    with _named(mask):
        result = name_levels(array, spacing, scheme, count_from=count_from)
    written = write_volume(volume.with_array(result.mask.reshape(volume.array.shape)), out)
    table = out.with_name(f"{stem_of(out)}.csv")
    write_csv(table, result.table)
    print(f"{result.table.to_string(index=False)}\n\n{result}\n{written}\n{table}")
    _tell_doubt(mask)


def measure(
    mask: Annotated[Path, typer.Argument(dir_okay=False, help="Mask with levels: a volume, or one mid-sagittal slice as PNG.")],
    image: Annotated[Path | None, typer.Option(help="Its image, for the discs' signal.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write: level, label, quantity, value, unit, status.")] = None,
    scheme: Annotated[
        str, typer.Option(help="spider or levels20; of classes alone `spider-kit levels` makes spider.")
    ] = "spider",
    spacing_mm: PixelSize = None,
) -> None:
    """Measure discs, vertebrae, canal, slips, curvature and hernias in mm and degrees.

    Example: spider-kit measure build/levels/scan.mha --image scan.mha --out build/scan.csv
    """
    from spider_utils.data.volumes import PICTURE_SUFFIXES, check_same_geometry, read_volume, suffix_of, with_pixel_size
    from spider_utils.files import write_csv
    from spider_utils.measure import report

    if suffix_of(mask) in PICTURE_SUFFIXES and not spacing_mm:  # every grade of it hangs on mm
        fix = "Give the size of a pixel, --spacing-mm ROW COLUMN: with a wrong one discs would be called herniated that are not."
        raise DataError(mask, "stores no pixel size, without which nothing can be measured in mm", fix)
    volume = _read_mask(mask, spacing_mm)
    picture = None if image is None else read_volume(image)
    if picture is not None and spacing_mm:
        picture = with_pixel_size(picture, spacing_mm)
    if picture is not None:
        check_same_geometry(picture, volume)
    with _named(mask):
        table = report.measure(*volume.squeezed(), None if picture is None else picture.squeezed()[0], scheme)
    print(report.format_measurements(table))
    if out is not None:
        write_csv(out, table.round({"value": 3}))
        print(out)
    _tell_doubt(mask)
    print(f"note: {report.RULES_ARE_UNTRIED}")
