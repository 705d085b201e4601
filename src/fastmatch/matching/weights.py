"""Weight matching: the permutation of b whose weights have the largest inner product with those of a."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastmatch.errors import OptionError
from fastmatch.matching.joint import Similarity, grams, insides, solve_group
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Group, PermutationSpec

MAX_SWEEPS = 200
_TOLERANCE = 1e-12  # Of the norms' product: a gain below it is rounding of the float64 objective.


def match_weights(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    seed: int = 0,
    restarts: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """Coordinate descent over the groups, in random order, until a whole sweep changes nothing.

    Each visit solves one group's assignment exactly with all others held: the similarity is the Gram matrix of the
    units over all parameters of the group (weights, biases, affine weights of normalisations). Buffers are permuted,
    not matched. The objective ``sum <a, P b>`` is computed in float64, and a group keeps its permutation unless that
    gains.

    Parameters
    ----------
    a, b
        State dicts of one architecture. b is aligned to a.
    seed
        Seeds the orders of the groups and the random starts.
    restarts
        Number of starts: the first from the identity, the others from random permutations. The best objective wins.
    progress
        Called with (starts done, starts) after each.

    Raises
    ------
    PermutationError
        A state dict does not fit the spec.
    OptionError
        ``restarts`` is below 1.

    References
    ----------
    Ainsworth et al. 2023, algorithm 1; Sharma et al. 2024, appendix A, algorithm 1 (Greedy-SOBLAP).
    """
    if restarts < 1:
        raise OptionError(f"restarts must be at least 1, received {restarts}")
    began = time.perf_counter()
    spec.check_state(a, "network a")
    spec.check_state(b, "network b")
    descents = []
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(restarts)):
        descents.append(_descend(spec, a, b, np.random.default_rng(stream), random_start=number > 0))
        if progress is not None:
            progress(number + 1, restarts)
    best = max(descents, key=lambda descent: descent.objective())
    return Match(
        permutation=Permutation(spec, best.indices),
        method="weight",
        seed=seed,
        objective_before=_inner(a, b, best.parameters),
        objective_after=best.objective(),
        groups=tuple(_group_match(group, spec, a, b, best) for group in spec.groups),
        sweeps=best.sweeps,
        status="converged" if best.converged else "sweep limit",
        restarts=tuple(descent.objective() for descent in descents),
        examples=0,
        seconds=time.perf_counter() - began,
    )


def _descend(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    generator: np.random.Generator,
    random_start: bool,
) -> _Descent:
    descent = _Descent(spec, a, b, generator, spec.random(generator) if random_start else spec.identity())
    descent.run()
    return descent


@dataclass
class _Descent:
    """One start of coordinate descent. ``current`` is b under the permutation reached so far."""

    spec: PermutationSpec
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    generator: np.random.Generator
    indices: dict[str, np.ndarray]
    sweeps: int = 0
    converged: bool = False

    def __post_init__(self) -> None:
        self.groups = [group for group in self.spec.groups if self.spec.matched(group)]
        self.parameters = [name for name, layout in self.spec.tensors.items() if not layout.buffer]
        self.current = self.spec.permute(self.b, self.indices, self.parameters)

    def run(self) -> None:
        while not self.converged and self.sweeps < MAX_SWEEPS:
            self.sweeps += 1
            order = self.generator.permutation(len(self.groups))
            changed = [self._visit(self.groups[place]) for place in order]
            self.converged = not any(changed)

    def _visit(self, group: Group) -> bool:
        """Solve one group, and those inside it, against all others; True where that gained."""
        step = {
            name: index
            for name, index in solve_group(self.spec, group, self._similarity(group)).items()
            if (index != np.arange(index.shape[-1])).any()
        }
        if not step:
            return False
        names = _names(self.spec, [group])
        moved = self.spec.permute(self.current, step, names)
        gain = _inner(self.a, moved, names) - _inner(self.a, self.current, names)
        if gain <= _TOLERANCE * _scale(self.a, self.current, names):
            return False
        self.current |= moved
        self.indices |= self.spec.compose(self.indices, step)
        return True

    def _similarity(self, outer: Group) -> Similarity:
        """Gram matrices of the current weights; where insides stand beside each other, other places count."""
        inside = {group.name for group in insides(self.spec, outer)}

        def similarity(group: Group, order: Sequence[int], trailing: int) -> np.ndarray | None:
            others = inside - {group.name}
            places = [place for place in self.spec.matched(group) if not place.companions & others]
            places = places or ([] if group is outer else list(self.spec.matched(group)))
            pairs = [(place.units(self.a[place.tensor]), place.units(self.current[place.tensor])) for place in places]
            return grams(pairs, order, trailing) if pairs else None

        return similarity

    def objective(self) -> float:
        return _inner(self.a, self.current, self.parameters)


def _names(spec: PermutationSpec, groups: list[Group]) -> list[str]:
    return list(dict.fromkeys(place.tensor for group in groups for place in spec.matched(group)))


def _inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: list[str]) -> float:
    return float(sum(torch.dot(a[name].double().ravel(), b[name].double().ravel()) for name in names))


def _scale(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: list[str]) -> float:
    return float(sum(a[name].double().norm() * b[name].double().norm() for name in names))


def _group_match(
    group: Group, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], best: _Descent
) -> GroupMatch:
    names = _names(spec, [group])
    index = best.indices[group.name]
    dead = (~(_nonzero(group, spec, a) & _nonzero(group, spec, best.current))).sum() if names else 0
    return GroupMatch(
        name=group.name,
        size=group.size,
        objective_before=_inner(a, b, names),
        objective_after=_inner(a, best.current, names),
        fixed_points=int((index == np.arange(group.size)).sum()),
        dead_units=int(dead),
    )


def _nonzero(group: Group, spec: PermutationSpec, state: Mapping[str, Tensor]) -> np.ndarray:
    """Units with any weight other than zero."""
    alive = np.zeros(spec.shape(group), dtype=bool)
    for place in spec.matched(group):
        alive |= place.units(state[place.tensor]).ne(0).any(-1).cpu().numpy()
    return alive
