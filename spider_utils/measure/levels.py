"""Which level is which: from a mask of classes (vertebra, canal, disc) to numbered vertebrae and discs, counted from below.

The source ``triplanar`` labels discs after segmentation by keeping the lowest seven, which a disc inside the sacrum upsets.
Here discs and vertebral bodies are laid out along the curve of the spine, where they take turns at a regular distance.
Missing, extra, broken and merged parts are seen as breaks of that rhythm. All lengths are compared with the gap, the distance
from one level to the next in the same patient, so that small and tall patients are alike.

Numbers are SPIDER's: vertebra 1 is the lowest one above the sacrum, disc 201 lies below it. Names such as "L4" assume five
lumbar vertebrae: from a mask of the lumbar spine nobody can tell whether there are four or six.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import ndimage

from spider_utils.labels import CANAL, DISC, SCHEMES, VERTEBRA, LabelWarning, convert, disc_name, vertebra_name
from spider_utils.measure.checks import checked_spacing, refuse_classes
from spider_utils.measure.curve import SpineCurve
from spider_utils.measure.spread import spread

SCHEMES_WITH_LEVELS = ("spider", "levels20")

_CANAL_LABEL, _DISC_LABELS, _MOST_LEVELS = 100, 200, 25  # spider
_ONE_CLASS = {"vertebrae": VERTEBRA, "discs": DISC}
_TOUCHING = np.ones((3, 3, 3), bool)
_SMALLEST = {2: 5.0, 3: 10.0}  # mm2 of a slice, mm3 of a volume: less is noise; a disc's share at the image's edge is more

# Shares of the gap (35 mm in most adults).
_GAP_OF_DISC = 1.05  # gap against the disc's length from front to back
_GAP_OF_BODY = 2.6  # gap against the radius of the largest ball inside a body
_LIKELY_GAPS = (0.65, 1.45)  # of the first guess; outside, a level is missing in between, or a part is doubled
_SLIVER = 0.1  # share of a disc below which a piece beside it is not worth a word
_OFF_CURVE = 0.6  # the middle of a disc or body lies on the curve; that of half a disc is off by a quarter of a gap
_SAME_LEVEL = 0.35  # pieces nearer to each other along the spine are one part; disc and body are half a gap apart
_CORE = 0.12  # erosion that parts bodies which touch at their rims (4 mm)
_THICK_BONE = 0.3  # of the radius of the largest ball inside a mask of vertebrae: arches are mostly thinner
_NO_BODY_MM, _ADULT_GAP_MM = 24.0, 35.0  # a gap below the first is no body's; the second is most adults'
_THICK_DISC = 0.6  # a piece of discs longer than a disc's thickness by this along the spine holds two of them
_BODY_REACH = 0.8  # from the curve to the edge of a body
_SOME_BONE = 0.1  # of a body's volume: so much of it is in view that it counts
_ARCH = 1.0  # laminae and spinous processes begin this far behind the curve,
_ARCH_DROP = (0.3, 0.25)  # lower than their body by the first number there, and by the second more for each gap further back
_SURE = 0.25  # a voxel this near to where its level's arch should be belongs to it
_ARCH_REACH = 2.2  # from the curve to the middle of the furthest spinous process
_SACRAL_DISC = 0.78  # diameter of a disc inside the sacrum against the others: less than this
_SACRAL_DROP, _SACRAL_BEND = 0.25, 0.8  # a sacrum lies below the lowest body by the first, off the curve by less than the second
_SACRAL_BODY = 0.4  # size of a piece of bone below the lowest disc that is no vertebra

_UNUSED, _EMPTY, _UNEVEN, _BESIDE = 3.0, 1.5, 0.3, 0.35  # costs and tolerances of the rhythm, see _Spine.rhythm


class NoLevelsError(ValueError):
    """A mask of the right form in which nothing can be named."""


@dataclass(frozen=True, repr=False)
class LevelResult:
    """A mask with numbered levels.

    Attributes:
        mask: uint8 of the input's shape in scheme "spider": 1, 2, ... vertebrae from below, 100 canal, 201, 202, ... discs from
            below. Vertebrae that the image cuts keep their number here, and are flagged in ``table``.
        table: a row a level and component, from below: ``component`` ("disc", "vertebra"), ``level`` (1 is the lowest),
            ``label`` (value in ``mask``), ``name`` ("L4", "L4/L5"; of a spine with five lumbar vertebrae), centroid
            ``slice_mm``, ``row_mm``, ``column_mm`` (from the first voxel's middle), size (``size_mm3``, of a slice
            ``size_mm2``) and ``flag``: "split" (came in several pieces), "merged" (cut from a piece over several levels),
            "partly visible" (touches the image's upper or lower edge), "filled gap" (nothing is there, but the level counts;
            the centroid is where it should be).
        dropped: what became background: ``component``, centroid, size and ``reason``.
        gap_mm: usual distance from one level to the next along the spine; a guess from one part's size when there is only one.
        notes: what a reader of the numbers must know.
    """

    mask: np.ndarray
    table: pd.DataFrame
    dropped: pd.DataFrame
    gap_mm: float
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> dict[int, str]:
        """Value in ``mask`` -> name, from below: ``{201: "L5/S1", 1: "L5", 202: "L4/L5", ...}``; only what the mask holds."""
        rows = self.table[~self.table["flag"].str.contains("filled gap")]
        return dict(zip(rows["label"].tolist(), rows["name"].tolist(), strict=True))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.mask.shape))
        return "\n  ".join([f"LevelResult({shape}, {self.gap_mm:.1f} mm a level)", *str(self).splitlines()])

    def __str__(self) -> str:
        lines = []
        for kind, plural in (("vertebra", "vertebrae"), ("disc", "discs")):
            rows = self.table[self.table["component"] == kind]
            if len(rows):
                names = [f"{name}{f' ({flag})' if flag else ''}" for name, flag in zip(rows["name"], rows["flag"], strict=True)]
                lines.append(f"{plural} from below: {', '.join(names)}")
        for (kind, reason), rows in self.dropped.groupby(["component", "reason"], sort=False):
            lines.append(f"dropped: {kind}, {reason} ({len(rows)})")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def name_levels(
    mask: np.ndarray,
    spacing_mm: tuple[float, ...],
    scheme: str = "structures4",
    min_size: float | None = None,
    count_from: str = "lowest",
) -> LevelResult:
    """Number vertebrae and discs from below.

    The step after segmentation in the source ``triplanar``. The lowest vertebra in view is taken for the lowest lumbar one, and
    the disc below it is 201: a mask that ends above them counts from what it shows, and ``notes`` says so. Parts are whole:
    a vertebra is body and arch.

    A network that draws levels knows more than the order of parts: it has seen which one is the lowest. With ``count_from``
    "own" the parts are laid out in the same way, and all move together by the number of levels that most of their voxels ask
    for; so one false or missing part at the lower end does not rename all the others. What comes to lie below level 1 is
    dropped.

    Args:
        mask: integers or booleans, (slice, row, column) = (left-right, superior-inferior, anterior-posterior), or one sagittal
            slice (row, column).
        spacing_mm: voxel size in mm along each axis of ``mask``.
        scheme: a label scheme (levels that the mask holds already are numbered anew; ``notes`` says which changed); or "discs"
            or "vertebrae" for a mask in which everything but 0 is that.
        min_size: smaller pieces are dropped: mm3, or mm2 of a slice. 10 mm3 or 5 mm2 when left out.
        count_from: "lowest", the lowest part in view is level 1; or "own", of a scheme with levels: the mask's own numbers say
            which level it is, by majority.

    Returns:
        LevelResult. A mask in which no more can be known than it shows is numbered all the same, and ``notes`` says so: where
        the lowest disc is missing from a mask of discs alone, all numbers are one too low; bone of S1 that is labelled as a
        vertebra in line with L5 takes the number of L5. See docs/results/levels.md for how often it is right.

    Example:
        ``name_levels(predicted_slice, (0.5, 0.5)).names`` gives ``{201: "L5/S1", 1: "L5", ...}`` for a single slice.

    Raises:
        ValueError: wrong shape or spacing, unknown scheme, "own" for a scheme without levels, values that the scheme does not
            know (they are named), classes that are said to be levels, clamped20.
        NoLevelsError: no disc and no vertebra of ``min_size``, nothing with the shape of one, or more than 25 levels.
    """
    if count_from not in ("lowest", "own"):
        raise ValueError(f"count_from must be lowest or own, not '{count_from}'")
    if count_from == "own":
        _check_has_levels(scheme)
    classes, spacing, min_size = _checked(mask, spacing_mm, scheme, min_size)
    own = None
    if scheme in SCHEMES_WITH_LEVELS:
        refuse_classes(np.asarray(mask), scheme)
        own = _own_labels(mask, scheme).reshape(classes.shape)
    spine, painted = _numbered(classes, spacing, min_size, own if count_from == "own" else None)
    table, dropped, out = spine.table(painted), spine.dropped_table(), spine.in_image(painted)
    if np.ndim(mask) == 2:
        table, dropped = (t.drop(columns="slice_mm").rename(columns={"size_mm3": "size_mm2"}) for t in (table, dropped))
    notes = spine.notes() + (() if own is None else _overruled(own, out, count_from == "lowest"))
    return LevelResult(out.reshape(np.shape(mask)), table, dropped, spine.gap, notes)


def _numbered(
    classes: np.ndarray, spacing: np.ndarray, min_size: float, own: np.ndarray | None, own_votes: float = 1.0
) -> tuple[_Spine, np.ndarray]:
    """The parts of what _checked gives, and their crop in scheme "spider"; ``own``: the numbers to count from, or None;
    ``own_votes``: see one_level_a_part."""
    labelled = ndimage.find_objects((classes > 0).astype(np.uint8))[0]
    # A margin of one voxel, so that borders within the image stay borders.
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in labelled)
    spine = _Spine(classes[box], spacing, min_size, np.array([part.start for part in box]), classes.shape)
    spine.find_parts()
    spine.rhythm()
    spine.leave_out_the_sacrum()
    spine.count()
    if own is not None:
        spine.count_as(own[box], own_votes)
    return spine, spine.painted()


def one_level_a_part(mask: np.ndarray, spacing_mm: tuple[float, ...], scheme: str, own_votes: float = 1.0) -> np.ndarray:
    """A network's mask with levels in which each vertebra and each disc carries one number.

    Networks give patches of one vertebra its neighbours' numbers, most of all those that see the whole spine coarsely. Here
    parts are found in the order of the spine, whatever their numbers. Then all of them together get the numbers that most of
    their voxels ask for (with ``own_votes`` 1, as ``name_levels`` with ``count_from="own"``): one part may so get a number that
    few of its own have.

    What is no part of the spine becomes background: crumbs, pieces off its curve, the sacrum; and so do levels that ``scheme``
    has no class for.

    Args:
        mask: as in ``name_levels``, in ``scheme``.
        spacing_mm: voxel size in mm along each axis of ``mask``.
        scheme: "spider" or "levels20".
        own_votes: a factor, at least 1: other numbers than those counted from the lowest part are taken where at least so many
            times as many voxels ask for them; by majority (1) where the picture's lower edge cuts that part. Of use to networks
            that are often in two minds about which level is which, and seldom miss the lowest.

    Returns:
        uint8 of the same shape and scheme. In "spider", vertebrae of which most voxels are said to be cut (101-125) are so as a
        whole. A mask in which nothing can be numbered comes back as it is.

    Raises:
        ValueError: as ``name_levels``, but for masks of classes; or own_votes is less than 1.
    """
    _check_has_levels(scheme)
    if not own_votes >= 1:
        raise ValueError(f"own_votes must be at least 1, not {own_votes!r}")
    mask = np.asarray(mask)
    flat = mask.ndim == 3 and len(mask) == 1  # of a single slice smaller pieces count
    one, spacing_mm = (mask[0], spacing_mm[1:]) if flat else (mask, spacing_mm)
    try:
        # Unlike name_levels this asks not whether these are levels: a poor network's levels may look like classes.
        classes, spacing, min_size = _checked(one, spacing_mm, scheme, None)
        spine, painted = _numbered(classes, spacing, min_size, _own_labels(one, scheme).reshape(classes.shape), own_votes)
    except NoLevelsError:
        return mask.astype(np.uint8)
    named = spine.in_image(painted).reshape(mask.shape)
    if scheme == "spider":
        return _cut_as(mask, named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)  # levels above the scheme's last: there are no classes for them
        return convert(named, "spider", scheme)


def _check_has_levels(scheme: str) -> None:
    if scheme not in SCHEMES_WITH_LEVELS:
        known = " or ".join(SCHEMES_WITH_LEVELS)
        raise ValueError(f"a mask in scheme '{scheme}' has no numbers of its own; this needs {known}")


def _cut_as(mask: np.ndarray, named: np.ndarray) -> np.ndarray:
    """``named`` with the vertebrae as cut ones of which ``mask`` says so by more than half of their voxels."""
    said = named[(mask > _CANAL_LABEL) & (mask <= _CANAL_LABEL + _MOST_LEVELS)]
    cut, all_of_it = (np.bincount(of.reshape(-1), minlength=256) for of in (said, named))
    levels = np.arange(1, _MOST_LEVELS + 1)
    values = np.arange(256, dtype=np.uint8)
    values[levels] += np.where(2 * cut > all_of_it, _CANAL_LABEL, 0).astype(np.uint8)[levels]
    return values[named]


def _own_labels(mask: np.ndarray, scheme: str) -> np.ndarray:
    """A mask with levels in scheme "spider"; cut vertebrae have their number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)  # said when the mask was read
        own = convert(mask, scheme, "spider")
    return np.where((own > _CANAL_LABEL) & (own <= _DISC_LABELS), own - _CANAL_LABEL, own).astype(np.uint8)


