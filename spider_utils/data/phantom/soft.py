"""Everything around the bones: layers of the back, abdomen, vessels, muscles, and the spinal canal with what runs in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spider_utils.data.phantom.anatomy import EPIDURAL_GAP, Anatomy, Disc, Vertebra
from spider_utils.data.phantom.raster import Box, TissueGrid, capsule, ellipsoid, smooth_max
from spider_utils.data.phantom.signal import TISSUE

CANAL_LABEL = 100


def _smooth(values: np.ndarray, spacing: float, length: float) -> np.ndarray:
    """Two running means over ``length`` mm; the ends keep their values."""
    n = max(1, round(length / spacing)) | 1
    for _ in range(2):
        padded = np.concatenate([np.repeat(values[:1], n // 2), values, np.repeat(values[-1:], n // 2)])
        total = np.concatenate([[0.0], np.cumsum(padded)])
        values = (total[n:] - total[:-n]) / n
    return values


@dataclass(frozen=True)
class Course:
    """The spine row by row of a grid (index = row; mm in the patient's frame).

    Attributes:
        down: the rows' position.
        right: middle of the spine.
        wall: line along the back walls of bodies and discs; front: line along their fronts.
        back: middle of the dural sac; half_ap, half_width: its half diameters in the axial plane (0 below its end).
        slant: cosine of the spine's slant, which turns axial distances into true ones.
        tip: line along the tips of the spinous processes.
    """

    down: np.ndarray
    right: np.ndarray
    wall: np.ndarray
    front: np.ndarray
    back: np.ndarray
    half_ap: np.ndarray
    half_width: np.ndarray
    slant: np.ndarray
    tip: np.ndarray


def trace(grid: TissueGrid, anatomy: Anatomy) -> Course:
    """Follow spine, sac and spinous tips along the rows of a grid."""
    nodes = []  # down, right, wall, tilt, gap, sac diameter, sac width
    fronts, tips = [], []
    for bone, disc in zip(anatomy.vertebrae, anatomy.discs, strict=True):
        place = bone.frame.point(0, bone.depth / 2, 0)
        low = 1.0 if bone.number == 1 else 0.0
        nodes.append(
            (
                place[1],
                place[0],
                place[2],
                bone.frame.tilt,
                1.0 + 2.2 * low,
                anatomy.sac_ap(bone.number),
                anatomy.sac_width(bone.number),
            )
        )
        place = disc.frame.point(0, disc.depth / 2, 0)
        width = anatomy.sac_width(disc.number) * (0.97 if disc.sac > 10 else 0.85)
        nodes.append((place[1], place[0], place[2], disc.frame.tilt, EPIDURAL_GAP + 2.2 * low, disc.sac, width))
        place = bone.frame.point(0, -bone.depth / 2, 0)
        fronts.append((place[1], place[2]))
        root = bone.frame.point(0, bone.depth / 2 + bone.canal_depth + 3, -0.16 * bone.height)
        drop = np.radians(bone.spinous_drop + bone.frame.tilt)
        tips.append((root[1] + bone.spinous_length * float(np.sin(drop)), root[2] + bone.spinous_length * float(np.cos(drop))))
    for part in anatomy.sacrum:
        mean_depth = sum(part.depth) / 2
        place = part.frame.point(0, mean_depth / 2, 0)
        left = max(0.0, 1 - (max(0.0, part.number - 0.4) / anatomy.sac_end) ** 2)  # tapers like a parabola to its end
        nodes.append(
            (
                place[1],
                place[0],
                place[2],
                part.frame.tilt,
                3.5 + part.number,
                anatomy.sac_ap(1) * 0.95 * left,
                anatomy.sac_width(1) * 0.9 * left,
            )
        )
        place = part.frame.point(0, -mean_depth / 2, 0)
        fronts.append((place[1], place[2]))
        place = part.frame.point(0, mean_depth / 2 + (24, 19, 14, 10, 8)[part.number - 1], 0)
        tips.append((place[1], place[2]))
    rows = grid.coordinates(1).reshape(-1).astype(np.float64)
    table = np.array(sorted(nodes))
    spacing = grid.spacing[1]

    def along(column: int, smoothing: float = 7.0) -> np.ndarray:
        return _smooth(np.interp(rows, table[:, 0], table[:, column]), spacing, smoothing)

    right, wall, tilt = along(1), along(2, 15.0), along(3, 12.0)
    slant = np.cos(np.radians(tilt))
    gap, ap, width = along(4, 9.0), along(5, 7.0), along(6, 9.0)
    half_ap = 0.5 * ap / slant
    back = wall + gap / slant + half_ap
    front_nodes, tip_nodes = np.array(sorted(fronts)), np.array(sorted(tips))
    front = _smooth(np.interp(rows, front_nodes[:, 0], front_nodes[:, 1]), spacing, 15.0)
    tip = _smooth(np.interp(rows, tip_nodes[:, 0], tip_nodes[:, 1]), spacing, 25.0)
    return Course(rows, right, wall, front, back, half_ap, 0.5 * width, slant, tip)


def _column(values: np.ndarray, part: slice) -> np.ndarray:
    """A quantity by row, shaped to broadcast along the rows of a box."""
    return values[part].astype(np.float32).reshape(1, -1, 1)


def tube(
    grid: TissueGrid,
    box: Box,
    right: np.ndarray,
    back: np.ndarray,
    half_width: np.ndarray,
    half_ap: np.ndarray,
    slant: np.ndarray,
) -> np.ndarray:
    """Signed distance (mm) to a tube with an oval cross-section given row by row (arrays over all rows of the grid)."""
    x, y = grid.coordinates(0, box[0]), grid.coordinates(2, box[2])
    a = np.maximum(_column(half_width, box[1]), np.float32(0.05))
    b = np.maximum(_column(half_ap, box[1]), np.float32(0.05))
    across = ((x - _column(right, box[1])) / a) ** 2
    depth = ((y - _column(back, box[1])) / b) ** 2
    return (np.sqrt(across + depth) - 1) * np.minimum(a, b * _column(slant, box[1]))


def _tube_box(
    grid: TissueGrid, rows: np.ndarray, right: np.ndarray, back: np.ndarray, half_width: np.ndarray, half_ap: np.ndarray
) -> Box | None:
    """Box around the tube's rows where ``rows`` is true."""
    if not rows.any():
        return None
    index = np.flatnonzero(rows)
    box = grid.box(
        (float((right - half_width)[index].min()) - 2, -1e4, float((back - half_ap)[index].min()) - 2),
        (float((right + half_width)[index].max()) + 2, 1e4, float((back + half_ap)[index].max()) + 2),
    )
    return None if box is None else (box[0], slice(int(index[0]), int(index[-1]) + 1), box[2])


def _wander(rng: np.random.Generator, rows: np.ndarray, step: float, size: float) -> np.ndarray:
    """A slow random curve along the rows: knots every ``step`` mm with standard deviation ``size`` mm."""
    knots = np.arange(-420.0, 420.0, step)
    return _smooth(np.interp(rows, knots, rng.standard_normal(len(knots)) * size), float(rows[1] - rows[0]), step)


def paint_layers(grid: TissueGrid, anatomy: Anatomy, course: Course) -> None:
    """Fill the whole grid from back to front: air, skin, fat under it, fascia, muscles of the back, abdomen."""
    rng = np.random.default_rng([anatomy.texture, 1])
    rows, x = course.down, grid.coordinates(0).reshape(-1, 1).astype(np.float64)
    fascia = np.maximum(course.tip, _smooth(course.tip, grid.spacing[1], 60.0)) + 3.0
    bulk = 7.0 * np.minimum(np.abs(x - course.right[None]) / 24.0, 1.0) ** 1.5  # muscles bulge beside the midline furrow
    fascia = fascia[None] + bulk * np.interp(rows, [-260, -60, 70, 130], [0.4, 1.0, 1.0, 0.4])[None]
    hollow = np.interp(rows, [-220, -60, 60, 130, 190], [0.75, 0.85, 1.25, 1.6, 1.7])
    skin = fascia + (anatomy.subcutaneous * hollow)[None] * (0.9 + 0.1 * np.abs(x) / 30)
    # Lying on the table presses the skin flat: half way towards the straight line through the middle of the back.
    mean = float(np.round(np.median(skin), 3))
    skin = np.maximum(fascia + 4.0, skin - 0.45 * (skin - mean)) + _wander(rng, rows, 40.0, 1.0)[None]
    muscle_front = course.wall[None] + 4.0 + 0.0 * x
    # The belly wall is a gentle arch before the spine, further off in the stout.
    wall_front = -78.0 - 2.0 * anatomy.subcutaneous + 14 * ((rows - 10) / 150) ** 2 + _wander(rng, rows, 60.0, 2.0)
    wall_front = wall_front[None] + 0.01 * x**2
    belly_fat = 0.9 * anatomy.subcutaneous + 4
    y = grid.coordinates(2).reshape(-1)

    # From front to back: each line starts a new layer.
    lines = {
        "skin": wall_front - belly_fat - 2,
        "belly fat": wall_front - belly_fat,
        "belly wall": wall_front,
        "abdomen": wall_front + 9,
        "back": muscle_front,
        "fascia": fascia,
        "back fat": fascia + 1.3,
        "back skin": skin - 1.8,
        "outside": skin,
    }
    names = ("skin", "fat", "muscle", "abdomen", "muscle", "ligament", "fat", "skin", "air")
    inside = {}
    for line, name in zip(lines, names, strict=True):
        inside[line] = y[None, None, :] >= lines[line][:, :, None].astype(np.float32)
        np.copyto(grid.tissue, np.uint8(TISSUE[name]), where=inside[line])
    np.copyto(grid.under, grid.tissue)
    _texture_muscle(grid, anatomy, course, inside["back"] & ~inside["fascia"])
    _texture_skin_fat(grid, anatomy, course, inside["back fat"])
    _texture_abdomen(grid, anatomy, course, inside["abdomen"] & ~inside["back"])


def _behind(grid: TissueGrid, value: float) -> Box:
    """Box of everything from ``value`` (mm) backwards."""
    start = int(np.searchsorted(grid.coordinates(2).reshape(-1), value))
    return slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(min(start, grid.shape[2] - 1), grid.shape[2])


def _texture_muscle(grid: TissueGrid, anatomy: Anatomy, course: Course, muscle: np.ndarray) -> None:
    """Bundles and streaks of fat in the muscles of the back: more of it low down, near the bone and with age."""
    box, seed = _behind(grid, float(course.wall.min())), anatomy.texture
    depth = (grid.coordinates(2, box[2]) - _column(course.wall, box[1])) * np.float32(1 / 50)
    low = np.interp(course.down, [-150, -40, 50, 110], [-0.35, -0.1, 0.75, 1.5])
    amount = np.float32(3.6 * anatomy.muscle_fat - 1.15) + _column(low * (0.45 + anatomy.muscle_fat), box[1])
    amount = amount - np.maximum(depth - np.float32(0.5), np.float32(-0.4)) * np.float32(1.9)
    streak = grid.noise(box, "muscle", seed, shear=-0.18)
    mix = np.maximum(streak + amount - np.float32(0.3), 0)
    mix *= 72 + np.float32(40) * grid.noise(box, "mass", seed + 3)
    mix += streak * np.float32(7) + np.float32(24 + 40 * anatomy.muscle_fat)
    np.copyto(grid.mix[box], np.minimum(np.maximum(mix, 0), 240).astype(np.uint8), where=muscle[box])


def _texture_skin_fat(grid: TissueGrid, anatomy: Anatomy, course: Course, fat: np.ndarray) -> None:
    """Septa in the fat under the skin: thin sheets where a smooth field crosses zero, and one longer fascia."""
    box = _behind(grid, float(course.tip.min()))
    sheet = np.abs(grid.noise(box, "septa", anatomy.texture + 311, shear=0.5))
    mix = np.maximum(np.float32(0.06) - sheet, 0) * 2900 + 10
    np.copyto(grid.mix[box], np.minimum(np.maximum(mix, 0), 180).astype(np.uint8), where=fat[box])


def _texture_abdomen(grid: TissueGrid, anatomy: Anatomy, course: Course, abdomen: np.ndarray) -> None:
    """Soft lobules of mesentery and gut between belly wall and spine."""
    stop = int(np.searchsorted(grid.coordinates(2).reshape(-1), float(course.wall.max()) + 6)) + 1
    box = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, min(stop, grid.shape[2])))
    mix = grid.noise(box, "gut", anatomy.texture + 5)
    mix *= np.float32(56)
    mix += np.float32(140)
    np.copyto(grid.mix[box], np.minimum(np.maximum(mix, 0), 250).astype(np.uint8), where=abdomen[box])


