"""Weights of several networks in one order: each network in turn is matched to the mean of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch

from fastmatch.matching.order import Order, Reference, State, ascend, best, mean, place, ways, without
from fastmatch.matching.problem import inner
from fastmatch.matching.weights import match_weights
from fastmatch.symmetry import Indices, PermutationSpec

_TOLERANCE = 1e-12  # Of the norms' product: a gain below it is rounding of the float64 objective.


def order_by_weights(
    spec: PermutationSpec,
    networks: Sequence[State],
    reference: Reference,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Order:
    """Order with a large sum over all pairs of ``<P_i w_i, P_j w_j>``.

    The terms of one network are its inner product with the sum of all others: weight matching it to their mean raises
    the sum over all pairs.

    Parameters
    ----------
    reference
        See :func:`~fastmatch.matching.universe.match_many`.
    seed
        Of the order of networks in each round, and of groups.
    progress
        Called with (starts done, starts).
    """
    orders = []
    for way in ways(reference):
        start: list[Indices] = [spec.identity() for _ in networks]
        if way.first:
            for number, network in enumerate(networks[1:], start=1):
                start[number] = match_weights(spec, networks[0], network, seed=seed).permutation.indices
        if way.ascends:
            orders.append(_ascend(spec, networks, start, seed))
        else:
            orders.append(Order(start, pair_sum(spec, place(spec, networks, start)), 1, True))
        if progress is not None:
            progress(len(orders), len(ways(reference)))
    return best(orders)


def pair_sum(spec: PermutationSpec, networks: Sequence[State]) -> float:
    """Sum over all pairs of the inner products of their parameters, float64."""
    names = _parameters(spec)
    return math.fsum(inner(a[name], b[name]) for a, b in combinations(networks, 2) for name in names)


def _ascend(spec: PermutationSpec, networks: Sequence[State], start: Sequence[Indices], seed: int) -> Order:
    generator = np.random.default_rng(seed)
    indices, placed = list(start), place(spec, networks, start)

    def step(number: int) -> bool:
        others, old = without(placed, number), placed[number]
        found = match_weights(spec, mean(others), old, seed=int(generator.integers(2**32))).permutation.indices
        new = spec.permute(old, found)
        if not _gains(spec, others, old, new):
            return False
        indices[number], placed[number] = spec.compose(indices[number], found), new
        return True

    rounds, converged = ascend(step, len(networks), generator)
    return Order(indices, pair_sum(spec, placed), rounds, converged)


def _gains(spec: PermutationSpec, others: Sequence[State], old: State, new: State) -> bool:
    """Whether the inner product with the sum of the others grows in float64."""
    gain = first = second = 0.0
    for name in _parameters(spec):
        around = torch.stack([other[name].double() for other in others]).sum(0)
        gain += inner(around, new[name].double() - old[name])
        first += inner(around, around)
        second += inner(old[name], old[name])
    return gain > _TOLERANCE * math.sqrt(first) * math.sqrt(second)


def _parameters(spec: PermutationSpec) -> list[str]:
    return [name for name, layout in spec.tensors.items() if not layout.buffer]
