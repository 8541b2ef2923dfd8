"""What is known of a spine beside how one slice looks: slices beside each other show nearly the same, and there is one spine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spider_utils.labels import CANAL, DISC, convert

MOST_NEIGHBOURS = 8  # on a side, held in memory; at 1.3 mm only series with slices nearer than 0.4 mm would have more
_CUT = 2.5  # standard deviations after which a neighbour no longer counts
_TOUCHING = np.ones((3, 3, 3), bool)
_DEPTHS = 1.5  # of discs: about 50 mm, also in pictures whose pixels are taken to be of 1 mm because nobody told their size
_CRUMB = 0.2  # of the largest disc: less is none
_CELL_MM = 4.0  # SPIDER leaves endplates and what lies before the canal out, so discs, vertebrae and canal seldom touch


@dataclass(frozen=True)
class Tidy:
    """How the masks of a 2D network's slices become that of a series, and what no spine can be becomes background.

    Attributes:
        across_mm: class probabilities are averaged over neighbouring slices, with weights of a Gaussian of this standard
            deviation. Where slices lie much further apart than this, each stays as it is.
        canal_share: pieces of the spinal canal that have less than this share of the largest one's voxels become background.
        spine_share: the same of pieces of the whole spine, where parts less than about 4 mm apart are one piece. 0 keeps all.
        front_mm: what lies further in front of the line through the discs, and further than one and a half times their depth,
            becomes background, in single slices as well. 0 keeps all. Fat under the skin of the belly, bright between dark muscle
            and dark air, looks like a canal behind bodies to networks of slices; discs they find in a spine alone.
        own_votes: of masks with levels: a factor, so many times as many voxels must ask for other numbers than those counted from
            the lowest part (see measure.levels.one_level_a_part); 1 is a plain majority.

    Raises:
        ValueError: across_mm not from 0 to 10, front_mm not from 0 to 500, own_votes not from 1 to 100, a share not from 0 to 1.
    """

    across_mm: float
    canal_share: float
    spine_share: float = 0.0
    front_mm: float = 0.0
    own_votes: float = 1.0

    def __post_init__(self) -> None:
        limits = {"across_mm": (0, 10), "canal_share": (0, 1), "spine_share": (0, 1), "front_mm": (0, 500), "own_votes": (1, 100)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ValueError(f"{name} of {value!r}")

    @property
    def of_slices(self) -> Tidy:
        """What of it is done to single slices."""
        return Tidy(across_mm=0.0, canal_share=0.0, front_mm=self.front_mm, own_votes=self.own_votes)

    def weights(self, gap_mm: float) -> np.ndarray:
        """Weights of a slice and of its neighbours 1, 2, ... slices away, the first 1; slices are ``gap_mm`` apart."""
        reach = min(int(_CUT * self.across_mm / gap_mm), MOST_NEIGHBOURS)
        away = np.arange(reach + 1) * gap_mm
        return np.exp(-0.5 * (away / max(self.across_mm, 1e-6)) ** 2).astype(np.float32)

    def blended(self, parts: Iterable[np.ndarray], gap_mm: float) -> Iterator[np.ndarray]:
        """Class probabilities averaged over neighbouring slices. At the ends of a series the neighbours that there are count.

        Args:
            parts: float32 (n, classes, rows, columns), all slices of a series in order, a few at a time.
            gap_mm: from slice to slice.

        Yields:
            The same, one slice at a time (1, classes, rows, columns); of slices before and after, no more are held than count.
        """
        weights = self.weights(gap_mm)
        if len(weights) == 1:
            for part in parts:
                yield from part[:, None]
                del part  # before the next is made
            return
        reach, held, first = len(weights) - 1, deque(), 0  # ``first``: number of the first slice that is held
        done = seen = 0
        for one in _singly(parts):
            held.append(one)
            seen += 1
            if seen > done + reach:
                yield _mean(held, done - first, weights)
                done += 1
                if done - first > reach:
                    held.popleft()
                    first += 1
        for index in range(done, seen):
            yield _mean(held, index - first, weights)

    def tidied(self, mask: np.ndarray, scheme: str, spacing_mm: tuple[float, ...]) -> np.ndarray:
        """A copy of a mask (slice, row, column) without what lies far in front of the spine and, where there is more than one
        slice, without small pieces of its canal and then of its spine.

        Args:
            mask: in ``scheme``.
            spacing_mm: of its axes.
        """
        cell = (max(1, round(_CELL_MM / spacing_mm[1])), max(1, round(_CELL_MM / spacing_mm[2])))
        classes, kept = convert(mask, scheme, "structures4"), np.ones(mask.shape, bool)
        if self.front_mm:
            kept &= ~_in_front(classes, self.front_mm, spacing_mm[1:], cell)
        if len(mask) > 1:
            kept &= ~_stray(kept & (classes == CANAL), self.canal_share)
            if self.spine_share:
                kept &= ~_stray(kept & (classes > 0), self.spine_share, cell)
        return np.where(kept, mask, 0).astype(mask.dtype)


def _in_front(classes: np.ndarray, front_mm: float, spacing_mm: tuple[float, ...], cell: tuple[int, int]) -> np.ndarray:
    """Where one is far in front of the line through the discs (see Tidy.front_mm); bool.

    The line goes through the mean column of discs in each row, straight on from row to row between them, and upright above and
    below. Only discs of the piece that has most of them count. It is no line of a spine, and nothing is in front of it, when
    there are fewer than two discs, when they lie beside each other more than one above the other, as in a picture on its side,
    or behind the canal, as in one that is mirrored.

    Args:
        classes: of structures4, (slice, row, column).
        spacing_mm: of rows and columns.
        cell: see _pieces.
    """
    nowhere = np.zeros(classes.shape, bool)
    pieces = _pieces(classes > 0, cell)
    spine = pieces == np.bincount(pieces[classes == DISC], minlength=1).argmax()
    discs, n = ndimage.label(spine & (classes == DISC), _TOUCHING)
    places = [places for places in (_places(discs == one, spacing_mm) for one in range(1, n + 1)) if len(places) > 1]
    large = [one for one in places if len(one) > _CRUMB * max(map(len, places))]
    if len(large) < 2:
        return nowhere
    middles = np.array([one.mean(axis=0) for one in large])
    height, width = np.ptp(middles, axis=0)
    canal = _places(spine & (classes == CANAL), spacing_mm)
    if width > height or (len(canal) and canal[:, 1].mean() < middles[:, 1].mean()):
        return nowhere
    # Of an ellipse the long axis is four standard deviations along it; rows of a disc that is steep would be too short.
    depth = np.median([4 * np.sqrt(np.linalg.eigvalsh(np.cov(one.T))[-1]) for one in large])
    columns = np.arange(classes.shape[2]) * spacing_mm[1]
    marked = (discs > 0).sum(axis=0)
    rows = np.flatnonzero(marked.any(axis=1))
    line = np.interp(np.arange(classes.shape[1]), rows, (marked[rows] @ columns) / marked[rows].sum(axis=1))
    return nowhere | (columns < line[:, None] - max(front_mm, _DEPTHS * depth))


def _places(marked: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Rows and columns, in mm, that are marked in any slice: float (n, 2)."""
    return np.argwhere(marked.any(axis=0)) * np.asarray(spacing_mm)


