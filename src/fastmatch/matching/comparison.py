"""How the units of one group are compared: in one parameter after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmatch.kernels import Source, Summand
from fastmatch.symmetry import Occurrence, PermutationSpec

State = Mapping[str, Tensor]
Sources = tuple[Tensor, ...]  # For every other axis of a term, the position of b at each place.
Surroundings = list[Sources]  # For every term; what did not move is the same object.
Part = Literal["all", "still", "moving"]


class Term(NamedTuple):
    """One summand of a group's similarity: its units in one parameter, and the other axes that groups move."""

    place: Occurrence
    others: tuple[int, ...]
    shape: tuple[int, ...]


class Positions:
    """Where groups take their units from, and what that means for the axes of parameters.

    An index array is replaced, never changed: one that is the same object says that its group did not move.
    """

    def __init__(self, spec: PermutationSpec, indices: dict[str, np.ndarray]) -> None:
        self.spec = spec
        self.indices = indices
        self._movers: dict[tuple[str, int], list[str]] = {}
        self._known: dict[tuple[str, int], tuple[list[np.ndarray], Tensor]] = {}

    def sources(self, term: Term) -> Sources:
        """Positions along the other axes of a term; the same objects where nothing moved since the last call."""
        return tuple(self._source(term.place.tensor, axis) for axis in term.others)

    def _source(self, tensor: str, axis: int) -> Tensor:
        if (tensor, axis) not in self._movers:
            factors = (factor for box in self.spec.tensors[tensor].axes[axis] for factor in box.factors)
            names = dict.fromkeys(str(factor.group) for factor in factors if factor.group in self.indices)
            self._movers[tensor, axis] = list(names)
        moving = [self.indices[name] for name in self._movers[tensor, axis]]
        known = self._known.get((tensor, axis))
        if known is None or any(old is not new for old, new in zip(known[0], moving, strict=True)):
            known = self._known[tensor, axis] = (moving, self._move(tensor, axis))
        return known[1]

    def _move(self, tensor: str, axis: int) -> Tensor:
        layout = self.spec.tensors[tensor]
        moving = {name: self.indices[name] for name in self._movers[tensor, axis]}
        if (mover := layout.mover(axis, self.spec.bases)) is not None:
            return torch.from_numpy(moving[mover])
        moves = layout.moves(moving, self.spec.bases)
        return next(torch.from_numpy(source) for axes, source in moves if axes == (axis,))


class Comparison:
    """Units of one group of a and of b; nothing of them is kept, so that networks may lie on disk."""

    def __init__(self, a: State, b: State, terms: Sequence[Term]) -> None:
        self.a = a
        self.b = b
        self.terms = terms

    def surroundings(self, positions: Positions) -> Surroundings:
        """Sources of every term."""
        return [positions.sources(term) for term in self.terms]

    def summands(self, now: Surroundings, part: Part) -> Iterator[Summand]:
        """All columns, or those of the terms that other groups move, or of those that none does."""
        for term, sources in zip(self.terms, now, strict=True):
            if part == "all" or (part == "moving") == bool(term.others):
                moved = zip(term.others, sources, strict=True)
                yield self._summand(term, [Source(axis, source) for axis, source in moved])

    def differences(self, before: Surroundings, now: Surroundings) -> Iterator[Summand]:
        """Columns that change a sum from what it was to what it is: those that moved, axis after axis."""
        for term, old, new in zip(self.terms, before, now, strict=True):
            for place, axis in enumerate(term.others):
                if old[place] is not new[place]:
                    moved = (old[place] != new[place]).nonzero().squeeze(1)
                    first = Source(axis, new[place][moved], moved, old[place][moved])
                    around = zip(term.others, (*new[: place + 1], *old[place + 1 :]), strict=True)
                    beside = [Source(other, source) for other, source in around if other != axis]
                    yield self._summand(term, [first, *beside])

    def _summand(self, term: Term, sources: Sequence[Source]) -> Summand:
        """Summand of a term, with the axes of its parameter counted as in the view that has its units apart."""
        place = term.place
        (a, (axis,)), (b, _) = (place.view(side) for side in self._tensors(term))
        further = a.dim() - len(term.shape)
        moved = [
            source._replace(axis=source.axis + further) if source.axis > place.axis else source for source in sources
        ]
        return Summand(a, b, axis, tuple(moved))

    def exact(self, now: Surroundings, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Entries of the similarity in float64, shape [number of rows]."""
        total = np.zeros(len(rows))
        for term, sources in zip(self.terms, now, strict=True):
            a, b = self._tensors(term)
            left = _units(term, a, rows, (), ())
            right = _units(term, b, columns, term.others, sources)
            total += (left.double() * right.double()).sum(1).cpu().numpy()
        return total

    def _tensors(self, term: Term) -> tuple[Tensor, Tensor]:
        return self.a[term.place.tensor], self.b[term.place.tensor]


def unit_norms(state: State, places: Sequence[Occurrence]) -> np.ndarray:
    """Euclidean norms of the units of one group over its places, shape [bases..., units], float64."""
    total = torch.zeros(())
    for place in places:
        units = place.units(state[place.tensor])
        wide = torch.promote_types(units.dtype, torch.float32)
        total = total.to(units.device) + torch.linalg.vector_norm(units, dim=-1, dtype=wide).double().square()
    return total.sqrt().cpu().numpy()


def _select(tensor: Tensor, axes: Sequence[int], sources: Sequence[Tensor]) -> Tensor:
    for axis, source in zip(axes, sources, strict=True):
        tensor = tensor.index_select(axis, source.to(tensor.device))
    return tensor


def _units(term: Term, tensor: Tensor, rows: np.ndarray, axes: Sequence[int], sources: Sequence[Tensor]) -> Tensor:
    """Some of the units of a term; where they are positions of its axis, the others are not touched."""
    chosen, axis = torch.from_numpy(rows), term.place.axis
    if term.place.whole(tensor.shape[axis]):
        return _select(tensor, (axis, *axes), (chosen, *sources)).movedim(axis, 0).reshape(len(rows), -1)
    return _select(term.place.units(_select(tensor, axes, sources)), (0,), (chosen,))
