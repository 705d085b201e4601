"""The certificate that an assignment is optimal, compiled: for small problems numpy's calls would count."""

from __future__ import annotations

import math

import numpy as np

from fastmatch.assignment.compiled import compiled
from fastmatch.assignment.solution import TOLERANCE, Assignment, Solved

_EPSILON = float(np.finfo(np.float64).eps)


def certify(matrix: np.ndarray, sign: float, scale: float, solved: Solved) -> Assignment:
    """Certificate of a solved square problem, whose row duals must be the minima over ``sign * matrix - column_duals``.

    The duals are then feasible, so the gap is the total slack of the assigned pairs, summed without cancellation. Duals
    far larger than the entries swallow these in rounding: by at most the unit roundoff times the sum of all |duals|, of
    which the bound below is Cauchy's.
    """
    columns, row_duals, column_duals = solved
    objective, gap, violation, squares = _totals(matrix, sign, columns, row_duals, column_duals)
    size = len(columns)
    certified = abs(gap) + _EPSILON * math.sqrt(2 * size * squares) <= TOLERANCE * size * scale
    if sign < 0:
        row_duals, column_duals = -row_duals, -column_duals
    return Assignment(columns, row_duals, column_duals, objective, gap, violation, certified)


@compiled
def _totals(
    matrix: np.ndarray, sign: float, columns: np.ndarray, row_duals: np.ndarray, column_duals: np.ndarray
) -> tuple[float, float, float, float]:
    """Sum of the assigned entries; sum and largest of their slacks; sum of the squared duals."""
    objective, gap, violation, squares = 0.0, 0.0, 0.0, 0.0
    for i in range(len(columns)):
        j = columns[i]
        entry = np.float64(matrix[i, j])
        slack = sign * entry - row_duals[i] - column_duals[j]
        objective += entry
        gap += slack
        violation = max(violation, slack)
        squares += row_duals[i] * row_duals[i] + column_duals[j] * column_duals[j]
    return objective, gap, violation, squares
