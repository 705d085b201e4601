"""One batch of activations, and the layout of its moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Activations of some networks on the same samples.

    Attributes
    ----------
    values
        One tensor for each network, any strides.
    axes
        Axes of the units, row-major; all others are samples and as long in every network.
    relu
        Whether values below zero count as zero.
    pairs
        Networks whose units are compared.
    """

    values: Sequence[Tensor]
    axes: tuple[int, ...]
    relu: bool
    pairs: Sequence[tuple[int, int]]

    def check(self) -> None:
        """Raise ValueError where axes are not there, samples differ, or pairs do not name the networks."""
        if {network for pair in self.pairs for network in pair} != set(range(len(self.values))):
            raise ValueError(f"pairs {self.pairs} do not name {len(self.values)} networks from 0 on")
        dimensions = {value.dim() for value in self.values}
        if len(set(self.axes)) != len(self.axes) or any(not 0 <= axis < min(dimensions) for axis in self.axes):
            raise ValueError(f"axes {self.axes} are not different axes, from 0 on, of {min(dimensions)}")
        shapes = [[size for axis, size in enumerate(value.shape) if axis not in self.axes] for value in self.values]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"samples of shapes {[tuple(value.shape) for value in self.values]} do not correspond")

    @property
    def units(self) -> list[int]:
        """Units of every network."""
        return [math.prod(value.shape[axis] for axis in self.axes) for value in self.values]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return math.prod(size for axis, size in enumerate(self.values[0].shape) if axis not in self.axes)

    @property
    def sizes(self) -> list[int]:
        """Entries of the moments: of every network the sums and the squares, of every pair the cross products."""
        units = self.units
        single = [size for size in units for _ in range(2)]
        return single + [units[first] * units[second] for first, second in self.pairs]

    def moved(self, value: Tensor) -> Tensor:
        """View of one network's values with the axes of the units first."""
        return value.movedim(self.axes, tuple(range(len(self.axes))))

    def means(self) -> list[Tensor]:
        """Mean of every unit, shape [units] for each network, float64."""
        moved = [self.moved(value.relu() if self.relu else value).unsqueeze(-1) for value in self.values]
        first = len(self.axes)
        return [value.mean(tuple(range(first, value.dim())), dtype=torch.float64).reshape(-1) for value in moved]
