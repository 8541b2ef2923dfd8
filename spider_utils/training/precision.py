"""Which number format a network computes in while it trains."""

from __future__ import annotations

import platform

import torch

from spider_utils.errors import KitError

AMP_CHOICES = ("auto", "off", "bf16", "fp16")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (x86: AVX-512 BF16 or AMX); elsewhere torch would emulate it."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return platform.machine().lower() in ("x86_64", "amd64") and any(check() for check in checks if check)


def choose_amp(amp: str, device: str) -> str:
    """What "auto" means on ``device``: "off", "bf16" or "fp16"; any other choice is returned as it is.

    Mixed precision pays where the hardware has the format. CUDA: bf16 from compute capability 8 (Ampere), fp16 with loss
    scaling before (the T4 of Colab and Kaggle). CPU: bf16 where there are instructions for it (measured with the ResNet-18
    U-Net on 2 cores with AVX-512 BF16: 1.7 times faster), else off, since emulation is slower than float32. Other devices:
    off.

    Raises:
        KitError: unknown choice, or fp16 on another device than CUDA, where it has no loss scaling.
    """
    if amp not in AMP_CHOICES:
        raise KitError(f"amp must be one of {', '.join(AMP_CHOICES)}, not '{amp}'")
    if amp == "fp16" and device != "cuda":
        raise KitError(f"amp 'fp16' needs a CUDA GPU, the device is '{device}'. Use amp='auto'")
    if amp != "auto":
        return amp
    if device == "cuda":
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
    return "bf16" if device == "cpu" and cpu_has_bfloat16() else "off"


def autocast(amp: str, device: str) -> torch.autocast:
    """The context in which the network runs forward; ``amp`` is "off", "bf16" or "fp16"."""
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    return torch.autocast("cpu" if amp == "off" else device, dtype=dtype, enabled=amp != "off")
