"""Three networks, one a plane, made into one volume of probabilities by a small 3D network, as `triplanar` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from spider_utils.data.planes import PLANES, cut, join, pad_to, padded_size, relative_positions
from spider_utils.errors import DataError
from spider_utils.models.network import SegmentationNetwork
from spider_utils.runtime import seed_everything
from spider_utils.training.checkpoints import read_tensors, write_tensors
from spider_utils.training.losses import make_loss
from spider_utils.training.precision import autocast, choose_amp

PIXELS_AT_ONCE = 1 << 17  # of a forward pass: eight slices of 128 x 128
_CALLED = 0.05  # probability from which on a voxel is worth a look
_CHECKS = 5  # looks at the checked patients during a training
_TRAIN_AGAIN = "Delete the file; the fusion is trained again."
_LEAST_BORDER = 2  # voxels that a crop's edge reaches into, as two 3x3x3 convolutions have it


@torch.inference_mode()
def plane_probability(network: SegmentationNetwork, image: np.ndarray, plane: str, device: str = "cpu") -> np.ndarray:
    """What a network of one plane says of a volume.

    Args:
        network: two classes, in evaluation mode, on ``device``.
        image: uint8 (channels, slice, row, column).
        plane: whose slices it was trained on.
        device: "cpu", "cuda" or "mps".

    Returns:
        float32 (slice, row, column): probability of a disc.
    """
    slices = cut(image, plane)
    rows, columns = slices.shape[-2:]
    size = padded_size((rows, columns), network.stride)
    step = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    parts = []
    for start in range(0, len(slices), step):
        batch = torch.from_numpy(pad_to(slices[start : start + step], size)).to(device).float() / 255
        logits = network(batch.contiguous(memory_format=torch.channels_last)).float()
        parts.append(torch.softmax(logits, dim=1)[:, 1, :rows, :columns].cpu().numpy())
    return np.ascontiguousarray(join(np.concatenate(parts), plane))


def fusion_input(probabilities: Mapping[str, np.ndarray], positions: bool = True) -> np.ndarray:
    """The channels that the fusion sees: of each plane its probability and, with ``positions``, the place along its normal.

    The source speaks of a parameter for the relative position and does not say relative to what. Here: to the middle of what
    the three together call discs, in units of twice its standard deviation along the normal, so that the field of view does not
    matter (places in the volume served worse on patients to check).

    Args:
        probabilities: (slice, row, column) of each of PLANES.
        positions: six channels, as in the source; else three.

    Returns:
        float32 (channels, slice, row, column).

    Raises:
        ValueError: a plane is missing, or shapes differ.
    """
    if set(probabilities) != set(PLANES) or len({np.shape(one) for one in probabilities.values()}) != 1:
        shapes = ", ".join(f"{plane} {np.shape(one)}" for plane, one in probabilities.items())
        raise ValueError(f"the fusion needs one volume of each of {', '.join(PLANES)}, all of one shape, not {shapes}")
    shape, channels = np.shape(probabilities["sagittal"]), []
    called = np.argwhere(np.mean(list(probabilities.values()), axis=0, dtype=np.float32) > 0.5) if positions else np.zeros((0, 3))
    for plane, axis in PLANES.items():
        channels.append(np.asarray(probabilities[plane], np.float32))
        if positions:
            frame = (called[:, axis].mean(), max(2 * called[:, axis].std(), 1)) if len(called) else ()
            channels.append(relative_positions(shape, plane, *frame))
    return np.stack(channels)


@dataclass(frozen=True)
class FusionDesign:
    """What a fusion looks like.

    Attributes:
        kernel: edge of its convolutions in voxels, odd; 1 weighs the planes voxel by voxel, whatever lies around.
        hidden: channels between the two convolutions; 0 for a single one.
        positions: whether it sees where along each plane's normal a voxel lies (see ``fusion_input``).

    Raises:
        ValueError: the kernel is even, or a number is too small.
    """

    kernel: int = 3
    hidden: int = 16
    positions: bool = True

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0 or self.hidden < 0:
            raise ValueError(f"kernel must be 1, 3, 5, ... and hidden 0 or more, not {self.kernel} and {self.hidden}")

    @property
    def reach(self) -> int:
        """How many voxels away from a voxel its answer looks, at least two."""
        return max(_LEAST_BORDER, (2 if self.hidden else 1) * (self.kernel // 2))


class PlaneFusion(nn.Module):
    """The 3D network that weighs three planes: two 3x3x3 convolutions in the source, which says no more about them.

    The kit's choice: a ReLU between them, ``hidden`` channels there, zeros beyond the volume, two classes at the end.

    Args:
        design: see FusionDesign.

    Shape:
        float ``(batch, 6 or 3, slice, row, column)`` as ``fusion_input`` makes it -> logits ``(batch, 2, slice, row, column)``.

    Reference:
        Georgiev, Asenov. Automatic segmentation of lumbar spine MRI using ensemble of 2D algorithms. Computational Methods and
        Clinical Applications for Spine Imaging, 2019. Section "3D Ensemble".
    """

    def __init__(self, design: FusionDesign):
        super().__init__()
        self.design = design
        widths = [2 * len(PLANES) if design.positions else len(PLANES), *([design.hidden] if design.hidden else []), 2]
        self.layers = nn.ModuleList(
            nn.Conv3d(before, after, design.kernel, padding=design.kernel // 2)
            for before, after in zip(widths, widths[1:], strict=False)
        )

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        """Logits; see the class."""
        channels = channels.contiguous(memory_format=torch.channels_last_3d)  # in half the time on CPUs
        for layer in self.layers[:-1]:
            channels = F.relu(layer(channels))
        return self.layers[-1](channels)

    @torch.inference_mode()
    def probability(self, probabilities: Mapping[str, np.ndarray]) -> np.ndarray:
        """float32 (slice, row, column): fused probability of a disc, of those of the three planes.

        Only the box around what some plane calls a disc, with the reach of the convolutions, is computed; beyond it is 0.
        """
        channels = fusion_input(probabilities, self.design.positions)
        found = np.zeros(channels.shape[1:], np.float32)
        called = np.maximum.reduce([np.asarray(one) for one in probabilities.values()]) > _CALLED
        if not called.any():
            return found
        reach = self.design.reach
        box = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in ndimage.find_objects(called.view(np.uint8))[0])
        wider = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wider, strict=True))
        logits = self(torch.from_numpy(channels[(slice(None), *wider)])[None]).float()
        found[box] = torch.softmax(logits, dim=1)[0, 1].numpy()[inner]
        return found

    def save(self, path: str | Path, notes: dict[str, Any] | None = None) -> None:
        """Write the weights as safetensors with ``notes`` (anything JSON can hold) in the header, so that both change at once."""
        write_tensors(path, self.state_dict(), notes)

    def load(self, path: str | Path) -> PlaneFusion:
        """Read weights that ``save`` wrote. Raises DataError when they are not of this design."""
        weights, _ = read_tensors(path, _TRAIN_AGAIN)
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(path, "holds the weights of another fusion", _TRAIN_AGAIN) from error
        return self

    @staticmethod
    def notes(path: str | Path) -> dict[str, Any]:
        """The notes of a file that ``save`` wrote. Raises DataError when it is missing or damaged."""
        return read_tensors(path, _TRAIN_AGAIN)[1]


@dataclass(frozen=True)
class Lesson:
    """A patient that a fusion learns from, or is checked on.

    Attributes:
        planes: probabilities of the three networks, which do not know the patient, (slice, row, column) each.
        truth: bool (slice, row, column).
        first_row: what lies above is left out, because not every disc there is labelled.
    """

    planes: Mapping[str, np.ndarray]
    truth: np.ndarray
    first_row: int = 0


@dataclass(frozen=True)
class FusionTraining:
    """How a fusion is trained.

    Attributes:
        steps: of training.
        learning_rate: of the first step.
        crop: edge of a crop, voxels; smaller where a volume is.
        batch: crops a step.
        seed: of initial weights and crops.
    """

    steps: int = 200
    learning_rate: float = 1e-2
    crop: int = 24
    batch: int = 4
    seed: int = 0


def train_fusion(
    design: FusionDesign, train: Sequence[Lesson], check: Sequence[Lesson], training: FusionTraining
) -> tuple[PlaneFusion, list[dict[str, float]]]:
    """Train a fusion on what the three networks say of patients that none of them was trained on.

    Each step sees crops around voxels that a plane calls a disc or that are one. Adam with a rate that falls along half a
    cosine, loss Dice + cross-entropy, and the best weights by Dice of the checked patients: the kit's choices, as the source
    names none.

    This is no call of training.loop.fit, whose worth is that hours of work survive a kill. A fusion takes seconds, is one file
    and no run folder, counts in steps and not in epochs of a data set, leaves the edges of its crops out of the loss, and is
    checked on whole volumes in which only the box around what is called a disc is computed: each of these would be
    a switch in ``fit``.

    Args:
        design: of the fusion.
        train: patients that it learns from.
        check: other patients, on which it is validated a few times.
        training: how long, and on what.

    Returns:
        The fusion in evaluation mode, and its history: step, loss (mean since the last row), dice (of the checked patients'
        voxels, pooled).

    Raises:
        ValueError: no patient to train on or to check with.
    """
    if not train or not check:
        raise ValueError("a fusion needs patients to learn from and others to be checked on")
    seed_everything(training.seed)
    rng = np.random.default_rng(training.seed)
    fusion, loss = PlaneFusion(design), make_loss("dice_ce", 2)
    volumes = [_prepared(design, lesson) for lesson in train]
    sizes = np.minimum(training.crop, np.min([truth.shape for _, truth, _ in volumes], axis=0))
    amp = choose_amp("auto", "cpu", fusion)
    optimizer = torch.optim.Adam(fusion.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    history: list[dict[str, float]] = []
    best, losses = (-1.0, fusion.state_dict()), []
    for step in range(1, training.steps + 1):
        drawn = [_crop(*volumes[rng.integers(len(volumes))], sizes, rng) for _ in range(training.batch)]
        channels, truth = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        inner = [slice(design.reach, n - design.reach) if n > 3 * design.reach else slice(None) for n in truth.shape[1:]]
        with autocast(amp, "cpu"):
            logits = fusion(channels)
        error = loss(logits[(..., *inner)], truth[(slice(None), *inner)])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(error.detach()))
        if step % max(1, training.steps // _CHECKS) == 0 or step == training.steps:
            history.append({"step": step, "loss": float(np.mean(losses)), "dice": _pooled_dice(fusion, check, amp)})
            losses = []
            if history[-1]["dice"] > best[0]:
                best = history[-1]["dice"], {name: tensor.detach().clone() for name, tensor in fusion.state_dict().items()}
    fusion.load_state_dict(best[1])
    return fusion.eval(), history


def _prepared(design: FusionDesign, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Channels and truth as tensors, and the voxels that crops are drawn around."""
    channels = fusion_input(lesson.planes, design.positions)[:, :, lesson.first_row :]  # places are those in the whole volume
    truth = lesson.truth[:, lesson.first_row :]
    some = np.maximum.reduce([np.asarray(one)[:, lesson.first_row :] for one in lesson.planes.values()]) > _CALLED
    return torch.from_numpy(channels), torch.from_numpy(truth.astype(np.int64)), np.argwhere(some | truth)


