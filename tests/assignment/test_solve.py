from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmatch.assignment import certificate, scipy_solver, solve
from fastmatch.errors import AssignmentError
from tests.assignment.problems import KINDS, assert_optimal, optimum

METHODS = ["numba", "scipy", "lapjv"]
# lapjv takes seconds to forever on these.
TOO_MUCH_FOR_LAPJV = {"near-degenerate", "huge range", "rank one"}


def problem(kind, rows, columns=None, seed=0, dtype=np.float64):
    return KINDS[kind](np.random.default_rng(seed), rows, rows if columns is None else columns).astype(dtype)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_solver_reaches_the_optimum_of_every_kind(method, kind, maximize):
    if method == "lapjv":
        pytest.importorskip("lapjv")
        if kind in TOO_MUCH_FOR_LAPJV:
            pytest.skip("lapjv does not end on it")
    for size, dtype in [(1, np.float64), (2, np.float32), (7, np.float64), (33, np.float32), (129, np.float64)]:
        matrix = problem(kind, size, seed=size, dtype=dtype)
        assert_optimal(solve(matrix, maximize=maximize, method=method), matrix, maximize, optimum(matrix, maximize))


@pytest.mark.parametrize("kind", KINDS)
def test_small_problems_reach_the_best_of_all_permutations(kind):
    matrix = problem(kind, 6)
    sums = [matrix[np.arange(6), list(order)].sum() for order in permutations(range(6))]
    assert_optimal(solve(matrix), matrix, True, max(sums))
    assert_optimal(solve(matrix, maximize=False), matrix, False, min(sums))


@settings(max_examples=1500, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    rows=st.integers(0, 64),
    columns=st.none() | st.integers(0, 64),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    maximize=st.booleans(),
)
def test_any_problem_costs_what_scipy_finds(kind, rows, columns, seed, dtype, maximize):
    matrix = problem(kind, rows, columns, seed, dtype)
    assert_optimal(solve(matrix, maximize=maximize), matrix, maximize, optimum(matrix, maximize))


@settings(max_examples=1000, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    rows=st.integers(1, 40),
    columns=st.none() | st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    maximize=st.booleans(),
    garbage=st.sampled_from([0.0, 1e-9, 1.0, 1e6, 1e18, 1e300, np.inf, np.nan]),
)
def test_any_start_leads_to_the_optimum(kind, rows, columns, seed, maximize, garbage):
    matrix = problem(kind, rows, columns, seed)
    rng = np.random.default_rng(seed)
    width = matrix.shape[1]
    start = SimpleNamespace(
        columns=rng.integers(-3, width + 3, rows),
        column_duals=garbage * rng.standard_normal(width),
    )
    best = optimum(matrix, maximize)
    assert_optimal(solve(matrix, maximize=maximize, warm=start), matrix, maximize, best)
    swapped = replace(solve(matrix, maximize=not maximize))
    assert_optimal(solve(matrix, maximize=maximize, warm=swapped), matrix, maximize, best)


@pytest.mark.parametrize("shape", [(80, 80), (50, 80), (80, 50)])
def test_a_result_is_its_own_best_start(shape):
    matrix = problem("normal", *shape)
    cold = solve(matrix)
    warm = solve(matrix, warm=cold)
    assert np.array_equal(cold.columns, warm.columns)
    np.testing.assert_allclose(cold.column_duals, warm.column_duals, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [0.0003, 0.003, 0.02, 1.0])
@pytest.mark.parametrize("size", [40, 130, 420])
def test_a_neighbouring_problem_is_a_start(size, noise, dtype):
    matrix = problem("low rank", size, dtype=dtype)
    moved = matrix + (noise * problem("normal", size, seed=1)).astype(dtype)
    for maximize in (True, False):
        start = solve(matrix, maximize=maximize)
        assert_optimal(solve(moved, maximize=maximize, warm=start), moved, maximize, optimum(moved, maximize))


@pytest.mark.parametrize("price", [1e3, 1e40, 1e150])
@pytest.mark.parametrize("unit", [1e-28, 1.0, 1e28])
def test_columns_that_no_row_would_take_may_have_any_price(unit, price):
    matrix = (unit * problem("normal", 200)).astype(np.float32)
    start = solve(matrix)
    start.column_duals[::3] += price
    assert_optimal(solve(matrix, warm=start), matrix, True, optimum(matrix, True))


def test_a_start_is_not_changed():
    matrix = problem("normal", 30)
    start = solve(problem("normal", 30, seed=1))
    columns, duals = start.columns.copy(), start.column_duals.copy()
    solve(matrix, warm=start)
    assert np.array_equal(start.columns, columns)
    assert np.array_equal(start.column_duals, duals)


def test_what_no_solver_certifies_is_said_not_to_be(monkeypatch):
    monkeypatch.setattr(certificate, "TOLERANCE", -1.0)
    matrix = problem("normal", 9)
    result = solve(matrix)
    assert not result.certified
    assert result.objective == pytest.approx(optimum(matrix, True))


def test_a_wrong_assignment_is_not_certified(monkeypatch):
    monkeypatch.setattr(scipy_solver, "linear_sum_assignment", lambda cost: (None, np.roll(np.arange(len(cost)), 1)))
    result = solve(np.roll(np.eye(5), 2, axis=1) + 0.01 * problem("normal", 5), method="scipy")
    assert not result.certified
    assert result.gap > 1


@pytest.mark.parametrize("size", [7, 90])
@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e-35, 1e-30, 1e-28, 1e28, 1e30, 1e35, 1e140])
def test_the_unit_of_the_entries_does_not_matter(unit, size):
    matrix = problem("normal", size)
    plain, scaled = solve(matrix), solve(unit * matrix)
    assert np.array_equal(scaled.columns, plain.columns)
    assert scaled.certified
    assert scaled.objective == pytest.approx(unit * plain.objective, rel=1e-9, abs=0)


