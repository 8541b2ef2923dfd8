"""What the scanner makes of a patient: protocol, signal, coil, thick slices, blur, noise, and how the file lies.

Protocols follow what SPIDER's ``overview.csv`` lists for its four hospitals (van der Graaf et al., Sci Data 11:264, 2024):
scanner, field strength, TR, TE, slice distance; voxel sizes stay inside the ranges of its Table 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.phantom.anatomy import GENERATOR_VERSION, Anatomy
from spider_utils.data.phantom.body import build_body
from spider_utils.data.phantom.raster import TissueGrid
from spider_utils.data.phantom.signal import TISSUE, signal_table, sliver_signal
from spider_utils.data.volumes import StoredGeometry, Volume, kit_direction

SEQUENCES = ("t1", "t2", "t2_SPACE")
HOSPITALS = ("UMC", "RH1", "RH2", "OH")
SIZES = ("full", "small")


@dataclass(frozen=True)
class Machine:
    """One scanner with one sequence as SPIDER's overview.csv describes it: constants of the header, and ranges to draw from.

    ``tr`` and ``te`` in ms (lowest, usual, highest); ``slices`` (slice thickness, distance between slices) in mm; ``pixels``
    in-plane pixel sizes in mm; ``share`` how often this machine is met in its hospital.
    """

    share: float
    manufacturer: str
    model: str
    tesla: float
    tr: tuple[float, float, float]
    te: tuple[float, float, float]
    train: int
    flip: int
    bandwidth: int
    slices: tuple[float, float]
    pixels: tuple[float, ...]
    description: str
    body_part: str
    level: float


# Ranges and constants counted in SPIDER's overview.csv, by hospital and sequence. ``level`` is the usual brightness
# (window centre) of the stored integers.
_MACHINES: dict[tuple[str, str], tuple[Machine, ...]] = {
    ("OH", "t1"): (
        Machine(
            1, "Philips Healthcare", "Ingenia", 3.0, (600, 716, 746), (13.837, 13.837, 13.837),
            7, 85, 463, (3.0, 3.3), (0.52, 0.58, 0.625, 0.625, 0.70), "", "LSPINE", 1049,
        ),
    ),
    ("OH", "t2"): (
        Machine(
            1, "Philips Healthcare", "Ingenia", 3.0, (3563, 3745, 5550), (120, 120, 120),
            25, 90, 365, (3.0, 3.3), (0.52, 0.58, 0.625, 0.625, 0.70), "", "LSPINE", 1027,
        ),
    ),
    ("UMC", "t1"): (
        Machine(
            1, "SIEMENS", "Avanto_fit", 1.5, (456, 456, 670), (9.5, 9.8, 9.8),
            2, 150, 190, (3.0, 3.3), (0.47, 0.586, 0.586, 0.586), "t1_tse_sag", "", 299,
        ),
    ),
    ("UMC", "t2"): (
        Machine(
            1, "SIEMENS", "Avanto_fit", 1.5, (3750, 3750, 5520), (90, 93, 93),
            17, 150, 195, (3.0, 3.3), (0.47, 0.586, 0.586, 0.586), "t2_tse_sag", "", 277,
        ),
    ),
    ("UMC", "t2_SPACE"): (
        Machine(
            0.97, "SIEMENS", "Avanto_fit", 1.5, (1000, 1000, 1110), (124, 124, 124),
            60, 150, 530, (0.9, 0.9), (0.46875,), "T2_space_sag_c4", "", 136,
        ),
        Machine(
            0.03, "SIEMENS", "Skyra", 3.0, (1430, 1430, 1430), (123, 123, 123),
            56, 150, 530, (0.9, 0.9), (0.46875,), "T2_space_sag_c4", "", 217,
        ),
    ),
    ("RH1", "t1"): (
        Machine(
            0.49, "SIEMENS", "SymphonyTim", 1.5, (446, 446, 502), (11, 11, 11),
            4, 150, 161, (4.0, 4.4), (0.65, 0.729, 0.729), "SAG T1 TSE", "LSPINE", 414,
        ),
        Machine(
            0.40, "SIEMENS", "Aera", 1.5, (617, 617, 699), (9.7, 9.7, 9.7),
            3, 150, 235, (4.0, 4.8), (0.875, 0.875, 0.9375), "SAG T1 TSE", "LSPINE", 360,
        ),
        Machine(
            0.11, "SIEMENS", "Skyra_fit", 3.0, (497, 497, 633), (9.7, 9.8, 9.8),
            5, 150, 250, (4.0, 4.4), (0.47, 0.52), "SAG T1 TSE", "LSPINE", 536,
        ),
    ),
    ("RH1", "t2"): (
        Machine(
            0.49, "SIEMENS", "SymphonyTim", 1.5, (3900, 3900, 4323), (106, 106, 106),
            19, 150, 161, (4.0, 4.4), (0.65, 0.729, 0.729), "SAG T2 TSE", "LSPINE", 354,
        ),
        Machine(
            0.40, "SIEMENS", "Aera", 1.5, (3500, 3500, 3840), (95, 97, 97),
            19, 150, 195, (4.0, 4.8), (0.729, 0.729, 0.781), "SAG T2 TSE", "LSPINE", 305,
        ),
        Machine(
            0.11, "SIEMENS", "Skyra_fit", 3.0, (4200, 4200, 5570), (90, 102, 102),
            21, 150, 245, (4.0, 4.4), (0.47, 0.52), "SAG T2 TSE", "LSPINE", 488,
        ),
    ),
    ("RH2", "t1"): (
        Machine(
            0.45, "Philips Medical Systems", "Ingenia", 1.5, (575, 575, 575), (8, 8, 8),
            5, 80, 199, (4.0, 4.4), (0.478,), "CS T1 TSE SAG", "MRI LWK", 312,
        ),
        Machine(
            0.55, "SIEMENS", "Avanto_fit", 1.5, (645, 660, 687), (9.6, 9.6, 9.6),
            3, 150, 235, (4.0, 4.8), (0.8125, 0.8125, 0.9), "t1_tse_sag_320", "MRI LWK", 327,
        ),
    ),
    ("RH2", "t2"): (
        Machine(
            0.45, "Philips Medical Systems", "Ingenia", 1.5, (2746, 2746, 3356), (80, 80, 80),
            27, 90, 189, (4.0, 4.4), (0.478,), "CS T2 TSE SAG", "MRI LWK", 282,
        ),
        Machine(
            0.55, "SIEMENS", "Avanto_fit", 1.5, (3500, 3500, 3900), (114, 114, 114),
            17, 150, 195, (4.0, 4.8), (0.677, 0.677, 0.75), "t2_tse_sag_384", "MRI LWK", 199,
        ),
    ),
}  # fmt: skip

# Voxel sizes by hospital: (across slices, in the slice), mm; SPIDER's Table 2, where the thickest axis is the slices'.
VOXEL_RANGE_MM = {
    "UMC": ((3.24, 3.34), (0.27, 0.85)),
    "RH1": ((4.20, 9.63), (0.46, 1.06)),
    "RH2": ((4.20, 5.17), (0.46, 1.23)),
    "OH": ((3.15, 3.39), (0.24, 1.02)),
}
SPACE_VOXEL_MM = (0.90, 0.46875, 0.46875)

# ITK codes that files of a hospital are stored in. The thick axis comes first in UMC and OH files and last in most of the
# regional hospitals', as the order of the published voxel sizes says.
_ORIENTATIONS = {
    "UMC": ("RPI", "LPS", "RAI"),
    "OH": ("RPI", "LPS", "LAS"),
    "RH1": ("PIR", "PIL", "AIL", "RPI"),
    "RH2": ("PIR", "PIL", "ASL", "LPS"),
}


@dataclass(frozen=True, eq=False)
class Look:
    """A look that no scanner gives (see phantom.randomize).

    Attributes:
        table: signal of every tissue at every blend, in place of signal.signal_table.
        disturb: what becomes of a slice before the noise: called with float32 (row, column), gives as much back.
    """

    table: np.ndarray
    disturb: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """Everything that one series is made with.

    Attributes:
        hospital, sequence: where and what.
        machine: the scanner and its constants.
        tr_ms, te_ms: drawn from the machine's range.
        voxel_mm: size along (slice, row, column).
        shape: (slices, rows, columns).
        centre: (right, down, back) in mm of the middle of the field of view in the patient's frame.
        tilts_deg: how the patient lies in the scanner, as small turns about the (slice, row, column) axes.
        orientation: ITK code in which the file is stored.
        blur_mm: width (full, at half height) of the blur in the slice that acquisition and interpolation leave, (row, column).
        noise: standard deviation of the noise, as a share of the signal of marrow.
        coil_mm: how deep the back coil sees (the larger, the more even); coil_span_mm: how far it reaches along the spine.
        band: depth before the spine (mm) and strength (0 none, 1 black) of the saturation band over the belly.
        seed: of noise and coil.
    """

    hospital: str
    sequence: str
    machine: Machine
    tr_ms: float
    te_ms: float
    voxel_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    centre: tuple[float, float, float]
    tilts_deg: tuple[float, float, float]
    orientation: str
    blur_mm: tuple[float, float]
    noise: float
    coil_mm: float
    coil_span_mm: float
    band: tuple[float, float]
    seed: int
    look: Look | None = None

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the field of view along (slice, row, column)."""
        return tuple(n * s for n, s in zip(self.shape, self.voxel_mm, strict=True))


