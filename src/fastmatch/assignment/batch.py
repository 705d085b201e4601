"""Many assignment problems at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastmatch.assignment.solution import Assignment, Start
from fastmatch.assignment.solve import solve
from fastmatch.errors import AssignmentError

_SMALL = 32  # Up to this size a problem takes no longer than handing it to a thread.


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def solve_batch(
    matrices: Iterable[np.ndarray],
    *,
    maximize: bool = True,
    warm: Sequence[Start | None] | None = None,
    method: str = "auto",
    threads: int | None = None,
) -> list[Assignment]:
    """Solve independent problems of equal or different sizes over threads; the results are those of :func:`solve`.

    Parameters
    ----------
    matrices
        Similarity matrices as in :func:`solve`, or one array of shape [batch, n, m].
    warm
        A start for each matrix, None where there is none.
    threads
        By default one for each core that this process may use; fastmatch's own solver runs them side by side.

    Raises
    ------
    AssignmentError
        As in :func:`solve`; there are not as many starts as matrices; ``threads`` is below one.
    """
    problems = list(matrices)
    starts = [None] * len(problems) if warm is None else list(warm)
    if len(starts) != len(problems):
        raise AssignmentError(f"{len(problems)} matrices need as many warm starts, received {len(starts)}")
    if threads is not None and threads < 1:
        raise AssignmentError(f"a batch needs at least one thread, received {threads}")

    def one(problem: np.ndarray, start: Start | None) -> Assignment:
        return solve(problem, maximize=maximize, warm=start, method=method)

    workers = min(threads or available_cores(), len(problems))
    if workers <= 1 or max(max(np.shape(problem), default=0) for problem in problems) <= _SMALL:
        return [one(problem, start) for problem, start in zip(problems, starts, strict=True)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, problems, starts))