def paint_abdomen(grid: TissueGrid, anatomy: Anatomy, course: Course) -> None:
    """Fat before the spine, great vessels, psoas muscles, bowel loops and the organs of the pelvis."""
    rng = np.random.default_rng([anatomy.texture, 2])
    rows = course.down
    lowest = anatomy.vertebrae[0]
    every = np.ones(len(rows), bool)
    # Fat around the vessels and before the sacrum.
    thick = 11 + 0.25 * anatomy.subcutaneous
    near = course.front - 0.5 * thick
    box = _tube_box(grid, every, course.right, near, np.full(len(rows), 60.0), np.full(len(rows), thick + 12))
    if box is not None:
        distance = np.abs(grid.coordinates(2, box[2]) - _column(near, box[1])) - np.float32(thick)
        distance = np.broadcast_to(distance, tuple(p.stop - p.start for p in box))
        distance = distance + 2.5 * grid.noise(box, "cloud", anatomy.texture + 8)
        mix = np.clip(24 + 18 * grid.noise(box, "gut", anatomy.texture + 9), 0, 160)
        grid.paint(box, distance, TISSUE["fat"], mix, soft=9.0)
    _paint_loops(grid, anatomy, course, rng)
    _paint_pelvis(grid, anatomy, course, rng)
    # Vessels: aorta on the left down to the fourth lumbar vertebra, vena cava on the right, iliac branches beyond.
    fork = anatomy.vertebrae[1].frame.down + 8 * float(rng.standard_normal())
    for side, radius in ((-1.0, 8.2 + 0.03 * anatomy.age), (1.0, 9.5)):
        radius *= anatomy.scale
        spread = np.clip(rows - fork, 0, None) ** 2 / (np.clip(rows - fork, 0, None) + 14)
        right = course.right + side * (9.5 + 0.42 * spread) + _wander(rng, rows, 70.0, 2.2)
        half = radius * (1 - 0.34 * np.clip((rows - fork + 6) / 24, 0, 1))
        flat = 0.78 if side > 0 else 1.0
        back = course.front - half * flat - 2.0 - 0.22 * spread * 0.3 + _wander(rng, rows, 60.0, 1.4)
        shown = rows < lowest.frame.down + 95
        box = _tube_box(grid, shown, right, back, half, half)
        if box is None:
            continue
        ones = np.ones(len(rows))
        distance = tube(grid, box, right, back, half, half * flat, ones)
        distance += np.float32(0.4) * grid.noise(box, "cloud", anatomy.texture + 15)
        grid.paint(box, distance - np.float32(1.0), TISSUE["bowel"], 20)
        slow = 20 if side < 0 else 55
        mix = np.clip(slow + 22 * grid.noise(box, "fibre", anatomy.texture + 16), 0, 200)
        grid.paint(box, distance, TISSUE["artery"], mix)
    for side in (-1.0, 1.0):
        found = psoas(grid, anatomy, course, side)
        if found is None:
            continue
        box, distance = found
        distance += np.float32(0.7) * grid.noise(box, "cloud", anatomy.texture + 17)
        mix = np.clip(18 + 30 * anatomy.muscle_fat + 16 * grid.noise(box, "fibre", anatomy.texture + 18), 0, 230)
        grid.paint(box, distance, TISSUE["muscle"], mix)


