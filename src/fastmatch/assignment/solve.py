"""The linear assignment problem of one similarity matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from fastmatch.errors import AssignmentError


@dataclass(frozen=True)
class Assignment:
    """An optimal assignment: row i goes with column ``columns[i]`` (int64, shape [n]); ``objective`` is its sum."""

    columns: np.ndarray
    objective: float


def solve(similarity: np.ndarray, *, maximize: bool = True) -> Assignment:
    """Assign every row of a square matrix to a column of its own, with the largest (or smallest) sum.

    The problem is solved by the shortest augmenting paths of scipy (Crouse 2016, doi 10.1109/TAES.2016.140952). Where
    the identity is as good as what they find, to rounding, the identity is returned: ties must not move units.

    Parameters
    ----------
    similarity
        Shape [n, n], float32 or float64, finite.

    Raises
    ------
    AssignmentError
        The matrix is not square, not floating, or holds NaN or infinities.
    """
    matrix = np.asarray(similarity)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise AssignmentError(f"an assignment needs a square matrix, received shape {matrix.shape}")
    if matrix.dtype not in (np.float32, np.float64):
        raise AssignmentError(f"an assignment needs float32 or float64, received {matrix.dtype}; convert the matrix")
    if not np.isfinite(matrix).all():
        raise AssignmentError("the similarity matrix holds NaN or infinite entries; check weights and activations")
    wide = matrix.astype(np.float64)
    rows, columns = linear_sum_assignment(wide, maximize=maximize)
    objective, identity = float(wide[rows, columns].sum()), float(np.trace(wide))
    if abs(objective - identity) <= 1e-13 * float(np.abs(np.diag(wide)).sum() + np.abs(wide[rows, columns]).sum()):
        return Assignment(np.arange(len(wide)), identity)
    return Assignment(columns.astype(np.int64), objective)
