"""Rows and columns without any similarity: dead units, that fire on no example."""

from __future__ import annotations

import numpy as np

from fastmatch.assignment import numba_solver
from fastmatch.assignment.solution import Solved


def pair_dead(matrix: np.ndarray, scale: float) -> Solved | None:
    """Where a maximisation begins if dead rows take dead columns, or None if there are not both.

    The rest is solved apart. For matrices without negative entries the pairing is optimal and so is the start; for
    others the solver that goes on from it puts right what is not.
    """
    if matrix[0].all() or matrix[:, 0].all():
        return None
    rows, columns = np.flatnonzero(~matrix.any(axis=1)), np.flatnonzero(~matrix.any(axis=0))
    both = np.intersect1d(rows, columns)
    rows, columns = (np.concatenate([both, np.setdiff1d(dead, both)]) for dead in (rows, columns))
    pairs = min(len(rows), len(columns))
    if not pairs:
        return None
    rows, columns = rows[:pairs], columns[:pairs]
    start = Solved(np.zeros(len(matrix), dtype=np.int64), np.zeros(len(matrix)), np.zeros(len(matrix)))
    start.columns[rows] = columns
    if pairs < len(matrix):
        _solve_rest(matrix, scale, rows, columns, start)
    return start


def _solve_rest(matrix: np.ndarray, scale: float, rows: np.ndarray, columns: np.ndarray, start: Solved) -> None:
    """Fill ``start`` outside the dead pairs, and price these as high as no living row minds."""
    every = np.arange(len(matrix))
    other_rows, other_columns = np.setdiff1d(every, rows), np.setdiff1d(every, columns)
    rest = numba_solver.solve(matrix[np.ix_(other_rows, other_columns)], -1.0, scale)
    start.columns[other_rows] = other_columns[rest.columns]
    start.column_duals[other_columns] = rest.column_duals
    start.column_duals[columns] = -rest.row_duals.max()
