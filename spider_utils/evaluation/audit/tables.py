"""Which tests each printed table gets. What a sentence offers as an explanation is a possibility, not a finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

from spider_utils.evaluation.arithmetic import (
    CUT,
    Interval,
    Printed,
    fewest_items,
    largest_variance,
    lowest_cross_entropy,
    weights_on_line,
)
from spider_utils.evaluation.audit.findings import (
    UNDECIDED,
    Ends,
    Finding,
    as_printed,
    in_two_places,
    tested,
    total_of,
    undecided,
)
from spider_utils.evaluation.audit.overlap import overlap
from spider_utils.evaluation.detection import COUNTS, RATES
from spider_utils.evaluation.published import PrintedRow, PrintedTable, printed_rows

# --------------------------------------------------------------------------------------------------------------- medfusion


def _ends_of(pair: str) -> tuple[PrintedRow, PrintedRow]:
    """The rows of Table 2 of a pair's two networks."""
    table = printed_rows("medfusion_table2")
    first, second = pair.split("+")
    return table[first], table[second]


def _medfusion_table2(table: PrintedTable) -> Iterator[Finding]:
    yield from overlap(table)
    for row in (one for one in table.rows if "+" in one.row):
        first, second = _ends_of(row.row)

        def reached(
            of: Ends, row: PrintedRow = row, ends: tuple[PrintedRow, PrintedRow] = (first, second), only: str = ""
        ) -> Interval:
            scores = [only] if only else ["iou", "dice"]
            return weights_on_line(*([of(one.cells[score]) for score in scores] for one in (*ends, row)))

        alone = [(score, reached(Printed.interval, only=score)) for score in ("iou", "dice")]
        titles = {"iou": "IoU", "dice": "Dice"}
        says = [f"{titles[name]} asks for w {found.text(2)}" if found else f"{titles[name]} for none" for name, found in alone]
        yield tested(
            PrintedRow(row.source, "Figure 14", row.row, row.cells, row.names),
            "an average of scores",
            lambda of, reached=reached: bool(reached(of)),
            f"{as_printed(row, 'iou', 'dice')}; {', '.join(says)}",
            "one weight of the two networks' printed scores gives both numbers",
            "no one weight of the two networks' printed scores gives both numbers; combined predictions, for instance, could",
        )


def _on_the_line(row: PrintedRow, weight: Fraction) -> Finding:
    first, second = _ends_of("unetplusplus+resunet")

    def line(of: Ends, score: str) -> Interval:
        return of(first.cells[score]) * weight + of(second.cells[score]) * (1 - weight)

    at = ", ".join(f"{name} {line(Printed.interval, score).text()}" for score, name in (("iou", "IoU"), ("dice", "Dice")))
    return tested(
        row,
        "an average of scores",
        lambda of: all(bool(of(row.cells[s]) & line(of, s)) for s in ("iou", "dice")),
        f"{as_printed(row, 'iou', 'dice')}; the line between U-Net++ and ResUNet has {at}",
        "both numbers lie on the straight line between two rows of Table 2: scores were averaged, no ensemble was evaluated",
        "the numbers are not on the straight line that the algorithm draws, so they come from something else",
    )


def _medfusion_weights(table: PrintedTable) -> Iterator[Finding]:
    goal = printed_rows("medfusion_best")["best weights"]

    def distance(of: Ends, row: PrintedRow) -> Interval:
        return total_of([(Interval.exactly(goal.cells[s].value) - of(row.cells[s])).size() for s in ("iou", "dice")])

    iou, dice = goal.cells["iou"], goal.cells["dice"]
    for row in table.rows:
        yield _on_the_line(row, Printed(row.names["weight"]).value)
        yield tested(
            row,
            "what diff is",
            lambda of, row=row: bool(of(row.cells["diff"]) & distance(of, row)),
            f"diff {row.cells['diff']}; |{dice} - Dice| + |{iou} - IoU| is {distance(Printed.interval, row).text()}",
            f"diff is the distance to IoU {iou} and Dice {dice}: weights were sought that come near a pair given beforehand",
            f"diff is not the distance to IoU {iou} and Dice {dice}",
        )


