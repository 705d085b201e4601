from __future__ import annotations

import numpy as np
import pytest

from fastmatch.assignment import solve, solve_batch
from fastmatch.errors import AssignmentError
from tests.assignment.problems import KINDS

SHAPES = [(5, 5), (80, 80), (0, 0), (64, 90), (90, 64), (1, 1), (130, 130)]


def mixed():
    rng = np.random.default_rng(0)
    return [kind(rng, *SHAPES[place % len(SHAPES)]) for place, kind in enumerate(KINDS.values())]


def assert_same(batch, singles):
    assert len(batch) == len(singles)
    for one, other in zip(batch, singles, strict=True):
        assert np.array_equal(one.columns, other.columns)
        assert np.array_equal(one.column_duals, other.column_duals)
        assert one.objective == other.objective


@pytest.mark.parametrize("threads", [None, 1, 3])
@pytest.mark.parametrize("maximize", [True, False])
def test_a_batch_of_mixed_sizes_equals_its_problems_one_by_one(maximize, threads):
    matrices = mixed()
    singles = [solve(matrix, maximize=maximize) for matrix in matrices]
    assert_same(solve_batch(matrices, maximize=maximize, threads=threads), singles)


@pytest.mark.parametrize("size", [8, 70])
def test_one_array_holds_a_batch_of_equal_sizes(size):
    matrices = np.random.default_rng(0).standard_normal((6, size, size)).astype(np.float32)
    assert_same(solve_batch(matrices, threads=2), [solve(matrix) for matrix in matrices])


def test_every_problem_may_have_its_start():
    matrices = mixed()
    starts = [None if place % 3 else solve(matrix) for place, matrix in enumerate(matrices)]
    singles = [solve(matrix, warm=start) for matrix, start in zip(matrices, starts, strict=True)]
    assert_same(solve_batch(matrices, warm=starts, threads=2), singles)


def test_no_problems_have_no_answers():
    assert solve_batch([]) == []


def test_what_is_wrong_with_one_problem_is_said():
    good = np.eye(40)
    with pytest.raises(AssignmentError, match="NaN or infinite"):
        solve_batch([good, good * np.nan], threads=2)
    with pytest.raises(AssignmentError, match="2 matrices need as many warm starts, received 1"):
        solve_batch([good, good], warm=[None])
    with pytest.raises(AssignmentError, match="at least one thread, received 0"):
        solve_batch([good], threads=0)
