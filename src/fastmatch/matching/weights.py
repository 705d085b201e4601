"""Weight matching: the permutation of b whose weights have the largest inner product with those of a."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fastmatch.errors import OptionError
from fastmatch.matching.descent import Descent
from fastmatch.matching.match import Match, Stop
from fastmatch.matching.noisy import COOL, HOT, NoisyDescent
from fastmatch.matching.outcome import Starts, finite_products, run, start_indices
from fastmatch.matching.problem import Problem
from fastmatch.matching.several import States, pairs_of, side_by_side
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec

_LEAST, _MOST = 256 << 20, 2 << 30  # Bytes of similarities that are kept: between these, the size of a network.


@torch.no_grad()
def match_weights(
    spec: PermutationSpec,
    a: States,
    b: States,
    *,
    seed: int = 0,
    restarts: int = 1,
    start: Permutation | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """Coordinate descent over the groups, in random order, until a whole sweep changes nothing.

    Each visit solves one group's assignment exactly with all others held: the similarity is the Gram matrix of the
    units over all parameters of the group (weights, biases, affine weights of normalisations). Buffers are permuted,
    not matched. The objective is ``sum <a, P b>``; a group keeps its permutation unless that gains, in float64.

    Similarities are kept and brought up to date by the units that moved. Beyond the two networks this takes, at most,
    the size of one of them (256 MiB if that is less, 2 GiB if it is more; twice that with restarts), and two copies of
    one parameter at a time, of all parameters of a group where it has others inside it; networks may be mappings that
    read their tensors when asked for.

    Parameters
    ----------
    a, b
        State dicts of one architecture, on one device. b is aligned to a. With a sequence on each side, such as the
        checkpoints of two training runs, one permutation is found for all pairs: their similarities are added up.
    seed
        Seeds the orders of the groups, the random start and the noise.
    restarts
        Number of starts; the best objective wins, and more are never worse. The first is the published descent from
        ``start``. The second begins at random and sees its similarities through noise that falls to nothing over 30
        sweeps before it descends; the others do so from the best permutation so far.
    start
        Permutation to begin with, such as one by activations. The identity if None.
    progress
        Called with (starts done, starts).

    Raises
    ------
    PermutationError
        A state dict does not fit the spec or holds NaN, or ``start`` does not fit.
    OptionError
        ``restarts`` is below 1, or the sides have different numbers of state dicts.

    References
    ----------
    Ainsworth et al. 2023, algorithm 1; Sharma et al. 2024, appendix A, algorithm 1 (Greedy-SOBLAP).
    """
    if restarts < 1:
        raise OptionError(f"restarts must be at least 1, received {restarts}")
    began = time.perf_counter()
    problem = Problem(*side_by_side(spec, pairs_of(spec, a, b)))
    before = finite_products(problem)
    first = start_indices(spec, start)
    starts = Starts(problem)
    budget = similarity_budget(problem)
    still: dict[str, Tensor] | None = {} if restarts > 1 else None
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(restarts)):
        generator = np.random.default_rng(stream)
        if starts.best is None:
            descent = Descent(problem, generator, first, budget, still)
        else:
            begin = dict(starts.best.indices) if number > 1 else problem.spec.random(generator)
            noise = COOL if number > 1 and number % 2 == 0 else HOT
            descent = NoisyDescent(problem, generator, begin, budget, still, noise)
        run(descent)
        starts.add(descent)
        if progress is not None:
            try:
                progress(number + 1, restarts)
            except Stop:
                break
    return starts.match(spec, "weight", seed, before, began)


def similarity_budget(problem: Problem) -> int:
    """Bytes of similarities that a descent may keep."""
    return max(_LEAST, min(_MOST, problem.size))
