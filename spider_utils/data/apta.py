"""The Adaptive Pixel Transformation Algorithm (APTA) of `ahmed`: masks with many gray values made into four colours.

The paper (Ahmed et al. 2024, arXiv:2409.06018, section 3.2.1 and Algorithm 1) gives steps in words and no numbers. Read here so:

1. Shades become colours: very dark ones red, middle ones green, light ones blue; black stays. For masks whose gray values are
   SPIDER's labels that is: vertebrae (1 to 25) red, canal (100) green, discs (201 and more) blue. Partly visible vertebrae (101
   to 125) are middle shades, and so become canal.
2. A pixel takes the colour of the first neighbour that has its own colour. This changes nothing, whatever the picture.
3. Outlines go: each pixel takes the most common colour of its eight neighbours.
4. Where the pixels on the left and on the right both have other colours, the pixel takes the most common one of its neighbours.
5. A pixel without any neighbour of its own colour takes the most common one of its neighbours.
6. In a picture without red, green and blue become red.

Each step sees the whole picture as the step before it left it. Neighbours outside the picture do not count. On a tie a pixel
keeps its colour where that is among the most common ones; else the first of black, red, green, blue wins.
"""

from __future__ import annotations

import numpy as np

BLACK, RED, GREEN, BLUE = range(4)  # as the labels of structures4: background, vertebra, spinal canal, disc
DARK_TO, MIDDLE_TO = 63, 159  # highest shade that counts as very dark, as middle
_BITS = 4  # of a colour's count in a word; there are at most 8 neighbours


def apta(shades: np.ndarray) -> np.ndarray:
    """Clean 2D masks as `ahmed` does (see the module's text for the steps).

    Args:
        shades: uint8 ``(..., rows, columns)``, gray values of masks; each of the last two axes is one picture.

    Returns:
        uint8 of the same shape in scheme "structures4".

    Raises:
        ValueError: not uint8, or fewer than two axes.
    """
    shades = np.asarray(shades)
    if shades.dtype != np.uint8 or shades.ndim < 2:
        raise ValueError(f"shades must be uint8 (..., rows, columns), not {shades.dtype} {shades.shape}")
    colors = color_shades(shades)  # step 2 changes nothing
    colors = most_common_neighbour(colors)
    colors = np.where(between_others(colors), most_common_neighbour(colors), colors)
    colors = np.where(is_single(colors), most_common_neighbour(colors), colors)
    without_red = ~(colors == RED).any(axis=(-2, -1), keepdims=True)
    return np.where(without_red & (colors != BLACK), np.uint8(RED), colors)


def color_shades(shades: np.ndarray) -> np.ndarray:
    """Step 1: uint8 gray values to BLACK, RED, GREEN or BLUE."""
    table = np.full(256, BLUE, np.uint8)
    table[: MIDDLE_TO + 1], table[: DARK_TO + 1], table[0] = GREEN, RED, BLACK
    return table[shades]


def most_common_neighbour(colors: np.ndarray) -> np.ndarray:
    """Step 3: for every pixel the most common colour of its eight neighbours."""
    counts = _neighbours(colors)
    best = counts.max(axis=0)
    own = np.take_along_axis(counts, colors[None].astype(np.intp), axis=0)[0]
    return np.where(own == best, colors, counts.argmax(axis=0)).astype(np.uint8)


def between_others(colors: np.ndarray) -> np.ndarray:
    """Step 4: whether the pixels on the left and on the right both have another colour; False in the first and last column."""
    found = np.zeros(colors.shape, bool)
    middle = colors[..., 1:-1]
    found[..., 1:-1] = (middle != colors[..., :-2]) & (middle != colors[..., 2:])
    return found


def is_single(colors: np.ndarray) -> np.ndarray:
    """Step 5: whether none of the eight neighbours has the pixel's own colour."""
    return np.take_along_axis(_neighbours(colors), colors[None].astype(np.intp), axis=0)[0] == 0


def _neighbours(colors: np.ndarray) -> np.ndarray:
    """How many of the eight neighbours have each colour: uint8 (colours, ..., rows, columns)."""
    rows, columns = colors.shape[-2:]
    # One word a pixel with a field for each colour: all four counts come from the same additions.
    words = np.zeros((*colors.shape[:-2], rows + 2, columns + 2), np.uint16)
    words[..., 1:-1, 1:-1] = np.left_shift(1, _BITS * np.arange(4)).astype(np.uint16)[colors]
    total = np.zeros(colors.shape, np.uint16)
    for down in range(3):
        for right in range(3):
            if (down, right) != (1, 1):
                total += words[..., down : down + rows, right : right + columns]
    return np.stack([(total >> (_BITS * color)).astype(np.uint8) & (2**_BITS - 1) for color in range(4)])
