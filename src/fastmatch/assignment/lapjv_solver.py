"""The ``lapjv`` package (Jonker and Volgenant 1987), where it is installed."""

from __future__ import annotations

import numpy as np

from fastmatch.assignment.scipy_solver import with_duals
from fastmatch.assignment.solution import Solved
from fastmatch.errors import AssignmentError


def solve(matrix: np.ndarray, sign: float) -> Solved:
    """Minimise ``sign * matrix`` in float64: the duals of its float32 form would not certify."""
    try:
        from lapjv import lapjv
    except ImportError as error:
        raise AssignmentError('method "lapjv" needs the package lapjv; install it or use method "auto"') from error
    cost = sign * matrix.astype(np.float64)
    return with_duals(cost, lapjv(cost, force_doubles=True)[0])
