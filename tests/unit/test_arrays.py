"""What all values of an array say, however they lie in memory: the same as numpy's slower ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spider_utils.arrays import counted, distinct, from_memory_order, in_memory_order, percentiles

WHOLE = [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64]


def laid_out(shape: tuple[int, int, int], order: tuple[int, ...], backward: tuple[bool, ...]) -> np.ndarray:
    """Numbers from 0 as they lie in memory, seen with other axes."""
    array = np.arange(np.prod(shape)).reshape(shape).transpose(order)
    return array[tuple(slice(None, None, -1 if back else 1) for back in backward)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("backward", list(itertools.product((False, True), repeat=3)))
def test_memory_order_is_found_from_any_view(order, backward):
    array = laid_out((2, 3, 4), order, backward)
    found = in_memory_order(array)
    assert np.shares_memory(found, array)
    np.testing.assert_array_equal(found.reshape(-1), np.arange(24))
    back = from_memory_order(found.reshape(-1) + 1, array)
    np.testing.assert_array_equal(back, array + 1)
    assert back.strides == array.strides


@given(
    dtype=st.sampled_from(WHOLE),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    order=st.permutations(range(3)),
    backward=st.tuples(*[st.booleans()] * 3),
    kinds=st.integers(1, 200),
    seed=st.integers(0, 99),
)
@settings(max_examples=200)
def test_distinct_values_are_those_of_unique(dtype, shape, order, backward, kinds, seed):
    rng = np.random.default_rng(seed)
    least = max(np.iinfo(dtype).min, -50)
    made = np.where(rng.random(shape) < 0.7, 0, rng.integers(least, min(np.iinfo(dtype).max, least + kinds), shape))
    array = made.astype(dtype).transpose(order)[tuple(slice(None, None, -1 if back else 1) for back in backward)]
    found = distinct(array)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.unique(array))


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 3), (6, 10, 12), (6, 10, 5)])
@pytest.mark.parametrize("dtype", WHOLE)
def test_a_single_odd_voxel_is_seen(dtype, place):
    array = np.ones((7, 11, 13), dtype)  # 1001 values: some lie behind the last whole word
    array[place] = 77
    assert distinct(array).tolist() == [1, 77]


def test_one_channel_of_a_picture_lies_with_gaps():
    picture = np.arange(7 * 9 * 4, dtype=np.uint8).reshape(7, 9, 4)
    assert distinct(picture[..., 0]).tolist() == list(range(0, 252, 4))


def test_counts_of_any_values():
    for values in ([3, 1, 3], [-2, 5, -2, -2], [70000, 1]):
        found, counts = counted(np.array(values))
        assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {v: values.count(v) for v in values}


def pictures(rng: np.random.Generator) -> dict[str, np.ndarray]:
    size = (24, 80, 90)
    return {
        "even": rng.integers(0, 4000, size),
        "few values": rng.integers(0, 3, size),
        "mostly black": np.where(rng.random(size) < 0.6, 0, rng.integers(0, 900, size)),
        "half a percent": np.where(rng.random(size) < 0.005, -500, rng.integers(-3, 3, size)),
        "sorted": np.sort(rng.integers(0, 4000, size), axis=None).reshape(size),
        "stripes": np.broadcast_to(np.where(np.arange(90) % 2, 7, 2000), size),  # a sample may see one kind alone
        "rare": np.where(np.arange(np.prod(size)).reshape(size) % 42 == 0, 5, rng.integers(100, 200, size)),
        "flat": np.full(size, 9),
    }


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("name", pictures(np.random.default_rng(0)))
def test_percentiles_are_numpys_to_the_last_digit(name, dtype):
    array = pictures(np.random.default_rng(1))[name].astype(dtype)
    wanted = (0.5, 99.5, 0, 100, 50, 33.3, 0.0001, 99.99)
    assert percentiles(array, wanted) == np.percentile(array, wanted).tolist()
    view = array.transpose(2, 0, 1)[::-1, :, ::-1]
    assert percentiles(view, wanted) == np.percentile(view, wanted).tolist()


def test_percentiles_of_few_values():
    assert percentiles(np.array([3, 1, 2], np.int16), (0, 50, 100)) == [1.0, 2.0, 3.0]