def _medfusion_best(table: PrintedTable) -> Iterator[Finding]:
    row = table["best weights"]
    total = row.cells["weight"].value + row.cells["second_weight"].value
    yield tested(
        row,
        "parts of a whole",
        lambda _: total == 1,
        as_printed(row, "weight", "second_weight"),
        "the weights add up to 1",
        "the weights do not add up to 1",
    )
    yield _on_the_line(row, row.cells["weight"].value)
    first, second = _ends_of("unetplusplus+resunet")
    yield tested(
        row,
        "below the better end",
        lambda of: of(row.cells["dice"]).low <= max(of(one.cells["dice"]).high for one in (first, second)),
        f"Dice {row.cells['dice']}; the ends have {first.cells['dice']} and {second.cells['dice']}",
        "a weighted average is not above the larger of its parts",
        "a weighted average cannot be above the larger of its parts",
    )


def _medfusion_logs(table: PrintedTable) -> Iterator[Finding]:
    """The last epoch beside Table 2: validation and test images may differ, so only what is striking can be said."""
    table2 = printed_rows("medfusion_table2")
    following = {"unet": "unetplusplus", "unetplusplus": "resunet", "resunet": "deeplabv3"}
    for network, after in following.items():
        row, own, next_one = table[f"{network}, epoch 50"], table2[network].cells["dice"], table2[after].cells["dice"]
        fits = bool(row.cells["dice"].interval() & next_one.interval(CUT))
        says = f"it is the Dice that Table 2 prints one row below, for {after}" if fits else "it is in no neighbouring row either"
        yield undecided(
            row,
            "the last epoch against Table 2",
            f"Dice {row.cells['dice']} in the log, {own} in Table 2; {after} has {next_one} there",
            f"a log is of other images than a test; {says}",
        )
    flat = [one for one in table.rows if one.names["network"] == "unetplusplus" and one.cells["dice"].text == "0.8900"]
    losses = sorted(one.cells["val_loss"].value for one in flat)
    yield undecided(
        table["unetplusplus, epoch 50"],
        "a score that stands still",
        f"Dice 0.8900 in {len(flat)} epochs, validation loss {float(losses[0]):.4f} to {float(losses[-1]):.4f}",
        "a Dice that stays the same to four digits while the loss more than doubles is unusual, not impossible",
    )


def _medfusion_counts(table: PrintedTable) -> Iterator[Finding]:
    row = table["images"]
    yield _parts_of_100(row)
    before, after = row.cells["before"].value, row.cells["after"].value
    yield undecided(
        row,
        "copies of each image",
        f"{before} images become {after}, {float(after / before):.3f} times as many",
        "the factor is no whole number, so images got different numbers of copies; which did is not said",
    )


def _medfusion_table1(table: PrintedTable) -> Iterator[Finding]:
    yield from overlap(table)
    for row in (one for one in table.rows if "nnU-Net" in one.row):
        name = "spinal canal" if "canal" in row.row else "vertebra"
        own, other = printed_rows("spider_baseline")[name], printed_rows("ahmed_table3")[f"{name} dice"]
        there = f"SPIDER prints {own.cells['dice']} for IIS, ahmed quotes {other.cells['nnunet']} for nnU-Net"
        numbers = f"Dice {row.cells['dice']}; {there}"
        yield undecided(
            row, "one number, two places", numbers, "the study has several networks and sets; which this is of, is not said"
        )


# ------------------------------------------------------------------------------------------------------------------- ahmed


def _at_least_one(row: PrintedRow, cell: str) -> Finding:
    return tested(
        row,
        "highest over lowest",
        lambda of: of(row.cells[cell]).high >= 100,
        f"{row.cells[cell]} %",
        "the highest class weight is not below the lowest",
        "highest over lowest is never below 100 %; a percent sign that slipped in behind a plain ratio could explain it",
    )


def _ahmed_table1(table: PrintedTable) -> Iterator[Finding]:
    ratios = printed_rows("ahmed_ratios")
    for row in table.rows[:-1]:
        yield _at_least_one(row, "ratio_percent")
        text = ratios[row.row].cells["after_percent"]
        yield in_two_places(
            row,
            lambda of, row=row, text=text: bool(of(row.cells["ratio_percent"]) & of(text)),
            f"{row.cells['ratio_percent']} % here, {text} % in the text",
            "the text prints the same",
            "the text prints another number",
        )
    yield _total(table["total"], list(table.rows[:-1]), "images")


def _ahmed_table3(table: PrintedTable) -> Iterator[Finding]:
    table2 = printed_rows("ahmed_table2")
    for row in table.rows:
        quantity = row.names["quantity"]
        if (there := table2[f"t2_SPACE {row.names['name']}"].cells.get(quantity)) is not None:
            yield in_two_places(
                row,
                lambda of, row=row, there=there: bool(of(row.cells["proposed"]) & of(there)),
                f"{row.cells['proposed']} here, {there} in Table 2 for T2_SPACE",
                "Table 2 prints the same",
                "Table 2 prints another number",
            )


