"""Simulated annealing over permutations: swaps of units, accepted by what they do to averaged networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import OptionError
from fastmatch.interpolation.swaps import PermutedSwaps, Swaps, swapped, swaps_of
from fastmatch.matching.energy import Energy, Objective, energy_of
from fastmatch.matching.match import JointMatch, Match, Stop, bare_groups
from fastmatch.matching.outcome import start_indices
from fastmatch.matching.several import networks_of
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Indices, PermutationSpec

State = Mapping[str, Tensor]
Moves = Literal["layers", "single"]
Progress = Callable[[int, int], None]
STEPS, STEPS_IN_FULL = 50_000, 1000  # Published; and where every step is an evaluation of the whole network.
ALPHAS = 25
_BLOCK = 1024  # Proposals that are drawn at a time.
_SAMPLE = 128  # Proposals that the temperatures are read off.
_HOT, _COLD = 0.5, 0.005  # Temperatures at the start and at the end, in units of a typical rise of the energy.


class _Found(NamedTuple):
    indices: Sequence[Indices]
    notes: tuple[str, ...]
    status: str
    seconds: float
    before: float
    after: float


def match_annealing(
    spec: PermutationSpec,
    module: nn.Module,
    a: State,
    b: State,
    data: Split,
    *,
    objective: Objective = "error",
    moves: Moves = "layers",
    steps: int | None = None,
    alphas: int = ALPHAS,
    seed: int = 0,
    start: Permutation | None = None,
    progress: Progress | None = None,
) -> Match:
    """Anneal the permutation of b; a stays as it is ("search space reduction" of Entezari et al. 2022, appendix A.3).

    See :func:`anneal` for what a step is, for the parameters, and for what it raises. A planted permutation is found in
    networks of few units; one of hundreds is out of reach of random swaps, and is kept where ``start`` gives it.

    Parameters
    ----------
    a, b
        State dicts of ``module`` on one device. b is aligned to a.
    start
        Permutation to begin with, such as one by weights. The identity if None.
    """
    begin = None if start is None else [Permutation.identity(spec), start]
    found = _search(spec, module, [a, b], data, [1], objective, moves, steps, alphas, seed, begin, progress)
    permutation = Permutation(spec, found.indices[1])
    return Match(
        permutation=permutation,
        method="annealing" if objective == "error" else "annealing_barrier",
        seed=seed,
        objective_before=found.before,
        objective_after=found.after,
        groups=bare_groups(spec, permutation.indices),
        sweeps=1,
        status=found.status,
        restarts=(),
        examples=len(data),
        seconds=found.seconds,
        measure=objective,
        notes=found.notes,
    )


def anneal(
    spec: PermutationSpec,
    module: nn.Module,
    networks: Sequence[State],
    data: Split,
    *,
    objective: Objective = "error",
    moves: Moves = "layers",
    steps: int | None = None,
    alphas: int = ALPHAS,
    seed: int = 0,
    start: Sequence[Permutation] | None = None,
    progress: Progress | None = None,
) -> JointMatch:
    """Anneal the permutations of all networks together (Entezari et al. 2022, algorithm 1, section 4.2, appendix A.4).

    Every step proposes a swap of two random units in every layer of every network. It is taken if it does not raise the
    energy, or with probability ``exp(-rise / T)``; T falls geometrically, and the best state seen is the result. T
    begins at half of the typical change that a proposal makes at the start and ends at a hundredth of that; ``notes``
    name both. What is reached depends little on them.

    Proposals to come are evaluated together until one is taken: this is the same chain. In plain multilayer perceptrons
    only what a swap changes is computed; other networks are evaluated in full, with BatchNorm statistics of their own
    on ``data``, and take far longer.

    Parameters
    ----------
    networks
        State dicts of ``module``, at least two, on one device.
    data
        Training examples, all of which every step looks at.
    objective
        ``"error"``: 0-1 error of the average of all networks, as a fraction (SA2); ``"barrier"``: the mean barrier of
        the loss over all pairs in nats (SA1, equation 1).
    moves
        ``"layers"`` as published. ``"single"`` proposes one swap, in one layer of one network: more are accepted in
        deep networks.
    steps
        Number of proposals. 50,000 (the most that was published) if None, 1000 for networks evaluated in full.
    alphas
        Points of a barrier, ends included.
    start
        A permutation for each network to begin with. The identities if None.
    progress
        Called with (steps done, steps), and with 0 while the temperatures are looked for.

    Raises
    ------
    OptionError
        Fewer than two networks, fewer than 1 step, or an unknown objective or kind of moves.
    PermutationError, DataError
        A network does not fit the spec or holds NaN, or a start does not; examples or labels do not fit the network.
    """
    moving = list(range(len(networks)))
    found = _search(spec, module, networks, data, moving, objective, moves, steps, alphas, seed, start, progress)
    back = spec.invert(found.indices[0])
    return JointMatch(
        permutations=tuple(Permutation(spec, spec.compose(indices, back)) for indices in found.indices),
        method="annealing" if objective == "error" else "annealing_barrier",
        seed=seed,
        objective_before=found.before,
        objective_after=found.after,
        sweeps=1,
        status=found.status,
        examples=len(data),
        seconds=found.seconds,
        measure=objective,
        notes=found.notes,
    )


@torch.no_grad()
def _search(
    spec: PermutationSpec,
    module: nn.Module,
    networks: Sequence[State],
    data: Split,
    moving: Sequence[int],
    objective: Objective,
    moves: Moves,
    steps: int | None,
    alphas: int,
    seed: int,
    start: Sequence[Permutation] | None,
    progress: Progress | None,
) -> _Found:
    began = time.perf_counter()
    networks = networks_of(spec, networks)
    begin: Sequence[Indices] = _begin(spec, networks, moves, steps, start)
    energy = energy_of(objective, module, networks, data, alphas)
    engine = swaps_of(spec, module, networks, energy.rows, data, energy.quantity)
    in_full = isinstance(engine, PermutedSwaps)
    judge = engine if in_full else PermutedSwaps(spec, module, networks, energy.rows, data, energy.quantity)
    identity = [spec.identity() for _ in networks]
    before = float(energy.of(judge.start(identity)[None])[0])
    if steps is None:
        steps = STEPS_IN_FULL if in_full else STEPS
    if not spec.groups:
        return _Found(begin, ("there is no unit to swap",), "all steps", time.perf_counter() - began, before, before)
    streams = np.random.SeedSequence(seed).spawn(3)
    proposals, chances, sample = (np.random.default_rng(stream) for stream in streams)
    present = float(energy.of(engine.start(begin)[None])[0])
    some = next(_proposals(spec, len(networks), moving, moves, sample))[: min(_SAMPLE, steps)]
    drawn = _proposals(spec, len(networks), moving, moves, proposals)
    best, status, note = begin, "stopped", "stopped before the first step"
    with suppress(Stop):
        tick = None if progress is None else partial(progress, 0, steps)
        hot, cold = _temperatures(_energies(engine, energy, some, tick), present, len(data))
        temperatures = hot * (cold / hot) ** (np.arange(1, steps + 1) / steps)
        note = f"{steps} steps, temperature {hot:.3g} to {cold:.3g}"
        best, status = _walk(spec, engine, energy, begin, present, drawn, chances, temperatures, progress)
    after = float(energy.of(judge.start(best)[None])[0])
    return _Found(best, (note,), status, time.perf_counter() - began, before, after)


def _walk(
    spec: PermutationSpec,
    engine: Swaps,
    energy: Energy,
    begin: Sequence[Indices],
    present: float,
    drawn: Iterator[np.ndarray],
    chances: np.random.Generator,
    temperatures: np.ndarray,
    progress: Progress | None,
) -> tuple[Sequence[Indices], str]:
    """The chain; returns the best state seen, and how it ended."""
    indices = best = begin
    lowest, done, size = present, 0, 1
    try:
        while done < len(temperatures):
            block = next(drawn)[: len(temperatures) - done]
            rises = -temperatures[done : done + len(block)] * np.log(1 - chances.random(_BLOCK)[: len(block)])
            place = 0
            while place < len(block):
                batch = block[place : place + min(size, engine.most)]
                energies = energy.of(engine.values(batch))
                taken = np.flatnonzero(energies - present <= rises[place : place + len(batch)])
                if len(taken):
                    chosen = int(taken[0])
                    engine.accept(chosen)
                    indices, present = swapped(spec, indices, batch[chosen]), float(energies[chosen])
                    if present < lowest:
                        best, lowest = indices, present
                size = chosen + 1 if len(taken) else 2 * len(batch)  # about as many until the next is taken
                place += chosen + 1 if len(taken) else len(batch)
                if progress is not None:
                    progress(done + place, len(temperatures))
            done += len(block)
    except Stop:
        return best, "stopped"
    return best, "all steps"


def _energies(engine: Swaps, energy: Energy, swaps: np.ndarray, tick: Callable[[], None] | None) -> np.ndarray:
    """Energies of candidates; ``tick`` is called after each batch."""
    found = []
    for part in range(0, len(swaps), engine.most):
        found.append(energy.of(engine.values(swaps[part : part + engine.most])))
        if tick is not None:
            tick()
    return np.concatenate(found)


def _temperatures(energies: np.ndarray, present: float, examples: int) -> tuple[float, float]:
    """Temperatures at the start and at the end, by the changes that proposals make at the start."""
    changes = np.abs(energies - present)
    typical = float(np.median(changes[changes > 0])) if (changes > 0).any() else 1 / examples
    return _HOT * typical, _COLD * typical


def _proposals(
    spec: PermutationSpec, networks: int, moving: Sequence[int], moves: Moves, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Blocks of swaps, shape [block, networks, groups, 2]: places in flat index arrays, the same twice for none."""
    shapes = [spec.shape(group) for group in spec.groups]
    units = np.array([shape[-1] for shape in shapes])
    copies = np.array([math.prod(shape[:-1]) for shape in shapes])
    while True:
        first, second = generator.integers(0, units, (2, _BLOCK, networks, len(units)))
        chosen = np.zeros(first.shape, dtype=bool)
        chosen[:, moving] = True
        if moves == "single":
            network, group = generator.choice(moving, _BLOCK), generator.integers(len(units), size=_BLOCK)
            chosen[:] = False
            chosen[np.arange(_BLOCK), network, group] = True
        inside = units * generator.integers(0, copies, first.shape)
        yield np.stack([inside + first, inside + np.where(chosen, second, first)], -1)


def _begin(
    spec: PermutationSpec,
    networks: Sequence[State],
    moves: Moves,
    steps: int | None,
    start: Sequence[Permutation] | None,
) -> list[Indices]:
    """Index arrays to begin with; OptionError for options that cannot be."""
    if moves not in ("layers", "single"):
        raise OptionError(f"moves {moves!r} is unknown; choose layers or single")
    if steps is not None and steps < 1:
        raise OptionError(f"steps must be at least 1, received {steps}")
    if start is not None and len(start) != len(networks):
        raise OptionError(f"{len(start)} starts for {len(networks)} networks; give one for each")
    return [start_indices(spec, one) for one in start or (None,) * len(networks)]
