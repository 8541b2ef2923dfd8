"""What presses on nerves at the lumbar discs: stenosis of the canal and of the lateral recesses, narrowed foramina.

Severities are drawn as often, level by level, as the radiologists of the RSNA 2024 challenge found them (shares counted in its
``train.csv``, 1,975 studies), and as much together: canal and recesses of one level share about half of their variation, the
foramina a third. What a severity looks like follows the gradings that readers use: dural sac and fluid in it for the canal (Lee
et al., Skeletal Radiol 40:1033, 2011), fat around the root for the foramen (Lee et al., AJR 194:1095, 2010), room around the
traversing root for the lateral recess (Bartynski and Lin, AJNR 24:348, 2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from spider_utils.data.phantom.anatomy import EPIDURAL_GAP, Anatomy, Disc, make_anatomy
from spider_utils.data.phantom.raster import TissueGrid, capsule, ellipsoid
from spider_utils.data.phantom.signal import TISSUE

LUMBAR_DISCS = (5, 4, 3, 2, 1)  # SPIDER numbers of L1/L2, L2/L3, ... L5/S1
MOST_SCOLIOSIS = 8.0  # degrees; a stronger bend would carry foramina out of the sagittal slices
SIDES = {"left": -1.0, "right": 1.0}  # sign of the patient frame's first axis

# Share of (moderate, severe) from L1/L2 down to L5/S1; left and right together.
_SHARES = {
    "canal": ((0.034, 0.011), (0.076, 0.027), (0.117, 0.062), (0.120, 0.129), (0.026, 0.010)),
    "foramen": ((0.032, 0.004), (0.086, 0.005), (0.209, 0.020), (0.320, 0.068), (0.258, 0.100)),
    "recess": ((0.056, 0.014), (0.132, 0.042), (0.230, 0.099), (0.316, 0.234), (0.204, 0.082)),
}
# Weights of what is drawn for the patient and for the level; the rest is the finding's own.
_TOGETHER = {"canal": (0.30, 0.70), "foramen": (0.40, 0.42), "recess": (0.30, 0.66)}
_SAC_LEFT = ((1.0, 1.0), (0.52, 0.66), (0.22, 0.34))  # share of the dural sac, front to back, by severity
_CORNER_MM = (0.9, 0.9, 0.6, 0.5, 0.0)  # by disc, L5/S1 first: mean of what is measured on painted grids
# Where the root crosses a foramen, by disc, L5/S1 first: mm behind the disc's back wall, mm above its middle. Joints stand the
# closer to the body the lower they are, so that the root runs further in front.
_ROOT_MM = ((0.4, 10.2), (3.0, 10.8), (4.5, 10.5), (5.0, 10.2), (5.2, 9.8))
_CROWDED = (0, 70, 205)  # how much the roots fill the sac that is left, 0 to 255
_PRESSED = ((0.0, 0.12), (0.45, 0.62), (0.92, 1.0))  # share of a foramen or recess that is filled
_SOFT = ("fat", "nerve", "artery", "ligament", "fluid", "abdomen")  # tissues that give way


@dataclass(frozen=True)
class LevelFindings:
    """Findings at one disc: severities 0 (normal or mild), 1 (moderate), 2 (severe), and how much room they leave.

    Attributes:
        disc: SPIDER number of the disc.
        canal: severity of the canal's stenosis.
        canal_left: share of the dural sac's front-to-back diameter that is left.
        foramen, recess: severities by side ("left", "right").
        foramen_filled, recess_filled: 0 (free) to 1 (nothing left), by side.
    """

    disc: int
    canal: int
    canal_left: float
    foramen: dict[str, int]
    recess: dict[str, int]
    foramen_filled: dict[str, float]
    recess_filled: dict[str, float]


def _severity(kind: str, row: int, latent: float) -> int:
    moderate, severe = _SHARES[kind][row]
    above = 1 - NormalDist().cdf(latent)
    return 2 if above < severe else 1 if above < moderate + severe else 0


def _between(span: tuple[float, float], part: float) -> float:
    return span[0] + (span[1] - span[0]) * part


def draw_levels(seed: int) -> tuple[LevelFindings, ...]:
    """Draw the findings of one patient from L1/L2 down to L5/S1; the same seed gives the same findings on every machine."""
    rng = np.random.default_rng([int(seed), 81])
    patient = float(rng.standard_normal())
    levels = []
    for row, disc in enumerate(LUMBAR_DISCS):
        common, own, uniform = float(rng.standard_normal()), rng.standard_normal(5).tolist(), rng.random(5).tolist()

        def draw(kind: str, k: int, row: int = row, common: float = common, own: list[float] = own) -> int:
            a, b = _TOGETHER[kind]
            return _severity(kind, row, a * patient + b * common + math.sqrt(1 - a * a - b * b) * own[k])

        foramen = {side: draw("foramen", k) for k, side in enumerate(SIDES, start=1)}
        recess = {side: draw("recess", k) for k, side in enumerate(SIDES, start=3)}
        levels.append(
            LevelFindings(
                disc=disc,
                canal=(canal := draw("canal", 0)),
                canal_left=_between(_SAC_LEFT[canal], uniform[4]),
                foramen=foramen,
                recess=recess,
                foramen_filled={s: _between(_PRESSED[foramen[s]], uniform[k]) for k, s in enumerate(SIDES)},
                recess_filled={s: _between(_PRESSED[recess[s]], uniform[k]) for k, s in enumerate(SIDES, start=2)},
            )
        )
    return tuple(levels)


def make_narrowed_anatomy(seed: int, levels: tuple[LevelFindings, ...]) -> Anatomy:
    """A patient with five lumbar vertebrae whose discs and dural sac are as the findings say.

    Hernias and slipped vertebrae are left out at the lumbar discs: they would narrow what the findings call free.

    Args:
        seed: of everything that the findings do not decide.
        levels: from draw_levels.
    """
    rng = np.random.default_rng([int(seed), 82])
    none = {disc: 0 for disc in LUMBAR_DISCS}
    plain = make_anatomy(seed, n_lumbar=5)
    grades, bulges, narrowing = {}, {}, {}
    for found in levels:
        uniform = rng.random(3).tolist()
        disc = plain.discs[found.disc - 1]
        worst = max(found.canal, *found.foramen.values(), *found.recess.values())
        grades[found.disc] = min(max(disc.grade, (1, 3, 4)[worst]), (3, 4, 5)[worst])
        narrowing[found.disc] = int(max(found.foramen.values()) == 2 or (worst > 0 and uniform[0] < 0.5))
        bulges[found.disc] = round(0.5 * worst + (0.9 if worst else 0.5) * uniform[1], 2)
    return make_anatomy(
        seed,
        n_lumbar=5,
        scoliosis=float(np.clip(plain.scoliosis, -MOST_SCOLIOSIS, MOST_SCOLIOSIS)),
        pfirrmann=grades,
        narrowing=narrowing,
        bulge=bulges,
        stenosis=none,
        herniation=none,
        listhesis=none,
    )


def _sac_middle(disc: Disc) -> float:
    """Middle of the dural sac behind a disc's centre (mm, backwards).

    As soft.trace has it: below L5 the sac leaves the wall, and its smooth course cuts the corners of the lordosis.
    """
    gap = EPIDURAL_GAP + (2.2 if disc.number == 1 else 0.0)
    return disc.depth / 2 + gap + disc.sac / 2 + _CORNER_MM[disc.number - 1]


def canal_point(anatomy: Anatomy, disc: Disc) -> tuple[float, float, float]:
    """(right, down, back) in mm of the middle of the dural sac at a disc."""
    return disc.frame.point(0.0, _sac_middle(disc), 0.0)


def foramen_point(anatomy: Anatomy, disc: Disc, side: str) -> tuple[float, float, float]:
    """(right, down, back) in mm of the root in a foramen, below the pedicle of the vertebra above."""
    gap = anatomy.vertebrae[disc.number - 1].pedicle_gap
    back, above = _ROOT_MM[disc.number - 1]
    return disc.frame.point(SIDES[side] * (gap + 5.0), disc.depth / 2 + back, above)


def recess_point(anatomy: Anatomy, disc: Disc, side: str) -> tuple[float, float, float]:
    """(right, down, back) in mm of the traversing root in a lateral recess, between disc and joint."""
    return disc.frame.point(SIDES[side] * _recess_u(anatomy, disc), disc.depth / 2 + 3.6, 0.0)


def _recess_u(anatomy: Anatomy, disc: Disc) -> float:
    share = 0.64 if disc.number == 1 else 0.80  # joints of the sacrum stand closer to its narrower sac
    return share * anatomy.vertebrae[disc.number - 1].pedicle_gap


def paint_narrowing(grid: TissueGrid, anatomy: Anatomy, levels: tuple[LevelFindings, ...]) -> None:
    """Press the sac, paint roots into the recesses, and fill recesses and foramina, over a body from build_body.

    Args:
        grid: covers the lumbar discs; changed in place.
        anatomy: from make_narrowed_anatomy.
        levels: the same findings.
    """
    for found in levels:
        disc = anatomy.discs[found.disc - 1]
        _line_canal(grid, anatomy, disc)
        if found.canal:
            _paint_canal(grid, anatomy, disc, found)
        for side in SIDES:
            _paint_recess(grid, anatomy, disc, SIDES[side], found.recess_filled[side])
            _paint_foramen(grid, anatomy, disc, SIDES[side], found.foramen_filled[side])


def _line_canal(grid: TissueGrid, anatomy: Anatomy, disc: Disc) -> None:
    """Fat in the canal where build_body left muscle or abdomen beside and before the sac: sagittal slices hardly show it."""
    bone, b = anatomy.vertebrae[disc.number - 1], disc.depth / 2
    box = grid.around(disc.frame, (-bone.pedicle_gap - 4, b - 2, -14), (bone.pedicle_gap + 4, b + bone.canal_depth, 14))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    reach = (bone.pedicle_gap + 3.0, 0.5 * bone.canal_depth + 1.0, 13.0)
    hollow = ellipsoid(u, v, w, (0, b + 0.5 * bone.canal_depth - 1.0, 0), reach)
    left_over = (grid.tissue[box] == TISSUE["muscle"]) | (grid.tissue[box] == TISSUE["abdomen"])
    grid.paint(box, np.broadcast_to(hollow, left_over.shape), TISSUE["fat"], 25, where=left_over & (grid.label[box] == 0))


def _paint_canal(grid: TissueGrid, anatomy: Anatomy, disc: Disc, found: LevelFindings) -> None:
    """Press the sac to a slit: disc from before, yellow ligament from behind; roots lie close together in what is left."""
    b, reach = disc.depth / 2, 8.0 + 0.5 * disc.height
    box = grid.around(disc.frame, (-15, b - 2, -reach), (15, b + 26, reach))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    middle, half = np.float32(_sac_middle(disc)), 0.5 * disc.sac
    # Narrowest at the disc, open again above and below it.
    open_ = np.minimum(np.abs(w) * np.float32(1 / reach), 1) ** 2
    left = np.float32(half * found.canal_left) + open_ * np.float32(half * (1.15 - found.canal_left))
    wide = np.float32(0.5 * anatomy.sac_width(disc.number)) * (np.float32(0.72 + 0.3 * found.canal_left) + 0.3 * open_)
    slit = (np.sqrt((u / wide) ** 2 + ((v - middle) / left) ** 2) - 1) * left
    slit += np.float32(0.2) * grid.noise(box, "island", disc.texture + 93)
    sac = grid.label[box] == 100
    near = np.abs(w) < np.float32(reach)
    # Before the sac the disc fills the fat as well, up to the back wall.
    before = _soft(grid, box) & (v > np.float32(b - 1)) & (np.abs(u) < wide) & (grid.label[box] == 0)
    front, back = (sac | before) & near & (v < middle), sac & near & (v >= middle)
    grid.paint(box, -slit, TISSUE["ligament"], 10, 200 + disc.number, where=front)
    grid.paint(box, np.float32(0.9) - slit, TISSUE["disc"], 20, 200 + disc.number, where=front)
    grid.paint(box, -slit, TISSUE["ligament"], 60, 0, where=back)
    crowd = np.float32(_CROWDED[found.canal]) * (1 - open_) + 25 * (1 - open_) * grid.noise(box, "fibre", disc.texture + 94)
    fluid = sac & (slit < 0) & (grid.tissue[box] == TISSUE["fluid"])
    mix = grid.mix[box]
    np.copyto(mix, np.clip(np.maximum(mix, crowd), 0, 255).astype(np.uint8), where=fluid)


def _soft(grid: TissueGrid, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Where a box holds tissue that gives way."""
    table = np.zeros(256, bool)
    table[[TISSUE[name] for name in _SOFT]] = True
    return table[grid.tissue[box]]


