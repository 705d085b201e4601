"""A common order of several networks while it is looked for, and what all ways of looking share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmatch.symmetry import Indices, PermutationSpec

Reference = Literal["universe", "mean", "first"]
State = Mapping[str, Tensor]
MAX_ROUNDS = 50


class Order(NamedTuple):
    """Index arrays that take every network to the common order, with the summed similarity of all pairs.

    ``converged`` says that a last round over the networks moved none.
    """

    indices: list[Indices]
    objective: float
    rounds: int
    converged: bool


class Way(NamedTuple):
    """Whether to start from an alignment of all networks to the first, and whether to go on from there."""

    first: bool
    ascends: bool


def ways(reference: Reference) -> list[Way]:
    """What is tried for a reference; the best of it is taken."""
    first, mean = Way(True, False), Way(False, True)
    return {"first": [first], "mean": [mean], "universe": [mean, Way(True, True)]}[reference]


def ascend(step: Callable[[int], bool], networks: int, generator: np.random.Generator) -> tuple[int, bool]:
    """Let every network move in turn, in random order, until a round moves none; rounds, and whether it ended so.

    ``step`` moves a network where that gains, and tells whether it did (Ainsworth et al. 2023, MergeMany).
    """
    for rounds in range(1, MAX_ROUNDS + 1):
        moved = [step(int(number)) for number in generator.permutation(networks)]
        if not any(moved):
            return rounds, True
    return MAX_ROUNDS, False


def best(orders: Sequence[Order]) -> Order:
    """The order with the largest objective; the first of equals."""
    return max(orders, key=lambda order: order.objective)


def without(states: Sequence[State], number: int) -> list[State]:
    """All state dicts but one."""
    return [state for other, state in enumerate(states) if other != number]


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """Mean of state dicts in the types that they have; what is not floating is that of the first."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def place(spec: PermutationSpec, networks: Sequence[State], indices: Sequence[Indices]) -> list[State]:
    """The networks with their units in the common order."""
    return [spec.permute(network, index) for network, index in zip(networks, indices, strict=True)]