def _crop(
    channels: torch.Tensor, truth: torch.Tensor, around: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    centre = around[rng.integers(len(around))]
    starts = [int(np.clip(c - size // 2, 0, n - size)) for c, size, n in zip(centre, sizes, truth.shape, strict=True)]
    box = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    return channels[(slice(None), *box)], truth[box]


def _pooled_dice(fusion: PlaneFusion, lessons: Sequence[Lesson], amp: str) -> float:
    both = said = 0
    for lesson in lessons:
        with autocast(amp, "cpu"):
            mask = fusion.probability(lesson.planes)[:, lesson.first_row :] > 0.5
        truth = lesson.truth[:, lesson.first_row :]
        both, said = both + 2 * int((mask & truth).sum()), said + int(mask.sum()) + int(truth.sum())
    return both / said if said else 0.0


def sensitivity(fusion: PlaneFusion, planes: Mapping[str, np.ndarray], voxels: np.ndarray) -> np.ndarray:
    """How the fused answer at some voxels hangs on what each plane says there and around: the fusion's weights at work.

    Two convolutions with a ReLU between are, at each voxel, one weighted sum; which one depends on the ReLUs that are open there.

    Args:
        fusion: in evaluation mode.
        planes: probabilities of the three networks, (slice, row, column) each.
        voxels: int (n, 3).

    Returns:
        float32 (n, 3, 5, 5, 5), for other designs 2 reach + 1 instead of 5: by how much the logit of "disc" minus that of
        "background" rises for each 1 of probability of each of PLANES, from two voxels before to two voxels after (slice, row,
        column).
    """
    reach = fusion.design.reach
    channels = np.pad(fusion_input(planes, fusion.design.positions), [(0, 0)] + [(reach, reach)] * 3)
    spans = [voxels[:, axis, None] + np.arange(2 * reach + 1) for axis in range(3)]
    around = channels[:, spans[0][:, :, None, None], spans[1][:, None, :, None], spans[2][:, None, None, :]]
    patches = torch.from_numpy(np.ascontiguousarray(np.moveaxis(around, 1, 0))).requires_grad_()
    logits = fusion(patches)[:, :, reach, reach, reach]
    (logits[:, 1] - logits[:, 0]).sum().backward()
    return patches.grad[:, :: 2 if fusion.design.positions else 1].numpy()
