from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from fastmatch.assignment import solve
from fastmatch.errors import AssignmentError

KINDS = {
    "normal": lambda rng, n: rng.standard_normal((n, n)),
    "negative": lambda rng, n: -rng.random((n, n)) - 5,
    "integers": lambda rng, n: rng.integers(-9, 10, (n, n)).astype(np.float64),
    "ties": lambda rng, n: rng.integers(0, 2, (n, n)).astype(np.float64),
    "tied rows": lambda rng, n: np.repeat(rng.standard_normal((1, n)), n, axis=0),
    "dead units": lambda rng, n: rng.standard_normal((n, n)) * (np.arange(n) % 3 > 0)[:, None],
    "float32": lambda rng, n: rng.standard_normal((n, n)).astype(np.float32),
    "large": lambda rng, n: 1e12 * rng.standard_normal((n, n)),
    "small": lambda rng, n: 1e-12 * rng.standard_normal((n, n)),
}


def best_of_all(matrix, maximize):
    rows = np.arange(len(matrix))
    sums = [matrix[rows, list(order)].sum(dtype=np.float64) for order in permutations(range(len(matrix)))]
    return max(sums) if maximize else min(sums)


def assert_optimal(matrix, maximize, optimum):
    result = solve(matrix, maximize=maximize)
    size = len(matrix)
    assert result.columns.dtype == np.int64
    assert sorted(result.columns) == list(range(size))
    tolerance = 1e-12 * size * float(np.abs(matrix).max())
    assert result.objective == pytest.approx(
        matrix[np.arange(size), result.columns].sum(dtype=np.float64), abs=tolerance
    )
    assert result.objective == pytest.approx(optimum, abs=tolerance)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_small_problems_reach_the_best_of_all_permutations(kind, size, maximize):
    matrix = KINDS[kind](np.random.default_rng(size), size)
    assert_optimal(matrix, maximize, best_of_all(matrix, maximize))


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [17, 120])
def test_larger_problems_cost_what_scipy_finds(kind, size, maximize):
    matrix = KINDS[kind](np.random.default_rng(size), size)
    wide = matrix.astype(np.float64)
    assert_optimal(matrix, maximize, wide[linear_sum_assignment(wide, maximize=maximize)].sum())


def test_a_planted_permutation_is_found_in_rows_to_columns():
    columns = np.random.default_rng(0).permutation(50)
    matrix = np.random.default_rng(1).random((50, 50))
    matrix[np.arange(50), columns] += 50
    assert np.array_equal(solve(matrix).columns, columns)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((8, 8)),
        np.full((8, 8), 0.1),
        np.full((8, 8), -1e9),
        np.full((8, 8), 0.1, dtype=np.float32),
        np.tile(np.random.default_rng(3).standard_normal(8), (8, 1)),
        np.add.outer(np.random.default_rng(4).standard_normal(8), np.random.default_rng(5).standard_normal(8)),
    ],
    ids=["zero", "constant", "negative constant", "float32 constant", "equal rows", "sum of row and column terms"],
)
def test_where_every_permutation_is_as_good_no_unit_moves(matrix, maximize):
    result = solve(matrix, maximize=maximize)
    assert np.array_equal(result.columns, np.arange(8))
    assert result.objective == pytest.approx(float(np.trace(matrix)), rel=1e-6)


def test_dead_units_stay_where_they_are_when_the_others_do():
    matrix = np.diag([3.0, 0.0, 2.0, 0.0, 0.0])
    assert np.array_equal(solve(matrix).columns, np.arange(5))


def test_a_gain_far_above_rounding_beats_the_identity():
    matrix = np.eye(4)
    matrix[0, 1] = matrix[1, 0] = 1 + 1e-9
    assert solve(matrix).columns.tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_problems_have_one_answer(size):
    result = solve(np.full((size, size), 2.5))
    assert result.columns.tolist() == list(range(size))
    assert result.columns.dtype == np.int64
    assert result.objective == 2.5 * size


def test_the_matrix_is_not_changed_and_may_be_read_only_or_not_contiguous():
    matrix = np.random.default_rng(0).standard_normal((6, 6))
    before = matrix.copy()
    matrix.flags.writeable = False
    first = solve(matrix.T)
    assert np.array_equal(matrix, before)
    assert np.array_equal(first.columns, solve(np.ascontiguousarray(matrix.T)).columns)


def with_entry(value):
    matrix = np.eye(3)
    matrix[1, 2] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), r"square matrix, received shape \(2, 3\)"),
        (np.zeros(4), r"square matrix, received shape \(4,\)"),
        (np.zeros((2, 2, 2)), "square matrix"),
        (with_entry(np.nan), "NaN or infinite"),
        (with_entry(np.inf), "NaN or infinite"),
        (with_entry(-np.inf), "NaN or infinite"),
        (np.eye(3, dtype=np.int64), "received int64"),
        (np.eye(3, dtype=bool), "received bool"),
        (np.eye(3, dtype=np.float16), "received float16"),
        (np.eye(3, dtype=np.complex128), "received complex128"),
    ],
)
def test_matrices_without_an_answer_are_refused(matrix, message):
    with pytest.raises(AssignmentError, match=message):
        solve(matrix)
