"""Shortest augmenting paths, compiled by numba: column reduction, augmenting row reduction, multi-source searches.

The frame is that of Jonker and Volgenant (1987, doi 10.1007/BF02278710). Two things differ, both because similarities
of networks are nearly tied: row reduction is capped, for its price wars take hundreds of passes over such matrices, and
what it leaves is searched from all free rows at once, so that one forest of shortest paths yields many augmentations.

Costs are read as they are (float32 or float64, times a sign) and all else is float64. Everything is a scan of one row
against the column prices; minima are kept by blocks of a constant size, since only loops of constant trip count around
``llvm.minnum`` become vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from fastmatch.assignment.solution import Solved
from fastmatch.assignment.ties import settle

BLOCK = 64
_PATIENCE = 2.0  # A search goes on for this many times the scans that an augmentation has cost it on average.
_TIGHT = 1e-15  # Of the largest cost: an earlier pair this close to its row's cheapest column is kept.
_INFINITY = np.inf
_FAR = 1e300
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"nnan", "nsz", "contract"},
}

_settle = njit(**_OPTIONS)(settle)


def _minnum(typing_context: Any, a: Any, b: Any) -> Any:
    """Smaller of two floats, in the form that LLVM turns into vector reductions."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.DoubleType()
        function = builder.module.declare_intrinsic("llvm.minnum", [double], ir.FunctionType(double, [double, double]))
        return builder.call(function, arguments, fastmath=("nnan", "nsz"))

    return types.float64(types.float64, types.float64), generate


_least: Any = intrinsic(_minnum)


@njit(**_OPTIONS)
def _block_minima(row: np.ndarray, sign: float, prices: np.ndarray, minima: np.ndarray) -> None:
    """Minimum of cost less price in every block of columns."""
    full = row.size // BLOCK
    for block in range(full):
        base = block * BLOCK
        least = _INFINITY
        for k in range(BLOCK):
            least = _least(least, sign * row[base + k] - prices[base + k])
        minima[block] = least
    if full < minima.size:
        least = _INFINITY
        for j in range(full * BLOCK, row.size):
            least = _least(least, sign * row[j] - prices[j])
        minima[full] = least


@njit(**_OPTIONS)
def _nearest(totals: np.ndarray, prices: np.ndarray, block: int) -> tuple[float, int]:
    """Smallest distance in a block of columns, and the first column that has it."""
    start = block * BLOCK
    least = _INFINITY
    for k in range(BLOCK):
        least = _least(least, totals[start + k] - prices[start + k])
    first = BLOCK
    for k in range(BLOCK):
        first = min(first, k if totals[start + k] - prices[start + k] <= least else BLOCK)
    return least, start + first


@njit(**_OPTIONS)
def _relax(
    row: np.ndarray,
    sign: float,
    offset: float,
    label: int,
    prices: np.ndarray,
    totals: np.ndarray,
    parent: np.ndarray,
    minima: np.ndarray,
) -> None:
    """Shorten the paths to columns through one row, and renew the smallest distance of the blocks where it helps."""
    full = row.size // BLOCK
    for block in range(full):
        start = block * BLOCK
        least = _INFINITY
        for k in range(BLOCK):
            least = _least(least, sign * row[start + k] - totals[start + k])
        if least < -offset:
            for k in range(BLOCK):
                total = sign * row[start + k] + offset
                parent[start + k] = label if total < totals[start + k] else parent[start + k]
                totals[start + k] = _least(total, totals[start + k])
            minima[block] = _nearest(totals, prices, block)[0]
    if full < minima.size:
        for j in range(full * BLOCK, row.size):
            total = sign * row[j] + offset
            if total < totals[j]:
                totals[j] = total
                parent[j] = label
        minima[full] = _nearest(totals, prices, full)[0]


@njit(**_OPTIONS)
def _argmin(values: np.ndarray) -> int:
    best = 0
    for k in range(1, values.size):
        if values[k] < values[best]:
            best = k
    return best


@njit(**_OPTIONS)
def _two_smallest(
    row: np.ndarray, sign: float, prices: np.ndarray, minima: np.ndarray
) -> tuple[float, int, float, int]:
    """Smallest and second smallest cost less price, with their columns."""
    _block_minima(row, sign, prices, minima)
    block = _argmin(minima)
    first, column, second, other = _INFINITY, -1, _INFINITY, -1
    for j in range(block * BLOCK, min(row.size, block * BLOCK + BLOCK)):
        value = sign * row[j] - prices[j]
        if value < first:
            second, other = first, column
            first, column = value, j
        elif value < second:
            second, other = value, j
    rival = -1
    for k in range(minima.size):
        if k != block and minima[k] < second:
            second, rival = minima[k], k
    if rival >= 0:
        other = rival * BLOCK
        while sign * row[other] - prices[other] > second:
            other += 1
    return first, column, second, other


