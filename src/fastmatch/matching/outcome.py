"""From starts of a search on weights to a Match."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from fastmatch.assignment import solve_batch
from fastmatch.errors import PermutationError
from fastmatch.matching.descent import Descent
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.problem import Problem
from fastmatch.matching.several import require_finite
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Indices, PermutationSpec


def start_indices(spec: PermutationSpec, start: Permutation | None) -> dict[str, np.ndarray]:
    """Index arrays to begin with, fresh ones: the identity if ``start`` is None.

    Raises
    ------
    PermutationError
        ``start`` has other groups.
    """
    if start is None:
        return spec.identity()
    if start.spec.digest != spec.digest:
        raise PermutationError(
            "the start has other groups than a and b: it is of another network, or was made with other groups frozen"
        )
    return {name: index.copy() for name, index in start.indices.items()}


def finite_products(problem: Problem) -> dict[str, float]:
    """Inner products under the identity; PermutationError where weights, or these, are not finite."""
    products = problem.products({})
    if not all(map(math.isfinite, products.values())):
        require_finite(problem.a, "network a")
        require_finite(problem.b, "network b")
        raise PermutationError("the weights of network a or b are too large: their inner products are not finite")
    return products


def run(descent: Descent) -> None:
    """Let a descent go on to its end, and solve what it asks over threads."""
    going = descent.run()
    questions = next(going, None)
    while questions is not None:
        matrices, warm = zip(*questions, strict=True)
        try:
            questions = going.send(solve_batch(matrices, warm=warm))
        except StopIteration:
            return


class Starts:
    """Finished starts of one search; the best of them is what it found."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.objectives: list[float] = []
        self.best: Descent | None = None
        self._products: Mapping[str, float] = {}

    def add(self, descent: Descent) -> None:
        """Take in a start that has run to its end."""
        products = self.problem.products(descent.indices)
        objective = sum(products.values())
        if self.best is None or objective > max(self.objectives):
            self.best, self._products = descent, products
        self.objectives.append(objective)

    def match(
        self,
        spec: PermutationSpec,
        method: str,
        seed: int,
        before: Mapping[str, float],
        began: float,
        notes: Sequence[str] = (),
    ) -> Match:
        """The best start, with the evidence for it; ``began`` is when the search did, on the performance counter.

        ``spec`` is that of a network, where the problem has several checkpoints of it side by side.
        """
        assert self.best is not None
        indices = self.best.indices
        return Match(
            permutation=Permutation(spec, indices),
            method=method,
            seed=seed,
            objective_before=sum(before.values()),
            objective_after=max(self.objectives),
            groups=tuple(_figures(self.problem, name, before, self._products, indices) for name in spec.identity()),
            sweeps=self.best.sweeps,
            status="converged" if self.best.converged else "sweep limit",
            restarts=tuple(self.objectives),
            examples=0,
            seconds=time.perf_counter() - began,
            notes=tuple(notes),
        )


def _figures(
    problem: Problem, name: str, before: Mapping[str, float], after: Mapping[str, float], indices: Indices
) -> GroupMatch:
    group = problem.spec.group(name)
    tensors = problem.tensors(name) if name in problem.groups else []
    dead = 0
    if tensors:
        first, second = problem.norms(name)
        dead = int(((first == 0) | (second[problem.spec.source(group, indices)] == 0)).sum())
    was, now = (sum(found[tensor] for tensor in tensors) for found in (before, after))
    return GroupMatch.of(group, indices[name], was, now, dead)
