"""Several processes that train one network together, one for each GPU: who is who, and what they tell each other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from spider_utils.errors import KitError
from spider_utils.runtime import pick_device
from spider_utils.training.tasks import Meter

Value = TypeVar("Value")
PACKAGE_MISSING = 'training in several processes needs the package accelerate: pip install "spider-utils[gpus]"'


def launched_processes() -> int:
    """How many processes `accelerate launch`, `torchrun` or ``train_on_all_gpus`` started for this work; 1: none of them did."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and speaks: the only one, or the first of several."""
    return launched_processes() == 1 or os.environ["RANK"] == "0"


class ProcessGroup:
    """The processes of one training. Each has the whole network, and learns from its share of every batch.

    Where no launcher started several, there is one, and every method does what that one needs: next to nothing.

    Attributes:
        size: number of processes.
        rank: number of this one, from 0.
        is_main: whether it is the one that writes files and speaks, number 0.

    Args:
        device: "auto", "cpu" or "cuda"; of several processes each takes a GPU of its own.

    Raises:
        KitError: several were started, and accelerate is not installed or the device can be used by one process only.
    """

    def __init__(self, device: str):
        self.size, self.rank, self._accelerator = 1, 0, None
        if launched_processes() > 1:
            self.device = device = pick_device(device)
            if device not in ("cpu", "cuda"):
                raise KitError(f"several processes cannot share the device '{device}': use cuda or cpu, or train in one process")
            try:
                from accelerate import Accelerator
            except ImportError as error:
                raise KitError(PACKAGE_MISSING) from error
            # The number format is the fit loop's business, whatever the user's accelerate is configured to.
            self._accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
            self.size, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self.is_main = self.rank == 0

    # -- who takes what

    def share_size(self, batch_size: int) -> int:
        """Items of a batch that each process takes.

        Raises:
            KitError: the batch cannot be shared equally.
        """
        if batch_size % self.size:
            nearest = max(1, round(batch_size / self.size)) * self.size
            raise KitError(
                f"a batch of {batch_size} cannot be shared equally by {self.size} processes: choose a batch_size (and so many "
                f"training items) that {self.size} divides, such as {nearest}"
            )
        return batch_size // self.size

    def own_share(self, order: np.ndarray, batch_size: int) -> np.ndarray:
        """Of items in the order of training, in whole batches, the share of each batch that is this process's."""
        share = self.share_size(batch_size)
        return order.reshape(-1, batch_size)[:, self.rank * share : (self.rank + 1) * share].ravel()

    def own_batches(self, n_items: int, batch_size: int) -> np.ndarray:
        """Numbers of the items whose batches are this process's, whole ones, dealt out in turn."""
        items = np.arange(n_items)
        return items[items // batch_size % self.size == self.rank]

    # -- the network

    def with_joint_batch_norms(self, model: nn.Module) -> nn.Module:
        """``model``, changed: its batch norms see the whole batch. Only GPUs can; on CPUs each process sees its own share."""
        if self.size > 1 and self.device == "cuda":
            return joint_batch_norms(model)
        return model

    def learner(self, model: nn.Module) -> nn.Module:
        """``model`` for the steps of training: starts from the main process's weights, and gradients are averages over all."""
        if self.size == 1:
            return model
        # Kernels of 1x1 have the same bytes in both memory formats, and torch warns of each that it is called by the other name.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return self._accelerator.prepare_model(model, device_placement=False)

    def share_buffers(self, model: nn.Module) -> None:
        """Give the main process's running averages of batch norms, which it saves, to all."""
        if self.size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    # -- words and numbers

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            self._accelerator.wait_for_everyone()

    def from_main(self, function: Callable[[], Value]) -> Value:
        """What ``function`` returns to the main process, which alone calls it."""
        if self.size == 1:
            return function()
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([function() if self.is_main else None])[0]

    def total(self, sums: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, through which gradients flow; for losses, see training.losses."""
        return _Total.apply(sums) if self.size > 1 else sums

    def mean(self, number: torch.Tensor) -> torch.Tensor:
        """Mean over all processes, without a gradient."""
        return self._accelerator.reduce(number, "mean") if self.size > 1 else number

    def sum(self, number: float) -> float:
        """Sum over all processes."""
        if self.size == 1:
            return number
        return float(self._accelerator.reduce(torch.tensor(number, dtype=torch.float64, device=self.device), "sum"))

    def merged(self, meter: Meter) -> Meter:
        """One meter of what all processes counted."""
        if self.size == 1:
            return meter
        from accelerate.utils import gather_object

        merged, *others = gather_object([meter])
        for other in others:
            merged.merge(other)
        return merged


class _Total(torch.autograd.Function):
    """Sum over all processes. Each has its own loss that hangs on the sum, so a gradient is the sum of all of theirs."""

    @staticmethod
    def forward(_: Any, sums: torch.Tensor) -> torch.Tensor:
        total = sums.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total


def joint_batch_norms(model: nn.Module) -> nn.Module:
    """``model`` with every batch norm replaced by one that takes its statistics from the batches of all processes.

    Weights, averages and their names stay. By timm, whose norms with an activation inside torch's own function would strip.
    """
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(model)
