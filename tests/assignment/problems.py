"""Kinds of matrices that assignments are tried on, and what every answer must fulfil."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

KINDS = {
    "normal": lambda rng, n, m: rng.standard_normal((n, m)),
    "negative": lambda rng, n, m: -rng.random((n, m)) - 5,
    "integers": lambda rng, n, m: rng.integers(-9, 10, (n, m)).astype(np.float64),
    "ties": lambda rng, n, m: rng.integers(0, 2, (n, m)).astype(np.float64),
    "duplicates": lambda rng, n, m: rng.standard_normal((n, m))[rng.integers(0, max(n, 1), n)],
    "equal rows": lambda rng, n, m: np.repeat(rng.standard_normal((1, m)), n, axis=0),
    "constant": lambda rng, n, m: np.full((n, m), 0.1),
    "dead units": lambda rng, n, m: (
        np.abs(rng.standard_normal((n, m))) * np.outer(rng.random(n) < 0.7, rng.random(m) < 0.7)
    ),
    "dead units, signed": lambda rng, n, m: (
        rng.standard_normal((n, m)) * np.outer(rng.random(n) < 0.7, rng.random(m) < 0.7)
    ),
    "sparse": lambda rng, n, m: rng.standard_normal((n, m)) * (rng.random((n, m)) < 0.1),
    "huge range": lambda rng, n, m: rng.standard_normal((n, m)) * 10.0 ** rng.uniform(-12, 12, (n, m)),
    "rank one": lambda rng, n, m: np.outer(rng.standard_normal(n), rng.standard_normal(m)),
    "low rank": lambda rng, n, m: rng.random((n, 3)) @ rng.random((3, m)),
    "near-degenerate": lambda rng, n, m: np.add.outer(rng.random(n), rng.random(m)) + 1e-9 * rng.random((n, m)),
    "planted": lambda rng, n, m: rng.random((n, m)) + np.eye(n, m)[rng.permutation(n)],
    "large": lambda rng, n, m: 1e12 * rng.standard_normal((n, m)),
    "small": lambda rng, n, m: 1e-12 * rng.standard_normal((n, m)),
}


def optimum(matrix, maximize):
    wide = matrix.astype(np.float64)
    return wide[linear_sum_assignment(wide, maximize=maximize)].sum()


def assert_optimal(result, matrix, maximize, best):
    """A valid assignment of the best objective, with feasible duals that certify it."""
    rows, columns = matrix.shape
    wide = matrix.astype(np.float64)
    scale = float(np.abs(wide).max(initial=0.0))
    tolerance = 1e-12 * max(rows, columns) * scale
    assert result.columns.dtype == np.int64
    assert result.columns.shape == (rows,)
    assigned = np.flatnonzero(result.columns >= 0)
    chosen = result.columns[assigned]
    assert len(set(chosen)) == len(chosen) == min(rows, columns)
    assert (result.columns >= -1).all()
    assert (result.columns < columns).all()
    assert result.objective == pytest.approx(wide[assigned, chosen].sum(), rel=0, abs=tolerance)
    assert result.objective == pytest.approx(best, rel=0, abs=tolerance)
    assert_certified(result, wide, 1.0 if maximize else -1.0, tolerance)


def assert_certified(result, wide, sign, tolerance):
    rows, columns = wide.shape
    assert result.certified
    assert 0 <= result.violation <= tolerance
    assert abs(result.gap) <= tolerance
    size = 1e-15 * (1 + np.abs(result.row_duals).max(initial=0.0) + np.abs(result.column_duals).max(initial=0.0))
    slack = sign * (result.row_duals[:, None] + result.column_duals - wide)
    assert slack.min(initial=0.0) >= -4 * size - tolerance
    total = result.row_duals.sum() + result.column_duals.sum()
    assert total == pytest.approx(result.objective, rel=0, abs=tolerance + max(rows, columns) * size)
    longer = result.column_duals if rows < columns else result.row_duals if columns < rows else np.zeros(0)
    assert (sign * longer).min(initial=0.0) >= -4 * size - tolerance
