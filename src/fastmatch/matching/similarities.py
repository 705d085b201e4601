"""Similarity matrices of the groups of two networks, kept while groups move and brought up to date by what moved."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fastmatch import kernels
from fastmatch.matching.comparison import Positions, Surroundings
from fastmatch.matching.problem import Problem

_DIFFERENCES = 32  # After so many a matrix is computed anew.
_COLUMNS = 32  # From so many on, their sum is kept for the next start rather than computed anew.
_FEW = 6  # Differences that round no more than a few products do.
_SAMPLE = 16  # Entries of a matrix that are compared with their float64 values.
_DRIFT = 64  # Times the unit roundoff and the units' norms: more than the rounding of one product.
_ROWS = 64  # Units that are compared in float64 at a time.


class Similarities:
    """Gram matrices [units of a, units of b] of groups with terms, b's units in the order of its checkpoint.

    When other groups moved, only the columns that moved are taken out and added again. After many such differences a
    matrix is computed anew; :meth:`drifted` tells what they did to its entries.

    Parameters
    ----------
    budget
        Bytes of matrices to keep. Those used longest ago are dropped beyond it and computed anew when needed.
    still
        Sums over the terms that nothing moves beside, by group: computed once for all starts, as many as the budget
        holds once more. None if there is one start.
    """

    def __init__(self, problem: Problem, positions: Positions, budget: int, still: dict[str, Tensor] | None) -> None:
        self.problem = problem
        self.positions = positions
        self.budget = budget
        self.still = still
        self.differences: dict[str, int] = {}
        self._matrices: dict[str, tuple[Tensor, Surroundings]] = {}

    def matrix(self, name: str) -> Tensor:
        """Similarity of a group under the present positions of the others, shape [n, n], float32 or float64."""
        comparison = self.problem.comparison(name)
        now = comparison.surroundings(self.positions)
        if name in self._matrices and self.differences.get(name, 0) < _DIFFERENCES:
            matrix, before = self._matrices.pop(name)
            matrix = kernels.gram_update(matrix, comparison.differences(before, now))
            self.differences[name] = self.differences.get(name, 0) + 1
        else:
            self.forget(name)
            matrix = self._full(name, now)
        self._matrices[name] = (matrix, now)
        self._trim()
        return matrix

    def release(self) -> None:
        """Let all matrices go."""
        self._matrices.clear()

    def forget(self, name: str) -> None:
        """Compute a matrix anew when it is needed next."""
        self._matrices.pop(name, None)
        self.differences.pop(name, None)

    def _full(self, name: str, now: Surroundings) -> Tensor:
        comparison = self.problem.comparison(name)
        if self.still is None or not (name in self.still or self._worth(name, self.still)):
            return kernels.gram(comparison.summands(now, "all"))
        if name not in self.still:
            self.still[name] = kernels.gram(comparison.summands(now, "still"))
        return kernels.gram_update(self.still[name].clone(), comparison.summands(now, "moving"))

    def _worth(self, name: str, still: dict[str, Tensor]) -> bool:
        """Whether the terms that nothing moves beside cost more than their sum, and it may be kept."""
        group = self.problem.groups[name]
        columns = sum(math.prod(term.shape) // group.size for term in self.problem.terms[name] if not term.others)
        size = 8 * group.size**2 + sum(matrix.nbytes for matrix in still.values())
        return columns >= _COLUMNS and size <= self.budget

    def _trim(self) -> None:
        size = sum(matrix.nbytes for matrix, _ in self._matrices.values())
        while size > self.budget and len(self._matrices) > 1:
            oldest = next(iter(self._matrices))
            size -= self._matrices[oldest][0].nbytes
            self.forget(oldest)

    def exact(self, name: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Entries of the similarity in float64, from the weights themselves, shape [number of rows]."""
        comparison, now = self.problem.comparison(name), self._matrices[name][1]
        parts = (slice(start, start + _ROWS) for start in range(0, len(rows), _ROWS))
        return np.concatenate([comparison.exact(now, rows[part], columns[part]) for part in parts])

    def drifted(self, name: str, index: np.ndarray) -> bool:
        """Whether differences have put assigned entries of a kept matrix further off than rounding does."""
        if self.differences.get(name, 0) <= _FEW:
            return False
        matrix, _ = self._matrices[name]
        rows = np.unique(np.linspace(0, len(index) - 1, _SAMPLE).astype(np.int64))
        columns = index[rows]
        first, second = self.problem.norms(name)
        error = np.abs(matrix[rows, columns].double().cpu().numpy() - self.exact(name, rows, columns))
        return bool((error > _DRIFT * torch.finfo(matrix.dtype).eps * first[rows] * second[columns]).any())
