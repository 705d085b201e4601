"""Groups observed while two networks run on the same examples: where, and what their units have in common there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from fastmatch import kernels
from fastmatch.errors import SymmetryError
from fastmatch.symmetry import Graph, GraphRunner, Occurrence, PermutationSpec, Tap, float_type, observe

Similarity = Literal["summed", "pearson", "linear"]
SIMILARITIES = get_args(Similarity)


class Places(NamedTuple):
    """Where a group is compared: behind nonlinearities, and in front of them; ``beside`` as in :class:`Tap`."""

    after: tuple[Occurrence, ...]
    before: tuple[Occurrence, ...]
    beside: frozenset[str]


def find_places(
    spec: PermutationSpec, module: nn.Module, example: Tensor, similarity: Similarity
) -> tuple[dict[str, Places], Graph]:
    """Places of the groups without insides, on the values of a graph; what has insides is judged by theirs."""
    taps, graph = observe(spec, module, (example.to(float_type(module.state_dict())),))
    if blind := [name for name in spec.leaves if name not in taps]:
        raise SymmetryError(f"group {blind[0]!r} has no activation to compare; use --method weight")
    return {name: _places(taps[name], similarity) for name in spec.leaves}, graph


def _places(tap: Tap, similarity: Similarity) -> Places:
    if similarity == "summed" and tap.after:
        return Places(tap.after, tap.before, tap.beside)
    return Places((tap.place,), (), tap.beside)


def runner_of(graph: Graph, places: Mapping[str, Places]) -> GraphRunner:
    """What runs the graph and gives the values in all places."""
    return GraphRunner(graph, [place.tensor for found in places.values() for place in found.after + found.before])


class Observed:
    """Moments of one group of two networks in all its places."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._after = [kernels.Moments() for _ in places.after]
        self._before = [kernels.Moments() for _ in places.before]

    def update(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
        """Add the values of one batch, by the names of their nodes."""
        places = self._places.after + self._places.before
        for place, moments in zip(places, self._after + self._before, strict=True):
            (first, axes), (second, _) = (place.view(values[place.tensor]) for values in (a, b))
            moments.update(first, second, axes=axes)

    def matrix(self, similarity: Similarity) -> Tensor:
        """Similarities of the units of a and of b over all bases, shape [units, units], float64."""
        if similarity == "linear":
            return self._after[0].linear()
        return sum((_mean(part) for part in (self._after, self._before) if part), torch.zeros(()))

    def alive(self) -> tuple[Tensor, Tensor]:
        """Units of a and of b that vary somewhere behind a nonlinearity."""
        first, second = zip(*(moments.alive() for moments in self._after), strict=True)
        return torch.stack(first).any(0), torch.stack(second).any(0)


def _mean(parts: Sequence[kernels.Moments]) -> Tensor:
    return torch.stack([part.pearson() for part in parts]).mean(0)