def psoas(grid: TissueGrid, anatomy: Anatomy, course: Course, side: float) -> tuple[Box, np.ndarray] | None:
    """Box and signed distance (mm) of one psoas muscle: beside the bodies, growing downwards, then forwards into the pelvis.

    Args:
        grid, anatomy, course: as from trace.
        side: 1 on the patient's right, -1 on the left.
    """
    rows, lowest = course.down, anatomy.vertebrae[0]
    top = anatomy.vertebrae[min(anatomy.n_lumbar, 10)].frame.down
    grow = np.clip((rows - top) / (lowest.frame.down - top), 0, 1.6)
    half_width, half_ap = 4.0 + 11.0 * grow, 5.5 + 13.0 * grow
    right = course.right + side * (23 + half_width + 5 * grow)
    middle = 0.5 * (course.front + course.wall) + 3 - 16 * np.clip(grow - 0.75, 0, None)
    shown = (rows > top) & (rows < lowest.frame.down + 130)
    box = _tube_box(grid, shown, right, middle, half_width, half_ap)
    return None if box is None else (box, tube(grid, box, right, middle, half_width, half_ap, np.ones(len(rows))))


def _paint_loops(grid: TissueGrid, anatomy: Anatomy, course: Course, rng: np.random.Generator) -> None:
    """Loops of bowel before the vessels: walls, and gas, fluid or stool inside."""
    for _ in range(34):
        down = rng.uniform(-230, 150)
        spot = rng.random(6)
        ahead = np.interp(down, course.down, course.front) - 34 - 75 * spot[0]
        centre = (-45 + 90 * spot[1], down, float(ahead))
        radii = (9 + 14 * spot[2], 7 + 15 * spot[3], 6 + 11 * spot[4])
        reach = max(radii) + 9
        box = grid.box(tuple(c - reach for c in centre), tuple(c + reach for c in centre))
        if box is None:
            continue
        x, z, y = (grid.coordinates(k, box[k]) for k in range(3))
        distance = ellipsoid(x, y, z, (centre[0], centre[2], centre[1]), (radii[0], radii[2], radii[1]))
        distance += np.float32(2.2) * grid.noise(box, "cloud", int(spot[5] * 1e6))
        # Gut moves while it is imaged, so that its edges are soft.
        grid.paint(box, distance, TISSUE["abdomen"], 60, soft=6.0)
        if spot[5] < 0.2:
            grid.paint(box, distance + 3, TISSUE["air"], 0, soft=3.0)
        else:
            mix = np.clip(200 * (spot[5] - 0.1) + 45 * grid.noise(box, "island", int(spot[5] * 1e5)), 0, 255)
            grid.paint(box, distance + 3, TISSUE["bowel"], mix, soft=6.0)


