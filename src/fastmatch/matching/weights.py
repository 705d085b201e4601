"""Weight matching: the permutation of b whose weights have the largest inner product with those of a."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fastmatch.assignment import available_cores, solve_batch
from fastmatch.errors import OptionError, PermutationError
from fastmatch.matching.descent import Descent
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.problem import Problem
from fastmatch.matching.several import States, pairs_of, side_by_side
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec

_LEAST, _MOST = 256 << 20, 2 << 30  # Bytes of similarities that are kept: between these, the size of a network.
_TOGETHER = 4  # Starts that run side by side at most.


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
        Seeds the orders of the groups and the random starts.
    restarts
        Number of starts: the first from ``start``, the others from random permutations. The best objective wins.
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
    before = problem.products({})
    for name, value in before.items():
        if not math.isfinite(value):
            raise PermutationError(f"{name!r} of network a or b holds NaN or infinite weights; use other checkpoints")
    first = spec.identity() if start is None else starting_indices(spec, start)
    descents = []
    for descent in _descents(problem, first, seed, restarts):
        descents.append(descent)
        if progress is not None:
            progress(len(descents), restarts)
    after = [problem.products(descent.indices) for descent in descents]
    objectives = [sum(products.values()) for products in after]
    best = int(np.argmax(objectives))
    return Match(
        permutation=Permutation(spec, descents[best].indices),
        method="weight",
        seed=seed,
        objective_before=sum(before.values()),
        objective_after=objectives[best],
        groups=tuple(_figures(problem, name, before, after[best], descents[best].indices) for name in spec.identity()),
        sweeps=descents[best].sweeps,
        status="converged" if descents[best].converged else "sweep limit",
        restarts=tuple(objectives),
        examples=0,
        seconds=time.perf_counter() - began,
    )


def starting_indices(spec: PermutationSpec, start: Permutation) -> dict[str, np.ndarray]:
    """Index arrays of ``start``; PermutationError if it is of other groups."""
    if start.spec.digest != spec.digest:
        raise PermutationError(
            "the start has other groups than a and b: it is of another network, or was made with other groups frozen"
        )
    return {name: index.copy() for name, index in start.indices.items()}


def _descents(problem: Problem, first: dict[str, np.ndarray], seed: int, restarts: int) -> Iterator[Descent]:
    """Run all starts, some of them side by side; yields each in order, with its run behind it."""
    budget = max(_LEAST, min(_MOST, problem.size)) // min(restarts, _TOGETHER)  # the same on any number of cores
    together = min(restarts, _TOGETHER, available_cores())
    still: dict[str, Tensor] | None = {} if restarts > 1 else None
    streams = enumerate(np.random.SeedSequence(seed).spawn(restarts))
    while chosen := list(itertools.islice(streams, together)):
        descents = []
        for number, stream in chosen:
            generator = np.random.default_rng(stream)
            begin = problem.spec.random(generator) if number else first
            descents.append(Descent(problem, generator, begin, budget, still))
        _run(descents)
        yield from descents


def _run(descents: Sequence[Descent]) -> None:
    """Let descents go on side by side, and solve what they ask over threads."""
    runs = [descent.run() for descent in descents]
    asked = [(run, questions) for run in runs if (questions := next(run, None))]
    while asked:
        matrices, warm = zip(*(question for _, questions in asked for question in questions), strict=True)
        answers = iter(solve_batch(matrices, warm=warm))
        waiting, asked = asked, []
        for run, questions in waiting:
            with contextlib.suppress(StopIteration):
                asked.append((run, run.send(list(itertools.islice(answers, len(questions))))))


def _figures(
    problem: Problem,
    name: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    indices: Mapping[str, np.ndarray],
) -> GroupMatch:
    index = indices[name]
    group = problem.spec.group(name)
    tensors = problem.tensors(name) if name in problem.groups else []
    dead = 0
    if tensors:
        first, second = problem.norms(name)
        dead = int(((first == 0) | (second[problem.spec.source(group, indices)] == 0)).sum())
    return GroupMatch(
        name=name,
        size=group.size,
        objective_before=sum(before[tensor] for tensor in tensors),
        objective_after=sum(after[tensor] for tensor in tensors),
        fixed_points=int((index == np.arange(group.size)).sum()),
        dead_units=dead,
    )
