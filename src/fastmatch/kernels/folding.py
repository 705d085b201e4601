"""Axes of tensors folded to as few as address the same entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Run(NamedTuple):
    """``size`` places, each some ``strides`` (one for each tensor) from the last."""

    size: int
    strides: tuple[int, ...]


def fold(axes: Iterable[Run]) -> list[Run]:
    """Axes in order, outermost first, with neighbours joined where one stride serves for both; none of size 1."""
    result: list[Run] = []
    for axis in axes:
        if axis.size == 1:
            continue
        inner = tuple(axis.size * stride for stride in axis.strides)
        if result and result[-1].strides == inner:
            result[-1] = Run(result[-1].size * axis.size, axis.strides)
        else:
            result.append(axis)
    return result
