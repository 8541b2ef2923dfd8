"""Look into a network: its parameters, the sizes of its features, what it costs, and how much of an image it sees."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spider_utils.models import parameter_count
from spider_utils.models.network import SegmentationNetwork

_FIRST_INPUT, _LARGEST_INPUT = 1024, 2048  # pixels; a receptive field beyond the second is called unlimited
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def parameter_table(model: nn.Module, depth: int = 1) -> pd.DataFrame:
    """Trainable parameters by block, in the order of the network.

    Args:
        model: any network.
        depth: parts of a weight's name that make a block: with 1 "encoder.layer1.0.conv1.weight" counts for "encoder", with 2
            for "encoder.layer1".

    Returns:
        One row a block: block, parameters (int), share (of all, 0..1).

    Raises:
        ValueError: depth is below 1, or the network has no trainable parameter.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    counts: dict[str, int] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            parts = name.split(".")
            block = ".".join(parts[: min(depth, len(parts) - 1)]) or name
            counts[block] = counts.get(block, 0) + weight.numel()
    if not counts:
        raise ValueError("the network has no trainable parameter")
    table = pd.DataFrame({"block": list(counts), "parameters": list(counts.values())})
    return table.assign(share=table["parameters"] / table["parameters"].sum())


def feature_sizes(model: nn.Module, images: torch.Tensor, blocks: Sequence[str]) -> pd.DataFrame:
    """Size of what some blocks of a network give out.

    Args:
        model: any 2D network.
        images: float ``(batch, channels, height, width)``, as the network takes them.
        blocks: names as in ``model.named_modules()``; each must give out one tensor ``(batch, channels, height, width)``.

    Returns:
        One row a block, in the order given: block, channels, rows, columns.

    Raises:
        ValueError: the network has no such block, or a block is not reached, or gives out something else.
    """
    modules = dict(model.named_modules())
    if missing := [name for name in blocks if name not in modules]:
        raise ValueError(f"the network has no block {', '.join(missing)}; it has {', '.join(n for n in modules if n)}")
    found: dict[str, tuple[int, ...]] = {}

    def keep(name: str):
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not (isinstance(output, torch.Tensor) and output.ndim == 4):
                raise ValueError(f"block '{name}' does not give out one tensor (batch, channels, height, width)")
            found[name] = tuple(output.shape[1:])

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in blocks]
    try:
        with _evaluating(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    if unused := [name for name in blocks if name not in found]:
        raise ValueError(f"the network does not use its block {', '.join(unused)} for these images")
    rows = [(name, *found[name]) for name in blocks]
    return pd.DataFrame(rows, columns=["block", "channels", "rows", "columns"])


def cost_table(models: Mapping[str, nn.Module], size: tuple[int, int], batch_size: int = 8, repeats: int = 3) -> pd.DataFrame:
    """What networks cost: parameters, work and time for one slice.

    Args:
        models: networks that take one channel, by name; they stay as they are.
        size: rows, columns of a slice.
        batch_size: slices at once.
        repeats: times measured, after one run that does not count.

    Returns:
        One row a network: network, parameters (trainable), gflops (multiplications and additions of one slice forward, in units
        of 1e9, counted in convolutions and matrix products, which are nearly all), predict_ms and train_ms (milliseconds a
        slice on the CPU in float32, medians: forward, and forward and backward). Times depend on the machine and its load.
    """
    images, rows = torch.rand(batch_size, 1, *size), []
    for name, model in models.items():
        model = copy.deepcopy(model).to(memory_format=torch.channels_last).eval()
        with torch.no_grad():
            counter = FlopCounterMode(display=False)
            with counter:
                model(images[:1])
            predict_s = _median_seconds(lambda model=model: model(images), repeats)
        model.train()
        train_s = _median_seconds(lambda model=model: model(images).square().mean().backward(), repeats)
        times = [1e3 * seconds / batch_size for seconds in (predict_s, train_s)]
        rows.append((name, parameter_count(model), counter.get_total_flops() / 1e9, *times))
    return pd.DataFrame(rows, columns=["network", "parameters", "gflops", "predict_ms", "train_ms"])


def _median_seconds(action: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


# -------------------------------------------------------------------------------------------------------- receptive fields


def theoretical_receptive_field(model: nn.Module, in_channels: int = 1, stride: int | None = None) -> tuple[float, float]:
    """The region of the input that can change the output at one pixel at all: (rows, columns) in pixels.

    Found by a gradient, so it holds for any network: in a copy every weight becomes positive and every ``nn.MaxPool2d`` an
    average, so that no path is switched off or cancels out; then each input pixel with a gradient lies in the field. (Maxima
    that a network takes by a function, not by a module, stay maxima and make the field look smaller.) The output pixel is the
    one in the middle, at a multiple of ``stride``; the fields of its neighbours can differ by less than ``stride``.

    Args:
        model: a 2D network, ``(batch, in_channels, height, width)`` -> ``(batch, any, height, width)``.
        in_channels: channels of its input.
        stride: what height and width must be divisible by; None stands for the network's own, or for 32 when it is not one of
            ``build_model``.

    Returns:
        Rows and columns of the smallest box around the field; ``math.inf`` for a side that is longer than 2048 pixels, as with
        pooling over the whole image.
    """
    if stride is None:
        stride = model.stride if isinstance(model, SegmentationNetwork) else 32
    model = _without_switches(model)
    return _side(model, in_channels, stride, axis=2), _side(model, in_channels, stride, axis=3)


def effective_receptive_field(model: nn.Module, images: torch.Tensor, center: tuple[int, int] | None = None) -> np.ndarray:
    """How strongly each input pixel changes the score of the winning class at one pixel, averaged over images.

    Args:
        model: a 2D network that gives logits of the input's size.
        images: float ``(batch, channels, height, width)``, on the network's device.
        center: the output pixel (row, column); the middle when None.

    Returns:
        float64 ``(height, width)``: mean absolute gradient, summing to 1.

    Raises:
        ValueError: ``center`` lies outside the images, or no pixel has a gradient.

    Reference:
        Luo, Li, Urtasun, Zemel. Understanding the effective receptive field in deep convolutional neural networks. NeurIPS
        2016. arXiv:1701.04128 (there for the mean of random networks).
    """
    row, column = center or (images.shape[2] // 2, images.shape[3] // 2)
    if not (0 <= row < images.shape[2] and 0 <= column < images.shape[3]):
        raise ValueError(f"pixel ({row}, {column}) lies outside images of {images.shape[2]}x{images.shape[3]}")
    images = images.detach().clone().requires_grad_()
    with _evaluating(model):
        scores = model(images)[:, :, row, column].amax(dim=1)
        (gradient,) = torch.autograd.grad(scores.sum(), images)
    field = gradient.abs().sum(dim=1).double().mean(dim=0).cpu().numpy()
    if not field.sum() > 0:
        raise ValueError("no input pixel changes the output there: is the network trained on something, and not all zero?")
    return field / field.sum()


def central_box(field: np.ndarray, share: float = 0.95, center: tuple[int, int] | None = None) -> int:
    """Side (pixels, odd) of the smallest square around ``center`` that holds ``share`` of a receptive field.

    Args:
        field: ``(rows, columns)``, not negative.
        share: 0..1.
        center: (row, column); the middle when None. The square may reach beyond the field.

    Raises:
        ValueError: share is not above 0 and at most 1, or the field is zero everywhere.
    """
    total = float(field.sum())
    if not 0 < share <= 1 or not total > 0:
        raise ValueError(f"share must lie above 0 and be at most 1 (it is {share}), and the field must not be empty")
    row, column = center or (field.shape[0] // 2, field.shape[1] // 2)
    ring = np.maximum(np.abs(np.arange(field.shape[0]) - row)[:, None], np.abs(np.arange(field.shape[1]) - column))
    inside = np.cumsum(np.bincount(ring.reshape(-1), weights=field.reshape(-1)))
    # Rounding in the sum must not ask for one more ring.
    return 2 * int(np.searchsorted(inside, share * total * (1 - 1e-12))) + 1


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; each of its modules is put back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _without_switches(model: nn.Module) -> nn.Module:
    """A copy in float64 in which every output depends on all inputs that it is connected to, by positive factors."""
    model = copy.deepcopy(model).cpu().double().eval()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, pool)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BATCH_NORMS) and module.track_running_stats:
                module.running_mean.zero_()
                module.running_var.fill_(1)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            else:
                # Averaging weights keep numbers near 1 however deep the network is; vectors are scales of normalisation.
                weight.fill_(1.0 if weight.ndim < 2 else 1 / weight[0].numel())
    return model.requires_grad_(False)


def _side(model: nn.Module, in_channels: int, stride: int, axis: int) -> float:
    """Length of the field along an axis, from strips that are one stride wide: extents along the axes are independent."""
    length = -(-_FIRST_INPUT // (2 * stride)) * 2 * stride
    while length <= _LARGEST_INPUT:
        shape = [1, in_channels, stride, stride]
        shape[axis] = length
        # Growing values, so that nothing that subtracts a mean comes out as zero.
        images = torch.linspace(0.5, 1.5, math.prod(shape), dtype=torch.float64).reshape(shape).requires_grad_()
        output = model(images)
        middle = length // 2 // stride * stride
        (gradient,) = torch.autograd.grad(output.select(axis, middle).sum(), images)
        reached = np.flatnonzero(gradient.abs().amax(dim=[d for d in range(4) if d != axis]).numpy())
        if reached.size and reached[0] > 0 and reached[-1] < length - 1:
            return int(reached[-1] - reached[0] + 1)
        length *= 2
    return math.inf
