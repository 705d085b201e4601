"""Instability to the noise of training, and one permutation for all networks of two basins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation import Barriers, barriers
from fastmatch.interpolation.evaluator import BatchNormMode
from fastmatch.permutation import Permutation

Kind = Literal["instability", "unaligned", "aligned"]


@dataclass(frozen=True)
class Children:
    """Barriers among the children of two parents.

    Attributes
    ----------
    of_a, of_b
        Number of children of each parent.
    barriers
        Of networks numbered in this order: children of a, children of b, children of b permuted.
    """

    of_a: int
    of_b: int
    barriers: Barriers

    def pairs(self, kind: Kind) -> list[tuple[int, int]]:
        """Pairs of network numbers: of one parent, or of both as they are, or with those of b permuted."""
        return _pairs(self.of_a, self.of_b)[kind]

    def mean(
        self,
        kind: Kind,
        *,
        split: Literal["train", "test"] = "test",
        quantity: Literal["loss", "error"] = "error",
    ) -> float:
        """Mean linear barrier over the pairs of a kind; NaN where there are none."""
        found = [self.barriers.heights[pair][split][quantity].linear for pair in self.pairs(kind)]
        return float(np.mean(found)) if found else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain data: number of children, pairs by kind, and all barriers."""
        kinds = {kind: [list(pair) for pair in pairs] for kind, pairs in _pairs(self.of_a, self.of_b).items()}
        return {"of_a": self.of_a, "of_b": self.of_b, "pairs": kinds, "barriers": self.barriers.to_json()}


def children(
    module: nn.Module,
    of_a: Sequence[Mapping[str, Tensor]],
    of_b: Sequence[Mapping[str, Tensor]],
    data: DataSet,
    permutation: Permutation,
    *,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    progress: Callable[[int, int], None] | None = None,
) -> Children:
    """Instability of two parents, and what the permutation of the parents does for their children.

    Children start from one network, their parent at some step of its training, and are trained from there with data in
    orders of their own. The barrier between two of one parent is its instability at that step (Frankle et al. 2020).

    Parameters
    ----------
    of_a, of_b
        State dicts of ``module``: children of either parent at the end of their training.
    permutation
        Lines the second parent up with the first; found without a look at the children.
    alphas, bn, progress
        See :func:`fastmatch.barriers`.

    Raises
    ------
    OptionError
        A parent has no children.

    References
    ----------
    Sharma et al. 2024, section 5.1, figure 1 right.
    """
    if not of_a or not of_b:
        raise OptionError(f"received {len(of_a)} children of a and {len(of_b)} of b; give at least one of each")
    networks = [*of_a, *of_b, *map(permutation.apply, of_b)]
    pairs = [pair for kind in _pairs(len(of_a), len(of_b)).values() for pair in kind]
    found = barriers(module, networks, data, pairs=pairs, alphas=alphas, bn=bn, progress=progress)
    return Children(len(of_a), len(of_b), found)


def _pairs(of_a: int, of_b: int) -> dict[Kind, list[tuple[int, int]]]:
    first, second = range(of_a), range(of_a, of_a + of_b)
    permuted = range(of_a + of_b, of_a + 2 * of_b)
    return {
        "instability": [*combinations(first, 2), *combinations(second, 2)],
        "unaligned": list(product(first, second)),
        "aligned": list(product(first, permuted)),
    }