def test_a_planted_permutation_is_found_in_rows_to_columns():
    columns = np.random.default_rng(0).permutation(50)
    matrix = np.random.default_rng(1).random((50, 50))
    matrix[np.arange(50), columns] += 50
    assert np.array_equal(solve(matrix).columns, columns)


TIED = {
    "zero": np.zeros((80, 80)),
    "constant": np.full((8, 8), 0.1),
    "negative constant": np.full((70, 70), -1e9),
    "float32 constant": np.full((8, 8), 0.1, dtype=np.float32),
    "equal rows": np.tile(np.random.default_rng(3).standard_normal(80), (80, 1)),
    "row terms and column terms": np.add.outer(*np.random.default_rng(4).standard_normal((2, 80))),
}


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("matrix", TIED.values(), ids=TIED)
@pytest.mark.parametrize("method", ["auto", "scipy"])
def test_where_every_permutation_is_as_good_no_unit_moves(method, matrix, maximize):
    result = solve(matrix, maximize=maximize, method=method)
    assert np.array_equal(result.columns, np.arange(len(matrix)))
    assert result.objective == pytest.approx(float(np.trace(matrix)), rel=1e-6)
    assert result.certified


@pytest.mark.parametrize("method", ["auto", "scipy"])
def test_tied_units_stay_where_they_are_while_others_move(method):
    matrix = np.full((9, 9), 0.5)
    matrix[:2] = matrix[:, :2] = 0
    matrix[0, 1] = matrix[1, 0] = 3
    assert solve(matrix, method=method).columns.tolist() == [1, 0, *range(2, 9)]
    matrix[2:, 2:] = 0
    assert solve(matrix, method=method).columns.tolist() == [1, 0, *range(2, 9)]


@pytest.mark.parametrize("maximize", [True, False])
def test_where_either_side_is_left_over_the_first_places_are_kept(maximize):
    assert solve(np.ones((3, 5)), maximize=maximize).columns.tolist() == [0, 1, 2]
    assert solve(np.ones((5, 3)), maximize=maximize).columns.tolist() == [0, 1, 2, -1, -1]


def test_a_gain_far_above_rounding_beats_the_identity():
    matrix = np.eye(4)
    matrix[0, 1] = matrix[1, 0] = 1 + 1e-9
    assert solve(matrix).columns.tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (0, 4), (4, 0), (1, 3)])
def test_the_smallest_problems_have_one_answer(shape, method):
    matrix = np.full(shape, 2.5)
    assert_optimal(solve(matrix, method=method), matrix, True, 2.5 * min(shape))


def test_the_matrix_is_not_changed_and_may_be_read_only_or_not_contiguous():
    matrix = problem("normal", 6)
    before = matrix.copy()
    matrix.flags.writeable = False
    first = solve(matrix.T)
    assert np.array_equal(matrix, before)
    assert np.array_equal(first.columns, solve(np.ascontiguousarray(matrix.T)).columns)


MEMORY = """
import numpy as np
from fastmatch.assignment import solve
rng = np.random.default_rng(0)
for size in (3, 65, 130):
    dead = rng.integers(0, 3, (size, size)) * np.outer(*rng.integers(0, 2, (2, size))) * 1.0
    for matrix in (rng.standard_normal((size, size)), dead):
        for shape in (size, size // 2):
            result = solve(matrix[:shape])
            print(result.columns.tolist(), result.column_duals.tolist(), result.row_duals.tolist())
"""


def test_no_memory_is_read_before_it_is_written():
    """The allocator fills what it hands out with different bytes; the results are the same."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", MEMORY],
            env=os.environ | {"MALLOC_PERTURB_": fill},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fill in ("1", "255")
    }
    assert len(outputs) == 1


def with_entry(value, dtype=np.float64):
    matrix = np.eye(3, dtype=dtype)
    matrix[1, 2] = value
    return matrix


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros(4), r"needs a matrix, received shape \(4,\)"),
        (np.zeros((2, 2, 2)), "needs a matrix"),
        (with_entry(np.nan), "NaN or infinite"),
        (with_entry(np.inf), "NaN or infinite"),
        (with_entry(-np.inf, np.float32), "NaN or infinite"),
        (with_entry(np.nan)[:2], "NaN or infinite"),
        (with_entry(-2e150), "above 1e.150; scale it"),
        (np.eye(3, dtype=np.int64), "received int64"),
        (np.eye(3, dtype=bool), "received bool"),
        (np.eye(3, dtype=np.float16), "received float16"),
        (np.eye(3, dtype=np.complex128), "received complex128"),
    ],
)
def test_matrices_without_an_answer_are_refused(matrix, message, method):
    with pytest.raises(AssignmentError, match=message):
        solve(matrix, method=method)


def test_unknown_methods_and_starts_of_another_shape_are_refused():
    with pytest.raises(AssignmentError, match=r"unknown assignment method 'jv'; choose one of auto, numba"):
        solve(np.eye(3), method="jv")
    with pytest.raises(AssignmentError, match=r"start is for shape \(4, 4\), the matrix has \(3, 3\)"):
        solve(np.eye(3), warm=solve(np.eye(4)))


def test_without_lapjv_only_its_name_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "lapjv", None)
    with pytest.raises(AssignmentError, match=r'^method "lapjv" needs the package lapjv; install it or .*"auto"$'):
        solve(np.eye(3), method="lapjv")
    assert solve(np.eye(3)).columns.tolist() == [0, 1, 2]
