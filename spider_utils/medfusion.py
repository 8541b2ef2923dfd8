"""MedFusionNet (`medfusion`): four networks, every pair of them, all four, and its Table 2 beside what is measured here.

Weights are chosen on validation patients and every result is of test patients. All networks are scored on the slice store's grid,
where their probabilities meet, so numbers differ a little from those in the series' own grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.manifest import printed_table
from spider_utils.data.splits import Split
from spider_utils.ensemble import EnsembleWeights, PairWeight, Stacking, best_pair_weight, best_weights, label_map
from spider_utils.errors import KitError
from spider_utils.evaluation.arithmetic import highest_mean_dice
from spider_utils.evaluation.slices import score_slices
from spider_utils.evaluation.statistics import compare, summarise
from spider_utils.labels import get_scheme
from spider_utils.runtime import progress
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace

TITLES = {"unet": "U-Net", "unetplusplus": "U-Net++", "resunet": "ResUNet", "deeplabv3": "DeepLabV3"}
"""The source's four networks, in its order."""
GRID = np.linspace(0, 1, 21)
"""The weights that the source tries."""
ALL = "all networks"
OTHER_WAYS = {ALL: "probabilities", f"{ALL}, votes": "votes", f"{ALL}, weights by class": "by class"}


def printed(table: str) -> pd.DataFrame:
    """What the source prints: "table2" (model, iou, dice) or "weights" (weight of U-Net++ beside ResUNet, iou, dice, ``diff``).

    Raises:
        KitError: another name.
    """
    return printed_table("medfusion", table, ("table2", "weights"))


@dataclass(frozen=True)
class Maps:
    """What several networks say of the same slices.

    Attributes:
        probabilities: by network, float16 (slices, classes, rows, columns), memory-mapped.
        truth: uint8 (slices, rows, columns).
        table: the slices' rows of the store's table.
        volumes: what each slice is scored together with (slices,): its series, or itself alone.
    """

    probabilities: Mapping[str, np.ndarray]
    truth: np.ndarray
    table: pd.DataFrame
    volumes: np.ndarray

    def of(self, names: Sequence[str]) -> list[np.ndarray]:
        """The probabilities of some networks, in this order."""
        return [self.probabilities[name] for name in names]


