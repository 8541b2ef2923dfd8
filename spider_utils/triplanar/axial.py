"""`triplanar` on axial slices: its 2D network for their tissues, IoU of found objects (Table 7), and what is measured on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spider_utils.data.augment import make_augment
from spider_utils.data.axial import AXIAL_SCHEME, AxialSet
from spider_utils.data.axial_store import build_axial_store
from spider_utils.data.manifest import published_table
from spider_utils.data.slices import SliceDataset, SliceStore
from spider_utils.data.splits import make_split
from spider_utils.evaluation.agreement import agreement
from spider_utils.evaluation.objects import FOUND_IOU, score_objects, summarise_objects
from spider_utils.files import atomic_path
from spider_utils.labels import AXIAL_ARTICULAR as ARTICULAR
from spider_utils.labels import AXIAL_DISC as DISC
from spider_utils.labels import AXIAL_HERNIA as HERNIA
from spider_utils.labels import AXIAL_LIGAMENT as LIGAMENT
from spider_utils.labels import AXIAL_SAC as SAC
from spider_utils.labels import AXIAL_SPINOUS as SPINOUS
from spider_utils.labels import AXIAL_VERTEBRA as VERTEBRA
from spider_utils.labels import get_scheme
from spider_utils.locks import make_once
from spider_utils.measure.axial import HerniaLine, SacLine, hernia_line, sac_line
from spider_utils.measure.geometry import NotMeasurable
from spider_utils.models import build_model
from spider_utils.models.network import top_class
from spider_utils.predict import Predictor
from spider_utils.runtime import seed_everything
from spider_utils.training.loop import RunResult, TrainConfig, fit
from spider_utils.workflow import DEFAULT_SPLIT, Workspace

_NAMES = get_scheme(AXIAL_SCHEME).names
# Table 7's rows. "Disc and hernia" is taken to be the two together where there is a hernia, "whole disc" on every slice.
BOTH, WHOLE = "disc and hernia", "whole disc"
TISSUES: dict[str, tuple[int, ...]] = {_NAMES[DISC]: (DISC,), BOTH: (DISC, HERNIA)}
TISSUES |= {_NAMES[k]: (k,) for k in (SAC, HERNIA, ARTICULAR, LIGAMENT, SPINOUS, VERTEBRA)} | {WHOLE: (DISC, HERNIA)}
MEASURED = {"sac_ap_mm": "mm", "sac_area_mm2": "mm2", "hernia_height_mm": "mm"}


@dataclass(frozen=True)
class AxialSettings:
    """How the network of one profile is made and trained; as in a Profile. ``folds``: how many of the five are tested."""

    size: tuple[int, int]
    options: Mapping[str, Any] = field(hash=False)
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    schedule: str
    augment: str
    folds: int


AXIAL_SETTINGS: dict[str, AxialSettings] = {
    "smoke": AxialSettings(
        size=(64, 64),
        options={"encoder": "tu-test_resnet", "decoder_channels": [16, 16, 12, 8]},
        epochs=3,
        batch_size=6,
        learning_rate=1e-2,
        optimizer="adamw",
        schedule="one_cycle",
        augment="none",
        folds=1,
    ),
    "quick": AxialSettings(
        size=(128, 128),
        options={"encoder": "tu-test_resnet", "decoder_channels": [48, 32, 24, 16]},
        epochs=16,
        batch_size=8,
        learning_rate=8e-3,
        optimizer="adamw",
        schedule="one_cycle",
        augment="axial",
        folds=1,
    ),
    # The source says: ResNet-50 at stride 8, pretrained, extensive augmentation; nothing of steps, rates or losses.
    "paper": AxialSettings(
        size=(256, 256),
        options={"encoder": "resnet50", "encoder_weights": "imagenet", "decoder_channels": [256, 128, 64, 32]},
        epochs=60,
        batch_size=8,
        learning_rate=1e-3,
        optimizer="adam",
        schedule="cosine",
        augment="axial",
        folds=5,
    ),
}


class AxialStudy:
    """One set of axial slices, parted by patient: networks, their masks, scores and measurements; each made when asked for.

    Attributes:
        axial: the set.
        store: its slices in the profile's size.
        settings: see AxialSettings.
        folder: of its runs, one a fold.
        device: "auto", "cpu", "cuda" or "mps".
        made_in: the workspace that it was opened in, see Workspace.facts.
    """

    def __init__(
        self,
        axial: AxialSet,
        store: SliceStore,
        settings: AxialSettings,
        folder: Path,
        device: str = "auto",
        made_in: Mapping[str, str] | None = None,
    ):
        self.axial, self.store, self.settings, self.folder, self.device = axial, store, settings, folder, device
        self.made_in = made_in

    @classmethod
    def open(cls, workspace: Workspace) -> AxialStudy:
        """The study of a workspace's axial phantom in its profile."""
        axial, name = workspace.axial(), workspace.profile.name
        settings = AXIAL_SETTINGS[name]
        rows, columns = settings.size
        store = build_axial_store(axial, workspace.home / "data" / "stores" / f"{name}-axial-{rows}x{columns}", settings.size)
        return cls(axial, store, settings, workspace.runs_folder / f"{name}-triplanar-axial", made_in=workspace.facts)

    def rows(self, fold: int, subset: str) -> np.ndarray:
        """Rows of the store's table that a fold trains on, chooses the epoch on ("val") or tests."""
        return make_split(self.store.table, DEFAULT_SPLIT, 0, fold).rows(subset, self.store.table)

    def train(self, fold: int = 0) -> RunResult:
        """The trained network of a fold, trained now when there is no finished run with these settings."""
        how = self.settings
        split = make_split(self.store.table, DEFAULT_SPLIT, 0, fold)
        seed_everything(fold)
        model = build_model("dilated_unet", 1, get_scheme(AXIAL_SCHEME).n_classes, **how.options)
        config = TrainConfig(
            epochs=how.epochs,
            batch_size=how.batch_size,
            learning_rate=how.learning_rate,
            optimizer=how.optimizer,
            schedule=how.schedule,
            seed=fold,
        )
        card = {
            "scheme": AXIAL_SCHEME,
            "size": list(how.size),
            "data": {"kind": self.store.kind, "fingerprint": self.store.fingerprint},
            "split": {"name": split.name, "seed": split.seed, "fold": split.fold, "fingerprint": split.fingerprint},
            "augment": how.augment,
        }
        train_set = SliceDataset(self.store, self.rows(fold, "train"), augment=make_augment(how.augment), seed=fold)
        val_set = SliceDataset(self.store, self.rows(fold, "val"))
        folder, how_run = self.folder / f"fold{fold}", {"device": self.device, "overwrite": True, "made_in": self.made_in}
        return fit(model, train_set, val_set, folder, config, card, **how_run)

    def predicted(self, fold: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(rows of the store, masks) of a fold's test slices: uint8 (slices, rows, columns); computed once, kept in the run."""
        run, rows = self.train(fold), self.rows(fold, "test")
        path = Path(run.folder) / "masks.npy"  # a run that is trained anew replaces its whole folder

        def predict() -> None:
            predictor = Predictor.load(run.folder, self.device)
            predictor.mirror = self.settings.augment == "axial"  # which swaps sides
            found = top_class(predictor.grid_probabilities(np.array(self.store.images[rows]))).astype(np.uint8)
            with atomic_path(path) as partial, open(partial, "wb") as file:
                np.save(file, found)

        make_once(path, path.is_file, predict)
        return rows, np.load(path)

    def tested(self) -> Iterator[tuple[pd.Series, np.ndarray, np.ndarray]]:
        """(row of the table, true mask, predicted mask) of every test slice of the profile's folds."""
        for fold in range(self.settings.folds):
            rows, masks = self.predicted(fold)
            for row, mask in zip(rows, masks, strict=True):
                yield self.store.table.iloc[row], np.asarray(self.store.masks[row]), mask

    def objects(self, found_iou: float = FOUND_IOU) -> pd.DataFrame:
        """Every true and predicted object of the test slices; see evaluation.objects."""
        slices = (
            ({"patient": row["patient"], "case": row["case"], "slice": row["slice"]}, truth, found, row["pixel_mm"])
            for row, truth, found in self.tested()
        )
        return score_objects(slices, TISSUES, found_iou, only_with={BOTH: HERNIA})

    def measurements(self, masks: str = "predicted") -> pd.DataFrame:
        """Measured beside true values, a row a slice and quantity.

        Args:
            masks: "predicted", or "true" for the true masks of the same slices.

        Returns:
            case, slice, patient, quantity (of MEASURED), value, truth; NaN where a mask shows none, or there is none.

        Raises:
            ValueError: ``masks`` is neither.
        """
        if masks not in ("predicted", "true"):
            raise ValueError(f"masks must be 'predicted' or 'true', not '{masks}'")
        rows = []
        for row, truth, found in self.tested():
            values = measured(found if masks == "predicted" else truth, row["pixel_mm"])
            for quantity, value in values.items():
                true = pd.to_numeric(row[quantity], errors="coerce")
                facts = {"case": row["case"], "slice": row["slice"], "patient": row["patient"]}
                rows.append(facts | {"quantity": quantity, "value": value, "truth": true})
        return pd.DataFrame(rows)


def lines_on(mask: np.ndarray, pixel_mm: float) -> tuple[SacLine | None, HerniaLine | None]:
    """The dural sac's line and the hernia's height on a mask of square pixels; None for what it does not show."""
    found = []
    for line in (sac_line, hernia_line):
        try:
            found.append(line(mask, (pixel_mm, pixel_mm)))
        except NotMeasurable:
            found.append(None)
    return found[0], found[1]


def measured(mask: np.ndarray, pixel_mm: float) -> dict[str, float]:
    """The quantities of MEASURED on a mask; NaN for what it does not show."""
    sac, hernia = lines_on(mask, pixel_mm)
    return {
        "sac_ap_mm": np.nan if sac is None else sac.length,
        "sac_area_mm2": np.nan if sac is None else sac.area,
        "hernia_height_mm": np.nan if hernia is None else hernia.height,
    }


def table7(objects: pd.DataFrame) -> pd.DataFrame:
    """The source's Table 7: printed IoU beside ours, and what ours found, missed and made up.

    Args:
        objects: of AxialStudy.objects.

    Returns:
        tissue, printed, iou, low, high (95 % over patients), patients, found, missed, false, in the source's order.
    """
    table = summarise_objects(objects, TISSUES)
    table.insert(1, "printed", table["tissue"].map(published_table("triplanar_table7").set_index("tissue")["iou"]))
    return table


def herniated_slices(found: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """The source's Table 5, upper row: which slices show a hernia whose height can be measured, predicted against true masks.

    Args:
        found, true: of AxialStudy.measurements, from predicted and from true masks of the same slices.

    Returns:
        One row: accuracy, sensitivity, specificity, precision, tp, tn, fp, fn; NaN where there is nothing to divide by.

    Raises:
        ValueError: the tables hold different slices.
    """
    said, is_so = (
        table[table["quantity"] == "hernia_height_mm"].set_index(["case", "slice"])["value"].notna() for table in (found, true)
    )
    if not said.index.sort_values().equals(is_so.index.sort_values()):
        raise ValueError("measurements of predicted and of true masks must be of the same slices")
    is_so = is_so.reindex(said.index)
    tp, tn = int((said & is_so).sum()), int((~said & ~is_so).sum())
    fp, fn = int((said & ~is_so).sum()), int((~said & is_so).sum())
    shares = {"accuracy": (tp + tn, len(said)), "sensitivity": (tp, tp + fn)}
    shares |= {"specificity": (tn, tn + fp), "precision": (tp, tp + fp)}
    row = {name: top / bottom if bottom else np.nan for name, (top, bottom) in shares.items()}
    return pd.DataFrame([row | {"tp": tp, "tn": tn, "fp": fp, "fn": fn}])


def errors(measurements: pd.DataFrame) -> pd.DataFrame:
    """Agreement of measured with true values, a row a quantity.

    Args:
        measurements: of AxialStudy.measurements.

    Returns:
        quantity, unit, n (values that both know), patients, mae (mean absolute error), bias, limit low, limit
        high (95 % limits of agreement); NaN with fewer than two values.
    """
    rows = []
    for quantity, unit in MEASURED.items():
        part = measurements[measurements["quantity"] == quantity].dropna(subset=["value", "truth"])
        row = {"quantity": quantity, "unit": unit, "n": len(part), "patients": part["patient"].nunique()}
        row |= dict.fromkeys(("mae", "bias", "limit low", "limit high"), np.nan)
        if len(part) > 1:
            found = agreement(part["value"], part["truth"], part["patient"])
            row |= {"mae": found.mean_absolute, "bias": found.bias, "limit low": found.low, "limit high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)