def draw_protocols(
    anatomy: Anatomy, hospital: str, sequences: tuple[str, ...], seed: int, orientation: str | None = None, size: str = "full"
) -> list[Protocol]:
    """Draw how one patient's series are made in one hospital. Series of one patient share field of view and position.

    Args:
        anatomy: the patient, whose size decides the field of view.
        hospital: one of HOSPITALS.
        sequences: some of SEQUENCES; "t2_SPACE" is made at UMC only.
        seed: non-negative integer.
        orientation: ITK code for the files; None draws one that the hospital uses.
        size: "full", or "small" for a coarse series with few slices (tests, trial runs).

    Raises:
        ValueError: unknown hospital, sequence, orientation or size.
    """
    _check(hospital, sequences, orientation, size)
    rng = np.random.default_rng([int(seed), GENERATOR_VERSION, 71])
    pick, normal = rng.random(24), rng.standard_normal(12)
    code = orientation or _ORIENTATIONS[hospital][int(pick[0] * len(_ORIENTATIONS[hospital]))]
    tilts = tuple(round(float(t), 2) for t in normal[:3] * 2.5) if pick[1] < 0.6 else (0.0, 0.0, 0.0)
    tall = 262 + 62 * pick[2] + 18 * (anatomy.scale - 1) / 0.05
    deep = min(tall, 205 + 75 * pick[3])
    across = 52 + 14 * pick[4]
    # The lower edge lies a hand's width below the last disc; the back edge leaves some air behind the skin.
    last = anatomy.discs[0].frame
    bottom = last.down + 62 + 34 * pick[5]
    back = anatomy.sacrum[1].frame.back + 58 + 1.3 * anatomy.subcutaneous + 26 * pick[6]
    centre = (1.5 * normal[3], bottom - tall / 2, back - deep / 2)
    protocols = []
    for k, sequence in enumerate(sequences):
        machines = _MACHINES[hospital, sequence]
        shares = np.cumsum([m.share for m in machines]) / sum(m.share for m in machines)
        machine = machines[int(np.searchsorted(shares, pick[7]))]  # the same draw: one patient, one machine
        thick, pixel, field = _voxel(hospital, sequence, machine, pick[8:13], (across, tall, deep), size)
        shape = tuple(max(4, round(f / v)) for f, v in zip(field, (thick, *pixel), strict=True))
        # Acquired pixels are coarser than the stored ones, mostly along the rows (phase encoding).
        acquired = 0.72 + 0.22 * pick[13] if size == "full" else pixel[0]
        coil_normal = rng.standard_normal(4)
        protocols.append(
            Protocol(
                hospital=hospital, sequence=sequence, machine=machine,
                tr_ms=_between(machine.tr, pick[14]), te_ms=_between(machine.te, pick[15]),
                voxel_mm=(thick, *pixel), shape=shape, centre=tuple(float(c) for c in centre), tilts_deg=tilts, orientation=code,
                blur_mm=(max(acquired * 1.12, 0.9 * pixel[0]), max(acquired * 0.9, 0.9 * pixel[1])),
                noise=(0.030 + 0.035 * pick[16]) * (2.2 if sequence == "t2_SPACE" else 1.0) * (0.8 if machine.tesla > 2 else 1.0),
                coil_mm=(85 + 120 * pick[17]) * (1.9 if hospital == "OH" or sequence == "t2_SPACE" else 1.0),
                coil_span_mm=190 + 90 * pick[18],
                band=(22 + 26 * pick[19], (0.55 + 0.4 * pick[20]) if pick[21] < 0.6 else 0.0),
                seed=int(abs(coil_normal[0]) * 1e8) + 17 * k,
            )
        )  # fmt: skip
    return protocols


