"""Discs, vertebrae and sacrum, painted into a grid of tissues with their labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from spider_utils.data.phantom.anatomy import Anatomy, Disc, SacralSegment, Vertebra
from spider_utils.data.phantom.raster import Box, TissueGrid, capsule, ellipsoid, smooth_max, smooth_min
from spider_utils.data.phantom.signal import TISSUE

CORTEX_MM = 0.75  # cortical bone and endplate with the chemical-shift line that thickens them on MR
FAR_MM = 20.0  # distances are not followed further
# Blend of annulus and nucleus (0 to 255) in the middle of a disc of Pfirrmann grade 1..5 (Marinelli et al. 2010: central T2
# falls from 108 ms at grade 2 to 53 ms at grade 4).
NUCLEUS_MIX = (225, 180, 105, 42, 14)


def body_distance(bone: Vertebra, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to a vertebral body: kidney-shaped across, with hollow walls and endplates and lipped rims."""
    half, a, b = bone.height / 2, bone.width / 2, bone.depth / 2
    level = np.minimum(np.abs(w) * np.float32(1 / half), 1.15)
    lip = np.where(w > 0, np.float32(bone.lip[0]), np.float32(bone.lip[1])) * level**5
    # Waist: narrowest half way up, most in front and at the sides.
    swell = 1 - np.float32(bone.waist) * (1 - level * level) + lip * np.float32(1 / b)
    centre, reach = 0.14 * b, 1.14 * b
    round_ = np.sqrt((u * np.float32(1 / a)) ** 2 + ((v - np.float32(centre)) * np.float32(1 / reach)) ** 2)
    side = (round_ - swell) * np.float32(reach)
    hollow = np.float32(1.1) * np.maximum(0, 1 - (u * np.float32(1 / 11)) ** 2) + np.float32(0.9) * (1 - level * level)
    side = smooth_max(side, v - np.float32(b) + hollow - np.float32(0.5) * lip, 4.0)
    slope = np.float32(math.tan(math.radians(bone.wedge / 2)))
    reach2 = (u * np.float32(1 / (0.82 * a))) ** 2
    top = reach2 + ((v - np.float32(0.08 * b)) * np.float32(1 / (0.85 * b))) ** 2
    low = reach2 + ((v - np.float32(0.22 * b)) * np.float32(1 / (0.80 * b))) ** 2
    # Flat-bottomed hollows: endplates are flat near the rim and deepest behind the middle.
    top = w - np.float32(half) + v * slope + np.float32(bone.cups[0]) * np.maximum(0, 1 - top * top)
    low = -w - np.float32(half) + v * slope + np.float32(bone.cups[1]) * np.maximum(0, 1 - low * low)
    return smooth_max(side, np.maximum(top, low), 2.0)


def arch_rods(bone: Vertebra) -> list[tuple[tuple, tuple, float, float, float]]:
    """Rods of the neural arch in the vertebra's own frame, right half: (start, end, radius, end radius, wide)."""
    h, gap, c, t = bone.height, bone.pedicle_gap, bone.canal_depth, bone.thoracic
    p = bone.depth / 2
    return [
        # pedicle, lamina, isthmus, upper and lower joint process, transverse process
        ((gap + 3.4, p - 4, 0.20 * h), (gap + 4.2, p + 8, 0.20 * h), 6.0 - t, 5.6 - t, 0.72),
        ((0.55 * gap, p + 0.86 * c, 0.02 * h), (0.50 * gap, p + c + 5, (-0.44 - 0.08 * t) * h), 2.7, 3.2, 2.3),
        ((gap + 3.0, p + 8, 0.12 * h), (0.9 * gap, p + c + 1, -0.28 * h), 4.2, 4.0, 1.1),
        (
            (gap + 3.6 - 2 * t, p + 8.0, 0.25 * h),
            (gap + 4.4 - 3 * t, p + 9.0 + 2 * t, 0.5 * h + 5 - 3 * t), 4.8, 3.6, 1.15,
        ),
        (
            (gap + 0.6 - t, p + c + 1.0, -0.28 * h),
            (gap + 1.6 - 2 * t, p + 18.8 + t, -0.5 * h - 9 + 2 * t), 4.7, 4.2, 1.2,
        ),
        ((gap + 6, p + 7, 0.14 * h), (gap + 30, p + 13 + 6 * t, (0.10 + 0.1 * t) * h), 4.6, 4.0, 1.0),
    ]  # fmt: skip