def _paint_pelvis(grid: TissueGrid, anatomy: Anatomy, course: Course, rng: np.random.Generator) -> None:
    """Rectum before the sacrum, loops of sigmoid, bladder and (female) uterus at the lower edge of the field."""
    second = anatomy.sacrum[1].frame
    spot = rng.random(16)
    organs = [  # down from S2, ahead of the sacrum's front, right, radii (right, down, back), tissue, mix
        (34 + 8 * spot[0], 16, -4 + 8 * spot[1], (13, 24, 9 + 4 * spot[2]), "bowel", 90 + 150 * spot[3]),
        (12 + 10 * spot[4], 30 + 10 * spot[5], -14 + 20 * spot[6], (14, 9, 11), "bowel", 30 + 200 * spot[7]),
        (28 + 8 * spot[8], 52, 6 - 20 * spot[9], (15, 11, 13), "bowel", 30 + 220 * spot[10]),
        (72 + 10 * spot[11], 85, 0, (34, 22 + 10 * spot[12], 27), "fluid", 12),
    ]
    if anatomy.sex == "F":
        organs.append((44, 58 + 6 * spot[13], -4 + 8 * spot[14], (22, 17, 25), "oedema", 90))
    for down, ahead, right, radii, name, mix in organs:
        place_down = second.down + down
        centre = (right, place_down, float(np.interp(place_down - 0.5 * radii[1], course.down, course.front)) - ahead)
        box = grid.box(
            tuple(c - r - 8 for c, r in zip(centre, radii, strict=True)),
            tuple(c + r + 8 for c, r in zip(centre, radii, strict=True)),
        )
        if box is None:
            continue
        x, z, y = (grid.coordinates(k, box[k]) for k in range(3))
        distance = ellipsoid(x, y, z, (centre[0], centre[2], centre[1]), (radii[0], radii[2], radii[1]))
        distance += np.float32(1.3) * grid.noise(box, "cloud", int(spot[15] * 1e6) + int(down))
        grid.paint(box, distance, TISSUE["bowel"], 5, soft=1.5)
        blend = np.clip(mix + 18 * grid.noise(box, "island", int(spot[15] * 1e6)), 0, 255)
        gas = name == "bowel" and spot[int(down) % 16] < 0.3
        grid.paint(box, distance + np.float32(2.2), TISSUE["air" if gas else name], blend, soft=1.5)


