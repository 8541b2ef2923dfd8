"""What a lesson shows of a network once it is trained: curves, scores, how far it sees, and its errors as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from spider_utils.data.slices import SliceStore
from spider_utils.data.sources import Case
from spider_utils.data.splits import Split
from spider_utils.errors import KitError
from spider_utils.evaluation.metrics import measure_case
from spider_utils.evaluation.statistics import compare, summarise
from spider_utils.labels import convert, get_scheme
from spider_utils.models.inspection import central_box, effective_receptive_field, theoretical_receptive_field
from spider_utils.training.runs import RunResult
from spider_utils.view import plots
from spider_utils.workflow import Workspace

_PLACES = {"best": -1, "median": None, "worst": 0}
ZONES = ("centre", "inner", "outer", "edge")


@dataclass(frozen=True)
class NetworkReport:
    """A trained network and its test patients.

    Attributes:
        workspace: where the run and its data are.
        run: the finished training.
        title: what figures call the network, for example "U-Net++".
        split: the split that it was trained with; the default split when None.
    """

    workspace: Workspace
    run: RunResult
    title: str
    split: Split | None = None

    @property
    def scheme(self) -> str:
        """Label scheme of the network's classes."""
        return self.run.card["scheme"]

    # -------------------------------------------------------------------------------------------------------- training

    def training_curves(self) -> plots.CourseFigure:
        """Loss, validation mean IoU and learning rate by epoch."""
        return plots.training_curves(self.run.history, title=self.title)

    def training_facts(self) -> pd.Series:
        """What a training is judged by: first and last train_loss, first and best val_mean_iou, best_epoch, epochs."""
        history = self.run.history
        loss, iou = history["train_loss"], history["val_mean_iou"]
        return pd.Series(
            {
                "first train_loss": loss.iloc[0],
                "last train_loss": loss.iloc[-1],
                "first val_mean_iou": iou.iloc[0],
                "best val_mean_iou": iou.max(),
                "best_epoch": self.run.best_epoch,
                "epochs": len(history),
            }
        )

    # ---------------------------------------------------------------------------------------------------- how far it sees

    @cached_property
    def validation_batch(self) -> tuple[torch.Tensor, np.ndarray, pd.DataFrame]:
        """Validation slices with the most labelled pixels, at most 32, to look into the network with.

        Returns:
            Images float32 (n, channels, rows, columns) in [0, 1]; truth (n, rows, columns) in the run's scheme; their rows of the
            slice store's table.

        Raises:
            KitError: the network is one of volumes.
        """
        store = self.workspace.store_of(self.run)
        if not isinstance(store, SliceStore):
            raise KitError(f"run '{self.run.folder.name}' sees volumes: how far it sees in a slice cannot be shown")
        rows = (self.split or self.workspace.split()).rows("val", store.table)
        most = store.table.loc[rows].sort_values("labelled", ascending=False, kind="stable").index[:32]
        seen = store.windows(self.run.card.get("neighbours", 0))[most]
        images = torch.from_numpy(np.array(store.images[seen])).float() / 255
        return images, store.lookup(self.scheme)[0][store.masks[most]], store.table.loc[most]

    @cached_property
    def receptive_field_mm(self) -> dict[str, float]:
        """Sides in mm of the squares that hold 95 % of the effective and all of the theoretical receptive field.

        The effective field is that of the middle pixel, averaged over 16 validation slices; pixels become mm by the pixel size
        of the first of them. The theoretical side is ``inf`` where pooling over the whole image makes it unlimited.
        """
        images, _, table = self.validation_batch
        model, pixel_mm = self.run.load_model(), float(table["pixel_mm"].iloc[0])
        side = central_box(effective_receptive_field(model, images[:16]), share=0.95)
        return {"effective (95 %)": side * pixel_mm, "theoretical": max(theoretical_receptive_field(model)) * pixel_mm}

    def receptive_field(self) -> plots.CourseFigure:
        """The effective and, unless it is unlimited, the theoretical receptive field on a validation slice."""
        images, _, table = self.validation_batch
        boxes = {name: side for name, side in self.receptive_field_mm.items() if np.isfinite(side)}
        spacing = (table["pixel_mm"].iloc[0],) * 2
        return plots.receptive_field_on_slice(
            images[0, 0].numpy(), spacing, boxes, title=f"What the {self.title} sees for one pixel"
        )

    # ------------------------------------------------------------------------------------------------------------- scores

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Rows of measure_case for each test series in its own grid; also added to the workspace's results table."""
        scores = self.workspace.evaluate(self.run, self.split)
        self.workspace.add_result(self.run, scores)
        return scores

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means over test volumes with 95 % intervals over patients, see summarise."""
        return summarise(self.scores)

    def score_table(self, *metrics: str) -> pd.DataFrame:
        """The summary's rows of some metrics (Dice when none is named), rounded; without classes that no volume holds."""
        rows = self.summary[self.summary["metric"].isin(metrics or ("dice",)) & (self.summary["n"] > 0)]
        columns = ["metric", "name", "mean", "low", "high", "n", "unit", "patients", "missed", "false"]
        return rows[columns].round(3).reset_index(drop=True)

    @property
    def foreground(self) -> pd.Series:
        """The summary's row of the mean Dice over foreground classes."""
        is_row = (self.summary["metric"] == "dice") & (self.summary["name"] == "foreground mean")
        return self.summary[is_row].iloc[0]

    def score_figure(self) -> plots.CourseFigure:
        """Dice of every test patient by class."""
        return plots.metric_distribution(self.scores, "dice", title=f"{self.title} on test patients")

    def compared_with(self, other: NetworkReport) -> pd.DataFrame:
        """Paired differences of Dice, this network minus the other, class by class with intervals over patients (see compare)."""
        columns = ["name", "mean_a", "mean_b", "difference", "low", "high", "n", "patients"]
        names = {"mean_a": self.title, "mean_b": other.title}
        return compare(self.scores, other.scores)[columns].rename(columns=names)

    def paired_figure(self, other: NetworkReport) -> plots.CourseFigure:
        """Mean Dice of each test patient with the other network and with this one, joined by a line."""
        dice = {one.title: one.scores.groupby("patient")["dice"].mean() for one in (other, self)}
        return plots.paired_lines(pd.DataFrame(dice), "mean Dice of a patient's volumes", f"{other.title} and {self.title}")

    # ------------------------------------------------------------------------------------------------- errors as pictures

    @cached_property
    def cases(self) -> dict[str, Case]:
        """The test series, with image and mask, by name."""
        return {name: self.workspace.source.load(name) for name in self.predictions}

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """Predicted masks (slice, row, column) of the test series, by name."""
        _ = self.scores  # scoring leaves them
        return self.workspace.predictions(self.run)

    @cached_property
    def truths(self) -> dict[str, np.ndarray]:
        """True masks (slice, row, column) of the test series in the run's scheme, by name."""
        return {name: convert(case.mask.array, self.workspace.source.scheme, self.scheme) for name, case in self.cases.items()}

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Test slices that show two structures or more, from worst to best: dice (mean over structures), case, slice.

        Scores of single slices choose pictures; they are nothing to report.
        """
        classes = [value for value in get_scheme(self.scheme).names if value]
        rows = []
        for name, found in self.predictions.items():
            for number, (truth, mask) in enumerate(zip(self.truths[name], found, strict=True)):
                if len(np.unique(truth)) >= 3:  # background and two structures
                    table = measure_case(truth, mask, None, classes, tolerance_mm=1.0)
                    rows.append((table["dice"].mean(), name, number))
        return pd.DataFrame(rows, columns=["dice", "case", "slice"]).sort_values("dice", kind="stable", ignore_index=True)

    def slice_errors(self, which: str) -> plots.CourseFigure:
        """Image, truth, prediction and error map of the "best", "median" or "worst" slice of the ranking.

        Raises:
            ValueError: another word.
        """
        if which not in _PLACES:
            raise ValueError(f"which must be one of {', '.join(_PLACES)}, not '{which}'")
        place = _PLACES[which]
        dice, name, number = self.ranking.iloc[len(self.ranking) // 2 if place is None else place]
        image, truth, found = self.cases[name].image, self.truths[name][number], self.predictions[name][number]
        title = f"{self.title}, {which} slice: {name}, slice {number}, mean Dice {dice:.3f}"
        return plots.overlay_comparison(image.array[number], truth, found, self.scheme, image.spacing[1:], title=title)

    def by_zone(self) -> pd.DataFrame:
        """Mean and lowest Dice and number of the ranking's slices by ZONES: how far from the middle of their series they lie."""
        middle = self.ranking["case"].map({name: (len(mask) - 1) / 2 for name, mask in self.predictions.items()})
        offset = (self.ranking["slice"] - middle).abs() / (middle + 0.5)
        zone = pd.cut(offset, [-0.01, 0.25, 0.5, 0.75, 1.0], labels=ZONES)
        return self.ranking.groupby(zone, observed=True)["dice"].agg(["mean", "min", "count"]).round(3)
