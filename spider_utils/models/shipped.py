"""The trained networks that come with the kit: a folder each, with safetensors and a card, opened like the folder of a run."""

from __future__ import annotations

from pathlib import Path

SHIPPED_FOLDER = Path(__file__).parent / "weights"


def shipped() -> dict[str, Path]:
    """Name -> folder of every network that comes with the kit, sorted; see each folder's model.json for what it learned from."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED_FOLDER.glob("*/model.safetensors"))}


def shipped_for(series: bool) -> str:
    """Name of the network that comes with the kit for whole series, or else for single slices.

    The one for slices learned from real T2_SPACE slices near the middle of the spine; the one for series from these and from
    phantoms of any contrast, whole from edge to edge, it names levels, and it asks the other for a second opinion.
    """
    return "levels20" if series else "structures4"