def _check(hospital: str, sequences: tuple[str, ...], orientation: str | None, size: str) -> None:
    if hospital not in HOSPITALS:
        raise ValueError(f"unknown hospital '{hospital}'. Known are: {', '.join(HOSPITALS)}")
    for sequence in sequences:
        if sequence not in SEQUENCES:
            raise ValueError(f"unknown sequence '{sequence}'. Known are: {', '.join(SEQUENCES)}")
        if (hospital, sequence) not in _MACHINES:
            raise ValueError(f"'{sequence}' is made at UMC only, as in SPIDER; hospital '{hospital}' has t1 and t2")
    axes = {"R": 0, "L": 0, "A": 1, "P": 1, "I": 2, "S": 2}
    if orientation is not None and sorted(axes.get(letter, 9) for letter in orientation) != [0, 1, 2]:
        raise ValueError(f"orientation '{orientation}' is not an ITK code: one letter each of R/L, A/P and I/S, such as 'PIR'")
    if size not in SIZES:
        raise ValueError(f"unknown size '{size}'. Known are: {', '.join(SIZES)}")


def _between(span: tuple[float, float, float], part: float) -> float:
    """Mostly the usual value, else somewhere in the range."""
    low, usual, high = span
    value = usual if part < 0.65 else low + (high - low) * (part - 0.65) / 0.35
    return round(float(value), 3)


