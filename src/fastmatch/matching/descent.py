"""Coordinate descent over the groups of two networks, one exact assignment at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from fastmatch.assignment import Assignment
from fastmatch.matching.comparison import Positions
from fastmatch.matching.joint import Similarity, grams, insides, solve_group
from fastmatch.matching.problem import Problem, inner
from fastmatch.matching.similarities import Similarities
from fastmatch.symmetry import Group

MAX_SWEEPS = 200
_TOLERANCE = 1e-12  # Of the norms' product: a gain below it is rounding of the float64 objective.
_DOUBT = 100  # Times the unit roundoff and the norms of what moves: a gain below it is worked out in float64.
Question = tuple[np.ndarray, Assignment | None]  # A similarity, and the last answer for its group.


class Descent:
    """One start of weight matching.

    A group is visited again only if a group beside it has moved since: otherwise its assignment would be the same. A
    sweep in which no group moves ends the run, if float64 confirms the similarities that were built up by differences.

    Parameters
    ----------
    start
        Index arrays to begin with.
    budget, still
        See :class:`Similarities`.
    """

    def __init__(
        self,
        problem: Problem,
        generator: np.random.Generator,
        start: dict[str, np.ndarray],
        budget: int,
        still: dict[str, Tensor] | None,
    ) -> None:
        self.problem = problem
        self.generator = generator
        self.positions = Positions(problem.spec, start)
        self.similarities = Similarities(problem, self.positions, budget, still)
        self.sweeps = 0
        self.converged = False
        self._last: dict[str, Assignment] = {}
        self._seen: dict[str, list[np.ndarray]] = {}

    @property
    def indices(self) -> dict[str, np.ndarray]:
        """Index array of every group: the unit of b's checkpoint at each place."""
        return self.positions.indices

    def run(self) -> Generator[list[Question], list[Assignment], None]:
        """Descend; yields assignment problems that do not depend on each other and takes their answers."""
        while not self.converged and self.sweeps < MAX_SWEEPS:
            self.sweeps += 1
            moved = False
            for chosen in self._independent(self._order()):
                moved |= yield from self._visit(chosen)
            self.converged = not moved and not self._forget_drifted()
        self.similarities.release()

    def _order(self) -> list[str]:
        names = list(self.problem.groups)
        return [names[place] for place in self.generator.permutation(len(names))]

    def _forget_drifted(self) -> bool:
        """Have similarities computed anew, and asked once more, that float64 does not confirm; True if there are."""
        kept = self.similarities
        drifted = [name for name in kept.differences if kept.drifted(name, self.indices[name])]
        for name in drifted:
            kept.forget(name)
            del self._seen[name]
        return bool(drifted)

    def _independent(self, order: Sequence[str]) -> Iterator[list[str]]:
        """Split an order into runs of groups of which none is beside another, and whose matrices may be kept."""
        beside = self.problem.neighbours
        run: list[str] = []
        for name in order:
            size = 8 * sum(self.problem.groups[other].size ** 2 for other in (*run, name))
            if size > self.similarities.budget or any(other in beside[name] or name in beside[other] for other in run):
                yield run
                run = []
            run.append(name)
        yield run

    def _visit(self, names: Sequence[str]) -> Generator[list[Question], list[Assignment], bool]:
        """Solve independent groups against all others; True where one moved."""
        stirred = [name for name in names if self._stirred(name)]
        asked = [name for name in stirred if name in self.problem.terms]
        matrices = [self.similarities.matrix(name).cpu().numpy() for name in asked]
        moved = False
        if asked:
            answers = yield [(matrix, self._last.get(name)) for name, matrix in zip(asked, matrices, strict=True)]
            for name, matrix, answer in zip(asked, matrices, answers, strict=True):
                self._last[name] = answer
                moved |= self._accept(name, matrix, answer.columns)
        for name in stirred:
            if name not in self.problem.terms:
                moved |= self._visit_jointly(self.problem.groups[name])
        return moved

    def _stirred(self, name: str) -> bool:
        """Whether a group's surroundings have changed since this was asked last."""
        now = [self.indices[other] for other in self.problem.neighbours[name]]
        before = self._seen.get(name)
        self._seen[name] = now
        return before is None or any(old is not new for old, new in zip(before, now, strict=True))

    def _accept(self, name: str, matrix: np.ndarray, new: np.ndarray) -> bool:
        """Move a group if that gains."""
        old = self.indices[name]
        rows = np.flatnonzero(old != new)
        if not len(rows):
            return False
        gain = float((matrix[rows, new[rows]].astype(np.float64) - matrix[rows, old[rows]]).sum())
        first, second = self.problem.norms(name)
        unit = float(np.finfo(matrix.dtype).eps)
        if abs(gain) <= _DOUBT * unit * first[rows] @ (second[new[rows]] + second[old[rows]]):
            exact = self.similarities.exact
            gain = float((exact(name, rows, new[rows]) - exact(name, rows, old[rows])).sum())
        if gain <= _TOLERANCE * math.sqrt(first @ first) * math.sqrt(second @ second):
            return False
        self.indices[name] = new
        return True

    def _visit_jointly(self, group: Group) -> bool:
        """Solve one group, and those inside it, against all others; True where that gained."""
        spec, a, names = self.problem.spec, self.problem.a, self.problem.tensors(group.name)
        current = spec.permute(self.problem.b, self.indices, names)
        step = {
            name: index
            for name, index in solve_group(spec, group, self._similarity(group, current)).items()
            if (index != np.arange(index.shape[-1])).any()
        }
        if not step:
            return False
        moved = spec.permute(current, step, names)
        gain = sum(inner(a[name], moved[name]) - inner(a[name], current[name]) for name in names)
        if gain <= _TOLERANCE * sum(float(a[name].double().norm() * moved[name].double().norm()) for name in names):
            return False
        self.indices.update(spec.compose(self.indices, step))
        return True

    def _similarity(self, outer: Group, current: Mapping[str, Tensor]) -> Similarity:
        """Gram matrices of the current weights; where insides stand beside each other, other places count."""
        spec = self.problem.spec
        inside = {group.name for group in insides(spec, outer)}

        def similarity(group: Group, order: Sequence[int], trailing: int) -> np.ndarray | None:
            others = inside - {group.name}
            places = [place for place in spec.matched(group) if not place.companions & others]
            places = places or ([] if group is outer else list(spec.matched(group)))
            pairs = [
                (place.units(self.problem.a[place.tensor]), place.units(current[place.tensor])) for place in places
            ]
            return grams(pairs, order, trailing) if pairs else None

        return similarity