def spinous_distance(bone: Vertebra, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to the spinous process: a plate that grows towards its blunt, slightly thicker tip."""
    root_v, root_w = bone.depth / 2 + bone.canal_depth + 3.0, -0.16 * bone.height
    drop = math.radians(bone.spinous_drop)
    cos, sin = np.float32(math.cos(drop)), np.float32(math.sin(drop))
    along = (v - np.float32(root_v)) * cos - (w - np.float32(root_w)) * sin
    across = (v - np.float32(root_v)) * sin + (w - np.float32(root_w)) * cos
    length, tall = bone.spinous_length, bone.spinous_height / 2
    part = np.minimum(np.maximum(along * np.float32(1 / length), 0), 1)
    # The upper edge runs nearly straight, the lower edge sags towards the tip.
    middle = -tall * (np.float32(0.35) + np.float32(0.40) * part * part)
    reach = tall * (np.float32(0.80) + np.float32(0.22) * part)
    thick = np.float32(2.6) + np.float32(1.9) * part * part - np.float32(0.02) * (across - middle)
    plate = smooth_max(np.abs(across - middle) - reach, np.abs(along - np.float32(length / 2)) - np.float32(length / 2), 5.0)
    return smooth_max(plate, np.abs(u) - thick, 3.0)


def arch_distance(grid: TissueGrid, box: Box, bone: Vertebra) -> np.ndarray:
    """Signed distance (mm, at most FAR_MM) to a neural arch: pedicles, laminae, joint, transverse and spinous processes.

    Each part is worked out only near itself, which is what keeps a patient cheap.
    """
    p, gap = bone.depth / 2, bone.pedicle_gap
    shape = tuple(part.stop - part.start for part in box)
    arch = np.full(shape, FAR_MM, np.float32)

    def join(low: tuple, high: tuple, distance: Callable[..., np.ndarray]) -> None:
        near = grid.around(bone.frame, low, high)
        if near is None:
            return
        near = tuple(slice(max(n.start, o.start), min(n.stop, o.stop)) for n, o in zip(near, box, strict=True))
        if any(n.stop <= n.start for n in near):
            return
        place = tuple(slice(n.start - o.start, n.stop - o.start) for n, o in zip(near, box, strict=True))
        arch[place] = smooth_min(arch[place], distance(*grid.local(bone.frame, near)), 2.5)

    drop = math.sin(math.radians(bone.spinous_drop))
    root = p + bone.canal_depth
    join(
        (-8, root - 3, -0.3 * bone.height - bone.spinous_height - bone.spinous_length * drop - 4),
        (8, root + bone.spinous_length + 9, 0.2 * bone.height + 6),
        lambda u, v, w: spinous_distance(bone, u, v, w),
    )
    for start, end, radius, end_radius, wide in arch_rods(bone):
        for side in (-1.0, 1.0):
            one, two = (side * start[0], *start[1:]), (side * end[0], *end[1:])
            reach = max(radius, end_radius) + 3.5
            pad = (reach * max(1.0, wide), reach, reach)
            join(
                tuple(min(a, b) - r for a, b, r in zip(one, two, pad, strict=True)),
                tuple(max(a, b) + r for a, b, r in zip(one, two, pad, strict=True)),
                partial(capsule, start=one, end=two, radius=radius, end_radius=end_radius, wide=wide),
            )
    # The arch never enters the canal: what bulges in front of it is cut along an oval tube.
    u, v, _ = grid.local(bone.frame, box)
    a, c = np.float32(gap + 0.4), np.float32(bone.canal_depth / 2 + 1.2)
    tube = np.sqrt((u / a) ** 2 + ((v - np.float32(p) - c + np.float32(0.6)) / c) ** 2)
    return np.maximum(arch, np.where(v > np.float32(p - 1), (1 - tube) * np.minimum(a, c), np.float32(-9)))


def paint_vertebra(grid: TissueGrid, bone: Vertebra, below: Disc | None, above: Disc | None) -> None:
    """Paint one vertebra with its cortex, marrow, vein, endplate changes and (thoracic) ribs."""
    h, p = bone.height, bone.depth / 2
    length = bone.spinous_length
    drop = math.sin(math.radians(bone.spinous_drop))
    box = grid.around(bone.frame, (-bone.width / 2 - 6, -p - 7, -0.5 * h - 8), (bone.width / 2 + 6, p + 12, 0.5 * h + 8))
    reach_down = 0.6 * h + length * drop + 0.8 * bone.spinous_height + 6
    back_box = grid.around(
        bone.frame,
        (-bone.pedicle_gap - 32, p - 6, -reach_down),
        (bone.pedicle_gap + 32, p + bone.canal_depth + length + 8, 0.5 * h + 14),
    )
    if back_box is not None:
        w = grid.local(bone.frame, back_box)[2]
        distance = arch_distance(grid, back_box, bone)
        distance += np.float32(0.35) * grid.noise(back_box, "island", bone.texture + 5)
        mix = _marrow_mix(grid, back_box, bone, w, -8) + 16 * grid.noise(back_box, "cloud", bone.texture + 12)
        grid.paint(back_box, distance, TISSUE["cortex"], mix=45, label=bone.number)
        shell = np.float32(0.5) + np.float32(0.5) * np.abs(grid.noise(back_box, "cloud", bone.texture + 6))
        grid.paint(back_box, distance + shell, TISSUE["marrow"], mix, bone.number)
    if box is not None:
        u, v, w = grid.local(bone.frame, box)
        distance = body_distance(bone, u, v, w)
        drift = grid.noise(box, "cloud", bone.texture + 7)
        rough = 0.10 + 0.05 * (bone.lip[0] + bone.lip[1])
        distance += np.float32(rough) * grid.noise(box, "island", bone.texture) + np.float32(0.25) * drift
        grid.paint(box, distance, TISSUE["cortex"], mix=10, label=bone.number)
        # Marrow goes on through the pedicles: no cortex is painted there.
        pedicle = (
            (v > np.float32(p - 3))
            & (np.abs(w - np.float32(0.2 * h)) < 4.5)
            & (np.abs(np.abs(u) - np.float32(bone.pedicle_gap + 3.6)) < 3.5)
        )
        # Endplates are thicker than the side walls.
        plate = np.minimum(np.abs(w) * np.float32(2.2 / h), 1)
        shell = np.float32(CORTEX_MM) * (np.float32(0.55) + np.float32(0.55) * plate * plate)
        shell = shell * (1 + np.float32(0.25) * drift)
        core = np.where(pedicle, np.minimum(distance, -1), distance + shell)
        grid.paint(box, core, TISSUE["marrow"], _marrow_mix(grid, box, bone, w, 0), bone.number, where=distance < 4)
        _paint_vein(grid, box, bone, u, v, w, distance)
        _paint_changes(grid, box, bone, u, v, w, distance, below, above)
    if bone.thoracic > 0.3:
        _paint_ribs(grid, bone)


def _marrow_mix(grid: TissueGrid, box: Box, bone: Vertebra, w: np.ndarray, extra: float) -> np.ndarray:
    """Blend of red and yellow marrow (float32, 0 to 255): trabecular grain, fatty islands, more fat in the middle."""
    fat = np.float32(255 * bone.fat + extra)
    spread = np.float32(0.35 + 0.65 * bone.fat)
    mix = grid.noise(box, "marrow", bone.texture + 1) * (46 * spread) + fat
    mix -= np.float32(14) * np.minimum((w * np.float32(2 / bone.height)) ** 2, 1)
    return np.minimum(np.maximum(mix, 30), 225)


def _paint_vein(
    grid: TissueGrid, box: Box, bone: Vertebra, u: np.ndarray, v: np.ndarray, w: np.ndarray, body: np.ndarray
) -> None:
    """The basivertebral vein: a wedge that opens at the middle of the back wall."""
    p, tilt = bone.depth / 2, (bone.texture % 7 - 3) * 0.4
    vein = capsule(u, v, w, (0, p + 0.6, 0.4), (0, p - 0.21 * bone.depth, 0.5 + tilt), 1.5, 0.2, 3.0)
    vein += np.float32(0.35) * grid.noise(box, "island", bone.texture + 9)
    # Fat surrounds the vein where it leaves the body.
    mix = np.minimum(np.maximum(np.float32(60) + (v - np.float32(p - 6)) * 25, 0), 230)
    grid.paint(box, vein, TISSUE["vein"], np.broadcast_to(mix, vein.shape), bone.number, where=(np.abs(u) < 11) & (body < -0.2))


def _paint_changes(
    grid: TissueGrid, box: Box, bone: Vertebra, u: np.ndarray, v: np.ndarray, w: np.ndarray, distance: np.ndarray,
    below: Disc | None, above: Disc | None,
) -> None:  # fmt: skip
    """Modic changes, endplate defects (Schmorl's nodes) and haemangiomas inside one body."""
    h, p = bone.height / 2, bone.depth / 2
    if bone.hemangioma is not None:
        *centre, radius = bone.hemangioma
        spot = ellipsoid(u, v, w, tuple(centre), (radius, radius, radius))
        spot += np.float32(0.8) * grid.noise(box, "island", bone.texture + 4)
        mix = 225 + 25 * grid.noise(box, "marrow", bone.texture + 6)
        grid.paint(box, np.maximum(spot, distance + 1), TISSUE["vein"], np.clip(mix, 120, 255), bone.number, soft=2.0)
    for disc, up in ((below, -1.0), (above, 1.0)):
        if disc is None:
            continue
        slope = np.float32(math.tan(math.radians(bone.wedge / 2)))
        from_plate = np.float32(h) - v * slope - np.float32(up) * w  # depth below this endplate's rim plane
        if disc.modic:
            extent = disc.modic_extent * (1.0 if up < 0 else 0.85)
            # More in front or behind, from patient to patient, and fading with a wavy border.
            lean = ((disc.texture >> 5) % 200 / 100 - 1) * 0.7
            edge = from_plate - np.float32(extent) * (1 - np.float32(0.55) * (v * np.float32(1 / p) * lean + 0.3))
            edge += np.float32(0.7) * grid.noise(box, "island", disc.texture + int(up)) + np.float32(1.6) * grid.noise(
                box, "cloud", disc.texture
            )
            _paint_modic(grid, box, np.maximum(edge, distance + np.float32(CORTEX_MM)), disc, bone)
        if (disc.up_defect if up < 0 else disc.low_defect) is not None:
            node = defect_distance(bone, disc, up, u, v, w)
            node += np.float32(0.35) * grid.noise(box, "island", disc.texture + 8)
            grid.paint(box, node - np.float32(0.9), TISSUE["cortex"], 15, bone.number, where=distance < -0.3)
            mix = np.float32(0.55 * NUCLEUS_MIX[disc.grade - 1] + 12)
            grid.paint(box, node, TISSUE["disc"], int(mix), 200 + disc.number)


def defect_distance(bone: Vertebra, disc: Disc, up: float, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to the disc's defect in the endplate of ``bone``: its lower one for ``up`` -1, its upper one for 1."""
    right, back, depth = disc.up_defect if up < 0 else disc.low_defect
    cup = bone.cups[1] if up < 0 else bone.cups[0]
    centre_w = up * (bone.height / 2 - cup + 0.8)
    flat = 4.5 / (depth + 0.8)  # shallow defects are wide
    return ellipsoid(u, v, w, (right, back, centre_w), (flat + 1.6 * depth, flat + 1.4 * depth, depth + 0.5))


def _paint_modic(grid: TissueGrid, box: Box, distance: np.ndarray, disc: Disc, bone: Vertebra) -> None:
    """Marrow changed beside a worn disc: 1 oedema, 2 fat, 3 hard bone; it fades out over a few mm."""
    texture = grid.noise(box, "island", disc.texture + 3)
    if disc.modic == 2:
        target = np.float32(255 * min(0.95, bone.fat + 0.36)) + 9 * texture
        weight = np.minimum(np.maximum(np.float32(0.5) - distance / 4, 0), 1)
        mix, marrow = grid.mix[box], (grid.tissue[box] == TISSUE["marrow"]) & (grid.label[box] == bone.number)
        blend = mix + weight * (target - mix)
        np.copyto(mix, np.minimum(np.maximum(blend, 0), 255).astype(np.uint8), where=marrow)
        return
    name, mix = ("oedema", 215) if disc.modic == 1 else ("sclerosis", 60)
    grid.paint(box, distance, TISSUE[name], np.clip(mix + 9 * texture, 0, 255), bone.number, soft=3.5)


def _paint_ribs(grid: TissueGrid, bone: Vertebra) -> None:
    """Heads and necks of the ribs beside a thoracic body; ribs carry no label."""
    p, a = bone.depth / 2, bone.width / 2
    box = grid.around(bone.frame, (-a - 40, p - 14, -0.3 * bone.height), (a + 40, p + 36, 0.6 * bone.height))
    if box is None:
        return
    u, v, w = grid.local(bone.frame, box)
    distance = capsule(np.abs(u), v, w, (a - 1, p - 3, 0.34 * bone.height), (a + 34, p + 24, 0.08 * bone.height), 4.3, 4.6, 1.0)
    free = grid.label[box] == 0
    grid.paint(box, distance, TISSUE["cortex"], 60, where=free)
    grid.paint(box, distance + np.float32(0.7), TISSUE["marrow"], int(150 * bone.fat + 40), where=free)


def disc_reach(disc: Disc) -> float:
    """How far above and below its middle a disc is painted (mm): bodies are painted over what reaches into them."""
    return disc.height / 2 + 4.5


def wall_distance(disc: Disc, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to the walls of a disc with its bulge, without hernia, upper and lower end."""
    a, b, half = disc.width / 2, disc.depth / 2, disc.height / 2
    centre, reach = 0.14 * b, 1.14 * b
    round_ = np.sqrt((u * np.float32(1 / a)) ** 2 + ((v - np.float32(centre)) * np.float32(1 / reach)) ** 2)
    front_bulge = 0.3 + 0.35 * disc.bulge + 0.25 * max(0, disc.grade - 2)
    # Walls bulge most half way up and come back to the rims of the bodies, inside which the disc ends.
    belly = 1 - np.minimum((w * np.float32(1 / (half + 1.5))) ** 2, 1)
    side = (round_ - 1) * np.float32(reach) - (np.float32(front_bulge + 0.9) * belly - np.float32(0.9))
    hollow = np.float32(0.9) * np.maximum(0, 1 - (u * np.float32(1 / 11)) ** 2) * (1 if disc.bulge == 0 else 0)
    back_wall = v - np.float32(b) + hollow - (np.float32(disc.bulge + 0.7) * belly - np.float32(0.5))
    return smooth_max(side, back_wall, 3.0)


def hernia_distance(disc: Disc, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to the hernia of a herniated disc."""
    b, half, size = disc.depth / 2, disc.height / 2, disc.herniation
    start = (disc.hernia_side * 0.7, b - 3.0, 0.0)
    end = (disc.hernia_side, b + size - 2.6, -disc.hernia_drop)
    return capsule(u, v, w, start, end, max(2.2, min(half, 4.0)), 2.6, 1.9)


def paint_disc(grid: TissueGrid, disc: Disc) -> None:
    """Paint one disc with bulge and hernia. Bodies are painted over it, so it may run into them.

    The outer annulus is dark, the nucleus has the grade's brightness, with the dark cleft that healthy discs show.
    """
    a, b, tall = disc.width / 2, disc.depth / 2, disc_reach(disc)
    box = grid.around(disc.frame, (-a - 6, -b - 6, -tall - 9), (a + 6, b + 13, tall + 3))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    distance = wall_distance(disc, u, v, w)
    distance += np.float32(0.25) * grid.noise(box, "island", disc.texture)
    distance = np.maximum(distance, np.abs(w) - np.float32(tall))
    hernia = None
    if disc.herniation > 0:
        hernia = hernia_distance(disc, u, v, w)
        hernia += np.float32(0.2) * grid.noise(box, "island", disc.texture + 3)
        distance = smooth_min(distance, hernia, 2.0)
    mix = _disc_mix(grid, box, disc, u, v, w)
    if hernia is not None:
        mix = np.where(hernia < -0.8, np.maximum(mix, np.float32(16 + 0.45 * NUCLEUS_MIX[disc.grade - 1])), mix)
    # A dark rim of outer annulus and longitudinal ligament closes the disc in front and behind.
    grid.paint(box, distance, TISSUE["ligament"], 8, 200 + disc.number)
    grid.paint(box, distance + np.float32(1.0), TISSUE["disc"], mix, 200 + disc.number)


def _disc_mix(grid: TissueGrid, box: Box, disc: Disc, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Blend of annulus and nucleus in a disc (float32, 0 to 255)."""
    a, b, half = disc.width / 2, disc.depth / 2, disc.height / 2
    bright = np.float32(NUCLEUS_MIX[disc.grade - 1])
    r2 = (u * np.float32(1 / (0.84 * a))) ** 2 + ((v - np.float32(0.06 * b)) * np.float32(1 / (0.84 * b))) ** 2
    core = np.maximum(0, np.float32(1.05) - r2)
    core = np.minimum(core * np.float32(1.9), 1)  # a plateau with a soft shoulder
    plates = np.minimum((w * np.float32(1 / (half + 2.5))) ** 2, 1)
    mix = bright * core * (1 - np.float32(0.45) * plates)
    if disc.grade <= 2:  # intranuclear cleft
        cleft = np.maximum(0, 1 - (np.abs(w) * np.float32(1 / 1.5))) * np.maximum(0, 1 - r2 * np.float32(1.1))
        mix -= bright * np.float32(0.30 + 0.22 * (disc.grade - 1)) * cleft
    patchy = (0.05, 0.07, 0.13, 0.25, 0.5)[disc.grade - 1]
    mix *= 1 + np.float32(patchy) * grid.noise(box, "island", disc.texture + 1)
    mix += 9 + 5 * grid.noise(box, "island", disc.texture + 5)
    if disc.grade >= 4 and disc.texture % 3 == 0:  # a bright fissure in the outer annulus behind (high-intensity zone)
        zone = ellipsoid(u, v, w, (disc.hernia_side, b - 1.8, -0.6), (4.0, 1.1, 1.5))
        mix = np.where(zone < 0, np.float32(190), mix)
    return np.minimum(np.maximum(mix, 0), 255)


def _sacrum_sides(part: SacralSegment, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to one sacral segment with its ala, without its upper and lower face."""
    share = np.minimum(np.maximum(w * np.float32(1 / part.height) + np.float32(0.5), 0), 1)  # 0 at the bottom, 1 at the top
    depth = np.float32(part.depth[1]) + share * np.float32(part.depth[0] - part.depth[1])
    wide = np.float32(part.ala)
    # The ala leans back and thins out sideways.
    lean = np.maximum(0, np.abs(u) - 14) * np.float32(0.18)
    thin = 1 - np.float32(0.35) * np.minimum(np.abs(u) / wide, 1) ** 2
    return smooth_max(np.abs(v - lean) - depth * thin / 2, np.abs(u) - wide, 6.0)


def paint_sacrum(grid: TissueGrid, anatomy: Anatomy) -> None:
    """Paint the sacrum: five fused segments, remnants of their discs, foramina and the crest behind the sacral canal."""
    shade = anatomy.vertebrae[0].fat * 255
    for inner in (False, True):  # all cortex first: segments have grown together, so none is left between them
        for part in anatomy.sacrum:
            half = np.float32(part.height / 2)
            box = grid.around(
                part.frame, (-part.ala - 8, -part.depth[0] - 10, -half - 4), (part.ala + 8, part.depth[0] + 26, half + 4)
            )
            if box is None:
                continue
            u, v, w = grid.local(part.frame, box)
            sides = _sacrum_sides(part, u, v, w) + np.float32(0.3) * grid.noise(box, "island", anatomy.texture + part.number)
            free = grid.label[box] == 0
            top = w - half + (np.float32(0.9) if part.number == 1 and inner else np.float32(-0.4 if part.number > 1 else 0))
            ends = np.maximum(top, -w - half - np.float32(0.4))
            if not inner:
                grid.paint(box, smooth_max(sides, ends, 1.5), TISSUE["cortex"], 20, where=free)
                continue
            mix = shade + 20 + 30 * grid.noise(box, "marrow", anatomy.texture + 11)
            grid.paint(box, np.maximum(sides + np.float32(0.8), ends), TISSUE["marrow"], np.clip(mix, 0, 255), where=free)
    for upper, part in zip(anatomy.sacrum, anatomy.sacrum[1:], strict=False):
        _paint_remnant(grid, anatomy, upper, part)
    _paint_crest(grid, anatomy)
    _paint_first_joints(grid, anatomy)


def _paint_remnant(grid: TissueGrid, anatomy: Anatomy, upper: SacralSegment, part: SacralSegment) -> None:
    """The remnant of a sacral disc, thinner further down, and the pair of foramina beside it."""
    depth, half = upper.depth[1], part.height / 2
    box = grid.around(part.frame, (-34, -depth, half - 9), (34, depth + 4, half + 9))
    if box is None:
        return
    u, v, w = grid.local(part.frame, box)
    free = grid.label[box] == 0
    thick = (2.3, 1.3, 0.9, 0.8)[upper.number - 1] * (0.8 + 0.5 * (anatomy.texture % 97) / 97)
    plate = ellipsoid(u, v, w, (0, 0, half), (15, 0.48 * depth, thick)) + np.float32(0.3) * grid.noise(
        box, "island", anatomy.texture + 21
    )
    grid.paint(box, plate, TISSUE["cortex"], 12, where=free)
    if thick > 1.2:
        grid.paint(box, plate + np.float32(0.9), TISSUE["disc"], 70, where=free)
    if upper.number > 2:
        return
    hole = capsule(np.abs(u), v, w, (16, 0.5 * depth, half + 2), (21, -0.6 * depth, half - 4), 3.0, 4.2)
    hole += np.float32(0.9) * grid.noise(box, "cloud", anatomy.texture + 22)
    grid.paint(box, hole, TISSUE["fat"], 60, where=free, soft=1.5)
    root = capsule(np.abs(u), v, w, (16, 0.5 * depth, half + 2), (20.5, -0.6 * depth, half - 4), 2.2, 2.4)
    grid.paint(box, root, TISSUE["nerve"], 15, where=free, soft=1.5)


def _paint_crest(grid: TissueGrid, anatomy: Anatomy) -> None:
    """The bony roof of the sacral canal with the median crest, in short pieces as wide as the laminae."""
    for part in anatomy.sacrum[:4]:
        behind = sum(part.depth) / 4
        gap = (15.0, 12.0, 8.5, 6.0)[part.number - 1]
        box = grid.around(part.frame, (-22, behind + gap - 4, -part.height / 2 - 6), (22, behind + gap + 16, part.height / 2 + 6))
        if box is None:
            continue
        u, v, w = grid.local(part.frame, box)
        free = grid.label[box] == 0
        low, high = -0.46 * part.height, 0.40 * part.height
        distance = capsule(u, v, w, (0, behind + gap + 2.4, low), (0, behind + gap + 1.8, high), 3.0, 2.6, 5.0)
        tall = (4.5, 3.5, 2.0, 1.0)[part.number - 1]
        knob = capsule(
            u,
            v,
            w,
            (0, behind + gap + tall, -0.28 * part.height),
            (0, behind + gap + tall - 1, 0.15 * part.height),
            3.4,
            2.8,
            0.8,
        )
        distance = smooth_min(distance, knob, 3.0) + np.float32(0.5) * grid.noise(box, "island", anatomy.texture + 31)
        grid.paint(box, distance, TISSUE["cortex"], 60, where=free)
        grid.paint(box, distance + np.float32(0.8), TISSUE["marrow"], int(anatomy.vertebrae[0].fat * 230), where=free)


def first_joint_distance(anatomy: Anatomy, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to the upper joint processes of the sacrum, in the frame of its first segment."""
    part, gap = anatomy.sacrum[0], anatomy.vertebrae[0].pedicle_gap
    behind, top, side = part.depth[0] / 2, part.height / 2, np.abs(u)
    return smooth_min(
        capsule(side, v, w, (gap + 4.5, behind - 2, top - 8), (gap + 5, behind + 9, top - 6), 6.0, 5.2, 1.3),
        capsule(side, v, w, (gap + 4.8, behind + 8, top - 5), (gap + 5.5, behind + 8.5, top + 7), 5.0, 3.6, 1.2),
        3.0,
    )


def _paint_first_joints(grid: TissueGrid, anatomy: Anatomy) -> None:
    """The upper joint processes of the sacrum, which carry the lowest vertebra."""
    part, gap = anatomy.sacrum[0], anatomy.vertebrae[0].pedicle_gap
    behind, top = part.depth[0] / 2, part.height / 2
    box = grid.around(part.frame, (-gap - 16, behind - 8, top - 22), (gap + 16, behind + 20, top + 16))
    if box is None:
        return
    distance = first_joint_distance(anatomy, *grid.local(part.frame, box))
    distance += np.float32(0.4) * grid.noise(box, "island", anatomy.texture + 33)
    free = grid.label[box] == 0
    grid.paint(box, distance, TISSUE["cortex"], 40, where=free)
    grid.paint(box, distance + np.float32(0.8), TISSUE["marrow"], int(anatomy.vertebrae[0].fat * 250), where=free)


def paint_sacral_disc(grid: TissueGrid, anatomy: Anatomy, height_mm: float, label: int) -> None:
    """Paint a rudimentary disc between S1 and S2 over the thin remnant that every sacrum has.

    Such discs are narrower than lumbar ones, lie wholly inside bone, and have a watery middle as they never bore a load.

    Args:
        grid, anatomy: as from build_body, the sacrum included.
        height_mm: its height in the middle.
        label: mask value.
    """
    upper, part = anatomy.sacrum[:2]
    depth, half = upper.depth[1], part.height / 2
    box = grid.around(part.frame, (-24, -depth, half - 9), (24, depth, half + 9))
    if box is None:
        return
    u, v, w = grid.local(part.frame, box)
    free = (grid.label[box] == 0) & (grid.tissue[box] != TISSUE["fat"])
    plate = ellipsoid(u, v, w, (0, 0, half), (17 * anatomy.scale, 0.5 * depth, height_mm / 2 + 0.5))
    plate += np.float32(0.2) * grid.noise(box, "island", anatomy.texture + 23)
    grid.paint(box, plate - np.float32(CORTEX_MM), TISSUE["cortex"], 10, where=free)
    mix = 130 + 15 * grid.noise(box, "island", anatomy.texture + 24)
    grid.paint(box, plate, TISSUE["disc"], np.clip(mix, 60, 200), label, where=free)
