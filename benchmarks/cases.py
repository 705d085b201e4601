"""Similarity matrices to solve, by kind and size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import pairs, trained
from benchmarks.trained import State
from fastmatch import PermutationSpec, kernels
from fastmatch.assignment import Assignment, solve

SIZES = (256, 512, 1024, 2048, 4096)
MOVED = 0.35  # Largest share of neighbouring units that moved before a warm start.
EXAMPLES = 10_000


class Problem(NamedTuple):
    """One similarity matrix, float32 [n, n], to be maximised; ``start`` is an earlier answer of the same group."""

    matrix: np.ndarray
    note: str
    start: Assignment | None = None


class Visit(NamedTuple):
    """One step of weight matching; ``moved`` is the share of neighbouring units that moved since the last of its kind.

    The matrix has the units of b in the order of its checkpoint.
    """

    problem: Problem
    moved: float


def problem(kind: str, size: int) -> Problem:
    """One of ``KINDS`` at one size; the same every time."""
    return KINDS[kind](size)


def restarts(size: int, count: int) -> list[np.ndarray]:
    """Similarities of the second hidden layer under ``count`` random orders of the first, as restarts meet them."""
    spec, a, b = _hidden_pair(size)
    generator = np.random.default_rng(0)
    first, second = spec.groups
    return [_similarity(spec, a, b, second.name, {first.name: generator.permutation(size)}) for _ in range(count)]


def _uniform(size: int) -> Problem:
    return Problem(np.random.default_rng(0).random((size, size), dtype=np.float32), "independent entries from [0, 1)")


def _planted(size: int) -> Problem:
    generator = np.random.default_rng(0)
    a, noise = generator.standard_normal((2, size, 256), dtype=np.float32)
    b = a[generator.permutation(size)] + noise
    return Problem(a @ b.T, "inner products of 256 normal weights, noise as large as the weights")


def _first_visit(layer: int, size: int) -> Problem:
    return next(visit.problem for visit in _visits(size)[layer - 1])


def _late_visit(layer: int, size: int) -> Problem:
    return next(visit.problem for visit in _visits(size)[layer - 1][1:] if visit.moved <= MOVED)


@functools.lru_cache(maxsize=1)
def _visits(size: int) -> tuple[list[Visit], list[Visit]]:
    """Visits of the two hidden layers, until each has met neighbours of which few moved."""
    visits: tuple[list[Visit], list[Visit]] = ([], [])
    for number, visit in enumerate(_descend(*_hidden_pair(size))):
        visits[number % 2].append(visit)
        if all(len(layer) > 1 and layer[-1].moved <= MOVED for layer in visits):
            break
    return visits


def _descend(spec: PermutationSpec, a: State, b: State) -> Iterator[Visit]:
    """Weight matching of two hidden layers in turn, from the identity; goes on for ever."""
    indices = spec.identity()
    seen: dict[str, np.ndarray] = {}
    last: dict[str, Assignment] = {}
    names = [group.name for group in spec.groups]
    while True:
        for name, beside in zip(names, reversed(names), strict=True):
            matrix = _similarity(spec, a, b, name, {beside: indices[beside]})
            moved = float((indices[beside] != seen[name]).mean()) if name in seen else 1.0
            note = f"{moved:.0%} of the units beside moved since the last visit" if name in seen else "first visit"
            yield Visit(Problem(matrix, f"{note}; {trained.data_name()}", last.get(name)), moved)
            last[name] = solve(matrix, warm=last.get(name))
            seen[name] = indices[beside]
            indices[name] = last[name].columns


def _similarity(spec: PermutationSpec, a: State, b: State, name: str, others: Mapping[str, np.ndarray]) -> np.ndarray:
    places = spec.matched(spec.group(name))
    moved = spec.permute(b, others, [place.tensor for place in places])
    return kernels.gram((place.units(a[place.tensor]), place.units(moved[place.tensor])) for place in places).numpy()


@functools.lru_cache(maxsize=1)
def _hidden_pair(size: int) -> tuple[PermutationSpec, State, State]:
    return pairs.trained_pair(size, size)


def _activations(layer: int, size: int) -> Problem:
    moments = _moments(layer, size)
    return Problem(moments.linear().float().numpy(), _dead_note(moments))


def _correlations(layer: int, size: int) -> Problem:
    moments = _moments(layer, size)
    return Problem(moments.pearson().float().numpy(), _dead_note(moments))


def _dead_note(moments: kernels.Moments) -> str:
    dead = " and ".join(str(int((~alive).sum())) for alive in moments.alive())
    return f"{dead} dead units; {trained.data_name()}"


@functools.lru_cache(maxsize=2)
def _moments(layer: int, size: int) -> kernels.Moments:
    _, a, b = _hidden_pair(size)
    moments = kernels.Moments()
    for inputs, _ in trained.data().train.take(EXAMPLES).batches(1000):
        moments.update(_units(a, inputs, layer), _units(b, inputs, layer))
    return moments


def _units(state: State, inputs: Tensor, layers: int) -> Tensor:
    """ReLU activations of a hidden layer, shape [units, examples]."""
    values = inputs.flatten(1)
    for layer in range(1, layers + 1):
        values = torch.relu(values @ state[f"linear{layer}.weight"].T + state[f"linear{layer}.bias"])
    return values.T


KINDS: dict[str, Callable[[int], Problem]] = {
    "uniform": _uniform,
    "planted": _planted,
    **{f"weights {layer}": functools.partial(_first_visit, layer) for layer in (1, 2)},
    **{f"weights {layer}, later": functools.partial(_late_visit, layer) for layer in (1, 2)},
    **{f"activations {layer}": functools.partial(_activations, layer) for layer in (1, 2)},
    **{f"correlations {layer}": functools.partial(_correlations, layer) for layer in (1, 2)},
}
