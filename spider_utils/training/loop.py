"""The one fit loop of the kit: trains any of its networks, can be killed at any time, and goes on where it was."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from spider_utils.errors import DataError, KitError
from spider_utils.files import fingerprint, require_free_space, write_csv, write_json
from spider_utils.locks import file_lock
from spider_utils.models import parameter_count
from spider_utils.models.network import Network
from spider_utils.runtime import is_interactive, pick_device, seed_everything
from spider_utils.training.checkpoints import (
    complete_card,
    read_tensors,
    read_training_state,
    save_model,
    write_tensors,
    write_training_state,
)
from spider_utils.training.config import TrainConfig, scheduled_share
from spider_utils.training.distributed import ProcessGroup
from spider_utils.training.precision import autocast, choose_amp
from spider_utils.training.provenance import peak_memory_bytes, provenance
from spider_utils.training.runs import (
    HISTORY_FILE,
    RUN_FILE,
    STATE_FILE,
    RunResult,
    is_other_run,
    move_into_place,
    remove_training_files,
    remove_unfinished_writes,
    replaced_note,
    run_identity,
)
from spider_utils.training.tasks import Meter, SegmentationTask, Task

OPTIMIZER_CLASSES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
STEPS_BETWEEN_CHECKS = 20  # losses are looked at this often; on a GPU every look waits for the device


def fit(
    model: Network,
    train_set: Dataset,
    val_set: Dataset,
    folder: str | Path,
    config: TrainConfig,
    card: dict[str, Any],
    *,
    task: Task | None = None,
    device: str = "auto",
    overwrite: bool = False,
    save_every_s: float = 30.0,
    made_in: Mapping[str, str] | None = None,
) -> RunResult:
    """Train ``model`` and leave a run folder, or return the one that is already there.

    Work happens in ``<folder>.partial``, which is renamed when all is written. A call after a kill, a crash or a keyboard
    interrupt goes on after the last epoch that was saved; on a CPU (same machine, same number of threads) it ends with the
    same numbers as an unbroken run. A finished run of the same config, card and set sizes is returned without training.

    Called in each of several processes (see training.launch) it trains one network in all of them together: each batch is shared
    equally, and losses, gradients and scores are those of the whole batch and set. Only the main process writes. It is the same
    run as in one process, and either goes on where the other was stopped.

    Args:
        model: a network of ``build_model`` or ``build_classifier``, where training starts; it is changed. Take the trained one
            from the result. The starting weights do not count when deciding whether a run is the same: name in the card what
            they come from.
        train_set, val_set: give what the task takes; for segmentation (float32 image ``(1, height, width)``, int64 mask
            ``(height, width)``), or volumes with ``slices, rows, columns``; ``set_epoch(epoch)`` is called where it exists, so
            that augmentation can follow from the epoch.
        folder: the run folder.
        config: how to train.
        card: what to know about the model, JSON values: ``scheme``, ``size``, ``data``, ``split``, ... The network's own
            entries are filled in. Name the data by fingerprint: it tells one run from another.
        task: what is learned and how it is scored (see training.tasks); segmentation with the config's loss when None. The
            facts of a given one become part of the card, and so tell one run from another.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: replace a finished or half-done run in ``folder`` that was made with other settings. The finished one is
            kept until the new one is complete. Anything but a run is never replaced.
        save_every_s: save after an epoch when this many seconds have passed since the last time (0: after every epoch). A
            state is three times the size of the weights: written after every epoch it takes a fifth of a short run's time.
        made_in: where the data come from, for ``run.json`` alone: profile, data and root, which `spider-kit rerun` opens again.

    Returns:
        The finished run.

    Raises:
        KitError: the loss is no longer a number (with epoch and step); the truth holds classes that the model lacks; the
            validation set has nothing to score; ``folder`` holds another run and ``overwrite`` is False (with what differs); a
            batch cannot be shared equally by the processes.
        DataError: another process trains in ``folder``; a process that loads data died; files cannot be written or read; the
            disk is too full.
        ValueError: the card contradicts the model, or a data set is empty.
    """
    folder = Path(folder)
    if not len(train_set) or not len(val_set):
        raise ValueError(f"{'validation' if len(train_set) else 'training'} set is empty")
    card = complete_card(model, {**card, "task": task.facts} if task and task.facts else card)
    identity = run_identity(config, card, len(train_set), len(val_set))
    group = ProcessGroup(device)
    group.share_size(_batch_size(config, len(train_set)))
    partial, lock = (folder.with_name(folder.name + end) for end in (".partial", ".lock"))
    # Without a lock there is nothing to write: a finished run can be used from a place that cannot be written.
    if group.from_main(lambda: not lock.exists() and folder.exists() and not is_other_run(folder, identity, overwrite)):
        return RunResult.open(folder)
    with file_lock(lock, "is training in this run folder") if group.is_main else contextlib.nullcontext():
        if not group.from_main(lambda: _is_finished(folder, partial, identity, overwrite)):
            task = task or SegmentationTask(config.loss, card["n_classes"])
            run = _Run(model, train_set, val_set, partial, config, card, identity, task, pick_device(device), group, save_every_s)
            with _dead_loaders_explained(partial):
                run.train()
            if group.is_main:
                run.finish(made_in)
                move_into_place(partial, folder)
    group.wait()  # for the files of the main process
    return RunResult.open(folder)


def _batch_size(config: TrainConfig, n_train: int) -> int:
    """Items of a step: the config's, or all of an epoch where these are fewer."""
    return min(config.batch_size, config.samples_per_epoch or n_train, n_train)