def _ahmed_ratios(table: PrintedTable) -> Iterator[Finding]:
    for row in table.rows:
        before, after, less = (row.cells[name] for name in ("before_percent", "after_percent", "reduction_percent"))
        for cell in ("before_percent", "after_percent"):
            yield _at_least_one(row, cell)
        change = 100 * (before.value - after.value) / before.value
        yield tested(
            row,
            "the reduction",
            lambda of, less=less, change=change: bool(of(less) & Interval.exactly(change)),
            f"from {before} to {after} is {float(change):.3f} % less, printed {less}",
            "the number is the relative change of the two printed ones; the text calls it the imbalance that is left",
            "the number is not the relative change of the two printed ones",
        )


def _ahmed_loss(table: PrintedTable) -> Iterator[Finding]:
    first, second = table.rows
    yield in_two_places(
        second,
        lambda _: all(second.cells[name].value == cell.value for name, cell in first.cells.items()),
        f"gamma {second.cells['gamma']} here, {first.cells['gamma']} in the {first.row}",
        "both say the same",
        "one run has one gamma, and which is meant is not said; a shifted point could explain it",
        "one setting, two places",
    )


# ------------------------------------------------------------------------------------------------------ unetr and triplanar


def _unetr_results(table: PrintedTable) -> Iterator[Finding]:
    best, short = table["best mean Dice"], table["mean Dice in the conclusion"]
    yield in_two_places(
        short,
        lambda of: bool(of(short.cells["value"]) & of(best.cells["value"])),
        f"{short.cells['value']} in the conclusion, {best.cells['value']} in the results",
        "the one is the other with fewer digits",
        "the conclusion prints another number",
    )
    loss = table["lowest loss"]
    least = 1 - loss.cells["value"].value
    yield undecided(
        loss,
        "loss against Dice",
        f"loss {loss.cells['value']}; Dice {best.cells['value']}",
        f"the soft Dice behind this loss was {float(least):.3f} or more, but of other images than the printed one",
    )


def _triplanar_table1(table: PrintedTable) -> Iterator[Finding]:
    fused, mean = table["ensemble"], printed_rows("triplanar_tables2to4")
    by_disc = next(row for row in mean.rows if (row.table, row.row) == ("Table 2", "disc mean"))
    yield in_two_places(
        fused,
        lambda of: bool(of(fused.cells["dice"]) & of(by_disc.cells["dice"])),
        f"{fused.cells['dice']} here, {by_disc.cells['dice']} in Table 2",
        "Table 2 prints the same mean",
        "Table 2 prints another mean",
    )
    for row in table.rows[:-1]:
        fewer = (Interval.exactly(1) - row.cells["dice"].interval()) / (Interval.exactly(1) - fused.cells["dice"].interval())
        yield undecided(
            row,
            "errors, fused against one plane",
            f"Dice {row.cells['dice']} and {fused.cells['dice']}; 1 - Dice is {fewer.text(2)} times as large",
            "the text speaks of half as many errors: roughly so",
        )


def _triplanar_tables2to4(table: PrintedTable) -> Iterator[Finding]:
    of_table = {number: [row for row in table.rows if row.names["table"] == number] for number in ("2", "3", "4")}
    for rows in of_table.values():
        discs, mean = rows[:-1], rows[-1]

        def average(of: Ends, discs: list[PrintedRow] = discs) -> Interval:
            return total_of([of(row.cells["dice"]) for row in discs]) * Fraction(1, len(discs))

        yield tested(
            mean,
            "a mean of its parts",
            lambda of, mean=mean, average=average: bool(of(mean.cells["dice"]) & average(of)),
            f"printed {mean.cells['dice']}; the seven discs give {average(Printed.interval).text(6)}",
            "it is the mean of the seven discs",
            "it is not the mean of the seven discs",
        )
    for with_lost, without in zip(of_table["3"], of_table["4"], strict=True):
        there, here = with_lost.cells["dice"], without.cells["dice"]
        numbers = f"{here}; Table 3 has {there}"
        if without.names["disc"] == "7":
            fewest = math.ceil(2 / (1 - there.interval().low))
            yield undecided(
                with_lost,
                "two lost discs",
                f"{there}, two patients with 0 among them",
                f"such a mean is at most 1 - 2 / n, which asks for {fewest} patients or more; how many were tested is not said",
            )
            yield tested(
                without,
                "Table 4 against Table 3",
                lambda of, a=there, b=here: of(b).high >= of(a).low,
                numbers,
                "a mean rises when zeros are left out of it",
                "a mean rises when zeros are left out; that Table 3 had left the lost discs out already could explain it",
            )
        elif without.names["disc"] in "23456":
            yield tested(
                without,
                "Table 4 against Table 3",
                lambda of, a=there, b=here: bool(of(b) & of(a)),
                numbers,
                "a disc that was not lost keeps its Dice",
                "a disc that was not lost changes its Dice",
            )
        else:
            yield undecided(without, "Table 4 against Table 3", numbers, "how a lost top disc changes this number is not said")


