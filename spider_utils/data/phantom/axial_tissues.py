"""What axial slices show and sagittal ones hardly do, painted over a body, and the tissues that `triplanar` outlines on them.

SPIDER's phantoms stay as they are: this is for sets of axial slices alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from spider_utils.data.phantom.anatomy import Anatomy, Disc, Vertebra
from spider_utils.data.phantom.bones import (
    arch_rods,
    body_distance,
    first_joint_distance,
    hernia_distance,
    spinous_distance,
    wall_distance,
)
from spider_utils.data.phantom.raster import TissueGrid, capsule, ellipsoid
from spider_utils.data.phantom.signal import TISSUE
from spider_utils.data.phantom.soft import CANAL_LABEL, psoas, trace, yellow_ligament
from spider_utils.labels import AXIAL_ARTICULAR as ARTICULAR
from spider_utils.labels import AXIAL_DISC as DISC
from spider_utils.labels import AXIAL_HERNIA as HERNIA
from spider_utils.labels import AXIAL_LIGAMENT as LIGAMENT
from spider_utils.labels import AXIAL_SAC as SAC
from spider_utils.labels import AXIAL_SPINOUS as SPINOUS
from spider_utils.labels import AXIAL_VERTEBRA as VERTEBRA

# The part of a vertebra that each rod of its arch belongs to, in the order of bones.arch_rods: pedicle, lamina, isthmus, upper
# and lower joint process, transverse process. Laminae count with the spinous process that they carry.
_PART_OF_ROD = (VERTEBRA, SPINOUS, ARTICULAR, ARTICULAR, ARTICULAR, VERTEBRA)
_SEAM_MM = 1.0  # a hernia's flanks run into the disc so far beyond its own outline
_CREST_MM = 6.0  # behind the sacrum's body its roof begins
_JOINT_MM = 25.0  # over the sacrum its joint processes end


def paint_axial_detail(grid: TissueGrid, anatomy: Anatomy, discs: Iterable[int]) -> None:
    """Paint both halves of the ligamenta flava from the joints to the midline, and part the muscles beside the spine by fat.

    Sagittal slices near the midline cut a yellow ligament into one short stroke, which is all that build_body paints of it; and
    it lets the muscles of the back begin along a straight line.

    Args:
        grid: from build_body; changed in place.
        anatomy: the patient.
        discs: numbers of the discs whose slices are wanted.
    """
    loose = _loose(grid, anatomy)
    for number in discs:
        disc, bone = anatomy.discs[number - 1], anatomy.vertebrae[number - 1]
        b, c = disc.depth / 2, bone.canal_depth
        box = grid.around(disc.frame, (-90, b - 18, -13), (90, b + c + 26, 13))
        if box is None:
            continue
        u, v, w = grid.local(disc.frame, box)
        side = np.abs(u)
        # Fat reaches backwards between the muscles of the belly and those of the back.
        border = v - np.float32(b + 3) - np.float32(0.55) * np.maximum(side - 24, 0)
        fat = np.maximum(np.maximum(border, np.float32(b - 5) - v), np.float32(22) - side)
        fat += np.float32(1.6) * grid.noise(box, "cloud", disc.texture + 95)
        mix = np.clip(36 + 18 * grid.noise(box, "island", disc.texture + 96), 0, 140)
        grid.paint(box, fat, TISSUE["fat"], mix, where=loose[box], soft=4.0)
        loin = ellipsoid(side, v, 0 * w, (46, b + 7.0, 0), (12, 5.5, 1))  # the square muscle of the loin
        loin += np.float32(0.8) * grid.noise(box, "cloud", disc.texture + 97)
        mix = np.clip(24 + 60 * anatomy.muscle_fat + 14 * grid.noise(box, "fibre", disc.texture + 98), 0, 230)
        grid.paint(box, loin, TISSUE["muscle"], mix, where=loose[box], soft=1.5)
        soft = (grid.label[box] == 0) & np.isin(grid.tissue[box], [TISSUE[k] for k in ("muscle", "fat", "ligament", "nerve")])
        grid.paint(box, flavum_distance(bone, disc, u, v, w), TISSUE["ligament"], 22, where=soft)


def _loose(grid: TissueGrid, anatomy: Anatomy) -> np.ndarray:
    """Where build_body left muscle of the back, belly or fat, bool: no bone or disc, no vessel, no psoas."""
    loose = (grid.label == 0) & np.isin(grid.tissue, [TISSUE["fat"], TISSUE["abdomen"], TISSUE["muscle"]])
    course = trace(grid, anatomy)
    for side in (-1.0, 1.0):
        found = psoas(grid, anatomy, course, side)
        if found is not None:
            loose[found[0]] &= found[1] > 1
    return loose


def flavum_distance(bone: Vertebra, disc: Disc, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Signed distance (mm) to the two plates of a ligamentum flavum: from the joint to the midline, where they meet as a roof."""
    b, c, gap, half = disc.depth / 2, bone.canal_depth, bone.pedicle_gap, disc.flavum / 2
    plate = capsule(np.abs(u), v, np.zeros(1, np.float32), (gap - 0.5, b + 9.0, 0), (0.8, b + c + 3.0, 0), half + 0.4, half)
    return np.maximum(plate, np.abs(w) - np.float32(10))


