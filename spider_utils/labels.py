"""Label schemes: what each mask value means, its colour, and how to convert one scheme into another.

Schemes
-------
``spider``
    as stored in SPIDER's masks (van der Graaf et al., Sci Data 11:264, 2024): 1-25 vertebrae counted from L5 upward, 100
    spinal canal, 101-125 vertebrae only partly in view, 201-225 discs counted from L5/S1 upward.
``levels20``
    the 20 classes of `medfusion` and `unetr`: 0, 1-9 vertebrae, 10 canal, 11-19 discs.
``clamped20``
    what `unetr` made of SPIDER's values for its 20 classes: the smaller of the value and 19. Vertebrae 1-18 stay, everything
    else melts into class 19. Here by name, to show what that does; nothing else should use it.
``structures4``
    the four classes of `ahmed`: background, vertebra, spinal canal, disc.
``axial8``
    tissues of axial slices that `triplanar` outlines (Table 7): 1 disc, 2 hernia, 3 dural sac, 4 articular process, 5
    ligament (ligamentum flavum), 6 spinous process, 7 vertebra.
``released_gray``
    the gray values of the 2D masks that the authors of `ahmed` released: 0, 76, 150, 29.
"""

from __future__ import annotations

import colorsys
import warnings
from dataclasses import dataclass, field

import numpy as np

from spider_utils.arrays import counted, distinct

BACKGROUND = "background"
_VERTEBRA_NAMES = ["L5", "L4", "L3", "L2", "L1"] + [f"T{n}" for n in range(12, 0, -1)] + [f"C{n}" for n in range(7, -1, -1)]


def vertebra_name(number: int) -> str:
    """Name of the vertebra with SPIDER number 1 (L5), 2 (L4), ... in a spine with five lumbar vertebrae."""
    return _VERTEBRA_NAMES[number - 1]


def disc_name(number: int) -> str:
    """Name of the disc with SPIDER number 1 (L5/S1), 2 (L4/L5), ...: upper vertebra first, as in "L4/L5"."""
    return f"{vertebra_name(number)}/{'S1' if number == 1 else vertebra_name(number - 1)}"


class LabelWarning(UserWarning):
    """Some mask values have no class in the target scheme and were turned into background."""


_MOST_LABELS = 60  # more unknown values than that no scheme has that is only the wrong one: it is an image


@dataclass
class ConversionReport:
    """What a conversion could not carry over one to one.

    Attributes:
        dropped: source value -> number of pixels that became background because the target has no class for them.
        partial: source value -> number of pixels of partly visible vertebrae that joined their level.
    """

    dropped: dict[int, int] = field(default_factory=dict)
    partial: dict[int, int] = field(default_factory=dict)

    def add(self, other: ConversionReport) -> None:
        """Add the counts of another report to this one."""
        for mine, theirs in ((self.dropped, other.dropped), (self.partial, other.partial)):
            for value, count in theirs.items():
                mine[value] = mine.get(value, 0) + count

    def __str__(self) -> str:
        def listing(counts: dict[int, int]) -> str:
            return ", ".join(f"{value} ({count} px)" for value, count in sorted(counts.items())) or "none"

        return f"became background: {listing(self.dropped)}; partly visible vertebrae kept: {listing(self.partial)}"


