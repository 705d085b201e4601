"""Shortest augmenting paths, compiled by numba: entropic start, augmenting row reduction, multi-source searches.

The frame is that of Jonker and Volgenant (1987, doi 10.1007/BF02278710). Three things differ, all because similarities
of networks are nearly tied: larger problems start from entropic prices; row reduction is capped, for its price wars
take hundreds of passes over such matrices; and what it leaves is searched from all free rows at once, so that one
forest of shortest paths yields many augmentations. All duals are float64, whatever the costs.
"""

from __future__ import annotations

import numpy as np

from fastmatch.assignment.compiled import compiled
from fastmatch.assignment.entropic import anneal, deviation, soften
from fastmatch.assignment.scans import (
    BLOCK,
    argmin,
    block_minimum,
    count_blocks,
    first_at,
    least,
    relax,
    scan_minima,
    two_smallest,
)
from fastmatch.assignment.solution import Solved
from fastmatch.assignment.ties import settle

_PATIENCE = 0.35  # A search goes on past an augmentation for this share of the scans that each has cost it so far.
_SOFT = 48  # Entropic prices pay from this size.
_LOST = 0.5  # A warm start that frees more than this share of the rows is worse than a cold one.
_FEW, _MANY = 0.3, 150  # A warm start that frees no more, as a share and in all, is searched from as it is.
_WARM = 0.08  # Temperature of the one round from warm prices, in standard deviations of the costs.
_FLAT = 1e-28  # Deviations that float32 cannot work with begin here, and at its inverse.
_TIGHT = 1e-15  # Of the largest cost: an earlier pair this close to its row's cheapest column is kept.

_settle = compiled(settle)


@compiled
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
            prices[j] = least(value, prices[j])
    columns[:] = -1
    for j in range(size):
        i = rows[j]
        if columns[i] < 0:
            columns[i] = j
        else:
            rows[j] = -1


@compiled
def _start(cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """First prices, and what matching comes with them."""
    spread = deviation(cost) if len(rows) >= _SOFT else 0.0
    if _FLAT < spread < 1 / _FLAT:
        anneal(cost, sign, spread, prices)
        columns[:] = rows[:] = -1
    else:
        _reduce_columns(cost, sign, prices, columns, rows)


@compiled
def _keep_tight(
    cost: np.ndarray, sign: float, slack: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> None:
    """Keep of an earlier matching what is still cheapest for its row under the prices; free the rest."""
    size = len(rows)
    minima = np.empty(count_blocks(size))
    rows[:] = -1
    for i in range(size):
        j = columns[i]
        columns[i] = -1
        if j < 0 or j >= size or rows[j] >= 0:
            continue
        if sign * cost[i, j] - prices[j] <= scan_minima(cost[i], sign, prices, minima) + slack:
            columns[i] = j
            rows[j] = i


@compiled
def _restart(cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """Bring earlier prices nearer to this matrix by one entropic round, and begin a matching anew."""
    spread = deviation(cost)
    if _FLAT < spread < 1 / _FLAT:
        prices -= prices.max()
        soften(cost, sign, _WARM * spread, prices)
        columns[:] = rows[:] = -1


@compiled
def _free_rows(columns: np.ndarray) -> np.ndarray:
    return np.flatnonzero(columns < 0)


@compiled
def _reduce_rows(cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """Let free rows take their cheapest column, pricing it up to the second cheapest, for at most n scans."""
    size = len(rows)
    minima = np.empty(count_blocks(size))
    waiting = _free_rows(columns)
    budget = size
    for _ in range(2):
        later = 0
        for place in range(waiting.size):
            i = waiting[place]
            while i >= 0 and budget > 0:
                budget -= 1
                first, j, second, other = two_smallest(cost[i], sign, prices, minima)
                displaced = rows[j]
                if first < second and second < np.inf:
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


@compiled
def _search(
    cost: np.ndarray, sign: float, prices: np.ndarray, columns: np.ndarray, rows: np.ndarray, sources: np.ndarray
) -> int:
    """Grow a forest of shortest paths from free rows, then augment once in every tree that met a free column.

    Returns the number of augmentations, at least one.
    """
    size = len(rows)
    minima = np.empty(count_blocks(size))
    open_prices = prices.copy()
    distance = np.full(minima.size * BLOCK, np.inf)
    parent = np.full(size, -1, dtype=np.int32)
    root = np.full(size, -1, dtype=np.int32)
    end = np.full(size, -1, dtype=np.int32)
    reached = np.empty(size, dtype=np.int32)
    depth = np.empty(size)
    for i in sources:
        root[i] = i
        offset = -scan_minima(cost[i], sign, prices, minima)
        relax(cost[i], sign, offset, i, open_prices, distance, parent, minima)
    count, found, scans, last = 0, 0, sources.size, 0
    radius = 0.0
    while found < sources.size and count < size and (found == 0 or (scans - last) * found <= _PATIENCE * last):
        block = argmin(minima)
        j = first_at(distance, block, minima[block])
        radius = max(radius, distance[j])
        reached[count], depth[count] = j, radius
        count += 1
        distance[j] = np.inf
        open_prices[j] = -np.inf
        tree = root[parent[j]]
        i = rows[j]
        if i >= 0:
            root[i] = tree
            offset = radius - (sign * cost[i, j] - prices[j])
            relax(cost[i], sign, offset, i, open_prices, distance, parent, minima)
            scans += 1
        else:
            minima[block] = block_minimum(distance, block)
            if end[tree] < 0:
                end[tree] = j
                found += 1
                last = scans
    for k in range(count):
        prices[reached[k]] -= radius - depth[k]
    for i in sources:
        _augment(i, end[i], parent, columns, rows)
    return found


@compiled
def _augment(start: int, end: int, parent: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> None:
    """Swap the matching along the path from a free row to a free column, if there is one."""
    j = end
    while j >= 0:
        i = parent[j]
        rows[j] = i
        j, columns[i] = columns[i], j


@compiled
def _minimise(
    cost: np.ndarray, sign: float, slack: float, warm: bool, prices: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    size = len(columns)
    rows = np.empty(size, dtype=np.int64)
    if warm:
        _keep_tight(cost, sign, slack, prices, columns, rows)
    lost = (columns < 0).sum() if warm else size
    if lost > _LOST * size:
        _start(cost, sign, prices, columns, rows)
    elif lost > min(_FEW * size, _MANY):
        _restart(cost, sign, prices, columns, rows)
    _reduce_rows(cost, sign, prices, columns, rows)
    while (columns < 0).any():
        _search(cost, sign, prices, columns, rows, _free_rows(columns))
    _settle(cost, sign, columns, rows)
    minima = np.empty(count_blocks(size))
    row_duals = np.empty(size)
    for i in range(size):
        row_duals[i] = scan_minima(cost[i], sign, prices, minima)
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