@dataclass(frozen=True)
class FusionStudy:
    """Trained networks and the ensembles that can be made of them.

    Attributes:
        workspace: where runs and data are.
        runs: the trained networks by name; the same scheme, slice size and split for all.
        split: what they were trained with; the default split when None.
    """

    workspace: Workspace
    runs: Mapping[str, RunResult]
    split: Split | None = None

    @classmethod
    def train(cls, workspace: Workspace) -> FusionStudy:
        """The source's four networks with four classes in the workspace's profile, trained now where they are missing."""
        return cls(workspace, {name: workspace.train(name) for name in TITLES})

    def __post_init__(self) -> None:
        same = ("scheme", "size", "data", "split", "enlarged_to")
        kinds = [[run.card.get(key) for key in same] for run in self.runs.values()]
        if len(kinds) < 2 or any(kind != kinds[0] for kind in kinds):
            raise KitError(
                "an ensemble needs two or more runs with the same label scheme, slices and split, not "
                + ", ".join(Path(run.folder).name for run in self.runs.values())
            )

    @property
    def names(self) -> list[str]:
        """The networks, in the source's order."""
        order = list(TITLES)
        return sorted(self.runs, key=lambda name: order.index(name) if name in order else len(order))

    @property
    def by_slice(self) -> bool:
        """Whether images count one by one: in `medfusion`'s kind of set the images of a series are copies of one slice."""
        return "enlarged_to" in self.runs[self.names[0]].card

    @property
    def classes(self) -> dict[int, str]:
        """Foreground classes."""
        scheme = next(iter(self.runs.values())).card["scheme"]
        return {value: name for value, name in get_scheme(scheme).names.items() if value}

    def maps(self, subset: str) -> Maps:
        """Probabilities of all networks on the slices of "val" or "test"."""
        found = {name: self.workspace.probabilities(self.runs[name], self.split, subset) for name in self.names}
        _, truth, table = next(iter(found.values()))
        volumes = np.arange(len(table)) if self.by_slice else table["case"].to_numpy()
        return Maps({name: probabilities for name, (probabilities, _, _) in found.items()}, truth, table, volumes)

    @cached_property
    def val(self) -> Maps:
        """On validation patients, where weights are chosen."""
        return self.maps("val")

    @cached_property
    def test(self) -> Maps:
        """On test patients, where results are reported."""
        return self.maps("test")

    def score(self, labels: np.ndarray) -> pd.DataFrame:
        """Scores of label maps of the test slices (see score_slices)."""
        return score_slices(self.test.truth, labels, self.test.table, self.classes, self.by_slice)

    # ------------------------------------------------------------------------------------------------ weights, validation

    @cached_property
    def pairs(self) -> dict[str, PairWeight]:
        """Best weight of the first of every two networks, by "<first>+<second>": mean Dice of validation volumes."""
        return {
            f"{a}+{b}": best_pair_weight(*self.val.of((a, b)), self.val.truth, volumes=self.val.volumes)
            for a, b in progress(list(combinations(self.names, 2)), desc="weights of pairs", lines=1)
        }

    @cached_property
    def mixtures(self) -> dict[str, EnsembleWeights]:
        """The best weights of all networks, by the rules of OTHER_WAYS, on validation patients."""
        # Two random starts beside the five fixed ones: with 4 and with 8 the quick phantom's weights come out the same.
        return {
            name: best_weights(self.val.of(self.names), self.val.truth, volumes=self.val.volumes, rule=rule, restarts=2)
            for name, rule in progress(list(OTHER_WAYS.items()), desc="weights of all networks", lines=1)
        }

    def pair_table(self) -> pd.DataFrame:
        """One row a pair, on validation patients: the exact optimum and the weights that share it, the grid's, each alone."""
        rows = []
        for name, best in self.pairs.items():
            grid = best.at(GRID)
            rows.append(
                {
                    "pair": name, "weight": best.weight, "from": best.interval[0], "to": best.interval[1], "exact": best.score,
                    "grid": grid.max(), "grid_weight": GRID[grid.argmax()],
                    "first_alone": best.at(1.0), "second_alone": best.at(0.0), "pieces": len(best.curve),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def best_pair(self) -> str:
        """The pair that is best on validation patients."""
        return max(self.pairs, key=lambda name: self.pairs[name].score)

    # ------------------------------------------------------------------------------------------------------ results, test

    @cached_property
    def singles(self) -> dict[str, pd.DataFrame]:
        """Test scores of each network alone."""
        return {name: self.workspace.evaluate_slices(self.runs[name], self.split, by_slice=self.by_slice) for name in self.names}

    @cached_property
    def fused(self) -> dict[str, pd.DataFrame]:
        """Test scores of every ensemble: pairs, all networks by several rules, and stacking."""
        maps = self.test.of(self.names)
        scores = {}
        for name, best in self.pairs.items():
            scores[name] = self.score(label_map(self.test.of(name.split("+")), (best.weight, 1 - best.weight)))
        for name, mixture in self.mixtures.items():
            scores[name] = self.score(mixture.label_map(maps))
        stacking = Stacking.fit(self.val.of(self.names), self.val.truth)
        return scores | {f"{ALL}, stacking": self.score(stacking.label_map(maps))}

    @property
    def best_single(self) -> str:
        """The network that is best alone on validation patients."""
        alone = {name.split("+")[side]: float(best.at(1.0 - side)) for name, best in self.pairs.items() for side in (0, 1)}
        return max(alone, key=alone.__getitem__)

    def against_best_single(self) -> pd.DataFrame:
        """One row an ensemble: mean Dice of test volumes minus that of ``best_single``, with a 95 % interval over patients."""
        rows = []
        for name, scores in self.fused.items():
            found = compare(scores, self.singles[self.best_single]).set_index("name").loc["foreground mean"]
            columns = ["mean_a", "mean_b", "difference", "low", "high", "n", "patients"]
            rows.append({"ensemble": name, **found[columns]})
        return pd.DataFrame(rows).rename(columns={"mean_a": "dice", "mean_b": "best_single"})

    def table2(self) -> pd.DataFrame:
        """The source's Table 2, each row beside what is measured here on test patients.

        Returns:
            One row a network or pair, in the source's order: model, weight (of the first of a pair, chosen on validation
            patients), printed_iou, printed_dice, possible (whether that Dice can be a mean over the same items as that IoU,
            rounded as printed), iou and dice (mean over test volumes of the mean over foreground classes), low and high (95 %
            interval of dice, bootstrap over patients), n, unit, patients.
        """
        scores, rows = self.singles | self.fused, []
        for row in printed("table2").itertuples():
            if row.model not in scores:
                continue
            summary = summarise(scores[row.model])
            foreground = summary[summary["name"] == "foreground mean"].set_index("metric")
            dice, iou = foreground.loc["dice"], foreground.loc["iou"]
            rows.append(
                {
                    "model": row.model,
                    "weight": self.pairs[row.model].weight if row.model in self.pairs else np.nan,
                    "printed_iou": row.iou, "printed_dice": row.dice,
                    "possible": row.dice - 0.0005 <= highest_mean_dice(row.iou + 0.0005),
                    "iou": iou["mean"], "dice": dice["mean"], "low": dice["low"], "high": dice["high"],
                    "n": dice["n"], "unit": dice["unit"], "patients": dice["patients"],
                }
            )  # fmt: skip
        return pd.DataFrame(rows)


def title_of(model: str) -> str:
    """ "unet+resunet" -> "U-Net + ResUNet"; other names as they are."""
    return " + ".join(TITLES.get(part, part) for part in model.split("+"))