def _voxel(
    hospital: str, sequence: str, machine: Machine, pick: np.ndarray, field: tuple[float, float, float], size: str
) -> tuple[float, tuple[float, float], tuple[float, float, float]]:
    """(slice distance, (row, column) pixel, field of view) in mm."""
    if sequence == "t2_SPACE":
        thick, row, column = SPACE_VOXEL_MM
        field = (62 + 8 * pick[0], min(300.0, max(field[1], 280.0)), min(240.0, field[2]))
        if size == "small":
            thick, row, column = 1.8, 1.2, 1.2
        return thick, (row, column), field
    (thin, _), (finest, coarsest) = VOXEL_RANGE_MM[hospital]
    thick = max(thin, machine.slices[1] * (1 + 0.012 * (2 * pick[0] - 1)))
    if hospital in ("RH1", "RH2") and pick[1] < 0.06:
        thick = 5.1
    row = machine.pixels[int(pick[2] * len(machine.pixels))]
    column = row * (0.85 + 0.3 * pick[4]) if pick[3] < 0.12 else row  # some series are stored with oblong pixels
    if size == "small":
        thick, row, column = thick * 1.25 if hospital.startswith("RH") else thick, 1.0, 1.0
    row, column = (float(round(min(max(value, finest), coarsest), 5)) for value in (row, column))
    return float(round(thick, 5)), (row, column), field


