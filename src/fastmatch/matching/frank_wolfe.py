"""Frank-Wolfe weight matching: all groups at once, over doubly stochastic matrices."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fastmatch import assignment
from fastmatch.assignment import Assignment
from fastmatch.errors import OptionError
from fastmatch.matching.descent import Descent
from fastmatch.matching.match import Match, Stop
from fastmatch.matching.outcome import Starts, finite_products, run, start_indices
from fastmatch.matching.problem import Problem
from fastmatch.matching.relaxed import Objective, Soft, blend, held_note, soft_groups, vertices
from fastmatch.matching.several import State, pairs_of
from fastmatch.matching.weights import similarity_budget
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec, wide

STEPS = 200
_GAP = 1e-5  # Of the objective: the most that a step can gain to first order is below it when the search ends.
_NOISE = 0.5  # Of the entries of random starts, before their rows and columns sum to one.
_BALANCING = 50  # Rounds of Sinkhorn's iteration that do that.


def match_frank_wolfe(
    spec: PermutationSpec,
    a: State,
    b: State,
    *,
    seed: int = 0,
    restarts: int = 1,
    start: Permutation | None = None,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """Maximise ``sum <a, P b>`` over doubly stochastic matrices P, then over permutations.

    Every step takes the gradient by the matrices of all groups, assigns each group by it, and goes towards these
    permutations as far as pays: along the way the objective is a polynomial, whose maximum is found exactly. At the end
    the matrices are rounded to the nearest permutations, and coordinate descent goes on from there: the result is a
    local optimum of :func:`match_weights`, and no worse than the start. A planted permutation is found as by weight
    matching. Groups with a base, or inside others (heads and their coordinates), wait for the descent.

    Parameters
    ----------
    a, b
        State dicts of one architecture, on one device. b is aligned to a.
    seed
        Seeds the random starts and the orders of the descent.
    restarts
        Number of starts: the first from ``start``, the others from random matrices around the centre, where all entries
        are equal. The best objective wins.
    start
        The identity if None.
    steps
        Most steps of each start.
    progress
        Called with (starts done, starts).

    Raises
    ------
    PermutationError
        A state dict does not fit the spec or holds NaN, or ``start`` does not fit.
    OptionError
        ``restarts`` or ``steps`` is below 1.

    References
    ----------
    Crisostomi et al. 2024 (C2M3, arXiv 2405.17897), section 3 and algorithm 1 for two networks.
    """
    for name, value in {"restarts": restarts, "steps": steps}.items():
        if value < 1:
            raise OptionError(f"{name} must be at least 1, received {value}")
    began = time.perf_counter()
    [(a, b)] = pairs_of(spec, a, b)
    problem = Problem(spec, a, b)
    before = finite_products(problem)
    first = start_indices(spec, start)
    ascent = _Ascent(problem, first)
    starts = Starts(problem)
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(restarts)):
        generator = np.random.default_rng(stream)
        found = first | ascent.run(ascent.random(generator) if number else ascent.start, steps)
        ends = found if number else max(found, first, key=lambda indices: sum(problem.products(indices).values()))
        descent = Descent(problem, generator, ends, similarity_budget(problem), None)
        with torch.no_grad():
            run(descent)
        starts.add(descent)
        if progress is not None:
            try:
                progress(number + 1, restarts)
            except Stop:
                break
    notes = held_note(spec, "were matched by the coordinate descent that follows")
    return starts.match(spec, "frank_wolfe", seed, before, began, notes)


class _Ascent:
    """Frank-Wolfe from any matrices; groups without one stay where ``first`` has them."""

    def __init__(self, problem: Problem, first: dict[str, np.ndarray]) -> None:
        spec = problem.spec
        self._groups = soft_groups(spec)
        like = next((wide(problem.b[spec.matched(group)[0].tensor]) for group in self._groups), torch.zeros(()))
        self.start = vertices(first, {group.name: like for group in self._groups})
        held = {name: index for name, index in first.items() if name not in self.start}
        self._objective = Objective(spec, problem.a, spec.permute(problem.b, held), self.start)
        self._last: dict[str, Assignment] = {}

    def random(self, generator: np.random.Generator) -> dict[str, Tensor]:
        """Doubly stochastic matrices around the centre."""
        found = {}
        for name, like in self.start.items():
            noise = generator.standard_normal(tuple(like.shape))
            matrix = np.exp(_NOISE * noise)
            for _ in range(_BALANCING):
                matrix /= matrix.sum(1, keepdims=True)
                matrix /= matrix.sum(0, keepdims=True)
            found[name] = torch.from_numpy(matrix).to(like)
        return found

    def run(self, soft: Soft, steps: int) -> dict[str, np.ndarray]:
        """Ascend, and round to the nearest permutations."""
        if not soft:
            return {}
        for _ in range(steps):
            value, gradients = self._objective.gradients(soft)
            ends = vertices(self._assigned(gradients, warm=True), soft)
            gap = sum(
                float((gradients[name] * (ends[name] - matrix)).sum(dtype=torch.float64))
                for name, matrix in soft.items()
            )
            if gap <= _GAP * abs(value):
                break
            soft = blend(soft, ends, self._step(soft, ends, value, gap))
        return self._assigned(soft, warm=False)

    def _assigned(self, matrices: Soft, *, warm: bool) -> dict[str, np.ndarray]:
        starts = [self._last.get(name) if warm else None for name in matrices]
        answers = assignment.solve_batch([matrix.cpu().numpy() for matrix in matrices.values()], warm=starts)
        if warm:
            self._last.update(zip(matrices, answers, strict=True))
        return {name: answer.columns for name, answer in zip(matrices, answers, strict=True)}

    def _step(self, soft: Soft, ends: Soft, value: float, slope: float) -> float:
        """Where on the segment the objective is largest: ``value + slope t + t^2 q(t)``, q fixed by a few values."""
        count = self._objective.degree - 1
        places = np.arange(1, count + 1) / max(1, count)
        values = np.array([self._objective.value(blend(soft, ends, float(place))) for place in places])
        rest = np.polynomial.Polynomial([0.0])
        if count:
            rest = np.polynomial.Polynomial.fit(places, (values - value - slope * places) / places**2, count - 1)
        curve = np.polynomial.Polynomial([value, slope]) + rest.convert() * np.polynomial.Polynomial([0.0, 0.0, 1.0])
        roots = curve.deriv().roots()
        inside = roots[np.isreal(roots)].real
        candidates = [1.0, *inside[(inside > 0) & (inside < 1)]]
        return float(max(candidates, key=curve))