def _stray(marked: np.ndarray, share: float, cell: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Where pieces of what is marked have less than a share of the largest one's voxels; bool. ``cell``: see _pieces."""
    pieces = _pieces(marked, cell)
    sizes = np.bincount(pieces[marked], minlength=1)
    return marked & (sizes < share * sizes.max())[pieces]


def _pieces(marked: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Numbers of the pieces, from 1, of what is marked, and of background 0 (where a cell has some of a piece, the piece's).

    Args:
        cell: rows and columns of the cells that a slice is parted into. What lies in neighbouring cells is one piece.
    """
    slices, rows, columns = marked.shape
    in_cells = np.logical_or.reduceat(marked, np.arange(0, rows, cell[0]), axis=1)
    in_cells = np.logical_or.reduceat(in_cells, np.arange(0, columns, cell[1]), axis=2)
    pieces, _ = ndimage.label(in_cells, _TOUCHING)
    return pieces.repeat(cell[0], axis=1)[:, :rows].repeat(cell[1], axis=2)[..., :columns]


def _singly(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """One slice after the other, each with memory of its own, so that no part is held for the sake of one of its slices."""
    for part in parts:
        yield from map(np.copy, part)
        del part  # before the next is made


def _mean(held: deque[np.ndarray], index: int, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of a slice that is held and of its neighbours."""
    near = range(max(0, index - len(weights) + 1), min(len(held), index + len(weights)))
    given = [weights[abs(k - index)] for k in near]
    total = sum(w * held[k] for w, k in zip(given, near, strict=True))
    return (total / sum(given))[None]
