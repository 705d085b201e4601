"""Assignment: every solver on every kind of matrix, one matrix at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks import cases, solvers
from benchmarks.report import Row
from benchmarks.timing import compare, cores
from fastmatch.assignment import Assignment, solve

_RATIOS = [(ours, theirs) for ours in ("fastmatch", "fastmatch warm") for theirs in ("scipy", "lapjv")]
_ROUNDING = 1e-12  # Of n times the largest entry: by how much two optima may differ.


def measure(kinds: Iterable[str], sizes: Iterable[int], threads: int) -> Iterator[Row]:
    """One row for each matrix: correctness first, then times."""
    for size in sizes:
        for kind in kinds:
            problem = cases.problem(kind, size)
            calls = solvers.solvers(problem)
            with cores(threads):
                checks = _check(problem, calls)
                yield {"case": kind, "n": size, "note": problem.note, **checks, **compare(calls, _RATIOS, threads)}


def _check(problem: cases.Problem, calls: dict[str, solvers.Solver]) -> Row:
    """Whether fastmatch, cold and warm, is certified and reaches scipy's objective in float64; lapjv's shortfall."""
    answers = [solve(problem.matrix)]
    if problem.start is not None:
        answers.append(solve(problem.matrix, warm=problem.start))
    best = _objective(problem.matrix, calls["scipy"]())
    found: Row = {
        "certified": all(answer.certified for answer in answers),
        "agrees": _agree(problem.matrix, best, answers),
    }
    if "lapjv" in calls:
        found["lapjv_shortfall"] = (best - _objective(problem.matrix, calls["lapjv"]())) / abs(best)
    return found


def _agree(matrix: np.ndarray, best: float, answers: list[Assignment]) -> bool:
    bound = _ROUNDING * len(matrix) * float(np.abs(matrix).max())
    return all(abs(_objective(matrix, answer.columns) - best) <= bound for answer in answers)


def _objective(matrix: np.ndarray, columns: np.ndarray) -> float:
    return float(matrix[np.arange(len(matrix)), columns].sum(dtype=np.float64))