def _is_finished(folder: Path, partial: Path, identity: dict[str, Any], overwrite: bool) -> bool:
    """Whether the run lies in ``folder``, finished; else ``partial`` is left as this run's own, or cleared away."""
    if folder.exists():
        if not is_other_run(folder, identity, overwrite):
            remove_training_files(folder)  # a kill right after the renaming may have left them, and the lock
            return True
        if any(folder.iterdir()):
            print(replaced_note(folder, identity), flush=True)
    if partial.exists():
        remove_unfinished_writes(partial)
        if is_other_run(partial, identity, overwrite):
            shutil.rmtree(partial)
    return False


@contextlib.contextmanager
def _dead_loaders_explained(partial: Path) -> Iterator[None]:
    """One clear error when a process that loads data dies; torch may raise its own wherever the training is."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        torch_says = str(error).splitlines()[0].rstrip(". ")
        fix = "Run again: it goes on after the last saved epoch. A smaller num_workers (0 has none) takes less memory."
        problem = f"a process that loads data died ({torch_says}), most likely for lack of memory"
        raise DataError(partial, problem, fix) from error


# ---------------------------------------------------------------------------------------------------------------- training


def parameter_groups(model: Network, config: TrainConfig) -> list[dict[str, Any]]:
    """A network's weights for an optimizer: one group, or two where the transformer learns at a pace of its own.

    Returns:
        Groups with ``params``, ``lr`` and ``pace``, the share of the learning rate that the group keeps whatever the schedule.

    Raises:
        KitError: the config has a pace for a transformer, and the network has none.
    """
    pace, transformer = config.transformer_pace, model.transformer
    if pace == 1:
        return [{"params": list(model.parameters()), "lr": config.learning_rate, "pace": 1.0}]
    if transformer is None:
        raise KitError(f"transformer_pace is {pace}, but {type(model).__name__} has no transformer: leave it at 1")
    apart = {id(weight) for weight in transformer.parameters()}
    rest = [weight for weight in model.parameters() if id(weight) not in apart]
    return [
        {"params": rest, "lr": config.learning_rate, "pace": 1.0},
        {"params": list(transformer.parameters()), "lr": config.learning_rate * pace, "pace": pace},
    ]


@dataclass
class _Progress:
    """Where training stands after an epoch; as JSON part of the training state."""

    amp: str
    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0
    parts: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    plateau: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


class _Run:
    """One training run at work in its partial folder."""

    def __init__(
        self,
        model: Network,
        train_set: Dataset,
        val_set: Dataset,
        partial: Path,
        config: TrainConfig,
        card: dict[str, Any],
        identity: dict[str, Any],
        task: Task,
        device: str,
        group: ProcessGroup,
        save_every_s: float,
    ):
        self.train_set, self.val_set = train_set, val_set
        self.partial, self.config, self.card, self.identity, self.device = partial, config, card, identity, device
        self.task, self.group, self.save_every_s = task, group, save_every_s
        memory_format = model.channels_last if config.channels_last else torch.contiguous_format
        self.model = group.with_joint_batch_norms(model.to(device=device, memory_format=memory_format))
        self.memory_format = memory_format
        self.optimizer = OPTIMIZER_CLASSES[config.optimizer](
            parameter_groups(model, config),
            weight_decay=config.weight_decay,
            fused=device in ("cpu", "cuda"),  # one pass over the weights instead of several; not in every torch for "mps"
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="max", factor=config.plateau_factor, patience=config.plateau_patience
        )
        self.n_samples = min(config.samples_per_epoch or len(train_set), len(train_set))
        self.batch_size = _batch_size(config, len(train_set))
        self.steps_per_epoch = self.n_samples // self.batch_size
        self.progress = _Progress(amp=choose_amp(config.amp, device, self.model))
        self._start_or_resume()
        self.learner = group.learner(self.model)

    # -- state on disk

    def _start_or_resume(self) -> None:
        state = self.partial / STATE_FILE
        if not self.group.is_main:
            self.group.wait()  # for the main process, which begins the run where there is none: then all read its state
        if state.exists():
            fix = f"Delete the folder {self.partial} to train from the start."
            notes = read_training_state(state, self.model, self.optimizer, fix)
            try:
                self.progress = _Progress(**notes)
            except TypeError as error:
                raise DataError(state, f"does not say where training stands ({error})", fix) from error
            if self.progress.amp == "bf16":
                choose_amp("bf16", self.device, self.model)  # raises where it would give wrong gradients
            self.plateau.load_state_dict(self.progress.plateau)
            self._say(f"going on after epoch {self.progress.epoch} of {self.config.epochs} in {self.partial}")
        else:
            weights = sum(tensor.numel() * tensor.element_size() for tensor in self.model.state_dict().values())
            # Weights and Adam's two averages, twice while one state replaces the other, and two files of best weights.
            require_free_space(self.partial, 8 * weights, "training")
            write_json(self.partial / RUN_FILE, {"identity": self.identity})
        # Mixed precision stays what the run began with, even when it goes on elsewhere.
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.progress.amp == "fp16")
        if self.progress.scaler:
            self.scaler.load_state_dict(self.progress.scaler)
        self.progress.parts += 1
        self.best: dict[str, torch.Tensor] | None = None  # the best weights while they are not on disk
        self._save()
        if self.group.is_main:
            self.group.wait()

    def _say(self, line: str) -> None:
        if self.group.is_main:
            print(line, flush=True)

    def _best_file(self, epoch: int) -> Path:
        return self.partial / f"best-{epoch:05d}.safetensors"

    def _save(self) -> None:
        """Write the state, in the main process."""
        if self.group.is_main:
            self._write_state()
        self.saved_epoch, self.saved_at = self.progress.epoch, time.monotonic()

    def _write_state(self) -> None:
        """Best weights first, under a new name; then the state that points to them; then the old best can go."""
        best_file = self._best_file(self.progress.best_epoch)
        if self.best is not None:
            write_tensors(best_file, self.best)
            self.best = None
        self.progress.plateau = self.plateau.state_dict()
        self.progress.scaler = self.scaler.state_dict()
        write_training_state(self.partial / STATE_FILE, self.model, self.optimizer, asdict(self.progress))
        if self.progress.history:
            write_csv(self.partial / HISTORY_FILE, pd.DataFrame(self.progress.history))
        for path in self.partial.glob("best-*.safetensors"):
            if path != best_file:
                path.unlink()

    # -- training

    def train(self) -> None:
        """Train from where the state stands to the last epoch or an early stop."""
        while self.progress.epoch < self.config.epochs and not self._is_stalled():
            self._train_one_epoch(self.progress.epoch + 1)
            if time.monotonic() - self.saved_at >= self.save_every_s:
                self._save()
        if self.saved_epoch < self.progress.epoch:
            self._save()

    def _is_stalled(self) -> bool:
        patience = self.config.early_stop_patience
        return patience is not None and self.progress.epoch - self.progress.best_epoch >= patience

    def _train_one_epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        train_loss, seen = self._train_steps(epoch)
        val_loss, validation = self._validate(epoch)
        if not math.isfinite(val_loss):
            raise self._no_number("validation", f"epoch {epoch}")
        score = (validation if seen is None else seen).score()
        if self.config.schedule == "plateau":
            self.plateau.step(score)
        is_best = score > self.progress.best_score
        if is_best:
            self.progress.best_epoch, self.progress.best_score = epoch, score
            if self.group.is_main:
                self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        seconds = time.perf_counter() - started
        self.progress.epoch = epoch
        self.progress.seconds += seconds
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.progress.history.append(
            {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, self.task.score_name: score}
            | validation.columns()
            | {"learning_rate": learning_rate, "seconds": seconds}
        )
        self._say(
            f"epoch {epoch:>{len(str(self.config.epochs))}}/{self.config.epochs}  train loss {train_loss:.4f}  "
            f"val loss {val_loss:.4f}  {validation.text()}  "
            f"lr {learning_rate:.1e}  {seconds:.1f} s{'  best' if is_best else ''}"
        )

    def _train_steps(self, epoch: int) -> tuple[float, Meter | None]:
        """Train for one epoch and return the mean loss of its steps, and their counts where the task chooses by them."""
        # All randomness of an epoch follows from (seed, epoch), so an epoch that is repeated after a kill is the same.
        # The order is that of all processes; each has a seed of its own, lest dropout be the same in every share of a batch.
        seeds = np.random.SeedSequence([self.config.seed, epoch]).generate_state(1 + self.group.size)
        order_seed, epoch_seed = seeds[0], int(seeds[1 + self.group.rank])
        order = np.random.default_rng(order_seed).permutation(len(self.train_set))[: self.n_samples]
        if hasattr(self.train_set, "set_epoch"):
            self.train_set.set_epoch(epoch)
        seed_everything(epoch_seed)
        self.model.train()
        losses: list[torch.Tensor] = []
        seen = self.task.meter() if self.task.chooses_by_training else None
        kept = self.group.own_share(order[: self.steps_per_epoch * self.batch_size], self.batch_size)
        share = self.group.share_size(self.batch_size)
        batches = self._batches(self.train_set, kept, share, f"epoch {epoch}", epoch_seed)
        for step, (inputs, truth) in enumerate(batches, start=1):
            self._set_learning_rate((epoch - 1) * self.steps_per_epoch + step - 1)
            with autocast(self.progress.amp, self.device):
                outputs = self.learner(*inputs)
            loss = self.task.loss(outputs, truth, self.group.total)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            losses.append(self.group.mean(loss.detach()))
            if seen is not None:
                seen.update(truth, outputs)
            if step % STEPS_BETWEEN_CHECKS == 0 or step == self.steps_per_epoch:
                self._check_losses(losses, epoch)
        return float(torch.stack(losses).double().mean()), None if seen is None else self.group.merged(seen)

    def _check_losses(self, losses: list[torch.Tensor], epoch: int) -> None:
        finite = torch.stack(losses).isfinite().cpu().numpy()
        if not finite.all():
            raise self._no_number("training", f"epoch {epoch}, step {int(np.argmin(finite)) + 1}")

    def _no_number(self, which: str, where: str) -> KitError:
        return KitError(
            f"{self.partial}: the {which} loss is no longer a number at {where}. Check the images for NaN; else train with a "
            f"lower learning_rate (it is {self.config.learning_rate:g}) or amp='off', and overwrite=True"
        )

    def _set_learning_rate(self, step: int) -> None:
        share = scheduled_share(self.config.schedule, step, self.config.epochs * self.steps_per_epoch)
        if share is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * share * group["pace"]

    @torch.inference_mode()
    def _validate(self, epoch: int) -> tuple[float, Meter]:
        """Mean loss over the validation items, and their pooled counts."""
        self.group.share_buffers(self.model)
        self.model.eval()
        meter = self.task.meter()
        total = 0.0
        # Whole batches in turn, not shares: none need be divisible, and the loss of each is what one process finds.
        own = self.group.own_batches(len(self.val_set), self.config.batch_size)
        for inputs, truth in self._batches(self.val_set, own, self.config.batch_size, f"epoch {epoch} validation", seed=0):
            with autocast(self.progress.amp, self.device):
                outputs = self.model(*inputs)
            total += float(self.task.loss(outputs, truth)) * len(truth)
            meter.update(truth, outputs)
        return self.group.sum(total) / len(self.val_set), self.group.merged(meter)

    def _batches(
        self, dataset: Dataset, order: np.ndarray, batch_size: int, desc: str, seed: int
    ) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
        """Batches of ``dataset`` in ``order``, checked and on the device."""
        loader = DataLoader(
            Subset(dataset, order.tolist()),
            batch_size=batch_size,
            num_workers=self.config.num_workers,
            pin_memory=self.device == "cuda",
            generator=torch.Generator().manual_seed(seed),  # of the workers
        )
        if is_interactive() and self.group.is_main:
            from tqdm.auto import tqdm

            loader = tqdm(loader, desc=desc, leave=False)
        for batch in loader:
            (images, *more), truth = self.task.parts(batch)
            images = images.to(self.device, non_blocking=True, memory_format=self.memory_format)
            more = [tensor.to(self.device, non_blocking=True) for tensor in more]
            yield (images, *more), truth.to(self.device, non_blocking=True).long()  # may be bytes, an eighth to move

    # -- the end

    def finish(self, made_in: Mapping[str, str] | None) -> None:
        """Write the files of a finished run into the partial folder."""
        fix = f"Delete the folder {self.partial} to train from the start."
        best, _ = read_tensors(self._best_file(self.progress.best_epoch), fix)
        self.model.load_state_dict(best)
        save_model(self.partial, self.model, self.card)
        write_csv(self.partial / HISTORY_FILE, pd.DataFrame(self.progress.history))
        record = {
            "identity": self.identity,
            "fingerprint": fingerprint(self.identity),
            "config": asdict(self.config),
            "seed": self.config.seed,
            "data": self.card.get("data"),
            "made_in": dict(made_in) if made_in else None,
            "amp": self.progress.amp,
            "parameters": parameter_count(self.model),
            "best_epoch": self.progress.best_epoch,
            f"best_{self.task.score_name}": self.progress.best_score,
            "epochs_trained": self.progress.epoch,
            "stopped_early": self.progress.epoch < self.config.epochs,
            "wall_seconds": self.progress.seconds,
            "parts": self.progress.parts,
            "processes": self.group.size,
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self.partial / RUN_FILE, record | provenance(self.device))
