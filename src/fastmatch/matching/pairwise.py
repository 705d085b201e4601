"""Many networks pair by pair: an alignment of each two by itself, and how far that is from a common order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from torch import nn

from fastmatch.data import Split
from fastmatch.matching.match import Match, inconsistency
from fastmatch.matching.methods import match
from fastmatch.matching.order import State
from fastmatch.matching.pair import Pair
from fastmatch.matching.several import networks_of
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec


@dataclass(frozen=True)
class PairwiseMatch:
    """Alignments of all pairs of networks, each found by itself.

    Attributes
    ----------
    matches
        ``matches[i, j].permutation`` lines network j up with network i, for i < j.
    networks
        Their number.
    """

    matches: Mapping[tuple[int, int], Match]
    networks: int

    def between(self, first: int, second: int) -> Permutation:
        """The permutation that lines network ``second`` up with network ``first``, found for this pair."""
        if first == second:
            return Permutation.identity(next(iter(self.matches.values())).permutation.spec)
        if first < second:
            return self.matches[first, second].permutation
        return self.matches[second, first].permutation.invert()

    @cached_property
    def inconsistency(self) -> float:
        """Share of units that do not come back when sent around three networks: mean over all triples, 0 to 1."""
        return inconsistency(self.between, self.networks)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the permutations."""
        pairs = [{"pair": list(pair), **found.to_json()} for pair, found in self.matches.items()]
        return {"networks": self.networks, "inconsistency": self.inconsistency, "pairs": pairs}


def match_pairs(
    spec: PermutationSpec,
    networks: Sequence[State],
    *,
    module: nn.Module | None = None,
    data: Split | None = None,
    method: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> PairwiseMatch:
    """Match every two networks by themselves, the later one to the earlier one.

    No pair knows of the others: sent around a cycle of networks, units need not come back
    (:attr:`PairwiseMatch.inconsistency`). :func:`match_many` finds permutations that agree.

    Parameters
    ----------
    networks
        State dicts of one architecture, at least two.
    module, data, method, seed, options
        As for :func:`fastmatch.match`, of every pair.
    progress
        Called with (pairs done, pairs).

    Raises
    ------
    OptionError, PermutationError, DataError, SymmetryError
        As :func:`match_many` and the method.
    """
    networks = networks_of(spec, networks)
    pairs = list(combinations(range(len(networks)), 2))
    matches = {}
    for i, j in pairs:
        matches[i, j] = match(Pair(spec, networks[i], networks[j], module, data), method, seed=seed, **options)
        if progress is not None:
            progress(len(matches), len(pairs))
    return PairwiseMatch(matches, len(networks))
