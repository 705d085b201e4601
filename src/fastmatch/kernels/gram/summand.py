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

    def check(self) -> None:
        """Raise ValueError where the shapes do not fit."""
        free = {self.axis, *(source.axis for source in self.sources)}
        sizes = [zip(side.shape, range(side.dim()), strict=True) for side in (self.a, self.b)]
        first, second = ([size for size, axis in side if axis not in free] for side in sizes)
        if first != second or self.a.dim() != self.b.dim():
            raise ValueError(f"shapes {tuple(self.a.shape)} and {tuple(self.b.shape)} cannot be compared")