def _paint_recess(grid: TissueGrid, anatomy: Anatomy, disc: Disc, side: float, filled: float) -> None:
    """Root, fat around it, and what presses from before (disc) and behind (ligament, joint)."""
    b, u0 = disc.depth / 2, _recess_u(anatomy, disc)
    box = grid.around(disc.frame, (side * u0 - 10, b - 5, -16), (side * u0 + 10, b + 18, 16))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    u = u * np.float32(side)  # outwards
    outside_sac = grid.label[box] != 100
    fat = capsule(u, v, w, (u0 - 1.4, b + 4.4, 9), (u0 + 0.8, b + 3.4, -12), 3.6)
    grid.paint(box, fat, TISSUE["fat"], 20, where=_soft(grid, box) & outside_sac)
    root = capsule(u, v, w, (u0 - 1.6, b + 4.2, 9), (u0 + 0.8, b + 3.2, -12), 1.9 - 0.7 * filled)
    grid.paint(box, root, TISSUE["nerve"], 10, where=_soft(grid, box) & outside_sac)
    if filled <= 0.02:
        return
    rough = np.float32(0.25) * grid.noise(box, "island", disc.texture + 91)
    behind = ellipsoid(u, v, w, (u0 + 2.4, b + 10.5 - 2.0 * filled, 0), (4.5 + 1.5 * filled, 1.5 + 5.2 * filled, 6 + 3 * filled))
    grid.paint(box, behind + rough, TISSUE["ligament"], 25, where=_soft(grid, box))
    before = ellipsoid(u, v, w, (u0 - 2.0, b - 0.6, 0), (7.5, 0.6 + 7.2 * filled, 3.5 + 4.5 * filled))
    grid.paint(box, before + rough, TISSUE["ligament"], 8, 200 + disc.number, where=_soft(grid, box))
    grid.paint(box, before + rough + np.float32(0.9), TISSUE["disc"], 22, 200 + disc.number, where=_soft(grid, box))


