"""Tests of scores of overlap that stand in one row: Dice, IoU, F1, precision and recall."""

from __future__ import annotations

from collections.abc import Iterator

from spider_utils.evaluation.arithmetic import Interval, Printed, dice_of_iou, harmonic_mean, mean_dice_bounds, mean_f1_bounds
from spider_utils.evaluation.audit.findings import MEANS, POOLED, Ends, Finding, as_printed, tested
from spider_utils.evaluation.published import PrintedRow, PrintedTable


def dice_and_iou(row: PrintedRow, score: str = "dice") -> Iterator[Finding]:
    """Dice (or F1, which is the same of one region) against IoU, under both readings."""
    given, iou, name = row.cells[score], row.cells["iou"], {"dice": "Dice", "f1": "F1"}[score]
    numbers, test = as_printed(row, "iou", score), f"{name} against IoU"
    one = iou.interval().through(dice_of_iou)
    yield tested(
        row,
        test,
        lambda of: bool(of(given) & of(iou).through(dice_of_iou)),
        f"{numbers}; one region has {one.text()}",
        f"for one region {name} is 2 IoU / (1 + IoU), and so it is here",
        f"for one region {name} is 2 IoU / (1 + IoU), which is another number",
        POOLED,
    )
    bounds = mean_dice_bounds(iou.interval())
    no = f"a mean {name} is at most 2 mIoU / (1 + mIoU); averages of other items, or a typing error, could explain it"
    yield tested(
        row,
        test,
        lambda of: bool(of(given) & mean_dice_bounds(of(iou))),
        f"{numbers}; means allow {bounds.text()}",
        f"a mean {name} between the mean IoU and 2 mIoU / (1 + mIoU) is possible",
        no,
        MEANS,
    )


def f1_and_rates(row: PrintedRow) -> Iterator[Finding]:
    """F1 against precision and recall, under both readings."""
    f1, p, r = (row.cells[name] for name in ("f1", "precision", "recall"))
    numbers, test = as_printed(row, "precision", "recall", "f1"), "F1 against P and R"

    def harmonic(of: Ends) -> Interval:
        return Interval(harmonic_mean(of(p).low, of(r).low), harmonic_mean(of(p).high, of(r).high))

    yield tested(
        row,
        test,
        lambda of: bool(of(f1) & harmonic(of)),
        f"{numbers}; the harmonic mean is {harmonic(Printed.interval).text()}",
        "F1 is the harmonic mean of precision and recall",
        "F1 is not the harmonic mean of the precision and recall beside it",
        POOLED,
    )
    bounds = mean_f1_bounds(p.interval(), r.interval())
    yield tested(
        row,
        test,
        lambda of: bool(of(f1) & mean_f1_bounds(of(p), of(r))),
        f"{numbers}; means allow {bounds.text()}",
        "a mean F1 at or below the harmonic mean of mean precision and mean recall is possible",
        "a mean F1 cannot exceed the harmonic mean of mean precision and mean recall; averages of other items could explain it",
        MEANS,
    )


def dice_and_f1(row: PrintedRow) -> Iterator[Finding]:
    """Dice and F1 are one number for each region, so pooled or averaged alike they stay one number."""
    dice, f1 = row.cells["dice"], row.cells["f1"]
    for reading in (POOLED, MEANS):
        yield tested(
            row,
            "F1 against Dice",
            lambda of: bool(of(dice) & of(f1)),
            as_printed(row, "dice", "f1"),
            "Dice and F1 are one number",
            "Dice and F1 are one number for every region, so two columns of the same masks cannot differ if both were averaged "
            "alike; a Dice averaged in another way, or of probabilities, could explain it",
            reading,
        )


def overlap(table: PrintedTable) -> Iterator[Finding]:
    """Tests of every row with Dice or F1, as far as its columns go."""
    for row in table.rows:
        names = set(row.cells)
        if {"dice", "iou"} <= names:
            yield from dice_and_iou(row)
        if {"f1", "iou"} <= names:
            yield from dice_and_iou(row, "f1")
        if {"f1", "precision", "recall"} <= names:
            yield from f1_and_rates(row)
        if {"f1", "dice"} <= names:
            yield from dice_and_f1(row)
