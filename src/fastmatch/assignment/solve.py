"""The linear assignment problem of one similarity matrix."""

from __future__ import annotations

import numpy as np

from fastmatch.assignment.rectangular import cut, pad, pad_start
from fastmatch.assignment.solution import Assignment, Solved, Start
from fastmatch.errors import AssignmentError

METHODS = ("auto", "numba", "lapjv", "scipy")
_LARGEST = 1e150  # The squares of duals must stay finite.


def solve(
    similarity: np.ndarray, *, maximize: bool = True, warm: Start | None = None, method: str = "auto"
) -> Assignment:
    """Assign every row of a matrix to a column of its own, with the largest (or smallest) sum, exactly.

    Ties prefer the identity: it is returned where its sum is the optimum to rounding, and otherwise rows keep their
    own column where an exchange gives it to them at no loss. Beyond that ties are broken by the order of indices; the
    same call returns the same assignment.

    Parameters
    ----------
    similarity
        Shape [n, m], float32 or float64, finite. If n and m differ, the smaller side is assigned in full, and
        ``columns`` of the result is -1 for rows left out.
    warm
        An earlier result for a matrix of this shape, or any object with ``columns`` and ``column_duals``: the better
        they fit, the sooner the solver is done; the result is optimal from any start. Only numba makes use of it.
    method
        ``numba`` is fastmatch's own solver, ``auto`` uses it; ``lapjv`` and ``scipy`` are there to compare with. A
        result that its duals do not certify is solved again cold and then by scipy, in float64.

    Raises
    ------
    AssignmentError
        The matrix is not floating, not finite or not of two dimensions, the warm start is of another shape, the method
        is unknown or its package is missing.
    """
    if method not in METHODS:
        raise AssignmentError(f"unknown assignment method {method!r}; choose one of {', '.join(METHODS)}")
    matrix = _checked(similarity)
    if warm is not None:
        _check_start(warm, matrix.shape)
    sign = -1.0 if maximize else 1.0
    if matrix.shape[0] == matrix.shape[1]:
        return _solve_square(matrix, sign, warm, method)
    padded = pad(matrix)
    start = None if warm is None else pad_start(warm, len(padded))
    return cut(_solve_square(padded, sign, start, method), matrix.shape, sign)


def _checked(similarity: np.ndarray) -> np.ndarray:
    matrix = np.asarray(similarity)
    if matrix.ndim != 2:
        raise AssignmentError(f"an assignment needs a matrix, received shape {matrix.shape}")
    if matrix.dtype != np.float32 and matrix.dtype != np.float64:
        raise AssignmentError(f"an assignment needs float32 or float64, received {matrix.dtype}; convert the matrix")
    if not (matrix.flags.c_contiguous and matrix.flags.writeable):
        matrix = np.array(matrix, order="C")
    return matrix


def _scale(matrix: np.ndarray) -> float:
    """Largest absolute entry; refuses what has none."""
    scale = max(float(matrix.max()), -float(matrix.min()))
    if not scale < np.inf:
        raise AssignmentError("the similarity matrix holds NaN or infinite entries; check weights and activations")
    if scale > _LARGEST:
        raise AssignmentError(f"the similarity matrix holds entries above {_LARGEST:g}; scale it")
    return scale


def _check_start(warm: Start, shape: tuple[int, ...]) -> None:
    received = (*np.shape(warm.columns), *np.shape(warm.column_duals))
    if received != shape or np.ndim(warm.columns) != 1:
        raise AssignmentError(f"the warm start is for shape {received}, the matrix has {shape}; start cold")


def _solve_square(matrix: np.ndarray, sign: float, warm: Start | None, method: str) -> Assignment:
    if not len(matrix):
        return Assignment(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0), 0.0, 0.0, 0.0, True)
    scale = _scale(matrix)
    if method in ("auto", "numba"):
        return _solve_numba(matrix, sign, scale, warm)
    if method == "lapjv":
        from fastmatch.assignment import lapjv_solver
        from fastmatch.assignment.certificate import certify

        result = certify(matrix, sign, scale, lapjv_solver.solve(matrix, sign))
        if result.certified:
            return result
    return _solve_scipy(matrix, sign, scale)


def _solve_scipy(matrix: np.ndarray, sign: float, scale: float) -> Assignment:
    from fastmatch.assignment import scipy_solver
    from fastmatch.assignment.certificate import certify

    return certify(matrix, sign, scale, scipy_solver.solve(matrix, sign))


def _solve_numba(matrix: np.ndarray, sign: float, scale: float, warm: Start | None) -> Assignment:
    from fastmatch.assignment import dead, numba_solver
    from fastmatch.assignment.certificate import certify

    start = _start(warm, sign) if warm is not None else dead.pair_dead(matrix, scale) if sign < 0 else None
    if start is not None:
        result = certify(matrix, sign, scale, numba_solver.solve(matrix, sign, scale, start))
        if result.certified:
            return result
    result = certify(matrix, sign, scale, numba_solver.solve(matrix, sign, scale))
    return result if result.certified else _solve_scipy(matrix, sign, scale)


def _start(warm: Start, sign: float) -> Solved:
    """Columns and duals of a warm start as fresh arrays, whatever they hold."""
    columns = np.array(warm.columns, dtype=np.int64)
    prices = sign * np.asarray(warm.column_duals, dtype=np.float64)
    prices[~(np.abs(prices) <= _LARGEST)] = 0.0
    return Solved(columns, prices, prices)
