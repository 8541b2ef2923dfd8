"""Made-up patients measured from their masks, against what their painted shapes measure.

Run ``python -m tests.measure_phantoms --patients 60 --out build/measured.csv`` (5 minutes on one core). What FILE holds
already is not done again. With ``--masks FOLDER`` masks that a network made of a phantom set's patients are measured instead:
``python -m tests.measure_phantoms --masks predicted --data data/phantom-quick --out build/measured-predicted.csv``; with
``--run FOLDER`` those that a scored training left of its test patients. With
``--grid 160 128`` masks are brought into a network's pixels and back first: what is left is the error of a perfect network.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from spider_utils.data.phantom import HOSPITALS, Anatomy, draw_protocols, make_anatomy, render
from spider_utils.data.phantom.bones import paint_disc, paint_vertebra
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.scanner import body_box, body_spacing
from spider_utils.data.phantom.soft import paint_canal, trace
from spider_utils.data.phantom.truth import truth_in_set, truth_of
from spider_utils.data.slices import SliceGrid
from spider_utils.data.volumes import Volume, read_mask
from spider_utils.evaluation.measured import agreement_by_quantity
from spider_utils.labels import convert
from spider_utils.measure.levels import name_levels
from spider_utils.measure.report import MEASURED, measure
from spider_utils.training.checkpoints import read_card

FIRST_SEED = 60_000  # not those that thresholds were chosen on
SHOWN = (
    "disc height anterior", "disc height middle", "disc height posterior", "disc height index", "disc depth", "disc angle",
    "segment angle", "body height anterior", "body height middle", "body height posterior", "body depth", "body wedge",
    "canal diameter", "canal diameter narrowest", "canal diameter at the body", "canal area", "canal area at the body", "slip",
    "overhang", "lordosis L1 to L5", "lordosis L1 to S1",
)  # fmt: skip


def labelled(anatomy: Anatomy, seed: int, size: str = "full") -> tuple[Volume, TissueGrid]:
    """A patient's T2 mask in scheme "spider", surfaces as fine as in the course's phantoms, and what it was scanned from.

    Tissues without a label are left out.
    """
    protocol = draw_protocols(anatomy, HOSPITALS[seed % len(HOSPITALS)], ("t2",), seed, size=size)[0]
    grid = TissueGrid.empty(*body_box([protocol]), body_spacing([protocol], size))
    paint_canal(grid, anatomy, trace(grid, anatomy))
    for disc in anatomy.discs:
        paint_disc(grid, disc)
    for bone in reversed(anatomy.vertebrae):
        above = anatomy.discs[bone.number] if bone.number < len(anatomy.discs) else None
        paint_vertebra(grid, bone, anatomy.discs[bone.number - 1], above)
    return render(anatomy, "t2", protocol, size=size, body=grid)[1], grid


def compared(
    mask: Volume, truth: pd.DataFrame, patient: int, scheme: str = "spider", true_mask: np.ndarray | None = None
) -> pd.DataFrame:
    """Measured beside true, a row a label and quantity of the lowest seven levels in view: ``value``, ``status``, ``truth``.

    Args:
        mask: measured one.
        truth: of truth_of.
        patient: put into the table.
        scheme: of the mask.
        true_mask: says what is in view; None takes ``mask`` itself.
    """
    table = measure(mask.array, mask.spacing, scheme=scheme)
    truth = truth.rename(columns={"value": "truth"})
    seen = np.unique(mask.array if true_mask is None else true_mask)
    in_view = truth["label"].isin([0, *seen]) | (truth["label"] + 100).isin(seen[seen < 200])
    rows = truth[in_view].merge(table, on=["label", "quantity"], how="left")
    rows["status"] = rows["status"].fillna("not in the table")
    return rows.assign(patient=patient)


def true_masks(seeds: range) -> Iterator[pd.DataFrame]:
    """Patients' own masks."""
    for seed in seeds:
        anatomy = make_anatomy(seed)
        mask, grid = labelled(anatomy, seed)
        yield compared(mask, truth_of(anatomy, grid=grid), seed)


def through_grid(mask: Volume, scheme: str, grid: SliceGrid, shares: bool) -> Volume:
    """A mask's four classes in a network's pixels and back: one label a pixel, or the share of each class in it."""
    classes = convert(mask.array, scheme, "structures4")
    planes = np.stack([classes == k for k in range(4)], axis=1).astype(np.float32)
    fitted = grid.fit(planes, mask.spacing[1:], is_mask=not shares)
    return mask.with_array(grid.unfit(fitted, classes.shape[1:], mask.spacing[1:]).argmax(axis=1).astype(np.uint8))


