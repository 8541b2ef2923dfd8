"""How the kit's own weights are trained: steps that start from one another, on phantoms first and on real slices last.

Each step is a run folder like any other: made when it is not there, gone on with when it was killed. Step by step:

- ``coarse``: phantoms of any look, 320x256, in strips of 160 columns. This network has seen no patient.
- ``fold``: from ``coarse``, the released T2_SPACE slices at 512x416 of the training patients of one of five folds, once more
  at a rate that starts lower, and a third time at 640x512, as they were taken; from the second round also a third one with
  contrasts at random. The mean of both third rounds' weights (training.averaging) tells what ``final`` is worth on patients
  whom it has not seen.
- ``final``: the same of all patients but the two that a training must leave out.
- ``levels``: from ``coarse``, phantoms again, each vertebra and disc by its own name (levels20).
- ``levels-fold``, ``levels-final``: from ``levels``, real slices and as many phantoms, by name as well (evidence.mixed); of the
  training patients of a fold, and of all but two.

Small first and large later, because a step on a quarter of the pixels takes a quarter of the time (progressive resizing).
Phantoms first, because they are free.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from spider_utils.data.mend import MENDED_FILE, mended_key, write_mended
from spider_utils.data.phantom import generate_dataset
from spider_utils.data.phantom.dataset import PHANTOM_FILE
from spider_utils.data.splits import Split
from spider_utils.evidence.mixed import MixedSet, mixed_set
from spider_utils.files import read_json_object
from spider_utils.locks import make_once
from spider_utils.tidy import Tidy
from spider_utils.training.averaging import Averaged, average_runs
from spider_utils.training.runs import RunResult
from spider_utils.workflow import Workspace

ARCHITECTURE = "resunet"
N_FOLDS = 5


@dataclass(frozen=True)
class Step:
    """Settings of one training, called as in ``spider-kit train``."""

    size: tuple[int, int]
    crop_columns: int | None
    epochs: int
    samples_per_epoch: int
    batch_size: int
    learning_rate: float
    slice_gap_mm: float
    augment: str


@dataclass(frozen=True)
class Recipe:
    """All that the kit's own weights are made with.

    Attributes:
        phantoms: how many made-up patients; ``phantom_seed`` and ``phantom_size`` as for generate_dataset.
        options: of the ResUNet.
        coarse, real, again, fine, wide, levels, mixed: the trainings; ``fine`` and ``wide`` follow ``again``, which follows
            ``real``, and ``mixed`` follows ``levels``.
        wide_share: of ``wide`` in the mean of its weights and those of ``fine``.
        tidy: how the masks of slices become those of a series. The first two numbers were chosen on the validation patients of
            the folds (`spider-kit weights tidy`), front_mm by the anatomy: a lumbar disc is 40 mm deep, so what lies 50 mm in
            front of its middle is belly.
        levels_tidy: the same for networks of levels, which draw whole series, and so also what lies far beside the spine.
        second_weight: of the network of classes in the second opinion that networks of levels ask it for (see
            predict.PooledPredictor); 1 would be that of classes alone.
    """

    phantoms: int
    phantom_seed: int
    phantom_size: str
    options: dict[str, Any]
    coarse: Step
    real: Step
    again: Step
    fine: Step
    wide: Step
    wide_share: float
    levels: Step
    mixed: Step
    tidy: Tidy
    levels_tidy: Tidy
    second_weight: float

    def tidy_for(self, scheme: str) -> Tidy:
        """That of networks with such masks."""
        return self.levels_tidy if scheme == "levels20" else self.tidy


RECIPE = Recipe(
    phantoms=110,
    phantom_seed=1,
    phantom_size="full",
    options={"widths": [32, 64, 128, 128, 128], "pixel_shuffle": 2},  # 2.07 million weights
    coarse=Step((320, 256), 160, 8, 2000, batch_size=16, learning_rate=3e-3, slice_gap_mm=3.0, augment="standard"),
    real=Step((512, 416), 256, 7, 1000, batch_size=8, learning_rate=1.5e-3, slice_gap_mm=0.0, augment="standard"),
    again=Step((512, 416), 256, 7, 1000, batch_size=8, learning_rate=1e-3, slice_gap_mm=0.0, augment="standard"),
    fine=Step((640, 512), 320, 7, 1000, batch_size=8, learning_rate=1e-3, slice_gap_mm=0.0, augment="standard"),
    wide=Step((640, 512), 320, 7, 1000, batch_size=8, learning_rate=1e-3, slice_gap_mm=0.0, augment="contrasts"),
    wide_share=0.5,
    # A level is told by what lies above and below it, so no sample is turned or enlarged past its field of view.
    levels=Step((320, 256), 160, 8, 2000, batch_size=16, learning_rate=2e-3, slice_gap_mm=3.0, augment="field_of_view"),
    mixed=Step((512, 416), 256, 7, 600, batch_size=8, learning_rate=1.5e-3, slice_gap_mm=0.0, augment="field_of_view"),
    tidy=Tidy(across_mm=1.3, canal_share=0.1, front_mm=50.0),
    levels_tidy=Tidy(across_mm=1.3, canal_share=0.1, spine_share=0.1, front_mm=50.0, own_votes=3.0),
    second_weight=2 / 3,
)


@dataclass(frozen=True)
class Kitchen:
    """Where the recipe is followed.

    Attributes:
        home: folder that holds data/ and runs/.
        root: folder of the released T2_SPACE slices; ``coarse`` and ``levels`` alone do without.
        recipe: what is made.
    """

    home: Path
    root: str | None = None
    recipe: Recipe = RECIPE

    def phantoms(self, looks: str) -> Workspace:
        """The recipe's made-up patients with these looks (see generate_dataset), made when they are not there."""
        folder, recipe = self.home / "data" / f"phantom-{looks}", self.recipe
        options = {"size": recipe.phantom_size, "looks": looks, "show_progress": True}
        make_once(
            folder,
            lambda: (folder / PHANTOM_FILE).is_file(),
            lambda: generate_dataset(folder, recipe.phantoms, recipe.phantom_seed, **options),  # type: ignore[arg-type]
        )
        return replace(Workspace.open("quick", "phantom", str(folder)), home=self.home)

    @cached_property
    def made_up(self) -> Workspace:
        """The phantoms of any look."""
        return self.phantoms("random")

    @cached_property
    def real(self) -> Workspace:
        """The released slices of real patients."""
        return replace(Workspace.open("quick", "spider-2d", self.root), home=self.home)

    @cached_property
    def mended(self) -> Workspace:
        """The same without lines of canal around discs (data.mend): random contrasts would paint them into the images.

        Its slices lie beside it, not among those of ``real``.
        """
        source = self.real.source
        if (source.root / MENDED_FILE).is_file():
            return self.real
        folder, key = self.home / "data" / "weights-mended", mended_key(source)

        def is_there() -> bool:
            return (folder / MENDED_FILE).is_file() and read_json_object(folder / MENDED_FILE).get("key") == key

        make_once(folder, is_there, lambda: write_mended(source, folder))
        opened = Workspace.open("quick", "spider-2d", str(folder))
        return replace(opened, home=folder.with_name("weights-mended-work"), runs=self.home / "runs")

    @cached_property
    def mixed(self) -> MixedSet:
        """Real patients and phantoms beside them, with levels."""
        return mixed_set(self.real.source, self.made_up.source, self.home / "data" / "mixed")

    @cached_property
    def both(self) -> Workspace:
        """The mixed set as data of its own: its slices and splits lie beside it, not among those of whole SPIDER."""
        opened = Workspace.open("quick", "spider", str(self.mixed.folder))
        return replace(opened, home=self.mixed.folder.with_name("mixed-work"), runs=self.home / "runs")

    def coarse(self) -> RunResult:
        """The first training, on phantoms alone."""
        return self._train(self.made_up, "coarse", self.recipe.coarse)

    def fold(self, number: int) -> tuple[Split, Averaged]:
        """One of the five networks of real slices whose test patients together are all patients; with its split."""
        split = self.real.split("kfold5", fold=number)
        return split, self._on_patients(f"fold{number}", split)

    def final(self) -> Averaged:
        """The network of real slices of all patients but two."""
        return self._on_patients("final", all_but_two(self.real.source.cases))

    def levels(self) -> RunResult:
        """The training on phantoms that names every level."""
        given = {"scheme": "levels20", "start_from": self.coarse()}
        return self._train(self.made_up, "levels", self.recipe.levels, **given)

    def levels_fold(self, number: int) -> tuple[Split, RunResult]:
        """As ``fold``, of levels."""
        split = self.real.split("kfold5", fold=number)
        return split, self._on_both(f"levels-fold{number}", split)

    def levels_final(self) -> RunResult:
        """As ``final``, of levels."""
        return self._on_both("levels-final", all_but_two(self.real.source.cases))

    def _on_both(self, tag: str, split: Split) -> RunResult:
        given = {"scheme": "levels20", "split": self.mixed.split(split), "start_from": self.levels()}
        return self._train(self.both, tag, self.recipe.mixed, **given)

    def third_rounds(self, number: int) -> tuple[Split, list[RunResult]]:
        """A fold's ``fine`` and ``wide``, whose mean ``fold`` is; with its split."""
        split = self.real.split("kfold5", fold=number)
        return split, self._third_rounds(f"fold{number}", split)

    def _third_rounds(self, tag: str, split: Split) -> list[RunResult]:
        run = self._train(self.real, tag, self.recipe.real, split=split, start_from=self.coarse())
        run = self._train(self.real, f"{tag}-again", self.recipe.again, split=split, start_from=run)
        fine = self._train(self.real, f"{tag}-fine", self.recipe.fine, split=split, start_from=run)
        return [fine, self._train(self.mended, f"{tag}-wide", self.recipe.wide, split=split, start_from=run)]

    def _on_patients(self, tag: str, split: Split) -> Averaged:
        return self.averaged(tag, self._third_rounds(tag, split), self.recipe.wide_share)

    def averaged(self, tag: str, thirds: list[RunResult], wide_share: float) -> Averaged:
        """The mean of both third rounds' weights, ``wide_share`` of it from ``wide``."""
        return average_runs(thirds, [1 - wide_share, wide_share], self.home / "build" / "weights" / f"{tag}-averaged")

    def _train(self, workspace: Workspace, tag: str, step: Step, **given: Any) -> RunResult:
        return workspace.train(ARCHITECTURE, tag=f"weights-{tag}", options=self.recipe.options, **asdict(step), **given)


def all_but_two(cases: pd.DataFrame) -> Split:
    """A split that trains on as many patients as a training can: one validates, and one, whom nothing is reported of, tests."""
    patients = sorted(cases["patient"].unique())
    subset = ["train"] * (len(patients) - 2) + ["val", "test"]
    return Split("all-but-two", 0, 0, pd.DataFrame({"patient": patients, "subset": subset})).check()
