"""A label scheme's names and colours as files that viewers of medical images read."""

from __future__ import annotations

from pathlib import Path

from spider_utils.files import atomic_path
from spider_utils.labels import LabelScheme, get_scheme

_ITKSNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def write_color_tables(scheme: str, folder: str | Path) -> list[Path]:
    """Write ``<scheme>.ctbl`` for 3D Slicer and ``<scheme>-itksnap.txt`` for ITK-SNAP.

    Args:
        scheme: of the masks.
        folder: the masks', say; made when it does not exist.

    Returns:
        Both files.

    Raises:
        ValueError: unknown scheme.
        DataError: the folder cannot be written.
    """
    chosen, folder = get_scheme(scheme), Path(folder)
    tables = {folder / f"{scheme}.ctbl": slicer_table(chosen), folder / f"{scheme}-itksnap.txt": itksnap_table(chosen)}
    for path, text in tables.items():
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(tables)


def slicer_table(scheme: LabelScheme) -> str:
    """Colour table of 3D Slicer (its developer guide, "Color table file format"): value, name without spaces, RGB, opacity.

    Background is there, see-through.
    """
    lines = [f"# Color table file {scheme.name}.ctbl", f"# {scheme.n_classes} values"]
    for value, name in scheme.names.items():
        red, green, blue = scheme.colors[value]
        lines.append(f"{value} {name.replace(' ', '_')} {red} {green} {blue} {255 if value else 0}")
    return "\n".join(lines) + "\n"


def itksnap_table(scheme: LabelScheme) -> str:
    """Label descriptions of ITK-SNAP: value, RGB, opacity (0 or 1), visible in slices, visible as a surface, name."""
    lines = []
    for value, name in scheme.names.items():
        red, green, blue = scheme.colors[value]
        shown = 1 if value else 0
        text = name if value else "Clear Label"  # what the program calls its background
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{text}"')
    return _ITKSNAP_HEAD + "\n".join(lines) + "\n"
