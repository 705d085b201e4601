"""Where a solve begins: column prices from a few rounds of entropic optimal transport, one if the start is warm.

Sinkhorn's iterations (Cuturi 2013, arXiv:1306.0895) with a falling temperature cost as much as two scans of the matrix
a round and leave prices from which far fewer shortest paths are to be searched. They need no accuracy: the solver is
exact from any prices. So all is float32 and powers of two are taken as Schraudolph (1999) does, within six per cent, by
writing the exponent, with the mantissa linear in between.
"""

from __future__ import annotations

import numpy as np

from fastmatch.assignment.compiled import compiler
from fastmatch.assignment.scans import least

_HOT, _COLD = 1.0, 0.03  # First and last temperature, in standard deviations of the costs.
_UNIT = 2.0**23  # One in the exponent of a float32, seen as an integer.
_BIAS = np.float32(127 * _UNIT)
_FAINT = np.float32(1e-6)  # Least demand that counts: bounds the steps of columns that no row wants.
_loosely = compiler("nnan", "nsz", "contract", "reassoc", "arcp")


@_loosely
def _smallest(row: np.ndarray, factor: float, prices: np.ndarray) -> np.float32:
    smallest = np.float32(np.inf)
    for j in range(row.size):
        smallest = least(smallest, np.float32(row[j] * factor) - prices[j])
    return smallest


@_loosely
def _spread(row: np.ndarray, factor: float, prices: np.ndarray, bits: np.ndarray, share: np.ndarray) -> np.float32:
    """Boltzmann weights of the columns for one row, and their sum; ``bits`` and ``share`` are the same memory."""
    smallest = _smallest(row, factor, prices)
    for j in range(row.size):
        exponent = smallest + prices[j] - np.float32(row[j] * factor)
        exponent = exponent if exponent > -_BIAS else -_BIAS
        bits[j] = np.int32(exponent + _BIAS)
    total = np.float32(0)
    for j in range(row.size):
        total += share[j]
    return total


@_loosely
def deviation(cost: np.ndarray) -> float:
    """Standard deviation of the entries."""
    origin, total, squares = np.float64(cost[0, 0]), 0.0, 0.0
    for i in range(len(cost)):
        for j in range(len(cost)):
            value = cost[i, j] - origin
            total += value
            squares += value * value
    mean = total / cost.size
    return np.sqrt(max(0.0, squares / cost.size - mean * mean))


@_loosely
def soften(cost: np.ndarray, sign: float, temperature: float, prices: np.ndarray) -> None:
    """Move prices of columns by one round of Sinkhorn's iteration; float32 resolves those best that are near 0."""
    size = len(prices)
    factor = _UNIT / (temperature * np.log(2.0))
    scaled = np.empty(size, dtype=np.float32)
    demand = np.zeros(size, dtype=np.float32)
    bits = np.empty(size, dtype=np.int32)
    share = bits.view(np.float32)
    for j in range(size):
        scaled[j] = np.float32(prices[j] * factor)
    for i in range(size):
        portion = np.float32(1) / _spread(cost[i], cost.dtype.type(sign * factor), scaled, bits, share)
        for j in range(size):
            demand[j] += portion * share[j]
    for j in range(size):
        prices[j] -= temperature * np.log(max(demand[j], _FAINT))


@_loosely
def anneal(cost: np.ndarray, sign: float, deviation: float, prices: np.ndarray) -> None:
    """Prices of columns for ``sign * cost``, whose entries have this standard deviation, from nothing."""
    prices[:] = 0.0
    rounds = 6 + len(prices) // 192  # Searches get dearer with the size, and better prices worth more.
    for step in range(rounds):
        soften(cost, sign, deviation * _HOT * (_COLD / _HOT) ** (step / (rounds - 1)), prices)
