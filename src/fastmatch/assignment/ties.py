"""Which of several optimal assignments is taken."""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-13  # Of the summed sizes of the entries: two sums this close are the same one.


def settle(cost: np.ndarray, sign: float, columns: np.ndarray, rows: np.ndarray) -> None:
    """Move an optimal assignment towards the identity, in place, where that costs nothing.

    The identity is taken as a whole where it costs the same to rounding. Otherwise every row that can have its own
    column by an exchange at no cost gets it, in the order of rows. (A plain loop: numba compiles this function too.)

    Parameters
    ----------
    cost
        Shape [n, n]; ``sign`` times it is minimised.
    columns, rows
        Column of each row and row of each column.
    """
    size = len(columns)
    gain, weight = 0.0, 0.0
    for i in range(size):
        own, taken = sign * cost[i, i], sign * cost[i, columns[i]]
        gain += own - taken
        weight += abs(own) + abs(taken)
    whole = abs(gain) <= _ROUNDING * weight
    for i in range(size):
        if whole:
            columns[i] = rows[i] = i
        j, k = columns[i], rows[i]
        if j != i and sign * cost[i, i] + sign * cost[k, j] <= sign * cost[i, j] + sign * cost[k, i]:
            columns[i] = rows[i] = i
            columns[k], rows[j] = j, k
