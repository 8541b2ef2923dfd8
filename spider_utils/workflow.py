"""Find or make: what a notebook or a command needs from an earlier step, in the profile and data that were chosen.

Everything lies under the project's folder: ``data/`` (phantoms, slice stores), ``runs/`` (one folder a training),
``build/<profile>-<data>/`` (executed notebooks, figures, split, results table).
"""

from __future__ import annotations

import contextlib
import zipfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from spider_utils.data.augment import make_augment
from spider_utils.data.axial import SET_FILE as AXIAL_FILE
from spider_utils.data.axial import AxialSet
from spider_utils.data.discs import DiscSet, open_disc_set
from spider_utils.data.enlarge import enlarge_store
from spider_utils.data.phantom import GENERATOR_VERSION, generate_dataset
from spider_utils.data.phantom.axial_set import generate_axial_set
from spider_utils.data.phantom.axial_set import set_facts as axial_facts
from spider_utils.data.phantom.dataset import make_case, phantom_facts
from spider_utils.data.phantom.isotropic import SET_FILE, generate_disc_set, set_facts
from spider_utils.data.phantom.rsna import generate_rsna_set
from spider_utils.data.phantom.rsna import set_facts as rsna_facts
from spider_utils.data.rsna import PHANTOM_FILE, RsnaSet, open_rsna
from spider_utils.data.slices import SliceDataset, SliceStore, build_store, thin_out
from spider_utils.data.sources import KINDS, Case, Source, open_source
from spider_utils.data.splits import LEAKY, Split, make_split
from spider_utils.data.volume_store import VolumeDataset, VolumeStore, build_volume_store, check_preparation
from spider_utils.errors import DataError, KitError
from spider_utils.evaluation.metrics import measure_cases
from spider_utils.evaluation.slices import score_slices
from spider_utils.evaluation.statistics import summarise
from spider_utils.files import atomic_path, fingerprint, read_json, require_free_space, sha256_of, write_csv, write_json
from spider_utils.labels import convert, get_scheme
from spider_utils.locks import file_lock, make_once
from spider_utils.models import VOLUME_ARCHITECTURES, build_model
from spider_utils.models.network import top_class
from spider_utils.models.shipped import shipped
from spider_utils.predict import SLICES_AT_ONCE, Predictor, VolumePredictor, load_predictor
from spider_utils.runtime import Profile, data_folder, get_profile, progress, project_root, seed_everything
from spider_utils.training.checkpoints import copy_matching_weights, read_card
from spider_utils.training.loop import RunResult, TrainConfig, fit
from spider_utils.training.runs import RUN_FILE

PHANTOM_SEED = 2024
DEFAULT_SPLIT = "kfold5"
SCORES_VERSION = 2  # raised whenever prediction or metrics come out differently, so that kept scores are measured again
# What only networks of slices, or only those of volumes, can be told of their training.
SLICE_SETTINGS = ("slice_gap_mm", "crop_columns", "neighbours", "samples_per_epoch", "start_from")
VOLUME_SETTINGS = ("slices", "steps_per_epoch", "preparation")
TOLERANCE_MM = 1.0  # of NSD: about the in-plane voxel of a clinical series


