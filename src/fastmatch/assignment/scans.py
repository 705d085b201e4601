"""Scans of one row against the column prices: the inner loops of the numba solver.

Costs are read as they are (float32 or float64, times a sign) and all else is float64. Minima are kept by blocks of a
constant size, since only loops of constant trip count around ``llvm.minnum`` become vector instructions.

numba looks for changes in the file of the caller only: after a change here, clear the callers' cache (``__pycache__``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

from fastmatch.assignment.compiled import compiled

BLOCK = 64


def _minnum(typing_context: Any, a: Any, b: Any) -> Any:
    """Smaller of two floats of one type, in the form that LLVM turns into vector reductions."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        function = builder.module.declare_intrinsic("llvm.minnum", [kind], ir.FunctionType(kind, [kind, kind]))
        return builder.call(function, arguments, fastmath=("nnan", "nsz"))

    return a(a, b), generate


least: Any = intrinsic(_minnum)


@compiled
def count_blocks(size: int) -> int:
    """Number of blocks that hold this many columns."""
    return (size + BLOCK - 1) // BLOCK


@compiled
def argmin(values: np.ndarray) -> int:
    """First place of the smallest value."""
    best = 0
    for k in range(1, values.size):
        if values[k] < values[best]:
            best = k
    return best


@compiled
def scan_minima(row: np.ndarray, sign: float, prices: np.ndarray, minima: np.ndarray) -> float:
    """Minimum of cost less price in every block of columns, and over all."""
    full = row.size // BLOCK
    for block in range(full):
        base = block * BLOCK
        smallest = np.inf
        for k in range(BLOCK):
            smallest = least(smallest, sign * row[base + k] - prices[base + k])
        minima[block] = smallest
    if full < minima.size:
        smallest = np.inf
        for j in range(full * BLOCK, row.size):
            smallest = least(smallest, sign * row[j] - prices[j])
        minima[full] = smallest
    return minima[argmin(minima)]


@compiled
def two_smallest(row: np.ndarray, sign: float, prices: np.ndarray, minima: np.ndarray) -> tuple[float, int, float, int]:
    """Smallest and second smallest cost less price, with their columns."""
    scan_minima(row, sign, prices, minima)
    block = argmin(minima)
    first, column, second, other = np.inf, -1, np.inf, -1
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


@compiled
def relax(
    row: np.ndarray,
    sign: float,
    offset: float,
    label: int,
    prices: np.ndarray,
    distance: np.ndarray,
    parent: np.ndarray,
    minima: np.ndarray,
) -> None:
    """Shorten the distances of columns through one row; columns already reached have a price of -inf."""
    full = row.size // BLOCK
    for block in range(full):
        base = block * BLOCK
        smallest = np.inf
        for k in range(BLOCK):
            j = base + k
            through = sign * row[j] - prices[j] + offset
            parent[j] = label if through < distance[j] else parent[j]
            distance[j] = least(through, distance[j])
            smallest = least(smallest, distance[j])
        minima[block] = smallest
    if full < minima.size:
        smallest = np.inf
        for j in range(full * BLOCK, row.size):
            through = sign * row[j] - prices[j] + offset
            if through < distance[j]:
                distance[j] = through
                parent[j] = label
            smallest = least(smallest, distance[j])
        minima[full] = smallest


@compiled
def first_at(distance: np.ndarray, block: int, smallest: float) -> int:
    """First column of a whole block whose distance is the smallest."""
    first = BLOCK
    for k in range(BLOCK):
        first = min(first, k if distance[block * BLOCK + k] <= smallest else BLOCK)
    return block * BLOCK + first


@compiled
def block_minimum(distance: np.ndarray, block: int) -> float:
    """Smallest distance of a whole block."""
    smallest = np.inf
    for k in range(BLOCK):
        smallest = least(smallest, distance[block * BLOCK + k])
    return smallest
