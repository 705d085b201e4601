"""How much memory an evaluation may take beside the networks and the data, and how large its batches are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_LINUX = Path("/proc/meminfo")
FRACTION = 4  # One part in this many of what is free may be taken.
_SMALLEST = 16  # Examples in a batch, as far as memory allows.
# By kind of device: bytes of the largest activation of a batch, which should stay in the caches of a processor and keep
# a GPU busy, and examples at most.
_LARGEST = {"cpu": (4 << 20, 1000), "cuda": (256 << 20, 10_000)}
_SETTLED = 2 << 30  # Bytes of activations that wait for statistics. Fixed, so that free memory decides about no result.
_FEWEST = 250  # Examples that statistics are taken from, if there are as many.
_ALIVE = 3  # Activations of the largest size that are held at a time: a residual stream, what is read, what is written.


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken on a device without pushing others out."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not _LINUX.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    sizes = dict(line.split(":") for line in _LINUX.read_text().splitlines())
    return int(sizes["MemAvailable"].split()[0]) << 10


class Work(NamedTuple):
    """What one example costs: multiplications and additions, and bytes of its largest activation."""

    operations: int
    activation: int

    def settled(self, limit: float) -> int:
        """Examples that can take part in statistics at once, within ``limit`` bytes and a fixed number of them."""
        return max(_FEWEST, int(min(limit, _SETTLED) / (_ALIVE * max(self.activation, 1))))

    def batch(self, limit: float, device: str = "cpu") -> int:
        """Examples to run at once within ``limit`` bytes, two at least, on a kind of device."""
        size, most = _LARGEST[device]
        quick = min(max(size // max(self.activation, 1), _SMALLEST), most)
        return max(2, min(quick, int(limit / (_ALIVE * max(self.activation, 1)))))


class _Largest(TorchDispatchMode):
    """Watches the size of what operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for value in results if isinstance(results, tuple) else (results,):
            if isinstance(value, Tensor) and not func.is_view:
                self.size = max(self.size, value.nbytes)
        return results


def measure_work(run: Callable[[], object], examples: int) -> Work:
    """Cost of one example, where ``run()`` passes so many of them through a network."""
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    with FlopCounterMode(display=False) as counter, _Largest() as largest:
        run()
    return Work(counter.get_total_flops() // examples, largest.size // examples)
