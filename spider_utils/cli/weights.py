"""``spider-kit weights``: the networks that come with the kit, how they are made and what they are worth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spider_utils.cli.common import as_text

if TYPE_CHECKING:
    import pandas as pd

    from spider_utils.evidence.recipe import Kitchen

app = typer.Typer(
    help="The networks that come with the kit: list, make again, score.", no_args_is_help=True, rich_markup_mode=None
)
SlicesRoot = Annotated[Path | None, typer.Option(help="Folder of the released T2_SPACE slices (spider-2d).")]

TableFile = Annotated[Path | None, typer.Option(help="Table to write as well, CSV.")]


class ProductName(StrEnum):
    """One network that comes with the kit."""

    structures4 = "structures4"
    structures4_phantom = "structures4-phantom"
    levels20 = "levels20"


Product = Annotated[ProductName, typer.Argument(help="Name of a network that comes with the kit.")]


class StepName(StrEnum):
    """One training of the recipe."""

    coarse = "coarse"
    fold0 = "fold0"
    fold1 = "fold1"
    fold2 = "fold2"
    fold3 = "fold3"
    fold4 = "fold4"
    final = "final"
    levels = "levels"
    levels_fold0 = "levels-fold0"
    levels_fold1 = "levels-fold1"
    levels_fold2 = "levels-fold2"
    levels_fold3 = "levels-fold3"
    levels_fold4 = "levels-fold4"
    levels_final = "levels-final"


@app.command("list")
def weights_list() -> None:
    """What comes with the kit: names for ``spider-kit predict --model``, what each learned from, what was measured.

    Example: spider-kit weights list
    """
    from spider_utils.models.shipped import shipped
    from spider_utils.training.checkpoints import read_card

    for name, folder in shipped().items():
        card = read_card(folder)
        print(f"{name}: {card['what']}")
        print(
            f"  licence {card['licence']}; learned from "
            + "; ".join(f"{one['name']}, {one['licence']}" for one in card["learned_from"])
        )
        print(f"  Dice, mean [95 % over patients], {card['measured'][0]['on']}:")
        for row in card["measured"]:
            if row["metric"] == "dice":
                interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
                print(f"    {row['shown']}: {row['name']} {row['mean']:.3f}{interval}")
    print(
        "on other centres and sequences, where it may be much less: docs/results/centres.md; of one mask: docs/results/trust.md"
    )


@app.command("figure")
def weights_figure(
    out: Annotated[Path, typer.Option(dir_okay=False, help="PNG to write.")] = Path("figures/weights/dice.png"),
) -> None:
    """Draw what the networks that come with the kit are worth on real patients, as their cards tell; README's figure.

    Example: spider-kit weights figure
    """
    from spider_utils.view.plots import save_figure
    from spider_utils.view.weights_plot import shipped_dice

    figure = shipped_dice()
    print(save_figure(figure, out, figure.caption))


@app.command("make")
def weights_make(
    step: Annotated[StepName, typer.Argument(help="Which training; what it starts from is made first.")],
    root: SlicesRoot = None,
) -> None:
    """Train a step of the recipe in the project's runs/ (fold0 to final: the mean of two runs, in build/weights/); a finished one
    is found, a killed one goes on.

    Example: spider-kit weights make fold0 --root data/spider-2d
    """
    kitchen = _kitchen(root)
    kind, _, number = step.partition("fold")
    if number:
        run = {"": kitchen.fold, "levels-": kitchen.levels_fold}[kind](int(number))[1]
    else:
        steps = (kitchen.coarse, kitchen.final, kitchen.levels, kitchen.levels_final)
        run = {make.__name__.replace("_", "-"): make for make in steps}[step]()
    print(run.folder)


@app.command("score")
def weights_score(
    name: Product,
    root: SlicesRoot = None,
    out: TableFile = None,
) -> None:
    """Train the recipe where it is not trained yet, and score it on patients whom its networks have not seen.

    Example: spider-kit weights score structures4 --root data/spider-2d --out build/folds.csv
    """
    from spider_utils.evaluation.statistics import format_summary, summarise
    from spider_utils.evidence.pack import PRODUCTS
    from spider_utils.files import write_csv

    product = PRODUCTS[name.value]
    scores = product.scores(_kitchen(root))
    print(f"on {product.on}")
    for shown, rows in scores.groupby("shown", sort=False):
        print(f"\n{shown}\n{format_summary(summarise(rows))}")
    if out:
        write_csv(out, scores)
        print(out)


@app.command("ladder")
def weights_ladder(root: SlicesRoot = None, out: TableFile = None) -> None:
    """Train on few and many phantoms, of hospitals' looks and of any look, and score each on all real patients.

    Example: spider-kit weights ladder --root data/spider-2d --out build/sim_to_real.csv
    """
    from spider_utils.evidence.sim_to_real import ladder

    _tell_groups(ladder(_kitchen(root)), ("looks", "phantoms"), out)


@app.command("sizes")
def weights_sizes(root: SlicesRoot = None, out: TableFile = None) -> None:
    """Train on 1 to 21 real patients, from random weights and from those of phantoms, and score each on the same others.

    Example: spider-kit weights sizes --root data/spider-2d --out build/training_sizes.csv
    """
    from spider_utils.evidence.sim_to_real import training_sizes

    _tell_groups(training_sizes(_kitchen(root)), ("start", "learned"), out)


@app.command("tidy")
def weights_tidy(root: SlicesRoot = None, out: TableFile = None) -> None:
    """How far to average over neighbouring slices, and which pieces of the canal to leave out: Dice on validation patients.

    Example: spider-kit weights tidy --root data/spider-2d --out build/tidy.csv
    """
    from spider_utils.evidence.score import choices_of_tidy

    _tell_groups(choices_of_tidy(_kitchen(root)), ("across_mm", "canal_share"), out)


@app.command("shares")
def weights_shares(root: SlicesRoot = None, out: TableFile = None) -> None:
    """What random contrasts cost on slices of the kind learned from, by their share in the mean: Dice on validation patients.

    Example: spider-kit weights shares --root data/spider-2d --out build/shares.csv
    """
    from spider_utils.evidence.score import choices_of_share

    _tell_groups(choices_of_share(_kitchen(root)), ("wide_share",), out)


def _tell_groups(scores: pd.DataFrame, groups: tuple[str, ...], out: Path | None) -> None:
    """Print the means of groups of scores, and write them."""
    from spider_utils.evidence.score import MEAN_COLUMNS, mean_scores
    from spider_utils.files import write_csv

    table = mean_scores(scores, groups)
    print(as_text(table[table["metric"] == "dice"][[*groups, *MEAN_COLUMNS]].drop(columns="metric")))
    if out:
        write_csv(out, table)
        print(out)


@app.command("names")
def weights_names(root: SlicesRoot = None, out: TableFile = None) -> None:
    """Whether levels of other patients are named as counting in the truth names them: as predict does, and counted from below.

    Example: spider-kit weights names --root data/spider-2d --out build/names.csv
    """
    from spider_utils.evaluation.naming import summarise_names
    from spider_utils.evidence.score import names_of_levels
    from spider_utils.files import write_csv

    names = names_of_levels(_kitchen(root))
    print(as_text(summarise_names(names), 3))
    if out:
        write_csv(out, names)
        print(out)


@app.command("millimetres")
def weights_millimetres(root: SlicesRoot = None, out: TableFile = None) -> None:
    """How far sizes measured on predicted masks are from those of the truth, on patients whom the networks have not seen.

    Example: spider-kit weights millimetres --root data/spider-2d --out build/millimetres.csv
    """
    from spider_utils.evaluation.measured import agreement_by_quantity, hernia_counts
    from spider_utils.evidence.millimetres import QUANTITIES, on_patients
    from spider_utils.files import write_csv

    table = on_patients(_kitchen(root))
    print(as_text(agreement_by_quantity(table, QUANTITIES), 2))
    print("MAE: mean absolute error, with its 95 % interval over patients; median: of absolute errors; in mm and degrees")
    print("low, high: 95 % limits of agreement")
    counts = "; ".join(f"{what} {count}" for what, count in hernia_counts(table).items())
    print(f"discs called herniated: {counts} (true: by the truth's mask)")
    if out:
        write_csv(out, table)
        print(out)


@app.command("limits")
def weights_limits(
    root: SlicesRoot = None,
    out: TableFile = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of the worst slices. They show patients.")] = None,
) -> None:
    """What the truth of the released slices does to a score: parts left out, where outlines run, jumps, the worst slices.

    Example: spider-kit weights limits --root data/spider-2d --out build/limits.csv
    """
    from spider_utils.evidence.limits import limits, summarise_limits, write_worst
    from spider_utils.files import write_csv

    kitchen = _kitchen(root)
    table, masks = limits(kitchen)
    print(as_text(summarise_limits(table), 3))
    print("in_rows: Dice in the rows that the truth marks; at_offset: there, each patient's outline moved by his best offset_mm")
    print("to_mended: the truth with itself without lines of canal around discs; to_next: masks with those of the next slice")
    print("asd_mended_mm: from the truth without such lines; lines: how many pieces of canal line the discs of a patient")
    if pictures:
        print(*write_worst(pictures, kitchen, table, masks), sep="\n")
    if out:
        write_csv(out, table)
        print(out)


@app.command("trust")
def weights_trust(
    root: SlicesRoot = None,
    centres: Annotated[
        Path | None, typer.Option(help="Folder that holds sets of other centres (see spider-kit centres), to be added.")
    ] = None,
    out: TableFile = None,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Figure to draw as well, PNG.")] = None,
) -> None:
    """Whether masks are worth less where the two networks of levels20 agree less: agreement and Dice of each image.

    Example: spider-kit weights trust --root data/spider-2d --centres ../other-centres --out build/agreement.csv
    """
    import pandas as pd

    from spider_utils.evidence.trust import by_band, on_centres, on_patients, rank_correlation
    from spider_utils.files import write_csv
    from spider_utils.models.shipped import SHIPPED_FOLDER
    from spider_utils.predict import PooledPredictor
    from spider_utils.view.plots import save_figure
    from spider_utils.view.weights_plot import agreement_against_dice

    # The centres first: a wrong folder is said at once, and the trainings of the patients' networks may take hours.
    tables = [on_centres(centres, PooledPredictor.load(SHIPPED_FOLDER / "levels20"))] if centres else []
    table = pd.concat([on_patients(_kitchen(root)), *tables], ignore_index=True)
    if out:
        write_csv(out, table)
        print(out)
    print(f"{as_text(rank_correlation(table), 3)}\n\n{as_text(by_band(table), 3)}")
    print("agreement: mean Dice of what one network draws with what the other draws; dice: of their mask with the truth.")
    if picture:
        figure = agreement_against_dice(table)
        print(save_figure(figure, picture, figure.caption))


@app.command("pack")
def weights_pack(
    name: Product,
    root: SlicesRoot = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; that of the package when left out.")] = None,
) -> None:
    """Train the recipe where it is not trained yet, score it, and write one of its networks as it comes with the kit.

    Example: spider-kit weights pack structures4 --root data/spider-2d
    """
    from spider_utils.evidence.pack import ship
    from spider_utils.models.shipped import SHIPPED_FOLDER

    print(ship(name.value, _kitchen(root), out or SHIPPED_FOLDER / name.value))


def _kitchen(root: Path | None) -> Kitchen:
    """Where the recipe is followed: the project's folder."""
    from spider_utils.evidence.recipe import Kitchen
    from spider_utils.runtime import project_root

    return Kitchen(project_root(), str(root) if root else None)
