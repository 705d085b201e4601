"""Many networks at once: one permutation of each, to an order of units that all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from torch import nn

from fastmatch.data import Split
from fastmatch.errors import DataError, OptionError, SymmetryError
from fastmatch.interpolation import Evaluator
from fastmatch.matching.ascent import order_by_weights, pair_sum
from fastmatch.matching.match import JointMatch
from fastmatch.matching.midpoint import WITHOUT_DATA, hold_back, lowest
from fastmatch.matching.order import Order, Reference, State
from fastmatch.matching.several import networks_of
from fastmatch.matching.synchronise import order_by_activations
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec

ManyMethod = Literal["auto", "weight", "activation"]
Progress = Callable[[int, int], None]


def match_many(
    spec: PermutationSpec,
    networks: Sequence[State],
    *,
    module: nn.Module | None = None,
    data: Split | None = None,
    method: ManyMethod = "auto",
    reference: Reference = "universe",
    seed: int = 0,
    progress: Progress | None = None,
) -> JointMatch:
    """Bring networks to a common order of units, so that all of them line up with each other.

    The objective is the sum of the similarities of all pairs: inner products of weights, or correlations of activations
    after and before the nonlinearity (``"summed"`` of :func:`match_activations`). Around every cycle of networks the
    permutations compose to the identity, whatever the reference. Permuted copies of one network come back by
    ``"first"`` and ``"universe"`` where matching of a pair recovers a permutation; the ascent of ``"mean"`` begins with
    units that do not correspond, and may end short of that.

    Parameters
    ----------
    networks
        State dicts of one architecture, at least two. With two, ``"first"`` is matching of the pair. For activations
        the other references reach its objective, for it is that of an exact assignment.
        For weights ``"universe"`` is at least as good, while ``"mean"`` may end higher or lower.
    module, data
        The architecture and training examples to compare on; for activations.
    method
        ``"weight"``, ``"activation"``, or ``"auto"``: both, judged by the loss of the mean of all networks on training
        examples that activations are not compared on; weights alone without data.
    reference
        What each network is lined up with. ``"first"``: the first network, once. ``"mean"``: the mean of all others, in
        turn and in random order, from networks as they are, until none moves (Git Re-Basin's MergeMany); this raises
        the sum over all pairs with every step. ``"universe"``: the permutations with the largest sum over all pairs
        (C2M3) that such an ascent finds: from networks as they are, and from the alignment to the first, so that it is
        at least that of both other references. For activations that is said of groups that are compared at once; units
        whose samples another group reorders (layers over tokens) follow in a stage of their own. (Crisostomi et al.
        maximise it by Frank-Wolfe.)
    seed
        Of the orders of networks, and of groups in weight matching.
    progress
        Called with (starts or batches done, all of them).

    Raises
    ------
    OptionError
        Fewer than two networks, or an unknown option.
    PermutationError
        A network does not fit the spec, or holds NaN or infinite weights.
    DataError
        Activations are to be compared and there are no data, or fewer than two examples; four for ``"auto"``.
    SymmetryError
        The network cannot be traced, or a group has no activation.

    References
    ----------
    Crisostomi et al. 2024, "C2M3: Cycle-Consistent Multi-Model Merging", equation 5; Ainsworth et al. 2023, appendix
    A.10 (MergeMany).
    """
    networks = networks_of(spec, networks)
    if reference not in ("universe", "mean", "first"):
        raise OptionError(f"reference {reference!r} is unknown; choose universe, mean or first")
    if method not in ("auto", "weight", "activation"):
        raise OptionError(
            f"many networks are matched by weight, activation or auto, not by {method!r}; pairs by every method"
        )
    if method == "auto":
        return _judged(spec, networks, module, data, reference, seed, progress)
    if method == "weight":
        return _by_weights(spec, networks, reference, seed, progress)
    if module is None or data is None:
        raise DataError("activations are compared on training examples; give the network and its data")
    return _by_activations(spec, networks, module, data, reference, seed, progress)


def _by_weights(
    spec: PermutationSpec, networks: Sequence[State], reference: Reference, seed: int, progress: Progress | None
) -> JointMatch:
    began = time.perf_counter()
    order = order_by_weights(spec, networks, reference, seed, progress)
    return _joint(spec, f"weight ({reference})", seed, pair_sum(spec, networks), order, 0, began)


def _by_activations(
    spec: PermutationSpec,
    networks: Sequence[State],
    module: nn.Module,
    data: Split,
    reference: Reference,
    seed: int,
    progress: Progress | None,
) -> JointMatch:
    if len(data) < 2:
        raise DataError(f"activations of {len(data)} example cannot be compared; use at least 2, better thousands")
    began = time.perf_counter()
    before, order = order_by_activations(spec, module, networks, data, reference, seed, progress)
    return _joint(spec, f"activation ({reference})", seed, before, order, len(data), began)


def _joint(
    spec: PermutationSpec, method: str, seed: int, before: float, order: Order, examples: int, began: float
) -> JointMatch:
    """The order as permutations to that of network 0."""
    back = spec.invert(order.indices[0])
    return JointMatch(
        permutations=tuple(Permutation(spec, spec.compose(index, back)) for index in order.indices),
        method=method,
        seed=seed,
        objective_before=before,
        objective_after=order.objective,
        sweeps=order.rounds,
        status="converged" if order.converged else "sweep limit",
        examples=examples,
        seconds=time.perf_counter() - began,
    )


def _judged(
    spec: PermutationSpec,
    networks: Sequence[State],
    module: nn.Module | None,
    data: Split | None,
    reference: Reference,
    seed: int,
    progress: Progress | None,
) -> JointMatch:
    """Weights and activations; the one whose mean of networks has the lower loss."""
    if module is None or data is None:
        return replace(_by_weights(spec, networks, reference, seed, progress), notes=(WITHOUT_DATA,))
    began = time.perf_counter()
    fit, held = hold_back(data)
    evaluator = Evaluator(module, {"held": held}, held)
    found = {"weight": _by_weights(spec, networks, reference, seed, progress)}
    notes: tuple[str, ...] = ()
    try:
        found["activation"] = _by_activations(spec, networks, module, fit, reference, seed, progress)
    except SymmetryError as error:
        notes = (f"activations were not tried: {error}",)
    losses = {}
    for name, match in found.items():
        placed = [one.apply(network) for one, network in zip(match.permutations, networks, strict=True)]
        mean = np.full((1, len(networks)), 1 / len(networks))
        losses[name] = float(evaluator.evaluate(placed, mean)["held"].loss[0])
    best = lowest(losses)
    figures = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
    notes += (f"loss of the mean of all networks on held-back training examples: {figures}; {best} matching is kept",)
    seconds = time.perf_counter() - began
    return replace(found[best], method=f"auto: {found[best].method}", seconds=seconds, notes=notes)