def paint_around_canal(grid: TissueGrid, anatomy: Anatomy, course: Course) -> None:
    """Fat of the canal and foramina, nerves leaving through them, ligaments between the arches."""
    for disc in anatomy.discs:
        bone = anatomy.vertebrae[disc.number - 1]
        b, c, gap = disc.depth / 2, bone.canal_depth, bone.pedicle_gap
        frame = disc.frame
        low = (-gap - 20, b - 14, -22)
        box = grid.around(frame, low, (gap + 20, b + c + 34, 26))
        if box is None:
            continue
        u, v, w = grid.local(frame, box)
        side = np.abs(u)
        seed = disc.texture
        # Between the spinous processes: fibres with fat between them.
        between = smooth_max(side - np.float32(3.4), np.maximum(np.float32(b + c + 3) - v, v - np.float32(b + c + 30)), 2.0)
        between = np.maximum(between, np.abs(w + 2) - 20)
        mix = 66 + 18 * grid.noise(box, "fibre", seed + 40, shear=0.9) + 36 * grid.noise(box, "island", seed + 41)
        mix += 34 * grid.noise(box, "cloud", seed + 43) + 210 * (anatomy.muscle_fat - 0.15)
        free = grid.tissue[box] == TISSUE["muscle"]
        grid.paint(box, between, TISSUE["muscle"], np.clip(mix, 10, 235), where=free, soft=3.0)
        # Foramina: a keyhole of fat under each pedicle, the root's ganglion and a vein inside it.
        hole = ellipsoid(side, v, w, (gap + 6, b + 5.2, 5.5), (10.5, 6.2, 10.0))
        hole += np.float32(0.5) * grid.noise(box, "island", seed + 42) + np.float32(0.9) * grid.noise(box, "cloud", seed + 44)
        grid.paint(box, hole, TISSUE["fat"], 25)
        ganglion = capsule(side, v, w, (gap - 1, b + 6.0, 9.0), (gap + 12, b + 6.3, 5.0), 2.5, 3.2)
        grid.paint(box, ganglion, TISSUE["nerve"], 20)
        vein = capsule(side, v, w, (gap + 3, b + 1.8, 3.5), (gap + 10, b + 2.0, 2.5), 1.0, 0.9)
        grid.paint(box, vein, TISSUE["artery"], 60)
        # Joint capsules are dark; a film of fluid between the joint's faces is left when the bones are painted over.
        joint = capsule(side, v, w, (gap + 2.4, b + 12.5, -6.0), (gap + 3.0, b + 12.0, 9.0), 6.2, 6.0, 1.1)
        grid.paint(box, joint, TISSUE["ligament"], 20)
        film = capsule(side, v, w, (gap + 2.6, b + 12.8, -5.0), (gap + 3.4, b + 12.6, 7.0), 2.2, 2.0, 2.0)
        grid.paint(box, film, TISSUE["nerve"], 60)
    # The bony canal is lined with fat, most of it behind the sac and around its end.
    spare = np.interp(course.down, [anatomy.vertebrae[2].frame.down, anatomy.sacrum[0].frame.down], [1.2, 3.5])
    bony_ap = course.half_ap + 1.4 + 0.5 * spare
    bony_width = course.half_width + spare
    bony_ap, bony_width = np.maximum(bony_ap, 3.8), np.maximum(bony_width, 7.0)
    bony_back = np.where(course.half_ap > 3, course.back + 0.6, course.wall + bony_ap)
    shown = course.down < anatomy.sacrum[3].frame.down
    box = _tube_box(grid, shown, course.right, bony_back, bony_width, bony_ap)
    if box is not None:
        distance = tube(grid, box, course.right, bony_back, bony_width, bony_ap, course.slant)
        mix = np.clip(26 + 16 * grid.noise(box, "island", anatomy.texture + 50), 0, 120)
        grid.paint(box, distance, TISSUE["fat"], mix)
    for disc in anatomy.discs:
        _paint_yellow_ligament(grid, anatomy, disc)


