"""Exercises of notebooks 04 to 10: parts of networks, counted and computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spider_utils.data.planes import PLANES, cut, join
from spider_utils.ensemble.planes import FusionDesign, PlaneFusion
from spider_utils.exercises.checking import Exercise

RESNET18 = (64, 64, 128, 256, 512)  # widths of the encoder of notebook 04
DECODERS = ((128, 64, 32, 16, 16), (256, 128, 64, 32, 16))  # of notebook 04, and the library's default


def _convolution(n_in: int, n_out: int, norm: int = 2, bias: int = 0) -> int:
    """Numbers in a 3 x 3 convolution with ``norm`` numbers a channel of normalisation and ``bias`` of its own."""
    return 9 * n_in * n_out + (norm + bias) * n_out


def _decoder(widths: Sequence[int], skips: bool = True, second: bool = True, **numbers: int) -> int:
    """Numbers in the decoder of notebook 04's U-Net."""
    beside = [*RESNET18[-2::-1], 0] if skips else [0] * len(widths)
    inputs = [before + skip for before, skip in zip((RESNET18[-1], *widths[:-1]), beside, strict=True)]
    return sum(
        _convolution(n, width, **numbers) + second * _convolution(width, width, **numbers)
        for n, width in zip(inputs, widths, strict=True)
    )


def _added(**changes: bool | int) -> int:
    narrow, wide = DECODERS
    return _decoder(wide, **changes) - _decoder(narrow, **changes)


def _field(layers: Sequence[tuple[int, int]], before: bool = False) -> int:
    """Pixels of a side that one number behind the layers has seen; ``before`` steps first, which is a mistake."""
    side, step = 1, 1
    for kernel, stride in layers:
        step *= stride if before else 1
        side += (kernel - 1) * step
        step *= 1 if before else stride
    return side


def _layers() -> list[tuple[list[tuple[int, int]]]]:
    return [([(3, 1), (3, 1)],), ([(7, 2), (3, 2), (3, 1), (3, 1)],), ([(3, 1), (2, 2), (3, 1), (2, 2), (5, 1)],), ([],)]


def _inner(widths: Sequence[int], edge: int = 0, skips: bool = True, second: bool = True, norm: int = 2) -> int:
    """Numbers in the inner nodes of a U-Net++; ``edge`` 1 counts the nodes at the right edge as well."""
    total = 0
    for row in range(len(widths) - 1):
        for column in range(1, len(widths) - 1 - row + edge):
            n_in = widths[row + 1] + (column if skips else 1) * widths[row]
            total += _convolution(n_in, widths[row], norm) + second * _convolution(widths[row], widths[row], norm)
    return total


def _units(widths: Sequence[int], up: bool = True) -> list[tuple[int, int]]:
    """Channels in and out of each unit of notebook 06's ResUNet."""
    pairs = list(zip(widths, widths[1:], strict=False))
    return [(1, widths[0]), *pairs, *((deep + fine, fine) for fine, deep in pairs[::-1] if up)]


def _unit_weights(widths: Sequence[int], up: bool = True, shortcut: bool = True, norm: bool = False) -> int:
    return sum(9 * i * o + 9 * o * o + shortcut * i * o + norm * 2 * (i + o) for i, o in _units(widths, up))


def _fifth(**changes: bool) -> int:
    return _unit_weights((16, 32, 64, 128, 256), **changes) - _unit_weights((16, 32, 64, 128), **changes)


def _met(rate: int, rows: int, columns: int) -> int:
    """Weights of a dilated 3 x 3 window that meet a number of the grid at one place at least."""
    return sum(
        any(0 <= place + step * rate < rows for place in range(rows))
        and any(0 <= place + other * rate < columns for place in range(columns))
        for step in (-1, 0, 1)
        for other in (-1, 0, 1)
    )


def _probabilities() -> list[tuple[np.ndarray, float]]:
    p = np.array([0.05, 0.3, 0.5, 0.9, 0.99])
    return [(p, 4.0), (p, 0.4), (p, 0.0), (p[::2], 2.0)]


def _softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def _attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, power: float = 0.5, axis: int = -1) -> np.ndarray:
    return _softmax(query @ key.T / query.shape[1] ** power, axis) @ value


def _tokens() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(9)
    return [tuple(rng.normal(size=(n, length)) for _ in range(3)) for n, length in ((4, 3), (6, 6), (5, 16))]