def masks_of_folder(folder: Path, series: list[str] | None = None) -> Iterator[tuple[str, Volume]]:
    """(series, mask) of a folder, named as the images of a phantom set in SPIDER's layout; of some series alone."""
    for path in sorted(folder.glob("*.mha")):
        if not series or path.stem in series:
            yield path.stem, read_mask(path, allow_empty=True)


def masks_of_run(folder: Path, data: Path) -> Iterator[tuple[str, Volume]]:
    """(series, mask) of a training's test patients, as its scoring left them."""
    with np.load(folder / "predictions-test.npz", allow_pickle=False) as file:
        for name in file.files:
            yield name, read_mask(data / "masks" / f"{name}.mha").with_array(file[name])


def predicted_masks(
    masks: Iterable[tuple[str, Volume]], data: Path, scheme: str, grid: SliceGrid | None = None, shares: bool = False
) -> Iterator[pd.DataFrame]:
    """Masks of a phantom set's series, measured; through a grid first, if one is given."""
    truths: dict[int, pd.DataFrame] = {}
    for name, mask in masks:
        patient = int(name.split("_")[0])
        if patient not in truths:
            truths[patient] = truth_in_set(data, patient)
        if grid is not None:
            mask = through_grid(mask, scheme, grid, shares)
        if grid is not None or scheme == "structures4":
            mask = mask.with_array(name_levels(mask.array, mask.spacing).mask)
        own = "spider" if grid is not None or scheme == "structures4" else scheme
        true_mask = read_mask(data / "masks" / f"{name}.mha").array
        yield compared(mask, truths[patient], patient, own, true_mask).assign(series=name)


def herniations(table: pd.DataFrame) -> dict[str, str]:
    """Found and false hernias by disc, and in how many patients with a hernia the highest one lies at a true level."""
    discs = table[(table["quantity"] == "herniated") & (table["status"] == MEASURED)]  # the others are cut by the picture
    found, true = discs["value"] == 1, discs["truth"] == 1
    heights = table[table["quantity"] == "overhang"].set_index(["patient", "label"])["value"]
    counts = []
    for patient, rows in discs[found & true].groupby("patient"):
        named = discs[found & (discs["patient"] == patient)]["label"]
        highest = max(named, key=lambda label, patient=patient: np.max(heights.loc[(patient, label)]))
        counts.append(highest in set(rows["label"]))
    patients = discs[true]["patient"].nunique()
    return {
        "discs with a hernia found": f"{(found & true).sum()} of {true.sum()}",
        "discs without one called herniated": f"{(found & ~true).sum()} of {(~true).sum()}",
        "patients with a hernia whose highest finding is at a true level": f"{sum(counts)} of {patients}",
    }


def main() -> None:
    """Print how far measurements are from the truth."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--patients", type=int, default=60, help="made-up patients, measured from their own masks")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first one")
    parser.add_argument("--masks", type=Path, help="folder of masks of a phantom set to measure instead")
    parser.add_argument(
        "--run", type=Path, help="folder of a scored training: the masks of its test patients are measured instead"
    )
    parser.add_argument("--data", type=Path, default=Path("data/phantom-quick"), help="that phantom set")
    parser.add_argument("--scheme", default="levels20", help="of those masks: levels20, spider or structures4")
    parser.add_argument("--series", nargs="+", help="of --masks: these alone, such as 7_t2 9_t2")
    parser.add_argument("--grid", nargs=2, type=int, help="rows and columns of a network, into whose pixels --masks are brought")
    parser.add_argument("--shares", action="store_true", help="with --grid: shares of classes in a pixel instead of a label")
    parser.add_argument("--out", type=Path, default=Path("build/measured.csv"), help="table to write, or to go on with")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame()
    if options.masks or options.run:
        grid = SliceGrid(*options.grid) if options.grid else None
        masks = masks_of_run(options.run, options.data) if options.run else masks_of_folder(options.masks, options.series)
        scheme = read_card(options.run)["scheme"] if options.run else options.scheme
        tables = list(tqdm(predicted_masks(masks, options.data, scheme, grid, options.shares), unit="series"))
        table = pd.concat(tables, ignore_index=True)
        table.to_csv(options.out, index=False)
    else:
        table = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=["patient"])
        wanted = range(options.first, options.first + options.patients)
        left = [seed for seed in wanted if seed not in set(table["patient"])]
        for seed in tqdm(left, unit="patient"):
            rows = next(true_masks(range(seed, seed + 1)))
            table = rows if not len(table) else pd.concat([table, rows], ignore_index=True)
            table.to_csv(options.out, index=False)
        table = table[table["patient"].isin(wanted)]
    print(agreement_by_quantity(table, SHOWN).round(2).to_string(index=False))
    for what, count in herniations(table).items():
        print(f"{what}: {count}")


if __name__ == "__main__":
    main()
