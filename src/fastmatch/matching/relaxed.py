"""Soft permutations: a doubly stochastic matrix for every group, applied to a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fastmatch.symmetry import Box, Group, Indices, PermutationSpec

State = Mapping[str, Tensor]
Soft = Mapping[str, Tensor]  # Matrix of every soft group, shape [n, n]: row i says what comes to place i.


def soft_groups(spec: PermutationSpec) -> list[Group]:
    """Groups that have one matrix: with units on parameters, without a base, and without groups inside them.

    Which head goes where and which coordinate inside it cannot be averaged apart from each other: what has a base or
    is one (heads, blocks of channels) is held where it is by methods that average.
    """
    leaves = spec.leaves
    return [
        group for group in spec.groups if group.size and spec.matched(group) and not group.base and group.name in leaves
    ]


def held_note(spec: PermutationSpec, then: str) -> tuple[str, ...]:
    """What to tell users of the groups that stay out of a relaxation; nothing if there are none."""
    names = {group.name for group in soft_groups(spec)}
    held = [group.name for group in spec.groups if group.name not in names]
    if not held:
        return ()
    return (f"{len(held)} groups (inside or around others, or on buffers alone), such as {held[0]!r}, {then}",)


def soft_permute(spec: PermutationSpec, state: State, soft: Soft, names: Sequence[str] | None = None) -> State:
    """``state`` with its units averaged: ``new[i] = sum_j P[i, j] old[j]`` along every axis of a group.

    At permutation matrices this is :meth:`PermutationSpec.permute`, exactly. Differentiable by the matrices and by the
    weights; groups without a matrix stay in order.

    Parameters
    ----------
    soft
        Matrices of groups from :func:`soft_groups`, in the type of the tensors that they move.
    names
        Restricts the work to some tensors.
    """
    return {name: _mixed(spec, name, state[name], soft) for name in (state if names is None else names)}


def tensors_of(spec: PermutationSpec, names: Mapping[str, object]) -> list[str]:
    """Parameters that some of these groups are on."""
    return list(
        dict.fromkeys(place.tensor for group in spec.groups if group.name in names for place in spec.matched(group))
    )


def degree(spec: PermutationSpec, tensor: str, names: Mapping[str, object]) -> int:
    """In how many matrices, at most, an entry of a tensor is linear at once: those of the groups along its axes."""
    return sum(
        max(sum(factor.group in names for factor in box.factors) for box in boxes)
        for boxes in spec.tensors[tensor].axes
        if boxes
    )


def _mixed(spec: PermutationSpec, name: str, tensor: Tensor, soft: Soft) -> Tensor:
    if name not in spec.tensors or not tensor.is_floating_point():
        return tensor
    for axis, boxes in enumerate(spec.tensors[name].axes):
        if any(factor.group in soft for box in boxes for factor in box.factors):
            tensor = _along(tensor, axis, boxes, soft)
    return tensor


def _along(tensor: Tensor, axis: int, boxes: Sequence[Box], soft: Soft) -> Tensor:
    """Average the units of an axis that boxes tile in any order."""
    order = np.concatenate([box.positions().ravel() for box in boxes])
    moved = not np.array_equal(order, np.arange(len(order)))
    if moved:
        tensor = tensor.index_select(axis, torch.from_numpy(order).to(tensor.device))
    sizes = [int(np.prod(box.shape)) for box in boxes]
    parts = [_box(part, axis, box, soft) for part, box in zip(tensor.split(sizes, axis), boxes, strict=True)]
    tensor = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    if moved:
        tensor = tensor.index_select(axis, torch.from_numpy(np.argsort(order)).to(tensor.device))
    return tensor


def _box(part: Tensor, axis: int, box: Box, soft: Soft) -> Tensor:
    whole = part.shape
    part = part.unflatten(axis, box.shape)
    for place, factor in enumerate(box.factors):
        if factor.group is not None and factor.group in soft:
            part = torch.tensordot(soft[factor.group], part, ([1], [axis + place])).movedim(0, axis + place)
    return part.reshape(whole)


def blend(first: Soft, second: Soft, share: float) -> dict[str, Tensor]:
    """Matrices on the segment between two: ``share`` of the second."""
    return {name: torch.lerp(matrix, second[name], share) for name, matrix in first.items()}


def vertices(indices: Indices, soft: Soft) -> dict[str, Tensor]:
    """Matrices of index arrays, one for each of ``soft`` and like it: one at ``[i, index[i]]``."""
    found = {}
    for name, like in soft.items():
        size = len(indices[name])
        found[name] = torch.zeros(size, size, dtype=like.dtype, device=like.device)
        found[name][torch.arange(size), torch.tensor(indices[name])] = 1
    return found


class Objective:
    """``sum <A, P b>`` over the parameters of the soft groups, for matrices P, and its gradients.

    Products are summed in float64; the network is averaged in ``dtype``, one parameter at a time.
    """

    def __init__(self, spec: PermutationSpec, a: State, b: State, names: Mapping[str, object]) -> None:
        self._spec, self._a, self._b = spec, a, b
        self._tensors = tensors_of(spec, names)
        self.degree = max((degree(spec, tensor, names) for tensor in self._tensors), default=0)

    def value(self, soft: Soft) -> float:
        """Objective at these matrices."""
        with torch.no_grad():
            return float(sum(self._parts(soft)))

    def gradients(self, soft: Soft) -> tuple[float, dict[str, Tensor]]:
        """Objective, and its gradient by every matrix."""
        leaves = {name: matrix.detach().requires_grad_() for name, matrix in soft.items()}
        total = 0.0
        with torch.enable_grad():
            for part in self._parts(leaves):
                part.backward()
                total += float(part.detach())
        return total, {
            name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()
        }

    def _parts(self, soft: Soft) -> Iterator[Tensor]:
        dtype = next(iter(soft.values())).dtype
        for name in self._tensors:
            b = _mixed(self._spec, name, self._b[name].detach().to(dtype), soft)
            yield (self._a[name].detach().to(dtype) * b).sum(dtype=torch.float64)
