"""Exhaustive search: the permutation with the lowest barrier of all, for networks of a few units."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import OptionError
from fastmatch.interpolation.chain import find_chain
from fastmatch.interpolation.chain_orders import order_losses
from fastmatch.interpolation.swaps import Swaps, swaps_of
from fastmatch.matching.energy import Energy, energy_of
from fastmatch.matching.match import Match, bare_groups
from fastmatch.matching.several import finite_pair
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Indices, PermutationSpec

MOST = 1_000_000
ALPHAS = 25
_ROUNDING = 1e-6  # Of losses that are added up in other orders, relative to the largest, or to 1.
State = Mapping[str, Tensor]


@torch.no_grad()
def match_exhaustive(
    spec: PermutationSpec,
    module: nn.Module,
    a: State,
    b: State,
    data: Split,
    *,
    alphas: int = ALPHAS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """Try all permutations of b: the exact minimum of the barrier of the loss, on these examples and alphas.

    The barrier is that of :func:`fastmatch.barrier` (``linear``, Entezari et al. 2022, equation 1). It is at least the
    rise at any one alpha: all permutations are evaluated in the middle, and on the whole line in the order of what that
    gave, until none can be lower. Nothing is random. A planted permutation is found, unless another has no barrier.

    Parameters
    ----------
    a, b
        State dicts of ``module`` on one device. b is aligned to a.
    data
        Training examples, all of which are looked at.
    alphas
        Points of the line, ends included.
    progress
        Called with (permutations done in the middle, permutations).

    Raises
    ------
    OptionError
        More than a million permutations (9 units of one layer have 362,880), or fewer than three alphas.
    PermutationError, DataError
        A network does not fit the spec or holds NaN; examples or labels do not fit the network.
    """
    began = time.perf_counter()
    count = _count(spec)
    a, b = finite_pair(spec, a, b)
    networks = [a, b]
    energy = energy_of("barrier", module, networks, data, alphas)
    whole = swaps_of(spec, module, networks, energy.rows, data, energy.quantity)
    candidates, losses = _middle(spec, module, networks, data, energy, count, progress)
    best, before, lowest, tried = _lowest(spec, whole, energy, candidates, losses)
    return Match(
        permutation=Permutation(spec, best),
        method="exhaustive",
        seed=seed,
        objective_before=before,
        objective_after=lowest,
        groups=bare_groups(spec, best),
        sweeps=1,
        status="all steps",
        restarts=(),
        examples=len(data),
        seconds=time.perf_counter() - began,
        measure="barrier",
        notes=(f"{count} permutations in the middle, {tried} of them on the whole line",),
    )


def _count(spec: PermutationSpec) -> int:
    """Number of permutations; OptionError if they are too many."""
    count = math.prod(math.factorial(group.size) ** math.prod(spec.shape(group)[:-1]) for group in spec.groups)
    if count > MOST:
        raise OptionError(
            f"the network has more than {MOST:,} permutations, the most that exhaustive search takes; "
            "use --method annealing_barrier"
        )
    return count


def _lowest(
    spec: PermutationSpec, whole: Swaps, energy: Energy, candidates: np.ndarray, losses: np.ndarray
) -> tuple[Indices, float, float, int]:
    """The permutation with the lowest barrier, that of the identity, its own, and how many were tried on the line.

    ``losses`` are those of the candidates in the middle. Of equal barriers the first is kept.
    """

    def barrier(indices: Indices) -> float:
        return float(energy.of(whole.start([spec.identity(), indices])[None])[0])

    slack = _ROUNDING * losses[np.isfinite(losses)].max(initial=1.0)
    bounds = losses - energy.lines[_middle_of(energy)] - slack
    best, tried = spec.identity(), 0
    before = barrier(best)
    lowest = math.inf if math.isnan(before) else before
    for number in np.argsort(bounds, kind="stable").tolist():
        if max(bounds[number], 0.0) >= lowest:
            break
        indices = _unpacked(spec, candidates[number])
        found, tried = barrier(indices), tried + 1
        if found < lowest:
            best, lowest = indices, found
    return best, before, lowest, tried


def _middle_of(energy: Energy) -> int:
    """Number of the point in the middle of the line."""
    return len(energy.rows) // 2


def _middle(
    spec: PermutationSpec,
    module: nn.Module,
    networks: list[State],
    data: Split,
    energy: Energy,
    count: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """All permutations, index arrays one after the other, shape [count, places], and their losses in the middle."""
    at = _middle_of(energy)
    chain = find_chain(module, spec, networks[0], data.inputs[:5]) if len(spec.groups) == 1 else None
    if chain is not None and len(chain.layers) == 2:
        candidates, losses = order_losses(chain, networks, energy.rows[at], data)
        if progress is not None:
            progress(count, count)
        return candidates, losses
    engine = swaps_of(spec, module, networks, energy.rows[at : at + 1], data, energy.quantity)
    candidates = np.array(list(_all(spec))).reshape(count, -1)
    losses = np.empty(count)
    for number, candidate in enumerate(candidates):
        losses[number] = engine.start([spec.identity(), _unpacked(spec, candidate)])[0]
        if progress is not None and ((number + 1) % 100 == 0 or number + 1 == count):
            progress(number + 1, count)
    return candidates, losses


def _all(spec: PermutationSpec) -> Iterator[list[int]]:
    """Every permutation of every group, and of every copy of it, the identity first."""
    copies = [group.size for group in spec.groups for _ in range(math.prod(spec.shape(group)[:-1]))]
    for orders in itertools.product(*(itertools.permutations(range(size)) for size in copies)):
        yield [unit for order in orders for unit in order]


def _unpacked(spec: PermutationSpec, flat: np.ndarray) -> dict[str, np.ndarray]:
    shapes = {group.name: spec.shape(group) for group in spec.groups}
    edges = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]
    parts = np.split(flat, edges) if shapes else []
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
