"""Combinations of permuted networks, evaluated when units are swapped: what annealing asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.interpolation.chain import find_chain
from fastmatch.interpolation.chain_means import Quantity
from fastmatch.interpolation.chain_swaps import ChainSwaps
from fastmatch.interpolation.evaluator import Evaluator, check_networks
from fastmatch.interpolation.memory import FRACTION, free_memory
from fastmatch.symmetry import Indices, PermutationSpec

State = Mapping[str, Tensor]
_OFTEN = 1000  # Candidates that are evaluated at least, by which the strategy is chosen.


class Swaps(Protocol):
    """Means of a quantity at some points between permuted networks, for candidates that swap units.

    ``most`` is the number of candidates that are evaluated together at best.
    """

    most: int

    def start(self, indices: Sequence[Indices]) -> np.ndarray:
        """Take a permutation for every network; returns the means, float64, shape [points]."""

    def values(self, swaps: np.ndarray) -> np.ndarray:
        """Means under each of K candidates, float64, shape [K, points].

        ``swaps``: for every candidate, network and group, two places in the flat index array of the group, int64, shape
        [K, networks, groups, 2]; the same place twice moves nothing.
        """

    def accept(self, number: int) -> None:
        """Make a candidate of the last batch the present state."""


class PermutedSwaps:
    """Any network: candidates are permuted state dicts, evaluated one by one in full.

    BatchNorm statistics are those of each combination on ``data``.
    """

    most = 1

    def __init__(
        self,
        spec: PermutationSpec,
        module: nn.Module,
        networks: Sequence[State],
        rows: np.ndarray,
        data: Split,
        quantity: Quantity,
    ) -> None:
        self._spec, self._networks, self._rows, self._quantity = spec, networks, rows, quantity
        self._evaluator = Evaluator(module, {"": data}, data, rows=_OFTEN * len(rows))
        self._indices: list[Indices] = []
        self._swaps = np.empty(0, np.int64)

    def start(self, indices: Sequence[Indices]) -> np.ndarray:
        """See :class:`Swaps`."""
        self._indices = list(indices)
        return self._means(self._indices)

    def values(self, swaps: np.ndarray) -> np.ndarray:
        """See :class:`Swaps`."""
        self._swaps = swaps
        return np.stack([self._means(swapped(self._spec, self._indices, candidate)) for candidate in swaps])

    def accept(self, number: int) -> None:
        """See :class:`Swaps`."""
        self._indices = swapped(self._spec, self._indices, self._swaps[number])

    def _means(self, indices: Sequence[Indices]) -> np.ndarray:
        states = [self._spec.permute(network, index) for network, index in zip(self._networks, indices, strict=True)]
        found: np.ndarray = getattr(self._evaluator.evaluate(states, self._rows)[""], self._quantity)
        return found


def swapped(spec: PermutationSpec, indices: Sequence[Indices], swaps: np.ndarray) -> list[Indices]:
    """Permutations of all networks after swaps, shape [networks, groups, 2]; units take those inside them along."""
    names = [group.name for group in spec.groups]
    result = []
    for index, places in zip(indices, swaps, strict=True):
        moved = {name: pair for name, pair in zip(names, places.tolist(), strict=True) if pair[0] != pair[1]}
        if moved and spec.bases:
            index = spec.compose(index, _exchanged(spec.identity(), moved))
        elif moved:
            index = {**index, **_exchanged(index, moved)}
        result.append(index)
    return result


def _exchanged(indices: Indices, places: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Index arrays with two entries exchanged in each of some groups."""
    result = {name: indices[name].copy() for name in places}
    for name, (first, second) in places.items():
        flat = result[name].reshape(-1)
        flat[[first, second]] = flat[[second, first]]
    return result


def swaps_of(
    spec: PermutationSpec,
    module: nn.Module,
    networks: Sequence[State],
    rows: np.ndarray,
    data: Split,
    quantity: Quantity,
) -> Swaps:
    """The quickest way to evaluate swaps: layer by layer in plain multilayer perceptrons, in full in others.

    Raises
    ------
    ModelError
        A network does not fit the module.
    DataError
        There are no examples, or they do not fit the network.
    """
    check_networks(module, networks)
    whole = PermutedSwaps(spec, module, networks, rows, data, quantity)
    chain = find_chain(module, spec, networks[0], data.inputs[:5])
    if chain is None or len(chain.layers) == 1:  # no unit to swap
        return whole
    memory = free_memory(data.inputs.device) / FRACTION
    if ChainSwaps.size(chain, networks, len(rows), len(data)) > memory:
        return whole
    if int(data.labels.max()) >= len(networks[0][chain.layers[-1].weight]):
        return whole  # which says so
    return ChainSwaps(spec, chain, networks, rows, data, quantity)
