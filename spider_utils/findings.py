"""`misan`: findings classified on studies of the RSNA challenge, as printed and mended, with the source's table beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from spider_utils.data.finding_pictures import (
    TARGETS,
    FindingPictures,
    PictureSettings,
    PictureStore,
    build_picture_store,
    split_keys,
)
from spider_utils.data.manifest import published_table
from spider_utils.data.rsna import HEALTHY, RsnaSet
from spider_utils.data.rsna_tables import CONDITIONS, LEVELS, SEVERITIES
from spider_utils.data.splits import Split, make_split
from spider_utils.errors import KitError
from spider_utils.evaluation.classification import ALL, score_table
from spider_utils.evaluation.severity_constants import best_constants
from spider_utils.evaluation.weighted_log_loss import (
    PROBABILITIES,
    WEIGHTS,
    WeightedLogLoss,
    score_difference,
    score_interval,
    weighted_log_loss,
)
from spider_utils.files import atomic_path, fingerprint, sha256_of
from spider_utils.locks import make_once
from spider_utils.models.classifiers import SMALLEST_SIDE, build_classifier
from spider_utils.runtime import pick_device, seed_everything
from spider_utils.training.checkpoints import WEIGHTS_FILE
from spider_utils.training.loop import RunResult, TrainConfig, fit
from spider_utils.training.tasks import ClassificationTask
from spider_utils.workflow import Workspace

CLASS_NAMES = {
    "condition": (*(name.replace("_", " ") for name in CONDITIONS), "healthy"),
    "level": tuple(name.upper().replace("_", "/") for name in LEVELS),
    "severity": SEVERITIES,
}
BY_STUDY, BY_SAMPLE = "kfold5", "leaky-kfold5"
CONSTANTS = {"best constants by condition and level": True, "best constants": False}  # whether by place, see best_constants
_VERSION = 1  # raised whenever predictions would come out differently


@dataclass(frozen=True)
class Protocol:
    """A way to prepare, split, train and choose.

    Attributes:
        name: as in the names of runs.
        whole: the whole slice; else a crop around the labelled point.
        wrapped: see PictureSettings.
        heads: what is learned.
        split: by study or by sample.
        flip: see FindingPictures.
        chosen_by: the head by which the best epoch is chosen.
        training_accuracy: see ClassificationTask.
        class_weights: of the loss, by head.
        normalise: see models.classifiers.Classifier.
    """

    name: str
    whole: bool
    wrapped: bool
    heads: tuple[str, ...]
    split: str
    flip: str
    chosen_by: str
    training_accuracy: bool
    class_weights: dict[str, tuple[float, ...]] = field(hash=False)
    normalise: bool


AS_PRINTED = Protocol(
    name="as_printed", whole=True, wrapped=True, heads=TARGETS[:2], split=BY_SAMPLE, flip="as_printed", chosen_by="condition",
    training_accuracy=True, class_weights={}, normalise=False,
)  # fmt: skip
MENDED = Protocol(
    name="mended", whole=False, wrapped=False, heads=TARGETS, split=BY_STUDY, flip="mirrored", chosen_by="severity",
    training_accuracy=False, class_weights={"severity": WEIGHTS}, normalise=True,
)  # fmt: skip
PROTOCOLS = {one.name: one for one in (AS_PRINTED, MENDED)}


@dataclass(frozen=True)
class FindingSettings:
    """How a profile trains classifiers.

    Attributes:
        network: the one that is trained where none is named.
        whole_side, crop_side: pixels of a picture of the whole slice and of a crop; more where a network takes no smaller one.
        crop_mm: side of the crop.
        dense: width of the dense layer.
        epochs, batch_size, learning_rate, schedule, early_stop_patience: see TrainConfig.
        weights: what networks start from, see build_classifier.
        batch_sizes: of networks that take another one.
    """

    network: str
    whole_side: int
    crop_side: int
    crop_mm: float
    dense: int
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    early_stop_patience: int | None
    weights: str | None
    batch_sizes: dict[str, int] = field(default_factory=dict, hash=False)


SETTINGS = {
    "smoke": FindingSettings("mobilenetv2", 32, 32, 40.0, 32, 1, 32, 4e-3, "one_cycle", None, None),
    "quick": FindingSettings("mobilenetv2", 64, 48, 40.0, 256, 16, 16, 4e-3, "one_cycle", None, None),
    # `misan`, sections 3.8 and 3.9: 299 pixels, Adam at Keras's own 1e-3, 20 epochs of batches of 8, plateau, early stop
    # (its patience is not said).
    "paper": FindingSettings("inception_v3", 299, 224, 60.0, 1024, 20, 8, 1e-3, "plateau", 6, "imagenet", {"resnet50": 16}),
}  # fmt: skip


class FindingStudy:
    """Pictures, runs and scores of one set of studies in one profile; each part is made when it is asked for first, and kept.

    Attributes:
        rsna: the studies.
        settings: see FindingSettings.
        folder: of its runs.
        stores: folder of its pictures.
        device: "auto", "cpu", "cuda" or "mps".
        made_in: the workspace that it was opened in, see Workspace.facts, and the folder of real studies as ``rsna``.
    """

    def __init__(
        self,
        rsna: RsnaSet,
        settings: FindingSettings,
        folder: str | Path,
        stores: str | Path,
        device: str = "auto",
        made_in: Mapping[str, str] | None = None,
    ):
        self.rsna, self.settings, self.device, self.made_in = rsna, settings, device, made_in
        self.folder, self.stores = Path(folder), Path(stores)

    @classmethod
    def open(cls, workspace: Workspace, root: str | Path | None = None) -> FindingStudy:
        """The study of a workspace's phantom, or of the challenge's own folder ``root``."""
        rsna = workspace.rsna(root)
        name = f"{workspace.profile.name}-findings" + (f"-{fingerprint(str(Path(root).resolve()))[:6]}" if root else "")
        stores = workspace.home / "data" / "stores"
        made_in = workspace.facts | {"rsna": str(root or "")}
        return cls(rsna, SETTINGS[workspace.profile.name], workspace.runs_folder / name, stores / name, made_in=made_in)

    # -- data

    def store(self, protocol: Protocol, network: str | None = None) -> PictureStore:
        """The pictures of all samples as a protocol wants them, large enough for a network (that of the settings)."""
        network = network or self.settings.network
        side = max(self.settings.whole_side if protocol.whole else self.settings.crop_side, SMALLEST_SIDE[network])
        settings = PictureSettings(side, None if protocol.whole else self.settings.crop_mm, protocol.wrapped)
        return build_picture_store(self.rsna, self.stores / f"{protocol.name}-{side}", settings)

    def split(self, name: str = BY_STUDY, seed: int = 0, fold: int = 0) -> Split:
        """Who trains, validates and tests.

        Args:
            name: "kfold5" by study, or "leaky-kfold5", which parts the samples at random, so that other samples of a test
                picture, and of its patient, are trained on.
            seed, fold: see data.splits.make_split.
        """
        return make_split(split_keys(self.rsna.samples), name, seed, fold)

    # -- training

    def train(
        self,
        network: str | None = None,
        protocol: Protocol = MENDED,
        split: str | None = None,
        metadata: bool = False,
        seed: int = 0,
        **changes: Any,
    ) -> RunResult:
        """A trained network; trained now when there is no finished run with these settings.

        Args:
            network: of models.CLASSIFIERS; that of the settings when None.
            protocol: AS_PRINTED or MENDED.
            split: "kfold5" or "leaky-kfold5" instead of the protocol's own.
            metadata: whether age and sex are a second input.
            seed: of weights, order and augmentation; the split stays.
            changes: fields of TrainConfig that differ from the settings.

        Raises:
            KitError: age and sex are asked for and no study has them; see also training.loop.fit.
        """
        network, settings, made = network or self.settings.network, self.settings, self.split(split or protocol.split)
        store = self.store(protocol, network)
        if metadata and not (store.table["age"].notna() | (store.table["sex"] != "")).any():
            raise KitError(f"{self.rsna.root}: no study tells age or sex, so they cannot be a second input: train without them")
        config = TrainConfig(
            **{
                "epochs": settings.epochs,
                "batch_size": settings.batch_sizes.get(network, settings.batch_size),
                "learning_rate": settings.learning_rate,
                "schedule": settings.schedule,
                "early_stop_patience": settings.early_stop_patience,
                "loss": "ce",
                # In bfloat16 a CPU takes twice as long for the gradients of MobileNet's depthwise convolutions.
                "amp": "auto" if pick_device(self.device) == "cuda" else "off",
                "seed": seed,
                **changes,
            }
        )
        heads = {head: len(CLASS_NAMES[head]) for head in protocol.heads}
        task = ClassificationTask(heads, protocol.chosen_by, protocol.class_weights, protocol.training_accuracy)
        seed_everything(seed)
        model = build_classifier(
            network, heads, 2 * metadata, settings.dense, weights=settings.weights, normalise=protocol.normalise
        )
        rows = {subset: made.rows(subset, store.table) for subset in ("train", "val")}
        train_set = FindingPictures(store, rows["train"], protocol.heads, True, protocol.flip, metadata, seed)
        val_set = FindingPictures(store, rows["val"], protocol.heads, metadata=metadata)
        card = {
            "scheme": "findings",
            "protocol": protocol.name,
            "flip": protocol.flip,
            "pictures": asdict(store.settings),
            "data": {"kind": self.rsna.kind, "fingerprint": store.fingerprint},
            "split": {"name": made.name, "seed": made.seed, "fold": made.fold, "fingerprint": made.fingerprint},
        }
        name = "-".join(
            [network, protocol.name]
            + [made.name] * (made.name != protocol.split)
            + ["metadata"] * metadata
            + [f"seed{seed}"] * bool(seed)
            + [f"{key.replace('_', '')}{value}" for key, value in sorted(changes.items())]
        )
        how_run = {"task": task, "device": self.device, "overwrite": True, "made_in": self.made_in}
        return fit(model, train_set, val_set, self.folder / name, config, card, **how_run)

    # -- results

    def predictions(self, run: RunResult, subset: str = "test") -> pd.DataFrame:
        """What a run says of the samples of a subset; computed once and kept in its folder.

        Returns:
            The store's rows of the samples with probabilities of each head's classes in columns <head>_0, <head>_1, ...

        Raises:
            KitError: the run was trained on other pictures, or with a split that cannot be made again.
        """
        store, made = self._made_with(run)
        rows = made.rows(subset, store.table)
        path = Path(run.folder) / f"predictions-{subset}.csv"
        key = fingerprint([_VERSION, sha256_of(Path(run.folder) / WEIGHTS_FILE), store.fingerprint, subset])
        note = f"# {key}\n"

        def is_there() -> bool:
            if not path.is_file():
                return False
            with path.open(encoding="utf-8") as file:
                return file.readline() == note and sum(1 for _ in file) == 1 + len(rows)  # a heading and a line a sample

        def make() -> None:
            table = store.table.iloc[rows].reset_index(drop=True)
            for head, given in self.probabilities(run, store, rows).items():
                table = table.assign(**{f"{head}_{k}": given[:, k] for k in range(given.shape[1])})
            with atomic_path(path) as partial:
                partial.write_text(note + table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")

        make_once(path, is_there, make)
        return pd.read_csv(path, comment="#", keep_default_na=False, na_values={"age": [""]})

    def probabilities(self, run: RunResult, store: PictureStore, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Class probabilities of a run for some rows of a store: float64 (rows, classes) by head."""
        device = pick_device(self.device)
        model = run.load_model(device)
        pictures = FindingPictures(store, rows, tuple(model.heads), metadata=bool(model.metadata))
        parts: dict[str, list[np.ndarray]] = {head: [] for head in model.heads}
        with torch.inference_mode():
            for inputs, _ in torch.utils.data.DataLoader(pictures, batch_size=32):
                for head, logits in model(*(tensor.to(device) for tensor in inputs)).items():
                    parts[head].append(logits.double().softmax(dim=1).cpu().numpy())
        return {head: np.concatenate(some) for head, some in parts.items()}

    def _made_with(self, run: RunResult) -> tuple[PictureStore, Split]:
        card = run.card
        store = self.store(PROTOCOLS[card["protocol"]], card["architecture"])
        made = self.split(**{key: card["split"][key] for key in ("name", "seed", "fold")})
        wanted = {"pictures": card["data"]["fingerprint"], "split": card["split"]["fingerprint"]}
        found = {"pictures": store.fingerprint, "split": made.fingerprint}
        if wanted != found:
            changed = " and ".join(name for name in wanted if wanted[name] != found[name])
            raise KitError(f"run '{Path(run.folder).name}' was trained with other data ({changed}): train it again")
        return store, made

    def scores(self, run: RunResult, head: str = "condition", subset: str = "test") -> pd.DataFrame:
        """`score_table` of one head of a run."""
        table = self.predictions(run, subset)
        return score_table(*truth_and_probabilities(table, head), table["study"], CLASS_NAMES[head])

    def challenge_score(self, run: RunResult, subset: str = "test") -> pd.DataFrame:
        """The challenge's weighted log loss of a run's severities, beside constants that were fitted to the training studies.

        Returns:
            prediction ("network", then those of CONSTANTS), the parts of WeightedLogLoss, low and high (95 % over studies) of its
            mean, difference (the network's mean minus this one; below 0 the network is better), difference_low and
            difference_high (95 %, both on the same draws of studies), studies. The network has no difference.

        Raises:
            KitError: the run has no head for severities.
        """
        if "severity" not in run.card["options"]["heads"]:
            raise KitError(f"run '{Path(run.folder).name}' predicts no severities: train with protocol '{MENDED.name}'")
        store, made = self._made_with(run)
        known, table = store.table.iloc[made.rows("train", store.table)], self.predictions(run, subset)
        labels = table.drop_duplicates(["study", "condition", "level"])[["study", "condition", "level", "grade"]]
        own = table.rename(columns={f"severity_{k}": name for k, name in enumerate(PROBABILITIES)})
        own = own.groupby(["study", "condition", "level"], as_index=False)[list(PROBABILITIES)].mean()
        given = {"network": own} | {name: best_constants(known, labels, by_place) for name, by_place in CONSTANTS.items()}
        rows = []
        for name, predictions in given.items():
            found: WeightedLogLoss = weighted_log_loss(labels, predictions)
            low, high = score_interval(labels, predictions)
            row = {"prediction": name, **asdict(found), "low": low, "high": high}
            if name in CONSTANTS:
                paired = score_difference(labels, own, predictions)
                row |= dict(zip(("difference", "difference_low", "difference_high"), paired, strict=True))
            rows.append({**row, "studies": labels["study"].nunique()})
        return pd.DataFrame(rows)

    def table31(self, runs: Sequence[RunResult]) -> pd.DataFrame:
        """`misan`'s Table 3.1 with what runs reach on their test samples below each printed row.

        Returns:
            network, protocol ("printed", or the run's), run (its folder's name, with the seed and what was changed),
            initial_weights ("imagenet" or "random"), split, accuracy with low and high (95 % over studies), loss (of both
            printed heads together, on test samples), auc (mean of each class against the rest), then what is not printed:
            balanced_accuracy with its low and high, calibration_error, brier, level_accuracy, ceiling and level_ceiling (the
            highest accuracy of the two heads that whole slices allow on exactly these samples, see ``ceilings``; not of runs on
            crops, which see one point at a time), weighted_log_loss, n (samples), studies.
        """
        printed = printed_table31()
        rows = []
        for row in printed.itertuples():
            rows.append(
                {"network": row.network, "protocol": "printed", "accuracy": row.accuracy, "loss": row.loss, "auc": row.auc}
            )
            rows += [self._row(run) for run in runs if run.card["architecture"] == row.network]
        return pd.DataFrame(rows)

    def _row(self, run: RunResult) -> dict[str, Any]:
        scores = {head: self.scores(run, head) for head in ("condition", "level")}
        overall = {head: table[table["name"] == ALL].set_index("metric") for head, table in scores.items()}
        own = overall["condition"]
        metadata = " + age, sex" if run.card["options"]["metadata"] else ""
        row = {
            "network": run.card["architecture"],
            "protocol": run.card["protocol"] + metadata,
            "run": Path(run.folder).name,
            "initial_weights": run.card["initial_weights"],
            "split": "sample" if run.card["split"]["name"] == BY_SAMPLE else "study",
            "loss": sum(table.loc["log loss", "value"] for table in overall.values()),
            "auc": own.loc["AUC", "value"],
        }
        for column, metric in (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy")):
            row |= {
                column: own.loc[metric, "value"],
                f"{column}_low": own.loc[metric, "low"],
                f"{column}_high": own.loc[metric, "high"],
            }
        row |= {"calibration_error": own.loc["calibration error", "value"], "brier": own.loc["Brier score", "value"]}
        row |= {"level_accuracy": overall["level"].loc["accuracy", "value"]}
        row |= self.run_ceilings(run)
        if "severity" in run.card["options"]["heads"]:
            row["weighted_log_loss"] = self.challenge_score(run)["mean"].iloc[0]
        return row | {"n": int(own.loc["accuracy", "n"]), "studies": int(own.loc["accuracy", "studies"])}

    def run_ceilings(self, run: RunResult, subset: str = "test") -> dict[str, float]:
        """What no network of whole slices can pass on a run's own samples.

        Returns:
            ceiling (accuracy of the condition, with healthy as a class), level_ceiling; NaN of a run on crops.
        """
        if not PROTOCOLS[run.card["protocol"]].whole:
            return {"ceiling": float("nan"), "level_ceiling": float("nan")}
        highest = ceilings(self.predictions(run, subset)).set_index("asked")["highest"]
        return {"ceiling": highest["condition, with healthy"], "level_ceiling": highest["level"]}

    def shortcut(self, split: str = BY_STUDY) -> pd.DataFrame:
        """What can be had without looking into a picture, on the test samples of a split.

        Returns:
            guess ("always the most frequent class", "most frequent class of the series' kind"), accuracy, balanced_accuracy, both
            of the condition, n.
        """
        samples, made = self.rsna.samples, self.split(split)
        table = samples.join(split_keys(samples))
        train, test = (table.iloc[made.rows(subset, table)] for subset in ("train", "test"))
        rows = []
        for name, keys in (("always the most frequent class", []), ("most frequent class of the series' kind", ["description"])):
            if keys:
                usual = train.groupby(keys)["misan_class"].agg(lambda classes: classes.mode().iloc[0])
                guess = test[keys[0]].map(usual).fillna(HEALTHY).to_numpy(int)
            else:
                guess = np.full(len(test), train["misan_class"].mode().iloc[0])
            scores = score_table(test["misan_class"].to_numpy(), np.eye(6)[guess], test["study"], CLASS_NAMES["condition"])
            value = scores[scores["name"] == ALL].set_index("metric")["value"]
            rows.append((name, value["accuracy"], value["balanced accuracy"], len(test)))
        return pd.DataFrame(rows, columns=["guess", "accuracy", "balanced_accuracy", "n"])


# ---------------------------------------------------------------------------------------------------------- plain functions


def printed_table31() -> pd.DataFrame:
    """`misan`'s Table 3.1: network, accuracy, epochs, batch_size, minutes, loss, auc."""
    return published_table("misan_table3_1")


def truth_and_probabilities(table: pd.DataFrame, head: str) -> tuple[np.ndarray, np.ndarray]:
    """(n,) true classes and (n, classes) probabilities of a head from ``FindingStudy.predictions``."""
    column = dict(zip(TARGETS, ("misan_class", "misan_level", "grade"), strict=True))[head]
    names = [f"{head}_{k}" for k in range(len(CLASS_NAMES[head]))]
    return table[column].to_numpy(int), table[names].to_numpy(np.float64)


def ceilings(points: pd.DataFrame) -> pd.DataFrame:
    """The highest accuracy that anything can reach which sees whole slices alone, on exactly these points.

    One slice can hold several labelled points. Whoever sees only the slice must answer all of them alike, so at best the most
    frequent label of each slice is right. A split that parts the points of a slice, as a random one by sample does, leaves fewer
    labels on each slice of its test part, and so a higher ceiling there: give the points that are scored, or see
    ``ceiling_of_share``.

    Args:
        points: rows of data.rsna.labelled_points or of RsnaSet.samples.

    Returns:
        asked, classes, highest (accuracy), slices, points. "condition" is asked twice: with Normal/Mild as a class of its own
        ("healthy"), and as the table of points has it, which the source's listing reads.
    """
    points = points.assign(named=points["condition"].map(CONDITIONS.index))
    slices = ["study", "series", "instance"]
    rows = []
    for asked, columns in (
        ("condition, with healthy", ["misan_class"]),
        ("condition, whatever its severity", ["named"]),
        ("level", ["misan_level"]),
        ("condition and level", ["misan_class", "misan_level"]),
    ):
        best = points.groupby([*slices, *columns]).size().groupby(slices).max().sum()
        distinct = len(points[columns].drop_duplicates())
        rows.append((asked, distinct, best / len(points), len(points[slices].drop_duplicates()), len(points)))
    return pd.DataFrame(rows, columns=["asked", "classes", "highest", "slices", "points"])


def ceiling_of_share(points: pd.DataFrame, share: float, n_draws: int = 5, seed: int = 0) -> pd.DataFrame:
    """``ceilings`` of so large a random part of the points, drawn by sample: the mean of several draws.

    Args:
        points: as for ``ceilings``.
        share: of the points, above 0 and at most 1, such as the test part of a split.
        n_draws, seed: how many parts are drawn, and the seed of all of them.

    Returns:
        asked, share, highest.

    Raises:
        ValueError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie above 0 and be at most 1, not {share}")
    random = np.random.default_rng(seed)
    n = max(1, round(share * len(points)))
    drawn = pd.concat(ceilings(points.iloc[random.choice(len(points), n, replace=False)]) for _ in range(n_draws))
    return drawn.groupby("asked", sort=False)["highest"].mean().reset_index().assign(share=share)[["asked", "share", "highest"]]