@dataclass(frozen=True)
class Workspace:
    """One profile on one data set: where its data, runs, figures and tables are, each made when it is asked for first.

    Attributes:
        profile: how much work is done.
        data: "phantom", "spider" or "spider-2d".
        root_given: the data's folder as text; "" for the profile's own phantom.
        home: the folder that holds data/, runs/ and build/.
        runs: folder of the runs, where they are kept elsewhere; None: runs/ of ``home``.
    """

    profile: Profile
    data: str
    root_given: str
    home: Path = field(default_factory=project_root)
    runs: Path | None = None

    @classmethod
    def open(cls, profile: str = "quick", data: str = "phantom", root: str | None = None) -> Workspace:
        """Choose a profile and a data set.

        Args:
            profile: "smoke", "quick" or "paper".
            data: "phantom" needs nothing; "spider" and "spider-2d" need ``root``.
            root: folder of the data; of real ones it may be left out when it is data/<name> in the project's folder. Of phantoms
                one that `spider-kit data phantom` made, instead of the profile's own.

        Raises:
            KitError: unknown profile or data, or no root for real data.
        """
        if data not in KINDS:
            raise KitError(f"unknown data '{data}'. Known are: {', '.join(KINDS)}")
        home, chosen = project_root(), get_profile(profile)
        if data == "phantom":
            if root:
                phantom_facts(root)
            return cls(chosen, data, str(Path(root).resolve()) if root else "", home)
        folder = Path(root) if root else data_folder(home, data)
        if not folder.is_dir():
            raise KitError(
                f"{data} data need the folder that holds them, and {folder} does not exist: give ROOT=path (--root path), fetch "
                f"them with `spider-kit data fetch {data} --root {folder}`, or use the phantom"
            )
        return cls(chosen, data, str(folder.resolve()), home)

    @property
    def name(self) -> str:
        """ "<profile>-<data>", as in the names of its folders; a phantom of one's own has its folder's name too."""
        own = [Path(self.root_given).name] if self.data == "phantom" and self.root_given else []
        return "-".join([self.profile.name, self.data, *own])

    @property
    def runs_folder(self) -> Path:
        """Folder of the runs."""
        return self.runs or self.home / "runs"

    @property
    def facts(self) -> dict[str, str]:
        """What ``run.json`` says of where a run was made: enough for ``open``."""
        return {"profile": self.profile.name, "data": self.data, "root": self.root_given}

    @property
    def build(self) -> Path:
        """Folder of executed notebooks, figures, split and results."""
        return self.home / "build" / self.name

    @property
    def results_path(self) -> Path:
        """The results table: one row a run, class and metric."""
        return self.build / "results.csv"

    def figures(self, notebook: str) -> Path:
        """Folder for the figures of a notebook."""
        folder = self.build / "figures" / notebook
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _wanted(self) -> dict[str, object]:
        """What the profile's phantom is made with."""
        return {"n_patients": self.profile.patients, "seed": PHANTOM_SEED, "size": self.profile.phantom_size}

    def _phantom_folder(self) -> tuple[Path, bool]:
        """Where the profile's phantom lies, own or given, or will lie; and whether it is there."""
        own = self.home / "data" / f"phantom-{self.profile.name}"
        wanted = self._wanted() | {"generator_version": GENERATOR_VERSION}

        def is_there(folder: Path) -> bool:
            found = read_json(folder / "phantom.json") if (folder / "phantom.json").is_file() else {}
            return found.items() >= wanted.items()

        given = data_folder(self.home, own.name)
        return (given, True) if is_there(given) else (own, is_there(own))

    @cached_property
    def source(self) -> Source:
        """The series; a phantom is generated first when it is not there or was made with other settings."""
        if self.data != "phantom" or self.root_given:
            return open_source(self.data, self.root_given)
        folder, is_there = self._phantom_folder()
        if not is_there:
            make_once(
                folder,
                lambda: self._phantom_folder()[1],
                lambda: generate_dataset(folder, show_progress=True, **self._wanted()),  # type: ignore[arg-type]
            )
        return open_source("phantom", folder)

    def first_case(self) -> Case:
        """A first series to look at, T2 where there is one, without waiting for a whole phantom.

        Where the phantom is not there yet, its patient 1 alone is made, in memory: the same voxels as the set will hold.
        """
        if self.data == "phantom" and not (self.root_given or self._phantom_folder()[1]):
            return make_case(1, PHANTOM_SEED, self.profile.phantom_size)
        names = self.source.cases["case"].tolist()
        return self.source.load(next((name for name in names if "t2" in name), names[0]))

    def discs(self) -> DiscSet:
        """The profile's isotropic disc phantom (see data.phantom.isotropic), whatever ``data`` is; made when it is not there.

        Real volumes are opened with data.discs.open_disc_set: too few are public for a course to train on them.
        """
        folder = self.home / "data" / f"phantom-ivd-{self.profile.name}"
        wanted = {"n_patients": self.profile.disc_patients, "seed": PHANTOM_SEED, "voxel_mm": self.profile.disc_voxel_mm}

        def is_there() -> bool:
            return (folder / SET_FILE).is_file() and read_json(folder / SET_FILE) == set_facts(**wanted)

        make_once(folder, is_there, lambda: generate_disc_set(folder, show_progress=True, **wanted))
        return open_disc_set("ivd-phantom", folder)

    def axial(self) -> AxialSet:
        """The profile's phantom of axial slices (see data.phantom.axial_set), whatever ``data`` is; made when it is not there."""
        folder = self.home / "data" / f"phantom-axial-{self.profile.name}"
        wanted = {"n_patients": self.profile.axial_patients, "seed": PHANTOM_SEED, "size": self.profile.axial_size}

        def is_there() -> bool:
            return (folder / AXIAL_FILE).is_file() and read_json(folder / AXIAL_FILE) == axial_facts(**wanted)

        make_once(folder, is_there, lambda: generate_axial_set(folder, show_progress=True, **wanted))
        return AxialSet(folder)

    def rsna(self, root: str | Path | None = None) -> RsnaSet:
        """Studies for classification: the challenge's own in ``root``, or the profile's phantom, made when it is not there."""
        if root:
            return open_rsna(root)
        folder = self.home / "data" / f"phantom-rsna-{self.profile.name}"
        wanted = {"n_studies": self.profile.rsna_studies, "seed": PHANTOM_SEED, "size": self.profile.rsna_size}

        def is_there() -> bool:
            return (folder / PHANTOM_FILE).is_file() and read_json(folder / PHANTOM_FILE) == rsna_facts(**wanted)

        make_once(folder, is_there, lambda: generate_rsna_set(folder, show_progress=True, **wanted))
        return open_rsna(folder)

    def store(self, size: tuple[int, int] | None = None, enlarged_to: int | None = None) -> SliceStore:
        """The slices of every series, of the profile's size unless another is given.

        Args:
            size: rows, columns.
            enlarged_to: give `medfusion`'s kind of set instead: one slice a series, enlarged by copies to so many images (see
                data.enlarge).
        """
        size = size or self.profile.slice_size
        folder = self.home / "data" / "stores" / f"{self.name}-{size[0]}x{size[1]}"
        store = build_store(self.source, folder, size)
        if enlarged_to is None:
            return store
        return enlarge_store(store, enlarged_to, "medfusion", folder.with_name(f"{folder.name}-enlarged{enlarged_to}"))

    def enlarged_store(self) -> SliceStore:
        """`medfusion`'s kind of set in the profile's size."""
        return self.store(enlarged_to=self.profile.enlarge_to)

    def volume_store(self, size: tuple[int, int, int] | None = None, stretched: bool = False) -> VolumeStore:
        """Every series in one grid.

        Args:
            size: slices, rows and columns; the profile's when None.
            stretched: over the whole field of view of each series; otherwise over the profile's box in mm, the same for all.
        """
        size, box_mm = size or self.profile.volumes.size, self.profile.volumes.box_mm
        name = "x".join(map(str, size)) + ("-stretched" if stretched else "")
        voxel_mm = None if stretched else tuple(mm / n for mm, n in zip(box_mm, size, strict=True))
        return build_volume_store(self.source, self.home / "data" / "stores" / f"{self.name}-volumes-{name}", size, voxel_mm)

    def store_of(self, run: RunResult) -> SliceStore | VolumeStore:
        """The slices, or the volumes, that a run was trained on.

        Raises:
            KitError: the data are not those that it was trained on.
        """
        size = tuple(run.card["size"])
        if len(size) == 3:
            store = self.volume_store(size, stretched=run.card["voxel_mm"] is None)
        else:
            store = self.store(size, run.card.get("enlarged_to"))
        if store.fingerprint != run.card["data"]["fingerprint"]:
            raise KitError(f"run '{Path(run.folder).name}' was trained on other data than {store!r}: give those, or train again")
        return store

    def split(self, name: str = DEFAULT_SPLIT, seed: int = 0, fold: int = 0, store: SliceStore | None = None) -> Split:
        """A split of this data's patients, also written to build/ as CSV; a leaky one parts the slices of ``store``."""
        if not name.startswith(LEAKY):
            table, parts = self.source.cases, []
        else:
            store = store or self.store()
            table, parts = store.table, [store.folder.name.removeprefix(f"{self.name}-")]
        split = make_split(table, name, seed, fold)
        split.save(self.build / "splits" / f"{'-'.join([name, f'seed{seed}', f'fold{fold}', *parts])}.csv")
        return split

    def split_of(self, run: RunResult) -> Split:
        """The split that a run was trained with, made again.

        Raises:
            KitError: it cannot be: it came from a file, or the data are others.
        """
        made_with = run.card["split"]
        split = self.split(made_with["name"], made_with["seed"], made_with["fold"], self.store_of(run))
        check_split(run, split)
        return split

    def train(
        self,
        architecture: str = "unet",
        scheme: str = "structures4",
        split: Split | None = None,
        size: tuple[int, int] | None = None,
        tag: str = "",
        options: dict | None = None,
        start_from: RunResult | None = None,
        enlarged_to: int | None = None,
        **changes: object,
    ) -> RunResult:
        """The trained model of this profile; trained now when there is no finished run with these settings.

        Args:
            architecture: name in models.available_models().
            scheme: label scheme that it learns.
            split: who trains; the default split when None.
            size: rows, columns of its slices; the profile's when None.
            tag: added to the run's name, to keep variants apart.
            options: of the architecture; the profile's when None.
            start_from: a run whose weights this one starts with, wherever name and shape agree (all but the last layer when the
                schemes differ): of the same split, or of the phantom when the data are real; None starts at random.
            enlarged_to: train on `medfusion`'s kind of set of so many images instead of on all slices (see
                ``train_as_published``); nothing of it is left out.
            changes: fields of TrainConfig, ``augment``, ``slice_gap_mm`` or ``crop_columns``, that differ from the profile (whose
                ``crop_columns`` belongs to its own slice size: with another ``size``, or 0, whole slices are served); or
                ``neighbours``, slices on each side that the network sees as further channels.

        Returns:
            The run: its folder, history and card.
        """
        if architecture in VOLUME_ARCHITECTURES:
            raise KitError(f"'{architecture}' is a network of volumes: train it with Workspace.train_volumes")
        profile, scheme_ = self.profile, get_scheme(scheme)
        augment = str(changes.pop("augment", profile.augment))
        gap_mm = float(changes.pop("slice_gap_mm", profile.slice_gap_mm))  # type: ignore[arg-type]
        columns = changes.pop("crop_columns", profile.crop_columns if size in (None, profile.slice_size) else None) or None
        neighbours = int(changes.pop("neighbours", 0))  # type: ignore[call-overload]
        seed = int(changes.get("seed", 0))  # type: ignore[call-overload]
        config = TrainConfig(
            **{
                "epochs": profile.epochs,
                "batch_size": profile.batch_size,
                "learning_rate": profile.learning_rate,
                "optimizer": profile.optimizer,
                "schedule": profile.schedule,
                "samples_per_epoch": profile.samples_per_epoch,
                **changes,
            }
        )
        if options is None:
            options = profile.networks.get(architecture, {})
        seed_everything(seed)
        channels = 2 * neighbours + 1 if neighbours else profile.in_channels
        model = build_model(architecture, in_channels=channels, n_classes=scheme_.n_classes, **options)
        self._check_settings(scheme, size or profile.slice_size, columns, model.stride)
        if neighbours and (augment == "tissue" or enlarged_to is not None):
            raise KitError(
                "neighbouring slices as channels do not go with augment 'tissue' or an enlarged set: both know single ones"
            )
        if augment == "contrasts" and scheme != "structures4":
            raise KitError(
                f"augment 'contrasts' would give each label of {scheme} its own brightness: it goes with structures4 alone"
            )
        store, split = self.store(size, enlarged_to), split or self.split()
        card = {
            "scheme": scheme,
            "size": [store.grid.rows, store.grid.columns],
            "data": {"kind": self.data, "fingerprint": store.fingerprint},
            "split": {"name": split.name, "seed": split.seed, "fold": split.fold, "fingerprint": split.fingerprint},
            "augment": augment,
            "slice_gap_mm": gap_mm,
            "crop_columns": columns,
        }
        if neighbours:
            card["neighbours"] = neighbours
        if enlarged_to is not None:
            card["enlarged_to"] = enlarged_to
        if start_from is not None:
            if self.data == "phantom" or start_from.card["data"]["kind"] != "phantom":  # nobody real is made up
                check_split(start_from, split)
            card["starts_from"] = {"run": Path(start_from.folder).name, "card": fingerprint(start_from.card)}
        rows = split.rows("train", store.table)
        if enlarged_to is None:
            rows = thin_out(store.table, rows, gap_mm)
        train_set = SliceDataset(store, rows, scheme, make_augment(augment), columns, seed, neighbours)
        if train_set.report.dropped:
            print(f"labels of the store that {scheme} has no class for: {train_set.report}")
        val_set = SliceDataset(store, split.rows("val", store.table), scheme, neighbours=neighbours)
        name = "-".join(part for part in (self.name, architecture, scheme, tag) if part)
        if start_from is not None:
            class_of = None
            if (scheme, start_from.card["scheme"]) == ("levels20", "structures4"):
                class_of = convert(np.arange(scheme_.n_classes), scheme, "structures4").tolist()
            copy_matching_weights(start_from.load_model(), model, class_of)
        # A run is made from settings alone and can be made again: other settings replace it.
        folder = self.runs_folder / name
        return fit(model, train_set, val_set, folder, config, card, overwrite=True, made_in=self.facts)

    def train_volumes(
        self,
        architecture: str = "unetr",
        preparation: str = "mended",
        scheme: str | None = None,
        split: Split | None = None,
        size: tuple[int, int, int] | None = None,
        stretched: bool | None = None,
        tag: str = "",
        options: dict | None = None,
        **changes: object,
    ) -> RunResult:
        """The trained network of volumes of this profile; trained now when there is no finished run with these settings.

        Args:
            architecture: one of models.VOLUME_ARCHITECTURES.
            preparation: "mended" or "as_printed": of intensities (see data.volume_store), of labels where ``scheme`` is None, and
                of the grid where ``stretched`` is None.
            scheme: label scheme that it learns. None stands for levels20 (mended) or clamped20 (as printed), and for structures4
                where the data hold no levels: there is nothing to clamp in four classes.
            split: who trains; by patient; the default split when None.
            size: slices, rows and columns of the grid; the profile's when None.
            stretched: whether the grid is stretched over each series (as printed) or one voxel size is for all (mended).
            tag: added to the run's name, to keep variants apart.
            options: of the architecture, but for its image_size; the profile's when None.
            changes: fields of TrainConfig, ``augment``, ``class_shares`` or ``steps_per_epoch``, that differ from the profile's.

        Returns:
            The run: its folder, history and card.
        """
        settings = self.profile.volumes
        if architecture not in VOLUME_ARCHITECTURES:
            raise KitError(f"'{architecture}' is no network of volumes. These are: {', '.join(VOLUME_ARCHITECTURES)}")
        check_preparation(preparation)
        if scheme is None:
            has_levels = self.source.scheme == "spider"
            scheme = {"mended": "levels20", "as_printed": "clamped20"}[preparation] if has_levels else "structures4"
        self._check_scheme(scheme)
        split = split or self.split()
        if not split.by_patient:
            raise KitError("a volume cannot be parted: give a split by patient")
        augment, seed = str(changes.pop("augment", settings.augment)), int(changes.get("seed", 0))  # type: ignore[call-overload]
        class_shares = bool(changes.pop("class_shares", settings.class_shares))
        if augment in ("tissue", "triplanar", "contrasts"):
            raise KitError(f"augment '{augment}' changes single slices: choose another for a network of volumes")
        steps = int(changes.pop("steps_per_epoch", settings.steps_per_epoch))  # type: ignore[call-overload]
        names = ("epochs", "batch_size", "learning_rate", "weight_decay", "optimizer", "transformer_pace", "schedule", "loss")
        config = TrainConfig(**{name: getattr(settings, name) for name in names} | changes)
        size = tuple(size or settings.size)
        seed_everything(seed)
        options = {**(settings.options if options is None else options), "image_size": list(size)}
        model = build_model(architecture, in_channels=1, n_classes=get_scheme(scheme).n_classes, **options)
        stretched = preparation == "as_printed" if stretched is None else stretched
        store = self.volume_store(size, stretched)
        rows = split.rows("train", store.table)
        # An epoch has so many steps, however few volumes there are: each volume comes as often as it takes.
        samples = steps * config.batch_size
        config = replace(config, samples_per_epoch=samples)
        repeats = -(-samples // len(rows))
        train_set = VolumeDataset(store, rows, scheme, preparation, make_augment(augment), seed, repeats)
        if train_set.report.dropped:
            print(f"labels of the store that {scheme} has no class for: {train_set.report}")
        val_set = VolumeDataset(store, split.rows("val", store.table), scheme, preparation)
        card = {
            "scheme": scheme,
            "size": list(size),
            "preparation": preparation,
            "voxel_mm": store.voxel_mm,
            "data": {"kind": self.data, "fingerprint": store.fingerprint},
            "split": {"name": split.name, "seed": split.seed, "fold": split.fold, "fingerprint": split.fingerprint},
            "augment": augment,
            "class_shares": class_shares,
        }
        if class_shares:
            model.start_from_shares(train_set.class_shares())
        printed = "as-printed" if preparation == "as_printed" else ""
        grid = {True: "stretched", False: "boxed"}[stretched] if stretched != (preparation == "as_printed") else ""
        name = "-".join(part for part in (self.name, architecture, scheme, printed, grid, tag) if part)
        folder = self.runs_folder / name
        return fit(model, train_set, val_set, folder, config, card, overwrite=True, made_in=self.facts)

    def train_as_published(
        self, architecture: str = "unet", split: Split | None = None, scheme: str | None = None, **changes: object
    ) -> RunResult:
        """A network trained as `medfusion` describes it (sections 4.2, 4.3, 5.2), on the profile's enlarged set.

        One slice a series, enlarged by augmented copies, then split, in twenty classes. The source gives the ratio 70/5/25 and
        says nothing of patients: read here as images at random. Not said either, and the kit's choice: which slice (the middle
        one), the loss, that proportions in mm are kept, random initial weights, and validation mean IoU as what reduces the
        learning rate and chooses the epoch. Its log shows steps of ten in the learning rate.

        Args:
            architecture: name in models.available_models().
            split: a split of the enlarged set; its images 70/5/25 at random when None.
            scheme: levels20 when None, structures4 where the data hold no levels.
            changes: as for ``train``.
        """
        split = split or self.split("leaky-seed70-5-25", store=self.enlarged_store())
        given = {key: value for key, value in changes.items() if key != "tag"}
        published = {
            "split": split,
            "tag": "-".join(part for part in ("as-published", describe_settings(split, **given)) if part),
            "enlarged_to": self.profile.enlarge_to,
            "plateau_factor": 0.1,
            "epochs": self.profile.enlarged_epochs,
            "samples_per_epoch": None,
            "augment": "none",  # the copies are in the set
            "slice_gap_mm": 0,
            "crop_columns": 0,
        }
        return self.train(
            architecture,
            scheme or ("levels20" if self.source.scheme == "spider" else "structures4"),
            **{**published, **changes},
        )

    def _check_settings(self, scheme: str, size: tuple[int, int], crop_columns: int | None, stride: int) -> None:
        """Refuse what cannot be trained before anything is made for it."""
        self._check_scheme(scheme)
        if any(side % stride for side in size):
            raise KitError(f"rows and columns of a slice must be multiples of {stride} for this network, not {size[0]}x{size[1]}")
        if crop_columns and (crop_columns > size[1] or crop_columns % stride):
            raise KitError(
                f"crop_columns must be a multiple of {stride} and at most {size[1]}, the width of a slice, "
                f"not {crop_columns}; 0 trains on whole slices"
            )

    def _check_scheme(self, scheme: str) -> None:
        """Refuse a label scheme that cannot be learned, or not from these data."""
        known = get_scheme(scheme)
        if sorted(known.names) != list(range(known.n_classes)):
            raise KitError(f"scheme '{scheme}' cannot be learned: its values are not 0, 1, 2 ... Use structures4 or levels20")
        try:
            convert(np.zeros(1, np.uint8), self.source.scheme, scheme)
        except ValueError as error:
            raise KitError(f"DATA={self.data} cannot teach '{scheme}': {error}") from error

    def train_levels(self, architecture: str = "unet", **changes: object) -> RunResult:
        """The trained twenty-class model (``levels20``), which starts from the weights of the four-class one.

        From random weights the short profiles do not get past "it is a vertebra"; what a vertebra looks like is learned with
        four classes first, so that all of this training goes into counting.

        Args:
            architecture: name in models.available_models().
            changes: as for ``train``. Epochs, learning rate, schedule and augmentation are those of the second stage alone. With
                ``start_from`` there is no first stage.
        """
        self._check_settings("levels20", changes.get("size") or self.profile.slice_size, None, 1)  # before the first stage
        first = changes.pop("start_from", None) or self._first_stage(architecture, changes)
        return self.train(
            architecture,
            "levels20",
            **{
                "start_from": first,
                "epochs": self.profile.level_epochs,
                "learning_rate": self.profile.level_learning_rate,
                "augment": self.profile.level_augment,
                "schedule": "cosine",  # no warm-up: the features are there already
                **changes,
            },
        )

    def _first_stage(self, architecture: str, changes: dict[str, object]) -> RunResult:
        """The four-class model that ``train_levels`` starts from."""
        # It must have seen the same training patients, or test patients leak through its weights.
        keys = (
            "split",
            "size",
            "seed",
            "options",
            "crop_columns",
            "batch_size",
            "samples_per_epoch",
            "slice_gap_mm",
            "neighbours",
        )
        shared = {key: changes[key] for key in keys if key in changes}
        if tag := changes.get("tag"):
            shared["tag"] = f"{tag}-start"  # not all that the tag may name holds for this stage
        return self.train(architecture, "structures4", **shared)

    def evaluate(self, run: RunResult, split: Split | None = None, subset: str = "test") -> pd.DataFrame:
        """Scores of a run on every series of a subset, in the series' own grid; measured once and kept in the run's folder.

        Args:
            run: a finished training.
            split: the split that it was trained with; the default split when None.
            subset: "val" or "test".

        Returns:
            Rows of measure_case with case, patient and sequence added. The predicted masks are kept, see ``predictions``.

        Raises:
            KitError: the run was trained with another split, so that its test patients are not these.
        """
        split = split or self.split()
        check_split(run, split)
        if "enlarged_to" in run.card and not split.by_patient:
            raise KitError(f"run '{Path(run.folder).name}' was tested on single images of series: score it with evaluate_slices")
        folder = Path(run.folder)
        path = folder / f"metrics-{subset}.csv"
        weights = sha256_of(folder / "model.safetensors")
        # The series themselves are scored, not the smaller slices that the run's card knows: hence their state.
        key = fingerprint([SCORES_VERSION, run.card, TOLERANCE_MM, weights, subset, self.source.state()])
        # A notebook and a training may want them at the same time.
        make_once(path, lambda: _is_kept(path, key), lambda: self._measure(path, split, subset, key))
        return pd.read_csv(path)

    def _measure(self, path: Path, split: Split, subset: str, key: str) -> None:
        """Segment and score every series of a subset, and write what ``evaluate`` keeps."""
        scores, masks = self.measure(load_predictor(path.parent), split, subset)
        with atomic_path(path.with_name(f"predictions-{subset}.npz")) as partial:
            _save_masks(partial, masks)
        write_csv(path, scores)
        _keep(path, key)

    def measure(
        self, predictor: VolumePredictor, split: Split, subset: str = "test"
    ) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """Segment and score every series of a subset. For a single run ``evaluate`` does this once and keeps it.

        Args:
            predictor: of networks that were trained with ``split``; nothing here can check that.
            split, subset: as for ``evaluate``.

        Returns:
            Rows of measure_case with case, patient and sequence added, and the masks (slice, row, column) by case.
        """
        classes = {value: name for value, name in get_scheme(predictor.scheme).names.items() if value}
        cases = self.source.cases
        if split.by_patient:
            cases = cases.iloc[split.rows(subset, cases)]
        masks, pairs, about = {}, [], []
        for name in progress(cases["case"].tolist(), desc=f"segmenting {subset} series"):
            case = self.source.load(name)
            truth = convert(case.mask.array, self.source.scheme, predictor.scheme)
            mask, spacing = predictor.predict_volume(case.image).array, case.mask.spacing
            if not split.by_patient:
                # Only the slices that were not trained on; with gaps between them distances have no meaning.
                rows = split.table[(split.table["case"] == name) & (split.table["subset"] == subset)]["slice"].to_numpy()
                truth, mask, spacing = truth[rows], mask[rows], None
                if len(rows) == 0:
                    continue
            masks[name] = mask
            pairs.append((truth, mask, spacing))
            about.append({"case": name, "patient": case.patient, "sequence": case.sequence})
        tables = progress(measure_cases(pairs, classes, TOLERANCE_MM), desc=f"scoring {subset} series", total=len(pairs), lines=1)
        scores = pd.concat([table.assign(**facts) for table, facts in zip(tables, about, strict=True)], ignore_index=True)
        return scores, masks

    def predictions(self, run: RunResult, subset: str = "test") -> dict[str, np.ndarray]:
        """Predicted masks (slice, row, column) by case, as left by ``evaluate``."""
        with np.load(Path(run.folder) / f"predictions-{subset}.npz", allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def probabilities(
        self, run: RunResult, split: Split | None = None, subset: str = "val"
    ) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """A run's class probabilities on the slices of a subset, for ensembles; computed once and kept in the run's folder.

        Args:
            run: a finished training.
            split: the split that it was trained with; the default split when None.
            subset: "val" (to choose weights on) or "test" (to report).

        Returns:
            Probabilities float16 (slices, classes, rows, columns) of the slice store's size, memory-mapped; truth uint8 (slices,
            rows, columns) in the run's scheme; the slices' rows of the store's table. Two runs of one size have the same slices.

        Raises:
            KitError: the run was trained with another split.
        """
        split = split or self.split()
        check_split(run, split)
        if run.card["architecture"] in VOLUME_ARCHITECTURES:
            raise KitError(f"run '{Path(run.folder).name}' sees volumes, not slices: score it with evaluate")
        folder, store = Path(run.folder), self.store_of(run)
        rows = split.rows(subset, store.table)
        path = folder / f"probabilities-{subset}.npy"
        key = fingerprint([SCORES_VERSION, run.card, sha256_of(folder / "model.safetensors"), subset, store.fingerprint])

        def predict() -> None:
            predictor = Predictor.load(folder)
            seen = store.windows(predictor.neighbours)
            shape = (len(rows), get_scheme(predictor.scheme).n_classes, *store.images.shape[1:])
            require_free_space(folder, 2 * int(np.prod(shape)), f"probabilities of {len(rows)} slices")
            with atomic_path(path) as partial:
                kept = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
                starts = range(0, len(rows), SLICES_AT_ONCE)
                for start in progress(starts, desc=f"{folder.name}, {subset} slices", lines=1):
                    part = rows[start : start + SLICES_AT_ONCE]
                    kept[start : start + len(part)] = predictor.grid_probabilities(np.array(store.images[seen[part]]))
                kept.flush()
                del kept
            _keep(path, key)

        make_once(path, lambda: _is_kept(path, key), predict)
        truth = store.lookup(run.card["scheme"])[0][store.masks[rows]]
        return np.load(path, mmap_mode="r"), truth, store.table.iloc[rows].reset_index(drop=True)

    def label_maps(
        self, run: RunResult, split: Split | None = None, subset: str = "test"
    ) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """A run's labels of the slices of a subset, (slices, rows, columns), and truth and table as ``probabilities`` gives."""
        probabilities, truth, table = self.probabilities(run, split, subset)
        labels = [top_class(np.float32(probabilities[i : i + 64])).astype(np.uint8) for i in range(0, len(probabilities), 64)]
        return np.concatenate(labels), truth, table

    def evaluate_slices(
        self, run: RunResult, split: Split | None = None, subset: str = "test", by_slice: bool = False
    ) -> pd.DataFrame:
        """Scores of a run on the slices that it was made for, in their own grid and without distances.

        Args:
            run, split, subset: as for ``probabilities``.
            by_slice: score each slice by itself instead of all slices of a series together.

        Returns:
            Rows of measure_case with case and patient (see evaluation.slices.score_slices).
        """
        labels, truth, table = self.label_maps(run, split, subset)
        classes = {value: name for value, name in get_scheme(run.card["scheme"]).names.items() if value}
        return score_slices(truth, labels, table, classes, by_slice)

    def add_result(self, run: RunResult, scores: pd.DataFrame) -> pd.DataFrame:
        """Add a run's summary (mean, interval, n by class and metric) to the results table, replacing its earlier rows."""
        card = run.card
        summary = summarise(scores).assign(
            run=Path(run.folder).name, architecture=card["architecture"], scheme=card["scheme"], split=card["split"]["name"]
        )
        with file_lock(self.results_path.with_suffix(".lock")):  # rows that another process adds meanwhile are kept
            if self.results_path.is_file():
                old = pd.read_csv(self.results_path)
                summary = pd.concat([old[old["run"] != Path(run.folder).name], summary], ignore_index=True)
            write_csv(self.results_path, summary)
        return summary


def _is_kept(path: Path, key: str) -> bool:
    """Whether ``path`` was made from what ``key`` stands for; the key lies beside it as JSON of the same name."""
    beside = path.with_suffix(".json")
    return path.is_file() and beside.is_file() and read_json(beside).get("key") == key


def _keep(path: Path, key: str) -> None:
    write_json(path.with_suffix(".json"), {"key": key})


def _save_masks(path: Path, masks: dict[str, np.ndarray]) -> None:
    """What numpy's savez_compressed writes, at the lowest compression: for masks several times faster and nearly as small."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, mask in masks.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, mask, allow_pickle=False)


def check_split(run: RunResult, split: Split) -> None:
    """Raise KitError when a run was trained with another split: its training patients could be test patients of this one."""
    if run.card["split"]["fingerprint"] != split.fingerprint:
        raise KitError(
            f"run '{Path(run.folder).name}' was trained with another split than '{split.name}' (seed {split.seed}, fold "
            f"{split.fold}): its training patients may be test patients here. Train it with this split"
        )


def _validation_score(folder: Path) -> float:
    """Best validation mean IoU of a run; -inf where only its weights were kept."""
    path = folder / RUN_FILE
    return read_json(path).get("best_val_mean_iou", -np.inf) if path.is_file() else -np.inf


def describe_settings(split: Split, seed: int = 0, **changes: object) -> str:
    """What differs from a default training, as part of a run's name; "" when nothing does."""
    part = {"kfold5": f"fold{split.fold}"}.get(split.name, split.name)
    if split.name == f"{LEAKY}kfold5":
        part += f"-fold{split.fold}"
    named = {part: part != "fold0", f"seed{seed}": seed != 0}
    parts = [text for text, differs in named.items() if differs]
    options = changes.pop("options", None) or {}
    for name, value in {**changes, **dict(sorted(options.items()))}.items():
        text = "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        parts += [] if value is None else [text if name == "size" else f"{name.replace('_', '')}{text}"]
    return "-".join(parts)


def finished_runs() -> list[Path]:
    """Folders of the trained models under runs/, the newest last."""
    found = (p for p in (project_root() / "runs").glob("*") if (p / "model.safetensors").is_file() and p.suffix != ".partial")
    return sorted(found, key=lambda p: (p / "model.safetensors").stat().st_mtime)


def is_by_patient(card: dict) -> bool:
    """Whether the run with this card (model.json) knows no slice of its test patients; so are runs that name no split."""
    split = card.get("split")
    return not str(split.get("name") if isinstance(split, dict) else None).startswith(LEAKY)


def caution(folder: Path) -> str:
    """What must stand beside the results of a run: that it was trained in profile smoke, which learns nothing; else ""."""
    try:
        made_in = read_json(folder / RUN_FILE)["made_in"]["profile"]
    except (DataError, KeyError, TypeError):  # weights alone, or a run of an older kit
        made_in = folder.name.partition("-")[0]
    return "trained in profile smoke: its masks mean nothing" if made_in == "smoke" else ""


def newest_run() -> Path:
    """The newest finished run that was split by patient or, where others learned the same scheme from the same slices and split,
    the best of these on validation patients.

    Networks of volumes are taken only where there are no others: their grids are coarse, and one of them learns labels that are
    wrong. Folders whose model.json describes no network are passed over.

    Raises:
        KitError: there is none.
    """
    cards = {}
    for path in finished_runs():
        with contextlib.suppress(DataError):
            cards[path] = read_card(path)
    by_patient = [path for path, card in cards.items() if is_by_patient(card)]
    if not by_patient:
        folder = project_root() / "runs"
        raise KitError(f"no trained model in {folder}: run `make course` or `spider-kit train` first, or give --model FOLDER")
    of_slices = [p for p in by_patient if cards[p].get("architecture") not in VOLUME_ARCHITECTURES]
    by_patient = of_slices or by_patient
    same = ("scheme", "size", "data", "split", "enlarged_to")
    task = {path: [cards[path].get(key) for key in same] for path in by_patient}
    rivals = [path for path in by_patient if task[path] == task[by_patient[-1]]]
    return max(reversed(rivals), key=_validation_score)


def find_run(name: str) -> Path:
    """The folder of a trained network.

    Args:
        name: a folder; a name under runs/; the name of a network that comes with the kit (see models.shipped); or "newest" (see
            newest_run).

    Raises:
        KitError: there is none; the message lists those there are.
    """
    for folder in (Path(name), project_root() / "runs" / name):
        if (folder / "model.safetensors").is_file():
            return folder
    if name == "newest":
        return newest_run()
    if name in shipped():
        return shipped()[name]
    there = ", ".join([*(path.name for path in finished_runs()), *shipped()])
    raise KitError(f"no trained model called '{name}'. There are: {there}")
