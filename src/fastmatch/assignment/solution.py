"""The answer of every solver, with the certificate that it is optimal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

TOLERANCE = 1e-12  # Largest gap of a certified assignment, times the number of places and the largest |entry|.
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Assignment:
    """An assignment of rows to columns, with duals that bound its distance from the optimum.

    Attributes
    ----------
    columns
        Row i goes with column ``columns[i]``: int64, shape [n]. With fewer columns than rows, -1 stands for a row that
        is left without one.
    row_duals, column_duals
        Float64, shapes [n] and [m]. Maximising, ``row_duals[i] + column_duals[j] >= similarity[i, j]``; minimising,
        ``<=``; both to the rounding of one addition. Their total bounds every assignment's sum. If the matrix is not
        square, the duals of the longer side are at least 0 (minimising: at most 0), those left out are 0.
    objective
        Sum of the assigned entries, accumulated in float64.
    gap
        Total of the duals less the objective, or the other way round when minimising: how far from the optimum the
        objective can be at most. Computed in float64.
    violation
        Largest contribution of one row to the gap: by how much the duals of a pair differ from its entry.
    certified
        Whether the gap, with all that rounding may hide in it, is at most ``TOLERANCE * max(n, m) * max |similarity|``.
    """

    columns: np.ndarray
    row_duals: np.ndarray
    column_duals: np.ndarray
    objective: float
    gap: float
    violation: float
    certified: bool


class Start(Protocol):
    """Where a warm solve begins: an earlier :class:`Assignment`, or anything with its columns and column duals."""

    @property
    def columns(self) -> np.ndarray:
        """Column of each row, shape [n]."""

    @property
    def column_duals(self) -> np.ndarray:
        """Shape [m]."""


class Solved(NamedTuple):
    """What a solver returns for a square problem of minimisation: the column of each row, and the duals."""

    columns: np.ndarray
    row_duals: np.ndarray
    column_duals: np.ndarray


def certify(matrix: np.ndarray, sign: float, scale: float, solved: Solved) -> Assignment:
    """Certificate of a solved square problem, whose row duals must be the minima over ``sign * matrix - column_duals``.

    The duals are then feasible, so the gap is the total slack of the assigned pairs, summed without cancellation. Duals
    far larger than the entries swallow these in rounding: by at most the unit roundoff times the sum of all |duals|, of
    which the bound below is Cauchy's.
    """
    columns, row_duals, column_duals = solved
    entries = matrix[np.arange(len(columns)), columns].astype(np.float64)
    slack = sign * entries - row_duals - column_duals[columns]
    gap, size = float(slack.sum()), len(columns)
    rounding = _EPSILON * math.sqrt(2 * size * float(row_duals @ row_duals + column_duals @ column_duals))
    certified = abs(gap) + rounding <= TOLERANCE * size * scale
    if sign < 0:
        row_duals, column_duals = -row_duals, -column_duals
    violation = float(slack.max(initial=0.0))
    return Assignment(columns, row_duals, column_duals, float(entries.sum()), gap, violation, certified)