def axial_labels(grid: TissueGrid, anatomy: Anatomy, discs: Iterable[int]) -> np.ndarray:
    """The tissue that `triplanar` outlines in each voxel: uint8 of the grid's shape, values of the scheme "axial8".

    What the source leaves open, and is chosen here: laminae belong to the spinous process; pedicles, transverse processes and
    the sacrum's body to the vertebra; a hernia is what stands out of the wall that the disc has without it.

    Args:
        grid: from build_body, then paint_axial_detail.
        anatomy: the patient.
        discs: numbers of the discs whose slices are wanted: bones beside others are not looked at.
    """
    out = np.zeros(grid.shape, np.uint8)
    out[grid.label == CANAL_LABEL] = SAC
    out[grid.label > 200] = DISC
    wanted = sorted(set(discs))
    for number in wanted:
        _mark_hernia(out, grid, anatomy.discs[number - 1])
        _mark_ligament(out, grid, anatomy, anatomy.discs[number - 1])
    for bone in anatomy.vertebrae:
        if wanted[0] - 1 <= bone.number <= wanted[-1] + 2:
            _mark_vertebra(out, grid, bone)
    _mark_sacrum(out, grid, anatomy)
    return out


def _places(grid: TissueGrid, where: np.ndarray) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """Indices of the true voxels, and their (right, down, back) in mm."""
    at = np.nonzero(where)
    return at, [grid.coordinates(axis).reshape(-1)[at[axis]] for axis in range(3)]


def _mark_hernia(out: np.ndarray, grid: TissueGrid, disc: Disc) -> None:
    if disc.herniation <= 0:
        return
    at, places = _places(grid, grid.label == 200 + disc.number)
    hernia = in_hernia(disc, *disc.frame.local(*places))
    out[tuple(axis[hernia] for axis in at)] = HERNIA


def in_hernia(disc: Disc, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Whether places within a herniated disc belong to its hernia: those behind the wall that it has without one; bool."""
    return (wall_distance(disc, u, v, w) > 0) & (v > 0) & (hernia_distance(disc, u, v, w) < _SEAM_MM)


def _mark_ligament(out: np.ndarray, grid: TissueGrid, anatomy: Anatomy, disc: Disc) -> None:
    bone, b = anatomy.vertebrae[disc.number - 1], disc.depth / 2
    box = grid.around(disc.frame, (-20, b, -14), (20, b + bone.canal_depth + 14, 14))
    if box is None:
        return
    u, v, w = grid.local(disc.frame, box)
    leaf, pad = yellow_ligament(bone, disc, u, v, w)
    shell = (pad < 0.9) & (v > np.float32(b + bone.canal_depth - 3)) & (np.abs(w) < 10)
    near = (np.minimum(leaf, flavum_distance(bone, disc, u, v, w)) < 0) | shell
    out[box][near & (grid.tissue[box] == TISSUE["ligament"]) & (grid.label[box] == 0)] = LIGAMENT


def _mark_vertebra(out: np.ndarray, grid: TissueGrid, bone: Vertebra) -> None:
    at, places = _places(grid, grid.label == bone.number)
    if not len(at[0]):
        return
    u, v, w = bone.frame.local(*places)
    nearest = {VERTEBRA: body_distance(bone, u, v, w), SPINOUS: spinous_distance(bone, u, v, w)}
    nearest[ARTICULAR] = np.full_like(u, np.inf)
    for part, (start, end, radius, end_radius, wide) in zip(_PART_OF_ROD, arch_rods(bone), strict=True):
        nearest[part] = np.minimum(nearest[part], capsule(np.abs(u), v, w, start, end, radius, end_radius, wide))
    out[at] = np.array(list(nearest), np.uint8)[np.argmin(list(nearest.values()), axis=0)]


def _mark_sacrum(out: np.ndarray, grid: TissueGrid, anatomy: Anatomy) -> None:
    """The sacrum's bone carries no label in the grid; no other bone near lumbar discs is without one."""
    part = anatomy.sacrum[0]
    bone = ((grid.tissue == TISSUE["marrow"]) | (grid.tissue == TISSUE["cortex"])) & (grid.label == 0)
    at, places = _places(grid, bone)
    u, v, w = part.frame.local(*places)
    roof = (v > np.float32(part.depth[0] / 2 + _CREST_MM)) & (np.abs(u) < 16)
    joint = first_joint_distance(anatomy, u, v, w) < 0.5
    kinds = np.where(joint, ARTICULAR, np.where(roof, SPINOUS, VERTEBRA))
    out[at] = np.where(w < np.float32(part.height / 2 + _JOINT_MM), kinds, 0)  # ribs lie far above
