"""Similarity matrices of the groups of two networks, kept while groups move and brought up to date by what moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fastmatch import kernels
from fastmatch.matching.problem import Problem, Term

_DIFFERENCES = 32  # After so many a matrix is computed anew.
_SAMPLE = 64  # Entries of a matrix that are compared with their float64 values.
_DRIFT = 16  # Times the unit roundoff and the units' norms: more than the rounding of one product.
_ENTRIES = 1 << 22  # Of units that are widened to float64 at a time.
Sources = tuple[Tensor, ...]  # For every other axis of a term, the position of b at each place.


@dataclass
class Positions:
    """Where groups take their units from, and what that means for the axes of parameters.

    An index array is replaced, never changed: one that is the same object says that its group did not move.
    """

    problem: Problem
    indices: dict[str, np.ndarray]
    _known: dict[tuple[str, int], tuple[tuple[np.ndarray, ...], Tensor]] = field(default_factory=dict)
    _groups: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)

    def sources(self, term: Term) -> Sources:
        """Positions along the other axes of a term; the same objects where nothing moved since the last call."""
        return tuple(self._source(term.place.tensor, axis) for axis in term.others)

    def _source(self, tensor: str, axis: int) -> Tensor:
        place = (tensor, axis)
        if place not in self._groups:
            factors = (factor for box in self.problem.spec.tensors[tensor].axes[axis] for factor in box.factors)
            names = dict.fromkeys(str(factor.group) for factor in factors if factor.group in self.indices)
            self._groups[place] = tuple(names)
        arrays = tuple(self.indices[name] for name in self._groups[place])
        known = self._known.get(place)
        if known is None or any(old is not new for old, new in zip(known[0], arrays, strict=True)):
            known = self._known[place] = (arrays, self._move(tensor, axis))
        return known[1]

    def _move(self, tensor: str, axis: int) -> Tensor:
        spec = self.problem.spec
        moving = {name: self.indices[name] for name in self._groups[tensor, axis]}
        moves = spec.tensors[tensor].moves(moving, spec.bases)
        return next(torch.from_numpy(source) for axes, source in moves if axes == (axis,))


class Similarities:
    """Gram matrices [units of a, units of b] of groups with terms, b's units in the order of its checkpoint.

    When other groups moved, only the columns that moved are taken out and added again. After many such differences a
    matrix is computed anew; :meth:`drifted` tells what they did to its entries.

    Parameters
    ----------
    budget
        Bytes of matrices to keep. Those used longest ago are dropped beyond it and computed anew when needed.
    still
        Sums over the terms that nothing moves beside, by group: computed once for all starts. None if not to be kept.
    """

    def __init__(self, problem: Problem, positions: Positions, budget: int, still: dict[str, Tensor] | None) -> None:
        self.problem = problem
        self.positions = positions
        self.budget = budget
        self.still = still
        self.differences: dict[str, int] = {}
        self._matrices: dict[str, tuple[Tensor, list[Sources]]] = {}

    def matrix(self, name: str) -> Tensor:
        """Similarity of a group under the present positions of the others, shape [n, n], float32 or float64."""
        terms = self.problem.terms[name]
        now = [self.positions.sources(term) for term in terms]
        if name in self._matrices and self.differences.get(name, 0) < _DIFFERENCES:
            matrix, before = self._matrices.pop(name)
            matrix = kernels.gram(self._moved(name, before, now), matrix)
        else:
            self.forget(name)
            matrix = self._full(name, now)
        self._matrices[name] = (matrix, now)
        self._trim()
        return matrix

    def forget(self, name: str) -> None:
        """Compute a matrix anew when it is needed next."""
        self._matrices.pop(name, None)
        self.differences.pop(name, None)

    def _full(self, name: str, now: Sequence[Sources]) -> Tensor:
        terms = list(zip(self.problem.terms[name], now, strict=True))
        if self.still is None:
            return kernels.gram(self._pair(term, sources) for term, sources in terms)
        if name not in self.still and any(not term.others for term, _ in terms):
            self.still[name] = kernels.gram(self._pair(term, ()) for term, _ in terms if not term.others)
        total = self.still[name].clone() if name in self.still else None
        return kernels.gram((self._pair(term, sources) for term, sources in terms if term.others), total)

    def _pair(self, term: Term, sources: Sources) -> tuple[Tensor, Tensor]:
        a, b = (state[term.place.tensor] for state in (self.problem.a, self.problem.b))
        return term.place.units(a), term.place.units(_select(b, term.others, sources))

    def _moved(self, name: str, before: Sequence[Sources], now: Sequence[Sources]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs whose Gram matrices change the similarity from what it was to what it is, axis after axis."""
        for term, old, new in zip(self.problem.terms[name], before, now, strict=True):
            for place, axis in enumerate(term.others):
                if old[place] is not new[place]:
                    beside = [other for other in range(len(term.others)) if other != place]
                    mixed = [(new if other < place else old)[other] for other in beside]
                    axes = [term.others[other] for other in beside]
                    self.differences[name] = self.differences.get(name, 0) + 1
                    yield self._difference(term, axis, old[place], new[place], axes, mixed)

    def _difference(
        self, term: Term, axis: int, old: Tensor, new: Tensor, axes: Sequence[int], sources: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        a, b = (state[term.place.tensor] for state in (self.problem.a, self.problem.b))
        places = (old != new).nonzero().squeeze(1)
        wide = torch.promote_types(b.dtype, torch.float32)
        added, taken = (_select(b, (axis,), (source[places],)).to(wide) for source in (new, old))
        change = _select(added.sub_(taken), axes, sources)
        return term.place.units(_select(a, (axis,), (places,))), term.place.units(change)

    def _trim(self) -> None:
        size = sum(matrix.nbytes for matrix, _ in self._matrices.values())
        while size > self.budget and len(self._matrices) > 1:
            matrix, _ = self._matrices.pop(next(iter(self._matrices)))
            size -= matrix.nbytes

    def exact(self, name: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Entries of the similarity in float64, from the weights themselves, shape [number of rows]."""
        total = np.zeros(len(rows))
        for term in self.problem.terms[name]:
            a, b = (state[term.place.tensor] for state in (self.problem.a, self.problem.b))
            width = max(1, a.numel() // a.shape[term.place.axis])
            for part in np.array_split(np.arange(len(rows)), 1 + len(rows) * width // _ENTRIES):
                left = _units(term, a, rows[part], [], ())
                right = _units(term, b, columns[part], term.others, self.positions.sources(term))
                total[part] += (left.double() * right.double()).sum(1).cpu().numpy()
        return total

    def drifted(self, name: str, index: np.ndarray) -> bool:
        """Whether differences have put assigned entries of a kept matrix further off than rounding does."""
        matrix, _ = self._matrices[name]
        rows = np.unique(np.linspace(0, len(index) - 1, _SAMPLE).astype(np.int64))
        columns = index[rows]
        first, second = self.problem.norms(name)
        error = np.abs(matrix[rows, columns].double().cpu().numpy() - self.exact(name, rows, columns))
        return bool((error > _DRIFT * torch.finfo(matrix.dtype).eps * first[rows] * second[columns]).any())


def _units(term: Term, tensor: Tensor, rows: np.ndarray, axes: Sequence[int], sources: Sequence[Tensor]) -> Tensor:
    """Some of the units of a term; where they are positions of its axis, the others are not touched."""
    chosen, axis = torch.from_numpy(rows), term.place.axis
    if term.place.whole(tensor.shape[axis]):
        units = _select(tensor, (axis, *axes), (chosen, *sources))
        return units.movedim(axis, 0).reshape(len(rows), -1)
    return _select(term.place.units(_select(tensor, axes, sources)), (0,), (chosen,))


def _select(tensor: Tensor, axes: Sequence[int], sources: Sequence[Tensor]) -> Tensor:
    for axis, source in zip(axes, sources, strict=True):
        tensor = tensor.index_select(axis, source.to(tensor.device))
    return tensor