def _triplanar_table5(table: PrintedTable) -> Iterator[Finding]:
    for row in table.rows:
        counts = {name: row.cells[name].value for name in COUNTS}
        for rate, (top, bottom) in RATES.items():
            exact = Fraction(sum(counts[name] for name in top), sum(counts[name] for name in bottom))
            yield tested(
                row,
                f"{rate} from counts",
                lambda of, row=row, rate=rate, exact=exact: bool(of(row.cells[rate]) & Interval.exactly(exact)),
                f"{rate} {row.cells[rate]}; the counts give {float(exact):.5f}",
                f"the counts give this {rate}",
                f"the counts give another {rate}",
            )
    slices, every = table["axial slice"], printed_rows("triplanar_data")["own studies"].cells["slices"]
    seen = sum(slices.cells[name].value for name in COUNTS)
    yield tested(
        slices,
        "a part of the whole",
        lambda _: seen <= every.value,
        f"{seen} axial slices of {every} axial and sagittal ones",
        "no more were tested than there are",
        "more were tested than there are",
    )


# ------------------------------------------------------------------------------------------------------- misan and SPIDER


def _misan_table3_1(table: PrintedTable) -> Iterator[Finding]:
    for row in table.rows:
        accuracy, loss = row.cells["accuracy"], row.cells["loss"]
        least = lowest_cross_entropy(accuracy.interval(CUT))
        yield tested(
            row,
            "loss against accuracy",
            lambda of, loss=loss, least=least: float(of(loss).high) >= least,
            f"accuracy {accuracy}, loss {loss}; at least {least:.3f}",
            "a wrong answer costs ln 2 or more, and the loss has room for all of them",
            "a wrong answer costs ln 2 or more, and the loss is too low for all of them",
        )
    shares = [row.cells["accuracy"] for row in table.rows]
    fewest = fewest_items([one.interval() for one in shares])
    everyone = PrintedRow(table.source, table.rows[0].table, "all networks", {}, {})
    yield undecided(
        everyone,
        "shares of whole images",
        f"{', '.join(str(one) for one in shares)}: whole numbers of {fewest} images or of suitable larger numbers",
        "every accuracy is a multiple of 0.002, as with 500 images; how many there were is not said",
    )


def _parts_of_100(row: PrintedRow) -> Finding:
    parts = [number for name, number in row.cells.items() if name.endswith("_percent")]
    return tested(
        row,
        "parts of a whole",
        lambda of: bool(total_of([of(one) for one in parts]) & Interval.exactly(100)),
        " + ".join(map(str, parts)),
        "the parts add up to 100 %",
        "the parts do not add up to 100 %",
    )


def _misan_splits(table: PrintedTable) -> Iterator[Finding]:
    text, listing = table["text"], table["listing"]
    for row in table.rows:
        yield _parts_of_100(row)
    names = [name for name in listing.cells if name.endswith("_percent")]
    here, there = ("/".join(str(row.cells[name]) for name in names) for row in (listing, text))
    both = PrintedRow(table.source, listing.table, "text against listing", {}, {})
    yield in_two_places(
        both,
        lambda _: here == there,
        f"{here} in the listing, {there} in the text",
        "both say the same",
        "one run has one split; the listing may be of another run than the text",
        "one split, two places",
    )
    sizes = [row.cells["image_pixels"] for row in (listing, text)]
    yield undecided(
        both,
        "one size, two places",
        f"{sizes[0]} pixels in the listing, {sizes[1]} in the text",
        "the listing is InceptionV3's; whether the other networks had images of the text's size is not said",
    )


def _spider_baseline(table: PrintedTable) -> Iterator[Finding]:
    for row in table.rows:
        mean, sd = row.cells["dice"], row.cells["dice_sd"]
        # Of a population; with n - 1 in place of n a variance may be n / (n - 1) times as large, which is 2 at most.
        most = float(largest_variance(mean.interval())) ** 0.5
        yield tested(
            row,
            "spread against mean",
            lambda of, mean=mean, sd=sd: of(sd).low ** 2 <= largest_variance(of(mean)),
            f"Dice {mean} ± {sd}; at most {most:.3f}",
            "values between 0 and 1 can spread so far",
            "values between 0 and 1 with this mean cannot spread so far",
        )


