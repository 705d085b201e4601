"""The assignment solvers side by side: each a call that returns the column of every row."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.cases import Problem
from fastmatch.assignment import solve

try:
    from lapjv import lapjv
except ImportError:
    lapjv = None

PATIENCE = 60.0  # Seconds after which lapjv counts as stuck: nothing can interrupt it.
_TRIAL = "import sys, numpy, lapjv; lapjv.lapjv(numpy.load(sys.argv[1]))"
Solver = Callable[[], np.ndarray]


def solvers(problem: Problem) -> dict[str, Solver]:
    """Solvers of a problem by name; lapjv, in its fastest form, only where it is installed and comes to an end."""
    matrix, _, start = problem
    calls: dict[str, Solver] = {"scipy": lambda: linear_sum_assignment(matrix, maximize=True)[1]}
    if lapjv is not None and _comes_to_an_end(-matrix):
        cost = -matrix
        calls["lapjv"] = lambda: lapjv(cost)[0]
    calls["fastmatch"] = lambda: solve(matrix).columns
    if start is not None:
        calls["fastmatch warm"] = lambda: solve(matrix, warm=start).columns
    return calls


def _comes_to_an_end(cost: np.ndarray) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cost.npy"
        np.save(path, cost)
        try:
            return not subprocess.run([sys.executable, "-c", _TRIAL, path], timeout=PATIENCE, check=False).returncode
        except subprocess.TimeoutExpired:
            return False
