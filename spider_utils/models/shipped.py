"""The trained networks that come with the kit: a folder each, with safetensors and a card, opened like the folder of a run."""

from __future__ import annotations

from pathlib import Path

SHIPPED_FOLDER = Path(__file__).parent / "weights"
FOR_SLICES, FOR_VOLUMES = "structures4", "levels20"  # what `spider-kit predict` takes by itself


def shipped() -> dict[str, Path]:
    """Name -> folder of every network that comes with the kit, sorted; see each folder's model.json for what it learned from."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED_FOLDER.glob("*/model.safetensors"))}
