from __future__ import annotations

import numpy as np
import pytest

from fastmatch.assignment import scans

SIZES = [1, 2, 63, 64, 65, 128, 200]


def row_and_prices(size, levels=None, dtype=np.float32):
    rng = np.random.default_rng(size)
    if levels is None:
        return rng.standard_normal(size).astype(dtype), rng.standard_normal(size)
    return rng.integers(0, levels, size).astype(dtype), rng.integers(0, levels, size).astype(np.float64)


def poisoned(size):
    return np.full(scans.count_blocks(size), np.nan)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_minima_of_blocks_and_of_the_row(size, dtype):
    row, prices = row_and_prices(size, dtype=dtype)
    minima = poisoned(size)
    smallest = scans.scan_minima(row, -1.0, prices, minima)
    values = -row.astype(np.float64) - prices
    assert smallest == values.min()
    assert minima.tolist() == [values[at : at + scans.BLOCK].min() for at in range(0, size, scans.BLOCK)]


@pytest.mark.parametrize("levels", [None, 1, 2, 40])
@pytest.mark.parametrize("size", SIZES)
def test_the_two_smallest_are_two_columns_with_the_two_smallest_values(size, levels):
    row, prices = row_and_prices(size, levels)
    first, column, second, other = scans.two_smallest(row, 1.0, prices, poisoned(size))
    values = row.astype(np.float64) - prices
    ordered = [*np.sort(values), np.inf]
    assert (first, second) == (ordered[0], ordered[1])
    assert values[column] == first
    if size == 1:
        assert other == -1
    else:
        assert other != column
        assert values[other] == second


@pytest.mark.parametrize("size", SIZES)
def test_distances_shrink_only_where_the_row_helps_and_never_where_a_column_is_reached(size):
    row, prices = row_and_prices(size)
    rng = np.random.default_rng(1)
    minima = poisoned(size)
    distance = np.full(minima.size * scans.BLOCK, np.inf)
    distance[:size] = rng.standard_normal(size)
    parent = np.full(size, 3, dtype=np.int32)
    reached = rng.random(size) < 0.3
    prices[reached], distance[:size][reached] = -np.inf, np.inf
    before = distance.copy()
    scans.relax(row, 1.0, 0.5, 8, prices, distance, parent, minima)
    through = row.astype(np.float64) - prices + 0.5
    assert np.array_equal(distance[:size], np.minimum(before[:size], through))
    assert np.array_equal(parent == 8, through < before[:size])
    assert minima.tolist() == [scans.block_minimum(distance, block) for block in range(minima.size)]
    nearest = scans.argmin(minima)
    if np.isfinite(minima[nearest]):
        assert scans.first_at(distance, nearest, minima[nearest]) == int(np.argmin(distance))
