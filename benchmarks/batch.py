"""Batches of assignment problems: one thread beside two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks import cases
from benchmarks.report import Row
from benchmarks.timing import compare, cores
from fastmatch.assignment import solve_batch

COUNT = 64
THREADS = 2


def measure(sizes: Iterable[int]) -> Iterator[Row]:
    for size in sizes:
        matrices = cases.restarts(size, COUNT)
        calls = {
            "1 thread": lambda: solve_batch(matrices, threads=1),  # noqa: B023
            f"{THREADS} threads": lambda: solve_batch(matrices, threads=THREADS),  # noqa: B023
        }
        answers = [[answer.objective for answer in call()] for call in calls.values()]
        note = f"{COUNT} problems: a hidden layer beside {COUNT} random orders of the other"
        with cores(THREADS):
            compared = compare(calls, [(f"{THREADS} threads", "1 thread")], THREADS)
        yield {"case": "batch", "n": size, "note": note, "agrees": answers[0] == answers[1], **compared}