def body_box(protocols: list[Protocol]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Corners (right, down, back in mm) of the region that a patient's series need, with room for the blur."""
    lows = [[c - e / 2 - 2.0 for c, e in zip(p.centre, p.extent_mm, strict=True)] for p in protocols]
    highs = [[c + e / 2 + 2.0 for c, e in zip(p.centre, p.extent_mm, strict=True)] for p in protocols]
    return tuple(min(values) for values in zip(*lows, strict=True)), tuple(max(values) for values in zip(*highs, strict=True))


def body_spacing(protocols: list[Protocol], size: str = "full") -> tuple[float, float, float]:
    """Spacing (mm) of the tissue grid for these series: three or more samples a slice, about one a pixel."""
    if size == "small":
        return (1.6, 0.9, 0.9)
    return (0.9, 0.5, 0.5) if any(p.sequence == "t2_SPACE" for p in protocols) else (1.1, 0.55, 0.55)


def render(
    anatomy: Anatomy,
    sequence: str,
    protocol: Protocol | str,
    seed: int = 0,
    orientation: str | None = None,
    size: str = "full",
    body: TissueGrid | None = None,
) -> tuple[Volume, Volume]:
    """Scan a patient.

    Args:
        anatomy: from make_anatomy.
        sequence: "t1", "t2" or "t2_SPACE" (UMC only).
        protocol: a hospital ("UMC", "RH1", "RH2", "OH"), for which a protocol is drawn with ``seed``, or a Protocol.
        seed: of the protocol and its noise; not used when a Protocol is given.
        orientation: ITK code in which the volumes are to be stored, any of the 48; None takes the protocol's.
        size: "full" or "small" (coarse, few slices).
        body: tissue grid from build_body that covers the field of view; None paints one.

    Returns:
        (image, mask): Volume in the kit's axes on one grid, ``stored`` in the orientation asked for. Image int16; mask uint8 in
        scheme "spider": vertebrae that the field of view cuts at its top or bottom carry 101 and up.

    Raises:
        ValueError: unknown sequence, hospital, orientation or size.
    """
    if isinstance(protocol, str):
        protocol = draw_protocols(anatomy, protocol, (sequence,), seed, orientation, size)[0]
    elif protocol.sequence != sequence:
        raise ValueError(f"the protocol is for '{protocol.sequence}', not '{sequence}'")
    _check(protocol.hospital, (sequence,), orientation, size)
    if body is None:
        body = build_body(anatomy, *body_box([protocol]), body_spacing([protocol], size))
    image = _scan(body, anatomy, protocol)
    mask = _mark_partial(_label(body, protocol), anatomy, protocol)
    return tuple(as_volume(array, protocol, orientation or protocol.orientation) for array in (image, mask))


def positions(protocol: Protocol, axis: int) -> np.ndarray:
    """Centres (mm) of the voxels along axis 0 (right), 1 (down) or 2 (back) in the patient's frame."""
    n, step = protocol.shape[axis], protocol.voxel_mm[axis]
    return protocol.centre[axis] + (np.arange(n) - (n - 1) / 2) * step


def _slice_weights(body: TissueGrid, protocol: Protocol) -> list[list[tuple[int, float]]]:
    """For each slice the grid planes it averages, with weights: a slice excites its thickness, not the gap beside it."""
    step, start = body.spacing[0], body.origin[0]
    thickness = protocol.machine.slices[0] * protocol.voxel_mm[0] / protocol.machine.slices[1]
    slices = []
    for centre in positions(protocol, 0):
        low, high = (centre - thickness / 2 - start) / step, (centre + thickness / 2 - start) / step
        first, last = max(0, math.floor(low + 0.5)), min(body.shape[0] - 1, math.floor(high + 0.5))
        shares = [(k, min(high, k + 0.5) - max(low, k - 0.5)) for k in range(first, last + 1)]
        total = sum(share for _, share in shares)
        slices.append([(k, share / total) for k, share in shares if share / total > 1e-3])
    return slices


def _axis_weights(body: TissueGrid, protocol: Protocol, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps of the in-plane blur and resampling: grid indices (n, taps) and weights (n, taps) float32.

    A sinc as wide as the acquired pixel, tapered by a cosine window: it leaves the faint ringing at sharp edges that a
    finite matrix gives.
    """
    step, blur = body.spacing[axis], protocol.blur_mm[axis - 1]
    centres = (positions(protocol, axis) - body.origin[axis]) / step
    reach = max(1.0, 1.7 * blur / step)
    taps = 2 * math.ceil(reach) + 1
    index = np.rint(centres).astype(int)[:, None] + np.arange(taps)[None] - taps // 2
    distance = (index - centres[:, None]) * step
    window = np.clip(np.abs(distance) / (reach * step), 0, 1)
    weights = np.sinc(distance / blur) * np.cos(window * math.pi / 2) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(index, 0, body.shape[axis] - 1), weights.astype(np.float32)


def _scan(body: TissueGrid, anatomy: Anatomy, protocol: Protocol) -> np.ndarray:
    """Signal of the tissues through slices, blur, coil and noise: int16 (slice, row, column)."""
    restored, look = protocol.sequence == "t2_SPACE", protocol.look
    table = look.table if look else signal_table(protocol.tr_ms, protocol.te_ms, protocol.machine.tesla, restored)
    slivers = sliver_signal(table)
    flat = table.reshape(-1)
    parts = np.arange(256, dtype=np.float32) / np.float32(255)
    rows, row_weights = _axis_weights(body, protocol, 1)
    columns, column_weights = _axis_weights(body, protocol, 2)
    marrow = float(table[TISSUE["marrow"], 120])
    if look:
        marrow = max(marrow, 0.3 * float(table.max()))  # or all else would drown in the brightness that a dark marrow gets
    rng = np.random.default_rng([protocol.seed, 5])
    gain = coil_field(anatomy, protocol, rng)
    level = np.float32(protocol.machine.level * 0.62 / marrow)
    sigma = np.float32(protocol.noise * protocol.machine.level * 0.62)
    out = np.empty(protocol.shape, np.int16)
    cache: dict[int, np.ndarray] = {}
    for number, planes in enumerate(_slice_weights(body, protocol)):
        cache = {k: plane for k, plane in cache.items() if k >= planes[0][0]}
        total = np.zeros(body.shape[1:], np.float32)
        for k, weight in planes:
            if k not in cache:
                share = parts[body.share[k]]
                pure = flat[body.tissue[k].astype(np.uint16) * np.uint16(256) + body.mix[k]]
                cache[k] = slivers[body.under[k]] + share * (pure - slivers[body.under[k]])
            total += np.float32(weight) * cache[k]
        # Rows first: the sum runs over taps in a fixed order, so it is the same on every machine.
        once = sum(total[rows[:, t]] * row_weights[:, t, None] for t in range(rows.shape[1]))
        once = np.ascontiguousarray(once.T)
        twice = sum(once[columns[:, t]] * column_weights[:, t, None] for t in range(columns.shape[1]))
        picture = np.maximum(twice.T, 0) * (gain[number] * level)
        if look:
            picture = look.disturb(picture)
        noise = rng.standard_normal((2, *picture.shape), dtype=np.float32) * sigma
        picture = np.sqrt((picture + noise[0]) ** 2 + noise[1] ** 2)
        out[number] = np.minimum(np.rint(picture), 32000).astype(np.int16)
    return out


def coil_field(anatomy: Anatomy, protocol: Protocol, rng: np.random.Generator) -> np.ndarray:
    """Sensitivity of the coil behind the back, and the saturation band over the belly: (slice, row, column) float32.

    About 1 at the bodies, 2 to 4 under the skin of the back, and little before the spine.
    """
    down, back = positions(protocol, 1), positions(protocol, 2)
    right = positions(protocol, 0)
    plane = anatomy.vertebrae[1].frame.back + 62 + 1.2 * anatomy.subcutaneous + 10  # where the coil lies
    depth = np.maximum(plane - back, 4.0)
    reference = plane - anatomy.vertebrae[1].frame.back
    reach = protocol.coil_mm
    fall = ((reach + reference) / (reach + depth)) ** 1.8
    middle = -30 + 18 * rng.standard_normal()
    along = 1 / (1 + ((down - middle) / protocol.coil_span_mm) ** 4)
    ripple = 1 + 0.05 * np.sin(down / 31.0 + 6 * rng.random())  # single elements along the table
    across = 1 / (1 + (right / 160.0) ** 2)
    ahead, strength = protocol.band
    spine = np.interp(down, *_front_line(anatomy)) - ahead
    band = 1 - strength / (1 + np.exp(np.clip((back[None, :] - spine[:, None]) / 4.0, -30, 30)))
    field = (along * ripple)[:, None] * fall[None, :] * band
    return (across[:, None, None] * field[None]).astype(np.float32)


def _front_line(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """A straight band before the lumbar spine: (down, back) of its two ends in mm."""
    top, low = anatomy.vertebrae[min(anatomy.n_lumbar + 1, 10)], anatomy.vertebrae[1]
    ends = [v.frame.point(0, -v.depth / 2, 0) for v in (top, low)]
    slope = (ends[1][2] - ends[0][2]) / (ends[1][1] - ends[0][1])
    down = np.array([-400.0, 400.0])
    return down, ends[0][2] + slope * (down - ends[0][1])


def _label(body: TissueGrid, protocol: Protocol) -> np.ndarray:
    """Mask by slice: the label that most of the slice's thickness shows, uint8 (slice, row, column)."""
    thickness = protocol.machine.slices[0]
    rows, columns = (
        np.clip(np.rint((positions(protocol, k) - body.origin[k]) / body.spacing[k]).astype(int), 0, body.shape[k] - 1)
        for k in (1, 2)
    )
    out = np.empty(protocol.shape, np.uint8)
    parts = (-0.4, -0.2, 0.0, 0.2, 0.4) if thickness > 1.5 * body.spacing[0] else (0.0,)
    for number, centre in enumerate(positions(protocol, 0)):
        planes = [round((centre + p * thickness - body.origin[0]) / body.spacing[0]) for p in parts]
        planes = [body.label[min(max(k, 0), body.shape[0] - 1)] for k in planes]
        middle = _median_of_five(planes) if len(planes) == 5 else planes[0]
        out[number] = middle[rows[:, None], columns[None, :]]
    return out


def _median_of_five(a: list[np.ndarray]) -> np.ndarray:
    """Median of five arrays. A label that three or more of them hold is the median, whatever its number."""
    low, high = np.minimum(a[0], a[1]), np.maximum(a[0], a[1])
    low2, high2 = np.minimum(a[2], a[3]), np.maximum(a[2], a[3])
    inner_low, inner_high = np.maximum(low, low2), np.minimum(high, high2)
    return np.maximum(np.minimum(inner_low, inner_high), np.minimum(np.maximum(inner_low, inner_high), a[4]))


def _mark_partial(mask: np.ndarray, anatomy: Anatomy, protocol: Protocol) -> np.ndarray:
    """Give vertebrae whose body the field of view cuts (or leaves out) 101 and up; drop crumbs of a few voxels."""
    down = positions(protocol, 1)
    top, bottom = down[0] - protocol.voxel_mm[1] / 2, down[-1] + protocol.voxel_mm[1] / 2
    counts = np.bincount(mask.reshape(-1), minlength=256)
    table = np.arange(256, dtype=np.uint8)
    crumb = 25.0 / (protocol.voxel_mm[0] * protocol.voxel_mm[1] * protocol.voxel_mm[2])  # 25 cubic mm
    for bone in anatomy.vertebrae:
        h, b = bone.height / 2, bone.depth / 2
        corners = [bone.frame.point(0, v, w)[1] for v in (-b, b) for w in (-h, h)]
        if min(corners) < top or max(corners) > bottom:
            table[bone.number] = 100 + bone.number
        if counts[200 + bone.number] < crumb:
            table[200 + bone.number] = 0
        # As in SPIDER, an arch whose body and disc lie outside the field of view is not labelled.
        if counts[bone.number] < crumb or not table[200 + bone.number]:
            table[bone.number] = 0
    return table[mask]


def as_volume(array: np.ndarray, protocol: Protocol, orientation: str) -> Volume:
    """Array in the kit's axes as a Volume that is stored in ``orientation``."""
    turn = np.eye(3)
    for axis, degrees in enumerate(protocol.tilts_deg):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[i, i], step[i, j], step[j, i], step[j, j] = cos, -sin, sin, cos
        turn = turn @ step
    direction = turn @ kit_direction()
    first = np.array([positions(protocol, axis)[0] for axis in range(3)])
    origin = tuple(float(round(value, 6)) for value in direction @ first)
    return Volume(array, protocol.voxel_mm, origin, direction, _stored(array, protocol.voxel_mm, origin, direction, orientation))


def _stored(
    array: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float], direction: np.ndarray, code: str
) -> StoredGeometry:
    """Header of the file in which an array of the kit's axes (right, down, back) lies in orientation ``code``."""
    axes, corner = [], np.array(origin)
    for letter in code:
        axis = ("RL", "IS", "PA").index(next(pair for pair in ("RL", "IS", "PA") if letter in pair))
        forward = letter in "RIP"
        if not forward:  # the first voxel of a flipped axis is the last one here
            corner = corner + direction[:, axis] * spacing[axis] * (array.shape[axis] - 1)
        axes.append((axis, 1.0 if forward else -1.0))
    return StoredGeometry(
        size=tuple(array.shape[axis] for axis, _ in axes),
        spacing=tuple(spacing[axis] for axis, _ in axes),
        origin=tuple(float(value) for value in corner),
        direction=tuple(np.stack([direction[:, axis] * sign for axis, sign in axes], axis=1).reshape(-1).tolist()),
        code=code,
        axes=tuple(int(sign) * (3 - axis) for axis, sign in axes),
        pixel_type={"int16": sitk.sitkInt16, "uint8": sitk.sitkUInt8}[array.dtype.name],
    )
