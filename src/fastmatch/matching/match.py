"""Match: what a matching method found, and how."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from fastmatch.permutation import Permutation
from fastmatch.symmetry import Group, PermutationSpec

Measure = Literal["similarity", "loss", "error", "barrier", "difference"]


class Stop(Exception):
    """Raised by a caller's ``progress`` to end a search; one that keeps a best permutation returns it."""


@dataclass(frozen=True)
class GroupMatch:
    """Figures of one group.

    Objectives are the summed similarities (or differences) of its units, float64, before and after matching: NaN where
    a method judges all groups together. Dead units are None where a method does not count them.
    """

    name: str
    size: int
    objective_before: float
    objective_after: float
    fixed_points: int
    dead_units: int | None

    @classmethod
    def of(
        cls, group: Group, index: np.ndarray, before: float = math.nan, after: float = math.nan, dead: int | None = None
    ) -> GroupMatch:
        """Figures of a group with this index array."""
        return cls(group.name, group.size, before, after, int((index == np.arange(group.size)).sum()), dead)


@dataclass(frozen=True)
class Match:
    """A permutation with the evidence for it.

    Attributes
    ----------
    objective_before, objective_after
        The method's objective, float64, under the identity and under ``permutation``.
    measure
        What the objective is. A ``"similarity"`` is maximised; a ``"loss"`` (nats) or ``"error"`` (fraction) of
        interpolated networks, their ``"barrier"``, and a ``"difference"`` between units are minimised.
    sweeps
        Passes over all groups (1 for methods without iteration).
    status
        ``"converged"``, ``"sweep limit"``, or ``"all steps"`` where their number was given beforehand,
        or ``"stopped"`` (:class:`Stop`).
    restarts
        Final objective of every start, in order; the best one is kept.
    examples
        Number of examples that were looked at; 0 for weight matching.
    seconds
        Wall time.
    midpoints
        Loss of the network half-way on training examples (nats), by name of what it was chosen from.
    notes
        What a user should know of this result: why it was chosen, what was left out.
    """

    permutation: Permutation
    method: str
    seed: int
    objective_before: float
    objective_after: float
    groups: tuple[GroupMatch, ...]
    sweeps: int
    status: str
    restarts: tuple[float, ...]
    examples: int
    seconds: float
    measure: Measure = "similarity"
    midpoints: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the permutation; objectives of groups that have none are None."""
        data = {name: value for name, value in vars(self).items() if name != "permutation"}
        groups = [
            {name: None if value != value else value for name, value in vars(group).items()} for group in self.groups
        ]
        return {**data, "restarts": list(self.restarts), "notes": list(self.notes), "groups": groups}


@dataclass(frozen=True)
class JointMatch:
    """Several networks brought to one common order of units.

    Attributes
    ----------
    permutations
        One for each network: ``permutations[m].apply(networks[m])`` has the common order, which is that of network 0
        (its permutation is the identity).
    method, seed, measure, sweeps, status, examples, seconds, notes
        As in :class:`Match`.
    objective_before, objective_after
        Of all networks together, under identities and under ``permutations``.
    """

    permutations: tuple[Permutation, ...]
    method: str
    seed: int
    objective_before: float
    objective_after: float
    sweeps: int
    status: str
    examples: int
    seconds: float
    measure: Measure = "similarity"
    notes: tuple[str, ...] = ()

    def between(self, first: int, second: int) -> Permutation:
        """The permutation that lines network ``second`` up with network ``first``.

        It goes through the common order: around every cycle of networks these compose to the identity, exactly.
        """
        return self.permutations[second].compose(self.permutations[first].invert())

    @property
    def inconsistency(self) -> float:
        """See :func:`inconsistency`: 0."""
        return inconsistency(self.between, len(self.permutations))

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the permutations."""
        data = {name: value for name, value in vars(self).items() if name != "permutations"}
        return {**data, "networks": len(self.permutations), "notes": list(self.notes)}


def inconsistency(between: Callable[[int, int], Permutation], networks: int) -> float:
    """Share of units, 0 to 1, that do not come back when sent around three networks: mean over all triples.

    0 for permutations to one common order, and for two networks, which have no cycle; 1 - 1/n on average for random
    permutations of n units. ``between(i, j)`` lines network j up with network i.
    """
    shares = []
    for i, j, k in combinations(range(networks), 3):
        around = between(i, j).compose(between(k, i)).compose(between(j, k))
        units = sum(index.size for index in around.indices.values())
        shares.append(1.0 - sum(around.fixed_points().values()) / max(units, 1))
    return float(np.mean(shares)) if shares else 0.0


def bare_groups(spec: PermutationSpec, indices: Mapping[str, np.ndarray]) -> tuple[GroupMatch, ...]:
    """Figures of the groups for methods that have no objective for each."""
    return tuple(GroupMatch.of(group, indices[group.name]) for group in spec.groups)