def _paint_foramen(grid: TissueGrid, anatomy: Anatomy, disc: Disc, side: float, filled: float) -> None:
    """A root in the fat of a foramen; disc from before and below, joint and ligament from behind fill it and squeeze the root."""
    gap, b = anatomy.vertebrae[disc.number - 1].pedicle_gap, disc.depth / 2
    box = grid.around(disc.frame, (side * (gap + 6) - 13, b - 4, -14), (side * (gap + 6) + 13, b + 18, 24))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    u = u * np.float32(side)
    hole = ellipsoid(u, v, w, (gap + 6, b + 4.2, 6.5), (12, 10.0, 15))  # more than the fat of build_body
    inside = (hole < 0) & (grid.label[box] != 100)
    rough = np.float32(0.4) * grid.noise(box, "island", disc.texture + 92)
    back, above = _ROOT_MM[disc.number - 1]
    soft = _soft(grid, box) & inside
    if filled > 0.02:
        before = ellipsoid(u, v, w, (gap + 6, b - 2.5, above - 12.0), (14, 3.5 + 6.5 * filled, 5.0 + 12.5 * filled))
        behind = ellipsoid(u, v, w, (gap + 6, b + 13.5, above - 5.5), (12, 2.0 + 6.5 * filled, 7.0 + 9.0 * filled))
        grid.paint(box, before + rough, TISSUE["disc"], 18, where=soft)
        grid.paint(box, behind + rough, TISSUE["ligament"], 70, where=soft)
        # What fat is left between both shrinks from its rim, and is gone where the narrowing is severe.
        rim = np.float32(7.0 * max(0.0, 2 * filled - 1)) + hole
        grid.paint(box, -rim, TISSUE["ligament"], 70, where=inside & (grid.tissue[box] == TISSUE["fat"]))
    size = 1 - 0.4 * filled
    root = capsule(u, v, w, (gap - 1, b + back, above + 1.2), (gap + 12, b + back, above - 1.4), 2.6 * size, 3.0 * size)
    grid.paint(box, root, TISSUE["nerve"], 5, where=inside & (_soft(grid, box) | (grid.tissue[box] == TISSUE["disc"])))
