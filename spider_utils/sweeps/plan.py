"""A sweep's YAML file: read, checked, and expanded into trainings and notebooks."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spider_utils.data.augment import make_augment
from spider_utils.data.sources import KINDS
from spider_utils.data.splits import SPLITS
from spider_utils.data.volume_store import check_preparation
from spider_utils.errors import DataError, KitError
from spider_utils.labels import get_scheme
from spider_utils.models import VOLUME_ARCHITECTURES, available_models
from spider_utils.runtime import PROFILES
from spider_utils.training.config import TrainConfig
from spider_utils.workflow import DEFAULT_SPLIT, SLICE_SETTINGS, VOLUME_SETTINGS

# What a training can be told besides what a sweep goes through: options of `spider-kit train`, by name and type.
SETTINGS: dict[str, type] = {
    "scheme": str,
    "rows": int,
    "columns": int,
    "epochs": int,
    "batch_size": int,
    "samples_per_epoch": int,
    "early_stop_patience": int,
    "learning_rate": float,
    "loss": str,
    "augment": str,
    "slice_gap_mm": float,
    "crop_columns": int,
    "neighbours": int,
    "slices": int,
    "steps_per_epoch": int,
    "preparation": str,
    "options": dict,
    "start_from": str,
}
# Refuse a value before anything is trained; the rest only the data can tell.
_CHECKS: dict[str, Callable[[Any], object]] = {
    "scheme": get_scheme,
    "augment": make_augment,
    "preparation": check_preparation,
    **{
        name: (lambda value, name=name: TrainConfig(**{name: value}))
        for name in ("epochs", "batch_size", "samples_per_epoch", "early_stop_patience", "learning_rate", "loss")
    },
}
_KEYS = ("models", "folds", "seeds", "profiles", "data", "split", "settings", "notebooks", "job")
_WORDS = {str: "a text", int: "a whole number", float: "a number", dict: "a mapping", list: "a list"}


@dataclass(frozen=True)
class Model:
    """A network and what is chosen for its training.

    Attributes:
        architecture: a name in models.available_models().
        label: what tables and figures call it.
        settings: by the names of SETTINGS.
    """

    architecture: str
    label: str
    settings: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class DataSet:
    """Data by their kind, and the folder of real ones ("" where they lie in the usual place)."""

    kind: str
    root: str = ""


@dataclass(frozen=True)
class JobNeeds:
    """What one training is given.

    Attributes:
        threads: CPU cores.
        gpus: GPUs; 0 trains on the CPU, whatever the machine has.
        jobs_per_gpu: trainings that share a GPU; on one machine only, a cluster decides for itself.
        memory_mb, minutes: for a cluster; None leaves them to its own settings.
    """

    threads: int = 1
    gpus: int = 0
    jobs_per_gpu: int = 1
    memory_mb: int | None = None
    minutes: int | None = None


@dataclass(frozen=True)
class Training:
    """One training of a sweep."""

    model: Model
    profile: str
    data: DataSet
    split: str
    fold: int
    seed: int

    @property
    def place(self) -> str:
        """ "<profile>-<data>", what trainings that share data have in common."""
        return f"{self.profile}-{self.data.kind}"

    @property
    def key(self) -> str:
        """A name for files and rules: letters, digits, "_" and "-"."""
        return f"{self.place}-{slug(self.model.label)}-fold{self.fold}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.model.label}, fold {self.fold}, seed {self.seed} ({self.place})"

    @property
    def arguments(self) -> list[str]:
        """Those of ``spider-kit train``."""
        given = {"model": self.model.architecture, "profile": self.profile, "data": self.data.kind}
        given |= {"root": self.data.root} if self.data.root else {}
        given |= {"split": self.split, "fold": self.fold, "seed": self.seed, **self.model.settings}
        texts = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in given.items()}
        return [f"--{name.replace('_', '-')}={text}" for name, text in texts.items()]

    @property
    def is_default(self) -> bool:
        """Whether it is the course's own training of this network, or its twenty-class one."""
        chosen = {name for name in self.model.settings if name != "scheme"}
        return not chosen and (self.split, self.fold, self.seed) == (DEFAULT_SPLIT, 0, 0)


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file asks for.

    Attributes:
        path: the file.
        models, folds, seeds, profiles, data: every combination is trained.
        split: how patients are split.
        notebooks: run in each profile on each data set, after its trainings.
        needs: of one training.
    """

    path: Path
    models: tuple[Model, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    profiles: tuple[str, ...]
    data: tuple[DataSet, ...]
    split: str
    notebooks: tuple[str, ...]
    needs: JobNeeds

    @property
    def name(self) -> str:
        """The file's name without its ending: what the sweep leaves lies in build/sweeps/<name>."""
        return self.path.stem

    @cached_property
    def trainings(self) -> list[Training]:
        """Every training, those of one profile and data set together."""
        every = itertools.product(self.profiles, self.data, self.models, self.seeds, self.folds)
        return [Training(model, profile, data, self.split, fold, seed) for profile, data, model, seed, fold in every]

    @property
    def places(self) -> list[tuple[str, DataSet]]:
        """Every profile with every data set."""
        return list(itertools.product(self.profiles, self.data))


