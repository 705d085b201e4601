"""Assignment, one solver and one matrix at a time."""

from __future__ import annotations

import os

import pytest

from benchmarks import cases
from benchmarks.solvers import solvers
from benchmarks.timing import cores

SIZES = cases.SIZES if os.environ.get("FASTMATCH_BENCHMARKS") == "all" else cases.SIZES[:2]


@pytest.mark.parametrize("solver", ["scipy", "lapjv", "fastmatch", "fastmatch warm"])
@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_assignment(benchmark, size, kind, solver):
    calls = solvers(cases.problem(kind, size))
    if solver not in calls:
        pytest.skip("no earlier answer to start from" if "warm" in solver else "lapjv is missing or takes too long")
    benchmark.group = f"{kind} {size}"
    with cores(1):
        benchmark.pedantic(calls[solver], rounds=5, warmup_rounds=1)
