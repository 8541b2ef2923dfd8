"""The settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spider_utils.errors import KitError
from spider_utils.training.losses import LOSSES
from spider_utils.training.precision import AMP_CHOICES

SCHEDULES = ("plateau", "cosine", "one_cycle", "constant")
OPTIMIZERS = ("adam", "adamw")
WARM_UP_SHARE = 0.25  # of a one_cycle run's steps


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        epochs: at most this many.
        batch_size: slices a step. An incomplete last batch of an epoch is dropped, as batch statistics of a few slices harm.
        learning_rate: the highest one of the run.
        weight_decay: of the optimizer (for "adamw" decoupled, Loshchilov & Hutter 2019).
        optimizer: "adam" or "adamw".
        transformer_pace: share of the learning rate at which a network's transformer learns. Convolutions with norms stand high
            rates and short trainings need them; at these a transformer's attention soon puts all weight on one token and stays
            there. 1 for networks without a transformer.
        loss: one of training.losses.LOSSES.
        schedule: how the learning rate goes. "plateau": times ``plateau_factor`` after more than ``plateau_patience`` epochs
            without a better validation score. "cosine": falls to 0 along half a cosine. "one_cycle": rises linearly for a
            quarter of the steps, then as "cosine" (Smith 2018; the best of these for short runs). "constant".
        plateau_patience, plateau_factor: see ``schedule``.
        early_stop_patience: stop after this many epochs without a better validation score; None never stops early.
        samples_per_epoch: slices an epoch, drawn anew each epoch without replacement; None, or more than there are, takes all.
        amp: "auto", "off", "bf16" or "fp16" (see ``choose_amp``).
        channels_last: memory layout in which convolutions are faster on CPUs and recent GPUs.
        seed: every random number of the run follows from it.
        num_workers: processes that load data; 0 loads in this one. Does not change the result of data sets whose random
            numbers follow from ``set_epoch``.
    """

    epochs: int = 50
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimizer: str = "adam"
    transformer_pace: float = 1.0
    loss: str = "dice_ce"
    schedule: str = "plateau"
    plateau_patience: int = 5
    plateau_factor: float = 0.5
    early_stop_patience: int | None = None
    samples_per_epoch: int | None = None
    amp: str = "auto"
    channels_last: bool = True
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        choices = {"optimizer": OPTIMIZERS, "loss": LOSSES, "schedule": SCHEDULES, "amp": AMP_CHOICES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise KitError(f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'")
        at_least_1 = ("epochs", "batch_size", "early_stop_patience", "samples_per_epoch")
        at_least_0 = ("plateau_patience", "weight_decay", "seed", "num_workers")
        for name in at_least_1 + at_least_0:
            value, lowest = getattr(self, name), int(name in at_least_1)
            if value is not None and not value >= lowest:
                raise KitError(f"{name} must be at least {lowest}, not {value}")
        if not 0 < self.learning_rate < math.inf:
            raise KitError(f"learning_rate must be a positive number, not {self.learning_rate}")
        if not 0 < self.transformer_pace <= 1:
            raise KitError(f"transformer_pace must be above 0 and at most 1, not {self.transformer_pace}")
        if not 0 < self.plateau_factor < 1:
            raise KitError(f"plateau_factor must lie between 0 and 1, not {self.plateau_factor}")


def scheduled_share(schedule: str, step: int, n_steps: int) -> float | None:
    """The share of the highest learning rate to use in ``step`` (from 0) of ``n_steps``; None for "plateau".

    Raises:
        ValueError: unknown schedule.
    """
    if schedule == "plateau":
        return None
    if schedule == "constant":
        return 1.0
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule '{schedule}'. Known are: {', '.join(SCHEDULES)}")
    warm_up = round(WARM_UP_SHARE * n_steps) if schedule == "one_cycle" else 0
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))
