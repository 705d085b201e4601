"""The reference: scipy's shortest augmenting paths (Crouse 2016, doi 10.1109/TAES.2016.140952), with duals added."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from fastmatch.assignment.solution import Solved
from fastmatch.assignment.ties import settle


def solve(matrix: np.ndarray, sign: float) -> Solved:
    """Minimise ``sign * matrix`` in float64."""
    cost = sign * matrix.astype(np.float64)
    return with_duals(cost, linear_sum_assignment(cost)[1])


def with_duals(cost: np.ndarray, columns: np.ndarray) -> Solved:
    """Ties settled, and duals of an optimal assignment: Bellman-Ford over exchanges of columns.

    Column j costs no more than any other column plus what its row would pay to change: the prices are the shortest
    paths under these costs, which have no negative cycle exactly if the assignment is optimal.
    """
    columns = columns.astype(np.int64)
    settle(cost, 1.0, columns, np.argsort(columns))
    own = cost[np.arange(len(cost)), columns]
    prices = np.zeros(len(cost))
    rounding = 4 * np.finfo(np.float64).eps * float(np.abs(cost).max(initial=0.0))
    for _ in range(len(cost)):
        shorter = np.minimum(prices, (cost + (prices[columns] - own)[:, None]).min(axis=0, initial=np.inf))
        if (prices - shorter <= rounding).all():
            break
        prices = shorter
    return Solved(columns, (cost - prices).min(axis=1, initial=np.inf), prices)
