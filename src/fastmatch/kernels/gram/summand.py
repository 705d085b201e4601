"""What Gram matrices are sums of."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """Which positions of one axis are compared: place k of the sum takes ``a[k]`` of a and ``b[k]`` of b.

    Attributes
    ----------
    axis
        Of both tensors; not that of the units.
    b
        Positions of b, shape [places], int64, on any device (small ones are best kept on the CPU).
    a
        Positions of a, shape [places]; every position in order if None.
    less
        Positions of b whose values are taken off: the sum is then over ``b[b] - b[less]``.
    """

    axis: int
    b: Tensor
    a: Tensor | None = None
    less: Tensor | None = None


class Summand(NamedTuple):
    """``sum_k a[i, k] b[j, k]`` over all axes but that of the units, i and j.

    Attributes
    ----------
    a, b
        Tensors that differ in the size of ``axis`` at most (and where there are sources), any strides.
    axis
        Of the units. Units that are blocks, factors or segments of an axis are a view of the tensor with that axis
        unflattened or narrowed.
    sources
        The other axes along which a place does not simply compare equal positions; the first alone may have ``a`` and
        ``less``.
    """

    a: Tensor
    b: Tensor
    axis: int = 0
    sources: tuple[Source, ...] = ()

    @property
    def units(self) -> tuple[int, int]:
        """Units of a and of b."""
        return self.a.shape[self.axis], self.b.shape[self.axis]

    def check(self) -> None:
        """Raise ValueError where the shapes or the sources do not fit."""
        taken = [self.axis, *(source.axis for source in self.sources)]
        if not all(0 <= axis < self.a.dim() for axis in taken) or len(set(taken)) != len(taken):
            raise ValueError(f"axes {taken} are not different axes, from 0 on, of {self.a.dim()}")
        for number, source in enumerate(self.sources):
            _check_source(source, self.a.shape[source.axis], first=number == 0)
        sizes = [zip(side.shape, range(side.dim()), strict=True) for side in (self.a, self.b)]
        first, second = ([size for size, axis in side if axis not in taken] for side in sizes)
        if first != second or self.a.dim() != self.b.dim():
            raise ValueError(f"shapes {tuple(self.a.shape)} and {tuple(self.b.shape)} cannot be compared")


def _check_source(source: Source, size: int, *, first: bool) -> None:
    if not first and (source.a is not None or source.less is not None):
        raise ValueError(f"only the first source may have a or less, not that of axis {source.axis}")
    lengths = [size if source.a is None else len(source.a), len(source.b)]
    lengths += [] if source.less is None else [len(source.less)]
    if len(set(lengths)) > 1:
        raise ValueError(f"positions along axis {source.axis} are of different lengths: {lengths}")
