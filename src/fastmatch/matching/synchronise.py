"""Activations of several networks in one order: similarities of all pairs, and the order that agrees with them best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
from torch import nn

from fastmatch.data import Split, batch_count
from fastmatch.matching.activations import BATCH_SIZE, columns_of, next_places, solve_groups
from fastmatch.matching.observed import Observed, Places, Similarity, find_places, runner_of
from fastmatch.matching.order import Order, Reference, State, ascend, best, mean, place, ways
from fastmatch.matching.ties import settle_ties
from fastmatch.symmetry import GraphRunner, Indices, PermutationSpec, float_type

SIMILARITY: Similarity = "summed"
_TOLERANCE = 1e-9  # Of the units of all groups: a gain below it is rounding of their correlations.


def order_by_activations(
    spec: PermutationSpec,
    module: nn.Module,
    networks: Sequence[State],
    data: Split,
    reference: Reference,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, Order]:
    """Summed correlation of all pairs as they are, and an order in which it is large.

    Correlations of all pairs are taken in one pass over the data. Each network is then assigned, group by group, to the
    sum of the others' activations in their order, until none moves (permutation synchronisation).

    Parameters
    ----------
    reference
        See :func:`~fastmatch.matching.universe.match_many`. The best of several ways is taken for each stage by
        itself: groups whose samples others reorder are observed once these are lined up.
    seed
        Of the order of networks in each round.
    progress
        Called with (batches done, batches) after each.
    """
    waiting, graph = find_places(spec, module, next(iter(data.batches(BATCH_SIZE)))[0], SIMILARITY)
    runner = runner_of(graph, waiting)
    indices: list[Indices] = [spec.identity() for _ in networks]
    before = after = 0.0
    rounds, converged, done = 0, True, set[str]()
    plain: dict[str, _Similarity] = {}
    while waiting:
        chosen = next_places(waiting, done)
        seen = _observe(spec, runner, place(spec, networks, indices), chosen, data, progress)
        as_they_are = _observe(spec, runner, networks, chosen, data, progress) if done else seen
        before += as_they_are.total([{} for _ in networks])
        found = best([seen.order(way.first, way.ascends, done, seed) for way in ways(reference)])
        indices = [spec.compose(index, step) for index, step in zip(indices, found.indices, strict=True)]
        after, rounds, converged = after + found.objective, rounds + found.rounds, converged and found.converged
        done |= seen.pairs.keys() | {name for step in found.indices for name in step}
        plain |= {name: pairs for name, pairs in seen.pairs.items() if not spec.group(name).base}
    indices = _settle(spec, networks, indices, plain, to_first=reference == "first")
    return before, Order(indices, after, rounds, converged)


class _Similarity:
    """Similarities of the units of one group in all pairs of networks; over all bases where it has some."""

    def __init__(self, networks: int, matrices: Sequence[np.ndarray]) -> None:
        self.networks = networks
        self._pairs = dict(zip(combinations(range(networks), 2), matrices, strict=True))

    def between(self, i: int, j: int) -> np.ndarray:
        """Units of network i against those of network j, shape [units, units]."""
        return self._pairs[i, j] if i < j else self._pairs[j, i].T

    def to_others(self, number: int, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Places of the common order against the units of one network, summed over all others."""
        others = [other for other in range(self.networks) if other != number]
        return np.sum([self.between(other, number)[columns[other]] for other in others], axis=0)

    def total(self, columns: Sequence[np.ndarray]) -> float:
        """Sum over pairs and units, with the unit of each network at each place."""
        return float(sum(matrix[columns[i], columns[j]].sum() for (i, j), matrix in self._pairs.items()))


class _Seen:
    """Groups that were observed together, and the orders that their similarities favour."""

    def __init__(self, spec: PermutationSpec, pairs: Mapping[str, _Similarity], networks: int) -> None:
        self.spec, self.pairs, self.networks = spec, pairs, networks

    def total(self, steps: Sequence[Indices]) -> float:
        """Sum over groups, pairs and units."""
        return sum(pairs.total([self._columns(step)[name] for step in steps]) for name, pairs in self.pairs.items())

    def order(self, first: bool, ascends: bool, done: Collection[str], seed: int) -> Order:
        """Order from networks as they are, or each assigned to the first, and on from there if it ``ascends``."""
        steps: list[Indices] = [{} for _ in range(self.networks)]
        if first:
            for number in range(1, self.networks):
                matrices = {name: pairs.between(0, number) for name, pairs in self.pairs.items()}
                steps[number] = solve_groups(self.spec, matrices, done)
        columns = [self._columns(step) for step in steps]
        units = sum(len(column) for column in columns[0].values())

        def step(number: int) -> bool:
            matrices = {
                name: pairs.to_others(number, [column[name] for column in columns])
                for name, pairs in self.pairs.items()
            }
            new = solve_groups(self.spec, matrices, done)
            after = self._columns(new)
            rows = {name: np.arange(len(matrix)) for name, matrix in matrices.items()}
            gain = sum(
                (matrix[rows[name], after[name]] - matrix[rows[name], columns[number][name]]).sum()
                for name, matrix in matrices.items()
            )
            if gain <= _TOLERANCE * units:
                return False
            steps[number], columns[number] = new, after
            return True

        generator = np.random.default_rng(seed)
        rounds, converged = ascend(step, self.networks, generator) if ascends else (1, True)
        return Order(steps, self.total(steps), rounds, converged)

    def _columns(self, step: Indices) -> dict[str, np.ndarray]:
        """Unit of a network, over all bases, that a step takes to each place."""
        return {name: columns_of(self.spec, self.spec.group(name), step) for name in self.pairs}


def _observe(
    spec: PermutationSpec,
    runner: GraphRunner,
    networks: Sequence[State],
    places: Mapping[str, Places],
    data: Split,
    progress: Callable[[int, int], None] | None,
) -> _Seen:
    """Correlations of all pairs of networks in one pass over the data."""
    pairs = list(combinations(range(len(networks)), 2))
    observed = {name: [Observed(found) for _ in pairs] for name, found in places.items()}
    for done, (inputs, _) in enumerate(data.batches(BATCH_SIZE), start=1):
        values = [runner.activations(state, (inputs.to(float_type(state)),)) for state in networks]
        for parts in observed.values():
            for (i, j), part in zip(pairs, parts, strict=True):
                part.update(values[i], values[j])
        if progress is not None:
            progress(done, batch_count(len(data), BATCH_SIZE))
    found = {
        name: _Similarity(len(networks), [part.matrix(SIMILARITY).cpu().numpy() for part in parts])
        for name, parts in observed.items()
    }
    return _Seen(spec, found, len(networks))


def _settle(
    spec: PermutationSpec,
    networks: Sequence[State],
    indices: Sequence[Indices],
    plain: Mapping[str, _Similarity],
    *,
    to_first: bool,
) -> list[Indices]:
    """Line up units that activations cannot tell apart by the weights of the first network, or of all before."""
    result, placed = list(indices), place(spec, networks, indices)
    for number in range(1, len(networks)):
        columns = {name: [index[name] for index in result] for name in plain}
        matrices = {
            name: pairs.between(0, number) if to_first else pairs.to_others(number, columns[name])
            for name, pairs in plain.items()
        }
        others = placed[0] if to_first else mean(placed[:number])
        result[number] = settle_ties(spec, others, networks[number], result[number], matrices)
        placed[number] = spec.permute(networks[number], result[number])
    return result