def _total(row: PrintedRow, parts: list[PrintedRow], column: str) -> Finding:
    summed = sum(one.cells[column].value for one in parts)
    return tested(
        row,
        f"{column.replace('_', ' ')}, total against parts",
        lambda _: row.cells[column].value == summed,
        f"total {row.cells[column]}; the parts give {summed}",
        "it is the sum of its parts",
        "it is not the sum of its parts",
    )


def _spider_hospitals(table: PrintedTable) -> Iterator[Finding]:
    *hospitals, total = table.rows
    for row in hospitals:
        most = max(row.cells[name].value for name in ("t1", "t2", "t2_SPACE"))
        yield tested(
            row,
            "series against studies",
            lambda _, row=row, most=most: most <= row.cells["studies"].value,
            f"{row.cells['studies']} studies, up to {most} series of one kind",
            "there are no more series of one kind than studies",
            "some study has two series of one kind",
        )
    for column in ("studies", "t1", "t2", "t2_SPACE"):
        yield _total(total, hospitals, column)

    def share(of: Ends) -> Interval:
        found = [of(row.cells["female_percent"]) * row.cells["studies"].value for row in hospitals]
        return total_of(found) * (1 / total.cells["studies"].value)

    yield tested(
        total,
        "female, total against parts",
        lambda of: bool(of(total.cells["female_percent"]) & share(of)),
        f"total {total.cells['female_percent']} %; the hospitals give {share(Printed.interval).text(1)} %",
        "it is the share of all studies",
        "it is not the share of the studies beside it; it can be where the sex of some patients is not known",
        otherwise=UNDECIDED,
    )


def _spider_voxels(table: PrintedTable) -> Iterator[Finding]:
    for end, choose in (("smallest", min), ("largest", max)):
        total = table[f"total, {end}"]
        parts = [row for row in table.rows if row.names["end"] == end and row is not total]
        sizes = [sorted(cell.value for cell in row.cells.values()) for row in parts]
        # The thickest axis is not always printed first; the total's is.
        found = [choose(size[k] for size in sizes) for k in (2, 0, 1)]
        printed = [cell.value for cell in total.cells.values()]
        yield tested(
            total,
            "total against parts",
            lambda _, found=found, printed=printed: found == printed,
            f"total {' x '.join(map(str, total.cells.values()))}; hospitals give {' x '.join(f'{float(x):.2f}' for x in found)}",
            "it is the hospitals' extreme, with the thickest axis written first",
            "it is not the hospitals' extreme",
        )


def _spider_release(table: PrintedTable) -> Iterator[Finding]:
    public = table["public"]
    for column in ("studies", "series"):
        yield _total(public, [table["training"], table["validation"]], column)
    yield _total(table["collected"], [public, table["hidden test"]], "studies")
    hospitals = printed_rows("spider_hospitals")["total"]
    series = sum(hospitals.cells[name].value for name in ("t1", "t2", "t2_SPACE"))
    yield in_two_places(
        public,
        lambda _: series == public.cells["series"].value,
        f"{public.cells['series']} series; Table 1 has {series}",
        "Table 1 has as many",
        "Table 1 has another number",
    )


TESTS: dict[str, Callable[[PrintedTable], Iterator[Finding]]] = {
    "medfusion_table1": _medfusion_table1,
    "medfusion_table2": _medfusion_table2,
    "medfusion_weights": _medfusion_weights,
    "medfusion_best": _medfusion_best,
    "medfusion_logs": _medfusion_logs,
    "medfusion_counts": _medfusion_counts,
    "ahmed_table1": _ahmed_table1,
    "ahmed_table2": overlap,
    "ahmed_table3": _ahmed_table3,
    "ahmed_ratios": _ahmed_ratios,
    "ahmed_loss": _ahmed_loss,
    "unetr_results": _unetr_results,
    "triplanar_table1": _triplanar_table1,
    "triplanar_tables2to4": _triplanar_tables2to4,
    "triplanar_table5": _triplanar_table5,
    "misan_table3_1": _misan_table3_1,
    "misan_splits": _misan_splits,
    "misan_quoted": overlap,
    "spider_baseline": _spider_baseline,
    "spider_hospitals": _spider_hospitals,
    "spider_voxels": _spider_voxels,
    "spider_release": _spider_release,
}
"""Printed table -> its tests. A row without any is undecided."""
