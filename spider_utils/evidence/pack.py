"""From a finished run to a network that comes with the kit: half the bytes, and a card that says what a user must know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from spider_utils.errors import KitError
from spider_utils.evidence.recipe import Kitchen
from spider_utils.evidence.score import cross_validated, mean_scores, of_levels, on_everyone
from spider_utils.files import atomic_folder, write_json
from spider_utils.training.averaging import Averaged
from spider_utils.training.checkpoints import CARD_FILE, WEIGHTS_FILE, load_model, write_tensors
from spider_utils.training.runs import RunResult

MOST_BYTES = 20_000_000  # of all shipped weights together
FIELD_MM = (300.0, 240.0)  # height and width of SPIDER's T2_SPACE series, and about those of full phantoms
SPIDER_CREDIT = {
    "name": "SPIDER (van der Graaf et al.), T2_SPACE slices as released by Ahmed et al.",
    "doi": "10.1038/s41597-024-03090-w",
    "licence": "CC-BY-4.0",
    "changes": "resampled to {}x{} pixels at the last; network weights learned from images and masks",
}
PHANTOM_CREDIT = {"name": "phantoms of this kit, random looks", "licence": "Apache-2.0"}


@dataclass(frozen=True)
class Product:
    """A network to ship.

    Attributes:
        what: a sentence on what it is for and what it is not.
        run: its training.
        on: whom it was measured on.
        scores: makes rows as of Workspace.evaluate that say what it is worth.
        second: name of the product that it asks for a second opinion (see predict.PooledPredictor); it must lie beside it.
    """

    what: str
    run: Callable[[Kitchen], RunResult | Averaged]
    on: str
    scores: Callable[[Kitchen], pd.DataFrame]
    second: str | None = None


UNSEEN = "30 patients, 5-fold: each by a network of the same recipe that had not seen him"
PRODUCTS = {
    "structures4": Product(
        "Vertebrae, spinal canal and discs in sagittal T2-like slices. Learned from phantoms, then from real T2_SPACE slices.",
        Kitchen.final,
        UNSEEN,
        cross_validated,
    ),
    "structures4-phantom": Product(
        "Vertebrae, spinal canal and discs in sagittal slices of any contrast. Learned from phantoms of random looks alone.",
        Kitchen.coarse,
        "30 real patients (T2_SPACE slices), none of whom it had seen",
        lambda kitchen: on_everyone(kitchen, kitchen.coarse()),
    ),
    "levels20": Product(
        "Each vertebra and disc by its name, and the canal, in sagittal series of any contrast. Learned from phantoms, then from "
        "phantoms and real T2_SPACE slices together; asks structures4 for a second opinion on what is vertebra, canal or disc.",
        Kitchen.levels_final,
        "30 patients, 5-fold: each by networks of the same recipe, and of that of its second opinion, that had not seen him",
        of_levels,
        second="structures4",
    ),
}


def ship(name: str, kitchen: Kitchen, out: str | Path) -> Path:
    """Train (or find) one of PRODUCTS, score it, and write it to the folder ``out``: see ``pack``.

    Raises:
        KitError: the network that it asks for a second opinion does not lie beside ``out``.
    """
    product = PRODUCTS[name]
    if product.second and not (Path(out).parent / product.second / CARD_FILE).is_file():
        raise KitError(f"{name} asks {product.second}, which is not beside {out}: pack that one first")
    about = {"on": product.on, "command": f"spider-kit weights score {name}"}
    means = mean_scores(product.scores(kitchen), ["shown"])
    means = means[means["n"] > 0].astype(object).where(lambda value: value.notna(), None)  # JSON knows no NaN
    measured = [about | row for row in means.to_dict("records")]
    told = {"what": product.what, "measured": measured, "made_by": f"spider-kit weights pack {name}"}
    run = product.run(kitchen)
    second = {"network": product.second, "weight": kitchen.recipe.second_weight}
    advice = {"second_opinion": second} if product.second else {}
    return pack(run, out, told | advice | {"tidy": asdict(kitchen.recipe.tidy_for(run.card["scheme"]))})


def pack(run: RunResult | Averaged, out: str | Path, told: dict[str, Any]) -> Path:
    """Write a run's network for shipping: weights as float16, which changes a probability by less than 0.01, and a card.

    Args:
        run: a finished training of slices.
        out: folder to write; replaced when it is there.
        told: what the card says beside what the run's card does: a sentence on what it is for and what it is not, what was
            measured, on whom, what makes it again, how masks of slices become those of a series, whose second opinion it asks.

    Returns:
        ``out`` as a Path: ``model.safetensors``, ``model.json``.

    Raises:
        KitError: the shipped networks together would be larger than MOST_BYTES.
    """
    out = Path(out)
    model, card = load_model(run.folder)
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    others = sum(path.stat().st_size for path in out.parent.glob("*/*") if path.parent != out)
    if size + others > MOST_BYTES:
        raise KitError(
            f"{out.name}: {size} bytes beside {others} of the other networks are more than {MOST_BYTES}: use a smaller one"
        )
    if not all(torch.isfinite(tensor.float()).all() for tensor in tensors.values()):
        raise KitError(f"{run.folder}: a weight is too large for float16")
    of_patients = SPIDER_CREDIT | {"changes": SPIDER_CREDIT["changes"].format(*card["size"])}
    credits = [PHANTOM_CREDIT] + ([of_patients] if card["data"]["kind"] != "phantom" else [])
    with atomic_folder(out, marker=CARD_FILE) as folder:
        write_tensors(folder / WEIGHTS_FILE, tensors)
        about = {"field_mm": FIELD_MM, "learned_from": credits, "licence": "CC-BY-4.0"}
        write_json(folder / CARD_FILE, card | told | about)
    return out