def _three_answers() -> tuple[np.ndarray, ...]:
    """Probabilities of three networks for one volume of 6 x 6 x 6 voxels, each as the slices of its plane."""
    rng = np.random.default_rng(10)
    return tuple(cut(rng.random((6, 6, 6)).round(3), plane) for plane in PLANES)


def _fused(answers: Sequence[np.ndarray], left: Sequence[str] = (), turned: bool = False) -> np.ndarray:
    """Mean of three planes' answers on the axes of the volume, but for those of ``left``, which stay as they are."""
    whole = [one if plane in left else join(one, plane) for plane, one in zip(PLANES, answers, strict=True)]
    if turned:
        whole[2] = np.swapaxes(answers[2], 0, 2)
    return np.mean(whole, axis=0)


def _fusion(kernel: int, positions: bool = True) -> int:
    return sum(one.numel() for one in PlaneFusion(FusionDesign(kernel=kernel, positions=positions)).parameters())


EXERCISES = (
    Exercise(
        key="04.1",
        expected="one whole number",
        right=_added,
        tolerance=0,
        slips={
            "Each convolution has a normalisation behind it, with two numbers a channel.": lambda: _added(norm=0),
            "The normalisation makes constants needless: these convolutions have none.": lambda: _added(bias=1),
            "The skip connection is missing: what comes from the encoder lies beside, and is convolved as well.": lambda: _added(
                skips=False
            ),
            "A block has two convolutions.": lambda: _added(second=False),
            "That is the whole decoder; asked is by how much it grows.": lambda: _decoder(DECODERS[1]),
            "The network shrinks for you: subtract the narrow one from the wide one.": lambda: -_added(),
        },
        why="about seven tenths of what is added sit in the first block, where 512 + 256 channels come in.",
    ),
    Exercise(
        key="04.2",
        expected="a function of a list of (kernel, stride) that returns one whole number",
        is_function=True,
        cases=_layers,
        right=_field,
        tolerance=0,
        slips={
            "Strides are ignored: behind a stride of 2, one step of a window is two pixels of the picture.": lambda layers: (
                _field([(kernel, 1) for kernel, _ in layers])
            ),
            "A layer's stride counts for the layers *behind* it only.": lambda layers: _field(layers, before=True),
            "Windows overlap: a second 3 x 3 adds 2 pixels, not 3.": lambda layers: sum(kernel for kernel, _ in layers),
            "The pixel itself is missing: without any layer, one pixel sees one pixel.": lambda layers: _field(layers) - 1,
        },
        why="a window adds (kernel - 1) steps, and a step grows with each stride before it.",
    ),
    Exercise(
        key="05.1",
        expected="one whole number",
        right=lambda: 3 * 24 + 56,
        tolerance=0,
        slips={
            "The doubled block from one row deeper is missing.": lambda: 3 * 24,
            "X 0,3 has three blocks before it in its row: X 0,0, X 0,1 and X 0,2.": lambda: 2 * 24 + 56,
            "X 0,3 is not among its own inputs.": lambda: 4 * 24 + 56,
            "That is a U-Net: one skip, and the block below. Here *all* earlier blocks of the row come in.": lambda: 24 + 56,
            "The block below lies in row 1, it is as wide as the encoder there.": lambda: 3 * 24 + 24,
            "From the row below comes one block, X 1,2; the others of that row end there.": lambda: 3 * 24 + 3 * 56,
        },
        why="three skips of its own row, one doubled block from below.",
    ),
    Exercise(
        key="05.2",
        expected="a function of a list of widths that returns one whole number",
        is_function=True,
        cases=lambda: [([16, 32, 64, 128, 256],), ([24, 56, 152],), ([8, 8, 8, 8],), ([8, 16],)],
        right=_inner,
        tolerance=0,
        slips={
            "The nodes at the right edge are a U-Net's decoder; inner nodes lie between both edges.": lambda widths: _inner(
                widths, edge=1
            ),
            "The normalisation is missing: two numbers for each channel that leaves a convolution.": lambda widths: _inner(
                widths, norm=0
            ),
            "A node has two convolutions.": lambda widths: _inner(widths, second=False),
            "In column j a node gets j blocks of its row, not one.": lambda widths: _inner(widths, skips=False),
            "These convolutions have no constants, as a normalisation follows.": lambda widths: _inner(widths, norm=3),
        },
        why="the top row holds most nodes and, where widths double, the fewest weights: work, not size.",
    ),
    Exercise(
        key="06.1",
        expected="one whole number",
        right=_fifth,
        tolerance=0,
        slips={
            "Only the way down is counted: a fifth width adds a unit on the way up as well.": lambda: _fifth(up=False),
            "The 1 x 1 convolutions of the shortcuts are missing.": lambda: _fifth(shortcut=False),
            "Only weights of convolutions are asked for, without normalisation.": lambda: _fifth(norm=True),
            "That is the whole network; asked is by how much it grows.": lambda: _unit_weights((16, 32, 64, 128, 256)),
            "On the way up the unit gets the doubled features *and* the skip: 256 + 128 channels.": lambda: (
                2 * (9 * 128 * 256 + 128 * 256) + 9 * 256 * 256 + 9 * 128 * 128
            ),
        },
        why="three times as many as there were: weights grow with the square of the width.",
    ),
    Exercise(
        key="06.2",
        expected="a function of (a, n) that returns two numbers: without and with shortcuts",
        is_function=True,
        cases=lambda: [(0.5, 3), (-0.2, 10), (0.1, 24), (0.9, 1)],
        right=lambda a, n: [a**n, (1 + a) ** n],
        slips={
            "Without and with are exchanged.": lambda a, n: [(1 + a) ** n, a**n],
            "The free way leads past *each* unit, not once past all of them: x + a x at every step.": lambda a, n: [
                a**n,
                1 + a**n,
            ],
            "Derivatives of units in a row are multiplied, not added.": lambda a, n: [n * a, n * (1 + a)],
            "n units have n factors.": lambda a, n: [a ** (n - 1), (1 + a) ** (n - 1)],
        },
        why="without shortcuts it vanishes like a power of a; with them it stays near 1 while a is small, and grows when "
        "a is not: hence the normalisation.",
    ),
    Exercise(
        key="07.1",
        expected="one whole number, in pixels of the slice",
        right=lambda: 2 * 12 * 8,
        tolerance=0,
        slips={
            "That is from the middle to one side; asked is from one outer weight to the other.": lambda: 12 * 8,
            "That is in places of the grid; one of them is as wide as the output stride in pixels.": lambda: 2 * 12,
            "Counted are fence posts: 25 places, but 24 steps between the first and the last.": lambda: (2 * 12 + 1) * 8,
            "A window of three has two gaps, not three.": lambda: 3 * 12 * 8,
        },
        why="wider than many a slice: then the outer weights read zeros at most places.",
    ),
    Exercise(
        key="07.2",
        expected="a function of (rate, rows, columns) that returns a whole number from 1 to 9",
        is_function=True,
        cases=lambda: [(1, 10, 8), (12, 20, 16), (12, 20, 8), (18, 10, 8), (8, 8, 9), (9, 8, 10), (1, 1, 5)],
        right=_met,
        tolerance=0,
        slips={
            "A grid of as many rows as the rate has no such neighbour: count from row 0.": lambda r, h, w: (
                (1 + 2 * (r <= h)) * (1 + 2 * (r <= w))
            ),
            "A window fits as soon as *one* neighbour exists somewhere; it need not have both at one place.": lambda r, h, w: (
                (1 + 2 * (2 * r < h)) * (1 + 2 * (2 * r < w))
            ),
            "Only rows are looked at; a narrow strip loses columns too.": lambda r, h, w: 3 * (1 + 2 * (r < h)),
            "It is not all or nothing: a narrow grid can lose the outer columns and keep all rows.": lambda r, h, w: (
                9 if r < min(h, w) else 1
            ),
        },
        why="9, 3 or 1: what is lost goes a row or a column of weights at a time.",
    ),
    Exercise(
        key="08.1",
        expected="one number between 0 and 1",
        right=lambda: 0.93 / (2 - 0.93),
        slips={
            "That is the other direction, from IoU to Dice. Which of the two is never the larger?": lambda: 2 * 0.93 / 1.93,
            "Half of the Dice is the intersection's share of both sizes *added*; the union is smaller than that.": lambda: (
                0.93 / 2
            ),
            "A square comes near but is another curve.": lambda: 0.93**2,
        },
        why="Dice / (2 - Dice), of one region. A mean of several regions may lie below that of the mean Dice, never above.",
    ),
    Exercise(
        key="08.2",
        expected="a function of (p, gamma) that returns the losses of the pixels",
        is_function=True,
        cases=_probabilities,
        right=lambda p, gamma: -((1 - p) ** gamma) * np.log(p),
        slips={
            "A loss is positive: the logarithm of a probability is not.": lambda p, gamma: (1 - p) ** gamma * np.log(p),
            "With this weight pixels that are *right* count most: p and 1 - p are exchanged.": lambda p, gamma: (
                -(p**gamma) * np.log(p)
            ),
            "The logarithm is the natural one.": lambda p, gamma: -((1 - p) ** gamma) * np.log10(p),
            "That is cross-entropy: gamma has no say in it.": lambda p, gamma: -np.log(p),
            "gamma is an exponent, not a factor.": lambda p, gamma: -gamma * (1 - p) * np.log(p),
            "One number a pixel is asked for; that is their mean.": lambda p, gamma: np.mean(-((1 - p) ** gamma) * np.log(p)),
        },
        why="with gamma 0 it is cross-entropy; the larger gamma, the less a pixel counts that is right already.",
    ),
    Exercise(
        key="09.1",
        expected="one whole number",
        right=lambda: (32 // 16) * (128 // 16) * (128 // 16),
        tolerance=0,
        slips={
            "That is a slice's number of patches; a patch is a cube, and the slices are cut as well.": lambda: (128 // 16) ** 2,
            "That is the number of voxels in a patch.": lambda: 16**3,
            "Patches along the three axes are multiplied, not added.": lambda: 2 + 8 + 8,
            "All patches are of 16 slices: how many such lie behind each other in 32?": lambda: 32 * 8 * 8,
        },
        why="and a table of attention has the square of it.",
    ),
    Exercise(
        key="09.2",
        expected="a function of (query, key, value) that returns what each token hears, (tokens, length)",
        is_function=True,
        cases=_tokens,
        right=_attention,
        slips={
            "The products are not divided by the square root of the length.": lambda q, k, v: _attention(q, k, v, power=0),
            "Divided by the length; it is its square root.": lambda q, k, v: _attention(q, k, v, power=1),
            "The softmax runs over the wrong axis: the shares of a *row* add up to 1.": lambda q, k, v: _attention(
                q, k, v, axis=0
            ),
            "That is the table of shares; what is heard is its product with the values.": lambda q, k, v: _softmax(
                q @ k.T / q.shape[1] ** 0.5
            ),
            "The softmax is missing.": lambda q, k, v: q @ k.T / q.shape[1] ** 0.5 @ v,
            "Query and key are exchanged: who asks is a row of the table.": lambda q, k, v: _attention(k, q, v),
        },
        why="a weighted mean of values, with weights that the tokens themselves decide.",
    ),
    Exercise(
        key="10.1",
        expected="one whole number",
        right=lambda: _fusion(5),
        tolerance=0,
        slips={
            "That is the fusion of the lesson, with windows of 3 x 3 x 3.": lambda: _fusion(3),
            "A window of a volume has three edges: 5 x 5 x 5.": lambda: 25 * 6 * 16 + 16 + 25 * 16 * 2 + 2,
            "Each channel that leaves a convolution has a constant of its own.": lambda: 125 * 6 * 16 + 125 * 16 * 2,
            "The places are channels too: six come in.": lambda: _fusion(5, positions=False),
            "There is a second convolution, to two classes.": lambda: 125 * 6 * 16 + 16,
        },
        why="more than four times as many, learnt from the same few patients: more to see, and more to learn by heart.",
    ),
    Exercise(
        key="10.2",
        expected="an array of 6 x 6 x 6 probabilities on the axes (slice, row, column)",
        cases=lambda: [_three_answers()],
        right=lambda *answers: _fused(answers),
        slips={
            "Nothing is turned back: the first axis is (slice), (row) and (column) in turn. That no error came is an accident of "
            "equal sizes.": lambda *answers: _fused(answers, left=("axial", "coronal")),
            "The axial answer still has its rows in front.": lambda *answers: _fused(answers, left=("axial",)),
            "The coronal answer still has its columns in front.": lambda *answers: _fused(answers, left=("coronal",)),
            "The coronal answer is turned, but its slices and rows are exchanged: move the first axis to the end, do not swap "
            "two.": lambda *answers: _fused(answers, turned=True),
            "That is the sum; a probability is not above 1.": lambda *answers: 3 * _fused(answers),
        },
        why="each answer is the same volume, cut along another axis; `spider_utils.data.planes.join` does this in the kit.",
    ),
)