def yellow_ligament(bone: Vertebra, disc: Disc, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances (mm) to the two leaves of a ligamentum flavum and to the fat pad before it, in the disc's frame."""
    b, c, size = disc.depth / 2, bone.canal_depth, 1.0 - 0.45 * bone.thoracic
    ends = (6.5, b + c + 4.0, 10), (7.0, b + c - 0.5, -9)
    leaf = capsule(np.abs(u), v, w, *ends, disc.flavum / 2 + 0.4, disc.flavum / 2, 2.4)
    return leaf, ellipsoid(u, v, w, (0, b + c + 1.2, -3.5), (7.0 * size, 5.2 * size, 8.5 * size))


def _paint_yellow_ligament(grid: TissueGrid, anatomy: Anatomy, disc) -> None:
    """The fat pad behind the sac at a disc's height and the two leaves of the ligamentum flavum that roof it."""
    bone = anatomy.vertebrae[disc.number - 1]
    b, c = disc.depth / 2, bone.canal_depth
    box = grid.around(disc.frame, (-16, b + 2, -20), (16, b + c + 14, 22))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    leaf, pad = yellow_ligament(bone, disc, u, v, w)
    grid.paint(box, leaf, TISSUE["ligament"], 45)
    pad += np.float32(0.4) * grid.noise(box, "island", disc.texture + 60)
    grid.paint(box, pad - np.float32(0.9), TISSUE["ligament"], 30, where=v > np.float32(b + c - 3))
    grid.paint(box, pad, TISSUE["fat"], 18)


def paint_canal(grid: TissueGrid, anatomy: Anatomy, course: Course) -> None:
    """Dura, cerebrospinal fluid, cord down to the conus, roots of the cauda equina; label 100."""
    shown = course.half_ap > 0.5
    box = _tube_box(grid, shown, course.right, course.back, course.half_width, course.half_ap)
    if box is None:
        return
    distance = tube(grid, box, course.right, course.back, course.half_width, course.half_ap, course.slant)
    distance += np.float32(0.22) * grid.noise(box, "cloud", anatomy.texture + 70)
    grid.paint(box, distance - np.float32(0.5), TISSUE["ligament"], 30)
    pulse = np.clip(6 + 5 * grid.noise(box, "fibre", anatomy.texture + 71), 0, 40)
    grid.paint(box, distance, TISSUE["fluid"], pulse, CANAL_LABEL)
    conus_down = _height_of(anatomy, anatomy.conus)
    _paint_roots(grid, anatomy, course, conus_down)
    above = np.clip((conus_down - course.down) / 42.0, 0, 1)
    swell = np.interp(course.down, [-260, -170, conus_down - 45, conus_down], [0.84, 0.88, 1.0, 1.0])
    taper = np.sqrt(above * (2 - above)) * swell * anatomy.scale
    half_ap, half_width = 4.1 * taper / course.slant, 4.9 * taper
    lean = np.interp(course.down, [-220, conus_down - 60, conus_down], [-0.22, 0.05, 0.25]) * np.maximum(
        course.half_ap - half_ap, 0
    )
    box = _tube_box(grid, course.down < conus_down, course.right, course.back + lean, half_width, half_ap)
    if box is not None:
        distance = tube(grid, box, course.right, course.back + lean, half_width, half_ap, course.slant)
        mix = np.clip(8 + 6 * grid.noise(box, "fibre", anatomy.texture + 72), 0, 50)
        grid.paint(box, distance, TISSUE["nerve"], mix, CANAL_LABEL)


def _height_of(anatomy: Anatomy, number: float) -> float:
    """``down`` (mm) of a place given in vertebra numbers; whole numbers are the middles of the bodies."""
    numbers = [bone.number for bone in anatomy.vertebrae]
    return float(np.interp(number, numbers, [bone.frame.down for bone in anatomy.vertebrae]))


def _paint_roots(grid: TissueGrid, anatomy: Anatomy, course: Course, conus_down: float) -> None:
    """Thread the roots of the cauda equina through the sac: they lie behind, as in a patient on the back, and leave in turn."""
    rng = np.random.default_rng([anatomy.texture, 3])
    end_down = float(course.down[course.half_ap > 1.0].max(initial=conus_down))
    exits = [_height_of(anatomy, anatomy.n_lumbar - 1 - k) for k in range(anatomy.n_lumbar - 1)] + [end_down - 6.0] * 3
    x0, y0 = grid.coordinates(0).reshape(-1)[0], grid.coordinates(2).reshape(-1)[0]
    for k, leave in enumerate(exits):
        order = k / (len(exits) - 1)
        for side in (-1.0, 1.0):
            for strand in range(3 if k < 6 else 2):
                first, stray = rng.random(4), _wander(rng, course.down, 45.0, 0.16)
                stray_back = _wander(rng, course.down, 38.0, 0.13)
                start = conus_down - 32 + 10 * first[0]
                rows = np.flatnonzero((course.down > start) & (course.down < leave) & (course.half_ap > 1.2))
                if len(rows) < 5:
                    continue
                p = (course.down[rows] - start) / (leave - start)
                lateral = (
                    side * ((0.55 - 0.45 * order) * (0.6 + 0.4 * p) + 0.30 * p**6 * (1 - order) + 0.07 * strand) + stray[rows]
                )
                behind = (
                    0.62 - 0.28 * (1 - order) - 0.20 * first[1] - 0.45 * p**8 * (1 - order) + stray_back[rows] - 0.05 * strand
                )
                size = np.maximum(np.sqrt(lateral**2 + behind**2) / 0.86, 1)
                right = course.right[rows] + lateral / size * course.half_width[rows]
                back = course.back[rows] + behind / size * course.half_ap[rows]
                _stamp(grid, rows, (right - x0) / grid.spacing[0], (back - y0) / grid.spacing[2], 0.48 + 0.2 * first[2])


def _stamp(grid: TissueGrid, rows: np.ndarray, i: np.ndarray, k: np.ndarray, radius: float) -> None:
    """Darken the fluid along one root: ``i`` and ``k`` are its voxel positions along right and back in each row."""
    dx, dy = grid.spacing[0], grid.spacing[2]
    base_i, base_k = np.rint(i).astype(int), np.rint(k).astype(int)
    fluid = TISSUE["fluid"]
    for oi in (-1, 0, 1):
        for ok in (-2, -1, 0, 1, 2):
            ii, kk = base_i + oi, base_k + ok
            fits = (ii >= 0) & (ii < grid.shape[0]) & (kk >= 0) & (kk < grid.shape[2])
            ii, kk, jj = ii[fits], kk[fits], rows[fits]
            # Overlap of a thin rod with the voxel: full within it, falling off over half a voxel.
            over_x = np.clip((radius + dx / 2 - np.abs(ii - i[fits]) * dx) / min(dx, 2 * radius), 0, 1) * min(
                1.0, 2 * radius / dx
            )
            over_y = np.clip((radius + dy / 2 - np.abs(kk - k[fits]) * dy) / min(dy, 2 * radius), 0, 1) * min(
                1.0, 2 * radius / dy
            )
            value = (235 * over_x * over_y).astype(np.uint8)
            here = grid.mix[ii, jj, kk]
            darker = np.where(grid.tissue[ii, jj, kk] == fluid, np.maximum(here, value), here)
            grid.mix[ii, jj, kk] = darker
