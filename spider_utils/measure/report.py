"""Everything that can be measured on a labelled lumbar spine, as one table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from spider_utils.labels import SCHEMES, convert, disc_name, vertebra_name
from spider_utils.measure.alignment import lordosis, meyerding_grade, slip
from spider_utils.measure.canal import CanalAxis, narrowest_diameter, sac_area, sac_diameter
from spider_utils.measure.checks import checked_spacing, refuse_classes
from spider_utils.measure.discs import (
    Space,
    disc_angle,
    disc_depth,
    disc_height_index,
    disc_heights,
    space_between,
    without_slid_hernia,
)
from spider_utils.measure.geometry import Block, Endplate, NotMeasurable, body_block
from spider_utils.measure.herniation import Overhang, displacement, overhang
from spider_utils.measure.sheet import CANAL, DISCS, Part, Spine, body_of
from spider_utils.measure.signal import signal_ratios
from spider_utils.measure.vertebrae import body_depth, body_heights, body_wedge

COLUMNS = ("level", "label", "quantity", "value", "unit", "status")
MEASURED = "measured"
_SIDE_MM = 12.0  # hernias are looked for so far to either side of the midline
_BESIDE_MM = (6.0, 14.0)  # planes so far to either side show the disc's face without a hernia of the midline
_SPINE = "spine"  # level of what belongs to no single one

UNITS = {
    "body height anterior": "mm", "body height middle": "mm", "body height posterior": "mm", "body depth": "mm",
    "body wedge": "deg", "canal diameter at the body": "mm", "canal area at the body": "mm2",
    "disc height anterior": "mm", "disc height middle": "mm", "disc height posterior": "mm", "disc height index": "1",
    "disc depth": "mm", "disc width": "mm", "disc angle": "deg", "segment angle": "deg", "slip": "mm", "slip grade": "1",
    "canal diameter": "mm", "canal diameter narrowest": "mm", "canal area": "mm2",
    "overhang": "mm", "bulge": "mm", "bulging": "1", "herniated": "1", "hernia width": "mm",
    "hernia top slice": "mm", "hernia top row": "mm", "hernia top column": "mm",
    "disc signal over fluid": "1", "disc signal over marrow": "1",
    "lordosis L1 to L5": "deg", "lordosis L1 to S1": "deg",
}  # fmt: skip


def measure(
    mask: np.ndarray, spacing_mm: tuple[float, ...], image: np.ndarray | None = None, scheme: str = "spider"
) -> pd.DataFrame:
    """Measure a labelled spine in mm and degrees.

    In a volume all but areas, widths and hernias is measured on the mid-sagittal sheet (see measure.sheet), whatever the
    spine's curve and turn; a single slice is taken to be mid-sagittal. Each quantity's definition and source stand with its
    function in measure.vertebrae, discs, alignment, canal, herniation and signal. (Of the sources, Frobin 1997, Meyerding's
    grades, Fardon 2014 and Steurer 2011 were looked up in abstracts and reviews; the others are cited from memory.) L1 is
    vertebra 5, as in a spine with five lumbar vertebrae.

    Args:
        mask: integers, (slice, row, column) = (left-right, superior-inferior, anterior-posterior), or one sagittal slice (row,
            column), with levels: masks of classes go through ``name_levels`` first.
        spacing_mm: voxel size in mm along each axis of ``mask``.
        image: of the same shape, for the discs' signal; those rows are left out without one.
        scheme: "spider" or "levels20".

    Returns:
        A row a level and quantity, levels from below: ``level`` ("L4/L5", "L4", "spine"), ``label`` (mask value; 0 for the
        spine), ``quantity`` (keys of UNITS), ``value``, ``unit``, ``status``: "measured", or "not measurable: " and why; only
        then ``value`` is NaN. "bulging" and "herniated" are 0 or 1; "hernia width" and "hernia top" rows (mm from the first
        voxel's middle) are there for herniated discs alone.

    Raises:
        ValueError: wrong shape or spacing, an image of another shape, a scheme without levels, values that it does not know,
            classes that are said to be levels.
    """
    return Report(*checked(mask, spacing_mm, image, scheme)).table()


def checked(
    mask: np.ndarray, spacing_mm: tuple[float, ...], image: np.ndarray | None, scheme: str
) -> tuple[Spine, np.ndarray | None]:
    """Arguments of ``measure`` as a volume in scheme "spider" and its image. Raises ValueError as there."""
    mask = np.asarray(mask)
    spacing = checked_spacing(mask, spacing_mm)
    if scheme not in ("spider", "levels20"):
        known = "unknown" if scheme not in SCHEMES else "without levels"
        raise ValueError(
            f"scheme '{scheme}' is {known}: give spider or levels20, or number the levels first, with `spider-kit levels`"
        )
    if image is not None and np.shape(image) != mask.shape:
        raise ValueError(f"image of shape {np.shape(image)} does not fit a mask of shape {mask.shape}")
    labels = convert(mask, scheme, "spider")
    refuse_classes(mask, scheme)
    if mask.ndim == 2:
        labels, spacing = labels[None], np.array([1.0, *spacing])
    image = None if image is None else np.asarray(image, dtype=np.float32).reshape(labels.shape)
    return Spine(labels, spacing, len(labels) == 1), image


class Report:
    """Parts of one spine on its sheet, and the rows of its table."""

    def __init__(self, spine: Spine, image: np.ndarray | None) -> None:
        found = np.flatnonzero(np.bincount(spine.mask.reshape(-1), minlength=256))
        partial = [int(v) - CANAL for v in found if CANAL < v <= DISCS]
        # Vertebrae that the picture cuts are measured where they are seen.
        whole = np.where((spine.mask > CANAL) & (spine.mask <= DISCS), spine.mask - CANAL, spine.mask)
        self.spine, self.image = Spine(whole, spine.spacing, spine.flat), image
        self.partial = frozenset(partial)
        self.bones = sorted({int(v) for v in found if 0 < v < CANAL} | set(partial))
        self.discs = [int(v) - DISCS for v in found if v > DISCS]
        self.rows: list[dict] = []
        self.canal = self.spine.part(CANAL)
        self.axis = CanalAxis(self.canal) if self.canal else None
        self.body_parts = {number: self._body_part(number) for number in self.bones}
        self.bodies = {number: self._block(number, part) for number, part in self.body_parts.items()}

    # ---- parts

    def _body_part(self, number: int) -> Part | None:
        bone = self.spine.part(number)
        return body_of(bone, self.canal) if bone else None

    def _hint(self, number: int) -> np.ndarray:
        """About the upward direction at a vertebra: from the disc below to the disc above, or between what is there of them."""
        ends = []
        for disc, body in ((number, number - 1), (number + 1, number + 1)):
            part = self.spine.part(DISCS + disc) if disc in self.discs else None
            part = part or self.body_parts.get(body)
            ends.append(part.centre if part else None)
        own = self.body_parts.get(number)
        low, high = (own.centre if end is None and own else end for end in ends)
        if low is None or high is None or np.linalg.norm(high - low) < 1.0:
            return np.array([-1.0, 0.0])
        return (high - low) / np.linalg.norm(high - low)

    def _block(self, number: int, part: Part | None) -> Block | None:
        if part is None or part.cut_side:
            return None
        above, below = part.cut_above, part.cut_below
        if number in self.partial and not (above or below):  # the annotator says so; the end without a neighbour is the cut one
            below = number not in self.discs and number - 1 not in self.bones
            above = not below
        return body_block(part.outline, self._hint(number), above, below)

    def space(self, number: int) -> Space:
        """The space of disc ``number``. Raises NotMeasurable as space_between."""
        label = DISCS + number
        space = space_between(self.bodies.get(number), self.bodies.get(number - 1), self.spine.part(label))
        if self.spine.flat or not space.own_faces:
            return space
        slices, step = self.spine.boxes[label][0], self.spine.spacing[0]
        reach = min(_BESIDE_MM[1], (slices.stop - slices.start) * step / 4)
        asides = [k * step for k in range(-int(reach / step), int(reach / step) + 1) if abs(k) * step >= _BESIDE_MM[0]]
        parts = [self.spine.part(label, aside) for aside in asides]
        return without_slid_hernia(space, [part for part in parts if part is not None])

    # ---- rows

    def _add(self, level: str, label: int, quantities: str | tuple[str, ...], function: Callable[[], object]) -> object:
        """Rows for what a function returns, or why it cannot. Returns the value, None when there is none."""
        names = (quantities,) if isinstance(quantities, str) else quantities
        try:
            value, status = function(), MEASURED
            values = (value,) if isinstance(quantities, str) else value
        except NotMeasurable as reason:
            value, values, status = None, (np.nan,) * len(names), f"not measurable: {reason}"
        for name, one in zip(names, values, strict=True):
            self.rows.append(
                {"level": level, "label": label, "quantity": name, "value": float(one), "unit": UNITS[name], "status": status}
            )
        return value

    def table(self) -> pd.DataFrame:
        """All rows, from below."""
        for number in range(1, max([*self.bones, *self.discs], default=0) + 1):
            if number in self.discs or (number in self.bones and number - 1 in self.bones):
                self._disc_rows(number)
            if number in self.bones:
                self._body_rows(number)
        if self.bones or self.discs:
            self._spine_rows()
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"label": int, "value": float})

    def _whole(self, number: int) -> Block:
        body = self.bodies.get(number)
        if body is None:
            raise NotMeasurable("too little of the body is in the mid-sagittal plane, or the picture cuts it in front")
        return body

    def _canal(self) -> tuple[Part, CanalAxis]:
        if self.canal is None:
            raise NotMeasurable("there is no canal in the mask")
        return self.canal, self.axis

    def _heights(self, number: int) -> tuple[float, float, float] | None:
        try:
            return body_heights(self._whole(number))
        except NotMeasurable:
            return None

    def _body_rows(self, number: int) -> None:
        def add(quantities: str | tuple[str, ...], function: Callable[[], object]) -> object:
            return self._add(vertebra_name(number), number, quantities, function)

        def plane() -> tuple[np.ndarray, np.ndarray]:
            body = self._whole(number)
            if body.upper is None or body.lower is None:
                raise NotMeasurable("the picture cuts the body")
            return (body.upper.middle + body.lower.middle) / 2, np.array([body.up[1], -body.up[0]])

        add(
            tuple(f"body height {place}" for place in ("anterior", "middle", "posterior")),
            lambda: body_heights(self._whole(number)),
        )
        add("body depth", lambda: body_depth(self._whole(number)))
        add("body wedge", lambda: body_wedge(self._whole(number)))
        add("canal diameter at the body", lambda: sac_diameter(*self._canal(), *plane()))
        add("canal area at the body", lambda: sac_area(self.spine, self._canal()[1], *plane()))

    def _disc_rows(self, number: int) -> None:
        name, label = disc_name(number), DISCS + number

        def add(quantities: str | tuple[str, ...], function: Callable[[], object]) -> object:
            return self._add(name, label, quantities, function)

        try:
            space = self.space(number)
        except NotMeasurable as reason:
            missing = reason

            def space_or_why() -> Space:
                raise NotMeasurable(str(missing))

        else:

            def space_or_why() -> Space:
                return space

        heights = add(
            tuple(f"disc height {place}" for place in ("anterior", "middle", "posterior")), lambda: disc_heights(space_or_why())
        )

        def index() -> float:
            beside = [found for found in map(self._heights, (number, number - 1)) if found]
            if heights is None or not beside:
                raise NotMeasurable("the heights of the disc, or those of both bodies beside it, are missing")
            return disc_height_index(heights, *beside)

        add("disc height index", index)
        add("disc depth", lambda: disc_depth(space_or_why()))
        add("disc width", lambda: self._disc_width(label))
        add("disc angle", lambda: disc_angle(space_or_why()))
        add("segment angle", lambda: self._segment_angle(number, space_or_why()))
        slipped = add("slip", lambda: self._slip(space_or_why()))
        add("slip grade", lambda: self._grade(slipped, space_or_why().lower))
        add("canal diameter", lambda: sac_diameter(*self._canal(), space_or_why().centre, space_or_why().along))
        add(
            "canal diameter narrowest",
            lambda: narrowest_diameter(*self._canal(), space_or_why().upper.back, space_or_why().lower.back),
        )
        add("canal area", lambda: sac_area(self.spine, self._canal()[1], space_or_why().centre, space_or_why().along))
        self._displacement_rows(number, add, space_or_why)
        if self.image is not None:
            self._signal_rows(number, add, space_or_why)

    def _disc_width(self, label: int) -> float:
        """Extent of a disc from side to side in mm: the slices that show it, each with its whole thickness."""
        if self.spine.flat:
            raise NotMeasurable("a single slice shows no width")
        if label not in self.spine.boxes:
            raise NotMeasurable("the disc is missing")
        box = self.spine.boxes[label][0]
        if box.start == 0 or box.stop == len(self.spine.mask):
            raise NotMeasurable("the picture cuts the disc at its side")
        return float((box.stop - box.start) * self.spine.spacing[0])

    def _segment_angle(self, number: int, space: Space) -> float:
        """From the upper endplate of the vertebra above the disc to that of the one below."""
        body = self.bodies.get(number)
        return lordosis(body.upper if body else None, space.lower)

    @staticmethod
    def _slip(space: Space) -> float:
        if "upper" in space.own_faces:
            raise NotMeasurable("the vertebra above is missing or cut")
        return slip(space)

    @staticmethod
    def _grade(slipped: float | None, plate: Endplate) -> int:
        if slipped is None:
            raise NotMeasurable("the slip is not measurable")
        return meyerding_grade(slipped, plate.length)

    def _planes(self, number: int, space: Space, width: float) -> list[Overhang]:
        """Overhang of a disc in sagittal planes a slice apart."""
        step = self.spine.spacing[0]
        beside = 0 if self.spine.flat else int(min(_SIDE_MM, width / 4) / step)
        found = []
        for aside in np.arange(-beside, beside + 1) * step:
            disc = self.spine.part(DISCS + number, aside)
            try:
                if disc is not None:
                    found.append(overhang(space, disc, float(aside)))
            except NotMeasurable:
                continue
        return found

    def _displacement_rows(self, number: int, add: Callable, space_or_why: Callable[[], Space]) -> None:
        label, found = DISCS + number, None

        def judged() -> tuple[float, ...]:
            nonlocal found
            space = space_or_why()
            if space.disc is None:
                raise NotMeasurable("the disc is missing")
            slices = self.spine.boxes[label][0]
            width = float((slices.stop - slices.start) * self.spine.spacing[0])
            found = displacement(self._planes(number, space, width), float(self.spine.spacing[0]), width, disc_depth(space))
            return found.top.height, found.bulge, found.bulging, found.herniated

        def width() -> float:
            if found.width is None:
                raise NotMeasurable("a single plane shows no width")
            return found.width

        add(("overhang", "bulge", "bulging", "herniated"), judged)
        if found is not None and found.herniated:
            add("hernia width", width)
            place = self.spine.places(found.top.top[None], found.top.aside)[0]
            add(tuple(f"hernia top {axis}" for axis in ("slice", "row", "column")), lambda: tuple(place))

    def _signal_rows(self, number: int, add: Callable, space_or_why: Callable[[], Space]) -> None:
        def ratios(kind: str) -> float:
            space = space_or_why()
            middle = np.arange(-30, 30.1, 0.5)
            down, back = np.meshgrid(middle, middle, indexing="ij")
            points = space.centre + np.stack([down.ravel(), back.ravel()], axis=1)
            index = (self.spine.places(points) / self.spine.spacing).T
            inside = (index > -0.5).all(axis=0) & (index < np.array(self.image.shape)[:, None] - 0.5).all(axis=0)
            points, index = points[inside], np.rint(index[:, inside]).astype(int)
            bodies = [part for part in (self.body_parts.get(number), self.body_parts.get(number - 1)) if part]
            found = signal_ratios(space, points, self.image[tuple(index)], self.canal, bodies)
            if kind not in found:
                raise NotMeasurable("there is no canal at this level" if kind == "fluid" else "there is no vertebra beside it")
            return found[kind]

        for kind in ("fluid", "marrow"):
            add(f"disc signal over {kind}", lambda kind=kind: ratios(kind))

    def _spine_rows(self) -> None:
        top = self.bodies.get(5)

        def bottom(sacrum: bool) -> Endplate | None:
            if not sacrum:
                return self.bodies[1].lower if self.bodies.get(1) else None
            try:
                return self.space(1).lower
            except NotMeasurable:
                return None

        for name, sacrum in (("lordosis L1 to L5", False), ("lordosis L1 to S1", True)):
            self._add(_SPINE, 0, name, lambda sacrum=sacrum: lordosis(top.upper if top else None, bottom(sacrum)))


RULES_ARE_UNTRIED = (
    "rules of grades, bulging and herniation were chosen on made-up patients; on real ones hernias of predicted masks and of "
    "masks drawn by hand never were the same; sizes: docs/results/measurements.md; not a medical device"
)


def format_measurements(table: pd.DataFrame) -> str:
    """A table of ``measure`` to read: quantities down, levels across from below, then what could not be measured and why."""
    if not len(table):
        return "no vertebra and no disc: there is nothing to measure"
    texts = table.assign(text=[f"{value:.2f}" if np.isfinite(value) else "-" for value in table["value"]])
    levels, quantities = (list(dict.fromkeys(table[column])) for column in ("level", "quantity"))
    wide = texts.pivot(index="quantity", columns="level", values="text").loc[quantities, levels].fillna("")
    wide.index = [f"{quantity} [{UNITS[quantity]}]" for quantity in wide.index]
    missing = table[table["status"] != MEASURED]
    reasons = missing.groupby("status", sort=False)["level"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    return "\n".join([wide.to_string(), *(f"{status} ({names})" for status, names in reasons.items())])