def slug(text: str) -> str:
    """``text`` with everything but letters, digits, "." and "-" as single "_"."""
    return re.sub(r"[^\w.-]+|_+", "_", text.replace("=", "_"), flags=re.ASCII).strip("_")


def read_sweep(path: str | Path, notebooks: list[str]) -> Sweep:
    """Read and check a sweep's file.

    Args:
        path: the YAML file.
        notebooks: names of the notebooks that there are.

    Raises:
        DataError: the file cannot be read, or asks for what there is not; the message names the key.
    """
    path = Path(path)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise DataError(path, error.strerror or "cannot be read", "Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            path, f"is no YAML file ({error})", "Look at that line; sweeps/example.yml is one to start from."
        ) from error
    if not isinstance(found, dict):
        raise DataError(path, "is no mapping of keys to values", "sweeps/example.yml is one to start from.")
    return _Reader(path, notebooks).sweep(found)


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that stands twice instead of forgetting the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", key_node.start_mark)
            seen.add(key) if isinstance(key, Hashable) else None
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class _Reader:
    """Takes a sweep's keys one by one; every refusal names the file and the key."""

    path: Path
    notebooks: list[str]

    def refuse(self, problem: str, fix: str) -> DataError:
        return DataError(self.path, problem, fix)

    def sweep(self, found: dict[str, Any]) -> Sweep:
        self.only_known("the sweep", found, _KEYS)
        if "models" not in found:
            raise self.refuse("names no models", "Add a list 'models', such as models: [unet, resunet].")
        settings = self.settings("settings", found.get("settings", {}))
        models = tuple(self.models(found["models"], settings))
        split = self.one_of("split", found.get("split", DEFAULT_SPLIT), SPLITS)
        folds = tuple(self.numbers("folds", found.get("folds", 0), highest=4))
        if not split.endswith("kfold5") and folds != (0,):
            raise self.refuse(f"split '{split}' has no folds", "Leave 'folds' out, or take split: kfold5.")
        sweep = Sweep(
            path=self.path,
            models=models,
            folds=folds,
            seeds=tuple(self.numbers("seeds", found.get("seeds", 0))),
            profiles=tuple(self.one_of("profiles", name, PROFILES) for name in self.several("profiles", found, "quick")),
            data=tuple(self.data_sets(found)),
            split=split,
            notebooks=tuple(self.one_of("notebooks", name, self.notebooks) for name in self.several("notebooks", found, [])),
            needs=self.needs(found.get("job", {})),
        )
        self.refuse_double(sweep)
        return sweep

    # -- the keys

    def models(self, given: Any, shared: dict[str, Any]) -> Iterator[Model]:
        for number, entry in enumerate(self.as_list("models", given)):
            where = f"models[{number}]"
            entry = {"model": entry} if isinstance(entry, str) else self.typed(where, entry, dict)
            self.only_known(where, entry, ("model", "label", *SETTINGS))
            if "model" not in entry:
                raise self.refuse(f"{where} names no network", f"Add model: one of {', '.join(available_models())}.")
            architecture = self.one_of(f"{where}.model", entry["model"], available_models())
            own = {name: value for name, value in entry.items() if name in SETTINGS}
            chosen = self.settings(where, {**shared, **own})
            self.refuse_unfit(where, architecture, chosen)
            label = self.typed(f"{where}.label", entry.get("label", _label(architecture, own)), str)
            if not slug(label):
                raise self.refuse(f"{where}.label is empty", "Give it letters or digits.")
            yield Model(architecture, label, chosen)

    def settings(self, where: str, given: Any) -> dict[str, Any]:
        self.only_known(where, self.typed(where, given, dict), tuple(SETTINGS))
        values = {name: self.typed(f"{where}.{name}", value, SETTINGS[name]) for name, value in given.items()}
        for name, value in values.items():
            try:
                _CHECKS.get(name, bool)(value)
            except (KitError, ValueError) as error:
                raise self.refuse(f"{where}.{name}: {error}", "Change this value.") from error
        return values

    def refuse_unfit(self, where: str, architecture: str, chosen: dict[str, Any]) -> None:
        sees_volumes = architecture in VOLUME_ARCHITECTURES
        unfit = [name for name in chosen if name in (SLICE_SETTINGS if sees_volumes else VOLUME_SETTINGS)]
        if unfit:
            kind = "volumes" if sees_volumes else "slices"
            raise self.refuse(f"{where}: '{architecture}' sees {kind}, which have no '{unfit[0]}'", "Leave it out there.")
        size = ("slices", "rows", "columns") if sees_volumes else ("rows", "columns")
        if 0 < sum(name in chosen for name in size) < len(size):
            raise self.refuse(f"{where} gives a part of a size", f"Give {', '.join(size)} together.")

    def data_sets(self, found: dict[str, Any]) -> Iterator[DataSet]:
        for number, entry in enumerate(self.several("data", found, "phantom")):
            where = f"data[{number}]"
            entry = {"kind": entry} if isinstance(entry, str) else self.typed(where, entry, dict)
            self.only_known(where, entry, ("kind", "root"))
            kind, root = self.one_of(f"{where}.kind", entry.get("kind"), KINDS), entry.get("root", "")
            if root and kind == "phantom":
                raise self.refuse(f"{where}: the phantom has no root", "Leave it out.")
            yield DataSet(kind, self.typed(f"{where}.root", root, str))

    def needs(self, given: Any) -> JobNeeds:
        lowest = {"threads": 1, "gpus": 0, "jobs_per_gpu": 1, "memory_mb": 1, "minutes": 1}
        self.only_known("job", self.typed("job", given, dict), tuple(lowest))
        for name, value in given.items():
            if self.typed(f"job.{name}", value, int) < lowest[name]:
                raise self.refuse(f"job.{name} is {value}", f"Give at least {lowest[name]}.")
        needs = JobNeeds(**given)
        if needs.jobs_per_gpu > 1 and needs.gpus != 1:
            raise self.refuse(
                f"job.jobs_per_gpu is {needs.jobs_per_gpu} and job.gpus {needs.gpus}", "Shared GPUs go one to a job."
            )
        return needs

    def refuse_double(self, sweep: Sweep) -> None:
        for name, values in {"folds": sweep.folds, "seeds": sweep.seeds, "profiles": sweep.profiles}.items():
            if twice := _first_double(values):
                raise self.refuse(f"{name} holds {twice[0]} twice", "Every run is made once: leave one out.")
        if twice := _first_double([data.kind for data in sweep.data]):
            raise self.refuse(f"data holds '{twice[0]}' twice", "A run is named after the kind of its data: make two sweeps.")
        if twice := _first_double(sweep.notebooks):
            raise self.refuse(f"notebooks holds '{twice[0]}' twice", "Leave one out.")
        same = [json.dumps([model.architecture, dict(model.settings)], sort_keys=True) for model in sweep.models]
        if twice := _first_double(same):
            i, j = [number for number, one in enumerate(same) if one == twice[0]][:2]
            raise self.refuse(f"models[{j}] makes the same runs as models[{i}]", "Leave one out, or change a setting.")
        if twice := _first_double([slug(model.label).lower() for model in sweep.models]):
            raise self.refuse(f"two models are called '{twice[0]}'", "Give each a label of its own.")

    # -- kinds of values

    def only_known(self, where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
        if odd := [key for key in given if key not in known]:
            raise self.refuse(f"{where} has an unknown key '{odd[0]}'", f"Known are: {', '.join(known)}.")

    def several(self, key: str, found: dict[str, Any], usual: Any) -> list[Any]:
        return self.as_list(key, found.get(key, usual), may_be_empty=key == "notebooks")

    def as_list(self, key: str, given: Any, may_be_empty: bool = False) -> list[Any]:
        values = given if isinstance(given, list) else [given]
        if not values and not may_be_empty:
            raise self.refuse(f"'{key}' is empty", "Name at least one.")
        return values

    def numbers(self, key: str, given: Any, highest: int | None = None) -> Iterator[int]:
        for value in self.as_list(key, given):
            if self.typed(key, value, int) < 0 or (highest is not None and value > highest):
                raise self.refuse(f"{key} holds {value}", f"Give {'0 or more' if highest is None else f'0 to {highest}'}.")
            yield value

    def one_of(self, where: str, value: Any, known: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise self.refuse(f"{where} holds '{value}', which is not known", f"Known are: {', '.join(known)}.")
        return value

    def typed(self, where: str, value: Any, kind: type) -> Any:
        is_so = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not is_so:
            hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)" if kind is float and isinstance(value, str) else ""
            raise self.refuse(f"{where} must be {_WORDS[kind]}, not {value!r}{hint}", "Change this value.")
        return value


def _label(architecture: str, chosen: Mapping[str, Any]) -> str:
    """The network, and what is chosen for it alone."""
    return ", ".join([architecture, *(f"{name} {_as_text(value)}" for name, value in chosen.items())])


def _as_text(value: Any) -> str:
    return " ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else str(value)


def _first_double(values: Any) -> list[Any]:
    """The first value that stands there twice, in a list; [] when none does."""
    seen: set[Any] = set()
    return next(([value] for value in values if value in seen or seen.add(value)), [])
