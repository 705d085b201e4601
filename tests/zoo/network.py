"""One row of the table of networks with known groups."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Network(NamedTuple):
    """A network and the permutation groups that its mathematics allows, counted by hand.

    ``groups`` counts kinds: ``{(12,): 1, (3,): 2, (4, 3): 4}`` is one group of 12 units, two of 3, and four of 4 units
    with a permutation of their own for each of 3 indices of another axis (coordinates inside each of 3 heads).
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    groups: dict[tuple[int, ...], int]
    total: int
    restarts: int = 1


def noise(*shape: int) -> Callable[[], tuple[Tensor]]:
    """Standard normal inputs of one shape, batch first."""
    return lambda: (torch.randn(*shape, generator=torch.Generator().manual_seed(1)),)


def tokens(*shapes: tuple[int, ...], vocabulary: int) -> Callable[[], tuple[Tensor, ...]]:
    """Random token numbers, one tensor for each shape."""

    def draw() -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randint(vocabulary, shape, generator=generator) for shape in shapes)

    return draw