def _overruled(own: np.ndarray, out: np.ndarray, from_lowest: bool) -> tuple[str, ...]:
    """A note where levels that the mask had are others now: most of what it called so; counted from the lowest part, also
    whether more than half of all voxels ask for one other start."""
    pairs = np.bincount((own.astype(np.intp) * 256 + out).reshape(-1), minlength=256 * 256).reshape(256, 256)
    others, votes = [], Counter[int]()
    for value in np.flatnonzero(pairs[:, 1:].any(axis=1)):
        new = int(pairs[value, 1:].argmax()) + 1
        if value in (0, _CANAL_LABEL):
            continue
        votes[int(value) - new] += int(pairs[value, new])
        if value != new:
            names = [disc_name(v - _DISC_LABELS) if v > _DISC_LABELS else vertebra_name(v) for v in (int(value), new)]
            others.append(f"{names[0]} is {names[1]} here")
    if not others:
        return ()
    move, count = votes.most_common(1)[0]
    asks = from_lowest and move != 0 and 2 * count > votes.total()
    advice = "; where no sacrum is in view they may be right: --count-from own" if asks else ""
    return (f"the mask's own levels are not kept: {', '.join(others)}{advice}",)


def _checked(
    mask: np.ndarray, spacing_mm: tuple[float, ...], scheme: str, min_size: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Classes (slice, row, column) in structures4, spacing (3,) in mm, least size of a piece in mm3 or mm2."""
    mask = np.asarray(mask)
    spacing = checked_spacing(mask, spacing_mm)
    if scheme in _ONE_CLASS:
        if mask.dtype.kind not in "iub":
            raise ValueError(f"a mask must hold integers, not {mask.dtype}; round or cast it on purpose first")
        classes = np.where(mask != 0, _ONE_CLASS[scheme], 0).astype(np.uint8)
    elif scheme == "clamped20":
        raise ValueError(
            "in scheme 'clamped20' canal, discs and cut vertebrae are one class: no level can be told. Give the mask as it was "
            "before (scheme spider), or predict with another model"
        )
    elif scheme in SCHEMES:
        classes = convert(mask, scheme, "structures4")
    else:
        raise ValueError(f"unknown scheme '{scheme}'. Known are: {', '.join([*SCHEMES, *_ONE_CLASS])}")
    if not ((classes == VERTEBRA) | (classes == DISC)).any():
        raise NoLevelsError("the mask holds no vertebra and no disc: there is nothing to number")
    if min_size is None:
        min_size = _SMALLEST[mask.ndim]
    if mask.ndim == 2:
        classes, spacing = classes[None], np.array([1.0, *spacing])
    return classes, spacing, float(min_size)


@dataclass(frozen=True, eq=False)
class _Part:
    """A disc or the core of a body, or a piece of one.

    ``voxels`` (n, 3) of the crop; ``centre`` (3,) in mm; ``size`` in mm3 or mm2; ``at`` mm along the curve, ``off`` mm from it;
    ``place``: where it stands in the rhythm, 2 k for body k and 2 k - 1 for disc k.
    """

    kind: str
    voxels: np.ndarray
    centre: np.ndarray
    size: float
    at: float = 0.0
    off: float = 0.0
    place: int = 0
    flag: str = ""


def _usual_sizes(parts: list[_Part]) -> dict[str, float]:
    """Kind -> usual size (mm3 or mm2) of its parts, upset neither by many crumbs nor by one giant.

    The median of the parts that are above a tenth of the size that half of all volume is in parts at least as large as.
    """
    usual = {}
    for kind in sorted({part.kind for part in parts}):
        sizes = np.sort([part.size for part in parts if part.kind == kind])
        middle = sizes[np.searchsorted(np.cumsum(sizes), sizes.sum() / 2)]
        usual[kind] = float(np.median(sizes[sizes >= 0.1 * middle]))
    return usual


def _large(parts: list[_Part]) -> list[_Part]:
    """Parts that are not much smaller than usual for their kind."""
    usual = _usual_sizes(parts)
    return [part for part in parts if part.size > 0.3 * usual[part.kind]]


class _Spine:
    """The parts of one mask along one curve. Arrays are cropped to what is labelled; mm count from the crop's first voxel."""

    def __init__(
        self, classes: np.ndarray, spacing: np.ndarray, min_size: float, corner: np.ndarray, full_shape: tuple[int, ...]
    ) -> None:
        self.classes, self.spacing, self.min_size = classes, spacing, min_size
        self.corner, self.full_shape = corner, full_shape
        self.voxel = float(np.prod(spacing))
        self.chain: list[_Part] = []  # one part a place of the rhythm, from below
        self.sacrum: list[_Part] = []  # parts that belong to the sacrum
        self.bodiless = False  # neither discs nor anything as thick as a body
        self.strays: list[_Part] = []  # thick bone off the curve
        self.moved: int | None = None  # by how many levels the mask's own numbers moved all parts, where these were asked
        self._bone_at: np.ndarray | None = None  # mm along the curve of voxels of bodies
        self.bodies: np.ndarray | None = None  # bone before the arches, where canal or discs show where these begin
        self._dropped: list[tuple[_Part, str]] = []

    # ------------------------------------------------------------------------------------------------------------ parts

    def find_parts(self) -> None:
        """Discs and bodies as parts with a place along the curve."""
        self.bones = self._pieces("vertebra", VERTEBRA)
        discs = self._split_off_voxels(self._pieces("disc", DISC), "disc")
        if not discs and not self.bones.any():
            raise NoLevelsError(
                f"every piece of the mask is smaller than {self.min_size:g}: there is nothing to number; check spacing_mm "
                "or give a smaller min_size"
            )
        self.witnessed = bool(self.bones.any())
        self.gap = self._guess_gap(discs)
        if not self.gap:
            raise NoLevelsError("the discs of the mask are no longer than a voxel from front to back: there is nothing to number")
        cores = self._cores(discs)
        if not discs and not cores:
            raise NoLevelsError("no bone has the shape of a vertebra: there is nothing to number")
        parts = self._on_curve([*discs, *cores])
        if not parts:
            raise NoLevelsError(
                "no piece of the mask lies in line with others, as discs and bodies do: there is nothing to number"
            )
        self.gap = self._measure_gap(parts)
        extents = [np.ptp(self._extent(part)) for part in _large([part for part in parts if part.kind == "disc"])]
        self.thickness = min(float(np.median(extents)), 0.4 * self.gap) if extents else 0.0
        self.parts = self._joined([piece for part in parts for piece in self._cut(part)])

    def _pieces(self, kind: str, value: int) -> np.ndarray:
        """Connected pieces of a class, numbered from 1, without crumbs: what is smaller than any real part is noise."""
        pieces, count = ndimage.label(self.classes == value, _TOUCHING)
        sizes = np.bincount(pieces.reshape(-1), minlength=count + 1) * self.voxel
        small = sizes < self.min_size
        small[0] = False
        for part in self._split_off_voxels(np.where(small[pieces], pieces, 0), kind):
            self._drop(part, "crumb")
        return np.where(small[pieces], 0, pieces)

    def _split_off_voxels(self, pieces: np.ndarray, kind: str) -> list[_Part]:
        """One part for each number in ``pieces``."""
        found = []
        for number, box in enumerate(ndimage.find_objects(pieces), start=1):
            if box is not None:
                found.append(self._part(kind, np.argwhere(pieces[box] == number) + [part.start for part in box]))
        return found

    def _part(self, kind: str, voxels: np.ndarray) -> _Part:
        return _Part(kind, voxels, voxels.mean(axis=0) * self.spacing, len(voxels) * self.voxel)

    def _drop(self, part: _Part, reason: str) -> None:
        self._dropped.append((part, reason))

    def _length(self, part: _Part) -> float:
        """Length (mm) in the sagittal plane along the longer axis; 4 standard deviations, as of an ellipse."""
        spread = np.cov((part.voxels[:, 1:] * self.spacing[1:]).T) if len(part.voxels) > 1 else np.zeros((2, 2))
        return 4 * float(np.sqrt(max(np.linalg.eigvalsh(spread)[-1], 0.0)))

    def _diameter(self, part: _Part) -> float:
        """Mean (geometric) of length and width (mm) of a disc; its length where one slice shows it."""
        if np.ptp(part.voxels[:, 0]) == 0:
            return self._length(part)
        spread = np.linalg.eigvalsh(np.cov((part.voxels * self.spacing).T))
        return 4 * float(np.prod(np.sqrt(np.clip(spread[1:], 0, None))) ** 0.5)

    def _guess_gap(self, discs: list[_Part]) -> float:
        """Gap (mm) from the size of parts alone: discs are about as long from front to back as levels are apart."""
        if discs:
            return _GAP_OF_DISC * float(np.median([self._length(disc) for disc in _large(discs)]))
        gap = _GAP_OF_BODY * float(self._depth_inside(self.bones > 0).max())
        self.bodiless = gap < _NO_BODY_MM  # a slice at the side, through processes alone
        return _ADULT_GAP_MM if self.bodiless else gap

    def _depth_inside(self, region: np.ndarray) -> np.ndarray:
        """Distance (mm) from each voxel of a region to its border. The image's edge is no border: what it cuts goes on."""
        return ndimage.distance_transform_edt(region, sampling=self.spacing)

    def _cores(self, discs: list[_Part]) -> list[_Part]:
        """Inner parts of vertebral bodies, one a body where bodies do not merge.

        Bodies lie before the canal, or before a line through the back edges of the discs; what lies behind it are arches. In
        a mask of vertebrae alone the bodies are what is thick.
        """
        if not self.witnessed:
            return []
        wall = self._back_wall(discs)
        if self.bodiless:
            self.core_depth = 0.0
            return self._split_off_voxels(self.bones, "vertebra")
        if wall is None:
            depth = self._depth_inside(self.bones > 0)
            self.core_depth = _THICK_BONE * float(depth.max())
        else:
            columns = np.arange(self.classes.shape[2]) * self.spacing[2]
            self.bodies = (self.bones > 0) & (columns[None, None, :] < wall[None, :, None])
            if not self.bodies.any():
                self.core_depth = 0.0  # arches alone
                return [] if discs else self._split_off_voxels(self.bones, "vertebra")
            depth = self._depth_inside(self.bodies)
            self.core_depth = min(_CORE * self.gap, 0.5 * float(depth.max()))
        pieces, _ = ndimage.label(depth > self.core_depth)
        return self._split_off_voxels(pieces, "vertebra")

    def _back_wall(self, discs: list[_Part]) -> np.ndarray | None:
        """Column (mm) for each row behind which no body reaches; None when neither canal nor two discs show it."""
        rows, columns = np.nonzero((self.classes == CANAL).any(axis=0))
        if len(rows):
            seen, first = np.unique(rows, return_index=True)  # nonzero lists columns of a row in order: the first is the front
            known, wall = seen * self.spacing[1], columns[first] * self.spacing[2]
            reach = max(1, round(0.25 * self.gap / self.spacing[1]))
            wall = ndimage.median_filter(wall, 2 * reach + 1, mode="nearest")
        elif len(discs) > 1:
            # The back edge of a disc: the middle of its hindmost tenth.
            edges = []
            for disc in discs:
                hind = disc.voxels[disc.voxels[:, 2] >= np.quantile(disc.voxels[:, 2], 0.9)]
                edges.append(hind.mean(axis=0) * self.spacing)
            edges = np.array(sorted(edges, key=lambda edge: edge[1]))
            known, wall = edges[:, 1], edges[:, 2] + 0.1 * self.gap
        else:
            return None
        return np.interp(np.arange(self.classes.shape[1]) * self.spacing[1], known, wall)

    def _on_curve(self, parts: list[_Part]) -> list[_Part]:
        """Parts with their place along the curve, from below; what lies off it is no disc and no body."""
        usual = _usual_sizes(parts)
        weights = np.array([min(1.0, np.sqrt(part.size / usual[part.kind])) for part in parts])
        centres = np.array([part.centre for part in parts])
        self.curve = SpineCurve(centres, weights, 0.5 * self.gap)
        along, off = self.curve.project(centres)
        placed = []
        for part, at, away in zip(parts, along, off, strict=True):
            part = replace(part, at=float(at), off=float(away))
            if away < _OFF_CURVE * self.gap:
                placed.append(part)
            elif part.kind == "disc":
                self._drop(part, "off the curve of the spine")
            else:  # part of an arch, or of the sacrum
                self.strays.append(part)
        return sorted(placed, key=lambda part: part.at)

    def _measure_gap(self, parts: list[_Part]) -> float:
        """Median distance (mm) of neighbours of one kind, without those that are too near or too far for the first guess."""
        steps = []
        for kind in ("disc", "vertebra"):
            at = [part.at for part in _large([part for part in parts if part.kind == kind])]
            steps += [step for step in np.diff(at) if _LIKELY_GAPS[0] < step / self.gap < _LIKELY_GAPS[1]]
        return float(np.median(steps)) if steps else self.gap

    def _extent(self, part: _Part) -> np.ndarray:
        """(lowest, highest) mm of a part along the curve, without its outermost voxels."""
        return np.quantile(self.curve.project(part.voxels * self.spacing)[0], (0.02, 0.98))

    def _cut(self, part: _Part) -> list[_Part]:
        """A part over several levels in pieces, one a level; else the part itself.

        Discs that are merged end half a thickness beyond their outermost middles, bodies half a height; the middles are evenly
        spaced, and each voxel goes to the nearest one along the curve.
        """
        low, high = self._extent(part)
        if part.kind == "disc":
            over = (high - low - self.thickness) / self.gap
            count = 1 if over < _THICK_DISC else 1 + max(1, round(over))
            ends = low + self.thickness / 2, high - self.thickness / 2
        else:
            count = max(1, round((high - low + 2 * self.core_depth) / self.gap - 0.1))
            half = (high - low + 2 * self.core_depth) / (2 * count) - self.core_depth
            ends = low + half, high - half
        if count == 1:
            return [part]
        middles = np.linspace(*ends, count)
        along = self.curve.project(part.voxels * self.spacing)[0]
        nearest = np.abs(along[:, None] - middles).argmin(axis=1)
        pieces = [(self._part(part.kind, part.voxels[nearest == k]), at) for k, at in enumerate(middles) if (nearest == k).any()]
        return [replace(piece, at=float(at), off=part.off, flag="merged") for piece, at in pieces]

    def _joined(self, parts: list[_Part]) -> list[_Part]:
        """Pieces of one kind at one place along the curve as one part: a broken disc is still one disc."""
        whole: list[_Part] = []
        for part in sorted(parts, key=lambda part: -part.size):
            near = [
                k for k, other in enumerate(whole) if other.kind == part.kind and abs(other.at - part.at) < _SAME_LEVEL * self.gap
            ]
            if not near:
                whole.append(part)
                continue
            k = min(near, key=lambda k: abs(whole[k].at - part.at))
            old = whole[k]
            if part.kind == "vertebra" and np.linalg.norm(part.centre - old.centre) > _OFF_CURVE * self.gap:
                self.strays.append(part)  # beside a body, not part of it
                continue
            at, off = (
                (old.size * x + part.size * y) / (old.size + part.size) for x, y in ((old.at, part.at), (old.off, part.off))
            )
            broken = part.kind == "disc" and part.size > _SLIVER * old.size  # slivers come off every disc's rim
            flag = ", ".join(sorted({*filter(None, (old.flag, part.flag)), *(["split"] if broken else [])}))
            whole[k] = replace(self._part(part.kind, np.concatenate([old.voxels, part.voxels])), at=at, off=off, flag=flag)
        return sorted(whole, key=lambda part: part.at)

    # ----------------------------------------------------------------------------------------------------------- rhythm

    def rhythm(self) -> None:
        """Choose the parts that stand in the spine's rhythm, and how many levels lie between them.

        Body, disc, body, disc: half a gap from one to the next. The chain of parts is chosen that costs least: a part left out
        costs up to 3 by its size, a distance that is uneven costs the square of its error over 0.3 half gaps, a part that is not
        there 1.5, and a part beside the curve the square of its distance over 0.35 gaps. So a gap of double length counts as
        a missing level, and a false piece between two discs fits nowhere and is left out.
        """
        parts = self.parts
        usual = _usual_sizes(parts)
        # Where the image cuts a part, its size and its middle say nothing against it.
        cut = [self._is_cut(part.voxels[:, 1]) for part in parts]
        gain = [
            _UNUSED
            if edge
            else _UNUSED * min(1.0, (part.size / usual[part.kind]) ** 0.5) - (part.off / (_BESIDE * self.gap)) ** 2
            for part, edge in zip(parts, cut, strict=True)
        ]
        best: list[tuple[float, int, int]] = []  # gain of the best chain that ends here, the part before, half gaps to it
        for j, upper in enumerate(parts):
            options = [(gain[j], -1, 0)]
            for i, lower in enumerate(parts[:j]):
                halves = 2 * (upper.at - lower.at) / self.gap
                for steps in range(1 if upper.kind != lower.kind else 2, 12, 2):
                    between = (steps - 1) // 2 if upper.kind != lower.kind else steps // 2
                    other = "vertebra" if lower.kind == "disc" else "disc"
                    empty = {other: between, lower.kind: steps - 1 - between}
                    if self._bone_between(lower, upper, empty["vertebra"]):
                        empty["vertebra"] = 0
                    missing = sum(count for kind, count in empty.items() if kind in usual)
                    uneven = _UNEVEN * (2 if cut[i] or cut[j] else 1)
                    cost = (halves - steps) ** 2 / (uneven**2 * steps) + _EMPTY * missing
                    options.append((best[i][0] + gain[j] - cost, i, steps))
            best.append(max(options, key=lambda option: option[0]))
        k = max(range(len(parts)), key=lambda k: best[k][0])
        place = 0  # counted downwards from the uppermost part; see count
        while k >= 0:
            self.chain.insert(0, replace(parts[k], place=place))
            _, before, steps = best[k]
            k, place = before, place - steps

    def _bone_between(self, lower: _Part, upper: _Part, bodies: int) -> bool:
        """Whether so many bodies may lie between two parts: a body that the image shows a little of may have no core."""
        if self.bodies is None or not bodies:
            return False
        if self._bone_at is None:  # every fifth voxel tells enough
            voxels = np.argwhere(self.bodies)[::5]
            along, off = self.curve.project(voxels * self.spacing)
            self._bone_at = np.sort(along[off < _BODY_REACH * self.gap])
            self._bone_of_level = len(self._bone_at) / max(1.0, np.ptp(self._bone_at) / self.gap) if len(self._bone_at) else 0.0
        low, high = np.searchsorted(self._bone_at, (lower.at + self.thickness, upper.at - self.thickness))
        return high - low > _SOME_BONE * self._bone_of_level * bodies

    def leave_out_the_sacrum(self) -> None:
        """Take pieces of the sacrum from the lower end: neither its bone nor its discs are numbered in SPIDER."""
        bodies = [part for part in self.chain if part.kind == "vertebra"]
        usual = _usual_sizes(bodies).get("vertebra", 0.0)
        unused = [
            part for part in self.parts if part.kind == "vertebra" and not any(part.voxels is other.voxels for other in bodies)
        ]
        for part in [*self.strays, *unused] if bodies else []:
            # As thick as a body, below them all, and out of their rhythm: the spine bends backwards at the sacrum.
            below = part.centre[1] > bodies[0].centre[1] + _SACRAL_DROP * self.gap and part.off < _SACRAL_BEND * self.gap
            if below and part.size > _SACRAL_BODY * usual:
                self.sacrum.append(part)
                self._drop(part, "piece of the sacrum")
        if len(self.chain) > 2 and self.chain[0].kind == "vertebra" and self.chain[1].kind == "disc":
            # Bone below the lowest disc that is much smaller than a body is the sacrum's upper edge, unless the image cuts it.
            first = self.chain[0]
            if first.size < _SACRAL_BODY * usual and not self._touches_lower_edge(first):
                self._leave_out(first.at, "piece of the sacrum")
        while len(self.chain) > 2 and self._is_disc_of_sacrum(*self.chain[:2]):
            # Two discs with no vertebra between them, the lower one small: it lies between the sacrum's first two pieces.
            self._leave_out(self.chain[0].at, "disc inside the sacrum")

    def _is_disc_of_sacrum(self, lower: _Part, upper: _Part) -> bool:
        alone = lower.kind == upper.kind == "disc" and not self._bone_between(lower, upper, 1)
        return alone and self._is_small(lower)

    def _is_small(self, part: _Part) -> bool:
        """Whether a disc is too small, seen from above, to lie under a vertebra. Degeneration thins discs, and spares this."""
        others = [self._diameter(other) for other in self.chain if other.kind == "disc" and other is not part]
        return part.kind == "disc" and bool(others) and self._diameter(part) < _SACRAL_DISC * float(np.median(others))

    def _leave_out(self, up_to: float, reason: str) -> None:
        for part in self.chain:
            if part.at <= up_to:
                self.sacrum.append(part)
                self._drop(part, reason)
        self.chain = [part for part in self.chain if part.at > up_to]

    def _touches_lower_edge(self, part: _Part) -> bool:
        return bool(part.voxels[:, 1].max() + self.corner[1] >= self.full_shape[1] - 1)

    # ----------------------------------------------------------------------------------------------------------- numbers

    def count(self) -> None:
        """Turn places into levels: the lowest body is vertebra 1 (place 2), a disc below all bodies is disc 1 (place 1)."""
        shift = (1 if self.chain[0].kind == "disc" else 2) - self.chain[0].place
        self.chain = [replace(part, place=part.place + shift) for part in self.chain]
        self._refuse_many()
        taken = {id(part.voxels) for part in [*self.chain, *self.sacrum]}
        for part in self.parts:
            if part.kind == "disc" and id(part.voxels) not in taken:
                inside = part.at < self.chain[0].at and self._is_small(part)
                self._drop(part, "disc inside the sacrum" if inside else "no place between the levels")

    def count_as(self, own: np.ndarray, own_votes: float) -> None:
        """Move all parts by the number of levels that most of their voxels ask for, where ``own_votes`` times as many do as for
        no move.

        Of equal votes the least move wins, and of those the one up, as it leaves nothing out.

        ``own``: the crop in scheme "spider". What comes to lie below level 1 is left out.
        """
        votes: Counter[int] = Counter()
        for part in self.chain:
            labels = own[tuple(part.voxels.T)].astype(int) - (_DISC_LABELS if part.kind == "disc" else 0)
            labels = labels[(labels > 0) & (labels <= _MOST_LEVELS)]  # no class changes, so these are levels of the part's kind
            votes.update((labels - (part.place + 1) // 2).tolist())
        best = min(votes, key=lambda move: (-votes[move], abs(move), -move), default=0)
        # Where the picture ends in the lowest part, nothing says that it is L5.
        needed = 1.0 if self._touches_lower_edge(self.chain[0]) else own_votes
        self.moved = best if votes[best] >= needed * votes[0] else 0
        self.chain = [replace(part, place=part.place + 2 * self.moved) for part in self.chain]
        below = [part.at for part in self.chain if part.place < 1]
        if below:
            self._leave_out(max(below), "below level 1 by the mask's own numbers")
        self._refuse_many()

    def _refuse_many(self) -> None:
        if self.chain[-1].place > 2 * _MOST_LEVELS:
            raise NoLevelsError(
                f"the mask seems to hold more than {_MOST_LEVELS} levels; check spacing_mm and the order of the axes"
            )

    def _where(self, places: np.ndarray) -> np.ndarray:
        """mm along the curve of places, also of those where nothing was found."""
        known, at = np.array([(part.place, part.at) for part in self.chain], dtype=float).T
        inside = np.interp(places, known, at)
        return inside + (places - np.clip(places, known[0], known[-1])) * self.gap / 2

    def painted(self) -> np.ndarray:
        """The crop in scheme "spider"."""
        out = np.where(self.classes == CANAL, _CANAL_LABEL, 0).astype(np.uint8)
        for part in self.chain:
            if part.kind == "disc":
                out[tuple(part.voxels.T)] = _DISC_LABELS + (part.place + 1) // 2
        out[self.bones > 0] = self._paint_bones()
        return out

    def in_image(self, painted: np.ndarray) -> np.ndarray:
        """The crop at its place in an image of the mask's shape."""
        out = np.zeros(self.full_shape, painted.dtype)
        out[tuple(slice(first, first + n) for first, n in zip(self.corner, painted.shape, strict=True))] = painted
        return out

    def _paint_bones(self) -> np.ndarray:
        """Level of each voxel of ``self.bones > 0``, in that order.

        Voxels go to the body that is nearest along a way through bone: arches hang on their own body by the pedicles, and
        touch their neighbours' only at the joints further back.
        """
        inside = self.bones > 0
        seeds = np.full(self.classes.shape, -1, np.int16)  # level; 0 is the sacrum
        voxels = np.argwhere(inside)
        level, error, back = self._arch_levels(voxels)
        bodies, sacrum = ([part for part in parts if part.kind == "vertebra"] for parts in (self.chain, self.sacrum))
        of_bodies, of_sacrum = (np.unique([self.bones[tuple(part.voxels[0])] for part in parts]) for parts in (bodies, sacrum))
        no_arch = np.isin(self.bones[inside], np.setdiff1d(of_sacrum, of_bodies))  # the sacrum alone
        sure = (back > _ARCH) & (back < _ARCH_REACH) & (error < _SURE) & ~no_arch
        seeds[tuple(voxels[sure].T)] = level[sure]
        for part in sacrum:
            seeds[tuple(part.voxels.T)] = 0
        for part in bodies:
            seeds[tuple(part.voxels.T)] = part.place // 2
        painted = spread(inside, seeds, self.spacing)
        for piece in self._split_off_voxels(np.where(painted < 0, self.bones, 0), "vertebra"):
            painted[tuple(piece.voxels.T)] = self._level_of_loose_bone(piece)
        return painted[inside]

    def _arch_levels(self, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For bone voxels (n, 3), by height alone: level; gaps from where that level should be; gaps behind the curve."""
        points = voxels * self.spacing
        places, at = np.array([(part.place, part.at) for part in self.chain], dtype=float).T
        along = self.curve.project(points)[0]
        height = np.interp(along, at, places) + (along - np.clip(along, at[0], at[-1])) * 2 / self.gap
        back = (points[:, 2] - self.curve.at_rows(points[:, 1])[:, 2]) / self.gap
        drop = np.where(back > _ARCH, _ARCH_DROP[0] + _ARCH_DROP[1] * (back - _ARCH), 0.0)
        wanted = height / 2 + drop
        level = np.clip(np.rint(wanted), 1, (self.chain[-1].place + 1) // 2).astype(int)
        return level, np.abs(wanted - level), back

    def _level_of_loose_bone(self, piece: _Part) -> np.ndarray | int:
        """Level of a piece of bone that hangs on no body in view, such as a transverse process in a single slice."""
        level, error, back = self._arch_levels(piece.voxels)
        far = (error > 1) | (np.median(back) > _ARCH_REACH)
        if far.any():
            self._drop(self._part("vertebra", piece.voxels[far]), "far from every body")
        return np.where(far, 0, level).astype(np.int16)

    # ----------------------------------------------------------------------------------------------------------- tables

    def table(self, painted: np.ndarray) -> pd.DataFrame:
        """See LevelResult.table."""
        flags = {part.place: part.flag for part in self.chain}
        counts = np.bincount(painted.reshape(-1), minlength=256)
        sums = [
            np.bincount(painted.reshape(-1), np.broadcast_to(i, painted.shape).reshape(-1), 256)
            for i in np.indices(painted.shape, sparse=True)
        ]
        kinds = {part.kind for part in self.chain}
        rows = []
        for place in range(1 + 2 * max(0, self.moved or 0), self.chain[-1].place + 2):
            kind, level = ("disc", (place + 1) // 2) if place % 2 else ("vertebra", place // 2)
            label = level + (_DISC_LABELS if kind == "disc" else 0)
            if not counts[label] and (kind not in kinds or place > self.chain[-1].place):
                continue
            flag = [flags.get(place, "")] if counts[label] else ["filled gap"]
            if counts[label]:
                centre = np.array([total[label] / counts[label] for total in sums]) * self.spacing
                if self._is_cut(np.flatnonzero((painted == label).any(axis=(0, 2)))):
                    flag.append("partly visible")
            else:
                centre = self.curve.at(float(self._where(np.array([place]))[0]))
            rows.append(
                {
                    "component": kind,
                    "level": level,
                    "label": label,
                    "name": vertebra_name(level) if kind == "vertebra" else disc_name(level),
                    **self._centroid(centre),
                    "size_mm3": round(counts[label] * self.voxel, 1),
                    "flag": ", ".join(filter(None, flag)),
                }
            )
        return pd.DataFrame(rows)

    def _is_cut(self, rows: np.ndarray) -> bool:
        """Whether something in these rows of the crop may be cut by the image's upper or lower edge."""
        return bool(rows.min() + self.corner[1] == 0 or rows.max() + self.corner[1] == self.full_shape[1] - 1)

    def _centroid(self, centre: np.ndarray) -> dict[str, float]:
        in_image = centre + self.corner * self.spacing
        return {f"{axis}_mm": round(float(x), 1) for axis, x in zip(("slice", "row", "column"), in_image, strict=True)}

    def dropped_table(self) -> pd.DataFrame:
        """See LevelResult.dropped."""
        rows = [
            {"component": part.kind, **self._centroid(part.centre), "size_mm3": round(part.size, 1), "reason": reason}
            for part, reason in self._dropped
        ]
        return pd.DataFrame(rows, columns=["component", "slice_mm", "row_mm", "column_mm", "size_mm3", "reason"])

    def notes(self) -> tuple[str, ...]:
        """See LevelResult.notes."""
        notes = []
        if self.moved:
            way, s = "lower" if self.moved > 0 else "higher", "s" if abs(self.moved) > 1 else ""
            notes.append(
                f"the mask's own numbers begin the count; from the lowest part all would be {abs(self.moved)} level{s} {way}"
            )
        from_lowest = self.moved is None
        if from_lowest and self._touches_lower_edge(self.chain[0]):
            notes.append("the lowest part touches the lower edge of the image: levels are counted from the lowest one in view")
        if self.bodiless:
            notes.append(
                f"no vertebral body is in view: levels were taken to be about {_ADULT_GAP_MM:g} mm apart, and may be wrong"
            )
        if not self.witnessed:
            notes.append("there are discs alone: whether the lowest one lies above the sacrum cannot be seen")
        elif from_lowest and self.chain[0].kind == "vertebra" and any(part.kind == "disc" for part in self.chain):
            notes.append("there is no disc below the lowest vertebra, which is taken for the lowest lumbar one")
        return tuple(notes)
