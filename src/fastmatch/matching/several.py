"""Several checkpoints of two networks at once: one permutation that lines all of them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from fastmatch.errors import OptionError, PermutationError
from fastmatch.symmetry import PermutationSpec

State = Mapping[str, Tensor]
States = State | Sequence[State]


class Sides(NamedTuple):
    """Two networks that the groups of ``spec`` line up."""

    spec: PermutationSpec
    a: State
    b: State


class _Joined(Mapping[str, Tensor]):
    """State dicts as one; tensors are read when asked for."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = states

    def __getitem__(self, name: str) -> Tensor:
        original, _, number = name.rpartition("@")
        return self._states[int(number)][original]

    def __iter__(self) -> Iterator[str]:
        return (_name(name, number) for number, state in enumerate(self._states) for name in state)

    def __len__(self) -> int:
        return sum(map(len, self._states))


def _name(tensor: str, number: int) -> str:
    return f"{tensor}@{number}"


def pairs_of(spec: PermutationSpec, a: States, b: States) -> list[tuple[State, State]]:
    """The pairs that one permutation is to line up, checked: one where each side is a state dict.

    Parameters that require gradients, as modules hold them, are taken without.

    Raises
    ------
    OptionError
        The sides have different numbers of state dicts, or none.
    PermutationError
        A state dict does not fit the spec.
    """
    first, second = ([side] if isinstance(side, Mapping) else list(side) for side in (a, b))
    if len(first) != len(second) or not first:
        raise OptionError(
            f"received {len(first)} checkpoints of network a and {len(second)} of b; give as many of both, at least one"
        )
    for name, side in (("network a", first), ("network b", second)):
        for number, state in enumerate(side):
            spec.check_state(state, name if len(side) == 1 else f"checkpoint {number} of {name}")
    return list(zip(map(_detached, first), map(_detached, second), strict=True))


def _detached(state: State) -> State:
    """The state dict as it is, unless its tensors require gradients."""
    if not any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in state.values()):
        return state
    return {name: tensor.detach() if isinstance(tensor, Tensor) else tensor for name, tensor in state.items()}


def finite_pair(spec: PermutationSpec, a: State, b: State) -> tuple[State, State]:
    """Two networks that fit the spec and are finite; see :func:`pairs_of` and :func:`require_finite`."""
    [(a, b)] = pairs_of(spec, a, b)
    require_finite(a, "network a")
    require_finite(b, "network b")
    return a, b


def networks_of(spec: PermutationSpec, networks: Sequence[State]) -> list[State]:
    """Networks to line up, without gradients.

    Raises
    ------
    OptionError
        Fewer than two.
    PermutationError
        One does not fit the spec, or holds NaN or infinite weights.
    """
    if len(networks) < 2:
        counted = "one network" if networks else "no networks"
        raise OptionError(f"received {counted}; give at least two to line up")
    for number, network in enumerate(networks):
        spec.check_state(network, f"network {number}")
        require_finite(network, f"network {number}")
    return [_detached(network) for network in networks]


def side_by_side(spec: PermutationSpec, pairs: Sequence[tuple[State, State]]) -> Sides:
    """Each side's state dicts as those of one network, whose groups stand on the tensors of all of them.

    Weights of all pairs then add up to one similarity, and one objective, under one permutation.
    """
    if len(pairs) == 1:
        return Sides(spec, *pairs[0])
    tensors = {_name(tensor, number): layout for number in range(len(pairs)) for tensor, layout in spec.tensors.items()}
    first, second = zip(*pairs, strict=True)
    return Sides(replace(spec, tensors=tensors), _Joined(first), _Joined(second))


def require_finite(state: State, where: str) -> None:
    """Raise PermutationError if a network holds NaN or infinite weights."""
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and not bool(tensor.isfinite().all()):
            raise PermutationError(f"{name!r} of {where} holds NaN or infinite weights; use other checkpoints")
