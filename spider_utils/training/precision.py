"""Which number format a network computes in while it trains."""

from __future__ import annotations

import platform

import torch
from torch import nn

from spider_utils.errors import KitError

AMP_CHOICES = ("auto", "off", "bf16", "fp16")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (x86: AVX-512 BF16 or AMX); elsewhere torch would emulate it."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return platform.machine().lower() in ("x86_64", "amd64") and any(check() for check in checks if check)


def has_dilated_groups(model: nn.Module) -> bool:
    """Whether a network has grouped convolutions with dilation, as DeepLabV3 makes of MobileNet or RegNet encoders.

    torch 2.12 on CPUs computes the weights' gradients of these in bfloat16 from memory that it never wrote: wrong without
    notice, or NaN. Measured against float64 with 152 channels in 19 groups, dilation 2, 40x32 pixels; right in float32.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(one.groups > 1 and max(one.dilation) > 1 for one in convolutions)


def has_volume_convolutions(model: nn.Module) -> bool:
    """Whether a network has 3D convolutions.

    torch 2.12 on CPUs computes the weights' gradients of these in bfloat16 as infinite, or plainly wrong, where a volume is
    thinner than the kernel, as the deepest features of the UNETR are. Measured against float32 with 64 and 128 channels on
    2x12x12 voxels and a kernel of 3; right with 4 slices.
    """
    return any(isinstance(module, nn.Conv3d) for module in model.modules())


def choose_amp(amp: str, device: str, model: nn.Module | None = None) -> str:
    """What "auto" means on ``device`` for ``model``: "off", "bf16" or "fp16"; any other choice is returned as it is.

    Mixed precision pays where the hardware has the format. CUDA: bf16 from compute capability 8 (Ampere), fp16 with loss
    scaling before (the T4 of Colab and Kaggle). CPU: bf16 where there are instructions for it (measured with the ResNet-18
    U-Net on 2 cores with AVX-512 BF16: 1.7 times faster), else off, since emulation is slower than float32; off, too, for a
    network whose gradients bf16 gets wrong there (see has_dilated_groups, has_volume_convolutions). Other devices: off.

    Raises:
        KitError: unknown choice, fp16 on another device than CUDA, where it has no loss scaling, or bf16 on a CPU for a network
            that it cannot train.
    """
    if amp not in AMP_CHOICES:
        raise KitError(f"amp must be one of {', '.join(AMP_CHOICES)}, not '{amp}'")
    if amp == "fp16" and device != "cuda":
        raise KitError(f"amp 'fp16' needs a CUDA GPU, the device is '{device}'. Use amp='auto'")
    reasons = []
    if device == "cpu" and model is not None:
        found = {
            "grouped convolutions with dilation": has_dilated_groups(model),
            "3D convolutions": has_volume_convolutions(model),
        }
        reasons = [what for what, is_there in found.items() if is_there]
    if amp == "bf16" and reasons:
        raise KitError(
            f"amp 'bf16' gives wrong gradients on a CPU for this network, because it has {' and '.join(reasons)}. Use amp='auto'"
        )
    if amp != "auto":
        return amp
    if device == "cuda":
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
    return "bf16" if device == "cpu" and cpu_has_bfloat16() and not reasons else "off"


def autocast(amp: str, device: str) -> torch.autocast:
    """The context in which the network runs forward; ``amp`` is "off", "bf16" or "fp16"."""
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    return torch.autocast("cpu" if amp == "off" else device, dtype=dtype, enabled=amp != "off")
