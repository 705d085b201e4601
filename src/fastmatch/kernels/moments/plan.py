"""Where the kernel finds the values of a batch, and where it puts the moments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastmatch.kernels.folding import Run, fold
from fastmatch.kernels.moments.batch import Batch

NETWORK, PAIR = 14, 6  # Integers of the table for every network, and for every pair; the kernel says which.
_DEPTH = 3  # Axes of the units, and of the samples, that the kernel follows.
WIDE = 16  # Bytes that are loaded at a time where values lie together.

# What lies together, in multiples of 16 bytes: neighbouring samples of a unit, units of a sample, or neither.
Layout = Literal["samples", "units", "any"]
LAYOUTS: tuple[Layout, ...] = ("samples", "units", "any")


class Plan(NamedTuple):
    """A table for the kernel: sizes of the inner axes of the samples, then the networks, then the pairs."""

    table: Tensor
    layout: Layout
    kept: Sequence[Tensor]


def plan(batch: Batch, shifts: Sequence[Tensor]) -> Plan:
    """Fold the axes of a batch and see how its values lie; what has too many axes is copied."""
    values = list(batch.values)
    units = [_units(batch, value) for value in values]
    samples = _samples(batch, values)
    if max(len(samples), *(len(runs) for runs in units)) > _DEPTH:
        values = [
            batch.moved(value).reshape(size, batch.samples) for value, size in zip(values, batch.units, strict=True)
        ]
        units = [[Run(size, (value.stride(0),))] for value, size in zip(values, batch.units, strict=True)]
        samples = [Run(batch.samples, tuple(value.stride(1) for value in values))]
    inner = _padded([run.size for run in samples], 1)
    table = [inner[1], inner[2]]
    starts = [0, *itertools.accumulate(batch.sizes)]
    for number, (value, runs, shift) in enumerate(zip(values, units, shifts, strict=True)):
        sizes = _padded([run.size for run in runs], 1)
        table += [value.data_ptr(), shift.data_ptr(), batch.units[number], sizes[1], sizes[2]]
        table += _padded([run.strides[0] for run in runs], 0)
        table += _padded([run.strides[number] for run in samples], 0)
        table += [starts[2 * number], starts[2 * number + 1], 0]
    table += _pairs(batch, starts[2 * len(values) :])
    return Plan(torch.tensor(table, dtype=torch.int64), _layout(values, units, samples), (*values, *shifts))


def _units(batch: Batch, value: Tensor) -> list[Run]:
    return fold(Run(value.shape[axis], (value.stride(axis),)) for axis in batch.axes)


def _samples(batch: Batch, values: Sequence[Tensor]) -> list[Run]:
    """Axes of the samples in order of falling strides, as far as all networks agree on it."""
    rest = [axis for axis in range(values[0].dim()) if axis not in batch.axes]
    runs = [Run(values[0].shape[axis], tuple(value.stride(axis) for value in values)) for axis in rest]
    return fold(sorted(runs, key=lambda run: tuple(-stride for stride in run.strides)))


def _padded(numbers: Sequence[int], filler: int) -> list[int]:
    return [*numbers, *[filler] * (_DEPTH - len(numbers))]


def _pairs(batch: Batch, starts: Sequence[int]) -> list[int]:
    """Networks of every pair, where its products go, and which of the two it sums up: each is once."""
    table: list[int] = []
    seen: set[int] = set()
    for (first, second), start in zip(batch.pairs, starts, strict=False):
        own = [first not in seen, second not in seen | {first}]
        seen |= {first, second}
        table += [first, second, start, *map(int, own), 0]
    return table


def _layout(values: Sequence[Tensor], units: Sequence[Sequence[Run]], samples: Sequence[Run]) -> Layout:
    each = WIDE // values[0].element_size()
    if any(value.data_ptr() % WIDE for value in values):
        return "any"
    strides = [stride for run in samples for stride in run.strides]
    singles = [run.strides[0] for runs in units for run in runs]
    last = samples[-1] if samples else Run(1, ())
    outer = [stride for run in samples[:-1] for stride in run.strides]
    if last.size % each == 0 and set(last.strides) == {1} and not any(stride % each for stride in (*outer, *singles)):
        return "samples"
    flat = all(len(runs) == 1 and runs[0].strides == (1,) and runs[0].size % each == 0 for runs in units)
    return "units" if flat and not any(stride % each for stride in strides) else "any"