@dataclass(frozen=True)
class LabelScheme:
    """A set of mask values with names and colours.

    Attributes:
        name: the scheme's name.
        names: mask value -> what it is.
        colors: mask value -> (red, green, blue), 0..255. Colour-blind safe: vertebrae are blues, discs oranges, the canal green,
            and neighbouring levels differ in lightness, so that they can be told apart in gray as well.
    """

    name: str
    names: dict[int, str]
    colors: dict[int, tuple[int, int, int]]

    @property
    def values(self) -> tuple[int, ...]:
        """All mask values, ascending, background (0) included."""
        return tuple(sorted(self.names))

    @property
    def foreground(self) -> tuple[int, ...]:
        """All mask values but background, ascending."""
        return self.values[1:]

    @property
    def n_classes(self) -> int:
        """Number of values, background included."""
        return len(self.names)

    def check(self, mask: np.ndarray, found: np.ndarray | None = None) -> None:
        """Raise ValueError when ``mask`` holds a value that the scheme does not know, naming values and counts.

        Args:
            mask: of any shape.
            found: its distinct values (``arrays.distinct``) where they are known already.
        """
        if found is None and mask.size and mask.dtype.kind in "iu":
            found = distinct(mask)
        if found is not None and self.names.keys() >= set(found.tolist()):
            return
        found, counts = counted(mask)
        unknown = {v.item(): int(c) for v, c in zip(found, counts, strict=True) if v not in self.names}
        if unknown:
            shown = ", ".join(f"{value:g} ({count} px)" for value, count in list(unknown.items())[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            hint = (
                "is this an image instead of a mask?" if len(unknown) > _MOST_LABELS else "check that the scheme is the right one"
            )
            raise ValueError(
                f"mask holds values that scheme '{self.name}' does not know: {shown}{more}. "
                f"Known are {_ranges(self.values)}; {hint}"
            )

    def __repr__(self) -> str:
        return f"LabelScheme('{self.name}', {self.n_classes} values: {_ranges(self.values)})"


def _ranges(values: tuple[int, ...]) -> str:
    """(0, 1, 2, 100) -> "0-2, 100"."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _shade(rgb: tuple[int, int, int], level: int) -> tuple[int, int, int]:
    """The same hue, lighter or darker by level, in a cycle of three so that neighbours always differ."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(c / 255 for c in rgb))
    lightness = min(0.85, max(0.2, lightness + (0.0, 0.24, -0.14)[level % 3]))
    return tuple(round(255 * c) for c in colorsys.hls_to_rgb(hue, lightness, saturation))


# Values of "structures4".
VERTEBRA, CANAL, DISC = range(1, 4)
# Values of "axial8".
AXIAL_DISC, AXIAL_HERNIA, AXIAL_SAC, AXIAL_ARTICULAR, AXIAL_LIGAMENT, AXIAL_SPINOUS, AXIAL_VERTEBRA = range(1, 8)

# Okabe & Ito's colour-blind safe palette: blue, bluish green, orange.
_VERTEBRA, _CANAL, _DISC = (0, 114, 178), (0, 158, 115), (230, 159, 0)
_HERNIA, _ARTICULAR, _LIGAMENT, _SPINOUS = (213, 94, 0), (204, 121, 167), (240, 228, 66), (86, 180, 233)
_MELTED = (204, 121, 167)  # reddish purple
_HIGHEST_CLAMPED = 19


def _vertebra_color(number: int) -> tuple[int, int, int]:
    return _shade(_VERTEBRA, number - 1)


def _disc_color(number: int) -> tuple[int, int, int]:
    return _shade(_DISC, number - 1)


def _make_schemes() -> dict[str, LabelScheme]:
    numbers = range(1, 26)
    spider_names = {0: BACKGROUND, 100: "spinal canal"}
    spider_names |= {n: vertebra_name(n) for n in numbers}
    spider_names |= {100 + n: f"{vertebra_name(n)} (partly in view)" for n in numbers}
    spider_names |= {200 + n: f"disc {disc_name(n)}" for n in numbers}
    spider_colors = {0: (0, 0, 0), 100: _CANAL}
    spider_colors |= {n: _vertebra_color(n) for n in numbers}
    spider_colors |= {100 + n: _vertebra_color(n) for n in numbers}
    spider_colors |= {200 + n: _disc_color(n) for n in numbers}

    levels = range(1, 10)
    levels_names = {0: BACKGROUND, 10: "spinal canal"}
    levels_names |= {n: vertebra_name(n) for n in levels} | {10 + n: f"disc {disc_name(n)}" for n in levels}
    levels_colors = {0: (0, 0, 0), 10: _CANAL}
    levels_colors |= {n: _vertebra_color(n) for n in levels} | {10 + n: _disc_color(n) for n in levels}

    clamped = range(1, _HIGHEST_CLAMPED)
    clamped_names = {0: BACKGROUND, _HIGHEST_CLAMPED: "all else"} | {n: vertebra_name(n) for n in clamped}
    clamped_colors = {0: (0, 0, 0), _HIGHEST_CLAMPED: _MELTED} | {n: _vertebra_color(n) for n in clamped}

    four_names = {0: BACKGROUND, VERTEBRA: "vertebra", CANAL: "spinal canal", DISC: "disc"}
    four_colors = {0: (0, 0, 0), VERTEBRA: _VERTEBRA, CANAL: _CANAL, DISC: _DISC}
    axial = {
        0: (BACKGROUND, (0, 0, 0)),
        AXIAL_DISC: ("disc", _DISC),
        AXIAL_HERNIA: ("hernia", _HERNIA),
        AXIAL_SAC: ("dural sac", _CANAL),
        AXIAL_ARTICULAR: ("articular process", _ARTICULAR),
        AXIAL_LIGAMENT: ("ligament", _LIGAMENT),
        AXIAL_SPINOUS: ("spinous process", _SPINOUS),
        AXIAL_VERTEBRA: ("vertebra", _VERTEBRA),
    }
    gray = {value: four for four, value in _GRAY.items()}

    def scheme(name: str, names: dict[int, str], colors: dict[int, tuple[int, int, int]]) -> LabelScheme:
        return LabelScheme(name, dict(sorted(names.items())), dict(sorted(colors.items())))

    return {
        "spider": scheme("spider", spider_names, spider_colors),
        "levels20": scheme("levels20", levels_names, levels_colors),
        "clamped20": scheme("clamped20", clamped_names, clamped_colors),
        "structures4": scheme("structures4", four_names, four_colors),
        "axial8": scheme(
            "axial8",
            {value: name for value, (name, _) in axial.items()},
            {value: color for value, (_, color) in axial.items()},
        ),
        "released_gray": scheme(
            "released_gray",
            {g: four_names[four] for g, four in gray.items()},
            {g: four_colors[four] for g, four in gray.items()},
        ),
    }


_GRAY = {0: 0, 1: 76, 2: 150, 3: 29}  # structures4 -> the released masks' gray values
SCHEMES: dict[str, LabelScheme] = _make_schemes()


def get_scheme(name: str) -> LabelScheme:
    """The label scheme called ``name``. Raises ValueError with the known names for any other."""
    try:
        return SCHEMES[name]
    except KeyError:
        raise ValueError(f"unknown label scheme '{name}'. Known are: {', '.join(SCHEMES)}") from None


def _mapping(source: str, target: str) -> dict[int, int | None]:
    """Source value -> target value; None where the target has no class for it."""
    get_scheme(source), get_scheme(target)
    if source == target:
        return {value: value for value in SCHEMES[source].values}
    if "axial8" in (source, target):
        raise ValueError(f"a mask in scheme '{source}' cannot be converted to '{target}': axial tissues have labels of their own")
    if target == "released_gray" and source != "clamped20":
        return {v: None if t is None else _GRAY[t] for v, t in _mapping(source, "structures4").items()}
    if (source, target) == ("released_gray", "structures4"):
        return {gray: four for four, gray in _GRAY.items()}
    if target == "clamped20" and source in ("spider", "levels20"):
        return {value: min(stored, _HIGHEST_CLAMPED) for value, stored in _mapping(source, "spider").items()}
    if source == "spider":
        mapping: dict[int, int | None] = {}
        for value in SCHEMES["spider"].values:
            kind, number = ("vertebra", value % 100) if value < 200 else ("disc", value - 200)
            if value in (0, 100):
                mapping[value] = {"structures4": 2, "levels20": 10}[target] if value else 0
            elif target == "structures4":
                mapping[value] = 1 if kind == "vertebra" else 3
            else:
                mapping[value] = None if number > 9 else number + (10 if kind == "disc" else 0)
        return mapping
    if source == "levels20" and target == "structures4":
        return {v: 0 if v == 0 else 1 if v < 10 else 2 if v == 10 else 3 for v in SCHEMES["levels20"].values}
    if source == "levels20" and target == "spider":
        return {v: v if v < 10 else 100 if v == 10 else v + 190 for v in SCHEMES["levels20"].values}
    raise ValueError(
        f"a mask in scheme '{source}' cannot be converted to '{target}': it does not say which level each pixel belongs to"
    )


def _integers(mask: np.ndarray) -> np.ndarray:
    """The mask as an array that can index a table. Raises ValueError when it is not integer."""
    mask = np.asarray(mask)
    if mask.dtype.kind not in "iub":
        raise ValueError(f"a mask must hold integers, not {mask.dtype}; round or cast it on purpose first")
    return mask.astype(np.uint8) if mask.dtype == bool else mask


def convert(mask: np.ndarray, source: str, target: str, report: ConversionReport | None = None) -> np.ndarray:
    """Convert a mask from one label scheme to another.

    Partly visible vertebrae (``spider`` 101-125) join their level. A value that the target has no class for (in ``levels20``:
    vertebrae and discs above the ninth) becomes background and is reported: added to ``report`` when one is given,
    else as a LabelWarning. Nothing is wrapped, clipped or clamped, unless the target is ``clamped20``, which is that.

    Args:
        mask: integer array of any shape, values of scheme ``source``.
        source, target: scheme names.
        report: collects what was dropped and which partial vertebrae were kept.

    Returns:
        Array of the same shape; uint8, as every value of every scheme fits in it.

    Raises:
        ValueError: ``mask`` holds values that ``source`` does not know (values and counts are named), is not integer, or
            the target needs levels that the source does not hold.
    """
    mask = _integers(mask)
    mapping = _mapping(source, target)
    SCHEMES[source].check(mask)
    table = np.zeros(max(mapping) + 1, dtype=np.uint8)
    for value, new in mapping.items():
        table[value] = 0 if new is None else new
    counts = np.bincount(mask.reshape(-1).astype(np.intp), minlength=len(table))
    joined = source == "spider" and target not in ("spider", "clamped20")
    found = ConversionReport(
        dropped={v: int(counts[v]) for v, new in mapping.items() if new is None and counts[v]},
        partial={v: int(counts[v]) for v in range(101, 126) if joined and counts[v] and mapping[v]},
    )
    if report is not None:
        report.add(found)
    elif found.dropped:
        warnings.warn(f"'{source}' to '{target}': {found}", LabelWarning, stacklevel=2)
    return table[mask]


def colorize(mask: np.ndarray, scheme: str) -> np.ndarray:
    """RGB picture of a mask: (..., 3) uint8, background black. Raises ValueError on unknown values."""
    chosen, mask = get_scheme(scheme), _integers(mask)
    chosen.check(mask)
    table = np.zeros((max(chosen.values) + 1, 3), dtype=np.uint8)
    for value, color in chosen.colors.items():
        table[value] = color
    return table[mask]
