"""Populations: barriers between all networks of a set, as they are, aligned to one of them, or pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from fastmatch.analysis.clusters import Clusters, single_linkage
from fastmatch.analysis.remembered import remembered
from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation import Barriers, barriers
from fastmatch.interpolation.evaluation import Precision
from fastmatch.interpolation.evaluator import BatchNormMode
from fastmatch.interpolation.pairs import Definition, Pair
from fastmatch.matching import Match, match_activations, match_weights
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec, trace

Align = Literal["none", "reference", "pairs"]
Method = Literal["weight", "activation"]
Split = Literal["train", "test"]
Quantity = Literal["loss", "error"]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Population:
    """Barriers between all networks of a set.

    Attributes
    ----------
    barriers
        Barriers, standard errors and curves of every pair (i, j), i < j.
    permutations
        ``permutations[i, j].apply(networks[j])`` lines up with network i: of the pairs (reference, j), or of all.
    align
        Which of the two; ``"none"`` where networks were taken as they are.
    reference
        Number of the network that the others were aligned to; None without one.
    """

    barriers: Barriers
    permutations: Mapping[Pair, Permutation]
    align: Align
    reference: int | None

    def epsilon(
        self, *, split: Split = "test", quantity: Quantity = "loss", definition: Definition = "max"
    ) -> np.ndarray:
        """Barriers of all pairs, float64, shape [networks, networks]; by default epsilon of Kalaivanan 2023, 2.1.1."""
        return self.barriers.matrix(split=split, quantity=quantity, definition=definition)

    def values(
        self, *, split: Split = "test", quantity: Quantity = "loss", definition: Definition = "max"
    ) -> np.ndarray:
        """Barriers of the pairs as a list, float64, in the order of ``barriers.heights``."""
        return np.array([getattr(found[split][quantity], definition) for found in self.barriers.heights.values()])

    def ends(self, *, split: Split = "test", quantity: Quantity = "loss") -> np.ndarray:
        """Mean loss (nats) or error (fraction) of each network itself, float64, shape [networks]."""
        means = self.barriers.means
        first = [means[0, 1][split][quantity][0]]
        return np.array(first + [means[0, j][split][quantity][-1] for j in range(1, self.barriers.networks)])

    def curves(self, *, split: Split = "test", quantity: Quantity = "loss") -> np.ndarray:
        """Mean values on the lines, float64, shape [pairs, alphas]."""
        return np.stack([found[split][quantity] for found in self.barriers.means.values()])

    def quartiles(self, *, split: Split = "test", quantity: Quantity = "loss") -> np.ndarray:
        """First quartile, median and third quartile over the pairs at each alpha, float64, shape [3, alphas]."""
        return np.quantile(self.curves(split=split, quantity=quantity), [0.25, 0.5, 0.75], axis=0)

    @cached_property
    def clusters(self) -> Clusters:
        """Single-linkage clusters by epsilon of the test loss."""
        return single_linkage(self.epsilon())

    def to_json(self) -> dict[str, Any]:
        """Plain data: what was aligned to what, the index arrays, barriers, curves with their quartiles, clusters."""
        splits: tuple[Split, ...] = ("train", "test")
        quantities: tuple[Quantity, ...] = ("loss", "error")
        return {
            "align": self.align,
            "reference": self.reference,
            "permutations": [
                {"pair": list(pair), "indices": {name: index.tolist() for name, index in permutation.indices.items()}}
                for pair, permutation in self.permutations.items()
            ],
            **self.barriers.to_json(),
            "epsilon": {s: {q: self.epsilon(split=s, quantity=q).tolist() for q in quantities} for s in splits},
            "quartiles": {s: {q: self.quartiles(split=s, quantity=q).tolist() for q in quantities} for s in splits},
            "clusters": self.clusters.to_json(),
        }


def population(
    module: nn.Module,
    networks: Sequence[State],
    data: DataSet,
    *,
    align: Align = "reference",
    reference: int = 0,
    method: Method = "weight",
    spec: PermutationSpec | None = None,
    seed: int = 0,
    alphas: int = 11,
    bn: BatchNormMode = "reset",
    precision: Precision = "highest",
    memory: float | None = None,
    known: MutableMapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Population:
    """Align networks, and measure the barriers of all pairs.

    Parameters
    ----------
    module
        The architecture; its own weights play no part.
    networks
        State dicts, at least two.
    data
        Both splits are evaluated; activations are compared on the training split.
    align
        ``"reference"``: all networks are permuted once, to line up with one of them, and then measured pair by pair;
        ``"pairs"``: the second network of each pair is permuted to line up with the first; ``"none"``: as they are.
    reference
        Number of the network to line up with.
    method
        ``"weight"``: :func:`fastmatch.match_weights` with ``seed``; ``"activation"``:
        :func:`fastmatch.match_activations`.
    spec
        The groups; traced if None.
    alphas, bn, precision, memory
        See :func:`fastmatch.barriers`.
    known
        What an earlier call with the same arguments found, plain data: alignments by ``"align i-j"`` and curves by
        ``"i-j"`` are not computed again, and new ones are put in.
    progress
        Called with (alignments and curves done, all of them).

    Raises
    ------
    OptionError
        Fewer than two networks, an unknown option, or a reference that is none of the networks.
    PermutationError, ModelError, DataError
        As matching and evaluation.

    References
    ----------
    Kalaivanan 2023, sections 3.3, 4.2 and 5.2.
    """
    _check(len(networks), align, method, reference)
    pairs = list(combinations(range(len(networks)), 2))
    others = [(reference, j) for j in range(len(networks)) if j != reference]
    wanted = {"none": [], "reference": others, "pairs": pairs}[align]
    known = {} if known is None else known
    tick = partial(_tick, progress, len(wanted) + len(pairs))
    permutations: dict[Pair, Permutation] = {}
    if wanted:
        matching = _Matching(module, networks, data, method, spec or trace(module, (data.train.inputs[:2],)), seed)
        for pair in wanted:
            permutations[pair] = matching(pair, known)
            tick(len(permutations))
    measured = list(networks)
    if align == "reference":
        for pair, permutation in permutations.items():
            measured[pair[1]] = permutation.apply(networks[pair[1]])
    found = barriers(
        module,
        measured,
        data,
        permutations=permutations if align == "pairs" else None,
        alphas=alphas,
        bn=bn,
        precision=precision,
        memory=memory,
        known=known,
        progress=lambda done, _: tick(len(wanted) + done),
    )
    return Population(found, permutations, align, reference if align == "reference" else None)


def _check(count: int, align: str, method: str, reference: int) -> None:
    if count < 2:
        raise OptionError(f"received {count} networks; a population has at least two")
    if align not in ("none", "reference", "pairs"):
        raise OptionError(f"align {align!r} is unknown; choose none, reference or pairs")
    if method not in ("weight", "activation"):
        raise OptionError(f"matching method {method!r} is unknown; choose weight or activation")
    if not 0 <= reference < count:
        raise OptionError(f"reference {reference} is none of {count} networks, which are numbered from 0")


def _tick(progress: Callable[[int, int], None] | None, total: int, done: int) -> None:
    if progress is not None:
        progress(done, total)


@dataclass(frozen=True)
class _Matching:
    """Aligns one pair after the other."""

    module: nn.Module
    networks: Sequence[State]
    data: DataSet
    method: Method
    spec: PermutationSpec
    seed: int

    def __call__(self, pair: Pair, known: MutableMapping[str, Any]) -> Permutation:
        """Permutation of the second network, from what is known if it is there."""
        return remembered(known, f"align {pair[0]}-{pair[1]}", self.spec, partial(self._match, pair))

    def _match(self, pair: Pair) -> Match:
        a, b = (self.networks[number] for number in pair)
        if self.method == "weight":
            return match_weights(self.spec, a, b, seed=self.seed)
        return match_activations(self.spec, self.module, a, b, self.data.train)
