"""Scans as no hospital makes them: contrast, coil, resolution and artefacts drawn at random, over the phantom's own anatomy.

A network that learns from phantoms alone must not rely on how the phantom's tissues look, because real ones look otherwise in
ways that nobody listed. So here everything about the look is drawn anew for every series, far beyond what scanners do: what
stays the same from picture to picture is the anatomy, and that is what is left to learn (domain randomization: Tobin et al.,
IROS 2017, arXiv:1703.06907; for contrasts of MRI Billot et al., SynthSeg, Med Image Anal 86:102789, 2023).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from spider_utils.data.phantom.scanner import Look, Protocol
from spider_utils.data.phantom.signal import TISSUES, Matter, blend, spin_echo

_FREE = 0.3  # share of series whose tissues have any brightness at all, bound by no physics


def randomized(protocol: Protocol, seed: int) -> Protocol:
    """A protocol of the same patient, field of view and voxels, with everything about its look drawn anew.

    Args:
        protocol: from draw_protocols.
        seed: non-negative integer; the same seed, the same look.
    """
    rng = np.random.default_rng([int(seed), 88])
    return replace(
        protocol,
        blur_mm=tuple(float(max(0.9 * mm, _log_uniform(rng, 0.5, 1.8))) for mm in protocol.voxel_mm[1:]),
        noise=_log_uniform(rng, 0.01, 0.16),
        coil_mm=_log_uniform(rng, 70, 600),
        coil_span_mm=float(rng.uniform(160, 420)),
        band=(float(rng.uniform(14, 50)), float(rng.uniform(0.3, 0.97)) if rng.random() < 0.6 else 0.0),
        look=Look(random_table(rng, protocol.machine.tesla), Disturbance(rng)),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two, its logarithm evenly spread."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_table(rng: np.random.Generator, tesla: float) -> np.ndarray:
    """Signal of every tissue at every blend for one random contrast, as signal.signal_table gives it: (tissues, 256) float32.

    Most follow the spin-echo equation, from T1 over proton density to heavy T2 weighting, with relaxation times and densities
    that are off by a quarter to a third, each substance by its own draw. In the others every tissue has any brightness. Air
    stays dark, or nothing would tell where the patient ends.
    """
    if rng.random() < _FREE:
        levels = rng.uniform(0.03, 1, len(TISSUES))
        others = np.clip(levels + rng.normal(0, 0.2, len(TISSUES)), 0.02, 1.1)
        ends = np.stack([levels, others], axis=1)
        ends[[name == "air" for name, _, _ in TISSUES]] = 0
        return blend(ends)
    tr_ms, te_ms, restored = _log_uniform(rng, 400, 5500), _log_uniform(rng, 8, 170), rng.random() < 0.5
    substances = dict.fromkeys(matter for _, *pair in TISSUES for matter in pair)  # each once, in a fixed order
    signal = {matter: spin_echo(_varied(matter, rng), tr_ms, te_ms, tesla, restored) for matter in substances}
    return blend(np.array([[signal[matter] for matter in pair] for _, *pair in TISSUES]))


def _varied(matter: Matter, rng: np.random.Generator) -> Matter:
    """The substance with other relaxation times and another density."""
    t1, t2, density = np.exp(rng.normal(0, (0.25, 0.35, 0.25)))
    return Matter(
        tuple(float(ms * t1) for ms in matter.t1), tuple(float(ms * t2) for ms in matter.t2), float(matter.density * density)
    )


class Disturbance:
    """Artefacts of a series, each strong, weak or absent: a Look's ``disturb``.

    Smooth bias over the field of view; grain of any size, as if tissue were unevenly textured; bright and dark spots, as cysts,
    haemangiomas and metal leave; a ghost, the picture again, shifted, as a beating heart or breathing leaves along the phase
    encoding direction.

    Args:
        rng: of all draws; those of the slices go on from it, so slices must be asked for in order.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._bias = rng.normal(0, 0.22, 5) * (rng.random() < 0.7)
        self._grain = (_log_uniform(rng, 0.02, 0.15) * (rng.random() < 0.7), _log_uniform(rng, 0.6, 6))
        self._spots = int(rng.integers(0, 9)) if rng.random() < 0.6 else 0
        self._ghost = (int(rng.integers(2)), float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.01, 0.09))) * (rng.random() < 0.3)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in picture.shape)
        down, across = rows[:, None], columns[None]
        a, b, c, d, e = self._bias
        factor = np.exp(a * down + b * across + c * down * across + d * down**2 + e * across**2)
        strength, size = self._grain
        if strength:
            grain = ndimage.gaussian_filter(self._rng.standard_normal(picture.shape, dtype=np.float32), size)
            factor *= np.maximum(1 + strength * grain / grain.std(), 0.1)
        for _ in range(self._spots):
            middle, reach = self._rng.uniform(-1, 1, 2), self._rng.uniform(0.005, 0.06, 2)
            spot = np.exp(-0.5 * (((down - middle[0]) / reach[0]) ** 2 + ((across - middle[1]) / reach[1]) ** 2))
            factor *= np.exp(np.float32(self._rng.normal(0, 0.6)) * spot)
        picture = picture * factor.astype(np.float32)
        if self._ghost:
            axis, shift, share = self._ghost
            picture = picture + np.float32(share) * np.roll(picture, round(shift * picture.shape[axis]), axis)
        return picture
