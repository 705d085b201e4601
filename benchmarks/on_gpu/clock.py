"""Times on a GPU, by its own clock."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

Call = Callable[[Any], object]
Times = dict[str, list[float]]  # Seconds of every round: "called" one after the other, and "queued" behind a pause.

SECONDS = 0.5  # Of all rounds of one case, if the fewest rounds allow.
ROUNDS = (5, 15)
_ROUND = 2e-3  # Seconds that the calls of a round take together, about.
_CALLS = 50  # Of a round at most.
_QUEUED = 8  # Calls that wait on the GPU at most: a launch beyond about a thousand would wait for others.
_PAUSE = 2.0  # Times as long as launching takes.
_CYCLES = 2e9  # Of a GPU's clock in a second, at most.
_CACHES = 4  # Times the cache that all inputs together exceed.
_SETS = 128
_COPIED = 1 << 32  # Bytes.
_SIDE = 8192
_FORMS = ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False))  # As in Ceilings.


class Ceilings(NamedTuple):
    """What the device does at best: bytes copied (read and written) and operations of products in a second."""

    copy: float
    fp32: float
    tf32: float
    bf16: float


def count_sets(size: int, device: torch.device) -> int:
    """Sets of inputs of so many bytes among which calls rotate, so that none finds its own in the cache."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return min(_SETS, max(2, math.ceil(_CACHES * cache / max(1, size))))


def paired(calls: Mapping[str, Call], sets: Sequence[Any]) -> dict[str, Times]:
    """Time every call in every round, one after the other.

    ``"called"`` are seconds of a call among many, with what Python and launching cost where the GPU waits for them;
    ``"queued"`` are seconds that the GPU takes when all its work is there already.
    """
    inputs = itertools.cycle(sets)
    plans = {name: _plan(call, inputs, len(sets)) for name, call in calls.items()}
    times: dict[str, Times] = {name: {"called": [], "queued": []} for name in calls}
    began = time.perf_counter()
    for done in range(1, ROUNDS[1] + 1):
        for name, call in calls.items():
            many, few, pause = plans[name]
            times[name]["called"].append(elapsed(call, inputs, many))
            times[name]["queued"].append(elapsed(call, inputs, few, pause))
        if done >= ROUNDS[0] and (time.perf_counter() - began) * (done + 1) / done > SECONDS:
            break
    return times


def elapsed(call: Call, inputs: Iterator[Any], count: int, pause: float = 0.0) -> float:
    """Seconds of one of ``count`` calls; all are launched during a pause of the GPU of so many seconds."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if pause:
        torch.cuda._sleep(int(pause * _CYCLES))
    begin.record()
    for _ in range(count):
        call(next(inputs))
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / count


def _plan(call: Call, inputs: Iterator[Any], warm: int) -> tuple[int, int, float]:
    """Calls of a round, calls that are queued, and the pause that launching these takes; warms up on the way."""
    elapsed(call, inputs, warm)
    single = elapsed(call, inputs, 3)
    many = max(1, min(_CALLS, math.ceil(_ROUND / single)))
    few = min(many, _QUEUED)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(few):
        call(next(inputs))
    return many, few, _PAUSE * (time.perf_counter() - began)


def ceilings(device: torch.device) -> Ceilings:
    """Copy several GB, and multiply square matrices of random numbers."""
    return Ceilings(_copy(device), *(_product(device, *form) for form in _FORMS))


def _copy(device: torch.device) -> float:
    source = torch.empty(_COPIED, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return 2 * _COPIED / _median(lambda _: target.copy_(source))


def _product(device: torch.device, dtype: torch.dtype, tf32: bool) -> float:
    a, b = (torch.randn(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = tf32
    seconds = _median(lambda _: a @ b)
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * _SIDE**3 / seconds


def _median(call: Call) -> float:
    nothing = itertools.repeat(None)
    elapsed(call, nothing, 3)
    return statistics.median(elapsed(call, nothing, 3) for _ in range(10))
