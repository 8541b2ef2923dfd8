"""`triplanar`: one 2D network a plane, fused by a small 3D network; its cross-validation, its tables and its training-size curve.

Each fold of the cross-validation parts the patients into four: those that train the three 2D networks, those whose predictions
train the fusion, those on which weights of both are chosen, and those that test. The source splits a validation set in two for
the fusion and does not say whether the patients of its tables were in it; here nobody who is scored chose anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from spider_utils.data.augment import make_augment
from spider_utils.data.discs import LABELLED_DISCS, SACRAL_DISC, DiscSet
from spider_utils.data.manifest import published_table
from spider_utils.data.planes import PLANES, ChannelVolume, PlaneSlices, padded_size
from spider_utils.ensemble.planes import (
    FusionDesign,
    FusionTraining,
    Lesson,
    PlaneFusion,
    plane_probability,
    sensitivity,
    train_fusion,
)
from spider_utils.errors import KitError
from spider_utils.evaluation.discs import by_disc, keep_lowest, nearest_disc, place_in_disc, position_counts
from spider_utils.evaluation.metrics import measure_case
from spider_utils.evaluation.statistics import FOREGROUND, compare, summarise
from spider_utils.files import atomic_path, fingerprint, sha256_of
from spider_utils.labels import disc_name
from spider_utils.locks import make_once
from spider_utils.measure.levels import name_levels
from spider_utils.models import build_model
from spider_utils.runtime import pick_device, progress, seed_everything
from spider_utils.training.checkpoints import WEIGHTS_FILE, copy_matching_weights
from spider_utils.training.loop import RunResult, TrainConfig, fit
from spider_utils.training.provenance import provenance
from spider_utils.workflow import Workspace

N_FOLDS = 4
FUSED, MEAN = "fused", "mean of three"
FUSIONS = {
    FUSED: FusionDesign(),
    "fused without positions": FusionDesign(positions=False),
    "weights voxel by voxel": FusionDesign(kernel=1, hidden=0, positions=False),
}
METHODS = (*PLANES, MEAN, *FUSIONS)
ALL, PART, LOWEST, NAMED = "all", "labelled part", "lowest", "named"
RULES = (ALL, PART, LOWEST, NAMED)  # against discs that were found where none is labelled
CONTRASTS = ("fat", "inn", "wat")  # disc and surroundings differ least in the opposed phase (notebook 10)
LESSON_PLANE = "sagittal"  # of the networks that show what patients and unlabelled discs are worth
DISCS = {number: disc_name(number) for number in range(1, LABELLED_DISCS + 1)}
_DISC_LABEL = 200  # what scheme "spider" adds to a disc's number
_TOLERANCE_MM = 1.0
_VERSION = 2  # raised whenever the same runs would be fused, or volumes prepared, otherwise


def printed(table: str) -> pd.DataFrame:
    """What the source prints: "table1" (plane, dice) or "tables2to4" (table, row, disc, dice).

    Raises:
        KitError: another name.
    """
    if table not in ("table1", "tables2to4"):
        raise KitError(f"'{table}' is not known. Known are: table1, tables2to4")
    return published_table(f"triplanar_{table}")


# ------------------------------------------------------------------------------------------------------------------- folds


@dataclass(frozen=True)
class Fold:
    """Who does what in one fold; nobody does two things.

    Attributes:
        number: from 0.
        train: patients that train the 2D networks.
        learn: patients whose predictions train the fusion.
        check: patients on whom the best weights of networks and fusion are chosen; nobody where the set is too small.
        test: patients that are scored.

    Raises:
        KitError: a patient has two parts, or nobody trains or is tested.
    """

    number: int
    train: tuple[int, ...]
    learn: tuple[int, ...]
    check: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        parts = (self.train, self.learn, self.check, self.test)
        if not self.train or not self.test:
            raise KitError("a fold needs patients to train and patients to test: use more patients or fewer folds")
        everybody = [patient for part in parts for patient in part]
        if len(set(everybody)) != len(everybody):
            raise KitError(f"fold {self.number}: a patient is in two of its parts, so that scores would flatter")

    @property
    def facts(self) -> dict[str, Any]:
        """For the card of a run: name, number and fingerprint."""
        parts = [self.train, self.learn, self.check, self.test]
        return {"name": f"triplanar{N_FOLDS}", "seed": 0, "fold": self.number, "fingerprint": fingerprint(parts)}


def make_folds(patients: Sequence[int], n_folds: int = N_FOLDS, seed: int = 0) -> list[Fold]:
    """Folds by patient: each tests once; of the others two thirds train, and the rest parts into learn and check.

    Sixteen patients in four folds: 8 train, 2 learn, 2 check, 4 test. The patients stand in a circle; after those that a fold
    tests come those that train, then learn, then check. So each fold's fusion learns from other patients: in this case every
    patient serves once, to learn or to check.

    Raises:
        KitError: too few patients.
    """
    order = np.random.default_rng(seed).permutation(sorted(patients)).tolist()
    if len(order) < n_folds or len(order) - -(-len(order) // n_folds) < 3:
        raise KitError(
            f"{n_folds} folds with patients to train, to fuse, to check and to test need more than {len(order)} patients"
        )
    folds, begin = [], 0
    for number, test in enumerate(np.array_split(order, n_folds)):
        others = order[begin + len(test) :] + order[:begin]
        begin += len(test)
        n_train = len(others) - max(2, round(len(others) / 3))
        held = others[n_train:]
        parts = (others[:n_train], held[: (len(held) + 1) // 2], held[(len(held) + 1) // 2 :], test.tolist())
        folds.append(Fold(number, *(tuple(sorted(part)) for part in parts)))
    return folds


# ---------------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """How the networks of one profile are made and trained.

    Attributes:
        options: of the network dilated_unet.
        epochs, steps_per_epoch: of a 2D network; steps rather than slices, so that planes and patient numbers compare.
        step_pixels: pixels of a step; slices of the three planes differ in size.
        learning_rate, optimizer, schedule, augment: as in a Profile.
        empty_step: of slices without a disc every so many is shown in training.
        fusion_steps: of a fusion.
        folds: how many of the N_FOLDS folds the notebook does.
        curve: numbers of training patients of the curve, besides all of them.
    """

    options: Mapping[str, Any] = field(hash=False)
    epochs: int
    steps_per_epoch: int
    step_pixels: int
    learning_rate: float
    optimizer: str
    schedule: str
    augment: str
    empty_step: int
    fusion_steps: int
    folds: int
    curve: tuple[int, ...]


SETTINGS: dict[str, Settings] = {
    "smoke": Settings(
        options={"encoder": "tu-test_resnet", "decoder_channels": [16, 16, 12, 8], "foreground_prior": 0.02},
        epochs=2,
        steps_per_epoch=8,
        step_pixels=4 * 128 * 128,
        learning_rate=1e-2,
        optimizer="adamw",
        schedule="one_cycle",
        augment="none",
        empty_step=6,
        fusion_steps=20,
        folds=1,
        curve=(1,),
    ),
    "quick": Settings(
        options={"encoder": "tu-test_resnet", "decoder_channels": [32, 24, 16, 8], "foreground_prior": 0.02},
        epochs=3,
        steps_per_epoch=26,
        step_pixels=8 * 128 * 128,
        learning_rate=1e-2,
        optimizer="adamw",
        schedule="one_cycle",
        augment="none",
        empty_step=4,
        fusion_steps=200,
        folds=4,
        curve=(1, 3),
    ),
    # The source says: ResNet-50 at stride 8, starting from pretrained weights, extensive augmentation, 4 folds. Nothing of
    # steps, rates or losses.
    "paper": Settings(
        options={"encoder": "resnet50", "encoder_weights": "imagenet", "decoder_channels": [256, 128, 64, 32]},
        epochs=50,
        steps_per_epoch=200,
        step_pixels=8 * 256 * 256,
        learning_rate=1e-3,
        optimizer="adam",
        schedule="cosine",
        augment="triplanar",
        empty_step=2,
        fusion_steps=2000,
        folds=4,
        curve=(1, 2, 4),
    ),
}


# ------------------------------------------------------------------------------------------------------------------- study


class TriplanarStudy:
    """The source's cross-validation on one set of volumes; each part of it is made when it is asked for first, and kept.

    Attributes:
        volumes: the patients, by number.
        folder: of its runs, one a training: fold<k>-<plane>.
        settings: see Settings.
        data: what the volumes are, for the cards of runs: kind and fingerprint.
        folds: who does what.
        teacher: a study of other volumes for a set that is too small to hold patients back: the first weights of networks, and
            the fusions, are those of its first fold; None trains everything here.
        device: "auto", "cpu", "cuda" or "mps".
        labelled: the highest disc that the volumes label.
    """

    def __init__(
        self,
        volumes: Mapping[int, ChannelVolume],
        folder: str | Path,
        settings: Settings,
        data: Mapping[str, str],
        folds: Sequence[Fold] | None = None,
        teacher: TriplanarStudy | None = None,
        device: str = "auto",
    ):
        self.volumes, self.folder, self.settings, self.data, self.device = volumes, Path(folder), settings, dict(data), device
        self.teacher, self.labelled = teacher, max(int(one.mask.max()) for one in volumes.values())
        self.folds = list(folds) if folds is not None else make_folds(list(volumes))[: settings.folds]
        self._masks: dict[tuple[str, Fold, int], np.ndarray] = {}
        self._near: dict[int, np.ndarray] = {}
        self._runs: dict[tuple, RunResult] = {}

    @classmethod
    def open(cls, workspace: Workspace) -> TriplanarStudy:
        """The study of a workspace's disc volumes in its profile."""
        discs = workspace.discs()
        folder = workspace.home / "runs" / f"{workspace.profile.name}-triplanar"
        facts = {"kind": discs.kind, "fingerprint": fingerprint([discs.state(), CONTRASTS, _VERSION])}
        return cls(load_volumes(discs, CONTRASTS), folder, SETTINGS[workspace.profile.name], facts)

    @classmethod
    def leave_one_out(cls, workspace: Workspace, discs: DiscSet, spacing_mm: float) -> TriplanarStudy:
        """A study of a set of few patients: each is tested by networks that the others trained, which start from the phantom's.

        With nobody held back, the epoch is chosen on the training patients, and the fusion is the phantom's.

        Args:
            workspace: whose profile and phantom study are used.
            discs: two patients or more.
            spacing_mm: edge of the voxels that volumes are resampled to; that of the phantom, for whose voxels the fusion was
                made.

        Raises:
            KitError: fewer than two patients.
        """
        patients = sorted(discs.cases["patient"])
        if len(patients) < 2:
            raise KitError(f"leaving one out needs two patients or more; {discs.root} holds {len(patients)}")
        folds = [
            Fold(number, tuple(one for one in patients if one != tested), (), (), (tested,))
            for number, tested in enumerate(patients)
        ]
        folder = workspace.home / "runs" / f"{workspace.profile.name}-triplanar-{discs.kind}"
        facts = {"kind": discs.kind, "fingerprint": fingerprint([discs.state(), spacing_mm, _VERSION])}
        volumes = load_volumes(discs, spacing_mm=(spacing_mm,) * 3)
        # A network learns the few patients by heart in no time: all of the source's augmentations, whatever the profile has.
        settings = replace(SETTINGS[workspace.profile.name], augment="triplanar")
        return cls(volumes, folder, settings, facts, folds, cls.open(workspace))

    @property
    def tested(self) -> list[tuple[Fold, int]]:
        """Every test patient with the fold that tests it, by patient."""
        return sorted(((fold, patient) for fold in self.folds for patient in fold.test), key=lambda pair: pair[1])

    # -- networks

    def train(
        self,
        fold: Fold,
        plane: str,
        patients: Sequence[int] | None = None,
        crop: bool = True,
    ) -> RunResult:
        """The trained network of a plane, trained now when there is no finished run with these settings.

        Args:
            fold: whose training patients it sees; the best epoch is chosen on its patients to check.
            plane: "sagittal", "axial" or "coronal".
            patients: fewer patients to train on, for the curve; the fold's when None.
            crop: whether unlabelled discs are cropped out of training images, as in the source.
        """
        chosen = fold.train if patients is None else tuple(patients)
        if (fold, plane, chosen, crop) in self._runs:  # to look into its folder would take the data sets first
            return self._runs[fold, plane, chosen, crop]
        if not chosen or not set(chosen) <= set(fold.train):
            raise KitError(f"fold {fold.number} trains with {fold.train}, not with {chosen or 'nobody'}")
        settings = self.settings
        parts = [f"fold{fold.number}", plane]
        if chosen != fold.train:
            parts.append(f"{len(chosen)}patients")
            if chosen != fold.train[: len(chosen)]:  # a folder of its own, or one run's weights would lie under another's card
                parts.append(fingerprint(chosen))
        parts += ["uncropped"] * (not crop)
        volumes = [self.volumes[patient] for patient in chosen]
        volumes = [one.without_unlabelled_discs() for one in volumes] if crop else volumes
        seed_everything(fold.number)
        channels = len(volumes[0].image)
        model = build_model("dilated_unet", channels, 2, **settings.options)
        start_from = self.teacher.train(self.teacher.folds[0], plane) if self.teacher else None
        if start_from is not None:
            copy_matching_weights(start_from.load_model(), model)
        shapes = [np.delete(one.mask.shape, PLANES[plane]) for one in volumes]
        size = padded_size(np.max(shapes, axis=0).tolist(), model.stride)
        batch = max(2, round(settings.step_pixels / (size[0] * size[1])))
        config = TrainConfig(
            epochs=settings.epochs,
            batch_size=batch,
            learning_rate=settings.learning_rate,
            optimizer=settings.optimizer,
            schedule=settings.schedule,
            samples_per_epoch=batch * settings.steps_per_epoch,
            seed=fold.number,
        )
        train_set = PlaneSlices(
            volumes,
            plane,
            model.stride,
            make_augment(settings.augment),
            fold.number,
            settings.empty_step,
            config.samples_per_epoch,
        )
        val_set = PlaneSlices(
            [self.volumes[patient].without_unlabelled_discs() for patient in fold.check or chosen],
            plane,
            model.stride,
            empty_step=settings.empty_step,
        )
        card = {
            "scheme": "discs",
            "plane": plane,
            "data": self.data,
            "split": fold.facts,
            "patients": list(chosen),
            "cropped": crop,
            "augment": settings.augment,
        }
        if start_from is not None:
            card["starts_from"] = {"run": Path(start_from.folder).name, "card": fingerprint(start_from.card)}
        folder = self.folder / "-".join(parts)
        run = fit(model, train_set, val_set, folder, config, card, device=self.device, overwrite=True)
        self._runs[fold, plane, chosen, crop] = run
        return run

    def probability(self, run: RunResult, patient: int) -> np.ndarray:
        """What a run says of a patient: float16 (slice, row, column); computed once and kept in the run's folder.

        Raises:
            KitError: the run was trained on this patient.
        """
        if patient in run.card["patients"]:
            raise KitError(f"run '{Path(run.folder).name}' was trained on patient {patient}: its predictions there mean nothing")
        path = Path(run.folder) / f"probability-{patient}.npy"  # a run that is trained anew replaces its whole folder

        def predict() -> None:
            device = pick_device(self.device)
            found = plane_probability(run.load_model(device), self.volumes[patient].image, run.card["plane"], device)
            with atomic_path(path) as partial, open(partial, "wb") as file:
                np.save(file, found.astype(np.float16))

        make_once(path, path.is_file, predict)
        return np.load(path)

    def planes(self, fold: Fold, patient: int) -> dict[str, np.ndarray]:
        """float32 probabilities of the fold's three networks for a patient that they do not know, by plane."""
        return {plane: self.probability(self.train(fold, plane), patient).astype(np.float32) for plane in PLANES}

    # -- fusion

    def fusion(self, fold: Fold, name: str = FUSED) -> PlaneFusion:
        """A fold's fusion, trained on what its networks say of patients that they do not know.

        Args:
            fold: whose patients.
            name: one of FUSIONS.

        Its file holds the weights and, in the header, what made them: see PlaneFusion.notes.
        """
        if self.teacher is not None:
            return self.teacher.fusion(self.teacher.folds[0], name)
        path = self.folder / f"fold{fold.number}-{name.replace(' ', '-')}.safetensors"
        runs = [self.train(fold, plane) for plane in PLANES]
        design, training = FUSIONS[name], FusionTraining(steps=self.settings.fusion_steps, seed=fold.number)
        identity = {
            "code": _VERSION,
            "design": asdict(design),
            "training": asdict(training),
            "networks": {Path(run.folder).name: sha256_of(Path(run.folder) / WEIGHTS_FILE) for run in runs},
            "patients": {"train": list(fold.train), "learn": list(fold.learn), "check": list(fold.check)},
            "split": fold.facts,
            "data": self.data,
        }

        def is_there() -> bool:
            return path.is_file() and PlaneFusion.notes(path).get("identity") == identity

        def make() -> None:
            learn, check = ([self._lesson(fold, patient) for patient in who] for who in (fold.learn, fold.check))
            fusion, history = train_fusion(design, learn, check, training)
            fusion.save(path, {"identity": identity, "history": history} | provenance("cpu"))

        make_once(path, is_there, make)
        return PlaneFusion(design).load(path).eval()

    def _lesson(self, fold: Fold, patient: int) -> Lesson:
        volume = self.volumes[patient]
        return Lesson(self.planes(fold, patient), volume.mask > 0, volume.first_labelled_row)

    def train_fold(self, fold: Fold) -> list[RunResult]:
        """Train all of a fold: three networks and its fusions."""
        runs = [self.train(fold, plane) for plane in PLANES]
        for name in FUSIONS:
            self.fusion(fold, name)
        return runs

    def train_lessons(self) -> list[RunResult]:
        """Train what ``curve`` and ``unlabelled`` need besides the first fold's networks."""
        fold = self.folds[0]
        smaller = [self.train(fold, LESSON_PLANE, fold.train[:n]) for n in self.settings.curve if n < len(fold.train)]
        return [*smaller, self.train(fold, LESSON_PLANE, crop=False)]

    # -- masks and scores

    def mask(self, method: str, fold: Fold, patient: int) -> np.ndarray:
        """bool (slice, row, column): where a method of METHODS sees a disc (probability above one half)."""
        if (method, fold, patient) not in self._masks:
            planes = self.planes(fold, patient)
            if method in PLANES:
                found = planes[method]
            elif method == MEAN:
                found = np.mean(list(planes.values()), axis=0)
            else:
                found = self.fusion(fold, method).probability(planes)
            self._masks[method, fold, patient] = found > 0.5
        return self._masks[method, fold, patient]

    def scores(self, methods: Sequence[str] = METHODS, rule: str = PART) -> pd.DataFrame:
        """Scores of methods on every test patient, disc by disc.

        Args:
            methods: of METHODS.
            rule: see ``keep_by_rule``.

        Returns:
            Rows of measure_case (class 1 to 7, no distances) with method, case and patient. A voxel counts for the nearest true
            disc.
        """
        tables = []
        for fold, patient in self.tested:
            for method in methods:
                mask = self._kept(self.mask(method, fold, patient), patient, rule)
                tables.append(self._scored(patient, mask).assign(method=method))
        return pd.concat(tables, ignore_index=True)

    def _nearest(self, patient: int) -> np.ndarray:
        if patient not in self._near:
            self._near[patient] = nearest_disc(self.volumes[patient].mask, self.volumes[patient].spacing)
        return self._near[patient]

    def _scored(self, patient: int, mask: np.ndarray) -> pd.DataFrame:
        """measure_case of the discs that the truth holds, with case and patient; a found voxel counts for the nearest disc."""
        volume = self.volumes[patient]
        there = {number: name for number, name in DISCS.items() if (volume.mask == number).any()}
        table = measure_case(volume.mask, by_disc(self._nearest(patient), mask), None, there, _TOLERANCE_MM)
        return table.assign(case=volume.case, patient=patient)

    @cached_property
    def final(self) -> pd.DataFrame:
        """``scores`` of all methods in the part of the volumes in which every disc is labelled."""
        return self.scores()

    def table1(self, scores: pd.DataFrame | None = None) -> pd.DataFrame:
        """The source's Table 1: mean Dice (over discs, then patients) of planes and fusion, printed beside measured.

        Returns:
            One row a method: method, printed, mean, low, high (95 % over patients), patients, and fused minus it with its paired
            interval: gain, gain_low, gain_high.
        """
        scores = self.final if scores is None else scores
        print_of = printed("table1").set_index("plane")["dice"]
        of = {method: rows for method, rows in scores.groupby("method", sort=False)}
        rows = []
        for method in of:
            ours = _foreground(summarise(of[method]), "dice")
            row = {"method": method, "printed": print_of.get("ensemble" if method == FUSED else method, np.nan)}
            row |= {"mean": ours["mean"], "low": ours["low"], "high": ours["high"], "patients": ours["patients"]}
            if method != FUSED and FUSED in of:
                gain = _foreground(compare(of[FUSED], of[method]), "dice")
                row |= {"gain": gain["difference"], "gain_low": gain["low"], "gain_high": gain["high"]}
            rows.append(row)
        return pd.DataFrame(rows)

    def table2(self, method: str = FUSED, scores: pd.DataFrame | None = None) -> pd.DataFrame:
        """The source's Table 2: Dice by disc, printed beside measured.

        Returns:
            One row a disc and the mean: disc, name, printed, mean, low, high, patients.
        """
        scores = self.final if scores is None else scores
        ours = summarise(scores[scores["method"] == method])
        ours = ours[ours["metric"] == "dice"].assign(disc=lambda rows: rows["class"].map(lambda k: "mean" if k < 0 else str(k)))
        theirs = printed("tables2to4").query("table == 2").set_index("disc")["dice"]
        return ours.assign(printed=ours["disc"].map(theirs))[["disc", "name", "printed", "mean", "low", "high", "patients"]]

    # -- what the source says and does not measure

    def by_position(self, methods: Sequence[str] = (*PLANES, FUSED), bins: int = 9) -> pd.DataFrame:
        """Is a plane better in the middle of the disc, along its normal, than at its ends?

        Returns:
            One row a method, direction (the plane whose normal it is) and bin: position (-1 to 1: the disc's ends), dice of
            all test patients' voxels there.
        """
        edges = np.linspace(-1, 1, bins + 1)
        counts = np.zeros((len(PLANES), len(methods), 3, bins), np.int64)
        for fold, patient in self.tested:
            truth, nearest = self.volumes[patient].mask, self._nearest(patient)
            for k, method in enumerate(methods):
                found = self._kept(self.mask(method, fold, patient), patient)
                for direction, axis in enumerate(PLANES.values()):
                    counts[direction, k] += position_counts(truth, nearest, found, axis, edges)
        right, extra, missing = np.moveaxis(counts, 2, 0)
        dice = 2 * right / np.maximum(2 * right + extra + missing, 1)
        names = {"direction": list(PLANES), "method": list(methods), "position": (edges[:-1] + edges[1:]) / 2}
        return pd.Series(dice.ravel(), pd.MultiIndex.from_product(names.values(), names=list(names)), name="dice").reset_index()

    def weights_at_work(self, name: str = FUSED, voxels: int = 400, bins: int = 5) -> tuple[np.ndarray, pd.DataFrame]:
        """What a fusion weighs in test patients, at voxels drawn from their discs and one voxel around.

        Args:
            name: one of FUSIONS.
            voxels: of each patient.
            bins: places along each plane's normal in the disc.

        Returns:
            Mean of ``sensitivity`` (3, 5, 5, 5); and by plane and position (-1 to 1: the disc's ends along that plane's own
            normal) the share that the plane has in the sum of all three planes' weights.
        """
        rng, edges = np.random.default_rng(0), np.linspace(-1, 1, bins + 1)
        total, number = np.zeros((len(PLANES), 5, 5, 5)), 0
        sums, alls = np.zeros((2, len(PLANES), bins))
        for fold, patient in self.tested:
            truth = self.volumes[patient].mask
            around = np.argwhere(ndimage.binary_dilation(truth > 0))
            chosen = rng.choice(around, min(voxels, len(around)), replace=False)
            found = sensitivity(self.fusion(fold, name), self.planes(fold, patient), chosen)
            total, number = total + found.sum(axis=0), number + len(found)
            discs, weights = self._nearest(patient)[tuple(chosen.T)], found.sum(axis=(2, 3, 4))
            for k, axis in enumerate(PLANES.values()):
                places = place_in_disc(truth, discs, chosen[:, axis], axis)
                sums[k] += np.histogram(places, edges, weights=weights[:, k])[0]
                alls[k] += np.histogram(places, edges, weights=weights.sum(axis=1))[0]
        shares = pd.DataFrame(sums / np.where(alls == 0, np.nan, alls), list(PLANES), (edges[:-1] + edges[1:]) / 2)
        return total / number, shares.rename_axis("plane").rename_axis("position", axis=1)

    def curve(self) -> pd.DataFrame:
        """The training-size curve of LESSON_PLANE in the first fold: score by number of training patients, with as many steps.

        Scored are the fold's patients to test and to learn, who are all unknown to the network.

        Returns:
            One row a number: patients, mean, low, high (mean Dice over discs, then patients; 95 %), tested.
        """
        fold, rows = self.folds[0], []
        sizes = sorted({n for n in self.settings.curve if n < len(fold.train)} | {len(fold.train)})
        for n in sizes:
            run = self.train(fold, LESSON_PLANE, fold.train[:n])
            found = _foreground(summarise(self._score(run, (*fold.learn, *fold.test))), "dice")
            rows.append({"patients": n, "mean": found["mean"], "low": found["low"], "high": found["high"], "tested": found["n"]})
        return pd.DataFrame(rows)

    def _score(self, run: RunResult, patients: Sequence[int], rule: str = PART) -> pd.DataFrame:
        found = {patient: self.probability(run, patient) > 0.5 for patient in patients}
        tables = [self._scored(patient, self._kept(mask, patient, rule)) for patient, mask in found.items()]
        return pd.concat(tables, ignore_index=True)

    def _kept(self, mask: np.ndarray, patient: int, rule: str = PART) -> np.ndarray:
        return keep_by_rule(mask, self.volumes[patient], rule, self.labelled)

    def unlabelled(self, all_discs: Mapping[int, np.ndarray]) -> pd.DataFrame:
        """What discs that nobody labelled do to a network, with and without the source's remedy of cropping them out.

        The network is LESSON_PLANE's of the first fold; its patients to test and to learn are looked at.

        Args:
            all_discs: every disc in view by patient, (slice, row, column), numbered from L5/S1 upward; those above the seventh
                were not labelled.

        Returns:
            One row a training and patient: training ("cropped" or "as labelled"), patient, found_above (share of the
            unlabelled discs' voxels that it calls disc), extra_mm3 (volume called disc above the highest labelled one),
            dice_seventh and dice (mean over discs), each with no rule ("all") and with the lowest seven.
        """
        fold, rows = self.folds[0], []
        for training, crop in (("cropped", True), ("as labelled", False)):
            run = self.train(fold, LESSON_PLANE, crop=crop)
            for patient in (*fold.learn, *fold.test):
                volume = self.volumes[patient]
                mask = self.probability(run, patient) > 0.5
                above = (all_discs[patient] > LABELLED_DISCS) & (all_discs[patient] != SACRAL_DISC)
                top = np.flatnonzero(volume.mask.any(axis=(0, 2)))[0]
                row = {
                    "training": training,
                    "patient": patient,
                    "found_above": float(mask[above].mean()) if above.any() else np.nan,
                    "extra_mm3": float(mask[:, :top].sum() * np.prod(volume.spacing)),
                }
                for rule, suffix in ((LOWEST, ""), (ALL, "_all")):
                    scores = self._score(run, [patient], rule).set_index("class")["dice"]
                    row |= {f"dice_seventh{suffix}": scores[LABELLED_DISCS], f"dice{suffix}": scores.mean()}
                rows.append(row)
        return pd.DataFrame(rows)

    def sacral(self, all_discs: Mapping[int, np.ndarray], method: str = FUSED) -> pd.DataFrame:
        """What a rudimentary disc in the sacrum costs under each rule, as it was found and had it been found whole.

        Args:
            all_discs: every disc in view by patient, as for ``unlabelled``; SACRAL_DISC marks rudimentary ones.
            method: of METHODS.

        Returns:
            One row a test patient with such a disc, a mask and a rule: patient, sacral_found (share of the disc's voxels that the
            method calls disc), mask ("as found" or "sacral disc added"), rule (LOWEST or NAMED), first, seventh (Dice of these
            discs) and mean (over discs).
        """
        columns = ("patient", "sacral_found", "mask", "rule", "first", "seventh", "mean")
        rows = []
        for fold, patient in self.tested:
            found, sacral = self.mask(method, fold, patient), all_discs[patient] == SACRAL_DISC
            if not sacral.any():
                continue
            for name, mask in (("as found", found), ("sacral disc added", found | sacral)):
                for rule in (LOWEST, NAMED):
                    dice = self._scored(patient, self._kept(mask, patient, rule)).set_index("class")["dice"]
                    facts = (patient, float(found[sacral].mean()), name, rule, dice[1], dice.iloc[-1], dice.mean())
                    rows.append(dict(zip(columns, facts, strict=True)))
        return pd.DataFrame(rows, columns=list(columns))


