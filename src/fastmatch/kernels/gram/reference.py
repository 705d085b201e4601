"""Gram matrices by torch: matrices of units, a piece of a summand at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from fastmatch.kernels.gram.summand import Source, Summand

_SMALL = 1 << 15  # Entries up to which it is cheaper to join pairs to one product than to pass over the sum for each.
_ENTRIES = 1 << 25  # Of a tensor that are compared at a time.
Pairs = Iterator[tuple[Tensor, Tensor]]  # Matrices [units, columns] of a and b whose products are to be summed.


def accumulate(total: Tensor | None, summands: Iterable[Summand]) -> Tensor | None:
    """``total`` and all products; in place if it is wide enough. None if there is nothing."""
    small: list[tuple[Tensor, Tensor]] = []
    for a, b in (pair for summand in summands for pair in matrices(summand)):
        if a.numel() <= _SMALL:
            small.append((a, b))
        else:
            total = _add(total, a, b)
    if len(small) == 1:
        total = _add(total, *small[0])
    elif small:
        total = _add(total, *(torch.cat(side, dim=1) for side in zip(*small, strict=True)))
    return total


def _add(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32 if total is None else total.dtype)
    a, b = a.to(dtype), b.to(dtype)
    return a @ b.T if total is None else total.to(dtype).addmm_(a, b.T)


def matrices(summand: Summand) -> Pairs:
    """What a summand compares, as matrices [units, columns] of a and of b."""
    a, b, axis, sources = summand
    if sources:
        yield from _sourced(summand)
        return
    others = [other for other in range(a.dim()) if other != axis]
    longest = max(others, key=lambda other: a.shape[other], default=None)
    if longest is None:
        yield _units(a, axis), _units(b, axis)
        return
    step = _step(a, longest)
    for left, right in zip(a.split(step, longest), b.split(step, longest), strict=True):
        yield _units(left, axis), _units(right, axis)


def _sourced(summand: Summand) -> Pairs:
    """Pieces along the first axis with a source."""
    a, b, axis, ((other, source, places, less), *rest) = summand
    wide = torch.promote_types(b.dtype, torch.float32)
    step = _step(a, other)
    for start in range(0, max(1, len(source)), step):
        part = slice(start, min(start + step, len(source)))
        left = a.narrow(other, start, part.stop - start) if places is None else _select(a, other, places[part])
        right = _select(b, other, source[part])
        if less is not None:
            right = right.to(wide) - _select(b, other, less[part]).to(wide)
        yield _units(_moved(left, rest, "a"), axis), _units(_moved(right, rest, "b"), axis)


def _moved(tensor: Tensor, sources: Sequence[Source], side: str) -> Tensor:
    for source in sources:
        positions = getattr(source, side)
        tensor = tensor if positions is None else _select(tensor, source.axis, positions)
    return tensor


def _select(tensor: Tensor, axis: int, positions: Tensor) -> Tensor:
    return tensor.index_select(axis, positions.to(tensor.device))


def _units(tensor: Tensor, axis: int) -> Tensor:
    first, *rest = tensor.movedim(axis, 0).shape
    return tensor.movedim(axis, 0).reshape(first, math.prod(rest))


def _step(tensor: Tensor, axis: int) -> int:
    """How many places of an axis are compared at a time."""
    return max(1, _ENTRIES * tensor.shape[axis] // max(1, math.prod(tensor.shape)))
