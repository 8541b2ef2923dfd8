"""What counts of all that a method calls disc: rules against discs that were found where none is labelled."""

from __future__ import annotations

import numpy as np

from spider_utils.data.discs import LABELLED_DISCS
from spider_utils.data.planes import ChannelVolume
from spider_utils.errors import KitError
from spider_utils.evaluation.discs import keep_lowest
from spider_utils.measure.levels import NoLevelsError, name_levels

ALL, PART, LOWEST, NAMED = "all", "labelled part", "lowest", "named"
RULES = (ALL, PART, LOWEST, NAMED)
_DISC_LABEL = 200  # what scheme "spider" adds to a disc's number


def keep_by_rule(mask: np.ndarray, volume: ChannelVolume, rule: str, n: int = LABELLED_DISCS) -> tuple[np.ndarray, str]:
    """What a rule leaves of the voxels that are called disc.

    Args:
        mask: bool (slice, row, column).
        volume: where it was found.
        rule: "all" leaves everything. "labelled part" leaves all from the row ABOVE_MM over the highest labelled disc down; only
            the truth can tell where that is, so it serves to compare methods, not to treat patients. "lowest" leaves the
            lowest ``n`` pieces (the source's filter, see keep_lowest). "named" leaves the ``n`` lowest discs by
            measure.levels.name_levels, which knows the spine's rhythm and leaves a sacral disc out.
        n: how many discs are labelled.

    Returns:
        bool (slice, row, column), and the rule that left it: the one asked for, but "lowest" where nothing could be named.

    Raises:
        KitError: unknown rule.
    """
    if rule not in RULES:
        raise KitError(f"unknown rule '{rule}'. Known are: {', '.join(RULES)}")
    if rule == ALL or not mask.any():
        return mask, rule
    if rule == PART:
        below = np.arange(mask.shape[1])[:, None] >= volume.first_labelled_row
        return mask & below, rule
    if rule == NAMED:
        try:
            named = name_levels(mask, volume.spacing, "discs").mask
            return (named > _DISC_LABEL) & (named <= _DISC_LABEL + n), rule
        except NoLevelsError:  # crumbs, or more pieces than a spine has discs
            pass
    return keep_lowest(mask, volume.spacing, n), LOWEST
