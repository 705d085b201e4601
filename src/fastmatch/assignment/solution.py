"""What goes into the solvers and comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

TOLERANCE = 1e-12  # Largest gap of a certified assignment, times the number of places and the largest |entry|.


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
