"""Weight matching as a problem: which parameter axes compare the units of a group, and what moves beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fastmatch.matching.comparison import Comparison, State, Term, unit_norms
from fastmatch.matching.joint import insides
from fastmatch.symmetry import Group, Indices, Occurrence, PermutationSpec

_CHUNK = 1 << 18  # Entries that are widened to float64 at a time.


@dataclass(frozen=True)
class Problem:
    """Two networks and the groups that line up the units of the second with those of the first."""

    spec: PermutationSpec
    a: State
    b: State

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Groups with units that occur on parameters, by name."""
        return {group.name: group for group in self.spec.groups if group.size and self.spec.matched(group)}

    @cached_property
    def parameters(self) -> list[str]:
        """Tensors that are matched on, all but buffers."""
        return [name for name, layout in self.spec.tensors.items() if not layout.buffer]

    @cached_property
    def terms(self) -> dict[str, tuple[Term, ...]]:
        """Summands of the groups whose similarity depends on other groups alone; first those that none moves.

        Left out are groups with a base or with insides, those on two axes of one parameter, and those that share an
        axis with another as factors: their similarity is not a sum over columns that other groups move.
        """
        names = {group.name for group in self.spec.groups}
        clusters = {name: self.spec.tensors[name].clusters(names, self.spec.bases) for name in self.parameters}
        found = {}
        for name, group in self.groups.items():
            places = self.spec.matched(group)
            axes = {(place.tensor, place.axis) for place in places}
            if (
                not group.base
                and not insides(self.spec, group)
                and len(axes) == len({tensor for tensor, _ in axes})
                and all(place.companions & names == {name} for place in places)
                and all(len(cluster) == 1 for place in places for cluster in clusters[place.tensor])
            ):
                terms = [self._term(place, clusters[place.tensor]) for place in places]
                found[name] = tuple(sorted(terms, key=lambda term: len(term.others)))
        return found

    def _term(self, place: Occurrence, clusters: Sequence[tuple[int, ...]]) -> Term:
        others = tuple(axis for (axis,) in clusters if axis != place.axis)
        return Term(place, others, self.spec.tensors[place.tensor].shape)

    @cached_property
    def neighbours(self) -> dict[str, tuple[str, ...]]:
        """Groups whose permutations the similarity of a group depends on; itself too, unless it has terms."""
        beside: dict[str, set[str]] = {}
        for group in self.spec.groups:
            for place in self.spec.matched(group):
                beside.setdefault(place.tensor, set()).add(group.name)
        found = {}
        for name, group in self.groups.items():
            tensors = {
                place.tensor for part in (group, *insides(self.spec, group)) for place in self.spec.matched(part)
            }
            around = set[str]().union(*(beside[tensor] for tensor in tensors))
            found[name] = tuple(sorted(around - {name} if name in self.terms else around))
        return found

    def comparison(self, name: str) -> Comparison:
        """Units of a group with terms."""
        return Comparison(self.a, self.b, self.terms[name])

    @cached_property
    def size(self) -> int:
        """Bytes of the parameters of one network."""
        return sum(self.b[name].nbytes for name in self.parameters)

    def norms(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Euclidean norm of the weights of every unit of a and of b, float64, shape [bases..., units]."""
        if name not in self._norms:
            places = self.spec.matched(self.groups[name])
            self._norms[name] = (unit_norms(self.a, places), unit_norms(self.b, places))
        return self._norms[name]

    @cached_property
    def _norms(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}

    def products(self, indices: Indices) -> dict[str, float]:
        """Inner product of every parameter of a with that of b under ``indices``, in float64; one at a time."""
        return {name: inner(self.a[name], self.spec.permute(self.b, indices, [name])[name]) for name in self.parameters}

    def tensors(self, name: str) -> list[str]:
        """Parameters that a group is on."""
        return list(dict.fromkeys(place.tensor for place in self.spec.matched(self.groups[name])))


def inner(a: Tensor, b: Tensor) -> float:
    """Inner product of two tensors of one shape, in float64."""
    if a.numel() <= _CHUNK:
        return float(torch.dot(a.double().reshape(-1), b.double().reshape(-1)))
    parts = zip(a.reshape(-1).split(_CHUNK), b.reshape(-1).split(_CHUNK), strict=True)
    return float(sum(torch.dot(x.double(), y.double()) for x, y in parts))