@njit(**_OPTIONS)
def _reduce_columns(cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """Price every column at its smallest cost and give it to that row, if the row has none yet."""
    size = len(rows)
    for j in range(size):
        prices[j] = sign * cost[0, j]
        rows[j] = 0
    for i in range(1, size):
        for j in range(size):
            value = sign * cost[i, j]
            rows[j] = i if value < prices[j] else rows[j]
            prices[j] = _least(value, prices[j])
    columns[:] = -1
    for j in range(size):
        i = rows[j]
        if columns[i] < 0:
            columns[i] = j
        else:
            rows[j] = -1


@njit(**_OPTIONS)
def _keep_tight(
    cost: np.ndarray, sign: float, slack: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> None:
    """Keep of an earlier matching what is still cheapest for its row under the prices; free the rest."""
    size = len(rows)
    minima = np.empty((size + BLOCK - 1) // BLOCK)
    rows[:] = -1
    for i in range(size):
        j = columns[i]
        columns[i] = -1
        if 0 <= j < size and rows[j] < 0:
            _block_minima(cost[i], sign, prices, minima)
            if sign * cost[i, j] - prices[j] <= minima[_argmin(minima)] + slack:
                columns[i] = j
                rows[j] = i


@njit(**_OPTIONS)
def _free_rows(columns: np.ndarray) -> np.ndarray:
    return np.flatnonzero(columns < 0)


@njit(**_OPTIONS)
def _reduce_rows(cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """Let free rows take their cheapest column, pricing it up to the second cheapest, for at most n scans."""
    size = len(rows)
    minima = np.empty((size + BLOCK - 1) // BLOCK)
    waiting = _free_rows(columns)
    budget = size
    for _ in range(2):
        later = 0
        for place in range(waiting.size):
            i = waiting[place]
            while i >= 0 and budget > 0:
                budget -= 1
                first, j, second, other = _two_smallest(cost[i], sign, prices, minima)
                displaced = rows[j]
                if first < second and second < _INFINITY:
                    prices[j] -= second - first
                elif displaced >= 0 and other >= 0:
                    j = other
                    displaced = rows[j]
                if displaced >= 0:
                    columns[displaced] = -1
                columns[i] = j
                rows[j] = i
                if displaced >= 0 and not first < second:
                    waiting[later] = displaced
                    later += 1
                    displaced = -1
                i = displaced
        waiting = waiting[:later]


@njit(**_OPTIONS)
def _search(
    cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray, sources: np.ndarray
) -> tuple[int, int]:
    """Grow a forest of shortest paths from free rows, then augment once in every tree that met a free column.

    A column's total is the cost of the path to it, its distance the total less its price. Columns reached have a
    price of -inf and a total below all others, so that they are neither nearest nor shortened.

    Returns the number of scans and of augmentations.
    """
    size = len(rows)
    minima = np.empty((size + BLOCK - 1) // BLOCK)
    open_prices = np.full(minima.size * BLOCK, -_INFINITY)
    open_prices[:size] = prices
    totals = np.full(minima.size * BLOCK, _FAR)
    parent = np.full(size, -1, dtype=np.int32)
    root = np.full(size, -1, dtype=np.int32)
    end = np.full(size, -1, dtype=np.int32)
    reached = np.empty(size, dtype=np.int32)
    depth = np.empty(size)
    first = np.empty(sources.size)
    for k in range(sources.size):
        _block_minima(cost[sources[k]], sign, prices, minima)
        first[k] = minima[_argmin(minima)]
    minima[:] = _INFINITY
    for k in range(sources.size):
        i = sources[k]
        root[i] = i
        _relax(cost[i], sign, -first[k], i, open_prices, totals, parent, minima)
    count, found, scans, last = 0, 0, sources.size, 0
    radius = 0.0
    while found < sources.size and count < size and (found == 0 or (scans - last) * found <= _PATIENCE * last):
        block = _argmin(minima)
        distance, j = _nearest(totals, open_prices, block)
        radius = max(radius, distance)
        reached[count], depth[count] = j, radius
        count += 1
        totals[j] = -_FAR
        open_prices[j] = -_INFINITY
        minima[block] = _nearest(totals, open_prices, block)[0]
        tree = root[parent[j]]
        i = rows[j]
        if i >= 0:
            root[i] = tree
            offset = radius - (sign * cost[i, j] - prices[j])
            _relax(cost[i], sign, offset, i, open_prices, totals, parent, minima)
            scans += 1
        elif end[tree] < 0:
            end[tree] = j
            found += 1
            last = scans
    for k in range(count):
        prices[reached[k]] -= radius - depth[k]
    for i in sources:
        _augment(i, end[i], parent, columns, rows)
    return scans, found


@njit(**_OPTIONS)
def _augment(start: int, end: int, parent: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """Swap the matching along the path from a free row to a free column, if there is one."""
    j = end
    while j >= 0:
        i = parent[j]
        rows[j] = i
        j, columns[i] = columns[i], j


@njit(**_OPTIONS)
def _minimise(
    cost: np.ndarray, sign: float, slack: float, warm: bool, prices: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    size = len(columns)
    rows = np.empty(size, dtype=np.int64)
    if warm:
        _keep_tight(cost, sign, slack, prices, columns, rows)
    else:
        _reduce_columns(cost, sign, prices, columns, rows)
    _reduce_rows(cost, sign, prices, columns, rows)
    limit = size
    while (columns < 0).any():
        _search(cost, sign, prices, columns, rows, _free_rows(columns)[:limit])
    _settle(cost, sign, columns, rows)
    minima = np.empty((size + BLOCK - 1) // BLOCK)
    row_duals = np.empty(size)
    for i in range(size):
        _block_minima(cost[i], sign, prices, minima)
        row_duals[i] = minima[_argmin(minima)]
    return row_duals


def solve(matrix: np.ndarray, sign: float, scale: float, start: Solved | None = None) -> Solved:
    """Minimise ``sign * matrix``, from earlier columns and their duals if there are any.

    Parameters
    ----------
    matrix
        Shape [n, n] with n > 0, C-contiguous, writeable (numba compiles another function for other arrays).
    scale
        Largest absolute entry.
    """
    if start is None:
        columns, prices = np.empty(len(matrix), dtype=np.int64), np.empty(len(matrix))
    else:
        columns, _, prices = start
    row_duals = _minimise(matrix, sign, _TIGHT * scale, start is not None, prices, columns)
    return Solved(columns, row_duals, prices)