def lost_discs(scores: pd.DataFrame) -> pd.Series:
    """How many labelled discs a table of scores lost altogether, by method."""
    return scores["status"].eq("missed").groupby(scores["method"], sort=False).sum()


def keep_by_rule(mask: np.ndarray, volume: ChannelVolume, rule: str, n: int = LABELLED_DISCS) -> np.ndarray:
    """What a rule leaves of the voxels that are called disc: bool (slice, row, column).

    Args:
        mask: bool (slice, row, column).
        volume: where it was found.
        rule: "all" leaves everything; "labelled part" all from the row ABOVE_MM over the highest labelled disc down, which only
            the
            truth can tell: it is for comparing methods, not for patients; "lowest" the lowest ``n`` pieces (the source's
            filter, see keep_lowest), "named" the ``n`` lowest discs by measure.levels.name_levels, which knows the spine's
            rhythm and leaves a sacral disc out (where nothing can be named, as "lowest").
        n: how many discs are labelled.

    Raises:
        KitError: unknown rule.
    """
    if rule not in RULES:
        raise KitError(f"unknown rule '{rule}'. Known are: {', '.join(RULES)}")
    if rule == ALL or not mask.any():
        return mask
    if rule == PART:
        below = np.arange(mask.shape[1])[:, None] >= volume.first_labelled_row
        return mask & below
    if rule == LOWEST:
        return keep_lowest(mask, volume.spacing, n)
    try:
        named = name_levels(mask, volume.spacing, "discs").mask
    except ValueError:  # crumbs, or more pieces than a spine has discs: nothing that could be named
        return keep_lowest(mask, volume.spacing, n)
    return (named > _DISC_LABEL) & (named <= _DISC_LABEL + n)


def load_volumes(
    discs: DiscSet, contrasts: Sequence[str] | None = None, spacing_mm: tuple[float, float, float] | None = None
) -> dict[int, ChannelVolume]:
    """Every patient of a set, by number; see ChannelVolume.of."""
    loaded = {}
    for case in progress(discs.cases["case"].tolist(), desc="reading volumes", lines=1):
        volume = ChannelVolume.of(discs.load(case), contrasts, spacing_mm)
        loaded[volume.patient] = volume
    return loaded


def _foreground(table: pd.DataFrame, metric: str) -> pd.Series:
    """The row of the mean over discs."""
    return table[(table["class"] == FOREGROUND) & (table["metric"] == metric)].iloc[0]
