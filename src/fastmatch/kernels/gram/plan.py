"""Where a kernel finds the entries of summands, and which program adds up which."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmatch.kernels.folding import Run, fold
from fastmatch.kernels.gram.reference import matrices
from fastmatch.kernels.gram.summand import Source, Summand
from fastmatch.kernels.launch import LONGEST

COLUMNS = 16  # Of a summand that are multiplied at a time: a chunk.
HEADER, FIELDS = 4, 24  # Integers of the table for every split, and for every summand; the kernel says which.
_DEPTH = 3  # Axes of columns that the kernel follows.


class Plan(NamedTuple):
    """A table for the kernel: of every split its summands and chunks, then the summands, then all positions.

    Attributes
    ----------
    table
        int64, on the CPU.
    splits
        Parts into which the columns of all summands are divided.
    """

    table: Tensor
    splits: int


class _Geometry(NamedTuple):
    """Axes of the columns as the kernel follows them, outermost first, and the number of the source of each."""

    axes: tuple[Run, ...]
    sources: tuple[int | None, ...]


def plan(summands: Sequence[Summand], splits: int) -> Plan:
    """Divide the columns of ``summands`` into about so many parts of one length, none longer than float32 bears."""
    geometries = [_geometry(summand) for summand in summands]
    chunks = [math.ceil(math.prod(axis.size for axis in geometry.axes) / COLUMNS) for geometry in geometries]
    edges = np.concatenate([[0], np.cumsum(chunks)])
    length = max(1, min(LONGEST // COLUMNS, math.ceil(edges[-1] / max(1, splits))))
    begins = np.arange(0, edges[-1], length)
    ends = np.minimum(begins + length, edges[-1])
    first = np.searchsorted(edges, begins, side="right") - 1
    last = np.searchsorted(edges, ends, side="left")
    header = np.stack([first, last, begins, ends], 1).ravel()
    positions = _Positions(len(header) + FIELDS * len(summands))
    fields = [
        _fields(summand, geometry, int(start), positions)
        for summand, geometry, start in zip(summands, geometries, edges, strict=False)
    ]
    parts = [header, *(np.array(line, dtype=np.int64) for line in fields), *positions.arrays]
    table = torch.from_numpy(np.concatenate(parts).astype(np.int64, copy=False))
    return Plan(table, len(begins))


def shallow(summand: Summand) -> Iterator[Summand]:
    """The summand itself or, where it has more axes than the kernel follows, copies of its matrices."""
    if len(_geometry(summand).axes) <= _DEPTH:
        yield summand
    else:
        yield from itertools.starmap(Summand, matrices(summand))


def _geometry(summand: Summand) -> _Geometry:
    a, b, axis, sources = summand
    sourced = tuple((source.axis, len(source.b)) for source in sources)
    return _followed(tuple(a.shape), a.stride(), b.stride(), axis, sourced)


@lru_cache(maxsize=1 << 14)
def _followed(
    shape: tuple[int, ...],
    a: tuple[int, ...],
    b: tuple[int, ...],
    axis: int,
    sourced: tuple[tuple[int, int], ...],
) -> _Geometry:
    """The first source leads, since it may read a at other positions; the others by falling stride."""
    taken = {axis, *(other for other, _ in sourced)}
    free = [Run(size, (a[place], b[place])) for place, size in enumerate(shape) if place not in taken]
    axes: list[tuple[Run, int | None]] = [(run, None) for run in fold(sorted(free, key=_falling))]
    axes += [(Run(count, (a[other], b[other])), number) for number, (other, count) in enumerate(sourced)]
    axes.sort(key=lambda entry: (entry[1] != 0, *_falling(entry[0])))
    return _Geometry(tuple(run for run, _ in axes), tuple(number for _, number in axes))


def _falling(run: Run) -> tuple[int, ...]:
    return tuple(-stride for stride in run.strides)


class _Positions:
    """Index arrays behind the other integers of the table, each once."""

    def __init__(self, start: int) -> None:
        self.arrays: list[np.ndarray] = []
        self._end = start
        self._known: dict[tuple[int, int], int] = {}

    def place(self, positions: Tensor, size: int) -> int:
        """Where in the table an array of positions below ``size`` begins."""
        key = (id(positions), size)
        if key not in self._known:
            array = positions.cpu().numpy()
            if len(array) and not 0 <= array.min() <= array.max() < size:
                raise IndexError(f"a source names positions {array.min()} to {array.max()} of an axis of {size}")
            self._known[key] = self._end
            self.arrays.append(array)
            self._end += len(array)
        return self._known[key]


def _fields(summand: Summand, geometry: _Geometry, start: int, positions: _Positions) -> list[int]:
    a, b, axis, sources = summand
    padding = _DEPTH - len(geometry.axes)
    axes = (*geometry.axes, *(Run(1, (0, 0)),) * padding)
    chosen = [None if number is None else sources[number] for number in (*geometry.sources, *(None,) * padding)]
    lead: Source | None = chosen[0]
    fast = a.stride(axis) == 1 and geometry.axes != () and geometry.axes[-1].strides[0] != 1
    result = [a.data_ptr(), b.data_ptr(), a.stride(axis), b.stride(axis)]
    result += [math.prod(run.size for run in axes), start, axes[1].size, axes[2].size]
    result += [run.strides[0] for run in axes] + [run.strides[1] for run in axes]
    result += _listed(lead, "a", a, positions)
    for source in chosen:
        result += _listed(source, "b", b, positions)
    return [*result, _listed(lead, "less", b, positions)[0], int(fast)]


def _listed(source: Source | None, name: str, side: Tensor, positions: _Positions) -> list[int]:
    """Place and length of an array of a source; of length 0 where positions are in order."""
    if source is None or (array := getattr(source, name)) is None:
        return [0, 0]
    return [positions.place(array, side.shape[source.axis]), len(array)]
