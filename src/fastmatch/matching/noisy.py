"""Coordinate descent that begins in noise: what restarts of weight matching do."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
from torch import Tensor

from fastmatch.assignment import Assignment
from fastmatch.matching.descent import Descent, Question
from fastmatch.matching.joint import Similarity, solve_group
from fastmatch.matching.problem import Problem
from fastmatch.symmetry import Group

SWEEPS = 30  # In noise; twice as many find more than two starts do, but the default must stay cheap.
HOT, COOL = 0.6, 0.3  # Noise of the first sweep, in standard deviations of the similarity's entries.


class NoisyDescent(Descent):
    """A start that sees its similarities through noise for some sweeps, then descends.

    Every visit adds fresh normal noise to the similarity, solves its assignment and moves the group there, gain or not.
    The noise falls linearly to nothing. What lies close together is decided by chance at first and last of all, when
    the groups around have settled: simulated annealing with exact assignments for moves.

    Parameters
    ----------
    noise
        Of the first sweep, in standard deviations of the similarity's entries.
    """

    def __init__(
        self,
        problem: Problem,
        generator: np.random.Generator,
        start: dict[str, np.ndarray],
        budget: int,
        still: dict[str, Tensor] | None,
        noise: float,
    ) -> None:
        super().__init__(problem, generator, start, budget, still)
        self._noise = noise

    def run(self) -> Generator[list[Question], list[Assignment], None]:
        """Anneal, then descend; yields and takes as :meth:`Descent.run`."""
        for noise in self._cooling():
            self.sweeps += 1
            for chosen in self._independent(self._order()):
                yield from self._shake(chosen, noise)
        self._seen.clear()
        yield from super().run()

    def _cooling(self) -> Iterator[float]:
        return (self._noise * (1 - sweep / SWEEPS) for sweep in range(SWEEPS))

    def _shake(self, names: Sequence[str], noise: float) -> Generator[list[Question], list[Assignment], None]:
        """Move independent groups to where a noisy view of all others puts them."""
        asked = [name for name in names if name in self.problem.terms]
        if asked:
            seen = [self._blurred(self.similarities.matrix(name).cpu().numpy(), noise) for name in asked]
            answers = yield [(matrix, self._last.get(name)) for name, matrix in zip(asked, seen, strict=True)]
            for name, answer in zip(asked, answers, strict=True):
                self._last[name] = answer
                if not np.array_equal(answer.columns, self.indices[name]):
                    self.indices[name] = answer.columns
        for name in names:
            if name not in self.problem.terms:
                self._shake_jointly(self.problem.groups[name], noise)

    def _shake_jointly(self, group: Group, noise: float) -> None:
        spec = self.problem.spec
        current = spec.permute(self.problem.b, self.indices, self.problem.tensors(group.name))
        step = solve_group(spec, group, self._noisily(self._similarity(group, current), noise))
        self.indices.update(spec.compose(self.indices, step))

    def _noisily(self, similarity: Similarity, noise: float) -> Similarity:
        def noisy(group: Group, order: Sequence[int], trailing: int) -> np.ndarray | None:
            exact = similarity(group, order, trailing)
            return None if exact is None else self._blurred(exact, noise)

        return noisy

    def _blurred(self, matrix: np.ndarray, noise: float) -> np.ndarray:
        normal = self.generator.standard_normal(matrix.shape, dtype=np.float32)
        return matrix + matrix.dtype.type(noise * matrix.std()) * normal
