"""`triplanar`: one 2D network a plane, fused by a small 3D network, in the source's cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.augment import make_augment
from spider_utils.data.discs import LABELLED_DISCS, DiscSet
from spider_utils.data.planes import PLANES, ChannelVolume, PlaneSlices, padded_size
from spider_utils.ensemble.planes import FusionTraining, Lesson, PlaneFusion, plane_probability, train_fusion
from spider_utils.errors import KitError
from spider_utils.evaluation.discs import by_disc, nearest_disc
from spider_utils.evaluation.metrics import measure_case
from spider_utils.files import atomic_path, fingerprint, sha256_of
from spider_utils.labels import disc_name
from spider_utils.locks import make_once
from spider_utils.models import build_model
from spider_utils.runtime import pick_device, progress, seed_everything
from spider_utils.training.checkpoints import WEIGHTS_FILE, copy_matching_weights
from spider_utils.training.loop import RunResult, TrainConfig, fit
from spider_utils.training.provenance import provenance
from spider_utils.triplanar.folds import Fold, make_folds
from spider_utils.triplanar.rules import PART, keep_by_rule
from spider_utils.triplanar.settings import CONTRASTS, FUSED, FUSIONS, MEAN, METHODS, SETTINGS, Settings
from spider_utils.workflow import Workspace

DISCS = {number: disc_name(number) for number in range(1, LABELLED_DISCS + 1)}
_TOLERANCE_MM = 1.0
_VERSION = 2  # raised whenever the same runs would be fused, or volumes prepared, otherwise


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
        made_in: the workspace that it was opened in, see Workspace.facts; None for other volumes than the workspace's.
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
        made_in: Mapping[str, str] | None = None,
    ):
        self.volumes, self.folder, self.settings, self.data, self.device = volumes, Path(folder), settings, dict(data), device
        self.made_in = made_in
        self.teacher, self.labelled = teacher, max(int(one.mask.max()) for one in volumes.values())
        self.folds = list(folds) if folds is not None else make_folds(list(volumes))[: settings.folds]
        self._masks: dict[tuple[str, Fold, int], np.ndarray] = {}
        self._near: dict[int, np.ndarray] = {}
        self._runs: dict[tuple, RunResult] = {}

    @classmethod
    def open(cls, workspace: Workspace) -> TriplanarStudy:
        """The study of a workspace's disc volumes in its profile."""
        discs = workspace.discs()
        folder = workspace.runs_folder / f"{workspace.profile.name}-triplanar"
        facts = {"kind": discs.kind, "fingerprint": fingerprint([discs.state(), CONTRASTS, _VERSION])}
        return cls(load_volumes(discs, CONTRASTS), folder, SETTINGS[workspace.profile.name], facts, made_in=workspace.facts)

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
        folder = workspace.runs_folder / f"{workspace.profile.name}-triplanar-{discs.kind}"
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
        run = fit(model, train_set, val_set, folder, config, card, device=self.device, overwrite=True, made_in=self.made_in)
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

        Its file holds the weights and, in the header, what made them (see PlaneFusion.notes).

        Args:
            fold: whose patients.
            name: one of FUSIONS.
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
            rule: see ``keep_by_rule``; PART is the part of the volumes in which every disc is labelled.

        Returns:
            Rows of measure_case (class 1 to 7, no distances) with method, case, patient, rule and ``kept_by``, the rule that it
            was in the end. A voxel counts for the nearest true disc.
        """
        tables = []
        for fold, patient in self.tested:
            for method in methods:
                mask, by = self.kept(self.mask(method, fold, patient), patient, rule)
                tables.append(self.scored(patient, mask).assign(method=method, rule=rule, kept_by=by))
        return pd.concat(tables, ignore_index=True)

    def kept(self, mask: np.ndarray, patient: int, rule: str = PART) -> tuple[np.ndarray, str]:
        """``keep_by_rule`` of a mask of a patient's volume."""
        return keep_by_rule(mask, self.volumes[patient], rule, self.labelled)

    def nearest(self, patient: int) -> np.ndarray:
        """``nearest_disc`` of a patient's truth, computed once."""
        if patient not in self._near:
            self._near[patient] = nearest_disc(self.volumes[patient].mask, self.volumes[patient].spacing)
        return self._near[patient]

    def scored(self, patient: int, mask: np.ndarray) -> pd.DataFrame:
        """measure_case of the discs that the truth holds, with case and patient; a found voxel counts for the nearest disc."""
        volume = self.volumes[patient]
        there = {number: name for number, name in DISCS.items() if (volume.mask == number).any()}
        table = measure_case(volume.mask, by_disc(self.nearest(patient), mask), None, there, _TOLERANCE_MM)
        return table.assign(case=volume.case, patient=patient)


def load_volumes(
    discs: DiscSet, contrasts: Sequence[str] | None = None, spacing_mm: tuple[float, float, float] | None = None
) -> dict[int, ChannelVolume]:
    """Every patient of a set, by number; see ChannelVolume.of."""
    loaded = {}
    for case in progress(discs.cases["case"].tolist(), desc="reading volumes", lines=1):
        volume = ChannelVolume.of(discs.load(case), contrasts, spacing_mm)
        loaded[volume.patient] = volume
    return loaded
