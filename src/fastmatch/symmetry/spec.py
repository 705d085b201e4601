"""PermutationSpec: which parameter axes share a permutation, and how to apply one."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.errors import PermutationError, SymmetryError
from fastmatch.symmetry.layout import Bases, Factor, Indices, Occurrence, TensorLayout

if TYPE_CHECKING:
    from fastmatch.symmetry.certificate import Certificate


@dataclass(frozen=True)
class Group:
    """Axes that move together.

    Attributes
    ----------
    size
        Number of units.
    base
        Groups, or fixed axes, for each joint index of which the units have a permutation of their own (coordinates
        inside each attention head), outermost first.
    """

    name: str
    size: int
    occurrences: tuple[Occurrence, ...]
    base: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pin:
    """An axis that stays in order, and why."""

    axis: str
    reason: str


@dataclass(frozen=True)
class PermutationSpec:
    """All groups of a network: group -> axes, tensor -> groups (the term of Git Re-Basin, Ainsworth et al. 2023).

    Attributes
    ----------
    tensors
        Layout of every entry of the state dict, parameters and buffers alike.
    pinned
        Axes that stay in order, each with its reason.
    bases
        Group -> its ``base``, where it has one.
    fixed
        Names of axes that stay in order but are a base of groups, and of frozen groups.
    """

    tensors: Mapping[str, TensorLayout]
    pinned: tuple[Pin, ...] = ()
    bases: Bases = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups in the order in which their first tensor is listed."""
        found: dict[str, list[Occurrence]] = {}
        for tensor, layout in self.tensors.items():
            for occurrence in layout.occurrences(tensor, self.bases):
                if occurrence.group not in self.fixed:
                    found.setdefault(occurrence.group, []).append(occurrence)
        return tuple(
            Group(name, self.sizes[name], tuple(places), tuple(self.bases.get(name, ())))
            for name, places in found.items()
        )

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of units of every group and of every fixed axis with a name."""
        return {factor.group: factor.size for _, factor in self._factors() if factor.group is not None}

    def _factors(self) -> Iterator[tuple[str, Factor]]:
        for tensor, layout in self.tensors.items():
            for axis, boxes in enumerate(layout.axes):
                for box in boxes:
                    for factor in box.factors:
                        yield f"{tensor}[{axis}]", factor

    def group(self, name: str) -> Group:
        """Return the group called ``name``; SymmetryError if there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        names = ", ".join(repr(group.name) for group in self.groups)
        raise SymmetryError(f"no group {name!r}; the groups are {names or 'none'}")

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names of the groups that have no others inside them."""
        bases = {name for group in self.groups for name in group.base}
        return tuple(group.name for group in self.groups if group.name not in bases)

    def matched(self, group: Group) -> tuple[Occurrence, ...]:
        """Occurrences on parameters: buffers are permuted, never matched on."""
        return tuple(place for place in group.occurrences if not self.tensors[place.tensor].buffer)

    def shape(self, group: Group) -> tuple[int, ...]:
        """Shape of the group's index array: [sizes of its bases..., units]."""
        return (*(self.sizes[name] for name in group.base), group.size)

    def identity(self) -> dict[str, np.ndarray]:
        """Index arrays that move nothing, shape [sizes of the bases..., units]."""
        return {group.name: np.broadcast_to(np.arange(group.size), self.shape(group)).copy() for group in self.groups}

    def random(self, seed: int | np.random.Generator) -> dict[str, np.ndarray]:
        """Uniformly random index arrays, one for each group."""
        generator = np.random.default_rng(seed)
        return {name: generator.permuted(index, axis=-1) for name, index in self.identity().items()}

    def compose(self, first: Indices, then: Indices) -> dict[str, np.ndarray]:
        """Index arrays that do what ``first`` and then ``then`` do, for the groups of either."""
        result = dict(first)
        for group in self.groups:
            if group.name in then or set(group.base) & set(then):
                index = first.get(group.name, np.broadcast_to(np.arange(group.size), self.shape(group)))
                result[group.name] = index[self.source(group, then)]
        return result

    def invert(self, indices: Indices) -> dict[str, np.ndarray]:
        """Index arrays that undo ``indices``, one for each group."""
        complete = self.identity() | dict(indices)
        result = {}
        for group in self.groups:
            inverse = np.empty(self.shape(group), dtype=np.int64)
            inverse[self.source(group, complete)] = np.arange(group.size)
            result[group.name] = inverse
        return result

    def source(self, group: Group, indices: Indices) -> tuple[np.ndarray, ...]:
        """Joint index [bases..., units], one broadcast array for each, that every joint index of a group comes from."""
        grids = dict(zip((*group.base, group.name), np.ix_(*map(np.arange, self.shape(group))), strict=True))
        return tuple(
            indices[name][(*(grids[base] for base in self.bases.get(name, ())), grid)] if name in indices else grid
            for name, grid in grids.items()
        )

    def freeze(self, patterns: Sequence[str]) -> PermutationSpec:
        """Keep the units of some groups in order.

        Parameters
        ----------
        patterns
            Names of groups, or shell patterns such as ``"layer1.*"``.

        Raises
        ------
        SymmetryError
            A pattern fits no group.
        """
        names = [group.name for group in self.groups]
        fixed: dict[str, str] = {}
        for pattern in patterns:
            chosen = fnmatch.filter(names, pattern)
            if not chosen:
                raise SymmetryError(
                    f"no group fits {pattern!r}; the groups are {', '.join(map(repr, names)) or 'none'}"
                )
            fixed |= dict.fromkeys(chosen, f"frozen by {pattern!r}")
        pins = [
            Pin(f"{place.tensor}[{place.axis}]", fixed[group.name])
            for group in self.groups
            if group.name in fixed
            for place in group.occurrences
        ]
        bases = {name: base for name, base in self.bases.items() if name not in fixed}
        return replace(self, pinned=(*self.pinned, *pins), bases=bases, fixed=self.fixed | set(fixed))

    def check_state(self, state: Mapping[str, Tensor], where: str = "state dict") -> None:
        """Raise PermutationError unless ``state`` has the tensors and shapes of this spec."""
        for name, layout in self.tensors.items():
            if name not in state:
                raise PermutationError(f"{where}: no tensor {name!r}, which the network has; give a matching --model")
            if tuple(state[name].shape) != layout.shape:
                raise PermutationError(
                    f"{where}: {name!r} has shape {tuple(state[name].shape)}, the network has {layout.shape}; "
                    "only networks of one architecture and width can be aligned"
                )
        if extra := [name for name in state if name not in self.tensors and isinstance(state[name], Tensor)]:
            raise PermutationError(f"{where}: {extra[0]!r} is not part of the network; give a matching --model")

    def permute(
        self, state: Mapping[str, Tensor], indices: Indices, names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return ``state`` with its units moved: ``new = old.index_select(axis, index)`` along every axis of a group.

        A group with a base has one index array for each joint index of the bases in their new places. Tensors that
        nothing moves are passed on, not copied. ``names`` restricts the work to some tensors.
        """
        return {
            name: self._permute(name, state[name], indices) if name in self.tensors else state[name]
            for name in (state if names is None else names)
        }

    def _permute(self, name: str, tensor: Tensor, indices: Indices) -> Tensor:
        for axes, source in self.tensors[name].moves(indices, self.bases):
            index = torch.from_numpy(source).to(tensor.device)
            if len(axes) == 1:
                tensor = tensor.index_select(axes[0], index)
            else:
                front = list(range(len(axes)))
                moved = tensor.movedim(axes, front)
                moved = moved.reshape(-1, *moved.shape[len(axes) :]).index_select(0, index).reshape(moved.shape)
                tensor = moved.movedim(front, axes).contiguous()
        return tensor

    def certify(self, module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> Certificate:
        """Certify all groups at once by random permutations; see ``certify_spec``."""
        from fastmatch.symmetry.certificate import certify_spec

        return certify_spec(self, module, inputs, seed)

    def to_json(self) -> dict[str, Any]:
        """Plain data: groups, the layout of every tensor, and pins; see :mod:`fastmatch.symmetry.notation`."""
        from fastmatch.symmetry.notation import spec_to_json

        return spec_to_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PermutationSpec:
        """Rebuild a spec from :meth:`to_json`; SymmetryError where the data are malformed or inconsistent."""
        from fastmatch.symmetry.notation import spec_from_json

        return spec_from_json(data)

    def check(self) -> None:
        """Raise SymmetryError unless boxes tile every axis, groups have one size, and bases are there and acyclic."""
        for name, layout in self.tensors.items():
            if len(layout.axes) != len(layout.shape):
                raise SymmetryError(f"spec: {name!r} has {len(layout.shape)} axes, {len(layout.axes)} are described")
            for axis, (size, boxes) in enumerate(zip(layout.shape, layout.axes, strict=True)):
                covered = np.concatenate([box.positions().ravel() for box in boxes]) if boxes else np.empty(0, int)
                if not np.array_equal(np.sort(covered), np.arange(size)):
                    raise SymmetryError(f"spec: the boxes of {name}[{axis}] do not cover its {size} positions once")
        for where, factor in self._factors():
            if factor.group is not None and factor.size != self.sizes[factor.group]:
                raise SymmetryError(f"spec: group {factor.group!r} has more than one size, at {where}")
        for name, base in self.bases.items():
            for other in base:
                if base.count(other) > 1 or other == name or not set(self.bases.get(other, ())) <= set(base) - {other}:
                    raise SymmetryError(f"spec: the base of group {name!r} must hold the whole base of {other!r}")
        _ = self.groups

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of groups and layouts: two specs with one digest mean the same permutations."""
        data = {key: value for key, value in self.to_json().items() if key != "pinned"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
