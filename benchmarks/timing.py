"""Alternatives timed side by side, on a fixed number of cores."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch

from benchmarks.report import Row

SECONDS = 10.0  # Of all rounds of one case, if the fewest rounds allow.
ROUNDS = (3, 15)


@dataclass(frozen=True)
class Timing:
    """Seconds of every round: on the clock, and of the process on all its cores."""

    wall: list[float]
    cpu: list[float]


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Keep this thread, those it starts and torch to ``count`` cores."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(allowed)[:count])
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def paired(calls: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
    """Time every call once a round, one after the other, so that all meet the same weather."""
    timings = {name: Timing([], []) for name in calls}
    began = time.perf_counter()
    fewest, most = ROUNDS
    for done in range(1, most + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            timings[name].cpu.append(time.process_time() - cpu)
            timings[name].wall.append(time.perf_counter() - wall)
        if done >= fewest and (time.perf_counter() - began) * (done + 1) / done > SECONDS:
            break
    return timings


def compare(calls: Mapping[str, Callable[[], object]], ratios: Iterable[tuple[str, str]], threads: int) -> Row:
    """Times of all calls, and medians over the rounds of how many times faster the first of two is.

    One thread is judged by its processor time, which others on the machine do not disturb; more by the clock.
    """
    timings = paired(calls)
    clock = "cpu" if threads == 1 else "wall"
    speedups = {
        f"{fast}/{slow}": _speedup(getattr(timings[fast], clock), getattr(timings[slow], clock))
        for fast, slow in ratios
        if fast in timings and slow in timings
    }
    times = {name: asdict(timing) for name, timing in timings.items()}
    return {"threads": threads, "clock": clock, "times": times, "speedup": speedups}


def _speedup(fast: list[float], slow: list[float]) -> float:
    return statistics.median(before / after for before, after in zip(slow, fast, strict=True))
